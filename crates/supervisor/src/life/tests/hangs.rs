//! Hangs: found when silence proves something, and only then.

use super::*;

/// Probes every 10 s with 2 s of patience.
fn silence(stage: &mut Stage, probes: u32) {
    for _ in 0..probes {
        stage.pass(secs(10));
        stage.give(Input::ProbeMissed { starved: false });
    }
}

fn answering(policy: &LifePolicy) -> Stage {
    let mut stage = Stage::running(policy);
    stage.give(Input::ProbeAnswered);
    stage.give(Input::Cpu(CpuState::Still));
    stage.out.clear();
    stage
}

#[test]
fn a_server_without_answers_and_without_cpu_time_is_hung_after_thirty_seconds() {
    let mut stage = answering(&LifePolicy::default());
    silence(&mut stage, 2);
    stage.pass(secs(2));
    assert_eq!(stage.phase(), Phase::Running);
    stage.give(Input::ProbeMissed { starved: false });
    stage.pass(secs(8));
    assert_eq!(stage.phase(), Phase::Hung, "at 30 s, by a timer of its own");
    assert_eq!(stage.acts(), ["capture"]);
    stage.give(Input::Captured);
    assert_eq!(stage.acts(), ["kill"]);
    stage.exit(Ending::Signal(9));
    assert_eq!(stage.verdicts()[0].cause, Cause::Hung);
    assert_eq!(stage.phase(), Phase::Waiting);
}

#[test]
fn a_busy_server_is_hung_only_if_its_profile_says_so() {
    let mut policy = LifePolicy::default();
    let mut busy = answering(&policy);
    busy.give(Input::Cpu(CpuState::Moving));
    silence(&mut busy, 60);
    assert_eq!(busy.phase(), Phase::Running);
    policy.hang.busy_silence = Some(secs(180));
    let mut stuck = answering(&policy);
    stuck.give(Input::Cpu(CpuState::Moving));
    silence(&mut stuck, 18);
    assert_eq!(stuck.phase(), Phase::Hung);
}

#[test]
fn a_server_stopped_by_a_signal_is_hung_with_that_reason_and_recovers() {
    let mut policy = LifePolicy::default();
    policy.hang.action = HangAction::Tell;
    let mut stage = answering(&policy);
    stage.give(Input::Cpu(CpuState::Paused));
    silence(&mut stage, 3);
    let paused = stage.events().into_iter().any(|event| {
        matches!(event, Happening::Hung { reasons } if reasons.iter().any(|reason| reason.text.contains("state T")))
    });
    assert!(paused);
    stage.pass(secs(600));
    assert_eq!(stage.acts(), ["capture"]);
    stage.give(Input::ProbeAnswered);
    assert_eq!(stage.phase(), Phase::Running);
    assert_eq!(stage.notices(), [NoticeKind::Recovered]);
}

#[test]
fn silence_proves_nothing_before_the_first_answer() {
    let mut stage = Stage::running(&LifePolicy::default());
    stage.give(Input::Cpu(CpuState::Still));
    silence(&mut stage, 30);
    assert_eq!(stage.phase(), Phase::Running);
}

#[test]
fn silence_proves_nothing_while_we_were_late_ourselves() {
    let mut stage = answering(&LifePolicy::default());
    for _ in 0..30 {
        silence(&mut stage, 2);
        stage.pass(secs(10));
        stage.give(Input::ProbeMissed { starved: true });
    }
    assert_eq!(stage.phase(), Phase::Running);
}

#[test]
fn silence_proves_nothing_while_the_machine_slept() {
    let mut stage = answering(&LifePolicy::default());
    silence(&mut stage, 2);
    // The wall's clock went on, the other one did not.
    stage.now.wall = stage.now.wall.plus(secs(3600));
    stage.give(Input::ProbeMissed { starved: false });
    stage.pass(secs(20));
    assert_eq!(stage.phase(), Phase::Running);
    // Or both did, and nobody woke us.
    stage.give(Input::ProbeAnswered);
    for _ in 0..3 {
        stage.pass(secs(5));
        stage.give(Input::ProbeMissed { starved: false });
    }
    assert!(stage.life.next_wake().is_some(), "it would be due soon");
    stage.now = Moment { wall: stage.now.wall.plus(secs(3600)), mono: stage.now.mono + secs(3600) };
    stage.give(Input::Wake);
    assert_eq!(stage.phase(), Phase::Running);
}

#[test]
fn a_save_excuses_silence_but_not_for_ever() {
    let mut policy = LifePolicy::default();
    policy.hang.action = HangAction::Tell;
    let mut stage = answering(&policy);
    stage.give(Input::SaveBegan);
    silence(&mut stage, 17);
    assert_eq!(stage.phase(), Phase::Running);
    stage.give(Input::Saved);
    silence(&mut stage, 2);
    assert_eq!(stage.phase(), Phase::Running);
    stage.give(Input::ProbeAnswered);
    stage.give(Input::SaveBegan);
    silence(&mut stage, 20);
    assert_eq!(stage.phase(), Phase::Running, "180 s are excused, 20 s are not");
    silence(&mut stage, 2);
    assert_eq!(stage.phase(), Phase::Hung);
}

#[test]
fn misses_do_not_count_while_it_starts_or_stops() {
    let mut starting = Stage::new(&LifePolicy::default());
    starting.order(Wish::Start);
    starting.launch_only();
    starting.give(Input::Cpu(CpuState::Still));
    silence(&mut starting, 20);
    assert_eq!(starting.phase(), Phase::Starting);
    let mut policy = LifePolicy::default();
    policy.ladder.rungs[0].wait = secs(600);
    let mut stopping = answering(&policy);
    stopping.order(Wish::Stop);
    stopping.acts();
    silence(&mut stopping, 20);
    assert_eq!(stopping.phase(), Phase::Stopping);
    assert!(stopping.acts().is_empty());
}

#[test]
fn a_world_that_stands_still_is_hung_although_it_answers() {
    let mut stage = answering(&LifePolicy::default());
    for span in [10, 20, 30] {
        stage.pass(secs(10));
        stage.give(Input::ProbeAnswered);
        stage.give(Input::TickFrozen(secs(span)));
    }
    assert_eq!(stage.phase(), Phase::Hung);
    stage.give(Input::ProbeAnswered);
    assert_eq!(stage.phase(), Phase::Hung, "answers do not prove otherwise");
    stage.give(Input::TickMoves);
    assert_eq!(stage.phase(), Phase::Running);
}

#[test]
fn a_stop_of_a_hung_server_by_a_person_stays_a_stop() {
    let mut stage = answering(&LifePolicy::default());
    silence(&mut stage, 3);
    stage.give(Input::Captured);
    stage.order(Wish::Stop);
    stage.exit(Ending::Signal(9));
    assert_eq!(stage.phase(), Phase::Stopped);
    assert_eq!(stage.verdicts()[0].cause, Cause::Hung);
}
