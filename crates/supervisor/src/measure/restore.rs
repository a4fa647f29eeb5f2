//! Going on after a restart: the windows of a ward from what was kept of it. Asynchronous, since it asks
//! the store; called once a ward, never from the sampling loop.

use std::collections::HashSet;
use std::time::Duration;

use naru_domain::Timestamp;
use naru_domain::ports::{StoreError, WardHistory, WardResolution};
use tracing::warn;

use super::block::Block;
use super::rollup::Rollup;
use super::windows::Windows;

/// Raw figures are looked for this far back: an outage may have left the hour in which it began without
/// a roll-up. They are kept for a day by default.
const REACH: Duration = Duration::from_secs(24 * 3_600);
const HOUR: Duration = Duration::from_secs(3_600);
/// A block may begin so much before a sample that it holds: a flush waits three minutes at most.
const BLOCK_REACH: Duration = Duration::from_secs(10 * 60);
/// Blocks of one page.
const PAGE: usize = 500;

/// The windows of `ward` as of `now`, and the roll-ups that an earlier end of the program left out: they
/// are to be kept with the next flush.
///
/// Damaged blocks are skipped, with a warning.
pub async fn restore(
    history: &dyn WardHistory,
    ward: &str,
    now: Timestamp,
) -> Result<(Windows, Vec<Rollup>), StoreError> {
    let earliest = whole_hour(now.minus(REACH));
    let (mut kept, mut last_hour) = (HashSet::new(), earliest);
    for resolution in [WardResolution::FiveMinutes, WardResolution::Hour] {
        for block in history.blocks(ward, resolution, earliest, now, 400).await? {
            kept.insert((resolution, block.start));
            if resolution == WardResolution::Hour {
                last_hour = block.start;
            }
        }
    }
    // The hour that is rolled up last is still needed: it may reach into the window of an hour. From a
    // whole hour on, so that every roll-up is of a whole stretch.
    let from = last_hour.clamp(earliest, whole_hour(now.minus(HOUR)));
    let (mut windows, mut rollups) = (Windows::default(), Vec::new());
    let mut page_from = from.minus(BLOCK_REACH);
    loop {
        let blocks = history.blocks(ward, WardResolution::Raw, page_from, now, PAGE).await?;
        for block in &blocks {
            match Block::decode(&block.data) {
                Ok(block) => windows.replay(&block, from, &mut rollups),
                Err(error) => warn!(ward, start = block.start.0, %error, "kept figures skipped"),
            }
        }
        match blocks.last() {
            // Keys are seconds: the next one begins at least one later.
            Some(last) if blocks.len() == PAGE => {
                page_from = last.start.plus(Duration::from_secs(1));
            }
            _ => break,
        }
    }
    rollups.retain(|rollup| !kept.contains(&(rollup.resolution, rollup.start)));
    Ok((windows, rollups))
}

fn whole_hour(at: Timestamp) -> Timestamp {
    Timestamp(at.0.div_euclid(3_600_000) * 3_600_000)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use naru_domain::Durability;
    use naru_domain::ports::{WardBatch, WardBlock};
    use naru_testkit::memory_wards::MemoryWards;

    use super::*;
    use crate::measure::{BlockBuilder, Reading, Series, Values, Window};

    const START: i64 = 1_700_002_800_000;

    fn reading(second: i64) -> Reading {
        let mut values = Values::EMPTY;
        values.set(Series::Cpu, u32::try_from(second % 100).unwrap());
        let at = Timestamp(START + second * 1_000);
        Reading { at, span: Duration::from_secs(1), values }
    }

    /// An hour and a half of figures, in blocks of four minutes as a save may cause; hours are rolled up
    /// as far as they were when the program died.
    #[tokio::test]
    async fn a_restart_finds_the_windows_and_the_rollups_that_were_left_out() {
        let store = MemoryWards::default();
        let (mut windows, mut rollups) = (Windows::default(), Vec::new());
        let (mut builder, mut batch) = (BlockBuilder::default(), WardBatch::default());
        let ward: Arc<str> = Arc::from("pal");
        for second in 0..90 * 60 {
            windows.add(&reading(second), &mut rollups);
            assert!(builder.add(&reading(second)));
            if second % 240 == 130 {
                let (start, data) = builder.seal().unwrap();
                let (ward, resolution) = (Arc::clone(&ward), WardResolution::Raw);
                let data = Arc::from(data);
                batch.blocks.push(WardBlock { ward, resolution, start, data });
            }
        }
        // It died at the end of the hour: of its roll-ups only the first three five minutes are kept.
        for rollup in &rollups[..3] {
            batch.blocks.push(WardBlock {
                ward: Arc::clone(&ward),
                resolution: rollup.resolution,
                start: rollup.start,
                data: Arc::from(rollup.encode()),
            });
        }
        batch.blocks.push(WardBlock {
            ward: Arc::clone(&ward),
            resolution: WardResolution::Raw,
            start: Timestamp(START + 17_000),
            data: Arc::from(&b"damaged"[..]),
        });
        store.flush(Arc::new(batch), Durability::Os).await.unwrap();

        let now = reading(90 * 60 - 1).at;
        let (restored, left_out) = restore(&store, "pal", now).await.unwrap();
        let whole: Vec<_> = rollups[3..]
            .iter()
            .filter(|rollup| rollup.start.0 + 300_000 <= START + 85 * 60_000)
            .cloned()
            .collect();
        assert_eq!(left_out[..whole.len()], whole);
        let (one, other) = (
            windows.summary(Series::Cpu, Window::Hour, now),
            restored.summary(Series::Cpu, Window::Hour, now),
        );
        // The samples after the last block are lost, no others.
        assert_eq!(one.count - other.count, (90 * 60 - 1) - (21 * 240 + 130), "{one:?} {other:?}");
        let later = Timestamp(START + 30 * 24 * 3_600_000);
        let (empty, none) = restore(&store, "pal", later).await.unwrap();
        assert_eq!((empty.last(Series::Cpu), none), (None, Vec::new()));
    }
}
