//! Whether a server that lives still works. It counts silence only while silence means something.

use std::time::Duration;

use super::exchange::CpuState;
use super::exit::{About, Reason};
use super::policy::HangPolicy;

/// What is known of a running server's answers.
#[derive(Clone, Debug, Default)]
pub(super) struct HangWatch {
    /// Silent since then, or excused until then.
    silent_since: Duration,
    misses: u32,
    /// It answered once since it was started.
    answered: bool,
    cpu: Option<CpuState>,
    frozen: Option<Frozen>,
}

/// It answers, but its world stands still.
#[derive(Clone, Debug)]
struct Frozen {
    what: &'static str,
    since: Duration,
    reports: u32,
}

/// How a hang shows, which decides what ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// No answers.
    Silent,
    /// Answers, but nothing moves.
    Frozen,
}

impl HangWatch {
    /// A process that is ready from now on.
    pub(super) fn begin(&mut self, now: Duration, answered: bool) {
        *self = HangWatch { silent_since: now, answered, cpu: self.cpu, ..HangWatch::default() };
    }

    /// What was silent until now had an excuse: a save, a machine that slept, we ourselves came too late.
    pub(super) fn excuse(&mut self, until: Duration) {
        self.silent_since = self.silent_since.max(until);
        self.misses = 0;
        if let Some(frozen) = &mut self.frozen {
            frozen.since = frozen.since.max(until);
            frozen.reports = 0;
        }
    }

    /// It answered. True if for the first time.
    pub(super) fn answer(&mut self, now: Duration) -> bool {
        self.silent_since = now;
        self.misses = 0;
        !std::mem::replace(&mut self.answered, true)
    }

    pub(super) fn miss(&mut self) {
        self.misses = self.misses.saturating_add(1);
    }

    pub(super) fn cpu(&mut self, state: CpuState) {
        self.cpu = Some(state);
    }

    /// Its ticks or its uptime stand still since `span` ago.
    pub(super) fn freeze(&mut self, now: Duration, what: &'static str, span: Duration) {
        let frozen =
            self.frozen.get_or_insert(Frozen { what, since: now.saturating_sub(span), reports: 0 });
        frozen.reports = frozen.reports.saturating_add(1);
    }

    pub(super) fn thaw(&mut self) {
        self.frozen = None;
    }

    /// Whether it hangs, and why we think so.
    pub(super) fn check(&self, now: Duration, policy: &HangPolicy) -> Option<(Sign, Vec<Reason>)> {
        if !policy.enabled {
            return None;
        }
        if let Some(frozen) = &self.frozen {
            // A single report may be a measurement that fell into one long tick.
            let still = now.saturating_sub(frozen.since);
            if frozen.reports >= 2 && still >= policy.silence {
                let text = format!("{} stand still for {} s", frozen.what, still.as_secs());
                return Some((Sign::Frozen, vec![Reason::new(About::Evidence, text)]));
            }
        }
        let bound = self.bound(policy)?;
        let silent = now.saturating_sub(self.silent_since);
        if silent < bound {
            return None;
        }
        let text = format!("no answer for {} s, {} tries", silent.as_secs(), self.misses);
        let mut reasons = vec![Reason::new(About::Evidence, text)];
        reasons.extend(match self.cpu {
            Some(CpuState::Paused) => {
                Some(Reason::new(About::Evidence, "the process is stopped by a signal (state T)"))
            }
            Some(CpuState::Still) => Some(Reason::new(About::Evidence, "it uses no CPU time")),
            Some(CpuState::Moving) => Some(Reason::new(
                About::Policy,
                "it uses CPU time, but its profile counts silence alone",
            )),
            None => None,
        });
        Some((Sign::Silent, reasons))
    }

    /// When it would count as hung if nothing is heard.
    pub(super) fn due(&self, policy: &HangPolicy) -> Option<Duration> {
        let silent = self.bound(policy).map(|bound| self.silent_since.saturating_add(bound));
        policy.enabled.then_some(silent).flatten()
    }

    /// How long the silence may be; none while silence proves nothing.
    fn bound(&self, policy: &HangPolicy) -> Option<Duration> {
        if !self.answered || self.misses < policy.misses {
            return None;
        }
        match self.cpu {
            Some(CpuState::Still | CpuState::Paused) => Some(policy.silence),
            Some(CpuState::Moving) | None => {
                policy.busy_silence.map(|busy| busy.max(policy.silence))
            }
        }
    }
}
