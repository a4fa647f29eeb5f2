//! Lists: paging, windows, filters, and what each role sees of personal data.

use naru_domain::work::Role;
use serde_json::{Value, json};

use crate::twin::{Server, default_options};

fn ids(page: &Value) -> Vec<i64> {
    page["items"]
        .as_array()
        .expect("items")
        .iter()
        .map(|item| item["id"].as_i64().expect("an id"))
        .collect()
}

#[tokio::test]
async fn pages_follow_each_other_without_gaps_or_repeats() {
    let server = Server::start().await;
    let token = server.token(Role::Operator, &[]);
    let mut seen = Vec::new();
    let mut path = "/api/messages?limit=6".to_owned();
    loop {
        let page = server.get(&token, &path).await.expect(200).json();
        seen.extend(ids(&page));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/api/messages?limit=6&after={next}");
    }
    assert_eq!(seen, (1..=20).rev().collect::<Vec<_>>());
    let page = server.get(&token, "/api/devices?limit=1").await.expect(200).json();
    assert_eq!((ids(&page), page["next"].as_str()), (vec![1], Some("1")));
    let page = server.get(&token, "/api/devices?limit=2&after=1").await.expect(200).json();
    assert_eq!((ids(&page), page["next"].as_str()), (vec![2], None));
}

#[tokio::test]
async fn a_list_of_messages_looks_back_seven_days_unless_told() {
    let server = Server::start().await;
    let token = server.token(Role::Operator, &[]);
    server.get(&token, "/api/messages").await.expect(200);
    let from = server.store.rows.lock().last_filter.clone().unwrap().from.unwrap();
    assert_eq!(crate::twin::NOW.since(from).as_secs(), 7 * 24 * 60 * 60);
    let path = "/api/messages?until=2026-11-21T13:20:00Z&state=done&device=1&search=hello";
    let page = server.get(&token, path).await.expect(200).json();
    assert!(!ids(&page).is_empty());
    let filter = server.store.rows.lock().last_filter.clone().unwrap();
    assert!(filter.from.is_none() && filter.until.is_some());
    assert_eq!(filter.search.as_deref(), Some("hello"));
    server.get(&token, "/api/dead-letters").await.expect(200);
    let filter = server.store.rows.lock().last_filter.clone().unwrap();
    assert!(filter.from.is_none(), "a dead letter is never too old to be seen");
}

#[tokio::test]
async fn viewers_see_masked_rows_and_cannot_search_what_they_cannot_read() {
    let server = Server::start().await;
    let viewer = server.token(Role::Viewer, &[]);
    let operator = server.token(Role::Operator, &[]);
    let paths = [
        "/api/messages",
        "/api/messages/1",
        "/api/dead-letters",
        "/api/devices",
        "/api/devices/1",
        "/api/rooms",
        "/api/rooms/1",
        "/api/sessions",
        "/api/sessions/1",
        "/api/bots",
        "/api/bots/alpha",
    ];
    let private = [
        "홍길동",
        "가족",
        "hello",
        "answer",
        "abcdef",
        "0123456789",
        "192.168.0.7",
        "203.0.113.5",
        "10.20.30.40",
        "hush",
        "https://x",
    ];
    let mut shown = String::new();
    for path in paths {
        let masked = server.get(&viewer, path).await.expect(200).text();
        for word in private {
            assert!(!masked.contains(word), "{word} in {path}: {masked}");
        }
        shown.push_str(&server.get(&operator, path).await.expect(200).text());
    }
    for word in private.iter().filter(|word| **word != "hush") {
        assert!(shown.contains(word), "operators see {word}");
    }
    assert!(!shown.contains("hush"), "nobody reads secrets back");
    let answer = server.get(&viewer, "/api/messages?search=hello").await.expect(403);
    assert_eq!(answer.code(), "forbidden");
    let message = server.get(&viewer, "/api/messages/1").await.json();
    assert_eq!(message["message"]["text"], "[7 characters]");
    assert_eq!(message["message"]["sender"], "홍***");
    assert_eq!(message["message"]["user_hash"], Value::Null);
}

#[tokio::test]
async fn every_look_at_chat_text_is_on_record_and_bulk_reads_ring_an_alarm() {
    let mut options = default_options();
    options.limits.bulk_requests_per_minute = 3;
    let server = Server::with(options).await;
    let viewer = server.token(Role::Viewer, &[]);
    server.get(&viewer, "/api/messages").await.expect(200);
    assert!(server.store.actions().is_empty(), "masked rows are no personal data");
    let operator = server.token(Role::Operator, &[]);
    server.get(&operator, "/api/messages?search=hello&bot=alpha").await.expect(200);
    server.get(&operator, "/api/messages/1").await.expect(200);
    server.get(&operator, "/api/dead-letters").await.expect(200);
    let looks = ["messages.list", "messages.show", "dead_letters.list"];
    assert_eq!(server.store.actions(), looks);
    {
        let rows = server.store.rows.lock();
        let entry = &rows.audit[0];
        assert_eq!(entry.actor, "token:operator-2");
        assert_eq!(entry.source, "127.0.0.1");
        let detail: Value = serde_json::from_str(&entry.detail).unwrap();
        let wanted = (&json!("hello"), &json!("alpha"));
        assert_eq!((&detail["search"], &detail["bot"]), wanted);
    }
    server.get(&operator, "/api/messages/1").await.expect(200);
    server.get(&operator, "/api/messages/1").await.expect(200);
    let alarms = server.store.actions();
    assert_eq!(alarms.iter().filter(|action| *action == "alarm.bulk_read").count(), 1);
    let metrics = server.get("", "/metrics").await.expect(200).text();
    assert!(metrics.contains("naru_admin_bulk_reads_total 1\n"), "{metrics}");
}

#[tokio::test]
async fn a_reader_that_cannot_be_recorded_reads_nothing() {
    let server = Server::start().await;
    let operator = server.token(Role::Operator, &[]);
    server.get(&operator, "/api/messages").await.expect(200);
    server.store.is_busy.store(true, std::sync::atomic::Ordering::SeqCst);
    let answer = server.get(&operator, "/api/messages").await.expect(503);
    assert_eq!(answer.code(), "store_busy");
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert!(!answer.text().contains("secret"), "the store's own words stay inside");
}

#[tokio::test]
async fn wrong_filters_and_cursors_are_named() {
    let mut options = default_options();
    options.limits.caller_burst = 1000;
    let server = Server::with(options).await;
    let token = server.token(Role::Admin, &[]);
    for (path, code) in [
        ("/api/devices?limit=0", "bad_query"),
        ("/api/devices?limit=1001", "bad_query"),
        ("/api/devices?limit=-1", "bad_query"),
        ("/api/devices?limit=ten", "bad_query"),
        ("/api/devices?after=x", "bad_cursor"),
        ("/api/devices?after=99999999999999999999", "bad_cursor"),
        ("/api/devices?approval=maybe", "bad_query"),
        ("/api/devices?colour=red", "bad_query"),
        ("/api/devices?bot=", "bad_query"),
        ("/api/devices?bot=a%00b", "bad_query"),
        ("/api/devices?limit=1&limit=2", "bad_query"),
        ("/api/rooms?device=x", "bad_query"),
        ("/api/messages?state=lost", "bad_query"),
        ("/api/messages?from=yesterday", "bad_query"),
        ("/api/messages?search=x", "bad_query"),
        ("/api/pings", "bad_query"),
        ("/api/pings?device=1&since=2020-01-01T00:00:00Z", "bad_query"),
        ("/api/sessions?after=-1", "bad_cursor"),
        ("/api/devices/x", "bad_path"),
        ("/api/devices/1.5", "bad_path"),
        ("/api/sessions/-1", "bad_path"),
        ("/api/devices/%ff", "bad_path"),
    ] {
        let answer = server.get(&token, path).await.expect(400);
        assert_eq!(answer.code(), code, "{path}: {}", answer.text());
    }
    server.get(&token, "/api/devices/9223372036854775807").await.expect(404);
}
