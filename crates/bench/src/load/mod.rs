//! The engine of all load runs: prepared frames, phones that keep accounts, threads that drive them.

pub(crate) mod connect;
pub(crate) mod frames;
pub(crate) mod gather;
pub(crate) mod mix;
pub(crate) mod pacer;
pub(crate) mod phone;
pub(crate) mod reader;
