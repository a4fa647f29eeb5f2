//! What holds for any bytes given to `learn`. Runs as properties, over the corpus, and as fuzz targets, which
//! give the words of `learn` to it.

use std::time::Duration;

use naru_domain::Timestamp;

use super::{LearnSettings, Learner, MinuteAggregate, Replay, SNAPSHOT_BYTES_MAX, Sample};

/// A snapshot is refused, or gives a learner that works, stays in its bounds and can be saved again.
pub(crate) fn check_restore(bytes: &[u8]) {
    let Ok(mut learner) = Learner::restore(LearnSettings::default(), bytes) else { return };
    let mut now = Timestamp(1_767_571_200_000);
    for minute in 0..20_u8 {
        for _ in 0..6 {
            now = now.plus(Duration::from_secs(10));
            let sample = Sample {
                elapsed: Duration::from_secs(10),
                cpu_cores: Some(1.0 + f32::from(minute)),
                rss_bytes: Some(4_000_000_000 + 100_000_000 * u64::from(minute)),
                write_bytes: Some(50_000 * u64::from(minute % 5)),
                tick_ms: Some(10.0),
                tick_rate: Some(20.0),
                players: Some(u32::from(minute)),
            };
            learner.sample(now, &sample);
        }
        learner.minute(now, &MinuteAggregate::default());
    }
    assert!(serde_json::to_string(&learner.view(now)).is_ok());
    assert!(learner.saves().next_window(now).is_none_or(|window| window.from <= window.until));
    assert!(learner.memory_bytes() <= 65_536, "{}", learner.memory_bytes());
    let again = learner.snapshot();
    assert!(again.len() <= SNAPSHOT_BYTES_MAX);
    assert!(Learner::restore(LearnSettings::default(), &again).is_ok());
}

/// Lines are read or refused, and what was learned from them can be saved and restored.
pub(crate) fn check_replay(bytes: &[u8]) {
    let mut replay = Replay::new(LearnSettings::default());
    for line in String::from_utf8_lossy(bytes).lines().take(64) {
        let read = replay.line(line);
        assert!(read.is_err() || line.len() <= super::RECORDING_LINE_BYTES_MAX);
    }
    let snapshot = replay.learner().snapshot();
    assert!(Learner::restore(LearnSettings::default(), &snapshot).is_ok());
}
