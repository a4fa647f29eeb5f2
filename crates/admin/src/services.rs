//! What the API stands on: the store's ports, the operator's actions, and what the binary knows about
//! itself. All of it is handed in; this crate opens nothing but its own listener.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use naru_domain::metrics::MetricSource;
use naru_domain::ports::{
    Accounts, Audit, Backend, BotSettings, ChatLog, Devices, Monitors, Rooms, Schedules, Tokens,
};
use naru_domain::{Clock, Timestamp};
use naru_hub::Hub;
use naru_hub::access::Namespaces;
use tokio_util::sync::CancellationToken;

use crate::control::Control;
use crate::doors::Doors;
use crate::health::Health;
use crate::ward_control::WardServices;

/// Channels and clients, for the server API.
#[derive(Clone)]
pub struct Chat {
    /// Where they live.
    pub hub: Hub,
    /// The application behind them, if there is one.
    pub backend: Option<Arc<dyn Backend>>,
    /// Their options.
    pub namespaces: Arc<ArcSwap<Namespaces>>,
    /// Publications of one answer.
    pub history_max: usize,
    /// What this life of the node is called.
    pub node_uid: String,
    /// The node's name.
    pub node_name: String,
    /// When it began.
    pub started: Instant,
    /// Ends what watches channels.
    pub stop: CancellationToken,
}

/// The store, one narrow port per concern. One adapter usually implements them all.
#[derive(Clone)]
pub struct Ports {
    /// Phones.
    pub devices: Arc<dyn Devices>,
    /// Rooms.
    pub rooms: Arc<dyn Rooms>,
    /// Settings per bot.
    pub bot_settings: Arc<dyn BotSettings>,
    /// What was said.
    pub chat_log: Arc<dyn ChatLog>,
    /// Schedules and their runs.
    pub schedules: Arc<dyn Schedules>,
    /// Figures over time.
    pub monitors: Arc<dyn Monitors>,
    /// Tokens for this API.
    pub tokens: Arc<dyn Tokens>,
    /// People.
    pub accounts: Arc<dyn Accounts>,
    /// What operators did.
    pub audit: Arc<dyn Audit>,
}

impl Ports {
    /// All ports from one adapter.
    pub fn of<S>(store: Arc<S>) -> Ports
    where
        S: Devices
            + Rooms
            + BotSettings
            + ChatLog
            + Schedules
            + Monitors
            + Tokens
            + Accounts
            + Audit,
    {
        Ports {
            devices: store.clone(),
            rooms: store.clone(),
            bot_settings: store.clone(),
            chat_log: store.clone(),
            schedules: store.clone(),
            monitors: store.clone(),
            tokens: store.clone(),
            accounts: store.clone(),
            audit: store,
        }
    }
}

/// One log category and what it shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CategoryLevel {
    /// Such as `naru::bridge`.
    pub category: String,
    /// `off`, `error`, `warn`, `info`, `debug` or `trace`.
    pub level: String,
}

/// A level for one bot or one session, for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FocusLevel {
    /// Whom it follows.
    pub focus: LogFocus,
    /// As in [`CategoryLevel`].
    pub level: String,
    /// When it ends.
    pub until: Timestamp,
}

/// Whom a log level follows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LogFocus {
    /// Everything about one bot.
    Bot(String),
    /// Everything about one session.
    Session(u64),
}

/// Why a log level was not set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogControlError {
    /// There is no such category.
    #[error("there is no such log category")]
    UnknownCategory,
    /// There is no such level.
    #[error("a level is one of off, error, warn, info, debug, trace")]
    UnknownLevel,
    /// Too many bots and sessions are followed already.
    #[error("too many bots and sessions are followed already")]
    TooMany,
}

/// Log levels that change while the program runs.
pub trait LogControl: Send + Sync + 'static {
    /// What every category shows.
    fn levels(&self) -> Vec<CategoryLevel>;

    /// Whom the log follows more closely right now.
    fn focused(&self) -> Vec<FocusLevel>;

    /// Sets a category's level until it is set again.
    fn set(&self, category: &str, level: &str) -> Result<(), LogControlError>;

    /// Follows one bot or session for a while.
    fn set_for(
        &self,
        focus: LogFocus,
        level: &str,
        duration: Duration,
    ) -> Result<(), LogControlError>;
}

/// What a node says about itself.
#[derive(Clone, Debug, Default)]
pub struct NodeDescription {
    /// The program's version.
    pub version: String,
    /// The node's name.
    pub node: String,
    /// When it started.
    pub started_at: Timestamp,
    /// Name and address of every listener.
    pub listeners: Vec<(String, String)>,
    /// How it works, such as (`processing`, `queued`). No secrets.
    pub modes: Vec<(String, String)>,
}

/// Everything the API stands on.
#[derive(Clone)]
pub struct Services {
    /// The store.
    pub ports: Ports,
    /// The operator's actions on bots and phones, if this node has any.
    pub control: Option<Arc<dyn Control>>,
    /// Log levels.
    pub logs: Arc<dyn LogControl>,
    /// What the probes ask.
    pub health: Arc<dyn Health>,
    /// Whose figures `/metrics` shows, besides those of this crate and the process.
    pub metrics: Vec<Arc<dyn MetricSource>>,
    /// What this node is.
    pub node: NodeDescription,
    /// Wall time.
    pub clock: Arc<dyn Clock>,
    /// Channels and clients, if this node has any.
    pub chat: Option<Chat>,
    /// The game servers of this machine, if this node looks after any.
    pub wards: Option<WardServices>,
    /// Other services behind the same listener.
    pub doors: Option<Arc<dyn Doors>>,
}
