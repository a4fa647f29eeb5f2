//! The group commit of work queues: new messages of all senders, and what was noted of those that are
//! kept, become one batch for the store. Only then do messages appear in their queues and senders hear of
//! it. A batch that fails leaves no trace but its notes, which go with the next one.

use std::collections::{HashMap, VecDeque};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use naru_domain::ports::{KeptWork, WorkBatch, WorkQueues};
use naru_domain::{ChannelName, Durability, Publication, WorkNumber};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::notes::Notes;
use super::queues::{Inner, Table, wake_up};
use super::{Entry, NotKept, SendError};
use crate::session::Moment;

/// Notes in one batch: some tens of milliseconds of the store (guessed).
const NOTES_MAX: usize = 10_000;
/// Bytes of new messages in one batch, and one message more: the store gets far more done in the time of
/// one statement.
const BYTES_MAX: usize = 16 * 1024 * 1024;
/// Between two tries when the store fails and nobody asks for anything.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// How often the store is told which keys are forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(60);

type Sent = oneshot::Sender<Result<(), SendError>>;

/// What somebody waits for.
pub(super) enum Request {
    /// A new message.
    Add { queue: ChannelName, publication: Publication, durability: Durability, reply: Sent },
    /// All that was noted before.
    Settled { durability: Durability, reply: oneshot::Sender<Result<(), NotKept>> },
}

/// The one task that tells the store.
pub(super) struct Keeper {
    inner: Arc<Inner>,
    store: Arc<dyn WorkQueues>,
    requests: mpsc::Receiver<Request>,
    /// Numbers that failed since the last batch that went well. They were given out in one run, with at
    /// most messages between them that are not kept at all, so that one range holds them however long it
    /// takes.
    withdraw: Option<RangeInclusive<u64>>,
    is_failing: bool,
    forgot_at: Instant,
}

/// One batch with those who wait for it.
struct Plan {
    batch: Arc<WorkBatch>,
    /// Who waits for each of the new messages: more than one if they were sent with the same key.
    senders: Vec<Vec<Sent>>,
    notes: Notes,
}

impl Keeper {
    pub(super) fn new(
        inner: Arc<Inner>,
        store: Arc<dyn WorkQueues>,
        requests: mpsc::Receiver<Request>,
    ) -> Keeper {
        let forgot_at = Instant::now();
        Keeper { inner, store, requests, withdraw: None, is_failing: false, forgot_at }
    }

    pub(super) async fn run(mut self, stop: CancellationToken) {
        let count_max = self.inner.limits.commit_count_max.max(1);
        let mut waiting = Vec::new();
        loop {
            let pause = if self.is_failing { RETRY_PAUSE } else { self.inner.limits.note_delay };
            let notes_are_due = async {
                self.inner.noted.notified().await;
                sleep(pause).await;
            };
            tokio::select! {
                _ = self.requests.recv_many(&mut waiting, count_max) => {}
                () = notes_are_due => {}
                () = stop.cancelled() => break,
            }
            self.keep(&mut waiting).await;
        }
        self.requests.close();
        while self.requests.recv_many(&mut waiting, count_max).await > 0 {
            self.keep(&mut waiting).await;
        }
        self.keep(&mut waiting).await;
    }

    /// Keeps what waits and all that was noted so far.
    async fn keep(&mut self, waiting: &mut Vec<Request>) {
        let (mut adds, mut settled, mut durability) = (VecDeque::new(), Vec::new(), Durability::Os);
        for request in waiting.drain(..) {
            match request {
                Request::Add { queue, publication, durability: asked, reply } => {
                    durability = durability.max(asked);
                    adds.push_back((queue, publication, reply));
                }
                Request::Settled { durability: asked, reply } => {
                    durability = durability.max(asked);
                    settled.push(reply);
                }
            }
        }
        let mut kept = Ok(());
        loop {
            let (plan, is_last) = self.plan(&mut adds);
            if *plan.batch != WorkBatch::default() {
                kept = self.commit(plan, durability).await;
            }
            if is_last || kept.is_err() {
                break;
            }
        }
        if let Err(error) = &kept {
            for (_, _, reply) in adds {
                answer(reply, Err(error.clone().into()));
            }
        }
        for reply in settled {
            // Who no longer waits has decided to do without the answer.
            drop(reply.send(kept.clone()));
        }
    }

    /// Gives each message its number and makes room for it. Those whose key is known are answered, and
    /// join the one that is on its way with the same key. False if something is left for another batch.
    fn plan(&mut self, adds: &mut VecDeque<(ChannelName, Publication, Sent)>) -> (Plan, bool) {
        let now = self.inner.now();
        let mut add: Vec<KeptWork> = Vec::with_capacity(adds.len());
        let mut senders: Vec<Vec<Sent>> = Vec::with_capacity(adds.len());
        let mut keys: HashMap<(ChannelName, Arc<str>), usize> = HashMap::new();
        let mut bytes = 0;
        let mut table = self.inner.table.lock();
        while bytes < BYTES_MAX
            && let Some((queue, publication, reply)) = adds.pop_front()
        {
            if let Some(key) = &publication.key {
                if table.keys.get(&queue, key, now).is_some() {
                    self.inner.metrics.duplicates.increment();
                    answer(reply, Ok(()));
                    continue;
                }
                if let Some(index) = keys.get(&(queue.clone(), Arc::clone(key))) {
                    self.inner.metrics.duplicates.increment();
                    senders[*index].push(reply);
                    continue;
                }
            }
            if let Err(full) = table.reserve(&queue, publication.size_bytes(), &self.inner.limits) {
                answer(reply, Err(full.into()));
                continue;
            }
            if let Some(key) = &publication.key {
                keys.insert((queue.clone(), Arc::clone(key)), add.len());
            }
            bytes += publication.size_bytes();
            let (number, life) = (table.next_number(), self.inner.life);
            let publication = Arc::new(publication);
            add.push(KeptWork { number, life, queue, publication, deliveries: 0 });
            senders.push(vec![reply]);
        }
        let notes = table.notes.take(NOTES_MAX);
        table.notes_leaving = notes.len();
        let is_last = table.notes.is_empty() && adds.is_empty();
        let is_time = self.forgot_at.elapsed() >= FORGET_EVERY;
        let forget_keys_below = is_time.then(|| keys_to_forget(&mut table, now));
        if is_time {
            self.forgot_at = Instant::now();
        }
        let (delivered, done) = notes.lists();
        let withdraw = self.withdraw.clone();
        let batch = WorkBatch { withdraw, add, delivered, done, forget_keys_below };
        (Plan { batch: Arc::new(batch), senders, notes }, is_last)
    }

    async fn commit(&mut self, plan: Plan, durability: Durability) -> Result<(), NotKept> {
        let metrics = &self.inner.metrics;
        let began = Instant::now();
        let limit = self.inner.limits.store_timeout;
        let kept = timeout(limit, self.store.keep_work(Arc::clone(&plan.batch), durability)).await;
        metrics.commit_seconds.observe(began.elapsed());
        metrics.commits.increment();
        let failed = match kept {
            Ok(Ok(())) => {
                metrics.stored.add(plan.batch.add.len() as u64);
                self.done(plan);
                return Ok(());
            }
            Ok(Err(error)) => NotKept { reason: error.to_string() },
            Err(_elapsed) => NotKept { reason: "the store did not answer in time".to_owned() },
        };
        metrics.commits_failed.increment();
        if !self.is_failing {
            self.is_failing = true;
            let reason = &failed.reason;
            warn!(target: "naru::hub", reason, "work queues are not kept; trying again");
        }
        self.failed(plan, &failed);
        Err(failed)
    }

    /// The store has it: messages appear, and senders hear of it.
    fn done(&mut self, plan: Plan) {
        self.withdraw = None;
        if self.is_failing {
            self.is_failing = false;
            info!(target: "naru::hub", "work queues are kept again");
        }
        let now = self.inner.now();
        let mut wake = Vec::with_capacity(plan.batch.add.len());
        {
            let mut table = self.inner.table.lock();
            table.notes_leaving = 0;
            table.count_notes();
            for kept in &plan.batch.add {
                let entry = Entry {
                    life: kept.life,
                    publication: Arc::clone(&kept.publication),
                    deliveries: 0,
                    is_kept: true,
                    is_loaded: false,
                };
                if let Some(key) = &kept.publication.key {
                    table.remember(&kept.queue, key, kept.number, now);
                }
                wake.push(table.fill(&kept.queue, kept.number, entry));
            }
        }
        wake.into_iter().for_each(wake_up);
        for reply in plan.senders.into_iter().flatten() {
            answer(reply, Ok(()));
        }
    }

    /// The store may have it or not: what is noted goes with the next batch, and new messages are taken
    /// back by it.
    fn failed(&mut self, plan: Plan, failed: &NotKept) {
        if let (Some(first), Some(last)) = (plan.batch.add.first(), plan.batch.add.last()) {
            let first = self.withdraw.as_ref().map_or(first.number.0, |range| *range.start());
            self.withdraw = Some(first..=last.number.0);
        }
        {
            let mut table = self.inner.table.lock();
            for kept in &plan.batch.add {
                table.release(&kept.queue, kept.publication.size_bytes());
            }
            table.notes.put_back(plan.notes);
            table.notes_leaving = 0;
            table.count_notes();
        }
        // They are tried again even if nobody asks.
        self.inner.noted.notify_one();
        for reply in plan.senders.into_iter().flatten() {
            answer(reply, Err(failed.clone().into()));
        }
    }
}

/// Up to which message keys are forgotten.
fn keys_to_forget(table: &mut Table, now: Moment) -> WorkNumber {
    let oldest = table.keys.oldest(now);
    oldest.map_or_else(|| table.last_number(), |oldest| WorkNumber(oldest.offset.0))
}

fn answer(reply: Sent, sent: Result<(), SendError>) {
    // Who no longer waits has decided to do without the answer.
    drop(reply.send(sent));
}
