//! A client's half of the Centrifuge protocol, written from the field numbers alone and read by
//! libraries, so that a mistake of our writers cannot hide in our readers.

use std::collections::BTreeMap;

use bytes::Bytes;
use naru_wire::centrifuge::{
    Answer, ClientInfo, ConnectRequest, ConnectResult, HistoryRequest, HistoryResult, Payload,
    Publication, PublishRequest, Push, RefreshRequest, RefreshResult, Reply, ReplyError,
    RpcRequest, SubRefreshRequest, SubRefreshResult, SubscribeRequest, SubscribeResult,
};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// A reply as a client sees it, from either encoding.
#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default)]
pub(crate) struct SdkReply {
    #[prost(uint32, tag = "1")]
    pub(crate) id: u32,
    #[prost(message, optional, tag = "2")]
    pub(crate) error: Option<SdkError>,
    #[prost(message, optional, tag = "4")]
    pub(crate) push: Option<SdkPush>,
    #[prost(message, optional, tag = "5")]
    pub(crate) connect: Option<SdkConnect>,
    #[prost(message, optional, tag = "6")]
    pub(crate) subscribe: Option<SdkSubscribe>,
    #[prost(message, optional, tag = "7")]
    pub(crate) unsubscribe: Option<SdkNothing>,
    #[prost(message, optional, tag = "8")]
    pub(crate) publish: Option<SdkNothing>,
    #[prost(message, optional, tag = "9")]
    pub(crate) presence: Option<SdkPresence>,
    #[prost(message, optional, tag = "10")]
    pub(crate) presence_stats: Option<SdkPresenceStats>,
    #[prost(message, optional, tag = "11")]
    pub(crate) history: Option<SdkHistory>,
    #[prost(message, optional, tag = "12")]
    pub(crate) ping: Option<SdkNothing>,
    #[prost(message, optional, tag = "13")]
    pub(crate) rpc: Option<SdkData>,
    #[prost(message, optional, tag = "14")]
    pub(crate) refresh: Option<SdkRefresh>,
    #[prost(message, optional, tag = "15")]
    pub(crate) sub_refresh: Option<SdkSubRefresh>,
}

#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default)]
pub(crate) struct SdkError {
    #[prost(uint32, tag = "1")]
    pub(crate) code: u32,
    #[prost(string, tag = "2")]
    pub(crate) message: String,
    #[prost(bool, tag = "3")]
    pub(crate) temporary: bool,
}

#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default)]
pub(crate) struct SdkPush {
    #[prost(string, tag = "2")]
    pub(crate) channel: String,
    #[prost(message, optional, tag = "4")]
    #[serde(rename = "pub")]
    pub(crate) publication: Option<SdkPublication>,
    #[prost(message, optional, tag = "5")]
    pub(crate) join: Option<SdkJoin>,
    #[prost(message, optional, tag = "6")]
    pub(crate) leave: Option<SdkJoin>,
    #[prost(message, optional, tag = "7")]
    pub(crate) unsubscribe: Option<SdkUnsubscribe>,
    #[prost(message, optional, tag = "8")]
    pub(crate) message: Option<SdkData>,
    #[prost(message, optional, tag = "9")]
    pub(crate) subscribe: Option<SdkSubscribePush>,
    #[prost(message, optional, tag = "11")]
    pub(crate) disconnect: Option<SdkDisconnect>,
}

#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default)]
pub(crate) struct SdkNothing {}

#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default)]
pub(crate) struct SdkData {
    #[prost(bytes = "bytes", tag = "1")]
    #[serde(deserialize_with = "raw")]
    pub(crate) data: Bytes,
}

#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default)]
pub(crate) struct SdkInfo {
    #[prost(string, tag = "1")]
    pub(crate) user: String,
    #[prost(string, tag = "2")]
    pub(crate) client: String,
    #[prost(bytes = "bytes", tag = "3")]
    #[serde(deserialize_with = "raw")]
    pub(crate) conn_info: Bytes,
    #[prost(bytes = "bytes", tag = "4")]
    #[serde(deserialize_with = "raw")]
    pub(crate) chan_info: Bytes,
}

#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default)]
pub(crate) struct SdkPublication {
    #[prost(bytes = "bytes", tag = "4")]
    #[serde(deserialize_with = "raw")]
    pub(crate) data: Bytes,
    #[prost(message, optional, tag = "5")]
    pub(crate) info: Option<SdkInfo>,
    #[prost(uint64, tag = "6")]
    pub(crate) offset: u64,
    #[prost(btree_map = "string, string", tag = "7")]
    pub(crate) tags: BTreeMap<String, String>,
    #[prost(bool, tag = "8")]
    pub(crate) delta: bool,
}

#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default)]
pub(crate) struct SdkJoin {
    #[prost(message, optional, tag = "1")]
    pub(crate) info: Option<SdkInfo>,
}

#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default)]
pub(crate) struct SdkUnsubscribe {
    #[prost(uint32, tag = "2")]
    pub(crate) code: u32,
    #[prost(string, tag = "3")]
    pub(crate) reason: String,
}

#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default)]
pub(crate) struct SdkDisconnect {
    #[prost(uint32, tag = "1")]
    pub(crate) code: u32,
    #[prost(string, tag = "2")]
    pub(crate) reason: String,
}

#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default)]
pub(crate) struct SdkSubscribePush {
    #[prost(bool, tag = "1")]
    pub(crate) recoverable: bool,
    #[prost(string, tag = "4")]
    pub(crate) epoch: String,
    #[prost(uint64, tag = "5")]
    pub(crate) offset: u64,
    #[prost(bool, tag = "6")]
    pub(crate) positioned: bool,
    #[prost(bytes = "bytes", tag = "7")]
    #[serde(deserialize_with = "raw")]
    pub(crate) data: Bytes,
}

#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default)]
pub(crate) struct SdkConnect {
    #[prost(string, tag = "1")]
    pub(crate) client: String,
    #[prost(string, tag = "2")]
    pub(crate) version: String,
    #[prost(bool, tag = "3")]
    pub(crate) expires: bool,
    #[prost(uint32, tag = "4")]
    pub(crate) ttl: u32,
    #[prost(bytes = "bytes", tag = "5")]
    #[serde(deserialize_with = "raw")]
    pub(crate) data: Bytes,
    #[prost(btree_map = "string, message", tag = "6")]
    pub(crate) subs: BTreeMap<String, SdkSubscribe>,
    #[prost(uint32, tag = "7")]
    pub(crate) ping: u32,
    #[prost(bool, tag = "8")]
    pub(crate) pong: bool,
    #[prost(string, tag = "9")]
    pub(crate) session: String,
    #[prost(string, tag = "10")]
    pub(crate) node: String,
    #[prost(int64, tag = "11")]
    pub(crate) time: i64,
}

#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default)]
pub(crate) struct SdkSubscribe {
    #[prost(bool, tag = "1")]
    pub(crate) expires: bool,
    #[prost(uint32, tag = "2")]
    pub(crate) ttl: u32,
    #[prost(bool, tag = "3")]
    pub(crate) recoverable: bool,
    #[prost(string, tag = "6")]
    pub(crate) epoch: String,
    #[prost(message, repeated, tag = "7")]
    pub(crate) publications: Vec<SdkPublication>,
    #[prost(bool, tag = "8")]
    pub(crate) recovered: bool,
    #[prost(uint64, tag = "9")]
    pub(crate) offset: u64,
    #[prost(bool, tag = "10")]
    pub(crate) positioned: bool,
    #[prost(bytes = "bytes", tag = "11")]
    #[serde(deserialize_with = "raw")]
    pub(crate) data: Bytes,
    #[prost(bool, tag = "12")]
    pub(crate) was_recovering: bool,
    #[prost(bool, tag = "13")]
    pub(crate) delta: bool,
}

#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default)]
pub(crate) struct SdkPresence {
    #[prost(btree_map = "string, message", tag = "1")]
    pub(crate) presence: BTreeMap<String, SdkInfo>,
}

#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default)]
pub(crate) struct SdkPresenceStats {
    #[prost(uint32, tag = "1")]
    pub(crate) num_clients: u32,
    #[prost(uint32, tag = "2")]
    pub(crate) num_users: u32,
}

#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default)]
pub(crate) struct SdkHistory {
    #[prost(message, repeated, tag = "1")]
    pub(crate) publications: Vec<SdkPublication>,
    #[prost(string, tag = "2")]
    pub(crate) epoch: String,
    #[prost(uint64, tag = "3")]
    pub(crate) offset: u64,
}

#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default)]
pub(crate) struct SdkRefresh {
    #[prost(string, tag = "1")]
    pub(crate) client: String,
    #[prost(string, tag = "2")]
    pub(crate) version: String,
    #[prost(bool, tag = "3")]
    pub(crate) expires: bool,
    #[prost(uint32, tag = "4")]
    pub(crate) ttl: u32,
}

#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default)]
pub(crate) struct SdkSubRefresh {
    #[prost(bool, tag = "1")]
    pub(crate) expires: bool,
    #[prost(uint32, tag = "2")]
    pub(crate) ttl: u32,
}

/// A command as a client writes it: any number of fields.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SdkCommand {
    #[prost(uint32, tag = "1")]
    pub(crate) id: u32,
    #[prost(message, optional, tag = "4")]
    pub(crate) connect: Option<ConnectRequest>,
    #[prost(message, optional, tag = "5")]
    pub(crate) subscribe: Option<SubscribeRequest>,
    #[prost(message, optional, tag = "6")]
    pub(crate) unsubscribe: Option<SdkChannel>,
    #[prost(message, optional, tag = "7")]
    pub(crate) publish: Option<PublishRequest>,
    #[prost(message, optional, tag = "8")]
    pub(crate) presence: Option<SdkChannel>,
    #[prost(message, optional, tag = "9")]
    pub(crate) presence_stats: Option<SdkChannel>,
    #[prost(message, optional, tag = "10")]
    pub(crate) history: Option<HistoryRequest>,
    #[prost(message, optional, tag = "11")]
    pub(crate) ping: Option<SdkNothing>,
    #[prost(message, optional, tag = "12")]
    pub(crate) send: Option<SdkData>,
    #[prost(message, optional, tag = "13")]
    pub(crate) rpc: Option<RpcRequest>,
    #[prost(message, optional, tag = "14")]
    pub(crate) refresh: Option<RefreshRequest>,
    #[prost(message, optional, tag = "15")]
    pub(crate) sub_refresh: Option<SubRefreshRequest>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SdkChannel {
    #[prost(string, tag = "1")]
    pub(crate) channel: String,
}

fn raw<'de, D: Deserializer<'de>>(reader: D) -> Result<Bytes, D::Error> {
    let raw = Box::<RawValue>::deserialize(reader)?;
    Ok(Bytes::copy_from_slice(raw.get().as_bytes()))
}

/// Lends what a client should see to our encoder, and takes back what it made. The detour by a closure
/// is needed because views borrow from each other.
pub(crate) fn with_view<T>(reply: &SdkReply, then: impl FnOnce(View<'_>) -> T) -> T {
    if let Some(push) = &reply.push {
        return then(View::Push(push_view(push)));
    }
    let id = reply.id;
    if let Some(error) = &reply.error {
        let error = ReplyError::application(error.code, &error.message, error.temporary);
        return then(View::Reply(Reply::error(id, error)));
    }
    if let Some(connect) = &reply.connect {
        let publications: Vec<Vec<Publication<'_>>> =
            connect.subs.values().map(|sub| publications(&sub.publications)).collect();
        let subs: Vec<(&str, SubscribeResult<'_>)> = connect
            .subs
            .iter()
            .zip(&publications)
            .map(|((channel, sub), publications)| {
                (channel.as_str(), subscribe_view(sub, publications))
            })
            .collect();
        let connect = ConnectResult {
            client: &connect.client,
            version: &connect.version,
            ttl: connect.expires.then_some(connect.ttl),
            data: &connect.data,
            subs: &subs,
            ping: connect.ping,
            pong: connect.pong,
            session: &connect.session,
            node: &connect.node,
            time: connect.time,
        };
        return then(View::Reply(Reply::ok(id, Answer::Connect(connect))));
    }
    if let Some(sub) = &reply.subscribe {
        let publications = publications(&sub.publications);
        let sub = subscribe_view(sub, &publications);
        return then(View::Reply(Reply::ok(id, Answer::Subscribe(sub))));
    }
    if let Some(presence) = &reply.presence {
        let infos: Vec<ClientInfo<'_>> = presence.presence.values().map(info_view).collect();
        return then(View::Reply(Reply::ok(id, Answer::Presence(&infos))));
    }
    if let Some(history) = &reply.history {
        let history = HistoryResult {
            publications: &publications(&history.publications),
            epoch: &history.epoch,
            offset: history.offset,
        };
        return then(View::Reply(Reply::ok(id, Answer::History(history))));
    }
    then(View::Reply(Reply::ok(id, plain_answer(reply))))
}

/// What the encoder is asked for.
pub(crate) enum View<'a> {
    Reply(Reply<'a>),
    Push(Push<'a>),
}

fn plain_answer(reply: &SdkReply) -> Answer<'_> {
    let ttl = |expires: bool, ttl: u32| expires.then_some(ttl);
    if reply.unsubscribe.is_some() {
        Answer::Unsubscribe
    } else if reply.publish.is_some() {
        Answer::Publish
    } else if let Some(stats) = &reply.presence_stats {
        Answer::PresenceStats { clients: stats.num_clients, users: stats.num_users }
    } else if let Some(rpc) = &reply.rpc {
        Answer::Rpc(&rpc.data)
    } else if let Some(refresh) = &reply.refresh {
        Answer::Refresh(RefreshResult {
            client: &refresh.client,
            version: &refresh.version,
            ttl: ttl(refresh.expires, refresh.ttl),
        })
    } else if let Some(refresh) = &reply.sub_refresh {
        Answer::SubRefresh(SubRefreshResult { ttl: ttl(refresh.expires, refresh.ttl) })
    } else {
        assert!(reply.ping.is_some(), "the reply is empty");
        Answer::Ping
    }
}

fn push_view(push: &SdkPush) -> Push<'_> {
    let channel = push.channel.as_str();
    let who = |join: &'_ SdkJoin| join.info.clone().expect("a join says who");
    if let Some(publication) = &push.publication {
        return Push::Publication { channel, publication: publication_view(publication) };
    }
    if let Some(join) = push.join.as_ref().or(push.leave.as_ref()) {
        assert_ne!(who(join), SdkInfo::default());
        let info = info_view(join.info.as_ref().expect("a join says who"));
        return match &push.join {
            Some(_) => Push::Join { channel, info },
            None => Push::Leave { channel, info },
        };
    }
    if let Some(end) = &push.unsubscribe {
        return Push::Unsubscribe { channel, code: end.code, reason: &end.reason };
    }
    if let Some(end) = &push.disconnect {
        return Push::Disconnect { code: end.code, reason: &end.reason };
    }
    if let Some(start) = &push.subscribe {
        return Push::Subscribe {
            channel,
            recoverable: start.recoverable,
            epoch: &start.epoch,
            offset: start.offset,
            positioned: start.positioned,
            data: &start.data,
        };
    }
    Push::Message { data: &push.message.as_ref().expect("the push is empty").data }
}

fn info_view(info: &SdkInfo) -> ClientInfo<'_> {
    ClientInfo {
        user: &info.user,
        client: &info.client,
        conn_info: &info.conn_info,
        chan_info: &info.chan_info,
    }
}

fn publication_view(publication: &SdkPublication) -> Publication<'_> {
    Publication {
        data: Payload::Embedded(&publication.data),
        info: publication.info.as_ref().map(info_view),
        offset: publication.offset,
        tags: Some(&publication.tags),
        delta: publication.delta,
    }
}

fn publications(publications: &[SdkPublication]) -> Vec<Publication<'_>> {
    publications.iter().map(publication_view).collect()
}

fn subscribe_view<'a>(
    sub: &'a SdkSubscribe,
    publications: &'a [Publication<'a>],
) -> SubscribeResult<'a> {
    SubscribeResult {
        ttl: sub.expires.then_some(sub.ttl),
        recoverable: sub.recoverable,
        epoch: &sub.epoch,
        publications,
        recovered: sub.recovered,
        offset: sub.offset,
        positioned: sub.positioned,
        data: &sub.data,
        was_recovering: sub.was_recovering,
        delta: sub.delta,
    }
}
