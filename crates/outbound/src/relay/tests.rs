//! The relay against servers that misbehave, over an outbox in memory.

use std::net::SocketAddr;

use naru_domain::Durability;
use naru_domain::clock::ManualClock;
use naru_domain::ports::{OutboxBatch, OutboxMessage, Weight};
use naru_domain::work::Page;
use naru_testkit::http_stub::{Act, Stub, answer, ok};
use naru_testkit::memory_outbox::MemoryOutbox;
use naru_testkit::store_contract::{outbox, outbox_message};
use tokio::time::timeout;

use super::*;
use crate::breaker::BreakerOptions;
use crate::signature::Secrets;

const START: i64 = 1_767_225_600_000;
const HOUR: Duration = Duration::from_secs(3_600);

/// An outbox and a clock that outlive relays, and the relay that runs now.
struct Rig {
    outbox: Arc<MemoryOutbox>,
    clock: Arc<ManualClock>,
    targets: Vec<TargetOptions>,
    options: RelayOptions,
    running: JoinSet<()>,
    stop: CancellationToken,
    handle: Option<RelayHandle>,
}

impl Rig {
    /// Pauses are short; calls are given much longer than any test takes.
    fn new(targets: &[(&str, SocketAddr)]) -> Rig {
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let target = |(name, address): &(&str, SocketAddr)| TargetOptions {
            kind: "test",
            name: (*name).to_owned(),
            url: format!("http://{address}/secret-path"),
            secrets: Some(Secrets::new("hush")),
            in_flight_max: 9,
            breaker: BreakerOptions { open_for: Duration::from_millis(1), ..Default::default() },
        };
        Rig {
            outbox: Arc::default(),
            clock: Arc::new(ManualClock::new(Timestamp(START))),
            targets: targets.iter().map(target).collect(),
            options: RelayOptions {
                timeout: Duration::from_secs(30),
                pause: Duration::from_millis(2),
                pause_max: Duration::from_millis(5),
                store_pause: Duration::from_millis(2),
                ..RelayOptions::default()
            },
            running: JoinSet::new(),
            stop: CancellationToken::new(),
            handle: None,
        }
    }

    fn start(&mut self) -> RelayHandle {
        let outbox = Arc::<MemoryOutbox>::clone(&self.outbox);
        let guard = AddressGuard::allowing(&["127.0.0.1"]).expect("an address");
        let clock = Arc::<ManualClock>::clone(&self.clock);
        let relay = Relay::new(outbox, clock, guard, self.targets.clone(), self.options);
        let relay = relay.expect("the targets are fine");
        let handle = relay.handle();
        self.stop = CancellationToken::new();
        self.running.spawn(relay.run(self.stop.clone()));
        self.handle = Some(handle.clone());
        handle
    }

    async fn put(&self, target: &str, numbers: std::ops::RangeInclusive<i64>) {
        let message = |n| OutboxMessage { at: self.clock.now(), ..message(target, n) };
        let batch = OutboxBatch::new(numbers.map(message).collect());
        self.outbox.put(&batch, Durability::Os).await.expect("the twin takes it");
        if let Some(handle) = &self.handle {
            handle.wake();
        }
    }

    async fn until_empty(&self, target: &str) {
        self.outbox.until(|outbox| outbox.waiting(target).is_empty()).await;
    }

    /// As by kill -9.
    async fn kill(&mut self) {
        self.running.shutdown().await;
    }
}

fn message(target: &str, number: i64) -> OutboxMessage {
    outbox_message(target, number, Weight::Info)
}

/// The ids in the order in which a receiver got them.
fn ids(stub: &Stub) -> Vec<String> {
    let id = |seen: &naru_testkit::http_stub::Seen| {
        seen.header("naru-delivery").expect("it is always there").to_owned()
    };
    stub.seen().iter().map(id).collect()
}

fn named(target: &str, numbers: impl IntoIterator<Item = i64>) -> Vec<String> {
    numbers.into_iter().map(|n| format!("{target}-{n}")).collect()
}

fn status(line: &str) -> Act {
    answer(line, "", b"")
}

/// An address where nobody listens.
async fn nobody() -> SocketAddr {
    Stub::start(vec![Act::Close]).await.address()
}

#[tokio::test]
async fn the_twin_keeps_the_promises_of_an_outbox() {
    outbox(async || MemoryOutbox::default()).await;
}

#[tokio::test]
async fn messages_arrive_in_order_signed_and_with_their_ids() {
    let stub = Stub::start(vec![ok("{}")]).await;
    let mut rig = Rig::new(&[("a", stub.address())]);
    rig.put("a", 1..=2).await;
    rig.start();
    rig.until_empty("a").await;
    rig.put("a", 3..=40).await;
    rig.until_empty("a").await;
    assert_eq!(ids(&stub), named("a", 1..=40));
    let seen = &stub.seen()[2];
    assert_eq!(seen.body, message("a", 3).body);
    assert_eq!(seen.header("idempotency-key"), Some("naru-a-3"));
    let signature = seen.header("naru-signature").unwrap();
    let minute = Duration::from_secs(60);
    assert!(Secrets::new("hush").verify(signature, &seen.body, Timestamp(START), minute));
}

#[tokio::test]
async fn a_deaf_target_delays_nobody_else() {
    let mut stubs = vec![Stub::start(vec![Act::Hang]).await];
    for _ in 0..4 {
        stubs.push(Stub::start(vec![ok("{}")]).await);
    }
    let names = ["deaf", "b", "c", "d", "e"];
    let targets: Vec<_> = names.into_iter().zip(stubs.iter().map(Stub::address)).collect();
    let mut rig = Rig::new(&targets);
    rig.start();
    for name in names {
        rig.put(name, 1..=20).await;
    }
    // The deaf one is given half a minute; the others are done long before.
    for (name, stub) in names.into_iter().zip(&stubs).skip(1) {
        timeout(Duration::from_secs(20), rig.until_empty(name)).await.unwrap();
        assert_eq!(ids(stub), named(name, 1..=20));
    }
    stubs[0].wait_for(1).await;
    assert_eq!(rig.outbox.waiting("deaf").len(), 20);
    assert_eq!(ids(&stubs[0]), ["deaf-1"]);
}

#[tokio::test]
async fn a_target_that_never_answers_is_tried_again_after_the_timeout() {
    let stub = Stub::start(vec![Act::Hang, Act::Hang, ok("{}")]).await;
    let mut rig = Rig::new(&[("a", stub.address())]);
    rig.options.timeout = Duration::from_millis(60);
    rig.put("a", 1..=2).await;
    rig.start();
    rig.until_empty("a").await;
    assert_eq!(ids(&stub), named("a", [1, 1, 1, 2]));
    let settled = rig.outbox.settled();
    assert!(settled[0].failure.contains("no answer within 60 ms"), "{settled:?}");
    assert_eq!((settled[1].attempts, &settled[2].end), (2, &OutboxEnd::Delivered));
}

#[tokio::test]
async fn errors_of_a_receiver_hold_up_its_own_line_in_order() {
    let acts = ["500 x", "502 x", "408 x", "503 x", "500 x", "500 x", "500 x"].map(status);
    let acts = acts.into_iter().chain([Act::Close, ok("{}")]).collect();
    let stub = Stub::start(acts).await;
    let mut rig = Rig::new(&[("a", stub.address())]);
    rig.put("a", 1..=3).await;
    rig.start();
    rig.until_empty("a").await;
    assert_eq!(ids(&stub), named("a", [1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 3]));
    let pauses: Vec<_> = rig.outbox.settled().iter().map(|each| each.attempts).collect();
    assert_eq!(pauses, [1, 2, 3, 4, 5, 6, 7, 8, 8, 0, 0]);
}

#[tokio::test]
async fn retry_after_is_honoured() {
    let busy = answer("429 Too Many Requests", "Retry-After: 1800\r\n", b"{}");
    let stub = Stub::start(vec![busy, ok("{}")]).await;
    let mut rig = Rig::new(&[("a", stub.address())]);
    rig.put("a", 1..=2).await;
    let handle = rig.start();
    rig.outbox.until(|outbox| !outbox.settled().is_empty()).await;
    let OutboxEnd::Again(at) = rig.outbox.settled()[0].end else { panic!("it is sent again") };
    let wait = at.since(Timestamp(START));
    assert!((1_800_000..1_800_010).contains(&wait.as_millis()), "{wait:?}");
    // Neither a new message nor a relay that was started anew breaks the promise.
    rig.put("a", 3..=3).await;
    let calls = rig.outbox.calls();
    handle.wake();
    rig.outbox.until(|outbox| outbox.calls() > calls).await;
    rig.kill().await;
    rig.start();
    rig.clock.advance(Duration::from_secs(1_799));
    assert_eq!(ids(&stub), named("a", [1]));
    rig.clock.advance(Duration::from_secs(2));
    rig.handle.as_ref().unwrap().wake();
    rig.until_empty("a").await;
    assert_eq!(ids(&stub), named("a", [1, 1, 2, 3]));
}

#[tokio::test]
async fn a_relay_killed_between_sending_and_settling_sends_again_under_the_same_id() {
    let stub = Stub::start(vec![ok("{}")]).await;
    let mut rig = Rig::new(&[("a", stub.address())]);
    rig.put("a", 1..=2).await;
    rig.outbox.set_settle_hangs(true);
    rig.start();
    stub.wait_for(2).await;
    rig.kill().await;
    assert_eq!(rig.outbox.waiting("a"), named("a", [1, 2]));
    rig.outbox.set_settle_hangs(false);
    rig.start();
    rig.until_empty("a").await;
    assert_eq!(ids(&stub), named("a", [1, 2, 1, 2]));
    let bodies = stub.seen();
    assert_eq!(bodies[0].body, bodies[2].body);
}

#[tokio::test]
async fn a_store_that_is_busy_for_a_while_causes_no_duplicate() {
    let stub = Stub::start(vec![ok("{}")]).await;
    let mut rig = Rig::new(&[("a", stub.address())]);
    rig.put("a", 1..=3).await;
    rig.outbox.fail_settles(3);
    let handle = rig.start();
    rig.until_empty("a").await;
    assert_eq!(ids(&stub), named("a", 1..=3));
    assert_eq!(handle.shared.figures.store_failures.get(), 3);
    // It asks again by itself after it could not read, too.
    rig.outbox.set_broken(true);
    handle.wake();
    let calls = rig.outbox.calls();
    rig.outbox.until(|outbox| outbox.calls() > calls + 2).await;
    rig.outbox.set_broken(false);
    let message = OutboxMessage { at: rig.clock.now(), ..message("a", 4) };
    let batch = OutboxBatch::new(vec![message]);
    rig.outbox.put(&batch, Durability::Os).await.unwrap();
    rig.until_empty("a").await;
}

#[tokio::test]
async fn after_an_hour_of_dead_receivers_all_is_delivered_in_order() {
    let (a, b) = (nobody().await, nobody().await);
    let mut rig = Rig::new(&[("a", a), ("b", b)]);
    rig.options = RelayOptions { timeout: Duration::from_secs(30), ..RelayOptions::default() };
    rig.put("a", 1..=30).await;
    rig.put("b", 1..=30).await;
    rig.start();
    rig.outbox.until(|outbox| outbox.settled().len() >= 2).await;
    rig.kill().await;
    for attempt in 0..3 {
        rig.put("a", 31 + attempt..=31 + attempt).await;
        rig.clock.advance(HOUR / 3);
        rig.start();
        let settled = 4 + 2 * usize::try_from(attempt).unwrap();
        rig.outbox.until(|outbox| outbox.settled().len() >= settled).await;
        rig.kill().await;
    }
    let stubs = [Stub::at(a, vec![ok("{}")]).await, Stub::at(b, vec![ok("{}")]).await];
    rig.clock.advance(HOUR);
    rig.start();
    rig.until_empty("a").await;
    rig.until_empty("b").await;
    assert_eq!(ids(&stubs[0]), named("a", 1..=33));
    assert_eq!(ids(&stubs[1]), named("b", 1..=30));
}

#[tokio::test]
async fn what_is_refused_or_too_old_is_a_dead_letter_and_the_next_one_goes_on() {
    let acts = vec![status("404 x"), answer("302 x", "Location: /\r\n", b""), ok("{}")];
    let stub = Stub::start(acts).await;
    let mut rig = Rig::new(&[("a", stub.address())]);
    rig.put("a", 1..=4).await;
    rig.clock.advance(Duration::from_secs(1));
    rig.put("a", 5..=6).await;
    let dead = |outbox: &MemoryOutbox, count| {
        outbox.settled().iter().filter(|each| each.end == OutboxEnd::Dead).count() >= count
    };
    rig.clock.set(Timestamp(START).plus(24 * HOUR).plus(Duration::from_millis(1)));
    rig.start();
    rig.until_empty("a").await;
    rig.outbox.until(|outbox| dead(outbox, 6)).await;
    let kept = rig.outbox.dead(Some("a"), Page::default()).await.unwrap();
    let reasons: Vec<_> =
        kept.iter().map(|each| (each.message.id.to_string(), &*each.failure)).collect();
    assert!(
        reasons[..4].iter().all(|(_, why)| why.contains("not delivered in time")),
        "{reasons:?}"
    );
    assert_eq!(reasons[4], ("a-5".to_owned(), "status 404"));
    assert!(reasons[5].1.contains("redirects"), "{reasons:?}");
    // A person looks, mends, and sends them again.
    rig.outbox.replay("a-5", rig.clock.now()).await.unwrap();
    rig.handle.as_ref().unwrap().wake();
    rig.until_empty("a").await;
    assert_eq!(ids(&stub), named("a", [5, 6, 5]));
}

#[tokio::test]
async fn a_message_dies_once_the_next_attempt_would_be_too_late() {
    let stub = Stub::start(vec![status("500 x")]).await;
    let mut rig = Rig::new(&[("a", stub.address())]);
    rig.options.age_max = Duration::ZERO;
    rig.options.retry_after_max = HOUR;
    rig.put("a", 1..=1).await;
    rig.start();
    rig.outbox
        .until(|outbox| outbox.settled().iter().any(|each| each.end == OutboxEnd::Dead))
        .await;
    let dead = rig.outbox.dead(None, Page::default()).await.unwrap();
    assert_eq!(&*dead[0].failure, "status 500");
}

#[tokio::test]
async fn stopping_ends_attempts_at_once_and_loses_nothing() {
    let stub = Stub::start(vec![ok("{}"), Act::Hang]).await;
    let mut rig = Rig::new(&[("a", stub.address())]);
    rig.put("a", 1..=3).await;
    rig.start();
    stub.wait_for(2).await;
    rig.stop.cancel();
    timeout(Duration::from_secs(10), rig.running.join_next()).await.expect("it ends at once");
    assert_eq!(rig.outbox.waiting("a"), named("a", [2, 3]), "the first one was settled");
    let second = &rig.outbox.due("a", Timestamp(i64::MAX), 1).await.unwrap()[0];
    assert_eq!(second.attempts, 0, "stopping is not the receiver's failure");
}

#[tokio::test(start_paused = true)]
async fn nothing_to_deliver_means_no_client_and_no_wake_up() {
    let mut rig = Rig::new(&[("a", nobody().await)]);
    let handle = rig.start();
    rig.outbox.until(|outbox| outbox.calls() == 1).await;
    for _ in 0..24 {
        tokio::time::advance(HOUR).await;
        tokio::task::yield_now().await;
    }
    assert_eq!((handle.shared.figures.wakeups.get(), rig.outbox.calls()), (0, 1));
    assert!(handle.shared.client.get().is_none() && handle.views().is_empty());
}

#[tokio::test]
async fn views_show_no_path() {
    let stub = Stub::start(vec![ok("{}")]).await;
    let mut rig = Rig::new(&[("a", stub.address())]);
    let handle = rig.start();
    rig.put("a", 1..=1).await;
    rig.until_empty("a").await;
    let view = &handle.views()[0];
    assert_eq!(view.url, format!("http://{}", stub.address()));
    assert_eq!((view.name.as_str(), view.in_flight), ("a", 0));
}

#[tokio::test]
async fn messages_of_targets_that_are_not_configured_wait() {
    let stub = Stub::start(vec![ok("{}")]).await;
    let mut rig = Rig::new(&[("a", stub.address())]);
    rig.put("gone", 1..=1).await;
    rig.put("a", 1..=1).await;
    rig.start();
    rig.until_empty("a").await;
    assert_eq!(rig.outbox.waiting("gone"), ["gone-1"]);
}

#[test]
fn targets_inside_the_network_twice_or_too_many_are_refused() {
    let rig = Rig::new(&[("a", SocketAddr::from(([127, 0, 0, 1], 9)))]);
    let make = |guard, targets: Vec<TargetOptions>| {
        let outbox = Arc::<MemoryOutbox>::clone(&rig.outbox);
        let clock = Arc::<ManualClock>::clone(&rig.clock);
        Relay::new(outbox, clock, guard, targets, rig.options).err()
    };
    let inside = make(AddressGuard::public_only(), rig.targets.clone());
    assert!(
        matches!(&inside, Some(RelayError::Target { name, error: TargetError::Url(_) }) if name == "a")
    );
    let allowing = || AddressGuard::allowing(&["127.0.0.1"]).unwrap();
    let twice = [rig.targets.clone(), rig.targets.clone()].concat();
    assert_eq!(make(allowing(), twice), Some(RelayError::Twice { name: "a".to_owned() }));
    let many = vec![rig.targets[0].clone(); RELAY_TARGETS_MAX + 1];
    assert_eq!(make(allowing(), many), Some(RelayError::TooMany { count: 65 }));
}
