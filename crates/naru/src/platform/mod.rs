//! What this binary does differently on different operating systems: signals, the service manager, the rights of
//! files. One file per system, the same functions in each. What games need of the system is not here, but in
//! `naru_supervisor::host`.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
use unix as os;
#[cfg(windows)]
use windows as os;

pub(crate) use os::{Signals, for_owner, for_owner_and_group, is_root, tell, watchdog_period};

/// What a signal asks for.
pub(crate) enum Signal {
    Stop,
    #[cfg_attr(windows, expect(dead_code, reason = "there is no signal for it"))]
    Reload,
}

/// What the service manager is told.
#[derive(Clone, Copy)]
pub(crate) enum Told {
    /// The server is up.
    Ready,
    /// It is still well.
    Beat,
    /// It is going down.
    Stopping,
}
