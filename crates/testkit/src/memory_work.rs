//! Kept work queues in memory: the twin of a store, with faults. It survives a "restart" of the queues,
//! since it belongs to the test.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use naru_domain::ports::{KeptWork, StoreError, WorkBatch, WorkKey, WorkQueues};
use naru_domain::{Durability, WorkNumber};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use tokio::time::timeout;

use crate::bus_contract::Fault;

/// Longest wait for anything. On a clock that is paused it costs nothing.
const PATIENCE: Duration = Duration::from_secs(300);

/// The twin.
#[derive(Default)]
pub struct MemoryWork {
    kept: Mutex<Kept>,
    faults: Mutex<VecDeque<Fault>>,
    batches: Mutex<Vec<(Arc<WorkBatch>, Durability)>>,
    /// Closed while batches have to wait.
    gate: Mutex<Option<Arc<Semaphore>>>,
    waiting: AtomicUsize,
    is_broken: Mutex<bool>,
    changed: Notify,
}

#[derive(Default)]
struct Kept {
    work: BTreeMap<WorkNumber, KeptWork>,
    keys: BTreeMap<WorkNumber, WorkKey>,
}

impl MemoryWork {
    /// The next batch does this; those after it what was asked for next.
    pub fn fail_next(&self, fault: Fault) {
        self.faults.lock().push_back(fault);
    }

    /// Every batch fails and keeps nothing, or no longer does.
    pub fn set_broken(&self, is_broken: bool) {
        *self.is_broken.lock() = is_broken;
    }

    /// Every batch so far, failed ones included.
    pub fn batches(&self) -> Vec<(Arc<WorkBatch>, Durability)> {
        self.batches.lock().clone()
    }

    /// Batches wait from now on, until [`MemoryWork::release`].
    pub fn hold(&self) {
        *self.gate.lock() = Some(Arc::new(Semaphore::new(0)));
    }

    /// Batches go on.
    pub fn release(&self) {
        if let Some(gate) = self.gate.lock().take() {
            gate.close();
        }
    }

    /// Waits until so many batches wait.
    pub async fn until_waiting(&self, count: usize) {
        self.until(|| self.waiting.load(Ordering::SeqCst) >= count).await;
    }

    /// Waits until exactly these messages are kept, as (number, deliveries).
    pub async fn until_kept(&self, expected: &[(u64, u32)]) {
        self.until(|| self.kept() == expected).await;
    }

    /// What is kept, as (number, deliveries).
    pub fn kept(&self) -> Vec<(u64, u32)> {
        self.kept.lock().work.values().map(|each| (each.number.0, each.deliveries)).collect()
    }

    /// The numbers whose keys are kept.
    pub fn keys(&self) -> Vec<u64> {
        self.kept.lock().keys.keys().map(|number| number.0).collect()
    }

    async fn until(&self, holds: impl Fn() -> bool) {
        let found = async {
            loop {
                let changed = self.changed.notified();
                if holds() {
                    return;
                }
                changed.await;
            }
        };
        let found = timeout(PATIENCE, found).await;
        assert!(found.is_ok(), "waited in vain; kept is {:?}", self.kept());
    }

    fn apply(&self, batch: &WorkBatch) -> Result<(), StoreError> {
        let mut kept = self.kept.lock();
        let Kept { work, keys } = &mut *kept;
        if batch.add.iter().any(|each| work.contains_key(&each.number)) {
            return Err(StoreError::Failed { reason: "the number is in use".to_owned() });
        }
        if let Some(numbers) = &batch.withdraw {
            work.retain(|number, _| !numbers.contains(&number.0));
            keys.retain(|number, _| !numbers.contains(&number.0));
        }
        for each in &batch.add {
            work.insert(each.number, each.clone());
            if let Some(key) = &each.publication.key {
                let (number, at) = (each.number, each.publication.at);
                let key = WorkKey { number, queue: each.queue.clone(), key: Arc::clone(key), at };
                keys.insert(number, key);
            }
        }
        for (number, count) in &batch.delivered {
            if let Some(each) = work.get_mut(number) {
                each.deliveries = *count;
            }
        }
        for number in &batch.done {
            work.remove(number);
        }
        if let Some(below) = batch.forget_keys_below {
            keys.retain(|number, _| *number >= below);
        }
        Ok(())
    }
}

#[async_trait]
impl WorkQueues for MemoryWork {
    async fn keep_work(
        &self,
        batch: Arc<WorkBatch>,
        durability: Durability,
    ) -> Result<(), StoreError> {
        let gate = self.gate.lock().clone();
        if let Some(gate) = gate {
            self.waiting.fetch_add(1, Ordering::SeqCst);
            self.changed.notify_waiters();
            // Closing the gate is what lets everybody through.
            drop(gate.acquire().await);
            self.waiting.fetch_sub(1, Ordering::SeqCst);
        }
        self.batches.lock().push((Arc::clone(&batch), durability));
        let fault = match *self.is_broken.lock() {
            true => Some(Fault::Refuse),
            false => self.faults.lock().pop_front(),
        };
        if fault != Some(Fault::Refuse) {
            self.apply(&batch)?;
        }
        self.changed.notify_waiters();
        match fault {
            Some(_) => Err(StoreError::Full { reason: "no space left".to_owned() }),
            None => Ok(()),
        }
    }

    async fn load_work(
        &self,
        after: WorkNumber,
        limit: usize,
    ) -> Result<Vec<KeptWork>, StoreError> {
        let kept = self.kept.lock();
        let later = kept.work.values().filter(|each| each.number > after);
        Ok(later.take(limit).cloned().collect())
    }

    async fn load_work_keys(
        &self,
        after: WorkNumber,
        limit: usize,
    ) -> Result<Vec<WorkKey>, StoreError> {
        let kept = self.kept.lock();
        let later = kept.keys.values().filter(|each| each.number > after);
        Ok(later.take(limit).cloned().collect())
    }
}
