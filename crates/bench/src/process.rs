//! What Linux says about a process: processor time, context switches, memory. Reads `/proc` only.

use std::fs;
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;

/// `USER_HZ`, which is 100 on every Linux architecture in use.
const TICK: Duration = Duration::from_millis(10);

/// Processor time and context switches since a process began.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Effort {
    /// User and system time of all threads, ended ones included. Steps of 10 ms.
    pub(crate) cpu: Duration,
    /// Voluntary and forced switches of the threads that live now.
    pub(crate) switches: u64,
}

/// Memory of a process, in KiB.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Memory {
    pub(crate) rss_kib: u64,
    /// Anonymous pages: heap and stacks, without the program's own code.
    pub(crate) anonymous_kib: u64,
}

pub(crate) fn effort(pid: u32) -> anyhow::Result<Effort> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let cpu = cpu_of_stat(&stat).with_context(|| format!("{path} has an unknown form"))?;
    Ok(Effort { cpu, switches: switches(pid) })
}

/// The command name (field 2) may contain anything, so fields count from its closing parenthesis.
fn cpu_of_stat(stat: &str) -> Option<Duration> {
    let after_name = &stat[stat.rfind(')')? + 1..];
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    Some(TICK * user + TICK * system)
}

fn switches(pid: u32) -> u64 {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return 0 };
    tasks
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("status")).ok())
        .map(|status| {
            field(&status, "voluntary_ctxt_switches:")
                + field(&status, "nonvoluntary_ctxt_switches:")
        })
        .sum()
}

pub(crate) fn memory(pid: u32) -> anyhow::Result<Memory> {
    if let Ok(rollup) = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) {
        return Ok(Memory {
            rss_kib: field(&rollup, "Rss:"),
            anonymous_kib: field(&rollup, "Anonymous:"),
        });
    }
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    Ok(Memory { rss_kib: field(&status, "VmRSS:"), anonymous_kib: field(&status, "RssAnon:") })
}

/// The number after `name` at the start of a line; zero if there is none.
pub(crate) fn field(text: &str, name: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.split_ascii_whitespace().next())
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_with_blanks_and_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 1 0 1 1 1";
        assert_eq!(cpu_of_stat(stat), Some(Duration::from_secs(2)));
    }

    #[test]
    fn this_process_has_memory_and_effort() {
        let pid = std::process::id();
        assert!(memory(pid).unwrap().rss_kib > 0);
        assert!(effort(pid).unwrap().switches > 0);
    }
}
