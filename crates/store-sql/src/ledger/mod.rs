//! Accepting messages and keeping what became of them, in group commits: the store's hot path.
//!
//! A batch usually is one text with all its rows ([`statements`]). When one of its rows is known already
//! the whole is rolled back, what is known is looked up, and the rest is committed.

mod keyed;
mod known;
mod recover;
mod statements;

use std::collections::HashMap;
use std::time::Instant;

use async_trait::async_trait;
use naru_domain::ports::{Ledger, StoreError};
use naru_domain::work::{
    KeyedSend, LedgerBatch, LedgerReceipt, MessageRecord, MessageState, Recovered, ReplyRecord,
    Settlement,
};
use naru_domain::{DeviceKey, Durability, MessageId};
use sqlx::sqlite::{SqliteArguments, SqliteConnection};

use crate::engine::JobError;
use crate::keys::MasterKeys;
use crate::rows::{self, add};
use crate::sqlite::is_unique_violation;
use crate::store::SqlStore;
use statements::{MESSAGE_COLUMNS, REPLY_COLUMNS, ROWS_MAX, STREAM_COLUMNS};

pub(crate) use known::repeat;
pub(crate) use recover::Marks;

#[async_trait]
impl Ledger for SqlStore {
    async fn commit(
        &self,
        batch: &LedgerBatch,
        durability: Durability,
    ) -> Result<LedgerReceipt, StoreError> {
        if batch.is_empty() {
            return Ok(LedgerReceipt::default());
        }
        let started = Instant::now();
        let encoded = Encoded::of(batch, self.engine.options.encryption.as_ref())?;
        let whole = self.engine.write_bare(durability, move |c| Box::pin(encoded.commit(c))).await;
        let receipt = match whole {
            Ok(()) => LedgerReceipt::default(),
            Err(JobError::Sql(error)) if is_unique_violation(&error) => {
                self.engine.metrics.repeated_commits.increment();
                self.commit_unknown(batch, durability).await?
            }
            Err(error) => return Err(self.engine.explain(error)),
        };
        self.count(batch, &receipt, started);
        Ok(receipt)
    }

    async fn recover(&self) -> Result<Recovered, StoreError> {
        recover::recover(self).await
    }

    async fn revive(&self, message: MessageId) -> Result<MessageRecord, StoreError> {
        recover::revive(self, message).await
    }

    async fn keyed_send(
        &self,
        device: DeviceKey,
        key: &str,
    ) -> Result<Option<KeyedSend>, StoreError> {
        keyed::find(self, device, key).await
    }
}

impl SqlStore {
    fn count(&self, batch: &LedgerBatch, receipt: &LedgerReceipt, started: Instant) {
        let metrics = &self.engine.metrics;
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        let replies = batch.settle.iter().map(|settlement| settlement.replies.len()).sum();
        let accepted = count(batch.accept.len().saturating_sub(receipt.duplicates.len()));
        metrics.commits.increment();
        metrics.commit_seconds.observe(started.elapsed());
        metrics.messages.add(accepted);
        metrics.replies.add(count(replies));
        metrics.settlements.add(count(batch.settle.len()));
        metrics.duplicates.add(count(receipt.duplicates.len()));
        let rows = batch.accept.len() + batch.settle.len() + replies + batch.delivered.len();
        metrics.batch_rows_last.set(i64::try_from(rows).unwrap_or(i64::MAX));
        if self.marks.are_due(accepted) {
            let (marks, engine) = (self.marks.clone(), self.engine.clone());
            self.engine.in_background(async move {
                if let Err(error) = marks.advance(&engine).await {
                    // Only the next start gets slower.
                    tracing::debug!(target: "naru::store", %error, "marks not advanced");
                }
            });
        }
    }
}

/// A batch as the parameters of its statements.
pub(super) struct Encoded {
    /// Texts of up to [`ROWS_MAX`] rows of each kind.
    parts: Vec<(usize, SqliteArguments)>,
    /// Messages of earlier batches that ended other than well: few, so one statement each.
    odd: Vec<(MessageId, MessageState, Box<str>)>,
    /// Sends with keys: few as well.
    keyed: Vec<KeyedSend>,
}

impl Encoded {
    pub(super) fn of(
        batch: &LedgerBatch,
        keys: Option<&MasterKeys>,
    ) -> Result<Encoded, StoreError> {
        let accepted = accepted_with_their_ends(batch);
        let settled = settled_before(batch, &accepted);
        let replies: Vec<&ReplyRecord> =
            batch.settle.iter().flat_map(|settlement| &settlement.replies).collect();
        let delivered = newest_deliveries(&batch.delivered);

        let done: Vec<MessageId> = settled
            .iter()
            .filter(|settlement| settlement.state == MessageState::Done)
            .filter_map(|settlement| settlement.message)
            .collect();
        let odd = settled
            .iter()
            .filter(|settlement| settlement.state != MessageState::Done)
            .filter_map(|s| Some((s.message?, s.state, s.failure.clone())))
            .collect();

        let most = accepted.len().max(replies.len()).max(done.len()).max(delivered.len());
        let mut parts = Vec::with_capacity(most.div_ceil(ROWS_MAX));
        for start in (0..most).step_by(ROWS_MAX) {
            let accepted = slice(&accepted, start);
            let replies = slice(&replies, start);
            let done = slice(&done, start);
            let delivered = slice(&delivered, start);
            let rows = accepted.len().max(replies.len()).max(done.len()).max(delivered.len());
            let size = statements::size_for(rows);
            let arguments = encode_part(size, accepted, replies, done, delivered, keys)?;
            parts.push((size, arguments));
        }
        let keyed = batch.settle.iter().filter_map(|s| s.keyed.clone()).collect();
        Ok(Encoded { parts, odd, keyed })
    }

    /// Everything in one transaction of its own.
    async fn commit(mut self, sqlite: &mut SqliteConnection) -> Result<(), JobError> {
        if let ([_], [], []) = (&*self.parts, &*self.odd, &*self.keyed)
            && let Some((size, arguments)) = self.parts.pop()
        {
            sqlx::query_with(statements::whole(size), arguments).execute(sqlite).await?;
            return Ok(());
        }
        sqlx::query("BEGIN IMMEDIATE").execute(&mut *sqlite).await?;
        self.write(sqlite).await?;
        sqlx::query("COMMIT").execute(sqlite).await?;
        Ok(())
    }

    /// Everything inside the transaction that is open.
    pub(super) async fn write(self, sqlite: &mut SqliteConnection) -> Result<(), JobError> {
        for (size, arguments) in self.parts {
            sqlx::query_with(statements::part(size), arguments).execute(&mut *sqlite).await?;
        }
        for (id, state, failure) in self.odd {
            sqlx::query("UPDATE messages SET state = ?, failure = ? WHERE id = ?")
                .bind(rows::state_number(state))
                .bind((!failure.is_empty()).then(|| String::from(failure)))
                .bind(id.0)
                .execute(&mut *sqlite)
                .await?;
        }
        for send in self.keyed {
            keyed::keep(sqlite, send).await?;
        }
        Ok(())
    }
}

/// The accepted messages with the state and failure they have by the end of the batch.
type Accepted<'b> = (&'b MessageRecord, MessageState, &'b str);

fn accepted_with_their_ends(batch: &LedgerBatch) -> Vec<Accepted<'_>> {
    let mut ends: HashMap<MessageId, &Settlement> = HashMap::new();
    if !batch.accept.is_empty() {
        let settlements = batch.settle.iter().filter_map(|s| Some((s.message?, s)));
        ends.extend(settlements);
    }
    let accepted = batch.accept.iter().map(|message| match ends.get(&message.id) {
        Some(end) => (&**message, end.state, &*end.failure),
        None => (&**message, message.state, &*message.failure),
    });
    accepted.collect()
}

/// The settlements of messages that earlier batches accepted.
fn settled_before<'b>(batch: &'b LedgerBatch, accepted: &[Accepted<'_>]) -> Vec<&'b Settlement> {
    let now: std::collections::HashSet<MessageId> =
        accepted.iter().map(|(message, ..)| message.id).collect();
    let of_earlier =
        |settlement: &&Settlement| settlement.message.is_some_and(|id| !now.contains(&id));
    batch.settle.iter().filter(of_earlier).collect()
}

/// One row a stream: two in one statement would be the same work twice.
fn newest_deliveries(delivered: &[(DeviceKey, naru_domain::Offset)]) -> Vec<(i64, i64)> {
    let mut newest: HashMap<i64, i64> = HashMap::with_capacity(delivered.len());
    for (device, offset) in delivered {
        let offset = i64::try_from(offset.0).unwrap_or(i64::MAX);
        let kept = newest.entry(device.0).or_insert(offset);
        *kept = offset.max(*kept);
    }
    newest.into_iter().collect()
}

/// The part of `rows` that belongs to the text which begins at `start`.
fn slice<T>(rows: &[T], start: usize) -> &[T] {
    let end = rows.len().min(start + ROWS_MAX);
    rows.get(start..end).unwrap_or_default()
}

fn encode_part(
    size: usize,
    accepted: &[Accepted<'_>],
    replies: &[&ReplyRecord],
    done: &[MessageId],
    delivered: &[(i64, i64)],
    keys: Option<&MasterKeys>,
) -> Result<SqliteArguments, StoreError> {
    let mut arguments = SqliteArguments::default();
    let columns = MESSAGE_COLUMNS + REPLY_COLUMNS + STREAM_COLUMNS + 1;
    sqlx::Arguments::reserve(&mut arguments, size * columns, 0);
    for (message, state, failure) in accepted {
        rows::add_message(&mut arguments, message, *state, failure, keys)?;
    }
    pad(&mut arguments, (size - accepted.len()) * MESSAGE_COLUMNS)?;
    for reply in replies {
        rows::add_reply(&mut arguments, reply, keys)?;
    }
    pad(&mut arguments, (size - replies.len()) * REPLY_COLUMNS)?;
    for id in done {
        add(&mut arguments, id.0)?;
    }
    pad(&mut arguments, size - done.len())?;
    for (device, offset) in delivered {
        add(&mut arguments, *device)?;
        add(&mut arguments, *offset)?;
    }
    pad(&mut arguments, (size - delivered.len()) * STREAM_COLUMNS)?;
    Ok(arguments)
}

fn pad(arguments: &mut SqliteArguments, count: usize) -> Result<(), StoreError> {
    for _ in 0..count {
        add(arguments, None::<i64>)?;
    }
    Ok(())
}
