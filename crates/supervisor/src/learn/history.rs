//! A week of quarter hours, packed: what baselines are fitted to. It knows series as numbers with a unit, and
//! nothing of what is usual.

use super::robust::floor_index;
use super::words::{SERIES_COUNT, Series, Values};

/// Quarter hours of a week.
pub(super) const QUARTERS: usize = 7 * 24 * 4;
pub(super) const QUARTER_MS: i64 = 15 * 60 * 1_000;
/// A quarter hour counts with at least so many undisturbed minutes (or coarser pieces of a recording).
const MINUTES_MIN: f64 = 3.0;

/// The smallest step of each series near zero; above, a value has 11 significant bits (0.05 %).
fn unit(series: usize) -> f64 {
    match Series::ALL[series] {
        Series::Cpu | Series::Players => 0.1,
        Series::Memory => 65_536.0,
        Series::TickTime | Series::TickRate => 1.0,
        Series::Writes => 1_024.0,
    }
}

/// A value as two bytes: 5 bits of exponent, 11 of fraction; 0 is not known.
fn pack(series: usize, value: f64) -> u16 {
    if !value.is_finite() {
        return 0;
    }
    let scaled = value.max(0.0) / unit(series) + 1.0;
    let exponent = scaled.log2().floor().clamp(0.0, 30.0);
    let fraction = (scaled / exponent.exp2() - 1.0).clamp(0.0, 0.999_75);
    let code = floor_index((exponent + fraction) * 2_048.0 + 0.5) + 1;
    u16::try_from(code).unwrap_or(u16::MAX)
}

fn unpack(series: usize, code: u16) -> Option<f64> {
    let code = f64::from(code.checked_sub(1)?) / 2_048.0;
    let scaled = code.floor().exp2() * (1.0 + code.fract());
    Some((scaled - 1.0) * unit(series))
}

/// A ring by the quarter of the week: a cell keeps its value until a week later, however the clock jumps.
#[derive(Clone, Debug)]
pub(super) struct History {
    pub(super) cells: Vec<[u16; SERIES_COUNT]>,
    /// The quarter that is being filled (since 1970).
    pub(super) quarter: i64,
    sums: Values,
    minutes: Values,
}

impl History {
    pub(super) fn new() -> History {
        History {
            cells: vec![[0; SERIES_COUNT]; QUARTERS],
            quarter: 0,
            sums: [0.0; SERIES_COUNT],
            minutes: [0.0; SERIES_COUNT],
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.cells.len() * size_of::<[u16; SERIES_COUNT]>()
    }

    /// Adds a minute (`weight` of them); NaN is left out. True when a quarter was completed by it.
    pub(super) fn add(&mut self, now_ms: i64, values: &Values, weight: f64) -> bool {
        let quarter = now_ms.div_euclid(QUARTER_MS);
        let turned = quarter != self.quarter;
        if turned {
            self.close();
            self.quarter = quarter;
        }
        for (at, value) in values.iter().enumerate().filter(|(_, value)| value.is_finite()) {
            self.sums[at] += value * weight;
            self.minutes[at] += weight;
        }
        turned
    }

    fn close(&mut self) {
        let slot = slot(self.quarter);
        // Only what was seen replaces what stood there a week ago.
        for (at, cell) in self.cells[slot].iter_mut().enumerate() {
            if self.minutes[at] >= MINUTES_MIN {
                *cell = pack(at, self.sums[at] / self.minutes[at]);
            }
        }
        (self.sums, self.minutes) = ([0.0; SERIES_COUNT], [0.0; SERIES_COUNT]);
    }

    /// A series is forgotten, because a new level is usual from now on.
    pub(super) fn forget(&mut self, series: Series) {
        self.cells.iter_mut().for_each(|cell| cell[series.index()] = 0);
        self.sums[series.index()] = 0.0;
        self.minutes[series.index()] = 0.0;
    }

    /// Oldest first: the quarter of the week and the value.
    pub(super) fn values(&self, series: Series) -> impl Iterator<Item = (usize, Option<f64>)> + '_ {
        let first = slot(self.quarter) + 1;
        (first..first + QUARTERS).map(move |at| {
            let at = at % QUARTERS;
            (at, unpack(series.index(), self.cells[at][series.index()]))
        })
    }

    pub(super) fn known(&self, series: Series) -> usize {
        self.cells.iter().filter(|cell| cell[series.index()] != 0).count()
    }
}

/// The quarter of the week, from Thursday 00:00 UTC on, as 1970 began.
pub(super) fn slot(quarter: i64) -> usize {
    usize::try_from(quarter.rem_euclid(QUARTERS as i64)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_values_are_exact_to_a_tenth_of_a_percent() {
        for series in 0..SERIES_COUNT {
            assert_eq!(unpack(series, pack(series, f64::NAN)), None);
            assert_eq!(unpack(series, pack(series, 0.0)), Some(0.0));
            for step in 0..200 {
                let value = unit(series) * 1.07_f64.powi(step);
                let back = unpack(series, pack(series, value)).unwrap();
                assert!((back / value - 1.0).abs() < 0.001, "{series} {value} {back}");
            }
        }
    }

    #[test]
    fn a_jump_of_the_clock_loses_no_other_quarter() {
        let mut history = History::new();
        let mut values = [f64::NAN; SERIES_COUNT];
        values[0] = 2.0;
        for quarter in 0..100 {
            for minute in 0..15 {
                history.add(quarter * QUARTER_MS + minute * 60_000, &values, 1.0);
            }
        }
        assert_eq!(history.known(Series::Cpu), 99);
        history.add(400 * QUARTER_MS, &values, 15.0);
        history.add(100 * QUARTER_MS, &values, 15.0);
        assert_eq!(history.known(Series::Cpu), 101);
    }

    #[test]
    fn a_quarter_with_two_undisturbed_minutes_is_not_kept() {
        let mut history = History::new();
        history.add(0, &[1.0; SERIES_COUNT], 1.0);
        history.add(60_000, &[1.0; SERIES_COUNT], 1.0);
        assert!(history.add(QUARTER_MS, &[1.0; SERIES_COUNT], 1.0));
        assert_eq!(history.known(Series::Cpu), 0);
    }
}
