//! Random batches against a naive model: whatever the mix, the store and the model agree.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use naru_domain::ports::{ChatLog, Ledger};
use naru_domain::work::{LedgerBatch, MessageRecord, MessageState, ReplyRecord};
use naru_domain::{DeviceKey, Durability, MessageId, Offset};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::{message, ok, reply, settle};

/// Commits `batches` random batches drawn from `seed` and compares after each few of them. A failure
/// names the seed; the same seed gives the same batches.
pub async fn ledger_against_a_model<S: Ledger + ChatLog>(store: S, seed: u64, batches: usize) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut model = Model::default();
    for step in 0..batches {
        let batch = model.draw(&mut random);
        let durability = if random.random_bool(0.1) { Durability::Disk } else { Durability::Os };
        let receipt = ok(store.commit(&batch, durability).await);
        let mut duplicates = receipt.duplicates;
        duplicates.sort_unstable();
        assert_eq!(duplicates, model.apply(&batch), "seed {seed}, batch {step}");
        if random.random_bool(0.2) || step + 1 == batches {
            model.compare(&store, seed, step).await;
        }
    }
}

/// What a store must know, in the plainest form.
#[derive(Default)]
struct Model {
    messages: BTreeMap<MessageId, MessageRecord>,
    log_ids: HashSet<(DeviceKey, Box<str>)>,
    replies: BTreeMap<(DeviceKey, Offset), ReplyRecord>,
    delivered: HashMap<DeviceKey, Offset>,
    next_id: i64,
    next_offset: HashMap<i64, u64>,
}

const DEVICES: i64 = 5;
const LOG_IDS: i64 = 400;

impl Model {
    fn draw(&mut self, random: &mut StdRng) -> LedgerBatch {
        let mut batch = LedgerBatch::default();
        let size = *[0, 1, 2, 5, 40, 300].get(random.random_range(0..6)).unwrap_or(&1);
        for _ in 0..random.random_range(0..=size) {
            self.next_id += random.random_range(1..5_000);
            // Few log ids, so that some come twice, also within a batch.
            let log_id = random.random_range(0..LOG_IDS).to_string();
            let log_id = random.random_bool(0.8).then_some(&*log_id);
            let mut drawn = message(self.next_id, random.random_range(1..=DEVICES), log_id);
            if random.random_bool(0.1) {
                drawn.state = MessageState::Logged;
            }
            batch.accept.push(Arc::new(drawn));
        }
        let mut ends: Vec<MessageId> =
            batch.accept.iter().filter(|_| random.random_bool(0.3)).map(|m| m.id).collect();
        let pending = self.messages.values().filter(|m| m.state == MessageState::Pending);
        let of_before = pending.filter(|_| random.random_bool(0.5)).take(size);
        ends.extend(of_before.map(|m| m.id));
        for id in ends {
            let device = self.device_of(&batch, id);
            let state = match random.random_range(0..10) {
                0 => MessageState::Dead,
                1 => MessageState::Logged,
                _ => MessageState::Done,
            };
            let count = if state == MessageState::Done { random.random_range(0..3) } else { 0 };
            let replies = (0..count).map(|_| self.reply(device, Some(id.0))).collect();
            let mut settlement = settle(Some(id.0), state, replies);
            if state == MessageState::Dead {
                settlement.failure = format!("failure {id}").into();
            }
            batch.settle.push(settlement);
        }
        if random.random_bool(0.2) {
            let replies = vec![self.reply(random.random_range(1..=DEVICES), None)];
            batch.settle.push(settle(None, MessageState::Done, replies));
        }
        for device in 1..=DEVICES {
            if random.random_bool(0.3) {
                let newest = self.next_offset.get(&device).copied().unwrap_or(0);
                let offset = Offset(random.random_range(0..=newest));
                batch.delivered.push((DeviceKey(device), offset));
            }
        }
        batch
    }

    fn device_of(&self, batch: &LedgerBatch, id: MessageId) -> i64 {
        let accepted = batch.accept.iter().find(|message| message.id == id).map(|m| m.device.0);
        accepted.or_else(|| self.messages.get(&id).map(|m| m.device.0)).unwrap_or(1)
    }

    fn reply(&mut self, device: i64, message: Option<i64>) -> ReplyRecord {
        let offset = self.next_offset.entry(device).or_default();
        *offset += 1;
        reply(device, *offset, message)
    }

    /// The duplicates, by id.
    fn apply(&mut self, batch: &LedgerBatch) -> Vec<MessageId> {
        let mut duplicates = Vec::new();
        for message in &batch.accept {
            let is_new = match &message.log_id {
                Some(log_id) => self.log_ids.insert((message.device, log_id.clone())),
                None => true,
            };
            if is_new {
                self.messages.insert(message.id, MessageRecord::clone(message));
            } else {
                duplicates.push(message.id);
            }
        }
        for settlement in &batch.settle {
            if settlement.message.is_some_and(|id| duplicates.contains(&id)) {
                continue;
            }
            if let Some(message) = settlement.message.and_then(|id| self.messages.get_mut(&id)) {
                message.state = settlement.state;
                message.failure = settlement.failure.clone();
            }
            let replies = settlement.replies.iter();
            self.replies.extend(replies.map(|r| ((r.device, r.offset), r.clone())));
        }
        for (device, offset) in &batch.delivered {
            let known = self.delivered.entry(*device).or_default();
            *known = offset.max(known).to_owned();
        }
        duplicates.sort_unstable();
        duplicates
    }

    async fn compare(&self, store: &(impl Ledger + ChatLog), seed: u64, step: usize) {
        let found = ok(store.recover().await);
        let pending = self.messages.values().filter(|m| m.state == MessageState::Pending);
        let pending: Vec<MessageRecord> = pending.cloned().collect();
        assert_eq!(found.pending, pending, "seed {seed}, batch {step}");
        let undelivered = self.replies.values().filter(|reply| {
            reply.offset > self.delivered.get(&reply.device).copied().unwrap_or_default()
        });
        let undelivered: Vec<ReplyRecord> = undelivered.cloned().collect();
        assert_eq!(found.undelivered, undelivered, "seed {seed}, batch {step}");
        let highest = self.messages.keys().next_back().copied();
        assert_eq!(found.highest, highest, "seed {seed}, batch {step}");
        for (device, offset) in &found.offsets {
            let top = self.replies.keys().filter(|(of, _)| of == device).map(|key| key.1).max();
            assert_eq!(*offset, top.unwrap_or_default(), "seed {seed}, batch {step}");
        }
        if let Some(sample) = self.messages.values().nth(step % self.messages.len().max(1)) {
            assert_eq!(&ok(store.message(sample.id).await), sample, "seed {seed}, batch {step}");
            let replies = self.replies.values().filter(|r| r.message == Some(sample.id)).count();
            assert_eq!(ok(store.replies(sample.id).await).len(), replies, "seed {seed}");
        }
    }
}
