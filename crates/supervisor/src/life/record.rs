//! What of a ward's life is on disk, so that a new Naru goes on where the last one was, in whichever moment
//! that one was killed.

use std::time::Duration;

use naru_domain::Timestamp;
use serde::{Deserialize, Serialize};

use super::exit::Verdict;
use super::policy::Action;
use super::restart::Budget;
use crate::model::{Ending, ProcessId};

/// Timestamps as milliseconds; the domain knows no serialization.
pub(super) mod stamp {
    use naru_domain::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
    pub(in crate::life) fn serialize<S: Serializer>(
        at: &Timestamp,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.serialize_i64(at.0)
    }

    pub(in crate::life) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Timestamp, D::Error> {
        i64::deserialize(from).map(Timestamp)
    }
}

/// One stop, restart, kill, hold or start that somebody asked for. Counted per ward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OperationId(pub u64);

/// Who wanted something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// A person, by name.
    Operator(String),
    /// A schedule, by name.
    Schedule(String),
    /// Somebody in the game, or at its console.
    Game,
    /// Somebody on the machine.
    Outside,
    /// This program, by its own rules.
    Naru,
}

/// What should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// It should run.
    Running,
    /// It should not.
    Stopped,
}

/// What should be, and who said so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Desired {
    /// What.
    pub goal: Goal,
    /// Who.
    pub by: By,
    /// When.
    #[serde(with = "stamp")]
    pub at: Timestamp,
    /// Why, in the words of whoever wanted it.
    pub why: String,
}

/// Why an end is being brought about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IntentKind {
    /// It should be down.
    Stop,
    /// It should come back at once.
    Restart,
    /// It should be down, no matter how.
    Kill,
    /// It should be down until it is released.
    Backup,
    /// It hung.
    Hang,
    /// It did not become ready in time.
    LateBoot,
}

impl IntentKind {
    /// Nothing is asked; the tree is killed.
    pub(super) fn is_forced(self) -> bool {
        matches!(self, IntentKind::Kill | IntentKind::Hang | IntentKind::LateBoot)
    }
}

/// How far a stop came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IntentStep {
    /// Nothing was done yet.
    Begun,
    /// Players are being told.
    Countdown {
        /// Until when.
        #[serde(with = "stamp")]
        until: Timestamp,
    },
    /// The game was asked to save.
    Saving,
    /// A rung of the ladder.
    Rung {
        /// Which, from 0.
        index: usize,
        /// What it is.
        action: Action,
        /// Since when.
        #[serde(with = "stamp")]
        at: Timestamp,
    },
    /// The tree is being killed.
    Killing,
    /// It is down, and held for a backup.
    Held {
        /// Until when at most.
        #[serde(with = "stamp")]
        until: Timestamp,
    },
}

/// An end that we bring about. It is on disk before the first act, and an exit while it is open is no crash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// Which.
    pub operation: OperationId,
    /// Why.
    pub kind: IntentKind,
    /// The tree is killed at once, whatever the kind says: somebody lost patience.
    pub forced: bool,
    /// Who.
    pub by: By,
    /// In their words.
    pub reason: String,
    /// When.
    #[serde(with = "stamp")]
    pub begun: Timestamp,
    /// By when asking ends and killing begins, should Naru have been away.
    #[serde(with = "stamp")]
    pub deadline: Timestamp,
    /// How long players are told before.
    pub countdown: Duration,
    /// How far it came.
    pub step: IntentStep,
    /// What should be if it is cancelled.
    pub before: Desired,
}

/// The process that is the ward.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Which.
    pub id: ProcessId,
    /// When it was started, or found.
    #[serde(with = "stamp")]
    pub launched: Timestamp,
    /// It was ready once.
    pub ready: bool,
    /// It answered a probe once: before that, silence may as well be a wrong address.
    pub answered: bool,
    /// It has no keeper: we did not start it, or the keeper died.
    pub watched: bool,
}

/// Where a ward without a process was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hint {
    /// Nothing special.
    None,
    /// It is started again then.
    Waiting {
        /// When.
        #[serde(with = "stamp")]
        until: Timestamp,
    },
    /// It failed too often.
    GaveUp,
}

/// The last end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastExit {
    /// Of which process; none if it never became one.
    pub process: Option<ProcessId>,
    /// How.
    pub ending: Ending,
    /// When.
    #[serde(with = "stamp")]
    pub at: Timestamp,
    /// What it meant.
    pub verdict: Verdict,
}

/// How this very server ends when it is asked to, learned from stops of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Learned {
    /// How it was asked.
    pub action: Action,
    /// How it ended.
    pub ending: Ending,
}

/// Why a record cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// No JSON, or not this shape.
    #[error("the record cannot be read")]
    Unreadable(#[from] serde_json::Error),
    /// Written by a newer Naru.
    #[error("the record has version {0}, which this Naru does not know")]
    Version(u16),
}

/// All that must survive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Of this shape.
    pub version: u16,
    /// What should be.
    pub desired: Desired,
    /// The end that is being brought about.
    pub intent: Option<Intent>,
    /// The process, if there is one.
    pub process: Option<Kept>,
    /// A launch that was asked for and not answered: there may be a process that we do not know.
    pub launching: Option<u64>,
    /// Restarts.
    pub budget: Budget,
    /// Where it was.
    pub hint: Hint,
    /// The operation whose asker waits for the ward to be up, or down.
    pub pending: Option<OperationId>,
    /// The last end.
    pub last: Option<LastExit>,
    /// What was learned of its ends.
    pub learned: Vec<Learned>,
    /// How many operations there were.
    pub operations: u64,
    /// How many launches there were.
    pub launches: u64,
    /// The boot of the machine in which this was written.
    pub boot: String,
}

impl Record {
    /// The newest shape.
    pub const VERSION: u16 = 1;
    /// How much is learned of ends.
    pub const LEARNED_MAX: usize = 8;

    /// A ward that nobody knows yet.
    #[must_use]
    pub fn new(goal: Goal, by: By, at: Timestamp) -> Record {
        Record {
            version: Self::VERSION,
            desired: Desired { goal, by, at, why: String::new() },
            intent: None,
            process: None,
            launching: None,
            budget: Budget::default(),
            hint: Hint::None,
            pending: None,
            last: None,
            learned: Vec::new(),
            operations: 0,
            launches: 0,
            boot: String::new(),
        }
    }

    /// Reads what [`Record::to_json`] wrote. A record that cannot be read is kept aside by the caller, and
    /// the ward begins anew with what is found running.
    pub fn parse(json: &[u8]) -> Result<Record, RecordError> {
        let record: Record = serde_json::from_slice(json)?;
        match record.version {
            Self::VERSION => Ok(record),
            other => Err(RecordError::Version(other)),
        }
    }

    /// As JSON.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("invariant: a record has only strings as keys")
    }

    /// Moves all times along when the wall's clock was set, so that a jump neither empties a budget nor ends
    /// a wait.
    pub(super) fn shift(&mut self, by_ms: i64) {
        let shift = |at: &mut Timestamp| at.0 = at.0.saturating_add(by_ms);
        self.budget.shift(by_ms);
        if let Hint::Waiting { until } = &mut self.hint {
            shift(until);
        }
        if let Some(kept) = &mut self.process {
            shift(&mut kept.launched);
        }
        if let Some(intent) = &mut self.intent {
            shift(&mut intent.begun);
            shift(&mut intent.deadline);
            match &mut intent.step {
                IntentStep::Countdown { until } | IntentStep::Held { until } => shift(until),
                IntentStep::Rung { at, .. } => shift(at),
                IntentStep::Begun | IntentStep::Saving | IntentStep::Killing => (),
            }
        }
    }
}
