//! Changes: what they do, what they leave in the audit log, and how they fail.

use naru_admin::ControlError;
use naru_domain::phone::MediaItem;
use naru_domain::ports::StoreError;
use naru_domain::work::Role;
use naru_domain::{MediaKind, ReplyBody};
use serde_json::{Value, json};

use crate::twin::Server;

#[tokio::test]
async fn approving_a_device_acts_and_is_on_record_once() {
    let server = Server::start().await;
    let token = server.token(Role::Operator, &[]);
    let change = json!({ "approval": "approved", "note": "hers", "revision": 1 });
    let answer = server.ask(&token, "PATCH", "/api/devices/1", Some(&change)).await.expect(200);
    assert_eq!(answer.header("etag"), Some("\"2\""));
    let device = answer.json();
    assert_eq!((&device["approval"], &device["revision"]), (&json!("approved"), &json!(2)));
    assert_eq!(*server.control.done.lock(), ["device 1 approved"]);
    let rows = server.store.rows.lock();
    assert_eq!(rows.audit.len(), 1);
    let entry = &rows.audit[0];
    assert_eq!((&*entry.action, &*entry.object), ("device.approval", "device:1"));
    let detail: Value = serde_json::from_str(&entry.detail).unwrap();
    assert_eq!((&detail["from"], &detail["to"]), (&json!("pending"), &json!("approved")));
}

#[tokio::test]
async fn of_two_changes_to_the_same_revision_one_wins() {
    let server = Server::start().await;
    let token = server.token(Role::Operator, &[]);
    let change = json!({ "approval": "approved" });
    let if_match = [("if-match", "\"1\"")];
    let first = server.ask_with(&token, "PATCH", "/api/devices/1", &if_match, Some(&change));
    first.await.expect(200);
    let second = server.ask_with(&token, "PATCH", "/api/devices/1", &if_match, Some(&change));
    assert_eq!(second.await.expect(409).code(), "conflict");
    let stale = json!({ "approval": "approved", "revision": 1 });
    server.ask(&token, "PATCH", "/api/devices/1", Some(&stale)).await.expect(409);
    let disagree = json!({ "approval": "approved", "revision": 2 });
    let answer =
        server.ask_with(&token, "PATCH", "/api/devices/1", &if_match, Some(&disagree)).await;
    assert_eq!(answer.expect(400).code(), "bad_field");
    let nonsense = [("if-match", "abc")];
    let answer = server.ask_with(&token, "PATCH", "/api/devices/1", &nonsense, Some(&change)).await;
    answer.expect(400);
    let any = [("if-match", "*")];
    server.ask_with(&token, "PATCH", "/api/devices/1", &any, Some(&change)).await.expect(200);
    let room = json!({ "approval": "denied", "revision": 9 });
    server.ask(&token, "PATCH", "/api/rooms/1", Some(&room)).await.expect(409);
    assert_eq!(server.store.actions().last().unwrap(), "room.approval.failed");
}

#[tokio::test]
async fn a_frame_limit_is_set_removed_and_bounded() {
    let server = Server::start().await;
    let token = server.token(Role::Operator, &[]);
    let patch = |change: Value| {
        let (server, token) = (&server, &token);
        async move { server.ask(token, "PATCH", "/api/devices/1", Some(&change)).await }
    };
    let device = patch(json!({ "frame_bytes_max": 4096 })).await.expect(200).json();
    assert_eq!(device["frame_bytes_max"], 4096);
    patch(json!({ "note": "kept" })).await.expect(200);
    let device = patch(json!({ "frame_bytes_max": null })).await.expect(200).json();
    assert_eq!(
        (&device["frame_bytes_max"], &device["approval_note"]),
        (&Value::Null, &json!("kept"))
    );
    for wrong in [json!(0), json!(1023), json!(1_048_577), json!(-1), json!("1"), json!(1e10)] {
        let answer = patch(json!({ "frame_bytes_max": wrong })).await.expect(400);
        assert_eq!(answer.code(), "bad_field");
    }
    patch(json!({ "note": "x".repeat(501) })).await.expect(400);
}

#[tokio::test]
async fn settings_need_the_revision_and_never_show_their_secrets() {
    let server = Server::start().await;
    let token = server.token(Role::Admin, &[]);
    let path = "/api/bots/alpha/settings";
    let settings = json!({ "webhook": { "url": "https://y", "secret": "hush-hush" } });
    let answer = server.ask(&token, "PUT", path, Some(&json!({ "settings": settings }))).await;
    assert_eq!(answer.expect(400).code(), "bad_field");
    let body = json!({ "settings": settings, "revision": 1 });
    let answer = server.ask(&token, "PUT", path, Some(&body)).await.expect(200);
    assert!(!answer.text().contains("hush"));
    assert_eq!(answer.json()["revision"], 2);
    assert!(server.store.rows.lock().bots[0].1.contains("hush-hush"));
    assert!(!format!("{:?}", server.store.rows.lock().audit).contains("hush"));
    server.ask(&token, "PUT", path, Some(&body)).await.expect(409);
    let unknown = "/api/bots/nobody/settings";
    server.ask(&token, "PUT", unknown, Some(&body)).await.expect(404);
    *server.control.fails.lock() = Some(ControlError::Invalid("admins[0]: no".to_owned()));
    let body = json!({ "settings": {}, "revision": 2 });
    let answer = server.ask(&token, "PUT", path, Some(&body)).await.expect(422);
    assert_eq!(answer.code(), "refused");
    assert_eq!(answer.json()["error"]["message"], "admins[0]: no");
}

#[tokio::test]
async fn replies_of_every_kind_reach_the_bots() {
    let server = Server::start().await;
    let token = server.token(Role::Operator, &["beta"]);
    let body = json!({ "replies": [
        { "text": "hello" },
        { "images": [{ "base64": "aGk=" }, { "url": "https://x/y.png" }], "wait_ms": 1500 },
        { "audio": { "url": "http://x/y.mp3" } },
    ]});
    let key = [("idempotency-key", "k1")];
    let path = "/api/messages/1/replies";
    let answer = server.ask_with(&token, "POST", path, &key, Some(&body)).await.expect(200);
    assert_eq!(answer.json(), json!({ "device": 2, "offsets": [1, 2, 3] }));
    assert_eq!(*server.control.done.lock(), [r#"reply 1 Some("k1")"#]);
    let sent = server.control.sent.lock();
    assert_eq!(sent[0], ReplyBody::Text("hello".into()));
    let ReplyBody::Media { kind, items, wait } = &sent[1] else { panic!("{sent:?}") };
    assert_eq!((*kind, wait.unwrap().as_millis()), (MediaKind::Image, 1500));
    let link = MediaItem::Link("https://x/y.png".into());
    assert_eq!(*items, [MediaItem::Bytes("hi".into()), link]);
    let audit = format!("{:?}", server.store.rows.lock().audit);
    assert!(!audit.contains("hello"), "what was said is not in the audit log");
}

#[tokio::test]
async fn replies_that_no_phone_could_show_are_refused() {
    let server = Server::start().await;
    let token = server.token(Role::Operator, &[]);
    for reply in [
        json!({}),
        json!({ "text": "" }),
        json!({ "text": "x".repeat(65_001) }),
        json!({ "text": "x", "wait_ms": 5 }),
        json!({ "text": "x", "images": [] }),
        json!({ "images": [] }),
        json!({ "images": [{}] }),
        json!({ "images": [{ "base64": "aGk=", "url": "https://x" }] }),
        json!({ "images": [{ "base64": "***" }] }),
        json!({ "images": [{ "base64": "" }] }),
        json!({ "images": [{ "url": "ftp://x" }] }),
        json!({ "images": [{ "url": "https://x|y" }] }),
        json!({ "images": [{ "base64": "aGk=" }], "wait_ms": 200_000 }),
        json!({ "images": vec![json!({ "base64": "aGk=" }); 31] }),
        json!({ "video": "https://x" }),
        json!({ "colour": "red" }),
        json!("text"),
    ] {
        let body = json!({ "replies": [reply] });
        let path = "/api/messages/1/replies";
        let answer = server.ask(&token, "POST", path, Some(&body)).await.expect(400);
        assert_eq!(answer.code(), "bad_field", "{reply}");
        let body = json!({ "device": 1, "room": "r", "channel_id": "1", "reply": reply });
        server.ask(&token, "POST", "/api/send", Some(&body)).await.expect(400);
    }
    assert!(server.control.sent.lock().is_empty());
    for body in [
        json!({ "device": 1, "room": "r" }),
        json!({ "device": 1, "room": "", "text": "x" }),
        json!({ "device": 1, "room": "r", "text": "x", "reply": { "text": "y" } }),
        json!({ "device": 1, "room": "r", "reply": { "images": [{ "base64": "aGk=" }] } }),
        json!({ "device": 1, "room": "r", "text": "x", "idempotency_key": "" }),
    ] {
        server.ask(&token, "POST", "/api/send", Some(&body)).await.expect(400);
    }
    let body = json!({ "device": 1, "room": "r", "text": "x" });
    let sent = server.ask(&token, "POST", "/api/send", Some(&body)).await.expect(200).json();
    assert_eq!(sent, json!({ "device": 1, "offsets": [7] }));
}

#[tokio::test]
async fn dead_letters_are_replayed_one_by_one_or_together_oldest_first() {
    let server = Server::start().await;
    let token = server.token(Role::Operator, &[]);
    server.ask(&token, "POST", "/api/dead-letters/19/replay", None).await.expect(204);
    server.ask(&token, "POST", "/api/dead-letters/1/replay", None).await.expect(409);
    server.ask(&token, "POST", "/api/dead-letters/999/replay", None).await.expect(404);
    server.control.done.lock().clear();
    let all = server.ask(&token, "POST", "/api/dead-letters/replay", Some(&json!({}))).await;
    let all = all.expect(200).json();
    assert_eq!(all, json!({ "replayed": 2, "failed": [], "more": false }));
    assert_eq!(*server.control.done.lock(), ["replay 19", "replay 20"]);
    *server.control.fails.lock() = Some(ControlError::Store(StoreError::NotFound));
    let body = json!({ "bot": "beta" });
    let all = server.ask(&token, "POST", "/api/dead-letters/replay", Some(&body)).await;
    let failed = json!([{ "id": 19, "code": "not_found" }]);
    assert_eq!(all.expect(200).json(), json!({ "replayed": 0, "failed": failed, "more": false }));
}

#[tokio::test]
async fn a_schedule_lives_from_its_making_to_its_end() {
    let server = Server::start().await;
    let token = server.token(Role::Operator, &[]);
    let new = json!({
        "title": "morning", "device": 1, "room": "가족", "channel_id": "18", "text": "good morning",
        "images": [["aGk="]], "media_wait_ms": [2000], "group_pause_ms": 100,
        "recurrence": { "kind": "weekly", "days": ["mon", "fri"], "times": ["09:30"] },
        "valid_until": "2027-01-01T00:00:00+09:00",
    });
    let made = server.ask(&token, "POST", "/api/schedules", Some(&new)).await.expect(201);
    assert_eq!(made.header("etag"), Some("\"1\""));
    let made = made.json();
    assert_eq!(made["images"], json!([[2], []]));
    assert_eq!(made["media_wait_ms"], json!([2000, null]));
    assert_eq!(made["time_zone"], "Asia/Seoul");
    assert_eq!(made["recurrence"]["days"], json!(["mon", "fri"]));
    assert_eq!(made["valid_until"], "2026-12-31T15:00:00.000Z");
    let pause = json!({ "active": false, "valid_until": null, "revision": 1 });
    let paused = server.ask(&token, "PATCH", "/api/schedules/1", Some(&pause)).await.expect(200);
    let paused = paused.json();
    assert_eq!((&paused["active"], &paused["valid_until"]), (&json!(false), &Value::Null));
    assert_eq!(paused["images"], json!([[2], []]), "what is absent stays");
    server.ask(&token, "PATCH", "/api/schedules/1", Some(&pause)).await.expect(409);
    server.ask(&token, "POST", "/api/schedules/1/run", None).await.expect(204);
    let runs = server.get(&token, "/api/schedules/1/runs").await.expect(200).json();
    assert_eq!(runs, json!({ "items": [], "next": null }));
    server.ask(&token, "DELETE", "/api/schedules/1", None).await.expect(204);
    server.get(&token, "/api/schedules/1").await.expect(404);
    let actions = ["schedule.add", "schedule.change", "schedule.run", "schedule.remove"];
    assert_eq!(server.store.actions(), actions);
}

#[tokio::test]
async fn schedules_that_make_no_sense_are_refused() {
    let server = Server::start().await;
    let token = server.token(Role::Operator, &[]);
    let good = json!({
        "title": "t", "device": 1, "room": "r", "text": "x",
        "recurrence": { "kind": "daily", "times": ["09:30"] },
    });
    for (field, wrong) in [
        ("title", json!("")),
        ("title", json!("x".repeat(201))),
        ("room", json!("")),
        ("text", json!("")),
        ("images", json!([["aGk="], [], []])),
        ("images", json!([["no base64"]])),
        ("recurrence", json!({ "kind": "daily", "times": [] })),
        ("recurrence", json!({ "kind": "daily", "times": ["25:00"] })),
        ("recurrence", json!({ "kind": "weekly", "days": [], "times": ["09:30"] })),
        ("recurrence", json!({ "kind": "never" })),
        ("recurrence", json!({ "kind": "once", "at": "noon" })),
        ("valid_from", json!("soon")),
        ("group_pause_ms", json!(600_001)),
        ("media_wait_ms", json!([1, 2, 3])),
        ("colour", json!("red")),
    ] {
        let mut body = good.clone();
        body[field] = wrong;
        let answer = server.ask(&token, "POST", "/api/schedules", Some(&body)).await.expect(400);
        assert_eq!(answer.code(), "bad_field", "{body}");
    }
    let mut unknown = good.clone();
    unknown["device"] = json!(99);
    server.ask(&token, "POST", "/api/schedules", Some(&unknown)).await.expect(404);
    server.ask(&token, "POST", "/api/schedules", Some(&good)).await.expect(201);
}

#[tokio::test]
async fn sessions_are_closed_and_log_levels_set() {
    let server = Server::start().await;
    let token = server.token(Role::Operator, &[]);
    let closed = server.ask(&token, "DELETE", "/api/sessions/1", None).await.expect(200).json();
    assert_eq!(closed, json!({ "closed": true }));
    server.ask(&token, "DELETE", "/api/sessions/9", None).await.expect(404);
    let put = |body: Value| {
        let (server, token) = (&server, &token);
        async move { server.ask(token, "PUT", "/api/log-levels", Some(&body)).await }
    };
    put(json!({ "category": "naru::hub", "level": "debug" })).await.expect(200);
    let body = json!({ "session": 7, "level": "trace", "for_seconds": 60 });
    let levels = put(body).await.expect(200).json();
    let until = "2026-11-21T13:32:38.123Z";
    let focus = json!({ "bot": null, "session": 7, "level": "trace", "until": until });
    assert_eq!(levels["focused"], json!([focus]));
    for wrong in [
        json!({ "category": "naru::nothing", "level": "debug" }),
        json!({ "category": "naru::hub", "level": "loud" }),
        json!({ "category": "naru::hub", "level": "debug", "for_seconds": 5 }),
        json!({ "category": "naru::hub", "bot": "alpha", "level": "debug" }),
        json!({ "level": "debug" }),
        json!({ "bot": "alpha", "level": "debug", "for_seconds": 0 }),
    ] {
        assert_eq!(put(wrong.clone()).await.expect(400).code(), "bad_field", "{wrong}");
    }
    assert_eq!(server.store.actions(), ["session.close", "log.level", "log.level"]);
}

#[tokio::test]
async fn a_change_that_fails_is_on_record_as_failed() {
    let server = Server::start().await;
    let token = server.token(Role::Operator, &[]);
    *server.control.fails.lock() =
        Some(ControlError::Unavailable("the node is stopping".to_owned()));
    let body = json!({ "device": 1, "room": "r", "text": "x" });
    let answer = server.ask(&token, "POST", "/api/send", Some(&body)).await.expect(503);
    assert_eq!(answer.code(), "unavailable");
    assert_eq!(server.store.actions(), ["message.send", "message.send.failed"]);
}

#[tokio::test]
async fn a_panic_harms_its_own_request_only() {
    let server = Server::start().await;
    let token = server.token(Role::Operator, &[]);
    *server.control.panics.lock() = true;
    let answer = server.ask(&token, "POST", "/api/reload", None).await.expect(500);
    assert_eq!(answer.code(), "internal");
    *server.control.panics.lock() = false;
    server.ask(&token, "POST", "/api/reload", None).await.expect(200);
    let metrics = server.get("", "/metrics").await.expect(200).text();
    assert!(metrics.contains("naru_http_panics_total 1\n"));
}
