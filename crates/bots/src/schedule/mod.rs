//! Messages sent by the clock: when they are due, whether they make sense, and the runner that sends
//! each due one exactly once in a cluster. Described for operators in `docs/guide/schedules.md`.
//! Knows no wire and no queue: what is sent goes out through `ReplyOut`.

mod recurrence;
mod runner;
mod validate;

#[cfg(test)]
mod tests;

pub use recurrence::{Cron, CronError, TimeZone, next_of, next_run};
pub use runner::{RUN_FAILED, RUN_MISSED, RUN_SENT, Runner, RunnerOptions, ScheduleMetrics};
pub use validate::{Problem, validate};
