//! Schedules: messages that are sent by the clock.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use naru_domain::limits::{CHAT_TEXT_UNITS_MAX, REPLY_MEDIA_BYTES_MAX, REPLY_MEDIA_ITEMS_MAX};
use naru_domain::work::{Role, Schedule, ScheduleRun};
use naru_domain::{DeviceKey, ScheduleId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::recurrence::RecurrenceShape;
use super::reply::{file_bytes, media_wait};
use super::send::check_room;
use super::{Listed, nullable, tagged};
use crate::auth::Caller;
use crate::error::{ApiError, Code};
use crate::extract::{Asked, Body, IfMatch, InPath, page};
use crate::routes::{Endpoint, OPERATOR, VIEWER, delete, get, patch, post};
use crate::state::Api;
use crate::{mask, times};

const TITLE_CHARS_MAX: usize = 200;
/// The longest pause between the two groups of pictures.
const GROUP_PAUSE_MS_MAX: u64 = 600_000;

pub(crate) fn endpoints() -> Vec<Endpoint> {
    vec![
        get("/api/schedules", VIEWER, "Lists schedules, by id", list)
            .asks::<PageQuery>()
            .lists::<ScheduleView>(),
        post("/api/schedules", OPERATOR, "Adds a schedule", add)
            .takes_media::<NewSchedule>()
            .creates::<ScheduleView>(),
        get("/api/schedules/{id}", VIEWER, "Shows a schedule", show).gives::<ScheduleView>(),
        patch("/api/schedules/{id}", OPERATOR, "Changes a schedule", change)
            .takes_media::<ScheduleChange>()
            .gives::<ScheduleView>(),
        delete("/api/schedules/{id}", OPERATOR, "Removes a schedule with its log", remove),
        get("/api/schedules/{id}/runs", VIEWER, "Lists its runs, newest first", runs)
            .asks::<PageQuery>()
            .lists::<RunView>(),
        post("/api/schedules/{id}/run", OPERATOR, "Sends it right now", run),
    ]
}

/// A schedule.
#[derive(Serialize, ToSchema)]
pub(crate) struct ScheduleView {
    id: i64,
    bot: String,
    title: String,
    /// The id of the phone that sends.
    device: i64,
    /// The room's name; masked for viewers.
    room: String,
    channel_id: String,
    text: String,
    /// The sizes of the pictures of both groups, in bytes.
    images: [Vec<usize>; 2],
    /// How long the phone waits with each group; null lets it compute.
    media_wait_ms: [Option<u64>; 2],
    group_pause_ms: u64,
    recurrence: RecurrenceShape,
    time_zone: String,
    valid_from: Option<String>,
    valid_until: Option<String>,
    active: bool,
    /// The next moment to send; null when there is none any more.
    next_at: Option<String>,
    last_at: Option<String>,
    sent_count: i64,
    revision: i64,
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl ScheduleView {
    fn new(schedule: &Schedule, bot: String, role: Role) -> ScheduleView {
        let sizes = |group: &Vec<bytes::Bytes>| group.iter().map(bytes::Bytes::len).collect();
        ScheduleView {
            id: schedule.id.0,
            bot,
            title: schedule.title.clone(),
            device: schedule.device.0,
            room: mask::name(role, &schedule.room),
            channel_id: schedule.channel_id.clone(),
            text: schedule.text.clone(),
            images: schedule.images.each_ref().map(sizes),
            media_wait_ms: schedule.media_wait.map(|wait| wait.map(millis)),
            group_pause_ms: millis(schedule.group_pause),
            recurrence: RecurrenceShape::new(&schedule.recurrence),
            time_zone: schedule.time_zone.clone(),
            valid_from: schedule.valid_from.map(times::show),
            valid_until: schedule.valid_until.map(times::show),
            active: schedule.active,
            next_at: schedule.next_at.map(times::show),
            last_at: schedule.last_at.map(times::show),
            sent_count: schedule.sent_count,
            revision: schedule.revision,
        }
    }
}

/// Which page.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PageQuery {
    /// `next` of the page before.
    pub(crate) after: Option<String>,
    /// 1 to 1000, 100 unless given.
    pub(crate) limit: Option<usize>,
}

async fn list(
    State(api): State<Api>,
    caller: Caller,
    Asked(asked): Asked<PageQuery>,
) -> Result<Json<Listed<ScheduleView>>, ApiError> {
    let page = page(asked.after.as_deref(), asked.limit)?;
    let rows = api.services.ports.schedules.schedules(page).await?;
    let (count, last) = (rows.len(), rows.last().map(|row| row.id.to_string()));
    let mut items = Vec::with_capacity(count);
    for row in rows {
        let bot = api.bot_name_of(row.device).await?;
        if caller.sees_bot(&bot) {
            items.push(ScheduleView::new(&row, bot, caller.role));
        }
    }
    Ok(Listed::narrowed(items, count, page.limit, last))
}

async fn find(api: &Api, caller: &Caller, id: i64) -> Result<(Schedule, String), ApiError> {
    let schedule = api.services.ports.schedules.schedule(ScheduleId(id)).await?;
    api.must_see_device(caller, schedule.device).await?;
    let bot = api.bot_name_of(schedule.device).await?;
    Ok((schedule, bot))
}

async fn show(
    State(api): State<Api>,
    caller: Caller,
    InPath(id): InPath<i64>,
) -> Result<Response, ApiError> {
    let (schedule, bot) = find(&api, &caller, id).await?;
    Ok(tagged(schedule.revision, ScheduleView::new(&schedule, bot, caller.role)))
}

/// A new schedule: a text, or pictures, or both.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewSchedule {
    /// A name for people, 1 to 200 characters.
    title: String,
    /// The id of the phone that sends.
    device: i64,
    /// The room's name.
    room: String,
    /// The room's channel id; needed for pictures.
    #[serde(default)]
    channel_id: String,
    #[serde(default)]
    text: String,
    /// Up to two groups of pictures, each file in base64.
    #[serde(default)]
    images: Vec<Vec<String>>,
    /// How long the phone waits with each group.
    #[serde(default)]
    media_wait_ms: Vec<Option<u64>>,
    /// The pause between the two groups.
    #[serde(default)]
    group_pause_ms: u64,
    recurrence: RecurrenceShape,
    /// An IANA time zone; `Asia/Seoul` unless given.
    time_zone: Option<String>,
    valid_from: Option<String>,
    valid_until: Option<String>,
    /// On unless given.
    active: Option<bool>,
}

async fn add(
    State(api): State<Api>,
    caller: Caller,
    Body(new): Body<NewSchedule>,
) -> Result<Response, ApiError> {
    let schedule = Schedule {
        id: ScheduleId(0),
        title: new.title,
        device: DeviceKey(new.device),
        room: new.room,
        channel_id: new.channel_id,
        text: new.text,
        images: image_groups(new.images)?,
        media_wait: media_waits(&new.media_wait_ms)?,
        group_pause: Duration::from_millis(new.group_pause_ms),
        recurrence: new.recurrence.into_domain()?,
        time_zone: new.time_zone.unwrap_or_else(|| "Asia/Seoul".to_owned()),
        valid_from: moment_in_body("valid_from", new.valid_from.as_deref())?,
        valid_until: moment_in_body("valid_until", new.valid_until.as_deref())?,
        active: new.active.unwrap_or(true),
        next_at: None,
        last_at: None,
        sent_count: 0,
        revision: 0,
    };
    check(&schedule)?;
    let device = api.device(&caller, schedule.device).await?;
    let detail = json!({ "title": schedule.title, "room": schedule.room });
    let object = format!("device:{}", device.key);
    let work = api.control()?.add_schedule(schedule);
    let kept = api.recorded(&caller, "schedule.add", &object, detail, work).await?;
    let view = ScheduleView::new(&kept, device.bot.to_string(), caller.role);
    Ok((StatusCode::CREATED, tagged(kept.revision, view)).into_response())
}

/// What to change; what is absent stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ScheduleChange {
    title: Option<String>,
    room: Option<String>,
    channel_id: Option<String>,
    text: Option<String>,
    /// Replaces both groups of pictures.
    images: Option<Vec<Vec<String>>>,
    media_wait_ms: Option<Vec<Option<u64>>>,
    group_pause_ms: Option<u64>,
    recurrence: Option<RecurrenceShape>,
    time_zone: Option<String>,
    /// Null removes it.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>)]
    valid_from: Option<Option<String>>,
    /// Null removes it.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>)]
    valid_until: Option<Option<String>>,
    active: Option<bool>,
    /// The revision that was read; also as `If-Match`.
    revision: Option<i64>,
}

impl ScheduleChange {
    fn apply(self, schedule: &mut Schedule) -> Result<(), ApiError> {
        if let Some(images) = self.images {
            schedule.images = image_groups(images)?;
        }
        if let Some(waits) = &self.media_wait_ms {
            schedule.media_wait = media_waits(waits)?;
        }
        if let Some(pause) = self.group_pause_ms {
            schedule.group_pause = Duration::from_millis(pause);
        }
        if let Some(recurrence) = self.recurrence {
            schedule.recurrence = recurrence.into_domain()?;
        }
        if let Some(moment) = &self.valid_from {
            schedule.valid_from = moment_in_body("valid_from", moment.as_deref())?;
        }
        if let Some(moment) = &self.valid_until {
            schedule.valid_until = moment_in_body("valid_until", moment.as_deref())?;
        }
        let replace = |field: &mut String, new: Option<String>| {
            if let Some(new) = new {
                *field = new;
            }
        };
        replace(&mut schedule.title, self.title);
        replace(&mut schedule.room, self.room);
        replace(&mut schedule.channel_id, self.channel_id);
        replace(&mut schedule.text, self.text);
        replace(&mut schedule.time_zone, self.time_zone);
        schedule.active = self.active.unwrap_or(schedule.active);
        check(schedule)
    }
}

async fn change(
    State(api): State<Api>,
    caller: Caller,
    InPath(id): InPath<i64>,
    if_match: IfMatch,
    Body(change): Body<ScheduleChange>,
) -> Result<Response, ApiError> {
    let revision = if_match.or(change.revision)?;
    let (mut schedule, bot) = find(&api, &caller, id).await?;
    if revision.is_some_and(|revision| revision != schedule.revision) {
        return Err(ApiError::plain(Code::Conflict));
    }
    let was_active = schedule.active;
    change.apply(&mut schedule)?;
    let detail =
        json!({ "title": schedule.title, "active": { "from": was_active, "to": schedule.active } });
    let object = format!("schedule:{id}");
    let work = api.control()?.update_schedule(schedule);
    let kept = api.recorded(&caller, "schedule.change", &object, detail, work).await?;
    Ok(tagged(kept.revision, ScheduleView::new(&kept, bot, caller.role)))
}

async fn remove(
    State(api): State<Api>,
    caller: Caller,
    InPath(id): InPath<i64>,
) -> Result<StatusCode, ApiError> {
    let (schedule, _bot) = find(&api, &caller, id).await?;
    let object = format!("schedule:{id}");
    let detail = json!({ "title": schedule.title });
    let work = api.control()?.remove_schedule(schedule.id);
    api.recorded(&caller, "schedule.remove", &object, detail, work).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn run(
    State(api): State<Api>,
    caller: Caller,
    InPath(id): InPath<i64>,
) -> Result<StatusCode, ApiError> {
    let (schedule, _bot) = find(&api, &caller, id).await?;
    let object = format!("schedule:{id}");
    let work = api.control()?.run_schedule_now(schedule.id);
    api.recorded(&caller, "schedule.run", &object, json!({}), work).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// How one sending went.
#[derive(Serialize, ToSchema)]
pub(crate) struct RunView {
    id: i64,
    schedule: i64,
    due_at: String,
    ran_at: String,
    /// `sent`, `missed` or `failed`.
    outcome: String,
    /// Why, or empty.
    note: String,
}

impl From<ScheduleRun> for RunView {
    fn from(run: ScheduleRun) -> RunView {
        RunView {
            id: run.id,
            schedule: run.schedule.0,
            due_at: times::show(run.due_at),
            ran_at: times::show(run.ran_at),
            outcome: run.outcome,
            note: run.note,
        }
    }
}

async fn runs(
    State(api): State<Api>,
    caller: Caller,
    InPath(id): InPath<i64>,
    Asked(asked): Asked<PageQuery>,
) -> Result<Json<Listed<RunView>>, ApiError> {
    let page = page(asked.after.as_deref(), asked.limit)?;
    let (schedule, _bot) = find(&api, &caller, id).await?;
    let rows = api.services.ports.schedules.schedule_runs(schedule.id, page).await?;
    let last = rows.last().map(|row| row.id.to_string());
    Ok(Listed::page(rows.into_iter().map(RunView::from).collect(), page.limit, last))
}

fn check(schedule: &Schedule) -> Result<(), ApiError> {
    if schedule.title.is_empty() || schedule.title.chars().count() > TITLE_CHARS_MAX {
        return Err(ApiError::field(format!("`title` has 1 to {TITLE_CHARS_MAX} characters")));
    }
    check_room(&schedule.room, &schedule.channel_id)?;
    if schedule.text.encode_utf16().count() > CHAT_TEXT_UNITS_MAX {
        let message = format!("`text` has at most {CHAT_TEXT_UNITS_MAX} UTF-16 units");
        return Err(ApiError::field(message));
    }
    let has_images = schedule.images.iter().any(|group| !group.is_empty());
    if schedule.text.is_empty() && !has_images {
        return Err(ApiError::field("a schedule says a text, shows pictures, or both"));
    }
    if has_images && schedule.channel_id.is_empty() {
        return Err(ApiError::field("pictures need the room's `channel_id`"));
    }
    if millis(schedule.group_pause) > GROUP_PAUSE_MS_MAX {
        return Err(ApiError::field(format!("`group_pause_ms` is at most {GROUP_PAUSE_MS_MAX}")));
    }
    let window = schedule.valid_from.zip(schedule.valid_until);
    if window.is_some_and(|(from, until)| from >= until) {
        return Err(ApiError::field("`valid_from` comes before `valid_until`"));
    }
    Ok(())
}

fn image_groups(groups: Vec<Vec<String>>) -> Result<[Vec<bytes::Bytes>; 2], ApiError> {
    if groups.len() > 2 {
        return Err(ApiError::field("there are at most two groups of pictures"));
    }
    let mut decoded = [Vec::new(), Vec::new()];
    for (place, group) in decoded.iter_mut().zip(groups) {
        if group.len() > REPLY_MEDIA_ITEMS_MAX {
            let message = format!("a group has at most {REPLY_MEDIA_ITEMS_MAX} pictures");
            return Err(ApiError::field(message));
        }
        *place = group.iter().map(|file| file_bytes(file)).collect::<Result<_, _>>()?;
        if place.iter().map(bytes::Bytes::len).sum::<usize>() > REPLY_MEDIA_BYTES_MAX {
            let message = format!("a group has at most {REPLY_MEDIA_BYTES_MAX} bytes");
            return Err(ApiError::field(message));
        }
    }
    Ok(decoded)
}

fn media_waits(waits: &[Option<u64>]) -> Result<[Option<Duration>; 2], ApiError> {
    if waits.len() > 2 {
        return Err(ApiError::field("there are at most two groups of pictures"));
    }
    let at = |index: usize| media_wait(waits.get(index).copied().flatten());
    Ok([at(0)?, at(1)?])
}

fn moment_in_body(name: &str, raw: Option<&str>) -> Result<Option<Timestamp>, ApiError> {
    crate::extract::moment(name, raw).map_err(|error| ApiError { code: Code::BadField, ..error })
}
