//! Phones, rooms and bots: who there is, and whether they may be answered.

use async_trait::async_trait;
use naru_domain::limits::PAGE_ROWS_MAX;
use naru_domain::phone::PhoneHello;
use naru_domain::ports::{BotSettings, Devices, Rooms, StoreError};
use naru_domain::work::{DeviceRecord, Page, RoomRecord};
use naru_domain::{Approval, BotName, DeviceId, DeviceKey, Durability, RoomKey, Timestamp};
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Row as _};

use crate::engine::JobError;
use crate::rows::corrupt;
use crate::store::SqlStore;

const DEVICE: &str = "key, bot, device, approval, approval_note, frame_bytes_max, version, \
     client_type, device_info, device_ip, peer_ip, created_at, seen_at, revision";
const ROOM: &str = "key, device, channel_id, name, approval, approval_note, created_at, revision";
/// The longest note kept, in characters; the rest is cut.
const NOTE_CHARS_MAX: usize = 500;

/// The rows of a page, within bounds.
pub(crate) fn limit_of(page: Page) -> i64 {
    i64::try_from(page.limit.clamp(1, PAGE_ROWS_MAX)).unwrap_or(1)
}

#[async_trait]
impl Devices for SqlStore {
    async fn greet(
        &self,
        hello: &PhoneHello,
        initial: Approval,
        now: Timestamp,
    ) -> Result<DeviceRecord, StoreError> {
        let hello = hello.clone();
        self.engine
            .write(Durability::Os, move |c| {
                Box::pin(async move {
                    let sql = format!(
                        "INSERT INTO devices (bot, device, approval, version, client_type, \
                         device_info, device_ip, peer_ip, created_at, seen_at) \
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?9) \
                         ON CONFLICT (bot, device) DO UPDATE SET version = excluded.version, \
                         client_type = excluded.client_type, device_info = excluded.device_info, \
                         device_ip = excluded.device_ip, peer_ip = excluded.peer_ip, \
                         seen_at = excluded.seen_at RETURNING {DEVICE}"
                    );
                    let query = sqlx::query(AssertSqlSafe(sql))
                        .bind(hello.bot.as_str())
                        .bind(hello.device.as_str())
                        .bind(initial.label())
                        .bind(hello.version)
                        .bind(hello.client_type)
                        .bind(hello.device_info)
                        .bind(hello.device_ip)
                        .bind(hello.peer.to_string())
                        .bind(now.0);
                    device(&query.fetch_one(c).await?)
                })
            })
            .await
    }

    async fn device(&self, key: DeviceKey) -> Result<DeviceRecord, StoreError> {
        self.engine
            .read(move |c| {
                Box::pin(async move {
                    let sql = format!("SELECT {DEVICE} FROM devices WHERE key = ?");
                    device(&sqlx::query(AssertSqlSafe(sql)).bind(key.0).fetch_one(c).await?)
                })
            })
            .await
    }

    async fn devices(
        &self,
        bot: Option<&BotName>,
        approval: Option<Approval>,
        page: Page,
    ) -> Result<Vec<DeviceRecord>, StoreError> {
        let bot = bot.cloned();
        self.engine
            .read(move |c| {
                Box::pin(async move {
                    let sql = format!(
                        "SELECT {DEVICE} FROM devices WHERE key > ?1 \
                         AND (?2 IS NULL OR bot = ?2) AND (?3 IS NULL OR approval = ?3) \
                         ORDER BY key LIMIT ?4"
                    );
                    let query = sqlx::query(AssertSqlSafe(sql))
                        .bind(page.after.unwrap_or(i64::MIN))
                        .bind(bot.as_ref().map(BotName::as_str))
                        .bind(approval.map(Approval::label))
                        .bind(limit_of(page));
                    query.fetch_all(c).await?.iter().map(device).collect()
                })
            })
            .await
    }

    async fn set_device_approval(
        &self,
        key: DeviceKey,
        approval: Approval,
        note: &str,
        revision: Option<i64>,
    ) -> Result<DeviceRecord, StoreError> {
        let row = self.set_approval("devices", DEVICE, key.0, approval, note, revision).await?;
        device(&row).map_err(|error| self.engine.explain(error))
    }

    async fn set_device_frame_limit(
        &self,
        key: DeviceKey,
        frame_bytes_max: Option<u32>,
    ) -> Result<DeviceRecord, StoreError> {
        self.engine
            .write(Durability::Disk, move |c| {
                Box::pin(async move {
                    let sql = format!(
                        "UPDATE devices SET frame_bytes_max = ?, revision = revision + 1 \
                         WHERE key = ? RETURNING {DEVICE}"
                    );
                    let query = sqlx::query(AssertSqlSafe(sql))
                        .bind(frame_bytes_max.map(i64::from))
                        .bind(key.0);
                    device(&query.fetch_one(c).await?)
                })
            })
            .await
    }
}

#[async_trait]
impl Rooms for SqlStore {
    async fn find_or_create_room(
        &self,
        device: DeviceKey,
        channel_id: &str,
        name: &str,
        initial: Approval,
        now: Timestamp,
    ) -> Result<RoomRecord, StoreError> {
        let (channel_id, name) = (channel_id.to_owned(), name.to_owned());
        if let Some(known) = self.known_room(device, channel_id.clone()).await?
            && *known.name == *name
        {
            return Ok(known);
        }
        self.engine
            .write(Durability::Os, move |c| {
                Box::pin(async move {
                    let sql = format!(
                        "INSERT INTO rooms (device, channel_id, name, approval, created_at) \
                         VALUES (?, ?, ?, ?, ?) ON CONFLICT (device, channel_id) \
                         DO UPDATE SET name = excluded.name RETURNING {ROOM}"
                    );
                    let query = sqlx::query(AssertSqlSafe(sql))
                        .bind(device.0)
                        .bind(channel_id)
                        .bind(name)
                        .bind(initial.label())
                        .bind(now.0);
                    room(&query.fetch_one(c).await?)
                })
            })
            .await
    }

    async fn room(&self, key: RoomKey) -> Result<RoomRecord, StoreError> {
        self.engine
            .read(move |c| {
                Box::pin(async move {
                    let sql = format!("SELECT {ROOM} FROM rooms WHERE key = ?");
                    room(&sqlx::query(AssertSqlSafe(sql)).bind(key.0).fetch_one(c).await?)
                })
            })
            .await
    }

    async fn rooms(
        &self,
        bot: Option<&BotName>,
        device: Option<DeviceKey>,
        approval: Option<Approval>,
        page: Page,
    ) -> Result<Vec<RoomRecord>, StoreError> {
        let bot = bot.cloned();
        self.engine
            .read(move |c| {
                Box::pin(async move {
                    let sql = format!(
                        "SELECT {ROOM} FROM rooms WHERE key > ?1 \
                         AND (?2 IS NULL OR device IN (SELECT key FROM devices WHERE bot = ?2)) \
                         AND (?3 IS NULL OR device = ?3) AND (?4 IS NULL OR approval = ?4) \
                         ORDER BY key LIMIT ?5"
                    );
                    let query = sqlx::query(AssertSqlSafe(sql))
                        .bind(page.after.unwrap_or(i64::MIN))
                        .bind(bot.as_ref().map(BotName::as_str))
                        .bind(device.map(|device| device.0))
                        .bind(approval.map(Approval::label))
                        .bind(limit_of(page));
                    query.fetch_all(c).await?.iter().map(room).collect()
                })
            })
            .await
    }

    async fn set_room_approval(
        &self,
        key: RoomKey,
        approval: Approval,
        note: &str,
        revision: Option<i64>,
    ) -> Result<RoomRecord, StoreError> {
        let row = self.set_approval("rooms", ROOM, key.0, approval, note, revision).await?;
        room(&row).map_err(|error| self.engine.explain(error))
    }
}

impl SqlStore {
    /// Looked up first, since most rooms are known under the same name and need no write.
    async fn known_room(
        &self,
        device: DeviceKey,
        channel_id: String,
    ) -> Result<Option<RoomRecord>, StoreError> {
        self.engine
            .read(move |c| {
                Box::pin(async move {
                    let sql =
                        format!("SELECT {ROOM} FROM rooms WHERE device = ? AND channel_id = ?");
                    let query = sqlx::query(AssertSqlSafe(sql)).bind(device.0).bind(channel_id);
                    query.fetch_optional(c).await?.as_ref().map(room).transpose()
                })
            })
            .await
    }

    async fn set_approval(
        &self,
        table: &'static str,
        columns: &'static str,
        key: i64,
        approval: Approval,
        note: &str,
        revision: Option<i64>,
    ) -> Result<SqliteRow, StoreError> {
        let note: String = note.chars().take(NOTE_CHARS_MAX).collect();
        self.engine
            .write(Durability::Disk, move |c| {
                Box::pin(async move {
                    let sql = format!(
                        "UPDATE {table} SET approval = ?1, approval_note = ?2, \
                         revision = revision + 1 \
                         WHERE key = ?3 AND (?4 IS NULL OR revision = ?4) RETURNING {columns}"
                    );
                    let query = sqlx::query(AssertSqlSafe(sql))
                        .bind(approval.label())
                        .bind(note)
                        .bind(key)
                        .bind(revision);
                    if let Some(row) = query.fetch_optional(&mut *c).await? {
                        return Ok(row);
                    }
                    let exists = format!("SELECT 1 FROM {table} WHERE key = ?");
                    let exists =
                        sqlx::query(AssertSqlSafe(exists)).bind(key).fetch_optional(c).await?;
                    Err(missing_or_changed(exists.is_some()))
                })
            })
            .await
    }
}

/// Why a guarded change found no row.
pub(crate) fn missing_or_changed(exists: bool) -> JobError {
    JobError::Store(if exists { StoreError::Conflict } else { StoreError::NotFound })
}

#[async_trait]
impl BotSettings for SqlStore {
    async fn bot_settings(
        &self,
        bot: &BotName,
        initial: &str,
        now: Timestamp,
    ) -> Result<(String, i64), StoreError> {
        let (bot, initial) = (bot.clone(), initial.to_owned());
        let name = bot.clone();
        let known: Option<(String, i64)> = self
            .engine
            .read(move |c| {
                Box::pin(async move {
                    let sql = "SELECT document, revision FROM bots WHERE name = ?";
                    Ok(sqlx::query_as(sql).bind(name.as_str()).fetch_optional(c).await?)
                })
            })
            .await?;
        if let Some(known) = known {
            return Ok(known);
        }
        self.engine
            .write(Durability::Os, move |c| {
                Box::pin(async move {
                    let sql = "INSERT INTO bots (name, document, created_at) VALUES (?, ?, ?) \
                               ON CONFLICT (name) DO UPDATE SET name = excluded.name \
                               RETURNING document, revision";
                    let query = sqlx::query_as(sql).bind(bot.as_str()).bind(initial).bind(now.0);
                    Ok(query.fetch_one(c).await?)
                })
            })
            .await
    }

    async fn bots(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, String, i64)>, StoreError> {
        let (after, limit) = (after.map(str::to_owned), limit_of(Page { after: None, limit }));
        self.engine
            .read(move |c| {
                Box::pin(async move {
                    let sql = "SELECT name, document, revision FROM bots \
                               WHERE ?1 IS NULL OR name > ?1 ORDER BY name LIMIT ?2";
                    Ok(sqlx::query_as(sql).bind(after).bind(limit).fetch_all(c).await?)
                })
            })
            .await
    }

    async fn set_bot_settings(
        &self,
        bot: &BotName,
        document: &str,
        revision: i64,
    ) -> Result<i64, StoreError> {
        let (bot, document) = (bot.clone(), document.to_owned());
        self.engine
            .write(Durability::Disk, move |c| {
                Box::pin(async move {
                    let sql = "UPDATE bots SET document = ?, revision = revision + 1 \
                               WHERE name = ? AND revision = ? RETURNING revision";
                    let query =
                        sqlx::query_scalar(sql).bind(document).bind(bot.as_str()).bind(revision);
                    if let Some(revision) = query.fetch_optional(&mut *c).await? {
                        return Ok(revision);
                    }
                    let exists = sqlx::query("SELECT 1 FROM bots WHERE name = ?");
                    let exists = exists.bind(bot.as_str()).fetch_optional(c).await?;
                    Err(missing_or_changed(exists.is_some()))
                })
            })
            .await
    }
}

fn device(row: &SqliteRow) -> Result<DeviceRecord, JobError> {
    let bot: String = row.try_get(1)?;
    let device: String = row.try_get(2)?;
    let frame_bytes_max: Option<i64> = row.try_get(5)?;
    Ok(DeviceRecord {
        key: DeviceKey(row.try_get(0)?),
        bot: BotName::parse(&bot).map_err(|_| corrupt("a device has an impossible bot name"))?,
        device: DeviceId::parse(&device).map_err(|_| corrupt("a device has an impossible id"))?,
        approval: approval(row, 3)?,
        approval_note: row.try_get(4)?,
        frame_bytes_max: frame_bytes_max.and_then(|bytes| u32::try_from(bytes).ok()),
        version: row.try_get(6)?,
        client_type: row.try_get(7)?,
        device_info: row.try_get(8)?,
        device_ip: row.try_get(9)?,
        peer_ip: row.try_get(10)?,
        created_at: Timestamp(row.try_get(11)?),
        seen_at: Timestamp(row.try_get(12)?),
        revision: row.try_get(13)?,
    })
}

fn room(row: &SqliteRow) -> Result<RoomRecord, JobError> {
    Ok(RoomRecord {
        key: RoomKey(row.try_get(0)?),
        device: DeviceKey(row.try_get(1)?),
        channel_id: row.try_get::<String, _>(2)?.into(),
        name: row.try_get::<String, _>(3)?.into(),
        approval: approval(row, 4)?,
        approval_note: row.try_get(5)?,
        created_at: Timestamp(row.try_get(6)?),
        revision: row.try_get(7)?,
    })
}

fn approval(row: &SqliteRow, column: usize) -> Result<Approval, JobError> {
    let label: String = row.try_get(column)?;
    Approval::parse(&label).ok_or_else(|| corrupt("an approval is unknown").into())
}
