//! A node with a hub and both gateways, the links to it, which break where the seed says, and a store that
//! remembers everything it was ever given.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::BytesMut;
use naru_domain::clock::ManualClock;
use naru_domain::ports::{
    Credentials, History, NamespaceOptions, Post, StoreError, SubscribeClaims, TokenError,
    TokenVerifier,
};
use naru_domain::{ChannelName, Durability, Epoch, Offset, Publication, Timestamp};
use naru_gateways::centrifuge::{ClientGateway, ClientOptions, Opening};
use naru_gateways::connections::Socket;
use naru_gateways::stomp::{StompGateway, StompOpening, StompOptions, StompPorts};
use naru_hub::access::{Namespace, Namespaces};
use naru_hub::queue::{QueueLimits, Queues};
use naru_hub::{Hub, HubOptions, LocalBus, LocalBusOptions};
use naru_testkit::bus_contract::{Fault, MemoryHistory};
use naru_wire::centrifuge::Protocol;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split};
use tokio::sync::watch;
use tokio::task::{JoinSet, yield_now};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// A history that no run outgrows, and one that every longer absence does.
pub(crate) const KEPT: &str = "kept:room";
pub(crate) const SHORT: &str = "short:room";
const SHORT_SIZE: usize = 5;

/// The store: it outlives nodes, and knows what it was given even when that is long forgotten.
#[derive(Default)]
pub(crate) struct Ledger {
    pub(crate) store: MemoryHistory,
    all: Mutex<BTreeMap<(ChannelName, u64), String>>,
}

impl Ledger {
    /// Everything that ever stood in a channel, by offset.
    pub(crate) fn truth(&self, channel: &str) -> BTreeMap<u64, String> {
        let all = self.all.lock();
        let of_it = all.iter().filter(|((name, _), _)| name.as_str() == channel);
        of_it.map(|((_, offset), text)| (*offset, text.clone())).collect()
    }
}

#[async_trait]
impl History for Ledger {
    async fn append(
        &self,
        publications: &[(ChannelName, Arc<Publication>)],
        forget: &[(ChannelName, Offset)],
        durability: Durability,
    ) -> Result<(), StoreError> {
        let appended = self.store.append(publications, forget, durability).await;
        for (channel, publication) in publications {
            let offset = publication.position.offset.0;
            // A store may say no and have kept it.
            if appended.is_ok() || self.store.offsets(channel).contains(&offset) {
                let text = String::from_utf8(publication.data.to_vec()).unwrap();
                let before = self.all.lock().insert((channel.clone(), offset), text.clone());
                assert!(before.is_none_or(|before| before == text), "offset {offset} came twice");
            }
        }
        appended
    }

    async fn load(
        &self,
        channel: &ChannelName,
        after: Offset,
        limit: usize,
    ) -> Result<Option<(Epoch, Offset, Vec<Arc<Publication>>)>, StoreError> {
        self.store.load(channel, after, limit).await
    }

    async fn first_epoch(&self, proposed: Epoch) -> Result<Epoch, StoreError> {
        self.store.first_epoch(proposed).await
    }

    async fn trim(&self, channel: &ChannelName, up_to: Offset) -> Result<(), StoreError> {
        self.store.trim(channel, up_to).await
    }
}

/// One life of the server.
struct Node {
    hub: Hub,
    clients: ClientGateway,
    stomp: StompGateway,
    /// Told to stop.
    stop: CancellationToken,
    /// Cuts every link at once.
    death: CancellationToken,
    tasks: JoinSet<()>,
}

/// Where clients find the server, if it is up.
pub(crate) struct Site {
    pub(crate) ledger: Arc<Ledger>,
    node: tokio::sync::Mutex<Option<Node>>,
    /// Whether there is a node: clients that come back wait for it.
    is_up: watch::Sender<bool>,
    rng: Mutex<StdRng>,
    /// From now on links hold.
    calm: CancellationToken,
}

/// Which gateway a link leads to.
#[derive(Clone, Copy)]
pub(crate) enum Door {
    Centrifuge,
    Stomp,
}

impl Site {
    pub(crate) fn new(seed: u64) -> Site {
        Site {
            ledger: Arc::default(),
            node: tokio::sync::Mutex::new(None),
            is_up: watch::Sender::new(false),
            rng: Mutex::new(StdRng::seed_from_u64(seed)),
            calm: CancellationToken::new(),
        }
    }

    pub(crate) fn random(&self, range: std::ops::Range<u64>) -> u64 {
        self.rng.lock().random_range(range)
    }

    pub(crate) async fn start(&self) {
        let node = Node::start(Arc::clone(&self.ledger));
        *self.node.lock().await = Some(node);
        self.is_up.send_replace(true);
    }

    /// As by SIGTERM: everybody is told.
    pub(crate) async fn stop(&self) {
        if let Some(mut node) = self.node.lock().await.take() {
            self.is_up.send_replace(false);
            node.stop.cancel();
            // Links that swallow everything are given up like dead peers.
            let _gave_up = timeout(Duration::from_secs(20), node.ended()).await;
            node.death.cancel();
            node.ended().await;
        }
    }

    /// As by kill -9: all links are gone, and nobody is told. What was on its way to the store may have
    /// come there or not.
    pub(crate) async fn crash(&self) {
        if let Some(mut node) = self.node.lock().await.take() {
            self.is_up.send_replace(false);
            if self.random(0..2) == 0 {
                let is_kept = self.random(0..2) == 0;
                let fault = if is_kept { Fault::KeepAndRefuse } else { Fault::Refuse };
                self.ledger.store.fail_next(fault);
            }
            node.death.cancel();
            node.stop.cancel();
            node.ended().await;
        }
    }

    /// Publishes as the server itself would, until it succeeds.
    pub(crate) async fn publish(&self, channel: &str, text: &str) {
        let channel = ChannelName::parse(channel).unwrap();
        let node = self.node.lock().await;
        let hub = &node.as_ref().expect("it is up").hub;
        while hub.publish(&channel, Post::new(text.to_owned()).with_key(text)).await.is_err() {}
    }

    /// Forgets what the channel keeps.
    pub(crate) async fn expire(&self, channel: &str) {
        if let Some(node) = self.node.lock().await.as_ref() {
            let channel = ChannelName::parse(channel).unwrap();
            // A store that is out of order forgets later.
            drop(node.hub.remove_history(&channel).await);
        }
    }

    pub(crate) fn calm_down(&self) {
        self.calm.cancel();
    }

    /// A link to the server, once it is up; `None` if it goes down that moment.
    pub(crate) async fn connect(&self, door: Door) -> Option<DuplexStream> {
        self.is_up.subscribe().wait_for(|is_up| *is_up).await.ok()?;
        let mut node = self.node.lock().await;
        let node = node.as_mut()?;
        let (near, here) = duplex(4 * 1024);
        let (there, far) = duplex(4 * 1024);
        let fate = if self.calm.is_cancelled() { Fate::Hold } else { self.fate() };
        let (death, calm) = (node.death.clone(), self.calm.clone());
        let seed = self.rng.lock().random();
        node.tasks.spawn(async move {
            tokio::select! {
                () = carry(here, there, fate, seed) => {}
                () = death.cancelled() => {}
                () = calm.cancelled(), if !matches!(fate, Fate::Hold) => {}
            }
        });
        let peer = SocketAddr::from(([192, 0, 2, 1], 4000));
        let opened = async move { Some((Socket::Boxed(Box::new(far)), BytesMut::new())) };
        match door {
            Door::Centrifuge => {
                let permit = node.clients.admit(peer).ok()?;
                let protocol = Protocol::Json;
                let opening =
                    Opening { peer, protocol, deflate_window_bits: None, headers: vec![] };
                node.clients.serve(permit, opening, opened);
            }
            Door::Stomp => {
                let permit = node.stomp.admit(peer).ok()?;
                let opening = StompOpening { peer, ws: None, headers: vec![] };
                node.stomp.serve(permit, opening, opened);
            }
        }
        Some(near)
    }

    fn fate(&self) -> Fate {
        let bytes = self.random(0..6_000);
        match self.random(0..10) {
            0..=5 => Fate::Break(bytes),
            6..=7 => Fate::Swallow(bytes),
            _ => Fate::Hold,
        }
    }
}

impl Node {
    fn start(ledger: Arc<Ledger>) -> Node {
        let open = Namespace {
            allow_subscribe_for_client: true,
            allow_subscribe_for_anonymous: true,
            allow_publish_for_client: true,
            allow_publish_for_anonymous: true,
            has_history: true,
            force_recovery: true,
            ..Namespace::default()
        };
        let keeping = |history_size| NamespaceOptions {
            history_size,
            durability: Durability::Disk,
            ..NamespaceOptions::default()
        };
        let named = ["kept", "short"].map(|name| (name.to_owned(), open.clone()));
        let rules = Namespaces { default: Namespace::default(), named: HashMap::from(named) };
        let rules = Arc::new(ArcSwap::from_pointee(rules));
        let kept = [("kept", 100_000), ("short", SHORT_SIZE)]
            .map(|(name, size)| (name.to_owned(), keeping(size)));
        let options =
            LocalBusOptions { namespaces: HashMap::from(kept), ..LocalBusOptions::default() };
        let clock = Arc::new(ManualClock::new(Timestamp(1_700_000_000_000)));
        let (bus, events) = LocalBus::new(options, Some(ledger), clock.clone());
        let hub = Hub::new(HubOptions::default(), Arc::new(bus), events, None, clock.clone());
        let tokens: Arc<dyn TokenVerifier> = Arc::new(NoTokens);
        let tokens = Arc::new(ArcSwap::from_pointee(tokens));
        let clients = ClientGateway::new(
            ClientOptions { allow_anonymous: true, ..ClientOptions::default() },
            hub.clone(),
            Arc::clone(&rules),
            Arc::clone(&tokens),
            None,
            clock.clone(),
        );
        let ports = StompPorts {
            hub: hub.clone(),
            queues: Queues::new(QueueLimits::default()),
            namespaces: rules,
            tokens,
            logins: None,
            backend: None,
            clock,
        };
        let options = StompOptions { allow_anonymous: true, ..StompOptions::default() };
        let stomp = StompGateway::new(options, ports);
        let (stop, death) = (CancellationToken::new(), CancellationToken::new());
        let mut tasks = JoinSet::new();
        let running = hub.clone();
        let stop_hub = stop.clone();
        tasks.spawn(async move { running.run(stop_hub).await });
        tasks.spawn(clients.clone().run(stop.clone()));
        tasks.spawn(stomp.clone().run(stop.clone()));
        Node { hub, clients, stomp, stop, death, tasks }
    }

    async fn ended(&mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("no task of the node panics");
        }
    }
}

struct NoTokens;

impl TokenVerifier for NoTokens {
    fn connect(&self, _: &str, _: Timestamp) -> Result<Credentials, TokenError> {
        Err(TokenError::Invalid)
    }

    fn subscribe(&self, _: &str, _: Timestamp) -> Result<SubscribeClaims, TokenError> {
        Err(TokenError::Invalid)
    }
}

/// What becomes of a link.
#[derive(Clone, Copy)]
enum Fate {
    Hold,
    /// It breaks after so many bytes, wherever in a frame that is.
    Break(u64),
    /// After so many bytes nothing comes through any more, and nobody is told.
    Swallow(u64),
}

/// Carries bytes both ways, in pieces and with delays, until the link breaks or an end hangs up.
async fn carry(client: DuplexStream, server: DuplexStream, fate: Fate, seed: u64) {
    let left = AtomicU64::new(match fate {
        Fate::Hold => u64::MAX,
        Fate::Break(bytes) | Fate::Swallow(bytes) => bytes,
    });
    let (client_says, client_hears) = split(client);
    let (server_says, server_hears) = split(server);
    tokio::select! {
        () = one_way(client_says, server_hears, &left, seed) => {}
        () = one_way(server_says, client_hears, &left, !seed) => {}
    }
    if left.load(Relaxed) == 0 && matches!(fate, Fate::Swallow(_)) {
        std::future::pending::<()>().await;
    }
}

async fn one_way(
    mut from: ReadHalf<DuplexStream>,
    mut to: WriteHalf<DuplexStream>,
    left: &AtomicU64,
    seed: u64,
) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut piece = [0; 512];
    while left.load(Relaxed) > 0 {
        let most = rng.random_range(1..=piece.len());
        let Ok(count @ 1..) = from.read(&mut piece[..most]).await else { return };
        if rng.random_range(0..4) == 0 {
            for _ in 0..rng.random_range(0..20) {
                yield_now().await;
            }
        }
        let count = (count as u64).min(left.load(Relaxed));
        left.fetch_sub(count, Relaxed);
        let Ok(count) = usize::try_from(count) else { return };
        if to.write_all(&piece[..count]).await.is_err() {
            return;
        }
    }
}
