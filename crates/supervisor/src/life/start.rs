//! From nothing to ready: ports, record, launch, boot.

use std::time::Duration;

use super::exchange::{Outcome, Output, Ports, Tree};
use super::exit;
use super::history::{Happening, Notice, NoticeKind};
use super::machine::{Gate, Life, State, Turn};
use super::policy::{self, LateBoot};
use super::record::{By, Goal, Hint, IntentKind};
use super::stop::Step;
use crate::model::{ProcessId, Severity};

/// A start that has no process yet.
#[derive(Debug)]
pub(super) enum Start {
    /// The old process may still hold them: to start into that looks like a crash loop.
    Ports { since: Duration, at: Duration, asked: bool, taken: Option<String>, told: bool },
    /// The launch has to be on disk before it happens, or a Naru that is killed in between starts a second one.
    Recording { gate: Gate, launch: u64 },
    /// Asked for.
    Launching { until: Duration },
}

impl Life {
    pub(super) fn begin_start(&mut self, turn: &mut Turn<'_>) {
        if !self.policy.launchable {
            self.done(turn, Outcome::Failed);
            self.come_to_rest(turn);
            return;
        }
        if self.policy.ports.check {
            let now = turn.now.mono;
            let start =
                Start::Ports { since: now, at: now, asked: false, taken: None, told: false };
            self.state = State::Starting(start);
        } else {
            self.record_launch(turn);
        }
    }

    fn record_launch(&mut self, turn: &mut Turn<'_>) {
        self.record.launches += 1;
        let launch = self.record.launches;
        self.record.launching = Some(launch);
        self.record.hint = Hint::None;
        let gate = self.gate(turn);
        self.state = State::Starting(Start::Recording { gate, launch });
    }

    pub(super) fn start_timer(&self, start: &Start) -> Duration {
        match start {
            Start::Ports { at, .. } => *at,
            Start::Recording { gate, .. } => self.gate_timer(*gate),
            Start::Launching { until } => *until,
        }
    }

    pub(super) fn start_due(&mut self, turn: &mut Turn<'_>) -> bool {
        let now = turn.now.mono;
        match &mut self.state {
            State::Starting(Start::Ports { at, asked, .. }) => {
                if *asked {
                    // Nobody answered: the start itself will show.
                    self.record_launch(turn);
                    return true;
                }
                *asked = true;
                *at = now.saturating_add(policy::PORTS_ANSWER);
                self.act(turn, Output::CheckPorts);
                false
            }
            State::Starting(Start::Recording { gate, launch }) => {
                let (gate, launch) = (*gate, *launch);
                if self.passes(turn, gate, "launch") {
                    self.act(turn, Output::Launch { launch });
                    self.relaunch_wait(turn);
                }
                false
            }
            State::Starting(Start::Launching { .. }) => {
                self.lose(turn, "the keeper did not answer a launch");
                true
            }
            _ => false,
        }
    }

    /// A launch is out.
    pub(super) fn relaunch_wait(&mut self, turn: &Turn<'_>) {
        let until = turn.now.mono.saturating_add(policy::LAUNCH_WAIT);
        self.state = State::Starting(Start::Launching { until });
    }

    pub(super) fn ports(&mut self, turn: &mut Turn<'_>, ports: Ports) {
        let now = turn.now.mono;
        let State::Starting(Start::Ports { since, at, asked: asked @ true, taken, told }) =
            &mut self.state
        else {
            return;
        };
        match ports {
            Ports::Free | Ports::Unknown => self.record_launch(turn),
            Ports::Taken(which) if now.saturating_sub(*since) >= self.policy.ports.wait => {
                let title = "Its ports are taken by somebody else";
                let notice = Notice::new(NoticeKind::PortsTaken, Severity::Warning, title);
                turn.notify(notice.fact("ports", which.clone()));
                let why = format!("its ports are taken: {which}");
                self.start_failed(turn, why, &Tree::Gone);
            }
            Ports::Taken(which) => {
                *asked = false;
                *at = now.saturating_add(policy::PORTS_AGAIN);
                *taken = Some(which.clone());
                if !std::mem::replace(told, true) {
                    turn.history(Happening::PortsTaken { ports: which });
                }
            }
        }
    }

    pub(super) fn launched(&mut self, turn: &mut Turn<'_>, launch: u64, process: ProcessId) {
        let expected = self.record.launching == Some(launch) && self.record.process.is_none();
        match &self.state {
            State::Starting(Start::Launching { .. }) if expected => {
                self.started(turn, process);
                self.state = State::Booting;
            }
            State::Stopping(_) if expected => {
                self.started(turn, process);
                if matches!(self.state, State::Stopping(Step::AwaitLaunch { .. })) {
                    self.proceed(turn);
                }
            }
            State::Lost { .. } if expected => {
                self.started(turn, process);
                self.resume_alive(turn);
            }
            // A launch that nobody counted on any more: there is a process all the same.
            State::Stopped | State::Waiting { .. } | State::GaveUp
                if self.record.process.is_none() =>
            {
                self.started(turn, process);
                self.live_on(turn);
                if self.record.desired.goal == Goal::Stopped {
                    let why = "it was started after it was stopped".to_owned();
                    self.open_intent(turn, IntentKind::Stop, By::Naru, why, Duration::ZERO);
                }
            }
            _ => (),
        }
    }

    pub(super) fn started(&mut self, turn: &mut Turn<'_>, process: ProcessId) {
        turn.history(Happening::Started { process: process.clone() });
        let notice = Notice::new(NoticeKind::Started, Severity::Info, "Started");
        turn.notify(notice.fact("pid", process.pid.to_string()));
        self.take_process(turn, process, false);
    }

    pub(super) fn launch_failed(&mut self, turn: &mut Turn<'_>, launch: u64, error: String) {
        if self.record.launching != Some(launch) || self.record.process.is_some() {
            return;
        }
        match &self.state {
            State::Starting(Start::Launching { .. }) => self.start_failed(turn, error, &Tree::Gone),
            State::Stopping(_) | State::Lost { .. } => {
                self.record.launching = None;
                self.nothing_there(turn);
            }
            _ => (),
        }
    }

    pub(super) fn boot_timer(&self) -> Duration {
        match self.policy.ready.alive_for {
            Some(alive) => {
                let at_ms = self.launched_ms.saturating_add(exit::millis(alive));
                Duration::from_millis(u64::try_from(at_ms).unwrap_or(0)).min(self.boot_until)
            }
            None => self.boot_until,
        }
    }

    pub(super) fn boot_due(&mut self, turn: &mut Turn<'_>) -> bool {
        if self.policy.ready.alive_for.is_some_and(|alive| self.age(turn.now) >= alive) {
            self.ready(turn, "it stayed alive".to_owned());
            return true;
        }
        let severity = Severity::Critical;
        let notice = Notice::new(NoticeKind::BootTimeout, severity, "Was not ready in time")
            .fact("allowed", format!("{} s", self.policy.ready.deadline.as_secs()));
        match self.policy.ready.late {
            LateBoot::Tell => {
                turn.notify(notice.fact("next", "it counts as running, as its settings say"));
                self.ready(turn, "its time was over".to_owned());
            }
            LateBoot::Kill => {
                turn.notify(notice.fact("next", "it is killed"));
                let why = "it was not ready in time".to_owned();
                self.open_intent(turn, IntentKind::LateBoot, By::Naru, why, Duration::ZERO);
            }
        }
        true
    }

    pub(super) fn ready(&mut self, turn: &mut Turn<'_>, how: String) {
        if !matches!(self.state, State::Booting) {
            return;
        }
        let age = self.age(turn.now);
        let Some(kept) = &mut self.record.process else { return };
        kept.ready = true;
        self.touch();
        let after_ms = u64::try_from(exit::millis(age)).unwrap_or(0);
        let again = self.record.last.as_ref().is_some_and(|last| last.verdict.cause.is_failure());
        let (kind, title) = match again {
            true => (NoticeKind::Restarted, "Is back"),
            false => (NoticeKind::Ready, "Is ready"),
        };
        let notice = Notice::new(kind, Severity::Info, title);
        turn.notify(
            notice.fact("after", format!("{:.1} s", age.as_secs_f64())).fact("sign", how.clone()),
        );
        turn.history(Happening::Ready { how, after_ms });
        self.live_on(turn);
        self.done(turn, Outcome::Started);
    }
}
