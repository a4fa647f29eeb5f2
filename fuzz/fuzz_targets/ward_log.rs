//! What a game prints, players' chat included: never a panic, and nothing grows without a limit.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use naru_supervisor::profile::log::{NAME_BYTES_MAX, PHRASE_BYTES_MAX, clean};
use naru_supervisor::profile::{LogEvent, LogPatterns, shipped};

static JAVA: LazyLock<LogPatterns> = LazyLock::new(|| {
    let profile = shipped::load("minecraft-java", &Default::default()).expect("it is shipped");
    LogPatterns::new(&profile.log, &profile.ready).expect("its patterns are right")
});

fuzz_target!(|line: &[u8]| {
    let mut buffer = Vec::new();
    let cleaned = clean(line, &mut buffer);
    assert!(cleaned.len() <= line.len());
    assert!(cleaned.iter().all(|byte| *byte >= 0x20 && *byte != 0x7f));
    for event in JAVA.clone().look(line) {
        match event {
            LogEvent::Joined(player) | LogEvent::Left(player) => {
                assert!((1..=NAME_BYTES_MAX).contains(&player.name.len()));
            }
            LogEvent::Crash { phrase } | LogEvent::Announced { phrase } => {
                assert!(phrase.len() <= 3 * PHRASE_BYTES_MAX);
            }
            _ => {}
        }
    }
});
