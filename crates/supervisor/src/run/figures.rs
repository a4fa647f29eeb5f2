//! What `/metrics` shows of wards and of the supervisor itself, and how learners outlive the process.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use naru_domain::Timestamp;
use naru_domain::metrics::{Histogram, MetricSink, MetricSource};
use parking_lot::Mutex;

use super::notice::word_of;
use super::supervisor::Supervisor;
use crate::learn::{LearnSettings, Learner};
use crate::life::{Cause, Phase};
use crate::measure::{Freshness, OwnFigures, Series};
use crate::model::{Severity, WardName};

/// Between two looks at what can wait.
pub(super) const MINUTE: Duration = Duration::from_secs(60);

/// What is shown, as of the last minute; counts are of this moment.
#[derive(Default)]
pub(super) struct Shown {
    wards: Vec<ShownWard>,
    exits: BTreeMap<(WardName, String), u64>,
    restarts: BTreeMap<WardName, u64>,
    notices: [u64; 3],
    own: OwnFigures,
    interval: Duration,
    flush_failures: u64,
    dropped: [u64; 3],
    transactions: u64,
    /// From an exit that was seen to what is done about it.
    pub(super) decisions: Histogram,
}

/// One ward.
struct ShownWard {
    name: WardName,
    phase: Phase,
    players: Option<u32>,
    /// The mean of the last minute in thousandths of the unit.
    figures: Vec<(Series, i64)>,
    alerts: usize,
    misses: u32,
    taken: Option<Duration>,
    lines_skipped: u64,
}

impl Shown {
    pub(super) fn count_exit(&mut self, name: &WardName, cause: Cause) {
        *self.exits.entry((name.clone(), word_of(&cause))).or_default() += 1;
    }

    pub(super) fn count_restart(&mut self, name: &WardName) {
        *self.restarts.entry(name.clone()).or_default() += 1;
    }

    pub(super) fn count_notice(&mut self, severity: Severity) {
        self.notices[severity as usize] += 1;
    }
}

/// The figures of a supervisor, for `/metrics`. A cheap handle.
#[derive(Clone)]
pub struct WardFigures(Arc<Mutex<Shown>>);

impl WardFigures {
    pub(super) fn new(shown: Arc<Mutex<Shown>>) -> WardFigures {
        WardFigures(shown)
    }
}

impl MetricSource for WardFigures {
    fn collect(&self, sink: &mut dyn MetricSink) {
        let shown = self.0.lock();
        for ward in &shown.wards {
            let labels = [("ward", ward.name.as_str()), ("phase", phase_word(ward.phase))];
            sink.gauge("ward_phase", "1 for the phase that a ward is in", &labels, 1);
        }
        let each = |sink: &mut dyn MetricSink,
                    name: &str,
                    help: &str,
                    value: &dyn Fn(&ShownWard) -> Option<i64>| {
            for ward in &shown.wards {
                if let Some(value) = value(ward) {
                    sink.gauge(name, help, &[("ward", ward.name.as_str())], value);
                }
            }
        };
        each(sink, "ward_players", "Players, if known", &|ward| ward.players.map(i64::from));
        each(sink, "ward_alerts", "Open alerts", &|ward| i64::try_from(ward.alerts).ok());
        each(sink, "ward_answers_missing", "Answers missing in a row", &|ward| {
            Some(i64::from(ward.misses))
        });
        each(
            sink,
            "ward_taken_microseconds_per_second",
            "Processor time taken from the game at most",
            &|ward| ward.taken.and_then(|taken| i64::try_from(taken.as_micros()).ok()),
        );
        each(
            sink,
            "ward_console_skipped_bytes",
            "Console output not looked at in floods",
            &|ward| i64::try_from(ward.lines_skipped).ok(),
        );
        for series in Series::ALL.into_iter().filter(|series| *series != Series::Players) {
            let name = format!("ward_{}_thousandths", series.label());
            each(sink, &name, "Mean of the last minute, in thousandths of the unit", &|ward| {
                ward.figures.iter().find(|(kept, _)| *kept == series).map(|(_, value)| *value)
            });
        }
        for ((ward, cause), count) in &shown.exits {
            let labels = [("ward", ward.as_str()), ("cause", cause.as_str())];
            sink.counter("ward_exits", "Ends by their cause", &labels, *count);
        }
        for (ward, count) in &shown.restarts {
            sink.counter(
                "ward_restarts",
                "Restarts after ends",
                &[("ward", ward.as_str())],
                *count,
            );
        }
        for (severity, count) in ["info", "warning", "critical"].iter().zip(shown.notices) {
            let labels = [("severity", *severity)];
            sink.counter("ward_notices", "Notices that were told", &labels, count);
        }
        own(&shown, sink);
    }
}

/// What the supervisor itself costs.
fn own(shown: &Shown, sink: &mut dyn MetricSink) {
    #[expect(clippy::cast_possible_truncation, reason = "figures of a small program fit")]
    let whole = |value: f64| value.round() as i64;
    let figures = &shown.own;
    let cpu = whole(figures.cpu_seconds_per_hour * 1_000.0);
    sink.gauge(
        "supervisor_cpu_milliseconds_per_hour",
        "Processor time of wards' supervisor",
        &[],
        cpu,
    );
    if let Some(bytes) = figures.rss_bytes.and_then(|bytes| i64::try_from(bytes).ok()) {
        sink.gauge(
            "supervisor_memory_bytes",
            "Its resident memory, when it runs alone",
            &[],
            bytes,
        );
    }
    if let Some(written) = figures.written_per_hour {
        sink.gauge(
            "supervisor_written_bytes_per_hour",
            "What it writes, when it runs alone",
            &[],
            whole(written),
        );
    }
    if let Some(wakeups) = figures.wakeups_per_second {
        sink.gauge(
            "supervisor_wakeups_per_hour",
            "How often it wakes up",
            &[],
            whole(wakeups * 3_600.0),
        );
    }
    let budget = whole(figures.used * 1_000.0);
    sink.gauge(
        "supervisor_budget_thousandths",
        "Its largest figure as a share of its limit",
        &[],
        budget,
    );
    let interval = i64::try_from(shown.interval.as_millis()).unwrap_or(i64::MAX);
    sink.gauge("supervisor_interval_milliseconds", "Between two samples", &[], interval);
    sink.counter("supervisor_transactions", "Flushes that were kept", &[], shown.transactions);
    sink.counter("supervisor_flush_failures", "Flushes that failed", &[], shown.flush_failures);
    for (kind, count) in ["blocks", "events", "visits"].iter().zip(shown.dropped) {
        sink.counter(
            "supervisor_dropped",
            "Dropped since it could not be kept",
            &[("kind", *kind)],
            count,
        );
    }
    sink.histogram(
        "ward_exit_decision_seconds",
        "From an exit that is seen to the decision",
        &[],
        &shown.decisions,
    );
}

impl Supervisor {
    /// Refreshes what `/metrics` shows.
    pub(super) fn show_figures(&mut self, wall: Timestamp) {
        let wards = self.charges.values().filter(|charge| charge.ward.metrics).map(|charge| {
            let windows = charge.recorder.windows();
            let figures = Series::ALL.into_iter().filter_map(|series| {
                let summary = windows.summary(series, crate::measure::Window::Minute, wall);
                #[expect(clippy::cast_possible_truncation, reason = "figures fit")]
                let value = (summary.mean * series.scale() * 1_000.0).round() as i64;
                (summary.count > 0).then_some((series, value))
            });
            let seen = charge.players.now(wall);
            ShownWard {
                name: charge.name().clone(),
                phase: charge.life.phase(),
                players: (seen.freshness != Freshness::Unknown).then_some(seen.count),
                figures: figures.collect(),
                alerts: charge.learner.view(wall).open.len(),
                misses: charge.answer.misses,
                taken: charge.taken,
                lines_skipped: charge
                    .follower
                    .as_ref()
                    .map_or(0, |follower| follower.counters().skipped_bytes),
            }
        });
        let wards = wards.collect();
        self.is_shown = true;
        let mut shown = self.shown.lock();
        shown.wards = wards;
        shown.own = self.own;
        shown.interval = self.pace.interval();
        shown.flush_failures = self.pending.failures();
        shown.dropped = self.pending.dropped();
        shown.transactions = self.pending.transactions();
    }
}

fn phase_word(phase: Phase) -> &'static str {
    match phase {
        Phase::Stopped => "stopped",
        Phase::Starting => "starting",
        Phase::Running => "running",
        Phase::Hung => "hung",
        Phase::Stopping => "stopping",
        Phase::Ending => "ending",
        Phase::Waiting => "waiting",
        Phase::Held => "held",
        Phase::GaveUp => "gave_up",
        Phase::Lost => "lost",
    }
}

/// What a learner knows, as the text of a record.
pub(super) fn remember(learner: &Learner) -> Option<Arc<str>> {
    let snapshot = learner.snapshot();
    (!snapshot.is_empty()).then(|| Arc::from(BASE64_STANDARD.encode(snapshot)))
}

/// A learner that knows what another one did.
pub(super) fn recall(settings: LearnSettings, kept: &str) -> Option<Learner> {
    let snapshot = BASE64_STANDARD.decode(kept).ok()?;
    match Learner::restore(settings, &snapshot) {
        Ok(learner) => Some(learner),
        Err(error) => {
            tracing::warn!(target: "naru::wards", %error, "what was learned cannot be read; it is learned anew");
            None
        }
    }
}
