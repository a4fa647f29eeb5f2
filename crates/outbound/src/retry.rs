//! When a call is tried again: the pauses, and the budget that keeps retries from doubling the load of
//! a target that is already in trouble. Pure; randomness and time are arguments.

use std::time::{Duration, Instant};

use chrono::DateTime;

/// How often and how long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryOptions {
    /// Attempts in all, the first included; at least 1.
    pub attempts_max: u32,
    /// The longest first pause; four times as long with each further attempt.
    pub pause: Duration,
    /// The longest pause, and the longest `Retry-After` that is honoured.
    pub pause_max: Duration,
    /// Retries allowed per first attempt, 0 to 1.
    pub budget_ratio: f64,
    /// Retries allowed at once, so that a quiet target may be retried at all.
    pub budget_floor: u32,
    /// Retries allowed per second whatever the traffic, so that the last messages of the day need not
    /// wait for the next ones.
    pub budget_per_second: f64,
}

impl Default for RetryOptions {
    fn default() -> RetryOptions {
        RetryOptions {
            attempts_max: 4,
            pause: Duration::from_secs(1),
            pause_max: Duration::from_secs(30),
            budget_ratio: 0.1,
            budget_floor: 10,
            budget_per_second: 0.1,
        }
    }
}

impl RetryOptions {
    /// The pause before attempt `next` (2 is the first retry): full jitter over a growing span, or what
    /// the target asked for. `random` is in `0.0..1.0`.
    #[must_use]
    pub fn pause_before(&self, next: u32, random: f64, retry_after: Option<Duration>) -> Duration {
        // By 4: four attempts then span about 20 s, enough for a service that is restarted.
        let factor = 4_u32.saturating_pow(next.saturating_sub(2));
        let span = self.pause.saturating_mul(factor).min(self.pause_max);
        let jittered = span.mul_f64(random.clamp(0.0, 1.0));
        match retry_after {
            // Never before the time asked for; the jitter spreads those that were told the same.
            Some(asked) => asked.saturating_add(jittered.min(self.pause)).min(self.pause_max),
            None => jittered,
        }
    }
}

/// A bucket that first attempts fill by a fraction, time by a trickle, and retries empty by one.
#[derive(Debug)]
pub struct RetryBudget {
    ratio: f64,
    per_second: f64,
    max: f64,
    left: f64,
    filled_at: Instant,
}

impl RetryBudget {
    /// Full: `budget_floor` retries are allowed at once.
    #[must_use]
    pub fn new(options: &RetryOptions, now: Instant) -> RetryBudget {
        let max = f64::from(options.budget_floor);
        RetryBudget {
            ratio: options.budget_ratio,
            per_second: options.budget_per_second,
            max,
            left: max,
            filled_at: now,
        }
    }

    /// A message's first attempt begins.
    pub fn first_attempt(&mut self) {
        self.left = (self.left + self.ratio).min(self.max);
    }

    /// Takes one retry out, if there is one.
    pub fn take_retry(&mut self, now: Instant) -> bool {
        let trickled =
            now.saturating_duration_since(self.filled_at).as_secs_f64() * self.per_second;
        self.left = (self.left + trickled).min(self.max);
        self.filled_at = self.filled_at.max(now);
        if self.left >= 1.0 {
            self.left -= 1.0;
            return true;
        }
        false
    }
}

/// Reads a `Retry-After` header: seconds, or a date. A date counts from the `Date` header of the same
/// answer, so that it does not matter whose clock is wrong; without one it is treated as absent.
#[must_use]
pub fn parse_retry_after(value: &str, date: Option<&str>) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::from(u32::MAX))));
    }
    let until = DateTime::parse_from_rfc2822(value).ok()?;
    let now = DateTime::parse_from_rfc2822(date?.trim()).ok()?;
    Some((until - now).to_std().unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pauses_grow_up_to_the_limit() {
        let options = RetryOptions::default();
        assert_eq!(options.pause_before(2, 1.0, None), Duration::from_secs(1));
        assert_eq!(options.pause_before(3, 1.0, None), Duration::from_secs(4));
        assert_eq!(options.pause_before(4, 1.0, None), Duration::from_secs(16));
        assert_eq!(options.pause_before(40, 1.0, None), Duration::from_secs(30));
        assert_eq!(options.pause_before(4, 0.0, None), Duration::ZERO);
    }

    #[test]
    fn what_the_target_asks_for_is_honoured_up_to_the_limit() {
        let options = RetryOptions::default();
        let asked = Some(Duration::from_secs(7));
        assert_eq!(options.pause_before(2, 0.0, asked), Duration::from_secs(7));
        let hours = Some(Duration::from_secs(86_400));
        assert_eq!(options.pause_before(2, 0.5, hours), Duration::from_secs(30));
    }

    #[test]
    fn retry_after_is_read_as_seconds_or_a_date() {
        let date = Some("Fri, 31 Dec 1999 23:59:50 GMT");
        let check = |value: &str, date, expected: Option<u64>| {
            let read = parse_retry_after(value, date);
            assert_eq!(read, expected.map(Duration::from_secs), "{value}");
        };
        check(" 12 ", None, Some(12));
        check("0", date, Some(0));
        check("99999999999999999999999", None, Some(u64::from(u32::MAX)));
        check("Fri, 31 Dec 1999 23:59:59 GMT", date, Some(9));
        check("Fri, 31 Dec 1999 23:59:00 GMT", date, Some(0));
        check("Fri, 31 Dec 1999 23:59:59 GMT", None, None);
        check("Fri, 31 Dec 1999 23:59:59 GMT", Some("today"), None);
        for value in ["", "-1", "1.5", "+3", "soon"] {
            check(value, date, None);
        }
    }

    proptest! {
        #[test]
        fn under_overload_retries_add_at_most_a_tenth(firsts in 0_u32..5_000, ms_between in 0_u64..50) {
            let options = RetryOptions::default();
            let start = Instant::now();
            let mut now = start;
            let mut budget = RetryBudget::new(&options, now);
            let mut retries = 0_u32;
            for _ in 0..firsts {
                now += Duration::from_millis(ms_between);
                budget.first_attempt();
                // Everything fails, and everything wants three retries.
                retries += (0..3).map(|_| u32::from(budget.take_retry(now))).sum::<u32>();
            }
            let trickled = (now - start).as_secs_f64() * 0.1;
            prop_assert!(f64::from(retries) <= f64::from(firsts) * 0.1 + 10.0 + trickled + 1e-6);
        }

        #[test]
        fn a_pause_is_never_longer_than_the_limit(
            next in 0_u32..200,
            random in 0.0_f64..1.0,
            asked in proptest::option::of(0_u64..1_000_000),
        ) {
            let options = RetryOptions::default();
            let pause = options.pause_before(next, random, asked.map(Duration::from_secs));
            prop_assert!(pause <= options.pause_max);
        }
    }
}
