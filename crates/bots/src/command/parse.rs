//! From the text after a prefix to the arguments of a command. Pure.

use super::{CommandSpec, ParameterKind, TextRule};

/// What was typed after the prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arguments {
    /// What is left without the parameters, trimmed; line breaks and inner blanks stay.
    pub text: String,
    texts: Vec<(&'static str, String)>,
    integers: Vec<(&'static str, u32)>,
}

/// Why a command cannot be run as typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParseError {
    /// Its text is missing.
    TextMissing,
    /// A parameter is no whole number in its range.
    BadInteger {
        /// The parameter.
        name: &'static str,
        /// The smallest value.
        min: u32,
        /// The largest value.
        max: u32,
    },
    /// A parameter has no value.
    ValueMissing {
        /// The parameter.
        name: &'static str,
    },
}

impl ParseError {
    /// What the person is told.
    #[must_use]
    pub fn line(&self, spec: &CommandSpec) -> String {
        match self {
            ParseError::TextMissing => format!("사용법: {}", spec.usage()),
            ParseError::BadInteger { name, min, max } => format!(
                "오류: --{name} 값은 {min} 이상 {max} 이하의 정수여야 합니다.\n사용법: {}",
                spec.usage()
            ),
            ParseError::ValueMissing { name } => {
                format!("오류: --{name} 값이 없습니다.\n사용법: {}", spec.usage())
            }
        }
    }
}

/// What follows the command's prefix, if the text begins with it.
pub(super) fn rest_of<'a>(spec: &CommandSpec, text: &'a str) -> Option<&'a str> {
    let rest = text.strip_prefix(spec.prefix)?;
    (rest.is_empty() || rest.starts_with(char::is_whitespace)).then_some(rest)
}

impl Arguments {
    /// Takes the command's own parameters out of the text; a foreign `--x=y` stays text.
    pub fn parse(spec: &'static CommandSpec, rest: &str) -> Result<Arguments, ParseError> {
        let mut arguments = Arguments::default();
        let mut text = String::with_capacity(rest.len());
        // Words with the blanks before them, so that what is not a parameter stays as it was typed.
        let mut remaining = rest;
        while !remaining.is_empty() {
            let blanks = remaining.len() - remaining.trim_start().len();
            let word_end = remaining[blanks..]
                .find(char::is_whitespace)
                .map_or(remaining.len(), |length| blanks + length);
            let word = &remaining[blanks..word_end];
            if !arguments.take(spec, word)? {
                text.push_str(&remaining[..word_end]);
            }
            remaining = &remaining[word_end..];
        }
        arguments.text = text.trim().to_owned();
        if arguments.text.is_empty() && matches!(spec.text, TextRule::Required(_)) {
            return Err(ParseError::TextMissing);
        }
        Ok(arguments)
    }

    /// The value of a text parameter.
    #[must_use]
    pub fn text_of(&self, name: &str) -> Option<&str> {
        self.texts.iter().find(|(of, _)| *of == name).map(|(_, value)| value.as_str())
    }

    /// The value of an integer parameter.
    #[must_use]
    pub fn integer_of(&self, name: &str) -> Option<u32> {
        self.integers.iter().find(|(of, _)| *of == name).map(|(_, value)| *value)
    }

    /// Whether the word is a parameter of the command; its value is then taken. The last one counts.
    fn take(&mut self, spec: &'static CommandSpec, word: &str) -> Result<bool, ParseError> {
        let Some((name, value)) = word.strip_prefix("--").and_then(|word| word.split_once('='))
        else {
            return Ok(false);
        };
        let Some(parameter) = spec.parameters.iter().find(|parameter| parameter.name == name)
        else {
            return Ok(false);
        };
        let name = parameter.name;
        match parameter.kind {
            ParameterKind::Text if value.is_empty() => Err(ParseError::ValueMissing { name }),
            ParameterKind::Text => {
                self.texts.retain(|(of, _)| *of != name);
                self.texts.push((name, value.to_owned()));
                Ok(true)
            }
            ParameterKind::Integer { min, max } => {
                // Wide, so that a huge number counts as the largest and not as a mistake.
                let number: u128 =
                    value.parse().map_err(|_| ParseError::BadInteger { name, min, max })?;
                if number < u128::from(min) {
                    return Err(ParseError::BadInteger { name, min, max });
                }
                self.integers.retain(|(of, _)| *of != name);
                self.integers.push((name, u32::try_from(number).map_or(max, |n| n.min(max))));
                Ok(true)
            }
        }
    }
}
