//! The figures of hooks: counters per target, told to whoever collects them.

use std::sync::Arc;
use std::time::Duration;

use naru_domain::metrics::{Counter, Gauge, Histogram, MetricSink, MetricSource};

use super::breaker::BreakerState;
use super::client::CallError;
use super::webhook::{HookView, Webhook};

/// How calls ended. The last one is everything that the labels above do not name.
const ENDS: [&str; 10] = [
    "answered",
    "connect",
    "timeout",
    "broken",
    "status_5xx",
    "status_4xx",
    "redirect",
    "too_large",
    "encoded",
    "address",
];

#[derive(Debug, Default)]
pub(super) struct TargetMetrics {
    ends: [Counter; ENDS.len()],
    pub(super) retries: Counter,
    pub(super) dead: Counter,
    pub(super) openings: Counter,
    pub(super) waiting: Gauge,
    duration: Histogram,
}

impl TargetMetrics {
    pub(super) fn observe(&self, duration: Duration, error: Option<&CallError>) {
        let label = error.map_or("answered", CallError::label);
        let end = ENDS.iter().position(|end| *end == label).unwrap_or(ENDS.len() - 1);
        self.ends[end].increment();
        self.duration.observe(duration);
    }

    pub(super) fn calls(&self) -> u64 {
        self.ends.iter().map(Counter::get).sum()
    }

    /// Counts one waiting message until the guard is dropped.
    pub(super) fn wait(&self) -> Waiting<'_> {
        self.waiting.add(1);
        Waiting(&self.waiting)
    }
}

pub(super) struct Waiting<'a>(&'a Gauge);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.add(-1);
    }
}

/// All targets of a node, for operators and metrics.
#[derive(Clone, Debug, Default)]
pub struct Hooks {
    targets: Vec<Arc<Webhook>>,
}

impl Hooks {
    /// These targets, in the order of the configuration.
    #[must_use]
    pub fn new(targets: Vec<Arc<Webhook>>) -> Hooks {
        Hooks { targets }
    }

    /// What an operator sees of each.
    #[must_use]
    pub fn views(&self) -> Vec<HookView> {
        self.targets.iter().map(|target| target.view()).collect()
    }

    /// The target with this name.
    #[must_use]
    pub fn target(&self, name: &str) -> Option<&Arc<Webhook>> {
        self.targets.iter().find(|target| target.name() == name)
    }
}

impl MetricSource for Hooks {
    fn collect(&self, sink: &mut dyn MetricSink) {
        for target in &self.targets {
            for (label, end) in ENDS.iter().zip(&target.metrics().ends) {
                let labels = [("target", target.name()), ("end", label)];
                sink.counter(
                    "hook_calls",
                    "Calls to webhooks by how they ended.",
                    &labels,
                    end.get(),
                );
            }
        }
        self.counters(sink, "hook_retries", "Repeated calls.", |metrics| &metrics.retries);
        self.counters(sink, "hook_dead", "Messages that got no answer.", |metrics| &metrics.dead);
        self.counters(
            sink,
            "hook_breaker_openings",
            "Openings of the circuit breaker.",
            |metrics| &metrics.openings,
        );
        self.gauges(sink, "hook_in_flight", "Calls in flight.", |view| {
            i64::try_from(view.in_flight).unwrap_or(i64::MAX)
        });
        self.gauges(sink, "hook_waiting", "Messages waiting for a call.", |view| view.waiting);
        self.gauges(
            sink,
            "hook_breaker_state",
            "Circuit breaker: 0 closed, 1 half open, 2 open.",
            |view| match view.breaker {
                BreakerState::Closed => 0,
                BreakerState::HalfOpen => 1,
                BreakerState::Open => 2,
            },
        );
        for target in &self.targets {
            let labels = [("target", target.name())];
            let duration = &target.metrics().duration;
            sink.histogram("hook_call_seconds", "Length of calls.", &labels, duration);
        }
    }
}

impl Hooks {
    fn counters(
        &self,
        sink: &mut dyn MetricSink,
        name: &str,
        help: &str,
        pick: fn(&TargetMetrics) -> &Counter,
    ) {
        for target in &self.targets {
            let labels = [("target", target.name())];
            sink.counter(name, help, &labels, pick(target.metrics()).get());
        }
    }

    fn gauges(
        &self,
        sink: &mut dyn MetricSink,
        name: &str,
        help: &str,
        pick: fn(&HookView) -> i64,
    ) {
        for target in &self.targets {
            let labels = [("target", target.name())];
            sink.gauge(name, help, &labels, pick(&target.view()));
        }
    }
}
