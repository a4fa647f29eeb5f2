//! What clients send: RFC 6455, sections 5 to 8, rule by rule.

use bytes::{Bytes, BytesMut};
use naru_wire::ws::{Decoder, EMPTY_FRAGMENTS_MAX, Incoming, MessageKind, WsError};

use crate::support::ws::{client_frame, cut, decode_pieces};

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const MAX: u32 = 1 << 20;

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;
const FIN: u8 = 0x80;

fn decode(stream: &[u8]) -> (Vec<Incoming>, Option<WsError>) {
    let at_once = decode_pieces(Decoder::new(MAX, false), [stream]);
    let byte_by_byte = decode_pieces(Decoder::new(MAX, false), cut(stream, &[1]));
    assert_eq!(at_once, byte_by_byte);
    at_once
}

/// First bytes and payloads.
type Frames<'a> = &'a [(u8, &'a [u8])];

fn frames(frames: Frames<'_>) -> Vec<u8> {
    frames.iter().flat_map(|(first, payload)| client_frame(*first, MASK, payload)).collect()
}

fn text(payload: &str) -> Incoming {
    Incoming::Message { kind: MessageKind::Text, data: Bytes::copy_from_slice(payload.as_bytes()) }
}

fn binary(payload: &[u8]) -> Incoming {
    Incoming::Message { kind: MessageKind::Binary, data: Bytes::copy_from_slice(payload) }
}

fn check(stream: &[u8], expected: &[Incoming]) {
    assert_eq!(decode(stream), (expected.to_vec(), None));
}

fn check_fails(stream: &[u8], error: WsError) {
    assert_eq!(decode(stream), (vec![], Some(error)));
}

#[test]
fn the_examples_of_the_rfc_are_read() {
    // RFC 6455, section 5.7, the masked ones.
    check(&[0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58], &[text("Hello")]);
    check(
        &[0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58],
        &[Incoming::Pong(Bytes::from_static(b"Hello"))],
    );
    check(&frames(&[(TEXT, b"Hel"), (FIN | CONTINUATION, b"lo")]), &[text("Hello")]);
    check(&frames(&[(FIN | BINARY, &[7; 256])]), &[binary(&[7; 256])]);
    check(&frames(&[(FIN | BINARY, &[7; 65536])]), &[binary(&[7; 65536])]);
}

#[test]
fn lengths_around_their_borders_are_read() {
    for length in [0, 1, 2, 3, 4, 7, 8, 9, 124, 125, 126, 127, 65535, 65536, 65537] {
        let payload: Vec<u8> = (0..=250).cycle().take(length).collect();
        check(&frames(&[(FIN | BINARY, &payload)]), &[binary(&payload)]);
    }
}

#[test]
fn control_frames_may_stand_between_the_fragments_of_a_message() {
    let stream = frames(&[
        (TEXT, b"a"),
        (FIN | PING, b"one"),
        (CONTINUATION, b""),
        (FIN | PONG, b""),
        (FIN | CONTINUATION, b"b"),
        (FIN | TEXT, b"c"),
    ]);
    let ping = Incoming::Ping(Bytes::from_static(b"one"));
    check(&stream, &[ping, Incoming::Pong(Bytes::new()), text("ab"), text("c")]);
}

#[test]
fn frames_that_break_a_rule_are_refused_with_the_code_for_it() {
    let long = [0; 126];
    let cases: [(Frames<'_>, WsError); 14] = [
        (&[(FIN | 0x40 | TEXT, b"")], WsError::ReservedBits),
        (&[(FIN | 0x20 | TEXT, b"")], WsError::ReservedBits),
        (&[(FIN | 0x10 | PING, b"")], WsError::ReservedBits),
        (&[(FIN | 0x3, b"")], WsError::ReservedOpcode),
        (&[(FIN | 0x7, b"")], WsError::ReservedOpcode),
        (&[(FIN | 0xb, b"")], WsError::ReservedOpcode),
        (&[(0xf, b"")], WsError::ReservedOpcode),
        (&[(FIN | PING, &long)], WsError::ControlTooLong),
        (&[(FIN | CLOSE, &long)], WsError::ControlTooLong),
        (&[(PING, b"")], WsError::ControlFragmented),
        (&[(FIN | CONTINUATION, b"x")], WsError::StrayContinuation),
        (&[(CONTINUATION, b"")], WsError::StrayContinuation),
        (&[(TEXT, b"x"), (FIN | TEXT, b"y")], WsError::MessageUnfinished),
        (&[(BINARY, b""), (BINARY, b"y")], WsError::MessageUnfinished),
    ];
    for (stream, error) in cases {
        check_fails(&frames(stream), error);
        assert_eq!(error.close_code(), 1002, "{error}");
    }
    check_fails(&[FIN | TEXT, 0x01, b'x'], WsError::NotMasked);
    check_fails(&[&[FIN | BINARY, 0xff, 0x80][..], &[0; 7], &MASK].concat(), WsError::BadLength);
}

#[test]
fn what_came_before_a_broken_frame_is_still_said() {
    let stream = frames(&[(FIN | TEXT, b"fine"), (FIN | PING, b""), (FIN | 0x5, b"")]);
    let expected = vec![text("fine"), Incoming::Ping(Bytes::new())];
    assert_eq!(decode(&stream), (expected, Some(WsError::ReservedOpcode)));
}

#[test]
fn nothing_is_read_after_a_close_frame_or_an_error() {
    let mut stream = frames(&[(FIN | CLOSE, b"\x03\xe8bye"), (FIN | TEXT, b"late")]);
    check(&stream, &[Incoming::Close { code: Some(1000), reason: "bye".to_owned() }]);

    let mut decoder = Decoder::new(MAX, false);
    stream.splice(0..0, [0xff; 8]);
    let mut input = BytesMut::from(&stream[..]);
    assert_eq!(decoder.decode(&mut input), Err(WsError::ReservedBits));
    input.extend_from_slice(&frames(&[(FIN | TEXT, b"late")]));
    assert_eq!(decoder.decode(&mut input), Ok(None));
    assert!(input.is_empty());
}

#[test]
fn close_codes_are_those_that_may_be_sent() {
    let allowed = [
        1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000,
        4999,
    ];
    for code in allowed {
        let payload = [&u16::to_be_bytes(code)[..], "끝".as_bytes()].concat();
        let close = Incoming::Close { code: Some(code), reason: "끝".to_owned() };
        check(&frames(&[(FIN | CLOSE, &payload)]), &[close]);
    }
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
        check_fails(&frames(&[(FIN | CLOSE, &u16::to_be_bytes(code))]), WsError::BadClose);
    }
    let empty = Incoming::Close { code: None, reason: String::new() };
    check(&frames(&[(FIN | CLOSE, b"")]), &[empty]);
    check_fails(&frames(&[(FIN | CLOSE, b"\x03")]), WsError::BadClose);
    check_fails(&frames(&[(FIN | CLOSE, b"\x03\xe8\xce")]), WsError::NotUtf8);
}

#[test]
fn text_that_is_not_utf8_is_refused_however_it_is_cut() {
    // Broken continuation, overlong, surrogate, beyond U+10FFFF, cut at the end.
    let broken: [&[u8]; 6] = [
        b"\xce\xba\xe1\xbd\xb9\xcf\x83\xed\xa0\x80",
        b"ok \xc0\xaf",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\xff",
        b"caf\xc3",
    ];
    for payload in broken {
        check_fails(&frames(&[(FIN | TEXT, payload)]), WsError::NotUtf8);
        for at in 0..=payload.len() {
            let (head, tail) = payload.split_at(at);
            let stream = frames(&[(TEXT, head), (FIN | CONTINUATION, tail)]);
            check_fails(&stream, WsError::NotUtf8);
        }
        check(&frames(&[(FIN | BINARY, payload)]), &[binary(payload)]);
    }
    assert_eq!(WsError::NotUtf8.close_code(), 1007);
}

#[test]
fn characters_may_be_cut_between_fragments() {
    let payload = "κόσμε 한글 🙂";
    let mut stream = Vec::new();
    for (index, byte) in payload.as_bytes().iter().enumerate() {
        let opcode = if index == 0 { TEXT } else { CONTINUATION };
        stream.extend(client_frame(opcode, MASK, &[*byte]));
    }
    stream.extend(client_frame(FIN | CONTINUATION, MASK, b""));
    check(&stream, &[text(payload)]);
}

#[test]
fn text_fails_at_the_first_impossible_byte_and_not_later() {
    // U+110000 is impossible at its second byte, long before the frame is complete.
    let frame = client_frame(FIN | TEXT, MASK, b"\xce\xba\xf4\x90\x80\x80 and much more");
    let impossible = 6 + 4;
    for length in 0..impossible {
        let decoded = decode_pieces(Decoder::new(MAX, false), [&frame[..length]]);
        assert_eq!(decoded, (vec![], None), "after {length} bytes all could still be well");
    }
    let decoded = decode_pieces(Decoder::new(MAX, false), [&frame[..impossible]]);
    assert_eq!(decoded, (vec![], Some(WsError::NotUtf8)));
}

#[test]
fn a_message_is_refused_by_what_it_announces() {
    let decode = |stream: &[u8]| decode_pieces(Decoder::new(100, false), cut(stream, &[1]));
    assert_eq!(decode(&frames(&[(FIN | BINARY, &[1; 100])])), (vec![binary(&[1; 100])], None));
    // Only the head: its payload never has to come.
    let head = &frames(&[(FIN | BINARY, &[1; 101])])[..6];
    assert_eq!(decode(head), (vec![], Some(WsError::TooLarge)));
    let largest = [&[BINARY, 0xff, 0x7f][..], &[0xff; 7], &MASK].concat();
    assert_eq!(decode(&largest), (vec![], Some(WsError::TooLarge)));
    let mut fragments = frames(&[(BINARY, &[1; 60]), (CONTINUATION, &[1; 40])]);
    fragments.extend(&frames(&[(FIN | CONTINUATION, &[1])])[..6]);
    assert_eq!(decode(&fragments), (vec![], Some(WsError::TooLarge)));
    assert_eq!(WsError::TooLarge.close_code(), 1009);
}

#[test]
fn the_limit_can_grow_once_the_client_is_known() {
    let mut decoder = Decoder::new(10, false);
    let mut input = BytesMut::from(&frames(&[(FIN | BINARY, &[1; 10])])[..]);
    assert_eq!(decoder.decode(&mut input), Ok(Some(binary(&[1; 10]))));
    decoder.set_message_bytes_max(11);
    input.extend_from_slice(&frames(&[(FIN | BINARY, &[1; 11])]));
    assert_eq!(decoder.decode(&mut input), Ok(Some(binary(&[1; 11]))));
}

#[test]
fn many_tiny_fragments_are_one_message() {
    let mut stream = client_frame(BINARY, MASK, b"x");
    for _ in 0..50_000 {
        stream.extend(client_frame(CONTINUATION, MASK, b"y"));
    }
    stream.extend(client_frame(FIN | CONTINUATION, MASK, b"z"));
    let (events, error) = decode_pieces(Decoder::new(MAX, false), [&stream[..]]);
    assert_eq!((events.len(), error), (1, None));
    assert!(matches!(&events[0], Incoming::Message { data, .. } if data.len() == 50_002));
}

#[test]
fn empty_fragments_in_a_row_are_limited() {
    let empties = |count: u16| {
        let mut stream = client_frame(TEXT, MASK, b"x");
        for _ in 0..count {
            stream.extend(client_frame(CONTINUATION, MASK, b""));
        }
        stream
    };
    let mut stream = empties(EMPTY_FRAGMENTS_MAX);
    stream.extend(client_frame(CONTINUATION, MASK, b"y"));
    stream.extend(client_frame(FIN | CONTINUATION, MASK, b""));
    check(&stream, &[text("xy")]);
    check_fails(&empties(EMPTY_FRAGMENTS_MAX + 1), WsError::EmptyFragments);
    assert_eq!(WsError::EmptyFragments.close_code(), 1008);
}

#[test]
fn an_idle_decoder_is_small_and_an_idle_input_is_given_back() {
    assert!(size_of::<Decoder>() <= 64, "{}", size_of::<Decoder>());
    let mut decoder = Decoder::new(MAX, true);
    let mut input =
        BytesMut::from(&frames(&[(TEXT, &[b'x'; 5000]), (FIN | CONTINUATION, b"")])[..]);
    assert!(matches!(decoder.decode(&mut input), Ok(Some(Incoming::Message { .. }))));
    assert!(!decoder.is_inside_message());
    assert_eq!(input.capacity(), 0);
}

#[test]
fn a_whole_frame_is_handed_out_without_a_copy() {
    let frame = frames(&[(FIN | BINARY, &[9; 1000])]);
    let mut input = BytesMut::from(&frame[..]);
    let payload_at = input[8..].as_ptr();
    let Ok(Some(Incoming::Message { data, .. })) = Decoder::new(MAX, false).decode(&mut input)
    else {
        panic!("a message");
    };
    assert_eq!(data.as_ptr(), payload_at);
}

#[test]
fn what_a_client_wrote_is_not_in_debug_output() {
    let mut decoder = Decoder::new(MAX, false);
    let mut input = BytesMut::from(&client_frame(TEXT, MASK, b"secret")[..]);
    assert_eq!(decoder.decode(&mut input), Ok(None));
    assert!(!format!("{decoder:?}").contains("secret"));
    assert!(!format!("{decoder:?}").contains("115"), "not as numbers either");
}
