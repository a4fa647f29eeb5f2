//! Plain counters that each crate owns, and the trait by which the admin crate reads them. No registry
//! and no global: several nodes may live in one test process.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// A number that only rises.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn increment(&self) {
        self.add(1);
    }

    /// `count` more.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Relaxed);
    }

    /// The sum so far.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that rises and falls.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Changes it by `difference`.
    pub fn add(&self, difference: i64) {
        self.0.fetch_add(difference, Relaxed);
    }

    /// Sets it.
    pub fn set(&self, value: i64) {
        self.0.store(value, Relaxed);
    }

    /// Its value.
    pub fn get(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

/// Durations in fixed buckets.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; Histogram::BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
}

impl Histogram {
    /// The upper bounds of the buckets, in microseconds; one more bucket takes the rest.
    pub const BOUNDS_US: [u64; 16] = [
        50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
        1_000_000, 5_000_000, 30_000_000,
    ];

    /// Counts one duration, when the work it measures ends.
    pub fn observe(&self, duration: Duration) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = Histogram::BOUNDS_US.partition_point(|bound| *bound < us);
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.sum_us.fetch_add(us, Relaxed);
    }

    /// Counts per bucket (not cumulative), and the sum in microseconds.
    pub fn read(&self) -> ([u64; Histogram::BOUNDS_US.len() + 1], u64) {
        (std::array::from_fn(|i| self.buckets[i].load(Relaxed)), self.sum_us.load(Relaxed))
    }
}

/// Receives the figures of a [`MetricSource`]. Names are in the Prometheus style without the `naru_`
/// prefix and without `_total`, which the receiver adds to counters. Labels have few values: never ids,
/// names of people, or anything a peer can make up.
pub trait MetricSink {
    /// A counter.
    fn counter(&mut self, name: &str, help: &str, labels: &[(&str, &str)], value: u64);
    /// A gauge.
    fn gauge(&mut self, name: &str, help: &str, labels: &[(&str, &str)], value: i64);
    /// A histogram of seconds.
    fn histogram(&mut self, name: &str, help: &str, labels: &[(&str, &str)], value: &Histogram);
}

/// Something that has figures to show.
pub trait MetricSource: Send + Sync + 'static {
    /// Tells all of them to `sink`. All series of one name come one after another.
    fn collect(&self, sink: &mut dyn MetricSink);
}
