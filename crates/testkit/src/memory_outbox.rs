//! An outbox in memory: the twin of a store, with faults and with something to wait for. It survives a
//! "restart" of the relay, since it belongs to the test.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use naru_domain::ports::{
    KeptOutbox, Outbox, OutboxBatch, OutboxCounts, OutboxDropped, OutboxEnd, OutboxMessage,
    OutboxReceipt, OutboxResult, StoreError, Weight,
};
use naru_domain::work::Page;
use naru_domain::{Durability, Timestamp};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::timeout;

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// The twin.
#[derive(Default)]
pub struct MemoryOutbox {
    kept: Mutex<Kept>,
    faults: Mutex<Faults>,
    changed: Notify,
}

#[derive(Default)]
struct Kept {
    lines: BTreeMap<i64, Line>,
    targets: BTreeMap<Arc<str>, Dropped>,
    last_place: i64,
    calls: u64,
    settled: Vec<OutboxResult>,
}

#[derive(Clone)]
struct Line {
    kept: KeptOutbox,
    is_dead: bool,
}

#[derive(Default)]
struct Dropped {
    ever: u64,
    since: u64,
}

#[derive(Default)]
struct Faults {
    settle_hangs: bool,
    settles_to_fail: usize,
    is_broken: bool,
}

impl MemoryOutbox {
    /// Settling never ends, as if the process died before it, or ends again.
    pub fn set_settle_hangs(&self, hangs: bool) {
        self.faults.lock().settle_hangs = hangs;
    }

    /// Settling is busy so many times.
    pub fn fail_settles(&self, times: usize) {
        self.faults.lock().settles_to_fail = times;
    }

    /// Everything is busy, or no longer is.
    pub fn set_broken(&self, is_broken: bool) {
        self.faults.lock().is_broken = is_broken;
    }

    /// How often it was asked anything.
    pub fn calls(&self) -> u64 {
        self.kept.lock().calls
    }

    /// Every result that was kept, in order.
    pub fn settled(&self) -> Vec<OutboxResult> {
        self.kept.lock().settled.clone()
    }

    /// The ids that wait for a target, in order.
    pub fn waiting(&self, target: &str) -> Vec<String> {
        let kept = self.kept.lock();
        kept.line(target, false).map(|each| each.kept.message.id.to_string()).collect()
    }

    /// Waits until this holds, looking whenever something changed.
    ///
    /// # Panics
    ///
    /// If it does not within a minute.
    pub async fn until(&self, holds: impl Fn(&MemoryOutbox) -> bool) {
        let found = async {
            loop {
                let changed = self.changed.notified();
                if holds(self) {
                    return;
                }
                changed.await;
            }
        };
        timeout(PATIENCE, found).await.expect("the outbox gets there");
    }

    fn enter(&self) -> Result<(), StoreError> {
        self.kept.lock().calls += 1;
        self.changed.notify_waiters();
        if self.faults.lock().is_broken {
            return Err(StoreError::Busy { reason: "told to be".to_owned() });
        }
        Ok(())
    }
}

impl Kept {
    fn line(&self, target: &str, dead: bool) -> impl Iterator<Item = &Line> {
        let of_target = move |line: &&Line| &*line.kept.message.target == target;
        self.lines.values().filter(of_target).filter(move |line| line.is_dead == dead)
    }

    fn place_of(&self, id: &str, dead: bool) -> Option<i64> {
        let found = self.lines.iter().find(|(_, each)| &*each.kept.message.id == id);
        found.filter(|(_, each)| each.is_dead == dead).map(|(place, _)| *place)
    }

    fn add(&mut self, message: &OutboxMessage) -> bool {
        let is_known = self.lines.values().any(|each| each.kept.message.id == message.id);
        if is_known {
            return false;
        }
        self.last_place += 1;
        let kept = KeptOutbox {
            place: self.last_place,
            message: message.clone(),
            attempts: 0,
            next_at: message.at,
            failure: Arc::from(""),
        };
        self.lines.insert(self.last_place, Line { kept, is_dead: false });
        self.targets.entry(Arc::clone(&message.target)).or_default();
        true
    }

    fn drop_surplus(&mut self, target: &Arc<str>, waiting_max: usize) -> Option<OutboxDropped> {
        let mut waiting: Vec<(Weight, i64)> = self
            .line(target, false)
            .map(|each| (each.kept.message.weight, each.kept.place))
            .collect();
        let surplus = waiting.len().checked_sub(waiting_max).filter(|surplus| *surplus > 0)?;
        waiting.sort_unstable();
        for (_, place) in &waiting[..surplus] {
            self.lines.remove(place);
        }
        let dropped = self.targets.entry(Arc::clone(target)).or_default();
        let count = u64::try_from(surplus).unwrap_or(u64::MAX);
        dropped.ever += count;
        dropped.since += count;
        let is_first = dropped.since == count;
        Some(OutboxDropped { target: Arc::clone(target), count, is_first })
    }

    fn settle(&mut self, result: &OutboxResult) {
        let Some(place) = self.place_of(&result.id, false) else { return };
        self.settled.push(result.clone());
        let line = self.lines.get_mut(&place).expect("it was just found");
        let target = Arc::clone(&line.kept.message.target);
        let failure = &result.failure;
        line.kept.attempts = result.attempts;
        line.kept.failure =
            failure[..failure.floor_char_boundary(OutboxResult::FAILURE_BYTES_MAX)].into();
        match result.end {
            OutboxEnd::Delivered => {
                self.lines.remove(&place);
                self.targets.entry(target).or_default().since = 0;
            }
            OutboxEnd::Again(next_at) => line.kept.next_at = next_at,
            OutboxEnd::Dead => {
                line.is_dead = true;
                let dead: Vec<i64> = self.line(&target, true).map(|each| each.kept.place).collect();
                for place in &dead[..dead.len().saturating_sub(OutboxBatch::DEAD_MAX)] {
                    self.lines.remove(place);
                }
            }
        }
    }
}

#[async_trait]
impl Outbox for MemoryOutbox {
    async fn put(
        &self,
        batch: &OutboxBatch,
        _durability: Durability,
    ) -> Result<OutboxReceipt, StoreError> {
        self.enter()?;
        if !batch.messages.iter().all(OutboxMessage::fits) {
            return Err(StoreError::Failed { reason: "it breaks its limits".to_owned() });
        }
        let mut kept = self.kept.lock();
        let mut receipt = OutboxReceipt::default();
        let mut targets = std::collections::BTreeSet::new();
        for message in &batch.messages {
            if kept.add(message) {
                receipt.added += 1;
                targets.insert(Arc::clone(&message.target));
            }
        }
        for target in targets {
            receipt.dropped.extend(kept.drop_surplus(&target, batch.waiting_max.max(1)));
        }
        drop(kept);
        self.changed.notify_waiters();
        Ok(receipt)
    }

    async fn due(
        &self,
        target: &str,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<KeptOutbox>, StoreError> {
        self.enter()?;
        let kept = self.kept.lock();
        let line: Vec<KeptOutbox> =
            kept.line(target, false).take(limit).map(|each| each.kept.clone()).collect();
        Ok(if line.first().is_some_and(|first| first.next_at > now) { Vec::new() } else { line })
    }

    async fn settle(&self, results: &[OutboxResult]) -> Result<(), StoreError> {
        self.enter()?;
        if self.faults.lock().settle_hangs {
            std::future::pending::<()>().await;
        }
        let fails = {
            let mut faults = self.faults.lock();
            let fails = faults.settles_to_fail > 0;
            faults.settles_to_fail -= usize::from(fails);
            fails
        };
        if fails {
            return Err(StoreError::Busy { reason: "told to be".to_owned() });
        }
        let mut kept = self.kept.lock();
        results.iter().for_each(|result| kept.settle(result));
        drop(kept);
        self.changed.notify_waiters();
        Ok(())
    }

    async fn counts(&self) -> Result<Vec<OutboxCounts>, StoreError> {
        self.enter()?;
        let kept = self.kept.lock();
        let count = |(target, dropped): (&Arc<str>, &Dropped)| OutboxCounts {
            target: Arc::clone(target),
            waiting: kept.line(target, false).count() as u64,
            dead: kept.line(target, true).count() as u64,
            dropped: dropped.ever,
            next_at: kept.line(target, false).next().map(|each| each.kept.next_at),
            oldest_at: kept.line(target, false).next().map(|each| each.kept.message.at),
        };
        Ok(kept.targets.iter().map(count).collect())
    }

    async fn dead(&self, target: Option<&str>, page: Page) -> Result<Vec<KeptOutbox>, StoreError> {
        self.enter()?;
        let kept = self.kept.lock();
        let dead = kept.lines.values().filter(|each| each.is_dead).map(|each| &each.kept);
        let of_target = dead.filter(|each| target.is_none_or(|t| &*each.message.target == t));
        let after = of_target.filter(|each| page.after.is_none_or(|after| each.place > after));
        Ok(after.take(page.limit).cloned().collect())
    }

    async fn replay(&self, id: &str, now: Timestamp) -> Result<(), StoreError> {
        self.enter()?;
        let mut kept = self.kept.lock();
        let place = kept.place_of(id, true).ok_or(StoreError::NotFound)?;
        let line = kept.lines.remove(&place).expect("it was just found");
        kept.add(&OutboxMessage { at: now, ..line.kept.message });
        drop(kept);
        self.changed.notify_waiters();
        Ok(())
    }

    async fn forget(&self, id: &str) -> Result<(), StoreError> {
        self.enter()?;
        let mut kept = self.kept.lock();
        let place = kept.place_of(id, true).ok_or(StoreError::NotFound)?;
        kept.lines.remove(&place);
        Ok(())
    }

    async fn forget_dead(&self, before: Timestamp, limit: usize) -> Result<usize, StoreError> {
        self.enter()?;
        let mut kept = self.kept.lock();
        let old = |each: &&Line| each.is_dead && each.kept.message.at < before;
        let places: Vec<i64> =
            kept.lines.values().filter(old).map(|each| each.kept.place).take(limit).collect();
        places.iter().for_each(|place| drop(kept.lines.remove(place)));
        Ok(places.len())
    }
}
