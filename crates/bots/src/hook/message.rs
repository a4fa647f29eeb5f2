//! The JSON that hooks speak: what is sent to a target, and what a target may answer. Documented for
//! its readers in `docs/guide/webhooks.md`. It knows no network.

use std::borrow::Cow;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use naru_domain::limits::{
    CHAT_TEXT_UNITS_MAX, REPLIES_PER_MESSAGE_MAX, REPLY_MEDIA_BYTES_MAX, REPLY_MEDIA_ITEMS_MAX,
};
use naru_domain::work::MessageRecord;
use naru_domain::{MediaItem, MediaKind, MessageId, ReplyBody, Timestamp};
use serde::{Deserialize, Serialize};

/// A chat message on its way to a target.
#[derive(Clone, Copy, Debug)]
pub struct HookMessage<'a> {
    /// Its number; the same in every attempt.
    pub id: MessageId,
    /// The bot.
    pub bot: &'a str,
    /// The phone's own id.
    pub device: &'a str,
    /// The room's name.
    pub room_name: &'a str,
    /// KakaoTalk's channel id, or empty.
    pub channel_id: &'a str,
    /// The sender's name.
    pub sender: &'a str,
    /// Stands for the sender in this room.
    pub user_hash: Option<&'a str>,
    /// The text.
    pub text: &'a str,
    /// More than two members.
    pub is_group_chat: bool,
    /// The bot was mentioned.
    pub is_mention: bool,
    /// KakaoTalk's log id.
    pub log_id: Option<&'a str>,
    /// When the gateway read it.
    pub received_at: Timestamp,
}

#[derive(Serialize)]
struct MessageJson<'a> {
    event: &'static str,
    id: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<&'a str>,
    bot: &'a str,
    device: &'a str,
    room: RoomJson<'a>,
    sender: SenderJson<'a>,
    text: &'a str,
    is_group_chat: bool,
    is_mention: bool,
    log_id: Option<&'a str>,
    received_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply_url: Option<String>,
}

#[derive(Serialize)]
pub(crate) struct RoomJson<'a> {
    name: &'a str,
    channel_id: Option<&'a str>,
}

impl<'a> RoomJson<'a> {
    /// As a phone knows it. A room without an id has an empty one.
    pub(crate) fn new(name: &'a str, channel_id: &'a str) -> RoomJson<'a> {
        RoomJson { name, channel_id: Some(channel_id).filter(|id| !id.is_empty()) }
    }
}

#[derive(Serialize)]
struct SenderJson<'a> {
    name: &'a str,
    user_hash: Option<&'a str>,
}

impl<'a> HookMessage<'a> {
    /// A message of the store.
    #[must_use]
    pub fn of(record: &'a MessageRecord, bot: &'a str, device: &'a str) -> HookMessage<'a> {
        HookMessage {
            id: record.id,
            bot,
            device,
            room_name: &record.room_name,
            channel_id: &record.channel_id,
            sender: &record.sender,
            user_hash: record.user_hash.as_deref(),
            text: &record.text,
            is_group_chat: record.is_group_chat,
            is_mention: record.is_mention,
            log_id: record.log_id.as_deref(),
            received_at: record.received_at,
        }
    }

    /// The body of one attempt (the first is 1). `reply_url` may hold `{id}`.
    #[must_use]
    pub fn to_json(&self, attempt: u32, reply_url: Option<&str>) -> Vec<u8> {
        let reply_url = reply_url.map(|url| url.replace("{id}", &self.id.to_string()));
        self.json(None, Some(attempt), reply_url)
    }

    /// The same as those see it who watch the room by its channel.
    pub(crate) fn to_publication(self, channel: &str) -> Vec<u8> {
        self.json(Some(channel), None, None)
    }

    fn json(
        &self,
        channel: Option<&str>,
        attempt: Option<u32>,
        reply_url: Option<String>,
    ) -> Vec<u8> {
        let json = MessageJson {
            event: "message",
            id: self.id.0,
            channel,
            bot: self.bot,
            device: self.device,
            room: RoomJson::new(self.room_name, self.channel_id),
            sender: SenderJson { name: self.sender, user_hash: self.user_hash },
            text: self.text,
            is_group_chat: self.is_group_chat,
            is_mention: self.is_mention,
            log_id: self.log_id,
            received_at: rfc3339(self.received_at),
            attempt,
            reply_url,
        };
        serde_json::to_vec(&json).expect("invariant: strings and numbers always serialize")
    }
}

/// `2026-01-01T00:00:00.123Z`; the epoch for moments outside the calendar.
pub(crate) fn rfc3339(at: Timestamp) -> String {
    DateTime::<Utc>::from_timestamp_millis(at.0)
        .unwrap_or_default()
        .to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// Why an answer cannot be used. Its text is for the author of the target, so it says where and what.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// Not the JSON that is documented.
    #[error("the answer is not valid: {reason}")]
    NotValid {
        /// What the parser said, with line and column.
        reason: String,
    },
    /// More replies than one message may have.
    #[error("the answer has {count} replies, at most {max} are allowed")]
    TooManyReplies {
        /// How many it had.
        count: usize,
        /// The limit.
        max: usize,
    },
    /// One reply breaks a rule.
    #[error("reply {index}: {reason}")]
    Reply {
        /// Which one; the first is 0.
        index: usize,
        /// What is wrong.
        reason: String,
    },
}

#[derive(Deserialize)]
struct AnswerJson<'a> {
    #[serde(borrow, default)]
    replies: Vec<ReplyJson<'a>>,
}

/// What somebody says who answers by a room's channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomAnswer {
    /// In order, at least one.
    pub replies: Vec<ReplyBody>,
    /// The message that is answered, if it says so.
    pub message: Option<MessageId>,
    /// The same key in the same room answers once: 1 to [`ROOM_KEY_BYTES_MAX`] bytes.
    pub key: Option<String>,
}

/// One reply, or several as a webhook answers.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RoomAnswerJson<'a> {
    message: Option<i64>,
    #[serde(borrow)]
    key: Option<Cow<'a, str>>,
    #[serde(borrow)]
    replies: Option<Vec<ReplyJson<'a>>>,
    #[serde(borrow)]
    text: Option<Cow<'a, str>>,
    #[serde(borrow)]
    images: Option<Vec<ImageJson<'a>>>,
    #[serde(borrow)]
    audio: Option<LinkJson<'a>>,
    #[serde(borrow)]
    video: Option<LinkJson<'a>>,
    #[serde(borrow)]
    document: Option<LinkJson<'a>>,
    wait_ms: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReplyJson<'a> {
    #[serde(borrow)]
    text: Option<Cow<'a, str>>,
    #[serde(borrow)]
    images: Option<Vec<ImageJson<'a>>>,
    #[serde(borrow)]
    audio: Option<LinkJson<'a>>,
    #[serde(borrow)]
    video: Option<LinkJson<'a>>,
    #[serde(borrow)]
    document: Option<LinkJson<'a>>,
    wait_ms: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ImageJson<'a> {
    #[serde(borrow)]
    base64: Option<Cow<'a, str>>,
    #[serde(borrow)]
    url: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LinkJson<'a> {
    #[serde(borrow)]
    url: Cow<'a, str>,
}

/// The longest wait a target may ask for: nothing else is read by the phone meanwhile (guessed).
const WAIT_MS_MAX: u32 = 120_000;
/// The longest link, in bytes.
const LINK_BYTES_MAX: usize = 2_048;

/// The longest key of an answer by a room's channel, in bytes: with the room it fits where keys are kept.
pub const ROOM_KEY_BYTES_MAX: usize = 100;

/// Reads a target's answer, or the body of a later reply. Nothing at all is silence.
pub fn parse_replies(body: &[u8]) -> Result<Vec<ReplyBody>, ReplyError> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Vec::new());
    }
    let answer: AnswerJson<'_> = read(body)?;
    convert_all(answer.replies)
}

/// Reads what was published into a room's channel.
pub fn parse_room_answer(body: &[u8]) -> Result<RoomAnswer, ReplyError> {
    let answer: RoomAnswerJson<'_> = read(body)?;
    let RoomAnswerJson { message, key, replies, text, images, audio, video, document, wait_ms } =
        answer;
    let single = ReplyJson { text, images, audio, video, document, wait_ms };
    let replies = match replies {
        None => convert_all(vec![single])?,
        Some(replies) if single.is_empty() => convert_all(replies)?,
        Some(_) => return Err(not_valid("either `replies`, or one reply beside no `replies`")),
    };
    if replies.is_empty() {
        return Err(not_valid("there is nothing to send"));
    }
    check_room_key(key.as_deref())?;
    Ok(RoomAnswer { replies, message: message.map(MessageId), key: key.map(Cow::into_owned) })
}

/// Checks a key, wherever it came from.
pub(crate) fn check_room_key(key: Option<&str>) -> Result<(), ReplyError> {
    match key {
        Some(key) if key.is_empty() || key.len() > ROOM_KEY_BYTES_MAX => {
            Err(not_valid(&format!("a key has 1 to {ROOM_KEY_BYTES_MAX} bytes")))
        }
        _ => Ok(()),
    }
}

fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, ReplyError> {
    serde_json::from_slice(body).map_err(|error| not_valid(&error.to_string()))
}

fn not_valid(reason: &str) -> ReplyError {
    ReplyError::NotValid { reason: reason.to_owned() }
}

fn convert_all(listed: Vec<ReplyJson<'_>>) -> Result<Vec<ReplyBody>, ReplyError> {
    if listed.len() > REPLIES_PER_MESSAGE_MAX {
        let (count, max) = (listed.len(), REPLIES_PER_MESSAGE_MAX);
        return Err(ReplyError::TooManyReplies { count, max });
    }
    let mut media_bytes = 0;
    let mut replies = Vec::with_capacity(listed.len());
    for (index, reply) in listed.into_iter().enumerate() {
        let body = convert(reply, &mut media_bytes)
            .map_err(|reason| ReplyError::Reply { index, reason })?;
        replies.push(body);
    }
    Ok(replies)
}

impl ReplyJson<'_> {
    fn is_empty(&self) -> bool {
        let ReplyJson { text, images, audio, video, document, wait_ms } = self;
        text.is_none()
            && images.is_none()
            && [audio, video, document].iter().all(|link| link.is_none())
            && wait_ms.is_none()
    }
}

fn convert(reply: ReplyJson<'_>, media_bytes: &mut usize) -> Result<ReplyBody, String> {
    let ReplyJson { text, images, audio, video, document, wait_ms } = reply;
    if wait_ms.is_some_and(|wait| wait > WAIT_MS_MAX) {
        return Err(format!("wait_ms is larger than {WAIT_MS_MAX}"));
    }
    let wait = wait_ms.filter(|wait| *wait > 0).map(|wait| Duration::from_millis(wait.into()));
    let media = |kind, items| ReplyBody::Media { kind, items, wait };
    match (text, images, audio, video, document) {
        (Some(text), None, None, None, None) => {
            if wait_ms.is_some() {
                return Err("wait_ms belongs to media, not to text".to_owned());
            }
            check_text(&text)?;
            Ok(ReplyBody::Text(text.into()))
        }
        (None, Some(images), None, None, None) => {
            let items = convert_images(images, media_bytes)?;
            Ok(media(MediaKind::Image, items))
        }
        (None, None, Some(link), None, None) => {
            Ok(media(MediaKind::Audio, vec![convert_link(&link.url)?]))
        }
        (None, None, None, Some(link), None) => {
            Ok(media(MediaKind::Video, vec![convert_link(&link.url)?]))
        }
        (None, None, None, None, Some(link)) => {
            Ok(media(MediaKind::Document, vec![convert_link(&link.url)?]))
        }
        _ => Err("exactly one of text, images, audio, video, document must be given".to_owned()),
    }
}

fn check_text(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("text is empty; leave the reply out for silence".to_owned());
    }
    let units = text.encode_utf16().count();
    if units > CHAT_TEXT_UNITS_MAX {
        return Err(format!("text has {units} UTF-16 units, at most {CHAT_TEXT_UNITS_MAX}"));
    }
    Ok(())
}

fn convert_images(
    images: Vec<ImageJson<'_>>,
    media_bytes: &mut usize,
) -> Result<Vec<MediaItem>, String> {
    if images.is_empty() || images.len() > REPLY_MEDIA_ITEMS_MAX {
        return Err(format!("images must have 1 to {REPLY_MEDIA_ITEMS_MAX} items"));
    }
    let mut items = Vec::with_capacity(images.len());
    for image in images {
        items.push(match (image.base64, image.url) {
            (Some(base64), None) => {
                let bytes = decode_base64(&base64)?;
                *media_bytes += bytes.len();
                if *media_bytes > REPLY_MEDIA_BYTES_MAX {
                    return Err(format!("the media exceed {REPLY_MEDIA_BYTES_MAX} bytes"));
                }
                MediaItem::Bytes(bytes)
            }
            (None, Some(url)) => convert_link(&url)?,
            _ => return Err("an image has exactly one of base64 and url".to_owned()),
        });
    }
    Ok(items)
}

/// Accepts line breaks (many encoders wrap) and the `data:` prefix, which phones would not understand.
fn decode_base64(text: &str) -> Result<Bytes, String> {
    let bare = match text.strip_prefix("data:") {
        Some(rest) => rest.split_once(";base64,").map_or(rest, |(_, data)| data),
        None => text,
    };
    let decoded = if bare.bytes().any(|byte| byte.is_ascii_whitespace()) {
        let unwrapped: Vec<u8> = bare.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        STANDARD.decode(unwrapped)
    } else {
        STANDARD.decode(bare)
    };
    match decoded {
        Ok(bytes) if bytes.is_empty() => Err("an image is empty".to_owned()),
        Ok(bytes) => Ok(Bytes::from(bytes)),
        Err(error) => Err(format!("an image is not base64: {error}")),
    }
}

fn convert_link(url: &str) -> Result<MediaItem, String> {
    let is_http = url.starts_with("https://") || url.starts_with("http://");
    let is_clean = !url.contains(|c: char| c.is_control() || c.is_whitespace() || c == '|');
    if !is_http || !is_clean || url.len() > LINK_BYTES_MAX {
        // A bar separates items on the wire of older phones.
        return Err(format!(
            "a url starts with http:// or https://, has no blanks or bars and at most \
             {LINK_BYTES_MAX} bytes"
        ));
    }
    Ok(MediaItem::Link(url.into()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn message() -> HookMessage<'static> {
        HookMessage {
            id: MessageId(775_946_240_000_001),
            bot: "demo-bot",
            device: "0123456789abcdef",
            room_name: "점심방",
            channel_id: "18400000000000001",
            sender: "지우",
            user_hash: Some("a1b2"),
            text: "주사위 \"{}\"\n",
            is_group_chat: true,
            is_mention: false,
            log_id: Some("3600000000000000001"),
            received_at: Timestamp(1_767_225_600_123),
        }
    }

    #[test]
    fn a_message_is_sent_as_the_guide_says() {
        let body = message().to_json(2, Some("https://naru.example/api/messages/{id}/replies"));
        let read: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            read,
            json!({
                "event": "message",
                "id": 775_946_240_000_001_i64,
                "bot": "demo-bot",
                "device": "0123456789abcdef",
                "room": {"name": "점심방", "channel_id": "18400000000000001"},
                "sender": {"name": "지우", "user_hash": "a1b2"},
                "text": "주사위 \"{}\"\n",
                "is_group_chat": true,
                "is_mention": false,
                "log_id": "3600000000000000001",
                "received_at": "2026-01-01T00:00:00.123Z",
                "attempt": 2,
                "reply_url": "https://naru.example/api/messages/775946240000001/replies"
            })
        );
    }

    #[test]
    fn what_a_phone_did_not_tell_is_null_and_no_reply_url_is_left_out() {
        let message = HookMessage { channel_id: "", log_id: None, user_hash: None, ..message() };
        let read: serde_json::Value = serde_json::from_slice(&message.to_json(1, None)).unwrap();
        assert!(read["room"]["channel_id"].is_null());
        assert!(read["log_id"].is_null());
        assert!(read["sender"]["user_hash"].is_null());
        assert!(read.get("reply_url").is_none());
    }

    fn media(kind: MediaKind, items: Vec<MediaItem>, wait_ms: Option<u64>) -> ReplyBody {
        ReplyBody::Media { kind, items, wait: wait_ms.map(Duration::from_millis) }
    }

    #[test]
    fn all_kinds_of_replies_are_read_in_order() {
        let body = json!({"replies": [
            {"text": "하나"},
            {"images": [{"base64": "aGVs\r\nbG8="}, {"url": "https://a.example/1.png"}], "wait_ms": 4000},
            {"images": [{"base64": "data:image/png;base64,aGVsbG8="}], "wait_ms": 0},
            {"audio": {"url": "https://a.example/a.mp3"}},
            {"video": {"url": "https://a.example/v.mp4"}, "wait_ms": 15000},
            {"document": {"url": "https://a.example/d.pdf"}},
        ], "extra": {"is": "fine"}});
        let hello = || MediaItem::Bytes(Bytes::from_static(b"hello"));
        let link = |url: &str| MediaItem::Link(url.into());
        assert_eq!(
            parse_replies(body.to_string().as_bytes()).unwrap(),
            vec![
                ReplyBody::Text("하나".into()),
                media(MediaKind::Image, vec![hello(), link("https://a.example/1.png")], Some(4000)),
                media(MediaKind::Image, vec![hello()], None),
                media(MediaKind::Audio, vec![link("https://a.example/a.mp3")], None),
                media(MediaKind::Video, vec![link("https://a.example/v.mp4")], Some(15000)),
                media(MediaKind::Document, vec![link("https://a.example/d.pdf")], None),
            ]
        );
    }

    #[test]
    fn nothing_and_an_empty_list_are_silence() {
        for body in ["", " \n", "{}", r#"{"replies":[]}"#] {
            assert_eq!(parse_replies(body.as_bytes()), Ok(vec![]), "{body}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let check = |body: &str, expected: &str| {
            let error = parse_replies(body.as_bytes()).expect_err(body).to_string();
            assert!(error.contains(expected), "{body}: {error}");
        };
        check("<html>", "line 1 column 1");
        check("[]{}", "the answer is not valid");
        check(r#"{"replies":"hi"}"#, "invalid type");
        check(r#"{"replies":[{"txt":"hi"}]}"#, "unknown field `txt`");
        check(r#"{"replies":[{"text":"hi"},{}]}"#, "reply 1: exactly one of");
        check(r#"{"replies":[{"text":"hi","video":{"url":"https://x/"}}]}"#, "exactly one of");
        check(r#"{"replies":[{"text":""}]}"#, "text is empty");
        check(r#"{"replies":[{"text":"a","wait_ms":1}]}"#, "belongs to media");
        check(r#"{"replies":[{"images":[]}]}"#, "1 to 30");
        check(r#"{"replies":[{"images":[{}]}]}"#, "exactly one of base64 and url");
        check(r#"{"replies":[{"images":[{"base64":"!"}]}]}"#, "not base64");
        check(r#"{"replies":[{"images":[{"base64":""}]}]}"#, "is empty");
        check(r#"{"replies":[{"images":[{"url":"file:///etc/passwd"}]}]}"#, "starts with http");
        check(r#"{"replies":[{"images":[{"url":"https://x/|||y"}]}]}"#, "no blanks or bars");
        check(r#"{"replies":[{"audio":{"url":"https://x/a b"}}]}"#, "no blanks");
        check(r#"{"replies":[{"audio":{"url":"https://x/"},"wait_ms":200000}]}"#, "larger than");
        let many = format!(r#"{{"replies":[{}]}}"#, vec![r#"{"text":"x"}"#; 21].join(","));
        check(&many, "has 21 replies");
        let long = format!(r#"{{"replies":[{{"text":"{}"}}]}}"#, "가".repeat(65_001));
        check(&long, "65001 UTF-16 units");
    }

    #[test]
    fn an_answer_by_a_channel_is_one_reply_or_several_with_what_it_answers() {
        let text = |text: &str| ReplyBody::Text(text.into());
        let read = |body: &str| parse_room_answer(body.as_bytes());
        let one = RoomAnswer { replies: vec![text("hi")], message: None, key: None };
        assert_eq!(read(r#"{"text":"hi"}"#), Ok(one.clone()));
        assert_eq!(read(r#"{"replies":[{"text":"hi"}]}"#), Ok(one));
        let two = RoomAnswer {
            replies: vec![text("a"), text("b")],
            message: Some(MessageId(7)),
            key: Some("k".to_owned()),
        };
        let body = r#"{"message":7,"key":"k","replies":[{"text":"a"},{"text":"b"}]}"#;
        assert_eq!(read(body), Ok(two));
        let picture = read(r#"{"images":[{"base64":"aGVsbG8="}],"wait_ms":4000}"#).unwrap();
        let hello = MediaItem::Bytes(Bytes::from_static(b"hello"));
        assert_eq!(picture.replies, [media(MediaKind::Image, vec![hello], Some(4000))]);
    }

    #[test]
    fn what_is_wrong_with_an_answer_by_a_channel_is_said() {
        let check = |body: &str, expected: &str| {
            let error = parse_room_answer(body.as_bytes()).expect_err(body).to_string();
            assert!(error.contains(expected), "{body}: {error}");
        };
        check("", "the answer is not valid");
        check("hello", "line 1 column 1");
        check("{}", "exactly one of text");
        check(r#"{"replies":[]}"#, "nothing to send");
        check(r#"{"replies":[{"text":"a"}],"text":"b"}"#, "either `replies`");
        check(r#"{"text":""}"#, "reply 0: text is empty");
        check(r#"{"txt":"a"}"#, "unknown field `txt`");
        check(r#"{"text":"a","key":""}"#, "a key has 1 to 100 bytes");
        check(&format!(r#"{{"text":"a","key":"{}"}}"#, "k".repeat(101)), "1 to 100 bytes");
        check(r#"{"text":"a","message":"7"}"#, "invalid type");
        check(&format!(r#"{{"text":"{}"}}"#, "가".repeat(65_001)), "65001 UTF-16 units");
        let many = format!(r#"{{"replies":[{}]}}"#, vec![r#"{"text":"x"}"#; 21].join(","));
        check(&many, "has 21 replies");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            drop(parse_replies(&body));
            drop(parse_room_answer(&body));
        }

        #[test]
        fn any_text_comes_back_as_it_was(text in ".{1,200}") {
            let body = json!({"replies": [{"text": text}]}).to_string();
            let replies = parse_replies(body.as_bytes()).unwrap();
            prop_assert_eq!(replies, vec![ReplyBody::Text(text.into())]);
        }
    }
}
