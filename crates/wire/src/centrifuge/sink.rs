//! Where encoders write. Everything is encoded twice: the first pass counts and checks, the second
//! writes into room of exactly that size and cannot fail, so that nothing is ever half written.

use bytes::{BufMut, BytesMut};

use super::UnfitPayload;

/// Takes bytes in order.
pub(super) trait Sink {
    /// Whether payloads are checked on the way. They are in the first pass only.
    const CHECKS: bool;

    fn put(&mut self, bytes: &[u8]);

    /// Remembers that a payload does not fit.
    fn refuse(&mut self);
}

/// The first pass.
#[derive(Default)]
struct Counter {
    bytes: usize,
    unfit: bool,
}

impl Sink for Counter {
    const CHECKS: bool = true;

    fn put(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len();
    }

    fn refuse(&mut self) {
        self.unfit = true;
    }
}

/// The second pass.
impl Sink for BytesMut {
    const CHECKS: bool = false;

    fn put(&mut self, bytes: &[u8]) {
        self.put_slice(bytes);
    }

    fn refuse(&mut self) {}
}

/// Something that writes the same bytes to any sink.
pub(super) trait Encode {
    fn encode<S: Sink>(&self, out: &mut S);
}

/// How many bytes it takes, if all its payloads fit.
pub(super) fn measure(message: &impl Encode) -> Result<usize, UnfitPayload> {
    let mut counter = Counter::default();
    message.encode(&mut counter);
    if counter.unfit { Err(UnfitPayload) } else { Ok(counter.bytes) }
}

/// How many bytes it takes, for messages in messages, whose payloads nobody checks.
pub(super) fn count(message: &impl Encode) -> usize {
    let mut counter = Counter::default();
    message.encode(&mut counter);
    counter.bytes
}
