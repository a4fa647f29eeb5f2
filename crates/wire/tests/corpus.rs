//! The committed fuzzing corpora as plain tests.

#[path = "support/mod.rs"]
mod support;

use support::checks::{check_decode, check_encode, check_split, check_verify};
use support::corpus::run;
use support::ws::{check_ws_decode, check_ws_handshake};

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
