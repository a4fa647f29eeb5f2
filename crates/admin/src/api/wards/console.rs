//! The lines of a ward's console: looked up, or as they come. They hold what players say, so viewers see how
//! long they are.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream;
use naru_domain::work::Role;
use naru_supervisor::console::{Line, Source};
use naru_supervisor::model::WardName;
use naru_supervisor::run::{LinesQuery, LinesView, WardError};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;
use utoipa::ToSchema;

use super::super::watch::{CONTENT_TYPE, EMPTY_LINE_AFTER};
use super::ward;
use crate::auth::Caller;
use crate::error::{ApiError, Code};
use crate::extract::{Asked, InPath, limit_of};
use crate::routes::{Endpoint, NODE_VIEWER, get};
use crate::state::Api;
use crate::ward_control::WardControl;
use crate::{mask, times};

const CONTAINS_BYTES_MAX: usize = 200;

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        get("/api/wards/{name}/console", NODE_VIEWER, "Shows lines of a ward's console", lines)
            .asks::<ConsoleQuery>()
            .gives::<WardLines>(),
        get(
            "/api/wards/{name}/console/follow",
            NODE_VIEWER,
            "Streams a ward's console as it comes",
            follow,
        )
        .asks::<FollowQuery>()
        .writes(CONTENT_TYPE),
    ]
}

/// Which lines.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ConsoleQuery {
    /// Only lines above this number, the oldest of them; the newest unless given.
    after: Option<u64>,
    /// Only lines below this number.
    before: Option<u64>,
    /// Only lines with this text in them, upper and lower case alike. Needs the role operator.
    contains: Option<String>,
    /// 1 to 1000, 100 unless given.
    limit: Option<usize>,
}

/// Lines of a console, the newest last.
#[derive(Serialize, ToSchema)]
pub(super) struct WardLines {
    lines: Vec<WardLine>,
}

/// A line.
#[derive(Serialize, ToSchema)]
pub(super) struct WardLine {
    /// Grows by one from line to line, also over restarts.
    seq: u64,
    at: String,
    /// `game`, `input` (somebody said it to the game) or `note` (Naru says that something is missing here).
    source: &'static str,
    /// Who said it to the game.
    by: Option<String>,
    /// Without secrets; masked for viewers.
    text: String,
}

impl WardLine {
    fn new(line: &Line, role: Role) -> WardLine {
        let (source, by) = match &line.source {
            Source::Game => ("game", None),
            Source::Input { by } => ("input", Some(by.to_string())),
            Source::Note => ("note", None),
        };
        let text = match line.source {
            Source::Note => line.text.to_string(),
            Source::Game | Source::Input { .. } => mask::text(role, &line.text),
        };
        WardLine { seq: line.seq, at: times::show(line.at), source, by, text }
    }
}

async fn lines(
    State(api): State<Api>,
    caller: Caller,
    InPath(name): InPath<String>,
    Asked(query): Asked<ConsoleQuery>,
) -> Result<Json<WardLines>, ApiError> {
    let contains = query.contains.unwrap_or_default();
    if !contains.is_empty() && !mask::sees_all(caller.role) {
        // Whether something was found says what stands in masked lines.
        let message = "searching a console needs the role operator";
        return Err(ApiError::new(Code::Forbidden, message));
    }
    if contains.len() > CONTAINS_BYTES_MAX {
        let message = format!("`contains` has at most {CONTAINS_BYTES_MAX} bytes");
        return Err(ApiError::new(Code::BadQuery, message));
    }
    let asked = ward(&api, &name).await?;
    let object = asked.object();
    let detail = json!({ "contains": contains, "after": query.after, "before": query.before });
    let wanted = LinesQuery {
        after: query.after,
        before: query.before,
        contains,
        limit: limit_of(query.limit)?,
    };
    let found = asked.wards.control.lines(asked.name, wanted).await?;
    api.looked_at(&caller, "ward.console", &object, found.lines.len(), detail).await?;
    let lines = found.lines.iter().map(|line| WardLine::new(line, caller.role)).collect();
    Ok(Json(WardLines { lines }))
}

/// From where on.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FollowQuery {
    /// Begin behind the line with this number instead of with what comes.
    after: Option<u64>,
    /// Without `after`: begin with so many of the newest lines, at most 1000; none unless given.
    tail: Option<usize>,
}

async fn follow(
    State(api): State<Api>,
    caller: Caller,
    InPath(name): InPath<String>,
    Asked(query): Asked<FollowQuery>,
) -> Result<Response, ApiError> {
    if query.after.is_some() && query.tail.is_some() {
        return Err(ApiError::new(Code::BadQuery, "either `after` or `tail`"));
    }
    let tail = query.tail.filter(|tail| *tail > 0);
    let tail = tail.map(|tail| limit_of(Some(tail))).transpose()?.unwrap_or(0);
    let asked = ward(&api, &name).await?;
    let place = Arc::clone(&api.watch_places).try_acquire_owned().map_err(|_full| {
        ApiError::new(Code::Overloaded, "too many consoles and channels are watched: try later")
    })?;
    api.looked_at(&caller, "ward.console.follow", &asked.object(), 0, Value::Null).await?;
    let (mut after, mut first) = (query.after.unwrap_or(0), VecDeque::new());
    if query.after.is_none() {
        let newest = LinesQuery { limit: tail.max(1), ..LinesQuery::default() };
        let newest = asked.wards.control.lines(asked.name.clone(), newest).await?;
        after = newest.lines.last().map_or(0, |line| line.seq);
        let shown = newest.lines.len().min(tail);
        let shown = &newest.lines[newest.lines.len() - shown..];
        first.extend((!shown.is_empty()).then(|| written(shown, caller.role)));
    }
    let flow = Flow {
        control: Arc::clone(&asked.wards.control),
        ward: asked.name,
        role: caller.role,
        after,
        ready: first,
        asked: None,
        is_over: false,
        api: api.clone(),
        _place: place,
    };
    let lines = stream::unfold(flow, |mut flow| async {
        let lines = flow.next().await?;
        Some((Ok::<_, std::convert::Infallible>(lines), flow))
    });
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], Body::from_stream(lines)).into_response())
}

/// The response: it asks for the next lines when the last ones were taken, so that a slow reader costs nothing
/// but its place. What the console forgot meanwhile shows as a hole in the numbers.
struct Flow {
    control: Arc<dyn WardControl>,
    ward: WardName,
    role: Role,
    after: u64,
    ready: VecDeque<Bytes>,
    /// Kept while nothing comes: asking anew each time would leave questions behind that nobody waits for.
    asked: Option<BoxFuture<'static, Result<LinesView, WardError>>>,
    is_over: bool,
    api: Api,
    _place: OwnedSemaphorePermit,
}

impl Flow {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            // Nothing is no piece of an answer: some servers take it for the end.
            match self.piece().await {
                Some(piece) if piece.is_empty() => tokio::task::yield_now().await,
                piece => return piece,
            }
        }
    }

    async fn piece(&mut self) -> Option<Bytes> {
        if let Some(ready) = self.ready.pop_front() {
            return Some(ready);
        }
        if self.is_over {
            return None;
        }
        let (control, ward, after) = (&self.control, &self.ward, self.after);
        let asked = self.asked.get_or_insert_with(|| {
            let (control, ward) = (Arc::clone(control), ward.clone());
            Box::pin(async move { control.follow(ward, after).await })
        });
        let found = tokio::select! {
            found = asked => found,
            () = self.api.stop.cancelled() => return Some(self.end("shutdown")),
            () = tokio::time::sleep(EMPTY_LINE_AFTER) => return Some(Bytes::from_static(b"\n")),
        };
        self.asked = None;
        match found {
            Ok(found) => {
                self.after = found.lines.last().map_or(self.after, |line| line.seq);
                Some(written(&found.lines, self.role))
            }
            Err(WardError::NotFound) => Some(self.end("gone")),
            Err(_ended) => Some(self.end("shutdown")),
        }
    }

    fn end(&mut self, reason: &str) -> Bytes {
        self.is_over = true;
        Bytes::from(format!("{}\n", json!({ "end": { "reason": reason } })))
    }
}

fn written(lines: &[Line], role: Role) -> Bytes {
    let mut text = String::new();
    for line in lines {
        text.push_str(&format!("{}\n", json!({ "line": WardLine::new(line, role) })));
    }
    Bytes::from(text)
}
