//! The hub's own work, in one task: bus events to mailboxes, the end of suspended sessions, and the care
//! for channels that lost publications, may have lost some, or lost their last listener.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use naru_domain::ports::BusEvent;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::fan_out::{Channel, Dirty};
use crate::hub::{Hub, Inner};

/// Repairs and farewells at the same time; each waits for the bus. More wait in a queue, which holds a
/// channel at most twice.
const ERRANDS_MAX: usize = 8;
/// How often a repair asks for history before it tells the followers that something is missing.
const REPAIR_ATTEMPTS_MAX: u32 = 10;
/// The pause before it asks again, times the number of attempts.
const REPAIR_PAUSE: Duration = Duration::from_millis(100);

/// Bus events handled before suspended sessions and errands get their turn again.
const EVENTS_AT_ONCE: usize = 128;

/// Connections written to before other tasks get their turn.
const FLUSHES_AT_ONCE: usize = 256;

/// Something about one channel that has to wait for the bus.
enum Errand {
    Repair(Arc<Channel>),
    Release(Arc<Channel>),
    CheckPositions,
}

/// What an errand leaves to do.
enum Outcome {
    Nothing,
    /// These were found to be behind.
    Checked(Vec<Arc<Channel>>),
}

impl Hub {
    /// Works until told to stop. To be called once; a second call returns when `stop` is cancelled.
    pub async fn run(&self, stop: CancellationToken) {
        let events = self.inner.events.lock().take();
        let Some(mut events) = events else {
            error!(target: "naru::hub", "the hub runs already");
            return stop.cancelled().await;
        };
        let mut waiting = VecDeque::new();
        let mut errands = JoinSet::new();
        let mut dirty = Dirty::default();
        let mut next_check = self.next_check();
        loop {
            while errands.len() < ERRANDS_MAX
                && let Some(errand) = waiting.pop_front()
            {
                errands.spawn(run_errand(Arc::clone(&self.inner), errand));
            }
            tokio::select! {
                () = stop.cancelled() => break,
                event = next_event(&mut events) => {
                    waiting.extend(self.on_bus_event(event, &mut dirty).map(Errand::Repair));
                    // What is there already needs no look at the other branches in between.
                    for _ in 0..EVENTS_AT_ONCE {
                        let Ok(event) = events.try_recv() else { break };
                        waiting.extend(self.on_bus_event(event, &mut dirty).map(Errand::Repair));
                    }
                    flush(&mut dirty).await;
                }
                () = self.next_expiry() => self.expire(),
                () = self.inner.channels.someone_left.notified() => {
                    waiting.extend(self.inner.channels.take_left().into_iter().map(Errand::Release));
                }
                () = until(next_check) => {
                    // The next one begins its interval when this one has ended.
                    next_check = None;
                    waiting.push_back(Errand::CheckPositions);
                }
                Some(ended) = errands.join_next() => match ended {
                    Ok(Outcome::Nothing) => {}
                    Ok(Outcome::Checked(behind)) => {
                        waiting.extend(behind.into_iter().map(Errand::Repair));
                        next_check = self.next_check();
                    }
                    Err(panic) => {
                        error!(target: "naru::hub", %panic, "care for a channel failed");
                        next_check = next_check.or_else(|| self.next_check());
                    }
                },
            }
        }
    }

    /// When positions are to be checked again, if ever.
    fn next_check(&self) -> Option<Instant> {
        let interval = self.inner.options.position_check_interval;
        (!interval.is_zero()).then(|| Instant::now() + interval)
    }

    /// Waits until a suspended session may have to end.
    async fn next_expiry(&self) {
        let earlier = self.inner.timer.earlier.notified();
        match self.inner.timer.next() {
            None => earlier.await,
            Some(at) => {
                tokio::select! {
                    () = sleep_until(self.inner.instant(at)) => {}
                    () = earlier => {}
                }
            }
        }
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Writes what the events queued. Others get their turn in between: each write is a call to the kernel.
async fn flush(dirty: &mut Dirty) {
    let mut count = 0;
    for client in dirty.0.drain(..) {
        client.outlet().flush();
        count += 1;
        if count % FLUSHES_AT_ONCE == 0 {
            tokio::task::yield_now().await;
        }
    }
}

/// Never ends by itself: without a bus there is still the expiry of sessions.
async fn next_event(events: &mut mpsc::Receiver<BusEvent>) -> BusEvent {
    match events.recv().await {
        Some(event) => event,
        None => std::future::pending().await,
    }
}

async fn run_errand(inner: Arc<Inner>, errand: Errand) -> Outcome {
    match errand {
        Errand::Release(channel) => inner.release(&channel).await,
        Errand::Repair(channel) => repair(&inner, &channel).await,
        Errand::CheckPositions => return Outcome::Checked(inner.check_positions().await),
    }
    Outcome::Nothing
}

/// Reads history until the live flow can be trusted again.
async fn repair(inner: &Inner, channel: &Arc<Channel>) {
    let mut attempt = 0;
    while attempt < REPAIR_ATTEMPTS_MAX {
        match inner.repair_step(channel).await {
            Ok(true) => return,
            Ok(false) => attempt = 0,
            Err(error) => {
                attempt += 1;
                warn!(target: "naru::hub", %error, attempt, "missed publications not read");
                sleep(REPAIR_PAUSE * attempt).await;
            }
        }
    }
    inner.give_up_repair(channel);
}
