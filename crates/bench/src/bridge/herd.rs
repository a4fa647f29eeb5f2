//! The herd: all phones are cut off and return in the same moment, each with queued frames, as
//! after a restart of the server. Older scripts send their handshake first; scripts from 3.3.0-a2
//! on send it after the queued frames, and not at all when ten are queued.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{BridgeBenchArgs, exit_code, show};
use crate::account::Totals;
use crate::latency::{Figures, Latencies};
use crate::load::connect::RunClock;
use crate::load::gather::{Field, Session};
use crate::load::phone::Phone;
use crate::load::reader::Tally;
use crate::target::Target;
use crate::text_table::{Table, grouped, note};

/// Frames that a real phone flushes when it connects.
const FLUSH_FRAMES_MAX: usize = 10;
const FIRST_REPLY_TIMEOUT: Duration = Duration::from_secs(30);
/// A herd that is not served after this time is reported as it is.
const SERVED_TIMEOUT: Duration = Duration::from_secs(60);
/// Wait for doubles after everybody was served.
const LINGER: Duration = Duration::from_secs(1);
/// Between attempts to connect. Real phones wait 4 s first; the herd measures the server's side.
const CONNECT_PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug, Serialize)]
struct Report {
    phones: usize,
    queued_per_phone: usize,
    /// Until the last phone had all its replies.
    all_served_s: Option<f64>,
    phones_served: usize,
    connected: Figures,
    served: Figures,
    connect_failures: u64,
    sent: u64,
    answered: u64,
    lost: u64,
    doubled: u64,
    reordered: u64,
    foreign: u64,
    malformed: u64,
    first_fault: Option<String>,
    disconnects: u64,
}

/// What became of one phone.
struct Return {
    connected: Duration,
    served: Option<Duration>,
    connect_failures: u64,
    tally: Tally,
}

pub(super) async fn run(args: &BridgeBenchArgs) -> anyhow::Result<ExitCode> {
    let queued = args.herd_queued.min(FLUSH_FRAMES_MAX);
    if queued < args.herd_queued {
        note(&format!("real phones flush {FLUSH_FRAMES_MAX} frames at most: using that"));
    }
    let field = Field::new(&args.target, args.plan()).await?;
    let sessions = field.meet(args.rooms_per_phone).await?;
    let sessions = field.settle(&args.api, sessions, FIRST_REPLY_TIMEOUT).await?;
    drop(sessions);
    for phone in &field.phones {
        queue_frames(&mut phone.lock(), queued, field.clock);
    }
    tokio::time::sleep(args.herd_away).await;
    let before: Vec<Totals> = field.phones.iter().map(|phone| phone.lock().totals()).collect();
    let returns = all_return(&field).await?;
    let report = compile(args, &field, &before, &returns, queued);
    show(&report, args.json)?;
    Ok(exit_code(report.clean()))
}

/// The bytes that this phone will flush on its next connection.
fn queue_frames(phone: &mut Phone, queued: usize, clock: RunClock) {
    phone.begin_connection();
    let hello_first = !phone.script.hello_queued;
    if hello_first {
        phone.hello();
    }
    let now_ns = clock.now_ns();
    for _ in 0..queued {
        phone.say(now_ns, now_ns);
    }
    if !hello_first && queued < FLUSH_FRAMES_MAX {
        phone.hello();
    }
}

async fn all_return(field: &Field) -> anyhow::Result<Vec<Return>> {
    let started = Instant::now();
    let (served, mut served_watch) = tokio::sync::watch::channel(0usize);
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    for (index, phone) in field.phones.iter().enumerate() {
        let (phone, target, clock) = (phone.clone(), field.target.clone(), field.clock);
        let (served, stop) = (served.clone(), stop.clone());
        tasks.spawn(async move {
            come_back(phone, &target, clock, index, started, &served, &stop).await
        });
    }
    let everybody = served_watch.wait_for(|count| *count == field.phones.len());
    // A timeout is a result here: the report says how many were served.
    if tokio::time::timeout(SERVED_TIMEOUT, everybody).await.is_ok() {
        tokio::time::sleep(LINGER).await;
    }
    stop.cancel();
    let mut returns = Vec::with_capacity(field.phones.len());
    while let Some(joined) = tasks.join_next().await {
        returns.push(joined.context("a phone's task ended")?);
    }
    Ok(returns)
}

async fn come_back(
    phone: Arc<Mutex<Phone>>,
    target: &Target,
    clock: RunClock,
    index: usize,
    started: Instant,
    served: &tokio::sync::watch::Sender<usize>,
    stop: &CancellationToken,
) -> Return {
    let mut outcome = Return {
        connected: Duration::ZERO,
        served: None,
        connect_failures: 0,
        tally: Tally::default(),
    };
    let mut session = loop {
        match Session::open(phone.clone(), target, clock, index).await {
            Ok(session) => break session,
            Err(_) if stop.is_cancelled() => return outcome,
            Err(_) => {
                outcome.connect_failures += 1;
                tokio::time::sleep(CONNECT_PAUSE).await;
            }
        }
    };
    outcome.connected = started.elapsed();
    if let Some(true) = stop.run_until_cancelled(session.until_answered()).await {
        outcome.served = Some(started.elapsed());
        served.send_modify(|count| *count += 1);
        // Stay for doubles.
        if stop.run_until_cancelled(session.until_end()).await.is_some() {
            session.tally.disconnects += 1;
        }
    } else if !stop.is_cancelled() {
        session.tally.disconnects += 1;
    }
    outcome.tally = session.tally;
    outcome
}

fn compile(
    args: &BridgeBenchArgs,
    field: &Field,
    before: &[Totals],
    returns: &[Return],
    queued: usize,
) -> Report {
    let (mut connected, mut served) = (Latencies::default(), Latencies::default());
    let mut tally = Tally::default();
    for outcome in returns {
        connected.record_duration(outcome.connected);
        if let Some(time) = outcome.served {
            served.record_duration(time);
        }
        tally.add(&outcome.tally);
    }
    let (mut totals, mut answered_before) = (Totals::default(), 0);
    for (phone, before) in field.phones.iter().zip(before) {
        totals.add(phone.lock().totals());
        answered_before += before.answered;
    }
    let phones_served = returns.iter().filter(|outcome| outcome.served.is_some()).count();
    let slowest = returns.iter().filter_map(|outcome| outcome.served).max();
    let everybody = phones_served == args.phones;
    let queued_total = u64::try_from(queued * args.phones).unwrap_or(u64::MAX);
    Report {
        phones: args.phones,
        queued_per_phone: queued,
        all_served_s: slowest.filter(|_| everybody).map(|time| time.as_secs_f64()),
        phones_served,
        connected: connected.figures(),
        served: served.figures(),
        connect_failures: returns.iter().map(|outcome| outcome.connect_failures).sum(),
        sent: queued_total,
        answered: totals.answered - answered_before,
        lost: totals.unanswered(),
        doubled: totals.doubled,
        reordered: totals.reordered,
        foreign: totals.foreign,
        malformed: tally.malformed,
        first_fault: tally.first_fault,
        disconnects: tally.disconnects,
    }
}

impl Report {
    fn clean(&self) -> bool {
        let faults = self.lost + self.doubled + self.reordered + self.foreign + self.malformed;
        faults + self.disconnects == 0 && self.all_served_s.is_some()
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut table = Table::default();
        let herd = format!("{} phones with {} frames each", self.phones, self.queued_per_phone);
        table.row("herd", herd);
        match self.all_served_s {
            Some(seconds) => table.row("all served after", format!("{seconds:.3} s")),
            None => table.row("served", format!("{} of {}", self.phones_served, self.phones)),
        }
        table.row("connected", self.connected);
        table.row("served", self.served);
        if self.connect_failures > 0 {
            table.row("connect failures", self.connect_failures);
        }
        let counts = format!("{} sent, {} answered", grouped(self.sent), grouped(self.answered));
        table.row("messages", counts);
        let faults = format!(
            "lost {}  doubled {}  reordered {}  foreign {}  malformed {}  cut off {}",
            self.lost, self.doubled, self.reordered, self.foreign, self.malformed, self.disconnects
        );
        table.row("faults", faults);
        if let Some(fault) = &self.first_fault {
            table.row("first fault", fault);
        }
        table.fmt(f)
    }
}
