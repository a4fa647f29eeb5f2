//! Answers to Minecraft's server list ping, in all forms.
#![no_main]

#[path = "../../crates/games/tests/it/checks.rs"]
#[allow(dead_code, reason = "each target uses its own check")]
mod checks;

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::check_slp(data));
