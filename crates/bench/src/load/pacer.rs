//! Sends at a fixed rate from a thread of its own. The runtime's timers step in milliseconds, which
//! would show up as latency; this thread sleeps with the system's finer clock and writes itself.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::connect::RunClock;
use super::phone::Phone;
use crate::latency::Latencies;

/// A connected phone, shared by the thread that reads and the pacer.
pub(crate) struct Connected {
    pub(crate) stream: tokio::net::TcpStream,
    pub(crate) phone: parking_lot::Mutex<Phone>,
    pub(crate) dead: AtomicBool,
}

impl Connected {
    /// Writes what is waiting; a failure marks the phone as cut off.
    pub(crate) fn flush(&self, phone: &mut Phone) {
        if phone.flush(&self.stream).is_err() {
            self.dead.store(true, Ordering::Relaxed);
        }
    }
}

/// When which message is due.
pub(crate) struct Schedule {
    pub(crate) start_ns: u64,
    /// Messages per second over all phones.
    pub(crate) rate: f64,
}

impl Schedule {
    fn due_ns(&self, message: u64) -> u64 {
        #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 messages")]
        let seconds = message as f64 / self.rate;
        let offset = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
        self.start_ns.saturating_add(u64::try_from(offset.as_nanos()).unwrap_or(u64::MAX))
    }
}

/// Sends until `sending` is false or every phone's quota is used up. Phones take turns. Returns how
/// late messages left: time that is the load generator's own fault.
pub(crate) fn pace(
    phones: &[std::sync::Arc<Connected>],
    schedule: &Schedule,
    clock: RunClock,
    sending: &AtomicBool,
) -> Latencies {
    let mut lateness = Latencies::default();
    let mut message = 0u64;
    let count = u64::try_from(phones.len()).unwrap_or(u64::MAX);
    let mut touched = Vec::new();
    while sending.load(Ordering::Relaxed) {
        let now_ns = clock.now_ns();
        let mut due_ns = schedule.due_ns(message);
        let mut exhausted = 0;
        while due_ns <= now_ns && exhausted < phones.len() {
            let turn = usize::try_from(message % count).unwrap_or(0);
            if phones[turn].phone.lock().say(due_ns, now_ns) {
                lateness.record(now_ns - due_ns);
                touched.push(turn);
                exhausted = 0;
            } else {
                exhausted += 1;
            }
            message += 1;
            due_ns = schedule.due_ns(message);
        }
        touched.sort_unstable();
        touched.dedup();
        for turn in touched.drain(..) {
            let connected = &phones[turn];
            connected.flush(&mut connected.phone.lock());
        }
        if exhausted == phones.len() && phones.iter().all(|p| p.phone.lock().quota == 0) {
            break;
        }
        let wait_ns = due_ns.saturating_sub(clock.now_ns()).min(1_000_000);
        std::thread::sleep(Duration::from_nanos(wait_ns));
    }
    lateness
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_due_at_even_distances() {
        let schedule = Schedule { start_ns: 1_000, rate: 5_000.0 };
        assert_eq!(schedule.due_ns(0), 1_000);
        assert_eq!(schedule.due_ns(1), 201_000);
        assert_eq!(schedule.due_ns(5_000), 1_000_001_000);
    }
}
