//! The operator's commands: each is one or a few calls of the HTTP API, shown as a table for people or
//! as JSON for programs. Knows the API only; reads no configuration and no database.

mod access;
mod bots;
mod channels;
mod client;
mod node;
mod phones;
mod schedules;
mod show;
mod talk;
mod wards;

use std::process::ExitCode;

use clap::Subcommand;

use self::client::{Client, Failure};
use self::show::Screen;

/// How to reach the server.
pub(crate) struct ConnectOptions {
    /// Such as `http://127.0.0.1:8080`.
    pub(crate) url: String,
    /// For `Authorization: Bearer`.
    pub(crate) token: Option<String>,
    /// Print what the server said instead of tables.
    pub(crate) json: bool,
    /// PEM file with the only certificates to trust.
    pub(crate) ca: Option<std::path::PathBuf>,
}

/// What operators do with a running server.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Show how the server is: version, health, queue
    Status,
    /// Ask a probe, as containers do: exit code 0 if it is well. Needs no token
    Health {
        /// Which one
        #[arg(value_enum, default_value_t)]
        probe: node::Probe,
    },
    /// Phones: list, approve, limit
    #[command(subcommand, after_help = phones::DEVICES_EXAMPLES)]
    Devices(phones::Devices),
    /// Rooms: list, approve
    #[command(subcommand, after_help = phones::ROOMS_EXAMPLES)]
    Rooms(phones::Rooms),
    /// Bots and their settings
    #[command(subcommand, after_help = bots::EXAMPLES)]
    Bots(bots::Bots),
    /// What was said: list, search, answer
    #[command(subcommand, after_help = talk::MESSAGES_EXAMPLES)]
    Messages(talk::Messages),
    /// Send a text or pictures to a room
    #[command(after_help = talk::SEND_EXAMPLES)]
    Send(talk::Send),
    /// Channels: list, history, presence, subscribe users
    #[command(name = "channel", subcommand, after_help = channels::CHANNEL_EXAMPLES)]
    Channels(channels::Channels),
    /// Publish into a channel
    #[command(after_help = channels::PUBLISH_EXAMPLES)]
    Publish(channels::Publish),
    /// Show what is published in a channel, as it comes
    #[command(after_help = channels::SUBSCRIBE_EXAMPLES)]
    Subscribe(channels::Subscribe),
    /// Messages that failed for good: list, work off once more
    #[command(subcommand, after_help = talk::DEAD_LETTERS_EXAMPLES)]
    DeadLetters(talk::DeadLetters),
    /// Messages that are sent by the clock
    #[command(subcommand, after_help = schedules::EXAMPLES)]
    Schedules(schedules::Schedules),
    /// Sessions of phones: list, close the connection
    #[command(subcommand, after_help = node::SESSIONS_EXAMPLES)]
    Sessions(node::Sessions),
    /// Show what waits and what the workers do
    Queue,
    /// Show looks at the machine and the process over time
    System(node::Since),
    /// Show a phone's answers to keep-alives over time
    Pings(node::Pings),
    /// Log levels: show, set
    #[command(subcommand, after_help = node::LOGS_EXAMPLES)]
    Logs(node::Logs),
    /// The audit log: list, verify
    #[command(subcommand)]
    Audit(node::Audit),
    /// Tokens for programs: list, create, revoke
    #[command(subcommand, after_help = access::TOKENS_EXAMPLES)]
    Tokens(access::Tokens),
    /// Game servers of this machine: list, start, stop, look, talk, back up
    #[command(name = "ward", subcommand, after_help = wards::EXAMPLES)]
    Wards(wards::Wards),
    /// People who may log in: list, add, remove, set a password
    #[command(subcommand, after_help = access::ACCOUNTS_EXAMPLES)]
    Accounts(access::Accounts),
}

/// Does it. What went wrong is told on standard error; the exit code says which kind it was.
pub(crate) async fn run(command: Command, options: ConnectOptions) -> anyhow::Result<ExitCode> {
    let screen = Screen::new(options.json);
    let done = match Client::new(&options) {
        Ok(client) => dispatch(command, &client, &screen).await,
        Err(failure) => Err(failure),
    };
    match done {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(failure) => {
            screen.complain(&failure.to_string());
            Ok(ExitCode::from(failure.exit_code()))
        }
    }
}

async fn dispatch(command: Command, client: &Client, screen: &Screen) -> Result<(), Failure> {
    match command {
        Command::Status => node::status(client, screen).await,
        Command::Health { probe } => node::health(probe, client, screen).await,
        Command::Devices(command) => phones::devices(command, client, screen).await,
        Command::Rooms(command) => phones::rooms(command, client, screen).await,
        Command::Bots(command) => bots::run(command, client, screen).await,
        Command::Messages(command) => talk::messages(command, client, screen).await,
        Command::Send(command) => talk::send(command, client, screen).await,
        Command::Channels(command) => channels::channels(command, client, screen).await,
        Command::Publish(command) => channels::publish(command, client, screen).await,
        Command::Subscribe(command) => channels::subscribe(command, client, screen).await,
        Command::DeadLetters(command) => talk::dead_letters(command, client, screen).await,
        Command::Schedules(command) => schedules::run(command, client, screen).await,
        Command::Sessions(command) => node::sessions(command, client, screen).await,
        Command::Queue => node::queue(client, screen).await,
        Command::System(since) => node::system(since, client, screen).await,
        Command::Pings(pings) => node::pings(pings, client, screen).await,
        Command::Logs(command) => node::logs(command, client, screen).await,
        Command::Audit(command) => node::audit(command, client, screen).await,
        Command::Tokens(command) => access::tokens(command, client, screen).await,
        Command::Wards(command) => wards::run(command, client, screen).await,
        Command::Accounts(command) => access::accounts(command, client, screen).await,
    }
}
