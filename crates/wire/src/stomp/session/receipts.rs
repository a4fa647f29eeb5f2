//! The order of receipts, for gateways that work on several frames of a connection at once.
//!
//! A receipt says that its frame *and all frames before it* took effect, so that a client may ask for
//! one at the end of many. Whatever is done in another order waits here for what came before.

use std::collections::VecDeque;

/// An action that has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(u64);

/// The actions of a connection that have begun and whose receipts have not left. Empty, it holds no
/// allocation worth mentioning.
#[derive(Debug, Default)]
pub struct Receipts {
    /// The ticket of the oldest entry.
    first: u64,
    waiting: VecDeque<Entry>,
}

#[derive(Debug)]
struct Entry {
    receipt: Option<Box<str>>,
    is_done: bool,
}

/// An emptied queue of up to this many places is kept.
const PLACES_KEPT: usize = 16;

impl Receipts {
    /// Notes that an action has begun. It counts without a receipt as well: later ones wait for it.
    pub fn begin(&mut self, receipt: Option<Box<str>>) -> Ticket {
        self.waiting.push_back(Entry { receipt, is_done: false });
        Ticket(self.first + self.waiting.len() as u64 - 1)
    }

    /// Notes that it is done, and adds the receipts that are due now to `due`, in order.
    pub fn finish(&mut self, ticket: Ticket, due: &mut Vec<Box<str>>) {
        let at = ticket.0.checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
        if let Some(entry) = at.and_then(|at| self.waiting.get_mut(at)) {
            entry.is_done = true;
        }
        while let Some(entry) = self.waiting.pop_front_if(|entry| entry.is_done) {
            self.first += 1;
            due.extend(entry.receipt);
        }
        if self.waiting.is_empty() && self.waiting.capacity() > PLACES_KEPT {
            self.waiting = VecDeque::new();
        }
    }

    /// How many actions are not done, or wait for one before them. The gateway reads no further while
    /// there are too many.
    #[must_use]
    pub fn pending_count(&self) -> usize {
        self.waiting.len()
    }
}
