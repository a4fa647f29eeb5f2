//! What is to be kept of all wards, until a flush is due: one transaction a minute, none while a game
//! saves, at once after a crash. Bounded: what cannot be kept for long is dropped, figures first, and
//! counted. Pure: the caller hands batches to the store and tells how that went.

use std::sync::Arc;
use std::time::{Duration, Instant};

use naru_domain::Timestamp;
use naru_domain::ports::{
    WARD_BODY_BYTES_MAX, WardBatch, WardBlock, WardEvent, WardForget, WardPeak, WardPlace,
    WardRecord, WardResolution, WardVisit,
};

use super::rollup::Rollup;
use super::sample::is_due;
use crate::model::WardName;

/// How long what is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Every sample.
    pub raw: Duration,
    /// Five minutes.
    pub five_minutes: Duration,
    /// Hours.
    pub hours: Duration,
    /// Events.
    pub events: Duration,
    /// Visits that are over.
    pub visits: Duration,
}

const DAY: Duration = Duration::from_secs(24 * 3_600);

impl Default for Retention {
    fn default() -> Retention {
        Retention {
            raw: DAY,
            five_minutes: DAY * 14,
            hours: DAY * 400,
            events: DAY * 400,
            visits: DAY * 400,
        }
    }
}

/// When to flush, and how much may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingSettings {
    /// Between flushes.
    pub every: Duration,
    /// A flush that is due waits so long for a save to end.
    pub save_wait_max: Duration,
    /// Between flushes that could not wait.
    pub urgent_pause: Duration,
    /// Packed figures that wait, in bytes.
    pub blocks_bytes_max: usize,
    /// Events that wait. They outlast figures: a crash that was seen is told.
    pub events_max: usize,
    /// Visits with news that wait.
    pub visits_max: usize,
    /// How long what is kept.
    pub retention: Retention,
}

impl Default for PendingSettings {
    fn default() -> PendingSettings {
        PendingSettings {
            every: Duration::from_secs(60),
            save_wait_max: Duration::from_secs(180),
            urgent_pause: Duration::from_secs(5),
            blocks_bytes_max: 256 * 1024,
            events_max: 1_000,
            visits_max: 1_000,
            retention: Retention::default(),
        }
    }
}

/// Between looks for what is old.
const FORGET_EVERY: Duration = Duration::from_secs(10 * 60);
/// Rows of one kind that go at once: milliseconds of the writer.
const FORGET_ROWS: u16 = 1_024;
/// Peaks and records are one of each ward and kind; more wards than this do not run on a machine.
const SINGLES_MAX: usize = 2_048;

/// Whether it is time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Not yet.
    NotYet,
    /// A flush is due, but a game saves.
    WaitsForSave,
    /// Seal the blocks of all wards, [`Pending::begin`], flush, [`Pending::finish`].
    Now,
}

/// What waits to be kept.
#[derive(Debug)]
pub struct Pending {
    settings: PendingSettings,
    batch: WardBatch,
    blocks_bytes: usize,
    in_flight: Option<Arc<WardBatch>>,
    flushed: Instant,
    urgent: bool,
    forgot: Option<Instant>,
    running: u16,
    transactions: u64,
    failures: u64,
    dropped_blocks: u64,
    dropped_events: u64,
    dropped_visits: u64,
}

impl Pending {
    /// Nothing waits. The first flush is due after the usual time.
    #[must_use]
    pub fn new(settings: PendingSettings, now: Instant) -> Pending {
        Pending {
            settings,
            batch: WardBatch::default(),
            blocks_bytes: 0,
            in_flight: None,
            flushed: now,
            urgent: false,
            forgot: None,
            running: 0,
            transactions: 0,
            failures: 0,
            dropped_blocks: 0,
            dropped_events: 0,
            dropped_visits: 0,
        }
    }

    /// A place for something that happened at `at`, unlike any other.
    pub fn place(&mut self, at: Timestamp) -> WardPlace {
        self.running = self.running.wrapping_add(1);
        WardPlace::new(at, self.running)
    }

    /// Adds packed figures. If too many wait already, the oldest are dropped.
    pub fn add_block(&mut self, ward: &WardName, start: Timestamp, data: Vec<u8>) {
        self.push_block(ward, WardResolution::Raw, start, data);
    }

    /// Adds a roll-up.
    pub fn add_rollup(&mut self, ward: &WardName, rollup: &Rollup) {
        self.push_block(ward, rollup.resolution, rollup.start, rollup.encode());
    }

    fn push_block(
        &mut self,
        ward: &WardName,
        resolution: WardResolution,
        start: Timestamp,
        data: Vec<u8>,
    ) {
        if data.len() > WARD_BODY_BYTES_MAX {
            self.dropped_blocks += 1;
            return;
        }
        self.blocks_bytes += data.len();
        let (ward, data) = (Arc::from(ward.as_str()), Arc::from(data));
        self.batch.blocks.push(WardBlock { ward, resolution, start, data });
        self.bound();
    }

    /// Adds an event, which is kept with the next flush; at once if it is urgent.
    pub fn add_event(
        &mut self,
        ward: &WardName,
        kind: &str,
        body: &str,
        at: Timestamp,
        is_urgent: bool,
    ) {
        let place = self.place(at);
        let mut body_bytes = body.len().min(WARD_BODY_BYTES_MAX);
        while !body.is_char_boundary(body_bytes) {
            body_bytes -= 1;
        }
        self.batch.events.push(WardEvent {
            place,
            ward: Arc::from(ward.as_str()),
            kind: Arc::from(kind),
            body: Arc::from(&body[..body_bytes]),
        });
        self.urgent |= is_urgent;
        self.bound();
    }

    /// Adds news of a visit, in place of older news of the same one.
    pub fn add_visit(&mut self, visit: WardVisit) {
        match self.batch.visits.iter_mut().find(|waiting| waiting.place == visit.place) {
            Some(waiting) => *waiting = visit,
            None => self.batch.visits.push(visit),
        }
        self.bound();
    }

    /// Adds a record that can wait, in place of an older one. `false` if it is too large to be kept.
    pub fn add_record(&mut self, record: WardRecord) -> bool {
        if record.body.len() > WARD_BODY_BYTES_MAX {
            return false;
        }
        let same =
            |waiting: &WardRecord| waiting.ward == record.ward && waiting.part == record.part;
        let records = &mut self.batch.records;
        match records.iter().position(same) {
            Some(at) => records[at] = record,
            None if records.len() < SINGLES_MAX => records.push(record),
            None => return false,
        }
        true
    }

    /// Adds a value that was higher than any before, as far as is known here.
    pub fn add_peak(&mut self, peak: WardPeak) {
        let same = |waiting: &WardPeak| waiting.ward == peak.ward && waiting.series == peak.series;
        let peaks = &mut self.batch.peaks;
        match peaks.iter().position(same) {
            Some(at) if peaks[at].value < peak.value => peaks[at] = peak,
            None if peaks.len() < SINGLES_MAX => peaks.push(peak),
            Some(_) | None => (),
        }
    }

    /// Asks for a flush as soon as possible.
    pub fn hurry(&mut self) {
        self.urgent = true;
    }

    /// Whether a flush is due. `save_is_open` while a game is known to save.
    #[must_use]
    pub fn due(&self, now: Instant, save_is_open: bool) -> Due {
        if self.in_flight.is_some() {
            return Due::NotYet;
        }
        if self.urgent {
            let paused = is_due(Some(self.flushed), now, self.settings.urgent_pause);
            return if paused { Due::Now } else { Due::NotYet };
        }
        let PendingSettings { every, save_wait_max, .. } = self.settings;
        if !is_due(Some(self.flushed), now, every) {
            Due::NotYet
        } else if save_is_open && !is_due(Some(self.flushed), now, every + save_wait_max) {
            Due::WaitsForSave
        } else {
            Due::Now
        }
    }

    /// What to flush now, with what retention lets go. `None` if nothing waits or a flush is under way.
    pub fn begin(&mut self, wall: Timestamp, now: Instant) -> Option<Arc<WardBatch>> {
        if self.in_flight.is_some() {
            return None;
        }
        (self.urgent, self.flushed) = (false, now);
        if is_due(self.forgot, now, FORGET_EVERY) {
            self.forgot = Some(now);
            let keep = self.settings.retention;
            self.batch.forget = [
                (WardForget::Blocks(WardResolution::Raw), keep.raw),
                (WardForget::Blocks(WardResolution::FiveMinutes), keep.five_minutes),
                (WardForget::Blocks(WardResolution::Hour), keep.hours),
                (WardForget::Events, keep.events),
                (WardForget::Visits, keep.visits),
            ]
            .map(|(what, keep)| (what, wall.minus(keep), FORGET_ROWS))
            .to_vec();
        }
        if self.batch.is_empty() {
            return None;
        }
        self.blocks_bytes = 0;
        let batch = Arc::new(std::mem::take(&mut self.batch));
        self.in_flight = Some(Arc::clone(&batch));
        Some(batch)
    }

    /// How the flush went. What was not kept goes back in front, and is tried again a minute later.
    pub fn finish(&mut self, is_kept: bool) {
        let Some(batch) = self.in_flight.take() else { return };
        if is_kept {
            self.transactions += 1;
            return;
        }
        self.failures += 1;
        let mut older = Arc::unwrap_or_clone(batch);
        // Space may be had by what is let go, so that is tried again, too.
        self.forgot = None;
        older.forget.clear();
        let newer = std::mem::replace(&mut self.batch, older);
        self.batch.blocks.extend(newer.blocks);
        self.blocks_bytes = self.batch.blocks.iter().map(|block| block.data.len()).sum();
        self.batch.events.extend(newer.events);
        newer.visits.into_iter().for_each(|visit| self.add_visit(visit));
        newer.peaks.into_iter().for_each(|peak| self.add_peak(peak));
        for record in newer.records {
            // It was small enough when it was added.
            self.add_record(record);
        }
        self.bound();
    }

    /// Drops what is too much, the oldest first.
    fn bound(&mut self) {
        let PendingSettings { blocks_bytes_max, events_max, visits_max, .. } = self.settings;
        let mut surplus = 0;
        while self.blocks_bytes > blocks_bytes_max
            || self.batch.blocks.len() - surplus > SINGLES_MAX
        {
            self.blocks_bytes -= self.batch.blocks[surplus].data.len();
            surplus += 1;
        }
        self.batch.blocks.drain(..surplus);
        self.dropped_blocks += surplus as u64;
        let surplus = self.batch.events.len().saturating_sub(events_max);
        self.batch.events.drain(..surplus);
        self.dropped_events += surplus as u64;
        let surplus = self.batch.visits.len().saturating_sub(visits_max);
        self.batch.visits.drain(..surplus);
        self.dropped_visits += surplus as u64;
    }

    /// Gives memory back under pressure. What waits stays: it is small and cannot be had again.
    pub fn shed(&mut self) {
        self.batch.blocks.shrink_to_fit();
        self.batch.events.shrink_to_fit();
        self.batch.visits.shrink_to_fit();
    }

    /// Batches that were kept.
    #[must_use]
    pub fn transactions(&self) -> u64 {
        self.transactions
    }

    /// Flushes that failed.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures
    }

    /// What was dropped since it could not be kept: blocks, events, visits.
    #[must_use]
    pub fn dropped(&self) -> [u64; 3] {
        [self.dropped_blocks, self.dropped_events, self.dropped_visits]
    }

    /// Packed figures that wait, in bytes.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        self.blocks_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ward() -> WardName {
        WardName::parse("pal").unwrap()
    }

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    const WALL: Timestamp = Timestamp(1_700_000_000_000);

    fn minute(pending: &mut Pending, number: i64) {
        pending.add_block(&ward(), WALL.plus(secs(60)), vec![7; 100]);
        pending.add_event(&ward(), "joined", &number.to_string(), WALL, false);
    }

    #[test]
    fn a_flush_is_due_once_a_minute_and_waits_for_a_save_but_not_for_ever() {
        let start = Instant::now();
        let mut pending = Pending::new(PendingSettings::default(), start);
        minute(&mut pending, 0);
        assert_eq!(pending.due(start + secs(59), false), Due::NotYet);
        assert_eq!(pending.due(start + secs(60), false), Due::Now);
        for seconds in [60, 120, 239] {
            assert_eq!(pending.due(start + secs(seconds), true), Due::WaitsForSave, "{seconds}");
        }
        assert_eq!(pending.due(start + secs(240), true), Due::Now);
        assert!(pending.begin(WALL, start + secs(240)).is_some());
        assert_eq!(pending.due(start + secs(400), false), Due::NotYet, "one at a time");
        assert_eq!(pending.begin(WALL, start + secs(400)), None);
        pending.finish(true);
        assert_eq!(pending.due(start + secs(299), false), Due::NotYet);
        assert_eq!(pending.due(start + secs(300), false), Due::Now);
        assert_eq!(pending.transactions(), 1);
    }

    #[test]
    fn a_crash_is_kept_at_once_even_while_another_game_saves() {
        let start = Instant::now();
        let mut pending = Pending::new(PendingSettings::default(), start);
        pending.add_event(&ward(), "crashed", "{}", WALL, true);
        assert_eq!(pending.due(start + secs(5), true), Due::Now);
        let batch = pending.begin(WALL, start + secs(5)).unwrap();
        assert_eq!(&*batch.events[0].kind, "crashed");
        pending.finish(true);
        // A crash loop does not become a loop of flushes.
        pending.add_event(&ward(), "crashed", "{}", WALL, true);
        assert_eq!(pending.due(start + secs(6), false), Due::NotYet);
        assert_eq!(pending.due(start + secs(10), false), Due::Now);
    }

    #[test]
    fn what_could_not_be_kept_waits_in_order_and_is_tried_again() {
        let start = Instant::now();
        let mut pending = Pending::new(PendingSettings::default(), start);
        minute(&mut pending, 0);
        let refused = pending.begin(WALL, start + secs(60)).unwrap();
        assert!(!refused.forget.is_empty());
        minute(&mut pending, 1);
        drop(refused);
        pending.finish(false);
        assert_eq!(pending.due(start + secs(119), false), Due::NotYet, "no hammering");
        let batch = pending.begin(WALL, start + secs(120)).unwrap();
        let bodies: Vec<&str> = batch.events.iter().map(|event| &*event.body).collect();
        assert_eq!((bodies, batch.blocks.len()), (vec!["0", "1"], 2));
        assert!(!batch.forget.is_empty(), "letting go may make space");
        assert!(batch.events[0].place < batch.events[1].place);
        pending.finish(true);
        assert_eq!((pending.failures(), pending.dropped()), (1, [0; 3]));
    }

    #[test]
    fn a_store_that_fails_for_days_costs_bounded_memory_and_the_oldest_figures() {
        let mut now = Instant::now();
        let settings = PendingSettings { events_max: 50, visits_max: 10, ..Default::default() };
        let mut pending = Pending::new(settings, now);
        for number in 0..10_000 {
            minute(&mut pending, number);
            let place = pending.place(Timestamp(number));
            pending.add_visit(WardVisit {
                place,
                ward: Arc::from("pal"),
                name: Arc::from("x"),
                player: None,
                seen: WALL,
                left: None,
            });
            now += secs(60);
            if number % 3 == 0 {
                pending.begin(WALL, now);
                minute(&mut pending, number);
                pending.finish(false);
            }
            assert!(pending.waiting_bytes() <= settings.blocks_bytes_max);
        }
        let batch = pending.begin(WALL, now).unwrap();
        let kept: usize = batch.blocks.iter().map(|block| block.data.len()).sum();
        assert!(kept > settings.blocks_bytes_max / 2 && batch.blocks.len() <= SINGLES_MAX);
        assert_eq!((batch.events.len(), batch.visits.len()), (50, 10));
        assert_eq!(&*batch.events[49].body, "9999");
        let [blocks, events, visits] = pending.dropped();
        assert_eq!(blocks + batch.blocks.len() as u64, 13_334);
        assert_eq!((events, visits), (13_334 - 50, 9_990));
    }

    #[test]
    fn newer_news_replaces_older_news() {
        let now = Instant::now();
        let mut pending = Pending::new(PendingSettings::default(), now);
        let record = |body: &str| WardRecord {
            ward: Arc::from("pal"),
            part: Arc::from("learn"),
            body: Arc::from(body),
            at: WALL,
        };
        assert!(pending.add_record(record("1")) && pending.add_record(record("2")));
        assert!(!pending.add_record(record(&"x".repeat(WARD_BODY_BYTES_MAX + 1))));
        let peak = |value| WardPeak { ward: Arc::from("pal"), series: 5, value, at: WALL };
        for value in [3, 9, 4] {
            pending.add_peak(peak(value));
        }
        let batch = pending.begin(WALL, now).unwrap();
        assert_eq!((&batch.records[..], &batch.peaks[..]), (&[record("2")][..], &[peak(9)][..]));
        // Told while the flush is under way, and the flush fails.
        pending.add_record(record("3"));
        pending.add_peak(peak(5));
        pending.finish(false);
        let batch = pending.begin(WALL, now).unwrap();
        assert_eq!((&batch.records[..], &batch.peaks[..]), (&[record("3")][..], &[peak(9)][..]));
    }

    #[test]
    fn a_body_that_is_too_long_is_cut_at_a_character() {
        let now = Instant::now();
        let mut pending = Pending::new(PendingSettings::default(), now);
        pending.add_event(&ward(), "log", &"é".repeat(WARD_BODY_BYTES_MAX), WALL, false);
        let batch = pending.begin(WALL, now).unwrap();
        assert!(batch.events[0].body.len() <= WARD_BODY_BYTES_MAX);
    }
}
