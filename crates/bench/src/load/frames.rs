//! Prepared frames: one per room, of which only a few digits change from message to message. This
//! is what makes the load cheaper than the work it causes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use memchr::memmem;

use crate::proto::up::{self, Chat};
use crate::proto::{Dialect, Identity, Script, Signer};
use crate::wall;

/// The text begins with these nine bytes. Nine, so that in base64 (three bytes make four digits)
/// the numbers that follow begin on a boundary and can be patched in place.
const PREFIX: &str = "# echo b=";
const ROOM_DIGITS: usize = 6;
const NUMBER_DIGITS: usize = 9;
/// Prefix and both numbers.
pub(crate) const TEXT_BYTES_MIN: usize = PREFIX.len() + ROOM_DIGITS + NUMBER_DIGITS;
/// `3`, seven digits for the run and eleven for the message.
const LOG_ID_DIGITS: usize = 19;
const LOG_NUMBER_DIGITS: usize = 11;
/// What announces the numbers in a reply.
const MARK: &[u8] = b" b=";

const _: () = assert!(
    PREFIX.len().is_multiple_of(3)
        && (ROOM_DIGITS + NUMBER_DIGITS).is_multiple_of(3)
        && NUMBER_DIGITS.is_multiple_of(3)
);

/// What changes about a phone once per second or per message: time and signature.
#[derive(Clone)]
pub(crate) struct Stamp {
    /// Changes with the contents, so that templates know when they are out of date.
    pub(crate) serial: u64,
    timestamp_ms: u64,
    signature: String,
    shown: String,
}

impl Stamp {
    pub(crate) fn new(
        script: &Script,
        identity: &Identity,
        signer: &Signer,
        now_ms: u64,
        serial: u64,
    ) -> Stamp {
        let shown = match script.dialect {
            Dialect::Json => wall::korean_local(now_ms),
            Dialect::Raw | Dialect::Typed => wall::iso_utc(now_ms),
        };
        Stamp { serial, timestamp_ms: now_ms, signature: signer.sign(identity, now_ms), shown }
    }
}

/// A frame whose numbers, time and signature can be replaced.
#[derive(Clone)]
pub(crate) struct Template {
    bytes: Vec<u8>,
    number_at: Option<usize>,
    number_is_base64: bool,
    log_number_at: usize,
    timestamp_at: usize,
    signature_at: usize,
    shown_at: usize,
    stamp_serial: u64,
    /// What the phone should read when this message is echoed, up to the number.
    filler: String,
}

/// The seven digits that tell the log ids of this run from those of others.
pub(crate) fn run_digits(unix_ms: u64) -> u64 {
    unix_ms / 1000 % 10_000_000
}

/// The text of an echo request in `room`, with message number zero.
fn echo_text(room: usize, text_bytes: usize) -> String {
    let mut text = format!("{PREFIX}{room:06}{:09}", 0);
    text.push_str(&filler(text_bytes.saturating_sub(text.len())));
    text
}

/// Exactly `bytes` bytes, mostly Korean, as chat is.
fn filler(bytes: usize) -> String {
    let mut text: String = "가나다라마바사아자차카타파하".chars().cycle().take(bytes / 3).collect();
    text.push_str(&"x".repeat(bytes % 3));
    text
}

/// The name of a room, everywhere in a load run.
pub(crate) fn room_name(room: usize) -> String {
    format!("벤치방-{room:06}")
}

/// The channel id of a room, everywhere in a load run.
pub(crate) fn channel_id(room: usize) -> String {
    format!("184{room:014}")
}

impl Template {
    /// An echo request in `room`, whose text has `text_bytes` bytes.
    pub(crate) fn echo(
        script: &Script,
        identity: &Identity,
        signer: &Signer,
        room: usize,
        text_bytes: usize,
        run: u64,
    ) -> Template {
        let text = echo_text(room, text_bytes);
        let filler = text[TEXT_BYTES_MIN..].to_owned();
        Template::build(script, identity, signer, room, text, run, Some(filler))
    }

    /// A message with a fixed text.
    pub(crate) fn fixed(
        script: &Script,
        identity: &Identity,
        signer: &Signer,
        room: usize,
        text: &str,
        run: u64,
    ) -> Template {
        Template::build(script, identity, signer, room, text.to_owned(), run, None)
    }

    fn build(
        script: &Script,
        identity: &Identity,
        signer: &Signer,
        room: usize,
        text: String,
        run: u64,
        filler: Option<String>,
    ) -> Template {
        const MADE_MS: u64 = 1_000_000_000_000;
        let log_id = format!("3{run:07}{:011}", 0);
        let chat = Chat {
            room: room_name(room),
            channel_id: Some(channel_id(room)),
            log_id: Some(log_id.clone()),
            user_hash: Some(format!("bench{room:06}")),
            sender: "부하".to_owned(),
            text,
            is_group_chat: true,
            is_mention: false,
        };
        let bytes = up::chat(script, identity, signer, &chat, MADE_MS);
        let stamp = Stamp::new(script, identity, signer, MADE_MS, 0);
        let find = |needle: &str| {
            memmem::find(&bytes, needle.as_bytes())
                .expect("invariant: the frame was built from these values a line above")
        };
        let raw = script.dialect == Dialect::Raw;
        let number_at = filler.is_some().then(|| {
            let before_number = TEXT_BYTES_MIN - NUMBER_DIGITS;
            if raw { raw_at(&bytes) + before_number / 3 * 4 } else { find(PREFIX) + before_number }
        });
        Template {
            number_at,
            number_is_base64: raw,
            log_number_at: find(&log_id) + LOG_ID_DIGITS - LOG_NUMBER_DIGITS,
            timestamp_at: find(&format!("\"timestamp\":{MADE_MS}")) + "\"timestamp\":".len(),
            signature_at: find(&stamp.signature),
            shown_at: find(&stamp.shown),
            stamp_serial: 0,
            filler: filler.unwrap_or_default(),
            bytes,
        }
    }

    /// Appends the frame with these numbers and this stamp to `out`.
    pub(crate) fn append(
        &mut self,
        number: u64,
        log_number: u64,
        stamp: &Stamp,
        out: &mut Vec<u8>,
    ) {
        if self.stamp_serial != stamp.serial {
            self.stamp_serial = stamp.serial;
            self.put(self.shown_at, stamp.shown.as_bytes());
            self.put(self.signature_at, stamp.signature.as_bytes());
            let mut digits = [0; 13];
            write_digits(&mut digits, stamp.timestamp_ms);
            self.put(self.timestamp_at, &digits);
        }
        if let Some(at) = self.number_at {
            let mut digits = [0; NUMBER_DIGITS];
            write_digits(&mut digits, number);
            if self.number_is_base64 {
                let mut encoded = [0; NUMBER_DIGITS / 3 * 4];
                BASE64
                    .encode_slice(digits, &mut encoded)
                    .expect("invariant: nine bytes are twelve digits of base64");
                self.put(at, &encoded);
            } else {
                self.put(at, &digits);
            }
        }
        let at = self.log_number_at;
        write_digits(&mut self.bytes[at..at + LOG_NUMBER_DIGITS], log_number);
        out.extend_from_slice(&self.bytes);
    }

    /// The whole text that the reply to message `number` of `room` must have.
    pub(crate) fn expected_reply(&self, room: usize, number: u64) -> String {
        format!("에코: b={room:06}{number:09}{}", self.filler)
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

/// Where raw begins: after the last brace, which base64 does not contain.
fn raw_at(frame: &[u8]) -> usize {
    memchr::memrchr(b'}', frame).map_or(0, |brace| brace + 1)
}

/// Writes `number` in decimal, padded with zeros; leading digits that do not fit are cut.
fn write_digits(out: &mut [u8], mut number: u64) {
    for place in out.iter_mut().rev() {
        *place = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
    }
}

/// An echo reply as far as it is understood without decoding its JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found<'a> {
    pub(crate) room: usize,
    pub(crate) number: u64,
    /// Raw dialect: the JSON part; otherwise empty.
    head: &'a [u8],
    /// Raw dialect: the decoded content; otherwise the whole line.
    body: &'a [u8],
    /// Where the message number stands in `body`.
    number_at: usize,
}

/// The last reply of a room that was decoded in full and found right. What differs from it by the
/// message number alone is right as well, so most replies cost a comparison instead of a decoding.
#[derive(Clone, Default)]
pub(crate) struct Shape {
    head: Vec<u8>,
    body: Vec<u8>,
    number_at: usize,
}

impl Shape {
    pub(crate) fn learn(&mut self, found: &Found<'_>) {
        self.head.clear();
        self.head.extend_from_slice(found.head);
        self.body.clear();
        self.body.extend_from_slice(found.body);
        self.number_at = found.number_at;
    }

    pub(crate) fn fits(&self, found: &Found<'_>) -> bool {
        let (before, after) = (self.number_at, self.number_at + NUMBER_DIGITS);
        self.number_at == found.number_at
            && self.body.len() == found.body.len()
            && self.head == found.head
            && self.body[..before] == found.body[..before]
            && self.body[after..] == found.body[after..]
    }
}

/// Finds room and message number in replies.
pub(crate) struct Marks {
    finder: memmem::Finder<'static>,
    decoded: Vec<u8>,
}

impl Marks {
    pub(crate) fn new() -> Marks {
        Marks { finder: memmem::Finder::new(MARK), decoded: Vec::new() }
    }

    /// What the numbers of a reply are, or `None` when this is no echo reply.
    pub(crate) fn find<'a>(&'a mut self, dialect: Dialect, line: &'a [u8]) -> Option<Found<'a>> {
        let (head, body) = if dialect == Dialect::Raw {
            let (head, raw) = line.split_at(raw_at(line));
            self.decoded.clear();
            BASE64.decode_vec(raw.trim_ascii(), &mut self.decoded).ok()?;
            (head, &self.decoded[..])
        } else {
            (&line[..0], line)
        };
        let room_at = self.finder.find(body)? + MARK.len();
        let number_at = room_at + ROOM_DIGITS;
        let room = digits(body.get(room_at..number_at)?)?;
        let number = digits(body.get(number_at..number_at + NUMBER_DIGITS)?)?;
        Some(Found { room: usize::try_from(room).ok()?, number, head, body, number_at })
    }
}

fn digits(text: &[u8]) -> Option<u64> {
    text.iter().try_fold(0u64, |sum, byte| {
        byte.is_ascii_digit().then(|| sum * 10 + u64::from(byte - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::proto::down::{Down, decode};

    fn parts(version: &str) -> (Script, Identity, Signer) {
        (
            Script::find(version).unwrap(),
            Identity::new("bench-bot", "be00000000000001", "127.0.0.1"),
            Signer::new("testsecret", "testsalt"),
        )
    }

    fn check_patched(version: &str, number: u64, log_number: u64, text_bytes: usize) {
        let (script, identity, signer) = parts(version);
        let mut template = Template::echo(&script, &identity, &signer, 42, text_bytes, 7);
        let stamp = Stamp::new(&script, &identity, &signer, 1_767_225_600_123, 1);
        let mut patched = Vec::new();
        template.append(number, log_number, &stamp, &mut patched);

        let mut text = format!("{PREFIX}000042{number:09}");
        text.push_str(&filler(text_bytes.saturating_sub(text.len())));
        let chat = Chat {
            room: room_name(42),
            channel_id: Some(channel_id(42)),
            log_id: Some(format!("30000007{log_number:011}")),
            user_hash: Some("bench000042".to_owned()),
            sender: "부하".to_owned(),
            text,
            is_group_chat: true,
            is_mention: false,
        };
        let built = up::chat(&script, &identity, &signer, &chat, 1_767_225_600_123);
        assert_eq!(String::from_utf8(patched).unwrap(), String::from_utf8(built).unwrap());
    }

    proptest! {
        #[test]
        fn a_patched_frame_equals_one_built_from_scratch(
            number in 0u64..1_000_000_000,
            log_number in 0u64..100_000_000_000,
            text_bytes in 0usize..300,
        ) {
            check_patched("3.2.1", number, log_number, text_bytes);
            check_patched("newest", number, log_number, text_bytes);
        }
    }

    #[test]
    fn the_numbers_are_found_again_in_replies_of_both_dialects() {
        let (script, identity, signer) = parts("newest");
        let template = Template::echo(&script, &identity, &signer, 3, 60, 7);
        let text = template.expected_reply(3, 17);
        let mut marks = Marks::new();
        let mut numbers = |dialect, line: &[u8]| {
            marks.find(dialect, line).map(|found| (found.room, found.number))
        };
        let json =
            serde_json::json!({"event": "messageResponse", "data": {"room": "r", "text": text}});
        let json = json.to_string();
        assert_eq!(numbers(Dialect::Json, json.as_bytes()), Some((3, 17)));
        let raw = BASE64.encode(&text);
        let raw = format!(
            r#"{{"event":"messageResponse","data":{{"content_encoding":"base64","message_positions":[0,{}]}}}}{raw}"#,
            raw.len()
        );
        assert_eq!(numbers(Dialect::Raw, raw.as_bytes()), Some((3, 17)));
        assert!(matches!(decode(&script, &raw), Down::Text { text: got, .. } if got == text));
        assert_eq!(numbers(Dialect::Raw, br#"{"event":"ping","data":{}}"#), None);
        assert_eq!(numbers(Dialect::Json, b" b=00000x000000001"), None);
    }

    #[test]
    fn a_shape_fits_whatever_differs_by_the_number_alone() {
        let line = |number: u64, rest: &str| format!("{{\"text\":\" b=000003{number:09}{rest}\"}}");
        let (mut marks, mut shape) = (Marks::new(), Shape::default());
        shape.learn(&marks.find(Dialect::Json, line(1, "가").as_bytes()).unwrap());
        let mut fits = |line: String| {
            let found = marks.find(Dialect::Json, line.as_bytes()).unwrap();
            shape.fits(&found)
        };
        assert!(fits(line(2, "가")));
        assert!(!fits(line(2, "나")));
        assert!(!fits(line(2, "가가")));
        assert!(!fits(format!("{{{}", line(2, "가"))));
    }
}
