//! A ward as it is put together of its profile and what the operator said: checked, compiled, nothing left open.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use regex::bytes::Regex;

use super::format::{Cost, Protocol, Saves, StatusProtocol, Via};
use super::log::LogPatterns;
use super::read::Problem;
use super::spec::{BackupSpec, ConsoleSpec, Priority, Restart, ScheduleSpec};
use super::template::Text;
use super::units::Secret;
use crate::model::WardName;

/// A ward.
#[derive(Clone, Debug)]
pub struct Ward {
    /// Its name.
    pub name: WardName,
    /// The profile's name, as the operator wrote it.
    pub profile: String,
    /// The game's name for people.
    pub title: String,
    /// How it is started; `None` if it is only watched.
    pub launch: Option<Launch>,
    /// How it is found where Naru did not start it.
    pub attach: Option<Attach>,
    /// The folder it runs in.
    pub dir: PathBuf,
    /// Names of the process that is the game, behind a launcher; empty is what was started.
    pub process: Vec<String>,
    /// Its ports by what they are for.
    pub ports: BTreeMap<String, ResolvedPort>,
    /// Its secrets by name. The console hides them.
    pub secrets: BTreeMap<String, Secret>,
    /// Whether it is wanted up until somebody says otherwise.
    pub autostart: bool,
    /// When it counts as started.
    pub ready: ReadyRule,
    /// When it is started again.
    pub restart: Restart,
    /// The ladder, gentlest rung first; the last is always [`Means::Kill`].
    pub stop: Vec<Rung>,
    /// What players are told before a stop.
    pub countdown: Countdown,
    /// Ways to make it save, best first.
    pub save: Vec<SaveAct>,
    /// How its files are held still for a copy.
    pub hold: Option<HoldRule>,
    /// Ways to tell players something, best first.
    pub announce: Vec<Act>,
    /// What can be done about players.
    pub players: PlayerActs,
    /// Where its status comes from, best first.
    pub status: Vec<Source>,
    /// Its log files besides what it prints; the last part may have `*`.
    pub log_files: Vec<String>,
    /// What its log says. Each follower clones it.
    pub log: LogPatterns,
    /// How its exits are read.
    pub exit: ExitRules,
    /// When it counts as hanging; `None` if that is not looked for.
    pub hang: Option<HangRules>,
    /// Its saves by the clock.
    pub saves: Saves,
    /// What it costs as long as nothing has been measured.
    pub cost: Cost,
    /// Its place among the processes.
    pub priority: Priority,
    /// What is done by the clock.
    pub schedules: Vec<ScheduleSpec>,
    /// What is copied.
    pub backup: BackupSpec,
    /// The notifiers that are told; `None` is all that want it.
    pub webhooks: Option<Vec<String>>,
    /// Whether it shows in `/metrics`.
    pub metrics: bool,
    /// What is kept of what it prints.
    pub console: ConsoleSpec,
    /// An executable that stands in for a protocol.
    pub plugin: Option<PluginRule>,
    /// What somebody should change, although it runs without.
    pub warnings: Vec<Problem>,
    /// What was left out because it is not to be had here, such as RCON without its secret.
    pub left_out: Vec<Problem>,
}

/// How a game is started.
#[derive(Clone, PartialEq, Eq)]
pub struct Launch {
    /// The program.
    pub program: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// The folder it runs in.
    pub dir: PathBuf,
    /// Variables that are set besides the inherited ones.
    pub environment: Vec<(String, String)>,
    /// The user it runs as.
    pub user: Option<String>,
    /// Whether its standard input is held open for commands.
    pub stdin: bool,
    /// Written before it starts, readable for its user only.
    pub files: Vec<LaunchFile>,
}

// Arguments, environment and files may hold secrets.
impl fmt::Debug for Launch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Launch")
            .field("program", &self.program)
            .field("args", &self.args.len())
            .field("dir", &self.dir)
            .field("user", &self.user)
            .field("stdin", &self.stdin)
            .finish_non_exhaustive()
    }
}

/// A file that is written before a game starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaunchFile {
    /// Where.
    pub path: PathBuf,
    /// What stands in it.
    pub text: Secret,
}

/// How a server is found that Naru did not start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attach {
    /// By a file with its process id.
    PidFile(PathBuf),
    /// By the name of its process.
    Name(String),
    /// By a port that it listens on.
    Port(u16),
    /// By a part of its command line.
    Command(String),
}

/// A port with its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResolvedPort {
    /// The number.
    pub number: u16,
    /// What it speaks.
    pub protocol: Protocol,
}

/// When a game counts as started: at the first of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadyRule {
    /// A log line says so ([`super::LogEvent::Ready`]).
    pub by_log: bool,
    /// The first answer of a source of its status.
    pub by_answer: bool,
    /// How long it may take.
    pub deadline: Duration,
}

/// What stands between Naru and the game.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Means {
    /// Its standard input.
    Console,
    /// A protocol of the crate `games`.
    Net {
        /// Which: never console, plugin, signal or kill.
        via: Via,
        /// Where.
        at: SocketAddr,
        /// Empty where the protocol needs none.
        secret: Secret,
    },
    /// The plugin.
    Plugin,
    /// A signal to the game's process.
    Signal(Signal),
    /// The end of the whole process tree.
    Kill,
}

/// The signals of stop ladders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signal {
    /// SIGTERM.
    Terminate,
    /// SIGINT, as Ctrl-C sends it.
    Interrupt,
    /// SIGQUIT.
    Quit,
    /// SIGHUP.
    HangUp,
    /// Ctrl-Break, on Windows.
    CtrlBreak,
}

impl Signal {
    /// Reads a name such as `SIGTERM` or `ctrl-break`.
    #[must_use]
    pub fn parse(raw: &str) -> Option<Signal> {
        Some(match raw.to_ascii_uppercase().trim_start_matches("SIG") {
            "TERM" => Signal::Terminate,
            "INT" => Signal::Interrupt,
            "QUIT" => Signal::Quit,
            "HUP" => Signal::HangUp,
            "CTRL-BREAK" => Signal::CtrlBreak,
            _ => return None,
        })
    }

    /// The number on Linux; 0 for Ctrl-Break.
    #[must_use]
    pub fn number(self) -> i32 {
        match self {
            Signal::Terminate => 15,
            Signal::Interrupt => 2,
            Signal::Quit => 3,
            Signal::HangUp => 1,
            Signal::CtrlBreak => 0,
        }
    }
}

/// Something that is said to a game.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Act {
    /// How.
    pub means: Means,
    /// What.
    pub text: Text,
}

/// A rung of the ladder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rung {
    /// What is done.
    pub act: Act,
    /// How long it may take before the next rung.
    pub wait: Duration,
}

/// What players are told before a stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Countdown {
    /// How long is left each time, longest first; empty stops at once.
    pub steps: Vec<Duration>,
    /// With `{left}` in it, for [`Countdown::message`].
    pub template: String,
}

impl Countdown {
    /// What is said when so much is left.
    #[must_use]
    pub fn message(&self, left: Duration) -> String {
        let seconds = left.as_secs();
        let (count, unit) = match seconds {
            0..120 => (seconds, "second"),
            _ if seconds.is_multiple_of(3_600) => (seconds / 3_600, "hour"),
            _ => (seconds.div_ceil(60), "minute"),
        };
        let plural = if count == 1 { "" } else { "s" };
        self.template.replace("{left}", &format!("{count} {unit}{plural}"))
    }
}

/// How a game is made to save.
#[derive(Clone, Debug)]
pub struct SaveAct {
    /// What is said.
    pub act: Act,
    /// Whether a log line proves it ([`super::LogEvent::Saved`]).
    pub by_log: bool,
    /// Whether an event of the management protocol proves it.
    pub by_event: bool,
    /// What an answer that proves it looks like.
    pub by_answer: Option<Regex>,
    /// Files of which one becomes newer; the last part may have `*`.
    pub by_files: Option<String>,
    /// How long it may take.
    pub within: Duration,
}

/// How a game's files are held still for a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldRule {
    /// What is said first, in order.
    pub begin: Vec<Act>,
    /// What is said each second until the log says that the save is done.
    pub ask: Option<Act>,
    /// What is said when the copy is made, whatever became of it.
    pub end: Vec<Act>,
    /// How long it may take until the files are still.
    pub within: Duration,
}

/// What can be done about players; each in ways, best first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlayerActs {
    /// Throws one out.
    pub kick: Vec<Act>,
    /// Keeps one out.
    pub ban: Vec<Act>,
    /// Lets one in again.
    pub unban: Vec<Act>,
    /// Prints who is there.
    pub list: Vec<Act>,
}

/// Where a status comes from.
#[derive(Clone, Debug)]
pub struct Source {
    /// How it is asked.
    pub protocol: StatusProtocol,
    /// Where; `None` for the log and the plugin.
    pub at: Option<SocketAddr>,
    /// Empty where the protocol needs none.
    pub secret: Secret,
    /// How often.
    pub every: Duration,
    /// How often while somebody watches.
    pub watched: Duration,
    /// How often names are asked for; zero never.
    pub names: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// With [`StatusProtocol::Rcon`]: the command and what its answer means.
    pub command: Option<StatusCommand>,
}

/// A status by a command whose answer is read with patterns.
#[derive(Clone, Debug)]
pub struct StatusCommand {
    /// What is sent.
    pub send: String,
    /// How many play, with the groups `online` and `max`.
    pub count: Option<Regex>,
    /// Each player, with the groups `name` and `id`.
    pub player: Option<Regex>,
}

/// Players whom a command's answer is read for, at most.
const PLAYERS_MAX: usize = 1_000;

/// What a command's answer says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandStatus {
    /// How many play, if that is said or can be counted.
    pub online: Option<u32>,
    /// How many may.
    pub max: Option<u32>,
    /// Who: name and perhaps id.
    pub players: Vec<(String, Option<String>)>,
}

impl StatusCommand {
    /// Reads an answer. What does not fit says nothing.
    #[must_use]
    pub fn read(&self, answer: &str) -> CommandStatus {
        let answer = answer.as_bytes();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        let found = self.player.iter().flat_map(|player| player.captures_iter(answer));
        let players: Vec<(String, Option<String>)> = found
            .take(PLAYERS_MAX)
            .map(|found| {
                let group = |name| found.name(name).map(|group| text(group.as_bytes()));
                (group("name").unwrap_or_default(), group("id"))
            })
            .collect();
        let count = self.count.as_ref().and_then(|count| count.captures(answer));
        let number = |name| {
            let found = count.as_ref()?.name(name)?;
            text(found.as_bytes()).parse().ok()
        };
        let counted =
            self.player.is_some().then(|| u32::try_from(players.len()).unwrap_or(u32::MAX));
        CommandStatus { online: number("online").or(counted), max: number("max"), players }
    }
}

/// How exits are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExitRules {
    /// Codes of an orderly end.
    pub clean_codes: Vec<i32>,
    /// Codes that it ends with when somebody stopped it by a signal.
    pub stop_codes: Vec<i32>,
    /// Numbers of signals that end it outright when somebody stops it.
    pub stop_signals: Vec<i32>,
    /// Codes that are always a crash.
    pub crash_codes: Vec<i32>,
    /// Whether its codes and signals say nothing.
    pub is_meaningless: bool,
    /// Files that it leaves when it crashes.
    pub crash_files: Vec<CrashFileRule>,
}

/// A file that tells why a game crashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrashFileRule {
    /// Where; parts may have `*`. The newest counts, if it is newer than the start.
    pub path: String,
    /// The reason begins behind this text.
    pub after: String,
    /// And ends before this one; empty is the end of the line.
    pub until: String,
}

/// The longest reason that is taken from a crash file.
const REASON_BYTES_MAX: usize = 500;

impl CrashFileRule {
    /// The reason in a crash file, which may be cut off anywhere.
    #[must_use]
    pub fn reason(&self, file: &[u8]) -> Option<String> {
        let text = String::from_utf8_lossy(file);
        let (_, rest) = text.split_once(&self.after)?;
        let end = match self.until.as_str() {
            "" => rest.find(['\r', '\n']),
            until => rest.find(until),
        };
        let reason = rest[..end.unwrap_or(rest.len())].trim();
        let cut = reason.floor_char_boundary(reason.len().min(REASON_BYTES_MAX));
        (cut > 0).then(|| reason[..cut].replace(char::is_control, " "))
    }
}

/// When a game counts as hanging.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HangRules {
    /// How long it must not have answered.
    pub after: Duration,
    /// Answers that are missing in a row.
    pub misses: u32,
    /// Whether an uptime that stands still is a hang.
    pub uptime_frozen: bool,
    /// Whether a tick rate of zero is a hang.
    pub tick_zero: bool,
    /// A log without a line for so long.
    pub log_silence: Option<Duration>,
}

/// An executable that stands in for a protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginRule {
    /// Program and arguments.
    pub command: Vec<String>,
    /// How long one try may take.
    pub deadline: Duration,
    /// Tries in all.
    pub tries: u32,
}
