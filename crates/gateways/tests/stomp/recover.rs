//! Missing nothing: clients that come back, and readers that are slow.

use naru_gateways::stomp::StompOptions;
use naru_wire::stomp::{Command, Version};

use crate::world::{Client, World, numbers};

fn position(frame: &naru_wire::stomp::Frame) -> String {
    frame.header("position").unwrap().to_owned()
}

#[tokio::test(start_paused = true)]
async fn a_client_that_names_its_last_position_gets_what_it_missed() {
    let world = World::new();
    let mut ann = world.anonymous().await;
    ann.subscribe("s", "/topic/kept:a", &[]).await;
    world.publish("kept:a", "0").await;
    let last = position(&ann.message().await.1);
    drop(ann);
    // More than one page of history, so that it is read in several steps.
    for number in numbers(1..250) {
        world.publish("kept:a", &number).await;
    }
    let mut ann = world.anonymous().await;
    let receipt = ann.subscribe("s", "/topic/kept:a", &[("last-position", &last)]).await;
    assert_eq!(receipt.header("recovered"), Some("true"));
    assert!(position(&receipt).ends_with(":250"), "{receipt:?}");
    world.publish("kept:a", "250").await;
    assert_eq!(ann.bodies(250).await, numbers(1..251));
    ann.assert_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn what_history_lost_is_told_with_the_first_message() {
    let world = World::new();
    let mut ann = world.anonymous().await;
    ann.subscribe("s", "/topic/short:a", &[]).await;
    world.publish("short:a", "0").await;
    let last = position(&ann.message().await.1);
    for number in numbers(1..10) {
        world.publish("short:a", &number).await;
    }
    for mode in ["auto", "client"] {
        let mut late = world.anonymous().await;
        let headers = [("last-position", last.as_str()), ("ack", mode)];
        let receipt = late.subscribe("s", "/topic/short:a", &headers).await;
        assert_eq!(receipt.header("recovered"), Some("false"));
        let (body, frame) = late.message().await;
        assert_eq!((body.as_str(), frame.header("gap")), ("7", Some("2-7")));
        let (body, frame) = late.message().await;
        assert_eq!((body.as_str(), frame.header("gap")), ("8", None));
        assert_eq!(late.bodies(1).await, ["9"]);
    }
    // Nothing is kept at all: the gap comes with what is published next.
    let channel = naru_domain::ChannelName::parse("short:a").unwrap();
    world.hub.remove_history(&channel).await.unwrap();
    for mode in ["auto", "client"] {
        let mut late = world.anonymous().await;
        let headers = [("last-position", last.as_str()), ("ack", mode)];
        late.subscribe("s", "/topic/short:a", &headers).await;
        world.publish("short:a", "x").await;
        let gap = late.message().await.1.header("gap").map(str::to_owned);
        assert!(gap.is_some_and(|gap| gap.starts_with("2-1")), "{mode}");
        world.publish("short:a", "y").await;
        assert_eq!(late.message().await.1.header("gap"), None);
        world.hub.remove_history(&channel).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_position_of_another_life_begins_with_what_is_there() {
    let world = World::new();
    for number in numbers(0..3) {
        world.publish("kept:a", &number).await;
    }
    let mut ann = world.anonymous().await;
    let receipt = ann.subscribe("s", "/topic/kept:a", &[("last-position", "1:2")]).await;
    assert_eq!(receipt.header("recovered"), Some("false"));
    assert_eq!(ann.bodies(3).await, numbers(0..3));
    // Where recovery is not allowed, it begins with what comes.
    world.publish("blind:a", "old").await;
    let receipt = ann.subscribe("t", "/topic/blind:a", &[("last-position", "1:0")]).await;
    assert_eq!(receipt.header("recovered"), Some("false"));
    world.publish("blind:a", "new").await;
    assert_eq!(ann.bodies(1).await, ["new"]);
    let receipt = ann.subscribe("u", "/topic/bare", &[("last-position", "1:0")]).await;
    assert_eq!(receipt.header("recovered"), Some("false"));
    assert_eq!(receipt.header("position"), None);
    ann.send(
        Command::Subscribe,
        &[("id", "v"), ("destination", "/topic/bare"), ("last-position", "soon")],
        "",
    )
    .await;
    ann.refused("bad_header").await;
}

#[tokio::test(start_paused = true)]
async fn the_server_keeps_the_position_of_a_durable_subscription() {
    let world = World::new();
    world.publish("kept:a", "before").await;
    for mode in ["auto", "client-individual"] {
        let headers = [("durable-id", mode), ("ack", mode)];
        let mut ann = world.user("ann").await;
        let receipt = ann.subscribe("s", "/topic/kept:a", &headers).await;
        assert_eq!(receipt.header("recovered"), None, "the first one begins with what comes");
        drop(ann);
        for number in numbers(0..4) {
            world.publish("kept:a", &number).await;
        }
        let mut ann = world.user("ann").await;
        let receipt = ann.subscribe("s", "/topic/kept:a", &headers).await;
        assert_eq!(receipt.header("recovered"), Some("true"));
        let mut acks = Vec::new();
        for number in numbers(0..4) {
            let (body, frame) = ann.message().await;
            assert_eq!(body, number);
            acks.push(frame.header("ack").unwrap_or_default().to_owned());
        }
        // The second is not acknowledged; with auto, nothing need be.
        let acked: &[usize] = if mode == "auto" { &[] } else { &[0, 2, 3] };
        for number in acked {
            let id = [("id", acks[*number].as_str())];
            ann.send(Command::Ack, &id, "").await;
        }
        ann.sync().await;
        world.publish("kept:a", "4").await;
        ann.message().await;
        drop(ann);
        let mut ann = world.user("ann").await;
        ann.subscribe("s", "/topic/kept:a", &headers).await;
        let expected = if mode == "auto" { numbers(5..5) } else { numbers(1..5) };
        assert_eq!(ann.bodies(expected.len()).await, expected, "{mode}");
        ann.assert_quiet().await;
        // Nobody else has that position.
        let mut bob = world.user("bob").await;
        bob.subscribe("s", "/topic/kept:a", &headers).await;
        bob.assert_quiet().await;
        bob.send(Command::Send, &[("destination", "/topic/durable:3:ann:auto")], "1:1").await;
        bob.refused("unknown_destination").await;
    }
    let mut anonymous = world.anonymous().await;
    let headers = [("id", "s"), ("destination", "/topic/kept:a"), ("durable-id", "d")];
    anonymous.send(Command::Subscribe, &headers, "").await;
    anonymous.refused("forbidden").await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_of_a_channel_with_history_misses_nothing() {
    let options =
        StompOptions { allow_anonymous: true, queue_bytes_max: 4_096, ..StompOptions::default() };
    let world = World::with(options, None);
    let mut slow = Client::new(world.open(None, 1_024), Version::V1_2);
    slow.connect(&[]).await;
    slow.subscribe("s", "/topic/kept:a", &[]).await;
    for number in numbers(0..2_000) {
        world.publish("kept:a", &number).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(slow.bodies(2_000).await, numbers(0..2_000));
    world.publish("kept:a", "live").await;
    assert_eq!(slow.bodies(1).await, ["live"]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_of_a_channel_without_history_is_sent_away() {
    let options =
        StompOptions { allow_anonymous: true, queue_bytes_max: 4_096, ..StompOptions::default() };
    let world = World::with(options, None);
    let mut slow = Client::new(world.open(None, 1_024), Version::V1_2);
    slow.connect(&[]).await;
    slow.subscribe("s", "/topic/a", &[]).await;
    for number in numbers(0..2_000) {
        world.publish("a", &number).await;
        tokio::task::yield_now().await;
    }
    let error = loop {
        let frame = slow.frame().await;
        if frame.command != Command::Message {
            break frame;
        }
    };
    assert_eq!(error.header("code"), Some("slow_reader"));
}
