//! What clients get: the examples of RFC 6455, section 5.7, and the rules for control frames.

use bytes::Bytes;
use naru_wire::ws::{
    CLOSE_REASON_BYTES_MAX, Opcode, encode_close, encode_frame, frame_header, is_close_code,
    joined_frame,
};

#[test]
fn the_examples_of_the_rfc_are_written() {
    assert_eq!(&encode_frame(Opcode::Text, b"Hello")[..], b"\x81\x05Hello");
    assert_eq!(&encode_frame(Opcode::Ping, b"Hello")[..], b"\x89\x05Hello");
    assert_eq!(&encode_frame(Opcode::Binary, &[1; 256])[..4], [0x82, 0x7e, 0x01, 0x00]);
    assert_eq!(
        &encode_frame(Opcode::Binary, &[1; 65536])[..10],
        [0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0],
    );
}

#[test]
fn lengths_are_written_in_as_few_bytes_as_possible() {
    let header_bytes = |payload| frame_header(Opcode::Text, payload).as_slice().len();
    assert_eq!([0, 125, 126, 65535, 65536].map(header_bytes), [2, 2, 4, 4, 10]);
    assert_eq!(encode_frame(Opcode::Text, &[b'x'; 65535]).len(), 65535 + 4);
}

#[test]
fn a_head_and_a_shared_body_make_the_same_frame() {
    let body = Bytes::from(vec![b'y'; 200]);
    let joined = [&joined_frame(Opcode::Text, 3 + body.len(), b"xxx")[..], &body].concat();
    assert_eq!(joined, &encode_frame(Opcode::Text, &[b"xxx", &body[..]].concat())[..]);
}

#[test]
fn a_control_frame_is_never_too_long() {
    assert_eq!(encode_frame(Opcode::Pong, &[0; 200]).len(), 127);
}

#[test]
fn a_close_frame_has_its_code_and_a_reason_that_fits() {
    assert_eq!(&encode_close(1000, "bye")[..], b"\x88\x05\x03\xe8bye");
    // Three bytes each, so that the last one that begins before the limit would go beyond it.
    let long = "끝".repeat(50);
    let frame = encode_close(3000, &long);
    let reason = std::str::from_utf8(&frame[4..]).expect("cut at a character");
    assert!(long.starts_with(reason));
    assert!(reason.len() <= CLOSE_REASON_BYTES_MAX && reason.len() > CLOSE_REASON_BYTES_MAX - 3);
}

#[test]
fn a_code_that_may_not_be_sent_becomes_no_code() {
    for code in [0, 1004, 1005, 1006, 1015, 2000, 5000] {
        assert!(!is_close_code(code));
        assert_eq!(&encode_close(code, "why")[..], b"\x88\x00");
    }
}
