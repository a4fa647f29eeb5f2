//! `cargo xtask ci`: the whole gate. Every step runs, also after a failure, so that one round tells all;
//! the last line printed is the sum of the tests.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::counts::Tally;
use crate::place::{Place, setting};
use crate::stream::{self, Show};
use crate::{deny, test};

/// How one step ended.
struct Step {
    name: &'static str,
    passed: bool,
    took: Duration,
}

/// Runs all steps. Whether all of them passed.
pub(crate) fn run(place: &Place) -> Result<bool> {
    let mut steps = Vec::new();
    let mut step = |name: &'static str, run: &mut dyn FnMut() -> Result<bool>| {
        println!("== {name}");
        let begin = Instant::now();
        // A step that could not be done has not passed; the next ones may still tell something.
        let passed = run().unwrap_or_else(|error| {
            println!("{name}: {error:#}");
            false
        });
        steps.push(Step { name, passed, took: begin.elapsed() });
    };

    step("lock file", &mut || {
        let arguments = ["metadata", "--locked", "--format-version", "1"];
        cargo(place, "lockfile", &arguments, |line| {
            if line.starts_with('{') { Show::No } else { Show::Yes }
        })
    });
    // The fuzz targets are a workspace of their own, so each question is asked twice.
    let fuzz = ["--manifest-path", "fuzz/Cargo.toml"];
    step("format", &mut || {
        let ours = cargo(place, "fmt", &["fmt", "--all", "--check"], |_| Show::Yes)?;
        let arguments = ["fmt", fuzz[0], fuzz[1], "--check"];
        Ok(cargo(place, "fmt-fuzz", &arguments, |_| Show::Yes)? && ours)
    });
    step("lints", &mut || {
        let arguments =
            ["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
        cargo(place, "clippy", &arguments, |_| Show::Yes)
    });
    step("dependencies", &mut || deny::run(place));
    let mut tally = Tally::default();
    step("tests", &mut || {
        tally = test::run(place)?;
        println!("{tally}");
        Ok(tally.is_green())
    });
    step("documentation", &mut || {
        let mut command = place.cargo();
        command.args(["doc", "--workspace", "--no-deps", "--locked"]).env("RUSTDOCFLAGS", flags());
        stream::run(place, "doc", &mut command, |_| Show::Yes)
    });

    step("fuzz targets", &mut || {
        let mut command = place.cargo();
        command
            .args(["check", fuzz[0], fuzz[1]])
            .env("CARGO_TARGET_DIR", place.target.join("fuzz"));
        stream::run(place, "fuzz", &mut command, |_| Show::Yes)
    });

    println!("== result");
    for Step { name, passed, took } in &steps {
        println!(
            "{:<7} {name} ({:.1} s)",
            if *passed { "ok" } else { "FAILED" },
            took.as_secs_f64()
        );
    }
    println!("{tally}");
    Ok(steps.iter().all(|step| step.passed))
}

fn cargo(
    place: &Place,
    name: &str,
    arguments: &[&str],
    line: impl FnMut(&str) -> Show,
) -> Result<bool> {
    stream::run(place, name, place.cargo().args(arguments), line)
}

/// The caller's flags for rustdoc, and warnings as errors.
fn flags() -> std::ffi::OsString {
    let mut flags = setting("RUSTDOCFLAGS").unwrap_or_default();
    flags.push(" -D warnings");
    flags
}
