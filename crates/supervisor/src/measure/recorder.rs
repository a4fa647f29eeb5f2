//! All figures of one ward: windows, the block in the making, and peaks.

use std::sync::Arc;

use naru_domain::ports::WardPeak;

use super::block::BlockBuilder;
use super::pending::Pending;
use super::rollup::Rollup;
use super::series::{Reading, Series};
use super::windows::Windows;
use crate::model::WardName;

/// Takes the readings of one ward in.
#[derive(Debug)]
pub struct Recorder {
    ward: WardName,
    name: Arc<str>,
    windows: Windows,
    block: BlockBuilder,
    rollups: Vec<Rollup>,
    peaks: [Option<u32>; Series::COUNT],
}

impl Recorder {
    /// Goes on with windows from before a restart, or empty ones.
    #[must_use]
    pub fn new(ward: WardName, windows: Windows) -> Recorder {
        let (block, rollups) = (BlockBuilder::default(), Vec::new());
        let name = Arc::from(ward.as_str());
        Recorder { ward, name, windows, block, rollups, peaks: [None; Series::COUNT] }
    }

    /// Takes a reading in. Allocates nothing but where a stretch of time ends or a peak is reached.
    pub fn record(&mut self, reading: &Reading, pending: &mut Pending) {
        self.windows.add(reading, &mut self.rollups);
        for rollup in self.rollups.drain(..) {
            pending.add_rollup(&self.ward, &rollup);
        }
        if !self.block.add(reading) {
            self.seal(pending);
            // An empty block takes any reading.
            self.block.add(reading);
        }
        for (series, value) in reading.values.iter() {
            let peak = &mut self.peaks[series.index()];
            if peak.is_none_or(|peak| value > peak) {
                *peak = Some(value);
                let (ward, series) = (Arc::clone(&self.name), series.number());
                pending.add_peak(WardPeak { ward, series, value, at: reading.at });
            }
        }
    }

    /// Hands the block in the making over to be kept: call it when a flush is due.
    pub fn seal(&mut self, pending: &mut Pending) {
        if let Some((start, data)) = self.block.seal() {
            pending.add_block(&self.ward, start, data);
        }
    }

    /// The windows.
    #[must_use]
    pub fn windows(&self) -> &Windows {
        &self.windows
    }

    /// Gives memory back under pressure.
    pub fn shed(&mut self) {
        self.windows.shed();
        self.block.shrink();
        self.rollups.shrink_to_fit();
    }

    /// The memory in use, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.windows.bytes() + self.block.heap_bytes() + size_of::<Recorder>()
    }
}
