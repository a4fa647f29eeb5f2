//! Frames of a server to bytes: one allocation each, of exactly the size they need.
//!
//! `content-length` is always there, so that a body may hold NULs and a reader need not search.
//!
//! # Sharing a delivery
//!
//! The MESSAGE frames of one publication differ in their first lines only:
//!
//! ```text
//! MESSAGE subscription:sub-0                        per subscription: `encode_message_start`
//! message-id… destination… position… body NUL       per version: `encode_message_tail`
//! ```
//!
//! So a fan-out encodes the tail once per version that listens, and keeps the `Bytes` beside the
//! publication; the start is encoded once per subscription, when it is made. A delivery is then the two
//! slices one after the other, in one vectored write or appended to what waits already, with no
//! allocation at all. Where a single `Bytes` is wanted, [`encode_message`] makes one; most clients call
//! their first subscription the same (`sub-0`), so that it may be kept and shared by (version, id).
//!
//! Deliveries that must be acknowledged carry an id of their own and cannot be shared whole.

use bytes::Bytes;

use super::escape::{Escapes, Part, escape};
use super::session::AckId;
use super::{Command, HeartBeat, Version};

/// In 1.0 and 1.1 this stands between the id of a message and the id to acknowledge it by.
pub const ACK_ID_MARK: char = '~';

/// One publication as subscribers see it.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// The same for all subscribers, and for every time it is delivered.
    pub message_id: &'a str,
    /// Where it was sent to.
    pub destination: &'a str,
    /// What its body is, if the sender said so.
    pub content_type: Option<&'a str>,
    /// Everything else, such as `position` and the sender's own headers. What stands above cannot be
    /// changed here: readers take the first header of a name.
    pub headers: &'a [(&'a str, &'a str)],
    /// Any bytes.
    pub body: &'a [u8],
}

/// The answer to CONNECT.
#[derive(Clone, Copy, Debug)]
pub struct Connected<'a> {
    /// What was negotiated.
    pub version: Version,
    /// What we do and want; 1.0 has no heart-beats, so that it is left out there.
    pub heart_beat: HeartBeat,
    /// The id of the session.
    pub session: &'a str,
    /// Name and version of the server, `name/version`.
    pub server: &'a str,
    /// Whatever else there is to say.
    pub headers: &'a [(&'a str, &'a str)],
}

/// What went wrong, for the client's log. The connection ends behind it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorFrame {
    /// One short line.
    pub message: String,
    /// The stable name of the mistake, from the table in `docs/protocols/stomp.md`.
    pub code: &'static str,
    /// The `receipt` of the frame that was at fault.
    pub receipt_id: Option<Box<str>>,
    /// The versions we speak, when none of the client's is among them.
    pub version: Option<&'static str>,
    /// What to do about it.
    pub body: String,
}

/// Where a frame goes: first to a counter, then to memory of that size.
trait Sink {
    fn put(&mut self, bytes: &[u8]);
}

impl Sink for usize {
    fn put(&mut self, bytes: &[u8]) {
        *self += bytes.len();
    }
}

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Runs `write` twice, so that the one allocation is exact.
macro_rules! exactly {
    (|$sink:ident| $write:expr) => {{
        let mut size = 0_usize;
        {
            let $sink = &mut size;
            $write;
        }
        let mut bytes = Vec::with_capacity(size);
        {
            let $sink = &mut bytes;
            $write;
        }
        debug_assert_eq!(bytes.len(), size);
        bytes
    }};
}

fn put_line(sink: &mut impl Sink, name: &str, value: &str, escapes: Escapes) {
    escape(name, Part::Name, escapes, |bytes| sink.put(bytes));
    sink.put(b":");
    escape(value, Part::Value, escapes, |bytes| sink.put(bytes));
    sink.put(b"\n");
}

fn put_number(sink: &mut impl Sink, mut number: u64) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b"0123456789"[(number % 10) as usize];
        number /= 10;
        if number == 0 {
            break;
        }
    }
    sink.put(&digits[at..]);
}

fn put_body(sink: &mut impl Sink, body: &[u8]) {
    sink.put(b"content-length:");
    put_number(sink, body.len() as u64);
    sink.put(b"\n\n");
    sink.put(body);
    sink.put(b"\0");
}

fn put_headers(sink: &mut impl Sink, headers: &[(&str, &str)], escapes: Escapes) {
    for (name, value) in headers {
        // A line that begins with its colon is an error to every reader.
        if !name.is_empty() {
            put_line(sink, name, value, escapes);
        }
    }
}

fn put_ack_id(sink: &mut impl Sink, ack: AckId) {
    put_number(sink, ack.subscription.0.into());
    sink.put(b"-");
    put_number(sink, ack.number);
}

fn put_message_start(sink: &mut impl Sink, subscription: Option<&str>, escapes: Escapes) {
    sink.put(b"MESSAGE\n");
    if let Some(id) = subscription {
        put_line(sink, "subscription", id, escapes);
    }
}

fn put_message_id(
    sink: &mut impl Sink,
    version: Version,
    message_id: &str,
    ack: Option<AckId>,
    escapes: Escapes,
) {
    if let (Some(ack), Version::V1_2) = (ack, version) {
        sink.put(b"ack:");
        put_ack_id(sink, ack);
        sink.put(b"\n");
    }
    sink.put(b"message-id:");
    escape(message_id, Part::Value, escapes, |bytes| sink.put(bytes));
    if let (Some(ack), Version::V1_0 | Version::V1_1) = (ack, version) {
        let mut mark = [0; 4];
        sink.put(ACK_ID_MARK.encode_utf8(&mut mark).as_bytes());
        put_ack_id(sink, ack);
    }
    sink.put(b"\n");
}

fn put_message_rest(sink: &mut impl Sink, message: &Message<'_>, escapes: Escapes) {
    put_line(sink, "destination", message.destination, escapes);
    if let Some(content_type) = message.content_type {
        put_line(sink, "content-type", content_type, escapes);
    }
    // `put_body` ends the headers; what the sender wrote must stand before its content-length, and a
    // content-length among it must not count.
    for (name, value) in message.headers {
        if !name.is_empty() && *name != "content-length" {
            put_line(sink, name, value, escapes);
        }
    }
    put_body(sink, message.body);
}

fn message_escapes(version: Version) -> Escapes {
    Escapes::of(Command::Message, Some(version))
}

/// The beginning of the MESSAGE frames of one subscription; [`encode_message_tail`] follows it.
/// Without an id (1.0 only) there is no `subscription` header.
#[must_use]
pub fn encode_message_start(version: Version, subscription: Option<&str>) -> Box<[u8]> {
    let escapes = message_escapes(version);
    exactly!(|sink| put_message_start(sink, subscription, escapes)).into_boxed_slice()
}

/// Everything of a MESSAGE frame that is the same for all subscriptions of a version that need not
/// acknowledge.
#[must_use]
pub fn encode_message_tail(version: Version, message: &Message<'_>) -> Bytes {
    let escapes = message_escapes(version);
    let tail = exactly!(|sink| {
        put_message_id(sink, version, message.message_id, None, escapes);
        put_message_rest(sink, message, escapes);
    });
    Bytes::from(tail)
}

/// A whole MESSAGE frame for one subscription. `ack` is what the session said when it took the
/// delivery: in 1.2 it becomes the `ack` header, before that it is appended to the `message-id`.
#[must_use]
pub fn encode_message(
    version: Version,
    subscription: Option<&str>,
    ack: Option<AckId>,
    message: &Message<'_>,
) -> Bytes {
    let escapes = message_escapes(version);
    let frame = exactly!(|sink| {
        put_message_start(sink, subscription, escapes);
        put_message_id(sink, version, message.message_id, ack, escapes);
        put_message_rest(sink, message, escapes);
    });
    Bytes::from(frame)
}

/// A CONNECTED frame.
#[must_use]
pub fn encode_connected(connected: &Connected<'_>) -> Bytes {
    let heart_beat = connected.heart_beat.to_string();
    let frame = exactly!(|sink| {
        sink.put(b"CONNECTED\n");
        put_line(sink, "version", connected.version.name(), Escapes::None);
        if connected.version > Version::V1_0 {
            put_line(sink, "heart-beat", &heart_beat, Escapes::None);
        }
        put_line(sink, "session", connected.session, Escapes::None);
        put_line(sink, "server", connected.server, Escapes::None);
        put_headers(sink, connected.headers, Escapes::None);
        sink.put(b"\n\0");
    });
    Bytes::from(frame)
}

/// A RECEIPT frame. `headers` is for what the server found out, such as whether a subscription
/// recovered.
#[must_use]
pub fn encode_receipt(version: Version, receipt_id: &str, headers: &[(&str, &str)]) -> Bytes {
    let escapes = Escapes::of(Command::Receipt, Some(version));
    let frame = exactly!(|sink| {
        sink.put(b"RECEIPT\n");
        put_line(sink, "receipt-id", receipt_id, escapes);
        put_headers(sink, headers, escapes);
        sink.put(b"\n\0");
    });
    Bytes::from(frame)
}

/// An ERROR frame. Before a version is negotiated, `None`: nothing is escaped then.
#[must_use]
pub fn encode_error(version: Option<Version>, error: &ErrorFrame) -> Bytes {
    let escapes = Escapes::of(Command::Error, version);
    let frame = exactly!(|sink| {
        sink.put(b"ERROR\n");
        put_line(sink, "message", &error.message, escapes);
        if !error.code.is_empty() {
            put_line(sink, "code", error.code, escapes);
        }
        if let Some(receipt_id) = &error.receipt_id {
            put_line(sink, "receipt-id", receipt_id, escapes);
        }
        if let Some(version) = error.version {
            put_line(sink, "version", version, escapes);
        }
        put_line(sink, "content-type", "text/plain", escapes);
        put_body(sink, error.body.as_bytes());
    });
    Bytes::from(frame)
}

/// A frame of a client, for tests and tools. A body brings its `content-length`.
#[must_use]
pub fn encode_client_frame(
    version: Version,
    command: Command,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Bytes {
    let escapes = Escapes::of(command, Some(version));
    let frame = exactly!(|sink| {
        sink.put(command.name().as_bytes());
        sink.put(b"\n");
        put_headers(sink, headers, escapes);
        if body.is_empty() {
            sink.put(b"\n\0");
        } else {
            put_body(sink, body);
        }
    });
    Bytes::from(frame)
}
