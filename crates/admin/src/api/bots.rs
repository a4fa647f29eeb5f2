//! Bots and their settings.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use naru_domain::BotName;
use naru_domain::limits::PAGE_ROWS_MAX;
use naru_domain::work::Role;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::{Listed, tagged};
use crate::auth::Caller;
use crate::error::{ApiError, Code};
use crate::extract::{Asked, Body, IfMatch, InPath, limit_of};
use crate::mask;
use crate::routes::{ADMIN, Endpoint, NODE_OPERATOR, VIEWER, get, post, put};
use crate::state::Api;

pub(crate) fn endpoints() -> Vec<Endpoint> {
    vec![
        get("/api/bots", VIEWER, "Lists bots, by name", list)
            .asks::<BotsQuery>()
            .lists::<BotView>(),
        get("/api/bots/{name}", VIEWER, "Shows a bot with its settings", show).gives::<BotView>(),
        put("/api/bots/{name}/settings", ADMIN, "Replaces a bot's settings", change)
            .takes::<SettingsChange>()
            .gives::<BotView>(),
        post("/api/reload", NODE_OPERATOR, "Reads approvals and settings again", reload)
            .gives::<ReloadView>(),
    ]
}

/// A bot.
#[derive(Serialize, ToSchema)]
pub(crate) struct BotView {
    name: String,
    /// Secrets in it are shown as asterisks; asterisks that are written back keep them.
    #[schema(value_type = Object)]
    settings: serde_json::Value,
    revision: i64,
}

impl BotView {
    fn new(name: String, document: &str, revision: i64, role: Role) -> BotView {
        let mut settings = serde_json::from_str(document).unwrap_or_default();
        mask::settings(role, &mut settings);
        BotView { name, settings, revision }
    }
}

/// Which bots.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BotsQuery {
    /// `next` of the page before.
    after: Option<String>,
    /// 1 to 1000, 100 unless given.
    limit: Option<usize>,
}

async fn list(
    State(api): State<Api>,
    caller: Caller,
    Asked(asked): Asked<BotsQuery>,
) -> Result<Json<Listed<BotView>>, ApiError> {
    let limit = limit_of(asked.limit)?;
    let rows = api.services.ports.bot_settings.bots(asked.after.as_deref(), limit).await?;
    let (count, last) = (rows.len(), rows.last().map(|(name, ..)| name.clone()));
    let items = rows
        .into_iter()
        .filter(|(name, ..)| caller.sees_bot(name))
        .map(|(name, document, revision)| BotView::new(name, &document, revision, caller.role))
        .collect();
    Ok(Listed::narrowed(items, count, limit, last))
}

async fn show(
    State(api): State<Api>,
    caller: Caller,
    InPath(name): InPath<String>,
) -> Result<Response, ApiError> {
    let (document, revision) = find(&api, &caller, &name).await?;
    Ok(tagged(revision, BotView::new(name, &document, revision, caller.role)))
}

/// The port has no reading of one bot that does not create it, and bots are few.
async fn find(api: &Api, caller: &Caller, name: &str) -> Result<(String, i64), ApiError> {
    if !caller.sees_bot(name) {
        return Err(ApiError::plain(Code::NotFound));
    }
    let mut after: Option<String> = None;
    loop {
        let rows = api.services.ports.bot_settings.bots(after.as_deref(), PAGE_ROWS_MAX).await?;
        let is_last = rows.len() < PAGE_ROWS_MAX;
        after = rows.last().map(|(name, ..)| name.clone());
        if let Some((_, document, revision)) = rows.into_iter().find(|(own, ..)| own == name) {
            return Ok((document, revision));
        }
        if is_last {
            return Err(ApiError::plain(Code::NotFound));
        }
    }
}

/// New settings.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SettingsChange {
    /// The whole document.
    #[schema(value_type = Object)]
    settings: serde_json::Map<String, serde_json::Value>,
    /// The revision that was read; also as `If-Match`. Required in one of the two.
    revision: Option<i64>,
}

async fn change(
    State(api): State<Api>,
    caller: Caller,
    InPath(name): InPath<String>,
    if_match: IfMatch,
    Body(change): Body<SettingsChange>,
) -> Result<Response, ApiError> {
    let revision = if_match.required(change.revision)?;
    let bot = BotName::parse(&name).map_err(|error| ApiError::field(error.to_string()))?;
    find(&api, &caller, &name).await?;
    let document = serde_json::Value::Object(change.settings).to_string();
    // Settings may hold secrets: the record says which fields there are, not what is in them.
    let detail = json!({ "revision": revision, "bytes": document.len() });
    let work = api.control()?.set_settings(&bot, &document, revision);
    let object = format!("bot:{name}");
    let revision = api.recorded(&caller, "bot.settings", &object, detail, work).await?;
    Ok(tagged(revision, BotView::new(name, &document, revision, caller.role)))
}

/// What was read again.
#[derive(Serialize, ToSchema)]
pub(crate) struct ReloadView {
    devices: usize,
    rooms: usize,
    bots: usize,
}

async fn reload(State(api): State<Api>, caller: Caller) -> Result<Json<ReloadView>, ApiError> {
    let work = api.control()?.reload();
    let found = api.recorded(&caller, "bots.reload", "bots", json!({}), work).await?;
    Ok(Json(ReloadView { devices: found.devices, rooms: found.rooms, bots: found.bots }))
}
