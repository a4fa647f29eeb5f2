//! A bus that loses events and does not know it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::options::HubOptions;
use crate::test_node::{Node, NodeSpec, leaky_link, loose, texts};

async fn turns() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_loss_that_nobody_reported_is_found_and_repaired() {
    let (is_leaking, link) = leaky_link();
    let node = Node::start_over(NodeSpec::default(), Some(link));
    let (strict, easy) = (node.connect("strict"), node.connect("easy"));
    strict.enter("kept:a").await;
    easy.subscribe(loose("kept:b")).await.unwrap();
    node.publish_run("kept:a", 1, 3).await;
    assert_eq!(strict.read(3).await, texts(1..=3));
    is_leaking.store(true, Ordering::SeqCst);
    node.publish_run("kept:a", 4, 5).await;
    node.publish_run("kept:b", 1, 2).await;
    turns().await;
    is_leaking.store(false, Ordering::SeqCst);
    // Once may be bad luck.
    tokio::time::sleep(Duration::from_secs(41)).await;
    assert!(strict.heard().is_empty());
    tokio::time::sleep(Duration::from_secs(40)).await;
    assert_eq!(strict.heard(), texts(4..=5));
    assert_eq!(node.hub.inner.metrics.positions_behind.get(), 1);
    // Nobody was promised anything there.
    assert!(easy.heard().is_empty());
    node.publish("kept:a", "6").await;
    assert_eq!(strict.read(3).await, texts(4..=6));
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_still_on_its_way_is_no_loss() {
    let (is_leaking, link) = leaky_link();
    let node = Node::start_over(NodeSpec::default(), Some(link));
    let member = node.connect("client");
    member.enter("kept:a").await;
    for round in 0..10 {
        // Lost at the moment of each check, and known by the next one.
        is_leaking.store(true, Ordering::SeqCst);
        node.publish_run("kept:a", 2 * round + 1, 2 * round + 1).await;
        tokio::time::sleep(Duration::from_secs(40)).await;
        is_leaking.store(false, Ordering::SeqCst);
        node.publish_run("kept:a", 2 * round + 2, 2 * round + 2).await;
        turns().await;
    }
    assert_eq!(member.heard(), texts(1..=20));
    assert_eq!(node.hub.inner.metrics.positions_behind.get(), 0);
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn no_check_is_made_where_none_is_wished_or_the_bus_does_not_answer() {
    let options = HubOptions { position_check_interval: Duration::ZERO, ..HubOptions::default() };
    let (is_leaking, link) = leaky_link();
    let node = Node::start_over(NodeSpec { options, ..NodeSpec::default() }, Some(link));
    let member = node.connect("client");
    member.enter("kept:a").await;
    is_leaking.store(true, Ordering::SeqCst);
    node.publish("kept:a", "1").await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(member.heard().is_empty());
    node.stop().await;
    let (is_leaking, link) = leaky_link();
    let node = Node::start_over(NodeSpec::default(), Some(link));
    let member = node.connect("client");
    member.enter("kept:a").await;
    is_leaking.store(true, Ordering::SeqCst);
    node.publish("kept:a", "1").await;
    node.bus.is_failing.store(true, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(member.heard().is_empty());
    node.bus.is_failing.store(false, Ordering::SeqCst);
    assert_eq!(member.read(1).await, ["1"]);
    node.stop().await;
}
