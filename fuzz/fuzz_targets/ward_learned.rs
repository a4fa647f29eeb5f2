//! A ward's snapshot is refused, or gives a learner that works and stays in its bounds.
#![no_main]

use naru_supervisor::learn::{
    LearnSettings, Learner, MinuteAggregate, RECORDING_LINE_BYTES_MAX, Replay, SNAPSHOT_BYTES_MAX,
    Sample,
};

#[path = "../../crates/supervisor/src/learn/checks.rs"]
#[allow(dead_code, reason = "each target uses its own check")]
mod checks;

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::check_restore(data));
