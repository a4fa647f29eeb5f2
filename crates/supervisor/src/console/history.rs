//! Searches what a game printed further back than memory goes, in its file. Reads the disk: not for the thread that
//! owns the wards.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use super::lines::{LINE_BYTES_MAX, clean};
use super::mask::Masks;
use super::ring::Query;
use crate::host;

/// How much one search reads; it goes on where it stopped.
const READ_BYTES_MAX: u64 = 1024 * 1024;

/// Some of the lines of a file, the newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilePage {
    /// Where each line begins, and its clean and masked text.
    pub lines: Vec<(u64, String)>,
    /// Where to go on: what to give as `before` next; `None` when all was looked at.
    pub before: Option<u64>,
}

/// Lines of a file that fit, the newest first, at most `limit` (at least 1), from those on that begin before a byte (from the
/// newest on without one). Looks at 1 MiB at most, and may find nothing in it although there is more.
pub fn search_file(
    path: &Path,
    masks: &Masks,
    query: &Query,
    before: Option<u64>,
    limit: usize,
) -> io::Result<FilePage> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let end = before.unwrap_or(length).min(length);
    // Below this, the file gave its bytes back.
    let first = host::next_data(&file, 0)?.min(end);
    let begin = end.saturating_sub(READ_BYTES_MAX).max(first);
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(begin))?;
    file.by_ref().take(end - begin).read_to_end(&mut bytes)?;
    let mut page = FilePage::default();
    let mut text = String::new();
    let mut looked = false;
    let mut rest = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    loop {
        let line_end = rest.len();
        let line_begin = rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let at = begin + u64::try_from(line_begin).unwrap_or(u64::MAX);
        let is_whole = line_begin > 0 || begin == 0;
        // Its beginning was not read: the next search ends with it. If it is all there is, it is left out.
        let is_for_the_next = !is_whole && begin > first && looked;
        if is_for_the_next || page.lines.len() >= limit.max(1) {
            page.before = Some(begin + u64::try_from(line_end).unwrap_or(0) + 1);
            return Ok(page);
        }
        // A line without a beginning is one that was given back in part, or longer than a whole search.
        if is_whole && !(rest.is_empty() && bytes.is_empty()) {
            clean(&rest[line_begin..], &mut text);
            masks.apply(&mut text);
            if query.fits(&text) {
                text.truncate(text.floor_char_boundary(LINE_BYTES_MAX));
                page.lines.push((at, text.clone()));
            }
        }
        if line_begin == 0 {
            page.before = (begin > first).then_some(begin);
            return Ok(page);
        }
        looked = true;
        rest = &rest[..line_begin - 1];
    }
}
