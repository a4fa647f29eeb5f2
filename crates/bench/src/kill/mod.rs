//! `naru bench bridge-kill`: starts the server, loads it, kills it with SIGKILL again and again,
//! and in the end accounts for every message. This file holds the options and the course of a run.

mod audit;
mod caller;
mod server;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::caller::Progress;
use self::server::Server;
use crate::api::Api;
use crate::load::gather::Field;
use crate::load::mix::Mix;
use crate::load::phone::Plan;
use crate::load::reader::Tally;
use crate::target::{ApiArgs, TargetArgs, parse_duration};
use crate::text_table::{note, print_line};

const FIRST_REPLY_TIMEOUT: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// No run waits longer than this for replies to fall silent.
const QUIET_TIMEOUT: Duration = Duration::from_secs(300);
/// A server that answers nothing for this long, restarts included, ends the run.
const STALL_TIMEOUT: Duration = Duration::from_secs(120);

/// Options of a durability run.
#[derive(clap::Args, Clone)]
pub struct KillArgs {
    /// Which server, bots and keys.
    #[command(flatten)]
    pub target: TargetArgs,
    /// How to reach the server's API; without it, messages that may have died with a connection
    /// stay unaccounted for.
    #[command(flatten)]
    pub api: ApiArgs,
    /// Shell command that starts the server; it must stay in the foreground and keep its data.
    #[arg(long, value_name = "COMMAND")]
    pub server_cmd: String,
    /// Append the server's output to this file.
    #[arg(long, value_name = "FILE")]
    pub server_log: Option<PathBuf>,
    /// Number of phones.
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub phones: usize,
    /// Rooms in which each phone talks, in turn.
    #[arg(long, default_value_t = 2, value_name = "N")]
    pub rooms_per_phone: usize,
    /// Messages per second over all phones, while they are connected.
    #[arg(long, default_value_t = 5000.0, value_name = "N")]
    pub rate: f64,
    /// Go on until this many messages were answered.
    #[arg(long, default_value_t = 1_000_000, value_name = "N")]
    pub messages: u64,
    /// Average time between two kills; each is between half and one and a half of it.
    #[arg(long, default_value = "5s", value_parser = parse_duration, value_name = "TIME")]
    pub kill_every: Duration,
    /// Seed of the times between kills.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
    /// The run is over when no reply has come for this long.
    #[arg(long, default_value = "5s", value_parser = parse_duration, value_name = "TIME")]
    pub quiet: Duration,
    /// Bytes of UTF-8 in each text (24 at least).
    #[arg(long, default_value_t = 48, value_name = "N")]
    pub text_bytes: usize,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    pub json: bool,
}

/// Runs until enough messages were answered, then accounts for all of them.
///
/// Exit code 1 when anything that the server accepted was lost, doubled or reordered.
///
/// # Errors
/// When the server does not start, never answers, or stops answering for good.
pub async fn run(args: KillArgs) -> anyhow::Result<ExitCode> {
    if args.phones == 0 || args.rooms_per_phone == 0 || !args.rate.is_finite() || args.rate <= 0.0 {
        bail!("--phones, --rooms-per-phone and --rate must be more than zero");
    }
    let plan = Arc::new(Plan {
        phones: args.phones,
        rooms_per_phone: args.rooms_per_phone,
        text_bytes: args.text_bytes,
        mix: Mix::default(),
        sign_every_ns: 1_000_000_000,
    });
    let field = Field::new(&args.target, plan).await?;
    let address = field.target.address;
    let mut server = Server::start(&args.server_cmd, args.server_log.as_deref(), address).await?;
    let sessions = field.meet(args.rooms_per_phone).await?;
    drop(field.settle(&args.api, sessions, FIRST_REPLY_TIMEOUT).await?);

    let progress = Arc::new(Progress {
        answered: AtomicU64::new(0),
        talking: AtomicBool::new(true),
        stop: CancellationToken::new(),
    });
    let mut callers = JoinSet::new();
    for index in 0..args.phones {
        let pause = Duration::from_secs_f64(as_f64(args.phones) / args.rate);
        callers.spawn(caller::call(field.caller(index), pause, progress.clone()));
    }
    let started = Instant::now();
    let kills = torment(&args, &mut server, &progress).await?;
    progress.talking.store(false, Ordering::Relaxed);
    until_quiet(&progress, args.quiet).await;
    let elapsed = started.elapsed();
    progress.stop.cancel();
    let mut tally = Tally::default();
    while let Some(counted) = callers.join_next().await {
        tally.add(&counted.context("a phone's task ended")?);
    }
    let accepted = match Api::new(&args.api)? {
        Some(api) => Some(audit::accepted(&api, field.clock.run_digits()).await?),
        None => None,
    };
    server.stop().await?;
    let report = audit::compile(&field.phones, accepted.as_ref(), &tally, kills, elapsed);
    print_line(&match args.json {
        true => serde_json::to_string(&report)?,
        false => report.to_string().trim_end().to_owned(),
    });
    Ok(if report.clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn as_f64(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// Kills and restarts the server until enough was answered. Returns the number of kills.
async fn torment(args: &KillArgs, server: &mut Server, progress: &Progress) -> anyhow::Result<u64> {
    let mut random = StdRng::seed_from_u64(args.seed);
    let (mut kills, mut last_count, mut last_reply) = (0, 0, Instant::now());
    let mut next_kill = Instant::now() + args.kill_every.mul_f64(random.random_range(0.5..1.5));
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let answered = progress.answered.load(Ordering::Relaxed);
        if answered >= args.messages {
            return Ok(kills);
        }
        if answered != last_count {
            (last_count, last_reply) = (answered, Instant::now());
        }
        if last_reply.elapsed() > STALL_TIMEOUT {
            bail!("no reply for {} s after {answered} answers", STALL_TIMEOUT.as_secs());
        }
        server.check_alive()?;
        if Instant::now() >= next_kill {
            server.kill().await?;
            kills += 1;
            let began = Instant::now();
            server.restart().await?;
            let back_ms = began.elapsed().as_millis();
            if !args.json {
                note(&format!("kill {kills}: {answered} answered, back after {back_ms} ms"));
            }
            next_kill = Instant::now() + args.kill_every.mul_f64(random.random_range(0.5..1.5));
        }
    }
}

async fn until_quiet(progress: &Progress, quiet: Duration) {
    let started = Instant::now();
    let (mut last_count, mut last_reply) = (u64::MAX, started);
    while last_reply.elapsed() < quiet && started.elapsed() < QUIET_TIMEOUT {
        let answered = progress.answered.load(Ordering::Relaxed);
        if answered != last_count {
            (last_count, last_reply) = (answered, Instant::now());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
