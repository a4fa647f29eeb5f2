//! A one-pass JSON reader over a line, for frames of a known, shallow shape.
//!
//! It stands in for serde_json on this path for three reasons: numbers keep their exact text (a
//! signature covers it), nesting is bounded for skipped values too, and repeated keys can be seen. It
//! costs a little less than derived readers, see `benches/bridge.rs`; the tests hold it against
//! serde_json.

use std::borrow::Cow;

use super::FrameError;
use super::text::plain_end;

/// How deep objects and arrays may nest, the outermost included. Real frames need 3.
pub const NESTING_MAX: usize = 32;

/// A value as far as frames need it: objects and arrays are read over, not kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// The key was not there.
    #[default]
    Absent,
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number, as written.
    Number(&'a str),
    /// A string, borrowed unless it had escapes.
    Text(Cow<'a, str>),
    /// An object or array.
    Composite,
}

/// Where the reader stands in its line.
pub(super) struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str) -> Scanner<'a> {
        Scanner { text, at: 0 }
    }

    /// Everything that was not read yet.
    pub(super) fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// Skips blanks and shows the next byte.
    #[inline(always)]
    pub(super) fn peek(&mut self) -> Result<u8, FrameError> {
        let bytes = self.text.as_bytes();
        while let Some(&byte) = bytes.get(self.at) {
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return Ok(byte);
            }
            self.at += 1;
        }
        Err(FrameError::Truncated)
    }

    /// Enters an object if one comes next; otherwise reads nothing but blanks.
    pub(super) fn enter_object(&mut self) -> Result<bool, FrameError> {
        let entered = self.peek()? == b'{';
        self.at += usize::from(entered);
        Ok(entered)
    }

    /// The next key of the object just entered, or `None` after its end. `first` belongs to the
    /// caller: true before the first call, then left alone.
    pub(super) fn next_key(
        &mut self,
        first: &mut bool,
    ) -> Result<Option<Cow<'a, str>>, FrameError> {
        let mut next = self.peek()?;
        if next == b'}' {
            self.at += 1;
            return Ok(None);
        }
        if !std::mem::take(first) {
            if next != b',' {
                return Err(self.broken());
            }
            self.at += 1;
            next = self.peek()?;
        }
        if next != b'"' {
            return Err(self.broken());
        }
        let key = self.string()?;
        if self.peek()? != b':' {
            return Err(self.broken());
        }
        self.at += 1;
        Ok(Some(key))
    }

    /// The next value, inside `depth` objects.
    pub(super) fn value(&mut self, depth: usize) -> Result<Value<'a>, FrameError> {
        match self.peek()? {
            b'"' => self.string().map(Value::Text),
            b't' => self.literal("true", Value::Bool(true)),
            b'f' => self.literal("false", Value::Bool(false)),
            b'n' => self.literal("null", Value::Null),
            b'-' | b'0'..=b'9' => self.number().map(Value::Number),
            b'{' => self.skip_object(depth + 1),
            b'[' => self.skip_array(depth + 1),
            _ => Err(self.broken()),
        }
    }

    fn skip_object(&mut self, depth: usize) -> Result<Value<'a>, FrameError> {
        if depth > NESTING_MAX {
            return Err(FrameError::TooDeep);
        }
        self.at += 1;
        let mut first = true;
        while self.next_key(&mut first)?.is_some() {
            self.value(depth)?;
        }
        Ok(Value::Composite)
    }

    fn skip_array(&mut self, depth: usize) -> Result<Value<'a>, FrameError> {
        if depth > NESTING_MAX {
            return Err(FrameError::TooDeep);
        }
        self.at += 1;
        if self.peek()? == b']' {
            self.at += 1;
            return Ok(Value::Composite);
        }
        loop {
            self.value(depth)?;
            match self.peek()? {
                b',' => self.at += 1,
                b']' => {
                    self.at += 1;
                    return Ok(Value::Composite);
                }
                _ => return Err(self.broken()),
            }
        }
    }

    fn literal(&mut self, word: &str, value: Value<'a>) -> Result<Value<'a>, FrameError> {
        let rest = self.rest();
        if rest.starts_with(word) {
            self.at += word.len();
            Ok(value)
        } else if word.starts_with(rest) {
            Err(FrameError::Truncated)
        } else {
            Err(self.broken())
        }
    }

    fn number(&mut self) -> Result<&'a str, FrameError> {
        let start = self.at;
        self.skip_byte_if(|byte| byte == b'-');
        if self.current()? == b'0' {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.skip_byte_if(|byte| byte == b'.') {
            self.digits()?;
        }
        if self.skip_byte_if(|byte| byte == b'e' || byte == b'E') {
            self.skip_byte_if(|byte| byte == b'+' || byte == b'-');
            self.digits()?;
        }
        Ok(&self.text[start..self.at])
    }

    /// One or more digits.
    fn digits(&mut self) -> Result<(), FrameError> {
        if !self.current()?.is_ascii_digit() {
            return Err(self.broken());
        }
        while self.skip_byte_if(|byte| byte.is_ascii_digit()) {}
        Ok(())
    }

    fn skip_byte_if(&mut self, wanted: impl Fn(u8) -> bool) -> bool {
        let skips = self.text.as_bytes().get(self.at).is_some_and(|&byte| wanted(byte));
        self.at += usize::from(skips);
        skips
    }

    fn current(&self) -> Result<u8, FrameError> {
        self.text.as_bytes().get(self.at).copied().ok_or(FrameError::Truncated)
    }

    /// A string whose opening quote comes next.
    #[inline(always)]
    fn string(&mut self) -> Result<Cow<'a, str>, FrameError> {
        self.at += 1;
        let start = self.at;
        self.at = plain_end(self.text.as_bytes(), start);
        if self.current()? == b'"' {
            self.at += 1;
            return Ok(Cow::Borrowed(&self.text[start..self.at - 1]));
        }
        self.escaped_string(start).map(Cow::Owned)
    }

    #[inline(never)]
    fn escaped_string(&mut self, start: usize) -> Result<String, FrameError> {
        let mut text = String::with_capacity(self.at - start + 32);
        text.push_str(&self.text[start..self.at]);
        loop {
            match self.current()? {
                b'"' => {
                    self.at += 1;
                    return Ok(text);
                }
                b'\\' => {
                    self.at += 1;
                    let unescaped = self.escape()?;
                    text.push(unescaped);
                }
                _ => return Err(self.broken()), // A control character.
            }
            let run = self.at;
            self.at = plain_end(self.text.as_bytes(), run);
            text.push_str(&self.text[run..self.at]);
        }
    }

    /// What an escape stands for, after its backslash.
    fn escape(&mut self) -> Result<char, FrameError> {
        let plain = match self.current()? {
            b'n' => '\n',
            b't' => '\t',
            b'r' => '\r',
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'u' => {
                self.at += 1;
                return self.unicode_escape();
            }
            _ => return Err(self.broken()),
        };
        self.at += 1;
        Ok(plain)
    }

    /// The character of `\uXXXX` or of a pair of them. Half a pair stands for no character; it
    /// becomes U+FFFD, so that one odd emoji does not cost the whole message.
    fn unicode_escape(&mut self) -> Result<char, FrameError> {
        let unit = self.hex4()?;
        if (0xD800..0xDC00).contains(&unit) && self.rest().starts_with("\\u") {
            let after_high = self.at;
            self.at += 2;
            let low = self.hex4()?;
            if (0xDC00..0xE000).contains(&low) {
                let scalar = 0x1_0000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
                return Ok(char::from_u32(scalar).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            self.at = after_high; // The second escape stands for itself.
        }
        Ok(char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn hex4(&mut self) -> Result<u32, FrameError> {
        let mut unit = 0;
        for _ in 0..4 {
            let digit = char::from(self.current()?).to_digit(16).ok_or_else(|| self.broken())?;
            unit = unit << 4 | digit;
            self.at += 1;
        }
        Ok(unit)
    }

    fn broken(&self) -> FrameError {
        FrameError::NotJson { at: self.at }
    }
}
