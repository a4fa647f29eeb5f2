//! From an exit to what follows: evidence is waited for, a verdict given, the rest of the tree cleared away.

use std::time::Duration;

use super::exchange::{Outcome, Output, Tree};
use super::exit::{self, Cause, Facts, Judged, Verdict};
use super::history::{Happening, Notice, NoticeKind};
use super::machine::{Ended, Life, Next, State, Turn};
use super::policy::{self, Action, Follow};
use super::record::{By, Goal, Hint, IntentKind, IntentStep, Kept, LastExit, Learned, Record};
use super::start::Start;
use super::stop::Step;
use crate::model::{Ending, Exit, ProcessId, Severity};

impl Life {
    pub(super) fn exited(
        &mut self,
        turn: &mut Turn<'_>,
        process: &ProcessId,
        exit: Exit,
        tree: Tree,
    ) {
        // It ended before anybody told that it was there.
        if self.record.process.is_none() && self.record.launching.is_some() {
            self.started(turn, process.clone());
        }
        match &self.record.process {
            Some(kept) if kept.id == *process => {
                self.main_ended(turn, exit, tree, false, policy::SETTLE)
            }
            _ => (),
        }
    }

    /// The main process is gone.
    pub(super) fn main_ended(
        &mut self,
        turn: &mut Turn<'_>,
        exit: Exit,
        tree: Tree,
        rebooted: bool,
        settle: Duration,
    ) {
        if matches!(self.state, State::Settling { .. }) {
            return;
        }
        let Some(process) = self.record.process.clone() else { return };
        if let Tree::Alive { inner: Some(inner) } = &tree
            && self.follows(&exit, process.ready)
        {
            self.follow(turn, &process.id, exit, inner.clone());
            return;
        }
        let ended = Self::ended(turn, process, exit, tree, rebooted);
        let judged = self.judge(&ended);
        if judged.decided {
            self.sentence(turn, ended, judged.verdict);
        } else {
            let until = turn.now.mono.saturating_add(settle);
            self.state = State::Settling { ended, until };
            self.act(turn, Output::Gather);
        }
    }

    pub(super) fn ended(
        turn: &Turn<'_>,
        process: Kept,
        exit: Exit,
        tree: Tree,
        rebooted: bool,
    ) -> Ended {
        let ago = exit::millis(turn.now.wall.since(exit.at));
        let ended_ms = exit::millis(turn.now.mono).saturating_sub(ago);
        Ended { process, exit, ended_ms, tree, rebooted, overruled: false }
    }

    /// Whether what the main process left behind is the game.
    fn follows(&self, exit: &Exit, ready: bool) -> bool {
        let intent = self.record.intent.as_ref();
        let killed =
            intent.is_some_and(|intent| intent.forced || intent.step == IntentStep::Killing);
        match self.policy.exit.follow {
            _ if killed => false,
            Follow::Never => false,
            Follow::Launcher => true,
            Follow::Auto => intent.is_some() || (!ready && exit.ending == Ending::Code(0)),
        }
    }

    fn follow(&mut self, turn: &mut Turn<'_>, launcher: &ProcessId, exit: Exit, inner: ProcessId) {
        let verdict = exit::launcher_exited(exit.ending, inner.pid);
        let process = Some(launcher.clone());
        turn.history(Happening::Exited { process, ending: exit.ending, ended: exit.at, verdict });
        if let Some(kept) = &mut self.record.process {
            kept.id = inner;
        }
        self.catches_sigterm = None;
        self.touch();
        // The signal of this rung ended the launcher; the game has not seen it.
        if let State::Stopping(Step::Rung { index, .. }) = self.state
            && matches!(self.policy.ladder.rungs.get(index), Some(rung) if matches!(rung.action, Action::Signal(_)))
        {
            self.begin_rung(turn, index);
        }
    }

    pub(super) fn judge(&self, ended: &Ended) -> Judged {
        let facts = Facts {
            intent: self.record.intent.as_ref(),
            ending: ended.exit.ending,
            ready: ended.process.ready,
            launched: ended.process.launched,
            ended_ms: ended.ended_ms,
            book: &self.book,
            rebooted: ended.rebooted,
        };
        exit::classify(&facts, &self.rules())
    }

    /// Evidence arrived, or all that there is did, or the time for it is over.
    pub(super) fn evidence_came(&mut self, turn: &mut Turn<'_>, complete: bool) {
        if let State::Settling { ended, .. } = &self.state {
            let judged = self.judge(ended);
            if judged.decided || complete {
                let ended = ended.clone();
                self.sentence(turn, ended, judged.verdict);
            }
        } else if !complete {
            self.revise(turn);
        }
    }

    /// The one verdict on this exit, and what follows from it.
    fn sentence(&mut self, turn: &mut Turn<'_>, ended: Ended, verdict: Verdict) {
        let before = self.record.desired.clone();
        self.learn(ended.exit.ending, &verdict);
        self.note_exit(turn, &ended, &verdict);
        if self.age(turn.now) >= self.policy.restart.stable_after {
            self.record.budget.was_stable();
        }
        let intent = self.close_intent();
        self.tell_end(turn, &verdict, intent);
        let next = if ended.overruled {
            // A person has spoken since: what the exit itself would lead to does not matter any more.
            if self.record.desired.goal == Goal::Running { Next::Start } else { Next::Stop }
        } else {
            if matches!(intent, None | Some(IntentKind::Hang | IntentKind::LateBoot)) {
                self.settle_desire(turn, &verdict);
            }
            if verdict.cause.is_failure() {
                self.done(turn, Outcome::Failed);
            }
            self.plan(turn, &verdict, intent)
        };
        let tree = ended.tree.clone();
        self.judged = (intent.is_none() && !ended.overruled).then_some((ended, before));
        self.clear(turn, next, &tree);
    }

    /// The process is no more, and this is why.
    pub(super) fn note_exit(&mut self, turn: &mut Turn<'_>, ended: &Ended, verdict: &Verdict) {
        let (process, ending, at) =
            (Some(ended.process.id.clone()), ended.exit.ending, ended.exit.at);
        self.record.process = None;
        self.record.last =
            Some(LastExit { process: process.clone(), ending, at, verdict: verdict.clone() });
        self.touch();
        turn.history(Happening::Exited { process, ending, ended: at, verdict: verdict.clone() });
    }

    /// Codes after stops of ours are remembered, so that the same stop by somebody else is known again.
    fn learn(&mut self, ending: Ending, verdict: &Verdict) {
        let Some(IntentStep::Rung { action, .. }) =
            self.record.intent.as_ref().map(|intent| &intent.step)
        else {
            return;
        };
        let known =
            matches!(ending, Ending::Code(code) if self.policy.exit.clean_codes.contains(&code));
        let learned = Learned { action: *action, ending };
        if verdict.cause == Cause::StoppedByUs
            && !known
            && ending != Ending::Unknown
            && !self.record.learned.contains(&learned)
        {
            if self.record.learned.len() >= Record::LEARNED_MAX {
                self.record.learned.remove(0);
            }
            self.record.learned.push(learned);
        }
    }

    /// What somebody else stopped should be down, also for the next Naru.
    fn settle_desire(&mut self, turn: &Turn<'_>, verdict: &Verdict) {
        if self.record.desired.goal != Goal::Running || verdict.restart {
            return;
        }
        let by = match verdict.cause {
            Cause::StoppedInGame | Cause::Ended => By::Game,
            Cause::StoppedFromOutside => By::Outside,
            // It comes back with the machine.
            Cause::MachineStopped => return,
            _ => By::Naru,
        };
        self.want(turn, Goal::Stopped, by, verdict.cause.text());
    }

    /// The intent is fulfilled. One for a backup stays open until it is released.
    pub(super) fn close_intent(&mut self) -> Option<IntentKind> {
        let kind = self.record.intent.as_ref()?.kind;
        if kind != IntentKind::Backup {
            let intent = self.record.intent.take()?;
            self.record.pending = match kind {
                IntentKind::Hang | IntentKind::LateBoot => self.record.pending,
                _ => Some(intent.operation),
            };
        }
        Some(kind)
    }

    fn tell_end(&self, turn: &mut Turn<'_>, verdict: &Verdict, intent: Option<IntentKind>) {
        let (kind, severity) = match verdict.cause {
            Cause::StoppedByUs if intent == Some(IntentKind::Restart) => return,
            Cause::StoppedByUs => (NoticeKind::Stopped, Severity::Info),
            Cause::StoppedInGame => (NoticeKind::StoppedInGame, Severity::Info),
            Cause::StoppedFromOutside => (NoticeKind::StoppedFromOutside, Severity::Info),
            Cause::MachineStopped | Cause::LauncherExited => return,
            Cause::MachineRestarted => (NoticeKind::MachineRestarted, Severity::Info),
            Cause::Ended => (NoticeKind::Ended, Severity::Warning),
            Cause::Crashed => (NoticeKind::Crashed, Severity::Critical),
            Cause::OutOfMemory => (NoticeKind::OutOfMemory, Severity::Critical),
            // Told when it was found; its end is no news.
            Cause::Hung | Cause::BootTimeout => return,
            Cause::KilledFromOutside => (NoticeKind::KilledFromOutside, Severity::Warning),
            Cause::StartFailed => (NoticeKind::StartFailed, Severity::Critical),
            Cause::Unknown => (NoticeKind::EndedUnexplained, Severity::Warning),
        };
        let mut notice = Notice::new(kind, severity, capital(verdict.cause.text()));
        for reason in &verdict.reasons {
            notice = notice.fact("because", reason.text.clone());
        }
        turn.notify(notice);
    }

    /// What follows from a verdict, budget included.
    fn plan(&mut self, turn: &mut Turn<'_>, verdict: &Verdict, intent: Option<IntentKind>) -> Next {
        if intent == Some(IntentKind::Backup) {
            return Next::Hold;
        }
        if !verdict.restart {
            return Next::Stop;
        }
        match verdict.cause {
            Cause::StoppedByUs => return Next::Start,
            Cause::MachineRestarted => {
                self.record.budget.refill();
                return Next::Start;
            }
            _ => (),
        }
        let spent = self.record.budget.spend(turn.now.wall, &self.policy.restart, turn.dice);
        let tries_left = self.record.budget.left(turn.now.wall, &self.policy.restart);
        self.touch();
        match spent {
            Some(pause) => {
                let delay_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
                turn.history(Happening::RestartPlanned { delay_ms, tries_left });
                self.record.hint = Hint::Waiting { until: turn.now.wall.plus(pause) };
                Next::Wait(turn.now.mono.saturating_add(pause))
            }
            None => {
                let tries = self.policy.restart.tries;
                turn.history(Happening::GaveUp { tries });
                let title = "Failed too often and is not started again";
                let minutes = self.policy.restart.window.as_secs() / 60;
                let notice = Notice::new(NoticeKind::GaveUp, Severity::Critical, title)
                    .fact("restarts", format!("{tries} within {minutes} minutes"))
                    .fact("last", verdict.cause.text())
                    .fact("next", "a start by hand begins anew");
                turn.notify(notice);
                self.record.hint = Hint::GaveUp;
                Next::GiveUp
            }
        }
    }

    /// The start ended before there was a process.
    pub(super) fn start_failed(&mut self, turn: &mut Turn<'_>, why: String, tree: &Tree) {
        self.record.launching = None;
        let verdict = exit::start_failed(why, &self.rules());
        self.settle_desire(turn, &verdict);
        turn.history(Happening::StartFailed { verdict: verdict.clone() });
        let (ending, at) = (Ending::Unknown, turn.now.wall);
        self.record.last = Some(LastExit { process: None, ending, at, verdict: verdict.clone() });
        self.touch();
        self.tell_end(turn, &verdict, None);
        let next = self.plan(turn, &verdict, None);
        self.done(turn, Outcome::Failed);
        self.clear(turn, next, tree);
    }

    /// Nothing may be left of the last process before anything else happens.
    pub(super) fn clear(&mut self, turn: &mut Turn<'_>, next: Next, tree: &Tree) {
        let now = turn.now.mono;
        match tree {
            Tree::Gone => self.enter(turn, next),
            Tree::Alive { .. } => {
                let kill_at = now.saturating_add(self.policy.ladder.tree_wait);
                self.state = State::Clearing { next, kill_at, since: now, told: false };
            }
        }
    }

    pub(super) fn clearing_due(&mut self, turn: &mut Turn<'_>) -> bool {
        let State::Clearing { kill_at, since, told, .. } = &mut self.state else { return false };
        *kill_at = turn.now.mono.saturating_add(policy::KILL_AGAIN);
        let long = turn.now.mono.saturating_sub(*since)
            >= self.policy.ladder.tree_wait.saturating_add(policy::UNKILLABLE_TOLD_AFTER);
        if long && !std::mem::replace(told, true) {
            Self::tell_unkillable(turn);
        }
        self.act(turn, Output::KillTree);
        false
    }

    pub(super) fn tree_gone(&mut self, turn: &mut Turn<'_>) {
        match &mut self.state {
            State::Clearing { next, .. } => {
                let next = *next;
                self.enter(turn, next);
            }
            State::Settling { ended, .. } => ended.tree = Tree::Gone,
            // What was followed ended together with the rest: somebody has to look.
            State::Booting | State::Running | State::Hung { .. } | State::Stopping(_)
                if self.record.process.is_some() =>
            {
                self.lose(turn, "nothing is left of its tree");
            }
            _ => (),
        }
    }

    pub(super) fn enter(&mut self, turn: &mut Turn<'_>, next: Next) {
        match next {
            Next::Stop => self.come_to_rest(turn),
            Next::Start => self.begin_start(turn),
            Next::Wait(until) => self.state = State::Waiting { until },
            Next::GiveUp => self.state = State::GaveUp,
            Next::Hold => self.hold(turn),
        }
    }

    /// There was something to stop, and now there is not: it never came to be.
    pub(super) fn nothing_there(&mut self, turn: &mut Turn<'_>) {
        self.touch();
        let next = match self.close_intent() {
            Some(IntentKind::Backup) => Next::Hold,
            _ if self.record.desired.goal == Goal::Running => Next::Start,
            _ => Next::Stop,
        };
        self.enter(turn, next);
    }

    // --- held for a backup ---

    pub(super) fn hold(&mut self, turn: &mut Turn<'_>) {
        let Some(operation) = self.operation() else { return };
        let until = turn.now.wall.plus(self.policy.hold_max);
        self.set_step(IntentStep::Held { until });
        turn.history(Happening::Held { operation });
        self.state = State::Held { until: turn.now.mono.saturating_add(self.policy.hold_max) };
        // The backup may begin only when the next Naru would know about it.
        self.act(turn, Output::Done { operation, outcome: Outcome::Held });
    }

    pub(super) fn hold_over(&mut self, turn: &mut Turn<'_>, in_time: bool) {
        let Some(intent) = self.record.intent.take() else { return };
        let operation = intent.operation;
        self.touch();
        turn.history(Happening::Released { operation, in_time });
        if !in_time {
            let title = "Was held for a backup for too long";
            turn.notify(Notice::new(NoticeKind::HoldExpired, Severity::Warning, title));
        }
        self.record.pending = Some(operation);
        if self.record.desired.goal == Goal::Stopped {
            self.come_to_rest(turn);
        } else if self.record.hint == Hint::GaveUp {
            self.done(turn, Outcome::Failed);
            self.state = State::GaveUp;
        } else {
            self.begin_start(turn);
        }
    }

    // --- evidence that came late ---

    /// While nothing was started since, a verdict can be put right: a stop that shows late must not end in
    /// a restart, and one that came with the end of the machine must not stay a stop.
    fn revise(&mut self, turn: &mut Turn<'_>) {
        let idle = matches!(
            self.state,
            State::Stopped
                | State::GaveUp
                | State::Waiting { .. }
                | State::Clearing { .. }
                | State::Starting(Start::Ports { .. })
        );
        let Some((ended, before)) = self.judged.take() else { return };
        let late = exit::millis(turn.now.mono).saturating_sub(ended.ended_ms);
        if !idle || late > exit::millis(policy::REVISE_WITHIN) {
            return;
        }
        let Some(last) = self.record.last.clone() else { return };
        let verdict = self.judge(&ended).verdict;
        let stopped = verdict.cause.is_deliberate() && !last.verdict.cause.is_deliberate();
        let machine = verdict.cause == Cause::MachineStopped && last.verdict.cause != verdict.cause;
        let refined = last.verdict.cause != verdict.cause
            && verdict.cause.is_failure()
            && last.verdict.cause.is_failure();
        if stopped || machine || refined {
            turn.history(Happening::Revised {
                process: last.process.clone(),
                verdict: verdict.clone(),
            });
            self.record.last = Some(LastExit { verdict: verdict.clone(), ..last.clone() });
            self.touch();
        }
        if stopped || machine {
            if last.verdict.restart {
                self.record.budget.refund();
            }
            if machine {
                self.record.desired = before.clone();
            }
            self.settle_desire(turn, &verdict);
            self.tell_end(turn, &verdict, None);
            match &mut self.state {
                State::Clearing { next, .. } => {
                    *next = Next::Stop;
                    self.record.hint = Hint::None;
                }
                _ => self.come_to_rest(turn),
            }
        }
        self.judged = Some((ended, before));
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_uppercase().to_string()).unwrap_or_default();
    first + letters.as_str()
}
