//! Publishers that wait for the server's word: acknowledged messages per second. A STOMP publisher
//! asks for a receipt, a Centrifuge publisher gets a reply to its command.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::bail;
use serde::Serialize;

use super::Setup;
use super::dialect::Template;
use super::lane::{Lane, Verdict};
use super::links::{Links, Sink};
use super::mark::Mark;
use super::report::{Cost, Look, Progress, Trouble, per_second, show};
use crate::latency::{Figures, Latencies};
use crate::target::parse_duration;
use crate::text_table::{Table, grouped, grouped_f};

/// Options of a durable run.
#[derive(clap::Args, Clone)]
pub struct DurableArgs {
    /// Connections that publish
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub publishers: usize,
    /// Channels that they share
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub channels: usize,
    /// Publishes of each publisher that wait for their acknowledgement at once
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub in_flight: usize,
    /// How long to measure
    #[arg(long, default_value = "5s", value_parser = parse_duration, value_name = "TIME")]
    pub duration: Duration,
    /// How long to load before measuring begins
    #[arg(long, default_value = "1s", value_parser = parse_duration, value_name = "TIME")]
    pub warmup: Duration,
    /// Give up on acknowledgements after this long without any
    #[arg(long, default_value = "5s", value_parser = parse_duration, value_name = "TIME")]
    pub drain: Duration,
}

#[derive(Debug, Serialize)]
struct Report {
    target: String,
    workload: &'static str,
    publishers: usize,
    channels: usize,
    in_flight: usize,
    body_bytes: usize,
    measured_s: f64,
    acknowledged: u64,
    acknowledged_per_s: f64,
    latency: Figures,
    published: u64,
    /// Published and never acknowledged.
    unacknowledged: u64,
    doubled: u64,
    #[serde(flatten)]
    trouble: Trouble,
    #[serde(flatten)]
    cost: Cost,
}

/// One publisher: its message, and what of it waits for the server's word.
struct Publisher {
    template: Template,
    channel: u32,
    sent: u64,
    accepted: u64,
    lane: Lane,
    /// When the last publishes left; publish `n` has place `n % in_flight`.
    left_ns: Vec<u64>,
}

struct Office {
    run: u32,
    publishers: Vec<Publisher>,
    /// Those who may publish again.
    free: Vec<usize>,
    acknowledged: u64,
    doubled: u64,
    latency: Latencies,
    measuring: bool,
}

impl Sink for Office {
    fn delivered(&mut self, _link: usize, _mark: Mark, _now_ns: u64) {}

    fn spoilt(&mut self) {}

    fn accepted(&mut self, link: usize, request: u64, now_ns: u64) {
        let publisher = &mut self.publishers[link];
        if request >= publisher.sent || publisher.lane.take(request) == Verdict::Double {
            self.doubled += 1;
            return;
        }
        publisher.accepted += 1;
        self.acknowledged += 1;
        self.free.push(link);
        let places = publisher.left_ns.len();
        let place = usize::try_from(request).unwrap_or(0) % places;
        if self.measuring {
            self.latency.record(now_ns.saturating_sub(publisher.left_ns[place]));
        }
    }
}

impl Office {
    fn publish(&mut self, links: &mut Links) {
        let now_ns = links.clock.now_ns();
        let mut free = std::mem::take(&mut self.free);
        for &link in &free {
            let publisher = &mut self.publishers[link];
            let number = publisher.sent;
            let mark = Mark { run: self.run, channel: publisher.channel, number, due_ns: now_ns };
            links.queue(link, publisher.template.fill(mark, number));
            let places = publisher.left_ns.len();
            publisher.left_ns[usize::try_from(number).unwrap_or(0) % places] = now_ns;
            publisher.sent += 1;
        }
        for &link in &free {
            if links.unsaid(link) > 0 {
                links.flush(link);
            }
        }
        free.clear();
        self.free = free;
    }

    fn sent(&self) -> u64 {
        self.publishers.iter().map(|publisher| publisher.sent).sum()
    }
}

pub(super) fn run(setup: &Setup, args: &DurableArgs) -> anyhow::Result<ExitCode> {
    let DurableArgs { publishers, channels, in_flight, .. } = *args;
    if publishers == 0 || channels == 0 || in_flight == 0 {
        bail!("--publishers, --channels and --in-flight must be at least 1");
    }
    let pid = setup.common.pid;
    let mut links = setup.links(publishers, channels, false)?;
    let topics = setup.topics(channels);
    let publisher = |index: usize| Publisher {
        template: setup.dialect.publish(&topics[index % channels], setup.common.size, true),
        channel: u32::try_from(index % channels).unwrap_or(u32::MAX),
        sent: 0,
        accepted: 0,
        lane: Lane::default(),
        left_ns: vec![0; in_flight],
    };
    let mut office = Office {
        run: rand::random(),
        publishers: (0..publishers).map(publisher).collect(),
        free: (0..publishers * in_flight).map(|turn| turn % publishers).collect(),
        acknowledged: 0,
        doubled: 0,
        latency: Latencies::default(),
        measuring: false,
    };
    links.bring_up(0..publishers, &mut office, |_| (None, None))?;
    let mut progress = Progress::over(setup, args.warmup + args.duration);
    let started = Instant::now();
    let mut load = |links: &mut Links, office: &mut Office, time: Duration| {
        let from = Instant::now();
        while from.elapsed() < time {
            office.publish(links);
            links.turn(Duration::from_millis(20), office)?;
            let passed = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            progress.at(Instant::now(), passed, "publishing");
        }
        anyhow::Ok(())
    };
    load(&mut links, &mut office, args.warmup)?;
    office.measuring = true;
    let (from, before) = (Look::now(pid)?, office.acknowledged);
    load(&mut links, &mut office, args.duration)?;
    let (to, acknowledged) = (Look::now(pid)?, office.acknowledged - before);
    drain(args, &mut links, &mut office)?;
    let elapsed = to.at.saturating_duration_since(from.at);
    let published = office.sent();
    let report = Report {
        target: setup.name.clone(),
        workload: "durable",
        publishers,
        channels,
        in_flight,
        body_bytes: setup.common.size,
        measured_s: elapsed.as_secs_f64(),
        acknowledged,
        acknowledged_per_s: per_second(acknowledged, elapsed),
        latency: office.latency.figures(),
        published,
        unacknowledged: published - office.acknowledged,
        doubled: office.doubled,
        trouble: Trouble::of(&links),
        cost: Look::cost(from, to, acknowledged, pid)?,
    };
    drop(progress);
    let clean = report.unacknowledged + report.doubled == 0 && report.trouble.none();
    show(&report, setup.common.json, clean)
}

/// Waits for the acknowledgements that are still out.
fn drain(args: &DurableArgs, links: &mut Links, office: &mut Office) -> anyhow::Result<()> {
    let (mut last, mut count) = (Instant::now(), office.acknowledged);
    while office.acknowledged < office.sent() && last.elapsed() < args.drain {
        links.turn(Duration::from_millis(20), office)?;
        if office.acknowledged != count {
            (last, count) = (Instant::now(), office.acknowledged);
        }
    }
    Ok(())
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut table = Table::default();
        table.row("target", &self.target);
        let shape = format!(
            "{} publishers over {} channels, {} in flight each, {} bytes",
            self.publishers, self.channels, self.in_flight, self.body_bytes
        );
        table.row("durable", shape);
        table.row("measured", format!("{:.2} s", self.measured_s));
        let acknowledged =
            format!("{} /s ({})", grouped_f(self.acknowledged_per_s), grouped(self.acknowledged));
        table.row("acknowledged", acknowledged);
        table.row("latency", self.latency);
        let faults = format!("{} never acknowledged, {} twice", self.unacknowledged, self.doubled);
        table.row("published", format!("{}, {faults}", grouped(self.published)));
        self.trouble.rows(&mut table);
        self.cost.rows(&mut table, "acknowledged message");
        table.fmt(f)
    }
}
