//! What people and programs see: aligned tables, single records, or JSON as the server said it.

use std::io::Write as _;

use serde_json::Value;

use super::client::Failure;

/// The longest cell of a table, in characters; JSON shows everything.
const CELL_CHARS_MAX: usize = 60;

/// Standard output in the form that was asked for.
pub(super) struct Screen {
    json: bool,
}

/// A column: its title and where in the row its value is.
pub(super) type Column = (&'static str, fn(&Value) -> String);

impl Screen {
    pub(super) fn new(json: bool) -> Screen {
        Screen { json }
    }

    /// The rows of a list.
    pub(super) fn table(&self, page: &Value, columns: &[Column]) -> Result<(), Failure> {
        if self.json {
            return self.json(page);
        }
        let rows = page["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        if rows.is_empty() {
            return self.line("(none)");
        }
        let mut text = layout(rows, columns);
        if page["next"].is_string() {
            text.push_str("(there are more; see --limit)\n");
        }
        self.write(&text)
    }

    /// One record: a line for each field.
    pub(super) fn record(&self, record: &Value) -> Result<(), Failure> {
        if self.json {
            return self.json(record);
        }
        let Some(fields) = record.as_object() else { return self.json(record) };
        let width = fields.keys().map(|name| columns_of(name)).max().unwrap_or(0);
        let mut text = String::new();
        for (name, value) in fields {
            let value = match value {
                Value::Object(_) | Value::Array(_) => format!("{value:#}"),
                other => plain(other),
            };
            let pad = " ".repeat(width - columns_of(name));
            text.push_str(&format!("{name}{pad}  {}\n", safe(&value, true)));
        }
        self.write(&text)
    }

    /// That something was done: a sentence for people, the record for programs.
    pub(super) fn done(&self, sentence: &str, record: &Value) -> Result<(), Failure> {
        if !self.json {
            return self.line(sentence);
        }
        if record.is_null() { self.json(&serde_json::json!({})) } else { self.json(record) }
    }

    pub(super) fn is_json(&self) -> bool {
        self.json
    }

    pub(super) fn line(&self, line: &str) -> Result<(), Failure> {
        self.write(&format!("{}\n", safe(line, true)))
    }

    pub(super) fn json(&self, value: &Value) -> Result<(), Failure> {
        self.write(&format!("{value:#}\n"))
    }

    /// One JSON record a line.
    pub(super) fn row(&self, value: &Value) -> Result<(), Failure> {
        self.write(&format!("{value}\n"))
    }

    fn write(&self, text: &str) -> Result<(), Failure> {
        match std::io::stdout().lock().write_all(text.as_bytes()) {
            // Somebody reads only the first lines: no reason to complain.
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                Err(Failure::Failed(error.to_string()))
            }
            _ => Ok(()),
        }
    }

    /// Tells people what went wrong.
    pub(super) fn complain(&self, text: &str) {
        // Nobody is left to tell when this fails.
        drop(writeln!(std::io::stderr().lock(), "naru: {}", safe(text, true)));
    }
}

/// Rows under the titles of their columns.
pub(super) fn layout(rows: &[Value], columns: &[Column]) -> String {
    let mut lines: Vec<Vec<String>> =
        vec![columns.iter().map(|(title, _)| (*title).to_owned()).collect()];
    for row in rows {
        lines.push(columns.iter().map(|(_, value)| cell(&value(row))).collect());
    }
    let widths: Vec<usize> = (0..columns.len())
        .map(|column| lines.iter().map(|line| columns_of(&line[column])).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for line in &lines {
        let mut row = String::new();
        for (cell, width) in line.iter().zip(&widths) {
            row.push_str(cell);
            row.push_str(&" ".repeat(width - columns_of(cell) + 2));
        }
        text.push_str(row.trim_end());
        text.push('\n');
    }
    text
}

fn cell(raw: &str) -> String {
    let safe = safe(raw, false);
    let mut cell: String = safe.chars().take(CELL_CHARS_MAX).collect();
    if cell.len() < safe.len() {
        cell.push('…');
    }
    if cell.is_empty() { "-".to_owned() } else { cell }
}

/// Names and texts come from strangers: control characters could rewrite the terminal.
fn safe(raw: &str, keep_lines: bool) -> String {
    let is_wild = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    raw.chars()
        .map(|c| match c {
            '\n' if keep_lines => '\n',
            c if is_wild(c) => ' ',
            c => c,
        })
        .collect()
}

/// How many columns of a terminal the text takes: Hangul, kana, CJK and emoji take two.
pub(super) fn columns_of(text: &str) -> usize {
    text.chars()
        .map(|c| match u32::from(c) {
            0x0300..=0x036f | 0x200b..=0x200d | 0xfe00..=0xfe0f => 0,
            0x1100..=0x115f
            | 0x2e80..=0xa4cf
            | 0xac00..=0xd7a3
            | 0xf900..=0xfaff
            | 0xfe30..=0xfe6f
            | 0xff00..=0xff60
            | 0xffe0..=0xffe6
            | 0x1f300..=0x1faff
            | 0x20000..=0x3fffd => 2,
            _ => 1,
        })
        .sum()
}

/// A value as people write it.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::String(text) if is_moment(text) => moment(text),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn is_moment(text: &str) -> bool {
    text.len() == 24 && text.ends_with('Z') && text.as_bytes().get(10) == Some(&b'T')
}

/// Without fractions: `2026-11-21 13:31:38Z`.
fn moment(text: &str) -> String {
    format!("{} {}Z", &text[..10], &text[11..19])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tables_are_aligned_even_with_wide_letters() {
        let rows = [json!({ "id": 1, "name": "가족" }), json!({ "id": 20, "name": "x" })];
        let columns: [Column; 3] =
            [("ID", |r| plain(&r["id"])), ("NAME", |r| plain(&r["name"])), ("Z", |_| "z".into())];
        assert_eq!(layout(&rows, &columns), "ID  NAME  Z\n1   가족  z\n20  x     z\n");
    }

    #[test]
    fn texts_of_strangers_cannot_rewrite_the_terminal() {
        assert_eq!(cell("a\u{1b}[2Jb\nc\u{202e}d"), "a [2Jb c d");
        assert_eq!(cell(&"x".repeat(100)).chars().count(), CELL_CHARS_MAX + 1);
        assert_eq!(cell(""), "-");
    }

    #[test]
    fn values_are_written_for_people() {
        assert_eq!(plain(&json!("2026-11-21T13:31:38.123Z")), "2026-11-21 13:31:38Z");
        assert_eq!(plain(&json!(null)), "-");
        assert_eq!(plain(&json!(true)), "yes");
        assert_eq!(plain(&json!(5)), "5");
    }
}
