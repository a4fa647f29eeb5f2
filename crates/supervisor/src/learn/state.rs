//! What was learned as bytes, so that a restart of Naru forgets nothing: about 16 KiB, to be written once an hour.
//! The bytes may be damaged: reading them is bounded, and wrong ones are refused as a whole.

use naru_domain::Timestamp;

use super::habit::{Habit, Spread};
use super::history::QUARTERS;
use super::leak::{CURVE, LAGS, LANES, Lane, LeakWatch, Usual};
use super::learner::{LearnSettings, Learner};
use super::level::Watch;
use super::saves::Beat;
use super::trend::MINUTES;
use super::words::{SERIES_COUNT, Series};

const MAGIC: [u8; 4] = *b"NWL\x02";
/// No snapshot is larger (issue 4: 1 MiB an hour for three wards, most of it for samples).
pub const SNAPSHOT_BYTES_MAX: usize = 16 * 1_024;

/// Why a snapshot was refused. The learner begins anew then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// Not a snapshot, or one of another version.
    #[error("not a snapshot of this version")]
    Version,
    /// It ends too early, goes on too long, or holds what cannot be.
    #[error("the snapshot is damaged")]
    Damaged,
}

impl Learner {
    /// All that was learned; open alerts and the present minute are left out.
    #[must_use]
    pub fn snapshot(&self) -> Vec<u8> {
        let mut to = Vec::with_capacity(SNAPSHOT_BYTES_MAX);
        to.extend(MAGIC);
        put_i64(&mut to, self.history.quarter);
        put_i64(&mut to, self.started_at.map_or(i64::MIN, |at| at.0));
        for cell in &self.history.cells {
            cell.iter().for_each(|value| to.extend(value.to_le_bytes()));
        }
        for watch in &self.watches {
            watch.spread.counts.iter().for_each(|count| to.extend(count.to_le_bytes()));
            watch.habits.iter().for_each(|habit| put_habit(&mut to, habit));
        }
        self.leak.lanes.iter().for_each(|lane| put_lane(&mut to, lane));
        put_habit(&mut to, &self.gone_habit);
        put_beat(&mut to, self.saves.beat.as_ref());
        // The newest minute is dated, so that a restore after a pause leaves the pause out.
        put_i64(&mut to, self.minute_at.map_or(i64::MIN, |at| at.0));
        let count = u16::try_from(self.trend.minutes.len()).unwrap_or(u16::MAX);
        to.extend(count.to_le_bytes());
        for (bytes, players) in &self.trend.minutes {
            to.extend(bytes.to_le_bytes());
            to.extend(players.to_le_bytes());
        }
        to
    }

    /// A learner that goes on where the one that gave the snapshot stood.
    ///
    /// # Errors
    /// [`RestoreError`]: begin with [`Learner::new`] instead.
    pub fn restore(settings: LearnSettings, snapshot: &[u8]) -> Result<Learner, RestoreError> {
        let mut from = Reader(snapshot.strip_prefix(&MAGIC).ok_or(RestoreError::Version)?);
        let mut learner = Learner::new(settings);
        learner.history.quarter = from.i64()?;
        learner.started_at = from.moment()?;
        for cell in &mut learner.history.cells {
            for value in cell {
                *value = from.u16()?;
            }
        }
        for watch in &mut learner.watches {
            for count in &mut watch.spread.counts {
                *count = from.u16()?;
            }
            for habit in &mut watch.habits {
                *habit = from.habit()?;
            }
        }
        for lane in &mut learner.leak.lanes {
            from.lane(lane)?;
        }
        learner.gone_habit = from.habit()?;
        learner.saves.beat = from.beat()?;
        learner.minute_at = from.moment()?;
        let count = usize::from(from.u16()?);
        if count > MINUTES {
            return Err(RestoreError::Damaged);
        }
        for _ in 0..count {
            let minute = (from.f32()?, from.f32()?);
            learner.trend.minutes.push_back(minute);
        }
        if !from.0.is_empty() {
            return Err(RestoreError::Damaged);
        }
        Series::ALL.into_iter().for_each(|series| learner.fit(series));
        Ok(learner)
    }
}

fn put_i64(to: &mut Vec<u8>, value: i64) {
    to.extend(value.to_le_bytes());
}

fn put_habit(to: &mut Vec<u8>, habit: &Habit) {
    to.extend(habit.day.to_le_bytes());
    to.extend(habit.today.to_le_bytes());
    to.extend([u8::from(habit.seen_today), habit.known]);
    habit.past.iter().for_each(|past| to.extend(past.to_le_bytes()));
}

fn put_lane(to: &mut Vec<u8>, lane: &Lane) {
    let fit = &lane.fit;
    let numbers = fit.squares.iter().chain(&fit.products).chain([&fit.minutes, &fit.scale]);
    numbers.for_each(|number| to.extend(number.to_le_bytes()));
    for usual in &lane.curve {
        to.extend(usual.rate.to_le_bytes());
        to.push(usual.runs);
    }
    lane.habits.iter().for_each(|habit| put_habit(to, habit));
}

fn put_beat(to: &mut Vec<u8>, beat: Option<&Beat>) {
    to.push(u8::from(beat.is_some()));
    let Some(beat) = beat else { return };
    for value in [
        beat.period_ms,
        beat.anchor_ms,
        beat.length_ms,
        beat.jitter_ms,
        beat.confidence,
        beat.threshold,
    ] {
        to.extend(value.to_le_bytes());
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], RestoreError> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(RestoreError::Damaged)?;
        self.0 = rest;
        Ok(*head)
    }

    fn u16(&mut self) -> Result<u16, RestoreError> {
        self.take().map(u16::from_le_bytes)
    }

    fn i64(&mut self) -> Result<i64, RestoreError> {
        self.take().map(i64::from_le_bytes)
    }

    fn f32(&mut self) -> Result<f32, RestoreError> {
        self.take().map(f32::from_le_bytes)
    }

    fn moment(&mut self) -> Result<Option<Timestamp>, RestoreError> {
        Ok(Some(self.i64()?).filter(|at| *at != i64::MIN).map(Timestamp))
    }

    /// A number that was measured: neither infinite nor below zero.
    fn amount(&mut self) -> Result<f32, RestoreError> {
        let value = self.f32()?;
        (value.is_finite() && value >= 0.0).then_some(value).ok_or(RestoreError::Damaged)
    }

    fn habit(&mut self) -> Result<Habit, RestoreError> {
        let day = self.take().map(u32::from_le_bytes)?;
        let today = self.amount()?;
        let [seen, known] = self.take()?;
        if seen > 1 || usize::from(known) > Habit::DAYS {
            return Err(RestoreError::Damaged);
        }
        let mut past = [0.0; Habit::DAYS];
        for value in &mut past {
            *value = self.amount()?;
        }
        Ok(Habit { day, today, seen_today: seen == 1, past, known })
    }

    fn number(&mut self) -> Result<f32, RestoreError> {
        let value = self.f32()?;
        value.is_finite().then_some(value).ok_or(RestoreError::Damaged)
    }

    fn lane(&mut self, lane: &mut Lane) -> Result<(), RestoreError> {
        for square in &mut lane.fit.squares {
            *square = self.amount()?;
        }
        for product in &mut lane.fit.products {
            *product = self.number()?;
        }
        (lane.fit.minutes, lane.fit.scale) = (self.amount()?, self.amount()?);
        for usual in &mut lane.curve {
            *usual = Usual { rate: self.number()?, runs: u8::from_le_bytes(self.take()?) };
        }
        for habit in &mut lane.habits {
            *habit = self.habit()?;
        }
        lane.effect = lane.fit.effect();
        Ok(())
    }

    fn beat(&mut self) -> Result<Option<Beat>, RestoreError> {
        match self.take()? {
            [0_u8] => return Ok(None),
            [1] => (),
            _ => return Err(RestoreError::Damaged),
        }
        let mut values = [0.0_f64; 6];
        for value in &mut values {
            *value = self.take().map(f64::from_le_bytes)?;
        }
        let [period_ms, anchor_ms, length_ms, jitter_ms, confidence, threshold] = values;
        let beat = Beat {
            period_ms,
            anchor_ms,
            length_ms,
            jitter_ms,
            confidence,
            threshold,
            hits: 1,
            misses: 0,
            // The first burst shows whether the rhythm went on meanwhile.
            in_step: false,
        };
        beat.is_possible().then_some(Some(beat)).ok_or(RestoreError::Damaged)
    }
}

const HABIT_BYTES: usize = 4 + 4 + 2 + 4 * Habit::DAYS;
const HABITS: usize = 5 * Watch::HABITS + LeakWatch::HABITS + 1;
const LANE_BYTES: usize = (2 * LAGS + 2) * 4 + CURVE * 5;
const FIXED_BYTES: usize = 4 + 8 + 8 + 5 * 2 * Spread::BINS + 49 + 8 + 2;
const _: () = assert!(
    FIXED_BYTES
        + QUARTERS * SERIES_COUNT * 2
        + HABITS * HABIT_BYTES
        + LANES * LANE_BYTES
        + MINUTES * 8
        <= SNAPSHOT_BYTES_MAX
);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::simulate::{GameKind, Ward};
    use super::*;

    fn learned() -> &'static Learner {
        static LEARNED: std::sync::LazyLock<Learner> = std::sync::LazyLock::new(|| {
            let mut ward = Ward::new(GameKind::Blocks, 3, 30.0);
            ward.run_until(1.2 * 86_400.0);
            ward.learner
        });
        &LEARNED
    }

    #[test]
    fn a_restored_learner_knows_what_was_learned_and_goes_on() {
        let learner = learned();
        let snapshot = learner.snapshot();
        assert!(snapshot.len() <= SNAPSHOT_BYTES_MAX, "{}", snapshot.len());
        let restored = Learner::restore(LearnSettings::default(), &snapshot).unwrap();
        assert_eq!(restored.snapshot(), snapshot);
        let now = learner.minute_at.unwrap();
        assert_eq!(restored.view(now).warmup, learner.view(now).warmup);
        assert!(!restored.view(now).baselines.is_empty());
    }

    #[test]
    fn damage_is_refused() {
        let snapshot = learned().snapshot();
        let restore = |bytes: &[u8]| Learner::restore(LearnSettings::default(), bytes).err();
        assert_eq!(restore(b""), Some(RestoreError::Version));
        assert_eq!(restore(b"NWL\x01"), Some(RestoreError::Version));
        assert_eq!(restore(&snapshot[..snapshot.len() - 1]), Some(RestoreError::Damaged));
        assert_eq!(restore(&[&snapshot[..], b"x"].concat()), Some(RestoreError::Damaged));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        #[test]
        fn any_damage_is_refused_or_harmless(at in 0..12_000_usize, value: u8) {
            let mut bytes = learned().snapshot();
            let at = at % bytes.len();
            bytes[at] = value;
            super::super::checks::check_restore(&bytes);
        }
    }
}
