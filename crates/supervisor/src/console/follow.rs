//! Follows a file that a game prints into. Called once per tick: nothing wakes it. What it looks at per tick is
//! bounded, so that a game that floods costs no more than one that talks; what it does not look at is counted.
//!
//! All of its calls touch the file, which the game has just written, so it is in memory: about 2 µs when nothing is
//! new, about 1 µs per line. Opening one after a restart of Naru may wait for the disk.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use naru_domain::Timestamp;

use super::lines::{LINE_BYTES_MAX, Splitter, clean};
use super::mask::Masks;
use super::ring::{Line, Page, Query, Ring, Source};
use super::space::trim;
use crate::host;

/// How much is read at once.
const SLICE_BYTES: usize = 4 * 1024;
/// How much of the end is looked at, and how many of its lines, when a tick has more lines than it may: a flood often
/// ends with what matters.
const TAIL_BYTES: u64 = 4 * 1024;
const TAIL_LINES: usize = 64;

/// How much a follower may do and keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes looked at per tick, in the long run.
    pub tick_bytes: u64,
    /// Bytes looked at in one tick after a silence: a crash report, a start.
    pub burst_bytes: u64,
    /// Lines handed out per tick; besides, the last 64 of a flood, and what stood in the slice of 4 KiB with the
    /// last of them.
    pub tick_lines: usize,
    /// Lines kept in memory.
    pub ring_lines: usize,
    /// Bytes kept in memory.
    pub ring_bytes: usize,
    /// How much disk the file may use; `None` for a file that is not ours to cut.
    pub file_bytes: Option<u64>,
}

impl Default for Bounds {
    /// Together with its buffers below 64 KiB per ward in memory; 64 KiB/s are 600 usual lines.
    fn default() -> Bounds {
        Bounds {
            tick_bytes: 64 * 1024,
            burst_bytes: 512 * 1024,
            tick_lines: 512,
            ring_lines: 400,
            ring_bytes: 48 * 1024,
            file_bytes: None,
        }
    }
}

/// Which file, and how much of it was handed out. Stored by Naru, so that nothing is handed out twice or left out
/// after its restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Place {
    /// The file's number on its device; renamed files keep it.
    pub file: u64,
    /// Up to which byte.
    pub offset: u64,
    /// The number that the next line gets.
    pub next_seq: u64,
}

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the first line: the game has just been started.
    Beginning,
    /// With what comes next; the lines before are kept but not handed out: nobody knows what was done with them.
    End,
    /// After what was handed out.
    After(Place),
}

/// What a tick did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tick {
    /// Lines handed out.
    pub lines: usize,
    /// Bytes not looked at.
    pub skipped_bytes: u64,
}

/// What happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Lines handed out.
    pub lines: u64,
    /// Bytes looked at.
    pub read_bytes: u64,
    /// Bytes not looked at, for want of time.
    pub skipped_bytes: u64,
    /// Bytes cut off overlong lines.
    pub cut_bytes: u64,
    /// Lines that had to leave memory.
    pub dropped_lines: u64,
    /// How often the file was replaced or cut.
    pub rotations: u64,
}

/// Follows one file.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    bounds: Bounds,
    masks: Masks,
    ring: Ring,
    file: Option<File>,
    number: u64,
    offset: u64,
    budget_bytes: u64,
    splitter: Splitter,
    text: String,
    counters: Counters,
}

/// Who is handed the lines.
type Told<'a> = &'a mut dyn FnMut(&Line);

impl Follower {
    /// Follows a file, which need not be there yet. Lines that are read again are in memory afterwards.
    pub fn open(path: &Path, bounds: Bounds, masks: Masks, start: Start) -> io::Result<Follower> {
        let next_seq = match start {
            Start::After(place) => place.next_seq,
            Start::Beginning | Start::End => 1,
        };
        let mut follower = Follower {
            path: path.to_owned(),
            bounds,
            masks,
            ring: Ring::new(bounds.ring_lines, bounds.ring_bytes, next_seq),
            file: None,
            number: 0,
            offset: 0,
            budget_bytes: bounds.burst_bytes,
            splitter: Splitter::default(),
            text: String::new(),
            counters: Counters::default(),
        };
        let Some(length) = follower.reopen()? else { return Ok(follower) };
        match start {
            Start::Beginning => (),
            Start::End => follower.read_again(length)?,
            Start::After(place) if place.file == follower.number && place.offset <= length => {
                follower.read_again(place.offset)?;
            }
            Start::After(_) => follower.counters.rotations += 1,
        }
        Ok(follower)
    }

    /// Hands out what is new. An error is about the file; the next tick tries again.
    pub fn tick(&mut self, now: Timestamp, told: Told<'_>) -> io::Result<Tick> {
        self.budget_bytes =
            (self.budget_bytes + self.bounds.tick_bytes).min(self.bounds.burst_bytes);
        let Some(length) = self.length()? else { return Ok(Tick::default()) };
        let mut tick = Tick::default();
        if length > self.offset {
            self.catch_up(length, now, &mut tick, told)?;
        } else if self.is_replaced() && self.reopen()?.is_some() {
            self.counters.rotations += 1;
        }
        if let (Some(bytes_max), Some(file)) = (self.bounds.file_bytes, &self.file) {
            trim(file, bytes_max)?;
        }
        Ok(tick)
    }

    /// Hands out all that is left, a line without an end included: the game has ended.
    pub fn finish(&mut self, now: Timestamp, told: Told<'_>) -> io::Result<Tick> {
        self.budget_bytes = self.bounds.burst_bytes;
        let mut tick = self.tick(now, told)?;
        let Self { splitter, text, masks, ring, counters, .. } = self;
        splitter.finish(|raw| {
            tick.lines += 1;
            told(&keep(raw, now, text, masks, ring, counters));
        });
        Ok(tick)
    }

    /// Adds a line that somebody sends to the game.
    pub fn echo(&mut self, now: Timestamp, by: &Arc<str>, line: &str) -> Line {
        clean(line.as_bytes(), &mut self.text);
        self.masks.apply(&mut self.text);
        self.ring.push(now, Source::Input { by: Arc::clone(by) }, &self.text)
    }

    /// The lines in memory.
    #[must_use]
    pub fn ring(&self) -> &Ring {
        &self.ring
    }

    /// Lines in memory that fit, the newest first; see [`Ring::search`].
    #[must_use]
    pub fn search(&self, query: &Query, before: Option<u64>, limit: usize) -> Page {
        self.ring.search(query, before, limit)
    }

    /// Gives memory back, the machine needs it.
    pub fn shed(&mut self) {
        self.ring.shed();
        self.text = String::new();
    }

    /// How far it is, to go on from there after a restart.
    #[must_use]
    pub fn place(&self) -> Place {
        let partial = u64::try_from(self.splitter.partial_bytes()).unwrap_or(u64::MAX);
        Place {
            file: self.number,
            offset: self.offset.saturating_sub(partial),
            next_seq: self.ring.next_seq(),
        }
    }

    /// What happened so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters {
            cut_bytes: self.splitter.cut_bytes(),
            dropped_lines: self.ring.dropped(),
            ..self.counters
        }
    }

    /// The file's length, if it is there. A file that is shorter than before was emptied.
    fn length(&mut self) -> io::Result<Option<u64>> {
        let length = match &self.file {
            Some(file) => Some(file.metadata()?.len()),
            None => self.reopen()?,
        };
        if length.is_some_and(|length| length < self.offset) {
            self.offset = 0;
            self.splitter.restart();
            self.counters.rotations += 1;
        }
        Ok(length)
    }

    fn reopen(&mut self) -> io::Result<Option<u64>> {
        let write = self.bounds.file_bytes.is_some();
        match OpenOptions::new().read(true).append(write).open(&self.path) {
            Ok(file) => {
                let about = file.metadata()?;
                self.number = host::file_number(&about);
                self.file = Some(file);
                self.go_to(0)?;
                Ok(Some(about.len()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether another file has this name now. Asked only when the one we have is read to its end.
    fn is_replaced(&self) -> bool {
        std::fs::metadata(&self.path).is_ok_and(|now| host::file_number(&now) != self.number)
    }

    /// Fills the memory with the lines before a byte, without handing them out.
    fn read_again(&mut self, end: u64) -> io::Result<()> {
        let bytes = u64::try_from(self.bounds.ring_bytes).unwrap_or(u64::MAX);
        let begin = end.saturating_sub(bytes);
        self.go_to(begin)?;
        while self.offset < end {
            // When they were printed, nobody knows any more.
            self.read_slice(end - self.offset, Timestamp(0), &mut Tick::default(), &mut |_| ())?;
        }
        self.counters = Counters::default();
        Ok(())
    }

    fn catch_up(
        &mut self,
        length: u64,
        now: Timestamp,
        tick: &mut Tick,
        told: Told<'_>,
    ) -> io::Result<()> {
        let allowed = self.budget_bytes.max(TAIL_BYTES);
        if length - self.offset > allowed {
            self.skip_to(length - allowed, now, tick)?;
        }
        let begin = self.offset;
        while self.offset < length && tick.lines < self.bounds.tick_lines {
            self.read_slice(length - self.offset, now, tick, told)?;
        }
        if self.offset < length {
            let tail = self.tail_begin(length)?;
            self.skip_to(tail, now, tick)?;
            while self.offset < length {
                self.read_slice(length - self.offset, now, tick, told)?;
            }
        }
        self.budget_bytes = self.budget_bytes.saturating_sub(self.offset.saturating_sub(begin));
        Ok(())
    }

    /// Where the last lines begin, if there are too many to look at all.
    fn tail_begin(&mut self, length: u64) -> io::Result<u64> {
        let begin = length.saturating_sub(TAIL_BYTES).max(self.offset);
        let mut bytes = Vec::new();
        if let Some(mut file) = self.file.as_ref() {
            file.seek(SeekFrom::Start(begin))?;
            file.take(length - begin).read_to_end(&mut bytes)?;
        }
        let mut ends = bytes.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n');
        // The end of the line before the first one that counts.
        let skipped = ends.nth(TAIL_LINES).map_or(0, |(index, _)| index);
        Ok(begin + u64::try_from(skipped).unwrap_or(0))
    }

    /// Leaves bytes out, counts them, and says so in the console.
    fn skip_to(&mut self, offset: u64, now: Timestamp, tick: &mut Tick) -> io::Result<()> {
        let skipped = offset.saturating_sub(self.offset);
        if skipped == 0 {
            return Ok(());
        }
        self.go_to(offset)?;
        tick.skipped_bytes += skipped;
        self.counters.skipped_bytes += skipped;
        let note = format!("({skipped} bytes were printed too fast to be read)");
        self.ring.push(now, Source::Note, &note);
        Ok(())
    }

    /// Goes on from another byte, in the middle of a line, or from the next one that is still on the disk.
    fn go_to(&mut self, offset: u64) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        self.offset = host::next_data(file, offset)?;
        if self.offset == 0 {
            self.splitter.restart()
        } else {
            self.splitter.jump()
        }
        Ok(())
    }

    fn read_slice(
        &mut self,
        bytes_max: u64,
        now: Timestamp,
        tick: &mut Tick,
        told: Told<'_>,
    ) -> io::Result<()> {
        let Self { file, offset, splitter, text, masks, ring, counters, .. } = self;
        let Some(mut file) = file.as_ref() else { return Ok(()) };
        let mut slice = [0; SLICE_BYTES];
        let wanted = usize::try_from(bytes_max).unwrap_or(SLICE_BYTES).min(SLICE_BYTES);
        file.seek(SeekFrom::Start(*offset))?;
        let count = file.read(&mut slice[..wanted])?;
        if count == 0 {
            // Emptied since we asked for its length. The next tick sees it.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        *offset += u64::try_from(count).unwrap_or(0);
        counters.read_bytes += u64::try_from(count).unwrap_or(0);
        splitter.feed(&slice[..count], |raw| {
            tick.lines += 1;
            told(&keep(raw, now, text, masks, ring, counters));
        });
        Ok(())
    }
}

/// Makes a line of bytes, without its secrets.
fn keep(
    raw: &[u8],
    now: Timestamp,
    text: &mut String,
    masks: &Masks,
    ring: &mut Ring,
    counters: &mut Counters,
) -> Line {
    clean(raw, text);
    masks.apply(text);
    let end = text.floor_char_boundary(LINE_BYTES_MAX);
    text.truncate(end);
    counters.lines += 1;
    ring.push(now, Source::Game, text)
}
