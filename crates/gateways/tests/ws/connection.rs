//! What a well-behaved client never does, byte by byte.

use std::io;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use naru_gateways::ws::{
    Deflater, MessageKind, PONGS_WAITING_MAX, WsConnection, WsError, WsEvent, WsOptions,
    encode_frame,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::net::TcpStream;

use crate::{OPTIONS, connected, echo, next};

/// A masked frame with the mask of zeros, so that payloads can be read in the test.
fn client_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).expect("short frames are enough here");
    [&[first, 0x80 | length, 0, 0, 0, 0], payload].concat()
}

#[test]
fn an_idle_connection_is_small() {
    let bytes = size_of::<WsConnection<TcpStream>>();
    assert!(bytes <= 256, "{bytes} bytes");
}

#[tokio::test]
async fn bytes_that_came_with_the_upgrade_are_read_first() {
    let (mut client, server) = duplex(1024);
    let hello = client_frame(0x81, b"hello");
    client.write_all(&hello[3..]).await.unwrap();
    let mut connection = WsConnection::new(server, BytesMut::from(&hello[..3]), OPTIONS);
    assert!(matches!(
        next(&mut connection).await,
        WsEvent::Message { kind: MessageKind::Text, data } if data == "hello"
    ));
    assert_eq!(connection.bytes_read(), hello.len() as u64 - 3);
}

#[tokio::test]
async fn half_a_message_shows_so_that_its_rest_can_have_a_deadline() {
    let (mut connection, mut client) = connected(1024, OPTIONS);
    assert!(!connection.is_inside_message());
    client.write_all(&client_frame(0x01, b"half")).await.unwrap();
    assert!(next(&mut connection).now_or_never().is_none());
    assert!(connection.is_inside_message());
    client.write_all(&client_frame(0x80, b"")).await.unwrap();
    assert!(matches!(next(&mut connection).await, WsEvent::Message { .. }));
    assert!(!connection.is_inside_message());
}

#[tokio::test]
async fn a_client_that_breaks_the_protocol_is_told_and_hung_up_on() {
    for (bytes, error, said) in [
        (client_frame(0x83, b""), WsError::ReservedOpcode, (1002, "reserved_opcode")),
        (client_frame(0x81, b"\xff"), WsError::NotUtf8, (1007, "not_utf8")),
        (b"\x82\xff\0\0\0\0\x01\0\0\0MASK".to_vec(), WsError::TooLarge, (1009, "too_large")),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), WsError::ReservedBits, (1002, "reserved_bits")),
    ] {
        let (mut connection, mut client) = connected(1024, OPTIONS);
        let talk = async {
            client.write_all(&bytes).await.unwrap();
            client.write_all(&client_frame(0x81, b"ignored")).await.unwrap();
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.unwrap();
            drop(client);
            answer
        };
        let (end, answer) = tokio::join!(echo(&mut connection), talk);
        assert!(matches!(end, WsEvent::Failed(found) if found == error), "{end:?}");
        let (code, reason): (u16, &str) = said;
        assert_eq!(answer[0], 0x88);
        assert_eq!(answer[2..4], code.to_be_bytes());
        assert_eq!(&answer[4..], reason.as_bytes());
    }
}

#[tokio::test]
async fn a_stream_that_just_ends_is_told_from_a_close_frame() {
    let (mut connection, client) = connected(1024, OPTIONS);
    drop(client);
    assert!(matches!(next(&mut connection).await, WsEvent::Ended));
    assert!(matches!(next(&mut connection).await, WsEvent::Ended), "and stays so");
}

#[tokio::test]
async fn a_client_that_pings_and_never_reads_is_read_no_further() {
    let (mut connection, mut client) = connected(256, OPTIONS);
    let flood = client_frame(0x89, &[b'x'; 100]).repeat(100_000);
    let mut pings = 0;
    {
        let mut flooding = pin!(client.write_all(&flood));
        // Both run as far as they can: the flood must stop for want of reading.
        for _ in 0..1000 {
            assert!(flooding.as_mut().now_or_never().is_none(), "the whole flood was read");
            while let Some(event) = next(&mut connection).now_or_never() {
                assert!(matches!(event, WsEvent::Ping), "{event:?}");
                pings += 1;
                assert!(connection.pending_bytes() <= usize::from(PONGS_WAITING_MAX) * 102);
            }
        }
    }
    assert!(pings < 50, "{pings} pings were read");
    // Once it reads, it goes on.
    let mut pongs = vec![0; 10 * 102];
    let read = async { client.read_exact(&mut pongs).await.map(|_count| ()) };
    let serve = async {
        while matches!(next(&mut connection).await, WsEvent::Ping) {}
        panic!("the flood has no end here");
    };
    tokio::select! {
        read = read => read.unwrap(),
        () = serve => {}
    }
    assert!(pongs.starts_with(b"\x8a\x64xxxx"));
}

#[tokio::test]
async fn finishing_waits_for_the_client_and_can_be_given_up() {
    let (mut connection, mut client) = connected(1024, OPTIONS);
    connection.close(1001, "");
    assert!(connection.finish().now_or_never().is_none(), "the client's close frame is missing");
    client.write_all(&client_frame(0x88, b"\x03\xe9")).await.unwrap();
    assert!(connection.finish().now_or_never().is_none(), "the client still holds its half");
    let mut heard = Vec::new();
    client.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard, b"\x88\x02\x03\xe9", "one close frame and the end of the stream");
    drop(client);
    connection.finish().await.unwrap();
}

#[tokio::test]
async fn a_slow_reader_shows_as_progress_that_does_not_come() {
    let (mut connection, mut client) = connected(100, OPTIONS);
    connection.queue_message(MessageKind::Binary, &[1; 998]);
    let mut cx = Context::from_waker(Waker::noop());
    assert!(connection.poll_flush(&mut cx).is_pending());
    assert_eq!(connection.pending_bytes(), 902);
    client.read_exact(&mut [0; 60]).await.unwrap();
    assert!(connection.poll_flush(&mut cx).is_pending());
    assert_eq!(connection.pending_bytes(), 842);
    drop(client);
    let Poll::Ready(Err(error)) = connection.poll_flush(&mut cx) else { panic!("it is gone") };
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn a_shared_body_follows_each_receivers_head() {
    let (mut connection, mut client) = connected(1024, OPTIONS);
    let body = Bytes::from_static(b"body");
    connection.queue_joined(MessageKind::Text, b"for a: ", body.clone());
    connection.queue_joined(MessageKind::Text, b"for b: ", body);
    connection.queue(encode_frame(MessageKind::Binary.into(), b"plain"));
    assert!(next(&mut connection).now_or_never().is_none());
    assert_eq!(connection.pending_bytes(), 0);
    let mut heard = vec![0; 13 + 13 + 7];
    client.read_exact(&mut heard).await.unwrap();
    assert_eq!(heard, b"\x81\x0bfor a: body\x81\x0bfor b: body\x82\x05plain");
}

#[tokio::test]
async fn messages_are_compressed_where_that_was_negotiated_and_pays() {
    let long = "compressible ".repeat(100);
    let kind = MessageKind::Text;
    let written = async |bits: Option<u8>, text: &str| {
        let options = WsOptions { deflate_window_bits: bits, ..OPTIONS };
        let (mut connection, mut client) = connected(64 * 1024, options);
        connection.queue_deflated(kind, text.as_bytes());
        assert!(next(&mut connection).now_or_never().is_none());
        drop(connection);
        let mut heard = Vec::new();
        client.read_to_end(&mut heard).await.unwrap();
        heard
    };
    assert_eq!(written(None, &long).await, encode_frame(kind.into(), long.as_bytes()));
    assert_eq!(written(Some(15), "short").await, encode_frame(kind.into(), b"short"));
    for bits in [9, 12, 15] {
        let heard = written(Some(bits), &long).await;
        assert_eq!(heard, Deflater::new(3, bits).encode(kind, long.as_bytes()));
        assert_eq!(heard[0], 0xc1);
        assert!(heard.len() < long.len() / 4);
    }
}

#[test]
fn a_frame_compressed_for_all_fits_only_who_has_the_window_for_it() {
    let takes = |bits, payload_bytes| {
        let options = WsOptions { deflate_window_bits: bits, ..OPTIONS };
        connected(1, options).0.takes_shared_deflated(payload_bytes)
    };
    assert!(!takes(None, 10));
    assert!(takes(Some(15), 1 << 20));
    assert!(takes(Some(10), 1024));
    assert!(!takes(Some(10), 1025));
}
