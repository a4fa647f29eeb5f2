//! Restarts: pauses, budget, ports, boots, holds, and what `explain` says about them.

use super::*;

fn crash(stage: &mut Stage) {
    stage.exit(Ending::Signal(11));
    stage.give(Input::EvidenceComplete);
}

fn gave_up(policy: &LifePolicy) -> Stage {
    let mut stage = Stage::running(policy);
    for _ in 0..3 {
        crash(&mut stage);
        assert_eq!(stage.phase(), Phase::Waiting);
        stage.pass(secs(60));
        stage.start_up();
    }
    crash(&mut stage);
    stage
}

#[test]
fn after_three_restarts_in_ten_minutes_a_person_has_to_look() {
    let mut stage = gave_up(&LifePolicy::default());
    assert_eq!(stage.phase(), Phase::GaveUp);
    assert!(stage.notices().contains(&NoticeKind::GaveUp));
    assert_eq!(stage.life.next_wake(), None);
    stage.order(Wish::Start);
    stage.start_up();
    crash(&mut stage);
    assert_eq!(stage.phase(), Phase::Waiting, "a start by hand refills");
}

#[test]
fn endless_restarts_only_slow_down() {
    let mut policy = LifePolicy::default();
    policy.restart.endless = true;
    let mut stage = Stage::running(&policy);
    let mut pauses = Vec::new();
    for _ in 0..9 {
        crash(&mut stage);
        pauses.push((stage.life.next_wake().unwrap() - stage.now.mono).as_millis());
        stage.pass(secs(60));
        stage.start_up();
    }
    // The dice are at one half of the longest pause.
    assert_eq!(pauses, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]);
    stage.pass(secs(600));
    crash(&mut stage);
    assert_eq!(
        (stage.life.next_wake().unwrap() - stage.now.mono).as_millis(),
        500,
        "it was stable"
    );
}

#[test]
fn restarts_spread_over_time_never_use_up_the_budget() {
    let mut stage = Stage::running(&LifePolicy::default());
    for _ in 0..20 {
        stage.pass(secs(300));
        crash(&mut stage);
        assert_eq!(stage.phase(), Phase::Waiting);
        stage.pass(secs(60));
        stage.start_up();
    }
}

#[test]
fn the_settings_say_which_ends_are_followed_by_a_start() {
    let check = |on, ending, phase| {
        let mut policy = LifePolicy::default();
        policy.restart.on = on;
        let mut stage = Stage::running(&policy);
        stage.exit(ending);
        stage.give(Input::EvidenceComplete);
        assert_eq!(stage.phase(), phase, "{on:?} {ending:?}");
        let goal = if phase == Phase::Stopped { Goal::Stopped } else { Goal::Running };
        assert_eq!(stage.life.record().desired.goal, goal, "the next Naru starts nothing else");
    };
    check(RestartOn::Crash, Ending::Code(0), Phase::Stopped);
    check(RestartOn::Crash, Ending::Code(1), Phase::Waiting);
    check(RestartOn::Always, Ending::Code(0), Phase::Waiting);
    check(RestartOn::Always, Ending::Signal(15), Phase::Stopped);
    check(RestartOn::Never, Ending::Signal(11), Phase::Stopped);
}

#[test]
fn a_window_of_the_schedule_holds_restarts_but_no_start_by_hand() {
    let mut stage = Stage::running(&LifePolicy::default());
    stage.give(Input::RestartsHeld(Some("maintenance".to_owned())));
    crash(&mut stage);
    stage.pass(secs(600));
    assert_eq!(stage.phase(), Phase::Waiting);
    stage.give(Input::RestartsHeld(None));
    assert_eq!(stage.phase(), Phase::Starting);
    stage.start_up();
    stage.give(Input::RestartsHeld(Some("maintenance".to_owned())));
    crash(&mut stage);
    stage.order(Wish::Start);
    assert_eq!(stage.phase(), Phase::Starting);
}

#[test]
fn taken_ports_are_waited_for_and_are_no_crash_loop() {
    let mut stage = Stage::new(&LifePolicy::default());
    stage.order(Wish::Start);
    for _ in 0..20 {
        stage.give(Input::Ports(Ports::Taken("25565/tcp".to_owned())));
        stage.pass(ms(500));
    }
    assert_eq!(stage.launch(), None);
    stage.give(Input::Ports(Ports::Free));
    assert!(stage.launch().is_some());
    assert!(stage.verdicts().is_empty());
}

#[test]
fn ports_that_stay_taken_make_the_start_fail_by_name() {
    let mut stage = Stage::new(&LifePolicy::default());
    stage.order(Wish::Start);
    for _ in 0..61 {
        stage.give(Input::Ports(Ports::Taken("25565/tcp".to_owned())));
        stage.pass(ms(500));
    }
    assert!(stage.notices().contains(&NoticeKind::PortsTaken));
    assert_eq!(stage.verdicts()[0].cause, Cause::StartFailed);
}

#[test]
fn a_boot_that_takes_too_long_is_killed_and_counts_as_a_failure() {
    let mut stage = Stage::new(&LifePolicy::default());
    stage.order(Wish::Start);
    stage.launch_only();
    stage.pass(secs(300));
    assert!(stage.notices().contains(&NoticeKind::BootTimeout));
    assert_eq!(stage.acts(), ["launch", "kill"]);
    stage.exit(Ending::Signal(9));
    assert_eq!(stage.phase(), Phase::Waiting);
    assert_eq!(stage.verdicts()[0].cause, Cause::BootTimeout);
}

#[test]
fn a_game_without_a_sign_is_ready_once_it_lived_long_enough() {
    let mut policy = LifePolicy::default();
    policy.ready.alive_for = Some(secs(10));
    let mut stage = Stage::new(&policy);
    stage.order(Wish::Start);
    stage.launch_only();
    stage.pass(ms(9_900));
    assert_eq!(stage.phase(), Phase::Starting);
    stage.pass(ms(200));
    assert_eq!(stage.phase(), Phase::Running);
}

#[test]
fn a_clock_that_is_set_neither_empties_the_budget_nor_ends_a_pause() {
    let mut stage = gave_up(&LifePolicy::default());
    for hours in [-5_i64, 9] {
        stage.now.wall.0 += hours * 3_600_000;
        stage.give(Input::Wake);
        let left = stage.life.record().budget.left(stage.now.wall, &stage.life.policy.restart);
        assert_eq!(left, Some(0));
    }
}

#[test]
fn a_start_that_is_wanted_while_the_last_end_is_looked_at_follows_at_once() {
    let mut stage = Stage::running(&LifePolicy::default());
    stage.exit(Ending::Signal(15));
    let answer = stage.order(Wish::Start);
    assert!(matches!(answer, Answer::Accepted(_)));
    stage.pass(ms(30));
    assert_eq!(stage.phase(), Phase::Starting);
    assert_eq!(stage.verdicts()[0].cause, Cause::StoppedFromOutside);
}

#[test]
fn explain_says_what_really_happens() {
    let mut policy = LifePolicy::default();
    policy.restart.tries = 1;
    let mut stage = Stage::running(&policy);
    for used in [false, true] {
        let explanation = stage.life.explain(stage.now);
        assert_eq!(explanation.deaths.len(), Death::ALL.len());
        let find =
            |death| explanation.deaths.iter().find(|expected| expected.death == death).unwrap();
        assert!(!find(Death::CodeZero).restart);
        assert!(!find(Death::Sigterm).restart);
        assert_eq!(find(Death::Segfault).verdict.cause, Cause::Crashed);
        assert_eq!(find(Death::OutOfMemory).verdict.cause, Cause::OutOfMemory);
        assert_eq!(find(Death::Hang).verdict.cause, Cause::Hung);
        assert_eq!(find(Death::Sigkill).restart, !used);
        let crashed = find(Death::Segfault).clone();
        assert_eq!(crashed.restart, !used, "{crashed:?}");
        crash(&mut stage);
        assert_eq!(stage.phase(), if used { Phase::GaveUp } else { Phase::Waiting });
        if !used {
            assert_eq!(crashed.pause_max, Some(secs(1)));
            stage.pass(secs(1));
            stage.start_up();
        }
    }
    assert!(stage.life.explain(stage.now).deaths.is_empty());
}
