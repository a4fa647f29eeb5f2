//! Answers to Minecraft's Query.
#![no_main]

#[path = "../../crates/games/tests/it/checks.rs"]
#[allow(dead_code, reason = "each target uses its own check")]
mod checks;

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::check_query(data));
