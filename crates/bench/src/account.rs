//! Accounts for every numbered message of one room: what was lost, doubled or reordered. Plain
//! data; knows neither sockets nor clocks.

use std::collections::BTreeMap;

/// What a reply turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict<T> {
    /// The next one expected.
    InOrder(T),
    /// A later one than expected: those in between are missing, for now.
    Ahead(T),
    /// A missing one after all: it was overtaken by a later one.
    Late(T),
    /// It had been answered already.
    Double,
    /// It was never sent.
    Foreign,
}

/// The messages of one room, numbered from zero. `T` is what the sender wants to know again when
/// the reply comes, such as the time of sending.
#[derive(Clone, Debug)]
pub(crate) struct Lane<T> {
    /// Not yet answered and not overtaken; the first one has the number `expected`.
    waiting: std::collections::VecDeque<T>,
    expected: u64,
    /// Overtaken by a later reply.
    missing: BTreeMap<u64, T>,
    totals: Totals,
}

/// The sums of one or many lanes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Totals {
    pub(crate) sent: u64,
    pub(crate) answered: u64,
    pub(crate) doubled: u64,
    pub(crate) reordered: u64,
    pub(crate) foreign: u64,
    /// Sent while no reply could be expected, and left out of the account.
    pub(crate) forgotten: u64,
}

impl Totals {
    /// Sent and never answered.
    pub(crate) fn unanswered(&self) -> u64 {
        self.sent - self.answered - self.forgotten
    }

    /// Adds the sums of another lane.
    pub(crate) fn add(&mut self, other: Totals) {
        self.sent += other.sent;
        self.answered += other.answered;
        self.doubled += other.doubled;
        self.reordered += other.reordered;
        self.foreign += other.foreign;
        self.forgotten += other.forgotten;
    }
}

impl<T> Default for Lane<T> {
    fn default() -> Lane<T> {
        Lane {
            waiting: std::collections::VecDeque::new(),
            expected: 0,
            missing: BTreeMap::new(),
            totals: Totals::default(),
        }
    }
}

impl<T> Lane<T> {
    /// Notes one more message and returns its number.
    pub(crate) fn send(&mut self, note: T) -> u64 {
        let number = self.totals.sent;
        self.totals.sent += 1;
        self.waiting.push_back(note);
        number
    }

    /// Notes the reply to message `number`.
    pub(crate) fn answer(&mut self, number: u64) -> Verdict<T> {
        if number >= self.totals.sent {
            self.totals.foreign += 1;
            return Verdict::Foreign;
        }
        if number < self.expected {
            return match self.missing.remove(&number) {
                Some(note) => {
                    self.totals.answered += 1;
                    self.totals.reordered += 1;
                    Verdict::Late(note)
                }
                None => {
                    self.totals.doubled += 1;
                    Verdict::Double
                }
            };
        }
        let in_order = number == self.expected;
        while self.expected < number {
            let note = self.next_waiting();
            self.missing.insert(self.expected, note);
            self.expected += 1;
        }
        let note = self.next_waiting();
        self.expected += 1;
        self.totals.answered += 1;
        if in_order { Verdict::InOrder(note) } else { Verdict::Ahead(note) }
    }

    /// Numbers and notes of all messages without a reply, ascending.
    pub(crate) fn unanswered(&self) -> impl Iterator<Item = (u64, &T)> {
        self.missing
            .iter()
            .map(|(number, note)| (*number, note))
            .chain((self.expected..).zip(self.waiting.iter()))
    }

    /// Leaves all messages without a reply out of the account: the room was not approved yet.
    pub(crate) fn forget_unanswered(&mut self) {
        self.totals.forgotten += self.totals.unanswered();
        self.expected = self.totals.sent;
        self.waiting.clear();
        self.missing.clear();
    }

    pub(crate) fn totals(&self) -> Totals {
        self.totals
    }

    fn next_waiting(&mut self) -> T {
        self.waiting.pop_front().expect("invariant: one note waits for each number up to `sent`")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn totals_after(sent: u64, replies: &[u64]) -> Totals {
        let mut lane = Lane::default();
        for number in 0..sent {
            assert_eq!(lane.send(number), number);
        }
        for &number in replies {
            match lane.answer(number) {
                Verdict::InOrder(note) | Verdict::Ahead(note) | Verdict::Late(note) => {
                    assert_eq!(note, number);
                }
                Verdict::Double | Verdict::Foreign => {}
            }
        }
        assert_eq!(lane.unanswered().count() as u64, lane.totals().unanswered());
        lane.totals()
    }

    #[test]
    fn a_gap_that_stays_is_a_loss_and_not_a_reordering() {
        let totals = totals_after(4, &[0, 2, 3]);
        assert_eq!((totals.unanswered(), totals.reordered, totals.doubled), (1, 0, 0));
    }

    #[test]
    fn an_overtaken_reply_is_reordered_once() {
        let totals = totals_after(4, &[1, 0, 2, 3]);
        assert_eq!((totals.unanswered(), totals.reordered, totals.doubled), (0, 1, 0));
    }

    #[test]
    fn a_reply_to_nothing_is_foreign() {
        assert_eq!(totals_after(1, &[0, 1, 9]).foreign, 2);
    }

    proptest! {
        /// The naive model: a set of seen numbers and the highest one so far.
        #[test]
        fn every_sequence_of_replies_is_accounted_for_like_the_naive_model(
            sent in 0u64..40,
            replies in prop::collection::vec(0u64..45, 0..120),
        ) {
            let mut seen = std::collections::BTreeSet::new();
            let mut expected = Totals { sent, ..Totals::default() };
            for &number in &replies {
                if number >= sent {
                    expected.foreign += 1;
                } else if seen.contains(&number) {
                    expected.doubled += 1;
                } else {
                    expected.answered += 1;
                    expected.reordered += u64::from(seen.last().is_some_and(|last| *last > number));
                    seen.insert(number);
                }
            }
            prop_assert_eq!(totals_after(sent, &replies), expected);
        }

        #[test]
        fn losses_doubles_and_swaps_that_were_injected_are_found(
            lost in prop::collection::btree_set(0u64..50, 0..10),
            doubled in prop::collection::btree_set(0u64..50, 0..10),
        ) {
            let mut replies = Vec::new();
            for number in (0..50).filter(|number| !lost.contains(number)) {
                replies.push(number);
                if doubled.contains(&number) {
                    replies.push(number);
                }
            }
            let totals = totals_after(50, &replies);
            prop_assert_eq!(totals.unanswered(), lost.len() as u64);
            prop_assert_eq!(totals.doubled, doubled.difference(&lost).count() as u64);
            prop_assert_eq!((totals.reordered, totals.foreign), (0, 0));
        }
    }
}
