//! Lines that real scripts and a trial server exchanged (key `testsecret`, salt `testsalt`): every
//! line of a phone is understood, every line of the server is one we would have written.

use std::collections::BTreeMap;
use std::path::Path;

use naru_domain::phone::KeepAlive;
use naru_domain::{Dialect, PhoneReply, ReplyBody, Timestamp};
use naru_wire::bridge::{
    Auth, Frame, HelloForm, SigningKey, Welcome, decode, encode_ping, encode_reply, encode_welcome,
};
use serde_json::Value;

use crate::support::phone::{hear, read_lines};

struct Recorded {
    file: String,
    from_phone: bool,
    line: String,
}

fn recordings() -> Vec<Recorded> {
    let folder = Path::new(&std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo runs this"))
        .join("tests/recordings");
    let mut lines = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the recordings") {
        let path = entry.expect("an entry").path();
        for line in std::fs::read_to_string(&path).expect("a recording").lines() {
            let record: Value = serde_json::from_str(line).expect("a record");
            lines.push(Recorded {
                file: path.file_name().expect("a file").to_string_lossy().into_owned(),
                from_phone: record["from"] == "phone",
                line: record["line"].as_str().expect("a line").to_owned(),
            });
        }
    }
    assert!(lines.len() > 200, "the recordings are there");
    lines
}

/// The dialect of a recording, from the name that its version has there.
fn dialect_of(file: &str) -> Dialect {
    if file.starts_with("3.2.") { Dialect::Json } else { Dialect::Raw }
}

/// The first JSON value of a line, and the rest.
fn parse(line: &str) -> (Value, &str) {
    let mut values = serde_json::Deserializer::from_str(line).into_iter::<Value>();
    let value = values.next().expect("a value").expect("JSON");
    (value, &line[values.byte_offset()..])
}

fn check_auth(auth: Option<&Auth<'_>>, sent: &Value) {
    let auth = auth.expect("phones sign everything but their hello");
    assert!(SigningKey::new("testsecret", "testsalt").verify(auth), "{auth:?}");
    assert_eq!(auth.timestamp().map(|at| at.0), sent["timestamp"].as_i64());
    assert_eq!(sent["deviceID"], *auth.device_id);
    assert_eq!(sent["version"], *auth.version);
}

#[test]
fn every_line_of_a_phone_is_understood_and_every_signature_is_right() {
    let mut kinds = BTreeMap::new();
    for recorded in recordings().iter().filter(|recorded| recorded.from_phone) {
        let (sent, raw) = parse(&recorded.line);
        let data = &sent["data"];
        let kind = match decode(recorded.line.as_bytes()).unwrap() {
            Frame::Hello(hello) => {
                let fields = if data.is_object() { data } else { &sent };
                assert_eq!(fields["botName"], *hello.bot_name);
                assert_eq!(fields["deviceID"], *hello.device_id);
                assert_eq!(fields["version"], *hello.version);
                assert_eq!(hello.dialect, dialect_of(&recorded.file));
                assert_eq!(hello.form == HelloForm::Event, data.is_object());
                "hello"
            }
            Frame::KeepAlive { answer, auth } => {
                check_auth(auth.as_ref(), &data["auth"]);
                let sent_at = data["server_timestamp"].as_i64().map(Timestamp);
                let figure = |name: &str| data["monitoring"][name].as_f64();
                let count = |name: &str| data["monitoring"][name].as_i64();
                let expected = KeepAlive {
                    sent_at,
                    memory_total_mb: figure("total_memory"),
                    memory_used_mb: figure("memory_usage"),
                    memory_percent: figure("memory_percent"),
                    queued_frames: count("message_queue_size"),
                    active_rooms: count("active_rooms"),
                };
                assert_eq!(answer, expected);
                "keep-alive"
            }
            Frame::Chat { chat, auth } => {
                check_auth(auth.as_ref(), &data["auth"]);
                let either = |one: &str, other: &str| match &data[one] {
                    Value::Null => data[other].clone(),
                    value => value.clone(),
                };
                assert_eq!(data["room"], *chat.room);
                assert_eq!(data["sender"], *chat.sender);
                assert_eq!(either("channelId", "channel_id").as_str(), chat.channel_id.as_deref());
                assert_eq!(either("logId", "log_id").as_str(), chat.log_id.as_deref());
                assert_eq!(either("userHash", "user_hash").as_str(), chat.user_hash.as_deref());
                assert_eq!(either("isGroupChat", "is_group_chat"), chat.is_group_chat);
                assert_eq!(either("isMention", "is_mention"), chat.is_mention);
                match data["text"].as_str() {
                    Some(text) => assert_eq!(chat.text, text),
                    None => {
                        use base64::Engine as _;
                        let engine = base64::engine::general_purpose::STANDARD;
                        assert_eq!(engine.encode(&*chat.text), raw);
                    }
                }
                "chat"
            }
            other => panic!("{other:?}"),
        };
        *kinds.entry((dialect_of(&recorded.file).label(), kind)).or_insert(0) += 1;
    }
    let seen: Vec<_> = kinds.into_keys().collect();
    let all = ["chat", "hello", "keep-alive"];
    let expected: Vec<_> =
        ["json", "raw"].iter().flat_map(|d| all.map(|kind| (*d, kind))).collect();
    assert_eq!(seen, expected);
}

/// Our frame for what the trial server said.
fn ours(dialect: Dialect, data: &Value, event: &str, line: &str) -> Vec<u8> {
    let text = |key: &str| data[key].as_str().unwrap_or_default();
    let now = Timestamp(1_795_206_305_388);
    let mut out = Vec::new();
    match event {
        "handshakeComplete" => {
            let welcome = Welcome {
                success: data["success"] == true,
                approved: data["approved"] == true,
                message: text("message"),
                server_version: text("server_version"),
                now,
            };
            encode_welcome(&mut out, dialect, &welcome, 0);
        }
        "ping" => {
            let sent_at = Timestamp(data["server_timestamp"].as_i64().expect("a stamp"));
            encode_ping(&mut out, dialect, text("bot_name"), sent_at, now, 0);
        }
        "messageResponse" => {
            let crate::support::phone::Heard::Text { room, text: said, .. } = hear(dialect, line)
            else {
                panic!("the recordings hold texts only");
            };
            let reply = PhoneReply {
                room: room.into(),
                channel_id: text("channel_id").into(),
                body: ReplyBody::Text(said.into()),
                scheduled: false,
            };
            encode_reply(&mut out, dialect, text("bot_name"), &reply, now, 0).expect("a text");
        }
        other => panic!("{other}"),
    }
    out
}

#[test]
fn every_line_of_the_trial_server_is_one_we_write_too() {
    for recorded in recordings().iter().filter(|recorded| !recorded.from_phone) {
        let dialect = dialect_of(&recorded.file);
        let (mut theirs, raw) = parse(&recorded.line);
        let event = theirs["event"].as_str().unwrap().to_owned();
        let written = ours(dialect, &theirs["data"], &event, &recorded.line);
        let lines = read_lines(&written);
        let (mut frame, our_raw) = parse(&lines[0]);
        // The moment differs; that both or neither carry one does not.
        for frame in [&mut theirs, &mut frame] {
            if let Some(moment) = frame["data"].get_mut("timestamp") {
                assert!(moment.as_str().unwrap().ends_with('Z'));
                *moment = Value::Null;
            }
        }
        assert_eq!((&frame, our_raw), (&theirs, raw), "{}", recorded.line);
        assert_eq!(lines.len(), 1);
    }
}
