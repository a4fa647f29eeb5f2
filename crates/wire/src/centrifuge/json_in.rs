//! One line of JSON to a command. Unknown keys are ignored; an absent key, `null` and the default are
//! the same for everything but payloads, which stay slices of the line, byte for byte.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use bytes::Bytes;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::DecodeError;
use super::command::{
    ConnectRequest, FilterNode, HistoryRequest, PublishRequest, RefreshRequest, RpcRequest,
    StreamPosition, SubRefreshRequest, SubscribeRequest,
};
use super::decode::{ChannelRequest, PingRequest, RawCommand, SendRequest};
use super::emulation::EmulationRequest;

/// Reads a line. A key that stands twice is malformed: nobody could say which one was meant.
pub(super) fn read_command(line: &Bytes) -> Result<RawCommand, DecodeError> {
    let text = std::str::from_utf8(line).map_err(|_error| DecodeError::Malformed)?;
    let Object(command): Object<Command<'_>> =
        serde_json::from_str(text).map_err(|_error| DecodeError::Malformed)?;
    Ok(command.own(line))
}

/// Reads the body of a request beside a stream. Its frame is text in a string there.
pub(super) fn read_emulation(body: &Bytes) -> Result<EmulationRequest, DecodeError> {
    let Object(Emulation { node, session, data }) =
        serde_json::from_slice(body).map_err(|_error| DecodeError::Malformed)?;
    Ok(EmulationRequest {
        node: node.unwrap_or_default(),
        session: session.unwrap_or_default(),
        data: data.unwrap_or_default().into(),
    })
}

#[derive(Deserialize)]
struct Emulation {
    node: Option<String>,
    session: Option<String>,
    data: Option<String>,
}

/// Something that must be an object: derived readers would take an array of its fields as well.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Object<T>, D::Error> {
        reader.deserialize_map(ObjectVisitor(PhantomData))
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Object)
    }
}

/// A payload: present as soon as its key is, `null` included.
type Payload<'a> = Option<&'a RawValue>;

fn payload<'de, D: Deserializer<'de>>(reader: D) -> Result<Payload<'de>, D::Error> {
    <&RawValue>::deserialize(reader).map(Some)
}

fn slice(line: &Bytes, payload: Payload<'_>) -> Bytes {
    payload.map_or_else(Bytes::new, |raw| line.slice_ref(raw.get().as_bytes()))
}

#[derive(Deserialize)]
struct Command<'a> {
    id: Option<u32>,
    #[serde(borrow)]
    connect: Option<Object<Connect<'a>>>,
    #[serde(borrow)]
    subscribe: Option<Object<Subscribe<'a>>>,
    unsubscribe: Option<Object<Channel>>,
    #[serde(borrow)]
    publish: Option<Object<Publish<'a>>>,
    presence: Option<Object<Channel>>,
    presence_stats: Option<Object<Channel>>,
    history: Option<Object<History>>,
    ping: Option<Object<Ping>>,
    #[serde(borrow)]
    send: Option<Object<Send<'a>>>,
    #[serde(borrow)]
    rpc: Option<Object<Rpc<'a>>>,
    refresh: Option<Object<Refresh>>,
    sub_refresh: Option<Object<SubRefresh>>,
}

impl Command<'_> {
    fn own(self, line: &Bytes) -> RawCommand {
        RawCommand {
            id: self.id.unwrap_or_default(),
            connect: self.connect.map(|Object(connect)| Box::new(connect.own(line))),
            subscribe: self.subscribe.map(|Object(subscribe)| Box::new(subscribe.own(line))),
            unsubscribe: self.unsubscribe.map(|Object(channel)| channel.own()),
            publish: self.publish.map(|Object(publish)| publish.own(line)),
            presence: self.presence.map(|Object(channel)| channel.own()),
            presence_stats: self.presence_stats.map(|Object(channel)| channel.own()),
            history: self.history.map(|Object(history)| history.own()),
            ping: self.ping.map(|Object(Ping {})| PingRequest {}),
            send: self.send.map(|Object(send)| SendRequest { data: slice(line, send.data) }),
            rpc: self.rpc.map(|Object(rpc)| RpcRequest {
                data: slice(line, rpc.data),
                method: rpc.method.unwrap_or_default(),
            }),
            refresh: self
                .refresh
                .map(|Object(refresh)| RefreshRequest { token: refresh.token.unwrap_or_default() }),
            sub_refresh: self.sub_refresh.map(|Object(refresh)| SubRefreshRequest {
                channel: refresh.channel.unwrap_or_default(),
                token: refresh.token.unwrap_or_default(),
                kind: refresh.kind.unwrap_or_default(),
            }),
        }
    }
}

#[derive(Deserialize)]
struct Connect<'a> {
    token: Option<String>,
    #[serde(default, borrow, deserialize_with = "payload")]
    data: Payload<'a>,
    #[serde(borrow)]
    subs: Option<BTreeMap<String, Option<Object<Subscribe<'a>>>>>,
    name: Option<String>,
    version: Option<String>,
    headers: Option<BTreeMap<String, Option<String>>>,
    flag: Option<i64>,
}

impl Connect<'_> {
    fn own(self, line: &Bytes) -> ConnectRequest {
        let subs = self.subs.unwrap_or_default().into_iter();
        let headers = self.headers.unwrap_or_default().into_iter();
        ConnectRequest {
            token: self.token.unwrap_or_default(),
            data: slice(line, self.data),
            subs: subs
                .map(|(channel, sub)| {
                    (channel, sub.map(|Object(sub)| sub.own(line)).unwrap_or_default())
                })
                .collect(),
            name: self.name.unwrap_or_default(),
            version: self.version.unwrap_or_default(),
            headers: headers.map(|(key, value)| (key, value.unwrap_or_default())).collect(),
            flag: self.flag.unwrap_or_default(),
        }
    }
}

#[derive(Deserialize)]
struct Subscribe<'a> {
    channel: Option<String>,
    token: Option<String>,
    recover: Option<bool>,
    epoch: Option<String>,
    offset: Option<u64>,
    #[serde(default, borrow, deserialize_with = "payload")]
    data: Payload<'a>,
    positioned: Option<bool>,
    recoverable: Option<bool>,
    join_leave: Option<bool>,
    delta: Option<String>,
    tf: Option<Object<Filter>>,
    flag: Option<i64>,
    #[serde(rename = "type")]
    kind: Option<i32>,
}

impl Subscribe<'_> {
    fn own(self, line: &Bytes) -> SubscribeRequest {
        SubscribeRequest {
            channel: self.channel.unwrap_or_default(),
            token: self.token.unwrap_or_default(),
            recover: self.recover.unwrap_or_default(),
            epoch: self.epoch.unwrap_or_default(),
            offset: self.offset.unwrap_or_default(),
            data: slice(line, self.data),
            positioned: self.positioned.unwrap_or_default(),
            recoverable: self.recoverable.unwrap_or_default(),
            join_leave: self.join_leave.unwrap_or_default(),
            delta: self.delta.unwrap_or_default(),
            tf: self.tf.map(|Object(filter)| filter.own()),
            flag: self.flag.unwrap_or_default(),
            kind: self.kind.unwrap_or_default(),
        }
    }
}

#[derive(Deserialize)]
struct Filter {
    op: Option<String>,
    key: Option<String>,
    cmp: Option<String>,
    val: Option<String>,
    vals: Option<Vec<String>>,
    nodes: Option<Vec<Object<Filter>>>,
}

impl Filter {
    fn own(self) -> FilterNode {
        FilterNode {
            op: self.op.unwrap_or_default(),
            key: self.key.unwrap_or_default(),
            cmp: self.cmp.unwrap_or_default(),
            val: self.val.unwrap_or_default(),
            vals: self.vals.unwrap_or_default(),
            nodes: self
                .nodes
                .unwrap_or_default()
                .into_iter()
                .map(|Object(node)| node.own())
                .collect(),
        }
    }
}

#[derive(Deserialize)]
struct Channel {
    channel: Option<String>,
}

impl Channel {
    fn own(self) -> ChannelRequest {
        ChannelRequest { channel: self.channel.unwrap_or_default() }
    }
}

#[derive(Deserialize)]
struct Publish<'a> {
    channel: Option<String>,
    #[serde(default, borrow, deserialize_with = "payload")]
    data: Payload<'a>,
    #[serde(rename = "type")]
    kind: Option<i32>,
}

impl Publish<'_> {
    fn own(self, line: &Bytes) -> PublishRequest {
        PublishRequest {
            channel: self.channel.unwrap_or_default(),
            data: slice(line, self.data),
            kind: self.kind.unwrap_or_default(),
        }
    }
}

#[derive(Deserialize)]
struct History {
    channel: Option<String>,
    limit: Option<i32>,
    since: Option<Object<Since>>,
    reverse: Option<bool>,
}

#[derive(Deserialize)]
struct Since {
    offset: Option<u64>,
    epoch: Option<String>,
}

impl History {
    fn own(self) -> HistoryRequest {
        HistoryRequest {
            channel: self.channel.unwrap_or_default(),
            limit: self.limit.unwrap_or_default(),
            since: self.since.map(|Object(since)| StreamPosition {
                offset: since.offset.unwrap_or_default(),
                epoch: since.epoch.unwrap_or_default(),
            }),
            reverse: self.reverse.unwrap_or_default(),
        }
    }
}

#[derive(Deserialize)]
struct Ping {}

#[derive(Deserialize)]
struct Send<'a> {
    #[serde(default, borrow, deserialize_with = "payload")]
    data: Payload<'a>,
}

#[derive(Deserialize)]
struct Rpc<'a> {
    #[serde(default, borrow, deserialize_with = "payload")]
    data: Payload<'a>,
    method: Option<String>,
}

#[derive(Deserialize)]
struct Refresh {
    token: Option<String>,
}

#[derive(Deserialize)]
struct SubRefresh {
    channel: Option<String>,
    token: Option<String>,
    #[serde(rename = "type")]
    kind: Option<i32>,
}
