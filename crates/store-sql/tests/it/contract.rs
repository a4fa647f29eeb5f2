//! Every port contract against SQLite, plain and with encrypted texts.

use std::sync::Mutex;

use naru_store_sql::{MasterKeys, SqlStore, StoreOptions};
use naru_testkit::store_contract as contract;
use tempfile::TempDir;

/// Opens fresh stores and removes their folders in the end.
struct Stores {
    encryption: Option<MasterKeys>,
    folders: Mutex<Vec<TempDir>>,
}

impl Stores {
    fn plain() -> Stores {
        Stores { encryption: None, folders: Mutex::default() }
    }

    fn encrypted() -> Stores {
        let encryption = Some(MasterKeys::new((1, [7; 32]), Vec::new()));
        Stores { encryption, folders: Mutex::default() }
    }

    async fn fresh(&self) -> SqlStore {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let encryption = self.encryption.clone();
        let options = StoreOptions { encryption, ..StoreOptions::new(folder.path()) };
        self.folders.lock().expect("no test panicked").push(folder);
        SqlStore::open(options).await.expect("a fresh store opens")
    }
}

macro_rules! contracts {
    ($($name:ident),+ $(,)?) => {$(
        #[tokio::test]
        async fn $name() {
            let stores = Stores::plain();
            contract::$name(|| stores.fresh()).await;
        }
    )+};
}

contracts! {
    accounts, audit, bot_settings, chat_log, devices, history, ledger, maintenance, monitors,
    outbox, revive, rooms, schedules, tokens, ward_history, work_queues,
}

#[tokio::test]
async fn the_ledger_and_the_chat_log_keep_their_promises_with_encrypted_texts() {
    let stores = Stores::encrypted();
    contract::ledger(|| stores.fresh()).await;
    contract::revive(|| stores.fresh()).await;
    contract::chat_log(|| stores.fresh()).await;
}

#[tokio::test]
async fn random_batches_leave_what_a_naive_model_has() {
    let stores = Stores::plain();
    for seed in 0..8 {
        contract::ledger_against_a_model(stores.fresh().await, seed, 25).await;
    }
}
