//! Each message to one consumer, until it is done or given up.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use naru_domain::{ChannelName, Durability, Offset, Position, Timestamp};
use proptest::prelude::*;

use super::*;

mod kept;
mod simulation;

fn message(body: u64) -> Publication {
    Publication {
        position: Position { epoch: Epoch(0), offset: Offset(0) },
        data: body.to_string().into(),
        meta: None,
        at: Timestamp(0),
        key: None,
    }
}

fn body(taken: &Taken) -> String {
    String::from_utf8(taken.publication.data.to_vec()).unwrap()
}

fn q() -> ChannelName {
    ChannelName::parse("queue:q").unwrap()
}

fn r() -> ChannelName {
    ChannelName::parse("queue:r").unwrap()
}

#[derive(Default)]
struct Bell(AtomicUsize);

impl WakeConsumer for Bell {
    fn wake(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Bell {
    fn rings(&self) -> usize {
        self.0.swap(0, Ordering::Relaxed)
    }
}

fn consumer(queues: &Queues) -> (Consumer, Arc<Bell>) {
    let bell = Arc::new(Bell::default());
    (queues.join(&q(), bell.clone()).unwrap(), bell)
}

async fn send(queues: &Queues, to: &ChannelName, what: Publication) -> Result<(), SendError> {
    queues.send(to, what, Durability::Memory).await
}

#[tokio::test]
async fn each_message_goes_to_one_of_those_who_have_room() {
    let queues = Queues::new(QueueLimits::default());
    let (one, one_bell) = consumer(&queues);
    let (other, other_bell) = consumer(&queues);
    assert!(one.take().is_none() && other.take().is_none());
    send(&queues, &q(), message(1)).await.unwrap();
    send(&queues, &q(), message(2)).await.unwrap();
    assert_eq!((one_bell.rings(), other_bell.rings()), (1, 1));
    let (first, second) = (one.take().unwrap(), other.take().unwrap());
    assert_eq!((body(&first), body(&second)), ("1".to_owned(), "2".to_owned()));
    assert!(one.take().is_none());
    assert!(!other.consumed(first.number), "it is somebody else's");
    assert!(one.consumed(first.number) && !one.consumed(first.number));
    assert_eq!(queues.depth(&q()), 1);
}

#[tokio::test]
async fn what_a_consumer_did_not_finish_goes_to_another_first() {
    let queues = Queues::new(QueueLimits::default());
    let (one, _) = consumer(&queues);
    for each in 1..=3 {
        send(&queues, &q(), message(each)).await.unwrap();
    }
    let first = one.take().unwrap();
    drop(one.take());
    let (other, bell) = consumer(&queues);
    assert_eq!(body(&other.take().unwrap()), "3");
    assert!(other.take().is_none());
    one.refused(first.number);
    assert_eq!(bell.rings(), 1);
    let again = other.take().unwrap();
    assert_eq!((body(&again), again.delivery), ("1".to_owned(), 2));
    drop(one);
    assert_eq!(body(&other.take().unwrap()), "2");
}

#[tokio::test]
async fn who_refuses_is_asked_again_when_nobody_else_is_there() {
    let queues = Queues::new(QueueLimits::default());
    let (one, one_bell) = consumer(&queues);
    let (other, other_bell) = consumer(&queues);
    send(&queues, &q(), message(1)).await.unwrap();
    let taken = one.take().unwrap();
    one.step_back();
    assert!(other.take().is_none());
    assert!(one.refused(taken.number));
    assert_eq!((one_bell.rings(), other_bell.rings()), (0, 1));
    let taken = other.take().unwrap();
    other.step_back();
    drop(one);
    assert!(other.refused(taken.number));
    assert_eq!(other_bell.rings(), 1, "it had no room, and has some now");
}

#[tokio::test]
async fn who_has_no_room_is_passed_over() {
    let queues = Queues::new(QueueLimits::default());
    let (full, full_bell) = consumer(&queues);
    let (free, free_bell) = consumer(&queues);
    assert!(full.take().is_none() && free.take().is_none());
    full.step_back();
    send(&queues, &q(), message(1)).await.unwrap();
    assert_eq!((full_bell.rings(), free_bell.rings()), (0, 1));
    // Woken, and full by now: the next one is asked.
    assert!(full.take().is_some());
    send(&queues, &q(), message(2)).await.unwrap();
    drop(free);
    assert_eq!(full_bell.rings(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_takes_too_long_or_fails_too_often_is_taken_away() {
    let limits = QueueLimits { deliveries_max: 3, ..QueueLimits::default() };
    let queues = Queues::new(limits);
    let (one, bell) = consumer(&queues);
    send(&queues, &q(), message(1)).await.unwrap();
    let late = one.take().unwrap();
    tokio::time::advance(limits.work_time_max).await;
    assert!(queues.sweep().is_empty());
    assert_eq!(bell.rings(), 1);
    assert!(!one.consumed(late.number), "too late");
    for delivery in 2..=3 {
        let taken = one.take().unwrap();
        assert_eq!(taken.delivery, delivery);
        assert!(one.refused(taken.number));
    }
    assert!(one.take().is_none());
    let dead = queues.sweep();
    assert_eq!(dead.len(), 1);
    assert_eq!((&dead[0].queue, &dead[0].publication.data[..]), (&q(), &b"1"[..]));
    assert_eq!(queues.sweep(), dead, "it stays until somebody has it");
    assert_eq!(queues.depth(&q()), 1);
    queues.buried(&dead[0]);
    assert_eq!(queues.sweep(), []);
    assert_eq!(queues.depth(&q()), 0);
}

#[tokio::test]
async fn the_same_key_counts_once() {
    let queues = Queues::new(QueueLimits::default());
    for each in 0..3 {
        let keyed = Publication { key: Some("k".into()), ..message(each) };
        send(&queues, &q(), keyed.clone()).await.unwrap();
        send(&queues, &r(), keyed).await.unwrap();
    }
    assert_eq!((queues.depth(&q()), queues.depth(&r())), (1, 1));
}

#[tokio::test]
async fn a_queue_has_bounds_and_there_are_not_too_many() {
    let limits = QueueLimits { count_max: 2, queues_max: 1, ..QueueLimits::default() };
    let queues = Queues::new(limits);
    for each in 0..2 {
        send(&queues, &q(), message(each)).await.unwrap();
    }
    assert_eq!(send(&queues, &q(), message(2)).await, Err(QueueFull.into()));
    assert_eq!(send(&queues, &r(), message(0)).await, Err(QueueFull.into()));
    let (one, _) = consumer(&queues);
    for _ in 0..2 {
        assert!(one.consumed(one.take().unwrap().number));
    }
    drop(one);
    send(&queues, &r(), message(0)).await.unwrap();
    let limits = QueueLimits { bytes_max: 3, ..QueueLimits::default() };
    let queues = Queues::new(limits);
    send(&queues, &q(), message(100)).await.unwrap();
    assert_eq!(send(&queues, &q(), message(1)).await, Err(QueueFull.into()));
}

fn entry(body: u64) -> Entry {
    Entry {
        life: Epoch(7),
        publication: Arc::new(message(body)),
        deliveries: 0,
        is_kept: body.is_multiple_of(2),
        is_loaded: false,
    }
}

#[tokio::test]
async fn all_queues_together_have_a_bound() {
    let total_bytes_max = 3 * ENTRY_BYTES + 3;
    let limits = QueueLimits { total_bytes_max, ..QueueLimits::default() };
    let queues = Queues::new(limits);
    send(&queues, &q(), message(1)).await.unwrap();
    send(&queues, &r(), message(2)).await.unwrap();
    assert_eq!(send(&queues, &r(), message(10)).await, Err(QueueFull.into()));
    send(&queues, &r(), message(3)).await.unwrap();
    assert_eq!(send(&queues, &q(), message(4)).await, Err(QueueFull.into()));
    let (one, _) = consumer(&queues);
    assert!(one.consumed(one.take().unwrap().number));
    send(&queues, &r(), message(4)).await.unwrap();
}

proptest! {
    #[test]
    fn whatever_happens_each_message_is_done_once_or_given_up(
        steps in prop::collection::vec((0_u8..8, 0_u64..4), 1..200),
    ) {
        let limits = QueueLimits { deliveries_max: 3, count_max: 50, ..QueueLimits::default() };
        let mut queue = Queue::default();
        let now = Instant::now();
        let (mut sent, mut given_back, mut buried) = (0, 0, 0);
        let (mut done, mut reserved) = (HashSet::new(), Vec::new());
        let mut held: Vec<(ConsumerId, WorkNumber)> = Vec::new();
        for (step, which) in steps {
            let consumer = ConsumerId(which);
            match step {
                0 => {
                    let bytes = message(sent).size_bytes();
                    if queue.reserve(bytes, &limits).is_ok() {
                        reserved.push(sent);
                        sent += 1;
                    }
                }
                1 => {
                    for number in reserved.drain(..) {
                        queue.fill(WorkNumber(number), entry(number));
                    }
                }
                2 => {
                    if let Some(taken) = queue.take(consumer, now, &limits) {
                        prop_assert!(!done.contains(&taken.number));
                        prop_assert!(held.iter().all(|(_, number)| *number != taken.number));
                        held.push((consumer, taken.number));
                    }
                }
                3 => {
                    if let Some((consumer, number)) = held.pop() {
                        let expected = match number.0.is_multiple_of(2) {
                            true => Settled::GoneFromMemory,
                            false => Settled::Gone,
                        };
                        prop_assert_eq!(queue.consumed(consumer, number), expected);
                        prop_assert_eq!(queue.consumed(consumer, number), Settled::Nothing);
                        prop_assert!(done.insert(number));
                    }
                }
                4 => {
                    if let Some((consumer, number)) = held.pop() {
                        prop_assert!(queue.refused(consumer, number, &limits));
                    }
                }
                5 => {
                    let numbers: Vec<WorkNumber> = queue.dead.keys().copied().collect();
                    for number in numbers {
                        prop_assert!(queue.buried(number) != Settled::Nothing);
                        buried += 1;
                    }
                }
                6 => {
                    if let Some(number) = reserved.pop() {
                        queue.release(message(number).size_bytes());
                        given_back += 1;
                    }
                }
                _ => {
                    queue.gone(consumer, &limits);
                    held.retain(|(each, _)| *each != consumer);
                }
            }
            let left = queue.len() as u64;
            prop_assert_eq!(sent, left + done.len() as u64 + buried + given_back);
            let ready = queue.ready.values().chain(queue.dead.values());
            let bytes: usize = ready.map(|each| each.publication.size_bytes()).sum();
            let working = queue.in_work.values().map(|work| &work.entry.publication);
            let working: usize = working.map(|each| each.size_bytes()).sum();
            let coming: usize = reserved.iter().map(|each| message(*each).size_bytes()).sum();
            prop_assert_eq!(queue.bytes, bytes + working + coming);
        }
    }
}
