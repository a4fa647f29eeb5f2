//! One timer for many connections whose turns come at different times, so that none needs a timer of its
//! own. Knows nothing of what happens at a turn. Holds connections weakly: one that has ended is dropped
//! at its next turn.

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// How fine the wheel is: heart-beats are seconds apart.
const STEP: Duration = Duration::from_millis(100);
/// With 100 ms each, a turn within 102 s comes in one round.
const SLOTS: usize = 1_024;
/// Connections that have their turn before other tasks get theirs: each may be a system call.
const TURNS_AT_ONCE: usize = 256;

/// Something that has turns.
pub(crate) trait Turn: Send + Sync + 'static {
    /// Has its turn. When the next is due; `None` if there is none.
    fn turn(&self) -> Option<Duration>;
}

/// The wheel.
pub(crate) struct Turns<T> {
    ring: Mutex<Ring<T>>,
}

struct Ring<T> {
    slots: Vec<Vec<Entry<T>>>,
    now: usize,
}

struct Entry<T> {
    rounds: u32,
    item: Weak<T>,
}

impl<T: Turn> Turns<T> {
    pub(crate) fn new() -> Turns<T> {
        let slots = (0..SLOTS).map(|_| Vec::new()).collect();
        Turns { ring: Mutex::new(Ring { slots, now: 0 }) }
    }

    /// Gives `item` its first turn after about `delay`.
    pub(crate) fn add(&self, item: &Arc<T>, delay: Duration) {
        self.put(Arc::downgrade(item), delay);
    }

    fn put(&self, item: Weak<T>, delay: Duration) {
        let steps = usize::try_from(delay.as_millis() / STEP.as_millis()).unwrap_or(usize::MAX);
        let steps = steps.max(1);
        let rounds = u32::try_from((steps - 1) / SLOTS).unwrap_or(u32::MAX);
        let mut ring = self.ring.lock();
        let slot = (ring.now + steps % SLOTS) % SLOTS;
        ring.slots[slot].push(Entry { rounds, item });
    }

    /// Turns until told to stop.
    pub(crate) async fn run(&self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(STEP);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            for (count, item) in self.step().into_iter().enumerate() {
                // Outside the lock: a turn may write to a socket.
                if let Some(item) = item.upgrade()
                    && let Some(next) = item.turn()
                {
                    self.put(Arc::downgrade(&item), next);
                }
                if count % TURNS_AT_ONCE == TURNS_AT_ONCE - 1 {
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    /// Those whose turn it is.
    fn step(&self) -> Vec<Weak<T>> {
        let mut ring = self.ring.lock();
        ring.now = (ring.now + 1) % SLOTS;
        let now = ring.now;
        let mut due = Vec::new();
        ring.slots[now].retain_mut(|entry| {
            if entry.rounds > 0 {
                entry.rounds -= 1;
                return true;
            }
            due.push(std::mem::take(&mut entry.item));
            false
        });
        if ring.slots[now].is_empty() {
            ring.slots[now] = Vec::new();
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    struct Counted {
        turns: AtomicUsize,
        next: Option<Duration>,
    }

    impl Turn for Counted {
        fn turn(&self) -> Option<Duration> {
            self.turns.fetch_add(1, Ordering::Relaxed);
            self.next
        }
    }

    fn counted(next: Option<Duration>) -> Arc<Counted> {
        Arc::new(Counted { turns: AtomicUsize::new(0), next })
    }

    #[tokio::test(start_paused = true)]
    async fn turns_come_when_they_are_due_and_end_with_their_connection() {
        let turns = Arc::new(Turns::new());
        let often = counted(Some(Duration::from_secs(1)));
        let once = counted(None);
        let late = counted(Some(Duration::from_secs(150)));
        let gone = counted(Some(Duration::from_secs(1)));
        turns.add(&often, Duration::from_secs(1));
        turns.add(&once, Duration::from_millis(10));
        turns.add(&late, Duration::from_secs(150));
        turns.add(&gone, Duration::from_secs(1));
        let kept = Arc::downgrade(&gone);
        drop(gone);
        let stop = CancellationToken::new();
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn({
            let (turns, stop) = (Arc::clone(&turns), stop.clone());
            async move { turns.run(stop).await }
        });
        tokio::time::sleep(Duration::from_millis(300_050)).await;
        stop.cancel();
        while tasks.join_next().await.is_some() {}
        assert_eq!(once.turns.load(Ordering::Relaxed), 1);
        assert_eq!(often.turns.load(Ordering::Relaxed), 300);
        assert_eq!(late.turns.load(Ordering::Relaxed), 2);
        assert!(kept.upgrade().is_none());
    }
}
