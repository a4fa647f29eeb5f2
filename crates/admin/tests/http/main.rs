//! The API over real sockets, with twins of the store and of the operator's actions.

mod access;
mod actions;
mod client;
mod documents;
mod hostile;
mod lists;
mod logins;
mod probes;
mod store_twin;
mod twin;
mod ward_twin;
mod wards;
