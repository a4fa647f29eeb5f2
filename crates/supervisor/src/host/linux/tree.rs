//! A process and all that came from it.

use std::collections::HashMap;

use super::super::{Found, HostError};
use super::process::{Handle, Stat, all, found};
use crate::model::ProcessId;

const STOP: i32 = rustix::process::Signal::STOP.as_raw();
const KILL: i32 = rustix::process::Signal::KILL.as_raw();

/// How often a tree is looked through for members that were born meanwhile, before it is killed. Each pass stops
/// what it found, so only processes born in between are left for the next.
const PASSES_MAX: usize = 16;

/// All that descends from a process, parents before children. Looks through all processes.
pub fn descendants(pid: u32) -> Result<Vec<Found>, HostError> {
    let mut children: HashMap<u32, Vec<(u32, Stat)>> = HashMap::new();
    for (pid, stat) in all()? {
        if stat.is_alive() {
            children.entry(stat.parent).or_default().push((pid, stat));
        }
    }
    let mut tree: Vec<Found> = Vec::new();
    let mut next = 0;
    let mut parent = pid;
    loop {
        tree.extend(
            children.remove(&parent).into_iter().flatten().map(|(pid, stat)| found(pid, stat)),
        );
        let Some(member) = tree.get(next) else { return Ok(tree) };
        parent = member.process.pid;
        next += 1;
    }
}

/// The member below a process that is most likely the game: the one with the most memory, of equals the oldest.
/// Launch scripts and crash handlers are small. Looks through all processes.
pub fn principal(pid: u32) -> Result<Option<Found>, HostError> {
    let tree = descendants(pid)?;
    Ok(tree
        .into_iter()
        .max_by_key(|member| (member.resident_bytes, std::cmp::Reverse(member.process.started))))
}

/// Sends a signal to all below a process, and to the process itself where `root` gives it; says how many got it.
/// Looks through all processes.
pub fn signal_tree(below: u32, root: Option<&ProcessId>, signal: i32) -> Result<usize, HostError> {
    let mut reached = 0;
    if let Some(root) = root {
        Handle::open(root)?.signal(signal)?;
        reached += 1;
    }
    for member in descendants(below)? {
        let sent = Handle::open(&member.process).and_then(|handle| handle.signal(signal));
        match sent {
            Ok(()) => reached += 1,
            Err(HostError::Gone) => (),
            Err(error) => return Err(error),
        }
    }
    Ok(reached)
}

/// Kills all below a process, and the process itself where `root` gives it; says how many. Everything is stopped
/// first, so that nothing can start a new process on its way out. Looks through all processes, some times.
pub fn kill_tree(below: u32, root: Option<&ProcessId>) -> Result<usize, HostError> {
    let mut held: HashMap<u32, Handle> = HashMap::new();
    if let Some(root) = root {
        hold(&mut held, root);
    }
    for _ in 0..PASSES_MAX {
        let before = held.len();
        for member in descendants(below)? {
            if held.get(&member.process.pid).is_none_or(|h| *h.process() != member.process) {
                hold(&mut held, &member.process);
            }
        }
        if held.len() == before {
            break;
        }
    }
    let mut killed = 0;
    let mut refused = None;
    for handle in held.values() {
        match handle.signal(KILL) {
            Ok(()) => killed += 1,
            Err(HostError::Gone) => (),
            Err(error) => refused = Some(error),
        }
    }
    refused.map_or(Ok(killed), Err)
}

/// Takes hold of a process and stops it. Who is gone already needs neither; who may not be signalled is held,
/// so that the kill says so.
fn hold(held: &mut HashMap<u32, Handle>, process: &ProcessId) {
    if let Ok(handle) = Handle::open(process) {
        // A refusal shows again, and is told, when it is killed.
        drop(handle.signal(STOP));
        held.insert(process.pid, handle);
    }
}
