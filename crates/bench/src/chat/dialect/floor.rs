//! The framing of our own bare server: one letter, then channel, position or body.
//!
//! | client | |
//! | --- | --- |
//! | `S name` | subscribe; answered with `S` |
//! | `R position name` | the same, after what came after that position |
//! | `P name` newline body | publish |
//! | `Q id name` newline body | publish, answered with `A id` |
//!
//! | server | |
//! | --- | --- |
//! | `M position` newline body and filler | a publication; its length is the server's choice |

use super::template::{DECIMAL_BYTES, IdForm, Template};
use super::{FIRST_ID, Interest, Said, Standing, Topic, Unit, excerpt};

pub(super) fn hello(topic: Option<Topic<'_>>, out: &mut Vec<u8>) {
    match topic {
        None => out.push(b'S'),
        Some(Topic { name, interest: Interest::After(position) }) => {
            out.extend_from_slice(format!("R {position} {name}").as_bytes());
        }
        Some(Topic { name, .. }) => out.extend_from_slice(format!("S {name}").as_bytes()),
    }
}

pub(super) fn publish(name: &str, body_bytes: usize, acknowledged: bool) -> Template {
    let (mut bytes, id) = match acknowledged {
        true => (format!("Q {FIRST_ID} {name}\n").into_bytes(), Some((2, IdForm::Decimal))),
        false => (format!("P {name}\n").into_bytes(), None),
    };
    let start = bytes.len();
    bytes.resize(start + body_bytes, b'x');
    Template::new(bytes, start..start + body_bytes, id)
}

pub(super) fn unit(bytes: &[u8]) -> Option<Unit> {
    (!bytes.is_empty()).then_some(Unit { start: 0, end: bytes.len(), next: bytes.len() })
}

pub(super) fn read(unit: &[u8]) -> Said<'_> {
    match unit {
        [b'M', ..] => Said::Push,
        [b'S', ..] => Said::Subscribed(Standing::default()),
        [b'A', b' ', digits @ ..] if digits.len() == DECIMAL_BYTES => number(digits),
        _ => Said::Refused(excerpt(unit)),
    }
}

fn number(digits: &[u8]) -> Said<'_> {
    let id = digits.iter().fold(0, |id, digit| id * 10 + u64::from(digit & 15));
    Said::Accepted(id.saturating_sub(FIRST_ID))
}

pub(super) fn position(unit: &[u8]) -> Option<&str> {
    let end = memchr::memchr(b'\n', unit)?;
    std::str::from_utf8(unit.get(2..end)?).ok()
}
