//! What measuring costs: a tick over 3 and 50 processes, and what becomes of its figures. The goal is a
//! whole second of three wards in 277 us (1 CPU-second an hour); a C program that only reads the files of
//! three processes and of the machine needs about 80 us a second.

use std::hint::black_box;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use naru_domain::Timestamp;
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

criterion_group!(benches, tick, figures);
criterion_main!(benches);
