//! Acknowledging on channels, and transactions.

use std::time::Duration;

use naru_wire::stomp::{Command, Version};
use tokio::time::sleep;

use crate::world::{World, numbers};

#[tokio::test(start_paused = true)]
async fn no_more_is_delivered_than_may_wait_for_an_ack() {
    let world = World::new();
    let mut client = world.anonymous().await;
    let headers = [("ack", "client-individual"), ("prefetch-count", "2")];
    client.subscribe("s", "/topic/a", &headers).await;
    for number in numbers(0..5) {
        world.publish("a", &number).await;
    }
    let (first, one) = client.message().await;
    let (second, _) = client.message().await;
    assert_eq!([first, second], ["0", "1"]);
    client.assert_quiet().await;
    let id = one.header("ack").unwrap().to_owned();
    client.send(Command::Nack, &[("id", &id)], "").await;
    assert_eq!(client.bodies(1).await, ["2"]);
    // Once more has no effect.
    client.send(Command::Ack, &[("id", &id)], "").await;
    client.assert_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn a_cumulative_ack_covers_what_came_before() {
    let world = World::new();
    for version in [Version::V1_0, Version::V1_1, Version::V1_2] {
        let mut client = world.client(version);
        client.connect(&[]).await;
        let headers = [("ack", "client"), ("prefetch-count", "3")];
        client.subscribe("s", "/topic/kept:a", &headers).await;
        for number in numbers(0..9) {
            world.publish("kept:a", &number).await;
        }
        for from in [0, 3, 6] {
            let mut last = None;
            for number in numbers(from..from + 3) {
                let (body, frame) = client.message().await;
                assert_eq!(body, number);
                last = Some(frame);
            }
            client.assert_quiet().await;
            let last = last.unwrap();
            let message_id = last.header("message-id").unwrap();
            let ack = match version {
                Version::V1_2 => vec![("id", last.header("ack").unwrap())],
                _ => vec![("message-id", message_id), ("subscription", "s")],
            };
            client.send(Command::Ack, &ack, "").await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_acknowledges_slowly_misses_nothing_of_a_history() {
    let world = World::new();
    let mut client = world.anonymous().await;
    let headers = [("ack", "client"), ("prefetch-count", "10")];
    client.subscribe("s", "/topic/kept:a", &headers).await;
    for number in numbers(0..3_000) {
        world.publish("kept:a", &number).await;
    }
    for number in numbers(0..3_000) {
        let (body, frame) = client.message().await;
        assert_eq!(body, number);
        let id = frame.header("ack").unwrap();
        client.send(Command::Ack, &[("id", id)], "").await;
    }
    client.assert_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn a_transaction_takes_effect_as_a_whole_at_its_commit() {
    let world = World::new();
    let mut reader = world.anonymous().await;
    reader.subscribe("s", "/topic/a", &[]).await;
    let mut client = world.anonymous().await;
    for transaction in ["t", "u"] {
        client.send(Command::Begin, &[("transaction", transaction)], "").await;
        for number in numbers(0..3) {
            let headers = [("destination", "/topic/a"), ("transaction", transaction)];
            client.send(Command::Send, &headers, &format!("{transaction}{number}")).await;
        }
    }
    client.say("/topic/a", "outside", &[]).await;
    assert_eq!(reader.bodies(1).await, ["outside"]);
    client.send(Command::Commit, &[("transaction", "u")], "").await;
    client.send(Command::Abort, &[("transaction", "t")], "").await;
    client.sync().await;
    assert_eq!(reader.bodies(3).await, ["u0", "u1", "u2"]);
    reader.assert_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_of_a_transaction_takes_effect_when_a_part_is_refused() {
    let world = World::new();
    let mut reader = world.anonymous().await;
    reader.subscribe("s", "/topic/a", &[]).await;
    let mut client = world.anonymous().await;
    client.send(Command::Begin, &[("transaction", "t")], "").await;
    for destination in ["/topic/a", "/topic/closed:a"] {
        let headers = [("destination", destination), ("transaction", "t")];
        client.send(Command::Send, &headers, "x").await;
    }
    client.send(Command::Commit, &[("transaction", "t"), ("receipt", "r")], "").await;
    let error = client.refused("forbidden").await;
    assert_eq!(error.header("receipt-id"), Some("r"));
    reader.assert_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn a_transaction_that_stays_open_is_dropped() {
    let world = World::new();
    let mut client = world.anonymous().await;
    client.send(Command::Begin, &[("transaction", "t")], "").await;
    client.sync().await;
    sleep(Duration::from_secs(61)).await;
    client.send(Command::Commit, &[("transaction", "t")], "").await;
    client.refused("unknown_transaction").await;
}
