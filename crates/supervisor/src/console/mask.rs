//! Takes secrets out of text before anybody can read it.

use std::borrow::Cow;
use std::fmt;

use regex::{Captures, Regex, RegexBuilder};

/// Shorter secrets are not masked: each place where such a text stands by chance would be masked, too.
pub const SECRET_BYTES_MIN: usize = 4;
/// The longest secret that is masked.
pub const SECRET_BYTES_MAX: usize = 256;
/// The most patterns of one ward. Guessed.
const PATTERNS_MAX: usize = 32;
/// What one pattern may take of memory, compiled and while it runs.
const PATTERN_BYTES_MAX: usize = 128 * 1024;

/// What stands in a secret's place.
const MASK: &str = "***";

/// Why masks were refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MaskError {
    /// Not a regular expression, or one that takes too much memory.
    #[error("mask {index} is not a regular expression that can be used: {why}")]
    Pattern {
        /// Which, from 0.
        index: usize,
        /// What the matter is.
        why: String,
    },
    /// There are too many.
    #[error("more than 32 masks")]
    TooMany,
}

/// What is masked. It shows nothing of itself.
#[derive(Clone, Default)]
pub struct Masks {
    patterns: Vec<Regex>,
    not_masked: usize,
}

impl fmt::Debug for Masks {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Masks").field("patterns_count", &self.patterns.len()).finish()
    }
}

impl Masks {
    /// Masks these texts wherever they stand, and what these patterns match: their first group if they have one,
    /// as in `password=(\S+)`, or else all of it.
    pub fn new(secrets: &[String], patterns: &[String]) -> Result<Masks, MaskError> {
        if patterns.len() > PATTERNS_MAX {
            return Err(MaskError::TooMany);
        }
        let fits = |s: &&String| (SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&s.len());
        let mut texts: Vec<&str> = secrets.iter().filter(fits).map(String::as_str).collect();
        // The first alternative that fits is taken, so one that begins another comes after it.
        texts.sort_by_key(|text| std::cmp::Reverse(text.len()));
        let not_masked = secrets.iter().filter(|s| !s.is_empty()).count() - texts.len();
        let mut compiled = Vec::with_capacity(patterns.len() + 1);
        for text in texts.chunks(16) {
            let any = text.iter().map(|text| regex::escape(text)).collect::<Vec<_>>().join("|");
            // Plain texts of bounded length: an error would be ours, and shows in `not_masked`.
            compiled.extend(compile(&any));
        }
        for (index, pattern) in patterns.iter().enumerate() {
            let pattern = compile(pattern)
                .map_err(|why| MaskError::Pattern { index, why: why.to_string() })?;
            compiled.push(pattern);
        }
        Ok(Masks { patterns: compiled, not_masked })
    }

    /// How many secrets cannot be masked because they are too short or too long: worth a warning.
    #[must_use]
    pub fn not_masked(&self) -> usize {
        self.not_masked
    }

    /// Takes them out.
    pub fn apply(&self, text: &mut String) {
        for pattern in &self.patterns {
            if let Cow::Owned(masked) = pattern.replace_all(text, mask) {
                *text = masked;
            }
        }
    }
}

fn compile(pattern: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(pattern)
        .size_limit(PATTERN_BYTES_MAX)
        .dfa_size_limit(PATTERN_BYTES_MAX)
        .build()
}

fn mask(found: &Captures<'_>) -> String {
    let (Some(all), Some(secret)) = (found.get(0), found.get(1)) else { return MASK.to_owned() };
    let before = &all.as_str()[..secret.start() - all.start()];
    let after = &all.as_str()[secret.end() - all.start()..];
    format!("{before}{MASK}{after}")
}
