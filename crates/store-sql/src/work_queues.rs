//! Work queues that outlive the process.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use naru_domain::ports::{KeptWork, StoreError, WorkBatch, WorkKey, WorkQueues};
use naru_domain::{
    ChannelName, Durability, Epoch, Offset, Position, Publication, Timestamp, WorkNumber,
};
use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Row as _};

use crate::engine::JobError;
use crate::ledger::repeat;
use crate::publication_meta as meta;
use crate::rows::add;
use crate::store::SqlStore;

/// Messages in one statement.
const CHUNK: usize = 64;
/// Numbers in one statement.
const NUMBERS: usize = 256;
/// A page of messages ends with the one that makes it so large: whoever loads holds one page beside what
/// it keeps.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

#[async_trait]
impl WorkQueues for SqlStore {
    async fn keep_work(
        &self,
        batch: Arc<WorkBatch>,
        durability: Durability,
    ) -> Result<(), StoreError> {
        self.engine.write(durability, move |c| Box::pin(keep(c, batch))).await
    }

    async fn load_work(
        &self,
        after: WorkNumber,
        limit: usize,
    ) -> Result<Vec<KeptWork>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let after = signed(after.0)?;
        self.engine.read_patiently(move |c| Box::pin(load(c, after, limit))).await
    }

    async fn load_work_keys(
        &self,
        after: WorkNumber,
        limit: usize,
    ) -> Result<Vec<WorkKey>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let after = signed(after.0)?;
        self.engine.read_patiently(move |c| Box::pin(load_keys(c, after, limit))).await
    }
}

async fn keep(sqlite: &mut SqliteConnection, batch: Arc<WorkBatch>) -> Result<(), JobError> {
    if let Some(numbers) = &batch.withdraw {
        let (first, last) = (signed(*numbers.start())?, signed(*numbers.end())?);
        for sql in [
            "DELETE FROM work WHERE number BETWEEN ? AND ?",
            "DELETE FROM work_keys WHERE number BETWEEN ? AND ?",
        ] {
            sqlx::query(sql).bind(first).bind(last).execute(&mut *sqlite).await?;
        }
    }
    for chunk in batch.add.chunks(CHUNK) {
        add_work(sqlite, chunk).await?;
        let keyed: Vec<&KeptWork> =
            chunk.iter().filter(|each| each.publication.key.is_some()).collect();
        if !keyed.is_empty() {
            add_keys(sqlite, &keyed).await?;
        }
    }
    // Few messages are delivered often, so that a batch knows few counts.
    let mut by_count: BTreeMap<u32, Vec<WorkNumber>> = BTreeMap::new();
    for (number, count) in &batch.delivered {
        by_count.entry(*count).or_default().push(*number);
    }
    for (count, numbers) in by_count {
        let sql = "UPDATE work SET deliveries = ? WHERE number";
        with_numbers(sqlite, sql, Some(count), &numbers).await?;
    }
    with_numbers(sqlite, "DELETE FROM work WHERE number", None, &batch.done).await?;
    if let Some(below) = batch.forget_keys_below {
        let sql = "DELETE FROM work_keys WHERE number < ?";
        sqlx::query(sql).bind(signed(below.0)?).execute(sqlite).await?;
    }
    Ok(())
}

async fn add_work(sqlite: &mut SqliteConnection, chunk: &[KeptWork]) -> Result<(), JobError> {
    let mut arguments = SqliteArguments::default();
    for KeptWork { number, life, queue, publication, deliveries } in chunk {
        add(&mut arguments, signed(number.0)?)?;
        // Lives use all 64 bits; the database keeps the same bits with a sign.
        add(&mut arguments, life.0.cast_signed())?;
        add(&mut arguments, Arc::<str>::from(queue.as_str()))?;
        add(&mut arguments, publication.at.0)?;
        add(&mut arguments, *deliveries)?;
        add(&mut arguments, publication.key.clone())?;
        add(&mut arguments, publication.data.to_vec())?;
        add(&mut arguments, publication.meta.as_deref().map(meta::encode))?;
    }
    let sql = format!(
        "INSERT INTO work (number, life, queue, at, deliveries, once_key, data, meta) VALUES {}",
        repeat(chunk.len(), "(?,?,?,?,?,?,?,?)")
    );
    sqlx::query_with(AssertSqlSafe(sql), arguments)
        .persistent(chunk.len() == CHUNK || chunk.len() == 1)
        .execute(sqlite)
        .await?;
    Ok(())
}

async fn add_keys(sqlite: &mut SqliteConnection, keyed: &[&KeptWork]) -> Result<(), JobError> {
    let mut arguments = SqliteArguments::default();
    for each in keyed {
        add(&mut arguments, signed(each.number.0)?)?;
        add(&mut arguments, Arc::<str>::from(each.queue.as_str()))?;
        add(&mut arguments, each.publication.key.clone())?;
        add(&mut arguments, each.publication.at.0)?;
    }
    let sql = format!(
        "INSERT INTO work_keys (number, queue, once_key, at) VALUES {}",
        repeat(keyed.len(), "(?,?,?,?)")
    );
    sqlx::query_with(AssertSqlSafe(sql), arguments)
        .persistent(keyed.len() == CHUNK || keyed.len() == 1)
        .execute(sqlite)
        .await?;
    Ok(())
}

/// Runs `sql`, which ends before `IN`, for all of these numbers. `value` comes before them.
async fn with_numbers(
    sqlite: &mut SqliteConnection,
    sql: &str,
    value: Option<u32>,
    numbers: &[WorkNumber],
) -> Result<(), JobError> {
    for chunk in numbers.chunks(NUMBERS) {
        let mut arguments = SqliteArguments::default();
        if let Some(value) = value {
            add(&mut arguments, value)?;
        }
        for number in chunk {
            add(&mut arguments, signed(number.0)?)?;
        }
        let sql = format!("{sql} IN ({})", repeat(chunk.len(), "?"));
        sqlx::query_with(AssertSqlSafe(sql), arguments)
            .persistent(chunk.len() == NUMBERS || chunk.len() == 1)
            .execute(&mut *sqlite)
            .await?;
    }
    Ok(())
}

async fn load(
    sqlite: &mut SqliteConnection,
    after: i64,
    limit: i64,
) -> Result<Vec<KeptWork>, JobError> {
    let sql = "SELECT number, life, queue, at, deliveries, once_key, data, meta FROM work \
               WHERE number > ? ORDER BY number LIMIT ?";
    let mut rows = sqlx::query(sql).bind(after).bind(limit).fetch(sqlite);
    let (mut page, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.try_next().await? {
        let work = work(&row)?;
        bytes += work.publication.size_bytes();
        page.push(work);
        if bytes >= PAGE_BYTES {
            break;
        }
    }
    Ok(page)
}

fn work(row: &SqliteRow) -> Result<KeptWork, JobError> {
    let publication = Publication {
        position: Position { epoch: Epoch(0), offset: Offset(0) },
        data: Bytes::from(row.try_get::<Vec<u8>, _>(6)?),
        meta: row
            .try_get::<Option<Vec<u8>>, _>(7)?
            .and_then(|raw| meta::decode(&raw))
            .map(Arc::new),
        at: Timestamp(row.try_get(3)?),
        key: row.try_get::<Option<String>, _>(5)?.map(Arc::from),
    };
    Ok(KeptWork {
        number: number(row.try_get(0)?),
        life: Epoch(row.try_get::<i64, _>(1)?.cast_unsigned()),
        queue: queue(row.try_get(2)?)?,
        publication: Arc::new(publication),
        deliveries: u32::try_from(row.try_get::<i64, _>(4)?).unwrap_or(u32::MAX),
    })
}

async fn load_keys(
    sqlite: &mut SqliteConnection,
    after: i64,
    limit: i64,
) -> Result<Vec<WorkKey>, JobError> {
    let sql = "SELECT number, queue, once_key, at FROM work_keys \
               WHERE number > ? ORDER BY number LIMIT ?";
    let rows = sqlx::query(sql).bind(after).bind(limit).fetch_all(sqlite).await?;
    let key = |row: &SqliteRow| {
        Ok(WorkKey {
            number: number(row.try_get(0)?),
            queue: queue(row.try_get(1)?)?,
            key: Arc::from(row.try_get::<&str, _>(2)?),
            at: Timestamp(row.try_get(3)?),
        })
    };
    rows.iter().map(key).collect()
}

fn queue(name: &str) -> Result<ChannelName, JobError> {
    ChannelName::parse(name).map_err(|error| {
        let reason = format!("a work queue has a name that cannot be: {error}");
        JobError::Store(StoreError::Corrupt { reason })
    })
}

fn signed(number: u64) -> Result<i64, StoreError> {
    i64::try_from(number)
        .map_err(|_| StoreError::Failed { reason: "a number is out of range".to_owned() })
}

fn number(row: i64) -> WorkNumber {
    WorkNumber(u64::try_from(row).unwrap_or(0))
}
