//! Any JSON frame of a Centrifuge client: it is read or refused, within its limits, and serde_json agrees.
#![no_main]

#[path = "../../crates/wire/tests/centrifuge/support/mod.rs"]
#[allow(dead_code, reason = "each target uses its own check")]
mod support;

libfuzzer_sys::fuzz_target!(|data: &[u8]| support::checks::check_centrifuge_json(data));
