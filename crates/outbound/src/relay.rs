//! Delivers the outbox: one loop, a lane for each target. A lane sends its messages one after another and in
//! order, so that a receiver in trouble holds up its own messages and nobody else's. It sleeps until
//! the next message is due, and does not wake at all while nothing waits. It knows neither what is said nor
//! how it is kept.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use naru_domain::Timestamp;
use naru_domain::clock::Clock;
use naru_domain::metrics::{Counter, MetricSink, MetricSource};
use naru_domain::ports::{KeptOutbox, Outbox, OutboxEnd, OutboxResult, StoreError};
use reqwest::header::HeaderMap;
use tokio::sync::Notify;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::address::AddressGuard;
use crate::client::{BoundedClient, CallError, CallLimits, Redirects};
use crate::figures::{Naming, collect};
use crate::retry::RetryOptions;
use crate::target::{Target, TargetError, TargetOptions, TargetView};

/// How the relay works.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RelayOptions {
    /// How long one attempt may take.
    pub timeout: Duration,
    /// After so long a message is dead.
    pub age_max: Duration,
    /// The longest first pause after a failure; four times as long with each further one.
    pub pause: Duration,
    /// The longest pause: so much later at most is a receiver that is back found out about.
    pub pause_max: Duration,
    /// The longest `Retry-After` that is honoured.
    pub retry_after_max: Duration,
    /// Messages read at once. What was delivered is settled together, so a crash repeats so many at most.
    pub page: usize,
    /// The pause after the store was busy.
    pub store_pause: Duration,
}

impl Default for RelayOptions {
    fn default() -> RelayOptions {
        RelayOptions {
            timeout: Duration::from_secs(5),
            age_max: Duration::from_secs(24 * 3_600),
            pause: Duration::from_secs(1),
            pause_max: Duration::from_secs(300),
            // Discord bans an address for about an hour at a time.
            retry_after_max: Duration::from_secs(6 * 3_600),
            page: 16,
            store_pause: Duration::from_secs(5),
        }
    }
}

/// Targets of one relay; each may have a connection and a task.
pub const RELAY_TARGETS_MAX: usize = 64;

/// Why a relay cannot be set up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RelayError {
    /// One of the targets.
    #[error("{name}: {error}")]
    Target {
        /// Which.
        name: String,
        /// What is wrong.
        error: TargetError,
    },
    /// Two targets have one name.
    #[error("two targets are called {name}")]
    Twice {
        /// The name.
        name: String,
    },
    /// The client for all of them cannot be made: the system's certificates cannot be read, for one.
    #[error("calls cannot be made: {reason}")]
    Client {
        /// What failed.
        reason: String,
    },
    /// Too many targets.
    #[error("there are {count} targets, at most {RELAY_TARGETS_MAX} are possible")]
    TooMany {
        /// How many.
        count: usize,
    },
}

/// Says that there may be something to deliver, and shows how the targets are. Cheap to clone.
#[derive(Clone)]
pub struct RelayHandle {
    wake: Arc<Notify>,
    shared: Arc<Shared>,
}

impl std::fmt::Debug for RelayHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RelayHandle").finish_non_exhaustive()
    }
}

impl RelayHandle {
    /// Something was put, replayed, or the clock was set. Never waits.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// What an operator sees of the targets that were called so far. Of their addresses only the host:
    /// the path of a Discord or Slack webhook is its secret.
    #[must_use]
    pub fn views(&self) -> Vec<TargetView> {
        let view = |target: &Arc<Target>| {
            let mut view = target.view();
            if let Ok(url) = reqwest::Url::parse(&view.url) {
                view.url = url.origin().ascii_serialization();
            }
            view
        };
        self.shared.made().map(view).collect()
    }
}

impl MetricSource for RelayHandle {
    fn collect(&self, sink: &mut dyn MetricSink) {
        let targets: Vec<&Target> = self.shared.made().map(|target| &**target).collect();
        collect(sink, NAMING, &targets);
        let figures = &self.shared.figures;
        let ends =
            [("delivered", &figures.delivered), ("again", &figures.again), ("dead", &figures.dead)];
        for (end, count) in ends {
            let help = "Attempts to deliver messages of the outbox by what followed.";
            sink.counter("outbox_attempts", help, &[("end", end)], count.get());
        }
        let help = "Wake-ups of the relay.";
        sink.counter("outbox_wakeups", help, &[], figures.wakeups.get());
        let help = "Times that the outbox could not be read or settled.";
        sink.counter("outbox_store_failures", help, &[], figures.store_failures.get());
    }
}

const NAMING: Naming = Naming {
    label: "target",
    calls: "outbox_calls",
    breaker_openings: "outbox_breaker_openings",
    breaker_state: "outbox_breaker_state",
    in_flight: "outbox_in_flight",
    call_seconds: "outbox_call_seconds",
};

#[derive(Debug, Default)]
struct Figures {
    delivered: Counter,
    again: Counter,
    dead: Counter,
    wakeups: Counter,
    store_failures: Counter,
}

struct Shared {
    outbox: Arc<dyn Outbox>,
    clock: Arc<dyn Clock>,
    options: RelayOptions,
    guard: AddressGuard,
    /// Made for the first message: certificates and pools take memory that a quiet server never needs.
    client: OnceLock<BoundedClient>,
    targets: BTreeMap<Arc<str>, Place>,
    figures: Figures,
}

struct Place {
    options: TargetOptions,
    target: OnceLock<Arc<Target>>,
}

/// See the module. [`Relay::run`] does the work.
pub struct Relay {
    shared: Arc<Shared>,
    wake: Arc<Notify>,
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relay").field("options", &self.shared.options).finish_non_exhaustive()
    }
}

/// When a lane is due, by both clocks: the timer's, and that of the store.
#[derive(Clone, Copy)]
struct Next {
    at: Instant,
    stamp: Timestamp,
}

/// What a lane ended with: when it is due again, or `None` if the store has to say.
struct LaneEnd {
    name: Arc<str>,
    next: Option<Next>,
}

#[derive(Clone, Copy)]
enum Lane {
    Idle(Option<Next>),
    Busy(Id),
}

impl Relay {
    /// Checks the targets; makes no connection and no client yet. Messages of targets that are not among
    /// these stay where they are.
    pub fn new(
        outbox: Arc<dyn Outbox>,
        clock: Arc<dyn Clock>,
        guard: AddressGuard,
        targets: Vec<TargetOptions>,
        options: RelayOptions,
    ) -> Result<Relay, RelayError> {
        if targets.len() > RELAY_TARGETS_MAX {
            return Err(RelayError::TooMany { count: targets.len() });
        }
        let mut places = BTreeMap::new();
        for target in targets {
            let name = target.name.clone();
            let check = guard.check_url(&target.url).map_err(TargetError::Url);
            check.map_err(|error| RelayError::Target { name: name.clone(), error })?;
            // One at a time is what keeps the order.
            let target = TargetOptions { in_flight_max: 1, ..target };
            let place = Place { options: target, target: OnceLock::new() };
            if places.insert(Arc::from(name.as_str()), place).is_some() {
                return Err(RelayError::Twice { name });
            }
        }
        let shared = Shared {
            outbox,
            clock,
            options,
            guard,
            client: OnceLock::new(),
            targets: places,
            figures: Figures::default(),
        };
        Ok(Relay { shared: Arc::new(shared), wake: Arc::new(Notify::new()) })
    }

    /// What others hold of it.
    #[must_use]
    pub fn handle(&self) -> RelayHandle {
        RelayHandle { wake: Arc::clone(&self.wake), shared: Arc::clone(&self.shared) }
    }

    /// Delivers until told to stop. Then attempts under way are ended, what was delivered is settled, and the
    /// rest waits for the next start.
    pub async fn run(self, stop: CancellationToken) {
        let Relay { shared, wake } = self;
        let idle = |name: &Arc<str>| (Arc::clone(name), Lane::Idle(None));
        let mut lanes: Lanes = shared.targets.keys().map(idle).collect();
        let mut work: JoinSet<LaneEnd> = JoinSet::new();
        let mut look_at = shared.look(&mut lanes).await;
        loop {
            start_due(&shared, &mut lanes, &mut work, &stop);
            let first = lanes.values().filter_map(Lane::due_at).chain(look_at).min();
            tokio::select! {
                () = stop.cancelled() => break,
                () = wake.notified() => look_at = shared.look(&mut lanes).await,
                Some(ended) = work.join_next_with_id() => {
                    if end_lane(&mut lanes, ended) == Ended::MayHaveMore {
                        look_at = shared.look(&mut lanes).await;
                    }
                }
                () = sleep_until(first.unwrap_or_else(Instant::now)), if first.is_some() => {
                    if look_at.is_some_and(|at| at <= Instant::now()) {
                        look_at = shared.look(&mut lanes).await;
                    }
                }
            }
            shared.figures.wakeups.increment();
        }
        while work.join_next().await.is_some() {}
    }
}

type Lanes = BTreeMap<Arc<str>, Lane>;

impl Lane {
    fn due_at(&self) -> Option<Instant> {
        match self {
            Lane::Idle(next) => next.map(|next| next.at),
            Lane::Busy(_) => None,
        }
    }
}

/// Sets lanes to work whose time has come.
fn start_due(
    shared: &Arc<Shared>,
    lanes: &mut Lanes,
    work: &mut JoinSet<LaneEnd>,
    stop: &CancellationToken,
) {
    let now = Instant::now();
    for (name, lane) in lanes.iter_mut() {
        let Lane::Idle(Some(next)) = *lane else { continue };
        if next.at <= now {
            let (shared, name, stop) = (Arc::clone(shared), Arc::clone(name), stop.clone());
            let task = work.spawn(async move {
                let next = shared.work(&name, next.stamp, &stop).await;
                LaneEnd { name, next }
            });
            *lane = Lane::Busy(task.id());
        }
    }
}

/// Whether the store has to say when a lane that ended is due.
#[derive(PartialEq, Eq)]
enum Ended {
    KnowsWhen,
    MayHaveMore,
}

fn end_lane(lanes: &mut Lanes, ended: Result<(Id, LaneEnd), JoinError>) -> Ended {
    match ended {
        Ok((_, LaneEnd { name, next })) => {
            lanes.insert(name, Lane::Idle(next));
            if next.is_some() { Ended::KnowsWhen } else { Ended::MayHaveMore }
        }
        Err(error) => {
            warn!(target: "naru::outbox", %error, "a lane of the outbox ended early");
            for lane in lanes.values_mut() {
                if matches!(lane, Lane::Busy(id) if *id == error.id()) {
                    // Looked at again when something is put: what made it panic would do so again.
                    *lane = Lane::Idle(None);
                }
            }
            Ended::KnowsWhen
        }
    }
}

impl Shared {
    fn made(&self) -> impl Iterator<Item = &Arc<Target>> {
        self.targets.values().filter_map(|place| place.target.get())
    }

    /// Finds out from the store when which lane is due. Says when to ask again if it did not answer.
    async fn look(&self, lanes: &mut Lanes) -> Option<Instant> {
        let counts = match self.outbox.counts().await {
            Ok(counts) => counts,
            Err(error) => {
                self.store_trouble(&error);
                return Some(Instant::now() + self.options.store_pause);
            }
        };
        let (now, at) = (self.clock.now(), Instant::now());
        for count in counts {
            if let Some(Lane::Idle(next)) = lanes.get_mut(&count.target) {
                let next_at = |stamp| Next { at: at + self.wait(stamp, now), stamp };
                *next = count.next_at.map(next_at);
            }
        }
        None
    }

    /// How long to wait for a moment. A clock that was set back does not make it longer than any pause.
    fn wait(&self, next: Timestamp, now: Timestamp) -> Duration {
        next.since(now).min(self.options.pause_max.max(self.options.retry_after_max))
    }

    fn store_trouble(&self, error: &StoreError) {
        self.figures.store_failures.increment();
        warn!(target: "naru::outbox", %error, "the outbox cannot be read or settled");
    }

    fn after(&self, pause: Duration) -> Option<Next> {
        Some(Next { at: Instant::now() + pause, stamp: self.clock.now().plus(pause) })
    }

    /// Sends what is due for one target, in order, until nothing is or it fails.
    async fn work(&self, name: &str, stamp: Timestamp, stop: &CancellationToken) -> Option<Next> {
        let place = &self.targets[name];
        let target = match self.target(place) {
            Ok(target) => target,
            Err(error) => {
                warn!(target: "naru::outbox", name, %error, "a target cannot be called");
                return self.after(self.options.pause_max);
            }
        };
        while !stop.is_cancelled() {
            // The timer said that it is time; a clock that was set back must not contradict it.
            let now = stamp.max(self.clock.now());
            let page = match self.outbox.due(name, now, self.options.page).await {
                Ok(page) => page,
                Err(error) => {
                    self.store_trouble(&error);
                    return self.after(self.options.store_pause);
                }
            };
            if page.is_empty() {
                return None;
            }
            let round = self.send_page(&target, &page, stop).await;
            self.settle(&round.results, stop).await;
            if let Some(pause) = round.pause {
                return self.after(pause);
            }
        }
        None
    }

    /// Tries until it is kept: going on without would send it all again.
    async fn settle(&self, results: &[OutboxResult], stop: &CancellationToken) {
        while let Err(error) = self.outbox.settle(results).await {
            self.store_trouble(&error);
            let pause = sleep(self.options.store_pause);
            if stop.run_until_cancelled(pause).await.is_none() {
                return;
            }
        }
    }

    /// Sends one after another, up to the first that has to be sent again.
    async fn send_page(
        &self,
        target: &Target,
        page: &[KeptOutbox],
        stop: &CancellationToken,
    ) -> Round {
        let mut round = Round::default();
        for kept in page {
            if let Some(failure) = self.why_not(kept) {
                round.push(kept, kept.attempts, failure, OutboxEnd::Dead);
                self.figures.dead.increment();
                continue;
            }
            let pass = match target.ask() {
                Ok(pass) => pass,
                Err(pause) => {
                    round.pause = Some(pause);
                    return round;
                }
            };
            let (id, body) = (&kept.message.id, kept.message.body.clone());
            let call = target.post(pass, id, HeaderMap::new(), body, self.options.timeout);
            let Some(result) = stop.run_until_cancelled(call).await else {
                // Whether it arrived is unknown: it is sent again under its id.
                round.pause = Some(Duration::ZERO);
                return round;
            };
            if let Some(pause) = self.judge(kept, result.err(), &mut round) {
                round.pause = Some(pause);
                return round;
            }
        }
        round
    }

    /// Why it is not even tried.
    fn why_not(&self, kept: &KeptOutbox) -> Option<String> {
        if !kept.message.fits() {
            return Some("it breaks the limits of the outbox".to_owned());
        }
        let is_old = self.clock.now().since(kept.message.at) > self.options.age_max;
        is_old.then(|| format!("not delivered in time; last: {}", kept.failure))
    }

    /// What follows from an attempt; says how long the lane has to wait, if it has to.
    fn judge(
        &self,
        kept: &KeptOutbox,
        error: Option<CallError>,
        round: &mut Round,
    ) -> Option<Duration> {
        let error = match error {
            // A success whose body we do not want to read is one all the same.
            None | Some(CallError::TooLarge { .. } | CallError::Encoded { .. }) => {
                self.figures.delivered.increment();
                round.push(kept, kept.attempts, String::new(), OutboxEnd::Delivered);
                return None;
            }
            Some(error) => error,
        };
        let attempts = kept.attempts.saturating_add(1);
        let is_hopeless = !error.may_retry();
        let now = self.clock.now();
        let pause = self.pause(attempts, &error);
        let too_late = now.plus(pause).since(kept.message.at) > self.options.age_max;
        if is_hopeless || too_late {
            info!(
                target: "naru::outbox",
                name = &*kept.message.target, id = &*kept.message.id, attempts, %error,
                "a message is a dead letter"
            );
            self.figures.dead.increment();
            round.push(kept, attempts, error.to_string(), OutboxEnd::Dead);
            // Those behind a message that was refused may be fine; those behind one that was too old are
            // as unlikely to arrive as it was.
            return (!is_hopeless).then_some(pause);
        }
        self.figures.again.increment();
        round.push(kept, attempts, error.to_string(), OutboxEnd::Again(now.plus(pause)));
        Some(pause)
    }

    fn pause(&self, attempts: u32, error: &CallError) -> Duration {
        let options = &self.options;
        let retry = RetryOptions {
            pause: options.pause,
            pause_max: options.pause_max,
            ..RetryOptions::default()
        };
        let jittered = retry.pause_before(attempts.saturating_add(1), rand::random(), None);
        match error {
            // Never before the time asked for.
            CallError::Status { retry_after: Some(asked), .. } => {
                (*asked).min(options.retry_after_max) + jittered.min(options.pause)
            }
            _ => jittered,
        }
    }

    fn target(&self, place: &Place) -> Result<Arc<Target>, RelayError> {
        if let Some(target) = place.target.get() {
            return Ok(Arc::clone(target));
        }
        let client =
            self.client().map_err(|error| RelayError::Client { reason: error.to_string() })?;
        let made = Target::new(place.options.clone(), client, Arc::clone(&self.clock));
        let name = || place.options.name.clone();
        let made = made.map_err(|error| RelayError::Target { name: name(), error })?;
        Ok(Arc::clone(place.target.get_or_init(|| Arc::new(made))))
    }

    fn client(&self) -> Result<BoundedClient, CallError> {
        if let Some(client) = self.client.get() {
            return Ok(client.clone());
        }
        let limits = CallLimits {
            connect_timeout: self.options.timeout,
            total_timeout: self.options.timeout,
            // Nothing in the answer matters.
            body_bytes_max: 64 * 1024,
            redirects_max: 0,
            idle_max: 1,
        };
        let client = BoundedClient::new(self.guard.clone(), limits, Redirects::KeepingMethod)?;
        Ok(self.client.get_or_init(|| client).clone())
    }
}

/// What came of one page.
#[derive(Default)]
struct Round {
    results: Vec<OutboxResult>,
    /// How long the lane waits now; `None` goes on.
    pause: Option<Duration>,
}

impl Round {
    fn push(&mut self, kept: &KeptOutbox, attempts: u32, failure: String, end: OutboxEnd) {
        let id = Arc::clone(&kept.message.id);
        self.results.push(OutboxResult { id, attempts, failure: Arc::from(failure), end });
    }
}

#[cfg(test)]
mod tests;
