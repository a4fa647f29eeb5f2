//! STOMP 1.2, the client's half. Written from the specification; positions as Naru's protocol
//! document has them (`position` in a MESSAGE, `last-position` in a SUBSCRIBE).

use super::template::{DECIMAL_BYTES, IdForm, Template};
use super::{FIRST_ID, Interest, Said, Standing, StompLogin, Topic, Unit, excerpt};

/// The receipt of the one subscription that a connection has.
const SUBSCRIBED: &str = "subscribed";

pub(super) const DISCONNECT: &[u8] = b"DISCONNECT\n\n\0";

pub(super) fn connect(login: &StompLogin, out: &mut Vec<u8>) {
    let StompLogin { host, login: user, passcode, heart_beat_ms } = login;
    let mut frame = format!(
        "CONNECT\naccept-version:1.2\nhost:{}\nheart-beat:{heart_beat_ms},{heart_beat_ms}\n",
        escaped(host)
    );
    if !user.is_empty() {
        // CONNECT alone is not escaped (STOMP 1.2, "Value Encoding").
        frame.push_str(&format!("login:{user}\npasscode:{passcode}\n"));
    }
    frame.push_str("\n\0");
    out.extend_from_slice(frame.as_bytes());
}

pub(super) fn subscribe(topic: Topic<'_>, out: &mut Vec<u8>) {
    let name = escaped(topic.name);
    let mut frame = format!("SUBSCRIBE\nid:0\ndestination:{name}\nreceipt:{SUBSCRIBED}\n");
    if let Interest::After(position) = topic.interest {
        // As it stood in a MESSAGE, so it is escaped already.
        frame.push_str(&format!("last-position:{position}\n"));
    }
    frame.push_str("\n\0");
    out.extend_from_slice(frame.as_bytes());
}

pub(super) fn publish(name: &str, body_bytes: usize, acknowledged: bool) -> Template {
    let name = escaped(name);
    let mut frame = format!("SEND\ndestination:{name}\ncontent-length:{body_bytes}\n").into_bytes();
    let mut id = None;
    if acknowledged {
        frame.extend_from_slice(b"receipt:");
        id = Some((frame.len(), IdForm::Decimal));
        frame.extend_from_slice(format!("{FIRST_ID}\n").as_bytes());
    }
    frame.push(b'\n');
    let text = frame.len()..frame.len() + body_bytes;
    frame.resize(text.end, b'x');
    frame.push(0);
    Template::new(frame, text, id)
}

/// Colons, backslashes and line ends in a header's value (STOMP 1.2, "Value Encoding").
fn escaped(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for letter in value.chars() {
        match letter {
            '\\' => escaped.push_str("\\\\"),
            ':' => escaped.push_str("\\c"),
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// A frame without its NUL, or one line end. Bodies of this run hold no NUL, so the first one ends
/// the frame.
pub(super) fn unit(bytes: &[u8]) -> Option<Unit> {
    match bytes {
        [] => None,
        [b'\n', ..] => Some(Unit { start: 0, end: 1, next: 1 }),
        [b'\r', b'\n', ..] => Some(Unit { start: 0, end: 2, next: 2 }),
        _ => memchr::memchr(0, bytes).map(|end| Unit { start: 0, end, next: end + 1 }),
    }
}

pub(super) fn read(unit: &[u8]) -> Said<'_> {
    if unit.starts_with(b"MESSAGE") {
        return Said::Push;
    }
    if unit.starts_with(b"RECEIPT") {
        return receipt(header(unit, "receipt-id"));
    }
    if unit.starts_with(b"CONNECTED") {
        return Said::LoggedIn;
    }
    match unit {
        b"\n" | b"\r\n" => Said::Beat,
        _ => Said::Refused(excerpt(unit)),
    }
}

fn receipt(id: Option<&str>) -> Said<'static> {
    match id {
        Some(SUBSCRIBED) => Said::Subscribed(Standing::default()),
        Some(digits) if digits.len() == DECIMAL_BYTES => {
            let id: u64 = digits.parse().unwrap_or(0);
            Said::Accepted(id.saturating_sub(FIRST_ID))
        }
        _ => Said::Other,
    }
}

/// The value of the first header of that name, as it stands.
pub(super) fn header<'a>(unit: &'a [u8], name: &str) -> Option<&'a str> {
    for line in unit.split(|byte| *byte == b'\n').skip(1) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            return None;
        }
        if let Some(value) =
            line.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b":"))
        {
            return std::str::from_utf8(value).ok();
        }
    }
    None
}
