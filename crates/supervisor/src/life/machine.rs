//! The machine itself: its states, the order of what one input leads to, its timers, and what it keeps on
//! disk. What happens in each state stands in the neighbours: `command`, `start`, `stop`, `ended`, `adopt`.

use std::sync::Arc;
use std::time::Duration;

use naru_domain::Timestamp;

use super::Moment;
use super::exchange::{Found, Input, Outcome, Output, Phase, Status, Tree};
use super::exit::{self, Book, Rules};
use super::hang::{HangWatch, Sign};
use super::history::{Event, Happening, Notice, NoticeKind};
use super::policy::{self, HangAction, LifePolicy};
use super::record::{By, Desired, Goal, IntentKind, Kept, OperationId, Record};
use super::start::Start;
use super::stop::Step;
use crate::model::{Ending, Exit, ProcessId, Severity};

/// Where a ward is, with what is due there.
#[derive(Debug)]
pub(super) enum State {
    Stopped,
    Starting(Start),
    Booting,
    Running,
    Hung { sign: Sign, kill_at: Option<Duration> },
    Stopping(Step),
    Settling { ended: Ended, until: Duration },
    Clearing { next: Next, kill_at: Duration, since: Duration, told: bool },
    Waiting { until: Duration },
    Held { until: Duration },
    GaveUp,
    Lost { locate_at: Duration, since: Duration, told: bool },
}

/// An exit that was not judged yet.
#[derive(Clone, Debug)]
pub(super) struct Ended {
    pub(super) process: Kept,
    pub(super) exit: Exit,
    /// When it was, on the scale of the monotonic clock in milliseconds.
    pub(super) ended_ms: i64,
    pub(super) tree: Tree,
    pub(super) rebooted: bool,
    /// Somebody wants it up, or down, since: what follows is theirs to say.
    pub(super) overruled: bool,
}

/// What follows once nothing is left of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Stop,
    Start,
    Wait(Duration),
    GiveUp,
    Hold,
}

/// An act that waits for its record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gate {
    seq: u64,
    until: Duration,
}

/// What is known of the disk.
#[derive(Debug, Default)]
struct Store {
    dirty: bool,
    sent: u64,
    done: u64,
    again_at: Option<Duration>,
    told: bool,
}

/// One call: when it is, and where outputs go.
pub(super) struct Turn<'a> {
    pub(super) now: Moment,
    pub(super) dice: u64,
    pub(super) out: &'a mut Vec<Output>,
}

impl Turn<'_> {
    pub(super) fn history(&mut self, what: Happening) {
        self.out.push(Output::History(Event { at: self.now.wall, what }));
    }

    pub(super) fn notify(&mut self, notice: Notice) {
        self.out.push(Output::Notify(notice));
    }

    pub(super) fn in_future(&self, at: Timestamp, at_most: Duration) -> Duration {
        self.now.mono.saturating_add(at.since(self.now.wall).min(at_most))
    }
}

/// The life of one ward. See the module's page for how to use it.
#[derive(Debug)]
pub struct Life {
    pub(super) policy: Arc<LifePolicy>,
    pub(super) record: Record,
    pub(super) state: State,
    pub(super) book: Book,
    pub(super) watch: HangWatch,
    pub(super) boot_until: Duration,
    /// When the process was launched, on the monotonic clock; before its origin if adopted.
    pub(super) launched_ms: i64,
    pub(super) catches_sigterm: Option<bool>,
    pub(super) restarts_held: Option<String>,
    pub(super) players: Option<u32>,
    pub(super) saving_since: Option<Duration>,
    pub(super) saved_at: Option<Duration>,
    /// The last exit with what was known, for evidence that comes late.
    pub(super) judged: Option<(Ended, Desired)>,
    store: Store,
    last: Moment,
    due_at: Option<Duration>,
}

impl Life {
    pub(super) fn bare(policy: Arc<LifePolicy>, record: Record, now: Moment) -> Life {
        Life {
            policy,
            record,
            state: State::Stopped,
            book: Book::default(),
            watch: HangWatch::default(),
            boot_until: Duration::ZERO,
            launched_ms: 0,
            catches_sigterm: None,
            restarts_held: None,
            players: None,
            saving_since: None,
            saved_at: None,
            judged: None,
            store: Store::default(),
            last: now,
            due_at: None,
        }
    }

    /// Takes one input, and adds what is to be done to `out`, in order. `dice` is any evenly distributed number;
    /// it decides the pause before a restart. Whatever is due at `now` happens in the same call.
    pub fn handle(&mut self, now: Moment, dice: u64, input: Input, out: &mut Vec<Output>) {
        let mut turn = Turn { now, dice, out };
        self.look_at_clocks(&mut turn);
        self.take(&mut turn, input);
        self.finish(&mut turn);
    }

    /// What is due, and what has to be on disk. The end of every call.
    pub(super) fn finish(&mut self, turn: &mut Turn<'_>) {
        // Each round leaves one state for another; the longest chain has four (a start without ports to look at).
        for _ in 0..8 {
            if !self.timers(turn) {
                break;
            }
        }
        self.retry_store(turn);
        self.save(turn);
        self.due_at = self.next_timer();
    }

    /// When to come back with [`Input::Wake`], on the monotonic clock.
    #[must_use]
    pub fn next_wake(&self) -> Option<Duration> {
        self.due_at
    }

    /// New settings. What is under way goes on by them from its next step.
    pub fn set_policy(&mut self, policy: Arc<LifePolicy>) {
        self.policy = policy;
        self.due_at = self.next_timer();
    }

    /// What is on its way to the disk, or there.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Where it is.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match &self.state {
            State::Stopped => Phase::Stopped,
            State::Starting(_) | State::Booting => Phase::Starting,
            State::Running => Phase::Running,
            State::Hung { .. } => Phase::Hung,
            State::Stopping(_) => Phase::Stopping,
            State::Settling { .. } | State::Clearing { .. } => Phase::Ending,
            State::Waiting { .. } => Phase::Waiting,
            State::Held { .. } => Phase::Held,
            State::GaveUp => Phase::GaveUp,
            State::Lost { .. } => Phase::Lost,
        }
    }

    /// Where it is, for people.
    #[must_use]
    pub fn status(&self, now: Moment) -> Status<'_> {
        let process = self.record.process.as_ref();
        Status {
            phase: self.phase(),
            desired: &self.record.desired,
            process: process.map(|kept| &kept.id),
            launched: process.map(|kept| kept.launched),
            watched: process.is_some_and(|kept| kept.watched),
            intent: self.record.intent.as_ref(),
            last: self.record.last.as_ref(),
            next_in: self.state_timer().map(|at| at.saturating_sub(now.mono)),
            tries_left: self.record.budget.left(now.wall, &self.policy.restart),
            restarts_held: self.restarts_held.as_deref(),
        }
    }

    pub(super) fn rules(&self) -> Rules<'_> {
        Rules {
            exit: &self.policy.exit,
            learned: &self.record.learned,
            restart: self.policy.restart.on,
            launchable: self.policy.launchable,
            wanted: self.record.desired.goal == Goal::Running,
        }
    }

    fn look_at_clocks(&mut self, turn: &mut Turn<'_>) {
        // The caller's clock never goes back; if it did, waits would only become longer.
        turn.now.mono = turn.now.mono.max(self.last.mono);
        let wall_ms = turn.now.wall.0.saturating_sub(self.last.wall.0);
        let drift_ms = wall_ms.saturating_sub(exit::millis(turn.now.mono - self.last.mono));
        let jumped = drift_ms.unsigned_abs()
            > u64::try_from(policy::CLOCK_JUMP.as_millis()).unwrap_or(u64::MAX);
        if jumped {
            self.record.shift(drift_ms);
            self.touch();
        }
        // Late by this much we were starved, or slept, and so did the game's answers.
        let late =
            self.due_at.is_some_and(|due| turn.now.mono.saturating_sub(due) > policy::CLOCK_JUMP);
        if jumped || late {
            self.watch.excuse(turn.now.mono);
        }
        self.last = turn.now;
    }

    fn take(&mut self, turn: &mut Turn<'_>, input: Input) {
        match input {
            Input::Wake => (),
            Input::Order { request, order } => self.order(turn, request, order),
            Input::Persisted(seq) => self.persisted(seq),
            Input::PersistFailed(seq) => self.persist_failed(turn, seq),
            Input::Ports(ports) => self.ports(turn, ports),
            Input::Launched { launch, process } => self.launched(turn, launch, process),
            Input::LaunchFailed { launch, error } => self.launch_failed(turn, launch, error),
            Input::Ready { how } => self.ready(turn, how),
            Input::CatchesSigterm(catches) => self.catches_sigterm = Some(catches),
            Input::Exited { process, exit, tree } => self.exited(turn, &process, exit, tree),
            Input::TreeGone => self.tree_gone(turn),
            Input::Evidence { launch: Some(launch), .. } if launch != self.record.launches => (),
            Input::Evidence { evidence, age, .. } => {
                self.book.note(evidence, turn.now, age);
                self.evidence_came(turn, false);
            }
            Input::EvidenceComplete => self.evidence_came(turn, true),
            Input::RungDone { operation, index, error } => {
                self.rung_done(turn, operation, index, error)
            }
            Input::SaveBegan => self.save_began(turn),
            Input::Saved => self.saved(turn),
            Input::SaveFailed(error) => self.save_failed(turn, &error),
            Input::ProbeAnswered => self.probe_answered(turn),
            Input::ProbeMissed { starved } => self.probe_missed(turn, starved),
            Input::TickFrozen(span) => self.frozen(turn, "its ticks", span),
            Input::UptimeFrozen(span) => self.frozen(turn, "its uptime", span),
            Input::TickMoves => self.thawed(turn),
            Input::Cpu(state) => self.watch.cpu(state),
            Input::Captured => self.captured(turn),
            Input::Players(players) => self.players = players,
            Input::KeeperLost => self.keeper_lost(turn),
            Input::Found(found) => self.found(turn, found, false),
            Input::RestartsHeld(why) => self.restarts_held = why,
        }
    }

    // --- what is on disk ---

    /// Something changed that must survive.
    pub(super) fn touch(&mut self) {
        self.store.dirty = true;
    }

    pub(super) fn save(&mut self, turn: &mut Turn<'_>) {
        if std::mem::take(&mut self.store.dirty) {
            self.store.sent += 1;
            // No answer counts as a failure.
            self.store.again_at = Some(turn.now.mono.saturating_add(policy::PERSIST_AGAIN_LATER));
            let record = Box::new(self.record.clone());
            turn.out.push(Output::Persist { seq: self.store.sent, record });
        }
    }

    /// An act: the record goes first.
    pub(super) fn act(&mut self, turn: &mut Turn<'_>, output: Output) {
        self.save(turn);
        turn.out.push(output);
    }

    /// Writes what is to be known before the next act.
    pub(super) fn gate(&mut self, turn: &mut Turn<'_>) -> Gate {
        self.touch();
        self.save(turn);
        Gate { seq: self.store.sent, until: turn.now.mono.saturating_add(policy::PERSIST_WAIT) }
    }

    /// Whether the act may happen: it is on disk, or it waited long enough, and somebody is told.
    pub(super) fn passes(&mut self, turn: &mut Turn<'_>, gate: Gate, what: &str) -> bool {
        if self.store.done >= gate.seq {
            return true;
        }
        if turn.now.mono < gate.until {
            return false;
        }
        turn.history(Happening::NotRecorded { what: what.to_owned() });
        if !std::mem::replace(&mut self.store.told, true) {
            let title = "What is done with this ward cannot be written to disk";
            turn.notify(
                Notice::new(NoticeKind::NotRecorded, Severity::Warning, title).fact("act", what),
            );
        }
        true
    }

    pub(super) fn gate_timer(&self, gate: Gate) -> Duration {
        if self.store.done >= gate.seq { Duration::ZERO } else { gate.until }
    }

    fn persisted(&mut self, seq: u64) {
        self.store.done = self.store.done.max(seq.min(self.store.sent));
        if self.store.done == self.store.sent {
            self.store.again_at = None;
            self.store.told = false;
        }
    }

    fn persist_failed(&mut self, turn: &Turn<'_>, seq: u64) {
        if seq == self.store.sent {
            let gated = matches!(
                self.state,
                State::Stopping(Step::Recording { .. }) | State::Starting(Start::Recording { .. })
            );
            let pause = if gated { policy::PERSIST_AGAIN } else { policy::PERSIST_AGAIN_LATER };
            self.store.again_at = Some(turn.now.mono.saturating_add(pause));
        }
    }

    fn retry_store(&mut self, turn: &Turn<'_>) {
        if self.store.again_at.is_some_and(|at| at <= turn.now.mono) {
            self.touch();
        }
    }

    // --- timers ---

    fn state_timer(&self) -> Option<Duration> {
        match &self.state {
            State::Stopped | State::GaveUp => None,
            State::Starting(start) => Some(self.start_timer(start)),
            State::Booting => Some(self.boot_timer()),
            State::Running => self.watch.due(&self.policy.hang),
            State::Hung { kill_at, .. } => *kill_at,
            State::Stopping(step) => Some(self.step_timer(step)),
            State::Settling { until, .. } | State::Held { until } => Some(*until),
            State::Clearing { kill_at, .. } => Some(*kill_at),
            State::Waiting { until } => self.restarts_held.is_none().then_some(*until),
            State::Lost { locate_at, .. } => Some(*locate_at),
        }
    }

    fn next_timer(&self) -> Option<Duration> {
        [self.state_timer(), self.store.again_at].into_iter().flatten().min()
    }

    /// Does what is due in this state; true if there may be more.
    fn timers(&mut self, turn: &mut Turn<'_>) -> bool {
        if self.state_timer().is_none_or(|at| at > turn.now.mono) {
            return false;
        }
        match &self.state {
            State::Stopped | State::GaveUp => false,
            State::Starting(_) => self.start_due(turn),
            State::Booting => self.boot_due(turn),
            State::Running => self.hang_due(turn),
            State::Hung { .. } => {
                self.captured(turn);
                true
            }
            State::Stopping(_) => self.step_due(turn),
            State::Settling { .. } => {
                self.evidence_came(turn, true);
                true
            }
            State::Clearing { .. } => self.clearing_due(turn),
            State::Waiting { .. } => {
                self.begin_start(turn);
                true
            }
            State::Held { .. } => {
                self.hold_over(turn, false);
                true
            }
            State::Lost { .. } => self.lost_due(turn),
        }
    }

    // --- small things that all states need ---

    pub(super) fn want(&mut self, turn: &Turn<'_>, goal: Goal, by: By, why: impl Into<String>) {
        self.record.desired = Desired { goal, by, at: turn.now.wall, why: why.into() };
        self.touch();
    }

    pub(super) fn next_operation(&mut self) -> OperationId {
        self.record.operations += 1;
        self.touch();
        OperationId(self.record.operations)
    }

    /// Ends what somebody waits for.
    pub(super) fn done(&mut self, turn: &mut Turn<'_>, outcome: Outcome) {
        if let Some(operation) = self.record.pending.take() {
            self.touch();
            turn.out.push(Output::Done { operation, outcome });
        }
    }

    /// How long the process has lived.
    pub(super) fn age(&self, now: Moment) -> Duration {
        let ms = exit::millis(now.mono).saturating_sub(self.launched_ms);
        Duration::from_millis(u64::try_from(ms).unwrap_or(0))
    }

    /// A process that is the ward from now on.
    pub(super) fn take_process(&mut self, turn: &Turn<'_>, id: ProcessId, watched: bool) {
        self.record.launching = None;
        self.record.hint = super::record::Hint::None;
        self.record.process =
            Some(Kept { id, launched: turn.now.wall, ready: false, answered: false, watched });
        self.launched_ms = exit::millis(turn.now.mono);
        self.boot_until = turn.now.mono.saturating_add(self.policy.ready.deadline);
        self.catches_sigterm = None;
        self.players = None;
        self.saving_since = None;
        self.saved_at = None;
        self.judged = None;
        self.book.clear();
        self.watch = HangWatch::default();
        self.touch();
    }

    /// To the state that a living process without an intent has.
    pub(super) fn live_on(&mut self, turn: &Turn<'_>) {
        let Some(kept) = &self.record.process else { return };
        if kept.ready {
            self.watch.begin(turn.now.mono, kept.answered);
            self.state = State::Running;
        } else {
            self.state = State::Booting;
        }
    }

    // --- hangs ---

    /// A save excuses silence, but not for ever.
    fn saving(&mut self, now: Duration) -> bool {
        let Some(since) = self.saving_since else { return false };
        let excused_until = since.saturating_add(self.policy.save.mask_max);
        if now < excused_until {
            return true;
        }
        self.saving_since = None;
        self.watch.excuse(excused_until);
        false
    }

    fn probe_answered(&mut self, turn: &mut Turn<'_>) {
        if self.watch.answer(turn.now.mono)
            && let Some(kept) = &mut self.record.process
            && !std::mem::replace(&mut kept.answered, true)
        {
            self.touch();
        }
        self.recovered(turn, Sign::Silent);
    }

    fn thawed(&mut self, turn: &mut Turn<'_>) {
        self.watch.thaw();
        self.recovered(turn, Sign::Frozen);
    }

    fn recovered(&mut self, turn: &mut Turn<'_>, ended: Sign) {
        if matches!(&self.state, State::Hung { sign, .. } if *sign == ended) {
            self.live_on(turn);
            turn.history(Happening::Recovered);
            turn.notify(Notice::new(NoticeKind::Recovered, Severity::Info, "Works again"));
        }
    }

    fn probe_missed(&mut self, turn: &mut Turn<'_>, starved: bool) {
        if !matches!(self.state, State::Running) || self.saving(turn.now.mono) {
            return;
        }
        if starved {
            self.watch.excuse(turn.now.mono);
        } else {
            self.watch.miss();
            self.hang_due(turn);
        }
    }

    fn frozen(&mut self, turn: &mut Turn<'_>, what: &'static str, span: Duration) {
        if !matches!(self.state, State::Running) || self.saving(turn.now.mono) {
            return;
        }
        self.watch.freeze(turn.now.mono, what, span);
        self.hang_due(turn);
    }

    fn hang_due(&mut self, turn: &mut Turn<'_>) -> bool {
        if self.saving(turn.now.mono) {
            self.watch.excuse(turn.now.mono);
            return false;
        }
        let Some((sign, reasons)) = self.watch.check(turn.now.mono, &self.policy.hang) else {
            return false;
        };
        let kill = self.policy.hang.action == HangAction::Kill;
        let mut notice =
            Notice::new(NoticeKind::Hung, Severity::Critical, "Lives, but does not work");
        for reason in &reasons {
            notice = notice.fact("because", reason.text.clone());
        }
        turn.history(Happening::Hung { reasons });
        turn.notify(
            notice.fact("next", if kill { "it is killed" } else { "nothing, as its settings say" }),
        );
        self.act(turn, Output::Capture);
        let kill_at = kill.then(|| turn.now.mono.saturating_add(policy::CAPTURE_WAIT));
        self.state = State::Hung { sign, kill_at };
        true
    }

    /// What shows why it hangs is noted, or took too long.
    fn captured(&mut self, turn: &mut Turn<'_>) {
        if matches!(self.state, State::Hung { kill_at: Some(_), .. }) {
            self.open_intent(
                turn,
                IntentKind::Hang,
                By::Naru,
                "it hung".to_owned(),
                Duration::ZERO,
            );
        }
    }

    // --- out of sight ---

    fn keeper_lost(&mut self, turn: &mut Turn<'_>) {
        let looks = matches!(
            self.state,
            State::Booting
                | State::Running
                | State::Hung { .. }
                | State::Stopping(_)
                | State::Starting(Start::Launching { .. })
        );
        if looks {
            self.lose(turn, "its keeper does not answer");
        }
    }

    pub(super) fn lose(&mut self, turn: &mut Turn<'_>, why: &str) {
        turn.history(Happening::Lost { why: why.to_owned() });
        self.state = State::Lost { locate_at: turn.now.mono, since: turn.now.mono, told: false };
    }

    fn lost_due(&mut self, turn: &mut Turn<'_>) -> bool {
        let State::Lost { locate_at, since, told } = &mut self.state else { return false };
        *locate_at = turn.now.mono.saturating_add(policy::LOCATE_AGAIN);
        let long = turn.now.mono.saturating_sub(*since) >= policy::LOST_TOLD_AFTER;
        if long && !std::mem::replace(told, true) {
            let title = "Nobody can say whether it runs";
            turn.notify(Notice::new(NoticeKind::Lost, Severity::Critical, title));
        }
        self.act(turn, Output::Locate);
        false
    }

    /// An exit of which only its absence is known.
    pub(super) fn exit_or_unknown(exit: Option<Exit>, now: Moment) -> Exit {
        exit.unwrap_or(Exit { ending: Ending::Unknown, at: now.wall })
    }

    pub(super) fn found_gone(exit: Option<Exit>) -> Found {
        Found::Gone { exit, tree: Tree::Gone }
    }
}
