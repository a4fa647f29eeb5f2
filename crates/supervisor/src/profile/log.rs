//! What a game's log lines mean. Patterns are compiled once for a ward; most lines cost one pass of one automaton
//! and no allocation, so that a flood of lines is cheap. It decides nothing: a line is evidence.
//!
//! A pattern always fits the whole line behind the profile's prefix. What a player says stands behind more than
//! the prefix in every game we know, so that nobody can say a line that reads like the game's own.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use regex::bytes::{Captures, Regex, RegexBuilder, RegexSet, RegexSetBuilder};

use super::format::{LogSection, Ready};
use super::read::Problem;

/// The longest line that is looked at; the rest of a longer one is cut.
pub const LINE_BYTES_MAX: usize = 8 << 10;
/// Names and ids of players are cut behind so many bytes.
pub const NAME_BYTES_MAX: usize = 128;
/// Crash phrases and announcements are cut behind so many bytes.
pub const PHRASE_BYTES_MAX: usize = 400;
/// Patterns of one profile, all kinds together. The shipped ones have up to 25.
pub const PATTERNS_MAX: usize = 200;
/// What one compiled pattern may take. Measured: those of the shipped profiles stay below 40 KiB.
const PATTERN_SIZE_MAX: usize = 1 << 20;
/// What the set's automaton may cache; it begins anew when that is full. The goal is 8 MiB for all of Naru.
const SET_CACHE_BYTES: usize = 256 << 10;

/// What a line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogEvent {
    /// The game has started.
    Ready,
    /// Somebody came.
    Joined(Player),
    /// Somebody left.
    Left(Player),
    /// A save begins.
    Saving,
    /// A save is done.
    Saved {
        /// How long it took, where the line says it.
        took: Option<Duration>,
    },
    /// It ends because somebody wanted it to.
    Stopping,
    /// A phrase that only a crash prints.
    Crash {
        /// The line.
        phrase: String,
    },
    /// It cannot keep up.
    Lag {
        /// How far it is behind, where the line says it.
        behind: Option<Duration>,
    },
    /// Players were told something.
    Announced {
        /// The line.
        phrase: String,
    },
}

/// Somebody whom a line names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Player {
    /// The name as the game writes it. Empty where the line has an id only.
    pub name: String,
    /// What the game knows players by, where the line has it.
    pub id: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Ready,
    Joined,
    Left,
    Saving,
    Saved,
    Stopping,
    Crash,
    Lag,
    Announced,
}

impl Kind {
    /// The groups that a pattern of this kind may have.
    fn groups(self) -> &'static [&'static str] {
        match self {
            Kind::Joined | Kind::Left => &["name", "id"],
            Kind::Saved => &["took", "took_ms"],
            Kind::Lag => &["behind_ms"],
            _ => &[],
        }
    }
}

/// The compiled patterns; wards of the same profile may share them.
#[derive(Debug)]
struct Rules {
    set: RegexSet,
    /// In the order of the set; a regex only where something is read out of the line.
    each: Vec<(Kind, Option<Regex>)>,
}

/// Looks at lines. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LogPatterns {
    rules: Arc<Rules>,
    line: Vec<u8>,
}

impl LogPatterns {
    /// Compiles the patterns; every mistake is named.
    pub fn new(log: &LogSection, ready: &Ready) -> Result<LogPatterns, Vec<Problem>> {
        let kinds = [
            (Kind::Ready, "ready.log", &ready.log),
            (Kind::Joined, "log.joined", &log.joined),
            (Kind::Left, "log.left", &log.left),
            (Kind::Saving, "log.saving", &log.saving),
            (Kind::Saved, "log.saved", &log.saved),
            (Kind::Stopping, "log.stopping", &log.stopping),
            (Kind::Crash, "log.crash", &log.crash),
            (Kind::Lag, "log.lag", &log.lag),
            (Kind::Announced, "log.announced", &log.announced),
        ];
        let mut problems = Vec::new();
        let mut patterns = Vec::new();
        let mut each = Vec::new();
        if let Err(problem) = compile(&log.prefix) {
            return Err(vec![Problem::new("log.prefix", problem)]);
        }
        for (kind, key, raw) in kinds {
            for (at, raw) in raw.iter().enumerate() {
                let whole = whole_line(&log.prefix, raw);
                // Alone first: `a)|(b` would be well-formed between the parentheses of the whole.
                match compile(raw).and_then(|_| compile(&whole)).and_then(|regex| fits(kind, regex))
                {
                    Ok(regex) => {
                        patterns.push(whole);
                        each.push((kind, (regex.captures_len() > 1).then_some(regex)));
                    }
                    Err(message) => problems.push(Problem::new(format!("{key}[{at}]"), message)),
                }
            }
        }
        if patterns.len() > PATTERNS_MAX {
            problems.push(Problem::new("log", format!("has more than {PATTERNS_MAX} patterns")));
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let set = RegexSetBuilder::new(&patterns)
            .unicode(false)
            .size_limit(PATTERN_SIZE_MAX * 4)
            .dfa_size_limit(SET_CACHE_BYTES)
            .build()
            .map_err(|error| vec![Problem::new("log", error.to_string())])?;
        Ok(LogPatterns { rules: Arc::new(Rules { set, each }), line: Vec::new() })
    }

    /// What the line says; mostly nothing. Line breaks, colours and control characters do not count.
    pub fn look(&mut self, line: &[u8]) -> impl Iterator<Item = LogEvent> + use<> {
        let line = &line[..line.len().min(LINE_BYTES_MAX)];
        let line = clean(line, &mut self.line);
        let mut found = Vec::new();
        // A set of matches is allocated, a yes or no is not.
        if self.rules.set.is_match(line) {
            for at in self.rules.set.matches(line) {
                let (kind, regex) = &self.rules.each[at];
                let captures = regex.as_ref().and_then(|regex| regex.captures(line));
                found.push(event(*kind, captures.as_ref(), line));
            }
        }
        found.into_iter()
    }

    /// Whether any line at all could mean something of this kind.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.each.is_empty()
    }

    /// Whether a line can prove that the game has started.
    #[must_use]
    pub fn knows_ready(&self) -> bool {
        self.knows(Kind::Ready)
    }

    /// Whether a line can prove that a save is done.
    #[must_use]
    pub fn knows_saved(&self) -> bool {
        self.knows(Kind::Saved)
    }

    /// Whether lines tell who comes and who goes.
    #[must_use]
    pub fn knows_players(&self) -> bool {
        self.knows(Kind::Joined) && self.knows(Kind::Left)
    }

    fn knows(&self, kind: Kind) -> bool {
        self.rules.each.iter().any(|(known, _)| *known == kind)
    }
}

/// The pattern of a whole line. Both ends are fixed here, not by whoever writes the pattern.
fn whole_line(prefix: &str, raw: &str) -> String {
    match raw.strip_prefix('^') {
        Some(alone) => format!("^(?:{alone})$"),
        None => format!("^(?:{prefix})(?:{raw})$"),
    }
}

pub(super) fn compile(raw: &str) -> Result<Regex, String> {
    RegexBuilder::new(raw)
        .unicode(false)
        .size_limit(PATTERN_SIZE_MAX)
        // Names are read out of few lines: a small cache will do.
        .dfa_size_limit(64 << 10)
        .build()
        .map_err(|error| error.to_string())
}

fn fits(kind: Kind, regex: Regex) -> Result<Regex, String> {
    let known = kind.groups();
    if let Some(name) = regex.capture_names().flatten().find(|name| !known.contains(name)) {
        return Err(match known {
            [] => format!("the group `{name}` is never read: write (?:…)"),
            _ => format!("the group `{name}` is never read: there are {}", known.join(" and ")),
        });
    }
    let is_player = matches!(kind, Kind::Joined | Kind::Left);
    let names = regex.capture_names().flatten().count();
    if is_player && names == 0 {
        return Err("needs a group that says who: (?<name>…) or (?<id>…)".to_owned());
    }
    if regex.captures_len() > names + 1 {
        return Err("has a group without a name: write (?:…)".to_owned());
    }
    Ok(regex)
}

fn event(kind: Kind, captures: Option<&Captures<'_>>, line: &[u8]) -> LogEvent {
    match kind {
        Kind::Ready => LogEvent::Ready,
        Kind::Joined => LogEvent::Joined(player(captures)),
        Kind::Left => LogEvent::Left(player(captures)),
        Kind::Saving => LogEvent::Saving,
        Kind::Saved => {
            let took = number(captures, "took").or(number(captures, "took_ms").map(|ms| ms / 1e3));
            LogEvent::Saved { took: took.and_then(seconds) }
        }
        Kind::Stopping => LogEvent::Stopping,
        Kind::Crash => LogEvent::Crash { phrase: text(line, PHRASE_BYTES_MAX) },
        Kind::Lag => {
            let behind = number(captures, "behind_ms").map(|ms| ms / 1e3);
            LogEvent::Lag { behind: behind.and_then(seconds) }
        }
        Kind::Announced => LogEvent::Announced { phrase: text(line, PHRASE_BYTES_MAX) },
    }
}

fn player(captures: Option<&Captures<'_>>) -> Player {
    let group = |name| {
        let found = captures.and_then(|captures| captures.name(name))?;
        Some(text(found.as_bytes(), NAME_BYTES_MAX))
    };
    Player { name: group("name").unwrap_or_default(), id: group("id") }
}

fn number(captures: Option<&Captures<'_>>, name: &str) -> Option<f64> {
    let raw = captures?.name(name)?.as_bytes();
    std::str::from_utf8(raw).ok()?.parse().ok()
}

/// No save and no lag lasts longer: such a number is a mistake.
const TOOK_MAX: Duration = Duration::from_secs(86_400);

fn seconds(seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds).ok().filter(|took| *took <= TOOK_MAX)
}

/// Text for people, cut at a character.
fn text(bytes: &[u8], bytes_max: usize) -> String {
    let cut = &bytes[..bytes.len().min(bytes_max)];
    let mut text = match String::from_utf8_lossy(cut) {
        Cow::Borrowed(text) => text.to_owned(),
        Cow::Owned(text) => text,
    };
    if cut.len() < bytes.len() {
        // A character that was cut in two is no character.
        while text.ends_with(char::REPLACEMENT_CHARACTER) {
            text.pop();
        }
    }
    text
}

/// The line without line breaks, colours and control characters; a tab becomes a blank. `buffer` is used only
/// if there is something to take out.
pub fn clean<'a>(line: &'a [u8], buffer: &'a mut Vec<u8>) -> &'a [u8] {
    let line = line.trim_ascii_end();
    // 0xC2 begins the control characters of Latin-1, and harmless ones.
    let is_plain = line.iter().all(|byte| *byte >= 0x20 && *byte != 0x7f && *byte != 0xc2);
    if is_plain {
        return line;
    }
    buffer.clear();
    let mut rest = line;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        match (*byte, after.first()) {
            (0x1b, _) => rest = behind_escape(after),
            (0xc2, Some(0x9b)) => rest = behind_sequence(&after[1..]),
            (0xc2, Some(0x80..=0x9f)) => rest = &after[1..],
            (b'\t', _) => buffer.push(b' '),
            (0x00..=0x1f | 0x7f, _) => {}
            (plain, _) => buffer.push(plain),
        }
    }
    buffer.trim_ascii_end()
}

/// What follows an escape sequence (ECMA-48): `ESC [ … letter`, `ESC ] … BEL`, or ESC with one or two characters.
fn behind_escape(rest: &[u8]) -> &[u8] {
    match rest.first() {
        Some(b'[') => behind_sequence(&rest[1..]),
        Some(b']' | b'P' | b'X' | b'^' | b'_') => {
            let end = rest.iter().position(|byte| *byte == 0x07 || *byte == 0x1b);
            match end {
                Some(at) if rest[at] == 0x07 => &rest[at + 1..],
                // ESC \ ends it; any other ESC begins anew.
                Some(at) => rest[at + 1..].strip_prefix(b"\\").unwrap_or(&rest[at..]),
                None => &[],
            }
        }
        Some(0x20..=0x2f) => rest.get(2..).unwrap_or_default(),
        Some(0x30..=0x7e) => &rest[1..],
        _ => rest,
    }
}

fn behind_sequence(rest: &[u8]) -> &[u8] {
    let parameters = rest.iter().take_while(|byte| (0x20..=0x3f).contains(*byte)).count();
    match rest.get(parameters) {
        Some(0x40..=0x7e) => &rest[parameters + 1..],
        // Not ended: only what belongs to it is taken out.
        _ => &rest[parameters..],
    }
}
