//! What Naru and keepers say to each other: understood or refused, never a panic.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/supervisor/tests/support/checks.rs"]
mod checks;

fuzz_target!(|bytes: &[u8]| checks::keeper_words(bytes));
