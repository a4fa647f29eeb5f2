//! The application behind chat, with the real binary between it and its clients: who gets in, what may be
//! said, calls, what ends, and what happens while it is away.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::{Value, json};

use crate::application::{Application, Asked};
use crate::harness::{SOON, Server, eventually, now_ms};

const EVENTS: [&str; 8] =
    ["connect", "refresh", "subscribe", "sub_refresh", "publish", "rpc", "message", "disconnected"];

/// What the application of these tests answers.
fn answers(asked: &Asked) -> Value {
    let body = &asked.body;
    match asked.path.as_str() {
        "/connect" if asked.header("cookie") == Some("session=ann") => {
            let soon = now_ms() / 1_000 + 1;
            json!({"result": {
                "user": "ann", "expire_at": soon, "info": {"name": "Ann"}, "meta": {"plan": "gold"},
                "data": {"hello": "ann"}, "channels": ["free:own"],
            }})
        }
        "/connect" if body["protocol"] == "stomp" => {
            json!({"result": {"user": "bo", "expire_at": now_ms() / 1_000 + 1}})
        }
        "/connect" => json!({"disconnect": {"code": 4501, "reason": "unauthorized"}}),
        "/refresh" => json!({"result": {"expire_at": now_ms() / 1_000 + 3_600}}),
        "/subscribe" if body["channel"] == "hall:closed" => {
            json!({"error": {"code": 403, "message": "not this room"}})
        }
        "/subscribe" => json!({"result": {
            "expire_at": now_ms() / 1_000 + 1, "info": {"seat": 1}, "data": {"topic": "tea"}, "override": {"presence": {"value": true}},
        }}),
        "/sub_refresh" if body["channel"] == "hall:short" => json!({"result": {"expired": true}}),
        "/sub_refresh" => json!({"result": {"expire_at": now_ms() / 1_000 + 3_600}}),
        "/publish" if body["data"]["text"] == "bad" => {
            json!({"error": {"code": 400, "message": "mind your words"}})
        }
        "/publish" => json!({"result": {"data": {"text": "changed"}, "tags": {"by": "app"}}}),
        "/rpc" => json!({"result": {"data": {
            "user": body["user"], "method": body["method"], "meta": body["meta"],
            "data": body["data"], "transport": body["transport"],
        }}}),
        _ => json!({}),
    }
}

fn server(application: &Application) -> Server {
    let mut settings = vec![
        r#"backend.allow=["127.0.0.1"]"#.to_owned(),
        "backend.timeout=5s".to_owned(),
        "backend.secret=a secret of the application".to_owned(),
        r#"backend.http_headers=["Cookie"]"#.to_owned(),
        "backend.include_connection_meta=true".to_owned(),
        "channels.namespaces.hall={subscribe_proxy_enabled=true,publish_proxy_enabled=true,\
         sub_refresh_proxy_enabled=true,allow_presence_for_subscriber=true}"
            .to_owned(),
        "channels.namespaces.free={allow_subscribe_for_client=true,allow_publish_for_client=true}"
            .to_owned(),
    ];
    for event in EVENTS {
        let address = application.address();
        settings.push(format!("backend.{event}.endpoint=http://{address}/{event}"));
    }
    Server::with(&settings.iter().map(String::as_str).collect::<Vec<_>>())
}

/// A Centrifuge client in JSON.
struct Client {
    stream: TcpStream,
    last_id: u64,
}

impl Client {
    fn open(address: SocketAddr, headers: &str) -> Client {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        let request = format!(
            "GET /connection/websocket HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
        Client { stream, last_id: 0 }
    }

    fn connected(address: SocketAddr) -> (Client, Value) {
        let mut client = Client::open(address, "Cookie: session=ann\r\n");
        let answer = client.ask(&json!({"connect": {"name": "js", "data": {"a": 1}}}));
        (client, answer)
    }

    fn send(&mut self, command: &Value) {
        let text = command.to_string();
        let length = u16::try_from(text.len()).expect("a short command");
        // Masked with zeros, which changes nothing.
        let mut frame = vec![0x81, 0x80 | 126];
        frame.extend(length.to_be_bytes());
        frame.extend([0; 4]);
        frame.extend(text.as_bytes());
        self.stream.write_all(&frame).unwrap();
    }

    /// The answer to a command.
    fn ask(&mut self, command: &Value) -> Value {
        self.last_id += 1;
        let mut command = command.clone();
        command["id"] = self.last_id.into();
        self.send(&command);
        loop {
            let answer = self.next().expect("an answer");
            if answer["id"] == self.last_id {
                return answer;
            }
        }
    }

    fn push(&mut self) -> Value {
        loop {
            let said = self.next().expect("a push");
            if said.get("push").is_some() {
                return said["push"].clone();
            }
        }
    }

    /// What the server says next, or the code that it closes with. Several may come in one frame.
    fn next(&mut self) -> Result<Value, u16> {
        loop {
            let mut head = [0; 2];
            self.stream.read_exact(&mut head).unwrap();
            let length = match head[1] {
                126 => {
                    let mut long = [0; 2];
                    self.stream.read_exact(&mut long).unwrap();
                    usize::from(u16::from_be_bytes(long))
                }
                short => usize::from(short),
            };
            let mut payload = vec![0; length];
            self.stream.read_exact(&mut payload).unwrap();
            match head[0] & 0x0f {
                8 => return Err(u16::from_be_bytes([payload[0], payload[1]])),
                1 if payload != b"{}" => return Ok(serde_json::from_slice(&payload).unwrap()),
                _ => {}
            }
        }
    }

    fn close_code(&mut self) -> u16 {
        loop {
            if let Err(code) = self.next() {
                return code;
            }
        }
    }
}

#[test]
fn a_centrifuge_client_lives_by_what_the_application_says() {
    let application = Application::start(answers);
    let mut server = server(&application);
    let (mut ann, connected) = Client::connected(server.http);
    assert_eq!(connected["connect"]["data"], json!({"hello": "ann"}), "{connected}");
    assert!(connected["connect"]["subs"]["free:own"].is_object(), "{connected}");
    assert!(connected["connect"].get("ttl").is_none(), "it is not the client who refreshes");
    let asked = application.wait_for("/connect", 1);
    assert_eq!((&asked.body["name"], &asked.body["data"]), (&json!("js"), &json!({"a": 1})));
    assert!(asked.header("naru-signature").is_some_and(|header| header.starts_with("t=")));

    let joined = ann.ask(&json!({"subscribe": {"channel": "hall:a"}}));
    assert_eq!(joined["subscribe"]["data"], json!({"topic": "tea"}), "{joined}");
    assert!(joined["subscribe"].get("ttl").is_none(), "it is not the client who refreshes");
    let present = ann.ask(&json!({"presence": {"channel": "hall:a"}}));
    assert_eq!(present["error"]["code"], 108, "the namespace has none: {present}");
    let refused = ann.ask(&json!({"subscribe": {"channel": "hall:closed"}}));
    assert_eq!(refused["error"], json!({"code": 403, "message": "not this room"}));

    let refused = ann.ask(&json!({"publish": {"channel": "hall:a", "data": {"text": "bad"}}}));
    assert_eq!(refused["error"], json!({"code": 400, "message": "mind your words"}));
    ann.send(&json!({"id": 90, "publish": {"channel": "hall:a", "data": {"text": "good"}}}));
    let heard = ann.push();
    assert_eq!(heard["pub"]["data"], json!({"text": "changed"}), "{heard}");
    assert_eq!(heard["pub"]["tags"], json!({"by": "app"}));
    assert_eq!(heard["pub"]["info"]["conn_info"], json!({"name": "Ann"}));

    let called = ann.ask(&json!({"rpc": {"method": "who", "data": [1]}}));
    let data = &called["rpc"]["data"];
    assert_eq!((&data["user"], &data["method"]), (&json!("ann"), &json!("who")), "{called}");
    assert_eq!((&data["meta"], &data["data"]), (&json!({"plan": "gold"}), &json!([1])));
    ann.send(&json!({"send": {"data": {"typing": true}}}));
    assert_eq!(application.wait_for("/message", 1).body["data"], json!({"typing": true}));

    assert_eq!(application.wait_for("/refresh", 1).body["user"], "ann");
    let called = ann.ask(&json!({"rpc": {"method": "still", "data": {}}}));
    assert_eq!(called["rpc"]["data"]["method"], "still", "it went on");
    assert_eq!(application.wait_for("/sub_refresh", 1).body["channel"], "hall:a");
    ann.ask(&json!({"subscribe": {"channel": "hall:short"}}));
    let ended = ann.push();
    assert_eq!(ended["channel"], "hall:short", "{ended}");
    assert_eq!(ended["unsubscribe"]["code"], 2501);

    drop(ann);
    let gone = application.wait_for("/disconnected", 1);
    assert_eq!(gone.body["user"], "ann");
    assert!(gone.body["reason"].is_string(), "{}", gone.body);

    let mut stranger = Client::open(server.http, "");
    stranger.send(&json!({"id": 1, "connect": {}}));
    assert_eq!(stranger.close_code(), 4501);

    let (_last, _) = Client::connected(server.http);
    assert_eq!(server.terminate(), Some(0));
    assert_eq!(application.wait_for("/disconnected", 2).body["reason"], "shutdown");
}

#[test]
fn while_the_application_is_away_clients_get_a_temporary_error_and_the_rest_goes_on() {
    let mut application = Application::start(answers);
    let server = server(&application);
    let (mut ann, _) = Client::connected(server.http);
    let (mut bo, _) = Client::connected(server.http);
    // Their right to be here must not run out meanwhile.
    application.wait_for("/refresh", 2);
    bo.ask(&json!({"subscribe": {"channel": "free:a"}}));

    application.stop();
    let temporary = json!({"code": 100, "message": "internal server error", "temporary": true});
    for command in [
        json!({"rpc": {"method": "who", "data": {}}}),
        json!({"subscribe": {"channel": "hall:a"}}),
        json!({"publish": {"channel": "hall:a", "data": {}}}),
    ] {
        assert_eq!(ann.ask(&command)["error"], temporary, "{command}");
    }
    let mut late = Client::open(server.http, "Cookie: session=ann\r\n");
    assert_eq!(late.ask(&json!({"connect": {}}))["error"], temporary);
    ann.ask(&json!({"publish": {"channel": "free:a", "data": {"text": "still here"}}}));
    assert_eq!(bo.push()["pub"]["data"], json!({"text": "still here"}));
    let failed = r#"naru_backend_outcomes_total{event="rpc",outcome="failed"}"#;
    assert!(server.metric(failed) >= 1.0);
    drop(bo);

    application.resume();
    let called = eventually("the application is asked again", || {
        let called = ann.ask(&json!({"rpc": {"method": "who", "data": {}}}));
        called["rpc"].is_object().then_some(called)
    });
    assert_eq!(called["rpc"]["data"]["user"], "ann");
    let gone = application.wait_for("/disconnected", 1);
    assert_eq!(gone.body["user"], "ann", "it is told what happened while it was away");
}

#[test]
fn the_server_api_calls_the_application_and_says_when_connections_run_out() {
    let application = Application::start(answers);
    let server = server(&application);
    let call = json!({"method": "count", "params": {"a": 1}});
    let (status, answer) = server.api("POST", "/api/rpc", Some(&call));
    let data = &answer["result"]["data"];
    assert_eq!((status, &data["method"]), (200, &json!("count")), "{answer}");
    assert_eq!((&data["user"], &data["transport"]), (&json!(""), &json!("server_api")));
    assert_eq!(data["data"], json!({"a": 1}));

    let (mut ann, _) = Client::connected(server.http);
    application.wait_for("/refresh", 1);
    let soon = json!({"user": "ann", "expire_at": now_ms() / 1_000 + 1});
    let (_, answer) = server.api("POST", "/api/refresh", Some(&soon));
    assert_eq!(answer, json!({"result": {}}));
    application.wait_for("/refresh", 2);
    let named = json!({"user": "ann", "session": "other", "expired": true});
    server.api("POST", "/api/refresh", Some(&named));
    let called = ann.ask(&json!({"rpc": {"method": "who", "data": {}}}));
    assert!(called["rpc"].is_object(), "another session was meant: {called}");
    let over = json!({"user": "ann", "expired": true});
    server.api("POST", "/api/refresh", Some(&over));
    assert_eq!(ann.close_code(), 3005);
    let (_, answer) = server.api("POST", "/api/refresh", Some(&json!({"expire_at": -1})));
    assert_eq!(answer["error"]["code"], 107);
}

/// A STOMP client over TCP.
struct Stomp(TcpStream);

impl Stomp {
    fn connected(address: SocketAddr) -> Stomp {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        let mut client = Stomp(stream);
        client.send("CONNECT\naccept-version:1.2\nCookie:flavour=oat\n\n");
        let connected = client.next();
        assert!(connected.starts_with("CONNECTED\n"), "{connected}");
        client
    }

    fn send(&mut self, frame: &str) {
        self.0.write_all(frame.as_bytes()).unwrap();
        self.0.write_all(b"\0").unwrap();
    }

    /// The next frame.
    fn next(&mut self) -> String {
        let mut frame = Vec::new();
        loop {
            let mut byte = [0];
            self.0.read_exact(&mut byte).unwrap();
            match byte[0] {
                0 => return String::from_utf8(frame).unwrap(),
                b'\n' if frame.is_empty() => {}
                byte => frame.push(byte),
            }
        }
    }
}

#[test]
fn a_stomp_client_lives_by_what_the_application_says() {
    let mut application = Application::start(answers);
    let server = server(&application);
    let mut bo = Stomp::connected(server.stomp);
    let asked = application.wait_for("/connect", 1);
    assert_eq!((&asked.body["name"], &asked.body["version"]), (&json!("stomp"), &json!("1.2")));
    assert_eq!(asked.header("cookie"), Some("flavour=oat"), "what CONNECT says is passed on");
    bo.send("SUBSCRIBE\nid:1\ndestination:/topic/hall:a\nreceipt:r1\n\n");
    assert!(bo.next().starts_with("RECEIPT\n"));
    bo.send("SEND\ndestination:/topic/hall:a\n\nhello");
    let heard = bo.next();
    assert!(heard.ends_with(r#"{"text":"changed"}"#), "{heard}");
    assert_eq!(application.wait_for("/publish", 1).body["b64data"], "aGVsbG8=");

    bo.send("SUBSCRIBE\nid:2\ndestination:/temp-queue/answers\n\n");
    bo.send(
        "SEND\ndestination:/app/who/am/i\nreply-to:/temp-queue/answers\ncorrelation-id:7\n\n{}",
    );
    let answer = bo.next();
    let (head, body) = answer.split_once("\n\n").unwrap();
    let body: Value = serde_json::from_str(body).unwrap();
    assert!(head.contains("correlation-id:7"), "{head}");
    application.wait_for("/refresh", 1);
    application.wait_for("/sub_refresh", 1);
    bo.send("SEND\ndestination:/topic/hall:a\n\nstill here");
    assert!(bo.next().ends_with(r#"{"text":"changed"}"#), "both went on after they had run out");
    assert_eq!((&body["method"], &body["user"]), (&json!("who/am/i"), &json!("bo")));

    let mut other = Stomp::connected(server.stomp);
    other.send("SUBSCRIBE\nid:1\ndestination:/topic/hall:closed\n\n");
    let error = other.next();
    assert!(error.contains("code:forbidden") && error.contains("not this room"), "{error}");

    application.stop();
    bo.send("SEND\ndestination:/app/who\n\n{}");
    let error = bo.next();
    assert!(error.contains("code:unavailable"), "{error}");
    assert!(error.contains("retry-after-ms:"), "{error}");
    application.resume();
    let told = [1, 2].map(|count| application.wait_for("/disconnected", count).body);
    assert!(told.iter().all(|each| each["user"] == "bo"), "{told:?}");
    Stomp::connected(server.stomp);
}
