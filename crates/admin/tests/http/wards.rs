//! Wards over the API: what is seen by whom, what is ordered and recorded, what goes on for long.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use naru_domain::Durability;
use naru_domain::ports::{
    Outbox, OutboxBatch, OutboxEnd, OutboxMessage, OutboxResult, WardBatch, WardBlock, WardEvent,
    WardHistory as _, WardPeak, WardPlace, WardResolution, WardVisit, Weight,
};
use naru_domain::work::Role;
use naru_supervisor::life::{OperationId, Outcome, Refusal};
use naru_supervisor::measure::{BlockBuilder, Reading, Rollup, Series, Summary, Values};
use naru_supervisor::run::{OperationView, Ordered, WardError};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::twin::{NOW, Server};

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(60);

impl Server {
    async fn order(&self, token: &str, what: &str, body: &Value) -> crate::client::Answer {
        self.ask(token, "POST", &format!("/api/wards/mine/{what}"), Some(body)).await
    }

    fn ward_actions(&self) -> Vec<String> {
        self.store.actions().into_iter().filter(|action| action.starts_with("ward.")).collect()
    }
}

#[tokio::test]
async fn a_node_without_wards_says_so() {
    let server = Server::without_wards().await;
    let admin = server.token(Role::Admin, &[]);
    for path in ["/api/wards", "/api/wards/mine", "/api/supervisor", "/api/notices/dead"] {
        let answer = server.get(&admin, path).await.expect(404);
        assert_eq!(answer.code(), "no_such_route", "{path}");
        assert!(answer.text().contains("this node looks after no wards"));
    }
}

#[tokio::test]
async fn wards_are_shown_in_units_that_the_names_say() {
    let server = Server::start().await;
    let viewer = server.token(Role::Viewer, &[]);
    let rows = server.get(&viewer, "/api/wards").await.expect(200).json();
    let row = &rows["items"][0];
    assert_eq!((&row["name"], &row["phase"]), (&json!("mine"), &json!("running")));
    assert_eq!(row["desired"]["by"], "operator:token:laptop");
    assert_eq!((&row["uptime_s"], &row["pid"]), (&json!(90), &json!(4_242)));
    assert_eq!(row["players"]["freshness"], "fresh");
    assert!((row["cpu_cores"].as_f64().unwrap() - 0.3).abs() < 1e-9);
    assert_eq!(row["memory_bytes"], 1_048_576.0);
    assert_eq!(row["ticks_per_second"], Value::Null);
    let cpu = &row["figures"][0];
    assert!((cpu["minute"]["p95"].as_f64().unwrap() - 0.5).abs() < 1e-9);
    assert_eq!(cpu["hour"], Value::Null);
    assert_eq!(row["alerts"][0]["kind"], "memory_leak");
    let own = server.get(&viewer, "/api/supervisor").await.expect(200).json();
    assert_eq!((&own["cpu_seconds_per_hour"], &own["interval_s"]), (&json!(0.75), &json!(3.0)));
    assert_eq!(own["dropped_visits"], 3);
}

#[tokio::test]
async fn viewers_see_a_ward_but_neither_its_players_nor_its_folder() {
    let server = Server::start().await;
    let viewer = server.token(Role::Viewer, &[]);
    let operator = server.token(Role::Operator, &[]);
    let masked = server.get(&viewer, "/api/wards/mine").await.expect(200).json();
    assert_eq!(masked["player_names"], json!(["K***", "이***"]));
    assert_eq!(masked["dir"], Value::Null);
    let reasons = &masked["last_exit"]["verdict"]["reasons"];
    assert_eq!(reasons[0]["text"], "[25 characters]");
    assert_eq!(reasons[1]["text"], "it ended with signal 11");
    let full = server.get(&operator, "/api/wards/mine").await.expect(200).json();
    assert_eq!(full["player_names"], json!(["Kim", "이순신"]));
    assert_eq!(full["dir"], "/srv/kim/mine");
    assert_eq!((&full["last_exit"]["signal"], &full["tries_left"]), (&json!(11), &json!(3)));
    assert_eq!(full["learned"]["memory_bytes_per_player"]["per_player"], 5e7);
    assert_eq!(full["taken_us_per_second"], 40);
    let explained = server.get(&viewer, "/api/wards/mine/explain").await.expect(200).json();
    assert_eq!(explained["deaths"][0]["death"], "it crashes (SIGSEGV)");
    assert_eq!(explained["deaths"][0]["pause_max_ms"], 2_000);
    assert!(!explained.to_string().contains("Kim"));
}

#[tokio::test]
async fn orders_reach_the_supervisor_and_stand_in_the_audit_log() {
    let server = Server::start().await;
    let operator = server.token(Role::Operator, &[]);
    let body = json!({ "reason": "update", "countdown_s": 90 });
    let answer = server.order(&operator, "stop", &body).await.expect(200).json();
    assert_eq!(answer, json!({ "operation": 7, "state": "begun", "outcome": null }));
    *server.wards.ordered.lock() = Ordered::Joined(OperationId(7));
    let answer = server.order(&operator, "restart", &json!({})).await.expect(200).json();
    assert_eq!(answer["state"], "joined");
    *server.wards.ordered.lock() = Ordered::Already;
    let answer = server.order(&operator, "start", &json!({ "wait": true })).await.expect(200);
    assert_eq!(answer.json(), json!({ "operation": null, "state": "already", "outcome": null }));
    for what in ["kill", "cancel"] {
        server.order(&operator, what, &json!({})).await.expect(200);
    }
    let done = server.wards.done.lock().clone();
    assert_eq!(done[0], "Stop Operator(\"token:operator-1\") update Some(90s)");
    assert!(done[1].starts_with("Restart") && done[3].starts_with("Kill"), "{done:?}");
    let line = json!({ "line": "say hi" });
    let answer = server.order(&operator, "command", &line).await.expect(200).json();
    assert_eq!(answer["answer"], "There are 2 players");
    let message = json!({ "message": "back soon" });
    server.order(&operator, "announce", &message).await.expect(204);
    assert_eq!(server.wards.done.lock()[6], "announce back soon by token:operator-1");
    let actions = ["stop", "restart", "start", "kill", "cancel", "command", "announce"];
    assert_eq!(server.ward_actions(), actions.map(|action| format!("ward.{action}")));
    let audit = server.store.rows.lock().audit.clone();
    assert_eq!(audit[0].object, "ward:mine");
    assert!(audit[0].detail.contains("update") && audit[5].detail.contains("say hi"));
}

#[tokio::test]
async fn what_the_supervisor_refuses_has_a_code_of_its_own_kind() {
    let server = Server::start().await;
    let operator = server.token(Role::Operator, &[]);
    for (error, status, code) in [
        (WardError::Refused(Refusal::Busy), 409, "conflict"),
        (WardError::Refused(Refusal::TooLate), 409, "conflict"),
        (WardError::Refused(Refusal::NoCommand), 422, "refused"),
        (WardError::Invalid("nonsense".to_owned()), 422, "refused"),
        (WardError::Unavailable("the game does not run".to_owned()), 503, "unavailable"),
        (WardError::Ended, 503, "not_ready"),
    ] {
        let message = error.to_string();
        *server.wards.fails.lock() = Some(error);
        let answer = server.order(&operator, "stop", &json!({})).await.expect(status);
        assert_eq!(answer.code(), code);
        assert!(answer.text().contains(&message), "{message}");
    }
    assert_eq!(server.ward_actions()[..2], ["ward.stop", "ward.stop.failed"]);
}

#[tokio::test]
async fn a_ward_that_does_not_exist_is_not_found_and_leaves_no_record() {
    let server = Server::start().await;
    let admin = server.token(Role::Admin, &[]);
    for (method, path) in [
        ("GET", ""),
        ("GET", "/explain"),
        ("GET", "/console"),
        ("GET", "/console/follow"),
        ("GET", "/events"),
        ("GET", "/visits"),
        ("GET", "/series"),
        ("GET", "/backups"),
        ("GET", "/operations/1"),
        ("POST", "/stop"),
        ("POST", "/save"),
        ("POST", "/backups"),
        ("POST", "/backups/x/restore"),
    ] {
        for name in ["other", "No%20Name"] {
            let body = (method == "POST").then(|| json!({}));
            let path = format!("/api/wards/{name}{path}");
            let answer = server.ask(&admin, method, &path, body.as_ref()).await.expect(404);
            assert_eq!(answer.code(), "not_found", "{path}");
        }
    }
    assert_eq!(server.ward_actions(), Vec::<String>::new());
    assert_eq!(*server.wards.done.lock(), Vec::<String>::new());
}

#[tokio::test]
async fn nothing_that_breaks_a_limit_reaches_the_game() {
    let server = Server::start().await;
    let operator = server.token(Role::Operator, &[]);
    for (what, body) in [
        ("stop", json!({ "countdown_s": 86_401 })),
        ("start", json!({ "countdown_s": 5 })),
        ("stop", json!({ "reason": "x".repeat(201) })),
        ("stop", json!({ "reason": "two\nlines" })),
        ("stop", json!({ "when": "now" })),
        ("command", json!({ "line": "" })),
        ("command", json!({ "line": "say hi\nop Kim" })),
        ("command", json!({ "line": "say hi\u{2028}op Kim" })),
        ("command", json!({ "line": "x".repeat(1_001) })),
        ("announce", json!({ "message": "  " })),
    ] {
        let answer = server.order(&operator, what, &body).await.expect(400);
        assert_eq!(answer.code(), "bad_field", "{what} {body}");
    }
    assert_eq!(*server.wards.done.lock(), Vec::<String>::new());
}

#[tokio::test]
async fn a_request_can_wait_for_the_end_of_what_it_ordered() {
    let server = Server::start().await;
    let operator = server.token(Role::Operator, &[]);
    let body = json!({ "wait": true });
    let ordering = server.order(&operator, "restart", &body);
    let ending = async {
        server.wards.waited_for().await;
        server.wards.set_operation(7, OperationView::Done(Outcome::Started));
    };
    let (answer, ()) = timeout(PATIENCE, async { tokio::join!(ordering, ending) }).await.unwrap();
    assert_eq!(answer.expect(200).json()["outcome"], "started");

    let path = "/api/wards/mine/operations/8";
    assert_eq!(server.get(&operator, path).await.expect(404).code(), "not_found");
    server.wards.set_operation(8, OperationView::Running);
    let stands = server.get(&operator, path).await.expect(200).json();
    assert_eq!(stands, json!({ "operation": 8, "state": "running", "outcome": null }));
    let waiting_path = format!("{path}?wait=true");
    let asking = server.get(&operator, &waiting_path);
    let ending = async {
        server.wards.waited_for().await;
        server.wards.set_operation(8, OperationView::Done(Outcome::Failed));
    };
    let (answer, ()) = timeout(PATIENCE, async { tokio::join!(asking, ending) }).await.unwrap();
    assert_eq!(answer.expect(200).json()["outcome"], "failed");
}

#[tokio::test]
async fn whoever_waits_is_let_go_when_the_node_stops() {
    let mut server = Server::start().await;
    let operator = server.token(Role::Operator, &[]);
    let body = json!({ "wait": true });
    let stopping = async {
        server.wards.waited_for().await;
        server.stop.cancel();
    };
    let ordering = server.order(&operator, "stop", &body);
    let (answer, ()) = timeout(PATIENCE, async { tokio::join!(ordering, stopping) }).await.unwrap();
    assert_eq!(answer.expect(200).json()["outcome"], Value::Null);
    timeout(PATIENCE, server.running.join_next()).await.unwrap();
}

#[tokio::test]
async fn a_console_is_masked_and_not_searched_for_viewers_and_looks_are_recorded() {
    let server = Server::start().await;
    let viewer = server.token(Role::Viewer, &[]);
    let operator = server.token(Role::Operator, &[]);
    for text in ["<Kim> hi", "Saved the game", "<Lee> bye"] {
        server.wards.print(text);
    }
    let path = "/api/wards/mine/console";
    let masked = server.get(&viewer, path).await.expect(200).json();
    assert_eq!(masked["lines"][0]["text"], "[8 characters]");
    assert_eq!(masked["lines"].as_array().unwrap().len(), 3);
    let search = format!("{path}?contains=Kim");
    assert_eq!(server.get(&viewer, &search).await.expect(403).code(), "forbidden");
    assert_eq!(server.ward_actions(), Vec::<String>::new(), "masked looks need no record");
    let found = server.get(&operator, &search).await.expect(200).json();
    assert_eq!(found["lines"].as_array().unwrap().len(), 1);
    assert_eq!(found["lines"][0]["text"], "<Kim> hi");
    let last = format!("{path}?before=3&limit=1");
    let found = server.get(&operator, &last).await.expect(200).json();
    assert_eq!(
        (&found["lines"][0]["seq"], &found["lines"][0]["source"]),
        (&json!(2), &json!("game"))
    );
    assert_eq!(server.ward_actions(), ["ward.console", "ward.console"]);
    for bad in
        ["limit=0", "limit=1001", "after=x", "odd=1", &format!("contains={}", "x".repeat(201))]
    {
        let answer = server.get(&operator, &format!("{path}?{bad}")).await.expect(400);
        assert_eq!(answer.code(), "bad_query", "{bad}");
    }
}

/// Reads an answer that goes on.
struct Stream {
    socket: TcpStream,
    read: String,
}

impl Stream {
    async fn open(server: &Server, token: &str, path: &str) -> Stream {
        let mut socket = TcpStream::connect(server.address).await.expect("connect");
        let head =
            format!("GET {path} HTTP/1.1\r\nhost: naru\r\nauthorization: Bearer {token}\r\n\r\n");
        socket.write_all(head.as_bytes()).await.expect("write");
        Stream { socket, read: String::new() }
    }

    async fn until(&mut self, text: &str) {
        let found = async {
            while !self.read.contains(text) {
                let mut piece = [0; 4_096];
                let length = self.socket.read(&mut piece).await.expect("read");
                assert!(length > 0, "{text} is not in {}", self.read);
                self.read.push_str(&String::from_utf8_lossy(&piece[..length]));
            }
        };
        timeout(PATIENCE, found).await.expect("it comes");
    }
}

#[tokio::test]
async fn a_console_is_followed_from_its_tail_until_the_node_stops() {
    let mut server = Server::start().await;
    let viewer = server.token(Role::Viewer, &[]);
    let operator = server.token(Role::Operator, &[]);
    server.wards.print("long ago");
    server.wards.print("just now");
    let path = "/api/wards/mine/console/follow?tail=1";
    let mut stream = Stream::open(&server, &operator, path).await;
    stream.until("just now").await;
    assert!(stream.read.contains("application/x-ndjson") && !stream.read.contains("long ago"));
    timeout(PATIENCE, server.wards.followed()).await.unwrap();
    server.wards.print("<Kim> first");
    stream.until("<Kim> first").await;
    server.wards.print("<Kim> second");
    stream.until("<Kim> second").await;
    assert_eq!(stream.read.matches("<Kim> first").count(), 1, "no line comes twice");
    assert_eq!(server.ward_actions(), ["ward.console.follow"]);

    let path = "/api/wards/mine/console/follow?after=2";
    let mut masked = Stream::open(&server, &viewer, path).await;
    masked.until("[12 characters]").await;
    assert!(!masked.read.contains("Kim"));
    server.stop.cancel();
    stream.until(r#"{"end":{"reason":"shutdown"}}"#).await;
    masked.until(r#"{"end":{"reason":"shutdown"}}"#).await;
    timeout(PATIENCE, server.running.join_next()).await.unwrap();
}

#[tokio::test]
async fn only_so_many_follow_and_questions_must_make_sense() {
    let server = Server::start().await;
    let operator = server.token(Role::Operator, &[]);
    let path = "/api/wards/mine/console/follow";
    for bad in ["after=1&tail=1", "tail=1001", "tail=x"] {
        let answer = server.get(&operator, &format!("{path}?{bad}")).await.expect(400);
        assert_eq!(answer.code(), "bad_query", "{bad}");
    }
    let mut streams = Vec::new();
    for _ in 0..100 {
        let mut stream = Stream::open(&server, &operator, path).await;
        stream.until("HTTP/1.1 200").await;
        streams.push(stream);
    }
    let answer = server.get(&operator, path).await.expect(503);
    assert_eq!(answer.code(), "overloaded");
}

fn event(minute: u64, ward: &str, kind: &str, body: &Value) -> WardEvent {
    let at = NOW.minus(Duration::from_secs(60 * (100 - minute)));
    WardEvent {
        place: WardPlace::new(at, 0),
        ward: ward.into(),
        kind: kind.into(),
        body: body.to_string().into(),
    }
}

#[tokio::test]
async fn history_is_paged_newest_first_in_words_and_masked() {
    let server = Server::start().await;
    let viewer = server.token(Role::Viewer, &[]);
    let operator = server.token(Role::Operator, &[]);
    let ready = json!({ "at": 0, "event": "ready", "how": "log", "after_ms": 2_500 });
    let joined = json!({ "text": "", "name": "Kim" });
    let mut events = vec![event(0, "gone", "stopped", &json!({ "at": 0, "event": "stopped" }))];
    events.extend((1..=4).map(|minute| event(minute, "mine", "ready", &ready)));
    events.push(event(5, "mine", "joined", &joined));
    let visit = WardVisit {
        place: WardPlace::new(NOW.minus(Duration::from_secs(90)), 0),
        ward: "mine".into(),
        name: "Kim".into(),
        player: Some("uuid".into()),
        seen: NOW,
        left: None,
    };
    let batch = WardBatch { events, visits: vec![visit], ..WardBatch::default() };
    server.ward_history.flush(Arc::new(batch), Durability::Disk).await.unwrap();

    let (mut after, mut seen) = (String::new(), Vec::new());
    loop {
        let path = format!("/api/wards/mine/events?limit=2{after}");
        let page = server.get(&viewer, &path).await.expect(200).json();
        seen.extend(page["items"].as_array().unwrap().clone());
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    assert_eq!(seen.len(), 5);
    assert_eq!((&seen[0]["kind"], &seen[0]["detail"]["name"]), (&json!("joined"), &json!("K***")));
    assert_eq!(seen[1]["text"], "ready after 2.5 s (log)");
    assert!(seen.windows(2).all(|pair| pair[0]["at"].as_str() > pair[1]["at"].as_str()));
    let all = server.get(&viewer, "/api/ward-events").await.expect(200).json();
    assert_eq!(all["items"].as_array().unwrap().len(), 6);
    let gone = server.get(&viewer, "/api/ward-events?ward=gone").await.expect(200).json();
    assert_eq!(gone["items"][0]["text"], "is down");
    let answer = server.get(&viewer, "/api/wards/mine/events?after=x").await.expect(400);
    assert_eq!(answer.code(), "bad_cursor");
    let answer = server.get(&viewer, "/api/ward-events?ward=A%20B").await.expect(400);
    assert_eq!(answer.code(), "bad_query");

    let visits = server.get(&viewer, "/api/wards/mine/visits").await.expect(200).json();
    assert_eq!(
        (&visits["items"][0]["name"], &visits["items"][0]["player"]),
        (&json!("K***"), &Value::Null)
    );
    let visits = server.get(&operator, "/api/wards/mine/visits").await.expect(200).json();
    assert_eq!(
        (&visits["items"][0]["name"], &visits["items"][0]["stayed_s"]),
        (&json!("Kim"), &json!(90))
    );
    assert_eq!(server.ward_actions(), ["ward.visits"], "only the unmasked look");
}

/// Ten minutes of a core's tenths, a sample a second, a block a minute.
fn raw_blocks() -> Vec<WardBlock> {
    let begin = NOW.minus(Duration::from_secs(600));
    let minute = |minute: u32| {
        let mut builder = BlockBuilder::default();
        for second in 0..60 {
            let mut values = Values::EMPTY;
            values.set(Series::Cpu, (minute + 1) * 100);
            let at = begin.plus(Duration::from_secs(u64::from(minute * 60 + second)));
            assert!(builder.add(&Reading { at, span: Duration::from_secs(1), values }));
        }
        let (start, data) = builder.seal().expect("it has points");
        WardBlock { ward: "mine".into(), resolution: WardResolution::Raw, start, data: data.into() }
    };
    (0..10).map(minute).collect()
}

#[tokio::test]
async fn figures_over_time_come_in_their_units_and_never_as_more_points_than_asked_for() {
    let server = Server::start().await;
    let viewer = server.token(Role::Viewer, &[]);
    let mut blocks = raw_blocks();
    blocks[9].data = Arc::from([9u8, 9].as_slice());
    let hour = NOW.0.div_euclid(3_600_000) * 3_600_000;
    let start = naru_domain::Timestamp(hour).minus(Duration::from_secs(3_600 * 50));
    let summary = Summary { count: 3_600, mean: 500.0, p95: 700, max: 2_000 };
    let rollup =
        Rollup { resolution: WardResolution::Hour, start, series: vec![(Series::Cpu, summary)] };
    blocks.push(WardBlock {
        ward: "mine".into(),
        resolution: WardResolution::Hour,
        start,
        data: rollup.encode().into(),
    });
    let peak = WardPeak { ward: "mine".into(), series: 0, value: 3_000, at: NOW };
    let batch = WardBatch { blocks, peaks: vec![peak], ..WardBatch::default() };
    server.ward_history.flush(Arc::new(batch), Durability::Disk).await.unwrap();

    let path = "/api/wards/mine/series?series=cpu_cores";
    let found = server.get(&viewer, path).await.expect(200).json();
    assert_eq!((&found["resolution"], &found["step_s"]), (&json!("raw"), &json!(8)));
    let points = found["series"][0]["points"].as_array().unwrap();
    // Nine of ten minutes: the last block is damaged, and left out.
    assert!((66..=69).contains(&points.len()), "{}", points.len());
    let first = points[1]["mean"].as_f64().unwrap();
    assert!((first - 0.1).abs() < 1e-9, "{first}");
    assert_eq!(points[0]["p95"], Value::Null);
    assert!((points[points.len() - 1]["max"].as_f64().unwrap() - 0.9).abs() < 1e-9);
    assert_eq!(found["series"][0]["peak"], 3.0);
    assert_eq!(found["saves"].as_array().unwrap().len(), 2);
    let few = server.get(&viewer, &format!("{path}&points=5")).await.expect(200).json();
    assert!(few["series"][0]["points"].as_array().unwrap().len() <= 5);

    let path = "/api/wards/mine/series?from=2026-11-15T00:00:00Z";
    let found = server.get(&viewer, path).await.expect(200).json();
    assert_eq!(found["resolution"], "1h");
    let curves = found["series"].as_array().unwrap();
    assert_eq!(curves.len(), 1, "series without points are left out unless they are named");
    let point = &curves[0]["points"][0];
    assert!((point["mean"].as_f64().unwrap() - 0.5).abs() < 1e-9);
    assert!((point["p95"].as_f64().unwrap() - 0.7).abs() < 1e-9);
    for bad in [
        "series=odd",
        "resolution=2m",
        "points=1",
        "from=x",
        "from=2030-01-01T00:00:00Z",
        "last_s=0",
        "last_s=90000000",
        "from=2026-11-15T00:00:00Z&last_s=5",
        "odd=1",
    ] {
        let answer =
            server.get(&viewer, &format!("/api/wards/mine/series?{bad}")).await.expect(400);
        assert_eq!(answer.code(), "bad_query", "{bad}");
    }
}

#[tokio::test]
async fn a_backup_goes_on_whoever_waits_for_it_and_a_ward_has_one_at_a_time() {
    let server = Server::start().await;
    let operator = server.token(Role::Operator, &[]);
    server.wards.backups_may_end.send_replace(false);
    let later = json!({ "wait": false });
    let job = server.order(&operator, "backups", &later).await.expect(200).json();
    assert_eq!((&job["kind"], &job["state"]), (&json!("backup"), &json!("running")));
    let answer = server.order(&operator, "save", &json!({})).await.expect(409);
    assert_eq!(answer.code(), "conflict");
    let path = format!("/api/wards/mine/jobs/{}", job["id"]);
    let stands = server.get(&operator, &path).await.expect(200).json();
    assert_eq!(stands["state"], "running");
    server.wards.backups_may_end.send_replace(true);
    let stands = server.get(&operator, &format!("{path}?wait=true")).await.expect(200).json();
    assert_eq!(stands["state"], "done");
    assert_eq!(stands["backup"]["name"], "mine-20260101-040000");
    let listed = server.get(&operator, "/api/wards/mine/backups").await.expect(200).json();
    assert_eq!(listed["items"][0]["verified"], true);
    server.get(&operator, "/api/wards/mine/jobs/99").await.expect(404);

    let what = "backups/mine-20260101-040000/restore";
    let job = server.order(&operator, what, &json!({})).await.expect(200).json();
    assert_eq!((&job["kind"], &job["state"]), (&json!("restore"), &json!("done")));
    for bad in ["..%2F..%2Fetc", ".hidden", "a%20b"] {
        let what = format!("backups/{bad}/restore");
        server.order(&operator, &what, &json!({})).await.expect(404);
    }
    assert_eq!(server.ward_actions(), ["ward.backup", "ward.restore"]);
}

#[tokio::test]
async fn a_save_that_fails_is_an_error_for_whoever_waits_and_told_to_who_asks_later() {
    let server = Server::start().await;
    let operator = server.token(Role::Operator, &[]);
    *server.wards.fails.lock() = Some(WardError::Unavailable("the game does not run".to_owned()));
    let answer = server.order(&operator, "save", &json!({})).await.expect(503);
    assert_eq!(answer.code(), "unavailable");
    let job = server.order(&operator, "save", &json!({ "wait": false })).await.expect(200).json();
    let path = format!("/api/wards/mine/jobs/{}?wait=true", job["id"]);
    let stands = server.get(&operator, &path).await.expect(200).json();
    assert_eq!(
        (&stands["state"], &stands["error_code"]),
        (&json!("failed"), &json!("unavailable"))
    );
    assert_eq!(stands["error"], "the game does not run");
    assert_eq!(server.ward_actions()[..2], ["ward.save", "ward.save.failed"]);
}

#[tokio::test]
async fn notices_that_died_are_listed_sent_again_and_forgotten() {
    let server = Server::start().await;
    let viewer = server.token(Role::Viewer, &[]);
    let operator = server.token(Role::Operator, &[]);
    let message = |id: &str, body: &str| OutboxMessage {
        id: id.into(),
        target: "discord".into(),
        weight: Weight::Important,
        at: NOW,
        body: Bytes::copy_from_slice(body.as_bytes()),
    };
    let long = "x".repeat(3_000);
    let messages = vec![message("n-1", "Kim left"), message("n-2", &long), message("n-3", "more")];
    server.outbox.put(&OutboxBatch::new(messages), Durability::Disk).await.unwrap();
    let dead = |id: &str| OutboxResult {
        id: id.into(),
        attempts: 8,
        failure: "status 404".into(),
        end: OutboxEnd::Dead,
    };
    server.outbox.settle(&[dead("n-1"), dead("n-2")]).await.unwrap();

    let counts = server.get(&viewer, "/api/notices").await.expect(200).json();
    let row = &counts["items"][0];
    assert_eq!(
        (&row["target"], &row["waiting"], &row["dead"]),
        (&json!("discord"), &json!(1), &json!(2))
    );
    let first = server.get(&viewer, "/api/notices/dead?limit=1").await.expect(200).json();
    assert_eq!(first["items"][0]["body"], "[8 characters]");
    assert_eq!(first["items"][0]["failure"], "status 404");
    let next = format!("/api/notices/dead?after={}", first["next"].as_str().unwrap());
    let second = server.get(&operator, &next).await.expect(200).json();
    let shown = &second["items"][0];
    assert_eq!((&shown["id"], &shown["body_bytes"]), (&json!("n-2"), &json!(3_000)));
    assert_eq!(shown["body"].as_str().unwrap().chars().count(), 2_001);
    let none = server.get(&viewer, "/api/notices/dead?target=slack").await.expect(200).json();
    assert_eq!(none["items"], json!([]));

    server.ask(&operator, "POST", "/api/notices/dead/n-1/replay", None).await.expect(204);
    assert_eq!(server.outbox.waiting("discord"), ["n-3", "n-1"]);
    server.ask(&operator, "DELETE", "/api/notices/dead/n-2", None).await.expect(204);
    server.ask(&operator, "DELETE", "/api/notices/dead/n-2", None).await.expect(404);
    assert_eq!(
        server.store.actions(),
        ["notice.replay", "notice.forget", "notice.forget", "notice.forget.failed"]
    );
}

#[tokio::test]
async fn a_day_of_five_minutes_is_read_over_several_pages_of_the_store() {
    let server = Server::start().await;
    let viewer = server.token(Role::Viewer, &[]);
    let begin = NOW.minus(Duration::from_secs(24 * 3_600));
    let begin = naru_domain::Timestamp(begin.0.div_euclid(300_000) * 300_000);
    let block = |at: u32| {
        let start = begin.plus(Duration::from_secs(300) * at);
        let summary = Summary { count: 300, mean: f64::from(at), p95: at + 1, max: at + 2 };
        let series = vec![(Series::Players, summary)];
        let rollup = Rollup { resolution: WardResolution::FiveMinutes, start, series };
        let data = rollup.encode().into();
        WardBlock { ward: "mine".into(), resolution: rollup.resolution, start, data }
    };
    let batch = WardBatch { blocks: (0..288).map(block).collect(), ..WardBatch::default() };
    server.ward_history.flush(Arc::new(batch), Durability::Disk).await.unwrap();
    let path = "/api/wards/mine/series?last_s=86400&resolution=5m";
    let found = server.get(&viewer, path).await.expect(200).json();
    assert_eq!(found["step_s"], 300);
    let points = found["series"][0]["points"].as_array().unwrap();
    assert_eq!(points.len(), 288);
    let last = &points[287];
    assert_eq!(
        (&last["mean"], &last["p95"], &last["max"]),
        (&json!(287.0), &json!(288.0), &json!(289.0))
    );
    assert_eq!(last["offset_s"], 287 * 300);
    let few = server.get(&viewer, &format!("{path}&points=25")).await.expect(200).json();
    // Twelve in one step: the mean of their means, the largest of the rest.
    assert_eq!(few["step_s"], 3_600);
    let points = few["series"][0]["points"].as_array().unwrap();
    assert!(points.len() <= 25);
    let highest = points.iter().filter_map(|point| point["max"].as_f64()).reduce(f64::max);
    assert_eq!(highest, Some(289.0));
}
