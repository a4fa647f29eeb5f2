//! The committed fuzzing corpora as plain tests.

use crate::corpus_run::run;
use crate::support::checks::{
    check_centrifuge_emulation, check_centrifuge_json, check_centrifuge_protobuf, check_delta,
};

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
