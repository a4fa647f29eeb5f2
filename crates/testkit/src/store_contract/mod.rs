//! What every store must keep to: one function a port, which opens a fresh store for each promise.
//!
//! An adapter's tests call them all with the real engine behind it. A failed promise panics at the line
//! that states it. Knows the ports only, never an engine.

mod access;
mod audit;
mod chat_log;
mod history;
mod ledger;
mod maintenance;
mod model;
mod monitors;
mod outbox;
mod places;
mod schedules;
mod wards;
mod work_queues;

pub use access::{accounts, tokens};
pub use audit::{audit, audit_entry};
pub use chat_log::chat_log;
pub use history::history;
pub use ledger::{ledger, revive};
pub use maintenance::maintenance;
pub use model::ledger_against_a_model;
pub use monitors::monitors;
pub use outbox::{outbox, outbox_message};
pub use places::{bot_settings, devices, rooms};
pub use schedules::schedules;
pub use wards::{ward_block, ward_history};
pub use work_queues::work_queues;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use naru_domain::phone::PhoneHello;
use naru_domain::ports::StoreError;
use naru_domain::work::{LedgerBatch, MessageRecord, MessageState, Page, ReplyRecord, Settlement};
use naru_domain::{
    BotName, DeviceId, DeviceKey, Dialect, MessageId, Offset, PhoneReply, ReplyBody, Timestamp,
};

/// The value, or a panic at the caller's line with what the store said.
#[track_caller]
pub(crate) fn ok<T, E: std::fmt::Display>(result: Result<T, E>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("the store failed: {error}"),
    }
}

#[track_caller]
pub(crate) fn refused<T: std::fmt::Debug>(result: Result<T, StoreError>, expected: &StoreError) {
    match result {
        Err(error) => assert_eq!(&error, expected),
        Ok(value) => panic!("expected {expected:?}, got {value:?}"),
    }
}

pub(crate) fn page(after: Option<i64>, limit: usize) -> Page {
    Page { after, limit }
}

pub(crate) fn bot(name: &str) -> BotName {
    ok(BotName::parse(name))
}

/// A phone that introduces itself.
#[must_use]
pub fn hello(bot_name: &str, device: &str) -> PhoneHello {
    PhoneHello {
        bot: bot(bot_name),
        device: ok(DeviceId::parse(device)),
        version: "3.2.2".to_owned(),
        client_type: "MessengerBotR".to_owned(),
        device_info: "brand model 14".to_owned(),
        device_ip: "10.0.0.7".to_owned(),
        peer: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        dialect: Dialect::Json,
    }
}

/// A pending message with all optional fields set.
#[must_use]
pub fn message(id: i64, device: i64, log_id: Option<&str>) -> MessageRecord {
    MessageRecord {
        id: MessageId(id),
        device: DeviceKey(device),
        room: Some(naru_domain::RoomKey(device * 10)),
        room_name: Arc::from("방 이름"),
        channel_id: Arc::from("18123456789"),
        log_id: log_id.map(Box::from),
        sender: "보낸이".into(),
        user_hash: Some("a1b2".into()),
        text: format!("text {id} 'quoted' \u{0} \u{202e}").into(),
        is_group_chat: id % 2 == 0,
        is_mention: id % 3 == 0,
        received_at: Timestamp(1_700_000_000_000 + id),
        state: MessageState::Pending,
        failure: "".into(),
    }
}

/// A text reply.
#[must_use]
pub fn reply(device: i64, offset: u64, message: Option<i64>) -> ReplyRecord {
    ReplyRecord {
        device: DeviceKey(device),
        offset: Offset(offset),
        message: message.map(MessageId),
        at: Timestamp(1_700_000_000_000 + i64::try_from(offset).unwrap_or(0)),
        reply: Arc::new(PhoneReply {
            room: Arc::from("방 이름"),
            channel_id: Arc::from("18123456789"),
            body: ReplyBody::Text(format!("reply {device}/{offset}").into()),
            scheduled: message.is_none(),
        }),
    }
}

/// How a message ended.
#[must_use]
pub fn settle(message: Option<i64>, state: MessageState, replies: Vec<ReplyRecord>) -> Settlement {
    Settlement { message: message.map(MessageId), state, failure: "".into(), replies, keyed: None }
}

pub(crate) fn accept(messages: Vec<MessageRecord>) -> LedgerBatch {
    LedgerBatch { accept: messages.into_iter().map(Arc::new).collect(), ..LedgerBatch::default() }
}

pub(crate) fn settling(settlements: Vec<Settlement>) -> LedgerBatch {
    LedgerBatch { settle: settlements, ..LedgerBatch::default() }
}
