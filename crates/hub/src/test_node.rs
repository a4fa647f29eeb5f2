//! What tests of channels need: a node with a running hub over the in-process bus, a link that may lose
//! events, a bus that hangs or fails on demand, and clients that remember what they were told.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use naru_domain::clock::ManualClock;
use naru_domain::ports::{
    Bus, BusError, BusEvent, HistoryPage, HistoryQuery, NamespaceOptions, Post,
};
use naru_domain::{
    ChannelName, CloseReason, Durability, Membership, PartyInfo, Position, Publication, Timestamp,
};
use naru_testkit::bus_contract::channel;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::channels::Traits;
use crate::client::{ClientSpec, Connected};
use crate::hub::Hub;
use crate::local::{LocalBus, LocalBusOptions};
use crate::options::HubOptions;
use crate::outlet::{Cut, Ending, Event, Mark, Outlet, Taken};
use crate::subscribe::{Recover, SubscribeError, SubscribeSpec, Subscribed, TooManyConnections};

/// How a node of a test is made.
pub(crate) struct NodeSpec {
    /// Events that wait for the hub; what does not fit becomes a gap.
    pub(crate) events_max: usize,
    /// Publications kept of each channel in the namespace `kept`. Other namespaces keep none.
    pub(crate) history_size: usize,
    pub(crate) options: HubOptions,
}

impl Default for NodeSpec {
    fn default() -> NodeSpec {
        NodeSpec { events_max: 100, history_size: 10, options: HubOptions::default() }
    }
}

/// What a link does with an event: it passes on what this returns.
pub(crate) type Link = Box<dyn FnMut(BusEvent) -> Vec<BusEvent> + Send>;

/// A link that swallows everything while it is told to.
pub(crate) fn leaky_link() -> (Arc<AtomicBool>, Link) {
    let is_leaking = Arc::new(AtomicBool::new(false));
    let leaks = Arc::clone(&is_leaking);
    let link = move |event| if leaks.load(Ordering::SeqCst) { vec![] } else { vec![event] };
    (is_leaking, Box::new(link))
}

/// A node with a running hub.
pub(crate) struct Node {
    pub(crate) hub: Hub,
    pub(crate) bus: Arc<FlakyBus>,
    tasks: JoinSet<()>,
    stop: CancellationToken,
}

impl Node {
    pub(crate) fn start(spec: NodeSpec) -> Node {
        Node::start_over(spec, None)
    }

    /// With a link between the bus and the hub.
    pub(crate) fn start_over(spec: NodeSpec, link: Option<Link>) -> Node {
        let NodeSpec { events_max, history_size, options } = spec;
        let kept = NamespaceOptions {
            history_size,
            history_ttl: Duration::ZERO,
            durability: Durability::Memory,
        };
        let namespaces = HashMap::from([("kept".to_owned(), kept)]);
        let bus_options = LocalBusOptions { namespaces, events_max, ..LocalBusOptions::default() };
        let clock = Arc::new(ManualClock::new(Timestamp(0)));
        let (bus, mut events) = LocalBus::new(bus_options, None, clock.clone());
        let bus = Arc::new(FlakyBus::new(bus));
        let (mut tasks, stop) = (JoinSet::new(), CancellationToken::new());
        if let Some(mut link) = link {
            let (sender, behind) = mpsc::channel(events_max);
            let mut source = std::mem::replace(&mut events, behind);
            let stop = stop.clone();
            tasks.spawn(async move {
                while let Some(Some(event)) = stop.run_until_cancelled(source.recv()).await {
                    for event in link(event) {
                        if sender.send(event).await.is_err() {
                            return;
                        }
                    }
                }
            });
        }
        let hub = Hub::new(options, Arc::clone(&bus) as _, events, None, clock);
        tasks.spawn({
            let (hub, stop) = (hub.clone(), stop.clone());
            async move { hub.run(stop).await }
        });
        Node { hub, bus, tasks, stop }
    }

    /// A client whose user and id are `name`.
    pub(crate) fn connect(&self, name: &str) -> Member {
        self.connect_as(name, name).unwrap()
    }

    pub(crate) fn connect_as(&self, user: &str, id: &str) -> Result<Member, TooManyConnections> {
        let reader = Arc::new(Reader::default());
        let info = PartyInfo { user: user.into(), client: id.into(), ..PartyInfo::default() };
        let outlet = Arc::clone(&reader) as Arc<dyn Outlet>;
        let spec = ClientSpec { info, kind: "test", peer: "192.0.2.1:1".into(), outlet };
        let connected = self.hub.connect(spec)?;
        Ok(Member { hub: self.hub.clone(), connected, reader })
    }

    pub(crate) async fn publish(&self, name: &str, text: &str) -> Position {
        self.hub.publish(&channel(name), Post::new(text.to_owned())).await.unwrap()
    }

    /// Publishes the numbers from `from` to `to`; the position of the last.
    pub(crate) async fn publish_run(&self, name: &str, from: u64, to: u64) -> Position {
        let mut last = None;
        for number in from..=to {
            last = Some(self.publish(name, &number.to_string()).await);
        }
        last.unwrap()
    }

    /// Waits until the hub did what nobody is told of.
    pub(crate) async fn until(&self, is_so: impl Fn(&Hub) -> bool) {
        let turns = async {
            while !is_so(&self.hub) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), turns).await.unwrap();
    }

    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
    }
}

pub(crate) fn texts(numbers: impl IntoIterator<Item = u64>) -> Vec<String> {
    numbers.into_iter().map(|number| number.to_string()).collect()
}

/// A connected client.
pub(crate) struct Member {
    hub: Hub,
    pub(crate) connected: Connected,
    pub(crate) reader: Arc<Reader>,
}

/// A subscription that can recover and must not miss anything.
pub(crate) fn positioned(name: &str, recover: Recover) -> SubscribeSpec {
    SubscribeSpec {
        channel: channel(name),
        recover,
        must_recover: false,
        mark: Mark::default(),
        traits: Traits { is_positioned: true, ..Traits::default() },
        filter: None,
        chan_info: Bytes::new(),
    }
}

/// In [`Mark::bits`]: a filter keeps some back, so that the one before means nothing.
pub(crate) const HAS_FILTER: u32 = 2;

/// A subscription that goes on with what comes, whatever is lost.
pub(crate) fn loose(name: &str) -> SubscribeSpec {
    SubscribeSpec { traits: Traits::default(), ..positioned(name, Recover::Nothing) }
}

/// Everything after `position`.
pub(crate) fn since(position: Position) -> Recover {
    Recover::Since { epoch: Some(position.epoch), offset: position.offset }
}

impl Member {
    /// Subscribes. What of the past comes with it stands in front of all the reader gets.
    pub(crate) async fn subscribe(
        &self,
        spec: SubscribeSpec,
    ) -> Result<Subscribed, SubscribeError> {
        let mut told = None;
        let ready = |subscribed: &Subscribed| {
            for publication in &subscribed.publications {
                let _queued = self.reader.queue(text(publication));
            }
            told = Some(subscribed.clone());
        };
        self.hub.subscribe(self.connected.client(), spec, ready).await?;
        self.reader.flush();
        Ok(told.unwrap())
    }

    pub(crate) async fn enter(&self, name: &str) -> Subscribed {
        self.subscribe(positioned(name, Recover::Nothing)).await.unwrap()
    }

    pub(crate) fn unsubscribe(&self, name: &str) -> bool {
        self.hub.unsubscribe(self.connected.client(), &channel(name))
    }

    pub(crate) async fn read(&self, count: usize) -> Vec<String> {
        self.reader.read(count).await
    }

    /// What was written and not read yet.
    pub(crate) fn heard(&self) -> Vec<String> {
        self.reader.state.lock().written.iter().cloned().collect()
    }

    /// The same, read with it, and with what was queued only.
    pub(crate) fn take(&self) -> Vec<String> {
        self.reader.flush();
        self.reader.state.lock().written.drain(..).collect()
    }
}

fn text(publication: &Publication) -> String {
    String::from_utf8(publication.data.to_vec()).unwrap()
}

/// The outgoing side of a test's client. A publication is told by its text, everything else as
/// `cut Slow`, `+id`, `-id`, `closed kicked`.
#[derive(Default)]
pub(crate) struct Reader {
    state: Mutex<ReaderState>,
    news: Notify,
    /// Nothing more goes in.
    pub(crate) is_full: AtomicBool,
    /// Its encoding.
    pub(crate) kind: u8,
    /// How often an encoding had to be made for it.
    pub(crate) encodings: AtomicUsize,
}

#[derive(Default)]
struct ReaderState {
    /// Not flushed yet.
    queued: Vec<String>,
    written: VecDeque<String>,
    /// The publication that came last in each channel.
    last: HashMap<ChannelName, Arc<Publication>>,
}

impl Reader {
    fn queue(&self, line: String) -> Taken {
        let mut state = self.state.lock();
        state.queued.push(line);
        if state.queued.len() == 1 { Taken::FlushDue } else { Taken::Queued }
    }

    async fn read(&self, count: usize) -> Vec<String> {
        let mut read = Vec::new();
        while read.len() < count {
            let news = self.news.notified();
            let line = self.state.lock().written.pop_front();
            match line {
                Some(line) => read.push(line),
                None => {
                    let wait = tokio::time::timeout(Duration::from_secs(300), news);
                    wait.await.unwrap_or_else(|_| panic!("no more came than {read:?}"));
                }
            }
        }
        read
    }
}

impl Outlet for Reader {
    fn publication(&self, event: &Event<'_>, mark: &mut Mark) -> Taken {
        if self.is_full.load(Ordering::SeqCst) {
            return Taken::Full;
        }
        let frame = event.encoded(self.kind, mark.variant.as_ref(), || {
            self.encodings.fetch_add(1, Ordering::SeqCst);
            Some(event.publication.data.clone())
        });
        {
            let mut state = self.state.lock();
            let last = state.last.insert(event.channel.clone(), Arc::clone(event.publication));
            if let (Some(last), Some(previous)) = (last, event.previous) {
                assert!(mark.bits != 1 || last == *previous, "a difference to another one");
            }
            mark.bits |= 1;
        }
        self.queue(String::from_utf8(frame.unwrap().to_vec()).unwrap())
    }

    fn membership(&self, _: &ChannelName, membership: &Membership, _: &Mark) -> Taken {
        let sign = if membership.has_joined { '+' } else { '-' };
        self.queue(format!("{sign}{}", membership.party.client))
    }

    fn cut(&self, _: &ChannelName, _: &Mark, cut: &Cut) {
        let _queued = self.queue(format!("cut {cut:?}"));
    }

    fn entered(&self, _: &ChannelName, _: &Subscribed, _: bool) {}

    fn server_side_bits(&self) -> Option<u32> {
        None
    }

    fn message(&self, _: &Bytes) {}

    fn flush(&self) {
        let mut state = self.state.lock();
        let queued = std::mem::take(&mut state.queued);
        state.written.extend(queued);
        drop(state);
        self.news.notify_one();
    }

    fn close(&self, ending: &Ending) {
        let _queued = self.queue(format!("closed {}", CloseReason::label(ending.reason)));
    }
}

/// A bus whose history can hang or fail.
pub(crate) struct FlakyBus {
    bus: LocalBus,
    pub(crate) is_stuck: AtomicBool,
    pub(crate) is_failing: AtomicBool,
    /// Turns that others get between the reading of history and its answer.
    pub(crate) answer_delay: AtomicUsize,
    /// Channels that the node wants.
    pub(crate) wanted: Mutex<Vec<ChannelName>>,
}

impl FlakyBus {
    fn new(bus: LocalBus) -> FlakyBus {
        FlakyBus {
            bus,
            is_stuck: AtomicBool::new(false),
            is_failing: AtomicBool::new(false),
            answer_delay: AtomicUsize::new(1),
            wanted: Mutex::default(),
        }
    }
}

#[async_trait]
impl Bus for FlakyBus {
    async fn publish(&self, channel: &ChannelName, post: Post) -> Result<Position, BusError> {
        self.bus.publish(channel, post).await
    }

    fn announce(&self, channel: &ChannelName, membership: Arc<Membership>) {
        self.bus.announce(channel, membership);
    }

    async fn subscribe(&self, channel: &ChannelName) -> Result<(), BusError> {
        self.wanted.lock().push(channel.clone());
        self.bus.subscribe(channel).await
    }

    async fn unsubscribe(&self, channel: &ChannelName) -> Result<(), BusError> {
        self.wanted.lock().retain(|wanted| wanted != channel);
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

    async fn remove_history(&self, channel: &ChannelName) -> Result<(), BusError> {
        self.bus.remove_history(channel).await
    }

    fn namespace(&self, channel: &ChannelName) -> NamespaceOptions {
        self.bus.namespace(channel)
    }

    fn data_bytes_max(&self) -> usize {
        self.bus.data_bytes_max()
    }
}
