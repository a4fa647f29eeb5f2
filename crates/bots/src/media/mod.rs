//! Replies made ready for a phone: pictures resized, links turned into bytes where the phone needs
//! them, large sets split, waits computed. Knows what each dialect can show (bridge.md, section 10) but
//! not how it is written on the wire.

mod picture;
mod wait;
mod word;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use naru_domain::limits::{REPLY_MEDIA_BYTES_MAX, REPLY_MEDIA_ITEMS_MAX};
use naru_domain::{Dialect, MediaItem, MediaKind, ReplyBody};
use tokio::sync::Semaphore;

pub use picture::PictureLimits;
pub use wait::{phone_wait, suggested_wait};
pub use word::word_picture;

/// Gets the bytes behind a link. Implemented by the hooks' guarded client; tests pass their own.
#[async_trait]
pub trait MediaFetch: Send + Sync + 'static {
    /// The bytes; bounded in size and time by the implementation.
    async fn fetch(&self, url: &str) -> Result<Bytes, FetchError>;
}

/// Why a link gave nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct FetchError {
    /// For people, without secrets.
    pub reason: String,
    /// Whether another try may help.
    pub may_retry: bool,
}

/// Why a reply cannot be made ready.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MediaError {
    /// A media reply without items.
    #[error("the reply has no items")]
    Empty,
    /// More items than one reply may have.
    #[error("the reply has {count} items, at most {max} are allowed")]
    TooManyItems {
        /// How many it had.
        count: usize,
        /// The limit.
        max: usize,
    },
    /// More bytes than one reply may have.
    #[error("the reply has {bytes} bytes of media, at most {max} are allowed")]
    TooLarge {
        /// Its bytes.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The bytes are no picture that can be read.
    #[error("item {index} is not a picture that can be used: {reason}")]
    NotAPicture {
        /// Which one; the first is 0.
        index: usize,
        /// What is wrong.
        reason: String,
    },
    /// The link gave nothing.
    #[error("item {index} could not be fetched: {error}")]
    Fetch {
        /// Which one; the first is 0.
        index: usize,
        /// Why.
        error: FetchError,
    },
    /// This phone cannot take it.
    #[error("a {dialect} phone cannot take {kind} as {form}: {advice}")]
    NotForThisPhone {
        /// The phone's dialect.
        dialect: &'static str,
        /// What was to be sent.
        kind: &'static str,
        /// `a link` or `bytes`.
        form: &'static str,
        /// What to do instead.
        advice: &'static str,
    },
}

impl MediaError {
    /// Whether another try may help.
    #[must_use]
    pub fn may_retry(&self) -> bool {
        matches!(self, MediaError::Fetch { error: FetchError { may_retry: true, .. }, .. })
    }
}

/// What happens to a reply's wait when none was given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WaitPolicy {
    /// The phone computes it, always.
    Phone,
    /// The phone computes it, except where its formula is known to be too short.
    #[default]
    Suggested,
}

/// Pictures of one reply that are fetched and worked on at once (guessed).
const PREPARED_AT_ONCE: usize = 4;

/// How replies are made ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MediaOptions {
    /// Pictures wider than this are made smaller (the old server's figure).
    pub width_max: u32,
    /// Base64 bytes in one share: phones take seconds to read more (measured by the project at 15 MB).
    pub frame_bytes_max: usize,
    /// Items in one share.
    pub frame_items_max: usize,
    /// Waits.
    pub wait: WaitPolicy,
    /// What may be decoded.
    pub limits: PictureLimits,
    /// Pictures worked on at once, by this kitchen and all made from it.
    pub workers: usize,
}

impl Default for MediaOptions {
    fn default() -> MediaOptions {
        MediaOptions {
            width_max: 900,
            frame_bytes_max: 3 * 1024 * 1024,
            frame_items_max: 10,
            wait: WaitPolicy::default(),
            limits: PictureLimits::default(),
            workers: 2,
        }
    }
}

/// Makes replies ready. Cheap to clone.
#[derive(Clone)]
pub struct MediaKitchen {
    options: MediaOptions,
    fetch: Arc<dyn MediaFetch>,
    workers: Arc<Semaphore>,
}

impl std::fmt::Debug for MediaKitchen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MediaKitchen").field("options", &self.options).finish_non_exhaustive()
    }
}

impl MediaKitchen {
    /// Works within `options` and gets links through `fetch`.
    #[must_use]
    pub fn new(options: MediaOptions, fetch: Arc<dyn MediaFetch>) -> MediaKitchen {
        let workers = Arc::new(Semaphore::new(options.workers.max(1)));
        MediaKitchen { options, fetch, workers }
    }

    /// The same place with other options, such as those of another bot: the links and the bound on
    /// pictures in work are shared.
    #[must_use]
    pub fn with_options(&self, options: MediaOptions) -> MediaKitchen {
        MediaKitchen { options, ..self.clone() }
    }

    /// What is to be sent instead of `body`, in order. `dialect` is the phone's if it is known; without
    /// one pictures are made to fit all phones. Text passes as it is. Cancel safe: nothing is sent here.
    pub async fn prepare(
        &self,
        body: ReplyBody,
        dialect: Option<Dialect>,
    ) -> Result<Vec<ReplyBody>, MediaError> {
        let (kind, items, wait) = match body {
            ReplyBody::Text(_) => return Ok(vec![body]),
            ReplyBody::Media { kind, items, wait } => (kind, items, wait),
        };
        check_bounds(&items)?;
        if kind != MediaKind::Image {
            check_link_only(kind, &items, dialect)?;
            let wait = wait.or_else(|| self.wait_for(kind, &items));
            return Ok(vec![ReplyBody::Media { kind, items, wait }]);
        }
        let keeps_links = dialect == Some(Dialect::Json);
        // Several links at once, or thirty slow ones would use up the time of the message.
        let mut preparing = stream::iter(items.into_iter().enumerate())
            .map(|(index, item)| self.prepare_picture(index, item, keeps_links))
            .buffered(PREPARED_AT_ONCE);
        let mut ready = Vec::new();
        let mut bytes_total = 0;
        while let Some(item) = preparing.try_next().await? {
            if let MediaItem::Bytes(bytes) = &item {
                bytes_total += bytes.len();
            }
            check_bytes(bytes_total)?;
            ready.push(item);
        }
        let items_max = if dialect == Some(Dialect::Typed) {
            1 // That dialect has one place for media.
        } else {
            self.options.frame_items_max.max(1)
        };
        let groups = split(ready, items_max, self.options.frame_bytes_max);
        Ok(groups.into_iter().map(|items| self.image_reply(items, wait)).collect())
    }

    fn image_reply(&self, items: Vec<MediaItem>, wait: Option<Duration>) -> ReplyBody {
        let wait = wait.or_else(|| self.wait_for(MediaKind::Image, &items));
        ReplyBody::Media { kind: MediaKind::Image, items, wait }
    }

    fn wait_for(&self, kind: MediaKind, items: &[MediaItem]) -> Option<Duration> {
        let sizes: Vec<usize> = items
            .iter()
            .map(|item| match item {
                MediaItem::Bytes(bytes) => bytes.len(),
                MediaItem::Link(_) => 0, // Not known before the phone has fetched it.
            })
            .collect();
        match self.options.wait {
            WaitPolicy::Phone => None,
            WaitPolicy::Suggested => suggested_wait(kind, &sizes),
        }
    }

    async fn prepare_picture(
        &self,
        index: usize,
        item: MediaItem,
        keeps_links: bool,
    ) -> Result<MediaItem, MediaError> {
        let bytes = match item {
            MediaItem::Link(_) if keeps_links => return Ok(item),
            MediaItem::Link(url) => {
                self.fetch.fetch(&url).await.map_err(|error| MediaError::Fetch { index, error })?
            }
            MediaItem::Bytes(bytes) => bytes,
        };
        let permit = Arc::clone(&self.workers)
            .acquire_owned()
            .await
            .expect("invariant: the workers are never closed");
        let (width_max, limits) = (self.options.width_max, self.options.limits);
        let worked = tokio::task::spawn_blocking(move || {
            // Held by the work, not by the caller: a dropped caller must not let a second one in.
            let _permit = permit;
            picture::fit(bytes, width_max, limits)
        });
        match worked.await {
            Ok(Ok(bytes)) => Ok(MediaItem::Bytes(bytes)),
            Ok(Err(reason)) => Err(MediaError::NotAPicture { index, reason }),
            // A decoder that panics on hostile bytes harms this picture only.
            Err(_panic) => {
                let reason = "its decoder failed".to_owned();
                Err(MediaError::NotAPicture { index, reason })
            }
        }
    }
}

fn check_bounds(items: &[MediaItem]) -> Result<(), MediaError> {
    if items.is_empty() {
        return Err(MediaError::Empty);
    }
    if items.len() > REPLY_MEDIA_ITEMS_MAX {
        let count = items.len();
        return Err(MediaError::TooManyItems { count, max: REPLY_MEDIA_ITEMS_MAX });
    }
    let bytes = items
        .iter()
        .map(|item| match item {
            MediaItem::Bytes(bytes) => bytes.len(),
            MediaItem::Link(_) => 0,
        })
        .sum();
    check_bytes(bytes)
}

fn check_bytes(bytes: usize) -> Result<(), MediaError> {
    if bytes > REPLY_MEDIA_BYTES_MAX {
        return Err(MediaError::TooLarge { bytes, max: REPLY_MEDIA_BYTES_MAX });
    }
    Ok(())
}

/// Sound, films and documents reach 3.2.x phones only, and only by link: the phones store bytes as
/// pictures whatever the kind, and 3.3.x loses the file's type.
fn check_link_only(
    kind: MediaKind,
    items: &[MediaItem],
    dialect: Option<Dialect>,
) -> Result<(), MediaError> {
    let has_bytes = items.iter().any(|item| matches!(item, MediaItem::Bytes(_)));
    let form = if has_bytes { "bytes" } else { "a link" };
    let refused = |dialect: Dialect, advice| MediaError::NotForThisPhone {
        dialect: dialect.label(),
        kind: kind.label(),
        form,
        advice,
    };
    match dialect {
        Some(dialect @ (Dialect::Raw | Dialect::Typed)) => {
            Err(refused(dialect, "this script can only send images; send the link as text"))
        }
        Some(Dialect::Json) | None if has_bytes => {
            Err(refused(Dialect::Json, "put the file on a web server and send its link"))
        }
        Some(Dialect::Json) | None => Ok(()),
    }
}

/// How many bytes the item takes in a frame.
fn frame_bytes(item: &MediaItem) -> usize {
    match item {
        MediaItem::Bytes(bytes) => bytes.len().div_ceil(3) * 4,
        MediaItem::Link(link) => link.len(),
    }
}

/// Groups in order. Links and bytes never share a group: the older wire has one prefix for all items. A
/// single item that is larger than `bytes_max` gets a group of its own.
fn split(items: Vec<MediaItem>, items_max: usize, bytes_max: usize) -> Vec<Vec<MediaItem>> {
    let mut groups: Vec<Vec<MediaItem>> = Vec::new();
    let mut group_bytes = 0;
    for item in items {
        let bytes = frame_bytes(&item);
        let fits = groups.last().is_some_and(|group: &Vec<MediaItem>| {
            let is_same_form = group.last().is_some_and(|last| {
                matches!(last, MediaItem::Link(_)) == matches!(item, MediaItem::Link(_))
            });
            is_same_form && group.len() < items_max && group_bytes + bytes <= bytes_max
        });
        match groups.last_mut() {
            Some(group) if fits => {
                group_bytes += bytes;
                group.push(item);
            }
            _ => {
                group_bytes = bytes;
                groups.push(vec![item]);
            }
        }
    }
    groups
}
