//! What people and schedules want. One stop at a time: a second one joins the first, a kill hastens it.

use std::time::Duration;

use super::exchange::{Answer, Order, Outcome, Output, Refusal, Wish};
use super::history::Happening;
use super::machine::{Life, Next, State, Turn};
use super::record::{By, Goal, Hint, IntentKind, IntentStep, OperationId};
use super::start::Start;
use super::stop::Step;

impl Life {
    pub(super) fn order(&mut self, turn: &mut Turn<'_>, request: u64, order: Order) {
        let wish = order.wish;
        let (by, reason) = (order.by.clone(), order.reason.clone());
        let at = turn.out.len();
        if wish != Wish::Cancel {
            // A person's word weighs more than evidence that may still come.
            self.judged = None;
        }
        let answer = match wish {
            Wish::Start => self.order_start(turn, order),
            Wish::Stop => self.order_stop(turn, IntentKind::Stop, order),
            Wish::Kill => self.order_stop(turn, IntentKind::Kill, order),
            Wish::Restart => self.order_restart(turn, order),
            Wish::Backup => self.order_backup(turn, order),
            Wish::Release(operation) => self.order_release(turn, operation),
            Wish::Cancel => self.order_cancel(turn, order),
        };
        let operation = match answer {
            Answer::Accepted(operation) | Answer::Joined(operation) => Some(operation),
            Answer::Already => None,
            Answer::Refused(_) => {
                turn.out.push(Output::Answer { request, answer });
                return;
            }
        };
        // The wish stands in the history before what it led to.
        let what = Happening::Ordered { wish, by, reason, operation };
        turn.out.insert(at, Output::History(super::Event { at: turn.now.wall, what }));
        turn.out.push(Output::Answer { request, answer });
    }

    fn order_start(&mut self, turn: &mut Turn<'_>, order: Order) -> Answer {
        let alive = self.record.process.is_some();
        if !self.policy.launchable && !alive {
            return Answer::Refused(Refusal::NoCommand);
        }
        self.refill(&order.by);
        self.want(turn, Goal::Running, order.by, order.reason);
        match &mut self.state {
            State::Stopped | State::GaveUp | State::Waiting { .. } => {
                let operation = self.next_operation();
                self.done(turn, Outcome::Cancelled);
                self.record.pending = Some(operation);
                self.begin_start(turn);
                Answer::Accepted(operation)
            }
            // It comes up as soon as nothing is left of the last one.
            State::Settling { ended, .. } => {
                ended.overruled = true;
                self.answer_pending()
            }
            State::Clearing { next: Next::Hold, .. } => self.join_up(),
            State::Clearing { next, .. } => {
                *next = Next::Start;
                self.answer_pending()
            }
            State::Starting(_) | State::Booting => self.answer_pending(),
            State::Running | State::Hung { .. } => Answer::Already,
            State::Stopping(_) | State::Held { .. } | State::Lost { .. } => self.join_up(),
        }
    }

    /// Something is under way that ends in a start, or does now.
    fn join_up(&mut self) -> Answer {
        match &mut self.record.intent {
            Some(intent) => {
                if matches!(intent.kind, IntentKind::Stop | IntentKind::Kill) {
                    intent.kind = IntentKind::Restart;
                }
                Answer::Joined(intent.operation)
            }
            None => self.answer_pending(),
        }
    }

    fn answer_pending(&mut self) -> Answer {
        if let Some(operation) = self.record.pending {
            return Answer::Joined(operation);
        }
        let operation = self.next_operation();
        self.record.pending = Some(operation);
        Answer::Accepted(operation)
    }

    /// A person looked at it; a schedule did not.
    fn refill(&mut self, by: &By) {
        if !matches!(by, By::Schedule(_)) {
            self.record.budget.refill();
            self.touch();
        }
    }

    fn order_stop(&mut self, turn: &mut Turn<'_>, kind: IntentKind, order: Order) -> Answer {
        let before = self.record.desired.clone();
        self.want(turn, Goal::Stopped, order.by.clone(), order.reason.clone());
        match &mut self.state {
            State::Stopped | State::GaveUp | State::Waiting { .. } => {
                self.come_to_rest(turn);
                Answer::Already
            }
            State::Starting(Start::Ports { .. } | Start::Recording { .. }) => {
                self.record.launching = None;
                self.done(turn, Outcome::Cancelled);
                self.come_to_rest(turn);
                Answer::Already
            }
            State::Settling { ended, .. } => {
                ended.overruled = true;
                self.done(turn, Outcome::Cancelled);
                self.answer_pending()
            }
            State::Clearing { next, kill_at, .. } => {
                let held = *next == Next::Hold;
                if kind == IntentKind::Kill {
                    *kill_at = turn.now.mono;
                }
                if held {
                    return self.join_up();
                }
                *next = Next::Stop;
                self.done(turn, Outcome::Cancelled);
                self.answer_pending()
            }
            State::Held { .. } => self.join_down(turn, kind, &order),
            State::Stopping(_) | State::Lost { .. } if self.record.intent.is_some() => {
                self.join_down(turn, kind, &order)
            }
            State::Lost { .. } => {
                let operation = self.write_intent(turn, kind, &order, before);
                Answer::Accepted(operation)
            }
            State::Starting(Start::Launching { .. })
            | State::Booting
            | State::Running
            | State::Hung { .. }
            | State::Stopping(_) => {
                let operation = self.write_intent(turn, kind, &order, before);
                self.begin_ladder(turn);
                Answer::Accepted(operation)
            }
        }
    }

    /// A second stop is the first one; a stronger one makes it shorter.
    fn join_down(&mut self, turn: &mut Turn<'_>, kind: IntentKind, order: &Order) -> Answer {
        let Some(intent) = &mut self.record.intent else { return Answer::Already };
        let operation = intent.operation;
        match kind {
            IntentKind::Restart if matches!(intent.kind, IntentKind::Stop | IntentKind::Kill) => {
                intent.kind = IntentKind::Restart;
            }
            IntentKind::Stop if intent.kind == IntentKind::Restart => {
                intent.kind = IntentKind::Stop
            }
            IntentKind::Kill if matches!(intent.kind, IntentKind::Stop | IntentKind::Restart) => {
                intent.kind = IntentKind::Kill;
            }
            _ => (),
        }
        self.touch();
        if kind == IntentKind::Kill && !matches!(self.state, State::Held { .. }) {
            self.force(turn);
        } else if let Some(countdown) = order.countdown {
            self.shorten_countdown(turn, countdown);
        }
        Answer::Joined(operation)
    }

    fn order_restart(&mut self, turn: &mut Turn<'_>, order: Order) -> Answer {
        if !self.policy.launchable {
            return Answer::Refused(Refusal::NoCommand);
        }
        match &self.state {
            State::Booting | State::Running | State::Hung { .. } => {
                let before = self.record.desired.clone();
                self.refill(&order.by);
                self.want(turn, Goal::Running, order.by.clone(), order.reason.clone());
                let operation = self.write_intent(turn, IntentKind::Restart, &order, before);
                self.begin_ladder(turn);
                Answer::Accepted(operation)
            }
            State::Stopping(_) | State::Lost { .. } if self.record.intent.is_some() => {
                self.refill(&order.by);
                self.want(turn, Goal::Running, order.by.clone(), order.reason.clone());
                self.join_down(turn, IntentKind::Restart, &order)
            }
            State::Lost { .. } => {
                let before = self.record.desired.clone();
                self.want(turn, Goal::Running, order.by.clone(), order.reason.clone());
                Answer::Accepted(self.write_intent(turn, IntentKind::Restart, &order, before))
            }
            // There is nothing to stop, or it is on its way up.
            _ => self.order_start(turn, order),
        }
    }

    fn order_backup(&mut self, turn: &mut Turn<'_>, order: Order) -> Answer {
        let before = self.record.desired.clone();
        match &self.state {
            State::Booting | State::Running => {
                let operation = self.write_intent(turn, IntentKind::Backup, &order, before);
                self.begin_ladder(turn);
                Answer::Accepted(operation)
            }
            State::Stopped | State::GaveUp | State::Waiting { .. } => {
                let operation = self.write_intent(turn, IntentKind::Backup, &order, before);
                self.done(turn, Outcome::Cancelled);
                self.hold(turn);
                Answer::Accepted(operation)
            }
            _ => Answer::Refused(Refusal::Busy),
        }
    }

    fn order_release(&mut self, turn: &mut Turn<'_>, operation: OperationId) -> Answer {
        let held = self.record.intent.as_ref().is_some_and(|intent| intent.operation == operation);
        if !held || !matches!(self.state, State::Held { .. }) {
            return Answer::Refused(Refusal::NotHeld);
        }
        self.hold_over(turn, true);
        Answer::Joined(operation)
    }

    fn order_cancel(&mut self, turn: &mut Turn<'_>, order: Order) -> Answer {
        let Some(intent) = &self.record.intent else {
            return Answer::Refused(Refusal::NothingToCancel);
        };
        let early = matches!(intent.step, IntentStep::Begun | IntentStep::Countdown { .. });
        let counting =
            matches!(self.state, State::Stopping(Step::Recording { .. } | Step::Countdown { .. }));
        if !early || !counting || intent.kind.is_forced() || intent.forced {
            return Answer::Refused(Refusal::TooLate);
        }
        let operation = intent.operation;
        let announced = matches!(intent.step, IntentStep::Countdown { .. });
        self.record.desired = intent.before.clone();
        self.record.intent = None;
        self.touch();
        turn.history(Happening::StopCancelled { operation, by: order.by });
        if announced {
            self.act(turn, Output::AnnounceCancelled);
        }
        turn.out.push(Output::Done { operation, outcome: Outcome::Cancelled });
        if self.record.process.is_some() {
            self.live_on(turn);
        } else {
            self.relaunch_wait(turn);
        }
        Answer::Joined(operation)
    }

    /// Down, nothing on its way.
    pub(super) fn come_to_rest(&mut self, turn: &mut Turn<'_>) {
        if !matches!(self.state, State::Stopped) {
            turn.history(Happening::Stopped);
        }
        self.record.hint = Hint::None;
        self.state = State::Stopped;
        self.touch();
        self.done(turn, Outcome::Stopped);
    }

    /// How long players are told before the end.
    pub(super) fn countdown(&self, kind: IntentKind, asked: Option<Duration>) -> Duration {
        if kind.is_forced() {
            Duration::ZERO
        } else {
            asked.unwrap_or(self.policy.announce.countdown)
        }
    }
}
