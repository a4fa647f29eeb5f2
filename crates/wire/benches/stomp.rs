//! What one STOMP message costs the codec: reading a SEND, and the MESSAGE frames that come of it.
//!
//! `cargo bench -p naru-wire --bench stomp`.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use naru_wire::stomp::session::Session;
use naru_wire::stomp::{
    Decoder, Event, Frame, Limits, Message, Version, encode_message, encode_message_start,
    encode_message_tail,
};

/// A body of 128 bytes, as in the other measurements.
const SEND: &[u8] = b"SEND\ndestination:/topic/chat\\clobby\ncontent-type:application/json\n\
receipt:message-12345\ncontent-length:128\n\n\
0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\
0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\0";

fn decoded(decoder: &mut Decoder, mut input: &[u8]) -> Option<Frame> {
    match decoder.decode(&mut input) {
        Ok(Some(Event::Frame(frame))) => Some(frame),
        _ => None,
    }
}

fn read(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("stomp");
    group.throughput(Throughput::Elements(1));
    let mut decoder = Decoder::new(Limits::default());
    decoder.set_version(Version::V1_2);
    group.bench_function("decode_send", |bencher| {
        bencher.iter(|| decoded(&mut decoder, black_box(SEND)).is_some());
    });
    let (first, second) = SEND.split_at(100);
    group.bench_function("decode_send_in_two_pieces", |bencher| {
        bencher.iter(|| {
            assert!(decoded(&mut decoder, black_box(first)).is_none());
            decoded(&mut decoder, black_box(second)).is_some()
        });
    });

    let mut session = Session::new(Arc::default(), None);
    let mut connect = Decoder::new(Limits::default());
    let frame = decoded(&mut connect, b"CONNECT\naccept-version:1.2\n\n\0").expect("a frame");
    let now = Instant::now();
    let _accepted = session.on_frame(frame, now).expect("it may connect");
    session.accept();
    group.bench_function("decode_and_accept_send", |bencher| {
        bencher.iter(|| {
            let frame = decoded(&mut decoder, black_box(SEND)).expect("a frame");
            session.on_frame(frame, now)
        });
    });
    group.finish();
}

fn write(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("stomp");
    group.throughput(Throughput::Elements(1));
    let message = Message {
        message_id: "1737331200000:42",
        destination: "/topic/chat:lobby",
        content_type: Some("application/json"),
        headers: &[("position", "1737331200000:42")],
        body: &[b'x'; 128],
    };
    group.bench_function("encode_message", |bencher| {
        bencher.iter(|| encode_message(Version::V1_2, Some("sub-0"), None, black_box(&message)));
    });
    group.bench_function("encode_message_tail", |bencher| {
        bencher.iter(|| encode_message_tail(Version::V1_2, black_box(&message)));
    });
    // What a delivery costs when tail and start are there: two copies into the write buffer.
    let start = encode_message_start(Version::V1_2, Some("sub-0"));
    let tail = encode_message_tail(Version::V1_2, &message);
    let mut buffer = Vec::with_capacity(1 << 16);
    group.bench_function("append_start_and_tail", |bencher| {
        bencher.iter(|| {
            if buffer.len() + start.len() + tail.len() > 1 << 16 {
                buffer.clear();
            }
            buffer.extend_from_slice(black_box(&start));
            buffer.extend_from_slice(black_box(&tail));
        });
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(700))
        .configure_from_args();
    read(&mut criterion);
    write(&mut criterion);
    criterion.final_summary();
}
