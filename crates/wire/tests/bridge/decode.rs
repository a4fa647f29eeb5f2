//! What lines of phones mean, and which are refused for which reason.

use naru_domain::phone::KeepAlive;
use naru_domain::{Dialect, Timestamp};
use naru_wire::bridge::{Chat, Frame, FrameError, Hello, HelloForm, NESTING_MAX, decode};

#[track_caller]
fn check_error(line: impl AsRef<[u8]>, expected: FrameError) {
    let line = line.as_ref();
    assert_eq!(decode(line), Err(expected), "{}", String::from_utf8_lossy(line));
}

#[track_caller]
fn chat(line: &str) -> Chat<'_> {
    match decode(line.as_bytes()) {
        Ok(Frame::Chat { chat, .. }) => chat,
        other => panic!("{line} is {other:?}"),
    }
}

#[track_caller]
fn hello(line: &str) -> Hello<'_> {
    match decode(line.as_bytes()) {
        Ok(Frame::Hello(hello)) => hello,
        other => panic!("{line} is {other:?}"),
    }
}

#[track_caller]
fn keep_alive(line: &str) -> KeepAlive {
    match decode(line.as_bytes()) {
        Ok(Frame::KeepAlive { answer, .. }) => answer,
        other => panic!("{line} is {other:?}"),
    }
}

#[track_caller]
fn check_text(line: &str, expected: &str) {
    assert_eq!(chat(line).text, expected, "{line}");
}

#[test]
fn the_three_forms_of_a_hello_are_told_apart() {
    let bare = hello(
        r#"{"clientType":"MessengerBotR","botName":"demo-bot","version":"3.2.1","deviceID":"0123456789abcdef","deviceIP":"192.0.2.10","deviceInfo":"acme One (Android 13, API 33)"}"#,
    );
    assert_eq!((bare.form, bare.dialect), (HelloForm::Bare, Dialect::Json));
    assert_eq!((&*bare.bot_name, &*bare.device_id), ("demo-bot", "0123456789abcdef"));
    assert_eq!(bare.device_info, "acme One (Android 13, API 33)");
    assert_eq!((&*bare.device_ip, &*bare.client_type), ("192.0.2.10", "MessengerBotR"));

    let event = hello(
        r#"{"event":"handshake","data":{"botName":"b","version":"3.3.3","deviceID":"d","timestamp":"2026-01-01T00:00:00.000Z","timezone":"Asia/Seoul","message_positions":[0,0]}}"#,
    );
    assert_eq!((event.form, event.dialect), (HelloForm::Event, Dialect::Raw));

    let typed = hello(
        r#"{"type":"handshake","auth":{"botName":"b","timestamp":1},"info":{"botName":"b","version":"3.3.1","deviceID":"d"}}"#,
    );
    assert_eq!((typed.form, typed.dialect), (HelloForm::Typed, Dialect::Typed));
    assert_eq!(typed.auth.unwrap().timestamp(), Some(Timestamp(1)));
}

#[test]
fn a_hello_of_3_3_0_a1_is_bare_and_means_the_raw_dialect() {
    assert_eq!(hello(r#"{"botName":"b","version":"3.3.0"}"#).dialect, Dialect::Raw);
}

#[test]
fn old_hellos_leave_most_of_themselves_out() {
    let old = hello(r#"{"botName":"b","version":"2.9.0c"}"#);
    assert_eq!((&*old.device_id, &*old.device_ip, old.dialect), ("", "", Dialect::Json));
    let null = hello(r#"{"botName":"b","version":null,"deviceID":null,"extra":{"a":[1]}}"#);
    assert_eq!((&*null.version, &*null.device_id), ("", ""));
}

#[test]
fn both_dialects_of_chat_say_the_same() {
    let json = chat(
        r##"{"event":"analyze","data":{"room":"점심방","text":"# echo 안녕 }","sender":"지우","isGroupChat":true,"channelId":"18400000000000001","logId":"3500000000000000001","userHash":"a1b2","isMention":true,"timestamp":"2026-01-01 09:00:00","botName":"demo-bot","clientType":"MessengerBotR"}}"##,
    );
    let raw = chat(
        r#"{"event":"message","data":{"room":"점심방","channel_id":"18400000000000001","message_type":"text","content_encoding":"base64","message_positions":[0,0],"sender":"지우","is_group_chat":true,"log_id":"3500000000000000001","user_hash":"a1b2","is_mention":true}}IyBlY2hvIOyViOuFlSB9"#,
    );
    assert_eq!(json, raw);
    assert_eq!(json.text, "# echo 안녕 }");
    assert_eq!(json.channel_id.as_deref(), Some("18400000000000001"));
    assert!(json.is_group_chat && json.is_mention);
}

#[test]
fn the_legacy_path_has_no_ids_and_may_be_empty() {
    let legacy = chat(
        r#"{"event":"analyze","data":{"room":"r","text":"","sender":"s","isGroupChat":false,"channelId":null,"userHash":"x","isMention":false,"packageName":"com.kakao.talk","threadId":false}}"#,
    );
    assert_eq!((legacy.channel_id, legacy.log_id, &*legacy.text), (None, None, ""));
}

#[test]
fn ids_without_quotes_keep_all_their_digits() {
    let chat = chat(
        r#"{"event":"analyze","data":{"room":"r","text":"t","channelId":18446744073709551615,"logId":3500000000000000001}}"#,
    );
    assert_eq!(chat.channel_id.as_deref(), Some("18446744073709551615"));
    assert_eq!(chat.log_id.as_deref(), Some("3500000000000000001"));
}

#[test]
fn an_id_that_cannot_be_one_counts_as_missing() {
    let long = format!("\"{}\"", "1".repeat(129));
    let odd = [
        "\"\"", "1.5", "-1", "1e3", "true", "{}", "[\"1\"]", "\"null\"", "\"a b\"", "\"방\"", &long,
    ];
    for id in odd {
        let line =
            format!(r#"{{"event":"analyze","data":{{"room":"r","text":"t","channelId":{id}}}}}"#);
        assert_eq!(chat(&line).channel_id, None, "{id}");
    }
}

#[test]
fn the_first_spelling_that_is_not_null_counts() {
    let line = r#"{"event":"analyze","data":{"room":"r","text":"t","channelId":null,"channel_id":"1","log_id":"2","logId":"3"}}"#;
    assert_eq!(chat(line).channel_id.as_deref(), Some("1"));
    assert_eq!(chat(line).log_id.as_deref(), Some("2"));
}

#[test]
fn the_raw_part_is_decoded_only_if_it_can_be() {
    let head = r#"{"event":"message","data":{"room":"r","content_encoding":"base64"}}"#;
    check_text(&format!("{head}aGk="), "hi");
    check_text(&format!("{head}aGk"), "hi");
    check_text(&format!("{head} aGk= "), "hi");
    check_text(&format!("{head}그냥 글 }}"), "그냥 글 }");
    check_text(&format!("{head}/w=="), "/w=="); // Decodes, but not to UTF-8.
    check_text(&format!("{head}a"), "a");
    check_text(&format!("{head}===="), "====");
    let plain = r#"{"event":"message","data":{"room":"r"}}aGk="#;
    check_text(plain, "aGk=");
}

#[test]
fn each_event_takes_its_text_from_either_place() {
    check_text(r#"{"event":"message","data":{"room":"r","text":"t"}}"#, "t");
    check_text(r#"{"event":"analyze","data":{"room":"r","content_encoding":"base64"}}aGk="#, "hi");
    check_text(r#"{"event":"analyze","data":{"room":"r","text":"t"}}aGk="#, "t");
}

#[test]
fn escapes_stand_for_their_characters() {
    let line = r#"{"event":"analyze","data":{"room":"r","text":"\"\\\/\b\f\n\r\t\u0041\uAC00\ud83d\ude42}"}}"#;
    check_text(line, "\"\\/\u{8}\u{c}\n\r\tA가🙂}");
    check_text(r#"{"\u0065vent":"analyze","data":{"\u0072oom":"r","text":"t"}}"#, "t");
}

#[test]
fn half_a_surrogate_pair_costs_one_character_and_not_the_message() {
    let with =
        |text: &str| format!(r#"{{"event":"analyze","data":{{"room":"r","text":"{text}"}}}}"#);
    check_text(&with(r"a\ud83d"), "a\u{FFFD}");
    check_text(&with(r"\ude42b"), "\u{FFFD}b");
    check_text(&with(r"\ud83dx"), "\u{FFFD}x");
    check_text(&with(r"\ud83d\n"), "\u{FFFD}\n");
    check_text(&with(r"\ud83d\u0041"), "\u{FFFD}A");
    check_text(&with(r"\ud83d\ud83d\ude42"), "\u{FFFD}🙂");
}

#[test]
fn ping_and_pong_are_the_same_answer() {
    let data = r#"{"bot_name":"b","server_timestamp":1767225600000,"monitoring":{"total_memory":256,"memory_usage":41.3,"memory_percent":16.1,"message_queue_size":0,"active_rooms":3.0}}"#;
    let expected = KeepAlive {
        sent_at: Some(Timestamp(1_767_225_600_000)),
        memory_total_mb: Some(256.0),
        memory_used_mb: Some(41.3),
        memory_percent: Some(16.1),
        queued_frames: Some(0),
        active_rooms: Some(3),
    };
    for event in ["ping", "pong"] {
        assert_eq!(keep_alive(&format!(r#"{{"event":"{event}","data":{data}}}"#)), expected);
    }
}

#[test]
fn figures_that_are_odd_are_left_out() {
    for data in [
        "{}",
        r#"{"monitoring":{}}"#,
        r#"{"monitoring":null,"server_timestamp":null}"#,
        r#"{"monitoring":"off","server_timestamp":"2026"}"#,
        r#"{"monitoring":[1],"server_timestamp":{"a":1}}"#,
        r#"{"monitoring":{"total_memory":"256","memory_usage":1e999,"active_rooms":2.5,"message_queue_size":{}},"server_timestamp":1.5}"#,
        r#"{"client_status":{"cpu":1,"ram":2,"temp":3},"is_manual":false}"#,
    ] {
        let line = format!(r#"{{"event":"pong","data":{data}}}"#);
        assert_eq!(keep_alive(&line), KeepAlive::default(), "{data}");
    }
}

#[test]
fn the_tongue_of_3_3_1_is_understood() {
    let line = r#"{"type":"message","room":"점심방","content":"hi","sender":"지우","isGroupChat":true,"packageName":"com.kakao.talk","timestamp":1767225600000,"id":"k3x"}"#;
    let said = chat(line);
    assert_eq!((&*said.room, &*said.text, &*said.sender), ("점심방", "hi", "지우"));
    assert!(said.is_group_chat && said.channel_id.is_none() && said.log_id.is_none());
    assert_eq!(decode(br#"{"type":"heartbeat","timestamp":1}"#), Ok(Frame::Heartbeat));
    assert_eq!(decode(br#"{"type":"status","rooms":[]}"#), Ok(Frame::Status));
}

#[test]
fn unknown_events_are_named() {
    for line in [r#"{"event":"bye","data":7.5e3}"#, r#"{"event":"bye"}"#, r#"{"type":"bye"}"#] {
        assert_eq!(decode(line.as_bytes()), Ok(Frame::Unknown { event: "bye".into() }), "{line}");
    }
}

#[test]
fn lines_that_are_no_json_are_refused() {
    for line in ["x", "]", "}", "{]", "{x", r#"{"a"1}"#, r#"{"a":1,}"#, r#"{,"a":1}"#, "nil"] {
        assert!(matches!(decode(line.as_bytes()), Err(FrameError::NotJson { .. })), "{line}");
    }
    for value in [
        "01",
        "-x",
        "1.x",
        "1ex",
        "+1",
        ".5",
        "tru ",
        "'a'",
        "\"\u{1}\"",
        "\"\t\"",
        r#""\x""#,
        r#""\u12g4""#,
        "[1 2]",
        "[1,]",
    ] {
        let line = format!(r#"{{"event":"x","a":{value}}}"#);
        assert!(matches!(decode(line.as_bytes()), Err(FrameError::NotJson { .. })), "{line}");
    }
    check_error(r#"{"event":"x" "a":1}"#, FrameError::NotJson { at: 13 });
}

#[test]
fn every_cut_of_a_frame_is_truncated() {
    let line = r#"{"event":"analyze","data":{"room":"\u0041\n","isGroupChat":true,"n":[-1.5e+3,null,{}],"auth":{"timestamp":1}}}"#;
    assert!(!matches!(decode(line.as_bytes()), Err(FrameError::Truncated)));
    for end in 0..line.len() {
        check_error(&line[..end], FrameError::Truncated);
    }
}

#[test]
fn json_that_is_no_object_is_refused() {
    for line in ["1", "\"event\"", "null", "[]", "true", "[{\"event\":\"ping\"}]", " 7 "] {
        check_error(line, FrameError::NotAnObject);
    }
}

#[test]
fn binary_and_broken_utf8_are_refused_wherever_they_stand() {
    check_error([0xFF, 0xFE, 0x00], FrameError::NotUtf8);
    check_error(b"{\"event\":\"ping\",\"data\":{\"bot_name\":\"\xC3\"}}", FrameError::NotUtf8);
    check_error(
        b"{\"event\":\"message\",\"data\":{\"room\":\"r\"}}\xED\xA0\x80",
        FrameError::NotUtf8,
    );
    check_error([0_u8; 64], FrameError::NotJson { at: 0 });
}

#[test]
fn nesting_is_bounded_for_values_that_are_skipped_too() {
    let nested = |open: &str, close: &str, depth: usize| {
        format!(r#"{{"event":"x","data":{{"a":{}1{}}}}}"#, open.repeat(depth), close.repeat(depth))
    };
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
        assert!(decode(nested(open, close, NESTING_MAX - 2).as_bytes()).is_ok());
        check_error(nested(open, close, NESTING_MAX - 1), FrameError::TooDeep);
        check_error(nested(open, close, 100_000), FrameError::TooDeep);
    }
    check_error("[".repeat(1_000_000), FrameError::TooDeep);
}

#[test]
fn a_known_key_given_twice_is_refused() {
    let twice = [
        (r#"{"event":"ping","event":"pong","data":{}}"#, "event"),
        (r#"{"event":"ping","data":{},"data":{}}"#, "data"),
        (r#"{"event":"ping","data":{},"info":{}}"#, "info"),
        (r#"{"event":"analyze","data":{"room":"a","room":"b","text":"t"}}"#, "room"),
        (r#"{"event":"analyze","data":{"room":"a","text":"t","auth":{},"auth":{}}}"#, "auth"),
        (r#"{"event":"analyze","auth":{},"data":{"room":"a","text":"t","auth":{}}}"#, "auth"),
        (r#"{"event":"ping","data":{"auth":{"signature":"a","signature":"b"}}}"#, "auth.signature"),
        (r#"{"event":"ping","data":{"auth":null,"auth":{}}}"#, "auth"),
        (r#"{"event":"ping","data":{"monitoring":{},"monitoring":{}}}"#, "monitoring"),
        (r#"{"botName":"a","botName":"b"}"#, "botName"),
    ];
    for (line, key) in twice {
        check_error(line, FrameError::DuplicateKey { key });
    }
}

#[test]
fn unknown_keys_may_be_anything_and_repeat() {
    check_text(
        r#"{"x":1,"x":[{}],"event":"analyze","data":{"y":{"room":"no"},"room":"r","text":"t","y":null}}"#,
        "t",
    );
}

#[test]
fn what_a_frame_needs_must_be_there() {
    check_error("{}", FrameError::MissingEvent);
    check_error(r#"{"data":{}}"#, FrameError::MissingEvent);
    check_error(r#"{"event":null}"#, FrameError::MissingEvent);
    check_error(r#"{"version":"3.2.0"}"#, FrameError::MissingEvent);
    let missing = [
        (r#"{"event":"message"}"#, "data"),
        (r#"{"event":"ping","data":null}"#, "data"),
        (r#"{"event":"handshake"}"#, "data"),
        (r#"{"event":"handshake","data":{}}"#, "botName"),
        (r#"{"type":"handshake"}"#, "info"),
        (r#"{"botName":""}"#, "botName"),
        (r#"{"event":"message","data":{}}aGk="#, "room"),
        (r#"{"event":"analyze","data":{"room":"","text":"t"}}"#, "room"),
        (r#"{"event":"analyze","data":{"room":"r"}}"#, "text"),
        (r#"{"event":"message","data":{"room":"r"}} "#, "text"),
        (r#"{"type":"message","content":"t"}"#, "room"),
    ];
    for (line, field) in missing {
        check_error(line, FrameError::MissingField { field });
    }
}

#[test]
fn wrong_types_are_refused_where_they_matter() {
    for value in ["1", "true", "{}", "[]"] {
        let cases = [
            (format!(r#"{{"event":{value}}}"#), "event"),
            (format!(r#"{{"type":{value}}}"#), "type"),
            (format!(r#"{{"event":"analyze","data":{{"room":{value},"text":"t"}}}}"#), "room"),
            (format!(r#"{{"event":"analyze","data":{{"room":"r","text":{value}}}}}"#), "text"),
            (
                format!(
                    r#"{{"event":"analyze","data":{{"room":"r","text":"t","sender":{value}}}}}"#
                ),
                "sender",
            ),
            (format!(r#"{{"botName":{value}}}"#), "botName"),
            (format!(r#"{{"botName":"b","version":{value}}}"#), "version"),
            (
                format!(r#"{{"event":"ping","data":{{"auth":{{"botName":{value}}}}}}}"#),
                "auth.botName",
            ),
        ];
        for (line, field) in cases {
            check_error(line, FrameError::WrongType { field });
        }
        if value != "{}" {
            let auth = format!(r#"{{"event":"ping","data":{{"auth":{value}}}}}"#);
            check_error(auth, FrameError::WrongType { field: "auth" });
            let data = format!(r#"{{"event":"ping","data":{value}}}"#);
            check_error(data, FrameError::WrongType { field: "data" });
        }
    }
}

#[test]
fn flags_of_a_wrong_type_are_false() {
    for value in ["1", "\"true\"", "null", "{}"] {
        let line = format!(
            r#"{{"event":"analyze","data":{{"room":"r","text":"t","isGroupChat":{value},"isMention":{value}}}}}"#
        );
        assert!(!chat(&line).is_group_chat && !chat(&line).is_mention);
    }
}

#[test]
fn names_have_a_longest_length_and_texts_do_not() {
    let with = |room: &str, text: &str| {
        format!(r#"{{"event":"analyze","data":{{"room":"{room}","text":"{text}"}}}}"#)
    };
    let long = "가".repeat(1_365); // 4,095 bytes.
    check_text(&with(&long, &"글".repeat(65_000)), &"글".repeat(65_000));
    check_error(with(&format!("{long}ab"), "t"), FrameError::FieldTooLong { field: "room" });
}

#[test]
fn every_reason_has_its_own_label() {
    let reasons = [
        FrameError::NotUtf8,
        FrameError::NotJson { at: 0 },
        FrameError::Truncated,
        FrameError::TooDeep,
        FrameError::NotAnObject,
        FrameError::DuplicateKey { key: "k" },
        FrameError::MissingEvent,
        FrameError::MissingField { field: "f" },
        FrameError::WrongType { field: "f" },
        FrameError::FieldTooLong { field: "f" },
    ];
    let labels: Vec<&str> = reasons.iter().map(|reason| reason.label()).collect();
    assert_eq!(labels, FrameError::LABELS);
}
