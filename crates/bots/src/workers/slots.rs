//! Who is working on what: one slot per worker, and the messages that no worker holds because their
//! handlers only wait. Whoever takes a message out of here decides how it ends, so it ends once.
//! Knows nothing of handlers and queues.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use naru_domain::MessageId;
use parking_lot::Mutex;

use crate::core::now;
use crate::roster::Work;
use crate::scheduler::Ticket;

/// One worker as the watcher and operators see it.
#[derive(Debug, Default)]
pub(crate) struct WorkerSlot {
    state: Mutex<SlotState>,
}

#[derive(Debug, Default)]
struct SlotState {
    /// Rises when the worker is replaced: the old one then has no say any more.
    generation: u64,
    running: Option<Running>,
}

/// A message in work.
#[derive(Debug)]
pub(crate) struct Running {
    pub(super) ticket: Ticket,
    pub(super) work: Arc<Work>,
    pub(super) since: Instant,
    pub(super) poll: Arc<PollWatch>,
}

impl Running {
    fn is_stuck(&self, check: Duration) -> bool {
        self.poll.polled_for(Instant::now()) >= check
    }
}

/// Since when a handler is being polled, and for how long it was before. In real time: a thread that is
/// blocked does not stop with a paused clock.
#[derive(Debug)]
pub(crate) struct PollWatch {
    origin: Instant,
    /// Microseconds after the origin, plus 1; 0 while the handler waits.
    since_us: AtomicU64,
    polled_us: AtomicU64,
}

impl PollWatch {
    pub(super) fn new() -> PollWatch {
        let origin = Instant::now();
        PollWatch { origin, since_us: AtomicU64::new(0), polled_us: AtomicU64::new(0) }
    }

    fn us(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.origin).as_micros()).unwrap_or(u64::MAX) + 1
    }

    /// Another message begins.
    pub(super) fn restart(&self) {
        self.polled_us.store(0, Relaxed);
    }

    pub(super) fn poll_begins(&self) {
        self.since_us.store(self.us(Instant::now()), Relaxed);
    }

    pub(super) fn poll_pends(&self) {
        let since = self.since_us.swap(0, Relaxed);
        self.polled_us.fetch_add(self.us(Instant::now()).saturating_sub(since), Relaxed);
    }

    /// There is no other poll of this message.
    pub(super) fn poll_ends(&self) {
        self.since_us.store(0, Relaxed);
    }

    fn polled_for(&self, at: Instant) -> Duration {
        match self.since_us.load(Relaxed) {
            0 => Duration::ZERO,
            since => Duration::from_micros(self.us(at).saturating_sub(since)),
        }
    }

    /// Ends when the handler has waited for so long since `started`. The time it was polled does not count.
    pub(super) async fn has_waited(&self, started: Instant, patience: Duration) {
        let mut left = patience;
        while !left.is_zero() {
            tokio::time::sleep(left).await;
            let polled = Duration::from_micros(self.polled_us.load(Relaxed));
            let passed = now().saturating_duration_since(started);
            left = patience.saturating_sub(passed.saturating_sub(polled));
        }
    }
}

/// What a worker is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerView {
    /// Its number.
    pub worker: usize,
    /// The message it works on, if any.
    pub message: Option<MessageId>,
    /// The bot of that message.
    pub bot: Option<String>,
    /// For how long.
    pub busy_for: Duration,
    /// Whether the handler keeps its thread for longer than the check allows.
    pub is_stuck: bool,
    /// How often it was replaced.
    pub replaced_count: u64,
}

impl WorkerSlot {
    pub(crate) fn view(&self, worker: usize, check: Duration) -> WorkerView {
        let state = self.state.lock();
        let running = state.running.as_ref();
        WorkerView {
            worker,
            message: running.map(|running| running.work.record.id),
            bot: running.map(|running| running.work.entry.bot.name.to_string()),
            busy_for: running.map_or(Duration::ZERO, |running| running.since.elapsed()),
            is_stuck: running.is_some_and(|running| running.is_stuck(check)),
            replaced_count: state.generation,
        }
    }

    pub(super) fn begin(&self, running: Running) -> u64 {
        let mut state = self.state.lock();
        state.running = Some(running);
        state.generation
    }

    /// Takes the message back. `None` for the worker of another generation: somebody else has taken it,
    /// and it has ended.
    pub(super) fn end(&self, generation: u64) -> Option<Running> {
        let mut state = self.state.lock();
        if state.generation == generation { state.running.take() } else { None }
    }

    /// Takes the message away from a worker that is stuck.
    pub(super) fn take_if_stuck(&self, check: Duration) -> Option<Running> {
        let mut state = self.state.lock();
        let running = state.running.take_if(|running| running.is_stuck(check))?;
        state.generation += 1;
        Some(running)
    }
}

/// Messages in work whose handlers wait, without a worker. As many as the scheduler lets into work.
#[derive(Debug, Default)]
pub(crate) struct Parked(Mutex<HashMap<Ticket, Running>>);

impl Parked {
    pub(super) fn enter(&self, running: Running) {
        self.0.lock().insert(running.ticket, running);
    }

    /// Takes a message back; `None` if somebody else has taken it, and it has ended.
    pub(super) fn leave(&self, ticket: Ticket) -> Option<Running> {
        self.0.lock().remove(&ticket)
    }

    /// Takes away those that were waiting and now keep their threads.
    pub(super) fn take_stuck(&self, check: Duration) -> Vec<Running> {
        let mut parked = self.0.lock();
        parked
            .extract_if(|_, running| running.is_stuck(check))
            .map(|(_, running)| running)
            .collect()
    }

    pub(crate) fn count(&self) -> usize {
        self.0.lock().len()
    }
}
