//! The bridge codec from outside: recordings of real phones, hostile lines, and properties.

#[path = "../support/mod.rs"]
mod support;

mod auth;
mod decode;
mod encode;
mod properties;
mod recordings;
mod text;
