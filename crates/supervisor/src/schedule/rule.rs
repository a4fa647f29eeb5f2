//! When a rule is due next. Pure: rule and moment in, moment out.
//!
//! Where clocks change, croner does what the guide says: a wall time that does not exist runs at the first
//! moment after the gap, one that occurs twice runs once, and an expression with `*` or steps in its
//! hours or minutes means "every so often" and goes on through the repeated hour.

use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use croner::parser::{CronParser, Seconds, Year};
use naru_domain::Timestamp;

/// Why a rule was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// The expression.
    #[error("`{expression}` is no cron expression of five fields: {reason}")]
    Cron {
        /// The expression, cut.
        expression: String,
        /// What is wrong.
        reason: String,
    },
    /// The zone.
    #[error("there is no time zone `{name}`; names are such as `Asia/Seoul`")]
    Zone {
        /// The name, cut.
        name: String,
    },
    /// The period.
    #[error("a period has at least a minute and at most a year")]
    Period,
    /// It never comes true, such as the 31st of February.
    #[error("the rule never comes true")]
    Never,
}

/// When something is due.
#[derive(Clone, Debug)]
pub struct Rule(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Cron { pattern: Box<croner::Cron>, zone: Tz },
    Every { period: Duration, from: Timestamp },
    Once(Timestamp),
}

/// The shortest and longest period.
const PERIOD_MIN: Duration = Duration::from_secs(60);
const PERIOD_MAX: Duration = Duration::from_secs(366 * 86_400);
/// The longest expression.
const EXPRESSION_BYTES_MAX: usize = 200;

impl Rule {
    /// A cron expression of five fields in a time zone by its IANA name.
    pub fn cron(expression: &str, zone: &str) -> Result<Rule, RuleError> {
        let refuse = |reason: &str| RuleError::Cron {
            expression: expression.chars().take(60).collect(),
            reason: reason.to_owned(),
        };
        if expression.len() > EXPRESSION_BYTES_MAX {
            return Err(refuse("it is too long"));
        }
        // The parser takes names such as @daily, which say nothing about the zone they mean.
        if expression.split_whitespace().count() != 5 {
            return Err(refuse("it needs minute, hour, day, month and weekday"));
        }
        let zone = Tz::from_str(zone)
            .map_err(|_| RuleError::Zone { name: zone.chars().take(60).collect() })?;
        let parser =
            CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let pattern = parser.parse(expression).map_err(|error| refuse(&error.to_string()))?;
        let rule = Rule(Kind::Cron { pattern: Box::new(pattern), zone });
        rule.next(Timestamp(0)).map(|_| rule).ok_or(RuleError::Never)
    }

    /// Every so often, counted from a moment (also backwards, so that restarts do not move it).
    pub fn every(period: Duration, from: Timestamp) -> Result<Rule, RuleError> {
        let fits = (PERIOD_MIN..=PERIOD_MAX).contains(&period);
        fits.then_some(Rule(Kind::Every { period, from })).ok_or(RuleError::Period)
    }

    /// Once.
    #[must_use]
    pub fn once(at: Timestamp) -> Rule {
        Rule(Kind::Once(at))
    }

    /// The first moment after `after`; `None` when there is none any more.
    #[must_use]
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        match &self.0 {
            Kind::Once(at) => Some(*at).filter(|at| *at > after),
            Kind::Every { period, from } => {
                let period = i64::try_from(period.as_millis()).unwrap_or(i64::MAX).max(1);
                let passed = after.0.saturating_sub(from.0).div_euclid(period);
                let next = passed.saturating_add(1).saturating_mul(period);
                Some(Timestamp(from.0.saturating_add(next))).filter(|next| *next > after)
            }
            Kind::Cron { pattern, zone } => {
                let local = DateTime::<Utc>::from_timestamp_millis(after.0)?.with_timezone(zone);
                let next = pattern.find_next_occurrence(&local, false).ok()?;
                Some(Timestamp(next.timestamp_millis())).filter(|next| *next > after)
            }
        }
    }

    /// The last moment at or before `until` and after `after`.
    pub(super) fn last_within(&self, after: Timestamp, until: Timestamp) -> Option<Timestamp> {
        self.next(after).filter(|first| *first <= until)?;
        // The span is halved rather than walked: years of minutes may lie in it.
        let (mut low, mut high) = (after.0, until.0);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            match self.next(Timestamp(middle)).filter(|next| *next <= until) {
                Some(next) => low = next.0.max(middle),
                None => high = middle,
            }
            if self.next(Timestamp(low)).is_none_or(|next| next > until) {
                return Some(Timestamp(low));
            }
        }
        Some(Timestamp(high))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp(DateTime::parse_from_rfc3339(text).expect("a moment").timestamp_millis())
    }

    /// The next runs after a moment, in UTC.
    fn check(expression: &str, zone: &str, after: &str, expected: &[&str]) {
        let rule = Rule::cron(expression, zone).unwrap();
        let mut last = at(after);
        for text in expected {
            assert_eq!(rule.next(last), Some(at(text)), "{expression} after {last:?}");
            last = at(text);
        }
    }

    #[test]
    fn a_wall_time_is_that_of_its_zone() {
        let after = "2026-01-02T00:00:00Z";
        check("0 5 * * *", "Asia/Seoul", after, &["2026-01-02T20:00:00Z", "2026-01-03T20:00:00Z"]);
        check("30 4 * * MON", "UTC", after, &["2026-01-05T04:30:00Z", "2026-01-12T04:30:00Z"]);
    }

    #[test]
    fn changes_of_clocks_neither_lose_nor_repeat_a_daily_run() {
        // Berlin, 2026-03-29: from 02:00 to 03:00 there is nothing.
        check(
            "30 2 * * *",
            "Europe/Berlin",
            "2026-03-28T12:00:00Z",
            &["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"],
        );
        // 2026-10-25: 02:30 comes twice, at 00:30 and at 01:30 UTC.
        check(
            "30 2 * * *",
            "Europe/Berlin",
            "2026-10-24T12:00:00Z",
            &["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"],
        );
        check(
            "*/30 * * * *",
            "Europe/Berlin",
            "2026-10-25T00:15:00Z",
            &["2026-10-25T00:30:00Z", "2026-10-25T01:00:00Z", "2026-10-25T01:30:00Z"],
        );
    }

    #[test]
    fn a_period_counts_from_its_moment_in_both_directions() {
        let rule = Rule::every(Duration::from_secs(3_600), Timestamp(1_800_000)).unwrap();
        let next = |after| rule.next(Timestamp(after)).unwrap().0;
        assert_eq!([next(-1), next(1_800_000), next(5_399_999)], [1_800_000, 5_400_000, 5_400_000]);
        for seconds in [0, 59, 400 * 86_400] {
            assert!(Rule::every(Duration::from_secs(seconds), Timestamp(0)).is_err());
        }
    }

    #[test]
    fn wrong_rules_are_refused() {
        for expression in ["", "* * * *", "* * * * * *", "60 * * * *", "@daily", "0 0 31 2 *"] {
            assert!(Rule::cron(expression, "UTC").is_err(), "{expression}");
        }
        assert!(Rule::cron(&format!("{} * * * *", "1,".repeat(200)), "UTC").is_err());
        let zone = Rule::cron("* * * * *", "Berlin").err();
        assert_eq!(zone, Some(RuleError::Zone { name: "Berlin".to_owned() }));
    }

    proptest! {
        #[test]
        fn the_next_run_is_later_and_the_earliest(
            hour in 0_u32..24,
            zone in prop_oneof![Just("Europe/Berlin"), Just("Asia/Seoul"), Just("America/Santiago")],
            after in 946_684_800_000_i64..2_840_140_800_000,
            share in 0_i64..100,
        ) {
            let rule = Rule::cron(&format!("15 {hour} * * *"), zone).unwrap();
            let next = rule.next(Timestamp(after)).unwrap();
            prop_assert!(next.0 > after && next.0 - after <= 26 * 3_600_000);
            let between = after + (next.0 - 1 - after) * share / 100;
            prop_assert_eq!(rule.next(Timestamp(between)), Some(next));
        }

        #[test]
        fn the_last_run_within_a_span_is_the_one_before_the_next(
            step in 1_u32..59,
            after in 946_684_800_000_i64..946_784_800_000,
            span in 0_i64..400_000_000,
        ) {
            let rule = Rule::cron(&format!("*/{step} * * * *"), "UTC").unwrap();
            let until = Timestamp(after + span);
            let mut walked = None;
            let mut last = Timestamp(after);
            while let Some(next) = rule.next(last).filter(|next| *next <= until) {
                (walked, last) = (Some(next), next);
            }
            prop_assert_eq!(rule.last_within(Timestamp(after), until), walked);
        }

        #[test]
        fn any_expression_is_read_without_panic(expression in "[0-9*/,A-Z# L@-]{0,30}") {
            drop(Rule::cron(&expression, "Europe/Berlin"));
        }
    }
}
