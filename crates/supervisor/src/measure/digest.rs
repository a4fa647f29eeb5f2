//! A distribution in a few hundred bytes that can be merged without loss.
//!
//! Values are counted in buckets that do not depend on what was seen: below 32 each value has its own,
//! above there are 16 of equal width per power of two. So two digests merge by adding, in any order, and
//! the result is the digest of all values. Count, mean and peak are exact; a percentile is the middle of
//! its bucket and so off by at most 1/32 (3.2 %) of the value, and exact below 32.
//!
//! Values have weights, the time for which they stand, in tenths of a second: a percentile is a share of
//! the time, and stays true when samples are taken at changing intervals.

use std::time::Duration;

/// Values below have a bucket of their own.
const EXACT: u32 = 32;
/// Buckets per power of two, as bits.
const SUB_BITS: u32 = 4;
/// An entry is the bucket above these bits and the weight in them: 9 days and 17 hours in tenths.
const WEIGHT_BITS: u32 = 23;
const WEIGHT_MAX: u32 = (1 << WEIGHT_BITS) - 1;

/// A distribution of values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    /// Sorted by bucket.
    entries: Vec<u32>,
    count: u32,
    weight: u64,
    sum: u64,
    max: u32,
}

impl Digest {
    /// Adds a value that stands for `span`, at least a tenth of a second and at most ten minutes.
    pub fn add(&mut self, value: u32, span: Duration) {
        let tenths = u32::try_from(span.as_millis() / 100).unwrap_or(u32::MAX).clamp(1, 6_000);
        self.add_entry(bucket(value), tenths);
        self.count = self.count.saturating_add(1);
        self.weight += u64::from(tenths);
        self.sum = self.sum.saturating_add(u64::from(value) * u64::from(tenths));
        self.max = self.max.max(value);
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Digest) {
        for entry in &other.entries {
            self.add_entry(entry >> WEIGHT_BITS, entry & WEIGHT_MAX);
        }
        self.count = self.count.saturating_add(other.count);
        self.weight += other.weight;
        self.sum = self.sum.saturating_add(other.sum);
        self.max = self.max.max(other.max);
    }

    fn add_entry(&mut self, bucket: u32, weight: u32) {
        match self.entries.binary_search_by_key(&bucket, |entry| entry >> WEIGHT_BITS) {
            Ok(at) => {
                let sum = (self.entries[at] & WEIGHT_MAX) + weight;
                self.entries[at] = (bucket << WEIGHT_BITS) | sum.min(WEIGHT_MAX);
            }
            Err(at) => self.entries.insert(at, (bucket << WEIGHT_BITS) | weight),
        }
    }

    /// How many values there were.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Whether there was none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The mean over time; zero without values.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a mean needs no more than 52 bits")]
    pub fn mean(&self) -> f64 {
        if self.weight == 0 { 0.0 } else { self.sum as f64 / self.weight as f64 }
    }

    /// The largest value.
    #[must_use]
    pub fn max(&self) -> u32 {
        self.max
    }

    /// The value that is not exceeded in `percent` of the time, within 1/32.
    #[must_use]
    pub fn percentile(&self, percent: u64) -> u32 {
        let total: u64 = self.entries.iter().map(|entry| u64::from(entry & WEIGHT_MAX)).sum();
        let wanted = (total * percent.min(100)).div_ceil(100).max(1);
        let mut seen = 0;
        for entry in &self.entries {
            seen += u64::from(entry & WEIGHT_MAX);
            if seen >= wanted {
                return middle(entry >> WEIGHT_BITS).min(self.max);
            }
        }
        self.max
    }

    /// Joins each two buckets into the lower one, where values are not exact: half the memory for a
    /// percentile within 3/32. Only for what would not fit otherwise.
    pub(super) fn fold(&mut self) {
        let folded = |entry: u32| {
            let bucket = entry >> WEIGHT_BITS;
            if bucket < EXACT { bucket } else { bucket & !1 }
        };
        self.entries.dedup_by(|next, kept| {
            let is_same = folded(*next) == folded(*kept);
            if is_same {
                let sum = (*next & WEIGHT_MAX) + (*kept & WEIGHT_MAX);
                *kept = (folded(*kept) << WEIGHT_BITS) | sum.min(WEIGHT_MAX);
            }
            is_same
        });
        self.entries.shrink_to_fit();
    }

    /// Empties it, and keeps its memory for what comes.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
        (self.count, self.weight, self.sum, self.max) = (0, 0, 0, 0);
    }

    pub(super) fn shrink(&mut self) {
        self.entries.shrink_to_fit();
    }

    /// Memory beside itself, in bytes.
    pub(super) fn heap_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<u32>()
    }
}

fn bucket(value: u32) -> u32 {
    if value < EXACT {
        return value;
    }
    // The highest bit is at least the fifth: 32 is the first of bucket 32.
    let octave = value.ilog2() - SUB_BITS;
    let sub = (value >> octave) - (1 << SUB_BITS);
    EXACT + ((octave - 1) << SUB_BITS) + sub
}

fn middle(bucket: u32) -> u32 {
    if bucket < EXACT {
        return bucket;
    }
    let octave = ((bucket - EXACT) >> SUB_BITS) + 1;
    let sub = ((bucket - EXACT) & ((1 << SUB_BITS) - 1)) + (1 << SUB_BITS);
    let low = u64::from(sub) << octave;
    let middle = low + (1u64 << octave) / 2;
    u32::try_from(middle).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn buckets_cover_all_values_in_order_within_the_bound() {
        let mut last = None;
        for value in (0..70_000).chain([1 << 20, u32::MAX / 2, u32::MAX - 1, u32::MAX]) {
            let at = bucket(value);
            assert!(last.is_none_or(|last| at >= last), "{value}");
            assert!(at < 1 << (32 - WEIGHT_BITS), "{value}: {at} has no room");
            let error = middle(at).abs_diff(value);
            assert!(u64::from(error) * 32 <= u64::from(value), "{value}: {}", middle(at));
            last = Some(at);
        }
    }

    proptest! {
        #[test]
        fn merging_loses_nothing_in_any_order(
            values in prop::collection::vec((any::<u32>(), 1u64..20), 1..200),
            cut in 0usize..200,
        ) {
            let (mut whole, mut left, mut right) =
                (Digest::default(), Digest::default(), Digest::default());
            for (at, (value, seconds)) in values.iter().enumerate() {
                let span = SECOND * u32::try_from(*seconds).unwrap();
                whole.add(*value, span);
                if at < cut { left.add(*value, span) } else { right.add(*value, span) }
            }
            let mut one = left.clone();
            one.merge(&right);
            right.merge(&left);
            prop_assert_eq!(&one, &whole);
            prop_assert_eq!(&right, &whole);
        }

        #[test]
        fn percentiles_are_within_the_stated_error(
            mut values in prop::collection::vec(0u32..10_000_000, 1..300),
            percent in 1u64..=100,
        ) {
            let mut digest = Digest::default();
            for value in &values {
                digest.add(*value, SECOND);
            }
            values.sort_unstable();
            let rank = (values.len() * usize::try_from(percent).unwrap()).div_ceil(100).max(1);
            let exact = values[rank - 1];
            let found = digest.percentile(percent);
            prop_assert!(u64::from(found.abs_diff(exact)) * 32 <= u64::from(exact),
                "{} for {}", found, exact);
            let mean = values.iter().map(|value| f64::from(*value)).sum::<f64>()
                / values.len() as f64;
            prop_assert!((digest.mean() - mean).abs() <= mean.abs() * 1e-9);
            prop_assert_eq!(digest.max(), *values.last().unwrap());
        }
    }

    #[test]
    fn a_folded_digest_is_half_as_large_and_a_little_coarser() {
        let mut digest = Digest::default();
        (0..50_000).for_each(|value| digest.add(value, SECOND));
        let (before, exact) = (digest.heap_bytes(), digest.clone());
        digest.fold();
        assert!(digest.heap_bytes() <= before * 6 / 10, "{} {before}", digest.heap_bytes());
        assert_eq!((digest.count(), digest.max()), (exact.count(), exact.max()));
        for percent in [1, 50, 95, 100] {
            let (one, other) = (digest.percentile(percent), exact.percentile(percent));
            assert!(one.abs_diff(other) * 32 <= other * 3, "{percent}: {one} {other}");
        }
        digest.merge(&exact);
        assert_eq!(digest.count(), 100_000);
    }

    #[test]
    fn a_value_counts_for_as_long_as_it_stood() {
        let mut digest = Digest::default();
        for _ in 0..10 {
            digest.add(10, SECOND);
        }
        digest.add(30, SECOND * 10);
        assert!((digest.mean() - 20.0).abs() < 1e-9);
        assert_eq!((digest.percentile(50), digest.percentile(51)), (10, 30));
        assert_eq!(Digest::default().percentile(95), 0);
    }
}
