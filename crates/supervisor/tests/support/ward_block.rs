//! The check of the fuzz target `ward_block`.

use naru_domain::Timestamp;
use naru_domain::ports::WardResolution;
use naru_supervisor::measure::{Block, Rollup, Series, Windows};

/// Whatever is read keeps the limits, can be shown, and a roll-up comes back as it was.
pub(crate) fn check(data: &[u8]) {
    if let Ok(block) = Block::decode(data) {
        let points: usize = block.columns.iter().map(|column| column.points.len()).sum();
        assert!(points <= Block::POINTS_MAX && block.columns.len() <= Series::COUNT);
        assert!(block.columns.iter().all(|column| !column.points.is_empty()));
        let mut rollups = Vec::new();
        let mut windows = Windows::default();
        windows.replay(&block, Timestamp(i64::MIN), &mut rollups);
        assert!(windows.bytes() <= Windows::BYTES_MAX);
    }
    let start = Timestamp(0);
    if let Ok(rollup) = Rollup::decode(WardResolution::Hour, start, data) {
        let again = Rollup::decode(WardResolution::Hour, start, &rollup.encode());
        assert_eq!(again, Ok(rollup));
    }
}
