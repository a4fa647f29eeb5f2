//! Channels of this node: who is subscribed, how publications reach their mailboxes, and how a
//! subscription recovers what it missed. The decisions about order stand in [`crate::channel`].
//!
//! Lock order: interest of a channel (across awaits, one channel only) → shard → listeners → session.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use bytes::Bytes;
use naru_domain::ports::{BusError, BusEvent, HistoryPage, HistoryQuery};
use naru_domain::{
    ChannelName, Delivery, DeliveryBody, DeliveryClass, Offset, Position, Publication, SessionId,
};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::timeout;
use tracing::debug;

use crate::channel::{Follower, Joined, Offer};
use crate::hub::{Hub, Inner};
use crate::registry::{Cell, SHARDS, shard_of};
use crate::session::{Numbering, SessionState};

/// How often a subscription reads history again when it does not meet the live flow.
const JOIN_ATTEMPTS_MAX: usize = 5;

/// Why a recovery gave nothing back. The client has to fetch the state of the channel anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotRecovered {
    /// The channel began a new life.
    OtherEpoch,
    /// The history no longer reaches back so far, or the channel keeps none.
    Trimmed,
    /// More was missed than one recovery may replay.
    TooMany,
}

/// How a subscription began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subscribed {
    /// No position was given: everything after `position` will be delivered.
    Fresh {
        /// Where the channel stands.
        position: Position,
    },
    /// Everything after the given position was delivered, `count` publications; what follows comes by
    /// itself.
    Recovered {
        /// How many publications were put into the mailbox.
        count: usize,
        /// The last of them, or the position given.
        position: Position,
    },
    /// Nothing of the past was delivered; everything after `position` will be.
    NotRecovered {
        /// Where the channel stands.
        position: Position,
        /// Why.
        reason: NotRecovered,
    },
}

/// Why a subscription failed. Nothing is left of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError {
    /// The session ended, never was, or unsubscribed while this was going on.
    #[error("there is no such session")]
    NoSuchSession,
    /// The sender numbers this session's stream, so the hub must not add to it.
    #[error("the session's stream is numbered by its sender")]
    NumberedOutside,
    /// It has this subscription already.
    #[error("the session is subscribed to this channel already")]
    AlreadySubscribed,
    /// The session has as many subscriptions as it may have.
    #[error("the session has {max} subscriptions, which is the limit")]
    TooMany {
        /// The limit.
        max: usize,
    },
    /// The bus does not answer; retry after a pause.
    #[error(transparent)]
    Bus(#[from] BusError),
}

/// The channels that sessions of this node are subscribed to.
pub(crate) struct Channels {
    shards: [Mutex<HashMap<ChannelName, Arc<Channel>>>; SHARDS],
    hasher: RandomState,
    /// Channels that may have lost their last listener. Each stands in it once.
    left: Mutex<Vec<Arc<Channel>>>,
    pub(crate) someone_left: Notify,
}

/// One channel with its subscribers.
pub(crate) struct Channel {
    pub(crate) name: ChannelName,
    /// Whether the bus was told of our interest. Locked while it is being told, so that a subscription
    /// and the end of another cannot overtake each other.
    interest: tokio::sync::Mutex<bool>,
    listeners: Mutex<Listeners>,
}

#[derive(Default)]
struct Listeners {
    followers: HashMap<SessionId, (Arc<Cell>, Follower)>,
    repair: Repair,
    /// Stands in [`Channels::left`].
    is_left: bool,
    /// Taken out of the table: look the name up again.
    is_gone: bool,
}

/// Whether the live flow can be trusted.
#[derive(Debug, Default)]
enum Repair {
    /// Publications are delivered as they come.
    #[default]
    NotNeeded,
    /// History is being read. What comes meanwhile is held back and joined with it.
    Running {
        /// Bounded like what is held for a subscription.
        held: VecDeque<Arc<Publication>>,
        /// Something more was missed: history has to be read again.
        again: bool,
    },
}

impl Repair {
    fn running() -> Repair {
        Repair::Running { held: VecDeque::new(), again: false }
    }
}

impl Channels {
    pub(crate) fn new() -> Channels {
        Channels {
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
            left: Mutex::default(),
            someone_left: Notify::new(),
        }
    }

    fn shard(&self, name: &ChannelName) -> &Mutex<HashMap<ChannelName, Arc<Channel>>> {
        &self.shards[shard_of(self.hasher.hash_one(name))]
    }

    pub(crate) fn get(&self, name: &ChannelName) -> Option<Arc<Channel>> {
        self.shard(name).lock().get(name).map(Arc::clone)
    }

    /// Puts a joining follower into the channel, which is made if needed.
    fn join(&self, name: &ChannelName, cell: &Arc<Cell>) -> Result<Arc<Channel>, SubscribeError> {
        loop {
            let channel = {
                let mut shard = self.shard(name).lock();
                let channel = shard.entry(name.clone()).or_insert_with(|| {
                    Arc::new(Channel {
                        name: name.clone(),
                        interest: tokio::sync::Mutex::new(false),
                        listeners: Mutex::default(),
                    })
                });
                Arc::clone(channel)
            };
            let mut listeners = channel.listeners.lock();
            if listeners.is_gone {
                continue;
            }
            if listeners.followers.contains_key(&cell.id) {
                return Err(SubscribeError::AlreadySubscribed);
            }
            listeners.followers.insert(cell.id, (Arc::clone(cell), Follower::joining()));
            drop(listeners);
            return Ok(channel);
        }
    }

    fn leave(&self, channel: &Arc<Channel>, session: SessionId) -> bool {
        let (was_there, is_left) = {
            let mut listeners = channel.listeners.lock();
            let was_there = listeners.followers.remove(&session).is_some();
            let is_left = listeners.followers.is_empty() && !listeners.is_left && was_there;
            listeners.is_left |= is_left;
            (was_there, is_left)
        };
        if is_left {
            self.left.lock().push(Arc::clone(channel));
            self.someone_left.notify_one();
        }
        was_there
    }

    /// The channels whose last listener may have gone.
    pub(crate) fn take_left(&self) -> Vec<Arc<Channel>> {
        let left = std::mem::take(&mut *self.left.lock());
        for channel in &left {
            channel.listeners.lock().is_left = false;
        }
        left
    }
}

impl Hub {
    /// Publishes on the bus. See [`naru_domain::ports::Bus::publish`].
    pub async fn publish(
        &self,
        channel: &ChannelName,
        data: Bytes,
        key: Option<Arc<str>>,
    ) -> Result<Position, BusError> {
        self.inner.bus.publish(channel, data, key).await
    }

    /// Subscribes a session whose stream the hub numbers. With `since`, everything after that position is
    /// delivered first, or nothing and the answer says why. From then on the session gets every
    /// publication once, in order, or a gap in its stream. Cancel safe: a dropped call leaves nothing.
    pub async fn subscribe(
        &self,
        session: SessionId,
        channel: &ChannelName,
        since: Option<Position>,
    ) -> Result<Subscribed, SubscribeError> {
        let inner = &self.inner;
        let cell = inner.registry.get(session).ok_or(SubscribeError::NoSuchSession)?;
        inner.note_subscription(&cell, channel)?;
        // From here on whatever ends this call takes the subscription back.
        let mut pending =
            Pending { inner, cell: &cell, name: channel, channel: None, is_done: false };
        let joined = inner.channels.join(channel, &cell)?;
        inner.metrics.subscriptions.add(1);
        pending.channel = Some(Arc::clone(&joined));
        {
            let mut interest = joined.interest.lock().await;
            if !*interest {
                inner.bus.subscribe(channel).await?;
                *interest = true;
                inner.metrics.channels.add(1);
            }
        }
        let subscribed = inner.join(&joined, &cell, since).await?;
        if matches!(cell.live.lock().session.state(), SessionState::Closed(_)) {
            // It may have left its channels before this one was among them.
            return Err(SubscribeError::NoSuchSession);
        }
        pending.is_done = true;
        Ok(subscribed)
    }

    /// Ends a subscription. Idempotent.
    pub async fn unsubscribe(&self, session: SessionId, channel: &ChannelName) {
        let inner = &self.inner;
        let Some(cell) = inner.registry.get(session) else { return };
        inner.forget_subscription(&cell, channel);
        if let Some(channel) = inner.channels.get(channel)
            && inner.channels.leave(&channel, session)
        {
            inner.metrics.subscriptions.add(-1);
            inner.release(&channel).await;
        }
    }

    /// Something came from the bus. Returns the channel whose history has to be read now.
    pub(crate) fn on_bus_event(&self, event: BusEvent) -> Option<Arc<Channel>> {
        let inner = &self.inner;
        match event {
            BusEvent::Publication(name, publication) => {
                inner.metrics.bus_publications.increment();
                let channel = inner.channels.get(&name)?;
                let needs_repair = inner.fan_out(&channel, &publication);
                needs_repair.then_some(channel)
            }
            BusEvent::Gap(name) => {
                inner.metrics.bus_gaps.increment();
                let channel = inner.channels.get(&name)?;
                let needs_repair = channel.listeners.lock().begin_repair();
                needs_repair.then_some(channel)
            }
        }
    }
}

impl Listeners {
    /// True if the caller has to run the repair.
    fn begin_repair(&mut self) -> bool {
        for (_, follower) in self.followers.values_mut() {
            follower.missed();
        }
        match &mut self.repair {
            Repair::Running { held, again } => {
                held.clear();
                *again = true;
                false
            }
            repair @ Repair::NotNeeded => {
                *repair = Repair::running();
                true
            }
        }
    }

    /// The oldest position of those that follow live: history is read from there for all of them.
    fn oldest_position(&self) -> Option<Position> {
        let positions = self.followers.values().filter_map(|(_, follower)| follower.position());
        positions.min_by_key(|position| position.offset)
    }
}

impl Inner {
    /// Offers one publication to all followers. The publication is shared, not copied. True if a follower
    /// misses something before it and the caller has to run the repair.
    fn fan_out(&self, channel: &Channel, publication: &Arc<Publication>) -> bool {
        let held_max = self.options.recovery_buffer_max;
        let mut listeners = channel.listeners.lock();
        if let Repair::Running { held, again } = &mut listeners.repair {
            if held.len() >= held_max {
                held.clear();
                *again = true;
            }
            if !*again {
                held.push_back(Arc::clone(publication));
            }
            let joining = listeners.followers.values_mut().filter(|(_, f)| f.is_joining());
            for (_, follower) in joining {
                follower.offer(publication, held_max);
            }
            return false;
        }
        let (mut delivered, mut has_hole) = (0, false);
        for (cell, follower) in listeners.followers.values_mut() {
            match follower.offer(publication, held_max) {
                Offer::Deliver => {
                    self.deliver_publication(cell, &channel.name, publication);
                    delivered += 1;
                }
                Offer::Held => {}
                Offer::Repeat => self.metrics.bus_repeats.increment(),
                Offer::Hole => has_hole = true,
            }
        }
        let needs_repair = has_hole && listeners.begin_repair();
        drop(listeners);
        self.metrics.fan_out.add(delivered);
        if needs_repair {
            self.metrics.bus_gaps.increment();
        }
        needs_repair
    }

    /// Into one mailbox. A session that ended meanwhile is about to leave the channel.
    fn deliver_publication(&self, cell: &Cell, name: &ChannelName, publication: &Arc<Publication>) {
        let body = DeliveryBody::Publication(name.clone(), Arc::clone(publication));
        let delivery = Delivery { offset: Offset(0), class: DeliveryClass::Reliable, body };
        let limits = &self.options.mailbox;
        if self.push(cell, |session, tally| session.deliver(delivery, limits, tally)).is_err() {
            self.metrics.unknown_session.increment();
        }
    }

    /// Tells one session that `count` publications are missing.
    fn deliver_gap(&self, cell: &Cell, count: u64) {
        self.metrics.channel_gaps.increment();
        let limits = &self.options.mailbox;
        if self.push(cell, |session, tally| session.deliver_gap(count, limits, tally)).is_err() {
            self.metrics.unknown_session.increment();
        }
    }

    /// Reads history until it meets the live flow, then lets the follower go live.
    async fn join(
        &self,
        channel: &Channel,
        cell: &Arc<Cell>,
        since: Option<Position>,
    ) -> Result<Subscribed, SubscribeError> {
        let replay_max = self.options.recovery_publications_max;
        for _ in 0..JOIN_ATTEMPTS_MAX {
            let limit = if since.is_some() { replay_max + 1 } else { 0 };
            let mut page = self.read_history(&channel.name, HistoryQuery { since, limit }).await?;
            let reason = since.and_then(|since| why_not_recovered(since, &page, replay_max));
            page.complete &= reason.is_none();
            let mut listeners = channel.listeners.lock();
            let Some((_, follower)) = listeners.followers.get_mut(&cell.id) else {
                return Err(SubscribeError::NoSuchSession);
            };
            let (publications, position) = match follower.join(since, &page) {
                Joined::Live { publications, position } => (publications, position),
                Joined::ReadAgain => continue,
                Joined::NotJoining => return Err(SubscribeError::AlreadySubscribed),
            };
            // With the listeners locked, so that nothing live comes before them.
            for publication in &publications {
                self.deliver_publication(cell, &channel.name, publication);
            }
            drop(listeners);
            return Ok(match (since, reason) {
                (None, _) => Subscribed::Fresh { position: page.top },
                (Some(_), None) => {
                    self.metrics.recovered.increment();
                    Subscribed::Recovered { count: publications.len(), position }
                }
                (Some(_), Some(reason)) => {
                    self.metrics.not_recovered.increment();
                    Subscribed::NotRecovered { position: page.top, reason }
                }
            });
        }
        let reason = "history and live publications do not meet".to_owned();
        Err(SubscribeError::Bus(BusError::Unavailable { reason }))
    }

    pub(crate) async fn read_history(
        &self,
        name: &ChannelName,
        query: HistoryQuery,
    ) -> Result<HistoryPage, BusError> {
        match timeout(self.options.history_timeout, self.bus.history(name, query)).await {
            Ok(read) => read,
            Err(_elapsed) => {
                Err(BusError::Unavailable { reason: "history was not read in time".to_owned() })
            }
        }
    }

    /// One step of a repair: delivers what history has behind the oldest position. True when the live
    /// flow can be trusted again.
    pub(crate) async fn repair_step(&self, channel: &Channel) -> Result<bool, BusError> {
        let since = {
            let mut listeners = channel.listeners.lock();
            let Some(since) = listeners.oldest_position() else {
                // Nobody follows live; those who join read history themselves.
                listeners.repair = Repair::NotNeeded;
                return Ok(true);
            };
            listeners.repair = Repair::running();
            since
        };
        let limit = self.options.recovery_publications_max;
        let query = HistoryQuery { since: Some(since), limit };
        let page = self.read_history(&channel.name, query).await?;
        let mut listeners = channel.listeners.lock();
        let mut delivered = self.catch_up(channel, &mut listeners, &page);
        let last = page.publications.last().map_or(page.top, |last| last.position);
        let is_done = last == page.top && {
            let repair = std::mem::take(&mut listeners.repair);
            match self.resume(channel, &mut listeners, repair) {
                Some(count) => {
                    delivered += count;
                    true
                }
                None => {
                    listeners.repair = Repair::running();
                    false
                }
            }
        };
        drop(listeners);
        self.metrics.fan_out.add(delivered);
        Ok(is_done)
    }

    /// Delivers a page of history to all who follow live, and tells those who lost something.
    fn catch_up(&self, channel: &Channel, listeners: &mut Listeners, page: &HistoryPage) -> u64 {
        let base = page.publications.first().map_or(page.top, |first| Position {
            epoch: first.position.epoch,
            offset: Offset(first.position.offset.0.saturating_sub(1)),
        });
        let mut delivered = 0;
        for (cell, follower) in listeners.followers.values_mut() {
            let Some(position) = follower.position() else { continue };
            // Who is ahead of the oldest may have all that the page lacks; but nobody can be ahead of
            // the top, unless the engine itself forgot its end. Without history nothing is certain.
            let is_ahead_of_all = position.offset > page.top.offset || base.offset == Offset(0);
            let has_lost = position.epoch != base.epoch
                || position.offset < base.offset
                || (!page.complete && is_ahead_of_all);
            if has_lost {
                let count = follower.skip_to(base);
                self.deliver_gap(cell, count);
            }
            for publication in &page.publications {
                if follower.offer(publication, 0) == Offer::Deliver {
                    self.deliver_publication(cell, &channel.name, publication);
                    delivered += 1;
                }
            }
        }
        delivered
    }

    /// Delivers what was held back during a repair. `None` if that does not meet what was read.
    fn resume(&self, channel: &Channel, listeners: &mut Listeners, repair: Repair) -> Option<u64> {
        let Repair::Running { held, again: false } = repair else { return None };
        let mut delivered = 0;
        for publication in &held {
            for (cell, follower) in listeners.followers.values_mut() {
                if follower.is_joining() {
                    // It was offered this when it came.
                    continue;
                }
                match follower.offer(publication, 0) {
                    Offer::Deliver => {
                        self.deliver_publication(cell, &channel.name, publication);
                        delivered += 1;
                    }
                    Offer::Repeat | Offer::Held => {}
                    Offer::Hole => return None,
                }
            }
        }
        Some(delivered)
    }

    /// History cannot be read: every follower is told that something is missing, and goes on with what
    /// comes next.
    pub(crate) fn give_up_repair(&self, channel: &Channel) {
        let mut listeners = channel.listeners.lock();
        for (cell, follower) in listeners.followers.values_mut() {
            if !follower.is_joining() {
                follower.skip_unknown();
                self.deliver_gap(cell, 1);
            }
        }
        listeners.repair = Repair::NotNeeded;
    }

    /// Ends this node's interest in a channel that nobody listens to any more.
    pub(crate) async fn release(&self, channel: &Arc<Channel>) {
        let mut interest = channel.interest.lock().await;
        if !channel.listeners.lock().followers.is_empty() {
            return;
        }
        if *interest {
            if let Err(error) = self.bus.unsubscribe(&channel.name).await {
                // What still comes finds no listener; the interest ends with the next one who leaves.
                debug!(target: "naru::hub", %error, "interest in a channel not ended");
                return;
            }
            *interest = false;
            self.metrics.channels.add(-1);
        }
        let mut shard = self.channels.shard(&channel.name).lock();
        let mut listeners = channel.listeners.lock();
        if listeners.followers.is_empty() && !listeners.is_gone {
            listeners.is_gone = true;
            shard.remove(&channel.name);
        }
    }

    /// The session is ending: its subscriptions end with it.
    pub(crate) fn leave_channels(&self, cell: &Arc<Cell>) {
        let names = std::mem::take(&mut cell.live.lock().channels);
        for name in &names {
            if let Some(channel) = self.channels.get(name)
                && self.channels.leave(&channel, cell.id)
            {
                self.metrics.subscriptions.add(-1);
            }
        }
    }

    fn note_subscription(&self, cell: &Cell, name: &ChannelName) -> Result<(), SubscribeError> {
        let max = self.options.subscriptions_per_session_max;
        let mut live = cell.live.lock();
        if matches!(live.session.state(), SessionState::Closed(_)) {
            return Err(SubscribeError::NoSuchSession);
        }
        if live.session.numbering() != Numbering::Hub {
            return Err(SubscribeError::NumberedOutside);
        }
        let channels = &mut live.channels;
        if channels.contains(name) {
            return Err(SubscribeError::AlreadySubscribed);
        }
        if channels.len() >= max {
            return Err(SubscribeError::TooMany { max });
        }
        channels.push(name.clone());
        Ok(())
    }

    fn forget_subscription(&self, cell: &Cell, name: &ChannelName) {
        cell.live.lock().channels.retain(|each| each != name);
    }
}

fn why_not_recovered(
    since: Position,
    page: &HistoryPage,
    replay_max: usize,
) -> Option<NotRecovered> {
    if since.epoch != page.top.epoch {
        Some(NotRecovered::OtherEpoch)
    } else if !page.complete {
        Some(NotRecovered::Trimmed)
    } else if page.publications.len() > replay_max {
        Some(NotRecovered::TooMany)
    } else {
        None
    }
}

/// A subscription that is not there yet. Dropped before it is done, it takes everything back.
struct Pending<'a> {
    inner: &'a Inner,
    cell: &'a Arc<Cell>,
    name: &'a ChannelName,
    channel: Option<Arc<Channel>>,
    is_done: bool,
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        self.inner.forget_subscription(self.cell, self.name);
        if let Some(channel) = &self.channel
            && self.inner.channels.leave(channel, self.cell.id)
        {
            self.inner.metrics.subscriptions.add(-1);
        }
    }
}
