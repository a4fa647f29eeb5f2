//! Naru was away: restarted, upgraded, killed, or the machine was.

use proptest::prelude::*;

use super::*;

fn ladder() -> LifePolicy {
    let mut policy = LifePolicy::default();
    policy.ladder.rungs = vec![
        Rung { action: Action::Console, wait: secs(20) },
        Rung { action: Action::Signal(15), wait: secs(30) },
    ];
    policy
}

/// Naru is killed now and back after `away`; the monotonic clock begins somewhere else.
fn reborn(stage: &Stage, away: Duration, found: Found, boot: &str) -> Stage {
    let record = Record::parse(&stage.life.record().to_json()).unwrap();
    let now = Moment { wall: stage.now.wall.plus(away), mono: secs(3) };
    Stage::resume_in(&stage.life.policy.clone(), record, found, boot, now)
}

fn gone(ending: Ending, at: Timestamp) -> Found {
    Found::Gone { exit: Some(Exit { ending, at }), tree: Tree::Gone }
}

#[test]
fn a_running_game_is_found_again_without_a_word_of_a_crash() {
    let stage = Stage::running(&ladder());
    let mut again = reborn(&stage, secs(5), Found::AliveSame, BOOT);
    assert_eq!(again.phase(), Phase::Running);
    assert!(again.notices().is_empty());
    assert!(again.acts().is_empty());
}

#[test]
fn an_open_stop_goes_on_where_it_was() {
    let mut stage = Stage::running(&ladder());
    stage.order(Wish::Stop);
    stage.pass(secs(5));
    let mut again = reborn(&stage, secs(5), Found::AliveSame, BOOT);
    assert_eq!(again.acts(), ["console"]);
    again.pass(secs(20));
    assert_eq!(again.acts(), ["signal 15"]);
    again.pass(secs(10));
    let mut third = reborn(&again, secs(5), Found::AliveSame, BOOT);
    assert!(third.acts().is_empty(), "a second signal could cut its save short");
    third.pass(secs(15));
    assert_eq!(third.acts(), ["kill"], "what is left of the 30 s");
    let mut late = reborn(&stage, secs(3600), Found::AliveSame, BOOT);
    assert_eq!(late.acts(), ["kill"], "the deadline is over");
}

#[test]
fn an_exit_of_an_open_stop_that_nobody_saw_is_a_stop() {
    let mut stage = Stage::running(&ladder());
    stage.order(Wish::Stop);
    let mut again = reborn(&stage, secs(60), gone(Ending::Signal(11), stage.now.wall), BOOT);
    assert_eq!(again.phase(), Phase::Stopped);
    assert_eq!(again.verdicts()[0].cause, Cause::StoppedByUs);
}

#[test]
fn a_restart_goes_on_with_the_start() {
    let mut stage = Stage::running(&ladder());
    stage.order(Wish::Restart);
    let mut again = reborn(&stage, secs(60), gone(Ending::Code(0), stage.now.wall), BOOT);
    again.start_up();
    assert_eq!(again.phase(), Phase::Running);
    assert!(
        again
            .out
            .iter()
            .any(|output| { matches!(output, Output::Done { outcome: Outcome::Started, .. }) })
    );
}

#[test]
fn an_exit_that_nobody_saw_is_judged_by_the_keepers_record_and_the_logs_tail() {
    let check = |ending, evidence: Option<Evidence>, cause, phase| {
        let stage = Stage::running(&ladder());
        let mut again = reborn(&stage, secs(60), gone(ending, stage.now.wall.plus(secs(9))), BOOT);
        assert!(again.out.contains(&Output::Gather));
        evidence.into_iter().for_each(|evidence| {
            again.give(Input::Evidence { evidence, age: secs(52), launch: None });
        });
        again.give(Input::EvidenceComplete);
        assert_eq!(again.phase(), phase, "{ending:?}");
        assert_eq!(again.verdicts()[0].cause, cause);
    };
    let typed = Evidence::StopLine { origin: Origin::InGame, line: "/stop".to_owned() };
    check(Ending::Signal(11), None, Cause::Crashed, Phase::Waiting);
    check(Ending::Code(143), None, Cause::StoppedFromOutside, Phase::Stopped);
    check(Ending::Code(1), Some(typed), Cause::StoppedInGame, Phase::Stopped);
}

#[test]
fn a_machine_that_was_restarted_is_no_crash_and_what_ran_starts_again() {
    let stage = Stage::running(&ladder());
    let mut again = reborn(&stage, secs(60), gone(Ending::Signal(15), stage.now.wall), "boot-2");
    assert_eq!(again.phase(), Phase::Starting);
    assert_eq!(again.verdicts()[0].cause, Cause::MachineRestarted);
    let mut down = Stage::running(&ladder());
    down.order(Wish::Stop);
    down.exit(Ending::Code(0));
    let none = Found::Gone { exit: None, tree: Tree::Gone };
    assert_eq!(reborn(&down, secs(60), none, "boot-2").phase(), Phase::Stopped);
}

#[test]
fn a_machine_that_goes_down_takes_its_games_along_and_brings_them_back() {
    let mut stage = Stage::running(&ladder());
    stage.exit(Ending::Signal(15));
    stage.pass(ms(30));
    assert_eq!(stage.life.record().desired.goal, Goal::Stopped, "somebody stopped it, it seems");
    stage.pass(secs(1));
    stage.evidence(Evidence::MachineStopping);
    assert_eq!(stage.phase(), Phase::Stopped);
    let none = Found::Gone { exit: None, tree: Tree::Gone };
    assert_eq!(reborn(&stage, secs(60), none, "boot-2").phase(), Phase::Starting);
}

#[test]
fn naru_killed_between_the_record_of_a_launch_and_its_end_starts_no_second_one() {
    let mut stage = Stage::new(&ladder());
    stage.order(Wish::Start);
    stage.give(Input::Ports(Ports::Free));
    assert!(stage.launch().is_some());
    let other = Found::AliveOther { process: process(77), watched: false, earlier: None };
    let mut again = reborn(&stage, secs(1), other, BOOT);
    assert_eq!(again.phase(), Phase::Starting, "it is still booting");
    assert!(again.acts().is_empty());
    let none = Found::Gone { exit: None, tree: Tree::Gone };
    let mut never = reborn(&stage, secs(1), none, BOOT);
    never.start_up();
    assert_eq!(never.phase(), Phase::Running);
    let at = stage.now.wall;
    let mut died = reborn(&stage, secs(1), gone(Ending::Code(1), at), BOOT);
    assert_eq!(died.phase(), Phase::Waiting);
    assert_eq!(died.verdicts()[0].cause, Cause::StartFailed);
}

#[test]
fn a_pause_and_a_state_of_having_given_up_survive() {
    let mut stage = Stage::running(&ladder());
    stage.exit(Ending::Signal(11));
    stage.give(Input::EvidenceComplete);
    let none = || Found::Gone { exit: None, tree: Tree::Gone };
    let waiting = reborn(&stage, ms(100), none(), BOOT);
    assert_eq!(waiting.phase(), Phase::Waiting);
    assert_eq!(waiting.life.next_wake(), Some(waiting.now.mono + ms(400)));
    let mut policy = ladder();
    policy.restart.tries = 0;
    let mut failed = Stage::running(&policy);
    failed.exit(Ending::Signal(11));
    failed.give(Input::EvidenceComplete);
    assert_eq!(reborn(&failed, secs(9), none(), BOOT).phase(), Phase::GaveUp);
    assert_eq!(reborn(&failed, secs(9), none(), "boot-2").phase(), Phase::Starting);
}

#[test]
fn a_keeper_that_is_lost_is_looked_for_and_the_game_goes_on_without_it() {
    let mut stage = Stage::running(&ladder());
    let id = stage.process();
    stage.give(Input::KeeperLost);
    assert!(stage.out.contains(&Output::Locate));
    assert_eq!(stage.phase(), Phase::Lost);
    stage.pass(secs(15));
    assert!(stage.notices().contains(&NoticeKind::Lost));
    stage.out.clear();
    stage.give(Input::Found(Found::KeeperGone { alive: Some(id) }));
    assert_eq!(stage.phase(), Phase::Running);
    assert_eq!(stage.notices(), [NoticeKind::KeeperLost]);
    assert!(stage.life.status(stage.now).watched);
    stage.exit(Ending::Unknown);
    stage.pass(ms(30));
    assert_eq!(stage.phase(), Phase::Waiting);
}

#[test]
fn a_stop_that_is_wanted_while_it_is_lost_happens_when_it_is_found() {
    let mut stage = Stage::running(&ladder());
    stage.give(Input::KeeperLost);
    stage.order(Wish::Stop);
    stage.acts();
    stage.give(Input::Found(Found::AliveSame));
    assert_eq!(stage.acts(), ["console"]);
}

#[test]
fn a_server_that_nobody_started_here_is_watched_and_stopped_but_not_restarted() {
    let mut policy = ladder();
    policy.launchable = false;
    let mut stage = Stage::new(&policy);
    assert_eq!(stage.order(Wish::Start), Answer::Refused(Refusal::NoCommand));
    let found =
        || Input::Found(Found::AliveOther { process: process(50), watched: true, earlier: None });
    stage.give(found());
    assert_eq!(stage.phase(), Phase::Running);
    stage.exit(Ending::Signal(11));
    stage.pass(ms(30));
    assert_eq!(stage.phase(), Phase::Stopped);
    assert_eq!(stage.verdicts()[0].cause, Cause::Crashed);
    stage.give(found());
    assert!(matches!(stage.order(Wish::Stop), Answer::Accepted(_)));
    assert_eq!(stage.acts(), ["console"]);
}

#[test]
fn a_held_ward_stays_held() {
    let mut stage = Stage::running(&ladder());
    stage.order(Wish::Backup);
    stage.exit(Ending::Code(0));
    let none = Found::Gone { exit: None, tree: Tree::Gone };
    let mut again = reborn(&stage, secs(600), none, BOOT);
    assert_eq!(again.phase(), Phase::Held);
    again.pass(secs(3000));
    assert_eq!(again.phase(), Phase::Starting);
}

#[test]
fn a_record_and_an_event_survive_the_way_through_json() {
    let mut stage = Stage::running(&ladder());
    stage.order(Wish::Restart);
    let record = stage.life.record();
    assert_eq!(&Record::parse(&record.to_json()).unwrap(), record);
    for output in &stage.out {
        if let Output::History(event) = output {
            let json = serde_json::to_string(event).unwrap();
            assert_eq!(&serde_json::from_str::<Event>(&json).unwrap(), event);
        }
    }
    let newer =
        String::from_utf8(record.to_json()).unwrap().replace("\"version\":1", "\"version\":9");
    assert!(matches!(Record::parse(newer.as_bytes()), Err(RecordError::Version(9))));
}

proptest! {
    #[test]
    fn a_record_from_a_broken_disk_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(Record::parse(&bytes).is_err());
    }

    #[test]
    fn a_record_with_any_numbers_is_lived_with(at in any::<i64>(), index in any::<usize>(), wall in any::<i64>()) {
        let mut stage = Stage::running(&ladder());
        stage.order(Wish::Stop);
        let mut record = stage.life.record().clone();
        let intent = record.intent.as_mut().unwrap();
        intent.deadline = Timestamp(at);
        intent.step = IntentStep::Rung { index: index / 2, action: Action::Console, at: Timestamp(at) };
        record.process.as_mut().unwrap().launched = Timestamp(at);
        record.last = None;
        let now = Moment { wall: Timestamp(wall), mono: secs(1) };
        let mut again = Stage::resume(&ladder(), record, Found::AliveSame, now);
        again.pass(secs(600));
        again.exit(Ending::Code(0));
        prop_assert_eq!(again.phase(), Phase::Stopped);
    }
}
