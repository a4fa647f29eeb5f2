//! What is known of a game, as data: how it is started, asked, announced to, saved and stopped, what its log
//! lines mean and how its exits are read. And what the operator said of one ward. Both together, checked,
//! make the [`Ward`] that everything else works with. It starts no process but plugins, and asks no game.
//!
//! `format` is a profile as it is written, `shipped` those that come with the program, `spec` what
//! `[[ward]]`, `[wards]` and `[[notifier]]` say. `resolve` puts them together into `ward`. `log` reads lines,
//! `template` fills placeholders, `plugin` talks to executables that stand in for a protocol.

pub mod check;
pub mod format;
pub mod log;
pub mod plugin;
pub mod read;
pub mod resolve;
pub mod shipped;
pub mod spec;
pub mod template;
pub mod units;
pub mod ward;

pub use format::Profile;
pub use log::{LogEvent, LogPatterns};
pub use read::Problem;
pub use resolve::{Platform, Surroundings, prepare, resolve};
pub use spec::{NotifierSpec, WardSpec, WardsSpec};
pub use ward::Ward;

#[cfg(test)]
mod tests;
