//! What a connection that is subscribed to channels offers the hub, and the encodings of one publication
//! that its subscribers share. It knows no wire protocol: kinds and variants are the gateway's.

use std::cell::RefCell;
use std::sync::Arc;

use bytes::Bytes;
use naru_domain::{ChannelName, CloseReason, Membership, Publication, Timestamp};

/// Different encodings that one publication is kept in while it is fanned out; further ones are made for
/// each subscriber (guessed: a few protocols, versions and subscription ids cover nearly all).
const ENCODINGS_MAX: usize = 32;

/// The outgoing side of one connection. Every method returns at once.
pub trait Outlet: Send + Sync + 'static {
    /// Queues one publication. Called in the order of the channel, with the channel locked.
    fn publication(&self, event: &Event<'_>, mark: &mut Mark) -> Taken;

    /// Queues the news that somebody entered or left.
    fn membership(&self, channel: &ChannelName, membership: &Membership, mark: &Mark) -> Taken;

    /// The subscription has ended without the client's asking. Tells the client, whatever is queued.
    fn cut(&self, channel: &ChannelName, mark: &Mark, cut: &Cut);

    /// A server-side subscription has begun.
    fn entered(&self, channel: &ChannelName, subscribed: &crate::Subscribed, is_recoverable: bool);

    /// What [`Mark::bits`] has to be for a subscription that the server begins; `None` if the protocol has
    /// no such thing.
    fn server_side_bits(&self) -> Option<u32>;

    /// The client's credentials run out then, or not at all. A protocol where they do not ignores it.
    fn expires(&self, _at: Option<Timestamp>) {}

    /// A message for this client alone.
    fn message(&self, data: &Bytes);

    /// Writes what is queued as far as the socket takes it now, and sees to it that the rest follows.
    fn flush(&self);

    /// Ends the connection.
    fn close(&self, ending: &Ending);
}

/// What became of something offered to an outlet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Taken {
    /// Queued behind something that is to be flushed anyway.
    Queued,
    /// Queued, and the caller has to see to a flush.
    FlushDue,
    /// Not queued: the reader is too slow.
    Full,
    /// Not queued, and nothing is wrong: it does not concern this subscriber, or its connection ends.
    Skipped,
}

/// What a gateway keeps for each subscription, in the channel's list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// Told apart in encodings, such as the id of a STOMP subscription.
    pub variant: Option<Arc<str>>,
    /// Whatever the gateway needs.
    pub bits: u32,
}

/// Which publications of a channel a subscriber wants. Asked with the channel locked, so it must be quick.
#[derive(Clone)]
pub struct Filter(Arc<dyn Fn(&Publication) -> bool + Send + Sync>);

impl Filter {
    /// A filter that `wants` decides for.
    pub fn new(wants: impl Fn(&Publication) -> bool + Send + Sync + 'static) -> Filter {
        Filter(Arc::new(wants))
    }

    /// Whether the subscriber is to get it.
    #[must_use]
    pub fn passes(&self, publication: &Publication) -> bool {
        (self.0)(publication)
    }
}

impl std::fmt::Debug for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Filter").finish_non_exhaustive()
    }
}

/// Why a subscription ended without the client's asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Publications are missing that no history has: the client has to start from a known state.
    InsufficientState,
    /// The reader was too slow; what it missed is in history.
    Slow,
    /// Its right to it has run out.
    Expired,
    /// Somebody with the right ended it, with a code and a reason of theirs.
    Ordered {
        /// The protocol's code.
        code: u32,
        /// For people.
        reason: Arc<str>,
    },
}

/// How a connection is ended from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Why.
    pub reason: CloseReason,
    /// A code and a reason for the client that replace those of the protocol.
    pub advice: Option<(u32, Arc<str>)>,
}

impl From<CloseReason> for Ending {
    fn from(reason: CloseReason) -> Ending {
        Ending { reason, advice: None }
    }
}

/// One publication on its way to the subscribers of this node.
pub struct Event<'a> {
    /// The channel.
    pub channel: &'a ChannelName,
    /// What was published.
    pub publication: &'a Arc<Publication>,
    /// The publication before it, if it is known. All who follow live have it, but those with a filter.
    pub previous: Option<&'a Arc<Publication>>,
    encodings: RefCell<Vec<Encoding>>,
}

struct Encoding {
    kind: u8,
    variant: Option<Arc<str>>,
    /// `None` if it cannot be said in this encoding.
    frame: Option<Bytes>,
}

impl<'a> Event<'a> {
    /// A publication that nobody has encoded yet.
    #[must_use]
    pub fn new(
        channel: &'a ChannelName,
        publication: &'a Arc<Publication>,
        previous: Option<&'a Arc<Publication>>,
    ) -> Event<'a> {
        Event { channel, publication, previous, encodings: RefCell::default() }
    }

    /// The frame for this kind of connection and variant: what another subscriber had made before, or
    /// what `encode` makes. `None` if it cannot be said in this encoding.
    pub fn encoded(
        &self,
        kind: u8,
        variant: Option<&Arc<str>>,
        encode: impl FnOnce() -> Option<Bytes>,
    ) -> Option<Bytes> {
        let mut encodings = self.encodings.borrow_mut();
        let known = encodings
            .iter()
            .find(|known| known.kind == kind && same(known.variant.as_ref(), variant));
        if let Some(known) = known {
            return known.frame.clone();
        }
        let frame = encode();
        if encodings.len() < ENCODINGS_MAX {
            encodings.push(Encoding { kind, variant: variant.cloned(), frame: frame.clone() });
        }
        frame
    }
}

fn same(one: Option<&Arc<str>>, other: Option<&Arc<str>>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => Arc::ptr_eq(one, other) || one == other,
        _ => false,
    }
}
