//! The words of learning: what comes in, what goes out. Plain data without any judgement.

use std::time::Duration;

use naru_domain::Timestamp;
use serde::Serialize;

use crate::model::Severity;

/// What is known of each minute. The order is that of packed history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Series {
    /// Processor, in cores.
    Cpu,
    /// Resident memory, in bytes.
    Memory,
    /// Length of a tick, in milliseconds.
    TickTime,
    /// Ticks (or frames) a second.
    TickRate,
    /// Bytes written to disk a second.
    Writes,
    /// Players connected.
    Players,
}

impl Series {
    /// All, in order.
    pub const ALL: [Series; SERIES_COUNT] = [
        Series::Cpu,
        Series::Memory,
        Series::TickTime,
        Series::TickRate,
        Series::Writes,
        Series::Players,
    ];

    pub(super) const fn index(self) -> usize {
        self as usize
    }
}

pub(super) const SERIES_COUNT: usize = 6;

/// One value per series; NaN where nothing is known.
pub(super) type Values = [f64; SERIES_COUNT];

/// What one tick of the sampler saw. Leave out what is not known: a zero is taken for a zero.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// How long ago the sample before it was taken; counters below are of this time.
    pub elapsed: Duration,
    /// Processor, in cores.
    pub cpu_cores: Option<f32>,
    /// Resident memory.
    pub rss_bytes: Option<u64>,
    /// Bytes written in `elapsed`.
    pub write_bytes: Option<u64>,
    /// Length of a tick.
    pub tick_ms: Option<f32>,
    /// Ticks a second.
    pub tick_rate: Option<f32>,
    /// Players connected.
    pub players: Option<u32>,
}

/// The means of one minute. Where samples of that minute were given, too, their means outside of saves are
/// used instead; what only stands here (limits, pressure) is used in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MinuteAggregate {
    /// Processor, in cores.
    pub cpu_cores: Option<f32>,
    /// Resident memory.
    pub rss_bytes: Option<u64>,
    /// Bytes written a second.
    pub write_bytes_per_s: Option<f32>,
    /// Length of a tick.
    pub tick_ms: Option<f32>,
    /// Ticks a second.
    pub tick_rate: Option<f32>,
    /// Players connected.
    pub players: Option<f32>,
    /// The memory that this ward may use: its limit, or that of the machine.
    pub memory_limit_bytes: Option<u64>,
    /// The machine's memory that is still available.
    pub memory_available_bytes: Option<u64>,
    /// Share of the time, 0 to 1, in which something on the machine waited for a processor.
    pub cpu_pressure: Option<f32>,
}

/// Something that happened to a ward and explains what is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// A save began: pushed by the game, or read from its log.
    SaveBegan,
    /// That save ended.
    SaveEnded,
    /// The process began. After an adoption: given with the time at which the process began.
    Started,
    /// A stop was asked for: nothing is judged until the next start (or for half an hour).
    Stopping,
    /// The process began anew after a stop or a crash.
    Restarted,
    /// A countdown, a change of map, a backup: nothing is judged for so long (at most an hour).
    Disturbed(Duration),
}

/// What an alert is about. One per kind is open at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertKind {
    /// More processor than is usual for so many players at this hour.
    CpuHigh,
    /// Ticks take longer than is usual.
    TickSlow,
    /// Fewer ticks a second than is usual.
    TickRateLow,
    /// The game hardly ticks at all.
    TickStalled,
    /// Memory grows without players or saves to explain it.
    MemoryLeak,
    /// More memory than is usual for so many players.
    MemoryHigh,
    /// Memory is nearly used up.
    MemoryFull,
    /// Far more is written than is usual.
    WritesHigh,
    /// Nearly all players left at once.
    PlayersGone,
}

impl AlertKind {
    /// All, in order.
    pub const ALL: [AlertKind; 9] = [
        AlertKind::CpuHigh,
        AlertKind::TickSlow,
        AlertKind::TickRateLow,
        AlertKind::TickStalled,
        AlertKind::MemoryLeak,
        AlertKind::MemoryHigh,
        AlertKind::MemoryFull,
        AlertKind::WritesHigh,
        AlertKind::PlayersGone,
    ];

    pub(super) const fn index(self) -> usize {
        self as usize
    }

    /// Which series it reads.
    #[must_use]
    pub fn series(self) -> Series {
        match self {
            AlertKind::CpuHigh => Series::Cpu,
            AlertKind::TickSlow => Series::TickTime,
            AlertKind::TickRateLow | AlertKind::TickStalled => Series::TickRate,
            AlertKind::MemoryLeak | AlertKind::MemoryHigh | AlertKind::MemoryFull => Series::Memory,
            AlertKind::WritesHigh => Series::Writes,
            AlertKind::PlayersGone => Series::Players,
        }
    }

    /// Whether it is a fixed threshold, which works from the first minute and is never judged by habit.
    #[must_use]
    pub fn is_threshold(self) -> bool {
        matches!(self, AlertKind::TickStalled | AlertKind::MemoryFull)
    }
}

/// When memory will be used up if it goes on like this.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Forecast {
    /// Growth per hour, in bytes.
    pub bytes_per_hour: f64,
    /// From now, in seconds: the best guess.
    pub full_in_s: f64,
    /// The earliest, at the upper end of the slope's 95 % interval.
    pub earliest_s: f64,
    /// The latest, at its lower end; none when that end would never fill it.
    pub latest_s: Option<f64>,
}

/// Something is wrong, and this is what, how unusual, since when, and what to do.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Alert {
    /// About what.
    pub kind: AlertKind,
    /// Read from which series.
    pub series: Series,
    /// How much it matters.
    pub severity: Severity,
    /// When it began, as far as that can be told (milliseconds since 1970).
    #[serde(serialize_with = "millis")]
    pub since: Timestamp,
    /// How many robust standard deviations from what is usual; 0 for fixed thresholds.
    pub how_unusual: f64,
    /// What would have been usual, in the unit of the series (leak: bytes per hour).
    pub expected: f64,
    /// What was seen, in the same unit.
    pub observed: f64,
    /// When memory is full, for a leak with a known limit.
    pub forecast: Option<Forecast>,
    /// All of it for people.
    pub text: String,
}

/// An alert began, got worse, or ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "change")]
pub enum AlertChange {
    /// It began.
    Opened(Alert),
    /// It matters more than before.
    Worsened(Alert),
    /// It ended.
    Closed {
        /// Which.
        kind: AlertKind,
        /// When it had begun.
        #[serde(serialize_with = "millis")]
        since: Timestamp,
        /// When it ended.
        #[serde(serialize_with = "millis")]
        at: Timestamp,
        /// Why, for people.
        text: String,
    },
}

pub(super) fn millis<S: serde::Serializer>(at: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_i64(at.0)
}

/// What must be learned before unusual values can be told from usual ones.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Warmup {
    /// Hours of undisturbed running that are known.
    pub hours_known: f64,
    /// Hours that are needed.
    pub hours_needed: f64,
    /// What is missing, for people; empty when nothing is.
    pub missing: String,
}

/// What one player costs.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum CostPerPlayer {
    /// Known well enough to be told.
    Known {
        /// Cost without players, in the unit of the series.
        base: f64,
        /// Half width of its 95 % interval.
        base_error: f64,
        /// Cost of each player.
        per_player: f64,
        /// Half width of its 95 % interval.
        per_player_error: f64,
    },
    /// The number of players changed too little to tell.
    NotEnoughVariation {
        /// Fewest players seen (of quarter hours).
        players_min: f64,
        /// Most players seen.
        players_max: f64,
    },
    /// Too few undisturbed hours.
    NotEnoughData,
}

/// What is usual for one series now.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BaselineView {
    /// Which.
    pub series: Series,
    /// What is expected at this hour with these players.
    pub expected: f64,
    /// One robust standard deviation, in the same unit.
    pub sigma: f64,
    /// The last minute's value.
    pub observed: Option<f64>,
    /// In words.
    pub text: String,
}

/// Memory's trend.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct TrendView {
    /// Growth per hour as a share of the memory in use, players' effect removed.
    pub per_hour: f64,
    /// Over how many minutes.
    pub minutes: u32,
    /// When memory is full, if it grows and the limit is known.
    pub forecast: Option<Forecast>,
}

/// Where the knowledge of saves comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SaveSource {
    /// The game or its log said so.
    Told,
    /// The profile declares when they happen.
    Declared,
    /// Bursts of writing come in a rhythm.
    Learned,
}

/// One save, for marks on charts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SaveWindow {
    /// When it begins.
    #[serde(serialize_with = "millis")]
    pub from: Timestamp,
    /// When it ends.
    #[serde(serialize_with = "millis")]
    pub until: Timestamp,
    /// How that is known.
    pub source: SaveSource,
}

/// What is known of saves.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SaveView {
    /// How.
    pub source: SaveSource,
    /// Seconds from save to save, when there is a rhythm.
    pub period_s: Option<f64>,
    /// How long one takes, in seconds.
    pub length_s: f64,
    /// 0 to 1.
    pub confidence: f64,
    /// The next one.
    pub next: Option<SaveWindow>,
}

/// All that is known of a ward.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LearnedView {
    /// Whether enough is known.
    pub warmup: Warmup,
    /// What is usual.
    pub baselines: Vec<BaselineView>,
    /// What a player costs in cores.
    pub cpu_per_player: CostPerPlayer,
    /// What a player costs in bytes.
    pub memory_per_player: CostPerPlayer,
    /// Memory's trend, when there is one.
    pub memory_trend: Option<TrendView>,
    /// Saves, when anything is known of them.
    pub saves: Option<SaveView>,
    /// What is wrong now.
    pub open: Vec<Alert>,
}
