//! Game servers of this machine, looked after: started, stopped, watched, measured, and told about. It knows
//! neither sessions nor channels, no SQL and no HTTP API.
//!
//! `profile` is what is known of a game, as data. `life` is the pure state machine of one ward. `host` is all
//! that differs between operating systems, `keeper` the small process that holds a game while Naru comes
//! and goes, `console` what games print. `measure` counts what they cost, `learn` says what is unusual.
//! `tell`, `schedule` and `backup` act. `run` puts them together.

pub mod backup;
pub mod console;
pub mod host;
pub mod keeper;
pub mod learn;
pub mod life;
pub mod measure;
pub mod model;
pub mod profile;
pub mod run;
pub mod schedule;
pub mod tell;
