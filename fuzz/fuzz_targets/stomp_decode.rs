//! Any bytes of a STOMP client: read the same however they are cut, within the limits, or refused.
#![no_main]

#[path = "../../crates/wire/tests/stomp/checks.rs"]
#[allow(dead_code, reason = "each target uses its own check")]
mod checks;

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::check_stomp_decode(data));
