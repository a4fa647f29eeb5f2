//! The clients against servers that speak the bytes of the protocols on loopback, and the codecs against
//! anything.

mod checks;
mod corpus;
mod datagrams;
mod documents;
mod econ;
mod management;
mod palworld;
mod ping;
mod properties;
mod quake3;
mod rcon;
mod support;
