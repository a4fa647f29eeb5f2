//! Reads one frame of a phone, in any of the dialects.
//!
//! Permissive where scripts differ (names of keys, ids as numbers, missing figures, unknown keys),
//! strict where a frame could mean two things: a known key given twice in one object, or a second
//! `auth` object, refuses the frame. Where two spellings of one key are given, the first that is not
//! null counts.

use std::borrow::Cow;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use naru_domain::Timestamp;
use naru_domain::phone::KeepAlive;

use super::json::{Scanner, Value};
use super::{Auth, Chat, Frame, FrameError, Hello, HelloForm, choose_dialect};

/// The longest room name, sender name or other name in a frame, in bytes (guessed: names of open
/// chats are far below). Only texts are longer.
pub const NAME_BYTES_MAX: usize = 4096;

/// The longest id that is kept, in bytes. Real ones are 64-bit numbers or short hashes.
const ID_BYTES_MAX: usize = 128;

/// Some phones leave out the padding when they are built with another Java.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Reads one line, without its LF. Blank lines are `Truncated`; the caller skips them before.
pub fn decode(line: &[u8]) -> Result<Frame<'_>, FrameError> {
    let text = std::str::from_utf8(line).map_err(|_| FrameError::NotUtf8)?;
    let mut scanner = Scanner::new(text);
    if !scanner.enter_object()? {
        scanner.value(0)?; // Broken JSON is reported as such.
        return Err(FrameError::NotAnObject);
    }
    let mut envelope = Envelope::default();
    envelope.read(&mut scanner)?;
    envelope.into_frame(scanner.rest())
}

/// The keys that mean something in any frame. The order is that of `KEYS`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Slot {
    Room,
    Text,
    Sender,
    IsGroupChat,
    ChannelId,
    LogId,
    UserHash,
    IsMention,
    ContentEncoding,
    ServerTimestamp,
    BotName,
    Version,
    DeviceId,
    ClientType,
    DeviceIp,
    DeviceInfo,
}

const SLOT_COUNT: usize = 16;

/// What a key leads to.
#[derive(Clone, Copy)]
enum Key {
    /// A value that is kept.
    Slot(Slot),
    Event,
    Type,
    /// The object with the fields of the frame: `data`, or `info` in 3.3.1's hello.
    Fields,
    Auth,
    Monitoring,
}

/// Looks a key up: its meaning, its own bit, and its name. By length first, since most keys are
/// told apart by that.
fn find_key(key: &str) -> Option<(Key, u32, &'static str)> {
    use Slot::*;
    macro_rules! among {
        ($($bit:literal $name:literal $meaning:expr),+ $(,)?) => {
            $(if key == $name { Some(($meaning, 1 << $bit, $name)) } else)+ { None }
        };
    }
    match key.len() {
        4 => among!(
            0 "room" Key::Slot(Room), 1 "text" Key::Slot(Text), 2 "data" Key::Fields,
            3 "auth" Key::Auth, 4 "type" Key::Type, 5 "info" Key::Fields,
        ),
        5 => among!(6 "event" Key::Event, 7 "logId" Key::Slot(LogId)),
        6 => among!(8 "sender" Key::Slot(Sender), 9 "log_id" Key::Slot(LogId)),
        7 => among!(
            10 "botName" Key::Slot(BotName), 11 "version" Key::Slot(Version),
            12 "content" Key::Slot(Text),
        ),
        8 => among!(
            13 "userHash" Key::Slot(UserHash), 14 "deviceID" Key::Slot(DeviceId),
            15 "deviceIP" Key::Slot(DeviceIp),
        ),
        9 => among!(
            16 "channelId" Key::Slot(ChannelId), 17 "user_hash" Key::Slot(UserHash),
            18 "isMention" Key::Slot(IsMention),
        ),
        10 => among!(
            19 "channel_id" Key::Slot(ChannelId), 20 "is_mention" Key::Slot(IsMention),
            21 "clientType" Key::Slot(ClientType), 22 "deviceInfo" Key::Slot(DeviceInfo),
            23 "monitoring" Key::Monitoring,
        ),
        11 => among!(24 "isGroupChat" Key::Slot(IsGroupChat)),
        13 => among!(25 "is_group_chat" Key::Slot(IsGroupChat)),
        16 => among!(
            26 "content_encoding" Key::Slot(ContentEncoding),
            27 "server_timestamp" Key::Slot(ServerTimestamp),
        ),
        _ => None,
    }
}

/// The values of one object, by meaning.
#[derive(Default)]
struct Fields<'a> {
    values: [Value<'a>; SLOT_COUNT],
    seen: u32,
}

impl<'a> Fields<'a> {
    fn mark(&mut self, bit: u32, key: &'static str) -> Result<(), FrameError> {
        if self.seen & bit != 0 {
            return Err(FrameError::DuplicateKey { key });
        }
        self.seen |= bit;
        Ok(())
    }

    fn keep(&mut self, slot: Slot, value: Value<'a>) {
        let kept = &mut self.values[slot as usize];
        if matches!(kept, Value::Absent | Value::Null) {
            *kept = value;
        }
    }

    fn take(&mut self, slot: Slot) -> Value<'a> {
        std::mem::take(&mut self.values[slot as usize])
    }

    /// A text that may be missing; a missing one is empty.
    fn name(&mut self, slot: Slot, field: &'static str) -> Result<Cow<'a, str>, FrameError> {
        match self.take(slot) {
            Value::Absent | Value::Null => Ok(Cow::Borrowed("")),
            Value::Text(text) if text.len() <= NAME_BYTES_MAX => Ok(text),
            Value::Text(_) => Err(FrameError::FieldTooLong { field }),
            _ => Err(FrameError::WrongType { field }),
        }
    }

    /// An id: a string, or an integer that lost its quotes. Anything else counts as not given,
    /// among it the words that JavaScript makes of a missing value.
    fn id(&mut self, slot: Slot) -> Option<Cow<'a, str>> {
        let id = match self.take(slot) {
            Value::Text(text) => text,
            Value::Number(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                Cow::Borrowed(digits)
            }
            _ => return None,
        };
        let usable = (1..=ID_BYTES_MAX).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_graphic())
            && id != "null"
            && id != "undefined";
        usable.then_some(id)
    }

    fn flag(&mut self, slot: Slot) -> bool {
        self.take(slot) == Value::Bool(true)
    }
}

/// A frame with everything in it that any kind of frame could need.
#[derive(Default)]
struct Envelope<'a> {
    event: Option<Cow<'a, str>>,
    kind: Option<Cow<'a, str>>,
    outer: Fields<'a>,
    /// The fields of `data` or `info`.
    inner: Option<Fields<'a>>,
    /// Which of these two was something else than an object.
    no_object: Option<&'static str>,
    auth: Option<Auth<'a>>,
    figures: KeepAlive,
}

impl<'a> Envelope<'a> {
    /// Reads the outermost object, which was entered.
    fn read(&mut self, scanner: &mut Scanner<'a>) -> Result<(), FrameError> {
        let mut first = true;
        while let Some(key) = scanner.next_key(&mut first)? {
            let Some((meaning, bit, name)) = find_key(&key) else {
                scanner.value(1)?;
                continue;
            };
            self.outer.mark(bit, name)?;
            match meaning {
                Key::Event => self.event = event_name(scanner.value(1)?, "event")?,
                Key::Type => self.kind = event_name(scanner.value(1)?, "type")?,
                Key::Fields => self.read_fields(scanner, name)?,
                Key::Auth => self.read_auth(scanner, 1)?,
                Key::Slot(slot) => self.outer.keep(slot, scanner.value(1)?),
                Key::Monitoring => drop(scanner.value(1)?),
            }
        }
        Ok(())
    }

    fn read_fields(
        &mut self,
        scanner: &mut Scanner<'a>,
        name: &'static str,
    ) -> Result<(), FrameError> {
        if self.inner.is_some() {
            return Err(FrameError::DuplicateKey { key: name });
        }
        if !scanner.enter_object()? {
            if scanner.value(1)? != Value::Null {
                self.no_object = Some(name);
            }
            return Ok(());
        }
        let mut fields = Fields::default();
        let mut first = true;
        while let Some(key) = scanner.next_key(&mut first)? {
            let Some((meaning, bit, name)) = find_key(&key) else {
                scanner.value(2)?;
                continue;
            };
            fields.mark(bit, name)?;
            match meaning {
                Key::Slot(slot) => fields.keep(slot, scanner.value(2)?),
                Key::Auth => self.read_auth(scanner, 2)?,
                Key::Monitoring => self.read_monitoring(scanner)?,
                Key::Event | Key::Type | Key::Fields => drop(scanner.value(2)?),
            }
        }
        self.inner = Some(fields);
        Ok(())
    }

    fn read_auth(&mut self, scanner: &mut Scanner<'a>, depth: usize) -> Result<(), FrameError> {
        if self.auth.is_some() {
            return Err(FrameError::DuplicateKey { key: "auth" });
        }
        if !scanner.enter_object()? {
            return match scanner.value(depth)? {
                Value::Null => Ok(()),
                _ => Err(FrameError::WrongType { field: "auth" }),
            };
        }
        let mut auth = Auth::default();
        let mut seen = 0_u32;
        let mut first = true;
        while let Some(key) = scanner.next_key(&mut first)? {
            let value = scanner.value(depth + 1)?;
            let (bit, field, kept) = match &*key {
                "clientType" => (0, "auth.clientType", &mut auth.client_type),
                "botName" => (1, "auth.botName", &mut auth.bot_name),
                "deviceUUID" => (2, "auth.deviceUUID", &mut auth.device_uuid),
                "deviceID" => (3, "auth.deviceID", &mut auth.device_id),
                "macAddress" => (4, "auth.macAddress", &mut auth.mac_address),
                "ipAddress" => (5, "auth.ipAddress", &mut auth.ip_address),
                "timestamp" => (6, "auth.timestamp", &mut auth.timestamp),
                "version" => (7, "auth.version", &mut auth.version),
                "signature" => (8, "auth.signature", &mut auth.signature),
                _ => continue,
            };
            if seen & 1 << bit != 0 {
                return Err(FrameError::DuplicateKey { key: field });
            }
            seen |= 1 << bit;
            *kept = match value {
                Value::Null => continue,
                Value::Number(number) if bit == 6 => plain_integer(number),
                Value::Text(text) if bit != 6 => {
                    if text.len() > NAME_BYTES_MAX {
                        return Err(FrameError::FieldTooLong { field });
                    }
                    Some(text)
                }
                _ => None,
            }
            .ok_or(FrameError::WrongType { field })?;
        }
        self.auth = Some(auth);
        Ok(())
    }

    /// The phone's figures. Whatever is odd about them is left out; they only inform people.
    fn read_monitoring(&mut self, scanner: &mut Scanner<'a>) -> Result<(), FrameError> {
        if !scanner.enter_object()? {
            scanner.value(2)?;
            return Ok(());
        }
        let mut first = true;
        while let Some(key) = scanner.next_key(&mut first)? {
            let value = scanner.value(3)?;
            match &*key {
                "total_memory" => self.figures.memory_total_mb = figure(&value),
                "memory_usage" => self.figures.memory_used_mb = figure(&value),
                "memory_percent" => self.figures.memory_percent = figure(&value),
                "message_queue_size" => self.figures.queued_frames = count(&value),
                "active_rooms" => self.figures.active_rooms = count(&value),
                _ => (),
            }
        }
        Ok(())
    }

    fn take_fields(&mut self, field: &'static str) -> Result<Fields<'a>, FrameError> {
        self.inner.take().ok_or(match self.no_object {
            Some(field) => FrameError::WrongType { field },
            None => FrameError::MissingField { field },
        })
    }

    fn into_frame(mut self, raw: &'a str) -> Result<Frame<'a>, FrameError> {
        let Some(event) = self.event.take() else { return self.into_bare_or_typed() };
        match &*event {
            "message" | "analyze" => {
                let raw_first = event == "message";
                let auth = self.auth.take();
                let fields = self.take_fields("data")?;
                let mut chat =
                    chat(fields, if raw_first { Raw::First(raw) } else { Raw::Last(raw) })?;
                chat.signed_at = auth.as_ref().and_then(Auth::timestamp);
                Ok(Frame::Chat { chat, auth })
            }
            "ping" | "pong" => {
                let mut fields = self.take_fields("data")?;
                let mut answer = self.figures;
                answer.sent_at = count(&fields.take(Slot::ServerTimestamp)).map(Timestamp);
                Ok(Frame::KeepAlive { answer, auth: self.auth })
            }
            "handshake" => {
                let fields = self.take_fields("data")?;
                hello(fields, HelloForm::Event, self.auth).map(Frame::Hello)
            }
            _ => Ok(Frame::Unknown { event }),
        }
    }

    fn into_bare_or_typed(mut self) -> Result<Frame<'a>, FrameError> {
        let Some(kind) = self.kind.take() else {
            if self.outer.values[Slot::BotName as usize] == Value::Absent {
                return Err(FrameError::MissingEvent);
            }
            return hello(self.outer, HelloForm::Bare, self.auth).map(Frame::Hello);
        };
        match &*kind {
            "handshake" => {
                let fields = self.take_fields("info")?;
                hello(fields, HelloForm::Typed, self.auth).map(Frame::Hello)
            }
            "message" => {
                let mut chat = chat(self.outer, Raw::None)?;
                chat.signed_at = self.auth.as_ref().and_then(Auth::timestamp);
                Ok(Frame::Chat { chat, auth: self.auth })
            }
            "heartbeat" => Ok(Frame::Heartbeat),
            "status" => Ok(Frame::Status),
            _ => Ok(Frame::Unknown { event: kind }),
        }
    }
}

fn event_name<'a>(
    value: Value<'a>,
    field: &'static str,
) -> Result<Option<Cow<'a, str>>, FrameError> {
    match value {
        Value::Text(name) => Ok(Some(name)),
        Value::Null => Ok(None),
        _ => Err(FrameError::WrongType { field }),
    }
}

fn hello<'a>(
    mut fields: Fields<'a>,
    form: HelloForm,
    auth: Option<Auth<'a>>,
) -> Result<Hello<'a>, FrameError> {
    let bot_name = fields.name(Slot::BotName, "botName")?;
    if bot_name.is_empty() {
        return Err(FrameError::MissingField { field: "botName" });
    }
    let version = fields.name(Slot::Version, "version")?;
    Ok(Hello {
        bot_name,
        device_id: fields.name(Slot::DeviceId, "deviceID")?,
        dialect: choose_dialect(&version, form),
        version,
        client_type: fields.name(Slot::ClientType, "clientType")?,
        device_info: fields.name(Slot::DeviceInfo, "deviceInfo")?,
        device_ip: fields.name(Slot::DeviceIp, "deviceIP")?,
        form,
        auth,
    })
}

/// Where the raw part of a line stands among the sources of a chat's text.
enum Raw<'a> {
    /// It is the text, if there is any; otherwise the field is.
    First(&'a str),
    /// It is the text only if the field is missing.
    Last(&'a str),
    None,
}

fn chat<'a>(mut fields: Fields<'a>, raw: Raw<'a>) -> Result<Chat<'a>, FrameError> {
    let room = fields.name(Slot::Room, "room")?;
    if room.is_empty() {
        return Err(FrameError::MissingField { field: "room" });
    }
    let field = match fields.take(Slot::Text) {
        Value::Absent | Value::Null => None,
        Value::Text(text) => Some(text),
        _ => return Err(FrameError::WrongType { field: "text" }),
    };
    let is_base64 = fields.take(Slot::ContentEncoding) == Value::Text(Cow::Borrowed("base64"));
    let text = match (raw, field) {
        (Raw::First(raw), _) if !raw.trim_ascii().is_empty() => raw_text(raw, is_base64),
        (Raw::Last(raw), None) if !raw.trim_ascii().is_empty() => raw_text(raw, is_base64),
        (_, Some(text)) => text,
        (_, None) => return Err(FrameError::MissingField { field: "text" }),
    };
    Ok(Chat {
        room,
        channel_id: fields.id(Slot::ChannelId),
        log_id: fields.id(Slot::LogId),
        sender: fields.name(Slot::Sender, "sender")?,
        user_hash: fields.id(Slot::UserHash),
        text,
        is_group_chat: fields.flag(Slot::IsGroupChat),
        is_mention: fields.flag(Slot::IsMention),
        signed_at: None,
    })
}

/// The text in the raw part. A phone that failed to encode sends plain text under the same label.
fn raw_text(raw: &str, is_base64: bool) -> Cow<'_, str> {
    if is_base64 && let Some(text) = from_base64(raw.trim_ascii()) {
        return Cow::Owned(text);
    }
    Cow::Borrowed(raw)
}

fn from_base64(encoded: &str) -> Option<String> {
    let padded = encoded.strip_suffix("==").or_else(|| encoded.strip_suffix('='));
    let length = padded.unwrap_or(encoded).len() * 3 / 4;
    let mut bytes = vec![0; length];
    let written = BASE64.decode_slice(encoded, &mut bytes).ok()?;
    bytes.truncate(written);
    String::from_utf8(bytes).ok()
}

/// A number as JavaScript prints an integer, which is what the phone signed.
fn plain_integer(number: &str) -> Option<Cow<'_, str>> {
    let digits = number.strip_prefix('-').unwrap_or(number);
    if digits.bytes().all(|byte| byte.is_ascii_digit()) {
        let in_range = digits.len() <= 19 && number != "-0";
        return in_range.then_some(Cow::Borrowed(number));
    }
    integer(number.parse().ok()?).map(|integer| Cow::Owned(integer.to_string()))
}

fn figure(value: &Value<'_>) -> Option<f64> {
    let Value::Number(number) = value else { return None };
    number.parse().ok().filter(|figure: &f64| figure.is_finite())
}

fn count(value: &Value<'_>) -> Option<i64> {
    let Value::Number(number) = value else { return None };
    number.parse().ok().or_else(|| integer(number.parse().ok()?))
}

/// The integer that a float stands for, where floats still count by ones.
#[expect(clippy::cast_possible_truncation, reason = "the range was checked")]
fn integer(float: f64) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0; // 2^53
    (float.fract() == 0.0 && float.abs() <= EXACT).then_some(float as i64)
}
