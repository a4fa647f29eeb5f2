//! Plans through whole days, by the moment.

use std::cell::Cell;
use std::time::Duration;

use naru_domain::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::model::WardName;

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

fn ward(name: &str) -> WardName {
    WardName::parse(name).expect("a name")
}

fn minutes(count: u64) -> Duration {
    Duration::from_secs(60 * count)
}

/// Every six hours, from midnight.
fn restart(name: &str) -> Plan {
    let rule = Rule::every(minutes(360), Timestamp(0)).expect("a period");
    Plan::new(name, ward("ark"), Operation::Restart, rule)
}

fn playing(players: u32) -> Facts {
    let uptime = Some(Duration::from_secs(1_000));
    Facts { players: Some(players), uptime, ..Facts::default() }
}

/// A planner that is asked exactly when it wants to be, and what it said, with minutes.
struct Day {
    planner: Planner,
    now: Timestamp,
    facts: Cell<Facts>,
    log: Vec<String>,
}

impl Day {
    fn new(plans: Vec<Plan>, facts: Facts) -> Day {
        let planner = Planner::new(plans, &[], Timestamp(0)).expect("the plans are fine");
        Day { planner, now: Timestamp(0), facts: Cell::new(facts), log: Vec::new() }
    }

    fn ask(&mut self) -> Vec<Action> {
        let facts = self.facts.get();
        let actions = self.planner.due(self.now, |_| facts);
        let minute = self.now.0 / MINUTE;
        for action in &actions {
            self.log.push(match action {
                Action::Announce { text, .. } => format!("{minute} {text}"),
                Action::Run { plan, is_forced, .. } => {
                    format!("{minute} {plan}{}", if *is_forced { " forced" } else { "" })
                }
                Action::Skipped { plan, reason, .. } => {
                    format!("{minute} {plan} skipped: {reason}")
                }
            });
        }
        actions
    }

    /// Goes on to a minute of the day. Operations end at once.
    fn until(&mut self, minute: i64) -> &mut Day {
        self.go(minute, true)
    }

    fn go(&mut self, minute: i64, finish: bool) -> &mut Day {
        let end = Timestamp(minute * MINUTE);
        for _ in 0..10_000 {
            for action in self.ask() {
                if let (Action::Run { ward, .. }, true) = (action, finish) {
                    self.planner.finished(&ward);
                }
            }
            match self.planner.next_wake(self.now).filter(|wake| *wake < end) {
                Some(wake) => {
                    assert!(wake > self.now, "it wants to be asked again at {wake:?}");
                    self.now = wake;
                }
                None => {
                    self.now = end;
                    return self;
                }
            }
        }
        panic!("it never rests");
    }

    fn facts(&mut self, facts: Facts) -> &mut Day {
        self.facts.set(facts);
        self
    }

    #[track_caller]
    fn said(&mut self, expected: &[&str]) {
        assert_eq!(std::mem::take(&mut self.log), expected);
    }
}

#[test]
fn players_are_told_before_and_it_happens_on_time() {
    let countdown = vec![minutes(15), minutes(1), minutes(5)];
    let mut day = Day::new(vec![Plan { countdown, ..restart("r") }], playing(2));
    day.until(361).said(&[
        "345 Restart in 15 minutes.",
        "355 Restart in 5 minutes.",
        "359 Restart in 1 minute.",
        "360 r",
    ]);
    // Nobody is told when nobody is there.
    day.facts(playing(0)).until(721).said(&["720 r"]);
    // Nobody knows: perhaps somebody is there.
    day.facts(Facts { players: None, ..playing(0) }).until(1_081);
    assert_eq!(day.log.len(), 4);
}

#[test]
fn until_empty_waits_and_begins_the_moment_the_last_one_leaves() {
    let plan =
        Plan { conditions: vec![Condition::Empty], countdown: vec![minutes(5)], ..restart("r") };
    let mut day = Day::new(vec![plan], playing(2));
    assert!(!day.planner.is_watching(&ward("ark")));
    day.until(400).said(&[]);
    assert!(day.planner.is_watching(&ward("ark")) && !day.planner.is_watching(&ward("x")));
    day.facts(playing(0)).until(401).said(&["400 r"]);
    assert!(!day.planner.is_watching(&ward("ark")));
}

#[test]
fn until_empty_at_most_two_hours_then_anyway_with_a_countdown_or_not_at_all() {
    let forced = |otherwise| Plan {
        conditions: vec![Condition::Empty],
        countdown: vec![minutes(10), minutes(1)],
        patience: Patience { at_most: minutes(120), otherwise },
        ..restart("r")
    };
    let mut day = Day::new(vec![forced(Otherwise::Anyway)], playing(2));
    day.until(600).said(&[
        "470 Restart in 10 minutes.",
        "479 Restart in 1 minute.",
        "480 r forced",
    ]);
    let mut day = Day::new(vec![forced(Otherwise::Skip)], playing(2));
    day.until(600).said(&["480 r skipped: its conditions did not hold in time"]);
}

#[test]
fn what_begins_on_a_condition_counts_down_from_then_until_nobody_is_left() {
    let plan = Plan {
        conditions: vec![Condition::MemoryAbove(100), Condition::UptimeAbove(minutes(5))],
        countdown: vec![minutes(10), minutes(2)],
        ..restart("r")
    };
    let heavy = Facts { memory_bytes: Some(101), ..playing(3) };
    let mut day = Day::new(vec![plan.clone()], playing(3));
    day.until(370).said(&[]);
    day.facts(heavy).until(390).said(&[
        "370 Restart in 10 minutes.",
        "378 Restart in 2 minutes.",
        "380 r",
    ]);
    // While it counts, neither the memory nor a short wait calls it off; an empty server ends the wait.
    let mut day = Day::new(vec![plan], heavy);
    day.until(363).facts(playing(3)).until(365).facts(playing(0)).until(366);
    day.said(&["360 Restart in 10 minutes.", "365 r"]);
}

#[test]
fn one_operation_at_a_time_per_ward_and_others_wait_for_their_turn() {
    let mut backup = restart("backup");
    backup.operation = Operation::BackUp;
    let mut say = restart("say");
    say.operation = Operation::Announce("hi".to_owned());
    let mut other = restart("other");
    other.ward = ward("palworld");
    let mut day = Day::new(vec![backup, restart("r"), say, other], playing(0));
    day.go(370, false).said(&["360 backup", "360 say", "360 other"]);
    day.planner.finished(&ward("ark"));
    day.go(380, false).said(&["370 r"]);
    // Those that wait for too long are left out, with the reason.
    day.go(721, false).said(&[
        "720 r skipped: the one before was still running",
        "720 say",
        "720 other skipped: the one before was still running",
    ]);
    day.go(850, false).said(&["840 backup skipped: the ward was busy: r"]);
    day.planner.finished(&ward("ark"));
    day.facts(Facts { is_busy: true, ..playing(0) }).go(1_081, false);
    assert!(!day.log.iter().any(|line| line.ends_with(" backup")), "a person is at it");
}

#[test]
fn without_patience_a_busy_ward_is_skipped_at_once() {
    let patience = Patience { at_most: Duration::ZERO, otherwise: Otherwise::Skip };
    let plan = Plan { patience, ..restart("r") };
    let mut day = Day::new(vec![plan], Facts { is_busy: true, ..playing(0) });
    day.until(361).said(&["360 r skipped: the ward was busy: somebody's request"]);
}

#[test]
fn moments_missed_in_a_downtime_are_left_out_or_made_up_for_once() {
    for (missed, late, expected) in [
        (Missed::Skip, 4, vec!["1084 r"]),
        (Missed::Skip, 6, vec!["1086 r skipped: it was due while nobody was there to do it"]),
        (Missed::RunOnce, 200, vec!["1280 r"]),
    ] {
        let plan = Plan { missed, ..restart("r") };
        let saved = [Saved { plan: "r".to_owned(), handled_ms: 1, waiting_ms: None }];
        let now = Timestamp((1_080 + late) * MINUTE);
        let planner = Planner::new(vec![plan], &saved, now).unwrap();
        let mut day = Day { planner, now, ..Day::new(Vec::new(), playing(0)) };
        day.until(1_400).said(&expected);
        day.until(1_441).said(&["1440 r"]);
    }
}

#[test]
fn what_waited_goes_on_waiting_after_a_restart_and_nothing_happens_twice() {
    let plan = || Plan { conditions: vec![Condition::Empty], ..restart("r") };
    let mut day = Day::new(vec![plan()], playing(2));
    day.until(400).said(&[]);
    let saved = day.planner.saved();
    assert_eq!((saved[0].handled_ms, saved[0].waiting_ms), (6 * HOUR, Some(6 * HOUR)));
    day.planner = Planner::new(vec![plan()], &saved, day.now).unwrap();
    day.until(410).facts(playing(0)).until(411).said(&["410 r"]);
    let saved = day.planner.saved();
    day.planner = Planner::new(vec![plan()], &saved, Timestamp(6 * HOUR)).unwrap();
    day.until(700).said(&[]);
}

#[test]
fn nothing_begins_while_it_is_held() {
    let held = |length| Hold {
        ward: Some(ward("ark")),
        window: Window::Recurring {
            rule: Rule::once(Timestamp(5 * HOUR)),
            length: minutes(length),
        },
        reason: "event night".to_owned(),
    };
    let mut day = Day::new(vec![restart("r")], playing(0));
    day.planner.set_holds(vec![held(100)]);
    day.until(700).said(&["400 r"]);
    let mut day = Day::new(vec![restart("r")], playing(0));
    day.planner.set_holds(vec![held(300)]);
    assert_eq!(day.planner.held(&ward("ark"), Timestamp(6 * HOUR)), Some("event night"));
    assert_eq!(day.planner.held(&ward("x"), Timestamp(6 * HOUR)), None);
    day.until(700).said(&["480 r skipped: held: event night"]);
    // One without an end is lifted by hand.
    let window = Window::Fixed { from: Timestamp(0), until: None };
    day.planner.set_holds(vec![Hold { ward: None, window, reason: "repair".to_owned() }]);
    day.until(730).said(&[]);
    day.planner.set_holds(Vec::new());
    day.until(731).said(&["730 r"]);
}

#[test]
fn a_plan_is_triggered_by_hand_with_all_its_manners() {
    let mut day = Day::new(vec![Plan { countdown: vec![minutes(5)], ..restart("r") }], playing(1));
    day.until(10);
    assert!(day.planner.trigger("r", day.now) && !day.planner.trigger("r", day.now));
    assert!(!day.planner.trigger("x", day.now));
    day.until(20).said(&["10 Restart in 5 minutes.", "15 r"]);
}

#[test]
fn plans_that_make_no_sense_are_refused() {
    let new = |plans| Planner::new(plans, &[], Timestamp(0)).err();
    assert!(matches!(new(vec![restart("a"), restart("a")]), Some(PlanError::Name { .. })));
    assert!(matches!(new(vec![restart("")]), Some(PlanError::Name { .. })));
    let patience = Patience { at_most: minutes(8 * 24 * 60), otherwise: Otherwise::Skip };
    let patient = Plan { patience, ..restart("a") };
    assert!(matches!(new(vec![patient]), Some(PlanError::Patience { .. })));
    let long = Plan { countdown: vec![minutes(1); 17], ..restart("a") };
    assert!(matches!(new(vec![long]), Some(PlanError::Countdown { .. })));
    let many = (0..=Plan::COUNT_MAX).map(|n| restart(&n.to_string())).collect();
    assert!(matches!(new(many), Some(PlanError::TooMany { .. })));
}

fn plans() -> impl Strategy<Value = Vec<Plan>> {
    let plan = (0_u8..4, 1_u64..400, 0_u64..200, any::<bool>(), any::<bool>(), any::<bool>());
    let plan = plan.prop_map(|(kind, every, wait, anyway, empty, once)| Plan {
        operation: match kind {
            0 => Operation::Restart,
            1 => Operation::BackUp,
            2 => Operation::Announce("x".to_owned()),
            _ => Operation::Stop,
        },
        rule: Rule::every(minutes(every), Timestamp(0)).expect("a period"),
        conditions: if empty { vec![Condition::Empty] } else { Vec::new() },
        patience: Patience {
            at_most: minutes(wait),
            otherwise: if anyway { Otherwise::Anyway } else { Otherwise::Skip },
        },
        countdown: if once { vec![minutes(7), minutes(2)] } else { Vec::new() },
        missed: if once { Missed::RunOnce } else { Missed::Skip },
        ..restart("x")
    });
    proptest::collection::vec(plan, 1..6).prop_map(|plans| {
        let named = |(n, plan): (usize, Plan)| Plan { name: n.to_string().into(), ..plan };
        plans.into_iter().enumerate().map(named).collect()
    })
}

proptest! {
    #[test]
    fn whatever_comes_one_operation_runs_at_a_time_and_no_moment_runs_twice(
        plans in plans(),
        steps in proptest::collection::vec((1_i64..200, 0_u32..3, any::<bool>(), any::<bool>()), 1..60),
    ) {
        let mut planner = Planner::new(plans.clone(), &[], Timestamp(0)).unwrap();
        let (mut now, mut running, mut seen) = (Timestamp(0), false, std::collections::HashSet::new());
        for (pass, players, ends, dies) in steps {
            now = now.plus(minutes(pass.unsigned_abs()));
            if ends && running {
                planner.finished(&ward("ark"));
                running = false;
            }
            if dies && !running {
                planner = Planner::new(plans.clone(), &planner.saved(), now).unwrap();
            }
            for action in planner.due(now, |_| playing(players)) {
                if let Action::Run { plan, operation, due_at, .. } = action {
                    prop_assert!(due_at <= now);
                    prop_assert!(seen.insert((plan, due_at)), "twice");
                    if operation.is_exclusive() {
                        prop_assert!(!running, "two at once");
                        running = true;
                    }
                }
            }
            if let Some(wake) = planner.next_wake(now) {
                prop_assert!(wake > now, "no time to rest");
            }
        }
    }
}
