//! The watch over subscriptions with positions: a publication that the bus lost without knowing shows when
//! the history of a channel is ahead of its live flow for long. It repairs nothing itself.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use naru_domain::Position;
use naru_domain::ports::HistoryQuery;
use tracing::debug;

use crate::channels::{Channel, Listeners, Repair};
use crate::hub::Inner;

impl Inner {
    /// Compares the live flow of the channels with their history. Returns those that were behind twice
    /// in a row; their repair has begun, and the caller has to run it.
    pub(crate) async fn check_positions(&self) -> Vec<Arc<Channel>> {
        let mut behind = Vec::new();
        for channel in self.channels.all(|_| true) {
            if channel.listeners.lock().watched().next().is_none() {
                continue;
            }
            let top_only = HistoryQuery { since: None, limit: 0 };
            let top = match self.read_history(&channel.name, top_only).await {
                Ok(page) => page.top,
                Err(error) => {
                    // The other channels would wait as long for the same answer.
                    debug!(target: "naru::hub", %error, "positions not checked");
                    break;
                }
            };
            let mut listeners = channel.listeners.lock();
            if listeners.is_behind_again(top) && listeners.begin_repair() {
                self.metrics.positions_behind.increment();
                drop(listeners);
                behind.push(channel);
            }
        }
        behind
    }
}

impl Listeners {
    /// The positions of those who were promised to miss nothing, unless a repair is at work already.
    fn watched(&self) -> impl Iterator<Item = Position> {
        let is_trusted = matches!(self.repair, Repair::NotNeeded);
        let listeners = self.places.iter().filter(move |_| is_trusted);
        listeners
            .filter(|(_, each)| each.traits.is_positioned)
            .filter_map(|(_, each)| each.follower.position())
    }

    /// Whether a follower has not even reached the top of the check before. What is on its way at the
    /// moment of a check is no loss, so the first time is only remembered.
    fn is_behind_again(&mut self, top: Position) -> bool {
        let is_behind = |listeners: &Listeners, top: Position| {
            listeners
                .watched()
                .any(|position| position.epoch != top.epoch || position.offset < top.offset)
        };
        if let Some(awaited) = self.awaited.take()
            && is_behind(self, awaited)
        {
            return true;
        }
        self.awaited = is_behind(self, top).then_some(top);
        false
    }
}
