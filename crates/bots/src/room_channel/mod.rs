//! A bot's room is a channel: what is said in an approved room is published there, and what somebody with
//! the right to publishes there is said in the room. The same for all rooms of a bot at once, to watch.
//!
//! `teller` carries what was said to the channels, `publication` is how it looks, `answer` the way back.
//! Which protocols the clients of these channels speak is not known here.

mod answer;
mod publication;
mod teller;

use std::sync::Arc;

use naru_domain::{BotName, ChannelName, MessageId, RoomKey};

use crate::roster::{RoomEntry, Work};

pub(crate) use answer::RoomOwner;
pub(crate) use teller::{Teller, run};

/// The namespace of rooms.
pub const ROOM_NAMESPACE: &str = "room";
/// The namespace of bots, with all their rooms.
pub const BOT_NAMESPACE: &str = "bot";

/// The channel of a room: `room:BOT/NUMBER`, where the number is the one that lists show.
#[must_use]
pub fn room_channel(bot: &BotName, room: RoomKey) -> ChannelName {
    channel(&format!("{ROOM_NAMESPACE}:{bot}/{room}"))
}

/// The channel with all rooms of a bot: `bot:NAME`.
#[must_use]
pub fn bot_channel(bot: &BotName) -> ChannelName {
    channel(&format!("{BOT_NAMESPACE}:{bot}"))
}

fn channel(name: &str) -> ChannelName {
    ChannelName::parse(name).expect("invariant: a bot's name leaves room for a prefix and a number")
}

/// Who said something in a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Author {
    /// A command, or a webhook.
    Bot,
    /// A client of the room's channel, by the name of its user; empty if it has none.
    Client(Arc<str>),
    /// An operator or a program, by the API.
    Operator,
    /// A schedule.
    Schedule,
}

/// Where something that is said in a room comes from.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// The room; without one no channel hears it.
    pub(crate) room: Option<Arc<RoomEntry>>,
    /// The message that is answered.
    pub(crate) message: Option<MessageId>,
    pub(crate) by: Author,
}

impl Source {
    /// The answer of a command or a webhook.
    pub(crate) fn answer(work: &Work) -> Source {
        Source { room: work.room.clone(), message: Some(work.record.id), by: Author::Bot }
    }
}

/// What a channel of these namespaces stands for.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    Room(BotName, RoomKey),
    Bot(BotName),
}

impl Place {
    /// `None` for names that stand for nothing.
    fn of(channel: &ChannelName) -> Option<Place> {
        let (namespace, rest) = channel.as_str().split_once(':')?;
        match namespace {
            BOT_NAMESPACE => BotName::parse(rest).ok().map(Place::Bot),
            ROOM_NAMESPACE => {
                // A bot's name may have slashes, a number has none.
                let (bot, number) = rest.rsplit_once('/')?;
                let room = RoomKey(number.parse().ok()?);
                // One name for each room: no signs, no leading zeros.
                (room.0 > 0 && room.to_string() == number)
                    .then(|| BotName::parse(bot).ok().map(|bot| Place::Room(bot, room)))?
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rooms_channel_is_named_by_its_bot_and_the_number_that_lists_show() {
        let bot = BotName::parse("demo-bot").unwrap();
        let room = room_channel(&bot, RoomKey(12));
        assert_eq!(room.as_str(), "room:demo-bot/12");
        assert_eq!(Place::of(&room), Some(Place::Room(bot.clone(), RoomKey(12))));
        assert_eq!(bot_channel(&bot).as_str(), "bot:demo-bot");
        assert_eq!(Place::of(&bot_channel(&bot)), Some(Place::Bot(bot)));
        let odd = BotName::parse(&format!("a/b:#{}", "봇".repeat(41))).unwrap();
        let channel = room_channel(&odd, RoomKey(i64::MAX));
        assert_eq!(Place::of(&channel), Some(Place::Room(odd, RoomKey(i64::MAX))));
    }

    #[test]
    fn other_names_of_these_namespaces_stand_for_nothing() {
        for name in [
            "room:demo-bot",
            "room:demo-bot/",
            "room:demo-bot/0",
            "room:demo-bot/012",
            "room:demo-bot/+1",
            "room:demo-bot/-1",
            "room:demo-bot/1x",
            "room:/1",
            "room:12",
            "bot:",
            "$room:demo-bot/1",
            "other:demo-bot/1",
            "room",
        ] {
            assert_eq!(Place::of(&channel(name)), None, "{name}");
        }
    }
}
