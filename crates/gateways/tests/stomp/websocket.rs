//! STOMP in WebSocket messages, against a WebSocket that is not ours.

use futures_util::{SinkExt, StreamExt};
use naru_gateways::stomp::WsOpening;
use naru_wire::stomp::Version;
use tokio::io::DuplexStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::world::World;

async fn open(world: &World, subprotocol: Option<Version>) -> WebSocketStream<DuplexStream> {
    let ws = WsOpening { subprotocol, deflate_window_bits: None };
    let socket = world.open(Some(ws), 64 * 1024);
    WebSocketStream::from_raw_socket(socket, Role::Client, None).await
}

async fn next(client: &mut WebSocketStream<DuplexStream>) -> Message {
    client.next().await.unwrap().unwrap()
}

#[tokio::test(start_paused = true)]
async fn frames_may_be_cut_across_messages_and_share_one() {
    let world = World::new();
    let mut client = open(&world, Some(Version::V1_2)).await;
    client.send(Message::text("CONNECT\naccept-ver")).await.unwrap();
    client.send(Message::binary(&b"sion:1.2\n\n\0\nSUBSCRIBE\nid:0\ndes"[..])).await.unwrap();
    client
        .send(Message::text("tination:/topic/a\n\n\0SEND\ndestination:/topic/a\n\nä\0SEND\n"))
        .await
        .unwrap();
    client.send(Message::text("destination:/topic/a\ncontent-length:2\n\n")).await.unwrap();
    client.send(Message::binary(&b"\xff\xfe\0DISCONNECT\nreceipt:r\n\n\0"[..])).await.unwrap();
    let connected = next(&mut client).await.into_text().unwrap();
    assert!(connected.starts_with("CONNECTED\nversion:1.2\n"), "{connected}");
    // Text where it is text, and bytes where it is not.
    let mut seen = Vec::new();
    loop {
        match next(&mut client).await {
            Message::Text(text) if text.starts_with("RECEIPT\nreceipt-id:r\n") => break,
            Message::Text(text) => {
                assert!(text.ends_with("content-length:2\n\nä\0"), "{text}");
                seen.push("text");
            }
            Message::Binary(bytes) => {
                assert!(bytes.ends_with(b"content-length:2\n\n\xff\xfe\0"), "{bytes:?}");
                seen.push("binary");
            }
            other => panic!("{other:?}"),
        }
    }
    let Message::Close(Some(close)) = next(&mut client).await else { panic!("no close frame") };
    assert_eq!(u16::from(close.code), 1000);
    // The hub delivers on its own; what had not come before DISCONNECT need not.
    assert!(seen.is_empty() || seen == ["text"] || seen == ["text", "binary"], "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn bodies_of_bytes_come_in_messages_of_bytes() {
    let world = World::new();
    let mut client = open(&world, Some(Version::V1_2)).await;
    let hello = "CONNECT\naccept-version:1.2\n\n\0SUBSCRIBE\nid:0\ndestination:/topic/a\n\n\0";
    client.send(Message::text(hello)).await.unwrap();
    client.send(Message::binary(&b"SEND\ndestination:/topic/a\n\n\xff\0"[..])).await.unwrap();
    client.send(Message::text("SEND\ndestination:/topic/a\n\nx\0")).await.unwrap();
    next(&mut client).await;
    assert!(next(&mut client).await.into_data().ends_with(b"\n\xff\0"));
    let Message::Text(text) = next(&mut client).await else { panic!("not text") };
    assert!(text.ends_with("\nx\0"), "{text}");
    client.close(None).await.unwrap();
    while client.next().await.is_some() {}
}

#[tokio::test(start_paused = true)]
async fn the_subprotocol_says_the_version_when_connect_does_not() {
    let world = World::new();
    for (subprotocol, version) in [(Some(Version::V1_1), "1.1"), (None, "1.0")] {
        let mut client = open(&world, subprotocol).await;
        client.send(Message::text("CONNECT\n\n\0")).await.unwrap();
        let connected = next(&mut client).await.into_text().unwrap();
        assert!(connected.contains(&format!("version:{version}\n")), "{connected}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_comes_before_the_close_frame_that_says_the_same() {
    let world = World::new();
    let mut client = open(&world, Some(Version::V1_2)).await;
    client.send(Message::text("HELLO\n\n\0")).await.unwrap();
    let error = next(&mut client).await.into_text().unwrap();
    assert!(error.contains("code:unknown_command"), "{error}");
    let Message::Close(Some(close)) = next(&mut client).await else { panic!("no close frame") };
    assert_eq!((u16::from(close.code), close.reason.as_str()), (1002, "malformed"));
}
