//! Death without warning: a child process commits in a loop until it is killed, again and again, and
//! whatever it acknowledged is there afterwards.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use naru_domain::ports::{ChatLog as _, DeliveryJournal as _, Ledger as _};
use naru_domain::work::LedgerBatch;
use naru_domain::{DeviceKey, Durability, MessageId, Offset};
use naru_testkit::store_contract as suite;

use crate::{open, settle};

pub(crate) const FOLDER: &str = "NARU_TEST_KILL_FOLDER";
const PHONE: DeviceKey = DeviceKey(3);

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;
    for round in 1..=4 {
        let child = "kill::the_child_that_gets_killed";
        acknowledged = kill_a_child(child, folder.path(), acknowledged + 40 * round);
        let store = open(folder.path()).await;
        store.check().await.unwrap();
        let found = store.recover().await.unwrap();
        assert!(found.highest >= Some(MessageId(acknowledged)), "round {round}");
        // The child settles each message in the batch after the one that accepts it.
        assert!(found.pending.len() <= 1, "round {round}: {}", found.pending.len());
        for id in 1..acknowledged {
            assert_eq!(store.message(MessageId(id)).await.unwrap().id.0, id, "round {round}");
            assert_eq!(store.replies(MessageId(id)).await.unwrap().len(), 1, "round {round}");
        }
        // It records each offset as handed over, and acknowledges afterwards.
        let recorded = store.journal().recorded().unwrap();
        let last = recorded.iter().find(|(device, _)| *device == PHONE).unwrap().1;
        assert!(last.0 + 1 >= u64::try_from(acknowledged).unwrap(), "round {round}");
        assert!(found.undelivered.iter().all(|reply| reply.offset > last), "round {round}");
        store.close().await.unwrap();
    }
}

/// Lets a child commit until it acknowledged `enough`, kills it, and returns its last word.
pub(crate) fn kill_a_child(test: &str, folder: &Path, enough: i64) -> i64 {
    let mut child = Command::new(std::env::current_exe().expect("this program has a path"))
        .args(["--exact", test, "--nocapture"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the child starts");
    let mut last = 0;
    let lines =
        BufReader::new(child.stdout.take().expect("it is piped")).lines().map_while(Result::ok);
    let mut killed = false;
    // Read to the end: what it said before it died counts, even if it was said late.
    for line in lines {
        if let Some(id) = line.strip_prefix("kept ").and_then(|id| id.parse().ok()) {
            last = id;
        }
        if last >= enough && !killed {
            child.kill().expect("it is ours");
            killed = true;
        }
    }
    child.wait().expect("it is ours");
    assert!(killed, "the child ended by itself after {last}");
    last
}

/// Does nothing unless it is the child.
#[tokio::test]
async fn the_child_that_gets_killed() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let store = open(&folder).await;
    let (mut stdout, journal) = (std::io::stdout(), store.journal());
    let found = store.recover().await.unwrap();
    let mut pending = found.pending;
    let mut id = found.highest.map_or(0, |highest| highest.0);
    for _ in 0..1_000_000 {
        id += 1;
        let message = suite::message(id, PHONE.0, Some(&id.to_string()));
        let settled = pending.iter().map(|message| {
            let offset = u64::try_from(message.id.0).unwrap();
            settle(message.id.0, vec![suite::reply(PHONE.0, offset, Some(message.id.0))])
        });
        let batch = LedgerBatch {
            settle: settled.collect(),
            accept: vec![Arc::new(message.clone())],
            ..LedgerBatch::default()
        };
        store.commit(&batch, Durability::Os).await.unwrap();
        journal.record(PHONE, Offset(u64::try_from(id - 1).unwrap()));
        writeln!(stdout, "kept {id}").unwrap();
        pending = vec![message];
    }
}
