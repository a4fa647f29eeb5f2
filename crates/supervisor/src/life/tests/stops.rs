//! Stops: the ladder, its intent on disk, joins, countdown, save.

use super::*;

fn ladder() -> LifePolicy {
    let mut policy = LifePolicy::default();
    policy.ladder.rungs = vec![
        Rung { action: Action::Api, wait: secs(10) },
        Rung { action: Action::Console, wait: secs(20) },
        Rung { action: Action::Signal(15), wait: secs(30) },
        Rung { action: Action::Kill, wait: secs(5) },
    ];
    policy
}

fn accepted(answer: Answer) -> OperationId {
    match answer {
        Answer::Accepted(operation) => operation,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_rungs_come_in_order_until_it_ends() {
    let mut stage = Stage::running(&ladder());
    stage.order(Wish::Stop);
    assert_eq!(stage.acts(), ["api"]);
    stage.pass(secs(9));
    assert!(stage.acts().is_empty());
    stage.pass(secs(1));
    assert_eq!(stage.acts(), ["console"]);
    stage.pass(secs(20));
    assert_eq!(stage.acts(), ["signal 15"]);
    stage.pass(secs(30));
    assert_eq!(stage.acts(), ["kill"]);
    stage.exit(Ending::Signal(9));
    assert_eq!(stage.phase(), Phase::Stopped);
    assert_eq!(stage.verdicts()[0].cause, Cause::StoppedByUs);
}

#[test]
fn a_rung_that_fails_is_left_for_the_next_at_once() {
    let mut stage = Stage::running(&ladder());
    let operation = accepted(stage.order(Wish::Stop));
    stage.acts();
    stage.give(Input::RungDone { operation, index: 0, error: Some("refused".to_owned()) });
    assert_eq!(stage.acts(), ["console"]);
    stage.give(Input::RungDone { operation, index: 0, error: Some("too late".to_owned()) });
    assert!(stage.acts().is_empty());
}

#[test]
fn a_ladder_without_a_kill_ends_with_one() {
    let mut policy = ladder();
    policy.ladder.rungs.truncate(1);
    let mut stage = Stage::running(&policy);
    stage.order(Wish::Stop);
    stage.acts();
    stage.pass(secs(12));
    assert_eq!(stage.acts(), ["kill"]);
    stage.pass(secs(60));
    assert!(stage.notices().contains(&NoticeKind::Unkillable));
}

#[test]
fn a_signal_that_is_not_caught_is_left_out_while_there_is_a_gentler_way() {
    let mut policy = ladder();
    policy.ladder.rungs.swap(0, 2);
    let mut stage = Stage::running(&policy);
    stage.give(Input::CatchesSigterm(false));
    stage.order(Wish::Stop);
    let left_out = stage.events().into_iter().any(
        |event| matches!(event, Happening::Rung { index: 0, result, .. } if result.contains("left out")),
    );
    assert!(left_out);
    assert_eq!(stage.acts(), ["console"]);
    let mut last = Stage::running(&LifePolicy::default());
    last.give(Input::CatchesSigterm(false));
    last.order(Wish::Stop);
    assert_eq!(last.acts(), ["signal 15"], "there is nothing gentler");
}

#[test]
fn no_act_comes_before_its_intent_is_on_disk() {
    let mut stage = Stage::running(&ladder());
    stage.disk = false;
    stage.order(Wish::Stop);
    stage.pass(ms(1900));
    assert!(stage.acts().is_empty());
    stage.give(Input::Persisted(1));
    assert!(stage.acts().is_empty(), "an older write proves nothing");
    stage.give(Input::Persisted(u64::MAX));
    assert_eq!(stage.acts(), ["api"]);
}

#[test]
fn a_disk_that_fails_keeps_nobody_from_stopping_and_somebody_is_told() {
    let mut stage = Stage::running(&ladder());
    stage.disk = false;
    stage.order(Wish::Stop);
    let seq = stage.out.iter().find_map(|output| match output {
        Output::Persist { seq, record } if record.intent.is_some() => Some(*seq),
        _ => None,
    });
    stage.give(Input::PersistFailed(seq.unwrap()));
    stage.pass(secs(2));
    assert_eq!(stage.notices(), [NoticeKind::NotRecorded]);
    let writes = stage.out.iter().filter(|output| matches!(output, Output::Persist { .. })).count();
    assert!(writes >= 3, "it is tried again meanwhile");
    assert_eq!(stage.acts(), ["api"]);
}

#[test]
fn a_second_stop_joins_the_first_and_a_kill_hastens_it() {
    let mut stage = Stage::running(&ladder());
    let operation = accepted(stage.order(Wish::Stop));
    assert_eq!(stage.order(Wish::Stop), Answer::Joined(operation));
    assert_eq!(stage.acts(), ["api"]);
    assert_eq!(stage.order(Wish::Kill), Answer::Joined(operation));
    assert_eq!(stage.acts(), ["kill"]);
    assert_eq!(stage.order(Wish::Kill), Answer::Joined(operation));
    assert!(stage.acts().is_empty(), "one ladder at a time");
    stage.exit(Ending::Signal(9));
    assert!(stage.out.contains(&Output::Done { operation, outcome: Outcome::Stopped }));
}

#[test]
fn a_restart_is_a_stop_and_a_start_with_one_operation() {
    let mut stage = Stage::running(&ladder());
    let operation = accepted(stage.order(Wish::Restart));
    stage.exit_with(Ending::Code(1), Tree::Alive { inner: None });
    assert_eq!(stage.phase(), Phase::Ending);
    assert_eq!(stage.launch(), None, "not before all of it is gone");
    stage.give(Input::TreeGone);
    stage.start_up();
    assert!(stage.out.contains(&Output::Done { operation, outcome: Outcome::Started }));
}

#[test]
fn the_last_word_decides_what_follows_a_stop() {
    let check = |words: &[Wish], phase| {
        let mut stage = Stage::running(&ladder());
        words.iter().for_each(|wish| {
            stage.order(*wish);
        });
        stage.exit(Ending::Code(0));
        assert_eq!(stage.phase(), phase, "{words:?}");
    };
    check(&[Wish::Stop, Wish::Start], Phase::Starting);
    check(&[Wish::Stop, Wish::Restart], Phase::Starting);
    check(&[Wish::Restart, Wish::Stop], Phase::Stopped);
    check(&[Wish::Restart, Wish::Kill], Phase::Stopped);
    check(&[Wish::Kill, Wish::Start], Phase::Starting);
    check(&[Wish::Backup, Wish::Stop], Phase::Held);
}

#[test]
fn players_are_told_at_the_given_times_and_a_cancel_ends_it() {
    let mut policy = ladder();
    policy.announce = AnnouncePolicy {
        countdown: secs(60),
        at: vec![secs(30), secs(10), secs(300)],
        skip_when_empty: true,
    };
    let mut stage = Stage::running(&policy);
    let operation = accepted(stage.order(Wish::Stop));
    stage.pass(secs(59));
    assert_eq!(stage.acts(), ["announce 60", "announce 30", "announce 10"]);
    assert_eq!(stage.order(Wish::Cancel), Answer::Joined(operation));
    assert_eq!(stage.phase(), Phase::Running);
    assert_eq!(stage.life.record().desired.goal, Goal::Running);
    assert_eq!(stage.acts(), ["announce cancelled"]);
    stage.order(Wish::Stop);
    stage.pass(secs(60));
    assert_eq!(stage.order(Wish::Cancel), Answer::Refused(Refusal::TooLate));
    let mut empty = Stage::running(&policy);
    empty.give(Input::Players(Some(0)));
    empty.order(Wish::Stop);
    assert_eq!(empty.acts(), ["api"]);
}

#[test]
fn a_second_stop_can_shorten_the_countdown_but_not_make_it_longer() {
    let mut policy = ladder();
    policy.announce.countdown = secs(600);
    let mut stage = Stage::running(&policy);
    stage.order(Wish::Stop);
    stage.order_as(Order { countdown: Some(secs(5)), ..order(Wish::Stop) });
    stage.order_as(Order { countdown: Some(secs(50)), ..order(Wish::Stop) });
    stage.acts();
    stage.pass(secs(5));
    assert!(stage.acts().contains(&"api".to_owned()));
}

#[test]
fn a_save_is_confirmed_by_fresh_evidence_or_missed_by_name() {
    let mut policy = ladder();
    policy.save.ask = true;
    let confirmed = |stage: &Stage| {
        stage.events().into_iter().find_map(|event| match event {
            Happening::Saved { confirmed, .. } => Some(confirmed),
            _ => None,
        })
    };
    let mut stage = Stage::running(&policy);
    stage.give(Input::SaveBegan);
    stage.order(Wish::Stop);
    assert_eq!(stage.out.iter().filter(|output| matches!(output, Output::Save { .. })).count(), 1);
    stage.give(Input::Saved);
    assert_eq!(confirmed(&stage), None, "that save began before it was asked for");
    stage.give(Input::SaveBegan);
    stage.give(Input::Saved);
    assert_eq!(confirmed(&stage), Some(true));
    assert_eq!(stage.acts(), ["save", "api"]);

    let mut silent = Stage::running(&policy);
    silent.order(Wish::Stop);
    silent.pass(secs(30));
    assert_eq!(confirmed(&silent), Some(false));
    assert_eq!(silent.notices(), [NoticeKind::SaveNotConfirmed]);
    assert_eq!(silent.acts(), ["save", "api"]);

    let mut refused = Stage::running(&policy);
    refused.order(Wish::Stop);
    refused.give(Input::SaveFailed("no".to_owned()));
    assert_eq!(refused.acts(), ["save", "api"]);
}

#[test]
fn a_stop_during_a_launch_waits_for_the_process_and_stops_it() {
    let mut stage = Stage::new(&ladder());
    stage.order(Wish::Start);
    stage.give(Input::Ports(Ports::Free));
    let launch = stage.launch().unwrap();
    stage.order(Wish::Stop);
    stage.acts();
    stage.give(Input::Launched { launch, process: process(5) });
    assert_eq!(stage.acts(), ["api"]);
    stage.exit(Ending::Code(0));
    assert_eq!(stage.phase(), Phase::Stopped);
}

#[test]
fn a_stop_before_the_launch_prevents_it() {
    let mut stage = Stage::new(&ladder());
    stage.order(Wish::Start);
    stage.order(Wish::Stop);
    stage.give(Input::Ports(Ports::Free));
    stage.pass(secs(60));
    assert_eq!(stage.launch(), None);
    assert_eq!(stage.phase(), Phase::Stopped);
}

#[test]
fn a_backup_holds_it_down_until_it_is_released_or_its_time_is_over() {
    let mut stage = Stage::running(&ladder());
    let operation = accepted(stage.order(Wish::Backup));
    stage.exit(Ending::Code(0));
    assert!(stage.out.contains(&Output::Done { operation, outcome: Outcome::Held }));
    assert_eq!(stage.order(Wish::Release(OperationId(99))), Answer::Refused(Refusal::NotHeld));
    assert_eq!(stage.order(Wish::Backup), Answer::Refused(Refusal::Busy));
    assert_eq!(stage.order(Wish::Release(operation)), Answer::Joined(operation));
    assert_eq!(stage.phase(), Phase::Starting);

    let mut forgotten = Stage::running(&ladder());
    forgotten.order(Wish::Backup);
    forgotten.exit(Ending::Code(0));
    forgotten.pass(secs(3600));
    assert!(forgotten.notices().contains(&NoticeKind::HoldExpired));
    assert_eq!(forgotten.phase(), Phase::Starting);
}

#[test]
fn a_signal_that_only_ended_the_launcher_is_sent_to_the_game_too() {
    let mut stage = Stage::running(&LifePolicy::default());
    stage.order(Wish::Stop);
    assert_eq!(stage.acts(), ["signal 15"]);
    stage.exit_with(Ending::Signal(15), Tree::Alive { inner: Some(process(900)) });
    assert_eq!(stage.acts(), ["signal 15"]);
    stage.exit(Ending::Code(0));
    assert_eq!(stage.phase(), Phase::Stopped);
}
