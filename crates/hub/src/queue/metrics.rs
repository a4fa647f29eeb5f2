//! The figures of work queues.

use naru_domain::metrics::{Counter, Gauge, Histogram, MetricSink, MetricSource};

/// What the queues count.
#[derive(Debug, Default)]
pub struct QueueMetrics {
    pub(super) messages: Gauge,
    pub(super) weight: Gauge,
    pub(super) dead_waiting: Gauge,
    pub(super) sent: Counter,
    pub(super) duplicates: Counter,
    pub(super) full: Counter,
    pub(super) not_kept: Counter,
    pub(super) stored: Counter,
    pub(super) loaded: Counter,
    pub(super) redelivered: Counter,
    pub(super) done: Counter,
    pub(super) dead: Counter,
    pub(super) notes: Gauge,
    pub(super) commits: Counter,
    pub(super) commits_failed: Counter,
    pub(super) commit_seconds: Histogram,
}

impl MetricSource for QueueMetrics {
    fn collect(&self, sink: &mut dyn MetricSink) {
        let help = "Messages sent to work queues, by what became of them.";
        for (result, counter) in [
            ("accepted", &self.sent),
            ("duplicate", &self.duplicates),
            ("full", &self.full),
            ("not_kept", &self.not_kept),
        ] {
            sink.counter("queue_sends", help, &[("result", result)], counter.get());
        }
        let counters = [
            ("queue_stored", "Messages kept in the store.", &self.stored),
            ("queue_loaded", "Messages of an earlier life.", &self.loaded),
            ("queue_redelivered", "Deliveries that need not be the first.", &self.redelivered),
            ("queue_done", "Messages that a consumer finished.", &self.done),
            ("queue_dead", "Messages given up.", &self.dead),
            ("queue_commits", "Group commits.", &self.commits),
            ("queue_commits_failed", "Group commits that kept nothing.", &self.commits_failed),
        ];
        for (name, help, counter) in counters {
            sink.counter(name, help, &[], counter.get());
        }
        let gauges = [
            ("queue_messages", "Messages in work queues.", &self.messages),
            ("queue_bytes", "What they take in memory, about.", &self.weight),
            (
                "queue_dead_waiting",
                "Messages given up that are not among the dead letters yet.",
                &self.dead_waiting,
            ),
            (
                "queue_notes",
                "Deliveries and ends of messages that the store does not know of yet.",
                &self.notes,
            ),
        ];
        for (name, help, gauge) in gauges {
            sink.gauge(name, help, &[], gauge.get());
        }
        let help = "Time of a group commit.";
        sink.histogram("queue_commit_seconds", help, &[], &self.commit_seconds);
    }
}
