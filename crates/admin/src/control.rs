//! The operator's actions that the API calls, as one object-safe trait, so that the API can be tested
//! without bots or a hub. Reads of what is stored do not go through here but to the store's ports.

use std::time::Duration;

use async_trait::async_trait;
use naru_domain::ports::StoreError;
use naru_domain::work::{DeviceRecord, RoomRecord, Schedule};
use naru_domain::{
    Approval, BotName, DeviceKey, MessageId, Offset, ReplyBody, RoomKey, ScheduleId, SessionId,
    Timestamp,
};

/// Why an action was not done, split by what the caller does about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// The store said no; see there.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What was asked for makes no sense: correct it. The text says why, for people.
    #[error("{0}")]
    Invalid(String),
    /// The other side is not in a state for this: look again.
    #[error("{0}")]
    Conflict(String),
    /// It cannot be done now: try again after a pause. The text says why, without secrets.
    #[error("{0}")]
    Unavailable(String),
}

/// A message by an operator or a program.
#[derive(Clone, Debug)]
pub struct SendRequest {
    /// The phone that sends it.
    pub device: DeviceKey,
    /// The room's channel id; needed for media, else may be empty.
    pub channel_id: String,
    /// The room's name.
    pub room: String,
    /// What it says.
    pub body: ReplyBody,
    /// A retry with the same key sends nothing and returns the first result.
    pub idempotency_key: Option<String>,
}

/// What a reload found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// Devices read again.
    pub devices: usize,
    /// Rooms read again.
    pub rooms: usize,
    /// Bots whose settings were read again.
    pub bots: usize,
}

/// What the workers do.
#[derive(Clone, Debug, Default)]
pub struct QueueState {
    /// Messages waiting for a worker.
    pub depth: usize,
    /// How many may wait.
    pub capacity: usize,
    /// Messages in work.
    pub in_work: usize,
    /// Of them those whose handlers only wait, and hold no worker.
    pub parked: usize,
    /// Whether the store takes messages.
    pub is_store_healthy: bool,
    /// One entry a worker.
    pub workers: Vec<WorkerState>,
}

/// What one worker does.
#[derive(Clone, Debug, Default)]
pub struct WorkerState {
    /// The message in work; `None` means idle.
    pub message: Option<MessageId>,
    /// The bot it belongs to.
    pub bot: Option<String>,
    /// How long it has been in work.
    pub busy_for: Option<Duration>,
    /// Whether that is longer than a handler may take.
    pub is_stuck: bool,
}

/// One session of the hub as operators see it.
#[derive(Clone, Debug)]
pub struct SessionState {
    /// Its number.
    pub id: SessionId,
    /// What it belongs to, such as `phone:12`.
    pub key: String,
    /// For people, such as `demo-bot/0123456789abcdef`.
    pub label: String,
    /// What kind of party, such as `phone`.
    pub kind: String,
    /// `active`, `suspended` or `closed`.
    pub state: String,
    /// How often it was attached.
    pub generation: u64,
    /// The address of the connection, if there is one.
    pub peer: Option<String>,
    /// When the connection came.
    pub connected_at: Option<Timestamp>,
    /// Deliveries waiting for the reader.
    pub queued: usize,
    /// Their bytes.
    pub queued_bytes: usize,
    /// Up to where the stream was handed over.
    pub handed_over: Offset,
    /// The number of the next delivery.
    pub next_offset: Offset,
}

/// What operators do to bots and sessions.
#[async_trait]
pub trait Control: Send + Sync + 'static {
    /// Decides about a phone; acts at once on a connected one.
    async fn set_device_approval(
        &self,
        device: DeviceKey,
        approval: Approval,
        note: &str,
        revision: Option<i64>,
    ) -> Result<DeviceRecord, ControlError>;

    /// Decides about a room; acts at once.
    async fn set_room_approval(
        &self,
        room: RoomKey,
        approval: Approval,
        note: &str,
        revision: Option<i64>,
    ) -> Result<RoomRecord, ControlError>;

    /// Limits the frames of one phone; `None` removes the limit.
    async fn set_device_frame_limit(
        &self,
        device: DeviceKey,
        frame_bytes_max: Option<u32>,
    ) -> Result<DeviceRecord, ControlError>;

    /// Replaces a bot's settings (a JSON document) and returns the new revision.
    async fn set_settings(
        &self,
        bot: &BotName,
        document: &str,
        revision: i64,
    ) -> Result<i64, ControlError>;

    /// Reads approvals and settings again from the store.
    async fn reload(&self) -> Result<Reloaded, ControlError>;

    /// Sends a message. The offsets are its places in the phone's stream.
    async fn send(&self, request: SendRequest) -> Result<Vec<Offset>, ControlError>;

    /// Answers a message after its handler has ended.
    async fn reply_later(
        &self,
        message: MessageId,
        replies: Vec<ReplyBody>,
        key: Option<String>,
    ) -> Result<Vec<Offset>, ControlError>;

    /// Works off a dead message once more. `NotFound` if it is not dead.
    async fn replay(&self, message: MessageId) -> Result<(), ControlError>;

    /// What the workers do right now.
    fn queue(&self) -> QueueState;

    /// Sessions after this one, by number.
    fn sessions(&self, after: Option<SessionId>, limit: usize) -> Vec<SessionState>;

    /// One session.
    fn session(&self, id: SessionId) -> Option<SessionState>;

    /// Ends the connection of a session. `false` if there was none.
    fn close_session(&self, id: SessionId) -> bool;

    /// Keeps a new schedule and starts it.
    async fn add_schedule(&self, schedule: Schedule) -> Result<Schedule, ControlError>;

    /// Replaces a schedule; its revision must be the current one.
    async fn update_schedule(&self, schedule: Schedule) -> Result<Schedule, ControlError>;

    /// Removes a schedule with its log.
    async fn remove_schedule(&self, id: ScheduleId) -> Result<(), ControlError>;

    /// Sends what a schedule says right now, whatever the clock says.
    async fn run_schedule_now(&self, id: ScheduleId) -> Result<(), ControlError>;
}
