//! Reading the log of what was said. Lists go backwards from a key; a search in encrypted texts reads
//! and compares them here.

use async_trait::async_trait;
use naru_domain::limits::PAGE_ROWS_MAX;
use naru_domain::ports::{ChatLog, StoreError};
use naru_domain::work::{MessageFilter, MessageRecord, Page, ReplyRecord};
use naru_domain::{DeviceKey, MessageId, Timestamp};
use sqlx::{AssertSqlSafe, Row as _};

use crate::rows;
use crate::store::SqlStore;

/// Encrypted messages that one search opens at most (guessed: a second's work).
const OPENED_MAX: usize = 200_000;
/// Messages opened at once.
const OPENED_AT_ONCE: usize = 1_000;

#[async_trait]
impl ChatLog for SqlStore {
    async fn messages(
        &self,
        filter: &MessageFilter,
        page: Page,
    ) -> Result<Vec<MessageRecord>, StoreError> {
        let limit = page.limit.clamp(1, PAGE_ROWS_MAX);
        let Some(search) = filter.search.as_deref() else {
            return self.message_page(filter, None, page.after, limit).await;
        };
        if self.engine.options.encryption.is_none() {
            return self.message_page(filter, Some(search), page.after, limit).await;
        }
        self.search_encrypted(filter, search, page.after, limit).await
    }

    async fn message(&self, id: MessageId) -> Result<MessageRecord, StoreError> {
        let keys = self.engine.options.encryption.clone();
        self.engine
            .read(move |c| {
                Box::pin(async move {
                    let sql = format!("SELECT {} FROM messages WHERE id = ?", rows::MESSAGE);
                    let row = sqlx::query(AssertSqlSafe(sql)).bind(id.0).fetch_one(c).await?;
                    rows::message(&row, keys.as_ref())
                })
            })
            .await
    }

    async fn replies(&self, message: MessageId) -> Result<Vec<ReplyRecord>, StoreError> {
        let keys = self.engine.options.encryption.clone();
        self.engine
            .read(move |c| {
                Box::pin(async move {
                    let sql = format!(
                        "SELECT {} FROM replies WHERE message = ? ORDER BY id LIMIT {PAGE_ROWS_MAX}",
                        rows::REPLY
                    );
                    let rows = sqlx::query(AssertSqlSafe(sql)).bind(message.0).fetch_all(c).await?;
                    rows.iter().map(|row| rows::reply(row, keys.as_ref())).collect()
                })
            })
            .await
    }

    async fn recent_log_ids(
        &self,
        since: Timestamp,
        limit: usize,
    ) -> Result<Vec<(DeviceKey, Box<str>)>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.engine
            .read_patiently(move |c| {
                Box::pin(async move {
                    // The limit stands inside: a list of messages without log ids must end, too.
                    let sql = "SELECT device, log_id FROM \
                               (SELECT device, log_id, received_at FROM messages ORDER BY id DESC \
                               LIMIT ?) WHERE log_id IS NOT NULL AND received_at >= ?";
                    let rows = sqlx::query(sql).bind(limit).bind(since.0).fetch_all(c).await?;
                    let pair = |row: &sqlx::sqlite::SqliteRow| {
                        let log_id: String = row.try_get(1)?;
                        Ok((DeviceKey(row.try_get(0)?), log_id.into_boxed_str()))
                    };
                    rows.iter().map(pair).collect()
                })
            })
            .await
    }
}

impl SqlStore {
    async fn message_page(
        &self,
        filter: &MessageFilter,
        search: Option<&str>,
        after: Option<i64>,
        limit: usize,
    ) -> Result<Vec<MessageRecord>, StoreError> {
        let keys = self.engine.options.encryption.clone();
        let (filter, search) = (filter.clone(), search.map(str::to_owned));
        self.engine
            .read(move |c| {
                Box::pin(async move {
                    let sql = page_sql(&filter, search.is_some());
                    let mut query = sqlx::query(AssertSqlSafe(sql)).bind(after.unwrap_or(i64::MAX));
                    if let Some(bot) = &filter.bot {
                        query = query.bind(bot.as_str());
                    }
                    if let Some(device) = filter.device {
                        query = query.bind(device.0);
                    }
                    if let Some(room) = filter.room {
                        query = query.bind(room.0);
                    }
                    if let Some(from) = filter.from {
                        query = query.bind(from.0);
                    }
                    if let Some(until) = filter.until {
                        query = query.bind(until.0);
                    }
                    if let Some(search) = search {
                        query = query.bind(search);
                    }
                    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
                    let rows = query.bind(limit).fetch_all(c).await?;
                    rows.iter().map(|row| rows::message(row, keys.as_ref())).collect()
                })
            })
            .await
    }

    async fn search_encrypted(
        &self,
        filter: &MessageFilter,
        search: &str,
        mut after: Option<i64>,
        limit: usize,
    ) -> Result<Vec<MessageRecord>, StoreError> {
        let wanted = search.to_ascii_lowercase();
        let mut found = Vec::new();
        for _ in 0..OPENED_MAX / OPENED_AT_ONCE {
            let opened = self.message_page(filter, None, after, OPENED_AT_ONCE).await?;
            let is_last = opened.len() < OPENED_AT_ONCE;
            after = opened.last().map(|message| message.id.0).or(after);
            let hits = opened.into_iter().filter(|m| m.text.to_ascii_lowercase().contains(&wanted));
            found.extend(hits.take(limit - found.len()));
            if is_last || found.len() >= limit {
                return Ok(found);
            }
        }
        if found.is_empty() {
            let reason = format!(
                "no match among the newest {OPENED_MAX} encrypted messages: narrow the search by \
                 bot, room or time"
            );
            return Err(StoreError::Busy { reason });
        }
        Ok(found)
    }
}

/// Fixed texts only; every value is a parameter, in the order in which `message_page` binds them.
fn page_sql(filter: &MessageFilter, has_search: bool) -> String {
    use naru_domain::work::MessageState;
    let mut sql = format!("SELECT {} FROM messages WHERE id < ?", rows::MESSAGE);
    if filter.bot.is_some() {
        sql.push_str(" AND device IN (SELECT key FROM devices WHERE bot = ?)");
    }
    if filter.device.is_some() {
        sql.push_str(" AND device = ?");
    }
    if filter.room.is_some() {
        sql.push_str(" AND room = ?");
    }
    // Literal, so that the index of dead letters can be used.
    sql.push_str(match filter.state {
        None => "",
        Some(MessageState::Pending) => " AND state = 0",
        Some(MessageState::Done) => " AND state = 1",
        Some(MessageState::Dead) => " AND state = 2",
        Some(MessageState::Logged) => " AND state = 3",
    });
    if filter.from.is_some() {
        sql.push_str(" AND received_at >= ?");
    }
    if filter.until.is_some() {
        sql.push_str(" AND received_at < ?");
    }
    if has_search {
        sql.push_str(" AND instr(lower(text), lower(?)) > 0");
    }
    sql.push_str(" ORDER BY id DESC LIMIT ?");
    sql
}
