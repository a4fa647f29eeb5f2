//! Log levels that change while the program runs.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use crate::auth::Caller;
use crate::error::{ApiError, Code};
use crate::extract::Body;
use crate::routes::{Endpoint, NODE_OPERATOR, NODE_VIEWER, get, put};
use crate::services::{LogControlError, LogFocus};
use crate::state::Api;
use crate::times;

const FOCUS_SECONDS_DEFAULT: u64 = 600;
const FOCUS_SECONDS_MAX: u64 = 24 * 60 * 60;

pub(crate) fn endpoints() -> Vec<Endpoint> {
    vec![
        get("/api/log-levels", NODE_VIEWER, "Shows the log levels", show).gives::<LogLevels>(),
        put("/api/log-levels", NODE_OPERATOR, "Sets a log level", set)
            .takes::<LogLevelChange>()
            .gives::<LogLevels>(),
    ]
}

/// What the log shows.
#[derive(Serialize, ToSchema)]
pub(crate) struct LogLevels {
    categories: Vec<CategoryView>,
    /// Bots and sessions that are followed more closely for a while.
    focused: Vec<FocusView>,
}

/// One category.
#[derive(Serialize, ToSchema)]
pub(crate) struct CategoryView {
    category: String,
    level: String,
}

/// One bot or session.
#[derive(Serialize, ToSchema)]
pub(crate) struct FocusView {
    bot: Option<String>,
    session: Option<u64>,
    level: String,
    until: String,
}

fn levels(api: &Api) -> LogLevels {
    let categories = api.services.logs.levels().into_iter();
    let focused = api.services.logs.focused().into_iter();
    LogLevels {
        categories: categories
            .map(|level| CategoryView { category: level.category, level: level.level })
            .collect(),
        focused: focused
            .map(|focus| {
                let (bot, session) = match focus.focus {
                    LogFocus::Bot(bot) => (Some(bot), None),
                    LogFocus::Session(session) => (None, Some(session)),
                };
                FocusView { bot, session, level: focus.level, until: times::show(focus.until) }
            })
            .collect(),
    }
}

async fn show(State(api): State<Api>) -> Json<LogLevels> {
    Json(levels(&api))
}

/// Exactly one of `category`, `bot` and `session`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogLevelChange {
    /// Such as `naru::bridge`.
    category: Option<String>,
    bot: Option<String>,
    session: Option<u64>,
    /// `off`, `error`, `warn`, `info`, `debug` or `trace`.
    level: String,
    /// For a bot or a session: how long, 1 to 86400; 600 unless given.
    for_seconds: Option<u64>,
}

async fn set(
    State(api): State<Api>,
    caller: Caller,
    Body(change): Body<LogLevelChange>,
) -> Result<Json<LogLevels>, ApiError> {
    let seconds = change.for_seconds.unwrap_or(FOCUS_SECONDS_DEFAULT);
    if !(1..=FOCUS_SECONDS_MAX).contains(&seconds) {
        return Err(ApiError::field(format!("`for_seconds` is 1 to {FOCUS_SECONDS_MAX}")));
    }
    let logs = &api.services.logs;
    let level = change.level.as_str();
    let follow = |focus: LogFocus| logs.set_for(focus, level, Duration::from_secs(seconds));
    let (object, done) = match (change.category, change.bot, change.session) {
        (Some(category), None, None) if change.for_seconds.is_none() => {
            (format!("log:{category}"), logs.set(&category, level))
        }
        (Some(_), None, None) => {
            return Err(ApiError::field("`for_seconds` goes with `bot` or `session`"));
        }
        (None, Some(bot), None) => (format!("bot:{bot}"), follow(LogFocus::Bot(bot))),
        (None, None, Some(session)) => {
            (format!("session:{session}"), follow(LogFocus::Session(session)))
        }
        _ => return Err(ApiError::field("name one of `category`, `bot` and `session`")),
    };
    done?;
    // Written after the fact, since a level that does not exist changes nothing.
    let detail = json!({ "level": level });
    api.audit(&caller, "log.level", &object, &detail).await?;
    Ok(Json(levels(&api)))
}

impl From<LogControlError> for ApiError {
    fn from(error: LogControlError) -> ApiError {
        let code = match error {
            LogControlError::UnknownCategory | LogControlError::UnknownLevel => Code::BadField,
            LogControlError::TooMany => Code::Conflict,
        };
        ApiError::new(code, error.to_string())
    }
}
