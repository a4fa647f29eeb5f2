//! A server that answers every command with something made up, the same each time. The recorded SDKs
//! talked to it through a socket; the tests hold its answers against what was recorded.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use naru_wire::centrifuge::{
    Answer, ClientInfo, Command, ConnectResult, ErrorCode, FrameLimits, HistoryResult, Payload,
    Protocol, Publication, Push, RefreshResult, Reply, ReplyError, Request, SubRefreshResult,
    SubscribeRequest, SubscribeResult, UnsubscribeCode, append_ping, append_push, append_reply,
    decode_frame,
};
use naru_wire::delta;

const PERSONAL: &str = "personal:#42";
const INFO: ClientInfo<'_> = ClientInfo {
    user: "42",
    client: "c-1",
    conn_info: br#"{"name":"Bo"}"#,
    chan_info: br#"{"role":"dj"}"#,
};
const FULL: &[u8] = r#"{"text":"a long enough beginning, é and a long enough end"}"#.as_bytes();
const NEXT: &[u8] = r#"{"text":"a long enough beginning, è and a long enough end"}"#.as_bytes();

/// One frame with all answers to a frame, or nothing.
pub(crate) fn respond(protocol: Protocol, frame: Bytes) -> BytesMut {
    let mut responder = Responder { protocol, out: BytesMut::new() };
    for command in decode_frame(protocol, frame, FrameLimits::DEFAULT) {
        responder.answer(&command.expect("SDKs write good commands"));
    }
    responder.out
}

struct Responder {
    protocol: Protocol,
    out: BytesMut,
}

impl Responder {
    fn ok(&mut self, id: u32, answer: Answer<'_>) {
        let reply = Reply::ok(id, answer);
        append_reply(self.protocol, &reply, &mut self.out).expect("it fits");
    }

    fn error<'a>(&mut self, id: u32, error: impl Into<ReplyError<'a>>) {
        let reply = Reply::error(id, error);
        append_reply(self.protocol, &reply, &mut self.out).expect("it fits");
    }

    fn push(&mut self, push: &Push<'_>) {
        append_push(self.protocol, push, &mut self.out).expect("it fits");
    }

    fn publish(&mut self, channel: &str, publication: Publication<'_>) {
        self.push(&Push::Publication { channel, publication });
    }

    fn answer(&mut self, command: &Command) {
        let id = command.id;
        match &command.request {
            Request::Connect(connect) => {
                let position = connect.subs.get(PERSONAL);
                self.connect(id, &connect.data, position);
            }
            Request::Subscribe(subscribe) => self.subscribe(id, subscribe),
            Request::Unsubscribe { .. } => self.ok(id, Answer::Unsubscribe),
            Request::Publish(publish) => {
                self.ok(id, Answer::Publish);
                let tags = BTreeMap::from([("lang".to_owned(), "한국어".to_owned())]);
                let publication = Publication {
                    data: Payload::Embedded(&publish.data),
                    info: Some(INFO),
                    offset: 5,
                    tags: Some(&tags),
                    delta: false,
                };
                self.publish(&publish.channel, publication);
            }
            Request::Presence { .. } => self.ok(id, Answer::Presence(&[INFO])),
            Request::PresenceStats { .. } => {
                self.ok(id, Answer::PresenceStats { clients: 2, users: 1 });
            }
            Request::History(history) => {
                let publications = if history.limit == 0 {
                    &[][..]
                } else {
                    &[numbered(b"6", 6), numbered(b"7", 7)]
                };
                let result = HistoryResult { publications, epoch: "ab", offset: 7 };
                self.ok(id, Answer::History(result));
            }
            Request::Rpc(rpc) => self.rpc(id, &rpc.method, &rpc.data),
            Request::Send { data } => self.push(&Push::Message { data }),
            Request::Refresh(refresh) => {
                assert_eq!(refresh.token, "fresh");
                self.ok(id, Answer::Refresh(RefreshResult::default()));
            }
            Request::SubRefresh(refresh) => {
                assert_eq!(refresh.token, "fresh");
                self.ok(id, Answer::SubRefresh(SubRefreshResult { ttl: Some(3600) }));
            }
            Request::Pong => (),
            Request::Ping | Request::Nothing => panic!("no SDK does this: {command:?}"),
        }
    }

    fn connect(&mut self, id: u32, data: &Bytes, position: Option<&SubscribeRequest>) {
        let missed = [numbered(b"1", 1), numbered(b"2", 2)];
        let mut sub = SubscribeResult {
            recoverable: true,
            epoch: "p1",
            positioned: true,
            ..SubscribeResult::default()
        };
        if let Some(position) = position.filter(|position| position.recover) {
            assert_eq!((position.epoch.as_str(), position.offset), ("p1", 1));
            sub.publications = &missed[1..];
            sub.recovered = true;
            sub.was_recovering = true;
            sub.offset = 1;
        }
        let result = ConnectResult {
            client: "c-1",
            version: "0.1.0",
            ttl: position.is_none().then_some(1),
            data,
            subs: &[(PERSONAL, sub)],
            ping: 25,
            pong: true,
            ..ConnectResult::default()
        };
        self.ok(id, Answer::Connect(result));
        if position.is_none() {
            self.publish(PERSONAL, numbered(b"1", 1));
        }
    }

    fn subscribe(&mut self, id: u32, request: &SubscribeRequest) {
        let channel = request.channel.as_str();
        if channel == "forbidden" {
            return self.error(id, ErrorCode::PermissionDenied);
        }
        let missed = [numbered(br#"{"missed":1}"#, 6), numbered(br#"{"missed":2}"#, 7)];
        let result = SubscribeResult {
            ttl: (!request.token.is_empty() && !request.recover).then_some(1),
            recoverable: true,
            epoch: "ab",
            publications: if request.recover { &missed } else { &[] },
            recovered: request.recover,
            offset: if request.recover { request.offset } else { 3 },
            positioned: true,
            data: &request.data,
            was_recovering: request.recover,
            delta: request.delta == "fossil",
        };
        self.ok(id, Answer::Subscribe(result));
        self.push(&Push::Join { channel, info: INFO });
        if request.delta == "fossil" {
            self.deltas(channel);
        }
        self.push(&Push::Leave { channel, info: INFO });
    }

    /// A full payload and the change to the next, which cuts a character in two unless it must not.
    fn deltas(&mut self, channel: &str) {
        let delta = match self.protocol {
            Protocol::Json => delta::create_text(FULL, NEXT).map(String::into_bytes),
            Protocol::Protobuf => delta::create(FULL, NEXT),
        };
        let delta = delta.expect("they are alike");
        let full = Publication { data: Payload::Quoted(FULL), offset: 4, ..Publication::default() };
        self.publish(channel, full);
        let next = Publication {
            data: Payload::Quoted(&delta),
            offset: 5,
            delta: true,
            ..Publication::default()
        };
        self.publish(channel, next);
    }

    fn rpc(&mut self, id: u32, method: &str, data: &[u8]) {
        match method {
            "fail" => self.error(id, ReplyError::application(1234, "it failed", false)),
            "ping" => {
                append_ping(self.protocol, &mut self.out);
                self.ok(id, Answer::Rpc(data));
            }
            "advice" => {
                self.ok(id, Answer::Rpc(data));
                self.push(&Push::Subscribe {
                    channel: "granted",
                    recoverable: true,
                    epoch: "g1",
                    offset: 9,
                    positioned: true,
                    data: b"{}",
                });
                self.push(&Push::unsubscribe("granted", UnsubscribeCode::Server));
            }
            _ => self.ok(id, Answer::Rpc(data)),
        }
    }
}

fn numbered(data: &[u8], offset: u64) -> Publication<'_> {
    Publication { data: Payload::Embedded(data), offset, ..Publication::default() }
}
