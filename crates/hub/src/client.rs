//! The connected parties that subscribe to channels: found by id and by user, each with the list of its
//! subscriptions. It knows no sessions and mailboxes: what a client missed is in the history of channels.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use naru_domain::{ChannelName, PartyInfo, Timestamp};
use parking_lot::Mutex;

use crate::fan_out::Channel;
use crate::hub::Hub;
use crate::outlet::{Ending, Outlet};
use crate::registry::{SHARDS, shard_of};

/// A connection that enters the hub.
pub struct ClientSpec {
    /// Who it is. `client` is unique.
    pub info: PartyInfo,
    /// Its protocol, such as `centrifuge`.
    pub kind: &'static str,
    /// The address shown to operators.
    pub peer: Box<str>,
    /// Its outgoing side.
    pub outlet: Arc<dyn Outlet>,
}

/// A connected party.
pub struct Client {
    number: u64,
    info: PartyInfo,
    kind: &'static str,
    peer: Box<str>,
    connected_at: Timestamp,
    pub(crate) outlet: Arc<dyn Outlet>,
    pub(crate) subscriptions: Mutex<Subscriptions>,
}

/// The channels of a client.
#[derive(Default)]
pub(crate) struct Subscriptions {
    pub(crate) list: Vec<Subscription>,
    /// The client has gone: it may enter nothing any more.
    pub(crate) is_closed: bool,
}

/// A client's place in a channel.
pub(crate) struct Subscription {
    pub(crate) channel: Arc<Channel>,
    pub(crate) place: usize,
}

impl Client {
    /// Who it is.
    #[must_use]
    pub fn info(&self) -> &PartyInfo {
        &self.info
    }

    /// Its protocol.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// Its address.
    #[must_use]
    pub fn peer(&self) -> &str {
        &self.peer
    }

    /// When it came.
    #[must_use]
    pub fn connected_at(&self) -> Timestamp {
        self.connected_at
    }

    /// Its outgoing side.
    #[must_use]
    pub fn outlet(&self) -> &Arc<dyn Outlet> {
        &self.outlet
    }

    /// Ends its connection.
    pub fn close(&self, ending: &Ending) {
        self.outlet.close(ending);
    }

    /// How many channels it is subscribed to.
    #[must_use]
    pub fn subscription_count(&self) -> usize {
        self.subscriptions.lock().list.len()
    }

    /// Whether it is subscribed.
    #[must_use]
    pub fn is_subscribed(&self, channel: &ChannelName) -> bool {
        self.subscriptions.lock().list.iter().any(|each| each.channel.name == *channel)
    }

    /// The channels it is subscribed to.
    #[must_use]
    pub fn channels(&self) -> Vec<ChannelName> {
        self.subscriptions.lock().list.iter().map(|each| each.channel.name.clone()).collect()
    }
}

/// A client for as long as its connection lives. Dropping it ends all its subscriptions.
pub struct Connected {
    hub: Hub,
    client: Arc<Client>,
}

impl Connected {
    pub(crate) fn new(hub: Hub, client: Arc<Client>) -> Connected {
        Connected { hub, client }
    }

    /// The client.
    #[must_use]
    pub fn client(&self) -> &Arc<Client> {
        &self.client
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.hub.gone(&self.client);
    }
}

type ByUser = HashMap<Arc<str>, Vec<Arc<Client>>>;

/// All clients of a node.
pub(crate) struct Clients {
    by_id: [Mutex<HashMap<Arc<str>, Arc<Client>>>; SHARDS],
    by_user: [Mutex<ByUser>; SHARDS],
    hasher: RandomState,
    next_number: AtomicU64,
}

impl Clients {
    pub(crate) fn new() -> Clients {
        Clients {
            by_id: std::array::from_fn(|_| Mutex::default()),
            by_user: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
            next_number: AtomicU64::new(1),
        }
    }

    fn shard(&self, name: &str) -> usize {
        shard_of(self.hasher.hash_one(name))
    }

    /// Adds a client, unless its user has `per_user_max` already. Anonymous ones are not counted.
    pub(crate) fn add(
        &self,
        spec: ClientSpec,
        connected_at: Timestamp,
        per_user_max: usize,
    ) -> Option<Arc<Client>> {
        let ClientSpec { info, kind, peer, outlet } = spec;
        let client = Arc::new(Client {
            number: self.next_number.fetch_add(1, Ordering::Relaxed),
            info,
            kind,
            peer,
            connected_at,
            outlet,
            subscriptions: Mutex::default(),
        });
        let user = &client.info.user;
        if !user.is_empty() {
            let mut users = self.by_user[self.shard(user)].lock();
            let of_user = users.entry(Arc::clone(user)).or_default();
            if of_user.len() >= per_user_max {
                return None;
            }
            of_user.push(Arc::clone(&client));
        }
        let id = &client.info.client;
        self.by_id[self.shard(id)].lock().insert(Arc::clone(id), Arc::clone(&client));
        Some(client)
    }

    pub(crate) fn remove(&self, client: &Client) {
        self.by_id[self.shard(&client.info.client)].lock().remove(&client.info.client);
        let user = &client.info.user;
        if !user.is_empty() {
            let mut users = self.by_user[self.shard(user)].lock();
            if let Some(of_user) = users.get_mut(user) {
                of_user.retain(|each| each.number != client.number);
                if of_user.is_empty() {
                    users.remove(user);
                }
            }
        }
    }

    pub(crate) fn get(&self, id: &str) -> Option<Arc<Client>> {
        self.by_id[self.shard(id)].lock().get(id).map(Arc::clone)
    }

    pub(crate) fn of_user(&self, user: &str) -> Vec<Arc<Client>> {
        self.by_user[self.shard(user)].lock().get(user).cloned().unwrap_or_default()
    }

    /// Connections, and users with a name among them.
    pub(crate) fn count(&self) -> (usize, usize) {
        let clients = self.by_id.iter().map(|shard| shard.lock().len()).sum();
        let users = self.by_user.iter().map(|shard| shard.lock().len()).sum();
        (clients, users)
    }

    /// The clients with ids above `after`, in order, at most `limit`.
    pub(crate) fn page(&self, after: Option<&str>, limit: usize) -> Vec<Arc<Client>> {
        let mut page: Vec<Arc<Client>> = Vec::new();
        for shard in &self.by_id {
            let shard = shard.lock();
            let clients = shard.values();
            page.extend(
                clients.filter(|c| after.is_none_or(|after| *c.info.client > *after)).cloned(),
            );
            drop(shard);
            // Keeps the memory of a page near its size, however many clients there are.
            if page.len() > limit {
                page.sort_unstable_by(|a, b| a.info.client.cmp(&b.info.client));
                page.truncate(limit);
            }
        }
        page.sort_unstable_by(|a, b| a.info.client.cmp(&b.info.client));
        page.truncate(limit);
        page
    }

    /// Everybody who is connected now.
    pub(crate) fn all(&self) -> Vec<Arc<Client>> {
        let mut all = Vec::new();
        for shard in &self.by_id {
            all.extend(shard.lock().values().cloned());
        }
        all
    }
}
