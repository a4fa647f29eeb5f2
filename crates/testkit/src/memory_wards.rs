//! What is remembered of wards, in memory: the twin of a store, with a fault. It survives a "restart" of the
//! supervisor, since it belongs to the test.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use naru_domain::ports::{
    StoreError, WARD_BATCH_ROWS_MAX, WARD_BODY_BYTES_MAX, WardBatch, WardBlock, WardEvent,
    WardForget, WardHistory, WardPeak, WardPlace, WardRecord, WardResolution, WardVisit,
};
use naru_domain::{Durability, Timestamp};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// The twin.
#[derive(Default)]
pub struct MemoryWards {
    kept: Mutex<Kept>,
    changed: Notify,
}

#[derive(Default)]
struct Kept {
    records: BTreeMap<(Arc<str>, Arc<str>), WardRecord>,
    blocks: BTreeMap<(Arc<str>, WardResolution, i64), WardBlock>,
    events: BTreeMap<WardPlace, WardEvent>,
    visits: BTreeMap<WardPlace, WardVisit>,
    peaks: BTreeMap<(Arc<str>, u8), WardPeak>,
    is_full: bool,
}

impl MemoryWards {
    /// From now on nothing can be kept, as on a full disk; or again.
    pub fn set_full(&self, is_full: bool) {
        self.kept.lock().is_full = is_full;
    }

    /// Waits until an event of this kind is kept for this ward, and gives it. The caller bounds the wait.
    pub async fn event(&self, ward: &str, kind: &str) -> WardEvent {
        loop {
            let changed = self.changed.notified();
            let kept = self.kept.lock().events.values().rev().find_map(|event| {
                (*event.ward == *ward && *event.kind == *kind).then(|| event.clone())
            });
            if let Some(event) = kept {
                return event;
            }
            changed.await;
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Kept) -> T) -> Result<T, StoreError> {
        let mut kept = self.kept.lock();
        if kept.is_full {
            return Err(StoreError::Full { reason: "the test says so".to_owned() });
        }
        let changed = change(&mut kept);
        drop(kept);
        self.changed.notify_waiters();
        Ok(changed)
    }
}

impl Kept {
    fn take(&mut self, batch: &WardBatch) {
        for record in &batch.records {
            let key = (Arc::clone(&record.ward), Arc::clone(&record.part));
            self.records.insert(key, record.clone());
        }
        for block in &batch.blocks {
            let second = block.start.0.div_euclid(1_000);
            let start = Timestamp(second * 1_000);
            let key = (Arc::clone(&block.ward), block.resolution, second);
            self.blocks.insert(key, WardBlock { start, ..block.clone() });
        }
        for event in &batch.events {
            self.events.entry(event.place).or_insert_with(|| event.clone());
        }
        for visit in &batch.visits {
            self.visits.insert(visit.place, visit.clone());
        }
        for peak in &batch.peaks {
            let key = (Arc::clone(&peak.ward), peak.series);
            let before = self.peaks.get(&key);
            if before.is_none_or(|before| before.value < peak.value) {
                self.peaks.insert(key, peak.clone());
            }
        }
        for (what, before, limit) in &batch.forget {
            self.forget(*what, *before, *limit);
        }
    }

    fn forget(&mut self, what: WardForget, before: Timestamp, limit: u16) -> usize {
        let limit = usize::from(limit);
        let first = WardPlace::first_at(before);
        match what {
            WardForget::Blocks(resolution) => {
                let old = |key: &&(Arc<str>, WardResolution, i64)| {
                    key.1 == resolution && key.2 * 1_000 < before.0
                };
                let mut old: Vec<_> = self.blocks.keys().filter(old).cloned().collect();
                old.sort_by_key(|key| key.2);
                old.truncate(limit);
                old.iter().for_each(|key| drop(self.blocks.remove(key)));
                old.len()
            }
            WardForget::Events => {
                let old: BTreeSet<_> =
                    self.events.range(..first).map(|(place, _)| *place).take(limit).collect();
                self.events.retain(|place, _| !old.contains(place));
                old.len()
            }
            WardForget::Visits => {
                let over = self.visits.range(..first).filter(|(_, visit)| visit.left.is_some());
                let old: BTreeSet<_> = over.map(|(place, _)| *place).take(limit).collect();
                self.visits.retain(|place, _| !old.contains(place));
                old.len()
            }
        }
    }
}

fn refused(batch: &WardBatch) -> Option<StoreError> {
    let counts = [
        batch.records.len(),
        batch.blocks.len(),
        batch.events.len(),
        batch.visits.len(),
        batch.peaks.len(),
    ];
    let bodies = batch
        .records
        .iter()
        .map(|record| record.body.len())
        .chain(batch.blocks.iter().map(|block| block.data.len()))
        .chain(batch.events.iter().map(|event| event.body.len()));
    let is_too_large = counts.iter().any(|count| *count > WARD_BATCH_ROWS_MAX)
        || bodies.into_iter().any(|bytes| bytes > WARD_BODY_BYTES_MAX);
    is_too_large.then(|| StoreError::Failed { reason: "the batch is too large".to_owned() })
}

#[async_trait]
impl WardHistory for MemoryWards {
    async fn load_records(&self) -> Result<Vec<WardRecord>, StoreError> {
        Ok(self.kept.lock().records.values().cloned().collect())
    }

    async fn save_record(&self, record: &WardRecord) -> Result<(), StoreError> {
        let batch = WardBatch { records: vec![record.clone()], ..WardBatch::default() };
        self.flush(Arc::new(batch), Durability::Disk).await
    }

    async fn remove_records(&self, ward: &str) -> Result<(), StoreError> {
        self.change(|kept| kept.records.retain(|(of, _), _| **of != *ward))
    }

    async fn flush(&self, batch: Arc<WardBatch>, _: Durability) -> Result<(), StoreError> {
        if let Some(error) = refused(&batch) {
            return Err(error);
        }
        self.change(|kept| kept.take(&batch))
    }

    async fn blocks(
        &self,
        ward: &str,
        resolution: WardResolution,
        from: Timestamp,
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<WardBlock>, StoreError> {
        let kept = self.kept.lock();
        let fits = |block: &&WardBlock| {
            *block.ward == *ward
                && block.resolution == resolution
                && block.start >= from
                && block.start < until
        };
        Ok(kept.blocks.values().filter(fits).take(limit).cloned().collect())
    }

    async fn events(
        &self,
        ward: Option<&str>,
        before: Option<WardPlace>,
        limit: usize,
    ) -> Result<Vec<WardEvent>, StoreError> {
        let kept = self.kept.lock();
        let fits = |event: &&WardEvent| {
            ward.is_none_or(|ward| *event.ward == *ward)
                && before.is_none_or(|before| event.place < before)
        };
        Ok(kept.events.values().rev().filter(fits).take(limit).cloned().collect())
    }

    async fn visits(
        &self,
        ward: Option<&str>,
        before: Option<WardPlace>,
        limit: usize,
    ) -> Result<Vec<WardVisit>, StoreError> {
        let kept = self.kept.lock();
        let fits = |visit: &&WardVisit| {
            ward.is_none_or(|ward| *visit.ward == *ward)
                && before.is_none_or(|before| visit.place < before)
        };
        Ok(kept.visits.values().rev().filter(fits).take(limit).cloned().collect())
    }

    async fn open_visits(&self, ward: &str, limit: usize) -> Result<Vec<WardVisit>, StoreError> {
        let kept = self.kept.lock();
        let open = |visit: &&WardVisit| *visit.ward == *ward && visit.left.is_none();
        Ok(kept.visits.values().filter(open).take(limit).cloned().collect())
    }

    async fn peaks(&self, ward: &str) -> Result<Vec<WardPeak>, StoreError> {
        let kept = self.kept.lock();
        Ok(kept.peaks.values().filter(|peak| *peak.ward == *ward).cloned().collect())
    }

    async fn forget(
        &self,
        what: WardForget,
        before: Timestamp,
        limit: u16,
    ) -> Result<usize, StoreError> {
        self.change(|kept| kept.forget(what, before, limit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_twin_keeps_what_a_store_promises() {
        crate::store_contract::ward_history(|| async { MemoryWards::default() }).await;
    }
}
