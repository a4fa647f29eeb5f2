//! One writer and a few readers over one database: who gets a connection, for how long, and what
//! becomes of it after an error. Knows nothing of tables.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use naru_domain::Durability;
use naru_domain::ports::StoreError;
use parking_lot::Mutex;
use sqlx::Executor as _;
use sqlx::sqlite::SqliteConnection;
use tokio::sync::{Mutex as AsyncMutex, Semaphore};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::metrics::StoreMetrics;
use crate::options::StoreOptions;
use crate::sqlite::{self, Access, Connection};

/// How long work may take that nobody waits for impatiently (guessed: reading 100 GB).
const LONG_WORK: Duration = Duration::from_secs(30 * 60);

/// What a job may fail with: SQLite's errors are translated once, when the job is over.
#[derive(Debug)]
pub(crate) enum JobError {
    Sql(sqlx::Error),
    Store(StoreError),
}

impl From<sqlx::Error> for JobError {
    fn from(error: sqlx::Error) -> JobError {
        JobError::Sql(error)
    }
}

impl From<StoreError> for JobError {
    fn from(error: StoreError) -> JobError {
        JobError::Store(error)
    }
}

/// Work on a connection.
pub(crate) type Job<'c, T> = BoxFuture<'c, Result<T, JobError>>;

/// Whether the engine begins and commits around the job, or the job does so itself.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bracket {
    Transaction,
    None,
}

pub(crate) struct Engine {
    pub(crate) options: StoreOptions,
    pub(crate) path: PathBuf,
    pub(crate) metrics: Arc<StoreMetrics>,
    /// Fair: writers take turns in the order in which they came. Empty after a connection was given up.
    writer: AsyncMutex<Option<Connection>>,
    readers: Mutex<Vec<Connection>>,
    reader_permits: Semaphore,
    /// Writes run in tasks of their own, so that a caller who is cancelled cannot leave one half done.
    tasks: TaskTracker,
    /// Set once the files are let go: nothing may open them again.
    is_closed: AtomicBool,
}

impl Engine {
    /// Opens the writer, so that whatever is wrong with the file shows now.
    pub(crate) async fn open(options: StoreOptions, path: &Path) -> Result<Engine, StoreError> {
        let writer = Connection::open(&options, path, Access::Write)
            .await
            .map_err(|error| sqlite::store_error(&error, path))?;
        let readers = usize::try_from(options.readers.max(1)).unwrap_or(1);
        let metrics =
            StoreMetrics { files: sqlite::files(path).to_vec(), ..StoreMetrics::default() };
        Ok(Engine {
            options,
            path: path.to_owned(),
            metrics: Arc::new(metrics),
            writer: AsyncMutex::new(Some(writer)),
            readers: Mutex::new(Vec::with_capacity(readers)),
            reader_permits: Semaphore::new(readers),
            tasks: TaskTracker::new(),
            is_closed: AtomicBool::new(false),
        })
    }

    /// Runs `job` in a transaction that is kept as durably as asked. Goes on to the end even if the
    /// caller stops waiting.
    pub(crate) async fn write<T, F>(
        self: &Arc<Engine>,
        durability: Durability,
        job: F,
    ) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> Job<'c, T> + Send + 'static,
    {
        self.spawn_write(durability, Bracket::Transaction, job).await.map_err(|e| self.explain(e))
    }

    /// Like [`Engine::write`], but the job says `BEGIN` and `COMMIT` itself, to save the trips to
    /// SQLite's thread. What it leaves open after an error is rolled back. Its error comes untranslated.
    pub(crate) async fn write_bare<T, F>(
        self: &Arc<Engine>,
        durability: Durability,
        job: F,
    ) -> Result<T, JobError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> Job<'c, T> + Send + 'static,
    {
        self.spawn_write(durability, Bracket::None, job).await
    }

    /// The port's error for a job's, counted.
    pub(crate) fn explain(&self, error: JobError) -> StoreError {
        let error = match error {
            JobError::Sql(error) => sqlite::store_error(&error, &self.path),
            JobError::Store(error) => error,
        };
        self.metrics.count(&error);
        error
    }

    async fn spawn_write<T, F>(
        self: &Arc<Engine>,
        durability: Durability,
        bracket: Bracket,
        job: F,
    ) -> Result<T, JobError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> Job<'c, T> + Send + 'static,
    {
        let engine = Arc::clone(self);
        let task =
            self.tasks.spawn(async move { engine.write_now(durability, bracket, job).await });
        task.await.unwrap_or_else(|error| {
            let reason = format!("the write ended early: {error}");
            Err(JobError::Store(StoreError::Failed { reason }))
        })
    }

    async fn write_now<T, F>(
        &self,
        durability: Durability,
        bracket: Bracket,
        job: F,
    ) -> Result<T, JobError>
    where
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> Job<'c, T> + Send,
    {
        let asked = Instant::now();
        let patience = self.options.acquire_timeout + self.options.statement_timeout;
        let Ok(mut slot) = timeout(patience, self.writer.lock()).await else {
            let reason = "other writes took too long".to_owned();
            return Err(JobError::Store(StoreError::Busy { reason }));
        };
        self.metrics.writer_wait_seconds.observe(asked.elapsed());
        if self.is_closed.load(Relaxed) {
            return Err(JobError::Store(closed()));
        }
        // Taken out of the slot: should this task be torn down, no half-used connection stays behind.
        let mut connection = match slot.take() {
            Some(connection) => connection,
            None => Connection::open(&self.options, &self.path, Access::Write).await?,
        };
        connection.give_up(Some(self.options.statement_timeout));
        let result = run(&mut connection, durability, bracket, job).await;
        match &result {
            Err(JobError::Sql(error)) if sqlite::is_fatal(error) => {
                self.metrics.reconnects.increment();
                warn!(target: "naru::store", %error, "writer connection given up after an error");
            }
            _ => *slot = Some(connection),
        }
        result
    }

    /// Runs `job` on a connection that cannot write.
    pub(crate) async fn read<T, F>(&self, job: F) -> Result<T, StoreError>
    where
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> Job<'c, T> + Send,
    {
        let patience = self.options.statement_timeout;
        self.read_now(patience, job).await.map_err(|error| self.explain(error))
    }

    /// Like [`Engine::read`], for work that may take minutes: starting, checking, copying.
    pub(crate) async fn read_patiently<T, F>(&self, job: F) -> Result<T, StoreError>
    where
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> Job<'c, T> + Send,
    {
        self.read_now(LONG_WORK, job).await.map_err(|error| self.explain(error))
    }

    async fn read_now<T, F>(&self, patience: Duration, job: F) -> Result<T, JobError>
    where
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> Job<'c, T> + Send,
    {
        let _permit = match self.reader_permits.try_acquire() {
            Ok(permit) => permit,
            // All taken, or closed; waiting tells which.
            Err(_) => self.wait_for_reader().await?,
        };
        let idle = self.readers.lock().pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => Connection::open(&self.options, &self.path, Access::Read).await?,
        };
        connection.give_up(Some(patience));
        // The deadline ends a statement that works; the timer ends one that hangs in the disk. In both
        // cases, and when the caller goes away, the slot is free again at once.
        let hanging = patience + self.options.acquire_timeout;
        let Ok(result) = timeout(hanging, job(&mut connection.sqlite)).await else {
            self.metrics.reconnects.increment();
            let reason = "the disk does not answer".to_owned();
            return Err(JobError::Store(StoreError::Busy { reason }));
        };
        match &result {
            Err(JobError::Sql(error)) if sqlite::is_fatal(error) => {
                self.metrics.reconnects.increment();
            }
            _ => self.readers.lock().push(connection),
        }
        result
    }

    async fn wait_for_reader(&self) -> Result<tokio::sync::SemaphorePermit<'_>, JobError> {
        let asked = Instant::now();
        self.metrics.reader_waits.increment();
        let permit = timeout(self.options.acquire_timeout, self.reader_permits.acquire()).await;
        self.metrics.reader_wait_seconds.observe(asked.elapsed());
        match permit {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_closed)) => Err(JobError::Store(closed())),
            Err(_elapsed) => Err(JobError::Store(StoreError::Busy {
                reason: "all readers are in use: ask again, or raise the number of readers"
                    .to_owned(),
            })),
        }
    }

    /// Work that nobody waits for, except [`Engine::close`].
    pub(crate) fn in_background(&self, work: impl Future<Output = ()> + Send + 'static) {
        drop(self.tasks.spawn(work));
    }

    /// Waits for running writes, ends all connections and folds the log into the database.
    pub(crate) async fn close(&self) -> Result<(), StoreError> {
        self.tasks.close();
        self.tasks.wait().await;
        self.is_closed.store(true, Relaxed);
        self.reader_permits.close();
        let readers = std::mem::take(&mut *self.readers.lock());
        for reader in readers {
            reader.close().await.map_err(|error| sqlite::store_error(&error, &self.path))?;
        }
        let Some(mut writer) = self.writer.lock().await.take() else { return Ok(()) };
        writer.give_up(None);
        let folded = writer.sqlite.execute("PRAGMA wal_checkpoint(TRUNCATE)").await;
        let closed = writer.close().await;
        let result = folded.map(|_| ()).and(closed);
        result.map_err(|error| sqlite::store_error(&error, &self.path))
    }
}

fn closed() -> StoreError {
    StoreError::Busy { reason: "the store is closed".to_owned() }
}

async fn run<T, F>(
    connection: &mut Connection,
    durability: Durability,
    bracket: Bracket,
    job: F,
) -> Result<T, JobError>
where
    F: for<'c> FnOnce(&'c mut SqliteConnection) -> Job<'c, T> + Send,
{
    connection.set_durability(durability).await?;
    let sqlite = &mut connection.sqlite;
    let result = match bracket {
        Bracket::None => job(sqlite).await,
        Bracket::Transaction => {
            sqlx::query("BEGIN IMMEDIATE").execute(&mut *sqlite).await?;
            match job(sqlite).await {
                Ok(value) => match sqlx::query("COMMIT").execute(&mut *sqlite).await {
                    Ok(_) => Ok(value),
                    Err(error) => Err(JobError::Sql(error)),
                },
                Err(error) => Err(error),
            }
        }
    };
    if result.is_err() {
        roll_back(connection).await;
    }
    result
}

/// Leaves no transaction open. SQLite has often rolled back by itself already, and then says so.
async fn roll_back(connection: &mut Connection) {
    connection.give_up(None);
    if let Err(error) = connection.sqlite.execute("ROLLBACK").await {
        tracing::debug!(target: "naru::store", %error, "nothing to roll back");
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    const ENDLESS: &str = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) \
                           SELECT count(*) FROM n";

    /// One reader and little patience.
    async fn engine(folder: &Path) -> Arc<Engine> {
        let options = StoreOptions {
            readers: 1,
            acquire_timeout: Duration::from_millis(20),
            statement_timeout: Duration::from_millis(50),
            ..StoreOptions::new(folder)
        };
        Arc::new(Engine::open(options, &folder.join("test.db")).await.unwrap())
    }

    fn count<'c>(sqlite: &'c mut SqliteConnection, sql: &'static str) -> Job<'c, i64> {
        Box::pin(async move { Ok(sqlx::query_scalar(sql).fetch_one(sqlite).await?) })
    }

    #[tokio::test]
    async fn a_statement_that_takes_too_long_is_given_up_and_frees_its_connection() {
        let folder = tempfile::tempdir().unwrap();
        let engine = engine(folder.path()).await;
        for _ in 0..2 {
            let read = engine.read(|c| count(c, ENDLESS)).await;
            assert!(matches!(read, Err(StoreError::Busy { .. })), "{read:?}");
            let written = engine.write(Durability::Os, |c| count(c, ENDLESS)).await;
            assert!(matches!(written, Err(StoreError::Busy { .. })), "{written:?}");
        }
        assert_eq!(engine.read(|c| count(c, "SELECT 7")).await, Ok(7));
        assert_eq!(engine.write(Durability::Os, |c| count(c, "SELECT 8")).await, Ok(8));
        assert_eq!(engine.metrics.busy.get(), 4);
    }

    #[tokio::test]
    async fn a_read_that_gets_no_connection_in_time_is_busy() {
        let folder = tempfile::tempdir().unwrap();
        let engine = engine(folder.path()).await;
        let (started, is_started) = oneshot::channel();
        let (finish, is_finished) = oneshot::channel::<()>();
        let slow = engine.read(|_| {
            Box::pin(async {
                started.send(()).ok();
                is_finished.await.ok();
                Ok(())
            })
        });
        let other = async {
            is_started.await.unwrap();
            let refused = engine.read(|c| count(c, "SELECT 1")).await;
            finish.send(()).ok();
            refused
        };
        let (slow, refused) = tokio::join!(slow, other);
        assert_eq!(slow, Ok(()));
        assert!(matches!(refused, Err(StoreError::Busy { .. })), "{refused:?}");
        assert_eq!(engine.metrics.reader_waits.get(), 1);
        assert_eq!(engine.read(|c| count(c, "SELECT 1")).await, Ok(1));
    }

    #[tokio::test]
    async fn a_reader_cannot_write() {
        let folder = tempfile::tempdir().unwrap();
        let engine = engine(folder.path()).await;
        let refused = engine.read(|c| count(c, "CREATE TABLE t (x); SELECT 1")).await;
        assert!(matches!(refused, Err(StoreError::ReadOnly { .. })), "{refused:?}");
    }

    #[tokio::test]
    async fn a_write_goes_on_to_its_end_though_its_caller_went_away() {
        let folder = tempfile::tempdir().unwrap();
        let engine = engine(folder.path()).await;
        let (started, is_started) = oneshot::channel();
        let write = engine.write(Durability::Os, move |c| {
            Box::pin(async move {
                started.send(()).ok();
                sqlx::query("CREATE TABLE t AS SELECT 5 AS x").execute(c).await?;
                Ok(())
            })
        });
        tokio::select! {
            _ = write => panic!("the caller is quicker"),
            _ = is_started => (),
        }
        let row = engine.write(Durability::Os, |c| count(c, "SELECT x FROM t")).await;
        assert_eq!(row, Ok(5));
    }

    #[tokio::test]
    async fn a_failed_write_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let engine = engine(folder.path()).await;
        let failed = engine
            .write(Durability::Os, |c| {
                Box::pin(async move {
                    sqlx::query("CREATE TABLE t (x)").execute(&mut *c).await?;
                    Ok(sqlx::query("SELECT * FROM missing").execute(c).await.map(|_| ())?)
                })
            })
            .await;
        assert!(matches!(failed, Err(StoreError::Failed { .. })), "{failed:?}");
        let sql = "SELECT count(*) FROM sqlite_master";
        assert_eq!(engine.write(Durability::Disk, |c| count(c, sql)).await, Ok(0));
    }

    #[tokio::test]
    async fn after_closing_nothing_opens_the_file_again() {
        let folder = tempfile::tempdir().unwrap();
        let engine = engine(folder.path()).await;
        engine.close().await.unwrap();
        let read = engine.read(|c| count(c, "SELECT 1")).await;
        let written = engine.write(Durability::Os, |c| count(c, "SELECT 1")).await;
        for refused in [read, written] {
            assert!(matches!(refused, Err(StoreError::Busy { .. })), "{refused:?}");
        }
    }
}
