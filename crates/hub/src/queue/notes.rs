//! What happened to kept messages and is not in the store yet. Plain data.

use std::collections::{BTreeMap, BTreeSet};

use naru_domain::WorkNumber;

/// Deliveries and ends. There are never more of them than messages were kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Notes {
    delivered: BTreeMap<WorkNumber, u32>,
    done: BTreeSet<WorkNumber>,
}

impl Notes {
    pub(super) fn len(&self) -> usize {
        self.delivered.len() + self.done.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A message was delivered for the `count`th time.
    pub(super) fn delivered(&mut self, number: WorkNumber, count: u32) {
        self.delivered.insert(number, count);
    }

    /// A message is done: how often it was delivered no longer matters.
    pub(super) fn done(&mut self, number: WorkNumber) {
        self.delivered.remove(&number);
        self.done.insert(number);
    }

    /// At most so many of them, ends first.
    pub(super) fn take(&mut self, count_max: usize) -> Notes {
        if self.len() <= count_max {
            return std::mem::take(self);
        }
        let mut taken = Notes::default();
        while taken.len() < count_max {
            if let Some(number) = self.done.pop_first() {
                taken.done.insert(number);
            } else if let Some((number, count)) = self.delivered.pop_first() {
                taken.delivered.insert(number, count);
            }
        }
        taken
    }

    /// What was taken is not in the store. What was noted since then counts.
    pub(super) fn put_back(&mut self, taken: Notes) {
        for (number, count) in taken.delivered {
            if !self.done.contains(&number) {
                self.delivered.entry(number).or_insert(count);
            }
        }
        self.done.extend(taken.done);
    }

    /// As lists for a batch.
    pub(super) fn lists(&self) -> (Vec<(WorkNumber, u32)>, Vec<WorkNumber>) {
        let delivered = self.delivered.iter().map(|(number, count)| (*number, *count)).collect();
        (delivered, self.done.iter().copied().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn n(number: u64) -> WorkNumber {
        WorkNumber(number)
    }

    #[test]
    fn an_end_makes_deliveries_superfluous_even_those_that_come_back() {
        let mut notes = Notes::default();
        notes.delivered(n(1), 1);
        notes.delivered(n(2), 1);
        notes.delivered(n(3), 1);
        notes.done(n(1));
        assert_eq!(notes.lists(), (vec![(n(2), 1), (n(3), 1)], vec![n(1)]));
        let taken = notes.take(9);
        assert!(notes.is_empty());
        notes.done(n(2));
        notes.delivered(n(3), 2);
        notes.put_back(taken);
        assert_eq!(notes.lists(), (vec![(n(3), 2)], vec![n(1), n(2)]));
    }

    #[test]
    fn no_more_is_taken_than_fits() {
        let mut notes = Notes::default();
        (1..=3).for_each(|number| notes.done(n(number)));
        (4..=6).for_each(|number| notes.delivered(n(number), 1));
        let first = notes.take(4);
        assert_eq!(first.lists(), (vec![(n(4), 1)], vec![n(1), n(2), n(3)]));
        assert_eq!(notes.take(4).lists(), (vec![(n(5), 1), (n(6), 1)], Vec::new()));
        assert!(notes.is_empty());
    }
}
