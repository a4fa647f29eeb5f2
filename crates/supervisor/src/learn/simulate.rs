//! Weeks of games made from a seed, with what makes real series hard: waves of players, saves, collectors, caches,
//! new maps, restarts, neighbours, lost samples, clocks that jump; and faults to be found. Compiled into tests
//! and into the example `ward_weeks`, which gives the words of `learn` to it; not into the product.

use std::time::Duration;

use naru_domain::Timestamp;

use super::{AlertChange, AlertKind, LearnSettings, Learner, Mark, MinuteAggregate, Sample};

/// SplitMix64: small, and good enough for weather.
#[derive(Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// 0 to 1.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    fn chance(&mut self, share: f64) -> bool {
        self.unit() < share
    }

    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }
}

/// What is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum GameKind {
    /// Native, saves every 30 s, caches fill over hours, a restart each night.
    Survival,
    /// A JVM with saw teeth, saves every 5 min that it tells or not.
    Blocks,
    /// Large and native, saves every 15 min, runs for days.
    Dinosaurs,
    /// No saves; a new map every quarter of an hour.
    Arena,
}

impl GameKind {
    pub(crate) const ALL: [GameKind; 4] =
        [GameKind::Survival, GameKind::Blocks, GameKind::Dinosaurs, GameKind::Arena];
}

/// What goes wrong, from some time on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    /// Memory grows by this share of what is used then, an hour.
    Leak(f64),
    /// Processor use times so much.
    Cpu(f64),
    /// Ticks take so many times as long.
    Tick(f64),
    /// Ticks and processor: as if players were not what costs.
    SlowDown,
}

impl Fault {
    /// Which alerts tell of it.
    pub(crate) fn is_told_by(self, kind: AlertKind) -> bool {
        match self {
            Fault::Leak(_) => matches!(kind, AlertKind::MemoryLeak),
            Fault::Cpu(_) => kind == AlertKind::CpuHigh,
            Fault::Tick(_) => matches!(kind, AlertKind::TickSlow | AlertKind::TickRateLow),
            Fault::SlowDown => {
                matches!(kind, AlertKind::TickSlow | AlertKind::TickRateLow | AlertKind::CpuHigh)
            }
        }
    }
}

const GIB: f64 = 1_073_741_824.0;
const MIB: f64 = 1_048_576.0;

/// A ward's nature, drawn once.
#[derive(Clone)]
struct Nature {
    players_max: f64,
    cpu_base: f64,
    cpu_player: f64,
    tick_base: f64,
    tick_player: f64,
    tick_rate: f64,
    memory_base: f64,
    memory_player: f64,
    memory_lag_s: f64,
    memory_noise: f64,
    memory_wander: f64,
    cache: f64,
    cache_hours: f64,
    saw: f64,
    saw_s: f64,
    save_s: f64,
    save_length_s: f64,
    save_bytes: f64,
    saves_told: bool,
    map_s: f64,
    restart_every_s: f64,
    noise: f64,
    bursts_a_day: f64,
    burst_s: f64,
    neighbours_a_day: f64,
    limit: f64,
}

impl Nature {
    fn draw(kind: GameKind, dice: &mut Dice) -> Nature {
        let mut nature = Nature {
            players_max: dice.between(6.0, 30.0),
            cpu_base: dice.between(0.2, 0.8),
            cpu_player: dice.between(0.02, 0.08),
            tick_base: dice.between(3.0, 12.0),
            tick_player: dice.between(0.1, 0.8),
            tick_rate: 20.0,
            memory_base: dice.between(3.0, 8.0) * GIB,
            memory_player: dice.between(20.0, 80.0) * MIB,
            memory_lag_s: dice.between(30.0, 2_400.0),
            memory_noise: dice.between(0.000_3, 0.001_5),
            memory_wander: dice.between(0.0, 0.002),
            cache: 0.0,
            cache_hours: 1.0,
            saw: 0.0,
            saw_s: 300.0,
            save_s: 0.0,
            save_length_s: dice.between(2.0, 5.0),
            save_bytes: dice.between(2.0, 20.0) * MIB,
            saves_told: false,
            map_s: 0.0,
            restart_every_s: 86_400.0 * dice.between(2.0, 6.0),
            noise: dice.between(0.03, 0.08),
            bursts_a_day: dice.between(0.0, 8.0),
            burst_s: 150.0,
            neighbours_a_day: dice.between(0.0, 4.0),
            limit: 16.0 * GIB,
        };
        match kind {
            GameKind::Survival => {
                nature.save_s = 30.0;
                nature.tick_rate = 60.0;
                nature.restart_every_s = 86_400.0;
                nature.cache = dice.between(0.1, 0.5);
                nature.cache_hours = dice.between(0.5, 3.0);
            }
            GameKind::Blocks => {
                nature.save_s = 300.0;
                nature.save_length_s = dice.between(3.0, 10.0);
                nature.saves_told = dice.chance(0.5);
                nature.saw = dice.between(0.02, 0.10);
                nature.saw_s = dice.between(90.0, 900.0);
            }
            GameKind::Dinosaurs => {
                nature.save_s = 900.0;
                nature.save_length_s = dice.between(5.0, 25.0);
                nature.save_bytes *= 4.0;
                nature.tick_rate = 30.0;
                nature.cache = dice.between(0.0, 0.2);
                nature.cache_hours = dice.between(1.0, 6.0);
            }
            GameKind::Arena => {
                nature.map_s = dice.between(600.0, 1_800.0);
                nature.memory_base = dice.between(0.3, 1.0) * GIB;
                nature.memory_player = dice.between(1.0, 4.0) * MIB;
                nature.tick_rate = 66.0;
                nature.tick_base = dice.between(1.0, 4.0);
            }
        }
        nature
    }
}

/// A game that runs.
#[derive(Clone)]
pub(crate) struct Game {
    nature: Nature,
    dice: Dice,
    step_s: f64,
    /// Seconds since the simulation began, and what the clock shows beyond that.
    elapsed_s: f64,
    clock_ahead_s: f64,
    players: f64,
    players_lagged: f64,
    noise_fast: f64,
    noise_slow: f64,
    tick_noise: f64,
    wander: f64,
    up_s: f64,
    down_left_s: f64,
    stop_in_s: f64,
    save_at_s: f64,
    save_left_s: f64,
    map_left_s: f64,
    map_memory: f64,
    burst: (f64, f64),
    neighbour: (f64, f64),
    gap_left_s: f64,
    fault: Option<(f64, Fault)>,
    leaked: f64,
    /// How far the collector's tooth is, 0 to 1.
    saw: f64,
}

/// 2026-01-05, a Monday, 00:00 UTC.
pub(crate) const BEGIN_MS: i64 = 1_767_571_200_000;

/// What happened in one step.
pub(crate) struct Step {
    pub(crate) now: Timestamp,
    /// None while it is down or the sampler missed it.
    pub(crate) sample: Option<Sample>,
    pub(crate) marks: [Option<Mark>; 2],
    pub(crate) pressure: f32,
}

impl Game {
    pub(crate) fn new(kind: GameKind, seed: u64, step_s: f64) -> Game {
        let mut dice = Dice::new(seed.wrapping_mul(4).wrapping_add(kind as u64));
        let nature = Nature::draw(kind, &mut dice);
        let stop_in_s = nature.restart_every_s * dice.between(0.2, 1.0);
        Game {
            save_at_s: nature.save_s.max(1.0),
            nature,
            dice,
            step_s,
            elapsed_s: 0.0,
            clock_ahead_s: 0.0,
            players: 0.0,
            players_lagged: 0.0,
            noise_fast: 0.0,
            noise_slow: 0.0,
            tick_noise: 0.0,
            wander: 0.0,
            up_s: 0.0,
            down_left_s: 0.0,
            stop_in_s,
            save_left_s: 0.0,
            map_left_s: 0.0,
            map_memory: 0.0,
            burst: (0.0, 0.0),
            neighbour: (0.0, 0.0),
            gap_left_s: 0.0,
            fault: None,
            leaked: 0.0,
            saw: 0.0,
        }
    }

    /// One without restarts, bursts, neighbours or wandering memory, for short recordings.
    pub(crate) fn calm(kind: GameKind, seed: u64, step_s: f64) -> Game {
        let mut game = Game::new(kind, seed, step_s);
        game.stop_in_s = f64::INFINITY;
        game.nature.bursts_a_day = 0.0;
        game.nature.neighbours_a_day = 0.0;
        game.nature.memory_wander = 0.0;
        game.nature.cache = 0.0;
        game
    }

    /// Bursts of its own last at most so long, instead of 150 s.
    pub(crate) fn short_bursts(&mut self, most_s: f64) {
        self.nature.burst_s = most_s;
    }

    /// The fault begins so many seconds after the simulation.
    pub(crate) fn inject(&mut self, at_s: f64, fault: Fault) {
        self.fault = Some((at_s, fault));
    }

    /// How restless it is, in words: what delays depend on.
    pub(crate) fn describe(&self) -> String {
        let nature = &self.nature;
        format!(
            "noise {:.2} %, wander {:.2} %, saw {:.0} % in {:.0} s, cache {:.0} % in {:.1} h, a player {:.1} % after {:.0} s, {:.1} bursts and {:.1} neighbours a day",
            100.0 * nature.memory_noise,
            100.0 * nature.memory_wander,
            100.0 * nature.saw,
            nature.saw_s,
            100.0 * nature.cache,
            nature.cache_hours,
            100.0 * nature.memory_player / nature.memory_base,
            nature.memory_lag_s,
            nature.bursts_a_day,
            nature.neighbours_a_day
        )
    }

    pub(crate) fn limit_bytes(&self) -> u64 {
        whole(self.nature.limit)
    }

    fn now(&self) -> Timestamp {
        let millis = (self.elapsed_s + self.clock_ahead_s) * 1_000.0;
        Timestamp(BEGIN_MS + i64::try_from(whole(millis)).unwrap_or(0))
    }

    pub(crate) fn elapsed_s(&self) -> f64 {
        self.elapsed_s
    }

    fn active(&self) -> Option<Fault> {
        self.fault.filter(|(at, _)| self.elapsed_s >= *at).map(|(_, fault)| fault)
    }

    /// Autoregressive noise with this memory, of unit variance.
    fn wave(dice: &mut Dice, value: f64, step_s: f64, memory_s: f64) -> f64 {
        let keep = (-step_s / memory_s).exp();
        value * keep + dice.normal() * (1.0 - keep * keep).sqrt()
    }

    pub(crate) fn step(&mut self) -> Step {
        self.elapsed_s += self.step_s;
        // A step of the clock about once a week, either way.
        if self.dice.chance(self.step_s / 604_800.0) {
            self.clock_ahead_s += self.dice.between(-30.0, 90.0);
        }
        let mut marks = [None, None];
        if self.down_left_s > 0.0 {
            self.down_left_s -= self.step_s;
            if self.down_left_s <= 0.0 {
                marks[0] = Some(Mark::Started);
                (self.up_s, self.leaked) = (0.0, 0.0);
                self.save_at_s = self.nature.save_s;
            }
            return Step { now: self.now(), sample: None, marks, pressure: 0.0 };
        }
        self.up_s += self.step_s;
        self.stop_in_s -= self.step_s;
        if self.stop_in_s <= 0.0 {
            // One in four is a crash: nobody announced it.
            marks[0] = (!self.dice.chance(0.25)).then_some(Mark::Stopping);
            self.down_left_s = self.dice.between(20.0, 120.0);
            self.stop_in_s = self.nature.restart_every_s;
            self.players *= 0.3;
            return Step { now: self.now(), sample: None, marks, pressure: 0.0 };
        }
        self.people();
        self.weather();
        let written = self.save(&mut marks);
        let sample = self.sample(written);
        let pressure = if self.neighbour.0 > 0.0 { 0.5 } else { 0.02 };
        let lost = self.lost();
        Step { now: self.now(), sample: (!lost).then_some(sample), marks, pressure }
    }

    fn people(&mut self) {
        let hours = self.elapsed_s / 3_600.0;
        let evening = ((hours - 20.0) / 24.0 * std::f64::consts::TAU).cos();
        let weekend = if (hours / 24.0) % 7.0 >= 5.0 { 1.4 } else { 1.0 };
        let wanted =
            self.nature.players_max * weekend * (0.45 + 0.45 * evening).powf(1.5).max(0.02);
        let stay_s = 2_400.0;
        if self.dice.chance(wanted * self.step_s / stay_s) {
            self.players += 1.0;
        }
        if self.dice.chance(self.players * self.step_s / stay_s) {
            self.players = (self.players - 1.0).max(0.0);
        }
        let keep = (-self.step_s / self.nature.memory_lag_s).exp();
        self.players_lagged = self.players + keep * (self.players_lagged - self.players);
    }

    fn weather(&mut self) {
        let step_s = self.step_s;
        let dice = &mut self.dice;
        self.noise_fast = Game::wave(dice, self.noise_fast, step_s, 20.0);
        self.noise_slow = Game::wave(dice, self.noise_slow, step_s, 1_200.0);
        self.tick_noise = Game::wave(dice, self.tick_noise, step_s, 30.0);
        self.wander = Game::wave(dice, self.wander, step_s, 7_200.0);
        let day = step_s / 86_400.0;
        for (event, a_day, length, size) in [
            (&mut self.burst, self.nature.bursts_a_day, (20.0, self.nature.burst_s), (1.2, 1.8)),
            (&mut self.neighbour, self.nature.neighbours_a_day, (30.0, 600.0), (1.1, 1.7)),
        ] {
            event.0 -= step_s;
            if event.0 <= 0.0 && dice.chance(a_day * day) {
                *event = (dice.between(length.0, length.1), dice.between(size.0, size.1));
            }
        }
        self.map_left_s -= step_s;
        if self.nature.map_s > 0.0 && self.up_s % self.nature.map_s < step_s {
            self.map_left_s = dice.between(3.0, 20.0);
            self.map_memory = dice.between(-0.1, 0.1);
        }
    }

    fn save(&mut self, marks: &mut [Option<Mark>; 2]) -> f64 {
        let quiet = self.dice.between(500.0, 6_000.0) * (1.0 + self.players / 10.0);
        if self.nature.save_s <= 0.0 {
            return quiet * self.step_s;
        }
        if self.save_left_s > 0.0 {
            self.save_left_s -= self.step_s;
            if self.save_left_s <= 0.0 && self.nature.saves_told {
                marks[1] = Some(Mark::SaveEnded);
            }
        }
        if self.up_s >= self.save_at_s {
            self.save_at_s += self.nature.save_s;
            self.save_left_s = self.nature.save_length_s * self.dice.between(0.7, 1.4);
            marks[0] = self.nature.saves_told.then_some(Mark::SaveBegan);
        }
        let saving = if self.save_left_s > 0.0 { self.nature.save_bytes } else { 0.0 };
        (quiet + saving) * self.step_s.min(self.save_left_s.max(0.5))
    }

    fn sample(&mut self, written: f64) -> Sample {
        let nature = &self.nature;
        let fault = self.active();
        let saving = self.save_left_s > 0.0;
        let noise = 1.0 + nature.noise * (0.7 * self.noise_fast + 0.5 * self.noise_slow);
        let burst = if self.burst.0 > 0.0 { self.burst.1 } else { 1.0 };
        let map = if self.map_left_s > 0.0 { 1.8 } else { 1.0 };
        let neighbour = if self.neighbour.0 > 0.0 { self.neighbour.1 } else { 1.0 };
        let work = nature.cpu_base + nature.cpu_player * self.players.powf(1.08);
        let (cpu_fault, tick_fault) = match fault {
            Some(Fault::Cpu(times)) => (times, 1.0),
            Some(Fault::Tick(times)) => (1.0, times),
            Some(Fault::SlowDown) => (1.35, 1.6),
            _ => (1.0, 1.0),
        };
        let start = 1.0 + 2.0 * (-self.up_s / 90.0).exp();
        let cpu = work * noise * burst * map * start * cpu_fault + if saving { 0.5 } else { 0.0 };
        let tick_noise = 1.0 + 1.2 * nature.noise * self.tick_noise;
        let tick = (nature.tick_base + nature.tick_player * self.players)
            * tick_noise
            * (1.0 + 0.4 * (burst - 1.0))
            * map
            * neighbour
            * tick_fault
            * if saving { 1.7 } else { 1.0 };
        let rate = nature.tick_rate.min(1_000.0 / tick);
        let memory = self.memory(fault);
        Sample {
            elapsed: Duration::from_secs_f64(self.step_s),
            cpu_cores: Some(narrow(cpu.max(0.0))),
            rss_bytes: Some(whole(memory)),
            write_bytes: Some(whole(written)),
            tick_ms: Some(narrow(tick.max(0.1))),
            tick_rate: Some(narrow(rate)),
            players: Some(u32::try_from(whole(self.players)).unwrap_or(0)),
        }
    }

    fn memory(&mut self, fault: Option<Fault>) -> f64 {
        let nature = &self.nature;
        let fill = 1.0 - (-self.up_s / 3_600.0 / nature.cache_hours).exp();
        let base = nature.memory_base * (1.0 + nature.cache * fill + self.map_memory);
        let used = base + nature.memory_player * self.players_lagged;
        if let Some(Fault::Leak(per_hour)) = fault {
            self.leaked += used * per_hour * self.step_s / 3_600.0;
        }
        // Collections come the sooner the more players there are.
        let pace = nature.saw_s / (1.0 + self.players / 20.0);
        self.saw = (self.saw + self.step_s / pace) % 1.0;
        let saw = nature.saw * self.saw;
        let noise = nature.memory_noise * self.dice.normal();
        let wander = self.nature.memory_wander * self.wander;
        (used + self.leaked) * (1.0 + saw + noise + wander)
    }

    fn lost(&mut self) -> bool {
        self.gap_left_s -= self.step_s;
        if self.gap_left_s <= 0.0 && self.dice.chance(self.step_s / 86_400.0) {
            self.gap_left_s = self.dice.between(60.0, 300.0);
        }
        self.gap_left_s > 0.0 || self.dice.chance(0.001)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "whole bytes, players and milliseconds are meant; the cast saturates"
)]
fn whole(value: f64) -> u64 {
    value as u64
}

#[expect(clippy::cast_possible_truncation, reason = "samples are single precision")]
fn narrow(value: f64) -> f32 {
    value as f32
}

/// A ward whose learner watches a simulated game.
#[derive(Clone)]
pub(crate) struct Ward {
    pub(crate) game: Game,
    pub(crate) learner: Learner,
    /// When each alert opened (seconds since the simulation began) and closed.
    pub(crate) opened: Vec<(f64, AlertKind, String)>,
    minute_left_s: f64,
    pressure: f32,
    alive: bool,
}

impl Ward {
    pub(crate) fn new(kind: GameKind, seed: u64, step_s: f64) -> Ward {
        Ward::of(Game::new(kind, seed, step_s))
    }

    /// One without bursts, neighbours, restarts and wandering memory.
    pub(crate) fn calm(kind: GameKind, seed: u64, step_s: f64) -> Ward {
        Ward::of(Game::calm(kind, seed, step_s))
    }

    fn of(game: Game) -> Ward {
        let mut learner = Learner::new(LearnSettings::default());
        learner.mark(Timestamp(BEGIN_MS), Mark::Started);
        Ward { game, learner, opened: Vec::new(), minute_left_s: 60.0, pressure: 0.0, alive: true }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.game.now()
    }

    /// Runs until so many seconds after the simulation began.
    pub(crate) fn run_until(&mut self, until_s: f64) {
        while self.game.elapsed_s() < until_s {
            self.step();
        }
    }

    pub(crate) fn step(&mut self) {
        let step = self.game.step();
        for mark in step.marks.into_iter().flatten() {
            self.alive = mark != Mark::Stopping;
            let changes = self.learner.mark(step.now, mark);
            self.note(changes);
        }
        if let Some(sample) = step.sample {
            self.alive = true;
            self.pressure = self.pressure.max(step.pressure);
            self.learner.sample(step.now, &sample);
        }
        self.minute_left_s -= self.game.step_s;
        if self.minute_left_s <= 0.0 {
            self.minute_left_s += 60.0;
            if self.alive {
                let aggregate = MinuteAggregate {
                    memory_limit_bytes: Some(self.game.limit_bytes()),
                    cpu_pressure: Some(std::mem::take(&mut self.pressure)),
                    ..MinuteAggregate::default()
                };
                let changes = self.learner.minute(step.now, &aggregate);
                self.note(changes);
            }
        }
    }

    fn note(&mut self, changes: Vec<AlertChange>) {
        for change in changes {
            if let AlertChange::Opened(alert) = change {
                self.opened.push((self.game.elapsed_s(), alert.kind, alert.text));
            }
        }
    }
}
