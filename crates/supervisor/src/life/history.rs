//! What is told about a ward's life: the durable history, and the notices that somebody should read.

use naru_domain::Timestamp;
use serde::{Deserialize, Serialize};

use super::exchange::Wish;
use super::exit::{Reason, Verdict};
use super::policy::Action;
use super::record::{By, IntentKind, OperationId, stamp};
use crate::model::{Ending, ProcessId, Severity};

/// One line of the history. What happens in the moment in which Naru itself is killed may be told again by the
/// next one; an end is told with its process, so that a reader counts it once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When it was seen.
    #[serde(with = "stamp")]
    pub at: Timestamp,
    /// What.
    #[serde(flatten)]
    pub what: Happening,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[expect(missing_docs, reason = "the fields say what they are; the variants are documented")]
pub enum Happening {
    /// Somebody asked for something.
    Ordered { wish: Wish, by: By, reason: String, operation: Option<OperationId> },
    /// A start waits for ports.
    PortsTaken { ports: String },
    /// A process runs.
    Started { process: ProcessId },
    /// It is ready.
    Ready { how: String, after_ms: u64 },
    /// It never became a process.
    StartFailed { verdict: Verdict },
    /// An end is being brought about.
    StopBegan { operation: OperationId, kind: IntentKind, by: By, reason: String },
    /// It is not, after all.
    StopCancelled { operation: OperationId, by: By },
    /// The save before a stop.
    Saved { operation: OperationId, confirmed: bool, note: String },
    /// A rung of the ladder, and what became of it.
    Rung { operation: OperationId, index: usize, action: Action, result: String },
    /// A process ended.
    Exited {
        process: Option<ProcessId>,
        ending: Ending,
        #[serde(with = "stamp")]
        ended: Timestamp,
        verdict: Verdict,
    },
    /// Evidence that came late shows the last end in another light.
    Revised { process: Option<ProcessId>, verdict: Verdict },
    /// It will be started again.
    RestartPlanned { delay_ms: u64, tries_left: Option<u32> },
    /// It failed too often.
    GaveUp { tries: u32 },
    /// It is down, and should be.
    Stopped,
    /// It is down for a backup.
    Held { operation: OperationId },
    /// The backup is over.
    Released { operation: OperationId, in_time: bool },
    /// A running process was found again, or found.
    Adopted { process: ProcessId, watched: bool },
    /// Nobody knows whether it runs.
    Lost { why: String },
    /// It lives and does not work.
    Hung { reasons: Vec<Reason> },
    /// It works again.
    Recovered,
    /// Something had to be done before it was on disk.
    NotRecorded { what: String },
    /// What is left of it cannot be killed.
    Unkillable,
}

/// What a notice is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are the words of the notices' titles")]
pub enum NoticeKind {
    Started,
    Ready,
    Restarted,
    Stopping,
    Stopped,
    StoppedInGame,
    StoppedFromOutside,
    Ended,
    Crashed,
    OutOfMemory,
    Hung,
    Recovered,
    KilledFromOutside,
    StartFailed,
    BootTimeout,
    EndedUnexplained,
    MachineRestarted,
    GaveUp,
    SaveNotConfirmed,
    PortsTaken,
    Adopted,
    Lost,
    KeeperLost,
    NotRecorded,
    Unkillable,
    HoldExpired,
}

/// A detail of a notice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// Of what.
    pub name: &'static str,
    /// What it is.
    pub value: String,
}

/// Something that somebody should hear of. The ward's name is added by whoever sends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// About what.
    pub kind: NoticeKind,
    /// How much it matters.
    pub severity: Severity,
    /// In a few words.
    pub title: String,
    /// Details.
    pub facts: Vec<Fact>,
}

impl Notice {
    pub(super) fn new(kind: NoticeKind, severity: Severity, title: impl Into<String>) -> Notice {
        Notice { kind, severity, title: title.into(), facts: Vec::new() }
    }

    pub(super) fn fact(mut self, name: &'static str, value: impl Into<String>) -> Notice {
        self.facts.push(Fact { name, value: value.into() });
        self
    }
}
