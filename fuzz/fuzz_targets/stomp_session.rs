//! Any frames of a connected STOMP client: no rule of the state machine breaks, no delivery is lost.
#![no_main]

#[path = "../../crates/wire/tests/stomp/checks.rs"]
#[allow(dead_code, reason = "each target uses its own check")]
mod checks;

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::check_stomp_session(data));
