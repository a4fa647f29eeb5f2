//! Accounts of one subscriber for one channel: what came in order, late, twice. Small, because there
//! are as many as connections. Knows neither sockets nor clocks.

use std::collections::BTreeSet;

/// What a delivery turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The next one, or a later one: those in between are missing, for now.
    Fresh,
    /// A missing one after all: a later one overtook it.
    Late,
    /// It had come already.
    Double,
}

/// Numbers from zero on.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    expected: u64,
    /// Overtaken and not yet come. Where all is well there is none, and no memory for it.
    #[expect(
        clippy::box_collection,
        reason = "thousands of lanes carry this, hardly one fills it"
    )]
    missing: Option<Box<BTreeSet<u64>>>,
}

impl Lane {
    /// Notes that `number` came.
    pub(crate) fn take(&mut self, number: u64) -> Verdict {
        if number == self.expected {
            self.expected += 1;
            return Verdict::Fresh;
        }
        if number < self.expected {
            let was_missing = self.missing.as_mut().is_some_and(|missing| missing.remove(&number));
            return if was_missing { Verdict::Late } else { Verdict::Double };
        }
        self.missing.get_or_insert_default().extend(self.expected..number);
        self.expected = number + 1;
        Verdict::Fresh
    }

    /// How many of the first `sent` have not come.
    pub(crate) fn lost(&self, sent: u64) -> u64 {
        let overtaken = self.missing.as_ref().map_or(0, |missing| missing.len());
        sent.saturating_sub(self.expected) + u64::try_from(overtaken).unwrap_or(u64::MAX)
    }
}

/// The sums over all subscribers of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Totals {
    /// Each counted once, however often it came.
    pub(crate) delivered: u64,
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    pub(crate) reordered: u64,
    /// Of another run or channel, or never sent.
    pub(crate) foreign: u64,
    /// Bodies that were cut or changed.
    pub(crate) spoilt: u64,
}

impl Totals {
    pub(crate) fn count(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Fresh => self.delivered += 1,
            Verdict::Late => {
                self.delivered += 1;
                self.reordered += 1;
            }
            Verdict::Double => self.doubled += 1,
        }
    }

    /// Nothing lost, doubled, out of order, foreign or spoilt.
    pub(crate) fn clean(&self) -> bool {
        self.lost + self.doubled + self.reordered + self.foreign + self.spoilt == 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn totals_after(sent: u64, deliveries: &[u64]) -> Totals {
        let (mut lane, mut totals) = (Lane::default(), Totals::default());
        for &number in deliveries {
            totals.count(lane.take(number));
        }
        totals.lost = lane.lost(sent);
        totals
    }

    #[test]
    fn a_gap_that_stays_is_a_loss_and_not_a_reordering() {
        let totals = totals_after(4, &[0, 2, 3]);
        assert_eq!(totals, Totals { delivered: 3, lost: 1, ..Totals::default() });
    }

    #[test]
    fn an_overtaken_message_is_reordered_once() {
        let totals = totals_after(4, &[1, 0, 2, 3]);
        assert_eq!(totals, Totals { delivered: 4, reordered: 1, ..Totals::default() });
    }

    #[test]
    fn an_end_that_never_came_is_lost() {
        assert_eq!(totals_after(5, &[0, 1]).lost, 3);
    }

    #[test]
    fn a_lane_is_small() {
        assert!(size_of::<Lane>() <= 16);
    }

    proptest! {
        /// The naive model: a set of seen numbers and the highest one so far.
        #[test]
        fn every_sequence_is_accounted_for_like_the_naive_model(
            deliveries in prop::collection::vec(0u64..30, 0..100),
        ) {
            let mut seen = BTreeSet::new();
            let mut expected = Totals::default();
            for &number in &deliveries {
                if !seen.contains(&number) {
                    expected.delivered += 1;
                    expected.reordered += u64::from(seen.last().is_some_and(|last| *last > number));
                    seen.insert(number);
                } else {
                    expected.doubled += 1;
                }
            }
            expected.lost = (0..30).filter(|number| !seen.contains(number)).count() as u64;
            prop_assert_eq!(totals_after(30, &deliveries), expected);
        }
    }
}
