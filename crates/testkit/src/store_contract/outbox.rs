//! Promises about messages to the outside.

use std::sync::Arc;

use bytes::Bytes;
use naru_domain::ports::{
    KeptOutbox, Outbox, OutboxBatch, OutboxEnd, OutboxMessage, OutboxReceipt, OutboxResult,
    StoreError, Weight,
};
use naru_domain::{Durability, Timestamp};

use super::{ok, page, refused};

const LATE: Timestamp = Timestamp(i64::MAX);

/// All promises of [`Outbox`].
pub async fn outbox<S: Outbox, F: Future<Output = S>>(open: impl Fn() -> F) {
    messages_come_in_order_per_target_with_all_they_had(open().await).await;
    putting_again_changes_nothing(open().await).await;
    a_batch_with_a_message_that_breaks_its_limits_is_refused_as_a_whole(open().await).await;
    the_second_waits_for_the_first(open().await).await;
    results_of_messages_that_are_gone_change_nothing(open().await).await;
    beyond_the_limit_the_oldest_of_the_lightest_leave(open().await).await;
    dead_ones_are_listed_replayed_and_forgotten(open().await).await;
    dead_ones_are_bounded_per_target(open().await).await;
    counts_tell_how_each_target_stands(open().await).await;
}

/// A message for tests; `at` is its number in milliseconds.
#[must_use]
pub fn outbox_message(target: &str, number: i64, weight: Weight) -> OutboxMessage {
    OutboxMessage {
        id: Arc::from(format!("{target}-{number}")),
        target: Arc::from(target),
        weight,
        at: Timestamp(number),
        body: Bytes::from(format!("{{\"n\":{number},\"x\":\"\u{0} 'é\"}}")),
    }
}

fn info(target: &str, number: i64) -> OutboxMessage {
    outbox_message(target, number, Weight::Info)
}

async fn put(store: &impl Outbox, messages: Vec<OutboxMessage>) -> OutboxReceipt {
    ok(store.put(&OutboxBatch::new(messages), Durability::Disk).await)
}

async fn settle(store: &impl Outbox, id: &str, attempts: u32, end: OutboxEnd) {
    let failure = if end == OutboxEnd::Delivered { "" } else { "status 500" };
    let result = OutboxResult { id: Arc::from(id), attempts, failure: Arc::from(failure), end };
    ok(store.settle(&[result]).await);
}

fn ids(kept: &[KeptOutbox]) -> Vec<&str> {
    kept.iter().map(|each| &*each.message.id).collect()
}

async fn line(store: &impl Outbox, target: &str, now: i64) -> Vec<String> {
    let due = ok(store.due(target, Timestamp(now), 100).await);
    ids(&due).into_iter().map(str::to_owned).collect()
}

async fn messages_come_in_order_per_target_with_all_they_had(store: impl Outbox) {
    let mut heavy = outbox_message("a", 2, Weight::Important);
    heavy.body = Bytes::from(vec![0xff; OutboxMessage::BODY_BYTES_MAX]);
    put(&store, vec![info("a", 1), info("b", 9), heavy.clone()]).await;
    let receipt = put(&store, vec![info("a", 3)]).await;
    assert_eq!((receipt.added, receipt.dropped), (1, vec![]));
    let due = ok(store.due("a", LATE, 100).await);
    let messages: Vec<_> = due.iter().map(|each| each.message.clone()).collect();
    assert_eq!(messages, [info("a", 1), heavy, info("a", 3)]);
    assert!(due.is_sorted_by_key(|each| each.place));
    assert!(due.iter().all(|each| each.attempts == 0 && each.failure.is_empty()));
    assert_eq!(ids(&ok(store.due("a", LATE, 2).await)), ["a-1", "a-2"]);
    assert_eq!(line(&store, "b", i64::MAX).await, ["b-9"]);
    assert_eq!(line(&store, "nobody", i64::MAX).await, [""; 0]);
}

async fn putting_again_changes_nothing(store: impl Outbox) {
    put(&store, vec![info("a", 1)]).await;
    let again = OutboxMessage { body: Bytes::from_static(b"other"), ..info("a", 1) };
    assert_eq!(put(&store, vec![again, info("a", 2)]).await.added, 1);
    let due = ok(store.due("a", LATE, 9).await);
    assert_eq!((due.len(), &due[0].message), (2, &info("a", 1)));
    assert_eq!(put(&store, Vec::new()).await, OutboxReceipt::default());
}

async fn a_batch_with_a_message_that_breaks_its_limits_is_refused_as_a_whole(store: impl Outbox) {
    let wrong = OutboxMessage { id: Arc::from("no spaces"), ..info("a", 2) };
    let batch = OutboxBatch::new(vec![info("a", 1), wrong]);
    assert!(matches!(store.put(&batch, Durability::Os).await, Err(StoreError::Failed { .. })));
    assert_eq!(line(&store, "a", i64::MAX).await, [""; 0]);
}

async fn the_second_waits_for_the_first(store: impl Outbox) {
    put(&store, vec![info("a", 10), info("a", 11), info("b", 12)]).await;
    assert_eq!(line(&store, "a", 9).await, [""; 0], "the first is not due yet");
    assert_eq!(line(&store, "a", 10).await, ["a-10", "a-11"]);
    settle(&store, "a-10", 1, OutboxEnd::Again(Timestamp(50))).await;
    assert_eq!(line(&store, "a", 49).await, [""; 0], "nor is what stands behind it");
    assert_eq!(line(&store, "b", 49).await, ["b-12"], "others do not wait");
    let due = ok(store.due("a", Timestamp(50), 1).await);
    assert_eq!((due[0].attempts, &*due[0].failure), (1, "status 500"));
    assert_eq!(due[0].next_at, Timestamp(50));
    settle(&store, "a-10", 1, OutboxEnd::Delivered).await;
    assert_eq!(line(&store, "a", 50).await, ["a-11"]);
    settle(&store, "a-11", 7, OutboxEnd::Dead).await;
    put(&store, vec![info("a", 13)]).await;
    assert_eq!(line(&store, "a", 50).await, ["a-13"], "the dead hold up nobody");
}

async fn results_of_messages_that_are_gone_change_nothing(store: impl Outbox) {
    put(&store, vec![info("a", 1), info("a", 2)]).await;
    settle(&store, "a-1", 1, OutboxEnd::Dead).await;
    settle(&store, "a-1", 2, OutboxEnd::Delivered).await;
    settle(&store, "a-1", 2, OutboxEnd::Again(Timestamp(1))).await;
    settle(&store, "never", 1, OutboxEnd::Delivered).await;
    ok(store.settle(&[]).await);
    assert_eq!(line(&store, "a", 50).await, ["a-2"]);
    let dead = ok(store.dead(None, page(None, 9)).await);
    assert_eq!((ids(&dead), dead[0].attempts), (vec!["a-1"], 1));
    let long = OutboxResult {
        id: Arc::from("a-2"),
        attempts: 1,
        failure: Arc::from("é".repeat(500)),
        end: OutboxEnd::Again(Timestamp(2)),
    };
    ok(store.settle(&[long]).await);
    let kept = ok(store.due("a", LATE, 1).await);
    assert_eq!(kept[0].failure.len(), OutboxResult::FAILURE_BYTES_MAX);
}

async fn beyond_the_limit_the_oldest_of_the_lightest_leave(store: impl Outbox) {
    let heavy = |number| outbox_message("a", number, Weight::Important);
    let limited = async |messages| {
        let batch = OutboxBatch { messages, waiting_max: 3 };
        ok(store.put(&batch, Durability::Os).await).dropped
    };
    assert_eq!(limited(vec![info("a", 1), heavy(2), info("a", 3)]).await, []);
    let dropped = limited(vec![heavy(4), info("b", 5)]).await;
    assert_eq!((dropped.len(), dropped[0].count, dropped[0].is_first), (1, 1, true));
    assert_eq!(line(&store, "a", 99).await, ["a-2", "a-3", "a-4"]);
    let dropped = limited(vec![heavy(6), heavy(7)]).await;
    assert_eq!((dropped[0].count, dropped[0].is_first), (2, false));
    // Nothing light is left.
    assert_eq!(line(&store, "a", 99).await, ["a-4", "a-6", "a-7"]);
    settle(&store, "a-4", 0, OutboxEnd::Delivered).await;
    assert_eq!(limited(vec![info("a", 8)]).await, []);
    assert!(limited(vec![info("a", 9)]).await[0].is_first, "a delivery begins anew");
    assert_eq!(line(&store, "a", 99).await, ["a-6", "a-7", "a-9"]);
    let counts = ok(store.counts().await);
    assert_eq!(counts.iter().map(|each| each.dropped).collect::<Vec<_>>(), [4, 0]);
}

async fn dead_ones_are_listed_replayed_and_forgotten(store: impl Outbox) {
    put(&store, (1..=6).map(|n| info(if n == 4 { "b" } else { "a" }, n)).collect()).await;
    for id in ["a-1", "a-2", "a-3", "b-4"] {
        settle(&store, id, 3, OutboxEnd::Dead).await;
    }
    let all = ok(store.dead(None, page(None, 3)).await);
    assert_eq!(ids(&all), ["a-1", "a-2", "a-3"]);
    let rest = ok(store.dead(None, page(Some(all[2].place), 3)).await);
    assert_eq!(ids(&rest), ["b-4"]);
    assert_eq!(ids(&ok(store.dead(Some("b"), page(None, 3)).await)), ["b-4"]);

    ok(store.replay("a-2", Timestamp(70)).await);
    assert_eq!(line(&store, "a", 70).await, ["a-5", "a-6", "a-2"]);
    let again = ok(store.due("a", LATE, 9).await);
    assert_eq!((again[2].attempts, &*again[2].failure), (0, ""));
    assert_eq!(again[2].message.at, Timestamp(70), "its age begins anew");
    refused(store.replay("a-2", Timestamp(71)).await, &StoreError::NotFound);
    refused(store.forget("a-5").await, &StoreError::NotFound);
    ok(store.forget("a-3").await);
    refused(store.forget("a-3").await, &StoreError::NotFound);
    assert_eq!(ok(store.forget_dead(Timestamp(4), 9).await), 1);
    assert_eq!(ids(&ok(store.dead(None, page(None, 9)).await)), ["b-4"]);
    assert_eq!(ok(store.forget_dead(LATE, 9).await), 1);
    assert_eq!(line(&store, "a", 70).await.len(), 3, "what waits stays");
}

async fn dead_ones_are_bounded_per_target(store: impl Outbox) {
    let many = i64::try_from(OutboxBatch::DEAD_MAX).unwrap_or(0) + 5;
    let messages = (1..=many).map(|n| info("a", n)).chain([info("b", 0)]).collect();
    ok(store.put(&OutboxBatch { messages, waiting_max: usize::MAX }, Durability::Os).await);
    let end = |id: String| OutboxResult {
        id: Arc::from(id),
        attempts: 1,
        failure: Arc::from("status 404"),
        end: OutboxEnd::Dead,
    };
    let results: Vec<_> =
        (1..=many).map(|n| end(format!("a-{n}"))).chain([end("b-0".to_owned())]).collect();
    ok(store.settle(&results).await);
    let counts = ok(store.counts().await);
    assert_eq!((counts[0].dead, counts[1].dead), (OutboxBatch::DEAD_MAX as u64, 1));
    assert_eq!(ids(&ok(store.dead(Some("a"), page(None, 1)).await)), ["a-6"]);
}

async fn counts_tell_how_each_target_stands(store: impl Outbox) {
    assert_eq!(ok(store.counts().await), []);
    put(&store, vec![info("b", 7), info("a", 1), info("a", 2), info("a", 3)]).await;
    settle(&store, "a-1", 1, OutboxEnd::Dead).await;
    settle(&store, "a-2", 4, OutboxEnd::Again(Timestamp(90))).await;
    settle(&store, "b-7", 0, OutboxEnd::Delivered).await;
    let counts = ok(store.counts().await);
    let found: Vec<_> = counts.iter().map(|c| (&*c.target, c.waiting, c.dead)).collect();
    assert_eq!(found, [("a", 2, 1), ("b", 0, 0)]);
    assert_eq!((counts[0].next_at, counts[0].oldest_at), (Some(Timestamp(90)), Some(Timestamp(2))));
    assert_eq!((counts[1].next_at, counts[1].oldest_at), (None, None));
}
