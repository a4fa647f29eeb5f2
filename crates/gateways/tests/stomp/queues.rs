//! Work queues: each message for one consumer, again if it is not finished.

use std::time::Duration;

use naru_wire::stomp::Command;
use tokio::time::sleep;

use crate::world::{World, numbers};

#[tokio::test(start_paused = true)]
async fn each_message_goes_to_one_consumer_in_turn() {
    let world = World::new();
    let (mut one, mut other) = (world.anonymous().await, world.anonymous().await);
    for client in [&mut one, &mut other] {
        client.subscribe("w", "/queue/jobs", &[("ack", "client-individual")]).await;
    }
    let mut sender = world.anonymous().await;
    for number in numbers(0..10) {
        sender.say("/queue/jobs", &number, &[("content-type", "text/plain")]).await;
    }
    let (body, frame) = one.message().await;
    assert_eq!(body, "0");
    let header = |name| frame.header(name);
    assert_eq!(header("destination"), Some("/queue/jobs"));
    assert_eq!((header("subscription"), header("content-type")), (Some("w"), Some("text/plain")));
    assert_eq!((header("redelivered"), header("delivery-count")), (None, None));
    assert!(header("ack").is_some() && header("message-id").is_some());
    let mut bodies = one.bodies(4).await;
    bodies.extend(other.bodies(5).await);
    bodies.sort_unstable();
    assert_eq!(bodies, numbers(1..10));
    one.assert_quiet().await;
    other.assert_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn what_waited_is_there_for_the_first_consumer_and_auto_needs_no_ack() {
    let world = World::new();
    let mut client = world.anonymous().await;
    for number in numbers(0..3) {
        client.say("/queue/jobs", &number, &[]).await;
    }
    client.subscribe("w", "/queue/jobs", &[]).await;
    assert_eq!(client.bodies(3).await, numbers(0..3));
    drop(client);
    let mut next = world.anonymous().await;
    next.subscribe("w", "/queue/jobs", &[("ack", "client")]).await;
    next.assert_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_consumer_does_not_finish_is_delivered_again() {
    let world = World::new();
    let mut sender = world.anonymous().await;
    for number in numbers(0..3) {
        sender.say("/queue/jobs", &number, &[]).await;
    }
    let mut first = world.anonymous().await;
    first.subscribe("w", "/queue/jobs", &[("ack", "client-individual")]).await;
    let (_, done) = first.message().await;
    let (_, refused) = first.message().await;
    let message_id = refused.header("message-id").unwrap().to_owned();
    first.message().await;
    first.send(Command::Ack, &[("id", done.header("ack").unwrap())], "").await;
    first.send(Command::Nack, &[("id", refused.header("ack").unwrap())], "").await;
    // There is nobody else, so it comes back.
    let (body, again) = first.message().await;
    assert_eq!((body.as_str(), again.header("redelivered")), ("1", Some("true")));
    assert_eq!(again.header("delivery-count"), Some("2"));
    assert_eq!(again.header("message-id"), Some(message_id.as_str()));
    drop(first);
    let mut second = world.anonymous().await;
    second.subscribe("w", "/queue/jobs", &[("ack", "client")]).await;
    let (body, frame) = second.message().await;
    assert_eq!((body.as_str(), frame.header("delivery-count")), ("1", Some("3")));
    let (body, frame) = second.message().await;
    assert_eq!((body.as_str(), frame.header("delivery-count")), ("2", Some("2")));
    second.send(Command::Ack, &[("id", frame.header("ack").unwrap())], "").await;
    second.assert_quiet().await;
    drop(second);
    let mut third = world.anonymous().await;
    third.subscribe("w", "/queue/jobs", &[]).await;
    third.assert_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn what_one_consumer_refuses_goes_to_another() {
    let world = World::new();
    let (mut one, mut other) = (world.anonymous().await, world.anonymous().await);
    one.subscribe("w", "/queue/jobs", &[("ack", "client-individual")]).await;
    one.say("/queue/jobs", "sweep", &[]).await;
    let (_, job) = one.message().await;
    other.subscribe("w", "/queue/jobs", &[("ack", "client-individual")]).await;
    one.send(Command::Nack, &[("id", job.header("ack").unwrap())], "").await;
    let (body, again) = other.message().await;
    assert_eq!((body.as_str(), again.header("delivery-count")), ("sweep", Some("2")));
    one.assert_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn what_nobody_can_do_goes_to_the_dead_letters() {
    let world = World::new();
    let mut client = world.anonymous().await;
    client.subscribe("d", "/topic/dead-letters:jobs", &[]).await;
    client.subscribe("w", "/queue/jobs", &[("ack", "client-individual")]).await;
    client.say("/queue/jobs", "poison", &[("x", "y")]).await;
    for _ in 0..5 {
        let (body, frame) = client.message().await;
        assert_eq!((body.as_str(), frame.header("destination")), ("poison", Some("/queue/jobs")));
        client.send(Command::Nack, &[("id", frame.header("ack").unwrap())], "").await;
    }
    let (body, frame) = client.message().await;
    assert_eq!(body, "poison");
    assert_eq!(frame.header("destination"), Some("/topic/dead-letters:jobs"));
    assert_eq!(frame.header("x"), Some("y"));
}

#[tokio::test(start_paused = true)]
async fn work_that_takes_too_long_is_given_to_somebody_else() {
    let world = World::new();
    let mut slow = world.client(naru_wire::stomp::Version::V1_2);
    slow.connect(&[("heart-beat", "0,0")]).await;
    slow.subscribe("w", "/queue/jobs", &[("ack", "client-individual")]).await;
    slow.say("/queue/jobs", "x", &[]).await;
    let (_, late) = slow.message().await;
    slow.send(Command::Unsubscribe, &[("id", "none")], "").await;
    slow.refused("unknown_subscription").await;
    let mut slow = world.client(naru_wire::stomp::Version::V1_2);
    slow.connect(&[("heart-beat", "0,0")]).await;
    let headers = [("ack", "client-individual"), ("prefetch-count", "1")];
    slow.subscribe("w", "/queue/jobs", &headers).await;
    let (_, again) = slow.message().await;
    assert_ne!(again.header("ack"), None);
    assert_eq!(late.header("message-id"), again.header("message-id"));
    let mut quick = world.client(naru_wire::stomp::Version::V1_2);
    quick.connect(&[("heart-beat", "0,0")]).await;
    quick.subscribe("w", "/queue/jobs", &[]).await;
    sleep(Duration::from_secs(1_805)).await;
    let (_, third) = quick.message().await;
    assert_eq!(third.header("delivery-count"), Some("3"));
    slow.send(Command::Ack, &[("id", again.header("ack").unwrap())], "").await;
    slow.assert_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_is_told_to_its_senders() {
    let world = World::new();
    let mut client = world.anonymous().await;
    for number in numbers(0..100) {
        client.say("/queue/jobs", &number, &[]).await;
    }
    client.send(Command::Send, &[("destination", "/queue/jobs"), ("receipt", "r")], "x").await;
    assert_eq!(client.refused("queue_full").await.header("receipt-id"), Some("r"));
    let mut client = world.anonymous().await;
    client.subscribe("w", "/queue/jobs", &[("ack", "client"), ("prefetch-count", "3")]).await;
    for step in 0..33 {
        let mut last = String::new();
        for number in numbers(step * 3..step * 3 + 3) {
            let (body, frame) = client.message().await;
            assert_eq!(body, number);
            last = frame.header("ack").unwrap().to_owned();
        }
        client.assert_quiet().await;
        client.send(Command::Ack, &[("id", &last)], "").await;
    }
    assert_eq!(client.bodies(1).await, ["99"]);
}
