//! The exit matrix: what seven real servers and three documented ones did when they were stopped or crashed, each
//! way once as our stop, once as somebody else's. The codes were measured (`docs/operations/ward-life.md`).

use super::*;

const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;

fn exit_policy(edit: impl FnOnce(&mut ExitPolicy)) -> LifePolicy {
    let mut policy = LifePolicy::default();
    edit(&mut policy.exit);
    policy
}

fn line(origin: Origin, line: &str) -> Option<Evidence> {
    Some(Evidence::StopLine { origin, line: line.to_owned() })
}

fn crash_line(line: &str) -> Option<Evidence> {
    Some(Evidence::CrashLine(line.to_owned()))
}

/// One cell: a game, a way, how it ended, what its log said, and what that is when nobody asked us.
struct Cell {
    game: &'static str,
    way: &'static str,
    ending: Ending,
    evidence: Option<Evidence>,
    cause: Cause,
}

fn cell(
    game: &'static str,
    way: &'static str,
    ending: Ending,
    evidence: Option<Evidence>,
    cause: Cause,
) -> Cell {
    Cell { game, way, ending, evidence, cause }
}

fn policy_of(game: &str) -> LifePolicy {
    match game {
        "openarena" => exit_policy(|exit| {
            exit.stop_codes = vec![1];
            exit.crash_codes = vec![2];
        }),
        "ark" => exit_policy(|exit| exit.meaningless = vec![Ending::Signal(6)]),
        "palworld" => exit_policy(|exit| exit.crash_codes = vec![3]),
        _ => LifePolicy::default(),
    }
}

#[expect(clippy::too_many_lines, reason = "it is the table")]
fn cells() -> Vec<Cell> {
    use Cause::{
        Crashed, Ended, KilledFromOutside, OutOfMemory, StoppedFromOutside, StoppedInGame, Unknown,
    };
    use Ending::{Code, Signal};
    use Origin::{InGame, Unsaid};
    let term = || Origin::Signal(SIGTERM);
    let int = || Origin::Signal(SIGINT);
    let stopping = "[Server thread/INFO]: Stopping the server";
    vec![
        cell(
            "minetest",
            "SIGTERM",
            Code(0),
            line(term(), "got SIGTERM, shutting down."),
            StoppedFromOutside,
        ),
        cell("minetest", "SIGINT", Code(0), line(int(), "Ctrl-C pressed"), StoppedFromOutside),
        cell("minetest", "SIGTERM, log lost", Code(0), None, Ended),
        cell("minetest", "crash", Signal(11), None, Crashed),
        cell("teeworlds", "SIGTERM", Signal(15), None, StoppedFromOutside),
        cell("teeworlds", "SIGINT", Signal(2), None, StoppedFromOutside),
        cell("teeworlds", "econ", Code(0), line(InGame, "shutdown"), StoppedInGame),
        cell(
            "openarena",
            "SIGTERM",
            Code(1),
            line(term(), "Server Shutdown (Received signal 15)"),
            StoppedFromOutside,
        ),
        cell(
            "openarena",
            "SIGINT",
            Code(1),
            line(int(), "Server Shutdown (Received signal 2)"),
            StoppedFromOutside,
        ),
        cell("openarena", "SIGTERM, log lost", Code(1), None, StoppedFromOutside),
        cell(
            "openarena",
            "console",
            Code(0),
            line(InGame, "Server Shutdown (Server quit)"),
            StoppedInGame,
        ),
        cell(
            "openarena",
            "crash",
            Code(2),
            line(Origin::Signal(11), "Server Shutdown (Received signal 11)"),
            Crashed,
        ),
        cell("openarena", "crash, log lost", Code(2), None, Crashed),
        cell("redeclipse", "SIGTERM", Code(0), None, Ended),
        cell("redeclipse", "SIGINT", Code(1), line(Unsaid, "shutting down"), StoppedFromOutside),
        cell(
            "bzflag",
            "SIGTERM",
            Code(0),
            line(Unsaid, "Shutting down server: uptime 90 secs"),
            StoppedFromOutside,
        ),
        cell(
            "bzflag",
            "SIGINT",
            Code(0),
            line(Unsaid, "Shutting down server: uptime 90 secs"),
            StoppedFromOutside,
        ),
        cell("armagetron", "SIGTERM", Signal(15), None, StoppedFromOutside),
        cell("armagetron", "SIGINT", Signal(2), None, StoppedFromOutside),
        cell("armagetron", "console", Code(0), line(InGame, "quit"), StoppedInGame),
        cell(
            "flying-squid",
            "SIGTERM",
            Code(143),
            line(Unsaid, "Server shutting down..."),
            StoppedFromOutside,
        ),
        cell(
            "flying-squid",
            "SIGINT",
            Code(130),
            line(Unsaid, "Server shutting down..."),
            StoppedFromOutside,
        ),
        cell("jvm", "SIGTERM", Code(143), None, StoppedFromOutside),
        cell("jvm", "SIGINT", Code(130), None, StoppedFromOutside),
        cell(
            "jvm",
            "heap",
            Code(1),
            Some(Evidence::MemoryLine("java.lang.OutOfMemoryError".into())),
            OutOfMemory,
        ),
        cell(
            "jvm",
            "heap, exit",
            Code(3),
            Some(Evidence::MemoryLine("OutOfMemoryError".into())),
            OutOfMemory,
        ),
        cell(
            "jvm",
            "heap, crash",
            Signal(6),
            Some(Evidence::MemoryLine("OutOfMemoryError".into())),
            OutOfMemory,
        ),
        cell("jvm", "crash, log lost", Code(1), None, Crashed),
        cell(
            "minecraft",
            "SIGTERM",
            Code(143),
            line(Unsaid, "Stopping server"),
            StoppedFromOutside,
        ),
        cell("minecraft", "SIGINT", Code(130), line(Unsaid, "Stopping server"), StoppedFromOutside),
        cell("minecraft", "/stop", Code(0), line(InGame, stopping), StoppedInGame),
        cell("minecraft", "/stop, pushed", Code(0), Some(Evidence::PushedStopping), StoppedInGame),
        cell(
            "minecraft",
            "crash",
            Code(1),
            crash_line("This crash report has been saved to"),
            Crashed,
        ),
        cell("minecraft", "crash", Signal(11), None, Crashed),
        cell("minecraft", "crash of the JVM", Signal(6), None, Crashed),
        cell("ark", "DoExit", Signal(6), line(InGame, "DoExit"), StoppedInGame),
        cell("ark", "crash", Signal(6), crash_line("Fatal error!"), Crashed),
        cell("ark", "abort, nothing else", Signal(6), None, Unknown),
        cell("palworld", "SIGTERM", Signal(15), None, StoppedFromOutside),
        cell(
            "palworld",
            "REST shutdown",
            Code(0),
            line(InGame, "The server will shut down in 60 s"),
            StoppedInGame,
        ),
        cell("palworld", "crash", Code(3), None, Crashed),
        cell("palworld", "crash on Windows", Code(0xC000_0005_u32.cast_signed()), None, Crashed),
        cell(
            "palworld",
            "Ctrl+C on Windows",
            Code(0xC000_013A_u32.cast_signed()),
            None,
            StoppedFromOutside,
        ),
        cell("generic", "kill -9", Signal(9), None, KilledFromOutside),
        cell("generic", "kill -9 of a shell's child", Code(137), None, KilledFromOutside),
        cell("generic", "OOM killer", Signal(9), Some(Evidence::OomKill), OutOfMemory),
        cell(
            "generic",
            "machine goes down",
            Signal(15),
            Some(Evidence::MachineStopping),
            Cause::MachineStopped,
        ),
        cell("generic", "gone, no keeper", Ending::Unknown, None, Unknown),
    ]
}

/// When the evidence comes: before the exit, within the time for it, or after the verdict.
const BEFORE: u8 = 0;
const WITHIN: u8 = 1;
const AFTER: u8 = 2;

fn judged(cell: &Cell, when: u8) -> (Verdict, Phase, Duration) {
    let mut stage = Stage::running(&policy_of(cell.game));
    stage.pass(secs(60));
    if let (Some(evidence), BEFORE) = (cell.evidence.clone(), when) {
        stage.evidence(evidence);
        stage.pass(ms(300));
    }
    stage.out.clear();
    let ended = stage.now.mono;
    stage.exit(cell.ending);
    if let (Some(evidence), WITHIN) = (cell.evidence.clone(), when) {
        stage.pass(ms(10));
        stage.evidence(evidence);
    }
    if let Some(wake) = stage.life.next_wake().filter(|_| stage.phase() == Phase::Ending) {
        stage.pass(wake - stage.now.mono);
    }
    let took = stage.now.mono - ended;
    let mut verdicts = stage.verdicts();
    assert_eq!(verdicts.len(), 1, "{} {}", cell.game, cell.way);
    let mut verdict = verdicts.remove(0);
    if let (Some(evidence), AFTER) = (cell.evidence.clone(), when) {
        stage.pass(ms(200));
        stage.evidence(evidence);
        let revised = stage.events().into_iter().find_map(|event| match event {
            Happening::Revised { verdict, .. } => Some(verdict),
            _ => None,
        });
        verdict = revised.unwrap_or(verdict);
    }
    (verdict, stage.phase(), took)
}

#[test]
fn no_exit_of_the_matrix_that_nobody_asked_us_for_is_misread() {
    for cell in cells() {
        for when in [BEFORE, WITHIN, AFTER] {
            let (verdict, phase, took) = judged(&cell, when);
            let name = format!("{} {} {when}: {verdict:?}", cell.game, cell.way);
            assert!(took <= ms(30), "{name}");
            assert_eq!(verdict.cause, cell.cause, "{name}");
            let stays_down = cell.cause.is_deliberate()
                || matches!(cell.cause, Cause::Ended | Cause::MachineStopped);
            assert_eq!(phase, if stays_down { Phase::Stopped } else { Phase::Waiting }, "{name}");
            assert_ne!(verdict.restart, stays_down, "{name}");
            assert!(!verdict.reasons.is_empty());
        }
    }
}

#[test]
fn every_exit_of_the_matrix_during_a_stop_of_ours_is_a_stop() {
    for cell in cells() {
        for wish in [Wish::Stop, Wish::Kill, Wish::Restart, Wish::Backup] {
            let mut stage = Stage::running(&policy_of(cell.game));
            stage.order(wish);
            if let Some(evidence) = cell.evidence.clone() {
                stage.evidence(evidence);
            }
            stage.out.clear();
            stage.exit(cell.ending);
            let expected = match wish {
                Wish::Restart => Phase::Starting,
                Wish::Backup => Phase::Held,
                _ => Phase::Stopped,
            };
            let name = format!("{} {} {wish:?}", cell.game, cell.way);
            assert_eq!(stage.phase(), expected, "{name}");
            let verdicts = stage.verdicts();
            assert_eq!(verdicts[0].cause, Cause::StoppedByUs, "{name}");
            assert_eq!(verdicts[0].confidence, Confidence::Certain, "{name}");
            assert!(
                stage.life.record().budget.left(stage.now.wall, &stage.life.policy.restart)
                    == Some(3)
            );
        }
    }
}

#[test]
fn before_it_is_ready_an_end_with_code_zero_is_a_failed_start() {
    let check = |ending, evidence: Option<Evidence>, cause| {
        let mut stage = Stage::new(&LifePolicy::default());
        stage.order(Wish::Start);
        stage.launch_only();
        stage.out.clear();
        evidence.into_iter().for_each(|evidence| stage.evidence(evidence));
        stage.exit(ending);
        stage.pass(ms(30));
        assert_eq!(stage.verdicts()[0].cause, cause, "{ending:?}");
    };
    // Minecraft without an accepted EULA does just that.
    check(Ending::Code(0), None, Cause::StartFailed);
    check(Ending::Code(1), None, Cause::StartFailed);
    check(Ending::Signal(11), None, Cause::StartFailed);
    check(Ending::Code(143), None, Cause::StoppedFromOutside);
    check(Ending::Signal(9), Some(Evidence::OomKill), Cause::OutOfMemory);
    check(Ending::Code(0), line(Origin::InGame, "stop"), Cause::StoppedInGame);
}

#[test]
fn what_came_first_decides_between_a_stop_line_and_a_crash() {
    let check = |first: Evidence, second: Evidence, ending, cause| {
        let mut stage = Stage::running(&LifePolicy::default());
        stage.pass(secs(60));
        stage.evidence(first);
        stage.pass(ms(50));
        stage.evidence(second);
        stage.pass(secs(2));
        stage.out.clear();
        stage.exit(ending);
        stage.pass(ms(30));
        assert_eq!(stage.verdicts()[0].cause, cause);
    };
    let stopping = || line(Origin::Unsaid, "Stopping server").unwrap();
    let typed = || line(Origin::InGame, "Stopping the server").unwrap();
    let crash = || crash_line("Encountered an unexpected exception").unwrap();
    check(crash(), stopping(), Ending::Code(1), Cause::Crashed);
    check(crash(), stopping(), Ending::Code(0), Cause::Crashed);
    check(stopping(), crash(), Ending::Code(0), Cause::StoppedFromOutside);
    check(stopping(), stopping(), Ending::Signal(11), Cause::StoppedFromOutside);
    check(crash(), typed(), Ending::Code(1), Cause::StoppedInGame);
}

#[test]
fn old_signs_say_nothing_about_an_exit() {
    let mut stage = Stage::running(&LifePolicy::default());
    stage.evidence(line(Origin::InGame, "Stopping the server").unwrap());
    let written = stage.now.wall.minus(secs(3600));
    stage.evidence(Evidence::CrashFile { path: "old".to_owned(), written });
    stage.pass(secs(400));
    stage.out.clear();
    stage.exit(Ending::Code(0));
    stage.pass(ms(30));
    assert_eq!(stage.verdicts()[0].cause, Cause::Ended);
}

#[test]
fn a_countdown_that_somebody_announced_explains_an_end_with_an_error() {
    let mut stage = Stage::running(&LifePolicy::default());
    let ends = stage.now.wall.plus(secs(600));
    stage.evidence(Evidence::Countdown { ends, line: "restart in 10 minutes".to_owned() });
    stage.pass(secs(601));
    stage.out.clear();
    stage.exit(Ending::Code(1));
    stage.pass(ms(30));
    assert_eq!(stage.verdicts()[0].cause, Cause::StoppedInGame);
}

#[test]
fn a_code_seen_after_a_stop_of_ours_is_known_again() {
    let mut stage = Stage::running(&LifePolicy::default());
    stage.order(Wish::Stop);
    stage.exit(Ending::Code(1));
    stage.order(Wish::Start);
    stage.start_up();
    stage.out.clear();
    stage.exit(Ending::Code(1));
    stage.pass(ms(30));
    let verdict = stage.verdicts().remove(0);
    assert_eq!(verdict.cause, Cause::StoppedFromOutside);
    assert_eq!(verdict.confidence, Confidence::Guess);
}

#[test]
fn an_exit_with_all_evidence_at_hand_needs_no_waiting() {
    let mut stage = Stage::running(&LifePolicy::default());
    stage.exit(Ending::Signal(11));
    assert_eq!(stage.phase(), Phase::Ending);
    stage.give(Input::EvidenceComplete);
    assert_eq!(stage.phase(), Phase::Waiting);
}

#[test]
fn a_launcher_that_ends_well_is_followed_to_the_game() {
    let mut stage = Stage::new(&LifePolicy::default());
    stage.order(Wish::Start);
    stage.launch_only();
    stage.out.clear();
    let inner = process(900);
    stage.exit_with(Ending::Code(0), Tree::Alive { inner: Some(inner.clone()) });
    assert_eq!(stage.verdicts()[0].cause, Cause::LauncherExited);
    assert_eq!(stage.process(), inner);
    stage.give(Input::Ready { how: "a sign".to_owned() });
    assert_eq!(stage.phase(), Phase::Running);
}

#[test]
fn what_a_crash_leaves_behind_is_cleared_away_before_the_next_start() {
    let mut stage = Stage::running(&LifePolicy::default());
    stage.exit_with(Ending::Signal(11), Tree::Alive { inner: Some(process(900)) });
    stage.pass(ms(30));
    assert_eq!(stage.phase(), Phase::Ending);
    stage.out.clear();
    stage.pass(secs(120));
    assert!(stage.acts().iter().all(|act| act == "kill"));
    assert_eq!(stage.phase(), Phase::Ending, "nothing is started beside what is left");
    stage.give(Input::TreeGone);
    assert_eq!(stage.phase(), Phase::Starting, "the pause was over long ago");
}
