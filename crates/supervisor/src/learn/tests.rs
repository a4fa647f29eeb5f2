//! Whole wards: sensitivity, false alarms, bounds, and what the fuzzing corpus holds. Few seeds, so that they
//! stay quick; `examples/ward_weeks` runs hundreds.

use std::time::Duration;

use naru_domain::Timestamp;

use super::simulate::{Fault, GameKind, Ward};
use super::*;
use crate::model::Severity;

const DAY_S: f64 = 86_400.0;
const STEP_S: f64 = 10.0;
const LEARNED_S: f64 = 6.3 * DAY_S;

/// Wards with bursts (of at most 45 s), neighbours, restarts, lost samples and a memory that is as restless as it may
/// be, after six days without a fault. Built once; each test goes on with copies.
fn learned() -> &'static [Ward] {
    static WARDS: std::sync::LazyLock<Vec<Ward>> = std::sync::LazyLock::new(|| {
        let ward = |kind| {
            let mut ward = Ward::new(kind, 2, STEP_S);
            ward.game.short_bursts(45.0);
            ward.run_until(LEARNED_S);
            ward
        };
        std::thread::scope(|scope| {
            let running = GameKind::ALL.map(|kind| scope.spawn(move || ward(kind)));
            running.into_iter().map(|ward| ward.join().unwrap()).collect()
        })
    });
    &WARDS
}

/// Minutes from the fault until it is told.
fn minutes_to_find(healthy: &Ward, fault: Fault, most_minutes: f64) -> f64 {
    let mut ward = healthy.clone();
    // Off the full minute, which is the hardest for what must last for a minute.
    ward.run_until(LEARNED_S + 5.0);
    let at = ward.game.elapsed_s();
    ward.game.inject(at, fault);
    let before = ward.opened.len();
    ward.run_until(at + 60.0 * most_minutes);
    let told = ward.opened[before..].iter().find(|(_, kind, _)| fault.is_told_by(*kind));
    told.map_or(f64::INFINITY, |(when, ..)| (when - at) / 60.0)
}

fn found_within(fault: Fault, minutes: f64) -> Vec<f64> {
    learned().iter().map(|ward| minutes_to_find(ward, fault, minutes)).collect()
}

#[test]
fn half_as_much_processor_again_is_told_within_two_minutes_where_bursts_are_short() {
    let found = found_within(Fault::Cpu(1.5), 10.0);
    assert!(found.iter().all(|minutes| *minutes <= 2.01), "{found:?}");
}

#[test]
fn ticks_that_take_twice_as_long_are_told_within_two_minutes() {
    let found = found_within(Fault::Tick(2.0), 10.0);
    assert!(found.iter().all(|minutes| *minutes <= 2.01), "{found:?}");
}

#[test]
fn a_slow_down_that_players_do_not_explain_is_told() {
    let found = found_within(Fault::SlowDown, 15.0);
    assert!(found.iter().all(|minutes| *minutes <= 12.01), "{found:?}");
}

#[test]
fn a_leak_of_two_percent_an_hour_is_told_within_half_an_hour_where_memory_is_quiet_enough() {
    let mut quiet = 0;
    for ward in learned() {
        let bar = ward.learner.leak_bar().expect("six days are known");
        let minutes = minutes_to_find(ward, Fault::Leak(0.02), 120.0);
        let most = if bar < 0.004_5 { 30.01 } else { 90.01 };
        quiet += usize::from(bar < 0.004_5);
        assert!(minutes <= most, "{minutes} with a bar of {bar}");
    }
    assert!(quiet >= 1);
}

#[test]
fn a_leak_of_five_percent_an_hour_is_told_within_half_an_hour() {
    let found = found_within(Fault::Leak(0.05), 60.0);
    assert!(found.iter().all(|minutes| *minutes <= 30.01), "{found:?}");
}

#[test]
fn wards_have_at_most_one_false_alarm_a_week() {
    let alarms: Vec<_> = learned().iter().flat_map(|ward| &ward.opened).collect();
    let weeks = learned().len() as f64 * LEARNED_S / (7.0 * DAY_S);
    assert!(alarms.len() as f64 <= weeks, "{alarms:?}");
}

#[test]
fn a_wards_knowledge_is_bounded_and_can_be_viewed() {
    let ward = &learned()[1];
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
    let mut ward = learned()[2].clone();
    let at = LEARNED_S;
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
    let mut ward = learned()[3].clone();
    let at = LEARNED_S;
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
