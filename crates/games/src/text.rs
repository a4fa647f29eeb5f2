//! Text of strangers made plain: no colour codes, no control characters, no tricks with direction, bounded.

use std::borrow::Cow;

/// How a game writes colours into text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Colours {
    /// It does not.
    None,
    /// Minecraft: `§` and one character.
    Section,
    /// Quake 3 and its family: `^` and one letter or digit.
    Caret,
}

/// One line of plain text, at most `chars_max` characters.
pub(crate) fn clean(raw: &str, colours: Colours, chars_max: usize) -> String {
    let mut line = String::new();
    push_clean(&mut line, raw, colours, chars_max, false);
    line.truncate(line.trim_end().len());
    line
}

/// The same of bytes that ought to be UTF-8.
pub(crate) fn clean_utf8(raw: &[u8], colours: Colours, chars_max: usize) -> String {
    clean(&String::from_utf8_lossy(raw), colours, chars_max)
}

/// The same of bytes that are UTF-8, or else one byte per character, as old Java servers write them.
pub(crate) fn clean_latin(raw: &[u8], colours: Colours, chars_max: usize) -> String {
    let text: Cow<'_, str> = match std::str::from_utf8(raw) {
        Ok(text) => text.into(),
        Err(_) => raw.iter().map(|&byte| char::from(byte)).collect::<String>().into(),
    };
    clean(&text, colours, chars_max)
}

/// The answer to a command: as `clean`, but lines stay.
pub(crate) fn clean_lines(raw: &[u8], colours: Colours) -> String {
    let mut text = String::new();
    push_clean(&mut text, &String::from_utf8_lossy(raw), colours, usize::MAX, true);
    text.truncate(text.trim_end().len());
    text
}

/// The same as `Some`, or `None` if nothing is left.
pub(crate) fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn push_clean(out: &mut String, raw: &str, colours: Colours, chars_max: usize, lines: bool) {
    let mut chars = raw.chars().peekable();
    let mut count = 0;
    while count < chars_max
        && let Some(mut char) = chars.next()
    {
        let coloured = match colours {
            Colours::None => false,
            Colours::Section => char == '§',
            Colours::Caret => {
                char == '^' && chars.peek().is_some_and(|next| next.is_ascii_alphanumeric())
            }
        };
        if coloured {
            chars.next();
            continue;
        }
        if char == '\t' || (char == '\n' && !lines) {
            char = ' ';
        }
        let kept = char == '\n' || !(char.is_control() || is_trick(char));
        // No space at the beginning, so that nothing stands before the text once colours are gone.
        if kept && !(out.is_empty() && char.is_whitespace()) {
            out.push(char);
            count += 1;
        }
    }
}

/// Invisible characters and those that turn the direction of what follows.
fn is_trick(char: char) -> bool {
    matches!(char,
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{61c}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(raw: &str, colours: Colours, expected: &str) {
        assert_eq!(clean(raw, colours, 16), expected, "{raw:?}");
    }

    #[test]
    fn colours_are_taken_out_the_way_of_each_game() {
        check("§4re§ld", Colours::Section, "red");
        check("end§", Colours::Section, "end");
        check("^1re^7d^^x", Colours::Caret, "red^");
        check("a^ b^", Colours::Caret, "a^ b^");
        check("^1§4", Colours::None, "^1§4");
    }

    #[test]
    fn control_characters_and_turned_text_are_taken_out() {
        check("  a\u{1b}[31mb\0\r\n c\t", Colours::None, "a[31mb  c");
        check("\u{202e}evil\u{200b}\u{feff}", Colours::None, "evil");
        check("\u{85}\u{9b}x", Colours::None, "x");
    }

    #[test]
    fn text_is_cut_at_its_limit_and_bad_utf8_is_marked() {
        check("abcdefghijklmnopqrst", Colours::None, "abcdefghijklmnop");
        assert_eq!(clean_utf8(b"a\xffb", Colours::None, 16), "a\u{fffd}b");
        assert_eq!(clean_latin(b"\xa7aK\xf6ln", Colours::Section, 16), "Köln");
        assert_eq!(clean_lines(b"one\r\ntwo\0\n", Colours::None), "one\ntwo");
    }
}
