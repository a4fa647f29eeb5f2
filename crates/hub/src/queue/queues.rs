//! The queues of a node behind one lock, and the hands of those who take from them.

use std::collections::HashMap;
use std::sync::Arc;

use naru_domain::metrics::MetricSource;
use naru_domain::ports::{KeptWork, StoreError, WorkQueues};
use naru_domain::{
    ChannelName, Durability, Epoch, Offset, Position, Publication, Timestamp, WorkNumber,
};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::keeper::{Keeper, Request};
use super::metrics::QueueMetrics;
use super::notes::Notes;
use super::{
    ConsumerId, ENTRY_BYTES, Entry, NotKept, Queue, QueueFull, QueueLimits, SendError, Settled,
    Taken,
};
use crate::local::keys::KeyWindow;
use crate::session::Moment;

/// Rows asked for at once while loading.
const PAGE: usize = 1_000;

/// Tells a consumer that there is something to take. Must not wait, nor call the queues.
pub trait WakeConsumer: Send + Sync + 'static {
    /// There may be something.
    fn wake(&self);
}

/// The queues of a node. Messages that are to outlive it are in the store before anybody gets them.
#[derive(Clone)]
pub struct Queues {
    inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) limits: QueueLimits,
    pub(super) life: Epoch,
    started: Instant,
    pub(super) store: Option<Arc<dyn WorkQueues>>,
    pub(super) table: Mutex<Table>,
    pub(super) metrics: Arc<QueueMetrics>,
    requests: mpsc::Sender<Request>,
    /// Taken by whoever runs the queues.
    waiting: Mutex<Option<mpsc::Receiver<Request>>>,
    /// Rings when the first note is made.
    pub(super) noted: Notify,
}

/// What the lock protects.
pub(super) struct Table {
    last_consumer: u64,
    last_number: u64,
    pub(super) keys: KeyWindow,
    queues: HashMap<ChannelName, Queue>,
    consumers: HashMap<ConsumerId, Arc<dyn WakeConsumer>>,
    /// Of all queues.
    weight: usize,
    pub(super) notes: Notes,
    /// Notes on their way into the store.
    pub(super) notes_leaving: usize,
    metrics: Arc<QueueMetrics>,
}

/// A consumer for as long as it lives. Dropped, it gives back what it has.
pub struct Consumer {
    inner: Arc<Inner>,
    name: ChannelName,
    id: ConsumerId,
}

/// A message that was given up. It stays in its queue until [`Queues::buried`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Where it was sent to.
    pub queue: ChannelName,
    /// Its number.
    pub number: WorkNumber,
    /// The life that gave out the number.
    pub life: Epoch,
    /// What it is.
    pub publication: Arc<Publication>,
}

impl Queues {
    /// No queues, and nothing that could outlive the process.
    #[must_use]
    pub fn new(limits: QueueLimits) -> Queues {
        Queues::with(limits, None)
    }

    /// The queues as `store` has them. All of it is loaded: what was sent had room in memory then.
    pub async fn open(
        limits: QueueLimits,
        store: Arc<dyn WorkQueues>,
        now: Timestamp,
    ) -> Result<Queues, StoreError> {
        let queues = Queues::with(limits, Some(Arc::clone(&store)));
        queues.load(store.as_ref()).await?;
        queues.load_keys(store.as_ref(), now).await?;
        Ok(queues)
    }

    fn with(limits: QueueLimits, store: Option<Arc<dyn WorkQueues>>) -> Queues {
        let metrics = Arc::new(QueueMetrics::default());
        let table = Table {
            last_consumer: 0,
            last_number: 0,
            keys: KeyWindow::new(limits.keys_age_max, limits.keys_count_max),
            queues: HashMap::new(),
            consumers: HashMap::new(),
            weight: 0,
            notes: Notes::default(),
            notes_leaving: 0,
            metrics: Arc::clone(&metrics),
        };
        let (requests, waiting) = mpsc::channel(limits.commit_queue_max.max(1));
        let inner = Inner {
            limits,
            life: Epoch(rand::random()),
            started: Instant::now(),
            store,
            table: Mutex::new(table),
            metrics,
            requests,
            waiting: Mutex::new(Some(waiting)),
            noted: Notify::new(),
        };
        Queues { inner: Arc::new(inner) }
    }

    async fn load(&self, store: &dyn WorkQueues) -> Result<(), StoreError> {
        let mut after = WorkNumber(0);
        loop {
            let page = store.load_work(after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = last.number;
            self.inner.metrics.loaded.add(page.len() as u64);
            let mut table = self.inner.table.lock();
            for kept in page {
                table.restore(kept, &self.inner.limits);
            }
        }
        let table = self.inner.table.lock();
        let (messages, queues) = (self.inner.metrics.loaded.get(), table.queues.len());
        if messages > 0 {
            info!(target: "naru::hub", messages, queues, "work queues loaded");
        }
        Ok(())
    }

    /// Keys of an earlier life still count.
    async fn load_keys(&self, store: &dyn WorkQueues, wall: Timestamp) -> Result<(), StoreError> {
        let mut after = WorkNumber(0);
        loop {
            let page = store.load_work_keys(after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.number;
            let now = self.inner.now();
            let mut table = self.inner.table.lock();
            table.last_number = table.last_number.max(after.0);
            for each in &page {
                if wall.since(each.at) < self.inner.limits.keys_age_max {
                    // Our time began after that, so the key lives as long as one of now.
                    table.remember(&each.queue, &each.key, each.number, now);
                }
            }
        }
    }

    /// Keeps what has to be kept, until told to stop, and then what is left. To be run once; without it
    /// nothing is kept.
    pub async fn run(&self, stop: CancellationToken) {
        let waiting = self.inner.waiting.lock().take();
        match (waiting, &self.inner.store) {
            (Some(waiting), Some(store)) => {
                let store = Arc::clone(store);
                Keeper::new(Arc::clone(&self.inner), store, waiting).run(stop).await;
            }
            _ => stop.cancelled().await,
        }
    }

    /// The figures of the queues.
    #[must_use]
    pub fn metrics(&self) -> Arc<dyn MetricSource> {
        Arc::clone(&self.inner.metrics) as Arc<dyn MetricSource>
    }

    /// Adds a message to the queue of this name, which is made if needed. One whose key is known is in it
    /// already, or was. `Ok` means that it is kept as asked. Of calls that are polled one after the other,
    /// the messages have that order. Cancelled, it may have taken effect.
    pub async fn send(
        &self,
        name: &ChannelName,
        publication: Publication,
        durability: Durability,
    ) -> Result<(), SendError> {
        let metrics = &self.inner.metrics;
        let sent = match durability {
            Durability::Memory => self.send_here(name, publication),
            _ => self.send_stored(name, publication, durability).await,
        };
        match &sent {
            Ok(()) => {}
            Err(SendError::Full(_)) => metrics.full.increment(),
            Err(SendError::NotKept(_)) => metrics.not_kept.increment(),
        }
        sent
    }

    fn send_here(&self, name: &ChannelName, publication: Publication) -> Result<(), SendError> {
        let inner = &self.inner;
        let now = inner.now();
        let wake = {
            let mut table = inner.table.lock();
            let key = publication.key.clone();
            if let Some(key) = &key
                && table.keys.get(name, key, now).is_some()
            {
                inner.metrics.duplicates.increment();
                return Ok(());
            }
            table.reserve(name, publication.size_bytes(), &inner.limits)?;
            let number = table.next_number();
            let entry = Entry {
                life: inner.life,
                publication: Arc::new(publication),
                deliveries: 0,
                is_kept: false,
                is_loaded: false,
            };
            if let Some(key) = key {
                table.remember(name, &key, number, now);
            }
            table.fill(name, number, entry)
        };
        wake_up(wake);
        Ok(())
    }

    async fn send_stored(
        &self,
        name: &ChannelName,
        publication: Publication,
        durability: Durability,
    ) -> Result<(), SendError> {
        let (reply, answer) = oneshot::channel();
        let request = Request::Add { queue: name.clone(), publication, durability, reply };
        self.ask(request).await?;
        answer.await.map_err(|_| ended())?
    }

    /// Waits until the store knows of all messages that are done by now, as durably as asked.
    pub async fn settled(&self, durability: Durability) -> Result<(), NotKept> {
        let (reply, answer) = oneshot::channel();
        self.ask(Request::Settled { durability, reply }).await?;
        answer.await.map_err(|_| ended())?
    }

    async fn ask(&self, request: Request) -> Result<(), NotKept> {
        if self.inner.store.is_none() {
            let reason = "there is no store for work queues".to_owned();
            return Err(NotKept { reason });
        }
        self.inner.requests.send(request).await.map_err(|_| ended())
    }

    /// Takes a consumer in. It is woken when it has something to take.
    pub fn join(
        &self,
        name: &ChannelName,
        wake: Arc<dyn WakeConsumer>,
    ) -> Result<Consumer, QueueFull> {
        let mut table = self.inner.table.lock();
        table.make(name, self.inner.limits.queues_max)?.consumers += 1;
        table.last_consumer += 1;
        let id = ConsumerId(table.last_consumer);
        table.consumers.insert(id, wake);
        Ok(Consumer { inner: Arc::clone(&self.inner), name: name.clone(), id })
    }

    /// Takes away what is in work for too long, and says what is given up by now, in the order of each
    /// queue. To be called now and then.
    #[must_use]
    pub fn sweep(&self) -> Vec<DeadLetter> {
        let now = Instant::now();
        let (mut dead, mut wake) = (Vec::new(), Vec::new());
        let mut table = self.inner.table.lock();
        table.weed_out();
        let names: Vec<ChannelName> = table.queues.keys().cloned().collect();
        for name in &names {
            table.change(name, |queue| {
                queue.expire(now, &self.inner.limits);
                dead.extend(queue.dead.iter().map(|(number, entry)| DeadLetter {
                    queue: name.clone(),
                    number: *number,
                    life: entry.life,
                    publication: Arc::clone(&entry.publication),
                }));
            });
            wake.push(table.next_to_wake(name));
        }
        drop(table);
        wake.into_iter().for_each(wake_up);
        dead
    }

    /// What was given up is somewhere else by now.
    pub fn buried(&self, letter: &DeadLetter) {
        let number = letter.number;
        let is_first = {
            let mut table = self.inner.table.lock();
            let settled = table.change(&letter.queue, |queue| queue.buried(number));
            table.note(|notes| note_end(notes, number, settled))
        };
        self.inner.ring(is_first);
    }

    /// Messages in a queue.
    #[must_use]
    pub fn depth(&self, name: &ChannelName) -> usize {
        self.inner.table.lock().queues.get(name).map_or(0, Queue::len)
    }
}

impl Consumer {
    /// The name of its queue.
    #[must_use]
    pub fn queue(&self) -> &ChannelName {
        &self.name
    }

    /// The oldest message that nobody has. When there is none, or when there are more, the consumer is
    /// woken in its turn; whoever has no room says [`Consumer::step_back`] instead.
    #[must_use]
    pub fn take(&self) -> Option<Taken> {
        let take =
            |queue: &mut Queue, limits: &QueueLimits| queue.take(self.id, Instant::now(), limits);
        let taken = self.change_and_note(take, |taken, notes| {
            if let Some(taken) = taken.as_ref().filter(|taken| taken.is_kept) {
                notes.delivered(taken.number, taken.delivery);
            }
        })??;
        self.inner.metrics.redelivered.add(u64::from(taken.is_redelivered));
        Some(taken)
    }

    /// There is no room: others are asked.
    pub fn step_back(&self) {
        self.change(|queue, _| queue.step_back(self.id));
    }

    /// A message is done. False if it was not its any more. [`Queues::settled`] waits until that is kept.
    pub fn consumed(&self, number: WorkNumber) -> bool {
        let settled = self.change_and_note(
            |queue, _| queue.consumed(self.id, number),
            |settled, notes| note_end(notes, number, Some(*settled)),
        );
        let is_done = settled.is_some_and(|settled| settled != Settled::Nothing);
        self.inner.metrics.done.add(u64::from(is_done));
        is_done
    }

    /// A message is refused: it is delivered again, to another consumer if there is one. Whoever refuses has
    /// room for one, but asks for it only when woken: who takes at once gets the same message again.
    pub fn refused(&self, number: WorkNumber) -> bool {
        self.change(|queue, limits| {
            queue.step_back(self.id);
            queue.waiting.push_back(self.id);
            queue.refused(self.id, number, limits)
        })
        .unwrap_or(false)
    }

    fn change<R>(&self, change: impl FnOnce(&mut Queue, &QueueLimits) -> R) -> Option<R> {
        self.change_and_note(change, |_, _| {})
    }

    fn change_and_note<R>(
        &self,
        change: impl FnOnce(&mut Queue, &QueueLimits) -> R,
        note: impl FnOnce(&R, &mut Notes),
    ) -> Option<R> {
        let (result, wake, is_first) = {
            let mut table = self.inner.table.lock();
            let result = table.change(&self.name, |queue| change(queue, &self.inner.limits))?;
            let is_first = table.note(|notes| note(&result, notes));
            (result, table.next_to_wake(&self.name), is_first)
        };
        wake_up(wake);
        self.inner.ring(is_first);
        Some(result)
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.change(|queue, limits| {
            queue.gone(self.id, limits);
            queue.consumers = queue.consumers.saturating_sub(1);
        });
        self.inner.table.lock().consumers.remove(&self.id);
    }
}

impl Inner {
    /// The queues' own time, for the window of keys: wall time may jump.
    pub(super) fn now(&self) -> Moment {
        Moment::default().plus(self.started.elapsed())
    }

    /// The keeper is woken by the first note.
    fn ring(&self, is_first: bool) {
        if is_first {
            self.noted.notify_one();
        }
    }
}

impl Table {
    pub(super) fn next_number(&mut self) -> WorkNumber {
        self.last_number += 1;
        WorkNumber(self.last_number)
    }

    pub(super) fn last_number(&self) -> WorkNumber {
        WorkNumber(self.last_number)
    }

    /// Makes room in a queue, or says that there is none.
    pub(super) fn reserve(
        &mut self,
        name: &ChannelName,
        bytes: usize,
        limits: &QueueLimits,
    ) -> Result<(), QueueFull> {
        if self.weight + bytes + ENTRY_BYTES > limits.total_bytes_max {
            return Err(QueueFull);
        }
        self.make(name, limits.queues_max)?;
        self.change(name, |queue| queue.reserve(bytes, limits)).unwrap_or(Err(QueueFull))
    }

    /// What room was made for does not come.
    pub(super) fn release(&mut self, name: &ChannelName, bytes: usize) {
        self.change(name, |queue| queue.release(bytes));
    }

    /// What room was made for is there. Says who is to be woken.
    pub(super) fn fill(
        &mut self,
        name: &ChannelName,
        number: WorkNumber,
        entry: Entry,
    ) -> Option<Arc<dyn WakeConsumer>> {
        self.metrics.sent.increment();
        self.change(name, |queue| queue.fill(number, entry));
        self.next_to_wake(name)
    }

    fn restore(&mut self, kept: KeptWork, limits: &QueueLimits) {
        let KeptWork { number, life, queue, publication, deliveries } = kept;
        self.last_number = self.last_number.max(number.0);
        let entry = Entry { life, publication, deliveries, is_kept: true, is_loaded: true };
        self.queues.entry(queue.clone()).or_default();
        self.change(&queue, |queue| queue.restore(number, entry, limits));
    }

    /// A message was sent with this key.
    pub(super) fn remember(
        &mut self,
        name: &ChannelName,
        key: &Arc<str>,
        number: WorkNumber,
        now: Moment,
    ) {
        let position = Position { epoch: Epoch(0), offset: Offset(number.0) };
        self.keys.put(name, key, position, now, now);
    }

    /// The queue of that name, which is made if there is room for another.
    fn make(&mut self, name: &ChannelName, queues_max: usize) -> Result<&mut Queue, QueueFull> {
        if !self.queues.contains_key(name) {
            if self.queues.len() >= queues_max {
                self.weed_out();
            }
            if self.queues.len() >= queues_max {
                return Err(QueueFull);
            }
            self.queues.insert(name.clone(), Queue::default());
        }
        self.queues.get_mut(name).ok_or(QueueFull)
    }

    fn weed_out(&mut self) {
        self.queues.retain(|_, queue| !queue.is_empty() || queue.consumers > 0);
    }

    /// Changes a queue, if it is there, and keeps account.
    fn change<R>(&mut self, name: &ChannelName, change: impl FnOnce(&mut Queue) -> R) -> Option<R> {
        let queue = self.queues.get_mut(name)?;
        let (weight, len, dead) = (queue.weight(), queue.len(), queue.dead.len());
        let result = change(queue);
        self.weight = self.weight - weight + queue.weight();
        self.metrics.weight.set(signed(self.weight));
        self.metrics.messages.add(signed(queue.len()) - signed(len));
        let died = signed(queue.dead.len()) - signed(dead);
        self.metrics.dead_waiting.add(died);
        self.metrics.dead.add(u64::try_from(died).unwrap_or(0));
        Some(result)
    }

    fn next_to_wake(&mut self, name: &ChannelName) -> Option<Arc<dyn WakeConsumer>> {
        let id = self.queues.get_mut(name)?.next_to_wake()?;
        self.consumers.get(&id).map(Arc::clone)
    }

    /// Notes something for the store. Whether it is the first that waits.
    fn note(&mut self, note: impl FnOnce(&mut Notes)) -> bool {
        let was_empty = self.notes.is_empty();
        note(&mut self.notes);
        self.count_notes();
        was_empty && !self.notes.is_empty()
    }

    pub(super) fn count_notes(&self) {
        self.metrics.notes.set(signed(self.notes.len() + self.notes_leaving));
    }
}

/// Remembers that a message left memory, if the store has to hear of it.
fn note_end(notes: &mut Notes, number: WorkNumber, settled: Option<Settled>) {
    if settled == Some(Settled::GoneFromMemory) {
        notes.done(number);
    }
}

pub(super) fn wake_up(consumer: Option<Arc<dyn WakeConsumer>>) {
    if let Some(consumer) = consumer {
        consumer.wake();
    }
}

pub(super) fn ended() -> NotKept {
    NotKept { reason: "the server is ending".to_owned() }
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
