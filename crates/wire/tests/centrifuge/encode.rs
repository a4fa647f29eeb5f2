//! What every frame to a client must be, whatever goes into it.

use std::collections::BTreeMap;

use bytes::BytesMut;
use naru_wire::centrifuge::{
    Answer, ClientInfo, ConnectResult, ErrorCode, HistoryResult, Payload, Protocol, Publication,
    Push, RefreshResult, Reply, ReplyError, SubRefreshResult, SubscribeResult, UnfitPayload,
    append_encoded, append_ping, append_push, append_reply, encode_push, encode_reply, is_json,
};
use serde_json::{Value, json};

use crate::support::checks::read_replies;

fn line(reply: &Reply<'_>) -> String {
    let bytes = encode_reply(Protocol::Json, reply).expect("it fits");
    String::from_utf8(bytes.to_vec()).expect("JSON is text")
}

fn push_line(push: &Push<'_>) -> String {
    let bytes = encode_push(Protocol::Json, push).expect("it fits");
    String::from_utf8(bytes.to_vec()).expect("JSON is text")
}

fn publication(data: &[u8]) -> Publication<'_> {
    Publication { data: Payload::Embedded(data), ..Publication::default() }
}

#[test]
fn fields_that_sdks_look_up_are_written_even_when_they_are_empty() {
    let stats = Reply::ok(1, Answer::PresenceStats { clients: 0, users: 0 });
    assert_eq!(line(&stats), r#"{"id":1,"presence_stats":{"num_clients":0,"num_users":0}}"#);
    assert_eq!(
        line(&Reply::ok(1, Answer::Presence(&[]))),
        r#"{"id":1,"presence":{"presence":{}}}"#
    );
    assert_eq!(
        line(&Reply::ok(1, Answer::History(HistoryResult::default()))),
        r#"{"id":1,"history":{"publications":[],"epoch":"","offset":0}}"#
    );
    assert_eq!(
        push_line(&Push::Leave { channel: "a", info: ClientInfo::default() }),
        r#"{"push":{"channel":"a","leave":{"info":{"user":"","client":""}}}}"#
    );
    let empty = [
        (Answer::Subscribe(SubscribeResult::default()), "subscribe"),
        (Answer::Rpc(b""), "rpc"),
        (Answer::Refresh(RefreshResult::default()), "refresh"),
        (Answer::SubRefresh(SubRefreshResult::default()), "sub_refresh"),
        (Answer::Ping, "ping"),
        (Answer::Connect(ConnectResult::default()), "connect"),
    ];
    for (answer, key) in empty {
        let reply = Reply::ok(7, answer);
        assert_eq!(line(&reply), format!(r#"{{"id":7,"{key}":{{}}}}"#));
        let frame = encode_reply(Protocol::Protobuf, &reply).expect("it fits");
        assert_eq!((frame.len(), frame[0], frame[4]), (5, 4, 0), "{key}");
    }
}

#[test]
fn a_lifetime_of_zero_seconds_is_written_as_one() {
    for (ttl, expected) in [
        (None, json!({})),
        (Some(0), json!({"expires": true, "ttl": 1})),
        (Some(60), json!({"expires": true, "ttl": 60})),
    ] {
        let refresh = RefreshResult { ttl, ..RefreshResult::default() };
        let subscribe = SubscribeResult { ttl, ..SubscribeResult::default() };
        let connect = ConnectResult { ttl, ..ConnectResult::default() };
        for (answer, key) in [
            (Answer::Refresh(refresh), "refresh"),
            (Answer::SubRefresh(SubRefreshResult { ttl }), "sub_refresh"),
            (Answer::Subscribe(subscribe), "subscribe"),
            (Answer::Connect(connect), "connect"),
        ] {
            let reply: Value = serde_json::from_str(&line(&Reply::ok(1, answer))).unwrap();
            assert_eq!(reply[key], expected);
        }
    }
}

#[test]
fn an_error_always_has_a_code_and_a_message() {
    let error =
        |code, message| line(&Reply::error(1, ReplyError::application(code, message, true)));
    assert_eq!(error(400, "x"), r#"{"id":1,"error":{"code":400,"message":"x","temporary":true}}"#);
    assert_eq!(
        error(400, ""),
        r#"{"id":1,"error":{"code":400,"message":"application error","temporary":true}}"#
    );
    let internal = line(&Reply::error(1, ErrorCode::Internal));
    assert_eq!(error(0, "x"), internal);
    assert!(internal.contains(r#""code":100,"message":"internal server error","temporary":true"#));
}

#[test]
fn a_reason_is_never_missing() {
    let push = Push::Unsubscribe { channel: "a", code: 2000, reason: "" };
    assert!(push_line(&push).contains(r#""reason":"no reason given""#));
    let push = Push::Disconnect { code: 3000, reason: "" };
    assert!(push_line(&push).contains(r#""reason":"no reason given""#));
}

#[test]
fn a_payload_goes_through_byte_for_byte_but_for_line_ends() {
    let data = b"{\n  \"b\": 1.000,\r\n\t\"a\": 12345678901234567890.5, \"b\":\"\\n \xf0\x9f\x99\x82\"\n}\n";
    let push = Push::Publication { channel: "a", publication: publication(data) };
    let expected = concat!(
        r#"{"push":{"channel":"a","pub":{"data":{  "b": 1.000,"#,
        "\t",
        r#""a": 12345678901234567890.5, "b":"\n 🙂"}}}}"#
    );
    assert_eq!(push_line(&push), expected);
    let frame = encode_push(Protocol::Protobuf, &push).expect("it fits");
    assert_eq!(
        read_replies(Protocol::Protobuf, &frame)[0]
            .push
            .as_ref()
            .unwrap()
            .publication
            .as_ref()
            .unwrap()
            .data,
        &data[..]
    );
}

#[test]
fn texts_are_escaped() {
    let channel = "\"\\/\n\r\t\0\u{1f}\u{7f}é🙂\u{2028}";
    let push = Push::Unsubscribe { channel, code: 2000, reason: "x" };
    let line = push_line(&push);
    assert!(!line.contains(['\n', '\r', '\0']));
    let value: Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(value["push"]["channel"], channel);
}

#[test]
fn a_payload_that_is_not_json_reaches_protobuf_only_and_leaves_nothing_behind() {
    for data in [&b"x"[..], b"{", b"{} {}", b"\xff", b"\"\xff\"", b" ", b"{\"a\":\"\n\"}", b"01"] {
        assert!(!is_json(data));
        let info = ClientInfo { conn_info: data, ..ClientInfo::default() };
        let with_info = Publication { info: Some(info), ..publication(b"1") };
        let publications = [publication(b"1"), publication(data)];
        let subscribe =
            SubscribeResult { publications: &publications, ..SubscribeResult::default() };
        let subs = [("a", subscribe.clone())];
        let connect = ConnectResult { subs: &subs, ..ConnectResult::default() };
        let infos = [info];
        let replies = [
            Reply::ok(1, Answer::Rpc(data)),
            Reply::ok(1, Answer::Subscribe(subscribe.clone())),
            Reply::ok(1, Answer::Connect(connect)),
            Reply::ok(1, Answer::Presence(&infos)),
        ];
        let pushes = [
            Push::Publication { channel: "a", publication: publication(data) },
            Push::Publication { channel: "a", publication: with_info },
            Push::Join { channel: "a", info },
            Push::Message { data },
        ];
        let mut out = BytesMut::from("{}");
        for reply in &replies {
            assert_eq!(append_reply(Protocol::Json, reply, &mut out), Err(UnfitPayload));
            assert_eq!(encode_reply(Protocol::Json, reply), Err(UnfitPayload));
            assert!(encode_reply(Protocol::Protobuf, reply).is_ok());
        }
        for push in &pushes {
            assert_eq!(append_push(Protocol::Json, push, &mut out), Err(UnfitPayload));
            assert_eq!(encode_push(Protocol::Json, push), Err(UnfitPayload));
            assert!(encode_push(Protocol::Protobuf, push).is_ok());
        }
        assert_eq!(out, "{}");
    }
}

#[test]
fn json_is_recognized_at_any_depth() {
    for data in [&b"null"[..], b" 1 ", b"\"\\ud800\"", b"[1e999]", b"{\"a\":1,\"a\":2}", b"-0.0"] {
        assert!(is_json(data), "{data:?}");
    }
    assert!(is_json(&[vec![b'['; 100_000], vec![b']'; 100_000]].concat()));
}

#[test]
fn a_payload_of_a_subscription_with_deltas_is_a_json_string() {
    let quoted = Publication {
        data: Payload::Quoted("{\"a\":\n\"é\"}".as_bytes()),
        delta: true,
        ..Publication::default()
    };
    let push = Push::Publication { channel: "a", publication: quoted };
    assert_eq!(
        push_line(&push),
        r#"{"push":{"channel":"a","pub":{"data":"{\"a\":\n\"é\"}","delta":true}}}"#
    );
    let broken = Publication { data: Payload::Quoted(b"\xff"), ..Publication::default() };
    let push = Push::Publication { channel: "a", publication: broken };
    assert_eq!(encode_push(Protocol::Json, &push), Err(UnfitPayload));
    assert!(encode_push(Protocol::Protobuf, &push).is_ok());
}

#[test]
fn messages_of_a_frame_are_joined_as_the_encoding_wants() {
    let tags = BTreeMap::from([("k".to_owned(), "v".to_owned())]);
    let push = Push::Publication {
        channel: "a",
        publication: Publication { tags: Some(&tags), offset: u64::MAX, ..publication(b"1") },
    };
    let reply = Reply::ok(u32::MAX, Answer::Publish);
    for protocol in [Protocol::Json, Protocol::Protobuf] {
        let shared = encode_push(protocol, &push).expect("it fits");
        let mut frame = BytesMut::new();
        append_encoded(protocol, &shared, &mut frame);
        append_reply(protocol, &reply, &mut frame).expect("it fits");
        append_ping(protocol, &mut frame);
        append_push(protocol, &push, &mut frame).expect("it fits");
        let replies = read_replies(protocol, &frame);
        assert_eq!(replies.len(), 4);
        assert_eq!(replies[0], replies[3]);
        let seen = replies[0].push.as_ref().and_then(|push| push.publication.as_ref()).unwrap();
        assert_eq!((seen.offset, &seen.tags), (u64::MAX, &tags));
        assert_eq!(replies[1].id, u32::MAX);
        assert!(replies[1].publish.is_some());
        assert_eq!(replies[2], Default::default());
    }
}

#[test]
fn a_push_for_many_is_one_allocation_of_its_size() {
    let push = Push::Publication { channel: "chat:1", publication: publication(b"{\"t\":\"hi\"}") };
    for protocol in [Protocol::Json, Protocol::Protobuf] {
        let encoded = encode_push(protocol, &push).expect("it fits");
        let bytes = encoded.len();
        let back = encoded.try_into_mut().expect("nobody else has it");
        assert_eq!(back.capacity(), bytes);
    }
}
