//! What lies in a ward's folder: what to start, who runs, how it ended.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use naru_domain::Timestamp;

use crate::host::{GroupLimits, Limits, Priority};
use crate::model::{Ending, Exit, ProcessId};

/// What to start; written by Naru. May hold secrets, so only its owner may read it.
pub(crate) const LAUNCH: &str = "launch.json";
/// Who runs; written by the keeper.
pub(crate) const PROCESS: &str = "process.json";
/// How it ended; written by the keeper.
pub(crate) const EXIT: &str = "exit.json";
/// What the game prints.
pub const CONSOLE: &str = "console.log";
/// What the game before it printed.
#[cfg(unix)]
pub(crate) const CONSOLE_BEFORE: &str = "console.1.log";
/// What the keeper itself has to complain about.
pub(crate) const KEEPER_LOG: &str = "keeper.log";
/// Where the keeper listens.
#[cfg(unix)]
pub(crate) const SOCKET: &str = "keeper.sock";
/// Held by the keeper while it lives.
#[cfg(unix)]
pub(crate) const LOCK: &str = "keeper.lock";
/// The game's standard input.
#[cfg(unix)]
pub(crate) const INPUT: &str = "stdin";
/// How the keeper learns whether the game could be started.
#[cfg(unix)]
pub(crate) const STARTING: &str = "starting";

/// The largest of the JSON files. A launch with 1,000 arguments has about 100 KiB.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// What the game reads from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stdin {
    /// Lines that Naru sends; never an end, not even if the keeper dies.
    #[default]
    Lines,
    /// Nothing: it ends at once.
    Null,
}

/// As whom the game runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct User {
    /// The user's number.
    pub uid: u32,
    /// Its group's number. Further groups are dropped.
    pub gid: u32,
}

/// What to start, and how.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Launch {
    /// The program: absolute, or relative to `dir` with a `/` in it, or a name that is looked for in `PATH`.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Variables on top of the few that a game inherits (`PATH`, `HOME`, language, time zone).
    pub env: BTreeMap<String, String>,
    /// Where it runs; absolute.
    pub dir: PathBuf,
    /// What it reads from.
    pub stdin: Stdin,
    /// How much disk its console may use; the oldest part is given back. At least [`Launch::CONSOLE_BYTES_MIN`].
    pub console_bytes_max: u64,
    /// As whom it runs, where Naru runs as root.
    pub user: Option<User>,
    /// How it shares the machine.
    pub priority: Priority,
    /// What each of its processes may use.
    pub limits: Limits,
    /// What all of them may use together.
    pub group_limits: GroupLimits,
    /// The control group to make for them, where `group_limits` asks for one.
    pub group: Option<Group>,
}

/// Where a control group is made.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Group {
    /// Below which one.
    pub parent: PathBuf,
    /// Its name.
    pub name: String,
}

impl Launch {
    /// The least space for a console. Space is given back in blocks, so a smaller one would keep nothing.
    pub const CONSOLE_BYTES_MIN: u64 = 256 * 1024;

    /// The space for a console unless told otherwise: two weeks of a talkative Minecraft server.
    pub const CONSOLE_BYTES_DEFAULT: u64 = 8 * 1024 * 1024;

    /// A program in a folder, with nothing special about it.
    #[must_use]
    pub fn new(program: impl Into<PathBuf>, dir: impl Into<PathBuf>) -> Launch {
        Launch { program: program.into(), dir: dir.into(), ..Launch::default() }
    }
}

impl Default for Launch {
    fn default() -> Launch {
        Launch {
            program: PathBuf::new(),
            args: Vec::new(),
            env: BTreeMap::new(),
            dir: PathBuf::new(),
            stdin: Stdin::default(),
            console_bytes_max: Launch::CONSOLE_BYTES_DEFAULT,
            user: None,
            priority: Priority::default(),
            limits: Limits::default(),
            group_limits: GroupLimits::default(),
            group: None,
        }
    }
}

/// Arguments and variables hold passwords, so only their number is shown.
impl fmt::Debug for Launch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Launch")
            .field("program", &self.program)
            .field("args_count", &self.args.len())
            .field("env_count", &self.env.len())
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

/// Who runs.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ProcessFile {
    /// The keeper.
    pub keeper: ProcessId,
    /// The process that was started.
    pub main: ProcessId,
    /// The process that is the game, where another one than `main` turned out to be it.
    pub inner: Option<ProcessId>,
    /// When, in ms since 1970.
    pub started_at_ms: i64,
}

/// A signal that the keeper was asked to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SignalSent {
    /// Which.
    pub signal: i32,
    /// When, in ms since 1970.
    pub at_ms: i64,
}

/// How one process ended.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ExitRecord {
    /// Which.
    pub process: ProcessId,
    /// How.
    pub ending: Ending,
    /// When the keeper saw it, in ms since 1970.
    pub at_ms: i64,
}

impl ExitRecord {
    /// In the words of the supervisor.
    #[must_use]
    pub fn exit(&self) -> Exit {
        Exit { ending: self.ending, at: Timestamp(self.at_ms) }
    }
}

/// How it ended, so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ExitFile {
    /// Why nothing was started, if so.
    pub not_started: Option<String>,
    /// The process that was started.
    pub main: Option<ExitRecord>,
    /// The last process that was taken for the game after `main` had ended.
    pub inner: Option<ExitRecord>,
    /// Whether nothing of the game is left.
    pub empty: bool,
    /// The last signal that the keeper sent: an exit soon after is no surprise.
    pub last_signal: Option<SignalSent>,
    /// How many processes of the whole machine were ended for want of memory meanwhile.
    pub oom_kills_machine: u64,
    /// How many of this game's processes were ended at its own memory limit; `None` where nobody counts.
    pub oom_kills_group: Option<u64>,
}

/// Who runs in this folder, or ran last; `None` if nobody ever did. Reads a file.
pub fn read_process(folder: &Path) -> io::Result<Option<ProcessFile>> {
    read_json(&folder.join(PROCESS))
}

/// How what was started last in this folder ended; `None` while all of it runs, or if the keeper was killed
/// before it could tell. Reads a file.
pub fn read_exit(folder: &Path) -> io::Result<Option<ExitFile>> {
    read_json(&folder.join(EXIT))
}

pub(crate) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut text)?;
    serde_json::from_slice(&text).map(Some).map_err(io::Error::from)
}

/// Replaces a file as a whole, for its owner only: readers see the old one or the new one. It is on the disk when
/// this returns.
pub(crate) fn write_json<T: serde::Serialize>(
    folder: &Path,
    name: &str,
    value: &T,
) -> io::Result<()> {
    let draft = folder.join(format!("{name}.new"));
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    let mut file = super::link::private(&mut options).open(&draft)?;
    file.write_all(&serde_json::to_vec(value)?)?;
    file.sync_all()?;
    std::fs::rename(draft, folder.join(name))?;
    super::link::sync_folder(folder)
}
