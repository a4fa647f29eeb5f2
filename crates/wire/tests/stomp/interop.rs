//! Frames of real clients: what stomp.py 9.0.0 and @stomp/stompjs 7.5.0 wrote, and what they made of
//! ours.
//!
//! `recordings/*.jsonl` hold one connection a line. `messages` is what arrived at a local
//! sink that answers CONNECT and DISCONNECT only: TCP for stomp.py (joined to one text), WebSocket
//! messages for stompjs. `frames` is what the program that drove the client had asked it to send.
//! `read-by-*.jsonl` hold frames that this crate wrote (`ours` below), with what
//! `stomp.utils.parse_frame` and stompjs's `Parser` and `FrameImpl` read in them.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use naru_wire::stomp::session::{AckId, SubscriptionKey};
use naru_wire::stomp::{
    Connected, Decoder, ErrorFrame, Event, Frame, HeartBeat, Limits, Message, Version,
    encode_connected, encode_error, encode_message, encode_receipt, negotiate,
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Recording {
    version: String,
    messages: Vec<String>,
    frames: Vec<Expected>,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Expected {
    command: String,
    headers: BTreeMap<String, String>,
    body: String,
}

impl From<&Frame> for Expected {
    fn from(frame: &Frame) -> Expected {
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        Expected {
            command: frame.command.name().to_owned(),
            headers: frame.headers.iter().map(owned).collect(),
            body: String::from_utf8(frame.body.to_vec()).expect("the bodies are text"),
        }
    }
}

fn lines<T: for<'a> Deserialize<'a>>(name: &str) -> Vec<T> {
    let folder = Path::new(&std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo runs this"))
        .join("tests/stomp/recordings");
    let text = std::fs::read_to_string(folder.join(name)).expect("the recording is committed");
    text.lines().map(|line| serde_json::from_str(line).expect("it is JSON")).collect()
}

#[track_caller]
fn check_recording(name: &str, connections: usize) {
    let recordings: Vec<Recording> = lines(name);
    assert_eq!(recordings.len(), connections);
    for recording in recordings {
        let mut decoder = Decoder::new(Limits::default());
        let mut frames = Vec::new();
        for message in &recording.messages {
            let mut input = message.as_bytes();
            while let Some(event) = decoder.decode(&mut input).expect("a real client wrote it") {
                let Event::Frame(frame) = event else { continue };
                if frames.is_empty() {
                    let ours = Version::parse(&recording.version).expect("a version");
                    assert!(negotiate(frame.header("accept-version"), None) >= Some(ours));
                    decoder.set_version(ours);
                }
                frames.push(Expected::from(&frame));
            }
        }
        assert!(!decoder.is_within_frame());
        assert_eq!(frames, recording.frames, "{name}, {}", recording.version);
    }
}

#[test]
fn what_stomp_py_writes_is_read_as_it_was_meant() {
    check_recording("stomp.py-9.0.0.jsonl", 3);
}

#[test]
fn what_stompjs_writes_is_read_as_it_was_meant() {
    check_recording("stompjs-7.5.0.jsonl", 5);
}

/// Frames of ours for the clients to read.
fn ours() -> Vec<(Version, Bytes)> {
    let ack = AckId { subscription: SubscriptionKey(0), number: 3 };
    let mut frames = Vec::new();
    for version in [Version::V1_0, Version::V1_1, Version::V1_2] {
        let value = if version == Version::V1_0 { "a:b" } else { "a\nb:c\\d" };
        let message = Message {
            message_id: "7:41",
            destination: "/topic/chat:lobby",
            content_type: Some("text/plain;charset=utf-8"),
            headers: &[("position", "7:41"), ("x", value)],
            body: "héllo\0 가🙂\n".as_bytes(),
        };
        let error = ErrorFrame {
            message: "the destination header is missing or empty".into(),
            code: "missing_header",
            receipt_id: Some("r:1".into()),
            version: None,
            body: "The SEND frame was refused.\n".into(),
        };
        let connected = Connected {
            version,
            heart_beat: HeartBeat { can_send_ms: 10_000, wants_ms: 10_000 },
            session: "s-1",
            server: "naru/0.1.0",
            headers: &[],
        };
        frames.extend(
            [
                encode_connected(&connected),
                encode_message(version, Some("sub-0"), None, &message),
                encode_message(version, Some("sub-0"), Some(ack), &message),
                encode_message(version, Some("sub-0"), None, &Message { body: b"", ..message }),
                encode_receipt(version, "r:1", &[]),
                encode_error(Some(version), &error),
            ]
            .map(|frame| (version, frame)),
        );
    }
    frames
}

#[derive(Deserialize)]
struct Read {
    version: String,
    bytes: String,
    read: Expected,
}

#[track_caller]
fn check_readings(name: &str) {
    let readings: Vec<Read> = lines(name);
    // stompjs knows the escapes of 1.2 only and takes those of 1.1 for text, so that its readings lack
    // 1.1.
    let is_read = |version: Version| readings.iter().any(|have| have.version == version.name());
    let mut ours = ours();
    ours.retain(|(version, _)| is_read(*version));
    assert_eq!(readings.len(), ours.len());
    for (reading, (version, frame)) in readings.iter().zip(&ours) {
        assert_eq!(reading.bytes.as_bytes(), frame, "what was read is not what we write");
        let mut decoder = Decoder::new(Limits::default());
        decoder.set_version(*version);
        let event = decoder.decode(&mut &frame[..]).expect("we read what we write");
        let Some(Event::Frame(frame)) = event else { panic!("no frame") };
        assert_eq!(reading.read, Expected::from(&frame), "{name}");
    }
}

#[test]
fn what_we_write_is_read_by_stomp_py_as_we_meant_it() {
    check_readings("read-by-stomp.py-9.0.0.jsonl");
}

#[test]
fn what_we_write_is_read_by_stompjs_as_we_meant_it() {
    check_readings("read-by-stompjs-7.5.0.jsonl");
}
