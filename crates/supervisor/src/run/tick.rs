//! The tick: looks at all processes at once, reads what games print, and does once a minute what can wait that
//! long. It is the only timer of the supervisor besides those of lives and questions.

use std::time::Duration;

use naru_domain::Timestamp;
use tokio::time::Instant;

use super::charge::Charge;
use super::figures::MINUTE;
use super::supervisor::Supervisor;
use crate::console::Follower;
use crate::learn::{MinuteAggregate, Sample};
use crate::life::{CpuState, Evidence, Input, Origin};
use crate::measure::{Due, Load, Series, WardSample, Window};
use crate::model::WardName;
use crate::profile::LogEvent;

/// A process that used no processor time for so many ticks stands still.
const STILL_TICKS: u32 = 3;
/// Answers are taken as what is so until they are this old.
const STATUS_FRESH: Duration = Duration::from_secs(35);
/// While a game starts.
const STARTING_INTERVAL: Duration = Duration::from_secs(1);
/// Without any game there is little to see: watched servers are looked for, schedules come due.
const IDLE_INTERVAL: Duration = Duration::from_secs(5);

impl Supervisor {
    /// One tick.
    pub(super) fn tick(&mut self, instant: Instant) {
        let wall = self.ports.clock.now();
        let mut samples = std::mem::take(&mut self.samples);
        let host = self.sampler.tick(wall, instant.into_std(), &mut samples);
        for sample in &samples {
            self.sampled(sample);
        }
        self.samples = samples;
        if let Some(host) = host {
            self.host = Some(host);
            self.look_at_machine(instant);
        }
        let names: Vec<WardName> = self.charges.keys().cloned().collect();
        for name in &names {
            self.read_console(name, false);
            self.look_at_saves(name, instant);
            self.tell_players(name, wall);
        }
        self.look_for_watched(instant);
        self.run_plans(wall);
        if instant >= self.next_minute {
            self.next_minute = instant + MINUTE;
            self.minute(wall, instant);
        }
        if !self.is_shown {
            self.show_figures(wall);
        }
        self.keep(instant, wall);
        self.tell_gathered(wall);
        let paced = self.pace.interval();
        let is_starting =
            |charge: &Charge| charge.is_up() && charge.life.phase() == crate::life::Phase::Starting;
        let interval = if self.charges.values().any(is_starting) {
            // Whoever starts a server waits for it to be ready, and a start is what keeps the machine busy.
            paced.min(STARTING_INTERVAL)
        } else if self.charges.values().any(Charge::is_up) {
            paced
        } else {
            paced.max(IDLE_INTERVAL)
        };
        self.next_tick = (self.next_tick + interval).max(instant + interval / 2);
    }

    fn sampled(&mut self, sample: &WardSample) {
        let Some(charge) = self.charges.get_mut(&sample.ward) else { return };
        charge.recorder.record(&sample.reading(), &mut self.pending);
        if let Some(io) = sample.io_reading() {
            charge.recorder.record(&io, &mut self.pending);
        }
        if let Some(taken) = sample.taken {
            charge.taken = Some(taken.per_second());
        }
        let fresh = charge.last_status.filter(|last| sample.at.since(last.at) < STATUS_FRESH);
        let seconds = sample.span.as_secs_f32();
        let cpu_cores = (seconds > 0.0).then(|| sample.cpu.as_secs_f32() / seconds);
        charge.learner.sample(
            sample.at,
            &Sample {
                elapsed: sample.span,
                cpu_cores,
                rss_bytes: (sample.processes > 0).then_some(sample.rss_bytes),
                write_bytes: sample.io.map(|io| io.written_bytes),
                tick_ms: fresh.and_then(|last| last.tick_ms),
                tick_rate: fresh.and_then(|last| last.tick_rate),
                players: fresh.and_then(|last| last.players),
            },
        );
        let gone = sample.gone > 0;
        let state = cpu_state(charge, sample);
        if gone {
            self.refresh_tree(&sample.ward);
        }
        if let Some(state) = state {
            self.feed(&sample.ward, Input::Cpu(state));
        }
    }

    /// Reads what is new of a ward's console and log files. `finish` once its game has ended.
    pub(super) fn read_console(&mut self, name: &WardName, finish: bool) {
        let now = self.ports.clock.now();
        let Some(charge) = self.charges.get_mut(name) else { return };
        let mut events = Vec::new();
        let patterns = &mut charge.patterns;
        let mut told = |line: &crate::console::Line| {
            events.extend(
                patterns.look(line.text.as_bytes()).map(|event| (event, line.text.clone())),
            );
        };
        let mut read = |follower: &mut Follower| {
            let result = if finish {
                follower.finish(now, &mut told)
            } else {
                follower.tick(now, &mut told)
            };
            match result {
                Ok(tick) => tick.lines,
                Err(error) => {
                    tracing::debug!(target: "naru::wards", ward = %name, %error, "a log was not read");
                    0
                }
            }
        };
        let lines = charge.follower.as_mut().map_or(0, &mut read);
        for log in &mut charge.logs {
            read(log);
        }
        for (event, line) in events {
            self.log_said(name, event, &line, now);
        }
        if lines > 0 {
            self.wake_followers(name);
        }
    }

    fn log_said(&mut self, name: &WardName, event: LogEvent, line: &str, now: Timestamp) {
        let evidence = |evidence| Input::Evidence { evidence, age: Duration::ZERO, launch: None };
        let line = || line.chars().take(300).collect::<String>();
        let mut changes = Vec::new();
        let Some(charge) = self.charges.get_mut(name) else { return };
        match event {
            LogEvent::Ready if charge.ward.ready.by_log => {
                self.feed(name, Input::Ready { how: "its log says so".to_owned() });
            }
            LogEvent::Ready | LogEvent::Lag { .. } => {}
            LogEvent::Joined(player) => {
                let id = player.id.as_deref();
                charge.players.joined(now, &player.name, id, &mut self.pending, &mut changes);
            }
            LogEvent::Left(player) => charge.players.left(now, &player.name, &mut changes),
            LogEvent::Saving => self.save_began(name),
            LogEvent::Saved { .. } => self.saved(name),
            LogEvent::Stopping => {
                let origin = origin_of(&line());
                self.feed(name, evidence(Evidence::StopLine { origin, line: line() }));
            }
            LogEvent::Crash { .. } => {
                let text = line();
                let sign = if text.contains("OutOfMemory") || text.contains("out of memory") {
                    Evidence::MemoryLine(text)
                } else {
                    Evidence::CrashLine(text)
                };
                self.feed(name, evidence(sign));
            }
            LogEvent::Announced { .. } => {}
        }
        self.players_changed(name, &changes);
    }

    /// A life hears of players when their number changes.
    fn tell_players(&mut self, name: &WardName, now: Timestamp) {
        let Some(charge) = self.charges.get_mut(name) else { return };
        let known = charge.players_known(now);
        if charge.told_players != Some(known) {
            charge.told_players = Some(known);
            self.feed(name, Input::Players(known));
        }
    }

    fn look_at_machine(&mut self, instant: Instant) {
        let Some(host) = &self.host else { return };
        let event = std::mem::take(&mut self.memory_event);
        let load = Load::of(host, event);
        let paced = self.pace.observe(&load, self.own.throttle, instant.into_std());
        if paced.shed {
            self.shed();
        }
        if let Some(step) = paced.memory {
            self.tell_memory(step);
        }
    }

    /// The system says that memory is short: caches go at once.
    pub(super) fn under_pressure(&mut self) {
        self.shed();
    }

    fn shed(&mut self) {
        for charge in self.charges.values_mut() {
            charge.recorder.shed();
            if let Some(follower) = &mut charge.follower {
                follower.shed();
            }
        }
        self.pending.shed();
    }

    fn minute(&mut self, wall: Timestamp, instant: Instant) {
        let counters = self.meter().read(self.pending.transactions());
        self.own = self.budget.observe(instant.into_std(), counters, self.charges.len());
        self.sampler.set_settings(self.own.throttle.apply(self.sampler_settings));
        if self.own.shed {
            self.shed();
        }
        let names: Vec<WardName> = self.charges.keys().cloned().collect();
        for name in &names {
            self.learn_minute(name, wall);
            if self.charges[name].tree_due.is_some_and(|due| due <= instant) {
                self.refresh_tree(name);
            }
        }
        self.show_figures(wall);
    }

    fn learn_minute(&mut self, name: &WardName, wall: Timestamp) {
        let host = self.host;
        let Some(charge) = self.charges.get_mut(name) else { return };
        if !charge.is_up() {
            return;
        }
        let aggregate = minute_of(charge, host.as_ref(), wall);
        let changes = charge.learner.minute(wall, &aggregate);
        self.alerts_changed(name, changes);
    }

    /// Flushes what waits, if it is time and no game saves.
    fn keep(&mut self, instant: Instant, wall: Timestamp) {
        let is_saving = self.charges.values().any(|charge| charge.learner.saves().in_window(wall));
        if self.pending.due(instant.into_std(), is_saving) != Due::Now {
            return;
        }
        for charge in self.charges.values_mut() {
            charge.recorder.seal(&mut self.pending);
            charge.players.drain(&mut self.pending);
        }
        self.flush(wall, instant);
    }
}

/// Whether the game's use of the processor changed its kind.
fn cpu_state(charge: &mut Charge, sample: &WardSample) -> Option<CpuState> {
    let watch = &mut charge.cpu;
    watch.still_ticks = if sample.cpu.is_zero() && !sample.span.is_zero() {
        watch.still_ticks.saturating_add(1)
    } else {
        0
    };
    let state = if sample.processes > 0 && sample.stopped == sample.processes {
        CpuState::Paused
    } else if watch.still_ticks >= STILL_TICKS {
        CpuState::Still
    } else {
        CpuState::Moving
    };
    (watch.told.replace(state) != Some(state)).then_some(state)
}

/// Who a stop line says that it comes from: a signal by its number (`Received signal 15`) or name.
fn origin_of(line: &str) -> Origin {
    let lower = line.to_ascii_lowercase();
    if let Some((_, rest)) = lower.split_once("signal ") {
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        if let Ok(number) = digits.parse() {
            return Origin::Signal(number);
        }
    }
    for (name, number) in [("sigterm", 15), ("sigint", 2), ("ctrl-c", 2), ("sighup", 1)] {
        if lower.contains(name) {
            return Origin::Signal(number);
        }
    }
    if lower.contains("server quit") || lower.contains("stop command") {
        return Origin::InGame;
    }
    Origin::Unsaid
}

fn minute_of(
    charge: &Charge,
    host: Option<&crate::measure::HostSample>,
    wall: Timestamp,
) -> MinuteAggregate {
    let mean = |series: Series| {
        let summary = charge.recorder.windows().summary(series, Window::Minute, wall);
        (summary.count > 0).then(|| summary.mean * series.scale())
    };
    #[expect(clippy::cast_possible_truncation, reason = "means of figures that fit")]
    let small = |value: Option<f64>| value.map(|value| value as f32);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "bytes are positive and fit"
    )]
    let bytes = |value: Option<f64>| value.map(|value| value as u64);
    MinuteAggregate {
        cpu_cores: small(mean(Series::Cpu)),
        rss_bytes: bytes(mean(Series::Memory)),
        write_bytes_per_s: small(mean(Series::Written)),
        tick_ms: small(mean(Series::TickTime).map(|seconds| seconds * 1_000.0)),
        tick_rate: small(mean(Series::TickRate)),
        players: small(mean(Series::Players)),
        memory_limit_bytes: charge
            .ward
            .priority
            .memory_max
            .map(|size| size.0)
            .or_else(|| host.map(|host| host.memory_bytes)),
        memory_available_bytes: host.map(|host| host.available_bytes),
        cpu_pressure: host
            .and_then(|host| host.pressure)
            .and_then(|pressure| u16::try_from(pressure.cpu).ok())
            .map(|share| f32::from(share) / 10_000.0),
    }
}
