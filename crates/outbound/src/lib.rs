//! Calls to HTTP servers outside, hardened: where they may go, how long they may take, how large an answer
//! may be, who signed them, how many run at once, and when a server in trouble is left alone. It knows
//! neither bots nor chat: what is said and what is answered is the caller's.
//!
//! `address` says where calls may go, `client` is one call with its bounds, `breaker` and `retry` are pure
//! decisions, `signature` is how receivers know us, `target` puts them together for one receiver, and `relay`
//! delivers the outbox to many.

mod address;
mod breaker;
mod client;
mod figures;
mod relay;
mod retry;
mod signature;
mod target;

pub use address::{AddressError, AddressGuard};
pub use breaker::{Breaker, BreakerOptions, BreakerState, CallEnd, Permission, Ticket};
pub use client::{BoundedClient, CallError, CallLimits, Redirects};
pub use figures::{Naming, collect};
pub use relay::{RELAY_TARGETS_MAX, Relay, RelayError, RelayHandle, RelayOptions};
pub use retry::{RetryBudget, RetryOptions, parse_retry_after};
pub use signature::Secrets;
pub use target::{Pass, Place, Target, TargetError, TargetOptions, TargetView};
