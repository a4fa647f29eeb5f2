//! The SQL of the hot path. One text does a whole batch, transaction included, so that a commit is one
//! trip to SQLite's thread. Texts exist for a few sizes; a batch is padded to the next one with rows of
//! NULL that the statement skips.
//!
//! Measured with a prototype (CPU a message with reply, settlement and delivery). Quiet machine, batches
//! of 100, a trip a statement: rows as parameters 8.6 us, the same rows as JSON 13.8 us. Busy machine, side
//! by side: 18 us with a trip a statement against 12 us in one trip; in batches of 32, 33 against 19.

use std::fmt::Write as _;
use std::sync::LazyLock;

/// Rows of each kind that one text takes.
pub(super) const SIZES: [usize; 12] = [1, 2, 4, 8, 16, 32, 48, 64, 96, 128, 192, 256];
/// The most rows of one kind in one text. 256 messages have 3,584 of SQLite's 32,766 parameters.
pub(super) const ROWS_MAX: usize = SIZES[SIZES.len() - 1];

/// Columns of the tables, in the order of their parameters.
pub(super) const MESSAGE_COLUMNS: usize = 14;
pub(super) const REPLY_COLUMNS: usize = 11;
pub(super) const STREAM_COLUMNS: usize = 2;

/// The texts of one size.
struct Texts {
    whole: String,
    part: String,
}

static TEXTS: LazyLock<[Texts; SIZES.len()]> = LazyLock::new(|| SIZES.map(texts));

/// The smallest size that holds `rows`; the largest if none does.
pub(super) fn size_for(rows: usize) -> usize {
    SIZES.into_iter().find(|size| *size >= rows).unwrap_or(ROWS_MAX)
}

/// A whole batch of this size with its transaction.
pub(super) fn whole(size: usize) -> &'static str {
    &TEXTS[index(size)].whole
}

/// The same inside a transaction that is open already.
pub(super) fn part(size: usize) -> &'static str {
    &TEXTS[index(size)].part
}

fn index(size: usize) -> usize {
    SIZES.iter().position(|known| *known >= size).unwrap_or(SIZES.len() - 1)
}

fn texts(size: usize) -> Texts {
    let rows = |columns: usize| {
        let mut text = String::from("SELECT * FROM (VALUES ");
        for row in 0..size {
            text.push_str(if row == 0 { "(?" } else { ",(?" });
            text.extend(std::iter::repeat_n(",?", columns - 1));
            text.push(')');
        }
        text.push_str(") WHERE column1 IS NOT NULL");
        text
    };
    let mut part = String::new();
    let ids = vec!["?"; size].join(",");
    let written = write!(
        part,
        "INSERT INTO messages (id, device, room, state, flags, received_at, log_id, sender, \
         user_hash, room_name, channel_id, text, sealed, failure) {};\
         INSERT INTO replies (device, place, message, at, kind, room_name, channel_id, text, body, \
         sealed, wait_ms) {};\
         UPDATE messages SET state = 1, failure = NULL WHERE id IN ({ids});\
         INSERT INTO streams (device, delivered) {} ON CONFLICT (device) DO UPDATE \
         SET delivered = max(delivered, excluded.delivered)",
        rows(MESSAGE_COLUMNS),
        rows(REPLY_COLUMNS),
        rows(STREAM_COLUMNS),
    );
    debug_assert!(written.is_ok(), "writing to a string cannot fail");
    Texts { whole: format!("BEGIN IMMEDIATE;{part};COMMIT"), part }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_gets_the_smallest_text_that_holds_it() {
        for (rows, expected) in [(0, 1), (1, 1), (3, 4), (33, 48), (256, 256), (9_999, 256)] {
            assert_eq!(size_for(rows), expected, "{rows}");
        }
    }

    #[test]
    fn every_text_has_as_many_parameters_as_its_rows_need() {
        let columns = MESSAGE_COLUMNS + REPLY_COLUMNS + STREAM_COLUMNS + 1;
        for size in SIZES {
            assert_eq!(whole(size).matches('?').count(), size * columns);
            assert_eq!(part(size).matches('?').count(), size * columns);
        }
    }
}
