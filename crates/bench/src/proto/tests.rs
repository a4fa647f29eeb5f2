//! The phone's side against the vectors of the protocol document and lines that unmodified scripts
//! sent (key `testsecret`, salt `testsalt`).

use serde_json::Value;
use serde_json::value::RawValue;

use super::down::{Down, Item, decode};
use super::up::{self, Chat, Monitoring};
use super::*;

const NOW_MS: u64 = 1_767_225_600_000;

fn signer() -> Signer {
    Signer::new("testsecret", "testsalt")
}

fn script(name: &str) -> Script {
    Script::find(name).unwrap()
}

fn harness_identity() -> Identity {
    let mut identity = Identity::new("harness-bot", "harness0device01", "127.0.0.1");
    identity.device_info = "HarnessBrand HM-1 (Android 13, API 33)".to_owned();
    identity
}

fn harness_chat() -> Chat {
    Chat {
        room: "시험방".to_owned(),
        channel_id: Some("18400000000000001".to_owned()),
        log_id: Some("3500000000000000001".to_owned()),
        user_hash: Some("a1b2c3d4".to_owned()),
        sender: "시험자".to_owned(),
        text: "# echo 안녕하세요 🙂".to_owned(),
        is_group_chat: true,
        is_mention: false,
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn signatures_equal_the_vectors() {
    let identity = Identity::new("demo-bot", "0123456789abcdef", "192.0.2.10");
    assert_eq!(
        signer().sign(&identity, NOW_MS),
        "1df057a65e1e008739def5d411955b62841615299b6e6e3f2310c5b15ec93691"
    );
    let mut unknown = Identity::new("데모봇", "unknown", "unknown");
    unknown.mac_address = "unknown".to_owned();
    assert_eq!(
        Signer::new("비밀키", "testsalt").sign(&unknown, NOW_MS),
        "a307f47ab30bfbcb0a515d8b43908bc83bbf632d566c201331465bb15e7f4539"
    );
}

#[test]
fn hellos_equal_the_recorded_ones() {
    let check = |name: &str, now_ms, expected: &str| {
        let line = up::hello(&script(name), &harness_identity(), &signer(), now_ms);
        assert_eq!(text(&line), format!("{expected}\n"));
    };
    check(
        "3.2.0",
        NOW_MS,
        r#"{"clientType":"MessengerBotR","botName":"harness-bot","version":"3.2.0","deviceID":"harness0device01","deviceIP":"127.0.0.1","deviceInfo":"HarnessBrand HM-1 (Android 13, API 33)"}"#,
    );
    check(
        "3.2.2+smartlog",
        NOW_MS,
        r#"{"botName":"harness-bot","version":"3.2.2+smartlog","deviceID":"harness0device01"}"#,
    );
    check("2.9.0c", NOW_MS, r#"{"botName":"harness-bot","version":"2.9.0c"}"#);
    check(
        "3.3.0-a2",
        1_795_206_162_692,
        r#"{"event":"handshake","data":{"clientType":"MessengerBotR","botName":"harness-bot","version":"3.3.0","deviceID":"harness0device01","deviceIP":"127.0.0.1","deviceInfo":"HarnessBrand HM-1 (Android 13, API 33)","timestamp":"2026-11-20T20:22:42.692Z","timezone":"Asia/Seoul","message_positions":[0,0]}}"#,
    );
}

#[test]
fn chat_equals_the_recorded_lines_byte_for_byte() {
    let check = |name: &str, now_ms, expected: &str| {
        let line = up::chat(&script(name), &harness_identity(), &signer(), &harness_chat(), now_ms);
        assert_eq!(text(&line), format!("{expected}\n"));
    };
    check(
        "3.2.0",
        1_795_205_921_624,
        r##"{"event":"analyze","data":{"room":"시험방","text":"# echo 안녕하세요 🙂","sender":"시험자","isGroupChat":true,"channelId":"18400000000000001","logId":"3500000000000000001","userHash":"a1b2c3d4","isMention":false,"timestamp":"2026-11-21 05:18:41","botName":"harness-bot","clientType":"MessengerBotR","auth":{"clientType":"MessengerBotR","botName":"harness-bot","deviceUUID":"harness0device01","deviceID":"harness0device01","macAddress":"02:00:00:00:00:00","ipAddress":"127.0.0.1","timestamp":1795205921624,"version":"3.2.0","signature":"e6c457f54259b531391ab7be6724778ba53da772cf5694e3e8e7dabd285a20be"}}}"##,
    );
    check(
        "3.2.2+smartlog",
        1_795_206_082_380,
        r##"{"event":"analyze","data":{"room":"시험방","text":"# echo 안녕하세요 🙂","sender":"시험자","isGroupChat":true,"channelId":"18400000000000001","logId":"3500000000000000001","userHash":"a1b2c3d4","isMention":false,"timestamp":"2026-11-21 05:21:22","botName":"harness-bot","clientType":"MessengerBotR","auth":{"clientType":"MessengerBotR","botName":"harness-bot","deviceUUID":"harness0device01","deviceID":"harness0device01","macAddress":"02:00:00:00:00:00","ipAddress":"127.0.0.1","timestamp":1795206082380,"version":"3.2.2+smartlog","signature":"443d900415187ea5b39d876fe551b5f5dc9add9d5774b30964d4c422eabd96e4"}}}"##,
    );
}

#[test]
fn a_raw_chat_carries_its_text_as_base64_after_the_object() {
    let line = up::chat(
        &script("3.3.0-a2"),
        &harness_identity(),
        &signer(),
        &harness_chat(),
        1_795_206_162_708,
    );
    let line = text(&line);
    assert!(line.ends_with("}}}IyBlY2hvIOyViOuFle2VmOyEuOyalCDwn5mC\n"), "{line}");
    assert!(line.contains(r#""message_positions":[0,36]"#), "{line}");
    // The recorded signature of the same moment.
    assert!(line.contains("f22cb1efc544fae59835f76d92d5c1ae84212c3c51211fe3db3cd593151fd004"));
}

#[test]
fn the_legacy_copy_has_neither_channel_nor_log_id() {
    let identity = harness_identity();
    let copy =
        up::legacy_copy(&script("3.2.1"), &identity, &signer(), &harness_chat(), "9f", NOW_MS);
    let frame: Value = serde_json::from_slice(&copy.unwrap()).unwrap();
    let data = frame["data"].as_object().unwrap();
    assert!(data["channelId"].is_null() && !data.contains_key("logId"));
    assert_eq!(data["threadId"], Value::Bool(false));
    assert!(!data.contains_key("clientType"));
    let none = up::legacy_copy(&script("3.3.2"), &identity, &signer(), &harness_chat(), "9f", 0);
    assert!(none.is_none());
}

#[test]
fn a_ping_is_echoed_exactly_under_the_event_of_the_version() {
    for (name, event) in
        [("3.2.0", "ping"), ("3.3.2", "ping"), ("3.3.3", "pong"), ("newest", "pong")]
    {
        let line = r#"{"event":"ping","data":{"server_timestamp":{"opaque":[1.50,"x"]}}}"#;
        let Down::Ping { server_timestamp } = decode(&script(name), line) else { panic!() };
        let answer = up::ping_answer(
            &script(name),
            &harness_identity(),
            &signer(),
            server_timestamp.as_deref(),
            Monitoring::plausible(0, 0),
            NOW_MS,
        );
        assert!(text(&answer).starts_with(&format!(r#"{{"event":"{event}","#)));
        assert!(text(&answer).contains(r#""server_timestamp":{"opaque":[1.50,"x"]}"#));
    }
    let none: Option<&RawValue> = None;
    let figures = Monitoring::plausible(0, 0);
    let answer =
        up::ping_answer(&script("3.2.0"), &harness_identity(), &signer(), none, figures, NOW_MS);
    assert!(!text(&answer).contains("server_timestamp"));
}

#[test]
fn texts_of_the_other_dialect_are_ignored_as_on_real_phones() {
    let json = r#"{"event":"messageResponse","data":{"room":"점심방","channel_id":"1","text":"에코: 안녕 }"}}"#;
    let raw = r#"{"event":"messageResponse","data":{"room":"점심방","channel_id":"1","message_type":"text","content_encoding":"base64","message_positions":[0,24]}}7JeQ7L2UOiDslYjrhZUgfQ=="#;
    let read = |name: &str, line: &str| match decode(&script(name), line) {
        Down::Text { room, text, .. } if room == "점심방" => Some(text),
        _ => None,
    };
    assert_eq!(read("3.2.0", json).as_deref(), Some("에코: 안녕 }"));
    assert_eq!(read("newest", raw).as_deref(), Some("에코: 안녕 }"));
    assert_eq!(read("3.2.0", raw), None);
    assert_eq!(read("newest", json), None);
}

#[test]
fn schedules_reach_raw_phones_under_their_own_event_only() {
    let raw = r#"{"event":"scheduleMessage","data":{"room":"r","channel_id":"1","content_encoding":"base64","message_positions":[0,20]}}7KCQ7IusIOyVjOumvA=="#;
    assert!(
        matches!(decode(&script("3.3.2"), raw), Down::Text { text, .. } if text == "점심 알림")
    );
    assert!(matches!(decode(&script("3.2.0"), raw), Down::Ignored(_)));
}

#[test]
fn pictures_are_split_as_each_dialect_says() {
    let json = r#"{"event":"messageResponse","data":{"room":"r","channel_id":"1","text":"IMAGE_BASE64:AAEC|||/w==|||data:x","media_wait_time":8000}}"#;
    let Down::Media { items, wait_ms, .. } = decode(&script("3.2.1"), json) else { panic!() };
    assert_eq!(wait_ms, Some(8000.0));
    assert_eq!(
        items,
        [Item::Bytes(vec![0, 1, 2]), Item::Bytes(vec![255]), Item::LocalPath("data:x".into())]
    );
    let raw = r#"{"event":"messageResponse","data":{"room":"r","channel_id":"1","message_type":"image","message_positions":[0,4,8]}}AAEC/w=="#;
    let Down::Media { items, .. } = decode(&script("3.3.3"), raw) else { panic!() };
    assert_eq!(items, [Item::Bytes(vec![0, 1, 2]), Item::Bytes(vec![255])]);
}

#[test]
fn frames_that_a_phone_would_drop_are_dropped() {
    for (name, line) in [
        ("3.2.0", ""),
        ("3.2.0", "{"),
        ("3.2.0", r#"{"event":"messageResponse"}"#),
        ("3.2.0", r#"{"event":"messageResponse","data":{"room":"r","text":5}}"#),
        ("3.2.0", r#"{"event":"error","data":{}}"#),
        ("3.3.3", r#"{"event":"messageResponse","data":{"message_positions":[0,0]}}AAEC"#),
        ("3.3.3", r#"{"event":"messageResponse","data":{"message_positions":[0,4]}}a}b="#),
        ("3.3.0-a1", r#"{"event":"ping","data":{}}"#),
    ] {
        assert!(matches!(decode(&script(name), line), Down::Ignored(_)), "{name}: {line}");
    }
}

#[test]
fn the_script_of_its_own_language_is_understood() {
    let script = script("3.3.1");
    let accepted = decode(&script, r#"{"status":"accepted"}"#);
    assert!(matches!(accepted, Down::Welcome { success: true, .. }));
    let reply = decode(&script, r#"{"type":"response","room":"점심방","content":"에코: hi"}"#);
    assert!(matches!(reply, Down::Text { text, .. } if text == "에코: hi"));
    let hello = up::hello(&script, &harness_identity(), &signer(), NOW_MS);
    let hello: Value = serde_json::from_slice(&hello).unwrap();
    assert_eq!(hello["auth"]["signature"].as_str().unwrap().len(), 64);
    assert_eq!(hello["info"]["version"], "3.3.1");
}

#[test]
fn text_is_cleaned_like_on_the_phone() {
    assert_eq!(up::clean("a\tb\r\nc\u{7f}\u{202e}\u{2066}d"), "ab\r\ncd");
    assert_eq!(up::clean(&"🙂".repeat(40_000)).encode_utf16().count(), 65_000);
}

#[test]
fn unknown_versions_choose_the_dialect_by_their_leading_numbers() {
    assert_eq!(script("3.2.9+x").dialect, Dialect::Json);
    assert_eq!(script("3.4").dialect, Dialect::Raw);
    assert_eq!(script("3.4").announces, "3.4");
    assert!(Script::find("newer").is_none());
}
