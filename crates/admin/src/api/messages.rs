//! What was said and what was answered; answers that come later.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use naru_domain::limits::REPLIES_PER_MESSAGE_MAX;
use naru_domain::work::{MessageFilter, MessageRecord, MessageState, Role};
use naru_domain::{DeviceKey, MessageId, RoomKey};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::Listed;
use super::reply::{ReplyInput, ReplyView};
use crate::auth::Caller;
use crate::error::{ApiError, Code};
use crate::extract::{Asked, Body, IdempotencyKey, InPath, moment, page};
use crate::routes::{Endpoint, OPERATOR, VIEWER, get, post};
use crate::state::Api;
use crate::{mask, times};

/// How far a list looks back unless it is told.
const WINDOW_DEFAULT: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// The shortest text that can be searched for, in characters.
const SEARCH_CHARS_MIN: usize = 2;
const SEARCH_CHARS_MAX: usize = 200;

pub(crate) fn endpoints() -> Vec<Endpoint> {
    vec![
        get("/api/messages", VIEWER, "Lists chat messages, newest first", list)
            .asks::<MessagesQuery>()
            .lists::<MessageView>(),
        get("/api/messages/{id}", VIEWER, "Shows a message with its replies", show)
            .gives::<MessageWithReplies>(),
        post("/api/messages/{id}/replies", OPERATOR, "Answers a message later", reply)
            .takes_media::<LaterReplies>()
            .gives::<Sent>(),
    ]
}

/// A chat message.
#[derive(Serialize, ToSchema)]
pub(crate) struct MessageView {
    id: i64,
    bot: String,
    /// The id of the phone.
    device: i64,
    /// The id of the room, if it came with a channel id.
    room: Option<i64>,
    /// Masked for viewers.
    room_name: String,
    channel_id: String,
    log_id: Option<String>,
    /// Masked for viewers.
    sender: String,
    /// Absent for viewers.
    user_hash: Option<String>,
    /// Masked for viewers.
    text: String,
    is_group_chat: bool,
    is_mention: bool,
    received_at: String,
    /// `pending`, `done`, `dead` or `logged`.
    state: String,
    /// Why it is dead, or empty.
    failure: String,
}

impl MessageView {
    pub(crate) fn new(record: MessageRecord, bot: String, role: Role) -> MessageView {
        MessageView {
            id: record.id.0,
            bot,
            device: record.device.0,
            room: record.room.map(|room| room.0),
            room_name: mask::name(role, &record.room_name),
            channel_id: record.channel_id.to_string(),
            log_id: record.log_id.map(String::from),
            sender: mask::name(role, &record.sender),
            user_hash: mask::hash(role, record.user_hash.as_deref()),
            text: mask::text(role, &record.text),
            is_group_chat: record.is_group_chat,
            is_mention: record.is_mention,
            received_at: times::show(record.received_at),
            state: record.state.label().to_owned(),
            failure: record.failure.into(),
        }
    }
}

/// Which messages. Without `from`, `until` and `after`, those of the last seven days.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MessagesQuery {
    /// Only this bot's.
    bot: Option<String>,
    /// Only of the phone with this id.
    device: Option<i64>,
    /// Only of the room with this id.
    room: Option<i64>,
    /// `pending`, `done`, `dead` or `logged`.
    state: Option<String>,
    /// Only with this text in it; at least 2 characters. Not for viewers.
    search: Option<String>,
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
    Asked(asked): Asked<MessagesQuery>,
) -> Result<Json<Listed<MessageView>>, ApiError> {
    let page = page(asked.after.as_deref(), asked.limit)?;
    let mut filter = filter(&api, &caller, &asked)?;
    let is_open = filter.from.is_none() && filter.until.is_none() && page.after.is_none();
    if is_open && filter.state != Some(MessageState::Dead) {
        filter.from = Some(api.now().minus(WINDOW_DEFAULT));
    }
    let rows = api.services.ports.chat_log.messages(&filter, page).await?;
    let detail = json!({
        "bot": filter.bot.as_ref().map(|bot| bot.as_str()), "device": asked.device,
        "room": asked.room, "state": asked.state, "search": asked.search, "from": asked.from,
        "until": asked.until, "rows": rows.len(),
    });
    api.looked_at(&caller, "messages.list", "messages", rows.len(), detail).await?;
    views(&api, &caller, rows, page.limit).await
}

pub(crate) async fn views(
    api: &Api,
    caller: &Caller,
    rows: Vec<MessageRecord>,
    limit: usize,
) -> Result<Json<Listed<MessageView>>, ApiError> {
    let last = rows.last().map(|row| row.id.to_string());
    let mut items = Vec::with_capacity(rows.len());
    for row in rows {
        let bot = api.bot_name_of(row.device).await?;
        items.push(MessageView::new(row, bot, caller.role));
    }
    Ok(Listed::page(items, limit, last))
}

fn filter(api: &Api, caller: &Caller, asked: &MessagesQuery) -> Result<MessageFilter, ApiError> {
    let state = match asked.state.as_deref() {
        None => None,
        Some(label) => Some(MessageState::parse(label).ok_or_else(|| {
            ApiError::new(Code::BadQuery, "`state` is pending, done, dead or logged")
        })?),
    };
    if let Some(search) = &asked.search {
        if !mask::sees_all(caller.role) {
            // Whoever sees no text could guess it word by word.
            let message = "searching the text needs the role operator";
            return Err(ApiError::new(Code::Forbidden, message));
        }
        let chars = search.chars().count();
        if !(SEARCH_CHARS_MIN..=SEARCH_CHARS_MAX).contains(&chars) {
            let message =
                format!("`search` has {SEARCH_CHARS_MIN} to {SEARCH_CHARS_MAX} characters");
            return Err(ApiError::new(Code::BadQuery, message));
        }
    }
    Ok(MessageFilter {
        bot: api.bot_filter(caller, asked.bot.as_deref())?,
        device: asked.device.map(DeviceKey),
        room: asked.room.map(RoomKey),
        state,
        search: asked.search.clone(),
        from: moment("from", asked.from.as_deref())?,
        until: moment("until", asked.until.as_deref())?,
    })
}

/// A message and what was answered.
#[derive(Serialize, ToSchema)]
pub(crate) struct MessageWithReplies {
    message: MessageView,
    replies: Vec<ReplyView>,
}

async fn show(
    State(api): State<Api>,
    caller: Caller,
    InPath(id): InPath<i64>,
) -> Result<Json<MessageWithReplies>, ApiError> {
    let chat_log = &api.services.ports.chat_log;
    let message = chat_log.message(MessageId(id)).await?;
    api.must_see_device(&caller, message.device).await?;
    let replies = chat_log.replies(message.id).await?;
    let object = format!("message:{id}");
    api.looked_at(&caller, "messages.show", &object, 1, json!({})).await?;
    let bot = api.bot_name_of(message.device).await?;
    Ok(Json(MessageWithReplies {
        message: MessageView::new(message, bot, caller.role),
        replies: replies.iter().map(|reply| ReplyView::new(reply, caller.role)).collect(),
    }))
}

/// Replies to a message whose handler has ended.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LaterReplies {
    /// 1 to 20 replies, in order.
    replies: Vec<ReplyInput>,
    /// A retry with the same key sends nothing and returns the first result; also as the header
    /// `Idempotency-Key`.
    idempotency_key: Option<String>,
}

/// What was sent.
#[derive(Serialize, ToSchema)]
pub(crate) struct Sent {
    /// The phone it goes to.
    pub(crate) device: i64,
    /// The places in the phone's stream.
    pub(crate) offsets: Vec<u64>,
}

async fn reply(
    State(api): State<Api>,
    caller: Caller,
    InPath(id): InPath<i64>,
    key: IdempotencyKey,
    Body(later): Body<LaterReplies>,
) -> Result<Json<Sent>, ApiError> {
    let key = key.or(later.idempotency_key)?;
    if !(1..=REPLIES_PER_MESSAGE_MAX).contains(&later.replies.len()) {
        let message = format!("`replies` has 1 to {REPLIES_PER_MESSAGE_MAX} items");
        return Err(ApiError::field(message));
    }
    let replies =
        later.replies.into_iter().map(ReplyInput::into_body).collect::<Result<Vec<_>, _>>()?;
    let message = api.services.ports.chat_log.message(MessageId(id)).await?;
    api.must_see_device(&caller, message.device).await?;
    let detail = json!({ "replies": replies.len(), "key": key });
    let work = api.control()?.reply_later(message.id, replies, key);
    let object = format!("message:{id}");
    let offsets = api.recorded(&caller, "message.reply", &object, detail, work).await?;
    let offsets = offsets.into_iter().map(|offset| offset.0).collect();
    Ok(Json(Sent { device: message.device.0, offsets }))
}
