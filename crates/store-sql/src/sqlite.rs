//! What is special about SQLite: how its connections are set up, how its errors map to the port's, and
//! the lock that keeps a second server out. Another engine gets a module like this one.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use naru_domain::Durability;
use naru_domain::ports::StoreError;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection as _, Executor as _};

use crate::options::StoreOptions;

/// A page of the file and of the write-ahead log. 4 KiB is what disks and the page cache work with.
const PAGE_BYTES: u32 = 4096;
/// The log is copied into the database once it has so many pages (16 MiB): rare enough that a page
/// which is written by many commits is copied once, small enough that a start reads it in no time.
const CHECKPOINT_PAGES: &str = "4000";
/// Virtual machine steps between two looks at the clock (guessed: about a millisecond).
const STEPS_PER_LOOK: i32 = 20_000;

/// A connection, with the moment at which its current statement is given up.
pub(crate) struct Connection {
    pub(crate) sqlite: SqliteConnection,
    deadline: Watched,
    durability: Durability,
}

/// Ends the statement of a connection that nobody waits for any more, so that its thread ends soon.
struct Watched(Arc<Deadline>);

impl Drop for Watched {
    fn drop(&mut self) {
        self.0.set(Some(Duration::ZERO));
    }
}

/// When the current statement is given up; read by SQLite's own thread.
struct Deadline {
    base: Instant,
    at_ms: AtomicU64,
}

impl Deadline {
    fn set(&self, at: Option<Duration>) {
        let at = at.map_or(u64::MAX, |after| millis(self.base.elapsed() + after));
        self.at_ms.store(at, Relaxed);
    }

    fn is_ahead(&self) -> bool {
        millis(self.base.elapsed()) < self.at_ms.load(Relaxed)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Whether a connection may write.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Write,
    Read,
}

impl Connection {
    /// Opens the database of `options`, which a writer creates if it is missing.
    pub(crate) async fn open(
        options: &StoreOptions,
        path: &Path,
        access: Access,
    ) -> Result<Connection, sqlx::Error> {
        let mut connect = SqliteConnectOptions::new()
            .filename(path)
            .busy_timeout(options.statement_timeout)
            .foreign_keys(true)
            .pragma("temp_store", "memory")
            .pragma("mmap_size", "0")
            .disable_statement_logging();
        // KiB, when negative.
        let cache = |kib: u32| format!("-{}", kib.max(64));
        connect = match access {
            Access::Read => {
                connect.read_only(true).pragma("cache_size", cache(options.reader_cache_kib))
            }
            Access::Write => connect
                .create_if_missing(true)
                .page_size(PAGE_BYTES)
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(SqliteSynchronous::Normal)
                .pragma("cache_size", cache(options.writer_cache_kib))
                .pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
                .pragma("journal_size_limit", "67108864"),
        };
        if let (Access::Write, Some(pages)) = (access, options.pages_max) {
            connect = connect.pragma("max_page_count", pages.to_string());
        }
        let mut sqlite = connect.connect().await?;
        let deadline = Arc::new(Deadline { base: Instant::now(), at_ms: AtomicU64::new(u64::MAX) });
        let watched = Arc::clone(&deadline);
        sqlite
            .lock_handle()
            .await?
            .set_progress_handler(STEPS_PER_LOOK, move || watched.is_ahead());
        Ok(Connection { sqlite, deadline: Watched(deadline), durability: Durability::Os })
    }

    /// From now on statements are given up `after` so long; `None` lets them run.
    pub(crate) fn give_up(&self, after: Option<Duration>) {
        self.deadline.0.set(after);
    }

    /// What the next commits promise. Must not be called inside a transaction.
    pub(crate) async fn set_durability(&mut self, asked: Durability) -> Result<(), sqlx::Error> {
        let asked = if asked == Durability::Disk { Durability::Disk } else { Durability::Os };
        if self.durability != asked {
            let pragma = match asked {
                Durability::Disk => "PRAGMA synchronous = FULL",
                Durability::Os | Durability::Memory => "PRAGMA synchronous = NORMAL",
            };
            self.sqlite.execute(pragma).await?;
            self.durability = asked;
        }
        Ok(())
    }

    /// Ends the connection. The last writer to go folds the log into the database.
    pub(crate) async fn close(self) -> Result<(), sqlx::Error> {
        self.sqlite.close().await
    }
}

/// Whether this connection cannot be trusted any more after the error.
pub(crate) fn is_fatal(error: &sqlx::Error) -> bool {
    match code(error) {
        // I/O errors, damage, and whatever did not come from SQLite (its thread is gone).
        Some(code) => matches!(code & 0xff, 10 | 11 | 14 | 26),
        None => !matches!(
            error,
            sqlx::Error::RowNotFound | sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_)
        ),
    }
}

/// Whether a unique index or key refused the row.
pub(crate) fn is_unique_violation(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation)
}

fn code(error: &sqlx::Error) -> Option<i32> {
    error.as_database_error()?.code()?.parse().ok()
}

/// What a caller does about `error`. SQLite's own texts hold no data of ours.
pub(crate) fn store_error(error: &sqlx::Error, path: &Path) -> StoreError {
    let path = path.display();
    let Some(code) = code(error) else {
        return match error {
            sqlx::Error::RowNotFound => StoreError::NotFound,
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => StoreError::Corrupt {
                reason: format!("{path} holds a value that does not fit its column: {error}"),
            },
            _ => StoreError::Failed { reason: format!("{path}: {error}") },
        };
    };
    let text = error.as_database_error().map_or("", |e| e.message());
    match (code & 0xff, code) {
        // 4874: the shared memory file could not grow.
        (13, _) | (_, 4874) => StoreError::Full {
            reason: format!("{text} ({path}): free space; writing then goes on by itself"),
        },
        (5 | 6, _) => StoreError::Busy {
            reason: format!("{path} is locked by another program: close it, or wait ({text})"),
        },
        (9, _) => StoreError::Busy {
            reason: "the statement took longer than the statement timeout".to_owned(),
        },
        (3 | 8 | 14 | 23, _) => StoreError::ReadOnly {
            reason: format!(
                "{text} ({path}): the server needs to write to the file and its folder"
            ),
        },
        (11 | 26, _) => StoreError::Corrupt {
            reason: format!("{text} ({path}): stop the server and restore a backup"),
        },
        (10, _) => StoreError::Failed {
            reason: format!("{text} (code {code}, {path}): look at the disk and the kernel's log"),
        },
        _ => StoreError::Failed { reason: format!("{text} (code {code}, {path})") },
    }
}

/// Keeps a second server from the same data folder for as long as it lives. The operating system lets go
/// of the lock when the process dies, however it dies.
pub(crate) struct FolderLock {
    file: File,
}

impl FolderLock {
    /// Takes the lock of `data_dir`, creating the folder if it is missing.
    pub(crate) fn take(data_dir: &Path) -> Result<FolderLock, StoreError> {
        std::fs::create_dir_all(data_dir).map_err(|error| not_writable(&error, data_dir))?;
        let path = data_dir.join("naru.lock");
        let opened = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = opened.map_err(|error| io_error(&error, &path))?;
        match file.try_lock() {
            Ok(()) => Ok(FolderLock { file }),
            Err(TryLockError::WouldBlock) => Err(StoreError::Busy {
                reason: format!(
                    "another server uses {}: stop it, or give this one a data_dir of its own",
                    data_dir.display()
                ),
            }),
            Err(TryLockError::Error(error)) => Err(io_error(&error, &path)),
        }
    }

    /// Lets go, explicitly, so that a store can be opened again in the same process.
    pub(crate) fn release(&self) {
        // Failing to unlock changes nothing for us: closing the file unlocks it, too.
        drop(self.file.unlock());
    }
}

/// An error of the file system in the port's words.
pub(crate) fn io_error(error: &std::io::Error, path: &Path) -> StoreError {
    use std::io::ErrorKind as Kind;
    match error.kind() {
        Kind::StorageFull | Kind::QuotaExceeded => {
            StoreError::Full { reason: format!("{error} ({}): free space", path.display()) }
        }
        _ => not_writable(error, path),
    }
}

fn not_writable(error: &std::io::Error, path: &Path) -> StoreError {
    StoreError::ReadOnly {
        reason: format!(
            "{error} ({}): the server needs a folder that it can write to",
            path.display()
        ),
    }
}

/// The files of the database at `path`: itself, its log, and the log's index.
pub(crate) fn files(path: &Path) -> [PathBuf; 3] {
    let with = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    [path.to_owned(), with("-wal"), with("-shm")]
}
