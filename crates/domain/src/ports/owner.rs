//! Namespaces that mean something inside the server: who answers for their channels.

use async_trait::async_trait;

use super::Post;
use crate::delivery::{ChannelName, PartyInfo};

/// Why an owner does not do what it was asked for, split by what the asker does about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OwnerError {
    /// Never retry: nothing of the kind is there.
    #[error("there is no such {what}")]
    NotFound {
        /// What was looked for, such as `room`.
        what: &'static str,
    },
    /// In vain until somebody else changes something.
    #[error("{reason}")]
    Forbidden {
        /// For people.
        reason: String,
    },
    /// Never retry: what was said cannot be used.
    #[error("{reason}")]
    Invalid {
        /// What is wrong and where.
        reason: String,
    },
    /// Retry after a pause.
    #[error("{reason}")]
    Unavailable {
        /// Why, without secrets.
        reason: String,
    },
}

/// A part of the server that a namespace belongs to. The rights of whoever asks were looked at before;
/// an owner says what a channel is and what becomes of what is said there.
///
/// Its own publications go to the bus directly. What clients publish goes to the owner instead, whatever
/// protocol they speak.
#[async_trait]
pub trait ChannelOwner: Send + Sync + 'static {
    /// Somebody is about to subscribe; an error keeps it out. Called again when a subscription begins
    /// anew.
    async fn admit(&self, channel: &ChannelName, party: &PartyInfo) -> Result<(), OwnerError>;

    /// Takes what was published in place of the bus. `Ok` means kept as durably as the owner promises;
    /// the same key with the same channel takes effect once.
    async fn take(&self, channel: &ChannelName, post: Post) -> Result<(), OwnerError>;
}
