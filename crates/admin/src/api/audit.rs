//! The audit log: who did what, when, from where.

use axum::Json;
use axum::extract::State;
use naru_domain::work::ChainedAudit;
use serde::Serialize;
use utoipa::ToSchema;

use super::Listed;
use super::schedules::PageQuery;
use crate::error::ApiError;
use crate::extract::{Asked, page};
use crate::routes::{Endpoint, NODE_ADMIN, get};
use crate::state::Api;
use crate::times;

pub(crate) fn endpoints() -> Vec<Endpoint> {
    vec![
        get("/api/audit", NODE_ADMIN, "Lists the audit log, newest first", list)
            .asks::<PageQuery>()
            .lists::<AuditView>(),
        get("/api/audit/verify", NODE_ADMIN, "Checks that nobody changed the log", verify)
            .gives::<VerdictView>(),
    ]
}

/// One entry.
#[derive(Serialize, ToSchema)]
pub(crate) struct AuditView {
    id: i64,
    at: String,
    /// Such as `account:admin` or `token:laptop`.
    actor: String,
    /// The address it came from.
    source: String,
    /// Such as `device.approval`.
    action: String,
    /// Such as `device:12`.
    object: String,
    #[schema(value_type = Object)]
    detail: serde_json::Value,
    /// SHA-256 over the previous entry's hash and this entry, in hex.
    hash: String,
}

impl From<ChainedAudit> for AuditView {
    fn from(row: ChainedAudit) -> AuditView {
        let detail = serde_json::from_str(&row.entry.detail);
        AuditView {
            id: row.id,
            at: times::show(row.entry.at),
            actor: row.entry.actor,
            source: row.entry.source,
            action: row.entry.action,
            object: row.entry.object,
            detail: detail.unwrap_or(serde_json::Value::String(row.entry.detail)),
            hash: row.hash.iter().map(|byte| format!("{byte:02x}")).collect(),
        }
    }
}

async fn list(
    State(api): State<Api>,
    Asked(asked): Asked<PageQuery>,
) -> Result<Json<Listed<AuditView>>, ApiError> {
    let page = page(asked.after.as_deref(), asked.limit)?;
    let rows = api.services.ports.audit.audit(page).await?;
    let last = rows.last().map(|row| row.id.to_string());
    Ok(Listed::page(rows.into_iter().map(AuditView::from).collect(), page.limit, last))
}

/// What the check found.
#[derive(Serialize, ToSchema)]
pub(crate) struct VerdictView {
    entries: i64,
    /// Whether each entry follows from the one before.
    intact: bool,
    /// The first entry that does not.
    broken_at: Option<i64>,
}

async fn verify(State(api): State<Api>) -> Result<Json<VerdictView>, ApiError> {
    let verdict = api.services.ports.audit.verify_audit().await?;
    Ok(Json(VerdictView {
        entries: verdict.entries,
        intact: verdict.broken_at.is_none(),
        broken_at: verdict.broken_at,
    }))
}
