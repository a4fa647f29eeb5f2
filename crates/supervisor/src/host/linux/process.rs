//! One process: who it is, whether it still is, how it is found and watched.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::OnceLock;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::super::{Find, Found, HostError, Transport};
use super::{read_small, read_text, woken_by};
use crate::model::ProcessId;

/// What `/proc/PID/stat` says, as far as anybody here asks. Field numbers as in proc_pid_stat(5).
pub(super) struct Stat {
    pub(super) name: String,
    pub(super) state: char,
    pub(super) parent: u32,
    pub(super) started: u64,
    pub(super) resident_pages: u64,
    pub(super) policy: u32,
}

impl Stat {
    /// The name stands in parentheses and may contain any of them, so the last one counts.
    pub(super) fn parse(text: &[u8]) -> Option<Stat> {
        let open = text.iter().position(|byte| *byte == b'(')?;
        let close = text.iter().rposition(|byte| *byte == b')')?;
        let name = String::from_utf8_lossy(text.get(open + 1..close)?).into_owned();
        let rest = std::str::from_utf8(text.get(close + 1..)?).ok()?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - 3).copied();
        Some(Stat {
            name,
            state: field(3)?.chars().next()?,
            parent: field(4)?.parse().ok()?,
            started: field(22)?.parse().ok()?,
            resident_pages: field(24)?.parse().ok()?,
            policy: field(41)?.parse().ok()?,
        })
    }

    pub(super) fn read(pid: u32) -> Result<Stat, HostError> {
        let mut bytes = Vec::new();
        read_small(format!("/proc/{pid}/stat"), &mut bytes).map_err(|_| HostError::Gone)?;
        Stat::parse(&bytes).ok_or(HostError::Unsupported("/proc/PID/stat is not as expected"))
    }

    /// A zombie has exited: only its parent has not asked yet how.
    pub(super) fn is_alive(&self) -> bool {
        !matches!(self.state, 'Z' | 'X' | 'x')
    }
}

/// All processes, as (number, what is known).
pub(super) fn all() -> Result<Vec<(u32, Stat)>, HostError> {
    let folder = std::fs::read_dir("/proc").map_err(HostError::io("read /proc"))?;
    let mut bytes = Vec::new();
    let mut found = Vec::new();
    for entry in folder.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // Processes come and go while we look.
        if read_small(format!("/proc/{pid}/stat"), &mut bytes).is_ok()
            && let Some(stat) = Stat::parse(&bytes)
        {
            found.push((pid, stat));
        }
    }
    Ok(found)
}

pub(super) fn boot() -> &'static str {
    static BOOT: OnceLock<String> = OnceLock::new();
    BOOT.get_or_init(|| {
        read_text("/proc/sys/kernel/random/boot_id")
            .map(|id| id.trim().to_owned())
            .unwrap_or_default()
    })
}

pub(super) fn id(pid: u32, stat: &Stat) -> ProcessId {
    ProcessId { pid, started: stat.started, boot: boot().to_owned() }
}

pub(super) fn found(pid: u32, stat: Stat) -> Found {
    let page_bytes = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
    Found {
        process: id(pid, &stat),
        parent: stat.parent,
        resident_bytes: stat.resident_pages.saturating_mul(page_bytes),
        name: stat.name,
    }
}

/// Who has this number now.
pub fn identify(pid: u32) -> Result<ProcessId, HostError> {
    let stat = Stat::read(pid)?;
    if stat.is_alive() { Ok(id(pid, &stat)) } else { Err(HostError::Gone) }
}

/// Whether this very process still runs.
#[must_use]
pub fn is_alive(process: &ProcessId) -> bool {
    identify(process.pid).is_ok_and(|now| now == *process)
}

/// The letter of its state: `R` runs, `S` and `D` wait, `T` was stopped by a signal, `t` by a debugger.
pub fn state(process: &ProcessId) -> Result<char, HostError> {
    let stat = Stat::read(process.pid)?;
    if stat.is_alive() && id(process.pid, &stat) == *process {
        Ok(stat.state)
    } else {
        Err(HostError::Gone)
    }
}

/// Whether the process does something of its own when it gets this signal. Where it does not, a "please stop" is
/// a kill: Teeworlds catches none.
pub fn catches(process: &ProcessId, signal: i32) -> Result<bool, HostError> {
    let text = read_text(format!("/proc/{}/status", process.pid)).map_err(|_| HostError::Gone)?;
    let mask = text
        .lines()
        .find_map(|line| line.strip_prefix("SigCgt:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .ok_or(HostError::Unsupported("/proc/PID/status has no SigCgt"))?;
    if !is_alive(process) {
        return Err(HostError::Gone);
    }
    Ok((1..=64).contains(&signal) && mask & (1 << (signal - 1)) != 0)
}

/// Processes that match, the oldest first. Looks through all processes.
pub fn find(what: &Find) -> Result<Vec<Found>, HostError> {
    let mut matching = match what {
        Find::Name(name) => found_where(|_, stat| stat.name == *name)?,
        Find::Command(piece) => {
            let own = std::process::id();
            found_where(|pid, _| pid != own && command(pid).is_some_and(|c| c.contains(piece)))?
        }
        Find::Port(port, transport) => {
            let sockets = listening(*port, *transport);
            if sockets.is_empty() {
                return Ok(Vec::new());
            }
            found_where(|pid, _| holds_any(pid, &sockets))?
        }
        Find::PidFile(path) => match pid_in(path)? {
            Some(pid) => Stat::read(pid).map(|stat| vec![found(pid, stat)]).unwrap_or_default(),
            None => Vec::new(),
        },
    };
    matching.sort_by_key(|found| (found.process.started, found.process.pid));
    Ok(matching)
}

fn found_where(mut fits: impl FnMut(u32, &Stat) -> bool) -> Result<Vec<Found>, HostError> {
    let mut matching = Vec::new();
    for (pid, stat) in all()? {
        if stat.is_alive() && fits(pid, &stat) {
            matching.push(found(pid, stat));
        }
    }
    Ok(matching)
}

fn command(pid: u32) -> Option<String> {
    let text = read_text(format!("/proc/{pid}/cmdline")).ok()?;
    Some(text.trim_end_matches('\0').replace('\0', " "))
}

fn pid_in(path: &Path) -> Result<Option<u32>, HostError> {
    let text = read_text(path).map_err(HostError::io("read the pid file"))?;
    Ok(text.split_ascii_whitespace().next().and_then(|word| word.parse().ok()))
}

/// The inode numbers of sockets that listen there (UDP: are bound there).
fn listening(port: u16, transport: Transport) -> Vec<u64> {
    let (files, state) = match transport {
        // 0A is TCP_LISTEN, 07 is what an unconnected UDP socket shows (include/net/tcp_states.h).
        Transport::Tcp => (["/proc/net/tcp", "/proc/net/tcp6"], "0A"),
        Transport::Udp => (["/proc/net/udp", "/proc/net/udp6"], "07"),
    };
    let mut inodes = Vec::new();
    for file in files {
        let Ok(text) = read_text(file) else { continue };
        inodes.extend(text.lines().skip(1).filter_map(|line| listener(line, port, state)));
    }
    inodes
}

fn listener(line: &str, port: u16, state: &str) -> Option<u64> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let (_, local_port) = fields.get(1)?.rsplit_once(':')?;
    let fits = u16::from_str_radix(local_port, 16) == Ok(port) && *fields.get(3)? == state;
    fits.then(|| fields.get(9)?.parse().ok()).flatten()
}

fn holds_any(pid: u32, sockets: &[u64]) -> bool {
    let Ok(files) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    files.flatten().any(|file| {
        std::fs::read_link(file.path()).is_ok_and(|target| {
            target
                .to_str()
                .and_then(|name| name.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok())
                .is_some_and(|inode: u64| sockets.contains(&inode))
        })
    })
}

/// A hold on one process: what is done through it can never hit another one that got its number.
#[derive(Debug)]
pub struct Handle {
    process: ProcessId,
    fd: OwnedFd,
}

impl Handle {
    /// Of this very process, or [`HostError::Gone`].
    pub fn open(process: &ProcessId) -> Result<Handle, HostError> {
        let fd = open_pid(process.pid)?;
        // Asked after opening. If it is the process that was meant now, it was so when it was opened.
        if identify(process.pid)? != *process {
            return Err(HostError::Gone);
        }
        Ok(Handle { process: process.clone(), fd })
    }

    /// Of an own child that nobody has asked for its ending yet. It may have ended.
    pub(crate) fn open_child(pid: u32) -> Result<Handle, HostError> {
        let fd = open_pid(pid)?;
        let stat = Stat::read(pid)?;
        Ok(Handle { process: id(pid, &stat), fd })
    }

    /// Who it is.
    #[must_use]
    pub fn process(&self) -> &ProcessId {
        &self.process
    }

    /// Sends a signal. [`HostError::Gone`] once the process was reaped.
    pub fn signal(&self, signal: i32) -> Result<(), HostError> {
        let signal = Signal::from_named_raw(signal)
            .ok_or(HostError::Unsupported("signals without a name"))?;
        pidfd_send_signal(&self.fd, signal).map_err(gone_or("signal the process"))
    }
}

impl AsRawFd for Handle {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl AsFd for Handle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn open_pid(pid: u32) -> Result<OwnedFd, HostError> {
    let number = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(HostError::Gone)?;
    pidfd_open(number, PidfdFlags::NONBLOCK).map_err(gone_or("open the process"))
}

fn gone_or(what: &'static str) -> impl FnOnce(rustix::io::Errno) -> HostError {
    move |error| match error {
        rustix::io::Errno::SRCH => HostError::Gone,
        other => HostError::Io { what, source: other.into() },
    }
}

/// Waits for the exit of a process that need not be ours. The system wakes us; nothing is polled.
#[derive(Debug)]
pub struct Watch {
    handle: AsyncFd<Handle>,
}

impl Watch {
    /// Of this very process, or [`HostError::Gone`]. To be called inside a runtime.
    pub fn open(process: &ProcessId) -> Result<Watch, HostError> {
        let handle = Handle::open(process)?;
        woken_by(handle, Interest::READABLE)
            .map(|handle| Watch { handle })
            .map_err(HostError::io("watch the process"))
    }

    /// The hold on it.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        self.handle.get_ref()
    }

    /// Returns when the process has ended. Cancel safe; returns at once when called again.
    pub async fn exited(&self) -> Result<(), HostError> {
        // The descriptor stays readable for ever after the exit, so readiness is not cleared.
        let guard = self.handle.readable().await.map_err(HostError::io("watch the process"))?;
        drop(guard);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_may_look_like_the_rest() {
        let text = format!("42 (a) R (b c) S 7 {} 99 1000 25 {}", "0 ".repeat(17), "0 ".repeat(17));
        let stat = Stat::parse(text.as_bytes()).unwrap();
        assert_eq!((stat.name.as_str(), stat.state, stat.parent), ("a) R (b c", 'S', 7));
        assert_eq!((stat.started, stat.resident_pages), (99, 25));
    }

    #[test]
    fn listeners_are_told_from_connections() {
        let listens = "  0: 0100007F:1F90 00000000:0000 0A 0:0 00:0 0 0 0 4711 1 0 100 0 0 10 0";
        assert_eq!(listener(listens, 8080, "0A"), Some(4711));
        assert_eq!(listener(listens, 8081, "0A"), None);
        assert_eq!(listener(&listens.replace(" 0A ", " 01 "), 8080, "0A"), None);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parsers_panic(text in proptest::collection::vec(any::<u8>(), 0..300)) {
            drop(Stat::parse(&text));
            listener(&String::from_utf8_lossy(&text), 1, "0A");
        }
    }
}
