//! How often and how fast a ward is started again: a rolling budget, and pauses that grow.

use std::time::Duration;

use naru_domain::Timestamp;
use serde::{Deserialize, Serialize};

use super::policy::RestartPolicy;

/// The largest budget that is kept; a larger `tries` acts like this one.
const TRIES_MAX: usize = 100;

/// The restarts of late.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// When they were decided, in milliseconds, oldest first.
    restarts: Vec<i64>,
    /// How many there were since the ward was last stable: the pause grows with it.
    in_a_row: u32,
}

impl Budget {
    /// How many restarts are left; none if there is no bound.
    #[must_use]
    pub fn left(&self, now: Timestamp, policy: &RestartPolicy) -> Option<u32> {
        if policy.endless {
            return None;
        }
        let used = self.restarts.iter().filter(|at| counts(**at, now, policy)).count();
        Some(policy.tries.saturating_sub(u32::try_from(used).unwrap_or(u32::MAX)))
    }

    /// The longest pause before the next restart. The pause itself is anything up to it ("full jitter"), so
    /// that many wards that fell together do not rise together.
    #[must_use]
    pub fn pause_max(&self, policy: &RestartPolicy) -> Duration {
        let factor = 1_u32.checked_shl(self.in_a_row.min(31)).unwrap_or(u32::MAX);
        policy.first.saturating_mul(factor).min(policy.longest)
    }

    /// Takes one restart, and says after which pause; `None` if none is left.
    pub(super) fn spend(
        &mut self,
        now: Timestamp,
        policy: &RestartPolicy,
        dice: u64,
    ) -> Option<Duration> {
        if self.left(now, policy) == Some(0) {
            return None;
        }
        self.restarts.retain(|at| counts(*at, now, policy));
        if self.restarts.len() >= TRIES_MAX {
            self.restarts.remove(0);
        }
        self.restarts.push(now.0);
        let longest = self.pause_max(policy);
        self.in_a_row = self.in_a_row.saturating_add(1);
        let share = u32::try_from(dice >> 32).unwrap_or(u32::MAX);
        Some(longest.mul_f64(f64::from(share) / f64::from(u32::MAX)))
    }

    /// The last restart was none after all.
    pub(super) fn refund(&mut self) {
        self.restarts.pop();
        self.in_a_row = self.in_a_row.saturating_sub(1);
    }

    /// It ran long enough: pauses begin anew.
    pub(super) fn was_stable(&mut self) {
        self.in_a_row = 0;
    }

    /// A person looked at it.
    pub(super) fn refill(&mut self) {
        *self = Budget::default();
    }

    /// The wall's clock was set.
    pub(super) fn shift(&mut self, by_ms: i64) {
        for at in &mut self.restarts {
            *at = at.saturating_add(by_ms);
        }
    }
}

/// A restart of the future (the clock was set back while Naru was away) counts.
fn counts(at: i64, now: Timestamp, policy: &RestartPolicy) -> bool {
    now.since(Timestamp(at)) < policy.window
}
