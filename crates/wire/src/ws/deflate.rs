//! permessage-deflate (RFC 7692), always without context takeover: each message is compressed for
//! itself. So a connection keeps no window between messages, and one compressed frame fits all.

use bytes::{BufMut, Bytes, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::decode::MessageKind;
use super::error::WsError;
use super::frame::deflated_header;

/// How often a message may end its compressed stream and begin a new one. Who flushes this way does it
/// once; each time costs us more than the two bytes it costs the client.
pub const STREAM_ENDS_MAX: u8 = 64;

/// What a sender leaves away at the end of each message (RFC 7692, section 7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
/// An empty block that ends a stream.
const LAST_BLOCK: [u8; 2] = [0x03, 0x00];
/// zlib knows no smaller window for raw streams.
pub(crate) const WINDOW_BITS_MIN: u8 = 9;
pub(crate) const WINDOW_BITS_MAX: u8 = 15;
/// Room for what comes out of the first bytes of a message.
const FIRST_OUTPUT_BYTES: usize = 512;

/// Compresses messages. Its state is large (some 300 KiB), so one serves all connections of a thread.
#[derive(Debug)]
pub struct Deflater {
    inner: Compress,
    scratch: Vec<u8>,
}

impl Deflater {
    /// Level 1 is fast, level 9 small. A client that asked for a window of fewer bits than
    /// `window_bits` (9 to 15, others are taken as the nearest) cannot read what comes out, unless the
    /// payload is no longer than its window.
    #[must_use]
    pub fn new(level: u8, window_bits: u8) -> Deflater {
        let level = Compression::new(u32::from(level.min(9)));
        let window_bits = window_bits.clamp(WINDOW_BITS_MIN, WINDOW_BITS_MAX);
        Deflater {
            inner: Compress::new_with_window_bits(level, false, window_bits),
            scratch: Vec::new(),
        }
    }

    /// A whole compressed frame, for every connection that negotiated compression.
    #[must_use]
    pub fn encode(&mut self, kind: MessageKind, payload: &[u8]) -> Bytes {
        self.deflate(payload);
        let body = self.scratch.strip_suffix(&TAIL).unwrap_or(&self.scratch);
        let header = deflated_header(kind, body.len());
        let mut frame = BytesMut::with_capacity(header.as_slice().len() + body.len());
        frame.put_slice(header.as_slice());
        frame.put_slice(body);
        // A large message must not be remembered by the room it took.
        self.scratch.clear();
        self.scratch.shrink_to(64 * 1024);
        frame.freeze()
    }

    fn deflate(&mut self, payload: &[u8]) {
        self.inner.reset();
        self.scratch.clear();
        self.scratch.reserve(payload.len() / 2 + 64);
        let mut rest = payload;
        loop {
            let before = self.inner.total_in();
            let status = self.inner.compress_vec(rest, &mut self.scratch, FlushCompress::Sync);
            rest = &rest[used(before, self.inner.total_in())..];
            // With room left, everything was flushed. The library refuses nothing but a state that it
            // does not come into, since input and level are always good.
            if status.is_err() || self.scratch.len() < self.scratch.capacity() {
                return;
            }
            self.scratch.reserve(rest.len() + 64);
        }
    }
}

/// Inflates one message, piece by piece.
pub(crate) struct Inflater {
    inner: Decompress,
    stream_ends: u8,
    /// Whether the last byte so far ended a stream, so that nothing was left away after it.
    is_at_end: bool,
}

impl Inflater {
    pub(crate) fn new() -> Inflater {
        // The largest window reads what any smaller one wrote.
        let inner = Decompress::new_with_window_bits(false, WINDOW_BITS_MAX);
        // A message without a byte is taken as an empty one, although RFC 7692 spends a byte on it.
        Inflater { inner, stream_ends: 0, is_at_end: true }
    }

    /// Appends what `input` inflates to. `output` never grows beyond `bytes_max` and one byte more.
    pub(crate) fn push(
        &mut self,
        mut input: &[u8],
        output: &mut Vec<u8>,
        bytes_max: usize,
    ) -> Result<(), WsError> {
        if input.is_empty() {
            return Ok(());
        }
        self.is_at_end = false;
        loop {
            if output.len() > bytes_max {
                return Err(WsError::TooLarge);
            }
            if output.len() == output.capacity() {
                let doubled = (output.len() * 2).max(input.len() * 2).max(FIRST_OUTPUT_BYTES);
                // One byte more than allowed, so that too much is told from just enough.
                output.reserve_exact(doubled.min(bytes_max + 1) - output.len());
            }
            let (before_in, before_out) = (self.inner.total_in(), output.len());
            let status = self
                .inner
                .decompress_vec(input, output, FlushDecompress::Sync)
                .map_err(|_broken| WsError::BadDeflate)?;
            let taken = used(before_in, self.inner.total_in());
            input = &input[taken..];
            if output.len() > bytes_max {
                return Err(WsError::TooLarge);
            }
            if status == Status::StreamEnd {
                self.stream_ends += 1;
                if self.stream_ends > STREAM_ENDS_MAX {
                    return Err(WsError::BadDeflate);
                }
                self.inner.reset(false);
                if input.is_empty() {
                    self.is_at_end = true;
                    return Ok(());
                }
            } else if output.len() < output.capacity() {
                if input.is_empty() {
                    return Ok(());
                }
                if taken == 0 && output.len() == before_out {
                    return Err(WsError::BadDeflate);
                }
            }
        }
    }

    /// Inflates what the sender left away, and holds the message to have ended where a block does. Call
    /// it once, after the last byte of the message.
    pub(crate) fn finish(&mut self, output: &mut Vec<u8>, bytes_max: usize) -> Result<(), WsError> {
        if self.is_at_end {
            return Ok(());
        }
        self.push(&TAIL, output, bytes_max)?;
        // An empty last block is only read as one between two blocks: elsewhere data is missing, and a
        // message that was cut must not pass for a whole one.
        self.stream_ends = 0;
        self.push(&LAST_BLOCK, output, bytes_max)?;
        if self.is_at_end { Ok(()) } else { Err(WsError::BadDeflate) }
    }
}

/// How far a counter of the library went on during one call.
fn used(before: u64, after: u64) -> usize {
    usize::try_from(after.saturating_sub(before)).unwrap_or(usize::MAX)
}
