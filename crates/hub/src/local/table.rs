//! The channels of the in-process bus in their shards, and the bounded queue of events to the hub. What
//! happens here happens under a shard's lock and never waits.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use naru_domain::ports::BusEvent;
use naru_domain::{ChannelName, Epoch, Membership, Publication, Timestamp};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::mpsc::{self, error::TrySendError};

use super::LocalBusOptions;
use super::metrics::LocalBusMetrics;
use super::stream::Stream;
use crate::registry::{SHARDS, shard_of};

/// What the bus knows of one channel.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    /// The node wants its publications.
    pub(crate) is_wanted: bool,
    /// The node missed one; until it has been told, it gets no more.
    is_gap_due: bool,
    /// Its history; absent until it is needed, and for channels without one.
    pub(crate) stream: Option<Stream>,
    /// The stream is in the store as well, so memory may forget it.
    pub(crate) is_stored: bool,
}

pub(crate) type Shard = HashMap<ChannelName, Slot>;

/// All channels, and the way to the hub.
pub(crate) struct Table {
    shards: [Mutex<Shard>; SHARDS],
    hasher: RandomState,
    epochs: AtomicU64,
    options: Arc<LocalBusOptions>,
    events: mpsc::Sender<BusEvent>,
    /// Channels whose gap did not fit into the queue. Each stands in it once.
    gaps: Mutex<Gaps>,
    pub(crate) metrics: Arc<LocalBusMetrics>,
}

#[derive(Default)]
struct Gaps {
    due: VecDeque<ChannelName>,
    is_teller_running: bool,
}

/// There are as many channels as there may be.
#[derive(Debug)]
pub(crate) struct TooManyChannels;

/// The caller has to start [`Table::tell_gaps`].
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Enough,
    StartTeller,
}

impl Table {
    pub(crate) fn new(
        seed: u64,
        options: Arc<LocalBusOptions>,
        events: mpsc::Sender<BusEvent>,
        metrics: Arc<LocalBusMetrics>,
    ) -> Table {
        Table {
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
            epochs: AtomicU64::new(seed),
            options,
            events,
            gaps: Mutex::default(),
            metrics,
        }
    }

    /// An epoch that nobody has seen: 53 random bits, so that JavaScript can hold it.
    pub(crate) fn new_epoch(&self) -> Epoch {
        // SplitMix64, whose outputs do not repeat within 2^64 calls.
        const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
        let mut mixed = self.epochs.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        Epoch((mixed ^ (mixed >> 31)) >> 11)
    }

    pub(crate) fn shard_index(&self, channel: &ChannelName) -> usize {
        shard_of(self.hasher.hash_one(channel))
    }

    pub(crate) fn lock(&self, channel: &ChannelName) -> MutexGuard<'_, Shard> {
        self.shards[self.shard_index(channel)].lock()
    }

    /// The channel's slot, made if there is room for one.
    pub(crate) fn slot<'a>(
        &self,
        shard: &'a mut Shard,
        channel: &ChannelName,
        now: Timestamp,
    ) -> Result<&'a mut Slot, TooManyChannels> {
        if !shard.contains_key(channel) {
            let slots_max = self.options.channels_max.div_ceil(SHARDS);
            if shard.len() >= slots_max {
                self.sweep(shard, now);
            }
            if shard.len() >= slots_max {
                return Err(TooManyChannels);
            }
            self.metrics.channels.add(1);
            shard.insert(channel.clone(), Slot::default());
        }
        shard.get_mut(channel).ok_or(TooManyChannels)
    }

    /// Forgets channels that nobody wants and of which nothing would be lost.
    fn sweep(&self, shard: &mut Shard, now: Timestamp) {
        let before = shard.len();
        shard.retain(|channel, slot| {
            if let Some(stream) = &mut slot.stream {
                self.trim(channel, stream, now);
            }
            let is_needed = slot.is_wanted
                || slot.is_gap_due
                || slot.stream.as_ref().is_some_and(|s| !slot.is_stored && s.kept_count() > 0);
            if !is_needed {
                self.count_history(slot.stream.as_ref(), None);
            }
            is_needed
        });
        self.metrics.channels.add(-signed(before - shard.len()));
    }

    /// Forgets what is too old or too much, and keeps the figures about history right.
    pub(crate) fn trim(&self, channel: &ChannelName, stream: &mut Stream, now: Timestamp) {
        let (count, bytes) = (stream.kept_count(), stream.bytes());
        stream.trim(self.options.namespace(channel), self.options.history_bytes_max, now);
        self.metrics.history_publications.add(signed(stream.kept_count()) - signed(count));
        self.metrics.history_bytes.add(signed(stream.bytes()) - signed(bytes));
    }

    /// Appends to a stream and keeps the figures right.
    pub(crate) fn append(&self, stream: &mut Stream, publication: &Arc<Publication>) {
        let (count, bytes) = (stream.kept_count(), stream.bytes());
        stream.append(publication);
        self.metrics.history_publications.add(signed(stream.kept_count()) - signed(count));
        self.metrics.history_bytes.add(signed(stream.bytes()) - signed(bytes));
    }

    /// One stream takes the place of another in the figures.
    pub(crate) fn count_history(&self, old: Option<&Stream>, new: Option<&Stream>) {
        let figures = |stream: Option<&Stream>| {
            stream.map_or((0, 0), |s| (signed(s.kept_count()), signed(s.bytes())))
        };
        let ((old_count, old_bytes), (count, bytes)) = (figures(old), figures(new));
        self.metrics.history_publications.add(count - old_count);
        self.metrics.history_bytes.add(bytes - old_bytes);
    }

    /// Sends a publication to the hub if it wants the channel. When the queue is full the hub is told of a
    /// gap instead, as soon as there is room. To be called with the channel's shard locked, so that order
    /// per channel holds.
    pub(crate) fn send(
        &self,
        slot: &mut Slot,
        channel: &ChannelName,
        publication: &Arc<Publication>,
    ) -> Told {
        if !slot.is_wanted {
            return Told::Enough;
        }
        if slot.is_gap_due {
            self.metrics.events_dropped.increment();
            return Told::Enough;
        }
        let event = BusEvent::Publication(channel.clone(), Arc::clone(publication));
        match self.events.try_send(event) {
            Ok(()) => {
                self.metrics.events.increment();
                Told::Enough
            }
            // The node is going down: there is nobody to miss anything.
            Err(TrySendError::Closed(_)) => Told::Enough,
            Err(TrySendError::Full(_)) => {
                self.metrics.events_dropped.increment();
                self.missed(slot, channel)
            }
        }
    }

    /// The hub may have missed something: it is told to read history. To be called with the channel's
    /// shard locked.
    pub(crate) fn missed(&self, slot: &mut Slot, channel: &ChannelName) -> Told {
        if !slot.is_wanted || std::mem::replace(&mut slot.is_gap_due, true) {
            return Told::Enough;
        }
        let mut gaps = self.gaps.lock();
        gaps.due.push_back(channel.clone());
        if std::mem::replace(&mut gaps.is_teller_running, true) {
            Told::Enough
        } else {
            Told::StartTeller
        }
    }

    /// Forgets all that a stream keeps.
    pub(crate) fn clear(&self, stream: &mut Stream) {
        self.metrics.history_publications.add(-signed(stream.kept_count()));
        self.metrics.history_bytes.add(-signed(stream.bytes()));
        stream.clear();
    }

    /// Tells the hub who entered or left, if there is room. To be called with the channel's shard locked.
    pub(crate) fn announce(&self, channel: &ChannelName, membership: Arc<Membership>) {
        match self.events.try_send(BusEvent::Membership(channel.clone(), membership)) {
            Ok(()) => self.metrics.events.increment(),
            Err(_) => self.metrics.events_dropped.increment(),
        }
    }

    /// Tells the hub of all gaps that are due, as the queue gets room.
    pub(crate) async fn tell_gaps(&self) {
        loop {
            let Ok(permit) = self.events.reserve().await else { return };
            let next = {
                let mut gaps = self.gaps.lock();
                let next = gaps.due.pop_front();
                gaps.is_teller_running = next.is_some();
                next
            };
            let Some(channel) = next else { return };
            let mut shard = self.lock(&channel);
            let Some(slot) = shard.get_mut(&channel) else { continue };
            slot.is_gap_due = false;
            if slot.is_wanted {
                self.metrics.gaps.increment();
                // Still under the lock, so that what is published from now on comes after the gap.
                permit.send(BusEvent::Gap(channel.clone()));
            }
        }
    }
}

pub(crate) fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
