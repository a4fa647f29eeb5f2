//! The mailbox against a naive model that does everything the slow and obvious way, and single rules.

use std::sync::Arc;

use naru_domain::{Delivery, DeliveryBody, DeliveryClass, Offset, PhoneReply, ReplyBody};
use proptest::prelude::*;

use super::{Mailbox, MailboxLimits, Pushed, Tally, VOLATILE_WAITING_MAX};

/// What sizes are counted in here: no reply is smaller than its head.
const UNIT: usize = 100;

const LIMITS: MailboxLimits = MailboxLimits { count_max: 6, bytes_max: 100 * UNIT };

/// A body of so many units that can be told apart by its number.
fn body(number: u64, units: usize) -> DeliveryBody {
    let reply = |text: &str| PhoneReply {
        room: number.to_string().into(),
        channel_id: "".into(),
        body: ReplyBody::Text(text.into()),
        scheduled: false,
    };
    let text = "x".repeat(units * UNIT - reply("").size_bytes());
    DeliveryBody::Phone(Arc::new(reply(&text)))
}

fn reliable(offset: u64, bytes: usize) -> Delivery {
    let offset = Offset(offset);
    Delivery { offset, class: DeliveryClass::Reliable, body: body(offset.0, bytes) }
}

fn gap(from: u64, to: u64) -> Delivery {
    let body = DeliveryBody::Gap { from: Offset(from), to: Offset(to) };
    Delivery { offset: Offset(to), class: DeliveryClass::Reliable, body }
}

fn latest(key: &str, number: u64, bytes: usize) -> Delivery {
    let class = DeliveryClass::Latest(Arc::from(key));
    Delivery { offset: Offset(0), class, body: body(number, bytes) }
}

fn volatile(number: u64, bytes: usize) -> Delivery {
    Delivery { offset: Offset(0), class: DeliveryClass::Volatile, body: body(number, bytes) }
}

/// A delivery as text: `5` reliable, `3-4` a gap, `k:7` keyed, `~8` volatile.
fn show(delivery: &Delivery) -> String {
    let number = match &delivery.body {
        DeliveryBody::Phone(reply) => reply.room.to_string(),
        DeliveryBody::Gap { from, to } => return format!("{}-{}", from.0, to.0),
    };
    match &delivery.class {
        DeliveryClass::Reliable => number,
        DeliveryClass::Latest(key) => format!("{key}:{number}"),
        DeliveryClass::Volatile => format!("~{number}"),
    }
}

fn take_all(mailbox: &mut Mailbox) -> Vec<String> {
    let mut out = Vec::new();
    mailbox.take(usize::MAX, usize::MAX, &mut out);
    out.iter().map(show).collect()
}

/// Fills a mailbox of six and says what a reader gets.
fn check(deliveries: Vec<Delivery>, expected: &[&str]) -> (Mailbox, Tally) {
    let (mut mailbox, mut tally) = (Mailbox::default(), Tally::default());
    for delivery in deliveries {
        mailbox.push(delivery, true, &LIMITS, &mut tally);
    }
    let mut read = mailbox.clone();
    assert_eq!(take_all(&mut read), expected);
    (mailbox, tally)
}

#[test]
fn one_order_of_arrival_holds_across_the_classes() {
    check(
        vec![reliable(1, 1), volatile(10, 1), reliable(2, 1), latest("k", 11, 1), reliable(3, 1)],
        &["1", "~10", "2", "k:11", "3"],
    );
}

#[test]
fn a_newer_keyed_delivery_takes_the_place_of_an_older_one_and_goes_behind_what_came_between() {
    let (_, tally) = check(
        vec![latest("k", 10, 1), latest("j", 11, 1), reliable(1, 1), latest("k", 12, 1)],
        &["j:11", "1", "k:12"],
    );
    assert_eq!(tally, Tally { coalesced: 1, ..Tally::default() });
}

#[test]
fn bounds_of_a_full_mailbox_drop_volatile_then_cut_the_stream_with_a_gap_in_its_place() {
    let mut deliveries = vec![latest("k", 90, 1), volatile(91, 1), volatile(92, 1)];
    deliveries.extend((1..=5).map(|offset| reliable(offset, 1)));
    let (_, tally) = check(deliveries.clone(), &["k:90", "1", "2", "3", "4", "5"]);
    assert_eq!(tally, Tally { volatile_dropped: 2, ..Tally::default() });
    deliveries.extend((6..=8).map(|offset| reliable(offset, 1)));
    let (_, tally) = check(deliveries, &["k:90", "1-3", "4", "5", "6", "7", "8"]);
    assert_eq!(tally, Tally { volatile_dropped: 2, cut: 3, ..Tally::default() });
}

#[test]
fn bounds_hold_in_bytes_as_well() {
    check(vec![reliable(1, 60), reliable(2, 30), reliable(3, 40)], &["1-1", "2", "3"]);
    // What alone is too large becomes a gap itself, and all before it too.
    check(vec![reliable(1, 60), reliable(2, 101), reliable(3, 40)], &["1-2", "3"]);
}

#[test]
fn bounds_of_volatile_deliveries_call_a_reader_slow() {
    let limits = MailboxLimits::default();
    let (mut mailbox, mut tally) = (Mailbox::default(), Tally::default());
    for number in 0..VOLATILE_WAITING_MAX as u64 {
        assert_eq!(mailbox.push(volatile(number, 1), true, &limits, &mut tally), Pushed::Queued);
    }
    assert_eq!(mailbox.push(volatile(0, 1), true, &limits, &mut tally), Pushed::Dropped);
    assert_eq!(tally.volatile_dropped, 1);
}

#[test]
fn a_stream_left_out_by_the_sender_becomes_an_explicit_gap() {
    let (_, tally) = check(vec![reliable(1, 1), reliable(4, 1)], &["1", "2-3", "4"]);
    assert_eq!(tally, Tally { holes: 2, ..Tally::default() });
    // A gap that the sender names is moved to fit.
    check(vec![reliable(2, 1), gap(2, 5), gap(8, 9)], &["1-1", "2", "3-5", "6-9"]);
}

#[test]
fn once_is_enough_for_every_offset() {
    let again = vec![reliable(1, 1), reliable(2, 1), reliable(1, 1), reliable(2, 1), gap(1, 2)];
    let (_, tally) = check(again, &["1", "2"]);
    assert_eq!(tally, Tally { duplicates: 3, ..Tally::default() });
}

#[test]
fn what_was_taken_and_not_handed_over_comes_again_in_order() {
    let (mut mailbox, mut tally) =
        check((1..=4).map(|o| reliable(o, 1)).collect(), &["1", "2", "3", "4"]);
    let mut out = Vec::new();
    assert_eq!(mailbox.take(3, usize::MAX, &mut out), 3);
    assert_eq!(mailbox.hand_over(Offset(1)), 1);
    mailbox.push(volatile(90, 1), true, &LIMITS, &mut tally);
    mailbox.rewind(&mut tally);
    assert_eq!(take_all(&mut mailbox), ["2", "3", "4"]);
    assert_eq!(tally.volatile_dropped, 1);
}

#[test]
fn more_than_was_taken_cannot_be_handed_over() {
    let (mut mailbox, _) = check((1..=4).map(|o| reliable(o, 1)).collect(), &["1", "2", "3", "4"]);
    mailbox.take(2, usize::MAX, &mut Vec::new());
    assert_eq!(mailbox.hand_over(Offset(99)), 2);
    assert_eq!(mailbox.handed_over(), Offset(2));
    assert_eq!(take_all(&mut mailbox), ["3", "4"]);
}

#[test]
fn a_cut_of_what_the_connection_has_is_a_gap_only_for_the_next_one() {
    let (mut mailbox, mut tally) =
        check((1..=6).map(|o| reliable(o, 1)).collect(), &["1", "2", "3", "4", "5", "6"]);
    mailbox.take(2, usize::MAX, &mut Vec::new());
    for offset in 7..=9 {
        mailbox.push(reliable(offset, 1), true, &LIMITS, &mut tally);
    }
    // This connection has 1 and 2 in its hands, so it is told of 3 only.
    assert_eq!(take_all(&mut mailbox.clone()), ["3-3", "4", "5", "6", "7", "8", "9"]);
    let mut written = mailbox.clone();
    written.hand_over(Offset(1));
    written.rewind(&mut tally);
    assert_eq!(take_all(&mut written), ["2-3", "4", "5", "6", "7", "8", "9"]);
}

#[test]
fn a_take_is_bounded_but_always_makes_progress() {
    let (mut mailbox, _) =
        check(vec![reliable(1, 50), reliable(2, 20), reliable(3, 20)], &["1", "2", "3"]);
    let mut out = Vec::new();
    assert_eq!(mailbox.take(9, 10 * UNIT, &mut out), 1);
    assert_eq!(mailbox.take(9, 40 * UNIT, &mut out), 2);
    assert_eq!(mailbox.take(0, 40 * UNIT, &mut out), 0);
}

#[test]
fn an_empty_mailbox_is_small_again() {
    let limits = MailboxLimits::default();
    let (mut mailbox, mut tally) = (Mailbox::default(), Tally::default());
    for offset in 1..=1_000 {
        mailbox.push(reliable(offset, 1), true, &limits, &mut tally);
        mailbox.push(latest(&offset.to_string(), offset, 1), true, &limits, &mut tally);
    }
    assert!(mailbox.heap_bytes() > 50_000);
    take_all(&mut mailbox);
    mailbox.hand_over(mailbox.last());
    assert!(mailbox.heap_bytes() <= 160, "{} bytes", mailbox.heap_bytes());
    assert_eq!((mailbox.count(), mailbox.bytes()), (0, 0));
}

#[derive(Clone, Debug)]
enum Step {
    Reliable { ahead: u64, bytes: usize },
    Again { behind: u64 },
    Gap { ahead: u64, length: u64 },
    Latest { key: u8, bytes: usize },
    Volatile { bytes: usize },
    Take { count: usize, bytes: usize },
    HandOver { behind: u64 },
    Rewind,
    Leave,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (prop_oneof![9 => Just(0_u64), 1 => 0..3_u64], 1..40_usize)
            .prop_map(|(ahead, bytes)| Step::Reliable { ahead, bytes }),
        1 => (0..4_u64).prop_map(|behind| Step::Again { behind }),
        1 => (0..3_u64, 0..4_u64).prop_map(|(ahead, length)| Step::Gap { ahead, length }),
        3 => (0..4_u8, 1..60_usize).prop_map(|(key, bytes)| Step::Latest { key, bytes }),
        2 => (1..40_usize).prop_map(|bytes| Step::Volatile { bytes }),
        6 => (0..4_usize, 0..100_usize).prop_map(|(count, bytes)| Step::Take { count, bytes }),
        5 => (0..4_u64).prop_map(|behind| Step::HandOver { behind }),
        1 => Just(Step::Rewind),
        1 => Just(Step::Leave),
    ]
}

/// The obvious mailbox: one list in the order of arrival, searched from the front for everything.
#[derive(Default)]
struct Model {
    items: Vec<Item>,
    handed_over: u64,
    taken: u64,
    cut_to: u64,
    last: u64,
}

#[derive(Clone)]
struct Item {
    text: String,
    bytes: usize,
    what: What,
}

#[derive(Clone, PartialEq)]
enum What {
    Reliable { from: u64, to: u64 },
    Latest { key: u8, after: u64 },
    Volatile { after: u64 },
}

impl Model {
    fn bytes(&self) -> usize {
        self.items.iter().map(|item| item.bytes).sum()
    }

    fn is_over(&self) -> bool {
        self.items.len() > LIMITS.count_max || self.bytes() > LIMITS.bytes_max
    }

    fn drop_volatile(&mut self) {
        self.items.retain(|item| !matches!(item.what, What::Volatile { .. }));
    }

    fn remove_first(&mut self, matches: impl Fn(&What) -> bool) -> Option<Item> {
        let index = self.items.iter().position(|item| matches(&item.what))?;
        Some(self.items.remove(index))
    }

    fn keep_bounds(&mut self) {
        if self.is_over() {
            self.drop_volatile();
        }
        while self.is_over() {
            match self.remove_first(|what| matches!(what, What::Reliable { .. })) {
                Some(Item { what: What::Reliable { to, .. }, .. }) => self.cut_to = to,
                _ => break,
            }
        }
        while self.is_over() {
            self.remove_first(|what| matches!(what, What::Latest { .. })).unwrap();
        }
    }

    fn append(&mut self, from: u64, to: u64, text: String, bytes: usize) {
        self.items.push(Item { text, bytes, what: What::Reliable { from, to } });
        self.last = to;
    }

    fn reliable(&mut self, offset: u64, bytes: usize) {
        if offset <= self.last {
            return;
        }
        if offset > self.last + 1 {
            self.append(self.last + 1, offset - 1, String::new(), 16);
        }
        self.append(offset, offset, offset.to_string(), bytes);
        self.keep_bounds();
    }

    fn gap(&mut self, to: u64) {
        if to > self.last {
            self.append(self.last + 1, to, String::new(), 16);
            self.keep_bounds();
        }
    }

    fn latest(&mut self, key: u8, text: String, bytes: usize) {
        self.remove_first(|what| matches!(what, What::Latest { key: k, .. } if *k == key));
        self.items.push(Item { text, bytes, what: What::Latest { key, after: self.last } });
        self.keep_bounds();
    }

    fn volatile(&mut self, text: String, bytes: usize) {
        self.items.push(Item { text, bytes, what: What::Volatile { after: self.last } });
        if self.is_over() {
            self.items.pop();
        }
    }

    fn take(&mut self, count_max: usize, bytes_max: usize) -> Vec<String> {
        let (mut out, mut bytes) = (Vec::new(), 0);
        while out.len() < count_max {
            let fleeting = self.items.iter().position(|item| match item.what {
                What::Latest { after, .. } | What::Volatile { after } => after <= self.taken,
                What::Reliable { .. } => false,
            });
            let first_fleeting =
                self.items.iter().position(|item| !matches!(item.what, What::Reliable { .. }));
            let next = self.items.iter().find_map(|item| match item.what {
                What::Reliable { from, to } if to > self.taken => {
                    Some((from, to, item.text.clone(), item.bytes))
                }
                _ => None,
            });
            let (text, size, taken, removed) = match (fleeting, next) {
                (Some(index), _) if Some(index) == first_fleeting => (
                    self.items[index].text.clone(),
                    self.items[index].bytes,
                    self.taken,
                    Some(index),
                ),
                _ if self.taken < self.cut_to => {
                    (format!("{}-{}", self.taken + 1, self.cut_to), 16, self.cut_to, None)
                }
                (_, Some((from, to, text, size))) => {
                    let text = if text.is_empty() { format!("{from}-{to}") } else { text };
                    (text, size, to, None)
                }
                (_, None) => break,
            };
            if !out.is_empty() && bytes + size > bytes_max {
                break;
            }
            if let Some(index) = removed {
                self.items.remove(index);
            }
            bytes += size;
            self.taken = taken;
            out.push(text);
        }
        out
    }

    fn hand_over(&mut self, offset: u64) {
        let offset = offset.min(self.taken);
        if offset <= self.handed_over {
            return;
        }
        self.handed_over = offset;
        self.cut_to = self.cut_to.max(offset);
        self.items.retain(|item| !matches!(item.what, What::Reliable { to, .. } if to <= offset));
        for item in &mut self.items {
            if let What::Reliable { from, .. } = &mut item.what {
                *from = (*from).max(offset + 1);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn the_mailbox_does_what_the_naive_model_does(
        steps in proptest::collection::vec(step(), 1..120)
    ) {
        let (mut mailbox, mut tally) = (Mailbox::default(), Tally::default());
        let mut model = Model::default();
        let mut reader_is_there = true;
        let mut number = 1_000;
        for step in steps {
            number += 1;
            match step {
                Step::Reliable { ahead, bytes } => {
                    let offset = model.last + 1 + ahead;
                    mailbox.push(reliable(offset, bytes), reader_is_there, &LIMITS, &mut tally);
                    model.reliable(offset, bytes * UNIT);
                }
                Step::Again { behind } => {
                    let offset = model.last.saturating_sub(behind);
                    mailbox.push(reliable(offset, 1), reader_is_there, &LIMITS, &mut tally);
                }
                Step::Gap { ahead, length } => {
                    let from = model.last + 1 + ahead;
                    let delivery = gap(from, from + length);
                    mailbox.push(delivery, reader_is_there, &LIMITS, &mut tally);
                    model.gap(from + length);
                }
                Step::Latest { key, bytes } => {
                    let name = key.to_string();
                    let delivery = latest(&name, number, bytes);
                    mailbox.push(delivery, reader_is_there, &LIMITS, &mut tally);
                    model.latest(key, format!("{name}:{number}"), bytes * UNIT);
                }
                Step::Volatile { bytes } => {
                    let delivery = volatile(number, bytes);
                    mailbox.push(delivery, reader_is_there, &LIMITS, &mut tally);
                    if reader_is_there {
                        model.volatile(format!("~{number}"), bytes * UNIT);
                    }
                }
                Step::Take { count, bytes } => {
                    let mut out = Vec::new();
                    mailbox.take(count, bytes * UNIT, &mut out);
                    let shown: Vec<String> = out.iter().map(show).collect();
                    prop_assert_eq!(shown, model.take(count, bytes * UNIT));
                }
                Step::HandOver { behind } => {
                    let offset = model.taken.saturating_sub(behind);
                    mailbox.hand_over(Offset(offset));
                    model.hand_over(offset);
                }
                Step::Rewind | Step::Leave => {
                    mailbox.rewind(&mut tally);
                    model.taken = model.handed_over;
                    model.drop_volatile();
                    reader_is_there = matches!(step, Step::Rewind);
                }
            }
            prop_assert_eq!(mailbox.count(), model.items.len());
            prop_assert_eq!(mailbox.bytes(), model.bytes());
            prop_assert_eq!(mailbox.handed_over(), Offset(model.handed_over));
            prop_assert_eq!(mailbox.taken(), Offset(model.taken));
            prop_assert!(mailbox.count() <= LIMITS.count_max);
            prop_assert!(mailbox.bytes() <= LIMITS.bytes_max);
        }
        // Whatever happened: the whole stream is there, as itself or as a gap.
        let mut expected = model.handed_over + 1;
        mailbox.rewind(&mut tally);
        let mut out = Vec::new();
        mailbox.take(usize::MAX, usize::MAX, &mut out);
        for delivery in out.iter().filter(|delivery| delivery.class == DeliveryClass::Reliable) {
            let from = match delivery.body {
                DeliveryBody::Gap { from, .. } => from,
                _ => delivery.offset,
            };
            prop_assert_eq!(from, Offset(expected));
            expected = delivery.offset.0 + 1;
        }
        prop_assert_eq!(Offset(expected), mailbox.last().next());
    }
}
