//! Any Protobuf frame of a Centrifuge client: it is read or refused, and a client's writing of it reads the same.
#![no_main]

#[path = "../../crates/wire/tests/centrifuge/support/mod.rs"]
#[allow(dead_code, reason = "each target uses its own check")]
mod support;

libfuzzer_sys::fuzz_target!(|data: &[u8]| support::checks::check_centrifuge_protobuf(data));
