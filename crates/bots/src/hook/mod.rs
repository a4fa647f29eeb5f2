//! Webhooks: bots whose logic is a program behind a url. Signed, retried only where safe, ordered per
//! room by the scheduler that calls, and walled off per target. What targets read and answer is
//! documented in `docs/guide/webhooks.md`.
//!
//! `message` and `signature` are what is said, `address` where it may go, `client` one call with its
//! bounds, `breaker` and `retry` pure decisions, `webhook` the target that puts them together. Nothing
//! here knows the store, the queue or a phone.

mod address;
mod breaker;
mod client;
mod fetch;
mod message;
mod metrics;
mod retry;
mod signature;
mod webhook;

#[cfg(test)]
mod tests;

pub use address::{AddressError, AddressGuard};
pub use breaker::{Breaker, BreakerOptions, BreakerState, CallEnd, Permission, Ticket};
pub use client::{CallError, CallLimits};
pub use fetch::MediaFetcher;
pub use message::{
    HookMessage, ROOM_KEY_BYTES_MAX, ReplyError, RoomAnswer, parse_replies, parse_room_answer,
};
pub(crate) use message::{RoomJson, check_room_key, rfc3339};
pub use metrics::Hooks;
pub use retry::{RetryBudget, RetryOptions, parse_retry_after};
pub use signature::Secrets;
pub use webhook::{HookBounds, HookError, HookFailure, HookView, Webhook, WebhookOptions};
