//! Keeps a batch, however long it takes: retries with growing pauses while the store is in trouble, and
//! finds the one entry that the store refuses while it works well otherwise.

use std::collections::HashSet;
use std::time::Duration;

use naru_domain::ports::StoreError;
use naru_domain::work::LedgerBatch;
use naru_domain::{DeviceKey, MessageId, Offset};
use tracing::{error, info, warn};

use crate::core::{Core, now};

/// The pause after the first failure; doubled after each further one.
const PAUSE: Duration = Duration::from_millis(20);
/// The longest pause: a store that comes back is found within this time.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// How often a store that works well may refuse the same batch before it is taken apart.
const REFUSALS_MAX: u32 = 3;
/// Warnings about a store in trouble are so far apart.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// What was not kept of a batch.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// Known (device, log id).
    pub(super) duplicates: HashSet<MessageId>,
    /// Refused for good: counted and reported.
    pub(super) refused: HashSet<MessageId>,
    pub(super) refused_replies: HashSet<(DeviceKey, Offset)>,
}

/// Returns when everything of the batch is kept, or named in the result. `None` when the store takes
/// nothing and the node stops: then a part may be kept, and nothing of it may be answered.
pub(super) async fn keep(core: &Core, batch: &LedgerBatch) -> Option<Kept> {
    let mut kept = Kept::default();
    if batch.is_empty() {
        return Some(kept);
    }
    match keep_whole(core, batch, &mut kept).await {
        Ok(()) => return Some(kept),
        Err(NotKept::Stopping) => return None,
        Err(NotKept::Refused) => (),
    }
    // Rare: copies are made only here.
    let mut parts = vec![batch.clone()];
    while let Some(part) = parts.pop() {
        match keep_whole(core, &part, &mut kept).await {
            Ok(()) => continue,
            Err(NotKept::Stopping) => return None,
            Err(NotKept::Refused) => (),
        }
        match halves(part) {
            Ok((first, second)) => {
                parts.push(second);
                parts.push(first);
            }
            Err(single) => refuse(core, &single, &mut kept),
        }
    }
    Some(kept)
}

/// Why a batch was not kept.
enum NotKept {
    /// The store works well but does not take this batch.
    Refused,
    /// The store takes nothing, and the node stops.
    Stopping,
}

async fn keep_whole(core: &Core, batch: &LedgerBatch, kept: &mut Kept) -> Result<(), NotKept> {
    let mut pause = PAUSE;
    let mut refusals = 0;
    let mut warned_at = None;
    loop {
        let started = now();
        let error = match core.ports.ledger.commit(batch, core.options.durability).await {
            Ok(receipt) => {
                core.metrics.stage_commit.observe(now().saturating_duration_since(started));
                core.metrics.ledger_batches.increment();
                if warned_at.is_some() {
                    info!(target: "naru::bots", "the store takes messages again");
                }
                core.metrics.ledger_healthy.set(1);
                kept.duplicates.extend(receipt.duplicates);
                return Ok(());
            }
            Err(error) => error,
        };
        core.metrics.ledger_errors.increment();
        let is_about_the_batch = matches!(
            error,
            StoreError::Failed { .. } | StoreError::Conflict | StoreError::NotFound
        );
        if is_about_the_batch && core.ports.maintenance.probe().await.is_ok() {
            refusals += 1;
            if refusals >= REFUSALS_MAX {
                return Err(NotKept::Refused);
            }
        } else if pause > PAUSE {
            // The first failure may be a lock that is gone with the next attempt.
            core.metrics.ledger_healthy.set(0);
            if warned_at.is_none_or(|at| now().saturating_duration_since(at) >= WARN_EVERY) {
                warned_at = Some(now());
                warn!(target: "naru::bots", %error, "the store takes nothing; phones wait");
            }
        }
        if core.stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            return Err(NotKept::Stopping);
        }
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// The batch in two parts, in order: endings of earlier messages, then accepted messages with their own
/// endings. `Err` if it cannot be divided.
fn halves(batch: LedgerBatch) -> Result<(LedgerBatch, LedgerBatch), LedgerBatch> {
    let accepted: HashSet<MessageId> = batch.accept.iter().map(|record| record.id).collect();
    let is_own = |message: Option<MessageId>| message.is_some_and(|id| accepted.contains(&id));
    let earlier = batch.settle.iter().filter(|s| !is_own(s.message)).count();
    let units = earlier + batch.accept.len() + batch.delivered.len();
    if units <= 1 {
        return Err(batch);
    }
    let mut left = units / 2;
    let mut take = || {
        let is_first = left > 0;
        left = left.saturating_sub(1);
        is_first
    };
    let (mut first, mut second) = (LedgerBatch::default(), LedgerBatch::default());
    let (own, earlier): (Vec<_>, Vec<_>) =
        batch.settle.into_iter().partition(|s| is_own(s.message));
    for cursor in batch.delivered {
        if take() { first.delivered.push(cursor) } else { second.delivered.push(cursor) }
    }
    for settlement in earlier {
        if take() { first.settle.push(settlement) } else { second.settle.push(settlement) }
    }
    let mut in_first = HashSet::new();
    for record in batch.accept {
        if take() {
            in_first.insert(record.id);
            first.accept.push(record);
        } else {
            second.accept.push(record);
        }
    }
    for settlement in own {
        let is_first = settlement.message.is_some_and(|id| in_first.contains(&id));
        if is_first { first.settle.push(settlement) } else { second.settle.push(settlement) }
    }
    Ok((first, second))
}

fn refuse(core: &Core, single: &LedgerBatch, kept: &mut Kept) {
    core.metrics.ledger_refused.increment();
    let message = single.accept.first().map(|record| record.id);
    let message = message.or_else(|| single.settle.first().and_then(|s| s.message));
    error!(target: "naru::bots", message = ?message.map(|id| id.0), "the store refused an entry");
    kept.refused.extend(message);
    let replies = single.settle.iter().flat_map(|settlement| &settlement.replies);
    kept.refused_replies.extend(replies.map(|reply| (reply.device, reply.offset)));
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use naru_domain::Timestamp;
    use naru_domain::work::{MessageRecord, MessageState, Settlement};

    use super::*;

    fn record(id: i64) -> Arc<MessageRecord> {
        Arc::new(MessageRecord {
            id: MessageId(id),
            device: DeviceKey(1),
            room: None,
            room_name: "room".into(),
            channel_id: "1".into(),
            log_id: None,
            sender: "kim".into(),
            user_hash: None,
            text: "hi".into(),
            is_group_chat: false,
            is_mention: false,
            received_at: Timestamp(0),
            state: MessageState::Pending,
            failure: "".into(),
        })
    }

    fn ending(id: i64) -> Settlement {
        Settlement {
            message: Some(MessageId(id)),
            state: MessageState::Done,
            failure: "".into(),
            replies: Vec::new(),
            keyed: None,
        }
    }

    #[test]
    fn a_batch_comes_apart_in_order_and_endings_stay_with_their_messages() {
        let batch = LedgerBatch {
            accept: (10..14).map(record).collect(),
            settle: vec![ending(1), ending(2), ending(10), ending(13)],
            delivered: vec![(DeviceKey(1), Offset(5))],
        };
        let mut parts = vec![batch];
        let mut singles = Vec::new();
        while let Some(part) = parts.pop() {
            match halves(part) {
                Ok((first, second)) => parts.extend([second, first]),
                Err(single) => singles.push(single),
            }
        }
        let shape: Vec<_> = singles
            .iter()
            .map(|s| {
                let accepted: Vec<_> = s.accept.iter().map(|record| record.id.0).collect();
                let ended: Vec<_> = s.settle.iter().filter_map(|s| Some(s.message?.0)).collect();
                (s.delivered.len(), ended, accepted)
            })
            .collect();
        let expected = [
            (1, vec![], vec![]),
            (0, vec![1], vec![]),
            (0, vec![2], vec![]),
            (0, vec![10], vec![10]),
            (0, vec![], vec![11]),
            (0, vec![], vec![12]),
            (0, vec![13], vec![13]),
        ];
        assert_eq!(shape, expected);
    }
}
