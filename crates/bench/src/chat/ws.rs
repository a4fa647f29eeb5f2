//! WebSocket framing as far as a load generator and a bare server need it: the upgrade, frames both
//! ways, masks. No compression. Written from RFC 6455 alone; knows no sockets.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha1::{Digest as _, Sha1};

/// RFC 6455 section 1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Longer heads of requests and responses end the connection.
pub(crate) const HEAD_BYTES_MAX: usize = 8 << 10;
/// A frame longer than this ends the connection: no run asks for one.
pub(crate) const FRAME_BYTES_MAX: usize = 32 << 20;

pub(crate) const CONTINUATION: u8 = 0;
pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

/// A frame at the beginning of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) opcode: u8,
    pub(crate) fin: bool,
    pub(crate) mask: Option<[u8; 4]>,
    /// Where its payload begins and ends.
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// Why bytes are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadFrame {
    /// Reserved bits are set; nothing was negotiated.
    Reserved,
    TooLong,
}

/// The first frame of `bytes`, or `None` while it is not complete.
pub(crate) fn frame(bytes: &[u8]) -> Result<Option<Frame>, BadFrame> {
    let [first, second, ..] = *bytes else { return Ok(None) };
    if first & 0x70 != 0 {
        return Err(BadFrame::Reserved);
    }
    let (length, mut start) = match second & 0x7f {
        126 => match bytes.get(2..4).and_then(|length| length.try_into().ok()) {
            Some(length) => (u64::from(u16::from_be_bytes(length)), 4),
            None => return Ok(None),
        },
        127 => match bytes.get(2..10).and_then(|length| length.try_into().ok()) {
            Some(length) => (u64::from_be_bytes(length), 10),
            None => return Ok(None),
        },
        short => (u64::from(short), 2),
    };
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > FRAME_BYTES_MAX {
        return Err(BadFrame::TooLong);
    }
    let mut mask = None;
    if second & 0x80 != 0 {
        let Some(key) = bytes.get(start..start + 4).and_then(|key| key.try_into().ok()) else {
            return Ok(None);
        };
        mask = Some(key);
        start += 4;
    }
    let end = start + length;
    if bytes.len() < end {
        return Ok(None);
    }
    Ok(Some(Frame { opcode: first & 15, fin: first & 0x80 != 0, mask, start, end }))
}

/// Appends a frame. `mask` is what clients must give and servers must not.
pub(crate) fn append(opcode: u8, payload: &[u8], mask: Option<[u8; 4]>, out: &mut Vec<u8>) {
    out.push(0x80 | opcode);
    let mask_bit = if mask.is_some() { 0x80 } else { 0 };
    let length = payload.len();
    if let Ok(short @ 0..=125) = u8::try_from(length) {
        out.push(mask_bit | short);
    } else if let Ok(middle) = u16::try_from(length) {
        out.push(mask_bit | 126);
        out.extend_from_slice(&middle.to_be_bytes());
    } else {
        out.push(mask_bit | 127);
        out.extend_from_slice(&u64::try_from(length).unwrap_or(u64::MAX).to_be_bytes());
    }
    let Some(mask) = mask else { return out.extend_from_slice(payload) };
    out.extend_from_slice(&mask);
    let start = out.len();
    out.extend_from_slice(payload);
    apply_mask(mask, &mut out[start..]);
}

/// Masks or unmasks in place.
pub(crate) fn apply_mask(mask: [u8; 4], payload: &mut [u8]) {
    let key = u32::from_ne_bytes(mask);
    let wide = (u64::from(key) << 32 | u64::from(key)).to_ne_bytes();
    let mut chunks = payload.chunks_exact_mut(8);
    for chunk in &mut chunks {
        for (byte, key) in chunk.iter_mut().zip(wide) {
            *byte ^= key;
        }
    }
    for (byte, key) in chunks.into_remainder().iter_mut().zip(wide) {
        *byte ^= key;
    }
}

/// Keys for masks. RFC 6455 wants them unpredictable to protect proxies from scripts in browsers; a
/// load generator has no such scripts, so a cheap generator (xorshift64*) does.
#[derive(Clone)]
pub(crate) struct MaskKeys(u64);

impl MaskKeys {
    pub(crate) fn new(seed: u64) -> MaskKeys {
        MaskKeys(seed | 1)
    }

    pub(crate) fn next(&mut self) -> [u8; 4] {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let [.., a, b, c, d] = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes();
        [a, b, c, d]
    }
}

/// The client's request for an upgrade.
pub(crate) fn request(host: &str, path: &str, subprotocol: Option<&str>) -> Vec<u8> {
    let offer =
        subprotocol.map(|name| format!("Sec-WebSocket-Protocol: {name}\r\n")).unwrap_or_default();
    // The key proves nothing but that the server read it, so one for all is enough.
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n{offer}\r\n"
    )
    .into_bytes()
}

const KEY: &str = "bmFydS1iZW5jaC1rZXktIQ==";
static ACCEPT: LazyLock<String> = LazyLock::new(|| accept_key(KEY.as_bytes()));

/// What became of an upgrade.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Upgrade {
    /// The head has not come in full.
    Incomplete,
    /// Frames begin at this byte.
    Done(usize),
    Refused(String),
}

/// Reads the server's response.
pub(crate) fn response(bytes: &[u8]) -> Upgrade {
    let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else {
        return match bytes.len() > HEAD_BYTES_MAX {
            true => Upgrade::Refused("a head without end".to_owned()),
            false => Upgrade::Incomplete,
        };
    };
    let head = String::from_utf8_lossy(&bytes[..end]);
    let status = head.lines().next().unwrap_or_default();
    if !status.starts_with("HTTP/1.1 101") {
        return Upgrade::Refused(status.chars().take(80).collect());
    }
    if header(&head, "sec-websocket-accept") != Some(ACCEPT.as_str()) {
        return Upgrade::Refused("the upgrade's accept key is wrong".to_owned());
    }
    Upgrade::Done(end + 4)
}

/// The value of a header, by its name in lower case.
pub(crate) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
}

/// What a server answers to a key (RFC 6455 section 4.2.2).
pub(crate) fn accept_key(key: &[u8]) -> String {
    let mut hash = Sha1::new();
    hash.update(key);
    hash.update(GUID);
    BASE64.encode(hash.finalize())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_accept_key_is_that_of_the_rfc() {
        assert_eq!(accept_key(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn frames_are_those_of_the_rfc() {
        // RFC 6455 section 5.7: "Hello", unmasked and masked.
        let mut out = Vec::new();
        append(TEXT, b"Hello", None, &mut out);
        assert_eq!(out, [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]);
        out.clear();
        append(TEXT, b"Hello", Some([0x37, 0xfa, 0x21, 0x3d]), &mut out);
        assert_eq!(out, [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]);
        let fragment = frame(&[0x01, 0x03, 0x48, 0x65, 0x6c]).unwrap().unwrap();
        assert_eq!((fragment.opcode, fragment.fin, fragment.end), (TEXT, false, 5));
    }

    #[test]
    fn lengths_use_the_shortest_form() {
        for (length, head) in [(125, 2), (126, 4), (65_535, 4), (65_536, 10)] {
            let mut out = Vec::new();
            append(BINARY, &vec![7; length], None, &mut out);
            assert_eq!(out.len(), head + length);
        }
    }

    #[test]
    fn reserved_bits_and_endless_frames_are_refused() {
        assert_eq!(frame(&[0xc1, 0]), Err(BadFrame::Reserved));
        assert_eq!(frame(&[0x82, 127, 0, 0, 1, 0, 0, 0, 0, 0]), Err(BadFrame::TooLong));
    }

    #[test]
    fn a_refused_upgrade_shows_its_status() {
        let refused = response(b"HTTP/1.1 403 Forbidden\r\n\r\n");
        assert_eq!(refused, Upgrade::Refused("HTTP/1.1 403 Forbidden".to_owned()));
        assert_eq!(response(b"HTTP/1.1 101 Switching"), Upgrade::Incomplete);
        let wrong = response(b"HTTP/1.1 101 X\r\nSec-WebSocket-Accept: no\r\n\r\n");
        assert!(matches!(wrong, Upgrade::Refused(why) if why.contains("accept key")));
    }

    proptest! {
        #[test]
        fn a_frame_is_read_back_from_any_cut(
            payload in prop::collection::vec(any::<u8>(), 0..300), masked: bool, seed: u64,
        ) {
            let mask = masked.then(|| MaskKeys::new(seed).next());
            let mut out = Vec::new();
            append(BINARY, &payload, mask, &mut out);
            for cut in 0..out.len() {
                prop_assert_eq!(frame(&out[..cut]), Ok(None));
            }
            let read = frame(&out).unwrap().unwrap();
            let mut body = out[read.start..read.end].to_vec();
            apply_mask(read.mask.unwrap_or_default(), &mut body);
            prop_assert_eq!(body, payload);
        }
    }
}
