//! The Centrifuge gateway against an in-process hub, over streams in memory and with a clock that waits for
//! nobody: what `docs/protocols/centrifuge.md` promises.

#![allow(clippy::unwrap_used, reason = "a helper of a test may fail like the test itself")]

mod emulation;
mod filter;
mod limits;
mod personal;
mod world;
