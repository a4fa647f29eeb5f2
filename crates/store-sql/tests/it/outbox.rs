//! The outbox under kills and full disks: what was put is there, in order, until it was settled.

use std::io::Write as _;
use std::path::PathBuf;

use naru_domain::ports::{Outbox as _, OutboxBatch, OutboxEnd, OutboxResult, StoreError, Weight};
use naru_domain::{Durability, Timestamp};
use naru_store_sql::{SqlStore, StoreOptions};
use naru_testkit::store_contract::outbox_message;

use crate::kill::{FOLDER, kill_a_child};
use crate::open;

const LATE: Timestamp = Timestamp(i64::MAX);

async fn waiting(store: &SqlStore) -> Vec<i64> {
    let due = store.due("a", LATE, 1_000).await.expect("it reads");
    due.iter().map(|each| each.message.at.0).collect()
}

#[tokio::test]
async fn what_was_put_is_there_after_a_kill_in_order_and_what_was_settled_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;
    for round in 1..=4 {
        let child = "outbox::the_child_that_gets_killed";
        acknowledged = kill_a_child(child, folder.path(), acknowledged + 40 * round);
        let store = open(folder.path()).await;
        store.check().await.unwrap();
        let found = waiting(&store).await;
        // The child puts n and n + 1 together, settles n - 1, and then acknowledges n.
        let first = found[0];
        assert!(first == acknowledged || first == acknowledged + 1, "round {round}: {found:?}");
        let rising: Vec<i64> = (first..).take(found.len()).collect();
        assert_eq!(found, rising, "round {round}");
        assert!(*found.last().unwrap() > acknowledged, "round {round}: {found:?}");
        store.close().await.unwrap();
    }
}

/// Does nothing unless it is the child.
#[tokio::test]
async fn the_child_that_gets_killed() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let store = open(&folder).await;
    let mut stdout = std::io::stdout();
    let first = waiting(&store).await.first().copied().unwrap_or(1);
    for n in first..first + 1_000_000 {
        let messages = [n, n + 1].map(|n| outbox_message("a", n, Weight::Info));
        store.put(&OutboxBatch::new(messages.to_vec()), Durability::Os).await.unwrap();
        let result = |end| OutboxResult {
            id: format!("a-{}", n - 1).into(),
            attempts: 1,
            failure: "".into(),
            end,
        };
        store.settle(&[result(OutboxEnd::Again(LATE))]).await.unwrap();
        store.settle(&[result(OutboxEnd::Delivered)]).await.unwrap();
        writeln!(stdout, "kept {n}").unwrap();
    }
}

#[tokio::test]
async fn a_full_store_refuses_whole_batches_and_goes_on_once_something_was_delivered() {
    let folder = tempfile::tempdir().unwrap();
    let options = StoreOptions { pages_max: Some(512), ..StoreOptions::new(folder.path()) };
    let store = SqlStore::open(options).await.unwrap();
    let large = |n| {
        let message = outbox_message("a", n, Weight::Important);
        naru_domain::ports::OutboxMessage { body: vec![b'x'; 20_000].into(), ..message }
    };
    let mut n = 1;
    let error = loop {
        let batch = OutboxBatch::new((n..n + 5).map(large).collect());
        match store.put(&batch, Durability::Disk).await {
            Ok(_) => n += 5,
            Err(error) => break error,
        }
        assert!(n < 10_000, "the disk never got full");
    };
    assert!(matches!(&error, StoreError::Full { .. }), "{error}");
    assert_eq!(waiting(&store).await, (1..n).collect::<Vec<_>>());
    let delivered = |n: i64| OutboxResult {
        id: format!("a-{n}").into(),
        attempts: 0,
        failure: "".into(),
        end: OutboxEnd::Delivered,
    };
    store.settle(&(1..n - 2).map(delivered).collect::<Vec<_>>()).await.unwrap();
    let batch = OutboxBatch::new((n..n + 5).map(large).collect());
    store.put(&batch, Durability::Disk).await.unwrap();
    assert_eq!(waiting(&store).await, (n - 2..n + 5).collect::<Vec<_>>());
    store.close().await.unwrap();
}
