//! The STOMP gateway against an in-process hub, over streams in memory and with a clock that waits for
//! nobody: what `docs/protocols/stomp.md` promises.

#![allow(clippy::unwrap_used, reason = "a helper of a test may fail like the test itself")]

mod ack;
mod connect;
mod kept_queues;
mod queues;
mod recover;
mod send;
mod topics;
mod websocket;
mod world;
