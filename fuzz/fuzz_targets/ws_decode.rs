//! Any stream of a WebSocket client: it is read or refused, the same in any pieces.
#![no_main]

#[path = "../../crates/wire/tests/support/mod.rs"]
#[allow(dead_code, reason = "each target uses its own check")]
mod support;

libfuzzer_sys::fuzz_target!(|data: &[u8]| support::ws::check_ws_decode(data));
