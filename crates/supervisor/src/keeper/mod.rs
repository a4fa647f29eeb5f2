//! The keeper: a small process of ours that holds one game, so that the game outlives Naru and its exit is known.
//!
//! Naru writes what to start into the ward's folder and runs itself again as `naru ward-keeper --folder FOLDER`.
//! That process takes a session of its own, becomes the parent of all orphans below it, runs itself once more
//! with `--exec`, which takes the game's priorities and becomes the game, and then waits. It answers one Naru at
//! a time on a socket in the folder, and writes every exit into the folder, so that it is known even if nobody
//! was there. It ends by itself when nothing of the game is left.
//!
//! `files` is what lies in the folder, `words` what is said over the socket, `client` Naru's side. `serve` is the
//! keeper's own loop and `exec` what runs in the game's process before the game does.

mod client;
mod files;
mod link;
pub mod words;

#[cfg(unix)]
mod exec;
#[cfg(unix)]
mod serve;

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

pub use client::{Client, ConnectError, LaunchError, Lost, RequestError, Starter};
pub use files::{
    CONSOLE, ExitFile, ExitRecord, Group, Launch, ProcessFile, SignalSent, Stdin, User, read_exit,
    read_process,
};
pub use words::{Event, Phase, Status, Target};

#[cfg(unix)]
pub use serve::write_input;

/// A file that is made with these options can be read by its owner only.
pub(crate) fn for_owner_only(options: &mut std::fs::OpenOptions) {
    link::private(options);
}

/// The subcommand under which Naru runs itself again.
pub const COMMAND: &str = "ward-keeper";

/// How the keeper's process ends when another keeper has the folder.
pub(crate) const CODE_KEPT: u8 = 3;

/// Which part of the keeper a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The keeper itself: `naru ward-keeper --folder FOLDER`.
    Keep,
    /// What becomes the game: `naru ward-keeper --folder FOLDER --exec`. Only a keeper starts it.
    Exec,
}

/// The whole life of such a process. It wants to be the only thing in it: no runtime, no threads.
#[must_use]
pub fn main(folder: &Path, role: Role) -> ExitCode {
    let failed = match run(folder, role) {
        Ok(()) => return ExitCode::SUCCESS,
        Err(failed) => failed,
    };
    // The keeper's standard error is a file in the folder, that of the other part the game's console.
    drop(writeln!(std::io::stderr(), "naru: {failed}"));
    ExitCode::from(if matches!(failed, Failed::Kept) { CODE_KEPT } else { 1 })
}

#[cfg(unix)]
fn run(folder: &Path, role: Role) -> Result<(), Failed> {
    match role {
        Role::Keep => serve::run(folder),
        Role::Exec => Err(exec::run(folder)),
    }
}

#[cfg(windows)]
fn run(_folder: &Path, _role: Role) -> Result<(), Failed> {
    Err(Failed::Unsupported(
        "a keeper needs job objects and process handles, which are not built yet",
    ))
}

/// Why a keeper could not do its work.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("another keeper has this folder")]
    #[cfg_attr(windows, expect(dead_code, reason = "there are no keepers yet"))]
    Kept,
    #[error("{0}")]
    #[cfg_attr(unix, expect(dead_code, reason = "all is there"))]
    Unsupported(&'static str),
    #[error("{what}: {source}")]
    #[cfg_attr(windows, expect(dead_code, reason = "there are no keepers yet"))]
    Io { what: &'static str, source: std::io::Error },
}

#[cfg(unix)]
impl Failed {
    fn io<E: Into<std::io::Error>>(what: &'static str) -> impl FnOnce(E) -> Failed {
        move |source| Failed::Io { what, source: source.into() }
    }
}
