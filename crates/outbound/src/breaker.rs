//! The circuit breaker of one target: a pure state machine that takes the time as an argument. It knows
//! no network; the caller reports how calls ended.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// When the breaker opens and how it closes again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BreakerOptions {
    /// Opens after this many failures in a row (guessed).
    pub failures_in_a_row: u32,
    /// Opens when at least this share of the calls in the window failed, 0 to 1.
    pub failure_ratio: f64,
    /// The share counts only with at least this many calls in the window.
    pub calls_min: u32,
    /// The length of the window.
    pub window: Duration,
    /// How long it stays open the first time; doubles with each failed trial.
    pub open_for: Duration,
    /// The longest it stays open between two trials.
    pub open_for_max: Duration,
    /// Successful trials it takes to close.
    pub trials: u32,
}

impl Default for BreakerOptions {
    fn default() -> BreakerOptions {
        BreakerOptions {
            failures_in_a_row: 5,
            failure_ratio: 0.5,
            calls_min: 20,
            window: Duration::from_secs(30),
            open_for: Duration::from_secs(5),
            open_for_max: Duration::from_secs(60),
            trials: 2,
        }
    }
}

/// What the breaker lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BreakerState {
    /// Everything.
    Closed,
    /// Nothing, until the time is up.
    Open,
    /// One call at a time, to see whether the target is back.
    HalfOpen,
}

impl BreakerState {
    /// The name in views, metrics and logs.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            BreakerState::Closed => "closed",
            BreakerState::Open => "open",
            BreakerState::HalfOpen => "half_open",
        }
    }
}

/// The answer to "may I call?".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// Call, and report with this ticket.
    Go(Ticket),
    /// Do not call; ask again after this long.
    Wait(Duration),
}

/// Which period of the breaker a call belongs to. Reports of calls that began before the last change
/// of state say nothing about the target now and are ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    period: u64,
}

/// How a call ended, as far as the health of the target goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallEnd {
    /// It answered (whatever it said).
    Answered,
    /// It did not: no connection, too slow, or an error of its own.
    Failed,
    /// The call was given up by our side; says nothing.
    Abandoned,
}

#[derive(Debug)]
enum State {
    Closed,
    Open { until: Instant },
    HalfOpen { succeeded: u32, in_flight: bool },
}

/// See the module.
#[derive(Debug)]
pub struct Breaker {
    options: BreakerOptions,
    state: State,
    period: u64,
    in_a_row: u32,
    /// Calls in the window: when, and whether failed. Bounded by `CALLS_MAX`.
    calls: VecDeque<(Instant, bool)>,
    failed_in_window: u32,
    /// How often it opened without closing in between.
    openings: u32,
}

/// Calls remembered for the ratio; older ones leave first (guessed: 30 s of a busy target).
const CALLS_MAX: usize = 512;

/// While half open and a trial is running, others ask again after this long.
const TRIAL_PAUSE: Duration = Duration::from_millis(100);

impl Breaker {
    /// Closed.
    #[must_use]
    pub fn new(options: BreakerOptions) -> Breaker {
        Breaker {
            options,
            state: State::Closed,
            period: 0,
            in_a_row: 0,
            calls: VecDeque::new(),
            failed_in_window: 0,
            openings: 0,
        }
    }

    /// What it lets through at `now`.
    #[must_use]
    pub fn state(&self, now: Instant) -> BreakerState {
        match self.state {
            State::Closed => BreakerState::Closed,
            State::Open { until } if now < until => BreakerState::Open,
            State::Open { .. } | State::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    /// How long it stays open yet; zero unless open.
    #[must_use]
    pub fn open_for(&self, now: Instant) -> Duration {
        match self.state {
            State::Open { until } => until.saturating_duration_since(now),
            State::Closed | State::HalfOpen { .. } => Duration::ZERO,
        }
    }

    /// Failures since the last success.
    #[must_use]
    pub fn failures_in_a_row(&self) -> u32 {
        self.in_a_row
    }

    /// Asks to call. Every `Go` must be answered by one [`Breaker::report`].
    pub fn ask(&mut self, now: Instant) -> Permission {
        if let State::Open { until } = self.state {
            if now < until {
                return Permission::Wait(until - now);
            }
            self.enter(State::HalfOpen { succeeded: 0, in_flight: false });
        }
        if let State::HalfOpen { in_flight, .. } = &mut self.state {
            if *in_flight {
                return Permission::Wait(TRIAL_PAUSE);
            }
            *in_flight = true;
        }
        Permission::Go(Ticket { period: self.period })
    }

    /// Tells how a call ended.
    pub fn report(&mut self, ticket: Ticket, end: CallEnd, now: Instant) {
        if ticket.period != self.period {
            return;
        }
        match end {
            CallEnd::Answered => self.in_a_row = 0,
            CallEnd::Failed => self.in_a_row = self.in_a_row.saturating_add(1),
            CallEnd::Abandoned => {
                if let State::HalfOpen { in_flight, .. } = &mut self.state {
                    *in_flight = false;
                }
                return;
            }
        }
        match &mut self.state {
            State::Closed => {
                self.remember(now, end == CallEnd::Failed);
                if self.should_open() {
                    self.open(now);
                }
            }
            State::HalfOpen { succeeded, in_flight } => {
                *in_flight = false;
                if end == CallEnd::Failed {
                    self.open(now);
                } else {
                    *succeeded += 1;
                    if *succeeded >= self.options.trials {
                        self.close();
                    }
                }
            }
            State::Open { .. } => {}
        }
    }

    /// An operator closes it by hand.
    pub fn reset(&mut self) {
        self.close();
    }

    fn close(&mut self) {
        self.enter(State::Closed);
        self.openings = 0;
        self.in_a_row = 0;
        self.calls.clear();
        self.failed_in_window = 0;
    }

    fn open(&mut self, now: Instant) {
        let factor = 1_u32.checked_shl(self.openings).unwrap_or(u32::MAX);
        let length = self.options.open_for.saturating_mul(factor).min(self.options.open_for_max);
        self.openings = self.openings.saturating_add(1);
        self.enter(State::Open { until: now + length });
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.period += 1;
    }

    fn remember(&mut self, now: Instant, failed: bool) {
        while let Some((at, was_failed)) = self.calls.front().copied() {
            let is_old = now.saturating_duration_since(at) > self.options.window;
            if !is_old && self.calls.len() < CALLS_MAX {
                break;
            }
            self.calls.pop_front();
            self.failed_in_window -= u32::from(was_failed);
        }
        self.calls.push_back((now, failed));
        self.failed_in_window += u32::from(failed);
    }

    fn should_open(&self) -> bool {
        let calls = u32::try_from(self.calls.len()).unwrap_or(u32::MAX);
        let by_ratio = calls >= self.options.calls_min
            && f64::from(self.failed_in_window) >= self.options.failure_ratio * f64::from(calls);
        self.in_a_row >= self.options.failures_in_a_row || by_ratio
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn go(breaker: &mut Breaker, now: Instant) -> Ticket {
        match breaker.ask(now) {
            Permission::Go(ticket) => ticket,
            Permission::Wait(wait) => panic!("told to wait {wait:?}"),
        }
    }

    fn call(breaker: &mut Breaker, now: Instant, end: CallEnd) {
        let ticket = go(breaker, now);
        breaker.report(ticket, end, now);
    }

    fn opened(now: Instant) -> Breaker {
        let mut breaker = Breaker::new(BreakerOptions::default());
        for _ in 0..5 {
            call(&mut breaker, now, CallEnd::Failed);
        }
        assert_eq!(breaker.state(now), BreakerState::Open);
        breaker
    }

    #[test]
    fn failures_in_a_row_open_it_and_a_success_starts_the_count_again() {
        let now = Instant::now();
        let mut breaker = Breaker::new(BreakerOptions::default());
        for _ in 0..4 {
            call(&mut breaker, now, CallEnd::Failed);
        }
        call(&mut breaker, now, CallEnd::Answered);
        for _ in 0..4 {
            call(&mut breaker, now, CallEnd::Failed);
        }
        assert_eq!(breaker.state(now), BreakerState::Closed);
        call(&mut breaker, now, CallEnd::Failed);
        assert_eq!(breaker.state(now), BreakerState::Open);
        assert_eq!(breaker.ask(now), Permission::Wait(Duration::from_secs(5)));
    }

    #[test]
    fn half_of_the_calls_in_the_window_failing_opens_it() {
        let start = Instant::now();
        let mut breaker = Breaker::new(BreakerOptions::default());
        for i in 0..19 {
            let end = if i % 2 == 0 { CallEnd::Failed } else { CallEnd::Answered };
            call(&mut breaker, start, end);
        }
        assert_eq!(breaker.state(start), BreakerState::Closed);
        call(&mut breaker, start, CallEnd::Failed);
        assert_eq!(breaker.state(start), BreakerState::Open);
    }

    #[test]
    fn failures_outside_the_window_do_not_count_for_the_ratio() {
        let start = Instant::now();
        let mut breaker = Breaker::new(BreakerOptions::default());
        for i in 0..19 {
            let end = if i % 2 == 0 { CallEnd::Failed } else { CallEnd::Answered };
            call(&mut breaker, start, end);
        }
        let later = start + Duration::from_secs(31);
        call(&mut breaker, later, CallEnd::Failed);
        assert_eq!(breaker.state(later), BreakerState::Closed);
    }

    #[test]
    fn after_the_pause_one_trial_at_a_time_goes_and_two_successes_close_it() {
        let start = Instant::now();
        let mut breaker = opened(start);
        let later = start + Duration::from_secs(5);
        let trial = go(&mut breaker, later);
        assert_eq!(breaker.state(later), BreakerState::HalfOpen);
        assert!(matches!(breaker.ask(later), Permission::Wait(_)));
        breaker.report(trial, CallEnd::Answered, later);
        assert_eq!(breaker.state(later), BreakerState::HalfOpen);
        call(&mut breaker, later, CallEnd::Answered);
        assert_eq!(breaker.state(later), BreakerState::Closed);
    }

    #[test]
    fn each_failed_trial_doubles_the_pause_up_to_the_limit() {
        let mut now = Instant::now();
        let mut breaker = opened(now);
        for seconds in [10, 20, 40, 60, 60] {
            now += Duration::from_secs(60);
            call(&mut breaker, now, CallEnd::Failed);
            assert_eq!(breaker.open_for(now), Duration::from_secs(seconds));
        }
    }

    #[test]
    fn an_abandoned_trial_makes_room_for_the_next() {
        let start = Instant::now();
        let mut breaker = opened(start);
        let later = start + Duration::from_secs(5);
        call(&mut breaker, later, CallEnd::Abandoned);
        assert_eq!(breaker.state(later), BreakerState::HalfOpen);
        call(&mut breaker, later, CallEnd::Answered);
    }

    #[test]
    fn reports_of_calls_from_before_the_opening_are_ignored() {
        let start = Instant::now();
        let mut breaker = Breaker::new(BreakerOptions::default());
        let old = go(&mut breaker, start);
        for _ in 0..5 {
            call(&mut breaker, start, CallEnd::Failed);
        }
        let later = start + Duration::from_secs(5);
        let trial = go(&mut breaker, later);
        breaker.report(old, CallEnd::Failed, later);
        assert_eq!(breaker.state(later), BreakerState::HalfOpen);
        breaker.report(trial, CallEnd::Answered, later);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Ask,
        Report(usize, CallEnd),
        Pass(u64),
        Reset,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let end = prop_oneof![
            3 => Just(CallEnd::Failed),
            2 => Just(CallEnd::Answered),
            1 => Just(CallEnd::Abandoned)
        ];
        let step = prop_oneof![
            5 => Just(Step::Ask),
            5 => (0_usize..8, end).prop_map(|(which, end)| Step::Report(which, end)),
            3 => (0_u64..20_000).prop_map(Step::Pass),
            1 => Just(Step::Reset),
        ];
        proptest::collection::vec(step, 0..200)
    }

    proptest! {
        #[test]
        fn whatever_happens_it_never_passes_calls_while_open_and_never_sticks(steps in steps()) {
            let options = BreakerOptions { calls_min: 6, ..BreakerOptions::default() };
            let mut breaker = Breaker::new(options);
            let mut now = Instant::now();
            let mut tickets: Vec<Ticket> = Vec::new();
            for step in steps {
                match step {
                    Step::Ask => {
                        let before = breaker.state(now);
                        match breaker.ask(now) {
                            Permission::Go(ticket) => {
                                prop_assert_ne!(before, BreakerState::Open);
                                tickets.push(ticket);
                            }
                            Permission::Wait(wait) => {
                                prop_assert_ne!(before, BreakerState::Closed);
                                prop_assert!(wait > Duration::ZERO);
                                prop_assert!(wait <= options.open_for_max);
                            }
                        }
                        let current = tickets.iter().filter(|t| t.period == breaker.period).count();
                        if breaker.state(now) == BreakerState::HalfOpen {
                            prop_assert!(current <= 1, "{current} trials at once");
                        }
                    }
                    Step::Report(which, end) if !tickets.is_empty() => {
                        let ticket = tickets.swap_remove(which % tickets.len());
                        breaker.report(ticket, end, now);
                    }
                    Step::Report(..) => {}
                    Step::Pass(ms) => now += Duration::from_millis(ms),
                    Step::Reset => {
                        breaker.reset();
                        prop_assert_eq!(breaker.state(now), BreakerState::Closed);
                    }
                }
                prop_assert!(breaker.calls.len() <= CALLS_MAX);
                let failed = breaker.calls.iter().filter(|(_, failed)| *failed).count();
                prop_assert_eq!(failed, usize::try_from(breaker.failed_in_window).unwrap());
            }
            // Once everything in flight is reported and the pause is over, good answers close it.
            for ticket in tickets { breaker.report(ticket, CallEnd::Abandoned, now); }
            now += options.open_for_max;
            for _ in 0..options.trials { call(&mut breaker, now, CallEnd::Answered); }
            prop_assert_eq!(breaker.state(now), BreakerState::Closed);
        }
    }
}
