//! The audit log: each entry's hash covers the entry before, and a separate row holds where the chain
//! ends. So edits, removals (at the end, too), insertions and changes of order are found.
//!
//! Not found is a change by somebody who rewrites the whole chain with its end: keep copies of the
//! newest hash elsewhere for that.

use async_trait::async_trait;
use naru_domain::ports::{Audit, StoreError};
use naru_domain::work::{AuditEntry, AuditVerdict, ChainedAudit, Page};
use naru_domain::{Durability, Timestamp};
use sha2::{Digest as _, Sha256};
use sqlx::Row as _;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use crate::engine::JobError;
use crate::places::limit_of;
use crate::store::SqlStore;

type Hash = [u8; 32];

/// Entries looked at in one statement.
const VERIFIED_AT_ONCE: i64 = 1_000;

#[async_trait]
impl Audit for SqlStore {
    async fn append_audit(&self, entry: &AuditEntry) -> Result<(), StoreError> {
        let entry = entry.clone();
        self.engine.write(Durability::Disk, move |c| Box::pin(append(c, entry))).await
    }

    async fn audit(&self, page: Page) -> Result<Vec<ChainedAudit>, StoreError> {
        self.engine
            .read(move |c| {
                Box::pin(async move {
                    let sql = "SELECT id, at, actor, source, action, object, detail, hash \
                               FROM audit WHERE id < ? ORDER BY id DESC LIMIT ?";
                    let query =
                        sqlx::query(sql).bind(page.after.unwrap_or(i64::MAX)).bind(limit_of(page));
                    let rows = query.fetch_all(c).await?;
                    rows.iter()
                        .map(|row| {
                            let (id, entry, hash) = read(row)?;
                            // A damaged hash is shown as zeros; verifying tells where.
                            let hash = hash.try_into().unwrap_or([0; 32]);
                            Ok(ChainedAudit { id, entry, hash })
                        })
                        .collect()
                })
            })
            .await
    }

    async fn verify_audit(&self) -> Result<AuditVerdict, StoreError> {
        // One look at one moment, so that entries added meanwhile are not taken for damage.
        self.engine.read_patiently(move |c| Box::pin(verify(c))).await
    }
}

async fn append(sqlite: &mut SqliteConnection, entry: AuditEntry) -> Result<(), JobError> {
    let head = head(sqlite).await?;
    let (entries, previous) = head.unwrap_or((0, vec![0; 32]));
    let id = entries + 1;
    let hash = chain(&previous, id, &entry);
    let sql = "INSERT INTO audit (id, at, actor, source, action, object, detail, hash) \
               VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
    sqlx::query(sql)
        .bind(id)
        .bind(entry.at.0)
        .bind(entry.actor)
        .bind(entry.source)
        .bind(entry.action)
        .bind(entry.object)
        .bind(entry.detail)
        .bind(hash.to_vec())
        .execute(&mut *sqlite)
        .await?;
    let sql = "INSERT INTO audit_head (one, entries, hash) VALUES (1, ?, ?) \
               ON CONFLICT (one) DO UPDATE SET entries = excluded.entries, hash = excluded.hash";
    sqlx::query(sql).bind(id).bind(hash.to_vec()).execute(sqlite).await?;
    Ok(())
}

async fn head(sqlite: &mut SqliteConnection) -> Result<Option<(i64, Vec<u8>)>, JobError> {
    let sql = "SELECT entries, hash FROM audit_head WHERE one = 1";
    Ok(sqlx::query_as(sql).fetch_optional(sqlite).await?)
}

async fn verify(sqlite: &mut SqliteConnection) -> Result<AuditVerdict, JobError> {
    sqlx::query("BEGIN").execute(&mut *sqlite).await?;
    let verdict = verify_snapshot(sqlite).await;
    sqlx::query("ROLLBACK").execute(sqlite).await?;
    verdict
}

async fn verify_snapshot(sqlite: &mut SqliteConnection) -> Result<AuditVerdict, JobError> {
    let (entries, newest) = head(sqlite).await?.unwrap_or((0, vec![0; 32]));
    let mut previous = vec![0; 32];
    let mut seen = 0;
    loop {
        let sql = "SELECT id, at, actor, source, action, object, detail, hash \
                   FROM audit WHERE id > ? ORDER BY id LIMIT ?";
        let rows =
            sqlx::query(sql).bind(seen).bind(VERIFIED_AT_ONCE).fetch_all(&mut *sqlite).await?;
        for row in &rows {
            let (id, entry, hash) = read(row)?;
            if id != seen + 1 || hash != chain(&previous, id, &entry) {
                return Ok(AuditVerdict { entries: seen, broken_at: Some(seen + 1) });
            }
            previous = hash;
            seen = id;
        }
        if rows.is_empty() {
            break;
        }
    }
    let is_whole = seen == entries && previous == newest;
    Ok(AuditVerdict { entries: seen, broken_at: (!is_whole).then_some(seen.min(entries) + 1) })
}

fn read(row: &SqliteRow) -> Result<(i64, AuditEntry, Vec<u8>), JobError> {
    let entry = AuditEntry {
        at: Timestamp(row.try_get(1)?),
        actor: row.try_get(2)?,
        source: row.try_get(3)?,
        action: row.try_get(4)?,
        object: row.try_get(5)?,
        detail: row.try_get(6)?,
    };
    Ok((row.try_get(0)?, entry, row.try_get(7)?))
}

/// SHA-256 over the previous hash, the number, the time, and each text with its length in front, so that
/// nothing can move from one field to the next.
fn chain(previous: &[u8], id: i64, entry: &AuditEntry) -> Hash {
    let mut hash = Sha256::new();
    hash.update(previous);
    hash.update(id.to_le_bytes());
    hash.update(entry.at.0.to_le_bytes());
    for text in [&entry.actor, &entry.source, &entry.action, &entry.object, &entry.detail] {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    }
    hash.finalize().into()
}
