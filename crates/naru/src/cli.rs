//! The command line: what there is to say, and who does it.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use naru_bench::KeyPairArgs;

use crate::config::{self, Config, Mistake, Sources};
use crate::{operate, serve, service};

/// A realtime session server: keeps bots, chat users and game players connected, and delivers every
/// message once and in order.
///
/// Without a command it serves. Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 the
/// server cannot be reached, 4 refused, 5 not found, 6 changed meanwhile.
#[derive(Parser)]
#[command(name = "naru", version)]
pub(crate) struct Cli {
    #[command(flatten)]
    connect: Connect,
    #[command(flatten)]
    settings: Settings,
    #[command(subcommand)]
    command: Option<Command>,
}

/// Where the configuration comes from.
#[derive(Args, Clone, Default)]
pub(crate) struct Settings {
    /// Configuration file (TOML)
    #[arg(
        long,
        global = true,
        env = "NARU_CONFIG",
        value_name = "FILE",
        help_heading = "Configuration"
    )]
    config: Option<PathBuf>,
    /// Folder for everything that is kept [default: ./naru-data]
    #[arg(long, global = true, value_name = "DIR", help_heading = "Configuration")]
    data_dir: Option<PathBuf>,
    /// Set one key, such as --set bridge.listen=0.0.0.0:1490 (repeatable; see `naru config`)
    #[arg(long = "set", global = true, value_name = "KEY=VALUE", help_heading = "Configuration")]
    set: Vec<String>,
}

/// How operator's commands reach the server.
#[derive(Args, Clone)]
struct Connect {
    /// The server's address
    #[arg(
        long,
        global = true,
        env = "NARU_SERVER",
        value_name = "URL",
        help_heading = "Connection"
    )]
    api: Option<String>,
    /// Token for the server; without one, operator.token in the data folder is used
    #[arg(
        long,
        global = true,
        env = "NARU_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN",
        help_heading = "Connection"
    )]
    token: Option<String>,
    /// Trust the certificates in this PEM file instead of the system's
    #[arg(long, global = true, value_name = "FILE", help_heading = "Connection")]
    api_ca: Option<PathBuf>,
    /// Print JSON instead of tables
    #[arg(long, global = true, help_heading = "Connection")]
    json: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Run the server (this is what `naru` without a command does)
    Serve {
        /// Run a part of it only
        #[arg(long, value_enum)]
        only: Option<serve::Only>,
    },
    /// Read the configuration and explain every mistake in it
    Check,
    /// Show all keys of the configuration, their defaults and their meaning
    Config {
        /// Print the table as Markdown
        #[arg(long)]
        markdown: bool,
    },
    /// Look at the database's schema and bring it up to date
    Migrate {
        #[command(subcommand)]
        action: Migrate,
    },
    /// Be a simulated phone: talk to a bot without owning a phone
    Phone(naru_bench::phone::PhoneArgs),
    /// Measure a running server
    Bench {
        #[command(subcommand)]
        what: Bench,
    },
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page (roff)
    Man,
    #[command(flatten)]
    Operate(operate::Command),
}

#[derive(Subcommand)]
enum Migrate {
    /// Show which migrations the database has
    Status,
    /// Apply what is missing
    Up,
    /// Show the SQL of what is missing without applying it
    DryRun,
}

#[derive(Subcommand)]
enum Bench {
    /// Phones that talk: throughput, latency, losses, memory, CPU of the server
    Bridge(naru_bench::bridge::BridgeBenchArgs),
    /// Kill the server again and again under load, and account for every message
    BridgeKill(naru_bench::kill::KillArgs),
    /// A bare line-echo server to compare with
    BridgeFloor(naru_bench::floor::FloorArgs),
    /// STOMP clients, over WebSocket or TCP: fan-out, rest, churn, storms, durable publishes
    Stomp(naru_bench::chat::StompArgs),
    /// Centrifuge clients, JSON or Protobuf: the same runs
    Centrifuge(naru_bench::chat::CentrifugeArgs),
    /// A bare-socket chat server to compare with, and the same runs against it
    Floor(naru_bench::chat::floor::FloorArgs),
    /// Watching game servers: what Naru and other monitors take of the machine, and of a game on the same core
    ///
    /// Starts real game servers (`cargo xtask games` brings them), lets monitors watch them one after the other, and
    /// prints what each took by the hour. Naru starts the games itself, as `naru serve --only wards`, and its keepers
    /// are counted apart. See docs/operations/ward-benchmark.md.
    #[cfg(target_os = "linux")]
    Wards(naru_bench::wards::WardsArgs),
}

/// Does what was asked for.
pub(crate) fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let Cli { connect, settings, command } = cli;
    match command.unwrap_or(Command::Serve { only: None }) {
        Command::Serve { only } => {
            let Some(config) = read(&settings)? else { return Ok(ExitCode::from(2)) };
            serve::run(config, sources(&settings)?, only)
        }
        Command::Check => check(&settings, connect.json),
        Command::Config { markdown } => show_config(&settings, markdown, connect.json),
        Command::Migrate { action } => migrate(&settings, &action, connect.json),
        Command::Phone(mut args) => {
            sign_with(&settings, &mut args.pair)?;
            service::block_on(naru_bench::phone::run(args))
        }
        Command::Bench { what } => bench(&settings, what),
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "naru", &mut text);
            print(&text)
        }
        Command::Man => {
            let mut text = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut text)?;
            print(&text)
        }
        Command::Operate(command) => {
            let options = connect_options(&settings, connect)?;
            service::block_on(operate::run(command, options))
        }
    }
}

fn bench(settings: &Settings, what: Bench) -> anyhow::Result<ExitCode> {
    match what {
        Bench::Bridge(mut args) => {
            sign_with(settings, &mut args.target.pair)?;
            service::block_on(naru_bench::bridge::run(args))
        }
        Bench::BridgeKill(mut args) => {
            sign_with(settings, &mut args.target.pair)?;
            service::block_on(naru_bench::kill::run(args))
        }
        Bench::BridgeFloor(mut args) => {
            sign_with(settings, &mut args.pair)?;
            service::runtime_with(args.threads)?.block_on(naru_bench::floor::run(args))
        }
        Bench::Stomp(args) => naru_bench::chat::stomp(args),
        Bench::Centrifuge(args) => naru_bench::chat::centrifuge(args),
        Bench::Floor(args) => naru_bench::chat::floor::run(args),
        #[cfg(target_os = "linux")]
        Bench::Wards(args) => naru_bench::wards::run(&args),
    }
}

/// Simulated phones sign like the scripts do. Without flags or variables they take the key pair that the
/// server of the same configuration and data folder takes.
fn sign_with(settings: &Settings, pair: &mut KeyPairArgs) -> anyhow::Result<()> {
    if !pair.secret.is_empty() && !pair.salt.is_empty() {
        return Ok(());
    }
    let config = config::load(&sources(settings)?).unwrap_or_default();
    let found = crate::keys::pair_of_default(&config).context(
        "no key pair: give --secret and --salt, or --data-dir of a server that was started here",
    )?;
    (pair.secret, pair.salt) = found;
    Ok(())
}

/// Writes to standard output; a closed pipe (`naru man | head`) is no error.
fn print(bytes: &[u8]) -> anyhow::Result<ExitCode> {
    match std::io::stdout().lock().write_all(bytes) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn sources(settings: &Settings) -> anyhow::Result<Sources> {
    let mut flags = Vec::new();
    if let Some(dir) = &settings.data_dir {
        let dir = dir.to_str().context("--data-dir is not UTF-8")?;
        flags.push(("data_dir".to_owned(), format!("{dir:?}"), "--data-dir".to_owned()));
    }
    for pair in &settings.set {
        let (key, value) =
            pair.split_once('=').with_context(|| format!("--set {pair}: write KEY=VALUE"))?;
        flags.push((key.trim().to_owned(), value.to_owned(), "--set".to_owned()));
    }
    Ok(Sources { file: settings.config.clone(), variables: Sources::environment(), flags })
}

/// The configuration, or `None` after its mistakes were explained.
fn read(settings: &Settings) -> anyhow::Result<Option<Config>> {
    match config::load(&sources(settings)?) {
        Ok(config) => Ok(Some(config)),
        Err(mistakes) => {
            explain(&mistakes);
            Ok(None)
        }
    }
}

fn explain(mistakes: &[Mistake]) {
    let count = mistakes.len();
    let noun = if count == 1 { "mistake" } else { "mistakes" };
    service::complain(&format!("{count} {noun} in the configuration:"));
    for mistake in mistakes {
        service::complain(&format!("  {mistake}"));
    }
}

fn check(settings: &Settings, json: bool) -> anyhow::Result<ExitCode> {
    let mistakes = config::load(&sources(settings)?).err().unwrap_or_default();
    if json {
        let rows: Vec<_> = mistakes
            .iter()
            .map(|mistake| {
                serde_json::json!({
                    "key": mistake.key, "origin": mistake.origin, "message": mistake.message,
                })
            })
            .collect();
        print(format!("{}\n", serde_json::json!({ "mistakes": rows })).as_bytes())?;
    } else if mistakes.is_empty() {
        print(b"The configuration is right.\n")?;
    } else {
        explain(&mistakes);
    }
    Ok(if mistakes.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(2) })
}

fn show_config(settings: &Settings, markdown: bool, json: bool) -> anyhow::Result<ExitCode> {
    if markdown {
        return print(config::reference_markdown().as_bytes());
    }
    let Some(config) = read(settings)? else { return Ok(ExitCode::from(2)) };
    if json {
        return print(format!("{}\n", serde_json::to_string_pretty(&config)?).as_bytes());
    }
    let mut text =
        format!("# What is in force (secrets are hidden).\n{}\n", toml::to_string(&config)?);
    text.push_str("# All keys. Each can also be a variable, such as ");
    text.push_str(&config::variable_of_key("bridge.ping_interval"));
    text.push_str(".\n");
    for (key, what) in config::reference() {
        text.push_str(&format!("# {key}: {what}\n"));
    }
    print(text.as_bytes())
}

fn migrate(settings: &Settings, action: &Migrate, json: bool) -> anyhow::Result<ExitCode> {
    let Some(config) = read(settings)? else { return Ok(ExitCode::from(2)) };
    let text = service::block_on(async {
        match action {
            Migrate::Status => service::migrations(&config, json).await,
            Migrate::Up => service::migrate(&config, json).await,
            Migrate::DryRun => service::migration_sql(&config).await,
        }
    })?;
    print(text.as_bytes())
}

fn connect_options(
    settings: &Settings,
    connect: Connect,
) -> anyhow::Result<operate::ConnectOptions> {
    // The configuration tells where the server listens and where its token lies; without a right one
    // the flags alone must do.
    let config = config::load(&sources(settings)?).unwrap_or_default();
    let url = connect.api.unwrap_or_else(|| {
        let scheme = if config.http.tls_certificate.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", config.http.listen)
    });
    let token = connect
        .token
        .or_else(|| std::fs::read_to_string(config.data_dir.join("operator.token")).ok())
        .map(|token| token.trim().to_owned());
    Ok(operate::ConnectOptions { url, token, json: connect.json, ca: connect.api_ca })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
