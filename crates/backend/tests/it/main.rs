//! The adapter against servers that behave and servers that do not, over real sockets on 127.0.0.1.

mod answers;
mod corpus;
mod farewells;
mod faults;
mod world;
