//! What is usual for so many players at this hour of the week: a robust line, and what it leaves over. Fitted
//! to packed history; it knows no minutes and raises no alerts.

use super::history::History;
use super::robust::{Line, huber, median, narrow};
use super::words::{CostPerPlayer, SERIES_COUNT, Series};

/// Undisturbed quarter hours without which nothing is judged: a day, so that each hour was seen.
pub(super) const QUARTERS_NEEDED: usize = 96;
/// Players' effect on memory lags: how it follows is chosen among these (minutes; 0: at once).
pub(super) const LAGS_MIN: [f64; 5] = [0.0, 5.0, 12.0, 25.0, 45.0];
/// Number of players now, and as smoothed over each lag.
pub(super) type Players = [f64; LAGS_MIN.len()];

/// Below such a difference of players a slope is a guess.
const PLAYERS_RANGE_MIN: f64 = 2.0;
const BENDS: usize = 8;
const HOURS: usize = 168;

/// One series' usual values.
#[derive(Clone, Debug)]
pub(super) struct Baseline {
    pub(super) line: Line,
    lag: usize,
    players: (f64, f64),
    /// What the straight line leaves over, by players: costs need not be straight.
    bends: [f32; BENDS],
    /// And by hour of the week.
    hours: [f32; HOURS],
}

/// What would be usual now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Expected {
    pub(super) value: f64,
    /// How far the guess may be off by itself, because so many players were never seen.
    pub(super) doubt: f64,
}

struct Point {
    players: f64,
    value: f64,
    hour: usize,
}

impl Baseline {
    /// Fits; none with too little data.
    pub(super) fn fit(history: &History, series: Series) -> Option<Baseline> {
        // Memory follows players late, everything else at once.
        let lags = if series == Series::Memory { LAGS_MIN.len() } else { 1 };
        (0..lags)
            .filter_map(|lag| Baseline::fit_lag(history, series, lag))
            .min_by(|left, right| left.line.sigma.total_cmp(&right.line.sigma))
    }

    fn fit_lag(history: &History, series: Series, lag: usize) -> Option<Baseline> {
        let points = points(history, series, lag);
        if points.len() < QUARTERS_NEEDED {
            return None;
        }
        let pairs: Vec<_> = points.iter().map(|point| (point.players, point.value)).collect();
        let line = huber(&pairs, PLAYERS_RANGE_MIN)?;
        let players = pairs
            .iter()
            .fold((f64::MAX, f64::MIN), |range, pair| (range.0.min(pair.0), range.1.max(pair.0)));
        let mut baseline =
            Baseline { line, lag, players, bends: [0.0; BENDS], hours: [0.0; HOURS] };
        baseline.bend(&points);
        // A leak with a restart each night looks like an hour's habit: memory has none.
        if series != Series::Memory {
            baseline.learn_hours(&points);
        }
        Some(baseline)
    }

    fn bend(&mut self, points: &[Point]) {
        let mut groups: [Vec<f64>; BENDS] = Default::default();
        for point in points {
            groups[self.bin(point.players)].push(point.value - self.straight(point.players));
        }
        for (bend, group) in self.bends.iter_mut().zip(&mut groups) {
            *bend = narrow(shrunk(group, 8.0));
        }
    }

    fn learn_hours(&mut self, points: &[Point]) {
        // First the hour of the day, then what this hour of the week adds, each the less the fewer it has seen.
        for (cycle, doubt) in [(24, 8.0), (HOURS, 6.0)] {
            let mut groups = vec![Vec::new(); cycle];
            for point in points {
                let known = self.usual(point.players) + f64::from(self.hours[point.hour]);
                groups[point.hour % cycle].push(point.value - known);
            }
            let offsets: Vec<f64> = groups.iter_mut().map(|group| shrunk(group, doubt)).collect();
            for (hour, offset) in self.hours.iter_mut().enumerate() {
                *offset += narrow(offsets[hour % cycle]);
            }
        }
    }

    fn straight(&self, players: f64) -> f64 {
        self.line.intercept + self.line.slope * players
    }

    fn bin(&self, players: f64) -> usize {
        let width = (self.players.1 - self.players.0) / BENDS as f64;
        if width <= 0.0 {
            return 0;
        }
        super::robust::floor_index((players - self.players.0) / width).min(BENDS - 1)
    }

    /// Straight line and bends; between the middles of two bins, between their values.
    fn usual(&self, players: f64) -> f64 {
        let width = (self.players.1 - self.players.0) / BENDS as f64;
        let bend = if width <= 0.0 {
            f64::from(self.bends[0])
        } else {
            let at = ((players - self.players.0) / width - 0.5).clamp(0.0, (BENDS - 1) as f64);
            let left = super::robust::floor_index(at);
            let right = (left + 1).min(BENDS - 1);
            let (low, high) = (f64::from(self.bends[left]), f64::from(self.bends[right]));
            low + (high - low) * at.fract()
        };
        self.straight(players) + bend
    }

    /// What is usual for these players at this quarter of the week.
    pub(super) fn expected(&self, players: &Players, slot: usize) -> Expected {
        let players = self.players_of(players);
        let hour = f64::from(self.hours[(slot / 4) % HOURS]);
        let value = (self.usual(players) + hour).max(0.0);
        let beyond = (players - self.players.1).max(self.players.0 - players).max(0.0);
        // Costs seldom stay straight: what lies beyond may cost half as much again.
        let doubt = beyond * (0.5 * self.line.slope.abs() + self.line.slope_error);
        Expected { value, doubt }
    }

    /// The players that count for this series: now, or smoothed.
    pub(super) fn players_of(&self, players: &Players) -> f64 {
        let players = players[self.lag];
        if players.is_finite() { players } else { 0.0 }
    }

    /// Base cost and slope, if players varied enough to tell.
    pub(super) fn cost(&self) -> CostPerPlayer {
        let (players_min, players_max) = self.players;
        let line = &self.line;
        let vague = line.slope_error >= line.slope.abs().max(f64::MIN_POSITIVE);
        if players_max - players_min < PLAYERS_RANGE_MIN
            || (vague && line.slope_error > 0.5 * self.mean_share())
        {
            return CostPerPlayer::NotEnoughVariation { players_min, players_max };
        }
        CostPerPlayer::Known {
            base: line.intercept,
            base_error: line.intercept_error,
            per_player: line.slope,
            per_player_error: line.slope_error,
        }
    }

    /// What a player would cost if all of the cost were theirs.
    fn mean_share(&self) -> f64 {
        let middle = (self.players.0 + self.players.1) / 2.0;
        self.straight(middle).abs() / middle.max(1.0)
    }
}

fn points(history: &History, series: Series, lag: usize) -> Vec<Point> {
    let mut smooth = f64::NAN;
    let keep = if LAGS_MIN[lag] > 0.0 { (-15.0 / LAGS_MIN[lag]).exp() } else { 0.0 };
    history
        .values(Series::Players)
        .zip(history.values(series))
        .filter_map(|((_, players), (slot, value))| {
            // Players do not explain themselves: only the hour does.
            let players = if series == Series::Players { 0.0 } else { players.unwrap_or(0.0) };
            smooth = if smooth.is_nan() { players } else { players + keep * (smooth - players) };
            Some(Point { players: smooth, value: value?, hour: slot / 4 })
        })
        .collect()
}

/// The median, drawn to zero as if `doubt` more values were zero.
fn shrunk(values: &mut [f64], doubt: f64) -> f64 {
    let count = values.len() as f64;
    median(values).unwrap_or(0.0) * count / (count + doubt)
}

const _: () = assert!(SERIES_COUNT == Series::ALL.len());

#[cfg(test)]
mod tests {
    use super::super::history::{QUARTER_MS, QUARTERS};
    use super::*;

    /// A week in which `value(quarter, players)` was seen; players follow the hour.
    fn week(players: impl Fn(usize) -> f64, value: impl Fn(usize, f64) -> f64) -> History {
        let mut history = History::new();
        for quarter in 0..=QUARTERS {
            let players = players(quarter);
            let mut values = [f64::NAN; SERIES_COUNT];
            values[Series::Players.index()] = players;
            values[Series::Cpu.index()] = value(quarter, players);
            values[Series::Memory.index()] = value(quarter, players) * 1e9;
            history.add(quarter as i64 * QUARTER_MS, &values, 15.0);
        }
        history
    }

    fn wave(quarter: usize) -> f64 {
        let hour = (quarter / 4 % 24) as f64;
        (10.0 - 9.0 * (hour / 24.0 * std::f64::consts::TAU).cos() + (quarter as f64 * 12.9).sin())
            .max(0.0)
    }

    fn cost(history: &History) -> (f64, f64, f64) {
        match Baseline::fit(history, Series::Cpu).unwrap().cost() {
            CostPerPlayer::Known { base, per_player, per_player_error, .. } => {
                (base, per_player, per_player_error)
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_a_player_costs_is_told_with_its_interval() {
        let history = week(wave, |quarter, players| {
            0.4 + 0.05 * players + 0.03 * (quarter as f64 * 7.7).sin()
        });
        let (base, per_player, error) = cost(&history);
        assert!((per_player - 0.05).abs() <= error.max(0.002), "{per_player} ± {error}");
        assert!((base - 0.4).abs() < 0.03 && error < 0.005, "{base} {error}");
    }

    #[test]
    fn without_variation_there_is_no_cost_per_player() {
        let history = week(|_| 5.0, |quarter, _| 1.0 + 0.1 * (quarter as f64).sin());
        let cost = Baseline::fit(&history, Series::Cpu).unwrap().cost();
        assert!(matches!(cost, CostPerPlayer::NotEnoughVariation { .. }), "{cost:?}");
    }

    #[test]
    fn a_nightly_job_belongs_to_its_hour() {
        let busy = |quarter: usize| if quarter / 4 % 24 == 4 { 2.0 } else { 0.0 };
        let history = week(wave, |quarter, players| 0.4 + 0.05 * players + busy(quarter));
        let baseline = Baseline::fit(&history, Series::Cpu).unwrap();
        let at = |hour: usize| baseline.expected(&[5.0; LAGS_MIN.len()], hour * 4).value;
        assert!(at(4) > at(12) + 1.4, "{} {}", at(4), at(12));
    }

    #[test]
    fn memory_that_leaks_until_each_nights_restart_has_no_habit_of_the_hour() {
        let leak = |quarter: usize| 0.02 * (quarter % 96) as f64;
        let history = week(|_| 0.0, |quarter, _| 3.0 + leak(quarter));
        let baseline = Baseline::fit(&history, Series::Memory).unwrap();
        let at = |hour: usize| baseline.expected(&[0.0; LAGS_MIN.len()], hour * 4).value;
        assert!((at(1) - at(23)).abs() < 1e6);
    }

    #[test]
    fn more_players_than_ever_are_met_with_doubt() {
        let history = week(wave, |_, players| 0.4 + 0.05 * players);
        let baseline = Baseline::fit(&history, Series::Cpu).unwrap();
        assert_eq!(baseline.expected(&[10.0; LAGS_MIN.len()], 0).doubt, 0.0);
        assert!(baseline.expected(&[60.0; LAGS_MIN.len()], 0).doubt > 0.9);
    }
}
