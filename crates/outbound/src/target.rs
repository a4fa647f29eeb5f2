//! One receiver of calls, walled off from all others: so many calls at once, a breaker of its own, each
//! call signed and counted. What a caller does when there is no place or no leave to call is its own.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use naru_domain::Timestamp;
use naru_domain::clock::Clock;
use parking_lot::Mutex;
use reqwest::Url;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use sha2::{Digest, Sha256};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::address::AddressError;
use crate::breaker::{Breaker, BreakerOptions, BreakerState, CallEnd, Permission, Ticket};
use crate::client::{BoundedClient, CallError};
use crate::figures::CallFigures;
use crate::signature::Secrets;

/// One receiver.
#[derive(Clone, Debug)]
pub struct TargetOptions {
    /// What kind of receiver it is, in logs.
    pub kind: &'static str,
    /// Its name in logs, metrics and views: from the configuration, 1 to 64 characters.
    pub name: String,
    /// Where calls go.
    pub url: String,
    /// What signs them; without it they are not signed.
    pub secrets: Option<Secrets>,
    /// Calls in flight at once.
    pub in_flight_max: usize,
    /// When it is left alone.
    pub breaker: BreakerOptions,
}

/// Why a target cannot be set up. Found at start or by `naru check`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// The url is not one that may be called.
    #[error(transparent)]
    Url(#[from] AddressError),
    /// `in_flight_max` makes no sense.
    #[error("in_flight_max must be at least 1")]
    InFlight,
}

/// What an operator sees of a target.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetView {
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
    /// Calls so far.
    pub calls: u64,
    /// What the last failed call ended with.
    pub last_error: Option<(Timestamp, String)>,
}

/// See the module. Share it in an `Arc`.
pub struct Target {
    options: TargetOptions,
    url: Url,
    client: BoundedClient,
    clock: Arc<dyn Clock>,
    breaker: Mutex<Breaker>,
    bulkhead: Semaphore,
    last_error: Mutex<Option<(Timestamp, String)>>,
    figures: CallFigures,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target").field("name", &self.options.name).finish_non_exhaustive()
    }
}

/// A place among the calls in flight; free again when dropped.
#[derive(Debug)]
pub struct Place<'a>(#[expect(dead_code, reason = "held for its drop")] SemaphorePermit<'a>);

/// Leave to make one call. Dropped without one it says that the call was given up, so that a half-open
/// breaker does not wait for ever for a trial that was cancelled.
#[derive(Debug)]
pub struct Pass<'a> {
    target: &'a Target,
    ticket: Option<Ticket>,
}

impl Pass<'_> {
    fn report(&mut self, end: CallEnd) {
        if let Some(ticket) = self.ticket.take() {
            self.target.report(ticket, end);
        }
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        self.report(CallEnd::Abandoned);
    }
}

impl Target {
    /// Checks the options; makes no connection yet.
    pub fn new(
        options: TargetOptions,
        client: BoundedClient,
        clock: Arc<dyn Clock>,
    ) -> Result<Target, TargetError> {
        let url = client.guard().check_url(&options.url)?;
        if options.in_flight_max == 0 || options.in_flight_max > Semaphore::MAX_PERMITS {
            return Err(TargetError::InFlight);
        }
        Ok(Target {
            url,
            client,
            clock,
            breaker: Mutex::new(Breaker::new(options.breaker)),
            bulkhead: Semaphore::new(options.in_flight_max),
            last_error: Mutex::new(None),
            figures: CallFigures::default(),
            options,
        })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.options.name
    }

    pub(crate) fn figures(&self) -> &CallFigures {
        &self.figures
    }

    /// How often its breaker has opened.
    #[must_use]
    pub fn openings(&self) -> u64 {
        self.figures.openings.get()
    }

    /// What an operator sees.
    #[must_use]
    pub fn view(&self) -> TargetView {
        let now = Instant::now().into_std();
        let breaker = self.breaker.lock();
        let mut shown = self.url.clone();
        shown.set_query(None);
        shown.set_fragment(None);
        TargetView {
            name: self.options.name.clone(),
            url: shown.to_string(),
            breaker: breaker.state(now),
            open_for: breaker.open_for(now),
            failures_in_a_row: breaker.failures_in_a_row(),
            in_flight: self.options.in_flight_max - self.bulkhead.available_permits(),
            calls: self.figures.calls(),
            last_error: self.last_error.lock().clone(),
        }
    }

    /// An operator knows that the target is back.
    pub fn reset_breaker(&self) {
        self.breaker.lock().reset();
    }

    /// A place among the calls in flight, if one is free.
    #[must_use]
    pub fn try_place(&self) -> Option<Place<'_>> {
        self.bulkhead.try_acquire().ok().map(Place)
    }

    /// A place among the calls in flight, in the order of asking. Cancel safe.
    pub async fn place(&self) -> Place<'_> {
        Place(self.bulkhead.acquire().await.expect("invariant: the bulkhead is never closed"))
    }

    /// Leave of the breaker to make one call, or after how long to ask again.
    pub fn ask(&self) -> Result<Pass<'_>, Duration> {
        match self.breaker.lock().ask(Instant::now().into_std()) {
            Permission::Go(ticket) => Ok(Pass { target: self, ticket: Some(ticket) }),
            Permission::Wait(wait) => Err(wait),
        }
    }

    /// Posts a JSON body and gives the body of the answer. `delivery` names what is said: it is the same in
    /// every attempt. At most `limit` may pass. May be dropped at any point.
    pub async fn post(
        &self,
        mut pass: Pass<'_>,
        delivery: &str,
        passed_on: HeaderMap,
        body: Bytes,
        limit: Duration,
    ) -> Result<Bytes, CallError> {
        let headers = self.headers(delivery, passed_on, &body);
        let started = Instant::now();
        let result = self.client.post(&self.url, headers, body, limit).await;
        self.figures.observe(started.elapsed(), result.as_ref().err());
        match &result {
            Ok(_) => pass.report(CallEnd::Answered),
            Err(error) => {
                *self.last_error.lock() = Some((self.clock.now(), error.to_string()));
                // A refusal that another try cannot change is an answer: the target is alive.
                let end = if error.may_retry() { CallEnd::Failed } else { CallEnd::Answered };
                pass.report(end);
            }
        }
        result
    }

    /// Our own headers; `passed_on` never replaces them.
    fn headers(&self, delivery: &str, passed_on: HeaderMap, body: &[u8]) -> HeaderMap {
        let ascii = |text: &str| {
            HeaderValue::from_str(text).expect("invariant: hex, digits and dashes are ASCII")
        };
        let mut headers = passed_on;
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(secrets) = &self.options.secrets {
            let mut signature = ascii(&secrets.sign(self.clock.now(), body));
            signature.set_sensitive(true);
            headers.insert(HeaderName::from_static("naru-signature"), signature);
        }
        let pairs = [
            (HeaderName::from_static("naru-delivery"), ascii(delivery)),
            (HeaderName::from_static("idempotency-key"), ascii(&format!("naru-{delivery}"))),
            (
                HeaderName::from_static("traceparent"),
                ascii(&trace_parent(delivery, rand::random())),
            ),
        ];
        for (name, value) in pairs {
            headers.insert(name, value);
        }
        headers
    }

    fn report(&self, ticket: Ticket, end: CallEnd) {
        let now = Instant::now().into_std();
        let mut breaker = self.breaker.lock();
        let before = breaker.state(now);
        breaker.report(ticket, end, now);
        let after = breaker.state(now);
        drop(breaker);
        match (before, after) {
            // Changes of state are rare by construction: the pause doubles.
            (BreakerState::Closed, BreakerState::Open) => {
                self.figures.openings.increment();
                warn!(target: "naru::hooks", kind = self.options.kind, hook = %self.options.name, "circuit breaker opened");
            }
            (BreakerState::HalfOpen, BreakerState::Closed) => {
                info!(target: "naru::hooks", kind = self.options.kind, hook = %self.options.name, "circuit breaker closed");
            }
            _ => {}
        }
    }
}

/// One trace for all attempts of a delivery, one span each (W3C Trace Context).
fn trace_parent(delivery: &str, span: u64) -> String {
    let digest = Sha256::digest(format!("naru-delivery-{delivery}").as_bytes());
    let trace = digest[..16].iter().fold(0_u128, |all, byte| (all << 8) | u128::from(*byte));
    // Zero ids are invalid in that format.
    format!("00-{:032x}-{:016x}-01", trace.max(1), span.max(1))
}
