//! What is shown of wards. Plain data, made by the loop for whoever asks; it knows no JSON and no HTTP.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use naru_domain::Timestamp;

use crate::console::Line;
use crate::learn::{Alert, LearnedView, SaveWindow};
use crate::life::{Desired, Explanation, Intent, LastExit, OperationId, Outcome, Phase};
use crate::measure::{Now, OwnFigures, Series, Summary};
use crate::model::{ProcessId, WardName};

/// A ward as a row of a list.
#[derive(Clone, Debug)]
pub struct WardView {
    /// Its name.
    pub name: WardName,
    /// The game, for people.
    pub title: String,
    /// The profile's name.
    pub profile: String,
    /// Where it is.
    pub phase: Phase,
    /// What should be, who said so, and why.
    pub desired: Desired,
    /// It runs without a keeper: Naru did not start it.
    pub watched: bool,
    /// The game's process.
    pub process: Option<ProcessId>,
    /// When it was started.
    pub launched: Option<Timestamp>,
    /// How many play, and how good that knowledge is.
    pub players: Now,
    /// The figures, as far as known: last value, then means, percentiles and peaks.
    pub figures: Vec<FigureView>,
    /// Alerts that are open.
    pub alerts: Vec<Alert>,
    /// Whether a save is known to be under way.
    pub is_saving: bool,
}

/// One series over its windows, in kept units (see [`Series::scale`]).
#[derive(Clone, Copy, Debug)]
pub struct FigureView {
    /// Which.
    pub series: Series,
    /// The last value, and when it was.
    pub last: Option<(Timestamp, u32)>,
    /// Over 1 minute, 5 minutes and 1 hour.
    pub windows: [Summary; 3],
}

/// All of a ward.
#[derive(Clone, Debug)]
pub struct WardDetail {
    /// The row.
    pub row: WardView,
    /// The end that is being brought about.
    pub intent: Option<Intent>,
    /// In which time something happens by itself.
    pub next_in: Option<Duration>,
    /// How many restarts are left; none without bound.
    pub tries_left: Option<u32>,
    /// Why restarts are held.
    pub restarts_held: Option<String>,
    /// How it ended last, and why.
    pub last: Option<LastExit>,
    /// The folder it runs in.
    pub dir: PathBuf,
    /// Its ports by what they are for.
    pub ports: BTreeMap<String, u16>,
    /// Names of those who play.
    pub names: Vec<String>,
    /// The most that ever played.
    pub players_peak: u32,
    /// What it answers when it is asked.
    pub answer: AnswerView,
    /// What looking after it took from it at most, per second, if the system tells.
    pub taken: Option<Duration>,
    /// What was learned.
    pub learned: LearnedView,
    /// Saves of the last hour, for marks on charts.
    pub saves: Vec<SaveWindow>,
    /// How it is stopped, step by step, in words.
    pub ladder: Vec<String>,
    /// What the operator should know: limits that were refused, parts of the profile that were left out.
    pub remarks: Vec<String>,
    /// Its schedules, and when each is due next.
    pub schedules: Vec<ScheduleView>,
}

/// What a ward answered last.
#[derive(Clone, Debug, Default)]
pub struct AnswerView {
    /// When.
    pub at: Option<Timestamp>,
    /// By which protocol.
    pub source: Option<&'static str>,
    /// Answers missing in a row.
    pub misses: u32,
    /// Why the last one is missing.
    pub error: Option<String>,
    /// What the server calls itself.
    pub name: Option<String>,
    /// Its map or world.
    pub map: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// How long it says that it is up.
    pub uptime: Option<Duration>,
}

/// One schedule.
#[derive(Clone, Debug)]
pub struct ScheduleView {
    /// Its name.
    pub name: String,
    /// What it does, in a word.
    pub action: String,
    /// When it is due next.
    pub next_at: Option<Timestamp>,
}

/// What would happen if it died now.
pub type ExplainView = Explanation;

/// What became of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ordered {
    /// It is being carried out.
    Begun(OperationId),
    /// It was being carried out already, and this order joined it.
    Joined(OperationId),
    /// Nothing was to be done.
    Already,
}

/// How an operation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperationView {
    /// It is over.
    Done(Outcome),
    /// It goes on.
    Running,
    /// Nobody remembers it.
    Unknown,
}

/// Lines that are asked for.
#[derive(Clone, Debug, Default)]
pub struct LinesQuery {
    /// Only lines above this number, oldest first; else the newest are given, newest last.
    pub after: Option<u64>,
    /// Only lines below this number.
    pub before: Option<u64>,
    /// Only lines with this text in them, upper and lower case alike.
    pub contains: String,
    /// At most so many; 0 is 100.
    pub limit: usize,
}

/// Lines of a console. Where a flood was too large to be looked at, a line by Naru says so.
#[derive(Clone, Debug, Default)]
pub struct LinesView {
    /// In order.
    pub lines: Vec<Line>,
}

/// A backup.
#[derive(Clone, Debug)]
pub struct BackupView {
    /// Its name, by which it is restored.
    pub name: String,
    /// When it was made.
    pub at: Timestamp,
    /// Its size on disk.
    pub bytes: u64,
    /// Whether it was read again and is whole.
    pub verified: bool,
}

/// What the supervisor itself costs.
#[derive(Clone, Copy, Debug, Default)]
pub struct OwnView {
    /// Over the last ten minutes.
    pub figures: OwnFigures,
    /// Between samples.
    pub interval: Duration,
    /// Flushes that failed, and what was dropped for it: blocks, events, visits.
    pub flush_failures: u64,
    /// Dropped blocks, events and visits.
    pub dropped: [u64; 3],
}
