//! Replies and pushes as Protobuf. The field numbers are the protocol's; default values are left out,
//! results are not, even where they are empty: their presence says what the reply is.

use super::reply::{
    Answer, ClientInfo, ConnectResult, HistoryResult, Publication, Push, RefreshResult, Reply,
    ReplyError, SubRefreshResult, SubscribeResult, named_reason, seconds,
};
use super::sink::{Encode, Sink, count};

/// A message after its length.
pub(super) struct Delimited<T>(pub(super) T);

/// A reply.
pub(super) struct ProtoReply<'a>(pub(super) &'a Reply<'a>);

/// A push in its reply.
pub(super) struct ProtoPush<'a>(pub(super) &'a Push<'a>);

impl<T: Encode> Encode for Delimited<T> {
    fn encode<S: Sink>(&self, out: &mut S) {
        put_varint(out, count(&self.0) as u64);
        self.0.encode(out);
    }
}

impl Encode for ProtoReply<'_> {
    fn encode<S: Sink>(&self, out: &mut S) {
        put_number(out, 1, self.0.id.into());
        match &self.0.outcome {
            Err(error) => put_message(out, 2, error),
            Ok(Answer::Connect(result)) => put_message(out, 5, result),
            Ok(Answer::Subscribe(result)) => put_message(out, 6, result),
            Ok(Answer::Unsubscribe) => put_message(out, 7, &Empty),
            Ok(Answer::Publish) => put_message(out, 8, &Empty),
            Ok(Answer::Presence(infos)) => put_message(out, 9, &Presence(infos)),
            Ok(Answer::PresenceStats { clients, users }) => {
                put_message(out, 10, &PresenceStats { clients: *clients, users: *users });
            }
            Ok(Answer::History(result)) => put_message(out, 11, result),
            Ok(Answer::Ping) => put_message(out, 12, &Empty),
            Ok(Answer::Rpc(data)) => put_message(out, 13, &Data(data)),
            Ok(Answer::Refresh(result)) => put_message(out, 14, result),
            Ok(Answer::SubRefresh(result)) => put_message(out, 15, result),
        }
    }
}

impl Encode for ProtoPush<'_> {
    fn encode<S: Sink>(&self, out: &mut S) {
        put_message(out, 4, self.0);
    }
}

impl Encode for Push<'_> {
    fn encode<S: Sink>(&self, out: &mut S) {
        match self {
            Push::Publication { channel, publication } => {
                put_text(out, 2, channel);
                put_message(out, 4, publication);
            }
            Push::Join { channel, info } => {
                put_text(out, 2, channel);
                put_message(out, 5, &Info(info));
            }
            Push::Leave { channel, info } => {
                put_text(out, 2, channel);
                put_message(out, 6, &Info(info));
            }
            Push::Unsubscribe { channel, code, reason } => {
                put_text(out, 2, channel);
                let reason = named_reason(reason);
                put_message(out, 7, &Ending { code: *code, code_field: 2, reason });
            }
            Push::Subscribe { channel, recoverable, epoch, offset, positioned, data } => {
                put_text(out, 2, channel);
                let start = SubscribePush {
                    recoverable: *recoverable,
                    epoch,
                    offset: *offset,
                    positioned: *positioned,
                    data,
                };
                put_message(out, 9, &start);
            }
            Push::Message { data } => put_message(out, 8, &Data(data)),
            Push::Disconnect { code, reason } => {
                let reason = named_reason(reason);
                put_message(out, 11, &Ending { code: *code, code_field: 1, reason });
            }
        }
    }
}

struct Empty;

impl Encode for Empty {
    fn encode<S: Sink>(&self, _out: &mut S) {}
}

/// `Message` and `RPCResult`.
struct Data<'a>(&'a [u8]);

impl Encode for Data<'_> {
    fn encode<S: Sink>(&self, out: &mut S) {
        put_bytes(out, 1, self.0);
    }
}

/// `Join` and `Leave`.
struct Info<'a>(&'a ClientInfo<'a>);

impl Encode for Info<'_> {
    fn encode<S: Sink>(&self, out: &mut S) {
        put_message(out, 1, self.0);
    }
}

/// `Unsubscribe` and `Disconnect`, in which the reason follows the code.
struct Ending<'a> {
    code: u32,
    code_field: u32,
    reason: &'a str,
}

impl Encode for Ending<'_> {
    fn encode<S: Sink>(&self, out: &mut S) {
        put_number(out, self.code_field, self.code.into());
        put_text(out, self.code_field + 1, self.reason);
    }
}

struct SubscribePush<'a> {
    recoverable: bool,
    epoch: &'a str,
    offset: u64,
    positioned: bool,
    data: &'a [u8],
}

impl Encode for SubscribePush<'_> {
    fn encode<S: Sink>(&self, out: &mut S) {
        put_flag(out, 1, self.recoverable);
        put_text(out, 4, self.epoch);
        put_number(out, 5, self.offset);
        put_flag(out, 6, self.positioned);
        put_bytes(out, 7, self.data);
    }
}

struct Presence<'a>(&'a [ClientInfo<'a>]);

impl Encode for Presence<'_> {
    fn encode<S: Sink>(&self, out: &mut S) {
        for info in self.0 {
            put_message(out, 1, &Entry { key: info.client, value: info });
        }
    }
}

struct PresenceStats {
    clients: u32,
    users: u32,
}

impl Encode for PresenceStats {
    fn encode<S: Sink>(&self, out: &mut S) {
        put_number(out, 1, self.clients.into());
        put_number(out, 2, self.users.into());
    }
}

/// An entry of a map to messages.
struct Entry<'a, T> {
    key: &'a str,
    value: &'a T,
}

impl<T: Encode> Encode for Entry<'_, T> {
    fn encode<S: Sink>(&self, out: &mut S) {
        put_text(out, 1, self.key);
        put_message(out, 2, self.value);
    }
}

/// An entry of a map to texts.
struct Tag<'a>(&'a str, &'a str);

impl Encode for Tag<'_> {
    fn encode<S: Sink>(&self, out: &mut S) {
        put_text(out, 1, self.0);
        put_text(out, 2, self.1);
    }
}

impl Encode for ReplyError<'_> {
    fn encode<S: Sink>(&self, out: &mut S) {
        put_number(out, 1, self.code().into());
        put_text(out, 2, self.message());
        put_flag(out, 3, self.is_temporary());
    }
}

impl Encode for ConnectResult<'_> {
    fn encode<S: Sink>(&self, out: &mut S) {
        put_text(out, 1, self.client);
        put_text(out, 2, self.version);
        put_flag(out, 3, self.ttl.is_some());
        put_number(out, 4, seconds(self.ttl).into());
        put_bytes(out, 5, self.data);
        for (channel, sub) in self.subs {
            put_message(out, 6, &Entry { key: channel, value: sub });
        }
        put_number(out, 7, self.ping.into());
        put_flag(out, 8, self.pong);
        put_text(out, 9, self.session);
        put_text(out, 10, self.node);
        // Times before 1970 are not times of a server.
        put_number(out, 11, u64::try_from(self.time).unwrap_or(0));
    }
}

impl Encode for SubscribeResult<'_> {
    fn encode<S: Sink>(&self, out: &mut S) {
        put_flag(out, 1, self.ttl.is_some());
        put_number(out, 2, seconds(self.ttl).into());
        put_flag(out, 3, self.recoverable);
        put_text(out, 6, self.epoch);
        for publication in self.publications {
            put_message(out, 7, publication);
        }
        put_flag(out, 8, self.recovered);
        put_number(out, 9, self.offset);
        put_flag(out, 10, self.positioned);
        put_bytes(out, 11, self.data);
        put_flag(out, 12, self.was_recovering);
        put_flag(out, 13, self.delta);
    }
}

impl Encode for HistoryResult<'_> {
    fn encode<S: Sink>(&self, out: &mut S) {
        for publication in self.publications {
            put_message(out, 1, publication);
        }
        put_text(out, 2, self.epoch);
        put_number(out, 3, self.offset);
    }
}

impl Encode for RefreshResult<'_> {
    fn encode<S: Sink>(&self, out: &mut S) {
        put_text(out, 1, self.client);
        put_text(out, 2, self.version);
        put_flag(out, 3, self.ttl.is_some());
        put_number(out, 4, seconds(self.ttl).into());
    }
}

impl Encode for SubRefreshResult {
    fn encode<S: Sink>(&self, out: &mut S) {
        put_flag(out, 1, self.ttl.is_some());
        put_number(out, 2, seconds(self.ttl).into());
    }
}

impl Encode for ClientInfo<'_> {
    fn encode<S: Sink>(&self, out: &mut S) {
        put_text(out, 1, self.user);
        put_text(out, 2, self.client);
        put_bytes(out, 3, self.conn_info);
        put_bytes(out, 4, self.chan_info);
    }
}

impl Encode for Publication<'_> {
    fn encode<S: Sink>(&self, out: &mut S) {
        put_bytes(out, 4, self.data.bytes());
        if let Some(info) = &self.info {
            put_message(out, 5, info);
        }
        put_number(out, 6, self.offset);
        for (key, value) in self.tags.into_iter().flatten() {
            put_message(out, 7, &Tag(key, value));
        }
        put_flag(out, 8, self.delta);
    }
}

/// Fields of numbers and flags.
const VARINT: u32 = 0;
/// Fields of bytes, texts and messages.
const LENGTH_DELIMITED: u32 = 2;

fn put_varint<S: Sink>(out: &mut S, mut number: u64) {
    // Seven bits a byte, so ten bytes for the largest.
    let mut bytes = [0; 10];
    let mut len = 0;
    loop {
        let [low, ..] = number.to_le_bytes();
        number >>= 7;
        bytes[len] = if number == 0 { low & 0x7f } else { low | 0x80 };
        len += 1;
        if number == 0 {
            break;
        }
    }
    out.put(&bytes[..len]);
}

fn put_key<S: Sink>(out: &mut S, field: u32, wire_type: u32) {
    put_varint(out, (field << 3 | wire_type).into());
}

fn put_number<S: Sink>(out: &mut S, field: u32, number: u64) {
    if number != 0 {
        put_key(out, field, VARINT);
        put_varint(out, number);
    }
}

fn put_flag<S: Sink>(out: &mut S, field: u32, flag: bool) {
    put_number(out, field, flag.into());
}

fn put_text<S: Sink>(out: &mut S, field: u32, text: &str) {
    put_bytes(out, field, text.as_bytes());
}

fn put_bytes<S: Sink>(out: &mut S, field: u32, bytes: &[u8]) {
    if !bytes.is_empty() {
        put_key(out, field, LENGTH_DELIMITED);
        put_varint(out, bytes.len() as u64);
        out.put(bytes);
    }
}

/// A message is written even when it is empty.
fn put_message<S: Sink>(out: &mut S, field: u32, message: &impl Encode) {
    put_key(out, field, LENGTH_DELIMITED);
    put_varint(out, count(message) as u64);
    message.encode(out);
}
