//! Many clients connect, subscribe and rest: what they cost the server while nothing happens. At the
//! end one message per channel shows that all of them still listen.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::bail;
use serde::Serialize;

use super::Setup;
use super::crowd::{Crowd, Publishers};
use super::lane::Totals;
use super::report::{Look, Progress, Trouble, as_f64, memory_text, ratio, show, totals_rows};
use crate::process::{self, Memory};
use crate::target::parse_duration;
use crate::text_table::{Table, grouped};

/// Options of an idle run.
#[derive(clap::Args, Clone)]
pub struct IdleArgs {
    /// Number of connections; each subscribes to one channel
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    pub connections: usize,
    /// Channels that they share
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub channels: usize,
    /// Pause before resting begins, for the server to give back what connecting took
    #[arg(long, default_value = "2s", value_parser = parse_duration, value_name = "TIME")]
    pub settle: Duration,
    /// How long to rest
    #[arg(long, default_value = "30s", value_parser = parse_duration, value_name = "TIME")]
    pub hold: Duration,
    /// How long the message at the end may take to everybody
    #[arg(long, default_value = "10s", value_parser = parse_duration, value_name = "TIME")]
    pub drain: Duration,
}

#[derive(Debug, Serialize)]
struct Report {
    target: String,
    workload: &'static str,
    connections: usize,
    channels: usize,
    hold_s: f64,
    /// Time from the first connect until all were subscribed.
    connect_s: f64,
    /// Connections that were there after the rest.
    alive: usize,
    /// Pings and heart-beats of the server during the rest.
    beats: u64,
    generator_cpu_s: f64,
    server: Option<Server>,
    published: u64,
    #[serde(flatten)]
    totals: Totals,
    #[serde(flatten)]
    trouble: Trouble,
}

#[derive(Debug, Serialize)]
struct Server {
    before: Memory,
    after: Memory,
    rss_bytes_per_connection: f64,
    anonymous_bytes_per_connection: f64,
    cpu_us_per_connect: f64,
    /// Microseconds of CPU per connection and second of rest.
    cpu_us_per_connection_s: f64,
    switches_per_s: f64,
}

pub(super) fn run(setup: &Setup, args: &IdleArgs) -> anyhow::Result<ExitCode> {
    let IdleArgs { connections, channels, .. } = *args;
    if connections == 0 || channels == 0 {
        bail!("--connections and --channels must be at least 1");
    }
    let pid = setup.common.pid;
    let mut links = setup.links(connections + 1, channels, false)?;
    let mut crowd = Crowd::new(connections, channels);
    let before = pid.map(process::memory).transpose()?;
    let start = Look::now(pid)?;
    links.bring_up(0..connections, &mut crowd, |id| (Some(id % channels), None))?;
    let connected = Look::now(pid)?;
    let mut progress = Progress::over(setup, args.settle + args.hold);
    let mut rest = |links: &mut super::links::Links, crowd: &mut Crowd, time: Duration| {
        let from = Instant::now();
        while from.elapsed() < time {
            let left = time.saturating_sub(from.elapsed());
            links.turn(left.min(Duration::from_millis(100)), crowd)?;
            let passed = u64::try_from(from.elapsed().as_millis()).unwrap_or(u64::MAX);
            progress.at(Instant::now(), passed, "resting");
        }
        anyhow::Ok(())
    };
    rest(&mut links, &mut crowd, args.settle)?;
    let (from, beats) = (Look::now(pid)?, links.counts.beats);
    rest(&mut links, &mut crowd, args.hold)?;
    let (to, beats) = (Look::now(pid)?, links.counts.beats - beats);
    let after = pid.map(process::memory).transpose()?;
    let alive = links.alive();

    links.bring_up(connections..connections + 1, &mut crowd, |_| (None, None))?;
    let mut publishers = Publishers::new(setup, channels, connections..connections + 1, false);
    for _ in 0..channels {
        let now_ns = links.clock.now_ns();
        publishers.publish(&mut links, &mut crowd, now_ns);
    }
    let asked = Instant::now();
    while crowd.completed < crowd.published && asked.elapsed() < args.drain {
        publishers.flush(&mut links);
        links.turn(Duration::from_millis(20), &mut crowd)?;
    }

    let count = u64::try_from(connections).unwrap_or(u64::MAX);
    let connect = Look::cost(start, connected, count, pid)?;
    let resting = Look::cost(from, to, count, pid)?;
    let hold_s = to.at.saturating_duration_since(from.at).as_secs_f64();
    let each = |before_kib: u64, after_kib: u64| {
        (as_f64(after_kib) - as_f64(before_kib)) * 1024.0 / as_f64(count)
    };
    let server = match (before, after, &connect.server, &resting.server) {
        (Some(before), Some(after), Some(connect), Some(resting)) => Some(Server {
            before,
            after,
            rss_bytes_per_connection: each(before.rss_kib, after.rss_kib),
            anonymous_bytes_per_connection: each(before.anonymous_kib, after.anonymous_kib),
            cpu_us_per_connect: connect.cpu_us_each,
            cpu_us_per_connection_s: ratio(resting.cpu_us_each, hold_s),
            switches_per_s: ratio(resting.switches_each * as_f64(count), hold_s),
        }),
        _ => None,
    };
    let report = Report {
        target: setup.name.clone(),
        workload: "idle",
        connections,
        channels,
        hold_s,
        connect_s: connected.at.saturating_duration_since(start.at).as_secs_f64(),
        alive,
        beats,
        generator_cpu_s: resting.generator_cpu_s,
        server,
        published: crowd.published,
        totals: crowd.settle(),
        trouble: Trouble::of(&links),
    };
    let clean = report.totals.clean() && report.trouble.none() && alive == connections;
    drop(progress);
    show(&report, setup.common.json, clean)
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut table = Table::default();
        table.row("target", &self.target);
        let shape = format!(
            "{} connections over {} channels, all there after {:.1} s, {:.0} s at rest",
            self.connections, self.channels, self.connect_s, self.hold_s
        );
        table.row("idle", shape);
        let alive = format!("{}, {} pings or heart-beats", self.alive, grouped(self.beats));
        table.row("alive", alive);
        if let Some(server) = &self.server {
            table.row("server before", memory_text(server.before));
            table.row("  after", memory_text(server.after));
            let each = format!(
                "{:.0} bytes resident, {:.0} anonymous",
                server.rss_bytes_per_connection, server.anonymous_bytes_per_connection
            );
            table.row("  per connection", each);
            let cpu = format!(
                "{:.1} us per connect and subscribe, {:.2} us per connection and second at rest",
                server.cpu_us_per_connect, server.cpu_us_per_connection_s
            );
            table.row("  CPU", cpu);
            table.row("  context switches", format!("{:.1} per second", server.switches_per_s));
        }
        table.row("load generator", format!("{:.2} CPU s at rest", self.generator_cpu_s));
        totals_rows(&self.totals, self.published, &mut table);
        self.trouble.rows(&mut table);
        table.fmt(f)
    }
}
