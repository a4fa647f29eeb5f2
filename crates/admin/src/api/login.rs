//! Logging in and out, and who one is. Unknown names and wrong passwords get the same answer after the
//! same time.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use naru_domain::work::{Account, Role};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use crate::auth::{Access, Caller, LoginTokens, Means};
use crate::error::{ApiError, Code};
use crate::extract::Body;
use crate::routes::{Endpoint, Source, VIEWER, get, post};
use crate::state::Api;
use crate::times;

/// What is kept of a name that somebody typed.
const NAME_CHARS_KEPT: usize = 128;

pub(crate) fn endpoints() -> Vec<Endpoint> {
    vec![
        post("/api/login", Access::Open, "Logs in with name and password", login)
            .takes::<Credentials>()
            .gives::<LoginView>(),
        post("/api/login/refresh", Access::Open, "Exchanges a refresh token", refresh)
            .takes::<RefreshBody>()
            .gives::<LoginView>(),
        post("/api/logout", VIEWER, "Ends the login of the access token", logout),
        get("/api/me", VIEWER, "Says who one is", me).gives::<MeView>(),
    ]
}

/// Who wants to log in.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Credentials {
    name: String,
    password: String,
}

/// Tokens of a login.
#[derive(Serialize, ToSchema)]
pub(crate) struct LoginView {
    /// For `Authorization: Bearer`.
    access_token: String,
    expires_at: String,
    /// For `POST /api/login/refresh`; good once.
    refresh_token: String,
    refresh_expires_at: String,
    role: String,
}

impl From<LoginTokens> for LoginView {
    fn from(tokens: LoginTokens) -> LoginView {
        LoginView {
            access_token: tokens.access,
            expires_at: times::show(tokens.access_until),
            refresh_token: tokens.refresh,
            refresh_expires_at: times::show(tokens.refresh_until),
            role: tokens.role.label().to_owned(),
        }
    }
}

/// Somebody who is not known yet, for the audit log.
fn stranger(name: &str, source: &Source) -> Caller {
    let name: String = name.chars().take(NAME_CHARS_KEPT).collect();
    Caller {
        name: format!("account:{name}").into(),
        role: Role::Viewer,
        bots: Arc::default(),
        source: Arc::clone(&source.0),
        means: Means::Key,
    }
}

async fn login(
    State(api): State<Api>,
    Extension(source): Extension<Source>,
    Body(credentials): Body<Credentials>,
) -> Result<Json<LoginView>, ApiError> {
    let name: String = credentials.name.chars().take(NAME_CHARS_KEPT).collect();
    let now = Instant::now();
    let locked_out =
        |wait: std::time::Duration| ApiError::plain(Code::LockedOut).after(wait.as_secs() + 1);
    api.auth.source_failures.attempt(&source.0, now).map_err(locked_out)?;
    api.auth.account_failures.attempt(&name, now).map_err(locked_out)?;
    let account = api.services.ports.accounts.account(&name).await?;
    let hash = account.as_ref().map(|account| account.password_hash.clone());
    let fits = api.auth.passwords.verify(credentials.password.clone(), hash).await?;
    let caller = stranger(&name, &source);
    let Some(account) = account.filter(|_| fits) else {
        api.metrics.logins_failed.increment();
        api.audit(&caller, "login.failed", &caller.name, &json!({})).await?;
        return Err(ApiError::plain(Code::BadCredentials));
    };
    api.auth.account_failures.succeeded(&name);
    api.auth.source_failures.succeeded(&source.0);
    api.audit(&caller, "login", &caller.name, &json!({})).await?;
    renew_hash(&api, &account, credentials.password).await;
    Ok(Json(api.auth.logins.begin(&account.name, account.role, api.moment()).into()))
}

/// A hash made with other costs is made again while the password is at hand. Not worth failing for.
async fn renew_hash(api: &Api, account: &Account, password: String) {
    if !api.auth.passwords.is_outdated(&account.password_hash) {
        return;
    }
    let Ok(password_hash) = api.auth.passwords.hash(password).await else { return };
    let renewed = Account { password_hash, ..account.clone() };
    if let Err(error) = api.services.ports.accounts.put_account(&renewed).await {
        tracing::debug!(target: "naru::admin", %error, "password hash not renewed");
    }
}

/// A refresh token.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RefreshBody {
    refresh_token: String,
}

async fn refresh(
    State(api): State<Api>,
    Body(body): Body<RefreshBody>,
) -> Result<Json<LoginView>, ApiError> {
    let refused = || ApiError::plain(Code::Unauthorized);
    let now = api.moment();
    let name = api.auth.logins.account_of_refresh(&body.refresh_token, now);
    let name = name.ok_or_else(refused)?;
    // The account is read again: its role may have changed, or it may be gone.
    let account = api.services.ports.accounts.account(&name).await?;
    let Some(account) = account else {
        api.auth.logins.end_all(&name);
        return Err(refused());
    };
    let tokens = api.auth.logins.refresh(&body.refresh_token, account.role, now);
    tokens.map(|tokens| Json(tokens.into())).ok_or_else(refused)
}

async fn logout(State(api): State<Api>, caller: Caller) -> Result<StatusCode, ApiError> {
    if let Means::Login(access) = &caller.means {
        api.auth.logins.end(access);
        api.audit(&caller, "logout", &caller.name, &json!({})).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Who one is.
#[derive(Serialize, ToSchema)]
pub(crate) struct MeView {
    name: String,
    role: String,
    /// Only these bots; empty means all.
    bots: Vec<String>,
}

async fn me(caller: Caller) -> Json<MeView> {
    Json(MeView {
        name: caller.name.to_string(),
        role: caller.role.label().to_owned(),
        bots: caller.bots.to_vec(),
    })
}
