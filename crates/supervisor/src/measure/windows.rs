//! Means, percentiles and peaks of one ward over the last minute, five minutes and hour, in bounded
//! memory, and the roll-ups that fall out on the way.
//!
//! The last minute is exact, from its samples. Longer windows are merged from digests of whole minutes
//! and of whole five minutes (see `digest` for the error, 1/32 of a percentile at most), so that they begin
//! up to a minute, or up to five minutes, earlier than asked.

use std::collections::VecDeque;
use std::time::Duration;

use naru_domain::Timestamp;
use naru_domain::ports::WardResolution;

use super::block::Block;
use super::digest::Digest;
use super::rollup::Rollup;
use super::series::{Reading, Series, Values};

const MINUTE_MS: i64 = 60_000;
const FIVE_MS: i64 = 5 * MINUTE_MS;
const HOUR_MS: i64 = 60 * MINUTE_MS;
/// Samples of the last minute: one a second, probes beside them.
const RECENT_MAX: usize = 96;
const MINUTES_MAX: usize = 6;
const FIVES_MAX: usize = 13;
/// What a minute of samples adds at most: a bucket of four bytes each, twice that while vectors grow, and
/// as much again when it is merged into its five minutes and its hour.
const MINUTE_BYTES: usize = 12 * 1024;
/// A sample that is restored stands for as long as the gap to the one before, but not longer than this.
const RESTORED_SPAN_MAX_MS: i64 = 60_000;

/// How far a window reaches back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Window {
    /// A minute.
    Minute,
    /// Five minutes.
    FiveMinutes,
    /// An hour.
    Hour,
}

/// What a series was like over some time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Summary {
    /// How many values there were. Without any the rest is zero.
    pub count: u32,
    /// The mean over time.
    pub mean: f64,
    /// The value that was not exceeded in 95 % of the time.
    pub p95: u32,
    /// The peak.
    pub max: u32,
}

impl Summary {
    fn of(digest: &Digest) -> Summary {
        Summary {
            count: digest.count(),
            mean: digest.mean(),
            p95: digest.percentile(95),
            max: digest.max(),
        }
    }
}

/// The windows of one ward.
#[derive(Debug)]
pub struct Windows {
    recent: VecDeque<Reading>,
    /// The last one is in the making.
    minutes: VecDeque<Slot>,
    /// Without the minute in the making; the last one is in the making.
    fives: VecDeque<Slot>,
    /// Without the minute in the making.
    hour: Slot,
}

/// Digests of a stretch of time.
#[derive(Debug, Default)]
struct Slot {
    start: i64,
    /// More than its own length after coarsening.
    length: i64,
    digests: [Digest; Series::COUNT],
}

impl Slot {
    fn beginning(at: i64, length: i64) -> Slot {
        Slot { start: at.div_euclid(length) * length, length, digests: Default::default() }
    }

    fn holds(&self, at: i64) -> bool {
        self.length > 0 && (self.start..self.start + self.length).contains(&at)
    }

    fn merge(&mut self, other: &Slot) {
        for (mine, theirs) in self.digests.iter_mut().zip(&other.digests) {
            if !theirs.is_empty() {
                mine.merge(theirs);
            }
        }
    }

    fn rollup(&self, resolution: WardResolution) -> Option<Rollup> {
        let with_values = Series::ALL.into_iter().zip(&self.digests);
        let with_values = with_values.filter(|(_, digest)| !digest.is_empty());
        let series: Vec<_> =
            with_values.map(|(series, digest)| (series, Summary::of(digest))).collect();
        (!series.is_empty()).then_some(Rollup { resolution, start: Timestamp(self.start), series })
    }

    fn reset(&mut self, at: i64, length: i64) {
        self.digests.iter_mut().for_each(Digest::clear);
        (self.start, self.length) = (at.div_euclid(length) * length, length);
    }

    fn heap_bytes(&self) -> usize {
        self.digests.iter().map(Digest::heap_bytes).sum()
    }
}

impl Default for Windows {
    fn default() -> Windows {
        Windows {
            recent: VecDeque::with_capacity(RECENT_MAX),
            minutes: VecDeque::with_capacity(MINUTES_MAX),
            fives: VecDeque::with_capacity(FIVES_MAX),
            hour: Slot::default(),
        }
    }
}

impl Windows {
    /// Memory of one ward at most. Reaching it makes the oldest of the hour coarser, which loses no value.
    pub const BYTES_MAX: usize = 64 * 1024;

    /// Takes a reading in. Stretches of time that are over are appended to `rollups`, once each.
    pub fn add(&mut self, reading: &Reading, rollups: &mut Vec<Rollup>) {
        let at = reading.at.0;
        self.roll(at, rollups);
        let horizon = at - MINUTE_MS;
        while self.recent.front().is_some_and(|first| first.at.0 <= horizon || first.at.0 > at)
            || self.recent.len() >= RECENT_MAX
        {
            self.recent.pop_front();
        }
        self.recent.push_back(*reading);
        let Some(minute) = self.minutes.back_mut() else { return };
        for (series, value) in reading.values.iter() {
            minute.digests[series.index()].add(value, reading.span);
        }
    }

    /// Ends the stretches of time that are over at `at`. A clock that was set back ends them, too.
    fn roll(&mut self, at: i64, rollups: &mut Vec<Rollup>) {
        if self.minutes.back().is_some_and(|minute| minute.holds(at)) {
            return;
        }
        if let Some(minute) = self.minutes.back() {
            for of in [&mut self.hour].into_iter().chain(self.fives.back_mut()) {
                of.merge(minute);
            }
        }
        if !self.fives.back().is_some_and(|five| five.holds(at)) {
            rollups.extend(self.fives.back().and_then(|it| it.rollup(WardResolution::FiveMinutes)));
            next(&mut self.fives, FIVES_MAX, at, FIVE_MS);
            self.fives.retain(|five| five.start <= at && five.start + five.length > at - HOUR_MS);
        }
        if !self.hour.holds(at) {
            rollups.extend(self.hour.rollup(WardResolution::Hour));
            self.hour.reset(at, HOUR_MS);
        }
        next(&mut self.minutes, MINUTES_MAX, at, MINUTE_MS);
        self.minutes.retain(|minute| minute.start <= at && minute.start > at - 6 * MINUTE_MS);
        while self.bytes() + MINUTE_BYTES > Windows::BYTES_MAX {
            if !self.coarsen() {
                // Every series has values of all magnitudes, which no game shows.
                for slot in self.fives.iter_mut().chain([&mut self.hour]) {
                    slot.digests.iter_mut().for_each(Digest::fold);
                }
                break;
            }
        }
    }

    /// Makes one of the two oldest parts of the hour. `false` if there is nothing to join.
    fn coarsen(&mut self) -> bool {
        // The last one is in the making, and its roll-up is still to come.
        if self.fives.len() < 3 {
            return false;
        }
        let Some(oldest) = self.fives.pop_front() else { return false };
        let Some(next) = self.fives.front_mut() else { return false };
        next.merge(&oldest);
        let end = next.start + next.length;
        next.start = oldest.start;
        next.length = end - oldest.start;
        true
    }

    /// What `series` was like over `window` up to `now`.
    #[must_use]
    pub fn summary(&self, series: Series, window: Window, now: Timestamp) -> Summary {
        if window == Window::Minute {
            return self.last_minute(series, now);
        }
        let mut digest = Digest::default();
        let of = |slot: &Slot, reach: i64| {
            slot.start <= now.0 && slot.start + slot.length > now.0 - reach
        };
        if window == Window::FiveMinutes {
            for minute in self.minutes.iter().filter(|minute| of(minute, FIVE_MS)) {
                digest.merge(&minute.digests[series.index()]);
            }
        } else {
            for five in self.fives.iter().filter(|five| of(five, HOUR_MS)) {
                digest.merge(&five.digests[series.index()]);
            }
            if let Some(minute) = self.minutes.back().filter(|minute| of(minute, HOUR_MS)) {
                digest.merge(&minute.digests[series.index()]);
            }
        }
        Summary::of(&digest)
    }

    fn last_minute(&self, series: Series, now: Timestamp) -> Summary {
        let within = |reading: &&Reading| {
            reading.at.0 > now.0 - MINUTE_MS && reading.at.0 <= now.0 + MINUTE_MS
        };
        let mut values: Vec<(u32, u128)> = Vec::with_capacity(self.recent.len());
        for reading in self.recent.iter().filter(within) {
            if let Some(value) = reading.values.get(series) {
                values.push((value, reading.span.as_millis().max(1)));
            }
        }
        values.sort_unstable();
        let total: u128 = values.iter().map(|(_, span)| span).sum();
        let sum: u128 = values.iter().map(|(value, span)| u128::from(*value) * span).sum();
        let mut before = 0;
        let p95 = values.iter().find(|(_, span)| {
            before += span;
            before * 100 >= total * 95
        });
        Summary {
            count: u32::try_from(values.len()).unwrap_or(u32::MAX),
            mean: mean(sum, total),
            p95: p95.map_or(0, |(value, _)| *value),
            max: values.last().map_or(0, |(value, _)| *value),
        }
    }

    /// The last value of `series` within the last minute that is known, and when it was.
    #[must_use]
    pub fn last(&self, series: Series) -> Option<(Timestamp, u32)> {
        let mut newest_first = self.recent.iter().rev();
        newest_first.find_map(|reading| Some((reading.at, reading.values.get(series)?)))
    }

    /// Gives memory back under pressure: samples but the last ones, and how finely the older part of the
    /// hour was known. Windows, percentiles and roll-ups go on.
    pub fn shed(&mut self) {
        let keep = self.recent.len().saturating_sub(8);
        self.recent.drain(..keep);
        self.recent.shrink_to_fit();
        while self.coarsen() {}
        for slot in self.minutes.iter_mut().chain(&mut self.fives) {
            slot.digests.iter_mut().for_each(Digest::shrink);
        }
    }

    /// The memory in use, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let slots = self.minutes.capacity() + self.fives.capacity();
        let digests = self.minutes.iter().chain(&self.fives).chain([&self.hour]);
        size_of::<Windows>()
            + self.recent.capacity() * size_of::<Reading>()
            + slots * size_of::<Slot>()
            + digests.map(Slot::heap_bytes).sum::<usize>()
    }

    /// Takes in what was kept of `from` and later before a restart, oldest block first, as if it had just
    /// been measured.
    pub fn replay(&mut self, block: &Block, from: Timestamp, rollups: &mut Vec<Rollup>) {
        let mut restored = Vec::new();
        for column in &block.columns {
            let mut before: Option<i64> = None;
            for point in &column.points {
                let gap = before.map_or(1_000, |before| point.at.0 - before);
                before = Some(point.at.0);
                if point.at < from {
                    continue;
                }
                let gap = gap.clamp(0, RESTORED_SPAN_MAX_MS).unsigned_abs();
                let mut values = Values::EMPTY;
                values.set(column.series, point.value);
                let span = Duration::from_millis(gap);
                restored.push(Reading { at: point.at, span, values });
            }
        }
        restored.sort_by_key(|reading| reading.at);
        for reading in &restored {
            self.add(reading, rollups);
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a mean needs no more than 52 bits")]
fn mean(sum: u128, total: u128) -> f64 {
    if total == 0 { 0.0 } else { sum as f64 / total as f64 }
}

/// Begins the next slot, in the memory of the oldest one if the ring is full.
fn next(ring: &mut VecDeque<Slot>, slots_max: usize, at: i64, length: i64) {
    let mut slot = if ring.len() >= slots_max {
        ring.pop_front().unwrap_or_default()
    } else {
        Slot::beginning(at, length)
    };
    slot.reset(at, length);
    ring.push_back(slot);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::measure::BlockBuilder;

    /// A full hour.
    const START: i64 = 1_700_002_800_000;

    fn reading(ms: i64, cpu: u32) -> Reading {
        let mut values = Values::EMPTY;
        values.set(Series::Cpu, cpu);
        Reading { at: Timestamp(START + ms), span: Duration::from_secs(1), values }
    }

    fn run(windows: &mut Windows, seconds: i64, cpu: impl Fn(i64) -> u32) -> Vec<Rollup> {
        let mut rollups = Vec::new();
        for second in 0..seconds {
            windows.add(&reading(second * 1_000, cpu(second)), &mut rollups);
        }
        rollups
    }

    #[test]
    fn the_last_minute_is_exact_and_moves_with_every_sample() {
        let mut windows = Windows::default();
        run(&mut windows, 200, |second| u32::try_from(second).unwrap());
        let now = Timestamp(START + 199_000);
        let minute = windows.summary(Series::Cpu, Window::Minute, now);
        assert_eq!((minute.count, minute.max, minute.p95), (60, 199, 196));
        assert!((minute.mean - 169.5).abs() < 1e-9, "{minute:?}");
        assert_eq!(windows.last(Series::Cpu), Some((now, 199)));
        assert_eq!(windows.summary(Series::Players, Window::Minute, now), Summary::default());
        // Nothing came for a while.
        let later = Timestamp(START + 400_000);
        assert_eq!(windows.summary(Series::Cpu, Window::Minute, later).count, 0);
    }

    #[test]
    fn longer_windows_hold_what_they_say_and_forget_a_peak_in_time() {
        let mut windows = Windows::default();
        // A peak in the third minute.
        run(&mut windows, 3_600 + 1_200, |second| if second == 150 { 900 } else { 10 });
        let at = |second: i64| Timestamp(START + second * 1_000);
        let mut early = Windows::default();
        run(&mut early, 400, |second| if second == 150 { 900 } else { 10 });
        assert_eq!(early.summary(Series::Cpu, Window::FiveMinutes, at(399)).max, 900);
        assert_eq!(early.summary(Series::Cpu, Window::Minute, at(399)).max, 10);
        assert_eq!(early.summary(Series::Cpu, Window::Hour, at(399)).max, 900);
        assert_eq!(early.summary(Series::Cpu, Window::Hour, at(399)).count, 400);
        let hour = windows.summary(Series::Cpu, Window::Hour, at(4_799));
        assert_eq!((hour.max, hour.p95), (10, 10));
        assert!((3_600..=3_900).contains(&hour.count), "{hour:?}");
        let five = windows.summary(Series::Cpu, Window::FiveMinutes, at(4_799));
        assert!((300..=360).contains(&five.count), "{five:?}");
    }

    #[test]
    fn every_stretch_is_rolled_up_once_with_all_its_samples() {
        let mut windows = Windows::default();
        let rollups = run(&mut windows, 2 * 3_600 + 1, |second| u32::from(second % 2 == 0) * 20);
        let of = |resolution| rollups.iter().filter(move |each| each.resolution == resolution);
        assert_eq!(of(WardResolution::FiveMinutes).count(), 24);
        assert_eq!(of(WardResolution::Hour).count(), 2);
        for (rollup, length) in of(WardResolution::FiveMinutes)
            .map(|each| (each, 300))
            .chain(of(WardResolution::Hour).map(|each| (each, 3_600)))
        {
            let (series, summary) = rollup.series[0];
            assert_eq!((series, summary.count), (Series::Cpu, length));
            assert!((summary.mean - 10.0).abs() < 1e-9);
            assert_eq!((summary.p95, summary.max), (20, 20));
        }
        let mut starts: Vec<i64> = of(WardResolution::FiveMinutes).map(|r| r.start.0).collect();
        starts.dedup();
        assert_eq!(starts.len(), 24);
        assert!(starts.iter().all(|start| start % FIVE_MS == 0));
    }

    #[test]
    fn gaps_and_clocks_that_jump_end_no_stretch_twice() {
        let mut windows = Windows::default();
        let mut rollups = Vec::new();
        for minute in [0, 1, 2, 200, 201, 100, 101, 300] {
            windows.add(&reading(minute * 60_000, 5), &mut rollups);
        }
        let counts: Vec<u32> = rollups
            .iter()
            .filter(|each| each.resolution == WardResolution::FiveMinutes)
            .map(|each| each.series[0].1.count)
            .collect();
        assert_eq!(counts.iter().sum::<u32>(), 7, "{rollups:?}");
        let now = Timestamp(START + 300 * 60_000);
        assert_eq!(windows.summary(Series::Cpu, Window::Hour, now).count, 1);
    }

    /// Two hours of all series; `value` makes one of a random number.
    fn two_hours(value: impl Fn(u32) -> u32) -> Windows {
        let (mut windows, mut rollups) = (Windows::default(), Vec::new());
        let mut random = 1u32;
        for second in 0..2 * 3_600 {
            let mut values = Values::EMPTY;
            for series in Series::ALL {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                values.set(series, value(random >> 4));
            }
            let at = Timestamp(START + second * 1_000);
            windows.add(&Reading { at, span: Duration::from_secs(1), values }, &mut rollups);
            assert!(windows.bytes() <= Windows::BYTES_MAX, "{}", windows.bytes());
        }
        windows
    }

    #[test]
    fn memory_stays_within_its_bound_even_with_values_of_all_magnitudes() {
        let windows = two_hours(|random| random >> (random % 28));
        let now = Timestamp(START + 7_199_000);
        let hour = windows.summary(Series::Cpu, Window::Hour, now);
        assert!(hour.count >= 3_300, "{hour:?}");
    }

    #[test]
    fn shedding_frees_memory_and_the_windows_go_on() {
        let mut windows = two_hours(|random| 500 + random % 300);
        let now = Timestamp(START + 7_199_000);
        let before = windows.summary(Series::Cpu, Window::Hour, now);
        let full = windows.bytes();
        assert!(full <= 40 * 1024, "{full}");
        windows.shed();
        assert!(windows.bytes() <= full * 2 / 3, "{} of {full}", windows.bytes());
        assert_eq!(windows.summary(Series::Cpu, Window::Hour, now), before);
        assert!(windows.last(Series::Cpu).is_some());
        let mut rollups = Vec::new();
        windows.add(&reading(7_200_000, 5), &mut rollups);
        assert_eq!(rollups.len(), 2, "what was in the making is rolled up");
    }

    #[test]
    fn what_was_kept_before_a_restart_is_in_the_windows_again() {
        let mut before = Windows::default();
        let mut builder = BlockBuilder::default();
        let mut blocks = Vec::new();
        let cpu = |second: i64| u32::try_from(second % 97).unwrap() * 10;
        let rollups_before = run(&mut before, 3_601, cpu);
        for second in 0..3_601 {
            assert!(builder.add(&reading(second * 1_000, cpu(second))));
            if second % 60 == 59 {
                blocks.push(builder.seal().unwrap().1);
            }
        }
        blocks.extend(builder.seal().map(|(_, packed)| packed));
        let (mut after, mut rollups_after) = (Windows::default(), Vec::new());
        for packed in &blocks {
            after.replay(&Block::decode(packed).unwrap(), Timestamp(0), &mut rollups_after);
        }
        assert_eq!(rollups_after, rollups_before);
        let now = Timestamp(START + 3_600_000);
        for window in [Window::Minute, Window::FiveMinutes, Window::Hour] {
            let (one, other) =
                (before.summary(Series::Cpu, window, now), after.summary(Series::Cpu, window, now));
            assert_eq!(one, other, "{window:?}");
        }
    }

    proptest! {
        #[test]
        fn any_order_of_moments_keeps_the_bounds(
            steps in prop::collection::vec(-400_000i64..400_000, 1..300),
        ) {
            let (mut windows, mut rollups, mut at) = (Windows::default(), Vec::new(), 0);
            for step in &steps {
                at += step;
                windows.add(&reading(at, 7), &mut rollups);
                let now = Timestamp(START + at);
                prop_assert!(windows.summary(Series::Cpu, Window::Hour, now).count >= 1);
                prop_assert!(windows.bytes() <= Windows::BYTES_MAX);
            }
        }
    }
}
