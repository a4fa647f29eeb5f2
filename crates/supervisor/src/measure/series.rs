//! Which figures of a ward are kept, and in which unit. Plain data.

use std::time::Duration;

use naru_domain::Timestamp;

/// A figure of a ward over time. The numbers are kept: they never change their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Series {
    /// Processor time a second, in thousandths of a core.
    Cpu = 0,
    /// Resident memory, in 16 KiB.
    Memory = 1,
    /// Read from disks, in 64 bytes a second.
    Read = 2,
    /// Written to disks, in 64 bytes a second.
    Written = 3,
    /// Threads.
    Threads = 4,
    /// Players.
    Players = 5,
    /// Ticks of the game, in hundredths a second.
    TickRate = 6,
    /// How long a tick takes, in 10 us.
    TickTime = 7,
    /// How long a query takes, in 100 us.
    Ping = 8,
}

impl Series {
    /// How many there are.
    pub const COUNT: usize = 9;

    /// All of them, by number.
    pub const ALL: [Series; Series::COUNT] = [
        Series::Cpu,
        Series::Memory,
        Series::Read,
        Series::Written,
        Series::Threads,
        Series::Players,
        Series::TickRate,
        Series::TickTime,
        Series::Ping,
    ];

    /// Its number.
    #[must_use]
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The series with this number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Series> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// The name in configuration, metrics and the API, with its unit once [`Series::scale`] is applied.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Series::Cpu => "cpu_cores",
            Series::Memory => "memory_bytes",
            Series::Read => "read_bytes_per_second",
            Series::Written => "written_bytes_per_second",
            Series::Threads => "threads",
            Series::Players => "players",
            Series::TickRate => "ticks_per_second",
            Series::TickTime => "tick_seconds",
            Series::Ping => "ping_seconds",
        }
    }

    /// What a kept value is multiplied with to get the unit of its label.
    #[must_use]
    pub fn scale(self) -> f64 {
        match self {
            Series::Cpu => 1e-3,
            Series::Memory => 16_384.0,
            Series::Read | Series::Written => 64.0,
            Series::Threads | Series::Players => 1.0,
            Series::TickRate => 1e-2,
            Series::TickTime => 1e-5,
            Series::Ping => 1e-4,
        }
    }

    /// A value in the unit of the label, as it is kept: rounded, and held within what can be kept.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to the range before; NaN becomes zero"
    )]
    pub fn keep(self, value: f64) -> u32 {
        (value / self.scale()).round().clamp(0.0, f64::from(Values::MAX)) as u32
    }

    pub(super) fn index(self) -> usize {
        usize::from(self.number())
    }
}

/// One value of each series, in its kept unit, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Values([u32; Series::COUNT]);

impl Values {
    /// The largest value.
    pub const MAX: u32 = u32::MAX - 1;
    const NONE: u32 = u32::MAX;

    /// No value at all.
    pub const EMPTY: Values = Values([Values::NONE; Series::COUNT]);

    /// The value of `series`.
    #[must_use]
    pub fn get(&self, series: Series) -> Option<u32> {
        let value = self.0[series.index()];
        (value != Values::NONE).then_some(value)
    }

    /// Sets it; larger ones are held at [`Values::MAX`].
    pub fn set(&mut self, series: Series, value: u32) {
        self.0[series.index()] = value.min(Values::MAX);
    }

    /// Sets it if there is one.
    pub fn set_some(&mut self, series: Series, value: Option<u32>) {
        if let Some(value) = value {
            self.set(series, value);
        }
    }

    /// Sets it from the unit of the label.
    pub fn set_scaled(&mut self, series: Series, value: f64) {
        self.set(series, series.keep(value));
    }

    /// Takes it away.
    pub fn clear(&mut self, series: Series) {
        self.0[series.index()] = Values::NONE;
    }

    /// Those that there are.
    pub fn iter(&self) -> impl Iterator<Item = (Series, u32)> + '_ {
        Series::ALL.into_iter().filter_map(|series| Some((series, self.get(series)?)))
    }
}

/// Figures of one ward at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// When.
    pub at: Timestamp,
    /// For how long they stand: since the reading of the same kind before.
    pub span: Duration,
    /// The figures.
    pub values: Values,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_series_belong_to_each_other() {
        for series in Series::ALL {
            assert_eq!(Series::from_number(series.number()), Some(series));
        }
        assert_eq!(Series::from_number(9), None);
    }

    #[test]
    fn values_are_kept_in_their_unit_and_within_the_range() {
        assert_eq!(Series::Cpu.keep(1.25), 1_250);
        assert_eq!(Series::Memory.keep(1024.0 * 1024.0), 64);
        assert_eq!(Series::TickTime.keep(0.050), 5_000);
        for bad in [-1.0, f64::NAN, f64::NEG_INFINITY] {
            assert_eq!(Series::Ping.keep(bad), 0);
        }
        assert_eq!(Series::Ping.keep(f64::INFINITY), Values::MAX);
        let mut values = Values::EMPTY;
        values.set(Series::Players, u32::MAX);
        assert_eq!(values.iter().collect::<Vec<_>>(), [(Series::Players, Values::MAX)]);
        values.clear(Series::Players);
        assert_eq!(values, Values::EMPTY);
    }
}
