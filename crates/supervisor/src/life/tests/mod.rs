//! Tests of a ward's life: a stage with a clock of its own, on which stories are told step by step.

mod hangs;
mod matrix;
mod restarts;
mod resumed;
mod simulation;

mod stops;
mod world;

use std::sync::Arc;
use std::time::Duration;

use naru_domain::Timestamp;

use super::*;
use crate::model::{Ending, Exit, ProcessId};

pub(super) const BOOT: &str = "boot-1";
/// Half of the longest pause.
const DICE: u64 = 1 << 63;

pub(super) fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

pub(super) fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

pub(super) fn process(pid: u32) -> ProcessId {
    ProcessId { pid, started: u64::from(pid) * 100, boot: BOOT.to_owned() }
}

pub(super) fn order(wish: Wish) -> Order {
    Order { wish, by: By::Operator("ann".to_owned()), reason: "a test".to_owned(), countdown: None }
}

/// One life, its clock, and a disk that works.
pub(super) struct Stage {
    pub(super) life: Life,
    pub(super) now: Moment,
    pub(super) out: Vec<Output>,
    /// Writes are answered at once.
    pub(super) disk: bool,
    pub(super) next_pid: u32,
}

impl Stage {
    pub(super) fn resume(policy: &LifePolicy, record: Record, found: Found, now: Moment) -> Stage {
        Stage::resume_in(policy, record, found, BOOT, now)
    }

    pub(super) fn resume_in(
        policy: &LifePolicy,
        record: Record,
        found: Found,
        boot: &str,
        now: Moment,
    ) -> Stage {
        let mut out = Vec::new();
        let life = Life::resume(Arc::new(policy.clone()), record, found, boot, now, DICE, &mut out);
        let mut stage = Stage { life, now, out: Vec::new(), disk: true, next_pid: 100 };
        stage.take_in(out);
        stage
    }

    /// A new ward that should be down.
    pub(super) fn new(policy: &LifePolicy) -> Stage {
        let now = Moment { wall: Timestamp(1_700_000_000_000), mono: secs(1000) };
        let record = Record::new(Goal::Stopped, By::Naru, now.wall);
        Stage::resume(policy, record, Found::Gone { exit: None, tree: Tree::Gone }, now)
    }

    /// A ward that runs.
    pub(super) fn running(policy: &LifePolicy) -> Stage {
        let mut stage = Stage::new(policy);
        stage.order(Wish::Start);
        stage.start_up();
        assert_eq!(stage.life.phase(), Phase::Running);
        stage.out.clear();
        stage
    }

    /// Answers whatever a start asks for, until it is ready.
    pub(super) fn start_up(&mut self) -> ProcessId {
        let process = self.launch_only();
        self.give(Input::Ready { how: "a sign".to_owned() });
        process
    }

    pub(super) fn launch_only(&mut self) -> ProcessId {
        if self.life.policy.ports.check {
            self.give(Input::Ports(Ports::Free));
        }
        let launch = self.launch().expect("a launch was asked for");
        self.next_pid += 1;
        let process = process(self.next_pid);
        self.give(Input::Launched { launch, process: process.clone() });
        process
    }

    pub(super) fn launch(&self) -> Option<u64> {
        self.out.iter().rev().find_map(|output| match output {
            Output::Launch { launch } => Some(*launch),
            _ => None,
        })
    }

    pub(super) fn give(&mut self, input: Input) {
        let mut out = Vec::new();
        self.life.handle(self.now, DICE, input, &mut out);
        self.take_in(out);
    }

    fn take_in(&mut self, out: Vec<Output>) {
        for output in out {
            let seq = match &output {
                Output::Persist { seq, .. } => Some(*seq),
                _ => None,
            };
            self.out.push(output);
            if let (Some(seq), true) = (seq, self.disk) {
                self.give(Input::Persisted(seq));
            }
        }
    }

    pub(super) fn order(&mut self, wish: Wish) -> Answer {
        self.order_as(order(wish))
    }

    pub(super) fn order_as(&mut self, order: Order) -> Answer {
        let request = 7;
        self.give(Input::Order { request, order });
        let answer = self.out.iter().rev().find_map(|output| match output {
            Output::Answer { answer, .. } => Some(*answer),
            _ => None,
        });
        answer.expect("every order is answered at once")
    }

    /// Lets time pass, waking the life when it asked for it.
    pub(super) fn pass(&mut self, span: Duration) {
        let until = self.now.mono + span;
        while let Some(wake) = self.life.next_wake().filter(|wake| *wake <= until) {
            self.jump_to(wake.max(self.now.mono));
            self.give(Input::Wake);
        }
        self.jump_to(until);
    }

    fn jump_to(&mut self, mono: Duration) {
        self.now = Moment { wall: self.now.wall.plus(mono - self.now.mono), mono };
    }

    pub(super) fn exit(&mut self, ending: Ending) {
        self.exit_with(ending, Tree::Gone);
    }

    pub(super) fn exit_with(&mut self, ending: Ending, tree: Tree) {
        let process = self.process();
        let exit = Exit { ending, at: self.now.wall };
        self.give(Input::Exited { process, exit, tree });
    }

    pub(super) fn evidence(&mut self, evidence: Evidence) {
        self.give(Input::Evidence { evidence, age: Duration::ZERO, launch: None });
    }

    pub(super) fn process(&self) -> ProcessId {
        self.life.record().process.as_ref().expect("there is a process").id.clone()
    }

    /// The verdicts since the last look, and the look clears them.
    pub(super) fn verdicts(&mut self) -> Vec<Verdict> {
        let verdicts = self.events().into_iter().filter_map(|event| match event {
            Happening::Exited { verdict, .. } | Happening::StartFailed { verdict } => Some(verdict),
            _ => None,
        });
        let verdicts = verdicts.collect();
        self.out.clear();
        verdicts
    }

    pub(super) fn events(&self) -> Vec<Happening> {
        let event = |output: &Output| match output {
            Output::History(event) => Some(event.what.clone()),
            _ => None,
        };
        self.out.iter().filter_map(event).collect()
    }

    pub(super) fn notices(&self) -> Vec<NoticeKind> {
        let kind = |output: &Output| match output {
            Output::Notify(notice) => Some(notice.kind),
            _ => None,
        };
        self.out.iter().filter_map(kind).collect()
    }

    /// What was done to the game, in order; clears the outputs.
    pub(super) fn acts(&mut self) -> Vec<String> {
        let act = |output: &Output| match output {
            Output::Launch { .. } => Some("launch".to_owned()),
            Output::Announce { left, .. } => Some(format!("announce {}", left.as_secs())),
            Output::AnnounceCancelled => Some("announce cancelled".to_owned()),
            Output::Save { .. } => Some("save".to_owned()),
            Output::Rung { action: Action::Signal(signal), .. } => Some(format!("signal {signal}")),
            Output::Rung { action, .. } => Some(format!("{action:?}").to_lowercase()),
            Output::KillTree => Some("kill".to_owned()),
            Output::Capture => Some("capture".to_owned()),
            _ => None,
        };
        let acts = self.out.iter().filter_map(act).collect();
        self.out.clear();
        acts
    }

    pub(super) fn phase(&self) -> Phase {
        self.life.phase()
    }
}
