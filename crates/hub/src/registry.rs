//! Where sessions are found: by number and by key, in shards, so that no lock is shared by all.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use naru_domain::{DeviceKey, SessionId, Timestamp};
use parking_lot::{Mutex, RwLock};

use crate::session::{JournalCursor, Moment, Session};
use crate::signal::Signal;

/// Enough for two dozen cores (guessed); a power of two.
pub(crate) const SHARDS: usize = 16;

/// One session with its locks. What never changes stands outside of them.
pub(crate) struct Cell {
    pub(crate) id: SessionId,
    pub(crate) key: Arc<str>,
    pub(crate) label: Box<str>,
    pub(crate) kind: &'static str,
    pub(crate) device: Option<DeviceKey>,
    pub(crate) suspend_for: Option<Duration>,
    pub(crate) live: Mutex<Live>,
    /// Never locked together with `live`: who delivers must not wait for the journal.
    pub(crate) journal: Mutex<JournalCursor>,
}

/// What changes about a session.
pub(crate) struct Live {
    pub(crate) session: Session,
    pub(crate) current: Option<Box<Current>>,
    /// Whether the timer has this session; it has each at most once.
    pub(crate) is_timed: bool,
}

/// The connection that acts for a session.
pub(crate) struct Current {
    pub(crate) signal: Arc<Signal>,
    pub(crate) peer: Box<str>,
    pub(crate) connected_at: Timestamp,
    pub(crate) since: Moment,
}

/// Session numbers are ours and dense, so they need no hashing against collisions.
#[derive(Default)]
pub(crate) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 << 8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        // The table takes its control bits from the top, which a small number leaves empty.
        self.0 = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}

type ById = HashMap<SessionId, Arc<Cell>, BuildHasherDefault<NumberHasher>>;

/// All sessions of a node.
pub(crate) struct Registry {
    by_id: [RwLock<ById>; SHARDS],
    by_key: [Mutex<HashMap<Arc<str>, SessionId>>; SHARDS],
    hasher: RandomState,
    next_id: AtomicU64,
}

impl Registry {
    pub(crate) fn new() -> Registry {
        Registry {
            by_id: std::array::from_fn(|_| RwLock::default()),
            by_key: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
            next_id: AtomicU64::new(1),
        }
    }

    pub(crate) fn get(&self, id: SessionId) -> Option<Arc<Cell>> {
        self.by_id[shard_of(id.0)].read().get(&id).map(Arc::clone)
    }

    /// Finds the session with this key or adds the one that `make` builds. True if it was added.
    ///
    /// Lock order: key shard, then number shard.
    pub(crate) fn find_or_add(
        &self,
        key: &str,
        make: impl FnOnce(SessionId, Arc<str>) -> Cell,
    ) -> (SessionId, bool) {
        let mut keys = self.by_key[shard_of(self.hasher.hash_one(key))].lock();
        if let Some(id) = keys.get(key) {
            return (*id, false);
        }
        let id = SessionId(self.next_id.fetch_add(1, Ordering::Relaxed));
        let key: Arc<str> = Arc::from(key);
        let cell = Arc::new(make(id, Arc::clone(&key)));
        self.by_id[shard_of(id.0)].write().insert(id, cell);
        keys.insert(key, id);
        (id, true)
    }

    /// Takes a session out. Lock order: key shard, then number shard.
    pub(crate) fn remove(&self, id: SessionId) -> Option<Arc<Cell>> {
        let key = Arc::clone(&self.get(id)?.key);
        let mut keys = self.by_key[shard_of(self.hasher.hash_one(&*key))].lock();
        let removed = self.by_id[shard_of(id.0)].write().remove(&id)?;
        keys.remove(&key);
        Some(removed)
    }

    /// The sessions with numbers above `after`, in order, at most `limit`.
    pub(crate) fn page(&self, after: Option<SessionId>, limit: usize) -> Vec<Arc<Cell>> {
        let mut page: Vec<Arc<Cell>> = Vec::new();
        for shard in &self.by_id {
            let shard = shard.read();
            page.extend(shard.values().filter(|cell| Some(cell.id) > after).map(Arc::clone));
            drop(shard);
            // Keeps the memory of a page near its size, however many sessions there are.
            if page.len() > limit {
                page.sort_unstable_by_key(|cell| cell.id);
                page.truncate(limit);
            }
        }
        page.sort_unstable_by_key(|cell| cell.id);
        page.truncate(limit);
        page
    }
}

pub(crate) fn shard_of(hash: u64) -> usize {
    usize::try_from(hash % SHARDS as u64).unwrap_or(0)
}
