//! How headers are written in each version: what is escaped, and what cannot be said at all.
//!
//! STOMP 1.0 has no escapes, 1.1 has `\n`, `\c` and `\\`, 1.2 has `\r` as well. CONNECT, STOMP and
//! CONNECTED are never escaped. What a version cannot say would break the frame, or let whoever
//! chose the value add headers to somebody else's frame; it becomes a space, in a name `_`.

use super::{Command, Version};

/// The escapes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Escapes {
    None,
    /// `\n`, `\c`, `\\`.
    Three,
    /// `\r` too.
    Four,
}

impl Escapes {
    /// Those of a frame; a connection has no version before it is negotiated.
    pub(super) fn of(command: Command, version: Option<Version>) -> Escapes {
        match version {
            _ if command.is_never_escaped() => Escapes::None,
            None | Some(Version::V1_0) => Escapes::None,
            Some(Version::V1_1) => Escapes::Three,
            Some(Version::V1_2) => Escapes::Four,
        }
    }
}

/// Whether every backslash begins an escape of this version.
pub(super) fn is_well_escaped(text: &str, escapes: Escapes) -> bool {
    if escapes == Escapes::None {
        return true;
    }
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let is_right = match (byte, escapes) {
            (b'\\', Escapes::Four) => matches!(bytes.next(), Some(b'n' | b'c' | b'\\' | b'r')),
            (b'\\', _) => matches!(bytes.next(), Some(b'n' | b'c' | b'\\')),
            _ => true,
        };
        if !is_right {
            return false;
        }
    }
    true
}

/// Appends what `text` means. It must be well escaped.
pub(super) fn unescape_into(out: &mut String, mut text: &str, escapes: Escapes) {
    if escapes != Escapes::None {
        while let Some(at) = memchr::memchr(b'\\', text.as_bytes()) {
            out.push_str(&text[..at]);
            out.push(match text.as_bytes().get(at + 1) {
                Some(b'n') => '\n',
                Some(b'r') => '\r',
                Some(b'c') => ':',
                _ => '\\',
            });
            text = text.get(at + 2..).unwrap_or_default();
        }
    }
    out.push_str(text);
}

/// Whether a text is a header's name or its value: a colon in a name is another matter.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Name,
    Value,
}

/// Hands on the bytes of `text` as they go over the wire, in pieces.
pub(super) fn escape(text: &str, part: Part, escapes: Escapes, mut out: impl FnMut(&[u8])) {
    let bytes = text.as_bytes();
    let mut from = 0;
    for (at, byte) in bytes.iter().enumerate() {
        let Some(written) = replacement(*byte, part, escapes) else { continue };
        out(&bytes[from..at]);
        out(written);
        from = at + 1;
    }
    out(&bytes[from..]);
}

fn replacement(byte: u8, part: Part, escapes: Escapes) -> Option<&'static [u8]> {
    let unsayable: &[u8] = if part == Part::Name { b"_" } else { b" " };
    match (byte, escapes) {
        (0, _) | (b'\r', Escapes::None | Escapes::Three) | (b'\n', Escapes::None) => {
            Some(unsayable)
        }
        (b':', Escapes::None) if part == Part::Name => Some(unsayable),
        (b':' | b'\\', Escapes::None) => None,
        (b'\n', _) => Some(b"\\n"),
        (b'\r', Escapes::Four) => Some(b"\\r"),
        (b':', _) => Some(b"\\c"),
        (b'\\', _) => Some(b"\\\\"),
        _ => None,
    }
}
