//! Replies and pushes as JSON: one object without a line end in it. Fields with default values are
//! left out, but for those that SDKs look up unasked.

use std::collections::BTreeMap;

use super::encode::is_json;
use super::reply::{
    Answer, ClientInfo, ConnectResult, HistoryResult, Payload, Publication, Push, Reply,
    SubscribeResult, named_reason, seconds,
};
use super::sink::{Encode, Sink};

/// A reply, as a line.
pub(super) struct JsonReply<'a>(pub(super) &'a Reply<'a>);

/// A push in its reply, as a line.
pub(super) struct JsonPush<'a>(pub(super) &'a Push<'a>);

impl Encode for JsonReply<'_> {
    fn encode<S: Sink>(&self, out: &mut S) {
        object(out, |fields| {
            fields.number("id", self.0.id.into());
            match &self.0.outcome {
                Ok(answer) => put_answer(fields, answer),
                Err(error) => fields.object("error", |fields| {
                    fields.number("code", error.code().into());
                    fields.text("message", error.message());
                    fields.flag("temporary", error.is_temporary());
                }),
            }
        });
    }
}

impl Encode for JsonPush<'_> {
    fn encode<S: Sink>(&self, out: &mut S) {
        object(out, |fields| fields.object("push", |fields| put_push(fields, self.0)));
    }
}

fn put_answer<S: Sink>(fields: &mut Fields<'_, S>, answer: &Answer<'_>) {
    match answer {
        Answer::Connect(result) => fields.object("connect", |fields| put_connect(fields, result)),
        Answer::Subscribe(result) => {
            fields.object("subscribe", |fields| put_subscribe(fields, result));
        }
        Answer::Unsubscribe => fields.object("unsubscribe", |_nothing| ()),
        Answer::Publish => fields.object("publish", |_nothing| ()),
        Answer::Presence(infos) => fields.object("presence", |fields| {
            fields.object("presence", |fields| {
                for info in *infos {
                    fields.object(info.client, |fields| put_info(fields, info));
                }
            });
        }),
        Answer::PresenceStats { clients, users } => fields.object("presence_stats", |fields| {
            fields.number_always("num_clients", (*clients).into());
            fields.number_always("num_users", (*users).into());
        }),
        Answer::History(result) => fields.object("history", |fields| put_history(fields, result)),
        Answer::Ping => fields.object("ping", |_nothing| ()),
        Answer::Rpc(data) => fields.object("rpc", |fields| fields.payload("data", data)),
        Answer::Refresh(result) => fields.object("refresh", |fields| {
            fields.text("client", result.client);
            fields.text("version", result.version);
            put_expiry(fields, result.ttl);
        }),
        Answer::SubRefresh(result) => {
            fields.object("sub_refresh", |fields| put_expiry(fields, result.ttl));
        }
    }
}

fn put_push<S: Sink>(fields: &mut Fields<'_, S>, push: &Push<'_>) {
    match *push {
        Push::Publication { channel, ref publication } => {
            fields.text("channel", channel);
            fields.object("pub", |fields| put_publication(fields, publication));
        }
        Push::Join { channel, ref info } => {
            fields.text("channel", channel);
            fields.object("join", |fields| {
                fields.object("info", |fields| put_info(fields, info));
            });
        }
        Push::Leave { channel, ref info } => {
            fields.text("channel", channel);
            fields.object("leave", |fields| {
                fields.object("info", |fields| put_info(fields, info));
            });
        }
        Push::Unsubscribe { channel, code, reason } => {
            fields.text("channel", channel);
            fields.object("unsubscribe", |fields| {
                fields.number("code", code.into());
                fields.text("reason", named_reason(reason));
            });
        }
        Push::Subscribe { channel, recoverable, epoch, offset, positioned, data } => {
            fields.text("channel", channel);
            fields.object("subscribe", |fields| {
                fields.flag("recoverable", recoverable);
                fields.text("epoch", epoch);
                fields.number("offset", offset);
                fields.flag("positioned", positioned);
                fields.payload("data", data);
            });
        }
        Push::Message { data } => {
            fields.object("message", |fields| fields.payload("data", data));
        }
        Push::Disconnect { code, reason } => fields.object("disconnect", |fields| {
            fields.number("code", code.into());
            fields.text("reason", named_reason(reason));
        }),
    }
}

fn put_connect<S: Sink>(fields: &mut Fields<'_, S>, result: &ConnectResult<'_>) {
    fields.text("client", result.client);
    fields.text("version", result.version);
    put_expiry(fields, result.ttl);
    fields.payload("data", result.data);
    if !result.subs.is_empty() {
        fields.object("subs", |fields| {
            for (channel, sub) in result.subs {
                fields.object(channel, |fields| put_subscribe(fields, sub));
            }
        });
    }
    fields.number("ping", result.ping.into());
    fields.flag("pong", result.pong);
    fields.text("session", result.session);
    fields.text("node", result.node);
    // Times before 1970 are not times of a server.
    fields.number("time", u64::try_from(result.time).unwrap_or(0));
}

fn put_subscribe<S: Sink>(fields: &mut Fields<'_, S>, result: &SubscribeResult<'_>) {
    put_expiry(fields, result.ttl);
    fields.flag("recoverable", result.recoverable);
    fields.text("epoch", result.epoch);
    if !result.publications.is_empty() {
        fields.list("publications", result.publications, put_publication);
    }
    fields.flag("recovered", result.recovered);
    fields.number("offset", result.offset);
    fields.flag("positioned", result.positioned);
    fields.payload("data", result.data);
    fields.flag("was_recovering", result.was_recovering);
    fields.flag("delta", result.delta);
}

fn put_history<S: Sink>(fields: &mut Fields<'_, S>, result: &HistoryResult<'_>) {
    fields.list("publications", result.publications, put_publication);
    fields.text_always("epoch", result.epoch);
    fields.number_always("offset", result.offset);
}

fn put_expiry<S: Sink>(fields: &mut Fields<'_, S>, ttl: Option<u32>) {
    fields.flag("expires", ttl.is_some());
    fields.number("ttl", seconds(ttl).into());
}

fn put_publication<S: Sink>(fields: &mut Fields<'_, S>, publication: &Publication<'_>) {
    match publication.data {
        Payload::Embedded(data) => fields.payload("data", data),
        Payload::Quoted(data) => fields.quoted("data", data),
    }
    if let Some(info) = &publication.info {
        fields.object("info", |fields| put_info(fields, info));
    }
    fields.number("offset", publication.offset);
    if let Some(tags) = publication.tags {
        put_tags(fields, tags);
    }
    fields.flag("delta", publication.delta);
}

fn put_tags<S: Sink>(fields: &mut Fields<'_, S>, tags: &BTreeMap<String, String>) {
    if !tags.is_empty() {
        fields.object("tags", |fields| {
            for (key, value) in tags {
                fields.text_always(key, value);
            }
        });
    }
}

fn put_info<S: Sink>(fields: &mut Fields<'_, S>, info: &ClientInfo<'_>) {
    fields.text_always("user", info.user);
    fields.text_always("client", info.client);
    fields.payload("conn_info", info.conn_info);
    fields.payload("chan_info", info.chan_info);
}

/// The fields of an object that is being written.
struct Fields<'a, S> {
    out: &'a mut S,
    is_first: bool,
}

fn object<S: Sink>(out: &mut S, put: impl FnOnce(&mut Fields<'_, S>)) {
    out.put(b"{");
    put(&mut Fields { out, is_first: true });
    out.put(b"}");
}

impl<S: Sink> Fields<'_, S> {
    fn key(&mut self, key: &str) {
        if !std::mem::take(&mut self.is_first) {
            self.out.put(b",");
        }
        put_string(self.out, key.as_bytes());
        self.out.put(b":");
    }

    fn object(&mut self, key: &str, put: impl FnOnce(&mut Fields<'_, S>)) {
        self.key(key);
        object(self.out, put);
    }

    fn list<T>(&mut self, key: &str, items: &[T], put: impl Fn(&mut Fields<'_, S>, &T)) {
        self.key(key);
        self.out.put(b"[");
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                self.out.put(b",");
            }
            object(self.out, |fields| put(fields, item));
        }
        self.out.put(b"]");
    }

    fn text(&mut self, key: &str, text: &str) {
        if !text.is_empty() {
            self.text_always(key, text);
        }
    }

    fn text_always(&mut self, key: &str, text: &str) {
        self.key(key);
        put_string(self.out, text.as_bytes());
    }

    fn number(&mut self, key: &str, number: u64) {
        if number != 0 {
            self.number_always(key, number);
        }
    }

    fn number_always(&mut self, key: &str, number: u64) {
        self.key(key);
        put_number(self.out, number);
    }

    fn flag(&mut self, key: &str, flag: bool) {
        if flag {
            self.key(key);
            self.out.put(b"true");
        }
    }

    /// Raw JSON, as it is but for line ends, which in valid JSON are only layout. Carriage returns go
    /// as well, since they end lines in event streams.
    fn payload(&mut self, key: &str, payload: &[u8]) {
        if payload.is_empty() {
            return;
        }
        self.key(key);
        if S::CHECKS && !is_json(payload) {
            self.out.refuse();
        }
        let mut rest = payload;
        while let Some(at) = memchr::memchr2(b'\n', b'\r', rest) {
            self.out.put(&rest[..at]);
            rest = &rest[at + 1..];
        }
        self.out.put(rest);
    }

    /// Text as a JSON string.
    fn quoted(&mut self, key: &str, text: &[u8]) {
        self.key(key);
        if S::CHECKS && std::str::from_utf8(text).is_err() {
            self.out.refuse();
        }
        put_string(self.out, text);
    }
}

fn put_string<S: Sink>(out: &mut S, text: &[u8]) {
    out.put(b"\"");
    let mut plain_from = 0;
    for (at, &byte) in text.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.put(&text[plain_from..at]);
        plain_from = at + 1;
        match byte {
            b'"' => out.put(b"\\\""),
            b'\\' => out.put(b"\\\\"),
            b'\n' => out.put(b"\\n"),
            b'\r' => out.put(b"\\r"),
            b'\t' => out.put(b"\\t"),
            control => {
                let digits = b"0123456789abcdef";
                let [high, low] =
                    [control >> 4, control & 15].map(|half| digits[usize::from(half)]);
                out.put(&[b'\\', b'u', b'0', b'0', high, low]);
            }
        }
    }
    out.put(&text[plain_from..]);
    out.put(b"\"");
}

fn put_number<S: Sink>(out: &mut S, mut number: u64) {
    // The largest has 20 digits.
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        let digit = u8::try_from(number % 10).expect("invariant: below ten");
        digits[at] = b'0' + digit;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.put(&digits[at..]);
}
