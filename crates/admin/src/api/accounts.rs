//! People's accounts.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use naru_domain::limits::PAGE_ROWS_MAX;
use naru_domain::work::{Account, Role};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::Listed;
use super::schedules::PageQuery;
use super::tokens::check_name;
use crate::auth::{Caller, Passwords};
use crate::error::{ApiError, Code};
use crate::extract::{Asked, Body, InPath, limit_of};
use crate::routes::{Endpoint, NODE_ADMIN, delete, get, put};
use crate::state::Api;
use crate::times;

pub(crate) fn endpoints() -> Vec<Endpoint> {
    vec![
        get("/api/accounts", NODE_ADMIN, "Lists accounts, by name", list)
            .asks::<PageQuery>()
            .lists::<AccountView>(),
        put("/api/accounts/{name}", NODE_ADMIN, "Creates or changes an account", change)
            .takes::<AccountChange>()
            .gives::<AccountView>(),
        delete("/api/accounts/{name}", NODE_ADMIN, "Removes an account", remove),
    ]
}

/// What somebody may do; each role may do what the one before may.
#[derive(Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RoleShape {
    /// Look, with personal data masked.
    Viewer,
    /// Look at everything and run the bots.
    Operator,
    /// Everything.
    Admin,
}

impl From<RoleShape> for Role {
    fn from(role: RoleShape) -> Role {
        match role {
            RoleShape::Viewer => Role::Viewer,
            RoleShape::Operator => Role::Operator,
            RoleShape::Admin => Role::Admin,
        }
    }
}

/// An account.
#[derive(Serialize, ToSchema)]
pub(crate) struct AccountView {
    name: String,
    role: String,
    created_at: String,
}

impl From<Account> for AccountView {
    fn from(account: Account) -> AccountView {
        AccountView {
            name: account.name,
            role: account.role.label().to_owned(),
            created_at: times::show(account.created_at),
        }
    }
}

async fn list(
    State(api): State<Api>,
    Asked(asked): Asked<PageQuery>,
) -> Result<Json<Listed<AccountView>>, ApiError> {
    let limit = limit_of(asked.limit)?;
    let rows = api.services.ports.accounts.accounts(asked.after.as_deref(), limit).await?;
    let last = rows.last().map(|row| row.name.clone());
    Ok(Listed::page(rows.into_iter().map(AccountView::from).collect(), limit, last))
}

/// What to set. A new account needs both.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AccountChange {
    role: Option<RoleShape>,
    /// 10 characters to 1024 bytes.
    password: Option<String>,
}

async fn change(
    State(api): State<Api>,
    caller: Caller,
    InPath(name): InPath<String>,
    Body(change): Body<AccountChange>,
) -> Result<Json<AccountView>, ApiError> {
    check_name(&name)?;
    if let Some(password) = &change.password {
        Passwords::check(password)?;
    }
    let accounts = &api.services.ports.accounts;
    let known = accounts.account(&name).await?;
    let old_role = known.as_ref().map(|account| account.role);
    let role = change.role.map(Role::from).or(old_role);
    let role = role.ok_or_else(|| ApiError::field("a new account needs a `role`"))?;
    if old_role == Some(Role::Admin) && role != Role::Admin {
        must_not_be_last_admin(&api, &name).await?;
    }
    let has_new_password = change.password.is_some();
    let password_hash = match (change.password, &known) {
        (Some(password), _) => api.auth.passwords.hash(password).await?,
        (None, Some(account)) => account.password_hash.clone(),
        (None, None) => return Err(ApiError::field("a new account needs a `password`")),
    };
    let created_at = known.map_or_else(|| api.now(), |account| account.created_at);
    let account = Account { name: name.clone(), password_hash, role, created_at };
    let detail = json!({
        "role": { "from": old_role.map(Role::label), "to": role.label() },
        "password": has_new_password,
    });
    let object = format!("account:{name}");
    let work = accounts.put_account(&account);
    api.recorded(&caller, "account.set", &object, detail, work).await?;
    api.auth.logins.end_all(&name);
    Ok(Json(account.into()))
}

async fn remove(
    State(api): State<Api>,
    caller: Caller,
    InPath(name): InPath<String>,
) -> Result<StatusCode, ApiError> {
    let accounts = &api.services.ports.accounts;
    let account = accounts.account(&name).await?;
    let account = account.ok_or_else(|| ApiError::plain(Code::NotFound))?;
    if account.role == Role::Admin {
        must_not_be_last_admin(&api, &name).await?;
    }
    let work = accounts.remove_account(&name);
    let object = format!("account:{name}");
    api.recorded(&caller, "account.remove", &object, json!({}), work).await?;
    api.auth.logins.end_all(&name);
    Ok(StatusCode::NO_CONTENT)
}

/// Without an admin account nobody could log in to make another one.
async fn must_not_be_last_admin(api: &Api, name: &str) -> Result<(), ApiError> {
    let mut after: Option<String> = None;
    loop {
        let rows = api.services.ports.accounts.accounts(after.as_deref(), PAGE_ROWS_MAX).await?;
        if rows.iter().any(|row| row.role == Role::Admin && row.name != name) {
            return Ok(());
        }
        if rows.len() < PAGE_ROWS_MAX {
            return Err(ApiError::plain(Code::LastAdmin));
        }
        after = rows.last().map(|row| row.name.clone());
    }
}
