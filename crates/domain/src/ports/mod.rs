//! The port traits: what the core asks of the world, in the core's own words.
//!
//! All are object safe and narrow. Each has a contract suite in `naru-testkit` that every adapter
//! passes with the real engine behind it.

mod bus;
mod desk;
mod gate;
mod outbox;
mod owner;
mod store;
mod wards;

pub use bus::{
    Bus, BusError, BusEvent, History, HistoryPage, HistoryQuery, NamespaceOptions, Post,
};
pub use desk::{DeskError, PhoneDesk, PhoneLine};
pub use gate::{
    Backend, BackendEvents, Caller, ChannelRight, Credentials, Login, Logins, PublishVerdict,
    Refreshed, Refusal, SubscribeClaims, SubscribeGrant, SubscribeOverride, TokenError,
    TokenVerifier,
};
pub use outbox::{
    KeptOutbox, Outbox, OutboxBatch, OutboxCounts, OutboxDropped, OutboxEnd, OutboxMessage,
    OutboxReceipt, OutboxResult, Weight,
};
pub use owner::{ChannelOwner, OwnerError};
pub use store::{
    Accounts, Audit, BotSettings, ChatLog, DeliveryJournal, Devices, KeptWork, Ledger, Maintenance,
    MigrationState, Monitors, PurgeKind, Rooms, Schedules, StoreError, Tokens, WorkBatch, WorkKey,
    WorkQueues,
};
pub use wards::{
    WARD_BATCH_ROWS_MAX, WARD_BODY_BYTES_MAX, WARDS_MAX, WardBatch, WardBlock, WardEvent,
    WardForget, WardHistory, WardPeak, WardPlace, WardRecord, WardResolution, WardVisit,
};
