//! Everything that differs between operating systems: who a process is, how it is found, watched, signalled,
//! favoured and bounded, and how the machine says that it is under pressure. One file per system, the same
//! functions in each. It knows neither wards nor games.
//!
//! Functions that look through all processes say so: they take milliseconds and belong to cold paths.

use std::io;
use std::time::Duration;

use crate::model::ProcessId;

#[cfg(unix)]
mod linux;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
use linux as os;
#[cfg(windows)]
use windows as os;

pub use os::{
    Group, Handle, NOT_IN_NAMES, Pressure, Watch, catches, descendants, favour, file_number, find,
    free_bytes, give_as, give_back, give_to, group_parent, identify, is_alive, is_unchanged,
    kill_tree, length_and_space, lower_own_session, lower_own_thread, machine_oom_kills, make_link,
    make_private_folder, memory, next_data, open_folder, path_of, port_is_free, principal, rights,
    set_rights, signal_tree, state, sync_folder, take_limits, take_priority,
};

/// Why the system did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The process has ended, or its number belongs to another one by now.
    #[error("the process is gone")]
    Gone,
    /// This system cannot do it, or not without something that is named.
    #[error("not available here: {0}")]
    Unsupported(&'static str),
    /// The system said no.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What it said.
        #[source]
        source: io::Error,
    },
}

impl HostError {
    pub(crate) fn io(what: &'static str) -> impl FnOnce(io::Error) -> HostError {
        move |source| HostError::Io { what, source }
    }

    /// Whether more rights would have helped.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        matches!(self, HostError::Io { source, .. }
            if source.kind() == io::ErrorKind::PermissionDenied)
    }
}

/// How to find a process that somebody else started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Find {
    /// By the exact name of its program, as the system shows it (Linux: at most 15 bytes of it are kept).
    Name(String),
    /// By a piece of its command line, arguments joined by single spaces.
    Command(String),
    /// By the port it listens on.
    Port(u16, Transport),
    /// By the number in a file.
    PidFile(std::path::PathBuf),
}

/// Which kind of port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// Streams.
    Tcp,
    /// Datagrams.
    Udp,
}

/// A process that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Who it is.
    pub process: ProcessId,
    /// Who started it.
    pub parent: u32,
    /// Its program's name.
    pub name: String,
    /// Memory it has in RAM.
    pub resident_bytes: u64,
}

/// How a process shares the machine with the others.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Priority {
    /// −20 (first) to 19 (last). Below 0 needs rights.
    pub nice: Option<i32>,
    /// Runs, and reads and writes, only when nobody else wants to.
    pub idle: bool,
    /// The cores it may run on, from 0; empty for all.
    pub cores: Vec<usize>,
    /// −1000 (never) to 1000 (first) when the machine runs out of memory. Lower than inherited needs rights.
    pub oom_score: Option<i32>,
}

/// What a process and its children may use at most, each for itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Open files and sockets.
    pub open_files: Option<u64>,
    /// Processes and threads of its user.
    pub processes: Option<u64>,
    /// Size of a core dump; 0 for none.
    pub core_bytes: Option<u64>,
    /// Address space. Java and Unreal reserve much more than they use: prefer [`GroupLimits`].
    pub address_bytes: Option<u64>,
}

/// What a game with all its processes may use together.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GroupLimits {
    /// Memory; above it the system ends the game.
    pub memory_bytes_max: Option<u64>,
    /// Share of the processor under contention, 1 to 10,000; others have 100.
    pub cpu_weight: Option<u32>,
}

impl GroupLimits {
    /// Whether there is nothing to limit.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == GroupLimits::default()
    }
}

/// What one group of processes was refused; the rest was done.
#[derive(Debug)]
pub struct Refused {
    /// What was asked, in a word.
    pub what: &'static str,
    /// Why it was not done.
    pub why: HostError,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}: {}", self.what, self.why)
    }
}

/// What the machine runs short of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Resource {
    /// Memory.
    Memory,
    /// Processor time.
    Cpu,
    /// Disks.
    Io,
}

/// The machine's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// All of it.
    pub total_bytes: u64,
    /// What programs could get without swapping.
    pub available_bytes: u64,
}

/// The window over which stalls are added up: without rights only multiples of 2 s are allowed.
pub const PRESSURE_WINDOW: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
