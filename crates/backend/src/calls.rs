//! The calls: one question, its answer in time, or a temporary error at once. Nobody waits for a place or for
//! a breaker here: a client's SDK tries again by itself, and everybody else goes on.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use naru_domain::clock::Clock;
use naru_domain::metrics::{MetricSink, MetricSource};
use naru_domain::ports::{
    Backend, BackendEvents, Caller, Credentials, PublishVerdict, Refreshed, Refusal, SubscribeGrant,
};
use naru_outbound::{
    BoundedClient, CallError, CallLimits, Redirects, Target, TargetOptions, collect,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tracing::{debug, warn};

use crate::answer::{self, BadAnswer, Reading};
use crate::event::Event;
use crate::farewell::{Farewell, Farewells};
use crate::figures::{CALLS, Figures, Outcome};
use crate::options::{BackendError, BackendOptions};
use crate::request::{Request, Style, raw};

/// The longest pause before a call is repeated: two nodes that hit a restarting back end together should
/// not come back together.
const REPEAT_PAUSE_MAX: Duration = Duration::from_millis(50);
/// How often the log says that one event fails.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// The application over HTTP. See the crate.
#[derive(Clone)]
pub struct HttpBackend {
    pub(crate) calls: Arc<Calls>,
    farewells: mpsc::Sender<Farewell>,
}

/// Where each event goes, and how.
pub(crate) struct Calls {
    endpoints: [Option<Endpoint>; 8],
    headers: Vec<HeaderName>,
    style: Style,
    pub(crate) figures: Figures,
}

pub(crate) struct Endpoint {
    event: Event,
    pub(crate) target: Target,
    timeout: Duration,
    warned: parking_lot::Mutex<Option<Instant>>,
}

/// Why a question has no answer.
#[derive(Debug)]
enum NoAnswer {
    Busy,
    Open,
    Failed(CallError),
}

impl HttpBackend {
    /// Prepares the calls; makes none yet. [`Farewells::run`] has to run for the ends of connections to be
    /// told. The process must have a default provider for TLS by now.
    pub fn new(
        options: BackendOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<(HttpBackend, Farewells), BackendError> {
        let headers = options.header_names()?;
        let longest = options.endpoints.iter().flatten().map(|endpoint| endpoint.timeout).max();
        let limits = CallLimits {
            connect_timeout: options.dial_timeout,
            total_timeout: longest.unwrap_or(options.dial_timeout),
            body_bytes_max: options.body_bytes_max,
            redirects_max: 0,
            idle_max: options.in_flight_max,
        };
        let client = BoundedClient::new(options.guard.clone(), limits, Redirects::KeepingMethod)
            .map_err(|error| BackendError::Client { reason: error.to_string() })?;
        let mut endpoints = [const { None }; 8];
        for event in Event::ALL {
            let Some(endpoint) = &options.endpoints[event.index()] else { continue };
            let target = TargetOptions {
                kind: "backend",
                name: event.label().to_owned(),
                url: endpoint.url.clone(),
                secrets: options.secrets.clone(),
                in_flight_max: options.in_flight_max,
                breaker: options.breaker,
            };
            let target = Target::new(target, client.clone(), Arc::clone(&clock))
                .map_err(|source| BackendError::Endpoint { event: event.label(), source })?;
            endpoints[event.index()] = Some(Endpoint {
                event,
                target,
                timeout: endpoint.timeout,
                warned: parking_lot::Mutex::new(None),
            });
        }
        let style = Style { includes_meta: options.includes_meta, is_binary: options.is_binary };
        let calls = Arc::new(Calls { endpoints, headers, style, figures: Figures::default() });
        let (sender, receiver) = mpsc::channel(options.farewells_max.max(1));
        let farewells = Farewells::new(Arc::clone(&calls), receiver, options.flush_timeout);
        Ok((HttpBackend { calls, farewells: sender }, farewells))
    }
}

impl Calls {
    pub(crate) fn endpoint(&self, event: Event) -> Option<&Endpoint> {
        self.endpoints[event.index()].as_ref()
    }

    /// Asks, takes the answer apart and counts what became of it. `nothing` is what an answer means that
    /// neither grants nor refuses.
    async fn ask<T>(
        &self,
        event: Event,
        caller: &Caller,
        request: Request<'_>,
        read: impl FnOnce(&[u8]) -> Result<Reading<T>, BadAnswer>,
        nothing: impl FnOnce() -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let not_asked =
            || Refusal::Error { code: 108, message: "not available".to_owned(), temporary: false };
        let endpoint = self.endpoint(event).ok_or_else(not_asked)?;
        let body = Bytes::from(request.to_json());
        let answered = endpoint.call(&delivery(), self.passed_on(caller), body).await;
        let (outcome, result) = match answered {
            Ok(body) => match read(&body) {
                Ok(Reading::Result(result)) => (Outcome::Result, Ok(result)),
                Ok(Reading::Refused(refusal)) => (outcome_of(&refusal), Err(refusal)),
                Ok(Reading::Nothing) => match nothing() {
                    Ok(result) => (Outcome::Result, Ok(result)),
                    Err(refusal) => (outcome_of(&refusal), Err(refusal)),
                },
                Err(bad) => {
                    endpoint.complain(&bad);
                    (Outcome::BadAnswer, Err(unavailable()))
                }
            },
            Err(NoAnswer::Busy) => (Outcome::Busy, Err(unavailable())),
            Err(NoAnswer::Open) => (Outcome::Open, Err(unavailable())),
            Err(NoAnswer::Failed(error)) => {
                endpoint.complain(&error);
                (Outcome::Failed, Err(unavailable()))
            }
        };
        self.figures.count(event, outcome);
        result
    }

    /// The client's headers that the application wants. A value that came twice goes twice.
    pub(crate) fn passed_on(&self, caller: &Caller) -> HeaderMap {
        let mut passed = HeaderMap::new();
        for (name, value) in &caller.headers {
            let wanted = self.headers.iter().find(|wanted| wanted.as_str() == name);
            if let (Some(name), Ok(value)) = (wanted, HeaderValue::from_str(value)) {
                passed.append(name.clone(), value);
            }
        }
        passed
    }

    /// How requests are written.
    pub(crate) fn style(&self) -> Style {
        self.style
    }
}

impl Endpoint {
    /// One question within the time of the event, asked again where that is safe and there is time.
    async fn call(
        &self,
        delivery: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Bytes, NoAnswer> {
        let _place = self.target.try_place().ok_or(NoAnswer::Busy)?;
        let deadline = Instant::now() + self.timeout;
        let first = match self.once(delivery, headers.clone(), body.clone(), self.timeout).await {
            Err(NoAnswer::Failed(error)) => error,
            answered => return answered,
        };
        let left = deadline.saturating_duration_since(Instant::now());
        let asked_for = match &first {
            CallError::Status { retry_after, .. } => retry_after.unwrap_or_default(),
            _ => Duration::ZERO,
        };
        let pause = asked_for + REPEAT_PAUSE_MAX.mul_f64(rand::random::<f64>());
        if !self.event.may_repeat(&first) || pause >= left {
            return Err(NoAnswer::Failed(first));
        }
        sleep(pause).await;
        let left = deadline.saturating_duration_since(Instant::now());
        self.once(delivery, headers, body, left).await
    }

    async fn once(
        &self,
        delivery: &str,
        headers: HeaderMap,
        body: Bytes,
        limit: Duration,
    ) -> Result<Bytes, NoAnswer> {
        let pass = self.target.ask().map_err(|_wait| NoAnswer::Open)?;
        self.target.post(pass, delivery, headers, body, limit).await.map_err(NoAnswer::Failed)
    }

    /// How long one call may take.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Clients can make this happen as often as they like, so the log says it now and then only.
    pub(crate) fn complain(&self, error: &dyn std::fmt::Display) {
        let now = Instant::now();
        let mut warned = self.warned.lock();
        let is_due = warned.is_none_or(|last| now.duration_since(last) >= WARN_EVERY);
        if is_due {
            *warned = Some(now);
        }
        drop(warned);
        let event = self.event.label();
        if is_due {
            warn!(target: "naru::hooks", event, %error, "the back end gives no usable answer");
        } else {
            debug!(target: "naru::hooks", event, %error, "the back end gives no usable answer");
        }
    }
}

/// Names one question, the same when it is asked again.
pub(crate) fn delivery() -> String {
    format!("{:032x}", rand::random::<u128>())
}

fn outcome_of(refusal: &Refusal) -> Outcome {
    match refusal {
        Refusal::Error { .. } => Outcome::Error,
        Refusal::Disconnect { .. } => Outcome::Disconnect,
    }
}

/// What clients are told when the application does not answer: the same may succeed later.
fn unavailable() -> Refusal {
    Refusal::Error { code: 100, message: "internal server error".to_owned(), temporary: true }
}

/// What an answer without a result means where something had to be granted.
fn denied<T>(code: u32, message: &str) -> Result<T, Refusal> {
    Err(Refusal::Error { code, message: message.to_owned(), temporary: false })
}

/// A payload that a client of this protocol can read.
fn readable(caller: &Caller, payload: &Bytes) -> Result<(), BadAnswer> {
    if caller.protocol != "json" || payload.is_empty() || raw(payload).is_some() {
        return Ok(());
    }
    Err(BadAnswer::Rule("`b64data` for a client that speaks JSON is no JSON"))
}

/// The same of a whole answer.
fn check<T>(
    reading: Result<Reading<T>, BadAnswer>,
    caller: &Caller,
    payload: impl FnOnce(&T) -> &Bytes,
) -> Result<Reading<T>, BadAnswer> {
    let reading = reading?;
    if let Reading::Result(result) = &reading {
        readable(caller, payload(result))?;
    }
    Ok(reading)
}

#[async_trait]
impl Backend for HttpBackend {
    fn events(&self) -> BackendEvents {
        let has = |event: Event| self.calls.endpoint(event).is_some();
        BackendEvents {
            connect: has(Event::Connect),
            refresh: has(Event::Refresh),
            rpc: has(Event::Rpc),
            message: has(Event::Message),
            disconnected: has(Event::Disconnected),
        }
    }

    fn wants_header(&self, name: &str) -> bool {
        self.calls.headers.iter().any(|wanted| wanted.as_str() == name)
    }

    async fn connect(
        &self,
        caller: &Caller,
        name: &str,
        version: &str,
        data: Bytes,
    ) -> Result<Credentials, Refusal> {
        let style = self.calls.style();
        let request = Request::of(caller, style).opening(name, version).data(&data, style);
        let read = |body: &[u8]| check(answer::connect(body), caller, |known| &known.data);
        let nothing = || denied(101, "unauthorized");
        self.calls.ask(Event::Connect, caller, request, read, nothing).await
    }

    async fn refresh(&self, caller: &Caller) -> Result<Refreshed, Refusal> {
        let request = Request::of(caller, self.calls.style());
        self.calls.ask(Event::Refresh, caller, request, answer::refresh, ended).await
    }

    async fn subscribe(
        &self,
        caller: &Caller,
        channel: &str,
        data: Bytes,
    ) -> Result<SubscribeGrant, Refusal> {
        let style = self.calls.style();
        let request = Request::of(caller, style).channel(channel).data(&data, style);
        let read = |body: &[u8]| check(answer::subscribe(body), caller, |grant| &grant.data);
        let nothing = || denied(103, "permission denied");
        self.calls.ask(Event::Subscribe, caller, request, read, nothing).await
    }

    async fn publish(
        &self,
        caller: &Caller,
        channel: &str,
        data: Bytes,
    ) -> Result<PublishVerdict, Refusal> {
        let style = self.calls.style();
        let request = Request::of(caller, style).channel(channel).data(&data, style);
        let nothing = || denied(103, "permission denied");
        self.calls.ask(Event::Publish, caller, request, answer::publish, nothing).await
    }

    async fn sub_refresh(&self, caller: &Caller, channel: &str) -> Result<Refreshed, Refusal> {
        let request = Request::of(caller, self.calls.style()).channel(channel);
        self.calls.ask(Event::SubRefresh, caller, request, answer::refresh, ended).await
    }

    async fn rpc(&self, caller: &Caller, method: &str, data: Bytes) -> Result<Bytes, Refusal> {
        let style = self.calls.style();
        let request = Request::of(caller, style).method(method).data(&data, style);
        let read = |body: &[u8]| check(answer::rpc(body), caller, |payload| payload);
        self.calls.ask(Event::Rpc, caller, request, read, || Ok(Bytes::new())).await
    }

    async fn message(&self, caller: &Caller, data: Bytes) -> Result<(), Refusal> {
        let style = self.calls.style();
        let request = Request::of(caller, style).data(&data, style);
        self.calls.ask(Event::Message, caller, request, answer::message, || Ok(())).await
    }

    fn disconnected(&self, caller: &Caller, reason: &str) {
        let request = Request::of(caller, self.calls.style()).reason(reason);
        let farewell = Farewell {
            delivery: delivery(),
            headers: self.calls.passed_on(caller),
            body: Bytes::from(request.to_json()),
            ended: Instant::now(),
        };
        let figures = &self.calls.figures;
        figures.farewells_waiting.add(1);
        if self.farewells.try_send(farewell).is_err() {
            figures.farewells_waiting.add(-1);
            figures.farewells_dropped.increment();
        }
    }
}

/// Who may go on is told so; silence ends the right.
fn ended() -> Result<Refreshed, Refusal> {
    Ok(Refreshed { expired: true, ..Refreshed::default() })
}

impl MetricSource for HttpBackend {
    fn collect(&self, sink: &mut dyn MetricSink) {
        let targets: Vec<&Target> =
            self.calls.endpoints.iter().flatten().map(|endpoint| &endpoint.target).collect();
        collect(sink, CALLS, &targets);
        self.calls.figures.collect(sink, |event| self.calls.endpoint(event).is_some());
    }
}
