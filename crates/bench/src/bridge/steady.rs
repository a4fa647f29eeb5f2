//! The ordinary load: connect, warm up, measure, drain, report. Coordinates the load threads.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::{mpsc, watch};

use super::steady_report::{self, Measured};
use super::worker::{self, Phase, Shared};
use super::{BridgeBenchArgs, exit_code, show};
use crate::account::Totals;
use crate::api::Api;
use crate::latency::Latencies;
use crate::load::connect::RunClock;
use crate::load::pacer::{self, Connected, Schedule};
use crate::load::reader::Tally;
use crate::process::{self, Effort};

/// How long the first message of each room may take.
const FIRST_REPLY_TIMEOUT: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Wait for late doubles after the last reply.
const LINGER: Duration = Duration::from_millis(500);

pub(super) async fn run(args: &BridgeBenchArgs) -> anyhow::Result<ExitCode> {
    let shared = Arc::new(Shared {
        target: args.target.resolve().await?,
        plan: args.plan(),
        clock: RunClock::start(),
        window: (args.rate == 0.0).then_some(args.window),
        sending: AtomicBool::new(false),
        completed: AtomicU64::new(0),
        measure_from_ns: AtomicU64::new(u64::MAX),
    });
    let mut crew = Crew::start(args, &shared).await?;
    let outcome = crew.load(args).await;
    let tally = crew.dismiss()?;
    let (measured, lateness) = outcome?;
    let report = steady_report::compile(args, &crew.phones, &tally, &measured, &lateness);
    show(&report, args.json)?;
    Ok(exit_code(report.clean()))
}

/// The threads of a run and their phones.
struct Crew {
    shared: Arc<Shared>,
    phase: watch::Sender<Phase>,
    threads: Vec<std::thread::JoinHandle<Tally>>,
    phones: Vec<Arc<Connected>>,
    bar: ProgressBar,
}

/// One look at both processes and the count of replies.
#[derive(Clone, Copy)]
struct Look {
    at: Instant,
    completed: u64,
    server: Effort,
    own: Effort,
}

impl Crew {
    async fn start(args: &BridgeBenchArgs, shared: &Arc<Shared>) -> anyhow::Result<Crew> {
        let (phase, phase_watch) = watch::channel(Phase::Ready);
        let (ready, mut connected) = mpsc::channel(args.threads);
        let mut threads = Vec::new();
        for thread in 0..args.threads {
            let indexes: Vec<usize> = (thread..args.phones).step_by(args.threads).collect();
            let (shared, ready, phase_watch) = (shared.clone(), ready.clone(), phase_watch.clone());
            let work = move || worker::run(shared, indexes, ready, phase_watch);
            let name = format!("load-{thread}");
            threads.push(std::thread::Builder::new().name(name).spawn(work)?);
        }
        drop(ready);
        let bar = progress_bar(args);
        let mut crew = Crew { shared: shared.clone(), phase, threads, phones: Vec::new(), bar };
        crew.bar.set_message("connecting");
        while let Some(phones) = connected.recv().await {
            crew.phones.extend(phones?);
        }
        // Turns of the pacer alternate between threads and dialects in a fixed order.
        crew.first_replies(args).await?;
        Ok(crew)
    }

    /// Every room got one message with the handshake; its reply shows that the room is served.
    async fn first_replies(&self, args: &BridgeBenchArgs) -> anyhow::Result<()> {
        self.bar.set_message("waiting for the first replies");
        if let Some(api) = Api::new(&args.api)? {
            self.approve(&api).await?;
        }
        let started = Instant::now();
        loop {
            let totals = self.totals();
            if totals.unanswered() == 0 {
                return Ok(());
            }
            if started.elapsed() > FIRST_REPLY_TIMEOUT {
                let denied =
                    self.phones.iter().filter(|p| p.phone.lock().approved == Some(false)).count();
                bail!(
                    "{} of {} first messages got no reply; {denied} phones were told that they are \
                     not approved, {} were cut off. Approve devices and rooms (--api, or \
                     approve_devices and approve_rooms = \"auto\"), and check secret and salt",
                    totals.unanswered(),
                    totals.sent,
                    self.phones.iter().filter(|p| p.dead.load(Ordering::Relaxed)).count(),
                );
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Approves phones and rooms. What was said before is not answered later, so it is said again.
    async fn approve(&self, api: &Api) -> anyhow::Result<()> {
        let prefix = self.shared.target.device_prefix().to_owned();
        let changed = crate::load::gather::approve_until_quiet(api, &prefix).await?;
        if changed == 0 {
            return Ok(());
        }
        for connected in &self.phones {
            let mut phone = connected.phone.lock();
            phone.forget_unanswered();
            phone.say_everywhere();
            connected.flush(&mut phone);
        }
        Ok(())
    }

    fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for connected in &self.phones {
            totals.add(connected.phone.lock().totals());
        }
        totals
    }

    fn look(&self, pid: Option<u32>) -> anyhow::Result<Look> {
        Ok(Look {
            at: Instant::now(),
            completed: self.shared.completed.load(Ordering::Relaxed),
            server: pid.map(process::effort).transpose()?.unwrap_or_default(),
            own: process::effort(std::process::id())?,
        })
    }

    /// Warm-up, measured part and drain.
    async fn load(&mut self, args: &BridgeBenchArgs) -> anyhow::Result<(Measured, Latencies)> {
        let clock = self.shared.clock;
        if let Some(messages) = args.messages {
            self.share_quota(messages);
        }
        let before = self.totals();
        // A fixed number of messages might be over before a warm-up is.
        let warmup = if args.messages.is_some() { Duration::ZERO } else { args.warmup };
        let warmup_ns = u64::try_from(warmup.as_nanos()).unwrap_or(u64::MAX);
        let start_ns = clock.now_ns();
        self.shared.measure_from_ns.store(start_ns.saturating_add(warmup_ns), Ordering::Relaxed);
        self.shared.sending.store(true, Ordering::Relaxed);
        self.phase.send(Phase::Load).context("all load threads have ended")?;
        let pacer = (args.rate > 0.0).then(|| {
            let (phones, shared) = (self.phones.clone(), self.shared.clone());
            let schedule = Schedule { start_ns, rate: args.rate };
            std::thread::spawn(move || pacer::pace(&phones, &schedule, clock, &shared.sending))
        });
        self.bar.set_message("warming up");
        self.watch(args, warmup, before).await;
        let from = self.look(args.pid)?;
        self.bar.set_message("measuring");
        let limit = if args.messages.is_some() { Duration::MAX } else { args.duration };
        let last_reply = self.watch(args, limit, before).await;
        let mut to = self.look(args.pid)?;
        self.shared.sending.store(false, Ordering::Relaxed);
        if args.messages.is_some() {
            to.at = last_reply; // Waiting in vain for lost replies is no throughput.
        }
        self.bar.set_message("draining");
        self.drain(args.drain).await;
        let lateness = match pacer {
            Some(pacer) => pacer.join().map_err(|_| anyhow::anyhow!("the pacer panicked"))?,
            None => Latencies::default(),
        };
        tokio::time::sleep(LINGER).await;
        Ok((measured(args, from, to)?, lateness))
    }

    fn share_quota(&self, messages: u64) {
        let count = u64::try_from(self.phones.len()).unwrap_or(1);
        for (index, connected) in (0u64..).zip(&self.phones) {
            let extra = u64::from(index < messages % count);
            connected.phone.lock().quota = messages / count + extra;
        }
    }

    /// Watches for `limit`, or until all messages are answered, or nothing has come for the drain
    /// time. Returns when the last reply was seen.
    async fn watch(&self, args: &BridgeBenchArgs, limit: Duration, before: Totals) -> Instant {
        let started = Instant::now();
        let (mut last_reply, mut last_count) = (started, u64::MAX);
        while started.elapsed() < limit {
            let left = limit.saturating_sub(started.elapsed());
            tokio::time::sleep(LOOK_EVERY.min(left)).await;
            let completed = self.shared.completed.load(Ordering::Relaxed);
            if completed != last_count {
                (last_count, last_reply) = (completed, Instant::now());
            }
            self.show_progress(args, completed);
            let Some(messages) = args.messages else { continue };
            if completed >= before.answered + messages || last_reply.elapsed() > args.drain {
                break;
            }
        }
        last_reply
    }

    fn show_progress(&self, args: &BridgeBenchArgs, completed: u64) {
        match args.messages {
            Some(_) => self.bar.set_position(completed),
            None => {
                let elapsed = self.shared.clock.now_ns() / 1_000_000;
                self.bar.set_position(elapsed);
            }
        }
    }

    /// Waits for outstanding replies until none has come for `quiet`.
    async fn drain(&self, quiet: Duration) {
        let (mut last_reply, mut last_count) = (Instant::now(), u64::MAX);
        while last_reply.elapsed() < quiet {
            for connected in &self.phones {
                connected.flush(&mut connected.phone.lock());
            }
            let totals = self.totals();
            if totals.unanswered() == 0 {
                return;
            }
            if totals.answered != last_count {
                (last_count, last_reply) = (totals.answered, Instant::now());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Ends the threads and adds up what they counted.
    fn dismiss(&mut self) -> anyhow::Result<Tally> {
        self.bar.finish_and_clear();
        self.phase.send_replace(Phase::Done);
        let mut tally = Tally::default();
        for thread in self.threads.drain(..) {
            let counted = thread.join().map_err(|_| anyhow::anyhow!("a load thread panicked"))?;
            tally.add(&counted);
        }
        Ok(tally)
    }
}

fn measured(args: &BridgeBenchArgs, from: Look, to: Look) -> anyhow::Result<Measured> {
    let memory = args.pid.map(process::memory).transpose()?;
    let server = args.pid.map(|_| Effort {
        cpu: to.server.cpu.saturating_sub(from.server.cpu),
        switches: to.server.switches.saturating_sub(from.server.switches),
    });
    Ok(Measured {
        elapsed: to.at.saturating_duration_since(from.at),
        completed: to.completed - from.completed,
        server,
        memory,
        own_cpu: to.own.cpu.saturating_sub(from.own.cpu),
    })
}

fn progress_bar(args: &BridgeBenchArgs) -> ProgressBar {
    use std::io::IsTerminal as _;
    if args.json || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let length = args.messages.unwrap_or_else(|| {
        u64::try_from((args.warmup + args.duration).as_millis()).unwrap_or(u64::MAX)
    });
    let style = ProgressStyle::with_template("{bar:40} {percent:>3} % {elapsed_precise} {msg}");
    let bar = ProgressBar::new(length);
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}
