//! What every sampler promises, checked against real processes: Linux's own and the portable one.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use naru_domain::Timestamp;

use super::sample::{HostSample, SamplerSettings, WardSample};
use crate::model::{ProcessId, WardName};

/// A program that does nothing until its input ends.
struct Idle(Child);

impl Idle {
    fn start() -> Idle {
        let mut command = Command::new("cat");
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        Idle(command.spawn().expect("cat runs"))
    }

    fn id(&self) -> ProcessId {
        ProcessId { pid: self.0.id(), started: 0, boot: String::new() }
    }

    fn end(&mut self) {
        self.0.kill().expect("it is ours");
        self.0.wait().expect("it is ours");
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        // It may be gone already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn own() -> ProcessId {
    ProcessId { pid: std::process::id(), started: 0, boot: String::new() }
}

fn ward(name: &str) -> WardName {
    WardName::parse(name).unwrap()
}

/// Uses the processor for this long.
fn work(length: Duration) {
    let until = Instant::now() + length;
    let mut sum = 0u64;
    while Instant::now() < until {
        sum = std::hint::black_box(sum.wrapping_add(1));
    }
}

/// Looks at everything each time.
fn settings() -> SamplerSettings {
    let every = Duration::ZERO;
    SamplerSettings {
        io_every: every,
        host_every: every,
        taken_every: every,
        ..SamplerSettings::default()
    }
}

fn tick<S>(
    sampler: &mut S,
    tick: impl Fn(&mut S, Timestamp, Instant, &mut Vec<WardSample>) -> Option<HostSample>,
) -> (Vec<WardSample>, Option<HostSample>) {
    let mut out = Vec::new();
    let host = tick(sampler, Timestamp(1), Instant::now(), &mut out);
    (out, host)
}

macro_rules! promises {
    ($module:ident, $sampler:ty) => {
        mod $module {
            use super::*;

            fn look(sampler: &mut $sampler) -> (Vec<WardSample>, Option<HostSample>) {
                tick(sampler, <$sampler>::tick)
            }

            #[test]
            fn processor_time_is_counted_without_a_gap() {
                let mut sampler = <$sampler>::new(settings());
                assert_eq!(sampler.add(&ward("own"), &[own()]), 1);
                let first = look(&mut sampler).0.remove(0);
                assert_eq!(
                    (first.cpu, first.span, first.io),
                    (Duration::ZERO, Duration::ZERO, None)
                );
                let started = Instant::now();
                let mut sum = Duration::ZERO;
                for _ in 0..6 {
                    work(Duration::from_millis(25));
                    let sample = look(&mut sampler).0.remove(0);
                    sum += sample.cpu;
                    assert!(sample.rss_bytes > 1 << 20 && sample.processes == 1, "{sample:?}");
                    assert!(sample.io.is_some_and(|io| !io.span.is_zero()), "{sample:?}");
                }
                // Other tests of this process use time, too, on at most as many cores as there are.
                let cores = std::thread::available_parallelism().map_or(64, usize::from);
                let most = started.elapsed() * u32::try_from(cores).unwrap();
                assert!(sum >= Duration::from_millis(20), "{sum:?}");
                assert!(sum <= most + Duration::from_millis(50), "{sum:?} of {most:?}");
            }

            #[test]
            fn a_process_that_ended_is_gone_and_takes_nothing_with_it() {
                let mut sampler = <$sampler>::new(settings());
                let (mut one, other) = (Idle::start(), Idle::start());
                assert_eq!(sampler.add(&ward("tree"), &[one.id(), other.id()]), 2);
                let sample = look(&mut sampler).0.remove(0);
                assert_eq!((sample.processes, sample.gone), (2, 0));
                one.end();
                let sample = look(&mut sampler).0.remove(0);
                assert_eq!((sample.processes, sample.gone), (1, 1));
                assert_eq!(sampler.add(&ward("tree"), &[one.id(), other.id()]), 1);
                let sample = look(&mut sampler).0.remove(0);
                assert_eq!((sample.processes, sample.gone), (1, 0));
            }

            #[test]
            fn each_ward_is_told_of_by_itself_until_it_is_removed() {
                let mut sampler = <$sampler>::new(settings());
                let idle = Idle::start();
                sampler.add(&ward("a"), &[own()]);
                sampler.add(&ward("b"), &[idle.id()]);
                sampler.add(&ward("none"), &[]);
                work(Duration::from_millis(5));
                let names: Vec<_> =
                    look(&mut sampler).0.iter().map(|each| each.ward.to_string()).collect();
                assert_eq!(names, ["a", "b", "none"]);
                let (samples, _) = look(&mut sampler);
                assert_eq!((samples[2].processes, samples[2].rss_bytes), (0, 0));
                let reading = samples[2].reading();
                assert_eq!(reading.values.get(crate::measure::Series::Memory), None);
                sampler.remove(&ward("a"));
                assert_eq!(look(&mut sampler).0.len(), 2);
            }

            #[test]
            fn the_machine_is_told_of_with_its_memory() {
                let mut sampler = <$sampler>::new(settings());
                let (_, first) = look(&mut sampler);
                assert_eq!(first.unwrap().cpu_permille, None);
                work(Duration::from_millis(250));
                let (_, host) = look(&mut sampler);
                let host = host.unwrap();
                assert!(host.cpu_permille.is_some_and(|busy| busy > 0), "{host:?}");
                assert!(host.memory_bytes > host.available_bytes && host.available_bytes > 0);
                sampler.set_settings(SamplerSettings::default());
                assert_eq!(look(&mut sampler).1, None, "not due");
            }

            #[test]
            fn what_we_took_is_never_more_than_we_used() {
                let mut sampler = <$sampler>::new(settings());
                let idle = Idle::start();
                sampler.add(&ward("game"), &[idle.id()]);
                assert_eq!(look(&mut sampler).0[0].taken, None);
                work(Duration::from_millis(30));
                let mut bounded = false;
                for _ in 0..3 {
                    let taken = look(&mut sampler).0[0].taken.unwrap();
                    assert!(taken.bound() <= taken.own, "{taken:?}");
                    bounded |= taken.waited.is_some();
                }
                assert_eq!(
                    bounded,
                    cfg!(target_os = "linux") && stringify!($module) == "own_sampler"
                );
            }
        }
    };
}

#[cfg(target_os = "linux")]
promises!(own_sampler, super::super::linux::Sampler);
promises!(portable_sampler, super::super::portable::Sampler);

#[cfg(target_os = "linux")]
mod linux_only {
    use rustix::process::{Pid, Signal, kill_process};

    use super::super::linux::{Sampler, proportional_bytes};
    use super::*;

    #[test]
    fn another_process_with_the_same_number_is_not_taken_for_the_game() {
        let mut sampler = Sampler::new(settings());
        let idle = Idle::start();
        let stranger = ProcessId { started: 1, ..idle.id() };
        assert_eq!(sampler.add(&ward("game"), std::slice::from_ref(&stranger)), 0);
        assert!(proportional_bytes(&stranger).is_err());
        let mut known = None;
        let text = std::fs::read_to_string(format!("/proc/{}/stat", idle.id().pid)).unwrap();
        if let Some(started) = text.split(' ').nth(21).and_then(|word| word.parse().ok()) {
            known = Some(ProcessId { started, ..idle.id() });
        }
        assert_eq!(sampler.add(&ward("game"), &[known.unwrap()]), 1);
        assert!(proportional_bytes(&idle.id()).is_ok_and(|bytes| bytes > 4_096));
    }

    #[test]
    fn a_stopped_game_shows_as_stopped() {
        let mut sampler = Sampler::new(settings());
        let idle = Idle::start();
        sampler.add(&ward("game"), &[idle.id()]);
        let pid = Pid::from_raw(i32::try_from(idle.id().pid).unwrap()).unwrap();
        kill_process(pid, Signal::STOP).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let sample = look(&mut sampler);
            if sample.stopped == 1 {
                break;
            }
            assert!(Instant::now() < deadline, "{sample:?}");
            std::thread::yield_now();
        }
    }

    fn look(sampler: &mut Sampler) -> WardSample {
        tick(sampler, Sampler::tick).0.remove(0)
    }

    #[test]
    fn bytes_sent_towards_disks_are_counted() {
        let mut sampler = Sampler::new(settings());
        sampler.add(&ward("own"), &[own()]);
        // A folder on a disk: temporary ones may be in memory.
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        look(&mut sampler);
        let file = folder.path().join("save");
        std::fs::write(&file, vec![7u8; 1 << 20]).unwrap();
        std::fs::File::open(&file).unwrap().sync_all().unwrap();
        let io = look(&mut sampler).io.unwrap();
        assert!(io.written_bytes >= 1 << 20, "{io:?}");
    }

    #[test]
    fn threads_that_come_and_go_leave_the_bound_at_what_we_used() {
        let mut sampler = Sampler::new(settings());
        sampler.add(&ward("own"), &[own()]);
        look(&mut sampler);
        std::thread::scope(|scope| {
            let (go, wait) = std::sync::mpsc::channel::<()>();
            let thread = scope.spawn(move || wait.recv().is_err());
            let taken = look(&mut sampler).taken.unwrap();
            assert!(taken.bound() <= taken.own);
            drop(go);
            assert!(thread.join().unwrap());
        });
        let taken = look(&mut sampler).taken.unwrap();
        assert!(taken.bound() <= taken.own && taken.per_second() <= Duration::from_secs(1));
    }
}
