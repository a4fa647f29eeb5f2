//! The examples of `docs/protocols/centrifuge.md`, both ways and in both encodings.

use bytes::{Bytes, BytesMut};
use naru_wire::centrifuge::{
    Answer, ClientInfo, Command, ConnectRequest, ConnectResult, DisconnectCode, ErrorCode,
    FrameLimits, HistoryRequest, HistoryResult, Payload, Protocol, Publication, PublishRequest,
    Push, Reply, Request, RpcRequest, SubscribeRequest, SubscribeResult, UnsubscribeCode,
    append_ping, append_push, append_reply, decode_frame,
};

fn hex(text: &str) -> Bytes {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let (pairs, rest) = digits.as_chunks::<2>();
    assert!(rest.is_empty());
    let byte = |pair: &[u8; 2]| {
        let pair = std::str::from_utf8(pair).expect("ASCII");
        u8::from_str_radix(pair, 16).expect("hexadecimal")
    };
    pairs.iter().map(byte).collect()
}

#[track_caller]
fn read(protocol: Protocol, frame: impl Into<Bytes>, expected: &[Command]) {
    let commands: Result<Vec<_>, _> =
        decode_frame(protocol, frame.into(), FrameLimits::DEFAULT).collect();
    assert_eq!(commands.as_deref(), Ok(expected));
}

#[track_caller]
fn reads(json: &'static str, protobuf: &str, command: Command) {
    read(Protocol::Json, json, std::slice::from_ref(&command));
    read(Protocol::Protobuf, hex(protobuf), &[command]);
}

#[track_caller]
fn writes(reply: &Reply<'_>, json: &str, protobuf: &str) {
    let frame = |protocol| {
        let mut out = BytesMut::new();
        append_reply(protocol, reply, &mut out).expect("it fits");
        out
    };
    assert_eq!(std::str::from_utf8(&frame(Protocol::Json)), Ok(json));
    assert_eq!(frame(Protocol::Protobuf), hex(protobuf), "{json}");
}

#[track_caller]
fn pushes(push: &Push<'_>, json: &str, protobuf: &str) {
    let frame = |protocol| {
        let mut out = BytesMut::new();
        append_push(protocol, push, &mut out).expect("it fits");
        out
    };
    assert_eq!(std::str::from_utf8(&frame(Protocol::Json)), Ok(json));
    assert_eq!(frame(Protocol::Protobuf), hex(protobuf), "{json}");
}

fn command(id: u32, request: Request) -> Command {
    Command { id, request }
}

fn subscribe(request: SubscribeRequest) -> Request {
    Request::Subscribe(Box::new(request))
}

fn named(channel: &str) -> SubscribeRequest {
    SubscribeRequest { channel: channel.into(), ..SubscribeRequest::default() }
}

#[test]
fn a_connect_is_read() {
    let empty = Request::Connect(Box::default());
    reads(r#"{"id":1,"connect":{}}"#, "04 08 01 22 00", command(1, empty));
    let request =
        ConnectRequest { token: "T".into(), name: "x".into(), ..ConnectRequest::default() };
    reads(
        r#"{"id":1,"connect":{"token":"T","name":"x"}}"#,
        "0a 08 01 22 06 0a 01 54 22 01 78",
        command(1, Request::Connect(Box::new(request))),
    );
}

#[test]
fn a_subscribe_is_read() {
    let request = SubscribeRequest { flag: 1, ..named("chat:1") };
    reads(
        r#"{"id":2,"subscribe":{"channel":"chat:1","flag":1}}"#,
        "0e 08 02 2a 0a 0a 06 63 68 61 74 3a 31 70 01",
        command(2, subscribe(request.clone())),
    );
    let request = SubscribeRequest { recover: true, epoch: "ab".into(), offset: 3, ..request };
    reads(
        r#"{"id":2,"subscribe":{"channel":"chat:1","flag":1,"recover":true,"epoch":"ab","offset":3}}"#,
        "16 08 02 2a 12 0a 06 63 68 61 74 3a 31 18 01 32 02 61 62 38 03 70 01",
        command(2, subscribe(request)),
    );
}

#[test]
fn publish_rpc_and_send_are_read_with_their_payloads_as_they_are() {
    let data = Bytes::from_static(br#"{"t":"hi"}"#);
    let request = PublishRequest { channel: "chat:1".into(), data, kind: 0 };
    reads(
        r#"{"id":3,"publish":{"channel":"chat:1","data":{"t":"hi"}}}"#,
        "18 08 03 3a 14 0a 06 63 68 61 74 3a 31 12 0a 7b 22 74 22 3a 22 68 69 22 7d",
        command(3, Request::Publish(request)),
    );
    let request = RpcRequest { method: "move".into(), data: Bytes::from_static(b"{}") };
    reads(
        r#"{"id":4,"rpc":{"method":"move","data":{}}}"#,
        "0e 08 04 6a 0a 0a 02 7b 7d 12 04 6d 6f 76 65",
        command(4, Request::Rpc(request)),
    );
    let data = Bytes::from_static(b"1");
    reads(
        r#"{"send":{"data":1}}"#,
        "05 62 03 0a 01 31",
        command(0, Request::Send { data: data.clone() }),
    );
}

#[test]
fn a_pong_is_an_empty_command() {
    reads("{}", "00", command(0, Request::Pong));
}

#[test]
fn history_and_presence_are_read() {
    let request = HistoryRequest { channel: "chat:1".into(), limit: 1, since: None, reverse: true };
    read(
        Protocol::Json,
        r#"{"id":5,"history":{"channel":"chat:1","limit":1,"reverse":true}}"#,
        &[command(5, Request::History(request))],
    );
    read(
        Protocol::Json,
        r#"{"id":6,"presence":{"channel":"chat:1"}}"#,
        &[command(6, Request::Presence { channel: "chat:1".into() })],
    );
}

#[test]
fn a_browsers_first_frame_holds_connect_subscribe_and_publish() {
    let data = Bytes::from_static(br#"{"t":"hi"}"#);
    let connect =
        ConnectRequest { token: "T".into(), name: "js".into(), ..ConnectRequest::default() };
    read(
        Protocol::Json,
        concat!(
            r#"{"id":1,"connect":{"token":"T","name":"js"}}"#,
            "\n",
            r#"{"id":2,"subscribe":{"channel":"chat:1","flag":1}}"#,
            "\n",
            r#"{"id":3,"publish":{"channel":"chat:1","data":{"t":"hi"}}}"#,
        ),
        &[
            command(1, Request::Connect(Box::new(connect))),
            command(2, subscribe(SubscribeRequest { flag: 1, ..named("chat:1") })),
            command(
                3,
                Request::Publish(PublishRequest { channel: "chat:1".into(), data, kind: 0 }),
            ),
        ],
    );
}

#[test]
fn a_connect_result_is_written() {
    let result = ConnectResult {
        client: "c1",
        version: "1",
        ping: 25,
        pong: true,
        ..ConnectResult::default()
    };
    writes(
        &Reply::ok(1, Answer::Connect(result)),
        r#"{"id":1,"connect":{"client":"c1","version":"1","ping":25,"pong":true}}"#,
        "0f 08 01 2a 0b 0a 02 63 31 12 01 31 38 19 40 01",
    );
}

#[test]
fn a_subscribe_result_is_written() {
    let result = SubscribeResult {
        recoverable: true,
        epoch: "ab",
        offset: 3,
        positioned: true,
        ..SubscribeResult::default()
    };
    writes(
        &Reply::ok(2, Answer::Subscribe(result)),
        r#"{"id":2,"subscribe":{"recoverable":true,"epoch":"ab","offset":3,"positioned":true}}"#,
        "0e 08 02 32 0a 18 01 32 02 61 62 48 03 50 01",
    );
}

#[test]
fn recovery_and_its_failure_are_written() {
    let publication = |data: &'static [u8], offset| Publication {
        data: Payload::Embedded(data),
        offset,
        ..Publication::default()
    };
    let result = SubscribeResult {
        recoverable: true,
        epoch: "ab",
        publications: &[publication(b"1", 5), publication(b"2", 6)],
        recovered: true,
        offset: 4,
        positioned: true,
        was_recovering: true,
        ..SubscribeResult::default()
    };
    writes(
        &Reply::ok(9, Answer::Subscribe(result)),
        r#"{"id":9,"subscribe":{"recoverable":true,"epoch":"ab","publications":[{"data":1,"offset":5},{"data":2,"offset":6}],"recovered":true,"offset":4,"positioned":true,"was_recovering":true}}"#,
        "20 08 09 32 1c 18 01 32 02 61 62 3a 05 22 01 31 30 05 3a 05 22 01 32 30 06 40 01 48 04 \
         50 01 60 01",
    );
    let result = SubscribeResult {
        recoverable: true,
        epoch: "xy",
        offset: 12,
        positioned: true,
        was_recovering: true,
        ..SubscribeResult::default()
    };
    writes(
        &Reply::ok(9, Answer::Subscribe(result)),
        r#"{"id":9,"subscribe":{"recoverable":true,"epoch":"xy","offset":12,"positioned":true,"was_recovering":true}}"#,
        "10 08 09 32 0c 18 01 32 02 78 79 48 0c 50 01 60 01",
    );
}

#[test]
fn an_empty_result_is_written_all_the_same() {
    writes(&Reply::ok(3, Answer::Publish), r#"{"id":3,"publish":{}}"#, "04 08 03 42 00");
    writes(&Reply::ok(3, Answer::Unsubscribe), r#"{"id":3,"unsubscribe":{}}"#, "04 08 03 3a 00");
}

#[test]
fn an_rpc_result_is_written() {
    writes(
        &Reply::ok(4, Answer::Rpc(b"[7]")),
        r#"{"id":4,"rpc":{"data":[7]}}"#,
        "09 08 04 6a 05 0a 03 5b 37 5d",
    );
}

#[test]
fn an_error_is_written() {
    writes(
        &Reply::error(5, ErrorCode::TokenExpired),
        r#"{"id":5,"error":{"code":109,"message":"token expired"}}"#,
        "15 08 05 12 11 08 6d 12 0d 74 6f 6b 65 6e 20 65 78 70 69 72 65 64",
    );
}

#[test]
fn history_and_presence_are_written() {
    let publications =
        [Publication { data: Payload::Embedded(b"2"), offset: 6, ..Publication::default() }];
    let history = HistoryResult { publications: &publications, epoch: "ab", offset: 6 };
    writes(
        &Reply::ok(5, Answer::History(history)),
        r#"{"id":5,"history":{"publications":[{"data":2,"offset":6}],"epoch":"ab","offset":6}}"#,
        "11 08 05 5a 0d 0a 05 22 01 32 30 06 12 02 61 62 18 06",
    );
    let info = ClientInfo {
        user: "42",
        client: "c1",
        conn_info: br#"{"n":"Bo"}"#,
        ..ClientInfo::default()
    };
    writes(
        &Reply::ok(6, Answer::Presence(&[info])),
        r#"{"id":6,"presence":{"presence":{"c1":{"user":"42","client":"c1","conn_info":{"n":"Bo"}}}}}"#,
        "20 08 06 4a 1c 0a 1a 0a 02 63 31 12 14 0a 02 34 32 12 02 63 31 1a 0a 7b 22 6e 22 3a 22 \
         42 6f 22 7d",
    );
}

#[test]
fn pushes_are_written() {
    let info = ClientInfo { user: "42", client: "c1", ..ClientInfo::default() };
    let publication = Publication {
        data: Payload::Embedded(br#"{"t":"hi"}"#),
        info: Some(info),
        offset: 4,
        ..Publication::default()
    };
    pushes(
        &Push::Publication { channel: "chat:1", publication },
        r#"{"push":{"channel":"chat:1","pub":{"data":{"t":"hi"},"info":{"user":"42","client":"c1"},"offset":4}}}"#,
        "24 22 22 12 06 63 68 61 74 3a 31 22 18 22 0a 7b 22 74 22 3a 22 68 69 22 7d 2a 08 0a 02 \
         34 32 12 02 63 31 30 04",
    );
    pushes(
        &Push::Join { channel: "chat:1", info },
        r#"{"push":{"channel":"chat:1","join":{"info":{"user":"42","client":"c1"}}}}"#,
        "16 22 14 12 06 63 68 61 74 3a 31 2a 0a 0a 08 0a 02 34 32 12 02 63 31",
    );
    pushes(
        &Push::Message { data: b"1" },
        r#"{"push":{"message":{"data":1}}}"#,
        "07 22 05 42 03 0a 01 31",
    );
    pushes(
        &Push::disconnect(DisconnectCode::Shutdown),
        r#"{"push":{"disconnect":{"code":3001,"reason":"shutdown"}}}"#,
        "11 22 0f 5a 0d 08 b9 17 12 08 73 68 75 74 64 6f 77 6e",
    );
    pushes(
        &Push::unsubscribe("chat:1", UnsubscribeCode::InsufficientState),
        r#"{"push":{"channel":"chat:1","unsubscribe":{"code":2500,"reason":"insufficient state"}}}"#,
        "23 22 21 12 06 63 68 61 74 3a 31 3a 17 10 c4 13 1a 12 69 6e 73 75 66 66 69 63 69 65 6e \
         74 20 73 74 61 74 65",
    );
}

#[test]
fn a_ping_is_an_empty_reply() {
    let ping = |protocol| {
        let mut out = BytesMut::new();
        append_ping(protocol, &mut out);
        out
    };
    assert_eq!(ping(Protocol::Json), "{}");
    assert_eq!(ping(Protocol::Protobuf), [0].as_slice());
}
