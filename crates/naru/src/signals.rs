//! The wait of a running server for the one that ends it.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use naru_admin::NodeHealth;
use tokio::time::timeout;
use tracing::{error, info, warn};

use crate::platform::{self, Signal, Signals, Told};
use crate::watchdog::Watchdog;

/// Tells the service manager that the server is up.
pub(crate) fn tell_ready() {
    if let Err(error) = platform::tell(Told::Ready) {
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
    let mut watchdog = Watchdog::new(platform::watchdog_period(), Arc::clone(health));
    loop {
        tokio::select! {
            signal = signals.next() => match signal {
                Signal::Reload => reload(),
                Signal::Stop => break,
            },
            () = watchdog.beat() => drop(platform::tell(Told::Beat)),
        }
    }
    info!(target: "naru::serve", "stopping; a second signal ends at once");
    drop(platform::tell(Told::Stopping));
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
