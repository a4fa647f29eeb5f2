//! Any reply: a phone reads what we write.
#![no_main]

#[path = "../../crates/wire/tests/support/mod.rs"]
#[allow(dead_code, reason = "each target uses its own check")]
mod support;

libfuzzer_sys::fuzz_target!(|data: &[u8]| support::checks::check_encode(data));
