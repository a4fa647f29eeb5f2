//! What can happen to files and disks, and what the store answers: a clear error, no panic, nothing
//! acknowledged that was not kept, and no restart needed when the fault is gone.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use naru_domain::ports::{
    KeptWork, Ledger as _, Maintenance as _, PurgeKind, StoreError, WardBatch, WardBlock,
    WardEvent, WardForget, WardHistory as _, WardPlace, WardRecord, WardResolution, WorkBatch,
    WorkQueues as _,
};
use naru_domain::work::{LedgerBatch, MessageRecord, MessageState};
use naru_domain::{
    ChannelName, Durability, Epoch, Offset, Position, Publication, Timestamp, WorkNumber,
};
use naru_store_sql::{SqlStore, StoreOptions};
use sqlx::Executor as _;

use crate::{accept, contract_suite, message, open, other_program};

fn large(id: i64, state: MessageState) -> MessageRecord {
    MessageRecord { text: "x".repeat(20_000).into(), state, ..message(id) }
}

/// Commits batches until one fails; returns the id of the first message that was refused, and why.
async fn fill(store: &SqlStore, from: i64) -> (i64, StoreError) {
    for id in from..from + 10_000 {
        if let Err(error) = store.commit(&large_batch(id), Durability::Os).await {
            return (id, error);
        }
    }
    panic!("the disk never got full");
}

/// Five messages, so that a half-kept batch would show.
fn large_batch(id: i64) -> LedgerBatch {
    accept((0..5).map(|n| large(id * 10 + n, MessageState::Done)))
}

async fn count(folder: &Path) -> i64 {
    let mut other = other_program(folder).await;
    let count = sqlx::query_scalar("SELECT count(*) FROM messages").fetch_one(&mut other).await;
    count.expect("messages are counted")
}

#[tokio::test]
async fn a_full_store_refuses_whole_batches_and_goes_on_once_there_is_space() {
    let folder = tempfile::tempdir().unwrap();
    let options = StoreOptions { pages_max: Some(512), ..StoreOptions::new(folder.path()) };
    let store = SqlStore::open(options).await.unwrap();
    let (refused, error) = fill(&store, 1).await;
    assert!(matches!(&error, StoreError::Full { reason } if reason.contains("naru.db")), "{error}");
    assert_eq!(count(folder.path()).await, (refused - 1) * 5);
    let again = store.commit(&large_batch(refused), Durability::Os).await;
    assert!(matches!(again, Err(StoreError::Full { .. })));

    let removed = store.purge(PurgeKind::Messages, Timestamp(i64::MAX), 50).await.unwrap();
    assert_eq!(removed, 50);
    store.commit(&large_batch(refused), Durability::Os).await.unwrap();
    assert_eq!(count(folder.path()).await, refused * 5 - 50);
    store.check().await.unwrap();
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_full_store_refuses_work_as_a_whole_and_lets_go_of_what_is_done() {
    let folder = tempfile::tempdir().unwrap();
    let options = StoreOptions { pages_max: Some(512), ..StoreOptions::new(folder.path()) };
    let store = SqlStore::open(options).await.unwrap();
    let numbers = |first: u64| (first..first + 5).map(WorkNumber);
    let mut first = 1;
    let error = loop {
        let add = numbers(first).map(large_work).collect();
        let batch = WorkBatch { add, ..WorkBatch::default() };
        match store.keep_work(Arc::new(batch), Durability::Disk).await {
            Ok(()) => first += 5,
            Err(error) => break error,
        }
        assert!(first < 10_000, "the disk never got full");
    };
    assert!(matches!(&error, StoreError::Full { .. }), "{error}");
    let kept = store.load_work(WorkNumber(0), 10_000).await.unwrap();
    assert!(kept.len() as u64 == first - 1 && kept.iter().all(|each| each.number.0 < first));
    let done = (1..first / 2).map(WorkNumber).collect();
    let batch = WorkBatch { done, ..WorkBatch::default() };
    store.keep_work(Arc::new(batch), Durability::Disk).await.unwrap();
    let add = numbers(first).map(large_work).collect();
    store
        .keep_work(Arc::new(WorkBatch { add, ..WorkBatch::default() }), Durability::Disk)
        .await
        .unwrap();
    store.close().await.unwrap();
}

fn large_work(number: WorkNumber) -> KeptWork {
    let publication = Publication {
        position: Position { epoch: Epoch(0), offset: Offset(0) },
        data: vec![7; 20_000].into(),
        meta: None,
        at: Timestamp(1),
        key: None,
    };
    let queue = ChannelName::parse("queue:q").expect("a name");
    let publication = Arc::new(publication);
    KeptWork { number, life: Epoch(1), queue, publication, deliveries: 0 }
}

/// A small file system of its own; `None` where this process may not mount one.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path) -> Option<SmallDisk> {
        let arguments = ["-t", "tmpfs", "-o", "size=4m", "naru-test"];
        let mounted = std::process::Command::new("mount").args(arguments).arg(at).output().ok()?;
        mounted.status.success().then(|| SmallDisk(at.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "the disk is unmounted");
    }
}

#[tokio::test]
async fn a_full_disk_refuses_whole_batches_and_goes_on_once_there_is_space() {
    let folder = tempfile::tempdir().unwrap();
    // Where mounting is not allowed, the test above stands for this one.
    let Some(_disk) = SmallDisk::mount(folder.path()) else { return };
    let ballast = folder.path().join("ballast");
    std::fs::write(&ballast, vec![1; 1 << 20]).unwrap();
    let store = open(folder.path()).await;
    let (refused, error) = fill(&store, 1).await;
    assert!(matches!(error, StoreError::Full { .. }), "{error}");
    assert!(matches!(store.probe().await, Err(StoreError::Full { .. }) | Ok(())));

    std::fs::remove_file(&ballast).unwrap();
    store.commit(&large_batch(refused), Durability::Disk).await.unwrap();
    store.probe().await.unwrap();
    assert_eq!(count(folder.path()).await, refused * 5);
    store.check().await.unwrap();
    drop(store);
}

#[tokio::test]
async fn a_file_locked_by_another_program_is_busy_and_works_again_when_it_lets_go() {
    let folder = tempfile::tempdir().unwrap();
    let statement_timeout = Duration::from_millis(50);
    let options = StoreOptions { statement_timeout, ..StoreOptions::new(folder.path()) };
    let store = SqlStore::open(options).await.unwrap();
    let mut other = other_program(folder.path()).await;
    other.execute("BEGIN EXCLUSIVE").await.unwrap();
    let refused = store.commit(&accept([message(1)]), Durability::Os).await;
    assert!(
        matches!(&refused, Err(StoreError::Busy { reason }) if reason.contains("another program")),
        "{refused:?}"
    );
    // Readers do not care.
    assert!(store.recover().await.is_err(), "a start moves its marks, which is a write");
    other.execute("ROLLBACK").await.unwrap();
    store.commit(&accept([message(1)]), Durability::Os).await.unwrap();
    assert_eq!(store.recover().await.unwrap().pending, [message(1)]);
}

#[tokio::test]
async fn a_second_server_on_the_same_folder_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let second = SqlStore::open(StoreOptions::new(folder.path())).await.err();
    let shown = folder.path().display().to_string();
    assert!(
        matches!(&second, Some(StoreError::Busy { reason })
            if reason.contains("another server") && reason.contains(&shown)),
        "{second:?}"
    );
    store.close().await.unwrap();
    open(folder.path()).await.close().await.unwrap();
}

#[tokio::test]
async fn a_damaged_file_is_called_damaged_when_it_is_opened() {
    let damage: [(&str, usize, usize); 2] = [("the header", 0, 100), ("a table", 4096, 3 * 4096)];
    for (what, from, until) in damage {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path()).await;
        store.commit(&accept((1..50).map(message)), Durability::Disk).await.unwrap();
        store.close().await.unwrap();
        let path = folder.path().join("naru.db");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[from..until].fill(0xa5);
        std::fs::write(&path, bytes).unwrap();
        let opened = SqlStore::open(StoreOptions::new(folder.path())).await.err();
        assert!(
            matches!(&opened, Some(StoreError::Corrupt { reason })
                if reason.contains("naru.db") && reason.contains("backup")),
            "{what}: {opened:?}"
        );
    }
}

#[tokio::test]
async fn a_folder_or_file_that_cannot_be_written_is_named_with_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a-file");
    std::fs::write(&file, b"").unwrap();
    let taken = folder.path().join("taken");
    std::fs::create_dir_all(taken.join("naru.db")).unwrap();
    // Rights do not stop root, so these are folders that nobody could write to.
    for data_dir in [file, taken, PathBuf::from("/proc/naru-test")] {
        let opened = SqlStore::open(StoreOptions::new(&data_dir)).await.err();
        let shown = data_dir.display().to_string();
        assert!(
            matches!(&opened, Some(StoreError::ReadOnly { reason })
                if reason.contains(&shown) && reason.contains("write")),
            "{shown}: {opened:?}"
        );
    }
}

#[tokio::test]
async fn a_database_that_vanishes_is_an_error_and_not_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    store.commit(&accept([message(1)]), Durability::Os).await.unwrap();
    for name in ["naru.db", "naru.db-wal", "naru.db-shm"] {
        std::fs::remove_file(folder.path().join(name)).unwrap();
    }
    // The system keeps deleted files for whoever has them open; whatever the answer, it is one.
    drop(store.commit(&accept([message(2)]), Durability::Disk).await);
    drop(store.recover().await);
    drop(store.close().await);
}

/// A minute of three wards, with an event: as one flush has it.
fn ward_minute(minute: i64, body_bytes: usize) -> Arc<WardBatch> {
    let ward_names = ["pal", "mc", "ark"];
    let blocks = ward_names.map(|ward| WardBlock {
        data: vec![7; body_bytes].into(),
        ..contract_suite::ward_block(ward, WardResolution::Raw, minute * 60)
    });
    let event = WardEvent {
        place: WardPlace::new(Timestamp(minute * 60_000), 1),
        ward: "pal".into(),
        kind: "joined".into(),
        body: "{}".into(),
    };
    let (blocks, events) = (blocks.to_vec(), vec![event]);
    Arc::new(WardBatch { blocks, events, ..WardBatch::default() })
}

#[tokio::test]
async fn a_full_store_refuses_a_flush_of_wards_as_a_whole_and_forgetting_makes_space() {
    let folder = tempfile::tempdir().unwrap();
    let options = StoreOptions { pages_max: Some(256), ..StoreOptions::new(folder.path()) };
    let store = SqlStore::open(options).await.unwrap();
    let mut minute = 0;
    let error = loop {
        match store.flush(ward_minute(minute, 3_000), Durability::Os).await {
            Ok(()) => minute += 1,
            Err(error) => break error,
        }
        assert!(minute < 10_000, "the disk never got full");
    };
    assert!(matches!(&error, StoreError::Full { reason } if reason.contains("naru.db")), "{error}");
    let events = store.events(None, None, 9_999).await.unwrap();
    assert_eq!(i64::try_from(events.len()).unwrap(), minute, "no event of the refused flush");
    let record = WardRecord {
        ward: "pal".into(),
        part: "life".into(),
        body: "x".repeat(20_000).into(),
        at: Timestamp(1),
    };
    assert!(matches!(store.save_record(&record).await, Err(StoreError::Full { .. })));
    assert_eq!(store.load_records().await.unwrap(), []);

    let last = contract_suite::ward_block("pal", WardResolution::Raw, minute * 60).start;
    let raw = WardForget::Blocks(WardResolution::Raw);
    assert_eq!(store.forget(raw, last, 60).await.unwrap(), 60);
    store.flush(ward_minute(minute, 3_000), Durability::Os).await.unwrap();
    store.save_record(&record).await.unwrap();
    assert_eq!(store.load_records().await.unwrap(), [record]);
    store.check().await.unwrap();
    store.close().await.unwrap();
}

#[tokio::test]
async fn an_hour_of_three_wards_writes_less_than_a_mebibyte() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("naru.db");
    let size = |path: &Path| std::fs::metadata(path).map_or(0, |file| file.len());
    let store = open(folder.path()).await;
    store.flush(ward_minute(0, 300), Durability::Os).await.unwrap();
    store.close().await.unwrap();
    let before = size(&database);

    // Every page that is written goes to the log; folding the log in copies each page once more.
    let store = open(folder.path()).await;
    for minute in 1..=60 {
        store.flush(ward_minute(minute, 300), Durability::Os).await.unwrap();
    }
    let logged = size(&folder.path().join("naru.db-wal"));
    store.close().await.unwrap();
    let hot_pages = 16 * 4_096;
    let copied = size(&database) - before + hot_pages;
    assert!(logged + copied < 1 << 20, "{logged} in the log, {copied} in the database");
}
