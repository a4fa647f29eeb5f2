//! End to end: the real binary, real sockets, real files. Each test starts a server of its own on free
//! ports and a temporary folder.

#![allow(clippy::unwrap_used, reason = "a helper of a test may fail like the test itself")]

mod application;
mod backend;
mod bridge;
mod channels;
mod cli;
mod clock;
mod crowd;
mod faults;
mod harness;
mod limits;
mod queues;
mod rooms;
mod secrets;
#[cfg(unix)]
mod service;
mod stomp;
mod tls;
mod wards;
mod work;
