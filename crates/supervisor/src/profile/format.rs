//! A profile as it is written in TOML: what is known of a game. Plain data, nothing is checked here but shapes.
//!
//! Regular expressions know ASCII classes only (`\w`, `\d`, `.` is any byte): lines come in any encoding, and
//! the automata stay small.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::units::{Size, Span};

/// What is known of a game.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Profile {
    /// The game's name for people.
    pub title: String,
    /// What whoever uses it has to know, in a sentence or two.
    pub about: String,
    /// Program and arguments, with placeholders. Empty where the operator has to say.
    pub command: Vec<String>,
    /// The folder it runs in; empty takes the ward's own.
    pub dir: String,
    /// Names of the process that is the game, where a launcher starts it. Empty takes what was started.
    pub process: Vec<String>,
    /// Variables of its environment.
    pub environment: BTreeMap<String, String>,
    /// Words for `{var.NAME}`, such as the first map, to be overridden.
    pub vars: BTreeMap<String, String>,
    /// Its ports by what they are for.
    pub ports: BTreeMap<String, Port>,
    /// The secrets it knows, and what they are.
    pub secrets: BTreeMap<String, String>,
    /// Whether it reads commands from its standard input.
    pub stdin: bool,
    /// Files that are written, readable for the game's user only, before it starts.
    pub file: Vec<FileText>,
    /// When it counts as started.
    pub ready: Ready,
    /// How it is stopped, gentlest first.
    pub stop: Vec<Rung>,
    /// Ways to make it save, best first.
    pub save: Vec<Save>,
    /// How its files are held still for a copy.
    pub hold: Option<Hold>,
    /// Ways to tell its players something, best first.
    pub announce: Vec<Act>,
    /// What can be done about players.
    pub players: Players,
    /// What may stand in texts for it.
    pub text: TextRules,
    /// Where its status comes from, best first.
    pub status: Vec<Source>,
    /// What its log says.
    pub log: LogSection,
    /// How its exits are read.
    pub exit: Exits,
    /// When it counts as hanging.
    pub hang: Hang,
    /// Its saves by the clock.
    pub saves: Saves,
    /// What it costs as long as nothing has been measured.
    pub cost: Cost,
    /// An executable that stands in for a protocol.
    pub plugin: Option<PluginSection>,
}

/// What a port speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// Both, on the same number.
    Both,
}

/// A port.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Port {
    /// Its number, unless the operator says another one or it follows another port.
    pub default: Option<u16>,
    /// The port that it follows: its number is that one's plus `plus`.
    pub follows: String,
    /// How far behind the one it follows.
    pub plus: u16,
    /// What it speaks.
    pub protocol: Protocol,
    /// Whether games leave it shut unless told otherwise: it counts only if the operator names it, or gives the secret
    /// that belongs to it.
    pub optional: bool,
}

/// A file that is written before the game starts, so that its secrets need not stand in its arguments.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FileText {
    /// Where, below the folder it runs in.
    pub path: String,
    /// What stands in it. A line with a secret that was not given, or a port that is not in use, is left out.
    pub lines: Vec<String>,
}

/// When a game counts as started: at the first of these.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ready {
    /// A log line.
    pub log: Vec<String>,
    /// The first answer of a source of its status.
    pub answer: bool,
    /// How long it may take.
    pub deadline: Span,
}

impl Default for Ready {
    fn default() -> Ready {
        Ready { log: Vec::new(), answer: true, deadline: Span::seconds(300) }
    }
}

/// The way something is said to a game.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Via {
    /// A line to its standard input.
    #[default]
    Console,
    /// Source RCON.
    Rcon,
    /// RCON of the Quake 3 family.
    #[serde(rename = "quake3-rcon")]
    Quake3Rcon,
    /// The external console of Teeworlds.
    Econ,
    /// Palworld's REST API; `send` is `save`, `shutdown`, `stop`, `announce` or `kick`.
    Palworld,
    /// Minecraft's management protocol; `send` is the method.
    MinecraftManagement,
    /// The plugin; `send` is the text that goes with the request.
    Plugin,
    /// A signal to the game's process; `send` is its name.
    Signal,
    /// The end of the whole process tree.
    Kill,
}

impl Via {
    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Via::Console => "console",
            Via::Rcon => "rcon",
            Via::Quake3Rcon => "quake3-rcon",
            Via::Econ => "econ",
            Via::Palworld => "palworld",
            Via::MinecraftManagement => "minecraft-management",
            Via::Plugin => "plugin",
            Via::Signal => "signal",
            Via::Kill => "kill",
        }
    }
}

/// Where something works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum System {
    /// Linux.
    Linux,
    /// Windows.
    Windows,
}

/// One rung of the ladder by which a game is stopped.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rung {
    /// How.
    pub via: Via,
    /// What; `{seconds}` and `{message}` are filled in.
    pub send: String,
    /// The port, by its name; empty takes the usual one.
    pub port: String,
    /// How long it may take before the next rung.
    pub wait: Span,
    /// Where it works; empty is everywhere.
    pub platforms: Vec<System>,
}

/// Something that is said to a game.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Act {
    /// How.
    pub via: Via,
    /// What; `{seconds}`, `{message}` and `{player}` are filled in.
    pub send: String,
    /// The port, by its name; empty takes the usual one.
    pub port: String,
}

/// What proves a save.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Proof {
    /// A fresh line that `log.saved` knows.
    Log,
    /// The answer to what was sent.
    Answer,
    /// An event of the management protocol.
    Event,
    /// A newer file among `files`.
    Files,
}

/// How a game is made to save.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Save {
    /// How.
    pub via: Via,
    /// What.
    pub send: String,
    /// The port, by its name; empty takes the usual one.
    pub port: String,
    /// What proves it; any of them.
    pub confirmed: Vec<Proof>,
    /// What the answer has to look like; empty takes any that is no error.
    pub answer: String,
    /// The files that a save makes newer: a path whose last part may have `*`.
    pub files: String,
    /// How long it may take.
    pub within: Span,
}

impl Default for Save {
    fn default() -> Save {
        Save {
            via: Via::Console,
            send: String::new(),
            port: String::new(),
            confirmed: Vec::new(),
            answer: String::new(),
            files: String::new(),
            within: Span::seconds(30),
        }
    }
}

/// How a game's files are held still for a copy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Hold {
    /// How.
    pub via: Vec<Via>,
    /// What is said first, in order.
    pub begin: Vec<String>,
    /// What is said each second until a line comes that `log.saved` knows; empty says nothing and waits for it.
    pub ask: String,
    /// What is said when the copy is made.
    pub end: Vec<String>,
    /// How long it may take until the files are still.
    pub within: Span,
}

impl Default for Hold {
    fn default() -> Hold {
        Hold {
            via: vec![Via::Console],
            begin: Vec::new(),
            ask: String::new(),
            end: Vec::new(),
            within: Span::seconds(60),
        }
    }
}

/// What can be done about players; each in ways, best first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Players {
    /// Throws one out.
    pub kick: Vec<Act>,
    /// Keeps one out.
    pub ban: Vec<Act>,
    /// Lets one in again.
    pub unban: Vec<Act>,
    /// Prints who is there, for people to read.
    pub list: Vec<Act>,
}

/// What may stand in texts that are filled in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TextRules {
    /// Characters that are left out, such as those that begin a next command.
    pub strip: String,
    /// What stands for a blank, where a blank ends an argument.
    pub space: String,
    /// Longest text.
    pub max_bytes: usize,
}

impl Default for TextRules {
    fn default() -> TextRules {
        TextRules { strip: String::new(), space: String::new(), max_bytes: 240 }
    }
}

/// The protocols by which a status is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StatusProtocol {
    /// Palworld's REST API.
    Palworld,
    /// Minecraft Java's Server List Ping.
    MinecraftPing,
    /// Minecraft Java's Query.
    MinecraftQuery,
    /// Minecraft Java's management protocol, which pushes.
    MinecraftManagement,
    /// Minecraft Bedrock's unconnected ping.
    Bedrock,
    /// Valve's A2S.
    A2s,
    /// Quake 3's getinfo and getstatus.
    Quake3,
    /// Teeworlds 0.7.
    Teeworlds,
    /// Teeworlds 0.6 and DDNet.
    #[serde(rename = "teeworlds-0.6")]
    Teeworlds06,
    /// Luanti's liveness ping.
    Luanti,
    /// A command by Source RCON, whose answer is read with patterns.
    Rcon,
    /// Whether the port takes a connection.
    #[default]
    Tcp,
    /// The plugin.
    Plugin,
    /// Joins and leaves of the log.
    Log,
}

impl StatusProtocol {
    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            StatusProtocol::Palworld => "palworld",
            StatusProtocol::MinecraftPing => "minecraft-ping",
            StatusProtocol::MinecraftQuery => "minecraft-query",
            StatusProtocol::MinecraftManagement => "minecraft-management",
            StatusProtocol::Bedrock => "bedrock",
            StatusProtocol::A2s => "a2s",
            StatusProtocol::Quake3 => "quake3",
            StatusProtocol::Teeworlds => "teeworlds",
            StatusProtocol::Teeworlds06 => "teeworlds-0.6",
            StatusProtocol::Luanti => "luanti",
            StatusProtocol::Rcon => "rcon",
            StatusProtocol::Tcp => "tcp",
            StatusProtocol::Plugin => "plugin",
            StatusProtocol::Log => "log",
        }
    }
}

/// Where a status comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Source {
    /// How it is asked.
    pub protocol: StatusProtocol,
    /// The port, by its name; empty takes the usual one.
    pub port: String,
    /// How often.
    pub every: Span,
    /// How often while somebody watches.
    pub watched: Span,
    /// How often the players' names are asked for, besides each time their number changes; 0s never.
    pub names: Span,
    /// How long an answer may take.
    pub timeout: Span,
    /// With `rcon`: the command.
    pub send: String,
    /// With `rcon`: how many there are, with the groups `online` and `max`.
    pub count: String,
    /// With `rcon`: each player, with the groups `name` and `id`.
    pub player: String,
}

impl Default for Source {
    fn default() -> Source {
        Source {
            protocol: StatusProtocol::Tcp,
            port: String::new(),
            every: Span::seconds(10),
            watched: Span::seconds(5),
            names: Span::seconds(30),
            timeout: Span::seconds(2),
            send: String::new(),
            count: String::new(),
            player: String::new(),
        }
    }
}

/// What a game's log says. Patterns fit whole lines, behind the prefix; one that begins with `^` stands alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSection {
    /// Log files that are read besides what it prints; the last part may have `*`, and the newest is taken.
    pub files: Vec<String>,
    /// What each line begins with: time, thread, level.
    pub prefix: String,
    /// Somebody came, with the groups `name` and perhaps `id`.
    pub joined: Vec<String>,
    /// Somebody left, with the same groups.
    pub left: Vec<String>,
    /// A save begins.
    pub saving: Vec<String>,
    /// A save is done, with perhaps the group `took` (seconds) or `took_ms`.
    pub saved: Vec<String>,
    /// It ends because somebody wanted it to.
    pub stopping: Vec<String>,
    /// It ends, and nobody wanted it to.
    pub crash: Vec<String>,
    /// It cannot keep up, with perhaps the group `behind_ms`.
    pub lag: Vec<String>,
    /// Something was announced to players.
    pub announced: Vec<String>,
}

/// How a game's exits are read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Exits {
    /// Codes of an orderly end.
    pub clean_codes: Vec<i32>,
    /// Codes that it ends with when somebody stopped it by a signal.
    pub stop_codes: Vec<i32>,
    /// Signals that end it outright when somebody stops it.
    pub stop_signals: Vec<String>,
    /// Codes that are always a crash, whatever else is said.
    pub crash_codes: Vec<i32>,
    /// Whether its codes and signals say nothing at all.
    pub meaningless: bool,
    /// Files that it leaves when it crashes.
    pub crash_file: Vec<CrashFile>,
}

impl Default for Exits {
    fn default() -> Exits {
        Exits {
            clean_codes: vec![0],
            stop_codes: Vec::new(),
            stop_signals: Vec::new(),
            crash_codes: Vec::new(),
            meaningless: false,
            crash_file: Vec::new(),
        }
    }
}

/// A file that tells why a game crashed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CrashFile {
    /// Where; parts of the path may have `*`. The newest counts, if it is newer than the start.
    pub path: String,
    /// The reason begins behind this text.
    pub after: String,
    /// And ends before this one; empty is the end of the line.
    pub until: String,
}

/// When a game counts as hanging.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Hang {
    /// Answers that are missing in a row.
    pub misses: u32,
    /// Whether an uptime that stands still is a hang.
    pub uptime_frozen: bool,
    /// Whether a tick rate of zero is a hang.
    pub tick_zero: bool,
    /// A log without a line for so long; not looked at unless given.
    pub log_silence: Option<Span>,
}

impl Default for Hang {
    fn default() -> Hang {
        Hang { misses: 3, uptime_frozen: false, tick_zero: false, log_silence: None }
    }
}

/// Saves by the clock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Saves {
    /// Between two of them; not given, the period is learned.
    pub every: Option<Span>,
    /// How long one usually takes.
    pub takes: Span,
    /// Whether the period is learned from the game's writes.
    pub learned: bool,
}

impl Default for Saves {
    fn default() -> Saves {
        Saves { every: None, takes: Span::seconds(5), learned: true }
    }
}

/// What a game costs as long as nothing has been measured. Guesses, from what hosters recommend.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cost {
    /// Cores without players.
    pub cpu: f64,
    /// Cores a player.
    pub cpu_per_player: f64,
    /// Memory without players.
    pub memory: Size,
    /// Memory a player.
    pub memory_per_player: Size,
}

impl Default for Cost {
    fn default() -> Cost {
        Cost { cpu: 0.0, cpu_per_player: 0.0, memory: Size(0), memory_per_player: Size(0) }
    }
}

/// An executable that stands in for a protocol.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PluginSection {
    /// Program and arguments, with placeholders.
    pub command: Vec<String>,
    /// How long one try may take.
    pub deadline: Span,
    /// Tries in all.
    pub tries: u32,
}

impl Default for PluginSection {
    fn default() -> PluginSection {
        PluginSection { command: Vec::new(), deadline: Span::seconds(5), tries: 3 }
    }
}
