//! Signals, and the wait of a running server for the one that ends it.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use naru_admin::NodeHealth;
use tokio::time::timeout;
use tracing::{error, info, warn};

use crate::watchdog::Watchdog;

/// Tells the service manager that the server is up.
pub(crate) fn tell_ready() {
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        warn!(target: "naru::serve", %error, "the service manager was not told");
    }
}

/// Waits until a signal says stop, gives the service manager its beats meanwhile, and calls `reload` when
/// told to.
pub(crate) async fn until_stop(
    signals: &mut Signals,
    health: &Arc<NodeHealth>,
    mut reload: impl FnMut(),
) {
    let mut watchdog = Watchdog::new(sd_notify::watchdog_enabled(), Arc::clone(health));
    loop {
        tokio::select! {
            signal = signals.next() => match signal {
                Signal::Reload => reload(),
                Signal::Stop => break,
            },
            () = watchdog.beat() => {
                drop(sd_notify::notify(&[sd_notify::NotifyState::Watchdog]));
            }
        }
    }
    info!(target: "naru::serve", "stopping; a second signal ends at once");
    drop(sd_notify::notify(&[sd_notify::NotifyState::Stopping]));
}

/// Waits for the drain, at most `limit`; a second signal ends the wait.
pub(crate) async fn drained(
    signals: &mut Signals,
    limit: Duration,
    drain: impl Future<Output = anyhow::Result<()>>,
) -> ExitCode {
    let code = tokio::select! {
        drained = timeout(limit, drain) => match drained {
            Ok(Ok(())) => ExitCode::SUCCESS,
            Ok(Err(error)) => {
                error!(target: "naru::serve", %error, "stopped with an error");
                ExitCode::FAILURE
            }
            Err(_) => {
                warn!(target: "naru::serve", "not everything ended in time; what was kept is kept");
                ExitCode::FAILURE
            }
        },
        _ = signals.next() => ExitCode::FAILURE,
    };
    info!(target: "naru::serve", "stopped");
    code
}

/// What a signal asks for.
pub(crate) enum Signal {
    Stop,
    Reload,
}

/// The signals that the server listens to.
#[cfg(unix)]
pub(crate) struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    pub(crate) fn new() -> anyhow::Result<Signals> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    pub(crate) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::Stop,
            _ = self.interrupt.recv() => Signal::Stop,
            _ = self.hang_up.recv() => Signal::Reload,
        }
    }
}

/// The signals that the server listens to.
#[cfg(not(unix))]
pub(crate) struct Signals;

#[cfg(not(unix))]
impl Signals {
    pub(crate) fn new() -> anyhow::Result<Signals> {
        Ok(Signals)
    }

    pub(crate) async fn next(&mut self) -> Signal {
        match tokio::signal::ctrl_c().await {
            Ok(()) => Signal::Stop,
            Err(_) => std::future::pending().await,
        }
    }
}
