//! Packets of Source RCON servers, and the lists of players that they print.
#![no_main]

#[path = "../../crates/games/tests/it/checks.rs"]
#[allow(dead_code, reason = "each target uses its own check")]
mod checks;

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::check_rcon(data));
