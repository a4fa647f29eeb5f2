//! Wall time and the two ways in which phones write it. Knows nothing about frames.

use std::time::{SystemTime, UNIX_EPOCH};

/// Korea has had no daylight saving since 1988, so a constant is exact.
const KOREA_OFFSET_MS: u64 = 9 * 3_600_000;

/// Now, in milliseconds since the Unix epoch.
#[expect(clippy::disallowed_methods, reason = "the one place of this crate where wall time enters")]
pub(crate) fn unix_ms() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}

/// `2026-01-01T00:00:00.000Z`: what scripts from 3.3.0 on send.
pub(crate) fn iso_utc(unix_ms: u64) -> String {
    let (year, month, day) = civil_date(unix_ms / 86_400_000);
    let (hour, minute, second) = time_of_day(unix_ms);
    let millis = unix_ms % 1000;
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// `2026-01-01 09:00:00`: what older scripts send, in the phone's local time (Korea).
pub(crate) fn korean_local(unix_ms: u64) -> String {
    let local_ms = unix_ms + KOREA_OFFSET_MS;
    let (year, month, day) = civil_date(local_ms / 86_400_000);
    let (hour, minute, second) = time_of_day(local_ms);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

fn time_of_day(ms: u64) -> (u64, u64, u64) {
    let seconds = ms / 1000 % 86_400;
    (seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// Days since 1970-01-01 to year, month, day (Howard Hinnant's algorithm, years after 1970 only).
fn civil_date(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_notations_show_the_same_moment() {
        assert_eq!(iso_utc(1_767_225_600_000), "2026-01-01T00:00:00.000Z");
        assert_eq!(korean_local(1_767_225_600_000), "2026-01-01 09:00:00");
        assert_eq!(iso_utc(1_709_164_800_123), "2024-02-29T00:00:00.123Z");
        assert_eq!(korean_local(1_735_657_199_000), "2024-12-31 23:59:59");
    }
}
