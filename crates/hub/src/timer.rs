//! When suspended sessions end: one heap for all of them, so that none needs a timer of its own.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use naru_domain::SessionId;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::session::Moment;

/// The sessions to look at, earliest first. Each session stands in it at most once.
#[derive(Default)]
pub(crate) struct Timer {
    heap: Mutex<BinaryHeap<Reverse<(Moment, SessionId)>>>,
    /// Told when the earliest moment changed.
    pub(crate) earlier: Notify,
}

impl Timer {
    pub(crate) fn add(&self, at: Moment, session: SessionId) {
        let is_earliest = {
            let mut heap = self.heap.lock();
            heap.push(Reverse((at, session)));
            heap.peek() == Some(&Reverse((at, session)))
        };
        if is_earliest {
            self.earlier.notify_one();
        }
    }

    pub(crate) fn next(&self) -> Option<Moment> {
        self.heap.lock().peek().map(|Reverse((at, _))| *at)
    }

    pub(crate) fn pop_due(&self, now: Moment) -> Option<SessionId> {
        let mut heap = self.heap.lock();
        let Reverse((at, session)) = heap.peek().copied()?;
        if at > now {
            return None;
        }
        heap.pop();
        Some(session)
    }
}
