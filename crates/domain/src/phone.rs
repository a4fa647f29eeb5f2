//! Phones of the bridge: what they say, what is said to them, and whether they may be answered.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::{BotName, DeviceId, Timestamp};

/// Which of the two tongues a phone speaks; chosen once a connection, from its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// 3.2.x and older: one JSON object a line.
    Json,
    /// 3.3.0, 3.3.2 and newer: a JSON object and raw text after it.
    Raw,
    /// 3.3.1, the rewrite that was never deployed.
    Typed,
}

impl Dialect {
    /// The name in logs and lists.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Dialect::Json => "json",
            Dialect::Raw => "raw",
            Dialect::Typed => "typed",
        }
    }
}

/// Whether a device or a room may be answered. Only `Approved` is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Approval {
    /// Not decided yet.
    Pending,
    /// Answered.
    Approved,
    /// Refused when it asked.
    Denied,
    /// Was approved once.
    Revoked,
    /// Refused for good.
    Blocked,
}

impl Approval {
    /// All states, for help texts and docs.
    pub const ALL: [Approval; 5] = [
        Approval::Pending,
        Approval::Approved,
        Approval::Denied,
        Approval::Revoked,
        Approval::Blocked,
    ];

    /// The name in the store, the API and the console.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Approval::Pending => "pending",
            Approval::Approved => "approved",
            Approval::Denied => "denied",
            Approval::Revoked => "revoked",
            Approval::Blocked => "blocked",
        }
    }

    /// The state with this name.
    #[must_use]
    pub fn parse(label: &str) -> Option<Approval> {
        Approval::ALL.into_iter().find(|state| state.label() == label)
    }
}

/// Who a phone says it is. `bot` and `device` are its identity; the rest is for people to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PhoneHello {
    /// The bot it serves.
    pub bot: BotName,
    /// Its own id.
    pub device: DeviceId,
    /// The script's version as announced (it lies at times), or empty.
    pub version: String,
    /// `MessengerBotR`, or empty.
    pub client_type: String,
    /// Brand, model and Android version, or empty.
    pub device_info: String,
    /// The address the phone believes it has, or empty.
    pub device_ip: String,
    /// The address its socket came from.
    pub peer: IpAddr,
    /// The dialect chosen.
    pub dialect: Dialect,
}

/// One chat message from a phone, already checked by the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PhoneChat {
    /// The room's name. Not unique.
    pub room: Box<str>,
    /// KakaoTalk's channel id, a string of digits; `None` on the legacy path.
    pub channel_id: Option<Box<str>>,
    /// KakaoTalk's log id, a string of digits; `None` on the legacy path.
    pub log_id: Option<Box<str>>,
    /// The sender's name.
    pub sender: Box<str>,
    /// A hash that stands for the sender in this room; random on the legacy path.
    pub user_hash: Option<Box<str>>,
    /// The text, at most 65,000 UTF-16 units.
    pub text: Box<str>,
    /// Whether the room has more than two members.
    pub is_group_chat: bool,
    /// Whether the bot was mentioned.
    pub is_mention: bool,
    /// When the phone signed the frame, if it did.
    pub signed_at: Option<Timestamp>,
    /// When our gateway read it.
    pub received_at: Timestamp,
}

/// A phone's answer to a keep-alive.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KeepAlive {
    /// Our own stamp, echoed: when the ping was sent.
    pub sent_at: Option<Timestamp>,
    /// The phone's largest heap, in MB.
    pub memory_total_mb: Option<f64>,
    /// The phone's used heap, in MB.
    pub memory_used_mb: Option<f64>,
    /// The same in per cent.
    pub memory_percent: Option<f64>,
    /// Frames waiting on the phone.
    pub queued_frames: Option<i64>,
    /// Rooms heard from since the script started.
    pub active_rooms: Option<i64>,
}

/// What kind of media a reply carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MediaKind {
    /// A picture.
    Image,
    /// Sound.
    Audio,
    /// A film.
    Video,
    /// Anything else that the phone can share.
    Document,
}

impl MediaKind {
    /// All kinds.
    pub const ALL: [MediaKind; 4] =
        [MediaKind::Image, MediaKind::Audio, MediaKind::Video, MediaKind::Document];

    /// The name on the wire, in the store and in the API.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            MediaKind::Image => "image",
            MediaKind::Audio => "audio",
            MediaKind::Video => "video",
            MediaKind::Document => "document",
        }
    }

    /// The kind with this name.
    #[must_use]
    pub fn parse(label: &str) -> Option<MediaKind> {
        MediaKind::ALL.into_iter().find(|kind| kind.label() == label)
    }
}

/// One item of a media reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MediaItem {
    /// The file itself.
    Bytes(Bytes),
    /// An address the phone fetches itself (`http…`).
    Link(Box<str>),
}

/// What a reply says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplyBody {
    /// Text.
    Text(Box<str>),
    /// One share with one or more items.
    Media {
        /// What the items are.
        kind: MediaKind,
        /// The items, 1 to `REPLY_MEDIA_ITEMS_MAX`.
        items: Vec<MediaItem>,
        /// How long the phone waits before it returns to its own app; `None` lets it compute.
        wait: Option<Duration>,
    },
}

/// One reply to one room of one phone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PhoneReply {
    /// The room's name: phones address text by it.
    pub room: Arc<str>,
    /// The channel id: phones address media by it. Empty when the chat had none.
    pub channel_id: Arc<str>,
    /// What to say.
    pub body: ReplyBody,
    /// Whether a schedule sent it (the raw dialect has an event of its own for that).
    pub scheduled: bool,
}

impl PhoneReply {
    /// About how many bytes it holds.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        let body = match &self.body {
            ReplyBody::Text(text) => text.len(),
            ReplyBody::Media { items, .. } => items
                .iter()
                .map(|item| match item {
                    MediaItem::Bytes(bytes) => bytes.len(),
                    MediaItem::Link(link) => link.len(),
                })
                .sum(),
        };
        body + self.room.len() + self.channel_id.len() + 64
    }
}
