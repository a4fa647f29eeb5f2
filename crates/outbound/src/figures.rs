//! The figures of targets: how their calls ended, how long those took, and what their breakers do.

use std::time::Duration;

use naru_domain::metrics::{Counter, Histogram, MetricSink};

use crate::breaker::BreakerState;
use crate::client::CallError;
use crate::target::{Target, TargetView};

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
pub(crate) struct CallFigures {
    ends: [Counter; ENDS.len()],
    pub(crate) openings: Counter,
    duration: Histogram,
}

impl CallFigures {
    pub(crate) fn observe(&self, duration: Duration, error: Option<&CallError>) {
        let label = error.map_or("answered", CallError::label);
        let end = ENDS.iter().position(|end| *end == label).unwrap_or(ENDS.len() - 1);
        self.ends[end].increment();
        self.duration.observe(duration);
    }

    pub(crate) fn calls(&self) -> u64 {
        self.ends.iter().map(Counter::get).sum()
    }
}

/// What the figures of some targets are called.
#[derive(Clone, Copy, Debug)]
pub struct Naming {
    /// The label that tells the targets apart.
    pub label: &'static str,
    /// Calls, by how they ended.
    pub calls: &'static str,
    /// Openings of the circuit breaker.
    pub breaker_openings: &'static str,
    /// What the circuit breaker does.
    pub breaker_state: &'static str,
    /// Calls in flight.
    pub in_flight: &'static str,
    /// How long calls take.
    pub call_seconds: &'static str,
}

/// Tells the figures of these targets, which have different names.
pub fn collect(sink: &mut dyn MetricSink, naming: Naming, targets: &[&Target]) {
    for target in targets {
        for (end, count) in ENDS.iter().zip(&target.figures().ends) {
            let labels = [(naming.label, target.name()), ("end", *end)];
            sink.counter(naming.calls, "Calls by how they ended.", &labels, count.get());
        }
    }
    for target in targets {
        let labels = [(naming.label, target.name())];
        let openings = target.figures().openings.get();
        let help = "Openings of the circuit breaker.";
        sink.counter(naming.breaker_openings, help, &labels, openings);
    }
    let mut gauges = |name: &str, help: &str, pick: fn(&TargetView) -> i64| {
        for target in targets {
            let labels = [(naming.label, target.name())];
            sink.gauge(name, help, &labels, pick(&target.view()));
        }
    };
    gauges(naming.in_flight, "Calls in flight.", |view| {
        i64::try_from(view.in_flight).unwrap_or(i64::MAX)
    });
    gauges(naming.breaker_state, "Circuit breaker: 0 closed, 1 half open, 2 open.", |view| {
        match view.breaker {
            BreakerState::Closed => 0,
            BreakerState::HalfOpen => 1,
            BreakerState::Open => 2,
        }
    });
    for target in targets {
        let labels = [(naming.label, target.name())];
        let duration = &target.figures().duration;
        sink.histogram(naming.call_seconds, "Length of calls.", &labels, duration);
    }
}
