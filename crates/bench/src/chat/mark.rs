//! What a published body says about itself: run, channel, number and time of sending. Finds it again
//! in whatever a server wraps around it. Knows no protocol.

use memchr::memmem::Finder;

/// No header of any protocol here holds these bytes, and JSON passes them through unchanged.
const MAGIC: &[u8; 5] = b"naru~";
/// Run and channel have eight hex digits each, number and time sixteen.
const DIGITS: usize = 48;
/// The last byte of a body: a body that was cut short has no such byte in its place.
const END: u8 = b'~';
const FILLER: u8 = b'x';

/// The shortest text that holds a mark.
pub(crate) const TEXT_BYTES_MIN: usize = MAGIC.len() + DIGITS + 1;

/// What one body says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Another number for each run: what an earlier run left in a history is not ours.
    pub(crate) run: u32,
    pub(crate) channel: u32,
    /// Counts the messages of a channel, from zero.
    pub(crate) number: u64,
    /// Nanoseconds of the run's clock.
    pub(crate) due_ns: u64,
}

/// Writes the text of `mark`, exactly as long as `text`.
///
/// # Panics
/// When `text` is shorter than [`TEXT_BYTES_MIN`]; the options were checked before.
pub(crate) fn write(mark: Mark, text: &mut [u8]) {
    let (magic, rest) = text.split_at_mut(MAGIC.len());
    magic.copy_from_slice(MAGIC);
    let (digits, rest) = rest.split_at_mut(DIGITS);
    put_hex(u64::from(mark.run), &mut digits[..8]);
    put_hex(u64::from(mark.channel), &mut digits[8..16]);
    put_hex(mark.number, &mut digits[16..32]);
    put_hex(mark.due_ns, &mut digits[32..]);
    let (end, filler) = rest.split_last_mut().expect("invariant: room for the last byte");
    filler.fill(FILLER);
    *end = END;
}

fn put_hex(mut value: u64, digits: &mut [u8]) {
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789abcdef"[usize::from(value.to_le_bytes()[0] & 15)];
        value >>= 4;
    }
}

/// Eight hex digits at once. Other letters give a wrong number, which the accounts then notice.
fn hex8(digits: &[u8]) -> u32 {
    let Some(digits) = digits.first_chunk::<8>() else { return u32::MAX };
    let letters = u64::from_be_bytes(*digits);
    let mut value =
        (letters & 0x0f0f_0f0f_0f0f_0f0f) + 9 * ((letters >> 6) & 0x0101_0101_0101_0101);
    value = (value | value >> 4) & 0x00ff_00ff_00ff_00ff;
    value = (value | value >> 8) & 0x0000_ffff_0000_ffff;
    value |= value >> 16;
    u32::try_from(value & 0xffff_ffff).unwrap_or(u32::MAX)
}

fn hex16(digits: &[u8]) -> u64 {
    u64::from(hex8(digits)) << 32 | u64::from(hex8(&digits[8..]))
}

/// A search for marks in one message after the other.
pub(crate) struct Marks {
    finder: Finder<'static>,
    text_bytes: usize,
    /// Where the last mark began. Messages of one kind look alike, so the next is mostly there too.
    hint: usize,
}

/// What a search came upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A whole text, and where the search goes on.
    Mark(Mark, usize),
    /// It begins like one of ours and does not end like one.
    Spoilt,
    /// No (more) marks.
    Nothing,
}

impl Marks {
    pub(crate) fn new(text_bytes: usize) -> Marks {
        Marks { finder: Finder::new(MAGIC), text_bytes, hint: 0 }
    }

    /// Looks for a mark in `message` from `from` on.
    pub(crate) fn find(&mut self, message: &[u8], from: usize) -> Found {
        if message.len() < from + self.text_bytes {
            return Found::Nothing;
        }
        let hinted = message.get(self.hint..self.hint + MAGIC.len());
        let start = if from == 0 && hinted == Some(MAGIC) {
            self.hint
        } else {
            match self.finder.find(&message[from..]) {
                Some(offset) => from + offset,
                None => return Found::Nothing,
            }
        };
        if from == 0 {
            self.hint = start;
        }
        let Some(text) = message.get(start..start + self.text_bytes) else { return Found::Spoilt };
        if text[self.text_bytes - 1] != END {
            return Found::Spoilt;
        }
        let digits = &text[MAGIC.len()..MAGIC.len() + DIGITS];
        let mark = Mark {
            run: hex8(digits),
            channel: hex8(&digits[8..]),
            number: hex16(&digits[16..]),
            due_ns: hex16(&digits[32..]),
        };
        Found::Mark(mark, start + self.text_bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(mark: Mark, bytes: usize) -> Vec<u8> {
        let mut text = vec![0; bytes];
        write(mark, &mut text);
        text
    }

    const MARK: Mark = Mark { run: 0xdead_beef, channel: 99, number: 1 << 40, due_ns: u64::MAX };

    #[test]
    fn the_text_is_plain_ascii_of_the_wanted_length() {
        let text = text(MARK, 60);
        let expected = "naru~deadbeef000000630000010000000000ffffffffffffffffxxxxxx~";
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }

    #[test]
    fn several_marks_in_one_message_are_all_found() {
        let mut message = b"[{".to_vec();
        for number in 0..3 {
            message.extend_from_slice(&text(Mark { number, ..MARK }, 64));
            message.extend_from_slice(b"},{");
        }
        let (mut marks, mut from, mut numbers) = (Marks::new(64), 0, Vec::new());
        while let Found::Mark(mark, next) = marks.find(&message, from) {
            numbers.push(mark.number);
            from = next;
        }
        assert_eq!(numbers, [0, 1, 2]);
        assert_eq!(marks.find(&message, from), Found::Nothing);
    }

    #[test]
    fn a_text_cut_short_is_spoilt() {
        let mut message = text(MARK, 64);
        message[63] = b'x';
        message.extend_from_slice(b"....");
        assert_eq!(Marks::new(64).find(&message, 0), Found::Spoilt);
    }

    proptest! {
        #[test]
        fn what_was_written_is_found_behind_any_header(
            run: u32, channel: u32, number: u64, due_ns: u64,
            headers in prop::collection::vec("[a-z:{}\"]{0,80}", 1..5), bytes in TEXT_BYTES_MIN..200,
        ) {
            let mark = Mark { run, channel, number, due_ns };
            let mut marks = Marks::new(bytes);
            for header in headers {
                let mut message = header.clone().into_bytes();
                message.extend_from_slice(&text(mark, bytes));
                prop_assert_eq!(marks.find(&message, 0), Found::Mark(mark, message.len()));
            }
        }
    }
}
