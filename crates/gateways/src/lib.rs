//! Sockets to sessions: one module per protocol, plus what listeners share (limits, TLS, timers).
//!
//! Knows the hub, the codecs and the domain's ports. Knows nothing of rooms, bots or SQL.

pub mod bridge;
pub mod centrifuge;
pub mod connections;
mod input;
pub mod limits;
pub mod origin;
pub mod out;
pub mod outgoing;
pub mod stomp;
pub mod tls;
pub mod token;
mod turns;
mod wheel;
pub mod ws;
