//! Which channels are in use, and by whom.

use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::{ChannelBody, NOT_AVAILABLE, Outcome, party_view, place};
use crate::services::Chat;

/// Which channels.
#[derive(Deserialize, ToSchema)]
pub(crate) struct ChannelsBody {
    /// A name with `*` for any run of characters; all without it.
    #[serde(default)]
    pattern: String,
}

pub(super) fn presence(chat: &Chat, body: &ChannelBody) -> Outcome {
    let (channel, namespace) = place(chat, &body.channel)?;
    if !namespace.presence {
        return Err(NOT_AVAILABLE);
    }
    let present = chat.hub.presence(&channel);
    let present: Map<String, Value> =
        present.iter().map(|party| (party.client.to_string(), party_view(party))).collect();
    Ok(json!({ "presence": present }))
}

pub(super) fn presence_stats(chat: &Chat, body: &ChannelBody) -> Outcome {
    let (channel, namespace) = place(chat, &body.channel)?;
    if !namespace.presence {
        return Err(NOT_AVAILABLE);
    }
    let stats = chat.hub.presence_stats(&channel);
    Ok(json!({ "num_clients": stats.clients, "num_users": stats.users }))
}

pub(super) fn channels(chat: &Chat, body: &ChannelsBody) -> Value {
    let found = chat.hub.channels(|name| {
        body.pattern.is_empty() || naru_hub::access::fits(&body.pattern, name.as_str())
    });
    let found: Map<String, Value> = found
        .into_iter()
        .map(|(name, count)| (name.as_str().to_owned(), json!({ "num_clients": count })))
        .collect();
    json!({ "channels": found })
}
