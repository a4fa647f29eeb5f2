//! Answers of applications: never a panic.

#![no_main]

use libfuzzer_sys::fuzz_target;
use naru_backend::{Event, check_answer};

fuzz_target!(|body: &[u8]| {
    for event in Event::ALL {
        drop(check_answer(event, body));
    }
});
