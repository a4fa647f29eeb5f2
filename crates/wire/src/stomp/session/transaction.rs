//! Open transactions: what was sent and acknowledged in them waits here, within bounds.

use std::time::Instant;

use super::action::PendingStep;
use super::{Refusal, SessionLimits};

/// The open transactions of a connection.
#[derive(Debug, Default)]
pub(super) struct Transactions {
    /// The oldest first, which is also the first whose time is over.
    open: Vec<Transaction>,
    /// What all of them hold.
    bytes: usize,
}

#[derive(Debug)]
struct Transaction {
    name: Box<str>,
    until: Instant,
    bytes: usize,
    steps: Vec<PendingStep>,
}

impl Transactions {
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.open.first().map(|transaction| transaction.until)
    }

    /// Drops those whose time is over, and says how many.
    pub(super) fn expire(&mut self, now: Instant) -> usize {
        let is_over = |transaction: &Transaction| transaction.until <= now;
        let count = self.open.iter().take_while(|transaction| is_over(transaction)).count();
        for transaction in self.open.drain(..count) {
            self.bytes -= transaction.bytes;
        }
        count
    }

    pub(super) fn begin(
        &mut self,
        name: &str,
        now: Instant,
        limits: &SessionLimits,
    ) -> Result<(), Refusal> {
        if self.open.iter().any(|have| &*have.name == name) {
            return Err(Refusal::DuplicateTransaction);
        }
        if self.open.len() >= limits.transactions_max {
            return Err(Refusal::TooManyTransactions { max: limits.transactions_max });
        }
        let until = now + limits.transaction_time_max;
        self.open.push(Transaction { name: name.into(), until, bytes: 0, steps: Vec::new() });
        Ok(())
    }

    pub(super) fn add(
        &mut self,
        name: &str,
        step: PendingStep,
        bytes: usize,
        limits: &SessionLimits,
    ) -> Result<(), Refusal> {
        let transaction = self.open.iter_mut().find(|have| &*have.name == name);
        let transaction = transaction.ok_or(Refusal::UnknownTransaction)?;
        let bytes = bytes + size_of::<PendingStep>();
        if transaction.steps.len() >= limits.transaction_frames_max {
            let max = limits.transaction_frames_max;
            return Err(Refusal::TooManyFramesInTransaction { max });
        }
        if self.bytes + bytes > limits.transaction_bytes_max {
            let max = limits.transaction_bytes_max;
            return Err(Refusal::TransactionTooLarge { max });
        }
        self.bytes += bytes;
        transaction.bytes += bytes;
        transaction.steps.push(step);
        Ok(())
    }

    /// Takes one away, with what was done in it.
    pub(super) fn end(&mut self, name: &str) -> Option<Vec<PendingStep>> {
        let at = self.open.iter().position(|have| &*have.name == name)?;
        let transaction = self.open.remove(at);
        self.bytes -= transaction.bytes;
        Some(transaction.steps)
    }
}
