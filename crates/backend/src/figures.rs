//! What became of what the application was asked.

use naru_domain::metrics::{Counter, Gauge, MetricSink};
use naru_outbound::Naming;

use crate::event::Event;

/// How the calls themselves are counted.
pub(crate) const CALLS: Naming = Naming {
    label: "event",
    calls: "backend_calls",
    breaker_openings: "backend_breaker_openings",
    breaker_state: "backend_breaker_state",
    in_flight: "backend_in_flight",
    call_seconds: "backend_call_seconds",
};

/// What became of one question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Answered as asked.
    Result,
    /// The application said no.
    Error,
    /// It wants the connection to end.
    Disconnect,
    /// Its answer cannot be used.
    BadAnswer,
    /// It did not answer.
    Failed,
    /// It was not asked: too many calls in flight.
    Busy,
    /// It was not asked: its circuit breaker is open.
    Open,
}

const OUTCOMES: [&str; 7] =
    ["result", "error", "disconnect", "bad_answer", "failed", "busy", "open"];

/// The counters.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    outcomes: [[Counter; OUTCOMES.len()]; Event::ALL.len()],
    /// Ends of connections that wait to be told.
    pub(crate) farewells_waiting: Gauge,
    /// Of them, those that were never told.
    pub(crate) farewells_dropped: Counter,
}

impl Figures {
    pub(crate) fn count(&self, event: Event, outcome: Outcome) {
        self.outcomes[event.index()][outcome as usize].increment();
    }

    pub(crate) fn collect(&self, sink: &mut dyn MetricSink, asked: impl Fn(Event) -> bool) {
        for event in Event::ALL.into_iter().filter(|event| asked(*event)) {
            for (outcome, count) in OUTCOMES.iter().zip(&self.outcomes[event.index()]) {
                let labels = [("event", event.label()), ("outcome", *outcome)];
                let help = "What became of what the application was asked.";
                sink.counter("backend_outcomes", help, &labels, count.get());
            }
        }
        let help = "Ends of connections that the application has not been told yet.";
        sink.gauge("backend_farewells_waiting", help, &[], self.farewells_waiting.get());
        let help = "Ends of connections that the application was never told.";
        sink.counter("backend_farewells_dropped", help, &[], self.farewells_dropped.get());
    }
}
