//! The upgrade from HTTP (RFC 6455, section 4.2; RFC 7692, section 7.1): header values in, header values
//! out. Who may connect from where (`Origin`, tokens, limits) is not decided here.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD};
use sha1::{Digest, Sha1};

use super::deflate::{WINDOW_BITS_MAX, WINDOW_BITS_MIN};

/// How many subprotocols or extensions a client may offer; who offers more is refused, since each one
/// costs us comparisons.
pub const LIST_ITEMS_MAX: usize = 32;
/// How many parameters one extension may have. The one we know has four.
const PARAMS_MAX: usize = 16;
/// From RFC 6455, section 1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Keys are only compared in length: a sloppy client may leave bits behind the 16th byte.
const KEY: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// Why a request is not answered with an upgrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// The method is not GET.
    #[error("a WebSocket begins with GET")]
    NotGet,
    /// HTTP before 1.1 knows no upgrade; HTTP/2 has another one, which is not offered.
    #[error("a WebSocket needs HTTP/1.1")]
    HttpVersion,
    /// No `Upgrade: websocket`, so that somebody opened the address in a browser, or a proxy ate it.
    #[error("the request does not ask for an upgrade to websocket")]
    NotUpgrade,
    /// No `Connection: Upgrade`.
    #[error("the header Connection does not name the upgrade")]
    NoConnectionUpgrade,
    /// Not version 13.
    #[error("only version 13 of the WebSocket protocol is spoken")]
    WrongVersion,
    /// `Sec-WebSocket-Key` is missing, there twice, or not 16 bytes in base64.
    #[error("the header Sec-WebSocket-Key is missing or broken")]
    BadKey,
    /// `Sec-WebSocket-Protocol` is no list of tokens.
    #[error("the header Sec-WebSocket-Protocol is broken")]
    BadProtocols,
    /// `Sec-WebSocket-Extensions` breaks its grammar.
    #[error("the header Sec-WebSocket-Extensions is broken")]
    BadExtensions,
    /// More than [`LIST_ITEMS_MAX`] subprotocols or extensions.
    #[error("too many subprotocols or extensions are offered")]
    TooManyOffers,
}

impl HandshakeError {
    /// The HTTP status to answer with. For 405 add `Allow: GET`; for 426 add `Upgrade: websocket`,
    /// `Connection: Upgrade` and `Sec-WebSocket-Version: 13`.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            HandshakeError::NotGet => 405,
            HandshakeError::HttpVersion => 505,
            HandshakeError::NotUpgrade | HandshakeError::WrongVersion => 426,
            HandshakeError::NoConnectionUpgrade
            | HandshakeError::BadKey
            | HandshakeError::BadProtocols
            | HandshakeError::BadExtensions
            | HandshakeError::TooManyOffers => 400,
        }
    }
}

/// A request that may be answered with an upgrade, and what its client offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpgradeRequest<'a> {
    accept: String,
    protocols: Vec<&'a str>,
    deflate: Vec<DeflateOffer>,
}

/// One usable offer of permessage-deflate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeflateOffer {
    /// The largest window the client wants to keep for what we send, if it says so.
    pub server_max_window_bits: Option<u8>,
}

/// What was negotiated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted<'p> {
    /// Our subprotocol, if the client offered one of ours.
    pub protocol: Option<&'p str>,
    /// The window, in bits, in which compressed messages to this client must fit. `None`: no message may
    /// be compressed, in either direction.
    pub deflate_window_bits: Option<u8>,
    /// Whether the client limited the window itself, and so wants to hear of it.
    names_window: bool,
}

/// Checks an upgrade request. `headers` are all headers, names in any case.
///
/// # Errors
/// The request is answered with [`HandshakeError::status`] instead.
pub fn check_request<'a>(
    method: &str,
    http_version: (u8, u8),
    headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
) -> Result<UpgradeRequest<'a>, HandshakeError> {
    let mut seen = Seen::default();
    for (name, value) in headers {
        seen.note(name, value)?;
    }
    if !seen.upgrades {
        return Err(HandshakeError::NotUpgrade);
    }
    if method != "GET" {
        return Err(HandshakeError::NotGet);
    }
    if http_version != (1, 1) {
        return Err(HandshakeError::HttpVersion);
    }
    if !seen.connection_upgrades {
        return Err(HandshakeError::NoConnectionUpgrade);
    }
    if !seen.is_version_13 {
        return Err(HandshakeError::WrongVersion);
    }
    let (Some(key), 1) = (seen.key, seen.keys) else { return Err(HandshakeError::BadKey) };
    if key.len() != 24 || KEY.decode(key).map_or(true, |nonce| nonce.len() != 16) {
        return Err(HandshakeError::BadKey);
    }
    Ok(UpgradeRequest { accept: accept_key(key), protocols: seen.protocols, deflate: seen.deflate })
}

/// `Sec-WebSocket-Accept` for a `Sec-WebSocket-Key`.
#[must_use]
pub fn accept_key(key: &[u8]) -> String {
    let mut hash = Sha1::new();
    hash.update(key);
    hash.update(GUID);
    STANDARD.encode(hash.finalize())
}

impl<'a> UpgradeRequest<'a> {
    /// The value of `Sec-WebSocket-Accept`.
    #[must_use]
    pub fn accept(&self) -> &str {
        &self.accept
    }

    /// The subprotocols the client offers, in its order of preference.
    #[must_use]
    pub fn protocols(&self) -> &[&'a str] {
        &self.protocols
    }

    /// Chooses the first of our `preferred` subprotocols that the client offers, and, with
    /// `offers_deflate`, the first offer of compression that we can keep.
    ///
    /// No common subprotocol is no error of the protocol: the caller decides whether it goes on without.
    #[must_use]
    pub fn negotiate<'p>(&self, preferred: &[&'p str], offers_deflate: bool) -> Accepted<'p> {
        let protocol = preferred.iter().copied().find(|protocol| self.protocols.contains(protocol));
        let offer = self.deflate.first().filter(|_offer| offers_deflate);
        Accepted {
            protocol,
            deflate_window_bits: offer
                .map(|offer| offer.server_max_window_bits.unwrap_or(WINDOW_BITS_MAX)),
            names_window: offer.is_some_and(|offer| offer.server_max_window_bits.is_some()),
        }
    }
}

impl Accepted<'_> {
    /// The value of `Sec-WebSocket-Extensions` in the answer, if it has that header.
    ///
    /// Both sides always start each message with an empty window; the client's window we do not limit,
    /// since we keep it only while one message is read.
    #[must_use]
    pub fn extensions(&self) -> Option<String> {
        let bits = self.deflate_window_bits?;
        let mut value =
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover".to_owned();
        if self.names_window {
            value.push_str("; server_max_window_bits=");
            value.push_str(&bits.to_string());
        }
        Some(value)
    }
}

/// What the headers say so far.
#[derive(Default)]
struct Seen<'a> {
    upgrades: bool,
    connection_upgrades: bool,
    is_version_13: bool,
    keys: usize,
    key: Option<&'a [u8]>,
    protocols: Vec<&'a str>,
    extensions: usize,
    deflate: Vec<DeflateOffer>,
}

impl<'a> Seen<'a> {
    fn note(&mut self, name: &str, value: &'a [u8]) -> Result<(), HandshakeError> {
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        if is("upgrade") {
            self.upgrades |= names(value, "websocket");
        } else if is("connection") {
            self.connection_upgrades |= names(value, "upgrade");
        } else if is("sec-websocket-version") {
            self.is_version_13 |= names(value, "13");
        } else if is("sec-websocket-key") {
            self.keys += 1;
            self.key = Some(value.trim_ascii());
        } else if is("sec-websocket-protocol") {
            self.note_protocols(value)?;
        } else if is("sec-websocket-extensions") {
            self.note_extensions(value)?;
        }
        Ok(())
    }

    fn note_protocols(&mut self, value: &'a [u8]) -> Result<(), HandshakeError> {
        let value = std::str::from_utf8(value).map_err(|_broken| HandshakeError::BadProtocols)?;
        for item in value.split(',').map(str::trim_ascii).filter(|item| !item.is_empty()) {
            if !item.bytes().all(is_token_byte) {
                return Err(HandshakeError::BadProtocols);
            }
            if self.protocols.len() == LIST_ITEMS_MAX {
                return Err(HandshakeError::TooManyOffers);
            }
            self.protocols.push(item);
        }
        Ok(())
    }

    fn note_extensions(&mut self, value: &[u8]) -> Result<(), HandshakeError> {
        let mut reader = Reader { rest: value };
        loop {
            reader.skip_blanks();
            if reader.eat(b',') {
                continue;
            }
            if reader.rest.is_empty() {
                return Ok(());
            }
            self.extensions += 1;
            if self.extensions > LIST_ITEMS_MAX {
                return Err(HandshakeError::TooManyOffers);
            }
            if let Some(offer) = reader.extension()? {
                self.deflate.push(offer);
            }
            reader.skip_blanks();
            if !reader.rest.is_empty() && !reader.eat(b',') {
                return Err(HandshakeError::BadExtensions);
            }
        }
    }
}

/// Whether a comma-separated header names `token`, in any case.
fn names(value: &[u8], token: &str) -> bool {
    value
        .split(|&byte| byte == b',')
        .any(|item| item.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

/// RFC 9110, section 5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Reads `Sec-WebSocket-Extensions` once from the left to the right, so that no value costs more than
/// its length.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_ascii_start();
    }

    fn eat(&mut self, byte: u8) -> bool {
        match self.rest.split_first() {
            Some((&first, rest)) if first == byte => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    fn token(&mut self) -> Result<&'a [u8], HandshakeError> {
        let end =
            self.rest.iter().position(|&byte| !is_token_byte(byte)).unwrap_or(self.rest.len());
        if end == 0 {
            return Err(HandshakeError::BadExtensions);
        }
        let (token, rest) = self.rest.split_at(end);
        self.rest = rest;
        Ok(token)
    }

    /// A token, or one between quotes. Escapes inside quotes are legal and nobody uses them for a
    /// number, so a value with one reads as empty, which no parameter takes.
    fn value(&mut self) -> Result<&'a [u8], HandshakeError> {
        if !self.eat(b'"') {
            return self.token();
        }
        let inside = self.rest;
        let mut is_escaped = false;
        let mut has_escapes = false;
        for (index, &byte) in inside.iter().enumerate() {
            if is_escaped {
                is_escaped = false;
            } else if byte == b'\\' {
                is_escaped = true;
                has_escapes = true;
            } else if byte == b'"' {
                self.rest = &inside[index + 1..];
                return Ok(if has_escapes { &[] } else { &inside[..index] });
            }
        }
        Err(HandshakeError::BadExtensions)
    }

    /// One extension with its parameters: an offer that we can keep, or nothing.
    fn extension(&mut self) -> Result<Option<DeflateOffer>, HandshakeError> {
        let is_deflate = self.token()? == b"permessage-deflate";
        let mut params = Params::default();
        for count in 0.. {
            self.skip_blanks();
            if !self.eat(b';') {
                break;
            }
            if count == PARAMS_MAX {
                return Err(HandshakeError::TooManyOffers);
            }
            self.skip_blanks();
            let name = self.token()?;
            self.skip_blanks();
            let value = if self.eat(b'=') {
                self.skip_blanks();
                Some(self.value()?)
            } else {
                None
            };
            params.note(name, value);
        }
        Ok(params.offer().filter(|_offer| is_deflate))
    }
}

/// The parameters of permessage-deflate. What is unknown, there twice or out of range makes the offer
/// one to decline, not one to fail at (RFC 7692, section 7).
#[derive(Default)]
struct Params {
    is_unusable: bool,
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_max_window_bits: Option<u8>,
    client_max_window_bits: bool,
}

impl Params {
    fn note(&mut self, name: &[u8], value: Option<&[u8]>) {
        let is_again = match name {
            b"server_no_context_takeover" => {
                self.is_unusable |= value.is_some();
                std::mem::replace(&mut self.server_no_context_takeover, true)
            }
            b"client_no_context_takeover" => {
                self.is_unusable |= value.is_some();
                std::mem::replace(&mut self.client_no_context_takeover, true)
            }
            b"server_max_window_bits" => match value.and_then(window_bits) {
                Some(bits) => self.server_max_window_bits.replace(bits).is_some(),
                None => true,
            },
            b"client_max_window_bits" => {
                self.is_unusable |= value.is_some_and(|value| window_bits(value).is_none());
                std::mem::replace(&mut self.client_max_window_bits, true)
            }
            _ => true,
        };
        self.is_unusable |= is_again;
    }

    fn offer(&self) -> Option<DeflateOffer> {
        let too_small = self.server_max_window_bits.is_some_and(|bits| bits < WINDOW_BITS_MIN);
        (!self.is_unusable && !too_small)
            .then_some(DeflateOffer { server_max_window_bits: self.server_max_window_bits })
    }
}

/// 8 to 15, without a sign or a zero in front.
fn window_bits(value: &[u8]) -> Option<u8> {
    match *value {
        [digit @ b'8'..=b'9'] => Some(digit - b'0'),
        [b'1', digit @ b'0'..=b'5'] => Some(10 + digit - b'0'),
        _ => None,
    }
}
