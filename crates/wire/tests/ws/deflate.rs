//! Compressed messages: the examples of RFC 7692, section 7.2.3, bombs, and broken streams.

use bytes::{Bytes, BytesMut};
use naru_wire::ws::{Decoder, Deflater, Incoming, MessageKind, STREAM_ENDS_MAX, WsError};

use crate::support::ws::{client_frame, cut, decode_pieces};

const MASK: [u8; 4] = [1, 2, 3, 4];
const MAX: u32 = 1 << 20;
const DEFLATED_TEXT: u8 = 0xc1;
const DEFLATED_BINARY: u8 = 0xc2;

fn decode(max: u32, stream: &[u8]) -> (Vec<Incoming>, Option<WsError>) {
    let at_once = decode_pieces(Decoder::new(max, true), [stream]);
    let byte_by_byte = decode_pieces(Decoder::new(max, true), cut(stream, &[1]));
    assert_eq!(at_once, byte_by_byte);
    at_once
}

fn text(payload: &str) -> Incoming {
    Incoming::Message { kind: MessageKind::Text, data: Bytes::copy_from_slice(payload.as_bytes()) }
}

/// What a client would send: our own frame without its header, which must be a short one.
fn deflated(payload: &[u8]) -> Vec<u8> {
    let frame = Deflater::new(6, 15).encode(MessageKind::Binary, payload);
    let header_bytes = match frame[1] {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    frame[header_bytes..].to_vec()
}

#[test]
fn the_examples_of_the_rfc_are_read() {
    let hello: [&[u8]; 4] = [
        // One block; one that is stored; a final one, padded; two blocks.
        &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00],
        &[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00],
        &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00],
        &[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00],
    ];
    for payload in hello {
        let stream = client_frame(DEFLATED_TEXT, MASK, payload);
        assert_eq!(decode(MAX, &stream), (vec![text("Hello")], None));
        for at in 0..=payload.len() {
            let (first, second) = payload.split_at(at);
            let mut stream = client_frame(0x41, MASK, first);
            stream.extend(client_frame(0x89, MASK, b""));
            stream.extend(client_frame(0x80, MASK, second));
            let expected = vec![Incoming::Ping(Bytes::new()), text("Hello")];
            assert_eq!(decode(MAX, &stream), (expected, None), "cut at {at}");
        }
    }
    assert_eq!(decode(MAX, &client_frame(DEFLATED_TEXT, MASK, &[0])), (vec![text("")], None));
}

#[test]
fn an_empty_message_may_be_empty_on_the_wire() {
    assert_eq!(decode(MAX, &client_frame(DEFLATED_TEXT, MASK, b"")), (vec![text("")], None));
}

#[test]
fn messages_with_and_without_compression_may_follow_each_other() {
    let mut stream = client_frame(DEFLATED_TEXT, MASK, &deflated(b"one"));
    stream.extend(client_frame(0x81, MASK, b"two"));
    stream.extend(client_frame(DEFLATED_TEXT, MASK, &deflated(b"three")));
    assert_eq!(decode(MAX, &stream), (vec![text("one"), text("two"), text("three")], None));
}

#[test]
fn compression_needs_to_be_negotiated_and_stands_on_the_first_frame_only() {
    let stream = client_frame(DEFLATED_TEXT, MASK, &deflated(b"x"));
    let refused = decode_pieces(Decoder::new(MAX, false), [&stream[..]]);
    assert_eq!(refused, (vec![], Some(WsError::ReservedBits)));
    for first in [0xc0, 0xc8, 0xc9, 0xca] {
        let mut stream = client_frame(0x41, MASK, b"");
        stream.extend(client_frame(first, MASK, b""));
        assert_eq!(decode(MAX, &stream), (vec![], Some(WsError::ReservedBits)));
    }
}

#[test]
fn a_bomb_is_stopped_at_the_limit() {
    let bomb = deflated(&vec![0; 8 << 20]);
    assert!(bomb.len() < 10_000);
    let stream = client_frame(DEFLATED_BINARY, MASK, &bomb);
    for max in [1, 1000, MAX] {
        assert_eq!(decode(max, &stream), (vec![], Some(WsError::TooLarge)));
    }
}

#[test]
fn the_limit_counts_what_is_inflated_to_the_byte() {
    for length in [1, 511, 512, 513, 5000] {
        let stream = client_frame(DEFLATED_BINARY, MASK, &deflated(&vec![7; length]));
        let max = u32::try_from(length).unwrap();
        let message =
            Incoming::Message { kind: MessageKind::Binary, data: Bytes::from(vec![7; length]) };
        assert_eq!(decode(max, &stream), (vec![message], None));
        assert_eq!(decode(max - 1, &stream), (vec![], Some(WsError::TooLarge)));
    }
}

#[test]
fn a_message_that_inflates_to_nothing_is_limited_too() {
    // Empty blocks for ever: no output, so that only what arrives can be counted.
    let mut stream = client_frame(0x42, MASK, &[0, 0, 0, 0xff, 0xff].repeat(20));
    while stream.len() < 20_000 {
        stream.extend(client_frame(0x00, MASK, &[0, 0, 0, 0xff, 0xff].repeat(20)));
    }
    assert_eq!(decode(1000, &stream), (vec![], Some(WsError::TooLarge)));
}

#[test]
fn a_message_may_not_begin_anew_for_ever() {
    let ends = |count: u8| {
        let payload = [0x03, 0x00].repeat(usize::from(count));
        decode(MAX, &client_frame(DEFLATED_TEXT, MASK, &payload))
    };
    assert_eq!(ends(STREAM_ENDS_MAX), (vec![text("")], None));
    assert_eq!(ends(STREAM_ENDS_MAX + 1), (vec![], Some(WsError::BadDeflate)));
}

#[test]
fn what_cannot_be_inflated_is_refused() {
    let payload = deflated("broken in some places, but not in all of them".as_bytes());
    assert_eq!(
        decode(MAX, &client_frame(DEFLATED_TEXT, MASK, &[0x07, 0xff, 0xff])),
        (vec![], Some(WsError::BadDeflate)),
    );
    // Cut anywhere: a part must not pass for the whole.
    for length in 1..payload.len() {
        let (events, error) = decode(MAX, &client_frame(DEFLATED_TEXT, MASK, &payload[..length]));
        assert_eq!((events, error), (vec![], Some(WsError::BadDeflate)), "{length} bytes");
    }
    assert_eq!(WsError::BadDeflate.close_code(), 1007);
}

#[test]
fn text_is_checked_after_inflation_and_fails_early() {
    let mut payload = b"long enough to be worth something ".repeat(100);
    payload.extend(b"\xff");
    payload.extend(b"and more of it ".repeat(100));
    let stream = client_frame(DEFLATED_TEXT, MASK, &deflated(&payload));
    assert_eq!(decode(MAX, &stream), (vec![], Some(WsError::NotUtf8)));
    // What is stored and not compressed comes out at once, so the frame need not be complete.
    let stored = [&[0x00, 0x05, 0x00, 0xfa, 0xff][..], b"ab\xffcd", &[0x00]].concat();
    let frame = client_frame(DEFLATED_TEXT, MASK, &stored);
    let before = decode_pieces(Decoder::new(MAX, true), cut(&frame[..6 + 5 + 2], &[1]));
    assert_eq!(before, (vec![], None));
    let after = decode_pieces(Decoder::new(MAX, true), cut(&frame[..6 + 5 + 3], &[1]));
    assert_eq!(after, (vec![], Some(WsError::NotUtf8)));
}

#[test]
fn nothing_of_a_compressed_message_is_kept_after_it() {
    let mut decoder = Decoder::new(MAX, true);
    let stream = client_frame(DEFLATED_TEXT, MASK, &deflated(&[b'x'; 10_000]));
    let (most, last) = stream.split_at(stream.len() - 1);
    let mut input = BytesMut::from(most);
    assert_eq!(decoder.decode(&mut input), Ok(None));
    assert!(decoder.is_inside_message());
    input.extend_from_slice(last);
    assert!(matches!(decoder.decode(&mut input), Ok(Some(Incoming::Message { .. }))));
    assert!(!decoder.is_inside_message());
    assert_eq!(input.capacity(), 0);
}

#[test]
fn our_frames_are_small_and_say_that_they_are_compressed() {
    let mut deflater = Deflater::new(6, 15);
    let payload = "안녕하세요, 반갑습니다. ".repeat(50);
    for _ in 0..3 {
        let frame = deflater.encode(MessageKind::Text, payload.as_bytes());
        assert_eq!(frame[0], 0xc1);
        assert!(frame.len() < payload.len() / 10, "{} bytes", frame.len());
        // The same each time, since no frame refers to one before.
        assert_eq!(frame, Deflater::new(6, 15).encode(MessageKind::Text, payload.as_bytes()));
    }
    assert_eq!(&deflater.encode(MessageKind::Binary, b"")[..], [0xc2, 1, 0]);
}

#[test]
fn what_is_compressed_comes_back_for_every_level_window_and_size() {
    let noise = |length: u32| {
        let mut state = length;
        std::iter::repeat_with(move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        })
    };
    for (level, bits) in [(1, 9), (3, 15), (6, 12), (9, 15)] {
        let mut deflater = Deflater::new(level, bits);
        for length in [0, 1, 100, 70_000, 200_000] {
            let payload: Vec<u8> = noise(length).take(length as usize).collect();
            let frame = deflater.encode(MessageKind::Binary, &payload);
            let header_bytes = [2, 4, 10][usize::from(frame[1].saturating_sub(125)).min(2)];
            let stream = client_frame(DEFLATED_BINARY, MASK, &frame[header_bytes..]);
            let decoded = decode_pieces(Decoder::new(MAX, true), cut(&stream, &[200]));
            let message =
                Incoming::Message { kind: MessageKind::Binary, data: Bytes::from(payload) };
            assert_eq!(decoded, (vec![message], None), "level {level}, {length} bytes");
        }
    }
}
