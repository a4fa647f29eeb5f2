//! Reads a backup again and compares it with what was written down. A restore goes the same way, so that what it
//! brings back was verified.

use std::fs::File;
use std::io::{self, BufReader, Read, Write as _};
use std::path::Path;
use std::time::Instant;

use flate2::read::MultiGzDecoder;
use sha2::{Digest as _, Sha256};

use super::archive::{Entry, EntryKind, Reader};
use super::shelf::About;
use super::{BackupError, Pace, Progress, SLICE_BYTES, Surroundings, hex};

/// Where the manifest stands in an archive: last, beside `data/`.
pub(super) const MANIFEST: &[u8] = b"manifest.sha256";

/// A line as `sha256sum` writes it: names with line breaks or backslashes are escaped and marked.
pub(super) fn manifest_line(hash: &[u8; 32], inside: &[u8]) -> Vec<u8> {
    let is_marked = inside.iter().any(|byte| matches!(byte, b'\\' | b'\n' | b'\r'));
    let mut line = Vec::with_capacity(inside.len() + 80);
    line.extend_from_slice(if is_marked { b"\\" } else { b"" });
    line.extend_from_slice(hex(hash).as_bytes());
    line.extend_from_slice(b"  data/");
    for byte in inside {
        match byte {
            b'\\' => line.extend_from_slice(b"\\\\"),
            b'\n' => line.extend_from_slice(b"\\n"),
            b'\r' => line.extend_from_slice(b"\\r"),
            byte => line.push(*byte),
        }
    }
    line.push(b'\n');
    line
}

/// Reads the whole archive at `path`: its checksum, its structure, and each file against the manifest.
pub fn verify(
    path: &Path,
    about: &About,
    bytes_per_second: u64,
    surroundings: &dyn Surroundings,
) -> Result<(), BackupError> {
    read_archive(path, about, bytes_per_second, surroundings, &mut Nowhere)
}

/// Where the entries of an archive go.
pub(super) trait Sink {
    /// An entry below `data/`; a file may be given to take its content.
    fn entry(&mut self, inside: &[u8], entry: &Entry) -> Result<Option<File>, BackupError>;
    /// The content of the file is complete.
    fn end(&mut self, inside: &[u8], entry: &Entry, file: File) -> Result<(), BackupError>;
}

struct Nowhere;

impl Sink for Nowhere {
    fn entry(&mut self, _: &[u8], _: &Entry) -> Result<Option<File>, BackupError> {
        Ok(None)
    }

    fn end(&mut self, _: &[u8], _: &Entry, _: File) -> Result<(), BackupError> {
        Ok(())
    }
}

/// Knows the checksum of all that was read through it.
struct Hashing {
    file: File,
    hash: Sha256,
    bytes: u64,
}

impl Read for Hashing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.hash.update(&buffer[..read]);
        self.bytes += u64::try_from(read).unwrap_or(0);
        Ok(read)
    }
}

pub(super) fn read_archive(
    path: &Path,
    about: &About,
    bytes_per_second: u64,
    surroundings: &dyn Surroundings,
    sink: &mut dyn Sink,
) -> Result<(), BackupError> {
    let damaged =
        |what: &str| BackupError::Damaged { path: path.to_owned(), what: what.to_owned() };
    let file = File::open(path).map_err(BackupError::io(path))?;
    let mut hashing = Hashing { file, hash: Sha256::new(), bytes: 0 };
    let progress = Progress { bytes_all: about.bytes, ..Progress::default() };
    let mut pace = Pace { surroundings, bytes_per_second, progress };
    let mut unpacked = MultiGzDecoder::new(BufReader::with_capacity(SLICE_BYTES, &mut hashing));
    let mut reader = Reader::new(&mut unpacked);
    let mut manifest = Sha256::new();
    let mut found: Option<[u8; 32]> = None;
    while let Some(entry) = reader.next_entry().map_err(BackupError::archive(path))? {
        if found.is_some() {
            return Err(damaged("something stands behind the manifest"));
        }
        if entry.path == MANIFEST {
            found = Some(copy(path, about, &mut reader, None, &mut pace, false)?);
            continue;
        }
        let Some(inside) = entry.path.strip_prefix(b"data/") else {
            return Err(damaged("something stands outside of the data"));
        };
        let target = sink.entry(inside, &entry)?;
        if let EntryKind::File(_) = entry.kind {
            let hash = copy(path, about, &mut reader, target.as_ref(), &mut pace, true)?;
            manifest.update(manifest_line(&hash, inside));
            pace.progress.files += 1;
        }
        if let Some(target) = target {
            sink.end(inside, &entry, target)?;
        }
    }
    let mut rest = [0; 1];
    if unpacked.read(&mut rest).map_err(BackupError::io(path))? > 0 {
        return Err(damaged("something stands behind its end"));
    }
    drop(unpacked);
    if found != Some(manifest.finalize().into()) {
        return Err(damaged("its files are not those of its manifest"));
    }
    if (pace.progress.files, pace.progress.bytes) != (about.files, about.bytes) {
        return Err(damaged("it has other files than its description says"));
    }
    if hashing.bytes != about.archive_bytes || hex(&hashing.hash.finalize()) != about.sha256 {
        return Err(damaged("its checksum is not that of its description"));
    }
    Ok(())
}

/// Copies one content, and gives its checksum.
fn copy<R: Read>(
    path: &Path,
    about: &About,
    reader: &mut Reader<R>,
    mut target: Option<&File>,
    pace: &mut Pace<'_>,
    counts: bool,
) -> Result<[u8; 32], BackupError> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; SLICE_BYTES];
    loop {
        let began = Instant::now();
        let read = reader.read(&mut buffer).map_err(BackupError::archive(path))?;
        if read == 0 {
            return Ok(hash.finalize().into());
        }
        hash.update(&buffer[..read]);
        // A small archive may unpack to anything: no more is written than there was space made sure for.
        let all = pace.progress.bytes.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
        if counts && all > about.bytes {
            let what = "it holds more than its description says".to_owned();
            return Err(BackupError::Damaged { path: path.to_owned(), what });
        }
        if let Some(target) = &mut target {
            target.write_all(&buffer[..read]).map_err(BackupError::io(path))?;
        }
        if counts {
            pace.slice(read, began.elapsed())?;
        } else if pace.surroundings.is_cancelled() {
            return Err(BackupError::Cancelled);
        }
    }
}
