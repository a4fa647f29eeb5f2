//! What measuring costs: a tick over 3 and 50 processes, and what becomes of its figures. The goal is a
//! whole second of three wards in 277 us (1 CPU-second an hour); a C program that only reads the files of
//! three processes and of the machine needs about 80 us a second.

#![expect(clippy::print_stdout, reason = "a benchmark says what it measured")]

use std::hint::black_box;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use naru_domain::Timestamp;
use naru_supervisor::learn::{LearnSettings, Learner, Mark, MinuteAggregate, Sample};
use naru_supervisor::measure::{
    Block, BlockBuilder, Pending, PendingSettings, Reading, Recorder, Sampler, SamplerSettings,
    Series, Values, Window, Windows,
};
use naru_supervisor::model::{ProcessId, WardName};

/// Processes that wait for the end of their input.
struct Idle(Vec<Child>);

impl Idle {
    fn start(count: usize) -> Idle {
        let start = |_| {
            let mut command = Command::new("cat");
            command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("cat runs")
        };
        Idle((0..count).map(start).collect())
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        for child in &mut self.0 {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

fn ward(number: usize) -> WardName {
    WardName::parse(&format!("ward-{number}")).expect("a name")
}

/// Ticks with a clock that moves a second each: disks, machine and theft are looked at in their turn.
fn tick(c: &mut Criterion) {
    for count in [3, 50] {
        let idle = Idle::start(count);
        let mut sampler = Sampler::new(SamplerSettings::default());
        for (number, child) in idle.0.iter().enumerate() {
            let id = ProcessId { pid: child.id(), started: 0, boot: String::new() };
            assert_eq!(sampler.add(&ward(number), &[id]), 1);
        }
        let (mut out, mut instant, mut at) = (Vec::new(), Instant::now(), Timestamp(0));
        c.bench_function(&format!("tick of {count} wards, a second apart"), |bench| {
            bench.iter(|| {
                instant += Duration::from_secs(1);
                at = at.plus(Duration::from_secs(1));
                black_box(sampler.tick(at, instant, &mut out));
            });
        });
    }
}

fn reading(second: i64) -> Reading {
    let wave = u32::try_from(second.unsigned_abs() % 20).unwrap_or(0);
    let mut values = Values::EMPTY;
    values.set(Series::Cpu, 420 + wave * 10);
    values.set(Series::Memory, 70_000 + wave);
    values.set(Series::Threads, 31);
    Reading {
        at: Timestamp(1_700_000_000_000 + second * 1_000),
        span: Duration::from_secs(1),
        values,
    }
}

fn figures(c: &mut Criterion) {
    let mut pending = Pending::new(PendingSettings::default(), Instant::now());
    let mut recorder = Recorder::new(ward(0), Windows::default());
    let mut second = 0;
    c.bench_function("record a reading of three series", |bench| {
        bench.iter(|| {
            second += 1;
            recorder.record(&reading(second), &mut pending);
        });
    });
    c.bench_function("the window of an hour", |bench| {
        let now = reading(second).at;
        bench.iter(|| recorder.windows().summary(Series::Cpu, Window::Hour, now));
    });
    let minute: Vec<Reading> = (0..60).map(reading).collect();
    let mut builder = BlockBuilder::default();
    c.bench_function("pack a minute of three series", |bench| {
        bench.iter(|| {
            assert!(minute.iter().all(|reading| builder.add(reading)));
            black_box(builder.seal())
        });
    });
    assert!(minute.iter().all(|reading| builder.add(reading)));
    let packed = builder.seal().map(|(_, packed)| packed).unwrap_or_default();
    c.bench_function("unpack a minute of three series", |bench| {
        bench.iter(|| Block::decode(black_box(&packed)));
    });
}

/// A ward that is known for a week, with saves every five minutes: its samples, its minutes, and what a minute takes
/// at most, while baselines are fitted.
fn learning(c: &mut Criterion) {
    const SECOND: Duration = Duration::from_secs(1);
    let mut learner = Learner::new(LearnSettings::default());
    let mut at = Timestamp(1_767_571_200_000);
    drop(learner.mark(at, Mark::Started));
    let sample = |second: i64| {
        let wave = u32::try_from(second.unsigned_abs() / 600 % 20).unwrap_or(0);
        Sample {
            elapsed: SECOND,
            cpu_cores: Some(0.5 + 0.01 * u16::try_from(wave).map_or(0.0, f32::from)),
            rss_bytes: Some(4_000_000_000 + 20_000_000 * u64::from(wave)),
            write_bytes: Some(if second % 300 < 5 { 9_000_000 } else { 2_000 }),
            tick_ms: Some(9.0),
            tick_rate: Some(20.0),
            players: Some(wave),
        }
    };
    let (mut second, mut longest, mut spent) = (0, Duration::ZERO, Duration::ZERO);
    for _ in 0..7 * 1_440 {
        for _ in 0..6 {
            second += 10;
            at = at.plus(10 * SECOND);
            learner.sample(at, &Sample { elapsed: 10 * SECOND, ..sample(second) });
        }
        let began = Instant::now();
        drop(black_box(learner.minute(at, &MinuteAggregate::default())));
        (longest, spent) = (longest.max(began.elapsed()), spent + began.elapsed());
    }
    println!("learning: {:?} a minute, {longest:?} the longest of a week", spent / (7 * 1_440));
    c.bench_function("learn from a sample", |bench| {
        bench.iter(|| {
            second += 1;
            at = at.plus(SECOND);
            black_box(learner.sample(at, &sample(second)))
        });
    });
    c.bench_function("learn from a minute of one sample", |bench| {
        bench.iter(|| {
            second += 60;
            at = at.plus(60 * SECOND);
            learner.sample(at, &Sample { elapsed: 60 * SECOND, ..sample(second) });
            black_box(learner.minute(at, &MinuteAggregate::default()))
        });
    });
}

criterion_group!(benches, tick, figures, learning);
criterion_main!(benches);
