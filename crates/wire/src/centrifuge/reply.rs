//! What the server says: replies, pushes and the records in them. All of it is borrowed, so that what
//! the hub holds is written without a copy in between.

use std::collections::BTreeMap;

use super::codes::{DisconnectCode, ErrorCode, UnsubscribeCode};

/// An answer to one command.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply<'a> {
    /// The command's id.
    pub id: u32,
    /// The result, or why there is none.
    pub outcome: Result<Answer<'a>, ReplyError<'a>>,
}

impl<'a> Reply<'a> {
    /// The result of the command `id`.
    #[must_use]
    pub fn ok(id: u32, answer: Answer<'a>) -> Reply<'a> {
        Reply { id, outcome: Ok(answer) }
    }

    /// The refusal of the command `id`.
    #[must_use]
    pub fn error(id: u32, error: impl Into<ReplyError<'a>>) -> Reply<'a> {
        Reply { id, outcome: Err(error.into()) }
    }
}

/// Why a command has no result. Code and message are never empty: some SDKs fail without them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyError<'a> {
    code: u32,
    message: &'a str,
    temporary: bool,
}

impl<'a> ReplyError<'a> {
    /// An error of the application. A code of 0 becomes the internal error, and an empty message is
    /// replaced, as a reply must have both.
    #[must_use]
    pub fn application(code: u32, message: &'a str, temporary: bool) -> ReplyError<'a> {
        if code == 0 {
            return ErrorCode::Internal.into();
        }
        let message = if message.is_empty() { "application error" } else { message };
        ReplyError { code, message, temporary }
    }

    /// The number.
    #[must_use]
    pub fn code(&self) -> u32 {
        self.code
    }

    /// The text.
    #[must_use]
    pub fn message(&self) -> &'a str {
        self.message
    }

    /// Whether the same command may succeed later.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        self.temporary
    }
}

impl From<ErrorCode> for ReplyError<'_> {
    fn from(code: ErrorCode) -> Self {
        ReplyError { code: code.code(), message: code.message(), temporary: code.is_temporary() }
    }
}

/// The result of a command, by its kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer<'a> {
    /// To a connect.
    Connect(ConnectResult<'a>),
    /// To a subscribe.
    Subscribe(SubscribeResult<'a>),
    /// To an unsubscribe.
    Unsubscribe,
    /// To a publish.
    Publish,
    /// To a presence: who is there, keyed on the wire by their `client`, which must differ.
    Presence(&'a [ClientInfo<'a>]),
    /// To a presence_stats.
    PresenceStats {
        /// Connections.
        clients: u32,
        /// Distinct users.
        users: u32,
    },
    /// To a history.
    History(HistoryResult<'a>),
    /// To a ping of the client.
    Ping,
    /// To an rpc; empty for no payload.
    Rpc(&'a [u8]),
    /// To a refresh.
    Refresh(RefreshResult<'a>),
    /// To a sub_refresh.
    SubRefresh(SubRefreshResult),
}

/// The result of a connect.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConnectResult<'a> {
    /// The connection's id.
    pub client: &'a str,
    /// The server's version.
    pub version: &'a str,
    /// In how many seconds the client is to refresh. `None` if it need not; `Some(0)` is written as 1,
    /// as SDKs would never refresh otherwise.
    pub ttl: Option<u32>,
    /// A payload of the application; empty for none.
    pub data: &'a [u8],
    /// Server-side subscriptions by channel.
    pub subs: &'a [(&'a str, SubscribeResult<'a>)],
    /// Seconds between pings. Never 0: some SDKs would drop the connection.
    pub ping: u32,
    /// Whether the client is to answer pings.
    pub pong: bool,
    /// The secret of an emulated connection; `""` for others.
    pub session: &'a str,
    /// The node that holds an emulated connection; `""` for others.
    pub node: &'a str,
    /// The server's time in milliseconds since the epoch; 0 for none.
    pub time: i64,
}

/// The result of a subscribe, and an entry of [`ConnectResult::subs`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SubscribeResult<'a> {
    /// In how many seconds the client is to send a sub_refresh. `None` if it need not; `Some(0)` is
    /// written as 1.
    pub ttl: Option<u32>,
    /// The client may recover from a position.
    pub recoverable: bool,
    /// The epoch of the position.
    pub epoch: &'a str,
    /// What was recovered, oldest first. Only together with `recovered`.
    pub publications: &'a [Publication<'a>],
    /// Nothing was missed, or is in `publications`.
    pub recovered: bool,
    /// The offset of the position.
    pub offset: u64,
    /// The position is tracked.
    pub positioned: bool,
    /// A payload of the application; empty for none.
    pub data: &'a [u8],
    /// Recovery was asked for.
    pub was_recovering: bool,
    /// Publications may be deltas.
    pub delta: bool,
}

/// The result of a history.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HistoryResult<'a> {
    /// What was found, in the order that was asked for.
    pub publications: &'a [Publication<'a>],
    /// The epoch of the top position.
    pub epoch: &'a str,
    /// The offset of the top position.
    pub offset: u64,
}

/// The result of a refresh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RefreshResult<'a> {
    /// The connection's id, or `""`.
    pub client: &'a str,
    /// The server's version, or `""`.
    pub version: &'a str,
    /// As in [`ConnectResult::ttl`].
    pub ttl: Option<u32>,
}

/// The result of a sub_refresh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubRefreshResult {
    /// As in [`SubscribeResult::ttl`].
    pub ttl: Option<u32>,
}

/// A party in a channel. Payloads are empty for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientInfo<'a> {
    /// The user; `""` for anonymous ones.
    pub user: &'a str,
    /// The connection's id.
    pub client: &'a str,
    /// What the connection token says of it.
    pub conn_info: &'a [u8],
    /// What the subscription token says of it.
    pub chan_info: &'a [u8],
}

/// How the payload of a publication is written to a JSON connection. Protobuf has both as bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload<'a> {
    /// JSON, written as it is.
    Embedded(&'a [u8]),
    /// Text, written as a JSON string: the rule on subscriptions with deltas, for deltas and full
    /// payloads alike.
    Quoted(&'a [u8]),
}

impl<'a> Payload<'a> {
    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        match self {
            Payload::Embedded(bytes) | Payload::Quoted(bytes) => bytes,
        }
    }
}

impl Default for Payload<'_> {
    fn default() -> Self {
        Payload::Embedded(&[])
    }
}

/// A publication.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Publication<'a> {
    /// The payload.
    pub data: Payload<'a>,
    /// Who published it, if a client did.
    pub info: Option<ClientInfo<'a>>,
    /// Its offset; 0 in channels without history.
    pub offset: u64,
    /// Its tags.
    pub tags: Option<&'a BTreeMap<String, String>>,
    /// The payload is a delta against the publication before.
    pub delta: bool,
}

/// What the server says unasked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Push<'a> {
    /// A publication of a channel.
    Publication {
        /// The channel.
        channel: &'a str,
        /// The publication.
        publication: Publication<'a>,
    },
    /// Somebody came.
    Join {
        /// The channel.
        channel: &'a str,
        /// Who.
        info: ClientInfo<'a>,
    },
    /// Somebody went.
    Leave {
        /// The channel.
        channel: &'a str,
        /// Who.
        info: ClientInfo<'a>,
    },
    /// The server ended a subscription.
    Unsubscribe {
        /// The channel.
        channel: &'a str,
        /// The number, from which the SDK knows whether to subscribe again.
        code: u32,
        /// The text; `""` is replaced, as some SDKs fail without one.
        reason: &'a str,
    },
    /// The server began a subscription.
    Subscribe {
        /// The channel.
        channel: &'a str,
        /// The client may recover from a position.
        recoverable: bool,
        /// The epoch of the position.
        epoch: &'a str,
        /// The offset of the position.
        offset: u64,
        /// The position is tracked.
        positioned: bool,
        /// A payload of the application; empty for none.
        data: &'a [u8],
    },
    /// A message of the application to this connection.
    Message {
        /// The payload.
        data: &'a [u8],
    },
    /// The end of the connection, where there is no close frame to say it.
    Disconnect {
        /// The number, from which the SDK knows whether to come back.
        code: u32,
        /// The text.
        reason: &'a str,
    },
}

impl Push<'_> {
    /// The push that ends the subscription to `channel`, with the reason of the protocol.
    #[must_use]
    pub fn unsubscribe(channel: &str, code: UnsubscribeCode) -> Push<'_> {
        Push::Unsubscribe { channel, code: code.code(), reason: code.reason() }
    }

    /// The push that ends the connection, with the reason of the protocol.
    #[must_use]
    pub fn disconnect(code: DisconnectCode) -> Push<'static> {
        Push::Disconnect { code: code.code().into(), reason: code.reason() }
    }
}

/// A time to live as it is written. SDKs take 0 for "never", so what ends now ends in a second.
pub(super) fn seconds(ttl: Option<u32>) -> u32 {
    ttl.map_or(0, |ttl| ttl.max(1))
}

/// A reason as it is written: some SDKs fail on a push without one.
pub(super) fn named_reason(reason: &str) -> &str {
    if reason.is_empty() { "no reason given" } else { reason }
}
