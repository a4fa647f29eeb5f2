//! Load generator, durability run, comparison floor and simulated phone.
//!
//! Holds its own small implementation of the bridge protocol, written from the protocol document
//! alone. It must not use any other crate of this workspace: a mistake that server and load
//! generator shared would be invisible, and this crate exists to make such mistakes visible.

mod account;
mod api;
pub mod bridge;
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

pub use target::{ApiArgs, KeyPairArgs, TargetArgs};
