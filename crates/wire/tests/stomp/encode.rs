//! Frames of the server, byte by byte, and what cannot be said in a version.

use naru_wire::stomp::session::{AckId, SubscriptionKey};
use naru_wire::stomp::{
    Command, Connected, ErrorFrame, HeartBeat, Message, VERSIONS_SUPPORTED, Version,
    encode_client_frame, encode_connected, encode_error, encode_message, encode_message_start,
    encode_message_tail, encode_receipt,
};

use crate::checks::read_as;

#[track_caller]
fn same(bytes: &[u8], expected: &str) {
    assert_eq!(String::from_utf8_lossy(bytes), expected);
}

const MESSAGE: Message<'static> = Message {
    message_id: "9:4",
    destination: "/topic/chat:lobby",
    content_type: Some("text/plain"),
    headers: &[("position", "9:4"), ("x\r\ny", "1\\2")],
    body: b"a\0b",
};
const ACK: AckId = AckId { subscription: SubscriptionKey(3), number: 17 };

#[test]
fn a_message_is_written_in_the_words_of_each_version() {
    same(
        &encode_message(Version::V1_2, Some("sub-0"), Some(ACK), &MESSAGE),
        "MESSAGE\nsubscription:sub-0\nack:3-17\nmessage-id:9\\c4\ndestination:/topic/chat\\clobby\n\
         content-type:text/plain\nposition:9\\c4\nx\\r\\ny:1\\\\2\ncontent-length:3\n\na\0b\0",
    );
    same(
        &encode_message(Version::V1_1, Some("sub-0"), Some(ACK), &MESSAGE),
        "MESSAGE\nsubscription:sub-0\nmessage-id:9\\c4~3-17\ndestination:/topic/chat\\clobby\n\
         content-type:text/plain\nposition:9\\c4\nx_\\ny:1\\\\2\ncontent-length:3\n\na\0b\0",
    );
    same(
        &encode_message(Version::V1_0, None, None, &MESSAGE),
        "MESSAGE\nmessage-id:9:4\ndestination:/topic/chat:lobby\n\
         content-type:text/plain\nposition:9:4\nx__y:1\\2\ncontent-length:3\n\na\0b\0",
    );
}

#[test]
fn start_and_tail_together_are_the_whole_message() {
    for version in [Version::V1_0, Version::V1_1, Version::V1_2] {
        for id in [Some("sub-0"), Some("a:b"), None] {
            let start = encode_message_start(version, id);
            let tail = encode_message_tail(version, &MESSAGE);
            let whole = encode_message(version, id, None, &MESSAGE);
            assert_eq!([&start[..], &tail[..]].concat(), whole);
        }
    }
}

#[test]
fn nobody_can_add_headers_to_a_frame_through_a_value() {
    for version in [Version::V1_0, Version::V1_1, Version::V1_2] {
        let evil = "x\nadmin:yes\r\nadmin:yes\0";
        let headers = [(evil, evil), ("admin\n", "yes")];
        let message = Message { message_id: evil, destination: evil, headers: &headers, ..MESSAGE };
        let frames = read_as(version, &encode_message(version, Some(evil), Some(ACK), &message));
        let frames = frames.expect("one frame");
        assert_eq!(frames.len(), 1);
        assert_eq!(frames[0].header("admin"), None);
        assert_eq!(&frames[0].body[..], b"a\0b");
        let frames = read_as(version, &encode_receipt(version, evil, &headers)).expect("one frame");
        assert_eq!((frames.len(), frames[0].header("admin")), (1, None));
    }
}

#[test]
fn a_senders_content_length_and_nameless_headers_do_not_get_into_a_message() {
    let headers = [("content-length", "99"), ("", "x"), ("message-id", "forged")];
    let message = Message { headers: &headers, ..MESSAGE };
    let bytes = encode_message(Version::V1_2, Some("0"), None, &message);
    let frames = read_as(Version::V1_2, &bytes).expect("one frame");
    assert_eq!(frames[0].header("content-length"), Some("3"));
    assert_eq!(frames[0].header("message-id"), Some("9:4"));
}

#[test]
fn connected_is_never_escaped_and_1_0_has_no_heart_beats() {
    let connected = |version| {
        encode_connected(&Connected {
            version,
            heart_beat: HeartBeat { can_send_ms: 10_000, wants_ms: 5_000 },
            session: "s:1",
            server: "naru/0.1.0",
            headers: &[("user-name", "ann\nadmin:yes")],
        })
    };
    same(
        &connected(Version::V1_2),
        "CONNECTED\nversion:1.2\nheart-beat:10000,5000\nsession:s:1\nserver:naru/0.1.0\n\
         user-name:ann admin:yes\n\n\0",
    );
    same(
        &connected(Version::V1_0),
        "CONNECTED\nversion:1.0\nsession:s:1\nserver:naru/0.1.0\nuser-name:ann admin:yes\n\n\0",
    );
}

#[test]
fn receipts_and_errors_carry_the_receipt_id() {
    same(&encode_receipt(Version::V1_2, "a:1", &[]), "RECEIPT\nreceipt-id:a\\c1\n\n\0");
    let error = ErrorFrame {
        message: "no version in common".into(),
        code: "version",
        receipt_id: Some("7".into()),
        version: Some(VERSIONS_SUPPORTED),
        body: "Supported versions: 1.0, 1.1, 1.2\n".into(),
    };
    same(
        &encode_error(None, &error),
        "ERROR\nmessage:no version in common\ncode:version\nreceipt-id:7\nversion:1.0,1.1,1.2\n\
         content-type:text/plain\ncontent-length:34\n\nSupported versions: 1.0, 1.1, 1.2\n\0",
    );
}

#[test]
fn a_frame_is_one_allocation_of_its_own_size() {
    let bytes = encode_message(Version::V1_2, Some("sub-0"), Some(ACK), &MESSAGE);
    let length = bytes.len();
    let vec: Vec<u8> = bytes.into();
    assert_eq!((vec.len(), vec.capacity()), (length, length));
    for length in [0_usize, 9, 10, 99, 100, 65_536, 1 << 20] {
        let body = vec![b'x'; length];
        let message = Message { body: &body, ..MESSAGE };
        let bytes = encode_message(Version::V1_1, None, None, &message);
        let frames = read_as(Version::V1_1, &bytes).expect("one frame");
        assert_eq!(frames[0].body.len(), length);
    }
}

#[test]
fn a_client_frame_brings_its_length() {
    same(
        &encode_client_frame(Version::V1_2, Command::Send, &[("destination", "/queue/a:b")], b"\0"),
        "SEND\ndestination:/queue/a\\cb\ncontent-length:1\n\n\0\0",
    );
    same(
        &encode_client_frame(Version::V1_2, Command::Connect, &[("passcode", "a:b")], b""),
        "CONNECT\npasscode:a:b\n\n\0",
    );
}
