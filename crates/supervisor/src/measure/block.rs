//! Samples of a minute or so of one ward, packed to about a byte each. Decoding is bounded: what it builds
//! is at most [`Block::POINTS_MAX`] points, whatever the bytes say.
//!
//! Version 1: the version, the first second (zigzag), the number of columns; each column is the number
//! of its series, the count of its points, their seconds and their values. Seconds are runs: a step and
//! how often it is taken, the first step counted from the block's first second. Values are differences:
//! an odd number is a run of unchanged values (half of it, rounded down, many), an even one the
//! difference (zigzag, doubled). Moments are kept to the second.

use naru_domain::Timestamp;

use super::series::{Reading, Series, Values};
use super::varint::{put, take, unzigzag, zigzag};

const VERSION: u8 = 1;

/// Why bytes are not a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// A newer program wrote it, or it is not a block.
    #[error("a block of version {0} is not known here")]
    Version(u8),
    /// It ends too early.
    #[error("the block is cut off")]
    CutOff,
    /// It says that it holds more than any block does.
    #[error("the block is too large")]
    TooLarge,
    /// A number is out of its range, or something follows the end.
    #[error("the block is malformed")]
    Malformed,
}

/// A value at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// When, to the second.
    pub at: Timestamp,
    /// The value, in the unit of its series.
    pub value: u32,
}

/// The points of one series in a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Which series.
    pub series: Series,
    /// At least one, in the order in which they were taken.
    pub points: Vec<Point>,
}

/// What a block holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// At most one of each series. Series that this program does not know are left out.
    pub columns: Vec<Column>,
}

impl Block {
    /// The most points of one block: half an hour of nine series with a sample a second.
    pub const POINTS_MAX: usize = 16_384;
    /// The most seconds that a block spans.
    pub const SECONDS_MAX: i64 = 24 * 3_600;

    /// Reads packed bytes.
    pub fn decode(mut bytes: &[u8]) -> Result<Block, BlockError> {
        let (version, rest) = bytes.split_first().ok_or(BlockError::CutOff)?;
        if *version != VERSION {
            return Err(BlockError::Version(*version));
        }
        bytes = rest;
        let start = unzigzag(number(&mut bytes)?);
        // Far from the ends, so that no sum below overflows.
        if start.unsigned_abs() > 1 << 40 {
            return Err(BlockError::Malformed);
        }
        let columns = number(&mut bytes)?;
        if columns > 255 {
            return Err(BlockError::TooLarge);
        }
        let (mut block, mut left) = (Block::default(), Self::POINTS_MAX);
        for _ in 0..columns {
            let series = u8::try_from(number(&mut bytes)?).map_err(|_| BlockError::Malformed)?;
            let count = usize::try_from(number(&mut bytes)?).map_err(|_| BlockError::TooLarge)?;
            left = left.checked_sub(count).ok_or(BlockError::TooLarge)?;
            if count == 0 {
                return Err(BlockError::Malformed);
            }
            let points = decode_points(&mut bytes, start, count)?;
            let Some(series) = Series::from_number(series) else { continue };
            if block.columns.iter().any(|column| column.series == series) {
                return Err(BlockError::Malformed);
            }
            block.columns.push(Column { series, points });
        }
        if bytes.is_empty() { Ok(block) } else { Err(BlockError::Malformed) }
    }

    /// The points of `series`.
    #[must_use]
    pub fn points(&self, series: Series) -> &[Point] {
        let column = self.columns.iter().find(|column| column.series == series);
        column.map_or(&[], |column| &column.points)
    }
}

fn number(bytes: &mut &[u8]) -> Result<u64, BlockError> {
    take(bytes).ok_or(BlockError::CutOff)
}

fn decode_points(bytes: &mut &[u8], start: i64, count: usize) -> Result<Vec<Point>, BlockError> {
    let mut points: Vec<Point> = Vec::with_capacity(count);
    let mut second = 0i64;
    while points.len() < count {
        let step = unzigzag(number(bytes)?);
        let times = usize::try_from(number(bytes)?).map_err(|_| BlockError::TooLarge)?;
        if times == 0 || times > count - points.len() {
            return Err(BlockError::Malformed);
        }
        for _ in 0..times {
            second = second.checked_add(step).ok_or(BlockError::Malformed)?;
            if second.unsigned_abs() > Block::SECONDS_MAX.unsigned_abs() {
                return Err(BlockError::Malformed);
            }
            points.push(Point { at: Timestamp((start + second) * 1_000), value: 0 });
        }
    }
    let (mut at, mut value) = (0, 0i64);
    while at < count {
        let token = number(bytes)?;
        let repeats = if token & 1 == 1 {
            usize::try_from(token >> 1).map_err(|_| BlockError::TooLarge)?
        } else {
            value = value.checked_add(unzigzag(token >> 1)).ok_or(BlockError::Malformed)?;
            1
        };
        if repeats == 0 || repeats > count - at {
            return Err(BlockError::Malformed);
        }
        let kept = u32::try_from(value).ok().filter(|kept| *kept <= Values::MAX);
        let kept = kept.ok_or(BlockError::Malformed)?;
        points[at..at + repeats].iter_mut().for_each(|point| point.value = kept);
        at += repeats;
    }
    Ok(points)
}

/// A block in the making. Adding allocates nothing once it has seen a block or two.
#[derive(Debug, Default)]
pub struct BlockBuilder {
    columns: [ColumnBuilder; Series::COUNT],
    start: Option<i64>,
    points: usize,
}

#[derive(Debug, Default)]
struct ColumnBuilder {
    count: u64,
    second: i64,
    step: i64,
    step_times: u64,
    times: Vec<u8>,
    value: i64,
    unchanged: u64,
    values: Vec<u8>,
}

impl BlockBuilder {
    /// Adds what a reading has. `false` if it does not fit: seal this block first.
    pub fn add(&mut self, reading: &Reading) -> bool {
        let second = reading.at.0.div_euclid(1_000);
        let start = *self.start.get_or_insert(second);
        let offset = second.saturating_sub(start);
        let fits = self.points + Series::COUNT <= Block::POINTS_MAX
            && offset.unsigned_abs() <= Block::SECONDS_MAX.unsigned_abs();
        if !fits {
            return false;
        }
        for (series, value) in reading.values.iter() {
            self.columns[series.index()].add(offset, value);
            self.points += 1;
        }
        true
    }

    /// How many points it holds.
    #[must_use]
    pub fn points(&self) -> usize {
        self.points
    }

    /// Packs what was added and begins anew; `None` if that was nothing. Also says where it begins.
    pub fn seal(&mut self) -> Option<(Timestamp, Vec<u8>)> {
        let start = self.start.take()?;
        if self.points == 0 {
            return None;
        }
        self.points = 0;
        let bytes: usize = self.columns.iter().map(ColumnBuilder::bytes_max).sum();
        let mut out = Vec::with_capacity(bytes + 16);
        out.push(VERSION);
        put(&mut out, zigzag(start));
        let used = self.columns.iter().filter(|column| column.count > 0).count();
        put(&mut out, used as u64);
        for (series, column) in Series::ALL.into_iter().zip(&mut self.columns) {
            if column.count > 0 {
                column.seal(series, &mut out);
            }
        }
        Some((Timestamp(start * 1_000), out))
    }

    /// Gives back memory that is not in use.
    pub(super) fn shrink(&mut self) {
        for column in &mut self.columns {
            column.times.shrink_to_fit();
            column.values.shrink_to_fit();
        }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.columns.iter().map(|each| each.times.capacity() + each.values.capacity()).sum()
    }
}

impl ColumnBuilder {
    fn add(&mut self, second: i64, value: u32) {
        let step = second - self.second;
        if self.step_times > 0 && step != self.step {
            self.end_steps();
        }
        (self.step, self.second) = (step, second);
        self.step_times += 1;
        let difference = i64::from(value) - self.value;
        if difference == 0 {
            self.unchanged += 1;
        } else {
            self.end_unchanged();
            put(&mut self.values, zigzag(difference) << 1);
            self.value = i64::from(value);
        }
        self.count += 1;
    }

    fn end_steps(&mut self) {
        put(&mut self.times, zigzag(self.step));
        put(&mut self.times, self.step_times);
        self.step_times = 0;
    }

    fn end_unchanged(&mut self) {
        if self.unchanged > 0 {
            put(&mut self.values, (self.unchanged << 1) | 1);
            self.unchanged = 0;
        }
    }

    fn bytes_max(&self) -> usize {
        self.times.len() + self.values.len() + 32
    }

    fn seal(&mut self, series: Series, out: &mut Vec<u8>) {
        self.end_steps();
        self.end_unchanged();
        put(out, u64::from(series.number()));
        put(out, self.count);
        out.extend_from_slice(&self.times);
        out.extend_from_slice(&self.values);
        self.times.clear();
        self.values.clear();
        (self.count, self.second, self.value) = (0, 0, 0);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn reading(second: i64, values: &[(Series, u32)]) -> Reading {
        let mut reading = Reading {
            at: Timestamp(1_700_000_000_000 + second * 1_000),
            span: Duration::from_secs(1),
            values: Values::EMPTY,
        };
        for (series, value) in values {
            reading.values.set(*series, *value);
        }
        reading
    }

    fn pack(readings: &[Reading]) -> Vec<u8> {
        let mut builder = BlockBuilder::default();
        assert!(readings.iter().all(|reading| builder.add(reading)));
        builder.seal().unwrap().1
    }

    #[test]
    fn a_busy_minute_takes_about_a_byte_a_sample() {
        let readings: Vec<Reading> = (0..60)
            .map(|second| {
                // A game that ticks: some percent up and down, in steps of the system's 10 ms.
                let wave = u32::try_from(second * 37 % 20).unwrap();
                let mut values = vec![
                    (Series::Cpu, 400 + wave * 10),
                    (Series::Memory, 70_000 + wave),
                    (Series::Threads, 31),
                ];
                if second % 10 == 0 {
                    let io = [(Series::Read, 0), (Series::Written, wave * 900)];
                    values.extend(io);
                    values.extend([(Series::Players, 5), (Series::Ping, 20 + wave)]);
                }
                reading(second, &values)
            })
            .collect();
        let points: usize = readings.iter().map(|each| each.values.iter().count()).sum();
        let packed = pack(&readings);
        assert!(packed.len() <= points * 11 / 10, "{} bytes for {points}", packed.len());
        let block = Block::decode(&packed).unwrap();
        assert_eq!(block.points(Series::Cpu).len(), 60);
        assert_eq!(block.points(Series::Cpu)[59].at, reading(59, &[]).at);
        assert_eq!(block.points(Series::TickRate), []);
    }

    #[test]
    fn a_builder_begins_anew_after_it_was_sealed() {
        let mut builder = BlockBuilder::default();
        assert_eq!(builder.seal(), None);
        for start in [5, 1_000, 90] {
            assert!(builder.add(&reading(start, &[(Series::Cpu, 3)])));
            let (at, packed) = builder.seal().unwrap();
            assert_eq!(at, reading(start, &[]).at);
            let point = Point { at, value: 3 };
            assert_eq!(Block::decode(&packed).unwrap().points(Series::Cpu), [point]);
        }
    }

    #[test]
    fn a_block_that_is_full_says_so() {
        let mut builder = BlockBuilder::default();
        let all = Series::ALL.map(|series| (series, 1));
        let added = (0..10_000).take_while(|second| builder.add(&reading(*second, &all))).count();
        assert!((1_500..=Block::POINTS_MAX / 9).contains(&added), "{added}");
        assert!(Block::decode(&builder.seal().unwrap().1).is_ok());
        assert!(builder.add(&reading(0, &all)));
        assert!(!builder.add(&reading(Block::SECONDS_MAX + 1, &all)));
    }

    #[test]
    fn what_no_block_says_is_refused() {
        let good = pack(&[reading(0, &[(Series::Cpu, 7)]), reading(1, &[(Series::Cpu, 9)])]);
        for cut in 0..good.len() {
            assert!(Block::decode(&good[..cut]).is_err(), "{cut}");
        }
        let trailing = [good.as_slice(), &[0]].concat();
        assert_eq!(Block::decode(&trailing), Err(BlockError::Malformed));
        assert_eq!(Block::decode(&[9, 0, 0]), Err(BlockError::Version(9)));
        // One column of more points than any block has, and one of none.
        assert_eq!(Block::decode(&[1, 0, 1, 0, 0x81, 0x80, 0x01]), Err(BlockError::TooLarge));
        assert_eq!(Block::decode(&[1, 0, 1, 0, 0]), Err(BlockError::Malformed));
        // A series of a newer program is left out; the rest stays.
        let newer = Block::decode(&[1, 0, 2, 77, 1, 0, 1, 4, 0, 1, 0, 1, 4]).unwrap();
        assert_eq!(newer.columns.len(), 1);
        assert_eq!(newer.points(Series::Cpu), [Point { at: Timestamp(0), value: 1 }]);
    }

    proptest! {
        #[test]
        fn what_is_packed_comes_back(
            rows in prop::collection::vec((0i64..5, prop::collection::vec(
                prop::option::of(0..=Values::MAX), Series::COUNT)), 1..80),
        ) {
            let mut second = 0;
            let mut readings = Vec::new();
            for (step, values) in rows {
                second += step;
                let present = Series::ALL.into_iter().zip(values);
                let present: Vec<_> = present.filter_map(|(s, v)| Some((s, v?))).collect();
                readings.push(reading(second, &present));
            }
            let mut builder = BlockBuilder::default();
            for reading in &readings {
                prop_assert!(builder.add(reading));
            }
            let packed = builder.seal();
            let block = packed.map(|(_, bytes)| Block::decode(&bytes).unwrap()).unwrap_or_default();
            for series in Series::ALL {
                let expected: Vec<Point> = readings.iter().filter_map(|reading| {
                    let value = reading.values.get(series)?;
                    Some(Point { at: reading.at, value })
                }).collect();
                prop_assert_eq!(block.points(series), expected);
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            drop(Block::decode(&bytes));
        }
    }
}
