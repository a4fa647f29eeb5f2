//! Sessions of this node and what its workers do.

use axum::Json;
use axum::extract::State;
use naru_domain::work::Role;
use naru_domain::{DeviceKey, SessionId};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::Listed;
use crate::auth::Caller;
use crate::control::{QueueState, SessionState, WorkerState};
use crate::error::{ApiError, Code};
use crate::extract::{Asked, InPath, limit_of};
use crate::routes::{Endpoint, NODE_VIEWER, OPERATOR, VIEWER, delete, get};
use crate::state::Api;
use crate::{mask, times};

pub(crate) fn endpoints() -> Vec<Endpoint> {
    vec![
        get("/api/sessions", VIEWER, "Lists sessions, by id", list)
            .asks::<SessionsQuery>()
            .lists::<SessionView>(),
        get("/api/sessions/{id}", VIEWER, "Shows a session", show).gives::<SessionView>(),
        delete("/api/sessions/{id}", OPERATOR, "Closes the session's connection", close)
            .gives::<Closed>(),
        get("/api/queue", NODE_VIEWER, "Shows what waits and what the workers do", queue)
            .gives::<QueueView>(),
    ]
}

/// A session: it outlives its connections.
#[derive(Serialize, ToSchema)]
pub(crate) struct SessionView {
    id: u64,
    key: String,
    /// Bot and device; the device is masked for viewers.
    label: String,
    kind: String,
    /// `active` or `suspended`.
    state: String,
    generation: u64,
    /// The address of the connection; masked for viewers.
    peer: Option<String>,
    connected_at: Option<String>,
    /// Deliveries waiting for the reader.
    queued: usize,
    queued_bytes: usize,
    /// Up to where its stream was handed over.
    handed_over: u64,
    next_offset: u64,
}

impl SessionView {
    fn new(session: SessionState, role: Role) -> SessionView {
        let label = match session.label.split_once('/') {
            Some((bot, device)) => format!("{bot}/{}", mask::device(role, device)),
            None => mask::device(role, &session.label),
        };
        SessionView {
            id: session.id.0,
            key: session.key,
            label,
            kind: session.kind,
            state: session.state,
            generation: session.generation,
            peer: session.peer.map(|peer| mask::address(role, &peer)),
            connected_at: session.connected_at.map(times::show),
            queued: session.queued,
            queued_bytes: session.queued_bytes,
            handed_over: session.handed_over.0,
            next_offset: session.next_offset.0,
        }
    }
}

/// Which page.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SessionsQuery {
    /// `next` of the page before.
    after: Option<String>,
    /// 1 to 1000, 100 unless given.
    limit: Option<usize>,
}

async fn list(
    State(api): State<Api>,
    caller: Caller,
    Asked(asked): Asked<SessionsQuery>,
) -> Result<Json<Listed<SessionView>>, ApiError> {
    let after = asked.after.as_deref().map(|after| after.parse().map(SessionId)).transpose();
    let after = after.map_err(|_error| ApiError::plain(Code::BadCursor))?;
    let limit = limit_of(asked.limit)?;
    let rows = api.control()?.sessions(after, limit);
    let (count, last) = (rows.len(), rows.last().map(|row| row.id.to_string()));
    let mut items = Vec::with_capacity(count);
    for row in rows {
        if sees(&api, &caller, &row).await? {
            items.push(SessionView::new(row, caller.role));
        }
    }
    Ok(Listed::narrowed(items, count, limit, last))
}

/// A session of a phone belongs to the phone's bot; others are for those who see everything.
async fn sees(api: &Api, caller: &Caller, session: &SessionState) -> Result<bool, ApiError> {
    if caller.bots.is_empty() {
        return Ok(true);
    }
    let device = session.key.strip_prefix("phone:").and_then(|key| key.parse().ok());
    match device {
        Some(device) => api.sees_device(caller, DeviceKey(device)).await,
        None => Ok(false),
    }
}

async fn find(api: &Api, caller: &Caller, id: u64) -> Result<SessionState, ApiError> {
    let session = api.control()?.session(SessionId(id));
    let session = session.ok_or_else(|| ApiError::plain(Code::NotFound))?;
    if !sees(api, caller, &session).await? {
        return Err(ApiError::plain(Code::NotFound));
    }
    Ok(session)
}

async fn show(
    State(api): State<Api>,
    caller: Caller,
    InPath(id): InPath<u64>,
) -> Result<Json<SessionView>, ApiError> {
    find(&api, &caller, id).await.map(|session| Json(SessionView::new(session, caller.role)))
}

/// What became of a connection.
#[derive(Serialize, ToSchema)]
pub(crate) struct Closed {
    /// False if there was none.
    closed: bool,
}

async fn close(
    State(api): State<Api>,
    caller: Caller,
    InPath(id): InPath<u64>,
) -> Result<Json<Closed>, ApiError> {
    let session = find(&api, &caller, id).await?;
    let object = format!("session:{id}");
    let detail = json!({ "key": session.key });
    let work = async { Ok::<_, ApiError>(api.control()?.close_session(session.id)) };
    let closed = api.recorded(&caller, "session.close", &object, detail, work).await?;
    Ok(Json(Closed { closed }))
}

/// What waits and what is in work.
#[derive(Serialize, ToSchema)]
pub(crate) struct QueueView {
    /// Messages waiting for a worker.
    depth: usize,
    /// How many may wait.
    capacity: usize,
    /// Messages in work.
    in_work: usize,
    /// Of them those whose handlers only wait, such as for a webhook, and hold no worker.
    parked: usize,
    /// Whether the store takes messages.
    store_healthy: bool,
    workers: Vec<WorkerView>,
}

/// What one worker does.
#[derive(Serialize, ToSchema)]
pub(crate) struct WorkerView {
    /// `idle`, `busy` or `stuck`.
    state: String,
    /// The message in work.
    message: Option<i64>,
    bot: Option<String>,
    busy_ms: Option<u64>,
}

impl From<WorkerState> for WorkerView {
    fn from(worker: WorkerState) -> WorkerView {
        let state = match (worker.message, worker.is_stuck) {
            (_, true) => "stuck",
            (Some(_), false) => "busy",
            (None, false) => "idle",
        };
        WorkerView {
            state: state.to_owned(),
            message: worker.message.map(|message| message.0),
            bot: worker.bot,
            busy_ms: worker
                .busy_for
                .map(|busy| u64::try_from(busy.as_millis()).unwrap_or(u64::MAX)),
        }
    }
}

async fn queue(State(api): State<Api>) -> Result<Json<QueueView>, ApiError> {
    let QueueState { depth, capacity, in_work, parked, is_store_healthy, workers } =
        api.control()?.queue();
    let workers = workers.into_iter().map(WorkerView::from).collect();
    let store_healthy = is_store_healthy;
    Ok(Json(QueueView { depth, capacity, in_work, parked, store_healthy, workers }))
}
