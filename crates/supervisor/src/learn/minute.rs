//! One minute, put together from samples: means outside of saves, of the whole and of its quarters,
//! which tell a short spike from a minute that was busy throughout.

use super::words::{MinuteAggregate, SERIES_COUNT, Sample, Series, Values};

pub(super) const QUARTERS: usize = 4;
const QUARTER_MS: f64 = 15_000.0;

/// Sums while a minute runs.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Minute {
    sums: [Values; QUARTERS],
    weights: [Values; QUARTERS],
    millis: f64,
    /// Lowest memory of a sample; zero: none yet.
    lowest_memory: f64,
    /// Samples, whether in saves or not.
    pub(super) samples: u32,
}

/// A finished minute.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// Means outside of saves; NaN where nothing is known.
    pub(super) means: Values,
    /// Of each quarter of the minute.
    pub(super) quarters: [Values; QUARTERS],
    /// Of the single samples.
    pub(super) lowest_memory: f64,
}

fn values_of(sample: &Sample) -> Values {
    let seconds = sample.elapsed.as_secs_f64().max(0.001);
    let unknown = f64::NAN;
    [
        sample.cpu_cores.map_or(unknown, f64::from),
        sample.rss_bytes.map_or(unknown, |bytes| bytes as f64),
        sample.tick_ms.map_or(unknown, f64::from),
        sample.tick_rate.map_or(unknown, f64::from),
        sample.write_bytes.map_or(unknown, |bytes| bytes as f64 / seconds),
        sample.players.map_or(unknown, f64::from),
    ]
}

fn values_of_minute(minute: &MinuteAggregate) -> Values {
    let unknown = f64::NAN;
    [
        minute.cpu_cores.map_or(unknown, f64::from),
        minute.rss_bytes.map_or(unknown, |bytes| bytes as f64),
        minute.tick_ms.map_or(unknown, f64::from),
        minute.tick_rate.map_or(unknown, f64::from),
        minute.write_bytes_per_s.map_or(unknown, f64::from),
        minute.players.map_or(unknown, f64::from),
    ]
}

impl Minute {
    /// A sample; one in a save counts for nothing but players.
    pub(super) fn add(&mut self, sample: &Sample, in_save: bool) {
        let millis = sample.elapsed.as_millis() as f64;
        let quarter = super::robust::floor_index(self.millis / QUARTER_MS).min(QUARTERS - 1);
        self.millis += millis;
        self.samples = self.samples.saturating_add(1);
        // A save hardly touches memory, and troughs are short.
        if let Some(bytes) = sample.rss_bytes {
            let bytes = bytes as f64;
            let lower = self.lowest_memory <= 0.0 || bytes < self.lowest_memory;
            self.lowest_memory = if lower { bytes } else { self.lowest_memory };
        }
        for (series, value) in values_of(sample).into_iter().enumerate() {
            if value.is_finite() && (!in_save || series == Series::Players.index()) {
                self.sums[quarter][series] += value * millis;
                self.weights[quarter][series] += millis;
            }
        }
    }

    /// Ends the minute. Where there were no samples at all, the aggregate stands for them.
    pub(super) fn finish(&mut self, aggregate: &MinuteAggregate) -> Seen {
        let whole = values_of_minute(aggregate);
        let done = std::mem::take(self);
        if done.samples == 0 {
            let lowest_memory = whole[Series::Memory.index()];
            return Seen { means: whole, quarters: [whole; QUARTERS], lowest_memory };
        }
        let mut seen = Seen {
            means: [f64::NAN; SERIES_COUNT],
            quarters: [[f64::NAN; SERIES_COUNT]; QUARTERS],
            lowest_memory: done.lowest_memory,
        };
        for series in 0..SERIES_COUNT {
            let (mut sum, mut weight) = (0.0, 0.0);
            for (at, (sums, weights)) in done.sums.iter().zip(&done.weights).enumerate() {
                if weights[series] <= 0.0 {
                    continue;
                }
                sum += sums[series];
                weight += weights[series];
                seen.quarters[at][series] = sums[series] / weights[series];
            }
            if weight > 0.0 {
                seen.means[series] = sum / weight;
            } else if done.all_unknown(series) {
                // The sampler does not read this one; a probe that answers once a minute may.
                seen.means[series] = whole[series];
                seen.quarters.iter_mut().for_each(|quarter| quarter[series] = whole[series]);
            }
        }
        if seen.lowest_memory <= 0.0 {
            seen.lowest_memory = seen.means[Series::Memory.index()];
        }
        seen
    }

    /// Never given outside of saves, though there was time outside of saves.
    fn all_unknown(&self, series: usize) -> bool {
        let clean = |at: usize| self.weights.iter().map(|weights| weights[at]).sum::<f64>();
        clean(series) <= 0.0 && (0..Series::Players.index()).any(|other| clean(other) > 0.0)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn sample(cpu: f32) -> Sample {
        Sample {
            elapsed: Duration::from_secs(1),
            cpu_cores: Some(cpu),
            players: Some(3),
            ..Sample::default()
        }
    }

    #[test]
    fn samples_in_saves_do_not_count() {
        let mut minute = Minute::default();
        for second in 0..60 {
            let saving = second % 30 < 5;
            minute.add(&sample(if saving { 4.0 } else { 1.0 }), saving);
        }
        let seen = minute.finish(&MinuteAggregate { cpu_cores: Some(1.5), ..Default::default() });
        assert_eq!(seen.means[Series::Cpu.index()], 1.0);
    }

    #[test]
    fn a_minute_that_was_one_long_save_is_not_known() {
        let mut minute = Minute::default();
        (0..60).for_each(|_| minute.add(&sample(4.0), true));
        let seen = minute.finish(&MinuteAggregate { cpu_cores: Some(4.0), ..Default::default() });
        assert!(seen.means[Series::Cpu.index()].is_nan());
        assert_eq!(seen.means[Series::Players.index()], 3.0);
    }

    #[test]
    fn a_spike_moves_the_mean_but_not_the_last_quarter() {
        let mut minute = Minute::default();
        (0..60).for_each(|second| minute.add(&sample(if second < 20 { 9.0 } else { 1.0 }), false));
        let seen = minute.finish(&MinuteAggregate::default());
        assert!(seen.means[Series::Cpu.index()] > 3.0);
        assert_eq!(seen.quarters[3][Series::Cpu.index()], 1.0);
    }

    #[test]
    fn what_only_a_probe_knows_comes_from_the_aggregate() {
        let mut minute = Minute::default();
        (0..60).for_each(|_| minute.add(&sample(1.0), false));
        let seen = minute.finish(&MinuteAggregate { tick_ms: Some(17.0), ..Default::default() });
        assert_eq!(seen.means[Series::TickTime.index()], 17.0);
    }
}
