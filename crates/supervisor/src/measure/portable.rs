//! The sampler of systems other than Linux, over the crate `sysinfo`: only the processes it was told are
//! refreshed, never all of them. What a system does not tell is absent: threads of a process, pressure,
//! and how long a game waited for a processor.
//!
//! Compiled in tests on Linux, too, so that it keeps the same promises.
#![cfg(any(test, not(target_os = "linux")))]
#![cfg_attr(
    target_os = "linux",
    expect(dead_code, unreachable_pub, reason = "only its tests use it here")
)]

use std::time::{Duration, Instant};

use naru_domain::Timestamp;
use sysinfo::{
    CpuRefreshKind, MemoryRefreshKind, Pid, ProcessRefreshKind, ProcessStatus, ProcessesToUpdate,
    RefreshKind, System,
};

use super::budget::OwnCounters;
use super::sample::{HostSample, IoSample, SamplerSettings, Taken, WardSample, is_due};
use crate::model::{ProcessId, WardName};

const PROCESSES_MAX: usize = 64;

/// Reads what wards and the machine use.
#[derive(Debug)]
pub struct Sampler {
    settings: SamplerSettings,
    /// Absent on systems that `sysinfo` does not know: nothing is measured there.
    system: Option<System>,
    wards: Vec<Watched>,
    host_sampled: Option<Instant>,
    own: Pid,
}

#[derive(Debug)]
struct Watched {
    name: WardName,
    processes: Vec<Process>,
    pids: Vec<Pid>,
    sampled: Option<Instant>,
    io_sampled: Option<Instant>,
    taken_sampled: Option<(Instant, u64)>,
    gone: u16,
}

#[derive(Debug)]
struct Process {
    id: ProcessId,
    pid: Pid,
    /// Seconds since 1970: the number may be used again, this makes sure.
    started: u64,
    cpu_ms: Option<u64>,
    io_bytes: Option<(u64, u64)>,
    is_gone: bool,
}

impl Sampler {
    /// A sampler of no wards.
    #[must_use]
    pub fn new(settings: SamplerSettings) -> Sampler {
        let kinds = RefreshKind::nothing()
            .with_cpu(CpuRefreshKind::nothing().with_usage())
            .with_memory(MemoryRefreshKind::nothing().with_ram());
        Sampler {
            settings,
            system: System::new_with_specifics(kinds).ok(),
            wards: Vec::new(),
            host_sampled: None,
            own: Pid::from_u32(std::process::id()),
        }
    }

    /// Looks less or more often from now on.
    pub fn set_settings(&mut self, settings: SamplerSettings) {
        self.settings = settings;
    }

    /// Watches exactly these processes of `ward` from now on; those known before go on without a gap.
    /// Says how many are there. The start time is learned here: callers who know a process by a start
    /// time in another unit check it themselves, by `host`.
    pub fn add(&mut self, ward: &WardName, processes: &[ProcessId]) -> usize {
        let at = match self.wards.iter().position(|watched| watched.name == *ward) {
            Some(at) => at,
            None => {
                self.wards.push(Watched::new(ward.clone()));
                self.wards.len() - 1
            }
        };
        let pids: Vec<Pid> = processes.iter().map(|id| Pid::from_u32(id.pid)).collect();
        if let Some(system) = &mut self.system {
            refresh(system, &pids);
        }
        let watched = &mut self.wards[at];
        let mut before = std::mem::take(&mut watched.processes);
        for id in processes.iter().take(PROCESSES_MAX) {
            let known = before.iter().position(|process| process.id == *id && !process.is_gone);
            let process = known.map(|at| before.swap_remove(at)).or_else(|| {
                let pid = Pid::from_u32(id.pid);
                let started = self.system.as_ref()?.process(pid)?.start_time();
                let (cpu_ms, io_bytes, is_gone) = (None, None, false);
                Some(Process { id: id.clone(), pid, started, cpu_ms, io_bytes, is_gone })
            });
            watched.processes.extend(process);
        }
        watched.pids = watched.processes.iter().map(|process| process.pid).collect();
        watched.gone = 0;
        watched.processes.len()
    }

    /// Forgets `ward`.
    pub fn remove(&mut self, ward: &WardName) {
        self.wards.retain(|watched| watched.name != *ward);
    }

    /// Looks at all wards once, and at the machine if that is due. `out` is filled anew.
    pub fn tick(
        &mut self,
        now: Timestamp,
        instant: Instant,
        out: &mut Vec<WardSample>,
    ) -> Option<HostSample> {
        out.clear();
        let system = self.system.as_mut()?;
        refresh(system, &[self.own]);
        let own = system.process(self.own).map_or(0, sysinfo::Process::accumulated_cpu_time);
        let mut slice = Instant::now();
        for watched in &mut self.wards {
            refresh(system, &watched.pids);
            out.push(watched.sample(system, (now, instant), own, &self.settings));
            if slice.elapsed() > self.settings.slice_max {
                std::thread::yield_now();
                slice = Instant::now();
            }
        }
        is_due(self.host_sampled, instant, self.settings.host_every).then(|| {
            let is_first = self.host_sampled.replace(instant).is_none();
            system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
            system.refresh_cpu_usage();
            let busy = permille(system.global_cpu_usage());
            HostSample {
                at: now,
                cpu_permille: (!is_first).then_some(busy),
                memory_bytes: system.total_memory(),
                available_bytes: system.available_memory(),
                pressure: None,
            }
        })
    }
}

impl Watched {
    fn new(name: WardName) -> Watched {
        let (processes, pids) = (Vec::new(), Vec::new());
        let (sampled, io_sampled, taken_sampled) = (None, None, None);
        Watched { name, processes, pids, sampled, io_sampled, taken_sampled, gone: 0 }
    }

    fn sample(
        &mut self,
        system: &System,
        (now, instant): (Timestamp, Instant),
        own: u64,
        settings: &SamplerSettings,
    ) -> WardSample {
        let span_of = |before: Option<Instant>| {
            before.map_or(Duration::ZERO, |before| instant.saturating_duration_since(before))
        };
        let mut sample = WardSample {
            ward: self.name.clone(),
            at: now,
            span: span_of(self.sampled.replace(instant)),
            cpu: Duration::ZERO,
            rss_bytes: 0,
            threads: 0,
            io: None,
            io_not_permitted: false,
            taken: None,
            processes: 0,
            stopped: 0,
            gone: 0,
        };
        let io_is_due = is_due(self.io_sampled, instant, settings.io_every);
        let (mut read_bytes, mut written_bytes) = (0u64, 0u64);
        for process in self.processes.iter_mut().filter(|process| !process.is_gone) {
            let found = system.process(process.pid).filter(|found| {
                found.start_time() == process.started && found.status() != ProcessStatus::Zombie
            });
            let Some(found) = found else {
                process.is_gone = true;
                self.gone = self.gone.saturating_add(1);
                continue;
            };
            let cpu_ms = found.accumulated_cpu_time();
            let before = process.cpu_ms.replace(cpu_ms).unwrap_or(cpu_ms);
            sample.cpu += Duration::from_millis(cpu_ms.saturating_sub(before));
            sample.rss_bytes += found.memory();
            let threads = found.tasks().map_or(0, std::collections::HashSet::len);
            sample.threads += u32::try_from(threads).unwrap_or(u32::MAX);
            sample.processes += 1;
            sample.stopped += u16::from(found.status() == ProcessStatus::Stop);
            if io_is_due {
                let usage = found.disk_usage();
                let now = (usage.total_read_bytes, usage.total_written_bytes);
                let before = process.io_bytes.replace(now).unwrap_or(now);
                read_bytes += now.0.saturating_sub(before.0);
                written_bytes += now.1.saturating_sub(before.1);
            }
        }
        if io_is_due {
            let before = self.io_sampled.replace(instant);
            let span = span_of(before);
            sample.io = before.map(|_| IoSample { span, read_bytes, written_bytes });
        }
        if is_due(self.taken_sampled.map(|(at, _)| at), instant, settings.taken_every) {
            let before = self.taken_sampled.replace((instant, own));
            sample.taken = before.map(|(at, own_before)| Taken {
                span: span_of(Some(at)),
                own: Duration::from_millis(own.saturating_sub(own_before)),
                waited: None,
            });
        }
        sample.gone = self.gone;
        sample
    }
}

/// Our own counters of the whole process: those of a thread are not told.
pub(super) fn own_counters(_is_thread: bool) -> OwnCounters {
    let own = Pid::from_u32(std::process::id());
    let mut system = System::new().ok();
    if let Some(system) = &mut system {
        refresh(system, &[own]);
    }
    let found = system.as_ref().and_then(|system| system.process(own));
    OwnCounters {
        cpu: Duration::from_millis(found.map_or(0, sysinfo::Process::accumulated_cpu_time)),
        rss_bytes: found.map(sysinfo::Process::memory),
        written_bytes: found.map(|found| found.disk_usage().total_written_bytes),
        wakeups: None,
        transactions: 0,
    }
}

fn refresh(system: &mut System, pids: &[Pid]) {
    let kinds = ProcessRefreshKind::nothing().with_cpu().with_memory().with_disk_usage();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(pids), true, kinds);
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to the range before; NaN becomes zero"
)]
fn permille(percent: f32) -> u16 {
    (percent * 10.0).round().clamp(0.0, 1_000.0) as u16
}

/// The memory of a process with its share of what it has in common with others: only Linux tells.
pub fn proportional_bytes(_process: &ProcessId) -> std::io::Result<u64> {
    Err(std::io::ErrorKind::Unsupported.into())
}
