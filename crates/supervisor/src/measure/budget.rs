//! What we cost ourselves, and what follows when that is too much: longer intervals first, then fewer
//! series. Counters come in, plain figures go out; only [`OwnMeter`] asks the system.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

#[cfg(target_os = "linux")]
use super::linux::own_counters;
#[cfg(not(target_os = "linux"))]
use super::portable::own_counters;
use super::sample::{SamplerSettings, to_f64};

/// Our own counters at some moment. All but memory only rise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnCounters {
    /// Processor time.
    pub cpu: Duration,
    /// Resident memory, if known.
    pub rss_bytes: Option<u64>,
    /// Bytes sent towards disks, if known.
    pub written_bytes: Option<u64>,
    /// How often we gave up the processor by ourselves and were woken again, if known.
    pub wakeups: Option<u64>,
    /// Transactions of the store for wards; the caller counts them.
    pub transactions: u64,
}

/// Reads [`OwnCounters`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnMeter {
    /// Of the whole process: the supervisor runs alone.
    Process,
    /// Of the calling thread, where the system tells: the supervisor is a part of a server. Memory and
    /// writes are the server's, and are left out.
    Thread,
}

impl OwnMeter {
    /// Reads them now: some small files, for once a minute. Blocks for well below a millisecond.
    #[must_use]
    pub fn read(self, transactions: u64) -> OwnCounters {
        let counters = own_counters(self == OwnMeter::Thread);
        match self {
            OwnMeter::Process => OwnCounters { transactions, ..counters },
            OwnMeter::Thread => {
                OwnCounters { transactions, rss_bytes: None, written_bytes: None, ..counters }
            }
        }
    }
}

/// What we may cost. Each ward beyond the third raises those of processor and disk.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BudgetLimits {
    /// Processor time an hour, for three wards.
    pub cpu_per_hour: Duration,
    /// For each further ward.
    pub cpu_per_further_ward: Duration,
    /// Resident memory.
    pub rss_bytes: u64,
    /// Bytes written an hour, for three wards.
    pub written_per_hour: u64,
    /// For each further ward.
    pub written_per_further_ward: u64,
    /// Transactions an hour. Decisions that must be kept at once come on top of one a minute.
    pub transactions_per_hour: f64,
    /// Wake-ups a second.
    pub wakeups_per_second: f64,
}

impl Default for BudgetLimits {
    /// The goals of the issue on wards, section 7; a quarter more where decisions come on top.
    fn default() -> BudgetLimits {
        BudgetLimits {
            cpu_per_hour: Duration::from_secs(1),
            cpu_per_further_ward: Duration::from_millis(200),
            rss_bytes: 8 * 1024 * 1024,
            written_per_hour: 1024 * 1024,
            written_per_further_ward: 256 * 1024,
            transactions_per_hour: 75.0,
            wakeups_per_second: 1.2,
        }
    }
}

/// What we do to come back within the budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Throttle {
    /// Nothing: we are within it.
    #[default]
    None,
    /// Samples are taken less often.
    Longer,
    /// And what costs most is looked at rarely: disks, and what we took from the games.
    Fewer,
}

impl Throttle {
    /// How often a sampler looks at what then.
    #[must_use]
    pub fn apply(self, settings: SamplerSettings) -> SamplerSettings {
        if self < Throttle::Fewer {
            return settings;
        }
        let minute = Duration::from_secs(60);
        SamplerSettings {
            io_every: settings.io_every.max(minute),
            taken_every: settings.taken_every.max(minute),
            host_every: settings.host_every.max(minute / 2),
            ..settings
        }
    }
}

/// What we cost, over the last ten minutes or as long as is known.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct OwnFigures {
    /// The time that the figures are about.
    pub span: Duration,
    /// Processor seconds an hour.
    pub cpu_seconds_per_hour: f64,
    /// Resident memory now, if known.
    pub rss_bytes: Option<u64>,
    /// Bytes written an hour, if known.
    pub written_per_hour: Option<f64>,
    /// Transactions an hour.
    pub transactions_per_hour: f64,
    /// Wake-ups a second, if known.
    pub wakeups_per_second: Option<f64>,
    /// The largest of all figures as a share of its limit: above 1 is over the budget.
    pub used: f64,
    /// Whether our memory is over its limit: caches are to be given up.
    pub shed: bool,
    /// What we do about it.
    pub throttle: Throttle,
}

/// Looks back so far.
const SPAN: Duration = Duration::from_secs(10 * 60);
/// One look a minute, and one more to look back to.
const LOOKS_MAX: usize = 12;
/// Over the budget, or well below it, for so many looks in a row before a step.
const LOOKS_OVER: u32 = 3;
const LOOKS_BELOW: u32 = 10;
/// Well below: a step back would not lead over the limit again.
const BELOW: f64 = 0.6;

/// Keeps the books, and decides.
#[derive(Debug, Default)]
pub struct Budget {
    limits: BudgetLimits,
    looks: VecDeque<(Instant, OwnCounters)>,
    over: u32,
    below: u32,
    throttle: Throttle,
}

impl Budget {
    /// Within the budget, as far as is known.
    #[must_use]
    pub fn new(limits: BudgetLimits) -> Budget {
        Budget { limits, ..Budget::default() }
    }

    /// Takes in a look at ourselves, about once a minute.
    pub fn observe(&mut self, now: Instant, counters: OwnCounters, wards: usize) -> OwnFigures {
        while self.looks.len() >= LOOKS_MAX
            || self.looks.front().is_some_and(|(at, _)| now.duration_since(*at) > SPAN)
        {
            self.looks.pop_front();
        }
        let before = self.looks.front().copied();
        self.looks.push_back((now, counters));
        let Some((at, before)) = before.filter(|(at, _)| *at < now) else {
            return OwnFigures { rss_bytes: counters.rss_bytes, ..OwnFigures::default() };
        };
        let mut figures = rates(now.duration_since(at), &before, &counters);
        figures.used = self.used(&figures, wards);
        figures.shed = counters.rss_bytes.is_some_and(|rss| rss > self.limits.rss_bytes);
        self.step(figures.used);
        figures.throttle = self.throttle;
        figures
    }

    /// The largest share of a limit that throttling can bring down.
    fn used(&self, figures: &OwnFigures, wards: usize) -> f64 {
        let limits = &self.limits;
        let further = f64::from(u32::try_from(wards.saturating_sub(3)).unwrap_or(u32::MAX));
        let cpu =
            limits.cpu_per_hour.as_secs_f64() + further * limits.cpu_per_further_ward.as_secs_f64();
        let written =
            to_f64(limits.written_per_hour) + further * to_f64(limits.written_per_further_ward);
        let shares = [
            figures.cpu_seconds_per_hour / cpu,
            figures.written_per_hour.unwrap_or(0.0) / written,
            figures.transactions_per_hour / limits.transactions_per_hour,
            figures.wakeups_per_second.unwrap_or(0.0) / limits.wakeups_per_second,
        ];
        shares.into_iter().fold(0.0, f64::max)
    }

    fn step(&mut self, used: f64) {
        self.over = if used > 1.0 { self.over + 1 } else { 0 };
        self.below = if used < BELOW { self.below + 1 } else { 0 };
        if self.over >= LOOKS_OVER {
            self.over = 0;
            self.throttle = match self.throttle {
                Throttle::None => Throttle::Longer,
                Throttle::Longer | Throttle::Fewer => Throttle::Fewer,
            };
        }
        if self.below >= LOOKS_BELOW {
            self.below = 0;
            self.throttle = match self.throttle {
                Throttle::None | Throttle::Longer => Throttle::None,
                Throttle::Fewer => Throttle::Longer,
            };
        }
    }
}

fn rates(span: Duration, before: &OwnCounters, now: &OwnCounters) -> OwnFigures {
    let seconds = span.as_secs_f64();
    let hours = seconds / 3_600.0;
    let rise = |before: Option<u64>, now: Option<u64>| Some(to_f64(now?.saturating_sub(before?)));
    let transactions = now.transactions.saturating_sub(before.transactions);
    OwnFigures {
        span,
        cpu_seconds_per_hour: now.cpu.saturating_sub(before.cpu).as_secs_f64() / hours,
        rss_bytes: now.rss_bytes,
        written_per_hour: rise(before.written_bytes, now.written_bytes).map(|rise| rise / hours),
        transactions_per_hour: to_f64(transactions) / hours,
        wakeups_per_second: rise(before.wakeups, now.wakeups).map(|rise| rise / seconds),
        used: 0.0,
        shed: false,
        throttle: Throttle::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Scene {
        budget: Budget,
        now: Instant,
        counters: OwnCounters,
    }

    impl Scene {
        fn new() -> Scene {
            let counters = OwnCounters {
                rss_bytes: Some(4 << 20),
                written_bytes: Some(1 << 30),
                wakeups: Some(77),
                ..OwnCounters::default()
            };
            let mut budget = Budget::new(BudgetLimits::default());
            let now = Instant::now();
            budget.observe(now, counters, 3);
            Scene { budget, now, counters }
        }

        /// A minute in which we used this many milliseconds.
        fn minute(&mut self, cpu_ms: u64, wards: usize) -> OwnFigures {
            self.now += Duration::from_secs(60);
            self.counters.cpu += Duration::from_millis(cpu_ms);
            self.counters.written_bytes = self.counters.written_bytes.map(|bytes| bytes + 10_000);
            self.counters.wakeups = self.counters.wakeups.map(|wakeups| wakeups + 60);
            self.counters.transactions += 1;
            self.budget.observe(self.now, self.counters, wards)
        }
    }

    #[test]
    fn figures_are_rates_of_the_last_ten_minutes() {
        let mut scene = Scene::new();
        for _ in 0..30 {
            scene.minute(100, 3);
        }
        for _ in 0..10 {
            scene.minute(5, 3);
        }
        let figures = scene.minute(5, 3);
        assert!((figures.cpu_seconds_per_hour - 0.3).abs() < 1e-9, "{figures:?}");
        assert!((figures.transactions_per_hour - 60.0).abs() < 1e-6);
        assert!((figures.written_per_hour.unwrap() - 600_000.0).abs() < 1e-3);
        assert!((figures.wakeups_per_second.unwrap() - 1.0).abs() < 1e-9);
        assert_eq!(figures.span, SPAN);
    }

    #[test]
    fn over_the_budget_it_throttles_in_steps_and_comes_back_slowly() {
        let mut scene = Scene::new();
        let over: Vec<Throttle> = (0..7).map(|_| scene.minute(50, 3).throttle).collect();
        use Throttle::{Fewer, Longer, None};
        assert_eq!(over, [None, None, Longer, Longer, Longer, Fewer, Fewer]);
        let mut seen: Vec<Throttle> = (0..60).map(|_| scene.minute(1, 3).throttle).collect();
        assert_eq!(seen[8], Fewer);
        seen.dedup();
        // Wake-ups and transactions are within, but not well below: it stays.
        assert_eq!(seen, [Fewer]);
        scene.budget.limits.wakeups_per_second = 5.0;
        scene.budget.limits.transactions_per_hour = 500.0;
        scene.budget.limits.written_per_hour = 10 << 20;
        let mut seen: Vec<Throttle> = (0..60).map(|_| scene.minute(1, 3).throttle).collect();
        seen.dedup();
        assert_eq!(seen, [Fewer, Longer, None]);
    }

    #[test]
    fn more_wards_may_cost_more_and_memory_asks_for_shedding() {
        let mut scene = Scene::new();
        assert!((0..9).all(|_| scene.minute(40, 20).throttle == Throttle::None));
        scene.counters.rss_bytes = Some(9 << 20);
        assert!(scene.minute(1, 3).shed);
        scene.counters.rss_bytes = None;
        assert!(!scene.minute(1, 3).shed);
    }

    #[test]
    fn fewer_series_leave_processor_and_memory() {
        let settings = SamplerSettings::default();
        assert_eq!(Throttle::Longer.apply(settings), settings);
        let fewer = Throttle::Fewer.apply(settings);
        assert_eq!(fewer.io_every, Duration::from_secs(60));
        assert!(fewer.taken_every > settings.taken_every && fewer.host_every > settings.host_every);
    }

    #[test]
    fn our_own_counters_rise_with_what_we_do() {
        let before = OwnMeter::Process.read(0);
        let mut busy = 0u64;
        let until = Instant::now() + Duration::from_millis(60);
        while Instant::now() < until {
            busy = std::hint::black_box(busy.wrapping_add(1));
        }
        let after = OwnMeter::Process.read(3);
        assert!(after.cpu > before.cpu && after.transactions == 3, "{before:?} {after:?}");
        assert!(after.rss_bytes.is_some_and(|rss| rss > 1 << 20));
        let thread = OwnMeter::Thread.read(0);
        assert_eq!((thread.rss_bytes, thread.written_bytes), (None, None));
        assert!(thread.cpu > Duration::from_millis(1));
    }
}
