//! What the installation decides about bot work, and the ports it runs on.

use std::sync::Arc;
use std::time::Duration;

use naru_domain::Durability;
use naru_domain::ports::{
    BotSettings, ChatLog, Devices, Ledger, Maintenance, Monitors, PurgeKind, Rooms, Schedules,
};
use naru_outbound::AddressGuard;

use crate::hook::HookBounds;
use crate::schedule::RunnerOptions;
use crate::scheduler::SchedulerLimits;

/// How messages are processed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Processing {
    /// Kept in the store before they are worked on: survives a crash.
    #[default]
    Queued,
    /// Worked on at once, nothing is kept but the log: the lowest latency.
    Direct,
}

/// What is decided about a device or a room at first contact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FirstContact {
    /// An operator decides.
    #[default]
    Manual,
    /// Approved. A phone that cannot tell its id is never approved.
    Auto,
}

/// How long rows are kept, per kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Each kind with its age in days; what is not named is kept for ever.
    pub days: Vec<(PurgeKind, u32)>,
    /// How often it runs.
    pub every: Duration,
    /// Rows per step.
    pub batch: usize,
    /// The pause between steps, so that others get to write.
    pub pause: Duration,
}

impl Default for Retention {
    fn default() -> Retention {
        Retention {
            days: vec![
                (PurgeKind::Messages, 90),
                (PurgeKind::Replies, 30),
                (PurgeKind::DeadLetters, 90),
                (PurgeKind::Pings, 7),
                (PurgeKind::SystemSamples, 30),
                (PurgeKind::ScheduleRuns, 90),
                (PurgeKind::SendKeys, 7),
            ],
            every: Duration::from_secs(3_600),
            batch: 1_000,
            pause: Duration::from_millis(50),
        }
    }
}

/// The options of bot work.
#[derive(Clone, Debug)]
pub struct BotsOptions {
    /// Queued or direct.
    pub processing: Processing,
    /// What "accepted" promises.
    pub durability: Durability,
    /// Workers.
    pub workers: usize,
    /// The bounds of the queue.
    pub limits: SchedulerLimits,
    /// The longest work on one message, its retries included.
    pub timeout: Duration,
    /// How often a handler is asked when it says that another try may help.
    pub attempts_max: u32,
    /// The pause before the second try; doubled for each further one.
    pub retry_pause: Duration,
    /// How often workers are looked at. A handler that keeps its thread for longer than this, without
    /// waiting once, is stuck.
    pub check_every: Duration,
    /// What is decided about devices at first contact.
    pub approve_devices: FirstContact,
    /// What is decided about rooms at first contact.
    pub approve_rooms: FirstContact,
    /// Whether direct mode keeps a log of the talk.
    pub direct_log: bool,
    /// Devices kept in memory.
    pub devices_max: usize,
    /// Messages of one phone that line up while a room is looked up.
    pub line_max: usize,
    /// The window of the duplicate filter.
    pub duplicate_window: Duration,
    /// The entries of the duplicate filter.
    pub duplicates_max: usize,
    /// Devices and rooms that nobody used for so long leave the memory.
    pub idle_max: Duration,
    /// The memory this process should stay below; 0 for no limit.
    pub memory_bytes_max: u64,
    /// How often the system is looked at.
    pub monitor_every: Duration,
    /// How often the positions of the phones' streams are kept.
    pub cursors_every: Duration,
    /// How long rows are kept.
    pub retention: Retention,
    /// This node's name in the monitor.
    pub node: String,
    /// The folder whose disk the monitor watches.
    pub data_dir: std::path::PathBuf,
    /// Which private addresses webhooks and links may reach.
    pub hook_guard: AddressGuard,
    /// The bounds of a bot's webhook where its settings name none.
    pub hook_bounds: HookBounds,
    /// Where webhooks send later replies, with `{id}` for the message's id.
    pub reply_url: Option<String>,
    /// A scheduled moment that was missed by at most this is still sent.
    pub schedule_catch_up: Duration,
}

impl Default for BotsOptions {
    fn default() -> BotsOptions {
        BotsOptions {
            processing: Processing::Queued,
            durability: Durability::Os,
            workers: 31,
            limits: SchedulerLimits::default(),
            timeout: Duration::from_secs(300),
            attempts_max: 3,
            retry_pause: Duration::from_secs(1),
            check_every: Duration::from_secs(60),
            approve_devices: FirstContact::Manual,
            approve_rooms: FirstContact::Manual,
            direct_log: false,
            devices_max: 100_000,
            line_max: 256,
            duplicate_window: Duration::from_secs(600),
            duplicates_max: 100_000,
            idle_max: Duration::from_secs(3_600),
            memory_bytes_max: 0,
            monitor_every: Duration::from_secs(300),
            cursors_every: Duration::from_secs(5),
            retention: Retention::default(),
            node: "naru".to_owned(),
            data_dir: std::path::PathBuf::from("."),
            hook_guard: AddressGuard::public_only(),
            hook_bounds: HookBounds::default(),
            reply_url: None,
            schedule_catch_up: RunnerOptions::default().catch_up,
        }
    }
}

/// The ports of the store that bot work uses; one adapter may be behind all of them.
#[derive(Clone)]
pub struct Ports {
    /// Messages and replies.
    pub ledger: Arc<dyn Ledger>,
    /// What was said.
    pub chat_log: Arc<dyn ChatLog>,
    /// Phones.
    pub devices: Arc<dyn Devices>,
    /// Rooms.
    pub rooms: Arc<dyn Rooms>,
    /// Settings per bot.
    pub settings: Arc<dyn BotSettings>,
    /// Schedules.
    pub schedules: Arc<dyn Schedules>,
    /// Figures over time.
    pub monitors: Arc<dyn Monitors>,
    /// Retention.
    pub maintenance: Arc<dyn Maintenance>,
}

impl Ports {
    /// All ports from one adapter.
    #[must_use]
    pub fn of<S>(store: &Arc<S>) -> Ports
    where
        S: Ledger + ChatLog + Devices + Rooms + BotSettings + Schedules + Monitors + Maintenance,
    {
        Ports {
            ledger: store.clone(),
            chat_log: store.clone(),
            devices: store.clone(),
            rooms: store.clone(),
            settings: store.clone(),
            schedules: store.clone(),
            monitors: store.clone(),
            maintenance: store.clone(),
        }
    }
}
