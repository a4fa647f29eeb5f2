//! The bus carries publications between nodes and keeps channel history.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::delivery::{
    ChannelName, Durability, Epoch, Membership, Offset, Position, Publication, PublicationMeta,
};

/// What can go wrong on the bus, split by what the caller does about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// Never retry: the publication is larger than the engine takes.
    #[error("the publication has {bytes} bytes, at most {max} are allowed")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// Retry after a pause: the engine or its storage does not answer or is full.
    #[error("the bus is unavailable: {reason}")]
    Unavailable {
        /// What the engine said, without secrets.
        reason: String,
    },
}

/// What the bus tells its node.
#[derive(Clone, Debug)]
pub enum BusEvent {
    /// A channel this node is interested in got a publication. In offset order per channel.
    Publication(ChannelName, Arc<Publication>),
    /// Something was missed; the hub reads the history.
    Gap(ChannelName),
    /// Somebody entered or left a channel this node is interested in. What does not get through is lost.
    Membership(ChannelName, Arc<Membership>),
}

/// Something to publish.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Post {
    /// The body.
    pub data: Bytes,
    /// What travels with it.
    pub meta: Option<Arc<PublicationMeta>>,
    /// The same key within the window publishes once.
    pub key: Option<Arc<str>>,
    /// Deliver it without keeping it, even where the namespace keeps history. It gets no offset.
    pub skip_history: bool,
}

impl Post {
    /// A body and nothing else.
    #[must_use]
    pub fn new(data: impl Into<Bytes>) -> Post {
        Post { data: data.into(), ..Post::default() }
    }

    /// The same with an idempotency key.
    #[must_use]
    pub fn with_key(self, key: impl Into<Arc<str>>) -> Post {
        Post { key: Some(key.into()), ..self }
    }

    /// About how many bytes it holds.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.data.len() + self.meta.as_ref().map_or(0, |meta| meta.size_bytes())
    }
}

/// What a namespace keeps of its channels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceOptions {
    /// Publications kept a channel; 0 keeps none.
    pub history_size: usize,
    /// How long each is kept; zero means no limit in time.
    pub history_ttl: Duration,
    /// What an acknowledgement promises.
    pub durability: Durability,
}

impl Default for NamespaceOptions {
    fn default() -> NamespaceOptions {
        NamespaceOptions {
            history_size: 0,
            history_ttl: Duration::ZERO,
            durability: Durability::Disk,
        }
    }
}

/// What to read of a channel's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryQuery {
    /// Only what came after this position; `None` reads from the oldest kept.
    pub since: Option<Position>,
    /// At most so many, oldest first; 0 asks for the top position only.
    pub limit: usize,
}

/// A part of a channel's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryPage {
    /// Oldest first.
    pub publications: Vec<Arc<Publication>>,
    /// The newest position of the channel.
    pub top: Position,
    /// Whether nothing between `since` and the first publication is missing: the epoch is the same
    /// and no needed publication was trimmed.
    pub complete: bool,
}

/// Carries publications. What arrives comes out of the receiver that the adapter's `connect` returns.
///
/// Every adapter passes `testkit::bus_contract`.
#[async_trait]
pub trait Bus: Send + Sync + 'static {
    /// Appends to the history (when the namespace keeps any), assigns the offset and delivers to every
    /// interested node, as one step. The same `key` within the window returns the first position and
    /// publishes nothing. In a channel with history a version that does not follow the newest one publishes
    /// nothing either, and returns where the channel stands. `Ok` means it is kept as the namespace's durability says.
    async fn publish(&self, channel: &ChannelName, post: Post) -> Result<Position, BusError>;

    /// Tells every interested node that somebody entered or left, in the order of the calls. Never
    /// waits. At most once: nothing is kept, and a node that cannot take it now never gets it.
    fn announce(&self, channel: &ChannelName, membership: Arc<Membership>);

    /// This node wants the channel's publications. Idempotent.
    async fn subscribe(&self, channel: &ChannelName) -> Result<(), BusError>;

    /// This node no longer wants them. Idempotent.
    async fn unsubscribe(&self, channel: &ChannelName) -> Result<(), BusError>;

    /// Reads history.
    async fn history(
        &self,
        channel: &ChannelName,
        query: HistoryQuery,
    ) -> Result<HistoryPage, BusError>;

    /// Forgets the kept publications. The channel's position stays as it is.
    async fn remove_history(&self, channel: &ChannelName) -> Result<(), BusError>;

    /// What the channel's namespace keeps.
    fn namespace(&self, channel: &ChannelName) -> NamespaceOptions;

    /// The largest publication this engine takes, in bytes, its meta included.
    fn data_bytes_max(&self) -> usize;
}

/// Where the in-process bus keeps the history of namespaces that outlive the process.
#[async_trait]
pub trait History: Send + Sync + 'static {
    /// Keeps publications of any channels, in order, all or none, as durable as asked; and forgets, in
    /// the same transaction, those of the channels in `forget` up to and including the offset.
    async fn append(
        &self,
        publications: &[(ChannelName, Arc<Publication>)],
        forget: &[(ChannelName, Offset)],
        durability: Durability,
    ) -> Result<(), super::StoreError>;

    /// A channel's epoch and kept publications with offsets above `after`, oldest first, at most
    /// `limit`; the top offset even if nothing is kept. `None` if the channel was never kept.
    async fn load(
        &self,
        channel: &ChannelName,
        after: Offset,
        limit: usize,
    ) -> Result<Option<(Epoch, Offset, Vec<Arc<Publication>>)>, super::StoreError>;

    /// The epoch of channels that nothing was kept of yet, the same for the whole life of the store:
    /// `proposed` when it is asked for the first time. So whoever waits for the first publication of a
    /// channel has a position that outlives the process.
    async fn first_epoch(&self, proposed: Epoch) -> Result<Epoch, super::StoreError>;

    /// Forgets publications of the channel up to and including `up_to`. The top offset stays known.
    async fn trim(&self, channel: &ChannelName, up_to: Offset) -> Result<(), super::StoreError>;
}
