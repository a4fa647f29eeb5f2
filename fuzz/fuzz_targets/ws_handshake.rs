//! Any offer of subprotocols and extensions: only what was offered is accepted.
#![no_main]

#[path = "../../crates/wire/tests/support/mod.rs"]
#[allow(dead_code, reason = "each target uses its own check")]
mod support;

libfuzzer_sys::fuzz_target!(|data: &[u8]| support::ws::check_ws_handshake(data));
