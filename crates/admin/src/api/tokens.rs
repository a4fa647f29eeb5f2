//! Tokens for programs. A secret is shown once, when it is made; only its hash is kept.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use naru_domain::BotName;
use naru_domain::work::{Role, TokenRecord};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::Listed;
use super::accounts::RoleShape;
use super::schedules::PageQuery;
use crate::auth::{Caller, Means, TOKEN_PREFIX, credential_hash, new_secret};
use crate::error::{ApiError, Code};
use crate::extract::{Asked, Body, InPath, page};
use crate::routes::{Endpoint, NODE_ADMIN, delete, get, post};
use crate::state::Api;
use crate::times;

pub(crate) const NAME_CHARS_MAX: usize = 128;
const BOTS_MAX: usize = 100;
const DAYS_MAX: u32 = 3650;

pub(crate) fn endpoints() -> Vec<Endpoint> {
    vec![
        get("/api/tokens", NODE_ADMIN, "Lists tokens, by id", list)
            .asks::<PageQuery>()
            .lists::<TokenView>(),
        post("/api/tokens", NODE_ADMIN, "Makes a token; its secret is shown once", create)
            .takes::<NewToken>()
            .creates::<MadeToken>(),
        delete("/api/tokens/{id}", NODE_ADMIN, "Revokes a token", revoke),
    ]
}

/// A token, without its secret.
#[derive(Serialize, ToSchema)]
pub(crate) struct TokenView {
    id: i64,
    name: String,
    role: String,
    /// Only these bots; empty means all.
    bots: Vec<String>,
    created_at: String,
    used_at: Option<String>,
    expires_at: Option<String>,
    revoked_at: Option<String>,
}

impl From<TokenRecord> for TokenView {
    fn from(record: TokenRecord) -> TokenView {
        TokenView {
            id: record.id,
            name: record.name,
            role: record.role.label().to_owned(),
            bots: record.bots,
            created_at: times::show(record.created_at),
            used_at: record.used_at.map(times::show),
            expires_at: record.expires_at.map(times::show),
            revoked_at: record.revoked_at.map(times::show),
        }
    }
}

async fn list(
    State(api): State<Api>,
    Asked(asked): Asked<PageQuery>,
) -> Result<Json<Listed<TokenView>>, ApiError> {
    let page = page(asked.after.as_deref(), asked.limit)?;
    let rows = api.services.ports.tokens.tokens(page).await?;
    let last = rows.last().map(|row| row.id.to_string());
    Ok(Listed::page(rows.into_iter().map(TokenView::from).collect(), page.limit, last))
}

/// A new token.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewToken {
    /// Whose it is, 1 to 128 characters.
    name: String,
    role: RoleShape,
    /// Only these bots; empty means all.
    #[serde(default)]
    bots: Vec<String>,
    /// How long it is good, 1 to 3650 days; for ever unless given.
    expires_in_days: Option<u32>,
}

/// A token with its secret.
#[derive(Serialize, ToSchema)]
pub(crate) struct MadeToken {
    token: TokenView,
    /// Shown this once.
    secret: String,
}

async fn create(
    State(api): State<Api>,
    caller: Caller,
    Body(new): Body<NewToken>,
) -> Result<Response, ApiError> {
    check_name(&new.name)?;
    if new.bots.len() > BOTS_MAX {
        return Err(ApiError::field(format!("`bots` has at most {BOTS_MAX} names")));
    }
    for bot in &new.bots {
        BotName::parse(bot).map_err(|error| ApiError::field(error.to_string()))?;
    }
    let now = api.now();
    let expires_at = match new.expires_in_days {
        None => None,
        Some(days) if (1..=DAYS_MAX).contains(&days) => {
            Some(now.plus(Duration::from_secs(u64::from(days) * 24 * 60 * 60)))
        }
        Some(_) => return Err(ApiError::field(format!("`expires_in_days` is 1 to {DAYS_MAX}"))),
    };
    let secret = new_secret(TOKEN_PREFIX);
    let mut record = TokenRecord {
        id: 0,
        name: new.name,
        hash: credential_hash(&secret),
        role: Role::from(new.role),
        bots: new.bots,
        created_at: now,
        used_at: None,
        expires_at,
        revoked_at: None,
    };
    let detail = json!({ "role": record.role.label(), "bots": record.bots });
    let object = format!("token:{}", record.name);
    let work = api.services.ports.tokens.add_token(&record);
    record.id = api.recorded(&caller, "token.create", &object, detail, work).await?;
    Ok((StatusCode::CREATED, Json(MadeToken { token: record.into(), secret })).into_response())
}

pub(crate) fn check_name(name: &str) -> Result<(), ApiError> {
    let chars = name.chars().count();
    if !(1..=NAME_CHARS_MAX).contains(&chars)
        || name.chars().any(char::is_control)
        || name.trim() != name
    {
        let message =
            format!("a name has 1 to {NAME_CHARS_MAX} characters and no spaces around it");
        return Err(ApiError::field(message));
    }
    Ok(())
}

async fn revoke(
    State(api): State<Api>,
    caller: Caller,
    InPath(id): InPath<i64>,
) -> Result<StatusCode, ApiError> {
    if caller.means == Means::Token(id) {
        return Err(ApiError::new(Code::Conflict, "a token cannot revoke itself; use another one"));
    }
    let work = api.services.ports.tokens.revoke_token(id, api.now());
    api.recorded(&caller, "token.revoke", &format!("token:{id}"), json!({}), work).await?;
    api.auth.forget_tokens();
    Ok(StatusCode::NO_CONTENT)
}
