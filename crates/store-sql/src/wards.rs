//! What is remembered of wards. Figures come packed and are not looked into here.
//!
//! A flush is one text with its transaction, so that it is one trip to SQLite's thread, and it appends:
//! the figures of all wards of a minute stand on the last page of their table.

use std::sync::Arc;

use async_trait::async_trait;
use naru_domain::ports::{
    StoreError, WARD_BATCH_ROWS_MAX, WARD_BODY_BYTES_MAX, WARDS_MAX, WardBatch, WardBlock,
    WardEvent, WardForget, WardHistory, WardPeak, WardPlace, WardRecord, WardResolution, WardVisit,
};
use naru_domain::{Durability, Timestamp};
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{AssertSqlSafe, Row as _};

use crate::engine::JobError;
use crate::ledger::repeat;
use crate::rows::add;
use crate::store::SqlStore;

/// Wards are numbered below this; see the migration.
const WARD_NUMBERS: i64 = WARDS_MAX + 1;
/// Rows in one statement: parameters stay far below SQLite's 32,766.
const CHUNK: usize = 256;
/// Rows of one answer.
const ROWS_MAX: usize = 10_000;

#[async_trait]
impl WardHistory for SqlStore {
    async fn load_records(&self) -> Result<Vec<WardRecord>, StoreError> {
        let record = |row: &SqliteRow| {
            Ok(WardRecord {
                ward: text(row, 0)?,
                part: text(row, 1)?,
                body: text(row, 2)?,
                at: Timestamp(row.try_get(3)?),
            })
        };
        self.engine
            .read_patiently(move |c| {
                Box::pin(async move {
                    let sql = "SELECT w.name, r.part, r.body, r.at FROM ward_records r \
                               JOIN wards w ON w.number = r.ward ORDER BY w.name, r.part";
                    sqlx::query(sql).fetch_all(c).await?.iter().map(record).collect()
                })
            })
            .await
    }

    async fn save_record(&self, record: &WardRecord) -> Result<(), StoreError> {
        let batch = WardBatch { records: vec![record.clone()], ..WardBatch::default() };
        self.flush(Arc::new(batch), Durability::Disk).await
    }

    async fn remove_records(&self, ward: &str) -> Result<(), StoreError> {
        let ward = ward.to_owned();
        self.engine
            .write(Durability::Disk, move |c| {
                Box::pin(async move {
                    let sql = "DELETE FROM ward_records \
                               WHERE ward = (SELECT number FROM wards WHERE name = ?)";
                    sqlx::query(sql).bind(ward).execute(c).await?;
                    Ok(())
                })
            })
            .await
    }

    async fn flush(&self, batch: Arc<WardBatch>, durability: Durability) -> Result<(), StoreError> {
        if batch.is_empty() {
            return Ok(());
        }
        check(&batch)?;
        let Text { sql, arguments } = whole(&batch)?;
        self.engine
            .write_bare(durability, move |c| {
                Box::pin(async move {
                    sqlx::query_with(AssertSqlSafe(sql), arguments)
                        .persistent(false)
                        .execute(c)
                        .await?;
                    Ok(())
                })
            })
            .await
            .map_err(|error| self.engine.explain(error))
    }

    async fn blocks(
        &self,
        ward: &str,
        resolution: WardResolution,
        from: Timestamp,
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<WardBlock>, StoreError> {
        let name: Arc<str> = Arc::from(ward);
        let (first, end, limit) = (first_key(from), first_key(until), rows(limit));
        self.engine
            .read(move |c| {
                Box::pin(async move {
                    let bound = Arc::clone(&name);
                    let found = sqlx::query(select_blocks(resolution))
                        .bind(first)
                        .bind(end)
                        .bind(bound.as_ref())
                        .bind(limit)
                        .fetch_all(c)
                        .await?;
                    found.iter().map(|row| block(row, &name, resolution)).collect()
                })
            })
            .await
    }

    async fn events(
        &self,
        ward: Option<&str>,
        before: Option<WardPlace>,
        limit: usize,
    ) -> Result<Vec<WardEvent>, StoreError> {
        let sql = match ward {
            Some(_) => {
                "SELECT e.id, w.name, e.kind, e.body FROM wards w JOIN ward_events e \
                 ON e.ward = w.number WHERE e.id < ? AND w.name = ? ORDER BY e.id DESC LIMIT ?"
            }
            None => {
                "SELECT e.id, w.name, e.kind, e.body FROM ward_events e JOIN wards w \
                 ON w.number = e.ward WHERE e.id < ? AND ? IS NULL ORDER BY e.id DESC LIMIT ?"
            }
        };
        self.newest_first(sql, ward, before, limit, event).await
    }

    async fn visits(
        &self,
        ward: Option<&str>,
        before: Option<WardPlace>,
        limit: usize,
    ) -> Result<Vec<WardVisit>, StoreError> {
        let sql = match ward {
            Some(_) => {
                "SELECT v.id, w.name, v.name, v.player, v.seen, v.left_at FROM wards w \
                 JOIN ward_visits v ON v.ward = w.number WHERE v.id < ? AND w.name = ? \
                 ORDER BY v.id DESC LIMIT ?"
            }
            None => {
                "SELECT v.id, w.name, v.name, v.player, v.seen, v.left_at FROM ward_visits v \
                 JOIN wards w ON w.number = v.ward WHERE v.id < ? AND ? IS NULL \
                 ORDER BY v.id DESC LIMIT ?"
            }
        };
        self.newest_first(sql, ward, before, limit, visit).await
    }

    async fn open_visits(&self, ward: &str, limit: usize) -> Result<Vec<WardVisit>, StoreError> {
        let (ward, limit) = (ward.to_owned(), rows(limit));
        self.engine
            .read(move |c| {
                Box::pin(async move {
                    let sql = "SELECT v.id, w.name, v.name, v.player, v.seen, v.left_at \
                               FROM wards w JOIN ward_visits v ON v.ward = w.number \
                               WHERE w.name = ? AND v.left_at IS NULL ORDER BY v.id LIMIT ?";
                    let query = sqlx::query(sql).bind(ward).bind(limit);
                    query.fetch_all(c).await?.iter().map(visit).collect()
                })
            })
            .await
    }

    async fn peaks(&self, ward: &str) -> Result<Vec<WardPeak>, StoreError> {
        let ward = ward.to_owned();
        self.engine
            .read(move |c| {
                Box::pin(async move {
                    let sql = "SELECT w.name, p.series, p.value, p.at FROM wards w \
                               JOIN ward_peaks p ON p.ward = w.number WHERE w.name = ? \
                               ORDER BY p.series";
                    sqlx::query(sql).bind(ward).fetch_all(c).await?.iter().map(peak).collect()
                })
            })
            .await
    }

    async fn forget(
        &self,
        what: WardForget,
        before: Timestamp,
        limit: u16,
    ) -> Result<usize, StoreError> {
        let removed = self
            .engine
            .write(Durability::Os, move |c| {
                Box::pin(async move {
                    let query = sqlx::query(delete(what)).bind(delete_key(what, before));
                    Ok(query.bind(limit).execute(c).await?.rows_affected())
                })
            })
            .await?;
        self.engine.metrics.purged.add(removed);
        Ok(usize::try_from(removed).unwrap_or(usize::MAX))
    }
}

impl SqlStore {
    async fn newest_first<T: Send + 'static>(
        &self,
        sql: &'static str,
        ward: Option<&str>,
        before: Option<WardPlace>,
        limit: usize,
        read: fn(&SqliteRow) -> Result<T, JobError>,
    ) -> Result<Vec<T>, StoreError> {
        let (ward, limit) = (ward.map(str::to_owned), rows(limit));
        let before = before.map_or(i64::MAX, |place| place.0);
        self.engine
            .read(move |c| {
                Box::pin(async move {
                    let query = sqlx::query(sql).bind(before).bind(ward).bind(limit);
                    query.fetch_all(c).await?.iter().map(read).collect()
                })
            })
            .await
    }
}

/// Refuses what would hold the writer too long; a defect of the caller.
fn check(batch: &WardBatch) -> Result<(), StoreError> {
    let WardBatch { records, blocks, events, visits, peaks, forget } = batch;
    let lengths = [
        records.len(),
        blocks.len(),
        events.len(),
        visits.len(),
        peaks.len(),
        // What is forgotten is bounded by its own count.
        forget.len(),
    ];
    let bodies = records.iter().map(|record| record.body.len());
    let bodies = bodies.chain(blocks.iter().map(|block| block.data.len()));
    let largest = bodies.chain(events.iter().map(|event| event.body.len())).max();
    if lengths.into_iter().any(|rows| rows > WARD_BATCH_ROWS_MAX) {
        return Err(StoreError::Failed { reason: "a batch of wards is too large".to_owned() });
    }
    if largest.is_some_and(|bytes| bytes > WARD_BODY_BYTES_MAX) {
        return Err(StoreError::Failed { reason: "a body of a ward is too large".to_owned() });
    }
    Ok(())
}

/// Statements with their parameters, in one text.
struct Text {
    sql: String,
    arguments: SqliteArguments,
}

impl Text {
    /// `before VALUES (..),(..) after;` for chunks of `rows`, each with `columns` parameters.
    fn rows<T>(
        &mut self,
        rows: &[T],
        (before, columns, after): (&str, &str, &str),
        bind: impl Fn(&mut SqliteArguments, &T) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        for chunk in rows.chunks(CHUNK) {
            self.sql.push_str(before);
            self.sql.push_str("(VALUES ");
            self.sql.push_str(&repeat(chunk.len(), columns));
            self.sql.push_str(") v ");
            self.sql.push_str(after);
            self.sql.push(';');
            for row in chunk {
                bind(&mut self.arguments, row)?;
            }
        }
        Ok(())
    }
}

fn whole(batch: &WardBatch) -> Result<Text, StoreError> {
    let mut text =
        Text { sql: "BEGIN IMMEDIATE;".to_owned(), arguments: SqliteArguments::default() };
    text.rows(
        &names(batch),
        // A row that is known is left out before it is tried: nothing is written for it.
        (
            "INSERT INTO wards (name) SELECT column1 FROM ",
            "(?)",
            "WHERE column1 NOT IN (SELECT name FROM wards)",
        ),
        |arguments, name| add(arguments, name.clone()),
    )?;
    text.rows(
        &batch.records,
        (
            "INSERT INTO ward_records (ward, part, body, at) \
             SELECT w.number, v.column2, v.column3, v.column4 FROM ",
            "(?,?,?,?)",
            "JOIN wards w ON w.name = v.column1 WHERE true ON CONFLICT (ward, part) \
             DO UPDATE SET body = excluded.body, at = excluded.at",
        ),
        |arguments, record| {
            add(arguments, record.ward.clone())?;
            add(arguments, record.part.clone())?;
            add(arguments, record.body.clone())?;
            add(arguments, record.at.0)
        },
    )?;
    for resolution in WardResolution::ALL {
        let of_it = batch.blocks.iter().filter(|block| block.resolution == resolution);
        text.rows(
            &of_it.collect::<Vec<_>>(),
            (insert_blocks(resolution), "(?,?,?)", "JOIN wards w ON w.name = v.column1 ORDER BY 1"),
            |arguments, block| {
                add(arguments, block.ward.clone())?;
                add(arguments, first_key(block.start))?;
                add(arguments, block.data.to_vec())
            },
        )?;
    }
    happenings(&mut text, batch)?;
    for (what, before, limit) in &batch.forget {
        text.sql.push_str(delete(*what));
        text.sql.push(';');
        add(&mut text.arguments, delete_key(*what, *before))?;
        add(&mut text.arguments, i64::from(*limit))?;
    }
    text.sql.push_str("COMMIT");
    Ok(text)
}

fn happenings(text: &mut Text, batch: &WardBatch) -> Result<(), StoreError> {
    text.rows(
        &batch.events,
        (
            "INSERT OR IGNORE INTO ward_events (id, ward, kind, body) \
             SELECT v.column2, w.number, v.column3, v.column4 FROM ",
            "(?,?,?,?)",
            "JOIN wards w ON w.name = v.column1",
        ),
        |arguments, event| {
            add(arguments, event.ward.clone())?;
            add(arguments, event.place.0)?;
            add(arguments, event.kind.clone())?;
            add(arguments, event.body.clone())
        },
    )?;
    text.rows(
        &batch.visits,
        (
            "INSERT INTO ward_visits (id, ward, name, player, seen, left_at) \
             SELECT v.column2, w.number, v.column3, v.column4, v.column5, v.column6 FROM ",
            "(?,?,?,?,?,?)",
            "JOIN wards w ON w.name = v.column1 WHERE true ON CONFLICT (id) DO UPDATE SET \
             name = excluded.name, player = excluded.player, seen = excluded.seen, \
             left_at = excluded.left_at",
        ),
        |arguments, visit| {
            add(arguments, visit.ward.clone())?;
            add(arguments, visit.place.0)?;
            add(arguments, visit.name.clone())?;
            add(arguments, visit.player.clone())?;
            add(arguments, visit.seen.0)?;
            add(arguments, visit.left.map(|at| at.0))
        },
    )?;
    text.rows(
        &batch.peaks,
        (
            "INSERT INTO ward_peaks (ward, series, value, at) \
             SELECT w.number, v.column2, v.column3, v.column4 FROM ",
            "(?,?,?,?)",
            "JOIN wards w ON w.name = v.column1 WHERE true ON CONFLICT (ward, series) \
             DO UPDATE SET value = excluded.value, at = excluded.at \
             WHERE excluded.value > ward_peaks.value",
        ),
        |arguments, peak| {
            add(arguments, peak.ward.clone())?;
            add(arguments, peak.series)?;
            add(arguments, peak.value)?;
            add(arguments, peak.at.0)
        },
    )
}

/// The names in a batch, each once.
fn names(batch: &WardBatch) -> Vec<Arc<str>> {
    let mut names: Vec<Arc<str>> = Vec::new();
    names.extend(batch.records.iter().map(|each| each.ward.clone()));
    names.extend(batch.blocks.iter().map(|each| each.ward.clone()));
    names.extend(batch.events.iter().map(|each| each.ward.clone()));
    names.extend(batch.visits.iter().map(|each| each.ward.clone()));
    names.extend(batch.peaks.iter().map(|each| each.ward.clone()));
    names.sort();
    names.dedup();
    names
}

/// The key of the first block that can begin in the second of `at`.
fn first_key(at: Timestamp) -> i64 {
    at.0.div_euclid(1_000).saturating_mul(WARD_NUMBERS)
}

fn rows(limit: usize) -> i64 {
    i64::try_from(limit.min(ROWS_MAX)).unwrap_or(0)
}

fn insert_blocks(resolution: WardResolution) -> &'static str {
    match resolution {
        WardResolution::Raw => {
            "INSERT OR REPLACE INTO ward_blocks (id, data) \
             SELECT v.column2 + w.number, v.column3 FROM "
        }
        WardResolution::FiveMinutes => {
            "INSERT OR REPLACE INTO ward_five_minutes (id, data) \
             SELECT v.column2 + w.number, v.column3 FROM "
        }
        WardResolution::Hour => {
            "INSERT OR REPLACE INTO ward_hours (id, data) \
             SELECT v.column2 + w.number, v.column3 FROM "
        }
    }
}

/// Walks the blocks of all wards in the range: the key alone tells whose each is, and those of other
/// wards are not read further.
fn select_blocks(resolution: WardResolution) -> &'static str {
    match resolution {
        WardResolution::Raw => {
            "SELECT id, data FROM ward_blocks WHERE id >= ? AND id < ? \
             AND id & 4095 = (SELECT number FROM wards WHERE name = ?) ORDER BY id LIMIT ?"
        }
        WardResolution::FiveMinutes => {
            "SELECT id, data FROM ward_five_minutes WHERE id >= ? AND id < ? \
             AND id & 4095 = (SELECT number FROM wards WHERE name = ?) ORDER BY id LIMIT ?"
        }
        WardResolution::Hour => {
            "SELECT id, data FROM ward_hours WHERE id >= ? AND id < ? \
             AND id & 4095 = (SELECT number FROM wards WHERE name = ?) ORDER BY id LIMIT ?"
        }
    }
}

fn delete(what: WardForget) -> &'static str {
    match what {
        WardForget::Blocks(WardResolution::Raw) => {
            "DELETE FROM ward_blocks WHERE id IN \
             (SELECT id FROM ward_blocks WHERE id < ? ORDER BY id LIMIT ?)"
        }
        WardForget::Blocks(WardResolution::FiveMinutes) => {
            "DELETE FROM ward_five_minutes WHERE id IN \
             (SELECT id FROM ward_five_minutes WHERE id < ? ORDER BY id LIMIT ?)"
        }
        WardForget::Blocks(WardResolution::Hour) => {
            "DELETE FROM ward_hours WHERE id IN \
             (SELECT id FROM ward_hours WHERE id < ? ORDER BY id LIMIT ?)"
        }
        WardForget::Events => {
            "DELETE FROM ward_events WHERE id IN \
             (SELECT id FROM ward_events WHERE id < ? ORDER BY id LIMIT ?)"
        }
        WardForget::Visits => {
            "DELETE FROM ward_visits WHERE id IN (SELECT id FROM ward_visits \
             WHERE id < ? AND left_at IS NOT NULL ORDER BY id LIMIT ?)"
        }
    }
}

/// Everything with a smaller key is older.
fn delete_key(what: WardForget, before: Timestamp) -> i64 {
    match what {
        WardForget::Blocks(_) => first_key(before),
        WardForget::Events | WardForget::Visits => WardPlace::first_at(before).0,
    }
}

fn text(row: &SqliteRow, column: usize) -> Result<Arc<str>, JobError> {
    Ok(Arc::from(row.try_get::<&str, _>(column)?))
}

fn block(
    row: &SqliteRow,
    ward: &Arc<str>,
    resolution: WardResolution,
) -> Result<WardBlock, JobError> {
    let id: i64 = row.try_get(0)?;
    Ok(WardBlock {
        ward: Arc::clone(ward),
        resolution,
        start: Timestamp(id.div_euclid(WARD_NUMBERS).saturating_mul(1_000)),
        data: Arc::from(row.try_get::<&[u8], _>(1)?),
    })
}

fn event(row: &SqliteRow) -> Result<WardEvent, JobError> {
    Ok(WardEvent {
        place: WardPlace(row.try_get(0)?),
        ward: text(row, 1)?,
        kind: text(row, 2)?,
        body: text(row, 3)?,
    })
}

fn visit(row: &SqliteRow) -> Result<WardVisit, JobError> {
    Ok(WardVisit {
        place: WardPlace(row.try_get(0)?),
        ward: text(row, 1)?,
        name: text(row, 2)?,
        player: row.try_get::<Option<&str>, _>(3)?.map(Arc::from),
        seen: Timestamp(row.try_get(4)?),
        left: row.try_get::<Option<i64>, _>(5)?.map(Timestamp),
    })
}

fn peak(row: &SqliteRow) -> Result<WardPeak, JobError> {
    Ok(WardPeak {
        ward: text(row, 0)?,
        series: row.try_get(1)?,
        value: row.try_get(2)?,
        at: Timestamp(row.try_get(3)?),
    })
}
