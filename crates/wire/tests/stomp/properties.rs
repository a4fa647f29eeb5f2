//! Properties over generated input: any cut reads the same, round trips are exact, nothing panics.

use naru_wire::stomp::{
    Command, Frame, Headers, Limits, Message, Version, encode_client_frame, encode_message,
};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::checks::{check_stomp_decode, check_stomp_session, read, read_as};

fn version() -> impl Strategy<Value = Version> {
    prop::sample::select(vec![Version::V1_0, Version::V1_1, Version::V1_2])
}

/// Text that a header of the version can say.
fn sayable(version: Version) -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        any::<char>().prop_map(String::from),
        prop::sample::select(vec!["\\", ":", "\n", "\r", "\\n", "\\c", " ", "가", "🙂", "x"])
            .prop_map(String::from),
    ];
    vec(piece, 0..12).prop_map(move |pieces| {
        let text: String = pieces.concat();
        let text = text.replace('\0', "");
        match version {
            Version::V1_2 => text,
            Version::V1_1 => text.replace('\r', ""),
            Version::V1_0 => text.replace(['\r', '\n'], "").trim_matches([' ', '\t']).to_owned(),
        }
    })
}

fn header(version: Version) -> impl Strategy<Value = (String, String)> {
    (sayable(version), sayable(version)).prop_map(move |(name, value)| {
        let name = if version == Version::V1_0 { name.replace(':', "") } else { name };
        (format!("h{name}h"), value)
    })
}

type Parts = (Vec<(String, String)>, Vec<u8>);

fn parts(version: Version) -> impl Strategy<Value = Parts> {
    (vec(header(version), 0..8), vec(any::<u8>(), 0..300))
}

/// Some frames of one version.
fn frames() -> impl Strategy<Value = (Version, Vec<Parts>)> {
    version().prop_flat_map(|version| (Just(version), vec(parts(version), 1..5)))
}

fn borrowed(headers: &[(String, String)]) -> Vec<(&str, &str)> {
    headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

fn written(version: Version, (headers, body): &Parts) -> (Frame, Vec<u8>) {
    let headers = borrowed(headers);
    let bytes = encode_client_frame(version, Command::Send, &headers, body);
    let mut expected: Headers = headers.into_iter().collect();
    if !body.is_empty() {
        expected.add("content-length", &body.len().to_string());
    }
    let frame = Frame { command: Command::Send, headers: expected, body: body.clone().into() };
    (frame, bytes.into())
}

/// Bytes that look like frames more often than chance would bring.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        2 => vec(any::<u8>(), 0..6),
        6 => prop::sample::select(vec![
            "SEND", "CONNECT", "SUBSCRIBE", "DISCONNECT", "ACK", "\n", "\n", "\n\n", "\r\n", "\r", "\0",
            "\0", ":", "destination:/queue/a\n", "content-length:", "content-length:3\n", "5", "0",
            "receipt:1\n", "\\n", "\\", "\\c", "a:b\n", "99999999999", " ",
        ]).prop_map(|text: &str| text.as_bytes().to_vec()),
    ];
    vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

/// Frames that make sense one by one, and perhaps together.
fn hostile_frames() -> impl Strategy<Value = Vec<u8>> {
    let frame = prop::sample::select(vec![
        "SUBSCRIBE\nid:a\ndestination:/queue/a\nack:client\n\n\0",
        "SUBSCRIBE\nid:b\ndestination:/queue/a\nack:client-individual\n\n\0",
        "SUBSCRIBE\nid:c\ndestination:/topic/a\n\n\0",
        "UNSUBSCRIBE\nid:a\n\n\0",
        "UNSUBSCRIBE\nid:b\n\n\0",
        "BEGIN\ntransaction:t\n\n\0",
        "COMMIT\ntransaction:t\n\n\0",
        "ABORT\ntransaction:t\n\n\0",
        "SEND\ndestination:/queue/a\n\nhello\0",
        "SEND\ndestination:/queue/a\ntransaction:t\nreceipt:1\n\nhello\0",
        "ACK\nid:0-1\nmessage-id:m~0-1\nsubscription:a\n\n\0",
        "ACK\nid:0-2\nmessage-id:m~0-2\nsubscription:a\n\n\0",
        "ACK\nid:0-2\nmessage-id:m~0-2\nsubscription:a\ntransaction:t\n\n\0",
        "ACK\nid:1-2\nmessage-id:m~1-2\nsubscription:b\n\n\0",
        "NACK\nid:1-1\nmessage-id:m~1-1\nsubscription:b\ntransaction:t\n\n\0",
        "NACK\nid:0-3\nmessage-id:m~0-3\nsubscription:a\n\n\0",
        "DISCONNECT\nreceipt:2\n\n\0",
        "\n",
    ]);
    vec(frame, 0..20).prop_map(|frames| frames.concat().into_bytes())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_is_written_is_read_again_however_the_bytes_are_cut(
        (version, frames) in frames(),
        line_ends in 0..4_usize,
        steps in vec(1..200_usize, 1..6),
    ) {
        let mut stream = b"CONNECT\n\n\0".to_vec();
        let mut expected = Vec::new();
        for parts in &frames {
            let (frame, bytes) = written(version, parts);
            expected.push(frame);
            stream.extend(bytes);
            stream.extend(vec![b'\n'; line_ends]);
        }
        let heard = read(&stream, Limits::default(), Some(version), &steps);
        prop_assert!(heard.end.is_none() && !heard.is_partial);
        prop_assert!(heard.frames[1..] == expected[..]);
    }

    #[test]
    fn a_message_says_what_was_published((version, frames) in frames()) {
        for (headers, body) in &frames {
            let headers = borrowed(headers);
            let message = Message {
                message_id: "1:2",
                destination: "/topic/a",
                content_type: None,
                headers: &headers,
                body,
            };
            let bytes = encode_message(version, Some("0"), None, &message);
            let frames = read_as(version, &bytes).expect("we read what we write");
            prop_assert_eq!(frames.len(), 1);
            prop_assert_eq!(&frames[0].body, body);
            let sent: Headers = headers.into_iter().collect();
            for (name, value) in sent.iter() {
                prop_assert_eq!(frames[0].header(name), Some(value));
            }
        }
    }

    #[test]
    fn hostile_bytes_are_read_or_refused(version in any::<u8>(), step in any::<u8>(), bytes in hostile()) {
        let data = [&[version, step], bytes.as_slice()].concat();
        check_stomp_decode(&data);
    }

    #[test]
    fn hostile_clients_lose_no_delivery(version in any::<u8>(), frames in hostile_frames()) {
        check_stomp_session(&[&[version], frames.as_slice()].concat());
    }
}
