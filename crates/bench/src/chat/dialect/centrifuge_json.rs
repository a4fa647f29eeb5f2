//! Centrifuge client protocol 2 as JSON, the client's half.

use std::borrow::Cow;

use serde::Deserialize;

use super::template::{IdForm, Template};
use super::{FIRST_ID, Interest, Said, Standing, Topic, Unit, excerpt};

/// Ids of the two commands that every connection begins with.
pub(super) const CONNECT_ID: u32 = 1;
pub(super) const SUBSCRIBE_ID: u32 = 2;

pub(super) fn hello(token: &str, topic: Option<Topic<'_>>, out: &mut Vec<u8>) {
    let mut connect = serde_json::json!({ "name": "naru-bench" });
    if !token.is_empty() {
        connect["token"] = token.into();
    }
    let text = serde_json::json!({ "id": CONNECT_ID, "connect": connect }).to_string();
    out.extend_from_slice(text.as_bytes());
    let Some(topic) = topic else { return };
    let mut subscribe = serde_json::json!({ "channel": topic.name });
    match topic.interest {
        Interest::Live => {}
        Interest::Recoverable => subscribe["recoverable"] = true.into(),
        Interest::After(position) => {
            let (epoch, offset) = split(position);
            subscribe["recover"] = true.into();
            subscribe["epoch"] = epoch.into();
            subscribe["offset"] = offset.into();
        }
    }
    let text = serde_json::json!({ "id": SUBSCRIBE_ID, "subscribe": subscribe }).to_string();
    out.push(b'\n');
    out.extend_from_slice(text.as_bytes());
}

/// A position as this crate keeps it: `offset:epoch`.
pub(super) fn split(position: &str) -> (&str, u64) {
    let (offset, epoch) = position.split_once(':').unwrap_or(("0", position));
    (epoch, offset.parse().unwrap_or(0))
}

pub(super) fn join(epoch: &str, offset: u64) -> Box<str> {
    format!("{offset}:{epoch}").into()
}

pub(super) fn publish(name: &str, body_bytes: usize) -> Template {
    let name = serde_json::Value::from(name);
    let mut bytes = b"{\"id\":".to_vec();
    let id = bytes.len();
    let head = format!("{FIRST_ID},\"publish\":{{\"channel\":{name},\"data\":\"");
    bytes.extend_from_slice(head.as_bytes());
    let text = bytes.len()..bytes.len() + body_bytes.saturating_sub(2);
    bytes.resize(text.end, b'x');
    bytes.extend_from_slice(b"\"}}");
    Template::new(bytes, text, Some((id, IdForm::Decimal)))
}

/// One line. The last line of a WebSocket message needs no newline.
pub(super) fn unit(bytes: &[u8], whole: bool) -> Option<Unit> {
    match memchr::memchr(b'\n', bytes) {
        Some(end) => Some(Unit { start: 0, end, next: end + 1 }),
        None if whole && !bytes.is_empty() => {
            Some(Unit { start: 0, end: bytes.len(), next: bytes.len() })
        }
        None => None,
    }
}

pub(super) fn read(unit: &[u8], interested: bool) -> Said<'_> {
    if unit.starts_with(b"{\"push\":") {
        return Said::Push;
    }
    match unit {
        b"{}" => return Said::Ping,
        b"" => return Said::Other,
        _ => {}
    }
    if !interested && let Some(said) = read_fast(unit) {
        return said;
    }
    read_slowly(unit)
}

/// The usual order of members, without parsing what they hold. `None`: look closer.
fn read_fast(unit: &[u8]) -> Option<Said<'_>> {
    let rest = unit.strip_prefix(b"{\"id\":")?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let id = rest[..digits]
        .iter()
        .fold(0u64, |id, digit| id.wrapping_mul(10).wrapping_add(u64::from(digit & 15)));
    rest[digits..]
        .starts_with(b",\"publish\":")
        .then(|| Said::Accepted(id.saturating_sub(FIRST_ID)))
}

#[derive(Deserialize)]
struct Reply<'a> {
    #[serde(default)]
    id: u64,
    #[serde(borrow)]
    error: Option<&'a serde_json::value::RawValue>,
    #[serde(borrow)]
    push: Option<&'a serde_json::value::RawValue>,
    subscribe: Option<Subscribe>,
}

#[derive(Deserialize)]
struct Subscribe {
    #[serde(default)]
    epoch: String,
    #[serde(default)]
    offset: u64,
    #[serde(default)]
    recoverable: bool,
    #[serde(default)]
    recovered: bool,
    #[serde(default)]
    was_recovering: bool,
}

fn read_slowly(unit: &[u8]) -> Said<'_> {
    let Ok(reply) = serde_json::from_slice::<Reply<'_>>(unit) else {
        return Said::Refused(excerpt(unit));
    };
    if reply.push.is_some() {
        return Said::Push;
    }
    if let Some(error) = reply.error {
        return Said::Refused(Cow::Borrowed(error.get()));
    }
    if reply.id == u64::from(CONNECT_ID) {
        return Said::LoggedIn;
    }
    match reply.subscribe {
        Some(subscribe) => Said::Subscribed(Standing {
            position: subscribe.recoverable.then(|| join(&subscribe.epoch, subscribe.offset)),
            gap: subscribe.was_recovering && !subscribe.recovered,
        }),
        None if reply.id >= FIRST_ID => Said::Accepted(reply.id - FIRST_ID),
        None => Said::Other,
    }
}

pub(super) fn fault_of_push(unit: &[u8]) -> Option<Cow<'_, str>> {
    let ends = [&b"\"unsubscribe\":{"[..], b"\"disconnect\":{"];
    let is_end = ends.iter().any(|end| memchr::memmem::find(unit, end).is_some());
    is_end.then(|| excerpt(unit))
}
