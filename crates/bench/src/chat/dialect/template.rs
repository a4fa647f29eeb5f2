//! A message to publish of which only the mark and the number of the request change: what makes
//! publishing cheaper than what it causes.

use super::FIRST_ID;
use crate::chat::mark::{self, Mark};

/// How the number of a request is written.
#[derive(Clone, Copy, Debug)]
pub(crate) enum IdForm {
    /// Ten decimal digits.
    Decimal,
    /// A varint of five bytes.
    Varint,
}

/// A prepared message.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    bytes: Vec<u8>,
    text: std::ops::Range<usize>,
    id: Option<(usize, IdForm)>,
}

impl Template {
    pub(super) fn new(
        bytes: Vec<u8>,
        text: std::ops::Range<usize>,
        id: Option<(usize, IdForm)>,
    ) -> Template {
        Template { bytes, text, id }
    }

    /// The message with this mark, as request number `request`.
    pub(crate) fn fill(&mut self, mark: Mark, request: u64) -> &[u8] {
        mark::write(mark, &mut self.bytes[self.text.clone()]);
        let mut id = FIRST_ID + request;
        match self.id {
            None => {}
            Some((at, IdForm::Decimal)) => {
                for digit in self.bytes[at..at + DECIMAL_BYTES].iter_mut().rev() {
                    *digit = b'0' + u8::try_from(id % 10).unwrap_or(0);
                    id /= 10;
                }
            }
            Some((at, IdForm::Varint)) => {
                for (index, byte) in self.bytes[at..at + VARINT_BYTES].iter_mut().enumerate() {
                    let more = if index + 1 < VARINT_BYTES { 0x80 } else { 0 };
                    *byte = (id.to_le_bytes()[0] & 0x7f) | more;
                    id >>= 7;
                }
            }
        }
        &self.bytes
    }
}

/// Digits of an id.
pub(super) const DECIMAL_BYTES: usize = 10;
/// Bytes of an id as a varint.
pub(super) const VARINT_BYTES: usize = 5;
