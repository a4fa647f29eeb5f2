//! The kernel's own record of who had which core, from a trace instance of ours: nobody else's tracing is touched, and
//! nothing runs while it is taken. Needs root. Where it cannot be had, there is what `schedstat` says.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

/// Where most systems have it mounted.
const MOUNTED: &str = "/sys/kernel/tracing";
/// For each core: 20 s of a monitor with 5,000 switches a second.
const BUFFER_KIB: u32 = 16 * 1024;
const EVENTS: [&str; 3] = ["sched_switch", "sched_waking", "sched_process_fork"];

/// A trace that goes on. Dropping it ends it and removes all traces of it.
pub(crate) struct Trace {
    instance: PathBuf,
    /// The file system, if it is mounted for us alone.
    mount: Option<PathBuf>,
}

impl Trace {
    /// Begins to record these threads, and those that they will make.
    pub(crate) fn start(folder: &Path, threads: &BTreeSet<u32>) -> anyhow::Result<Trace> {
        let mount = if Path::new(MOUNTED).join("instances").is_dir() {
            None
        } else {
            Some(mount(&folder.join("tracing"))?)
        };
        let root = mount.clone().unwrap_or_else(|| PathBuf::from(MOUNTED));
        let instance = root.join("instances").join(format!("naru-bench-{}", std::process::id()));
        let trace = Trace { instance, mount };
        fs::create_dir(&trace.instance).context("the kernel's trace is for root")?;
        trace.set("trace_clock", "mono")?;
        trace.set("buffer_size_kb", &BUFFER_KIB.to_string())?;
        trace.set("options/event-fork", "1")?;
        let threads: Vec<String> = threads.iter().map(u32::to_string).collect();
        trace.set("set_event_pid", &threads.join(" "))?;
        for event in EVENTS {
            trace.set(&format!("events/sched/{event}/enable"), "1")?;
        }
        Ok(trace)
    }

    /// Ends it, and says what was recorded. Fails if something was lost.
    pub(crate) fn finish(self) -> anyhow::Result<String> {
        self.set("tracing_on", "0")?;
        for entry in fs::read_dir(self.instance.join("per_cpu"))?.flatten() {
            let stats = fs::read_to_string(entry.path().join("stats"))?;
            let is_whole = stats.lines().all(|line| match line.split_once(": ") {
                Some(("overrun" | "commit overrun" | "dropped events", lost)) => lost == "0",
                _ => true,
            });
            ensure!(is_whole, "the trace has gaps: {stats}");
        }
        Ok(fs::read_to_string(self.instance.join("trace"))?)
    }

    fn set(&self, file: &str, value: &str) -> anyhow::Result<()> {
        fs::write(self.instance.join(file), value).with_context(|| format!("cannot set {file}"))
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        // What fails here leaves a folder of the kernel's that costs nothing.
        drop(self.set("events/enable", "0"));
        drop(fs::remove_dir(&self.instance));
        if let Some(mount) = &self.mount {
            drop(Command::new("umount").arg(mount).status());
        }
    }
}

fn mount(at: &Path) -> anyhow::Result<PathBuf> {
    fs::create_dir_all(at)?;
    let output = Command::new("mount").args(["-t", "tracefs", "tracefs"]).arg(at).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "cannot mount tracefs: {}", said.trim());
    Ok(at.to_owned())
}
