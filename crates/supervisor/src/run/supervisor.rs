//! The loop: waits for the next tick, timer, piece of news, order or signal, and does what follows.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use super::charge::Charge;
use super::figures::{self, Shown, WardFigures};
use super::handle::{COMMANDS_MAX, Command, Wards};
use super::news::{NEWS_MAX, News, Teller};
use super::options::{SupervisorOptions, SupervisorPorts};
use crate::life::Moment;
use crate::measure::{
    Budget, BudgetLimits, HostSample, OwnFigures, OwnMeter, Pace, PaceSettings, Pending,
    PendingSettings, Retention, Sampler, SamplerSettings, WardSample,
};
use crate::model::WardName;
use crate::schedule::Planner;
use crate::tell::{self, TellOptions};
use crate::{host, keeper};

/// A stall of memory of this length within the system's window is pressure.
const MEMORY_STALL: Duration = Duration::from_millis(150);
/// Figures of outcomes that still have to be written when Naru ends.
const LAST_FLUSH: Duration = Duration::from_secs(3);

/// The running supervisor. Build it with [`Supervisor::new`], then [`Supervisor::run`] it.
pub struct Supervisor {
    pub(super) options: SupervisorOptions,
    pub(super) ports: SupervisorPorts,
    pub(super) origin: Instant,
    pub(super) charges: BTreeMap<WardName, Charge>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) news: mpsc::Receiver<News>,
    pub(super) news_sender: mpsc::Sender<News>,
    pub(super) tasks: TaskTracker,
    pub(super) sampler: Sampler,
    pub(super) sampler_settings: SamplerSettings,
    pub(super) samples: Vec<WardSample>,
    pub(super) host: Option<HostSample>,
    pub(super) pace: Pace,
    pub(super) budget: Budget,
    pub(super) own: OwnFigures,
    pub(super) pending: Pending,
    pub(super) teller: tell::Teller,
    pub(super) planner: Option<Planner>,
    pub(super) next_tick: Instant,
    pub(super) next_minute: Instant,
    pub(super) memory_event: bool,
    pub(super) entries: u64,
    pub(super) requests: u64,
    pub(super) shown: Arc<Mutex<Shown>>,
    /// Nothing has happened since what is shown was made.
    pub(super) is_shown: bool,
    /// Whether flushes were kept.
    pub(super) kept: mpsc::Sender<bool>,
    pub(super) kept_news: mpsc::Receiver<bool>,
    /// Orders that a schedule gave.
    pub(super) planned: std::collections::HashSet<u64>,
    pub(super) starter: Arc<keeper::Starter>,
    /// Ends what takes long: copies.
    pub(super) stop: CancellationToken,
}

impl Supervisor {
    /// A supervisor that does nothing yet, and the handle to it. The starter is made before this process steps
    /// behind the games: what it starts would stay there.
    pub fn new(
        options: SupervisorOptions,
        ports: SupervisorPorts,
        starter: keeper::Starter,
    ) -> Result<(Wards, Supervisor), tell::TellError> {
        let (command_sender, commands) = mpsc::channel(COMMANDS_MAX);
        let (news_sender, news) = mpsc::channel(NEWS_MAX);
        // One flush is on its way at most.
        let (kept, kept_news) = mpsc::channel(1);
        let receivers = options.receivers.clone();
        let teller = tell::Teller::new(receivers, TellOptions::default(), rand::random())?;
        let settings = &options.settings;
        let sampler_settings = SamplerSettings::default();
        let now = Instant::now();
        let supervisor = Supervisor {
            origin: now,
            charges: BTreeMap::new(),
            commands,
            news,
            news_sender,
            tasks: TaskTracker::new(),
            sampler: Sampler::new(sampler_settings),
            sampler_settings,
            samples: Vec::new(),
            host: None,
            pace: Pace::new(PaceSettings {
                base: settings.sample_interval.0,
                cpu_busy: u16::from(settings.thresholds.cpu_high) * 10,
                cpu_full: u16::from(settings.thresholds.cpu_critical) * 10,
                memory_tight: u16::from(settings.thresholds.memory_high) * 10,
                memory_critical: u16::from(settings.thresholds.memory_critical) * 10,
                ..PaceSettings::default()
            }),
            budget: Budget::new(BudgetLimits {
                cpu_per_hour: settings.budget.cpu_per_hour.0,
                rss_bytes: settings.budget.memory.0,
                written_per_hour: settings.budget.writes_per_hour.0,
                ..BudgetLimits::default()
            }),
            own: OwnFigures::default(),
            pending: Pending::new(
                PendingSettings {
                    retention: Retention {
                        raw: settings.retention.samples.0,
                        five_minutes: settings.retention.minutes.0,
                        hours: settings.retention.hours.0,
                        events: settings.retention.events.0,
                        visits: settings.retention.events.0,
                    },
                    ..PendingSettings::default()
                },
                now.into_std(),
            ),
            teller,
            planner: None,
            next_tick: now,
            next_minute: now + figures::MINUTE,
            memory_event: false,
            entries: 0,
            requests: 0,
            shown: Arc::default(),
            is_shown: false,
            kept,
            kept_news,
            planned: std::collections::HashSet::new(),
            starter: Arc::new(starter),
            stop: CancellationToken::new(),
            options,
            ports,
        };
        Ok((Wards { commands: command_sender }, supervisor))
    }

    /// What `/metrics` shows of the wards.
    #[must_use]
    pub fn figures(&self) -> WardFigures {
        WardFigures::new(Arc::clone(&self.shown))
    }

    /// Looks after the wards until told to stop, which leaves the games alone: the next Naru finds them again.
    pub async fn run(mut self, stop: CancellationToken) {
        self.stop = stop.child_token();
        self.begin().await;
        let pressure = match host::Pressure::open(host::Resource::Memory, MEMORY_STALL) {
            Ok(pressure) => Some(pressure),
            Err(error) => {
                info!(target: "naru::wards", %error, "memory pressure is not told here");
                None
            }
        };
        info!(target: "naru::wards", wards = self.charges.len(), "looking after wards");
        loop {
            let wake = self.next_wake();
            tokio::select! {
                () = stop.cancelled() => break,
                Some(news) = self.news.recv() => self.take(news),
                Some(command) = self.commands.recv() => self.answer(command).await,
                Some(is_kept) = self.kept_news.recv() => self.pending.finish(is_kept),
                () = sleep_until(wake) => {}
                told = pressure_event(pressure.as_ref()) => {
                    if let Err(error) = told {
                        warn!(target: "naru::wards", %error, "memory pressure is not told any more");
                        break self.run_on(stop.clone()).await;
                    }
                    self.memory_event = true;
                    self.under_pressure();
                }
            }
            self.due();
        }
        self.end().await;
    }

    /// Goes on without being told of memory pressure.
    async fn run_on(&mut self, stop: CancellationToken) {
        loop {
            let wake = self.next_wake();
            tokio::select! {
                () = stop.cancelled() => return,
                Some(news) = self.news.recv() => self.take(news),
                Some(command) = self.commands.recv() => self.answer(command).await,
                Some(is_kept) = self.kept_news.recv() => self.pending.finish(is_kept),
                () = sleep_until(wake) => {}
            }
            self.due();
        }
    }

    /// What is due by now: lives' timers, questions, the tick.
    fn due(&mut self) {
        let now = Instant::now();
        self.wake_lives(now);
        self.ask_due(now);
        if now >= self.next_tick {
            self.tick(now);
        }
    }

    fn next_wake(&self) -> Instant {
        let lives = self.charges.values().filter_map(|charge| charge.life.next_wake());
        let lives = lives.min().map(|at| self.origin + at);
        let asking = self.charges.values().filter_map(Charge::next_question).min();
        [lives, asking].into_iter().flatten().fold(self.next_tick, Instant::min)
    }

    fn wake_lives(&mut self, now: Instant) {
        let since = now.duration_since(self.origin);
        let due = |charge: &Charge| charge.life.next_wake().is_some_and(|at| at <= since);
        let names: Vec<WardName> = self
            .charges
            .values()
            .filter(|charge| due(charge))
            .map(|charge| charge.name().clone())
            .collect();
        for name in names {
            self.feed(&name, crate::life::Input::Wake);
        }
    }

    /// This moment, by both clocks.
    pub(super) fn moment(&self) -> Moment {
        Moment { wall: self.ports.clock.now(), mono: self.origin.elapsed() }
    }

    pub(super) fn next_entry(&mut self) -> u64 {
        self.entries += 1;
        self.entries
    }

    pub(super) fn teller(&self, name: &WardName, entry: u64) -> Teller {
        let (news, tasks) = (self.news_sender.clone(), self.tasks.clone());
        Teller { ward: name.clone(), entry, news, tasks }
    }

    pub(super) fn meter(&self) -> OwnMeter {
        if self.options.is_alone { OwnMeter::Process } else { OwnMeter::Thread }
    }

    /// The last figures go to the disk; games and keepers are left alone.
    async fn end(mut self) {
        for message in self.teller.flush() {
            self.post(vec![message]);
        }
        self.keep_learned();
        for charge in self.charges.values_mut() {
            charge.recorder.seal(&mut self.pending);
            charge.players.drain(&mut self.pending);
            charge.hold.clear();
        }
        if let Some(batch) = self.pending.begin(self.ports.clock.now(), std::time::Instant::now()) {
            let kept = self.ports.history.flush(batch, naru_domain::Durability::Disk);
            match tokio::time::timeout(LAST_FLUSH, kept).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    warn!(target: "naru::wards", %error, "the last figures were not kept");
                }
                Err(_) => warn!(target: "naru::wards", "the last figures were not kept in time"),
            }
        }
        // What tasks still do (a record, a notice) ends before the store closes.
        drop((self.commands, self.news));
        self.tasks.close();
        drop(tokio::time::timeout(LAST_FLUSH, self.tasks.wait()).await);
    }
}

async fn pressure_event(pressure: Option<&host::Pressure>) -> Result<(), host::HostError> {
    match pressure {
        Some(pressure) => pressure.event().await,
        None => pending().await,
    }
}
