//! The kernel tells when work stalls for want of memory, processor time or disks (PSI). It wakes us; nothing is
//! polled.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::super::{HostError, PRESSURE_WINDOW, Resource};
use super::woken_by;

/// A trigger for one resource.
#[derive(Debug)]
pub struct Pressure {
    trigger: AsyncFd<File>,
}

impl Pressure {
    /// Fires when some work stalled for at least `stall` within a window of [`PRESSURE_WINDOW`], at most once per
    /// window. To be called inside a runtime.
    pub fn open(resource: Resource, stall: Duration) -> Result<Pressure, HostError> {
        let path = match resource {
            Resource::Memory => "/proc/pressure/memory",
            Resource::Cpu => "/proc/pressure/cpu",
            Resource::Io => "/proc/pressure/io",
        };
        let mut file = match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(HostError::Unsupported("/proc/pressure (kernel option PSI)"));
            }
            Err(source) => return Err(HostError::Io { what: "open a pressure file", source }),
        };
        // The kernel replaces the last byte by an end mark, so there is one to spare.
        let wanted = format!("some {} {}\n", stall.as_micros(), PRESSURE_WINDOW.as_micros());
        file.write_all(wanted.as_bytes()).map_err(HostError::io("set a pressure trigger"))?;
        woken_by(file, Interest::PRIORITY)
            .map(|trigger| Pressure { trigger })
            .map_err(HostError::io("watch a pressure file"))
    }

    /// Returns when the trigger fires. Cancel safe.
    pub async fn event(&self) -> Result<(), HostError> {
        let mut guard = self
            .trigger
            .ready(Interest::PRIORITY)
            .await
            .map_err(HostError::io("watch a pressure file"))?;
        guard.clear_ready();
        Ok(())
    }
}
