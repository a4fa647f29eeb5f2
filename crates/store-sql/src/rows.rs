//! Messages and replies as rows: what stands in which column, plain or encrypted.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use naru_domain::ports::StoreError;
use naru_domain::work::{MessageRecord, MessageState, ReplyRecord};
use naru_domain::{
    DeviceKey, MediaItem, MediaKind, MessageId, Offset, PhoneReply, ReplyBody, RoomKey, Timestamp,
};
use sqlx::Row as _;
use sqlx::sqlite::{SqliteArguments, SqliteRow};

use crate::engine::JobError;
use crate::keys::{self, MasterKeys};

/// A message's columns, in the order that [`message`] reads.
pub(crate) const MESSAGE: &str = "id, device, room, state, flags, received_at, log_id, sender, \
     user_hash, room_name, channel_id, text, sealed, failure";

const GROUP: i64 = 1;
const MENTION: i64 = 2;
/// Added to a reply's kind when a schedule sent it.
const SCHEDULED: i64 = 8;

/// Adds a parameter. Numbers and texts always encode; the error is kept for the day that they do not.
pub(crate) fn add<'t, T>(arguments: &mut SqliteArguments, value: T) -> Result<(), StoreError>
where
    T: sqlx::Encode<'t, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
{
    sqlx::Arguments::add(arguments, value)
        .map_err(|error| StoreError::Failed { reason: format!("a value cannot be kept: {error}") })
}

/// A stream's offset as the store keeps it.
pub(crate) fn place(offset: Offset) -> Result<i64, StoreError> {
    i64::try_from(offset.0)
        .map_err(|_| StoreError::Failed { reason: "an offset is out of range".to_owned() })
}

pub(crate) fn offset(place: i64) -> Offset {
    Offset(u64::try_from(place).unwrap_or(0))
}

/// Adds a message's columns in the state that it has by the end of its batch.
pub(crate) fn add_message(
    arguments: &mut SqliteArguments,
    message: &MessageRecord,
    state: MessageState,
    failure: &str,
    keys: Option<&MasterKeys>,
) -> Result<(), StoreError> {
    add(arguments, message.id.0)?;
    add(arguments, message.device.0)?;
    add(arguments, message.room.map(|room| room.0))?;
    add(arguments, state_number(state))?;
    let group = if message.is_group_chat { GROUP } else { 0 };
    add(arguments, group | if message.is_mention { MENTION } else { 0 })?;
    add(arguments, message.received_at.0)?;
    add(arguments, message.log_id.as_deref().map(Arc::<str>::from))?;
    add(arguments, Arc::<str>::from(&*message.sender))?;
    add(arguments, message.user_hash.as_deref().map(Arc::<str>::from))?;
    add(arguments, Arc::clone(&message.room_name))?;
    add(arguments, Arc::clone(&message.channel_id))?;
    match keys {
        None => {
            add(arguments, Arc::<str>::from(&*message.text))?;
            add(arguments, None::<i64>)?;
        }
        Some(keys) => {
            add(arguments, None::<i64>)?;
            add(arguments, keys.seal(message.text.as_bytes(), &owner_of_message(message.id))?)?;
        }
    }
    add(arguments, (!failure.is_empty()).then(|| failure.to_owned()))
}

/// Reads a message, whose columns begin the row as [`MESSAGE`] lists them.
pub(crate) fn message(
    row: &SqliteRow,
    keys: Option<&MasterKeys>,
) -> Result<MessageRecord, JobError> {
    let id = MessageId(row.try_get(0)?);
    let flags: i64 = row.try_get(4)?;
    let sealed: Option<Vec<u8>> = row.try_get(12)?;
    let text = match sealed {
        Some(sealed) => utf8(keys::open(keys, &sealed, &owner_of_message(id))?)?,
        None => row.try_get::<Option<String>, _>(11)?.unwrap_or_default(),
    };
    Ok(MessageRecord {
        id,
        device: DeviceKey(row.try_get(1)?),
        room: row.try_get::<Option<i64>, _>(2)?.map(RoomKey),
        room_name: row.try_get::<String, _>(9)?.into(),
        channel_id: row.try_get::<String, _>(10)?.into(),
        log_id: row.try_get::<Option<String>, _>(6)?.map(String::into_boxed_str),
        sender: row.try_get::<String, _>(7)?.into(),
        user_hash: row.try_get::<Option<String>, _>(8)?.map(String::into_boxed_str),
        text: text.into(),
        is_group_chat: flags & GROUP != 0,
        is_mention: flags & MENTION != 0,
        received_at: Timestamp(row.try_get(5)?),
        state: state_from(row.try_get(3)?)?,
        failure: row.try_get::<Option<String>, _>(13)?.unwrap_or_default().into(),
    })
}

/// The number of a state in the database.
pub(crate) fn state_number(state: MessageState) -> i64 {
    match state {
        MessageState::Pending => 0,
        MessageState::Done => 1,
        MessageState::Dead => 2,
        MessageState::Logged => 3,
    }
}

fn state_from(number: i64) -> Result<MessageState, StoreError> {
    let known = MessageState::ALL.into_iter().find(|state| state_number(*state) == number);
    known.ok_or_else(|| corrupt("a message has an unknown state"))
}

/// A reply's columns, in the order that [`reply`] reads.
pub(crate) const REPLY: &str =
    "device, place, message, at, kind, room_name, channel_id, text, body, sealed, wait_ms";

/// Adds a reply's columns.
pub(crate) fn add_reply(
    arguments: &mut SqliteArguments,
    record: &ReplyRecord,
    keys: Option<&MasterKeys>,
) -> Result<(), StoreError> {
    let reply = &*record.reply;
    let (kind, wait) = match &reply.body {
        ReplyBody::Text(_) => (0, None),
        ReplyBody::Media { kind, wait, .. } => (media_number(*kind), *wait),
    };
    add(arguments, record.device.0)?;
    add(arguments, place(record.offset)?)?;
    add(arguments, record.message.map(|id| id.0))?;
    add(arguments, record.at.0)?;
    add(arguments, kind + if reply.scheduled { SCHEDULED } else { 0 })?;
    add(arguments, Arc::clone(&reply.room))?;
    add(arguments, Arc::clone(&reply.channel_id))?;
    match (&reply.body, keys) {
        (ReplyBody::Text(text), None) => {
            add(arguments, Arc::<str>::from(&**text))?;
            add(arguments, None::<i64>)?;
            add(arguments, None::<i64>)?;
        }
        (ReplyBody::Media { items, .. }, None) => {
            add(arguments, None::<i64>)?;
            add(arguments, pack(items)?)?;
            add(arguments, None::<i64>)?;
        }
        (body, Some(keys)) => {
            let owner = owner_of_reply(record.device, record.offset);
            let sealed = match body {
                ReplyBody::Text(text) => keys.seal(text.as_bytes(), &owner)?,
                ReplyBody::Media { items, .. } => keys.seal(&pack(items)?, &owner)?,
            };
            add(arguments, None::<i64>)?;
            add(arguments, None::<i64>)?;
            add(arguments, sealed)?;
        }
    }
    add(arguments, wait.map(millis))
}

/// Reads a reply, whose columns begin the row as [`REPLY`] lists them.
pub(crate) fn reply(row: &SqliteRow, keys: Option<&MasterKeys>) -> Result<ReplyRecord, JobError> {
    let device = DeviceKey(row.try_get(0)?);
    let offset = offset(row.try_get(1)?);
    let kind: i64 = row.try_get(4)?;
    let sealed: Option<Vec<u8>> = row.try_get(9)?;
    let opened = match sealed {
        Some(sealed) => Some(keys::open(keys, &sealed, &owner_of_reply(device, offset))?),
        None => None,
    };
    let body = match kind & !SCHEDULED {
        0 => ReplyBody::Text(match opened {
            Some(text) => utf8(text)?.into(),
            None => row.try_get::<Option<String>, _>(7)?.unwrap_or_default().into(),
        }),
        kind => {
            let packed = match opened {
                Some(packed) => packed,
                None => row.try_get::<Option<Vec<u8>>, _>(8)?.unwrap_or_default(),
            };
            ReplyBody::Media {
                kind: media_from(kind)?,
                items: unpack(Bytes::from(packed))?,
                wait: row.try_get::<Option<i64>, _>(10)?.map(duration),
            }
        }
    };
    Ok(ReplyRecord {
        device,
        offset,
        message: row.try_get::<Option<i64>, _>(2)?.map(MessageId),
        at: Timestamp(row.try_get(3)?),
        reply: Arc::new(PhoneReply {
            room: row.try_get::<String, _>(5)?.into(),
            channel_id: row.try_get::<String, _>(6)?.into(),
            body,
            scheduled: kind & SCHEDULED != 0,
        }),
    })
}

fn media_number(kind: MediaKind) -> i64 {
    match kind {
        MediaKind::Image => 1,
        MediaKind::Audio => 2,
        MediaKind::Video => 3,
        MediaKind::Document => 4,
    }
}

fn media_from(number: i64) -> Result<MediaKind, StoreError> {
    let known = MediaKind::ALL.into_iter().find(|kind| media_number(*kind) == number);
    known.ok_or_else(|| corrupt("a reply has an unknown kind"))
}

/// Items one after another: a tag (0 bytes, 1 link), the length, the content.
fn pack(items: &[MediaItem]) -> Result<Vec<u8>, StoreError> {
    let mut packed = Vec::new();
    for item in items {
        let (tag, content): (u8, &[u8]) = match item {
            MediaItem::Bytes(bytes) => (0, bytes),
            MediaItem::Link(link) => (1, link.as_bytes()),
        };
        let length = u32::try_from(content.len())
            .map_err(|_| StoreError::Failed { reason: "a media item is too large".to_owned() })?;
        packed.push(tag);
        packed.extend_from_slice(&length.to_le_bytes());
        packed.extend_from_slice(content);
    }
    Ok(packed)
}

fn unpack(mut packed: Bytes) -> Result<Vec<MediaItem>, StoreError> {
    let damaged = || corrupt("the media of a reply is damaged");
    let mut items = Vec::new();
    while !packed.is_empty() {
        if packed.len() < 5 {
            return Err(damaged());
        }
        let header = packed.split_to(5);
        let length = u32::from_le_bytes([header[1], header[2], header[3], header[4]]);
        let length = usize::try_from(length).map_err(|_| damaged())?;
        if packed.len() < length {
            return Err(damaged());
        }
        let content = packed.split_to(length);
        items.push(match header[0] {
            0 => MediaItem::Bytes(content),
            1 => MediaItem::Link(utf8(content.into())?.into()),
            _ => return Err(damaged()),
        });
    }
    Ok(items)
}

/// Pictures of a schedule in one column.
pub(crate) fn pack_bytes(parts: &[Bytes]) -> Result<Vec<u8>, StoreError> {
    let items: Vec<MediaItem> = parts.iter().cloned().map(MediaItem::Bytes).collect();
    pack(&items)
}

pub(crate) fn unpack_bytes(packed: Vec<u8>) -> Result<Vec<Bytes>, StoreError> {
    let items = unpack(Bytes::from(packed))?;
    let bytes = items.into_iter().map(|item| match item {
        MediaItem::Bytes(bytes) => bytes,
        MediaItem::Link(link) => Bytes::from(String::from(link)),
    });
    Ok(bytes.collect())
}

pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

pub(crate) fn duration(millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

pub(crate) fn corrupt(reason: &str) -> StoreError {
    StoreError::Corrupt { reason: reason.to_owned() }
}

fn utf8(bytes: Vec<u8>) -> Result<String, StoreError> {
    String::from_utf8(bytes).map_err(|_| corrupt("a text is not UTF-8"))
}

fn owner_of_message(id: MessageId) -> Vec<u8> {
    format!("messages:{id}").into_bytes()
}

fn owner_of_reply(device: DeviceKey, offset: Offset) -> Vec<u8> {
    format!("replies:{device}:{}", offset.0).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_items_come_back_and_damage_is_found() {
        let items = vec![
            MediaItem::Bytes(Bytes::from_static(b"\x00\xff")),
            MediaItem::Link("http://example.invalid/a".into()),
            MediaItem::Bytes(Bytes::new()),
        ];
        let packed = pack(&items).unwrap();
        assert_eq!(unpack(Bytes::from(packed.clone())).unwrap(), items);
        for cut in [1, 4, 6, packed.len() - 6] {
            assert!(unpack(Bytes::copy_from_slice(&packed[..cut])).is_err(), "{cut}");
        }
        assert!(unpack(Bytes::from_static(&[7, 0, 0, 0, 0])).is_err());
    }
}
