//! Publishing, and the namespaces that belong to a part of the server: what is published there goes to
//! the owner instead of the bus, whoever published it. What the owners are is none of the hub's business.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use naru_domain::ports::{BusError, ChannelOwner, OwnerError, Post};
use naru_domain::{ChannelName, Epoch, Offset, PartyInfo, Position};
use parking_lot::RwLock;

use crate::hub::Hub;

/// Why something was not published.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The bus did not take it.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The channel belongs to somebody who did not take it.
    #[error(transparent)]
    Owner(#[from] OwnerError),
}

/// Whom namespaces belong to. There are few of them.
#[derive(Default)]
pub(crate) struct Owners(RwLock<Vec<Owned>>);

/// A namespace and its owner.
type Owned = (Box<str>, Arc<dyn ChannelOwner>);

impl Owners {
    fn of(&self, channel: &ChannelName) -> Option<Arc<dyn ChannelOwner>> {
        let owners = self.0.read();
        if owners.is_empty() {
            return None;
        }
        let namespace = channel.namespace();
        let owner = owners.iter().find(|(owned, _)| **owned == *namespace);
        owner.map(|(_, owner)| Arc::clone(owner))
    }
}

impl Hub {
    /// From now on the namespace belongs to `owner`, in place of whom it belonged to before.
    pub fn set_owner(&self, namespace: &str, owner: Arc<dyn ChannelOwner>) {
        let mut owners = self.inner.owners.0.write();
        owners.retain(|(owned, _)| **owned != *namespace);
        owners.push((namespace.into(), owner));
    }

    /// Whether the channel belongs to a part of the server.
    #[must_use]
    pub fn is_owned(&self, channel: &ChannelName) -> bool {
        self.inner.owners.of(channel).is_some()
    }

    /// Publishes for somebody: on the bus (see [`naru_domain::ports::Bus::publish`]), or by handing it to
    /// whom the channel belongs. What an owner took has no position: its offset is 0.
    pub async fn publish(
        &self,
        channel: &ChannelName,
        post: Post,
    ) -> Result<Position, PublishError> {
        match self.inner.owners.of(channel) {
            None => Ok(self.publish_as_owner(channel, post).await?),
            Some(owner) => {
                owner.take(channel, post).await?;
                self.inner.metrics.owner_posts.increment();
                Ok(Position { epoch: Epoch(0), offset: Offset(0) })
            }
        }
    }

    /// Publishes on the bus, whomever the channel belongs to: for the owner itself.
    pub async fn publish_as_owner(
        &self,
        channel: &ChannelName,
        post: Post,
    ) -> Result<Position, BusError> {
        self.inner.bus.publish(channel, post).await
    }

    /// Whether somebody on this node is subscribed to the channel, or about to be. Quick, for those who
    /// would not publish otherwise.
    #[must_use]
    pub fn has_listeners(&self, channel: &ChannelName) -> bool {
        self.inner.channels.has(channel)
    }

    /// Asks whom the channel belongs to, if anybody, whether the party may subscribe.
    pub(crate) async fn ask_owner(
        &self,
        channel: &ChannelName,
        party: &PartyInfo,
    ) -> Result<(), OwnerError> {
        match self.inner.owners.of(channel) {
            None => Ok(()),
            Some(owner) => owner.admit(channel, party).await,
        }
    }
}
