//! Work queues that outlive the server: what a receipt promises, and what becomes of messages and dead
//! letters when the server or its store dies.

use std::sync::Arc;

use naru_testkit::bus_contract::{Fault, MemoryHistory};
use naru_testkit::memory_work::MemoryWork;
use naru_wire::stomp::Command;

use crate::world::{Client, World, numbers};

#[derive(Default)]
struct Disks {
    work: Arc<MemoryWork>,
    history: Arc<MemoryHistory>,
}

impl Disks {
    /// The next life of the server. The one before dies when its world is dropped.
    async fn world(&self) -> World {
        World::keeping(&self.work, &self.history).await
    }
}

async fn say_all(client: &mut Client, count: u32) {
    for number in numbers(0..count) {
        let headers = [("destination", "/queue/jobs"), ("receipt", &number)];
        client.send(Command::Send, &headers, &number).await;
        assert_eq!(client.expect(Command::Receipt).await.header("receipt-id"), Some(&*number));
    }
}

async fn worker(world: &World) -> Client {
    let mut client = world.anonymous().await;
    client.subscribe("w", "/queue/jobs", &[("ack", "client-individual")]).await;
    client
}

#[tokio::test(start_paused = true)]
async fn what_had_a_receipt_outlives_the_server_in_order_and_what_was_done_stays_done() {
    let disks = Disks::default();
    let world = disks.world().await;
    say_all(&mut world.anonymous().await, 6).await;
    let mut first = worker(&world).await;
    let (_, done) = first.message().await;
    let (_, open) = first.message().await;
    assert_eq!(open.header("redelivered"), None);
    first.ack(&done).await;
    drop((first, world));

    let world = disks.world().await;
    let mut second = worker(&world).await;
    let (body, again) = second.message().await;
    assert_eq!((body.as_str(), again.header("redelivered")), ("1", Some("true")));
    assert_eq!(again.header("delivery-count"), Some("2"));
    assert_eq!(again.header("message-id"), open.header("message-id"), "it is the same message");
    assert_eq!(second.bodies(4).await, numbers(2..6));
    second.assert_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn the_receipt_of_disconnect_says_that_acknowledgements_are_kept() {
    let disks = Disks::default();
    let world = disks.world().await;
    say_all(&mut world.anonymous().await, 1).await;
    let mut client = worker(&world).await;
    let (_, frame) = client.message().await;
    client.send(Command::Ack, &[("id", frame.header("ack").unwrap())], "").await;
    client.send(Command::Disconnect, &[("receipt", "bye")], "").await;
    client.expect(Command::Receipt).await;
    assert_eq!(disks.work.kept(), []);
}

#[tokio::test(start_paused = true)]
async fn a_receipt_waits_for_the_store() {
    let disks = Disks::default();
    let world = disks.world().await;
    let (mut sender, mut consumer) = (world.anonymous().await, worker(&world).await);
    disks.work.hold();
    let headers = [("destination", "/queue/jobs"), ("receipt", "r")];
    sender.send(Command::Send, &headers, "x").await;
    disks.work.until_waiting(1).await;
    consumer.assert_quiet().await;
    disks.work.release();
    sender.expect(Command::Receipt).await;
    assert_eq!(consumer.message().await.0, "x");
}

#[tokio::test(start_paused = true)]
async fn what_the_store_does_not_keep_is_refused_and_not_delivered() {
    let disks = Disks::default();
    let world = disks.world().await;
    let mut consumer = worker(&world).await;
    disks.work.fail_next(Fault::KeepAndRefuse);
    let mut sender = world.anonymous().await;
    let headers = [("destination", "/queue/jobs"), ("receipt", "r")];
    sender.send(Command::Send, &headers, "lost").await;
    assert_eq!(sender.refused("unavailable").await.header("receipt-id"), Some("r"));
    say_all(&mut world.anonymous().await, 1).await;
    let (body, frame) = consumer.message().await;
    assert_eq!((body.as_str(), disks.work.kept()), ("0", vec![(2, 0)]));
    // An acknowledgement that is not kept has no receipt, either.
    disks.work.set_broken(true);
    let headers = [("id", frame.header("ack").unwrap()), ("receipt", "a")];
    consumer.send(Command::Ack, &headers, "").await;
    assert_eq!(consumer.refused("unavailable").await.header("receipt-id"), Some("a"));
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_stays_until_it_is_published_and_is_published_once() {
    let disks = Disks::default();
    let mut world = disks.world().await;
    say_all(&mut world.anonymous().await, 1).await;
    for life in 0..5_u32 {
        let mut client = worker(&world).await;
        let (_, frame) = client.message().await;
        let count = frame.header("delivery-count").unwrap_or("1").to_owned();
        assert_eq!(count, (life + 1).to_string());
        disks.work.until_kept(&[(1, life + 1)]).await;
        drop((client, world));
        if life == 4 {
            disks.history.fail_next(Fault::Refuse);
            disks.history.fail_next(Fault::KeepAndRefuse);
        }
        world = disks.world().await;
    }
    disks.work.until_kept(&[]).await;
    let mut client = world.anonymous().await;
    client.subscribe("d", "/topic/dead-letters:jobs", &[("last-position", "0:0")]).await;
    assert_eq!(client.message().await.0, "0");
    client.assert_quiet().await;
    assert_eq!(disks.history.appends().len(), 2, "tried again until it was there");
    let dead = naru_domain::ChannelName::parse("dead-letters:jobs").unwrap();
    assert_eq!(disks.history.offsets(&dead), [1]);
    drop((client, world));
    let world = disks.world().await;
    worker(&world).await.assert_quiet().await;
}
