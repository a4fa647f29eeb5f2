//! A client that others wrote: what it sends comes back, what it asks is answered, both may close.

use std::collections::VecDeque;

use futures_util::{SinkExt, StreamExt};
use naru_gateways::ws::{MessageKind, WsEvent};
use tokio::io::DuplexStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};

use crate::{OPTIONS, connected, echo, next};

async fn client(socket: DuplexStream) -> WebSocketStream<DuplexStream> {
    WebSocketStream::from_raw_socket(socket, Role::Client, None).await
}

#[tokio::test]
async fn messages_of_all_lengths_come_back_through_sockets_of_all_sizes() {
    for buffer_bytes in [1, 7, 1024, 1 << 20] {
        let (mut connection, socket) = connected(buffer_bytes, OPTIONS);
        let lengths: &[usize] = if buffer_bytes < 1024 {
            &[0, 1, 125, 126, 700]
        } else {
            &[0, 1, 125, 126, 65535, 65536, 1 << 20]
        };
        let talk = async {
            let mut client = client(socket).await;
            for &length in lengths {
                let text = Message::text("가".repeat(length / 3));
                let binary = Message::binary(vec![0xa5; length]);
                for message in [text, binary] {
                    client.send(message.clone()).await.unwrap();
                    assert_eq!(client.next().await.unwrap().unwrap(), message);
                }
            }
            client.close(None).await.unwrap();
            assert!(client.next().await.unwrap().unwrap().is_close());
            assert!(client.next().await.is_none(), "the server closes the stream");
        };
        let (end, ()) = tokio::join!(echo(&mut connection), talk);
        assert!(matches!(end, WsEvent::Closed { code: None, .. }), "{end:?}");
    }
}

#[tokio::test]
async fn many_messages_in_flight_come_back_in_order() {
    let (mut connection, socket) = connected(64 * 1024, OPTIONS);
    let talk = async {
        let mut client = client(socket).await;
        let mut sent = VecDeque::new();
        for number in 0..500 {
            let message = Message::text(number.to_string());
            client.feed(message.clone()).await.unwrap();
            sent.push_back(message);
        }
        client.flush().await.unwrap();
        while let Some(expected) = sent.pop_front() {
            assert_eq!(client.next().await.unwrap().unwrap(), expected);
        }
        client.close(None).await.unwrap();
        while client.next().await.is_some() {}
    };
    tokio::join!(echo(&mut connection), talk);
}

#[tokio::test]
async fn pings_are_answered_in_both_directions() {
    let (mut connection, socket) = connected(1024, OPTIONS);
    connection.queue_ping(b"alive?");
    let talk = async {
        let mut client = client(socket).await;
        assert_eq!(client.next().await.unwrap().unwrap(), Message::Ping("alive?".into()));
        client.send(Message::Ping("and you?".into())).await.unwrap();
        assert_eq!(client.next().await.unwrap().unwrap(), Message::Pong("and you?".into()));
        client
    };
    let serve = async {
        // In which order the client flushes the two is its business.
        let (one, other) = (next(&mut connection).await, next(&mut connection).await);
        let both = [&one, &other];
        assert!(both.iter().any(|event| matches!(event, WsEvent::Ping)), "{both:?}");
        let is_pong = |event: &WsEvent| matches!(event, WsEvent::Pong(said) if said == "alive?");
        assert!(both.into_iter().any(is_pong), "{both:?}");
        let end = next(&mut connection).await;
        assert!(matches!(end, WsEvent::Ended), "{end:?}");
    };
    tokio::join!(serve, async { drop(talk.await) });
}

#[tokio::test]
async fn a_client_learns_why_the_server_closes() {
    let (mut connection, socket) = connected(1024, OPTIONS);
    connection.queue_message(MessageKind::Text, b"last words");
    connection.close(3001, "too slow");
    connection.close(1000, "not said any more");
    connection.queue_message(MessageKind::Text, b"nor this");
    let talk = async {
        let mut client = client(socket).await;
        // On its way when the server closed: nobody waits for it.
        client.send(Message::text("too late")).await.unwrap();
        assert_eq!(client.next().await.unwrap().unwrap(), Message::text("last words"));
        let expected = CloseFrame { code: CloseCode::from(3001), reason: "too slow".into() };
        assert_eq!(client.next().await.unwrap().unwrap(), Message::Close(Some(expected)));
        assert!(client.next().await.is_none());
    };
    let (finished, ()) = tokio::join!(connection.finish(), talk);
    finished.unwrap();
}

#[tokio::test]
async fn the_code_of_a_client_that_closes_goes_back_to_it() {
    let (mut connection, socket) = connected(1024, OPTIONS);
    let talk = async {
        let mut client = client(socket).await;
        let frame = CloseFrame { code: CloseCode::from(4001), reason: "bye".into() };
        client.close(Some(frame)).await.unwrap();
        let Message::Close(Some(answer)) = client.next().await.unwrap().unwrap() else {
            panic!("a close frame with a code");
        };
        assert_eq!((u16::from(answer.code), answer.reason.as_str()), (4001, ""));
        assert!(client.next().await.is_none());
    };
    let (end, ()) = tokio::join!(echo(&mut connection), talk);
    assert!(matches!(&end, WsEvent::Closed { code: Some(4001), reason } if reason == "bye"));
}
