//! Input that no proper client would send: each gets a 4xx with a code, or its connection closed.

use std::time::Duration;

use naru_domain::work::Role;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::client::{ask, say};
use crate::twin::{Server, default_options};

const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test]
async fn bodies_that_are_no_json_or_the_wrong_json_get_a_400() {
    let server = Server::start().await;
    let token = format!("Bearer {}", server.token(Role::Admin, &[]));
    let nested = "[".repeat(100_000);
    let deep_object = "{\"approval\":".repeat(50_000);
    let bodies: Vec<(&[u8], &str)> = vec![
        (b"", "bad_json"),
        (b"{", "bad_json"),
        (b"nul", "bad_json"),
        (b"\xff\xfe\x00", "bad_json"),
        (b"{\"note\":\"\xff\"}", "bad_json"),
        (b"{\"note\":\"\\ud800\"}", "bad_json"),
        (b"{} {}", "bad_json"),
        (nested.as_bytes(), "bad_"),
        (deep_object.as_bytes(), "bad_"),
        (b"[]", "bad_field"),
        (b"null", "bad_field"),
        (b"\"text\"", "bad_field"),
        (b"{\"note\":1}", "bad_field"),
        (b"{\"note\":{}}", "bad_field"),
        (b"{\"approval\":\"APPROVED\"}", "bad_field"),
        (b"{\"note\":\"a\",\"note\":\"b\"}", "bad_field"),
        (b"{\"revision\":1e400}", "bad_json"),
        (b"{\"revision\":1.5}", "bad_field"),
        (b"{\"revision\":99999999999999999999}", "bad_field"),
        (b"{\"unknown\":1}", "bad_field"),
    ];
    for (body, code) in bodies {
        let headers = [("authorization", &*token), JSON];
        let answer = ask(server.address, "PATCH", "/api/devices/1", &headers, Some(body)).await;
        let shown = String::from_utf8_lossy(&body[..body.len().min(40)]).into_owned();
        assert_eq!(answer.status, 400, "{shown}: {}", answer.text());
        assert!(answer.code().starts_with(code), "{shown}: {}", answer.text());
        assert!(answer.body.len() < 1000, "errors do not repeat what was sent");
    }
    assert!(server.control.done.lock().is_empty());
}

#[tokio::test]
async fn every_changing_route_survives_every_kind_of_wrong_body() {
    let mut options = default_options();
    options.limits.source_burst = 10_000;
    options.limits.caller_burst = 10_000;
    options.limits.source_failures_free = 10_000;
    let server = Server::with(options).await;
    let token = server.token(Role::Admin, &[]);
    let huge =
        json!({ "title": i64::MAX, "device": i64::MIN, "room": "\u{0}", "text": "\u{202e}" });
    let bodies = [
        json!(null),
        json!([]),
        json!({}),
        json!("x"),
        json!(-1),
        json!({ "name": {}, "password": [] }),
        json!({ "name": "x".repeat(1000), "password": "\u{0}" }),
        json!({ "replies": {} }),
        json!({ "replies": vec![json!({ "text": "x" }); 21] }),
        json!({ "settings": "x", "revision": "y" }),
        json!({ "limit": -1 }),
        huge,
    ];
    for route in naru_admin::route_accesses() {
        if route.method == "GET" {
            continue;
        }
        for id in ["1", "999", "-1", "9223372036854775807", "x"] {
            let path = route.path.replace("{id}", id).replace("{name}", "alpha");
            for body in &bodies {
                let answer = server.ask(&token, &route.method, &path, Some(body)).await;
                assert!(answer.status < 500, "{} {path} {body}: {}", route.method, answer.text());
            }
        }
    }
}

#[tokio::test]
async fn bodies_over_the_limit_are_refused_before_and_while_they_come() {
    let server = Server::start().await;
    let token = server.token(Role::Admin, &[]);
    let head = |length: &str| {
        format!(
            "PATCH /api/devices/1 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
             authorization: Bearer {token}\r\ncontent-type: application/json\r\n{length}\r\n\r\n"
        )
    };
    let announced = head("content-length: 9999999999");
    let answer = say(server.address, announced.as_bytes()).await.expect(413);
    assert_eq!(answer.code(), "too_large");
    let mut endless = head("transfer-encoding: chunked").into_bytes();
    for _ in 0..20 {
        endless.extend_from_slice(b"10000\r\n");
        endless.extend_from_slice(&[b' '; 0x10000]);
        endless.extend_from_slice(b"\r\n");
    }
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    let (mut reader, mut writer) = socket.split();
    let mut answer = vec![0; 12];
    let write = async { drop(writer.write_all(&endless).await) };
    let (read, ()) = tokio::join!(reader.read_exact(&mut answer), write);
    read.unwrap();
    assert_eq!(answer, b"HTTP/1.1 413");
}

#[tokio::test]
async fn media_routes_take_sixteen_mebibytes_and_refuse_more() {
    let server = Server::start().await;
    let token = server.token(Role::Operator, &[]);
    let body = |bytes: usize| {
        let image = json!({ "base64": "A".repeat(bytes / 3 * 4) });
        json!({ "device": 1, "room": "r", "channel_id": "1", "reply": { "images": [image] } })
    };
    let fits = body(15 * 1024 * 1024);
    server.ask(&token, "POST", "/api/send", Some(&fits)).await.expect(200);
    let over = body(17 * 1024 * 1024);
    let answer = server.ask(&token, "POST", "/api/send", Some(&over)).await.expect(400);
    assert_eq!(answer.code(), "bad_field");
}

#[tokio::test]
async fn a_body_needs_its_content_type() {
    let server = Server::start().await;
    let token = format!("Bearer {}", server.token(Role::Admin, &[]));
    for kind in [None, Some("text/plain"), Some("application/x-www-form-urlencoded"), Some("")] {
        let mut headers = vec![("authorization", &*token)];
        headers.extend(kind.map(|kind| ("content-type", kind)));
        let answer = ask(server.address, "PATCH", "/api/devices/1", &headers, Some(b"{}")).await;
        assert_eq!(answer.expect(415).code(), "unsupported_media_type");
    }
    let headers = [("authorization", &*token), ("content-type", "Application/JSON; charset=utf-8")];
    ask(server.address, "PATCH", "/api/devices/1", &headers, Some(b"{}")).await.expect(200);
}

#[tokio::test]
async fn unknown_routes_and_methods_have_codes() {
    let server = Server::start().await;
    let token = server.token(Role::Admin, &[]);
    assert_eq!(server.get(&token, "/api/nothing").await.expect(404).code(), "no_such_route");
    assert_eq!(server.get("", "/").await.expect(404).code(), "no_such_route");
    assert_eq!(server.get("", "/api/../etc/passwd").await.expect(404).code(), "no_such_route");
    let answer = server.ask(&token, "DELETE", "/api/devices", None).await.expect(405);
    assert_eq!(answer.code(), "method_not_allowed");
    assert_eq!(answer.header("allow"), Some("GET,HEAD"));
    server.ask(&token, "BREW", "/api/devices", None).await.expect(405);
    server.ask(&token, "HEAD", "/health/live", None).await;
}

#[tokio::test]
async fn requests_that_are_no_http_are_answered_or_closed_and_harm_nobody() {
    let server = Server::start().await;
    for raw in [
        &b"\x16\x03\x01\x02\x00"[..],
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /api/me HTTP/1.1\r\nauthorization: Bearer \xff\xfe\r\nhost: x\r\n\r\n",
        b"GET /%zz%00 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"POST /api/login HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"POST /api/login HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
        b"POST /api/login HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\
          content-type: application/json\r\n\r\nzz\r\n",
    ] {
        let mut socket = TcpStream::connect(server.address).await.unwrap();
        socket.write_all(raw).await.unwrap();
        socket.shutdown().await.unwrap();
        let mut answer = Vec::new();
        let _end = socket.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(!answer.starts_with("HTTP/1.1 5"), "{raw:?}: {answer}");
    }
    let many = "x: y\r\n".repeat(200);
    let answer = say(server.address, format!("GET / HTTP/1.1\r\n{many}\r\n").as_bytes()).await;
    assert_eq!(answer.status, 431);
    let long = "a".repeat(64 * 1024);
    let answer = say(server.address, format!("GET /{long} HTTP/1.1\r\n\r\n").as_bytes()).await;
    assert!((400..500).contains(&answer.status));
    server.get("", "/health/live").await.expect(200);
}

#[tokio::test]
async fn a_head_or_a_body_that_drips_is_cut_off() {
    let mut options = default_options();
    options.limits.head_timeout = Duration::from_millis(100);
    options.limits.body_timeout = Duration::from_millis(100);
    let server = Server::with(options).await;
    let mut dripping = TcpStream::connect(server.address).await.unwrap();
    dripping.write_all(b"GET / HTTP/1.1\r\nhost:").await.unwrap();
    let mut rest = Vec::new();
    let _end = dripping.read_to_end(&mut rest).await;
    assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 408"));
    let head = "POST /api/login HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
                content-type: application/json\r\ncontent-length: 50\r\n\r\n{";
    let answer = say(server.address, head.as_bytes()).await.expect(408);
    assert_eq!(answer.code(), "request_timeout");
}

#[tokio::test]
async fn a_client_that_leaves_does_not_stop_its_change_halfway() {
    let server = Server::start().await;
    let token = server.token(Role::Operator, &[]);
    let body = r#"{"approval":"approved"}"#;
    for _ in 0..20 {
        let mut socket = TcpStream::connect(server.address).await.unwrap();
        let request = format!(
            "PATCH /api/devices/1 HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        socket.write_all(request.as_bytes()).await.unwrap();
        drop(socket);
    }
    let mut server = server;
    server.stop.cancel();
    server.running.join_next().await.unwrap().unwrap();
    let done = server.control.done.lock().len();
    let recorded = server.store.actions().len();
    assert_eq!(done, recorded, "what is on record was done");
}
