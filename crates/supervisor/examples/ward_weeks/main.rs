//! How many false alarms a ward-week has and how soon faults are found, over many simulated wards. Prints the tables
//! of `docs/operations/ward-alerts.md`:
//! `cargo run --release -p naru-supervisor --example ward_weeks -- held-out 24 5` (wards of each game, seconds per
//! sample). Settings were chosen with `train`; `held-out` has wards that nobody looked at while choosing.
//! With `snapshot` it prints what a ward learned in a day and a half as bytes, for the fuzzing corpus; with
//! `record quiet|saves|leak|cpu|tick`, one of the recordings in `tests/recordings`.
#![expect(clippy::print_stdout, reason = "printing is what it is for")]

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use naru_supervisor::learn::{
    AlertChange, AlertKind, LearnSettings, Learner, Mark, MinuteAggregate, Sample,
};

#[path = "../../src/learn/simulate.rs"]
#[allow(dead_code, reason = "tests use other parts of it")]
mod simulate;

use simulate::{Dice, Fault, Game, GameKind, Ward};

const DAY_S: f64 = 86_400.0;
const WEEKS: u32 = 3;
const HEALTHY_S: f64 = 7.0 * DAY_S * WEEKS as f64;
/// Faults begin at so many moments of each ward, after the first week.
const MOMENTS: u32 = 3;
/// Seeds of the second population; the first begins at 0.
const HELD_OUT: u64 = 1_000_000;
/// Bursts of a ward's own in the last tables; otherwise they last up to 150 s.
const SHORT_S: f64 = 45.0;
/// The machine is shared.
const THREADS: usize = 2;

const FAULTS: [(Fault, &str, f64); 7] = [
    (Fault::Leak(0.02), "leak 2 %/h", 30.0),
    (Fault::Leak(0.05), "leak 5 %/h", 30.0),
    (Fault::Leak(0.10), "leak 10 %/h", 30.0),
    (Fault::Cpu(1.5), "CPU +50 %", 2.05),
    (Fault::Cpu(2.0), "CPU x2", 2.05),
    (Fault::Tick(2.0), "tick x2", 2.05),
    (Fault::SlowDown, "slow-down", 2.05),
];

/// What one ward showed.
struct Shown {
    game: GameKind,
    seed: u64,
    /// Of its healthy weeks.
    alarms: Vec<(f64, AlertKind, String)>,
    /// Of each fault: minutes until it was told (infinite: not within half a day, or an hour), and the growth that
    /// was a leak for this ward then.
    delays: Vec<(usize, f64, f64)>,
    restless: String,
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let population = arguments.next().unwrap_or_default();
    let first = match population.as_str() {
        "record" => return record(&arguments.next().unwrap_or_default()),
        "snapshot" => return snapshot(),
        "train" => 0,
        "held-out" => HELD_OUT,
        _ => return println!("usage: train|held-out [WARDS [SECONDS [verbose]]]"),
    };
    let wards: u64 = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(24);
    let step_s: f64 = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(5.0);
    let verbose = arguments.next().is_some();
    let began = Instant::now();
    let shown = run_all(first, wards, step_s, None);
    false_alarms(&shown, verbose);
    sensitivity(&shown, verbose);
    by_restlessness(&shown);
    drop(shown);
    println!("\n## Bursts of at most {SHORT_S} s");
    let shown = run_all(first, wards, step_s, Some(SHORT_S));
    false_alarms(&shown, false);
    sensitivity(&shown, false);
    println!(
        "\n{population}, {wards} wards of each game, {step_s} s, took {:.0} s",
        began.elapsed().as_secs_f64()
    );
}

fn run_all(first: u64, wards: u64, step_s: f64, burst_s: Option<f64>) -> Vec<Shown> {
    let next = AtomicU64::new(0);
    let all = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= 4 * wards {
                        break;
                    }
                    let game = GameKind::ALL[usize::try_from(number % 4).unwrap_or(0)];
                    let shown = run(game, first + number / 4, step_s, burst_s);
                    all.lock().expect("no thread panicked").push(shown);
                }
            });
        }
    });
    let mut all = all.into_inner().expect("no thread panicked");
    all.sort_by_key(|shown| (shown.game, shown.seed));
    all
}

/// Healthy weeks, and copies of the ward in which something goes wrong at some moment.
fn run(game: GameKind, seed: u64, step_s: f64, burst_s: Option<f64>) -> Shown {
    let mut ward = Ward::new(game, seed, step_s);
    if let Some(most_s) = burst_s {
        ward.game.short_bursts(most_s);
    }
    let mut dice = Dice::new(seed ^ 0x5EED);
    let piece = (HEALTHY_S - 8.0 * DAY_S) / f64::from(MOMENTS);
    let mut delays = Vec::new();
    for moment in 0..MOMENTS {
        let at = 7.0 * DAY_S + piece * (f64::from(moment) + dice.unit());
        ward.run_until(at);
        for (fault, (what, ..)) in FAULTS.iter().enumerate() {
            if burst_s.is_some() && matches!(what, Fault::Leak(_)) {
                continue;
            }
            let bar = ward.learner.leak_bar().unwrap_or(f64::INFINITY);
            delays.push((fault, delay(&ward, at, *what), bar));
        }
    }
    ward.run_until(HEALTHY_S);
    Shown { game, seed, restless: ward.game.describe(), alarms: ward.opened, delays }
}

fn delay(healthy: &Ward, at: f64, fault: Fault) -> f64 {
    let mut ward = healthy.clone();
    ward.game.inject(at, fault);
    let before = ward.opened.len();
    let most_s = if matches!(fault, Fault::Leak(_)) { DAY_S / 2.0 } else { 3_600.0 };
    let mut until = at;
    while until < at + most_s {
        until += 60.0;
        ward.run_until(until);
        let told = ward.opened[before..].iter().find(|(_, kind, _)| fault.is_told_by(*kind));
        if let Some((when, ..)) = told {
            return (when - at) / 60.0;
        }
    }
    f64::INFINITY
}

fn false_alarms(shown: &[Shown], verbose: bool) {
    println!(
        "\n| false alarms | per ward-week | worst ward a week | of which |\n|---|---|---|---|"
    );
    for game in GameKind::ALL {
        let wards: Vec<_> = shown.iter().filter(|shown| shown.game == game).collect();
        let mut kinds: BTreeMap<AlertKind, u32> = BTreeMap::new();
        let (mut count, mut worst) = (0, 0);
        for ward in &wards {
            count += ward.alarms.len();
            worst = worst.max(ward.alarms.len());
            for (at, kind, text) in &ward.alarms {
                *kinds.entry(*kind).or_default() += 1;
                if verbose {
                    let (day, seed, restless) = (at / DAY_S, ward.seed, &ward.restless);
                    println!("  {game:?} {seed} day {day:.2}: {kind:?} {text} [{restless}]");
                }
            }
        }
        let weeks = f64::from(WEEKS) * wards.len() as f64;
        let worst = worst as f64 / f64::from(WEEKS);
        println!("| {game:?} | {:.2} | {worst:.1} | {kinds:?} |", count as f64 / weeks);
    }
}

fn sensitivity(shown: &[Shown], verbose: bool) {
    println!("\n| fault | game | in time | median | 90 % | found |\n|---|---|---|---|---|---|");
    for (fault, (_, name, goal)) in FAULTS.iter().enumerate() {
        for game in GameKind::ALL {
            let mut minutes = Vec::new();
            for ward in shown.iter().filter(|shown| shown.game == game) {
                let delays = ward.delays.iter().filter(|(of, ..)| *of == fault);
                delays.for_each(|(_, minute, _)| minutes.push(*minute));
                if verbose {
                    let delays: Vec<_> = ward
                        .delays
                        .iter()
                        .filter(|(of, ..)| *of == fault)
                        .map(|(_, at, _)| at)
                        .collect();
                    println!("  {game:?} {} {name} {delays:.0?} [{}]", ward.seed, ward.restless);
                }
            }
            if minutes.is_empty() {
                continue;
            }
            minutes.sort_by(f64::total_cmp);
            let at = |tenths: usize| minutes[(minutes.len() - 1) * tenths / 10];
            let share = |most: f64| {
                100.0 * minutes.iter().filter(|found| **found <= most).count() as f64
                    / minutes.len() as f64
            };
            println!(
                "| {name} | {game:?} | {:.0} % | {:.1} | {:.1} | {:.0} % |",
                share(*goal),
                at(5),
                at(9),
                share(1e9)
            );
        }
    }
}

/// Leaks by what the ward's own swings allow.
fn by_restlessness(shown: &[Shown]) {
    println!(
        "\n| a leak is growth of | fault | moments | in time | median | 90 % |\n|---|---|---|---|---|---|"
    );
    let steps = [0.0, 0.003_01, 0.004_5, 0.006, 0.009, f64::INFINITY];
    for (fault, (_, name, goal)) in FAULTS.iter().enumerate().take(3) {
        for edge in steps.windows(2) {
            let delays = shown.iter().flat_map(|shown| &shown.delays);
            let mut minutes: Vec<f64> = delays
                .filter(|(of, _, bar)| *of == fault && edge[0] <= *bar && *bar < edge[1])
                .map(|(_, minutes, _)| *minutes)
                .collect();
            if minutes.is_empty() {
                continue;
            }
            minutes.sort_by(f64::total_cmp);
            let at = |tenths: usize| minutes[(minutes.len() - 1) * tenths / 10];
            let within = minutes.iter().filter(|minutes| *minutes <= goal).count() as f64;
            println!(
                "| < {:.2} % | {name} | {} | {:.0} % | {:.1} | {:.1} |",
                100.0 * edge[1],
                minutes.len(),
                100.0 * within / minutes.len() as f64,
                at(5),
                at(9)
            );
        }
    }
}

/// A recording: six quiet days in steps of ten minutes, then four hours of minutes with a fault after one.
/// Saves: an hour in steps of five seconds.
fn record(name: &str) {
    const QUIET_S: f64 = 6.2 * DAY_S;
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
