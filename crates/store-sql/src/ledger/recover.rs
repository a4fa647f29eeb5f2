//! What a start has to go on with, and the marks below which it need not look.
//!
//! Pending messages and undelivered replies have no index: it would cost every message more than the
//! look from a mark costs a start. The marks move forward while the server works.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use naru_domain::ports::StoreError;
use naru_domain::work::{MessageRecord, Recovered, ReplyRecord};
use naru_domain::{DeviceKey, Durability, MessageId, Offset};
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Row as _};

use crate::engine::{Engine, JobError};
use crate::rows;
use crate::store::SqlStore;

/// The marks are moved after so many messages: a start then looks at twice as many at most (guessed:
/// tens of milliseconds).
const MESSAGES_PER_MARK: u64 = 50_000;
/// The mark of pending messages stays this far below the newest id (ten minutes): messages get their
/// ids before they are committed, so a lower id may still arrive.
const ID_SLACK: i64 = (10 * 60 * 1000) << 12;
/// Rows read at once.
const PAGE: i64 = 500;
/// Replies looked at in one statement; most of them were delivered and are skipped.
const REPLY_WINDOW: i64 = 20_000;

const PENDING: &str = "pending_messages";
const UNDELIVERED: &str = "undelivered_replies";

/// The marks, and when they are due to move.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    since_last: AtomicU64,
}

impl Marks {
    /// Makes sure that the database has its marks.
    pub(crate) async fn load(engine: &Arc<Engine>) -> Result<Marks, StoreError> {
        let missing: i64 = engine
            .read(move |c| {
                Box::pin(async move {
                    let count = "SELECT 2 - count(*) FROM marks WHERE name IN (?, ?)";
                    let query = sqlx::query_scalar(count).bind(PENDING).bind(UNDELIVERED);
                    Ok(query.fetch_one(c).await?)
                })
            })
            .await?;
        if missing > 0 {
            engine
                .write(Durability::Os, |c| {
                    Box::pin(async move {
                        let add = "INSERT INTO marks (name, value) VALUES (?, 0), (?, 0) \
                                   ON CONFLICT (name) DO NOTHING";
                        sqlx::query(add).bind(PENDING).bind(UNDELIVERED).execute(c).await?;
                        Ok(())
                    })
                })
                .await?;
        }
        Ok(Marks::default())
    }

    /// Counts accepted messages; true once each [`MESSAGES_PER_MARK`].
    pub(crate) fn are_due(&self, accepted: u64) -> bool {
        let before = self.since_last.fetch_add(accepted, Relaxed);
        before / MESSAGES_PER_MARK != (before + accepted) / MESSAGES_PER_MARK
    }

    /// Moves the marks to the first message that is pending and the first reply that is undelivered. In
    /// the writer's transaction, so that nothing can be written below them meanwhile.
    pub(crate) async fn advance(&self, engine: &Arc<Engine>) -> Result<(), StoreError> {
        engine.write(Durability::Os, |c| Box::pin(advance(c))).await
    }
}

async fn advance(sqlite: &mut SqliteConnection) -> Result<(), JobError> {
    let newest: Option<i64> =
        sqlx::query_scalar("SELECT max(id) FROM messages").fetch_one(&mut *sqlite).await?;
    if let Some(newest) = newest {
        let first = "SELECT id FROM messages WHERE state = 0 \
                     AND id >= (SELECT value FROM marks WHERE name = ?) ORDER BY id LIMIT 1";
        let first: Option<i64> =
            sqlx::query_scalar(first).bind(PENDING).fetch_optional(&mut *sqlite).await?;
        let safe = newest.saturating_sub(ID_SLACK);
        set(sqlite, PENDING, first.map_or(safe, |first| first.min(safe))).await?;
    }
    let newest: Option<i64> =
        sqlx::query_scalar("SELECT max(id) FROM replies").fetch_one(&mut *sqlite).await?;
    if let Some(newest) = newest {
        let first = "SELECT r.id FROM replies r LEFT JOIN streams s ON s.device = r.device \
                     WHERE r.id >= (SELECT value FROM marks WHERE name = ?) \
                     AND r.place > coalesce(s.delivered, 0) ORDER BY r.id LIMIT 1";
        let first: Option<i64> =
            sqlx::query_scalar(first).bind(UNDELIVERED).fetch_optional(&mut *sqlite).await?;
        set(sqlite, UNDELIVERED, first.unwrap_or(newest + 1)).await?;
    }
    Ok(())
}

async fn set(sqlite: &mut SqliteConnection, name: &str, value: i64) -> Result<(), JobError> {
    sqlx::query("UPDATE marks SET value = max(value, ?) WHERE name = ?")
        .bind(value)
        .bind(name.to_owned())
        .execute(sqlite)
        .await?;
    Ok(())
}

pub(super) async fn recover(store: &SqlStore) -> Result<Recovered, StoreError> {
    let pending = pending(store).await?;
    let handed_over = Arc::new(handed_over(store).await?);
    let (undelivered, newest) = undelivered(store, &handed_over).await?;
    let mut handed_over = Arc::unwrap_or_clone(handed_over);
    for (device, offset) in newest {
        let last = handed_over.entry(device).or_default();
        *last = offset.max(*last);
    }
    let mut offsets: Vec<(DeviceKey, Offset)> = handed_over.into_iter().collect();
    offsets.sort_unstable();
    let highest: Option<i64> = store
        .engine
        .read(move |c| {
            Box::pin(async move {
                Ok(sqlx::query_scalar("SELECT max(id) FROM messages").fetch_one(c).await?)
            })
        })
        .await?;
    store.marks.advance(&store.engine).await?;
    Ok(Recovered { pending, undelivered, offsets, highest: highest.map(MessageId) })
}

async fn pending(store: &SqlStore) -> Result<Vec<MessageRecord>, StoreError> {
    let keys = store.engine.options.encryption.clone();
    let mut pending: Vec<MessageRecord> = Vec::new();
    loop {
        let after = pending.last().map_or(i64::MIN, |message| message.id.0);
        let keys = keys.clone();
        let page: Vec<MessageRecord> = store
            .engine
            .read_patiently(move |c| {
                Box::pin(async move {
                    let sql = format!(
                        "SELECT {} FROM messages WHERE state = 0 AND id > ? \
                         AND id >= (SELECT value FROM marks WHERE name = ?) ORDER BY id LIMIT ?",
                        rows::MESSAGE
                    );
                    let query = sqlx::query(AssertSqlSafe(sql)).bind(after).bind(PENDING);
                    let rows = query.bind(PAGE).fetch_all(c).await?;
                    rows.iter().map(|row| rows::message(row, keys.as_ref())).collect()
                })
            })
            .await?;
        let is_last = page.len() < usize::try_from(PAGE).unwrap_or(usize::MAX);
        pending.extend(page);
        if is_last {
            return Ok(pending);
        }
    }
}

/// How far each stream was handed over, by the journal and by the database: the later one counts.
async fn handed_over(store: &SqlStore) -> Result<HashMap<DeviceKey, Offset>, StoreError> {
    let kept: Vec<(i64, i64)> = store
        .engine
        .read_patiently(move |c| {
            Box::pin(async move {
                Ok(sqlx::query_as("SELECT device, delivered FROM streams").fetch_all(c).await?)
            })
        })
        .await?;
    let mut handed_over: HashMap<DeviceKey, Offset> =
        kept.into_iter().map(|(key, place)| (DeviceKey(key), rows::offset(place))).collect();
    for (device, offset) in store.journal.recorded()? {
        let known = handed_over.entry(device).or_default();
        *known = offset.max(*known);
    }
    Ok(handed_over)
}

type Undelivered = (Vec<ReplyRecord>, HashMap<DeviceKey, Offset>);

/// The replies after what was handed over, and the newest offset kept of each stream.
async fn undelivered(
    store: &SqlStore,
    handed_over: &Arc<HashMap<DeviceKey, Offset>>,
) -> Result<Undelivered, StoreError> {
    let keys = store.engine.options.encryption.clone();
    let (mut undelivered, mut newest) = (Vec::new(), HashMap::new());
    let (mut after, last) = reply_range(store).await?;
    while after < last {
        let until = after.saturating_add(REPLY_WINDOW).min(last);
        let (keys, handed_over) = (keys.clone(), Arc::clone(handed_over));
        let window: Vec<(DeviceKey, Offset, Option<ReplyRecord>)> = store
            .engine
            .read_patiently(move |c| {
                Box::pin(async move {
                    // Only what the database does not know as delivered is read with its body.
                    let sql = format!(
                        "SELECT {} FROM replies LEFT JOIN streams USING (device) \
                         WHERE id > ? AND id <= ? AND place > coalesce(delivered, 0) ORDER BY id",
                        rows::REPLY
                    );
                    let query = sqlx::query(AssertSqlSafe(sql)).bind(after).bind(until);
                    let mut found = Vec::new();
                    for row in query.fetch_all(c).await? {
                        let device = DeviceKey(row.try_get(0)?);
                        let offset = rows::offset(row.try_get(1)?);
                        let is_handed_over =
                            handed_over.get(&device).is_some_and(|last| offset <= *last);
                        let reply = if is_handed_over {
                            None
                        } else {
                            Some(rows::reply(&row, keys.as_ref())?)
                        };
                        found.push((device, offset, reply));
                    }
                    Ok(found)
                })
            })
            .await?;
        for (device, offset, reply) in window {
            let top: &mut Offset = newest.entry(device).or_default();
            *top = offset.max(*top);
            undelivered.extend(reply);
        }
        after = until;
    }
    undelivered.sort_by_key(|reply: &ReplyRecord| (reply.device, reply.offset));
    Ok((undelivered, newest))
}

/// From the mark (exclusive) to the newest reply.
async fn reply_range(store: &SqlStore) -> Result<(i64, i64), StoreError> {
    store
        .engine
        .read(move |c| {
            Box::pin(async move {
                let sql = "SELECT (SELECT value - 1 FROM marks WHERE name = ?), \
                           coalesce((SELECT max(id) FROM replies), 0)";
                Ok(sqlx::query_as(sql).bind(UNDELIVERED).fetch_one(c).await?)
            })
        })
        .await
}

pub(super) async fn revive(store: &SqlStore, id: MessageId) -> Result<MessageRecord, StoreError> {
    let keys = store.engine.options.encryption.clone();
    store
        .engine
        .write(Durability::Disk, move |c| {
            Box::pin(async move {
                let sql = format!(
                    "UPDATE messages SET state = 0, failure = NULL WHERE id = ? AND state = 2 \
                     RETURNING {}",
                    rows::MESSAGE
                );
                let row =
                    sqlx::query(AssertSqlSafe(sql)).bind(id.0).fetch_optional(&mut *c).await?;
                let row = row.ok_or(StoreError::NotFound)?;
                // It may stand below the mark by now, where a start would not find it.
                sqlx::query("UPDATE marks SET value = min(value, ?) WHERE name = ?")
                    .bind(id.0)
                    .bind(PENDING)
                    .execute(c)
                    .await?;
                rows::message(&row, keys.as_ref())
            })
        })
        .await
}
