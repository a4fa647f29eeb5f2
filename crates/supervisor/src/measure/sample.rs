//! What a sampler tells, on every system. Plain data.

use std::time::{Duration, Instant};

use naru_domain::Timestamp;

use super::series::{Reading, Series, Values};
use crate::model::WardName;

/// How often a sampler looks at what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SamplerSettings {
    /// Disk counters of the wards: each costs the system about as much as all else of a process.
    pub io_every: Duration,
    /// The machine as a whole: its files are larger than those of three processes.
    pub host_every: Duration,
    /// What we took from the games. Looks at each thread of a game.
    pub taken_every: Duration,
    /// The longest stretch of work before the core is offered to whoever waits for it.
    pub slice_max: Duration,
}

impl Default for SamplerSettings {
    fn default() -> SamplerSettings {
        SamplerSettings {
            io_every: Duration::from_secs(5),
            host_every: Duration::from_secs(10),
            taken_every: Duration::from_secs(10),
            slice_max: Duration::from_micros(50),
        }
    }
}

/// Whether something that was done at `before` is to be done again. A timer may be a little early.
pub(super) fn is_due(before: Option<Instant>, instant: Instant, every: Duration) -> bool {
    let leeway = Duration::from_millis(100);
    before.is_none_or(|before| instant.saturating_duration_since(before) + leeway >= every)
}

/// Disk counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoSample {
    /// Since the sample before.
    pub span: Duration,
    /// Bytes read from disks in that time.
    pub read_bytes: u64,
    /// Bytes sent towards disks in that time.
    pub written_bytes: u64,
}

/// What we took from a game at most.
///
/// Both are true bounds of the time in which we ran while the game could have: we cannot have taken more
/// than we used, nor more than the game's threads waited for a processor, whoever made them wait.
/// Threads that lived shorter than the span are not in `waited`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The time that was looked at.
    pub span: Duration,
    /// Processor time of the supervisor's thread in it.
    pub own: Duration,
    /// How long threads of the game waited for a processor; `None` where that is not known: threads came
    /// and went, there are too many, or the system does not tell.
    pub waited: Option<Duration>,
}

impl Taken {
    /// The smaller of both: an upper bound.
    #[must_use]
    pub fn bound(&self) -> Duration {
        self.waited.map_or(self.own, |waited| waited.min(self.own))
    }

    /// The bound per second.
    #[must_use]
    pub fn per_second(&self) -> Duration {
        let seconds = self.span.as_secs_f64();
        if seconds > 0.0 { self.bound().div_f64(seconds) } else { Duration::ZERO }
    }
}

/// What the processes of one ward used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WardSample {
    /// Which ward.
    pub ward: WardName,
    /// When.
    pub at: Timestamp,
    /// Since the sample before; zero for the first one, which has no rates.
    pub span: Duration,
    /// Processor time in `span`, of all processes. Sums over samples are exact: a late sample loses none.
    pub cpu: Duration,
    /// Resident memory.
    pub rss_bytes: u64,
    /// Threads.
    pub threads: u32,
    /// Disk counters, when they were looked at; never zero for "not permitted".
    pub io: Option<IoSample>,
    /// Whether the system refuses to tell the disk counters of a process of the ward.
    pub io_not_permitted: bool,
    /// What we took, when it was looked at.
    pub taken: Option<Taken>,
    /// Processes that are there.
    pub processes: u16,
    /// Processes that are stopped (by a signal or a debugger).
    pub stopped: u16,
    /// Processes that were there before and are gone: time to ask the keeper for the list.
    pub gone: u16,
}

impl WardSample {
    /// Processor, memory and threads, in the units that are kept.
    #[must_use]
    pub fn reading(&self) -> Reading {
        let mut values = Values::EMPTY;
        if self.processes > 0 {
            values.set_scaled(Series::Memory, to_f64(self.rss_bytes));
            values.set(Series::Threads, self.threads);
        }
        let seconds = self.span.as_secs_f64();
        if seconds > 0.0 {
            values.set_scaled(Series::Cpu, self.cpu.as_secs_f64() / seconds);
        }
        Reading { at: self.at, span: self.span, values }
    }

    /// Disks, when they were looked at. A reading of its own: it stands for another span.
    #[must_use]
    pub fn io_reading(&self) -> Option<Reading> {
        let io = self.io.filter(|io| !io.span.is_zero())?;
        let seconds = io.span.as_secs_f64();
        let mut values = Values::EMPTY;
        values.set_scaled(Series::Read, to_f64(io.read_bytes) / seconds);
        values.set_scaled(Series::Written, to_f64(io.written_bytes) / seconds);
        Some(Reading { at: self.at, span: io.span, values })
    }
}

#[expect(clippy::cast_precision_loss, reason = "rounded to 16 KiB or 64 bytes a second anyway")]
pub(super) fn to_f64(bytes: u64) -> f64 {
    bytes as f64
}

/// The share of time in which some task had to wait, in the last 10 s, in hundredths of a percent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    /// For a processor.
    pub cpu: u32,
    /// For memory.
    pub memory: u32,
    /// For disks.
    pub io: u32,
}

/// The machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostSample {
    /// When.
    pub at: Timestamp,
    /// Busy processors since the sample before, in thousandths of all; `None` for the first one.
    pub cpu_permille: Option<u16>,
    /// All memory.
    pub memory_bytes: u64,
    /// What programs could still get.
    pub available_bytes: u64,
    /// Pressure, where the system tells (Linux with PSI).
    pub pressure: Option<Pressure>,
}

impl HostSample {
    /// Memory that is not available, in thousandths of all.
    #[must_use]
    pub fn memory_permille(&self) -> u16 {
        let used = self.memory_bytes.saturating_sub(self.available_bytes);
        permille(used, self.memory_bytes)
    }
}

/// `part` of `all` in thousandths; zero of nothing.
pub(super) fn permille(part: u64, all: u64) -> u16 {
    let share = u128::from(part) * 1_000 / u128::from(all.max(1));
    u16::try_from(share.min(1_000)).unwrap_or(1_000)
}
