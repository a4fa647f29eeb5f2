//! How many false alarms a ward-week has and how soon faults are found, over many simulated wards. Prints tables
//! for `docs/operations/ward-alerts.md`; `cargo run --release -p naru-supervisor --example ward_weeks -- 200`.
//! With `snapshot` it prints what a ward learned in a day and a half as bytes, for the fuzzing corpus; with
//! `record quiet|saves|leak|cpu|tick`, one of the recordings in `tests/recordings`.
#![expect(clippy::print_stdout, reason = "printing is what it is for")]

use std::collections::BTreeMap;
use std::time::Instant;

use naru_supervisor::learn::{
    AlertChange, AlertKind, LearnSettings, Learner, Mark, MinuteAggregate, Sample,
};

#[path = "../../src/learn/simulate.rs"]
#[allow(dead_code, reason = "tests use other parts of it")]
mod simulate;

use simulate::{Dice, Fault, Game, GameKind, Ward};

const DAY_S: f64 = 86_400.0;
const WEEK_S: f64 = 7.0 * DAY_S;

fn main() {
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.next_if_eq("record").is_some() {
        return record(&arguments.next().unwrap_or_default());
    }
    if arguments.next_if_eq("snapshot").is_some() {
        return snapshot();
    }
    let wards: u64 = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(40);
    let step_s: f64 = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(5.0);
    let verbose = arguments.next().is_some();
    let began = Instant::now();
    false_alarms(wards, step_s, verbose);
    for fault in
        [Fault::Leak(0.02), Fault::Leak(0.05), Fault::Cpu(1.5), Fault::Tick(2.0), Fault::SlowDown]
    {
        sensitivity(fault, wards, step_s, verbose);
    }
    println!("took {:.0} s", began.elapsed().as_secs_f64());
}

/// Three weeks without any fault: every alert is a false one.
fn false_alarms(wards: u64, step_s: f64, verbose: bool) {
    let mut kinds: BTreeMap<AlertKind, u32> = BTreeMap::new();
    println!("## False alarms, {wards} wards of each game, 3 weeks each");
    for game in GameKind::ALL {
        let (mut count, mut worst) = (0_u32, 0_usize);
        for seed in 0..wards {
            let mut ward = Ward::new(game, seed, step_s);
            ward.run_until(3.0 * WEEK_S);
            count += u32::try_from(ward.opened.len()).unwrap_or(u32::MAX);
            worst = worst.max(ward.opened.len());
            for (at, kind, text) in &ward.opened {
                *kinds.entry(*kind).or_default() += 1;
                if verbose {
                    println!("  {game:?} {seed} day {:.2}: {kind:?} {text}", at / DAY_S);
                }
            }
        }
        let weeks = 3.0 * wards as f64;
        println!(
            "{game:?}: {:.3} per ward-week (worst ward: {worst} in 3 weeks)",
            f64::from(count) / weeks
        );
    }
    println!("{kinds:?}");
}

/// A fault at some time of the second week: how long until it is told.
fn sensitivity(fault: Fault, wards: u64, step_s: f64, verbose: bool) {
    println!("## {fault:?}");
    for game in GameKind::ALL {
        let mut minutes = Vec::new();
        let mut dice = Dice::new(7);
        for seed in 0..wards {
            let mut ward = Ward::new(game, seed, step_s);
            let at = WEEK_S + DAY_S * dice.unit() * 5.0;
            ward.game.inject(at, fault);
            ward.run_until(at);
            let before = ward.opened.len();
            ward.run_until(at + DAY_S);
            let found = ward.opened[before..].iter().find(|(_, kind, _)| fault.is_told_by(*kind));
            minutes.push(found.map_or(f64::INFINITY, |(when, ..)| (when - at) / 60.0));
            if verbose && found.is_none() {
                println!("  {game:?} {seed}: not found in a day");
            }
        }
        minutes.sort_by(f64::total_cmp);
        let at = |share: usize| minutes[(minutes.len() - 1) * share / 10];
        let goal = if matches!(fault, Fault::Leak(_)) { 30.0 } else { 2.05 };
        let within = minutes.iter().filter(|found| **found <= goal).count() as f64;
        println!(
            "{game:?}: within {goal:.0} min {:.1} %, median {:.1} min, 90 % {:.1} min, worst {:.1} min",
            100.0 * within / minutes.len() as f64,
            at(5),
            at(9),
            at(10)
        );
    }
}

/// A recording: three quiet days in steps of ten minutes, then four hours of minutes with a fault after one.
/// Saves: an hour in steps of five seconds.
fn record(name: &str) {
    const QUIET_S: f64 = 3.2 * DAY_S;
    let fault = match name {
        "leak" => Some(Fault::Leak(0.05)),
        "cpu" => Some(Fault::Cpu(1.5)),
        "tick" => Some(Fault::Tick(2.0)),
        _ => None,
    };
    let kind = if name == "saves" { GameKind::Survival } else { GameKind::Dinosaurs };
    let mut game = Game::calm(kind, 5, 5.0);
    if let Some(fault) = fault {
        game.inject(QUIET_S + 3_600.0, fault);
    }
    println!("time,players,cpu,rss,write_bytes,tick_ms");
    let (end_s, fine) = if name == "saves" { (3_600.0, 1) } else { (QUIET_S + 4.0 * 3_600.0, 12) };
    while game.elapsed_s() < end_s {
        let steps = if name != "saves" && game.elapsed_s() < QUIET_S { 120 } else { fine };
        let (mut cpu, mut tick, mut written, mut count) = (0.0, 0.0, 0, 0.0_f32);
        let mut last = None;
        for _ in 0..steps {
            let step = game.step();
            if let Some(sample) = step.sample {
                cpu += sample.cpu_cores.unwrap_or(0.0);
                tick += sample.tick_ms.unwrap_or(0.0);
                written += sample.write_bytes.unwrap_or(0);
                count += 1.0;
                last = Some((step.now, sample));
            }
        }
        let Some((now, sample)) = last else { continue };
        println!(
            "{},{},{:.3},{},{},{:.2}",
            now.0 / 1_000,
            sample.players.unwrap_or(0),
            cpu / count,
            sample.rss_bytes.unwrap_or(0) / 1_000_000 * 1_000_000,
            written,
            tick / count
        );
    }
}

fn snapshot() {
    let mut ward = Ward::new(GameKind::Survival, 1, 5.0);
    ward.run_until(1.5 * DAY_S);
    let bytes = ward.learner.snapshot();
    std::io::Write::write_all(&mut std::io::stdout(), &bytes).expect("somebody reads it");
}
