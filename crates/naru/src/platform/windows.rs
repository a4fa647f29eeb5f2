//! Windows: events of the console in place of signals, and files with the rights of the folder that they are in.

use std::fs::{DirBuilder, OpenOptions};
use std::io;
use std::time::Duration;

use tokio::signal::windows;

use super::{Signal, Told};

/// The events of the console that the server listens to. None of them asks to reload.
pub(crate) struct Signals {
    interrupt: windows::CtrlC,
    pause: windows::CtrlBreak,
    close: windows::CtrlClose,
    shutdown: windows::CtrlShutdown,
}

impl Signals {
    pub(crate) fn new() -> anyhow::Result<Signals> {
        Ok(Signals {
            interrupt: windows::ctrl_c()?,
            pause: windows::ctrl_break()?,
            close: windows::ctrl_close()?,
            shutdown: windows::ctrl_shutdown()?,
        })
    }

    /// The next one. Cancel safe.
    pub(crate) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::Stop,
            _ = self.pause.recv() => Signal::Stop,
            _ = self.close.recv() => Signal::Stop,
            _ = self.shutdown.recv() => Signal::Stop,
        }
    }
}

/// Tells nobody: Naru is no service of Windows.
pub(crate) fn tell(_told: Told) -> io::Result<()> {
    Ok(())
}

/// Nobody waits for a beat.
pub(crate) fn watchdog_period() -> Option<Duration> {
    None
}

/// Files get the rights of their folder, which is a matter of the installation.
pub(crate) fn for_owner(options: &mut OpenOptions) -> &mut OpenOptions {
    options
}

/// Folders get the rights of the one that they are in.
pub(crate) fn for_owner_and_group(folder: &mut DirBuilder) -> &mut DirBuilder {
    folder
}

/// Games are not started as other users.
pub(crate) fn is_root() -> bool {
    false
}
