//! What would happen if it died now. The same rules as for a real exit, asked without one.

use std::time::Duration;

use super::Moment;
use super::exchange::Phase;
use super::exit::{self, Evidence, Facts, Verdict};
use super::machine::Life;
use super::record::{By, Goal, Intent, IntentKind, IntentStep, OperationId};
use crate::model::Ending;

/// A way to die.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// Code 0.
    CodeZero,
    /// Code 1.
    CodeOne,
    /// Ended by SIGTERM.
    Sigterm,
    /// Ended by SIGKILL.
    Sigkill,
    /// Ended by SIGSEGV.
    Segfault,
    /// Killed by the system for memory.
    OutOfMemory,
    /// It stops answering and is killed for it.
    Hang,
}

impl Death {
    /// All of them.
    pub const ALL: [Death; 7] = [
        Death::CodeZero,
        Death::CodeOne,
        Death::Sigterm,
        Death::Sigkill,
        Death::Segfault,
        Death::OutOfMemory,
        Death::Hang,
    ];

    fn ending(self) -> Ending {
        match self {
            Death::CodeZero => Ending::Code(0),
            Death::CodeOne => Ending::Code(1),
            Death::Sigterm => Ending::Signal(15),
            Death::Sigkill | Death::OutOfMemory | Death::Hang => Ending::Signal(9),
            Death::Segfault => Ending::Signal(11),
        }
    }

    /// In words.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Death::CodeZero => "it ends with code 0",
            Death::CodeOne => "it ends with code 1",
            Death::Sigterm => "SIGTERM ends it",
            Death::Sigkill => "somebody kills it",
            Death::Segfault => "it crashes (SIGSEGV)",
            Death::OutOfMemory => "the system kills it for memory",
            Death::Hang => "it hangs",
        }
    }
}

/// What one way to die would lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Which way.
    pub death: Death,
    /// What we would say about it.
    pub verdict: Verdict,
    /// It would be started again.
    pub restart: bool,
    /// After at most this pause; none without a pause.
    pub pause_max: Option<Duration>,
    /// How many restarts would be left after that one; none without bound.
    pub tries_left: Option<u32>,
    /// What would happen, in words.
    pub then: String,
}

/// What would happen if it died now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Where it is.
    pub phase: Phase,
    /// That, in words.
    pub now: String,
    /// Each way; empty if there is nothing that could die.
    pub deaths: Vec<Expected>,
}

impl Life {
    /// What would happen if it died now: with the settings, the evidence and the budget of this moment.
    #[must_use]
    pub fn explain(&self, now: Moment) -> Explanation {
        let alive = self.record.process.is_some();
        let deaths =
            Death::ALL.into_iter().filter(|_| alive).map(|death| self.expect(now, death)).collect();
        Explanation { phase: self.phase(), now: self.where_it_is(), deaths }
    }

    fn where_it_is(&self) -> String {
        let held = self.restarts_held.as_deref().map(|why| format!("; restarts are held: {why}"));
        let last = self
            .record
            .last
            .as_ref()
            .map_or("nothing is known of an end", |last| last.verdict.cause.text());
        let text = match self.phase() {
            Phase::Stopped => format!("it is down; last: {last}"),
            Phase::Starting => "it is coming up".to_owned(),
            Phase::Running => "it runs".to_owned(),
            Phase::Hung => "it lives, but does not work".to_owned(),
            Phase::Stopping => "it is being stopped".to_owned(),
            Phase::Ending => "its main process ended, the rest is being looked at".to_owned(),
            Phase::Waiting => format!("it is started again soon; last: {last}"),
            Phase::Held => "it is down for a backup".to_owned(),
            Phase::GaveUp => {
                format!("it failed too often; last: {last}; a start by hand begins anew")
            }
            Phase::Lost => "nobody can say whether it runs".to_owned(),
        };
        text + &held.unwrap_or_default()
    }

    fn expect(&self, now: Moment, death: Death) -> Expected {
        let mut book = self.book.clone();
        if death == Death::OutOfMemory {
            book.note(Evidence::OomKill, now, Duration::ZERO);
        }
        let hang = (death == Death::Hang).then(|| self.hang_intent(now));
        let kept = self.record.process.as_ref();
        let facts = Facts {
            intent: self.record.intent.as_ref().or(hang.as_ref()),
            ending: death.ending(),
            ready: kept.is_some_and(|kept| kept.ready),
            launched: kept.map_or(now.wall, |kept| kept.launched),
            ended_ms: exit::millis(now.mono),
            book: &book,
            rebooted: false,
        };
        let verdict = exit::classify(&facts, &self.rules()).verdict;
        self.consequence(now, death, verdict)
    }

    fn hang_intent(&self, now: Moment) -> Intent {
        Intent {
            operation: OperationId(0),
            kind: IntentKind::Hang,
            forced: true,
            by: By::Naru,
            reason: "it hung".to_owned(),
            begun: now.wall,
            deadline: now.wall,
            countdown: Duration::ZERO,
            step: IntentStep::Killing,
            before: self.record.desired.clone(),
        }
    }

    fn consequence(&self, now: Moment, death: Death, verdict: Verdict) -> Expected {
        let policy = &self.policy.restart;
        let mut budget = self.record.budget.clone();
        if self.age(now) >= policy.stable_after {
            budget.was_stable();
        }
        let left = budget.left(now.wall, policy);
        let free =
            matches!(verdict.cause, super::Cause::StoppedByUs | super::Cause::MachineRestarted);
        let backup =
            self.record.intent.as_ref().is_some_and(|intent| intent.kind == IntentKind::Backup);
        let mut expected = Expected {
            death,
            restart: verdict.restart,
            verdict,
            pause_max: None,
            tries_left: left,
            then: String::new(),
        };
        expected.then = if death == Death::Hang && !self.policy.hang.enabled {
            expected.restart = false;
            "nothing: hangs are not looked for".to_owned()
        } else if death == Death::Hang && self.policy.hang.action == super::HangAction::Tell {
            expected.restart = false;
            "somebody is told, and it is left alone".to_owned()
        } else if backup {
            "it stays down until the backup is over".to_owned()
        } else if !expected.restart {
            let wanted = self.record.desired.goal == Goal::Running;
            let why = expected
                .verdict
                .reasons
                .last()
                .filter(|_| wanted)
                .map(|reason| reason.text.as_str());
            format!("it stays down: {}", why.unwrap_or("it should be down"))
        } else if free {
            "it is started again at once".to_owned()
        } else if left == Some(0) {
            expected.restart = false;
            format!("it stays down: {} restarts are used up, somebody is told", policy.tries)
        } else {
            let pause = budget.pause_max(policy);
            expected.pause_max = Some(pause);
            expected.tries_left = left.map(|left| left - 1);
            let held = if self.restarts_held.is_some() {
                ", once restarts are no longer held"
            } else {
                ""
            };
            let left = expected
                .tries_left
                .map_or("without bound".to_owned(), |left| format!("{left} left after that"));
            format!("it is started again within {:.0} s ({left}){held}", pause.as_secs_f64())
        };
        expected
    }
}
