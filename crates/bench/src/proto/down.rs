//! Frames from the server, read the way each script reads them, its mistakes included: what a real
//! phone would ignore comes out as [`Down::Ignored`] with the reason.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::script::{Dialect, Script};

/// One thing to share with the messenger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    /// To be fetched by the phone.
    Address(String),
    Bytes(Vec<u8>),
    /// A path on the phone, or something that a script mistakes for one.
    LocalPath(String),
}

/// What a line means to the phone.
#[derive(Debug)]
pub(crate) enum Down {
    /// Answer to the handshake.
    Welcome {
        success: bool,
        approved: Option<bool>,
        message: String,
    },
    /// To be answered at once.
    Ping {
        server_timestamp: Option<Box<RawValue>>,
    },
    Text {
        event: String,
        room: String,
        channel_id: Option<String>,
        text: String,
    },
    Media {
        room: String,
        channel_id: Option<String>,
        kind: String,
        items: Vec<Item>,
        wait_ms: Option<f64>,
    },
    /// 3.3.1: `heartbeat` or a command (`reload`, `status`).
    Command(String),
    /// The phone drops this line; the reason is for people.
    Ignored(String),
}

#[derive(Deserialize)]
struct Envelope<'a> {
    event: Option<String>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct PingData {
    server_timestamp: Option<Box<RawValue>>,
}

/// Reads one line without its line end.
pub(crate) fn decode(script: &Script, line: &str) -> Down {
    if line.trim().is_empty() {
        return ignored("blank line");
    }
    if line.chars().count() < script.line_chars_min {
        return ignored(format!("line shorter than {} characters", script.line_chars_min));
    }
    if script.dialect == Dialect::Typed {
        return typed(line);
    }
    let (json, raw) = match script.dialect {
        // These scripts take everything up to the last brace as JSON.
        Dialect::Raw => match line.rfind('}') {
            Some(end) => (&line[..=end], line[end + 1..].trim()),
            None => return ignored("no JSON in the line"),
        },
        _ => (line, ""),
    };
    let envelope: Envelope<'_> = match serde_json::from_str(json) {
        Ok(envelope) => envelope,
        Err(error) => return ignored(format!("broken JSON: {error}")),
    };
    let Some(event) = envelope.event else { return ignored("no event") };
    let Some(data) = envelope.data else { return ignored("no data") };
    if event == "ping" {
        return match serde_json::from_str::<PingData>(data.get()) {
            Ok(ping) => Down::Ping { server_timestamp: ping.server_timestamp },
            Err(error) => ignored(format!("ping without an object: {error}")),
        };
    }
    let data: Value = match serde_json::from_str(data.get()) {
        Ok(Value::Object(data)) => Value::Object(data),
        _ => return ignored("data is no object"),
    };
    match (event.as_str(), script.dialect) {
        ("handshakeComplete", _) if script.answer_read => Down::Welcome {
            success: data["success"].as_bool().unwrap_or(false),
            approved: data["approved"].as_bool(),
            message: data["message"].as_str().unwrap_or_default().to_owned(),
        },
        ("handshakeComplete", _) => ignored("this script does not read handshakeComplete"),
        ("messageResponse", Dialect::Json) => json_reply(&data),
        ("messageResponse" | "scheduleMessage" | "broadcastMessage", Dialect::Raw) => {
            raw_reply(event, &data, raw)
        }
        _ => ignored(format!("unknown event {event}")),
    }
}

fn json_reply(data: &Value) -> Down {
    let Some(text) = data["text"].as_str() else { return ignored("text is not a string") };
    let (room, channel_id) = (owned(&data["room"]), data["channel_id"].as_str().map(String::from));
    let joined = text.strip_prefix("IMAGE_BASE64:").or_else(|| text.strip_prefix("MEDIA_URL:"));
    let Some(joined) = joined else {
        return Down::Text {
            event: "messageResponse".to_owned(),
            room,
            channel_id,
            text: text.to_owned(),
        };
    };
    let base64_expected = text.starts_with("IMAGE_BASE64:");
    let items = joined.split("|||").map(|item| item_of(item, base64_expected)).collect();
    let kind = if base64_expected { "image" } else { "address" };
    Down::Media {
        room,
        channel_id,
        kind: kind.to_owned(),
        items,
        wait_ms: data["media_wait_time"].as_f64(),
    }
}

fn raw_reply(event: String, data: &Value, raw: &str) -> Down {
    let positions: Vec<usize> = data["message_positions"]
        .as_array()
        .map(|list| {
            list.iter().filter_map(Value::as_u64).filter_map(|n| n.try_into().ok()).collect()
        })
        .unwrap_or_default();
    if positions.len() < 2 || (positions.len() == 2 && positions[1] == 0) {
        return ignored("message_positions says there is no content");
    }
    let (room, channel_id) = (owned(&data["room"]), data["channel_id"].as_str().map(String::from));
    match data["message_type"].as_str() {
        None | Some("text") => {
            let text = match data["content_encoding"].as_str() {
                Some("base64") => match BASE64.decode(raw).map(String::from_utf8) {
                    Ok(Ok(text)) => text,
                    _ => return ignored("raw is not the base64 of UTF-8"),
                },
                _ => raw.to_owned(),
            };
            Down::Text { event, room, channel_id, text }
        }
        Some(kind @ ("image" | "audio" | "video" | "document")) => {
            let ranges: Vec<(usize, usize)> = if positions.len() == 2 {
                vec![(0, raw.len())] // The value of the second number is not used.
            } else {
                positions.windows(2).map(|pair| (pair[0], pair[1])).collect()
            };
            let items = ranges
                .into_iter()
                .map(|(start, end)| match raw.get(start..end) {
                    Some(item) => item_of(item, true),
                    None => Item::LocalPath(format!("nothing at {start}..{end}")),
                })
                .collect();
            Down::Media {
                room,
                channel_id,
                kind: kind.to_owned(),
                items,
                wait_ms: data["media_wait_time"].as_f64(),
            }
        }
        Some(other) => ignored(format!("message_type {other}")),
    }
}

fn typed(line: &str) -> Down {
    let Ok(frame) = serde_json::from_str::<Value>(line) else { return ignored("broken JSON") };
    if let Some(status) = frame["status"].as_str() {
        let success = status == "accepted";
        let reason = frame["reason"].as_str().unwrap_or(status).to_owned();
        return Down::Welcome { success, approved: Some(success), message: reason };
    }
    match frame["type"].as_str() {
        Some("response") => typed_response(&frame),
        Some("heartbeat") => Down::Command("heartbeat".to_owned()),
        Some("command") => Down::Command(owned(&frame["command"])),
        _ => ignored("unknown type"),
    }
}

fn typed_response(frame: &Value) -> Down {
    let room = owned(&frame["room"]);
    match frame["options"]["media"].as_str() {
        Some(media) => Down::Media {
            room,
            channel_id: None,
            kind: "image".to_owned(),
            items: vec![item_of(media, true)],
            wait_ms: frame["options"]["media_wait_time"].as_f64(),
        },
        None => Down::Text {
            event: "response".to_owned(),
            room,
            channel_id: None,
            text: owned(&frame["content"]),
        },
    }
}

/// Scripts tell items apart by content: an address, base64 alphabet only, or a local path.
fn item_of(item: &str, base64_expected: bool) -> Item {
    if item.starts_with("http") {
        return Item::Address(item.to_owned());
    }
    match BASE64.decode(item) {
        Ok(bytes) if base64_expected && !bytes.is_empty() => Item::Bytes(bytes),
        _ => Item::LocalPath(item.to_owned()),
    }
}

fn owned(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn ignored(why: impl Into<String>) -> Down {
    Down::Ignored(why.into())
}
