//! What a client asks for: one model for both encodings.
//!
//! The Protobuf reader is derived from these types (the tags are the wire's field numbers); the JSON
//! reader stands in `json_in`. Fields of features that this server does not have are not here. Tokens
//! never show up in `Debug`.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;

/// Bits of the `flag` field of a subscribe request.
pub mod flag {
    /// The client understands numeric channel ids. This server always sends names.
    pub const CHANNEL_COMPACTION: i64 = 1;
    /// If recovery fails, the client wants an error and no subscription.
    pub const REJECT_UNRECOVERED: i64 = 2;
}

/// One command of a frame.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// What the answer must repeat. Zero only for [`Request::Pong`] and [`Request::Send`].
    pub id: u32,
    /// What is asked.
    pub request: Request,
}

/// What a command asks for. Where a client set several fields, the first in the protocol's own order
/// is the one that counts.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// Says who the client is; must come first. Boxed, as it is rare and much larger than the others.
    Connect(Box<ConnectRequest>),
    /// Subscribes to a channel. Boxed like `Connect`.
    Subscribe(Box<SubscribeRequest>),
    /// Ends a subscription.
    Unsubscribe {
        /// The channel.
        channel: String,
    },
    /// Publishes to a channel.
    Publish(PublishRequest),
    /// Who is in a channel.
    Presence {
        /// The channel.
        channel: String,
    },
    /// How many are in a channel.
    PresenceStats {
        /// The channel.
        channel: String,
    },
    /// What a channel kept.
    History(HistoryRequest),
    /// A call that is answered.
    Rpc(RpcRequest),
    /// A message that is not answered.
    Send {
        /// The payload; empty if there was none.
        data: Bytes,
    },
    /// A new token for the connection.
    Refresh(RefreshRequest),
    /// A new token for a subscription.
    SubRefresh(SubRefreshRequest),
    /// An application ping of a client; no SDK sends one.
    Ping,
    /// The answer to the server's ping: a command without an id.
    Pong,
    /// An id and nothing else.
    Nothing,
}

impl Request {
    /// The stable name for metrics and logs.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Request::Connect(_) => "connect",
            Request::Subscribe(_) => "subscribe",
            Request::Unsubscribe { .. } => "unsubscribe",
            Request::Publish(_) => "publish",
            Request::Presence { .. } => "presence",
            Request::PresenceStats { .. } => "presence_stats",
            Request::History(_) => "history",
            Request::Rpc(_) => "rpc",
            Request::Send { .. } => "send",
            Request::Refresh(_) => "refresh",
            Request::SubRefresh(_) => "sub_refresh",
            Request::Ping => "ping",
            Request::Pong => "pong",
            Request::Nothing => "nothing",
        }
    }
}

/// The first command of a connection.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub struct ConnectRequest {
    /// A connection token, or `""`.
    #[prost(string, tag = "1")]
    pub token: String,
    /// A payload for the application; empty if there was none.
    #[prost(bytes = "bytes", tag = "2")]
    pub data: Bytes,
    /// Positions of server-side subscriptions, or wishes for them, by channel. Only the recovery
    /// fields of the requests mean something here.
    #[prost(btree_map = "string, message", tag = "3")]
    pub subs: BTreeMap<String, SubscribeRequest>,
    /// What the client calls itself.
    #[prost(string, tag = "4")]
    pub name: String,
    /// The version that goes with the name.
    #[prost(string, tag = "5")]
    pub version: String,
    /// What the client would have sent as HTTP headers. Nothing in it can be trusted.
    #[prost(btree_map = "string, string", tag = "6")]
    pub headers: BTreeMap<String, String>,
    /// Bits for features that this server does not have.
    #[prost(int64, tag = "7")]
    pub flag: i64,
}

/// A subscription that a client asks for.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub struct SubscribeRequest {
    /// The channel.
    #[prost(string, tag = "1")]
    pub channel: String,
    /// A subscription token, or `""`.
    #[prost(string, tag = "2")]
    pub token: String,
    /// Whether to recover from `epoch` and `offset`.
    #[prost(bool, tag = "3")]
    pub recover: bool,
    /// The epoch of the position the client has; `""` fits every epoch.
    #[prost(string, tag = "6")]
    pub epoch: String,
    /// The last offset the client has.
    #[prost(uint64, tag = "7")]
    pub offset: u64,
    /// A payload for the application; empty if there was none.
    #[prost(bytes = "bytes", tag = "8")]
    pub data: Bytes,
    /// The wish for a position.
    #[prost(bool, tag = "9")]
    pub positioned: bool,
    /// The wish to be able to recover.
    #[prost(bool, tag = "10")]
    pub recoverable: bool,
    /// The wish to hear who joins and leaves.
    #[prost(bool, tag = "11")]
    pub join_leave: bool,
    /// The kind of deltas the client understands, or `""`.
    #[prost(string, tag = "12")]
    pub delta: String,
    /// A filter over tags; see [`TagsFilter`](super::TagsFilter).
    #[prost(message, optional, tag = "13")]
    pub tf: Option<FilterNode>,
    /// Bits of [`flag`].
    #[prost(int64, tag = "14")]
    pub flag: i64,
    /// The field `type`: 0 is an ordinary stream, the only kind this server has.
    #[prost(int32, tag = "15")]
    pub kind: i32,
}

/// A publication that a client asks for.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PublishRequest {
    /// The channel.
    #[prost(string, tag = "1")]
    pub channel: String,
    /// The payload; empty if there was none.
    #[prost(bytes = "bytes", tag = "2")]
    pub data: Bytes,
    /// The field `type`: 0 is an ordinary stream.
    #[prost(int32, tag = "3")]
    pub kind: i32,
}

/// A look at the history of a channel.
#[derive(Clone, PartialEq, prost::Message)]
pub struct HistoryRequest {
    /// The channel.
    #[prost(string, tag = "1")]
    pub channel: String,
    /// How many: 0 for the position only, below 0 for all.
    #[prost(int32, tag = "7")]
    pub limit: i32,
    /// Where to begin; exclusive.
    #[prost(message, optional, tag = "8")]
    pub since: Option<StreamPosition>,
    /// Whether the newest come first.
    #[prost(bool, tag = "9")]
    pub reverse: bool,
}

/// A place in the stream of a channel.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StreamPosition {
    /// The offset.
    #[prost(uint64, tag = "1")]
    pub offset: u64,
    /// The epoch; `""` fits every epoch.
    #[prost(string, tag = "2")]
    pub epoch: String,
}

/// A call.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RpcRequest {
    /// The payload; empty if there was none.
    #[prost(bytes = "bytes", tag = "1")]
    pub data: Bytes,
    /// The name of the method; `""` is a name, too.
    #[prost(string, tag = "2")]
    pub method: String,
}

/// A new token for the connection.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub struct RefreshRequest {
    /// The connection token.
    #[prost(string, tag = "1")]
    pub token: String,
}

/// A new token for a subscription.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub struct SubRefreshRequest {
    /// The channel. Old Python clients leave it out; the token names it, too.
    #[prost(string, tag = "1")]
    pub channel: String,
    /// The subscription token.
    #[prost(string, tag = "2")]
    pub token: String,
    /// The field `type`: anything but 0 belongs to shared polls, which this server does not have.
    #[prost(int32, tag = "3")]
    pub kind: i32,
}

/// A node of a filter over tags, as it was sent.
#[derive(Clone, PartialEq, prost::Message)]
pub struct FilterNode {
    /// `""` for a comparison, else `and`, `or`, `not`.
    #[prost(string, tag = "1")]
    pub op: String,
    /// The tag that is compared.
    #[prost(string, tag = "2")]
    pub key: String,
    /// How it is compared.
    #[prost(string, tag = "3")]
    pub cmp: String,
    /// What it is compared with.
    #[prost(string, tag = "4")]
    pub val: String,
    /// What it is compared with, where there are several.
    #[prost(string, repeated, tag = "5")]
    pub vals: Vec<String>,
    /// What the operation joins.
    #[prost(message, repeated, tag = "6")]
    pub nodes: Vec<FilterNode>,
}

/// Shows whether there is a token, never which.
struct Hidden<'a>(&'a str);

impl fmt::Debug for Hidden<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "none" } else { "hidden" })
    }
}

impl fmt::Debug for ConnectRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Headers and data often carry secrets as well.
        f.debug_struct("ConnectRequest")
            .field("token", &Hidden(&self.token))
            .field("data_bytes", &self.data.len())
            .field("subs", &self.subs)
            .field("name", &self.name)
            .field("version", &self.version)
            .field("headers", &self.headers.len())
            .field("flag", &self.flag)
            .finish()
    }
}

impl fmt::Debug for SubscribeRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubscribeRequest")
            .field("channel", &self.channel)
            .field("token", &Hidden(&self.token))
            .field("recover", &self.recover)
            .field("epoch", &self.epoch)
            .field("offset", &self.offset)
            .field("data_bytes", &self.data.len())
            .field("positioned", &self.positioned)
            .field("recoverable", &self.recoverable)
            .field("join_leave", &self.join_leave)
            .field("delta", &self.delta)
            .field("tf", &self.tf)
            .field("flag", &self.flag)
            .field("kind", &self.kind)
            .finish()
    }
}

impl fmt::Debug for RefreshRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefreshRequest").field("token", &Hidden(&self.token)).finish()
    }
}

impl fmt::Debug for SubRefreshRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubRefreshRequest")
            .field("channel", &self.channel)
            .field("token", &Hidden(&self.token))
            .field("kind", &self.kind)
            .finish()
    }
}
