//! What the server says in the examples of the Centrifuge page and of its AsyncAPI document, written by the codec.

use bytes::BytesMut;
use naru_wire::centrifuge::{
    Answer, ClientInfo, ConnectResult, DisconnectCode, ErrorCode, HistoryResult, Payload, Protocol,
    Publication, Push, RefreshResult, Reply, SubRefreshResult, SubscribeResult, UnsubscribeCode,
    append_ping, append_push, append_reply,
};
use serde_json::Value;

/// Something that the server says.
pub(crate) struct Said {
    /// The field that says what it is: of a reply, or of a push.
    pub(crate) what: &'static str,
    pub(crate) is_push: bool,
    pub(crate) json: String,
    pub(crate) protobuf: Vec<u8>,
}

impl Said {
    pub(crate) fn value(&self) -> Value {
        serde_json::from_str(&self.json).expect("the codec writes JSON")
    }
}

fn reply(what: &'static str, reply: &Reply<'_>) -> Said {
    let frame = |protocol| {
        let mut out = BytesMut::new();
        append_reply(protocol, reply, &mut out).expect("it fits");
        out.to_vec()
    };
    said(what, false, frame)
}

fn push(what: &'static str, push: &Push<'_>) -> Said {
    let frame = |protocol| {
        let mut out = BytesMut::new();
        append_push(protocol, push, &mut out).expect("it fits");
        out.to_vec()
    };
    said(what, true, frame)
}

fn said(what: &'static str, is_push: bool, frame: impl Fn(Protocol) -> Vec<u8>) -> Said {
    let json = String::from_utf8(frame(Protocol::Json)).expect("JSON is text");
    Said { what, is_push, json, protobuf: frame(Protocol::Protobuf) }
}

fn publication(data: &[u8], offset: u64) -> Publication<'_> {
    Publication { data: Payload::Embedded(data), offset, ..Publication::default() }
}

const INFO: ClientInfo<'_> =
    ClientInfo { user: "42", client: "c1", conn_info: b"", chan_info: b"" };

/// Everything there is to say, some of it more than once.
pub(crate) fn everything() -> Vec<Said> {
    let mut all = replies();
    all.extend(pushes());
    all.push(said("ping", false, |protocol| {
        let mut out = BytesMut::new();
        append_ping(protocol, &mut out);
        out.to_vec()
    }));
    all
}

fn replies() -> Vec<Said> {
    let connected = ConnectResult {
        client: "c1",
        version: "1",
        ping: 25,
        pong: true,
        ..ConnectResult::default()
    };
    let subscribed = SubscribeResult {
        recoverable: true,
        epoch: "ab",
        offset: 3,
        positioned: true,
        ..SubscribeResult::default()
    };
    let missed = [publication(b"1", 5), publication(b"2", 6)];
    let recovered = SubscribeResult {
        publications: &missed,
        recovered: true,
        offset: 4,
        was_recovering: true,
        ..subscribed.clone()
    };
    let lost =
        SubscribeResult { epoch: "xy", offset: 12, was_recovering: true, ..subscribed.clone() };
    let history = HistoryResult { publications: &missed, epoch: "ab", offset: 6 };
    let refreshed = RefreshResult { client: "c1", version: "1", ttl: Some(600) };
    vec![
        reply("connect", &Reply::ok(1, Answer::Connect(connected))),
        reply("subscribe", &Reply::ok(2, Answer::Subscribe(subscribed))),
        reply("subscribe", &Reply::ok(9, Answer::Subscribe(recovered))),
        reply("subscribe", &Reply::ok(9, Answer::Subscribe(lost))),
        reply("unsubscribe", &Reply::ok(3, Answer::Unsubscribe)),
        reply("publish", &Reply::ok(3, Answer::Publish)),
        reply("presence", &Reply::ok(4, Answer::Presence(&[INFO]))),
        reply("presence_stats", &Reply::ok(4, Answer::PresenceStats { clients: 2, users: 1 })),
        reply("history", &Reply::ok(5, Answer::History(history))),
        reply("rpc", &Reply::ok(6, Answer::Rpc(b"[7]"))),
        reply("refresh", &Reply::ok(7, Answer::Refresh(refreshed))),
        reply(
            "sub_refresh",
            &Reply::ok(8, Answer::SubRefresh(SubRefreshResult { ttl: Some(600) })),
        ),
        reply("error", &Reply::error(1, ErrorCode::TokenExpired)),
    ]
}

fn pushes() -> Vec<Said> {
    let channel = "chat:1";
    let heard = Publication { info: Some(INFO), ..publication(br#"{"t":"hi"}"#, 4) };
    let (recoverable, positioned) = (true, true);
    let begun =
        Push::Subscribe { channel, recoverable, epoch: "ab", offset: 3, positioned, data: b"" };
    let gap = UnsubscribeCode::InsufficientState;
    vec![
        push("pub", &Push::Publication { channel, publication: heard }),
        push("join", &Push::Join { channel, info: INFO }),
        push("leave", &Push::Leave { channel, info: INFO }),
        push("subscribe", &begun),
        push("unsubscribe", &Push::unsubscribe(channel, gap)),
        push("message", &Push::Message { data: br#"{"t":"hi"}"# }),
        push("disconnect", &Push::disconnect(DisconnectCode::Shutdown)),
    ]
}
