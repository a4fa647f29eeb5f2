//! Runs the committed fuzzing corpus as a plain test, so that what a fuzzer once found stays found.

#[path = "support/mod.rs"]
mod support;

use std::path::Path;

use support::checks::{check_decode, check_encode, check_split, check_verify};
use support::ws::{check_ws_decode, check_ws_handshake};

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
fn the_corpus_of_bridge_decode_passes() {
    run("bridge_decode", check_decode);
}

#[test]
fn the_corpus_of_bridge_split_passes() {
    run("bridge_split", check_split);
}

#[test]
fn the_corpus_of_bridge_verify_passes() {
    run("bridge_verify", check_verify);
}

#[test]
fn the_corpus_of_bridge_encode_passes() {
    run("bridge_encode", check_encode);
}

#[test]
fn the_corpus_of_ws_decode_passes() {
    run("ws_decode", check_ws_decode);
}

#[test]
fn the_corpus_of_ws_handshake_passes() {
    run("ws_handshake", check_ws_handshake);
}
