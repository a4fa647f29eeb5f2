//! What we write, as bytes and as phones hear it.

use std::time::Duration;

use bytes::Bytes;
use naru_domain::phone::MediaKind;
use naru_domain::{Dialect, MediaItem, PhoneReply, ReplyBody, Timestamp};
use naru_wire::bridge::{
    EncodeError, FRAME_PAD_UNITS, TEXT_GUARD, Welcome, encode_ping, encode_reply, encode_welcome,
    split_media, utf16_units,
};
use serde_json::json;

use crate::support::checks::check_reply;
use crate::support::phone::{Heard, hear, read_lines};

const NOW: Timestamp = Timestamp(1_767_225_600_007);
const DIALECTS: [Dialect; 3] = [Dialect::Json, Dialect::Raw, Dialect::Typed];

fn text(text: &str) -> PhoneReply {
    PhoneReply {
        room: "점심방".into(),
        channel_id: "18400000000000001".into(),
        body: ReplyBody::Text(text.into()),
        scheduled: false,
    }
}

fn media(kind: MediaKind, items: &[MediaItem], wait: Option<Duration>) -> PhoneReply {
    PhoneReply { body: ReplyBody::Media { kind, items: items.to_vec(), wait }, ..text("") }
}

fn data(bytes: &'static [u8]) -> MediaItem {
    MediaItem::Bytes(Bytes::from_static(bytes))
}

fn link(address: &str) -> MediaItem {
    MediaItem::Link(address.into())
}

#[track_caller]
fn check(dialect: Dialect, reply: &PhoneReply, expected: &str) {
    let mut out = Vec::new();
    encode_reply(&mut out, dialect, "demo-bot", reply, NOW, 0).expect("it can be written");
    assert_eq!(String::from_utf8(out).expect("UTF-8"), format!("{expected}\n"));
    check_reply(dialect, reply, FRAME_PAD_UNITS);
}

#[track_caller]
fn check_error(dialect: Dialect, reply: &PhoneReply, expected: EncodeError) {
    let mut out = b"x".to_vec();
    let written = encode_reply(&mut out, dialect, "demo-bot", reply, NOW, FRAME_PAD_UNITS);
    assert_eq!((written, &*out), (Err(expected), &b"x"[..]));
}

#[test]
fn a_text_in_each_dialect() {
    let reply = text("에코: 안녕 }");
    check(
        Dialect::Json,
        &reply,
        r#"{"event":"messageResponse","data":{"room":"점심방","channel_id":"18400000000000001","text":"에코: 안녕 }"}}"#,
    );
    check(
        Dialect::Raw,
        &reply,
        r#"{"event":"messageResponse","data":{"room":"점심방","channel_id":"18400000000000001","bot_name":"demo-bot","message_type":"text","content_encoding":"base64","timestamp":"2026-01-01T00:00:00.007Z","timezone":"Asia/Seoul","message_positions":[0,24]}}7JeQ7L2UOiDslYjrhZUgfQ=="#,
    );
    check(
        Dialect::Typed,
        &reply,
        r#"{"type":"response","room":"점심방","content":"에코: 안녕 }"}"#,
    );
}

#[test]
fn a_scheduled_text_has_its_own_event_in_the_raw_dialect_only() {
    let reply = PhoneReply { scheduled: true, ..text("점심 알림") };
    for (dialect, event) in [(Dialect::Json, "messageResponse"), (Dialect::Raw, "scheduleMessage")]
    {
        let mut out = Vec::new();
        encode_reply(&mut out, dialect, "demo-bot", &reply, NOW, 0).unwrap();
        let start = format!(r#"{{"event":"{event}","#);
        assert!(out.starts_with(start.as_bytes()));
        check_reply(dialect, &reply, 0);
    }
}

#[test]
fn hostile_texts_arrive_as_they_are() {
    let long = "가🙂}\r\n\"\\\u{0}\u{7f}\u{2028}".repeat(2_000);
    for said in
        ["}", "}}{{", "a\r\nb\rc\nd", "\"\\\t\u{1}\u{1f}", "🙂👨‍👩‍👧", "|||", " ", "\u{feff}x", &long]
    {
        for dialect in DIALECTS {
            let hostile = PhoneReply { room: said.into(), channel_id: said.into(), ..text(said) };
            check_reply(dialect, &hostile, FRAME_PAD_UNITS);
            check_reply(dialect, &PhoneReply { scheduled: true, ..hostile }, 0);
        }
    }
}

#[test]
fn a_text_that_looks_like_media_is_guarded_in_the_json_dialect() {
    for said in ["MEDIA_URL:http://x/y.png", "IMAGE_BASE64:aGk=", " \u{feff}\nMEDIA_URL:/sdcard/x"]
    {
        for dialect in DIALECTS {
            let mut out = Vec::new();
            encode_reply(&mut out, dialect, "b", &text(said), NOW, 0).unwrap();
            let Heard::Text { text: heard, .. } = hear(dialect, &read_lines(&out)[0]) else {
                panic!("{said} became media");
            };
            let guarded = format!("{TEXT_GUARD}{said}");
            assert_eq!(heard, if dialect == Dialect::Json { &guarded } else { said });
        }
    }
    check_reply(Dialect::Json, &text("see MEDIA_URL: there"), 0);
}

#[test]
fn frames_are_padded_to_512_units_within_their_json() {
    for dialect in DIALECTS {
        for said in ["x", "가", "🙂", &"🙂".repeat(100), &"a".repeat(300)] {
            let mut out = Vec::new();
            encode_reply(&mut out, dialect, "b", &text(said), NOW, FRAME_PAD_UNITS).unwrap();
            encode_ping(&mut out, dialect, "b", NOW, NOW, FRAME_PAD_UNITS);
            encode_welcome(&mut out, dialect, &welcome(true, said), FRAME_PAD_UNITS);
            for line in read_lines(&out) {
                let units = utf16_units(&line);
                let is_padded = line.contains("  }");
                assert!(if is_padded { units == 512 } else { units >= 512 }, "{units}: {line}");
            }
        }
        let mut out = Vec::new();
        encode_reply(&mut out, dialect, "b", &text(&"가".repeat(600)), NOW, FRAME_PAD_UNITS)
            .unwrap();
        assert!(!String::from_utf8(out).unwrap().contains("  "));
    }
}

fn welcome(success: bool, message: &str) -> Welcome<'_> {
    Welcome { success, approved: false, message, server_version: "0.1", now: NOW }
}

#[test]
fn a_welcome_in_each_dialect() {
    for (dialect, success, expected) in [
        (
            Dialect::Json,
            true,
            r#"{"event":"handshakeComplete","data":{"success":true,"approved":false,"message":"wait","server_version":"0.1"}}"#,
        ),
        (
            Dialect::Raw,
            false,
            r#"{"event":"handshakeComplete","data":{"success":false,"approved":false,"message":"wait","server_version":"0.1","timestamp":"2026-01-01T00:00:00.007Z","timezone":"Asia/Seoul","message_positions":[0,0]}}"#,
        ),
        (Dialect::Typed, true, r#"{"status":"accepted"}"#),
        (Dialect::Typed, false, r#"{"status":"rejected","reason":"wait"}"#),
    ] {
        let mut out = Vec::new();
        encode_welcome(&mut out, dialect, &welcome(success, "wait"), 0);
        assert_eq!(String::from_utf8(out).unwrap(), format!("{expected}\n"));
    }
}

#[test]
fn a_ping_comes_back_with_our_own_stamp() {
    for dialect in [Dialect::Json, Dialect::Raw] {
        let mut out = Vec::new();
        encode_ping(&mut out, dialect, "데모\"봇", Timestamp(1_767_225_600_000), NOW, 0);
        let heard = hear(dialect, &read_lines(&out)[0]);
        assert_eq!(heard, Heard::Ping { server_timestamp: json!(1_767_225_600_000_i64) });
    }
    let mut out = Vec::new();
    encode_ping(&mut out, Dialect::Typed, "b", NOW, NOW, 0);
    assert_eq!(out, b"{\"type\":\"heartbeat\"}\n");
}

#[test]
fn pictures_in_each_dialect() {
    let two = media(MediaKind::Image, &[data(b"one"), data(b"two!")], Some(Duration::from_secs(8)));
    check(
        Dialect::Json,
        &two,
        r#"{"event":"messageResponse","data":{"room":"점심방","channel_id":"18400000000000001","text":"IMAGE_BASE64:b25l|||dHdvIQ==","media_wait_time":8000}}"#,
    );
    check(
        Dialect::Raw,
        &two,
        r#"{"event":"messageResponse","data":{"room":"점심방","channel_id":"18400000000000001","bot_name":"demo-bot","message_type":"image","message_format":"png","timestamp":"2026-01-01T00:00:00.007Z","timezone":"Asia/Seoul","message_positions":[0,4,12],"media_wait_time":8000}}b25ldHdvIQ=="#,
    );
    check_error(Dialect::Typed, &two, EncodeError::NeedsSplit);
    check(
        Dialect::Typed,
        &media(MediaKind::Image, &[data(b"one")], None),
        r#"{"type":"response","room":"점심방","content":"","options":{"media":"b25l"}}"#,
    );
}

#[test]
fn links_go_to_json_phones_only() {
    let links = [link("http://192.0.2.1/a.jpg"), link("https://192.0.2.1/b.mp4")];
    let reply = media(MediaKind::Video, &links, None);
    check(
        Dialect::Json,
        &reply,
        r#"{"event":"messageResponse","data":{"room":"점심방","channel_id":"18400000000000001","text":"MEDIA_URL:http://192.0.2.1/a.jpg|||https://192.0.2.1/b.mp4"}}"#,
    );
    check_error(Dialect::Raw, &reply, EncodeError::ImagesOnly);
    for dialect in [Dialect::Raw, Dialect::Typed] {
        check_error(dialect, &media(MediaKind::Image, &links[..1], None), EncodeError::NeedsBytes);
    }
}

#[test]
fn a_link_that_is_a_file_of_the_phone_is_never_sent() {
    for address in [
        "/sdcard/DCIM/private.jpg",
        "file:///sdcard/x.png",
        "data:image/png;base64,aGk=",
        "httpx://h/a",
        "http://h/a|||/sdcard/x",
        "http://h/a|",
        "http://h/a b",
        "http://h/a\nb",
        "",
    ] {
        let reply = media(MediaKind::Image, &[link("http://h/a"), link(address)], None);
        check_error(Dialect::Json, &reply, EncodeError::BadLink);
    }
}

#[test]
fn data_can_only_be_pictures_and_never_empty() {
    check_error(
        Dialect::Json,
        &media(MediaKind::Audio, &[data(b"x")], None),
        EncodeError::NeedsLink,
    );
    check_error(
        Dialect::Raw,
        &media(MediaKind::Document, &[data(b"x")], None),
        EncodeError::ImagesOnly,
    );
    for dialect in DIALECTS {
        check_error(dialect, &media(MediaKind::Image, &[], None), EncodeError::Empty);
        check_error(dialect, &media(MediaKind::Image, &[data(b"")], None), EncodeError::Empty);
        check_error(dialect, &text(""), EncodeError::Empty);
    }
}

#[test]
fn a_wait_is_a_number_above_zero_or_nothing() {
    for (wait, expected) in [
        (None, None),
        (Some(Duration::ZERO), None),
        (Some(Duration::from_micros(900)), None),
        (Some(Duration::from_millis(1)), Some(1)),
        (Some(Duration::from_millis(15_000)), Some(15_000)),
    ] {
        for dialect in DIALECTS {
            let mut out = Vec::new();
            let reply = media(MediaKind::Image, &[data(b"x")], wait);
            encode_reply(&mut out, dialect, "b", &reply, NOW, 0).unwrap();
            let Heard::Pictures { wait_ms, .. } = hear(dialect, &read_lines(&out)[0]) else {
                panic!("no pictures");
            };
            assert_eq!(wait_ms, expected);
        }
    }
}

#[test]
fn a_reply_without_a_channel_id_leaves_the_field_out() {
    let reply = PhoneReply { channel_id: "".into(), ..text("t") };
    check(
        Dialect::Json,
        &reply,
        r#"{"event":"messageResponse","data":{"room":"점심방","text":"t"}}"#,
    );
}

#[test]
fn mixed_items_are_split_in_order() {
    let items = [data(b"1"), data(b"2"), link("http://h/3"), data(b"4")];
    let mixed = media(MediaKind::Image, &items, Some(Duration::from_secs(5)));
    check_error(Dialect::Json, &mixed, EncodeError::NeedsSplit);
    for (dialect, sizes) in [
        (Dialect::Json, vec![2, 1, 1]),
        (Dialect::Raw, vec![4]),
        (Dialect::Typed, vec![1, 1, 1, 1]),
    ] {
        let frames = split_media(dialect, &mixed);
        let groups: Vec<_> = frames
            .iter()
            .map(|frame| match &frame.body {
                ReplyBody::Media { items, .. } => items.clone(),
                ReplyBody::Text(_) => panic!("a text"),
            })
            .collect();
        assert_eq!(groups.iter().map(Vec::len).collect::<Vec<_>>(), sizes);
        assert_eq!(groups.concat(), items);
        if dialect == Dialect::Json {
            frames.iter().for_each(|frame| check_reply(dialect, frame, FRAME_PAD_UNITS));
        }
    }
    assert_eq!(split_media(Dialect::Json, &text("t")), [text("t")]);
}

#[test]
fn ten_large_pictures_are_one_whole_frame() {
    let picture: Vec<u8> = (0..200_000_u32).map(|index| (index * 7 % 251) as u8).collect();
    let items = vec![MediaItem::Bytes(picture.into()); 10];
    for dialect in [Dialect::Json, Dialect::Raw] {
        check_reply(dialect, &media(MediaKind::Image, &items, None), FRAME_PAD_UNITS);
    }
}
