//! Windows, as far as safe libraries go. What is missing says what it would need; nothing here was run on Windows.

mod files;

use std::fs::{File, Metadata};
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sysinfo::{Pid, Process, ProcessRefreshKind, ProcessesToUpdate, System, UpdateKind};

use super::{
    Find, Found, GroupLimits, HostError, Limits, Memory, Priority, Refused, Resource, Transport,
};
use crate::model::ProcessId;

pub use files::{
    NOT_IN_NAMES, give_as, is_unchanged, make_link, make_private_folder, open_folder, path_of,
    rights, set_rights, sync_folder,
};

fn system() -> Result<System, HostError> {
    System::new().map_err(|_| HostError::Unsupported("what the system tells of processes"))
}

fn look(which: ProcessesToUpdate<'_>) -> Result<System, HostError> {
    let mut system = system()?;
    let kind = ProcessRefreshKind::nothing().with_memory().with_cmd(UpdateKind::Always);
    system.refresh_processes_specifics(which, true, kind);
    Ok(system)
}

fn look_all() -> Result<System, HostError> {
    look(ProcessesToUpdate::All)
}

/// Seconds since 1970 are what the library tells; that a number is used again within one second is not seen.
fn id(process: &Process) -> ProcessId {
    ProcessId { pid: process.pid().as_u32(), started: process.start_time(), boot: String::new() }
}

fn found(process: &Process) -> Found {
    Found {
        process: id(process),
        parent: process.parent().map_or(0, Pid::as_u32),
        name: process.name().to_string_lossy().into_owned(),
        resident_bytes: process.memory(),
    }
}

/// Who has this number now.
pub fn identify(pid: u32) -> Result<ProcessId, HostError> {
    let pid = Pid::from_u32(pid);
    look(ProcessesToUpdate::Some(&[pid]))?.process(pid).map(id).ok_or(HostError::Gone)
}

/// Whether this very process still runs.
#[must_use]
pub fn is_alive(process: &ProcessId) -> bool {
    identify(process.pid).is_ok_and(|now| now == *process)
}

/// Windows has no stopped processes; one that runs is `R`.
pub fn state(process: &ProcessId) -> Result<char, HostError> {
    if is_alive(process) { Ok('R') } else { Err(HostError::Gone) }
}

/// Windows has no signals that a process could catch.
pub fn catches(_process: &ProcessId, _signal: i32) -> Result<bool, HostError> {
    Ok(false)
}

/// Processes that match, the oldest first. Looks through all processes.
pub fn find(what: &Find) -> Result<Vec<Found>, HostError> {
    let system = look_all()?;
    let mut matching: Vec<Found> = match what {
        Find::Name(name) => {
            system.processes().values().filter(|p| p.name() == name.as_str()).map(found).collect()
        }
        Find::Command(piece) => {
            let own = std::process::id();
            let fits = |process: &&Process| {
                let words: Vec<_> = process.cmd().iter().map(|w| w.to_string_lossy()).collect();
                process.pid().as_u32() != own && words.join(" ").contains(piece)
            };
            system.processes().values().filter(fits).map(found).collect()
        }
        Find::Port(..) => return Err(HostError::Unsupported("the table of sockets (iphlpapi)")),
        Find::PidFile(path) => {
            let text = std::fs::read_to_string(path).map_err(HostError::io("read the pid file"))?;
            let pid = text.split_ascii_whitespace().next().and_then(|word| word.parse().ok());
            pid.and_then(|pid| system.process(Pid::from_u32(pid))).map(found).into_iter().collect()
        }
    };
    matching.sort_by_key(|found| (found.process.started, found.process.pid));
    Ok(matching)
}

/// All that descends from a process, parents before children. Looks through all processes.
pub fn descendants(pid: u32) -> Result<Vec<Found>, HostError> {
    let system = look_all()?;
    let mut tree: Vec<Found> = Vec::new();
    let mut parents = vec![pid];
    while let Some(parent) = parents.pop() {
        for process in system.processes().values() {
            let child = found(process);
            // A parent's number may have been given to a younger process.
            let known = tree.iter().any(|member| member.process.pid == child.process.pid);
            if child.parent == parent && child.process.pid != pid && !known {
                parents.push(child.process.pid);
                tree.push(child);
            }
        }
    }
    Ok(tree)
}

/// The member below a process that is most likely the game: the one with the most memory, of equals the oldest.
pub fn principal(pid: u32) -> Result<Option<Found>, HostError> {
    let tree = descendants(pid)?;
    Ok(tree
        .into_iter()
        .max_by_key(|member| (member.resident_bytes, std::cmp::Reverse(member.process.started))))
}

/// SIGKILL's number, which stands for ending a process at once.
const KILL: i32 = 9;

fn end(process: &ProcessId) -> Result<(), HostError> {
    let pid = Pid::from_u32(process.pid);
    let system = look(ProcessesToUpdate::Some(&[pid]))?;
    let found = system.process(pid).filter(|found| id(found) == *process);
    match found.map(Process::kill) {
        Some(true) => Ok(()),
        Some(false) => Err(HostError::Io {
            what: "end the process",
            source: io::ErrorKind::PermissionDenied.into(),
        }),
        None => Err(HostError::Gone),
    }
}

/// Only 9 exists here, which ends a process at once.
pub fn signal_tree(below: u32, root: Option<&ProcessId>, signal: i32) -> Result<usize, HostError> {
    if signal == KILL { kill_tree(below, root) } else { Err(NO_SIGNALS) }
}

const NO_SIGNALS: HostError =
    HostError::Unsupported("signals; a console event needs a helper in the game's console");

/// Ends all below a process, and the process itself where `root` gives it; says how many. Without a job object, one
/// that is born meanwhile escapes.
pub fn kill_tree(below: u32, root: Option<&ProcessId>) -> Result<usize, HostError> {
    let members = descendants(below)?;
    let mut ended = 0;
    for process in root.into_iter().chain(members.iter().map(|member| &member.process)) {
        match end(process) {
            Ok(()) => ended += 1,
            Err(HostError::Gone) => (),
            Err(error) => return Err(error),
        }
    }
    Ok(ended)
}

/// A hold on one process.
#[derive(Debug)]
pub struct Handle {
    process: ProcessId,
}

impl Handle {
    /// Of this very process, or [`HostError::Gone`].
    pub fn open(process: &ProcessId) -> Result<Handle, HostError> {
        if is_alive(process) {
            Ok(Handle { process: process.clone() })
        } else {
            Err(HostError::Gone)
        }
    }

    /// Who it is.
    #[must_use]
    pub fn process(&self) -> &ProcessId {
        &self.process
    }

    /// Only 9 exists here.
    pub fn signal(&self, signal: i32) -> Result<(), HostError> {
        if signal == KILL { end(&self.process) } else { Err(NO_SIGNALS) }
    }
}

const NO_WATCH: HostError = HostError::Unsupported(
    "waiting for foreign processes (OpenProcess, RegisterWaitForSingleObject)",
);

/// Waits for the exit of a process that need not be ours.
#[derive(Debug)]
pub struct Watch {
    handle: Handle,
}

impl Watch {
    /// Not available.
    pub fn open(_process: &ProcessId) -> Result<Watch, HostError> {
        Err(NO_WATCH)
    }

    /// The hold on it.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Not available.
    #[expect(clippy::unused_async, reason = "waits on other systems")]
    pub async fn exited(&self) -> Result<(), HostError> {
        Err(NO_WATCH)
    }
}

const NO_PRIORITIES: HostError =
    HostError::Unsupported("priorities (SetPriorityClass, SetProcessAffinityMask)");

/// Not available.
pub fn lower_own_thread() -> Result<(), HostError> {
    Err(HostError::Unsupported("thread priorities (SetThreadPriority)"))
}

/// Windows does not share by session.
pub fn lower_own_session() -> Result<(), HostError> {
    Err(HostError::Unsupported("priorities of sessions"))
}

/// Not available.
#[must_use]
pub fn take_priority(priority: &Priority) -> Vec<Refused> {
    let asked = *priority != Priority::default();
    asked.then_some(Refused { what: "priority", why: NO_PRIORITIES }).into_iter().collect()
}

/// Not available.
#[must_use]
pub fn favour(_process: &ProcessId, priority: &Priority) -> Vec<Refused> {
    take_priority(priority)
}

/// Not available.
#[must_use]
pub fn take_limits(limits: &Limits) -> Vec<Refused> {
    let asked = *limits != Limits::default();
    let why = HostError::Unsupported("limits (job objects)");
    asked.then_some(Refused { what: "limits", why }).into_iter().collect()
}

const NO_GROUPS: HostError = HostError::Unsupported("control groups (job objects)");

/// Not available.
pub fn group_parent() -> Result<PathBuf, HostError> {
    Err(NO_GROUPS)
}

/// A group of processes. Not available.
#[derive(Debug)]
pub struct Group(());

impl Group {
    /// Not available.
    pub fn create(
        _parent: &Path,
        _name: &str,
        _limits: &GroupLimits,
    ) -> Result<(Group, Vec<Refused>), HostError> {
        Err(NO_GROUPS)
    }

    /// There are none.
    #[must_use]
    pub fn existing(_parent: &Path, _name: &str) -> Option<Group> {
        None
    }

    /// Not available.
    pub fn add(&self, _pid: u32) -> Result<(), HostError> {
        Err(NO_GROUPS)
    }

    /// Not available.
    pub fn kill(&self) -> Result<(), HostError> {
        Err(NO_GROUPS)
    }

    /// Not available.
    pub fn oom_kills(&self) -> Result<u64, HostError> {
        Err(NO_GROUPS)
    }

    /// Not available.
    pub fn remove(self) -> Result<(), HostError> {
        Err(NO_GROUPS)
    }
}

const NO_PRESSURE: HostError =
    HostError::Unsupported("pressure events (CreateMemoryResourceNotification)");

/// Tells when the machine runs short. Not available.
#[derive(Debug)]
pub struct Pressure(());

impl Pressure {
    /// Not available.
    pub fn open(_resource: Resource, _stall: Duration) -> Result<Pressure, HostError> {
        Err(NO_PRESSURE)
    }

    /// Not available.
    #[expect(clippy::unused_async, reason = "waits on other systems")]
    pub async fn event(&self) -> Result<(), HostError> {
        Err(NO_PRESSURE)
    }
}

/// Whether a game could listen there now.
#[must_use]
pub fn port_is_free(address: SocketAddr, transport: Transport) -> bool {
    match transport {
        Transport::Tcp => TcpListener::bind(address).is_ok(),
        Transport::Udp => UdpSocket::bind(address).is_ok(),
    }
}

/// How much memory there is.
pub fn memory() -> Result<Memory, HostError> {
    let mut system = system()?;
    system.refresh_memory();
    Ok(Memory { total_bytes: system.total_memory(), available_bytes: system.available_memory() })
}

/// Windows ends nobody for want of memory.
pub fn machine_oom_kills() -> Result<u64, HostError> {
    Err(HostError::Unsupported("a count of processes that were ended for want of memory"))
}

/// How long a file is; that is also what it uses, as nothing is given back.
pub fn length_and_space(file: &File) -> io::Result<(u64, u64)> {
    let length = file.metadata()?.len();
    Ok((length, length))
}

/// Not available (FSCTL_SET_ZERO_DATA).
pub fn give_back(_file: &File, _first_bytes: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Where the next byte is that was not given back: here.
pub fn next_data(_file: &File, offset: u64) -> io::Result<u64> {
    Ok(offset)
}

/// How many bytes may still be written to the file system of this folder.
pub fn free_bytes(folder: &Path) -> io::Result<u64> {
    let disks = sysinfo::Disks::new_with_refreshed_list().map_err(io::Error::other)?;
    let folder = folder.canonicalize()?;
    let below = disks.iter().filter(|disk| folder.starts_with(disk.mount_point()));
    let disk = below.max_by_key(|disk| disk.mount_point().as_os_str().len());
    disk.map(sysinfo::Disk::available_space).ok_or_else(|| io::ErrorKind::Unsupported.into())
}

/// Makes a file somebody else's.
pub fn give_to(_file: &Path, _uid: u32, _gid: u32) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// A number that tells files of one folder apart: when they were made.
#[must_use]
pub fn file_number(about: &Metadata) -> u64 {
    std::os::windows::fs::MetadataExt::creation_time(about)
}
