//! Time that a monitor takes from a game: it ran on the game's core while the game was ready to run and waited. What
//! others on the machine take does not enter. Pure: it reads the kernel's trace as text and adds up.

use std::collections::BTreeSet;

use serde::Serialize;

/// A line of the trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    /// Microseconds, as the trace has them.
    at: u64,
    cpu: u32,
    event: Event,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// Another thread gets the core.
    Switch { prev: u32, prev_is_ready: bool, next: u32 },
    /// A thread becomes ready to run.
    Waking { pid: u32 },
    /// A thread has a new one.
    Fork { child: u32, parent: u32 },
}

/// What was taken during a trace, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Theft {
    /// All of it.
    pub(crate) taken_us: u64,
    /// The most within one wait of the game.
    pub(crate) worst_us: u64,
    /// How often the monitor took the core from the game while it ran.
    pub(crate) preemptions: u64,
    /// How long the game waited for its core in all, whoever had it.
    pub(crate) waited_us: u64,
    /// How often the game got the core: proof that it was seen at all.
    pub(crate) turns: u64,
}

/// Adds up a trace of the game's and the monitor's threads. Threads that the monitor's threads make belong to it.
pub(crate) fn attribute(trace: &str, game: u32, monitor: &BTreeSet<u32>, core: u32) -> Theft {
    let mut book = Book { game, monitor: monitor.clone(), ..Book::default() };
    for entry in trace.lines().filter_map(parse) {
        book.take(entry, core);
    }
    book.theft
}

#[derive(Default)]
struct Book {
    game: u32,
    monitor: BTreeSet<u32>,
    at: u64,
    /// The game is ready and has no core.
    is_waiting: bool,
    game_runs: bool,
    monitor_runs: bool,
    /// Taken within this wait.
    taken_us: u64,
    theft: Theft,
}

impl Book {
    fn take(&mut self, entry: Entry, core: u32) {
        let passed = entry.at.saturating_sub(self.at);
        self.at = entry.at;
        if self.is_waiting {
            self.theft.waited_us += passed;
            if self.monitor_runs {
                self.taken_us += passed;
                self.theft.taken_us += passed;
            }
        }
        match entry.event {
            Event::Fork { child, parent } => {
                if self.monitor.contains(&parent) {
                    self.monitor.insert(child);
                }
            }
            Event::Waking { pid } if pid == self.game => self.is_waiting |= !self.game_runs,
            Event::Waking { .. } => (),
            Event::Switch { prev, prev_is_ready, next } if entry.cpu == core => {
                self.switch(prev, prev_is_ready, next);
            }
            Event::Switch { .. } => (),
        }
    }

    fn switch(&mut self, prev: u32, prev_is_ready: bool, next: u32) {
        self.monitor_runs = self.monitor.contains(&next);
        self.game_runs = next == self.game;
        if prev == self.game {
            self.is_waiting = prev_is_ready;
            self.theft.preemptions += u64::from(prev_is_ready && self.monitor_runs);
        }
        if self.game_runs {
            self.theft.turns += 1;
            self.theft.worst_us = self.theft.worst_us.max(self.taken_us);
            self.taken_us = 0;
            self.is_waiting = false;
        }
    }
}

/// `  naru-42  [001] d..2.  12.345678: sched_switch: prev_comm=…`; other lines are none. Names of threads may contain
/// anything, so fields are looked for from behind.
fn parse(line: &str) -> Option<Entry> {
    let at = line.find(": sched_")?;
    let (head, rest) = (&line[..at], &line[at + 2..]);
    let cpu = head.rsplit_once('[')?.1.split(']').next()?.parse().ok()?;
    let (seconds, micros) = head.rsplit_once(' ')?.1.split_once('.')?;
    let at = seconds.parse::<u64>().ok()? * 1_000_000 + micros.parse::<u64>().ok()?;
    let (name, fields) = rest.split_once(": ")?;
    let event = match name {
        "sched_switch" => {
            let (prev, next) = fields.rsplit_once(" ==> ")?;
            Event::Switch {
                prev: number(prev, " prev_pid=")?,
                prev_is_ready: prev.rsplit_once(" prev_state=")?.1.starts_with('R'),
                next: number(next, " next_pid=")?,
            }
        }
        "sched_waking" => Event::Waking { pid: number(fields, " pid=")? },
        "sched_process_fork" => {
            let (parent, child) = fields.rsplit_once(" child_comm=")?;
            Event::Fork { child: number(child, " child_pid=")?, parent: number(parent, " pid=")? }
        }
        _ => return None,
    };
    Some(Entry { at, cpu, event })
}

fn number(text: &str, name: &str) -> Option<u32> {
    text.rsplit_once(name)?.1.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GAME: u32 = 7;
    const MONITOR: u32 = 8;
    const OTHER: u32 = 9;

    fn waking(at: u64, pid: u32) -> String {
        format!(
            "  x-1  [000] dN.4.  0.{at:06}: sched_waking: comm=a b pid={pid} prio=120 target_cpu=001\n"
        )
    }

    fn switch(at: u64, cpu: u32, prev: u32, state: &str, next: u32) -> String {
        format!(
            "  x [9] y-{prev}  [{cpu:03}] d..2.  0.{at:06}: sched_switch: prev_comm=x prev_pid={prev} \
             prev_prio=120 prev_state={state} ==> next_comm=z next_pid={next} next_prio=120\n"
        )
    }

    fn theft(lines: &[String]) -> Theft {
        attribute(&lines.concat(), GAME, &BTreeSet::from([MONITOR]), 1)
    }

    #[test]
    fn only_what_the_monitor_holds_while_the_game_waits_is_taken() {
        let theft = theft(&[
            switch(100, 1, OTHER, "S", MONITOR),
            // 300 µs of the monitor's 400 µs.
            waking(200, GAME),
            switch(500, 1, MONITOR, "S", OTHER),
            // Somebody else holds it for 50 µs more.
            switch(550, 1, OTHER, "R", GAME),
            switch(900, 1, GAME, "S", 0),
            // The game sleeps.
            switch(950, 1, 0, "R", MONITOR),
            switch(990, 1, MONITOR, "S", 0),
        ]);
        assert_eq!((theft.taken_us, theft.worst_us, theft.waited_us), (300, 300, 350));
        assert_eq!((theft.preemptions, theft.turns), (0, 1));
    }

    #[test]
    fn a_game_that_is_put_aside_waits() {
        let theft = theft(&[
            waking(0, GAME),
            switch(10, 1, 0, "R", GAME),
            switch(100, 1, GAME, "R+", MONITOR),
            switch(160, 1, MONITOR, "S", GAME),
            switch(200, 1, GAME, "R", MONITOR),
            switch(220, 1, MONITOR, "R", GAME),
        ]);
        assert_eq!((theft.taken_us, theft.worst_us, theft.preemptions), (80, 60, 2));
    }

    #[test]
    fn other_cores_and_new_threads_of_the_monitor_are_told_apart() {
        let fork = "  m-8  [001] ....1  0.000001: sched_process_fork: comm=m pid=8 child_comm=m child_pid=80\n";
        let theft = theft(&[
            fork.to_owned(),
            waking(100, GAME),
            switch(110, 0, OTHER, "S", MONITOR),
            switch(120, 1, OTHER, "S", 80),
            switch(150, 1, 80, "S", GAME),
        ]);
        assert_eq!((theft.taken_us, theft.waited_us), (30, 50));
    }

    #[test]
    fn what_is_no_event_is_passed_over() {
        assert_eq!(parse("# tracer: nop"), None);
        assert_eq!(parse(": sched_switch: "), None);
        assert_eq!(parse("a [1] 2.3: sched_waking: pid"), None);
    }
}
