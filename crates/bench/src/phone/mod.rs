//! `naru phone`: a phone for people without one. Behaves like any of the bridge scripts, waits and
//! mistakes included; types or plays a script; prints what comes back.

mod event;
mod lines;
mod link;
mod media;
mod person;
mod queue;
mod steps;
pub(crate) mod tls;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use self::link::{Habits, Link};
use self::person::Person;
use self::steps::Step;
use crate::proto::{Identity, Script, Signer};
use crate::target::KeyPairArgs;
use crate::target::parse_duration;

const ORDERS_MAX: usize = 1024;
const EVENTS_MAX: usize = 1024;

/// Options of the simulated phone.
#[derive(clap::Args, Clone)]
pub struct PhoneArgs {
    /// Address of the bridge listener; repeat it for servers to fall back to.
    #[arg(long, default_value = "127.0.0.1:1490", value_name = "HOST:PORT")]
    pub server: Vec<String>,
    /// Name of the bot.
    #[arg(long, default_value = "demo-bot", value_name = "NAME")]
    pub bot: String,
    /// Device id: 16 hex digits on real phones.
    #[arg(long, default_value = "51d0000000000001", value_name = "ID")]
    pub device: String,
    /// What the phones sign with.
    #[command(flatten)]
    pub pair: KeyPairArgs,
    /// Bridge script to behave like: 2.9.0c, 3.1.4, 3.2.0, 3.2.1, 3.2.1+imglogshort, 3.2.2,
    /// 3.2.2+smartlog, 3.3.0-a1, 3.3.0-a2, 3.3.1, 3.3.2, 3.3.3, newest.
    #[arg(long = "version", default_value = "3.2.1", value_name = "VERSION")]
    pub script_version: String,
    /// Room to talk in, with or without its channel id.
    #[arg(long, default_value = "점심방", value_name = "NAME[=ID]")]
    pub room: String,
    /// Who talks.
    #[arg(long, default_value = "지우", value_name = "NAME")]
    pub sender: String,
    /// Say this and leave after the replies; repeat it for more. Without --say and --script, lines
    /// are read from standard input.
    #[arg(long, value_name = "TEXT")]
    pub say: Vec<String>,
    /// Play the steps in this file: room, as, say, flood, wait-reply, wait-welcome, silence, sleep,
    /// raw, drop, reconnect, quit.
    #[arg(long, value_name = "FILE", conflicts_with = "say")]
    pub script: Option<PathBuf>,
    /// Exit with 1 unless a reply contains this text; repeat it for several, in order.
    #[arg(long, value_name = "TEXT")]
    pub expect: Vec<String>,
    /// How long to wait for each reply.
    #[arg(long, default_value = "10s", value_parser = parse_duration, value_name = "TIME")]
    pub timeout: Duration,
    /// Stay this long after the last step.
    #[arg(long, default_value = "0s", value_parser = parse_duration, value_name = "TIME")]
    pub linger: Duration,
    /// Send each message twice, as old scripts do where listener and response() both fire.
    #[arg(long)]
    pub legacy_copies: bool,
    /// Be busy with media as long as a real phone, or not at all.
    #[arg(long, default_value = "real", value_name = "HOW")]
    pub media_wait: MediaWait,
    /// Save received media here, byte for byte.
    #[arg(long, value_name = "DIR")]
    pub save_media: Option<PathBuf>,
    /// 3.2.x with MESSAGE_CONTENT_DETAIL switched off: drop lines under 200 characters.
    #[arg(long)]
    pub no_content_detail: bool,
    /// Connect with TLS (real phones cannot).
    #[arg(long, requires = "trust")]
    pub tls: bool,
    /// With --tls: trust the certificates in this PEM file.
    #[arg(long, value_name = "FILE", group = "trust")]
    pub ca: Option<PathBuf>,
    /// With --tls: trust any certificate. For trials only.
    #[arg(long, group = "trust")]
    pub insecure: bool,
    /// Print one JSON object a line.
    #[arg(long)]
    pub json: bool,
}

/// Whether the phone sleeps while it shares media.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum MediaWait {
    /// As long as the script would.
    Real,
    /// Not at all.
    None,
}

/// Runs the phone until its script ends, standard input ends or `/quit`.
///
/// Exit code 1 when an expected reply did not come.
///
/// # Errors
/// On options that make no sense, an unreadable script file or certificate.
pub async fn run(args: PhoneArgs) -> anyhow::Result<ExitCode> {
    let script = script_of(&args)?;
    let steps = steps_of(&args)?;
    let identity = Identity::new(&args.bot, &args.device, "unknown");
    let habits = Habits {
        servers: args.server.clone(),
        script,
        tls: tls_of(&args)?,
        legacy_copies: args.legacy_copies,
        media_wait: args.media_wait == MediaWait::Real,
        save_media: args.save_media.clone(),
    };
    let (events, heard) = mpsc::channel(EVENTS_MAX);
    let (orders, ordered) = mpsc::channel(ORDERS_MAX);
    let link = Link::new(habits, identity, Signer::new(&args.pair.secret, &args.pair.salt), events);
    let mut tasks = JoinSet::new();
    tasks.spawn(link.run(ordered));
    let mut person = Person::new(&args, orders, heard);
    let satisfied = match steps {
        Some(steps) => person.play(&steps).await,
        None => person.converse().await?,
    };
    // Dropping the orders switches the phone off; it has no goodbye to say.
    drop(person);
    tasks.shutdown().await;
    Ok(if satisfied { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn script_of(args: &PhoneArgs) -> anyhow::Result<Script> {
    let Some(mut script) = Script::find(&args.script_version) else {
        let known = Script::names().join(", ");
        bail!("unknown --version {}: known are {known}, and any 3.x", args.script_version);
    };
    if args.no_content_detail {
        script.line_chars_min = script.line_chars_min.max(200);
    }
    Ok(script)
}

/// `None`: read what is typed.
fn steps_of(args: &PhoneArgs) -> anyhow::Result<Option<Vec<Step>>> {
    if let Some(path) = &args.script {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let steps = steps::parse_script(&text)
            .map_err(|why| anyhow::anyhow!("{}: {why}", path.display()))?;
        return Ok(Some(steps));
    }
    if args.say.is_empty() && args.expect.is_empty() {
        return Ok(None);
    }
    let mut steps: Vec<Step> = args.say.iter().cloned().map(Step::Say).collect();
    if args.expect.is_empty() {
        steps.extend(args.say.iter().map(|_| Step::WaitReply(None)));
    }
    Ok(Some(steps))
}

fn tls_of(args: &PhoneArgs) -> anyhow::Result<Option<tokio_rustls::TlsConnector>> {
    if !args.tls {
        return Ok(None);
    }
    let trust = match &args.ca {
        Some(path) => tls::Trust::File(path.clone()),
        None => tls::Trust::Anybody,
    };
    tls::connector(&trust).map(Some)
}
