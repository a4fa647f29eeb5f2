//! Five minutes or an hour of a ward in a hundred bytes: mean, 95th percentile, peak and count of each
//! series.
//!
//! Version 1: the version and the number of entries; each is the number of its series, the count, the
//! mean in hundredths, the percentile and the peak. Decoding is bounded by the number of series.

use naru_domain::Timestamp;
use naru_domain::ports::WardResolution;

use super::series::Series;
use super::varint::{put, take};
use super::windows::Summary;

const VERSION: u8 = 1;

/// Why bytes are not a roll-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RollupError {
    /// A newer program wrote it, or it is none.
    #[error("a roll-up of version {0} is not known here")]
    Version(u8),
    /// It is cut off, or a number is out of its range.
    #[error("the roll-up is malformed")]
    Malformed,
}

/// What a span of time was like.
#[derive(Clone, Debug, PartialEq)]
pub struct Rollup {
    /// How long it is.
    pub resolution: WardResolution,
    /// Where it begins: a multiple of its length.
    pub start: Timestamp,
    /// The series that had values.
    pub series: Vec<(Series, Summary)>,
}

impl Rollup {
    /// Packs it, without resolution and start, which are its key.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a mean of 32 bit values in hundredths has 39 bits and no sign"
    )]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(2 + self.series.len() * 16);
        out.push(VERSION);
        put(&mut out, self.series.len() as u64);
        for (series, summary) in &self.series {
            put(&mut out, u64::from(series.number()));
            put(&mut out, u64::from(summary.count));
            put(&mut out, (summary.mean * 100.0).round() as u64);
            put(&mut out, u64::from(summary.p95));
            put(&mut out, u64::from(summary.max));
        }
        out
    }

    /// Reads packed bytes. Series that this program does not know are left out.
    #[expect(clippy::cast_precision_loss, reason = "checked to have 39 bits")]
    pub fn decode(
        resolution: WardResolution,
        start: Timestamp,
        mut bytes: &[u8],
    ) -> Result<Rollup, RollupError> {
        let (version, rest) = bytes.split_first().ok_or(RollupError::Malformed)?;
        if *version != VERSION {
            return Err(RollupError::Version(*version));
        }
        bytes = rest;
        let mut number = || take(&mut bytes).ok_or(RollupError::Malformed);
        let small = |value: u64| u32::try_from(value).map_err(|_| RollupError::Malformed);
        let entries = number()?;
        if entries > 255 {
            return Err(RollupError::Malformed);
        }
        let mut series = Vec::new();
        for _ in 0..entries {
            let which = u8::try_from(number()?).map_err(|_| RollupError::Malformed)?;
            let count = small(number()?)?;
            let mean = number()?;
            if mean > u64::from(u32::MAX) * 100 {
                return Err(RollupError::Malformed);
            }
            let (p95, max) = (small(number()?)?, small(number()?)?);
            if let Some(which) = Series::from_number(which) {
                series.push((which, Summary { count, mean: mean as f64 / 100.0, p95, max }));
            }
        }
        if !bytes.is_empty() {
            return Err(RollupError::Malformed);
        }
        Ok(Rollup { resolution, start, series })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_rollup_comes_back_with_its_mean_to_a_hundredth() {
        let summary = Summary { count: 300, mean: 1_234.564, p95: 2_000, max: u32::MAX - 1 };
        let rollup = Rollup {
            resolution: WardResolution::Hour,
            start: Timestamp(3_600_000),
            series: vec![(Series::Cpu, summary), (Series::Ping, Summary::default())],
        };
        let packed = rollup.encode();
        let found = Rollup::decode(rollup.resolution, rollup.start, &packed).unwrap();
        let kept = Summary { mean: 1_234.56, ..summary };
        assert_eq!(found.series, [(Series::Cpu, kept), (Series::Ping, Summary::default())]);
        for cut in 0..packed.len() {
            assert!(Rollup::decode(rollup.resolution, rollup.start, &packed[..cut]).is_err());
        }
        let newer = Rollup::decode(rollup.resolution, rollup.start, &[2, 0]);
        assert_eq!(newer, Err(RollupError::Version(2)));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            drop(Rollup::decode(WardResolution::Hour, Timestamp(0), &bytes));
        }
    }
}
