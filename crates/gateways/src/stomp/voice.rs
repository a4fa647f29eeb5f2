//! How a publication is said to one kind of STOMP subscriber. Pure functions over what the hub delivers.

use bytes::Bytes;
use naru_domain::{ChannelName, Publication};
use naru_wire::stomp::session::AckId;
use naru_wire::stomp::{Message, Version, encode_message, position_text};

use super::link::wrap;
use super::names::Class;

/// Where this gateway's kinds of encodings begin; other gateways have others.
const KIND_BASE: u8 = 16;
/// The kind under which the id of a message without a position is kept.
pub(super) const ID_KIND: u8 = KIND_BASE + 18;

/// Names that are the server's to write: a publisher's tag of that name is not shown.
const RESERVED: [&str; 14] = [
    "ack",
    "content-length",
    "content-type",
    "delivery-count",
    "destination",
    "gap",
    "message-id",
    "position",
    "receipt",
    "receipt-id",
    "recovered",
    "redelivered",
    "subscription",
    "transaction",
];

/// What a connection speaks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Voice {
    pub(super) version: Version,
    pub(super) is_ws: bool,
}

/// What is said of one delivery besides the publication.
#[derive(Clone, Copy, Default)]
pub(super) struct Aside<'a> {
    pub(super) subscription: Option<&'a str>,
    pub(super) ack: Option<AckId>,
    /// For a publication without a position.
    pub(super) message_id: &'a str,
    /// Further headers, before those of the publisher.
    pub(super) headers: &'a [(&'a str, &'a str)],
}

impl Voice {
    /// The kind of frames that all who speak so can share, as the hub tells them apart.
    pub(super) fn kind(self, class: Class) -> u8 {
        let version = match self.version {
            Version::V1_0 => 0,
            Version::V1_1 => 1,
            Version::V1_2 => 2,
        };
        let class = match class {
            Class::Topic => 0,
            Class::User => 1,
            Class::Temp => 2,
        };
        KIND_BASE + version + 3 * u8::from(self.is_ws) + 6 * class
    }

    /// A MESSAGE frame, as it goes over the link.
    pub(super) fn message(
        self,
        class: Class,
        channel: &ChannelName,
        publication: &Publication,
        aside: Aside<'_>,
    ) -> Bytes {
        self.message_to(&class.destination(channel), publication, aside)
    }

    /// The same with the destination at hand.
    pub(super) fn message_to(
        self,
        destination: &str,
        publication: &Publication,
        aside: Aside<'_>,
    ) -> Bytes {
        let position = publication.position;
        let has_position = position.offset.0 > 0;
        let position = if has_position { position_text(position) } else { String::new() };
        let mut headers: Vec<(&str, &str)> = Vec::with_capacity(8);
        if has_position {
            headers.push(("position", &position));
        }
        headers.extend(aside.headers);
        let meta = publication.meta.as_deref();
        let tags = meta.iter().flat_map(|meta| &meta.tags).map(|(name, value)| (&**name, &**value));
        headers.extend(tags.filter(|(name, _)| is_free(name)));
        let message = Message {
            message_id: if has_position { &position } else { aside.message_id },
            destination,
            content_type: meta.and_then(|meta| meta.tag("content-type")),
            headers: &headers,
            body: &publication.data,
        };
        let frame = encode_message(self.version, aside.subscription, aside.ack, &message);
        wrap(self.is_ws, frame)
    }
}

/// Whether a publisher may write a header of this name.
fn is_free(name: &str) -> bool {
    !RESERVED.iter().any(|reserved| name.eq_ignore_ascii_case(reserved))
}
