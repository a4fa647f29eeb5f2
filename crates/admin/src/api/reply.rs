//! Replies as the API takes and shows them. The shape that is taken is the one that webhooks answer
//! with, so that a bot needs to know only one.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use naru_domain::limits::{CHAT_TEXT_UNITS_MAX, REPLY_MEDIA_BYTES_MAX, REPLY_MEDIA_ITEMS_MAX};
use naru_domain::phone::MediaItem;
use naru_domain::work::{ReplyRecord, Role};
use naru_domain::{MediaKind, ReplyBody};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::ApiError;
use crate::{mask, times};

/// The longest time a phone may be told to wait with media, in milliseconds: it does nothing else then.
const MEDIA_WAIT_MS_MAX: u64 = 120_000;
const LINK_BYTES_MAX: usize = 2048;

/// What to say: exactly one of text, images, audio, video and document.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReplyInput {
    /// 1 to 65,000 UTF-16 units.
    text: Option<String>,
    /// 1 to 30 pictures in one share, 16 MiB together.
    images: Option<Vec<ImageInput>>,
    audio: Option<LinkInput>,
    video: Option<LinkInput>,
    document: Option<LinkInput>,
    /// With media: how long the phone waits before it returns to its own app, at most 120,000; it
    /// computes that unless given.
    wait_ms: Option<u64>,
}

/// One picture: either its bytes or an address the phone fetches itself.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ImageInput {
    /// The file in base64.
    base64: Option<String>,
    /// `http…`
    url: Option<String>,
}

/// A file that the phone fetches itself.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LinkInput {
    /// `http…`
    url: String,
}

impl ReplyInput {
    pub(crate) fn into_body(self) -> Result<ReplyBody, ApiError> {
        let wait = media_wait(self.wait_ms)?;
        let linked = |kind, link: LinkInput| {
            Ok(ReplyBody::Media { kind, items: vec![media_link(link.url)?], wait })
        };
        match (self.text, self.images, self.audio, self.video, self.document) {
            (Some(text), None, None, None, None) if self.wait_ms.is_none() => text_body(text),
            (Some(_), None, None, None, None) => {
                Err(ApiError::field("`wait_ms` belongs to media, not to text"))
            }
            (None, Some(images), None, None, None) => {
                Ok(ReplyBody::Media { kind: MediaKind::Image, items: pictures(images)?, wait })
            }
            (None, None, Some(link), None, None) => linked(MediaKind::Audio, link),
            (None, None, None, Some(link), None) => linked(MediaKind::Video, link),
            (None, None, None, None, Some(link)) => linked(MediaKind::Document, link),
            _ => Err(ApiError::field(
                "a reply has exactly one of text, images, audio, video and document",
            )),
        }
    }
}

pub(crate) fn text_body(text: String) -> Result<ReplyBody, ApiError> {
    let units = text.encode_utf16().count();
    if !(1..=CHAT_TEXT_UNITS_MAX).contains(&units) {
        let message = format!("a text has 1 to {CHAT_TEXT_UNITS_MAX} UTF-16 units");
        return Err(ApiError::field(message));
    }
    Ok(ReplyBody::Text(text.into()))
}

pub(crate) fn media_wait(wait_ms: Option<u64>) -> Result<Option<Duration>, ApiError> {
    if wait_ms.is_some_and(|wait| wait > MEDIA_WAIT_MS_MAX) {
        let message = format!("a phone waits with media for at most {MEDIA_WAIT_MS_MAX} ms");
        return Err(ApiError::field(message));
    }
    Ok(wait_ms.filter(|wait| *wait > 0).map(Duration::from_millis))
}

fn pictures(images: Vec<ImageInput>) -> Result<Vec<MediaItem>, ApiError> {
    if !(1..=REPLY_MEDIA_ITEMS_MAX).contains(&images.len()) {
        let message = format!("`images` has 1 to {REPLY_MEDIA_ITEMS_MAX} items");
        return Err(ApiError::field(message));
    }
    let mut bytes_sum = 0;
    let mut items = Vec::with_capacity(images.len());
    for image in images {
        items.push(match (image.base64, image.url) {
            (Some(base64), None) => {
                let bytes = file_bytes(&base64)?;
                bytes_sum += bytes.len();
                MediaItem::Bytes(bytes)
            }
            (None, Some(url)) => media_link(url)?,
            _ => return Err(ApiError::field("an image has either `base64` or `url`")),
        });
    }
    if bytes_sum > REPLY_MEDIA_BYTES_MAX {
        let message = format!("the media of one reply have at most {REPLY_MEDIA_BYTES_MAX} bytes");
        return Err(ApiError::field(message));
    }
    Ok(items)
}

fn media_link(url: String) -> Result<MediaItem, ApiError> {
    let is_web = url.starts_with("http://") || url.starts_with("https://");
    // A bar separates items on the wire of older phones.
    let is_clean = !url.contains(|c: char| c.is_control() || c.is_whitespace() || c == '|');
    if !is_web || !is_clean || url.len() > LINK_BYTES_MAX {
        return Err(ApiError::field("`url` is an http or https address without blanks or bars"));
    }
    Ok(MediaItem::Link(url.into()))
}

/// A file in base64, with or without line breaks and the `data:` prefix.
pub(crate) fn file_bytes(base64: &str) -> Result<bytes::Bytes, ApiError> {
    let bare = match base64.strip_prefix("data:") {
        Some(rest) => rest.split_once(";base64,").map_or(rest, |(_, file)| file),
        None => base64,
    };
    let has_breaks = bare.bytes().any(|byte| byte.is_ascii_whitespace());
    let decoded = if has_breaks {
        STANDARD.decode(bare.split_ascii_whitespace().collect::<String>())
    } else {
        STANDARD.decode(bare)
    };
    match decoded {
        Ok(bytes) if !bytes.is_empty() => Ok(bytes.into()),
        _ => Err(ApiError::field("`base64` is a file in standard base64")),
    }
}

/// A reply that was made.
#[derive(Serialize, ToSchema)]
pub(crate) struct ReplyView {
    /// The phone it goes to.
    device: i64,
    /// Its place in the phone's stream.
    offset: u64,
    at: String,
    /// The room's name; masked for viewers.
    room: String,
    /// `text`, `image`, `audio`, `video` or `document`.
    kind: String,
    /// Masked for viewers.
    text: Option<String>,
    items: Vec<MediaItemView>,
    wait_ms: Option<u64>,
    scheduled: bool,
}

/// One file of a reply, without its bytes.
#[derive(Serialize, ToSchema)]
pub(crate) struct MediaItemView {
    bytes: Option<usize>,
    url: Option<String>,
}

impl ReplyView {
    pub(crate) fn new(record: &ReplyRecord, role: Role) -> ReplyView {
        let (kind, text, items, wait) = match &record.reply.body {
            ReplyBody::Text(text) => ("text", Some(mask::text(role, text)), Vec::new(), None),
            ReplyBody::Media { kind, items, wait } => {
                let items = items.iter().map(MediaItemView::new).collect();
                (kind.label(), None, items, *wait)
            }
        };
        ReplyView {
            device: record.device.0,
            offset: record.offset.0,
            at: times::show(record.at),
            room: mask::name(role, &record.reply.room),
            kind: kind.to_owned(),
            text,
            items,
            wait_ms: wait.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
            scheduled: record.reply.scheduled,
        }
    }
}

impl MediaItemView {
    fn new(item: &MediaItem) -> MediaItemView {
        match item {
            MediaItem::Bytes(bytes) => MediaItemView { bytes: Some(bytes.len()), url: None },
            MediaItem::Link(url) => MediaItemView { bytes: None, url: Some(url.to_string()) },
        }
    }
}
