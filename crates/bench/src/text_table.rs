//! Two-column tables for people and the one place that writes to standard output.

use std::io::Write as _;

/// Rows of a name and a value.
#[derive(Default)]
pub(crate) struct Table(Vec<(String, String)>);

impl Table {
    pub(crate) fn row(&mut self, name: &str, value: impl std::fmt::Display) {
        self.0.push((name.to_owned(), value.to_string()));
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let width = self.0.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        for (name, value) in &self.0 {
            writeln!(f, "{name:width$}  {value}")?;
        }
        Ok(())
    }
}

/// Writes a line to standard output. A reader that has gone away (`| head`) is no error.
pub(crate) fn print_line(line: &str) {
    let written = writeln!(std::io::stdout().lock(), "{line}");
    ignore_closed_pipe(&written);
}

/// Writes a line to standard error, for progress and warnings.
pub(crate) fn note(line: &str) {
    let written = writeln!(std::io::stderr().lock(), "{line}");
    ignore_closed_pipe(&written);
}

/// There is nowhere left to report that the output is gone, and the run's exit code still counts.
fn ignore_closed_pipe(_written: &std::io::Result<()>) {}

/// `12,345,678`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The nearest whole number, with groups.
pub(crate) fn grouped_f(number: f64) -> String {
    grouped(whole(number))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped first; for display"
)]
fn whole(number: f64) -> u64 {
    number.round().clamp(0.0, 1e18) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped_by_three() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(grouped_f(1999.6), "2,000");
    }
}
