//! Bytes of a console become lines, and lines clean text. Pure. What a game prints is written by strangers in part
//! (chat, player names), so nothing in it may move a terminal's cursor, hide or reorder text.

use super::mask::SECRET_BYTES_MAX;

/// The longest line that is kept; more of it is cut off. Guessed: Minecraft's longest usual lines, stack traces of
/// mods in one line, have about 4 KiB.
pub const LINE_BYTES_MAX: usize = 8 * 1024;

/// A secret that begins within the line is still seen as a whole.
const RAW_BYTES_MAX: usize = LINE_BYTES_MAX + SECRET_BYTES_MAX;

/// Splits what comes in pieces into lines.
#[derive(Debug, Default)]
pub struct Splitter {
    partial: Vec<u8>,
    /// Nothing counts until the next line begins.
    skipping: bool,
    cut_bytes: u64,
}

impl Splitter {
    /// Takes a piece, and hands out each line that ends in it, without its end.
    pub fn feed(&mut self, bytes: &[u8], mut line: impl FnMut(&[u8])) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = match piece.split_last() {
                Some((b'\n', text)) => (text, true),
                _ => (piece, false),
            };
            if self.skipping {
                self.skipping = !ends;
                continue;
            }
            if self.partial.is_empty() && ends && text.len() <= RAW_BYTES_MAX {
                line(text);
                continue;
            }
            let room = RAW_BYTES_MAX - self.partial.len();
            let taken = &text[..text.len().min(room)];
            self.cut_bytes += u64::try_from(text.len() - taken.len()).unwrap_or(u64::MAX);
            self.partial.extend_from_slice(taken);
            if ends {
                line(&self.partial);
                self.partial.clear();
            }
        }
    }

    /// Hands out what has no end: nothing more will come.
    pub fn finish(&mut self, mut line: impl FnMut(&[u8])) {
        if !self.partial.is_empty() {
            line(&self.partial);
        }
        *self = Splitter { cut_bytes: self.cut_bytes, ..Splitter::default() };
    }

    /// The next piece does not follow the last one: it begins somewhere in a line.
    pub fn jump(&mut self) {
        self.partial.clear();
        self.skipping = true;
    }

    /// The next piece does not follow the last one: it begins with a line.
    pub fn restart(&mut self) {
        self.partial.clear();
        self.skipping = false;
    }

    /// How many bytes of a line without an end are held.
    #[must_use]
    pub fn partial_bytes(&self) -> usize {
        self.partial.len()
    }

    /// How many bytes were cut off overlong lines.
    #[must_use]
    pub fn cut_bytes(&self) -> u64 {
        self.cut_bytes
    }
}

/// Makes clean text of a line: invalid UTF-8 becomes `�`; colours and other escape sequences, control characters and
/// marks that reorder text go; a carriage return within becomes a space.
pub fn clean(raw: &[u8], text: &mut String) {
    text.clear();
    let mut escape = Escape::None;
    let raw = raw.strip_suffix(b"\r").unwrap_or(raw);
    for chunk in raw.utf8_chunks() {
        for character in chunk.valid().chars() {
            escape = escape.next(character, text);
        }
        if !chunk.invalid().is_empty() {
            escape = Escape::None;
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
}

/// Where in an escape sequence we are (ECMA-48, 5.3 to 5.6).
#[derive(Clone, Copy)]
enum Escape {
    None,
    /// After ESC.
    Begun,
    /// After ESC `[`: until a letter or so.
    Control,
    /// After ESC `]` and its kin: until BEL, or ESC and one more.
    Text,
}

impl Escape {
    fn next(self, character: char, text: &mut String) -> Escape {
        match (self, character) {
            (_, '\u{1b}') => Escape::Begun,
            (Escape::Begun, '[') => Escape::Control,
            (Escape::Begun, ']' | 'P' | 'X' | '^' | '_') => Escape::Text,
            (Escape::Begun, ' '..='/') => Escape::Begun,
            (Escape::Begun, _) => Escape::None,
            (Escape::Control, '\u{40}'..='\u{7e}') => Escape::None,
            (Escape::Control, ' '..='?') => Escape::Control,
            (Escape::Text, '\u{7}') => Escape::None,
            (Escape::Text, _) => Escape::Text,
            (Escape::None | Escape::Control, _) => {
                match character {
                    '\r' => text.push(' '),
                    '\t' => text.push('\t'),
                    // Marks that change the direction of text (UAX #9, 2.1 to 2.4).
                    '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => (),
                    character if character.is_control() => (),
                    character => text.push(character),
                }
                Escape::None
            }
        }
    }
}
