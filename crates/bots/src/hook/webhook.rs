//! A bot behind a webhook: sends each message to one target and returns what it answers. Retries,
//! circuit breaker and bulkhead belong to the target, so that a target in trouble harms only itself.
//!
//! A message that must wait (breaker open, bulkhead full, retry budget used up) waits here and stays
//! pending in the store until its time is up; then it is a dead letter with the reason. Order per room
//! is kept by the scheduler that calls this: a message that retries holds its place.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use naru_domain::clock::Clock;
use naru_domain::{ReplyBody, Timestamp};
use naru_outbound::{
    AddressError, AddressGuard, BoundedClient, BreakerOptions, BreakerState, CallError, CallLimits,
    Pass, Place, Redirects, RetryBudget, RetryOptions, Secrets, Target, TargetError, TargetOptions,
    TargetView,
};
use parking_lot::Mutex;
use reqwest::header::HeaderMap;
use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::debug;

use super::message::{HookMessage, ReplyError, parse_replies};
use super::metrics::MessageFigures;
use crate::handler::{Handler, HandlerError, Incoming, Outcome};

/// One target.
#[derive(Clone, Debug)]
pub struct WebhookOptions {
    /// Its name in logs, metrics and views: from the configuration, 1 to 64 characters.
    pub name: String,
    /// Where messages are posted.
    pub url: String,
    /// What signs them.
    pub secrets: Secrets,
    /// Which addresses may be reached.
    pub guard: AddressGuard,
    /// The bounds of one call.
    pub call: CallLimits,
    /// Calls in flight at once.
    pub in_flight_max: usize,
    /// How often a call is repeated.
    pub retry: RetryOptions,
    /// When the target is left alone.
    pub breaker: BreakerOptions,
    /// How long one message may take in all: keep it below the bots' limit per message, so that the
    /// dead letter tells what the target did rather than that time was up.
    pub message_timeout: Duration,
    /// Where later replies go, with `{id}` for the message's id; shown to the target if given.
    pub reply_url: Option<String>,
}

/// The bounds of webhooks where nothing else is said for one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HookBounds {
    /// The bounds of one call.
    pub call: CallLimits,
    /// Calls for one message, the first included.
    pub attempts_max: u32,
    /// Calls to one target in flight at once.
    pub in_flight_max: usize,
}

impl Default for HookBounds {
    fn default() -> HookBounds {
        HookBounds {
            call: CallLimits::default(),
            attempts_max: RetryOptions::default().attempts_max,
            in_flight_max: 50,
        }
    }
}

impl WebhookOptions {
    /// The defaults for this target.
    #[must_use]
    pub fn new(name: &str, url: &str, secrets: Secrets) -> WebhookOptions {
        let bounds = HookBounds::default();
        WebhookOptions {
            name: name.to_owned(),
            url: url.to_owned(),
            secrets,
            guard: AddressGuard::public_only(),
            call: bounds.call,
            in_flight_max: bounds.in_flight_max,
            retry: RetryOptions { attempts_max: bounds.attempts_max, ..RetryOptions::default() },
            breaker: BreakerOptions::default(),
            message_timeout: Duration::from_secs(290),
            reply_url: None,
        }
    }
}

/// Why a target cannot be set up. Found at start or by `naru check`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HookError {
    /// The url is not one that hooks may reach.
    #[error("webhook {name}: {source}")]
    Url {
        /// The target.
        name: String,
        /// Why.
        source: AddressError,
    },
    /// A setting makes no sense.
    #[error("webhook {name}: {reason}")]
    Setting {
        /// The target.
        name: String,
        /// Which, and why.
        reason: String,
    },
}

/// Why a message got no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HookFailure {
    /// The last call failed and no other follows.
    #[error("webhook {target}: {error} ({attempts} of {attempts_max} attempts)")]
    Call {
        /// The target's name.
        target: String,
        /// What the last call ended with.
        error: CallError,
        /// Calls made.
        attempts: u32,
        /// Calls allowed.
        attempts_max: u32,
    },
    /// The answer cannot be used.
    #[error("webhook {target}: {error}")]
    Reply {
        /// The target's name.
        target: String,
        /// What is wrong with it.
        error: ReplyError,
    },
    /// The message's time was up while it waited.
    #[error("webhook {target}: time was up while waiting ({cause}) after {attempts} attempts")]
    Expired {
        /// The target's name.
        target: String,
        /// What it waited for, and the last error if there was one.
        cause: String,
        /// Calls made.
        attempts: u32,
    },
}

/// What an operator sees of a target.
#[derive(Clone, Debug, PartialEq)]
pub struct HookView {
    /// Its name.
    pub name: String,
    /// Scheme, host, port and path; no query, since it may hold secrets.
    pub url: String,
    /// What the breaker lets through.
    pub breaker: BreakerState,
    /// How long it stays open yet.
    pub open_for: Duration,
    /// Failures since the last answer.
    pub failures_in_a_row: u32,
    /// Calls in flight.
    pub in_flight: usize,
    /// Messages waiting to be called or called again.
    pub waiting: i64,
    /// Calls so far.
    pub calls: u64,
    /// Of them repeated ones.
    pub retries: u64,
    /// Messages that ended as dead letters.
    pub dead: u64,
    /// What the last failed call ended with.
    pub last_error: Option<(Timestamp, String)>,
}

/// See the module. Share it in an `Arc`.
pub struct Webhook {
    options: WebhookOptions,
    target: Target,
    budget: Mutex<RetryBudget>,
    figures: MessageFigures,
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhook").field("name", &self.options.name).finish_non_exhaustive()
    }
}

impl Webhook {
    /// Checks the options and prepares the connections; makes none yet. The process must have a
    /// default provider for TLS by now.
    pub fn new(options: WebhookOptions, clock: Arc<dyn Clock>) -> Result<Webhook, HookError> {
        let name = || options.name.clone();
        let setting = |reason: &str| HookError::Setting { name: name(), reason: reason.to_owned() };
        let client =
            BoundedClient::new(options.guard.clone(), options.call, Redirects::KeepingMethod)
                .map_err(|error| setting(&error.to_string()))?;
        let target = TargetOptions {
            kind: "webhook",
            name: options.name.clone(),
            url: options.url.clone(),
            secrets: Some(options.secrets.clone()),
            in_flight_max: options.in_flight_max,
            breaker: options.breaker,
        };
        let target = Target::new(target, client, clock).map_err(|error| match error {
            TargetError::Url(source) => HookError::Url { name: name(), source },
            TargetError::InFlight => setting(&error.to_string()),
        })?;
        if options.retry.attempts_max == 0 {
            return Err(setting("attempts_max must be at least 1"));
        }
        if options.call.total_timeout > options.message_timeout {
            return Err(setting("the timeout of a call is longer than the timeout of a message"));
        }
        Ok(Webhook {
            target,
            budget: Mutex::new(RetryBudget::new(&options.retry, Instant::now().into_std())),
            figures: MessageFigures::default(),
            options,
        })
    }

    #[cfg(test)]
    pub(crate) fn options(&self) -> &WebhookOptions {
        &self.options
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.options.name
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    pub(super) fn figures(&self) -> &MessageFigures {
        &self.figures
    }

    /// What an operator sees.
    #[must_use]
    pub fn view(&self) -> HookView {
        let TargetView {
            name,
            url,
            breaker,
            open_for,
            failures_in_a_row,
            in_flight,
            calls,
            last_error,
        } = self.target.view();
        HookView {
            name,
            url,
            breaker,
            open_for,
            failures_in_a_row,
            in_flight,
            waiting: self.figures.waiting.get(),
            calls,
            retries: self.figures.retries.get(),
            dead: self.figures.dead.get(),
            last_error,
        }
    }

    /// An operator knows that the target is back.
    pub fn reset_breaker(&self) {
        self.target.reset_breaker();
    }

    /// Sends the message and returns the replies; `attempts_before` were made by earlier runs. May be
    /// dropped at any point: the call in flight is given up, nothing else is left behind.
    pub async fn call(
        &self,
        message: &HookMessage<'_>,
        attempts_before: u32,
    ) -> Result<Vec<ReplyBody>, HookFailure> {
        let result = self.call_until_done(message, attempts_before).await;
        if let Err(failure) = &result {
            self.figures.dead.increment();
            debug!(target: "naru::hooks", hook = %self.options.name, %failure, "message failed");
        }
        result
    }

    async fn call_until_done(
        &self,
        message: &HookMessage<'_>,
        attempts_before: u32,
    ) -> Result<Vec<ReplyBody>, HookFailure> {
        let mut waiter = Waiter {
            hook: self,
            deadline: Instant::now() + self.options.message_timeout,
            attempts: 0,
            last_error: None,
        };
        self.budget.lock().first_attempt();
        loop {
            let place = waiter.bulkhead().await?;
            let now = Instant::now();
            let pass = match self.target.ask() {
                Ok(pass) => pass,
                Err(wait) => {
                    drop(place);
                    waiter.until(now + wait, "its circuit breaker is open").await?;
                    continue;
                }
            };
            waiter.attempts += 1;
            let attempt = attempts_before + waiter.attempts;
            let called = self.call_once(message, attempt, pass).await;
            drop(place);
            let error = match called {
                Ok(body) => {
                    return parse_replies(&body).map_err(|error| HookFailure::Reply {
                        target: self.options.name.clone(),
                        error,
                    });
                }
                Err(error) => error,
            };
            let attempts_max = self.options.retry.attempts_max;
            if !error.may_retry() || waiter.attempts >= attempts_max {
                return Err(HookFailure::Call {
                    target: self.options.name.clone(),
                    error,
                    attempts: waiter.attempts,
                    attempts_max,
                });
            }
            self.pause_for_retry(&mut waiter, error).await?;
        }
    }

    async fn pause_for_retry(
        &self,
        waiter: &mut Waiter<'_>,
        error: CallError,
    ) -> Result<(), HookFailure> {
        let retry_after = match &error {
            CallError::Status { retry_after, .. } => *retry_after,
            _ => None,
        };
        waiter.last_error = Some(error);
        let pause = self.options.retry.pause_before(
            waiter.attempts + 1,
            rand::random::<f64>(),
            retry_after,
        );
        waiter.until(Instant::now() + pause, "before the next attempt").await?;
        // A spent budget does not lose messages: it spreads their retries over time.
        while !self.budget.lock().take_retry(Instant::now().into_std()) {
            let pause = BUDGET_PAUSE.mul_f64(0.5 + rand::random::<f64>());
            waiter.until(Instant::now() + pause, "its retry budget is spent").await?;
        }
        self.figures.retries.increment();
        Ok(())
    }

    async fn call_once(
        &self,
        message: &HookMessage<'_>,
        attempt: u32,
        pass: Pass<'_>,
    ) -> Result<bytes::Bytes, CallError> {
        let body = message.to_json(attempt, self.options.reply_url.as_deref());
        let delivery = message.id.to_string();
        let limit = self.options.call.total_timeout;
        self.target.post(pass, &delivery, HeaderMap::new(), body.into(), limit).await
    }
}

/// About how long a message waits between two looks at a spent retry budget (guessed).
const BUDGET_PAUSE: Duration = Duration::from_secs(1);

/// One message's patience.
struct Waiter<'a> {
    hook: &'a Webhook,
    deadline: Instant,
    attempts: u32,
    last_error: Option<CallError>,
}

impl<'a> Waiter<'a> {
    async fn bulkhead(&self) -> Result<Place<'a>, HookFailure> {
        let hook = self.hook;
        if let Some(place) = hook.target.try_place() {
            return Ok(place);
        }
        let _waiting = hook.figures.wait();
        match timeout_at(self.deadline, hook.target.place()).await {
            Ok(place) => Ok(place),
            Err(_elapsed) => Err(self.expired("its calls in flight are at the limit")),
        }
    }

    async fn until(&self, at: Instant, cause: &'static str) -> Result<(), HookFailure> {
        if at >= self.deadline {
            // Waiting on would hold up the room for nothing.
            return Err(self.expired(cause));
        }
        let _waiting = self.hook.figures.wait();
        sleep_until(at).await;
        Ok(())
    }

    fn expired(&self, cause: &str) -> HookFailure {
        let cause = match &self.last_error {
            Some(error) => format!("{cause}; last: {error}"),
            None => cause.to_owned(),
        };
        HookFailure::Expired {
            target: self.hook.options.name.clone(),
            cause,
            attempts: self.attempts,
        }
    }
}

#[async_trait]
impl Handler for Webhook {
    /// A webhook always waits for its target.
    fn immediate(&self, _incoming: &Incoming) -> Option<Outcome> {
        None
    }

    async fn handle(&self, incoming: Incoming) -> Result<Outcome, HandlerError> {
        let (bot, device) = (incoming.bot.as_str(), incoming.device.as_str());
        let message = HookMessage::of(&incoming.message, bot, device);
        match self.call(&message, incoming.attempt.saturating_sub(1)).await {
            Ok(replies) => Ok(Outcome::replies(replies)),
            // Retries were made here; the scheduler must not add its own.
            Err(failure) => Err(HandlerError::dead(failure.to_string())),
        }
    }
}
