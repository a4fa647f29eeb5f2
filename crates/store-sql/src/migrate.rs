//! Bringing a database to this version's schema, one transaction a step, with a record of what was
//! applied and a checksum of each step. Knows nothing of what the tables mean.

use naru_domain::Timestamp;
use naru_domain::ports::{MigrationState, StoreError};
use sha2::{Digest as _, Sha256};
use sqlx::sqlite::SqliteConnection;
use sqlx::{Executor as _, Row as _};

use crate::engine::JobError;

/// A step that this version knows.
pub(crate) struct Migration {
    pub(crate) version: i64,
    pub(crate) name: &'static str,
    pub(crate) sql: &'static str,
}

/// All steps for SQLite, in order. An applied step is never changed: a new one follows it.
pub(crate) const SQLITE: &[Migration] = &[
    Migration { version: 1, name: "base", sql: include_str!("../migrations/sqlite/0001_base.sql") },
    Migration {
        version: 2,
        name: "send_keys",
        sql: include_str!("../migrations/sqlite/0002_send_keys.sql"),
    },
    Migration {
        version: 3,
        name: "publication_meta",
        sql: include_str!("../migrations/sqlite/0003_publication_meta.sql"),
    },
    Migration {
        version: 4,
        name: "work_queues",
        sql: include_str!("../migrations/sqlite/0004_work_queues.sql"),
    },
    Migration {
        version: 5,
        name: "wards",
        sql: include_str!("../migrations/sqlite/0005_wards.sql"),
    },
    Migration {
        version: 6,
        name: "outbox",
        sql: include_str!("../migrations/sqlite/0006_outbox.sql"),
    },
];

/// A step that a database still lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingMigration {
    /// Its number.
    pub version: i64,
    /// What it does.
    pub name: String,
    /// The statements that would run.
    pub sql: String,
}

const RECORD: &str = "CREATE TABLE IF NOT EXISTS _migrations (
    version BIGINT NOT NULL PRIMARY KEY, name TEXT NOT NULL, checksum BLOB NOT NULL, applied_at BIGINT NOT NULL)";

/// Which steps the database has. Fails if one of them is not what this version knows by that number.
pub(crate) async fn applied(
    sqlite: &mut SqliteConnection,
    known: &[Migration],
) -> Result<Vec<i64>, JobError> {
    let record = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = '_migrations'";
    let exists: i64 = sqlx::query_scalar(record).fetch_one(&mut *sqlite).await?;
    if exists == 0 {
        return Ok(Vec::new());
    }
    let rows = sqlx::query("SELECT version, name, checksum FROM _migrations ORDER BY version")
        .fetch_all(&mut *sqlite)
        .await?;
    let mut versions = Vec::with_capacity(rows.len());
    for row in rows {
        let (version, name): (i64, String) = (row.try_get(0)?, row.try_get(1)?);
        let checksum: Vec<u8> = row.try_get(2)?;
        let Some(step) = known.iter().find(|step| step.version == version) else {
            return Err(refuse(format!(
                "the database has migration {version} ({name}), which this version does not know: \
                 use a newer version of the program"
            )));
        };
        if checksum != checksum_of(step) {
            return Err(refuse(format!(
                "migration {version} ({name}) is not the one that this database was made with"
            )));
        }
        versions.push(version);
    }
    Ok(versions)
}

/// Applies one step with its record. Runs inside the caller's transaction.
pub(crate) async fn apply(
    sqlite: &mut SqliteConnection,
    step: &'static Migration,
    now: Timestamp,
) -> Result<(), JobError> {
    sqlite.execute(RECORD).await?;
    sqlite.execute(step.sql).await?;
    sqlx::query(
        "INSERT INTO _migrations (version, name, checksum, applied_at) VALUES (?, ?, ?, ?)",
    )
    .bind(step.version)
    .bind(step.name)
    .bind(checksum_of(step))
    .bind(now.0)
    .execute(sqlite)
    .await?;
    Ok(())
}

/// All steps with whether `applied` has them.
pub(crate) fn states(known: &[Migration], applied: &[i64]) -> Vec<MigrationState> {
    let state = |step: &Migration| MigrationState {
        version: step.version,
        name: step.name.to_owned(),
        applied: applied.contains(&step.version),
    };
    known.iter().map(state).collect()
}

fn checksum_of(step: &Migration) -> Vec<u8> {
    Sha256::digest(step.sql.as_bytes()).to_vec()
}

fn refuse(reason: String) -> JobError {
    JobError::Store(StoreError::Failed { reason })
}
