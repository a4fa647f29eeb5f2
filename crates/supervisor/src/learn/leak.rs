//! Memory that grows though nobody joined, as a sequential test: growth that players, a collector's saw teeth, new
//! maps and the age of the process do not explain is summed up minute by minute until it is unlike this ward
//! (a CUSUM, Page 1954). What lasts for hours is `trend`'s; the words of the alert are written elsewhere.

use super::habit::Habit;
use super::robust::{floor_index, median, narrow};

/// Lanes look at the same memory: its minutes, and its lowest of so many minutes. A collector's saw teeth hide what
/// is held in all lanes that are shorter than they are; each lane learns by itself how restless it is.
pub(super) const WIDTHS: [usize; 5] = [4, 3, 6, 10, 16];
pub(super) const LANES: usize = WIDTHS.len();
/// Memory follows players by so many minutes, each a third longer than the one before: 0.5 to 45.
pub(super) const LAGS: usize = 16;
const LAG_FIRST: f64 = 0.5;
const LAG_GROWTH: f64 = 1.35;
/// Players' effect is fitted to changes over so many minutes, so that slow growth says nothing.
const REACH: usize = 16;
const RING: usize = 2 * REACH + 1;
/// Fits forget with a half-life of about three days.
const FIT_KEEP: f64 = 1.0 - 1.0 / (4.0 * 1_440.0);
/// Minutes of fitting before anything counts.
const FIT_MINUTES_MIN: f32 = 2_500.0;
/// Growth an hour that is let pass; half of the leak that is to be found (2 %) would be quickest by theory, a
/// little less costs nothing where memory is quiet.
const LET_PASS: f64 = 0.006;
/// Sum of growth from which it is a leak in the quietest ward, while young and later: 2 % an hour reach the latter
/// within 20 minutes.
const BAR_MIN: [f64; AGES] = [0.01, 0.003];
/// How much more than the largest of the ward's own days.
const MARGIN: f64 = 1.25;
/// And so much more, divided by the days that are known.
const MARGIN_YOUNG: f64 = 1.2;
/// Sums are held at so many bars, so that an alert closes soon after the growth ended.
const HELD: f64 = 2.0;
/// What one look of a wide lane may add, in bars: a step is no leak, nor are two.
const PIECE_MOST: f64 = 0.45;
const PIECE_NET: f64 = 0.2;
/// Increments a minute among which a step stands out, and by how much: in medians of what is usual, and as a share.
const STEPS: usize = 9;
const STEP_SCALES: f64 = 7.0;
const STEP_MIN: f64 = 0.000_8;
/// A lane that is so much more restless than the best is no help.
const LANE_MOST: f64 = 2.0;
/// Growth after a start is learned in quarter hours for 12 hours, then in hours up to two days.
const CURVE_FINE: usize = 48;
pub(super) const CURVE: usize = CURVE_FINE + 36;
/// A run counts for so much of the curve at least.
const CURVE_SHARE_MIN: f64 = 0.15;
/// How wrong the curve may be, as a share of it: after many runs, and so much more after the first.
const CURVE_DOUBT: f64 = 0.06;
const CURVE_DOUBT_FIRST: f64 = 0.4;
/// Up to this age a process is young, and has habits of its own.
const YOUNG_MIN: f64 = 240.0;
pub(super) const AGES: usize = 2;
const DAYS_NEEDED: [u8; AGES] = [3, 3];

/// A leak that was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Found {
    /// Share of the memory in use, per hour, and what was let pass.
    pub(super) per_hour: f64,
    pub(super) bar: f64,
    /// Half width of its interval.
    pub(super) doubt: f64,
    pub(super) minutes: u32,
    /// The sum in bars.
    pub(super) times_bar: f64,
    pub(super) sum: f64,
    pub(super) level: f64,
}

#[derive(Clone, Copy, Debug)]
struct Row {
    mean: f32,
    /// The mean without steps, since the process began.
    clean: f64,
    lowest: f32,
    players: [f32; LAGS],
}

/// Growth at one age, as learned from runs before.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Usual {
    /// Share an hour.
    pub(super) rate: f32,
    pub(super) runs: u8,
}

/// How memory follows players: sums of squares and products of changes, for each lag.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Fit {
    pub(super) squares: [f32; LAGS],
    pub(super) products: [f32; LAGS],
    pub(super) minutes: f32,
    pub(super) scale: f32,
}

impl Fit {
    /// The lag that explains most, and bytes per player.
    pub(super) fn effect(&self) -> (usize, f64) {
        let mut best = (0, 0.0, 0.0);
        for (lag, (square, product)) in self.squares.iter().zip(&self.products).enumerate() {
            let (square, product) = (f64::from(*square), f64::from(*product));
            let explained =
                if square > 0.0 && product > 0.0 { product * product / square } else { 0.0 };
            if explained > best.2 {
                best = (lag, product / square, explained);
            }
        }
        (best.0, best.1)
    }

    fn add(&mut self, rise: f64, players: &[f64; LAGS], lag: usize, per_player: f64) {
        let rest = rise - per_player * players[lag];
        let scale = f64::from(self.scale);
        // Wild changes count as if they were three scales from what is expected; until the scale is known, all.
        let most = if self.minutes < 60.0 { f64::INFINITY } else { 3.0 * scale };
        let rise = rise - rest + rest.clamp(-most, most);
        let share = (1.0 / (1.0 + f64::from(self.minutes))).max(0.003);
        self.scale = narrow(scale + share * (rest.abs().min(2.0 * most) * 1.25 - scale));
        for (at, change) in players.iter().enumerate() {
            let keep = |sum: f32, term: f64| narrow(f64::from(sum) * FIT_KEEP + term);
            self.squares[at] = keep(self.squares[at], change * change);
            self.products[at] = keep(self.products[at], change * rise);
        }
        self.minutes = narrow((f64::from(self.minutes) * FIT_KEEP) + 1.0);
    }
}

/// One way to look at memory.
#[derive(Clone, Debug)]
pub(super) struct Lane {
    width: usize,
    /// The first one takes means, without steps; the others what is held at least.
    means: bool,
    pub(super) fit: Fit,
    pub(super) curve: [Usual; CURVE],
    pub(super) habits: [Habit; AGES],
    pub(super) effect: (usize, f64),
    /// Memory and players when it was last looked at, and minutes since.
    last: Option<(f64, [f32; LAGS])>,
    minutes: usize,
    sum: f64,
    rises: u32,
    /// Largest sum since no alert was open.
    peak: f64,
    /// Which habits were last looked at.
    old: usize,
    grown: f64,
    since: u32,
    /// Growth within the present piece of the curve, over how many minutes; and of the pieces before.
    piece: (usize, f64, f64),
    rates: [f64; 4],
    pieces: usize,
}

impl Lane {
    fn new(width: usize, means: bool) -> Lane {
        Lane {
            width,
            means,
            fit: Fit::default(),
            curve: [Usual::default(); CURVE],
            habits: [Habit::default(); AGES],
            effect: (0, 0.0),
            last: None,
            minutes: 0,
            sum: 0.0,
            rises: 0,
            peak: 0.0,
            old: 0,
            grown: 0.0,
            since: 0,
            piece: (0, 0.0, 0.0),
            rates: [0.0; 4],
            pieces: 0,
        }
    }

    fn restart(&mut self) {
        let fresh = Lane::new(self.width, self.means);
        let (fit, curve, habits) = (self.fit, self.curve, self.habits);
        *self = Lane { fit, curve, habits, effect: self.effect, ..fresh };
    }

    /// Memory of the newest `width` minutes that end `back` minutes ago, and players then: the least, players'
    /// effect removed; of the first lane the mean.
    fn held(&self, rows: &[Row], back: usize) -> Option<(f64, [f32; LAGS])> {
        let end = rows.len().checked_sub(back)?;
        let from = end.checked_sub(self.width)?;
        let known = rows[from..end].iter().filter(|row| row.mean.is_finite());
        // A trough that nobody saw looks like growth.
        if !self.means && known.clone().count() + 1 < self.width {
            return None;
        }
        if self.means {
            let (mut sum, mut players, mut count) = (0.0, [0.0; LAGS], 0.0_f32);
            for row in known {
                sum += row.clean;
                players.iter_mut().zip(row.players).for_each(|(sum, players)| *sum += players);
                count += 1.0;
            }
            let enough = count * 2.0 > self.width as f32;
            return enough.then(|| (sum / f64::from(count), players.map(|sum| sum / count)));
        }
        let (lag, per_player) = self.effect;
        let own = |row: &Row| f64::from(row.lowest) - per_player * f64::from(row.players[lag]);
        let lowest = known.min_by(|left, right| own(left).total_cmp(&own(right)))?;
        Some((f64::from(lowest.lowest), lowest.players))
    }

    fn follow(&mut self, rows: &[Row]) {
        let (Some(now), Some(then)) = (self.held(rows, 0), self.held(rows, REACH)) else { return };
        let players = std::array::from_fn(|lag| f64::from(now.1[lag] - then.1[lag]));
        let (lag, per_player) = self.effect;
        self.fit.add(now.0 - then.0, &players, lag, per_player);
    }

    /// Growth since it was last looked at; none while it is too early to look again.
    fn growth(&mut self, rows: &[Row], level: f64, bar: f64) -> Option<(f64, f64)> {
        self.minutes += 1;
        let (value, players_now) = self.held(rows, 0)?;
        let Some((before, players)) = self.last else {
            (self.last, self.minutes) = (Some((value, players_now)), 0);
            return None;
        };
        if self.minutes < (self.width / 4).max(1) {
            return None;
        }
        let minutes = self.minutes as f64;
        let (lag, per_player) = self.effect;
        let joined = f64::from(players_now[lag] - players[lag]);
        let grown = (value - before - per_player * joined) / level;
        (self.last, self.minutes) = (Some((value, players_now)), 0);
        if self.means {
            return Some((grown, minutes));
        }
        // A trough shows the growth of a whole tooth, of which so much is let pass before the next one.
        let passed = LET_PASS / 60.0 * self.width as f64;
        let most = (PIECE_MOST * bar).max(PIECE_NET * bar + passed);
        Some((grown.clamp(-2.0 * bar, most), minutes))
    }

    /// What growth an hour is usual at this age, and how wrong that may be.
    fn usual(&self, age_min: Option<f64>) -> Option<(f64, f64)> {
        let Some(piece) = age_min.and_then(piece_of) else { return Some((0.0, 0.0)) };
        let usual = self.curve[piece];
        if usual.runs > 0 {
            let rate = self.between(piece, age_min.unwrap_or(0.0));
            let doubt = CURVE_DOUBT + CURVE_DOUBT_FIRST / f64::from(usual.runs);
            // Memory that shrank at this age in runs before need not do so again.
            return Some((rate.max(0.0), doubt * rate.abs()));
        }
        if self.pieces < self.rates.len() {
            return None;
        }
        // Never seen at this age: caches fill ever more slowly, so the pieces before tell what is the most.
        let rate = self.rates.iter().sum::<f64>() / self.rates.len() as f64;
        Some((rate.max(0.0), 0.25 * rate.abs()))
    }

    /// Between the middles of two pieces, between their rates.
    fn between(&self, piece: usize, age_min: f64) -> f64 {
        let own = f64::from(self.curve[piece].rate);
        let length = if piece < CURVE_FINE { 15.0 } else { 60.0 };
        let off = (age_min % length) / length - 0.5;
        let other = if off < 0.0 { piece.wrapping_sub(1) } else { piece + 1 };
        match self.curve.get(other) {
            Some(usual) if usual.runs > 0 => own + off.abs() * (f64::from(usual.rate) - own),
            _ => own,
        }
    }

    fn learn_curve(&mut self, age_min: Option<f64>, grown: f64, minutes: f64, open: bool) {
        let piece = age_min.and_then(piece_of).unwrap_or(CURVE);
        if piece != self.piece.0 {
            let (at, grown, minutes) = self.piece;
            if minutes >= 8.0 {
                let rate = grown / minutes * 60.0;
                self.rates.rotate_left(1);
                self.rates[3] = rate;
                self.pieces += 1;
                if let Some(usual) = self.curve.get_mut(at).filter(|_| !open) {
                    usual.learn(rate);
                }
            }
            self.piece = (piece, 0.0, 0.0);
        }
        self.piece.1 += grown;
        self.piece.2 += minutes;
    }

    fn judge(
        &mut self,
        rows: &[Row],
        level: f64,
        age_min: Option<f64>,
        day: u32,
        open: bool,
    ) -> Option<Found> {
        let old = usize::from(age_min.is_none_or(|age| age >= YOUNG_MIN));
        if std::mem::replace(&mut self.old, old) != old {
            // What a young process did is no habit of an old one.
            (self.sum, self.rises) = (0.0, 0);
        }
        self.follow(rows);
        let bar = self.bar(old);
        let looked = self.growth(rows, level, bar);
        self.since += 1;
        if let Some((grown, minutes)) = looked {
            self.grown += grown;
            self.learn_curve(age_min, grown, minutes, open);
            let Some((rate, doubt)) = self.usual(age_min) else {
                (self.sum, self.rises) = (0.0, 0);
                return None;
            };
            let more = grown - (rate + doubt + LET_PASS) / 60.0 * minutes;
            self.rises += u32::from(more > 0.0);
            self.sum = (self.sum + more).max(0.0);
            if self.sum == 0.0 {
                (self.rises, self.grown, self.since) = (0, 0.0, 0);
            }
        }
        let fitted = self.fit.minutes >= FIT_MINUTES_MIN;
        let habit = &mut self.habits[old];
        if !open && fitted {
            habit.observe(day, self.sum);
        }
        let needed = DAYS_NEEDED[old];
        let known = habit.days();
        let found = fitted && known >= needed && self.sum > bar && self.rises >= 2;
        let sum = self.sum;
        self.peak = if open { self.peak.max(sum) } else { sum };
        self.sum = self.sum.min(HELD * bar);
        let hours = f64::from(self.since.max(1)) / 60.0;
        found.then_some(Found {
            per_hour: self.grown / hours,
            bar: LET_PASS,
            doubt: bar / 2.0 / hours,
            minutes: self.since,
            times_bar: sum / bar,
            sum,
            level,
        })
    }
}

impl Lane {
    fn bar(&self, age: usize) -> f64 {
        let habit = &self.habits[age];
        BAR_MIN[age].max(habit.bar(MARGIN + MARGIN_YOUNG / f64::from(habit.days().max(1))))
    }
}

impl Usual {
    fn learn(&mut self, rate: f64) {
        let share = (1.0 / (1.0 + f64::from(self.runs))).max(CURVE_SHARE_MIN);
        self.rate = narrow(f64::from(self.rate) + share * (rate - f64::from(self.rate)));
        self.runs = self.runs.saturating_add(1);
    }
}

/// The piece of the curve of this age; none beyond two days.
fn piece_of(age_min: f64) -> Option<usize> {
    let fine = floor_index(age_min / 15.0);
    let piece =
        if fine < CURVE_FINE { fine } else { CURVE_FINE + floor_index(age_min / 60.0) - 12 };
    (piece < CURVE).then_some(piece)
}

/// Takes steps out of memory: a new map, a big base that was loaded. A step among the last increments is replaced
/// by their median (Hampel's filter).
#[derive(Clone, Debug, Default)]
struct Steps {
    /// Memory and players of the last known minute, minutes since, and the sum of what is no step.
    last: Option<(f64, [f64; LAGS])>,
    minutes: f64,
    clean: f64,
    increments: [f64; STEPS],
    known: usize,
    /// The median of what increments are off.
    scale: f64,
}

impl Steps {
    fn clean(&mut self, bytes: f64, players: &[f64; LAGS], effect: (usize, f64)) -> f64 {
        self.minutes += 1.0;
        if !bytes.is_finite() {
            return f64::NAN;
        }
        let Some((before, joined)) = self.last.replace((bytes, *players)) else {
            (self.clean, self.minutes) = (bytes, 0.0);
            return bytes;
        };
        let (lag, per_player) = effect;
        let explained = per_player * (players[lag] - joined[lag]);
        let rate = (bytes - before - explained) / self.minutes;
        let mut around = self.increments;
        let count = self.known.min(STEPS);
        let middle = median(&mut around[..count]).unwrap_or(0.0);
        let off = (rate - middle).abs();
        let wild = count < 4
            || off * self.minutes.sqrt() > (STEP_SCALES * self.scale).max(STEP_MIN * bytes);
        self.increments[self.known % STEPS] = rate;
        self.known += 1;
        // Follows the median: as often up as down, however wild.
        let scale = self.scale.max(1e-6 * bytes);
        self.scale = if off > scale { scale * 1.03 } else { scale / 1.03 };
        self.clean += explained + self.minutes * if wild { middle } else { rate };
        self.minutes = 0.0;
        self.clean
    }
}

/// All lanes of a ward's memory.
#[derive(Clone, Debug)]
pub(super) struct LeakWatch {
    rows: std::collections::VecDeque<Row>,
    players: [f64; LAGS],
    keeps: [f64; LAGS],
    pub(super) lanes: [Lane; LANES],
    turn: u32,
    steps: Steps,
}

impl LeakWatch {
    pub(super) const HABITS: usize = LANES * AGES;

    pub(super) fn new() -> LeakWatch {
        LeakWatch {
            rows: std::collections::VecDeque::with_capacity(RING),
            players: [f64::NAN; LAGS],
            keeps: std::array::from_fn(|lag| {
                (-1.0 / (LAG_FIRST * LAG_GROWTH.powf(lag as f64))).exp()
            }),
            lanes: std::array::from_fn(|lane| Lane::new(WIDTHS[lane], lane == 0)),
            turn: 0,
            steps: Steps::default(),
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.rows.capacity() * size_of::<Row>()
    }

    /// A new process, or a gap: nothing before is compared with what comes.
    pub(super) fn restart(&mut self) {
        self.rows.clear();
        self.lanes.iter_mut().for_each(Lane::restart);
        self.steps = Steps { scale: self.steps.scale, ..Steps::default() };
    }

    /// A minute's mean and lowest; NaN for one that was disturbed. Players NaN: not known.
    pub(super) fn push(&mut self, mean: f64, lowest: f64, players: f64) {
        let players = if players.is_finite() { players } else { 0.0 };
        let mut within = [0.0; LAGS];
        for ((smooth, keep), within) in self.players.iter_mut().zip(self.keeps).zip(&mut within) {
            let before = if smooth.is_nan() { players } else { *smooth };
            *smooth = players + keep * (before - players);
            // Memory is the minute's mean, so this is, too.
            *within = (before + *smooth) / 2.0;
        }
        if self.rows.len() == RING {
            self.rows.pop_front();
        }
        let players = within.map(narrow);
        let clean = self.steps.clean(mean, &within, self.lanes[0].effect);
        let (mean, lowest) = (narrow(mean), narrow(lowest));
        self.rows.push_back(Row { mean, lowest, clean, players });
    }

    /// Looks at the minute that was pushed last.
    pub(super) fn judge(&mut self, age_min: Option<f64>, day: u32, open: bool) -> Option<Found> {
        self.turn = self.turn.wrapping_add(1);
        let rows = self.rows.make_contiguous();
        let level = f64::from(rows.last()?.mean);
        if !level.is_finite() || level <= 0.0 {
            return None;
        }
        let age = usize::from(age_min.is_none_or(|age| age >= YOUNG_MIN));
        let bars = self.lanes.each_ref().map(|lane| lane.bar(age));
        let best = bars.iter().copied().fold(f64::INFINITY, f64::min);
        let mut most: Option<Found> = None;
        for lane in &mut self.lanes {
            if self.turn % 60 == 1 {
                lane.effect = lane.fit.effect();
            }
            let found = lane.judge(rows, level, age_min, day, open);
            let found = found.filter(|_| lane.bar(age) <= LANE_MOST * best);
            if most.is_none_or(|most| found.is_some_and(|found| found.times_bar > most.times_bar)) {
                most = found.or(most);
            }
        }
        most
    }

    /// What was taken for a leak went away by itself: it is one of the ward's ways.
    pub(super) fn learn(&mut self, age_min: Option<f64>, day: u32) {
        let age = usize::from(age_min.is_none_or(|age| age >= YOUNG_MIN));
        for lane in &mut self.lanes {
            lane.habits[age].learn(day, lane.peak);
        }
    }

    /// The sum of growth that would be told as a leak of an old process; none while too little is known.
    pub(super) fn bar(&self) -> Option<f64> {
        let known = |lane: &&Lane| {
            lane.fit.minutes >= FIT_MINUTES_MIN && lane.habits[1].days() >= DAYS_NEEDED[1]
        };
        self.lanes.iter().filter(known).map(|lane| lane.bar(1)).min_by(f64::total_cmp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEVEL: f64 = 4e9;
    const QUIET: usize = 6 * 1_440;

    fn noise(at: usize) -> f64 {
        let mut state = (at as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        state ^= state >> 29;
        state = state.wrapping_mul(0xBF58_476D_1CE4_E5B9);
        state ^= state >> 32;
        (state % 2_001) as f64 / 1_000.0 - 1.0
    }

    fn quiet(minute: usize) -> f64 {
        LEVEL * (1.0 + 0.001 * noise(minute))
    }

    /// Six quiet days, then `leak(minutes)` more than `usual` until it is found. Both are means and lowest values.
    fn minutes_to_find(
        usual: impl Fn(usize) -> (f64, f64),
        players: impl Fn(usize) -> f64,
        leak: impl Fn(usize) -> f64,
    ) -> Option<usize> {
        let mut watch = LeakWatch::new();
        let mut judge = |minute: usize, times: f64| {
            let (mean, lowest) = usual(minute);
            watch.push(mean * times, lowest * times, players(minute));
            watch.judge(None, u32::try_from(minute / 1_440).unwrap(), false)
        };
        for minute in 0..QUIET {
            assert_eq!(judge(minute, 1.0), None, "minute {minute}");
        }
        (0..240).find(|minute| judge(QUIET + minute, leak(*minute)).is_some())
    }

    fn percent(an_hour: f64) -> impl Fn(usize) -> f64 {
        move |minute| 1.0 + an_hour / 100.0 * minute as f64 / 60.0
    }

    #[test]
    fn two_percent_an_hour_are_found_within_half_an_hour() {
        let usual = |minute| (quiet(minute), quiet(minute));
        let found = minutes_to_find(usual, |_| 0.0, percent(2.0));
        assert!(found.is_some_and(|found| found <= 30), "{found:?}");
    }

    #[test]
    fn a_single_step_is_no_leak() {
        let usual = |minute| (quiet(minute), quiet(minute));
        let step = |minute: usize| if minute > 20 { 1.1 } else { 1.0 };
        assert_eq!(minutes_to_find(usual, |_| 0.0, step), None);
    }

    #[test]
    fn maps_that_change_every_quarter_of_an_hour_hide_no_leak() {
        let usual = |minute: usize| {
            let bytes = quiet(minute) * (1.0 + 0.1 * noise(minute / 15));
            (bytes, bytes)
        };
        let found = minutes_to_find(usual, |_| 0.0, percent(2.0));
        assert!(found.is_some_and(|found| found <= 75), "{found:?}");
    }

    #[test]
    fn a_collectors_saw_teeth_hide_no_leak() {
        let usual = |minute: usize| {
            let tooth = (minute % 7) as f64 / 7.0;
            (quiet(minute) * (1.0 + 0.08 * (tooth + 0.07)), quiet(minute) * (1.0 + 0.08 * tooth))
        };
        let found = minutes_to_find(usual, |_| 0.0, percent(2.0));
        assert!(found.is_some_and(|found| found <= 45), "{found:?}");
    }

    #[test]
    fn memory_that_follows_players_late_is_no_leak_and_hides_none() {
        // Ten players come and go every two hours; each is 1 % of memory, after twelve minutes.
        let players = |minute: usize| if (minute / 60).is_multiple_of(2) { 10.0 } else { 0.0 };
        let lagged = |minute: usize| {
            let passed = (-((minute % 60) as f64 + 0.5) / 12.0).exp();
            if players(minute) > 0.0 { 1.0 - passed } else { passed }
        };
        let usual = |minute: usize| {
            let bytes = quiet(minute) + 0.1 * LEVEL * lagged(minute);
            (bytes, bytes)
        };
        let found = minutes_to_find(usual, players, percent(2.0));
        assert!(found.is_some_and(|found| found <= 75), "{found:?}");
    }

    #[test]
    fn pieces_of_the_curve_follow_each_other() {
        assert_eq!(piece_of(0.0), Some(0));
        assert_eq!(piece_of(719.0), Some(CURVE_FINE - 1));
        assert_eq!(piece_of(720.0), Some(CURVE_FINE));
        assert_eq!(piece_of(2_879.0), Some(CURVE - 1));
        assert_eq!(piece_of(2_880.0), None);
    }
}
