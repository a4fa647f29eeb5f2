//! Latency histograms and the figures taken from them.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// An hour. Longer waits are recorded as an hour, never dropped.
const LATENCY_NS_MAX: u64 = 3_600_000_000_000;

/// Durations with three significant digits, from a microsecond to an hour. A histogram has a
/// quarter of a megabyte, so there is none until something is recorded: thousands of phones carry
/// one of these.
#[derive(Clone, Debug, Default)]
pub(crate) struct Latencies(Option<Box<Histogram<u64>>>);

/// The figures that a report shows, in milliseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Figures {
    pub(crate) count: u64,
    pub(crate) mean_ms: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p90_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) p999_ms: f64,
    pub(crate) max_ms: f64,
}

impl Latencies {
    pub(crate) fn record(&mut self, latency_ns: u64) {
        self.histogram().saturating_record(latency_ns.clamp(1_000, LATENCY_NS_MAX));
    }

    pub(crate) fn record_duration(&mut self, latency: Duration) {
        self.record(u64::try_from(latency.as_nanos()).unwrap_or(LATENCY_NS_MAX));
    }

    pub(crate) fn add(&mut self, other: &Latencies) {
        if let Some(other) = &other.0 {
            let added = self.histogram().add(&**other);
            added.expect("invariant: all histograms have the same bounds");
        }
    }

    fn histogram(&mut self) -> &mut Histogram<u64> {
        self.0.get_or_insert_with(|| {
            let histogram = Histogram::new_with_bounds(1_000, LATENCY_NS_MAX, 3);
            Box::new(histogram.expect("invariant: the bounds are valid"))
        })
    }

    pub(crate) fn figures(&self) -> Figures {
        let Some(histogram) = &self.0 else { return Figures::default() };
        let at = |quantile| millis(histogram.value_at_quantile(quantile));
        Figures {
            count: histogram.len(),
            mean_ms: histogram.mean() / 1e6,
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            max_ms: millis(histogram.max()),
        }
    }
}

fn millis(ns: u64) -> f64 {
    Duration::from_nanos(ns).as_secs_f64() * 1e3
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "p50 {:.3}  p90 {:.3}  p99 {:.3}  p99.9 {:.3}  max {:.3} ms",
            self.p50_ms, self.p90_ms, self.p99_ms, self.p999_ms, self.max_ms
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_exact_to_three_digits() {
        let mut latencies = Latencies::default();
        for micros in 1..=10_000 {
            latencies.record_duration(Duration::from_micros(micros));
        }
        let figures = latencies.figures();
        for (got, want) in [(figures.p50_ms, 5.0), (figures.p99_ms, 9.9), (figures.max_ms, 10.0)] {
            assert!((got - want).abs() / want < 0.002, "{got} is not {want}");
        }
        assert_eq!(figures.count, 10_000);
    }

    #[test]
    fn sums_of_threads_count_every_value_once() {
        let (mut one, mut other) = (Latencies::default(), Latencies::default());
        one.record(5_000_000);
        other.record(7_000_000);
        one.add(&other);
        assert_eq!(one.figures().count, 2);
    }

    #[test]
    fn a_wait_beyond_the_bounds_is_kept_at_the_bound() {
        let mut latencies = Latencies::default();
        latencies.record(u64::MAX);
        latencies.record(0);
        assert_eq!(latencies.figures().count, 2);
        assert!(latencies.figures().max_ms >= 3_599_000.0);
    }
}
