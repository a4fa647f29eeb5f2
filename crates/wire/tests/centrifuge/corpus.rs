//! Runs the committed fuzzing corpus as a plain test, so that what a fuzzer once found stays found.

use std::path::Path;

use crate::support::checks::{
    check_centrifuge_emulation, check_centrifuge_json, check_centrifuge_protobuf, check_delta,
};

fn run(target: &str, check: fn(&[u8])) {
    let folder = Path::new(&std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo runs this"))
        .join("../../fuzz/corpus")
        .join(target);
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).expect("the corpus is committed") {
        check(&std::fs::read(entry.expect("an entry").path()).expect("a file"));
        count += 1;
    }
    assert!(count > 0, "the corpus of {target} is empty");
}

#[test]
fn the_corpus_of_centrifuge_json_passes() {
    run("centrifuge_json", check_centrifuge_json);
}

#[test]
fn the_corpus_of_centrifuge_protobuf_passes() {
    run("centrifuge_protobuf", check_centrifuge_protobuf);
}

#[test]
fn the_corpus_of_centrifuge_emulation_passes() {
    run("centrifuge_emulation", check_centrifuge_emulation);
}

#[test]
fn the_corpus_of_fossil_delta_passes() {
    run("fossil_delta", check_delta);
}
