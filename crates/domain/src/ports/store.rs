//! Store ports, one narrow trait per concern. One adapter implements them all over one pool.

use std::ops::RangeInclusive;
use std::sync::Arc;

use async_trait::async_trait;

use crate::phone::{Approval, PhoneHello};
use crate::work::{
    Account, AuditEntry, AuditVerdict, ChainedAudit, DeviceRecord, KeyedSend, LedgerBatch,
    LedgerReceipt, MessageFilter, MessageRecord, Page, PingSample, Recovered, ReplyRecord,
    RoomRecord, Schedule, ScheduleRun, SystemSample, TokenRecord,
};
use crate::{
    BotName, ChannelName, DeviceKey, Durability, Epoch, MessageId, Offset, Publication, RoomKey,
    ScheduleId, Timestamp, WorkNumber,
};

/// What can go wrong in the store, split by what the caller does about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Retry later: locked, no connection in time, or the statement took too long.
    #[error("the store is busy: {reason}")]
    Busy {
        /// What happened, without data.
        reason: String,
    },
    /// Nothing can be kept until somebody frees space.
    #[error("the disk is full: {reason}")]
    Full {
        /// What the engine said.
        reason: String,
    },
    /// The file cannot be written (rights, read-only folder or file system).
    #[error("the store cannot be written: {reason}")]
    ReadOnly {
        /// What the engine said, and the path.
        reason: String,
    },
    /// The file is damaged; restore a backup.
    #[error("the store is damaged: {reason}")]
    Corrupt {
        /// What the engine said, and the path.
        reason: String,
    },
    /// The row was changed by somebody else: read it again.
    #[error("the record was changed meanwhile")]
    Conflict,
    /// There is no such row.
    #[error("no such record")]
    NotFound,
    /// A defect: the statement or the schema is wrong.
    #[error("the store failed: {reason}")]
    Failed {
        /// What the engine said, without data.
        reason: String,
    },
}

/// Accepting messages and keeping what became of them, in group commits.
#[async_trait]
pub trait Ledger: Send + Sync + 'static {
    /// Keeps the whole batch in one transaction, as durable as asked, or nothing of it. A message
    /// whose (device, log id) is known is left out and named in the receipt; so are its settlements.
    async fn commit(
        &self,
        batch: &LedgerBatch,
        durability: Durability,
    ) -> Result<LedgerReceipt, StoreError>;

    /// What a start has to go on with. Bounded by what was pending; reads in pages.
    async fn recover(&self) -> Result<Recovered, StoreError>;

    /// Takes a dead message back to pending and returns it for dispatch. `NotFound` if it is not dead.
    async fn revive(&self, message: MessageId) -> Result<MessageRecord, StoreError>;

    /// What this phone was sent under this key, if retention still keeps the key. The first one counts.
    async fn keyed_send(
        &self,
        device: DeviceKey,
        key: &str,
    ) -> Result<Option<KeyedSend>, StoreError>;
}

/// Remembers what was handed to a phone's socket, faster than a database could: one small write to the
/// operating system before each write to a socket. It survives the death of the process.
pub trait DeliveryJournal: Send + Sync + 'static {
    /// The stream of `device` has been handed to its socket up to `offset` (from now on). Going back is
    /// allowed: a connection that ended before its bytes left corrects what was recorded.
    fn record(&self, device: DeviceKey, offset: Offset);
}

/// The log of what was said.
#[async_trait]
pub trait ChatLog: Send + Sync + 'static {
    /// Newest first; `page.after` is the id of the last row seen.
    async fn messages(
        &self,
        filter: &MessageFilter,
        page: Page,
    ) -> Result<Vec<MessageRecord>, StoreError>;

    /// One message.
    async fn message(&self, id: MessageId) -> Result<MessageRecord, StoreError>;

    /// The replies to one message, in order.
    async fn replies(&self, message: MessageId) -> Result<Vec<ReplyRecord>, StoreError>;

    /// The newest messages of a device that carry a log id, received since then: (log id, room, text
    /// hash are the caller's business). Used to warm the duplicate filter.
    async fn recent_log_ids(
        &self,
        since: Timestamp,
        limit: usize,
    ) -> Result<Vec<(DeviceKey, Box<str>)>, StoreError>;
}

/// Phones.
#[async_trait]
pub trait Devices: Send + Sync + 'static {
    /// The device of this hello: refreshed if known, else created with `initial`.
    async fn greet(
        &self,
        hello: &PhoneHello,
        initial: Approval,
        now: Timestamp,
    ) -> Result<DeviceRecord, StoreError>;

    /// One device.
    async fn device(&self, key: DeviceKey) -> Result<DeviceRecord, StoreError>;

    /// By key; `bot` and `approval` narrow it.
    async fn devices(
        &self,
        bot: Option<&BotName>,
        approval: Option<Approval>,
        page: Page,
    ) -> Result<Vec<DeviceRecord>, StoreError>;

    /// Changes the approval. `revision` must be the current one if given, else `Conflict`.
    async fn set_device_approval(
        &self,
        key: DeviceKey,
        approval: Approval,
        note: &str,
        revision: Option<i64>,
    ) -> Result<DeviceRecord, StoreError>;

    /// Changes the device's own frame limit (bytes); `None` removes it.
    async fn set_device_frame_limit(
        &self,
        key: DeviceKey,
        frame_bytes_max: Option<u32>,
    ) -> Result<DeviceRecord, StoreError>;
}

/// Rooms.
#[async_trait]
pub trait Rooms: Send + Sync + 'static {
    /// The room of this device with this channel id: its name refreshed if known, else created.
    async fn find_or_create_room(
        &self,
        device: DeviceKey,
        channel_id: &str,
        name: &str,
        initial: Approval,
        now: Timestamp,
    ) -> Result<RoomRecord, StoreError>;

    /// One room.
    async fn room(&self, key: RoomKey) -> Result<RoomRecord, StoreError>;

    /// By key; the filters narrow it.
    async fn rooms(
        &self,
        bot: Option<&BotName>,
        device: Option<DeviceKey>,
        approval: Option<Approval>,
        page: Page,
    ) -> Result<Vec<RoomRecord>, StoreError>;

    /// Changes the approval. `revision` must be the current one if given, else `Conflict`.
    async fn set_room_approval(
        &self,
        key: RoomKey,
        approval: Approval,
        note: &str,
        revision: Option<i64>,
    ) -> Result<RoomRecord, StoreError>;
}

/// Settings per bot: one JSON document each, with a revision.
#[async_trait]
pub trait BotSettings: Send + Sync + 'static {
    /// The bot's document, created from `initial` at first contact.
    async fn bot_settings(
        &self,
        bot: &BotName,
        initial: &str,
        now: Timestamp,
    ) -> Result<(String, i64), StoreError>;

    /// All bots by name with documents and revisions; `after` is the last name seen.
    async fn bots(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, String, i64)>, StoreError>;

    /// Replaces the document. `revision` must be the current one, else `Conflict`.
    async fn set_bot_settings(
        &self,
        bot: &BotName,
        document: &str,
        revision: i64,
    ) -> Result<i64, StoreError>;
}

/// Schedules and the log of their runs.
#[async_trait]
pub trait Schedules: Send + Sync + 'static {
    /// Keeps a new schedule (its id and revision are ignored).
    async fn add_schedule(&self, schedule: &Schedule) -> Result<Schedule, StoreError>;

    /// Replaces one. `schedule.revision` must be the current one, else `Conflict`.
    async fn update_schedule(&self, schedule: &Schedule) -> Result<Schedule, StoreError>;

    /// Removes one with its log.
    async fn remove_schedule(&self, id: ScheduleId) -> Result<(), StoreError>;

    /// One schedule.
    async fn schedule(&self, id: ScheduleId) -> Result<Schedule, StoreError>;

    /// By id.
    async fn schedules(&self, page: Page) -> Result<Vec<Schedule>, StoreError>;

    /// Active ones due at or before `now`, oldest first.
    async fn due_schedules(
        &self,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<Schedule>, StoreError>;

    /// Claims one run: succeeds for exactly one caller per `due_at` (`Ok(false)` for all others). Sets
    /// the last moment, counts, and moves on to `next_at` in the same step.
    async fn claim_schedule(
        &self,
        id: ScheduleId,
        due_at: Timestamp,
        next_at: Option<Timestamp>,
    ) -> Result<bool, StoreError>;

    /// Logs a run.
    async fn log_schedule_run(&self, run: &ScheduleRun) -> Result<(), StoreError>;

    /// The runs of one schedule, newest first; `page.after` is the id of the last row seen.
    async fn schedule_runs(
        &self,
        id: ScheduleId,
        page: Page,
    ) -> Result<Vec<ScheduleRun>, StoreError>;
}

/// Figures kept over time.
#[async_trait]
pub trait Monitors: Send + Sync + 'static {
    /// Keeps keep-alive answers.
    async fn add_pings(&self, samples: &[PingSample]) -> Result<(), StoreError>;

    /// A device's answers since then, oldest first, at most `limit`.
    async fn pings(
        &self,
        device: DeviceKey,
        since: Timestamp,
        limit: usize,
    ) -> Result<Vec<PingSample>, StoreError>;

    /// Keeps a look at the system.
    async fn add_system_sample(&self, sample: &SystemSample) -> Result<(), StoreError>;

    /// Looks since then, oldest first, at most `limit`.
    async fn system_samples(
        &self,
        since: Timestamp,
        limit: usize,
    ) -> Result<Vec<SystemSample>, StoreError>;
}

/// Tokens for the API. Only hashes are kept.
#[async_trait]
pub trait Tokens: Send + Sync + 'static {
    /// Keeps a token (its id is ignored) and returns its id.
    async fn add_token(&self, token: &TokenRecord) -> Result<i64, StoreError>;

    /// The token with this hash, revoked and expired ones included.
    async fn token_by_hash(&self, hash: &[u8; 32]) -> Result<Option<TokenRecord>, StoreError>;

    /// By id.
    async fn tokens(&self, page: Page) -> Result<Vec<TokenRecord>, StoreError>;

    /// Ends a token. Idempotent; `NotFound` if there is none.
    async fn revoke_token(&self, id: i64, now: Timestamp) -> Result<(), StoreError>;

    /// Notes that it was used.
    async fn touch_token(&self, id: i64, now: Timestamp) -> Result<(), StoreError>;
}

/// People's accounts.
#[async_trait]
pub trait Accounts: Send + Sync + 'static {
    /// Creates or replaces an account.
    async fn put_account(&self, account: &Account) -> Result<(), StoreError>;

    /// The account with this name.
    async fn account(&self, name: &str) -> Result<Option<Account>, StoreError>;

    /// By name; `after` is the last name seen.
    async fn accounts(&self, after: Option<&str>, limit: usize)
    -> Result<Vec<Account>, StoreError>;

    /// Removes one. `NotFound` if there is none.
    async fn remove_account(&self, name: &str) -> Result<(), StoreError>;
}

/// The audit log: append only, each entry chained to the one before by its hash.
#[async_trait]
pub trait Audit: Send + Sync + 'static {
    /// Appends an entry.
    async fn append_audit(&self, entry: &AuditEntry) -> Result<(), StoreError>;

    /// Newest first; `page.after` is the id of the last row seen.
    async fn audit(&self, page: Page) -> Result<Vec<ChainedAudit>, StoreError>;

    /// Walks the whole chain.
    async fn verify_audit(&self) -> Result<AuditVerdict, StoreError>;
}

/// A message of a work queue, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptWork {
    /// Its number, never that of another kept message. In each queue the order of numbers is the order.
    pub number: WorkNumber,
    /// Which life of a server gave out the number: together they are never used again.
    pub life: Epoch,
    /// Where it waits.
    pub queue: ChannelName,
    /// What it is. Its position means nothing and is not kept.
    pub publication: Arc<Publication>,
    /// How often it was delivered, as far as that was told.
    pub deliveries: u32,
}

/// An idempotency key that a message of a queue was sent with. It outlives the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkKey {
    /// The number of the message.
    pub number: WorkNumber,
    /// The queue in which the key counts.
    pub queue: ChannelName,
    /// The key.
    pub key: Arc<str>,
    /// When the message was sent.
    pub at: Timestamp,
}

/// What changes in the kept work queues: applied in the order of the fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkBatch {
    /// Numbers of messages whose adding had no clear end: they leave with their keys, as if they had
    /// never been added.
    pub withdraw: Option<RangeInclusive<u64>>,
    /// New messages. Those that were sent with a key have it kept, too.
    pub add: Vec<KeptWork>,
    /// How often messages were delivered by now.
    pub delivered: Vec<(WorkNumber, u32)>,
    /// Messages that are done. Their keys stay. One that is not there is done already.
    pub done: Vec<WorkNumber>,
    /// Keys of messages with smaller numbers are forgotten.
    pub forget_keys_below: Option<WorkNumber>,
}

/// Work queues that outlive the process.
#[async_trait]
pub trait WorkQueues: Send + Sync + 'static {
    /// Keeps the whole batch in one transaction, as durable as asked, or nothing of it. A call that
    /// nobody waits for any more takes effect before later calls, or not at all.
    async fn keep_work(
        &self,
        batch: Arc<WorkBatch>,
        durability: Durability,
    ) -> Result<(), StoreError>;

    /// Kept messages of all queues with numbers above `after`, by number, at most `limit`, and fewer if
    /// they are large. None only if there are no more.
    async fn load_work(&self, after: WorkNumber, limit: usize)
    -> Result<Vec<KeptWork>, StoreError>;

    /// Kept keys of messages with numbers above `after`, by number, at most `limit`.
    async fn load_work_keys(
        &self,
        after: WorkNumber,
        limit: usize,
    ) -> Result<Vec<WorkKey>, StoreError>;
}

/// What retention may remove.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PurgeKind {
    /// Settled messages (never pending or dead ones).
    Messages,
    /// Replies that were handed over.
    Replies,
    /// Dead messages.
    DeadLetters,
    /// Keep-alive samples.
    Pings,
    /// Looks at the system.
    SystemSamples,
    /// The log of schedules.
    ScheduleRuns,
    /// Keys of sends.
    SendKeys,
}

impl PurgeKind {
    /// All kinds.
    pub const ALL: [PurgeKind; 7] = [
        PurgeKind::Messages,
        PurgeKind::Replies,
        PurgeKind::DeadLetters,
        PurgeKind::Pings,
        PurgeKind::SystemSamples,
        PurgeKind::ScheduleRuns,
        PurgeKind::SendKeys,
    ];

    /// The name in configuration, metrics and logs.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            PurgeKind::Messages => "messages",
            PurgeKind::Replies => "replies",
            PurgeKind::DeadLetters => "dead_letters",
            PurgeKind::Pings => "pings",
            PurgeKind::SystemSamples => "system_samples",
            PurgeKind::ScheduleRuns => "schedule_runs",
            PurgeKind::SendKeys => "send_keys",
        }
    }
}

/// One migration and whether it was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigrationState {
    /// Its number.
    pub version: i64,
    /// What it does.
    pub name: String,
    /// Whether the database has it.
    pub applied: bool,
}

/// Looking after the store itself.
#[async_trait]
pub trait Maintenance: Send + Sync + 'static {
    /// Removes at most `limit` rows of `kind` older than `before`; says how many went. The caller
    /// repeats until it gets fewer than `limit`, pausing between, so that writers get their turn.
    async fn purge(
        &self,
        kind: PurgeKind,
        before: Timestamp,
        limit: usize,
    ) -> Result<usize, StoreError>;

    /// A write and a read that show the store works; the error says what is wrong.
    async fn probe(&self) -> Result<(), StoreError>;
}
