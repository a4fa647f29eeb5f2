//! Who is told what happened to wards, in which shape. Pure: notices and the time in, messages for the outbox
//! out. Delivery, signatures and addresses are the relay's.
//!
//! `text` makes strangers' words harmless and short enough, `template` puts an operator's words around
//! them, `shape` knows what each kind of receiver takes.

mod shape;
mod template;
#[cfg(test)]
mod tests;
mod text;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use naru_domain::Timestamp;
use naru_domain::ports::{OutboxDropped, OutboxMessage, Weight};

pub use template::{Template, TemplateError};

use crate::model::{Severity, WardName};

/// Receivers at most: as many as one relay delivers to.
pub const RECEIVERS_MAX: usize = 64;
/// Facts of one notice that are told; further ones are left out (Discord takes 25 fields).
pub const FACTS_MAX: usize = 20;
/// The kind of the notice that notices were lost.
pub const NOTICES_LOST: &str = "notices_lost";

/// Something happened that somebody may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// To which ward; `None` is the machine, or Naru itself.
    pub ward: Option<WardName>,
    /// What kind of event, such as `crashed` or `restarted`: `a-z`, `0-9`, `_`.
    pub kind: Cow<'static, str>,
    /// How much it matters.
    pub severity: Severity,
    /// One line.
    pub title: String,
    /// What happened, how unusual that is, what to do. May be empty.
    pub text: String,
    /// Figures and names, in the order in which they are shown.
    pub facts: Vec<(Cow<'static, str>, String)>,
    /// When it happened.
    pub at: Timestamp,
}

/// What a receiver understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// A Discord webhook.
    Discord,
    /// A Slack incoming webhook.
    Slack,
    /// Our own JSON, described in `docs/guide/ward-webhooks.md`.
    Generic,
}

/// Which notices a receiver gets. An empty list is all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Kinds; `crash*` means all that begin so.
    pub kinds: Vec<String>,
    /// Wards. A list leaves out notices without a ward.
    pub wards: Vec<WardName>,
    /// The least severity.
    pub severity_min: Severity,
}

impl Default for Filter {
    fn default() -> Filter {
        Filter { kinds: Vec::new(), wards: Vec::new(), severity_min: Severity::Info }
    }
}

impl Filter {
    /// Whether it lets this notice through.
    #[must_use]
    pub fn takes(&self, notice: &Notice) -> bool {
        let fits = |kind: &String| match kind.strip_suffix('*') {
            Some(start) => notice.kind.starts_with(start),
            None => *kind == *notice.kind,
        };
        notice.severity >= self.severity_min
            && (self.kinds.is_empty() || self.kinds.iter().any(fits))
            && (self.wards.is_empty()
                || notice.ward.as_ref().is_some_and(|ward| self.wards.contains(ward)))
    }
}

/// An operator's words for one kind of notice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words {
    /// In place of the title.
    pub title: Option<Template>,
    /// In place of the text.
    pub text: Option<Template>,
}

/// Somebody who is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receiver {
    /// The name of its target in the relay, 1 to 64 bytes.
    pub name: Arc<str>,
    /// What it understands.
    pub form: Form,
    /// What it gets.
    pub filter: Filter,
    /// Words by kind of notice; `*` is for those that are not named.
    pub words: BTreeMap<String, Words>,
}

/// How notices are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TellOptions {
    /// Notices of one kind about one ward are counted for so long after the first, and then told as one.
    pub gather: Duration,
    /// Kinds and wards that are counted at once; further ones are told each (guessed: 100 wards, 10 kinds).
    pub gathered_max: usize,
}

impl Default for TellOptions {
    fn default() -> TellOptions {
        TellOptions { gather: Duration::from_secs(60), gathered_max: 1_000 }
    }
}

/// Why receivers cannot be told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TellError {
    /// Too many.
    #[error("there are {count} receivers of notices, at most {RECEIVERS_MAX} are possible")]
    TooMany {
        /// How many.
        count: usize,
    },
    /// A name is used twice, or has the wrong length.
    #[error("the receiver's name `{name}` is used twice, or has not 1 to 64 bytes")]
    Name {
        /// Which.
        name: String,
    },
}

type Key = (Option<WardName>, Cow<'static, str>);

/// Notices of one kind about one ward that are being counted.
#[derive(Debug)]
struct Gathering {
    until: Timestamp,
    severity: Severity,
    /// How many came since the last one that was told, and the newest of them.
    repeated: u32,
    newest: Option<Notice>,
}

/// Turns notices into messages. See the module.
#[derive(Debug)]
pub struct Teller {
    receivers: Vec<Receiver>,
    options: TellOptions,
    life: u64,
    told: u64,
    gathering: HashMap<Key, Gathering>,
}

impl Teller {
    /// `life` is random: with a count it makes the ids of messages, which no other life may use again.
    pub fn new(
        receivers: Vec<Receiver>,
        options: TellOptions,
        life: u64,
    ) -> Result<Teller, TellError> {
        if receivers.len() > RECEIVERS_MAX {
            return Err(TellError::TooMany { count: receivers.len() });
        }
        for (at, receiver) in receivers.iter().enumerate() {
            let is_twice = receivers[..at].iter().any(|other| other.name == receiver.name);
            if is_twice || !(1..=OutboxMessage::TARGET_BYTES_MAX).contains(&receiver.name.len()) {
                return Err(TellError::Name { name: receiver.name.to_string() });
            }
        }
        Ok(Teller { receivers, options, life, told: 0, gathering: HashMap::new() })
    }

    /// The messages that this notice makes now. One that repeats another is counted instead, unless it is
    /// more severe.
    pub fn tell(&mut self, notice: Notice, now: Timestamp) -> Vec<OutboxMessage> {
        let key = (notice.ward.clone(), notice.kind.clone());
        if let Some(gathering) = self.gathering.get_mut(&key) {
            gathering.repeated = gathering.repeated.saturating_add(1);
            if notice.severity <= gathering.severity {
                gathering.newest = Some(notice);
                return Vec::new();
            }
            let before = std::mem::take(&mut gathering.repeated) - 1;
            gathering.severity = notice.severity;
            gathering.newest = None;
            return self.messages(&notice, before);
        }
        if self.gathering.len() < self.options.gathered_max {
            let until = now.plus(self.options.gather);
            let severity = notice.severity;
            let gathering = Gathering { until, severity, repeated: 0, newest: None };
            self.gathering.insert(key, gathering);
        }
        self.messages(&notice, 0)
    }

    /// What was counted long enough by now.
    pub fn due(&mut self, now: Timestamp) -> Vec<OutboxMessage> {
        let latest = now.plus(self.options.gather);
        // A clock that was set back must not make anybody wait for longer.
        self.take(|gathering| gathering.until <= now || gathering.until > latest, Some(latest))
    }

    /// Everything that was counted: when Naru stops.
    pub fn flush(&mut self) -> Vec<OutboxMessage> {
        self.take(|_| true, None)
    }

    /// When to ask for what is [due](Teller::due); `None` while nothing is counted.
    #[must_use]
    pub fn next_wake(&self) -> Option<Timestamp> {
        self.gathering.values().map(|gathering| gathering.until).min()
    }

    /// Says once to everybody that messages for one receiver were lost.
    pub fn lost(&mut self, dropped: &OutboxDropped, now: Timestamp) -> Vec<OutboxMessage> {
        if !dropped.is_first {
            return Vec::new();
        }
        let notice = Notice {
            ward: None,
            kind: Cow::Borrowed(NOTICES_LOST),
            severity: Severity::Warning,
            title: "Notices are being lost".to_owned(),
            text: "A receiver has not answered for so long that its oldest notices are dropped. Until it \
                   answers again this is said once only; the counts are in the metrics."
                .to_owned(),
            facts: vec![(Cow::Borrowed("receiver"), dropped.target.to_string())],
            at: now,
        };
        self.messages(&notice, 0)
    }

    /// Ends gatherings. Those that counted something are told and, with `again`, go on until then.
    fn take(
        &mut self,
        is_over: impl Fn(&Gathering) -> bool,
        again: Option<Timestamp>,
    ) -> Vec<OutboxMessage> {
        let mut told = Vec::new();
        self.gathering.retain(|_, gathering| {
            if !is_over(gathering) {
                return true;
            }
            let repeated = std::mem::take(&mut gathering.repeated);
            let Some(notice) = gathering.newest.take() else { return false };
            gathering.severity = notice.severity;
            told.push((notice, repeated));
            if let Some(again) = again {
                gathering.until = again;
            }
            again.is_some()
        });
        // The table has no order; what happened has.
        told.sort_by(|(a, _), (b, _)| (a.at, &a.kind, &a.ward).cmp(&(b.at, &b.kind, &b.ward)));
        told.iter().flat_map(|(notice, repeated)| self.messages(notice, *repeated)).collect()
    }

    /// `repeated`: how many like it were counted since the last one was told, itself included if it was.
    fn messages(&mut self, notice: &Notice, repeated: u32) -> Vec<OutboxMessage> {
        let mut messages = Vec::new();
        for receiver in self.receivers.iter().filter(|each| each.filter.takes(notice)) {
            self.told += 1;
            let words = receiver.words.get(&*notice.kind).or_else(|| receiver.words.get("*"));
            let body = shape::body(receiver.form, notice, words, repeated);
            messages.push(OutboxMessage {
                id: Arc::from(format!("{:016x}-{:x}", self.life, self.told)),
                target: Arc::clone(&receiver.name),
                weight: match notice.severity {
                    Severity::Info => Weight::Info,
                    Severity::Warning | Severity::Critical => Weight::Important,
                },
                at: notice.at,
                body: Bytes::from(body),
            });
        }
        messages
    }
}
