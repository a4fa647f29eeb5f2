//! Work queues: each message goes to one consumer, and to another one if that does not finish it. A
//! [`Queue`] is plain data changed by plain functions; [`Queues`] puts a lock and wake-ups around them, and
//! a group commit beside them for messages that have to outlive the process. It knows no wire protocol and
//! no database; who may send and listen, and what is to be kept how, is decided elsewhere.
//!
//! Consumers take: one that has room says so by [`Consumer::take`], gets the oldest message, and is woken
//! in turn when there are more. So the slow get less, and nobody holds what another could do.

mod keeper;
mod metrics;
mod notes;
mod queues;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use naru_domain::{Epoch, Publication, WorkNumber};
use tokio::time::Instant;

pub use metrics::QueueMetrics;
pub use queues::{Consumer, DeadLetter, Queues, WakeConsumer};

/// What a message costs in memory besides its bytes (guessed: its entry, its place in a tree, the
/// allocations of its headers).
const ENTRY_BYTES: usize = 256;

/// The bounds of queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLimits {
    /// Messages that may be in one queue, whether they wait, are in work or are given up.
    pub count_max: usize,
    /// The same in bytes.
    pub bytes_max: usize,
    /// Bytes in all queues together, with what each message costs besides.
    pub total_bytes_max: usize,
    /// How often a message is delivered before it is given up.
    pub deliveries_max: u32,
    /// How long a consumer may take for one.
    pub work_time_max: Duration,
    /// Queues at a time.
    pub queues_max: usize,
    /// How long an idempotency key is known.
    pub keys_age_max: Duration,
    /// How many keys are known.
    pub keys_count_max: usize,
    /// Messages that wait for a group commit; senders wait for room.
    pub commit_queue_max: usize,
    /// Messages in one group commit.
    pub commit_count_max: usize,
    /// How long the store may take for one.
    pub store_timeout: Duration,
    /// How long deliveries and ends of messages may be ahead of what the store knows of them, unless
    /// somebody waits for it. What happens in that time before a crash is delivered again.
    pub note_delay: Duration,
}

impl Default for QueueLimits {
    fn default() -> QueueLimits {
        QueueLimits {
            count_max: 10_000,
            bytes_max: 64 * 1024 * 1024,
            total_bytes_max: 512 * 1024 * 1024,
            deliveries_max: 5,
            work_time_max: Duration::from_secs(1_800),
            queues_max: 10_000,
            keys_age_max: Duration::from_secs(600),
            keys_count_max: 100_000,
            commit_queue_max: 4_096,
            commit_count_max: 512,
            store_timeout: Duration::from_secs(10),
            note_delay: Duration::from_millis(200),
        }
    }
}

/// A queue that can take no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the queue is full")]
pub struct QueueFull;

/// Something that the store does not keep: try again after a pause.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("work queues are not kept: {reason}")]
pub struct NotKept {
    /// What the store said, without data.
    pub reason: String,
}

/// Why a message is in no queue.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// There is no room.
    #[error(transparent)]
    Full(#[from] QueueFull),
    /// There is no telling whether it would outlive the process.
    #[error(transparent)]
    NotKept(#[from] NotKept),
}

/// A consumer of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConsumerId(u64);

/// A message in the hands of a consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// By what it is settled.
    pub number: WorkNumber,
    /// Which life of the server gave out the number: together they are the message's own for ever.
    pub life: Epoch,
    /// What it is.
    pub publication: Arc<Publication>,
    /// Which delivery this is; the first is 1. Deliveries of the last moments before a crash may be
    /// missing in it.
    pub delivery: u32,
    /// Somebody may have had it before.
    pub is_redelivered: bool,
    /// It is in the store.
    is_kept: bool,
}

/// What becomes of a message that is said to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// Nothing: it was not, or no longer, in these hands.
    Nothing,
    /// It is gone.
    Gone,
    /// It is gone from memory, and has to leave the store.
    GoneFromMemory,
}

/// A message of a queue.
#[derive(Debug)]
struct Entry {
    life: Epoch,
    publication: Arc<Publication>,
    deliveries: u32,
    is_kept: bool,
    /// It comes out of the store, which need not know of all deliveries.
    is_loaded: bool,
}

#[derive(Debug)]
struct InWork {
    entry: Entry,
    consumer: ConsumerId,
    until: Instant,
}

/// One queue.
#[derive(Debug, Default)]
pub struct Queue {
    /// The oldest first; what comes back has its old place.
    ready: BTreeMap<WorkNumber, Entry>,
    in_work: BTreeMap<WorkNumber, InWork>,
    /// Given up: they stay until somebody else has them.
    dead: BTreeMap<WorkNumber, Entry>,
    /// Messages on their way through the store. Their bytes are counted.
    reserved: usize,
    bytes: usize,
    /// Those who have room and were not woken since.
    waiting: VecDeque<ConsumerId>,
    consumers: usize,
}

impl Queue {
    /// Messages that wait, are in work, are given up, or are being kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ready.len() + self.in_work.len() + self.dead.len() + self.reserved
    }

    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// About how much memory it takes.
    fn weight(&self) -> usize {
        self.bytes + self.len() * ENTRY_BYTES
    }

    /// Makes room for a message of this size, or says that there is none.
    pub fn reserve(&mut self, bytes: usize, limits: &QueueLimits) -> Result<(), QueueFull> {
        if self.len() >= limits.count_max || self.bytes + bytes > limits.bytes_max {
            return Err(QueueFull);
        }
        self.reserved += 1;
        self.bytes += bytes;
        Ok(())
    }

    /// The message does not come.
    pub fn release(&mut self, bytes: usize) {
        self.reserved -= 1;
        self.bytes -= bytes;
    }

    /// The message that room was made for is there. Numbers rise.
    fn fill(&mut self, number: WorkNumber, entry: Entry) {
        self.reserved -= 1;
        self.ready.insert(number, entry);
    }

    /// A message of an earlier life, for which there is room whatever the limits say by now.
    fn restore(&mut self, number: WorkNumber, entry: Entry, limits: &QueueLimits) {
        self.bytes += entry.publication.size_bytes();
        self.put_back(number, entry, limits);
    }

    /// The oldest message that nobody has. Whoever asks has room for more, and stands in line for it.
    pub fn take(
        &mut self,
        consumer: ConsumerId,
        now: Instant,
        limits: &QueueLimits,
    ) -> Option<Taken> {
        if !self.waiting.contains(&consumer) {
            self.waiting.push_back(consumer);
        }
        let (number, mut entry) = self.ready.pop_first()?;
        entry.deliveries = entry.deliveries.saturating_add(1);
        let taken = Taken {
            number,
            life: entry.life,
            publication: Arc::clone(&entry.publication),
            delivery: entry.deliveries,
            is_redelivered: entry.is_loaded || entry.deliveries > 1,
            is_kept: entry.is_kept,
        };
        let until = now + limits.work_time_max;
        self.in_work.insert(number, InWork { entry, consumer, until });
        Some(taken)
    }

    /// Who is to be woken now.
    pub fn next_to_wake(&mut self) -> Option<ConsumerId> {
        if self.ready.is_empty() { None } else { self.waiting.pop_front() }
    }

    /// The consumer has no room: it is not woken before it asks again.
    pub fn step_back(&mut self, consumer: ConsumerId) {
        self.waiting.retain(|each| *each != consumer);
    }

    /// The message is done.
    pub fn consumed(&mut self, consumer: ConsumerId, number: WorkNumber) -> Settled {
        let entry = self.take_back(consumer, number);
        self.forget(entry)
    }

    /// The consumer does not want it. False if it was not its any more.
    pub fn refused(
        &mut self,
        consumer: ConsumerId,
        number: WorkNumber,
        limits: &QueueLimits,
    ) -> bool {
        let entry = self.take_back(consumer, number);
        let is_its = entry.is_some();
        if let Some(entry) = entry {
            self.put_back(number, entry, limits);
        }
        is_its
    }

    /// The consumer has gone: what it had goes back to its places.
    pub fn gone(&mut self, consumer: ConsumerId, limits: &QueueLimits) {
        self.step_back(consumer);
        self.give_back(limits, |work| work.consumer == consumer);
    }

    /// Takes away what is in work for too long.
    pub fn expire(&mut self, now: Instant, limits: &QueueLimits) {
        self.give_back(limits, |work| work.until <= now);
    }

    /// Somebody else has what was given up.
    pub fn buried(&mut self, number: WorkNumber) -> Settled {
        let entry = self.dead.remove(&number);
        self.forget(entry)
    }

    fn forget(&mut self, entry: Option<Entry>) -> Settled {
        let Some(entry) = entry else { return Settled::Nothing };
        self.bytes -= entry.publication.size_bytes();
        if entry.is_kept { Settled::GoneFromMemory } else { Settled::Gone }
    }

    fn give_back(&mut self, limits: &QueueLimits, is_it: impl Fn(&InWork) -> bool) {
        let theirs = self.in_work.iter().filter(|(_, work)| is_it(work));
        let numbers: Vec<WorkNumber> = theirs.map(|(number, _)| *number).collect();
        for number in numbers {
            if let Some(work) = self.in_work.remove(&number) {
                self.put_back(number, work.entry, limits);
            }
        }
    }

    fn take_back(&mut self, consumer: ConsumerId, number: WorkNumber) -> Option<Entry> {
        let is_its = self.in_work.get(&number).is_some_and(|work| work.consumer == consumer);
        is_its.then(|| self.in_work.remove(&number)).flatten().map(|work| work.entry)
    }

    fn put_back(&mut self, number: WorkNumber, entry: Entry, limits: &QueueLimits) {
        let is_dead = entry.deliveries >= limits.deliveries_max;
        let place = if is_dead { &mut self.dead } else { &mut self.ready };
        place.insert(number, entry);
    }
}
