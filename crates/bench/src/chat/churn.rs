//! Connect, log in, subscribe, say goodbye, again and again: what one such cycle costs the server.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::bail;
use serde::Serialize;

use super::Setup;
use super::dialect::Standing;
use super::links::Sink;
use super::mark::Mark;
use super::report::{Cost, Look, Progress, Trouble, per_second, show};
use crate::latency::{Figures, Latencies};
use crate::target::parse_duration;
use crate::text_table::{Table, grouped, grouped_f};

/// Options of a churn run.
#[derive(clap::Args, Clone)]
pub struct ChurnArgs {
    /// How long to measure
    #[arg(long, default_value = "5s", value_parser = parse_duration, value_name = "TIME")]
    pub duration: Duration,
    /// Clients that come and go at the same time
    #[arg(long, default_value_t = 16, value_name = "N")]
    pub concurrency: usize,
    /// Channels that they share
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub channels: usize,
    /// Cut connections instead of closing them
    #[arg(long)]
    pub abort: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    target: String,
    workload: &'static str,
    concurrency: usize,
    channels: usize,
    abort: bool,
    measured_s: f64,
    cycles: u64,
    cycles_per_s: f64,
    /// From connecting until subscribed.
    until_subscribed: Figures,
    #[serde(flatten)]
    trouble: Trouble,
    #[serde(flatten)]
    cost: Cost,
}

struct Comings {
    /// When each client began.
    begun: Vec<Instant>,
    subscribed: Vec<usize>,
    gone: Vec<usize>,
    cycles: u64,
    latency: Latencies,
}

impl Sink for Comings {
    fn delivered(&mut self, _link: usize, _mark: Mark, _now_ns: u64) {}

    fn spoilt(&mut self) {}

    fn ready(&mut self, link: usize, _standing: Standing) {
        self.latency.record_duration(self.begun[link].elapsed());
        self.subscribed.push(link);
    }

    fn ended(&mut self, link: usize, asked: bool) {
        self.gone.push(link);
        self.cycles += u64::from(asked);
    }
}

/// When so many clients were refused or cut, the run is given up.
const CUT_MAX: u64 = 100;

pub(super) fn run(setup: &Setup, args: &ChurnArgs) -> anyhow::Result<ExitCode> {
    let ChurnArgs { concurrency, channels, .. } = *args;
    if concurrency == 0 || channels == 0 {
        bail!("--concurrency and --channels must be at least 1");
    }
    let pid = setup.common.pid;
    let mut links = setup.links(concurrency, channels, false)?;
    let mut comings = Comings {
        begun: vec![Instant::now(); concurrency],
        subscribed: Vec::new(),
        gone: (0..concurrency).collect(),
        cycles: 0,
        latency: Latencies::default(),
    };
    let mut progress = Progress::over(setup, args.duration);
    let (from, mut next) = (Look::now(pid)?, 0);
    while from.at.elapsed() < args.duration && links.counts.cut < CUT_MAX {
        for link in std::mem::take(&mut comings.gone) {
            comings.begun[link] = Instant::now();
            links.open(link, Some(next % channels), None)?;
            next += 1;
        }
        links.turn(Duration::from_millis(20), &mut comings)?;
        for link in std::mem::take(&mut comings.subscribed) {
            if args.abort {
                links.reset(link);
                comings.gone.push(link);
                comings.cycles += 1;
            } else {
                links.leave(link);
            }
        }
        let passed = u64::try_from(from.at.elapsed().as_millis()).unwrap_or(u64::MAX);
        progress.at(Instant::now(), passed, "coming and going");
    }
    let (to, cycles) = (Look::now(pid)?, comings.cycles);
    let elapsed = to.at.saturating_duration_since(from.at);
    let report = Report {
        target: setup.name.clone(),
        workload: "churn",
        concurrency,
        channels,
        abort: args.abort,
        measured_s: elapsed.as_secs_f64(),
        cycles,
        cycles_per_s: per_second(cycles, elapsed),
        until_subscribed: comings.latency.figures(),
        trouble: Trouble::of(&links),
        cost: Look::cost(from, to, cycles, pid)?,
    };
    drop(progress);
    let clean = report.trouble.none() && cycles > 0;
    show(&report, setup.common.json, clean)
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut table = Table::default();
        table.row("target", &self.target);
        let end = if self.abort { "cut off" } else { "closed" };
        let shape = format!("{} at once over {} channels, {end}", self.concurrency, self.channels);
        table.row("churn", shape);
        table.row("measured", format!("{:.2} s", self.measured_s));
        let cycles = format!("{} /s ({})", grouped_f(self.cycles_per_s), grouped(self.cycles));
        table.row("cycles", cycles);
        table.row("until subscribed", self.until_subscribed);
        self.trouble.rows(&mut table);
        self.cost.rows(&mut table, "cycle");
        table.fmt(f)
    }
}
