//! When a schedule is due next. Pure: time, zone and rule in, moment out.
//!
//! Where clocks change, a wall time that does not exist runs at the next minute that does, and one that
//! occurs twice runs once, at the first. A cron expression with `*` in its hour field means "every so
//! often" rather than a wall time: it goes on through the hour that is repeated.

use std::str::FromStr;

use chrono::{DateTime, Datelike, Days, MappedLocalTime, NaiveDateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use croner::parser::{CronParser, Seconds, Year};
use naru_domain::Timestamp;
use naru_domain::work::{Recurrence, Schedule};

/// Days looked ahead: a week, and some for days that a zone left out (Samoa in 2011).
const DAYS_AHEAD: u64 = 9;
/// A gap in a zone's wall time is at most a day, as far as history goes; in minutes, with a margin.
const GAP_MINUTES_MAX: i64 = 26 * 60;
/// Wall times of one expression that may fall on moments that are past (a repeated hour has 60).
const CANDIDATES_MAX: usize = 2_000;

/// A time zone by its IANA name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeZone(Tz);

impl TimeZone {
    /// The zone with this name, such as `Asia/Seoul`. `None` if there is none.
    #[must_use]
    pub fn parse(name: &str) -> Option<TimeZone> {
        Tz::from_str(name).ok().map(TimeZone)
    }

    fn local(self, at: Timestamp) -> Option<NaiveDateTime> {
        let utc = DateTime::<Utc>::from_timestamp_millis(at.0)?;
        Some(utc.with_timezone(&self.0).naive_local())
    }

    /// The moment of a wall time, by the rule of the module.
    fn moment(self, local: NaiveDateTime) -> Option<Timestamp> {
        for minutes in 0..GAP_MINUTES_MAX {
            let candidate = local.checked_add_signed(TimeDelta::minutes(minutes))?;
            let found = match chrono::TimeZone::from_local_datetime(&self.0, &candidate) {
                MappedLocalTime::Single(moment) | MappedLocalTime::Ambiguous(moment, _) => moment,
                MappedLocalTime::None => continue,
            };
            return Some(Timestamp(found.timestamp_millis()));
        }
        None
    }
}

/// Why a cron expression is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    /// It has more or fewer than five fields.
    #[error("a cron expression has five fields (minute hour day month weekday), this has {count}")]
    Fields {
        /// How many it has.
        count: usize,
    },
    /// One of the fields is wrong.
    #[error("{reason}")]
    NotValid {
        /// What the parser said.
        reason: String,
    },
}

/// A cron expression that was read.
#[derive(Clone, Debug)]
pub struct Cron {
    pattern: croner::Cron,
    is_interval: bool,
}

impl Cron {
    /// Reads five fields: minute, hour, day of month, month, day of week.
    pub fn parse(expression: &str) -> Result<Cron, CronError> {
        let fields: Vec<&str> = expression.split_whitespace().collect();
        let [_, hour, ..] = fields[..] else {
            return Err(CronError::Fields { count: fields.len() });
        };
        if fields.len() != 5 {
            return Err(CronError::Fields { count: fields.len() });
        }
        let parser =
            CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let pattern = parser
            .parse(expression)
            .map_err(|error| CronError::NotValid { reason: error.to_string() })?;
        Ok(Cron { pattern, is_interval: hour.contains('*') })
    }

    fn next(&self, zone: TimeZone, after: Timestamp) -> Option<Timestamp> {
        let utc = DateTime::<Utc>::from_timestamp_millis(after.0)?;
        if self.is_interval {
            let local = utc.with_timezone(&zone.0);
            let next = self.pattern.find_next_occurrence(&local, false).ok()?;
            return Some(Timestamp(next.timestamp_millis())).filter(|next| *next > after);
        }
        // Wall times are sought as if there were no zone, and then put into it.
        let mut wall = zone.local(after)?.and_utc();
        for _ in 0..CANDIDATES_MAX {
            wall = self.pattern.find_next_occurrence(&wall, false).ok()?;
            let moment = zone.moment(wall.naive_utc())?;
            if moment > after {
                return Some(moment);
            }
        }
        None
    }
}

/// The first moment after `after` and within the window (both ends belong to it) at which the rule is
/// due. `None` when there is none any more, or the rule makes no sense.
#[must_use]
pub fn next_run(
    recurrence: &Recurrence,
    zone: TimeZone,
    after: Timestamp,
    valid_from: Option<Timestamp>,
    valid_until: Option<Timestamp>,
) -> Option<Timestamp> {
    let after = match valid_from {
        Some(from) => after.max(Timestamp(from.0.saturating_sub(1))),
        None => after,
    };
    let next = match recurrence {
        Recurrence::Once(at) => Some(*at).filter(|at| *at > after),
        Recurrence::Daily(minutes) => next_wall_time(zone, after, minutes, |_| true),
        Recurrence::Weekly { days, minutes } => {
            next_wall_time(zone, after, minutes, |day| days.contains(&day))
        }
        Recurrence::Cron(expression) => Cron::parse(expression).ok()?.next(zone, after),
    };
    next.filter(|next| valid_until.is_none_or(|until| *next <= until))
}

/// The same for a whole schedule; `None` also when it is off or its zone is unknown.
#[must_use]
pub fn next_of(schedule: &Schedule, after: Timestamp) -> Option<Timestamp> {
    if !schedule.active {
        return None;
    }
    let zone = TimeZone::parse(&schedule.time_zone)?;
    next_run(&schedule.recurrence, zone, after, schedule.valid_from, schedule.valid_until)
}

fn next_wall_time(
    zone: TimeZone,
    after: Timestamp,
    minutes: &[u16],
    is_day: impl Fn(u8) -> bool,
) -> Option<Timestamp> {
    let mut minutes: Vec<u16> =
        minutes.iter().copied().filter(|minute| *minute < 24 * 60).collect();
    minutes.sort_unstable();
    let today = zone.local(after)?.date();
    for ahead in 0..=DAYS_AHEAD {
        let date = today.checked_add_days(Days::new(ahead))?;
        let weekday = u8::try_from(date.weekday().num_days_from_monday()).unwrap_or(0);
        if !is_day(weekday) {
            continue;
        }
        let midnight = date.and_hms_opt(0, 0, 0)?;
        for minute in &minutes {
            let wall = midnight.checked_add_signed(TimeDelta::minutes(i64::from(*minute)))?;
            // Later wall times are never earlier moments, so the first one found is the next.
            if let Some(moment) = zone.moment(wall).filter(|moment| *moment > after) {
                return Some(moment);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        let moment = DateTime::parse_from_rfc3339(text).expect("a moment");
        Timestamp(moment.timestamp_millis())
    }

    fn zone(name: &str) -> TimeZone {
        TimeZone::parse(name).expect("a zone")
    }

    /// The next runs after a moment, written in UTC.
    fn check(recurrence: &Recurrence, zone_name: &str, after: &str, expected: &[&str]) {
        let mut last = at(after);
        for text in expected {
            let next = next_run(recurrence, zone(zone_name), last, None, None);
            assert_eq!(next, Some(at(text)), "after {last:?}");
            last = at(text);
        }
    }

    fn cron(expression: &str) -> Recurrence {
        Recurrence::Cron(expression.to_owned())
    }

    #[test]
    fn once_is_once() {
        let once = Recurrence::Once(at("2026-03-01T00:00:00Z"));
        check(&once, "Asia/Seoul", "2026-02-01T00:00:00Z", &["2026-03-01T00:00:00Z"]);
        let past = at("2026-03-01T00:00:00Z");
        assert_eq!(next_run(&once, zone("Asia/Seoul"), past, None, None), None);
    }

    #[test]
    fn daily_runs_at_each_of_its_minutes_in_any_order() {
        check(
            &Recurrence::Daily(vec![18 * 60, 9 * 60 + 30]),
            "Asia/Seoul",
            "2026-01-01T00:00:00Z",
            &["2026-01-01T00:30:00Z", "2026-01-01T09:00:00Z", "2026-01-02T00:30:00Z"],
        );
    }

    #[test]
    fn weekly_runs_on_its_days() {
        // 2026-01-01 is a Thursday; in Seoul the days begin at 15:00 UTC.
        check(
            &Recurrence::Weekly { days: vec![0, 6], minutes: vec![0, 23 * 60 + 59] },
            "Asia/Seoul",
            "2026-01-01T00:00:00Z",
            &[
                "2026-01-03T15:00:00Z",
                "2026-01-04T14:59:00Z",
                "2026-01-04T15:00:00Z",
                "2026-01-05T14:59:00Z",
                "2026-01-10T15:00:00Z",
            ],
        );
    }

    #[test]
    fn a_wall_time_that_does_not_exist_runs_at_the_next_minute_that_does() {
        // Berlin, 2026-03-29: from 02:00 to 03:00 there is nothing.
        for rule in [Recurrence::Daily(vec![150]), cron("30 2 * * *")] {
            check(
                &rule,
                "Europe/Berlin",
                "2026-03-28T12:00:00Z",
                &["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"],
            );
        }
        // Two that fall together run once.
        check(
            &Recurrence::Daily(vec![130, 150, 180]),
            "Europe/Berlin",
            "2026-03-28T12:00:00Z",
            &["2026-03-29T01:00:00Z", "2026-03-30T00:10:00Z"],
        );
    }

    #[test]
    fn a_wall_time_that_occurs_twice_runs_once_at_the_first() {
        // Berlin, 2026-10-25: 02:30 is at 00:30 and at 01:30 UTC.
        for rule in [Recurrence::Daily(vec![150]), cron("30 2 * * *"), cron("30 2,3 * * *")] {
            check(&rule, "Europe/Berlin", "2026-10-24T12:00:00Z", &["2026-10-25T00:30:00Z"]);
        }
        check(
            &Recurrence::Daily(vec![150]),
            "Europe/Berlin",
            "2026-10-25T00:30:00Z",
            &["2026-10-26T01:30:00Z"],
        );
        check(
            &cron("30 2,3 * * *"),
            "Europe/Berlin",
            "2026-10-25T00:30:00Z",
            &["2026-10-25T02:30:00Z"],
        );
    }

    #[test]
    fn every_so_often_goes_on_through_the_repeated_hour() {
        check(
            &cron("*/30 * * * *"),
            "Europe/Berlin",
            "2026-10-25T00:15:00Z",
            &["2026-10-25T00:30:00Z", "2026-10-25T01:00:00Z", "2026-10-25T01:30:00Z"],
        );
        check(
            &cron("*/30 * * * *"),
            "Europe/Berlin",
            "2026-03-29T00:45:00Z",
            &["2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z"],
        );
    }

    #[test]
    fn a_day_that_a_zone_left_out_moves_to_the_next_one() {
        // Samoa skipped the whole of 2011-12-30.
        check(
            &Recurrence::Daily(vec![600]),
            "Pacific/Apia",
            "2011-12-29T21:00:00Z",
            &["2011-12-30T10:00:00Z", "2011-12-30T20:00:00Z"],
        );
    }

    #[test]
    fn cron_knows_ranges_steps_names_and_leap_days() {
        check(
            &cron("0 9 * * MON-FRI"),
            "Asia/Seoul",
            "2026-01-02T00:00:00Z",
            &["2026-01-05T00:00:00Z", "2026-01-06T00:00:00Z"],
        );
        check(&cron("0 0 29 2 *"), "UTC", "2026-01-01T00:00:00Z", &["2028-02-29T00:00:00Z"]);
        check(&cron("*/15 8-9 1 * *"), "UTC", "2026-01-01T08:50:00Z", &["2026-01-01T09:00:00Z"]);
    }

    #[test]
    fn wrong_expressions_are_refused_and_impossible_ones_never_run() {
        for expression in
            ["", "* * * *", "* * * * * *", "60 * * * *", "a b c d e", "@daily", "* * * * 8"]
        {
            assert!(Cron::parse(expression).is_err(), "{expression}");
        }
        let never = next_run(&cron("0 0 31 2 *"), zone("UTC"), Timestamp(0), None, None);
        assert_eq!(never, None);
    }

    #[test]
    fn both_ends_of_the_window_belong_to_it() {
        let daily = Recurrence::Daily(vec![0]);
        let run = at("2026-01-05T00:00:00Z");
        let next = |from, until| next_run(&daily, zone("UTC"), Timestamp(0), from, until);
        assert_eq!(next(Some(run), Some(run)), Some(run));
        assert_eq!(next(Some(Timestamp(run.0 + 1)), Some(Timestamp(run.0 + 86_399_999))), None);
    }

    fn zones() -> impl Strategy<Value = TimeZone> {
        prop_oneof![
            Just("Asia/Seoul"),
            Just("UTC"),
            Just("Europe/Berlin"),
            Just("America/New_York"),
            Just("Australia/Lord_Howe"),
            Just("Asia/Kathmandu"),
            Just("America/Santiago"),
            Just("Africa/Cairo"),
        ]
        .prop_map(zone)
    }

    fn moments() -> impl Strategy<Value = Timestamp> {
        // 2000 to 2060, to the millisecond.
        (946_684_800_000_i64..2_840_140_800_000).prop_map(Timestamp)
    }

    fn recurrences() -> impl Strategy<Value = Recurrence> {
        let minutes = || proptest::collection::vec(0_u16..1440, 1..5);
        prop_oneof![
            moments().prop_map(Recurrence::Once),
            minutes().prop_map(Recurrence::Daily),
            (proptest::collection::vec(0_u8..7, 1..4), minutes())
                .prop_map(|(days, minutes)| Recurrence::Weekly { days, minutes }),
            (0_u16..60, 0_u16..24)
                .prop_map(|(minute, hour)| Recurrence::Cron(format!("{minute} {hour} * * 1,3"))),
            (1_u16..60).prop_map(|step| Recurrence::Cron(format!("*/{step} * * * *"))),
        ]
    }

    proptest! {
        #[test]
        fn the_next_run_is_later_within_the_window_and_the_earliest(
            rule in recurrences(),
            zone in zones(),
            after in moments(),
            between in 0_i64..1_000_000_000,
            window in (moments(), moments()),
        ) {
            let (from, until) = (Some(window.0), Some(window.1));
            if let Some(next) = next_run(&rule, zone, after, from, until) {
                prop_assert!(next > after && next >= window.0 && next <= window.1);
            }
            if let Some(next) = next_run(&rule, zone, after, None, None) {
                // Asked from any moment before it, the answer is the same or an earlier one; asked from
                // just before it, the same.
                let just_before = Timestamp(next.0 - 1);
                prop_assert_eq!(next_run(&rule, zone, just_before, None, None), Some(next));
                let middle = Timestamp((after.0 + between).min(next.0 - 1));
                prop_assert_eq!(next_run(&rule, zone, middle, None, None), Some(next));
                let later = Timestamp(next.0 + between);
                if let Some(after_that) = next_run(&rule, zone, later, None, None) {
                    prop_assert!(after_that > later);
                }
            }
        }

        #[test]
        fn daily_and_weekly_are_the_cron_expressions_they_stand_for(
            zone in zones(),
            after in moments(),
            hours in proptest::collection::btree_set(0_u16..24, 1..4),
            minute in 0_u16..60,
            days in proptest::collection::btree_set(0_u8..7, 1..4),
        ) {
            let minutes: Vec<u16> = hours.iter().map(|hour| hour * 60 + minute).collect();
            let hours = hours.iter().map(u16::to_string).collect::<Vec<_>>().join(",");
            let daily = Recurrence::Daily(minutes.clone());
            let same = Recurrence::Cron(format!("{minute} {hours} * * *"));
            // Cron counts from Sunday, and so does nobody else here.
            let names = days.iter().map(|day| ((day + 1) % 7).to_string()).collect::<Vec<_>>();
            let weekly = Recurrence::Weekly { days: days.into_iter().collect(), minutes };
            let same_days = Recurrence::Cron(format!("{minute} {hours} * * {}", names.join(",")));
            for (rule, expression) in [(daily, same), (weekly, same_days)] {
                let mut last = after;
                for _ in 0..5 {
                    let next = next_run(&rule, zone, last, None, None);
                    prop_assert_eq!(next, next_run(&expression, zone, last, None, None));
                    last = next.expect("it never ends");
                }
            }
        }

        #[test]
        fn any_expression_is_read_without_panic(expression in "[0-9*/,A-Z# L@-]{0,30}") {
            drop(Cron::parse(&expression));
        }
    }
}
