//! Applications that are down, slow, wrong or hostile: a temporary error in time, and nobody else notices.

use std::time::Duration;

use bytes::Bytes;
use naru_backend::{BackendError, BackendOptions, Event, HttpBackend};
use naru_domain::ports::Backend;
use naru_outbound::AddressGuard;
use naru_testkit::http_stub::{Act, Stub, answer, ok};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::world::{ann, asking, assert_counted, backend, limited, options, outcome, unavailable};

async fn call(backend: &HttpBackend) -> Result<Bytes, naru_domain::ports::Refusal> {
    backend.rpc(&ann(), "add", Bytes::new()).await
}

fn answered() -> Act {
    ok(r#"{"result": {"data": 1}}"#)
}

#[tokio::test]
async fn whatever_is_wrong_with_an_answer_is_a_temporary_error() {
    let long = ok(&" ".repeat(70_000));
    let announced = Act::Send(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n ".to_vec());
    let cut = Act::Send(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"resu".to_vec());
    let packed = answer("200 OK", "content-encoding: gzip\r\n", b"\x1f\x8b\x08\x00bomb");
    let elsewhere = answer("307 Temporary Redirect", "location: http://169.254.169.254/\r\n", b"");
    for (act, outcome_of_it) in [
        (ok("<html>"), "bad_answer"),
        (ok(""), "bad_answer"),
        (ok(r#"{"result": {"b64data": "?"}}"#), "bad_answer"),
        (ok(r#"{"error": {"code": 7}}"#), "bad_answer"),
        (answer("401 Unauthorized", "", b""), "failed"),
        (answer("404 Not Found", "", b"{}"), "failed"),
        (answer("500 Oops", "", b"{}"), "failed"),
        (elsewhere, "failed"),
        (packed, "failed"),
        (long, "failed"),
        (announced, "failed"),
        (Act::Endless, "failed"),
        (cut, "failed"),
        (Act::Send(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()), "failed"),
        (Act::Close, "failed"),
    ] {
        let stub = Stub::start(vec![act.clone()]).await;
        let small = BackendOptions { body_bytes_max: 65_536, ..options(&stub.url("/")) };
        let (backend, _) = backend(small);
        assert_eq!(call(&backend).await, Err(unavailable()), "{act:?}");
        assert_counted(&backend, &[&outcome("rpc", outcome_of_it, 1)]);
        assert_eq!(stub.seen().len(), 1, "a call is not repeated: {act:?}");
    }
}

#[tokio::test]
async fn an_answer_that_hangs_or_drips_is_given_up_in_time() {
    for act in [Act::Hang, Act::Drip] {
        let stub = Stub::start(vec![act.clone()]).await;
        let quick = limited(&stub.url("/"), Event::Rpc, Duration::from_millis(150));
        let (backend, _) = backend(quick);
        let started = Instant::now();
        assert_eq!(call(&backend).await, Err(unavailable()), "{act:?}");
        assert!(started.elapsed() >= Duration::from_millis(150));
        assert!(started.elapsed() < Duration::from_secs(10), "{act:?}");
        let timeout = r#"backend_calls[("event", "rpc"), ("end", "timeout")]=1"#;
        assert_counted(&backend, &[timeout, r#"backend_call_seconds[("event", "rpc")]=1"#]);
    }
}

#[tokio::test]
async fn a_question_is_asked_once_more_with_the_same_key() {
    let grant = ok(r#"{"result": {}}"#);
    for act in [answer("503 Service Unavailable", "", b""), Act::Close] {
        let stub = Stub::start(vec![act, grant.clone()]).await;
        let backend = asking(&stub.url("/"));
        assert!(backend.subscribe(&ann(), "chat:a", Bytes::new()).await.is_ok());
        let seen = stub.seen();
        assert_eq!(seen.len(), 2);
        let key = |at: usize| seen[at].header("idempotency-key").map(str::to_owned);
        assert!(key(0).is_some() && key(0) == key(1));
    }
    let twice = answer("503 Service Unavailable", "", b"");
    let stub = Stub::start(vec![twice]).await;
    let refused = asking(&stub.url("/")).refresh(&ann()).await;
    assert_eq!((refused, stub.seen().len()), (Err(unavailable()), 2));
}

#[tokio::test]
async fn a_question_is_not_asked_again_before_the_application_wants_it() {
    let later = answer("429 Too Many Requests", "retry-after: 60\r\n", b"");
    let stub = Stub::start(vec![later, ok(r#"{"result": {}}"#)]).await;
    assert_eq!(asking(&stub.url("/")).refresh(&ann()).await, Err(unavailable()));
    assert_eq!(stub.seen().len(), 1);
}

#[tokio::test]
async fn a_call_is_tried_again_only_where_no_connection_came_about() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", free.local_addr().unwrap());
    drop(free);
    let backend = asking(&url);
    assert_eq!(call(&backend).await, Err(unavailable()));
    let refused = r#"backend_calls[("event", "rpc"), ("end", "connect")]=2"#;
    assert_counted(&backend, &[refused, &outcome("rpc", "failed", 1)]);
}

#[tokio::test]
async fn calls_beyond_the_limit_fail_at_once_and_other_events_go_on() {
    let hung = Stub::start(vec![Act::Hang]).await;
    let well = Stub::start(vec![ok(r#"{"result": {}}"#)]).await;
    let mut narrow = limited(&well.url("/"), Event::Rpc, Duration::from_secs(20));
    narrow.endpoints[5].as_mut().unwrap().url = hung.url("/");
    let (backend, _) = backend(BackendOptions { in_flight_max: 3, ..narrow });
    let mut calls = JoinSet::new();
    for _ in 0..3 {
        let backend = backend.clone();
        calls.spawn(async move { call(&backend).await });
    }
    hung.wait_for(3).await;
    let started = Instant::now();
    assert_eq!(call(&backend).await, Err(unavailable()));
    assert!(backend.connect(&ann(), "", "", Bytes::new()).await.is_ok());
    assert!(backend.publish(&ann(), "chat:a", Bytes::new()).await.is_ok());
    assert!(started.elapsed() < Duration::from_secs(10), "sooner than the hung ones give up");
    let in_flight = r#"backend_in_flight[("event", "rpc")]=3"#;
    assert_counted(&backend, &[in_flight, &outcome("rpc", "busy", 1)]);
    calls.shutdown().await;
    assert_counted(&backend, &[r#"backend_in_flight[("event", "rpc")]=0"#]);
}

#[tokio::test]
async fn an_application_that_keeps_failing_is_left_alone_until_a_trial_succeeds() {
    let down = answer("500 Oops", "", b"");
    let stub = Stub::start([vec![down; 5], vec![answered()]].concat()).await;
    let mut patient = options(&stub.url("/"));
    patient.breaker.open_for = Duration::from_millis(300);
    let (backend, _) = backend(patient);
    for _ in 0..5 {
        assert_eq!(call(&backend).await, Err(unavailable()));
    }
    let open = r#"backend_breaker_state[("event", "rpc")]=2"#;
    assert_counted(&backend, &[open, r#"backend_breaker_openings[("event", "rpc")]=1"#]);
    assert_eq!(call(&backend).await, Err(unavailable()));
    assert_counted(&backend, &[&outcome("rpc", "open", 1)]);
    assert_eq!(stub.seen().len(), 5, "nobody asked it");
    let back = async {
        while call(&backend).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), back).await.expect("it is asked again");
    assert_eq!(call(&backend).await, Ok(Bytes::from_static(b"1")));
    assert_counted(&backend, &[r#"backend_breaker_state[("event", "rpc")]=0"#]);
}

#[tokio::test]
async fn an_application_that_was_away_is_used_again() {
    let stub = Stub::start(vec![answered()]).await;
    let (address, backend) = (stub.address(), asking(&stub.url("/")));
    assert!(call(&backend).await.is_ok());
    drop(stub);
    assert_eq!(call(&backend).await, Err(unavailable()));
    let _stub = Stub::at(address, vec![answered()]).await;
    assert!(call(&backend).await.is_ok());
}

#[tokio::test]
async fn an_inside_address_is_not_called_unless_it_is_allowed() {
    let stub = Stub::start(vec![answered()]).await;
    let guard = AddressGuard::public_only();
    let written = BackendOptions { guard: guard.clone(), ..options(&stub.url("/")) };
    assert!(matches!(written.check(), Err(BackendError::Endpoint { event: "connect", .. })));
    // A name passes that check and is stopped when it is resolved.
    let named = format!("http://localhost:{}/", stub.address().port());
    let (backend, _) = backend(BackendOptions { guard, ..options(&named) });
    assert_eq!(call(&backend).await, Err(unavailable()));
    let stopped = r#"backend_calls[("event", "rpc"), ("end", "address")]=1"#;
    assert_counted(&backend, &[stopped]);
    assert!(stub.seen().is_empty());
}

#[tokio::test]
async fn a_client_that_leaves_while_it_is_asked_about_leaves_nothing_behind() {
    let stub = Stub::start(vec![Act::Hang]).await;
    let backend = asking(&stub.url("/"));
    let asking = backend.clone();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { call(&asking).await });
    stub.wait_for(1).await;
    tasks.shutdown().await;
    let idle = r#"backend_in_flight[("event", "rpc")]=0"#;
    assert_counted(&backend, &[idle, r#"backend_breaker_state[("event", "rpc")]=0"#]);
}
