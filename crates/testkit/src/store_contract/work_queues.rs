//! Promises about work queues that outlive the process.

use std::sync::Arc;

use bytes::Bytes;
use naru_domain::ports::{KeptWork, WorkBatch, WorkQueues};
use naru_domain::{
    ChannelName, Durability, Epoch, Offset, Position, Publication, PublicationMeta, Timestamp,
    WorkNumber,
};

use super::ok;

/// All promises of [`WorkQueues`].
pub async fn work_queues<S: WorkQueues, F: Future<Output = S>>(open: impl Fn() -> F) {
    messages_come_back_by_number_with_all_they_had(open().await).await;
    what_is_done_is_gone_and_counts_are_kept(open().await).await;
    what_was_withdrawn_leaves_with_its_key(open().await).await;
    keys_outlive_their_messages_until_they_are_forgotten(open().await).await;
    large_messages_come_in_several_pages(open().await).await;
    many_changes_fit_into_one_batch(open().await).await;
}

fn queue(number: u64) -> ChannelName {
    ok(ChannelName::parse(if number.is_multiple_of(2) { "queue:even" } else { "queue:odd 큐" }))
}

/// Every third has tags, every fourth a key.
fn work(number: u64) -> KeptWork {
    let tags = vec![("content-type".into(), "text/plain".into())];
    let meta = PublicationMeta { tags, ..PublicationMeta::default() };
    let publication = Publication {
        position: Position { epoch: Epoch(0), offset: Offset(0) },
        data: Bytes::from(format!("\u{0}body {number}")),
        meta: number.is_multiple_of(3).then(|| Arc::new(meta)),
        at: Timestamp(1_700_000_000_000 + i64::try_from(number).unwrap_or(0)),
        key: number.is_multiple_of(4).then(|| Arc::from(format!("key {number}"))),
    };
    KeptWork {
        number: WorkNumber(number),
        // All bits set: it must not come back as another one.
        life: Epoch(u64::MAX - number % 2),
        queue: queue(number),
        publication: Arc::new(publication),
        deliveries: 0,
    }
}

fn adding(numbers: impl Iterator<Item = u64>) -> WorkBatch {
    WorkBatch { add: numbers.map(work).collect(), ..WorkBatch::default() }
}

async fn keep(store: &impl WorkQueues, batch: WorkBatch) {
    ok(store.keep_work(Arc::new(batch), Durability::Disk).await);
}

async fn all(store: &impl WorkQueues) -> Vec<KeptWork> {
    ok(store.load_work(WorkNumber(0), usize::MAX).await)
}

async fn numbers(store: &impl WorkQueues) -> Vec<u64> {
    all(store).await.iter().map(|each| each.number.0).collect()
}

async fn keys(store: &impl WorkQueues) -> Vec<u64> {
    let keys = ok(store.load_work_keys(WorkNumber(0), usize::MAX).await);
    keys.iter().map(|each| each.number.0).collect()
}

async fn messages_come_back_by_number_with_all_they_had(store: impl WorkQueues) {
    assert_eq!(all(&store).await, []);
    ok(store.keep_work(Arc::default(), Durability::Os).await);
    // More than one statement takes.
    keep(&store, adding(1..=150)).await;
    assert_eq!(all(&store).await, (1..=150).map(work).collect::<Vec<_>>());
    let page = ok(store.load_work(WorkNumber(10), 3).await);
    assert_eq!(page, [work(11), work(12), work(13)]);
    assert_eq!(ok(store.load_work(WorkNumber(150), 3).await), []);
    let keys = ok(store.load_work_keys(WorkNumber(4), 2).await);
    let found: Vec<_> = keys.iter().map(|each| (each.number.0, &each.queue, &*each.key)).collect();
    assert_eq!(found, [(8, &queue(8), "key 8"), (12, &queue(12), "key 12")]);
    assert_eq!(keys[0].at, work(8).publication.at);
}

async fn what_is_done_is_gone_and_counts_are_kept(store: impl WorkQueues) {
    keep(&store, adding(1..=6)).await;
    let batch = WorkBatch {
        add: vec![work(7)],
        delivered: vec![(WorkNumber(2), 1), (WorkNumber(3), 4), (WorkNumber(6), 1)],
        done: vec![WorkNumber(1), WorkNumber(6), WorkNumber(99)],
        ..WorkBatch::default()
    };
    keep(&store, batch).await;
    let found: Vec<_> =
        all(&store).await.iter().map(|each| (each.number.0, each.deliveries)).collect();
    assert_eq!(found, [(2, 1), (3, 4), (4, 0), (5, 0), (7, 0)]);
    let again = WorkBatch { delivered: vec![(WorkNumber(3), 5)], ..WorkBatch::default() };
    keep(&store, again).await;
    assert_eq!(all(&store).await[1].deliveries, 5);
    let done = WorkBatch { done: (1..=9).map(WorkNumber).collect(), ..WorkBatch::default() };
    keep(&store, done).await;
    assert_eq!(all(&store).await, []);
}

async fn what_was_withdrawn_leaves_with_its_key(store: impl WorkQueues) {
    keep(&store, adding(1..=8)).await;
    let batch = WorkBatch { withdraw: Some(3..=8), ..adding(9..=12) };
    keep(&store, batch).await;
    assert_eq!(numbers(&store).await, [1, 2, 9, 10, 11, 12]);
    assert_eq!(keys(&store).await, [12]);
    let never = WorkBatch { withdraw: Some(20..=40), ..WorkBatch::default() };
    keep(&store, never).await;
    assert_eq!(numbers(&store).await.len(), 6);
}

async fn keys_outlive_their_messages_until_they_are_forgotten(store: impl WorkQueues) {
    keep(&store, adding(1..=12)).await;
    let done = WorkBatch { done: (1..=12).map(WorkNumber).collect(), ..WorkBatch::default() };
    keep(&store, done).await;
    assert_eq!(keys(&store).await, [4, 8, 12]);
    let forget = WorkBatch { forget_keys_below: Some(WorkNumber(8)), ..WorkBatch::default() };
    keep(&store, forget).await;
    assert_eq!(keys(&store).await, [8, 12]);
}

async fn large_messages_come_in_several_pages(store: impl WorkQueues) {
    let large = |number| {
        let mut work = work(number);
        let body = Bytes::from(vec![u8::try_from(number).unwrap_or(0); 3 << 20]);
        work.publication =
            Arc::new(Publication { data: body, ..Publication::clone(&work.publication) });
        work
    };
    let add: Vec<KeptWork> = (1..=5).map(large).collect();
    keep(&store, WorkBatch { add: add.clone(), ..WorkBatch::default() }).await;
    let (mut found, mut after) = (Vec::new(), WorkNumber(0));
    loop {
        let page = ok(store.load_work(after, 100).await);
        let Some(last) = page.last() else { break };
        after = last.number;
        found.extend(page);
    }
    assert_eq!(found, add);
}

async fn many_changes_fit_into_one_batch(store: impl WorkQueues) {
    keep(&store, adding(1..=2_000)).await;
    let batch = WorkBatch {
        delivered: (1..=2_000).map(|n| (WorkNumber(n), 1 + u32::from(n > 1_000))).collect(),
        done: (1..=600).map(WorkNumber).collect(),
        ..WorkBatch::default()
    };
    keep(&store, batch).await;
    let found = all(&store).await;
    assert_eq!((found.len(), found[0].number), (1_400, WorkNumber(601)));
    assert!(found.iter().all(|each| each.deliveries == 1 + u32::from(each.number.0 > 1_000)));
}
