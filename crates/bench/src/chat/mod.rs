//! `naru bench stomp`, `centrifuge` and `floor`: many chat clients against a server. This file holds
//! the options and chooses the run; each kind of run has a file of its own.

mod churn;
mod crowd;
mod dialect;
mod durable;
mod fan_out;
pub mod floor;
mod idle;
mod lane;
mod links;
mod mark;
mod report;
mod storm;
mod url;
mod ws;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;

use crate::target::parse_duration;
use dialect::{Dialect, StompLogin};
use links::{Links, Manner};
use url::{Transport, Url};

/// STOMP 1.2 over WebSocket or TCP.
#[derive(clap::Args, Clone)]
pub struct StompArgs {
    /// What the clients do.
    #[command(subcommand)]
    pub workload: Workload<StompTarget>,
}

/// Centrifuge client protocol 2 over WebSocket.
#[derive(clap::Args, Clone)]
pub struct CentrifugeArgs {
    /// What the clients do.
    #[command(subcommand)]
    pub workload: Workload<CentrifugeTarget>,
}

/// What clients do.
#[derive(clap::Subcommand, Clone)]
pub enum Workload<T: clap::Args> {
    /// Publish to channels and follow every message to every subscriber
    FanOut(With<T, fan_out::FanOutArgs>),
    /// Connect, subscribe and rest: memory and CPU per connection
    Idle(With<T, idle::IdleArgs>),
    /// Connect, subscribe and leave, again and again
    Churn(With<T, churn::ChurnArgs>),
    /// Cut everybody off, publish meanwhile, let all return at once and recover
    Storm(With<T, storm::StormArgs>),
    /// Publish and wait for acknowledgements
    Durable(With<T, durable::DurableArgs>),
}

/// Options of a run: the target, what all runs share, and its own.
#[derive(clap::Args, Clone)]
pub struct With<T: clap::Args, W: clap::Args> {
    /// Which server, and as whom.
    #[command(flatten)]
    pub target: T,
    /// What all runs share.
    #[command(flatten)]
    pub common: CommonArgs,
    /// The run's own options.
    #[command(flatten)]
    pub own: W,
}

/// Which STOMP server, and as whom.
#[derive(clap::Args, Clone)]
pub struct StompTarget {
    /// Address: ws://HOST:PORT/PATH or tcp://HOST:PORT
    #[arg(long, default_value = "ws://127.0.0.1:8080/stomp")]
    pub url: String,
    /// Login of the CONNECT frame; empty sends none
    #[arg(long, default_value = "")]
    pub login: String,
    /// Passcode of the CONNECT frame
    #[arg(long, default_value = "")]
    pub passcode: String,
    /// Virtual host of the CONNECT frame
    #[arg(long, default_value = "/")]
    pub host: String,
    /// Heart-beats both ways; 0s means none
    #[arg(long, default_value = "0s", value_parser = parse_duration, value_name = "TIME")]
    pub heart_beat: Duration,
    /// What comes before the channel's name in a destination
    #[arg(long, default_value = "/topic/")]
    pub destination_prefix: String,
}

/// Which Centrifuge server, and as whom.
#[derive(clap::Args, Clone)]
pub struct CentrifugeTarget {
    /// Address: ws://HOST:PORT/PATH
    #[arg(long, default_value = "ws://127.0.0.1:8080/connection/websocket")]
    pub url: String,
    /// Connection token; empty connects as nobody
    #[arg(long, default_value = "", hide_default_value = true)]
    pub token: String,
    /// Encoding
    #[arg(long, default_value = "json", value_name = "FORMAT")]
    pub format: Format,
}

/// Encodings of the Centrifuge protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// JSON in text frames.
    Json,
    /// Protobuf in binary frames.
    Protobuf,
}

/// What all runs share.
#[derive(clap::Args, Clone)]
pub struct CommonArgs {
    /// What comes before the number in a channel's name
    #[arg(long, default_value = "bench:")]
    pub channel_prefix: String,
    /// Bytes of each body
    #[arg(long, default_value_t = 128, value_name = "BYTES")]
    pub size: usize,
    /// Connections under way at once while clients come
    #[arg(long, default_value_t = 128, value_name = "N")]
    pub connecting: usize,
    /// Number of local addresses (127.0.1.0 on) to connect from; 0 leaves the choice to the system
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub sources: u16,
    /// Process id of the server: measures its CPU time, context switches and memory
    #[arg(long, value_name = "PID")]
    pub pid: Option<u32>,
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub json: bool,
}

/// A protocol's options, as far as runs need to know.
trait Target {
    fn url(&self) -> &str;
    fn dialect(&self) -> Dialect;
    /// What stands before a channel's name.
    fn destination_prefix(&self) -> &str {
        ""
    }
    /// What a report calls the target.
    fn name(&self) -> &'static str;
}

impl Target for StompTarget {
    fn url(&self) -> &str {
        &self.url
    }

    fn dialect(&self) -> Dialect {
        Dialect::Stomp(StompLogin {
            host: self.host.clone(),
            login: self.login.clone(),
            passcode: self.passcode.clone(),
            heart_beat_ms: u64::try_from(self.heart_beat.as_millis()).unwrap_or(u64::MAX),
        })
    }

    fn destination_prefix(&self) -> &str {
        &self.destination_prefix
    }

    fn name(&self) -> &'static str {
        "stomp"
    }
}

impl Target for CentrifugeTarget {
    fn url(&self) -> &str {
        &self.url
    }

    fn dialect(&self) -> Dialect {
        let token = self.token.clone();
        match self.format {
            Format::Json => Dialect::CentrifugeJson { token },
            Format::Protobuf => Dialect::CentrifugeProtobuf { token },
        }
    }

    fn name(&self) -> &'static str {
        match self.format {
            Format::Json => "centrifuge json",
            Format::Protobuf => "centrifuge protobuf",
        }
    }
}

/// What a run gets: how to connect, and what all runs share.
struct Setup {
    name: String,
    dialect: Dialect,
    url: Url,
    destination_prefix: String,
    common: CommonArgs,
}

impl Setup {
    fn new(target: &impl Target, common: CommonArgs) -> anyhow::Result<Setup> {
        let (url, dialect) = (Url::resolve(target.url())?, target.dialect());
        let text_bytes = dialect.text_bytes(common.size);
        if text_bytes < mark::TEXT_BYTES_MIN {
            bail!(
                "--size must be at least {}: run, channel, number and time stand in each body",
                mark::TEXT_BYTES_MIN + common.size - text_bytes
            );
        }
        if url.transport == Transport::Tcp && !matches!(dialect, Dialect::Stomp(_)) {
            bail!("only STOMP goes over tcp://");
        }
        if common.sources > 0 && !url.address.ip().is_loopback() {
            bail!("--sources works with a server on 127.0.0.1 only");
        }
        if common.connecting == 0 {
            bail!("--connecting must be at least 1");
        }
        let name = format!("{} at {}", target.name(), target.url());
        let destination_prefix = target.destination_prefix().to_owned();
        Ok(Setup { name, dialect, url, destination_prefix, common })
    }

    fn topics(&self, channels: usize) -> Vec<String> {
        let Setup { destination_prefix, common, .. } = self;
        let prefix = &common.channel_prefix;
        (0..channels).map(|channel| format!("{destination_prefix}{prefix}{channel}")).collect()
    }

    /// Room for `count` connections over `channels` channels; nothing is connected yet.
    fn links(&self, count: usize, channels: usize, interested: bool) -> anyhow::Result<Links> {
        let manner = Manner {
            url: self.url.clone(),
            dialect: self.dialect.clone(),
            sources: self.common.sources,
            connecting_max: self.common.connecting,
            text_bytes: self.dialect.text_bytes(self.common.size),
            interested,
            topics: self.topics(channels),
        };
        Links::new(manner, count)
    }
}

/// Runs STOMP clients and prints what came of it. Exit code 1 when anything was lost, doubled,
/// reordered, spoilt or refused, or a connection broke.
///
/// # Errors
/// When the server cannot be reached, or refuses the clients before the run begins.
pub fn stomp(args: StompArgs) -> anyhow::Result<ExitCode> {
    run(args.workload)
}

/// Runs Centrifuge clients; see [`stomp`].
///
/// # Errors
/// As for [`stomp`].
pub fn centrifuge(args: CentrifugeArgs) -> anyhow::Result<ExitCode> {
    run(args.workload)
}

fn run<T: clap::Args + Target>(workload: Workload<T>) -> anyhow::Result<ExitCode> {
    match workload {
        Workload::FanOut(With { target, common, own }) => {
            fan_out::run(&Setup::new(&target, common)?, &own)
        }
        Workload::Idle(With { target, common, own }) => {
            idle::run(&Setup::new(&target, common)?, &own)
        }
        Workload::Churn(With { target, common, own }) => {
            churn::run(&Setup::new(&target, common)?, &own)
        }
        Workload::Storm(With { target, common, own }) => {
            storm::run(&Setup::new(&target, common)?, &own)
        }
        Workload::Durable(With { target, common, own }) => {
            durable::run(&Setup::new(&target, common)?, &own)
        }
    }
}
