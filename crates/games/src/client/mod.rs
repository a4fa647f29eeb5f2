//! Clients: one per server and protocol, which keep their socket and what a server gave them (tokens,
//! challenges) from question to question. No tasks of their own; a question has one deadline, and only where
//! a fallback needs its share of the time it has two.

mod a2s;
mod bedrock;
mod econ;
mod http;
mod luanti;
mod management;
mod palworld;
mod quake3;
mod query;
mod rcon;
mod slp;
mod stream;
mod tcp;
mod teeworlds;
mod teeworlds6;
mod udp;

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use async_trait::async_trait;

use crate::endpoint::Endpoint;
use crate::error::{AskError, TellError};
use crate::protocol::Protocol;
use crate::status::{Status, Want};

pub use management::Watcher;

/// Asks one game server.
///
/// Dropping a question halfway is safe: what is left of its answer is never taken for the next one. A
/// connection over which it went is then closed.
#[async_trait]
pub trait Asker: Send {
    /// Asks, connecting first if need be. Ends within the endpoint's timeout.
    ///
    /// With [`Want::Players`] the names may still be `None`: servers hide them, or answer the counts only.
    async fn ask(&mut self, want: Want) -> Result<Status, AskError>;
}

/// Tells one game server what to do.
#[async_trait]
pub trait Teller: Send {
    /// Sends one command and gives the answer, which may be empty. Never sends it twice. Ends within the
    /// endpoint's timeout.
    ///
    /// A command that ends the server often ends the connection, too: then it is [`TellError::Unsure`].
    /// Dropped halfway, the command may or may not have arrived.
    async fn tell(&mut self, command: &str) -> Result<String, TellError>;
}

/// Both over one connection.
pub trait AskTell: Asker + Teller {}

impl<T: Asker + Teller> AskTell for T {}

/// A client that asks, or `Unsupported` for the protocols that only tell. Connects with the first question.
pub fn asker(protocol: Protocol, endpoint: Endpoint) -> Result<Box<dyn Asker>, AskError> {
    Ok(match protocol {
        Protocol::Palworld => Box::new(palworld::Palworld::new(endpoint)),
        Protocol::MinecraftPing => Box::new(slp::Ping::new(endpoint)),
        Protocol::MinecraftQuery => Box::new(query::Query::new(endpoint)),
        Protocol::MinecraftManagement => Box::new(Watcher::without_events(endpoint)),
        Protocol::Bedrock => Box::new(bedrock::Bedrock::new(endpoint)),
        Protocol::A2s => Box::new(a2s::A2s::new(endpoint)),
        Protocol::Quake3 => Box::new(quake3::Quake3::new(endpoint)),
        Protocol::Teeworlds => Box::new(teeworlds::Teeworlds::new(endpoint)),
        Protocol::Teeworlds06 => Box::new(teeworlds6::Teeworlds6::new(endpoint)),
        Protocol::Luanti => Box::new(luanti::Luanti::new(endpoint)),
        Protocol::Rcon(flavour) => Box::new(rcon::Rcon::new(endpoint, flavour)),
        Protocol::Tcp => Box::new(tcp::Tcp::new(endpoint)),
        Protocol::Quake3Rcon | Protocol::Econ => {
            return Err(AskError::Unsupported("this protocol only takes commands"));
        }
    })
}

/// A client that tells, or `Unsupported` for the protocols that only ask.
pub fn teller(protocol: Protocol, endpoint: Endpoint) -> Result<Box<dyn Teller>, AskError> {
    Ok(match protocol {
        Protocol::Palworld => Box::new(palworld::Palworld::new(endpoint)),
        Protocol::MinecraftManagement => Box::new(Watcher::without_events(endpoint)),
        Protocol::Rcon(flavour) => Box::new(rcon::Rcon::new(endpoint, flavour)),
        Protocol::Quake3 | Protocol::Quake3Rcon => Box::new(quake3::Quake3::new(endpoint)),
        Protocol::Econ => Box::new(econ::Econ::new(endpoint)),
        _ => return Err(AskError::Unsupported("this protocol takes no commands")),
    })
}

/// A client that does both over one connection, or `Unsupported` where one half is missing. For Quake 3 it
/// also keeps questions and commands together below the server's rate.
pub fn both(protocol: Protocol, endpoint: Endpoint) -> Result<Box<dyn AskTell>, AskError> {
    Ok(match protocol {
        Protocol::Palworld => Box::new(palworld::Palworld::new(endpoint)),
        Protocol::MinecraftManagement => Box::new(Watcher::without_events(endpoint)),
        Protocol::Rcon(flavour) => Box::new(rcon::Rcon::new(endpoint, flavour)),
        Protocol::Quake3 | Protocol::Quake3Rcon => Box::new(quake3::Quake3::new(endpoint)),
        _ => return Err(AskError::Unsupported("this protocol does not both ask and tell")),
    })
}

/// The one deadline of a question.
async fn within<T>(
    timeout: Duration,
    question: impl Future<Output = Result<T, AskError>>,
) -> Result<T, AskError> {
    match tokio::time::timeout(timeout, question).await {
        Ok(result) => result,
        Err(_elapsed) => Err(AskError::Timeout),
    }
}

/// What a question in several steps has learned: the counts are worth having if only the names failed.
fn or_partial(result: Result<(), AskError>, learned: Status) -> Result<Status, AskError> {
    match result {
        Ok(()) => Ok(learned),
        Err(_) if learned.players.is_some() => Ok(learned),
        Err(error) => Err(error),
    }
}

/// Says of a command that failed whether it may have been carried out.
fn told<T>(result: Result<T, AskError>, sent: bool) -> Result<T, TellError> {
    result.map_err(|error| match error {
        // Whoever refuses the password has not carried out anything.
        AskError::Unauthorized => TellError::NotDone(error),
        error if sent => TellError::Unsure(error),
        error => TellError::NotDone(error),
    })
}

/// A number that the server sends back, so that a late answer is not taken for the next one's. It guards
/// against mistakes, not against enemies on the same machine.
fn fresh() -> u32 {
    let [a, b, c, d, ..] = RandomState::new().hash_one(0_u8).to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}
