//! What happens to wards by the clock: makes plans of the wards' schedules, and begins what is due.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use naru_domain::Timestamp;
use naru_domain::ports::WardRecord;
use tracing::{info, warn};

use super::begin::PLANS;
use super::supervisor::Supervisor;
use super::view::ScheduleView;
use crate::life::{By, Input, Order, Wish};
use crate::model::WardName;
use crate::profile::Ward;
use crate::profile::spec::{ScheduleSpec, ScheduledAction};
use crate::schedule::{
    Action, Condition, Facts, Operation, Otherwise, Patience, Plan, Planner, Rule, Saved,
};

/// Conditions are waited for as long as this; a restart when empty is then left out until the next time.
const PATIENCE: Duration = Duration::from_secs(2 * 3_600);
/// The ward under whose name the plans of all are kept. No ward can be called so.
const ALL: &str = "*";

impl Supervisor {
    /// Makes the plans of all wards, and goes on with what was kept of them.
    pub(super) fn begin_plans<'a>(&mut self, mut kept: impl Iterator<Item = &'a WardRecord>) {
        let saved: Vec<Saved> = kept
            .find(|record| &*record.part == PLANS && &*record.ward == ALL)
            .and_then(|record| serde_json::from_str(&record.body).ok())
            .unwrap_or_default();
        self.plan(&saved);
    }

    /// Makes the plans anew, as wards have changed.
    pub(super) fn plan_again(&mut self) {
        let saved = self.planner.as_ref().map(Planner::saved).unwrap_or_default();
        self.plan(&saved);
    }

    fn plan(&mut self, saved: &[Saved]) {
        let now = self.ports.clock.now();
        let wards = self.charges.values().map(|charge| &charge.ward);
        let plans: Vec<Plan> = wards
            .flat_map(|ward| ward.schedules.iter().filter_map(|spec| plan_of(ward, spec, now)))
            .collect();
        if plans.is_empty() {
            self.planner = None;
            return;
        }
        match Planner::new(plans, saved, now) {
            Ok(planner) => self.planner = Some(planner),
            Err(error) => warn!(target: "naru::wards", %error, "schedules cannot be kept"),
        }
    }

    /// Begins what is due.
    pub(super) fn run_plans(&mut self, now: Timestamp) {
        let Some(mut planner) = self.planner.take() else { return };
        let facts: BTreeMap<WardName, Facts> =
            self.charges.keys().map(|name| (name.clone(), self.facts_of(name, now))).collect();
        let actions = planner.due(now, |ward| facts.get(ward).copied().unwrap_or_default());
        let said_anything = !actions.is_empty();
        let saved = said_anything.then(|| planner.saved());
        self.planner = Some(planner);
        for action in actions {
            self.act_by_plan(action);
        }
        let Some(saved) = saved else { return };
        let body = serde_json::to_string(&saved).unwrap_or_default();
        let record = WardRecord {
            ward: Arc::from(ALL),
            part: Arc::from(PLANS),
            body: Arc::from(body),
            at: now,
        };
        let _is_kept = self.pending.add_record(record);
        self.pending.hurry();
    }

    fn facts_of(&self, name: &WardName, now: Timestamp) -> Facts {
        let Some(charge) = self.charges.get(name) else { return Facts::default() };
        let status = charge.life.status(self.moment());
        let memory = charge.recorder.windows().last(crate::measure::Series::Memory);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "bytes are positive and fit"
        )]
        let bytes = |kept: u32| (f64::from(kept) * crate::measure::Series::Memory.scale()) as u64;
        Facts {
            players: charge.players_known(now),
            memory_bytes: memory.filter(|_| charge.is_up()).map(|(_, kept)| bytes(kept)),
            uptime: status.launched.filter(|_| charge.is_up()).map(|at| now.since(at)),
            is_busy: status.intent.is_some() || charge.copying,
        }
    }

    fn act_by_plan(&mut self, action: Action) {
        match action {
            Action::Announce { ward, text, .. } => self.announce(&ward, text),
            Action::Skipped { ward, plan, due_at, reason } => {
                info!(target: "naru::wards", %ward, plan = &*plan, %reason, "a schedule was left out");
                let body = serde_json::json!({
                    "schedule": &*plan, "due_at": due_at.0, "reason": reason.to_string(),
                });
                let now = self.ports.clock.now();
                self.pending.add_event(&ward, "schedule_skipped", &body.to_string(), now, false);
            }
            Action::Run { ward, plan, operation, .. } => {
                self.begin_planned(&ward, &plan, operation)
            }
        }
    }

    fn begin_planned(&mut self, ward: &WardName, plan: &Arc<str>, operation: Operation) {
        info!(target: "naru::wards", %ward, plan = &**plan, operation = operation.label(), "a schedule is due");
        let is_exclusive = operation.is_exclusive();
        let wish = match operation {
            Operation::Restart => Wish::Restart,
            Operation::Start => Wish::Start,
            Operation::Stop => Wish::Stop,
            Operation::BackUp => return self.copy_by_plan(ward, plan),
            Operation::Save => {
                self.ask_to_save(ward);
                return self.finished(ward, is_exclusive);
            }
            Operation::Announce(text) => return self.announce(ward, text),
            Operation::Command(line) => {
                let (reply, _nobody) = tokio::sync::oneshot::channel();
                return self.command(ward, line, &format!("schedule {plan}"), reply);
            }
        };
        let Some(charge) = self.charges.get(ward) else { return };
        if wish == Wish::Restart && charge.ward.backup.before_restart {
            self.copy_by_plan(ward, plan);
        }
        let request = self.next_request();
        self.planned.insert(request);
        let order = Order {
            wish,
            by: By::Schedule(plan.to_string()),
            reason: format!("schedule {plan}"),
            // The planner has counted down already.
            countdown: Some(Duration::ZERO),
        };
        self.feed(ward, Input::Order { request, order });
    }

    fn finished(&mut self, ward: &WardName, is_exclusive: bool) {
        if let Some(planner) = self.planner.as_mut().filter(|_| is_exclusive) {
            planner.finished(ward);
        }
    }

    /// The schedules of a ward, and when each is due next.
    pub(super) fn schedules_of(&self, name: &WardName) -> Vec<ScheduleView> {
        let Some(planner) = &self.planner else { return Vec::new() };
        planner
            .outlook()
            .filter(|(plan, _, _)| plan.ward == *name)
            .map(|(plan, next_at, _)| ScheduleView {
                name: plan.name.to_string(),
                action: plan.operation.label().to_owned(),
                next_at,
            })
            .collect()
    }
}

/// The plan of a schedule. Rules that cannot be were refused with the configuration.
fn plan_of(ward: &Ward, spec: &ScheduleSpec, now: Timestamp) -> Option<Plan> {
    let rule = match (&spec.cron, spec.every) {
        (Some(cron), _) => Rule::cron(cron, &spec.timezone),
        (None, Some(every)) => Rule::every(every.0, now),
        (None, None) => return None,
    };
    let rule = match rule {
        Ok(rule) => rule,
        Err(error) => {
            warn!(target: "naru::wards", ward = %ward.name, schedule = spec.name, %error, "a schedule cannot be kept");
            return None;
        }
    };
    let operation = match spec.action {
        ScheduledAction::Restart => Operation::Restart,
        ScheduledAction::Backup => Operation::BackUp,
        ScheduledAction::Announce => Operation::Announce(spec.message.clone()),
        ScheduledAction::Stop => Operation::Stop,
        ScheduledAction::Start => Operation::Start,
        ScheduledAction::Save => Operation::Save,
        ScheduledAction::Command => Operation::Command(spec.command.clone()),
    };
    let name = format!("{}/{}", ward.name, spec.name);
    let mut plan = Plan::new(&name, ward.name.clone(), operation, rule);
    let when = &spec.when;
    plan.conditions.extend(when.empty.then_some(Condition::Empty));
    plan.conditions.extend(when.players_below.map(Condition::PlayersBelow));
    plan.conditions.extend(when.memory_above.map(|size| Condition::MemoryAbove(size.0)));
    plan.conditions.extend(when.uptime_above.map(|span| Condition::UptimeAbove(span.0)));
    plan.patience = Patience { at_most: PATIENCE, otherwise: Otherwise::Skip };
    let steps = spec.countdown.as_ref().map(|steps| steps.iter().map(|step| step.0).collect());
    plan.countdown = steps.unwrap_or_else(|| ward.countdown.steps.clone());
    plan.announcement.clone_from(&ward.countdown.template);
    if !spec.message.is_empty() {
        plan.announcement.clone_from(&spec.message);
    }
    Some(plan)
}
