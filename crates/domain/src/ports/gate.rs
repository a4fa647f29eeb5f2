//! Whom the chat gateways ask: tokens, logins, and the application's own back end.

use async_trait::async_trait;
use bytes::Bytes;

use crate::clock::Timestamp;

/// What an override of a subscription's options says: `None` leaves what the namespace says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubscribeOverride {
    /// Whether the subscriber stands in the presence.
    pub presence: Option<bool>,
    /// Whether others hear that it enters and leaves.
    pub join_leave: Option<bool>,
    /// Whether it hears who enters and leaves.
    pub force_push_join_leave: Option<bool>,
    /// Whether it can recover.
    pub force_recovery: Option<bool>,
    /// Whether it has a position.
    pub force_positioning: Option<bool>,
}

/// What a subscription is granted with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscribeGrant {
    /// Shown to the others of the channel; empty for nothing.
    pub info: Bytes,
    /// For the subscriber itself; empty for nothing.
    pub data: Bytes,
    /// When the right runs out.
    pub expires_at: Option<Timestamp>,
    /// Departures from the namespace.
    pub overrides: SubscribeOverride,
}

/// What a connection may do in channels whose options do not let everybody do it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChannelRight {
    /// A channel's name; with [`ChannelRight::is_pattern`] each `*` stands for any run of characters.
    pub channels: Box<str>,
    /// Whether the name is a pattern.
    pub is_pattern: bool,
    /// It may subscribe.
    pub subscribe: bool,
    /// It may publish.
    pub publish: bool,
    /// It may read history, and wish for recovery.
    pub history: bool,
    /// It may ask who is there.
    pub presence: bool,
}

impl ChannelRight {
    /// Everything, in the channels that fit a pattern.
    #[must_use]
    pub fn everything(pattern: &str) -> ChannelRight {
        ChannelRight {
            channels: pattern.into(),
            is_pattern: true,
            subscribe: true,
            publish: true,
            history: true,
            presence: true,
        }
    }
}

/// Who a connection is, by a token or by the back end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    /// The user; empty for an anonymous one.
    pub user: String,
    /// When they run out.
    pub expires_at: Option<Timestamp>,
    /// Shown to others; empty for nothing.
    pub info: Bytes,
    /// For the client itself; empty for nothing.
    pub data: Bytes,
    /// Kept with the connection and sent to the back end, never to clients.
    pub meta: Bytes,
    /// Channels that the server subscribes the connection to.
    pub channels: Vec<(String, SubscribeGrant)>,
    /// What it may do besides what namespaces let everybody do.
    pub rights: Vec<ChannelRight>,
}

/// What a subscription token says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscribeClaims {
    /// The user it was made for.
    pub user: String,
    /// The channel it was made for.
    pub channel: String,
    /// The connection it was made for, if it says so.
    pub client: Option<String>,
    /// What it grants.
    pub grant: SubscribeGrant,
}

/// Why a token is worth nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It was not made by somebody we trust, or not for this.
    #[error("the token is invalid")]
    Invalid,
    /// It was good once.
    #[error("the token has expired")]
    Expired,
}

/// Checks tokens. Pure: keys are in memory.
pub trait TokenVerifier: Send + Sync + 'static {
    /// A connection token.
    fn connect(&self, token: &str, now: Timestamp) -> Result<Credentials, TokenError>;

    /// A subscription token.
    fn subscribe(&self, token: &str, now: Timestamp) -> Result<SubscribeClaims, TokenError>;
}

/// What a login is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// They do.
    Known {
        /// The name of the user.
        user: String,
        /// What the account may do besides what namespaces let everybody do.
        rights: Vec<ChannelRight>,
    },
    /// Name and password do not belong together, or there is no such user.
    Refused,
    /// Too many wrong ones: try later.
    Locked,
}

/// Checks names and passwords. Slow on purpose; bounded by the adapter.
#[async_trait]
pub trait Logins: Send + Sync + 'static {
    /// Whether the password is that of the user. `source` is the address that asks, for the lock-out.
    async fn login(&self, name: &str, password: &str, source: &str) -> Login;
}

/// Who asks the back end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// The connection's id.
    pub client: String,
    /// The user; empty before it is known and for anonymous ones.
    pub user: String,
    /// `websocket`, `tcp`, `sse`, `http_stream`.
    pub transport: &'static str,
    /// `json`, `protobuf`, `stomp`.
    pub protocol: &'static str,
    /// Whether payloads are bytes that need not be JSON.
    pub is_binary: bool,
    /// What the back end keeps with the connection.
    pub meta: Bytes,
    /// HTTP headers of the opening request that are passed on.
    pub headers: Vec<(String, String)>,
}

/// The answer of a back end that does not want something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The request fails.
    Error {
        /// 400 to 1999 for those of the application; 100 when it does not answer.
        code: u32,
        /// For people.
        message: String,
        /// The same may succeed later.
        temporary: bool,
    },
    /// The connection ends.
    Disconnect {
        /// 4000 to 4999.
        code: u32,
        /// For people.
        reason: String,
    },
}

/// A publication as the back end changed it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublishVerdict {
    /// Replaces the payload.
    pub data: Option<Bytes>,
    /// It is delivered but not kept.
    pub skip_history: bool,
    /// Added to it.
    pub tags: Vec<(String, String)>,
    /// Publishes once.
    pub idempotency_key: Option<String>,
    /// Deltas may be sent.
    pub delta: bool,
}

/// What a refresh of the back end says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refreshed {
    /// The right has ended.
    pub expired: bool,
    /// When it runs out next.
    pub expires_at: Option<Timestamp>,
    /// Replaces what is kept with the connection.
    pub meta: Option<Bytes>,
}

/// Which events the back end wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackendEvents {
    /// Connections without a token.
    pub connect: bool,
    /// Connections that run out.
    pub refresh: bool,
    /// Calls, and STOMP's `/app`.
    pub rpc: bool,
    /// Messages without an answer.
    pub message: bool,
    /// Connections that ended.
    pub disconnected: bool,
}

/// The application. Every call has a deadline, and a back end that is down is a refusal with code 100.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// What it wants to hear. Subscriptions and publications are asked for by namespace.
    fn events(&self) -> BackendEvents;

    /// Whether this header of the opening request is to be passed on. `name` is in small letters.
    fn wants_header(&self, name: &str) -> bool;

    /// May this connection in, and who is it?
    async fn connect(
        &self,
        caller: &Caller,
        name: &str,
        version: &str,
        data: Bytes,
    ) -> Result<Credentials, Refusal>;

    /// The connection's right runs out. An `Err` with an error says nothing about it: the caller keeps the
    /// connection for a while and asks again.
    async fn refresh(&self, caller: &Caller) -> Result<Refreshed, Refusal>;

    /// May it subscribe?
    async fn subscribe(
        &self,
        caller: &Caller,
        channel: &str,
        data: Bytes,
    ) -> Result<SubscribeGrant, Refusal>;

    /// May it publish this?
    async fn publish(
        &self,
        caller: &Caller,
        channel: &str,
        data: Bytes,
    ) -> Result<PublishVerdict, Refusal>;

    /// A subscription's right runs out. An `Err` is as with [`Backend::refresh`].
    async fn sub_refresh(&self, caller: &Caller, channel: &str) -> Result<Refreshed, Refusal>;

    /// A call; `method` is a path for STOMP's `/app`.
    async fn rpc(&self, caller: &Caller, method: &str, data: Bytes) -> Result<Bytes, Refusal>;

    /// A message that nobody waits for an answer to.
    async fn message(&self, caller: &Caller, data: Bytes) -> Result<(), Refusal>;

    /// A connection ended. Returns at once; tried again until it is heard, within limits.
    fn disconnected(&self, caller: &Caller, reason: &str);
}
