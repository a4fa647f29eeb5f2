//! The protocols that the chat load speaks, each written from its protocol document: what a client
//! says, and what it makes of the messages that come. Knows no sockets and no WebSocket frames.

mod centrifuge_json;
mod centrifuge_protobuf;
mod floor;
mod stomp;
mod template;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

pub(crate) use template::Template;

/// What a connection speaks, with what it logs in with.
#[derive(Clone, Debug)]
pub(crate) enum Dialect {
    Floor,
    Stomp(StompLogin),
    CentrifugeJson { token: String },
    CentrifugeProtobuf { token: String },
}

/// What a STOMP client says in CONNECT.
#[derive(Clone, Debug, Default)]
pub(crate) struct StompLogin {
    pub(crate) host: String,
    pub(crate) login: String,
    pub(crate) passcode: String,
    /// Both ways; zero means none.
    pub(crate) heart_beat_ms: u64,
}

/// What to subscribe to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Topic<'a> {
    /// Channel or destination, as the protocol names it.
    pub(crate) name: &'a str,
    pub(crate) interest: Interest<'a>,
}

/// From where on a subscriber wants messages.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Interest<'a> {
    /// From now on.
    Live,
    /// From now on, and a position to come back with later.
    Recoverable,
    /// Everything after this position.
    After(&'a str),
}

/// What one message of a server says.
#[derive(Debug, PartialEq)]
pub(crate) enum Said<'a> {
    /// A publication, or something else that was not asked for.
    Push,
    LoggedIn,
    /// The subscription stands. Publications that were missed may stand in the same message.
    Subscribed(Standing),
    /// The publish with this number was acknowledged.
    Accepted(u64),
    /// Wants the same back.
    Ping,
    /// A sign of life that wants nothing.
    Beat,
    Refused(Cow<'a, str>),
    /// Nothing that a load run knows.
    Other,
}

/// What a server says about a new subscription.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Standing {
    /// The position that it begins with, where the protocol says so at once.
    pub(crate) position: Option<Box<str>>,
    /// Recovery was asked for and is not complete.
    pub(crate) gap: bool,
}

/// Numbers of publishes that want an acknowledgement begin here, so that they all have as many
/// digits (or bytes).
const FIRST_ID: u64 = 1_000_000_000;

impl Dialect {
    /// The WebSocket subprotocol to ask for.
    pub(crate) fn subprotocol(&self) -> Option<&'static str> {
        match self {
            Dialect::Floor | Dialect::CentrifugeJson { .. } => None,
            Dialect::Stomp(_) => Some("v12.stomp"),
            Dialect::CentrifugeProtobuf { .. } => Some("centrifuge-protobuf"),
        }
    }

    /// Whether messages go in binary frames.
    pub(crate) fn is_binary(&self) -> bool {
        matches!(self, Dialect::CentrifugeProtobuf { .. })
    }

    /// Whether the subscription stands in the first message already.
    pub(crate) fn subscribes_at_once(&self) -> bool {
        !matches!(self, Dialect::Stomp(_))
    }

    /// The first message of a connection: login, and the subscription where it goes with it.
    pub(crate) fn hello(&self, topic: Option<Topic<'_>>, out: &mut Vec<u8>) {
        match self {
            Dialect::Floor => floor::hello(topic, out),
            Dialect::Stomp(login) => stomp::connect(login, out),
            Dialect::CentrifugeJson { token } => centrifuge_json::hello(token, topic, out),
            Dialect::CentrifugeProtobuf { token } => centrifuge_protobuf::hello(token, topic, out),
        }
    }

    /// The subscription, where it has a message of its own.
    pub(crate) fn subscribe(&self, topic: Topic<'_>, out: &mut Vec<u8>) {
        if let Dialect::Stomp(_) = self {
            stomp::subscribe(topic, out);
        }
    }

    /// A message that publishes `body_bytes` to `name`. With `acknowledged`, the server is to say
    /// that it has it.
    pub(crate) fn publish(&self, name: &str, body_bytes: usize, acknowledged: bool) -> Template {
        match self {
            Dialect::Floor => floor::publish(name, body_bytes, acknowledged),
            Dialect::Stomp(_) => stomp::publish(name, body_bytes, acknowledged),
            Dialect::CentrifugeJson { .. } => centrifuge_json::publish(name, body_bytes),
            Dialect::CentrifugeProtobuf { .. } => centrifuge_protobuf::publish(name, body_bytes),
        }
    }

    /// How much of a body is text with the mark in it: JSON wants quotes around it.
    pub(crate) fn text_bytes(&self, body_bytes: usize) -> usize {
        match self {
            Dialect::Floor | Dialect::Stomp(_) => body_bytes,
            Dialect::CentrifugeJson { .. } | Dialect::CentrifugeProtobuf { .. } => {
                body_bytes.saturating_sub(2)
            }
        }
    }

    /// What a client says before it goes, if anything.
    pub(crate) fn goodbye(&self) -> Option<&'static [u8]> {
        matches!(self, Dialect::Stomp(_)).then_some(stomp::DISCONNECT)
    }

    /// A sign of life that the client owes the server.
    pub(crate) fn beat(&self) -> Option<&'static [u8]> {
        match self {
            Dialect::Stomp(login) if login.heart_beat_ms > 0 => Some(b"\n"),
            _ => None,
        }
    }

    /// The answer to [`Said::Ping`].
    pub(crate) fn pong(&self) -> &'static [u8] {
        match self {
            Dialect::CentrifugeProtobuf { .. } => &[0],
            _ => b"{}",
        }
    }

    /// The end of the first unit of `bytes`, which begins at the first number of the pair; `None`
    /// while it is incomplete. `whole` says that `bytes` end with a WebSocket message.
    pub(crate) fn unit(&self, bytes: &[u8], whole: bool) -> Option<Unit> {
        match self {
            Dialect::Floor => floor::unit(bytes),
            Dialect::Stomp(_) => stomp::unit(bytes),
            Dialect::CentrifugeJson { .. } => centrifuge_json::unit(bytes, whole),
            Dialect::CentrifugeProtobuf { .. } => centrifuge_protobuf::unit(bytes),
        }
    }

    /// What one unit says. `interested` asks for positions, which costs parsing.
    pub(crate) fn read<'a>(&self, unit: &'a [u8], interested: bool) -> Said<'a> {
        match self {
            Dialect::Floor => floor::read(unit),
            Dialect::Stomp(_) => stomp::read(unit),
            Dialect::CentrifugeJson { .. } => centrifuge_json::read(unit, interested),
            Dialect::CentrifugeProtobuf { .. } => centrifuge_protobuf::read(unit, interested),
        }
    }

    /// What a push without any of our bodies says: nothing that matters, or the end of a
    /// subscription.
    pub(crate) fn fault_of_push<'a>(&self, unit: &'a [u8]) -> Option<Cow<'a, str>> {
        match self {
            Dialect::Floor | Dialect::Stomp(_) => None,
            Dialect::CentrifugeJson { .. } => centrifuge_json::fault_of_push(unit),
            Dialect::CentrifugeProtobuf { .. } => centrifuge_protobuf::fault_of_push(unit),
        }
    }

    /// The position that a publication carries, where subscriptions do not say it.
    pub(crate) fn position_of_push<'a>(&self, unit: &'a [u8]) -> Option<&'a str> {
        match self {
            Dialect::Stomp(_) => stomp::header(unit, "position"),
            Dialect::Floor => floor::position(unit),
            Dialect::CentrifugeJson { .. } | Dialect::CentrifugeProtobuf { .. } => None,
        }
    }

    /// Whether positions come with publications rather than with subscriptions.
    pub(crate) fn learns_from_pushes(&self) -> bool {
        matches!(self, Dialect::Stomp(_) | Dialect::Floor)
    }
}

/// Where the first unit of some bytes lies, and where the next one begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unit {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) next: usize,
}

/// What a refusal looks like to a reader: the beginning, as text.
fn excerpt(bytes: &[u8]) -> Cow<'_, str> {
    const BYTES_MAX: usize = 200;
    String::from_utf8_lossy(&bytes[..bytes.len().min(BYTES_MAX)])
}
