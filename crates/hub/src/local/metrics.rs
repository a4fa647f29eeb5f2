//! The figures of the in-process bus.

use naru_domain::metrics::{Counter, Gauge, Histogram, MetricSink, MetricSource};

/// What the in-process bus counts.
#[derive(Debug, Default)]
pub struct LocalBusMetrics {
    pub(crate) published: Counter,
    pub(crate) duplicates: Counter,
    pub(crate) outdated: Counter,
    pub(crate) refused: Counter,
    pub(crate) failed: Counter,
    pub(crate) events: Counter,
    pub(crate) events_dropped: Counter,
    pub(crate) gaps: Counter,
    pub(crate) commits: Counter,
    pub(crate) committed: Counter,
    pub(crate) commit_seconds: Histogram,
    pub(crate) channels: Gauge,
    pub(crate) history_publications: Gauge,
    pub(crate) history_bytes: Gauge,
    pub(crate) keys: Gauge,
}

impl MetricSource for LocalBusMetrics {
    fn collect(&self, sink: &mut dyn MetricSink) {
        let help = "Publications that the bus took, by what became of them.";
        for (result, counter) in [
            ("published", &self.published),
            ("duplicate", &self.duplicates),
            ("outdated", &self.outdated),
            ("refused", &self.refused),
            ("failed", &self.failed),
        ] {
            sink.counter("bus_publishes", help, &[("result", result)], counter.get());
        }
        let help = "Publications sent to the hub.";
        sink.counter("bus_events", help, &[], self.events.get());
        let help = "Publications not sent because the hub's queue was full. A gap follows.";
        sink.counter("bus_events_dropped", help, &[], self.events_dropped.get());
        let help = "Gaps reported to the hub.";
        sink.counter("bus_gaps", help, &[], self.gaps.get());
        let help = "Group commits of channel history.";
        sink.counter("bus_commits", help, &[], self.commits.get());
        let help = "Publications kept by group commits.";
        sink.counter("bus_committed", help, &[], self.committed.get());
        let help = "How long a group commit took.";
        sink.histogram("bus_commit_seconds", help, &[], &self.commit_seconds);
        let help = "Channels that the bus holds.";
        sink.gauge("bus_channels", help, &[], self.channels.get());
        let help = "Publications held in memory as history.";
        sink.gauge("bus_history_publications", help, &[], self.history_publications.get());
        let help = "Bytes held in memory as history.";
        sink.gauge("bus_history_bytes", help, &[], self.history_bytes.get());
        let help = "Idempotency keys remembered.";
        sink.gauge("bus_keys", help, &[], self.keys.get());
    }
}
