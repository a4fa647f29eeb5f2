//! The store itself: opening it with all that can be wrong then, and closing it.

use std::path::Path;
use std::sync::Arc;

use naru_domain::Durability;
use naru_domain::metrics::{MetricSink, MetricSource};
use naru_domain::ports::{MigrationState, StoreError};
use tracing::info;

use crate::engine::Engine;
use crate::journal::DeliveryJournalFile;
use crate::ledger::Marks;
use crate::metrics::StoreMetrics;
use crate::migrate::{self, PendingMigration};
use crate::options::StoreOptions;
use crate::sqlite::{self, Access, Connection, FolderLock};

/// A database up to this size is checked for damage when it is opened; a larger one would delay the
/// start, and shows its damage when the damaged page is read.
const CHECKED_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// All store ports over one database. Cheap to clone.
#[derive(Clone)]
pub struct SqlStore {
    pub(crate) engine: Arc<Engine>,
    pub(crate) marks: Arc<Marks>,
    pub(crate) journal: Arc<DeliveryJournalFile>,
    lock: Arc<FolderLock>,
}

impl SqlStore {
    /// Opens the store, creating what is missing and applying pending migrations (unless told not to).
    ///
    /// Errors name the path and the remedy: `Busy` (another server or program holds it), `ReadOnly` (the
    /// folder or file cannot be written), `Corrupt` (not a database, or damaged), `Full`, and `Failed`
    /// (made by a newer version; pending migrations that may not be applied; an unknown url).
    pub async fn open(options: StoreOptions) -> Result<SqlStore, StoreError> {
        let path = options.database_path()?;
        let lock = FolderLock::take(&options.data_dir)?;
        let journal = DeliveryJournalFile::open(&options.data_dir)?;
        let migrate_now = options.migrate;
        let now = options.clock.now();
        let engine = Arc::new(Engine::open(options, &path).await?);
        check_for_damage(&engine, &path).await?;
        let applied = engine.read(move |c| Box::pin(migrate::applied(c, migrate::SQLITE))).await?;
        for step in migrate::SQLITE.iter().filter(|step| !applied.contains(&step.version)) {
            if !migrate_now {
                let reason = format!(
                    "{} lacks migration {} ({}): run `naru migrate up`",
                    path.display(),
                    step.version,
                    step.name
                );
                return Err(StoreError::Failed { reason });
            }
            engine.write(Durability::Disk, move |c| Box::pin(migrate::apply(c, step, now))).await?;
            let (version, name) = (step.version, step.name);
            info!(target: "naru::store", version, name, "migration applied");
        }
        let marks = Arc::new(Marks::load(&engine).await?);
        Ok(SqlStore { engine, marks, journal: Arc::new(journal), lock: Arc::new(lock) })
    }

    /// Which migrations the database of `options` has. Changes nothing and needs no lock, so it also works
    /// beside a running server. A missing database has none.
    pub async fn migrations(options: &StoreOptions) -> Result<Vec<MigrationState>, StoreError> {
        let path = options.database_path()?;
        let applied = applied(options, &path).await?;
        Ok(migrate::states(migrate::SQLITE, &applied))
    }

    /// What opening the store would run, in order. Changes nothing.
    pub async fn pending_migrations(
        options: &StoreOptions,
    ) -> Result<Vec<PendingMigration>, StoreError> {
        let path = options.database_path()?;
        let applied = applied(options, &path).await?;
        let pending = migrate::SQLITE.iter().filter(|step| !applied.contains(&step.version));
        Ok(pending
            .map(|step| PendingMigration {
                version: step.version,
                name: step.name.to_owned(),
                sql: step.sql.to_owned(),
            })
            .collect())
    }

    /// The delivery journal beside the database, which [`naru_domain::ports::Ledger::recover`] reads.
    #[must_use]
    pub fn journal(&self) -> Arc<DeliveryJournalFile> {
        Arc::clone(&self.journal)
    }

    /// The store's figures, with those of its journal.
    #[must_use]
    pub fn metrics(&self) -> Arc<dyn MetricSource> {
        let (store, journal) = (Arc::clone(&self.engine.metrics), Arc::clone(&self.journal));
        Arc::new(Figures { store, journal })
    }

    /// Looks at every page of the database. `Corrupt` tells what was found. Takes as long as reading the
    /// whole file.
    pub async fn check(&self) -> Result<(), StoreError> {
        quick_check(&self.engine).await
    }

    /// Copies the database, as it is at one moment, to a new file at `target`. Writers may go on.
    pub async fn back_up(&self, target: &Path) -> Result<(), StoreError> {
        let Some(target) = target.to_str().map(str::to_owned) else {
            return Err(StoreError::Failed { reason: "the path is not UTF-8".to_owned() });
        };
        self.engine
            .read_patiently(move |c| {
                Box::pin(async move {
                    sqlx::query("VACUUM INTO ?").bind(target).execute(c).await?;
                    Ok(())
                })
            })
            .await
    }

    /// Waits for running writes, folds the log into the database and lets go of the data folder. The
    /// store answers nothing afterwards.
    pub async fn close(&self) -> Result<(), StoreError> {
        let marked = self.marks.advance(&self.engine).await;
        let closed = self.engine.close().await;
        self.lock.release();
        closed.and(marked)
    }
}

struct Figures {
    store: Arc<StoreMetrics>,
    journal: Arc<DeliveryJournalFile>,
}

impl MetricSource for Figures {
    fn collect(&self, sink: &mut dyn MetricSink) {
        self.store.collect(sink);
        self.journal.collect(sink);
    }
}

async fn applied(options: &StoreOptions, path: &Path) -> Result<Vec<i64>, StoreError> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let explain = |error: sqlx::Error| sqlite::store_error(&error, path);
    let mut connection = Connection::open(options, path, Access::Read).await.map_err(explain)?;
    let applied = migrate::applied(&mut connection.sqlite, migrate::SQLITE).await;
    connection.close().await.map_err(explain)?;
    applied.map_err(|error| match error {
        crate::engine::JobError::Sql(error) => explain(error),
        crate::engine::JobError::Store(error) => error,
    })
}

async fn check_for_damage(engine: &Engine, path: &Path) -> Result<(), StoreError> {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.len() <= CHECKED_BYTES_MAX => quick_check(engine).await,
        _ => Ok(()),
    }
}

async fn quick_check(engine: &Engine) -> Result<(), StoreError> {
    let path = engine.path.display().to_string();
    engine
        .read_patiently(move |c| {
            Box::pin(async move {
                let found: String =
                    sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(c).await?;
                if found == "ok" {
                    return Ok(());
                }
                let reason = format!("{found} ({path}): stop the server and restore a backup");
                Err(StoreError::Corrupt { reason }.into())
            })
        })
        .await
}
