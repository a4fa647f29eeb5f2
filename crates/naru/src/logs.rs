//! Logs: categories with levels that change while the server runs, and closer looks at one bot or one
//! session for a while. Knows nothing of what is logged.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Event, Metadata};
use tracing_subscriber::layer::{Context, Filter, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt as format};

use crate::config::LogFormat;

/// The categories: an event's target is `naru::` and one of these.
pub(crate) const CATEGORIES: [&str; 11] = [
    "bridge",
    "client",
    "stomp",
    "hub",
    "bots",
    "hooks",
    "schedules",
    "store",
    "admin",
    "wards",
    "serve",
];
/// Closer looks at once; a forgotten one ends by itself.
const LOOKS_MAX: usize = 32;

/// Whom a closer look is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// Events with this `bot` field.
    Bot(String),
    /// Events with this `session` field.
    Session(u64),
}

#[derive(Clone, Debug)]
struct Look {
    subject: Subject,
    level: LevelFilter,
    until: Instant,
}

#[derive(Clone, Debug)]
struct Levels {
    default: LevelFilter,
    categories: BTreeMap<String, LevelFilter>,
    looks: Vec<Look>,
}

/// Decides what is logged. Cheap to clone.
#[derive(Clone)]
pub(crate) struct LogPolicy(Arc<ArcSwap<Levels>>);

/// Why a change was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LogError {
    /// There is no such category.
    Category(String),
    /// There is no such level.
    Level(String),
    /// Too many closer looks at once.
    TooMany,
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LogError::Category(name) => {
                write!(f, "`{name}` is no category; there are {}", CATEGORIES.join(", "))
            }
            LogError::Level(name) => {
                write!(f, "`{name}` is no level; there are off, error, warn, info, debug, trace")
            }
            LogError::TooMany => write!(f, "there are {LOOKS_MAX} closer looks already"),
        }
    }
}

impl LogPolicy {
    /// From the configuration's words, which were checked before.
    pub(crate) fn new(default: &str, categories: &BTreeMap<String, String>) -> LogPolicy {
        let level = |name: &str| name.parse().unwrap_or(LevelFilter::INFO);
        let categories =
            categories.iter().map(|(name, text)| (name.clone(), level(text))).collect();
        let levels = Levels { default: level(default), categories, looks: Vec::new() };
        LogPolicy(Arc::new(ArcSwap::from_pointee(levels)))
    }

    /// Starts logging to standard error. Once a process.
    pub(crate) fn install(&self, format: LogFormat) -> Result<(), String> {
        let writer = std::io::stderr;
        let registry = Registry::default();
        let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
        let installed = match format {
            LogFormat::Text => {
                let layer = format::layer().with_writer(writer).with_ansi(is_terminal);
                registry.with(layer.with_filter(self.clone())).try_init()
            }
            LogFormat::Json => {
                let layer = format::layer().json().flatten_event(true).with_writer(writer);
                registry.with(layer.with_filter(self.clone())).try_init()
            }
        };
        installed.map_err(|error| error.to_string())
    }

    /// The level of everything, and of each category.
    pub(crate) fn levels(&self) -> Vec<(String, String)> {
        let levels = self.0.load();
        let mut rows = vec![("default".to_owned(), levels.default.to_string())];
        for category in CATEGORIES {
            let level = levels.categories.get(category).copied().unwrap_or(levels.default);
            rows.push((category.to_owned(), level.to_string()));
        }
        rows
    }

    /// The closer looks that still last, with what is left of them.
    pub(crate) fn looks(&self) -> Vec<(Subject, String, Duration)> {
        let now = Instant::now();
        let levels = self.0.load();
        let lasting = levels.looks.iter().filter(|look| look.until > now);
        lasting
            .map(|look| {
                (look.subject.clone(), look.level.to_string(), look.until.duration_since(now))
            })
            .collect()
    }

    /// Sets the level of a category, or of `default`.
    pub(crate) fn set(&self, category: &str, level: &str) -> Result<(), LogError> {
        let level: LevelFilter = level.parse().map_err(|_| LogError::Level(level.to_owned()))?;
        if category != "default" && !CATEGORIES.contains(&category) {
            return Err(LogError::Category(category.to_owned()));
        }
        self.change(|levels| {
            if category == "default" {
                levels.default = level;
            } else {
                levels.categories.insert(category.to_owned(), level);
            }
        });
        Ok(())
    }

    /// Looks closer at one bot or session for a while; replaces an earlier look at the same subject.
    pub(crate) fn look(
        &self,
        subject: Subject,
        level: &str,
        last: Duration,
    ) -> Result<(), LogError> {
        let level: LevelFilter = level.parse().map_err(|_| LogError::Level(level.to_owned()))?;
        let now = Instant::now();
        let lasting = self.0.load().looks.iter().filter(|look| look.until > now).count();
        if lasting >= LOOKS_MAX {
            return Err(LogError::TooMany);
        }
        self.change(|levels| {
            levels.looks.retain(|look| look.until > now && look.subject != subject);
            levels.looks.push(Look { subject: subject.clone(), level, until: now + last });
        });
        Ok(())
    }

    fn change(&self, mut change: impl FnMut(&mut Levels)) {
        self.0.rcu(|levels| {
            let mut levels = Levels::clone(levels);
            change(&mut levels);
            levels
        });
        // Call sites remember whether they are wanted, so that an unwanted event costs one load.
        tracing::callsite::rebuild_interest_cache();
    }
}

impl Levels {
    fn of(&self, target: &str) -> LevelFilter {
        match target.strip_prefix("naru::") {
            Some(category) => self.categories.get(category).copied().unwrap_or(self.default),
            // Libraries talk much below `warn`, and some put peers' words into it.
            None => self.default.min(LevelFilter::WARN),
        }
    }

    fn closest_look(&self) -> LevelFilter {
        self.looks.iter().map(|look| look.level).max().unwrap_or(LevelFilter::OFF)
    }
}

fn is_ours(metadata: &Metadata<'_>) -> bool {
    metadata.target().starts_with("naru::")
}

impl<S> Filter<S> for LogPolicy {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        let levels = self.0.load();
        *metadata.level() <= levels.of(metadata.target())
            || (is_ours(metadata) && *metadata.level() <= levels.closest_look())
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        let levels = self.0.load();
        if *metadata.level() <= levels.of(metadata.target()) {
            Interest::always()
        } else if is_ours(metadata) && *metadata.level() <= levels.closest_look() {
            Interest::sometimes()
        } else {
            Interest::never()
        }
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        let levels = self.0.load();
        let metadata = event.metadata();
        if *metadata.level() <= levels.of(metadata.target()) {
            return true;
        }
        let mut about = About::default();
        event.record(&mut about);
        let now = Instant::now();
        levels.looks.iter().any(|look| {
            look.until > now && *metadata.level() <= look.level && about.is(&look.subject)
        })
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        let levels = self.0.load();
        let highest = levels.categories.values().copied().max().unwrap_or(LevelFilter::OFF);
        Some(highest.max(levels.default).max(levels.closest_look()))
    }
}

/// Whom an event is about.
#[derive(Default)]
struct About {
    bot: Option<String>,
    session: Option<u64>,
}

impl About {
    fn is(&self, subject: &Subject) -> bool {
        match subject {
            Subject::Bot(bot) => self.bot.as_deref() == Some(bot),
            Subject::Session(session) => self.session == Some(*session),
        }
    }
}

impl Visit for About {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "session" {
            self.session = Some(value);
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "bot" {
            self.bot = Some(value.to_owned());
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "bot" {
            self.bot = Some(format!("{value:?}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tracing::{debug, info};
    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Lines {
        type Writer = Lines;
        fn make_writer(&'a self) -> Lines {
            self.clone()
        }
    }

    fn logged(policy: &LogPolicy, act: impl FnOnce()) -> String {
        let lines = Lines::default();
        let layer = format::layer().with_writer(lines.clone()).with_filter(policy.clone());
        tracing::subscriber::with_default(Registry::default().with(layer), || {
            tracing::callsite::rebuild_interest_cache();
            act();
        });
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    fn policy() -> LogPolicy {
        LogPolicy::new("info", &BTreeMap::new())
    }

    #[test]
    fn a_category_can_be_made_louder_and_quieter_while_running() {
        let policy = policy();
        policy.set("bridge", "debug").unwrap();
        policy.set("hub", "off").unwrap();
        let text = logged(&policy, || {
            debug!(target: "naru::bridge", "loud bridge");
            debug!(target: "naru::bots", "quiet bots");
            info!(target: "naru::hub", "silent hub");
        });
        assert!(text.contains("loud bridge"), "{text}");
        assert!(!text.contains("quiet bots") && !text.contains("silent hub"), "{text}");
    }

    #[test]
    fn a_closer_look_shows_one_bot_and_one_session_only() {
        let policy = policy();
        let hour = Duration::from_secs(3_600);
        policy.look(Subject::Bot("kim".to_owned()), "debug", hour).unwrap();
        policy.look(Subject::Session(7), "debug", hour).unwrap();
        let text = logged(&policy, || {
            debug!(target: "naru::bridge", bot = %"kim", session = 1_u64, "about kim");
            debug!(target: "naru::bridge", bot = %"lee", session = 2_u64, "about lee");
            debug!(target: "naru::bridge", bot = %"lee", session = 7_u64, "about seven");
        });
        assert!(text.contains("about kim") && text.contains("about seven"), "{text}");
        assert!(!text.contains("about lee"), "{text}");
    }

    #[test]
    fn a_closer_look_ends_by_itself() {
        let policy = policy();
        policy.look(Subject::Bot("kim".to_owned()), "debug", Duration::ZERO).unwrap();
        let text = logged(&policy, || {
            debug!(target: "naru::bridge", bot = %"kim", "about kim");
        });
        assert!(text.is_empty(), "{text}");
        assert!(policy.looks().is_empty());
    }

    #[test]
    fn unknown_categories_and_levels_are_refused_by_name() {
        let policy = policy();
        assert_eq!(policy.set("bridges", "info"), Err(LogError::Category("bridges".to_owned())));
        assert_eq!(policy.set("bridge", "loud"), Err(LogError::Level("loud".to_owned())));
    }
}
