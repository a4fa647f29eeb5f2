//! When things happen to wards by the clock: rules, conditions, countdowns, holds. Pure: the time and what is
//! known of the wards in, what to do out. It starts nothing itself and keeps nothing.
//!
//! `rule` says when something is due, `plan` what one schedule is, `planner` what follows at a moment.

mod plan;
mod planner;
mod rule;
#[cfg(test)]
mod tests;

pub use plan::{
    Condition, Facts, Hold, Missed, Operation, Otherwise, Patience, Plan, PlanError, Window,
};
pub use planner::{Action, Planner, Saved, Skip};
pub use rule::{Rule, RuleError};
