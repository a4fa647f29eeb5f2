//! Runs the committed fuzzing corpora as plain tests, with the checks of the fuzz targets.

use std::path::Path;

use crate::profile::LogEvent;
use crate::profile::log::clean;
use crate::profile::plugin::{PLAYERS_MAX, decode};

fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let files = std::fs::read_dir(folder).unwrap().map(|entry| {
        let entry = entry.unwrap();
        (entry.file_name().to_string_lossy().into_owned(), std::fs::read(entry.path()).unwrap())
    });
    files.collect()
}

#[test]
fn the_corpus_of_log_lines_is_read() {
    for (name, line) in corpus("ward_log") {
        let mut buffer = Vec::new();
        assert!(clean(&line, &mut buffer).iter().all(|byte| *byte >= 0x20), "{name}");
        let found: Vec<LogEvent> = super::lines::JAVA.clone().look(&line).collect();
        let has_event = ["joined", "colours", "number_too_large"].contains(&name.as_str());
        assert_eq!(found.len(), usize::from(has_event), "{name}: {found:?}");
        if name == "number_too_large" {
            assert_eq!(found, [LogEvent::Lag { behind: None }]);
        }
    }
}

#[test]
fn the_corpus_of_plugin_answers_keeps_the_limits() {
    for (name, line) in corpus("ward_plugin") {
        let read = decode(&line);
        let is_wanted = ["status", "players"].contains(&name.as_str());
        assert_eq!(matches!(read, Ok((_, Ok(_)))), is_wanted, "{name}: {read:?}");
        if let Ok((_, Ok(answer))) = read {
            assert!(answer.players.unwrap_or_default().len() <= PLAYERS_MAX, "{name}");
        }
    }
}
