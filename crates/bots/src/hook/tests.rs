//! Faults of targets, over real sockets on 127.0.0.1. Every limit is short, so that nothing waits long.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use naru_domain::clock::{Clock, ManualClock};
use naru_domain::metrics::{Histogram, MetricSink, MetricSource};
use naru_domain::{MediaKind, MessageId, ReplyBody, Timestamp};
use naru_outbound::{AddressGuard, BreakerState, CallError, CallLimits, Secrets};
use naru_testkit::http_stub::{Act, Seen, Stub, answer, ok};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::*;
use crate::media::MediaFetch;

const NOW: Timestamp = Timestamp(1_767_225_600_000);

fn hello() -> Act {
    ok(r#"{"replies":[{"text":"hello"}]}"#)
}

fn options(url: &str) -> WebhookOptions {
    // Whoever is first installs it; a second time is an error that says nothing.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let mut options = WebhookOptions::new("stub", url, Secrets::new("testsecret"));
    options.guard = AddressGuard::allowing(&["127.0.0.1"]).expect("a readable list");
    // Long enough for a busy machine; tests about slowness set what they need.
    options.call.total_timeout = Duration::from_secs(5);
    options.retry.pause = Duration::from_millis(2);
    options.retry.pause_max = Duration::from_millis(20);
    options.message_timeout = Duration::from_secs(20);
    options
}

fn webhook(options: WebhookOptions) -> Webhook {
    Webhook::new(options, Arc::new(ManualClock::new(NOW))).expect("usable options")
}

fn message(id: i64) -> HookMessage<'static> {
    HookMessage {
        id: MessageId(id),
        bot: "demo-bot",
        device: "0123456789abcdef",
        room_name: "점심방",
        channel_id: "184",
        sender: "지우",
        user_hash: None,
        text: "안녕",
        is_group_chat: true,
        is_mention: false,
        log_id: None,
        received_at: NOW,
    }
}

/// Calls a stub that acts so; returns what came of it and what the stub saw.
async fn call(acts: Vec<Act>) -> (Result<Vec<ReplyBody>, HookFailure>, Vec<Seen>) {
    let stub = Stub::start(acts).await;
    let result = webhook(options(&stub.url("/hook?key=hush"))).call(&message(7), 0).await;
    let seen = stub.seen();
    (result, seen)
}

fn text(text: &str) -> Vec<ReplyBody> {
    vec![ReplyBody::Text(text.into())]
}

fn failure(result: Result<Vec<ReplyBody>, HookFailure>) -> String {
    result.expect_err("a failure").to_string()
}

#[tokio::test]
async fn a_call_is_signed_and_carries_its_delivery_id() {
    let (result, seen) = call(vec![hello()]).await;
    assert_eq!(result, Ok(text("hello")));
    let [request] = &seen[..] else { panic!("{} requests", seen.len()) };
    assert!(request.head.starts_with("POST /hook?key=hush HTTP/1.1\r\n"));
    assert_eq!(request.header("content-type"), Some("application/json"));
    assert_eq!(request.header("naru-delivery"), Some("7"));
    assert_eq!(request.header("idempotency-key"), Some("naru-7"));
    assert_eq!(request.header("accept-encoding"), Some("identity"));
    let trace = request.header("traceparent").expect("a trace");
    assert_eq!(trace.split('-').map(str::len).collect::<Vec<_>>(), [2, 32, 16, 2]);
    let signature = request.header("naru-signature").expect("a signature");
    let age = Duration::from_secs(1);
    assert!(Secrets::new("testsecret").verify(signature, &request.body, NOW, age));
}

#[tokio::test]
async fn silence_is_an_empty_answer() {
    for act in [answer("204 No Content", "", b""), ok(""), ok("{}"), ok(r#"{"replies":[]}"#)] {
        let (result, _) = call(vec![act]).await;
        assert_eq!(result, Ok(vec![]));
    }
}

#[tokio::test]
async fn a_5xx_is_called_again_with_the_same_delivery_id() {
    let busy = answer("503 Service Unavailable", "", b"busy");
    let (result, seen) = call(vec![busy.clone(), busy, hello()]).await;
    assert_eq!(result, Ok(text("hello")));
    assert_eq!(seen.len(), 3);
    for (attempt, request) in (1..).zip(&seen) {
        assert_eq!(request.header("naru-delivery"), Some("7"));
        assert_eq!(request.header("idempotency-key"), Some("naru-7"));
        let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
        assert_eq!(body["attempt"], attempt);
    }
    let trace = |seen: &Seen| seen.header("traceparent").map(|trace| trace[..35].to_owned());
    assert_eq!(trace(&seen[0]), trace(&seen[2]));
}

/// A wall clock that is an hour ahead, right, and an hour behind in turn.
#[derive(Debug, Default)]
struct JumpingClock(AtomicUsize);

impl Clock for JumpingClock {
    fn now(&self) -> Timestamp {
        let hour = Duration::from_secs(3_600);
        match self.0.fetch_add(1, SeqCst) % 3 {
            0 => NOW.plus(hour),
            1 => NOW,
            _ => NOW.minus(hour),
        }
    }
}

#[tokio::test]
async fn a_wall_clock_that_jumps_changes_neither_pauses_nor_deadlines() {
    let busy = answer("503 Service Unavailable", "", b"busy");
    let stub = Stub::start(vec![busy.clone(), busy, hello()]).await;
    let webhook =
        Webhook::new(options(&stub.url("/hook?key=hush")), Arc::new(JumpingClock::default()))
            .unwrap();
    let called = timeout(Duration::from_secs(10), webhook.call(&message(7), 0)).await;
    assert_eq!(called, Ok(Ok(text("hello"))));
    let stamps: Vec<String> = stub
        .seen()
        .iter()
        .filter_map(|seen| Some(seen.header("naru-signature")?.split_once(',')?.0.to_owned()))
        .collect();
    assert_eq!(stamps.len(), 3);
    assert!(stamps.windows(2).any(|pair| pair[0] != pair[1]), "the clock did jump: {stamps:?}");
    assert_eq!(webhook.view().breaker, BreakerState::Closed);
}

#[tokio::test]
async fn after_four_attempts_the_message_is_dead_with_the_reason() {
    let (result, seen) = call(vec![answer("500 Internal Server Error", "", b"")]).await;
    assert_eq!(failure(result), "webhook stub: status 500 (4 of 4 attempts)");
    assert_eq!(seen.len(), 4);
}

#[tokio::test]
async fn another_4xx_is_final_at_once() {
    for status in ["400 Bad Request", "401 Unauthorized", "404 Not Found", "410 Gone"] {
        let (result, seen) = call(vec![answer(status, "", b""), hello()]).await;
        assert!(failure(result).contains(&status[..3]));
        assert_eq!(seen.len(), 1, "{status}");
    }
    for status in ["408 Request Timeout", "425 Too Early", "429 Too Many Requests"] {
        let (result, _) = call(vec![answer(status, "", b""), hello()]).await;
        assert_eq!(result, Ok(text("hello")), "{status}");
    }
}

#[tokio::test]
async fn retry_after_is_waited_for() {
    let stub =
        Stub::start(vec![answer("429 Too Many Requests", "retry-after: 1\r\n", b""), hello()])
            .await;
    let mut options = options(&stub.url("/hook?key=hush"));
    options.retry.pause_max = Duration::from_millis(150); // Caps the second that was asked for.
    let started = Instant::now();
    assert_eq!(webhook(options).call(&message(7), 0).await, Ok(text("hello")));
    assert!(started.elapsed() >= Duration::from_millis(150));
}

#[tokio::test]
async fn a_target_that_hangs_or_drips_is_cut_at_the_deadline() {
    for act in [Act::Hang, Act::Drip] {
        let stub = Stub::start(vec![act.clone()]).await;
        let mut options = options(&stub.url("/hook?key=hush"));
        options.call.total_timeout = Duration::from_millis(150);
        options.retry.attempts_max = 2;
        let started = Instant::now();
        let failed = failure(webhook(options).call(&message(7), 0).await);
        assert_eq!(failed, "webhook stub: no answer within 150 ms (2 of 2 attempts)", "{act:?}");
        assert!(started.elapsed() >= Duration::from_millis(300));
        assert!(started.elapsed() < Duration::from_secs(5));
    }
}

#[tokio::test]
async fn a_connection_that_breaks_is_tried_again() {
    let cut = Act::Send(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"repl".to_vec());
    let garbage = Act::Send(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec());
    for act in [cut, garbage, Act::Close] {
        let (result, seen) = call(vec![act.clone(), hello()]).await;
        assert_eq!(result, Ok(text("hello")), "{act:?}");
        assert_eq!(seen.len(), 2);
    }
}

#[tokio::test]
async fn nobody_listening_is_tried_again_and_then_dead() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", free.local_addr().unwrap());
    drop(free);
    let failed = failure(webhook(options(&url)).call(&message(7), 0).await);
    assert!(failed.contains("no connection") && failed.contains("4 of 4"), "{failed}");
}

#[tokio::test]
async fn an_endless_or_too_long_answer_is_cut_at_the_limit() {
    let announced = Act::Send(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n ".to_vec());
    for act in [Act::Endless, announced, ok(&" ".repeat(70_000))] {
        let stub = Stub::start(vec![act]).await;
        let mut options = options(&stub.url("/hook?key=hush"));
        options.call.body_bytes_max = 65_536;
        let failed = failure(webhook(options).call(&message(7), 0).await);
        assert!(failed.contains("longer than 65536 bytes (1 of 4"), "{failed}");
    }
}

#[tokio::test]
async fn a_compressed_answer_is_refused_and_never_unpacked() {
    let bomb = answer("200 OK", "content-encoding: gzip\r\n", b"\x1f\x8b\x08\x00bomb");
    let (result, seen) = call(vec![bomb, hello()]).await;
    assert!(failure(result).contains("encoded as gzip"));
    assert_eq!(seen.len(), 1);
}

#[tokio::test]
async fn wrong_json_and_too_many_replies_are_final_with_what_is_wrong() {
    let many = format!(r#"{{"replies":[{}]}}"#, vec![r#"{"text":"x"}"#; 21].join(","));
    for (body, expected) in [
        ("<html>oops</html>", "line 1 column 1"),
        (r#"{"replies":[{"text":1}]}"#, "invalid type"),
        (&many, "21 replies"),
    ] {
        let (result, seen) = call(vec![ok(body), hello()]).await;
        assert!(failure(result).contains(expected), "{expected}");
        assert_eq!(seen.len(), 1);
    }
}

#[tokio::test]
async fn a_redirect_is_an_error_that_names_the_host_only() {
    let to = "location: https://example.org/path?secret=1\r\n";
    let (result, seen) = call(vec![answer("307 Temporary Redirect", to, b""), hello()]).await;
    let failed = failure(result);
    assert!(failed.contains("redirects to example.org,"), "{failed}");
    assert!(!failed.contains("secret"));
    assert_eq!(seen.len(), 1);
}

#[tokio::test]
async fn a_redirect_to_an_inside_address_is_refused_even_where_redirects_are_allowed() {
    let inside = Stub::start(vec![hello()]).await;
    for target in
        ["http://127.0.0.2:9/", "http://169.254.169.254/latest", "http://[::1]/", "file:///"]
    {
        let head = format!("location: {target}\r\n");
        let stub = Stub::start(vec![answer("307 Temporary Redirect", &head, b"")]).await;
        let mut options = options(&stub.url("/hook?key=hush"));
        options.call.redirects_max = 3;
        let failed = failure(webhook(options).call(&message(7), 0).await);
        assert!(failed.contains("1 of 4"), "{failed}");
    }
    let head = format!("location: {}\r\n", inside.url("/"));
    let allowed = Stub::start(vec![answer("307 Temporary Redirect", &head, b"")]).await;
    let mut options = options(&allowed.url("/"));
    options.call.redirects_max = 3;
    assert_eq!(webhook(options).call(&message(7), 0).await, Ok(text("hello")));
    assert!(inside.seen()[0].head.starts_with("POST "));
}

#[tokio::test]
async fn a_target_on_an_inside_address_is_refused_unless_allowed() {
    let stub = Stub::start(vec![hello()]).await;
    let mut options = options(&stub.url("/hook?key=hush"));
    options.guard = AddressGuard::public_only();
    let refused = Webhook::new(options.clone(), Arc::new(ManualClock::new(NOW)));
    assert!(matches!(refused, Err(HookError::Url { .. })));
    // A name passes the check of the url and is stopped when it is resolved.
    let port = stub.address().port();
    options.url = format!("http://localhost:{port}/");
    let failed = failure(webhook(options).call(&message(7), 0).await);
    assert!(failed.contains("loopback") && failed.contains("1 of 4"), "{failed}");
    assert!(stub.seen().is_empty());
}

#[tokio::test]
async fn a_hung_target_does_not_delay_another_one() {
    let hung = Stub::start(vec![Act::Hang]).await;
    let well = Stub::start(vec![hello()]).await;
    let mut bounded = options(&hung.url("/"));
    bounded.in_flight_max = 5;
    let hung_hook = Arc::new(webhook(bounded));
    let well_hook = webhook(options(&well.url("/")));
    let mut calls = JoinSet::new();
    for id in 0..20 {
        let hook = Arc::clone(&hung_hook);
        calls.spawn(async move { hook.call(&message(id), 0).await });
    }
    hung.wait_for(5).await;
    let started = Instant::now();
    for id in 0..20 {
        assert_eq!(well_hook.call(&message(id), 0).await, Ok(text("hello")));
    }
    assert!(started.elapsed() < Duration::from_secs(4), "sooner than the hung ones give up");
    assert_eq!(hung.seen().len(), 5, "no more than the bulkhead lets through");
    let view = hung_hook.view();
    assert_eq!((view.in_flight, view.waiting), (5, 15));
    calls.shutdown().await;
    let view = hung_hook.view();
    assert_eq!((view.in_flight, view.waiting), (0, 0), "dropped calls leave nothing behind");
}

#[tokio::test]
async fn messages_wait_while_the_breaker_is_open_and_none_is_lost() {
    let down = answer("503 Service Unavailable", "", b"");
    let stub = Stub::start([vec![down; 5], vec![hello()]].concat()).await;
    let mut options = options(&stub.url("/hook?key=hush"));
    options.breaker.open_for = Duration::from_millis(100);
    let hook = Arc::new(webhook(options));
    let mut calls = JoinSet::new();
    for id in 0..20 {
        let hook = Arc::clone(&hook);
        calls.spawn(async move { hook.call(&message(id), 0).await });
    }
    for result in calls.join_all().await {
        assert_eq!(result, Ok(text("hello")));
    }
    assert!(hook.target().openings() >= 1, "five failures in a row open it");
    let view = hook.view();
    assert_eq!(view.breaker, BreakerState::Closed);
    assert_eq!((view.waiting, view.dead), (0, 0));
    let (_, reason) = view.last_error.expect("an error");
    assert_eq!(reason, "status 503");
    assert!(!view.url.contains("hush"));
}

#[tokio::test]
async fn a_message_whose_time_is_up_ends_with_what_it_waited_for() {
    let stub = Stub::start(vec![answer("503 Service Unavailable", "", b"")]).await;
    let mut options = options(&stub.url("/hook?key=hush"));
    options.breaker.open_for = Duration::from_secs(60);
    options.breaker.failures_in_a_row = 2;
    let failed = failure(webhook(options).call(&message(7), 0).await);
    assert_eq!(
        failed,
        "webhook stub: time was up while waiting (its circuit breaker is open; last: status 503) \
         after 2 attempts"
    );
}

#[tokio::test]
async fn under_overload_retries_stay_within_their_budget() {
    let stub = Stub::start(vec![answer("503 Service Unavailable", "", b"")]).await;
    let mut options = options(&stub.url("/hook?key=hush"));
    options.breaker.failures_in_a_row = u32::MAX;
    options.breaker.failure_ratio = 2.0;
    options.call.total_timeout = Duration::from_millis(500);
    options.message_timeout = Duration::from_millis(800);
    let hook = Arc::new(webhook(options));
    let mut calls = JoinSet::new();
    for id in 0..100 {
        let hook = Arc::clone(&hook);
        calls.spawn(async move { hook.call(&message(id), 0).await });
    }
    calls.join_all().await;
    let view = hook.view();
    assert!(view.retries <= 21, "{} retries for 100 messages", view.retries);
    // A message that never got its turn was not called at all.
    assert!(view.calls <= 100 + view.retries);
}

#[tokio::test]
async fn a_reset_breaker_lets_calls_through_at_once() {
    let down = answer("503 Service Unavailable", "", b"");
    let stub = Stub::start([vec![down; 4], vec![hello()]].concat()).await;
    let mut options = options(&stub.url("/hook?key=hush"));
    options.breaker.failures_in_a_row = 4;
    options.breaker.open_for = Duration::from_secs(60);
    let hook = webhook(options);
    assert!(hook.call(&message(1), 0).await.is_err());
    assert_eq!(hook.view().breaker, BreakerState::Open);
    hook.reset_breaker();
    assert_eq!(hook.call(&message(2), 0).await, Ok(text("hello")));
}

#[tokio::test]
async fn a_dropped_trial_does_not_keep_the_breaker_half_open() {
    let down = answer("503 Service Unavailable", "", b"");
    let stub = Stub::start([vec![down; 4], vec![Act::Hang], vec![hello()]].concat()).await;
    let mut options = options(&stub.url("/hook?key=hush"));
    options.breaker.failures_in_a_row = 4;
    options.breaker.open_for = Duration::from_millis(1);
    let hook = webhook(options);
    assert!(hook.call(&message(1), 0).await.is_err());
    let dropped = timeout(Duration::from_millis(100), hook.call(&message(2), 0)).await;
    assert!(dropped.is_err());
    assert_eq!(hook.call(&message(3), 0).await, Ok(text("hello")));
}

#[tokio::test]
async fn media_are_fetched_with_redirects_checked_and_a_cap() {
    let file = Stub::start(vec![answer("200 OK", "", b"bytes")]).await;
    let head = format!("location: {}\r\n", file.url("/"));
    let moved = Stub::start(vec![answer("302 Found", &head, b"")]).await;
    let inside = "location: http://10.0.0.1/\r\n";
    let bad = Stub::start(vec![answer("302 Found", inside, b"")]).await;
    let huge = Stub::start(vec![Act::Endless]).await;
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let guard = AddressGuard::allowing(&["127.0.0.1"]).unwrap();
    let limits = CallLimits { body_bytes_max: 100_000, ..MediaFetcher::default_limits() };
    let fetcher = MediaFetcher::new(guard, limits).unwrap();
    assert_eq!(fetcher.fetch_media(&moved.url("/")).await.unwrap(), "bytes");
    assert!(file.seen()[0].header("naru-signature").is_none());
    assert!(matches!(fetcher.fetch_media(&bad.url("/")).await, Err(CallError::Address(_))));
    assert!(matches!(fetcher.fetch_media(&huge.url("/")).await, Err(CallError::TooLarge { .. })));
    let error = fetcher.fetch("http://192.168.0.1/x.png").await.unwrap_err();
    assert!(!error.may_retry && error.reason.contains("private"), "{error}");
}

#[tokio::test]
async fn a_webhook_answers_as_a_handler_with_media() {
    use crate::handler::{Handler, Incoming};
    let body = r#"{"replies":[{"text":"a"},{"images":[{"url":"https://x.example/1.png"}]}]}"#;
    let stub = Stub::start(vec![ok(body)]).await;
    let hook = webhook(options(&stub.url("/hook?key=hush")));
    let incoming = Incoming {
        message: Arc::new(record()),
        bot: naru_domain::BotName::parse("demo-bot").unwrap(),
        device: naru_domain::DeviceId::parse("0123456789abcdef").unwrap(),
        attempt: 3,
    };
    assert!(hook.immediate(&incoming).is_none());
    let outcome = hook.handle(incoming).await.expect("an outcome");
    assert_eq!(outcome.replies[0], ReplyBody::Text("a".into()));
    assert!(matches!(outcome.replies[1], ReplyBody::Media { kind: MediaKind::Image, .. }));
    let sent: serde_json::Value = serde_json::from_slice(&stub.seen()[0].body).unwrap();
    assert_eq!(sent["attempt"], 3);
    assert_eq!(sent["text"], "안녕");
}

fn record() -> naru_domain::work::MessageRecord {
    naru_domain::work::MessageRecord {
        id: MessageId(9),
        device: naru_domain::DeviceKey(1),
        room: None,
        room_name: "점심방".into(),
        channel_id: "184".into(),
        log_id: None,
        sender: "지우".into(),
        user_hash: None,
        text: "안녕".into(),
        is_group_chat: true,
        is_mention: false,
        received_at: NOW,
        state: naru_domain::work::MessageState::Pending,
        failure: "".into(),
    }
}

#[test]
fn settings_that_make_no_sense_are_refused_by_name() {
    let check = |change: fn(&mut WebhookOptions), expected: &str| {
        let mut options = options("https://bot.example/hook");
        change(&mut options);
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(NOW));
        let error = Webhook::new(options, clock).expect_err(expected).to_string();
        assert!(error.contains("webhook stub") && error.contains(expected), "{error}");
    };
    check(|options| options.in_flight_max = 0, "in_flight_max");
    check(|options| options.retry.attempts_max = 0, "attempts_max");
    check(|options| options.message_timeout = Duration::ZERO, "longer than the timeout");
    check(|options| options.url = "ftp://x/".to_owned(), "scheme");
    check(|options| options.url = "https://a:b@x.example/".to_owned(), "credentials");
}

#[derive(Default)]
struct Names(Vec<String>);

impl MetricSink for Names {
    fn counter(&mut self, name: &str, _: &str, labels: &[(&str, &str)], value: u64) {
        self.0.push(format!("{name}{labels:?}={value}"));
    }
    fn gauge(&mut self, name: &str, _: &str, labels: &[(&str, &str)], value: i64) {
        self.0.push(format!("{name}{labels:?}={value}"));
    }
    fn histogram(&mut self, name: &str, _: &str, labels: &[(&str, &str)], value: &Histogram) {
        self.0.push(format!("{name}{labels:?}={}", value.read().0.iter().sum::<u64>()));
    }
}

#[tokio::test]
async fn calls_are_counted_by_how_they_ended() {
    let stub = Stub::start(vec![answer("500 Oops", "", b""), hello()]).await;
    let hook = Arc::new(webhook(options(&stub.url("/hook?key=hush"))));
    hook.call(&message(1), 0).await.expect("an answer");
    let hooks = Hooks::new(vec![hook]);
    assert!(hooks.target("stub").is_some() && hooks.target("other").is_none());
    let mut names = Names::default();
    hooks.collect(&mut names);
    for expected in [
        r#"hook_calls[("target", "stub"), ("end", "answered")]=1"#,
        r#"hook_calls[("target", "stub"), ("end", "status_5xx")]=1"#,
        r#"hook_retries[("target", "stub")]=1"#,
        r#"hook_dead[("target", "stub")]=0"#,
        r#"hook_breaker_state[("target", "stub")]=0"#,
        r#"hook_call_seconds[("target", "stub")]=2"#,
    ] {
        assert!(names.0.iter().any(|name| name == expected), "{expected}: {:#?}", names.0);
    }
}
