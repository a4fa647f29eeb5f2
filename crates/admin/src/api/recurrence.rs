//! When a schedule sends, as the API writes it: local times as `09:30`, days by their English names.

use naru_domain::work::Recurrence;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::ApiError;
use crate::times;

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
/// Times of one day (guessed: one each quarter of an hour).
const TIMES_MAX: usize = 96;
const CRON_BYTES_MAX: usize = 200;

/// When a schedule sends.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum RecurrenceShape {
    /// Once, at this moment.
    Once {
        /// Such as `2026-12-24T18:00:00+09:00`.
        at: String,
    },
    /// Every day.
    Daily {
        /// Local times such as `09:30`.
        times: Vec<String>,
    },
    /// On some days of the week.
    Weekly {
        /// `mon` to `sun`.
        days: Vec<String>,
        /// Local times such as `09:30`.
        times: Vec<String>,
    },
    /// By a cron expression.
    Cron {
        /// Five fields.
        expression: String,
    },
}

impl RecurrenceShape {
    pub(crate) fn new(recurrence: &Recurrence) -> RecurrenceShape {
        match recurrence {
            Recurrence::Once(at) => RecurrenceShape::Once { at: times::show(*at) },
            Recurrence::Daily(minutes) => RecurrenceShape::Daily { times: show_times(minutes) },
            Recurrence::Weekly { days, minutes } => RecurrenceShape::Weekly {
                days: days.iter().map(|day| DAYS[usize::from(*day) % 7].to_owned()).collect(),
                times: show_times(minutes),
            },
            Recurrence::Cron(expression) => {
                RecurrenceShape::Cron { expression: expression.clone() }
            }
        }
    }

    /// The cron expression itself is checked by those who compute with it.
    pub(crate) fn into_domain(self) -> Result<Recurrence, ApiError> {
        match self {
            RecurrenceShape::Once { at } => {
                let at = times::parse(&at).ok_or_else(|| {
                    ApiError::field("`at` is a moment like 2026-12-24T18:00:00+09:00")
                })?;
                Ok(Recurrence::Once(at))
            }
            RecurrenceShape::Daily { times } => Ok(Recurrence::Daily(parse_times(&times)?)),
            RecurrenceShape::Weekly { days, times } => {
                let mut days =
                    days.iter().map(|day| parse_day(day)).collect::<Result<Vec<_>, _>>()?;
                days.sort_unstable();
                days.dedup();
                if days.is_empty() {
                    return Err(ApiError::field("`days` has at least one day"));
                }
                Ok(Recurrence::Weekly { days, minutes: parse_times(&times)? })
            }
            RecurrenceShape::Cron { expression } if expression.len() <= CRON_BYTES_MAX => {
                Ok(Recurrence::Cron(expression))
            }
            RecurrenceShape::Cron { .. } => {
                Err(ApiError::field(format!("`expression` has at most {CRON_BYTES_MAX} bytes")))
            }
        }
    }
}

fn show_times(minutes: &[u16]) -> Vec<String> {
    minutes.iter().map(|minute| format!("{:02}:{:02}", minute / 60, minute % 60)).collect()
}

fn parse_day(raw: &str) -> Result<u8, ApiError> {
    let day = DAYS.iter().zip(0..).find(|(name, _)| name.eq_ignore_ascii_case(raw));
    day.map(|(_, number)| number)
        .ok_or_else(|| ApiError::field("a day is mon, tue, wed, thu, fri, sat or sun"))
}

fn parse_times(times: &[String]) -> Result<Vec<u16>, ApiError> {
    if !(1..=TIMES_MAX).contains(&times.len()) {
        return Err(ApiError::field(format!("`times` has 1 to {TIMES_MAX} items")));
    }
    let mut minutes = times.iter().map(|time| parse_time(time)).collect::<Result<Vec<_>, _>>()?;
    minutes.sort_unstable();
    minutes.dedup();
    Ok(minutes)
}

fn parse_time(raw: &str) -> Result<u16, ApiError> {
    let number = |part: &str, max: u16| {
        let is_plain = part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
        part.parse::<u16>().ok().filter(|number| is_plain && *number <= max)
    };
    raw.split_once(':')
        .and_then(|(hour, minute)| Some(number(hour, 23)? * 60 + number(minute, 59)?))
        .ok_or_else(|| ApiError::field("a time is written as 09:30"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recurrences_survive_the_way_there_and_back() {
        for shape in [
            serde_json::json!({ "kind": "once", "at": "2026-12-24T09:00:00.000Z" }),
            serde_json::json!({ "kind": "daily", "times": ["00:00", "23:59"] }),
            serde_json::json!({ "kind": "weekly", "days": ["mon", "sun"], "times": ["09:30"] }),
            serde_json::json!({ "kind": "cron", "expression": "*/5 * * * *" }),
        ] {
            let parsed: RecurrenceShape = serde_json::from_value(shape.clone()).unwrap();
            let domain = parsed.into_domain().unwrap();
            let shown = serde_json::to_value(RecurrenceShape::new(&domain)).unwrap();
            assert_eq!(shown, shape);
        }
    }

    #[test]
    fn times_and_days_that_do_not_exist_are_refused() {
        for time in ["24:00", "9:30", "09:60", "0930", "+9:30", "", "09:30:00"] {
            assert!(parse_time(time).is_err(), "{time}");
        }
        assert!(parse_day("someday").is_err());
        assert!(parse_times(&[]).is_err());
    }
}
