//! What a connection's one task holds of its session: it takes deliveries, says what was written, and
//! hears when to end. It knows nothing of sockets.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use naru_domain::{CloseReason, Delivery, Generation, Offset, SessionId};

use crate::hub::Hub;
use crate::registry::Cell;
use crate::signal::{Poker, Signal, Wake};

/// A connection's hold on a session. Dropping it suspends the session, as [`Attachment::end`] does with
/// [`CloseReason::Internal`]. Once a newer connection has attached, this one can do nothing any more:
/// it takes nothing, and what it says is ignored.
pub struct Attachment {
    hub: Hub,
    cell: Arc<Cell>,
    signal: Arc<Signal>,
    generation: Generation,
    has_ended: bool,
}

impl Attachment {
    pub(crate) fn new(
        hub: Hub,
        cell: Arc<Cell>,
        signal: Arc<Signal>,
        generation: Generation,
    ) -> Attachment {
        Attachment { hub, cell, signal, generation, has_ended: false }
    }

    /// Which attachment of the session this is.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// The session.
    #[must_use]
    pub fn session(&self) -> SessionId {
        self.cell.id
    }

    /// Why to wake up. [`Wake::Deliveries`] is said once for each time something came into the mailbox:
    /// whoever leaves deliveries behind in [`Attachment::take`] comes back without being told.
    pub fn poll_wake(&mut self, cx: &mut Context<'_>) -> Poll<Wake> {
        self.signal.poll(cx)
    }

    /// The same as a future. Cancel safe.
    pub async fn wake(&mut self) -> Wake {
        poll_fn(|cx| self.signal.poll(cx)).await
    }

    /// Adds the next deliveries to `out`, in order: at most `count_max`, and at most `bytes_max` unless
    /// the first alone is larger. Reliable ones stay in the mailbox until they are handed over. A
    /// [`naru_domain::DeliveryBody::Gap`] stands in the place of what was cut. Returns how many came.
    pub fn take(&mut self, count_max: usize, bytes_max: usize, out: &mut Vec<Delivery>) -> usize {
        self.hub.inner.change(&self.cell, |live, _| {
            let taken = live.session.take(self.generation, count_max, bytes_max, out);
            if !live.session.mailbox().has_untaken() {
                self.signal.clear_deliveries();
            }
            taken
        })
    }

    /// To be called right before a write that may carry the stream up to `offset`: notes it in the
    /// delivery journal, unless that says so already.
    pub fn handing_over(&self, offset: Offset) {
        self.hub.inner.record(&self.cell, |journal| journal.announce(self.generation, offset));
    }

    /// The stream was written up to `offset`: the mailbox releases it. The journal follows if it does
    /// not say so yet.
    pub fn handed_over(&mut self, offset: Offset) {
        let generation = self.generation;
        let written = self.hub.inner.change(&self.cell, |live, _| {
            let released = live.session.hand_over(generation, offset)?;
            Some((released, live.session.mailbox().handed_over()))
        });
        let Some((released, real)) = written else { return };
        self.hub.inner.metrics.handed_over.add(released);
        self.hub.inner.record(&self.cell, |journal| journal.announce(generation, real));
    }

    /// The socket took less than was announced: the journal goes back to what was really written. To be
    /// announced again before the next write.
    pub fn retract(&self) {
        let inner = &self.hub.inner;
        if self.cell.device.is_none() {
            return;
        }
        let real = {
            let live = self.cell.live.lock();
            if !live.session.is_current(self.generation) {
                return;
            }
            live.session.mailbox().handed_over()
        };
        inner.record(&self.cell, |journal| journal.correct(self.generation, real));
    }

    /// A handle by which others wake this connection's task.
    #[must_use]
    pub fn poker(&self) -> Poker {
        Poker(Arc::clone(&self.signal))
    }

    /// Leaves the session. What was taken and not handed over waits for the next connection, and the
    /// journal says what was really written.
    pub fn end(mut self, reason: CloseReason) {
        self.leave(reason);
    }

    fn leave(&mut self, reason: CloseReason) {
        if !std::mem::replace(&mut self.has_ended, true) {
            self.signal.end();
            self.hub.inner.detach(&self.cell, self.generation, reason);
        }
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        // Reached without `end` by a task that panicked or was cancelled.
        self.leave(CloseReason::Internal);
    }
}
