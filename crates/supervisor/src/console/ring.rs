//! The newest lines of a console, bounded in lines and bytes. Plain data.

use std::collections::VecDeque;
use std::sync::Arc;

use naru_domain::Timestamp;
use regex::Regex;

/// What a line takes besides its text: the entry, the counts of its shared text, the allocator's share. Counted, not
/// measured.
const LINE_OVERHEAD_BYTES: usize = 80;

/// How much text one search looks at; it goes on where it stopped. Keeps a search below a millisecond.
const SEARCH_BYTES_MAX: usize = 256 * 1024;

/// Where a line comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The game printed it.
    Game,
    /// Somebody sent it to the game.
    Input {
        /// Who.
        by: Arc<str>,
    },
    /// Naru says that something is missing here.
    Note,
}

/// A line of a console. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Grows by one from line to line of a ward, also over restarts of Naru.
    pub seq: u64,
    /// When it was read; when it was printed is at most a tick earlier.
    pub at: Timestamp,
    /// Where it comes from.
    pub source: Source,
    /// Clean and masked.
    pub text: Arc<str>,
}

/// What to look for.
#[derive(Clone, Debug)]
pub enum Query {
    /// All lines.
    All,
    /// Lines with this text in them.
    Text(String),
    /// Lines that match.
    Pattern(Regex),
}

impl Query {
    pub(super) fn fits(&self, text: &str) -> bool {
        match self {
            Query::All => true,
            Query::Text(piece) => text.contains(piece.as_str()),
            Query::Pattern(pattern) => pattern.is_match(text),
        }
    }
}

/// Some of the lines that were looked for, the newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The lines.
    pub lines: Vec<Line>,
    /// Where to go on: what to give as `before` next; `None` when all was looked at.
    pub before: Option<u64>,
}

/// The newest lines.
#[derive(Debug)]
pub struct Ring {
    lines: VecDeque<Line>,
    bytes: usize,
    lines_max: usize,
    bytes_max: usize,
    next_seq: u64,
    dropped: u64,
}

impl Ring {
    /// An empty one. `next_seq` is the number of the first line.
    #[must_use]
    pub fn new(lines_max: usize, bytes_max: usize, next_seq: u64) -> Ring {
        Ring { lines: VecDeque::new(), bytes: 0, lines_max, bytes_max, next_seq, dropped: 0 }
    }

    /// Adds a line, and lets the oldest go that have no room any more. A line that has no room alone is dropped.
    pub fn push(&mut self, at: Timestamp, source: Source, text: &str) -> Line {
        let line = Line { seq: self.next_seq, at, source, text: Arc::from(text) };
        self.next_seq += 1;
        self.bytes += cost(&line);
        self.lines.push_back(line.clone());
        self.shrink_to(self.lines_max, self.bytes_max);
        line
    }

    fn shrink_to(&mut self, lines_max: usize, bytes_max: usize) {
        while self.lines.len() > lines_max || self.bytes > bytes_max {
            let Some(line) = self.lines.pop_front() else { return };
            self.bytes -= cost(&line);
            self.dropped += 1;
        }
    }

    /// Gives three quarters of its memory back. It fills up again.
    pub fn shed(&mut self) {
        self.shrink_to(self.lines_max / 4, self.bytes_max / 4);
        self.lines.shrink_to_fit();
    }

    /// Lines that fit, the newest first, at most `limit`, from before a number on (from the newest on without one).
    #[must_use]
    pub fn search(&self, query: &Query, before: Option<u64>, limit: usize) -> Page {
        let first = self.lines.front().map_or(self.next_seq, |line| line.seq);
        let end = before.unwrap_or(u64::MAX).clamp(first, self.next_seq);
        let count = usize::try_from(end - first).unwrap_or(usize::MAX).min(self.lines.len());
        let mut page = Page::default();
        let mut looked_bytes = 0;
        for line in self.lines.range(..count).rev() {
            if page.lines.len() >= limit || looked_bytes > SEARCH_BYTES_MAX {
                page.before = Some(line.seq + 1);
                break;
            }
            looked_bytes += line.text.len();
            if query.fits(&line.text) {
                page.lines.push(line.clone());
            }
        }
        page
    }

    /// Lines after a number, the oldest first, at most `limit`: what a viewer has not seen yet.
    pub fn after(&self, seq: u64, limit: usize) -> impl Iterator<Item = &Line> {
        let first = self.lines.front().map_or(self.next_seq, |line| line.seq);
        let from = usize::try_from((seq + 1).saturating_sub(first)).unwrap_or(usize::MAX);
        self.lines.range(from.min(self.lines.len())..).take(limit)
    }

    /// The number that the next line gets.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// How many lines are there.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// What it takes of memory, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many lines had to go for newer ones, or to give memory back.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

fn cost(line: &Line) -> usize {
    line.text.len() + LINE_OVERHEAD_BYTES
}
