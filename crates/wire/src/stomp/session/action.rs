//! What the gateway has to do for a frame, in words that need no knowledge of frames.

use bytes::Bytes;
use naru_domain::Position;

use super::{AckId, AckMode, SubscriptionKey};
use crate::stomp::{Headers, HeartBeat, Version};

/// A frame that is in order.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Accepted {
    /// What to do.
    pub action: Action,
    /// The RECEIPT that becomes due when it is done, and everything before it. If it cannot be done,
    /// an ERROR frame carries this as `receipt-id` instead.
    pub receipt: Option<Box<str>>,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Decide whether to let the client in.
    Connect(Connect),
    /// Publish.
    Send(Publish),
    /// Deliver from now on, or from the position named.
    Subscribe(Subscribe),
    /// Deliver no more. What was never acknowledged goes back.
    Unsubscribe(Unsettled),
    /// Deliveries were consumed, or refused.
    Settle(Settle),
    /// All of it, in this order, or nothing.
    Commit(Vec<Step>),
    /// Send the receipt, then close.
    Disconnect,
    /// The machine has done it.
    Nothing,
}

/// A client that wants in. Its headers hold secrets, and do not show in `Debug`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    /// What was negotiated.
    pub version: Version,
    /// What the client can do and wants; nothing in 1.0.
    pub heart_beat: HeartBeat,
    /// Everything it said.
    pub headers: Headers,
}

impl Connect {
    /// The virtual host.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        self.headers.get("host")
    }

    /// The user.
    #[must_use]
    pub fn login(&self) -> Option<&str> {
        self.headers.get("login")
    }

    /// The password. Not for logs.
    #[must_use]
    pub fn passcode(&self) -> Option<&str> {
        self.headers.get("passcode")
    }
}

/// Headers of a SEND frame that are not handed on to subscribers: they are for the server, are the
/// server's to write, or are secrets that a client repeats on each frame.
const KEPT_BACK: [&str; 18] = [
    "ack",
    "authorization",
    "content-length",
    "content-type",
    "delivery-count",
    "destination",
    "expires",
    "gap",
    "idempotency-key",
    "login",
    "message-id",
    "passcode",
    "position",
    "receipt",
    "recovered",
    "redelivered",
    "subscription",
    "transaction",
];

/// A message to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// All headers of the frame. `destination` is there and says something.
    pub headers: Headers,
    /// The body.
    pub body: Bytes,
}

impl Publish {
    /// Where to.
    #[must_use]
    pub fn destination(&self) -> &str {
        self.headers.get("destination").unwrap_or_default()
    }

    /// What the body is, if the client said so.
    #[must_use]
    pub fn content_type(&self) -> Option<&str> {
        self.headers.get("content-type")
    }

    /// The key under which the same message counts once.
    #[must_use]
    pub fn idempotency_key(&self) -> Option<&str> {
        self.headers.get("idempotency-key")
    }

    /// What the sender wants subscribers to see.
    pub fn user_headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.headers.iter().filter(|(name, _)| {
            !KEPT_BACK.iter().any(|kept_back| name.eq_ignore_ascii_case(kept_back))
        })
    }
}

/// A new subscription. The session knows it already; if it is refused, the connection ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe {
    /// Its number.
    pub key: SubscriptionKey,
    /// How its deliveries are acknowledged.
    pub mode: AckMode,
    /// The last publication that the client has seen: deliver what came after it.
    pub last_position: Option<Position>,
    /// All headers of the frame. `destination` is there and says something.
    pub headers: Headers,
}

impl Subscribe {
    /// To what.
    #[must_use]
    pub fn destination(&self) -> &str {
        self.headers.get("destination").unwrap_or_default()
    }

    /// The name under which the server keeps the client's position.
    #[must_use]
    pub fn durable_id(&self) -> Option<&str> {
        self.headers.get("durable-id").filter(|id| !id.is_empty())
    }
}

/// What was delivered on a subscription that has ended, and was never acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsettled {
    /// Which subscription it was.
    pub subscription: SubscriptionKey,
    /// The tokens of its deliveries, the oldest first.
    pub deliveries: Vec<u64>,
}

/// What a client says about deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// ACK.
    Consumed,
    /// NACK.
    Refused,
}

/// Deliveries whose fate is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settle {
    /// On which subscription.
    pub subscription: SubscriptionKey,
    /// Which fate.
    pub outcome: Outcome,
    /// Their tokens, the oldest first; at least one. A cumulative ACK settles many.
    pub deliveries: Vec<u64>,
}

/// One part of a transaction that was committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Publish.
    Send(Publish),
    /// Deliveries were consumed, or refused.
    Settle(Settle),
}

/// The same while the transaction is open: what an ACK covers is known when it is committed.
#[derive(Debug)]
pub(super) enum PendingStep {
    Send(Publish),
    Settle(AckId, Outcome),
}
