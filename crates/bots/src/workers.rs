//! The workers: each takes one message at a time, asks the handler, and hands over what became of it. A
//! handler that panics, takes too long or keeps its thread costs one message, never a worker; one that
//! waits is parked, so that the workers are there for those who have something to do.

mod slots;

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use naru_domain::work::{MessageRecord, MessageState};
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::core::{Core, DeadCause, Ending, Tally, delivery, incoming_of, now};
use crate::ledger::{Finished, LedgerOp, Settled};
use crate::room_channel::Source;
use crate::roster::{Line, Work};
use crate::scheduler::{Job, Lane, Scheduler, SchedulerLimits, Ticket};
use slots::{PollWatch, Running};

pub use slots::WorkerView;
pub(crate) use slots::{Parked, WorkerSlot};

/// A handler that has waited for so long is left to itself (guessed: longer than a quick lookup, and
/// short enough that hanging handlers take no visible part of the workers' time).
const PATIENCE: Duration = Duration::from_millis(10);

/// A message in the scheduler.
#[derive(Debug)]
pub(crate) struct Queued {
    work: Arc<Work>,
    /// Its place in the queue, in direct mode; free again when work starts.
    place: Option<OwnedSemaphorePermit>,
}

/// The scheduler, shared.
#[derive(Debug)]
pub(crate) struct Board {
    scheduler: Mutex<Scheduler<Queued, Settled>>,
    ready: Notify,
}

impl Board {
    pub(crate) fn new(limits: SchedulerLimits) -> Board {
        Board { scheduler: Mutex::new(Scheduler::new(limits)), ready: Notify::new() }
    }

    /// Takes messages that are in the store; they have their places by now.
    pub(crate) fn push_kept(&self, works: Vec<Arc<Work>>, now: Instant) {
        let mut scheduler = self.scheduler.lock();
        for work in works {
            let queued = Queued { work: Arc::clone(&work), place: None };
            scheduler.push(work.entry.bot.index, work.lane(), queued, now);
        }
        drop(scheduler);
        self.ready.notify_one();
    }

    /// Takes a message of direct mode.
    fn push_direct(&self, work: Arc<Work>, place: OwnedSemaphorePermit) {
        let (bot, lane) = (work.entry.bot.index, work.lane());
        let queued = Queued { work, place: Some(place) };
        self.scheduler.lock().push(bot, lane, queued, now());
        self.ready.notify_one();
    }

    /// Waits for a message to work on; `None` when told to stop. Cancel safe.
    async fn take(&self, stop: &CancellationToken) -> Option<Job<Queued>> {
        loop {
            let mut ready = std::pin::pin!(self.ready.notified());
            // Enlisted before the look, so that nothing pushed in between is missed.
            ready.as_mut().enable();
            if stop.is_cancelled() {
                return None;
            }
            let job = {
                let mut scheduler = self.scheduler.lock();
                let job = scheduler.next(now());
                if job.is_some() && scheduler.has_ready() {
                    self.ready.notify_one(); // One wakes the next: no herd, nobody forgotten.
                }
                job
            };
            if job.is_some() {
                return job;
            }
            tokio::select! {
                () = ready => (),
                () = stop.cancelled() => return None,
            }
        }
    }

    /// See [`Scheduler::finish`].
    pub(crate) fn finish(&self, ticket: Ticket, settled: Settled) -> Option<Vec<Settled>> {
        let mut scheduler = self.scheduler.lock();
        let released = scheduler.finish(ticket, settled);
        if scheduler.has_ready() {
            self.ready.notify_one();
        }
        released
    }

    pub(crate) fn is_idle(&self, lane: Lane) -> bool {
        self.scheduler.lock().is_idle(lane)
    }

    pub(crate) fn room(&self) -> usize {
        self.scheduler.lock().room()
    }

    /// Messages that wait, and messages in work.
    pub(crate) fn depth(&self) -> (usize, usize) {
        let scheduler = self.scheduler.lock();
        (scheduler.waiting(), scheduler.in_work())
    }
}

/// Starts all workers and watches them until told to stop.
pub(crate) async fn run(core: Arc<Core>, stop: CancellationToken) {
    for slot in &core.workers {
        start(&core, slot, &stop);
    }
    let check = core.options.check_every;
    let mut ticks = tokio::time::interval(check);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        for (worker, slot) in core.workers.iter().enumerate() {
            let Some(running) = slot.take_if_stuck(check) else { continue };
            core.metrics.workers_replaced.increment();
            core.metrics.workers_busy.add(-1);
            error!(target: "naru::bots", worker, message = %running.work.record.id,
                bot = %running.work.entry.bot.name, "worker replaced: its handler blocks a thread");
            start(&core, slot, &stop);
            give_up(&core, running).await;
        }
        for running in core.parked.take_stuck(check) {
            core.metrics.parked.add(-1);
            error!(target: "naru::bots", message = %running.work.record.id,
                bot = %running.work.entry.bot.name, "message given up: its handler blocks a thread");
            give_up(&core, running).await;
        }
    }
}

async fn give_up(core: &Arc<Core>, running: Running) {
    let reason = "the handler blocked its thread".to_owned();
    let ending = Ending::Dead { cause: DeadCause::Stuck, reason };
    settle(core, running.ticket, running.work, ending).await;
}

fn start(core: &Arc<Core>, slot: &Arc<WorkerSlot>, stop: &CancellationToken) {
    core.tasks.spawn(work(Arc::clone(core), Arc::clone(slot), stop.clone()));
}

async fn work(core: Arc<Core>, slot: Arc<WorkerSlot>, stop: CancellationToken) {
    let poll = Arc::new(PollWatch::new());
    while let Some(job) = core.board.take(&stop).await {
        let Job { ticket, payload: Queued { work, place } } = job;
        drop(place);
        let started = now();
        core.metrics.stage_queue.observe(started.saturating_duration_since(work.received));
        core.metrics.workers_busy.add(1);
        poll.restart();
        let (since, watch) = (Instant::now(), Arc::clone(&poll));
        let running = Running { ticket, work: Arc::clone(&work), since, poll: watch };
        let generation = slot.begin(running);
        let ending = async {
            let ending = ask(&core, &work, &poll).await;
            wait_until_told(&core, &work).await;
            ending
        };
        let mut asking = pin!(core.stop.run_until_cancelled(ending));
        let asked = tokio::select! {
            biased;
            asked = &mut asking => Some(asked),
            () = poll.has_waited(started, PATIENCE) => None,
        };
        let mine = slot.end(generation);
        if mine.is_some() {
            core.metrics.workers_busy.add(-1);
        }
        let Some(asked) = asked else {
            let Some(running) = mine else { return }; // It was stuck, and has ended.
            // Another task takes the place as worker, and this one stays with the message.
            core.parked.enter(running);
            core.metrics.parked.add(1);
            start(&core, &slot, &stop);
            let asked = asking.await;
            let mine = core.parked.leave(ticket);
            if mine.is_some() {
                core.metrics.parked.add(-1);
            }
            conclude(&core, started, asked, mine).await;
            return;
        };
        if !conclude(&core, started, asked, mine).await {
            return;
        }
    }
}

/// Hands over what came of a message, unless somebody else has done so; `false` when the worker is not
/// to go on: it was replaced, or the node stops.
async fn conclude(
    core: &Arc<Core>,
    started: Instant,
    asked: Option<Ending>,
    mine: Option<Running>,
) -> bool {
    let Some(ending) = asked else { return false }; // Still pending in the store.
    let Some(Running { ticket, work, .. }) = mine else {
        core.metrics.late_answers.increment();
        return false; // The message has ended.
    };
    core.metrics.stage_work.observe(now().saturating_duration_since(started));
    settle(core, ticket, work, ending).await;
    true
}

/// Asks the handler, again where that may help, within the time a message has.
async fn ask(core: &Core, work: &Work, poll: &PollWatch) -> Ending {
    match tokio::time::timeout(core.options.timeout, ask_until_done(core, work, poll)).await {
        Ok(ending) => ending,
        Err(_elapsed) => Ending::Dead {
            cause: DeadCause::TimedOut,
            reason: format!("timed out after {} s", core.options.timeout.as_secs()),
        },
    }
}

/// A kept message ends no earlier than its room's channels have it: until then it stays pending in the
/// store, and a crash tells it again.
async fn wait_until_told(core: &Core, work: &Work) {
    let Some(told) = work.told.as_ref().filter(|_| !core.is_direct()) else { return };
    told.cancelled().await;
    if core.stop.is_cancelled() {
        // It may have been let go untold. Whoever calls this hears the stop.
        std::future::pending::<()>().await;
    }
}

async fn ask_until_done(core: &Core, work: &Work, poll: &PollWatch) -> Ending {
    let mut pause = core.options.retry_pause;
    let mut attempt = 1;
    loop {
        if !work.is_answerable() {
            return Ending::Withheld;
        }
        let incoming = incoming_of(work, attempt);
        let future = async {
            let outcome = core.handler.handle(incoming).await?;
            crate::prepare::outcome(&work.entry, outcome).await
        };
        match Watched(std::pin::pin!(future), poll).await {
            Ok(Ok(outcome)) => return Ending::Answered(outcome),
            Ok(Err(error)) if error.retryable && attempt < core.options.attempts_max => {
                core.metrics.retries.increment();
                tokio::time::sleep(pause.mul_f64(0.5 + rand::random::<f64>() / 2.0)).await;
                pause *= 2;
                attempt += 1;
            }
            Ok(Err(error)) => {
                return Ending::Dead { cause: DeadCause::Failed, reason: error.reason };
            }
            Err(Panicked) => {
                let reason = "the handler panicked".to_owned();
                return Ending::Dead { cause: DeadCause::Panicked, reason };
            }
        }
    }
}

struct Panicked;

/// A handler's future: panics become values, and the watcher sees how long a poll takes.
struct Watched<'a, F>(Pin<&'a mut F>, &'a PollWatch);

impl<F: Future> Future for Watched<'_, F> {
    type Output = Result<F::Output, Panicked>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.1.poll_begins();
        let inner = self.0.as_mut();
        let polled = std::panic::catch_unwind(AssertUnwindSafe(|| inner.poll(context)));
        if let Ok(Poll::Pending) = polled {
            self.1.poll_pends();
            return Poll::Pending;
        }
        self.1.poll_ends();
        match polled {
            Ok(polled) => polled.map(Ok),
            Err(_panic) => Poll::Ready(Err(Panicked)),
        }
    }
}

/// Hands over what became of a message: to the ledger task, or straight to the phone in direct mode.
async fn settle(core: &Arc<Core>, ticket: Ticket, work: Arc<Work>, ending: Ending) {
    let settled = Settled { work, ending };
    if core.is_direct() {
        settle_direct(core, ticket, settled);
        return;
    }
    // Without a ledger task the node is going down, and the message is still pending in the store.
    let op = LedgerOp::Finished(Finished { ticket, settled });
    core.ledger_ended.run_until_cancelled(core.ops.send(op)).await;
}

/// Releases in order and delivers under the scheduler's lock: otherwise two workers that finish at the
/// same moment could swap their replies between the release and the delivery.
fn settle_direct(core: &Arc<Core>, ticket: Ticket, settled: Settled) {
    let mut scheduler = core.board.scheduler.lock();
    match scheduler.finish(ticket, settled) {
        Some(released) => {
            for Settled { work, ending } in released {
                conclude_direct(core, &work, ending);
            }
        }
        None => core.metrics.late_answers.increment(),
    }
    if scheduler.has_ready() {
        core.board.ready.notify_one();
    }
    core.show_queue(scheduler.waiting(), scheduler.in_work());
}

/// Takes a message in direct mode: answered on the spot if its room is idle and the handler is quick.
/// The caller holds the phone's line, through which all messages of its rooms come.
pub(crate) fn accept_direct(
    core: &Arc<Core>,
    work: Arc<Work>,
    place: OwnedSemaphorePermit,
    _line: &Line,
) {
    if work.record.state != MessageState::Pending {
        core.tally(Tally::Logged { withheld: 0 });
        log_direct(core, &work, work.record.state, "");
        return;
    }
    core.teller.message(core, &work);
    if core.board.is_idle(work.lane())
        && let Some(ending) = core.immediate(&work)
    {
        core.metrics.immediate.increment();
        conclude_direct(core, &work, ending);
        return;
    }
    core.board.push_direct(work, place);
}

fn conclude_direct(core: &Arc<Core>, work: &Arc<Work>, ending: Ending) {
    let conclusion = core.conclude(work, ending);
    core.tally(conclusion.tally);
    if !conclusion.replies.is_empty() {
        let pause = work.entry.bot.config.load().settings.replies.pause();
        core.send_direct(&work.entry, &Source::answer(work), conclusion.replies, pause);
        core.metrics.stage_reply.observe(now().saturating_duration_since(work.received));
    }
    log_direct(core, work, conclusion.state, &conclusion.failure);
}

impl Core {
    /// Numbers replies and puts them into the phone's stream; returns the last number.
    pub(crate) fn send_direct(
        &self,
        entry: &Arc<crate::roster::DeviceEntry>,
        source: &Source,
        replies: Vec<naru_domain::PhoneReply>,
        pause: Duration,
    ) -> Vec<naru_domain::Offset> {
        let mut stream = entry.stream.lock();
        let mut offsets = Vec::with_capacity(replies.len());
        for (i, reply) in replies.into_iter().enumerate() {
            stream.last = stream.last.next();
            offsets.push(stream.last);
            let pause = if i == 0 { Duration::ZERO } else { pause };
            self.teller.reply(self, entry, source, stream.last, &reply);
            let delivery = delivery(stream.last, Arc::new(reply));
            self.deliver_locked(entry, &mut stream, delivery, pause);
        }
        offsets
    }
}

/// Keeps a row of the talk, if wanted and if there is room: direct mode never waits for the store.
fn log_direct(core: &Core, work: &Arc<Work>, state: MessageState, failure: &str) {
    if !core.options.direct_log {
        return;
    }
    let keeps_log = work.entry.bot.config.load().settings.chat_log.enabled;
    if state == MessageState::Logged && !keeps_log {
        core.metrics.unlogged.increment();
        return;
    }
    let mut record = MessageRecord::clone(&work.record);
    record.state = state;
    record.failure = failure.into();
    let row = Work {
        record: Arc::new(record),
        entry: Arc::clone(&work.entry),
        room: work.room.clone(),
        received: work.received,
        is_for_next_start: false,
        told: None,
    };
    if core.accepts.try_send(Arc::new(row)).is_err() {
        core.metrics.log_dropped.increment();
    }
}
