//! Wards, the game servers of this machine: what they are, how they are, what was, and what is to be done
//! with them. The supervisor is reached through [`crate::WardControl`], its memory through the store's port.
//!
//! `views` and `learned` are the shapes of a ward, `orders` starts and stops, `jobs` is what takes long,
//! `console` the lines, `history` events and visits, `words` says events for people, `series` the figures over
//! time, `notices` what waits for webhooks.

mod console;
mod history;
mod jobs;
mod learned;
mod notices;
mod orders;
mod series;
mod views;
mod words;

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use naru_supervisor::life::{Explanation, OperationId, Refusal};
use naru_supervisor::measure::Throttle;
use naru_supervisor::model::WardName;
use naru_supervisor::run::{OwnView, WardError};
use serde::Serialize;
use utoipa::ToSchema;

pub(crate) use self::jobs::Jobs;
use self::views::{WardFull, WardRow, WardVerdict};
use super::Listed;
use crate::auth::Caller;
use crate::error::{ApiError, Code};
use crate::extract::InPath;
use crate::routes::{Endpoint, NODE_VIEWER, get};
use crate::state::Api;
use crate::ward_control::WardServices;

/// How long a request waits for something to end. Below the time that the edge gives a request, and short enough
/// that whoever shows progress may simply ask again.
const WAIT_MAX: Duration = Duration::from_secs(30);

pub(crate) fn endpoints() -> Vec<Endpoint> {
    let own = vec![
        get("/api/wards", NODE_VIEWER, "Lists wards, by name", list).lists::<WardRow>(),
        get("/api/wards/{name}", NODE_VIEWER, "Shows all of a ward", show).gives::<WardFull>(),
        get("/api/wards/{name}/explain", NODE_VIEWER, "Says what if it died now", explain)
            .gives::<WardExplained>(),
        get("/api/supervisor", NODE_VIEWER, "Shows what looking after wards costs", own)
            .gives::<SupervisorView>(),
    ];
    [
        own,
        orders::endpoints(),
        jobs::endpoints(),
        console::endpoints(),
        history::endpoints(),
        series::endpoints(),
        notices::endpoints(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

impl From<WardError> for ApiError {
    fn from(error: WardError) -> ApiError {
        let code = match &error {
            WardError::NotFound => Code::NotFound,
            WardError::Refused(Refusal::NoCommand) | WardError::Invalid(_) => Code::Refused,
            WardError::Refused(_) => Code::Conflict,
            WardError::Unavailable(_) => Code::Unavailable,
            WardError::Ended => Code::NotReady,
        };
        ApiError::new(code, error.to_string())
    }
}

/// A ward that is asked for, and what wards stand on.
struct Asked<'a> {
    wards: &'a WardServices,
    name: WardName,
}

impl Asked<'_> {
    /// What stands in the audit log.
    fn object(&self) -> String {
        format!("ward:{}", self.name)
    }
}

/// The ward of this name, which must be one that is looked after: nothing is recorded about others.
async fn ward<'a>(api: &'a Api, name: &str) -> Result<Asked<'a>, ApiError> {
    let wards = api.wards()?;
    let name = WardName::parse(name).map_err(|_error| ApiError::from(WardError::NotFound))?;
    // The cheapest question that is refused for a ward that does not exist.
    wards.control.operation(name.clone(), OperationId(0)).await?;
    Ok(Asked { wards, name })
}

/// Milliseconds as a number that JSON has.
fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

async fn list(State(api): State<Api>) -> Result<Json<Listed<WardRow>>, ApiError> {
    let rows = api.wards()?.control.list().await?;
    let now = api.now();
    let rows = rows.iter().map(|row| WardRow::new(row, now)).collect();
    Ok(Listed::page(rows, usize::MAX, None))
}

async fn show(
    State(api): State<Api>,
    caller: Caller,
    InPath(name): InPath<String>,
) -> Result<Json<WardFull>, ApiError> {
    let wards = api.wards()?;
    let name = WardName::parse(&name).map_err(|_error| ApiError::from(WardError::NotFound))?;
    let detail = wards.control.show(name).await?;
    Ok(Json(WardFull::new(&detail, caller.role, api.now())))
}

/// What would happen if it died now.
#[derive(Serialize, ToSchema)]
struct WardExplained {
    /// As in the list of wards.
    phase: &'static str,
    /// Where it is, in words.
    now: String,
    /// Each way to die; empty if nothing runs.
    deaths: Vec<WardDeath>,
}

/// One way to die, and what follows.
#[derive(Serialize, ToSchema)]
struct WardDeath {
    /// In words.
    death: &'static str,
    verdict: WardVerdict,
    /// Whether it would be started again.
    restart: bool,
    /// After a pause of at most so long; null without one.
    pause_max_ms: Option<u64>,
    /// How many restarts would be left; null without bound.
    tries_left: Option<u32>,
    /// What would happen, in words.
    then: String,
}

async fn explain(
    State(api): State<Api>,
    caller: Caller,
    InPath(name): InPath<String>,
) -> Result<Json<WardExplained>, ApiError> {
    let asked = ward(&api, &name).await?;
    let Explanation { phase, now, deaths } = asked.wards.control.explain(asked.name).await?;
    let death = |expected: &naru_supervisor::life::Expected| WardDeath {
        death: expected.death.text(),
        verdict: WardVerdict::new(&expected.verdict, caller.role),
        restart: expected.restart,
        pause_max_ms: expected.pause_max.map(millis),
        tries_left: expected.tries_left,
        then: expected.then.clone(),
    };
    let deaths = deaths.iter().map(death).collect();
    Ok(Json(WardExplained { phase: views::phase(phase), now, deaths }))
}

/// What the supervisor itself costs.
#[derive(Serialize, ToSchema)]
struct SupervisorView {
    /// The figures are about so many seconds.
    span_s: f64,
    cpu_seconds_per_hour: f64,
    /// Resident memory; null where it cannot be told from the server's.
    memory_bytes: Option<u64>,
    written_bytes_per_hour: Option<f64>,
    transactions_per_hour: f64,
    wakeups_per_second: Option<f64>,
    /// The largest of them as a share of its limit: above 1 is over the budget.
    budget_used: f64,
    /// `none`, `longer` (samples are taken less often) or `fewer` (less is looked at, too).
    throttle: &'static str,
    /// Whether memory is being given back.
    sheds: bool,
    /// Between samples.
    interval_s: f64,
    /// Writes into the store that failed.
    flush_failures: u64,
    /// What was lost for it.
    dropped_blocks: u64,
    dropped_events: u64,
    dropped_visits: u64,
}

impl From<OwnView> for SupervisorView {
    fn from(own: OwnView) -> SupervisorView {
        let figures = own.figures;
        let [dropped_blocks, dropped_events, dropped_visits] = own.dropped;
        SupervisorView {
            span_s: figures.span.as_secs_f64(),
            cpu_seconds_per_hour: figures.cpu_seconds_per_hour,
            memory_bytes: figures.rss_bytes,
            written_bytes_per_hour: figures.written_per_hour,
            transactions_per_hour: figures.transactions_per_hour,
            wakeups_per_second: figures.wakeups_per_second,
            budget_used: figures.used,
            throttle: match figures.throttle {
                Throttle::None => "none",
                Throttle::Longer => "longer",
                Throttle::Fewer => "fewer",
            },
            sheds: figures.shed,
            interval_s: own.interval.as_secs_f64(),
            flush_failures: own.flush_failures,
            dropped_blocks,
            dropped_events,
            dropped_visits,
        }
    }
}

async fn own(State(api): State<Api>) -> Result<Json<SupervisorView>, ApiError> {
    Ok(Json(api.wards()?.control.own().await?.into()))
}
