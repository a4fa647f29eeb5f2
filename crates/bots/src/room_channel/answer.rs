//! The way back: what somebody with the right to publishes in a room's channel is said in the room, by the
//! same way as what operators send. Rights are looked at before; this says what a channel stands for.

use std::sync::{Arc, Weak};

use async_trait::async_trait;
use naru_domain::ports::{ChannelOwner, OwnerError, Post, StoreError};
use naru_domain::work::RoomRecord;
use naru_domain::{BotName, ChannelName, MessageId, PartyInfo, RoomKey};

use super::{Author, Place};
use crate::core::Core;
use crate::handler::SendError;
use crate::hook::{RoomAnswer, check_room_key, parse_room_answer};
use crate::operate::{self, ToSay};
use crate::roster::DeviceEntry;

/// Owns the namespaces of rooms and bots. Weak, since the hub outlives bot work.
pub(crate) struct RoomOwner(pub(crate) Weak<Core>);

#[async_trait]
impl ChannelOwner for RoomOwner {
    async fn admit(&self, channel: &ChannelName, _: &PartyInfo) -> Result<(), OwnerError> {
        match Place::of(channel) {
            Some(Place::Room(bot, room)) => find(&*self.core()?, &bot, room).await.map(drop),
            // Its first phone may come later.
            Some(Place::Bot(_)) => Ok(()),
            None => Err(NO_ROOM),
        }
    }

    async fn take(&self, channel: &ChannelName, post: Post) -> Result<(), OwnerError> {
        let core = self.core()?;
        let said = match Place::of(channel) {
            Some(Place::Room(bot, room)) => answer(&core, &bot, room, &post).await,
            Some(Place::Bot(_)) => {
                let reason =
                    "this channel is for reading; a room is answered in its own".to_owned();
                Err(OwnerError::Forbidden { reason })
            }
            None => Err(NO_ROOM),
        };
        let counter = match &said {
            Ok(()) => &core.metrics.room_answers,
            Err(_) => &core.metrics.room_answers_refused,
        };
        counter.increment();
        said
    }
}

const NO_ROOM: OwnerError = OwnerError::NotFound { what: "room" };

impl RoomOwner {
    fn core(&self) -> Result<Arc<Core>, OwnerError> {
        let stopping = || OwnerError::Unavailable { reason: "the node is stopping".to_owned() };
        self.0.upgrade().ok_or_else(stopping)
    }
}

/// The room, if it is one of the bot.
async fn find(
    core: &Core,
    bot: &BotName,
    room: RoomKey,
) -> Result<(RoomRecord, Arc<DeviceEntry>), OwnerError> {
    let record = core.ports.rooms.room(room).await.map_err(of_store)?;
    let entry = core.entry(record.device).await.map_err(of_store)?;
    if entry.bot.name != *bot {
        return Err(NO_ROOM);
    }
    Ok((record, entry))
}

async fn answer(
    core: &Arc<Core>,
    bot: &BotName,
    room: RoomKey,
    post: &Post,
) -> Result<(), OwnerError> {
    let invalid = |reason: String| OwnerError::Invalid { reason };
    let RoomAnswer { replies, message, key } =
        parse_room_answer(&post.data).map_err(|error| invalid(error.to_string()))?;
    let key = post.key.as_deref().map(str::to_owned).or(key);
    check_room_key(key.as_deref()).map_err(|error| invalid(error.to_string()))?;
    let (record, entry) = find(core, bot, room).await?;
    if let Some(message) = message {
        check_message(core, room, message).await?;
    }
    let publisher = post.meta.as_ref().and_then(|meta| meta.publisher.as_ref());
    let by = match publisher {
        Some(party) => Author::Client(Arc::clone(&party.user)),
        None => Author::Operator,
    };
    let to_say = ToSay {
        room: record.name.into(),
        channel_id: record.channel_id.into(),
        bodies: replies,
        message,
        by,
        // Each room has keys of its own.
        key: key.map(|key| format!("{room}:{key}")),
    };
    operate::say(core, entry.key, to_say).await.map(drop).map_err(of_send)
}

/// A message that is answered was said in this room.
async fn check_message(core: &Core, room: RoomKey, message: MessageId) -> Result<(), OwnerError> {
    let none = || OwnerError::Invalid { reason: "`message` is none of this room".to_owned() };
    match core.ports.chat_log.message(message).await {
        Ok(record) if record.room == Some(room) => Ok(()),
        // Direct processing keeps none.
        Err(StoreError::NotFound) if core.is_direct() => Ok(()),
        Ok(_) | Err(StoreError::NotFound) => Err(none()),
        Err(error) => Err(of_store(error)),
    }
}

fn of_store(error: StoreError) -> OwnerError {
    match error {
        StoreError::NotFound => NO_ROOM,
        error => OwnerError::Unavailable { reason: error.to_string() },
    }
}

fn of_send(error: SendError) -> OwnerError {
    let reason = error.to_string();
    match error {
        SendError::NotFound { what } => OwnerError::NotFound { what },
        SendError::NotApproved { .. } => OwnerError::Forbidden { reason },
        SendError::Invalid { .. } => OwnerError::Invalid { reason },
        SendError::Unavailable { .. } => OwnerError::Unavailable { reason },
    }
}
