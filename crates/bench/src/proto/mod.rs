//! The bridge protocol as a phone speaks it: which script says what, signatures, frames up and
//! frames down. Pure functions: no sockets, no clocks, nothing from the server's crates.

pub(crate) mod down;
pub(crate) mod script;
pub(crate) mod sign;
#[cfg(test)]
mod tests;
pub(crate) mod up;

pub(crate) use script::{Dialect, Script};
pub(crate) use sign::{Identity, Signer};
