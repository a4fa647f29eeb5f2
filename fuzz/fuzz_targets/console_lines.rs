//! What games print: clean lines without secrets, never a panic.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/supervisor/tests/support/checks.rs"]
mod checks;

fuzz_target!(|bytes: &[u8]| checks::console_lines(bytes));
