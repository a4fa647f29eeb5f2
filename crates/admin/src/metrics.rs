//! Figures: the Prometheus text format for all sources, this crate's own counters, and what `/proc`
//! says about the process. Names get the prefix `naru_`; only figures of the process keep the names
//! that every Prometheus client library uses.

use std::fmt::Write as _;
use std::sync::Arc;

use naru_domain::metrics::{Counter, Gauge, Histogram, MetricSink, MetricSource};

/// Writes the text exposition format, version 0.0.4.
#[derive(Default)]
pub(crate) struct TextSink {
    text: String,
    last_name: String,
}

impl TextSink {
    pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

    pub(crate) fn finish(self) -> String {
        self.text
    }

    fn head(&mut self, name: &str, help: &str, kind: &str) {
        if self.last_name == name {
            return;
        }
        name.clone_into(&mut self.last_name);
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        self.push(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    fn line(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        more: Option<(&str, &str)>,
        value: impl std::fmt::Display,
    ) {
        self.text.push_str(name);
        let mut opened = false;
        for (label, value) in labels.iter().copied().chain(more) {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let before = if std::mem::replace(&mut opened, true) { ',' } else { '{' };
            self.push(format_args!("{before}{label}=\"{value}\""));
        }
        if opened {
            self.text.push('}');
        }
        self.push(format_args!(" {value}\n"));
    }

    fn push(&mut self, arguments: std::fmt::Arguments<'_>) {
        self.text.write_fmt(arguments).expect("invariant: writing to a String cannot fail");
    }

    /// A figure with a name of its own and any number as its value.
    pub(crate) fn plain(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        value: impl std::fmt::Display,
    ) {
        self.head(name, help, kind);
        self.line(name, &[], None, value);
    }
}

fn seconds(us: u64) -> String {
    let text = format!("{}.{:06}", us / 1_000_000, us % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

impl MetricSink for TextSink {
    fn counter(&mut self, name: &str, help: &str, labels: &[(&str, &str)], value: u64) {
        let name = format!("naru_{name}_total");
        self.head(&name, help, "counter");
        self.line(&name, labels, None, value);
    }

    fn gauge(&mut self, name: &str, help: &str, labels: &[(&str, &str)], value: i64) {
        let name = format!("naru_{name}");
        self.head(&name, help, "gauge");
        self.line(&name, labels, None, value);
    }

    fn histogram(&mut self, name: &str, help: &str, labels: &[(&str, &str)], value: &Histogram) {
        let name = if name.ends_with("_seconds") {
            format!("naru_{name}")
        } else {
            format!("naru_{name}_seconds")
        };
        self.head(&name, help, "histogram");
        let (buckets, sum_us) = value.read();
        let bucket_name = format!("{name}_bucket");
        let mut count = 0;
        for (index, in_bucket) in buckets.iter().enumerate() {
            count += in_bucket;
            let bound = match Histogram::BOUNDS_US.get(index) {
                Some(us) => seconds(*us),
                None => "+Inf".to_owned(),
            };
            self.line(&bucket_name, labels, Some(("le", &bound)), count);
        }
        self.line(&format!("{name}_sum"), labels, None, seconds(sum_us));
        self.line(&format!("{name}_count"), labels, None, count);
    }
}

/// All figures as text.
pub(crate) fn render(sources: &[Arc<dyn MetricSource>], own: &AdminMetrics) -> String {
    let mut sink = TextSink::default();
    for source in sources {
        source.collect(&mut sink);
    }
    own.collect(&mut sink);
    process(&mut sink);
    sink.finish()
}

/// Figures of one route.
#[derive(Default)]
pub(crate) struct RouteMetrics {
    /// By the first digit of the status, 1xx first.
    pub(crate) answers: [Counter; 5],
    /// From the head of the request to the head of the answer.
    pub(crate) first_byte: Histogram,
    /// To the end of the answer's body.
    pub(crate) last_byte: Histogram,
}

/// This crate's own figures.
pub(crate) struct AdminMetrics {
    /// One entry a route, the last for requests that fit none: (method, path template, figures).
    pub(crate) routes: Vec<(String, &'static str, RouteMetrics)>,
    pub(crate) connections: Gauge,
    pub(crate) connections_refused: Counter,
    pub(crate) accept_failures: Counter,
    pub(crate) tls_failures: Counter,
    pub(crate) rate_limited: Counter,
    pub(crate) logins_failed: Counter,
    pub(crate) panics: Counter,
    pub(crate) bulk_reads: Counter,
    pub(crate) slow_readers: Counter,
}

impl AdminMetrics {
    pub(crate) fn new(routes: impl Iterator<Item = (String, &'static str)>) -> AdminMetrics {
        let unmatched = std::iter::once(("-".to_owned(), "unmatched"));
        AdminMetrics {
            routes: routes
                .chain(unmatched)
                .map(|(method, path)| (method, path, RouteMetrics::default()))
                .collect(),
            connections: Gauge::default(),
            connections_refused: Counter::default(),
            accept_failures: Counter::default(),
            tls_failures: Counter::default(),
            rate_limited: Counter::default(),
            logins_failed: Counter::default(),
            panics: Counter::default(),
            bulk_reads: Counter::default(),
            slow_readers: Counter::default(),
        }
    }

    pub(crate) fn route(&self, index: usize) -> &RouteMetrics {
        &self.routes[index.min(self.routes.len() - 1)].2
    }

    /// Only routes that were used: an unused one would add forty lines to each scrape.
    fn used(&self) -> impl Iterator<Item = &(String, &'static str, RouteMetrics)> {
        self.routes.iter().filter(|(_, _, route)| route.answers.iter().any(|count| count.get() > 0))
    }
}

impl MetricSource for AdminMetrics {
    fn collect(&self, sink: &mut dyn MetricSink) {
        const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
        for (method, path, route) in self.used() {
            for (class, count) in CLASSES.iter().zip(&route.answers) {
                if count.get() > 0 {
                    let labels = [("method", method.as_str()), ("route", path), ("status", class)];
                    sink.counter("http_requests", "Answered requests.", &labels, count.get());
                }
            }
        }
        for (method, path, route) in self.used() {
            let labels = [("method", method.as_str()), ("route", *path)];
            let help = "From the head of a request to the head of its answer.";
            sink.histogram("http_ttfb_seconds", help, &labels, &route.first_byte);
        }
        for (method, path, route) in self.used() {
            let labels = [("method", method.as_str()), ("route", *path)];
            let help = "From the head of a request to the end of its answer.";
            sink.histogram("http_ttlb_seconds", help, &labels, &route.last_byte);
        }
        let help = "Open HTTP connections.";
        sink.gauge("http_connections", help, &[], self.connections.get());
        let counters: [(&str, &str, &Counter); 8] = [
            ("http_connections_refused", "Connections over a limit.", &self.connections_refused),
            ("http_accept_failures", "Failed accepts.", &self.accept_failures),
            ("http_tls_failures", "Failed TLS handshakes.", &self.tls_failures),
            ("http_rate_limited", "Requests over a rate limit.", &self.rate_limited),
            ("http_panics", "Requests whose handler panicked.", &self.panics),
            ("http_slow_readers", "Connections whose reader made no progress.", &self.slow_readers),
            ("admin_logins_failed", "Failed logins.", &self.logins_failed),
            (
                "admin_bulk_reads",
                "Times somebody read personal data faster than a person reads.",
                &self.bulk_reads,
            ),
        ];
        for (name, help, counter) in counters {
            sink.counter(name, help, &[], counter.get());
        }
    }
}

/// What `/proc` says; whatever is missing there is left out.
fn process(sink: &mut TextSink) {
    if let Some(figures) = ProcessFigures::read() {
        let help = "User and system CPU time of this process.";
        // Hundredths: Linux shows times to user space in units of 1/100 s on all architectures.
        let cpu = format!("{}.{:02}", figures.cpu_ticks / 100, figures.cpu_ticks % 100);
        sink.plain("process_cpu_seconds_total", "counter", help, cpu);
        let help = "Resident memory of this process.";
        sink.plain("process_resident_memory_bytes", "gauge", help, figures.resident_bytes);
        sink.plain("process_threads", "gauge", "Threads of this process.", figures.threads);
    }
    if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
        // One of them is the folder that is being read.
        let open = entries.count().saturating_sub(1);
        sink.plain("process_open_fds", "gauge", "Open file descriptors.", open);
    }
    if let Some(max) = descriptors_max() {
        sink.plain("process_max_fds", "gauge", "How many may be open.", max);
    }
}

struct ProcessFigures {
    cpu_ticks: u64,
    threads: u64,
    resident_bytes: u64,
}

impl ProcessFigures {
    fn read() -> Option<ProcessFigures> {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        // The second field is the name in brackets and may contain anything, even brackets.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let number = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok());
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let resident_kib: u64 = resident.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(ProcessFigures {
            cpu_ticks: number(11)? + number(12)?,
            threads: number(17)?,
            resident_bytes: resident_kib * 1024,
        })
    }
}

fn descriptors_max() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find(|line| line.starts_with("Max open files"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn figures_are_written_as_prometheus_reads_them() {
        let mut sink = TextSink::default();
        sink.counter("frames", "Frames.", &[("kind", "a\"b\\c\nd")], 3);
        sink.counter("frames", "Frames.", &[("kind", "e")], 4);
        sink.gauge("open", "Open\nnow.", &[], -1);
        let histogram = Histogram::default();
        histogram.observe(Duration::from_micros(60));
        histogram.observe(Duration::from_millis(1500));
        sink.histogram("work_seconds", "Work.", &[("stage", "read")], &histogram);
        let text = sink.finish();
        assert!(text.starts_with(
            "# HELP naru_frames_total Frames.\n# TYPE naru_frames_total counter\n\
             naru_frames_total{kind=\"a\\\"b\\\\c\\nd\"} 3\nnaru_frames_total{kind=\"e\"} 4\n\
             # HELP naru_open Open\\nnow.\n# TYPE naru_open gauge\nnaru_open -1\n\
             # HELP naru_work_seconds Work.\n# TYPE naru_work_seconds histogram\n\
             naru_work_seconds_bucket{stage=\"read\",le=\"0.00005\"} 0\n\
             naru_work_seconds_bucket{stage=\"read\",le=\"0.0001\"} 1\n"
        ));
        assert!(text.ends_with(
            "naru_work_seconds_bucket{stage=\"read\",le=\"30\"} 2\n\
             naru_work_seconds_bucket{stage=\"read\",le=\"+Inf\"} 2\n\
             naru_work_seconds_sum{stage=\"read\"} 1.50006\n\
             naru_work_seconds_count{stage=\"read\"} 2\n"
        ));
    }

    #[test]
    fn the_process_knows_its_own_figures() {
        let mut sink = TextSink::default();
        process(&mut sink);
        let text = sink.finish();
        if cfg!(target_os = "linux") {
            for name in ["process_cpu_seconds_total ", "process_resident_memory_bytes "] {
                assert!(text.contains(name), "{text}");
            }
            let open = text.lines().find_map(|line| line.strip_prefix("process_open_fds "));
            assert!(open.unwrap().parse::<u64>().unwrap() > 0);
        }
    }
}
