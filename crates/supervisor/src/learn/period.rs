//! Finds the rhythm in a series of write rates: autocorrelation, then folding for phase and length. It knows
//! bins and lags, no saves. Work comes in slices, so that no call takes long.

use super::robust::{floor_index, quantile};

/// A write rate as one byte: its logarithm, so that a large burst does not drown the others. 0: not known.
pub(super) fn pack_rate(bytes_per_s: f64) -> u8 {
    let steps = (1.0 + bytes_per_s.max(0.0) / 1024.0).ln() * 16.0;
    u8::try_from(floor_index(steps).min(254) + 1).unwrap_or(u8::MAX)
}

/// The rate at which `pack_rate` would give this.
pub(super) fn rate_of(packed: f64) -> f64 {
    (((packed - 1.0).max(0.0) / 16.0).exp() - 1.0) * 1024.0
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Found {
    /// In bins.
    pub(super) period: f64,
    /// Autocorrelation at that lag, 0 to 1.
    pub(super) strength: f64,
    /// Bins from the newest bin back to where the last burst began.
    pub(super) began_ago: f64,
    /// In bins.
    pub(super) length: f64,
    /// Packed rate half way between rest and burst.
    pub(super) threshold: f64,
}

/// Write rates in bins of equal length, and a search over them.
#[derive(Clone, Debug)]
pub(super) struct Rhythm {
    bins: Vec<u8>,
    /// Where the next bin goes.
    next: usize,
    filled: usize,
    lags: std::ops::RangeInclusive<usize>,
    scan_at: usize,
    rest: u8,
    mean: i32,
    correlations: Vec<f32>,
}

/// Lags per slice: 16 × 1,200 bins are about 10 µs.
const LAGS_PER_SLICE: usize = 16;
/// Below, what correlates is taken for chance (simulated games without saves stay below 0.2).
const STRENGTH_MIN: f64 = 0.3;
/// A burst is at least four times the rest, in packed units (16 ln 4), and so many bytes a second.
const CONTRAST_MIN: f64 = 22.0;
const BURST_MIN: f64 = 16_384.0;
/// 16 ln 2.
const REST_UNITS: u8 = 11;
/// How often a rhythm must have been seen.
const PERIODS_MIN: usize = 4;

impl Rhythm {
    pub(super) fn new(bins: usize, lags: std::ops::RangeInclusive<usize>) -> Rhythm {
        let correlations = vec![0.0; lags.end() + 1];
        Rhythm {
            bins: vec![0; bins],
            next: 0,
            filled: 0,
            scan_at: 0,
            rest: 0,
            mean: 0,
            lags,
            correlations,
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.bins.len() + self.correlations.len() * size_of::<f32>()
    }

    pub(super) fn push(&mut self, packed: u8) {
        self.bins[self.next] = packed;
        self.next = (self.next + 1) % self.bins.len();
        self.filled = (self.filled + 1).min(self.bins.len());
    }

    pub(super) fn clear(&mut self) {
        (self.next, self.filled, self.scan_at) = (0, 0, 0);
        self.bins.fill(0);
    }

    /// `ago` 0 is the newest.
    fn bin(&self, ago: usize) -> u8 {
        let len = self.bins.len();
        self.bins[(self.next + len - 1 - ago) % len]
    }

    /// Does a slice of the search; the result when that was the last one.
    pub(super) fn search(&mut self) -> Option<Option<Found>> {
        if self.filled < (self.lags.start() + 2) * PERIODS_MIN {
            return None;
        }
        if self.scan_at == 0 {
            self.begin();
        }
        let until = (self.scan_at + LAGS_PER_SLICE).min(self.last_lag() + 1);
        for lag in self.scan_at..until {
            self.correlations[lag] = self.correlate(lag);
        }
        self.scan_at = until;
        if until <= self.last_lag() {
            return None;
        }
        self.scan_at = 0;
        Some(self.conclude())
    }

    /// Only lags that fit often enough into what is there.
    fn last_lag(&self) -> usize {
        (self.filled / PERIODS_MIN).min(*self.lags.end())
    }

    /// What is not twice the median is rest, and no rest is like another: it would only be noise.
    fn begin(&mut self) {
        let mut counts = [0_u16; 256];
        (0..self.filled).for_each(|ago| counts[usize::from(self.bin(ago))] += 1);
        let known = self.filled - usize::from(counts[0]);
        let mut below = 0;
        let median = (1..=u8::MAX).find(|value| {
            below += usize::from(counts[usize::from(*value)]);
            below * 2 >= known
        });
        self.rest = median.unwrap_or(1).saturating_add(REST_UNITS);
        let total: i32 = (0..self.filled).map(|ago| self.above_rest(self.bin(ago))).sum();
        self.mean = total / i32::try_from(known.max(1)).unwrap_or(i32::MAX);
    }

    fn above_rest(&self, packed: u8) -> i32 {
        i32::from(packed.saturating_sub(self.rest))
    }

    fn correlate(&self, lag: usize) -> f32 {
        let (mut sum, mut count) = (0_i32, 0_u16);
        // Both are walked in the order of memory; `later` leads by the lag.
        let len = self.bins.len();
        let oldest = (self.next + len - self.filled) % len;
        let (mut earlier, mut later) = (oldest, (oldest + lag) % len);
        for _ in lag..self.filled {
            let (left, right) = (self.bins[earlier], self.bins[later]);
            if left > 0 && right > 0 {
                sum += (self.above_rest(left) - self.mean) * (self.above_rest(right) - self.mean);
                count += 1;
            }
            earlier = if earlier + 1 == len { 0 } else { earlier + 1 };
            later = if later + 1 == len { 0 } else { later + 1 };
        }
        if count == 0 { 0.0 } else { sum as f32 / f32::from(count) }
    }

    /// Smoothed over five lags, because saves are late by a second or two and fall into the next bin.
    fn smooth(&self, lag: usize) -> f64 {
        let last = self.last_lag();
        let at = |lag: usize| f64::from(self.correlations[lag.min(last)]);
        let below = |by: usize| at(lag.abs_diff(by));
        (3.0 * at(lag) + 2.0 * (below(1) + at(lag + 1)) + below(2) + at(lag + 2)) / 9.0
    }

    fn conclude(&self) -> Option<Found> {
        let rest = self.smooth(0);
        let last = self.last_lag();
        if rest <= 0.0 || last < self.lags.start() + 2 {
            return None;
        }
        let peak = |lag: usize| {
            let here = self.smooth(lag);
            here >= self.smooth(lag - 1) && here > self.smooth(lag + 1)
        };
        let peaks = || (*self.lags.start()..last.saturating_sub(1)).filter(|lag| peak(*lag));
        let best = peaks().map(|lag| self.smooth(lag)).fold(0.0, f64::max);
        // Every multiple of the period is a peak as high: the smallest of them is the period itself.
        let lag = peaks().find(|lag| self.smooth(*lag) >= 0.65 * best)?;
        let strength = self.smooth(lag) / rest;
        // Chance alone reaches 1.5 / √n a lag, and there are many lags.
        let chance = 6.0 / ((self.filled - lag) as f64).sqrt();
        if strength < STRENGTH_MIN.max(chance) {
            return None;
        }
        let period = self.refine(lag, last);
        self.fold(period, strength.min(1.0))
    }

    /// A multiple of the period that is a peak, too, tells the period more exactly.
    fn refine(&self, lag: usize, last: usize) -> f64 {
        let mut period = self.summit(lag);
        let mut times = 2.0;
        while period * times + 2.0 < last as f64 {
            let near = floor_index(period * times + 0.5);
            let top = (near.saturating_sub(1)..=near + 1)
                .max_by(|a, b| self.smooth(*a).total_cmp(&self.smooth(*b)))
                .unwrap_or(near);
            let refined = self.summit(top) / times;
            if (refined - period).abs() > 0.75 / times {
                break;
            }
            period = refined;
            times += 1.0;
        }
        period
    }

    /// Where a parabola through a peak and its neighbours has its top.
    fn summit(&self, lag: usize) -> f64 {
        let (left, here, right) = (self.smooth(lag - 1), self.smooth(lag), self.smooth(lag + 1));
        let bend = left - 2.0 * here + right;
        let shift = if bend < 0.0 { 0.5 * (left - right) / bend } else { 0.0 };
        lag as f64 + shift.clamp(-0.5, 0.5)
    }

    fn fold(&self, period: f64, strength: f64) -> Option<Found> {
        // Only recent periods: an inexact period smears over many of them.
        let bins = floor_index(period * 12.0).min(self.filled);
        let phases = floor_index(period).clamp(6, 64);
        let mut sums = vec![(0.0_f64, 0.0_f64); phases];
        for ago in 0..bins {
            let value = f64::from(self.bin(ago));
            if value > 0.0 {
                let phase = (ago as f64 / period).fract() * phases as f64;
                let cell = &mut sums[floor_index(phase).min(phases - 1)];
                *cell = (cell.0 + value, cell.1 + 1.0);
            }
        }
        let means: Vec<f64> = sums.iter().map(|cell| cell.0 / cell.1.max(1.0)).collect();
        let floor = quantile(&mut means.clone(), 0.5)?;
        let (top, height) =
            means.iter().copied().enumerate().max_by(|left, right| left.1.total_cmp(&right.1))?;
        let threshold = (floor + height) / 2.0;
        // `ago` grows into the past: the beginning of a burst is its last phase above the threshold.
        let above = |step: usize| means[step % phases] > threshold;
        let older = (1..phases).take_while(|step| above(top + step)).count();
        let newer = (1..phases).take_while(|step| above(top + phases - step)).count();
        let width = older + newer + 1;
        if height - floor < CONTRAST_MIN || rate_of(threshold) < BURST_MIN || width * 2 > phases {
            return None;
        }
        let scale = period / phases as f64;
        let began_ago = ((top + older + 1) as f64 * scale) % period;
        Some(Found { period, strength, began_ago, length: width as f64 * scale, threshold })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(rhythm: &mut Rhythm) -> Option<Found> {
        (0..100).find_map(|_| rhythm.search()).flatten()
    }

    fn burst_every(period: f64, bins: usize, jitter: f64) -> Rhythm {
        let mut rhythm = Rhythm::new(1_200, 5..=240);
        let mut next = period;
        for at in 0..bins {
            let late = jitter * (at as f64 * 7.77).sin().abs();
            let burst = at as f64 >= next + late;
            if at as f64 >= next + late {
                next += period;
            }
            let quiet = 4_000.0 + 3_000.0 * (at as f64 * 12.9898).sin();
            rhythm.push(pack_rate(if burst { 9e6 } else { quiet }));
        }
        rhythm
    }

    #[test]
    fn periods_are_found_and_their_multiples_are_not_taken_for_them() {
        for period in [6.0, 10.5, 30.0, 60.0, 119.3, 180.0] {
            let found = search(&mut burst_every(period, 1_200, 0.0)).unwrap();
            assert!((found.period - period).abs() / period < 0.02, "{period}: {found:?}");
            assert!(found.strength > 0.5, "{period}: {found:?}");
        }
    }

    #[test]
    fn bursts_that_are_late_are_a_rhythm_still() {
        let found = search(&mut burst_every(30.0, 1_200, 2.0)).unwrap();
        assert!((found.period - 30.0).abs() < 0.6, "{found:?}");
    }

    #[test]
    fn noise_has_no_rhythm() {
        let mut state = 0x9E37_79B9_u64;
        for _ in 0..20 {
            let mut rhythm = Rhythm::new(1_200, 5..=240);
            for _ in 0..1_200 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let burst = state >> 60 == 0;
                rhythm.push(pack_rate(if burst { 5e6 } else { 3_000.0 }));
            }
            assert_eq!(search(&mut rhythm), None);
        }
    }

    #[test]
    fn a_rhythm_is_claimed_only_after_four_periods() {
        assert_eq!(search(&mut burst_every(60.0, 150, 0.0)), None);
        assert!(search(&mut burst_every(60.0, 300, 0.0)).is_some());
    }
}
