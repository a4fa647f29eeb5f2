//! Figures kept over time: keep-alive answers and looks at the system.

use async_trait::async_trait;
use naru_domain::phone::KeepAlive;
use naru_domain::ports::{Monitors, StoreError};
use naru_domain::work::{Page, PingSample, SystemSample};
use naru_domain::{DeviceKey, Durability, Timestamp};
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{AssertSqlSafe, Row as _};

use crate::engine::JobError;
use crate::ledger::repeat;
use crate::places::limit_of;
use crate::rows::add;
use crate::store::SqlStore;

/// Samples in one statement.
const CHUNK: usize = 64;

#[async_trait]
impl Monitors for SqlStore {
    async fn add_pings(&self, samples: &[PingSample]) -> Result<(), StoreError> {
        if samples.is_empty() {
            return Ok(());
        }
        let mut statements = Vec::new();
        for chunk in samples.chunks(CHUNK) {
            let mut arguments = SqliteArguments::default();
            for sample in chunk {
                add_ping(&mut arguments, sample)?;
            }
            statements.push((chunk.len(), arguments));
        }
        self.engine
            .write(Durability::Os, move |c| {
                Box::pin(async move {
                    for (rows, arguments) in statements {
                        let sql = format!(
                            "INSERT INTO pings (device, at, round_trip_ms, sent_at, \
                             memory_total_mb, memory_used_mb, memory_percent, queued_frames, \
                             active_rooms) VALUES {}",
                            repeat(rows, "(?,?,?,?,?,?,?,?,?)")
                        );
                        sqlx::query_with(AssertSqlSafe(sql), arguments)
                            .persistent(rows == CHUNK)
                            .execute(&mut *c)
                            .await?;
                    }
                    Ok(())
                })
            })
            .await
    }

    async fn pings(
        &self,
        device: DeviceKey,
        since: Timestamp,
        limit: usize,
    ) -> Result<Vec<PingSample>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.engine
            .read(move |c| {
                Box::pin(async move {
                    let sql = "SELECT device, at, round_trip_ms, sent_at, memory_total_mb, \
                               memory_used_mb, memory_percent, queued_frames, active_rooms \
                               FROM pings WHERE device = ? AND at >= ? ORDER BY at, id LIMIT ?";
                    let query = sqlx::query(sql).bind(device.0).bind(since.0).bind(limit);
                    query.fetch_all(c).await?.iter().map(read_ping).collect()
                })
            })
            .await
    }

    async fn add_system_sample(&self, sample: &SystemSample) -> Result<(), StoreError> {
        let sample = sample.clone();
        self.engine
            .write(Durability::Os, move |c| {
                Box::pin(async move {
                    let sql = "INSERT INTO system_samples (at, node, cpu_percent, \
                               process_cpu_percent, memory_total, memory_used, process_memory, \
                               disk_percent, connections, queued) \
                               VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
                    sqlx::query(sql)
                        .bind(sample.at.0)
                        .bind(sample.node)
                        .bind(finite(sample.cpu_percent))
                        .bind(finite(sample.process_cpu_percent))
                        .bind(sample.memory_total)
                        .bind(sample.memory_used)
                        .bind(sample.process_memory)
                        .bind(finite(sample.disk_percent))
                        .bind(sample.connections)
                        .bind(sample.queued)
                        .execute(c)
                        .await?;
                    Ok(())
                })
            })
            .await
    }

    async fn system_samples(
        &self,
        since: Timestamp,
        limit: usize,
    ) -> Result<Vec<SystemSample>, StoreError> {
        let limit = limit_of(Page { after: None, limit });
        self.engine
            .read(move |c| {
                Box::pin(async move {
                    let sql = "SELECT at, node, cpu_percent, process_cpu_percent, memory_total, \
                               memory_used, process_memory, disk_percent, connections, queued \
                               FROM system_samples WHERE at >= ? ORDER BY at, id LIMIT ?";
                    let query = sqlx::query(sql).bind(since.0).bind(limit);
                    query.fetch_all(c).await?.iter().map(read_system).collect()
                })
            })
            .await
    }
}

fn add_ping(arguments: &mut SqliteArguments, sample: &PingSample) -> Result<(), StoreError> {
    let figures = &sample.figures;
    add(arguments, sample.device.0)?;
    add(arguments, sample.at.0)?;
    add(arguments, sample.round_trip_ms)?;
    add(arguments, figures.sent_at.map(|at| at.0))?;
    for figure in [figures.memory_total_mb, figures.memory_used_mb, figures.memory_percent] {
        // SQLite has no "not a number": it would come back as NULL anyway.
        add(arguments, figure.filter(|figure| figure.is_finite()))?;
    }
    add(arguments, figures.queued_frames)?;
    add(arguments, figures.active_rooms)
}

/// A figure that the column takes: it may not be NULL, which SQLite makes of "not a number".
fn finite(figure: f64) -> f64 {
    if figure.is_finite() { figure } else { 0.0 }
}

fn read_ping(row: &SqliteRow) -> Result<PingSample, JobError> {
    Ok(PingSample {
        device: DeviceKey(row.try_get(0)?),
        at: Timestamp(row.try_get(1)?),
        round_trip_ms: row.try_get(2)?,
        figures: KeepAlive {
            sent_at: row.try_get::<Option<i64>, _>(3)?.map(Timestamp),
            memory_total_mb: row.try_get(4)?,
            memory_used_mb: row.try_get(5)?,
            memory_percent: row.try_get(6)?,
            queued_frames: row.try_get(7)?,
            active_rooms: row.try_get(8)?,
        },
    })
}

fn read_system(row: &SqliteRow) -> Result<SystemSample, JobError> {
    Ok(SystemSample {
        at: Timestamp(row.try_get(0)?),
        node: row.try_get(1)?,
        cpu_percent: row.try_get(2)?,
        process_cpu_percent: row.try_get(3)?,
        memory_total: row.try_get(4)?,
        memory_used: row.try_get(5)?,
        process_memory: row.try_get(6)?,
        disk_percent: row.try_get(7)?,
        connections: row.try_get(8)?,
        queued: row.try_get(9)?,
    })
}
