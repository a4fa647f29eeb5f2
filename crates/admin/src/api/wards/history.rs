//! What happened to wards, and who played: from the store, newest first.

use axum::Json;
use axum::extract::State;
use naru_domain::ports::{WardEvent, WardPlace, WardVisit};
use naru_domain::work::Role;
use naru_supervisor::model::WardName;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::super::Listed;
use super::super::schedules::PageQuery;
use super::{ward, words};
use crate::auth::Caller;
use crate::error::{ApiError, Code};
use crate::extract::{Asked, InPath, page};
use crate::routes::{Endpoint, NODE_VIEWER, get};
use crate::state::Api;
use crate::{mask, times};

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        get(
            "/api/wards/{name}/events",
            NODE_VIEWER,
            "Lists a ward's history, newest first",
            events,
        )
        .asks::<PageQuery>()
        .lists::<WardHappening>(),
        get("/api/ward-events", NODE_VIEWER, "Lists what happened to wards, newest first", all)
            .asks::<EventsQuery>()
            .lists::<WardHappening>(),
        get("/api/wards/{name}/visits", NODE_VIEWER, "Lists who played, newest first", visits)
            .asks::<PageQuery>()
            .lists::<WardVisitView>(),
    ]
}

/// Something that happened to a ward.
#[derive(Serialize, ToSchema)]
struct WardHappening {
    /// Rises in the order of time.
    id: String,
    at: String,
    ward: String,
    /// Such as `exited`, `started`, `gave_up`.
    kind: String,
    /// In words; empty if this program does not know the kind.
    text: String,
    /// The particulars, in the supervisor's own form. Players and lines are masked for viewers.
    #[schema(value_type = Object)]
    detail: serde_json::Value,
}

impl WardHappening {
    fn new(event: &WardEvent, role: Role) -> WardHappening {
        let mut detail = serde_json::from_str(&event.body).unwrap_or_default();
        let text = words::event(&detail, role);
        words::masked(role, &mut detail);
        WardHappening {
            id: event.place.0.to_string(),
            at: times::show(event.place.at()),
            ward: event.ward.to_string(),
            kind: event.kind.to_string(),
            text,
            detail,
        }
    }
}

async fn events_of(
    api: &Api,
    caller: &Caller,
    ward: Option<&str>,
    asked: &PageQuery,
) -> Result<Json<Listed<WardHappening>>, ApiError> {
    let page = page(asked.after.as_deref(), asked.limit)?;
    let before = page.after.map(WardPlace);
    let rows = api.wards()?.history.events(ward, before, page.limit).await?;
    let last = rows.last().map(|row| row.place.0.to_string());
    let rows = rows.iter().map(|row| WardHappening::new(row, caller.role)).collect();
    Ok(Listed::page(rows, page.limit, last))
}

async fn events(
    State(api): State<Api>,
    caller: Caller,
    InPath(name): InPath<String>,
    Asked(query): Asked<PageQuery>,
) -> Result<Json<Listed<WardHappening>>, ApiError> {
    let name = ward(&api, &name).await?.name;
    events_of(&api, &caller, Some(name.as_str()), &query).await
}

/// Which events.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EventsQuery {
    /// Only of this ward, also of one that is not looked after any more.
    ward: Option<String>,
    /// `next` of the page before.
    after: Option<String>,
    /// 1 to 1000, 100 unless given.
    limit: Option<usize>,
}

async fn all(
    State(api): State<Api>,
    caller: Caller,
    Asked(query): Asked<EventsQuery>,
) -> Result<Json<Listed<WardHappening>>, ApiError> {
    let name = query.ward.as_deref().map(WardName::parse).transpose();
    let name = name.map_err(|error| ApiError::new(Code::BadQuery, error.to_string()))?;
    let page = PageQuery { after: query.after, limit: query.limit };
    events_of(&api, &caller, name.as_ref().map(WardName::as_str), &page).await
}

/// A player's stay.
#[derive(Serialize, ToSchema)]
struct WardVisitView {
    /// Rises in the order of time.
    id: String,
    ward: String,
    /// The player's name at that time; masked for viewers.
    name: String,
    /// The player's lasting id, where the game tells; null for viewers.
    player: Option<String>,
    /// When it began.
    came_at: String,
    /// When the player was known to be there for the last time.
    seen_at: String,
    /// When the player was known to be gone for the first time; null while the visit lasts. The truth lies
    /// between `seen_at` and this.
    left_at: Option<String>,
    /// From the beginning until the player was seen last.
    stayed_s: u64,
}

impl WardVisitView {
    fn new(visit: &WardVisit, role: Role) -> WardVisitView {
        let came = visit.place.at();
        WardVisitView {
            id: visit.place.0.to_string(),
            ward: visit.ward.to_string(),
            name: mask::name(role, &visit.name),
            player: mask::hash(role, visit.player.as_deref()),
            came_at: times::show(came),
            seen_at: times::show(visit.seen),
            left_at: visit.left.map(times::show),
            stayed_s: visit.seen.since(came).as_secs(),
        }
    }
}

async fn visits(
    State(api): State<Api>,
    caller: Caller,
    InPath(name): InPath<String>,
    Asked(query): Asked<PageQuery>,
) -> Result<Json<Listed<WardVisitView>>, ApiError> {
    let page = page(query.after.as_deref(), query.limit)?;
    let asked = ward(&api, &name).await?;
    let before = page.after.map(WardPlace);
    let history = &asked.wards.history;
    let rows = history.visits(Some(asked.name.as_str()), before, page.limit).await?;
    let detail = json!({ "rows": rows.len() });
    api.looked_at(&caller, "ward.visits", &asked.object(), rows.len(), detail).await?;
    let last = rows.last().map(|row| row.place.0.to_string());
    let rows = rows.iter().map(|row| WardVisitView::new(row, caller.role)).collect();
    Ok(Listed::page(rows, page.limit, last))
}
