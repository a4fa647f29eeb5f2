//! Publishers say numbered messages in channels, and every subscriber's share is accounted for. In
//! closed loop a message follows when another one has reached everybody; with a rate, messages leave
//! when they are due.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::bail;
use serde::Serialize;

use super::Setup;
use super::crowd::{Crowd, Publishers};
use super::lane::Totals;
use super::links::Links;
use super::report::{Cost, Look, Progress, Trouble, as_f64, per_second, ratio, show};
use crate::latency::{Figures, Latencies};
use crate::target::parse_duration;
use crate::text_table::{Table, grouped, grouped_f};

/// Options of a fan-out run.
#[derive(clap::Args, Clone)]
pub struct FanOutArgs {
    /// Number of channels
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub channels: usize,
    /// Subscribers of each channel; each has a connection of its own
    #[arg(long, default_value_t = 1000, value_name = "N")]
    pub subscribers: usize,
    /// Connections that publish; channels are shared out among them
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub publishers: usize,
    /// Closed loop: messages on their way at once, over all channels
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub in_flight: usize,
    /// Messages per second over all channels instead of a closed loop
    #[arg(long, default_value_t = 0.0, value_name = "N")]
    pub rate: f64,
    /// How long to measure
    #[arg(long, default_value = "5s", value_parser = parse_duration, value_name = "TIME")]
    pub duration: Duration,
    /// How long to load before measuring begins
    #[arg(long, default_value = "1s", value_parser = parse_duration, value_name = "TIME")]
    pub warmup: Duration,
    /// Give up on deliveries after this long without any
    #[arg(long, default_value = "2s", value_parser = parse_duration, value_name = "TIME")]
    pub drain: Duration,
}

#[derive(Debug, Serialize)]
struct Report {
    target: String,
    workload: &'static str,
    channels: usize,
    subscribers_per_channel: usize,
    body_bytes: usize,
    /// Zero with a rate.
    in_flight: usize,
    rate: f64,
    measured_s: f64,
    deliveries: u64,
    deliveries_per_s: f64,
    messages_per_s: f64,
    latency: Figures,
    /// How late messages left; only with a rate.
    send_lateness: Option<Figures>,
    bytes_per_delivery: f64,
    deliveries_per_read: f64,
    published: u64,
    #[serde(flatten)]
    totals: Totals,
    #[serde(flatten)]
    trouble: Trouble,
    #[serde(flatten)]
    cost: Cost,
}

pub(super) fn run(setup: &Setup, args: &FanOutArgs) -> anyhow::Result<ExitCode> {
    check(args)?;
    let subscribers = args.channels * args.subscribers;
    let mut links = setup.links(subscribers + args.publishers, args.channels, false)?;
    let mut crowd = Crowd::new(subscribers, args.channels);
    links.bring_up(0..subscribers, &mut crowd, |id| (Some(id % args.channels), None))?;
    let all = subscribers + args.publishers;
    links.bring_up(subscribers..all, &mut crowd, |_| (None, None))?;
    let mut publishers = Publishers::new(setup, args.channels, subscribers..all, false);
    let report = measure(setup, args, &mut links, &mut crowd, &mut publishers)?;
    let clean = report.totals.clean() && report.trouble.none();
    show(&report, setup.common.json, clean)
}

fn check(args: &FanOutArgs) -> anyhow::Result<()> {
    let FanOutArgs { channels, subscribers, publishers, in_flight, rate, .. } = *args;
    if channels == 0 || subscribers == 0 || publishers == 0 || in_flight == 0 {
        bail!("--channels, --subscribers, --publishers and --in-flight must be at least 1");
    }
    if publishers > channels {
        bail!("--publishers may be as many as --channels: order holds per publisher");
    }
    if channels.saturating_mul(subscribers) > 1_000_000 {
        bail!("at most 1,000,000 subscribers");
    }
    if !rate.is_finite() || rate < 0.0 {
        bail!("--rate must be zero or more");
    }
    Ok(())
}

/// When messages leave.
enum Pace {
    /// As many on their way as this.
    InFlight(u64),
    /// Nanoseconds between messages, from a moment on.
    Every { interval_ns: f64, start_ns: u64, sent: u64 },
}

impl Pace {
    fn due_ns(&self) -> Option<u64> {
        let Pace::Every { interval_ns, start_ns, sent } = self else { return None };
        let offset = Duration::try_from_secs_f64(as_f64(*sent) * interval_ns / 1e9);
        let offset_ns = offset.map_or(u128::MAX, |offset| offset.as_nanos());
        Some(start_ns.saturating_add(u64::try_from(offset_ns).unwrap_or(u64::MAX)))
    }

    /// How long to wait for sockets. Waiting is exact to a millisecond only, so the last one before
    /// a message is due is spent looking.
    fn wait(&self, now_ns: u64) -> Duration {
        const LOOK_EVERY: Duration = Duration::from_millis(50);
        const INEXACT: Duration = Duration::from_millis(2);
        let Some(due_ns) = self.due_ns() else { return LOOK_EVERY };
        let wait = Duration::from_nanos(due_ns.saturating_sub(now_ns));
        if wait < INEXACT { Duration::ZERO } else { (wait - INEXACT / 2).min(LOOK_EVERY) }
    }

    /// Publishes what may or must leave now.
    fn publish(
        &mut self,
        links: &mut Links,
        crowd: &mut Crowd,
        publishers: &mut Publishers,
        lateness: &mut Latencies,
    ) {
        match self {
            Pace::InFlight(in_flight) => {
                let now_ns = links.clock.now_ns();
                while crowd.published - crowd.completed < *in_flight {
                    if !publishers.publish(links, crowd, now_ns) {
                        break;
                    }
                }
            }
            Pace::Every { .. } => loop {
                let (due_ns, now_ns) = (self.due_ns().unwrap_or(0), links.clock.now_ns());
                if due_ns > now_ns || !publishers.publish(links, crowd, due_ns) {
                    break;
                }
                if due_ns >= crowd.measure_from_ns {
                    lateness.record(now_ns - due_ns);
                }
                if let Pace::Every { sent, .. } = self {
                    *sent += 1;
                }
            },
        }
        publishers.flush(links);
    }
}

fn measure(
    setup: &Setup,
    args: &FanOutArgs,
    links: &mut Links,
    crowd: &mut Crowd,
    publishers: &mut Publishers,
) -> anyhow::Result<Report> {
    let pid = setup.common.pid;
    let start_ns = links.clock.now_ns();
    let mut pace = match args.rate > 0.0 {
        true => Pace::Every { interval_ns: 1e9 / args.rate, start_ns, sent: 0 },
        false => Pace::InFlight(u64::try_from(args.in_flight).unwrap_or(u64::MAX)),
    };
    let mut lateness = Latencies::default();
    let mut progress = Progress::over(setup, args.warmup + args.duration);
    let span = |from: Instant| u64::try_from(from.elapsed().as_millis()).unwrap_or(u64::MAX);
    let started = Instant::now();
    while started.elapsed() < args.warmup {
        pace.publish(links, crowd, publishers, &mut lateness);
        links.turn(pace.wait(links.clock.now_ns()), crowd)?;
        progress.at(Instant::now(), span(started), "warming up");
    }
    let from = Look::now(pid)?;
    crowd.measure_from_ns = links.clock.now_ns();
    let (delivered, published) = (crowd.totals.delivered, crowd.published);
    let (reads, bytes) = (links.counts.reads, links.counts.bytes);
    while from.at.elapsed() < args.duration {
        pace.publish(links, crowd, publishers, &mut lateness);
        links.turn(pace.wait(links.clock.now_ns()), crowd)?;
        progress.at(Instant::now(), span(started), "measuring");
    }
    let to = Look::now(pid)?;
    let deliveries = crowd.totals.delivered - delivered;
    let (reads, bytes) = (links.counts.reads - reads, links.counts.bytes - bytes);
    let messages = crowd.published - published;
    let cost = Look::cost(from, to, deliveries, pid)?;
    let trouble = drain(args, links, crowd, publishers)?;
    let elapsed = to.at.saturating_duration_since(from.at);
    Ok(Report {
        target: setup.name.clone(),
        workload: "fan-out",
        channels: args.channels,
        subscribers_per_channel: args.subscribers,
        body_bytes: setup.common.size,
        in_flight: if args.rate > 0.0 { 0 } else { args.in_flight },
        rate: args.rate,
        measured_s: elapsed.as_secs_f64(),
        deliveries,
        deliveries_per_s: per_second(deliveries, elapsed),
        messages_per_s: per_second(messages, elapsed),
        latency: crowd.latency.figures(),
        send_lateness: (args.rate > 0.0).then(|| lateness.figures()),
        bytes_per_delivery: ratio(as_f64(bytes), as_f64(deliveries)),
        deliveries_per_read: ratio(as_f64(deliveries), as_f64(reads)),
        published: crowd.published,
        totals: crowd.settle(),
        trouble,
        cost,
    })
}

/// Waits for what is on its way, then a little longer for what should not come.
fn drain(
    args: &FanOutArgs,
    links: &mut Links,
    crowd: &mut Crowd,
    publishers: &Publishers,
) -> anyhow::Result<Trouble> {
    const LINGER: Duration = Duration::from_millis(100);
    let (mut last, mut count) = (Instant::now(), crowd.totals.delivered);
    while crowd.completed < crowd.published && last.elapsed() < args.drain {
        publishers.flush(links);
        links.turn(Duration::from_millis(20), crowd)?;
        if crowd.totals.delivered != count {
            (last, count) = (Instant::now(), crowd.totals.delivered);
        }
    }
    let complete = Instant::now();
    while complete.elapsed() < LINGER {
        links.turn(Duration::from_millis(20), crowd)?;
    }
    Ok(Trouble::of(links))
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut table = Table::default();
        table.row("target", &self.target);
        let load = match self.rate > 0.0 {
            true => format!("{} messages/s", grouped_f(self.rate)),
            false => format!("closed loop, {} in flight", self.in_flight),
        };
        let shape = format!(
            "{} channels x {} subscribers, {} bytes, {load}",
            self.channels, self.subscribers_per_channel, self.body_bytes
        );
        table.row("fan-out", shape);
        table.row("measured", format!("{:.2} s", self.measured_s));
        let deliveries = format!(
            "{} /s ({}), {} messages/s",
            grouped_f(self.deliveries_per_s),
            grouped(self.deliveries),
            grouped_f(self.messages_per_s)
        );
        table.row("deliveries", deliveries);
        table.row("latency", self.latency);
        if let Some(lateness) = self.send_lateness {
            table.row("  of it sending late", lateness);
        }
        let wire = format!(
            "{:.0} bytes per delivery, {:.1} deliveries per read",
            self.bytes_per_delivery, self.deliveries_per_read
        );
        table.row("wire", wire);
        super::report::totals_rows(&self.totals, self.published, &mut table);
        self.trouble.rows(&mut table);
        self.cost.rows(&mut table, "delivery");
        table.fmt(f)
    }
}
