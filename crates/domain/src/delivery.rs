//! Channels, positions and deliveries: what flows through the hub.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::channel::ChannelParts;
use crate::clock::Timestamp;
use crate::phone::PhoneReply;

/// A valid channel name: 1 to 255 bytes of UTF-8 without control characters. What stands before the
/// first `:` is its namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelName(Arc<str>);

impl ChannelName {
    /// The longest name, in bytes.
    pub const LEN_BYTES_MAX: usize = 255;

    /// The only way in, so whoever holds a `ChannelName` need not check again.
    pub fn parse(raw: &str) -> Result<ChannelName, crate::ids::NameError> {
        use crate::ids::NameError;
        if raw.is_empty() {
            return Err(NameError::Empty);
        }
        if raw.len() > Self::LEN_BYTES_MAX {
            return Err(NameError::TooLong { bytes: raw.len(), max: Self::LEN_BYTES_MAX });
        }
        if raw.chars().any(char::is_control) {
            return Err(NameError::ControlCharacter);
        }
        Ok(ChannelName(Arc::from(raw)))
    }

    /// The whole name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part before the first `:`, or `""` for the default namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        ChannelParts::of(&self.0).namespace.unwrap_or("")
    }
}

impl fmt::Display for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which life of a stream an offset belongs to. It changes when history was lost, so that an old
/// offset can never be mistaken for a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch(pub u64);

/// The form in which clients get it: an opaque word for them.
impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl Epoch {
    /// What [`Epoch`]'s `Display` wrote. `None` for what it never writes.
    #[must_use]
    pub fn parse(raw: &str) -> Option<Epoch> {
        let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if raw.is_empty() || raw.len() > 16 || !raw.bytes().all(is_hex) {
            return None;
        }
        u64::from_str_radix(raw, 16).ok().map(Epoch)
    }
}

/// The number of a publication in its stream. The first has offset 1; 0 means "before the first".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Offset(pub u64);

impl Offset {
    /// The one after this.
    #[must_use]
    pub fn next(self) -> Offset {
        Offset(self.0 + 1)
    }
}

/// A place in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// The stream's life.
    pub epoch: Epoch,
    /// The last publication that was seen.
    pub offset: Offset,
}

/// What is kept when an acknowledgement goes out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Durability {
    /// In this process: lost when it dies.
    Memory,
    /// Written to the operating system: survives the death of the process.
    Os,
    /// Forced to the disk (group commit): survives the loss of power.
    #[default]
    Disk,
}

impl Durability {
    /// The name in configuration and docs.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Durability::Memory => "memory",
            Durability::Os => "os",
            Durability::Disk => "disk",
        }
    }
}

/// Who stands behind a connection, as the other members of a channel see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartyInfo {
    /// The user; empty for an anonymous one.
    pub user: Arc<str>,
    /// The connection's own id, unique in the cluster.
    pub client: Arc<str>,
    /// What the application says about the connection, usually JSON; empty if nothing.
    pub conn_info: Bytes,
    /// What the application says about the party in this channel; empty if nothing.
    pub chan_info: Bytes,
}

/// The publisher's own count of what it says in a channel, so that what overtook something newer on its way
/// is not published behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Grows with each publication.
    pub number: u64,
    /// Versions of different epochs are not compared; often empty.
    pub epoch: Box<str>,
}

impl Version {
    /// Whether this one may follow `last`.
    #[must_use]
    pub fn follows(&self, last: &Version) -> bool {
        self.epoch != last.epoch || self.number > last.number
    }
}

/// What travels with a publication besides its body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublicationMeta {
    /// Who published it, if that was a connected party.
    pub publisher: Option<PartyInfo>,
    /// Names and values from the publisher, such as `content-type`; in its order.
    pub tags: Vec<(Box<str>, Box<str>)>,
    /// Subscribers who agreed to it may get the difference to the publication before.
    pub is_delta: bool,
    /// Its version, if the publisher counts.
    pub version: Option<Version>,
}

impl PublicationMeta {
    /// The value of a tag.
    #[must_use]
    pub fn tag(&self, name: &str) -> Option<&str> {
        self.tags.iter().find(|(key, _)| **key == *name).map(|(_, value)| &**value)
    }

    /// About how many bytes it holds.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        let tags: usize = self.tags.iter().map(|(name, value)| name.len() + value.len()).sum();
        let publisher = self.publisher.as_ref().map_or(0, |party| {
            party.user.len() + party.client.len() + party.conn_info.len() + party.chan_info.len()
        });
        let version = self.version.as_ref().map_or(0, |version| version.epoch.len());
        tags + publisher + version
    }
}

/// One message of a channel. Shared, never changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// Where it stands in the channel; offset 0 when the channel keeps no history.
    pub position: Position,
    /// The body as it was published.
    pub data: Bytes,
    /// Who published it and with which tags; absent if there is nothing to say.
    pub meta: Option<Arc<PublicationMeta>>,
    /// When the bus took it.
    pub at: Timestamp,
    /// The idempotency key of the publisher, if it gave one.
    pub key: Option<Arc<str>>,
}

impl Publication {
    /// Its version, if the publisher counts.
    #[must_use]
    pub fn version(&self) -> Option<&Version> {
        self.meta.as_ref()?.version.as_ref()
    }

    /// About how many bytes it holds.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.data.len() + self.meta.as_ref().map_or(0, |meta| meta.size_bytes())
    }
}

/// Somebody entered or left a channel. Told at most once, never kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// Entered, or left.
    pub has_joined: bool,
    /// Who.
    pub party: PartyInfo,
}

/// What the hub may do with a delivery when its reader is slow.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DeliveryClass {
    /// Numbered, retained, replayed on resume.
    Reliable,
    /// A newer one with the same key replaces a queued older one.
    Latest(Arc<str>),
    /// Never retained; dropped when the reader is slow.
    Volatile,
}

/// What is delivered. Encoding belongs to the gateway.
#[derive(Clone, Debug)]
pub enum DeliveryBody {
    /// A reply for a phone.
    Phone(Arc<PhoneReply>),
    /// From the stream's offsets `from` to `to` (inclusive) nothing can be delivered any more.
    Gap {
        /// The first offset that is missing.
        from: Offset,
        /// The last offset that is missing.
        to: Offset,
    },
}

impl DeliveryBody {
    /// About how many bytes it holds, for the bounds of mailboxes.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        match self {
            DeliveryBody::Phone(reply) => reply.size_bytes(),
            DeliveryBody::Gap { .. } => 16,
        }
    }
}

/// One item of a session's stream.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Its number in the session's stream for the reliable class; 0 for the others.
    pub offset: Offset,
    /// What may happen to it when the reader is slow.
    pub class: DeliveryClass,
    /// What it is.
    pub body: DeliveryBody,
}
