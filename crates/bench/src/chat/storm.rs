//! Everybody is cut off, messages are published meanwhile, everybody returns at once with the
//! position they had: how long until all are back and have caught up, what that costs the server,
//! and whether everybody got everything once and in order.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde::Serialize;

use super::Setup;
use super::crowd::{Crowd, Publishers};
use super::dialect::Standing;
use super::lane::Totals;
use super::links::{Links, Sink};
use super::mark::Mark;
use super::report::{Cost, Look, Progress, Trouble, show, totals_rows};
use crate::latency::{Figures, Latencies};
use crate::target::parse_duration;
use crate::text_table::Table;

/// Options of a storm.
#[derive(clap::Args, Clone)]
pub struct StormArgs {
    /// Number of clients
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    pub clients: usize,
    /// Channels that they share
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub channels: usize,
    /// Messages that each of them misses; 0 lets them return without recovering
    #[arg(long, default_value_t = 50, value_name = "N")]
    pub missed: u64,
    /// Pause between the cut and the return
    #[arg(long, default_value = "1s", value_parser = parse_duration, value_name = "TIME")]
    pub away: Duration,
    /// Connections under way at once on the return; 0 means all
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub at_once: usize,
    /// Give up on clients and messages after this long without any
    #[arg(long, default_value = "10s", value_parser = parse_duration, value_name = "TIME")]
    pub patience: Duration,
}

#[derive(Debug, Serialize)]
struct Report {
    target: String,
    workload: &'static str,
    clients: usize,
    channels: usize,
    missed: u64,
    body_bytes: usize,
    /// Clients that are subscribed again.
    back: u64,
    /// Clients that were told that their history is incomplete.
    gaps: u64,
    /// From the first connect until all were subscribed again, and until all had caught up.
    all_back_s: f64,
    all_caught_up_s: f64,
    /// From the beginning of the return until a client was subscribed again.
    back_after: Figures,
    published: u64,
    #[serde(flatten)]
    totals: Totals,
    #[serde(flatten)]
    trouble: Trouble,
    #[serde(flatten)]
    cost: Cost,
}

/// Subscribers who remember where they are.
struct Herd {
    crowd: Crowd,
    positions: Vec<Option<Box<str>>>,
    /// How the return goes, once it has begun.
    since: Option<Instant>,
    back: u64,
    gaps: u64,
    back_after: Latencies,
    accepted: u64,
}

impl Sink for Herd {
    fn delivered(&mut self, link: usize, mark: Mark, now_ns: u64) {
        self.crowd.delivered(link, mark, now_ns);
    }

    fn spoilt(&mut self) {
        self.crowd.spoilt();
    }

    fn ready(&mut self, link: usize, standing: Standing) {
        let Some(position) = self.positions.get_mut(link) else { return };
        match self.since {
            None => *position = standing.position,
            Some(since) => {
                self.back += 1;
                self.gaps += u64::from(standing.gap);
                self.back_after.record_duration(since.elapsed());
            }
        }
    }

    fn positioned(&mut self, link: usize, position: &str) {
        if self.since.is_none()
            && let Some(place) = self.positions.get_mut(link)
        {
            *place = Some(position.into());
        }
    }

    fn accepted(&mut self, _link: usize, _request: u64, _now_ns: u64) {
        self.accepted += 1;
    }
}

/// Publishes that wait for the server's word at once.
const UNACCEPTED_MAX: u64 = 64;

pub(super) fn run(setup: &Setup, args: &StormArgs) -> anyhow::Result<ExitCode> {
    let StormArgs { clients, channels, .. } = *args;
    if clients == 0 || channels == 0 {
        bail!("--clients and --channels must be at least 1");
    }
    let pid = setup.common.pid;
    // Without missed messages it is a plain return, which needs no positions.
    let recovering = args.missed > 0;
    let mut links = setup.links(clients + 1, channels, recovering)?;
    let mut herd = Herd {
        crowd: Crowd::new(clients, channels),
        positions: vec![None; clients],
        since: None,
        back: 0,
        gaps: 0,
        back_after: Latencies::default(),
        accepted: 0,
    };
    let mut progress = Progress::new(setup, u64::try_from(clients).unwrap_or(u64::MAX));
    links.bring_up(clients..clients + 1, &mut herd, |_| (None, None))?;
    links.bring_up(0..clients, &mut herd, |id| (Some(id % channels), None))?;
    let mut publishers = Publishers::new(setup, channels, clients..clients + 1, true);
    if recovering && setup.dialect.learns_from_pushes() {
        publish(args, channels, &mut publishers, &mut links, &mut herd)?;
        wait_for_deliveries(args, &mut links, &mut herd)?;
    }
    let stranger = herd.positions.iter().position(Option::is_none);
    if let Some(stranger) = stranger.filter(|_| recovering) {
        bail!("client {stranger} got no position: the server keeps no history of this channel");
    }
    for link in 0..clients {
        links.reset(link);
    }
    let missed = usize::try_from(args.missed).unwrap_or(usize::MAX).saturating_mul(channels);
    publish(args, missed, &mut publishers, &mut links, &mut herd)?;
    let left = Instant::now();
    while left.elapsed() < args.away {
        links.turn(Duration::from_millis(20), &mut herd)?;
    }

    let from = Look::now(pid)?;
    herd.since = Some(from.at);
    let (all_back, caught_up) = come_back(args, &mut links, &mut herd, &mut progress)?;
    let to = Look::now(pid)?;
    let since = |moment: Instant| moment.saturating_duration_since(from.at).as_secs_f64();
    let report = Report {
        target: setup.name.clone(),
        workload: "storm",
        clients,
        channels,
        missed: args.missed,
        body_bytes: setup.common.size,
        back: herd.back,
        gaps: herd.gaps,
        all_back_s: since(all_back),
        all_caught_up_s: since(caught_up),
        back_after: herd.back_after.figures(),
        published: herd.crowd.published,
        totals: herd.crowd.settle(),
        trouble: Trouble::of(&links),
        cost: Look::cost(from, to, u64::try_from(clients).unwrap_or(u64::MAX), pid)?,
    };
    drop(progress);
    let all = usize::try_from(report.back) == Ok(clients);
    let clean = all && report.gaps == 0 && report.totals.clean() && report.trouble.none();
    show(&report, setup.common.json, clean)
}

/// Publishes `count` messages, the channels in turn, and waits until the server has them all.
fn publish(
    args: &StormArgs,
    count: usize,
    publishers: &mut Publishers,
    links: &mut Links,
    herd: &mut Herd,
) -> anyhow::Result<()> {
    let before = herd.crowd.published;
    let end = before + u64::try_from(count).context("too many messages")?;
    let mut last = (herd.accepted, Instant::now());
    while herd.accepted < end {
        while herd.crowd.published < end
            && herd.crowd.published - herd.accepted.min(herd.crowd.published) < UNACCEPTED_MAX
        {
            let now_ns = links.clock.now_ns();
            publishers.publish(links, &mut herd.crowd, now_ns);
        }
        publishers.flush(links);
        links.turn(Duration::from_millis(20), herd)?;
        if herd.accepted != last.0 {
            last = (herd.accepted, Instant::now());
        } else if last.1.elapsed() > args.patience {
            let why = links.counts.first_fault.as_deref().unwrap_or("no reason given");
            bail!("{} of {end} publishes were not acknowledged: {why}", end - herd.accepted);
        }
    }
    Ok(())
}

/// Waits until everybody has the messages that tell positions.
fn wait_for_deliveries(args: &StormArgs, links: &mut Links, herd: &mut Herd) -> anyhow::Result<()> {
    let from = Instant::now();
    while herd.crowd.completed < herd.crowd.published {
        if from.elapsed() > args.patience {
            bail!("the first messages did not reach everybody");
        }
        links.turn(Duration::from_millis(20), herd)?;
    }
    Ok(())
}

/// Lets everybody return. Tells when all were subscribed again, and when all had caught up.
fn come_back(
    args: &StormArgs,
    links: &mut Links,
    herd: &mut Herd,
    progress: &mut Progress,
) -> anyhow::Result<(Instant, Instant)> {
    let parallel = if args.at_once == 0 { args.clients } else { args.at_once };
    let parallel = u64::try_from(parallel).unwrap_or(u64::MAX);
    let clients = u64::try_from(args.clients).unwrap_or(u64::MAX);
    let cut_before = links.counts.cut;
    let (mut opened, mut all_back) = (0, Instant::now());
    let mut last = (0, all_back);
    loop {
        let cut = links.counts.cut - cut_before;
        while opened < clients && opened < (herd.back + cut).saturating_add(parallel) {
            let link = usize::try_from(opened).unwrap_or(usize::MAX);
            let position = herd.positions[link].take();
            links.open(link, Some(link % args.channels), position)?;
            opened += 1;
            if opened.is_multiple_of(64) {
                break; // What has come meanwhile is to be handled meanwhile.
            }
        }
        let wait = if opened < clients { Duration::ZERO } else { Duration::from_millis(20) };
        links.turn(wait, herd)?;
        let now = Instant::now();
        if herd.back + cut < clients {
            all_back = now;
        } else if herd.crowd.completed == herd.crowd.published {
            return Ok((all_back, now));
        }
        let moved = herd.back + cut + herd.crowd.totals.delivered + opened;
        if moved != last.0 {
            last = (moved, now);
        } else if now.saturating_duration_since(last.1) > args.patience {
            return Ok((all_back, last.1));
        }
        progress.at(now, herd.back, "coming back");
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut table = Table::default();
        table.row("target", &self.target);
        let shape = format!(
            "{} clients over {} channels, {} messages of {} bytes missed by each",
            self.clients, self.channels, self.missed, self.body_bytes
        );
        table.row("storm", shape);
        let back = format!(
            "{} after {:.2} s, caught up after {:.2} s, {} told of a gap",
            self.back, self.all_back_s, self.all_caught_up_s, self.gaps
        );
        table.row("back", back);
        table.row("back after", self.back_after);
        totals_rows(&self.totals, self.published, &mut table);
        self.trouble.rows(&mut table);
        self.cost.rows(&mut table, "client");
        table.fmt(f)
    }
}
