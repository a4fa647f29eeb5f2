//! How a store is opened: where its files are, how patient it is, and with which keys it encrypts.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use naru_domain::Clock;
use naru_domain::clock::SystemClock;
use naru_domain::ports::StoreError;

use crate::keys::MasterKeys;

/// How to open a store. [`StoreOptions::new`] gives the defaults for a data folder.
#[derive(Clone)]
pub struct StoreOptions {
    /// The folder that holds the database, the lock file and the delivery journal. Created if missing.
    pub data_dir: PathBuf,
    /// `sqlite` for `naru.db` in the data folder, or `sqlite:PATH` (relative to the data folder).
    pub url: String,
    /// Connections that read, 1 or more. One more connection writes.
    pub readers: u32,
    /// How long a read waits for a free connection before it fails as busy.
    pub acquire_timeout: Duration,
    /// How long one statement may take, waiting for another process's lock included.
    pub statement_timeout: Duration,
    /// Keys for the texts of messages and replies; `None` keeps them plain.
    pub encryption: Option<MasterKeys>,
    /// Where the time of applied migrations comes from.
    pub clock: Arc<dyn Clock>,
    /// Whether opening applies pending migrations. If not, pending ones are an error.
    pub migrate: bool,
    /// The largest size of the database file in pages of 4 KiB; `None` leaves it to the disk. Reaching it
    /// is answered like a full disk.
    pub pages_max: Option<u32>,
    /// Memory for pages of the connection that writes, in KiB: the ends of hot tables and indexes.
    pub writer_cache_kib: u32,
    /// The same for each connection that reads.
    pub reader_cache_kib: u32,
}

impl StoreOptions {
    /// SQLite in `data_dir`, four readers, one second for a connection, three for a statement.
    #[must_use]
    pub fn new(data_dir: impl Into<PathBuf>) -> StoreOptions {
        StoreOptions {
            data_dir: data_dir.into(),
            url: "sqlite".to_owned(),
            readers: 4,
            acquire_timeout: Duration::from_secs(1),
            statement_timeout: Duration::from_secs(3),
            encryption: None,
            clock: Arc::new(SystemClock),
            migrate: true,
            pages_max: None,
            writer_cache_kib: 32 * 1024,
            reader_cache_kib: 4 * 1024,
        }
    }

    /// The database file that `url` names.
    pub(crate) fn database_path(&self) -> Result<PathBuf, StoreError> {
        let Some(rest) = self.url.strip_prefix("sqlite") else {
            // The address may hold a password: only its scheme is told.
            let scheme = self.url.split(':').next().unwrap_or_default();
            return Err(StoreError::Failed {
                reason: format!("no store for `{scheme}:` in this build: use `sqlite`"),
            });
        };
        let file = match rest.strip_prefix("://").or_else(|| rest.strip_prefix(':')) {
            None if rest.is_empty() => "naru.db",
            Some(path) if !path.is_empty() => path,
            _ => {
                return Err(StoreError::Failed {
                    reason: "the store's url must be `sqlite` or `sqlite:PATH`".to_owned(),
                });
            }
        };
        Ok(self.data_dir.join(Path::new(file)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, expected: Option<&str>) {
        let options = StoreOptions { url: url.to_owned(), ..StoreOptions::new("/data") };
        let path = options.database_path();
        assert_eq!(path.ok(), expected.map(PathBuf::from), "{url}");
    }

    #[test]
    fn the_url_names_a_file_in_the_data_folder_or_anywhere() {
        check("sqlite", Some("/data/naru.db"));
        check("sqlite:other.db", Some("/data/other.db"));
        check("sqlite:///srv/naru.db", Some("/srv/naru.db"));
        check("sqlite://rel/naru.db", Some("/data/rel/naru.db"));
        check("sqlite:", None);
        check("sqlitefoo", None);
        check("postgres://naru:secret@db/naru", None);
    }

    #[test]
    fn an_unknown_url_is_refused_without_telling_its_password() {
        let url = "postgres://naru:hunter2@db/naru".to_owned();
        let refused = StoreOptions { url, ..StoreOptions::new("/data") }.database_path();
        assert!(!refused.unwrap_err().to_string().contains("hunter2"));
    }
}
