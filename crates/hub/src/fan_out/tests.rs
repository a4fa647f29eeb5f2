//! Channels through the hub: subscriptions, recovery, gaps, and a bus that loses events from a seed.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use naru_domain::clock::ManualClock;
use naru_domain::ports::{Bus, BusError, BusEvent, HistoryPage, HistoryQuery, NamespaceOptions};
use naru_domain::{
    ChannelName, CloseReason, Delivery, DeliveryBody, DeviceKey, Durability, Epoch, Offset,
    Position, SessionId, Timestamp,
};
use naru_testkit::bus_contract::channel;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{NotRecovered, SubscribeError, Subscribed};
use crate::attachment::Attachment;
use crate::hub::{Hub, SessionSpec};
use crate::local::{LocalBus, LocalBusOptions};
use crate::mailbox::MailboxLimits;
use crate::options::HubOptions;

/// A node with a running hub over the in-process bus.
struct Node {
    hub: Hub,
    bus: Arc<LocalBus>,
    tasks: JoinSet<()>,
    stop: CancellationToken,
}

fn local_bus(events_max: usize, history_size: usize) -> (LocalBus, mpsc::Receiver<BusEvent>) {
    let kept = NamespaceOptions {
        history_size,
        history_ttl: Duration::ZERO,
        durability: Durability::Memory,
    };
    let namespaces = HashMap::from([("kept".to_owned(), kept)]);
    let options = LocalBusOptions { namespaces, events_max, ..LocalBusOptions::default() };
    LocalBus::new(options, None, Arc::new(ManualClock::new(Timestamp(0))))
}

impl Node {
    fn start(events_max: usize, history_size: usize, options: HubOptions) -> Node {
        let (bus, events) = local_bus(events_max, history_size);
        Node::over(Arc::new(bus.clone()), bus, events, options)
    }

    fn over(
        port: Arc<dyn Bus>,
        bus: LocalBus,
        events: mpsc::Receiver<BusEvent>,
        options: HubOptions,
    ) -> Node {
        let clock = Arc::new(ManualClock::new(Timestamp(0)));
        let hub = Hub::new(options, port, events, None, clock);
        let (mut tasks, stop) = (JoinSet::new(), CancellationToken::new());
        tasks.spawn({
            let (hub, stop) = (hub.clone(), stop.clone());
            async move { hub.run(stop).await }
        });
        Node { hub, bus: Arc::new(bus), tasks, stop }
    }

    fn open(&self, key: &str) -> SessionId {
        self.hub.open(SessionSpec {
            key: key.to_owned(),
            label: key.to_owned(),
            kind: "client",
            device: None,
            suspend_for: None,
            handed_over: Offset(0),
            retained: Vec::new(),
        })
    }

    async fn publish(&self, name: &str, text: &str) -> Position {
        let data = Bytes::from(text.to_owned());
        self.hub.publish(&channel(name), data, None).await.unwrap()
    }

    /// The next `count` deliveries of a session as text.
    async fn read(&self, attachment: &mut Attachment, count: usize) -> Vec<String> {
        let mut out = Vec::new();
        while out.len() < count {
            if attachment.take(count - out.len(), usize::MAX, &mut out) == 0 {
                let wait = tokio::time::timeout(Duration::from_secs(60), attachment.wake());
                wait.await.unwrap_or_else(|_| panic!("only {} deliveries came", out.len()));
            }
        }
        attachment.handed_over(out.last().map_or(Offset(0), |last| last.offset));
        out.iter().map(show).collect()
    }

    async fn stop(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
    }
}

fn show(delivery: &Delivery) -> String {
    match &delivery.body {
        DeliveryBody::Publication(_, publication) => {
            String::from_utf8(publication.data.to_vec()).unwrap()
        }
        DeliveryBody::Gap { from, to } => format!("gap of {}", to.0 + 1 - from.0),
        DeliveryBody::Phone(_) => panic!("no phone here"),
    }
}

#[tokio::test]
async fn one_order_for_every_subscriber_and_once_each() {
    let node = Node::start(100, 10, HubOptions::default());
    let sessions: Vec<SessionId> = (0..20).map(|n| node.open(&n.to_string())).collect();
    for session in &sessions {
        node.hub.subscribe(*session, &channel("kept:a"), None).await.unwrap();
    }
    let expected: Vec<String> = (0..50).map(|number| number.to_string()).collect();
    for text in &expected {
        node.publish("kept:a", text).await;
    }
    for session in sessions {
        let mut attachment = node.hub.attach(session, "x").unwrap();
        assert_eq!(node.read(&mut attachment, 50).await, expected);
    }
    node.stop().await;
}

#[tokio::test]
async fn a_subscription_begins_fresh_recovered_or_not_recovered_and_says_so() {
    let node = Node::start(100, 5, HubOptions::default());
    let name = channel("kept:a");
    let first = node.publish("kept:a", "1").await;
    for number in 2..=7 {
        node.publish("kept:a", &number.to_string()).await;
    }
    let top = Position { offset: Offset(7), ..first };
    let at = |offset| Some(Position { offset: Offset(offset), ..first });
    let other = Some(Position { epoch: Epoch(1), offset: Offset(5) });
    let not = |reason| Subscribed::NotRecovered { position: top, reason };
    for (since, expected, replayed) in [
        (None, Subscribed::Fresh { position: top }, vec![]),
        (at(7), Subscribed::Recovered { count: 0, position: top }, vec![]),
        (at(5), Subscribed::Recovered { count: 2, position: top }, vec!["6", "7"]),
        (at(2), Subscribed::Recovered { count: 5, position: top }, vec!["3", "4", "5", "6", "7"]),
        (at(1), not(NotRecovered::Trimmed), vec![]),
        (at(8), not(NotRecovered::Trimmed), vec![]),
        (other, not(NotRecovered::OtherEpoch), vec![]),
    ] {
        let session = node.open("client");
        assert_eq!(node.hub.subscribe(session, &name, since).await.unwrap(), expected);
        let mut attachment = node.hub.attach(session, "x").unwrap();
        assert_eq!(node.read(&mut attachment, replayed.len()).await, replayed);
        assert_eq!(node.hub.session(session).unwrap().queued, 0);
        node.hub.remove(session, CloseReason::PeerClosed);
    }
    node.stop().await;
}

#[tokio::test]
async fn a_recovery_of_too_much_gives_nothing() {
    let options = HubOptions { recovery_publications_max: 3, ..HubOptions::default() };
    let node = Node::start(100, 10, options);
    let first = node.publish("kept:a", "1").await;
    for number in 2..=5 {
        node.publish("kept:a", &number.to_string()).await;
    }
    let session = node.open("client");
    let subscribed = node.hub.subscribe(session, &channel("kept:a"), Some(first)).await.unwrap();
    assert!(matches!(
        subscribed,
        Subscribed::NotRecovered { reason: NotRecovered::TooMany, position } if position.offset.0 == 5
    ));
    assert_eq!(node.hub.session(session).unwrap().queued, 0);
    node.stop().await;
}

#[tokio::test]
async fn subscriptions_that_cannot_be_are_refused() {
    let options = HubOptions { subscriptions_per_session_max: 2, ..HubOptions::default() };
    let node = Node::start(100, 10, options);
    let hub = &node.hub;
    let session = node.open("client");
    let phone = hub.open(SessionSpec {
        key: "phone:1".to_owned(),
        label: String::new(),
        kind: "phone",
        device: Some(DeviceKey(1)),
        suspend_for: None,
        handed_over: Offset(0),
        retained: Vec::new(),
    });
    let subscribe = async |session, name: &str| hub.subscribe(session, &channel(name), None).await;
    assert!(subscribe(session, "a").await.is_ok());
    assert_eq!(subscribe(session, "a").await, Err(SubscribeError::AlreadySubscribed));
    assert!(subscribe(session, "b").await.is_ok());
    assert_eq!(subscribe(session, "c").await, Err(SubscribeError::TooMany { max: 2 }));
    assert_eq!(subscribe(phone, "a").await, Err(SubscribeError::NumberedOutside));
    assert_eq!(subscribe(SessionId(99), "a").await, Err(SubscribeError::NoSuchSession));
    hub.unsubscribe(session, &channel("a")).await;
    hub.unsubscribe(session, &channel("a")).await;
    assert!(subscribe(session, "c").await.is_ok());
    assert_eq!(hub.inner.metrics.subscriptions.get(), 2);
    assert_eq!(hub.inner.metrics.channels.get(), 2);
    hub.remove(session, CloseReason::PeerClosed);
    assert_eq!(hub.inner.metrics.subscriptions.get(), 0);
    // The interest of the bus ends in the hub's own task.
    while hub.inner.metrics.channels.get() > 0 {
        tokio::task::yield_now().await;
    }
    assert!(hub.inner.channels.get(&channel("c")).is_none());
    node.stop().await;
}

#[tokio::test]
async fn events_that_did_not_fit_are_read_from_history_without_a_loss_or_a_repeat() {
    let node = Node::start(4, 10_000, HubOptions::default());
    let mut attachments = Vec::new();
    for number in 0..3 {
        let session = node.open(&number.to_string());
        node.hub.subscribe(session, &channel("kept:a"), None).await.unwrap();
        attachments.push(node.hub.attach(session, "x").unwrap());
    }
    let expected: Vec<String> = (0..2_000).map(|number| number.to_string()).collect();
    for text in &expected {
        // Without a pause for the hub, so that its queue of four overflows.
        node.publish("kept:a", text).await;
    }
    for attachment in &mut attachments {
        assert_eq!(node.read(attachment, expected.len()).await, expected);
    }
    assert!(node.hub.inner.metrics.bus_gaps.get() > 0);
    assert_eq!(node.hub.inner.metrics.channel_gaps.get(), 0);
    node.stop().await;
}

#[tokio::test]
async fn what_history_no_longer_has_is_told_as_a_gap() {
    let node = Node::start(4, 10, HubOptions::default());
    let session = node.open("client");
    node.hub.subscribe(session, &channel("kept:a"), None).await.unwrap();
    let mut attachment = node.hub.attach(session, "x").unwrap();
    for number in 1..=100 {
        node.publish("kept:a", &number.to_string()).await;
    }
    let mut expected: Vec<String> = (1..=4).map(|number| number.to_string()).collect();
    expected.push("gap of 86".to_owned());
    expected.extend((91..=100).map(|number| number.to_string()));
    assert_eq!(node.read(&mut attachment, 15).await, expected);
    // A channel without history cannot say how much was lost.
    node.hub.subscribe(session, &channel("bare"), None).await.unwrap();
    for number in 1..=6 {
        node.publish("bare", &number.to_string()).await;
    }
    assert_eq!(node.read(&mut attachment, 5).await, ["1", "2", "3", "4", "gap of 1"]);
    node.publish("bare", "next").await;
    assert_eq!(node.read(&mut attachment, 1).await, ["next"]);
    node.stop().await;
}

#[tokio::test]
async fn isolation_of_a_slow_subscriber_from_the_others() {
    let mailbox = MailboxLimits { count_max: 10, ..MailboxLimits::default() };
    let node = Node::start(1_000, 10, HubOptions { mailbox, ..HubOptions::default() });
    let (slow, quick) = (node.open("slow"), node.open("quick"));
    for session in [slow, quick] {
        node.hub.subscribe(session, &channel("kept:a"), None).await.unwrap();
    }
    let mut quick = node.hub.attach(quick, "x").unwrap();
    for number in 0..100 {
        let text = number.to_string();
        node.publish("kept:a", &text).await;
        assert_eq!(node.read(&mut quick, 1).await, [text]);
    }
    let mut slow = node.hub.attach(slow, "x").unwrap();
    assert_eq!(node.read(&mut slow, 2).await, ["gap of 90", "90"]);
    node.stop().await;
}

#[tokio::test]
async fn a_subscription_that_is_given_up_leaves_nothing() {
    let (bus, events) = local_bus(100, 10);
    let port = Arc::new(Flaky::new(bus.clone()));
    let node = Node::over(Arc::clone(&port) as _, bus, events, HubOptions::default());
    let session = node.open("client");
    port.is_stuck.store(true, Ordering::SeqCst);
    let name = channel("kept:a");
    let given_up =
        tokio::time::timeout(Duration::from_millis(1), node.hub.subscribe(session, &name, None));
    assert!(given_up.await.is_err());
    port.is_stuck.store(false, Ordering::SeqCst);
    assert_eq!(node.hub.session(session).unwrap().channels, 0);
    assert_eq!(node.hub.inner.metrics.subscriptions.get(), 0);
    assert!(node.hub.subscribe(session, &name, None).await.is_ok());
    node.stop().await;
}

/// A bus whose history can hang or fail.
struct Flaky {
    bus: LocalBus,
    is_stuck: AtomicBool,
    is_failing: AtomicBool,
    /// Turns that others get between the reading of history and its answer.
    answer_delay: AtomicUsize,
}

impl Flaky {
    fn new(bus: LocalBus) -> Flaky {
        Flaky {
            bus,
            is_stuck: AtomicBool::new(false),
            is_failing: AtomicBool::new(false),
            answer_delay: AtomicUsize::new(1),
        }
    }
}

#[async_trait]
impl Bus for Flaky {
    async fn publish(
        &self,
        channel: &ChannelName,
        data: Bytes,
        key: Option<Arc<str>>,
    ) -> Result<Position, BusError> {
        self.bus.publish(channel, data, key).await
    }

    async fn subscribe(&self, channel: &ChannelName) -> Result<(), BusError> {
        self.bus.subscribe(channel).await
    }

    async fn unsubscribe(&self, channel: &ChannelName) -> Result<(), BusError> {
        self.bus.unsubscribe(channel).await
    }

    async fn history(
        &self,
        channel: &ChannelName,
        query: HistoryQuery,
    ) -> Result<HistoryPage, BusError> {
        if self.is_stuck.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        if self.is_failing.load(Ordering::SeqCst) {
            return Err(BusError::Unavailable { reason: "a test says so".to_owned() });
        }
        // Somebody else gets a turn between the question and the answer.
        tokio::task::yield_now().await;
        let page = self.bus.history(channel, query).await;
        for _ in 0..self.answer_delay.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
        page
    }

    fn data_bytes_max(&self) -> usize {
        self.bus.data_bytes_max()
    }
}

#[tokio::test(start_paused = true)]
async fn a_repair_that_never_gets_history_tells_a_gap_and_goes_on() {
    let (bus, events) = local_bus(4, 100);
    let port = Arc::new(Flaky::new(bus.clone()));
    let node = Node::over(Arc::clone(&port) as _, bus, events, HubOptions::default());
    let session = node.open("client");
    node.hub.subscribe(session, &channel("kept:a"), None).await.unwrap();
    let mut attachment = node.hub.attach(session, "x").unwrap();
    port.is_failing.store(true, Ordering::SeqCst);
    for number in 1..=10 {
        node.publish("kept:a", &number.to_string()).await;
    }
    assert_eq!(node.read(&mut attachment, 5).await, ["1", "2", "3", "4", "gap of 1"]);
    port.is_failing.store(false, Ordering::SeqCst);
    node.publish("kept:a", "next").await;
    assert_eq!(node.read(&mut attachment, 1).await, ["next"]);
    node.stop().await;
}

/// One seed: events are lost and repeated on their way, sessions come and go with their positions, and
/// everybody ends up with everything, once, in order.
async fn run_seed(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let (bus, mut source) = local_bus(64, 100_000);
    let port = Arc::new(Flaky::new(bus.clone()));
    port.answer_delay.store(random.random_range(0..12), Ordering::SeqCst);
    let hurry = random.random_range(0.0..1.0);
    let (sender, events) = mpsc::channel(64);
    let mut node = Node::over(port, bus, events, HubOptions::default());
    let link_seed = random.random();
    node.tasks.spawn(async move {
        let mut random = StdRng::seed_from_u64(link_seed);
        while let Some(event) = source.recv().await {
            let lost = match &event {
                BusEvent::Publication(name, _) if random.random_bool(0.1) => {
                    Some(BusEvent::Gap(name.clone()))
                }
                _ => None,
            };
            let repeats = random.random_range(1..3);
            for _ in 0..repeats {
                let event = lost.clone().unwrap_or_else(|| event.clone());
                if sender.send(event).await.is_err() {
                    return;
                }
            }
        }
    });
    let name = channel("kept:a");
    let mut clients: Vec<(SessionId, Vec<String>)> = Vec::new();
    let mut published: usize = 0;
    let mut start = None;
    for _ in 0..random.random_range(50..200) {
        match random.random_range(0..10) {
            0 if clients.len() < 8 => {
                let session = node.open(&format!("{}", clients.len()));
                // From the very first publication, whenever it joins.
                let since = start;
                let subscribed = node.hub.subscribe(session, &name, since).await.unwrap();
                let begins_at = match subscribed {
                    Subscribed::Fresh { position } => usize::try_from(position.offset.0).unwrap(),
                    Subscribed::Recovered { .. } => 0,
                    Subscribed::NotRecovered { .. } => panic!("seed {seed}: not recovered"),
                };
                let expected = (0..begins_at).map(|_| String::new()).collect();
                clients.push((session, expected));
            }
            1 => tokio::task::yield_now().await,
            _ => {
                let position = node.publish("kept:a", &published.to_string()).await;
                start.get_or_insert(Position { offset: Offset(0), ..position });
                published += 1;
                if random.random_bool(hurry) {
                    tokio::task::yield_now().await;
                }
            }
        }
    }
    for (session, skipped) in clients {
        let mut attachment = node.hub.attach(session, "x").unwrap();
        let read = node.read(&mut attachment, published - skipped.len()).await;
        let expected: Vec<String> = (skipped.len()..published).map(|n| n.to_string()).collect();
        assert_eq!(read, expected, "seed {seed}");
        tokio::task::yield_now().await;
        assert_eq!(node.hub.session(session).unwrap().queued, 0, "seed {seed}: too much");
    }
    drop(node.bus);
    node.stop.cancel();
    node.tasks.abort_all();
}

#[tokio::test(start_paused = true)]
async fn once_and_in_order_over_a_link_that_loses_and_repeats_events() {
    for seed in 0..200 {
        run_seed(seed).await;
    }
}
