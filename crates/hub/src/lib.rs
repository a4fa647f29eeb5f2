//! Sessions that outlive connections, their bounded mailboxes, channels with positions, and the
//! in-process bus.
//!
//! The state machines ([`mailbox`], [`session`], [`channel`]) are plain data and public, so that a
//! simulator can drive them without tasks and sockets. [`Hub`] puts locks and wake-ups around them.
//! This crate knows no wire protocol and no database.

pub mod access;
pub mod channel;
pub mod mailbox;
pub mod queue;
pub mod session;

mod attachment;
mod channels;
mod client;
mod fan_out;
mod history;
mod hub;
mod local;
mod metrics;
mod options;
mod outlet;
mod owner;
mod position_check;
mod registry;
mod run;
mod signal;
mod subscribe;
#[cfg(test)]
mod test_node;
mod timer;

pub use attachment::Attachment;
pub use channels::Traits;
pub use client::{Client, ClientSpec, Connected};
pub use history::{PageError, PageQuery};
pub use hub::{AttachError, Delivered, Hub, SessionSpec, SessionView};
pub use local::{LocalBus, LocalBusMetrics, LocalBusOptions};
pub use mailbox::MailboxLimits;
pub use metrics::HubMetrics;
pub use options::HubOptions;
pub use outlet::{Cut, Ending, Event, Filter, Mark, Outlet, Taken};
pub use owner::PublishError;
pub use signal::{Poker, Wake};
pub use subscribe::{
    NotRecovered, PresenceStats, Recover, SubscribeError, SubscribeSpec, Subscribed,
    TooManyConnections,
};
