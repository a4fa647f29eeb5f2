//! History of channels that outlives the process.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use naru_domain::ports::{History, StoreError};
use naru_domain::{ChannelName, Durability, Epoch, Offset, Position, Publication, Timestamp};
use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Row as _};

use crate::engine::JobError;
use crate::ledger::repeat;
use crate::publication_meta as meta;
use crate::rows::{self, add};
use crate::store::SqlStore;

/// Publications in one statement at the most. A batch is cut into powers of two, so that there are few
/// statements, each prepared once.
const CHUNK: usize = 64;

#[async_trait]
impl History for SqlStore {
    async fn append(
        &self,
        publications: &[(ChannelName, Arc<Publication>)],
        forget: &[(ChannelName, Offset)],
        durability: Durability,
    ) -> Result<(), StoreError> {
        if publications.is_empty() && forget.is_empty() {
            return Ok(());
        }
        let publications = publications.to_vec();
        let forget: Result<Vec<(ChannelName, i64)>, StoreError> = forget
            .iter()
            .map(|(channel, up_to)| Ok((channel.clone(), rows::place(*up_to)?)))
            .collect();
        let forget = forget?;
        self.engine
            .write(durability, move |c| {
                Box::pin(async move {
                    append(c, publications).await?;
                    for (channel, up_to) in forget {
                        trim(c, &channel, up_to).await?;
                    }
                    Ok(())
                })
            })
            .await
    }

    async fn load(
        &self,
        channel: &ChannelName,
        after: Offset,
        limit: usize,
    ) -> Result<Option<(Epoch, Offset, Vec<Arc<Publication>>)>, StoreError> {
        let after = rows::place(after)?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let channel = channel.clone();
        self.engine
            .read(move |c| Box::pin(async move { load(c, &channel, after, limit).await }))
            .await
    }

    async fn first_epoch(&self, proposed: Epoch) -> Result<Epoch, StoreError> {
        self.engine
            .write(Durability::Os, move |c| {
                Box::pin(async move {
                    let sql = "INSERT INTO marks (name, value) VALUES ('first epoch', ?) \
                               ON CONFLICT (name) DO NOTHING";
                    sqlx::query(sql).bind(proposed.0.cast_signed()).execute(&mut *c).await?;
                    let sql = "SELECT value FROM marks WHERE name = 'first epoch'";
                    let kept: i64 = sqlx::query_scalar(sql).fetch_one(c).await?;
                    Ok(Epoch(kept.cast_unsigned()))
                })
            })
            .await
    }

    async fn trim(&self, channel: &ChannelName, up_to: Offset) -> Result<(), StoreError> {
        let up_to = rows::place(up_to)?;
        let channel = channel.clone();
        self.engine
            .write(Durability::Os, move |c| Box::pin(async move { trim(c, &channel, up_to).await }))
            .await
    }
}

async fn append(
    sqlite: &mut SqliteConnection,
    publications: Vec<(ChannelName, Arc<Publication>)>,
) -> Result<(), JobError> {
    let mut tops: HashMap<&ChannelName, Position> = HashMap::new();
    for (channel, publication) in &publications {
        tops.insert(channel, publication.position);
    }
    let tops: Vec<_> = tops.into_iter().collect();
    let keys = channel_keys(sqlite, &tops).await?;
    for chunk in chunks(&publications) {
        let mut arguments = SqliteArguments::default();
        for (channel, publication) in chunk {
            add(&mut arguments, keys.get(channel.as_str()).copied())?;
            add(&mut arguments, rows::place(publication.position.offset)?)?;
            add(&mut arguments, publication.at.0)?;
            add(&mut arguments, publication.key.clone())?;
            add(&mut arguments, publication.data.to_vec())?;
            add(&mut arguments, publication.meta.as_deref().map(meta::encode))?;
        }
        // The same place again is the same publication, tried again after an unclear outcome.
        let sql = format!(
            "INSERT INTO publications (channel, place, at, once_key, data, meta) VALUES {} \
             ON CONFLICT (channel, place) DO NOTHING",
            repeat(chunk.len(), "(?,?,?,?,?,?)")
        );
        sqlx::query_with(AssertSqlSafe(sql), arguments).execute(&mut *sqlite).await?;
    }
    Ok(())
}

async fn trim(
    sqlite: &mut SqliteConnection,
    channel: &ChannelName,
    up_to: i64,
) -> Result<(), JobError> {
    let sql = "DELETE FROM publications WHERE place <= ? \
               AND channel = (SELECT key FROM channels WHERE name = ?)";
    sqlx::query(sql).bind(up_to).bind(channel.as_str()).execute(sqlite).await?;
    Ok(())
}

/// A batch in pieces of few sizes.
fn chunks<T>(mut rest: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let size = CHUNK.min(1 << rest.len().checked_ilog2()?);
        let (chunk, others) = rest.split_at(size);
        rest = others;
        Some(chunk)
    })
}

/// The numbers of channels, with their tops moved. A new epoch is a new life: what was kept of the old
/// one is forgotten.
async fn channel_keys(
    sqlite: &mut SqliteConnection,
    tops: &[(&ChannelName, Position)],
) -> Result<HashMap<String, i64>, JobError> {
    let mut keys = HashMap::with_capacity(tops.len());
    for chunk in chunks(tops) {
        let mut arguments = SqliteArguments::default();
        for (channel, top) in chunk {
            add(&mut arguments, channel.as_str().to_owned())?;
            // Epochs use all 64 bits; the database keeps the same bits with a sign.
            add(&mut arguments, top.epoch.0.cast_signed())?;
            add(&mut arguments, rows::place(top.offset)?)?;
        }
        let sql = format!(
            "INSERT INTO channels (name, epoch, top) VALUES {} ON CONFLICT (name) DO UPDATE SET top = \
             CASE WHEN epoch = excluded.epoch THEN max(top, excluded.top) ELSE top END \
             RETURNING key, name, epoch",
            repeat(chunk.len(), "(?,?,?)")
        );
        let query = sqlx::query_as_with(AssertSqlSafe(sql), arguments);
        let known: Vec<(i64, String, i64)> = query.fetch_all(&mut *sqlite).await?;
        for (key, name, epoch) in known {
            let top = chunk.iter().find(|(channel, _)| channel.as_str() == name);
            if let Some((_, top)) = top.filter(|(_, top)| top.epoch.0.cast_signed() != epoch) {
                begin_anew(sqlite, key, *top).await?;
            }
            keys.insert(name, key);
        }
    }
    Ok(keys)
}

async fn begin_anew(
    sqlite: &mut SqliteConnection,
    key: i64,
    top: Position,
) -> Result<(), JobError> {
    sqlx::query("DELETE FROM publications WHERE channel = ?")
        .bind(key)
        .execute(&mut *sqlite)
        .await?;
    sqlx::query("UPDATE channels SET epoch = ?, top = ? WHERE key = ?")
        .bind(top.epoch.0.cast_signed())
        .bind(rows::place(top.offset)?)
        .bind(key)
        .execute(sqlite)
        .await?;
    Ok(())
}

type Loaded = Option<(Epoch, Offset, Vec<Arc<Publication>>)>;

async fn load(
    sqlite: &mut SqliteConnection,
    channel: &ChannelName,
    after: i64,
    limit: i64,
) -> Result<Loaded, JobError> {
    // One moment for both statements, or a publication could appear above the top.
    sqlx::query("BEGIN").execute(&mut *sqlite).await?;
    let loaded = load_snapshot(sqlite, channel, after, limit).await;
    sqlx::query("ROLLBACK").execute(sqlite).await?;
    loaded
}

async fn load_snapshot(
    sqlite: &mut SqliteConnection,
    channel: &ChannelName,
    after: i64,
    limit: i64,
) -> Result<Loaded, JobError> {
    let sql = "SELECT key, epoch, top FROM channels WHERE name = ?";
    let known: Option<(i64, i64, i64)> =
        sqlx::query_as(sql).bind(channel.as_str()).fetch_optional(&mut *sqlite).await?;
    let Some((key, epoch, top)) = known else { return Ok(None) };
    let epoch = Epoch(epoch.cast_unsigned());
    let sql = "SELECT place, at, once_key, data, meta FROM publications \
               WHERE channel = ? AND place > ? ORDER BY place LIMIT ?";
    let rows = sqlx::query(sql).bind(key).bind(after).bind(limit).fetch_all(sqlite).await?;
    let publications = rows.iter().map(|row| publication(row, epoch));
    let publications = publications.collect::<Result<Vec<_>, sqlx::Error>>()?;
    Ok(Some((epoch, rows::offset(top), publications)))
}

fn publication(row: &SqliteRow, epoch: Epoch) -> Result<Arc<Publication>, sqlx::Error> {
    let position = Position { epoch, offset: rows::offset(row.try_get(0)?) };
    Ok(Arc::new(Publication {
        position,
        data: Bytes::from(row.try_get::<Vec<u8>, _>(3)?),
        meta: row
            .try_get::<Option<Vec<u8>>, _>(4)?
            .and_then(|raw| meta::decode(&raw))
            .map(Arc::new),
        at: Timestamp(row.try_get(1)?),
        key: row.try_get::<Option<String>, _>(2)?.map(Arc::from),
    }))
}
