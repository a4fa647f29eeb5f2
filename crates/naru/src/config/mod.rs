//! Configuration: defaults, then a TOML file, then `NARU_*` variables, then flags; every mistake is
//! found in one go and named with where it came from.

mod backend;
mod bridge;
mod check;
mod model;
mod units;
mod ward;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use naru_supervisor::profile::read::{get, remove};
use serde::Deserialize;
use toml::{Table, Value};

pub(crate) use bridge::{ApprovalPolicy, BridgeKey};
pub(crate) use model::{Config, LogFormat, Namespace, Processing, RecoveryMode};
pub(crate) use units::{Secret, read_secret_file};
pub(crate) use ward::surroundings;

/// Each key, and what it is for.
pub(crate) fn reference() -> impl Iterator<Item = &'static (&'static str, &'static str)> {
    // The application stands where people look for it: with chat.
    let (before, after) = model::REFERENCE
        .split_at(model::REFERENCE.iter().position(|(key, _)| *key == "store.url").unwrap_or(0));
    before.iter().chain(backend::REFERENCE).chain(after).chain(ward::REFERENCE)
}

/// One thing that is wrong, and where it was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mistake {
    /// The key, such as `bridge.ping_interval`.
    pub(crate) key: String,
    /// The file, variable or flag.
    pub(crate) origin: String,
    /// What is wrong and what would be right.
    pub(crate) message: String,
}

impl std::fmt::Display for Mistake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.origin.is_empty() {
            write!(f, "{}: {}", self.key, self.message)
        } else {
            write!(f, "{} (from {}): {}", self.key, self.origin, self.message)
        }
    }
}

/// What the configuration is read from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources {
    /// `--config`.
    pub(crate) file: Option<PathBuf>,
    /// `NARU_*` variables of the environment.
    pub(crate) variables: Vec<(String, String)>,
    /// Flags, as (key, value, the flag's name).
    pub(crate) flags: Vec<(String, String, String)>,
}

impl Sources {
    /// The process's environment. The one place where configuration reads it.
    pub(crate) fn environment() -> Vec<(String, String)> {
        std::env::vars().filter(|(name, _)| name.starts_with("NARU_")).collect()
    }
}

/// Reads all sources. Either everything is right, or the list says all that is not.
pub(crate) fn load(sources: &Sources) -> Result<Config, Vec<Mistake>> {
    let mut merged = Merged::default();
    if let Some(path) = &sources.file {
        merged.add_file(path)?;
    }
    for (name, value) in &sources.variables {
        if let Some(key) = key_of_variable(name) {
            merged.set(&key, value, name);
        }
    }
    for (key, value, flag) in &sources.flags {
        merged.set(key, value, flag);
    }
    let (config, mut mistakes) = merged.read();
    for (key, message) in check::check(&config) {
        mistakes.push(Mistake { origin: merged.origin(&key), key, message });
    }
    for mistake in &mut mistakes {
        mistake.key = ward::key_with_name(&mistake.key, &merged.table);
    }
    if mistakes.is_empty() { Ok(config) } else { Err(mistakes) }
}

/// The key a variable stands for: `NARU_BRIDGE_PING_INTERVAL` is `bridge.ping_interval`.
fn key_of_variable(name: &str) -> Option<String> {
    let mut plain = reference().map(|(key, _)| *key).filter(|key| !ward::is_of_list(key));
    let plain = plain.find(|key| variable_of_key(key) == name);
    if let Some(key) = plain {
        return Some(key.to_owned());
    }
    let rest = name.strip_prefix("NARU_BRIDGE_KEYS_")?;
    ["secret_file", "previous_secret", "previous_salt", "secret", "salt"].into_iter().find_map(
        |field| {
            let bot = rest.strip_suffix(&format!("_{}", field.to_uppercase()))?;
            Some(format!("bridge.keys.{}.{field}", bot.to_lowercase()))
        },
    )
}

/// The variable of a key.
pub(crate) fn variable_of_key(key: &str) -> String {
    format!("NARU_{}", key.replace('.', "_").to_uppercase())
}

/// All sources in one table, and where each key came from.
#[derive(Default)]
struct Merged {
    table: Table,
    origins: BTreeMap<String, String>,
    file: String,
}

impl Merged {
    fn add_file(&mut self, path: &Path) -> Result<(), Vec<Mistake>> {
        self.file = path.display().to_string();
        let failed = |message: String| {
            vec![Mistake {
                key: "--config".to_owned(),
                origin: path.display().to_string(),
                message,
            }]
        };
        let text = std::fs::read_to_string(path)
            .map_err(|error| failed(format!("the file cannot be read: {error}")))?;
        self.table = text.parse::<Table>().map_err(|error| failed(error.to_string()))?;
        Ok(())
    }

    /// Sets one key from text: what reads as TOML is that value, everything else is a string.
    fn set(&mut self, key: &str, raw: &str, origin: &str) {
        let value = format!("v = {raw}")
            .parse::<Table>()
            .ok()
            .and_then(|mut table| table.remove("v"))
            .unwrap_or_else(|| Value::String(raw.to_owned()));
        self.origins.insert(key.to_owned(), origin.to_owned());
        put(&mut self.table, key, value);
    }

    fn origin(&self, key: &str) -> String {
        if let Some(origin) = self.origins.get(key) {
            return origin.clone();
        }
        let is_in_file = get(&self.table, key).is_some();
        if is_in_file { self.file.clone() } else { String::new() }
    }

    /// Reads the table. A wrong value is noted, taken out, and reading starts again, so that all
    /// mistakes are found.
    fn read(&mut self) -> (Config, Vec<Mistake>) {
        let mut mistakes = Vec::new();
        let mut table = self.table.clone();
        loop {
            let mut unknown = Vec::new();
            let mut track = serde_path_to_error::Track::new();
            let deserializer =
                serde_path_to_error::Deserializer::new(Value::Table(table.clone()), &mut track);
            let read = serde_ignored::deserialize(deserializer, |path| {
                unknown.push(path.to_string());
            });
            match read {
                Ok(config) => {
                    mistakes.extend(unknown.into_iter().map(|key| self.unknown_key(key)));
                    return (config, mistakes);
                }
                Err(error) => {
                    let key = track.path().to_string();
                    let message = Error::message(&error).to_owned();
                    if let Some(text) = self.as_string(&key, &table) {
                        // A variable that looks like a number or a truth value, where text is wanted.
                        put(&mut table, &key, Value::String(text));
                        put(&mut self.table, &key, Value::String(String::new()));
                        continue;
                    }
                    let origin = self.origin(&key);
                    mistakes.push(Mistake { origin, key: key.clone(), message });
                    if !remove(&mut table, &key) {
                        return (Config::default(), mistakes);
                    }
                }
            }
        }
    }

    /// The raw text of a key that came from a variable or flag and was not read as text.
    fn as_string(&self, key: &str, table: &Table) -> Option<String> {
        self.origins.get(key)?;
        match get(table, key)? {
            Value::Integer(number) => Some(number.to_string()),
            Value::Float(number) => Some(number.to_string()),
            Value::Boolean(truth) => Some(truth.to_string()),
            _ => None,
        }
    }

    fn unknown_key(&self, path: String) -> Mistake {
        let (key, plain) = ward::list_key(&path);
        let nearest = reference()
            .map(|(known, _)| (strsim(known, &plain), *known))
            .min()
            .filter(|(distance, _)| *distance <= 3);
        let message = match nearest {
            Some((_, known)) => format!("there is no such key; did you mean `{known}`?"),
            None => "there is no such key".to_owned(),
        };
        Mistake { origin: self.origin(&key), key, message }
    }
}

type Error = toml::de::Error;

fn put(table: &mut Table, key: &str, value: Value) {
    match key.split_once('.') {
        None => {
            table.insert(key.to_owned(), value);
        }
        Some((head, rest)) => {
            let inner = table.entry(head).or_insert_with(|| Value::Table(Table::new()));
            if !inner.is_table() {
                *inner = Value::Table(Table::new());
            }
            if let Value::Table(inner) = inner {
                put(inner, rest, value);
            }
        }
    }
}

/// Levenshtein distance; both words are short.
fn strsim(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let cost = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = cost.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// The reference table as Markdown, for docs/guide/configuration.md.
pub(crate) fn reference_markdown() -> String {
    let mut defaults = Table::try_from(Config::default()).unwrap_or_default();
    defaults.extend(ward::defaults());
    let mut text = String::from("| key | default | what |\n| --- | --- | --- |\n");
    for (key, what) in reference() {
        let default = match get(&defaults, key) {
            Some(value) if value.as_table().is_none_or(Table::is_empty) => format!("`{value}`"),
            _ => "–".to_owned(),
        };
        text.push_str(&format!("| `{key}` | {default} | {what} |\n"));
    }
    text
}

impl Config {
    /// A configuration from TOML text alone, for tests.
    #[cfg(test)]
    fn from_text(text: &str) -> Result<Config, Vec<Mistake>> {
        let mut merged = Merged { table: text.parse().unwrap(), ..Merged::default() };
        let (config, mut mistakes) = merged.read();
        for (key, message) in check::check(&config) {
            mistakes.push(Mistake { origin: String::new(), key, message });
        }
        for mistake in &mut mistakes {
            mistake.key = ward::key_with_name(&mistake.key, &merged.table);
        }
        if mistakes.is_empty() { Ok(config) } else { Err(mistakes) }
    }
}

// `Deserialize` is used through serde_ignored only; this names the bound that `read` relies on.
const _: fn() = || {
    fn needs<'de, T: Deserialize<'de>>() {}
    needs::<Config>();
};

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn mistakes(text: &str) -> Vec<(String, String)> {
        let found = Config::from_text(text).unwrap_err();
        found.into_iter().map(|mistake| (mistake.key, mistake.message)).collect()
    }

    #[test]
    fn an_empty_file_gives_the_defaults() {
        assert_eq!(Config::from_text("").unwrap(), Config::default());
    }

    #[test]
    fn the_contract_names_of_the_design_are_known() {
        let text = r#"
            data_dir = "./naru-data"
            [http]
            listen = "127.0.0.1:8080"
            api_keys = ["k"]
            [bridge]
            listen = "127.0.0.1:1490"
            ping_interval = "30s"
            approve_devices = "manual"
            approve_rooms = "auto"
            [bridge.keys.default]
            secret = "a"
            salt = "b"
            [bots]
            processing = "direct"
            workers = 31
            queue = 10000
            per_bot = 30
            per_room = 3
            timeout = "5m"
            [[users]]
            name = "kim"
            password = "a-long-password"
            role = "admin"
            [channels.default]
            history_size = 0
            history_ttl = "0s"
            durability = "disk"
            [channels.namespaces.chat]
            history_size = 100
            [store]
            url = "sqlite"
        "#;
        let config = Config::from_text(text).unwrap();
        assert_eq!(config.bots.processing, Processing::Direct);
        assert_eq!(config.bridge.keys["default"].secret.reveal(), "a");
    }

    #[test]
    fn what_people_say_to_bots_is_not_kept_in_clear_where_texts_are_encrypted() {
        let check = |namespace: &str, durability: &str, is_found: bool| {
            let text = format!(
                "[store]\nencryption_key_file = \"/keys\"\n[channels.namespaces.{namespace}]\n\
                 history_size = 10\ndurability = \"{durability}\"\n"
            );
            let found = Config::from_text(&text).err().unwrap_or_default();
            let key = format!("channels.namespaces.{namespace}.durability");
            let has_key = found.iter().any(|mistake| mistake.key == key);
            assert_eq!(has_key, is_found, "{namespace} {durability}");
        };
        check("room", "disk", true);
        check("bot", "os", true);
        check("bot", "memory", false);
        check("chat", "disk", false);
    }

    #[test]
    fn every_mistake_is_found_in_one_go() {
        let found = mistakes(
            r#"
            [bridge]
            ping_intervall = "10s"
            idle_timeout = "ten"
            listen = "nowhere"
            [bots]
            workers = 0
            processing = "sideways"
            "#,
        );
        let keys: Vec<&str> = found.iter().map(|(key, _)| key.as_str()).collect();
        for key in [
            "bridge.ping_intervall",
            "bridge.idle_timeout",
            "bridge.listen",
            "bots.workers",
            "bots.processing",
        ] {
            assert!(keys.contains(&key), "{key} is missing in {found:?}");
        }
        let (_, hint) = found.iter().find(|(key, _)| key == "bridge.ping_intervall").unwrap();
        assert!(hint.contains("bridge.ping_interval"), "{hint}");
    }

    #[test]
    fn the_installation_may_set_as_many_attempts_as_a_bot() {
        let max = naru_domain::limits::HOOK_ATTEMPTS_MAX;
        let check = |attempts: u32| {
            let read = Config::from_text(&format!("[hooks]\nattempts = {attempts}"));
            assert_eq!(read.is_ok(), attempts <= max, "{attempts}");
        };
        check(max);
        check(max + 1);
        let (_, row) = reference().find(|(key, _)| *key == "hooks.attempts").unwrap();
        assert!(row.ends_with(&format!("(1 to {max}).")), "{row}");
    }

    #[test]
    fn the_channels_of_users_do_not_share_a_namespace_by_accident() {
        let key = |text: &str| mistakes(text)[0].0.clone();
        let own = "[channels.namespaces.personal]\nhistory_size = 1\n";
        assert_eq!(key(own), "channels.namespaces.personal");
        let off = format!("{own}[client]\nsubscribe_to_user_channel = false");
        assert!(Config::from_text(&off).is_ok());
        let other = "[client]\nuser_channel_namespace = \"people\"\n";
        assert_eq!(key(other), "client.user_channel_namespace");
        let known = format!("{own}[channels.namespaces.people]\nhistory_size = 1\n{other}");
        assert!(Config::from_text(&known).is_ok());
        assert!(Config::from_text("[client]\nuser_channel_namespace = \"\"").is_ok());
    }

    #[test]
    fn a_public_url_is_a_base_that_paths_can_follow() {
        let check = |url: &str, is_good: bool| {
            let read = Config::from_text(&format!("[http]\npublic_url = {url:?}"));
            assert_eq!(read.is_ok(), is_good, "{url}");
        };
        for good in ["", "https://naru.example.org", "http://10.0.0.1:8080/naru/", "http://[::1]:1"]
        {
            check(good, true);
        }
        for wrong in [
            "naru.example.org",
            "ftp://naru.example.org",
            "https://me:hush@naru.example.org",
            "https://naru.example.org/?a=b",
            "https://naru.example.org/#a",
            "https://naru.example.org/{id}",
            "https:// naru",
            "https://",
        ] {
            check(wrong, false);
        }
    }

    #[test]
    fn variables_override_the_file_and_flags_override_variables() {
        let sources = Sources {
            file: None,
            variables: vec![
                ("NARU_BRIDGE_PING_INTERVAL".to_owned(), "10s".to_owned()),
                ("NARU_BOTS_WORKERS".to_owned(), "5".to_owned()),
                ("NARU_BRIDGE_KEYS_DEFAULT_SECRET".to_owned(), "12345".to_owned()),
                ("NARU_BRIDGE_KEYS_DEFAULT_SALT".to_owned(), "pepper".to_owned()),
                ("NARU_UNRELATED".to_owned(), "x".to_owned()),
            ],
            flags: vec![("bots.workers".to_owned(), "7".to_owned(), "--set".to_owned())],
        };
        let config = load(&sources).unwrap();
        assert_eq!(config.bridge.ping_interval, units::Span::seconds(10));
        assert_eq!(config.bots.workers, 7);
        assert_eq!(config.bridge.keys["default"].secret.reveal(), "12345");
    }

    #[test]
    fn a_wrong_variable_is_named_in_the_mistake() {
        let variables = vec![("NARU_BOTS_WORKERS".to_owned(), "many".to_owned())];
        let found = load(&Sources { variables, ..Sources::default() }).unwrap_err();
        assert_eq!(found[0].origin, "NARU_BOTS_WORKERS");
        assert_eq!(found[0].key, "bots.workers");
    }

    #[test]
    fn every_key_of_the_reference_exists_and_every_default_is_listed() {
        let defaults = Table::try_from(Config::default()).unwrap();
        let mut leaves = Vec::new();
        collect_leaves("", &defaults, &mut leaves);
        for leaf in leaves {
            let known = reference().any(|(key, _)| *key == leaf);
            assert!(known, "{leaf} is not in the reference");
        }
    }

    fn collect_leaves(prefix: &str, table: &Table, leaves: &mut Vec<String>) {
        for (key, value) in table {
            let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
            match value {
                Value::Table(inner) if inner.is_empty() => {}
                Value::Table(inner) => collect_leaves(&path, inner, leaves),
                _ => leaves.push(path),
            }
        }
    }

    #[test]
    fn the_table_in_the_docs_is_the_one_that_the_code_prints() {
        let page = include_str!("../../../../docs/guide/configuration.md");
        let table = reference_markdown();
        assert!(page.contains(&table), "put the output of `naru config --markdown` into the page");
    }

    #[test]
    fn secrets_never_appear_in_mistakes() {
        let found = Config::from_text(
            "[bridge.keys.default]\nsecret = \"canary-secret\"\nsalt = 5\n[http]\napi_keys = 3",
        )
        .unwrap_err();
        let text: String = found.iter().map(ToString::to_string).collect();
        assert!(!text.contains("canary-secret"), "{text}");
    }
}
