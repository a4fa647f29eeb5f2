//! Packed figures of a ward as a damaged store may hold them: refused, or within the bounds of a block.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/supervisor/tests/support/ward_block.rs"]
mod ward_block;

fuzz_target!(|data: &[u8]| ward_block::check(data));
