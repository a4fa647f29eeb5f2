//! `cargo xtask ci`: the whole gate. Every step runs, also after a failure, so that one round tells all;
//! the last line printed is the sum of the tests.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::counts::Tally;
use crate::place::{Place, setting};
use crate::stream::{self, Show};
use crate::{deny, test, windows};

/// How a step ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Passed,
    Failed,
    /// What it needs cannot be had here; it has said what.
    Skipped,
}

impl End {
    /// Of what could be tried.
    pub(crate) fn of(passed: bool) -> End {
        if passed { End::Passed } else { End::Failed }
    }
}

struct Step {
    name: &'static str,
    end: End,
    took: Duration,
}

/// Runs all steps. Whether all of them passed.
pub(crate) fn run(place: &Place) -> Result<bool> {
    let mut steps = Vec::new();
    let mut step = |name: &'static str, run: &mut dyn FnMut() -> Result<End>| {
        println!("== {name}");
        let begin = Instant::now();
        // A step that could not be done has not passed; the next ones may still tell something.
        let end = run().unwrap_or_else(|error| {
            println!("{name}: {error:#}");
            End::Failed
        });
        steps.push(Step { name, end, took: begin.elapsed() });
    };

    step("lock file", &mut || {
        let arguments = ["metadata", "--locked", "--format-version", "1"];
        cargo(place, "lockfile", &arguments, |line| {
            if line.starts_with('{') { Show::No } else { Show::Yes }
        })
        .map(End::of)
    });
    // The fuzz targets are a workspace of their own, so each question is asked twice.
    let fuzz = ["--manifest-path", "fuzz/Cargo.toml"];
    step("format", &mut || {
        let ours = cargo(place, "fmt", &["fmt", "--all", "--check"], |_| Show::Yes)?;
        let arguments = ["fmt", fuzz[0], fuzz[1], "--check"];
        Ok(End::of(cargo(place, "fmt-fuzz", &arguments, |_| Show::Yes)? && ours))
    });
    step("lints", &mut || {
        let arguments =
            ["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
        cargo(place, "clippy", &arguments, |_| Show::Yes).map(End::of)
    });
    step("dependencies", &mut || deny::run(place).map(End::of));
    let mut tally = Tally::default();
    step("tests", &mut || {
        tally = test::run(place)?;
        println!("{tally}");
        Ok(End::of(tally.is_green()))
    });
    step("documentation", &mut || {
        let mut command = place.cargo();
        command.args(["doc", "--workspace", "--no-deps", "--locked"]).env("RUSTDOCFLAGS", flags());
        stream::run(place, "doc", &mut command, |_| Show::Yes).map(End::of)
    });

    step("fuzz targets", &mut || {
        let mut command = place.cargo();
        command
            .args(["check", fuzz[0], fuzz[1]])
            .env("CARGO_TARGET_DIR", place.target.join("fuzz"));
        stream::run(place, "fuzz", &mut command, |_| Show::Yes).map(End::of)
    });
    step("windows", &mut || windows::run(place));

    println!("== result");
    for Step { name, end, took } in &steps {
        let end = match end {
            End::Passed => "ok",
            End::Failed => "FAILED",
            End::Skipped => "SKIPPED",
        };
        println!("{end:<7} {name} ({:.1} s)", took.as_secs_f64());
    }
    println!("{tally}");
    Ok(steps.iter().all(|step| step.end != End::Failed))
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
