//! What is usual for a ward, and what is not: save cycles, baselines, trends, cost per player. Pure: no IO, no
//! clock, no randomness. One `Learner` per ward; memory and work are bounded.
//!
//! `saves` (with `period`) knows saves, `minute` leaves them out. `history` packs a week, `baseline` fits it,
//! `level` compares with it, `leak` sums up growth minute by minute, `trend` looks at hours, `habit` knows what
//! this ward does anyway. `desk` holds open alerts,
//! `text` words them. `state` saves all that was learned, `replay` runs recordings through it.

mod baseline;
#[cfg(test)]
mod checks;
mod desk;
mod habit;
mod history;
mod leak;
mod learner;
mod level;
mod minute;
mod period;
mod replay;
mod robust;
mod saves;
#[cfg(test)]
#[allow(dead_code, reason = "the example uses other parts of it")]
mod simulate;
mod state;
#[cfg(test)]
mod tests;
mod text;
mod trend;
mod words;

pub use learner::{LearnSettings, Learner};
pub use replay::{RECORDING_LINE_BYTES_MAX, RecordingError, Replay, replay};
pub use saves::{SAVE_WAIT_MAX, SaveCycle, SaveSchedule};
pub use state::{RestoreError, SNAPSHOT_BYTES_MAX};
pub use words::{
    Alert, AlertChange, AlertKind, BaselineView, CostPerPlayer, Forecast, LearnedView, Mark,
    MinuteAggregate, Sample, SaveSource, SaveView, SaveWindow, Series, TrendView, Warmup,
};
