//! The scheduler against a naive model, and its promises one by one.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

fn limits(queue: usize, per_bot: usize, per_room: usize) -> SchedulerLimits {
    SchedulerLimits { queue, per_bot, per_room, ..SchedulerLimits::default() }
}

type Sut = Scheduler<u32, u32>;

/// Lane `n` belongs to bot `n / 10`.
fn push(sut: &mut Sut, lane: i64, payload: u32, now: Instant) {
    sut.push(BotIndex(u32::try_from(lane / 10).expect("small")), Lane(lane), payload, now);
}

#[test]
fn results_leave_in_order_of_acceptance_however_they_end() {
    let mut sut = Sut::new(limits(10, 30, 3));
    let now = Instant::now();
    for payload in 0..4 {
        push(&mut sut, 1, payload, now);
    }
    let jobs: Vec<_> = std::iter::from_fn(|| sut.next(now)).collect();
    assert_eq!(jobs.len(), 3, "three of one room at once");
    assert_eq!(sut.finish(jobs[2].ticket, 2), Some(vec![]));
    assert_eq!(sut.finish(jobs[1].ticket, 1), Some(vec![]));
    assert!(sut.next(now).is_none(), "the window is full until the first one is released");
    assert_eq!(sut.finish(jobs[0].ticket, 0), Some(vec![0, 1, 2]));
    let last = sut.next(now).unwrap();
    assert_eq!((last.payload, sut.finish(last.ticket, 3)), (3, Some(vec![3])));
    assert_eq!((sut.lanes(), sut.waiting(), sut.in_work()), (0, 0, 0));
    assert!(sut.bots.is_empty(), "idle bots have no entry");
}

#[test]
fn a_ticket_counts_once() {
    let mut sut = Sut::new(limits(10, 30, 3));
    let now = Instant::now();
    push(&mut sut, 1, 0, now);
    push(&mut sut, 1, 1, now);
    let first = sut.next(now).unwrap();
    let second = sut.next(now).unwrap();
    assert_eq!(sut.finish(second.ticket, 1), Some(vec![]));
    assert_eq!(sut.finish(second.ticket, 9), None, "a late second answer");
    assert_eq!(sut.finish(first.ticket, 0), Some(vec![0, 1]));
    assert_eq!(sut.finish(first.ticket, 0), None);
}

#[test]
fn room_is_what_may_still_wait() {
    let mut sut = Sut::new(limits(2, 30, 3));
    let now = Instant::now();
    push(&mut sut, 1, 0, now);
    push(&mut sut, 1, 1, now);
    assert_eq!(sut.room(), 0);
    sut.next(now).unwrap();
    assert_eq!(sut.room(), 1, "what is in work does not wait");
}

#[test]
fn a_flooding_bot_does_not_delay_another() {
    let mut sut = Sut::new(limits(10_000, 30, 3));
    let now = Instant::now();
    for payload in 0..1_000 {
        push(&mut sut, i64::from(payload % 10), payload, now);
    }
    push(&mut sut, 10, 9_999, now);
    let picked: Vec<_> = (0..2).map(|_| sut.next(now).unwrap().payload).collect();
    assert!(picked.contains(&9_999), "the quiet bot is served in its turn: {picked:?}");
}

#[test]
fn a_message_that_waited_too_long_overtakes_the_turn_of_other_rooms() {
    let mut sut = Sut::new(limits(10_000, 1, 1));
    let start = Instant::now();
    for lane in 0..9 {
        for payload in 0..5 {
            push(&mut sut, lane, payload, start + Duration::from_millis(10));
        }
    }
    let later = start + Duration::from_secs(2);
    let mut first = None;
    for pick in 0..18 {
        let job = sut.next(later).unwrap();
        sut.finish(job.ticket, 0).unwrap();
        if job.ticket.lane == Lane(8) && first.is_none() {
            first = Some(pick);
        }
    }
    assert!(first.is_some(), "no room starves");
}

#[test]
fn bots_that_never_finish_leave_room_for_the_others() {
    let mut sut = Sut::new(SchedulerLimits { in_work: 40, ..limits(10_000, 30, 3) });
    let now = Instant::now();
    for bot in 0..5 {
        for payload in 0..100 {
            push(&mut sut, bot * 10 + i64::from(payload % 10), payload, now);
        }
    }
    let hanging: Vec<_> = std::iter::from_fn(|| sut.next(now)).collect();
    assert!(hanging.len() < 40, "{}", hanging.len());
    assert!(!sut.has_ready());
    for payload in 0..100 {
        push(&mut sut, 50, payload, now);
        let job = sut.next(now).expect("another bot goes on");
        assert_eq!((job.ticket.lane, job.payload), (Lane(50), payload));
        sut.finish(job.ticket, 0).unwrap();
        assert!(sut.next(now).is_none(), "nobody takes more than a share");
    }
    for job in hanging {
        sut.finish(job.ticket, 0).unwrap();
    }
    let mut rest = 0;
    while let Some(job) = sut.next(now) {
        sut.finish(job.ticket, 0).unwrap();
        rest += 1;
    }
    assert!(rest > 450);
    assert_eq!((sut.waiting(), sut.in_work(), sut.lanes()), (0, 0, 0));
}

/// What the scheduler must do, written without any cleverness.
#[derive(Default)]
struct Model {
    waiting: Vec<(i64, u32)>,
    out: Vec<(Ticket, u32)>,
    window: HashMap<i64, Vec<(u32, bool)>>,
}

impl Model {
    fn in_work_of_bot(&self, bot: i64) -> usize {
        self.out.iter().filter(|(ticket, _)| ticket.lane.0 / 10 == bot).count()
    }

    fn could_start(&self, bounds: SchedulerLimits) -> bool {
        self.waiting.iter().any(|(lane, _)| {
            let free = bounds.in_work - self.out.len();
            self.in_work_of_bot(lane / 10) < bounds.per_bot.min(free.div_ceil(2))
                && self.window.get(lane).map_or(0, Vec::len) < bounds.per_room
        })
    }
}

proptest! {
    #[test]
    fn order_bounds_and_permits_hold_under_any_sequence(
        steps in proptest::collection::vec((0u8..4, 0i64..40, 0u64..2_000), 1..400),
        per_bot in 1usize..5, per_room in 1usize..4, in_work in 1usize..20,
    ) {
        let bounds = SchedulerLimits { in_work, ..limits(50, per_bot, per_room) };
        let mut sut = Sut::new(bounds);
        let mut model = Model::default();
        let mut now = Instant::now();
        let mut counter = 0;
        for (kind, lane, number) in steps {
            now += Duration::from_millis(number);
            match kind {
                0 | 1 => {
                    prop_assert_eq!(sut.room(), 50_usize.saturating_sub(model.waiting.len()));
                    push(&mut sut, lane, counter, now);
                    model.waiting.push((lane, counter));
                    counter += 1;
                }
                2 => check_next(&mut sut, &mut model, bounds, now)?,
                _ => if !model.out.is_empty() {
                    let chosen = usize::try_from(number).unwrap() % model.out.len();
                    check_finish(&mut sut, &mut model, chosen)?;
                },
            }
        }
        // Everything can be worked off: no permit was lost.
        loop {
            check_next(&mut sut, &mut model, bounds, now)?;
            if model.out.is_empty() { break; }
            if !model.could_start(bounds) { check_finish(&mut sut, &mut model, 0)?; }
        }
        prop_assert_eq!((sut.waiting(), sut.in_work(), sut.lanes()), (0, 0, 0));
        prop_assert!(sut.bots.is_empty());
    }
}

fn check_next(
    sut: &mut Sut,
    model: &mut Model,
    bounds: SchedulerLimits,
    now: Instant,
) -> Result<(), TestCaseError> {
    let Some(job) = sut.next(now) else {
        prop_assert!(!model.could_start(bounds), "something could start and nothing did");
        return Ok(());
    };
    let lane = job.ticket.lane.0;
    let place = model.waiting.iter().position(|(of, _)| *of == lane).expect("it was waiting");
    let (_, payload) = model.waiting.remove(place);
    prop_assert_eq!(payload, job.payload, "the oldest of its room");
    model.window.entry(lane).or_default().push((payload, false));
    model.out.push((job.ticket, payload));
    prop_assert!(model.window[&lane].len() <= bounds.per_room);
    prop_assert!(model.in_work_of_bot(lane / 10) <= bounds.per_bot);
    prop_assert!(model.out.len() <= bounds.in_work);
    prop_assert_eq!(sut.in_work(), model.out.len());
    Ok(())
}

fn check_finish(sut: &mut Sut, model: &mut Model, chosen: usize) -> Result<(), TestCaseError> {
    let (ticket, payload) = model.out.remove(chosen);
    let window = model.window.get_mut(&ticket.lane.0).expect("it has a window");
    window.iter_mut().find(|(of, _)| *of == payload).expect("it is in the window").1 = true;
    let done = window.iter().take_while(|(_, is_done)| *is_done).count();
    let expected: Vec<u32> = window.drain(..done).map(|(of, _)| of).collect();
    prop_assert_eq!(sut.finish(ticket, payload), Some(expected));
    prop_assert_eq!(sut.finish(ticket, payload), None, "a ticket counts once");
    Ok(())
}
