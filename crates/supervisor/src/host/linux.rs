//! Linux: what `/proc`, pidfds, cgroups and pressure files tell and take.

mod files;
mod group;
mod pressure;
mod priority;
mod process;
mod tree;

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::{HostError, Memory, Transport};

pub use files::{
    NOT_IN_NAMES, give_as, is_unchanged, make_link, make_private_folder, open_folder, path_of,
    rights, set_rights, sync_folder,
};
pub use group::{Group, group_parent};
pub use pressure::Pressure;
pub use priority::{favour, lower_own_session, lower_own_thread, take_limits, take_priority};
pub use process::{Handle, Watch, catches, find, identify, is_alive, state};
pub use tree::{descendants, kill_tree, principal, signal_tree};

/// The largest file below `/proc` that is read whole: `/proc/net/tcp` of a machine with 10,000 sockets.
const FILE_BYTES_MAX: u64 = 2 * 1024 * 1024;

fn read_small(path: impl AsRef<Path>, into: &mut Vec<u8>) -> io::Result<()> {
    into.clear();
    File::open(path)?.take(FILE_BYTES_MAX).read_to_end(into)?;
    Ok(())
}

fn read_text(path: impl AsRef<Path>) -> io::Result<String> {
    let mut bytes = Vec::new();
    read_small(path, &mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Lets the runtime wake us when something happens to a descriptor that its owner keeps open.
#[expect(
    deprecated,
    reason = "its successor is an unsafe function, for types that could give away another descriptor than their \
              own; ours are files and pidfds, which cannot"
)]
fn woken_by<T: AsRawFd + AsFd>(owner: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(owner, interest)
}

/// Whether a game could listen there now. Sockets that only wait for their time to run out do not count, as
/// servers bind past them.
#[must_use]
pub fn port_is_free(address: SocketAddr, transport: Transport) -> bool {
    match transport {
        Transport::Tcp => TcpListener::bind(address).is_ok(),
        Transport::Udp => UdpSocket::bind(address).is_ok(),
    }
}

/// How much memory there is.
pub fn memory() -> Result<Memory, HostError> {
    let text = read_text("/proc/meminfo").map_err(HostError::io("read /proc/meminfo"))?;
    let bytes = |name: &str| value_after(&text, name).map(|kib| kib.saturating_mul(1024));
    match (bytes("MemTotal:"), bytes("MemAvailable:")) {
        (Some(total_bytes), Some(available_bytes)) => Ok(Memory { total_bytes, available_bytes }),
        _ => Err(HostError::Unsupported("/proc/meminfo has no MemAvailable")),
    }
}

/// How many processes the machine has ended for want of memory since it booted: compare before and after. Weak
/// evidence, as it does not say whom.
pub fn machine_oom_kills() -> Result<u64, HostError> {
    let text = read_text("/proc/vmstat").map_err(HostError::io("read /proc/vmstat"))?;
    value_after(&text, "oom_kill").ok_or(HostError::Unsupported("/proc/vmstat has no oom_kill"))
}

/// How long a file is, and how much disk it uses.
pub fn length_and_space(file: &File) -> io::Result<(u64, u64)> {
    let about = file.metadata()?;
    // In units of 512 bytes, whatever the file system's own are (stat(2)).
    Ok((about.len(), about.blocks().saturating_mul(512)))
}

/// Gives the disk below the first bytes of a file back, as far as whole blocks go. They read as zeros from then on;
/// nothing moves.
pub fn give_back(file: &File, first_bytes: u64) -> io::Result<()> {
    use rustix::fs::FallocateFlags;
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    Ok(rustix::fs::fallocate(file, flags, 0, first_bytes)?)
}

/// Where the next byte is that was not given back: here, or further on; the file's end if there is none.
pub fn next_data(file: &File, offset: u64) -> io::Result<u64> {
    match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(offset)) {
        Ok(next) => Ok(next),
        Err(rustix::io::Errno::NXIO) => Ok(file.metadata()?.len()),
        // A file system that gives nothing back either.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::OPNOTSUPP) => Ok(offset),
        Err(error) => Err(error.into()),
    }
}

/// How many bytes may still be written to the file system of this folder.
pub fn free_bytes(folder: &Path) -> io::Result<u64> {
    let about = rustix::fs::statvfs(folder)?;
    Ok(about.f_bavail.saturating_mul(about.f_frsize))
}

/// Makes a file somebody else's.
pub fn give_to(file: &Path, uid: u32, gid: u32) -> io::Result<()> {
    std::os::unix::fs::chown(file, Some(uid), Some(gid))
}

/// A number that tells files of one folder apart.
#[must_use]
pub fn file_number(about: &Metadata) -> u64 {
    about.ino()
}

/// The number on the line that begins with this word.
fn value_after(text: &str, word: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let mut parts = line.split_ascii_whitespace();
        (parts.next() == Some(word)).then(|| parts.next()?.parse().ok()).flatten()
    })
}
