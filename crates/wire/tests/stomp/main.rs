//! The STOMP codec and its state machine from outside: vectors, hostile frames, properties, models.

mod checks;
mod corpus;
#[path = "../support/corpus.rs"]
mod corpus_run;
mod decode;
mod docs;
mod encode;
mod interop;
mod model;
mod negotiate;
mod properties;
mod session;
