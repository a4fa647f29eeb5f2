//! Committing a batch of which something is known already: a message that came twice, or a batch that
//! is tried again after its outcome was unclear.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use naru_domain::ports::StoreError;
use naru_domain::work::{LedgerBatch, LedgerReceipt, MessageRecord, Settlement};
use naru_domain::{DeviceKey, Durability, MessageId};
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Row as _};

use super::Encoded;
use crate::engine::JobError;
use crate::store::SqlStore;

/// Rows asked for in one statement.
const CHUNK: usize = 100;

impl SqlStore {
    /// Commits what is new of `batch`, and names what is not.
    pub(super) async fn commit_unknown(
        &self,
        batch: &LedgerBatch,
        durability: Durability,
    ) -> Result<LedgerReceipt, StoreError> {
        let batch = batch.clone();
        let keys = self.engine.options.encryption.clone();
        self.engine
            .write(durability, move |c| {
                Box::pin(async move {
                    let (new, receipt) = without_known(c, batch).await?;
                    Encoded::of(&new, keys.as_ref())?.write(c).await?;
                    Ok(receipt)
                })
            })
            .await
    }
}

/// Looks up what is known. A message whose id is in the store was kept by an earlier try of the same
/// batch: it is no duplicate, but neither it nor its kept replies may be written again.
async fn without_known(
    sqlite: &mut SqliteConnection,
    mut batch: LedgerBatch,
) -> Result<(LedgerBatch, LedgerReceipt), JobError> {
    let ids: Vec<MessageId> = batch.accept.iter().map(|message| message.id).collect();
    let kept = kept_ids(sqlite, &ids).await?;
    let mut seen = known_log_ids(sqlite, &batch.accept).await?;
    let mut duplicates = Vec::new();
    let mut accept = Vec::with_capacity(batch.accept.len());
    let mut taken: HashSet<MessageId> = HashSet::new();
    for message in batch.accept {
        if kept.contains(&message.id) {
            continue;
        }
        let is_new = match &message.log_id {
            Some(log_id) => seen.insert((message.device, log_id.clone())),
            None => true,
        };
        if is_new && taken.insert(message.id) {
            accept.push(message);
        } else {
            duplicates.push(message.id);
        }
    }
    batch.accept = accept;
    let lost: HashSet<MessageId> =
        duplicates.iter().copied().filter(|id| !taken.contains(id)).collect();
    batch.settle.retain(|settlement| settlement.message.is_none_or(|id| !lost.contains(&id)));
    leave_out_kept_replies(sqlite, &mut batch.settle, &kept).await?;
    Ok((batch, LedgerReceipt { duplicates }))
}

async fn kept_ids(
    sqlite: &mut SqliteConnection,
    ids: &[MessageId],
) -> Result<HashSet<MessageId>, JobError> {
    let mut kept = HashSet::new();
    for chunk in ids.chunks(CHUNK) {
        let sql = format!("SELECT id FROM messages WHERE id IN ({})", repeat(chunk.len(), "?"));
        let mut query = sqlx::query_scalar::<_, i64>(AssertSqlSafe(sql));
        for id in chunk {
            query = query.bind(id.0);
        }
        kept.extend(query.fetch_all(&mut *sqlite).await?.into_iter().map(MessageId));
    }
    Ok(kept)
}

async fn known_log_ids(
    sqlite: &mut SqliteConnection,
    messages: &[Arc<MessageRecord>],
) -> Result<HashSet<(DeviceKey, Box<str>)>, JobError> {
    let with_log_id: Vec<(DeviceKey, &str)> =
        messages.iter().filter_map(|m| Some((m.device, m.log_id.as_deref()?))).collect();
    let mut known = HashSet::new();
    for chunk in with_log_id.chunks(CHUNK) {
        let sql = format!(
            "SELECT device, log_id FROM messages \
             WHERE log_id IS NOT NULL AND (log_id, device) IN (VALUES {})",
            repeat(chunk.len(), "(?,?)")
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for (device, log_id) in chunk {
            query = query.bind((*log_id).to_owned()).bind(device.0);
        }
        for row in query.fetch_all(&mut *sqlite).await? {
            let log_id: String = row.try_get(1)?;
            known.insert((DeviceKey(row.try_get(0)?), log_id.into_boxed_str()));
        }
    }
    Ok(known)
}

async fn leave_out_kept_replies(
    sqlite: &mut SqliteConnection,
    settlements: &mut [Settlement],
    kept: &HashSet<MessageId>,
) -> Result<(), JobError> {
    let mut places: HashMap<MessageId, HashSet<(i64, i64)>> = HashMap::new();
    for settlement in settlements {
        let Some(id) = settlement.message.filter(|id| kept.contains(id)) else { continue };
        let places = match places.entry(id) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => unknown.insert(kept_replies(sqlite, id).await?),
        };
        settlement.replies.retain(|reply| {
            let place = i64::try_from(reply.offset.0).unwrap_or(i64::MAX);
            !places.contains(&(reply.device.0, place))
        });
    }
    Ok(())
}

/// The places of the replies to a message: (device, offset).
async fn kept_replies(
    sqlite: &mut SqliteConnection,
    message: MessageId,
) -> Result<HashSet<(i64, i64)>, JobError> {
    let sql = "SELECT device, place FROM replies WHERE message = ?";
    let places: Vec<(i64, i64)> = sqlx::query_as(sql).bind(message.0).fetch_all(sqlite).await?;
    Ok(places.into_iter().collect())
}

/// `count` times `mark` with commas: texts of our own only.
pub(crate) fn repeat(count: usize, mark: &str) -> String {
    vec![mark; count].join(",")
}
