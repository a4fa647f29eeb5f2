//! What takes longer than a request: saves, backups, restores. Each runs to its end whoever waits for it; the
//! last ones are remembered for as long as the node lives, so that their ends can be asked for.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use naru_domain::Timestamp;
use naru_supervisor::model::WardName;
use naru_supervisor::run::{BackupView, WardError};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use utoipa::ToSchema;

use super::super::Listed;
use super::{Asked, WAIT_MAX, ward};
use crate::auth::Caller;
use crate::error::{ApiError, Code};
use crate::extract::{Asked as InQuery, Body, InPath};
use crate::routes::{Endpoint, NODE_OPERATOR, NODE_VIEWER, get, post};
use crate::state::Api;
use crate::times;

/// Jobs that are remembered, and so how many may run.
const JOBS_MAX: usize = 64;
/// The longest name of a backup; a longer one is none of ours.
const BACKUP_NAME_BYTES_MAX: usize = 200;

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        post("/api/wards/{name}/save", NODE_OPERATOR, "Makes the game save", save)
            .takes::<WardJobOrder>()
            .gives::<WardJob>(),
        get("/api/wards/{name}/backups", NODE_VIEWER, "Lists backups, newest first", backups)
            .lists::<WardBackup>(),
        post("/api/wards/{name}/backups", NODE_OPERATOR, "Makes a backup", backup)
            .takes::<WardJobOrder>()
            .gives::<WardJob>(),
        post(
            "/api/wards/{name}/backups/{backup}/restore",
            NODE_OPERATOR,
            "Puts a backup in place of a stopped ward's files",
            restore,
        )
        .takes::<WardJobOrder>()
        .gives::<WardJob>(),
        get("/api/wards/{name}/jobs/{id}", NODE_VIEWER, "Shows a save, backup or restore", show)
            .asks::<JobQuery>()
            .gives::<WardJob>(),
    ]
}

/// How it is ordered.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WardJobOrder {
    /// Answer when it is over, or after 30 s; true unless given. Whatever fails in that time is an error.
    #[serde(default = "yes")]
    wait: bool,
}

fn yes() -> bool {
    true
}

/// How long to wait for it.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct JobQuery {
    /// Answer when it is over, or after 30 s.
    #[serde(default)]
    wait: bool,
}

/// A save, a backup or a restore.
#[derive(Serialize, ToSchema)]
pub(super) struct WardJob {
    id: u64,
    /// `save`, `backup` or `restore`.
    kind: &'static str,
    /// `running`, `done` or `failed`.
    state: &'static str,
    started_at: String,
    ended_at: Option<String>,
    /// The backup that was made.
    backup: Option<WardBackup>,
    /// The code and the message of the error that it failed with.
    error_code: Option<&'static str>,
    error: Option<String>,
}

/// A backup.
#[derive(Clone, Serialize, ToSchema)]
pub(super) struct WardBackup {
    /// By which it is restored.
    name: String,
    at: String,
    /// On disk.
    bytes: u64,
    /// Whether it was read again and is whole.
    verified: bool,
}

impl From<&BackupView> for WardBackup {
    fn from(backup: &BackupView) -> WardBackup {
        WardBackup {
            name: backup.name.clone(),
            at: times::show(backup.at),
            bytes: backup.bytes,
            verified: backup.verified,
        }
    }
}

/// The jobs of this node.
#[derive(Default)]
pub(crate) struct Jobs {
    kept: Mutex<Kept>,
    tasks: TaskTracker,
}

#[derive(Default)]
struct Kept {
    last_id: u64,
    jobs: VecDeque<Arc<Job>>,
}

struct Job {
    id: u64,
    ward: WardName,
    kind: &'static str,
    started_at: Timestamp,
    end: watch::Sender<Option<End>>,
}

#[derive(Clone)]
struct End {
    at: Timestamp,
    result: Result<Option<WardBackup>, ApiError>,
}

impl Job {
    fn is_running(&self) -> bool {
        self.end.borrow().is_none()
    }

    fn view(&self) -> WardJob {
        let end = self.end.borrow();
        let (state, result) = match end.as_ref() {
            None => ("running", None),
            Some(End { result: Ok(backup), .. }) => ("done", Some(Ok(backup))),
            Some(End { result: Err(error), .. }) => ("failed", Some(Err(error))),
        };
        let error = result.as_ref().and_then(|result| result.as_ref().err());
        WardJob {
            id: self.id,
            kind: self.kind,
            state,
            started_at: times::show(self.started_at),
            ended_at: end.as_ref().map(|end| times::show(end.at)),
            backup: result.as_ref().and_then(|result| result.as_ref().ok().cloned()?.clone()),
            error_code: error.map(|error| error.code.label()),
            error: error.map(|error| error.message.clone()),
        }
    }

    /// Waits for the end as long as a request may.
    async fn wait(&self, api: &Api) {
        let mut end = self.end.subscribe();
        let over = timeout(WAIT_MAX, end.wait_for(Option::is_some));
        // Whatever happened: the job says how it stands.
        let _looked = api.stop.run_until_cancelled(over).await;
    }
}

impl Jobs {
    /// A place for one more job. One ward does one thing at a time.
    fn add(
        &self,
        ward: &WardName,
        kind: &'static str,
        started_at: Timestamp,
    ) -> Result<Arc<Job>, ApiError> {
        let mut kept = self.kept.lock();
        if kept.jobs.iter().any(|job| job.ward == *ward && job.is_running()) {
            let message = "a save, backup or restore of this ward is under way";
            return Err(ApiError::new(Code::Conflict, message));
        }
        if kept.jobs.len() >= JOBS_MAX {
            let over = kept.jobs.iter().position(|job| !job.is_running());
            let over = over.ok_or_else(|| {
                ApiError::new(
                    Code::Overloaded,
                    "too many saves, backups and restores are under way",
                )
            })?;
            kept.jobs.remove(over);
        }
        kept.last_id += 1;
        let (id, end) = (kept.last_id, watch::Sender::new(None));
        let job = Arc::new(Job { id, ward: ward.clone(), kind, started_at, end });
        kept.jobs.push_back(Arc::clone(&job));
        Ok(job)
    }

    /// Waits for those that run; they end when the node does.
    pub(crate) async fn drained(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn find(&self, ward: &WardName, id: u64) -> Option<Arc<Job>> {
        let kept = self.kept.lock();
        kept.jobs.iter().find(|job| job.id == id && job.ward == *ward).cloned()
    }
}

/// Ends the job when it goes, also by a panic: nothing stands in the next one's way.
struct Ending {
    job: Arc<Job>,
    api: Api,
    result: Result<Option<WardBackup>, ApiError>,
}

impl Ending {
    fn with(mut self, result: Result<Option<WardBackup>, ApiError>) {
        self.result = result;
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let unknown = Err(ApiError::plain(Code::Internal));
        let result = std::mem::replace(&mut self.result, unknown);
        self.job.end.send_replace(Some(End { at: self.api.now(), result }));
    }
}

/// Begins a job and waits for it if that is wanted.
async fn begin<F>(
    api: &Api,
    caller: Caller,
    asked: &Asked<'_>,
    kind: &'static str,
    detail: serde_json::Value,
    wait: bool,
    work: F,
) -> Result<Json<WardJob>, ApiError>
where
    F: Future<Output = Result<Option<BackupView>, WardError>> + Send + 'static,
{
    let job = api.ward_jobs.add(&asked.name, kind, api.now())?;
    let unknown = Err(ApiError::plain(Code::Internal));
    let ending = Ending { job: Arc::clone(&job), api: api.clone(), result: unknown };
    let (api_of_task, object) = (api.clone(), asked.object());
    api.ward_jobs.tasks.spawn(async move {
        let api = api_of_task;
        let action = format!("ward.{kind}");
        let recorded = api.recorded(&caller, &action, &object, detail, work);
        // The supervisor ends what it does by itself; nobody is left to be told about it.
        let done = api.stop.run_until_cancelled(recorded).await;
        let done = done.unwrap_or_else(|| Err(ApiError::plain(Code::NotReady)));
        ending.with(done.map(|backup| backup.as_ref().map(WardBackup::from)));
    });
    if wait {
        job.wait(api).await;
    }
    let failed = job.end.borrow().as_ref().and_then(|end| end.result.as_ref().err().cloned());
    match failed {
        Some(error) if wait => Err(error),
        _ => Ok(Json(job.view())),
    }
}

async fn save(
    State(api): State<Api>,
    caller: Caller,
    InPath(name): InPath<String>,
    Body(body): Body<WardJobOrder>,
) -> Result<Json<WardJob>, ApiError> {
    let asked = ward(&api, &name).await?;
    let (control, name) = (Arc::clone(&asked.wards.control), asked.name.clone());
    let by = caller.name.to_string();
    let work = async move { control.save(name, by).await.map(|()| None) };
    begin(&api, caller, &asked, "save", json!({}), body.wait, work).await
}

async fn backup(
    State(api): State<Api>,
    caller: Caller,
    InPath(name): InPath<String>,
    Body(body): Body<WardJobOrder>,
) -> Result<Json<WardJob>, ApiError> {
    let asked = ward(&api, &name).await?;
    let (control, name) = (Arc::clone(&asked.wards.control), asked.name.clone());
    let by = caller.name.to_string();
    let work = async move { control.backup(name, by).await.map(Some) };
    begin(&api, caller, &asked, "backup", json!({}), body.wait, work).await
}

async fn restore(
    State(api): State<Api>,
    caller: Caller,
    InPath((name, backup)): InPath<(String, String)>,
    Body(body): Body<WardJobOrder>,
) -> Result<Json<WardJob>, ApiError> {
    // It becomes a file's name: nothing that leads elsewhere gets as far as that.
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let fits = (1..=BACKUP_NAME_BYTES_MAX).contains(&backup.len())
        && !backup.starts_with('.')
        && backup.chars().all(is_name);
    if !fits {
        return Err(ApiError::new(Code::NotFound, "there is no backup of this name"));
    }
    let asked = ward(&api, &name).await?;
    let (control, name) = (Arc::clone(&asked.wards.control), asked.name.clone());
    let by = caller.name.to_string();
    let detail = json!({ "backup": backup });
    let work = async move { control.restore(name, backup, by).await.map(|()| None) };
    begin(&api, caller, &asked, "restore", detail, body.wait, work).await
}

async fn backups(
    State(api): State<Api>,
    InPath(name): InPath<String>,
) -> Result<Json<Listed<WardBackup>>, ApiError> {
    let asked = ward(&api, &name).await?;
    let backups = asked.wards.control.backups(asked.name).await?;
    Ok(Listed::page(backups.iter().map(WardBackup::from).collect(), usize::MAX, None))
}

async fn show(
    State(api): State<Api>,
    InPath((name, id)): InPath<(String, u64)>,
    InQuery(query): InQuery<JobQuery>,
) -> Result<Json<WardJob>, ApiError> {
    let asked = ward(&api, &name).await?;
    let job = api.ward_jobs.find(&asked.name, id);
    let job = job.ok_or_else(|| ApiError::new(Code::NotFound, "nobody remembers this job"))?;
    if query.wait {
        job.wait(&api).await;
    }
    Ok(Json(job.view()))
}
