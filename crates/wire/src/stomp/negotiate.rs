//! The rules of connecting: versions, heart-beats, WebSocket subprotocols.

use std::fmt;
use std::time::Duration;

use thiserror::Error;

/// A version of the protocol. Later ones are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Version {
    /// No escapes, no heart-beats, no NACK, padded headers.
    V1_0,
    /// Escapes, heart-beats, NACK.
    V1_1,
    /// `ack` headers, CR LF, an escape for CR.
    V1_2,
}

/// What `version` says in the ERROR frame when none fits.
pub const VERSIONS_SUPPORTED: &str = "1.0,1.1,1.2";

impl Version {
    /// The name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Version::V1_0 => "1.0",
            Version::V1_1 => "1.1",
            Version::V1_2 => "1.2",
        }
    }

    /// The version of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Version> {
        [Version::V1_0, Version::V1_1, Version::V1_2].into_iter().find(|have| have.name() == name)
    }

    /// The WebSocket subprotocol that stands for it.
    #[must_use]
    pub fn subprotocol(self) -> &'static str {
        match self {
            Version::V1_0 => "v10.stomp",
            Version::V1_1 => "v11.stomp",
            Version::V1_2 => "v12.stomp",
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The highest version that both sides know, or `None` if there is none.
///
/// `accept_version` is the header of that name. Without it the client knows 1.0 only, says the
/// specification; on a WebSocket with a `subprotocol` it has named its version there. With both, the
/// header decides: clients offer all subprotocols and then name what they want.
#[must_use]
pub fn negotiate(accept_version: Option<&str>, subprotocol: Option<Version>) -> Option<Version> {
    match accept_version {
        Some(list) => list.split(',').filter_map(|name| Version::parse(name.trim())).max(),
        None => Some(subprotocol.unwrap_or(Version::V1_0)),
    }
}

/// The subprotocols we speak, the best one first.
pub const SUBPROTOCOLS: [Version; 3] = [Version::V1_2, Version::V1_1, Version::V1_0];

/// Chooses among the subprotocols that a WebSocket handshake offers (`Sec-WebSocket-Protocol`; several
/// such headers count as one list). `None`: it offers none of ours, so the answer must name none.
#[must_use]
pub fn choose_subprotocol<'a>(offered: impl IntoIterator<Item = &'a str>) -> Option<Version> {
    offered
        .into_iter()
        .flat_map(|list| list.split(','))
        .filter_map(|name| {
            SUBPROTOCOLS.into_iter().find(|version| version.subprotocol() == name.trim())
        })
        .max()
}

/// A `heart-beat` header that is not two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("heart-beat is not two numbers with a comma between them")]
pub struct HeartBeatError;

/// What one side says about heart-beats: how often it can send, how often it wants to hear.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeartBeat {
    /// The shortest pause between its own heart-beats that it can keep; 0: it sends none.
    pub can_send_ms: u32,
    /// The pause between the other's heart-beats that it would like; 0: it wants none.
    pub wants_ms: u32,
}

impl HeartBeat {
    /// Reads the header. Spaces around the numbers are forgiven; numbers beyond 32 bits mean the
    /// largest one.
    ///
    /// # Errors
    /// Anything but two numbers: the connection is refused.
    pub fn parse(header: &str) -> Result<HeartBeat, HeartBeatError> {
        let (can_send, wants) = header.split_once(',').ok_or(HeartBeatError)?;
        Ok(HeartBeat { can_send_ms: milliseconds(can_send)?, wants_ms: milliseconds(wants)? })
    }

    /// How often *we* send, when `self` is ours and `theirs` the client's. `None`: not at all.
    #[must_use]
    pub fn send_every(self, theirs: HeartBeat) -> Option<Duration> {
        agreed(self.can_send_ms, theirs.wants_ms)
    }

    /// How often the client sends, when `self` is ours. `None`: it does not.
    #[must_use]
    pub fn expect_every(self, theirs: HeartBeat) -> Option<Duration> {
        agreed(theirs.can_send_ms, self.wants_ms)
    }

    /// After how much silence a client is gone: twice the pause agreed on and a second, since timers
    /// of clients are late and links stall.
    #[must_use]
    pub fn gone_after(self, theirs: HeartBeat) -> Option<Duration> {
        Some(self.expect_every(theirs)? * 2 + Duration::from_secs(1))
    }
}

impl fmt::Display for HeartBeat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.can_send_ms, self.wants_ms)
    }
}

fn milliseconds(text: &str) -> Result<u32, HeartBeatError> {
    let text = text.trim();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(HeartBeatError);
    }
    // All digits, so that the only thing that can go wrong is that there are too many.
    Ok(text.parse().unwrap_or(u32::MAX))
}

fn agreed(can_send_ms: u32, wants_ms: u32) -> Option<Duration> {
    let is_used = can_send_ms != 0 && wants_ms != 0;
    is_used.then(|| Duration::from_millis(can_send_ms.max(wants_ms).into()))
}
