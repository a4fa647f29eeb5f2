//! The API's log levels, on the policy that the binary installed.

use std::sync::Arc;
use std::time::Duration;

use naru_admin::{CategoryLevel, FocusLevel, LogControl, LogControlError, LogFocus};
use naru_domain::Clock;

use crate::logs::{LogError, LogPolicy, Subject};

/// Changes the levels of a [`LogPolicy`].
pub(crate) struct PolicyControl {
    policy: LogPolicy,
    clock: Arc<dyn Clock>,
}

impl PolicyControl {
    pub(crate) fn new(policy: LogPolicy, clock: Arc<dyn Clock>) -> PolicyControl {
        PolicyControl { policy, clock }
    }
}

impl LogControl for PolicyControl {
    fn levels(&self) -> Vec<CategoryLevel> {
        let levels = self.policy.levels().into_iter();
        levels.map(|(category, level)| CategoryLevel { category, level }).collect()
    }

    fn focused(&self) -> Vec<FocusLevel> {
        let now = self.clock.now();
        let looks = self.policy.looks().into_iter();
        looks
            .map(|(subject, level, left)| {
                let focus = match subject {
                    Subject::Bot(bot) => LogFocus::Bot(bot),
                    Subject::Session(session) => LogFocus::Session(session),
                };
                FocusLevel { focus, level, until: now.plus(left) }
            })
            .collect()
    }

    fn set(&self, category: &str, level: &str) -> Result<(), LogControlError> {
        // The full target is taken as well: that is what log lines show.
        let category = category.strip_prefix("naru::").unwrap_or(category);
        self.policy.set(category, level).map_err(refused)
    }

    fn set_for(
        &self,
        focus: LogFocus,
        level: &str,
        duration: Duration,
    ) -> Result<(), LogControlError> {
        let subject = match focus {
            LogFocus::Bot(bot) => Subject::Bot(bot),
            LogFocus::Session(session) => Subject::Session(session),
        };
        self.policy.look(subject, level, duration).map_err(refused)
    }
}

fn refused(error: LogError) -> LogControlError {
    match error {
        LogError::Category(_) => LogControlError::UnknownCategory,
        LogError::Level(_) => LogControlError::UnknownLevel,
        LogError::TooMany => LogControlError::TooMany,
    }
}
