//! Writes frames for phones, in the dialect of each.
//!
//! Every frame is whole, ends with one LF and holds no other CR or LF; raw parts are base64, so they
//! hold no `}` either, by whose last occurrence phones find the end of the JSON. Frames are padded
//! with blanks before the last `}` of their JSON, because two scripts drop short ones.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use naru_domain::phone::MediaKind;
use naru_domain::{Dialect, MediaItem, PhoneReply, ReplyBody, Timestamp};

use super::text::{
    push_integer, push_iso_timestamp, push_json_escaped, push_json_string, utf16_units_of,
};

/// To how many UTF-16 units frames are padded: 3.3.0-a1 drops lines below 500, some 3.2.x those
/// below 200. Pass 0 as `pad_to` to pad nothing.
pub const FRAME_PAD_UNITS: usize = 512;

/// Stands before a text that a json phone would take for media. A zero-width space: KakaoTalk shows
/// nothing, and JavaScript's `trim` leaves it alone.
pub const TEXT_GUARD: char = '\u{200B}';

const IMAGE_PREFIX: &str = "IMAGE_BASE64:";
const LINK_PREFIX: &str = "MEDIA_URL:";
const SEPARATOR: &str = "|||";

/// The answer to a hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Welcome<'a> {
    /// False makes the phone close and come back every 4 s.
    pub success: bool,
    /// Whether the phone will be answered; it only logs this.
    pub approved: bool,
    /// For the phone's log.
    pub message: &'a str,
    /// For the phone's log.
    pub server_version: &'a str,
    /// Now, which the raw dialect carries.
    pub now: Timestamp,
}

/// Why a reply cannot be written in a dialect. Nothing was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// Neither text nor an item: a phone would do nothing.
    #[error("the reply is empty")]
    Empty,
    /// This phone takes pictures only as data: fetch the link and try again with its bytes.
    #[error("this phone takes no links")]
    NeedsBytes,
    /// Phones store data as a picture, whatever it is: other media must be links.
    #[error("data can only be pictures")]
    NeedsLink,
    /// This phone can show pictures only.
    #[error("this phone shows only pictures")]
    ImagesOnly,
    /// A link that is not `http…`, which the phone would take for one of its own files, or that
    /// holds a separator or makes one with what follows it.
    #[error("the link is not one a phone can fetch")]
    BadLink,
    /// The items need more than one frame: use [`split_media`] first.
    #[error("these items need several frames")]
    NeedsSplit,
}

impl EncodeError {
    /// The stable name for metrics and logs.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            EncodeError::Empty => "empty",
            EncodeError::NeedsBytes => "needs_bytes",
            EncodeError::NeedsLink => "needs_link",
            EncodeError::ImagesOnly => "images_only",
            EncodeError::BadLink => "bad_link",
            EncodeError::NeedsSplit => "needs_split",
        }
    }
}

/// One frame that is being appended to a buffer which may hold others.
struct Writer<'o> {
    out: &'o mut Vec<u8>,
    start: usize,
}

impl<'o> Writer<'o> {
    fn begin(out: &'o mut Vec<u8>, opening: &str) -> Writer<'o> {
        let start = out.len();
        out.reserve(FRAME_PAD_UNITS + 64);
        out.extend_from_slice(opening.as_bytes());
        Writer { out, start }
    }

    /// Appends what is JSON already.
    fn put(&mut self, json: &str) {
        self.out.extend_from_slice(json.as_bytes());
    }

    fn string(&mut self, before: &str, text: &str) {
        self.put(before);
        push_json_string(self.out, text);
    }

    fn flag(&mut self, before: &str, flag: bool) {
        self.put(before);
        self.put(if flag { "true" } else { "false" });
    }

    fn integer(&mut self, before: &str, integer: i64) {
        self.put(before);
        push_integer(self.out, integer);
    }

    fn size(&mut self, size: usize) {
        push_integer(self.out, i64::try_from(size).unwrap_or(i64::MAX));
    }

    /// The fields that every frame of the raw dialect carries, but for its positions.
    fn raw_stamp(&mut self, now: Timestamp) {
        self.put(",\"timestamp\":\"");
        push_iso_timestamp(self.out, now);
        self.put("\",\"timezone\":\"Asia/Seoul\"");
    }

    /// Appends the closing braces after blanks that bring the line, with `raw_chars` characters of
    /// ASCII to follow, to `pad_to` units. All blanks stand before the last brace.
    fn close(&mut self, braces: &str, raw_chars: usize, pad_to: usize) {
        let bytes = self.out.len() - self.start + braces.len() + raw_chars;
        // A UTF-16 unit has at most three bytes of UTF-8, so long frames need no counting.
        if bytes < pad_to.saturating_mul(3) {
            let units = utf16_units_of(&self.out[self.start..]) + braces.len() + raw_chars;
            self.put(&braces[..braces.len() - 1]);
            let padded = self.out.len() + pad_to.saturating_sub(units);
            self.out.resize(padded, b' ');
            self.put(&braces[braces.len() - 1..]);
        } else {
            self.put(braces);
        }
    }

    fn base64(&mut self, data: &[u8]) {
        let start = self.out.len();
        self.out.resize(start + base64_chars(data.len()), 0);
        let written = STANDARD.encode_slice(data, &mut self.out[start..]);
        debug_assert_eq!(written, Ok(base64_chars(data.len())));
    }

    fn end(self) {
        self.out.push(b'\n');
    }
}

fn base64_chars(bytes: usize) -> usize {
    bytes.div_ceil(3) * 4
}

/// Appends the answer to a hello.
pub fn encode_welcome(out: &mut Vec<u8>, dialect: Dialect, welcome: &Welcome<'_>, pad_to: usize) {
    if dialect == Dialect::Typed {
        let mut frame = Writer::begin(out, "{\"status\":");
        if welcome.success {
            frame.put("\"accepted\"");
        } else {
            frame.string("\"rejected\",\"reason\":", welcome.message);
        }
        frame.close("}", 0, pad_to);
        return frame.end();
    }
    let mut frame = Writer::begin(out, "{\"event\":\"handshakeComplete\",\"data\":{");
    frame.flag("\"success\":", welcome.success);
    frame.flag(",\"approved\":", welcome.approved);
    frame.string(",\"message\":", welcome.message);
    frame.string(",\"server_version\":", welcome.server_version);
    if dialect == Dialect::Raw {
        frame.raw_stamp(welcome.now);
        frame.put(",\"message_positions\":[0,0]");
    }
    frame.close("}}", 0, pad_to);
    frame.end();
}

/// Appends a keep-alive. `sent_at` comes back in the answer; 3.3.1 gets its heartbeat, and answers
/// nothing.
pub fn encode_ping(
    out: &mut Vec<u8>,
    dialect: Dialect,
    bot: &str,
    sent_at: Timestamp,
    now: Timestamp,
    pad_to: usize,
) {
    if dialect == Dialect::Typed {
        let mut frame = Writer::begin(out, "{\"type\":\"heartbeat\"");
        frame.close("}", 0, pad_to);
        return frame.end();
    }
    let mut frame = Writer::begin(out, "{\"event\":\"ping\",\"data\":{");
    frame.string("\"bot_name\":", bot);
    frame.integer(",\"server_timestamp\":", sent_at.0);
    if dialect == Dialect::Raw {
        frame.raw_stamp(now);
        frame.put(",\"message_positions\":[0,0]");
    }
    frame.close("}}", 0, pad_to);
    frame.end();
}

/// Appends one reply. Only the raw dialect carries `bot` and `now`.
///
/// # Errors
///
/// [`EncodeError`] says what the caller can do; `out` is as it was.
pub fn encode_reply(
    out: &mut Vec<u8>,
    dialect: Dialect,
    bot: &str,
    reply: &PhoneReply,
    now: Timestamp,
    pad_to: usize,
) -> Result<(), EncodeError> {
    match &reply.body {
        ReplyBody::Text(text) if text.is_empty() => return Err(EncodeError::Empty),
        ReplyBody::Text(text) => match dialect {
            Dialect::Json => json_text(out, reply, text, pad_to),
            Dialect::Raw => raw_text(out, bot, reply, text, now, pad_to),
            Dialect::Typed => typed_text(out, reply, text, pad_to),
        },
        ReplyBody::Media { kind, items, .. } => {
            check_media(dialect, *kind, items)?;
            match dialect {
                Dialect::Json => json_media(out, reply, items, pad_to),
                Dialect::Raw => raw_media(out, bot, reply, items, now, pad_to),
                Dialect::Typed => typed_media(out, reply, items, pad_to),
            }
        }
    }
    Ok(())
}

/// Splits a reply into replies that one frame each can carry, in order: json frames hold either data
/// or links, 3.3.1's hold one item. All other replies come back alone.
#[must_use]
pub fn split_media(dialect: Dialect, reply: &PhoneReply) -> Vec<PhoneReply> {
    let ReplyBody::Media { kind, items, wait } = &reply.body else { return vec![reply.clone()] };
    let is_link = |item: &MediaItem| matches!(item, MediaItem::Link(_));
    items
        .chunk_by(|one, next| match dialect {
            Dialect::Json => is_link(one) == is_link(next),
            Dialect::Raw => true,
            Dialect::Typed => false,
        })
        .map(|group| PhoneReply {
            body: ReplyBody::Media { kind: *kind, items: group.to_vec(), wait: *wait },
            ..reply.clone()
        })
        .collect()
}

fn check_media(dialect: Dialect, kind: MediaKind, items: &[MediaItem]) -> Result<(), EncodeError> {
    let Some(first) = items.first() else { return Err(EncodeError::Empty) };
    if dialect != Dialect::Json && kind != MediaKind::Image {
        return Err(EncodeError::ImagesOnly);
    }
    for item in items {
        match item {
            MediaItem::Link(_) if dialect != Dialect::Json => return Err(EncodeError::NeedsBytes),
            MediaItem::Link(link) if !is_fetchable(link) => return Err(EncodeError::BadLink),
            MediaItem::Bytes(_) if kind != MediaKind::Image => return Err(EncodeError::NeedsLink),
            MediaItem::Bytes(bytes) if bytes.is_empty() => return Err(EncodeError::Empty),
            _ => (),
        }
        let same_sort = std::mem::discriminant(item) == std::mem::discriminant(first);
        if !same_sort || (dialect == Dialect::Typed && items.len() > 1) {
            return Err(EncodeError::NeedsSplit);
        }
    }
    Ok(())
}

/// Whether a phone would fetch it. Anything that is not `http…` it would look for among its own
/// files, and share with the room.
fn is_fetchable(link: &str) -> bool {
    (link.starts_with("http://") || link.starts_with("https://"))
        && !link.contains(SEPARATOR)
        && !link.ends_with('|')
        && !link.chars().any(|character| character.is_control() || character.is_whitespace())
}

fn json_head<'o>(out: &'o mut Vec<u8>, reply: &PhoneReply) -> Writer<'o> {
    let mut frame = Writer::begin(out, "{\"event\":\"messageResponse\",\"data\":{");
    frame.string("\"room\":", &reply.room);
    if !reply.channel_id.is_empty() {
        frame.string(",\"channel_id\":", &reply.channel_id);
    }
    frame
}

fn json_text(out: &mut Vec<u8>, reply: &PhoneReply, text: &str, pad_to: usize) {
    let mut frame = json_head(out, reply);
    frame.put(",\"text\":\"");
    if looks_like_media(text) {
        frame.out.extend_from_slice(TEXT_GUARD.encode_utf8(&mut [0; 4]).as_bytes());
    }
    push_json_escaped(frame.out, text);
    frame.put("\"");
    frame.close("}}", 0, pad_to);
    frame.end();
}

/// Whether a json phone could take `text` for media, also after trimming it.
fn looks_like_media(text: &str) -> bool {
    let trimmed = text.trim_start_matches(|character: char| {
        character.is_whitespace() || character.is_control() || character == '\u{FEFF}'
    });
    trimmed.starts_with(IMAGE_PREFIX) || trimmed.starts_with(LINK_PREFIX)
}

fn json_media(out: &mut Vec<u8>, reply: &PhoneReply, items: &[MediaItem], pad_to: usize) {
    out.reserve(media_chars(items));
    let mut frame = json_head(out, reply);
    let is_link = matches!(items.first(), Some(MediaItem::Link(_)));
    frame.put(",\"text\":\"");
    frame.put(if is_link { LINK_PREFIX } else { IMAGE_PREFIX });
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            frame.put(SEPARATOR);
        }
        match item {
            MediaItem::Bytes(bytes) => frame.base64(bytes),
            MediaItem::Link(link) => push_json_escaped(frame.out, link),
        }
    }
    frame.put("\"");
    wait(&mut frame, reply);
    frame.close("}}", 0, pad_to);
    frame.end();
}

fn raw_head<'o>(
    out: &'o mut Vec<u8>,
    bot: &str,
    reply: &PhoneReply,
    kind: &str,
    now: Timestamp,
) -> Writer<'o> {
    let event = if reply.scheduled {
        "{\"event\":\"scheduleMessage\",\"data\":{"
    } else {
        "{\"event\":\"messageResponse\",\"data\":{"
    };
    let mut frame = Writer::begin(out, event);
    frame.string("\"room\":", &reply.room);
    if !reply.channel_id.is_empty() {
        frame.string(",\"channel_id\":", &reply.channel_id);
    }
    frame.string(",\"bot_name\":", bot);
    frame.put(kind);
    frame.raw_stamp(now);
    frame
}

fn raw_text(
    out: &mut Vec<u8>,
    bot: &str,
    reply: &PhoneReply,
    text: &str,
    now: Timestamp,
    pad_to: usize,
) {
    let kind = ",\"message_type\":\"text\",\"content_encoding\":\"base64\"";
    let mut frame = raw_head(out, bot, reply, kind, now);
    let raw_chars = base64_chars(text.len());
    frame.put(",\"message_positions\":[0,");
    frame.size(raw_chars);
    frame.put("]");
    frame.close("}}", raw_chars, pad_to);
    frame.base64(text.as_bytes());
    frame.end();
}

fn raw_media(
    out: &mut Vec<u8>,
    bot: &str,
    reply: &PhoneReply,
    items: &[MediaItem],
    now: Timestamp,
    pad_to: usize,
) {
    let raw_chars = media_chars(items);
    out.reserve(raw_chars);
    let kind = ",\"message_type\":\"image\",\"message_format\":\"png\"";
    let mut frame = raw_head(out, bot, reply, kind, now);
    frame.put(",\"message_positions\":[0");
    let mut end = 0;
    for item in items {
        end += media_chars(std::slice::from_ref(item));
        frame.put(",");
        frame.size(end);
    }
    frame.put("]");
    wait(&mut frame, reply);
    frame.close("}}", raw_chars, pad_to);
    for item in items {
        if let MediaItem::Bytes(bytes) = item {
            frame.base64(bytes);
        }
    }
    frame.end();
}

/// How many characters the items take, links as they are.
fn media_chars(items: &[MediaItem]) -> usize {
    let chars = |item: &MediaItem| match item {
        MediaItem::Bytes(bytes) => base64_chars(bytes.len()),
        MediaItem::Link(link) => link.len(),
    };
    items.iter().map(chars).sum()
}

/// `media_wait_time`: a number above zero, or nothing.
fn wait(frame: &mut Writer<'_>, reply: &PhoneReply) {
    let ReplyBody::Media { wait: Some(wait), .. } = &reply.body else { return };
    let ms = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
    if ms > 0 {
        frame.integer(",\"media_wait_time\":", ms);
    }
}

fn typed_text(out: &mut Vec<u8>, reply: &PhoneReply, text: &str, pad_to: usize) {
    let mut frame = Writer::begin(out, "{\"type\":\"response\"");
    frame.string(",\"room\":", &reply.room);
    frame.string(",\"content\":", text);
    frame.close("}", 0, pad_to);
    frame.end();
}

fn typed_media(out: &mut Vec<u8>, reply: &PhoneReply, items: &[MediaItem], pad_to: usize) {
    out.reserve(media_chars(items));
    let mut frame = Writer::begin(out, "{\"type\":\"response\"");
    frame.string(",\"room\":", &reply.room);
    frame.put(",\"content\":\"\",\"options\":{\"media\":\"");
    if let Some(MediaItem::Bytes(bytes)) = items.first() {
        frame.base64(bytes);
    }
    frame.put("\"");
    wait(&mut frame, reply);
    frame.close("}}", 0, pad_to);
    frame.end();
}
