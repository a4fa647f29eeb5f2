//! Messages that failed for good, and working them off once more.

use axum::Json;
use axum::extract::State;
use naru_domain::work::{MessageFilter, MessageState, Page};
use naru_domain::{DeviceKey, MessageId, RoomKey};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::Listed;
use super::messages::{MessageView, views};
use crate::auth::Caller;
use crate::error::{ApiError, Code};
use crate::extract::{Asked, Body, InPath, limit_of, moment, page};
use crate::routes::{Endpoint, OPERATOR, VIEWER, get, post};
use crate::state::Api;

pub(crate) fn endpoints() -> Vec<Endpoint> {
    vec![
        get("/api/dead-letters", VIEWER, "Lists messages that failed for good", list)
            .asks::<DeadLettersQuery>()
            .lists::<MessageView>(),
        post("/api/dead-letters/{id}/replay", OPERATOR, "Works one off once more", replay),
        post("/api/dead-letters/replay", OPERATOR, "Works many off once more", replay_all)
            .takes::<ReplayBody>()
            .gives::<ReplayView>(),
    ]
}

/// Which of them.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeadLettersQuery {
    /// Only this bot's.
    bot: Option<String>,
    /// Only of the phone with this id.
    device: Option<i64>,
    /// Only of the room with this id.
    room: Option<i64>,
    /// Not before this moment.
    from: Option<String>,
    /// Before this moment.
    until: Option<String>,
    /// `next` of the page before.
    after: Option<String>,
    /// 1 to 1000, 100 unless given.
    limit: Option<usize>,
}

async fn list(
    State(api): State<Api>,
    caller: Caller,
    Asked(asked): Asked<DeadLettersQuery>,
) -> Result<Json<Listed<MessageView>>, ApiError> {
    let page = page(asked.after.as_deref(), asked.limit)?;
    let filter = MessageFilter {
        bot: api.bot_filter(&caller, asked.bot.as_deref())?,
        device: asked.device.map(DeviceKey),
        room: asked.room.map(RoomKey),
        state: Some(MessageState::Dead),
        search: None,
        from: moment("from", asked.from.as_deref())?,
        until: moment("until", asked.until.as_deref())?,
    };
    let rows = api.services.ports.chat_log.messages(&filter, page).await?;
    let detail = json!({
        "bot": filter.bot.as_ref().map(|bot| bot.as_str()), "device": asked.device,
        "room": asked.room, "rows": rows.len(),
    });
    api.looked_at(&caller, "dead_letters.list", "dead_letters", rows.len(), detail).await?;
    views(&api, &caller, rows, page.limit).await
}

async fn replay(
    State(api): State<Api>,
    caller: Caller,
    InPath(id): InPath<i64>,
) -> Result<axum::http::StatusCode, ApiError> {
    let message = api.services.ports.chat_log.message(MessageId(id)).await?;
    api.must_see_device(&caller, message.device).await?;
    if message.state != MessageState::Dead {
        return Err(ApiError::new(Code::Conflict, "only dead messages can be replayed"));
    }
    let work = api.control()?.replay(message.id);
    let object = format!("message:{id}");
    api.recorded(&caller, "message.replay", &object, json!({}), work).await?;
    Ok(axum::http::StatusCode::NO_CONTENT)
}

/// Which to work off once more; all unless narrowed.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReplayBody {
    /// Only this bot's.
    bot: Option<String>,
    /// Only of the phone with this id.
    device: Option<i64>,
    /// Only of the room with this id.
    room: Option<i64>,
    /// Not before this moment.
    from: Option<String>,
    /// Before this moment.
    until: Option<String>,
    /// How many at most, 1 to 1000; 1000 unless given. The newest come first.
    limit: Option<usize>,
}

/// How many went back to work.
#[derive(Serialize, ToSchema)]
pub(crate) struct ReplayView {
    replayed: usize,
    /// Those that did not, with the code of the reason.
    failed: Vec<ReplayFailure>,
    /// Whether there may be more: ask again.
    more: bool,
}

/// One that did not go back to work.
#[derive(Serialize, ToSchema)]
pub(crate) struct ReplayFailure {
    id: i64,
    code: String,
}

async fn replay_all(
    State(api): State<Api>,
    caller: Caller,
    Body(body): Body<ReplayBody>,
) -> Result<Json<ReplayView>, ApiError> {
    let in_body = |error: ApiError| ApiError { code: Code::BadField, ..error };
    let limit = limit_of(body.limit.or(Some(naru_domain::limits::PAGE_ROWS_MAX)));
    let limit = limit.map_err(in_body)?;
    let filter = MessageFilter {
        bot: api.bot_filter(&caller, body.bot.as_deref())?,
        device: body.device.map(DeviceKey),
        room: body.room.map(RoomKey),
        state: Some(MessageState::Dead),
        search: None,
        from: moment("from", body.from.as_deref()).map_err(in_body)?,
        until: moment("until", body.until.as_deref()).map_err(in_body)?,
    };
    let detail = json!({
        "bot": filter.bot.as_ref().map(|bot| bot.as_str()), "device": body.device,
        "room": body.room, "from": body.from, "until": body.until, "limit": limit,
    });
    let page = Page { after: None, limit };
    let work = async {
        let mut rows = api.services.ports.chat_log.messages(&filter, page).await?;
        // Oldest first, so that a room's messages come back in the order they were said.
        rows.reverse();
        let more = rows.len() >= limit;
        let mut view = ReplayView { replayed: 0, failed: Vec::new(), more };
        for row in rows {
            match api.control()?.replay(row.id).await {
                Ok(()) => view.replayed += 1,
                Err(error) => {
                    let error = ApiError::from(error);
                    let code = error.code.label().to_owned();
                    view.failed.push(ReplayFailure { id: row.id.0, code });
                }
            }
        }
        Ok::<_, ApiError>(view)
    };
    api.recorded(&caller, "message.replay_all", "dead_letters", detail, work).await.map(Json)
}
