//! What Naru and a keeper say to each other: one JSON object per line, requests numbered by Naru, answers with the
//! request's number, events in between. Pure.

use super::files::ExitRecord;
use crate::model::{Ending, ProcessId};

/// The longest line that is sent to a game, its end included: `PIPE_BUF` of Linux, below which a write to a pipe
/// happens as a whole or not at all.
pub const INPUT_BYTES_MAX: usize = 4096;

/// The longest line between Naru and a keeper: an input whose every byte is escaped as `\u0000`, and its frame.
pub const LINE_BYTES_MAX: usize = 32 * 1024;

/// What Naru asks.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Request {
    /// Comes back with the answer.
    pub id: u64,
    /// What.
    pub ask: Ask,
}

/// What Naru can ask for.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// Who are you? Ends have to be told again, as this Naru may not have seen them.
    Hello,
    /// How is it?
    Status,
    /// Send this line to the game; the keeper adds the line's end.
    Input(String),
    /// Send this signal.
    Signal {
        /// Its number; 9 to a tree is a kill that nothing escapes.
        signal: i32,
        /// To whom.
        to: Target,
    },
    /// Take another process below the keeper for the game: this one, or the biggest.
    Adopt {
        /// Which.
        pid: Option<u32>,
    },
    /// End, if nothing is left.
    Quit,
}

/// To whom a signal goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The process that was started.
    Main,
    /// The process that is the game: the adopted one, or else the one that was started.
    Game,
    /// All of them.
    Tree,
}

/// What a keeper says.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Said {
    /// To a request.
    Answer {
        /// Which.
        id: u64,
        /// What.
        answer: Answer,
    },
    /// By itself.
    Event(Event),
}

/// What a keeper answers.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It is done.
    Done,
    /// To [`Ask::Hello`] and [`Ask::Status`].
    Status(Status),
    /// To [`Ask::Adopt`].
    Adopted(ProcessId),
    /// It was not done.
    Refused(Refusal),
}

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The game does not read its input, and the pipe to it is full. Later.
    #[error("the game does not read its input: 64 KiB wait for it")]
    InputFull,
    /// The game has no input, or has closed it.
    #[error("the game has no input")]
    NoInput,
    /// The line is longer than [`INPUT_BYTES_MAX`] or has a line's end or NUL in it.
    #[error("not one line of at most 4095 bytes")]
    NotALine,
    /// The process is not there any more, or is not below this keeper.
    #[error("no such process")]
    NoProcess,
    /// Something is left.
    #[error("something of the game still runs")]
    Busy,
    /// The system said no.
    #[error("{0}")]
    System(String),
    /// The keeper does not know what was meant; it may be older than Naru.
    #[error("the keeper does not understand this")]
    Unknown,
}

/// How far a keeper's game is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Being started.
    Starting,
    /// Running.
    Running,
    /// The process that was started has ended, others of it run.
    Orphaned,
    /// Nothing is left.
    Empty,
}

/// How a keeper's game is.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Status {
    /// The keeper.
    pub keeper: ProcessId,
    /// The process that was started.
    pub main: ProcessId,
    /// The process that is the game, where another one than `main` turned out to be it.
    pub inner: Option<ProcessId>,
    /// How far.
    pub phase: Phase,
    /// How the process that was started ended, if it did.
    pub main_exit: Option<ExitRecord>,
}

/// What a keeper tells by itself.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The game's program runs.
    Started {
        /// Who it is.
        process: ProcessId,
        /// What it was refused: priorities, limits.
        warnings: Vec<String>,
    },
    /// The game's program could not be run; [`Event::Empty`] follows.
    NotStarted {
        /// Why.
        reason: String,
    },
    /// The process that was started has ended.
    MainExited {
        /// How.
        exit: ExitRecord,
        /// Who is taken for the game now, if others of it run: it was a launcher. Otherwise [`Event::Empty`]
        /// follows.
        inner: Option<ProcessId>,
    },
    /// The process that was taken for the game instead has ended.
    InnerExited {
        /// How, if it was an orphan; otherwise only its own parent knows.
        exit: ExitRecord,
        /// Who is taken for the game now, if others of it run.
        inner: Option<ProcessId>,
    },
    /// Another orphan has ended.
    DescendantLeft {
        /// Which.
        pid: u32,
        /// How.
        ending: Ending,
    },
    /// Nothing is left. The keeper ends.
    Empty,
    /// Another Naru has come; this one is not heard any more.
    Superseded,
}

/// Splits bytes into lines of at most [`LINE_BYTES_MAX`]. What has no end yet stays.
#[derive(Debug, Default)]
pub struct Lines {
    bytes: Vec<u8>,
    scanned: usize,
}

/// A line was longer than [`LINE_BYTES_MAX`]; the other side is not what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a line is longer than 32 KiB")]
pub struct LineTooLong;

impl Lines {
    /// Where the next bytes are to be appended.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// The next whole line, without its end.
    pub fn next_line(&mut self) -> Result<Option<Vec<u8>>, LineTooLong> {
        let Some(end) = self.bytes[self.scanned..].iter().position(|byte| *byte == b'\n') else {
            self.scanned = self.bytes.len();
            return if self.scanned > LINE_BYTES_MAX { Err(LineTooLong) } else { Ok(None) };
        };
        let mut line: Vec<u8> = self.bytes.drain(..=self.scanned + end).collect();
        line.pop();
        self.scanned = 0;
        if line.len() > LINE_BYTES_MAX { Err(LineTooLong) } else { Ok(Some(line)) }
    }
}

/// One line, its end included.
pub fn encode<T: serde::Serialize>(words: &T) -> Vec<u8> {
    // All of our words have text keys and finite numbers, so nothing can fail; an empty line is ignored.
    let mut line = serde_json::to_vec(words).unwrap_or_default();
    line.push(b'\n');
    line
}

/// What a line says; `None` if it is none of our words.
#[must_use]
pub fn decode<T: serde::de::DeserializeOwned>(line: &[u8]) -> Option<T> {
    serde_json::from_slice(line).ok()
}

#[cfg(test)]
mod tests;
