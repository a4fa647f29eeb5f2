//! Tests of the in-process bus: the contract, and what only this bus has (store, limits, time).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use naru_domain::clock::ManualClock;
use naru_domain::ports::{Bus, BusError, BusEvent, History, HistoryQuery, NamespaceOptions, Post};
use naru_domain::{ChannelName, Durability, Offset, Position, PublicationMeta, Timestamp, Version};
use naru_testkit::bus_contract::{self, Fault, MemoryHistory, channel};
use tokio::sync::mpsc::Receiver;
use tokio::task::{JoinSet, yield_now};

use super::{LocalBus, LocalBusOptions};

const START: Timestamp = Timestamp(1_700_000_000_000);

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(START))
}

fn options(durability: Durability) -> LocalBusOptions {
    let namespaces = bus_contract::namespaces(durability).into_iter().collect();
    LocalBusOptions { namespaces, seed: Some(7), ..LocalBusOptions::default() }
}

fn stored(history: &Arc<MemoryHistory>, durability: Durability) -> (LocalBus, Receiver<BusEvent>) {
    let options = LocalBusOptions { seed: None, ..options(durability) };
    LocalBus::new(options, Some(Arc::clone(history) as Arc<dyn History>), clock())
}

async fn publish(bus: &LocalBus, name: &str, text: &str) -> Result<Position, BusError> {
    bus.publish(&channel(name), Post::new(text.to_owned())).await
}

async fn offsets(bus: &LocalBus, name: &str) -> Vec<u64> {
    let all = HistoryQuery { since: None, limit: 1_000 };
    let page = bus.history(&channel(name), all).await.unwrap();
    page.publications.iter().map(|each| each.position.offset.0).collect()
}

/// Yields until something holds. The tests run on one thread, so every task gets its turn.
async fn until(holds: impl Fn() -> bool) {
    for _ in 0..10_000 {
        if holds() {
            return;
        }
        yield_now().await;
    }
    panic!("it never came to hold");
}

#[tokio::test]
async fn the_bus_in_memory_keeps_the_contract() {
    bus_contract::bus(|| async {
        let (bus, events) = LocalBus::new(options(Durability::Memory), None, clock());
        (Arc::new(bus) as Arc<dyn Bus>, events)
    })
    .await;
}

#[tokio::test]
async fn the_bus_with_a_store_keeps_the_contract() {
    for durability in [Durability::Os, Durability::Disk] {
        bus_contract::bus(|| async {
            let history = Arc::new(MemoryHistory::default());
            let (bus, events) = stored(&history, durability);
            (Arc::new(bus) as Arc<dyn Bus>, events)
        })
        .await;
    }
}

#[tokio::test]
async fn accepted_means_kept_across_a_restart_with_positions_and_keys() {
    let history = Arc::new(MemoryHistory::default());
    let name = channel("kept:a");
    let first = {
        let (bus, _events) = stored(&history, Durability::Disk);
        for number in 0..20 {
            publish(&bus, "kept:a", &number.to_string()).await.unwrap();
        }
        bus.publish(&name, Post::new("keyed").with_key("k")).await.unwrap()
    };
    let (bus, _events) = stored(&history, Durability::Disk);
    assert_eq!(offsets(&bus, "kept:a").await, (14..=21).collect::<Vec<_>>());
    let page = bus.history(&name, HistoryQuery { since: Some(first), limit: 9 }).await.unwrap();
    assert!(page.complete && page.publications.is_empty());
    let again = bus.publish(&name, Post::new("retried").with_key("k")).await;
    assert_eq!(again, Ok(first));
    let next = publish(&bus, "kept:a", "next").await.unwrap();
    assert_eq!(next, Position { offset: Offset(22), ..first });
}

#[tokio::test]
async fn a_version_is_known_across_a_restart() {
    let history = Arc::new(MemoryHistory::default());
    let post = |number| {
        let version = Some(Version { number, epoch: "e".into() });
        let meta = PublicationMeta { version, ..PublicationMeta::default() };
        Post { meta: Some(Arc::new(meta)), ..Post::new("x") }
    };
    let (bus, _events) = stored(&history, Durability::Disk);
    bus.publish(&channel("kept:a"), post(7)).await.unwrap();
    publish(&bus, "kept:a", "uncounted").await.unwrap();
    drop(bus);
    let (bus, _events) = stored(&history, Durability::Disk);
    let outdated = bus.publish(&channel("kept:a"), post(6)).await.unwrap();
    assert_eq!(outdated.offset, Offset(2));
    assert_eq!(bus.publish(&channel("kept:a"), post(8)).await.unwrap().offset, Offset(3));
    assert_eq!(offsets(&bus, "kept:a").await, [1, 2, 3]);
}

#[tokio::test]
async fn a_channel_in_memory_begins_a_new_life_after_a_restart() {
    let unseeded = || LocalBusOptions { seed: None, ..options(Durability::Memory) };
    let (old, _events) = LocalBus::new(unseeded(), None, clock());
    let position = publish(&old, "kept:a", "x").await.unwrap();
    let (new, _events) = LocalBus::new(unseeded(), None, clock());
    let query = HistoryQuery { since: Some(position), limit: 9 };
    let page = new.history(&channel("kept:a"), query).await.unwrap();
    assert!(!page.complete && page.top.epoch != position.epoch);
}

#[tokio::test]
async fn a_store_that_refuses_leaves_no_trace_and_no_hole() {
    let history = Arc::new(MemoryHistory::default());
    let (bus, mut events) = stored(&history, Durability::Os);
    bus.subscribe(&channel("kept:a")).await.unwrap();
    publish(&bus, "kept:a", "one").await.unwrap();
    history.fail_next(Fault::Refuse);
    let key: Option<Arc<str>> = Some("k".into());
    let data = Bytes::from_static(b"two");
    let refused =
        bus.publish(&channel("kept:a"), Post { key: key.clone(), ..Post::new(data.clone()) }).await;
    assert!(matches!(refused, Err(BusError::Unavailable { .. })));
    let retried = bus.publish(&channel("kept:a"), Post { key, ..Post::new(data) }).await.unwrap();
    assert_eq!(retried.offset, Offset(2));
    let mut texts = Vec::new();
    let mut gaps = 0;
    while texts.len() < 2 {
        match events.recv().await.unwrap() {
            BusEvent::Publication(_, publication) => texts.push(publication.data.clone()),
            // Nobody but the store knows whether it kept something: the hub looks.
            BusEvent::Gap(_) => gaps += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((texts, gaps), (vec![Bytes::from("one"), Bytes::from("two")], 1));
    assert!(events.try_recv().is_err());
    assert_eq!(history.offsets(&channel("kept:a")), [1, 2]);
}

#[tokio::test]
async fn an_append_whose_answer_was_lost_is_found_again() {
    let history = Arc::new(MemoryHistory::default());
    let (bus, _events) = stored(&history, Durability::Disk);
    publish(&bus, "kept:a", "one").await.unwrap();
    history.fail_next(Fault::KeepAndRefuse);
    let key: Option<Arc<str>> = Some("k".into());
    let name = channel("kept:a");
    let data = Bytes::from_static(b"two");
    assert!(
        bus.publish(&name, Post { key: key.clone(), ..Post::new(data.clone()) }).await.is_err()
    );
    // The retry finds the key in what the store kept.
    assert_eq!(
        bus.publish(&name, Post { key, ..Post::new(data) }).await.unwrap().offset,
        Offset(2)
    );
    assert_eq!(publish(&bus, "kept:a", "three").await.unwrap().offset, Offset(3));
    assert_eq!(history.offsets(&name), [1, 2, 3]);
}

#[tokio::test]
async fn nothing_is_visible_before_it_is_kept() {
    let history = Arc::new(MemoryHistory::default());
    let (bus, mut events) = stored(&history, Durability::Disk);
    bus.subscribe(&channel("kept:a")).await.unwrap();
    history.hold();
    let mut tasks = JoinSet::new();
    let publisher = bus.clone();
    tasks.spawn(async move { publish(&publisher, "kept:a", "x").await });
    until(|| history.waiting() == 1).await;
    assert!(events.try_recv().is_err());
    assert!(tasks.try_join_next().is_none());
    assert_eq!(offsets(&bus, "kept:a").await, []);
    history.release();
    assert!(tasks.join_next().await.unwrap().unwrap().is_ok());
    assert!(matches!(events.recv().await, Some(BusEvent::Publication(..))));
}

#[tokio::test]
async fn publications_that_wait_share_one_append() {
    let history = Arc::new(MemoryHistory::default());
    let (bus, _events) = stored(&history, Durability::Disk);
    history.hold();
    let mut tasks = JoinSet::new();
    for number in 0..100 {
        let bus = bus.clone();
        tasks.spawn(async move { publish(&bus, &format!("kept:{}", number % 7), "x").await });
    }
    until(|| history.waiting() == 1).await;
    for _ in 0..1_000 {
        yield_now().await;
    }
    history.release();
    assert!(tasks.join_all().await.iter().all(Result::is_ok));
    let appends = history.appends();
    assert!(appends.len() <= 3, "{appends:?}");
    assert_eq!(appends.iter().map(|(count, _)| count).sum::<usize>(), 100);
}

#[tokio::test]
async fn a_publisher_who_gives_up_does_not_disturb_the_others() {
    let history = Arc::new(MemoryHistory::default());
    let (bus, _events) = stored(&history, Durability::Disk);
    history.hold();
    let mut tasks = JoinSet::new();
    let publisher = bus.clone();
    tasks.spawn(async move { publish(&publisher, "kept:a", "given up").await });
    until(|| history.waiting() == 1).await;
    tasks.abort_all();
    history.release();
    assert_eq!(publish(&bus, "kept:a", "next").await.unwrap().offset, Offset(2));
}

#[tokio::test]
async fn each_append_has_the_durability_of_its_namespace() {
    let history = Arc::new(MemoryHistory::default());
    let mut options = options(Durability::Disk);
    let os = NamespaceOptions {
        history_size: 4,
        history_ttl: Duration::ZERO,
        durability: Durability::Os,
    };
    options.namespaces.insert("os".to_owned(), os);
    let (bus, _events) = LocalBus::new(options, Some(Arc::clone(&history) as _), clock());
    publish(&bus, "os:a", "x").await.unwrap();
    publish(&bus, "kept:a", "x").await.unwrap();
    assert_eq!(history.appends(), [(1, Durability::Os), (1, Durability::Disk)]);
}

#[tokio::test]
async fn a_promise_that_cannot_be_kept_is_not_made() {
    let (bus, _events) = LocalBus::new(options(Durability::Disk), None, clock());
    assert!(matches!(publish(&bus, "kept:a", "x").await, Err(BusError::Unavailable { .. })));
    // Without history nothing has to be kept.
    assert!(publish(&bus, "bare:a", "x").await.is_ok());
}

#[tokio::test]
async fn a_position_before_the_first_publication_survives_a_restart() {
    let history = Arc::new(MemoryHistory::default());
    let empty = HistoryQuery { since: None, limit: 0 };
    let (bus, _events) = stored(&history, Durability::Os);
    let top = bus.history(&channel("kept:a"), empty).await.unwrap().top;
    drop(bus);
    let (bus, _events) = stored(&history, Durability::Os);
    publish(&bus, "kept:a", "first").await.unwrap();
    let query = HistoryQuery { since: Some(top), limit: 9 };
    let page = bus.history(&channel("kept:a"), query).await.unwrap();
    assert!(page.complete, "{page:?}");
    assert_eq!(page.publications.len(), 1);
}

#[tokio::test]
async fn what_the_store_kept_although_it_said_no_reaches_those_who_listen() {
    let history = Arc::new(MemoryHistory::default());
    let (bus, mut events) = stored(&history, Durability::Os);
    bus.subscribe(&channel("kept:a")).await.unwrap();
    history.fail_next(Fault::KeepAndRefuse);
    assert!(publish(&bus, "kept:a", "in doubt").await.is_err());
    let told = events.recv().await;
    assert!(matches!(told, Some(BusEvent::Gap(name)) if name == channel("kept:a")));
    assert_eq!(offsets(&bus, "kept:a").await, [1]);
}

#[tokio::test]
async fn the_store_is_told_to_forget_what_is_trimmed() {
    let history = Arc::new(MemoryHistory::default());
    let (bus, _events) = stored(&history, Durability::Os);
    for number in 0..200 {
        publish(&bus, "kept:a", &number.to_string()).await.unwrap();
    }
    let kept = history.offsets(&channel("kept:a"));
    assert!(kept.len() < bus_contract::KEPT + 40, "{} are kept", kept.len());
    assert_eq!(kept.last(), Some(&200));
}

#[tokio::test]
async fn old_publications_leave_the_history() {
    let mut options = options(Durability::Memory);
    let brief = NamespaceOptions {
        history_size: 100,
        history_ttl: Duration::from_secs(60),
        durability: Durability::Memory,
    };
    options.namespaces.insert("brief".to_owned(), brief);
    let clock = clock();
    let (bus, _events) = LocalBus::new(options, None, Arc::clone(&clock) as _);
    let first = publish(&bus, "brief:a", "one").await.unwrap();
    clock.advance(Duration::from_secs(30));
    let second = publish(&bus, "brief:a", "two").await.unwrap();
    clock.advance(Duration::from_secs(30));
    assert_eq!(offsets(&bus, "brief:a").await, [2]);
    let name = channel("brief:a");
    let page = |since| bus.history(&name, HistoryQuery { since: Some(since), limit: 9 });
    assert!(page(first).await.unwrap().complete);
    let start = Position { offset: Offset(0), ..first };
    assert!(!page(start).await.unwrap().complete);
    clock.advance(Duration::from_secs(3_600));
    assert_eq!(page(second).await.unwrap().top, second);
}

#[tokio::test]
async fn bounds_of_the_event_queue_turn_what_does_not_fit_into_a_gap() {
    let options = LocalBusOptions { events_max: 4, ..options(Durability::Memory) };
    let (bus, mut events) = LocalBus::new(options, None, clock());
    for name in ["kept:a", "kept:b"] {
        bus.subscribe(&channel(name)).await.unwrap();
    }
    for _ in 0..6 {
        publish(&bus, "kept:a", "x").await.unwrap();
    }
    publish(&bus, "kept:b", "x").await.unwrap();
    for offset in 1..=4 {
        let event = events.recv().await;
        assert!(
            matches!(&event, Some(BusEvent::Publication(_, p)) if p.position.offset.0 == offset),
            "{event:?}"
        );
    }
    let mut gaps: Vec<ChannelName> = Vec::new();
    while gaps.len() < 2 {
        match events.recv().await {
            Some(BusEvent::Gap(name)) => gaps.push(name),
            other => panic!("expected a gap, got {other:?}"),
        }
    }
    assert_eq!(gaps, [channel("kept:a"), channel("kept:b")]);
    // After its gap a channel flows again.
    publish(&bus, "kept:a", "x").await.unwrap();
    assert!(
        matches!(events.recv().await, Some(BusEvent::Publication(_, p)) if p.position.offset.0 == 7)
    );
    assert_eq!(bus.inner.metrics.gaps.get(), 2);
    assert_eq!(bus.inner.metrics.events_dropped.get(), 3);
}

#[tokio::test]
async fn bounds_of_the_table_refuse_channels_until_old_ones_can_be_forgotten() {
    let mut options = options(Durability::Memory);
    options.channels_max = 16;
    let brief = NamespaceOptions {
        history_size: 100,
        history_ttl: Duration::from_secs(60),
        durability: Durability::Memory,
    };
    options.namespaces.insert("brief".to_owned(), brief);
    let clock = clock();
    let (bus, _events) = LocalBus::new(options, None, Arc::clone(&clock) as _);
    let mut refused = 0;
    for number in 0..100 {
        refused += usize::from(publish(&bus, &format!("brief:{number}"), "x").await.is_err());
    }
    assert!(refused >= 84, "{refused}");
    assert!(bus.inner.metrics.channels.get() <= 16);
    clock.advance(Duration::from_secs(61));
    for number in 100..200 {
        publish(&bus, &format!("brief:{number}"), "x").await.ok();
    }
    clock.advance(Duration::from_secs(61));
    assert!(publish(&bus, "brief:new", "x").await.is_ok());
}

#[tokio::test]
async fn bounds_of_the_key_window_forget_the_oldest_key() {
    let options = LocalBusOptions { keys_count_max: 10, ..options(Durability::Memory) };
    let (bus, _events) = LocalBus::new(options, None, clock());
    let name = channel("kept:a");
    for number in 0..11 {
        let key: Arc<str> = number.to_string().into();
        bus.publish(&name, Post { key: Some(key), ..Post::default() }).await.unwrap();
    }
    let again = |key: &str| bus.publish(&name, Post::new("").with_key(key));
    assert_eq!(again("10").await.unwrap().offset, Offset(11));
    assert_eq!(again("0").await.unwrap().offset, Offset(12));
    assert!(bus.inner.metrics.keys.get() <= 10);
}

#[tokio::test(start_paused = true)]
async fn keys_are_known_for_their_time_whatever_the_wall_clock_does() {
    let clock = clock();
    let (bus, _events) = LocalBus::new(options(Durability::Memory), None, Arc::clone(&clock) as _);
    let name = channel("kept:a");
    let again = || bus.publish(&name, Post::new("").with_key("k"));
    assert_eq!(again().await.unwrap().offset, Offset(1));
    clock.advance(Duration::from_secs(365 * 86_400));
    assert_eq!(again().await.unwrap().offset, Offset(1));
    tokio::time::advance(Duration::from_secs(601)).await;
    assert_eq!(again().await.unwrap().offset, Offset(2));
}
