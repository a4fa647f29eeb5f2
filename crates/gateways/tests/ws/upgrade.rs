//! From an HTTP request over hyper to the bare socket.

use std::cell::Cell;
use std::convert::Infallible;

use futures_util::{SinkExt, StreamExt};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use naru_gateways::ws::{
    HandshakeError, UpgradeError, Upgrading, WsConnection, WsEvent, WsOptions, refusal, upgrade,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::TcpStream;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::{OPTIONS, echo, next};

const PROTOCOLS: [&str; 2] = ["v12.stomp", "v11.stomp"];
const REQUEST: &str = "GET /chat HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n";

/// Serves one HTTP connection until it is upgraded or over.
async fn serve(socket: DuplexStream) -> Option<Upgrading> {
    let upgraded = Cell::new(None);
    let service = service_fn(|request: Request<Incoming>| {
        let (mut parts, _body) = request.into_parts();
        let response = match upgrade(&mut parts, &PROTOCOLS, true) {
            Ok((response, upgrading)) => {
                upgraded.set(Some(upgrading));
                response.map(|()| String::new())
            }
            Err(error) => refusal(&error),
        };
        async move { Ok::<_, Infallible>(response) }
    });
    http1::Builder::new()
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades()
        .await
        .expect("hyper serves");
    upgraded.take()
}

#[tokio::test]
async fn a_request_of_a_real_client_becomes_a_connection() {
    let (client, server) = duplex(1024);
    let talk = async {
        let mut request = "ws://localhost/chat".into_client_request().unwrap();
        let offered = "mqtt, v11.stomp".parse().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", offered);
        let (mut client, response) = client_async(request, client).await.unwrap();
        assert_eq!(response.headers()["sec-websocket-protocol"], "v11.stomp");
        client.send(Message::text("through")).await.unwrap();
        assert_eq!(client.next().await.unwrap().unwrap(), Message::text("through"));
        client.close(None).await.unwrap();
        while client.next().await.is_some() {}
    };
    let serve = async {
        let upgrading = serve(server).await.expect("an upgrade");
        assert_eq!(upgrading.protocol(), Some("v11.stomp"));
        assert_eq!(upgrading.deflate_window_bits(), None, "it was not offered");
        let (socket, leftover) = upgrading.into_socket::<DuplexStream>().await.unwrap();
        echo(&mut WsConnection::new(socket, leftover, OPTIONS)).await
    };
    let (end, ()) = tokio::join!(serve, talk);
    assert!(matches!(end, WsEvent::Closed { .. }), "{end:?}");
}

#[tokio::test]
async fn frames_that_came_with_the_request_are_not_lost_in_hyper() {
    let (mut client, server) = duplex(1024);
    let hello = [&[0x81, 0x85, 0, 0, 0, 0][..], b"hello"].concat();
    client.write_all(&[REQUEST.as_bytes(), &hello].concat()).await.unwrap();
    let upgrading = serve(server).await.expect("an upgrade");
    let options = WsOptions { deflate_window_bits: upgrading.deflate_window_bits(), ..OPTIONS };
    assert_eq!(options.deflate_window_bits, Some(15));
    let (socket, leftover) = upgrading.into_socket::<DuplexStream>().await.unwrap();
    assert_eq!(leftover, hello);
    assert!(leftover.capacity() < 100, "not hyper's own buffer");
    let mut connection = WsConnection::new(socket, leftover, options);
    let heard = next(&mut connection).await;
    assert!(matches!(heard, WsEvent::Message { data, .. } if data == "hello"));

    drop(connection);
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    let answer = answer.to_lowercase();
    for line in [
        "http/1.1 101 switching protocols\r\n",
        "\r\nupgrade: websocket\r\n",
        "\r\nconnection: upgrade\r\n",
        "\r\nsec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n",
        "\r\nsec-websocket-extensions: permessage-deflate; server_no_context_takeover; \
         client_no_context_takeover\r\n",
    ] {
        assert!(answer.contains(line), "{line:?} in {answer:?}");
    }
    assert!(!answer.contains("sec-websocket-protocol"));
}

#[tokio::test]
async fn an_ordinary_request_is_told_what_to_do_instead() {
    let (mut client, server) = duplex(1024);
    let request = b"GET /chat HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    client.write_all(request).await.unwrap();
    assert!(serve(server).await.is_none());
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    let answer = answer.to_lowercase();
    assert!(answer.starts_with("http/1.1 426 upgrade required\r\n"), "{answer}");
    assert!(answer.contains("\r\nsec-websocket-version: 13\r\n"), "{answer}");
    assert!(answer.ends_with("does not ask for an upgrade to websocket\n"), "{answer}");
}

#[test]
fn every_refusal_has_its_status_and_its_headers() {
    let answer = |error: HandshakeError| -> Response<String> { refusal(&error.into()) };
    let not_get = answer(HandshakeError::NotGet);
    assert_eq!(not_get.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(not_get.headers()["allow"], "GET");
    assert_eq!(answer(HandshakeError::BadKey).status(), StatusCode::BAD_REQUEST);
    assert_eq!(answer(HandshakeError::WrongVersion).headers()["sec-websocket-version"], "13");
    assert_eq!(refusal(&UpgradeError::NotUpgradable).status(), StatusCode::INTERNAL_SERVER_ERROR);
}

#[tokio::test]
async fn a_mistake_in_the_wiring_is_an_error_and_no_panic() {
    let request = Request::get("/chat")
        .header("upgrade", "websocket")
        .header("connection", "upgrade")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    let (mut parts, ()) = request.body(()).unwrap().into_parts();
    let not_hyper = upgrade(&mut parts, &[], false).map(|_upgraded| ());
    assert!(matches!(not_hyper, Err(UpgradeError::NotUpgradable)));

    let (mut client, server) = duplex(1024);
    client.write_all(REQUEST.as_bytes()).await.unwrap();
    let upgrading = serve(server).await.expect("an upgrade");
    let other = upgrading.into_socket::<TcpStream>().await;
    assert!(matches!(other, Err(UpgradeError::WrongSocket)));
}
