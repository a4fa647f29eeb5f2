//! Placeholders: `{port.game}` and the like are filled when a ward is put together, `{seconds}`, `{message}` and
//! `{player}` when something is said to the game.

use std::collections::BTreeMap;

use super::format::TextRules;

/// What stands behind the names of placeholders.
#[derive(Default)]
pub(crate) struct Names(BTreeMap<String, String>);

impl Names {
    pub(crate) fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.insert(name.into(), value.into());
    }

    /// Fills the placeholders; `{{` and `}}` are braces. The error says what is there instead.
    pub(crate) fn fill(&self, raw: &str) -> Result<String, String> {
        let pieces = pieces(raw)?;
        pieces
            .into_iter()
            .map(|piece| match piece {
                Piece::Text(text) => Ok(text),
                Piece::Name(name) => self.0.get(&name).cloned().ok_or_else(|| self.unknown(&name)),
            })
            .collect()
    }

    /// The same, but what is known only later stays open.
    fn fill_now(&self, raw: &str) -> Result<Vec<Piece>, String> {
        let pieces = pieces(raw)?.into_iter().map(|piece| match piece {
            Piece::Name(name) if LATER.contains(&name.as_str()) => Ok(Piece::Name(name)),
            Piece::Name(name) => match self.0.get(&name) {
                Some(value) => Ok(Piece::Text(value.clone())),
                None => Err(self.unknown(&name)),
            },
            text @ Piece::Text(_) => Ok(text),
        });
        pieces.collect()
    }

    fn unknown(&self, name: &str) -> String {
        if let Some(secret) = name.strip_prefix("secret.") {
            return format!(
                "`{{{name}}}` is wanted: give `{secret}` or `{secret}_file` in `secrets`"
            );
        }
        let known: Vec<String> = self.0.keys().map(|known| format!("{{{known}}}")).collect();
        format!("`{{{name}}}` is not known here; there are {}", known.join(", "))
    }
}

/// The placeholders that are filled when something is said.
const LATER: [&str; 3] = ["seconds", "message", "player"];

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Name(String),
}

fn pieces(raw: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut text = String::new();
    let mut rest = raw;
    while let Some(at) = rest.find(['{', '}']) {
        text.push_str(&rest[..at]);
        let brace = &rest[at..=at];
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix(brace) {
            text.push_str(brace);
            rest = after;
            continue;
        }
        let unpaired =
            || format!("`{raw}` has a `{brace}` alone: write `{brace}{brace}` for a brace");
        let end = rest.find('}').filter(|_| brace == "{").ok_or_else(unpaired)?;
        if !text.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut text)));
        }
        pieces.push(Piece::Name(rest[..end].to_owned()));
        rest = &rest[end + 1..];
    }
    text.push_str(rest);
    if !text.is_empty() {
        pieces.push(Piece::Text(text));
    }
    Ok(pieces)
}

/// What is filled in when something is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Words<'a> {
    /// Seconds that are left.
    pub seconds: u64,
    /// What players are told.
    pub message: &'a str,
    /// A player's name or id.
    pub player: &'a str,
}

/// A text for a game, with the places that are filled when it is said.
///
/// What is filled in never ends a line or a command: players would else run commands by what they are called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    pieces: Vec<Piece>,
    rules: TextRules,
}

impl Text {
    pub(crate) fn new(raw: &str, names: &Names, rules: &TextRules) -> Result<Text, String> {
        Ok(Text { pieces: names.fill_now(raw)?, rules: rules.clone() })
    }

    /// The text as it is said.
    #[must_use]
    pub fn render(&self, words: &Words<'_>) -> String {
        let mut text = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(fixed) => text.push_str(fixed),
                Piece::Name(name) => match name.as_str() {
                    "seconds" => text.push_str(&words.seconds.to_string()),
                    "message" => self.rules.push(words.message, &mut text),
                    _ => self.rules.push(words.player, &mut text),
                },
            }
        }
        text
    }

    /// Whether nothing is to be said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Whether the text has a place for this, such as `message`.
    #[must_use]
    pub fn wants(&self, name: &str) -> bool {
        self.pieces.iter().any(|piece| matches!(piece, Piece::Name(known) if known == name))
    }
}

impl TextRules {
    fn push(&self, raw: &str, text: &mut String) {
        let start = text.len();
        for c in raw.chars() {
            let c = match c {
                ' ' | '\t' | '\n' => match self.space.as_str() {
                    "" => ' ',
                    other => other.chars().next().unwrap_or(' '),
                },
                c if c.is_control() || self.strip.contains(c) => continue,
                // Line and paragraph separators end a line for some readers.
                '\u{2028}' | '\u{2029}' => continue,
                c => c,
            };
            if text.len() - start + c.len_utf8() > self.max_bytes {
                break;
            }
            text.push(c);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        let mut names = Names::default();
        names.set("port.game", "25565");
        names.set("name", "mc");
        names
    }

    #[test]
    fn placeholders_are_filled_and_unknown_ones_named() {
        let check = |raw: &str, expected: Result<&str, &str>| {
            let filled = names().fill(raw);
            match expected {
                Ok(text) => assert_eq!(filled.as_deref(), Ok(text)),
                Err(part) => assert!(filled.unwrap_err().contains(part), "{raw}"),
            }
        };
        check("-p {port.game} {name}", Ok("-p 25565 mc"));
        check("{{x}} é {name}é", Ok("{x} é mcé"));
        check("{port.rcon}", Err("there are {name}, {port.game}"));
        check("{name", Err("alone"));
        check("name}", Err("alone"));
        check("{seconds}", Err("not known here"));
    }

    #[test]
    fn what_is_filled_in_never_ends_a_line_or_a_command() {
        let rules = TextRules { strip: ";\"".to_owned(), max_bytes: 12, ..TextRules::default() };
        let text = Text::new("say \"{message}\" in {seconds}", &names(), &rules).unwrap();
        let words = Words { seconds: 5, message: "a\n;quit\r b\u{2028}c ééé", player: "" };
        assert_eq!(text.render(&words), "say \"a quit bc é\" in 5");
        let spaces = TextRules { space: "_".to_owned(), ..TextRules::default() };
        let text = Text::new("Broadcast {message}", &names(), &spaces).unwrap();
        assert!(text.wants("message") && !text.wants("player"));
        assert_eq!(text.render(&Words { message: "in 5 min", ..words }), "Broadcast in_5_min");
    }
}
