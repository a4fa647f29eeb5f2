//! An application that answers as it is told, and somebody who asks it.

use std::sync::Arc;
use std::time::Duration;

use naru_backend::{BackendOptions, EndpointOptions, Event, Farewells, HttpBackend};
use naru_domain::clock::ManualClock;
use naru_domain::metrics::{Histogram, MetricSink, MetricSource};
use naru_domain::ports::{Caller, Refusal};
use naru_domain::{Clock, Timestamp};
use naru_outbound::{AddressGuard, Secrets};

pub(crate) const NOW: Timestamp = Timestamp(1_767_225_600_000);

/// Everything goes to `url`, with enough time for a busy machine.
pub(crate) fn options(url: &str) -> BackendOptions {
    let everything = std::array::from_fn(|_| {
        Some(EndpointOptions { url: url.to_owned(), timeout: Duration::from_secs(20) })
    });
    BackendOptions {
        endpoints: everything,
        secrets: Some(Secrets::new("testsecret")),
        guard: AddressGuard::allowing(&["127.0.0.1"]).expect("a readable list"),
        dial_timeout: Duration::from_secs(20),
        headers: vec!["Cookie".to_owned()],
        ..BackendOptions::default()
    }
}

pub(crate) fn backend(options: BackendOptions) -> (HttpBackend, Farewells) {
    // Whoever is first installs it; a second time is an error that says nothing.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(NOW));
    HttpBackend::new(options, clock).expect("usable options")
}

/// An adapter for which everything goes to `url`.
pub(crate) fn asking(url: &str) -> HttpBackend {
    backend(options(url)).0
}

/// The same with another time for one event.
pub(crate) fn limited(url: &str, event: Event, timeout: Duration) -> BackendOptions {
    let endpoint = EndpointOptions { url: url.to_owned(), timeout };
    options(url).with_endpoint(event, endpoint)
}

pub(crate) fn ann() -> Caller {
    Caller {
        client: "c-1".to_owned(),
        user: "ann".to_owned(),
        transport: "websocket",
        protocol: "json",
        meta: r#"{"plan":1}"#.into(),
        headers: vec![
            ("cookie".to_owned(), "session=hush".to_owned()),
            ("x-other".to_owned(), "1".to_owned()),
        ],
        ..Caller::default()
    }
}

pub(crate) fn unavailable() -> Refusal {
    Refusal::Error { code: 100, message: "internal server error".to_owned(), temporary: true }
}

#[derive(Default)]
struct Figures(Vec<String>);

impl MetricSink for Figures {
    fn counter(&mut self, name: &str, _: &str, labels: &[(&str, &str)], value: u64) {
        self.0.push(format!("{name}{labels:?}={value}"));
    }
    fn gauge(&mut self, name: &str, _: &str, labels: &[(&str, &str)], value: i64) {
        self.0.push(format!("{name}{labels:?}={value}"));
    }
    fn histogram(&mut self, name: &str, _: &str, labels: &[(&str, &str)], value: &Histogram) {
        self.0.push(format!("{name}{labels:?}={}", value.read().0.iter().sum::<u64>()));
    }
}

/// Panics unless the figures are these, among others.
pub(crate) fn assert_counted(backend: &HttpBackend, expected: &[&str]) {
    let mut figures = Figures::default();
    backend.collect(&mut figures);
    for expected in expected {
        assert!(figures.0.iter().any(|each| each == expected), "{expected}: {:#?}", figures.0);
    }
}

/// What became of the questions of one event.
pub(crate) fn outcome(event: &str, outcome: &str, count: u64) -> String {
    format!(r#"backend_outcomes[("event", "{event}"), ("outcome", "{outcome}")]={count}"#)
}
