//! Notices for webhooks: how many wait, and those that could not be delivered.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use naru_domain::ports::{KeptOutbox, Outbox, OutboxCounts, Weight};
use naru_domain::work::Role;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::Arc;
use utoipa::ToSchema;

use super::super::Listed;
use crate::auth::Caller;
use crate::error::{ApiError, Code};
use crate::extract::{Asked, InPath, page};
use crate::routes::{Endpoint, NODE_OPERATOR, NODE_VIEWER, delete, get, post};
use crate::state::Api;
use crate::{mask, times};

/// How much of a notice is shown: the largest ones have 64 KiB, a page a thousand of them.
const BODY_CHARS_MAX: usize = 2_000;

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        get("/api/notices", NODE_VIEWER, "Shows how notices stand, by target", counts)
            .lists::<NoticeCounts>(),
        get("/api/notices/dead", NODE_VIEWER, "Lists notices that failed for good", dead)
            .asks::<DeadNoticesQuery>()
            .lists::<DeadNotice>(),
        post("/api/notices/dead/{notice}/replay", NODE_OPERATOR, "Sends one once more", replay),
        delete("/api/notices/dead/{notice}", NODE_OPERATOR, "Forgets one", forget),
    ]
}

fn outbox(api: &Api) -> Result<&Arc<dyn Outbox>, ApiError> {
    let absent = || ApiError::new(Code::NoSuchRoute, "this node sends no notices");
    api.wards()?.outbox.as_ref().ok_or_else(absent)
}

/// How things stand with one target.
#[derive(Serialize, ToSchema)]
struct NoticeCounts {
    /// Its name in the configuration.
    target: String,
    waiting: u64,
    /// Failed for good.
    dead: u64,
    /// Dropped since too many waited.
    dropped: u64,
    /// When the first one is tried next; null if none waits.
    next_at: Option<String>,
    /// When the first one was made.
    oldest_at: Option<String>,
}

impl From<OutboxCounts> for NoticeCounts {
    fn from(counts: OutboxCounts) -> NoticeCounts {
        NoticeCounts {
            target: counts.target.to_string(),
            waiting: counts.waiting,
            dead: counts.dead,
            dropped: counts.dropped,
            next_at: counts.next_at.map(times::show),
            oldest_at: counts.oldest_at.map(times::show),
        }
    }
}

async fn counts(State(api): State<Api>) -> Result<Json<Listed<NoticeCounts>>, ApiError> {
    let rows = outbox(&api)?.counts().await?;
    Ok(Listed::page(rows.into_iter().map(NoticeCounts::from).collect(), usize::MAX, None))
}

/// Which of them.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DeadNoticesQuery {
    /// Only of this target.
    target: Option<String>,
    /// `next` of the page before.
    after: Option<String>,
    /// 1 to 1000, 100 unless given.
    limit: Option<usize>,
}

/// A notice that failed for good.
#[derive(Serialize, ToSchema)]
struct DeadNotice {
    /// The same in every attempt.
    id: String,
    target: String,
    at: String,
    /// `info` or `important`.
    weight: &'static str,
    /// How often sending failed.
    attempts: u32,
    /// What the last attempt failed with.
    failure: String,
    /// What was to be sent, at most 2,000 characters of it; masked for viewers.
    body: String,
    /// Its whole size.
    body_bytes: usize,
}

impl DeadNotice {
    fn new(kept: &KeptOutbox, role: Role) -> DeadNotice {
        let message = &kept.message;
        let text = String::from_utf8_lossy(&message.body);
        let mut body: String = text.chars().take(BODY_CHARS_MAX).collect();
        if body.len() < text.len() {
            body.push('…');
        }
        DeadNotice {
            id: message.id.to_string(),
            target: message.target.to_string(),
            at: times::show(message.at),
            weight: match message.weight {
                Weight::Info => "info",
                Weight::Important => "important",
            },
            attempts: kept.attempts,
            failure: kept.failure.to_string(),
            body: mask::text(role, &body),
            body_bytes: message.body.len(),
        }
    }
}

async fn dead(
    State(api): State<Api>,
    caller: Caller,
    Asked(query): Asked<DeadNoticesQuery>,
) -> Result<Json<Listed<DeadNotice>>, ApiError> {
    let page = page(query.after.as_deref(), query.limit)?;
    let rows = outbox(&api)?.dead(query.target.as_deref(), page).await?;
    let last = rows.last().map(|row| row.place.to_string());
    let rows = rows.iter().map(|row| DeadNotice::new(row, caller.role)).collect();
    Ok(Listed::page(rows, page.limit, last))
}

async fn replay(
    State(api): State<Api>,
    caller: Caller,
    InPath(id): InPath<String>,
) -> Result<StatusCode, ApiError> {
    let work = outbox(&api)?.replay(&id, api.now());
    let object = format!("notice:{id}");
    api.recorded(&caller, "notice.replay", &object, json!({}), work).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn forget(
    State(api): State<Api>,
    caller: Caller,
    InPath(id): InPath<String>,
) -> Result<StatusCode, ApiError> {
    let work = outbox(&api)?.forget(&id);
    let object = format!("notice:{id}");
    api.recorded(&caller, "notice.forget", &object, json!({}), work).await?;
    Ok(StatusCode::NO_CONTENT)
}
