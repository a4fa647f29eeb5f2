//! Checks that hold for any bytes. Each fuzz target is one of them.

use std::time::Duration;

use bytes::Bytes;
use naru_domain::phone::MediaKind;
use naru_domain::{Dialect, MediaItem, PhoneReply, ReplyBody, Timestamp};
use naru_wire::bridge::{
    Auth, Frame, FrameError, LineScan, SigningKey, decode, encode_reply, next_line, split_media,
    split_text, utf16_units,
};
use serde_json::Value;

use super::phone::{Heard, hear, read_lines};

/// Decoding never panics, and agrees with serde_json about what is JSON and what it says.
pub(crate) fn check_decode(line: &[u8]) {
    let ours = decode(line);
    let Ok(text) = std::str::from_utf8(line) else {
        assert_eq!(ours, Err(FrameError::NotUtf8));
        return;
    };
    let theirs = serde_json::Deserializer::from_str(text).into_iter::<Value>().next();
    match (&ours, theirs) {
        (Err(FrameError::NotJson { at }), theirs) => {
            assert!(*at <= line.len());
            assert!(!matches!(theirs, Some(Ok(_))), "serde_json reads {text:?}");
        }
        (Err(FrameError::Truncated), theirs) => assert!(!matches!(theirs, Some(Ok(_)))),
        (Ok(frame), Some(Ok(value))) => check_meaning(frame, &value),
        (Ok(_), Some(Err(error))) => {
            // Two things that we read and serde_json refuses.
            let error = error.to_string();
            let tolerated = ["surrogate", "hex escape", "number out of range"];
            assert!(tolerated.iter().any(|word| error.contains(word)), "{error}: {text:?}");
        }
        (Ok(_), None) => panic!("a frame out of nothing: {text:?}"),
        (Err(_), _) => (),
    }
    if let Ok(frame) = ours {
        check_signature_of(frame);
    }
}

fn check_meaning(frame: &Frame<'_>, value: &Value) {
    if let Frame::Chat { chat, .. } = frame {
        // Both names of the object with the fields are good for every event.
        let fields = if value["event"].is_string() {
            vec![&value["data"], &value["info"]]
        } else {
            vec![value]
        };
        assert!(fields.iter().any(|each| each["room"].as_str() == Some(&*chat.room)));
        let mut senders = fields.iter().map(|each| each["sender"].as_str().unwrap_or_default());
        assert!(senders.any(|sender| sender == chat.sender));
    }
    if let Frame::Hello(hello) = frame {
        let name =
            |fields: &Value| fields["botName"].as_str().unwrap_or_default() == hello.bot_name;
        let snake = |fields: &Value| fields["bot_name"].as_str() == Some(&*hello.bot_name);
        assert!(
            [value, &value["data"], &value["info"]]
                .iter()
                .any(|fields| name(fields) || snake(fields)),
        );
    }
}

fn check_signature_of(frame: Frame<'_>) {
    let auth = match &frame {
        Frame::Chat { auth, .. } | Frame::KeepAlive { auth, .. } => auth.as_ref(),
        Frame::Hello(hello) => hello.auth.as_ref(),
        _ => None,
    };
    if let Some(auth) = auth {
        let key = SigningKey::new("testsecret", "testsalt");
        assert_eq!(key.verify(auth), key.sign(auth) == auth.signature);
        assert!(
            auth.timestamp.is_empty() || auth.timestamp().is_some() || auth.timestamp.len() > 18
        );
    }
    if let Frame::Chat { chat, auth } = frame {
        assert_eq!(chat.signed_at, auth.as_ref().and_then(Auth::timestamp));
        let text_len = chat.text.len();
        let owned = chat.into_phone_chat(Timestamp(7));
        assert_eq!((owned.text.len(), owned.received_at), (text_len, Timestamp(7)));
    }
}

/// Lines come out the same however the bytes arrive. The first two bytes choose limit and step.
pub(crate) fn check_split(data: &[u8]) {
    let [max, step, stream @ ..] = data else { return };
    let (max, step) = (usize::from(*max), usize::from(*step % 16) + 1);
    let (mut buffer, mut lines, mut scanned, mut arrived) = (Vec::new(), Vec::new(), 0, 0);
    let too_long = loop {
        match next_line(&buffer, scanned, max) {
            LineScan::Line { end, next } => {
                assert!(end < next && next <= buffer.len() && buffer[next - 1] == b'\n');
                lines.push(buffer[..end].to_vec());
                buffer.drain(..next);
                scanned = 0;
            }
            LineScan::NeedMore { scanned: looked_at } => {
                assert_eq!(looked_at, buffer.len());
                scanned = looked_at;
                if arrived == stream.len() {
                    break false;
                }
                let end = stream.len().min(arrived + step);
                buffer.extend_from_slice(&stream[arrived..end]);
                arrived = end;
            }
            LineScan::TooLong => break true,
        }
    };
    let mut expected = Vec::new();
    let mut parts = stream.split(|&byte| byte == b'\n').peekable();
    let expects_too_long = loop {
        let Some(part) = parts.next() else { break false };
        if part.len() > max {
            break true;
        }
        if parts.peek().is_some() {
            expected.push(part.strip_suffix(b"\r").unwrap_or(part).to_vec());
        }
    };
    assert_eq!((lines, too_long), (expected, expects_too_long));
}

/// A signature is right for what was signed and for nothing else. Fields are separated by byte 0.
pub(crate) fn check_verify(data: &[u8]) {
    check_decode(data);
    let text = String::from_utf8_lossy(data);
    let mut parts = text.split('\0');
    let mut part = || parts.next().unwrap_or_default();
    let key = SigningKey::new(part(), part());
    let mut auth = Auth {
        client_type: part().into(),
        bot_name: part().into(),
        device_uuid: part().into(),
        device_id: part().into(),
        mac_address: part().into(),
        ip_address: part().into(),
        timestamp: part().into(),
        version: part().into(),
        signature: part().into(),
    };
    let right = key.sign(&auth);
    assert_eq!(key.verify(&auth), auth.signature == right);
    assert!(
        right.len() == 64 && right.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    );
    auth.signature = right.clone().into();
    assert!(key.verify(&auth));
    let place = data.len() % 64;
    let other = if right.as_bytes()[place] == b'0' { "1" } else { "0" };
    let mut wrong = right;
    wrong.replace_range(place..=place, other);
    auth.signature = wrong.into();
    assert!(!key.verify(&auth));
}

/// What we write, a phone reads. The first bytes choose the form, the rest are room, channel id and
/// content, separated by bytes `0xFF`.
pub(crate) fn check_encode(data: &[u8]) {
    let [form, flags, rest @ ..] = data else { return };
    let dialect = [Dialect::Json, Dialect::Raw, Dialect::Typed][usize::from(*form % 3)];
    let mut parts = rest.split(|&byte| byte == 0xFF);
    let mut text = || String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    let (room, channel_id) = (text(), text());
    let body = if flags & 1 == 0 {
        ReplyBody::Text(text().into())
    } else {
        let wait = (flags & 2 != 0).then(|| Duration::from_millis(u64::from(*flags) << 6));
        let items = parts.map(|part| item(part, flags & 4 != 0)).collect();
        let kind = if flags & 8 == 0 { MediaKind::Image } else { MediaKind::Video };
        ReplyBody::Media { kind, items, wait }
    };
    let reply = PhoneReply {
        room: room.into(),
        channel_id: channel_id.into(),
        body,
        scheduled: flags & 16 != 0,
    };
    let pad_to = if flags & 32 == 0 { 512 } else { 0 };
    for reply in split_media(dialect, &reply) {
        check_reply(dialect, &reply, pad_to);
    }
    if let ReplyBody::Text(text) = &reply.body {
        check_split_text(text, usize::from(*flags));
    }
}

fn item(part: &[u8], may_be_link: bool) -> MediaItem {
    match part {
        [b'h', ..] if may_be_link => MediaItem::Link(String::from_utf8_lossy(part).into()),
        _ => MediaItem::Bytes(Bytes::copy_from_slice(part)),
    }
}

/// Writes one reply, and reads it as the phone does.
pub(crate) fn check_reply(dialect: Dialect, reply: &PhoneReply, pad_to: usize) {
    let mut out = b"what is queued already\n".to_vec();
    let queued = out.clone();
    let written = encode_reply(&mut out, dialect, "demo-bot", reply, Timestamp(1), pad_to);
    assert_eq!(out[..queued.len()], queued);
    if written.is_err() {
        assert_eq!(out, queued);
        return;
    }
    let lines = read_lines(&out[queued.len()..]);
    assert_eq!(lines.len(), 1, "one frame is one line on the phone");
    assert!(utf16_units(&lines[0]) >= pad_to);
    assert_eq!(hear(dialect, &lines[0]), expected(dialect, reply));
}

fn expected(dialect: Dialect, reply: &PhoneReply) -> Heard {
    let room = reply.room.to_string();
    let channel_id = match dialect {
        Dialect::Typed => String::new(),
        _ => reply.channel_id.to_string(),
    };
    match &reply.body {
        ReplyBody::Text(text) => {
            let event = match dialect {
                Dialect::Typed => "response",
                Dialect::Raw if reply.scheduled => "scheduleMessage",
                _ => "messageResponse",
            };
            let guard =
                if dialect == Dialect::Json && starts_like_media(text) { "\u{200B}" } else { "" };
            Heard::Text { room, text: format!("{guard}{text}"), event: event.into() }
        }
        ReplyBody::Media { items, wait, .. } => {
            let wait_ms =
                wait.and_then(|wait| u64::try_from(wait.as_millis()).ok()).filter(|&ms| ms > 0);
            if let Some(MediaItem::Link(_)) = items.first() {
                let link = |item: &MediaItem| match item {
                    MediaItem::Link(link) => link.to_string(),
                    MediaItem::Bytes(_) => panic!("data among links"),
                };
                let items = items.iter().map(link).collect();
                return Heard::Links { room, channel_id, items, wait_ms };
            }
            let bytes = |item: &MediaItem| match item {
                MediaItem::Bytes(bytes) => bytes.to_vec(),
                MediaItem::Link(_) => panic!("a link among data"),
            };
            Heard::Pictures { room, channel_id, items: items.iter().map(bytes).collect(), wait_ms }
        }
    }
}

fn starts_like_media(text: &str) -> bool {
    let blank = |character: char| {
        character.is_whitespace() || character.is_control() || character == '\u{FEFF}'
    };
    let start = text.trim_start_matches(blank);
    start.starts_with("MEDIA_URL:") || start.starts_with("IMAGE_BASE64:")
}

fn check_split_text(text: &str, units_max: usize) {
    let pieces = split_text(text, units_max);
    assert_eq!(pieces.concat(), text);
    assert!(pieces.iter().all(|piece| (1..=units_max.max(2)).contains(&utf16_units(piece))));
    let units: usize = text.encode_utf16().count();
    assert_eq!(utf16_units(text), units);
}
