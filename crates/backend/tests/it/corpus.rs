//! Runs the committed fuzzing corpus of answers as a plain test, with the check of the fuzz target.

use std::path::Path;

use naru_backend::{Event, check_answer};

#[test]
fn the_corpus_of_answers_is_read_or_refused_and_never_panics() {
    let folder = Path::new(&std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo runs this"))
        .join("../../fuzz/corpus/backend_answer");
    for entry in std::fs::read_dir(folder).expect("the corpus is committed") {
        let entry = entry.expect("an entry");
        let name = entry.file_name().to_string_lossy().into_owned();
        let body = std::fs::read(entry.path()).expect("a file");
        // `connect-good`: what answers this event well.
        for event in Event::ALL {
            let read = check_answer(event, &body);
            if name.strip_suffix("-good") == Some(event.label()) {
                assert_eq!(read, Ok(()), "{name}");
            }
            if name.starts_with("bad-") && event == Event::Connect {
                assert!(read.is_err(), "{name}");
            }
        }
    }
}
