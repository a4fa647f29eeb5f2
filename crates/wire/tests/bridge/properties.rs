//! Properties over generated input: nothing panics, nothing is over-read, round trips are exact.

use std::time::Duration;

use bytes::Bytes;
use naru_domain::phone::MediaKind;
use naru_domain::{Dialect, MediaItem, PhoneReply, ReplyBody};
use naru_wire::bridge::{Frame, FrameError, decode};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::checks::{check_decode, check_encode, check_reply, check_split, check_verify};

/// Text with more of what hurts than chance would bring.
fn hostile_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        3 => any::<char>().prop_map(String::from),
        3 => "[a-zA-Z0-9 가-힣]{0,12}",
        2 => prop::sample::select(vec![
            "}", "{", "\"", "\\", "\r", "\n", "\r\n", "\t", "\0", "🙂", "|||", "MEDIA_URL:",
            "IMAGE_BASE64:", "\u{feff}", "\u{2028}", "\u{200b}", "\\u0000", "]}", "```",
        ]).prop_map(String::from),
    ];
    vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

fn dialect() -> impl Strategy<Value = Dialect> {
    prop::sample::select(vec![Dialect::Json, Dialect::Raw, Dialect::Typed])
}

/// JSON that looks like frames: known keys with values of any type.
fn frame_like() -> impl Strategy<Value = Value> {
    let key = prop::sample::select(vec![
        "event",
        "type",
        "data",
        "info",
        "auth",
        "room",
        "text",
        "content",
        "sender",
        "channelId",
        "channel_id",
        "logId",
        "botName",
        "version",
        "deviceID",
        "monitoring",
        "signature",
        "timestamp",
        "server_timestamp",
        "content_encoding",
        "total_memory",
        "other",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        hostile_text().prop_map(Value::from),
        prop::sample::select(vec!["analyze", "message", "ping", "pong", "handshake", "base64"])
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 48, 12, move |inner| {
        prop_oneof![
            3 => vec((key.clone(), inner.clone()), 0..12)
                .prop_map(|pairs| Value::Object(pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())),
            1 => vec(inner, 0..4).prop_map(Value::from),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_bytes_are_decoded_or_refused(line in vec(any::<u8>(), 0..200)) {
        check_decode(&line);
        check_verify(&line);
        check_encode(&line);
    }

    #[test]
    fn any_bytes_are_split_the_same_however_they_arrive(
        max in any::<u8>(), step in any::<u8>(),
        stream in vec(prop::sample::select(b"ab\n\n\r".to_vec()), 0..200),
    ) {
        check_split(&[&[max, step], &stream[..]].concat());
    }

    #[test]
    fn frames_with_values_of_any_type_agree_with_serde_json(value in frame_like(), raw in hostile_text()) {
        check_decode(format!("{value}{raw}").as_bytes());
    }

    #[test]
    fn a_frame_with_one_byte_changed_is_decoded_or_refused(
        place in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let mut line = br#"{"event":"analyze","data":{"room":"\uac00r","text":"t\n","channelId":"1","auth":{"botName":"b","timestamp":17.0e2,"signature":""}}}aGk="#.to_vec();
        let place = place.index(line.len());
        line[place] = byte;
        check_decode(&line);
    }

    #[test]
    fn what_a_phone_says_is_understood_exactly(
        room in hostile_text(), text in hostile_text(), sender in hostile_text(),
        channel in proptest::option::of("[0-9]{1,20}"), group in any::<bool>(), as_raw in any::<bool>(),
    ) {
        let line = if as_raw {
            use base64::Engine as _;
            let raw = base64::engine::general_purpose::STANDARD.encode(&text);
            let data = json!({"room": room, "channel_id": channel, "content_encoding": "base64",
                "message_positions": [0, 0], "sender": sender, "is_group_chat": group});
            format!("{}{raw}", json!({"event": "message", "data": data}))
        } else {
            let data = json!({"room": room, "channelId": channel, "text": text, "sender": sender,
                "isGroupChat": group});
            json!({"event": "analyze", "data": data}).to_string()
        };
        match decode(line.as_bytes()) {
            Ok(Frame::Chat { chat, auth: None }) => {
                prop_assert_eq!((&*chat.room, &*chat.text, &*chat.sender), (&*room, &*text, &*sender));
                prop_assert_eq!((chat.channel_id.as_deref(), chat.is_group_chat), (channel.as_deref(), group));
            }
            Err(FrameError::MissingField { field: "room" }) => prop_assert!(room.is_empty()),
            Err(FrameError::MissingField { field: "text" }) => prop_assert!(as_raw && text.is_empty()),
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn every_text_reply_is_read_back_exactly(
        dialect in dialect(), room in hostile_text(), channel_id in hostile_text(),
        text in hostile_text(), scheduled in any::<bool>(), pad_to in prop::sample::select(vec![0, 200, 512]),
    ) {
        let body = ReplyBody::Text(text.into());
        let reply = PhoneReply { room: room.into(), channel_id: channel_id.into(), body, scheduled };
        check_reply(dialect, &reply, pad_to);
    }

    #[test]
    fn every_picture_is_read_back_byte_for_byte(
        dialect in dialect(), pictures in vec(vec(any::<u8>(), 0..400), 0..5),
        wait_ms in proptest::option::of(0_u64..20_000),
    ) {
        let items = pictures.into_iter().map(|bytes| MediaItem::Bytes(Bytes::from(bytes))).collect();
        let wait = wait_ms.map(Duration::from_millis);
        let body = ReplyBody::Media { kind: MediaKind::Image, items, wait };
        let reply = PhoneReply { room: "r".into(), channel_id: "1".into(), body, scheduled: false };
        for reply in naru_wire::bridge::split_media(dialect, &reply) {
            check_reply(dialect, &reply, 512);
        }
    }
}
