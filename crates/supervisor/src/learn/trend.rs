//! Memory that grows though nobody joined: trends over several lengths of time, players' effect removed. It says
//! how fast, and whether this ward grows like that by habit; the words of the alert are written elsewhere.

use super::habit::Habit;
use super::robust::{Trend, median, narrow, theil_sen};
use super::words::Forecast;

/// Minutes that are kept.
pub(super) const MINUTES: usize = 360;

/// One length of time to look at.
struct Scale {
    /// Minutes per point: their lowest, so that a collector's saw teeth of that length are cut off.
    block: usize,
    points: usize,
    /// Growth per hour that matters.
    least: f64,
    /// Share of the pairs that must rise; a single step has 0.75.
    rising: f64,
    /// Share of the rise that a single step may have.
    step_most: f64,
    /// How much more than the habit.
    margin: f64,
}

/// 25 and 30 minutes find 2 % an hour in time; 90 minutes and 6 hours find it where memory is restless.
const SCALES: [Scale; 4] = [
    Scale { block: 1, points: 25, least: 0.011, rising: 0.85, step_most: 0.6, margin: 1.2 },
    Scale { block: 3, points: 10, least: 0.011, rising: 0.9, step_most: 0.6, margin: 1.2 },
    Scale { block: 10, points: 9, least: 0.008, rising: 0.9, step_most: 0.4, margin: 1.25 },
    Scale { block: 40, points: 9, least: 0.006, rising: 0.92, step_most: 0.4, margin: 1.3 },
];
const SCALE_COUNT: usize = SCALES.len();
/// Whatever the habit, such growth over six hours without slowing down is a leak: one that was there from the
/// first day must not pass for usual.
const LONG_ALWAYS: f64 = 0.02;
/// Caches fill after a start. Growth is compared with that at the same age: up to 2 h, up to 8 h, older.
const AGES_MIN: [f64; 2] = [120.0, 480.0];
const AGE_COUNT: usize = 3;
/// Days of an age that must be known before its habits count.
const DAYS_NEEDED: u8 = 2;
/// So many evaluations in a row.
const CONFIRM: u8 = 2;

/// What memory does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Growth {
    /// Share of the memory in use, per hour.
    pub(super) per_hour: f64,
    pub(super) low: f64,
    pub(super) high: f64,
    /// What it was compared with.
    pub(super) bar: f64,
    pub(super) minutes: u32,
    /// Bytes in use now, smoothed.
    pub(super) level: f64,
    scale: usize,
}

impl Growth {
    /// When `limit` is reached.
    pub(super) fn forecast(&self, limit: Option<u64>) -> Option<Forecast> {
        let left = limit? as f64 - self.level;
        if left <= 0.0 || self.per_hour <= 0.0 {
            return None;
        }
        let seconds = |per_hour: f64| left / (per_hour * self.level) * 3_600.0;
        Some(Forecast {
            bytes_per_hour: self.per_hour * self.level,
            full_in_s: seconds(self.per_hour),
            earliest_s: seconds(self.high.max(self.per_hour)),
            latest_s: (self.low > 0.0).then(|| seconds(self.low)),
        })
    }
}

/// How players explain memory.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PlayersEffect {
    pub(super) per_player: f64,
    /// How wrong that may be.
    pub(super) doubt: f64,
}

/// Memory of the last hours, minute by minute.
#[derive(Clone, Debug)]
pub(super) struct MemoryTrend {
    /// Newest last.
    pub(super) minutes: std::collections::VecDeque<(f32, f32)>,
    pub(super) habits: [[Habit; AGE_COUNT]; SCALE_COUNT],
    confirmed: [u8; SCALE_COUNT],
    /// Of each scale: the last result.
    growths: [Option<Growth>; SCALE_COUNT],
    turn: usize,
    points: Vec<(f64, f64)>,
    slopes: Vec<f64>,
}

impl MemoryTrend {
    pub(super) const HABITS: usize = SCALE_COUNT * AGE_COUNT;

    pub(super) fn new() -> MemoryTrend {
        MemoryTrend {
            minutes: std::collections::VecDeque::with_capacity(MINUTES),
            habits: [[Habit::default(); AGE_COUNT]; SCALE_COUNT],
            confirmed: [0; SCALE_COUNT],
            growths: [None; SCALE_COUNT],
            turn: 0,
            points: Vec::with_capacity(25),
            slopes: Vec::with_capacity(300),
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.minutes.capacity() * size_of::<(f32, f32)>()
            + self.points.capacity() * size_of::<(f64, f64)>()
            + self.slopes.capacity() * size_of::<f64>()
    }

    /// A new process begins with empty memory.
    pub(super) fn restart(&mut self) {
        self.minutes.clear();
        self.confirmed = [0; SCALE_COUNT];
        self.growths = [None; SCALE_COUNT];
    }

    /// A minute; NaN for one that was disturbed.
    pub(super) fn push(&mut self, bytes: f64, players: f64) {
        if self.minutes.len() == MINUTES {
            self.minutes.pop_front();
        }
        self.minutes.push_back((narrow(bytes), narrow(players)));
    }

    /// Looks at the trends; `age_min` is how long the process runs, if known. A leak when growth is unlike
    /// this ward. `open`: an alert is open, so nothing of this becomes a habit.
    pub(super) fn judge(
        &mut self,
        effect: PlayersEffect,
        age_min: Option<f64>,
        day: u32,
        open: bool,
    ) -> Option<Growth> {
        self.turn = self.turn.wrapping_add(1);
        let age = AGES_MIN.iter().filter(|limit| age_min.is_none_or(|age| age >= **limit)).count();
        let mut leak: Option<Growth> = None;
        for (index, scale) in SCALES.iter().enumerate() {
            // Longer trends change slowly: they are looked at every fifth minute, in turn.
            if scale.block > 3 && self.turn % 5 != index {
                continue;
            }
            let growth = self.measure(index, scale, effect);
            self.growths[index] = growth;
            let excess = growth.map_or(0.0, |growth| growth.per_hour);
            let habit = &mut self.habits[index][age];
            let long = index + 1 == SCALE_COUNT;
            let bar = scale.least.max(habit.bar(scale.margin));
            let bar = if long && age + 1 == AGE_COUNT { bar.min(LONG_ALWAYS) } else { bar };
            let known = habit.days() >= DAYS_NEEDED || (long && age + 1 == AGE_COUNT);
            if excess > bar && known {
                self.confirmed[index] = self.confirmed[index].saturating_add(1);
            } else {
                self.confirmed[index] = 0;
            }
            if !open {
                habit.observe(day, excess);
            }
            if self.confirmed[index] >= CONFIRM && leak.is_none() {
                leak = growth.map(|growth| Growth { bar, ..growth });
            }
        }
        leak
    }

    /// The growth that was taken for a leak went away by itself: it is one of the ward's ways.
    pub(super) fn learn(&mut self, per_hour: f64, age_min: Option<f64>, day: u32) {
        let age = AGES_MIN.iter().filter(|limit| age_min.is_none_or(|age| age >= **limit)).count();
        self.habits.iter_mut().for_each(|ages| ages[age].learn(day, per_hour));
    }

    /// The clearest growth at present, whether unusual or not.
    pub(super) fn growth(&self) -> Option<Growth> {
        self.growths.iter().flatten().find(|growth| growth.per_hour > 0.0).copied()
    }

    fn measure(&mut self, index: usize, scale: &Scale, effect: PlayersEffect) -> Option<Growth> {
        let wanted = scale.block * scale.points;
        if self.minutes.len() < wanted {
            return None;
        }
        let first = self.minutes.len() - wanted;
        let (mut players_first, mut players_last) = (f64::NAN, f64::NAN);
        self.points.clear();
        for block in 0..scale.points {
            let from = first + block * scale.block;
            let (mut lowest, mut known, mut at) = (f64::MAX, 0, 0.0);
            for minute in from..from + scale.block {
                let (bytes, players) = self.minutes[minute];
                let (bytes, players) = (f64::from(bytes), f64::from(players));
                if !bytes.is_finite() {
                    continue;
                }
                known += 1;
                let own = bytes - effect.per_player * players;
                if own < lowest {
                    (lowest, at) = (own, minute as f64);
                }
                players_first = if players_first.is_nan() { players } else { players_first };
                players_last = players;
            }
            if known * 2 >= scale.block && known > 0 {
                self.points.push((at, lowest));
            }
        }
        if self.points.len() * 5 < scale.points * 4 {
            return None;
        }
        let level = self.level()?;
        let trend = theil_sen(&self.points, &mut self.slopes)?;
        if trend.rising < scale.rising || !self.steady(scale.step_most) || self.slows_down(trend) {
            return None;
        }
        let hours = wanted as f64 / 60.0;
        let players_doubt = effect.doubt * (players_last - players_first).abs() / hours / level;
        let share = |slope: f64| slope * 60.0 / level;
        Some(Growth {
            per_hour: share(trend.slope) - players_doubt,
            low: share(trend.low) - players_doubt,
            high: share(trend.high) + players_doubt,
            bar: 0.0,
            minutes: u32::try_from(wanted).unwrap_or(u32::MAX),
            level,
            scale: index,
        })
    }

    fn level(&self) -> Option<f64> {
        let mut last: Vec<f64> = self
            .minutes
            .iter()
            .rev()
            .take(5)
            .map(|minute| f64::from(minute.0))
            .filter(|bytes| bytes.is_finite())
            .collect();
        median(&mut last)
    }

    /// No single step makes up most of the rise: a new map, a big base that was loaded.
    fn steady(&self, most: f64) -> bool {
        let points = &self.points;
        let reach = (points.len() / 8).max(1);
        let rise = points[points.len() - 1].1 - points[0].1;
        let largest = points
            .iter()
            .zip(&points[reach..])
            .map(|(left, right)| right.1 - left.1)
            .fold(0.0, f64::max);
        largest <= most * rise
    }

    /// Caches fill ever more slowly, leaks go on.
    fn slows_down(&mut self, trend: Trend) -> bool {
        let half = self.points.len() / 2;
        if half < 6 {
            // Too few points for a trend of their own: the rise of the halves.
            let (first, middle) = (self.points[0].1, self.points[half].1);
            let last = self.points[self.points.len() - 1].1;
            return last - middle < 0.3 * (middle - first);
        }
        let later = theil_sen(&self.points[half..], &mut self.slopes);
        later.is_some_and(|later| later.slope < 0.3 * trend.slope)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEVEL: f64 = 4e9;

    fn noise(at: usize) -> f64 {
        let mut state = (at as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        state ^= state >> 29;
        state = state.wrapping_mul(0xBF58_476D_1CE4_E5B9);
        state ^= state >> 32;
        (state % 2_001) as f64 / 1_000.0 - 1.0
    }

    /// Three quiet days, then `bytes(minute)` until a leak is found.
    fn minutes_to_find(
        quiet: impl Fn(usize) -> f64,
        bytes: impl Fn(usize) -> f64,
    ) -> Option<usize> {
        let mut trend = MemoryTrend::new();
        let mut day = 0;
        for minute in 0..3 * 1_440 {
            day = u32::try_from(minute / 1_440).unwrap_or(0);
            trend.push(quiet(minute), 0.0);
            let found = trend.judge(PlayersEffect::default(), None, day, false);
            assert_eq!(found, None, "minute {minute}");
        }
        (0..720).find(|minute| {
            trend.push(bytes(*minute), 0.0);
            trend.judge(PlayersEffect::default(), None, day + 1, false).is_some()
        })
    }

    fn quiet(minute: usize) -> f64 {
        LEVEL * (1.0 + 0.001 * noise(minute))
    }

    #[test]
    fn two_percent_an_hour_are_found_within_half_an_hour() {
        let leak = |minute: usize| quiet(minute + 5_000) * (1.0 + 0.02 * minute as f64 / 60.0);
        let found = minutes_to_find(quiet, leak).unwrap();
        assert!(found <= 30, "{found}");
    }

    #[test]
    fn a_step_and_a_filling_cache_are_no_leaks() {
        let step = |minute: usize| quiet(minute) + if minute > 100 { 0.1 * LEVEL } else { 0.0 };
        assert_eq!(minutes_to_find(quiet, step), None);
        // Caches of the same speed were seen on the days before, after each start.
        let cache =
            |minute: usize| quiet(minute) * (1.2 - 0.2 * (-((minute % 1_440) as f64) / 90.0).exp());
        assert_eq!(minutes_to_find(cache, cache), None);
    }

    #[test]
    fn a_collectors_saw_teeth_hide_no_leak() {
        let saw = |minute: usize| quiet(minute) * (1.0 + 0.08 * (minute % 7) as f64 / 7.0);
        let leak = |minute: usize| saw(minute) * (1.0 + 0.05 * minute as f64 / 60.0);
        let found = minutes_to_find(saw, leak).unwrap();
        assert!(found <= 90, "{found}");
    }

    #[test]
    fn a_forecast_says_when_memory_is_full() {
        let growth = Growth {
            per_hour: 0.05,
            low: 0.04,
            high: 0.06,
            bar: 0.01,
            minutes: 25,
            level: 8e9,
            scale: 0,
        };
        let forecast = growth.forecast(Some(10_000_000_000)).unwrap();
        assert!((forecast.full_in_s - 5.0 * 3_600.0).abs() < 1.0, "{forecast:?}");
        assert!(forecast.earliest_s < forecast.full_in_s);
        assert!(forecast.latest_s.unwrap() > forecast.full_in_s);
        assert_eq!(growth.forecast(Some(7_000_000_000)), None);
    }
}
