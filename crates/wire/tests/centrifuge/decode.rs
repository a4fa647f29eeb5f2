//! Frames that are odd, hostile or just unusual.

use bytes::Bytes;
use naru_wire::centrifuge::{
    Command, DecodeError, FrameLimits, Protocol, Request, StreamPosition, decode_emulation,
    decode_frame,
};
use prost::Message;

use crate::support::sdk::{SdkChannel, SdkCommand, SdkData, SdkNothing};

fn decode(protocol: Protocol, frame: impl Into<Bytes>) -> Vec<Result<Command, DecodeError>> {
    let limits = FrameLimits { commands_max: 3, command_bytes_max: 100 };
    decode_frame(protocol, frame.into(), limits).collect()
}

#[track_caller]
fn one(protocol: Protocol, frame: impl Into<Bytes>) -> Result<Command, DecodeError> {
    let mut commands = decode(protocol, frame);
    assert_eq!(commands.len(), 1, "{commands:?}");
    commands.remove(0)
}

fn json(frame: &'static str) -> Result<Command, DecodeError> {
    one(Protocol::Json, frame)
}

#[track_caller]
fn request(frame: &'static str) -> Request {
    json(frame).expect("a command").request
}

fn delimited(commands: &[SdkCommand]) -> Vec<u8> {
    commands.iter().flat_map(Message::encode_length_delimited_to_vec).collect()
}

#[test]
fn an_empty_frame_is_refused() {
    for protocol in [Protocol::Json, Protocol::Protobuf] {
        assert_eq!(one(protocol, ""), Err(DecodeError::Empty));
    }
}

#[test]
fn one_line_end_may_follow_the_last_command_but_no_line_may_be_blank() {
    assert_eq!(decode(Protocol::Json, "{}\n").len(), 1);
    assert_eq!(decode(Protocol::Json, "{}\r\n{}\r\n").len(), 2);
    for frame in ["\n", " ", "{}\n\n", "{}\n\n{}", "\n{}"] {
        let last = decode(Protocol::Json, frame).pop();
        assert_eq!(last, Some(Err(DecodeError::Malformed)), "{frame:?}");
    }
}

#[test]
fn commands_before_a_broken_one_are_good_and_those_after_it_are_not_read() {
    let commands = decode(Protocol::Json, "{\"id\":1,\"ping\":{}}\n{\n{}");
    assert_eq!(
        commands,
        [Ok(Command { id: 1, request: Request::Ping }), Err(DecodeError::Malformed)]
    );
    let commands = decode(Protocol::Protobuf, [0, 1, 0xff, 0].to_vec());
    assert_eq!(
        commands,
        [Ok(Command { id: 0, request: Request::Pong }), Err(DecodeError::Malformed)]
    );
}

#[test]
fn what_is_no_object_is_malformed() {
    for frame in ["[]", "1", "null", "\"{}\"", "{} {}", "{},", "[{}]", "{\"id\":1", "\u{feff}{}"] {
        assert_eq!(json(frame), Err(DecodeError::Malformed), "{frame}");
    }
    assert_eq!(one(Protocol::Json, &b"{\"id\":1,\"x\":\"\xff\"}"[..]), Err(DecodeError::Malformed));
}

#[test]
fn fields_of_a_wrong_type_are_malformed() {
    for frame in [
        r#"{"id":"1"}"#,
        r#"{"id":-1}"#,
        r#"{"id":1.0}"#,
        r#"{"id":4294967296}"#,
        r#"{"id":1,"connect":[]}"#,
        r#"{"id":1,"publish":["chat",{},0]}"#,
        r#"{"id":1,"subscribe":true}"#,
        r#"{"id":1,"subscribe":{"channel":1}}"#,
        r#"{"id":1,"subscribe":{"offset":-1}}"#,
        r#"{"id":1,"subscribe":{"tf":{"nodes":[[]]}}}"#,
        r#"{"id":1,"id":1}"#,
    ] {
        assert_eq!(json(frame), Err(DecodeError::Malformed), "{frame}");
    }
}

#[test]
fn unknown_keys_and_nulls_mean_nothing() {
    let frame = r#"{"id":1,"connect":null,"x":[{}],"history":{"channel":null,"limit":null,"y":1}}"#;
    assert_eq!(request(frame), Request::History(Default::default()));
    let frame = r#"{"id":1,"connect":{"subs":{"a":null},"headers":{"b":null},"dict":"d"}}"#;
    let Request::Connect(connect) = request(frame) else { panic!("a connect") };
    assert_eq!(connect.subs.keys().collect::<Vec<_>>(), ["a"]);
    assert_eq!(connect.headers["b"], "");
}

#[test]
fn a_null_payload_is_a_payload_and_a_missing_one_is_empty() {
    let Request::Publish(publish) = request(r#"{"id":1,"publish":{"channel":"a","data":null}}"#)
    else {
        panic!("a publish")
    };
    assert_eq!(publish.data, "null");
    let Request::Publish(publish) = request(r#"{"id":1,"publish":{"channel":"a"}}"#) else {
        panic!("a publish")
    };
    assert_eq!(publish.data, "");
}

#[test]
fn payloads_keep_their_digits_order_and_blanks_and_are_not_copied() {
    let frame = Bytes::from_static(
        br#"{"id":1,"rpc":{"data": {"b": 1.000, "a":12345678901234567890.5, "b":"\ud800"} }}"#,
    );
    let Request::Rpc(rpc) = one(Protocol::Json, frame.clone()).unwrap().request else {
        panic!("an rpc")
    };
    assert_eq!(rpc.data, r#"{"b": 1.000, "a":12345678901234567890.5, "b":"\ud800"}"#);
    let range = frame.as_ptr_range();
    assert!(range.contains(&rpc.data.as_ptr()));

    let sdk = SdkCommand {
        send: Some(SdkData { data: Bytes::from_static(b"\xff") }),
        ..SdkCommand::default()
    };
    let frame = Bytes::from(delimited(&[sdk]));
    let Request::Send { data } = one(Protocol::Protobuf, frame.clone()).unwrap().request else {
        panic!("a send")
    };
    assert!(frame.as_ptr_range().contains(&data.as_ptr()));
}

#[test]
fn the_first_field_in_the_protocols_order_counts() {
    let all = r#""publish":{},"subscribe":{},"send":{},"rpc":{},"ping":{},"unsubscribe":{}"#;
    let order = ["connect", "subscribe", "unsubscribe", "publish"];
    let frame = format!(r#"{{"id":1,"connect":{{}},{all}}}"#);
    assert_eq!(one(Protocol::Json, frame).unwrap().request.label(), order[0]);
    let frame = format!(r#"{{"id":1,{all}}}"#);
    assert_eq!(one(Protocol::Json, frame).unwrap().request.label(), order[1]);

    let order = "unsubscribe publish presence presence_stats history rpc send refresh sub_refresh";
    let order: Vec<&str> = order.split(' ').collect();
    for from in 0..order.len() {
        // The others follow in reverse, which must not matter.
        let fields: String =
            order[from..].iter().rev().map(|key| format!(",\"{key}\":{{}}")).collect();
        let frame = format!("{{\"id\":1,\"ping\":{{}}{fields}}}");
        let limits = FrameLimits::DEFAULT;
        let command = decode_frame(Protocol::Json, frame.into(), limits).next().unwrap().unwrap();
        assert_eq!(command.request.label(), order[from]);
    }
    let nothing = Some(SdkNothing {});
    let channel = Some(SdkChannel { channel: "a".into() });
    let sdk = SdkCommand { id: 1, ping: nothing, presence: channel, ..SdkCommand::default() };
    let request = one(Protocol::Protobuf, delimited(&[sdk])).unwrap().request;
    assert_eq!(request, Request::Presence { channel: "a".into() });
}

#[test]
fn a_command_without_id_is_a_pong_unless_it_sends() {
    assert_eq!(request(r#"{"id":0,"connect":{},"publish":{}}"#), Request::Pong);
    assert_eq!(request(r#"{"send":{},"refresh":{}}"#), Request::Send { data: Bytes::new() });
    assert_eq!(json(r#"{"send":{},"publish":{}}"#), Err(DecodeError::MissingId));
    assert_eq!(request(r#"{"id":7}"#), Request::Nothing);
}

#[test]
fn too_many_commands_are_refused_at_the_first_too_many() {
    let pong = Ok(Command { id: 0, request: Request::Pong });
    let expected = [pong.clone(), pong.clone(), pong, Err(DecodeError::TooManyCommands)];
    assert_eq!(decode(Protocol::Json, "{}\n{}\n{}\n{}\n{}"), expected);
    assert_eq!(decode(Protocol::Protobuf, vec![0; 5]), expected);
    assert_eq!(decode(Protocol::Json, "{}\n{}\n{}\n").len(), 3);
}

#[test]
fn a_command_over_the_limit_is_refused_and_one_at_it_is_not() {
    let line = |bytes: usize| {
        let start = r#"{"id":1,"send":{"data":""#;
        format!("{start}{}\"}}}}", "x".repeat(bytes - start.len() - 3))
    };
    assert!(one(Protocol::Json, line(100)).is_ok());
    assert_eq!(one(Protocol::Json, line(101)), Err(DecodeError::CommandTooLarge));
    let sdk = |bytes: usize| SdkCommand {
        send: Some(SdkData { data: vec![b'x'; bytes - 4].into() }),
        ..SdkCommand::default()
    };
    assert_eq!(sdk(100).encoded_len(), 100);
    assert!(one(Protocol::Protobuf, delimited(&[sdk(100)])).is_ok());
    let error = one(Protocol::Protobuf, delimited(&[sdk(101)]));
    assert_eq!(error, Err(DecodeError::CommandTooLarge));
}

#[test]
fn a_length_beyond_the_frame_is_refused_whatever_it_says() {
    for frame in [
        &[1][..],
        &[2, 8],
        &[0x80],
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    ] {
        let error = one(Protocol::Protobuf, Bytes::from_static(frame));
        assert_eq!(error, Err(DecodeError::Malformed), "{frame:?}");
    }
    // 2^64 - 1 is a length, only not one that anybody may use.
    let frame = [&[0xff; 9][..], &[1]].concat();
    assert_eq!(one(Protocol::Protobuf, frame), Err(DecodeError::CommandTooLarge));
}

#[test]
fn protobuf_that_is_not_of_this_protocol_is_malformed() {
    for frame in [
        &[2, 0x0a, 0x00][..],               // id as bytes
        &[2, 0x20, 0x01],                   // connect as a number
        &[4, 0x22, 0x02, 0x0a, 0x05],       // a token that ends beyond its message
        &[6, 8, 1, 0x32, 2, 0x0a, 1],       // a channel that ends beyond its message
        &[7, 8, 1, 0x32, 3, 0x0a, 1, 0xff], // a channel that is not UTF-8
    ] {
        let error = one(Protocol::Protobuf, Bytes::from_static(frame));
        assert_eq!(error, Err(DecodeError::Malformed), "{frame:?}");
    }
    let unknown_field = Bytes::from_static(&[5, 8, 1, 0xfa, 1, 0]);
    let command = one(Protocol::Protobuf, unknown_field);
    assert_eq!(command, Ok(Command { id: 1, request: Request::Nothing }));
}

#[test]
fn deep_nesting_is_malformed_or_skipped_but_never_a_stack_overflow() {
    let limits = FrameLimits { commands_max: 1, command_bytes_max: 1 << 20 };
    let first =
        |frame: String| decode_frame(Protocol::Json, frame.into(), limits).next().unwrap().is_ok();
    let deep = |open: &str, close: &str| format!("{}{}", open.repeat(50_000), close.repeat(50_000));
    // Payloads and unknown keys are skipped without recursion.
    assert!(first(format!(r#"{{"id":1,"rpc":{{"data":{}}}}}"#, deep("[", "]"))));
    assert!(first(format!(r#"{{"id":1,"x":{}}}"#, deep("[", "]"))));
    let filter = format!("{}{}{}", "{\"nodes\":[".repeat(9_000), "{}", "]}".repeat(9_000));
    assert!(!first(format!(r#"{{"id":1,"subscribe":{{"tf":{filter}}}}}"#)));
    let mut node = Vec::new();
    for _ in 0..3_000 {
        let mut outer = vec![0x32];
        prost::encode_length_delimiter(node.len(), &mut outer).unwrap();
        outer.append(&mut node);
        node = outer;
    }
    let mut subscribe = vec![0x6a];
    prost::encode_length_delimiter(node.len(), &mut subscribe).unwrap();
    subscribe.append(&mut node);
    let mut command = vec![8, 1, 0x2a];
    prost::encode_length_delimiter(subscribe.len(), &mut command).unwrap();
    command.append(&mut subscribe);
    let mut frame = Vec::new();
    prost::encode_length_delimiter(command.len(), &mut frame).unwrap();
    frame.append(&mut command);
    let command = decode_frame(Protocol::Protobuf, frame.into(), limits).next();
    assert_eq!(command, Some(Err(DecodeError::Malformed)));
}

#[test]
fn every_request_field_is_read() {
    let limits = FrameLimits::DEFAULT;
    let request = |frame: &'static str| {
        decode_frame(Protocol::Json, frame.into(), limits).next().unwrap().unwrap().request
    };
    let Request::Subscribe(subscribe) = request(
        r#"{"id":1,"subscribe":{"channel":"a","token":"t","recover":true,"epoch":"e","offset":18446744073709551615,"data":[],"positioned":true,"recoverable":true,"join_leave":true,"delta":"fossil","tf":{"op":"and","nodes":[{"key":"k","cmp":"in","vals":["v"]},{"key":"k","cmp":"eq","val":"w"}]},"flag":3,"type":4}}"#,
    ) else {
        panic!("a subscribe")
    };
    assert_eq!((subscribe.channel.as_str(), subscribe.token.as_str()), ("a", "t"));
    assert_eq!((subscribe.epoch.as_str(), subscribe.offset), ("e", u64::MAX));
    assert!(subscribe.recover && subscribe.positioned);
    assert!(subscribe.recoverable && subscribe.join_leave);
    assert_eq!((subscribe.delta.as_str(), subscribe.flag, subscribe.kind), ("fossil", 3, 4));
    let filter = subscribe.tf.unwrap();
    assert_eq!(filter.op, "and");
    assert_eq!(
        (filter.nodes[0].cmp.as_str(), filter.nodes[0].vals.as_slice()),
        ("in", &["v".into()][..])
    );
    assert_eq!((filter.nodes[1].key.as_str(), filter.nodes[1].val.as_str()), ("k", "w"));

    let Request::Connect(connect) = request(
        r#"{"id":1,"connect":{"token":"t","data":{},"subs":{"a":{"recover":true,"offset":2,"epoch":"e"}},"name":"n","version":"v","headers":{"X-A":"b"},"flag":2}}"#,
    ) else {
        panic!("a connect")
    };
    assert_eq!((&connect.token[..], &connect.data[..]), ("t", &b"{}"[..]));
    assert_eq!((&connect.name[..], &connect.version[..]), ("n", "v"));
    assert_eq!((&connect.headers["X-A"][..], connect.flag), ("b", 2));
    let position = &connect.subs["a"];
    assert!(position.recover && position.offset == 2 && position.epoch == "e");

    let Request::History(history) = request(
        r#"{"id":1,"history":{"channel":"a","limit":-1,"since":{"offset":5,"epoch":"e"},"reverse":true}}"#,
    ) else {
        panic!("a history")
    };
    assert_eq!((history.limit, history.reverse), (-1, true));
    assert_eq!(history.since, Some(StreamPosition { offset: 5, epoch: "e".into() }));

    let Request::SubRefresh(refresh) =
        request(r#"{"id":1,"sub_refresh":{"channel":"a","token":"t","type":1}}"#)
    else {
        panic!("a sub_refresh")
    };
    assert_eq!((&refresh.channel[..], &refresh.token[..], refresh.kind), ("a", "t", 1));
    let Request::Publish(publish) = request(r#"{"id":1,"publish":{"channel":"a","type":1}}"#)
    else {
        panic!("a publish")
    };
    assert_eq!((&publish.channel[..], publish.kind), ("a", 1));
}

#[test]
fn tokens_and_headers_do_not_show_up_in_debug() {
    let limits = FrameLimits::DEFAULT;
    for frame in [
        r#"{"id":1,"connect":{"token":"s3cret","data":"s3cret","headers":{"A":"s3cret"},"subs":{"a":{"token":"s3cret"}}}}"#,
        r#"{"id":1,"subscribe":{"channel":"a","token":"s3cret"}}"#,
        r#"{"id":1,"refresh":{"token":"s3cret"}}"#,
        r#"{"id":1,"sub_refresh":{"token":"s3cret"}}"#,
    ] {
        let command = decode_frame(Protocol::Json, frame.into(), limits).next().unwrap().unwrap();
        let shown = format!("{command:?}");
        assert!(shown.contains("hidden") && !shown.contains("s3cret"), "{shown}");
    }
}

#[test]
fn a_body_beside_a_stream_says_whose_commands_it_holds() {
    let read = |text: &str| decode_emulation(Protocol::Json, &Bytes::from(text.to_owned()));
    let request = read(r#"{"session":"s","node":"n","data":"{}\n{}","more":1}"#).unwrap();
    assert_eq!((&*request.node, &*request.session, &*request.data), ("n", "s", &b"{}\n{}"[..]));
    assert!(!format!("{request:?}").contains("\"s\""), "the session is a secret");
    for text in ["", "[]", r#"{"session":"s","data":{}}"#, r#"{"session":1,"data":"{}"}"#] {
        assert_eq!(read(text), Err(DecodeError::Malformed), "{text}");
    }
    for text in ["{}", r#"{"session":"s"}"#, r#"{"data":"{}"}"#, r#"{"session":"","data":"{}"}"#] {
        assert_eq!(read(text), Err(DecodeError::Empty), "{text}");
    }
    let protobuf = Bytes::from_static(b"\x0a\x01n\x12\x01s\x1a\x01\x00");
    let request = decode_emulation(Protocol::Protobuf, &protobuf).unwrap();
    assert_eq!((&*request.node, &*request.session, &*request.data), ("n", "s", &b"\x00"[..]));
}
