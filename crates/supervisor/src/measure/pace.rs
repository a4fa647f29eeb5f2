//! How often to look, by how busy the machine is: less often when the games need it, at once, and more
//! often again only after a calm while. Pure: the same loads give the same answers. What happens to a
//! ward is told by events, so that a longer interval delays no decision.

use std::time::{Duration, Instant};

use super::budget::Throttle;
use super::sample::HostSample;
use crate::model::Severity;

/// When to look how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PaceSettings {
    /// Between samples of a machine with time to spare. The longer ones below are at least this.
    pub base: Duration,
    /// Above this share of busy processors, in thousandths: 3 s. Guessed; the others are as asked for.
    pub cpu_warm: u16,
    /// Above this: 5 s.
    pub cpu_busy: u16,
    /// Above this: 10 s.
    pub cpu_full: u16,
    /// Above this share of time in which some task waits for a processor, in hundredths of a percent: 10 s.
    pub waiting_full: u32,
    /// From this share of memory in use, in thousandths, it is tight: 5 s, caches go.
    pub memory_tight: u16,
    /// From this it is critical: 10 s, caches go.
    pub memory_critical: u16,
    /// How long it has to be calmer, by a twentieth of the whole, before each step back.
    pub calm_for: Duration,
}

impl Default for PaceSettings {
    fn default() -> PaceSettings {
        PaceSettings {
            base: Duration::from_secs(1),
            cpu_warm: 500,
            cpu_busy: 700,
            cpu_full: 900,
            waiting_full: 2_000,
            memory_tight: 800,
            memory_critical: 900,
            calm_for: Duration::from_secs(30),
        }
    }
}

/// A look at the machine, as far as it matters here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Busy processors, in thousandths of all, if known.
    pub cpu_permille: Option<u16>,
    /// Share of time in which some task waits for a processor, in hundredths of a percent, if known.
    pub waiting: Option<u32>,
    /// Memory in use, in thousandths of all.
    pub memory_permille: u16,
    /// Whether the system told of memory pressure since the last look.
    pub memory_event: bool,
}

impl Load {
    /// The load of a look at the machine; `memory_event` says whether the system told of pressure.
    #[must_use]
    pub fn of(host: &HostSample, memory_event: bool) -> Load {
        Load {
            cpu_permille: host.cpu_permille,
            waiting: host.pressure.map(|pressure| pressure.cpu),
            memory_permille: host.memory_permille(),
            memory_event,
        }
    }
}

/// How scarce memory is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Memory {
    /// Enough.
    #[default]
    Fine,
    /// Above the first mark.
    Tight,
    /// Above the second mark, or the system told of pressure.
    Critical,
}

impl Memory {
    /// How much a notice of it matters.
    #[must_use]
    pub fn severity(self) -> Severity {
        match self {
            Memory::Fine => Severity::Info,
            Memory::Tight => Severity::Warning,
            Memory::Critical => Severity::Critical,
        }
    }
}

/// Memory became scarcer or less scarce: tell somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryStep {
    /// What it was.
    pub from: Memory,
    /// What it is.
    pub to: Memory,
}

/// What follows from a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paced {
    /// From now on between samples.
    pub interval: Duration,
    /// Whether that is a change.
    pub is_changed: bool,
    /// Give up what can be had again: windows, backlogs, caches of logs.
    pub shed: bool,
    /// Something to tell.
    pub memory: Option<MemoryStep>,
}

/// The state behind the interval.
#[derive(Clone, Debug)]
pub struct Pace {
    settings: PaceSettings,
    level: usize,
    calm_since: Option<Instant>,
    memory: Memory,
    memory_calm_since: Option<Instant>,
    shed_at: Option<Instant>,
    interval: Duration,
}

/// Intervals of the levels above the base.
const LEVELS: [Duration; 3] =
    [Duration::from_secs(3), Duration::from_secs(5), Duration::from_secs(10)];
/// Shedding again sooner frees nothing.
const SHED_PAUSE: Duration = Duration::from_secs(10);

impl Pace {
    /// Begins calm.
    #[must_use]
    pub fn new(settings: PaceSettings) -> Pace {
        Pace {
            settings,
            level: 0,
            calm_since: None,
            memory: Memory::Fine,
            memory_calm_since: None,
            shed_at: None,
            interval: settings.base,
        }
    }

    /// The interval as of the last look.
    #[must_use]
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// How scarce memory is as of the last look.
    #[must_use]
    pub fn memory(&self) -> Memory {
        self.memory
    }

    /// Takes in a look at the machine, and what our own budget says.
    pub fn observe(&mut self, load: &Load, throttle: Throttle, now: Instant) -> Paced {
        let memory = self.memory_step(load, now);
        let rose = memory.is_some_and(|step| step.to > step.from);
        let may_shed = self.shed_at.is_none_or(|at| now.duration_since(at) >= SHED_PAUSE);
        let shed = rose || (load.memory_event && may_shed);
        if shed {
            self.shed_at = Some(now);
        }
        let (hard, soft) = (self.level_of(load, 0), self.level_of(load, 50));
        if hard > self.level {
            (self.level, self.calm_since) = (hard, None);
        } else if soft < self.level {
            let since = *self.calm_since.get_or_insert(now);
            if now.duration_since(since) >= self.settings.calm_for {
                (self.level, self.calm_since) = (self.level - 1, Some(now));
            }
        } else {
            self.calm_since = None;
        }
        let level = (self.level + usize::from(throttle != Throttle::None)).min(LEVELS.len());
        let longer = level.checked_sub(1).map_or(Duration::ZERO, |at| LEVELS[at]);
        let interval = longer.max(self.settings.base);
        let is_changed = interval != self.interval;
        self.interval = interval;
        Paced { interval, is_changed, shed, memory }
    }

    /// The level that the load asks for, with marks that are lower by `margin` thousandths.
    fn level_of(&self, load: &Load, margin: u16) -> usize {
        let settings = &self.settings;
        let above = |mark: u16| load.cpu_permille.is_some_and(|cpu| cpu + margin > mark);
        let waiting = load.waiting.unwrap_or(0) + u32::from(margin) * 10;
        let by_cpu = if above(settings.cpu_full) || waiting > settings.waiting_full {
            3
        } else if above(settings.cpu_busy) {
            2
        } else {
            usize::from(above(settings.cpu_warm))
        };
        let by_memory = match self.memory {
            Memory::Fine => 0,
            Memory::Tight => 2,
            Memory::Critical => 3,
        };
        by_cpu.max(by_memory)
    }

    fn memory_step(&mut self, load: &Load, now: Instant) -> Option<MemoryStep> {
        let of = |margin: u16| {
            if load.memory_event || load.memory_permille + margin >= self.settings.memory_critical {
                Memory::Critical
            } else if load.memory_permille + margin >= self.settings.memory_tight {
                Memory::Tight
            } else {
                Memory::Fine
            }
        };
        let (from, hard, soft) = (self.memory, of(0), of(50));
        if hard > from {
            (self.memory, self.memory_calm_since) = (hard, None);
        } else if soft < from {
            let since = *self.memory_calm_since.get_or_insert(now);
            if now.duration_since(since) >= self.settings.calm_for {
                (self.memory, self.memory_calm_since) = (soft, None);
            }
        } else {
            self.memory_calm_since = None;
        }
        (self.memory != from).then_some(MemoryStep { from, to: self.memory })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LOOK: Duration = Duration::from_secs(10);

    struct Scene {
        pace: Pace,
        now: Instant,
    }

    impl Scene {
        fn new(settings: PaceSettings) -> Scene {
            Scene { pace: Pace::new(settings), now: Instant::now() }
        }

        fn look(&mut self, load: Load) -> Paced {
            self.now += LOOK;
            self.pace.observe(&load, Throttle::None, self.now)
        }

        fn cpu(&mut self, permille: u16) -> u64 {
            let load = Load { cpu_permille: Some(permille), ..Load::default() };
            self.look(load).interval.as_secs()
        }

        fn memory(&mut self, permille: u16) -> Paced {
            self.look(Load { memory_permille: permille, ..Load::default() })
        }
    }

    #[test]
    fn a_busier_machine_is_looked_at_less_often_at_once() {
        let mut scene = Scene::new(PaceSettings::default());
        let marks = [(0, 1), (500, 1), (501, 3), (700, 3), (701, 5), (900, 5), (901, 10)];
        for (cpu, expected) in marks {
            assert_eq!(scene.cpu(cpu), expected, "{cpu}");
        }
    }

    #[test]
    fn a_base_of_three_seconds_is_the_interval_of_an_idle_machine() {
        let base = Duration::from_secs(3);
        let mut scene = Scene::new(PaceSettings { base, ..PaceSettings::default() });
        for (cpu, expected) in [(0, 3), (600, 3), (750, 5), (950, 10)] {
            assert_eq!(scene.cpu(cpu), expected, "{cpu}");
        }
        let base = Duration::from_secs(60);
        let mut scene = Scene::new(PaceSettings { base, ..PaceSettings::default() });
        assert_eq!(scene.cpu(999), 60);
    }

    #[test]
    fn it_goes_back_a_step_at_a_time_after_a_calm_while() {
        let mut scene = Scene::new(PaceSettings::default());
        assert_eq!(scene.cpu(950), 10);
        // A little below the mark is not calm.
        assert_eq!([scene.cpu(870), scene.cpu(860), scene.cpu(880), scene.cpu(870)], [10; 4]);
        let back: Vec<u64> = (0..12).map(|_| scene.cpu(100)).collect();
        assert_eq!(back, [10, 10, 10, 5, 5, 5, 3, 3, 3, 1, 1, 1]);
        // A busy look in between begins the while anew.
        assert_eq!([scene.cpu(750), scene.cpu(0), scene.cpu(0), scene.cpu(750)], [5; 4]);
        assert_eq!([scene.cpu(0), scene.cpu(0), scene.cpu(0), scene.cpu(0)], [5, 5, 5, 3]);
    }

    #[test]
    fn waiting_tasks_count_even_if_the_processors_seem_idle() {
        let mut scene = Scene::new(PaceSettings::default());
        let load =
            |waiting| Load { cpu_permille: Some(300), waiting: Some(waiting), ..Load::default() };
        assert_eq!(scene.look(load(2_000)).interval, Duration::from_secs(1));
        assert_eq!(scene.look(load(2_001)).interval, Duration::from_secs(10));
    }

    #[test]
    fn scarce_memory_is_told_once_sheds_and_slows_down() {
        let mut scene = Scene::new(PaceSettings::default());
        assert_eq!(scene.memory(799).memory, None);
        let tight = scene.memory(800);
        assert_eq!(tight.memory, Some(MemoryStep { from: Memory::Fine, to: Memory::Tight }));
        assert!(tight.shed && tight.interval == Duration::from_secs(5), "{tight:?}");
        let same = scene.memory(830);
        assert!(same.memory.is_none() && !same.shed, "{same:?}");
        let critical = scene.memory(900);
        assert_eq!(critical.memory.unwrap().to.severity(), Severity::Critical);
        assert!(critical.shed && critical.interval == Duration::from_secs(10));
        // Just below a mark it stays; well below it goes back, and says so once.
        assert!((0..9).all(|_| scene.memory(870).memory.is_none()));
        let steps: Vec<_> = (0..9).filter_map(|_| scene.memory(400).memory).collect();
        assert_eq!(steps, [MemoryStep { from: Memory::Critical, to: Memory::Fine }]);
    }

    #[test]
    fn an_event_of_the_system_counts_whatever_the_share() {
        let mut scene = Scene::new(PaceSettings::default());
        let event = Load { memory_permille: 300, memory_event: true, ..Load::default() };
        let first = scene.look(event);
        assert!(first.shed && first.memory.unwrap().to == Memory::Critical, "{first:?}");
        // Again within the pause, and after it.
        scene.now -= LOOK - Duration::from_secs(2);
        assert!(!scene.look(event).shed);
        let again = scene.look(event);
        assert!(again.shed && again.memory.is_none(), "{again:?}");
    }

    #[test]
    fn our_own_budget_makes_the_interval_longer() {
        let mut pace = Pace::new(PaceSettings::default());
        let paced = pace.observe(&Load::default(), Throttle::Longer, Instant::now());
        assert_eq!((paced.interval, paced.is_changed), (Duration::from_secs(3), true));
        let paced = pace.observe(&Load::default(), Throttle::None, Instant::now());
        assert_eq!((paced.interval, paced.is_changed), (Duration::from_secs(1), true));
    }

    proptest! {
        #[test]
        fn the_interval_never_lags_behind_a_rising_load_nor_flaps(
            loads in prop::collection::vec((0u16..=1_000, 0u32..5_000, 0u16..=1_000, any::<bool>()), 1..200),
        ) {
            let mut scene = Scene::new(PaceSettings::default());
            let mut lowered: Option<Instant> = None;
            let mut before = Duration::from_secs(1);
            for (cpu, waiting, memory, event) in loads {
                let paced = scene.look(Load {
                    cpu_permille: Some(cpu),
                    waiting: Some(waiting),
                    memory_permille: memory,
                    memory_event: event && memory > 990,
                });
                let least = match (cpu, waiting, memory) {
                    (901.., _, _) | (_, 2_001.., _) | (_, _, 900..) => 10,
                    (701.., _, _) | (_, _, 800..) => 5,
                    (501.., _, _) => 3,
                    _ => 1,
                };
                prop_assert!(paced.interval >= Duration::from_secs(least));
                prop_assert_eq!(paced.is_changed, paced.interval != before);
                if paced.interval < before {
                    let calm = lowered.is_none_or(|at| scene.now.duration_since(at) >= Duration::from_secs(30));
                    prop_assert!(calm, "lowered twice within the calm while");
                    lowered = Some(scene.now);
                }
                before = paced.interval;
            }
        }
    }
}
