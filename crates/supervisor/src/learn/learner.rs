//! One ward's learner: takes samples, minutes and marks, and says what changed. It puts the parts together and
//! judges nothing itself but fixed thresholds.

use std::time::Duration;

use naru_domain::Timestamp;

use super::baseline::{Baseline, LAGS_MIN, Players, QUARTERS_NEEDED};
use super::desk::{Desk, Ending};
use super::habit::Habit;
use super::history::{History, QUARTER_MS, slot};
use super::leak::LeakWatch;
use super::level::{Deviation, RULES, Rule, Verdict, Watch};
use super::minute::{Minute, Seen};
use super::saves::{SaveCycle, SaveSchedule};
use super::text::{self, Case};
use super::trend::{Growth, MemoryTrend, PlayersEffect};
use super::words::{
    Alert, AlertChange, AlertKind, BaselineView, CostPerPlayer, LearnedView, Mark, MinuteAggregate,
    SERIES_COUNT, Sample, Series, TrendView, Values, Warmup,
};
use crate::model::Severity;

/// What the profile tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LearnSettings {
    /// Saves at fixed times, if the game has such.
    pub saves: Option<SaveSchedule>,
}

/// A start is over after so long: worlds load and caches fill.
const SETTLE: Duration = Duration::from_secs(10 * 60);
/// A stop that was called off is forgotten after so long.
const STOP_MAX: Duration = Duration::from_secs(30 * 60);
/// Longest disturbance that is believed.
const DISTURBED_MAX: Duration = Duration::from_secs(3_600);
/// Without a minute for so long, what was before is not compared with what comes.
const GAP: Duration = Duration::from_secs(10 * 60);
/// A level that lasts so long is the new usual one.
const ACCEPT: Duration = Duration::from_secs(24 * 3_600);
/// Memory is nearly full from here, and not any more below there.
const FULL: f64 = 0.95;
const FULL_OVER: f64 = 0.9;
/// The machine has hardly anything left.
const AVAILABLE_MIN: u64 = 128 * 1_048_576;
/// Ticks a second that are none.
const STALLED_RATE: f64 = 1.0;
const STALLED_MINUTES: u32 = 2;
/// So many players must have been there for their leaving to mean anything.
const CROWD: f64 = 6.0;
const GONE_SHARE: f64 = 0.8;
/// A leak that does not grow for so long is none any more.
const LEAK_CALM_MINUTES: u32 = 30;
/// Share of time that something waits for a processor from which the machine is named as the cause.
const CROWDED: f32 = 0.3;
const MINUTES_OF_PLAYERS: usize = 4;

/// What is learned about one ward.
#[derive(Clone, Debug)]
pub struct Learner {
    pub(super) saves: SaveCycle,
    pub(super) history: History,
    pub(super) watches: [Watch; RULES.len()],
    pub(super) trend: MemoryTrend,
    pub(super) leak: LeakWatch,
    pub(super) gone_habit: Habit,
    pub(super) started_at: Option<Timestamp>,
    baselines: [Option<Box<Baseline>>; SERIES_COUNT],
    /// The series that is fitted next; one a minute, so that no minute takes long.
    fit_next: usize,
    minute: Minute,
    seen: Values,
    players: Players,
    players_recent: [f32; MINUTES_OF_PLAYERS],
    desk: Desk,
    masked_until: Option<Timestamp>,
    sampled_at: Option<Timestamp>,
    pub(super) minute_at: Option<Timestamp>,
    limit: Option<u64>,
    crowded: bool,
    stalled_minutes: u32,
    leak_calm_minutes: u32,
}

impl Learner {
    /// Knows nothing yet.
    #[must_use]
    pub fn new(settings: LearnSettings) -> Learner {
        Learner {
            saves: SaveCycle::new(settings.saves),
            history: History::new(),
            watches: std::array::from_fn(|_| Watch::new()),
            trend: MemoryTrend::new(),
            leak: LeakWatch::new(),
            gone_habit: Habit::default(),
            started_at: None,
            baselines: Default::default(),
            fit_next: SERIES_COUNT,
            minute: Minute::default(),
            seen: [f64::NAN; SERIES_COUNT],
            players: [f64::NAN; LAGS_MIN.len()],
            players_recent: [f32::NAN; MINUTES_OF_PLAYERS],
            desk: Desk::default(),
            masked_until: None,
            sampled_at: None,
            minute_at: None,
            limit: None,
            crowded: false,
            stalled_minutes: 0,
            leak_calm_minutes: 0,
        }
    }

    /// How much memory must grow beyond what is usual, as a share of it, to be told as a leak: what this ward's own
    /// swings allow. None while too little is known.
    #[must_use]
    pub fn leak_bar(&self) -> Option<f64> {
        self.leak.bar()
    }

    /// What is known of saves.
    #[must_use]
    pub fn saves(&self) -> &SaveCycle {
        &self.saves
    }

    /// Whether our own files may be written now, if that was wanted `since`: see [`SaveCycle::may_write`].
    #[must_use]
    pub fn may_write(&self, now: Timestamp, since: Timestamp) -> bool {
        self.saves.may_write(now, since)
    }

    /// Bytes that this ward's knowledge takes in memory.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let baselines = self.baselines.iter().flatten().count() * size_of::<Baseline>();
        let watches = RULES.len() * 32 * size_of::<f32>();
        size_of::<Learner>()
            + self.saves.memory_bytes()
            + self.history.memory_bytes()
            + self.trend.memory_bytes()
            + self.leak.memory_bytes()
            + baselines
            + watches
    }

    /// One sample: a few additions, no allocation. True when it falls into a save, for labels on charts.
    pub fn sample(&mut self, now: Timestamp, sample: &Sample) -> bool {
        if let Some(last) = self.sampled_at {
            let late = now.since(last) > sample.elapsed + Duration::from_secs(60);
            if now < last || late {
                self.saves.out_of_step();
            }
        }
        self.sampled_at = Some(now);
        self.saves.sample(now, sample.elapsed, sample.write_bytes);
        let in_save = self.saves.in_window(now);
        self.minute.add(sample, in_save);
        in_save
    }

    /// Something happened to the ward. A start, and a stop, end its alerts.
    pub fn mark(&mut self, now: Timestamp, mark: Mark) -> Vec<AlertChange> {
        let mut changes = Vec::new();
        match mark {
            Mark::SaveBegan => self.saves.began(now),
            Mark::SaveEnded => self.saves.ended(now),
            Mark::Started | Mark::Restarted => {
                self.started_at = Some(now);
                self.masked_until = Some(now.plus(SETTLE));
                self.restarted(now, &mut changes);
            }
            Mark::Stopping => {
                self.mask(now.plus(STOP_MAX));
                self.restarted(now, &mut changes);
            }
            Mark::Disturbed(length) => self.mask(now.plus(length.min(DISTURBED_MAX))),
        }
        changes
    }

    fn mask(&mut self, until: Timestamp) {
        self.masked_until = self.masked_until.max(Some(until));
    }

    fn restarted(&mut self, now: Timestamp, changes: &mut Vec<AlertChange>) {
        self.saves.out_of_step();
        self.trend.restart();
        self.leak.restart();
        self.interrupt();
        for kind in AlertKind::ALL {
            self.desk.close(now, kind, Ending::Restart, changes);
        }
    }

    fn interrupt(&mut self) {
        self.watches.iter_mut().for_each(Watch::interrupt);
        self.players_recent = [f32::NAN; MINUTES_OF_PLAYERS];
        self.stalled_minutes = 0;
    }

    /// One minute is over (or a longer piece of a recording): judges it, and learns from it.
    pub fn minute(&mut self, now: Timestamp, aggregate: &MinuteAggregate) -> Vec<AlertChange> {
        let mut changes = Vec::new();
        let minutes = self.turn(now);
        let seen = self.minute.finish(aggregate);
        self.seen = seen.means;
        self.limit = aggregate.memory_limit_bytes.or(self.limit);
        self.crowded = aggregate.cpu_pressure.is_some_and(|share| share >= CROWDED);
        self.follow_players(minutes);
        self.saves.search(now);
        self.judge_thresholds(now, aggregate, &mut changes);
        if self.masked_until.is_some_and(|until| now < until) {
            (0..minutes).for_each(|_| {
                self.trend.push(f64::NAN, f64::NAN);
                self.leak.push(f64::NAN, f64::NAN, self.players[0]);
            });
            return changes;
        }
        self.masked_until = None;
        self.judge_levels(now, &seen, &mut changes);
        self.judge_memory(now, minutes, seen.lowest_memory, &mut changes);
        self.judge_players(now, minutes, &mut changes);
        self.accept(now, &mut changes);
        self.remember(now, minutes);
        changes
    }

    /// How many minutes passed; a gap or a clock set back separates what was from what comes.
    fn turn(&mut self, now: Timestamp) -> u32 {
        let last = self.minute_at.replace(now);
        let Some(last) = last else { return 1 };
        let passed = now.since(last);
        if passed > GAP || now < last.minus(Duration::from_secs(5)) {
            self.saves.gap();
            self.minute = Minute::default();
            self.interrupt();
            let missing = (passed.as_secs() / 60).min(super::trend::MINUTES as u64);
            (0..missing).for_each(|_| self.trend.push(f64::NAN, f64::NAN));
            self.leak.restart();
            // A mask in the far future is one of a clock that was wrong.
            self.masked_until = self.masked_until.filter(|until| *until < now.plus(DISTURBED_MAX));
            return 1;
        }
        u32::try_from((passed.as_secs() + 30) / 60).unwrap_or(1).clamp(1, 10)
    }

    fn follow_players(&mut self, minutes: u32) {
        let players = self.seen[Series::Players.index()];
        if !players.is_finite() {
            return;
        }
        for (smooth, lag) in self.players.iter_mut().zip(LAGS_MIN) {
            let keep = if lag > 0.0 { (-f64::from(minutes) / lag).exp() } else { 0.0 };
            *smooth = if smooth.is_nan() { players } else { players + keep * (*smooth - players) };
        }
    }

    fn day(now: Timestamp) -> u32 {
        u32::try_from(now.0.div_euclid(86_400_000)).unwrap_or(0)
    }

    fn age_min(&self, now: Timestamp) -> Option<f64> {
        self.started_at.map(|started| now.since(started).as_secs_f64() / 60.0)
    }

    fn case(&self, kind: AlertKind, observed: f64, expected: f64, since: Timestamp) -> Case {
        Case {
            kind,
            observed,
            expected,
            sigma: 0.0,
            players: self.players[0],
            since,
            forecast: None,
            crowded: false,
        }
    }

    fn judge_thresholds(
        &mut self,
        now: Timestamp,
        aggregate: &MinuteAggregate,
        changes: &mut Vec<AlertChange>,
    ) {
        let used = self.seen[Series::Memory.index()];
        if let Some(limit) = self.limit.filter(|_| used.is_finite()) {
            let share = used / limit as f64;
            let left = aggregate.memory_available_bytes;
            let scarce = left.is_some_and(|left| left < AVAILABLE_MIN.max(limit / 50));
            if share >= FULL || scarce {
                let case = self.case(AlertKind::MemoryFull, used, limit as f64, now);
                self.raise(now, &case, Severity::Critical, share, changes);
            } else if share < FULL_OVER {
                self.desk.calm(now, AlertKind::MemoryFull, changes);
            }
        }
        let rate = self.seen[Series::TickRate.index()];
        // Some games pause while nobody plays.
        let played = !self.players[0].is_finite() || self.players[0] >= 1.0;
        let masked = self.masked_until.is_some_and(|until| now < until);
        if rate < STALLED_RATE && played && !masked {
            self.stalled_minutes += 1;
            if self.stalled_minutes >= STALLED_MINUTES {
                let since = now.minus(Duration::from_secs(60 * u64::from(self.stalled_minutes)));
                let case = self.case(AlertKind::TickStalled, rate, STALLED_RATE, since);
                self.raise(now, &case, Severity::Critical, 1.0, changes);
            }
        } else {
            self.stalled_minutes = 0;
            self.desk.calm(now, AlertKind::TickStalled, changes);
        }
    }

    fn raise(
        &mut self,
        now: Timestamp,
        case: &Case,
        severity: Severity,
        excess: f64,
        changes: &mut Vec<AlertChange>,
    ) {
        let text = text::opened(case);
        let alert = Alert {
            kind: case.kind,
            series: case.kind.series(),
            severity,
            since: case.since,
            how_unusual: case.sigma,
            expected: case.expected,
            observed: case.observed,
            forecast: case.forecast,
            text,
        };
        self.desk.raise(now, alert, excess, changes);
    }

    fn judge_levels(&mut self, now: Timestamp, seen: &Seen, changes: &mut Vec<AlertChange>) {
        let day = Learner::day(now);
        for (at, rule) in RULES.iter().enumerate() {
            let series = rule.kind.series().index();
            let Some(baseline) = &self.baselines[series] else { continue };
            let mean = seen.means[series];
            if !mean.is_finite() {
                continue;
            }
            let usual = baseline.expected(&self.players, slot(now.0.div_euclid(QUARTER_MS)));
            let mut deviation = deviation(rule, mean, usual.value, usual.doubt);
            deviation.crowded = self.crowded;
            let sign = if rule.falls { -1.0 } else { 1.0 };
            deviation.quarters = seen.quarters.map(|quarter| {
                sign * (quarter[series] - usual.value) / usual.value.max(rule.floor)
            });
            // A leak explains that memory is high; one alert is enough.
            let explained =
                rule.kind == AlertKind::MemoryHigh && self.desk.is_open(AlertKind::MemoryLeak);
            let open = self.desk.is_open(rule.kind);
            match self.watches[at].judge(rule, deviation, day, open || explained) {
                Verdict::Unusual { excess, sigmas, minutes } if !explained => {
                    let since = now.minus(Duration::from_secs(60 * u64::from(minutes)));
                    let mut case = self.case(rule.kind, mean, usual.value, since);
                    case.sigma = sigmas;
                    case.crowded = self.crowded;
                    let severe = rule.kind == AlertKind::TickRateLow && excess >= 0.5;
                    let severity = if severe { Severity::Critical } else { Severity::Warning };
                    self.raise(now, &case, severity, excess, changes);
                }
                Verdict::Between | Verdict::Unusual { .. } => self.desk.hold(rule.kind),
                Verdict::Usual | Verdict::Unknown => {
                    let closed = self.desk.calm(now, rule.kind, changes);
                    if closed.is_some_and(|closed| closed.passing) {
                        self.watches[at].learn(day);
                    }
                }
            }
        }
    }

    fn judge_memory(
        &mut self,
        now: Timestamp,
        minutes: u32,
        lowest: f64,
        changes: &mut Vec<AlertChange>,
    ) {
        let baseline = self.baselines[Series::Memory.index()].as_deref();
        let players =
            baseline.map_or(self.players[0], |baseline| baseline.players_of(&self.players));
        let players = if players.is_finite() { players } else { 0.0 };
        let effect = baseline.map_or(PlayersEffect::default(), |baseline| PlayersEffect {
            per_player: baseline.line.slope,
            doubt: 0.08 * baseline.line.slope.abs() + baseline.line.slope_error,
        });
        let used = self.seen[Series::Memory.index()];
        let known = baseline.is_some();
        let (day, age) = (Learner::day(now), self.age_min(now));
        let open = self.desk.is_open(AlertKind::MemoryLeak);
        let mut soon = None;
        for _ in 0..minutes {
            self.trend.push(used, players);
            self.leak.push(used, lowest, self.players[0]);
            soon = self.leak.judge(age, day, open);
        }
        let soon = soon.map(Growth::from);
        let lasting = self.trend.judge(effect, age);
        if let Some(growth) = soon.or(lasting).filter(|_| known) {
            self.leak_calm_minutes = 0;
            self.raise_leak(now, &growth, changes);
        } else if open {
            self.leak_calm_minutes += minutes;
            if self.leak_calm_minutes >= LEAK_CALM_MINUTES {
                self.calm_leak(now, day, age, changes);
            }
        }
    }

    fn raise_leak(&mut self, now: Timestamp, growth: &Growth, changes: &mut Vec<AlertChange>) {
        let since = now.minus(Duration::from_secs(60 * u64::from(growth.minutes)));
        let grown = growth.per_hour * growth.level;
        let mut case = self.case(AlertKind::MemoryLeak, grown, growth.bar * growth.level, since);
        // The bar stands for three of them.
        case.sigma = 3.0 * growth.times_bar;
        case.forecast = growth.forecast(self.limit);
        let soon = case.forecast.is_some_and(|forecast| forecast.full_in_s < 3_600.0);
        let severity = if soon { Severity::Critical } else { Severity::Warning };
        self.raise(now, &case, severity, growth.sum, changes);
    }

    fn calm_leak(
        &mut self,
        now: Timestamp,
        day: u32,
        age: Option<f64>,
        changes: &mut Vec<AlertChange>,
    ) {
        let closed = self.desk.close(now, AlertKind::MemoryLeak, Ending::Calm, changes);
        if closed.is_some_and(|closed| closed.passing) {
            self.leak.learn(age, day);
        }
    }

    fn judge_players(&mut self, now: Timestamp, minutes: u32, changes: &mut Vec<AlertChange>) {
        let players = self.seen[Series::Players.index()];
        if !players.is_finite() {
            return;
        }
        if minutes > 2 {
            // A coarse recording: who left within ten minutes did not leave at once.
            self.players_recent = [super::robust::narrow(players); MINUTES_OF_PLAYERS];
            return;
        }
        let before = self.players_recent.iter().fold(0.0_f32, |most, players| most.max(*players));
        let before = f64::from(before);
        self.players_recent.rotate_left(1);
        self.players_recent[MINUTES_OF_PLAYERS - 1] = super::robust::narrow(players);
        let day = Learner::day(now);
        let drop = if before >= CROWD { 1.0 - players / before } else { 0.0 };
        let open = self.desk.is_open(AlertKind::PlayersGone);
        if drop >= GONE_SHARE.max(self.gone_habit.bar(1.05)) && !open {
            let since = now.minus(Duration::from_secs(60));
            let mut case = self.case(AlertKind::PlayersGone, players, before, since);
            // Each leaves by chance: the scale of their number is its root.
            case.sigma = (before - players) / before.sqrt();
            self.raise(now, &case, Severity::Warning, drop, changes);
        } else if open && drop < GONE_SHARE {
            let closed = self.desk.calm(now, AlertKind::PlayersGone, changes);
            if let Some(closed) = closed {
                self.gone_habit.learn(day, closed.peak);
            }
        } else if !open {
            self.gone_habit.observe(day, drop);
        }
    }

    /// A level that stays for a day is what is usual from then on; a leak never is.
    fn accept(&mut self, now: Timestamp, changes: &mut Vec<AlertChange>) {
        for (at, rule) in RULES.iter().enumerate() {
            let opened = self.desk.opened_at(rule.kind);
            if opened.is_some_and(|opened| now.since(opened) >= ACCEPT) {
                self.desk.close(now, rule.kind, Ending::Accepted, changes);
                self.history.forget(rule.kind.series());
                self.baselines[rule.kind.series().index()] = None;
                self.watches[at] = Watch::new();
            }
        }
    }

    /// Keeps the minute, but for series that are unusual, and fits one series a minute when a quarter ended.
    fn remember(&mut self, now: Timestamp, minutes: u32) {
        let mut values = self.seen;
        for alert in self.desk.alerts() {
            if alert.series != Series::Players {
                values[alert.series.index()] = f64::NAN;
            }
        }
        // Once an hour, but at once when enough is known for the first time.
        let quarter = self.history.quarter;
        let first = self.baselines.iter().all(Option::is_none);
        if self.history.add(now.0, &values, f64::from(minutes)) && (first || quarter % 4 == 3) {
            self.fit_next = 0;
        }
        if let Some(series) = Series::ALL.get(self.fit_next) {
            self.fit(*series);
            self.fit_next += 1;
        }
    }

    pub(super) fn fit(&mut self, series: Series) {
        if let Some(baseline) = Baseline::fit(&self.history, series) {
            self.baselines[series.index()] = Some(Box::new(baseline));
        }
    }

    /// All that is known, for people and charts.
    #[must_use]
    pub fn view(&self, now: Timestamp) -> LearnedView {
        let cost = |series: Series| {
            let baseline = self.baselines[series.index()].as_ref();
            baseline.map_or(CostPerPlayer::NotEnoughData, |baseline| baseline.cost())
        };
        LearnedView {
            warmup: self.warmup(),
            baselines: self.baseline_views(now),
            cpu_per_player: cost(Series::Cpu),
            memory_per_player: cost(Series::Memory),
            memory_trend: self.trend.growth().map(|growth| TrendView {
                per_hour: growth.per_hour,
                minutes: growth.minutes,
                forecast: growth.forecast(self.limit),
            }),
            saves: self.saves.view(now),
            open: self.desk.alerts().cloned().collect(),
        }
    }

    fn warmup(&self) -> Warmup {
        let known =
            Series::ALL.map(|series| self.history.known(series)).into_iter().max().unwrap_or(0);
        let hours = |quarters: usize| quarters as f64 / 4.0;
        let scale = self.watches.iter().any(|watch| watch.sigma().is_some());
        let missing = if known < QUARTERS_NEEDED {
            let left = hours(QUARTERS_NEEDED - known);
            format!(
                "{left:.0} more hours of undisturbed running; until then only fixed limits raise alerts"
            )
        } else if !scale {
            "some more hours, to learn how much single minutes vary".to_owned()
        } else {
            String::new()
        };
        Warmup { hours_known: hours(known), hours_needed: hours(QUARTERS_NEEDED), missing }
    }

    fn baseline_views(&self, now: Timestamp) -> Vec<BaselineView> {
        let slot = slot(now.0.div_euclid(QUARTER_MS));
        let views = Series::ALL.into_iter().filter_map(|series| {
            let baseline = self.baselines[series.index()].as_ref()?;
            let players =
                if series == Series::Players { [0.0; LAGS_MIN.len()] } else { self.players };
            let expected = baseline.expected(&players, slot).value;
            let watch = RULES.iter().position(|rule| rule.kind.series() == series);
            let spread =
                watch.and_then(|at| self.watches[at].sigma()).map(|sigma| sigma * expected);
            let sigma = spread.unwrap_or(baseline.line.sigma);
            let observed = Some(self.seen[series.index()]).filter(|value| value.is_finite());
            let text = format!(
                "usually {} ± {}",
                text::amount(series, expected),
                text::amount(series, sigma)
            );
            Some(BaselineView { series, expected, sigma, observed, text })
        });
        views.collect()
    }
}

fn deviation(rule: &Rule, mean: f64, usual: f64, doubt: f64) -> Deviation {
    let scale = usual.max(rule.floor);
    let sign = if rule.falls { -1.0 } else { 1.0 };
    Deviation {
        mean: sign * (mean - usual) / scale,
        quarters: [f64::NAN; 4],
        amount: sign * (mean - usual),
        doubt: doubt / scale,
        crowded: false,
    }
}
