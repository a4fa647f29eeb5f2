//! What runs beside the messages: stream positions, keep-alive answers, the system monitor, retention,
//! and care for the memory. Each is one small loop; a panic of one is counted and it starts again.

use std::collections::HashMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use naru_domain::ports::PurgeKind;
use naru_domain::work::{PingSample, SystemSample};
use naru_domain::{DeviceKey, Offset};
use parking_lot::Mutex;
use sysinfo::{Disks, Pid, ProcessRefreshKind, ProcessesToUpdate, System};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::core::{Core, count};
use crate::ledger::LedgerOp;

/// Keep-alive answers kept in one step, and how long they are gathered.
const PINGS_PER_BATCH_MAX: usize = 256;
const PINGS_EVERY: Duration = Duration::from_secs(2);
/// Room in the channel of keep-alive answers.
pub(crate) const PINGS_QUEUE_MAX: usize = 4_096;
/// How often memory is looked at.
const MEMORY_EVERY: Duration = Duration::from_secs(30);
/// Under pressure whatever was not used for so long goes.
const IDLE_UNDER_PRESSURE: Duration = Duration::from_secs(300);
/// The pause before a service that panicked starts again.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// Runs a service until told to stop; starts it again when it panics.
pub(crate) async fn supervise<F: Future<Output = ()>>(
    core: &Core,
    name: &'static str,
    stop: &CancellationToken,
    mut start: impl FnMut() -> F,
) {
    while !stop.is_cancelled() {
        let run = AssertUnwindSafe(start()).catch_unwind();
        match stop.run_until_cancelled(run).await {
            Some(Err(_panic)) => {
                core.metrics.task_panics.increment();
                error!(target: "naru::bots", service = name, "service panicked; it starts again");
                stop.run_until_cancelled(tokio::time::sleep(RESTART_PAUSE)).await;
            }
            Some(Ok(())) | None => return,
        }
    }
}

/// The same for a service that ends by itself when its time has come: it is never cut off.
pub(crate) async fn supervise_to_end<F: Future<Output = ()>>(
    core: &Core,
    name: &'static str,
    mut start: impl FnMut() -> F,
) {
    while AssertUnwindSafe(start()).catch_unwind().await.is_err() {
        core.metrics.task_panics.increment();
        error!(target: "naru::bots", service = name, "service panicked; it starts again");
        tokio::time::sleep(RESTART_PAUSE).await;
    }
}

/// A service as `run` starts it.
pub(crate) type Service = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// Tells the ledger how far the phones' streams were handed over.
pub(crate) async fn keep_cursors(core: Arc<Core>) {
    let mut known = HashMap::new();
    loop {
        tokio::time::sleep(core.options.cursors_every).await;
        flush_cursors(&core, &mut known).await;
    }
}

/// One round of it. `known` is what was told before.
pub(crate) async fn flush_cursors(core: &Core, known: &mut HashMap<DeviceKey, Offset>) {
    let mut moved = Vec::new();
    for entry in core.roster.devices() {
        let Some(state) = core.sessions.state(entry.session()) else { continue };
        if state.handed_over > Offset(0) && known.get(&entry.key) != Some(&state.handed_over) {
            known.insert(entry.key, state.handed_over);
            moved.push((entry.key, state.handed_over));
        }
    }
    known.retain(|key, _| core.roster.device(*key).is_some());
    if !moved.is_empty() {
        let told = core.ops.send(LedgerOp::Delivered(moved));
        core.ledger_ended.run_until_cancelled(told).await;
    }
}

/// Keeps keep-alive answers in batches.
pub(crate) async fn keep_pings(
    core: Arc<Core>,
    pings: Arc<tokio::sync::Mutex<mpsc::Receiver<PingSample>>>,
) {
    let mut pings = pings.lock().await;
    let mut batch = Vec::with_capacity(PINGS_PER_BATCH_MAX);
    while pings.recv_many(&mut batch, PINGS_PER_BATCH_MAX).await > 0 {
        if batch.len() < PINGS_PER_BATCH_MAX {
            tokio::time::sleep(PINGS_EVERY).await;
            while batch.len() < PINGS_PER_BATCH_MAX
                && let Ok(sample) = pings.try_recv()
            {
                batch.push(sample);
            }
        }
        match core.ports.monitors.add_pings(&batch).await {
            Ok(()) => core.metrics.pings.add(count(batch.len())),
            // Figures of the past minutes are not worth a queue.
            Err(_error) => core.metrics.pings_dropped.add(count(batch.len())),
        }
        batch.clear();
    }
}

/// Looks at the machine and at this process.
pub(crate) struct SystemWatch {
    /// `None` where the system does not tell; samples are then zero.
    system: Option<Mutex<System>>,
    pid: Option<Pid>,
}

impl SystemWatch {
    pub(crate) fn new() -> SystemWatch {
        let system = System::new().ok().map(Mutex::new);
        let watch = SystemWatch { system, pid: sysinfo::get_current_pid().ok() };
        watch.refresh();
        watch
    }

    fn refresh(&self) {
        let Some(system) = &self.system else { return };
        let mut system = system.lock();
        system.refresh_cpu_usage();
        system.refresh_memory();
        if let Some(pid) = self.pid {
            let kind = ProcessRefreshKind::nothing().with_cpu().with_memory();
            system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), false, kind);
        }
    }

    /// This process's resident memory, in bytes.
    fn process_memory(&self) -> u64 {
        self.refresh();
        let Some(system) = &self.system else { return 0 };
        let system = system.lock();
        self.pid.and_then(|pid| system.process(pid)).map_or(0, sysinfo::Process::memory)
    }

    /// A sample now. Loads are means since the last look.
    pub(crate) fn sample(&self, core: &Core) -> SystemSample {
        self.refresh();
        let (waiting, _) = core.board.depth();
        let entries = core.roster.devices();
        let connected = entries
            .iter()
            .filter_map(|entry| core.sessions.state(entry.session()))
            .filter(|state| state.peer.is_some());
        let connections = connected.count();
        let whole = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        let mut sample = SystemSample {
            at: core.clock.now(),
            node: core.options.node.clone(),
            disk_percent: disk_percent(&core.options.data_dir).unwrap_or(0.0),
            connections: i64::try_from(connections).unwrap_or(i64::MAX),
            queued: i64::try_from(waiting).unwrap_or(i64::MAX),
            ..SystemSample::default()
        };
        if let Some(system) = &self.system {
            let system = system.lock();
            let process = self.pid.and_then(|pid| system.process(pid));
            sample.cpu_percent = f64::from(system.global_cpu_usage());
            sample.process_cpu_percent = process.map_or(0.0, |p| f64::from(p.cpu_usage()));
            sample.memory_total = whole(system.total_memory());
            sample.memory_used = whole(system.used_memory());
            sample.process_memory = whole(process.map_or(0, sysinfo::Process::memory));
        }
        sample
    }
}

/// Use of the disk with this folder: the longest mount point that the folder lies under.
fn disk_percent(folder: &std::path::Path) -> Option<f64> {
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_path_buf());
    let disks = Disks::new_with_refreshed_list().ok()?;
    let disk = disks
        .iter()
        .filter(|disk| folder.starts_with(disk.mount_point()) && disk.total_space() > 0)
        .max_by_key(|disk| disk.mount_point().as_os_str().len())?;
    #[expect(clippy::cast_precision_loss, reason = "a percentage for people")]
    let free = disk.available_space() as f64 / disk.total_space() as f64;
    Some(100.0 * (1.0 - free))
}

/// Keeps a look at the system in regular intervals.
pub(crate) async fn watch_system(core: Arc<Core>, watch: Arc<SystemWatch>) {
    loop {
        tokio::time::sleep(core.options.monitor_every).await;
        let sample = watch.sample(&core);
        if let Err(error) = core.ports.monitors.add_system_sample(&sample).await {
            warn!(target: "naru::bots", %error, "the look at the system was not kept");
        }
    }
}

/// Removes rows that are old enough, in small steps.
pub(crate) async fn retain(core: Arc<Core>) {
    loop {
        tokio::time::sleep(core.options.retention.every).await;
        for (kind, days) in &core.options.retention.days {
            purge(&core, *kind, *days).await;
        }
    }
}

/// One round for one kind.
pub(crate) async fn purge(core: &Core, kind: PurgeKind, days: u32) {
    let retention = &core.options.retention;
    let before = core.clock.now().minus(Duration::from_secs(u64::from(days) * 86_400));
    loop {
        match core.ports.maintenance.purge(kind, before, retention.batch).await {
            Ok(removed) => {
                core.metrics.purged(kind).add(count(removed));
                if removed < retention.batch {
                    return;
                }
            }
            Err(error) => {
                // The next round tries again.
                warn!(target: "naru::bots", kind = kind.label(), %error, "retention stopped early");
                return;
            }
        }
        tokio::time::sleep(retention.pause).await;
    }
}

/// Forgets what nobody uses, and more of it when memory is short. Messages are never touched.
pub(crate) async fn care_for_memory(core: Arc<Core>, watch: Arc<SystemWatch>) {
    let limit = core.options.memory_bytes_max;
    loop {
        tokio::time::sleep(MEMORY_EVERY).await;
        let used = if limit == 0 { 0 } else { watch.process_memory() };
        tidy_memory(&core, used, limit);
    }
}

/// One round of it.
pub(crate) fn tidy_memory(core: &Core, used: u64, limit: u64) {
    let share = used.saturating_mul(100).checked_div(limit).unwrap_or(0);
    let idle_max = if share >= 80 { IDLE_UNDER_PRESSURE } else { core.options.idle_max };
    if share >= 80 {
        core.metrics.memory_sheds.increment();
        info!(target: "naru::bots", share, "memory is short; caches are cut");
    }
    let idle_max = if share >= 90 { Duration::ZERO } else { idle_max };
    let known = core.with_recent(|recent| {
        recent.expire(crate::core::now());
        if share >= 90 {
            recent.shed();
        }
    });
    let expired = core.roster.expire(core.uptime(), idle_max, |entry| {
        // A session with replies in it holds messages; one with a connection is in use.
        let state = core.sessions.state(entry.session());
        let is_free = state.as_ref().is_none_or(|s| s.peer.is_none() && s.queued == 0);
        if is_free && let Some(state) = state {
            core.sessions.forget(state.session);
        }
        is_free
    });
    core.metrics.expired.add(expired);
    let gauge = |length: usize| i64::try_from(length).unwrap_or(i64::MAX);
    core.metrics.known_ids.set(gauge(known));
    core.metrics.devices.set(gauge(core.roster.device_count()));
    core.metrics.rooms.set(gauge(core.roster.room_count()));
}
