//! `cargo xtask`: the project's own chores. `test` is what the README promises, `ci` is the whole gate,
//! `tidy` runs the house rules alone. Knows nothing of the server: it starts other programs, reads
//! what they print, and says what came of it.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line tool for developers"
)]

mod apt;
mod ci;
mod clients;
mod counts;
mod deny;
mod games;
mod place;
mod platform;
mod stream;
mod test;
mod tools;
mod windows;

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::ci::End;
use crate::place::Place;

const HELP: &str = "\
cargo xtask COMMAND

  test    build everything, run all tests of the workspace and of the examples;
          the last line is the sum: `N passed, N failed`
  tidy    only the house rules: crate table, file headers, links, units (a part of `test`)
  games   bring the game servers that the tests run and print where it stands how to start them
          (a part of `test`)
  monitors
          the same for the monitors that ours is measured beside (docs/operations/ward-benchmark.md)
  windows whether everything compiles for Windows; skipped where the target or a compiler cannot be had
  ci      the whole gate: format, lints, dependencies, `test`, documentation, fuzz targets, `windows`

Everything that was printed by the programs it runs is kept in target/xtask/*.log.
Settings from the environment: CARGO_TARGET_DIR, ADVISORY_DB (folder with a clone of the
RustSec advisory database; without it the advisories are not checked), NARU_GAMES (a description of
game servers in place of those that `games` brings).
";

fn main() -> ExitCode {
    match run(std::env::args().skip(1).collect()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all went well. An error means that the chore itself could not be done.
fn run(arguments: Vec<String>) -> Result<bool> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        [] | ["help" | "--help" | "-h"] => {
            print!("{HELP}");
            Ok(true)
        }
        ["test"] => {
            let tally = test::run(&Place::find()?)?;
            println!("{tally}");
            Ok(tally.is_green())
        }
        ["tidy"] => test::run_tidy(&Place::find()?),
        ["games"] => {
            println!("{}", games::prepare(&Place::find()?)?.display());
            Ok(true)
        }
        ["windows"] => Ok(windows::run(&Place::find()?)? != End::Failed),
        ["monitors"] => {
            println!("{}", games::prepare_monitors(&Place::find()?)?.display());
            Ok(true)
        }
        ["ci"] => ci::run(&Place::find()?),
        other => bail!("unknown command `{}`; try `cargo xtask help`", other.join(" ")),
    }
}
