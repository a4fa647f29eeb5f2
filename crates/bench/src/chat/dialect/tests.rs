//! What the dialects say and understand, against the protocol documents' own examples.

use proptest::prelude::*;

use super::*;
use crate::chat::mark::{Found, Mark, Marks};

const MARK: Mark = Mark { run: 1, channel: 2, number: 3, due_ns: 4 };

fn json() -> Dialect {
    Dialect::CentrifugeJson { token: "T".to_owned() }
}

fn protobuf() -> Dialect {
    Dialect::CentrifugeProtobuf { token: "T".to_owned() }
}

fn stomp() -> Dialect {
    Dialect::Stomp(StompLogin {
        host: "/".to_owned(),
        login: "guest".to_owned(),
        passcode: "secret".to_owned(),
        heart_beat_ms: 10_000,
    })
}

fn all() -> [Dialect; 4] {
    [Dialect::Floor, stomp(), json(), protobuf()]
}

fn hello(dialect: &Dialect, interest: Interest<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    dialect.hello(Some(Topic { name: "chat:1", interest }), &mut out);
    out
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

/// Reads one whole message as it comes in a WebSocket message.
fn read<'a>(dialect: &Dialect, message: &'a [u8]) -> Vec<Said<'a>> {
    let (mut at, mut said) = (0, Vec::new());
    while let Some(unit) = dialect.unit(&message[at..], true) {
        said.push(dialect.read(&message[at + unit.start..at + unit.end], true));
        at += unit.next;
    }
    assert_eq!(at, message.len(), "the message is used up");
    said
}

#[test]
fn a_json_client_connects_and_subscribes_in_one_message() {
    let lines = |interest| String::from_utf8(hello(&json(), interest)).unwrap();
    let live = lines(Interest::Live);
    let (connect, subscribe) = live.split_once('\n').unwrap();
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(connect).unwrap(),
        serde_json::json!({ "id": 1, "connect": { "name": "naru-bench", "token": "T" } })
    );
    assert_eq!(subscribe, r#"{"id":2,"subscribe":{"channel":"chat:1"}}"#);
    assert!(lines(Interest::Recoverable).contains(r#""recoverable":true"#));
    let after = lines(Interest::After("4:ab"));
    let wish: serde_json::Value = serde_json::from_str(after.lines().last().unwrap()).unwrap();
    assert_eq!(
        wish["subscribe"],
        serde_json::json!({ "channel": "chat:1", "recover": true, "epoch": "ab", "offset": 4 })
    );
}

#[test]
fn a_protobuf_client_writes_the_bytes_of_the_document() {
    let bytes = hello(&protobuf(), Interest::After("3:ab"));
    let subscribe = unhex("15 08 02 2a 11 0a 06 63 68 61 74 3a 31 18 01 32 02 61 62 38 03");
    // The document's example without its flag, which is two bytes shorter.
    let mut expected = subscribe;
    expected[0] = 0x14;
    expected[4] = 0x10;
    assert!(bytes.ends_with(&expected), "{bytes:02x?}");
    assert!(bytes.starts_with(&unhex("13 08 01 22 0f 0a 01 54 22 0a")), "{bytes:02x?}");
}

#[test]
fn json_replies_of_the_document_are_understood() {
    let said = read(
        &json(),
        br#"{"id":1,"connect":{"client":"c1","version":"1","ping":25,"pong":true}}
{"id":2,"subscribe":{"recoverable":true,"epoch":"ab","offset":3,"positioned":true}}
{"push":{"channel":"chat:1","pub":{"data":{"t":"hi"},"offset":4}}}
{"id":1000000007,"publish":{}}
{}
{"id":9,"subscribe":{"recoverable":true,"epoch":"xy","offset":12,"was_recovering":true}}
{"id":1,"error":{"code":109,"message":"token expired"}}"#,
    );
    let standing = |position: &str, gap| Standing { position: Some(position.into()), gap };
    assert_eq!(
        said,
        [
            Said::LoggedIn,
            Said::Subscribed(standing("3:ab", false)),
            Said::Push,
            Said::Accepted(7),
            Said::Ping,
            Said::Subscribed(standing("12:xy", true)),
            Said::Refused(r#"{"code":109,"message":"token expired"}"#.into()),
        ]
    );
    let ended = br#"{"push":{"channel":"chat:1","unsubscribe":{"code":2500,"reason":"x"}}}"#;
    assert!(json().fault_of_push(ended).is_some());
    let joined = br#"{"push":{"channel":"chat:1","join":{"info":{"user":"1","client":"c"}}}}"#;
    assert_eq!(json().fault_of_push(joined), None);
}

#[test]
fn protobuf_replies_of_the_document_are_understood() {
    let message = unhex(
        "0f 08 01 2a 0b 0a 02 63 31 12 01 31 38 19 40 01
         0e 08 02 32 0a 18 01 32 02 61 62 48 03 50 01
         24 22 22 12 06 63 68 61 74 3a 31 22 18 22 0a 7b 22 74 22 3a 22 68 69 22 7d 2a 08 0a 02
         34 32 12 02 63 31 30 04
         00",
    );
    let standing = Standing { position: Some("3:ab".into()), gap: false };
    let expected = [Said::LoggedIn, Said::Subscribed(standing), Said::Push, Said::Ping];
    assert_eq!(read(&protobuf(), &message), expected);
    let error = unhex("15 08 05 12 11 08 6d 12 0d 74 6f 6b 65 6e 20 65 78 70 69 72 65 64");
    assert!(
        matches!(&read(&protobuf(), &error)[..], [Said::Refused(why)] if why.contains("token"))
    );
    let end = unhex("11 22 0f 5a 0d 08 b9 17 12 08 73 68 75 74 64 6f 77 6e");
    assert!(protobuf().fault_of_push(&end[1..]).unwrap().contains("shutdown"));
}

#[test]
fn stomp_frames_are_those_of_the_specification() {
    let mut out = hello(&stomp(), Interest::Live);
    assert_eq!(
        String::from_utf8(std::mem::take(&mut out)).unwrap(),
        "CONNECT\naccept-version:1.2\nhost:/\nheart-beat:10000,10000\nlogin:guest\n\
         passcode:secret\n\n\0"
    );
    let topic = Topic { name: "/topic/chat:1", interest: Interest::After("7\\c3") };
    stomp().subscribe(topic, &mut out);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "SUBSCRIBE\nid:0\ndestination:/topic/chat\\c1\nreceipt:subscribed\n\
         last-position:7\\c3\n\n\0"
    );
    let mut template = stomp().publish("/topic/a", 60, true);
    let frame = String::from_utf8(template.fill(MARK, 5).to_vec()).unwrap();
    let head = "SEND\ndestination:/topic/a\ncontent-length:60\nreceipt:1000000005\n\nnaru~";
    assert!(frame.starts_with(head), "{frame}");
    assert!(frame.ends_with("~\0"), "{frame}");
}

#[test]
fn stomp_frames_of_a_server_are_understood() {
    let message = b"CONNECTED\nversion:1.2\n\n\0\n\r\nRECEIPT\nreceipt-id:subscribed\n\n\0\
        MESSAGE\r\nsubscription:0\r\nposition:7\\c4\r\n\r\nbody\0RECEIPT\nreceipt-id:1000000009\n\n\0\
        ERROR\nmessage:no\n\n\0";
    let said = read(&stomp(), message);
    assert_eq!(
        said[..6],
        [
            Said::LoggedIn,
            Said::Beat,
            Said::Beat,
            Said::Subscribed(Standing::default()),
            Said::Push,
            Said::Accepted(9)
        ]
    );
    assert!(matches!(&said[6], Said::Refused(why) if why.contains("message:no")));
    assert_eq!(stomp().unit(b"MESSAGE\nx:1\n\nbod", true), None);
    let position = stomp().position_of_push(b"MESSAGE\nposition:7\\c4\n\nposition:9\n");
    assert_eq!(position, Some("7\\c4"));
}

#[test]
fn a_filled_message_carries_its_mark_in_every_dialect() {
    for dialect in all() {
        for acknowledged in [false, true] {
            let (name, size) = ("bench:0", 128);
            let mut template = dialect.publish(name, size, acknowledged);
            let first = template.fill(MARK, 0).to_vec();
            let message = template.fill(Mark { number: 9, ..MARK }, 2_000_000_000).to_vec();
            assert_eq!(first.len(), message.len(), "messages of a run are equally long");
            let mut marks = Marks::new(dialect.text_bytes(size));
            let Found::Mark(mark, _) = marks.find(&message, 0) else { panic!("{dialect:?}") };
            assert_eq!(mark, Mark { number: 9, ..MARK });
        }
    }
}

#[test]
fn a_filled_json_message_is_json_with_a_body_of_the_wanted_size() {
    let mut template = json().publish("a\"b", 128, true);
    let command: serde_json::Value = serde_json::from_slice(template.fill(MARK, 11)).unwrap();
    assert_eq!(command["id"], 1_000_000_011);
    assert_eq!(command["publish"]["channel"], "a\"b");
    assert_eq!(command["publish"]["data"].to_string().len(), 128);
}

#[test]
fn a_filled_protobuf_message_is_one_delimited_command() {
    let mut template = protobuf().publish("chat:1", 128, true);
    let message = template.fill(MARK, 11);
    let unit = protobuf().unit(message, true).unwrap();
    assert_eq!(unit.next, message.len());
    // The key of field 1, then 1,000,000,011 as a varint, then field 7.
    assert_eq!(message[unit.start..unit.start + 7], [0x08, 0x8b, 0x94, 0xeb, 0xdc, 0x03, 0x3a]);
    let body = &message[message.len() - 128..];
    assert_eq!((body[0], body[127]), (b'"', b'"'));
}

proptest! {
    #[test]
    fn no_bytes_make_a_dialect_panic(
        start in prop::sample::select(vec!["", "M", "{\"id\":1,", "MESSAGE\n", "\u{8}\u{1}2"]),
        bytes in prop::collection::vec(any::<u8>(), 0..60),
        interested: bool, whole: bool,
    ) {
        let message = [start.as_bytes(), &bytes].concat();
        for dialect in all() {
            let mut at = 0;
            while let Some(unit) = dialect.unit(&message[at..], whole) {
                prop_assert!(unit.start <= unit.end && unit.end <= unit.next && unit.next > 0);
                let unit_bytes = &message[at + unit.start..at + unit.end];
                dialect.read(unit_bytes, interested);
                dialect.fault_of_push(unit_bytes);
                dialect.position_of_push(unit_bytes);
                at += unit.next;
            }
            dialect.read(&message, interested);
        }
    }
}
