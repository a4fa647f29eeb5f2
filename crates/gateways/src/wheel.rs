//! One timer for many connections: pokes each of them once a period, so that an idle connection needs
//! no timer of its own. Knows nothing of what a poke means.

use std::time::Duration;

use naru_hub::Poker;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// How fine the wheel is. Keep-alives are tens of seconds apart, so 100 ms is exact enough.
const STEP: Duration = Duration::from_millis(100);

/// A ring of slots. A connection sits in the slot of its next poke and is put back when it was poked.
pub(crate) struct Wheel {
    slots: Mutex<Slots>,
    bits: u32,
}

struct Slots {
    ring: Vec<Vec<Poker>>,
    now: usize,
}

impl Wheel {
    /// A wheel that goes round once a `period` (at least one step) and pokes with `bits`.
    pub(crate) fn new(period: Duration, bits: u32) -> Wheel {
        let steps = usize::try_from(period.as_millis() / STEP.as_millis()).unwrap_or(usize::MAX);
        let ring = vec![Vec::new(); steps.clamp(1, 36_000)];
        Wheel { slots: Mutex::new(Slots { ring, now: 0 }), bits }
    }

    /// Pokes `poker` once a period from now on, first after about `first_fraction` (0 to 1) of one.
    /// A connection that has ended is dropped at its next turn.
    pub(crate) fn add(&self, poker: Poker, first_fraction: f64) {
        let mut slots = self.slots.lock();
        let len = slots.ring.len();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a slot number of a small ring, clamped into it"
        )]
        let ahead = ((len as f64 * first_fraction) as usize).clamp(1, len);
        let slot = (slots.now + ahead) % len;
        slots.ring[slot].push(poker);
    }

    /// Pokes everybody at once.
    pub(crate) fn poke_all(&self, bits: u32) {
        let ring = std::mem::take(&mut self.slots.lock().ring);
        for poker in ring.iter().flatten() {
            poker.poke(bits);
        }
        self.slots.lock().ring = ring;
    }

    /// Turns until told to stop.
    pub(crate) async fn run(&self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(STEP);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            self.step();
        }
    }

    fn step(&self) {
        // Poked outside the lock: waking a task may run a waker of another lock's owner.
        let due = {
            let mut slots = self.slots.lock();
            slots.now = (slots.now + 1) % slots.ring.len();
            let now = slots.now;
            std::mem::take(&mut slots.ring[now])
        };
        let mut alive: Vec<Poker> = due.into_iter().filter(|poker| poker.poke(self.bits)).collect();
        if !alive.is_empty() {
            let mut slots = self.slots.lock();
            let now = slots.now;
            slots.ring[now].append(&mut alive);
        }
    }
}
