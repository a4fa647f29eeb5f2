//! What has to reach somebody outside, kept until it did: the transactional outbox. It knows no HTTP and no
//! address: a message names its target, and the relay knows where that is.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::StoreError;
use crate::work::Page;
use crate::{Durability, Timestamp};

/// What may go first when too much waits for one target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Weight {
    /// Nobody acts on it.
    Info,
    /// Somebody acts on it: it leaves only when nothing lighter is left.
    Important,
}

/// One message for one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxMessage {
    /// Its name for receivers, the same in every attempt: 1 to [`OutboxMessage::ID_BYTES_MAX`] of
    /// `a-z`, `0-9` and `-`. Whoever makes the message gives it, so that putting again is safe.
    pub id: Arc<str>,
    /// Whom it is for: a name from the configuration, 1 to [`OutboxMessage::TARGET_BYTES_MAX`] bytes.
    pub target: Arc<str>,
    /// What may go first.
    pub weight: Weight,
    /// When it was made; it is too old a time after this.
    pub at: Timestamp,
    /// What is sent, at most [`OutboxMessage::BODY_BYTES_MAX`].
    pub body: Bytes,
}

impl OutboxMessage {
    /// The longest id.
    pub const ID_BYTES_MAX: usize = 64;
    /// The longest name of a target.
    pub const TARGET_BYTES_MAX: usize = 64;
    /// The longest body (guessed: four of the largest that Discord takes).
    pub const BODY_BYTES_MAX: usize = 64 * 1024;

    /// Whether it keeps its limits. A store refuses those that do not, as `Failed`.
    #[must_use]
    pub fn fits(&self) -> bool {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        (1..=Self::ID_BYTES_MAX).contains(&self.id.len())
            && self.id.chars().all(plain)
            && (1..=Self::TARGET_BYTES_MAX).contains(&self.target.len())
            && self.body.len() <= Self::BODY_BYTES_MAX
    }
}

/// New messages and how many of one target may wait. A plain value, so that the batches of other ports
/// can carry one: it is then kept in the same transaction as the change that it tells about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxBatch {
    /// In the order in which each target gets them.
    pub messages: Vec<OutboxMessage>,
    /// How many may wait for one target, at least 1. Beyond it the oldest of the lightest leave.
    pub waiting_max: usize,
}

impl OutboxBatch {
    /// How many may wait unless said otherwise (guessed: a day of one notice a minute and a half).
    pub const WAITING_MAX: usize = 1_000;

    /// How many dead ones are kept for each target: the newest.
    pub const DEAD_MAX: usize = 1_000;

    /// These messages with the usual limit.
    #[must_use]
    pub fn new(messages: Vec<OutboxMessage>) -> OutboxBatch {
        OutboxBatch { messages, waiting_max: OutboxBatch::WAITING_MAX }
    }
}

/// Messages of one target that left unsent because too many waited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxDropped {
    /// Whose.
    pub target: Arc<str>,
    /// How many left now.
    pub count: u64,
    /// Whether they are the first since something was delivered to the target: the one time to tell of.
    pub is_first: bool,
}

/// What became of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutboxReceipt {
    /// How many were new. Those whose id was known are left out.
    pub added: usize,
    /// What had to leave, a row for each target.
    pub dropped: Vec<OutboxDropped>,
}

/// A message that waits for its turn, or is dead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptOutbox {
    /// Its place: rises in the order of each target.
    pub place: i64,
    /// The message.
    pub message: OutboxMessage,
    /// How often sending failed.
    pub attempts: u32,
    /// Not before this moment.
    pub next_at: Timestamp,
    /// What the last attempt failed with; empty before the first.
    pub failure: Arc<str>,
}

/// What became of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutboxEnd {
    /// The target has it.
    Delivered,
    /// Again, not before this moment.
    Again(Timestamp),
    /// Never again, until somebody says so.
    Dead,
}

/// One attempt's end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxResult {
    /// Which message.
    pub id: Arc<str>,
    /// How often sending failed by now.
    pub attempts: u32,
    /// What happened, at most [`OutboxResult::FAILURE_BYTES_MAX`] bytes; stores cut it.
    pub failure: Arc<str>,
    /// What follows.
    pub end: OutboxEnd,
}

impl OutboxResult {
    /// How much of a failure is kept.
    pub const FAILURE_BYTES_MAX: usize = 300;
}

/// How things stand with one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxCounts {
    /// Which.
    pub target: Arc<str>,
    /// Messages that wait.
    pub waiting: u64,
    /// Dead ones.
    pub dead: u64,
    /// Dropped for good since the store was made.
    pub dropped: u64,
    /// When the first one of the line may be sent; `None` if none waits.
    pub next_at: Option<Timestamp>,
    /// When the first one of the line was made.
    pub oldest_at: Option<Timestamp>,
}

/// Messages to the outside that outlive the process.
///
/// At least once: a message stays until it was settled, so that a relay which dies in between sends it again
/// under the same id. In order per target: the second is never given before the first was delivered, died
/// or was dropped. Any part may put messages; one relay takes them.
#[async_trait]
pub trait Outbox: Send + Sync + 'static {
    /// Keeps the whole batch in one transaction, as durable as asked, or nothing of it. Idempotent by id for
    /// as long as the message is kept, so that a retry is safe.
    async fn put(
        &self,
        batch: &OutboxBatch,
        durability: Durability,
    ) -> Result<OutboxReceipt, StoreError>;

    /// The first messages of this target's line, in order, at most `limit`; none while the first one has to
    /// wait.
    async fn due(
        &self,
        target: &str,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<KeptOutbox>, StoreError>;

    /// Keeps what became of attempts, in one transaction. Those of unknown or dead messages change nothing.
    async fn settle(&self, results: &[OutboxResult]) -> Result<(), StoreError>;

    /// All targets that have or had messages, by name.
    async fn counts(&self) -> Result<Vec<OutboxCounts>, StoreError>;

    /// Dead messages of one target or all, by place; `page.after` is the place of the last one seen.
    async fn dead(&self, target: Option<&str>, page: Page) -> Result<Vec<KeptOutbox>, StoreError>;

    /// Puts a dead message at the end of its target's line, as fresh as at `now`, under its id. `NotFound`
    /// if it is not dead.
    async fn replay(&self, id: &str, now: Timestamp) -> Result<(), StoreError>;

    /// Forgets a dead message. `NotFound` if it is not dead.
    async fn forget(&self, id: &str) -> Result<(), StoreError>;

    /// Forgets dead messages made before then, at most `limit`; says how many.
    async fn forget_dead(&self, before: Timestamp, limit: usize) -> Result<usize, StoreError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_limits() {
        let good = OutboxMessage {
            id: Arc::from("a-1"),
            target: Arc::from("discord"),
            weight: Weight::Info,
            at: Timestamp(1),
            body: Bytes::from_static(b"{}"),
        };
        assert!(good.fits());
        for id in ["", "A", "a b", "a\r\nx: y", &"x".repeat(65)] {
            assert!(!OutboxMessage { id: Arc::from(id), ..good.clone() }.fits(), "{id}");
        }
        for target in ["", &"x".repeat(65)] {
            assert!(!OutboxMessage { target: Arc::from(target), ..good.clone() }.fits());
        }
        let body = Bytes::from(vec![b'x'; OutboxMessage::BODY_BYTES_MAX + 1]);
        assert!(!OutboxMessage { body, ..good }.fits());
    }
}
