//! A phone's reader, written from the protocol page and not from our encoder: what a script makes of
//! the bytes we send.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use naru_domain::Dialect;
use serde_json::Value;

/// What a phone did with a line.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Heard {
    /// It wrote a text into a room.
    Text { room: String, text: String, event: String },
    /// It shared pictures with a channel.
    Pictures { room: String, channel_id: String, items: Vec<Vec<u8>>, wait_ms: Option<u64> },
    /// It fetched addresses and shared what it got.
    Links { room: String, channel_id: String, items: Vec<String>, wait_ms: Option<u64> },
    /// It answered a keep-alive, echoing this.
    Ping { server_timestamp: Value },
    /// It was welcomed (`success`, `approved`).
    Welcome(bool, bool),
    /// 3.3.1's status or heartbeat.
    Typed(Value),
    /// It did nothing, and logged why.
    Dropped(&'static str),
}

/// The lines that `BufferedReader.readLine` makes of what arrived: CR, LF and CRLF end one.
pub(crate) fn read_lines(bytes: &[u8]) -> Vec<String> {
    let text = std::str::from_utf8(bytes).expect("we send UTF-8");
    let mut lines: Vec<String> =
        text.replace("\r\n", "\n").split(['\r', '\n']).map(str::to_owned).collect();
    assert_eq!(lines.pop().as_deref(), Some(""), "the last frame has no LF");
    lines
}

/// What a phone that speaks `dialect` makes of a line.
pub(crate) fn hear(dialect: Dialect, line: &str) -> Heard {
    match dialect {
        Dialect::Json => hear_json(line),
        Dialect::Raw => hear_raw(line),
        Dialect::Typed => hear_typed(line),
    }
}

fn hear_json(line: &str) -> Heard {
    let Ok(frame) = serde_json::from_str::<Value>(line) else { return Heard::Dropped("not JSON") };
    let data = &frame["data"];
    match frame["event"].as_str() {
        Some("messageResponse") => {
            let Some(text) = data["text"].as_str() else { return Heard::Dropped("no text") };
            let room = text_of(&data["room"]);
            let items = |prefix| text.strip_prefix(prefix).map(|items| items.split("|||"));
            if let Some(items) = items("IMAGE_BASE64:") {
                return pictures(data, items.map(str::to_owned).collect());
            }
            if let Some(items) = items("MEDIA_URL:") {
                let items = items.map(str::to_owned).collect();
                let channel_id = text_of(&data["channel_id"]);
                return Heard::Links { room, channel_id, items, wait_ms: wait_of(data) };
            }
            Heard::Text { room, text: text.to_owned(), event: "messageResponse".into() }
        }
        event => hear_common(event, data),
    }
}

fn hear_raw(line: &str) -> Heard {
    let Some(end) = line.rfind('}') else { return Heard::Dropped("no brace") };
    let (json, raw) = line.split_at(end + 1);
    let Ok(frame) = serde_json::from_str::<Value>(json) else { return Heard::Dropped("not JSON") };
    let data = &frame["data"];
    let positions: Vec<usize> = data["message_positions"]
        .as_array()
        .map(|ends| {
            ends.iter()
                .map(|end| usize::try_from(end.as_u64().expect("an end")).expect("fits"))
                .collect()
        })
        .unwrap_or_default();
    match frame["event"].as_str() {
        Some(event @ ("messageResponse" | "scheduleMessage" | "broadcastMessage")) => {
            if positions.last().is_none_or(|&last| last == 0) {
                return Heard::Dropped("no content");
            }
            if data["message_type"] == "text" {
                let text = if data["content_encoding"] == "base64" {
                    let bytes = STANDARD.decode(raw).expect("bare base64");
                    String::from_utf8(bytes).expect("base64 of UTF-8")
                } else {
                    raw.trim().to_owned()
                };
                let room = text_of(&data["room"]);
                return Heard::Text { room, text, event: event.to_owned() };
            }
            if !["image", "audio", "video", "document"].contains(&&*text_of(&data["message_type"]))
            {
                return Heard::Dropped("unknown message type");
            }
            let items = positions.windows(2).map(|pair| raw[pair[0]..pair[1]].to_owned()).collect();
            pictures(data, items)
        }
        event => hear_common(event, data),
    }
}

fn hear_typed(line: &str) -> Heard {
    let Ok(frame) = serde_json::from_str::<Value>(line) else { return Heard::Dropped("not JSON") };
    if frame["type"] != "response" {
        return Heard::Typed(frame);
    }
    let room = text_of(&frame["room"]);
    match frame["options"]["media"].as_str() {
        Some(item) => Heard::Pictures {
            room,
            channel_id: String::new(),
            items: vec![STANDARD.decode(item).expect("bare base64")],
            wait_ms: wait_of(&frame["options"]),
        },
        None => Heard::Text { room, text: text_of(&frame["content"]), event: "response".into() },
    }
}

fn hear_common(event: Option<&str>, data: &Value) -> Heard {
    match event {
        Some("ping") => Heard::Ping { server_timestamp: data["server_timestamp"].clone() },
        Some("handshakeComplete") => {
            Heard::Welcome(data["success"] == true, data["approved"] == true)
        }
        _ => Heard::Dropped("unknown event"),
    }
}

fn pictures(data: &Value, items: Vec<String>) -> Heard {
    let items = items.iter().map(|item| STANDARD.decode(item).expect("bare base64")).collect();
    Heard::Pictures {
        room: text_of(&data["room"]),
        channel_id: text_of(&data["channel_id"]),
        items,
        wait_ms: wait_of(data),
    }
}

/// Only a number counts, and only above zero.
fn wait_of(data: &Value) -> Option<u64> {
    data["media_wait_time"].as_u64().filter(|&ms| ms > 0)
}

fn text_of(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
