//! Load generators, durability run, comparison floors and simulated phone.
//!
//! Holds its own small implementations of the bridge protocol, STOMP, Centrifuge and WebSocket,
//! written from the protocol documents alone. It must not use any other crate of this workspace: a mistake that server and load
//! generator shared would be invisible, and this crate exists to make such mistakes visible.

mod account;
mod api;
pub mod bridge;
pub mod chat;
pub mod floor;
pub mod kill;
mod latency;
mod load;
pub mod phone;
mod process;
mod proto;
mod target;
mod text_table;
mod wall;
#[cfg(target_os = "linux")]
pub mod wards;

pub use target::{ApiArgs, KeyPairArgs, TargetArgs};
