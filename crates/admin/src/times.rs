//! Wall time as the API writes it: RFC 3339 in UTC with milliseconds.

use chrono::{DateTime, SecondsFormat, Utc};
use naru_domain::Timestamp;

/// `2026-11-21T13:31:38.123Z`. Moments that chrono cannot hold become the nearest one it can.
pub(crate) fn show(at: Timestamp) -> String {
    let clamped = if at.0 < 0 { DateTime::<Utc>::MIN_UTC } else { DateTime::<Utc>::MAX_UTC };
    DateTime::<Utc>::from_timestamp_millis(at.0)
        .unwrap_or(clamped)
        .to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// Any RFC 3339 moment, whatever its offset.
pub(crate) fn parse(raw: &str) -> Option<Timestamp> {
    DateTime::parse_from_rfc3339(raw).ok().map(|moment| Timestamp(moment.timestamp_millis()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_utc_and_read_with_any_offset() {
        let at = Timestamp(1_795_267_898_123);
        assert_eq!(show(at), "2026-11-21T13:31:38.123Z");
        assert_eq!(parse("2026-11-21T13:31:38.123Z"), Some(at));
        assert_eq!(parse("2026-11-21T22:31:38.123+09:00"), Some(at));
        assert_eq!(parse("yesterday"), None);
    }

    #[test]
    fn the_ends_of_time_can_be_written() {
        assert!(show(Timestamp(i64::MAX)).ends_with('Z'));
        assert!(show(Timestamp(i64::MIN)).ends_with('Z'));
    }
}
