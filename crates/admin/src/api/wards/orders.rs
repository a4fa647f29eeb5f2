//! What is ordered: start, stop, restart, kill, cancel; a command, an announcement. And how an operation
//! stands.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use naru_supervisor::life::{By, OperationId, Order, Outcome, Wish};
use naru_supervisor::run::{OperationView, Ordered, WardError};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::timeout;
use utoipa::ToSchema;

use super::{Asked, WAIT_MAX, ward};
use crate::auth::Caller;
use crate::error::{ApiError, Code};
use crate::extract::{Asked as InQuery, Body, InPath};
use crate::routes::{Endpoint, NODE_OPERATOR, NODE_VIEWER, get, post};
use crate::state::Api;

const REASON_CHARS_MAX: usize = 200;
/// The longest countdown: longer ones belong into a schedule (guessed).
const COUNTDOWN_S_MAX: u64 = 24 * 60 * 60;
/// The longest command or announcement, in bytes. RCON of Minecraft takes 1,446, of Source about 4,000.
const LINE_BYTES_MAX: usize = 1_000;

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        post("/api/wards/{name}/start", NODE_OPERATOR, "Starts a ward", start)
            .takes::<WardOrder>()
            .gives::<WardOperation>(),
        post("/api/wards/{name}/stop", NODE_OPERATOR, "Stops a ward, the game's way", stop)
            .takes::<WardOrder>()
            .gives::<WardOperation>(),
        post("/api/wards/{name}/restart", NODE_OPERATOR, "Stops and starts a ward", restart)
            .takes::<WardOrder>()
            .gives::<WardOperation>(),
        post("/api/wards/{name}/kill", NODE_OPERATOR, "Kills a ward at once", kill)
            .takes::<WardOrder>()
            .gives::<WardOperation>(),
        post("/api/wards/{name}/cancel", NODE_OPERATOR, "Cancels a countdown", cancel)
            .takes::<WardOrder>()
            .gives::<WardOperation>(),
        get("/api/wards/{name}/operations/{id}", NODE_VIEWER, "Shows an operation", operation)
            .asks::<OperationQuery>()
            .gives::<WardOperation>(),
        post("/api/wards/{name}/command", NODE_OPERATOR, "Says a command to a ward", command)
            .takes::<WardCommand>()
            .gives::<WardCommandAnswer>(),
        post("/api/wards/{name}/announce", NODE_OPERATOR, "Tells the players something", announce)
            .takes::<WardAnnouncement>(),
    ]
}

/// How something is ordered.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WardOrder {
    /// Why, for the history and the players: at most 200 characters.
    #[serde(default)]
    reason: String,
    /// How long players are told before a stop or restart, at most 86,400; as the ward's settings say unless
    /// given. 0 stops without a countdown.
    countdown_s: Option<u64>,
    /// Answer when the operation is over, or after 30 s, whatever is first.
    #[serde(default)]
    wait: bool,
}

/// An operation.
#[derive(Serialize, ToSchema)]
pub(super) struct WardOperation {
    /// Its number, counted for each ward; null if nothing was to be done.
    operation: Option<u64>,
    /// `begun`, `joined` (it was under way already), `already` (nothing was to be done), or for one that is
    /// asked for `running` or `done`.
    state: &'static str,
    /// How it ended: `started`, `stopped`, `held`, `cancelled` or `failed`; null while it goes on.
    outcome: Option<&'static str>,
}

fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Started => "started",
        Outcome::Stopped => "stopped",
        Outcome::Held => "held",
        Outcome::Cancelled => "cancelled",
        Outcome::Failed => "failed",
    }
}

/// How it ended, if it does within the time that a request has.
async fn ended(
    api: &Api,
    asked: &Asked<'_>,
    operation: OperationId,
) -> Result<Option<Outcome>, WardError> {
    let wait = asked.wards.control.wait(asked.name.clone(), operation);
    match api.stop.run_until_cancelled(timeout(WAIT_MAX, wait)).await {
        Some(Ok(outcome)) => outcome.map(Some),
        Some(Err(_)) | None => Ok(None),
    }
}

async fn order(
    api: &Api,
    caller: &Caller,
    name: &str,
    (action, wish): (&str, Wish),
    body: WardOrder,
) -> Result<Json<WardOperation>, ApiError> {
    check_text("reason", &body.reason, REASON_CHARS_MAX * 4)?;
    if body.reason.chars().count() > REASON_CHARS_MAX {
        let message = format!("`reason` has at most {REASON_CHARS_MAX} characters");
        return Err(ApiError::field(message));
    }
    if body.countdown_s.is_some_and(|seconds| seconds > COUNTDOWN_S_MAX) {
        return Err(ApiError::field(format!("`countdown_s` is at most {COUNTDOWN_S_MAX}")));
    }
    if body.countdown_s.is_some() && !matches!(wish, Wish::Stop | Wish::Restart) {
        return Err(ApiError::field("`countdown_s` belongs to stop and restart"));
    }
    let asked = ward(api, name).await?;
    let detail = json!({ "reason": body.reason, "countdown_s": body.countdown_s });
    let order = Order {
        wish,
        by: By::Operator(caller.name.to_string()),
        reason: body.reason,
        countdown: body.countdown_s.map(Duration::from_secs),
    };
    let work = asked.wards.control.order(asked.name.clone(), order);
    let ordered = api.recorded(caller, action, &asked.object(), detail, work).await?;
    let (state, operation) = match ordered {
        Ordered::Begun(operation) => ("begun", operation),
        Ordered::Joined(operation) => ("joined", operation),
        Ordered::Already => {
            return Ok(Json(WardOperation { operation: None, state: "already", outcome: None }));
        }
    };
    let ended = if body.wait { ended(api, &asked, operation).await? } else { None };
    let operation = Some(operation.0);
    Ok(Json(WardOperation { operation, state, outcome: ended.map(outcome) }))
}

macro_rules! orders {
    ($($name:ident: $action:literal, $wish:ident;)*) => {
        $(
            async fn $name(
                State(api): State<Api>,
                caller: Caller,
                InPath(name): InPath<String>,
                Body(body): Body<WardOrder>,
            ) -> Result<Json<WardOperation>, ApiError> {
                order(&api, &caller, &name, ($action, Wish::$wish), body).await
            }
        )*
    };
}
orders! {
    start: "ward.start", Start;
    stop: "ward.stop", Stop;
    restart: "ward.restart", Restart;
    kill: "ward.kill", Kill;
    cancel: "ward.cancel", Cancel;
}

/// How long to wait for it.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OperationQuery {
    /// Answer when it is over, or after 30 s.
    #[serde(default)]
    wait: bool,
}

async fn operation(
    State(api): State<Api>,
    InPath((name, id)): InPath<(String, u64)>,
    InQuery(query): InQuery<OperationQuery>,
) -> Result<Json<WardOperation>, ApiError> {
    let asked = ward(&api, &name).await?;
    let id = OperationId(id);
    let done = match asked.wards.control.operation(asked.name.clone(), id).await? {
        OperationView::Done(outcome) => Some(outcome),
        OperationView::Running if query.wait => ended(&api, &asked, id).await?,
        OperationView::Running => None,
        OperationView::Unknown => {
            return Err(ApiError::new(Code::NotFound, "nobody remembers this operation"));
        }
    };
    let state = if done.is_some() { "done" } else { "running" };
    Ok(Json(WardOperation { operation: Some(id.0), state, outcome: done.map(outcome) }))
}

/// A line for the game.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WardCommand {
    /// As it would be typed at the game's console: 1 to 1,000 bytes, one line. It stands in the audit log.
    line: String,
}

/// What the game said to it.
#[derive(Serialize, ToSchema)]
pub(super) struct WardCommandAnswer {
    /// Empty where the game has no answers: look at the console.
    answer: String,
}

async fn command(
    State(api): State<Api>,
    caller: Caller,
    InPath(name): InPath<String>,
    Body(body): Body<WardCommand>,
) -> Result<Json<WardCommandAnswer>, ApiError> {
    check_line("line", &body.line)?;
    let asked = ward(&api, &name).await?;
    let detail = json!({ "line": body.line });
    let by = caller.name.to_string();
    let work = asked.wards.control.command(asked.name.clone(), body.line, by);
    let answer = api.recorded(&caller, "ward.command", &asked.object(), detail, work).await?;
    Ok(Json(WardCommandAnswer { answer }))
}

/// Something for the players.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WardAnnouncement {
    /// 1 to 1,000 bytes, one line.
    message: String,
}

async fn announce(
    State(api): State<Api>,
    caller: Caller,
    InPath(name): InPath<String>,
    Body(body): Body<WardAnnouncement>,
) -> Result<StatusCode, ApiError> {
    check_line("message", &body.message)?;
    let asked = ward(&api, &name).await?;
    let detail = json!({ "message": body.message });
    let by = caller.name.to_string();
    let work = asked.wards.control.announce(asked.name.clone(), body.message, by);
    api.recorded(&caller, "ward.announce", &asked.object(), detail, work).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn check_line(field: &str, line: &str) -> Result<(), ApiError> {
    if line.trim().is_empty() {
        return Err(ApiError::field(format!("`{field}` is empty")));
    }
    check_text(field, line, LINE_BYTES_MAX)
}

/// One line: a second one would be a second command, which nobody sees in the log.
fn check_text(field: &str, text: &str, bytes_max: usize) -> Result<(), ApiError> {
    if text.len() > bytes_max {
        return Err(ApiError::field(format!("`{field}` has at most {bytes_max} bytes")));
    }
    if text.contains(|c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')) {
        return Err(ApiError::field(format!("`{field}` has no line breaks or control characters")));
    }
    Ok(())
}
