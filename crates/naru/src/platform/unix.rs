//! Linux and its relatives, with systemd as the service manager if there is one.

use std::fs::{DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::signal::unix::{self, SignalKind, signal};

use super::{Signal, Told};

/// The signals that the server listens to.
pub(crate) struct Signals {
    terminate: unix::Signal,
    interrupt: unix::Signal,
    hang_up: unix::Signal,
}

impl Signals {
    pub(crate) fn new() -> anyhow::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// The next one. Cancel safe.
    pub(crate) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::Stop,
            _ = self.interrupt.recv() => Signal::Stop,
            _ = self.hang_up.recv() => Signal::Reload,
        }
    }
}

/// Tells the service manager, if one started us.
pub(crate) fn tell(told: Told) -> io::Result<()> {
    sd_notify::notify(&[match told {
        Told::Ready => NotifyState::Ready,
        Told::Beat => NotifyState::Watchdog,
        Told::Stopping => NotifyState::Stopping,
    }])
}

/// How long the service manager waits for a beat; `None` if it does not.
pub(crate) fn watchdog_period() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

/// Files made with these options are their owner's alone.
pub(crate) fn for_owner(options: &mut OpenOptions) -> &mut OpenOptions {
    options.mode(0o600)
}

/// Others may not look into the folders made with this.
pub(crate) fn for_owner_and_group(folder: &mut DirBuilder) -> &mut DirBuilder {
    folder.mode(0o750)
}

/// Whether we may become other users. The kernel shows the folder of a process as owned by its effective user.
pub(crate) fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|folder| folder.uid() == 0)
}
