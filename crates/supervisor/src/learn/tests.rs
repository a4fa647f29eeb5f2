//! Whole wards: sensitivity, false alarms, bounds, and what the fuzzing corpus holds. Few seeds, so that they
//! stay quick; `examples/ward_weeks` runs hundreds.

use std::time::Duration;

use naru_domain::Timestamp;

use super::simulate::{Fault, GameKind, Ward};
use super::*;
use crate::model::Severity;

const DAY_S: f64 = 86_400.0;
/// Steps of half a minute: tests are not optimized.
const STEP_S: f64 = 30.0;

/// Minutes from the fault until it is told, in a ward without bursts and neighbours of its own.
fn minutes_to_find(kind: GameKind, seed: u64, fault: Fault) -> f64 {
    let mut ward = Ward::calm(kind, seed, STEP_S);
    let at = 3.45 * DAY_S;
    ward.game.inject(at, fault);
    ward.run_until(at);
    let before = ward.opened.len();
    ward.run_until(at + 7_200.0);
    let told = ward.opened[before..].iter().find(|(_, kind, _)| fault.is_told_by(*kind));
    told.map_or(f64::INFINITY, |(when, ..)| (when - at) / 60.0)
}

#[test]
fn half_as_much_processor_again_is_told_within_two_minutes() {
    let minutes = minutes_to_find(GameKind::Dinosaurs, 2, Fault::Cpu(1.5));
    assert!(minutes <= 2.01, "{minutes}");
}

#[test]
fn ticks_that_take_twice_as_long_are_told_within_two_minutes() {
    let minutes = minutes_to_find(GameKind::Survival, 1, Fault::Tick(2.0));
    assert!(minutes <= 2.01, "{minutes}");
}

#[test]
fn a_slow_down_that_players_do_not_explain_is_told() {
    let minutes = minutes_to_find(GameKind::Survival, 2, Fault::SlowDown);
    assert!(minutes <= 5.01, "{minutes}");
}

#[test]
fn wards_have_at_most_one_false_alarm_each_in_their_first_three_days() {
    let (mut alarms, mut wards) = (0, 0);
    for kind in GameKind::ALL {
        let mut ward = Ward::new(kind, 1, STEP_S);
        ward.run_until(3.0 * DAY_S);
        alarms += ward.opened.len();
        wards += 1;
    }
    assert!(alarms <= wards, "{alarms}");
}

#[test]
fn a_wards_knowledge_is_bounded_and_can_be_viewed() {
    let mut ward = Ward::new(GameKind::Blocks, 4, STEP_S);
    ward.run_until(1.6 * DAY_S);
    let bytes = ward.learner.memory_bytes();
    assert!(bytes <= 65_536, "{bytes}");
    let view = ward.learner.view(ward.now());
    assert_eq!(view.warmup.missing, "");
    assert!(
        matches!(view.cpu_per_player, CostPerPlayer::Known { per_player, .. } if per_player > 0.0)
    );
    assert!(view.baselines.iter().all(|baseline| baseline.text.starts_with("usually ")));
    let json = serde_json::to_string(&view).unwrap();
    assert!(json.contains("\"cpu_per_player\""), "{json}");
}

#[test]
fn in_the_first_day_it_says_what_is_missing_and_only_fixed_limits_raise_alerts() {
    let mut learner = Learner::new(LearnSettings::default());
    let minute = |used: u64, rate: f32| MinuteAggregate {
        rss_bytes: Some(used),
        tick_rate: Some(rate),
        players: Some(2.0),
        memory_limit_bytes: Some(1_000_000_000),
        ..MinuteAggregate::default()
    };
    let at = |minute: i64| Timestamp(simulate::BEGIN_MS + minute * 60_000);
    for passed in 0..60 {
        assert_eq!(learner.minute(at(passed), &minute(400_000_000, 20.0)), []);
    }
    assert!(learner.view(at(60)).warmup.missing.contains("more hours"));
    let changes = learner.minute(at(60), &minute(960_000_000, 20.0));
    let [AlertChange::Opened(alert)] = &changes[..] else { panic!("{changes:?}") };
    assert_eq!((alert.kind, alert.severity), (AlertKind::MemoryFull, Severity::Critical));
    let changes: Vec<_> =
        (61..64).flat_map(|passed| learner.minute(at(passed), &minute(400_000_000, 0.0))).collect();
    assert!(
        matches!(&changes[..], [AlertChange::Opened(alert)] if alert.kind == AlertKind::TickStalled)
    );
}

#[test]
fn a_restart_closes_what_is_open_and_nothing_is_judged_while_it_settles() {
    let mut ward = Ward::new(GameKind::Dinosaurs, 2, STEP_S);
    let at = 2.45 * DAY_S;
    ward.game.inject(at, Fault::Cpu(3.0));
    ward.run_until(at + 300.0);
    assert!(
        ward.learner.view(ward.now()).open.iter().any(|alert| alert.kind == AlertKind::CpuHigh)
    );
    let now = ward.now();
    let changes = ward.learner.mark(now, Mark::Restarted);
    let closed = |change: &AlertChange| matches!(change, AlertChange::Closed { text, .. } if text.contains("anew"));
    assert!(!changes.is_empty() && changes.iter().all(closed), "{changes:?}");
    let before = ward.opened.len();
    ward.run_until(at + 300.0 + 540.0);
    assert_eq!(ward.opened.len(), before);
}

#[test]
fn saves_of_a_recording_are_learned() {
    let text = include_str!("../../tests/recordings/saves.csv");
    let mut replay = Replay::new(LearnSettings::default());
    text.lines().for_each(|line| assert_eq!(replay.line(line), Ok(Vec::new())));
    let now = Timestamp(simulate::BEGIN_MS + 3_600_000);
    let view = replay.learner().view(now).saves.expect("a rhythm");
    assert_eq!(view.source, SaveSource::Learned);
    assert!((view.period_s.unwrap() - 30.0).abs() < 1.0, "{view:?}");
}

#[test]
fn a_level_that_stays_for_a_day_is_usual_from_then_on() {
    let mut ward = Ward::new(GameKind::Arena, 3, STEP_S);
    let at = 2.2 * DAY_S;
    ward.game.inject(at, Fault::Cpu(2.5));
    ward.run_until(at + 3_600.0);
    let open = |ward: &Ward| {
        ward.learner.view(ward.now()).open.iter().any(|alert| alert.kind == AlertKind::CpuHigh)
    };
    assert!(open(&ward));
    let mut learner = ward.learner.clone();
    let mut now = ward.now();
    let busy = MinuteAggregate { cpu_cores: Some(50.0), players: Some(3.0), ..Default::default() };
    let mut changes = Vec::new();
    for _ in 0..1_500 {
        now = now.plus(Duration::from_secs(60));
        changes.extend(learner.minute(now, &busy));
    }
    assert!(changes.iter().any(
        |change| matches!(change, AlertChange::Closed { text, .. } if text.contains("counts as usual"))
    ));
    assert!(learner.view(now).open.is_empty());
}

fn corpus(target: &str) -> impl Iterator<Item = Vec<u8>> {
    let folder =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let files = std::fs::read_dir(folder).expect("the corpus is committed");
    files.map(|entry| std::fs::read(entry.expect("an entry").path()).expect("a file"))
}

#[test]
fn the_corpus_of_snapshots_and_recordings_holds() {
    corpus("ward_learned").for_each(|bytes| checks::check_restore(&bytes));
    corpus("ward_recording").for_each(|bytes| checks::check_replay(&bytes));
}
