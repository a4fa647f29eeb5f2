//! What is asked, and what an application that behaves may answer.

use bytes::Bytes;
use naru_backend::{BackendOptions, Event};
use naru_domain::Timestamp;
use naru_domain::ports::{Backend, Caller, PublishVerdict, Refreshed, Refusal};
use naru_outbound::Secrets;
use naru_testkit::http_stub::{Seen, Stub, answer, ok};
use serde_json::{Value, json};

use crate::world::{NOW, ann, asking, assert_counted, backend, options, outcome, unavailable};

fn json_of(seen: &Seen) -> Value {
    serde_json::from_slice(&seen.body).expect("JSON")
}

#[tokio::test]
async fn a_call_is_signed_and_carries_its_key_and_the_headers_that_are_wanted() {
    let stub = Stub::start(vec![ok(r#"{"result": {"data": {"sum": 3}}}"#)]).await;
    let backend = asking(&stub.url("/rpc?key=hush"));
    let answered = backend.rpc(&ann(), "add", Bytes::from_static(br#"{"a":1}"#)).await;
    assert_eq!(answered, Ok(Bytes::from_static(br#"{"sum": 3}"#)));
    let [request] = &stub.seen()[..] else { panic!("not one request") };
    assert!(request.head.starts_with("POST /rpc?key=hush HTTP/1.1\r\n"));
    assert_eq!(
        json_of(request),
        json!({
            "client": "c-1", "transport": "websocket", "protocol": "json", "encoding": "json",
            "user": "ann", "method": "add", "data": {"a": 1},
        })
    );
    let signature = request.header("naru-signature").expect("a signature");
    let age = std::time::Duration::from_secs(1);
    assert!(Secrets::new("testsecret").verify(signature, &request.body, NOW, age));
    let delivery = request.header("naru-delivery").expect("a delivery");
    assert_eq!(request.header("idempotency-key"), Some(&*format!("naru-{delivery}")));
    assert_eq!(request.header("content-type"), Some("application/json"));
    assert_eq!(request.header("cookie"), Some("session=hush"));
    assert_eq!(request.header("x-other"), None, "nobody wants it");
    assert_counted(&backend, &[&outcome("rpc", "result", 1)]);
}

#[tokio::test]
async fn without_a_secret_nothing_is_signed() {
    let stub = Stub::start(vec![ok("{}")]).await;
    let unsigned = BackendOptions { secrets: None, ..options(&stub.url("/")) };
    let (asking, _) = backend(unsigned);
    assert_eq!(asking.rpc(&ann(), "", Bytes::new()).await, Ok(Bytes::new()));
    assert_eq!(stub.seen()[0].header("naru-signature"), None);
}

#[tokio::test]
async fn each_event_asks_with_its_own_fields() {
    let stub = Stub::start(vec![ok(r#"{"result": {}}"#)]).await;
    let wordy = BackendOptions { includes_meta: true, ..options(&stub.url("/")) };
    let (backend, _) = backend(wordy);
    let caller = Caller { protocol: "stomp", transport: "tcp", ..ann() };
    let text = Bytes::from_static(b"text");
    assert!(backend.connect(&caller, "stomp", "1.2", text.clone()).await.is_ok());
    assert!(backend.refresh(&caller).await.is_ok());
    assert!(backend.subscribe(&caller, "chat:a", Bytes::new()).await.is_ok());
    assert!(backend.sub_refresh(&caller, "chat:a").await.is_ok());
    assert!(backend.publish(&caller, "chat:a", text.clone()).await.is_ok());
    assert!(backend.message(&caller, text).await.is_ok());
    let seen: Vec<Value> = stub.seen().iter().map(json_of).collect();
    let of = |encoding: &str, more: Value| {
        let mut all = json!({
            "client": "c-1", "transport": "tcp", "protocol": "stomp", "encoding": encoding,
            "meta": {"plan": 1},
        });
        let fields = all.as_object_mut().expect("an object");
        fields.extend(more.as_object().expect("an object").clone());
        all
    };
    let expected = [
        of("binary", json!({"name": "stomp", "version": "1.2", "b64data": "dGV4dA=="})),
        of("json", json!({"user": "ann"})),
        of("json", json!({"user": "ann", "channel": "chat:a"})),
        of("json", json!({"user": "ann", "channel": "chat:a"})),
        of("binary", json!({"user": "ann", "channel": "chat:a", "b64data": "dGV4dA=="})),
        of("binary", json!({"user": "ann", "b64data": "dGV4dA=="})),
    ];
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn only_what_has_an_endpoint_is_asked() {
    let stub = Stub::start(vec![ok("{}")]).await;
    let mut some = options(&stub.url("/"));
    some.endpoints = [const { None }; 8];
    let endpoint = naru_backend::EndpointOptions {
        url: stub.url("/"),
        timeout: std::time::Duration::from_secs(20),
    };
    let (backend, _) = backend(some.with_endpoint(Event::Refresh, endpoint));
    let events = backend.events();
    assert!(events.refresh && !events.connect && !events.rpc && !events.message);
    assert!(!events.disconnected && backend.wants_header("cookie"));
    let refused = backend.rpc(&ann(), "add", Bytes::new()).await;
    assert!(matches!(refused, Err(Refusal::Error { code: 108, temporary: false, .. })));
    assert!(stub.seen().is_empty());
}

#[tokio::test]
async fn the_application_may_refuse_with_a_code_of_its_own() {
    let no = r#"{"error": {"code": 403, "message": "not you", "temporary": false}}"#;
    let bye = r#"{"disconnect": {"code": 4500, "reason": "banned"}}"#;
    let stub = Stub::start(vec![ok(no), ok(bye)]).await;
    let backend = asking(&stub.url("/"));
    let refused = backend.subscribe(&ann(), "chat:a", Bytes::new()).await;
    let error = Refusal::Error { code: 403, message: "not you".to_owned(), temporary: false };
    assert_eq!(refused, Err(error));
    let refused = backend.publish(&ann(), "chat:a", Bytes::new()).await;
    let end = Refusal::Disconnect { code: 4500, reason: "banned".to_owned() };
    assert_eq!(refused, Err(end));
    let expected = [outcome("subscribe", "error", 1), outcome("publish", "disconnect", 1)];
    assert_counted(&backend, &expected.each_ref().map(String::as_str));
}

#[tokio::test]
async fn an_answer_that_says_nothing_grants_nothing() {
    let stub = Stub::start(vec![ok("{}")]).await;
    let backend = asking(&stub.url("/"));
    let code = |refusal: Refusal| match refusal {
        Refusal::Error { code, temporary: false, .. } => code,
        other => panic!("{other:?}"),
    };
    let connect = backend.connect(&ann(), "", "", Bytes::new()).await;
    assert_eq!(connect.map_err(code).expect_err("nobody"), 101);
    let subscribe = backend.subscribe(&ann(), "chat:a", Bytes::new()).await;
    assert_eq!(subscribe.map_err(code).expect_err("no right"), 103);
    let publish = backend.publish(&ann(), "chat:a", Bytes::new()).await;
    assert_eq!(publish.map_err(code).expect_err("no right"), 103);
    let over = Refreshed { expired: true, ..Refreshed::default() };
    assert_eq!(backend.refresh(&ann()).await, Ok(over.clone()));
    assert_eq!(backend.sub_refresh(&ann(), "chat:a").await, Ok(over));
    assert_eq!(backend.rpc(&ann(), "", Bytes::new()).await, Ok(Bytes::new()));
    assert_eq!(backend.message(&ann(), Bytes::new()).await, Ok(()));
}

#[tokio::test]
async fn a_message_needs_no_body_in_its_answer() {
    let stub = Stub::start(vec![answer("204 No Content", "", b"")]).await;
    assert_eq!(asking(&stub.url("/")).message(&ann(), Bytes::new()).await, Ok(()));
}

#[tokio::test]
async fn a_client_that_speaks_json_gets_no_bytes_that_it_cannot_read() {
    let bytes = r#"{"result": {"b64data": "/w=="}}"#;
    let json = r#"{"result": {"b64data": "eyJhIjoxfQ=="}}"#;
    let stub = Stub::start(vec![ok(bytes), ok(json), ok(bytes), ok(bytes)]).await;
    let backend = asking(&stub.url("/"));
    let call = async |caller: Caller| backend.rpc(&caller, "", Bytes::new()).await;
    assert_eq!(call(ann()).await, Err(unavailable()));
    assert_eq!(call(ann()).await, Ok(Bytes::from_static(br#"{"a":1}"#)));
    let binary = Caller { protocol: "protobuf", ..ann() };
    assert_eq!(call(binary).await, Ok(Bytes::from_static(b"\xff")));
    let stored = backend.publish(&ann(), "chat:a", Bytes::new()).await;
    let bytes = Some(Bytes::from_static(b"\xff"));
    assert_eq!(stored, Ok(PublishVerdict { data: bytes, ..PublishVerdict::default() }));
    assert_counted(&backend, &[&outcome("rpc", "bad_answer", 1)]);
}

#[tokio::test]
async fn a_connection_is_known_by_what_the_application_says() {
    let known = r#"{"result": {"user": "ann", "expire_at": 1767225660, "channels": ["news"]}}"#;
    let stub = Stub::start(vec![ok(known)]).await;
    let credentials = asking(&stub.url("/")).connect(&ann(), "js", "1", Bytes::new()).await;
    let credentials = credentials.expect("somebody");
    assert_eq!(credentials.user, "ann");
    assert_eq!(credentials.expires_at, Some(Timestamp(1_767_225_660_000)));
    assert_eq!(credentials.channels.len(), 1);
}
