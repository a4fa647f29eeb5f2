//! Bytes of a client to messages, however the network cut them.
//!
//! Between messages a [`Decoder`] is a few words without a heap buffer. A message whose frame is complete
//! in the input is unmasked and handed out where it lies. Everything else flows into one buffer per
//! message, so that neither the number of fragments nor an announced length costs memory.

use bytes::{Buf, Bytes, BytesMut};

use super::deflate::Inflater;
use super::error::WsError;
use super::frame::{CONTROL_BYTES_MAX, Opcode, is_close_code};
use super::mask::unmask;

/// Fragments without a byte that may follow each other. Their bytes count for no other limit.
pub const EMPTY_FRAGMENTS_MAX: u16 = 1024;

/// What a message is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageKind {
    /// UTF-8, which was checked.
    Text,
    /// Bytes.
    Binary,
}

/// What a client said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A whole message.
    Message {
        /// Text or bytes.
        kind: MessageKind,
        /// The payload. It may share its allocation with messages that were read together with it, so who
        /// keeps a part of it for long should copy that part.
        data: Bytes,
    },
    /// A ping, which wants a pong with the same payload.
    Ping(Bytes),
    /// A pong.
    Pong(Bytes),
    /// The client's end of the conversation. Nothing comes out of the decoder after it.
    Close {
        /// Why, if the client says so.
        code: Option<u16>,
        /// Text for people, often empty.
        reason: String,
    },
}

/// Reads one client's frames. After an error or a close frame it ignores all input.
#[derive(Debug)]
pub struct Decoder {
    message: Option<Box<Partial>>,
    message_bytes_max: u32,
    takes_deflate: bool,
    is_ended: bool,
}

/// A message that is not complete yet.
struct Partial {
    /// The payload so far, inflated.
    data: Vec<u8>,
    /// Set for a compressed message.
    inflater: Option<Box<Inflater>>,
    /// Bytes of `data` that are whole characters.
    checked_bytes: usize,
    /// Payload bytes of all frames so far, as announced.
    wire_bytes: u64,
    /// Payload bytes of the current frame that are still to come. Zero between two fragments.
    frame_bytes_left: u64,
    mask: [u8; 4],
    empty_fragments: u16,
    is_last_frame: bool,
    kind: MessageKind,
}

/// The bytes before a payload, read and checked for what can be known from them alone.
struct Head {
    opcode: Opcode,
    is_final: bool,
    is_deflated: bool,
    payload_bytes: u64,
    mask: [u8; 4],
    /// How long the head itself is.
    head_bytes: usize,
}

impl Decoder {
    /// `message_bytes_max` bounds a message after inflation. Compressed messages are refused unless
    /// `takes_deflate`, which is what the handshake negotiated.
    #[must_use]
    pub fn new(message_bytes_max: u32, takes_deflate: bool) -> Decoder {
        Decoder { message: None, message_bytes_max, takes_deflate, is_ended: false }
    }

    /// Changes the limit for messages that begin from now on, and for the rest of one that has begun:
    /// little for strangers, more for whom one knows.
    pub fn set_message_bytes_max(&mut self, message_bytes_max: u32) {
        self.message_bytes_max = message_bytes_max;
    }

    /// Whether a part of a message is kept, so that the client owes the rest.
    #[must_use]
    pub fn is_inside_message(&self) -> bool {
        self.message.is_some()
    }

    /// Takes what it can use from the front of `input`, until something is complete. `Ok(None)` wants
    /// more input; then `input` holds no more than one unfinished head or control frame, in a buffer of
    /// that size. Call again after each `Some`.
    ///
    /// # Errors
    /// The connection cannot go on; tell the client with [`WsError::close_code`].
    pub fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Incoming>, WsError> {
        let decoded = if self.is_ended { Ok(None) } else { self.step(input) };
        match &decoded {
            Ok(Some(Incoming::Close { .. })) | Err(_) => {
                self.is_ended = true;
                self.message = None;
            }
            Ok(_) => {}
        }
        if self.is_ended || input.is_empty() {
            *input = BytesMut::new();
        } else if matches!(decoded, Ok(None)) {
            // The few bytes must not hold the allocation of a whole read.
            *input = BytesMut::from(&input[..]);
        }
        decoded
    }

    fn step(&mut self, input: &mut BytesMut) -> Result<Option<Incoming>, WsError> {
        loop {
            let bytes_max = self.message_bytes_max;
            if let Some(message) = &mut self.message
                && message.frame_bytes_left > 0
            {
                message.take(input, bytes_max)?;
                if message.frame_bytes_left > 0 {
                    return Ok(None);
                }
            }
            if self.message.as_ref().is_some_and(|message| message.is_complete()) {
                return self.finish().map(Some);
            }
            let Some(head) = Head::parse(input, self.takes_deflate)? else { return Ok(None) };
            if head.opcode.is_control() {
                return control(&head, input);
            }
            self.check_order(&head)?;
            if let Some(message) = self.whole(&head, input)? {
                return Ok(Some(message));
            }
            self.begin_frame(&head)?;
            input.advance(head.head_bytes);
        }
    }

    fn check_order(&self, head: &Head) -> Result<(), WsError> {
        match (head.opcode, self.message.is_some()) {
            (Opcode::Continuation, false) => Err(WsError::StrayContinuation),
            (Opcode::Continuation, true) | (_, false) => Ok(()),
            (_, true) => Err(WsError::MessageUnfinished),
        }
    }

    /// The usual case: a message in one frame that is here completely. It is handed out in place.
    fn whole(&self, head: &Head, input: &mut BytesMut) -> Result<Option<Incoming>, WsError> {
        if !head.is_final || head.is_deflated || self.message.is_some() {
            return Ok(None);
        }
        let Some(kind) = head.kind() else { return Ok(None) };
        if head.payload_bytes > u64::from(self.message_bytes_max) {
            return Err(WsError::TooLarge);
        }
        let Some(mut frame) = head.cut_frame(input) else { return Ok(None) };
        frame.advance(head.head_bytes);
        unmask(&mut frame, head.mask);
        if kind == MessageKind::Text && std::str::from_utf8(&frame).is_err() {
            return Err(WsError::NotUtf8);
        }
        Ok(Some(Incoming::Message { kind, data: frame.freeze() }))
    }

    /// Notes the frame whose payload comes next.
    fn begin_frame(&mut self, head: &Head) -> Result<(), WsError> {
        let kind = head.kind().unwrap_or(MessageKind::Binary);
        let message = self.message.get_or_insert_with(|| {
            Box::new(Partial {
                data: Vec::new(),
                inflater: head.is_deflated.then(|| Box::new(Inflater::new())),
                checked_bytes: 0,
                wire_bytes: 0,
                frame_bytes_left: 0,
                mask: head.mask,
                empty_fragments: 0,
                is_last_frame: false,
                kind,
            })
        });
        message.wire_bytes = message.wire_bytes.saturating_add(head.payload_bytes);
        let mut wire_bytes_max = u64::from(self.message_bytes_max);
        if message.inflater.is_some() {
            // What cannot be compressed becomes longer by some bytes for each block and each flush.
            wire_bytes_max += wire_bytes_max / 8 + 1024;
        }
        if message.wire_bytes > wire_bytes_max {
            return Err(WsError::TooLarge);
        }
        if head.payload_bytes > 0 {
            message.empty_fragments = 0;
        } else {
            message.empty_fragments += 1;
            if message.empty_fragments > EMPTY_FRAGMENTS_MAX {
                return Err(WsError::EmptyFragments);
            }
        }
        message.frame_bytes_left = head.payload_bytes;
        message.mask = head.mask;
        message.is_last_frame = head.is_final;
        Ok(())
    }

    fn finish(&mut self) -> Result<Incoming, WsError> {
        // Only called with a message, so the fallback is never seen.
        let Some(mut message) = self.message.take() else { return Err(WsError::StrayContinuation) };
        if let Some(mut inflater) = message.inflater.take() {
            let bytes_max = bytes(self.message_bytes_max);
            inflater.finish(&mut message.data, bytes_max)?;
            message.check_text()?;
        }
        let Partial { kind, data, checked_bytes, .. } = *message;
        if kind == MessageKind::Text && checked_bytes < data.len() {
            return Err(WsError::NotUtf8);
        }
        Ok(Incoming::Message { kind, data: Bytes::from(data) })
    }
}

impl Partial {
    fn is_complete(&self) -> bool {
        self.is_last_frame && self.frame_bytes_left == 0
    }

    /// Moves payload of the current frame from the input to the message.
    fn take(&mut self, input: &mut BytesMut, message_bytes_max: u32) -> Result<(), WsError> {
        let count = usize::try_from(self.frame_bytes_left).unwrap_or(usize::MAX).min(input.len());
        if count == 0 {
            return Ok(());
        }
        let payload = &mut input[..count];
        self.mask = unmask(payload, self.mask);
        self.frame_bytes_left -= count as u64;
        let bytes_max = bytes(message_bytes_max);
        match &mut self.inflater {
            Some(inflater) => inflater.push(payload, &mut self.data, bytes_max)?,
            None => {
                let needed = self.data.len() + count;
                if needed > self.data.capacity() {
                    // Doubling, but never beyond the limit and never for what is only announced.
                    let capacity = (self.data.capacity() * 2).min(bytes_max).max(needed);
                    self.data.reserve_exact(capacity - self.data.len());
                }
                self.data.extend_from_slice(payload);
            }
        }
        input.advance(count);
        self.check_text()
    }

    /// Fails at the first byte that no following one can make into text.
    fn check_text(&mut self) -> Result<(), WsError> {
        if self.kind == MessageKind::Binary {
            return Ok(());
        }
        match std::str::from_utf8(&self.data[self.checked_bytes..]) {
            Ok(_) => self.checked_bytes = self.data.len(),
            Err(error) if error.error_len().is_none() => self.checked_bytes += error.valid_up_to(),
            Err(_) => return Err(WsError::NotUtf8),
        }
        Ok(())
    }
}

impl std::fmt::Debug for Partial {
    /// Says how much is there and not what: messages are personal.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Partial")
            .field("kind", &self.kind)
            .field("bytes", &self.data.len())
            .field("frame_bytes_left", &self.frame_bytes_left)
            .finish_non_exhaustive()
    }
}

impl Head {
    /// Reads the head at the front of `input`, which is left as it is. `None` if it is not all there.
    fn parse(input: &[u8], takes_deflate: bool) -> Result<Option<Head>, WsError> {
        let &[first, second, ..] = input else { return Ok(None) };
        let opcode = Opcode::from_bits(first & 0x0f);
        let is_final = first & 0x80 != 0;
        let is_deflated = first & 0x40 != 0;
        let may_be_deflated =
            takes_deflate && matches!(opcode, Some(Opcode::Text | Opcode::Binary));
        if first & 0x30 != 0 || (is_deflated && !may_be_deflated) {
            return Err(WsError::ReservedBits);
        }
        let Some(opcode) = opcode else { return Err(WsError::ReservedOpcode) };
        let short = second & 0x7f;
        if opcode.is_control() {
            if usize::from(short) > CONTROL_BYTES_MAX {
                return Err(WsError::ControlTooLong);
            }
            if !is_final {
                return Err(WsError::ControlFragmented);
            }
        }
        if second & 0x80 == 0 {
            return Err(WsError::NotMasked);
        }
        let (payload_bytes, length_end) = match short {
            126 => match input.get(2..4).and_then(|bytes| bytes.try_into().ok()) {
                Some(bytes) => (u64::from(u16::from_be_bytes(bytes)), 4),
                None => return Ok(None),
            },
            127 => match input.get(2..10).and_then(|bytes| bytes.try_into().ok()) {
                Some(bytes) => (u64::from_be_bytes(bytes), 10),
                None => return Ok(None),
            },
            short => (u64::from(short), 2),
        };
        if payload_bytes > u64::MAX >> 1 {
            return Err(WsError::BadLength);
        }
        let head_bytes = length_end + 4;
        let Some(mask) = input.get(length_end..head_bytes).and_then(|mask| mask.try_into().ok())
        else {
            return Ok(None);
        };
        Ok(Some(Head { opcode, is_final, is_deflated, payload_bytes, mask, head_bytes }))
    }

    fn kind(&self) -> Option<MessageKind> {
        match self.opcode {
            Opcode::Text => Some(MessageKind::Text),
            Opcode::Binary => Some(MessageKind::Binary),
            _ => None,
        }
    }

    /// The whole frame with its head, if it is all there.
    fn cut_frame(&self, input: &mut BytesMut) -> Option<BytesMut> {
        let payload_bytes = usize::try_from(self.payload_bytes).ok()?;
        let frame_bytes = self.head_bytes.checked_add(payload_bytes)?;
        match frame_bytes.cmp(&input.len()) {
            std::cmp::Ordering::Greater => None,
            // Taking the whole buffer needs no second owner of it.
            std::cmp::Ordering::Equal => Some(std::mem::take(input)),
            std::cmp::Ordering::Less => Some(input.split_to(frame_bytes)),
        }
    }
}

/// Reads a control frame; they are short, so they wait in the input until they are complete.
fn control(head: &Head, input: &mut BytesMut) -> Result<Option<Incoming>, WsError> {
    let payload_bytes = usize::try_from(head.payload_bytes).unwrap_or(usize::MAX);
    let end = head.head_bytes.saturating_add(payload_bytes);
    let Some(payload) = input.get_mut(head.head_bytes..end) else { return Ok(None) };
    unmask(payload, head.mask);
    let control = match head.opcode {
        Opcode::Close => close(payload)?,
        // Copied, because pongs wait in queues and must not hold what was read with them.
        Opcode::Ping => Incoming::Ping(Bytes::copy_from_slice(payload)),
        _ => Incoming::Pong(Bytes::copy_from_slice(payload)),
    };
    input.advance(end);
    Ok(Some(control))
}

fn close(payload: &[u8]) -> Result<Incoming, WsError> {
    let (code, reason) = match payload {
        [] => return Ok(Incoming::Close { code: None, reason: String::new() }),
        [_half] => return Err(WsError::BadClose),
        [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
    };
    if !is_close_code(code) {
        return Err(WsError::BadClose);
    }
    let reason = std::str::from_utf8(reason).map_err(|_broken| WsError::NotUtf8)?;
    Ok(Incoming::Close { code: Some(code), reason: reason.to_owned() })
}

/// A limit as a length; on machines with small lengths the largest one.
fn bytes(limit: u32) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX - 1)
}
