//! What is to be done with a ward, as plain data. Whoever reads profiles and ward files makes these; here
//! nobody knows where they came from.

use std::time::Duration;

use crate::model::Ending;

/// How long an act waits until the record that must precede it is known to be on disk. Longer than any
/// healthy write, short enough that a full disk does not keep anybody from stopping a server.
pub(super) const PERSIST_WAIT: Duration = Duration::from_secs(2);
/// How soon a failed write is tried again while an act waits for it.
pub(super) const PERSIST_AGAIN: Duration = Duration::from_millis(500);
/// How soon it is tried again when nothing waits for it.
pub(super) const PERSIST_AGAIN_LATER: Duration = Duration::from_secs(10);
/// How long the keeper may take to start a process before the ward counts as lost.
pub(super) const LAUNCH_WAIT: Duration = Duration::from_secs(10);
/// How often a lost ward is looked for.
pub(super) const LOCATE_AGAIN: Duration = Duration::from_secs(5);
/// How long a ward may be lost before somebody is told.
pub(super) const LOST_TOLD_AFTER: Duration = Duration::from_secs(15);
/// How often a kill is repeated. A killed process that stays is in the kernel's hands (a dead disk).
pub(super) const KILL_AGAIN: Duration = Duration::from_secs(5);
/// After how long somebody is told that a process cannot be killed.
pub(super) const UNKILLABLE_TOLD_AFTER: Duration = Duration::from_secs(30);
/// How long evidence of an exit may take to arrive. With the exit to be noticed and the decision to be carried
/// out it stays below the 50 ms that the whole way may take.
pub(super) const SETTLE: Duration = Duration::from_millis(30);
/// The same for an exit that happened while nobody watched: the log's tail has to be read first.
pub(super) const SETTLE_ADOPTED: Duration = Duration::from_secs(1);
/// How long a judged exit may be seen in another light by evidence that came late.
pub(super) const REVISE_WITHIN: Duration = Duration::from_secs(60);
/// How often taken ports are looked at again.
pub(super) const PORTS_AGAIN: Duration = Duration::from_millis(500);
/// How long a look at ports may take before the start goes on without it.
pub(super) const PORTS_ANSWER: Duration = Duration::from_secs(3);
/// How long evidence of a hang may take to be gathered before the kill.
pub(super) const CAPTURE_WAIT: Duration = Duration::from_secs(2);
/// Clocks that part by more than this in one step: the machine slept, or its time was set.
pub(super) const CLOCK_JUMP: Duration = Duration::from_secs(2);
/// What a stop may take beyond its waits, for the deadline that is written down.
pub(super) const LADDER_SLACK: Duration = Duration::from_secs(30);

/// All that decides about one ward's life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LifePolicy {
    /// There is a command to start it with. Without one a ward is only watched, and never started again.
    pub launchable: bool,
    /// When it counts as ready.
    pub ready: ReadyPolicy,
    /// How it is stopped.
    pub ladder: LadderPolicy,
    /// Saving before a stop.
    pub save: SavePolicy,
    /// What players are told before a stop.
    pub announce: AnnouncePolicy,
    /// What its exits mean.
    pub exit: ExitPolicy,
    /// When it is started again.
    pub restart: RestartPolicy,
    /// When it counts as hung.
    pub hang: HangPolicy,
    /// Its ports before a start.
    pub ports: PortsPolicy,
    /// The longest time that a ward stays down for a backup, should nobody release it. Default 1 hour.
    pub hold_max: Duration,
}

impl Default for LifePolicy {
    fn default() -> LifePolicy {
        LifePolicy {
            launchable: true,
            ready: ReadyPolicy::default(),
            ladder: LadderPolicy::default(),
            save: SavePolicy::default(),
            announce: AnnouncePolicy::default(),
            exit: ExitPolicy::default(),
            restart: RestartPolicy::default(),
            hang: HangPolicy::default(),
            ports: PortsPolicy::default(),
            hold_max: Duration::from_secs(3600),
        }
    }
}

/// When a started process counts as ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadyPolicy {
    /// A boot may take this long. Default 5 minutes: large worlds of Minecraft and ARK take 1 to 3.
    pub deadline: Duration,
    /// For games that give no sign: ready once it lived this long.
    pub alive_for: Option<Duration>,
    /// What happens at the deadline.
    pub late: LateBoot,
}

impl Default for ReadyPolicy {
    fn default() -> ReadyPolicy {
        ReadyPolicy { deadline: Duration::from_secs(300), alive_for: None, late: LateBoot::Kill }
    }
}

/// What happens with a boot that takes too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LateBoot {
    /// It is killed, and started again as after a crash.
    Kill,
    /// Somebody is told, and it counts as running.
    Tell,
}

/// How a ward is asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Its own protocol.
    Api,
    /// A line on its console.
    Console,
    /// A signal to the main process.
    Signal(i32),
    /// The whole tree is killed.
    Kill,
}

/// One step of the ladder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rung {
    /// What is done.
    pub action: Action,
    /// How long the process may take to end before the next rung.
    pub wait: Duration,
}

/// How a ward is stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LadderPolicy {
    /// In order. A kill of the whole tree follows the last one, whether named or not.
    pub rungs: Vec<Rung>,
    /// How long what is left of the tree may take after the main process ended. Default 5 s.
    pub tree_wait: Duration,
}

impl Default for LadderPolicy {
    fn default() -> LadderPolicy {
        LadderPolicy {
            rungs: vec![Rung { action: Action::Signal(15), wait: Duration::from_secs(30) }],
            tree_wait: Duration::from_secs(5),
        }
    }
}

/// Saving.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavePolicy {
    /// The game is asked to save before it is stopped.
    pub ask: bool,
    /// How long the confirmation may take. Default 30 s. Then a notice names what is missing, and the stop goes on.
    pub wait: Duration,
    /// A save that was confirmed at most this long ago is enough. Default 0: always a new one.
    pub fresh: Duration,
    /// A save that never ends excuses missed answers for this long. Default 3 minutes.
    pub mask_max: Duration,
}

impl Default for SavePolicy {
    fn default() -> SavePolicy {
        SavePolicy {
            ask: false,
            wait: Duration::from_secs(30),
            fresh: Duration::ZERO,
            mask_max: Duration::from_secs(180),
        }
    }
}

/// What players are told.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct AnnouncePolicy {
    /// How long before a stop or restart; zero for none.
    pub countdown: Duration,
    /// At which times before the end it is said again. The beginning is always said.
    pub at: Vec<Duration>,
    /// No countdown when nobody plays.
    pub skip_when_empty: bool,
}

/// What exits mean, for one game.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExitPolicy {
    /// Codes after an orderly end. Default 0.
    pub clean_codes: Vec<i32>,
    /// Codes after a stop from outside that look like errors (OpenArena: 1 after SIGTERM).
    pub stop_codes: Vec<i32>,
    /// Signals by which people stop things. Default 1, 2 and 15; also as code 128 + N.
    pub stop_signals: Vec<i32>,
    /// Codes that are crashes beyond doubt (OpenArena: 2 after SIGSEGV; Palworld: 3).
    pub crash_codes: Vec<i32>,
    /// Endings that say nothing (ARK aborts after a clean stop).
    pub meaningless: Vec<Ending>,
    /// Whether the main process is a launcher.
    pub follow: Follow,
}

impl Default for ExitPolicy {
    fn default() -> ExitPolicy {
        ExitPolicy {
            clean_codes: vec![0],
            stop_codes: Vec::new(),
            stop_signals: vec![1, 2, 15],
            crash_codes: Vec::new(),
            meaningless: Vec::new(),
            follow: Follow::Auto,
        }
    }
}

/// Whether what a main process leaves behind is the game.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    /// If it ended well before the game was ready, or while it is being stopped.
    Auto,
    /// Always: the main process is known to be a launcher.
    Launcher,
    /// Never: what is left (a crash reporter) is cleared away.
    Never,
}

/// After which ends a ward is started again. What somebody stopped stays stopped in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestartOn {
    /// After crashes, hangs, kills, failed starts, and ends that nobody can explain.
    Crash,
    /// Also after it ended by itself in good order.
    Always,
    /// Not at all.
    Never,
}

/// How often and how fast.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestartPolicy {
    /// After which ends.
    pub on: RestartOn,
    /// The first pause; each further one may be twice as long. Default 1 s.
    pub first: Duration,
    /// The longest pause. Default 60 s.
    pub longest: Duration,
    /// After this long without an end the pauses begin anew. Default 10 minutes.
    pub stable_after: Duration,
    /// So many restarts...
    pub tries: u32,
    /// ...within this time; then a person has to look. Default 3 in 10 minutes.
    pub window: Duration,
    /// Never give up; the pauses still grow.
    pub endless: bool,
}

impl Default for RestartPolicy {
    fn default() -> RestartPolicy {
        RestartPolicy {
            on: RestartOn::Crash,
            first: Duration::from_secs(1),
            longest: Duration::from_secs(60),
            stable_after: Duration::from_secs(600),
            tries: 3,
            window: Duration::from_secs(600),
            endless: false,
        }
    }
}

/// What happens with a hung server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HangAction {
    /// It is killed, and started again by the restart policy.
    Kill,
    /// Somebody is told.
    Tell,
}

/// When a server counts as hung.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HangPolicy {
    /// Whether at all.
    pub enabled: bool,
    /// Without an answer (or with frozen ticks) for this long. Default 30 s.
    pub silence: Duration,
    /// And after so many missed answers. Default 3.
    pub misses: u32,
    /// The same for a server that still burns CPU time: none means that a busy server never counts as hung,
    /// since it may be generating a world.
    pub busy_silence: Option<Duration>,
    /// What then.
    pub action: HangAction,
}

impl Default for HangPolicy {
    fn default() -> HangPolicy {
        HangPolicy {
            enabled: true,
            silence: Duration::from_secs(30),
            misses: 3,
            busy_silence: None,
            action: HangAction::Kill,
        }
    }
}

/// Ports before a start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortsPolicy {
    /// Whether it has ports that must be free.
    pub check: bool,
    /// How long taken ports are waited for before the start counts as failed. Default 30 s.
    pub wait: Duration,
}

impl Default for PortsPolicy {
    fn default() -> PortsPolicy {
        PortsPolicy { check: true, wait: Duration::from_secs(30) }
    }
}

const _: () = assert!(SETTLE.as_millis() <= 30, "the way from exit to decision has 50 ms");
