//! A series' level against its baseline, at three speeds: a jump within the minute, three of five minutes, twelve
//! of fifteen. Each speed knows how far this ward goes by habit. It knows relative deviations, no units.

use std::collections::VecDeque;

use super::habit::{Habit, Spread};
use super::robust::{median, narrow};
use super::words::AlertKind;

/// How far a level must be from what is usual to matter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    pub(super) kind: AlertKind,
    /// Lower values are the bad ones.
    pub(super) falls: bool,
    /// Relative deviations at each speed; infinite: not at this speed.
    pub(super) least: [f64; SPEEDS],
    /// And so much in the series' own unit.
    pub(super) least_amount: f64,
    /// What deviations are at least related to: nothing is made of a busy idle server.
    pub(super) floor: f64,
}

const SPEEDS: usize = 3;
/// A jump has lasted for so many quarter minutes. Each length has its own habits: what bursts for two minutes now
/// and then is told of the third.
const SPANS: [usize; 6] = [4, 6, 8, 11, 15, 20];
/// A burst that was a third longer than any before is still one of the ward's own: each length answers for so much
/// of the habit of the length before.
const SPAN_BEFORE: f64 = 0.9;
const SPAN_COUNT: usize = SPANS.len();
const SPAN_MOST: usize = 20;
const HABIT_COUNT: usize = SPAN_COUNT + SPEEDS - 1;
const NEVER: f64 = f64::INFINITY;

/// Sizes are what players or owners notice; guesses, checked against simulated wards.
pub(super) const RULES: [Rule; 5] = [
    Rule {
        kind: AlertKind::CpuHigh,
        falls: false,
        least: [0.3, 0.25, 0.25],
        least_amount: 0.05,
        floor: 0.05,
    },
    Rule {
        kind: AlertKind::MemoryHigh,
        falls: false,
        least: [NEVER, NEVER, 0.3],
        least_amount: 256.0 * 1_048_576.0,
        floor: 64.0 * 1_048_576.0,
    },
    Rule {
        kind: AlertKind::TickSlow,
        falls: false,
        least: [0.5, 0.4, 0.3],
        least_amount: 1.0,
        floor: 1.0,
    },
    Rule {
        kind: AlertKind::TickRateLow,
        falls: true,
        least: [0.3, 0.2, 0.15],
        least_amount: 1.0,
        floor: 1.0,
    },
    Rule {
        kind: AlertKind::WritesHigh,
        falls: false,
        least: [NEVER, 6.0, 4.0],
        least_amount: 524_288.0,
        floor: 32_768.0,
    },
];

/// Robust standard deviations at each speed.
const SIGMAS: [f64; SPEEDS] = [4.0, 3.0, 3.0];
/// How much more than its habit.
const MARGIN: f64 = 1.3;
/// Minutes kept.
const MINUTES: usize = 30;
/// A jump is one from the minutes before: so many must be known.
const BEFORE_MIN: usize = 8;

/// One minute's deviation, relative; positive is bad.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deviation {
    pub(super) mean: f64,
    /// Of the quarters of the minute; NaN where nothing is known.
    pub(super) quarters: [f64; 4],
    /// In the series' unit.
    pub(super) amount: f64,
    /// How wrong the expectation itself may be.
    pub(super) doubt: f64,
    /// The machine is short of processor time: only what lasts is told of the game.
    pub(super) crowded: bool,
}

/// What a minute means.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Verdict {
    /// Too little is known.
    Unknown,
    Usual,
    /// Above half of the bar: an open alert stays open.
    Between,
    Unusual {
        excess: f64,
        sigmas: f64,
        /// For how many minutes, this one included.
        minutes: u32,
    },
}

#[derive(Clone, Debug)]
pub(super) struct Watch {
    recent: VecDeque<f32>,
    /// The last quarter minutes in which the machine was not crowded.
    quarters: VecDeque<f32>,
    pub(super) spread: Spread,
    /// Of spans, then of the slower speeds.
    pub(super) habits: [Habit; HABIT_COUNT],
    /// How far it went in each way while an alert was open.
    peaks: [f64; HABIT_COUNT],
}

impl Watch {
    pub(super) const HABITS: usize = HABIT_COUNT;

    pub(super) fn new() -> Watch {
        Watch {
            recent: VecDeque::with_capacity(MINUTES),
            quarters: VecDeque::with_capacity(SPAN_MOST),
            spread: Spread::default(),
            habits: [Habit::default(); HABIT_COUNT],
            peaks: [0.0; HABIT_COUNT],
        }
    }

    /// Minutes before a gap or a restart are none before now.
    pub(super) fn interrupt(&mut self) {
        self.recent.clear();
        self.quarters.clear();
    }

    pub(super) fn sigma(&self) -> Option<f64> {
        self.spread.sigma()
    }

    /// Judges a minute. `open`: an alert of this kind is open, so nothing becomes a habit.
    pub(super) fn judge(&mut self, rule: &Rule, seen: Deviation, day: u32, open: bool) -> Verdict {
        if self.recent.len() == MINUTES {
            self.recent.pop_front();
        }
        let before = self.before();
        self.recent.push_back(narrow(seen.mean - seen.doubt));
        self.follow(&seen);
        let mut excess = [0.0; HABIT_COUNT];
        if let Some(before) = before {
            for (excess, span) in excess.iter_mut().zip(SPANS) {
                // From the level before, too: a baseline that is off is no jump.
                *excess = self.lasted(span).map_or(0.0, |lasted| lasted.min(lasted - before));
            }
        }
        excess[SPAN_COUNT] = self.kth_largest(5, 3);
        excess[SPAN_COUNT + 1] = self.kth_largest(15, 12);
        for (peak, excess) in self.peaks.iter_mut().zip(excess) {
            *peak = if open { peak.max(excess) } else { excess };
        }
        if !open {
            self.spread.add(seen.mean);
            for (habit, excess) in self.habits.iter_mut().zip(excess) {
                habit.observe(day, excess.max(0.0));
            }
        }
        let Some(sigma) = self.sigma() else { return Verdict::Unknown };
        let mut verdict = Verdict::Usual;
        for (way, excess) in excess.into_iter().enumerate() {
            let speed = way.saturating_sub(SPAN_COUNT - 1);
            let bar = self.bar(rule, way, sigma);
            let soon = speed + 1 < SPEEDS;
            if excess >= bar && !(soon && seen.crowded) && seen.amount >= rule.least_amount {
                let minutes = self.minutes_above(bar / 2.0);
                let most = excess.max(seen.mean);
                return Verdict::Unusual { excess: most, sigmas: most / sigma.max(0.005), minutes };
            }
            // What is left of a jump shows at the slower speeds.
            if speed > 0 && excess >= bar / 2.0 {
                verdict = Verdict::Between;
            }
        }
        verdict
    }

    fn follow(&mut self, seen: &Deviation) {
        if seen.crowded {
            self.quarters.clear();
            return;
        }
        for quarter in seen.quarters.into_iter().filter(|quarter| quarter.is_finite()) {
            if self.quarters.len() == SPAN_MOST {
                self.quarters.pop_front();
            }
            self.quarters.push_back(narrow(quarter - seen.doubt));
        }
    }

    /// What the last quarter minutes had in common: the mean of the lowest quarter of them.
    fn lasted(&self, span: usize) -> Option<f64> {
        if self.quarters.len() < span {
            return None;
        }
        let mut values = [0.0_f32; SPAN_MOST];
        for (value, quarter) in values.iter_mut().zip(self.quarters.iter().rev().take(span)) {
            *value = *quarter;
        }
        let low = (span / 4).max(1);
        values[..span].select_nth_unstable_by(low - 1, f32::total_cmp);
        Some(values[..low].iter().map(|value| f64::from(*value)).sum::<f64>() / low as f64)
    }

    fn bar(&self, rule: &Rule, way: usize, sigma: f64) -> f64 {
        let speed = way.saturating_sub(SPAN_COUNT - 1);
        let habit = &self.habits[way];
        // In the first days habits are hardly known.
        let young = match habit.days() {
            0 => 2.5,
            1 => 2.2,
            2 => 1.8,
            3 => 1.5,
            4 => 1.2,
            _ => 1.0,
        };
        let mut usual = habit.bar(MARGIN);
        if (1..SPAN_COUNT).contains(&way) {
            usual = usual.max(SPAN_BEFORE * self.habits[way - 1].bar(MARGIN));
        }
        (rule.least[speed] * young).max(SIGMAS[speed] * sigma).max(usual)
    }

    /// It was an alert, and went away by itself.
    pub(super) fn learn(&mut self, day: u32) {
        let peaks = self.peaks;
        self.habits.iter_mut().zip(peaks).for_each(|(habit, peak)| habit.learn(day, peak));
    }

    fn before(&self) -> Option<f64> {
        if self.recent.len() < BEFORE_MIN {
            return None;
        }
        // The last minute may hold part of the jump already.
        let mut values = [0.0; MINUTES];
        let count = self.recent.len() - 1;
        for (value, recent) in values.iter_mut().zip(self.recent.iter().take(count)) {
            *value = f64::from(*recent);
        }
        median(&mut values[..count]).map(|before| before.max(0.0))
    }

    /// The `k`th largest of the last `of` minutes; nothing before there are so many.
    fn kth_largest(&self, of: usize, k: usize) -> f64 {
        if self.recent.len() < of {
            return 0.0;
        }
        let mut values = [0.0_f32; MINUTES];
        for (value, recent) in values.iter_mut().zip(self.recent.iter().rev().take(of)) {
            *value = *recent;
        }
        let (_, value, _) = values[..of].select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
        f64::from(*value)
    }

    fn minutes_above(&self, level: f64) -> u32 {
        let above =
            self.recent.iter().rev().take_while(|value| f64::from(**value) >= level).count();
        u32::try_from(above).unwrap_or(u32::MAX).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(deviation: f64) -> Deviation {
        Deviation {
            mean: deviation,
            quarters: [deviation; 4],
            amount: 1e12,
            doubt: 0.0,
            crowded: false,
        }
    }

    fn wave(minute: usize) -> f64 {
        0.05 * (minute as f64 * 12.9898).sin()
    }

    fn week() -> Watch {
        let mut watch = Watch::new();
        for minute in 0..7 * 1_440 {
            let day = u32::try_from(minute / 1_440).unwrap();
            watch.judge(&RULES[0], seen(wave(minute)), day, false);
        }
        watch
    }

    #[test]
    fn half_as_much_again_is_found_in_the_first_whole_minute() {
        let verdict = week().judge(&RULES[0], seen(0.5), 7, false);
        assert!(matches!(verdict, Verdict::Unusual { sigmas, .. } if sigmas > 4.0), "{verdict:?}");
    }

    #[test]
    fn a_small_rise_needs_three_of_five_minutes() {
        let mut watch = week();
        let verdicts: Vec<_> =
            (0..3).map(|_| watch.judge(&RULES[0], seen(0.28), 7, false)).collect();
        assert!(!matches!(verdicts[1], Verdict::Unusual { .. }), "{verdicts:?}");
        assert!(matches!(verdicts[2], Verdict::Unusual { minutes: 3, .. }), "{verdicts:?}");
    }

    #[test]
    fn a_ward_with_daily_bursts_is_not_told_about_them() {
        let mut watch = Watch::new();
        for minute in 0..7 * 1_440 {
            let burst = if minute % 1_440 == 700 { 0.6 } else { 0.0 };
            let day = u32::try_from(minute / 1_440).unwrap();
            let verdict = watch.judge(&RULES[0], seen(wave(minute) + burst), day, false);
            assert!(day < 1 || !matches!(verdict, Verdict::Unusual { .. }), "{minute} {verdict:?}");
        }
        // But three minutes of it are not its habit.
        let verdicts: Vec<_> =
            (0..3).map(|_| watch.judge(&RULES[0], seen(0.6), 7, false)).collect();
        assert!(matches!(verdicts[2], Verdict::Unusual { .. }), "{verdicts:?}");
    }

    #[test]
    fn nothing_is_judged_before_the_scale_is_known() {
        let mut watch = Watch::new();
        for minute in 0..200 {
            assert_eq!(watch.judge(&RULES[0], seen(wave(minute)), 0, false), Verdict::Unknown);
        }
        assert_eq!(watch.judge(&RULES[0], seen(9.0), 0, false), Verdict::Unknown);
    }
}
