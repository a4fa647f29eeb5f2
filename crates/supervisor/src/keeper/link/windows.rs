//! Windows has no keeper yet, so nobody can be reached.

use std::fs::OpenOptions;
use std::io;
use std::path::Path;

/// What both would talk through.
pub(crate) type Stream = tokio::net::TcpStream;

#[expect(clippy::unused_async, reason = "connecting takes a while on other systems")]
pub(crate) async fn connect(_folder: &Path) -> io::Result<Stream> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Whose process is at the other end.
pub(crate) fn peer_pid(_stream: &Stream) -> Option<u32> {
    None
}

/// Files of a user's own folders are private there.
pub(crate) fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    options
}

/// The system does this by itself.
pub(crate) fn sync_folder(_folder: &Path) -> io::Result<()> {
    Ok(())
}

/// What a game may inherit from Naru. Naru's own variables hold its secrets.
pub(crate) const INHERITED: &[&str] = &[
    "PATH",
    "PATHEXT",
    "SYSTEMROOT",
    "SYSTEMDRIVE",
    "COMSPEC",
    "TEMP",
    "TMP",
    "USERPROFILE",
    "APPDATA",
    "LOCALAPPDATA",
    "PROGRAMDATA",
    "NUMBER_OF_PROCESSORS",
];
