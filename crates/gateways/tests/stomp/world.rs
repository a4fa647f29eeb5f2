//! A hub with a gateway, and a client that speaks in frames.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use naru_domain::clock::ManualClock;
use naru_domain::ports::{
    Backend, BackendEvents, Caller, Credentials, History, Login, Logins, NamespaceOptions, Post,
    PublishVerdict, Refreshed, Refusal, SubscribeClaims, SubscribeGrant, TokenError, TokenVerifier,
};
use naru_domain::{ChannelName, Durability, Timestamp};
use naru_gateways::connections::Socket;
use naru_gateways::stomp::{
    DEAD_NAMESPACE, DURABLE_NAMESPACE, QUEUE_NAMESPACE, StompGateway, StompOpening, StompOptions,
    StompPorts, TEMP_NAMESPACE, USER_NAMESPACE, WsOpening,
};
use naru_hub::access::{Namespace, Namespaces};
use naru_hub::queue::{QueueLimits, Queues};
use naru_hub::{Hub, HubOptions, LocalBus, LocalBusOptions};
use naru_testkit::bus_contract::MemoryHistory;
use naru_testkit::memory_work::MemoryWork;
use naru_wire::stomp::{Command, Decoder, Event, Frame, Limits, Version, encode_client_frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Longest wait for anything; the clock is paused, so that waiting costs nothing.
pub(crate) const SOON: Duration = Duration::from_secs(60);
const START: Timestamp = Timestamp(1_700_000_000_000);

pub(crate) struct World {
    pub(crate) hub: Hub,
    pub(crate) gateway: StompGateway,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: JoinSet<()>,
}

/// Enough for every test, and few enough to fill.
const QUEUES: QueueLimits = QueueLimits {
    count_max: 100,
    bytes_max: 1 << 20,
    total_bytes_max: 1 << 24,
    deliveries_max: 5,
    work_time_max: Duration::from_secs(1_800),
    queues_max: 100,
    keys_age_max: Duration::from_secs(600),
    keys_count_max: 1_000,
    commit_queue_max: 100,
    commit_count_max: 10,
    store_timeout: Duration::from_secs(10),
    note_delay: Duration::from_millis(200),
};

/// Everything is allowed in channels without a namespace, which keep nothing; `kept:` keeps 5000 and
/// `short:` 3; `closed:` allows nothing.
fn namespaces() -> (Namespaces, HashMap<String, NamespaceOptions>) {
    let open = Namespace {
        allow_subscribe_for_client: true,
        allow_subscribe_for_anonymous: true,
        allow_publish_for_client: true,
        allow_publish_for_anonymous: true,
        ..Namespace::default()
    };
    let kept = Namespace { has_history: true, force_recovery: true, ..open.clone() };
    let blind = Namespace { force_recovery: false, ..kept.clone() };
    let asks =
        Namespace { subscribe_proxy_enabled: true, publish_proxy_enabled: true, ..open.clone() };
    let keeping = |history_size| NamespaceOptions {
        history_size,
        durability: Durability::Memory,
        ..NamespaceOptions::default()
    };
    let named = HashMap::from([
        ("kept".to_owned(), kept.clone()),
        ("short".to_owned(), kept.clone()),
        ("blind".to_owned(), blind),
        ("asks".to_owned(), asks),
        (QUEUE_NAMESPACE.to_owned(), open.clone()),
        (DEAD_NAMESPACE.to_owned(), kept.clone()),
        ("closed".to_owned(), Namespace::default()),
        (USER_NAMESPACE.to_owned(), Namespace { allow_publish_for_client: true, ..kept }),
    ]);
    let options = [
        ("kept", 5_000),
        ("short", 3),
        ("blind", 10),
        (USER_NAMESPACE, 10),
        (DEAD_NAMESPACE, 10),
        (DURABLE_NAMESPACE, 1),
        (TEMP_NAMESPACE, 0),
    ];
    let options = options.map(|(name, size)| (name.to_owned(), keeping(size)));
    (Namespaces { default: open, named }, HashMap::from(options))
}

impl World {
    pub(crate) fn new() -> World {
        World::with(StompOptions { allow_anonymous: true, ..StompOptions::default() }, None)
    }

    pub(crate) fn with(options: StompOptions, backend: Option<Arc<dyn Backend>>) -> World {
        World::over(options, backend, Queues::new(QUEUES), &[], None)
    }

    /// Queues, and what is given up of them, are on the disks of the test: another world over the same
    /// ones is the next life of the server.
    pub(crate) async fn keeping(work: &Arc<MemoryWork>, history: &Arc<MemoryHistory>) -> World {
        let options = StompOptions { allow_anonymous: true, ..StompOptions::default() };
        let queues = Queues::open(QUEUES, Arc::clone(work) as _, START).await.unwrap();
        World::over(options, None, queues, &[QUEUE_NAMESPACE, DEAD_NAMESPACE], Some(history))
    }

    /// The channels of `kept:` are on the disk of the test.
    pub(crate) fn on_disk(history: &Arc<MemoryHistory>) -> World {
        let options = StompOptions { allow_anonymous: true, ..StompOptions::default() };
        World::over(options, None, Queues::new(QUEUES), &["kept"], Some(history))
    }

    fn over(
        options: StompOptions,
        backend: Option<Arc<dyn Backend>>,
        queues: Queues,
        on_disk: &[&str],
        history: Option<&Arc<MemoryHistory>>,
    ) -> World {
        let clock = Arc::new(ManualClock::new(START));
        let (rules, mut kept) = namespaces();
        for name in on_disk {
            kept.entry((*name).to_owned()).or_default().durability = Durability::Disk;
        }
        let bus = LocalBusOptions { namespaces: kept, ..LocalBusOptions::default() };
        let history = history.map(|history| Arc::clone(history) as Arc<dyn History>);
        let (bus, events) = LocalBus::new(bus, history, clock.clone());
        let hub = Hub::new(HubOptions::default(), Arc::new(bus), events, None, clock.clone());
        let tokens: Arc<dyn TokenVerifier> = Arc::new(Tokens);
        let ports = StompPorts {
            hub: hub.clone(),
            namespaces: Arc::new(ArcSwap::from_pointee(rules)),
            queues,
            tokens: Arc::new(ArcSwap::from_pointee(tokens)),
            logins: Some(Arc::new(Names)),
            backend,
            clock,
        };
        let gateway = StompGateway::new(options, ports);
        let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
        let (running, ending) = (hub.clone(), stop.clone());
        tasks.spawn(async move { running.run(ending).await });
        tasks.spawn(gateway.clone().run(stop.clone()));
        World { hub, gateway, stop, tasks }
    }

    /// A socket on which nothing was said.
    pub(crate) fn open(&self, ws: Option<WsOpening>, buffer_bytes: usize) -> DuplexStream {
        let (near, far) = duplex(buffer_bytes);
        let peer = SocketAddr::from(([192, 0, 2, 1], 4000));
        let opening = StompOpening { peer, ws, headers: Vec::new() };
        let permit = self.gateway.admit(peer).unwrap();
        let socket = Socket::Boxed(Box::new(far));
        self.gateway.serve(permit, opening, async move { Some((socket, BytesMut::new())) });
        near
    }

    /// The same for a client that speaks in frames.
    pub(crate) fn client(&self, version: Version) -> Client {
        Client::new(self.open(None, 64 * 1024), version)
    }

    /// A client without a name that is let in.
    pub(crate) async fn anonymous(&self) -> Client {
        let mut client = self.client(Version::V1_2);
        client.connect(&[]).await;
        client
    }

    /// A client of this user.
    pub(crate) async fn user(&self, name: &str) -> Client {
        let mut client = self.client(Version::V1_2);
        client.connect(&[("login", name), ("passcode", "secret")]).await;
        client
    }

    /// Publishes as the server would.
    pub(crate) async fn publish(&self, channel: &str, text: &str) {
        let channel = ChannelName::parse(channel).unwrap();
        self.hub.publish(&channel, Post::new(text.to_owned())).await.unwrap();
    }
}

/// The token `token-of-NAME` is good for NAME; `old-token` was good once.
struct Tokens;

impl TokenVerifier for Tokens {
    fn connect(&self, token: &str, _now: Timestamp) -> Result<Credentials, TokenError> {
        if token == "old-token" {
            return Err(TokenError::Expired);
        }
        let user = token.strip_prefix("token-of-").ok_or(TokenError::Invalid)?.to_owned();
        Ok(Credentials { user, ..Credentials::default() })
    }

    fn subscribe(&self, _: &str, _: Timestamp) -> Result<SubscribeClaims, TokenError> {
        Err(TokenError::Invalid)
    }
}

/// Everybody has the password `secret`.
struct Names;

#[async_trait]
impl Logins for Names {
    async fn login(&self, name: &str, password: &str, source: &str) -> Login {
        assert_eq!(source, "192.0.2.1");
        match password {
            "secret" => Login::Known { user: name.to_owned(), rights: Vec::new() },
            "again" => Login::Locked,
            _ => Login::Refused,
        }
    }
}

/// An application that says what it was asked.
#[derive(Default)]
pub(crate) struct Application {
    pub(crate) gone: parking_lot::Mutex<Vec<String>>,
}

#[async_trait]
impl Backend for Application {
    fn events(&self) -> BackendEvents {
        BackendEvents { rpc: true, disconnected: true, ..BackendEvents::default() }
    }

    fn wants_header(&self, _: &str) -> bool {
        false
    }

    async fn connect(
        &self,
        _: &Caller,
        _: &str,
        _: &str,
        _: Bytes,
    ) -> Result<Credentials, Refusal> {
        unreachable!("not among the events")
    }

    async fn refresh(&self, _: &Caller) -> Result<Refreshed, Refusal> {
        unreachable!("not among the events")
    }

    async fn subscribe(
        &self,
        _: &Caller,
        channel: &str,
        _: Bytes,
    ) -> Result<SubscribeGrant, Refusal> {
        if channel.ends_with("no") {
            Err(refusal("not you"))
        } else {
            Ok(SubscribeGrant::default())
        }
    }

    async fn publish(
        &self,
        _: &Caller,
        channel: &str,
        data: Bytes,
    ) -> Result<PublishVerdict, Refusal> {
        if channel.ends_with("no") {
            return Err(refusal("not this"));
        }
        let data = [&data[..], b"!"].concat();
        Ok(PublishVerdict { data: Some(data.into()), ..PublishVerdict::default() })
    }

    async fn sub_refresh(&self, _: &Caller, _: &str) -> Result<Refreshed, Refusal> {
        unreachable!("not among the events")
    }

    async fn rpc(&self, caller: &Caller, method: &str, data: Bytes) -> Result<Bytes, Refusal> {
        assert_eq!((caller.protocol, caller.transport), ("stomp", "tcp"));
        match method {
            "fail" => Err(refusal("no such thing")),
            "down" => Err(Refusal::Error { code: 100, message: String::new(), temporary: true }),
            _ => {
                let text = String::from_utf8_lossy(&data);
                Ok(Bytes::from(format!("{method} {text} of {}", caller.user)))
            }
        }
    }

    async fn message(&self, _: &Caller, _: Bytes) -> Result<(), Refusal> {
        unreachable!("STOMP has no such thing")
    }

    fn disconnected(&self, caller: &Caller, reason: &str) {
        self.gone.lock().push(format!("{} {reason}", caller.user));
    }
}

fn refusal(message: &str) -> Refusal {
    Refusal::Error { code: 403, message: message.to_owned(), temporary: false }
}

/// A client in frames.
pub(crate) struct Client {
    pub(crate) io: DuplexStream,
    version: Version,
    decoder: Decoder,
    heard: VecDeque<Event>,
    receipts: u32,
}

impl Client {
    pub(crate) fn new(io: DuplexStream, version: Version) -> Client {
        let mut decoder = Decoder::new(Limits::default());
        decoder.set_version(version);
        Client { io, version, decoder, heard: VecDeque::new(), receipts: 0 }
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        self.io.write_all(bytes).await.unwrap();
    }

    pub(crate) async fn send(&mut self, command: Command, headers: &[(&str, &str)], body: &str) {
        let frame = encode_client_frame(self.version, command, headers, body.as_bytes());
        self.write(&frame).await;
    }

    pub(crate) async fn connect(&mut self, headers: &[(&str, &str)]) -> Frame {
        let mut all = vec![("accept-version", self.version.name()), ("host", "x")];
        all.extend(headers);
        self.send(Command::Connect, &all, "").await;
        self.expect(Command::Connected).await
    }

    /// Subscribes, and waits until that has taken effect. Returns the receipt.
    pub(crate) async fn subscribe(
        &mut self,
        id: &str,
        destination: &str,
        headers: &[(&str, &str)],
    ) -> Frame {
        let mut all = vec![("id", id), ("destination", destination), ("receipt", id)];
        all.extend(headers);
        self.send(Command::Subscribe, &all, "").await;
        self.receipt(id).await
    }

    /// Waits for a receipt. What comes before it is read later.
    async fn receipt(&mut self, id: &str) -> Frame {
        let mut others = VecDeque::new();
        let receipt = loop {
            match self.event().await.expect("the connection ended") {
                Event::Frame(frame) if frame.header("receipt-id") == Some(id) => break frame,
                other => others.push_back(other),
            }
        };
        assert_eq!(receipt.command, Command::Receipt, "{receipt:?}");
        others.append(&mut self.heard);
        self.heard = others;
        receipt
    }

    /// Sends a message, and waits for its receipt.
    pub(crate) async fn say(&mut self, destination: &str, body: &str, headers: &[(&str, &str)]) {
        let mut all = vec![("destination", destination)];
        all.extend(headers);
        self.send(Command::Send, &all, body).await;
        self.sync().await;
    }

    /// Acknowledges a message, and waits until that is kept.
    pub(crate) async fn ack(&mut self, message: &Frame) {
        self.send(Command::Ack, &[("id", message.header("ack").unwrap())], "").await;
        self.sync().await;
    }

    /// Waits until everything sent so far has taken effect.
    pub(crate) async fn sync(&mut self) {
        self.receipts += 1;
        let receipt = format!("sync-{}", self.receipts);
        let begin = [("transaction", receipt.as_str())];
        self.send(Command::Begin, &begin, "").await;
        let abort = [("transaction", receipt.as_str()), ("receipt", receipt.as_str())];
        self.send(Command::Abort, &abort, "").await;
        self.receipt(&receipt).await;
    }

    async fn read_more(&mut self) -> bool {
        let mut bytes = vec![0; 16 * 1024];
        let read = timeout(SOON, self.io.read(&mut bytes)).await.expect("nothing came");
        let Ok(count @ 1..) = read else { return false };
        let mut rest = &bytes[..count];
        while let Some(event) = self.decoder.decode(&mut rest).expect("a readable frame") {
            self.heard.push_back(event);
        }
        true
    }

    /// The next thing that the server says; `None` when it has hung up.
    pub(crate) async fn event(&mut self) -> Option<Event> {
        while self.heard.is_empty() {
            if !self.read_more().await {
                return None;
            }
        }
        self.heard.pop_front()
    }

    pub(crate) async fn frame(&mut self) -> Frame {
        loop {
            match self.event().await.expect("the connection ended") {
                Event::Frame(frame) => return frame,
                Event::HeartBeat => {}
            }
        }
    }

    pub(crate) async fn expect(&mut self, command: Command) -> Frame {
        let frame = self.frame().await;
        let body = String::from_utf8_lossy(&frame.body);
        assert_eq!(frame.command, command, "{frame:?} {body}");
        frame
    }

    /// The next message, as (body, frame).
    pub(crate) async fn message(&mut self) -> (String, Frame) {
        let frame = self.expect(Command::Message).await;
        (String::from_utf8(frame.body.to_vec()).unwrap(), frame)
    }

    /// The bodies of so many messages.
    pub(crate) async fn bodies(&mut self, count: usize) -> Vec<String> {
        let mut bodies = Vec::with_capacity(count);
        while bodies.len() < count {
            bodies.push(self.message().await.0);
        }
        bodies
    }

    /// Nothing has come, and nothing is on its way.
    pub(crate) async fn assert_quiet(&mut self) {
        self.sync().await;
        let heard: Vec<_> = self.heard.iter().filter(|event| **event != Event::HeartBeat).collect();
        assert!(heard.is_empty(), "{heard:?}");
    }

    /// The connection ends with this error. Returns its frame.
    pub(crate) async fn refused(&mut self, code: &str) -> Frame {
        let frame = self.expect(Command::Error).await;
        let body = String::from_utf8_lossy(&frame.body);
        assert_eq!(frame.header("code"), Some(code), "{frame:?} {body}");
        assert!(!body.is_empty() && frame.header("message").is_some());
        assert_eq!(self.event().await, None, "nothing comes behind an ERROR");
        frame
    }
}

pub(crate) fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}
