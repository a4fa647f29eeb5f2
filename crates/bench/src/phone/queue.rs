//! What a phone keeps while it is not connected, and how long it waits before it tries again. Plain
//! data with the rules of the scripts.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Frames flushed per connection; the rest waits for the next one.
pub(super) const FLUSH_FRAMES_MAX: usize = 10;
const FRAMES_MAX: usize = 2000;
const FRAME_AGE_MAX: Duration = Duration::from_secs(30);

/// The pause before attempt `attempts` + 1, with attempts counted since the last TCP connection:
/// 4, 8, 16, 32, 60, 60 … seconds.
pub(super) fn back_off(attempts: u32) -> Duration {
    Duration::from_millis((2000 << attempts.min(6)).min(60_000))
}

/// Frames waiting for a connection, oldest first.
#[derive(Default)]
pub(super) struct FrameQueue(VecDeque<(Instant, Vec<u8>)>);

impl FrameQueue {
    /// Adds a frame made now; returns how many old ones were dropped for it.
    pub(super) fn push(&mut self, now: Instant, frame: Vec<u8>) -> usize {
        self.0.push_back((now, frame));
        let before = self.0.len();
        self.0.retain(|(made, _)| now.duration_since(*made) <= FRAME_AGE_MAX);
        while self.0.len() > FRAMES_MAX {
            self.0.pop_front();
        }
        before - self.0.len()
    }

    /// The next frame that is not too old.
    pub(super) fn pop(&mut self, now: Instant) -> Option<(Instant, Vec<u8>)> {
        loop {
            let (made, frame) = self.0.pop_front()?;
            if now.duration_since(made) <= FRAME_AGE_MAX {
                return Some((made, frame));
            }
        }
    }

    /// Puts a frame back whose write failed.
    pub(super) fn put_back(&mut self, made: Instant, frame: Vec<u8>) {
        self.0.push_front((made, frame));
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_from_four_seconds_to_a_minute() {
        let seconds: Vec<u64> = (1..8).map(|attempts| back_off(attempts).as_secs()).collect();
        assert_eq!(seconds, [4, 8, 16, 32, 60, 60, 60]);
    }

    #[test]
    fn frames_older_than_thirty_seconds_are_dropped() {
        let start = Instant::now();
        let mut queue = FrameQueue::default();
        queue.push(start, vec![1]);
        assert_eq!(queue.push(start + Duration::from_secs(30), vec![2]), 0);
        assert_eq!(queue.push(start + Duration::from_secs(31), vec![3]), 1);
        let later = start + Duration::from_secs(61);
        assert_eq!(queue.pop(later).map(|(_, frame)| frame), Some(vec![3]));
        assert!(queue.pop(later).is_none());
    }

    #[test]
    fn at_most_two_thousand_frames_wait() {
        let start = Instant::now();
        let mut queue = FrameQueue::default();
        let dropped: usize = (0..2005).map(|_| queue.push(start, vec![0])).sum();
        assert_eq!((queue.len(), dropped), (2000, 5));
    }
}
