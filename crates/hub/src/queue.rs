//! Work queues: each message goes to one consumer, and to another one if that does not finish it. A
//! [`Queue`] is plain data changed by plain functions; [`Queues`] puts a lock and wake-ups around them.
//! It knows no wire protocol; who may send and listen is decided elsewhere.
//!
//! Consumers take: one that has room says so by [`Consumer::take`], gets the oldest message, and is woken
//! in turn when there are more. So the slow get less, and nobody holds what another could do.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use naru_domain::{ChannelName, Epoch, Offset, Position, Publication};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::local::keys::KeyWindow;
use crate::session::Moment;

/// The bounds of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLimits {
    /// Messages that may wait or be in work.
    pub count_max: usize,
    /// The same in bytes.
    pub bytes_max: usize,
    /// How often a message is delivered before it is given up.
    pub deliveries_max: u32,
    /// How long a consumer may take for one.
    pub work_time_max: Duration,
    /// Queues at a time.
    pub queues_max: usize,
    /// How long an idempotency key is known.
    pub keys_age_max: Duration,
    /// How many keys are known.
    pub keys_count_max: usize,
}

impl Default for QueueLimits {
    fn default() -> QueueLimits {
        QueueLimits {
            count_max: 10_000,
            bytes_max: 64 * 1024 * 1024,
            deliveries_max: 5,
            work_time_max: Duration::from_secs(1_800),
            queues_max: 10_000,
            keys_age_max: Duration::from_secs(600),
            keys_count_max: 100_000,
        }
    }
}

/// A queue that can take no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the queue is full")]
pub struct QueueFull;

/// A consumer of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConsumerId(u64);

/// The number of a message, unique among all queues of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Number(pub u64);

/// A message in the hands of a consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// By what it is settled.
    pub number: Number,
    /// What it is.
    pub publication: Arc<Publication>,
    /// Which delivery this is; the first is 1.
    pub delivery: u32,
}

#[derive(Debug)]
struct Entry {
    publication: Arc<Publication>,
    deliveries: u32,
}

#[derive(Debug)]
struct InWork {
    entry: Entry,
    consumer: ConsumerId,
    until: Instant,
}

/// One queue.
#[derive(Debug, Default)]
pub struct Queue {
    /// The oldest first; what comes back has its old place.
    ready: BTreeMap<Number, Entry>,
    in_work: BTreeMap<Number, InWork>,
    /// Those who have room and were not woken since.
    waiting: VecDeque<ConsumerId>,
    consumers: usize,
    bytes: usize,
    /// Given up, for whoever keeps them.
    dead: Vec<Arc<Publication>>,
}

impl Queue {
    /// Messages that wait or are in work.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ready.len() + self.in_work.len()
    }

    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a message, or says that there is no room. Numbers rise.
    pub fn add(
        &mut self,
        number: Number,
        publication: Arc<Publication>,
        limits: &QueueLimits,
    ) -> Result<(), QueueFull> {
        let bytes = publication.size_bytes();
        if self.len() >= limits.count_max || self.bytes + bytes > limits.bytes_max {
            return Err(QueueFull);
        }
        self.bytes += bytes;
        self.ready.insert(number, Entry { publication, deliveries: 0 });
        Ok(())
    }

    /// The oldest message that nobody has. Whoever asks has room for more, and stands in line for it.
    pub fn take(
        &mut self,
        consumer: ConsumerId,
        now: Instant,
        limits: &QueueLimits,
    ) -> Option<Taken> {
        if !self.waiting.contains(&consumer) {
            self.waiting.push_back(consumer);
        }
        let (number, mut entry) = self.ready.pop_first()?;
        entry.deliveries += 1;
        let taken = Taken {
            number,
            publication: Arc::clone(&entry.publication),
            delivery: entry.deliveries,
        };
        let until = now + limits.work_time_max;
        self.in_work.insert(number, InWork { entry, consumer, until });
        Some(taken)
    }

    /// Who is to be woken now.
    pub fn next_to_wake(&mut self) -> Option<ConsumerId> {
        if self.ready.is_empty() { None } else { self.waiting.pop_front() }
    }

    /// The consumer has no room: it is not woken before it asks again.
    pub fn step_back(&mut self, consumer: ConsumerId) {
        self.waiting.retain(|each| *each != consumer);
    }

    /// The message is done. False if it was not the consumer's any more.
    pub fn consumed(&mut self, consumer: ConsumerId, number: Number) -> bool {
        match self.take_back(consumer, number) {
            Some(entry) => {
                self.bytes -= entry.publication.size_bytes();
                true
            }
            None => false,
        }
    }

    /// The consumer does not want it. False if it was not its any more.
    pub fn refused(&mut self, consumer: ConsumerId, number: Number, limits: &QueueLimits) -> bool {
        let entry = self.take_back(consumer, number);
        let is_its = entry.is_some();
        if let Some(entry) = entry {
            self.put_back(number, entry, limits);
        }
        is_its
    }

    /// The consumer has gone: what it had goes back to its places.
    pub fn gone(&mut self, consumer: ConsumerId, limits: &QueueLimits) {
        self.step_back(consumer);
        self.give_back(limits, |work| work.consumer == consumer);
    }

    /// Takes away what is in work for too long.
    pub fn expire(&mut self, now: Instant, limits: &QueueLimits) {
        self.give_back(limits, |work| work.until <= now);
    }

    /// What was given up since the last call.
    pub fn take_dead(&mut self) -> Vec<Arc<Publication>> {
        std::mem::take(&mut self.dead)
    }

    fn give_back(&mut self, limits: &QueueLimits, is_it: impl Fn(&InWork) -> bool) {
        let theirs = self.in_work.iter().filter(|(_, work)| is_it(work));
        let numbers: Vec<Number> = theirs.map(|(number, _)| *number).collect();
        for number in numbers {
            if let Some(work) = self.in_work.remove(&number) {
                self.put_back(number, work.entry, limits);
            }
        }
    }

    fn take_back(&mut self, consumer: ConsumerId, number: Number) -> Option<Entry> {
        let is_its = self.in_work.get(&number).is_some_and(|work| work.consumer == consumer);
        is_its.then(|| self.in_work.remove(&number)).flatten().map(|work| work.entry)
    }

    fn put_back(&mut self, number: Number, entry: Entry, limits: &QueueLimits) {
        if entry.deliveries < limits.deliveries_max {
            self.ready.insert(number, entry);
            return;
        }
        self.bytes -= entry.publication.size_bytes();
        self.dead.push(entry.publication);
    }
}

/// Tells a consumer that there is something to take. Must not wait, nor call the queues.
pub trait WakeConsumer: Send + Sync + 'static {
    /// There may be something.
    fn wake(&self);
}

/// The queues of a node. They live in memory, and end with it.
#[derive(Clone)]
pub struct Queues {
    inner: Arc<Inner>,
}

struct Inner {
    limits: QueueLimits,
    started: Instant,
    table: Mutex<Table>,
}

struct Table {
    last_consumer: u64,
    last_number: u64,
    keys: KeyWindow,
    queues: HashMap<ChannelName, Queue>,
    consumers: HashMap<ConsumerId, Arc<dyn WakeConsumer>>,
}

/// A consumer for as long as it lives. Dropped, it gives back what it has.
pub struct Consumer {
    inner: Arc<Inner>,
    name: ChannelName,
    id: ConsumerId,
}

/// Messages that were given up, with the names of their queues.
pub type Dead = Vec<(ChannelName, Arc<Publication>)>;

impl Queues {
    /// No queues.
    #[must_use]
    pub fn new(limits: QueueLimits) -> Queues {
        let table = Table {
            last_consumer: 0,
            last_number: 0,
            keys: KeyWindow::new(limits.keys_age_max, limits.keys_count_max),
            queues: HashMap::new(),
            consumers: HashMap::new(),
        };
        let inner = Inner { limits, started: Instant::now(), table: Mutex::new(table) };
        Queues { inner: Arc::new(inner) }
    }

    /// Adds a message to the queue of this name, which is made if needed. One whose key is known is in it
    /// already, or was.
    pub fn send(&self, name: &ChannelName, publication: Publication) -> Result<(), QueueFull> {
        let limits = &self.inner.limits;
        let now = Moment::default().plus(self.inner.started.elapsed());
        let wake = {
            let mut table = self.inner.table.lock();
            let key = publication.key.clone();
            if let Some(key) = &key
                && table.keys.get(name, key, now).is_some()
            {
                return Ok(());
            }
            table.last_number += 1;
            let number = Number(table.last_number);
            let queue = table.queue(name, limits.queues_max).ok_or(QueueFull)?;
            queue.add(number, Arc::new(publication), limits)?;
            if let Some(key) = key {
                let position = Position { epoch: Epoch(0), offset: Offset(number.0) };
                table.keys.put(name, &key, position, now, now);
            }
            table.next_to_wake(name)
        };
        wake_up(wake);
        Ok(())
    }

    /// Takes a consumer in. It is woken when it has something to take.
    pub fn join(
        &self,
        name: &ChannelName,
        wake: Arc<dyn WakeConsumer>,
    ) -> Result<Consumer, QueueFull> {
        let mut table = self.inner.table.lock();
        let queue = table.queue(name, self.inner.limits.queues_max).ok_or(QueueFull)?;
        queue.consumers += 1;
        table.last_consumer += 1;
        let id = ConsumerId(table.last_consumer);
        table.consumers.insert(id, wake);
        Ok(Consumer { inner: Arc::clone(&self.inner), name: name.clone(), id })
    }

    /// Takes away what is in work for too long, and says what was given up. To be called now and then.
    #[must_use]
    pub fn sweep(&self) -> Dead {
        let now = Instant::now();
        let (mut dead, mut wake) = (Dead::new(), Vec::new());
        let mut table = self.inner.table.lock();
        let table = &mut *table;
        for (name, queue) in &mut table.queues {
            queue.expire(now, &self.inner.limits);
            dead.extend(queue.take_dead().into_iter().map(|each| (name.clone(), each)));
            let next = queue.next_to_wake();
            wake.extend(next.and_then(|id| table.consumers.get(&id)).map(Arc::clone));
        }
        table.queues.retain(|_, queue| !queue.is_empty() || queue.consumers > 0);
        for each in wake {
            each.wake();
        }
        dead
    }

    /// Messages that wait or are in work in a queue.
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
        let (taken, wake) = {
            let mut table = self.inner.table.lock();
            let queue = table.queues.get_mut(&self.name)?;
            let taken = queue.take(self.id, Instant::now(), &self.inner.limits);
            (taken, table.next_to_wake(&self.name))
        };
        wake_up(wake);
        taken
    }

    /// There is no room: others are asked.
    pub fn step_back(&self) {
        self.change(|queue, _| queue.step_back(self.id));
    }

    /// A message is done.
    pub fn consumed(&self, number: Number) -> bool {
        self.change(|queue, _| queue.consumed(self.id, number)).unwrap_or(false)
    }

    /// A message is refused: it is delivered again, to another consumer if there is one. Whoever refuses has
    /// room for one, but asks for it only when woken: who takes at once gets the same message again.
    pub fn refused(&self, number: Number) -> bool {
        self.change(|queue, limits| {
            queue.step_back(self.id);
            queue.waiting.push_back(self.id);
            queue.refused(self.id, number, limits)
        })
        .unwrap_or(false)
    }

    fn change<R>(&self, change: impl FnOnce(&mut Queue, &QueueLimits) -> R) -> Option<R> {
        let (result, wake) = {
            let mut table = self.inner.table.lock();
            let queue = table.queues.get_mut(&self.name)?;
            let result = change(queue, &self.inner.limits);
            (result, table.next_to_wake(&self.name))
        };
        wake_up(wake);
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

impl Table {
    /// The queue of that name, which is made if there is room for another.
    fn queue(&mut self, name: &ChannelName, queues_max: usize) -> Option<&mut Queue> {
        if !self.queues.contains_key(name) {
            if self.queues.len() >= queues_max {
                self.queues.retain(|_, queue| !queue.is_empty() || queue.consumers > 0);
            }
            if self.queues.len() >= queues_max {
                return None;
            }
            self.queues.insert(name.clone(), Queue::default());
        }
        self.queues.get_mut(name)
    }

    fn next_to_wake(&mut self, name: &ChannelName) -> Option<Arc<dyn WakeConsumer>> {
        let id = self.queues.get_mut(name)?.next_to_wake()?;
        self.consumers.get(&id).map(Arc::clone)
    }
}

fn wake_up(consumer: Option<Arc<dyn WakeConsumer>>) {
    if let Some(consumer) = consumer {
        consumer.wake();
    }
}
