//! Replies and pushes to frames: one by one into a batch, or a push on its own for fan-out, encoded
//! once and shared by all its readers.

use bytes::{BufMut, Bytes, BytesMut};
use serde::de::IgnoredAny;

use super::json_out::{JsonPush, JsonReply};
use super::proto_out::{Delimited, ProtoPush, ProtoReply};
use super::reply::{Push, Reply};
use super::sink::{Encode, measure};
use super::{Protocol, UnfitPayload};

/// Whether `payload` is exactly one value of JSON, in UTF-8. Nesting is not bounded and costs no stack.
#[must_use]
pub fn is_json(payload: &[u8]) -> bool {
    // The reader skips strings without looking at their UTF-8.
    std::str::from_utf8(payload).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
}

/// Appends a reply to the frame in `out`. On an error `out` is as it was.
pub fn append_reply(
    protocol: Protocol,
    reply: &Reply<'_>,
    out: &mut BytesMut,
) -> Result<(), UnfitPayload> {
    match protocol {
        Protocol::Json => append_line(&JsonReply(reply), out),
        Protocol::Protobuf => append(&Delimited(ProtoReply(reply)), out),
    }
}

/// Appends a push to the frame in `out`. On an error `out` is as it was.
pub fn append_push(
    protocol: Protocol,
    push: &Push<'_>,
    out: &mut BytesMut,
) -> Result<(), UnfitPayload> {
    match protocol {
        Protocol::Json => append_line(&JsonPush(push), out),
        Protocol::Protobuf => append(&Delimited(ProtoPush(push)), out),
    }
}

/// Appends a ping to the frame in `out`.
pub fn append_ping(protocol: Protocol, out: &mut BytesMut) {
    match protocol {
        Protocol::Json => append_encoded(protocol, b"{}", out),
        Protocol::Protobuf => append_encoded(protocol, &[0], out),
    }
}

/// Appends what [`encode_push`] or [`encode_reply`] made to the frame in `out`, which must hold nothing
/// but that frame's messages: in JSON a line end goes between them.
pub fn append_encoded(protocol: Protocol, encoded: &[u8], out: &mut BytesMut) {
    if protocol == Protocol::Json && !out.is_empty() {
        out.put_u8(b'\n');
    }
    out.put_slice(encoded);
}

/// A push as a frame of its own, in one allocation of exactly its size.
pub fn encode_push(protocol: Protocol, push: &Push<'_>) -> Result<Bytes, UnfitPayload> {
    match protocol {
        Protocol::Json => alone(&JsonPush(push)),
        Protocol::Protobuf => alone(&Delimited(ProtoPush(push))),
    }
}

/// A reply as a frame of its own, in one allocation of exactly its size.
pub fn encode_reply(protocol: Protocol, reply: &Reply<'_>) -> Result<Bytes, UnfitPayload> {
    match protocol {
        Protocol::Json => alone(&JsonReply(reply)),
        Protocol::Protobuf => alone(&Delimited(ProtoReply(reply))),
    }
}

fn append_line(message: &impl Encode, out: &mut BytesMut) -> Result<(), UnfitPayload> {
    let bytes = measure(message)?;
    out.reserve(bytes + 1);
    if !out.is_empty() {
        out.put_u8(b'\n');
    }
    message.encode(out);
    Ok(())
}

fn append(message: &impl Encode, out: &mut BytesMut) -> Result<(), UnfitPayload> {
    out.reserve(measure(message)?);
    message.encode(out);
    Ok(())
}

fn alone(message: &impl Encode) -> Result<Bytes, UnfitPayload> {
    let mut out = BytesMut::with_capacity(measure(message)?);
    message.encode(&mut out);
    Ok(out.freeze())
}
