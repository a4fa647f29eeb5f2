//! Finds lines in a buffer. Pure: it remembers nothing, the caller passes how far it has looked.

/// What [`next_line`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineScan {
    /// A whole line: `buffer[..end]`. The next one starts at `next`. It may be empty.
    Line {
        /// Where the line ends, without CR and LF.
        end: usize,
        /// Where the next line starts.
        next: usize,
    },
    /// No LF yet. Pass `scanned` again once there are more bytes, so that no byte is looked at twice.
    NeedMore {
        /// How many bytes hold no LF.
        scanned: usize,
    },
    /// More than `max` bytes without an LF.
    TooLong,
}

/// Looks for the first line of `buffer`, whose first `scanned` bytes are known to hold no LF.
///
/// A line has at most `max` bytes before its LF, and never are more than `max + 1` bytes looked at.
/// One CR before the LF is dropped. Blank lines are lines too; the caller skips them.
#[must_use]
pub fn next_line(buffer: &[u8], scanned: usize, max: usize) -> LineScan {
    let window = &buffer[..buffer.len().min(max.saturating_add(1))];
    let unseen = window.get(scanned..).unwrap_or_default();
    match memchr::memchr(b'\n', unseen) {
        Some(found) => {
            let lf = window.len() - unseen.len() + found;
            let end = if lf > 0 && buffer[lf - 1] == b'\r' { lf - 1 } else { lf };
            LineScan::Line { end, next: lf + 1 }
        }
        None if buffer.len() > max => LineScan::TooLong,
        None => LineScan::NeedMore { scanned: buffer.len() },
    }
}

#[cfg(test)]
mod tests {
    use super::{LineScan, next_line};

    #[track_caller]
    fn check(buffer: &str, scanned: usize, max: usize, expected: LineScan) {
        assert_eq!(next_line(buffer.as_bytes(), scanned, max), expected);
    }

    #[test]
    fn a_line_ends_at_its_lf_and_loses_one_cr() {
        check("ab\ncd\n", 0, 9, LineScan::Line { end: 2, next: 3 });
        check("ab\r\ncd\n", 0, 9, LineScan::Line { end: 2, next: 4 });
        check("ab\r\r\n", 0, 9, LineScan::Line { end: 3, next: 5 });
        check("\n", 0, 9, LineScan::Line { end: 0, next: 1 });
        check("\r\n", 0, 9, LineScan::Line { end: 0, next: 2 });
    }

    #[test]
    fn a_scan_is_resumed_where_it_stopped() {
        check("abc", 0, 9, LineScan::NeedMore { scanned: 3 });
        check("abc\n", 3, 9, LineScan::Line { end: 3, next: 4 });
        check("", 0, 9, LineScan::NeedMore { scanned: 0 });
        check("abc\r", 3, 9, LineScan::NeedMore { scanned: 4 });
        check("abc\r\n", 4, 9, LineScan::Line { end: 3, next: 5 });
    }

    #[test]
    fn a_line_may_have_as_many_bytes_as_the_limit_and_no_more() {
        check("abc\n", 0, 3, LineScan::Line { end: 3, next: 4 });
        check("abcd\n", 0, 3, LineScan::TooLong);
        check("abcd", 0, 3, LineScan::TooLong);
        check("abc", 0, 3, LineScan::NeedMore { scanned: 3 });
        check("a\n", 0, usize::MAX, LineScan::Line { end: 1, next: 2 });
    }

    #[test]
    fn a_position_past_the_end_is_harmless() {
        check("ab", 7, 9, LineScan::NeedMore { scanned: 2 });
        check("abcdef", 7, 3, LineScan::TooLong);
    }
}
