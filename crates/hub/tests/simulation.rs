//! A seeded simulator: the pure state machines of the hub against a model of links, stores and restarts
//! that drops, delays, repeats and reorders. No sockets, tasks or time, so a seed always does the same.
//!
//! The oracle is the promise: what each reader got is what was accepted, in order, once, or a gap that
//! says what is missing. A failing seed is printed; put it into [`REPLAY`] to run it alone.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a failed invariant ends the seed")]

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use bytes::Bytes;
use naru_domain::ports::HistoryPage;
use naru_domain::{
    CloseReason, Delivery, DeliveryBody, DeliveryClass, Epoch, Generation, Offset, PhoneReply,
    Position, Publication, ReplyBody, Timestamp,
};
use naru_hub::channel::{Follower, Joined, Offer};
use naru_hub::mailbox::{MailboxLimits, Pushed, Tally};
use naru_hub::session::{Expiry, JournalCursor, Moment, Session, SessionState};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// A seed to run alone, with the name of its test.
const REPLAY: Option<u64> = None;

/// Runs `count` seeds, or the one in [`REPLAY`].
fn simulate(count: u64, run: impl Fn(u64)) {
    let seeds = REPLAY.map_or(0..count, |seed| seed..seed + 1);
    for seed in seeds {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(seed))) {
            eprint_seed(seed);
            resume_unwind(panic);
        }
    }
}

#[expect(clippy::print_stderr, reason = "a person has to read which seed failed")]
fn eprint_seed(seed: u64) {
    eprintln!("the failing seed is {seed}");
}

fn body(number: u64, bytes: usize) -> DeliveryBody {
    // The room says which one it is.
    let reply = PhoneReply {
        room: number.to_string().into(),
        channel_id: "".into(),
        body: ReplyBody::Text("x".repeat(bytes).into()),
        scheduled: false,
    };
    DeliveryBody::Phone(Arc::new(reply))
}

fn reliable(offset: u64, bytes: usize) -> Delivery {
    Delivery { offset: Offset(offset), class: DeliveryClass::Reliable, body: body(offset, bytes) }
}

/// What a reader saw of a stream: which offsets, and which were declared missing.
#[derive(Default)]
struct Seen {
    up_to: u64,
    messages: u64,
    missing: u64,
}

impl Seen {
    /// The next of the stream, which must follow without a hole and without a repeat.
    fn next(&mut self, delivery: &Delivery) {
        let (from, to) = match &delivery.body {
            DeliveryBody::Gap { from, to } => {
                self.missing += to.0 - from.0 + 1;
                (from.0, to.0)
            }
            DeliveryBody::Phone(reply) => {
                assert_eq!(*reply.room, *delivery.offset.0.to_string(), "another's body");
                self.messages += 1;
                (delivery.offset.0, delivery.offset.0)
            }
        };
        assert_eq!(from, self.up_to + 1, "a hole or a repeat in front of {from}-{to}");
        self.up_to = to;
    }

    /// As a client that knows its position: repeats are left out, holes are not allowed.
    fn next_or_repeat(&mut self, delivery: &Delivery) {
        if delivery.offset.0 <= self.up_to {
            return;
        }
        match delivery.body {
            // A gap may reach back over what this client has.
            DeliveryBody::Gap { from, to } if from.0 <= self.up_to => {
                let from = Offset(self.up_to + 1);
                let body = DeliveryBody::Gap { from, to };
                self.next(&Delivery { body, ..delivery.clone() });
            }
            _ => self.next(delivery),
        }
    }
}

/// A connection's task, alive or not yet aware that it was replaced.
struct Connection {
    generation: Generation,
    /// Taken, not yet written.
    output: VecDeque<Delivery>,
    /// Written, not yet told to the hub.
    unsaid: Vec<Offset>,
}

/// One phone with everything on the way to it, and what outlives the node.
struct Phone {
    random: StdRng,
    limits: MailboxLimits,
    // The store: survives a restart.
    accepted: u64,
    sizes: Vec<usize>,
    journal: u64,
    // The node.
    session: Session,
    cursor: JournalCursor,
    dispatched: u64,
    current: Option<Connection>,
    stale: Vec<Connection>,
    tally: Tally,
    // The other side.
    seen: Seen,
}

impl Phone {
    fn new(seed: u64) -> Phone {
        let mut random = StdRng::seed_from_u64(seed);
        let limits = if random.random_bool(0.5) {
            MailboxLimits { count_max: random.random_range(1..20), bytes_max: 500 }
        } else {
            MailboxLimits { count_max: 10_000, bytes_max: 1 << 20 }
        };
        Phone {
            random,
            limits,
            accepted: 0,
            sizes: Vec::new(),
            journal: 0,
            session: Session::new(Offset(0), None),
            cursor: JournalCursor::new(Offset(0)),
            dispatched: 0,
            current: None,
            stale: Vec::new(),
            tally: Tally::default(),
            seen: Seen::default(),
        }
    }

    fn record(&mut self, offset: Option<Offset>) {
        if let Some(offset) = offset {
            self.journal = offset.0;
        }
    }

    fn accept(&mut self) {
        self.accepted += 1;
        self.sizes.push(self.random.random_range(0..60));
    }

    fn dispatch(&mut self) {
        if self.dispatched < self.accepted {
            self.dispatched += 1;
            self.deliver(self.dispatched);
        }
        if self.dispatched > 0 && self.random.random_bool(0.1) {
            // A retry somewhere: the same offset comes again.
            let again = self.random.random_range(1..=self.dispatched);
            let before = self.tally.duplicates;
            self.deliver(again);
            assert_eq!(self.tally.duplicates, before + 1);
        }
    }

    fn deliver(&mut self, offset: u64) -> Pushed {
        let size = self.sizes[usize::try_from(offset - 1).unwrap()];
        let delivery = reliable(offset, size);
        let pushed = self.session.deliver(delivery, &self.limits, &mut self.tally).unwrap();
        let mailbox = self.session.mailbox();
        assert!(mailbox.count() <= self.limits.count_max, "too many");
        assert!(mailbox.bytes() <= self.limits.bytes_max, "too large");
        pushed
    }

    fn connect(&mut self) {
        let generation = self.session.attach(&mut self.tally).unwrap();
        let real = self.session.mailbox().handed_over();
        let to_record = self.cursor.take_over(generation, real);
        self.record(to_record);
        // The old task does not know yet; it goes on for a while.
        self.stale.extend(self.current.take());
        self.current = Some(Connection { generation, output: VecDeque::new(), unsaid: Vec::new() });
    }

    fn take(&mut self) {
        let (count, bytes) = (self.random.random_range(1..8), self.random.random_range(0..200));
        let mut out = Vec::new();
        if let Some(connection) = &mut self.current {
            self.session.take(connection.generation, count, bytes, &mut out);
            connection.output.extend(out);
        }
    }

    /// One write of the current connection: announced, written in part, said, and taken back as far as it
    /// was not written. On a real node nothing but the death of the process comes between.
    fn write(&mut self) {
        let Some(connection) = &mut self.current else { return };
        let Some(last) = connection.output.back() else { return };
        let generation = connection.generation;
        let announced = self.cursor.announce(generation, last.offset);
        let written = self.random.random_range(0..=connection.output.len());
        let mut real = None;
        for delivery in connection.output.drain(..written) {
            self.seen.next(&delivery);
            real = Some(delivery.offset);
        }
        self.record(announced);
        if let Some(real) = real {
            self.session.hand_over(generation, real).expect("it is current");
        }
        let corrected = self.cursor.correct(generation, self.session.mailbox().handed_over());
        self.record(corrected);
        assert_eq!(self.journal, self.seen.up_to, "the journal does not say what was written");
    }

    /// A task that was replaced tries everything it can.
    fn act_stale(&mut self) {
        if self.stale.is_empty() {
            return;
        }
        let index = self.random.random_range(0..self.stale.len());
        let generation = self.stale[index].generation;
        let offset = Offset(self.random.random_range(0..=self.accepted + 1));
        match self.random.random_range(0..5) {
            0 => assert_eq!(self.session.take(generation, 9, 999, &mut Vec::new()), 0),
            1 => assert_eq!(self.session.hand_over(generation, offset), None),
            2 => assert_eq!(self.cursor.announce(generation, offset), None),
            3 => assert_eq!(self.cursor.correct(generation, Offset(0)), None),
            _ => {
                let detached = self.session.detach(generation, None, &mut self.tally);
                assert_eq!(detached, None);
                self.stale.swap_remove(index);
            }
        }
    }

    fn disconnect(&mut self) {
        if let Some(connection) = self.current.take() {
            let generation = connection.generation;
            let real = self.session.detach(generation, None, &mut self.tally).unwrap();
            let corrected = self.cursor.correct(generation, real);
            self.record(corrected);
        }
    }

    /// kill -9: only the store and the journal are left. What they say was not handed over comes first.
    fn restart(&mut self) {
        self.session = Session::new(Offset(self.journal), None);
        self.cursor = JournalCursor::new(Offset(self.journal));
        self.current = None;
        self.stale.clear();
        for offset in self.journal + 1..=self.accepted {
            self.deliver(offset);
        }
        self.dispatched = self.accepted;
    }

    fn finish(&mut self) {
        self.stale.clear();
        while self.dispatched < self.accepted {
            self.dispatch();
        }
        self.connect();
        while self.seen.up_to < self.accepted {
            self.take();
            self.write();
        }
        self.take();
        assert!(self.current.as_ref().unwrap().output.is_empty(), "more than was accepted");
        assert_eq!(self.seen.messages + self.seen.missing, self.accepted);
        assert!(self.seen.missing <= self.tally.cut, "missing without a cut");
        if self.limits.count_max == 10_000 {
            assert_eq!(self.seen.missing, 0, "a cut within the bounds");
        }
        assert_eq!(self.session.mailbox().count(), 0);
        assert_eq!(self.session.mailbox().bytes(), 0);
    }
}

#[test]
fn accepted_means_kept_and_once_across_reconnects_replacements_and_kill_9() {
    simulate(2_000, |seed| {
        let mut phone = Phone::new(seed);
        for _ in 0..phone.random.random_range(20..200) {
            match phone.random.random_range(0..100) {
                0..25 => phone.accept(),
                25..50 => phone.dispatch(),
                50..65 => phone.take(),
                65..80 => phone.write(),
                80..86 => phone.connect(),
                86..90 => phone.disconnect(),
                90..97 => phone.act_stale(),
                _ => phone.restart(),
            }
        }
        phone.finish();
    });
}

/// A client whose acknowledgements take their own way: late, twice, out of order, or never. It knows its
/// position, as a client with a recoverable subscription does.
#[test]
fn one_order_and_once_for_a_client_whose_acknowledgements_are_lost_and_mixed() {
    simulate(2_000, |seed| {
        let mut phone = Phone::new(seed);
        for _ in 0..phone.random.random_range(20..200) {
            match phone.random.random_range(0..100) {
                0..25 => phone.accept(),
                25..50 => phone.dispatch(),
                50..65 => phone.take(),
                65..80 => write_without_word(&mut phone),
                80..90 => acknowledge(&mut phone),
                90..94 => phone.connect(),
                94..96 => phone.disconnect(),
                _ => phone.act_stale(),
            }
        }
        while phone.dispatched < phone.accepted {
            phone.dispatch();
        }
        phone.connect();
        while phone.seen.up_to < phone.accepted {
            phone.take();
            write_without_word(&mut phone);
        }
        assert_eq!(phone.seen.messages + phone.seen.missing, phone.accepted);
    });
}

fn write_without_word(phone: &mut Phone) {
    let Some(connection) = &mut phone.current else { return };
    let Some(delivery) = connection.output.pop_front() else { return };
    phone.seen.next_or_repeat(&delivery);
    connection.unsaid.push(delivery.offset);
}

fn acknowledge(phone: &mut Phone) {
    let Some(connection) = &mut phone.current else { return };
    if connection.unsaid.is_empty() {
        return;
    }
    let index = phone.random.random_range(0..connection.unsaid.len());
    let offset = connection.unsaid[index];
    let before = phone.session.mailbox().handed_over();
    phone.session.hand_over(connection.generation, offset).expect("it is current");
    assert_eq!(phone.session.mailbox().handed_over(), before.max(offset));
    match phone.random.random_range(0..3) {
        0 => {} // It will come again.
        1 => drop(connection.unsaid.swap_remove(index)),
        _ => connection.unsaid.clear(),
    }
}

/// A channel as the bus has it, and the link that brings its events to the node.
struct Channel {
    epoch: Epoch,
    top: u64,
    kept: VecDeque<Arc<Publication>>,
    keep_max: usize,
    /// On their way, in order. `None` stands for a gap event.
    link: VecDeque<Option<Arc<Publication>>>,
}

impl Channel {
    fn publish(&mut self, random: &mut StdRng) {
        self.top += 1;
        let position = Position { epoch: self.epoch, offset: Offset(self.top) };
        let publication =
            Publication { position, data: Bytes::new(), meta: None, at: Timestamp(0), key: None };
        let publication = Arc::new(publication);
        self.kept.push_back(Arc::clone(&publication));
        while self.kept.len() > self.keep_max {
            self.kept.pop_front();
        }
        match random.random_range(0..20) {
            0 => self.link.push_back(None),
            1 => {} // Lost without a word: the next offset shows it.
            2 => self.link.extend([Some(Arc::clone(&publication)), Some(publication)]),
            _ => self.link.push_back(Some(publication)),
        }
    }

    /// The engine lost everything and begins anew.
    fn forget(&mut self) {
        self.epoch = Epoch(self.epoch.0 + 1);
        self.top = 0;
        self.kept.clear();
        self.link.push_back(None);
    }

    fn page(&self, since: Option<Position>) -> HistoryPage {
        let floor = self.top - self.kept.len() as u64;
        let top = Position { epoch: self.epoch, offset: Offset(self.top) };
        let is_same = since.is_none_or(|since| since.epoch == self.epoch);
        let after = since.filter(|_| is_same).map_or(0, |since| since.offset.0);
        let later = self.kept.iter().filter(|kept| kept.position.offset.0 > after);
        let publications = if since.is_none() { Vec::new() } else { later.cloned().collect() };
        let complete = is_same && (since.is_none() || (floor..=self.top).contains(&after));
        HistoryPage { publications, top, complete }
    }
}

/// A subscriber with the question it has asked of history, and what it saw.
struct Subscriber {
    follower: Follower,
    since: Option<Position>,
    /// An answer on its way: history as it was when it was read.
    answer: Option<HistoryPage>,
    needs_repair: bool,
    /// Something came after the history that is on its way was read.
    again: bool,
    seen: Option<Position>,
    gaps: u64,
}

impl Subscriber {
    fn join(since: Option<Position>) -> Subscriber {
        Subscriber {
            follower: Follower::joining(),
            since,
            answer: None,
            needs_repair: false,
            again: false,
            seen: since,
            gaps: 0,
        }
    }

    /// The oracle: each publication follows the one before, unless a gap was told in between.
    fn see(&mut self, publication: &Publication) {
        let position = publication.position;
        if let Some(seen) = self.seen {
            assert_eq!(seen.epoch, position.epoch, "another life without a gap");
            assert_eq!(seen.offset.next(), position.offset, "a hole or a repeat");
        }
        self.seen = Some(position);
    }

    fn tell_gap(&mut self, goes_on_after: Position) {
        if let Some(seen) = self.seen {
            let is_needed = seen.epoch != goes_on_after.epoch || seen.offset < goes_on_after.offset;
            assert!(is_needed, "a gap where nothing is missing");
        }
        self.gaps += 1;
        self.seen = Some(goes_on_after);
    }

    fn on_event(&mut self, event: Option<&Arc<Publication>>) {
        self.again |= self.needs_repair;
        let Some(publication) = event else {
            self.follower.missed();
            self.needs_repair |= !self.follower.is_joining();
            return;
        };
        if self.needs_repair {
            // What comes during a repair is in the history that will be read, now or next.
            return;
        }
        match self.follower.offer(publication, 4) {
            Offer::Deliver => self.see(publication),
            Offer::Held | Offer::Repeat => {}
            Offer::Hole => self.needs_repair = true,
        }
    }

    fn ask(&mut self, channel: &Channel) {
        if self.answer.is_some() {
            return;
        }
        if self.follower.is_joining() {
            self.answer = Some(channel.page(self.since));
        } else if self.needs_repair {
            self.again = false;
            self.answer = Some(channel.page(self.follower.position()));
        }
    }

    fn on_answer(&mut self) {
        let Some(page) = self.answer.take() else { return };
        if self.follower.is_joining() {
            match self.follower.join(self.since, &page) {
                Joined::Live { publications, position } => {
                    if self.since.is_none() || !page.complete {
                        // Fresh, or told that nothing was recovered.
                        self.seen = Some(page.top);
                    }
                    publications.iter().for_each(|publication| self.see(publication));
                    assert_eq!(self.seen, Some(position));
                }
                Joined::ReadAgain => {}
                Joined::NotJoining => unreachable!("it joins"),
            }
            return;
        }
        let base = page.publications.first().map_or(page.top, |first| Position {
            epoch: first.position.epoch,
            offset: Offset(first.position.offset.0 - 1),
        });
        if !page.complete {
            self.follower.skip_to(base);
            self.tell_gap(base);
        }
        self.needs_repair = self.again;
        for publication in &page.publications {
            if self.follower.offer(publication, 0) == Offer::Deliver {
                self.see(publication);
            }
        }
    }
}

#[test]
fn one_order_and_once_for_subscribers_over_a_link_that_loses_repeats_and_delays() {
    simulate(2_000, |seed| {
        let mut random = StdRng::seed_from_u64(seed);
        let mut channel = Channel {
            epoch: Epoch(1),
            top: 0,
            kept: VecDeque::new(),
            keep_max: random.random_range(1..40),
            link: VecDeque::new(),
        };
        let may_forget = random.random_bool(0.3);
        let mut subscribers: Vec<Subscriber> = Vec::new();
        for _ in 0..random.random_range(50..300) {
            match random.random_range(0..100) {
                0..35 => channel.publish(&mut random),
                35..70 => pass_event(&mut channel, &mut subscribers),
                70..75 if subscribers.len() < 5 => {
                    let since = random.random_bool(0.7).then(|| Position {
                        epoch: channel.epoch,
                        offset: Offset(random.random_range(0..=channel.top)),
                    });
                    subscribers.push(Subscriber::join(since));
                }
                75..85 => subscribers.iter_mut().for_each(|each| each.ask(&channel)),
                85..95 => subscribers.iter_mut().for_each(Subscriber::on_answer),
                95 if may_forget => channel.forget(),
                _ => {}
            }
        }
        // Everything arrives at last, and one more event shows what was lost without a word.
        channel.link.push_back(None);
        while !channel.link.is_empty() {
            pass_event(&mut channel, &mut subscribers);
        }
        for subscriber in &mut subscribers {
            while subscriber.needs_repair || subscriber.follower.is_joining() {
                subscriber.ask(&channel);
                subscriber.on_answer();
            }
            assert_eq!(subscriber.seen, Some(channel.page(None).top), "not everything came");
            if !may_forget && channel.keep_max as u64 >= channel.top {
                assert_eq!(subscriber.gaps, 0, "a gap while history has all");
            }
        }
    });
}

fn pass_event(channel: &mut Channel, subscribers: &mut [Subscriber]) {
    if let Some(event) = channel.link.pop_front() {
        subscribers.iter_mut().for_each(|each| each.on_event(event.as_ref()));
    }
}

#[test]
fn bounds_of_a_suspension_end_a_session_in_time_and_never_an_attached_one() {
    simulate(2_000, |seed| {
        let mut random = StdRng::seed_from_u64(seed);
        let (mut now, mut tally) = (Moment(0), Tally::default());
        let mut until = Some(Moment(100));
        let mut session = Session::new(Offset(0), until);
        for _ in 0..100 {
            now = Moment(now.0 + random.random_range(0..60));
            match random.random_range(0..4) {
                0 => {
                    let attached = session.attach(&mut tally);
                    assert_eq!(attached.is_ok(), session.state() == SessionState::Active);
                    until = None;
                }
                1 => {
                    let next = Moment(now.0 + 100);
                    if session.detach(session.generation(), Some(next), &mut tally).is_some() {
                        until = Some(next);
                    }
                }
                _ => {
                    let is_over = until.is_some_and(|until| until <= now);
                    let was_closed = matches!(session.state(), SessionState::Closed(_));
                    assert_eq!(session.expire(now) == Expiry::Expired, is_over && !was_closed);
                    if is_over {
                        assert_eq!(session.state(), SessionState::Closed(CloseReason::Idle));
                        return;
                    }
                }
            }
        }
    });
}
