//! Webhooks: bots whose logic is a program behind a url. Signed, retried only where safe, ordered per
//! room by the scheduler that calls, and walled off per target. What targets read and answer is
//! documented in `docs/guide/webhooks.md`.
//!
//! `message` is what is said, `webhook` when it is said again, `fetch` how media behind links are read.
//! The calls themselves are those of `naru_outbound`. Nothing here knows the store, the queue or a phone.

mod fetch;
mod message;
mod metrics;
mod webhook;

#[cfg(test)]
mod tests;

pub use fetch::MediaFetcher;
pub use message::{HookMessage, ReplyError, parse_replies};
pub use metrics::Hooks;
pub use webhook::{HookBounds, HookError, HookFailure, HookView, Webhook, WebhookOptions};
