//! The stop ladder: intent on disk, countdown, save, rungs, kill. One at a time, and it always ends.

use std::time::Duration;

use super::exchange::{Order, Outcome, Output};
use super::history::{Happening, Notice, NoticeKind};
use super::machine::{Gate, Life, State, Turn};
use super::policy::{self, Action, Rung};
use super::record::{By, Desired, Intent, IntentKind, IntentStep, OperationId};
use crate::model::Severity;

const SIGTERM: i32 = 15;

/// Where the ladder is.
#[derive(Debug)]
pub(super) enum Step {
    /// The intent is on its way to the disk.
    Recording { gate: Gate },
    /// The process that is to be stopped is only being started.
    AwaitLaunch { until: Duration },
    /// Players are told. `next` is the time left at which they are told again.
    Countdown { ends: Duration, next: Duration },
    /// The game was asked to save. With `stale`, the next save to end is one that ran before, and may not have
    /// what happened since.
    Saving { until: Duration, stale: bool },
    /// A rung was carried out, or is being.
    Rung { index: usize, until: Duration },
    /// The tree was killed, and is killed again until it is gone.
    Killing { since: Duration, again: Duration, told: bool },
}

impl Life {
    /// Writes an intent down; the caller goes on with [`Life::begin_ladder`] if there is something to stop.
    pub(super) fn write_intent(
        &mut self,
        turn: &mut Turn<'_>,
        kind: IntentKind,
        order: &Order,
        before: Desired,
    ) -> OperationId {
        let operation = self.next_operation();
        // Whoever waited for it to come up, or for the last end, waits for something else now.
        let by_rule = matches!(kind, IntentKind::Hang | IntentKind::LateBoot);
        self.done(turn, if by_rule { Outcome::Failed } else { Outcome::Cancelled });
        let countdown = self.countdown(kind, order.countdown);
        let waits: Duration = self.policy.ladder.rungs.iter().map(|rung| rung.wait).sum();
        let span = countdown
            .saturating_add(self.policy.save.wait)
            .saturating_add(waits)
            .saturating_add(policy::LADDER_SLACK);
        self.record.intent = Some(Intent {
            operation,
            kind,
            forced: kind.is_forced(),
            by: order.by.clone(),
            reason: order.reason.clone(),
            begun: turn.now.wall,
            deadline: turn.now.wall.plus(span),
            countdown,
            step: IntentStep::Begun,
            before,
        });
        self.touch();
        let (by, reason) = (order.by.clone(), order.reason.clone());
        turn.history(Happening::StopBegan { operation, kind, by, reason });
        operation
    }

    /// A stop by our own rules.
    pub(super) fn open_intent(
        &mut self,
        turn: &mut Turn<'_>,
        kind: IntentKind,
        by: By,
        reason: String,
        countdown: Duration,
    ) {
        let wish = super::Wish::Stop;
        let order = Order { wish, by, reason, countdown: Some(countdown) };
        let before = self.record.desired.clone();
        self.write_intent(turn, kind, &order, before);
        self.begin_ladder(turn);
    }

    pub(super) fn begin_ladder(&mut self, turn: &mut Turn<'_>) {
        let gate = self.gate(turn);
        self.state = State::Stopping(Step::Recording { gate });
    }

    /// Somebody lost patience: the tree is killed as soon as that is on disk.
    pub(super) fn force(&mut self, turn: &mut Turn<'_>) {
        let Some(intent) = &mut self.record.intent else { return };
        if std::mem::replace(&mut intent.forced, true) {
            return;
        }
        if matches!(self.state, State::Stopping(_)) {
            self.begin_ladder(turn);
        }
    }

    pub(super) fn shorten_countdown(&mut self, turn: &Turn<'_>, to: Duration) {
        let Some(intent) = &mut self.record.intent else { return };
        intent.countdown = intent.countdown.min(to);
        if let State::Stopping(Step::Countdown { ends, next }) = &mut self.state {
            *ends = (*ends).min(turn.now.mono.saturating_add(to));
            *next = (*next).min(*ends);
            if let IntentStep::Countdown { until } = &mut intent.step {
                *until = (*until).min(turn.now.wall.plus(to));
            }
        }
        self.touch();
    }

    pub(super) fn step_timer(&self, step: &Step) -> Duration {
        match step {
            Step::Recording { gate } => self.gate_timer(*gate),
            Step::AwaitLaunch { until } | Step::Saving { until, .. } | Step::Rung { until, .. } => {
                *until
            }
            Step::Countdown { ends, next } => (*ends).min(*next),
            Step::Killing { again, .. } => *again,
        }
    }

    pub(super) fn step_due(&mut self, turn: &mut Turn<'_>) -> bool {
        let now = turn.now.mono;
        match &mut self.state {
            State::Stopping(Step::Recording { gate }) => {
                let gate = *gate;
                if self.passes(turn, gate, "stop") {
                    self.go_down(turn);
                    return true;
                }
                false
            }
            State::Stopping(Step::AwaitLaunch { .. }) => {
                self.lose(turn, "the keeper did not answer a launch");
                true
            }
            State::Stopping(Step::Countdown { ends, .. }) => {
                if *ends <= now {
                    self.begin_save(turn);
                } else {
                    self.announce(turn);
                }
                true
            }
            State::Stopping(Step::Saving { .. }) => {
                let waited = self.policy.save.wait.as_secs();
                self.save_missing(turn, &format!("no confirmation within {waited} s"));
                true
            }
            State::Stopping(Step::Rung { index, .. }) => {
                let index = *index;
                self.rung_result(turn, index, "it did not end in time");
                self.begin_rung(turn, index + 1);
                true
            }
            State::Stopping(Step::Killing { .. }) => {
                self.kill_again(turn);
                false
            }
            _ => false,
        }
    }

    /// Nothing was done yet: the first act.
    pub(super) fn proceed(&mut self, turn: &mut Turn<'_>) {
        let Some(intent) = &self.record.intent else { return };
        let (forced, countdown) = (intent.forced, intent.countdown);
        let Some(kept) = &self.record.process else {
            if self.record.launching.is_some() {
                let until = turn.now.mono.saturating_add(policy::LAUNCH_WAIT);
                self.state = State::Stopping(Step::AwaitLaunch { until });
            } else {
                self.nothing_there(turn);
            }
            return;
        };
        let empty = self.policy.announce.skip_when_empty && self.players == Some(0);
        if forced {
            self.begin_kill(turn);
        } else if kept.ready && !countdown.is_zero() && !empty {
            let title = match intent.kind {
                IntentKind::Restart => "Is going to be restarted",
                _ => "Is going to be stopped",
            };
            let notice = Notice::new(NoticeKind::Stopping, Severity::Info, title);
            let span = format!("{} s", countdown.as_secs());
            turn.notify(notice.fact("in", span).fact("why", intent.reason.clone()));
            self.begin_countdown(turn, countdown);
        } else {
            self.begin_save(turn);
        }
    }

    // --- countdown ---

    pub(super) fn begin_countdown(&mut self, turn: &mut Turn<'_>, left: Duration) {
        let now = turn.now.mono;
        self.set_step(IntentStep::Countdown { until: turn.now.wall.plus(left) });
        self.state = State::Stopping(Step::Countdown { ends: now.saturating_add(left), next: now });
        self.announce(turn);
    }

    fn announce(&mut self, turn: &mut Turn<'_>) {
        let (State::Stopping(Step::Countdown { ends, next }), Some(intent)) =
            (&mut self.state, &self.record.intent)
        else {
            return;
        };
        let left = ends.saturating_sub(turn.now.mono);
        let later = self.policy.announce.at.iter().filter(|at| **at < left).max().copied();
        *next = ends.saturating_sub(later.unwrap_or(Duration::ZERO));
        let (kind, reason) = (intent.kind, intent.reason.clone());
        self.act(turn, Output::Announce { kind, left, reason });
    }

    // --- save ---

    pub(super) fn begin_save(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now.mono;
        let ready = self.record.process.as_ref().is_some_and(|kept| kept.ready);
        let Some(operation) = self.operation() else { return };
        if !ready || !self.policy.save.ask {
            self.begin_rung(turn, 0);
            return;
        }
        let fresh = self.saved_at.is_some_and(|at| {
            !self.policy.save.fresh.is_zero() && now.saturating_sub(at) <= self.policy.save.fresh
        });
        if fresh {
            let note = "a save of a moment ago is enough".to_owned();
            turn.history(Happening::Saved { operation, confirmed: true, note });
            self.begin_rung(turn, 0);
            return;
        }
        self.set_step(IntentStep::Saving);
        let until = now.saturating_add(self.policy.save.wait);
        let stale = self.saving_since.is_some();
        self.state = State::Stopping(Step::Saving { until, stale });
        self.act(turn, Output::Save { operation });
    }

    pub(super) fn save_began(&mut self, turn: &Turn<'_>) {
        self.saving_since = Some(turn.now.mono);
        if let State::Stopping(Step::Saving { stale, .. }) = &mut self.state {
            *stale = false;
        }
    }

    pub(super) fn saved(&mut self, turn: &mut Turn<'_>) {
        self.saving_since = None;
        self.saved_at = Some(turn.now.mono);
        self.watch.excuse(turn.now.mono);
        let State::Stopping(Step::Saving { stale, .. }) = &mut self.state else { return };
        if !std::mem::take(stale)
            && let Some(operation) = self.operation()
        {
            let note = "the game confirmed it".to_owned();
            turn.history(Happening::Saved { operation, confirmed: true, note });
            self.begin_rung(turn, 0);
        }
    }

    pub(super) fn save_failed(&mut self, turn: &mut Turn<'_>, error: &str) {
        if matches!(self.state, State::Stopping(Step::Saving { .. })) {
            self.save_missing(turn, error);
        }
    }

    fn save_missing(&mut self, turn: &mut Turn<'_>, note: &str) {
        let Some(operation) = self.operation() else { return };
        turn.history(Happening::Saved { operation, confirmed: false, note: note.to_owned() });
        let title = "The save before the stop was not confirmed";
        let notice = Notice::new(NoticeKind::SaveNotConfirmed, Severity::Warning, title);
        turn.notify(notice.fact("because", note).fact("next", "it is stopped all the same"));
        self.begin_rung(turn, 0);
    }

    // --- rungs ---

    pub(super) fn begin_rung(&mut self, turn: &mut Turn<'_>, from: usize) {
        let Some(operation) = self.operation() else { return };
        for index in from..self.policy.ladder.rungs.len() {
            let Rung { action, wait } = self.policy.ladder.rungs[index];
            if action == Action::Kill {
                break;
            }
            if self.is_deadly(action, index) {
                self.rung_result(turn, index, "left out: the process does not catch this signal");
                continue;
            }
            self.set_step(IntentStep::Rung { index, action, at: turn.now.wall });
            let until = turn.now.mono.saturating_add(wait);
            self.state = State::Stopping(Step::Rung { index, until });
            self.act(turn, Output::Rung { operation, index, action });
            return;
        }
        self.begin_kill(turn);
    }

    /// A signal that is not caught kills, so the gentler rungs after it come first.
    fn is_deadly(&self, action: Action, index: usize) -> bool {
        let later = &self.policy.ladder.rungs[index + 1..];
        action == Action::Signal(SIGTERM)
            && self.catches_sigterm == Some(false)
            && later.iter().any(|rung| rung.action != Action::Kill)
    }

    pub(super) fn rung_done(
        &mut self,
        turn: &mut Turn<'_>,
        operation: OperationId,
        index: usize,
        error: Option<String>,
    ) {
        let here =
            matches!(&self.state, State::Stopping(Step::Rung { index: at, .. }) if *at == index);
        if !here || self.operation() != Some(operation) {
            return;
        }
        match error {
            None => self.rung_result(turn, index, "carried out"),
            Some(error) => {
                self.rung_result(turn, index, &format!("failed: {error}"));
                self.begin_rung(turn, index + 1);
            }
        }
    }

    fn rung_result(&mut self, turn: &mut Turn<'_>, index: usize, result: &str) {
        let (Some(operation), Some(rung)) = (self.operation(), self.policy.ladder.rungs.get(index))
        else {
            return;
        };
        let (action, result) = (rung.action, result.to_owned());
        turn.history(Happening::Rung { operation, index, action, result });
    }

    // --- kill ---

    pub(super) fn begin_kill(&mut self, turn: &mut Turn<'_>) {
        let Some(operation) = self.operation() else { return };
        self.set_step(IntentStep::Killing);
        let now = turn.now.mono;
        let index = self.policy.ladder.rungs.len();
        let result = "the tree is killed".to_owned();
        turn.history(Happening::Rung { operation, index, action: Action::Kill, result });
        let again = now.saturating_add(policy::KILL_AGAIN);
        self.state = State::Stopping(Step::Killing { since: now, again, told: false });
        self.act(turn, Output::KillTree);
    }

    fn kill_again(&mut self, turn: &mut Turn<'_>) {
        let State::Stopping(Step::Killing { since, again, told }) = &mut self.state else { return };
        *again = turn.now.mono.saturating_add(policy::KILL_AGAIN);
        let long = turn.now.mono.saturating_sub(*since) >= policy::UNKILLABLE_TOLD_AFTER;
        if long && !std::mem::replace(told, true) {
            Self::tell_unkillable(turn);
        }
        self.act(turn, Output::KillTree);
    }

    pub(super) fn tell_unkillable(turn: &mut Turn<'_>) {
        turn.history(Happening::Unkillable);
        let title = "It was killed and does not end: its disk or its system may hang";
        turn.notify(Notice::new(NoticeKind::Unkillable, Severity::Critical, title));
    }

    // --- small things ---

    pub(super) fn set_step(&mut self, step: IntentStep) {
        if let Some(intent) = &mut self.record.intent {
            intent.step = step;
            self.touch();
        }
    }

    pub(super) fn operation(&self) -> Option<OperationId> {
        self.record.intent.as_ref().map(|intent| intent.operation)
    }

    /// The intent is on disk. It may be one that an earlier Naru began, and what it noted may have been done or
    /// not.
    fn go_down(&mut self, turn: &mut Turn<'_>) {
        let Some(intent) = &self.record.intent else { return };
        if self.record.process.is_none() {
            // There is nothing to kill yet.
            self.proceed(turn);
            return;
        }
        // Somebody started it in the middle of a backup: it is stopped like anything else.
        let held = matches!(intent.step, IntentStep::Held { .. });
        if intent.forced || (turn.now.wall > intent.deadline && !held) {
            self.begin_kill(turn);
            return;
        }
        match intent.step.clone() {
            IntentStep::Begun | IntentStep::Held { .. } => self.proceed(turn),
            IntentStep::Countdown { until } => {
                let left = until.since(turn.now.wall).min(intent.countdown);
                self.begin_countdown(turn, left);
            }
            IntentStep::Saving => self.begin_save(turn),
            IntentStep::Rung { index, action: Action::Signal(_), at } => {
                // A second signal makes some games drop what they were saving (ioquake3), so it is only waited for.
                let wait =
                    self.policy.ladder.rungs.get(index).map_or(Duration::ZERO, |rung| rung.wait);
                let left = wait.saturating_sub(turn.now.wall.since(at));
                let until = turn.now.mono.saturating_add(left);
                self.state = State::Stopping(Step::Rung { index, until });
            }
            IntentStep::Rung { index, .. } => self.begin_rung(turn, index),
            IntentStep::Killing => self.begin_kill(turn),
        }
    }
}
