//! The WebSocket codec from outside: the vectors of the RFCs, hostile streams, limits and properties.

#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "the bridge's half of it is not used here")]
mod support;

mod decode;
mod deflate;
mod encode;
mod handshake;
mod properties;
