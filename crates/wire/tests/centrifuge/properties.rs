//! Properties over generated input: nothing panics, nothing is over-read, round trips are exact.

use std::collections::BTreeMap;

use bytes::Bytes;
use naru_wire::centrifuge::{
    Command, ConnectRequest, FrameLimits, HistoryRequest, Protocol, PublishRequest, RefreshRequest,
    Request, RpcRequest, StreamPosition, SubRefreshRequest, SubscribeRequest, decode_frame,
    encode_push, encode_reply,
};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use prost::Message;
use serde_json::{Map, Value, json};

use crate::support::checks::{
    check_centrifuge_emulation, check_centrifuge_json, check_centrifuge_protobuf, check_delta,
    read_replies, write_command,
};
use crate::support::sdk::{
    SdkConnect, SdkData, SdkDisconnect, SdkError, SdkHistory, SdkInfo, SdkJoin, SdkNothing,
    SdkPresence, SdkPresenceStats, SdkPublication, SdkPush, SdkRefresh, SdkReply, SdkSubRefresh,
    SdkSubscribe, SdkSubscribePush, SdkUnsubscribe, View, with_view,
};

fn text() -> impl Strategy<Value = String> {
    prop_oneof![3 => "[a-z:#$,0-9]{0,12}", 1 => any::<String>()]
}

fn named() -> impl Strategy<Value = String> {
    prop_oneof![3 => "[a-z:#$,0-9]{1,12}", 1 => "\\PC{1,5}"]
}

/// JSON without blanks, or nothing.
fn payload() -> impl Strategy<Value = Bytes> {
    let value = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        vec(any::<u8>(), 0..4).prop_map(Value::from),
        (any::<String>(), any::<String>()).prop_map(|(key, value)| json!({key: {"a": value}})),
    ];
    prop_oneof![1 => Just(Bytes::new()), 4 => value.prop_map(|value| value.to_string().into())]
}

prop_compose! {
    fn info()(user in text(), client in named(), conn_info in payload(), chan_info in payload())
        -> SdkInfo { SdkInfo { user, client, conn_info, chan_info } }
}

prop_compose! {
    fn publication()(
        data in payload(),
        info in option::of(info()),
        offset in any::<u64>(),
        tags in btree_map(text(), text(), 0..3),
        delta in any::<bool>(),
    ) -> SdkPublication { SdkPublication { data, info, offset, tags, delta } }
}

fn ttl() -> impl Strategy<Value = (bool, u32)> {
    option::of(1_u32..).prop_map(|ttl| (ttl.is_some(), ttl.unwrap_or_default()))
}

prop_compose! {
    fn subscribed()(
        (expires, ttl) in ttl(),
        flags in any::<[bool; 5]>(),
        epoch in text(),
        publications in vec(publication(), 0..3),
        offset in any::<u64>(),
        data in payload(),
    ) -> SdkSubscribe {
        let [recoverable, recovered, positioned, was_recovering, delta] = flags;
        SdkSubscribe {
            expires, ttl, recoverable, epoch, publications, recovered, offset, positioned, data,
            was_recovering, delta,
        }
    }
}

prop_compose! {
    fn connected()(
        names in any::<[u8; 4]>(),
        (expires, ttl) in ttl(),
        data in payload(),
        subs in btree_map(text(), subscribed(), 0..3),
        ping in any::<u32>(),
        pong in any::<bool>(),
        time in 0..i64::MAX,
    ) -> SdkConnect {
        let [client, version, session, node] = names.map(|name| "n".repeat(name.into()));
        SdkConnect { client, version, expires, ttl, data, subs, ping, pong, session, node, time }
    }
}

fn push() -> impl Strategy<Value = SdkPush> {
    let of = |channel, push| SdkPush { channel, ..push };
    prop_oneof![
        (text(), publication()).prop_map(move |(channel, publication)| of(
            channel,
            SdkPush { publication: Some(publication), ..SdkPush::default() }
        )),
        (text(), info(), any::<bool>()).prop_map(move |(channel, info, joins)| {
            let who = Some(SdkJoin { info: Some(info) });
            let (join, leave) = if joins { (who, None) } else { (None, who) };
            of(channel, SdkPush { join, leave, ..SdkPush::default() })
        }),
        (text(), any::<u32>(), named()).prop_map(move |(channel, code, reason)| of(
            channel,
            SdkPush { unsubscribe: Some(SdkUnsubscribe { code, reason }), ..SdkPush::default() }
        )),
        (text(), any::<[bool; 2]>(), text(), any::<u64>(), payload()).prop_map(
            move |(channel, [recoverable, positioned], epoch, offset, data)| {
                let subscribe = SdkSubscribePush { recoverable, epoch, offset, positioned, data };
                of(channel, SdkPush { subscribe: Some(subscribe), ..SdkPush::default() })
            }
        ),
        payload()
            .prop_map(|data| SdkPush { message: Some(SdkData { data }), ..SdkPush::default() }),
        (any::<u32>(), named()).prop_map(|(code, reason)| SdkPush {
            disconnect: Some(SdkDisconnect { code, reason }),
            ..SdkPush::default()
        }),
    ]
}

fn reply() -> impl Strategy<Value = SdkReply> {
    let with = |reply| move |id: u32| SdkReply { id, ..reply };
    let empty = SdkReply::default;
    let nothing = || Some(SdkNothing {});
    let results = prop_oneof![
        (1_u32.., named(), any::<bool>()).prop_map(move |(code, message, temporary)| SdkReply {
            error: Some(SdkError { code, message, temporary }),
            ..empty()
        }),
        connected().prop_map(move |connect| SdkReply { connect: Some(connect), ..empty() }),
        subscribed().prop_map(move |subscribe| SdkReply { subscribe: Some(subscribe), ..empty() }),
        Just(SdkReply { unsubscribe: nothing(), ..empty() }),
        Just(SdkReply { publish: nothing(), ..empty() }),
        Just(SdkReply { ping: nothing(), ..empty() }),
        vec(info(), 0..4).prop_map(move |infos| {
            let presence: BTreeMap<_, _> =
                infos.into_iter().map(|info| (info.client.clone(), info)).collect();
            SdkReply { presence: Some(SdkPresence { presence }), ..empty() }
        }),
        (any::<u32>(), any::<u32>()).prop_map(move |(num_clients, num_users)| SdkReply {
            presence_stats: Some(SdkPresenceStats { num_clients, num_users }),
            ..empty()
        }),
        (vec(publication(), 0..4), text(), any::<u64>()).prop_map(
            move |(publications, epoch, offset)| SdkReply {
                history: Some(SdkHistory { publications, epoch, offset }),
                ..empty()
            }
        ),
        payload().prop_map(move |data| SdkReply { rpc: Some(SdkData { data }), ..empty() }),
        (text(), text(), ttl()).prop_map(move |(client, version, (expires, ttl))| SdkReply {
            refresh: Some(SdkRefresh { client, version, expires, ttl }),
            ..empty()
        }),
        ttl().prop_map(move |(expires, ttl)| SdkReply {
            sub_refresh: Some(SdkSubRefresh { expires, ttl }),
            ..empty()
        }),
    ];
    prop_oneof![
        3 => (1_u32.., results).prop_map(move |(id, reply)| with(reply)(id)),
        1 => push().prop_map(move |push| SdkReply { push: Some(push), ..empty() }),
    ]
}

prop_compose! {
    fn subscribe()(
        texts in any::<[u8; 4]>(),
        channel in text(),
        flags in any::<[bool; 4]>(),
        offset in any::<u64>(),
        data in payload(),
        flag in any::<i64>(),
        kind in any::<i32>(),
    ) -> SubscribeRequest {
        let [token, epoch, delta, _] = texts.map(|text| "t".repeat((text % 8).into()));
        let [recover, positioned, recoverable, join_leave] = flags;
        SubscribeRequest {
            channel, token, recover, epoch, offset, data, positioned, recoverable, join_leave,
            delta, tf: None, flag, kind,
        }
    }
}

fn command() -> impl Strategy<Value = Command> {
    let request = prop_oneof![
        (text(), payload(), btree_map(text(), subscribe(), 0..3), btree_map(text(), text(), 0..3))
            .prop_map(|(token, data, subs, headers)| {
                let (name, version, flag) = ("n".into(), token.clone(), 1);
                let connect = ConnectRequest { token, data, subs, name, version, headers, flag };
                Request::Connect(Box::new(connect))
            }),
        subscribe().prop_map(|subscribe| Request::Subscribe(Box::new(subscribe))),
        text().prop_map(|channel| Request::Unsubscribe { channel }),
        (text(), payload(), any::<i32>()).prop_map(|(channel, data, kind)| Request::Publish(
            PublishRequest { channel, data, kind }
        )),
        text().prop_map(|channel| Request::Presence { channel }),
        text().prop_map(|channel| Request::PresenceStats { channel }),
        (text(), any::<i32>(), option::of((any::<u64>(), text())), any::<bool>()).prop_map(
            |(channel, limit, since, reverse)| {
                let since = since.map(|(offset, epoch)| StreamPosition { offset, epoch });
                Request::History(HistoryRequest { channel, limit, since, reverse })
            }
        ),
        (text(), payload()).prop_map(|(method, data)| Request::Rpc(RpcRequest { data, method })),
        payload().prop_map(|data| Request::Send { data }),
        text().prop_map(|token| Request::Refresh(RefreshRequest { token })),
        (text(), text(), any::<i32>()).prop_map(|(channel, token, kind)| Request::SubRefresh(
            SubRefreshRequest { channel, token, kind }
        )),
        Just(Request::Ping),
        Just(Request::Nothing),
    ];
    (1_u32.., request).prop_map(|(id, request)| Command { id, request })
}

fn raw(payload: &[u8]) -> Option<Value> {
    (!payload.is_empty()).then(|| serde_json::from_slice(payload).expect("generated JSON"))
}

/// An object of what is there: clients leave out what is not.
fn object<const N: usize>(fields: [(&str, Option<Value>); N]) -> Value {
    let fields = fields.into_iter();
    let fields = fields.filter_map(|(key, value)| Some((key.to_owned(), value?)));
    Value::Object(fields.collect::<Map<_, _>>())
}

fn subscribe_json(subscribe: &SubscribeRequest) -> Value {
    let mut fields = json!({
        "channel": subscribe.channel, "token": subscribe.token, "recover": subscribe.recover,
        "epoch": subscribe.epoch, "offset": subscribe.offset, "positioned": subscribe.positioned,
        "recoverable": subscribe.recoverable, "join_leave": subscribe.join_leave,
        "delta": subscribe.delta, "flag": subscribe.flag, "type": subscribe.kind,
    });
    if let Some(data) = raw(&subscribe.data) {
        fields["data"] = data;
    }
    fields
}

fn command_json(command: &Command) -> String {
    let channel_only = |channel: &String| json!({"channel": channel});
    let fields = match &command.request {
        Request::Connect(connect) => object([
            ("token", Some(connect.token.clone().into())),
            ("data", raw(&connect.data)),
            (
                "subs",
                Some(
                    connect.subs.iter().map(|(k, sub)| (k.clone(), subscribe_json(sub))).collect(),
                ),
            ),
            ("name", Some(connect.name.clone().into())),
            ("version", Some(connect.version.clone().into())),
            ("headers", Some(json!(connect.headers))),
            ("flag", Some(connect.flag.into())),
        ]),
        Request::Subscribe(subscribe) => subscribe_json(subscribe),
        Request::Unsubscribe { channel }
        | Request::Presence { channel }
        | Request::PresenceStats { channel } => channel_only(channel),
        Request::Publish(publish) => object([
            ("channel", Some(publish.channel.clone().into())),
            ("data", raw(&publish.data)),
            ("type", Some(publish.kind.into())),
        ]),
        Request::History(history) => object([
            ("channel", Some(history.channel.clone().into())),
            ("limit", Some(history.limit.into())),
            (
                "since",
                history.since.as_ref().map(|s| json!({"offset": s.offset, "epoch": s.epoch})),
            ),
            ("reverse", Some(history.reverse.into())),
        ]),
        Request::Rpc(rpc) => {
            object([("method", Some(rpc.method.clone().into())), ("data", raw(&rpc.data))])
        }
        Request::Send { data } => object([("data", raw(data))]),
        Request::Refresh(refresh) => json!({"token": refresh.token}),
        Request::SubRefresh(refresh) => json!({
            "channel": refresh.channel, "token": refresh.token, "type": refresh.kind,
        }),
        Request::Ping => json!({}),
        Request::Pong | Request::Nothing => return json!({"id": command.id}).to_string(),
    };
    let mut line = json!({"id": command.id});
    line[command.request.label()] = fields;
    line.to_string()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn replies_and_pushes_are_read_by_clients_as_they_were_meant(expected in reply()) {
        for protocol in [Protocol::Json, Protocol::Protobuf] {
            let frame = with_view(&expected, |view| match view {
                View::Reply(reply) => encode_reply(protocol, &reply),
                View::Push(push) => encode_push(protocol, &push),
            });
            let frame = frame.expect("all payloads are JSON");
            prop_assert!(!(protocol == Protocol::Json && frame.contains(&b'\n')));
            prop_assert_eq!(read_replies(protocol, &frame), std::slice::from_ref(&expected));
        }
    }

    #[test]
    fn commands_of_clients_are_read_as_they_were_meant(expected in vec(command(), 1..4)) {
        let limits = FrameLimits { commands_max: 4, command_bytes_max: 1 << 20 };
        let json: Vec<String> = expected.iter().map(command_json).collect();
        let commands: Result<Vec<_>, _> =
            decode_frame(Protocol::Json, json.join("\n").into(), limits).collect();
        prop_assert_eq!(commands.as_ref(), Ok(&expected), "{:?}", json);

        let delimited = |command| write_command(command).encode_length_delimited_to_vec();
        let frame: Vec<u8> = expected.iter().flat_map(delimited).collect();
        let commands: Result<Vec<_>, _> =
            decode_frame(Protocol::Protobuf, frame.into(), limits).collect();
        prop_assert_eq!(commands, Ok(expected));
    }

    #[test]
    fn broken_commands_are_read_or_refused(
        commands in vec(command(), 1..3),
        edits in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut json = commands.iter().map(command_json).collect::<Vec<_>>().join("\n").into_bytes();
        let delimited = |command| write_command(command).encode_length_delimited_to_vec();
        let mut protobuf: Vec<u8> = commands.iter().flat_map(delimited).collect();
        for (index, byte) in edits {
            let at = index.index(json.len());
            json[at] = byte;
            let at = index.index(protobuf.len());
            protobuf[at] = byte;
        }
        check_centrifuge_json(&json);
        check_centrifuge_protobuf(&protobuf);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..200)) {
        check_centrifuge_json(&bytes);
        check_centrifuge_protobuf(&bytes);
        check_centrifuge_emulation(&bytes);
        check_delta(&bytes);
    }

    #[test]
    fn deltas_lead_to_their_target(
        base in "[a-c]{0,20}[가-나é🙂]{0,40}[a-c]{0,60}",
        edits in vec((any::<prop::sample::Index>(), "\\PC{0,3}", 0_usize..4), 0..5),
    ) {
        let mut target: Vec<char> = base.chars().collect();
        for (index, text, count) in edits {
            let at = index.index(target.len() + 1);
            let end = (at + count).min(target.len());
            target.splice(at..end, text.chars());
        }
        let target: String = target.into_iter().collect();
        let [high, low] = u16::try_from(base.len()).expect("it is short").to_be_bytes();
        check_delta(&[&[high, low], base.as_bytes(), target.as_bytes()].concat());
    }
}
