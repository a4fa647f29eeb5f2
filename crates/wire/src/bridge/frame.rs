//! What a phone can say. Frames borrow from their line wherever the JSON had no escapes.

use std::borrow::Cow;

use naru_domain::phone::{KeepAlive, PhoneChat};
use naru_domain::{Dialect, Timestamp};

use super::{Auth, HelloForm};

/// One frame of a phone.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame<'a> {
    /// Who the phone says it is. Unsigned, except in the typed form.
    Hello(Hello<'a>),
    /// One chat message: `message` or `analyze`, in whichever dialect, or 3.3.1's `message`.
    Chat {
        /// The message.
        chat: Chat<'a>,
        /// The signature that came with it; 3.3.1 sends none.
        auth: Option<Auth<'a>>,
    },
    /// The answer to our ping: `ping` up to 3.3.2, `pong` from 3.3.3.
    KeepAlive {
        /// The phone's figures.
        answer: KeepAlive,
        /// The signature that came with it.
        auth: Option<Auth<'a>>,
    },
    /// 3.3.1's own sign of life, unasked.
    Heartbeat,
    /// 3.3.1's report after it was accepted.
    Status,
    /// An event or type that we do not know.
    Unknown {
        /// Its name, as long as the phone made it.
        event: Cow<'a, str>,
    },
}

/// Who a phone says it is. Texts that the phone left out are empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello<'a> {
    /// The bot's name. May be empty: the caller parses it.
    pub bot_name: Cow<'a, str>,
    /// The Android id; empty from 2.9.0c.
    pub device_id: Cow<'a, str>,
    /// The script's version.
    pub version: Cow<'a, str>,
    /// `MessengerBotR`.
    pub client_type: Cow<'a, str>,
    /// Brand, model and Android version.
    pub device_info: Cow<'a, str>,
    /// The address the phone believes it has.
    pub device_ip: Cow<'a, str>,
    /// The shape it came in.
    pub form: HelloForm,
    /// The dialect to speak with this phone.
    pub dialect: Dialect,
    /// The signature, in the typed form only.
    pub auth: Option<Auth<'a>>,
}

/// One chat message as a phone wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chat<'a> {
    /// The room's name, 1 to [`NAME_BYTES_MAX`](super::NAME_BYTES_MAX) bytes.
    pub room: Cow<'a, str>,
    /// The channel id; `None` on the legacy path and from 3.3.1.
    pub channel_id: Option<Cow<'a, str>>,
    /// The log id; `None` on the legacy path and from 3.3.1.
    pub log_id: Option<Cow<'a, str>>,
    /// The sender's name, at most [`NAME_BYTES_MAX`](super::NAME_BYTES_MAX) bytes, may be empty.
    pub sender: Cow<'a, str>,
    /// The sender's hash; random on the legacy path.
    pub user_hash: Option<Cow<'a, str>>,
    /// The text. The caller checks its length in UTF-16 units.
    pub text: Cow<'a, str>,
    /// Whether the room has more than two members.
    pub is_group_chat: bool,
    /// Whether the bot was mentioned.
    pub is_mention: bool,
    /// The timestamp of the signature.
    pub signed_at: Option<Timestamp>,
}

impl Chat<'_> {
    /// The message as the domain knows it, cut loose from the line.
    #[must_use]
    pub fn into_phone_chat(self, received_at: Timestamp) -> PhoneChat {
        PhoneChat {
            room: boxed(self.room),
            channel_id: self.channel_id.map(boxed),
            log_id: self.log_id.map(boxed),
            sender: boxed(self.sender),
            user_hash: self.user_hash.map(boxed),
            text: boxed(self.text),
            is_group_chat: self.is_group_chat,
            is_mention: self.is_mention,
            signed_at: self.signed_at,
            received_at,
        }
    }
}

fn boxed(text: Cow<'_, str>) -> Box<str> {
    match text {
        Cow::Borrowed(text) => Box::from(text),
        Cow::Owned(text) => text.into_boxed_str(),
    }
}
