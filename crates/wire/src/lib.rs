//! Pure codecs: bytes in, frames out. No tasks, clocks or sockets.
//!
//! A codec decides nothing: it says what a peer wrote, and writes what it is told. Who may speak,
//! what is too old and what happens next is the business of the gateways.

pub mod bridge;
pub mod centrifuge;
pub mod delta;
pub mod stomp;
pub mod ws;
