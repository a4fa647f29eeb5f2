//! The committed fuzzing corpora as plain tests.

use crate::checks::{check_stomp_decode, check_stomp_session};
use crate::corpus_run::run;

#[test]
fn the_corpus_of_stomp_decode_passes() {
    run("stomp_decode", check_stomp_decode);
}

#[test]
fn the_corpus_of_stomp_session_passes() {
    run("stomp_session", check_stomp_session);
}
