//! The store ports over SQLite; PostgreSQL and MySQL join behind the same traits.
//!
//! One connection writes, a few read. Every write is one transaction that runs to its end even if its
//! caller goes away. This crate knows the ports and SQL, and nothing of sockets, sessions or bots.

mod access;
mod audit;
mod chat_log;
mod engine;
mod history;
mod journal;
mod keys;
mod ledger;
mod maintenance;
mod metrics;
mod migrate;
mod monitors;
mod options;
mod outbox;
mod places;
mod publication_meta;
mod rows;
mod schedules;
mod sqlite;
mod store;
mod wards;
mod work_queues;

pub use journal::DeliveryJournalFile;
pub use keys::MasterKeys;
pub use migrate::PendingMigration;
pub use options::StoreOptions;
pub use store::SqlStore;
