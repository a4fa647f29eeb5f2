//! Phones: who they are, whether they may be answered, how large their frames may be.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use naru_domain::limits::BRIDGE_FRAME_BYTES_MAX;
use naru_domain::work::{DeviceRecord, Role};
use naru_domain::{Approval, DeviceKey};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::{ApprovalState, Listed, approval_in_query, check_note, nullable, tagged};
use crate::auth::Caller;
use crate::error::{ApiError, Code};
use crate::extract::{Asked, Body, IfMatch, InPath, page};
use crate::routes::{Endpoint, OPERATOR, VIEWER, get, patch};
use crate::state::Api;
use crate::{mask, times};

/// The smallest frame limit that still lets a phone shake hands, in bytes (guessed, generously).
const FRAME_BYTES_MIN: usize = 1024;

pub(crate) fn endpoints() -> Vec<Endpoint> {
    vec![
        get("/api/devices", VIEWER, "Lists phones, by id", list)
            .asks::<DevicesQuery>()
            .lists::<DeviceView>(),
        get("/api/devices/{id}", VIEWER, "Shows a phone", show).gives::<DeviceView>(),
        patch("/api/devices/{id}", OPERATOR, "Approves, annotates or limits a phone", change)
            .takes::<DeviceChange>()
            .gives::<DeviceView>(),
    ]
}

/// A phone.
#[derive(Serialize, ToSchema)]
pub(crate) struct DeviceView {
    id: i64,
    bot: String,
    /// The phone's own id; masked for viewers.
    device_id: String,
    approval: ApprovalState,
    approval_note: String,
    /// The largest frame it may send, in bytes; null means the gateway's limit.
    frame_bytes_max: Option<u32>,
    version: String,
    client_type: String,
    device_info: String,
    /// The address the phone believes it has; masked for viewers.
    device_ip: String,
    /// The address it last connected from; masked for viewers.
    peer_ip: String,
    created_at: String,
    seen_at: String,
    revision: i64,
}

impl DeviceView {
    fn new(record: DeviceRecord, role: Role) -> DeviceView {
        DeviceView {
            id: record.key.0,
            bot: record.bot.to_string(),
            device_id: mask::device(role, record.device.as_str()),
            approval: record.approval.into(),
            approval_note: record.approval_note,
            frame_bytes_max: record.frame_bytes_max,
            version: record.version,
            client_type: record.client_type,
            device_info: record.device_info,
            device_ip: mask::address(role, &record.device_ip),
            peer_ip: mask::address(role, &record.peer_ip),
            created_at: times::show(record.created_at),
            seen_at: times::show(record.seen_at),
            revision: record.revision,
        }
    }
}

/// Which phones.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DevicesQuery {
    /// Only this bot's.
    bot: Option<String>,
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
    Asked(asked): Asked<DevicesQuery>,
) -> Result<Json<Listed<DeviceView>>, ApiError> {
    let bot = api.bot_filter(&caller, asked.bot.as_deref())?;
    let approval = approval_in_query(asked.approval.as_deref())?;
    let page = page(asked.after.as_deref(), asked.limit)?;
    let rows = api.services.ports.devices.devices(bot.as_ref(), approval, page).await?;
    let last = rows.last().map(|row| row.key.to_string());
    let items = rows.into_iter().map(|row| DeviceView::new(row, caller.role)).collect();
    Ok(Listed::page(items, page.limit, last))
}

async fn show(
    State(api): State<Api>,
    caller: Caller,
    InPath(id): InPath<i64>,
) -> Result<Response, ApiError> {
    let device = api.device(&caller, DeviceKey(id)).await?;
    Ok(tagged(device.revision, DeviceView::new(device, caller.role)))
}

/// What to change; what is absent stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeviceChange {
    approval: Option<ApprovalState>,
    /// Why; at most 500 characters.
    note: Option<String>,
    /// 1024 to 1048576 bytes; null removes the phone's own limit.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<u32>)]
    frame_bytes_max: Option<Option<u32>>,
    /// The revision that was read; also as `If-Match`.
    revision: Option<i64>,
}

async fn change(
    State(api): State<Api>,
    caller: Caller,
    InPath(id): InPath<i64>,
    if_match: IfMatch,
    Body(change): Body<DeviceChange>,
) -> Result<Response, ApiError> {
    let revision = if_match.or(change.revision)?;
    check_note(change.note.as_deref().unwrap_or_default())?;
    if let Some(Some(bytes)) = change.frame_bytes_max
        && !usize::try_from(bytes)
            .is_ok_and(|bytes| (FRAME_BYTES_MIN..=BRIDGE_FRAME_BYTES_MAX).contains(&bytes))
    {
        let message = format!(
            "`frame_bytes_max` is {FRAME_BYTES_MIN} to {BRIDGE_FRAME_BYTES_MAX}, or null for none"
        );
        return Err(ApiError::field(message));
    }
    let mut device = api.device(&caller, DeviceKey(id)).await?;
    if revision.is_some_and(|revision| revision != device.revision) {
        return Err(ApiError::plain(Code::Conflict));
    }
    if change.approval.is_some() || change.note.is_some() {
        let approval = change.approval.map_or(device.approval, Approval::from);
        device = approve(&api, &caller, device, approval, change.note.as_deref(), revision).await?;
    }
    if let Some(limit) = change.frame_bytes_max {
        let object = format!("device:{id}");
        let detail = json!({ "from": device.frame_bytes_max, "to": limit });
        let work = api.control()?.set_device_frame_limit(device.key, limit);
        device = api.recorded(&caller, "device.limit", &object, detail, work).await?;
    }
    Ok(tagged(device.revision, DeviceView::new(device, caller.role)))
}

async fn approve(
    api: &Api,
    caller: &Caller,
    device: DeviceRecord,
    approval: Approval,
    note: Option<&str>,
    revision: Option<i64>,
) -> Result<DeviceRecord, ApiError> {
    let object = format!("device:{}", device.key);
    let detail = json!({
        "from": device.approval.label(), "to": approval.label(), "note": note,
        "bot": device.bot.as_str(),
    });
    let note = note.unwrap_or(&device.approval_note);
    let work = api.control()?.set_device_approval(device.key, approval, note, revision);
    api.recorded(caller, "device.approval", &object, detail, work).await
}
