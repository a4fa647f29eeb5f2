//! Publishing into one channel, or the same into several.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use naru_domain::ports::Post;
use naru_domain::{ChannelName, Offset, PublicationMeta, Version};
use naru_hub::PublishError;
use naru_hub::access::Namespace;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{
    Asked, BAD_REQUEST, Fault, LIMIT, MANY_MAX, NOT_AVAILABLE, Outcome, fault_of, owners_fault,
    place,
};

/// Tags of one publication.
const TAGS_MAX: usize = 64;
const VERSION_EPOCH_BYTES_MAX: usize = 255;

/// What is published, and where. `channel` for one, `channels` for a broadcast.
#[derive(Deserialize, ToSchema)]
pub(crate) struct PublishBody {
    /// Where.
    #[serde(default)]
    channel: String,
    /// Where, for a broadcast; at most 1,000.
    #[serde(default)]
    channels: Vec<String>,
    /// Any JSON, kept byte for byte.
    #[schema(value_type = Object)]
    data: Option<Box<RawValue>>,
    /// Any bytes in base64, instead of `data`.
    b64data: Option<String>,
    /// Deliver it without keeping it.
    #[serde(default)]
    skip_history: bool,
    /// Names and values that travel with it.
    #[serde(default)]
    tags: BTreeMap<String, String>,
    /// The same key within the window publishes once and gives the first position.
    idempotency_key: Option<String>,
    /// Subscribers who agreed to it may get a difference.
    #[serde(default)]
    delta: bool,
    /// Not published if one with this version or a newer one was, in channels with history; 0 for none.
    #[serde(default)]
    version: u64,
    /// Versions are compared within one epoch only; at most 255 bytes.
    #[serde(default)]
    version_epoch: String,
}

fn post_of(content: &PublishBody, namespace: &Namespace) -> Result<Post, Fault> {
    let data = match (&content.data, &content.b64data) {
        (_, Some(encoded)) => Bytes::from(STANDARD.decode(encoded).map_err(|_| BAD_REQUEST)?),
        (Some(raw), None) => Bytes::copy_from_slice(raw.get().as_bytes()),
        (None, None) => return Err(BAD_REQUEST),
    };
    if content.tags.len() > TAGS_MAX {
        return Err(LIMIT);
    }
    let tags =
        content.tags.iter().map(|(name, value)| (name.as_str().into(), value.as_str().into()));
    let meta = PublicationMeta {
        publisher: None,
        tags: tags.collect(),
        is_delta: content.delta || namespace.delta_publish,
        version: version_of(content, namespace)?,
    };
    let is_plain = meta == PublicationMeta::default();
    Ok(Post {
        data,
        meta: (!is_plain).then(|| Arc::new(meta)),
        key: content.idempotency_key.as_deref().map(Arc::from),
        skip_history: content.skip_history,
    })
}

/// What the back end counts with. Only a channel that remembers can say what was overtaken.
fn version_of(content: &PublishBody, namespace: &Namespace) -> Result<Option<Version>, Fault> {
    if content.version == 0 {
        return Ok(None);
    }
    if content.version_epoch.len() > VERSION_EPOCH_BYTES_MAX {
        return Err(BAD_REQUEST);
    }
    if !namespace.has_history || content.skip_history {
        return Err(NOT_AVAILABLE);
    }
    Ok(Some(Version { number: content.version, epoch: content.version_epoch.as_str().into() }))
}

pub(super) async fn publish(asked: &Asked<'_>, body: &PublishBody) -> Outcome {
    let (channel, namespace) = place(asked.chat, &body.channel)?;
    let post = post_of(body, &namespace)?;
    published(asked, &channel, post).await
}

async fn published(asked: &Asked<'_>, channel: &ChannelName, post: Post) -> Outcome {
    asked.record(channel, "channel.publish").await?;
    let published = asked.chat.hub.publish(channel, post).await;
    let position = published.map_err(|error| match error {
        PublishError::Bus(error) => fault_of(&error),
        PublishError::Owner(error) => owners_fault(&error),
    })?;
    if position.offset == Offset(0) {
        return Ok(json!({}));
    }
    Ok(json!({ "offset": position.offset.0, "epoch": position.epoch.to_string() }))
}

pub(super) async fn broadcast(asked: &Asked<'_>, body: &PublishBody) -> Outcome {
    let channels = &body.channels;
    if channels.is_empty() || (body.data.is_none() && body.b64data.is_none()) {
        return Err(BAD_REQUEST);
    }
    if channels.len() > MANY_MAX {
        return Err(LIMIT);
    }
    let mut responses = Vec::with_capacity(channels.len());
    for name in channels {
        let outcome = match place(asked.chat, name) {
            Ok((channel, namespace)) => {
                published(asked, &channel, post_of(body, &namespace)?).await
            }
            Err(fault) => Err(fault),
        };
        responses.push(match outcome {
            Ok(result) => json!({ "result": result }),
            Err(Fault(code, message)) => {
                json!({ "error": { "code": code, "message": message } })
            }
        });
    }
    Ok(json!({ "responses": responses }))
}
