//! The flow from the bus to the subscribers: order, gaps and their repair, slow readers, shared
//! encodings, and a link that loses and repeats events from a seed.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use naru_domain::ports::{BusEvent, Post};
use naru_domain::{Offset, Position};
use naru_testkit::bus_contract::channel;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::outlet::{Filter, Mark};
use crate::subscribe::{Recover, SubscribeSpec};
use crate::test_node::{
    HAS_FILTER, Link, Member, Node, NodeSpec, leaky_link, loose, positioned, since, texts,
};

#[tokio::test]
async fn one_order_for_every_subscriber_and_once_each() {
    let node = Node::start(NodeSpec::default());
    let members: Vec<Member> = (0..20).map(|n| node.connect(&n.to_string())).collect();
    for member in &members {
        member.enter("kept:a").await;
        member.subscribe(loose("bare")).await.unwrap();
    }
    node.publish_run("kept:a", 1, 50).await;
    for member in &members {
        assert_eq!(member.read(50).await, texts(1..=50));
    }
    node.publish_run("bare", 1, 50).await;
    for member in &members {
        assert_eq!(member.read(50).await, texts(1..=50));
    }
    node.stop().await;
}

#[tokio::test]
async fn an_encoding_is_made_once_for_each_kind_and_variant_and_shared() {
    let node = Node::start(NodeSpec::default());
    let mut members: Vec<Member> = (0..6).map(|n| node.connect(&n.to_string())).collect();
    let variants = [None, None, Some("1"), Some("1"), Some("2"), None];
    for (member, variant) in members.iter_mut().zip(variants) {
        let mark = Mark { variant: variant.map(Arc::from), bits: 0 };
        let spec = SubscribeSpec { mark, ..positioned("kept:a", Recover::Nothing) };
        member.subscribe(spec).await.unwrap();
    }
    node.publish_run("kept:a", 1, 10).await;
    let mut encodings = 0;
    for member in &members {
        assert_eq!(member.read(10).await, texts(1..=10));
        encodings += member.reader.encodings.load(Ordering::SeqCst);
    }
    assert_eq!(encodings, 3 * 10);
    node.stop().await;
}

/// Lets numbers pass that 3 divides.
fn thirds(recover: Recover) -> SubscribeSpec {
    let is_third = |text: &[u8]| String::from_utf8_lossy(text).parse::<u64>().unwrap() % 3 == 0;
    let filter = Filter::new(move |publication| is_third(&publication.data));
    let mark = Mark { bits: HAS_FILTER, ..Mark::default() };
    SubscribeSpec { filter: Some(filter), mark, ..positioned("kept:a", recover) }
}

#[tokio::test]
async fn what_a_filter_keeps_back_moves_the_position_all_the_same() {
    let node = Node::start(NodeSpec { events_max: 4, history_size: 10_000, ..NodeSpec::default() });
    let (all, some) = (node.connect("all"), node.connect("some"));
    all.enter("kept:a").await;
    let start = some.subscribe(thirds(Recover::Nothing)).await.unwrap().position;
    // Some of it comes live, some through the repair of what did not fit.
    node.publish_run("kept:a", 1, 3_000).await;
    let wanted: Vec<String> = (1..=1_000).map(|number| (3 * number).to_string()).collect();
    assert_eq!(some.read(1_000).await, wanted);
    assert_eq!(all.read(3_000).await, texts(1..=3_000));
    let metrics = &node.hub.inner.metrics;
    assert!(metrics.bus_gaps.get() > 0);
    assert_eq!(metrics.channel_gaps.get(), 0, "a publication that is not wanted is no gap");
    assert_eq!(metrics.fan_out.get(), 4_000);
    // What was missed is filtered as well.
    drop(some);
    node.publish_run("kept:a", 3_001, 3_010).await;
    let back = node.connect("back");
    let since = since(Position { offset: Offset(2_999), ..start });
    assert!(back.subscribe(thirds(since)).await.unwrap().is_recovered());
    assert_eq!(back.read(4).await, ["3000", "3003", "3006", "3009"]);
    node.publish_run("kept:a", 3_011, 3_012).await;
    assert_eq!(back.read(1).await, ["3012"]);
    node.stop().await;
}

#[tokio::test]
async fn events_that_did_not_fit_are_read_from_history_without_a_loss_or_a_repeat() {
    let spec = NodeSpec { events_max: 4, history_size: 10_000, ..NodeSpec::default() };
    let node = Node::start(spec);
    let members: Vec<Member> = (0..3).map(|n| node.connect(&n.to_string())).collect();
    for member in &members {
        member.enter("kept:a").await;
    }
    // Without a pause for the hub, so that its queue of four overflows.
    node.publish_run("kept:a", 1, 2_000).await;
    for member in &members {
        assert_eq!(member.read(2_000).await, texts(1..=2_000));
    }
    assert!(node.hub.inner.metrics.bus_gaps.get() > 0);
    assert_eq!(node.hub.inner.metrics.channel_gaps.get(), 0);
    node.stop().await;
}

#[tokio::test]
async fn what_history_no_longer_has_cuts_those_with_a_position_and_the_others_go_on() {
    let node = Node::start(NodeSpec { events_max: 4, ..NodeSpec::default() });
    let (strict, easy) = (node.connect("strict"), node.connect("easy"));
    strict.enter("kept:a").await;
    easy.subscribe(loose("kept:a")).await.unwrap();
    node.publish_run("kept:a", 1, 100).await;
    let cut = "cut InsufficientState".to_owned();
    assert_eq!(strict.read(5).await, [texts(1..=4), vec![cut]].concat());
    assert_eq!(easy.read(14).await, [texts(1..=4), texts(91..=100)].concat());
    node.publish("kept:a", "next").await;
    assert_eq!(easy.read(1).await, ["next"]);
    assert!(
        strict.heard().is_empty() && !strict.connected.client().is_subscribed(&channel("kept:a"))
    );
    assert_eq!(node.hub.inner.metrics.channel_gaps.get(), 1);
    // It may begin again.
    let begun = strict.enter("kept:a").await;
    assert_eq!(begun.position.offset, Offset(101));
    node.publish("kept:a", "more").await;
    assert_eq!(strict.read(1).await, ["more"]);
    node.stop().await;
}

#[tokio::test]
async fn a_loss_in_a_channel_without_history_is_a_loss_for_positions_only() {
    let node = Node::start(NodeSpec { events_max: 4, ..NodeSpec::default() });
    let (strict, easy) = (node.connect("strict"), node.connect("easy"));
    strict.enter("bare").await;
    easy.subscribe(loose("bare")).await.unwrap();
    node.publish_run("bare", 1, 6).await;
    assert_eq!(strict.read(5).await, ["1", "2", "3", "4", "cut InsufficientState"]);
    assert_eq!(easy.read(4).await, texts(1..=4));
    node.publish("bare", "next").await;
    assert_eq!(easy.read(1).await, ["next"]);
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_repair_that_never_gets_history_cuts_those_with_a_position_and_goes_on() {
    let node = Node::start(NodeSpec { events_max: 4, ..NodeSpec::default() });
    let (strict, easy) = (node.connect("strict"), node.connect("easy"));
    strict.enter("kept:a").await;
    easy.subscribe(loose("kept:a")).await.unwrap();
    node.bus.is_failing.store(true, Ordering::SeqCst);
    node.publish_run("kept:a", 1, 10).await;
    assert_eq!(strict.read(5).await, ["1", "2", "3", "4", "cut InsufficientState"]);
    node.bus.is_failing.store(false, Ordering::SeqCst);
    node.publish("kept:a", "next").await;
    assert_eq!(easy.read(5).await, ["1", "2", "3", "4", "next"]);
    node.stop().await;
}

#[tokio::test]
async fn isolation_of_a_slow_subscriber_who_is_cut_and_recovers_from_history() {
    let node = Node::start(NodeSpec { history_size: 200, ..NodeSpec::default() });
    let (slow, quick) = (node.connect("slow"), node.connect("quick"));
    slow.enter("kept:a").await;
    quick.enter("kept:a").await;
    let last = node.publish("kept:a", "1").await;
    assert_eq!(slow.read(1).await, ["1"]);
    slow.reader.is_full.store(true, Ordering::SeqCst);
    for number in 2..=100 {
        node.publish_run("kept:a", number, number).await;
    }
    assert_eq!(quick.read(100).await, texts(1..=100));
    assert_eq!(slow.read(1).await, ["cut Slow"]);
    assert_eq!(node.hub.inner.metrics.slow_cuts.get(), 1);
    slow.reader.is_full.store(false, Ordering::SeqCst);
    let again = slow.subscribe(positioned("kept:a", since(last))).await.unwrap();
    assert!(again.is_recovered());
    node.publish("kept:a", "101").await;
    assert_eq!(slow.read(100).await, texts(2..=101));
    node.stop().await;
}

#[tokio::test]
async fn a_slow_reader_of_what_nobody_keeps_is_closed() {
    let node = Node::start(NodeSpec::default());
    let (slow, quick) = (node.connect("slow"), node.connect("quick"));
    slow.subscribe(loose("bare")).await.unwrap();
    quick.subscribe(loose("bare")).await.unwrap();
    slow.reader.is_full.store(true, Ordering::SeqCst);
    node.publish_run("bare", 1, 2).await;
    assert_eq!(slow.read(1).await, ["closed slow_reader"]);
    assert_eq!(quick.read(2).await, ["1", "2"]);
    assert_eq!(slow.connected.client().subscription_count(), 0);
    node.stop().await;
}

#[tokio::test]
async fn the_interest_of_the_bus_ends_when_the_last_reader_is_cut() {
    let node = Node::start(NodeSpec::default());
    let slow = node.connect("slow");
    slow.enter("kept:a").await;
    assert_eq!(*node.bus.wanted.lock(), [channel("kept:a")]);
    slow.reader.is_full.store(true, Ordering::SeqCst);
    node.publish("kept:a", "1").await;
    assert_eq!(slow.read(1).await, ["cut Slow"]);
    node.until(|hub| hub.inner.channels.get(&channel("kept:a")).is_none()).await;
    assert!(node.bus.wanted.lock().is_empty());
    assert_eq!(node.hub.inner.metrics.channels.get(), 0);
    assert_eq!(node.hub.inner.metrics.subscriptions.get(), 0);
    node.stop().await;
}

#[tokio::test]
async fn a_publication_that_is_not_kept_moves_nobody_in_its_channel() {
    let node = Node::start(NodeSpec::default());
    let member = node.connect("client");
    member.enter("kept:a").await;
    let first = node.publish("kept:a", "1").await;
    let passing = Post { skip_history: true, ..Post::new("passing") };
    node.hub.publish(&channel("kept:a"), passing).await.unwrap();
    node.publish("kept:a", "2").await;
    assert_eq!(member.read(3).await, ["1", "passing", "2"]);
    let late = node.connect("late");
    assert!(late.subscribe(positioned("kept:a", since(first))).await.unwrap().is_recovered());
    assert_eq!(late.read(1).await, ["2"]);
    assert_eq!(node.hub.inner.metrics.bus_gaps.get(), 0);
    node.stop().await;
}

#[tokio::test]
async fn the_publication_before_is_named_only_if_it_is_the_one_before() {
    // The readers of these tests check what they are told about the one before.
    let mut old = None;
    let link: Link = Box::new(move |event| match &event {
        BusEvent::Publication(_, each) if each.position.offset.0 % 5 == 0 => {
            // Lost, and something older comes again in its place.
            old.clone().into_iter().collect()
        }
        _ => {
            old.get_or_insert_with(|| event.clone());
            vec![event]
        }
    });
    let node =
        Node::start_over(NodeSpec { history_size: 1_000, ..NodeSpec::default() }, Some(link));
    let member = node.connect("client");
    member.enter("kept:a").await;
    for number in 1..=104 {
        node.publish_run("kept:a", number, number).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(member.read(104).await, texts(1..=104));
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn who_is_ahead_of_the_others_does_not_confuse_what_came_before() {
    let (is_leaking, link) = leaky_link();
    let node = Node::start_over(NodeSpec::default(), Some(link));
    let (behind, ahead) = (node.connect("behind"), node.connect("ahead"));
    behind.enter("kept:a").await;
    node.publish_run("kept:a", 1, 4).await;
    assert_eq!(behind.read(4).await, texts(1..=4));
    is_leaking.store(true, Ordering::SeqCst);
    node.publish_run("kept:a", 5, 6).await;
    // What is swallowed has to be on its way by now.
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    is_leaking.store(false, Ordering::SeqCst);
    ahead.enter("kept:a").await;
    node.publish_run("kept:a", 7, 8).await;
    assert_eq!(ahead.read(2).await, texts(7..=8));
    assert_eq!(behind.read(4).await, texts(5..=8));
    node.stop().await;
}

/// Passes events on, some of them never, some twice, and some as a gap.
fn rough_link(seed: u64) -> Link {
    let mut random = StdRng::seed_from_u64(seed);
    Box::new(move |event| {
        let event = match event {
            BusEvent::Publication(name, _) if random.random_bool(0.1) => BusEvent::Gap(name),
            event => event,
        };
        vec![event; random.random_range(1..3)]
    })
}

/// One seed: events are lost and repeated on their way, clients come, go and come back with their
/// positions, and everybody ends up with everything, once, in order.
async fn run_seed(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let spec = NodeSpec { events_max: 64, history_size: 100_000, ..NodeSpec::default() };
    let node = Node::start_over(spec, Some(rough_link(random.random())));
    node.bus.answer_delay.store(random.random_range(0..12), Ordering::SeqCst);
    let hurry = random.random_range(0.0..1.0);
    let mut members: Vec<(Member, u64)> = Vec::new();
    let mut published: u64 = 0;
    let mut start = None;
    for _ in 0..random.random_range(50..200) {
        match random.random_range(0..10) {
            0 if members.len() < 8 => {
                let member = node.connect(&members.len().to_string());
                // From the very first publication, whenever it joins.
                let recover = start.map_or(Recover::Nothing, since);
                let subscribed = member.subscribe(positioned("kept:a", recover)).await.unwrap();
                assert_eq!(subscribed.not_recovered, None, "seed {seed}");
                members.push((member, subscribed.position.offset.0));
            }
            1 => tokio::task::yield_now().await,
            _ => {
                published += 1;
                let position = node.publish("kept:a", &published.to_string()).await;
                start.get_or_insert(Position { offset: Offset(0), ..position });
                if random.random_bool(hurry) {
                    tokio::task::yield_now().await;
                }
            }
        }
    }
    for (member, begins_at) in &members {
        let expected = texts(begins_at + 1..=published);
        assert_eq!(member.read(expected.len()).await, expected, "seed {seed}");
        tokio::task::yield_now().await;
        assert!(member.heard().is_empty(), "seed {seed}: too much");
    }
    drop(members);
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn once_and_in_order_over_a_link_that_loses_and_repeats_events() {
    for seed in 0..200 {
        run_seed(seed).await;
    }
}
