//! What a ward's plugin answers: never a panic, and whatever is taken keeps the limits.

#![no_main]

use libfuzzer_sys::fuzz_target;
use naru_supervisor::profile::plugin::{PLAYERS_MAX, decode};

fuzz_target!(|line: &[u8]| {
    let Ok((_, Ok(answer))) = decode(line) else { return };
    assert!(answer.players.unwrap_or_default().len() <= PLAYERS_MAX);
    assert!(answer.tick_rate.is_none_or(|rate| rate.is_finite() && rate >= 0.0));
});
