//! What follows at a moment: which plan begins, waits, counts down, or is left out, and why. Each plan has one
//! phase; one ward has one operation at a time. Pure.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use naru_domain::Timestamp;

use super::plan::{Facts, Hold, Missed, Operation, Otherwise, Plan, PlanError};
use crate::model::WardName;

/// What the caller does now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Tells the players of a ward.
    Announce {
        /// Which ward.
        ward: WardName,
        /// By which plan.
        plan: Arc<str>,
        /// The words.
        text: String,
    },
    /// Begins an operation. Those that are [exclusive](Operation::is_exclusive) are
    /// [finished](Planner::finished) by the caller.
    Run {
        /// Which ward.
        ward: WardName,
        /// By which plan.
        plan: Arc<str>,
        /// What.
        operation: Operation,
        /// The moment that it stands for.
        due_at: Timestamp,
        /// Whether the conditions never held.
        is_forced: bool,
    },
    /// Writes down that a moment was left out.
    Skipped {
        /// Which ward.
        ward: WardName,
        /// Of which plan.
        plan: Arc<str>,
        /// The moment.
        due_at: Timestamp,
        /// Why.
        reason: Skip,
    },
}

/// Why a moment was left out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Skip {
    /// Naru was not there, or asleep.
    #[error("it was due while nobody was there to do it")]
    Missed,
    /// The conditions did not hold for as long as it may wait.
    #[error("its conditions did not hold in time")]
    Conditions,
    /// A hold was in force for as long as it may wait.
    #[error("held: {reason}")]
    Held {
        /// What the hold is for.
        reason: String,
    },
    /// Something else was done to the ward for as long as it may wait.
    #[error("the ward was busy: {with}")]
    Busy {
        /// With which plan, or a person's request.
        with: Arc<str>,
    },
    /// The same plan was still at it.
    #[error("the one before was still running")]
    StillRunning,
}

/// What has to outlive the process: kept by the caller whenever [`Planner::due`] said anything.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Saved {
    /// Of which plan.
    pub plan: String,
    /// All moments up to this one were handled (milliseconds since 1970).
    pub handled_ms: i64,
    /// The moment that waits for its conditions.
    pub waiting_ms: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    Waiting { due_at: Timestamp, until: Timestamp },
    Counting { due_at: Timestamp, until: Timestamp, at: Timestamp, is_forced: bool },
    Running,
}

#[derive(Debug)]
struct Entry {
    plan: Plan,
    handled: Timestamp,
    next: Option<Timestamp>,
    phase: Phase,
    /// The step of the countdown that was reached.
    told: Option<Duration>,
}

/// See the module.
#[derive(Debug)]
pub struct Planner {
    entries: Vec<Entry>,
    holds: Vec<Hold>,
    /// Wards with an operation of ours, and by which plan.
    running: HashMap<WardName, Arc<str>>,
}

/// What a step has to know.
struct Moment<'a> {
    now: Timestamp,
    facts: Facts,
    held: Option<&'a str>,
    busy: Option<Arc<str>>,
}

impl Moment<'_> {
    /// Whether there is anybody to tell; unknown counts as somebody.
    fn has_listeners(&self) -> bool {
        self.facts.uptime.is_some() && self.facts.players != Some(0)
    }
}

impl Planner {
    /// Plans that nothing is saved of begin at `now`.
    pub fn new(plans: Vec<Plan>, saved: &[Saved], now: Timestamp) -> Result<Planner, PlanError> {
        Plan::check(&plans)?;
        let entry = |plan: Plan| {
            let known = saved.iter().find(|saved| saved.plan == *plan.name);
            // A clock that was wrong must not put a plan to sleep for years.
            let handled = known.map_or(now, |saved| Timestamp(saved.handled_ms).min(now));
            let waiting = known.and_then(|saved| saved.waiting_ms).map(Timestamp);
            let phase = waiting.map_or(Phase::Idle, |due_at| Phase::Waiting {
                due_at,
                until: due_at.plus(plan.patience.at_most),
            });
            Entry { next: plan.rule.next(handled), handled, phase, told: None, plan }
        };
        let entries = plans.into_iter().map(entry).collect();
        Ok(Planner { entries, holds: Vec::new(), running: HashMap::new() })
    }

    /// Replaces all holds.
    pub fn set_holds(&mut self, holds: Vec<Hold>) {
        self.holds = holds;
    }

    /// Why nothing scheduled begins for this ward now, if it is so.
    #[must_use]
    pub fn held(&self, ward: &WardName, now: Timestamp) -> Option<&str> {
        held(&self.holds, ward, now)
    }

    /// What has to be done now. `facts` tells how a ward is.
    pub fn due(&mut self, now: Timestamp, facts: impl Fn(&WardName) -> Facts) -> Vec<Action> {
        let mut actions = Vec::new();
        // Those that wait longest come first; of those due together, the first one written down.
        let mut order: Vec<usize> = (0..self.entries.len()).collect();
        order.sort_by_key(|at| self.entries[*at].since());
        for at in order {
            let entry = &mut self.entries[at];
            let ward = &entry.plan.ward;
            let facts = facts(ward);
            let person = || Arc::from("somebody's request");
            let busy = self.running.get(ward).cloned().or_else(|| facts.is_busy.then(person));
            let held = held(&self.holds, ward, now);
            let before = actions.len();
            entry.step(&Moment { now, facts, held, busy }, &mut actions);
            let ran = actions[before..].iter().any(|action| matches!(action, Action::Run { .. }));
            if ran && entry.plan.operation.is_exclusive() {
                self.running.insert(entry.plan.ward.clone(), Arc::clone(&entry.plan.name));
            }
        }
        actions
    }

    /// Has a plan begin now, as if it were due: with its conditions and its countdown. False if there is none, or
    /// it is at it already.
    pub fn trigger(&mut self, plan: &str, now: Timestamp) -> bool {
        let idle = |entry: &&mut Entry| *entry.plan.name == *plan && entry.phase == Phase::Idle;
        let Some(entry) = self.entries.iter_mut().find(idle) else { return false };
        entry.begin(now, now);
        true
    }

    /// The operation on this ward is over, however it ended.
    pub fn finished(&mut self, ward: &WardName) {
        if let Some(plan) = self.running.remove(ward) {
            for entry in self.entries.iter_mut().filter(|entry| entry.plan.name == plan) {
                entry.phase = Phase::Idle;
                entry.told = None;
            }
        }
    }

    /// When to ask at the latest what is [due](Planner::due). Ask also when the facts of a ward change for
    /// which [`Planner::is_watching`].
    #[must_use]
    pub fn next_wake(&self, now: Timestamp) -> Option<Timestamp> {
        let hold_ends = |entry: &Entry| {
            let waits = matches!(entry.phase, Phase::Waiting { .. });
            let of_ward = |hold: &&Hold| hold.ward.as_ref().is_none_or(|w| *w == entry.plan.ward);
            let holds = self.holds.iter().filter(of_ward);
            holds.filter_map(|hold| hold.window.in_force(now).flatten()).filter(|_| waits).min()
        };
        let wake = |entry: &Entry| entry.wake(now).into_iter().chain(hold_ends(entry)).min();
        self.entries.iter().filter_map(wake).min()
    }

    /// Whether something waits for the facts of this ward to change.
    #[must_use]
    pub fn is_watching(&self, ward: &WardName) -> bool {
        let waits =
            |entry: &Entry| matches!(entry.phase, Phase::Waiting { .. } | Phase::Counting { .. });
        self.entries.iter().any(|entry| entry.plan.ward == *ward && waits(entry))
    }

    /// By name: when each plan is due next, and the moment that it works on or waits with.
    pub fn outlook(&self) -> impl Iterator<Item = (&Plan, Option<Timestamp>, Option<Timestamp>)> {
        self.entries.iter().map(|entry| (&entry.plan, entry.next, entry.pending()))
    }

    /// What has to outlive the process.
    #[must_use]
    pub fn saved(&self) -> Vec<Saved> {
        let saved = |entry: &Entry| Saved {
            plan: entry.plan.name.to_string(),
            handled_ms: entry.handled.0,
            waiting_ms: entry.pending().map(|due_at| due_at.0),
        };
        self.entries.iter().map(saved).collect()
    }
}

fn held<'a>(holds: &'a [Hold], ward: &WardName, now: Timestamp) -> Option<&'a str> {
    let of_ward = |hold: &&Hold| hold.ward.as_ref().is_none_or(|held| held == ward);
    let in_force = |hold: &&Hold| hold.window.in_force(now).is_some();
    holds.iter().filter(of_ward).find(in_force).map(|hold| hold.reason.as_str())
}

impl Entry {
    fn pending(&self) -> Option<Timestamp> {
        match self.phase {
            Phase::Waiting { due_at, .. } | Phase::Counting { due_at, .. } => Some(due_at),
            Phase::Idle | Phase::Running => None,
        }
    }

    fn since(&self) -> Timestamp {
        self.pending().or(self.next).unwrap_or(Timestamp(i64::MAX))
    }

    fn step(&mut self, moment: &Moment<'_>, actions: &mut Vec<Action>) {
        if self.next.is_some_and(|next| next <= moment.now) {
            self.come_due(moment.now, actions);
        }
        match self.phase {
            Phase::Idle => {
                if let Some(next) = self.next.filter(|_| self.plan.conditions.is_empty()) {
                    self.count_down(next, moment, actions);
                }
            }
            Phase::Waiting { due_at, until } => self.wait(due_at, until, moment, actions),
            Phase::Counting { due_at, until, at, is_forced } => {
                if moment.now >= at || !moment.has_listeners() {
                    // Told or not needed: what stands in the way now is waited for without a new countdown.
                    self.told = Some(Duration::ZERO);
                    self.go(due_at, until.max(at), is_forced, moment, actions);
                } else {
                    self.count_down(at, moment, actions);
                }
            }
            Phase::Running => {}
        }
    }

    /// One or more moments have come. The latest of them counts.
    fn come_due(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        let latest = self.plan.rule.last_within(self.handled, now).or(self.next).unwrap_or(now);
        self.handled = latest;
        self.next = self.plan.rule.next(now);
        let is_late = now.since(latest) > self.plan.late_max;
        match self.phase {
            Phase::Idle if is_late && self.plan.missed == Missed::Skip => {
                self.told = None;
                actions.push(self.skipped(latest, Skip::Missed));
            }
            Phase::Idle => self.begin(latest, if is_late { now } else { latest }),
            Phase::Running => actions.push(self.skipped(latest, Skip::StillRunning)),
            // One that waits stands for all that come due meanwhile.
            Phase::Waiting { .. } | Phase::Counting { .. } => {}
        }
    }

    fn begin(&mut self, due_at: Timestamp, from: Timestamp) {
        self.phase = Phase::Waiting { due_at, until: from.plus(self.plan.patience.at_most) };
    }

    fn wait(
        &mut self,
        due_at: Timestamp,
        until: Timestamp,
        moment: &Moment<'_>,
        actions: &mut Vec<Action>,
    ) {
        if self.plan.holds(&moment.facts) {
            return self.go(due_at, until, false, moment, actions);
        }
        let is_over = moment.now >= until;
        match self.plan.patience.otherwise {
            Otherwise::Anyway if is_over => self.go(due_at, until, true, moment, actions),
            Otherwise::Anyway => self.count_down(until, moment, actions),
            Otherwise::Skip if is_over => self.skip(due_at, Skip::Conditions, actions),
            Otherwise::Skip => {}
        }
    }

    /// Begins, unless something stands in the way or somebody has to be told first.
    fn go(
        &mut self,
        due_at: Timestamp,
        until: Timestamp,
        is_forced: bool,
        moment: &Moment<'_>,
        actions: &mut Vec<Action>,
    ) {
        let is_over = moment.now >= until;
        let obstacle = match (moment.held, &moment.busy) {
            (Some(reason), _) => Some(Skip::Held { reason: reason.to_owned() }),
            (None, Some(with)) if self.plan.operation.is_exclusive() => {
                Some(Skip::Busy { with: Arc::clone(with) })
            }
            _ => None,
        };
        if let Some(reason) = obstacle {
            if is_over {
                return self.skip(due_at, reason, actions);
            }
            self.phase = Phase::Waiting { due_at, until };
            return;
        }
        let length = self.plan.countdown_length();
        let tells = self.plan.operation.disturbs_players() && !length.is_zero();
        if tells && self.told.is_none() && moment.has_listeners() {
            let at = moment.now.plus(length);
            self.phase = Phase::Counting { due_at, until, at, is_forced };
            return self.count_down(at, moment, actions);
        }
        self.phase = match self.plan.operation.is_exclusive() {
            true => Phase::Running,
            false => Phase::Idle,
        };
        self.told = None;
        actions.push(Action::Run {
            ward: self.plan.ward.clone(),
            plan: Arc::clone(&self.plan.name),
            operation: self.plan.operation.clone(),
            due_at,
            is_forced,
        });
    }

    /// Tells the step that was reached on the way to `at`, once; of several, the one nearest to the end.
    fn count_down(&mut self, at: Timestamp, moment: &Moment<'_>, actions: &mut Vec<Action>) {
        if !self.plan.operation.disturbs_players() {
            return;
        }
        let left = at.since(moment.now);
        let reached = self.plan.countdown.iter().filter(|step| left <= **step).min().copied();
        let Some(step) = reached.filter(|step| self.told.is_none_or(|told| *step < told)) else {
            return;
        };
        self.told = Some(step);
        if moment.has_listeners() {
            actions.push(Action::Announce {
                ward: self.plan.ward.clone(),
                plan: Arc::clone(&self.plan.name),
                text: self.plan.announce(step),
            });
        }
    }

    fn skip(&mut self, due_at: Timestamp, reason: Skip, actions: &mut Vec<Action>) {
        self.phase = Phase::Idle;
        self.told = None;
        actions.push(self.skipped(due_at, reason));
    }

    fn skipped(&self, due_at: Timestamp, reason: Skip) -> Action {
        let (ward, plan) = (self.plan.ward.clone(), Arc::clone(&self.plan.name));
        Action::Skipped { ward, plan, due_at, reason }
    }

    fn wake(&self, now: Timestamp) -> Option<Timestamp> {
        let end = match self.phase {
            Phase::Idle if self.plan.conditions.is_empty() => self.next,
            Phase::Idle | Phase::Running => return self.next,
            Phase::Waiting { until, .. } if until > now => Some(until),
            // Overdue, and in the way of it is nothing that time takes away.
            Phase::Waiting { .. } => None,
            Phase::Counting { at, .. } => Some(at),
        };
        let counts = match self.phase {
            Phase::Waiting { .. } => self.plan.patience.otherwise == Otherwise::Anyway,
            _ => true,
        } && self.plan.operation.disturbs_players();
        let step = |at: Timestamp| {
            let open = |step: &&Duration| self.told.is_none_or(|told| **step < told);
            let moment = |step: &Duration| at.minus(*step);
            let steps = self.plan.countdown.iter().filter(open).map(moment);
            steps.filter(|moment| counts && *moment > now).min()
        };
        end.into_iter().chain(end.and_then(step)).chain(self.next).min()
    }
}
