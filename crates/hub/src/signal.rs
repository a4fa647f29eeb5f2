//! How others reach the task of a connection: one word of bits and one waker. It knows nothing of
//! sessions or mailboxes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;
use naru_domain::CloseReason;

/// Why the task of a connection woke up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// Something came into the mailbox since the last time. Said once for each time something comes, not
    /// for as long as something is there: who leaves deliveries behind comes back without being told.
    Deliveries,
    /// Somebody poked: the union of all bits since the last time.
    Poked(u32),
    /// The attachment is over; said again as often as asked.
    Closed(CloseReason),
}

const POKE_BITS: u64 = 0xFFFF_FFFF;
const DELIVERIES: u64 = 1 << 32;
/// The connection was told to end; the reason stands in the highest byte.
const CLOSED: u64 = 1 << 33;
/// The attachment is gone.
const ENDED: u64 = 1 << 34;
const REASON_SHIFT: u32 = 56;

/// The bits and the waker of one attachment.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    bits: AtomicU64,
    waker: AtomicWaker,
}

impl Signal {
    /// A signal that says there are deliveries, if there are.
    pub(crate) fn new(has_deliveries: bool) -> Signal {
        let bits = if has_deliveries { DELIVERIES } else { 0 };
        Signal { bits: AtomicU64::new(bits), waker: AtomicWaker::new() }
    }

    /// Notes that something came in. True if the task has to be woken for it. To be called with the
    /// session locked, so that [`Signal::clear_deliveries`] cannot come between.
    pub(crate) fn set_deliveries(&self) -> bool {
        self.bits.fetch_or(DELIVERIES, Ordering::AcqRel) & DELIVERIES == 0
    }

    /// Notes that the mailbox was emptied. To be called with the session locked.
    pub(crate) fn clear_deliveries(&self) {
        self.bits.fetch_and(!DELIVERIES, Ordering::AcqRel);
    }

    /// Tells the connection to end. The first reason stays.
    pub(crate) fn close(&self, reason: CloseReason) {
        let index = CloseReason::ALL.iter().position(|each| *each == reason).unwrap_or(0);
        let close = CLOSED | (index as u64) << REASON_SHIFT;
        // The first one wins, so this cannot be a plain `fetch_or`. A failed update means that another
        // reason stands already.
        let closed = self.bits.fetch_update(Ordering::AcqRel, Ordering::Acquire, |bits| {
            (bits & CLOSED == 0).then_some(bits | close)
        });
        if closed.is_ok() {
            self.waker.wake();
        }
    }

    /// The attachment is gone: pokers find out.
    pub(crate) fn end(&self) {
        self.bits.fetch_or(ENDED, Ordering::AcqRel);
    }

    pub(crate) fn wake(&self) {
        self.waker.wake();
    }

    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<Wake> {
        if let Some(wake) = self.next() {
            return Poll::Ready(wake);
        }
        self.waker.register(cx.waker());
        // Bits that were set before the waker was there have woken nobody.
        self.next().map_or(Poll::Pending, Poll::Ready)
    }

    fn next(&self) -> Option<Wake> {
        let bits = self.bits.load(Ordering::Acquire);
        if bits & CLOSED != 0 {
            let index = usize::try_from(bits >> REASON_SHIFT).unwrap_or(0);
            let reason = CloseReason::ALL.get(index).copied().unwrap_or(CloseReason::Internal);
            return Some(Wake::Closed(reason));
        }
        if bits & POKE_BITS != 0 {
            let poked = self.bits.fetch_and(!POKE_BITS, Ordering::AcqRel) & POKE_BITS;
            return u32::try_from(poked).ok().map(Wake::Poked);
        }
        if bits & DELIVERIES != 0 {
            self.bits.fetch_and(!DELIVERIES, Ordering::AcqRel);
            return Some(Wake::Deliveries);
        }
        None
    }
}

/// Wakes the task of one connection from anywhere. Cheap to clone; does not keep the session.
#[derive(Clone, Debug)]
pub struct Poker(pub(crate) Arc<Signal>);

impl Poker {
    /// Sets `bits` and wakes the task. False once the attachment has ended: forget the poker then.
    pub fn poke(&self, bits: u32) -> bool {
        let before = self.0.bits.fetch_or(u64::from(bits), Ordering::AcqRel);
        if before & ENDED != 0 {
            return false;
        }
        self.0.waker.wake();
        true
    }

    /// Whether the attachment has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.0.bits.load(Ordering::Acquire) & ENDED != 0
    }
}
