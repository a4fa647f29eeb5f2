//! How far a ward strays by itself: the usual scale of its minutes, and its largest excursion of each day. What
//! a ward does by habit is no alert. Knows no series and no unit.

use super::robust::{MAD_TO_SIGMA, floor_index, narrow};

/// Bins grow by a quarter: from 0.2 % to 300 %.
const BINS: usize = 34;
const BIN_FIRST: f64 = 0.002;
const BIN_GROWTH: f64 = 1.25;
/// After so many minutes (8 days) the older half of the weight is dropped.
const SPREAD_MINUTES_MAX: u32 = 8 * 24 * 60;
/// Before so many minutes the scale is a guess.
pub(super) const SPREAD_MINUTES_MIN: u32 = 300;

/// The distribution of absolute relative deviations of minutes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Spread {
    pub(super) counts: [u16; BINS],
}

impl Default for Spread {
    fn default() -> Spread {
        Spread { counts: [0; BINS] }
    }
}

impl Spread {
    pub(super) const BINS: usize = BINS;

    pub(super) fn add(&mut self, deviation: f64) {
        let steps = (deviation.abs().max(BIN_FIRST) / BIN_FIRST).ln() / BIN_GROWTH.ln();
        let bin = &mut self.counts[floor_index(steps).min(BINS - 1)];
        *bin = bin.saturating_add(1);
        if self.minutes() > SPREAD_MINUTES_MAX {
            self.counts.iter_mut().for_each(|count| *count /= 2);
        }
    }

    pub(super) fn minutes(&self) -> u32 {
        self.counts.iter().map(|count| u32::from(*count)).sum()
    }

    /// One robust standard deviation: the median of absolute deviations, scaled.
    pub(super) fn sigma(&self) -> Option<f64> {
        let minutes = self.minutes();
        if minutes < SPREAD_MINUTES_MIN {
            return None;
        }
        let half = f64::from(minutes) / 2.0;
        let mut below = 0.0;
        for (bin, count) in self.counts.iter().enumerate() {
            let count = f64::from(*count);
            if below + count >= half {
                let within = (half - below) / count;
                return Some(BIN_FIRST * BIN_GROWTH.powf(bin as f64 + within) * MAD_TO_SIGMA);
            }
            below += count;
        }
        None
    }
}

/// Days that count.
const DAYS: usize = 7;
const DAYS_KNOWN_MAX: u8 = 7;

/// The largest excursion of each of the last seven days. The present day counts from the next one on:
/// otherwise whatever grows slowly would lift its own bar ahead of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Habit {
    pub(super) day: u32,
    pub(super) today: f32,
    pub(super) seen_today: bool,
    pub(super) past: [f32; DAYS],
    pub(super) known: u8,
}

impl Habit {
    pub(super) const DAYS: usize = DAYS;

    /// An excursion that raised no alert.
    pub(super) fn observe(&mut self, day: u32, value: f64) {
        self.turn(day);
        self.seen_today = true;
        self.today = self.today.max(narrow(value));
    }

    /// One that did, and went away by itself: it counts at once.
    pub(super) fn learn(&mut self, day: u32, value: f64) {
        self.turn(day);
        self.past[0] = self.past[0].max(narrow(value));
        self.known = self.known.max(1);
    }

    fn turn(&mut self, day: u32) {
        if day == self.day {
            return;
        }
        // A day without any observation leaves no trace: a ward that is off at weekends keeps its habits.
        if self.seen_today && day > self.day {
            self.past.rotate_right(1);
            self.past[0] = self.today;
            self.known = (self.known + 1).min(DAYS_KNOWN_MAX);
        }
        self.day = day;
        self.today = 0.0;
        self.seen_today = false;
    }

    /// Days that are known.
    pub(super) fn days(&self) -> u8 {
        self.known
    }

    /// What has to be exceeded to be unlike this ward: some way above the largest of its days, more so
    /// while few are known (the largest of one day says little about the next).
    pub(super) fn bar(&self, margin: f64) -> f64 {
        let largest =
            self.past.iter().take(usize::from(self.known)).fold(0.0_f32, |a, b| a.max(*b));
        f64::from(largest) * (margin + 0.5 / f64::from(self.known.max(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_of_normal_minutes_is_found_and_wild_ones_do_not_move_it() {
        let mut spread = Spread::default();
        assert_eq!(spread.sigma(), None);
        for at in 0..2_000_u32 {
            // Evenly spread over ±10 %: the median of the absolute values is 5 %.
            spread.add((f64::from(at % 201) - 100.0) / 1_000.0);
        }
        for _ in 0..150 {
            spread.add(4.0);
        }
        let sigma = spread.sigma().unwrap();
        assert!((sigma - 0.05 * MAD_TO_SIGMA).abs() < 0.012, "{sigma}");
    }

    #[test]
    fn old_minutes_lose_their_weight() {
        let mut spread = Spread::default();
        for _ in 0..SPREAD_MINUTES_MAX {
            spread.add(0.5);
        }
        for _ in 0..2 * SPREAD_MINUTES_MAX {
            spread.add(0.01);
        }
        assert!(spread.sigma().unwrap() < 0.03);
        assert!(spread.minutes() <= SPREAD_MINUTES_MAX);
    }

    #[test]
    fn what_grows_on_one_day_does_not_lift_its_own_bar() {
        let mut habit = Habit::default();
        habit.observe(1, 0.2);
        habit.observe(2, 0.1);
        let bar = habit.bar(1.2);
        for step in 0..100 {
            habit.observe(2, f64::from(step));
            assert_eq!(habit.bar(1.2), bar);
        }
        habit.observe(3, 0.0);
        assert!(habit.bar(1.2) > 99.0);
    }

    #[test]
    fn a_week_later_an_excursion_is_forgotten() {
        let mut habit = Habit::default();
        habit.learn(1, 9.0);
        for day in 2..12 {
            habit.observe(day, 0.1);
        }
        assert!(habit.bar(1.2) < 0.2);
        assert_eq!(habit.days(), 7);
    }
}
