//! Which message is worked on next: order per room, bounds per bot and per room, fairness between them.
//!
//! Plain data changed by plain functions that take `now`; no tasks, locks, clocks or stores. A *lane* is
//! the unit of order (a room of a phone). At most `per_room` messages of a lane are out at once, and what
//! became of them is released strictly in the order they came in: a finished message waits here for the
//! earlier ones. A lane or a bot with nothing to do has no entry.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use foldhash::fast::RandomState as FastHash;

/// The unit of order: messages of one lane are answered in the order they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Lane(pub(crate) i64);

/// A bot's dense number in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct BotIndex(pub(crate) u32);

/// The bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SchedulerLimits {
    /// Messages that may wait.
    pub queue: usize,
    /// Messages that may be in work, those whose handlers only wait included. The closer this is, the
    /// less any one bot may have of it, so that bots whose handlers hang leave room for the others.
    pub in_work: usize,
    /// Messages of one bot that may be in work.
    pub per_bot: usize,
    /// Messages of one lane that may be in work or wait for the release of an earlier one.
    pub per_room: usize,
    /// A message that waited longer may overtake the turn of other rooms of its bot (every second pick).
    pub age_max: Duration,
}

impl Default for SchedulerLimits {
    fn default() -> SchedulerLimits {
        SchedulerLimits {
            queue: 10_000,
            in_work: 310,
            per_bot: 30,
            per_room: 3,
            age_max: Duration::from_millis(500),
        }
    }
}

/// The right to work on one message. `finish` takes it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Ticket {
    /// The lane.
    pub(crate) lane: Lane,
    /// The message's number in this scheduler: rises with `push`.
    pub(crate) number: u64,
}

/// A message to work on.
#[derive(Debug)]
pub(crate) struct Job<T> {
    /// To be handed back with the result.
    pub(crate) ticket: Ticket,
    /// The message.
    pub(crate) payload: T,
}

/// The scheduler. `T` is a message, `R` what became of one.
#[derive(Debug)]
pub(crate) struct Scheduler<T, R> {
    limits: SchedulerLimits,
    // The numbers are ours, so the hash need not stand against strangers.
    lanes: HashMap<Lane, LaneState<T, R>, FastHash>,
    bots: HashMap<BotIndex, BotState, FastHash>,
    /// Bots that may have something to start, in turn. An entry may be stale: looked at when popped.
    turn: VecDeque<BotIndex>,
    /// Bots that have their share of what may be in work; in turn again when somebody finishes.
    held_back: VecDeque<BotIndex>,
    next_number: u64,
    waiting: usize,
    in_work: usize,
}

#[derive(Debug)]
struct LaneState<T, R> {
    bot: BotIndex,
    waiting: VecDeque<Waiting<T>>,
    /// Started and not released yet, oldest first; at most `per_room`.
    window: VecDeque<Slot<R>>,
    /// Whether the bot's ring names this lane.
    in_ring: bool,
}

#[derive(Debug)]
struct Waiting<T> {
    number: u64,
    since: Instant,
    payload: T,
}

#[derive(Debug)]
struct Slot<R> {
    number: u64,
    /// `None` while it is in work.
    result: Option<R>,
}

#[derive(Debug, Default)]
struct BotState {
    in_work: usize,
    lane_count: usize,
    /// Lanes that may have something to start, in turn; may be stale.
    ring: VecDeque<Lane>,
    /// The lanes that can start something, by the number of their oldest message.
    by_age: BTreeSet<(u64, Lane)>,
    /// Whether it stands in `turn` or in `held_back`.
    in_turn: bool,
    /// Whether the last pick was by age: then the next is by turn.
    picked_by_age: bool,
}

impl<T, R> LaneState<T, R> {
    fn head(&self, per_room: usize) -> Option<u64> {
        if self.window.len() >= per_room {
            return None;
        }
        self.waiting.front().map(|waiting| waiting.number)
    }
}

impl<T, R> Scheduler<T, R> {
    /// An empty one.
    pub(crate) fn new(limits: SchedulerLimits) -> Scheduler<T, R> {
        Scheduler {
            limits,
            lanes: HashMap::default(),
            bots: HashMap::default(),
            turn: VecDeque::new(),
            held_back: VecDeque::new(),
            next_number: 0,
            waiting: 0,
            in_work: 0,
        }
    }

    /// Takes a message. Callers ask [`Scheduler::room`] first; those a start finds in the store are taken
    /// whatever the depth, since they were counted when they were accepted.
    pub(crate) fn push(&mut self, bot: BotIndex, lane: Lane, payload: T, now: Instant) {
        let number = self.next_number;
        self.next_number += 1;
        self.waiting += 1;
        let state = self.lanes.entry(lane).or_insert_with(|| {
            self.bots.entry(bot).or_default().lane_count += 1;
            LaneState { bot, waiting: VecDeque::new(), window: VecDeque::new(), in_ring: false }
        });
        state.waiting.push_back(Waiting { number, since: now, payload });
        if state.waiting.len() == 1 {
            self.ready(lane);
        }
    }

    /// The next message to work on, or nothing while every waiting one is held back by a bound.
    pub(crate) fn next(&mut self, now: Instant) -> Option<Job<T>> {
        while let Some(index) = self.turn.pop_front() {
            let share = self.share();
            let Some(bot) = self.bots.get_mut(&index) else { continue };
            if bot.in_work >= share {
                self.held_back.push_back(index);
                continue;
            }
            bot.in_turn = false;
            if bot.in_work >= self.limits.per_bot {
                continue; // `finish` puts it back in turn.
            }
            let Some(lane) = self.pick_lane(index, now) else { continue };
            let job = self.start(lane);
            self.bot_ready(index);
            return Some(job);
        }
        None
    }

    /// Takes back a ticket with the result. What may be released now, in order of acceptance; `None` if
    /// the ticket is not out any more (it was given up before): the result is then to be discarded.
    pub(crate) fn finish(&mut self, ticket: Ticket, result: R) -> Option<Vec<R>> {
        let lane = self.lanes.get_mut(&ticket.lane)?;
        let slot = lane
            .window
            .iter_mut()
            .find(|slot| slot.number == ticket.number && slot.result.is_none())?;
        slot.result = Some(result);
        let mut released = Vec::new();
        while let Some(Slot { result: Some(_), .. }) = lane.window.front() {
            released.extend(lane.window.pop_front().and_then(|slot| slot.result));
        }
        self.in_work -= 1;
        let index = lane.bot;
        let is_idle = lane.waiting.is_empty() && lane.window.is_empty();
        if is_idle {
            self.lanes.remove(&ticket.lane);
        }
        if let Some(bot) = self.bots.get_mut(&index) {
            bot.in_work -= 1;
            if is_idle {
                bot.lane_count -= 1;
            }
            if bot.lane_count == 0 {
                self.bots.remove(&index);
            }
        }
        if !is_idle && !released.is_empty() {
            self.ready(ticket.lane);
        }
        self.bot_ready(index);
        self.turn.append(&mut self.held_back);
        Some(released)
    }

    /// How much one bot may have in work now: half of what is free, so that there is always something
    /// left for a bot that has nothing.
    fn share(&self) -> usize {
        self.limits.in_work.saturating_sub(self.in_work).div_ceil(2)
    }

    /// Messages that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Messages that are in work.
    pub(crate) fn in_work(&self) -> usize {
        self.in_work
    }

    /// How many more messages may wait.
    pub(crate) fn room(&self) -> usize {
        self.limits.queue.saturating_sub(self.waiting)
    }

    /// Whether nothing of this lane waits, is in work, or waits for its release.
    pub(crate) fn is_idle(&self, lane: Lane) -> bool {
        !self.lanes.contains_key(&lane)
    }

    /// Whether `next` would find something, up to stale entries.
    pub(crate) fn has_ready(&self) -> bool {
        !self.turn.is_empty()
    }

    /// Lanes with an entry.
    #[cfg(test)]
    pub(crate) fn lanes(&self) -> usize {
        self.lanes.len()
    }

    /// By turn, except that every second pick may go to the oldest message if it waited too long.
    fn pick_lane(&mut self, index: BotIndex, now: Instant) -> Option<Lane> {
        let bot = self.bots.get_mut(&index)?;
        let oldest = bot.by_age.first().copied()?;
        if !bot.picked_by_age {
            let since = self.lanes.get(&oldest.1).and_then(|lane| lane.waiting.front());
            let waited = since.map_or(Duration::ZERO, |w| now.saturating_duration_since(w.since));
            if waited > self.limits.age_max {
                bot.picked_by_age = true;
                return Some(oldest.1);
            }
        }
        bot.picked_by_age = false;
        while let Some(lane) = bot.ring.pop_front() {
            let Some(state) = self.lanes.get_mut(&lane) else { continue };
            state.in_ring = false;
            if state.head(self.limits.per_room).is_some() {
                return Some(lane);
            }
        }
        None
    }

    /// Moves the oldest message of a lane that can start into work.
    fn start(&mut self, lane: Lane) -> Job<T> {
        let state = self.lanes.get_mut(&lane).expect("invariant: a picked lane exists");
        let waiting = state.waiting.pop_front().expect("invariant: a picked lane has a message");
        state.window.push_back(Slot { number: waiting.number, result: None });
        let bot = self.bots.get_mut(&state.bot).expect("invariant: a lane's bot exists");
        bot.in_work += 1;
        bot.by_age.remove(&(waiting.number, lane));
        self.waiting -= 1;
        self.in_work += 1;
        self.ready(lane);
        Job { ticket: Ticket { lane, number: waiting.number }, payload: waiting.payload }
    }

    /// Notes that a lane may be able to start something.
    fn ready(&mut self, lane: Lane) {
        let Some(state) = self.lanes.get_mut(&lane) else { return };
        let Some(head) = state.head(self.limits.per_room) else { return };
        let index = state.bot;
        let bot = self.bots.get_mut(&index).expect("invariant: a lane's bot exists");
        bot.by_age.insert((head, lane));
        if !state.in_ring {
            state.in_ring = true;
            bot.ring.push_back(lane);
        }
        self.bot_ready(index);
    }

    fn bot_ready(&mut self, index: BotIndex) {
        let Some(bot) = self.bots.get_mut(&index) else { return };
        if !bot.in_turn && bot.in_work < self.limits.per_bot && !bot.by_age.is_empty() {
            bot.in_turn = true;
            self.turn.push_back(index);
        }
    }
}

#[cfg(test)]
mod tests;
