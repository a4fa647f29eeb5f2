//! Channels: what is sent arrives as promised, at those who may have it.

use std::sync::Arc;

use naru_domain::ports::HistoryQuery;
use naru_domain::{ChannelName, Offset};
use naru_testkit::bus_contract::MemoryHistory;
use naru_wire::stomp::{Command, Version, encode_client_frame};

use crate::world::{World, numbers};

#[tokio::test(start_paused = true)]
async fn a_message_arrives_with_the_headers_of_its_sender() {
    let world = World::new();
    let (mut ann, mut bob) = (world.user("ann").await, world.user("bob").await);
    ann.subscribe("sub-0", "/topic/kept:a", &[]).await;
    let headers = [
        ("content-type", "text/plain"),
        ("x-colour", "red:\nblue"),
        ("passcode", "not for others"),
        ("position", "1:1"),
        ("ack", "nonsense"),
    ];
    bob.say("/topic/kept:a", "hello\0you", &headers).await;
    let (body, frame) = ann.message().await;
    assert_eq!(body, "hello\0you");
    let header = |name| frame.header(name).unwrap_or("-");
    assert_eq!(header("subscription"), "sub-0");
    assert_eq!(header("destination"), "/topic/kept:a");
    assert_eq!(header("content-type"), "text/plain");
    assert_eq!(header("x-colour"), "red:\nblue");
    assert_eq!(header("content-length"), "9");
    assert_eq!(header("message-id"), header("position"));
    assert!(header("position").ends_with(":1") && header("position").len() > 3);
    assert_eq!((header("passcode"), header("ack"), header("receipt")), ("-", "-", "-"));
    bob.assert_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn every_version_hears_every_other() {
    let world = World::new();
    let mut clients = Vec::new();
    for version in [Version::V1_0, Version::V1_1, Version::V1_2] {
        let mut client = world.client(version);
        client.connect(&[]).await;
        client.subscribe("s", "/topic/a", &[]).await;
        clients.push(client);
    }
    for at in 0..clients.len() {
        let headers = [("x", "a:b\\c")];
        clients[at].say("/topic/a", &at.to_string(), &headers).await;
        let mut ids = Vec::new();
        for client in &mut clients {
            let (body, frame) = client.message().await;
            assert_eq!(body, at.to_string());
            assert_eq!(frame.header("x"), Some("a:b\\c"));
            ids.push(frame.header("message-id").unwrap().to_owned());
        }
        ids.dedup();
        assert_eq!(ids.len(), 1, "a message has one id: {ids:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn version_1_0_knows_a_subscription_by_its_destination() {
    let world = World::new();
    let mut client = world.client(Version::V1_0);
    client.write(b"CONNECT\n\n\0SUBSCRIBE\ndestination: /topic/a\n\n\0").await;
    client.expect(Command::Connected).await;
    client.sync().await;
    world.publish("a", "one").await;
    let (body, frame) = client.message().await;
    assert_eq!((body.as_str(), frame.header("subscription")), ("one", None));
    client.send(Command::Unsubscribe, &[("destination", "/topic/a")], "").await;
    client.sync().await;
    world.publish("a", "two").await;
    client.assert_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_may_subscribe_to_the_same_channel_twice() {
    let world = World::new();
    let mut client = world.user("ann").await;
    client.subscribe("one", "/topic/a", &[]).await;
    client.subscribe("two", "/topic/a", &[]).await;
    world.publish("a", "x").await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        ids.push(client.message().await.1.header("subscription").unwrap().to_owned());
    }
    ids.sort_unstable();
    assert_eq!(ids, ["one", "two"]);
    client.send(Command::Unsubscribe, &[("id", "one")], "").await;
    client.sync().await;
    world.publish("a", "y").await;
    let (_, frame) = client.message().await;
    assert_eq!(frame.header("subscription"), Some("two"));
    client.subscribe("one", "/topic/a", &[]).await;
    client.send(Command::Subscribe, &[("id", "one"), ("destination", "/topic/b")], "").await;
    client.refused("duplicate_subscription").await;
    assert_eq!(world.hub.clients_of("ann").len(), 0);
}

#[tokio::test(start_paused = true)]
async fn receipts_come_in_the_order_of_their_frames() {
    let world = World::new();
    let mut client = world.anonymous().await;
    for number in 0..50 {
        let number = number.to_string();
        let headers = [("destination", "/topic/kept:a"), ("receipt", number.as_str())];
        client.send(Command::Send, &headers, &number).await;
    }
    for number in numbers(0..50) {
        let receipt = client.expect(Command::Receipt).await;
        assert_eq!(receipt.header("receipt-id"), Some(number.as_str()));
    }
    let channel = naru_domain::ChannelName::parse("kept:a").unwrap();
    let query = HistoryQuery { since: None, limit: 0 };
    assert_eq!(world.hub.history(&channel, query).await.unwrap().top.offset, Offset(50));
}

#[tokio::test(start_paused = true)]
async fn the_same_key_counts_once() {
    let world = World::new();
    let mut client = world.anonymous().await;
    client.subscribe("s", "/topic/kept:a", &[]).await;
    for body in ["first", "again"] {
        client.say("/topic/kept:a", body, &[("idempotency-key", "k")]).await;
    }
    client.say("/topic/kept:a", "other", &[("idempotency-key", "l")]).await;
    assert_eq!(client.bodies(2).await, ["first", "other"]);
    client.assert_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_not_allowed_is_refused_with_the_receipt_that_was_asked_for() {
    let world = World::new();
    for (command, destination, code) in [
        (Command::Subscribe, "/topic/closed:a", "forbidden"),
        (Command::Send, "/topic/closed:a", "forbidden"),
        (Command::Subscribe, "/topic/$private", "forbidden"),
        (Command::Subscribe, "/topic/nowhere:a", "unknown_destination"),
        (Command::Subscribe, "/topic/temp-queue:a/b", "unknown_destination"),
        (Command::Send, "/exchange/a", "unknown_destination"),
        (Command::Send, "/topic/", "unknown_destination"),
        (Command::Subscribe, "/app/a", "unknown_destination"),
        (Command::Send, "/app/a", "not_available"),
        (Command::Subscribe, "/user/queue/a", "forbidden"),
    ] {
        let mut client = world.anonymous().await;
        let headers = [("id", "1"), ("destination", destination), ("receipt", "r-1")];
        client.send(command, &headers, "").await;
        let error = client.refused(code).await;
        assert_eq!(error.header("receipt-id"), Some("r-1"), "{destination}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_unknown_subscription_or_transaction_is_an_error() {
    let world = World::new();
    for (command, headers, code) in [
        (Command::Unsubscribe, [("id", "x")], "unknown_subscription"),
        (Command::Commit, [("transaction", "x")], "unknown_transaction"),
        (Command::Ack, [("id", "0-1")], "unknown_message"),
        (Command::Connect, [("accept-version", "1.2")], "already_connected"),
        (Command::Message, [("destination", "/topic/a")], "unexpected_command"),
    ] {
        let mut client = world.anonymous().await;
        client.send(command, &headers, "").await;
        client.refused(code).await;
    }
}

#[tokio::test(start_paused = true)]
async fn messages_that_come_together_are_kept_together_and_receipted_in_order() {
    let history = Arc::new(MemoryHistory::default());
    let world = World::on_disk(&history);
    let mut ann = world.anonymous().await;
    let mut piece = Vec::new();
    for number in numbers(0..50) {
        let headers = [("destination", "/topic/kept:a"), ("receipt", number.as_str())];
        let frame = encode_client_frame(Version::V1_2, Command::Send, &headers, number.as_bytes());
        piece.extend_from_slice(&frame);
    }
    ann.write(&piece).await;
    for number in numbers(0..50) {
        let receipt = ann.expect(Command::Receipt).await;
        assert_eq!(receipt.header("receipt-id"), Some(number.as_str()));
    }
    let appends = history.appends();
    assert_eq!(appends.iter().map(|(count, _)| count).sum::<usize>(), 50);
    assert!(appends.len() <= 3, "{appends:?}");
    ann.subscribe("s", "/topic/kept:a", &[("last-position", &first(&world).await)]).await;
    assert_eq!(ann.bodies(50).await, numbers(0..50));
}

/// The position before all messages.
async fn first(world: &World) -> String {
    let channel = ChannelName::parse("kept:a").unwrap();
    let query = HistoryQuery { since: None, limit: 0 };
    format!("{}:0", world.hub.history(&channel, query).await.unwrap().top.epoch.0)
}
