//! Messages that operators and programs send on their own.

use axum::Json;
use axum::extract::State;
use naru_domain::DeviceKey;
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;

use super::messages::Sent;
use super::reply::{ReplyInput, text_body};
use crate::auth::Caller;
use crate::control::SendRequest;
use crate::error::ApiError;
use crate::extract::{Body, IdempotencyKey};
use crate::routes::{Endpoint, OPERATOR, post};
use crate::state::Api;

const ROOM_CHARS_MAX: usize = 500;
const CHANNEL_ID_CHARS_MAX: usize = 64;

pub(crate) fn endpoints() -> Vec<Endpoint> {
    vec![
        post("/api/send", OPERATOR, "Sends a message to a room", send)
            .takes_media::<SendBody>()
            .gives::<Sent>(),
    ]
}

/// A message to a room.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SendBody {
    /// The id of the phone that sends it.
    device: i64,
    /// The room's name.
    room: String,
    /// The room's channel id; needed for media.
    #[serde(default)]
    channel_id: String,
    /// The text, unless `reply` is given.
    text: Option<String>,
    /// Any reply.
    reply: Option<ReplyInput>,
    /// A retry with the same key sends nothing and returns the first result; also as the header
    /// `Idempotency-Key`.
    idempotency_key: Option<String>,
}

/// Checks how a room is addressed.
pub(crate) fn check_room(room: &str, channel_id: &str) -> Result<(), ApiError> {
    if room.is_empty() || room.chars().count() > ROOM_CHARS_MAX {
        return Err(ApiError::field(format!("`room` has 1 to {ROOM_CHARS_MAX} characters")));
    }
    if channel_id.chars().count() > CHANNEL_ID_CHARS_MAX || channel_id.chars().any(char::is_control)
    {
        let message = format!("`channel_id` has at most {CHANNEL_ID_CHARS_MAX} characters");
        return Err(ApiError::field(message));
    }
    Ok(())
}

async fn send(
    State(api): State<Api>,
    caller: Caller,
    key: IdempotencyKey,
    Body(body): Body<SendBody>,
) -> Result<Json<Sent>, ApiError> {
    let idempotency_key = key.or(body.idempotency_key)?;
    check_room(&body.room, &body.channel_id)?;
    let reply = match (body.text, body.reply) {
        (Some(text), None) => text_body(text)?,
        (None, Some(reply)) => reply.into_body()?,
        _ => return Err(ApiError::field("send either `text` or `reply`")),
    };
    let is_media = matches!(reply, naru_domain::ReplyBody::Media { .. });
    if is_media && body.channel_id.is_empty() {
        return Err(ApiError::field("media need the room's `channel_id`"));
    }
    let device = api.device(&caller, DeviceKey(body.device)).await?;
    let detail = json!({
        "room": body.room, "channel_id": body.channel_id, "media": is_media,
        "key": idempotency_key,
    });
    let request = SendRequest {
        device: device.key,
        channel_id: body.channel_id,
        room: body.room,
        body: reply,
        idempotency_key,
    };
    let object = format!("device:{}", device.key);
    let work = api.control()?.send(request);
    let offsets = api.recorded(&caller, "message.send", &object, detail, work).await?;
    let offsets = offsets.into_iter().map(|offset| offset.0).collect();
    Ok(Json(Sent { device: device.key.0, offsets }))
}
