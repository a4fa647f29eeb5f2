//! Any two texts have a delta that leads from one to the other, or none; any delta is applied or refused.
#![no_main]

#[path = "../../crates/wire/tests/centrifuge/support/mod.rs"]
#[allow(dead_code, reason = "each target uses its own check")]
mod support;

libfuzzer_sys::fuzz_target!(|data: &[u8]| support::checks::check_delta(data));
