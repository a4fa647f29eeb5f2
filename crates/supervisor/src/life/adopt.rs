//! A new Naru, or one that lost sight of a ward, goes on where things are. What runs is never touched for
//! that; what ended meanwhile is judged by what its keeper wrote down.

use std::sync::Arc;
use std::time::Duration;

use super::Moment;
use super::exchange::{Found, Output, Tree};
use super::exit::{self, Verdict};
use super::history::{Happening, Notice, NoticeKind};
use super::machine::{Life, Next, State, Turn};
use super::policy::{self, LifePolicy};
use super::record::{By, Goal, Hint, IntentKind, IntentStep, Kept, Record};
use crate::model::{Exit, ProcessId, Severity};

impl Life {
    /// The life of a ward with this record, of which this was found. `boot` names the boot of the machine (as in
    /// [`ProcessId::boot`]). The outputs are to be carried out like those of [`Life::handle`].
    pub fn resume(
        policy: Arc<LifePolicy>,
        record: Record,
        found: Found,
        boot: &str,
        now: Moment,
        dice: u64,
        out: &mut Vec<Output>,
    ) -> Life {
        let mut life = Life::bare(policy, record, now);
        let mut turn = Turn { now, dice, out };
        let rebooted = !life.record.boot.is_empty() && life.record.boot != boot;
        if life.record.boot != boot {
            boot.clone_into(&mut life.record.boot);
            life.touch();
        }
        if let Some(kept) = &life.record.process {
            let ago = exit::millis(now.wall.since(kept.launched));
            life.launched_ms = exit::millis(now.mono).saturating_sub(ago);
            // A clock that was set back meanwhile must not make a boot longer.
            let boot_left = policy_left(&life.policy, ago);
            life.boot_until = now.mono.saturating_add(boot_left);
        }
        // Until the match below decides; nothing is due in it before that.
        life.state = State::Lost {
            locate_at: now.mono.saturating_add(policy::LOCATE_AGAIN),
            since: now.mono,
            told: false,
        };
        life.found(&mut turn, found, rebooted);
        life.finish(&mut turn);
        life
    }

    pub(super) fn found(&mut self, turn: &mut Turn<'_>, found: Found, rebooted: bool) {
        let lost = matches!(self.state, State::Lost { .. });
        match found {
            Found::AliveSame if lost && self.record.process.is_some() => self.resume_alive(turn),
            // Nothing that we knew: the runtime took something else for it, and looks again.
            Found::AliveSame if lost && self.record.launching.is_none() => {
                self.found_gone_in(turn, None, &Tree::Gone, rebooted);
            }
            Found::AliveSame => (),
            Found::AliveOther { process, watched, earlier } => {
                self.found_other(turn, process, watched, earlier, rebooted);
            }
            Found::Gone { exit, tree } => {
                if lost {
                    self.found_gone_in(turn, exit, &tree, rebooted);
                } else if self.record.process.is_some() {
                    let exit = Self::exit_or_unknown(exit, turn.now);
                    self.main_ended(turn, exit, tree, rebooted, policy::SETTLE);
                }
            }
            Found::KeeperGone { alive: Some(process) } => {
                let known = self.record.process.as_ref().is_some_and(|kept| kept.id == process);
                self.tell_keeper_gone(turn);
                if !known {
                    self.found_other(turn, process, true, None, rebooted);
                    return;
                }
                if let Some(kept) = &mut self.record.process {
                    kept.watched = true;
                    self.touch();
                }
                if lost {
                    self.resume_alive(turn);
                }
            }
            Found::KeeperGone { alive: None } => self.found(turn, Self::found_gone(None), rebooted),
        }
    }

    fn tell_keeper_gone(&self, turn: &mut Turn<'_>) {
        if self.record.process.as_ref().is_some_and(|kept| kept.watched) {
            return;
        }
        let title =
            "Its keeper is gone: it runs on, without console and exit codes, until the next start";
        turn.notify(Notice::new(NoticeKind::KeeperLost, Severity::Warning, title));
    }

    /// Another process than the known one is the ward now.
    fn found_other(
        &mut self,
        turn: &mut Turn<'_>,
        process: ProcessId,
        watched: bool,
        earlier: Option<Exit>,
        rebooted: bool,
    ) {
        if self.record.process.as_ref().is_some_and(|kept| kept.id == process) {
            if matches!(self.state, State::Lost { .. }) {
                self.resume_alive(turn);
            }
            return;
        }
        if let Some(old) = self.record.process.take() {
            self.judge_replaced(turn, old, earlier, rebooted);
        }
        let launching = self.record.launching.is_some();
        self.take_process(turn, process.clone(), watched);
        if let Some(kept) = &mut self.record.process {
            // What we launched a moment ago may still be booting; anything else was there before us.
            kept.ready = !launching;
        }
        turn.history(Happening::Adopted { process, watched });
        turn.notify(Notice::new(NoticeKind::Adopted, Severity::Info, "Was found running"));
        if self.record.intent.is_none() && self.record.desired.goal == Goal::Stopped {
            // Somebody started it, or the start was never written down. Players may be on it already.
            self.want(turn, Goal::Running, By::Outside, "it was found running");
        }
        self.go_on(turn);
    }

    /// Another process runs in place of the known one, which must have ended. Nothing follows from that.
    fn judge_replaced(
        &mut self,
        turn: &mut Turn<'_>,
        old: Kept,
        earlier: Option<Exit>,
        rebooted: bool,
    ) {
        let exit = Self::exit_or_unknown(earlier, turn.now);
        let ended = Self::ended(turn, old, exit, Tree::Gone, rebooted);
        let verdict = Verdict { restart: false, ..self.judge(&ended).verdict };
        self.note_exit(turn, &ended, &verdict);
    }

    /// The process of the record is still there.
    pub(super) fn resume_alive(&mut self, turn: &mut Turn<'_>) {
        let Some(kept) = &self.record.process else { return };
        let (process, watched) = (kept.id.clone(), kept.watched);
        self.record.launching = None;
        self.touch();
        turn.history(Happening::Adopted { process, watched });
        self.go_on(turn);
    }

    fn go_on(&mut self, turn: &mut Turn<'_>) {
        self.live_on(turn);
        if self.record.intent.is_some() {
            self.begin_ladder(turn);
        }
    }

    /// It does not run (any more).
    fn found_gone_in(
        &mut self,
        turn: &mut Turn<'_>,
        exit: Option<Exit>,
        tree: &Tree,
        rebooted: bool,
    ) {
        if self.record.process.is_some() {
            let exit = Self::exit_or_unknown(exit, turn.now);
            self.main_ended(turn, exit, tree.clone(), rebooted, policy::SETTLE_ADOPTED);
            return;
        }
        if let (Some(_), Some(exit)) = (self.record.launching, exit) {
            // It was started and ended while nobody watched, and only its keeper has seen it.
            let why = format!("it ended at once with {}", exit::ending_text(exit.ending));
            if self.record.intent.is_none() {
                self.start_failed(turn, why, tree);
                return;
            }
        }
        self.record.launching = None;
        self.touch();
        if let Some(intent) = &self.record.intent
            && let (IntentKind::Backup, IntentStep::Held { until }) = (intent.kind, &intent.step)
        {
            let until = turn.in_future(*until, self.policy.hold_max);
            match tree {
                Tree::Gone => self.state = State::Held { until },
                Tree::Alive { .. } => self.clear(turn, Next::Hold, tree),
            }
            return;
        }
        let next = self.next_without_process(turn, rebooted);
        self.clear(turn, next, tree);
    }

    fn next_without_process(&mut self, turn: &Turn<'_>, rebooted: bool) -> Next {
        if self.record.intent.is_some() {
            return match self.close_intent() {
                Some(IntentKind::Backup) => Next::Hold,
                _ if self.record.desired.goal == Goal::Running => Next::Start,
                _ => Next::Stop,
            };
        }
        if self.record.desired.goal == Goal::Stopped {
            return Next::Stop;
        }
        match &self.record.hint {
            _ if rebooted => {
                self.record.budget.refill();
                Next::Start
            }
            Hint::GaveUp => Next::GiveUp,
            Hint::Waiting { until } => {
                Next::Wait(turn.in_future(*until, self.policy.restart.longest))
            }
            Hint::None => Next::Start,
        }
    }
}

fn policy_left(policy: &LifePolicy, ago_ms: i64) -> Duration {
    let ago = Duration::from_millis(u64::try_from(ago_ms).unwrap_or(0));
    policy.ready.deadline.saturating_sub(ago)
}
