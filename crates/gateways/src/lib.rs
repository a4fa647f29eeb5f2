//! Sockets to sessions: one module per protocol, plus what listeners share (limits, TLS, timers).
//!
//! Knows the hub, the codecs and the domain's ports. Knows nothing of rooms, bots or SQL.

pub mod bridge;
pub mod limits;
pub mod tls;
mod wheel;
