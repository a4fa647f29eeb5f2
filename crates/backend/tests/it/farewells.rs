//! Ends of connections: told, told again, told at the end, and dropped where that is all that is left.

use std::time::Duration;

use naru_backend::{BackendOptions, HttpBackend};
use naru_domain::ports::Backend;
use naru_testkit::http_stub::{Act, Stub, answer};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::world::{ann, assert_counted, backend, options};

const SOON: Duration = Duration::from_secs(20);

struct Telling {
    backend: HttpBackend,
    stop: CancellationToken,
    running: JoinSet<()>,
}

impl Telling {
    fn with(options: BackendOptions) -> Telling {
        let (backend, farewells) = backend(options);
        let (stop, mut running) = (CancellationToken::new(), JoinSet::new());
        running.spawn(farewells.run(stop.clone()));
        Telling { backend, stop, running }
    }

    async fn end(&mut self) {
        self.stop.cancel();
        timeout(SOON, self.running.join_next())
            .await
            .expect("it ends")
            .expect("once")
            .expect("no panic");
    }
}

fn heard() -> Act {
    answer("204 No Content", "", b"")
}

#[tokio::test]
async fn the_application_is_told_who_left_and_why() {
    let stub = Stub::start(vec![heard()]).await;
    let mut telling = Telling::with(options(&stub.url("/gone")));
    telling.backend.disconnected(&ann(), "peer_closed");
    let seen = timeout(SOON, stub.wait_for(1)).await.expect("it is told");
    let told: Value = serde_json::from_slice(&seen[0].body).unwrap();
    assert_eq!(
        told,
        json!({
            "client": "c-1", "transport": "websocket", "protocol": "json", "encoding": "json",
            "user": "ann", "reason": "peer_closed",
        })
    );
    assert_eq!(seen[0].header("cookie"), Some("session=hush"));
    telling.end().await;
    assert_counted(&telling.backend, &["backend_farewells_waiting[]=0"]);
    assert_counted(&telling.backend, &["backend_farewells_dropped[]=0"]);
}

#[tokio::test]
async fn an_end_that_was_not_heard_is_told_again() {
    let stub = Stub::start(vec![answer("503 Oops", "", b""), Act::Close, heard()]).await;
    let mut telling = Telling::with(options(&stub.url("/")));
    telling.backend.disconnected(&ann(), "idle");
    let seen = timeout(SOON, stub.wait_for(3)).await.expect("it is told again");
    let key = |at: usize| seen[at].header("idempotency-key").map(str::to_owned);
    assert!(key(0).is_some() && key(0) == key(1) && key(1) == key(2));
    telling.end().await;
    assert_counted(&telling.backend, &["backend_farewells_dropped[]=0"]);
}

#[tokio::test]
async fn an_end_that_the_application_refuses_to_hear_is_dropped() {
    let stub = Stub::start(vec![answer("404 Not Found", "", b"")]).await;
    let mut telling = Telling::with(options(&stub.url("/")));
    telling.backend.disconnected(&ann(), "idle");
    timeout(SOON, stub.wait_for(1)).await.expect("it is told");
    telling.end().await;
    assert_counted(&telling.backend, &["backend_farewells_dropped[]=1"]);
}

#[tokio::test]
async fn ends_that_have_no_room_are_dropped_and_nobody_waits() {
    let stub = Stub::start(vec![heard()]).await;
    let (backend, _nobody_tells) =
        backend(BackendOptions { farewells_max: 2, ..options(&stub.url("/")) });
    for _ in 0..5 {
        backend.disconnected(&ann(), "idle");
    }
    let expected = ["backend_farewells_waiting[]=2", "backend_farewells_dropped[]=3"];
    assert_counted(&backend, &expected);
}

#[tokio::test]
async fn what_waits_at_the_end_is_told_before_it_ends() {
    let stub = Stub::start(vec![heard()]).await;
    let (backend, farewells) = backend(options(&stub.url("/")));
    for _ in 0..30 {
        backend.disconnected(&ann(), "shutdown");
    }
    let stop = CancellationToken::new();
    stop.cancel();
    timeout(SOON, farewells.run(stop)).await.expect("it ends");
    assert_eq!(stub.seen().len(), 30);
    assert_counted(&backend, &["backend_farewells_waiting[]=0", "backend_farewells_dropped[]=0"]);
}

#[tokio::test]
async fn an_application_that_hangs_holds_up_the_end_for_a_bounded_time() {
    let stub = Stub::start(vec![Act::Hang]).await;
    let bounded =
        BackendOptions { flush_timeout: Duration::from_millis(100), ..options(&stub.url("/")) };
    let (backend, farewells) = backend(bounded);
    for _ in 0..12 {
        backend.disconnected(&ann(), "shutdown");
    }
    let stop = CancellationToken::new();
    stop.cancel();
    timeout(Duration::from_secs(10), farewells.run(stop)).await.expect("it does not wait for it");
    assert_counted(&backend, &["backend_farewells_dropped[]=12"]);
}
