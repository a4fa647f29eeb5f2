//! Centrifuge client protocol 2 as Protobuf, the client's half. Field numbers are those of the
//! protocol document.

use std::borrow::Cow;

use super::centrifuge_json::{CONNECT_ID, SUBSCRIBE_ID, join, split};
use super::template::{IdForm, Template, VARINT_BYTES};
use super::{FIRST_ID, Interest, Said, Standing, Topic, Unit, excerpt};

mod command {
    pub(super) const ID: u64 = 1;
    pub(super) const CONNECT: u64 = 4;
    pub(super) const SUBSCRIBE: u64 = 5;
    pub(super) const PUBLISH: u64 = 7;
}

mod reply {
    pub(super) const ID: u64 = 1;
    pub(super) const ERROR: u64 = 2;
    pub(super) const PUSH: u64 = 4;
    pub(super) const CONNECT: u64 = 5;
    pub(super) const SUBSCRIBE: u64 = 6;
    pub(super) const PUBLISH: u64 = 8;
}

mod push {
    pub(super) const UNSUBSCRIBE: u64 = 7;
    pub(super) const DISCONNECT: u64 = 11;
}

const BYTES_TYPE: u64 = 2;

fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value.to_le_bytes()[0] & 0x7f) | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

fn put_number(field: u64, value: u64, out: &mut Vec<u8>) {
    put_varint(field << 3, out);
    put_varint(value, out);
}

fn put_bytes(field: u64, bytes: &[u8], out: &mut Vec<u8>) {
    put_varint(field << 3 | BYTES_TYPE, out);
    put_varint(u64::try_from(bytes.len()).unwrap_or(u64::MAX), out);
    out.extend_from_slice(bytes);
}

fn put_delimited(message: &[u8], out: &mut Vec<u8>) {
    put_varint(u64::try_from(message.len()).unwrap_or(u64::MAX), out);
    out.extend_from_slice(message);
}

pub(super) fn hello(token: &str, topic: Option<Topic<'_>>, out: &mut Vec<u8>) {
    let (mut request, mut command) = (Vec::new(), Vec::new());
    if !token.is_empty() {
        put_bytes(1, token.as_bytes(), &mut request);
    }
    put_bytes(4, b"naru-bench", &mut request);
    put_number(command::ID, u64::from(CONNECT_ID), &mut command);
    put_bytes(command::CONNECT, &request, &mut command);
    put_delimited(&command, out);
    let Some(topic) = topic else { return };
    request.clear();
    command.clear();
    put_bytes(1, topic.name.as_bytes(), &mut request);
    match topic.interest {
        Interest::Live => {}
        Interest::Recoverable => put_number(10, 1, &mut request),
        Interest::After(position) => {
            let (epoch, offset) = split(position);
            put_number(3, 1, &mut request);
            put_bytes(6, epoch.as_bytes(), &mut request);
            put_number(7, offset, &mut request);
        }
    }
    put_number(command::ID, u64::from(SUBSCRIBE_ID), &mut command);
    put_bytes(command::SUBSCRIBE, &request, &mut command);
    put_delimited(&command, out);
}

pub(super) fn publish(name: &str, body_bytes: usize) -> Template {
    let text_bytes = body_bytes.saturating_sub(2);
    let mut body = vec![b'x'; text_bytes + 2];
    body[0] = b'"';
    body[text_bytes + 1] = b'"';
    let (mut request, mut command, mut message) = (Vec::new(), Vec::new(), Vec::new());
    put_bytes(1, name.as_bytes(), &mut request);
    put_bytes(2, &body, &mut request);
    put_number(command::ID, FIRST_ID, &mut command);
    put_bytes(command::PUBLISH, &request, &mut command);
    put_delimited(&command, &mut message);
    // The id is the first field, right behind its key; the text ends before the last quote.
    let id = message.len() - command.len() + 1;
    debug_assert_eq!(message[id + VARINT_BYTES] >> 3, 7, "the next field is the request");
    let end = message.len() - 1;
    Template::new(message, end - text_bytes..end, Some((id, IdForm::Varint)))
}

/// A varint at the beginning of `bytes`, and its length.
fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0;
    for (index, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, index + 1));
        }
    }
    None
}

pub(super) fn unit(bytes: &[u8]) -> Option<Unit> {
    let (length, start) = varint(bytes)?;
    let end = start.checked_add(usize::try_from(length).ok()?)?;
    (end <= bytes.len()).then_some(Unit { start, end, next: end })
}

/// A field of a message.
enum Field<'a> {
    Number(u64, u64),
    Bytes(u64, &'a [u8]),
}

/// Takes the first field off `bytes`. `None` at the end, and where it is no field of these kinds.
fn field<'a>(bytes: &mut &'a [u8]) -> Option<Field<'a>> {
    let (key, key_bytes) = varint(bytes)?;
    let rest = &bytes[key_bytes..];
    let (value, value_bytes) = varint(rest)?;
    let rest = &rest[value_bytes..];
    if key & 7 != BYTES_TYPE {
        *bytes = rest;
        return Some(Field::Number(key >> 3, value));
    }
    let (content, rest) = rest.split_at_checked(usize::try_from(value).ok()?)?;
    *bytes = rest;
    Some(Field::Bytes(key >> 3, content))
}

pub(super) fn read(unit: &[u8], interested: bool) -> Said<'_> {
    if unit.is_empty() {
        return Said::Ping;
    }
    let mut rest = unit;
    let mut id = 0;
    while let Some(field) = field(&mut rest) {
        match field {
            Field::Number(reply::ID, number) => id = number,
            Field::Bytes(reply::PUSH, _) => return Said::Push,
            Field::Bytes(reply::ERROR, error) => return Said::Refused(excerpt(error)),
            Field::Bytes(reply::CONNECT, _) => return Said::LoggedIn,
            Field::Bytes(reply::SUBSCRIBE, result) => {
                let standing = if interested { standing(result) } else { Standing::default() };
                return Said::Subscribed(standing);
            }
            Field::Bytes(reply::PUBLISH, _) => return Said::Accepted(id.saturating_sub(FIRST_ID)),
            Field::Number(..) | Field::Bytes(..) => {}
        }
    }
    Said::Refused(excerpt(unit))
}

fn standing(mut result: &[u8]) -> Standing {
    let (mut epoch, mut offset, mut recoverable) = ("", 0, false);
    let (mut recovered, mut was_recovering) = (false, false);
    while let Some(field) = field(&mut result) {
        match field {
            Field::Number(3, value) => recoverable = value != 0,
            Field::Bytes(6, text) => epoch = std::str::from_utf8(text).unwrap_or_default(),
            Field::Number(8, value) => recovered = value != 0,
            Field::Number(9, value) => offset = value,
            Field::Number(12, value) => was_recovering = value != 0,
            Field::Number(..) | Field::Bytes(..) => {}
        }
    }
    Standing {
        position: recoverable.then(|| join(epoch, offset)),
        gap: was_recovering && !recovered,
    }
}

pub(super) fn fault_of_push(unit: &[u8]) -> Option<Cow<'_, str>> {
    let mut rest = unit;
    while let Some(outer) = field(&mut rest) {
        let Field::Bytes(reply::PUSH, mut content) = outer else { continue };
        while let Some(inner) = field(&mut content) {
            if let Field::Bytes(push::UNSUBSCRIBE | push::DISCONNECT, why) = inner {
                return Some(excerpt(why));
            }
        }
    }
    None
}
