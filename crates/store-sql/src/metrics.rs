//! The store's own figures.

use std::path::PathBuf;

use naru_domain::metrics::{Counter, Gauge, Histogram, MetricSink, MetricSource};
use naru_domain::ports::StoreError;

/// What the store counts.
#[derive(Debug, Default)]
pub(crate) struct StoreMetrics {
    pub(crate) commits: Counter,
    pub(crate) commit_seconds: Histogram,
    pub(crate) messages: Counter,
    pub(crate) replies: Counter,
    pub(crate) settlements: Counter,
    pub(crate) duplicates: Counter,
    pub(crate) batch_rows_last: Gauge,
    pub(crate) repeated_commits: Counter,
    pub(crate) writer_wait_seconds: Histogram,
    pub(crate) reader_waits: Counter,
    pub(crate) reader_wait_seconds: Histogram,
    pub(crate) busy: Counter,
    pub(crate) full: Counter,
    pub(crate) read_only: Counter,
    pub(crate) corrupt: Counter,
    pub(crate) failed: Counter,
    pub(crate) reconnects: Counter,
    pub(crate) purged: Counter,
    pub(crate) files: Vec<PathBuf>,
}

impl StoreMetrics {
    /// Counts an error by what it asks of the caller.
    pub(crate) fn count(&self, error: &StoreError) {
        match error {
            StoreError::Busy { .. } => self.busy.increment(),
            StoreError::Full { .. } => self.full.increment(),
            StoreError::ReadOnly { .. } => self.read_only.increment(),
            StoreError::Corrupt { .. } => self.corrupt.increment(),
            StoreError::Failed { .. } => self.failed.increment(),
            // Answers, not failures.
            StoreError::Conflict | StoreError::NotFound => (),
        }
    }
}

impl MetricSource for StoreMetrics {
    fn collect(&self, sink: &mut dyn MetricSink) {
        let counters = [
            ("store_commits", "Ledger batches committed.", &self.commits),
            ("store_messages", "Messages kept.", &self.messages),
            ("store_replies", "Replies kept.", &self.replies),
            ("store_settlements", "Messages that ended.", &self.settlements),
            ("store_duplicates", "Messages left out since they were known.", &self.duplicates),
            (
                "store_repeated_commits",
                "Batches committed row by row since one of their rows was known.",
                &self.repeated_commits,
            ),
            ("store_reader_waits", "Reads that had to wait for a connection.", &self.reader_waits),
            ("store_reconnects", "Connections given up after an error.", &self.reconnects),
            ("store_purged_rows", "Rows removed by retention.", &self.purged),
        ];
        for (name, help, counter) in counters {
            sink.counter(name, help, &[], counter.get());
        }
        let errors = [
            ("busy", &self.busy),
            ("full", &self.full),
            ("read_only", &self.read_only),
            ("corrupt", &self.corrupt),
            ("failed", &self.failed),
        ];
        for (kind, counter) in errors {
            let help = "Calls that failed, by what the caller can do about it.";
            sink.counter("store_errors", help, &[("kind", kind)], counter.get());
        }
        let rows = "Rows of the batch committed last.";
        sink.gauge("store_batch_rows", rows, &[], self.batch_rows_last.get());
        let bytes = self.files.iter().filter_map(|file| std::fs::metadata(file).ok());
        let bytes: u64 = bytes.map(|metadata| metadata.len()).sum();
        let help = "Size of the database with its log, in bytes.";
        sink.gauge("store_bytes", help, &[], i64::try_from(bytes).unwrap_or(i64::MAX));
        let histograms = [
            ("store_commit_seconds", "Time of a ledger commit.", &self.commit_seconds),
            ("store_writer_wait_seconds", "Wait for the writer.", &self.writer_wait_seconds),
            ("store_reader_wait_seconds", "Wait for a reader.", &self.reader_wait_seconds),
        ];
        for (name, help, histogram) in histograms {
            sink.histogram(name, help, &[], histogram);
        }
    }
}
