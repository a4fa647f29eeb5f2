//! How subscriptions begin and end: what of the past comes with them, what is refused, who is told, and
//! what is left when they end.

use std::sync::atomic::Ordering;
use std::time::Duration;

use naru_domain::{Epoch, Offset, Position};
use naru_testkit::bus_contract::channel;
use tokio::task::JoinSet;

use super::{NotRecovered, PresenceStats, Recover, SubscribeError, SubscribeSpec};
use crate::channels::Traits;
use crate::options::HubOptions;
use crate::outlet::Cut;
use crate::test_node::{Member, Node, NodeSpec, loose, positioned, since, texts};

/// Everybody sees everybody.
fn sociable(name: &str) -> SubscribeSpec {
    let traits = Traits {
        gets_membership: true,
        shows_membership: true,
        is_present: true,
        ..Traits::default()
    };
    SubscribeSpec { traits, ..loose(name) }
}

#[tokio::test]
async fn a_subscription_begins_fresh_recovered_or_not_recovered_and_says_so() {
    let node = Node::start(NodeSpec { history_size: 5, ..NodeSpec::default() });
    let top = node.publish_run("kept:a", 1, 7).await;
    let at = |offset| Position { offset: Offset(offset), ..top };
    let other = Position { epoch: Epoch(1), offset: Offset(5) };
    let unnamed = |offset| Recover::Since { epoch: None, offset: Offset(offset) };
    for (recover, not_recovered, begins_at, replayed) in [
        (Recover::Nothing, None, 7, texts([])),
        (since(at(7)), None, 7, texts([])),
        (since(at(5)), None, 5, texts(6..=7)),
        (since(at(2)), None, 2, texts(3..=7)),
        (since(at(1)), Some(NotRecovered::Trimmed), 7, texts([])),
        (since(at(8)), Some(NotRecovered::Trimmed), 7, texts([])),
        (since(other), Some(NotRecovered::OtherEpoch), 7, texts([])),
        (unnamed(5), None, 5, texts(6..=7)),
        (unnamed(1), Some(NotRecovered::Trimmed), 7, texts([])),
    ] {
        let member = node.connect("client");
        let begun = member.subscribe(positioned("kept:a", recover)).await.unwrap();
        assert_eq!(begun.not_recovered, not_recovered, "{recover:?}");
        assert_eq!(begun.position, at(begins_at), "{recover:?}");
        assert_eq!(begun.was_recovering, recover != Recover::Nothing);
        assert_eq!(begun.is_recovered(), recover != Recover::Nothing && not_recovered.is_none());
        assert_eq!(member.heard(), replayed, "{recover:?}");
    }
    assert_eq!(node.hub.inner.metrics.recovered.get(), 4);
    assert_eq!(node.hub.inner.metrics.not_recovered.get(), 4);
    node.stop().await;
}

#[tokio::test]
async fn a_recovery_of_too_much_gives_nothing() {
    let options = HubOptions { recovery_publications_max: 3, ..HubOptions::default() };
    let node = Node::start(NodeSpec { options, ..NodeSpec::default() });
    let top = node.publish_run("kept:a", 1, 5).await;
    let at = |offset| Position { offset: Offset(offset), ..top };
    let (late, later) = (node.connect("late"), node.connect("later"));
    let begun = late.subscribe(positioned("kept:a", since(at(2)))).await.unwrap();
    assert!(begun.is_recovered() && late.heard() == texts(3..=5));
    let begun = later.subscribe(positioned("kept:a", since(at(1)))).await.unwrap();
    assert_eq!(begun.not_recovered, Some(NotRecovered::TooMany));
    assert_eq!((begun.position, later.heard()), (top, texts([])));
    node.stop().await;
}

#[tokio::test]
async fn a_cache_gives_the_newest_publication_unless_the_client_has_it() {
    let node = Node::start(NodeSpec::default());
    let newest = |seen| positioned("kept:a", Recover::Newest { seen });
    let early = node.connect("early");
    let begun = early.subscribe(newest(None)).await.unwrap();
    assert_eq!(begun.not_recovered, Some(NotRecovered::Trimmed));
    let top = node.publish_run("kept:a", 1, 5).await;
    let member = node.connect("client");
    let begun = member.subscribe(newest(None)).await.unwrap();
    assert!(begun.is_recovered() && begun.position.offset == Offset(4));
    node.publish("kept:a", "6").await;
    assert_eq!(member.read(2).await, ["5", "6"]);
    let top = Position { offset: top.offset.next(), ..top };
    let informed = node.connect("informed");
    let begun = informed.subscribe(newest(Some(top))).await.unwrap();
    assert!(begun.is_recovered() && begun.position == top && informed.heard().is_empty());
    node.hub.remove_history(&channel("kept:a")).await.unwrap();
    let late = node.connect("late");
    let begun = late.subscribe(newest(None)).await.unwrap();
    assert_eq!(begun.not_recovered, Some(NotRecovered::Trimmed));
    assert_eq!((begun.position, late.heard()), (top, texts([])));
    assert_eq!(early.read(6).await, texts(1..=6));
    node.stop().await;
}

#[tokio::test]
async fn a_subscription_that_must_recover_and_cannot_does_not_begin() {
    let node = Node::start(NodeSpec { history_size: 2, ..NodeSpec::default() });
    let top = node.publish_run("kept:a", 1, 5).await;
    let member = node.connect("client");
    let must = |offset| SubscribeSpec {
        must_recover: true,
        ..positioned("kept:a", since(Position { offset: Offset(offset), ..top }))
    };
    assert_eq!(member.subscribe(must(2)).await, Err(SubscribeError::NotRecovered));
    assert_eq!(member.connected.client().subscription_count(), 0);
    assert!(member.subscribe(must(3)).await.unwrap().is_recovered());
    assert_eq!(member.heard(), ["4", "5"]);
    node.stop().await;
}

#[tokio::test]
async fn subscriptions_and_connections_that_cannot_be_are_refused() {
    let options = HubOptions {
        subscriptions_per_client_max: 2,
        connections_per_user_max: 2,
        ..HubOptions::default()
    };
    let node = Node::start(NodeSpec { options, ..NodeSpec::default() });
    let member = node.connect_as("bo", "1").unwrap();
    assert!(member.subscribe(loose("a")).await.is_ok());
    assert_eq!(member.subscribe(loose("a")).await, Err(SubscribeError::AlreadySubscribed));
    assert!(member.subscribe(loose("b")).await.is_ok());
    assert_eq!(member.subscribe(loose("c")).await, Err(SubscribeError::TooMany { max: 2 }));
    assert!(member.unsubscribe("a") && !member.unsubscribe("a"));
    assert!(member.subscribe(loose("c")).await.is_ok());
    assert_eq!(node.hub.inner.metrics.subscriptions.get(), 2);
    let second = node.connect_as("bo", "2").unwrap();
    assert!(node.connect_as("bo", "3").is_err());
    assert!(node.connect_as("al", "4").is_ok());
    // The anonymous are not one user.
    let anonymous: Vec<_> = (5..9).map(|id| node.connect_as("", &id.to_string())).collect();
    assert!(anonymous.iter().all(Result::is_ok));
    assert_eq!(node.hub.clients_of("bo").len(), 2);
    drop(second);
    assert!(node.connect_as("bo", "3").is_ok());
    node.stop().await;
}

#[tokio::test]
async fn a_client_that_is_dropped_leaves_all_channels_and_the_interest_of_the_bus_ends() {
    let node = Node::start(NodeSpec::default());
    let (member, other) = (node.connect("bo"), node.connect("al"));
    for name in ["kept:a", "kept:b", "bare"] {
        member.enter(name).await;
    }
    other.enter("kept:b").await;
    assert_eq!(node.hub.client_count(), (2, 2));
    let client = std::sync::Arc::clone(member.connected.client());
    drop(member);
    assert_eq!(node.hub.client_count(), (1, 1));
    assert_eq!(node.hub.channels(|_| true), [(channel("kept:b"), 1)]);
    node.until(|hub| hub.inner.metrics.channels.get() == 1).await;
    assert_eq!(*node.bus.wanted.lock(), [channel("kept:b")]);
    // Whoever still holds it gets nowhere.
    let late = node.hub.subscribe(&client, loose("bare"), |_| panic!("nobody is there"));
    assert_eq!(late.await, Err(SubscribeError::Gone));
    assert!(node.hub.client("bo").is_none() && node.hub.clients_of("bo").is_empty());
    assert_eq!(node.hub.inner.metrics.subscriptions.get(), 1);
    node.stop().await;
}

#[tokio::test]
async fn a_subscription_that_is_given_up_leaves_nothing() {
    let node = Node::start(NodeSpec::default());
    let member = node.connect("client");
    node.bus.is_stuck.store(true, Ordering::SeqCst);
    let given_up = member.subscribe(sociable("kept:a"));
    assert!(tokio::time::timeout(Duration::from_millis(1), given_up).await.is_err());
    node.bus.is_stuck.store(false, Ordering::SeqCst);
    assert_eq!(member.connected.client().subscription_count(), 0);
    assert_eq!(node.hub.inner.metrics.subscriptions.get(), 0);
    node.until(|hub| hub.inner.channels.get(&channel("kept:a")).is_none()).await;
    assert!(node.bus.wanted.lock().is_empty());
    assert!(member.subscribe(loose("kept:a")).await.is_ok());
    node.publish("kept:a", "1").await;
    assert_eq!(member.read(1).await, ["1"]);
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_subscription_whose_history_is_not_read_in_time_fails_and_leaves_nothing() {
    let node = Node::start(NodeSpec::default());
    let member = node.connect("client");
    node.bus.is_stuck.store(true, Ordering::SeqCst);
    let failed = member.subscribe(sociable("kept:a")).await;
    assert!(matches!(failed, Err(SubscribeError::Bus(_))));
    assert_eq!(member.connected.client().subscription_count(), 0);
    node.stop().await;
}

#[tokio::test]
async fn an_ended_subscription_gets_nothing_more_and_only_a_cut_is_told() {
    let node = Node::start(NodeSpec::default());
    let (quiet, ordered, stays) = (node.connect("1"), node.connect("2"), node.connect("3"));
    for member in [&quiet, &ordered, &stays] {
        member.enter("kept:a").await;
    }
    assert!(quiet.unsubscribe("kept:a"));
    let (client, name) = (ordered.connected.client(), channel("kept:a"));
    assert!(node.hub.cut(client, &name, &Cut::Expired));
    assert!(!node.hub.cut(client, &name, &Cut::Expired));
    node.publish("kept:a", "1").await;
    assert_eq!(stays.read(1).await, ["1"]);
    assert_eq!((quiet.heard(), ordered.heard()), (texts([]), vec!["cut Expired".to_owned()]));
    node.stop().await;
}

#[tokio::test]
async fn presence_has_those_who_are_in_and_show_it() {
    let node = Node::start(NodeSpec::default());
    let one = node.connect_as("bo", "1").unwrap();
    let two = node.connect_as("bo", "2").unwrap();
    let hidden = node.connect_as("al", "3").unwrap();
    let spec = SubscribeSpec { chan_info: "{}".into(), ..sociable("kept:a") };
    one.subscribe(spec).await.unwrap();
    two.subscribe(sociable("kept:a")).await.unwrap();
    hidden.subscribe(loose("kept:a")).await.unwrap();
    let name = channel("kept:a");
    let mut present = node.hub.presence(&name);
    present.sort_by(|a, b| a.client.cmp(&b.client));
    let shown: Vec<_> =
        present.iter().map(|party| (&*party.user, &*party.client, &*party.chan_info)).collect();
    assert_eq!(shown, [("bo", "1", "{}".as_bytes()), ("bo", "2", b"")]);
    assert_eq!(node.hub.presence_stats(&name), PresenceStats { clients: 2, users: 1 });
    // Who is still on the way in is not there.
    node.bus.is_stuck.store(true, Ordering::SeqCst);
    let late = node.connect("late");
    let entering = late.subscribe(sociable("kept:a"));
    assert!(tokio::time::timeout(Duration::from_millis(1), entering).await.is_err());
    drop(two);
    assert_eq!(node.hub.presence_stats(&name), PresenceStats { clients: 1, users: 1 });
    assert_eq!(node.hub.presence_stats(&channel("b")), PresenceStats::default());
    assert!(node.hub.presence(&channel("b")).is_empty());
    node.stop().await;
}

#[tokio::test]
async fn who_enters_and_leaves_is_told_once_in_order_and_nobody_hears_of_its_own_leaving() {
    let node = Node::start(NodeSpec::default());
    let (watch, deaf) = (node.connect("watch"), node.connect("deaf"));
    watch.subscribe(sociable("kept:a")).await.unwrap();
    deaf.subscribe(loose("kept:a")).await.unwrap();
    let mut expected = vec!["+watch".to_owned()];
    for round in 0..20 {
        let id = format!("guest{round}");
        let guest = node.connect(&id);
        guest.subscribe(sociable("kept:a")).await.unwrap();
        match round % 3 {
            0 => assert!(guest.unsubscribe("kept:a")),
            1 => assert!(node.hub.cut(guest.connected.client(), &channel("kept:a"), &Cut::Expired)),
            _ => {}
        }
        expected.extend([format!("+{id}"), format!("-{id}")]);
    }
    assert_eq!(watch.read(expected.len()).await, expected);
    assert!(watch.unsubscribe("kept:a"));
    watch.subscribe(sociable("kept:a")).await.unwrap();
    // Its own leaving comes back while it is in again, and is not for it.
    assert_eq!(watch.read(1).await, ["+watch"]);
    assert!(watch.heard().is_empty() && deaf.heard().is_empty());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_doubled_between_history_and_live_flow() {
    const COUNT: u64 = 2_000;
    let node =
        std::sync::Arc::new(Node::start(NodeSpec { history_size: 10_000, ..NodeSpec::default() }));
    let first = node.publish("kept:a", "1").await;
    let mut tasks = JoinSet::new();
    tasks.spawn({
        let node = std::sync::Arc::clone(&node);
        async move {
            for number in 2..=COUNT {
                node.publish_run("kept:a", number, number).await;
                tokio::task::yield_now().await;
            }
        }
    });
    for number in 0..16 {
        let node = std::sync::Arc::clone(&node);
        tasks.spawn(async move {
            let member: Member = node.connect(&number.to_string());
            let mut seen = first;
            // Away and back, with its position, until all has come.
            while seen.offset.0 < COUNT {
                let begun = member.subscribe(positioned("kept:a", since(seen))).await.unwrap();
                assert!(begun.is_recovered());
                let expected = (COUNT - seen.offset.0).min(100);
                let read = member.read(usize::try_from(expected).unwrap()).await;
                assert!(member.unsubscribe("kept:a"));
                let read: Vec<String> = read.into_iter().chain(member.take()).collect();
                let up_to = seen.offset.0 + read.len() as u64;
                assert_eq!(read, texts(seen.offset.0 + 1..=up_to));
                seen.offset = Offset(up_to);
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    std::sync::Arc::into_inner(node).unwrap().stop().await;
}
