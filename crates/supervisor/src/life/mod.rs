//! The life of one ward: what should be, what is, and what to do about the difference. A pure state machine:
//! it gets inputs with the moment they came at, and answers with outputs that somebody else carries out. It
//! knows no system call, no clock, no protocol and no runtime, so that all of it can be simulated.
//!
//! How to use it: make a [`Life`] with [`Life::resume`] (a new ward is a [`Record::new`] of which nothing was
//! found), give it every [`Input`], carry out the [`Output`]s in order, and come back with [`Input::Wake`]
//! at [`Life::next_wake`]. `docs/operations/ward-life.md` says the same for people who run game servers.

mod adopt;
mod command;
mod ended;
mod exchange;
mod exit;
mod explain;
mod hang;
mod history;
mod machine;
mod policy;
mod record;
mod restart;
mod start;
mod stop;
#[cfg(test)]
mod tests;

use std::time::Duration;

use naru_domain::Timestamp;

pub use exchange::{
    Answer, CpuState, Found, Input, Order, Outcome, Output, Phase, Ports, Refusal, Status, Tree,
    Wish,
};
pub use exit::{About, Cause, Confidence, Evidence, Origin, Reason, Verdict};
pub use explain::{Death, Expected, Explanation};
pub use history::{Event, Fact, Happening, Notice, NoticeKind};
pub use machine::Life;
pub use policy::{
    Action, AnnouncePolicy, ExitPolicy, Follow, HangAction, HangPolicy, LadderPolicy, LateBoot,
    LifePolicy, PortsPolicy, ReadyPolicy, RestartOn, RestartPolicy, Rung, SavePolicy,
};
pub use record::{
    By, Desired, Goal, Hint, Intent, IntentKind, IntentStep, Kept, LastExit, Learned, OperationId,
    Record, RecordError,
};
pub use restart::Budget;

/// A moment, by both clocks: people and files need the wall's, lengths of time need one that never jumps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// What the clock on the wall says. It may jump.
    pub wall: Timestamp,
    /// Time since some origin that stays the same for the life of this process. It never goes back.
    pub mono: Duration,
}
