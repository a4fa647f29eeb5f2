//! The store against real SQLite files: the port contracts, and each fault with its answer.

mod contract;
mod faults;
mod kill;
mod outbox;
mod store;
mod tampering;

use std::path::Path;
use std::sync::Arc;

use naru_domain::work::{LedgerBatch, MessageRecord, MessageState, ReplyRecord, Settlement};
use naru_store_sql::{SqlStore, StoreOptions};
use naru_testkit::store_contract as contract_suite;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _};

async fn open(folder: &Path) -> SqlStore {
    SqlStore::open(StoreOptions::new(folder)).await.expect("the store opens")
}

/// Another program that has the database open.
async fn other_program(folder: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(folder.join("naru.db"));
    options.connect().await.expect("another program opens the file")
}

/// Changes the database of a closed store behind its back.
async fn run_sql(folder: &Path, sql: &str) {
    let mut connection = other_program(folder).await;
    connection.execute(AssertSqlSafe(sql.to_owned())).await.expect("the statement runs");
    sqlx::Connection::close(connection).await.expect("the file closes");
}

fn accept(messages: impl IntoIterator<Item = MessageRecord>) -> LedgerBatch {
    let accept = messages.into_iter().map(Arc::new).collect();
    LedgerBatch { accept, ..LedgerBatch::default() }
}

fn message(id: i64) -> MessageRecord {
    contract_suite::message(id, 1, Some(&id.to_string()))
}

fn settle(id: i64, replies: Vec<ReplyRecord>) -> Settlement {
    contract_suite::settle(Some(id), MessageState::Done, replies)
}
