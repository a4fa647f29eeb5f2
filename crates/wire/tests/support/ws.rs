//! A WebSocket client's half, written as plainly as can be, and the checks that hold for any bytes. Each
//! fuzz target of the WebSocket codec is one of them.

use bytes::BytesMut;
use naru_wire::ws::{Decoder, Incoming, LIST_ITEMS_MAX, MessageKind, WsError, check_request};

/// The limit that checks use: small, so that generated input reaches it.
pub(crate) const MESSAGE_BYTES_MAX: u32 = 4096;
/// The longest that may lie in the input while the decoder waits: a head and a control frame's payload.
const WAITING_BYTES_MAX: usize = 14 + 125;

/// A masked frame. `first` is the whole first byte: final and reserved bits, opcode.
pub(crate) fn client_frame(first: u8, mask: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    if payload.len() < 126 {
        frame.push(0x80 | u8::try_from(payload.len()).expect("it is below 126"));
    } else if let Ok(length) = u16::try_from(payload.len()) {
        frame.push(0x80 | 126);
        frame.extend(length.to_be_bytes());
    } else {
        frame.push(0x80 | 127);
        frame.extend((payload.len() as u64).to_be_bytes());
    }
    frame.extend(mask);
    frame.extend(payload.iter().enumerate().map(|(index, byte)| byte ^ mask[index % 4]));
    frame
}

/// Everything that comes out of a stream that arrives in these pieces, and how it fails.
pub(crate) fn decode_pieces<'a>(
    mut decoder: Decoder,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<Incoming>, Option<WsError>) {
    let mut input = BytesMut::new();
    let mut events = Vec::new();
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut input) {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(error) => {
                    assert!(input.is_empty(), "after an error nothing is kept");
                    assert!(!decoder.is_inside_message());
                    return (events, Some(error));
                }
            }
        }
        assert!(input.len() <= WAITING_BYTES_MAX, "{} bytes wait", input.len());
        assert!(input.capacity() <= 2 * WAITING_BYTES_MAX, "{} bytes are kept", input.capacity());
    }
    (events, None)
}

/// The stream cut by a pattern of lengths that repeats; an empty pattern cuts nothing.
pub(crate) fn cut<'a>(stream: &'a [u8], lengths: &[u8]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    let mut rest = stream;
    let mut lengths = lengths.iter().cycle();
    while !rest.is_empty() {
        let length = lengths.next().map_or(rest.len(), |&length| usize::from(length).max(1));
        let (piece, after) = rest.split_at(length.min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces
}

/// Any stream in any pieces: no panic, no limit broken, and the same comes out however it was cut.
///
/// The first byte says whether compression was negotiated, the next four how the stream is cut.
pub(crate) fn check_ws_decode(data: &[u8]) {
    let Some((&[flags, ref lengths @ ..], stream)) = data.split_first_chunk::<5>() else { return };
    let takes_deflate = flags & 1 != 0;
    let decoder = || Decoder::new(MESSAGE_BYTES_MAX, takes_deflate);
    let at_once = decode_pieces(decoder(), [stream]);
    for event in &at_once.0 {
        check_event(event);
    }
    for lengths in [&lengths[..], &[1]] {
        let in_pieces = decode_pieces(decoder(), cut(stream, lengths));
        assert_eq!(at_once.0, in_pieces.0);
        if takes_deflate {
            // Of two faults in one compressed message, the one seen first depends on how far it is
            // inflated at a time.
            assert_eq!(at_once.1.is_some(), in_pieces.1.is_some());
        } else {
            assert_eq!(at_once.1, in_pieces.1);
        }
    }
}

fn check_event(event: &Incoming) {
    match event {
        Incoming::Message { kind, data } => {
            assert!(data.len() <= MESSAGE_BYTES_MAX as usize);
            assert!(*kind == MessageKind::Binary || std::str::from_utf8(data).is_ok());
        }
        Incoming::Ping(payload) | Incoming::Pong(payload) => assert!(payload.len() <= 125),
        Incoming::Close { code, reason } => {
            assert!(reason.len() <= 123);
            assert!(code.is_none_or(naru_wire::ws::is_close_code));
        }
    }
}

/// Any headers: no panic, and only what was offered is accepted. The lines are the values of
/// `Sec-WebSocket-Protocol` (odd ones) and of `Sec-WebSocket-Extensions`.
pub(crate) fn check_ws_handshake(data: &[u8]) {
    let mut headers: Vec<(&str, &[u8])> = vec![
        ("upgrade", b"websocket"),
        ("connection", b"upgrade"),
        ("sec-websocket-version", b"13"),
        ("sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let names = ["sec-websocket-protocol", "sec-websocket-extensions"];
    headers.extend(names.into_iter().cycle().zip(data.split(|&byte| byte == b'\n')));
    let Ok(request) = check_request("GET", (1, 1), headers.iter().copied()) else { return };
    assert!(request.protocols().len() <= LIST_ITEMS_MAX);
    let ours = ["v12.stomp", "centrifuge-protobuf"];
    let accepted = request.negotiate(&ours, true);
    if let Some(protocol) = accepted.protocol {
        assert!(request.protocols().contains(&protocol));
    }
    assert_eq!(accepted.extensions().is_some(), accepted.deflate_window_bits.is_some());
    assert!(accepted.deflate_window_bits.is_none_or(|bits| (9..=15).contains(&bits)));
    if accepted.deflate_window_bits.is_some() {
        let offered = |(_, value): &(&str, &[u8])| {
            value.windows(18).any(|window| window == b"permessage-deflate")
        };
        assert!(headers.iter().any(offered), "nobody offered it");
    }
}
