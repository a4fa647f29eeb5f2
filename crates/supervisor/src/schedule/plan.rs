//! What one schedule is: what happens when, on which conditions, and who is told before. Plain data.

use std::sync::Arc;
use std::time::Duration;

use naru_domain::Timestamp;

use super::rule::Rule;
use crate::model::WardName;

/// What happens to a ward.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Stop it the game's way, and start it again.
    Restart,
    /// Start it.
    Start,
    /// Stop it the game's way.
    Stop,
    /// Back up its files.
    BackUp,
    /// Let the game save.
    Save,
    /// Tell the players.
    Announce(String),
    /// Type this into its console.
    Command(String),
}

impl Operation {
    /// The name in configuration, views and notices.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Operation::Restart => "restart",
            Operation::Start => "start",
            Operation::Stop => "stop",
            Operation::BackUp => "backup",
            Operation::Save => "save",
            Operation::Announce(_) => "announce",
            Operation::Command(_) => "command",
        }
    }

    /// Whether it takes time and needs the ward for itself.
    #[must_use]
    pub fn is_exclusive(&self) -> bool {
        !matches!(self, Operation::Announce(_) | Operation::Command(_))
    }

    /// Whether players lose their connection, so that they are told before.
    #[must_use]
    pub fn disturbs_players(&self) -> bool {
        matches!(self, Operation::Restart | Operation::Stop)
    }
}

/// What is known of a ward at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Facts {
    /// Players; `None` when nobody can say.
    pub players: Option<u32>,
    /// Memory of the game in bytes.
    pub memory_bytes: Option<u64>,
    /// How long the game has been up; `None` while it is not.
    pub uptime: Option<Duration>,
    /// Whether something that a person asked for is being done to it.
    pub is_busy: bool,
}

/// What has to hold. What nobody can say does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Nobody plays, or the game is not up.
    Empty,
    /// Fewer players than this, or the game is not up.
    PlayersBelow(u32),
    /// The game takes more memory than this.
    MemoryAbove(u64),
    /// The game has been up for longer than this.
    UptimeAbove(Duration),
}

impl Condition {
    /// Whether it holds.
    #[must_use]
    pub fn holds(self, facts: &Facts) -> bool {
        let fewer =
            |max| facts.uptime.is_none() || facts.players.is_some_and(|players| players < max);
        match self {
            Condition::Empty => fewer(1),
            Condition::PlayersBelow(max) => fewer(max),
            Condition::MemoryAbove(bytes) => facts.memory_bytes.is_some_and(|used| used > bytes),
            Condition::UptimeAbove(least) => facts.uptime.is_some_and(|uptime| uptime > least),
        }
    }
}

/// What follows when the conditions never held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Otherwise {
    /// It is left out this time.
    Skip,
    /// It happens all the same.
    Anyway,
}

/// How long to wait for conditions, holds and other operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// So long after the moment at which it was due.
    pub at_most: Duration,
    /// What follows then, if it was conditions that were waited for. Holds and other operations are never
    /// overridden.
    pub otherwise: Otherwise,
}

/// What becomes of moments that passed while Naru was down or asleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missed {
    /// They are left out.
    Skip,
    /// However many there were: once, now.
    RunOnce,
}

/// A schedule.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its name, 1 to [`Plan::NAME_BYTES_MAX`] bytes, no other plan's.
    pub name: Arc<str>,
    /// Whom it concerns.
    pub ward: WardName,
    /// What happens.
    pub operation: Operation,
    /// When.
    pub rule: Rule,
    /// All have to hold.
    pub conditions: Vec<Condition>,
    /// How long is waited for them.
    pub patience: Patience,
    /// How long before it happens players are told, if any are there: such as 15, 5 and 1 minutes.
    pub countdown: Vec<Duration>,
    /// What they are told: `{left}` is the time that is left.
    pub announcement: String,
    /// What becomes of missed moments.
    pub missed: Missed,
    /// Later than this is missed.
    pub late_max: Duration,
}

/// Why a plan was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A name is used twice, or has the wrong length.
    #[error(
        "the schedule's name `{name}` is used twice, or has not 1 to {} bytes",
        Plan::NAME_BYTES_MAX
    )]
    Name {
        /// Which.
        name: String,
    },
    /// Too many.
    #[error("there are {count} schedules, at most {} are possible", Plan::COUNT_MAX)]
    TooMany {
        /// How many.
        count: usize,
    },
    /// Too long a wait.
    #[error("{name}: it waits for at most a week")]
    Patience {
        /// Of which plan.
        name: String,
    },
    /// A countdown that makes no sense.
    #[error("{name}: a countdown has at most {} steps of up to a day", Plan::COUNTDOWN_MAX)]
    Countdown {
        /// Of which plan.
        name: String,
    },
}

const WEEK: Duration = Duration::from_secs(7 * 86_400);
const DAY: Duration = Duration::from_secs(86_400);

impl Plan {
    /// The longest name.
    pub const NAME_BYTES_MAX: usize = 64;
    /// Plans of one machine.
    pub const COUNT_MAX: usize = 1_000;
    /// Steps of one countdown.
    pub const COUNTDOWN_MAX: usize = 16;

    /// One without conditions and countdown, whose missed moments are left out.
    #[must_use]
    pub fn new(name: &str, ward: WardName, operation: Operation, rule: Rule) -> Plan {
        Plan {
            name: Arc::from(name),
            ward,
            operation,
            rule,
            conditions: Vec::new(),
            patience: Patience {
                at_most: Duration::from_secs(2 * 3_600),
                otherwise: Otherwise::Skip,
            },
            countdown: Vec::new(),
            announcement: "Restart in {left}.".to_owned(),
            missed: Missed::Skip,
            late_max: Duration::from_secs(300),
        }
    }

    pub(super) fn check(plans: &[Plan]) -> Result<(), PlanError> {
        if plans.len() > Plan::COUNT_MAX {
            return Err(PlanError::TooMany { count: plans.len() });
        }
        for (at, plan) in plans.iter().enumerate() {
            let name = || plan.name.to_string();
            let is_twice = plans[..at].iter().any(|other| other.name == plan.name);
            if is_twice || !(1..=Plan::NAME_BYTES_MAX).contains(&plan.name.len()) {
                return Err(PlanError::Name { name: name() });
            }
            if plan.patience.at_most > WEEK {
                return Err(PlanError::Patience { name: name() });
            }
            let is_long = plan.countdown.iter().any(|step| *step > DAY);
            if is_long || plan.countdown.len() > Plan::COUNTDOWN_MAX {
                return Err(PlanError::Countdown { name: name() });
            }
        }
        Ok(())
    }

    pub(super) fn countdown_length(&self) -> Duration {
        self.countdown.iter().max().copied().unwrap_or_default()
    }

    pub(super) fn holds(&self, facts: &Facts) -> bool {
        self.conditions.iter().all(|condition| condition.holds(facts))
    }

    /// The words of the countdown.
    pub(super) fn announce(&self, left: Duration) -> String {
        self.announcement.replace("{left}", &spoken(left))
    }
}

/// Days, hours, minutes or seconds, whichever are whole.
fn spoken(length: Duration) -> String {
    let seconds = length.as_secs();
    let (count, unit) = match seconds {
        s if s >= 3_600 && s.is_multiple_of(3_600) => (s / 3_600, "hour"),
        s if s >= 60 && s.is_multiple_of(60) => (s / 60, "minute"),
        s => (s, "second"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

/// A time in which nothing scheduled begins.
#[derive(Clone, Debug)]
pub struct Hold {
    /// Whom it concerns; `None` is everybody.
    pub ward: Option<WardName>,
    /// When.
    pub window: Window,
    /// Why, for people.
    pub reason: String,
}

/// When a hold is in force.
#[derive(Clone, Debug)]
pub enum Window {
    /// From then until then; `None` until it is lifted.
    Fixed {
        /// From.
        from: Timestamp,
        /// Until.
        until: Option<Timestamp>,
    },
    /// For so long after each moment of a rule.
    Recurring {
        /// Its beginnings.
        rule: Rule,
        /// Its length.
        length: Duration,
    },
}

impl Window {
    /// When it ends, if it is in force: `Some(None)` if nobody knows.
    #[must_use]
    pub fn in_force(&self, now: Timestamp) -> Option<Option<Timestamp>> {
        match self {
            Window::Fixed { from, until } => {
                let is_now = *from <= now && until.is_none_or(|until| now < until);
                is_now.then_some(*until)
            }
            Window::Recurring { rule, length } => {
                let begun = rule.last_within(now.minus(*length), now)?;
                Some(Some(begun.plus(*length)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_can_say_does_not_hold() {
        let up = Facts { uptime: Some(DAY), ..Facts::default() };
        let check = |condition: Condition, facts: Facts, expected| {
            assert_eq!(condition.holds(&facts), expected, "{condition:?} {facts:?}");
        };
        check(Condition::Empty, Facts { players: Some(0), ..up }, true);
        check(Condition::Empty, Facts { players: Some(1), ..up }, false);
        check(Condition::Empty, up, false);
        check(Condition::Empty, Facts::default(), true);
        check(Condition::PlayersBelow(3), Facts { players: Some(2), ..up }, true);
        check(Condition::PlayersBelow(3), Facts { players: Some(3), ..up }, false);
        check(Condition::MemoryAbove(10), Facts { memory_bytes: Some(11), ..up }, true);
        check(Condition::MemoryAbove(10), Facts { memory_bytes: Some(10), ..up }, false);
        check(Condition::MemoryAbove(10), up, false);
        check(Condition::UptimeAbove(WEEK), up, false);
        check(Condition::UptimeAbove(Duration::ZERO), up, true);
        check(Condition::UptimeAbove(Duration::ZERO), Facts::default(), false);
    }

    #[test]
    fn the_time_left_is_said_in_the_largest_whole_unit() {
        let check = |seconds, expected: &str| {
            assert_eq!(spoken(Duration::from_secs(seconds)), expected);
        };
        check(7_200, "2 hours");
        check(5_400, "90 minutes");
        check(60, "1 minute");
        check(30, "30 seconds");
    }
}
