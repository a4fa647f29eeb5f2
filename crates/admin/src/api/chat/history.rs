//! What channels keep.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use naru_domain::Publication;
use naru_hub::{PageError, PageQuery};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::{
    BAD_REQUEST, ChannelBody, NOT_AVAILABLE, Outcome, UNRECOVERABLE, fault_of, party_view, place,
};
use crate::services::Chat;

/// A position.
#[derive(Deserialize, ToSchema)]
pub(crate) struct PositionBody {
    /// The offset.
    #[serde(default)]
    offset: u64,
    /// The epoch; an empty one is the present one.
    #[serde(default)]
    epoch: String,
}

/// A look at history.
#[derive(Deserialize, ToSchema)]
pub(crate) struct HistoryBody {
    /// Whose.
    #[serde(default)]
    channel: String,
    /// How many; 0 gives the position only, below 0 all.
    #[serde(default)]
    limit: i64,
    /// Only what came after it, or before it in reverse.
    since: Option<PositionBody>,
    /// Newest first.
    #[serde(default)]
    reverse: bool,
}

pub(super) async fn history(chat: &Chat, body: HistoryBody) -> Outcome {
    let (channel, namespace) = place(chat, &body.channel)?;
    if !namespace.has_history {
        return Err(NOT_AVAILABLE);
    }
    let query = PageQuery {
        since: body.since.as_ref().map(|since| (since.offset, since.epoch.as_str())),
        limit: body.limit,
        limit_max: chat.history_max,
        reverse: body.reverse,
    };
    let page = chat.hub.history_page(&channel, query).await.map_err(|error| match error {
        PageError::OtherEpoch => UNRECOVERABLE,
        PageError::BelowTheFirst => BAD_REQUEST,
        PageError::Bus(error) => fault_of(&error),
    })?;
    let publications: Vec<Value> =
        page.publications.iter().map(|each| publication_view(each)).collect();
    Ok(json!({
        "publications": publications,
        "offset": page.top.offset.0,
        "epoch": page.top.epoch.to_string(),
    }))
}

/// A publication as back ends see it.
pub(crate) fn publication_view(publication: &Publication) -> Value {
    let mut view = json!({ "offset": publication.position.offset.0 });
    match serde_json::from_slice::<Value>(&publication.data) {
        Ok(data) => view["data"] = data,
        Err(_) => view["b64data"] = json!(STANDARD.encode(&publication.data)),
    }
    if let Some(meta) = &publication.meta {
        if let Some(publisher) = &meta.publisher {
            view["info"] = party_view(publisher);
        }
        if !meta.tags.is_empty() {
            let tags = meta.tags.iter();
            let tags: Map<String, Value> =
                tags.map(|(name, value)| (name.to_string(), json!(value))).collect();
            view["tags"] = Value::Object(tags);
        }
    }
    view
}

pub(super) async fn history_remove(chat: &Chat, body: &ChannelBody) -> Outcome {
    let (channel, namespace) = place(chat, &body.channel)?;
    if !namespace.has_history {
        return Err(NOT_AVAILABLE);
    }
    chat.hub.remove_history(&channel).await.map_err(|error| fault_of(&error))?;
    Ok(json!({}))
}
