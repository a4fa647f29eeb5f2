//! Limits per key in bounded maps: token buckets for requests, growing pauses for failed logins, and
//! the alarm for bulk reads. Plain data changed by plain functions that take `now` as an argument.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Keys that one map may hold (guessed: far more than people and programs who use an API at once).
const KEYS_MAX: usize = 10_000;
/// All keys that found the map full share this one.
const OVERFLOW_KEY: &str = "";

/// Requests per key: `burst` at once, refilled at `per_second`.
pub(crate) struct Buckets {
    per_second: f64,
    burst: f64,
    filled: Mutex<HashMap<String, (f64, Instant)>>,
}

impl Buckets {
    pub(crate) fn new(per_second: u32, burst: u32) -> Buckets {
        Buckets {
            per_second: f64::from(per_second.max(1)),
            burst: f64::from(burst.max(1)),
            filled: Mutex::new(HashMap::new()),
        }
    }

    /// Takes one. The error says how long to wait for the next.
    pub(crate) fn take(&self, key: &str, now: Instant) -> Result<(), Duration> {
        let mut filled = self.filled.lock();
        if filled.len() >= KEYS_MAX && !filled.contains_key(key) {
            // A full bucket is as good as none.
            filled.retain(|_, (left, at)| self.refilled(*left, *at, now) < self.burst);
        }
        let key =
            if filled.len() >= KEYS_MAX && !filled.contains_key(key) { OVERFLOW_KEY } else { key };
        let (left, at) = filled.entry(key.to_owned()).or_insert((self.burst, now));
        *left = self.refilled(*left, *at, now);
        *at = now;
        if *left >= 1.0 {
            *left -= 1.0;
            return Ok(());
        }
        Err(Duration::from_secs_f64((1.0 - *left) / self.per_second))
    }

    fn refilled(&self, left: f64, at: Instant, now: Instant) -> f64 {
        let since = now.saturating_duration_since(at).as_secs_f64();
        (left + since * self.per_second).min(self.burst)
    }
}

struct Failures {
    count: u32,
    locked_until: Instant,
    last_at: Instant,
}

/// Growing pauses after failures: the first few are free, then 1, 2, 4 … seconds.
pub(crate) struct Backoff {
    free_count: u32,
    failures: Mutex<HashMap<String, Failures>>,
}

impl Backoff {
    const PAUSE_MAX: Duration = Duration::from_secs(15 * 60);
    const FORGET_AFTER: Duration = Duration::from_secs(60 * 60);

    pub(crate) fn new(free_count: u32) -> Backoff {
        Backoff { free_count, failures: Mutex::new(HashMap::new()) }
    }

    /// Notes an attempt as failed before it is made, so that attempts at the same time cannot pass
    /// together; [`Backoff::succeeded`] takes it back. The error says how long to wait.
    pub(crate) fn attempt(&self, key: &str, now: Instant) -> Result<(), Duration> {
        let mut failures = self.failures.lock();
        if failures.len() >= KEYS_MAX && !failures.contains_key(key) {
            Self::make_room(&mut failures, now);
        }
        let entry = failures.entry(key.to_owned()).or_insert(Failures {
            count: 0,
            locked_until: now,
            last_at: now,
        });
        if now.saturating_duration_since(entry.last_at) > Self::FORGET_AFTER {
            entry.count = 0;
        }
        if entry.locked_until > now {
            return Err(entry.locked_until - now);
        }
        entry.count = entry.count.saturating_add(1);
        entry.last_at = now;
        if let Some(over) = entry.count.checked_sub(self.free_count).filter(|over| *over > 0) {
            let pause = Duration::from_secs(1 << (over - 1).min(10)).min(Self::PAUSE_MAX);
            entry.locked_until = now + pause;
        }
        Ok(())
    }

    /// The attempt was good: all failures are forgotten.
    pub(crate) fn succeeded(&self, key: &str) {
        self.failures.lock().remove(key);
    }

    fn make_room(failures: &mut HashMap<String, Failures>, now: Instant) {
        failures.retain(|_, entry| {
            entry.locked_until > now
                || now.saturating_duration_since(entry.last_at) <= Self::FORGET_AFTER
        });
        if failures.len() >= KEYS_MAX {
            let oldest = failures.iter().min_by_key(|(_, entry)| entry.locked_until);
            if let Some(key) = oldest.map(|(key, _)| key.clone()) {
                failures.remove(&key);
            }
        }
    }
}

struct Window {
    began_at: Instant,
    requests: u32,
    rows: u64,
    has_rung: bool,
}

/// Notices who reads personal data faster than a person reads.
pub(crate) struct BulkAlarm {
    requests_per_minute: u32,
    rows_per_minute: u64,
    windows: Mutex<HashMap<String, Window>>,
}

impl BulkAlarm {
    const WINDOW: Duration = Duration::from_secs(60);

    pub(crate) fn new(requests_per_minute: u32, rows_per_minute: u64) -> BulkAlarm {
        BulkAlarm { requests_per_minute, rows_per_minute, windows: Mutex::new(HashMap::new()) }
    }

    /// Counts one look at `rows` rows. `true` once per window in which a limit was passed.
    pub(crate) fn rings(&self, key: &str, rows: usize, now: Instant) -> bool {
        let mut windows = self.windows.lock();
        if windows.len() >= KEYS_MAX && !windows.contains_key(key) {
            windows.retain(|_, window| now.duration_since(window.began_at) < Self::WINDOW);
        }
        let key = if windows.len() >= KEYS_MAX { OVERFLOW_KEY } else { key };
        let fresh = Window { began_at: now, requests: 0, rows: 0, has_rung: false };
        let window = windows.entry(key.to_owned()).or_insert(fresh);
        if now.saturating_duration_since(window.began_at) >= Self::WINDOW {
            *window = Window { began_at: now, requests: 0, rows: 0, has_rung: false };
        }
        window.requests += 1;
        window.rows += u64::try_from(rows).unwrap_or(u64::MAX);
        let is_over =
            window.requests > self.requests_per_minute || window.rows > self.rows_per_minute;
        is_over && !std::mem::replace(&mut window.has_rung, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let buckets = Buckets::new(2, 3);
        let now = Instant::now();
        for _ in 0..3 {
            assert_eq!(buckets.take("a", now), Ok(()));
        }
        assert_eq!(buckets.take("a", now), Err(Duration::from_millis(500)));
        assert_eq!(buckets.take("b", now), Ok(()), "another key has its own");
        assert_eq!(buckets.take("a", now + Duration::from_millis(500)), Ok(()));
    }

    #[test]
    fn a_full_map_of_buckets_stays_bounded_and_still_limits() {
        let buckets = Buckets::new(1, 1);
        let now = Instant::now();
        for key in 0..KEYS_MAX + 50 {
            let _taken = buckets.take(&key.to_string(), now);
        }
        assert!(buckets.filled.lock().len() <= KEYS_MAX + 1);
        assert!(buckets.take("one more", now).is_err(), "newcomers share one bucket");
        assert_eq!(buckets.take("one more", now + Duration::from_secs(2)), Ok(()));
        assert!(buckets.filled.lock().len() < KEYS_MAX, "full buckets were forgotten");
    }

    #[test]
    fn pauses_after_failures_double_and_end_with_a_success() {
        let backoff = Backoff::new(2);
        let mut now = Instant::now();
        for _ in 0..3 {
            assert_eq!(backoff.attempt("a", now), Ok(()));
        }
        assert_eq!(backoff.attempt("a", now), Err(Duration::from_secs(1)));
        now += Duration::from_secs(1);
        assert_eq!(backoff.attempt("a", now), Ok(()));
        assert_eq!(backoff.attempt("a", now), Err(Duration::from_secs(2)));
        for _ in 0..40 {
            now += Backoff::PAUSE_MAX;
            assert_eq!(backoff.attempt("a", now), Ok(()), "a pause is never longer than the limit");
        }
        backoff.succeeded("a");
        assert_eq!(backoff.attempt("a", now), Ok(()));
        assert_eq!(backoff.attempt("a", now), Ok(()));
    }

    #[test]
    fn the_alarm_rings_once_a_minute_for_whoever_reads_too_much() {
        let alarm = BulkAlarm::new(3, 100);
        let now = Instant::now();
        assert!(!alarm.rings("a", 100, now));
        assert!(alarm.rings("a", 1, now), "too many rows");
        assert!(!alarm.rings("a", 1, now), "it rang already");
        for _ in 0..3 {
            assert!(!alarm.rings("b", 0, now));
        }
        assert!(alarm.rings("b", 0, now), "too many requests");
        assert!(!alarm.rings("a", 1, now + BulkAlarm::WINDOW));
    }
}
