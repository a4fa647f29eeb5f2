//! Replies that leave at their time: the pause between several replies to one message.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Instant;

use naru_domain::DeviceKey;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::core::{Core, now};
use crate::roster::DeviceEntry;

/// Which phones have something to send, and when.
#[derive(Debug, Default)]
pub(crate) struct Pacer {
    due: Mutex<BinaryHeap<Reverse<Due>>>,
    added: Notify,
}

#[derive(Debug)]
struct Due {
    at: Instant,
    entry: Arc<DeviceEntry>,
}

impl Due {
    fn key(&self) -> (Instant, DeviceKey) {
        (self.at, self.entry.key)
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Due) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Due) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Due) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

impl Pacer {
    /// Notes that the phone's stream has a reply for `at`. Never calls back: a stream may be locked.
    pub(crate) fn add(&self, at: Instant, entry: Arc<DeviceEntry>) {
        self.due.lock().push(Reverse(Due { at, entry }));
        self.added.notify_one();
    }

    fn pop(&self, now: Instant) -> Result<Arc<DeviceEntry>, Option<Instant>> {
        let mut due = self.due.lock();
        match due.peek() {
            Some(Reverse(first)) if first.at <= now => {
                Ok(due.pop().map(|Reverse(first)| first.entry).expect("invariant: it was peeked"))
            }
            Some(Reverse(first)) => Err(Some(first.at)),
            None => Err(None),
        }
    }
}

/// Sends what is due, for ever.
pub(crate) async fn run(core: Arc<Core>) {
    loop {
        match core.pacer.pop(now()) {
            Ok(entry) => send_due(&core, &entry),
            Err(Some(at)) => tokio::select! {
                () = tokio::time::sleep_until(at.into()) => (),
                () = core.pacer.added.notified() => (),
            },
            Err(None) => core.pacer.added.notified().await,
        }
    }
}

fn send_due(core: &Core, entry: &DeviceEntry) {
    let now = now();
    let mut stream = entry.stream.lock();
    while stream.paced.front().is_some_and(|paced| paced.at <= now) {
        if let Some(paced) = stream.paced.pop_front() {
            core.hand_over(entry, paced.delivery);
        }
    }
}
