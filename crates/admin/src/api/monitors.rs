//! Figures over time: answers to keep-alives, looks at the system, and the busiest stage.

use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use naru_domain::work::{PingSample, SystemSample};
use naru_domain::{DeviceKey, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Listed;
use crate::auth::Caller;
use crate::error::{ApiError, Code};
use crate::extract::{Asked, limit_of, moment};
use crate::routes::{Endpoint, NODE_VIEWER, VIEWER, get};
use crate::state::Api;
use crate::times;

const WINDOW_DEFAULT: Duration = Duration::from_secs(24 * 60 * 60);
/// How far back figures may be asked for.
const WINDOW_MAX: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// Stages named by the bottleneck.
const STAGES_SHOWN: usize = 10;

pub(crate) fn endpoints() -> Vec<Endpoint> {
    vec![
        get("/api/pings", VIEWER, "Lists a phone's keep-alives, oldest first", pings)
            .asks::<PingsQuery>()
            .lists::<PingView>(),
        get("/api/system", NODE_VIEWER, "Lists looks at the system, oldest first", system)
            .asks::<SystemQuery>()
            .lists::<SystemView>(),
        get("/api/bottleneck", NODE_VIEWER, "Names the busiest stage", bottleneck)
            .gives::<BottleneckView>(),
    ]
}

/// Which keep-alives.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PingsQuery {
    /// The id of the phone.
    device: i64,
    /// Not before this moment; the last 24 hours unless given, at most 90 days.
    since: Option<String>,
    /// `next` of the page before.
    after: Option<String>,
    /// 1 to 1000, 100 unless given.
    limit: Option<usize>,
}

/// One answered keep-alive.
#[derive(Serialize, ToSchema)]
pub(crate) struct PingView {
    at: String,
    /// Null if the stamp did not come back.
    round_trip_ms: Option<i64>,
    /// The phone's own figures, as far as it told them.
    memory_total_mb: Option<f64>,
    memory_used_mb: Option<f64>,
    memory_percent: Option<f64>,
    queued_frames: Option<i64>,
    active_rooms: Option<i64>,
}

impl From<&PingSample> for PingView {
    fn from(sample: &PingSample) -> PingView {
        PingView {
            at: times::show(sample.at),
            round_trip_ms: sample.round_trip_ms,
            memory_total_mb: sample.figures.memory_total_mb,
            memory_used_mb: sample.figures.memory_used_mb,
            memory_percent: sample.figures.memory_percent,
            queued_frames: sample.figures.queued_frames,
            active_rooms: sample.figures.active_rooms,
        }
    }
}

/// From when on to read: after the last row of the page before, or since the moment asked for.
fn since(api: &Api, since: Option<&str>, after: Option<&str>) -> Result<Timestamp, ApiError> {
    let now = api.now();
    if let Some(after) = after {
        let after: i64 = after.parse().map_err(|_error| ApiError::plain(Code::BadCursor))?;
        return Ok(Timestamp(after.saturating_add(1)));
    }
    let since = moment("since", since)?.unwrap_or_else(|| now.minus(WINDOW_DEFAULT));
    if since < now.minus(WINDOW_MAX) {
        return Err(ApiError::new(Code::BadQuery, "`since` is at most 90 days ago"));
    }
    Ok(since)
}

async fn pings(
    State(api): State<Api>,
    caller: Caller,
    Asked(asked): Asked<PingsQuery>,
) -> Result<Json<Listed<PingView>>, ApiError> {
    let limit = limit_of(asked.limit)?;
    let since = since(&api, asked.since.as_deref(), asked.after.as_deref())?;
    let device = api.device(&caller, DeviceKey(asked.device)).await?;
    let rows = api.services.ports.monitors.pings(device.key, since, limit).await?;
    let last = rows.last().map(|row| row.at.0.to_string());
    Ok(Listed::page(rows.iter().map(PingView::from).collect(), limit, last))
}

/// Which looks.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SystemQuery {
    /// Not before this moment; the last 24 hours unless given, at most 90 days.
    since: Option<String>,
    /// `next` of the page before.
    after: Option<String>,
    /// 1 to 1000, 100 unless given.
    limit: Option<usize>,
}

/// One look at the machine and the process.
#[derive(Serialize, ToSchema)]
pub(crate) struct SystemView {
    at: String,
    node: String,
    /// 0 to 100.
    cpu_percent: f64,
    /// 0 to 100 times cores.
    process_cpu_percent: f64,
    /// Bytes.
    memory_total: i64,
    memory_used: i64,
    process_memory: i64,
    /// Of the disk that holds the data folder.
    disk_percent: f64,
    /// Open phone connections.
    connections: i64,
    /// Messages waiting for work.
    queued: i64,
}

impl From<SystemSample> for SystemView {
    fn from(sample: SystemSample) -> SystemView {
        SystemView {
            at: times::show(sample.at),
            node: sample.node,
            cpu_percent: sample.cpu_percent,
            process_cpu_percent: sample.process_cpu_percent,
            memory_total: sample.memory_total,
            memory_used: sample.memory_used,
            process_memory: sample.process_memory,
            disk_percent: sample.disk_percent,
            connections: sample.connections,
            queued: sample.queued,
        }
    }
}

async fn system(
    State(api): State<Api>,
    Asked(asked): Asked<SystemQuery>,
) -> Result<Json<Listed<SystemView>>, ApiError> {
    let limit = limit_of(asked.limit)?;
    let since = since(&api, asked.since.as_deref(), asked.after.as_deref())?;
    let rows = api.services.ports.monitors.system_samples(since, limit).await?;
    let last = rows.last().map(|row| row.at.0.to_string());
    Ok(Listed::page(rows.into_iter().map(SystemView::from).collect(), limit, last))
}

/// Where the time goes.
#[derive(Serialize, ToSchema)]
pub(crate) struct BottleneckView {
    /// The busiest stage since the last look (1 to 10 seconds ago, or the start); null when idle.
    busiest: Option<String>,
    stages: Vec<StageView>,
    /// Messages waiting for a worker, as a part of what may wait, 0 to 1.
    queue_used: f64,
    /// Workers that are busy, as a part of all, 0 to 1.
    workers_used: f64,
}

/// How busy a stage is.
#[derive(Serialize, ToSchema)]
pub(crate) struct StageView {
    stage: String,
    /// Seconds of work a second: 1 is one worker that never rests.
    busy: f64,
    per_second: f64,
    mean_ms: f64,
}

#[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
fn part(of: usize, all: usize) -> f64 {
    if all == 0 { 0.0 } else { of as f64 / all as f64 }
}

async fn bottleneck(State(api): State<Api>) -> Json<BottleneckView> {
    let uptime = api.now().since(api.services.node.started_at);
    let loads = api.stages.loads(&api.services.metrics, uptime, Instant::now());
    let stages: Vec<StageView> = loads
        .into_iter()
        .take(STAGES_SHOWN)
        .map(|load| StageView {
            stage: load.stage,
            busy: load.busy,
            per_second: load.per_second,
            mean_ms: load.mean_ms,
        })
        .collect();
    // A node without bots has no queue.
    let queue = api.control().map(|control| control.queue()).unwrap_or_default();
    let busy = queue.workers.iter().filter(|worker| worker.message.is_some()).count();
    Json(BottleneckView {
        busiest: stages.first().map(|stage| stage.stage.clone()),
        stages,
        queue_used: part(queue.depth, queue.capacity),
        workers_used: part(busy, queue.workers.len()),
    })
}
