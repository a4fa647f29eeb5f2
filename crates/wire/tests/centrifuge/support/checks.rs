//! Checks of the Centrifuge codec and of deltas that hold for any bytes. Each fuzz target is one of them.

use bytes::{Bytes, BytesMut};
use naru_wire::centrifuge::{
    Command, DecodeError, FrameLimits, Payload, Protocol, Publication, Push, Request, TagsFilter,
    append_push, decode_emulation, decode_frame, encode_push, is_json,
};
use naru_wire::delta;
use prost::Message;
use serde_json::Value;

use super::sdk::{SdkChannel, SdkCommand, SdkData, SdkNothing, SdkReply};

/// Small ones, so that a fuzzer reaches them.
const LIMITS: FrameLimits = FrameLimits { commands_max: 8, command_bytes_max: 512 };

/// Decoding JSON never panics, keeps its limits and agrees with serde_json about what was said.
pub(crate) fn check_centrifuge_json(frame: &[u8]) {
    let frame = Bytes::copy_from_slice(frame);
    let commands: Vec<_> = decode_frame(Protocol::Json, frame.clone(), LIMITS).collect();
    check_shape(&commands);
    for (line, command) in frame.split(|&byte| byte == b'\n').zip(&commands) {
        let value = serde_json::from_slice::<Value>(line);
        match command {
            Ok(command) => {
                assert!(line.len() <= LIMITS.command_bytes_max);
                // serde_json::Value refuses what only raw payloads may hold: halves of surrogate pairs
                // and numbers beyond a float.
                if let Ok(value) = value {
                    check_meaning(command, &value);
                }
                check_request(&command.request);
            }
            Err(DecodeError::Malformed | DecodeError::Empty | DecodeError::MissingId) => (),
            Err(DecodeError::CommandTooLarge) => assert!(line.len() > LIMITS.command_bytes_max),
            Err(DecodeError::TooManyCommands) => assert!(commands.len() > LIMITS.commands_max),
        }
    }
}

/// Decoding Protobuf never panics and keeps its limits, and what was read is read again from a client's
/// own writing of it.
pub(crate) fn check_centrifuge_protobuf(frame: &[u8]) {
    let frame = Bytes::copy_from_slice(frame);
    let commands: Vec<_> = decode_frame(Protocol::Protobuf, frame, LIMITS).collect();
    check_shape(&commands);
    for command in commands.into_iter().flatten() {
        check_request(&command.request);
        let again = Bytes::from(write_command(&command).encode_length_delimited_to_vec());
        let limits = FrameLimits { command_bytes_max: usize::MAX, ..LIMITS };
        let again: Vec<_> = decode_frame(Protocol::Protobuf, again, limits).collect();
        assert_eq!(again, [Ok(command)]);
    }
}

/// What is posted beside a stream is read or refused without a panic, and is what was written.
pub(crate) fn check_centrifuge_emulation(body: &[u8]) {
    let body = Bytes::copy_from_slice(body);
    if let Ok(request) = decode_emulation(Protocol::Json, &body) {
        assert!(!request.session.is_empty() && !request.data.is_empty());
        if let Ok(value) = serde_json::from_slice::<Value>(&body) {
            let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
            assert_eq!((request.node, request.session), (text("node"), text("session")));
            assert_eq!(request.data, text("data").as_bytes());
        }
    }
    if let Ok(request) = decode_emulation(Protocol::Protobuf, &body) {
        let again = Bytes::from(request.encode_to_vec());
        assert_eq!(decode_emulation(Protocol::Protobuf, &again), Ok(request));
    }
}

/// Deltas lead back to their target, also as text; foreign ones are refused without a panic. The first
/// two bytes say where the base ends.
pub(crate) fn check_delta(input: &[u8]) {
    let Some(([high, low], rest)) = input.split_first_chunk::<2>() else { return };
    let middle = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
    let (base, target) = rest.split_at(middle);
    if let Some(delta) = delta::create(base, target) {
        assert!(delta.len() < target.len());
        assert_eq!(delta::apply(base, &delta, target.len()).as_deref(), Ok(target));
        let too_small = delta::apply(base, &delta, target.len() - 1);
        assert_eq!(too_small, Err(delta::DeltaError::TooLarge));
    }
    if let Some(delta) = delta::create_text(base, target) {
        assert!(delta.len() < target.len());
        assert_eq!(delta::apply(base, delta.as_bytes(), target.len()).as_deref(), Ok(target));
    }
    if let Ok(made) = delta::apply(base, target, 4096) {
        assert!(made.len() <= 4096);
    }
}

/// There is something in every frame, nothing after an error, and never more than allowed.
fn check_shape(commands: &[Result<Command, DecodeError>]) {
    let (last, before) = commands.split_last().expect("an empty frame is an error, not nothing");
    assert!(before.iter().all(Result::is_ok));
    assert!(commands.iter().flatten().count() <= LIMITS.commands_max);
    for command in before.iter().chain([last]).flatten() {
        let needs_no_id = matches!(command.request, Request::Pong | Request::Send { .. });
        assert!(command.id > 0 || needs_no_id);
        assert!(command.id == 0 || command.request != Request::Pong);
    }
}

fn check_meaning(command: &Command, value: &Value) {
    assert!(value.is_object());
    assert_eq!(value["id"].as_u64().unwrap_or_default(), u64::from(command.id));
    let label = command.request.label();
    let has_field = !matches!(command.request, Request::Pong | Request::Nothing);
    assert!(!has_field || value[label].is_object(), "{label} of {value}");
    if let Request::Publish(publish) = &command.request {
        check_payload(&publish.data, value["publish"].get("data"));
        assert_eq!(value["publish"]["channel"].as_str().unwrap_or_default(), publish.channel);
    }
    if let Request::Rpc(rpc) = &command.request {
        check_payload(&rpc.data, value["rpc"].get("data"));
        assert_eq!(value["rpc"]["method"].as_str().unwrap_or_default(), rpc.method);
    }
}

fn check_payload(payload: &[u8], value: Option<&Value>) {
    let read = |payload| serde_json::from_slice::<Value>(payload).expect("a payload is JSON");
    assert_eq!((!payload.is_empty()).then(|| read(payload)).as_ref(), value);
}

/// What a request carries can be handed on.
fn check_request(request: &Request) {
    match request {
        Request::Publish(publish) => check_push(&publish.channel, &publish.data),
        Request::Send { data } => check_push("send", data),
        Request::Rpc(rpc) => check_push(&rpc.method, &rpc.data),
        Request::Subscribe(subscribe) => {
            if let Some(Ok(filter)) = subscribe.tf.as_ref().map(TagsFilter::parse) {
                let tags = [(subscribe.channel.clone(), subscribe.epoch.clone())].into();
                let negated = filter.matches(&tags);
                assert_eq!(negated, filter.matches(&tags));
            }
        }
        _ => (),
    }
}

/// A push of any payload reads as what it is in both encodings, alone and in a frame with another.
fn check_push(channel: &str, data: &[u8]) {
    let fits = data.is_empty() || is_json(data);
    let publication = Publication { data: Payload::Embedded(data), ..Publication::default() };
    let push = Push::Publication { channel, publication };
    for protocol in [Protocol::Json, Protocol::Protobuf] {
        let encoded = encode_push(protocol, &push);
        assert_eq!(encoded.is_ok(), fits || protocol == Protocol::Protobuf);
        let mut batch = BytesMut::new();
        assert_eq!(append_push(protocol, &push, &mut batch).is_ok(), encoded.is_ok());
        let Ok(encoded) = encoded else {
            assert!(batch.is_empty());
            continue;
        };
        assert_eq!(batch, encoded);
        append_push(protocol, &push, &mut batch).expect("it did fit once");
        let replies = read_replies(protocol, &batch);
        assert_eq!(replies.len(), 2);
        for reply in replies {
            let push = reply.push.expect("a push");
            assert_eq!(push.channel, channel);
            let without_layout = |bytes: &[u8]| -> Vec<u8> {
                bytes.iter().copied().filter(|byte| !b"\n\r".contains(byte)).collect()
            };
            let seen = push.publication.expect("a publication").data;
            match protocol {
                // The reader drops the blanks around a value.
                Protocol::Json => assert_eq!(seen, without_layout(data).trim_ascii()),
                Protocol::Protobuf => assert_eq!(seen, data),
            }
        }
    }
}

/// Reads a frame of replies as a client does.
pub(crate) fn read_replies(protocol: Protocol, frame: &[u8]) -> Vec<SdkReply> {
    match protocol {
        Protocol::Json => frame
            .split(|&byte| byte == b'\n')
            .map(|line| serde_json::from_slice(line).expect("a reply"))
            .collect(),
        Protocol::Protobuf => {
            let mut rest = Bytes::copy_from_slice(frame);
            let mut replies = Vec::new();
            while !rest.is_empty() {
                replies.push(SdkReply::decode_length_delimited(&mut rest).expect("a reply"));
            }
            replies
        }
    }
}

/// The command as a client writes it.
pub(crate) fn write_command(command: &Command) -> SdkCommand {
    let mut sdk = SdkCommand { id: command.id, ..SdkCommand::default() };
    let named = |channel: &String| Some(SdkChannel { channel: channel.clone() });
    match &command.request {
        Request::Connect(connect) => sdk.connect = Some((**connect).clone()),
        Request::Subscribe(subscribe) => sdk.subscribe = Some((**subscribe).clone()),
        Request::Unsubscribe { channel } => sdk.unsubscribe = named(channel),
        Request::Publish(publish) => sdk.publish = Some(publish.clone()),
        Request::Presence { channel } => sdk.presence = named(channel),
        Request::PresenceStats { channel } => sdk.presence_stats = named(channel),
        Request::History(history) => sdk.history = Some(history.clone()),
        Request::Rpc(rpc) => sdk.rpc = Some(rpc.clone()),
        Request::Send { data } => sdk.send = Some(SdkData { data: data.clone() }),
        Request::Refresh(refresh) => sdk.refresh = Some(refresh.clone()),
        Request::SubRefresh(refresh) => sdk.sub_refresh = Some(refresh.clone()),
        Request::Ping => sdk.ping = Some(SdkNothing {}),
        Request::Pong | Request::Nothing => (),
    }
    sdk
}
