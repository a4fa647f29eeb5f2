//! Beats for the service manager's watchdog. They come from the task that waits for signals, so they stop
//! when the runtime hangs, and also when the node says that it cannot mend itself: then it is replaced.

use std::sync::Arc;
use std::time::Duration;

use naru_admin::NodeHealth;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// When to beat. Without a watchdog, never.
pub(crate) struct Watchdog {
    beats: Option<Interval>,
    health: Arc<NodeHealth>,
}

impl Watchdog {
    /// The service manager waits for `period` at most; it is told twice as often.
    pub(crate) fn new(period: Option<Duration>, health: Arc<NodeHealth>) -> Watchdog {
        let beats = period.map(|period| {
            let mut beats = interval((period / 2).max(Duration::from_millis(1)));
            beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
            beats
        });
        Watchdog { beats, health }
    }

    /// Waits for the next beat that may be given; for ever when there is no watchdog or the node is
    /// broken. Cancel safe.
    pub(crate) async fn beat(&mut self) {
        let Some(beats) = self.beats.as_mut() else { return std::future::pending().await };
        loop {
            beats.tick().await;
            if !self.health.is_broken() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    async fn beats_in_a_minute(watchdog: &mut Watchdog) -> u32 {
        let mut count = 0;
        let counting = async {
            loop {
                watchdog.beat().await;
                count += 1;
            }
        };
        drop(timeout(MINUTE, counting).await);
        count
    }

    #[tokio::test(start_paused = true)]
    async fn beats_come_twice_a_period_until_the_node_is_broken() {
        let health = Arc::new(NodeHealth::new(None));
        let mut watchdog = Watchdog::new(Some(Duration::from_secs(30)), Arc::clone(&health));
        assert_eq!(beats_in_a_minute(&mut watchdog).await, 5, "one at once, then each 15 s");
        health.draining();
        assert_eq!(beats_in_a_minute(&mut watchdog).await, 4, "who drains is no wreck");
        health.broken();
        assert_eq!(beats_in_a_minute(&mut watchdog).await, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_watchdog_nothing_beats() {
        let mut watchdog = Watchdog::new(None, Arc::new(NodeHealth::new(None)));
        assert_eq!(beats_in_a_minute(&mut watchdog).await, 0);
    }
}
