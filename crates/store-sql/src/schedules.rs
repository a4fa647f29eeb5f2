//! Schedules and the log of their runs.

use async_trait::async_trait;
use naru_domain::ports::{Schedules, StoreError};
use naru_domain::work::{Page, Recurrence, Schedule, ScheduleRun};
use naru_domain::{DeviceKey, Durability, ScheduleId, Timestamp};
use sqlx::query::Query;
use sqlx::sqlite::{Sqlite, SqliteArguments, SqliteRow};
use sqlx::{AssertSqlSafe, Row as _};

use crate::engine::JobError;
use crate::places::{limit_of, missing_or_changed};
use crate::rows::{corrupt, duration, millis, pack_bytes, unpack_bytes};
use crate::store::SqlStore;

const SCHEDULE: &str = "id, title, device, room, channel_id, text, images_1, images_2, wait_ms_1, \
     wait_ms_2, group_pause_ms, recurrence, time_zone, valid_from, valid_until, active, next_at, \
     last_at, sent_count, revision";
const RUN: &str = "id, schedule, due_at, ran_at, outcome, note";

#[async_trait]
impl Schedules for SqlStore {
    async fn add_schedule(&self, schedule: &Schedule) -> Result<Schedule, StoreError> {
        let schedule = schedule.clone();
        self.engine
            .write(Durability::Disk, move |c| {
                Box::pin(async move {
                    let sql = format!(
                        "INSERT INTO schedules (title, device, room, channel_id, text, images_1, \
                         images_2, wait_ms_1, wait_ms_2, group_pause_ms, recurrence, time_zone, \
                         valid_from, valid_until, active, next_at, last_at, sent_count, revision) \
                         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1) \
                         RETURNING {SCHEDULE}"
                    );
                    let query = bind(sqlx::query(AssertSqlSafe(sql)), &schedule)?;
                    read(&query.fetch_one(c).await?)
                })
            })
            .await
    }

    async fn update_schedule(&self, schedule: &Schedule) -> Result<Schedule, StoreError> {
        let schedule = schedule.clone();
        self.engine
            .write(Durability::Disk, move |c| {
                Box::pin(async move {
                    let sql = format!(
                        "UPDATE schedules SET title = ?, device = ?, room = ?, channel_id = ?, \
                         text = ?, images_1 = ?, images_2 = ?, wait_ms_1 = ?, wait_ms_2 = ?, \
                         group_pause_ms = ?, recurrence = ?, time_zone = ?, valid_from = ?, \
                         valid_until = ?, active = ?, next_at = ?, last_at = ?, sent_count = ?, \
                         revision = revision + 1 WHERE id = ? AND revision = ? \
                         RETURNING {SCHEDULE}"
                    );
                    let query = bind(sqlx::query(AssertSqlSafe(sql)), &schedule)?
                        .bind(schedule.id.0)
                        .bind(schedule.revision);
                    if let Some(row) = query.fetch_optional(&mut *c).await? {
                        return read(&row);
                    }
                    let exists = sqlx::query("SELECT 1 FROM schedules WHERE id = ?");
                    let exists = exists.bind(schedule.id.0).fetch_optional(c).await?;
                    Err(missing_or_changed(exists.is_some()))
                })
            })
            .await
    }

    async fn remove_schedule(&self, id: ScheduleId) -> Result<(), StoreError> {
        self.engine
            .write(Durability::Disk, move |c| {
                Box::pin(async move {
                    let removed = sqlx::query("DELETE FROM schedules WHERE id = ?")
                        .bind(id.0)
                        .execute(&mut *c)
                        .await?;
                    if removed.rows_affected() == 0 {
                        return Err(StoreError::NotFound.into());
                    }
                    sqlx::query("DELETE FROM schedule_runs WHERE schedule = ?")
                        .bind(id.0)
                        .execute(c)
                        .await?;
                    Ok(())
                })
            })
            .await
    }

    async fn schedule(&self, id: ScheduleId) -> Result<Schedule, StoreError> {
        self.engine
            .read(move |c| {
                Box::pin(async move {
                    let sql = format!("SELECT {SCHEDULE} FROM schedules WHERE id = ?");
                    read(&sqlx::query(AssertSqlSafe(sql)).bind(id.0).fetch_one(c).await?)
                })
            })
            .await
    }

    async fn schedules(&self, page: Page) -> Result<Vec<Schedule>, StoreError> {
        self.engine
            .read(move |c| {
                Box::pin(async move {
                    let sql = format!(
                        "SELECT {SCHEDULE} FROM schedules WHERE id > ? ORDER BY id LIMIT ?"
                    );
                    let query = sqlx::query(AssertSqlSafe(sql))
                        .bind(page.after.unwrap_or(i64::MIN))
                        .bind(limit_of(page));
                    query.fetch_all(c).await?.iter().map(read).collect()
                })
            })
            .await
    }

    async fn due_schedules(
        &self,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<Schedule>, StoreError> {
        let limit = limit_of(Page { after: None, limit });
        self.engine
            .read(move |c| {
                Box::pin(async move {
                    let sql = format!(
                        "SELECT {SCHEDULE} FROM schedules WHERE active = 1 \
                         AND next_at IS NOT NULL AND next_at <= ? ORDER BY next_at, id LIMIT ?"
                    );
                    let query = sqlx::query(AssertSqlSafe(sql)).bind(now.0).bind(limit);
                    query.fetch_all(c).await?.iter().map(read).collect()
                })
            })
            .await
    }

    async fn claim_schedule(
        &self,
        id: ScheduleId,
        due_at: Timestamp,
        next_at: Option<Timestamp>,
    ) -> Result<bool, StoreError> {
        self.engine
            .write(Durability::Disk, move |c| {
                Box::pin(async move {
                    // The guard on `next_at` lets exactly one caller through. An operator's revision
                    // stays: claiming is no change of theirs.
                    let sql = "UPDATE schedules SET last_at = ?2, next_at = ?3, \
                               sent_count = sent_count + 1 \
                               WHERE id = ?1 AND active = 1 AND next_at = ?2";
                    let query =
                        sqlx::query(sql).bind(id.0).bind(due_at.0).bind(next_at.map(|at| at.0));
                    Ok(query.execute(c).await?.rows_affected() == 1)
                })
            })
            .await
    }

    async fn log_schedule_run(&self, run: &ScheduleRun) -> Result<(), StoreError> {
        let run = run.clone();
        self.engine
            .write(Durability::Os, move |c| {
                Box::pin(async move {
                    let sql = "INSERT INTO schedule_runs (schedule, due_at, ran_at, outcome, note) \
                               VALUES (?, ?, ?, ?, ?)";
                    sqlx::query(sql)
                        .bind(run.schedule.0)
                        .bind(run.due_at.0)
                        .bind(run.ran_at.0)
                        .bind(run.outcome)
                        .bind(run.note)
                        .execute(c)
                        .await?;
                    Ok(())
                })
            })
            .await
    }

    async fn schedule_runs(
        &self,
        id: ScheduleId,
        page: Page,
    ) -> Result<Vec<ScheduleRun>, StoreError> {
        self.engine
            .read(move |c| {
                Box::pin(async move {
                    let sql = format!(
                        "SELECT {RUN} FROM schedule_runs WHERE schedule = ? AND id < ? \
                         ORDER BY id DESC LIMIT ?"
                    );
                    let query = sqlx::query(AssertSqlSafe(sql))
                        .bind(id.0)
                        .bind(page.after.unwrap_or(i64::MAX))
                        .bind(limit_of(page));
                    query.fetch_all(c).await?.iter().map(read_run).collect()
                })
            })
            .await
    }
}

type Statement<'q> = Query<'q, Sqlite, SqliteArguments>;

/// Binds what both adding and replacing write, in the order of the columns.
fn bind<'q>(query: Statement<'q>, schedule: &Schedule) -> Result<Statement<'q>, StoreError> {
    let [images_1, images_2] = &schedule.images;
    let [wait_1, wait_2] = schedule.media_wait;
    Ok(query
        .bind(schedule.title.clone())
        .bind(schedule.device.0)
        .bind(schedule.room.clone())
        .bind(schedule.channel_id.clone())
        .bind(schedule.text.clone())
        .bind(pack_bytes(images_1)?)
        .bind(pack_bytes(images_2)?)
        .bind(wait_1.map(millis))
        .bind(wait_2.map(millis))
        .bind(millis(schedule.group_pause))
        .bind(write_recurrence(&schedule.recurrence))
        .bind(schedule.time_zone.clone())
        .bind(schedule.valid_from.map(|at| at.0))
        .bind(schedule.valid_until.map(|at| at.0))
        .bind(i64::from(schedule.active))
        .bind(schedule.next_at.map(|at| at.0))
        .bind(schedule.last_at.map(|at| at.0))
        .bind(schedule.sent_count))
}

fn read(row: &SqliteRow) -> Result<Schedule, JobError> {
    let at = |column: usize| -> Result<Option<Timestamp>, sqlx::Error> {
        Ok(row.try_get::<Option<i64>, _>(column)?.map(Timestamp))
    };
    let wait = |column: usize| -> Result<Option<std::time::Duration>, sqlx::Error> {
        Ok(row.try_get::<Option<i64>, _>(column)?.map(duration))
    };
    let recurrence: String = row.try_get(11)?;
    Ok(Schedule {
        id: ScheduleId(row.try_get(0)?),
        title: row.try_get(1)?,
        device: DeviceKey(row.try_get(2)?),
        room: row.try_get(3)?,
        channel_id: row.try_get(4)?,
        text: row.try_get(5)?,
        images: [unpack_bytes(row.try_get(6)?)?, unpack_bytes(row.try_get(7)?)?],
        media_wait: [wait(8)?, wait(9)?],
        group_pause: duration(row.try_get(10)?),
        recurrence: read_recurrence(&recurrence)
            .ok_or_else(|| corrupt("a schedule has an unknown recurrence"))?,
        time_zone: row.try_get(12)?,
        valid_from: at(13)?,
        valid_until: at(14)?,
        active: row.try_get::<i64, _>(15)? != 0,
        next_at: at(16)?,
        last_at: at(17)?,
        sent_count: row.try_get(18)?,
        revision: row.try_get(19)?,
    })
}

fn read_run(row: &SqliteRow) -> Result<ScheduleRun, JobError> {
    Ok(ScheduleRun {
        id: row.try_get(0)?,
        schedule: ScheduleId(row.try_get(1)?),
        due_at: Timestamp(row.try_get(2)?),
        ran_at: Timestamp(row.try_get(3)?),
        outcome: row.try_get(4)?,
        note: row.try_get(5)?,
    })
}

/// `once 1700000000000`, `daily 540,1080`, `weekly 0,2 540`, `cron 0 9 * * *`.
fn write_recurrence(recurrence: &Recurrence) -> String {
    match recurrence {
        Recurrence::Once(at) => format!("once {}", at.0),
        Recurrence::Daily(minutes) => format!("daily {}", write_list(minutes)),
        Recurrence::Weekly { days, minutes } => {
            format!("weekly {} {}", write_list(days), write_list(minutes))
        }
        Recurrence::Cron(expression) => format!("cron {expression}"),
    }
}

fn read_recurrence(text: &str) -> Option<Recurrence> {
    let (kind, rest) = text.split_once(' ')?;
    match kind {
        "once" => Some(Recurrence::Once(Timestamp(rest.parse().ok()?))),
        "daily" => Some(Recurrence::Daily(read_list(rest)?)),
        "weekly" => {
            let (days, minutes) = rest.split_once(' ')?;
            Some(Recurrence::Weekly { days: read_list(days)?, minutes: read_list(minutes)? })
        }
        "cron" => Some(Recurrence::Cron(rest.to_owned())),
        _ => None,
    }
}

fn write_list<T: ToString>(numbers: &[T]) -> String {
    numbers.iter().map(T::to_string).collect::<Vec<_>>().join(",")
}

fn read_list<T: std::str::FromStr>(text: &str) -> Option<Vec<T>> {
    text.split(',').filter(|part| !part.is_empty()).map(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_recurrence_is_read_as_it_was_written() {
        let all = [
            Recurrence::Once(Timestamp(-5)),
            Recurrence::Daily(vec![0, 1439]),
            Recurrence::Weekly { days: vec![0, 6], minutes: vec![540] },
            Recurrence::Weekly { days: vec![], minutes: vec![] },
            Recurrence::Cron("*/5 9-17 * * 1-5".to_owned()),
        ];
        for recurrence in all {
            let written = write_recurrence(&recurrence);
            assert_eq!(read_recurrence(&written), Some(recurrence), "{written}");
        }
        assert_eq!(read_recurrence("yearly 1"), None);
    }
}
