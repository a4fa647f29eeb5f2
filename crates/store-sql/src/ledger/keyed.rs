//! Sends that were asked for with a key: kept with their replies, found again when they are asked for again.

use naru_domain::DeviceKey;
use naru_domain::ports::StoreError;
use naru_domain::work::KeyedSend;
use sqlx::sqlite::SqliteConnection;

use crate::engine::JobError;
use crate::rows;
use crate::store::SqlStore;

/// Keeps one. What is kept already stays: either the batch is tried again, or the key was used before.
pub(super) async fn keep(sqlite: &mut SqliteConnection, send: KeyedSend) -> Result<(), JobError> {
    let sql = "INSERT INTO send_keys (device, once_key, first_place, places, at) \
               VALUES (?, ?, ?, ?, ?) ON CONFLICT (device, once_key) DO NOTHING";
    sqlx::query(sql)
        .bind(send.device.0)
        .bind(String::from(send.key))
        .bind(i64::try_from(send.first.0).unwrap_or(i64::MAX))
        .bind(i64::from(send.count))
        .bind(send.at.0)
        .execute(sqlite)
        .await?;
    Ok(())
}

pub(super) async fn find(
    store: &SqlStore,
    device: DeviceKey,
    key: &str,
) -> Result<Option<KeyedSend>, StoreError> {
    let asked = key.to_owned();
    let found: Option<(i64, i64, i64)> = store
        .engine
        .read(move |c| {
            Box::pin(async move {
                let sql = "SELECT first_place, places, at FROM send_keys \
                           WHERE device = ? AND once_key = ?";
                Ok(sqlx::query_as(sql).bind(device.0).bind(asked).fetch_optional(c).await?)
            })
        })
        .await?;
    Ok(found.map(|(first, places, at)| KeyedSend {
        device,
        key: key.into(),
        first: rows::offset(first),
        count: u32::try_from(places).unwrap_or(0),
        at: naru_domain::Timestamp(at),
    }))
}
