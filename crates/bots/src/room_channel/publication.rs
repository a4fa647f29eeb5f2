//! How something that was said looks in a room's channel. Documented for its readers in
//! `docs/guide/client-bots.md`.

use std::sync::Arc;

use bytes::Bytes;
use naru_domain::ports::Post;
use naru_domain::work::MessageRecord;
use naru_domain::{
    DeviceKey, MediaItem, MessageId, Offset, PhoneReply, PublicationMeta, ReplyBody, Timestamp,
};
use serde::Serialize;

use super::Author;
use crate::hook::{HookMessage, RoomJson, rfc3339};

/// What the keys of messages begin with.
const MESSAGE_KEY: &str = "message:";

fn post(data: Vec<u8>, key: Option<String>) -> Post {
    // STOMP clients look at it.
    let tags = vec![("content-type".into(), "application/json".into())];
    let meta = Some(Arc::new(PublicationMeta { tags, ..PublicationMeta::default() }));
    Post { data: Bytes::from(data), meta, key: key.map(Arc::from), skip_history: false }
}

/// A message of a phone.
pub(super) fn of_message(
    record: &MessageRecord,
    channel: &str,
    bot: &str,
    device: &str,
    is_kept: bool,
) -> Post {
    let data = HookMessage::of(record, bot, device).to_publication(channel);
    post(data, is_kept.then(|| format!("{MESSAGE_KEY}{}", record.id)))
}

/// The message that a publication of this key is of.
pub(super) fn message_of_key(key: &str) -> Option<MessageId> {
    key.strip_prefix(MESSAGE_KEY)?.parse().ok().map(MessageId)
}

/// Something that a bot said.
pub(super) struct Said<'a> {
    pub(super) channel: &'a str,
    pub(super) bot: &'a str,
    pub(super) device: (DeviceKey, &'a str),
    pub(super) reply: &'a PhoneReply,
    /// Its place in the phone's stream.
    pub(super) offset: Offset,
    /// The message it answers.
    pub(super) message: Option<MessageId>,
    pub(super) by: &'a Author,
    pub(super) at: Timestamp,
}

#[derive(Serialize)]
struct SaidJson<'a> {
    event: &'static str,
    channel: &'a str,
    bot: &'a str,
    device: &'a str,
    room: RoomJson<'a>,
    offset: u64,
    message: Option<i64>,
    by: AuthorJson<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    media: Option<MediaJson<'a>>,
    sent_at: String,
}

#[derive(Serialize)]
struct AuthorJson<'a> {
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
}

#[derive(Serialize)]
struct MediaJson<'a> {
    kind: &'static str,
    items: Vec<ItemJson<'a>>,
}

/// Files are not repeated: they may have megabytes.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum ItemJson<'a> {
    Url(&'a str),
    Bytes(usize),
}

impl Said<'_> {
    pub(super) fn post(&self, is_kept: bool) -> Post {
        let (device, device_id) = self.device;
        let by = match self.by {
            Author::Bot => AuthorJson { kind: "bot", user: None },
            Author::Client(user) => AuthorJson { kind: "client", user: Some(user) },
            Author::Operator => AuthorJson { kind: "operator", user: None },
            Author::Schedule => AuthorJson { kind: "schedule", user: None },
        };
        let (text, media) = match &self.reply.body {
            ReplyBody::Text(text) => (Some(&**text), None),
            ReplyBody::Media { kind, items, .. } => {
                let items = items.iter().map(|item| match item {
                    MediaItem::Link(url) => ItemJson::Url(url),
                    MediaItem::Bytes(bytes) => ItemJson::Bytes(bytes.len()),
                });
                (None, Some(MediaJson { kind: kind.label(), items: items.collect() }))
            }
        };
        let json = SaidJson {
            event: "reply",
            channel: self.channel,
            bot: self.bot,
            device: device_id,
            room: RoomJson::new(&self.reply.room, &self.reply.channel_id),
            offset: self.offset.0,
            message: self.message.map(|message| message.0),
            by,
            text,
            media,
            sent_at: rfc3339(self.at),
        };
        let data = serde_json::to_vec(&json).expect("invariant: strings and numbers serialize");
        post(data, is_kept.then(|| format!("reply:{device}:{}", self.offset.0)))
    }
}

#[cfg(test)]
mod tests {
    use naru_domain::MediaKind;
    use serde_json::json;

    use super::*;

    fn said(body: ReplyBody, by: Author) -> serde_json::Value {
        let reply =
            PhoneReply {
                room: "점심방".into(), channel_id: "184".into(), body, scheduled: false
            };
        let said = Said {
            channel: "room:demo-bot/12",
            bot: "demo-bot",
            device: (DeviceKey(3), "0123456789abcdef"),
            reply: &reply,
            offset: Offset(17),
            message: Some(MessageId(775_946_240_000_001)),
            by: &by,
            at: Timestamp(1_767_225_600_123),
        };
        let post = said.post(true);
        assert_eq!(post.key.as_deref(), Some("reply:3:17"));
        assert_eq!(said.post(false).key, None);
        serde_json::from_slice(&post.data).unwrap()
    }

    #[test]
    fn a_reply_looks_as_the_guide_says() {
        let client = Author::Client("weather".into());
        let seen = said(ReplyBody::Text("맑음".into()), client);
        let expected = json!({
            "event": "reply",
            "channel": "room:demo-bot/12",
            "bot": "demo-bot",
            "device": "0123456789abcdef",
            "room": {"name": "점심방", "channel_id": "184"},
            "offset": 17,
            "message": 775_946_240_000_001_i64,
            "by": {"kind": "client", "user": "weather"},
            "text": "맑음",
            "sent_at": "2026-01-01T00:00:00.123Z"
        });
        assert_eq!(seen, expected);
    }

    #[test]
    fn media_are_told_of_but_not_repeated() {
        let items = vec![
            MediaItem::Bytes(Bytes::from_static(b"hello")),
            MediaItem::Link("https://a.example/1.png".into()),
        ];
        let seen =
            said(ReplyBody::Media { kind: MediaKind::Image, items, wait: None }, Author::Bot);
        let media = json!({
            "kind": "image", "items": [{"bytes": 5}, {"url": "https://a.example/1.png"}]
        });
        assert_eq!((&seen["media"], seen.get("text")), (&media, None));
        assert_eq!(seen["by"], json!({"kind": "bot"}));
    }

    #[test]
    fn the_key_of_a_message_says_which_it_is() {
        assert_eq!(message_of_key("message:12"), Some(MessageId(12)));
        assert_eq!(message_of_key("reply:1:12"), None);
        assert_eq!(message_of_key("message:x"), None);
    }
}
