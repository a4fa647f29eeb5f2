//! What one connection may do: a state machine without IO.
//!
//! The gateway hands it each frame of a client and gets back one [`Action`] to carry out, or a
//! [`Fatal`] to answer with an ERROR frame and to close. What the machine can do itself (transactions,
//! which delivery an ACK means) it does; publishing, queues and rights are the gateway's.
//!
//! ```text
//! waiting ──CONNECT──▶ deciding ──accept()──▶ open ──DISCONNECT, a mistake, close()──▶ closed
//! ```
//!
//! While the gateway decides who a client is, it leaves what comes behind CONNECT undecoded: clients
//! do not wait for CONNECTED, and nothing may take effect before it.
//!
//! It must not know sockets, clocks (`now` is an argument), rights, or what a destination leads to.

mod action;
mod receipts;
mod refusal;
mod subscription;
mod transaction;

use std::sync::Arc;
use std::time::{Duration, Instant};

pub use action::{Accepted, Action, Connect, Outcome, Publish, Settle, Step, Subscribe, Unsettled};
pub use receipts::{Receipts, Ticket};
pub use refusal::{Fatal, Refusal};
pub use subscription::{AckId, AckMode, Delivery, Subscription, SubscriptionKey};

use super::{Command, Frame, Headers, HeartBeat, Version, negotiate, parse_position};
use action::PendingStep;
use transaction::Transactions;

/// Bounds of one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    /// Subscriptions at a time.
    pub subscriptions_max: usize,
    /// Deliveries of one subscription that wait for an ACK; no more are delivered meanwhile.
    pub unacked_max: u16,
    /// A destination, in bytes.
    pub destination_bytes_max: usize,
    /// Subscription ids, transaction names, receipts and durable ids, in bytes.
    pub name_bytes_max: usize,
    /// Transactions at a time.
    pub transactions_max: usize,
    /// Frames of one transaction.
    pub transaction_frames_max: usize,
    /// What all open transactions of the connection hold together, in bytes.
    pub transaction_bytes_max: usize,
    /// How long a transaction may stay open.
    pub transaction_time_max: Duration,
}

impl Default for SessionLimits {
    fn default() -> SessionLimits {
        SessionLimits {
            subscriptions_max: 128,
            unacked_max: 1_000,
            destination_bytes_max: 512,
            name_bytes_max: 255,
            transactions_max: 16,
            transaction_frames_max: 1_000,
            transaction_bytes_max: 4 * 1024 * 1024,
            transaction_time_max: Duration::from_secs(60),
        }
    }
}

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// CONNECT has not come.
    Waiting,
    /// The gateway decides whether to accept it.
    Deciding,
    /// Everything is allowed.
    Open,
    /// Nothing has an effect any more.
    Closed,
}

/// One connection of a client. About 50 bytes, and as much for each subscription and its names.
#[derive(Debug)]
pub struct Session {
    limits: Arc<SessionLimits>,
    /// Few: searched from the front.
    subscriptions: Vec<Subscription>,
    transactions: Option<Box<Transactions>>,
    next_key: u32,
    state: State,
    /// Before CONNECT, what the WebSocket's subprotocol stands for.
    version: Option<Version>,
}

impl Session {
    /// A connection on which nothing was said. `subprotocol` is what the WebSocket handshake chose.
    #[must_use]
    pub fn new(limits: Arc<SessionLimits>, subprotocol: Option<Version>) -> Session {
        Session {
            limits,
            subscriptions: Vec::new(),
            transactions: None,
            next_key: 0,
            state: State::Waiting,
            version: subprotocol,
        }
    }

    /// Where it stands.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// What was negotiated; `None` before CONNECT.
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        self.version.filter(|_| self.state != State::Waiting)
    }

    /// Takes one frame of the client.
    ///
    /// Behind a [`Action::Connect`] the gateway gives the decoder its version, decides, and calls
    /// [`Session::accept`] before the next frame.
    ///
    /// # Errors
    /// The client broke a rule: nothing of the frame took effect. Answer with [`Fatal::error_frame`] and
    /// close; the session is closed already.
    pub fn on_frame(&mut self, frame: Frame, now: Instant) -> Result<Accepted, Fatal> {
        if self.state == State::Closed {
            return Ok(Accepted { action: Action::Nothing, receipt: None });
        }
        let (command, receipt) = (frame.command, frame.header("receipt").map(Box::from));
        match self.take(frame, now) {
            Ok(action) => {
                // Any frame but CONNECT may ask for a receipt; CONNECT has its CONNECTED.
                let receipt = receipt.filter(|_| !matches!(action, Action::Connect(_)));
                Ok(Accepted { action, receipt })
            }
            Err(refusal) => {
                self.state = State::Closed;
                Err(Fatal { refusal, command, receipt })
            }
        }
    }

    fn take(&mut self, frame: Frame, now: Instant) -> Result<Action, Refusal> {
        let is_connect = matches!(frame.command, Command::Connect | Command::Stomp);
        match self.state {
            State::Waiting if is_connect => return self.connect(frame.headers),
            State::Waiting | State::Deciding => return Err(Refusal::NotConnected),
            State::Open | State::Closed if is_connect => return Err(Refusal::AlreadyConnected),
            State::Open | State::Closed => (),
        }
        if let Some(receipt) = frame.header("receipt") {
            self.check_name("receipt", receipt)?;
        }
        self.on_time(now);
        let headers = &frame.headers;
        match frame.command {
            Command::Send => self.send(frame),
            Command::Subscribe => self.subscribe(frame.headers),
            Command::Unsubscribe => self.unsubscribe(headers),
            Command::Ack => self.settle(headers, Outcome::Consumed),
            Command::Nack if self.is_since(Version::V1_1) => self.settle(headers, Outcome::Refused),
            Command::Begin => self.begin(headers, now),
            Command::Commit => self.commit(headers),
            Command::Abort => self.abort(headers),
            Command::Disconnect => {
                self.state = State::Closed;
                self.transactions = None;
                Ok(Action::Disconnect)
            }
            _ => Err(Refusal::UnexpectedCommand),
        }
    }

    /// The gateway has let the client in: send CONNECTED, and go on reading.
    pub fn accept(&mut self) {
        if self.state == State::Deciding {
            self.state = State::Open;
        }
    }

    /// The connection is over, for whatever reason. Open transactions are gone. Returns what was
    /// delivered and never acknowledged, in the order of delivery per subscription.
    pub fn close(&mut self) -> Vec<Unsettled> {
        self.state = State::Closed;
        self.transactions = None;
        let subscriptions = std::mem::take(&mut self.subscriptions).into_iter();
        subscriptions.map(Subscription::end).filter(|ended| !ended.deliveries.is_empty()).collect()
    }

    fn connect(&mut self, headers: Headers) -> Result<Action, Refusal> {
        let version = negotiate(headers.get("accept-version"), self.version)
            .ok_or(Refusal::UnsupportedVersion)?;
        let (headers, heart_beat) = match version {
            Version::V1_0 => (headers.trimmed(), HeartBeat::default()),
            _ => {
                let heart_beat = headers.get("heart-beat").map(HeartBeat::parse).transpose();
                let heart_beat = heart_beat.map_err(|_error| Refusal::BadHeartBeat)?;
                (headers, heart_beat.unwrap_or_default())
            }
        };
        self.version = Some(version);
        self.state = State::Deciding;
        Ok(Action::Connect(Connect { version, heart_beat, headers }))
    }

    fn is_since(&self, version: Version) -> bool {
        self.version >= Some(version)
    }

    fn check_name(&self, header: &'static str, value: &str) -> Result<(), Refusal> {
        let max = self.limits.name_bytes_max;
        if value.len() > max {
            return Err(Refusal::NameTooLong { header, max });
        }
        Ok(())
    }

    fn name<'a>(&self, headers: &'a Headers, name: &'static str) -> Result<&'a str, Refusal> {
        let value = required(headers, name)?;
        self.check_name(name, value)?;
        Ok(value)
    }

    fn destination<'a>(&self, headers: &'a Headers) -> Result<&'a str, Refusal> {
        let destination = required(headers, "destination")?;
        let max = self.limits.destination_bytes_max;
        if destination.len() > max {
            return Err(Refusal::DestinationTooLong { max });
        }
        Ok(destination)
    }
}

/// A header that must be there and say something.
fn required<'a>(headers: &'a Headers, name: &'static str) -> Result<&'a str, Refusal> {
    match headers.get(name) {
        Some(value) if !value.is_empty() => Ok(value),
        _ => Err(Refusal::MissingHeader { header: name }),
    }
}

/// Subscriptions and what is delivered on them.
impl Session {
    /// The subscription of that number, while it exists.
    #[must_use]
    pub fn subscription(&self, key: SubscriptionKey) -> Option<&Subscription> {
        self.subscriptions.iter().find(|subscription| subscription.key() == key)
    }

    /// All of them, the oldest first.
    pub fn subscriptions(&self) -> impl Iterator<Item = &Subscription> {
        self.subscriptions.iter()
    }

    /// Says how to deliver the next message on a subscription, and remembers it if it must be
    /// acknowledged. `token` is the gateway's word for the message; it comes back when the client
    /// acknowledges it, or does not.
    #[must_use]
    pub fn deliver(&mut self, key: SubscriptionKey, token: u64) -> Delivery {
        match self.subscription_mut(key) {
            Some(subscription) => subscription.deliver(token),
            None => Delivery::Gone,
        }
    }

    /// Takes back a delivery whose acknowledgement took too long. If it comes after all, it has no
    /// effect. `None`: it was settled before.
    pub fn take_back(&mut self, ack: AckId) -> Option<u64> {
        self.subscription_mut(ack.subscription)?.take_back(ack.number)
    }

    fn subscription_mut(&mut self, key: SubscriptionKey) -> Option<&mut Subscription> {
        self.subscriptions.iter_mut().find(|subscription| subscription.key() == key)
    }

    fn subscribe(&mut self, headers: Headers) -> Result<Action, Refusal> {
        let destination = self.destination(&headers)?;
        let id = match headers.get("id") {
            None | Some("") if self.version == Some(Version::V1_0) => None,
            _ => Some(self.name(&headers, "id")?),
        };
        let mode = match headers.get("ack") {
            None => AckMode::Auto,
            Some(name) => AckMode::parse(name).ok_or(Refusal::BadAckMode)?,
        };
        let last_position = match headers.get("last-position") {
            None => None,
            Some(text) => Some(parse_position(text).ok_or(Refusal::BadPosition)?),
        };
        let prefetch = match headers.get("prefetch-count") {
            None => None,
            Some(text) => Some(text.parse::<u16>().map_err(|_error| Refusal::BadPrefetch)?),
        };
        if let Some(durable_id) = headers.get("durable-id") {
            self.check_name("durable-id", durable_id)?;
        }
        if self.subscriptions.iter().any(|have| have.is_same(id, destination)) {
            return Err(Refusal::DuplicateSubscription);
        }
        if self.subscriptions.len() >= self.limits.subscriptions_max {
            return Err(Refusal::TooManySubscriptions { max: self.limits.subscriptions_max });
        }
        let max = self.limits.unacked_max;
        // As other brokers have it, 0 means that the client sets no bound of its own.
        let window = prefetch.filter(|&count| count > 0).map_or(max, |count| count.min(max));
        let key = SubscriptionKey(self.next_key);
        let subscription = Subscription::new(key, id, destination, mode, window);
        self.next_key = self
            .next_key
            .checked_add(1)
            .ok_or(Refusal::TooManySubscriptions { max: u32::MAX as usize })?;
        // A vector's first growth is to four; most connections have one.
        if self.subscriptions.len() == self.subscriptions.capacity() {
            self.subscriptions.reserve_exact(self.subscriptions.len().clamp(1, 16));
        }
        self.subscriptions.push(subscription);
        Ok(Action::Subscribe(Subscribe { key, mode, last_position, headers }))
    }

    fn unsubscribe(&mut self, headers: &Headers) -> Result<Action, Refusal> {
        let have = &self.subscriptions;
        let at = match (headers.get("id"), headers.get("destination")) {
            (Some(id), _) => have.iter().position(|have| have.id() == Some(id)),
            // In 1.0 a destination will do; a subscription that never had an id comes first.
            (None, Some(destination)) if self.version == Some(Version::V1_0) => have
                .iter()
                .position(|have| have.is_same(None, destination))
                .or_else(|| have.iter().position(|have| have.destination() == destination)),
            _ => return Err(Refusal::MissingHeader { header: "id" }),
        };
        let at = at.ok_or(Refusal::UnknownSubscription)?;
        Ok(Action::Unsubscribe(self.subscriptions.remove(at).end()))
    }

    fn settle(&mut self, headers: &Headers, outcome: Outcome) -> Result<Action, Refusal> {
        let Some(ack) = self.which_delivery(headers)? else { return Ok(Action::Nothing) };
        if let Some(name) = headers.get("transaction") {
            self.add_to_transaction(name, PendingStep::Settle(ack, outcome), 0)?;
            return Ok(Action::Nothing);
        }
        Ok(self.resolve(ack, outcome).map_or(Action::Nothing, Action::Settle))
    }

    /// Which delivery an ACK or NACK means. `None`: one that needs none. What was settled before, or
    /// belonged to a subscription that has ended, is found and has no effect later: handlers of
    /// clients are slower than their UNSUBSCRIBE.
    fn which_delivery(&self, headers: &Headers) -> Result<Option<AckId>, Refusal> {
        let ack = if self.is_since(Version::V1_2) {
            AckId::parse(required(headers, "id")?)
        } else {
            let message_id = required(headers, "message-id")?;
            let ack = AckId::parse_behind_mark(message_id);
            let subscription = match headers.get("subscription") {
                None if self.version == Some(Version::V1_0) => None,
                _ => Some(required(headers, "subscription")?),
            };
            self.check_named(subscription, ack)?;
            if ack.is_none() && self.is_auto(subscription) {
                return Ok(None);
            }
            ack
        };
        let ack = ack.ok_or(Refusal::UnknownMessage)?;
        let was_issued = match self.subscription(ack.subscription) {
            Some(subscription) => subscription.has_issued(ack.number),
            None => ack.subscription.0 < self.next_key,
        };
        if !was_issued {
            return Err(Refusal::UnknownMessage);
        }
        Ok(Some(ack))
    }

    /// Before 1.2 an ACK names its subscription twice; both must mean the same.
    fn check_named(&self, id: Option<&str>, ack: Option<AckId>) -> Result<(), Refusal> {
        let (Some(id), Some(ack)) = (id, ack) else { return Ok(()) };
        match self.subscription(ack.subscription) {
            Some(subscription) if subscription.id() != Some(id) => Err(Refusal::UnknownMessage),
            _ => Ok(()),
        }
    }

    fn is_auto(&self, id: Option<&str>) -> bool {
        self.subscriptions
            .iter()
            .any(|have| have.mode() == AckMode::Auto && (id.is_none() || have.id() == id))
    }

    fn resolve(&mut self, ack: AckId, outcome: Outcome) -> Option<Settle> {
        let deliveries = self.subscription_mut(ack.subscription)?.settle(ack.number);
        let subscription = ack.subscription;
        (!deliveries.is_empty()).then_some(Settle { subscription, outcome, deliveries })
    }
}

/// Sending, and transactions.
impl Session {
    /// Drops the transactions whose time is over, and says how many. A COMMIT of one of them is refused.
    pub fn on_time(&mut self, now: Instant) -> usize {
        let Some(transactions) = &mut self.transactions else { return 0 };
        let count = transactions.expire(now);
        self.forget_no_transactions();
        count
    }

    /// When [`Session::on_time`] has something to do next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.transactions.as_ref()?.next_deadline()
    }

    fn send(&mut self, frame: Frame) -> Result<Action, Refusal> {
        self.destination(&frame.headers)?;
        let send = Publish { headers: frame.headers, body: frame.body };
        let Some(name) = send.headers.get("transaction").map(Box::<str>::from) else {
            return Ok(Action::Send(send));
        };
        let bytes = send.body.len() + send.headers.size_bytes();
        self.add_to_transaction(&name, PendingStep::Send(send), bytes)?;
        Ok(Action::Nothing)
    }

    fn add_to_transaction(
        &mut self,
        name: &str,
        step: PendingStep,
        bytes: usize,
    ) -> Result<(), Refusal> {
        let transactions = self.transactions.as_mut().ok_or(Refusal::UnknownTransaction)?;
        transactions.add(name, step, bytes, &self.limits)
    }

    fn begin(&mut self, headers: &Headers, now: Instant) -> Result<Action, Refusal> {
        let name = self.name(headers, "transaction")?;
        let transactions = self.transactions.get_or_insert_default();
        transactions.begin(name, now, &self.limits)?;
        Ok(Action::Nothing)
    }

    fn commit(&mut self, headers: &Headers) -> Result<Action, Refusal> {
        let pending = self.end_transaction(headers)?;
        let mut steps = Vec::with_capacity(pending.len());
        for step in pending {
            match step {
                PendingStep::Send(send) => steps.push(Step::Send(send)),
                PendingStep::Settle(ack, outcome) => {
                    steps.extend(self.resolve(ack, outcome).map(Step::Settle));
                }
            }
        }
        Ok(if steps.is_empty() { Action::Nothing } else { Action::Commit(steps) })
    }

    fn abort(&mut self, headers: &Headers) -> Result<Action, Refusal> {
        self.end_transaction(headers)?;
        Ok(Action::Nothing)
    }

    fn end_transaction(&mut self, headers: &Headers) -> Result<Vec<PendingStep>, Refusal> {
        let name = required(headers, "transaction")?;
        let transactions = self.transactions.as_mut().ok_or(Refusal::UnknownTransaction)?;
        let steps = transactions.end(name).ok_or(Refusal::UnknownTransaction)?;
        self.forget_no_transactions();
        Ok(steps)
    }

    fn forget_no_transactions(&mut self) {
        self.transactions.take_if(|transactions| transactions.is_empty());
    }
}
