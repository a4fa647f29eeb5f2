//! What wards cost, from cumulative counters; windows, packed history, our own budget and what we take from games.
//!
//! The way of a figure: a `sampler` reads counters (or a probe tells something), which makes a
//! [`Reading`]; [`Windows`] shows it as means, percentiles and peaks, and [`BlockBuilder`] packs it;
//! [`Pending`] collects what is to be kept until a flush is due. `pace` says how often to look, `budget`
//! whether we keep to what we may cost, `players` who is there. Nothing in here waits, starts tasks or
//! knows a game's protocol.

mod block;
mod budget;
mod digest;
mod linux;
mod pace;
mod pending;
mod players;
mod portable;
#[cfg(any(test, target_os = "linux"))]
mod procfs;
mod recorder;
mod restore;
mod rollup;
mod sample;
#[cfg(test)]
mod sampler_tests;
mod series;
mod varint;
mod windows;

pub use block::{Block, BlockBuilder, BlockError, Column, Point};
pub use budget::{Budget, BudgetLimits, OwnCounters, OwnFigures, OwnMeter, Throttle};
pub use digest::Digest;
#[cfg(target_os = "linux")]
pub use linux::{Sampler, proportional_bytes};
pub use pace::{Load, Memory, MemoryStep, Pace, PaceSettings, Paced};
pub use pending::{Due, Pending, PendingSettings, Retention};
pub use players::{Change, Evidence, Freshness, Listed, Now, Players, PlayersSettings};
#[cfg(not(target_os = "linux"))]
pub use portable::{Sampler, proportional_bytes};
pub use recorder::Recorder;
pub use restore::restore;
pub use rollup::{Rollup, RollupError};
pub use sample::{HostSample, IoSample, Pressure, SamplerSettings, Taken, WardSample};
pub use series::{Reading, Series, Values};
pub use windows::{Summary, Window, Windows};
