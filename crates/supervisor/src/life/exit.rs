//! What an exit means. Intent first, evidence second, the exit code last: in the exit matrix of real servers
//! (`docs/operations/ward-life.md`) a deliberate SIGTERM ends as code 0, 1, 143 or as signal 15, and a
//! crash as code 1 or 2, so that no code alone can tell.

use std::time::Duration;

use naru_domain::Timestamp;
use serde::{Deserialize, Serialize};

use super::Moment;
use super::policy::{Action, ExitPolicy, RestartOn};
use super::record::{By, Intent, IntentKind, IntentStep, Learned};
use crate::model::Ending;

/// What a reason rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum About {
    /// Somebody asked us for it.
    Intent,
    /// It was seen.
    Evidence,
    /// The exit code or signal.
    Ending,
    /// What the ward was doing.
    Phase,
    /// The ward's settings.
    Policy,
}

/// One reason, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// What it rests on.
    pub about: About,
    /// In words.
    pub text: String,
}

impl Reason {
    pub(super) fn new(about: About, text: impl Into<String>) -> Reason {
        Reason { about, text: text.into() }
    }
}

/// Why a ward's process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// We were asked to stop it.
    StoppedByUs,
    /// Somebody told the game itself: a player's command, its console, its own protocol.
    StoppedInGame,
    /// Somebody on the machine: a signal, another tool.
    StoppedFromOutside,
    /// The machine is going down.
    MachineStopped,
    /// The machine went down while it ran.
    MachineRestarted,
    /// It ended by itself, in good order, and nobody is known to have asked.
    Ended,
    /// It crashed.
    Crashed,
    /// There was no memory left: the system killed it, or it gave up itself.
    OutOfMemory,
    /// It lived and did not work; we killed it.
    Hung,
    /// Somebody else killed it (SIGKILL).
    KilledFromOutside,
    /// It ended before it was ready.
    StartFailed,
    /// It was not ready in time; we killed it.
    BootTimeout,
    /// The main process was a launcher; the game goes on without it.
    LauncherExited,
    /// Nobody can say.
    Unknown,
}

impl Cause {
    /// Somebody wanted it down: it is not started again by itself.
    #[must_use]
    pub fn is_deliberate(self) -> bool {
        matches!(self, Cause::StoppedByUs | Cause::StoppedInGame | Cause::StoppedFromOutside)
    }

    /// Something went wrong.
    #[must_use]
    pub fn is_failure(self) -> bool {
        matches!(
            self,
            Cause::Crashed
                | Cause::OutOfMemory
                | Cause::Hung
                | Cause::KilledFromOutside
                | Cause::StartFailed
                | Cause::BootTimeout
                | Cause::Unknown
        )
    }

    /// In words.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Cause::StoppedByUs => "stopped on request",
            Cause::StoppedInGame => "stopped from within the game",
            Cause::StoppedFromOutside => "stopped by somebody outside of Naru",
            Cause::MachineStopped => "ended with the machine",
            Cause::MachineRestarted => "the machine was restarted",
            Cause::Ended => "ended by itself",
            Cause::Crashed => "crashed",
            Cause::OutOfMemory => "ran out of memory",
            Cause::Hung => "hung and was killed",
            Cause::KilledFromOutside => "killed by somebody outside of Naru",
            Cause::StartFailed => "failed to start",
            Cause::BootTimeout => "was not ready in time",
            Cause::LauncherExited => "its launcher ended, the game goes on",
            Cause::Unknown => "ended, nobody knows why",
        }
    }
}

/// How sure a verdict is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Confidence {
    /// Only the exit code says so, or nothing at all.
    Guess,
    /// Evidence says so.
    Likely,
    /// We did it ourselves, or the game said so in words.
    Certain,
}

/// What an exit meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Why it ended.
    pub cause: Cause,
    /// It is to be started again, as far as the cause and the settings say; the budget may say otherwise.
    pub restart: bool,
    /// Why we think so, the weightiest first.
    pub reasons: Vec<Reason>,
    /// How sure that is.
    pub confidence: Confidence,
}

/// Where a stop line of a log says that the stop came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A command in the game or at its console.
    InGame,
    /// This signal (`Received signal 15`).
    Signal(i32),
    /// It does not say. A crash may write such a line, too.
    Unsaid,
}

/// A sign of what is going on with a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// The game pushed that it stops (Minecraft's management protocol: `server/stopping`).
    PushedStopping,
    /// The log says that it stops.
    StopLine {
        /// Who wanted it.
        origin: Origin,
        /// The line.
        line: String,
    },
    /// Somebody else announced its end to the players.
    Countdown {
        /// When it ends.
        ends: Timestamp,
        /// In which words.
        line: String,
    },
    /// The system killed a process of this tree for memory (`memory.events`, the kernel's log).
    OomKill,
    /// The log says that there is no memory left.
    MemoryLine(String),
    /// The log has a crash phrase of the profile.
    CrashLine(String),
    /// There is a crash file.
    CrashFile {
        /// Which.
        path: String,
        /// Of when.
        written: Timestamp,
    },
    /// The machine is going down.
    MachineStopping,
}

/// Evidence that was seen, on the scale of the monotonic clock in milliseconds.
#[derive(Clone, Debug)]
struct Seen {
    evidence: Evidence,
    first_ms: i64,
    last_ms: i64,
}

/// The evidence about one process: bounded, the same kind once.
#[derive(Clone, Debug, Default)]
pub(super) struct Book {
    seen: Vec<Seen>,
}

/// There are fewer kinds than this, signals included.
const SEEN_MAX: usize = 24;

pub(super) fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

impl Book {
    /// A new process: what was seen of the last one says nothing.
    pub(super) fn clear(&mut self) {
        self.seen.clear();
    }

    pub(super) fn note(&mut self, evidence: Evidence, now: Moment, age: Duration) {
        let now_ms = millis(now.mono);
        let (first_ms, last_ms) = match &evidence {
            Evidence::CrashFile { written, .. } => {
                let at = now_ms.saturating_sub(millis(now.wall.since(*written)));
                (at, at)
            }
            // It counts from its announcement until some time after its end.
            Evidence::Countdown { ends, .. } => {
                (now_ms, now_ms + millis(ends.since(now.wall).min(COUNTDOWN_MAX)))
            }
            _ => (now_ms.saturating_sub(millis(age)), now_ms.saturating_sub(millis(age))),
        };
        let same = |seen: &&mut Seen| match (&seen.evidence, &evidence) {
            (Evidence::StopLine { origin: a, .. }, Evidence::StopLine { origin: b, .. }) => a == b,
            (a, b) => std::mem::discriminant(a) == std::mem::discriminant(b),
        };
        let room = self.seen.len() < SEEN_MAX;
        match self.seen.iter_mut().find(same) {
            // A sign of long ago is another one.
            Some(seen) if first_ms.saturating_sub(seen.last_ms) > STOP_WINDOW_MS => {
                *seen = Seen { evidence, first_ms, last_ms };
            }
            Some(seen) => {
                seen.first_ms = seen.first_ms.min(first_ms);
                seen.last_ms = seen.last_ms.max(last_ms);
                if matches!(evidence, Evidence::Countdown { .. } | Evidence::CrashFile { .. }) {
                    seen.evidence = evidence;
                }
            }
            None if room => {
                self.seen.push(Seen { evidence, first_ms, last_ms });
            }
            None => (),
        }
    }
}

/// How long before an exit a sign counts. A stop line: large worlds take minutes to save on the way down.
const STOP_WINDOW_MS: i64 = 5 * 60_000;
/// No announcement is believed for longer.
const COUNTDOWN_MAX: Duration = Duration::from_secs(3600);
/// An announced end may be late by this much.
const COUNTDOWN_WINDOW_MS: i64 = 2 * 60_000;
/// A crash phrase: the dump of a large heap takes a while.
const CRASH_WINDOW_MS: i64 = 2 * 60_000;
/// A kill for memory ends the process within moments; its counter may be read later.
const OOM_WINDOW_MS: i64 = 30_000;
/// File systems keep times coarser than clocks do.
const CRASH_FILE_EARLY_MS: i64 = 1_000;

const SIGKILL: i32 = 9;
/// STATUS_CONTROL_C_EXIT of Windows: Ctrl+C, Ctrl+Break, or a closed console.
const CONTROL_C_EXIT: u32 = 0xC000_013A;

/// What is known when an exit is judged.
#[derive(Clone, Copy)]
pub(super) struct Facts<'a> {
    pub(super) intent: Option<&'a Intent>,
    pub(super) ending: Ending,
    /// It was ready when it ended.
    pub(super) ready: bool,
    pub(super) launched: Timestamp,
    /// On the scale of the monotonic clock.
    pub(super) ended_ms: i64,
    pub(super) book: &'a Book,
    /// The machine was started anew since.
    pub(super) rebooted: bool,
}

/// By which settings it is judged.
#[derive(Clone, Copy)]
pub(super) struct Rules<'a> {
    pub(super) exit: &'a ExitPolicy,
    pub(super) learned: &'a [Learned],
    pub(super) restart: RestartOn,
    pub(super) launchable: bool,
    /// It should run.
    pub(super) wanted: bool,
}

/// A verdict, and whether evidence that may still arrive could change it.
pub(super) struct Judged {
    pub(super) verdict: Verdict,
    pub(super) decided: bool,
}

/// What an exit means.
pub(super) fn classify(facts: &Facts<'_>, rules: &Rules<'_>) -> Judged {
    let mut reasons = Vec::new();
    let (cause, confidence, decided) = if let Some(intent) = facts.intent {
        (by_intent(intent, &mut reasons), Confidence::Certain, true)
    } else if facts.rebooted {
        reasons.push(Reason::new(
            About::Evidence,
            "the machine was started anew since it was last seen",
        ));
        (Cause::MachineRestarted, Confidence::Certain, true)
    } else {
        by_evidence(facts, rules, &mut reasons)
    };
    reasons
        .push(Reason::new(About::Ending, format!("it ended with {}", ending_text(facts.ending))));
    if !facts.ready {
        reasons.push(Reason::new(About::Phase, "it was not ready yet"));
    }
    let restart = restarts(cause, rules, &mut reasons);
    Judged { verdict: Verdict { cause, restart, reasons, confidence }, decided }
}

/// A start that never became a process.
pub(super) fn start_failed(why: String, rules: &Rules<'_>) -> Verdict {
    let mut reasons = vec![Reason::new(About::Evidence, why)];
    let restart = restarts(Cause::StartFailed, rules, &mut reasons);
    Verdict { cause: Cause::StartFailed, restart, reasons, confidence: Confidence::Certain }
}

/// The main process was a launcher.
pub(super) fn launcher_exited(ending: Ending, inner: u32) -> Verdict {
    let reasons = vec![
        Reason::new(About::Ending, format!("the launcher ended with {}", ending_text(ending))),
        Reason::new(About::Evidence, format!("process {inner} of its tree goes on")),
    ];
    Verdict {
        cause: Cause::LauncherExited,
        restart: false,
        reasons,
        confidence: Confidence::Likely,
    }
}

/// An exit with an open intent is never a crash, whatever the code.
fn by_intent(intent: &Intent, reasons: &mut Vec<Reason>) -> Cause {
    let (cause, what) = match intent.kind {
        IntentKind::Stop => (Cause::StoppedByUs, "a stop"),
        IntentKind::Restart => (Cause::StoppedByUs, "a restart"),
        IntentKind::Kill => (Cause::StoppedByUs, "a kill"),
        IntentKind::Backup => (Cause::StoppedByUs, "a stop for a backup"),
        IntentKind::Hang => (Cause::Hung, "a kill because it hung"),
        IntentKind::LateBoot => (Cause::BootTimeout, "a kill because it was not ready in time"),
    };
    let who = match &intent.by {
        By::Operator(name) => format!(" by {name}"),
        By::Schedule(name) => format!(" by the schedule {name}"),
        By::Game | By::Outside | By::Naru => String::new(),
    };
    reasons
        .push(Reason::new(About::Intent, format!("{what}{who} was under way ({})", intent.reason)));
    if matches!(intent.step, IntentStep::Begun | IntentStep::Countdown { .. } | IntentStep::Saving)
    {
        reasons.push(Reason::new(About::Phase, "it ended before it was asked to"));
    }
    cause
}

/// The two sides of an exit that nobody asked us for, in points. The points only rank: 5 is what the game
/// said in words, 3 to 4 what normally means one thing, 1 what merely fits.
#[derive(Default)]
struct Scales {
    in_game: i32,
    outside: i32,
    crash: i32,
    memory: i32,
    machine: bool,
    /// A stop in words: it outweighs everything that went wrong on the way down.
    said: Option<Cause>,
    first_stop_ms: Option<i64>,
    first_crash_ms: Option<i64>,
    reasons: Vec<(i32, Reason)>,
}

impl Scales {
    fn reason(&mut self, points: i32, about: About, text: String) {
        self.reasons.push((points, Reason::new(about, text)));
    }

    fn stop_at(&mut self, ms: i64) {
        self.first_stop_ms = Some(self.first_stop_ms.map_or(ms, |at| at.min(ms)));
    }

    fn crash_at(&mut self, ms: i64) {
        self.first_crash_ms = Some(self.first_crash_ms.map_or(ms, |at| at.min(ms)));
    }
}

fn by_evidence(
    facts: &Facts<'_>,
    rules: &Rules<'_>,
    reasons: &mut Vec<Reason>,
) -> (Cause, Confidence, bool) {
    let mut scales = Scales::default();
    for seen in &facts.book.seen {
        weigh(&mut scales, seen, facts, rules.exit);
    }
    let witnessed = !scales.reasons.is_empty();
    let says = EndingSays::of(facts, rules);
    weigh_ending(&mut scales, says);
    let outcome = decide(&scales, says, facts.ready, witnessed);
    // The sort is stable: equal points stay in the order in which things were seen.
    scales.reasons.sort_by_key(|(points, _)| -points);
    reasons.extend(scales.reasons.into_iter().map(|(_, reason)| reason));
    outcome
}

/// Puts one sign on the scales, if it is recent enough to belong to this exit.
fn weigh(scales: &mut Scales, seen: &Seen, facts: &Facts<'_>, rules: &ExitPolicy) {
    let within = |window_ms: i64| facts.ended_ms - seen.last_ms <= window_ms;
    match &seen.evidence {
        Evidence::StopLine { origin: Origin::InGame, line } if within(STOP_WINDOW_MS) => {
            scales.said = scales.said.or(Some(Cause::StoppedInGame));
            scales.reason(
                5,
                About::Evidence,
                format!("the log says that somebody stopped it: {line}"),
            );
        }
        Evidence::StopLine { origin: Origin::Signal(signal), line } if within(STOP_WINDOW_MS) => {
            if rules.stop_signals.contains(signal) {
                scales.said = scales.said.or(Some(Cause::StoppedFromOutside));
                scales.reason(
                    5,
                    About::Evidence,
                    format!("the log says that it was signalled to stop: {line}"),
                );
            } else {
                scales.crash += 4;
                scales.crash_at(seen.first_ms);
                scales.reason(
                    4,
                    About::Evidence,
                    format!("the log names the signal of a crash: {line}"),
                );
            }
        }
        Evidence::StopLine { origin: Origin::Unsaid, line } if within(STOP_WINDOW_MS) => {
            scales.outside += 3;
            scales.stop_at(seen.first_ms);
            scales.reason(3, About::Evidence, format!("the log says that it stops: {line}"));
        }
        Evidence::PushedStopping if within(STOP_WINDOW_MS) => {
            scales.in_game += 3;
            scales.stop_at(seen.first_ms);
            scales.reason(3, About::Evidence, "the game told that it stops".to_owned());
        }
        Evidence::Countdown { line, .. } if within(COUNTDOWN_WINDOW_MS) => {
            scales.in_game += 3;
            scales.stop_at(seen.first_ms);
            scales.reason(3, About::Evidence, format!("its end was announced: {line}"));
        }
        Evidence::OomKill if within(OOM_WINDOW_MS) => {
            scales.memory += 6;
            scales.reason(
                6,
                About::Evidence,
                "the system killed a process of it for memory".to_owned(),
            );
        }
        Evidence::MemoryLine(line) if within(CRASH_WINDOW_MS) => {
            scales.memory += 4;
            scales.crash_at(seen.first_ms);
            scales.reason(4, About::Evidence, format!("the log says that memory ran out: {line}"));
        }
        Evidence::CrashLine(line) if within(CRASH_WINDOW_MS) => {
            scales.crash += 3;
            scales.crash_at(seen.first_ms);
            scales.reason(3, About::Evidence, format!("the log says that it crashed: {line}"));
        }
        Evidence::CrashFile { path, written }
            if written.0 >= facts.launched.0.saturating_sub(CRASH_FILE_EARLY_MS) =>
        {
            scales.crash += 4;
            scales.crash_at(seen.first_ms);
            scales.reason(
                4,
                About::Evidence,
                format!("a crash file is newer than its start: {path}"),
            );
        }
        Evidence::MachineStopping if within(STOP_WINDOW_MS) => {
            scales.machine = true;
            scales.reason(7, About::Evidence, "the machine is going down".to_owned());
        }
        _ => (),
    }
}

/// What the exit code or signal says on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EndingSays {
    Nothing,
    Clean,
    /// A stop, with so many points.
    Stop(i32),
    Crash(i32),
    Killed,
}

impl EndingSays {
    fn of(facts: &Facts<'_>, rules: &Rules<'_>) -> EndingSays {
        if rules.exit.meaningless.contains(&facts.ending) {
            return EndingSays::Nothing;
        }
        match facts.ending {
            Ending::Unknown => EndingSays::Nothing,
            Ending::Signal(signal) => Self::of_signal(signal, rules.exit, 4),
            Ending::Code(code) => Self::of_code(code, facts, rules),
        }
    }

    fn of_signal(signal: i32, rules: &ExitPolicy, crash: i32) -> EndingSays {
        if rules.stop_signals.contains(&signal) {
            EndingSays::Stop(3)
        } else if signal == SIGKILL {
            EndingSays::Killed
        } else {
            EndingSays::Crash(crash)
        }
    }

    fn of_code(code: i32, facts: &Facts<'_>, rules: &Rules<'_>) -> EndingSays {
        let learned = || {
            let same = |one: &Learned| one.ending == facts.ending && one.action != Action::Kill;
            rules.learned.iter().any(same)
        };
        if rules.exit.clean_codes.contains(&code) {
            EndingSays::Clean
        } else if rules.exit.crash_codes.contains(&code) {
            EndingSays::Crash(3)
        } else if facts.ready && (rules.exit.stop_codes.contains(&code) || learned()) {
            // Before it is ready, such a code rather means that its settings are wrong.
            EndingSays::Stop(1)
        } else if code.cast_unsigned() == CONTROL_C_EXIT {
            EndingSays::Stop(3)
        } else if (129..=192).contains(&code) {
            // Shells and the JVM say 128 + N after signal N.
            Self::of_signal(code - 128, rules.exit, 3)
        } else if code.cast_unsigned() >= 0xC000_0000 {
            // An NTSTATUS error: an unhandled exception of Windows.
            EndingSays::Crash(4)
        } else {
            EndingSays::Crash(1)
        }
    }
}

fn weigh_ending(scales: &mut Scales, says: EndingSays) {
    match says {
        EndingSays::Clean => {
            scales.reason(1, About::Ending, "the code is one of an orderly end".to_owned());
        }
        EndingSays::Stop(points) => {
            scales.outside += points;
            scales.reason(
                points,
                About::Ending,
                "it ends like this when it is told to stop".to_owned(),
            );
        }
        EndingSays::Crash(points) => {
            scales.crash += points;
            // Whatever was said or written came before it, even if it was read later.
            scales.crash_at(i64::MAX);
            scales.reason(
                points,
                About::Ending,
                "it ends like this when something went wrong".to_owned(),
            );
        }
        EndingSays::Killed => {
            scales.reason(1, About::Ending, "it was killed, and not by us".to_owned());
        }
        EndingSays::Nothing => {
            scales.reason(
                0,
                About::Ending,
                "the way it ended says nothing with this game".to_owned(),
            );
        }
    }
}

fn decide(
    scales: &Scales,
    says: EndingSays,
    ready: bool,
    witnessed: bool,
) -> (Cause, Confidence, bool) {
    if scales.machine {
        return (Cause::MachineStopped, Confidence::Certain, true);
    }
    if let Some(cause) = scales.said {
        return (cause, Confidence::Certain, true);
    }
    let stop = scales.in_game + scales.outside;
    // A crash that is handled ends with a stop line ("Stopping server"), and a stop may end in a crash:
    // what came first is the cause.
    let (stop, crash) = match (scales.first_stop_ms, scales.first_crash_ms) {
        (Some(stop_ms), Some(crash_ms)) if stop_ms < crash_ms => (stop + 2, scales.crash),
        (Some(_), Some(_)) => (stop, scales.crash + 2),
        _ => (stop, scales.crash),
    };
    let sure = |points: i32, other: i32| {
        if witnessed && points - other >= 2 { Confidence::Likely } else { Confidence::Guess }
    };
    let failed = |cause: Cause| if ready { cause } else { Cause::StartFailed };
    let (cause, confidence) = if scales.memory > 0 && scales.memory >= stop {
        (Cause::OutOfMemory, sure(scales.memory, stop))
    } else if stop > crash {
        let cause = if scales.in_game > scales.outside {
            Cause::StoppedInGame
        } else {
            Cause::StoppedFromOutside
        };
        (cause, sure(stop, crash))
    } else if crash > 0 {
        (failed(Cause::Crashed), sure(crash, stop))
    } else {
        let cause = match says {
            EndingSays::Clean => failed(Cause::Ended),
            EndingSays::Killed => Cause::KilledFromOutside,
            _ => Cause::Unknown,
        };
        (cause, Confidence::Guess)
    };
    (cause, confidence, confidence >= Confidence::Likely)
}

/// Whether the settings want it up again after this.
fn restarts(cause: Cause, rules: &Rules<'_>, reasons: &mut Vec<Reason>) -> bool {
    let no = |text: &str, reasons: &mut Vec<Reason>| {
        reasons.push(Reason::new(About::Policy, text));
        false
    };
    if cause == Cause::StoppedByUs {
        return rules.wanted && rules.launchable;
    }
    if cause.is_deliberate() {
        return no("what somebody stopped stays down", reasons);
    }
    if matches!(cause, Cause::LauncherExited) {
        return false;
    }
    if !rules.launchable {
        return no("it has no command to be started with", reasons);
    }
    if !rules.wanted {
        return no("it should be down", reasons);
    }
    match (cause, rules.restart) {
        (Cause::MachineRestarted, _) => true,
        (Cause::MachineStopped, _) => no("it comes back with the machine", reasons),
        (_, RestartOn::Never) => no("its settings say never to restart it", reasons),
        (Cause::Ended, RestartOn::Crash) => no("it is restarted after failures only", reasons),
        _ => true,
    }
}

/// How a process ended, in words.
pub(super) fn ending_text(ending: Ending) -> String {
    match ending {
        Ending::Code(code) if code.cast_unsigned() >= 0xC000_0000 => {
            format!("code {:#010X}", code.cast_unsigned())
        }
        Ending::Code(code) => format!("code {code}"),
        Ending::Signal(signal) => format!("signal {signal}"),
        Ending::Unknown => "an unknown code".to_owned(),
    }
}
