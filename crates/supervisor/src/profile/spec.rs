//! What the operator says: `[[ward]]`, `[wards]` and `[[notifier]]`, as they are written. Plain data; whether it is
//! right is asked in `check` and `resolve`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use toml::Table;

use super::read::Problem;
use super::units::{Secret, Size, Span, read_secret_file};
use crate::model::Severity;

/// One ward.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct WardSpec {
    /// Its name, a folder on any system.
    pub name: String,
    /// A shipped profile, or the path of one.
    pub profile: String,
    /// Program and arguments, instead of the profile's.
    pub command: Vec<String>,
    /// The folder it runs in.
    pub dir: Option<PathBuf>,
    /// Variables of its environment, besides the profile's.
    pub env: BTreeMap<String, String>,
    /// The user it runs as; only root may say so.
    pub user: Option<String>,
    /// Where it is asked.
    pub address: String,
    /// Its ports by what they are for.
    pub ports: BTreeMap<String, u16>,
    /// Its secrets by name; `NAME_file` names a file that holds one.
    pub secrets: BTreeMap<String, Secret>,
    /// A server that Naru did not start.
    pub attach: Option<AttachSpec>,
    /// Whether it is wanted up until somebody says otherwise.
    pub autostart: bool,
    /// When it is started again.
    pub restart: Restart,
    /// How it is stopped.
    pub stop: Stop,
    /// Its place among the processes of the machine.
    pub priority: Priority,
    /// Whether hangs are looked for.
    pub hang: HangSpec,
    /// What is done by the clock.
    pub schedule: Vec<ScheduleSpec>,
    /// What is copied, where to, for how long.
    pub backup: BackupSpec,
    /// The notifiers that are told; not given is all that want it.
    pub webhooks: Option<Vec<String>>,
    /// Whether it shows in `/metrics`.
    pub metrics: bool,
    /// What is kept of what it prints.
    pub console: ConsoleSpec,
    /// Laid over the profile, key by key.
    #[serde(rename = "override")]
    pub overrides: Table,
}

impl Default for WardSpec {
    fn default() -> WardSpec {
        WardSpec {
            name: String::new(),
            profile: "generic".to_owned(),
            command: Vec::new(),
            dir: None,
            env: BTreeMap::new(),
            user: None,
            address: "127.0.0.1".to_owned(),
            ports: BTreeMap::new(),
            secrets: BTreeMap::new(),
            attach: None,
            autostart: true,
            restart: Restart::default(),
            stop: Stop::default(),
            priority: Priority::default(),
            hang: HangSpec::default(),
            schedule: Vec::new(),
            backup: BackupSpec::default(),
            webhooks: None,
            metrics: true,
            console: ConsoleSpec::default(),
            overrides: Table::new(),
        }
    }
}

/// How a server is found that Naru did not start; exactly one of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AttachSpec {
    /// A file with its process id.
    pub pid_file: Option<PathBuf>,
    /// The name of its process.
    pub name: Option<String>,
    /// A port that it listens on.
    pub port: Option<u16>,
    /// A part of its command line.
    pub command: Option<String>,
}

/// When a ward is started again without being asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RestartOn {
    /// After a crash or a hang.
    #[default]
    Crash,
    /// After each exit that nobody ordered here.
    Always,
    /// Never.
    Never,
}

/// When a ward is started again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Restart {
    /// After what.
    pub on: RestartOn,
    /// How often within `within` before a person has to look.
    pub tries: u32,
    /// The window of `tries`.
    pub within: Span,
    /// The first pause; each further one is twice as long.
    pub backoff: Span,
    /// The longest pause.
    pub backoff_max: Span,
    /// Up for so long, and the pauses begin anew.
    pub stable_after: Span,
    /// Whether it is tried for ever.
    pub endless: bool,
}

impl Default for Restart {
    fn default() -> Restart {
        Restart {
            on: RestartOn::Crash,
            tries: 3,
            within: Span::seconds(600),
            backoff: Span::seconds(1),
            backoff_max: Span::seconds(60),
            stable_after: Span::seconds(300),
            endless: false,
        }
    }
}

/// How a ward is stopped.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stop {
    /// How long each rung but the last may take, instead of the profile's.
    pub wait: Option<Span>,
    /// When players are told how long is left, longest first.
    pub countdown: Vec<Span>,
    /// What they are told; `{left}` is filled in.
    pub message: String,
}

/// What players are told before a stop unless the operator says otherwise.
pub const STOP_MESSAGE: &str = "The server stops in {left}.";

/// A ward's place among the processes of the machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Priority {
    /// Niceness.
    pub nice: Option<i32>,
    /// The processors it may use, by number.
    pub cpus: Vec<u16>,
    /// How soon it is killed when memory runs out.
    pub oom_score: Option<i32>,
    /// What it may take in memory, where cgroups or job objects are to be had.
    pub memory_max: Option<Size>,
    /// Its share of the processors, where cgroups are to be had.
    pub cpu_weight: Option<u16>,
}

/// Whether hangs are looked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HangSpec {
    /// Whether.
    pub enabled: bool,
    /// How long it must not have answered.
    pub after: Span,
}

impl Default for HangSpec {
    fn default() -> HangSpec {
        HangSpec { enabled: true, after: Span::seconds(30) }
    }
}

/// What a schedule does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScheduledAction {
    /// Stop and start.
    #[default]
    Restart,
    /// Copy its files.
    Backup,
    /// Tell players something.
    Announce,
    /// Stop.
    Stop,
    /// Start.
    Start,
    /// Save.
    Save,
    /// A line to its console.
    Command,
}

/// Something that is done by the clock.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ScheduleSpec {
    /// Its name, unique in the ward.
    pub name: String,
    /// When, as a cron expression of five fields.
    pub cron: Option<String>,
    /// How often, counted from the start of the ward.
    pub every: Option<Span>,
    /// What.
    pub action: ScheduledAction,
    /// Only if.
    pub when: When,
    /// Instead of `stop.countdown`.
    pub countdown: Option<Vec<Span>>,
    /// What is announced.
    pub message: String,
    /// What is sent.
    pub command: String,
    /// An IANA name such as `Asia/Seoul`; empty takes the machine's.
    pub timezone: String,
}

/// Conditions; all that are given must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct When {
    /// Nobody plays.
    pub empty: bool,
    /// Fewer than so many play.
    pub players_below: Option<u32>,
    /// The game takes more than this.
    pub memory_above: Option<Size>,
    /// It has been up for longer.
    pub uptime_above: Option<Span>,
}

/// How a backup is packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackupFormat {
    /// A folder with copies.
    #[default]
    Folder,
    /// One compressed file.
    #[serde(rename = "tar.gz")]
    TarGz,
}

/// What is copied.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BackupSpec {
    /// Files and folders below `dir`; none makes no backups.
    pub paths: Vec<String>,
    /// Patterns of what is left out, with `*`.
    pub exclude: Vec<String>,
    /// How many are kept.
    pub keep: u32,
    /// Whether one is made before each restart.
    pub before_restart: bool,
    /// How they are packed.
    pub format: BackupFormat,
    /// Where they go; not given is the ward's own folder.
    pub dir: Option<PathBuf>,
}

impl Default for BackupSpec {
    fn default() -> BackupSpec {
        BackupSpec {
            paths: Vec::new(),
            exclude: Vec::new(),
            keep: 7,
            before_restart: false,
            format: BackupFormat::Folder,
            dir: None,
        }
    }
}

/// What is kept of what a ward prints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConsoleSpec {
    /// Lines in memory.
    pub lines: usize,
    /// The file that it prints into.
    pub file_max_bytes: Size,
    /// What is hidden, besides the ward's secrets.
    pub mask: Vec<String>,
}

impl Default for ConsoleSpec {
    fn default() -> ConsoleSpec {
        // 1,000 lines of 100 bytes are 100 KiB; the goal is 8 MiB for all of Naru.
        ConsoleSpec { lines: 1_000, file_max_bytes: Size(16 << 20), mask: Vec::new() }
    }
}

/// What holds for all wards.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct WardsSpec {
    /// Whether wards are looked after; not given is: if there are any.
    pub enabled: Option<bool>,
    /// Naru's own niceness when it does nothing but look after wards.
    pub nice: i32,
    /// Whether Naru's disk work waits for that of everybody else.
    pub idle_io: bool,
    /// Between two samples while the machine has time.
    pub sample_interval: Span,
    /// What looking after wards may cost.
    pub budget: Budget,
    /// How long figures and events are kept.
    pub retention: WardRetention,
    /// From where on the machine counts as busy or full.
    pub thresholds: Thresholds,
}

impl Default for WardsSpec {
    fn default() -> WardsSpec {
        WardsSpec {
            enabled: None,
            nice: 10,
            idle_io: true,
            sample_interval: Span::seconds(1),
            budget: Budget::default(),
            retention: WardRetention::default(),
            thresholds: Thresholds::default(),
        }
    }
}

/// What looking after wards may cost; beyond it samples become rarer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Budget {
    /// Processor time in an hour. Guessed: ten times the goal for three wards.
    pub cpu_per_hour: Span,
    /// Memory of the process.
    pub memory: Size,
    /// Bytes written in an hour.
    pub writes_per_hour: Size,
}

impl Default for Budget {
    fn default() -> Budget {
        Budget {
            cpu_per_hour: Span::seconds(10),
            memory: Size(64 << 20),
            writes_per_hour: Size(8 << 20),
        }
    }
}

/// How long figures and events are kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct WardRetention {
    /// Samples as they were taken.
    pub samples: Span,
    /// Means and peaks of minutes.
    pub minutes: Span,
    /// Means and peaks of hours.
    pub hours: Span,
    /// What happened: starts, exits, actions, players.
    pub events: Span,
}

impl Default for WardRetention {
    fn default() -> WardRetention {
        const DAY: u64 = 86_400;
        WardRetention {
            samples: Span::seconds(DAY),
            minutes: Span::seconds(30 * DAY),
            hours: Span::seconds(400 * DAY),
            events: Span::seconds(90 * DAY),
        }
    }
}

/// From where on the machine counts as busy or full, in per cent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Thresholds {
    /// Samples become rarer.
    pub cpu_high: u8,
    /// And rarer still.
    pub cpu_critical: u8,
    /// Caches are shed.
    pub memory_high: u8,
    /// Somebody is told.
    pub memory_critical: u8,
}

impl Default for Thresholds {
    fn default() -> Thresholds {
        Thresholds { cpu_high: 70, cpu_critical: 90, memory_high: 80, memory_critical: 90 }
    }
}

/// What a notifier speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NotifierKind {
    /// Discord's webhooks.
    Discord,
    /// Slack's webhooks.
    Slack,
    /// JSON of our own, signed if there is a secret.
    #[default]
    Generic,
}

/// Somebody who is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NotifierSpec {
    /// Its name.
    pub name: String,
    /// What it speaks.
    pub kind: NotifierKind,
    /// Where; such addresses are secrets.
    pub url: Secret,
    /// A file that holds it.
    pub url_file: Option<PathBuf>,
    /// Signs what a generic one is told.
    pub secret: Secret,
    /// A file that holds it.
    pub secret_file: Option<PathBuf>,
    /// Kinds of events; none is all.
    pub events: Vec<String>,
    /// Wards; none is all.
    pub wards: Vec<String>,
    /// What matters less is not told.
    pub min_severity: Severity,
}

impl NotifierSpec {
    /// Its address and its secret, those in files read. Blocking.
    pub fn secrets(&self) -> Result<(Secret, Secret), Vec<Problem>> {
        let mut problems = Vec::new();
        let mut read = |key: &str, file: &Option<PathBuf>, said: &Secret| match file {
            Some(file) => read_secret_file(file).unwrap_or_else(|message| {
                problems.push(Problem::new(key, message));
                Secret::default()
            }),
            None => said.clone(),
        };
        let url = read("url_file", &self.url_file, &self.url);
        let secret = read("secret_file", &self.secret_file, &self.secret);
        if problems.is_empty() { Ok((url, secret)) } else { Err(problems) }
    }
}

impl Default for NotifierSpec {
    fn default() -> NotifierSpec {
        NotifierSpec {
            name: String::new(),
            kind: NotifierKind::Generic,
            url: Secret::default(),
            url_file: None,
            secret: Secret::default(),
            secret_file: None,
            events: Vec::new(),
            wards: Vec::new(),
            min_severity: Severity::Info,
        }
    }
}
