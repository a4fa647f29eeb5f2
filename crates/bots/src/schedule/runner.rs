//! Sends what is due. Sleeps until the next moment, claims it in the store (which exactly one node of a
//! cluster can), and sends it through `ReplyOut`.
//!
//! A claim moves the schedule on before anything is sent, and never to a moment that is not after both
//! the one claimed and now. So neither two nodes nor a clock that jumps can send a run twice; a node
//! that dies between claim and sending loses that one run, and its log shows none.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use naru_domain::clock::Clock;
use naru_domain::metrics::{Counter, Histogram, MetricSink, MetricSource};
use naru_domain::ports::{Schedules, StoreError};
use naru_domain::work::{Schedule, ScheduleRun};
use naru_domain::{DeviceKey, MediaItem, MediaKind, ReplyBody, Timestamp};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::recurrence::{TimeZone, next_of, next_run};
use crate::handler::{ReplyOut, SendError};

/// The outcome of a run that was handed over for delivery.
pub const RUN_SENT: &str = "sent";
/// The outcome of a run that nobody was there for.
pub const RUN_MISSED: &str = "missed";
/// The outcome of a run that could not be sent.
pub const RUN_FAILED: &str = "failed";

/// How the runner works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunnerOptions {
    /// A run that is late by at most this is still sent, the latest of each schedule only.
    pub catch_up: Duration,
    /// The pause between two schedules of one phone (the old server's figure).
    pub spacing: Duration,
    /// The longest sleep: finds out about jumps of the clock and changes made by other nodes.
    pub look_every: Duration,
    /// Runs being sent at once; each holds its pictures in memory.
    pub in_flight_max: usize,
    /// Pauses before sending again what cannot be kept right now.
    pub retry_pauses: [Duration; 3],
}

impl Default for RunnerOptions {
    fn default() -> RunnerOptions {
        RunnerOptions {
            catch_up: Duration::from_secs(300),
            spacing: Duration::from_millis(500),
            look_every: Duration::from_secs(30),
            in_flight_max: 16,
            retry_pauses: [1, 5, 15].map(Duration::from_secs),
        }
    }
}

/// The figures of the runner.
#[derive(Debug, Default)]
pub struct ScheduleMetrics {
    sent: Counter,
    missed: Counter,
    failed: Counter,
    lateness: Histogram,
}

impl MetricSource for ScheduleMetrics {
    fn collect(&self, sink: &mut dyn MetricSink) {
        let outcomes =
            [(RUN_SENT, &self.sent), (RUN_MISSED, &self.missed), (RUN_FAILED, &self.failed)];
        for (outcome, counter) in outcomes {
            let labels = [("outcome", outcome)];
            sink.counter("schedule_runs", "Runs of schedules.", &labels, counter.get());
        }
        let help = "How much later than due runs were sent.";
        sink.histogram("schedule_lateness_seconds", help, &[], &self.lateness);
    }
}

/// See the module. Cheap to clone; one per node runs.
#[derive(Clone)]
pub struct Runner {
    store: Arc<dyn Schedules>,
    out: Arc<dyn ReplyOut>,
    clock: Arc<dyn Clock>,
    options: RunnerOptions,
    changed: Arc<Notify>,
    in_flight: Arc<Semaphore>,
    metrics: Arc<ScheduleMetrics>,
}

impl std::fmt::Debug for Runner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runner").field("options", &self.options).finish_non_exhaustive()
    }
}

/// What is to be done about a schedule whose moment has come.
struct Due {
    /// What the store calls this run.
    claim: Timestamp,
    /// The moment that is sent; `None` when all of them are too long ago.
    send: Option<Timestamp>,
    /// Whether moments were left out.
    missed: bool,
    /// The next one.
    next: Option<Timestamp>,
}

impl Runner {
    /// Sends what `store` says is due through `out`.
    #[must_use]
    pub fn new(
        store: Arc<dyn Schedules>,
        out: Arc<dyn ReplyOut>,
        clock: Arc<dyn Clock>,
        options: RunnerOptions,
    ) -> Runner {
        Runner {
            store,
            out,
            clock,
            options,
            changed: Arc::new(Notify::new()),
            in_flight: Arc::new(Semaphore::new(options.in_flight_max.max(1))),
            metrics: Arc::new(ScheduleMetrics::default()),
        }
    }

    /// A schedule was added, changed or removed: looks again at once.
    pub fn poke(&self) {
        self.changed.notify_one();
    }

    /// The figures.
    #[must_use]
    pub fn metrics(&self) -> Arc<ScheduleMetrics> {
        Arc::clone(&self.metrics)
    }

    /// Runs until told to stop; then what was claimed is sent without its pauses before this returns.
    pub async fn run(&self, stop: CancellationToken) {
        let runs = TaskTracker::new();
        let mut lanes = Lanes::default();
        let mut errors = 0;
        while !stop.is_cancelled() {
            let pause = match self.look(&runs, &mut lanes, &stop).await {
                Ok(pause) => {
                    errors = 0;
                    pause
                }
                Err(error) => {
                    if errors == 0 {
                        warn!(target: "naru::schedules", %error, "schedules cannot be read");
                    }
                    errors += 1;
                    Duration::from_secs(1 << errors.min(5)).min(self.options.look_every)
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.changed.notified() => {}
                () = sleep(pause) => {}
            }
        }
        runs.close();
        runs.wait().await;
    }

    /// Starts everything that is due; says how long nothing will be.
    async fn look(
        &self,
        runs: &TaskTracker,
        lanes: &mut Lanes,
        stop: &CancellationToken,
    ) -> Result<Duration, StoreError> {
        loop {
            // One at a time: schedules carry their pictures.
            let first = self.store.due_schedules(Timestamp(i64::MAX), 1).await?;
            let Some((schedule, due_at)) = first.into_iter().next().and_then(|schedule| {
                let due_at = schedule.next_at?;
                Some((schedule, due_at))
            }) else {
                return Ok(self.options.look_every);
            };
            let now = self.clock.now();
            if due_at > now {
                // A sleep may end a little early; a moment too late costs nothing.
                let wait = due_at.since(now) + Duration::from_millis(1);
                return Ok(wait.min(self.options.look_every));
            }
            let Some(permit) = self.permit(stop).await else { return Ok(Duration::ZERO) };
            let due = self.decide(&schedule, due_at, now);
            if !self.store.claim_schedule(schedule.id, due.claim, due.next).await? {
                // Another node has it. Its step may not be visible yet: do not spin.
                return Ok(CLAIMED_ELSEWHERE_PAUSE);
            }
            self.start(runs, lanes, schedule, &due, permit, stop).await;
        }
    }

    async fn permit(&self, stop: &CancellationToken) -> Option<OwnedSemaphorePermit> {
        let permit = Arc::clone(&self.in_flight).acquire_owned();
        stop.run_until_cancelled(permit).await?.ok()
    }

    fn decide(&self, schedule: &Schedule, due_at: Timestamp, now: Timestamp) -> Due {
        let next = next_of(schedule, now.max(due_at));
        let oldest = now.minus(self.options.catch_up);
        let mut due = Due { claim: due_at, send: None, missed: due_at < oldest, next };
        if due_at >= oldest {
            due.send = Some(due_at);
        }
        // Of several that fell into the time of catching up, only the latest is sent.
        if let Some(zone) = TimeZone::parse(&schedule.time_zone) {
            let mut after = due_at.max(Timestamp(oldest.0.saturating_sub(1)));
            while let Some(run) = next_run(
                &schedule.recurrence,
                zone,
                after,
                schedule.valid_from,
                schedule.valid_until,
            )
            .filter(|run| *run <= now)
            {
                due.missed |= due.send.is_some();
                due.send = Some(run);
                after = run;
            }
        }
        due
    }

    async fn start(
        &self,
        runs: &TaskTracker,
        lanes: &mut Lanes,
        schedule: Schedule,
        due: &Due,
        permit: OwnedSemaphorePermit,
        stop: &CancellationToken,
    ) {
        if due.missed {
            self.metrics.missed.increment();
            let note = match due.send {
                Some(_) => "earlier moments were not sent; only the latest was",
                None => "the server was not running",
            };
            self.log(&schedule, due.claim, RUN_MISSED, note.to_owned()).await;
        }
        let Some(due_at) = due.send else { return };
        let begin = lanes.take(schedule.device, self.options.spacing);
        let (runner, stop) = (self.clone(), stop.clone());
        runs.spawn(async move {
            let _permit = permit;
            // When stopping, what was claimed is sent at once rather than lost.
            stop.run_until_cancelled(sleep_until(begin)).await;
            runner.metrics.lateness.observe(runner.clock.now().since(due_at));
            // Its failure stands in the log of runs.
            drop(runner.send(&schedule, due_at, &stop).await);
        });
    }

    /// Sends a schedule now, whatever its rule says, and logs the run. Its next run stays as it was.
    pub async fn send_now(&self, schedule: &Schedule) -> Result<(), SendError> {
        self.send(schedule, self.clock.now(), &CancellationToken::new()).await
    }

    async fn send(
        &self,
        schedule: &Schedule,
        due_at: Timestamp,
        stop: &CancellationToken,
    ) -> Result<(), SendError> {
        let result = self.send_parts(schedule, stop).await;
        match &result {
            Ok(()) => {
                self.metrics.sent.increment();
                self.log(schedule, due_at, RUN_SENT, String::new()).await;
            }
            Err(error) => {
                self.metrics.failed.increment();
                warn!(target: "naru::schedules", schedule = %schedule.id, %error, "schedule not sent");
                self.log(schedule, due_at, RUN_FAILED, error.to_string()).await;
            }
        }
        result
    }

    async fn send_parts(
        &self,
        schedule: &Schedule,
        stop: &CancellationToken,
    ) -> Result<(), SendError> {
        let mut first = Vec::new();
        if !schedule.text.is_empty() {
            first.push(ReplyBody::Text(schedule.text.as_str().into()));
        }
        first.extend(group(schedule, 0));
        let second = group(schedule, 1);
        let has_first = !first.is_empty();
        if has_first {
            self.send_or_retry(schedule, first, stop).await?;
        }
        if let Some(second) = second {
            if has_first {
                stop.run_until_cancelled(sleep(schedule.group_pause)).await;
            }
            self.send_or_retry(schedule, vec![second], stop).await?;
        }
        Ok(())
    }

    async fn send_or_retry(
        &self,
        schedule: &Schedule,
        bodies: Vec<ReplyBody>,
        stop: &CancellationToken,
    ) -> Result<(), SendError> {
        for pause in self.options.retry_pauses {
            match self.send_once(schedule, bodies.clone()).await {
                Err(SendError::Unavailable { reason }) => {
                    debug!(target: "naru::schedules", schedule = %schedule.id, %reason, "sent again");
                    stop.run_until_cancelled(sleep(pause)).await;
                }
                result => return result,
            }
        }
        self.send_once(schedule, bodies).await
    }

    async fn send_once(
        &self,
        schedule: &Schedule,
        bodies: Vec<ReplyBody>,
    ) -> Result<(), SendError> {
        let Schedule { device, room, channel_id, .. } = schedule;
        self.out.send(*device, room, channel_id, bodies, true).await
    }

    async fn log(&self, schedule: &Schedule, due_at: Timestamp, outcome: &str, note: String) {
        let run = ScheduleRun {
            id: 0,
            schedule: schedule.id,
            due_at,
            ran_at: self.clock.now(),
            outcome: outcome.to_owned(),
            note,
        };
        if let Err(error) = self.store.log_schedule_run(&run).await {
            warn!(target: "naru::schedules", schedule = %schedule.id, %error, "run not logged");
        }
    }
}

/// The pause before looking again when another node was faster.
const CLAIMED_ELSEWHERE_PAUSE: Duration = Duration::from_millis(100);

fn group(schedule: &Schedule, which: usize) -> Option<ReplyBody> {
    let items: Vec<MediaItem> =
        schedule.images[which].iter().cloned().map(MediaItem::Bytes).collect();
    if items.is_empty() {
        return None;
    }
    let wait = schedule.media_wait[which];
    Some(ReplyBody::Media { kind: MediaKind::Image, items, wait })
}

/// When each phone may be given the next schedule.
#[derive(Default)]
struct Lanes(HashMap<DeviceKey, Instant>);

impl Lanes {
    /// A place in the lane of this phone.
    fn take(&mut self, device: DeviceKey, spacing: Duration) -> Instant {
        let now = Instant::now();
        // Lanes that are free again say nothing: the map stays as small as what is going on.
        self.0.retain(|_, free_at| *free_at > now);
        let begin = self.0.get(&device).copied().unwrap_or(now);
        self.0.insert(device, begin + spacing);
        begin
    }
}
