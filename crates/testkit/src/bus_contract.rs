//! What every bus must keep to, and a store for channel history in memory that fails on demand.
//!
//! An adapter's tests call [`bus`] with the real engine behind it. A failed promise panics at the line
//! that states it. Knows the ports only, never an engine.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use naru_domain::ports::{
    Bus, BusError, BusEvent, History, HistoryPage, HistoryQuery, NamespaceOptions, Post, StoreError,
};
use naru_domain::{
    ChannelName, Durability, Epoch, Membership, Offset, PartyInfo, Position, Publication,
    PublicationMeta, Version,
};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// A fresh bus and what it tells its node.
pub type Opened = (Arc<dyn Bus>, mpsc::Receiver<BusEvent>);

/// Publications that the namespace `kept` keeps.
pub const KEPT: usize = 8;

/// The namespaces that a bus under test has to have: `kept` with [`KEPT`] publications of history as
/// durable as asked, and `bare` without history.
#[must_use]
pub fn namespaces(durability: Durability) -> Vec<(String, NamespaceOptions)> {
    let options =
        |history_size| NamespaceOptions { history_size, history_ttl: Duration::ZERO, durability };
    vec![("kept".to_owned(), options(KEPT)), ("bare".to_owned(), options(0))]
}

/// All promises of [`Bus`]. `open` gives a bus without channels that has [`namespaces`].
pub async fn bus<F: Future<Output = Opened>>(open: impl Fn() -> F) {
    offsets_count_up_from_one_and_events_follow_them(open().await).await;
    each_channel_counts_for_itself(open().await).await;
    bodies_come_back_byte_for_byte(open().await).await;
    concurrent_publications_get_one_order_without_holes(open().await).await;
    the_same_key_publishes_once(open().await).await;
    the_same_key_at_the_same_time_publishes_once(open().await).await;
    keys_of_different_channels_are_different(open().await).await;
    a_version_that_was_overtaken_is_not_published(open().await).await;
    versions_at_the_same_time_leave_in_their_order(open().await).await;
    history_gives_what_came_after_a_position(open().await).await;
    history_that_was_trimmed_says_so(open().await).await;
    history_of_another_life_says_so(open().await).await;
    an_event_is_in_history_when_it_arrives(open().await).await;
    only_wanted_channels_send_events(open().await).await;
    a_publication_that_is_too_large_leaves_no_trace(open().await).await;
    a_channel_without_history_delivers_and_promises_nothing(open().await).await;
    what_travels_with_a_publication_arrives_and_is_kept(open().await).await;
    a_publication_that_skips_history_arrives_without_a_place(open().await).await;
    removed_history_is_gone_and_the_position_stays(open().await).await;
    who_enters_and_leaves_is_told_in_order(open().await).await;
}

/// The channel with this name.
#[must_use]
#[track_caller]
pub fn channel(name: &str) -> ChannelName {
    match ChannelName::parse(name) {
        Ok(channel) => channel,
        Err(error) => panic!("{name:?} is no channel name: {error}"),
    }
}

#[track_caller]
fn ok<T>(result: Result<T, BusError>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("the bus failed: {error}"),
    }
}

async fn publish(bus: &Arc<dyn Bus>, name: &str, text: &str) -> Position {
    ok(bus.publish(&channel(name), Post::new(text.to_owned())).await)
}

async fn publish_with_key(bus: &Arc<dyn Bus>, name: &str, text: &str, key: &str) -> Position {
    ok(bus.publish(&channel(name), Post::new(text.to_owned()).with_key(key)).await)
}

async fn history(
    bus: &Arc<dyn Bus>,
    name: &str,
    since: Option<Position>,
    limit: usize,
) -> HistoryPage {
    ok(bus.history(&channel(name), HistoryQuery { since, limit }).await)
}

/// The next event, which has to be a publication.
async fn next(events: &mut mpsc::Receiver<BusEvent>) -> (ChannelName, Arc<Publication>) {
    match timeout(Duration::from_secs(10), events.recv()).await {
        Ok(Some(BusEvent::Publication(channel, publication))) => (channel, publication),
        other => panic!("expected a publication, got {other:?}"),
    }
}

fn offsets(page: &HistoryPage) -> Vec<u64> {
    page.publications.iter().map(|publication| publication.position.offset.0).collect()
}

async fn offsets_count_up_from_one_and_events_follow_them((bus, mut events): Opened) {
    ok(bus.subscribe(&channel("kept:a")).await);
    let mut epoch = None;
    for offset in 1..=5 {
        let position = publish(&bus, "kept:a", &format!("text {offset}")).await;
        assert_eq!(position.offset, Offset(offset));
        assert_eq!(*epoch.get_or_insert(position.epoch), position.epoch);
    }
    for offset in 1..=5 {
        let (name, publication) = next(&mut events).await;
        assert_eq!(name, channel("kept:a"));
        assert_eq!(publication.position.offset, Offset(offset));
        assert_eq!(publication.data, format!("text {offset}"));
    }
}

async fn each_channel_counts_for_itself((bus, _events): Opened) {
    assert_eq!(publish(&bus, "kept:a", "1").await.offset, Offset(1));
    assert_eq!(publish(&bus, "kept:b", "1").await.offset, Offset(1));
    assert_eq!(publish(&bus, "kept:a", "2").await.offset, Offset(2));
}

async fn bodies_come_back_byte_for_byte((bus, mut events): Opened) {
    let bodies = [
        Bytes::new(),
        Bytes::from_static(&[0, 255, 13, 10, 0]),
        Bytes::from_static("'; drop table x; -- \u{1F980} \u{202E}".as_bytes()),
        Bytes::from(vec![7; 100_000]),
    ];
    let name = "kept:\u{1F980} a'b\"c%_ ::";
    ok(bus.subscribe(&channel(name)).await);
    for body in &bodies {
        ok(bus.publish(&channel(name), Post::new(body.clone())).await);
    }
    for body in &bodies {
        let (came_from, publication) = next(&mut events).await;
        assert_eq!(came_from, channel(name));
        assert_eq!(publication.data, body);
    }
    let page = history(&bus, name, None, 100).await;
    let kept: Vec<&Bytes> = page.publications.iter().map(|each| &each.data).collect();
    assert_eq!(kept, bodies.iter().collect::<Vec<_>>());
}

async fn concurrent_publications_get_one_order_without_holes((bus, mut events): Opened) {
    const COUNT: u64 = 200;
    ok(bus.subscribe(&channel("kept:a")).await);
    let mut tasks = JoinSet::new();
    for number in 0..COUNT {
        let bus = Arc::clone(&bus);
        tasks.spawn(async move { publish(&bus, "kept:a", &number.to_string()).await.offset.0 });
    }
    let mut given = tasks.join_all().await;
    given.sort_unstable();
    assert_eq!(given, (1..=COUNT).collect::<Vec<_>>());
    for offset in 1..=COUNT {
        assert_eq!(next(&mut events).await.1.position.offset, Offset(offset));
    }
}

async fn the_same_key_publishes_once((bus, mut events): Opened) {
    ok(bus.subscribe(&channel("kept:a")).await);
    let first = publish_with_key(&bus, "kept:a", "first", "k").await;
    publish(&bus, "kept:a", "second").await;
    assert_eq!(publish_with_key(&bus, "kept:a", "again", "k").await, first);
    assert_eq!(publish(&bus, "kept:a", "third").await.offset, Offset(3));
    for text in ["first", "second", "third"] {
        assert_eq!(next(&mut events).await.1.data, text);
    }
}

async fn the_same_key_at_the_same_time_publishes_once((bus, mut events): Opened) {
    ok(bus.subscribe(&channel("kept:a")).await);
    let mut tasks = JoinSet::new();
    for _ in 0..50 {
        let bus = Arc::clone(&bus);
        tasks.spawn(async move { publish_with_key(&bus, "kept:a", "text", "k").await });
    }
    let positions = tasks.join_all().await;
    assert!(positions.iter().all(|position| position.offset == Offset(1)), "{positions:?}");
    publish(&bus, "kept:a", "last").await;
    assert_eq!(next(&mut events).await.1.data, "text");
    assert_eq!(next(&mut events).await.1.data, "last");
}

async fn keys_of_different_channels_are_different((bus, _events): Opened) {
    publish(&bus, "kept:b", "before").await;
    assert_eq!(publish_with_key(&bus, "kept:a", "text", "k").await.offset, Offset(1));
    assert_eq!(publish_with_key(&bus, "kept:b", "text", "k").await.offset, Offset(2));
}

/// A publication whose text is its version.
fn versioned(number: u64, epoch: &str) -> Post {
    let version = Some(Version { number, epoch: epoch.into() });
    let meta = PublicationMeta { version, ..PublicationMeta::default() };
    Post { meta: Some(Arc::new(meta)), ..Post::new(format!("{epoch}{number}")) }
}

async fn a_version_that_was_overtaken_is_not_published((bus, mut events): Opened) {
    ok(bus.subscribe(&channel("kept:a")).await);
    let first = ok(bus.publish(&channel("kept:a"), versioned(5, "")).await);
    for (number, epoch, offset) in
        [(5, "", 1), (4, "", 1), (6, "", 2), (1, "x", 3), (1, "x", 3), (2, "x", 4)]
    {
        let position = ok(bus.publish(&channel("kept:a"), versioned(number, epoch)).await);
        assert_eq!((position.epoch, position.offset), (first.epoch, Offset(offset)));
    }
    assert_eq!(publish(&bus, "kept:a", "uncounted").await.offset, Offset(5));
    assert_eq!(ok(bus.publish(&channel("kept:a"), versioned(2, "x")).await).offset, Offset(5));
    assert_eq!(ok(bus.publish(&channel("kept:b"), versioned(1, "")).await).offset, Offset(1));
    for text in ["5", "6", "x1", "x2", "uncounted"] {
        assert_eq!(next(&mut events).await.1.data, text);
    }
}

async fn versions_at_the_same_time_leave_in_their_order((bus, mut events): Opened) {
    const LAST: u64 = 50;
    ok(bus.subscribe(&channel("kept:a")).await);
    let mut tasks = JoinSet::new();
    for number in (1..=LAST).rev() {
        let bus = Arc::clone(&bus);
        let publish =
            async move { ok(bus.publish(&channel("kept:a"), versioned(number, "")).await) };
        tasks.spawn(publish);
    }
    tasks.join_all().await;
    let mut before = 0;
    while before < LAST {
        let text = String::from_utf8_lossy(&next(&mut events).await.1.data).into_owned();
        let number = text.parse().expect("a version");
        assert!(number > before, "{number} came behind {before}");
        before = number;
    }
}

async fn history_gives_what_came_after_a_position((bus, _events): Opened) {
    let mut positions = Vec::new();
    for number in 1..=6 {
        positions.push(publish(&bus, "kept:a", &number.to_string()).await);
    }
    let top = positions[5];
    let all = history(&bus, "kept:a", None, 100).await;
    assert_eq!((offsets(&all), all.top, all.complete), ((1..=6).collect(), top, true));
    let page = history(&bus, "kept:a", Some(positions[1]), 3).await;
    assert_eq!((offsets(&page), page.top, page.complete), (vec![3, 4, 5], top, true));
    let page = history(&bus, "kept:a", Some(top), 3).await;
    assert_eq!((offsets(&page), page.top, page.complete), (vec![], top, true));
    let page = history(&bus, "kept:a", None, 0).await;
    assert_eq!((offsets(&page), page.top), (vec![], top));
    let start = Position { epoch: top.epoch, offset: Offset(0) };
    let page = history(&bus, "kept:a", Some(start), 100).await;
    assert_eq!((offsets(&page), page.complete), ((1..=6).collect(), true));
}

async fn history_that_was_trimmed_says_so((bus, _events): Opened) {
    let first = publish(&bus, "kept:a", "1").await;
    for number in 2..=KEPT + 3 {
        publish(&bus, "kept:a", &number.to_string()).await;
    }
    let kept: Vec<u64> = (4..=KEPT as u64 + 3).collect();
    let page = history(&bus, "kept:a", Some(first), 100).await;
    assert_eq!((offsets(&page), page.complete), (kept.clone(), false));
    // The last position from which nothing is missing.
    let enough = Position { offset: Offset(3), ..first };
    let page = history(&bus, "kept:a", Some(enough), 100).await;
    assert_eq!((offsets(&page), page.complete), (kept, true));
}

async fn history_of_another_life_says_so((bus, _events): Opened) {
    let position = publish(&bus, "kept:a", "1").await;
    let other = Position { epoch: Epoch(position.epoch.0 ^ 1), ..position };
    assert!(!history(&bus, "kept:a", Some(other), 100).await.complete);
    // Nobody can have seen more than there is.
    let ahead = Position { offset: Offset(2), ..position };
    assert!(!history(&bus, "kept:a", Some(ahead), 100).await.complete);
}

async fn an_event_is_in_history_when_it_arrives((bus, mut events): Opened) {
    ok(bus.subscribe(&channel("kept:a")).await);
    let publishing = {
        let bus = Arc::clone(&bus);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            for number in 0..50 {
                publish(&bus, "kept:a", &number.to_string()).await;
            }
        });
        tasks
    };
    for _ in 0..50 {
        let (_, publication) = next(&mut events).await;
        let top = history(&bus, "kept:a", None, 0).await.top;
        assert!(top.offset >= publication.position.offset);
    }
    publishing.join_all().await;
}

async fn what_travels_with_a_publication_arrives_and_is_kept((bus, mut events): Opened) {
    ok(bus.subscribe(&channel("kept:a")).await);
    let publisher = PartyInfo {
        user: Arc::from("42"),
        client: Arc::from("c1"),
        conn_info: Bytes::from_static(b"{\"n\":1}"),
        chan_info: Bytes::from_static(&[0, 255]),
    };
    let tags = vec![("content-type".into(), "text/plain".into()), ("b".into(), "".into())];
    let meta = Arc::new(PublicationMeta {
        publisher: Some(publisher),
        tags,
        is_delta: true,
        version: Some(Version { number: 7, epoch: "e".into() }),
    });
    let post = Post { meta: Some(Arc::clone(&meta)), ..Post::new("text") };
    ok(bus.publish(&channel("kept:a"), post).await);
    assert_eq!(next(&mut events).await.1.meta.as_ref(), Some(&meta));
    let page = history(&bus, "kept:a", None, 10).await;
    assert_eq!(page.publications[0].meta.as_ref(), Some(&meta));
}

async fn a_publication_that_skips_history_arrives_without_a_place((bus, mut events): Opened) {
    ok(bus.subscribe(&channel("kept:a")).await);
    let top = publish(&bus, "kept:a", "kept").await;
    let passing = Post { skip_history: true, ..Post::new("passing") };
    assert_eq!(ok(bus.publish(&channel("kept:a"), passing).await).offset, Offset(0));
    assert_eq!(next(&mut events).await.1.data, "kept");
    let (_, passed) = next(&mut events).await;
    assert_eq!((&passed.data[..], passed.position.offset), (&b"passing"[..], Offset(0)));
    let page = history(&bus, "kept:a", None, 10).await;
    assert_eq!((offsets(&page), page.top), (vec![1], top));
}

async fn removed_history_is_gone_and_the_position_stays((bus, _events): Opened) {
    let first = publish(&bus, "kept:a", "1").await;
    let top = publish(&bus, "kept:a", "2").await;
    ok(bus.remove_history(&channel("kept:a")).await);
    let page = history(&bus, "kept:a", Some(first), 10).await;
    assert_eq!((offsets(&page), page.top, page.complete), (vec![], top, false));
    assert!(history(&bus, "kept:a", Some(top), 10).await.complete);
    let next = publish(&bus, "kept:a", "3").await;
    assert_eq!((next.epoch, next.offset), (top.epoch, Offset(3)));
    ok(bus.remove_history(&channel("kept:never seen")).await);
}

async fn who_enters_and_leaves_is_told_in_order((bus, mut events): Opened) {
    ok(bus.subscribe(&channel("bare:a")).await);
    let party = PartyInfo { user: Arc::from("42"), ..PartyInfo::default() };
    let memberships =
        [true, false, true].map(|has_joined| Membership { has_joined, party: party.clone() });
    for membership in &memberships {
        bus.announce(&channel("bare:a"), Arc::new(membership.clone()));
        bus.announce(&channel("bare:unwanted"), Arc::new(membership.clone()));
    }
    for expected in &memberships {
        match timeout(Duration::from_secs(10), events.recv()).await {
            Ok(Some(BusEvent::Membership(name, membership))) => {
                assert_eq!((name, &*membership), (channel("bare:a"), expected));
            }
            other => panic!("expected a membership, got {other:?}"),
        }
    }
}

async fn only_wanted_channels_send_events((bus, mut events): Opened) {
    publish(&bus, "kept:a", "before").await;
    ok(bus.subscribe(&channel("kept:a")).await);
    ok(bus.subscribe(&channel("kept:a")).await);
    publish(&bus, "kept:b", "other").await;
    publish(&bus, "kept:a", "wanted").await;
    ok(bus.unsubscribe(&channel("kept:a")).await);
    ok(bus.unsubscribe(&channel("kept:a")).await);
    publish(&bus, "kept:a", "after").await;
    ok(bus.subscribe(&channel("kept:a")).await);
    publish(&bus, "kept:a", "wanted again").await;
    assert_eq!(next(&mut events).await.1.data, "wanted");
    let (_, publication) = next(&mut events).await;
    assert_eq!((&publication.data[..], publication.position.offset.0), (&b"wanted again"[..], 4));
}

async fn a_publication_that_is_too_large_leaves_no_trace((bus, _events): Opened) {
    let max = bus.data_bytes_max();
    let largest = Bytes::from(vec![0; max]);
    let first = ok(bus.publish(&channel("kept:a"), Post::new(largest)).await);
    assert_eq!(first.offset, Offset(1));
    let too_large = Bytes::from(vec![0; max + 1]);
    let refused = bus.publish(&channel("kept:a"), Post::new(too_large).with_key("k")).await;
    assert_eq!(refused, Err(BusError::TooLarge { bytes: max + 1, max }));
    assert_eq!(publish_with_key(&bus, "kept:a", "x", "k").await.offset, Offset(2));
}

async fn a_channel_without_history_delivers_and_promises_nothing((bus, mut events): Opened) {
    ok(bus.subscribe(&channel("bare:a")).await);
    let position = publish_with_key(&bus, "bare:a", "one", "k").await;
    assert_eq!(position.offset, Offset(0));
    publish_with_key(&bus, "bare:a", "one again", "k").await;
    publish(&bus, "bare:a", "two").await;
    assert_eq!(next(&mut events).await.1.data, "one");
    assert_eq!(next(&mut events).await.1.data, "two");
    let page = history(&bus, "bare:a", Some(position), 100).await;
    assert_eq!((offsets(&page), page.complete), (vec![], false));
}

/// What the store in memory does at the next append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Says that it failed and keeps nothing.
    Refuse,
    /// Keeps all and says that it failed, as when an answer gets lost.
    KeepAndRefuse,
}

/// A [`History`] in memory: the twin of a store, with faults. It survives a "restart" of the bus, since it
/// belongs to the test.
#[derive(Default)]
pub struct MemoryHistory {
    channels: Mutex<HashMap<ChannelName, Kept>>,
    first_epoch: Mutex<Option<Epoch>>,
    faults: Mutex<Vec<Fault>>,
    appends: Mutex<Vec<(usize, Durability)>>,
    /// Closed while appends have to wait.
    gate: Mutex<Option<Arc<Semaphore>>>,
    waiting: AtomicUsize,
}

#[derive(Clone)]
struct Kept {
    epoch: Epoch,
    top: Offset,
    publications: Vec<Arc<Publication>>,
}

impl MemoryHistory {
    /// The next append does this; those after it what was asked for next.
    pub fn fail_next(&self, fault: Fault) {
        self.faults.lock().insert(0, fault);
    }

    /// The size and durability of every append so far, failed ones included.
    pub fn appends(&self) -> Vec<(usize, Durability)> {
        self.appends.lock().clone()
    }

    /// Appends wait from now on, until [`MemoryHistory::release`].
    pub fn hold(&self) {
        *self.gate.lock() = Some(Arc::new(Semaphore::new(0)));
    }

    /// Appends go on.
    pub fn release(&self) {
        if let Some(gate) = self.gate.lock().take() {
            gate.close();
        }
    }

    /// How many appends wait at the moment.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    /// The offsets that are kept of a channel.
    pub fn offsets(&self, channel: &ChannelName) -> Vec<u64> {
        let channels = self.channels.lock();
        let kept = channels.get(channel).map_or(&[][..], |kept| &kept.publications);
        kept.iter().map(|publication| publication.position.offset.0).collect()
    }

    fn keep(&self, publications: &[(ChannelName, Arc<Publication>)]) -> Result<(), StoreError> {
        let mut channels = self.channels.lock();
        for (channel, publication) in publications {
            let position = publication.position;
            let empty = || Kept { epoch: position.epoch, top: Offset(0), publications: Vec::new() };
            let kept = channels.entry(channel.clone()).or_insert_with(empty);
            if kept.epoch != position.epoch {
                *kept = empty();
            }
            if position.offset != kept.top.next() {
                let reason = format!("{channel} stands at {}, not before {position:?}", kept.top.0);
                return Err(StoreError::Failed { reason });
            }
            kept.top = position.offset;
            kept.publications.push(Arc::clone(publication));
        }
        Ok(())
    }

    fn forget(&self, channel: &ChannelName, up_to: Offset) {
        if let Some(kept) = self.channels.lock().get_mut(channel) {
            kept.publications.retain(|each| each.position.offset > up_to);
        }
    }
}

#[async_trait]
impl History for MemoryHistory {
    async fn append(
        &self,
        publications: &[(ChannelName, Arc<Publication>)],
        forget: &[(ChannelName, Offset)],
        durability: Durability,
    ) -> Result<(), StoreError> {
        let gate = self.gate.lock().clone();
        if let Some(gate) = gate {
            self.waiting.fetch_add(1, Ordering::SeqCst);
            // Closing the gate is what lets everybody through.
            drop(gate.acquire().await);
            self.waiting.fetch_sub(1, Ordering::SeqCst);
        }
        self.appends.lock().push((publications.len(), durability));
        let fault = self.faults.lock().pop();
        if fault != Some(Fault::Refuse) {
            self.keep(publications)?;
            for (channel, up_to) in forget {
                self.forget(channel, *up_to);
            }
        }
        match fault {
            Some(_) => Err(StoreError::Full { reason: "no space left".to_owned() }),
            None => Ok(()),
        }
    }

    async fn load(
        &self,
        channel: &ChannelName,
        after: Offset,
        limit: usize,
    ) -> Result<Option<(Epoch, Offset, Vec<Arc<Publication>>)>, StoreError> {
        let channels = self.channels.lock();
        Ok(channels.get(channel).map(|kept| {
            let later = kept.publications.iter().filter(|each| each.position.offset > after);
            (kept.epoch, kept.top, later.take(limit).map(Arc::clone).collect())
        }))
    }

    async fn first_epoch(&self, proposed: Epoch) -> Result<Epoch, StoreError> {
        Ok(*self.first_epoch.lock().get_or_insert(proposed))
    }

    async fn trim(&self, channel: &ChannelName, up_to: Offset) -> Result<(), StoreError> {
        self.forget(channel, up_to);
        Ok(())
    }
}
