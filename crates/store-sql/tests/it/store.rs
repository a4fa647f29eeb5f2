//! Opening, closing, migrating, encrypting, recovering: the store as a whole.

use std::sync::Arc;

use naru_domain::metrics::{Histogram, MetricSink};
use naru_domain::ports::{ChatLog as _, DeliveryJournal as _, Ledger as _, StoreError};
use naru_domain::work::{LedgerBatch, MessageState};
use naru_domain::{DeviceKey, Durability, MessageId, Offset};
use naru_store_sql::{MasterKeys, SqlStore, StoreOptions};
use naru_testkit::store_contract as suite;

use crate::{accept, message, open, run_sql, settle};

#[tokio::test]
async fn migrations_are_shown_before_and_after_they_are_applied() {
    let folder = tempfile::tempdir().unwrap();
    let options = StoreOptions::new(folder.path());
    let before = SqlStore::migrations(&options).await.unwrap();
    assert!(!before.is_empty() && before.iter().all(|migration| !migration.applied));
    let pending = SqlStore::pending_migrations(&options).await.unwrap();
    assert_eq!(pending.len(), before.len());
    assert!(pending[0].sql.contains("CREATE TABLE messages"));
    assert!(!folder.path().join("naru.db").exists(), "looking changes nothing");

    let store = open(folder.path()).await;
    // A look works beside the running server.
    assert!(SqlStore::migrations(&options).await.unwrap().iter().all(|step| step.applied));
    assert!(SqlStore::pending_migrations(&options).await.unwrap().is_empty());
    store.close().await.unwrap();
}

#[tokio::test]
async fn pending_migrations_that_may_not_run_are_an_error_with_the_command_to_run() {
    let folder = tempfile::tempdir().unwrap();
    let options = StoreOptions { migrate: false, ..StoreOptions::new(folder.path()) };
    let refused = SqlStore::open(options.clone()).await.err().unwrap();
    assert!(refused.to_string().contains("naru migrate up"), "{refused}");
    open(folder.path()).await.close().await.unwrap();
    SqlStore::open(options).await.unwrap();
}

#[tokio::test]
async fn a_changed_or_unknown_migration_is_refused() {
    let changes = [
        ("UPDATE _migrations SET checksum = zeroblob(32)", "not the one"),
        ("INSERT INTO _migrations VALUES (999, 'future', zeroblob(32), 0)", "newer version"),
    ];
    for (sql, expected) in changes {
        let folder = tempfile::tempdir().unwrap();
        open(folder.path()).await.close().await.unwrap();
        run_sql(folder.path(), sql).await;
        let refused = SqlStore::open(StoreOptions::new(folder.path())).await.err().unwrap();
        assert!(matches!(refused, StoreError::Failed { .. }), "{refused}");
        assert!(refused.to_string().contains(expected), "{refused}");
    }
}

#[tokio::test]
async fn what_was_kept_is_there_after_a_close_and_a_copy_holds_it_too() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    store.commit(&accept([message(1)]), Durability::Os).await.unwrap();
    let copy = folder.path().join("copy.db");
    store.back_up(&copy).await.unwrap();
    assert!(store.back_up(&copy).await.is_err(), "an existing copy is not overwritten");
    store.commit(&accept([message(2)]), Durability::Os).await.unwrap();
    store.close().await.unwrap();
    let log = folder.path().join("naru.db-wal");
    assert!(!log.exists(), "closing folds the log into the database");

    let store = open(folder.path()).await;
    assert_eq!(store.recover().await.unwrap().pending, [message(1), message(2)]);
    store.close().await.unwrap();
    let options =
        StoreOptions { url: "sqlite:copy.db".to_owned(), ..StoreOptions::new(folder.path()) };
    let copied = SqlStore::open(options).await.unwrap();
    assert_eq!(copied.recover().await.unwrap().pending, [message(1)]);
}

#[tokio::test]
async fn a_closed_store_answers_with_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    store.close().await.unwrap();
    assert!(store.recover().await.is_err());
    assert!(store.commit(&accept([message(1)]), Durability::Os).await.is_err());
}

#[tokio::test]
async fn recovery_believes_whichever_of_journal_and_database_is_further() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let replies = |device| (1..=5).map(move |offset| suite::reply(device, offset, None));
    let batch = LedgerBatch {
        settle: vec![suite::settle(None, MessageState::Done, (1..=3).flat_map(replies).collect())],
        delivered: vec![(DeviceKey(1), Offset(4)), (DeviceKey(2), Offset(2))],
        ..LedgerBatch::default()
    };
    store.commit(&batch, Durability::Os).await.unwrap();
    let journal = store.journal();
    journal.record(DeviceKey(1), Offset(3)); // The database is further.
    journal.record(DeviceKey(2), Offset(4)); // The journal is further.
    journal.record(DeviceKey(3), Offset(5)); // Torn below: the database does not know it.
    journal.record(DeviceKey(4), Offset(7)); // Only the journal knows the stream.
    store.close().await.unwrap();
    let path = folder.path().join("delivered.journal");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[3 * 16 + 2] ^= 0x40;
    std::fs::write(&path, bytes).unwrap();

    let store = open(folder.path()).await;
    for _ in 0..2 {
        let found = store.recover().await.unwrap();
        let undelivered: Vec<(i64, u64)> =
            found.undelivered.iter().map(|reply| (reply.device.0, reply.offset.0)).collect();
        assert_eq!(undelivered, [(1, 5), (2, 5), (3, 1), (3, 2), (3, 3), (3, 4), (3, 5)]);
        let expected = [(1, 5), (2, 5), (3, 5), (4, 7)].map(|(k, o)| (DeviceKey(k), Offset(o)));
        assert_eq!(found.offsets, expected);
    }
}

#[tokio::test]
async fn a_message_that_is_committed_late_is_found_though_newer_ones_are_done() {
    let folder = tempfile::tempdir().unwrap();
    // Ids are milliseconds times 4096: the late one was numbered a second before the newest.
    let newest = 1 << 50;
    let late = newest - (1_000 << 12);
    let store = open(folder.path()).await;
    let mut batch = accept([message(newest)]);
    batch.settle = vec![settle(newest, Vec::new())];
    store.commit(&batch, Durability::Os).await.unwrap();
    store.recover().await.unwrap();
    store.commit(&accept([message(late)]), Durability::Os).await.unwrap();
    store.close().await.unwrap();
    let store = open(folder.path()).await;
    assert_eq!(store.recover().await.unwrap().pending, [message(late)]);
}

#[tokio::test]
async fn encrypted_texts_are_not_in_the_file_and_survive_a_new_key() {
    let folder = tempfile::tempdir().unwrap();
    let with = |current, older: Vec<(u32, [u8; 32])>| StoreOptions {
        encryption: Some(MasterKeys::new(current, older)),
        ..StoreOptions::new(folder.path())
    };
    let store = SqlStore::open(with((1, [1; 32]), Vec::new())).await.unwrap();
    let mut secret = message(1);
    secret.text = "the-secret-word".into();
    let mut batch = accept([secret.clone()]);
    let reply = suite::reply(1, 1, Some(1));
    batch.settle = vec![settle(1, vec![reply.clone()])];
    store.commit(&batch, Durability::Os).await.unwrap();
    store.close().await.unwrap();
    let bytes = std::fs::read(folder.path().join("naru.db")).unwrap();
    let holds = |needle: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
    assert!(!holds(b"the-secret-word") && !holds(b"reply 1/1"));
    assert!(holds("보낸이".as_bytes()), "names stay readable");

    let store = SqlStore::open(with((2, [2; 32]), vec![(1, [1; 32])])).await.unwrap();
    store.commit(&accept([message(2)]), Durability::Os).await.unwrap();
    assert_eq!(store.message(MessageId(1)).await.unwrap().text, secret.text);
    assert_eq!(store.replies(MessageId(1)).await.unwrap(), [reply]);
    store.close().await.unwrap();

    // Without the old key its rows are refused by name, and the others are not.
    let store = SqlStore::open(with((2, [2; 32]), Vec::new())).await.unwrap();
    let refused = store.message(MessageId(1)).await.unwrap_err();
    assert!(refused.to_string().contains("key 1"), "{refused}");
    assert_eq!(store.message(MessageId(2)).await.unwrap(), message(2));
    store.close().await.unwrap();
    run_sql(
        folder.path(),
        "UPDATE messages SET sealed = (SELECT sealed FROM messages WHERE id = 2)",
    )
    .await;
    let store = SqlStore::open(with((2, [2; 32]), Vec::new())).await.unwrap();
    let moved = store.message(MessageId(1)).await;
    assert!(matches!(moved, Err(StoreError::Corrupt { .. })), "{moved:?}");
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_a_whole_batch_or_none() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    for id in 1..=20 {
        let batch = accept((0..40).map(|n| message(id * 100 + n)));
        let commit = store.commit(&batch, Durability::Os);
        // Polled once or not much more, then dropped.
        tokio::select! {
            biased;
            _ = commit => (),
            () = tokio::task::yield_now() => (),
        }
    }
    store.close().await.unwrap();
    let store = open(folder.path()).await;
    let pending = store.recover().await.unwrap().pending;
    assert_eq!(pending.len() % 40, 0);
    store.commit(&accept([message(1)]), Durability::Os).await.unwrap();
}

#[derive(Default)]
struct Names(Vec<(String, u64)>);

impl MetricSink for Names {
    fn counter(&mut self, name: &str, _: &str, _: &[(&str, &str)], value: u64) {
        self.0.push((name.to_owned(), value));
    }
    fn gauge(&mut self, name: &str, _: &str, _: &[(&str, &str)], value: i64) {
        self.0.push((name.to_owned(), u64::try_from(value).unwrap_or(0)));
    }
    fn histogram(&mut self, name: &str, _: &str, _: &[(&str, &str)], value: &Histogram) {
        self.0.push((name.to_owned(), value.read().0.iter().sum()));
    }
}

#[tokio::test]
async fn the_figures_tell_what_was_kept() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let mut batch = accept([message(1), message(2)]);
    batch.settle = vec![settle(1, vec![suite::reply(1, 1, Some(1))])];
    store.commit(&batch, Durability::Os).await.unwrap();
    let twice = accept([naru_domain::work::MessageRecord { id: MessageId(3), ..message(2) }]);
    store.commit(&twice, Durability::Os).await.unwrap();
    let mut names = Names::default();
    Arc::clone(&store.metrics()).collect(&mut names);
    let value = |name: &str| names.0.iter().find(|(known, _)| known == name).map(|known| known.1);
    assert_eq!(value("store_commits"), Some(2));
    assert_eq!(value("store_messages"), Some(2));
    assert_eq!(value("store_replies"), Some(1));
    assert_eq!(value("store_duplicates"), Some(1));
    assert_eq!(value("store_commit_seconds"), Some(2));
    assert!(value("store_bytes") > Some(4096));
    assert_eq!(value("journal_errors"), Some(0));
}
