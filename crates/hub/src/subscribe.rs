//! How clients come and go, and how a subscription begins, recovers what was missed, and ends.

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use naru_domain::ports::{BusError, HistoryPage, HistoryQuery, NamespaceOptions, OwnerError};
use naru_domain::{ChannelName, Epoch, Membership, Offset, PartyInfo, Position, Publication};
use tokio::time::timeout;
use tracing::debug;

use crate::channel::{Follower, Joined};
use crate::channels::{Channel, Listener, Traits};
use crate::client::{Client, ClientSpec, Connected, Subscription};
use crate::hub::{Hub, Inner};
use crate::outlet::{Cut, Filter, Mark};

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

/// What of the past a subscription asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Recover {
    /// Nothing: it starts with what comes.
    #[default]
    Nothing,
    /// Everything after a position, or nothing at all. Without an epoch the present one is meant.
    Since {
        /// The life of the channel that the offset belongs to.
        epoch: Option<Epoch>,
        /// The last publication the client has.
        offset: Offset,
    },
    /// The newest publication, unless the client has it.
    Newest {
        /// What the client has, if it says so.
        seen: Option<Position>,
    },
}

/// A subscription to begin.
#[derive(Clone, Debug)]
pub struct SubscribeSpec {
    /// Where.
    pub channel: ChannelName,
    /// What of the past.
    pub recover: Recover,
    /// Nothing begins if that cannot be recovered.
    pub must_recover: bool,
    /// The gateway's mark.
    pub mark: Mark,
    /// What it gets and shows.
    pub traits: Traits,
    /// Which publications it gets; `None` for all. The others move its position as well.
    pub filter: Option<Filter>,
    /// What the application says about the client in this channel.
    pub chan_info: Bytes,
}

/// How a subscription began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribed {
    /// Where the subscription starts: `publications` and what comes live are behind this.
    pub position: Position,
    /// Something of the past was asked for.
    pub was_recovering: bool,
    /// Why it cannot be had; `None` if it was, or if nothing was asked for.
    pub not_recovered: Option<NotRecovered>,
    /// What was missed, in order; or, if nothing was recovered, what came while the subscription began.
    pub publications: Vec<Arc<Publication>>,
}

/// Why a subscription failed. Nothing is left of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError {
    /// The client has gone, or unsubscribed while this was going on.
    #[error("the client has gone")]
    Gone,
    /// It has this subscription already.
    #[error("the client is subscribed to this channel already")]
    AlreadySubscribed,
    /// The client has as many subscriptions as it may have.
    #[error("the client has {max} subscriptions, which is the limit")]
    TooMany {
        /// The limit.
        max: usize,
    },
    /// What was missed cannot be recovered, and the subscription must not begin without it.
    #[error("what was missed cannot be recovered")]
    NotRecovered,
    /// The bus does not answer; retry after a pause.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The channel belongs to somebody who does not let the client in.
    #[error(transparent)]
    Owner(#[from] OwnerError),
}

/// The user has as many connections as a user may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the user has as many connections as a user may have")]
pub struct TooManyConnections;

/// How many are in a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PresenceStats {
    /// Connections.
    pub clients: usize,
    /// Different users.
    pub users: usize,
}

impl Hub {
    /// Takes a connection in. It counts as connected until the result is dropped.
    pub fn connect(&self, spec: ClientSpec) -> Result<Connected, TooManyConnections> {
        let inner = &self.inner;
        let max = inner.options.connections_per_user_max;
        let Some(client) = inner.clients.add(spec, inner.clock.now(), max) else {
            inner.metrics.users_refused.increment();
            return Err(TooManyConnections);
        };
        inner.metrics.clients.add(1);
        Ok(Connected::new(self.clone(), client))
    }

    /// The connection of a client has ended: all its subscriptions end.
    pub(crate) fn gone(&self, client: &Arc<Client>) {
        let inner = &self.inner;
        let subscriptions = {
            let mut subscriptions = client.subscriptions.lock();
            subscriptions.is_closed = true;
            std::mem::take(&mut subscriptions.list)
        };
        for Subscription { channel, place } in &subscriptions {
            inner.leave(channel, *place, client);
        }
        inner.clients.remove(client);
        inner.metrics.clients.add(-1);
    }

    /// A connected client by its id.
    #[must_use]
    pub fn client(&self, id: &str) -> Option<Arc<Client>> {
        self.inner.clients.get(id)
    }

    /// The connections of a user on this node.
    #[must_use]
    pub fn clients_of(&self, user: &str) -> Vec<Arc<Client>> {
        self.inner.clients.of_user(user)
    }

    /// The clients with ids above `after`, in order, at most `limit`.
    #[must_use]
    pub fn clients(&self, after: Option<&str>, limit: usize) -> Vec<Arc<Client>> {
        self.inner.clients.page(after, limit)
    }

    /// Connections, and users with a name among them.
    #[must_use]
    pub fn client_count(&self) -> (usize, usize) {
        self.inner.clients.count()
    }

    /// Everybody who is connected, for a farewell.
    #[must_use]
    pub fn all_clients(&self) -> Vec<Arc<Client>> {
        self.inner.clients.all()
    }

    /// The largest publication, in bytes, its meta included.
    #[must_use]
    pub fn data_bytes_max(&self) -> usize {
        self.inner.bus.data_bytes_max()
    }

    /// What the channel's namespace keeps.
    #[must_use]
    pub fn namespace(&self, channel: &ChannelName) -> NamespaceOptions {
        self.inner.bus.namespace(channel)
    }

    /// Reads history.
    pub async fn history(
        &self,
        channel: &ChannelName,
        query: HistoryQuery,
    ) -> Result<HistoryPage, BusError> {
        self.inner.read_history(channel, query).await
    }

    /// Forgets the kept publications of a channel. Its position stays.
    pub async fn remove_history(&self, channel: &ChannelName) -> Result<(), BusError> {
        self.inner.bus.remove_history(channel).await
    }

    /// Who is in the channel and shows it.
    #[must_use]
    pub fn presence(&self, channel: &ChannelName) -> Vec<PartyInfo> {
        let Some(channel) = self.inner.channels.get(channel) else { return Vec::new() };
        let listeners = channel.listeners.lock();
        let present = listeners.places.iter().filter(|(_, each)| each.is_present());
        present.map(|(_, each)| each.party()).collect()
    }

    /// How many are in the channel and show it.
    #[must_use]
    pub fn presence_stats(&self, channel: &ChannelName) -> PresenceStats {
        let Some(channel) = self.inner.channels.get(channel) else {
            return PresenceStats::default();
        };
        let listeners = channel.listeners.lock();
        let present = listeners.places.iter().filter(|(_, each)| each.is_present());
        let users: Vec<&str> = present.map(|(_, each)| &*each.client.info().user).collect();
        let clients = users.len();
        PresenceStats { clients, users: users.into_iter().collect::<HashSet<_>>().len() }
    }

    /// The channels that somebody is subscribed to and whose names `is_wanted` says yes to, with the
    /// number of their subscribers.
    #[must_use]
    pub fn channels(&self, is_wanted: impl Fn(&ChannelName) -> bool) -> Vec<(ChannelName, usize)> {
        let channels = self.inner.channels.all(is_wanted);
        let counted = channels.iter().map(|channel| {
            let count = channel.listeners.lock().places.len();
            (channel.name.clone(), count)
        });
        counted.filter(|(_, count)| *count > 0).collect()
    }

    /// Subscribes a client. `ready` is called once, before anything of the channel can reach the client,
    /// with what it has to be told; it must not wait or call the hub. From then on the client gets every
    /// publication once, in order, or its subscription is cut. Cancel safe: a dropped call leaves nothing.
    pub async fn subscribe(
        &self,
        client: &Arc<Client>,
        spec: SubscribeSpec,
        ready: impl FnOnce(&Subscribed) + Send,
    ) -> Result<Position, SubscribeError> {
        let inner = &self.inner;
        let SubscribeSpec { channel: name, recover, must_recover, mark, traits, filter, chan_info } =
            spec;
        self.ask_owner(&name, client.info()).await?;
        let listener = Listener {
            client: Arc::clone(client),
            follower: Follower::joining(),
            mark,
            traits,
            filter: filter.map(Box::new),
            chan_info,
        };
        // From here on whatever ends this call takes the subscription back.
        let mut pending = Pending::begin(inner, client, &name, listener)?;
        {
            let mut interest = pending.channel.interest.lock().await;
            if !*interest {
                inner.bus.subscribe(&name).await?;
                *interest = true;
                inner.metrics.channels.add(1);
            }
        }
        let position =
            inner.join(&pending.channel, pending.place, client, recover, must_recover, ready);
        let position = position.await?;
        pending.is_done = true;
        Ok(position)
    }

    /// Ends a subscription that the client asked to end. True if there was one.
    pub fn unsubscribe(&self, client: &Arc<Client>, channel: &ChannelName) -> bool {
        self.inner.end_subscription(client, channel).is_some()
    }

    /// Ends a subscription without the client's asking, and tells it. True if there was one.
    pub fn cut(&self, client: &Arc<Client>, channel: &ChannelName, cut: &Cut) -> bool {
        let Some(listener) = self.inner.end_subscription(client, channel) else { return false };
        client.outlet.cut(channel, &listener.mark, cut);
        client.outlet.flush();
        true
    }
}

impl Subscribed {
    /// Whether all that was missed is there.
    #[must_use]
    pub fn is_recovered(&self) -> bool {
        self.was_recovering && self.not_recovered.is_none()
    }
}

impl Listener {
    /// Whether it stands in the channel's presence by now.
    fn is_present(&self) -> bool {
        self.traits.is_present && !self.follower.is_joining()
    }
}

impl Inner {
    /// Takes a client out of a channel, with the news of it.
    pub(crate) fn leave(
        &self,
        channel: &Arc<Channel>,
        place: usize,
        client: &Arc<Client>,
    ) -> Option<Listener> {
        let tell = |listener: &Listener| self.tell_left(channel, listener);
        let listener = self.channels.leave(channel, place, client, tell)?;
        self.metrics.subscriptions.add(-1);
        Some(listener)
    }

    /// Tells the others that somebody left, if they were told that it came. To be called with the
    /// listeners locked, so that the news keeps the order of what happened.
    pub(crate) fn tell_left(&self, channel: &Channel, listener: &Listener) {
        if listener.traits.shows_membership && !listener.follower.is_joining() {
            let membership = Membership { has_joined: false, party: listener.party() };
            self.bus.announce(&channel.name, Arc::new(membership));
        }
    }

    fn end_subscription(&self, client: &Arc<Client>, name: &ChannelName) -> Option<Listener> {
        let Subscription { channel, place } = {
            let mut subscriptions = client.subscriptions.lock();
            let list = &mut subscriptions.list;
            let index = list.iter().position(|each| each.channel.name == *name)?;
            list.swap_remove(index)
        };
        self.leave(&channel, place, client)
    }

    /// Reads history until it meets the live flow, then lets the follower go live.
    async fn join(
        &self,
        channel: &Arc<Channel>,
        place: usize,
        client: &Arc<Client>,
        recover: Recover,
        must_recover: bool,
        ready: impl FnOnce(&Subscribed) + Send,
    ) -> Result<Position, SubscribeError> {
        for _ in 0..JOIN_ATTEMPTS_MAX {
            let Past { since, page, not_recovered } = self.past(&channel.name, recover).await?;
            if must_recover && not_recovered.is_some() {
                self.metrics.not_recovered.increment();
                return Err(SubscribeError::NotRecovered);
            }
            let mut listeners = channel.listeners.lock();
            let listener = listeners.places.get_mut(place);
            let Some(listener) = listener.filter(|each| Arc::ptr_eq(&each.client, client)) else {
                return Err(SubscribeError::Gone);
            };
            let (mut publications, position) = match listener.follower.join(since, &page) {
                Joined::Live { publications, position } => (publications, position),
                Joined::ReadAgain => continue,
                Joined::NotJoining => return Err(SubscribeError::AlreadySubscribed),
            };
            if let Some(filter) = &listener.filter {
                publications.retain(|publication| filter.passes(publication));
            }
            let was_recovering = recover != Recover::Nothing;
            if was_recovering {
                let counter = match not_recovered {
                    None => &self.metrics.recovered,
                    Some(_) => &self.metrics.not_recovered,
                };
                counter.increment();
            }
            let start = match since {
                Some(since) if not_recovered.is_none() => since,
                _ => page.top,
            };
            let subscribed =
                Subscribed { position: start, was_recovering, not_recovered, publications };
            // With the listeners locked, so that nothing live comes before.
            ready(&subscribed);
            if listener.traits.shows_membership {
                let membership = Membership { has_joined: true, party: listener.party() };
                self.bus.announce(&channel.name, Arc::new(membership));
            }
            return Ok(position);
        }
        let reason = "history and live publications do not meet".to_owned();
        Err(SubscribeError::Bus(BusError::Unavailable { reason }))
    }

    /// What history has for a recovery, and whether that is all that was missed.
    async fn past(&self, name: &ChannelName, recover: Recover) -> Result<Past, BusError> {
        let max = self.options.recovery_publications_max;
        let top_only = HistoryQuery { since: None, limit: 0 };
        match recover {
            Recover::Nothing => {
                let page = self.read_history(name, top_only).await?;
                Ok(Past { since: None, page, not_recovered: None })
            }
            Recover::Since { epoch, offset } => {
                let epoch = match epoch {
                    Some(epoch) => epoch,
                    None => self.read_history(name, top_only).await?.top.epoch,
                };
                let since = Position { epoch, offset };
                let query = HistoryQuery { since: Some(since), limit: max + 1 };
                let mut page = self.read_history(name, query).await?;
                let not_recovered = why_not_recovered(since, &page, max);
                page.complete &= not_recovered.is_none();
                Ok(Past { since: Some(since), page, not_recovered })
            }
            Recover::Newest { seen } => {
                let top = self.read_history(name, top_only).await?.top;
                if seen == Some(top) || top.offset == Offset(0) {
                    let not_recovered = (seen != Some(top)).then_some(NotRecovered::Trimmed);
                    let page = HistoryPage { publications: Vec::new(), top, complete: true };
                    return Ok(Past { since: Some(top), page, not_recovered });
                }
                let before = Position { epoch: top.epoch, offset: Offset(top.offset.0 - 1) };
                let query = HistoryQuery { since: Some(before), limit: max + 1 };
                let mut page = self.read_history(name, query).await?;
                let newest = page.publications.split_off(page.publications.len().saturating_sub(1));
                let not_recovered = newest.is_empty().then_some(NotRecovered::Trimmed);
                let since = newest.first().map_or(page.top, |newest| {
                    let position = newest.position;
                    Position { offset: Offset(position.offset.0 - 1), ..position }
                });
                page.publications = newest;
                page.complete = true;
                Ok(Past { since: Some(since), page, not_recovered })
            }
        }
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

    /// Ends this node's interest in a channel that nobody listens to any more.
    pub(crate) async fn release(&self, channel: &Arc<Channel>) {
        let mut interest = channel.interest.lock().await;
        if !channel.listeners.lock().places.is_empty() {
            return;
        }
        // Also if we know of none: a subscription may have been given up while the bus was being told.
        if let Err(error) = self.bus.unsubscribe(&channel.name).await {
            // What still comes finds no listener; the interest ends with the next one who leaves.
            debug!(target: "naru::hub", %error, "interest in a channel not ended");
            return;
        }
        if std::mem::take(&mut *interest) {
            self.metrics.channels.add(-1);
        }
        self.channels.forget_if_empty(channel);
    }
}

/// What history has for a subscription.
struct Past {
    since: Option<Position>,
    page: HistoryPage,
    not_recovered: Option<NotRecovered>,
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
    client: &'a Arc<Client>,
    channel: Arc<Channel>,
    place: usize,
    is_done: bool,
}

impl<'a> Pending<'a> {
    fn begin(
        inner: &'a Inner,
        client: &'a Arc<Client>,
        name: &ChannelName,
        listener: Listener,
    ) -> Result<Pending<'a>, SubscribeError> {
        let max = inner.options.subscriptions_per_client_max;
        let mut subscriptions = client.subscriptions.lock();
        if subscriptions.is_closed {
            return Err(SubscribeError::Gone);
        }
        if subscriptions.list.iter().any(|each| each.channel.name == *name) {
            return Err(SubscribeError::AlreadySubscribed);
        }
        if subscriptions.list.len() >= max {
            return Err(SubscribeError::TooMany { max });
        }
        let (channel, place) = inner.channels.join(name, listener);
        // A vector's own growth to four would be most of a small client's memory.
        if subscriptions.list.len() == subscriptions.list.capacity() {
            let more = subscriptions.list.len().max(1);
            subscriptions.list.reserve_exact(more);
        }
        subscriptions.list.push(Subscription { channel: Arc::clone(&channel), place });
        inner.metrics.subscriptions.add(1);
        Ok(Pending { inner, client, channel, place, is_done: false })
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        self.client.subscriptions.lock().list.retain(|each| {
            !(Arc::ptr_eq(&each.channel, &self.channel) && each.place == self.place)
        });
        self.inner.leave(&self.channel, self.place, self.client);
    }
}
