//! Backups of a ward's files: copied while saves are held, at idle priority, verified, kept for a while, restored.
//!
//! Everything here blocks: it is called by `spawn_blocking`, on a thread whose priority the caller lowered. It
//! knows neither games nor processes; whether saves are held and the ward is stopped is the caller's to see to.
//!
//! A backup is a tar archive, compressed with gzip: the one format that any machine unpacks without us
//! (`tar xzf`), and whose codec (zlib-rs, no C) is in the program already; zstd would be a C library more. In
//! it stand the files under `data/`, then `manifest.sha256`, which `sha256sum -c` understands. Beside it a small
//! JSON file tells what is in it. `archive` is the format, `pick` chooses files, `copy` makes a backup, `verify`
//! reads one again, `shelf` lists and tidies, `restore` brings one back.

mod archive;
mod copy;
mod pick;
mod restore;
mod shelf;
#[cfg(test)]
mod tests;
mod verify;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::host;

pub use archive::{ArchiveError, Entry, EntryKind, Reader};
pub use copy::{Backup, BackupOptions, back_up};
pub use pick::{Pattern, PatternError, Selection};
pub use restore::{Restored, mend, restore};
pub use shelf::{About, Keep, list, remove, surplus, tidy};
pub use verify::verify;

/// What a backup needs of its surroundings. One thread calls all of it.
pub trait Surroundings {
    /// How many bytes may still be written to the file system of this folder.
    fn free_bytes(&self, folder: &Path) -> io::Result<u64>;
    /// Waits: between slices, so that the disk is the game's.
    fn pause(&self, length: Duration);
    /// Whether somebody wants it to end; asked with each slice.
    fn is_cancelled(&self) -> bool;
    /// How far it is; called with each slice.
    fn progress(&self, progress: &Progress);
}

/// How far a backup or a restore is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of files so far.
    pub bytes: u64,
    /// Of so many, as far as known.
    pub bytes_all: u64,
    /// Files so far.
    pub files: u64,
}

/// Why there is no backup, or no restore.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The disk is full, or would be. Nothing of older backups was touched.
    #[error("{} has {free} bytes left and {needed} are needed: free space, or keep fewer backups", folder.display())]
    Full {
        /// Where.
        folder: PathBuf,
        /// What is free.
        free: u64,
        /// What would be needed.
        needed: u64,
    },
    /// The file system refused.
    #[error("{}: {error}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
    /// Somebody ended it.
    #[error("it was cancelled")]
    Cancelled,
    /// A file never stood still.
    #[error("{} changed each of {tries} times that it was read: hold saves, or leave it out", path.display())]
    Changing {
        /// Which file.
        path: PathBuf,
        /// How often it was read.
        tries: u32,
    },
    /// There is more than a backup takes.
    #[error("there are more than {max} files")]
    TooMany {
        /// How many are possible.
        max: u64,
    },
    /// The archive is not one of ours, or is damaged.
    #[error("{}: {error}", path.display())]
    Archive {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        error: ArchiveError,
    },
    /// What was read again is not what was written.
    #[error("{} is damaged: {what}", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// How it shows.
        what: String,
    },
    /// The ward runs.
    #[error("the ward runs: stop it first")]
    Running,
    /// The place of a restore is not what it has to be.
    #[error("{}: {what}", path.display())]
    Place {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
}

impl BackupError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> BackupError {
        move |error| {
            if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
                let folder = path.parent().unwrap_or(path).to_owned();
                return BackupError::Full { folder, free: 0, needed: 1 };
            }
            BackupError::Io { path: path.to_owned(), error }
        }
    }

    fn archive(path: &Path) -> impl FnOnce(ArchiveError) -> BackupError {
        move |error| match error {
            ArchiveError::Io(error) => BackupError::io(path)(error),
            error => BackupError::Archive { path: path.to_owned(), error },
        }
    }
}

/// Files of one backup (guessed: ten times the largest world seen).
pub const FILES_MAX: u64 = 2_000_000;
/// Bytes read and written at once: some hundred microseconds of a disk.
const SLICE_BYTES: usize = 128 * 1024;

/// Holds the rate: after each slice it waits until the slice's time is up.
struct Pace<'a> {
    surroundings: &'a dyn Surroundings,
    bytes_per_second: u64,
    progress: Progress,
}

/// The longest single pause, so that a cancel is heard soon.
const PAUSE_MAX: Duration = Duration::from_millis(500);

impl Pace<'_> {
    /// A slice of `bytes` took `spent`.
    fn slice(&mut self, bytes: usize, spent: Duration) -> Result<(), BackupError> {
        if self.surroundings.is_cancelled() {
            return Err(BackupError::Cancelled);
        }
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.progress.bytes += bytes;
        self.surroundings.progress(&self.progress);
        if let Some(micros) = bytes.saturating_mul(1_000_000).checked_div(self.bytes_per_second) {
            let left = Duration::from_micros(micros).saturating_sub(spent).min(PAUSE_MAX);
            if !left.is_zero() {
                self.surroundings.pause(left);
            }
        }
        Ok(())
    }
}

fn sync_folder(folder: &Path) -> Result<(), BackupError> {
    host::sync_folder(folder).map_err(BackupError::io(folder))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut out, byte| {
        write!(out, "{byte:02x}").expect("invariant: writing to a String cannot fail");
        out
    })
}
