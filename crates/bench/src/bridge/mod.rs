//! `naru bench bridge`: many phones against a server. This file holds the options and chooses the
//! run; each kind of run has a file of its own.

mod herd;
mod idle;
mod steady;
mod steady_report;
mod worker;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;

pub use crate::load::mix::Mix;
use crate::load::phone::Plan;
use crate::target::{ApiArgs, TargetArgs, parse_duration};

/// Options of a load run.
#[derive(clap::Args, Clone)]
pub struct BridgeBenchArgs {
    /// Which server, bots and keys.
    #[command(flatten)]
    pub target: TargetArgs,
    /// How to reach the server's API.
    #[command(flatten)]
    pub api: ApiArgs,
    /// Number of phones.
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub phones: usize,
    /// Rooms in which each phone talks, in turn.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub rooms_per_phone: usize,
    /// Echo requests per second over all phones; 0 sends as fast as answers come (closed loop).
    #[arg(long, default_value_t = 0.0, value_name = "N")]
    pub rate: f64,
    /// Closed loop only: requests that each phone keeps in flight.
    #[arg(long, default_value_t = 16, value_name = "N")]
    pub window: usize,
    /// How long to measure.
    #[arg(long, default_value = "10s", value_parser = parse_duration, value_name = "TIME")]
    pub duration: Duration,
    /// Send this many echo requests instead of measuring for a time; then there is no warm-up.
    #[arg(long, value_name = "N")]
    pub messages: Option<u64>,
    /// How long to load before measuring begins.
    #[arg(long, default_value = "2s", value_parser = parse_duration, value_name = "TIME")]
    pub warmup: Duration,
    /// Give up on replies after this long without any.
    #[arg(long, default_value = "5s", value_parser = parse_duration, value_name = "TIME")]
    pub drain: Duration,
    /// Bytes of UTF-8 in each text (24 at least).
    #[arg(long, default_value_t = 48, value_name = "N")]
    pub text_bytes: usize,
    /// What is said, by weight: echo, talk (no answer), help, ping, info; `echo=90,talk=10`.
    #[arg(long, default_value = "echo", value_parser = Mix::parse, value_name = "MIX")]
    pub mix: Mix,
    /// How long a phone reuses one signature; 0s signs each frame, as real phones do, and costs the
    /// load generator about a microsecond a message.
    #[arg(long, default_value = "1s", value_parser = parse_duration, value_name = "TIME")]
    pub sign_every: Duration,
    /// Threads that read and write for the phones.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub threads: usize,
    /// Process id of the server: measures its CPU time, context switches and memory.
    #[arg(long, value_name = "PID")]
    pub pid: Option<u32>,
    /// Connect all phones, cut them all, let them return at once with queued frames.
    #[arg(long, conflicts_with = "idle")]
    pub herd: bool,
    /// Frames that each phone of the herd brings; real phones flush ten at most.
    #[arg(long, default_value_t = 10, value_name = "N")]
    pub herd_queued: usize,
    /// Herd only: pause between the cut and the return; restart the server in it.
    #[arg(long, default_value = "1s", value_parser = parse_duration, value_name = "TIME")]
    pub herd_away: Duration,
    /// Connect the phones, let them rest, report memory per phone of the server (--pid).
    #[arg(long)]
    pub idle: bool,
    /// Idle only: echo requests that each phone sends before it rests.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub idle_messages: usize,
    /// Idle only: rest before memory is read.
    #[arg(long, default_value = "5s", value_parser = parse_duration, value_name = "TIME")]
    pub settle: Duration,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    pub json: bool,
}

impl BridgeBenchArgs {
    fn plan(&self) -> Arc<Plan> {
        Arc::new(Plan {
            phones: self.phones,
            rooms_per_phone: self.rooms_per_phone,
            text_bytes: self.text_bytes,
            mix: self.mix.clone(),
            sign_every_ns: u64::try_from(self.sign_every.as_nanos()).unwrap_or(u64::MAX),
        })
    }

    fn check(&self) -> anyhow::Result<()> {
        if self.phones == 0 || self.rooms_per_phone == 0 || self.window == 0 || self.threads == 0 {
            bail!("--phones, --rooms-per-phone, --window and --threads must be at least 1");
        }
        if self.phones.saturating_mul(self.rooms_per_phone) > 1_000_000 {
            bail!("at most 1,000,000 rooms: room numbers have six digits");
        }
        if !self.rate.is_finite() || self.rate < 0.0 {
            bail!("--rate must be zero or more");
        }
        if self.idle && self.pid.is_none() {
            bail!("--idle needs --pid: it reports the server's memory");
        }
        Ok(())
    }
}

/// Runs the load and prints what came of it.
///
/// Exit code 1 when anything was lost, doubled, reordered or malformed, or a connection broke.
///
/// # Errors
/// When the server cannot be reached, or does not answer before the load begins.
pub async fn run(args: BridgeBenchArgs) -> anyhow::Result<ExitCode> {
    args.check()?;
    if args.herd {
        herd::run(&args).await
    } else if args.idle {
        idle::run(&args).await
    } else {
        steady::run(&args).await
    }
}

/// Prints a result in the form that was asked for.
fn show<T: serde::Serialize + std::fmt::Display>(result: &T, json: bool) -> anyhow::Result<()> {
    let text = if json { serde_json::to_string(result)? } else { result.to_string() };
    crate::text_table::print_line(text.trim_end());
    Ok(())
}

fn exit_code(clean: bool) -> ExitCode {
    if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
