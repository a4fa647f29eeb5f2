//! Splitting of long texts, and timestamps as raw phones get them.

use naru_domain::{Dialect, Timestamp};
use naru_wire::bridge::{encode_ping, split_text, utf16_units};

use crate::support::phone::read_lines;

#[track_caller]
fn check_split(text: &str, units_max: usize, expected: &[&str]) {
    assert_eq!(split_text(text, units_max), expected);
}

#[test]
fn a_text_is_cut_at_line_breaks_where_they_are_late_enough() {
    check_split("", 5, &[]);
    check_split("short", 5, &["short"]);
    check_split("abc\ndefgh", 5, &["abc\n", "defgh"]);
    check_split("a\nbcdefgh", 5, &["a\nbcd", "efgh"]);
    check_split("abcdefghij", 4, &["abcd", "efgh", "ij"]);
    check_split("abcd\nef", 5, &["abcd\n", "ef"]);
}

#[test]
fn no_character_is_cut_in_two() {
    check_split("가나다라", 3, &["가나다", "라"]);
    check_split("🙂🙂🙂", 3, &["🙂", "🙂", "🙂"]);
    check_split("🙂a", 0, &["🙂", "a"]);
}

#[test]
fn lengths_are_counted_as_phones_count_them() {
    for (text, units) in [("", 0), ("abc", 3), ("가나", 2), ("🙂", 2), ("é\u{7ff}\u{800}", 3)]
    {
        assert_eq!(utf16_units(text), units);
        assert_eq!(text.encode_utf16().count(), units);
    }
}

#[track_caller]
fn check_moment(ms: i64, expected: &str) {
    let mut out = Vec::new();
    encode_ping(&mut out, Dialect::Raw, "b", Timestamp(ms), Timestamp(ms), 0);
    let line = &read_lines(&out)[0];
    assert!(line.contains(&format!("\"timestamp\":\"{expected}\"")), "{line}");
    assert!(line.contains(&format!("\"server_timestamp\":{ms},")), "{line}");
}

#[test]
fn moments_are_written_as_utc_with_milliseconds() {
    check_moment(0, "1970-01-01T00:00:00.000Z");
    check_moment(-1, "1969-12-31T23:59:59.999Z");
    check_moment(1_767_225_600_000, "2026-01-01T00:00:00.000Z");
    check_moment(1_709_210_096_789, "2024-02-29T12:34:56.789Z");
    check_moment(951_868_800_001, "2000-03-01T00:00:00.001Z");
    check_moment(4_107_542_399_999, "2100-02-28T23:59:59.999Z");
    check_moment(4_107_542_400_000, "2100-03-01T00:00:00.000Z");
    check_moment(i64::MAX, "9999-12-31T23:59:59.999Z");
    check_moment(i64::MIN, "0000-01-01T00:00:00.000Z");
}
