//! The Centrifuge codec from outside: examples both ways, recorded frames of SDKs, refusals, codes,
//! filters, channel names, deltas, the fuzzing corpus, and properties.

mod support;

mod codes;
mod corpus;
#[path = "../support/corpus.rs"]
mod corpus_run;
mod decode;
mod delta;
mod encode;
mod examples;
mod filter;
mod properties;
mod recordings;
