//! What a life is told, and what it asks for.

use std::time::Duration;

use naru_domain::Timestamp;
use serde::{Deserialize, Serialize};

use super::exit::Evidence;
use super::history::{Event, Notice};
use super::policy::Action;
use super::record::{By, Desired, Intent, IntentKind, LastExit, OperationId, Record};
use crate::model::{Exit, ProcessId};

/// What somebody wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wish {
    /// It should run.
    Start,
    /// It should be stopped, the game's way.
    Stop,
    /// It should be stopped and started again.
    Restart,
    /// It should be down at once.
    Kill,
    /// It should be down until [`Wish::Release`], and then be what it was.
    Backup,
    /// The backup with this operation is over.
    Release(OperationId),
    /// The countdown that runs should not end in a stop.
    Cancel,
}

/// A wish, and whose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// What.
    pub wish: Wish,
    /// Who.
    pub by: By,
    /// Why, in their words.
    pub reason: String,
    /// How long players are told before a stop, if not as the policy says.
    pub countdown: Option<Duration>,
}

/// What is left of a process tree after its main process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tree {
    /// Nothing.
    Gone,
    /// Something. Its end comes as [`Input::TreeGone`].
    Alive {
        /// The one that may be the game, if the main process was a launcher.
        inner: Option<ProcessId>,
    },
}

/// What was found of a ward that was out of sight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The process of the record runs as it did.
    AliveSame,
    /// Another one runs in its place.
    AliveOther {
        /// Which.
        process: ProcessId,
        /// It has no keeper.
        watched: bool,
        /// How the one of the record ended, if its keeper knows.
        earlier: Option<Exit>,
    },
    /// It does not run.
    Gone {
        /// How it ended, if its keeper knows.
        exit: Option<Exit>,
        /// What is left of it.
        tree: Tree,
    },
    /// Its keeper is gone.
    KeeperGone {
        /// What runs all the same: of the record, or what the keeper started since.
        alive: Option<ProcessId>,
    },
}

/// What a process does with the processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpuState {
    /// It uses time.
    Moving,
    /// It used none over some seconds.
    Still,
    /// It is stopped by a signal (state T).
    Paused,
}

/// Whether a ward's ports can be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ports {
    /// All of them.
    Free,
    /// Not these, in words.
    Taken(String),
    /// Nobody can tell: the start goes on.
    Unknown,
}

/// What happens to a ward.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// It is [`super::Life::next_wake`], or later.
    Wake,
    /// Somebody wants something. Answered with [`Output::Answer`] in the same call.
    Order {
        /// Comes back in the answer.
        request: u64,
        /// What.
        order: Order,
    },
    /// This record and all before it are on disk.
    Persisted(u64),
    /// This one is not.
    PersistFailed(u64),
    /// Answers [`Output::CheckPorts`].
    Ports(Ports),
    /// Answers [`Output::Launch`].
    Launched {
        /// Which launch.
        launch: u64,
        /// The main process.
        process: ProcessId,
    },
    /// Answers it, too: there is no process.
    LaunchFailed {
        /// Which launch.
        launch: u64,
        /// Why, for people.
        error: String,
    },
    /// The ready rule of the profile holds.
    Ready {
        /// By which sign.
        how: String,
    },
    /// Whether the main process handles SIGTERM (`SigCgt`).
    CatchesSigterm(bool),
    /// The main process ended.
    Exited {
        /// Which.
        process: ProcessId,
        /// How and when.
        exit: Exit,
        /// What is left.
        tree: Tree,
    },
    /// Nothing is left.
    TreeGone,
    /// A sign of what is going on.
    Evidence {
        /// Which.
        evidence: Evidence,
        /// How long ago that was.
        age: Duration,
        /// About which launch, as in [`Output::Launch`]; none for whatever process there is. A log that is
        /// read late says nothing about the next process.
        launch: Option<u64>,
    },
    /// Answers [`Output::Gather`]: all that could be found was told.
    EvidenceComplete,
    /// Answers [`Output::Rung`]: it was carried out, or not. What it leads to is seen by the exit.
    RungDone {
        /// Of which operation.
        operation: OperationId,
        /// Which rung.
        index: usize,
        /// Why it could not be carried out.
        error: Option<String>,
    },
    /// A save began, as far as the game shows it.
    SaveBegan,
    /// A save is complete.
    Saved,
    /// Answers [`Output::Save`]: it was refused.
    SaveFailed(String),
    /// The game answered a probe.
    ProbeAnswered,
    /// It did not.
    ProbeMissed {
        /// We ourselves came too late to know.
        starved: bool,
    },
    /// Its tick counter stands still since so long.
    TickFrozen(Duration),
    /// Its uptime stands still since so long.
    UptimeFrozen(Duration),
    /// They move.
    TickMoves,
    /// What the processor sees of it. Told on change.
    Cpu(CpuState),
    /// Answers [`Output::Capture`].
    Captured,
    /// How many play; none if nobody knows.
    Players(Option<u32>),
    /// The keeper does not answer any more.
    KeeperLost,
    /// Answers [`Output::Locate`]; also told when a server that nobody started here was found.
    Found(Found),
    /// From now on nothing is restarted by itself (a window of the schedule), and why; or it is again.
    RestartsHeld(Option<String>),
}

/// What to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Write this record; answer with [`Input::Persisted`] or [`Input::PersistFailed`].
    Persist {
        /// Which, counted up.
        seq: u64,
        /// What.
        record: Box<Record>,
    },
    /// Look whether the ward's ports are free.
    CheckPorts,
    /// Start the process.
    Launch {
        /// Which launch; the keeper does none twice.
        launch: u64,
    },
    /// Tell the players.
    Announce {
        /// What is coming.
        kind: IntentKind,
        /// In how long.
        left: Duration,
        /// Why.
        reason: String,
    },
    /// Tell the players that it is not coming after all.
    AnnounceCancelled,
    /// Ask the game to save.
    Save {
        /// For which operation.
        operation: OperationId,
    },
    /// Do what this rung says.
    Rung {
        /// For which operation.
        operation: OperationId,
        /// Which of the policy's rungs.
        index: usize,
        /// Never [`Action::Kill`].
        action: Action,
    },
    /// Kill the main process and all its descendants.
    KillTree,
    /// Note what shows why it hangs (thread states, the log's tail).
    Capture,
    /// Find out what became of it.
    Locate,
    /// It ended: tell all evidence there is (the log's tail, crash files, OOM counters).
    Gather,
    /// Answers an order.
    Answer {
        /// Which.
        request: u64,
        /// How.
        answer: Answer,
    },
    /// An operation is over.
    Done {
        /// Which.
        operation: OperationId,
        /// How.
        outcome: Outcome,
    },
    /// Tell somebody.
    Notify(Notice),
    /// Write into the history.
    History(Event),
}

/// What became of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is being carried out; its end comes as [`Output::Done`].
    Accepted(OperationId),
    /// What it asks for is being done already; its end comes likewise.
    Joined(OperationId),
    /// It is so already, or nothing stands in the way. What should be is recorded.
    Already,
    /// No.
    Refused(Refusal),
}

/// Why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is only watched.
    #[error("this ward has no command to start it with")]
    NoCommand,
    /// One stop at a time.
    #[error("another operation is under way")]
    Busy,
    /// No countdown runs.
    #[error("there is nothing to cancel")]
    NothingToCancel,
    /// The countdown is over.
    #[error("it is too late: the server was already asked to stop")]
    TooLate,
    /// No backup holds it.
    #[error("no backup with this operation holds the ward")]
    NotHeld,
}

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It runs and is ready.
    Started,
    /// It is down.
    Stopped,
    /// It is down until it is released.
    Held,
    /// Somebody wanted otherwise.
    Cancelled,
    /// It did not come up.
    Failed,
}

/// Where a ward is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Down, and should be.
    Stopped,
    /// Coming up, not ready.
    Starting,
    /// Up.
    Running,
    /// Up, and does not work.
    Hung,
    /// Being stopped.
    Stopping,
    /// Its main process ended; the reason or the rest of the tree is being looked at.
    Ending,
    /// Started again soon.
    Waiting,
    /// Down for a backup.
    Held,
    /// Down, should be up, and a person has to look.
    GaveUp,
    /// Nobody knows.
    Lost,
}

/// Where a ward is, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status<'a> {
    /// Where.
    pub phase: Phase,
    /// What should be.
    pub desired: &'a Desired,
    /// Its process.
    pub process: Option<&'a ProcessId>,
    /// Since when it runs.
    pub launched: Option<Timestamp>,
    /// It has no keeper.
    pub watched: bool,
    /// The end that is being brought about.
    pub intent: Option<&'a Intent>,
    /// The last end.
    pub last: Option<&'a LastExit>,
    /// In which time something happens by itself: the countdown, the rung, the boot, the pause.
    pub next_in: Option<Duration>,
    /// How many restarts are left; none without bound.
    pub tries_left: Option<u32>,
    /// Why restarts are held.
    pub restarts_held: Option<&'a str>,
}
