//! What a monitor takes from a game on the same core, measured while a given wait goes on.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::Context as _;
use serde::Serialize;

use super::meter::{Reading, as_f64};
use super::theft::{Theft, attribute};
use super::trace::Trace;
use crate::text_table::note;

/// By the second, but for the longest wait.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Interference {
    /// What the monitor ran.
    cpu_us_per_s: f64,
    /// What the game waited for a core, whoever had it: `schedstat` says so without a trace.
    game_waited_us_per_s: f64,
    /// From the kernel's trace; none where it cannot be had.
    #[serde(flatten)]
    taken: Option<Taken>,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Taken {
    taken_us_per_s: f64,
    worst_wait_us: u64,
    preemptions: u64,
}

/// The head of the table whose rows are [`Interference`].
pub(crate) const HEAD: [&str; 5] =
    ["CPU µs/s", "taken µs/s", "worst wait µs", "preemptions", "game waits µs/s"];

impl std::fmt::Display for Interference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:>16.0}", self.cpu_us_per_s)?;
        match self.taken {
            Some(Taken { taken_us_per_s: taken, worst_wait_us: worst, preemptions }) => {
                write!(f, "{taken:>16.0}{worst:>16}{preemptions:>16}")?;
            }
            None => write!(f, "{:>16}{:>16}{:>16}", "-", "-", "-")?,
        }
        write!(f, "{:>16.0}", self.game_waited_us_per_s)
    }
}

/// Measures `pids` against `game`, whose only thread is kept on `core`, while `wait` goes on.
pub(crate) fn measure(
    folder: &Path,
    pids: impl Fn() -> anyhow::Result<Vec<u32>>,
    game: u32,
    core: u32,
    wait: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<Interference> {
    let monitor = pids()?;
    let threads: BTreeSet<u32> = monitor.iter().flat_map(|pid| threads(*pid)).collect();
    let mut followed = threads.clone();
    followed.insert(game);
    let trace = match Trace::start(folder, &followed) {
        Ok(trace) => Some(trace),
        Err(error) => {
            note(&format!("without a trace, only what the game waits is known: {error:#}"));
            None
        }
    };
    let (begin, waited) = (Instant::now(), run_delay(game)?);
    let before = Reading::take(&monitor)?;
    wait()?;
    let trace = trace.map(Trace::finish).transpose()?;
    let seconds = begin.elapsed().as_secs_f64();
    let cost = Reading::take(&pids()?)?.since(&before)?;
    let waited = run_delay(game)?.saturating_sub(waited);
    let taken = trace.map(|trace| {
        let theft = attribute(&trace, game, &threads, core);
        let Theft { taken_us, worst_us: worst_wait_us, preemptions, turns, .. } = theft;
        anyhow::ensure!(turns > 0, "the trace does not show the game on core {core}");
        let taken_us_per_s = as_f64(taken_us) / seconds;
        Ok(Taken { taken_us_per_s, worst_wait_us, preemptions })
    });
    Ok(Interference {
        cpu_us_per_s: cost.cpu_us_per_s(),
        game_waited_us_per_s: as_f64(waited) / 1e3 / seconds,
        taken: taken.transpose()?,
    })
}

fn threads(pid: u32) -> Vec<u32> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_string_lossy().parse().ok()).collect()
}

/// How long the main thread waited for a core since it began, in nanoseconds.
fn run_delay(pid: u32) -> anyhow::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/schedstat")).context("the game ended")?;
    let field = text.split(' ').nth(1).and_then(|ns| ns.parse().ok());
    field.context("schedstat has an unknown form")
}
