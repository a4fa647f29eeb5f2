//! The outbox: messages to the outside in the order of each target, until they were delivered.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use naru_domain::ports::{
    KeptOutbox, Outbox, OutboxBatch, OutboxCounts, OutboxDropped, OutboxEnd, OutboxMessage,
    OutboxReceipt, OutboxResult, StoreError, Weight,
};
use naru_domain::work::Page;
use naru_domain::{Durability, Timestamp};
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Row as _};

use crate::engine::JobError;
use crate::places::limit_of;
use crate::rows::corrupt;
use crate::store::SqlStore;

const WAITING: i64 = 0;
const DEAD: i64 = 1;
const COLUMNS: &str = "place, id, target, weight, at, attempts, next_at, failure, body";

#[async_trait]
impl Outbox for SqlStore {
    async fn put(
        &self,
        batch: &OutboxBatch,
        durability: Durability,
    ) -> Result<OutboxReceipt, StoreError> {
        if batch.messages.is_empty() {
            return Ok(OutboxReceipt::default());
        }
        let batch = batch.clone();
        self.engine
            .write(durability, move |c| Box::pin(async move { put_within(c, &batch).await }))
            .await
    }

    async fn due(
        &self,
        target: &str,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<KeptOutbox>, StoreError> {
        let (target, limit) = (target.to_owned(), limit_of(Page { after: None, limit }));
        let sql = format!(
            "SELECT {COLUMNS} FROM outbox WHERE target = ?1 AND state = 0 AND \
             (SELECT next_at FROM outbox WHERE target = ?1 AND state = 0 ORDER BY place LIMIT 1) \
             <= ?2 ORDER BY place LIMIT ?3"
        );
        self.engine
            .read(move |c| {
                Box::pin(async move {
                    let query =
                        sqlx::query(AssertSqlSafe(sql)).bind(target).bind(now.0).bind(limit);
                    query.fetch_all(c).await?.iter().map(read).collect()
                })
            })
            .await
    }

    async fn settle(&self, results: &[OutboxResult]) -> Result<(), StoreError> {
        if results.is_empty() {
            return Ok(());
        }
        let results = results.to_vec();
        // What is lost with the power is sent again under its id, as after a kill.
        self.engine
            .write(Durability::Os, move |c| Box::pin(async move { settle(c, &results).await }))
            .await
    }

    async fn counts(&self) -> Result<Vec<OutboxCounts>, StoreError> {
        let sql = "SELECT t.target, t.dropped, \
                   count(CASE o.state WHEN 0 THEN 1 END), count(CASE o.state WHEN 1 THEN 1 END), \
                   (SELECT next_at FROM outbox f WHERE f.target = t.target AND f.state = 0 \
                    ORDER BY f.place LIMIT 1), \
                   (SELECT at FROM outbox f WHERE f.target = t.target AND f.state = 0 \
                    ORDER BY f.place LIMIT 1) \
                   FROM outbox_targets t LEFT JOIN outbox o ON o.target = t.target \
                   GROUP BY t.target ORDER BY t.target";
        let read = |row: &SqliteRow| {
            Ok(OutboxCounts {
                target: Arc::from(row.try_get::<&str, _>(0)?),
                dropped: natural(row.try_get(1)?),
                waiting: natural(row.try_get(2)?),
                dead: natural(row.try_get(3)?),
                next_at: row.try_get::<Option<i64>, _>(4)?.map(Timestamp),
                oldest_at: row.try_get::<Option<i64>, _>(5)?.map(Timestamp),
            })
        };
        self.engine
            .read(move |c| {
                Box::pin(
                    async move { sqlx::query(sql).fetch_all(c).await?.iter().map(read).collect() },
                )
            })
            .await
    }

    async fn dead(&self, target: Option<&str>, page: Page) -> Result<Vec<KeptOutbox>, StoreError> {
        let (target, after) = (target.map(str::to_owned), page.after.unwrap_or(i64::MIN));
        let limit = limit_of(page);
        let sql = format!(
            "SELECT {COLUMNS} FROM outbox WHERE state = 1 AND place > ?1 \
             AND (?2 IS NULL OR target = ?2) ORDER BY place LIMIT ?3"
        );
        self.engine
            .read(move |c| {
                Box::pin(async move {
                    let query =
                        sqlx::query(AssertSqlSafe(sql)).bind(after).bind(target).bind(limit);
                    query.fetch_all(c).await?.iter().map(read).collect()
                })
            })
            .await
    }

    async fn replay(&self, id: &str, now: Timestamp) -> Result<(), StoreError> {
        let id = id.to_owned();
        let sql = "UPDATE outbox SET state = 0, attempts = 0, at = ?2, next_at = ?2, failure = '', \
                   place = (SELECT max(place) + 1 FROM outbox) WHERE id = ?1 AND state = 1";
        self.engine
            .write(Durability::Disk, move |c| {
                Box::pin(async move {
                    let changed = sqlx::query(sql).bind(id).bind(now.0).execute(c).await?;
                    found(changed.rows_affected())
                })
            })
            .await
    }

    async fn forget(&self, id: &str) -> Result<(), StoreError> {
        let id = id.to_owned();
        self.engine
            .write(Durability::Os, move |c| {
                Box::pin(async move {
                    let sql = "DELETE FROM outbox WHERE id = ? AND state = 1";
                    found(sqlx::query(sql).bind(id).execute(c).await?.rows_affected())
                })
            })
            .await
    }

    async fn forget_dead(&self, before: Timestamp, limit: usize) -> Result<usize, StoreError> {
        let limit = limit_of(Page { after: None, limit });
        let sql = "DELETE FROM outbox WHERE place IN \
                   (SELECT place FROM outbox WHERE state = 1 AND at < ? ORDER BY place LIMIT ?)";
        let gone = self
            .engine
            .write(Durability::Os, move |c| {
                Box::pin(async move {
                    let query = sqlx::query(sql).bind(before.0).bind(limit);
                    Ok(query.execute(c).await?.rows_affected())
                })
            })
            .await?;
        Ok(usize::try_from(gone).unwrap_or(usize::MAX))
    }
}

/// Keeps a batch inside the caller's transaction: for the writes of other ports that tell somebody.
pub(crate) async fn put_within(
    sqlite: &mut SqliteConnection,
    batch: &OutboxBatch,
) -> Result<OutboxReceipt, JobError> {
    let mut receipt = OutboxReceipt::default();
    let mut targets = BTreeSet::new();
    for message in &batch.messages {
        if !message.fits() {
            let reason = "a message for the outbox breaks its limits".to_owned();
            return Err(StoreError::Failed { reason }.into());
        }
        if add(sqlite, message).await? {
            receipt.added += 1;
            targets.insert(Arc::clone(&message.target));
        }
    }
    for target in targets {
        let sql = "INSERT INTO outbox_targets (target, dropped, dropped_since) VALUES (?, 0, 0) \
                   ON CONFLICT (target) DO NOTHING";
        sqlx::query(sql).bind(&*target).execute(&mut *sqlite).await?;
        receipt.dropped.extend(drop_surplus(sqlite, target, batch.waiting_max.max(1)).await?);
    }
    Ok(receipt)
}

async fn add(sqlite: &mut SqliteConnection, message: &OutboxMessage) -> Result<bool, JobError> {
    let sql = "INSERT INTO outbox (id, target, state, weight, at, attempts, next_at, failure, body) \
               VALUES (?1, ?2, ?3, ?4, ?5, 0, ?5, '', ?6) ON CONFLICT (id) DO NOTHING";
    let added = sqlx::query(sql)
        .bind(&*message.id)
        .bind(&*message.target)
        .bind(WAITING)
        .bind(weight_number(message.weight))
        .bind(message.at.0)
        .bind(&message.body[..])
        .execute(sqlite)
        .await?;
    Ok(added.rows_affected() == 1)
}

/// Beyond the limit the oldest of the lightest leave: news are worth more than what is old by now.
async fn drop_surplus(
    sqlite: &mut SqliteConnection,
    target: Arc<str>,
    waiting_max: usize,
) -> Result<Option<OutboxDropped>, JobError> {
    let sql = "SELECT count(*) FROM outbox WHERE target = ? AND state = 0";
    let waiting: i64 = sqlx::query_scalar(sql).bind(&*target).fetch_one(&mut *sqlite).await?;
    let surplus = waiting - i64::try_from(waiting_max).unwrap_or(i64::MAX);
    if surplus <= 0 {
        return Ok(None);
    }
    let sql = "DELETE FROM outbox WHERE place IN (SELECT place FROM outbox \
               WHERE target = ? AND state = 0 ORDER BY weight, place LIMIT ?)";
    sqlx::query(sql).bind(&*target).bind(surplus).execute(&mut *sqlite).await?;
    let sql = "UPDATE outbox_targets SET dropped = dropped + ?2, dropped_since = dropped_since + ?2 \
               WHERE target = ?1 RETURNING dropped_since";
    let since: i64 = sqlx::query_scalar(sql).bind(&*target).bind(surplus).fetch_one(sqlite).await?;
    Ok(Some(OutboxDropped { target, count: natural(surplus), is_first: since == surplus }))
}

async fn settle(sqlite: &mut SqliteConnection, results: &[OutboxResult]) -> Result<(), JobError> {
    for OutboxResult { id, attempts, failure, end } in results {
        let (state, next_at) = match end {
            OutboxEnd::Delivered => {
                delivered(sqlite, id).await?;
                continue;
            }
            OutboxEnd::Again(next_at) => (WAITING, Some(next_at.0)),
            OutboxEnd::Dead => (DEAD, None),
        };
        let sql = "UPDATE outbox SET state = ?2, attempts = ?3, failure = ?4, \
                   next_at = coalesce(?5, next_at) WHERE id = ?1 AND state = 0";
        sqlx::query(sql)
            .bind(&**id)
            .bind(state)
            .bind(*attempts)
            .bind(cut(failure))
            .bind(next_at)
            .execute(&mut *sqlite)
            .await?;
        if *end == OutboxEnd::Dead {
            drop_old_dead(sqlite, id).await?;
        }
    }
    Ok(())
}

/// Of the dead messages of the target of `id` the newest stay.
async fn drop_old_dead(sqlite: &mut SqliteConnection, id: &str) -> Result<(), JobError> {
    let sql = "DELETE FROM outbox WHERE state = 1 \
               AND target = (SELECT target FROM outbox WHERE id = ?1) \
               AND place <= (SELECT place FROM outbox WHERE state = 1 \
                   AND target = (SELECT target FROM outbox WHERE id = ?1) \
                   ORDER BY place DESC LIMIT 1 OFFSET ?2)";
    let kept = i64::try_from(OutboxBatch::DEAD_MAX).unwrap_or(i64::MAX);
    sqlx::query(sql).bind(id).bind(kept).execute(sqlite).await?;
    Ok(())
}

async fn delivered(sqlite: &mut SqliteConnection, id: &str) -> Result<(), JobError> {
    let sql = "DELETE FROM outbox WHERE id = ? AND state = 0 RETURNING target";
    let target: Option<String> =
        sqlx::query_scalar(sql).bind(id).fetch_optional(&mut *sqlite).await?;
    if let Some(target) = target {
        let sql = "UPDATE outbox_targets SET dropped_since = 0 \
                   WHERE target = ? AND dropped_since <> 0";
        sqlx::query(sql).bind(target).execute(sqlite).await?;
    }
    Ok(())
}

fn read(row: &SqliteRow) -> Result<KeptOutbox, JobError> {
    let text = |column: usize| row.try_get::<&str, _>(column).map(Arc::<str>::from);
    Ok(KeptOutbox {
        place: row.try_get(0)?,
        message: OutboxMessage {
            id: text(1)?,
            target: text(2)?,
            weight: weight_from(row.try_get(3)?)?,
            at: Timestamp(row.try_get(4)?),
            body: Bytes::from(row.try_get::<Vec<u8>, _>(8)?),
        },
        attempts: u32::try_from(row.try_get::<i64, _>(5)?).unwrap_or(u32::MAX),
        next_at: Timestamp(row.try_get(6)?),
        failure: text(7)?,
    })
}

fn weight_number(weight: Weight) -> i64 {
    match weight {
        Weight::Info => 0,
        Weight::Important => 1,
    }
}

fn weight_from(number: i64) -> Result<Weight, StoreError> {
    match number {
        0 => Ok(Weight::Info),
        1 => Ok(Weight::Important),
        _ => Err(corrupt("a message of the outbox has an unknown weight")),
    }
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(OutboxResult::FAILURE_BYTES_MAX)]
}

fn found(rows: u64) -> Result<(), JobError> {
    if rows == 0 { Err(StoreError::NotFound.into()) } else { Ok(()) }
}

fn natural(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
