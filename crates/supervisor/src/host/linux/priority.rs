//! How a process shares the machine, and what it may use.

use rustix::process::{Pid, Resource, Rlimit, getpriority_process, setpriority_process, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};
use thread_priority::{
    NormalThreadSchedulePolicy, ScheduleParams, ThreadPriority, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};

use super::super::{HostError, Limits, Priority, Refused};
use super::process::{Handle, Stat};
use crate::model::ProcessId;

/// `SCHED_IDLE` in sched(7).
const POLICY_IDLE: u32 = 5;
/// `SCHED_OTHER`.
const POLICY_OTHER: u32 = 0;

/// Puts the calling thread behind everybody else: `SCHED_IDLE` and nice 19. A thread in `SCHED_IDLE` whose I/O
/// class was never set also reads and writes in the idle class (ioprio_set(2), "I/O priority ... not set").
pub fn lower_own_thread() -> Result<(), HostError> {
    idle_own_thread()?;
    setpriority_process(None, 19).map_err(|error| io("lower the thread", error))
}

fn idle_own_thread() -> Result<(), HostError> {
    own_policy_to(NormalThreadSchedulePolicy::Idle, POLICY_IDLE)
}

fn own_policy_to(policy: NormalThreadSchedulePolicy, number: u32) -> Result<(), HostError> {
    let policy = ThreadSchedulePolicy::Normal(policy);
    let priority = match number {
        POLICY_IDLE => ThreadPriority::Min,
        // In the library's scale of 100 this is niceness 0.
        _ => ThreadPriority::from_posix(ScheduleParams { sched_priority: 48 }),
    };
    let set = set_thread_priority_and_policy(thread_native_id(), priority, policy);
    // It also resets the niceness, which the system refuses without rights when that would raise it. The policy
    // stands by then, so the policy is what counts.
    match set {
        _ if own_policy() == Some(number) => Ok(()),
        Ok(()) => Err(HostError::Unsupported("a scheduling policy did not stick")),
        Err(thread_priority::Error::OS(code)) => Err(HostError::Io {
            what: "set the scheduling policy",
            source: std::io::Error::from_raw_os_error(code),
        }),
        Err(_) => Err(HostError::Unsupported("this scheduling policy")),
    }
}

fn own_policy() -> Option<u32> {
    let mut bytes = Vec::new();
    super::read_small("/proc/thread-self/stat", &mut bytes).ok()?;
    Stat::parse(&bytes).map(|stat| stat.policy)
}

/// Lowers the whole session that this process is in, against other sessions. Where the kernel groups threads by
/// session (autogroup, sched(7)), nice and `SCHED_IDLE` count only within the session, so a process that shares
/// its session with nobody who matters should call this, too.
pub fn lower_own_session() -> Result<(), HostError> {
    autogroup("self", 19)
}

fn autogroup(pid: &str, nice: i32) -> Result<(), HostError> {
    std::fs::write(format!("/proc/{pid}/autogroup"), nice.to_string())
        .map_err(HostError::io("set the session's niceness"))
}

/// Takes a priority for the calling process, which must have one thread: what is not asked for becomes as if nobody
/// had ever changed it, but for cores and score. What was refused is told and skipped.
#[must_use]
pub fn take_priority(priority: &Priority) -> Vec<Refused> {
    let mut refused = Vec::new();
    let mut tried = |what, result: Result<(), HostError>| {
        refused.extend(result.err().map(|why| Refused { what, why }));
    };
    if let Some(score) = priority.oom_score {
        tried("oom_score", oom_score("self", score));
    }
    if !priority.cores.is_empty() {
        tried("cores", cores(None, &priority.cores));
    }
    if priority.idle {
        tried("idle", idle_own_thread());
    } else if own_policy() == Some(POLICY_IDLE) {
        tried("not idle", own_policy_to(NormalThreadSchedulePolicy::Other, POLICY_OTHER));
    }
    let inherited = getpriority_process(None).unwrap_or(0);
    let nice = priority.nice.unwrap_or(0);
    if nice != inherited {
        tried("nice", setpriority_process(None, nice).map_err(|error| io("set nice", error)));
    }
    if let Some(nice) = priority.nice {
        // Absent where the kernel groups by nothing or by cgroup: then nice alone does it.
        drop(autogroup("self", nice));
    }
    refused
}

/// Gives a priority to a process that runs already, with all its threads. `idle` can only be taken at the start.
#[must_use]
pub fn favour(process: &ProcessId, priority: &Priority) -> Vec<Refused> {
    let mut refused = Vec::new();
    // Held, so that the number means this process until we are done.
    let held = match Handle::open(process) {
        Ok(held) => held,
        Err(why) => return vec![Refused { what: "process", why }],
    };
    let pid = process.pid.to_string();
    let mut tried = |what, result: Result<(), HostError>| {
        refused.extend(result.err().map(|why| Refused { what, why }));
    };
    if let Some(score) = priority.oom_score {
        tried("oom_score", oom_score(&pid, score));
    }
    if !priority.cores.is_empty() {
        tried("cores", each_thread(&pid, |thread| cores(Some(thread), &priority.cores)));
    }
    if priority.idle {
        tried("idle", Err(HostError::Unsupported("SCHED_IDLE for a process that runs already")));
    }
    if let Some(nice) = priority.nice {
        let set =
            |thread| setpriority_process(Some(thread), nice).map_err(|error| io("set nice", error));
        tried("nice", each_thread(&pid, set));
        drop(autogroup(&pid, nice));
    }
    drop(held);
    refused
}

/// Niceness and cores belong to threads on Linux; new threads inherit them.
fn each_thread(
    pid: &str,
    mut act: impl FnMut(Pid) -> Result<(), HostError>,
) -> Result<(), HostError> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).map_err(|_| HostError::Gone)?;
    for thread in threads.flatten() {
        let number = thread.file_name().to_str().and_then(|name| name.parse::<i32>().ok());
        if let Some(number) = number.and_then(Pid::from_raw) {
            act(number)?;
        }
    }
    Ok(())
}

fn cores(thread: Option<Pid>, wanted: &[usize]) -> Result<(), HostError> {
    let mut set = CpuSet::new();
    for core in wanted {
        if *core >= CpuSet::MAX_CPU {
            return Err(HostError::Unsupported("a core of this number"));
        }
        set.set(*core);
    }
    sched_setaffinity(thread, &set).map_err(|error| io("set the cores", error))
}

fn oom_score(pid: &str, score: i32) -> Result<(), HostError> {
    std::fs::write(format!("/proc/{pid}/oom_score_adj"), score.to_string())
        .map_err(HostError::io("set oom_score_adj"))
}

/// Takes limits for the calling process and all its children to come. They cannot be raised again without rights.
/// What was refused is told and skipped.
#[must_use]
pub fn take_limits(limits: &Limits) -> Vec<Refused> {
    let wanted = [
        ("open_files", Resource::Nofile, limits.open_files),
        ("processes", Resource::Nproc, limits.processes),
        ("core_bytes", Resource::Core, limits.core_bytes),
        ("address_bytes", Resource::As, limits.address_bytes),
    ];
    let mut refused = Vec::new();
    for (what, resource, value) in wanted {
        let Some(value) = value else { continue };
        let both = Rlimit { current: Some(value), maximum: Some(value) };
        if let Err(error) = setrlimit(resource, both) {
            refused.push(Refused { what, why: io("set a limit", error) });
        }
    }
    refused
}

fn io(what: &'static str, error: rustix::io::Errno) -> HostError {
    HostError::Io { what, source: error.into() }
}
