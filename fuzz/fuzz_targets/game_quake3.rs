//! Datagrams of servers of the Quake 3 family.
#![no_main]

#[path = "../../crates/games/tests/it/checks.rs"]
#[allow(dead_code, reason = "each target uses its own check")]
mod checks;

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::check_quake3(data));
