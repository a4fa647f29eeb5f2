//! Memory that grows for hours, players' effect removed: what was there from the first day, and so passes for usual
//! with `leak`. It says how fast; the words of the alert are written elsewhere.

use super::leak::Found;
use super::robust::{median, narrow, theil_sen};
use super::words::Forecast;

/// Minutes that are kept.
pub(super) const MINUTES: usize = BLOCK * POINTS;

/// Minutes per point: their lowest, so that a collector's saw teeth of that length are cut off.
const BLOCK: usize = 40;
const POINTS: usize = 9;
/// Growth per hour that is a leak, whatever was usual.
const LEAST: f64 = 0.02;
/// Share of the pairs that must rise; a single step has 0.75.
const RISING: f64 = 0.92;
/// Share of the rise that a single step may have.
const STEP_MOST: f64 = 0.4;
/// Caches fill after a start.
const AGE_MIN: f64 = 480.0;
/// Less growth in the second half than this share of the first half's is slowing down.
const SLOWER: f64 = 0.5;
/// It changes slowly: it is looked at every fifth minute, and must be found so many times in a row.
const EVERY: usize = 5;
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
    /// How far beyond the bar, and by what a habit is learned.
    pub(super) times_bar: f64,
    pub(super) sum: f64,
}

impl From<Found> for Growth {
    fn from(found: Found) -> Growth {
        Growth {
            per_hour: found.per_hour,
            low: found.per_hour - found.doubt,
            high: found.per_hour + found.doubt,
            bar: found.bar,
            minutes: found.minutes,
            level: found.level,
            times_bar: found.times_bar,
            sum: found.sum,
        }
    }
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
    confirmed: u8,
    /// The last result.
    growth: Option<Growth>,
    turn: usize,
    points: Vec<(f64, f64)>,
    slopes: Vec<f64>,
}

impl MemoryTrend {
    pub(super) fn new() -> MemoryTrend {
        MemoryTrend {
            minutes: std::collections::VecDeque::with_capacity(MINUTES),
            confirmed: 0,
            growth: None,
            turn: 0,
            points: Vec::with_capacity(POINTS),
            slopes: Vec::with_capacity(POINTS * POINTS / 2),
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
        self.confirmed = 0;
        self.growth = None;
    }

    /// A minute; NaN for one that was disturbed.
    pub(super) fn push(&mut self, bytes: f64, players: f64) {
        if self.minutes.len() == MINUTES {
            self.minutes.pop_front();
        }
        self.minutes.push_back((narrow(bytes), narrow(players)));
    }

    /// A leak, when memory grew for hours. `age_min` is how long the process runs, if known.
    pub(super) fn judge(&mut self, effect: PlayersEffect, age_min: Option<f64>) -> Option<Growth> {
        self.turn = self.turn.wrapping_add(1);
        if !self.turn.is_multiple_of(EVERY) {
            return None;
        }
        self.growth = self.measure(effect);
        let old = age_min.is_none_or(|age| age >= AGE_MIN);
        let found = self.growth.filter(|growth| old && growth.per_hour > LEAST);
        self.confirmed = if found.is_some() { self.confirmed.saturating_add(1) } else { 0 };
        found.filter(|_| self.confirmed >= CONFIRM)
    }

    /// The growth of the last hours, whether unusual or not.
    pub(super) fn growth(&self) -> Option<Growth> {
        self.growth.filter(|growth| growth.per_hour > 0.0)
    }

    fn measure(&mut self, effect: PlayersEffect) -> Option<Growth> {
        if self.minutes.len() < MINUTES {
            return None;
        }
        let (mut players_first, mut players_last) = (f64::NAN, f64::NAN);
        self.points.clear();
        for block in 0..POINTS {
            let from = block * BLOCK;
            let (mut lowest, mut known, mut at) = (f64::MAX, 0, 0.0);
            for minute in from..from + BLOCK {
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
            if known * 2 >= BLOCK {
                self.points.push((at, lowest));
            }
        }
        if self.points.len() * 5 < POINTS * 4 {
            return None;
        }
        let level = self.level()?;
        let trend = theil_sen(&self.points, &mut self.slopes)?;
        if trend.rising < RISING || !self.steady(STEP_MOST) || self.slows_down() {
            return None;
        }
        let hours = MINUTES as f64 / 60.0;
        let players_doubt = effect.doubt * (players_last - players_first).abs() / hours / level;
        let share = |slope: f64| slope * 60.0 / level;
        Some(Growth {
            per_hour: share(trend.slope) - players_doubt,
            low: share(trend.low) - players_doubt,
            high: share(trend.high) + players_doubt,
            bar: LEAST,
            minutes: u32::try_from(MINUTES).unwrap_or(u32::MAX),
            level,
            times_bar: share(trend.slope) / LEAST,
            sum: share(trend.slope),
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
    fn slows_down(&self) -> bool {
        let half = self.points.len() / 2;
        let (first, middle) = (self.points[0].1, self.points[half].1);
        let last = self.points[self.points.len() - 1].1;
        last - middle < SLOWER * (middle - first)
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

    /// When a leak is found, if the process runs for long.
    fn minutes_to_find(bytes: impl Fn(usize) -> f64) -> Option<usize> {
        let mut trend = MemoryTrend::new();
        (0..1_440).find(|minute| {
            trend.push(bytes(*minute), 0.0);
            trend.judge(PlayersEffect::default(), Some(*minute as f64)).is_some()
        })
    }

    fn quiet(minute: usize) -> f64 {
        LEVEL * (1.0 + 0.001 * noise(minute))
    }

    #[test]
    fn a_leak_from_the_first_minute_is_found_in_nine_hours() {
        let saw = |minute: usize| quiet(minute) * (1.0 + 0.08 * (minute % 15) as f64 / 15.0);
        let found = minutes_to_find(|minute| saw(minute) * (1.0 + 0.03 * minute as f64 / 60.0));
        assert!(found.is_some_and(|found| found <= 540), "{found:?}");
    }

    #[test]
    fn a_step_and_a_cache_that_fills_are_no_leaks() {
        let step = |minute: usize| quiet(minute) + if minute > 600 { 0.3 * LEVEL } else { 0.0 };
        assert_eq!(minutes_to_find(step), None);
        let cache = |minute: usize| quiet(minute) * (1.5 - 0.5 * (-(minute as f64) / 180.0).exp());
        assert_eq!(minutes_to_find(cache), None);
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
            times_bar: 2.0,
            sum: 0.01,
        };
        let forecast = growth.forecast(Some(10_000_000_000)).unwrap();
        assert!((forecast.full_in_s - 5.0 * 3_600.0).abs() < 1.0, "{forecast:?}");
        assert!(forecast.earliest_s < forecast.full_in_s);
        assert!(forecast.latest_s.unwrap() > forecast.full_in_s);
        assert_eq!(growth.forecast(Some(7_000_000_000)), None);
    }
}
