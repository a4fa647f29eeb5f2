//! The figures of hooks: counters per target, told to whoever collects them.

use std::sync::Arc;

use naru_domain::metrics::{Counter, Gauge, MetricSink, MetricSource};
use naru_outbound::{Naming, Target, collect};

use super::webhook::{HookView, Webhook};

const NAMING: Naming = Naming {
    label: "target",
    calls: "hook_calls",
    breaker_openings: "hook_breaker_openings",
    breaker_state: "hook_breaker_state",
    in_flight: "hook_in_flight",
    call_seconds: "hook_call_seconds",
};

/// What became of the messages of one target; its calls are counted by the target itself.
#[derive(Debug, Default)]
pub(super) struct MessageFigures {
    pub(super) retries: Counter,
    pub(super) dead: Counter,
    pub(super) waiting: Gauge,
}

impl MessageFigures {
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
        let targets: Vec<&Target> = self.targets.iter().map(|each| each.target()).collect();
        collect(sink, NAMING, &targets);
        self.counters(sink, "hook_retries", "Repeated calls.", |figures| &figures.retries);
        self.counters(sink, "hook_dead", "Messages that got no answer.", |figures| &figures.dead);
        for target in &self.targets {
            let labels = [("target", target.name())];
            let waiting = target.figures().waiting.get();
            sink.gauge("hook_waiting", "Messages waiting for a call.", &labels, waiting);
        }
    }
}

impl Hooks {
    fn counters(
        &self,
        sink: &mut dyn MetricSink,
        name: &str,
        help: &str,
        pick: fn(&MessageFigures) -> &Counter,
    ) {
        for target in &self.targets {
            let labels = [("target", target.name())];
            sink.counter(name, help, &labels, pick(target.figures()).get());
        }
    }
}
