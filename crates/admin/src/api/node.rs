//! The node itself: probes, metrics, what it is, and the description of this API.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::auth::Access;
use crate::error::ApiError;
use crate::health::{Check, PROBE_TIMEOUT, Probe};
use crate::metrics::{TextSink, render};
use crate::routes::{Endpoint, NODE_VIEWER, get};
use crate::state::Api;
use crate::{openapi_json, times};

pub(crate) fn endpoints(metrics_access: Access) -> Vec<Endpoint> {
    vec![
        get("/health/live", Access::Open, "Should this process be replaced?", live)
            .gives::<ProbeView>(),
        get("/health/ready", Access::Open, "Should it get traffic?", ready).gives::<ProbeView>(),
        get("/health/startup", Access::Open, "Has it come up?", startup).gives::<ProbeView>(),
        get("/metrics", metrics_access, "Figures for Prometheus", metrics)
            .writes(TextSink::CONTENT_TYPE),
        get("/api/info", NODE_VIEWER, "Says what this node is", info).gives::<NodeView>(),
        get("/api/openapi.json", Access::Open, "This description", openapi)
            .writes("application/json"),
    ]
}

/// What a probe found: status 200 when all is well, else 503.
#[derive(Serialize, ToSchema)]
pub(crate) struct ProbeView {
    ok: bool,
    checks: Vec<CheckView>,
}

/// One check.
#[derive(Serialize, ToSchema)]
pub(crate) struct CheckView {
    name: String,
    ok: bool,
    /// Why it fails.
    reason: Option<String>,
}

async fn probe(api: &Api, probe: Probe) -> Response {
    let checks = tokio::time::timeout(PROBE_TIMEOUT, api.services.health.check(probe)).await;
    let checks = checks
        .unwrap_or_else(|_elapsed| vec![Check::bad("probe", "the checks do not end in time")]);
    let ok = checks.iter().all(|check| check.problem.is_none());
    let checks = checks
        .into_iter()
        .map(|check| CheckView {
            name: check.name.to_owned(),
            ok: check.problem.is_none(),
            reason: check.problem,
        })
        .collect();
    let status = if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(ProbeView { ok, checks })).into_response()
}

async fn live(State(api): State<Api>) -> Response {
    probe(&api, Probe::Live).await
}

async fn ready(State(api): State<Api>) -> Response {
    probe(&api, Probe::Ready).await
}

async fn startup(State(api): State<Api>) -> Response {
    probe(&api, Probe::Startup).await
}

async fn metrics(State(api): State<Api>) -> Result<Response, ApiError> {
    let text = render(&api.services.metrics, &api.metrics);
    let kind = HeaderValue::from_static(TextSink::CONTENT_TYPE);
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

/// What this node is.
#[derive(Serialize, ToSchema)]
pub(crate) struct NodeView {
    version: String,
    node: String,
    started_at: String,
    uptime_seconds: u64,
    listeners: Vec<NamedValue>,
    /// How it works, such as `processing` = `queued`.
    modes: Vec<NamedValue>,
}

/// A name and what belongs to it.
#[derive(Serialize, ToSchema)]
pub(crate) struct NamedValue {
    name: String,
    value: String,
}

async fn info(State(api): State<Api>) -> Json<NodeView> {
    let node = &api.services.node;
    let named = |pairs: &[(String, String)]| {
        pairs
            .iter()
            .map(|(name, value)| NamedValue { name: name.clone(), value: value.clone() })
            .collect()
    };
    Json(NodeView {
        version: node.version.clone(),
        node: node.node.clone(),
        started_at: times::show(node.started_at),
        uptime_seconds: api.now().since(node.started_at).as_secs(),
        listeners: named(&node.listeners),
        modes: named(&node.modes),
    })
}

async fn openapi() -> Response {
    let kind = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, kind)], openapi_json()).into_response()
}
