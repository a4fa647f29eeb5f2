//! Texts as phones count and write them: UTF-16 lengths, splitting, JSON escapes, timestamps.

use naru_domain::Timestamp;

/// How many UTF-16 units `text` has, which is how phones count.
#[must_use]
pub fn utf16_units(text: &str) -> usize {
    utf16_units_of(text.as_bytes())
}

/// The same for bytes that are known to be UTF-8. Every character starts with one byte that is no
/// continuation; those of four bytes take two units.
pub(super) fn utf16_units_of(bytes: &[u8]) -> usize {
    bytes.iter().map(|&byte| usize::from(byte & 0xC0 != 0x80) + usize::from(byte >= 0xF0)).sum()
}

/// Cuts `text` into pieces of at most `units_max` UTF-16 units, at the last line break of a piece if
/// there is one in its second half. Joined, the pieces are the text again; no piece is empty.
///
/// A limit of 0 or 1 is taken as 2, so that every character fits.
#[must_use]
pub fn split_text(text: &str, units_max: usize) -> Vec<&str> {
    let units_max = units_max.max(2);
    let mut pieces = Vec::new();
    let mut rest = text;
    // Never more units than bytes, so a short rest needs no counting.
    while rest.len() > units_max
        && let Some(limit) = byte_of_unit(rest, units_max)
    {
        let window = &rest[..limit];
        let cut = match window.rfind('\n') {
            Some(break_at) if break_at + 1 > limit / 2 => break_at + 1,
            _ => limit,
        };
        let (piece, after) = rest.split_at(cut);
        pieces.push(piece);
        rest = after;
    }
    if !rest.is_empty() {
        pieces.push(rest);
    }
    pieces
}

/// Where the first character starts that no longer fits into `units_max` units, if there is one.
fn byte_of_unit(text: &str, units_max: usize) -> Option<usize> {
    let mut units = 0;
    for (at, character) in text.char_indices() {
        units += character.len_utf16();
        if units > units_max {
            return Some(at);
        }
    }
    None
}

/// Appends `text` as a JSON string. Everything below blank is escaped, so no CR or LF survives.
pub(super) fn push_json_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    push_json_escaped(out, text);
    out.push(b'"');
}

/// Appends the inside of a JSON string.
pub(super) fn push_json_escaped(out: &mut Vec<u8>, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let bytes = text.as_bytes();
    let mut run = 0;
    loop {
        let end = plain_end(bytes, run);
        out.extend_from_slice(&bytes[run..end]);
        let Some(&special) = bytes.get(end) else { return };
        match special {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            byte => {
                out.extend_from_slice(b"\\u00");
                out.push(HEX[usize::from(byte >> 4)]);
                out.push(HEX[usize::from(byte & 15)]);
            }
        }
        run = end + 1;
    }
}

/// Where the plain run of a JSON string ends that starts at `from`: at a quote, a backslash, a control
/// character or the end. Eight bytes at a time.
pub(super) fn plain_end(bytes: &[u8], from: usize) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    // Both tricks mark a wrong byte only after a right one, and the first mark is what counts.
    let zero_bytes = |word: u64| word.wrapping_sub(ONES) & !word & HIGHS;
    let below_blank = |word: u64| word.wrapping_sub(ONES * 0x20) & !word & HIGHS;

    let (words, tail) = bytes[from..].as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let found = below_blank(word)
            | zero_bytes(word ^ (ONES * u64::from(b'"')))
            | zero_bytes(word ^ (ONES * u64::from(b'\\')));
        if found != 0 {
            return from + index * 8 + found.trailing_zeros() as usize / 8;
        }
    }
    let stop = tail.iter().position(|&byte| byte < 0x20 || byte == b'"' || byte == b'\\');
    bytes.len() - tail.len() + stop.unwrap_or(tail.len())
}

/// Appends a decimal integer.
pub(super) fn push_integer(out: &mut Vec<u8>, integer: i64) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    let mut left = integer.unsigned_abs();
    loop {
        start -= 1;
        digits[start] = b'0' + low_digit(left);
        left /= 10;
        if left == 0 {
            break;
        }
    }
    if integer < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[start..]);
}

fn low_digit(number: u64) -> u8 {
    (number % 10) as u8
}

/// Appends a moment as `2026-01-01T00:00:00.000Z`. Outside of the years 0 to 9999, where this form
/// has no meaning, the nearest moment inside.
pub(super) fn push_iso_timestamp(out: &mut Vec<u8>, moment: Timestamp) {
    const YEAR_0_MS: i64 = -62_167_219_200_000;
    const YEAR_9999_END_MS: i64 = 253_402_300_799_999;
    let ms = moment.0.clamp(YEAR_0_MS, YEAR_9999_END_MS);
    let (days, ms_of_day) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000).unsigned_abs());
    let (year, month, day) = civil_from_days(days);
    let mut form = *b"0000-00-00T00:00:00.000Z";
    let parts: [(usize, usize, u64); 7] = [
        (0, 4, year),
        (5, 2, month),
        (8, 2, day),
        (11, 2, ms_of_day / 3_600_000),
        (14, 2, ms_of_day / 60_000 % 60),
        (17, 2, ms_of_day / 1_000 % 60),
        (20, 3, ms_of_day % 1_000),
    ];
    for (start, width, mut number) in parts {
        for place in form[start..start + width].iter_mut().rev() {
            *place = b'0' + low_digit(number);
            number /= 10;
        }
    }
    out.extend_from_slice(&form);
}

/// Year, month and day of a day counted from 1970-01-01, which is in or after the year 0. The
/// calendar repeats every 400 years (146,097 days); counting years from March puts the leap day last
/// (Howard Hinnant, "chrono-compatible low-level date algorithms").
fn civil_from_days(days: i64) -> (u64, u64, u64) {
    let shifted = days + 719_468; // From 0000-03-01.
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year.unsigned_abs(), month.unsigned_abs(), day.unsigned_abs())
}
