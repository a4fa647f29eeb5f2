//! The channels of this node that somebody is subscribed to: a table in shards, and of each channel the
//! list of its subscribers. It decides nothing about order; that stands in [`crate::channel`].
//!
//! Lock order: interest of a channel (across awaits, one channel only) → subscriptions of a client →
//! shard → listeners → outlet, or what the bus locks to announce a membership.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;
use naru_domain::{ChannelName, PartyInfo, Position, Publication};
use parking_lot::Mutex;
use slab::Slab;
use tokio::sync::Notify;

use crate::channel::Follower;
use crate::client::Client;
use crate::outlet::{Filter, Mark};
use crate::registry::{SHARDS, shard_of};

/// The channels that clients of this node are subscribed to.
pub(crate) struct Channels {
    shards: [Mutex<HashMap<ChannelName, Arc<Channel>>>; SHARDS],
    hasher: RandomState,
    /// Channels in the table, so that a look into an empty one costs nothing.
    count: AtomicUsize,
    /// Channels that may have lost their last listener. Each stands in it once.
    left: Mutex<Vec<Arc<Channel>>>,
    pub(crate) someone_left: Notify,
}

/// One channel with its subscribers.
pub(crate) struct Channel {
    pub(crate) name: ChannelName,
    /// Whether the bus was told of our interest. Locked while it is being told, so that a subscription
    /// and the end of another cannot overtake each other.
    pub(crate) interest: tokio::sync::Mutex<bool>,
    pub(crate) listeners: Mutex<Listeners>,
}

/// The subscribers of a channel and what is known of the live flow.
#[derive(Default)]
pub(crate) struct Listeners {
    pub(crate) places: Slab<Listener>,
    pub(crate) repair: Repair,
    /// The publication that was delivered last.
    pub(crate) last: Option<Arc<Publication>>,
    /// The top of history that the live flow had not reached when positions were checked.
    pub(crate) awaited: Option<Position>,
    /// Stands in [`Channels::left`].
    is_left: bool,
    /// Taken out of the table: look the name up again.
    is_gone: bool,
}

/// One subscriber.
pub(crate) struct Listener {
    pub(crate) client: Arc<Client>,
    pub(crate) follower: Follower,
    pub(crate) mark: Mark,
    pub(crate) traits: Traits,
    /// What it wants; nearly all want everything, and pay a pointer for the others.
    pub(crate) filter: Option<Box<Filter>>,
    /// What the application says about the client in this channel.
    pub(crate) chan_info: Bytes,
}

/// What a subscription gets and shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traits {
    /// A hole that no history can fill ends the subscription; otherwise it goes on with what comes.
    pub is_positioned: bool,
    /// It gets the news of who enters and leaves.
    pub gets_membership: bool,
    /// Others get the news that this one enters and leaves.
    pub shows_membership: bool,
    /// It stands in the channel's presence.
    pub is_present: bool,
    /// The server subscribed it, not the client.
    pub is_server_side: bool,
}

impl Listener {
    /// The client as the others of the channel see it.
    pub(crate) fn party(&self) -> PartyInfo {
        PartyInfo { chan_info: self.chan_info.clone(), ..self.client.info().clone() }
    }
}

/// Whether the live flow can be trusted.
#[derive(Debug, Default)]
pub(crate) enum Repair {
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
    pub(crate) fn running() -> Repair {
        Repair::Running { held: VecDeque::new(), again: false }
    }
}

impl Listeners {
    /// Room for one: most channels are somebody's own, and a vector's growth to four would cost them more
    /// than all the rest.
    fn of_one() -> Listeners {
        Listeners { places: Slab::with_capacity(1), ..Listeners::default() }
    }

    /// True if the caller has to run the repair.
    pub(crate) fn begin_repair(&mut self) -> bool {
        for (_, listener) in &mut self.places {
            listener.follower.missed();
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
    pub(crate) fn oldest_position(&self) -> Option<Position> {
        let positions = self.places.iter().filter_map(|(_, each)| each.follower.position());
        positions.min_by_key(|position| position.offset)
    }

    /// True if the last listener has gone and nobody noted it yet.
    pub(crate) fn becomes_left(&mut self) -> bool {
        let becomes = self.places.is_empty() && !self.is_left;
        self.is_left |= becomes;
        becomes
    }

    /// Takes a listener out, if `place` is still that of `client`.
    pub(crate) fn remove(&mut self, place: usize, client: &Arc<Client>) -> Option<Listener> {
        let is_it = self.places.get(place).is_some_and(|each| Arc::ptr_eq(&each.client, client));
        is_it.then(|| self.places.remove(place))
    }
}

impl Channels {
    pub(crate) fn new() -> Channels {
        Channels {
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
            count: AtomicUsize::new(0),
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

    /// Whether the channel is in the table.
    pub(crate) fn has(&self, name: &ChannelName) -> bool {
        self.count.load(Relaxed) > 0 && self.shard(name).lock().contains_key(name)
    }

    /// Puts a joining listener into the channel, which is made if needed.
    pub(crate) fn join(&self, name: &ChannelName, listener: Listener) -> (Arc<Channel>, usize) {
        loop {
            let channel = {
                let mut shard = self.shard(name).lock();
                let channel = shard.entry(name.clone()).or_insert_with(|| {
                    self.count.fetch_add(1, Relaxed);
                    Arc::new(Channel {
                        name: name.clone(),
                        interest: tokio::sync::Mutex::new(false),
                        listeners: Mutex::new(Listeners::of_one()),
                    })
                });
                Arc::clone(channel)
            };
            let mut listeners = channel.listeners.lock();
            if listeners.is_gone {
                continue;
            }
            let place = listeners.places.insert(listener);
            drop(listeners);
            return (channel, place);
        }
    }

    /// Takes a listener out, and calls `tell` before anybody can enter or leave after it. `None` if it
    /// was not there any more.
    pub(crate) fn leave(
        &self,
        channel: &Arc<Channel>,
        place: usize,
        client: &Arc<Client>,
        tell: impl FnOnce(&Listener),
    ) -> Option<Listener> {
        let (listener, is_left) = {
            let mut listeners = channel.listeners.lock();
            let listener = listeners.remove(place, client)?;
            tell(&listener);
            (listener, listeners.becomes_left())
        };
        if is_left {
            self.note_left(channel);
        }
        Some(listener)
    }

    /// The channel may have lost its last listener: [`Listeners::becomes_left`] said so.
    pub(crate) fn note_left(&self, channel: &Arc<Channel>) {
        self.left.lock().push(Arc::clone(channel));
        self.someone_left.notify_one();
    }

    /// The channels whose last listener may have gone.
    pub(crate) fn take_left(&self) -> Vec<Arc<Channel>> {
        let left = std::mem::take(&mut *self.left.lock());
        for channel in &left {
            channel.listeners.lock().is_left = false;
        }
        left
    }

    /// Takes the channel out of the table if nobody listens.
    pub(crate) fn forget_if_empty(&self, channel: &Channel) {
        let mut shard = self.shard(&channel.name).lock();
        let mut listeners = channel.listeners.lock();
        if listeners.places.is_empty() && !listeners.is_gone {
            listeners.is_gone = true;
            if shard.remove(&channel.name).is_some() {
                self.count.fetch_sub(1, Relaxed);
            }
        }
    }

    /// All channels that `is_wanted` says yes to.
    pub(crate) fn all(&self, is_wanted: impl Fn(&ChannelName) -> bool) -> Vec<Arc<Channel>> {
        let mut all = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock();
            all.extend(shard.values().filter(|channel| is_wanted(&channel.name)).map(Arc::clone));
        }
        all
    }
}
