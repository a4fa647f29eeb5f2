//! Records of bot work: devices, rooms, messages, replies, schedules, and what operators see of them.

use std::sync::Arc;
use std::time::Duration;

use crate::phone::{Approval, PhoneReply};
use crate::{BotName, DeviceId, DeviceKey, MessageId, Offset, RoomKey, ScheduleId, Timestamp};

/// A phone as the store knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceRecord {
    /// The store's number.
    pub key: DeviceKey,
    /// The bot it serves.
    pub bot: BotName,
    /// Its own id.
    pub device: DeviceId,
    /// Whether it may be answered.
    pub approval: Approval,
    /// Why, if an operator said so; at most 500 characters.
    pub approval_note: String,
    /// The largest frame it may send, in bytes; `None` means the gateway's limit.
    pub frame_bytes_max: Option<u32>,
    /// The script's version as announced last.
    pub version: String,
    /// As announced last.
    pub client_type: String,
    /// As announced last.
    pub device_info: String,
    /// The address the phone believed it had.
    pub device_ip: String,
    /// The address it last connected from.
    pub peer_ip: String,
    /// First contact.
    pub created_at: Timestamp,
    /// Last handshake.
    pub seen_at: Timestamp,
    /// Rises with every change by an operator; the API's ETag.
    pub revision: i64,
}

/// A room as the store knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomRecord {
    /// The store's number.
    pub key: RoomKey,
    /// The phone that sees it.
    pub device: DeviceKey,
    /// KakaoTalk's channel id.
    pub channel_id: Box<str>,
    /// Its name as heard last.
    pub name: Box<str>,
    /// Whether it may be answered.
    pub approval: Approval,
    /// Why, if an operator said so.
    pub approval_note: String,
    /// First message.
    pub created_at: Timestamp,
    /// Rises with every change by an operator.
    pub revision: i64,
}

/// Where a message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MessageState {
    /// Accepted, not worked off yet.
    Pending,
    /// Worked off; its replies, if any, are in the store.
    Done,
    /// Failed for good; an operator may replay it.
    Dead,
    /// Logged only: the device or the room is not approved, or nobody handles it.
    Logged,
}

impl MessageState {
    /// All states.
    pub const ALL: [MessageState; 4] =
        [MessageState::Pending, MessageState::Done, MessageState::Dead, MessageState::Logged];

    /// The name in the API.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            MessageState::Pending => "pending",
            MessageState::Done => "done",
            MessageState::Dead => "dead",
            MessageState::Logged => "logged",
        }
    }

    /// The state with this name.
    #[must_use]
    pub fn parse(label: &str) -> Option<MessageState> {
        MessageState::ALL.into_iter().find(|state| state.label() == label)
    }
}

/// A chat message in the store: the log of what was said and the inbox of what is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageRecord {
    /// Its number: rises with acceptance.
    pub id: MessageId,
    /// The phone.
    pub device: DeviceKey,
    /// The room; `None` when it came without a channel id.
    pub room: Option<RoomKey>,
    /// The room's name as announced with it.
    pub room_name: Arc<str>,
    /// KakaoTalk's channel id, or empty.
    pub channel_id: Arc<str>,
    /// KakaoTalk's log id. Unique per device: a second one is a duplicate.
    pub log_id: Option<Box<str>>,
    /// The sender's name.
    pub sender: Box<str>,
    /// Stands for the sender in this room.
    pub user_hash: Option<Box<str>>,
    /// The text.
    pub text: Box<str>,
    /// More than two members.
    pub is_group_chat: bool,
    /// The bot was mentioned.
    pub is_mention: bool,
    /// When the gateway read it.
    pub received_at: Timestamp,
    /// Where it stands.
    pub state: MessageState,
    /// Why it is dead, or empty.
    pub failure: Box<str>,
}

/// A reply in the store: one item of a device's stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplyRecord {
    /// The phone it goes to.
    pub device: DeviceKey,
    /// Its place in the device's stream; the first is 1.
    pub offset: Offset,
    /// The message it answers; `None` for schedules and operators' messages.
    pub message: Option<MessageId>,
    /// When it was made.
    pub at: Timestamp,
    /// What it says.
    pub reply: Arc<PhoneReply>,
}

/// How a message ended, with the replies to keep in the same transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// The message; `None` for replies that answer none (schedules, operators).
    pub message: Option<MessageId>,
    /// `Done`, `Dead` or `Logged`.
    pub state: MessageState,
    /// Why it is dead, or empty; at most 500 characters.
    pub failure: Box<str>,
    /// The replies, in order.
    pub replies: Vec<ReplyRecord>,
    /// The key that whoever asked for these replies gave, to be known as long as retention says.
    pub keyed: Option<KeyedSend>,
}

/// A send that was asked for with an idempotency key, and its result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyedSend {
    /// The phone; each has keys of its own.
    pub device: DeviceKey,
    /// 1 to 128 bytes.
    pub key: Box<str>,
    /// The place of the first reply in the device's stream.
    pub first: Offset,
    /// How many replies: they follow each other.
    pub count: u32,
    /// When it was sent.
    pub at: Timestamp,
}

impl KeyedSend {
    /// The places of its replies.
    #[must_use]
    pub fn offsets(&self) -> Vec<Offset> {
        (self.first.0..).take(self.count as usize).map(Offset).collect()
    }
}

/// What one commit of the ledger keeps: all of it or nothing.
#[derive(Clone, Debug, Default)]
pub struct LedgerBatch {
    /// Messages to accept, in order.
    pub accept: Vec<Arc<MessageRecord>>,
    /// Messages that ended. They may be among `accept` of the same batch.
    pub settle: Vec<Settlement>,
    /// Streams whose replies up to the offset were handed to the phone.
    pub delivered: Vec<(DeviceKey, Offset)>,
}

impl LedgerBatch {
    /// Whether there is nothing to keep.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.accept.is_empty() && self.settle.is_empty() && self.delivered.is_empty()
    }
}

/// What the commit found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LedgerReceipt {
    /// Messages of `accept` whose (device, log id) was known already; they were not kept. The
    /// settlements of such messages must be ignored by the caller's dispatch, too.
    pub duplicates: Vec<MessageId>,
}

/// What a start finds in the store.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// Messages accepted but not settled, in order of acceptance.
    pub pending: Vec<MessageRecord>,
    /// Replies not known to have been handed over, by device and offset.
    pub undelivered: Vec<ReplyRecord>,
    /// The last offset used in each device's stream.
    pub offsets: Vec<(DeviceKey, Offset)>,
    /// The highest message id in the store.
    pub highest: Option<MessageId>,
}

/// Which messages a list shows. All filters must hold.
#[derive(Clone, Debug, Default)]
pub struct MessageFilter {
    /// Only this bot's.
    pub bot: Option<BotName>,
    /// Only this phone's.
    pub device: Option<DeviceKey>,
    /// Only this room's.
    pub room: Option<RoomKey>,
    /// Only in this state.
    pub state: Option<MessageState>,
    /// Only with this text in it (at least 2 characters, compared without case in ASCII).
    pub search: Option<String>,
    /// Not before.
    pub from: Option<Timestamp>,
    /// Before.
    pub until: Option<Timestamp>,
}

/// One page of a list: rows after a key, at most `limit` of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// The key of the last row of the previous page; `None` for the first page.
    pub after: Option<i64>,
    /// 1 to `PAGE_ROWS_MAX`.
    pub limit: usize,
}

impl Default for Page {
    fn default() -> Page {
        Page { after: None, limit: crate::limits::PAGE_ROWS_DEFAULT }
    }
}

/// When a schedule sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recurrence {
    /// Once, at this moment.
    Once(Timestamp),
    /// Every day at these minutes after local midnight (0 to 1439), at least one.
    Daily(Vec<u16>),
    /// On these days (0 = Monday to 6 = Sunday) at these minutes after local midnight.
    Weekly {
        /// The days.
        days: Vec<u8>,
        /// The minutes of the day.
        minutes: Vec<u16>,
    },
    /// A cron expression with five fields.
    Cron(String),
}

/// A message that is sent by the clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// The store's number; 0 before it is kept.
    pub id: ScheduleId,
    /// A name for people; 1 to 200 characters.
    pub title: String,
    /// The phone that sends.
    pub device: DeviceKey,
    /// The room's name on that phone.
    pub room: String,
    /// The room's channel id: needed for pictures.
    pub channel_id: String,
    /// The text, or empty.
    pub text: String,
    /// Two groups of pictures (file bytes), each may be empty.
    pub images: [Vec<bytes::Bytes>; 2],
    /// How long the phone waits with each group; `None` lets the phone compute.
    pub media_wait: [Option<Duration>; 2],
    /// The pause between the two groups.
    pub group_pause: Duration,
    /// When.
    pub recurrence: Recurrence,
    /// An IANA time zone, such as `Asia/Seoul`.
    pub time_zone: String,
    /// Not before.
    pub valid_from: Option<Timestamp>,
    /// Not after.
    pub valid_until: Option<Timestamp>,
    /// Whether it is on.
    pub active: bool,
    /// The next moment to send; `None` when there is none any more.
    pub next_at: Option<Timestamp>,
    /// The last moment for which it was claimed.
    pub last_at: Option<Timestamp>,
    /// How often it was sent.
    pub sent_count: i64,
    /// Rises with every change.
    pub revision: i64,
}

/// How one sending of a schedule went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleRun {
    /// Its number in the log.
    pub id: i64,
    /// The schedule.
    pub schedule: ScheduleId,
    /// The moment it was due.
    pub due_at: Timestamp,
    /// The moment it was worked off.
    pub ran_at: Timestamp,
    /// `sent`, `missed`, or `failed`.
    pub outcome: String,
    /// Why, or empty.
    pub note: String,
}

/// One answered keep-alive.
#[derive(Clone, Debug, PartialEq)]
pub struct PingSample {
    /// The phone.
    pub device: DeviceKey,
    /// When the answer came.
    pub at: Timestamp,
    /// Round trip in milliseconds, if our stamp came back.
    pub round_trip_ms: Option<i64>,
    /// The phone's own figures.
    pub figures: crate::phone::KeepAlive,
}

/// One look at the machine and the process, each five minutes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SystemSample {
    /// When.
    pub at: Timestamp,
    /// This node's name.
    pub node: String,
    /// The machine's load, 0 to 100.
    pub cpu_percent: f64,
    /// This process's share, 0 to 100 times cores.
    pub process_cpu_percent: f64,
    /// The machine's memory, in bytes.
    pub memory_total: i64,
    /// Of it in use.
    pub memory_used: i64,
    /// This process's resident memory, in bytes.
    pub process_memory: i64,
    /// Use of the disk that holds the data folder, 0 to 100.
    pub disk_percent: f64,
    /// Open phone connections.
    pub connections: i64,
    /// Messages waiting for work.
    pub queued: i64,
}

/// A person or a program that may use the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRecord {
    /// Its number.
    pub id: i64,
    /// Whose it is; 1 to 128 characters.
    pub name: String,
    /// SHA-256 of the secret: the secret itself is never kept.
    pub hash: [u8; 32],
    /// `viewer`, `operator` or `admin`.
    pub role: Role,
    /// Only these bots; empty means all.
    pub bots: Vec<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last used, roughly (kept at most once a minute).
    pub used_at: Option<Timestamp>,
    /// When it ends; `None` is never.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

/// What somebody may do. Each role may do what the one before may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Look, with personal data masked.
    Viewer,
    /// Look at everything and run the bots.
    Operator,
    /// Everything, tokens and settings included.
    Admin,
}

impl Role {
    /// All roles.
    pub const ALL: [Role; 3] = [Role::Viewer, Role::Operator, Role::Admin];

    /// The name in configuration and API.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Operator => "operator",
            Role::Admin => "admin",
        }
    }

    /// The role with this name.
    #[must_use]
    pub fn parse(label: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.label() == label)
    }
}

/// A person's account: a name and the hash of a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The login name; 1 to 128 characters.
    pub name: String,
    /// A PHC string (argon2id).
    pub password_hash: String,
    /// What they may do.
    pub role: Role,
    /// When it was made.
    pub created_at: Timestamp,
}

/// One entry of the audit log, before it is chained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: String,
    /// From where (an address), or `local`.
    pub source: String,
    /// What, such as `device.approve`.
    pub action: String,
    /// On what, such as `device:12`.
    pub object: String,
    /// Details as JSON, without secrets; at most 4 KiB.
    pub detail: String,
}

/// An entry of the audit log with its place in the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainedAudit {
    /// Its number; the first is 1.
    pub id: i64,
    /// What happened.
    pub entry: AuditEntry,
    /// SHA-256 over the previous hash and this entry.
    pub hash: [u8; 32],
}

/// What verifying the audit log found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditVerdict {
    /// Entries looked at.
    pub entries: i64,
    /// The first entry whose hash does not follow from the one before, if any.
    pub broken_at: Option<i64>,
}
