//! The in-process bus: channels with offsets, epochs, history and idempotency keys in this process, and,
//! for namespaces that ask for it, in a store through group commits. It knows no sessions.

mod committer;
pub(crate) mod keys;
mod metrics;
mod stream;
mod table;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use naru_domain::metrics::MetricSource;
use naru_domain::ports::{
    Bus, BusError, BusEvent, History, HistoryPage, HistoryQuery, NamespaceOptions, Post,
};
use naru_domain::{
    ChannelName, Clock, Durability, Epoch, Membership, Offset, Position, Publication,
    PublicationMeta, Version,
};
use parking_lot::Mutex;
use tokio::sync::{OnceCell, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use committer::{Committer, Request};
use keys::KeyWindow;
pub use metrics::LocalBusMetrics;
use stream::Stream;
use table::{Table, Told, TooManyChannels};

use crate::registry::SHARDS;
use crate::session::Moment;

/// The settings of the in-process bus.
#[derive(Clone, Debug)]
pub struct LocalBusOptions {
    /// By namespace. What stands under `""` holds for channels without a namespace and for namespaces
    /// that are not listed; without it those keep no history.
    pub namespaces: HashMap<String, NamespaceOptions>,
    /// The largest publication, in bytes.
    pub data_bytes_max: usize,
    /// Events that wait for the hub; what does not fit becomes a gap.
    pub events_max: usize,
    /// Channels held in memory (guessed).
    pub channels_max: usize,
    /// Bytes of history of one channel in memory (guessed).
    pub history_bytes_max: usize,
    /// How long an idempotency key is known.
    pub keys_age_max: Duration,
    /// How many keys are known.
    pub keys_count_max: usize,
    /// Publications that wait for a group commit; publishers wait for room.
    pub commit_queue_max: usize,
    /// Publications in one group commit.
    pub commit_count_max: usize,
    /// How long the store may take for one call.
    pub store_timeout: Duration,
    /// Where epochs come from; `None` takes the process's own randomness.
    pub seed: Option<u64>,
}

impl Default for LocalBusOptions {
    fn default() -> LocalBusOptions {
        LocalBusOptions {
            namespaces: HashMap::new(),
            data_bytes_max: 1024 * 1024,
            events_max: 10_000,
            channels_max: 100_000,
            history_bytes_max: 16 * 1024 * 1024,
            keys_age_max: Duration::from_secs(600),
            keys_count_max: 100_000,
            commit_queue_max: 4_096,
            commit_count_max: 512,
            store_timeout: Duration::from_secs(10),
            seed: None,
        }
    }
}

impl LocalBusOptions {
    /// What the channel's namespace asks for.
    fn namespace(&self, channel: &ChannelName) -> &NamespaceOptions {
        const NOTHING: &NamespaceOptions = &NamespaceOptions {
            history_size: 0,
            history_ttl: Duration::ZERO,
            durability: Durability::Memory,
        };
        let namespaces = &self.namespaces;
        namespaces.get(channel.namespace()).or_else(|| namespaces.get("")).unwrap_or(NOTHING)
    }
}

/// The bus of a node that is alone.
#[derive(Clone)]
pub struct LocalBus {
    inner: Arc<Inner>,
}

/// What the handles and the committer share.
pub(crate) struct Inner {
    options: Arc<LocalBusOptions>,
    history: Option<Arc<dyn History>>,
    clock: Arc<dyn Clock>,
    started: Instant,
    table: Table,
    /// Locked after a shard, never before one.
    keys: Mutex<KeyWindow>,
    /// Held while a channel of the shard is loaded from the store or dropped after a failure, so that an
    /// old answer of the store cannot take the place of a newer one.
    loading: [tokio::sync::Mutex<()>; SHARDS],
    /// The epoch of channels that keep no history: they have no positions to mistake.
    bare_epoch: Epoch,
    first_epoch: OnceCell<Epoch>,
    metrics: Arc<LocalBusMetrics>,
    /// The committer and the teller of gaps, made when first needed. They hold this only weakly or for
    /// the time of one call, so the bus ends with its last handle.
    tasks: Mutex<Tasks>,
}

#[derive(Default)]
struct Tasks {
    set: JoinSet<()>,
    requests: Option<mpsc::Sender<Request>>,
}

/// How a channel's namespace keeps things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keeping {
    /// No history: a publication passes by.
    Nothing,
    /// History in memory.
    Memory,
    /// History in memory and in the store.
    Store(Durability),
}

impl LocalBus {
    /// A bus without channels, and what it tells its node. `history` is needed for namespaces whose
    /// durability is not [`Durability::Memory`]; without it such channels cannot be published to.
    #[must_use]
    pub fn new(
        options: LocalBusOptions,
        history: Option<Arc<dyn History>>,
        clock: Arc<dyn Clock>,
    ) -> (LocalBus, mpsc::Receiver<BusEvent>) {
        let (sender, events) = mpsc::channel(options.events_max.max(1));
        let metrics = Arc::new(LocalBusMetrics::default());
        let seed = options.seed.unwrap_or_else(|| RandomState::new().hash_one(clock.now()));
        let options = Arc::new(options);
        let table = Table::new(seed, Arc::clone(&options), sender, Arc::clone(&metrics));
        let inner = Inner {
            keys: Mutex::new(KeyWindow::new(options.keys_age_max, options.keys_count_max)),
            loading: std::array::from_fn(|_| tokio::sync::Mutex::default()),
            bare_epoch: table.new_epoch(),
            first_epoch: OnceCell::new(),
            options,
            history,
            clock,
            started: Instant::now(),
            table,
            metrics,
            tasks: Mutex::default(),
        };
        (LocalBus { inner: Arc::new(inner) }, events)
    }

    /// The bus's figures.
    #[must_use]
    pub fn metrics(&self) -> Arc<dyn MetricSource> {
        Arc::clone(&self.inner.metrics) as Arc<dyn MetricSource>
    }

    /// Acts on what a send left to do.
    fn follow_up(&self, told: Told) {
        if told == Told::StartTeller {
            self.inner.start_teller();
        }
    }

    /// Publishes where nothing has to be waited for.
    fn publish_here(
        &self,
        channel: &ChannelName,
        post: Post,
        keeping: Keeping,
    ) -> Result<Position, BusError> {
        let inner = &self.inner;
        let Post { data, meta, key, skip_history } = post;
        let (at, now) = (inner.clock.now(), inner.now());
        let mut shard = inner.table.lock(channel);
        if let Some(key) = &key
            && let Some(first) = inner.keys.lock().get(channel, key, now)
        {
            inner.metrics.duplicates.increment();
            return Ok(first);
        }
        let (publication, told) = if keeping == Keeping::Nothing || skip_history {
            let position = Position { epoch: inner.bare_epoch, offset: Offset(0) };
            let publication = Arc::new(Publication { position, data, meta, at, key: key.clone() });
            let told = shard
                .get_mut(channel)
                .map_or(Told::Enough, |slot| inner.table.send(slot, channel, &publication));
            (publication, told)
        } else {
            let slot = inner.table.slot(&mut shard, channel, at).map_err(too_many)?;
            let stream =
                slot.stream.get_or_insert_with(|| Stream::new(inner.table.new_epoch(), Offset(0)));
            if is_outdated(meta.as_deref(), stream.version()) {
                inner.metrics.outdated.increment();
                return Ok(stream.top());
            }
            let position = stream.next();
            let publication = Arc::new(Publication { position, data, meta, at, key: key.clone() });
            inner.table.append(stream, &publication);
            inner.table.trim(channel, stream, at);
            (Arc::clone(&publication), inner.table.send(slot, channel, &publication))
        };
        if let Some(key) = &key {
            inner.remember(channel, key, publication.position, now);
        }
        drop(shard);
        inner.metrics.published.increment();
        self.follow_up(told);
        Ok(publication.position)
    }

    /// Publishes through the group commit.
    async fn publish_stored(
        &self,
        channel: &ChannelName,
        post: Post,
        durability: Durability,
    ) -> Result<Position, BusError> {
        let (reply, answer) = oneshot::channel();
        let request = Request { channel: channel.clone(), post, durability, reply };
        let requests = self.inner.requests()?;
        let ended = || unavailable("the group commit has ended");
        requests.send(request).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }
}

#[async_trait]
impl Bus for LocalBus {
    async fn publish(&self, channel: &ChannelName, post: Post) -> Result<Position, BusError> {
        let max = self.inner.options.data_bytes_max;
        let bytes = post.size_bytes();
        if bytes > max {
            self.inner.metrics.refused.increment();
            return Err(BusError::TooLarge { bytes, max });
        }
        let published = match self.inner.keeping(channel) {
            Keeping::Store(durability) if !post.skip_history => {
                self.publish_stored(channel, post, durability).await
            }
            keeping => self.publish_here(channel, post, keeping),
        };
        if published.is_err() {
            self.inner.metrics.failed.increment();
        }
        published
    }

    async fn subscribe(&self, channel: &ChannelName) -> Result<(), BusError> {
        let now = self.inner.clock.now();
        let mut shard = self.inner.table.lock(channel);
        self.inner.table.slot(&mut shard, channel, now).map_err(too_many)?.is_wanted = true;
        Ok(())
    }

    async fn unsubscribe(&self, channel: &ChannelName) -> Result<(), BusError> {
        let mut shard = self.inner.table.lock(channel);
        if let Some(slot) = shard.get_mut(channel) {
            slot.is_wanted = false;
            if slot.stream.is_none() {
                shard.remove(channel);
                self.inner.metrics.channels.add(-1);
            }
        }
        Ok(())
    }

    async fn history(
        &self,
        channel: &ChannelName,
        query: HistoryQuery,
    ) -> Result<HistoryPage, BusError> {
        let inner = &self.inner;
        match inner.keeping(channel) {
            Keeping::Nothing => {
                let top = Position { epoch: inner.bare_epoch, offset: Offset(0) };
                let complete = query.since.is_none();
                return Ok(HistoryPage { publications: Vec::new(), top, complete });
            }
            Keeping::Memory => {}
            Keeping::Store(_) => inner.ensure_loaded(channel).await?,
        }
        let now = inner.clock.now();
        let mut shard = inner.table.lock(channel);
        let slot = inner.table.slot(&mut shard, channel, now).map_err(too_many)?;
        let stream =
            slot.stream.get_or_insert_with(|| Stream::new(inner.table.new_epoch(), Offset(0)));
        inner.table.trim(channel, stream, now);
        Ok(stream.page(query))
    }

    fn announce(&self, channel: &ChannelName, membership: Arc<Membership>) {
        let shard = self.inner.table.lock(channel);
        if shard.get(channel).is_some_and(|slot| slot.is_wanted) {
            self.inner.table.announce(channel, membership);
        }
    }

    async fn remove_history(&self, channel: &ChannelName) -> Result<(), BusError> {
        let inner = &self.inner;
        let keeping = inner.keeping(channel);
        if let Keeping::Store(_) = keeping {
            inner.ensure_loaded(channel).await?;
        }
        let top = {
            let mut shard = inner.table.lock(channel);
            let Some(stream) = shard.get_mut(channel).and_then(|slot| slot.stream.as_mut()) else {
                return Ok(());
            };
            inner.table.clear(stream);
            stream.top().offset
        };
        if let Keeping::Store(_) = keeping {
            let trim = inner.store()?.trim(channel, top);
            match timeout(inner.options.store_timeout, trim).await {
                Ok(trimmed) => trimmed.map_err(|error| store_failed(&error))?,
                Err(_elapsed) => return Err(unavailable("the store did not answer in time")),
            }
        }
        Ok(())
    }

    fn namespace(&self, channel: &ChannelName) -> NamespaceOptions {
        self.inner.options.namespace(channel).clone()
    }

    fn data_bytes_max(&self) -> usize {
        self.inner.options.data_bytes_max
    }
}

impl Inner {
    /// The bus's own time, for the window of keys: wall time may jump.
    fn now(&self) -> Moment {
        Moment::default().plus(self.started.elapsed())
    }

    fn keeping(&self, channel: &ChannelName) -> Keeping {
        let namespace = self.options.namespace(channel);
        match namespace.durability {
            _ if namespace.history_size == 0 => Keeping::Nothing,
            Durability::Memory => Keeping::Memory,
            durability => Keeping::Store(durability),
        }
    }

    /// Locks the window of keys: with the channel's shard locked, or nothing.
    fn remember(&self, channel: &ChannelName, key: &Arc<str>, position: Position, now: Moment) {
        let mut keys = self.keys.lock();
        keys.put(channel, key, position, now, now);
        self.metrics.keys.set(table::signed(keys.len()));
    }

    fn store(&self) -> Result<&Arc<dyn History>, BusError> {
        self.history.as_ref().ok_or_else(|| unavailable("there is no store for channel history"))
    }

    /// The way to the group commit, which is started if it is not there.
    fn requests(self: &Arc<Self>) -> Result<mpsc::Sender<Request>, BusError> {
        self.store()?;
        let mut tasks = self.tasks.lock();
        if let Some(requests) = &tasks.requests
            && !requests.is_closed()
        {
            return Ok(requests.clone());
        }
        let (sender, receiver) = mpsc::channel(self.options.commit_queue_max.max(1));
        tasks.set.spawn(Committer::new(Arc::downgrade(self), receiver).run());
        tasks.requests = Some(sender.clone());
        Ok(sender)
    }

    fn start_teller(self: &Arc<Self>) {
        let inner = Arc::downgrade(self);
        let mut tasks = self.tasks.lock();
        while tasks.set.try_join_next().is_some() {}
        tasks.set.spawn(async move {
            if let Some(inner) = inner.upgrade() {
                inner.table.tell_gaps().await;
            }
        });
    }

    /// Reads a channel from the store, unless it is in memory.
    async fn ensure_loaded(&self, channel: &ChannelName) -> Result<(), BusError> {
        if self.is_loaded(channel) {
            return Ok(());
        }
        let store = self.store()?;
        let _loading = self.loading[self.table.shard_index(channel)].lock().await;
        if self.is_loaded(channel) {
            return Ok(());
        }
        let keep = self.options.namespace(channel).history_size;
        let load = load(store.as_ref(), channel, keep, self.options.store_timeout);
        let loaded = match load.await? {
            Some(loaded) => loaded,
            None => Stream::new(self.first_epoch(store.as_ref()).await?, Offset(0)),
        };
        let mut shard = self.table.lock(channel);
        let now = self.clock.now();
        let slot = self.table.slot(&mut shard, channel, now).map_err(too_many)?;
        self.warm_keys(channel, &loaded);
        self.table.count_history(slot.stream.as_ref(), Some(&loaded));
        slot.is_stored = true;
        slot.stream = Some(loaded);
        Ok(())
    }

    /// The epoch of channels that the store has nothing of.
    async fn first_epoch(&self, store: &dyn History) -> Result<Epoch, BusError> {
        let ask = async {
            let asked = store.first_epoch(self.table.new_epoch());
            match timeout(self.options.store_timeout, asked).await {
                Ok(epoch) => epoch.map_err(|error| store_failed(&error)),
                Err(_elapsed) => Err(unavailable("the store did not answer in time")),
            }
        };
        self.first_epoch.get_or_try_init(|| ask).await.copied()
    }

    fn is_loaded(&self, channel: &ChannelName) -> bool {
        self.table.lock(channel).get(channel).is_some_and(|slot| slot.stream.is_some())
    }

    /// Keys of an earlier life still count. To be called with the channel's shard locked.
    fn warm_keys(&self, channel: &ChannelName, stream: &Stream) {
        let (now, wall) = (self.now(), self.clock.now());
        let all = HistoryQuery { since: None, limit: usize::MAX };
        let mut keys = self.keys.lock();
        for publication in stream.page(all).publications {
            let age = wall.since(publication.at);
            if let Some(key) = &publication.key
                && age < self.options.keys_age_max
            {
                // The hub's time began after that, so the key lives as long as one of now.
                keys.put(channel, key, publication.position, now, now);
            }
        }
        self.metrics.keys.set(table::signed(keys.len()));
    }

    /// Forgets what memory says about channels whose last append is in doubt: the store knows better, and
    /// the hub has to look whether it kept something.
    async fn unload(self: &Arc<Self>, channels: impl Iterator<Item = &ChannelName>) {
        for channel in channels {
            let _loading = self.loading[self.table.shard_index(channel)].lock().await;
            let told = self.table.lock(channel).get_mut(channel).map(|slot| {
                self.table.count_history(slot.stream.as_ref(), None);
                slot.stream = None;
                self.table.missed(slot, channel)
            });
            if told == Some(Told::StartTeller) {
                self.start_teller();
            }
        }
    }
}

/// What the store keeps of a channel, at most the newest `keep`.
async fn load(
    store: &dyn History,
    channel: &ChannelName,
    keep: usize,
    limit: Duration,
) -> Result<Option<Stream>, BusError> {
    const PAGE: usize = 1_000;
    let read = async {
        let Some((epoch, top, _)) = store.load(channel, Offset(0), 0).await? else {
            return Ok(None);
        };
        let mut after = Offset(top.0.saturating_sub(keep as u64));
        let mut publications: Vec<Arc<Publication>> = Vec::new();
        while after < top {
            let Some((_, _, page)) = store.load(channel, after, PAGE).await? else { break };
            let Some(last) = page.last() else { break };
            after = last.position.offset;
            publications.extend(page);
        }
        Ok(Some(Stream::restored(epoch, top, publications)))
    };
    match timeout(limit, read).await {
        Ok(Ok(loaded)) => Ok(loaded),
        Ok(Err(error)) => Err(store_failed(&error)),
        Err(_elapsed) => Err(unavailable("the store did not answer in time")),
    }
}

/// Whether the publisher has said something newer before.
fn is_outdated(meta: Option<&PublicationMeta>, last: Option<&Version>) -> bool {
    let version = meta.and_then(|meta| meta.version.as_ref());
    matches!((version, last), (Some(version), Some(last)) if !version.follows(last))
}

fn unavailable(reason: &str) -> BusError {
    BusError::Unavailable { reason: reason.to_owned() }
}

fn store_failed(error: &naru_domain::ports::StoreError) -> BusError {
    BusError::Unavailable { reason: error.to_string() }
}

fn too_many(_: TooManyChannels) -> BusError {
    unavailable("there are as many channels as there may be")
}
