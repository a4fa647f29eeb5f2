//! Retention and the probe.

use async_trait::async_trait;
use naru_domain::limits::PAGE_ROWS_MAX;
use naru_domain::ports::{Maintenance, PurgeKind, StoreError};
use naru_domain::{Durability, Timestamp};

use crate::store::SqlStore;

/// Rows removed in one transaction at most: some milliseconds of the writer.
const PURGED_AT_ONCE: usize = 10 * PAGE_ROWS_MAX;

#[async_trait]
impl Maintenance for SqlStore {
    async fn purge(
        &self,
        kind: PurgeKind,
        before: Timestamp,
        limit: usize,
    ) -> Result<usize, StoreError> {
        let limit = limit.min(PURGED_AT_ONCE);
        if limit == 0 {
            return Ok(0);
        }
        let rows = i64::try_from(limit).unwrap_or(i64::MAX);
        // Looked up by a reader first: the writer is held for the removal only. What is found cannot
        // become something to keep meanwhile, and the removal asks again for what can.
        let ids: Vec<i64> = self
            .engine
            .read(move |c| {
                Box::pin(async move {
                    let query = sqlx::query_scalar(find(kind)).bind(before.0).bind(rows);
                    Ok(query.fetch_all(c).await?)
                })
            })
            .await?;
        if ids.is_empty() {
            return Ok(0);
        }
        let removed = self
            .engine
            .write(Durability::Os, move |c| {
                Box::pin(async move {
                    let ids = ids.iter().map(i64::to_string).collect::<Vec<_>>().join(",");
                    let removed =
                        sqlx::query(remove(kind)).bind(format!("[{ids}]")).execute(c).await?;
                    Ok(removed.rows_affected())
                })
            })
            .await?;
        self.engine.metrics.purged.add(removed);
        Ok(usize::try_from(removed).unwrap_or(usize::MAX))
    }

    async fn probe(&self) -> Result<(), StoreError> {
        let now = self.engine.options.clock.now();
        self.engine
            .write(Durability::Os, move |c| {
                Box::pin(async move {
                    let sql = "INSERT INTO marks (name, value) VALUES ('probe', ?) \
                               ON CONFLICT (name) DO UPDATE SET value = excluded.value";
                    sqlx::query(sql).bind(now.0).execute(c).await?;
                    Ok(())
                })
            })
            .await?;
        self.engine
            .read(move |c| {
                Box::pin(async move {
                    let sql = "SELECT value FROM marks WHERE name = 'probe'";
                    sqlx::query(sql).fetch_one(c).await?;
                    Ok(())
                })
            })
            .await
    }
}

/// The oldest rows that may go. Rows stand in the order of time, so those that may go stand in front.
///
/// The newest reply stays: the next one gets its number plus one, and the mark of undelivered replies
/// relies on numbers that rise.
fn find(kind: PurgeKind) -> &'static str {
    match kind {
        PurgeKind::Messages => {
            "SELECT id FROM messages WHERE state IN (1, 3) AND received_at < ?1 ORDER BY id LIMIT ?2"
        }
        PurgeKind::DeadLetters => {
            "SELECT id FROM messages WHERE state = 2 AND received_at < ?1 ORDER BY id LIMIT ?2"
        }
        PurgeKind::Replies => {
            "SELECT r.id FROM replies r JOIN streams s ON s.device = r.device \
             WHERE r.at < ?1 AND r.place <= s.delivered AND r.id < (SELECT max(id) FROM replies) \
             ORDER BY r.id LIMIT ?2"
        }
        PurgeKind::Pings => "SELECT id FROM pings WHERE at < ?1 ORDER BY id LIMIT ?2",
        PurgeKind::SystemSamples => {
            "SELECT id FROM system_samples WHERE at < ?1 ORDER BY id LIMIT ?2"
        }
        PurgeKind::ScheduleRuns => {
            "SELECT id FROM schedule_runs WHERE ran_at < ?1 ORDER BY id LIMIT ?2"
        }
        PurgeKind::SendKeys => "SELECT id FROM send_keys WHERE at < ?1 ORDER BY id LIMIT ?2",
    }
}

fn remove(kind: PurgeKind) -> &'static str {
    match kind {
        PurgeKind::Messages => {
            "DELETE FROM messages WHERE id IN (SELECT value FROM json_each(?)) AND state IN (1, 3)"
        }
        PurgeKind::DeadLetters => {
            "DELETE FROM messages WHERE id IN (SELECT value FROM json_each(?)) AND state = 2"
        }
        PurgeKind::Replies => "DELETE FROM replies WHERE id IN (SELECT value FROM json_each(?))",
        PurgeKind::Pings => "DELETE FROM pings WHERE id IN (SELECT value FROM json_each(?))",
        PurgeKind::SystemSamples => {
            "DELETE FROM system_samples WHERE id IN (SELECT value FROM json_each(?))"
        }
        PurgeKind::ScheduleRuns => {
            "DELETE FROM schedule_runs WHERE id IN (SELECT value FROM json_each(?))"
        }
        PurgeKind::SendKeys => "DELETE FROM send_keys WHERE id IN (SELECT value FROM json_each(?))",
    }
}
