//! The figures of bot work: counters, depths, and how long each stage takes.

use naru_domain::metrics::{Counter, Gauge, Histogram, MetricSink, MetricSource};
use naru_domain::ports::PurgeKind;

/// Everything that is counted here. Fields are public within the crate: whoever does the work counts it.
#[derive(Debug, Default)]
pub struct BotsMetrics {
    /// Chat messages handed over by gateways.
    pub received: Counter,
    /// Of them taken for work or for the log.
    pub accepted: Counter,
    /// Given back because the queue was full (the phone waits).
    pub pushed_back: Counter,
    /// Known (device, log id), found in memory.
    pub duplicates_memory: Counter,
    /// Known (device, log id), found by the store.
    pub duplicates_store: Counter,
    /// Id-less copies merged with the complete message.
    pub copies: Counter,
    /// Not kept: nobody answers them and the bot keeps no log.
    pub unlogged: Counter,
    /// Not taken because the node is stopping.
    pub refused_stopping: Counter,
    /// Kept for the next start, because the node is stopping.
    pub left_for_next_start: Counter,
    /// Ended with an answer or in deliberate silence.
    pub done: Counter,
    /// Ended in the log only.
    pub logged: Counter,
    /// Of `done`: answered without a worker.
    pub immediate: Counter,
    /// Failed for good because the handler said so.
    pub dead_failed: Counter,
    /// Failed for good because the handler panicked.
    pub dead_panicked: Counter,
    /// Failed for good because the handler took too long.
    pub dead_timed_out: Counter,
    /// Failed for good because the handler blocked its thread.
    pub dead_stuck: Counter,
    /// Handlers tried again after an error that allows it.
    pub retries: Counter,
    /// Answers that came after their message was given up.
    pub late_answers: Counter,
    /// Replies withheld because the approval was withdrawn meanwhile.
    pub withheld: Counter,
    /// Replies kept.
    pub replies: Counter,
    /// Replies that the session dropped (its own bounds).
    pub replies_dropped: Counter,
    /// Workers that were replaced.
    pub workers_replaced: Counter,
    /// Workers that are working.
    pub workers_busy: Gauge,
    /// Messages in work whose handlers wait, without a worker.
    pub parked: Gauge,
    /// Messages that wait for a worker.
    pub waiting: Gauge,
    /// Messages in work.
    pub in_work: Gauge,
    /// Devices in memory.
    pub devices: Gauge,
    /// Rooms in memory.
    pub rooms: Gauge,
    /// Log ids in memory.
    pub known_ids: Gauge,
    /// Entries that were forgotten because nobody used them.
    pub expired: Counter,
    /// Times that caches were cut because memory was short.
    pub memory_sheds: Counter,
    /// Batches kept by the store.
    pub ledger_batches: Counter,
    /// Attempts to keep a batch that failed.
    pub ledger_errors: Counter,
    /// Entries the store refused while it worked well otherwise.
    pub ledger_refused: Counter,
    /// 1 while the store takes batches, else 0.
    pub ledger_healthy: Gauge,
    /// Keep-alive answers kept.
    pub pings: Counter,
    /// Keep-alive answers dropped under pressure or by the store.
    pub pings_dropped: Counter,
    /// Log rows of direct mode that were dropped under pressure.
    pub log_dropped: Counter,
    /// Messages and replies that rooms' channels got.
    pub room_tellings: Counter,
    /// Those that a channel did not get: too many waited, or it took too long.
    pub room_tellings_dropped: Counter,
    /// Those on their way.
    pub room_tellings_waiting: Gauge,
    /// Answers taken from rooms' channels.
    pub room_answers: Counter,
    /// Answers that were refused.
    pub room_answers_refused: Counter,
    /// Panics of service tasks.
    pub task_panics: Counter,
    /// Rows removed by retention, as `PurgeKind::ALL`.
    pub purged: [Counter; PurgeKind::ALL.len()],
    /// From reading a message to the start of work.
    pub stage_queue: Histogram,
    /// The handler.
    pub stage_work: Histogram,
    /// One commit of the ledger.
    pub stage_commit: Histogram,
    /// From reading a message to handing its reply to the session.
    pub stage_reply: Histogram,
}

impl MetricSource for BotsMetrics {
    fn collect(&self, sink: &mut dyn MetricSink) {
        let mut counter = |name: &str, help: &str, value: &Counter| {
            sink.counter(name, help, &[], value.get());
        };
        counter("bots_messages_received", "Chat messages from phones", &self.received);
        counter("bots_messages_accepted", "Chat messages taken", &self.accepted);
        counter("bots_messages_pushed_back", "Times a full queue held a phone", &self.pushed_back);
        counter("bots_messages_copies", "Id-less copies merged", &self.copies);
        counter("bots_messages_unlogged", "Messages neither answered nor kept", &self.unlogged);
        counter(
            "bots_messages_refused_stopping",
            "Messages not taken while stopping",
            &self.refused_stopping,
        );
        let help = "Messages kept for the next start";
        counter("bots_messages_left", help, &self.left_for_next_start);
        counter("bots_messages_immediate", "Messages answered without a worker", &self.immediate);
        counter("bots_handler_retries", "Handlers tried again", &self.retries);
        counter(
            "bots_handler_late_answers",
            "Answers after the message was given up",
            &self.late_answers,
        );
        counter("bots_replies", "Replies made", &self.replies);
        counter("bots_replies_withheld", "Replies withheld for lack of approval", &self.withheld);
        counter("bots_replies_dropped", "Replies dropped by a full session", &self.replies_dropped);
        counter("bots_workers_replaced", "Stuck workers replaced", &self.workers_replaced);
        counter("bots_cache_expired", "Idle devices and rooms forgotten", &self.expired);
        counter("bots_memory_sheds", "Times caches were cut", &self.memory_sheds);
        counter("bots_ledger_batches", "Batches kept", &self.ledger_batches);
        counter("bots_ledger_errors", "Failed attempts to keep a batch", &self.ledger_errors);
        counter("bots_ledger_refused", "Entries the store refused", &self.ledger_refused);
        counter("bots_pings", "Keep-alive answers kept", &self.pings);
        counter("bots_pings_dropped", "Keep-alive answers dropped", &self.pings_dropped);
        counter("bots_log_dropped", "Log rows dropped in direct mode", &self.log_dropped);
        let help = "Messages and replies told to rooms' channels";
        counter("bots_room_tellings", help, &self.room_tellings);
        let help = "Messages and replies that a room's channel did not get";
        counter("bots_room_tellings_dropped", help, &self.room_tellings_dropped);
        counter("bots_task_panics", "Panics of service tasks", &self.task_panics);
        self.collect_labelled(sink);
        self.collect_gauges(sink);
        for (stage, histogram) in [
            ("queue", &self.stage_queue),
            ("work", &self.stage_work),
            ("commit", &self.stage_commit),
            ("reply", &self.stage_reply),
        ] {
            sink.histogram("bots_stage_seconds", "Time per stage", &[("stage", stage)], histogram);
        }
    }
}

impl BotsMetrics {
    fn collect_labelled(&self, sink: &mut dyn MetricSink) {
        for (found, value) in
            [("memory", &self.duplicates_memory), ("store", &self.duplicates_store)]
        {
            let help = "Messages heard before";
            sink.counter("bots_messages_duplicate", help, &[("found_in", found)], value.get());
        }
        for (state, value) in [("done", &self.done), ("logged", &self.logged)] {
            let help = "Messages that ended well";
            sink.counter("bots_messages_ended", help, &[("state", state)], value.get());
        }
        for (cause, value) in [
            ("failed", &self.dead_failed),
            ("panicked", &self.dead_panicked),
            ("timed_out", &self.dead_timed_out),
            ("stuck", &self.dead_stuck),
        ] {
            let help = "Messages that failed for good";
            sink.counter("bots_messages_dead", help, &[("cause", cause)], value.get());
        }
        for (result, value) in
            [("taken", &self.room_answers), ("refused", &self.room_answers_refused)]
        {
            let help = "Answers published into rooms' channels";
            sink.counter("bots_room_answers", help, &[("result", result)], value.get());
        }
        for (kind, value) in PurgeKind::ALL.into_iter().zip(&self.purged) {
            let help = "Rows removed by retention";
            sink.counter("bots_purged", help, &[("kind", kind.label())], value.get());
        }
    }

    fn collect_gauges(&self, sink: &mut dyn MetricSink) {
        let mut gauge =
            |name: &str, help: &str, value: &Gauge| sink.gauge(name, help, &[], value.get());
        gauge("bots_queue_waiting", "Messages waiting for a worker", &self.waiting);
        gauge("bots_queue_in_work", "Messages in work", &self.in_work);
        gauge("bots_workers_busy", "Workers at work", &self.workers_busy);
        gauge("bots_queue_parked", "Messages in work that hold no worker", &self.parked);
        gauge("bots_devices", "Devices in memory", &self.devices);
        gauge("bots_rooms", "Rooms in memory", &self.rooms);
        gauge("bots_known_ids", "Log ids in memory", &self.known_ids);
        let waiting = &self.room_tellings_waiting;
        gauge("bots_room_tellings_waiting", "Publications on the way to rooms' channels", waiting);
        gauge("bots_ledger_healthy", "1 while the store takes batches", &self.ledger_healthy);
    }

    /// The counter of one kind of retention.
    pub(crate) fn purged(&self, kind: PurgeKind) -> &Counter {
        let place = PurgeKind::ALL.iter().position(|of| *of == kind);
        &self.purged[place.expect("invariant: ALL names every kind")]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_rows_that_retention_removes_is_counted() {
        let metrics = BotsMetrics::default();
        for kind in PurgeKind::ALL {
            metrics.purged(kind).increment();
            assert_eq!(metrics.purged(kind).get(), 1, "{}", kind.label());
        }
    }
}
