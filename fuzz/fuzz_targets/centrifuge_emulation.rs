//! Any body that is posted beside a stream: it is read or refused, and what was read is what it says.
#![no_main]

#[path = "../../crates/wire/tests/centrifuge/support/mod.rs"]
#[allow(dead_code, reason = "each target uses its own check")]
mod support;

libfuzzer_sys::fuzz_target!(|data: &[u8]| support::checks::check_centrifuge_emulation(data));
