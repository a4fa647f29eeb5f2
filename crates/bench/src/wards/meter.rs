//! What Linux says that a process and all its descendants took. Reads `/proc` only, twice per measurement.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde::Serialize;

use crate::process::{self, field};

const MIB: f64 = 1024.0 * 1024.0;
/// Descendants that are followed; a monitor with more is none.
const PROCESSES_MAX: usize = 1_000;
/// User and system time are cut to ticks of 10 ms each: so much may be too much in their difference.
const TICKS_UNSURE: Duration = Duration::from_millis(20);

/// What one thread took since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Thread {
    cpu_ns: u64,
    voluntary: u64,
    forced: u64,
}

/// The counters of a tree of processes at one moment.
pub(crate) struct Reading {
    at: Instant,
    threads: BTreeMap<u32, Thread>,
    /// By process: threads that have ended are in it, in steps of 10 ms.
    coarse: BTreeMap<u32, Duration>,
    written: BTreeMap<u32, u64>,
    rss_kib: u64,
    pss_kib: u64,
}

/// What was taken between two readings. Memory is that of the second one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Cost {
    cpu_s_per_hour: f64,
    rss_mib: f64,
    pss_mib: f64,
    written_mib_per_hour: f64,
    voluntary_per_s: f64,
    forced_per_s: f64,
}

impl std::fmt::Display for Cost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Cost { cpu_s_per_hour: cpu, rss_mib: rss, pss_mib: pss, .. } = self;
        let (written, voluntary) = (self.written_mib_per_hour, self.voluntary_per_s);
        let forced = self.forced_per_s;
        write!(f, "{cpu:>14.3}{rss:>14.1}{pss:>14.1}{written:>14.2}{voluntary:>14.2}{forced:>14.2}")
    }
}

impl Cost {
    /// Processor time, in microseconds per second.
    pub(crate) fn cpu_us_per_s(&self) -> f64 {
        self.cpu_s_per_hour / 3600.0 * 1e6
    }
}

impl Reading {
    /// Adds up these processes. Fails if the first has ended.
    pub(crate) fn take(pids: &[u32]) -> anyhow::Result<Reading> {
        let mut reading = Reading {
            at: Instant::now(),
            threads: BTreeMap::new(),
            coarse: BTreeMap::new(),
            written: BTreeMap::new(),
            rss_kib: 0,
            pss_kib: 0,
        };
        for pid in pids.iter().copied() {
            // A descendant may end while it is being read; what is gone by then counts nothing.
            let Ok(memory) = process::memory(pid) else { continue };
            reading.rss_kib += memory.rss_kib;
            let rollup =
                fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
            reading.pss_kib += field(&rollup, "Pss:");
            let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
            reading.written.insert(pid, field(&io, "write_bytes:"));
            reading.coarse.insert(pid, process::effort(pid).unwrap_or_default().cpu);
            reading.read_threads(pid);
        }
        let first = pids.first().context("there is no process")?;
        ensure!(reading.written.contains_key(first), "process {first} has ended");
        Ok(reading)
    }

    /// `schedstat` has nanoseconds, but of one thread: all of them are read.
    fn read_threads(&mut self, pid: u32) {
        for entry in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let folder = entry.path();
            let tid = entry.file_name().to_string_lossy().parse();
            let schedstat = fs::read_to_string(folder.join("schedstat"));
            let status = fs::read_to_string(folder.join("status"));
            let (Ok(tid), Ok(schedstat), Ok(status)) = (tid, schedstat, status) else { continue };
            let cpu_ns = schedstat.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0);
            let voluntary = field(&status, "voluntary_ctxt_switches:");
            let forced = field(&status, "nonvoluntary_ctxt_switches:");
            self.threads.insert(tid, Thread { cpu_ns, voluntary, forced });
        }
    }

    /// What was taken since `before`. Processes that began later count whole; those that ended in between count
    /// nothing, which favours monitors that start programs to measure.
    pub(crate) fn since(&self, before: &Reading) -> anyhow::Result<Cost> {
        let seconds = self.at.duration_since(before.at).as_secs_f64();
        ensure!(seconds > 0.0, "no time has passed");
        let mut sum = Thread::default();
        // Of threads that ended in between, only whole ticks of the process are known.
        let coarse_then = |pid| before.coarse.get(pid).copied().unwrap_or_default();
        let coarse: Duration =
            self.coarse.iter().map(|(pid, now)| now.saturating_sub(coarse_then(pid))).sum();
        for (tid, now) in &self.threads {
            let then = before.threads.get(tid).copied().unwrap_or_default();
            sum.cpu_ns += now.cpu_ns.saturating_sub(then.cpu_ns);
            sum.voluntary += now.voluntary.saturating_sub(then.voluntary);
            sum.forced += now.forced.saturating_sub(then.forced);
        }
        let then = |pid| before.written.get(pid).copied().unwrap_or(0);
        let written: u64 =
            self.written.iter().map(|(pid, now)| now.saturating_sub(then(pid))).sum();
        let per_hour = 3600.0 / seconds;
        let surely = coarse.saturating_sub(TICKS_UNSURE * u32::try_from(self.coarse.len())?);
        let cpu_s = (as_f64(sum.cpu_ns) / 1e9).max(surely.as_secs_f64());
        Ok(Cost {
            cpu_s_per_hour: cpu_s * per_hour,
            rss_mib: as_f64(self.rss_kib) / 1024.0,
            pss_mib: as_f64(self.pss_kib) / 1024.0,
            written_mib_per_hour: as_f64(written) / MIB * per_hour,
            voluntary_per_s: as_f64(sum.voluntary) / seconds,
            forced_per_s: as_f64(sum.forced) / seconds,
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "for display; 2^53 ns are a hundred days")]
pub(crate) fn as_f64(number: u64) -> f64 {
    number as f64
}

/// `root` and its descendants.
pub(crate) fn tree(root: u32) -> anyhow::Result<Vec<u32>> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        if let Some(parent) = parent_of_stat(&stat) {
            parents.push((pid, parent));
        }
    }
    Ok(descendants(root, &parents))
}

fn descendants(root: u32, parents: &[(u32, u32)]) -> Vec<u32> {
    let mut found = vec![root];
    let mut next = 0;
    while next < found.len() && found.len() < PROCESSES_MAX {
        let parent = found[next];
        found.extend(parents.iter().filter(|pair| pair.1 == parent).map(|pair| pair.0));
        next += 1;
    }
    found
}

/// The field after the state; names may contain anything, so it counts from their closing parenthesis.
fn parent_of_stat(stat: &str) -> Option<u32> {
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_the_root_and_all_below_it() {
        let parents = [(2, 1), (3, 2), (4, 3), (5, 1), (6, 4)];
        assert_eq!(descendants(2, &parents), [2, 3, 4, 6]);
        assert_eq!(descendants(9, &parents), [9]);
    }

    #[test]
    fn the_parent_is_found_behind_any_name() {
        assert_eq!(parent_of_stat("7 (a) b (c)) S 12 7 7 0"), Some(12));
        assert_eq!(parent_of_stat("nonsense"), None);
    }

    #[test]
    fn work_that_this_process_does_is_seen() {
        let before = Reading::take(&[std::process::id()]).unwrap();
        let begin = Instant::now();
        let mut sum = 0_u64;
        while begin.elapsed().as_millis() < 50 {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        let after = Reading::take(&[std::process::id()]).unwrap();
        let cost = after.since(&before).unwrap();
        assert!(cost.cpu_s_per_hour > 0.0, "{cost:?}");
        assert!(cost.rss_mib > 0.0, "{cost:?}");
    }
}
