//! Bot work: devices, rooms, ordered workers, commands, schedules, hooks.
//!
//! A chat message comes in through the desk, is kept by the ledger, worked off in order
//! per room by the workers, and its replies go to the phone's hub session. This crate knows no wire
//! protocol, no socket and no database: only ports.

pub mod command;
pub mod handler;
pub mod hook;
pub mod media;
pub mod schedule;
pub mod sessions;
pub mod settings;

mod bots;
mod core;
mod desk;
mod duplicates;
mod hub_sessions;
mod ledger;
mod links;
mod metrics;
mod operate;
mod options;
mod pacer;
mod prepare;
mod room_channel;
mod roster;
mod router;
mod scheduler;
mod services;
mod workers;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod twin;

pub use bots::{Bots, ScheduleError};
pub use handler::{Handler, HandlerError, Incoming, Outcome, ReplyOut, SendError};
pub use metrics::BotsMetrics;
pub use operate::{QueueView, SendRequest, SetSettingsError};
pub use options::{BotsOptions, FirstContact, Ports, Processing, Retention};
pub use room_channel::{BOT_NAMESPACE, ROOM_NAMESPACE, bot_channel, room_channel};
pub use scheduler::SchedulerLimits;
pub use workers::WorkerView;
