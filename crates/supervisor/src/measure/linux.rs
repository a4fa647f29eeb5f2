//! The sampler of Linux: files of `/proc` that stay open, read in place, integers only. A tick allocates
//! nothing, starts nothing and looks at no process but those it was told.
//!
//! An open file of `/proc/PID` belongs to that process for ever: once it is gone reading fails, even if
//! another one has its number by then. Only opening has to make sure, by the start time.
#![cfg(target_os = "linux")]

use std::fs::File;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use naru_domain::Timestamp;
use rustix::io::Errno;

use super::budget::OwnCounters;
use super::procfs;
use super::sample::{
    HostSample, IoSample, Pressure, SamplerSettings, Taken, WardSample, is_due, permille,
};
use crate::model::{ProcessId, WardName};

/// Processes of one ward that are looked at; a game with more is measured by its first ones.
const PROCESSES_MAX: usize = 64;
/// Threads whose waiting is looked at, for each process (guessed: a JVM with its collector and workers).
const THREADS_MAX: usize = 48;
/// `/proc/PID/stat` and `io` are shorter; of `/proc/stat` and `meminfo` the beginning is enough.
const TEXT_BYTES: usize = 1_024;

/// Reads what wards and the machine use.
#[derive(Debug)]
pub struct Sampler {
    settings: SamplerSettings,
    wards: Vec<Watched>,
    host: Host,
    /// Opened at the first tick, by the thread whose time it tells.
    own: Option<File>,
    tick: Duration,
    page_bytes: u64,
}

#[derive(Debug)]
struct Watched {
    name: WardName,
    processes: Vec<Process>,
    sampled: Option<Instant>,
    io_sampled: Option<Instant>,
    /// With our own time at that moment.
    taken_sampled: Option<(Instant, u64)>,
    gone: u16,
}

#[derive(Debug)]
struct Process {
    id: ProcessId,
    stat: File,
    /// Absent where reading is not permitted.
    io: Option<File>,
    cpu_ticks: Option<u64>,
    io_bytes: Option<(u64, u64)>,
    threads: Vec<(File, u64)>,
    /// Whether `threads` are all, as of the last look.
    threads_known: bool,
    is_gone: bool,
}

#[derive(Debug, Default)]
struct Host {
    stat: Option<File>,
    meminfo: Option<File>,
    pressure: [Option<File>; 3],
    ticks: Option<(u64, u64)>,
    sampled: Option<Instant>,
}

impl Sampler {
    /// A sampler of no wards. All its calls belong on one thread.
    #[must_use]
    pub fn new(settings: SamplerSettings) -> Sampler {
        let open = |path: &str| File::open(path).ok();
        let host = Host {
            stat: open("/proc/stat"),
            meminfo: open("/proc/meminfo"),
            pressure: ["cpu", "memory", "io"].map(|of| open(&format!("/proc/pressure/{of}"))),
            ..Host::default()
        };
        let per_second = rustix::param::clock_ticks_per_second().max(1);
        Sampler {
            settings,
            wards: Vec::new(),
            host,
            own: None,
            tick: Duration::from_nanos(1_000_000_000 / per_second),
            page_bytes: rustix::param::page_size() as u64,
        }
    }

    /// Looks less or more often from now on.
    pub fn set_settings(&mut self, settings: SamplerSettings) {
        self.settings = settings;
    }

    /// Watches exactly these processes of `ward` from now on; those known before go on without a gap. A
    /// start time of zero takes whoever has the number now. Says how many are there. Opens files: not
    /// for every tick.
    pub fn add(&mut self, ward: &WardName, processes: &[ProcessId]) -> usize {
        let at = match self.wards.iter().position(|watched| watched.name == *ward) {
            Some(at) => at,
            None => {
                self.wards.push(Watched::new(ward.clone()));
                self.wards.len() - 1
            }
        };
        let watched = &mut self.wards[at];
        let mut before = std::mem::take(&mut watched.processes);
        for id in processes.iter().take(PROCESSES_MAX) {
            let known = before.iter().position(|process| {
                process.id.pid == id.pid
                    && !process.is_gone
                    && (id.started == 0 || process.id.started == id.started)
            });
            let process = known.map(|at| before.swap_remove(at)).or_else(|| Process::open(id));
            watched.processes.extend(process);
        }
        watched.gone = 0;
        watched.processes.len()
    }

    /// Forgets `ward`.
    pub fn remove(&mut self, ward: &WardName) {
        self.wards.retain(|watched| watched.name != *ward);
    }

    /// Looks at all wards once, and at the machine if that is due. `out` is filled anew. The core is
    /// offered to others between wards once a slice was used up.
    pub fn tick(
        &mut self,
        now: Timestamp,
        instant: Instant,
        out: &mut Vec<WardSample>,
    ) -> Option<HostSample> {
        out.clear();
        let mut slice = Instant::now();
        if self.own.is_none() {
            self.own = own_schedstat();
        }
        for at in 0..self.wards.len() {
            let watched = &mut self.wards[at];
            let mut sample = watched.sample(now, instant, (self.tick, self.page_bytes));
            if is_due(watched.io_sampled, instant, self.settings.io_every) {
                watched.sample_io(instant, &mut sample);
            }
            let taken_sampled = watched.taken_sampled.map(|(at, _)| at);
            if is_due(taken_sampled, instant, self.settings.taken_every) {
                let own = self.own.as_ref().and_then(|file| read(file, procfs::schedstat).ok());
                watched.sample_taken(instant, own.map_or(0, |(ran, _)| ran), &mut sample);
            }
            out.push(sample);
            if slice.elapsed() > self.settings.slice_max {
                // Returns at once if nobody waits.
                std::thread::yield_now();
                slice = Instant::now();
            }
        }
        if !is_due(self.host.sampled, instant, self.settings.host_every) {
            return None;
        }
        self.host.sample(now, instant)
    }
}

impl Watched {
    fn new(name: WardName) -> Watched {
        let (processes, sampled, io_sampled) = (Vec::new(), None, None);
        Watched { name, processes, sampled, io_sampled, taken_sampled: None, gone: 0 }
    }

    fn sample(
        &mut self,
        now: Timestamp,
        instant: Instant,
        (tick, page_bytes): (Duration, u64),
    ) -> WardSample {
        let span = self.sampled.replace(instant);
        let mut sample = WardSample {
            ward: self.name.clone(),
            at: now,
            span: span.map_or(Duration::ZERO, |before| instant.saturating_duration_since(before)),
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
        let mut ticks = 0u64;
        for process in self.processes.iter_mut().filter(|process| !process.is_gone) {
            let Some(stat) = process.stat() else {
                process.is_gone = true;
                self.gone = self.gone.saturating_add(1);
                continue;
            };
            let before = process.cpu_ticks.replace(stat.cpu_ticks);
            ticks += before.map_or(0, |before| stat.cpu_ticks.saturating_sub(before));
            sample.rss_bytes += stat.rss_pages * page_bytes;
            sample.threads = sample.threads.saturating_add(stat.threads);
            sample.processes += 1;
            sample.stopped += u16::from(matches!(stat.state, b'T' | b't'));
            sample.io_not_permitted |= process.io.is_none();
            process.threads_known &= usize::try_from(stat.threads) == Ok(process.threads.len());
        }
        sample.cpu = tick.saturating_mul(u32::try_from(ticks).unwrap_or(u32::MAX));
        sample.gone = self.gone;
        sample
    }

    fn sample_io(&mut self, instant: Instant, sample: &mut WardSample) {
        let before = self.io_sampled.replace(instant);
        let (mut read_bytes, mut written_bytes, mut any) = (0u64, 0u64, false);
        for process in self.processes.iter_mut().filter(|process| !process.is_gone) {
            let Some((read, written)) = process.read_io() else { continue };
            let (read_before, written_before) =
                process.io_bytes.replace((read, written)).unwrap_or((read, written));
            read_bytes += read.saturating_sub(read_before);
            written_bytes += written.saturating_sub(written_before);
            any = true;
        }
        if let Some(before) = before.filter(|_| any) {
            let span = instant.saturating_duration_since(before);
            sample.io = Some(IoSample { span, read_bytes, written_bytes });
        }
    }

    fn sample_taken(&mut self, instant: Instant, own: u64, sample: &mut WardSample) {
        let before = self.taken_sampled.replace((instant, own));
        let (mut waited, mut is_known) = (0u64, true);
        for process in self.processes.iter_mut().filter(|process| !process.is_gone) {
            match process.waited() {
                Some(nanos) => waited += nanos,
                None => is_known = false,
            }
        }
        if let Some((before, own_before)) = before {
            sample.taken = Some(Taken {
                span: instant.saturating_duration_since(before),
                own: Duration::from_nanos(own.saturating_sub(own_before)),
                waited: (is_known && sample.processes > 0).then(|| Duration::from_nanos(waited)),
            });
        }
    }
}

impl Process {
    fn open(id: &ProcessId) -> Option<Process> {
        let folder = format!("/proc/{}", id.pid);
        let stat = File::open(format!("{folder}/stat")).ok()?;
        // The open file belongs to one process: if this is the right one, it stays so.
        let found = read(&stat, procfs::stat).ok()?;
        if id.started != 0 && found.started != id.started {
            return None;
        }
        let id = ProcessId { started: found.started, ..id.clone() };
        Some(Process {
            id,
            stat,
            io: File::open(format!("{folder}/io")).ok(),
            cpu_ticks: None,
            io_bytes: None,
            threads: Vec::new(),
            threads_known: false,
            is_gone: false,
        })
    }

    fn stat(&self) -> Option<procfs::Stat> {
        // A zombie uses nothing any more, and its keeper reaps it.
        let stat = read(&self.stat, procfs::stat).ok()?;
        (stat.state != b'Z' && stat.state != b'X').then_some(stat)
    }

    fn read_io(&mut self) -> Option<(u64, u64)> {
        match read(self.io.as_ref()?, procfs::io) {
            Ok(counters) => Some(counters),
            Err(error) => {
                // Asking again in vain would cost as much each time.
                if error == Errno::ACCESS || error == Errno::PERM {
                    self.io = None;
                }
                None
            }
        }
    }

    /// How long its threads waited since the last call; `None` if that cannot be said.
    fn waited(&mut self) -> Option<u64> {
        let mut waited = 0u64;
        let mut is_known = self.threads_known;
        for (file, before) in &mut self.threads {
            match read(file, procfs::schedstat) {
                Ok((_, total)) => {
                    waited += total.saturating_sub(*before);
                    *before = total;
                }
                Err(_) => is_known = false,
            }
        }
        if !is_known {
            self.open_threads();
        }
        is_known.then_some(waited)
    }

    /// Threads came or went: they are looked up anew. The next interval is known again.
    fn open_threads(&mut self) {
        self.threads.clear();
        self.threads_known = false;
        let Ok(tasks) = std::fs::read_dir(format!("/proc/{}/task", self.id.pid)) else { return };
        for task in tasks.flatten() {
            if self.threads.len() == THREADS_MAX {
                self.threads.clear();
                return;
            }
            let Ok(file) = File::open(task.path().join("schedstat")) else { continue };
            if let Ok((_, waited)) = read(&file, procfs::schedstat) {
                self.threads.push((file, waited));
            }
        }
        self.threads_known = !self.threads.is_empty();
    }
}

impl Host {
    fn sample(&mut self, now: Timestamp, instant: Instant) -> Option<HostSample> {
        self.sampled = Some(instant);
        let (memory_bytes, available_bytes) = read(self.meminfo.as_ref()?, procfs::meminfo).ok()?;
        let ticks = self.stat.as_ref().and_then(|file| read(file, procfs::busy_and_all).ok());
        let before = std::mem::replace(&mut self.ticks, ticks);
        let cpu_permille = before.zip(ticks).map(|((busy_before, all_before), (busy, all))| {
            permille(busy.saturating_sub(busy_before), all.saturating_sub(all_before))
        });
        let [cpu, memory, io] = &self.pressure;
        let some = |file: &Option<File>| read(file.as_ref()?, procfs::pressure).ok();
        let pressure = some(cpu).zip(some(memory)).zip(some(io));
        Some(HostSample {
            at: now,
            cpu_permille,
            memory_bytes,
            available_bytes,
            pressure: pressure.map(|((cpu, memory), io)| Pressure { cpu, memory, io }),
        })
    }
}

/// Reads the beginning of `file`, which the kernel writes anew each time.
fn read<T>(file: &File, parse: fn(&[u8]) -> Option<T>) -> Result<T, Errno> {
    let mut text = [0u8; TEXT_BYTES];
    let length = rustix::io::retry_on_intr(|| rustix::io::pread(file, &mut text, 0))?;
    parse(&text[..length]).ok_or(Errno::INVAL)
}

/// Our own counters of the whole process, or of the calling thread alone.
pub(super) fn own_counters(is_thread: bool) -> OwnCounters {
    let written = File::open("/proc/self/io").ok().and_then(|io| read(&io, procfs::io).ok());
    let stat = File::open("/proc/self/stat").ok().and_then(|stat| read(&stat, procfs::stat).ok());
    let page_bytes = rustix::param::page_size() as u64;
    let tick = 1_000_000_000 / rustix::param::clock_ticks_per_second().max(1);
    let whole = stat.map(|stat| stat.cpu_ticks.saturating_mul(tick));
    let thread = own_schedstat().and_then(|file| read(&file, procfs::schedstat).ok());
    let cpu_nanos = if is_thread { thread.map(|(ran, _)| ran) } else { whole };
    let switches = |status: Vec<u8>| procfs::labelled(&status, b"voluntary_ctxt_switches:");
    let wakeups = if is_thread {
        std::fs::read("/proc/thread-self/status").ok().and_then(switches)
    } else {
        let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
        let each = tasks.filter_map(|task| std::fs::read(task.path().join("status")).ok());
        Some(each.filter_map(switches).sum())
    };
    OwnCounters {
        cpu: Duration::from_nanos(cpu_nanos.unwrap_or(0)),
        rss_bytes: stat.map(|stat| stat.rss_pages.saturating_mul(page_bytes)),
        written_bytes: written.map(|(_, written)| written),
        wakeups,
        transactions: 0,
    }
}

fn own_schedstat() -> Option<File> {
    let thread = rustix::thread::gettid().as_raw_nonzero();
    File::open(format!("/proc/self/task/{thread}/schedstat")).ok()
}

/// The memory of a process with its share of what it has in common with others (PSS), in bytes. Walks
/// all its pages: milliseconds for a large game, during which its memory map is locked. For a person who
/// asks, never for a timer. `PermissionDenied` for a process of somebody else.
pub fn proportional_bytes(process: &ProcessId) -> std::io::Result<u64> {
    let stat = File::open(format!("/proc/{}/stat", process.pid))?;
    let text = std::fs::read(format!("/proc/{}/smaps_rollup", process.pid))?;
    // Asked afterwards: then what was read is of the same process.
    let found = read(&stat, procfs::stat)?;
    if process.started != 0 && found.started != process.started {
        return Err(ErrorKind::NotFound.into());
    }
    let kib = procfs::labelled(&text, b"Pss:").ok_or(ErrorKind::InvalidData)?;
    Ok(kib.saturating_mul(1_024))
}
