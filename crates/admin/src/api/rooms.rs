//! Rooms and whether they may be answered.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use naru_bots::room_channel;
use naru_domain::work::{Role, RoomRecord};
use naru_domain::{Approval, BotName, DeviceKey, RoomKey};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::{ApprovalState, Listed, approval_in_query, check_note, tagged};
use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Asked, Body, IfMatch, InPath, page};
use crate::routes::{Endpoint, OPERATOR, VIEWER, get, patch};
use crate::state::Api;
use crate::{mask, times};

pub(crate) fn endpoints() -> Vec<Endpoint> {
    vec![
        get("/api/rooms", VIEWER, "Lists rooms, by id", list)
            .asks::<RoomsQuery>()
            .lists::<RoomView>(),
        get("/api/rooms/{id}", VIEWER, "Shows a room", show).gives::<RoomView>(),
        patch("/api/rooms/{id}", OPERATOR, "Approves or annotates a room", change)
            .takes::<RoomChange>()
            .gives::<RoomView>(),
    ]
}

/// A room as one phone sees it.
#[derive(Serialize, ToSchema)]
pub(crate) struct RoomView {
    id: i64,
    bot: String,
    /// The id of the phone that sees it.
    device: i64,
    channel_id: String,
    /// Where clients hear what is said in the room, and answer it.
    channel: String,
    /// Often the name of a person; masked for viewers.
    name: String,
    approval: ApprovalState,
    approval_note: String,
    created_at: String,
    revision: i64,
}

impl RoomView {
    fn new(record: RoomRecord, bot: String, role: Role) -> RoomView {
        let channel = BotName::parse(&bot).map(|bot| room_channel(&bot, record.key));
        RoomView {
            id: record.key.0,
            channel: channel.map_or_else(|_| String::new(), |channel| channel.to_string()),
            bot,
            device: record.device.0,
            channel_id: record.channel_id.into(),
            name: mask::name(role, &record.name),
            approval: record.approval.into(),
            approval_note: record.approval_note,
            created_at: times::show(record.created_at),
            revision: record.revision,
        }
    }
}

/// Which rooms.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RoomsQuery {
    /// Only this bot's.
    bot: Option<String>,
    /// Only of the phone with this id.
    device: Option<i64>,
    /// Only in this state.
    approval: Option<String>,
    /// `next` of the page before.
    after: Option<String>,
    /// 1 to 1000, 100 unless given.
    limit: Option<usize>,
}

async fn list(
    State(api): State<Api>,
    caller: Caller,
    Asked(asked): Asked<RoomsQuery>,
) -> Result<Json<Listed<RoomView>>, ApiError> {
    let bot = api.bot_filter(&caller, asked.bot.as_deref())?;
    let approval = approval_in_query(asked.approval.as_deref())?;
    let page = page(asked.after.as_deref(), asked.limit)?;
    let device = asked.device.map(DeviceKey);
    let rows = api.services.ports.rooms.rooms(bot.as_ref(), device, approval, page).await?;
    let last = rows.last().map(|row| row.key.to_string());
    let mut items = Vec::with_capacity(rows.len());
    for row in rows {
        let bot = api.bot_name_of(row.device).await?;
        items.push(RoomView::new(row, bot, caller.role));
    }
    Ok(Listed::page(items, page.limit, last))
}

async fn show(
    State(api): State<Api>,
    caller: Caller,
    InPath(id): InPath<i64>,
) -> Result<Response, ApiError> {
    let room = api.services.ports.rooms.room(RoomKey(id)).await?;
    api.must_see_device(&caller, room.device).await?;
    let bot = api.bot_name_of(room.device).await?;
    Ok(tagged(room.revision, RoomView::new(room, bot, caller.role)))
}

/// What to change; what is absent stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RoomChange {
    approval: Option<ApprovalState>,
    /// Why; at most 500 characters.
    note: Option<String>,
    /// The revision that was read; also as `If-Match`.
    revision: Option<i64>,
}

async fn change(
    State(api): State<Api>,
    caller: Caller,
    InPath(id): InPath<i64>,
    if_match: IfMatch,
    Body(change): Body<RoomChange>,
) -> Result<Response, ApiError> {
    let revision = if_match.or(change.revision)?;
    check_note(change.note.as_deref().unwrap_or_default())?;
    let mut room = api.services.ports.rooms.room(RoomKey(id)).await?;
    api.must_see_device(&caller, room.device).await?;
    let bot = api.bot_name_of(room.device).await?;
    if change.approval.is_some() || change.note.is_some() {
        let approval = change.approval.map_or(room.approval, Approval::from);
        let detail = json!({
            "from": room.approval.label(), "to": approval.label(), "note": change.note, "bot": bot,
        });
        let note = change.note.as_deref().unwrap_or(&room.approval_note);
        let control = api.control()?;
        let work = control.set_room_approval(room.key, approval, note, revision);
        let object = format!("room:{id}");
        room = api.recorded(&caller, "room.approval", &object, detail, work).await?;
    }
    Ok(tagged(room.revision, RoomView::new(room, bot, caller.role)))
}
