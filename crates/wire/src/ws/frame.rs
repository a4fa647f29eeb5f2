//! Frames for clients: never masked, never fragmented, encoded once and shared by all who get them.

use bytes::{BufMut, Bytes, BytesMut};

use super::decode::MessageKind;

/// The most a control frame carries.
pub const CONTROL_BYTES_MAX: usize = 125;
/// The longest reason of a close frame in bytes: two of a control frame's are the code.
pub const CLOSE_REASON_BYTES_MAX: usize = CONTROL_BYTES_MAX - 2;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// More of a fragmented message.
    Continuation,
    /// A text message or its first fragment.
    Text,
    /// A binary message or its first fragment.
    Binary,
    /// The end of the conversation.
    Close,
    /// A question whether the other one lives.
    Ping,
    /// The answer to it.
    Pong,
}

impl Opcode {
    /// The opcode of these four bits; `None` where the protocol defines none.
    pub(crate) fn from_bits(bits: u8) -> Option<Opcode> {
        match bits {
            0x0 => Some(Opcode::Continuation),
            0x1 => Some(Opcode::Text),
            0x2 => Some(Opcode::Binary),
            0x8 => Some(Opcode::Close),
            0x9 => Some(Opcode::Ping),
            0xa => Some(Opcode::Pong),
            _ => None,
        }
    }

    fn bits(self) -> u8 {
        match self {
            Opcode::Continuation => 0x0,
            Opcode::Text => 0x1,
            Opcode::Binary => 0x2,
            Opcode::Close => 0x8,
            Opcode::Ping => 0x9,
            Opcode::Pong => 0xa,
        }
    }

    pub(crate) fn is_control(self) -> bool {
        matches!(self, Opcode::Close | Opcode::Ping | Opcode::Pong)
    }
}

impl From<MessageKind> for Opcode {
    fn from(kind: MessageKind) -> Opcode {
        match kind {
            MessageKind::Text => Opcode::Text,
            MessageKind::Binary => Opcode::Binary,
        }
    }
}

/// The bytes before a frame's payload: 2, 4 or 10 of them.
#[derive(Clone, Copy, Debug)]
pub struct FrameHeader {
    bytes: [u8; 10],
    len: u8,
}

impl FrameHeader {
    /// The bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// The header of a whole frame with a payload of so many bytes, so that header and payload can be
/// written as two slices.
#[must_use]
pub fn frame_header(opcode: Opcode, payload_bytes: usize) -> FrameHeader {
    header(0x80 | opcode.bits(), payload_bytes)
}

/// The header of a whole message that is compressed: the first reserved bit says so.
pub(crate) fn deflated_header(kind: MessageKind, payload_bytes: usize) -> FrameHeader {
    header(0xc0 | Opcode::from(kind).bits(), payload_bytes)
}

fn header(first: u8, payload_bytes: usize) -> FrameHeader {
    let mut bytes = [0; 10];
    bytes[0] = first;
    let len = match (u8::try_from(payload_bytes), u16::try_from(payload_bytes)) {
        (Ok(short), _) if short < 126 => {
            bytes[1] = short;
            2
        }
        (_, Ok(medium)) => {
            bytes[1] = 126;
            bytes[2..4].copy_from_slice(&medium.to_be_bytes());
            4
        }
        _ => {
            bytes[1] = 127;
            bytes[2..].copy_from_slice(&(payload_bytes as u64).to_be_bytes());
            10
        }
    };
    FrameHeader { bytes, len }
}

/// A whole frame. The payload of a control frame must not be longer than [`CONTROL_BYTES_MAX`]; what is
/// beyond that is cut off.
#[must_use]
pub fn encode_frame(opcode: Opcode, payload: &[u8]) -> Bytes {
    let payload = if opcode.is_control() { clip(payload, CONTROL_BYTES_MAX) } else { payload };
    joined_frame(opcode, payload.len(), payload)
}

/// The header of a frame with a payload of `payload_bytes`, and the first part of that payload. The rest
/// is written after it: a body that many receivers share behind a head that each has for itself.
#[must_use]
pub fn joined_frame(opcode: Opcode, payload_bytes: usize, first_part: &[u8]) -> Bytes {
    let header = frame_header(opcode, payload_bytes);
    let mut frame = BytesMut::with_capacity(header.as_slice().len() + first_part.len());
    frame.put_slice(header.as_slice());
    frame.put_slice(first_part);
    frame.freeze()
}

/// A close frame. A code that may not be sent becomes an empty close frame, which means "no code"; a
/// reason is cut at a character when it is longer than [`CLOSE_REASON_BYTES_MAX`].
#[must_use]
pub fn encode_close(code: u16, reason: &str) -> Bytes {
    if !is_close_code(code) {
        return encode_frame(Opcode::Close, &[]);
    }
    let mut end = reason.len().min(CLOSE_REASON_BYTES_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    let mut payload = [0; CONTROL_BYTES_MAX];
    payload[..2].copy_from_slice(&code.to_be_bytes());
    payload[2..2 + end].copy_from_slice(&reason.as_bytes()[..end]);
    encode_frame(Opcode::Close, &payload[..2 + end])
}

/// Whether a close frame may carry this code: RFC 6455 sections 7.4.1 and 7.4.2, and the codes that
/// IANA registered since (1012 to 1014).
#[must_use]
pub fn is_close_code(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

fn clip(bytes: &[u8], len_max: usize) -> &[u8] {
    &bytes[..bytes.len().min(len_max)]
}
