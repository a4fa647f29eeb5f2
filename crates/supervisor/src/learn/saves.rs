//! When a ward saves: told by the game, declared by its profile, or learned from bursts of writing. It says
//! which samples fall into saves and when others may write. It knows nothing of alerts.

use std::collections::VecDeque;
use std::time::Duration;

use naru_domain::Timestamp;

use super::period::{Found, Rhythm, pack_rate, rate_of};
use super::words::{SaveSource, SaveView, SaveWindow};

/// Longest wait of our own writes, and longest save that is believed (goal O6 of issue 4).
pub const SAVE_WAIT_MAX: Duration = Duration::from_secs(180);
/// Marks kept for charts.
const MARKS_MAX: usize = 64;
/// A declared save takes so long until it was seen.
const LENGTH_GUESS_MS: f64 = 15_000.0;
/// Fine bins: 5 s over an hour, periods of 30 s to 12 min. Coarse: 30 s over 10 h, 8 min to 2 h.
const FINE_MS: f64 = 5_000.0;
const COARSE_BINS: u32 = 6;
/// From here on windows are believed.
const CONFIDENCE_MIN: f64 = 0.5;
/// So many expected saves in a row that did not happen end a learned rhythm.
const MISSES_MAX: u8 = 8;

/// Saves that happen at fixed times: every `period`, beginning `offset` after midnight 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SaveSchedule {
    /// At least ten seconds.
    pub period: Duration,
    /// Any length.
    pub offset: Duration,
}

/// A rhythm that was learned, kept in step with what happens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Beat {
    pub(super) period_ms: f64,
    /// A time at which a save began (milliseconds since 1970).
    pub(super) anchor_ms: f64,
    pub(super) length_ms: f64,
    pub(super) jitter_ms: f64,
    pub(super) confidence: f64,
    /// Bytes a second that tell a burst from rest.
    pub(super) threshold: f64,
    pub(super) hits: u8,
    pub(super) misses: u8,
    /// False after a restart or a clock jump, until a burst shows where the rhythm stands now.
    pub(super) in_step: bool,
}

impl Beat {
    fn guard_ms(&self) -> f64 {
        (1_000.0 + 2.0 * self.jitter_ms).min(0.1 * self.period_ms)
    }

    /// The last window that begins at or before `now`, guards included.
    fn around(&self, now: f64) -> (f64, f64) {
        let count = ((now + self.guard_ms() - self.anchor_ms) / self.period_ms).floor();
        let began = self.anchor_ms + count * self.period_ms;
        (began - self.guard_ms(), began + self.length_ms + self.guard_ms())
    }

    /// Whether a damaged snapshot could not have made it up.
    pub(super) fn is_possible(&self) -> bool {
        let period = 10_000.0..=14_400_000.0;
        period.contains(&self.period_ms)
            && self.anchor_ms.abs() < 1e15
            && (0.0..=self.period_ms).contains(&self.length_ms)
            && (0.0..=self.period_ms).contains(&self.jitter_ms)
            && (0.0..=1.0).contains(&self.confidence)
            && self.threshold.is_finite()
    }

    fn believed(&self) -> bool {
        self.in_step && self.confidence >= CONFIDENCE_MIN
    }
}

/// What is known of a ward's saves.
#[derive(Clone, Debug)]
pub struct SaveCycle {
    schedule: Option<SaveSchedule>,
    told_since: Option<Timestamp>,
    told_last: Option<Timestamp>,
    told_period_ms: Option<f64>,
    told_length_ms: f64,
    pub(super) beat: Option<Beat>,
    fine: Rhythm,
    coarse: Rhythm,
    bin: Bin,
    burst_since: Option<Timestamp>,
    counted_window: f64,
    marks: VecDeque<SaveWindow>,
}

/// The bin that is being filled.
#[derive(Clone, Copy, Debug, Default)]
struct Bin {
    bytes: f64,
    millis: f64,
    coarse_packed: u32,
    coarse_count: u32,
}

impl SaveCycle {
    pub(super) fn new(schedule: Option<SaveSchedule>) -> SaveCycle {
        let schedule = schedule.filter(|schedule| schedule.period >= Duration::from_secs(10));
        SaveCycle {
            schedule,
            told_since: None,
            told_last: None,
            told_period_ms: None,
            told_length_ms: LENGTH_GUESS_MS,
            beat: None,
            fine: Rhythm::new(720, 6..=144),
            coarse: Rhythm::new(1_200, 16..=240),
            bin: Bin::default(),
            burst_since: None,
            counted_window: 0.0,
            marks: VecDeque::with_capacity(MARKS_MAX),
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        size_of::<SaveCycle>()
            + self.fine.memory_bytes()
            + self.coarse.memory_bytes()
            + self.marks.capacity() * size_of::<SaveWindow>()
    }

    /// The game says that it saves.
    pub(super) fn began(&mut self, now: Timestamp) {
        if let Some(last) = self.told_last.filter(|last| *last < now) {
            let between = now.since(last).as_millis() as f64;
            // One save asked for by hand should not undo a rhythm: it moves by a quarter only.
            let period = self.told_period_ms.map_or(between, |old| old + 0.25 * (between - old));
            self.told_period_ms = (between <= 2.0 * 7_200_000.0).then_some(period);
        }
        self.told_last = Some(now);
        self.told_since = Some(now);
    }

    /// It says that it is done; without a beginning, it just was.
    pub(super) fn ended(&mut self, now: Timestamp) {
        let from = self.told_since.take().unwrap_or_else(|| {
            let from = now.minus(Duration::from_secs(5));
            self.began(from);
            self.told_since = None;
            from
        });
        let length = now.since(from).min(SAVE_WAIT_MAX);
        self.told_length_ms += 0.25 * (length.as_millis() as f64 - self.told_length_ms);
        self.remember(SaveWindow { from, until: from.plus(length), source: SaveSource::Told });
    }

    fn remember(&mut self, window: SaveWindow) {
        if self.marks.len() == MARKS_MAX {
            self.marks.pop_front();
        }
        self.marks.push_back(window);
    }

    /// The rhythm goes on, but nobody knows where it stands: after a restart or a jump of the clock.
    pub(super) fn out_of_step(&mut self) {
        (self.told_since, self.told_last, self.burst_since) = (None, None, None);
        if let Some(beat) = &mut self.beat {
            beat.in_step = false;
            beat.misses = 0;
        }
    }

    /// Bins are not comparable across a gap.
    pub(super) fn gap(&mut self) {
        self.out_of_step();
        self.bin = Bin::default();
        self.fine.clear();
        self.coarse.clear();
    }

    /// One sample. No allocation, no search.
    pub(super) fn sample(&mut self, now: Timestamp, elapsed: Duration, write_bytes: Option<u64>) {
        let millis = elapsed.as_millis() as f64;
        if let Some(bytes) = write_bytes {
            self.bin.bytes += bytes as f64;
            self.bin.millis += millis;
            if self.bin.millis >= FINE_MS {
                self.close_bin();
            }
            let rate = bytes as f64 * 1_000.0 / millis.max(1.0);
            self.follow(now, now.minus(elapsed), rate);
        }
        self.count_misses(now);
    }

    fn close_bin(&mut self) {
        let rate = self.bin.bytes * 1_000.0 / self.bin.millis;
        let packed = pack_rate(rate);
        // Slow samplers (10 s under contention) fill two bins with one sample.
        while self.bin.millis >= FINE_MS {
            self.bin.millis -= FINE_MS;
            self.fine.push(packed);
            self.bin.coarse_packed = self.bin.coarse_packed.max(u32::from(packed));
            self.bin.coarse_count += 1;
            if self.bin.coarse_count == COARSE_BINS {
                self.coarse.push(u8::try_from(self.bin.coarse_packed).unwrap_or(u8::MAX));
                (self.bin.coarse_packed, self.bin.coarse_count) = (0, 0);
            }
        }
        self.bin.bytes = rate * self.bin.millis / 1_000.0;
    }

    /// Follows bursts, and keeps the learned rhythm in step with them.
    fn follow(&mut self, now: Timestamp, began: Timestamp, rate: f64) {
        let Some(beat) = &mut self.beat else { return };
        let busy = rate > beat.threshold;
        match (self.burst_since, busy) {
            (None, true) => {
                self.burst_since = Some(began);
                step(beat, began.0 as f64);
            }
            (Some(since), false) => {
                self.burst_since = None;
                let length = began.since(since).as_millis() as f64;
                if beat.in_step && length < 0.5 * beat.period_ms {
                    beat.length_ms += 0.2 * (length.max(1_000.0) - beat.length_ms);
                    let source = SaveSource::Learned;
                    let (from, until) = beat.around(since.0 as f64);
                    let inside = (from..=until).contains(&(since.0 as f64));
                    if inside && beat.confidence >= CONFIDENCE_MIN {
                        self.remember(SaveWindow { from: since, until: began, source });
                    }
                }
            }
            (Some(since), true) if now.since(since) > SAVE_WAIT_MAX => self.burst_since = None,
            _ => (),
        }
    }

    fn count_misses(&mut self, now: Timestamp) {
        let Some(beat) = &mut self.beat else { return };
        let (from, until) = beat.around(now.0 as f64);
        // The window of the last burst was none that passed in vain.
        let hit = from < beat.anchor_ms + 0.5 * beat.period_ms;
        if now.0 as f64 > until && from > self.counted_window && !hit {
            self.counted_window = from;
            beat.misses = beat.misses.saturating_add(1);
            beat.confidence = (beat.confidence - 0.03).max(0.0);
            // The clock may have been set: the next burst shows where the rhythm stands.
            beat.in_step &= beat.misses != MISSES_MAX / 2;
            if beat.misses > MISSES_MAX {
                // Old bursts would only be found again.
                self.beat = None;
                self.fine.clear();
                self.coarse.clear();
            }
        }
    }

    /// A slice of the search for a rhythm; called once a minute.
    pub(super) fn search(&mut self, now: Timestamp) {
        // Both are scanned in turn; what was found in fine bins is more exact.
        if let Some(Some(found)) = self.fine.search() {
            self.adopt(now, found, FINE_MS);
        }
        if let Some(Some(found)) = self.coarse.search() {
            let known = self.beat.is_some_and(|beat| beat.confidence >= CONFIDENCE_MIN);
            if !known {
                self.adopt(now, found, FINE_MS * f64::from(COARSE_BINS));
            }
        }
    }

    fn adopt(&mut self, now: Timestamp, found: Found, bin_ms: f64) {
        let period_ms = found.period * bin_ms;
        let threshold = rate_of(found.threshold);
        let alike = |beat: &Beat| (beat.period_ms / period_ms - 1.0).abs() < 0.03;
        match &mut self.beat {
            // In step: the search confirms it, bursts themselves know the phase better.
            Some(beat) if alike(beat) && beat.in_step => {
                beat.confidence = beat.confidence.max(found.strength);
                beat.threshold = threshold;
            }
            Some(beat) if beat.in_step && beat.misses < 3 && beat.confidence > found.strength => (),
            _ => {
                let anchor_ms = now.0 as f64 - found.began_ago * bin_ms;
                // A coarse bin holds a burst anywhere inside: the bursts that follow show its true length.
                let length_ms = (found.length * bin_ms).min(0.3 * period_ms);
                self.beat = Some(Beat {
                    period_ms,
                    anchor_ms,
                    length_ms,
                    jitter_ms: bin_ms,
                    confidence: found.strength,
                    threshold,
                    hits: 0,
                    misses: 0,
                    in_step: true,
                });
            }
        }
    }

    /// Whether a save runs or is expected to run now.
    #[must_use]
    pub fn in_window(&self, now: Timestamp) -> bool {
        if self.told_since.is_some_and(|since| now.since(since) < SAVE_WAIT_MAX) {
            return true;
        }
        if let Some(window) = self.declared(now) {
            return window.from <= now;
        }
        self.beat.as_ref().filter(|beat| beat.believed()).is_some_and(|beat| {
            let (from, until) = beat.around(now.0 as f64);
            (from..=until).contains(&(now.0 as f64))
        })
    }

    /// The declared window that `now` is in, or the next one.
    fn declared(&self, now: Timestamp) -> Option<SaveWindow> {
        let schedule = self.schedule?;
        let period = i64::try_from(schedule.period.as_millis()).ok()?;
        let offset = i64::try_from(schedule.offset.as_millis()).ok()?;
        let length = self.beat.map_or(LENGTH_GUESS_MS, |beat| beat.length_ms + beat.guard_ms());
        let length = Duration::from_secs_f64(length / 1_000.0).min(schedule.period / 2);
        let from = Timestamp(now.0 - (now.0.checked_sub(offset)?).rem_euclid(period));
        let from = if now < from.plus(length) { from } else { from.plus(schedule.period) };
        Some(SaveWindow { from, until: from.plus(length), source: SaveSource::Declared })
    }

    /// The window that `now` is in, or the next one, when there is a rhythm.
    #[must_use]
    pub fn next_window(&self, now: Timestamp) -> Option<SaveWindow> {
        if let Some(since) = self.told_since {
            let until = since.plus(SAVE_WAIT_MAX);
            return Some(SaveWindow { from: since, until, source: SaveSource::Told });
        }
        if let (Some(last), Some(period)) = (self.told_last, self.told_period_ms) {
            let past = now.0.saturating_sub(last.0) as f64;
            let from = last.0 as f64 + period * (past / period).ceil().max(1.0);
            return Some(window(from, from + self.told_length_ms, SaveSource::Told));
        }
        if let Some(window) = self.declared(now) {
            return Some(window);
        }
        let beat = self.beat.as_ref().filter(|beat| beat.believed())?;
        let (from, until) = beat.around(now.0 as f64);
        let ahead = if now.0 as f64 > until { beat.period_ms } else { 0.0 };
        Some(window(from + ahead, until + ahead, SaveSource::Learned))
    }

    /// Whether our own files may be written now, if that was wanted `since`: not while a save runs or is due
    /// within two seconds, but after three minutes of waiting in any case.
    #[must_use]
    pub fn may_write(&self, now: Timestamp, since: Timestamp) -> bool {
        let busy = self.in_window(now) || self.in_window(now.plus(Duration::from_secs(2)));
        !busy || now.since(since) >= SAVE_WAIT_MAX || now < since
    }

    /// The saves of late, oldest first, for charts.
    pub fn marks(&self) -> impl Iterator<Item = &SaveWindow> {
        self.marks.iter()
    }

    /// In short.
    #[must_use]
    pub fn view(&self, now: Timestamp) -> Option<SaveView> {
        let next = self.next_window(now);
        if self.told_last.is_some() {
            let period_s = self.told_period_ms.map(|period| period / 1_000.0);
            let length_s = self.told_length_ms / 1_000.0;
            return Some(SaveView {
                source: SaveSource::Told,
                period_s,
                length_s,
                confidence: 1.0,
                next,
            });
        }
        let learned = self.beat.filter(|_| self.schedule.is_none());
        let (source, period_ms, confidence) = match (self.schedule, learned) {
            (Some(schedule), _) => (SaveSource::Declared, schedule.period.as_millis() as f64, 1.0),
            (None, Some(beat)) => (SaveSource::Learned, beat.period_ms, beat.confidence),
            (None, None) => return None,
        };
        let length_s = self.beat.map_or(LENGTH_GUESS_MS, |beat| beat.length_ms) / 1_000.0;
        Some(SaveView { source, period_s: Some(period_ms / 1_000.0), length_s, confidence, next })
    }
}

fn window(from: f64, until: f64, source: SaveSource) -> SaveWindow {
    SaveWindow { from: at(from), until: at(until), source }
}

#[expect(clippy::cast_possible_truncation, reason = "milliseconds; the cast saturates")]
fn at(millis: f64) -> Timestamp {
    Timestamp(millis as i64)
}

/// A burst began: if near to where it was expected, the rhythm follows it.
fn step(beat: &mut Beat, began: f64) {
    if !beat.in_step {
        beat.anchor_ms = began;
        beat.in_step = true;
        beat.misses = beat.misses.saturating_sub(1);
        beat.jitter_ms = beat.jitter_ms.max(2_000.0);
        return;
    }
    let periods = ((began - beat.anchor_ms) / beat.period_ms).round();
    let late = began - beat.anchor_ms - periods * beat.period_ms;
    let near = (0.15 * beat.period_ms).clamp(3_000.0, 90_000.0).max(3.0 * beat.jitter_ms);
    if periods < 1.0 || late.abs() > near.min(0.4 * beat.period_ms) {
        return;
    }
    // What the search found is as exact as its bins; the first burst seen is better.
    let first = beat.hits == 0;
    beat.anchor_ms = if first { began } else { began - 0.4 * late };
    beat.period_ms += if first { 0.0 } else { 0.1 * late / periods };
    let seen = if first { 0.5 * beat.jitter_ms } else { late.abs() };
    beat.jitter_ms += 0.2 * (seen - beat.jitter_ms);
    beat.hits = beat.hits.saturating_add(1);
    beat.confidence += 0.05 * (1.0 - beat.confidence);
    beat.misses = 0;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Samples of one second; a save every `period` seconds takes `length` seconds.
    fn run(cycle: &mut SaveCycle, from: i64, until: i64, period: i64, length: i64) {
        for second in from..until {
            let noise = 2_000 + (second * 7_919 % 1_501).unsigned_abs();
            let saving = second % period < length && second >= period;
            let bytes = if saving { 4_000_000 } else { noise };
            let now = Timestamp((second + 1) * 1_000);
            cycle.sample(now, Duration::from_secs(1), Some(bytes));
            if second % 60 == 59 {
                cycle.search(now);
            }
        }
    }

    fn right_share(cycle: &mut SaveCycle, from: i64, period: i64, length: i64) -> (f64, f64) {
        let (mut saves, mut found, mut outside) = (0.0_f64, 0.0, 0.0);
        let until = from + 20 * period;
        for second in from..until {
            run(cycle, second, second + 1, period, length);
            let saving = second % period < length;
            let inside = cycle.in_window(Timestamp(second * 1_000 + 500));
            saves += f64::from(u8::from(saving));
            found += f64::from(u8::from(saving && inside));
            outside += f64::from(u8::from(!saving && inside));
        }
        (found / saves, outside / (until - from) as f64)
    }

    #[test]
    fn saves_are_learned_from_bursts_of_writing() {
        for (period, length, hours) in [(30, 3, 1), (300, 8, 2), (900, 12, 5), (3_600, 20, 10)] {
            let mut cycle = SaveCycle::new(None);
            let warm = hours * 3_600;
            run(&mut cycle, 0, warm, period, length);
            let beat = cycle.beat.unwrap_or_else(|| panic!("{period}: nothing learned"));
            assert!((beat.period_ms / 1_000.0 / period as f64 - 1.0).abs() < 0.01, "{beat:?}");
            let (found, outside) = right_share(&mut cycle, warm, period, length);
            assert!(found > 0.97, "{period}: {found} {beat:?}");
            assert!(outside < 0.25, "{period}: {outside} {beat:?}");
            assert!(cycle.marks().count() > 10);
        }
    }

    #[test]
    fn a_rhythm_that_ends_is_forgotten() {
        let mut cycle = SaveCycle::new(None);
        run(&mut cycle, 0, 3_600, 60, 4);
        assert!(cycle.beat.is_some());
        run(&mut cycle, 3_600, 3_600 + 7_200, i64::MAX, 4);
        assert_eq!(cycle.beat, None);
        assert!(!cycle.in_window(Timestamp(11_000_000)));
    }

    #[test]
    fn after_a_restart_the_rhythm_is_found_again_with_the_first_save() {
        let mut cycle = SaveCycle::new(None);
        run(&mut cycle, 0, 7_200, 300, 8);
        cycle.out_of_step();
        let now = Timestamp(7_301_000);
        assert!(!cycle.in_window(now) && cycle.next_window(now).is_none());
        // The restart moved the rhythm by 110 s.
        for second in 7_301..8_000_i64 {
            let saving = (second - 7_310) % 300 < 8 && second >= 7_310;
            let bytes = if saving { 4_000_000 } else { 3_000 };
            cycle.sample(Timestamp((second + 1) * 1_000), Duration::from_secs(1), Some(bytes));
        }
        assert!(cycle.in_window(Timestamp((7_310 + 900 + 2) * 1_000)));
        assert!(!cycle.in_window(Timestamp((7_310 + 900 + 150) * 1_000)));
    }

    #[test]
    fn told_saves_are_windows_until_they_end_or_three_minutes_passed() {
        let mut cycle = SaveCycle::new(None);
        let at = |second: i64| Timestamp(second * 1_000);
        cycle.began(at(100));
        assert!(cycle.in_window(at(104)));
        cycle.ended(at(105));
        assert!(!cycle.in_window(at(106)));
        cycle.began(at(400));
        assert!(!cycle.in_window(at(400 + 181)));
        cycle.ended(at(700));
        assert_eq!(cycle.marks().last().unwrap().until, at(580));
        let view = cycle.view(at(701)).unwrap();
        assert_eq!((view.source, view.period_s), (SaveSource::Told, Some(300.0)));
        assert_eq!(view.next.unwrap().from, at(1_000));
    }

    #[test]
    fn declared_saves_are_windows_without_any_sample() {
        let schedule =
            SaveSchedule { period: Duration::from_secs(900), offset: Duration::from_secs(60) };
        let cycle = SaveCycle::new(Some(schedule));
        let at = |second: i64| Timestamp(second * 1_000);
        assert!(cycle.in_window(at(960 + 3)));
        assert!(!cycle.in_window(at(960 - 10)));
        assert_eq!(cycle.next_window(at(1_000)).unwrap().from, at(1_860));
    }

    #[test]
    fn our_writes_wait_for_a_save_but_not_for_ever() {
        let mut cycle = SaveCycle::new(None);
        let at = |second: i64| Timestamp(second * 1_000);
        assert!(cycle.may_write(at(99), at(99)));
        cycle.began(at(100));
        assert!(!cycle.may_write(at(110), at(101)));
        cycle.began(at(270));
        assert!(cycle.may_write(at(281), at(101)));
    }

    #[test]
    fn a_game_that_writes_at_random_has_no_saves() {
        let mut state = 1_u64;
        let mut cycle = SaveCycle::new(None);
        for second in 0..36_000_i64 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let bytes = if state >> 58 == 0 { 3_000_000 } else { 2_000 };
            let now = Timestamp((second + 1) * 1_000);
            cycle.sample(now, Duration::from_secs(1), Some(bytes));
            if second % 60 == 59 {
                cycle.search(now);
            }
            assert!(!cycle.in_window(now), "{second} {:?}", cycle.beat);
        }
    }
}
