//! Each message to one consumer, until it is done or given up.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use naru_domain::Timestamp;
use proptest::prelude::*;

use super::*;

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

#[tokio::test]
async fn each_message_goes_to_one_of_those_who_have_room() {
    let queues = Queues::new(QueueLimits::default());
    let (one, one_bell) = consumer(&queues);
    let (other, other_bell) = consumer(&queues);
    assert!(one.take().is_none() && other.take().is_none());
    queues.send(&q(), message(1)).unwrap();
    queues.send(&q(), message(2)).unwrap();
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
        queues.send(&q(), message(each)).unwrap();
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
    queues.send(&q(), message(1)).unwrap();
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
    queues.send(&q(), message(1)).unwrap();
    assert_eq!((full_bell.rings(), free_bell.rings()), (0, 1));
    // Woken, and full by now: the next one is asked.
    assert!(full.take().is_some());
    queues.send(&q(), message(2)).unwrap();
    drop(free);
    assert_eq!(full_bell.rings(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_takes_too_long_or_fails_too_often_is_taken_away() {
    let limits = QueueLimits { deliveries_max: 3, ..QueueLimits::default() };
    let queues = Queues::new(limits);
    let (one, bell) = consumer(&queues);
    queues.send(&q(), message(1)).unwrap();
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
    assert_eq!((&dead[0].0, &dead[0].1.data[..]), (&q(), &b"1"[..]));
    assert_eq!(queues.depth(&q()), 0);
}

#[tokio::test]
async fn the_same_key_counts_once() {
    let queues = Queues::new(QueueLimits::default());
    for each in 0..3 {
        let keyed = Publication { key: Some("k".into()), ..message(each) };
        queues.send(&q(), keyed.clone()).unwrap();
        queues.send(&r(), keyed).unwrap();
    }
    assert_eq!((queues.depth(&q()), queues.depth(&r())), (1, 1));
}

#[tokio::test]
async fn a_queue_has_bounds_and_there_are_not_too_many() {
    let limits = QueueLimits { count_max: 2, queues_max: 1, ..QueueLimits::default() };
    let queues = Queues::new(limits);
    for each in 0..2 {
        queues.send(&q(), message(each)).unwrap();
    }
    assert_eq!(queues.send(&q(), message(2)), Err(QueueFull));
    assert_eq!(queues.send(&r(), message(0)), Err(QueueFull));
    let (one, _) = consumer(&queues);
    for _ in 0..2 {
        assert!(one.consumed(one.take().unwrap().number));
    }
    drop(one);
    queues.send(&r(), message(0)).unwrap();
    let limits = QueueLimits { bytes_max: 3, ..QueueLimits::default() };
    let queues = Queues::new(limits);
    queues.send(&q(), message(100)).unwrap();
    assert_eq!(queues.send(&q(), message(1)), Err(QueueFull));
}

proptest! {
    #[test]
    fn whatever_happens_each_message_is_done_once_or_given_up(
        steps in prop::collection::vec((0_u8..6, 0_u64..4), 1..200),
    ) {
        let limits = QueueLimits { deliveries_max: 3, count_max: 50, ..QueueLimits::default() };
        let mut queue = Queue::default();
        let now = Instant::now();
        let (mut sent, mut done, mut given_up) = (0, HashSet::new(), 0);
        let mut held: Vec<(ConsumerId, Number)> = Vec::new();
        for (step, which) in steps {
            let consumer = ConsumerId(which);
            match step {
                0 | 1 => {
                    let added = queue.add(Number(sent), Arc::new(message(sent)), &limits);
                    sent += u64::from(added.is_ok());
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
                        prop_assert!(queue.consumed(consumer, number));
                        prop_assert!(done.insert(number));
                    }
                }
                4 => {
                    if let Some((consumer, number)) = held.pop() {
                        prop_assert!(queue.refused(consumer, number, &limits));
                    }
                }
                _ => {
                    queue.gone(consumer, &limits);
                    held.retain(|(each, _)| *each != consumer);
                }
            }
            given_up += queue.take_dead().len() as u64;
            let left = queue.len() as u64;
            prop_assert_eq!(sent, left + done.len() as u64 + given_up);
            let bytes: usize = queue.ready.values().map(|e| e.publication.size_bytes()).sum();
            let working: usize =
                queue.in_work.values().map(|w| w.entry.publication.size_bytes()).sum();
            prop_assert_eq!(queue.bytes, bytes + working);
        }
    }
}
