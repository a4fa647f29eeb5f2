//! Small pieces that several commands share: runtimes, complaints, the database from outside.

use std::future::Future;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use naru_domain::clock::SystemClock;
use naru_store_sql::{MasterKeys, SqlStore, StoreOptions};

use crate::config::Config;

/// Writes a line for people to standard error.
pub(crate) fn complain(line: &str) {
    // Nobody is left to tell when this fails.
    drop(writeln!(std::io::stderr().lock(), "{line}"));
}

/// Runs a command's future on a runtime with as many threads as this process may use cores.
pub(crate) fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    runtime()?.block_on(future)
}

/// A runtime with a thread per core that this process may use.
pub(crate) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    runtime_with(std::thread::available_parallelism().map_or(1, usize::from))
}

/// A runtime with this many threads, at least one.
pub(crate) fn runtime_with(threads: usize) -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads.max(1))
        .enable_all()
        .build()
        .context("cannot start the runtime")
}

/// How the configured store is opened.
pub(crate) fn store_options(config: &Config) -> anyhow::Result<StoreOptions> {
    let encryption = match &config.store.encryption_key_file {
        None => None,
        Some(path) => Some(
            read_master_keys(path)
                .with_context(|| format!("store.encryption_key_file {}", path.display()))?,
        ),
    };
    Ok(StoreOptions {
        url: config.store.url.clone(),
        readers: config.store.readers,
        acquire_timeout: config.store.acquire_timeout.0,
        statement_timeout: config.store.statement_timeout.0,
        encryption,
        clock: Arc::new(SystemClock),
        ..StoreOptions::new(&config.data_dir)
    })
}

/// Reads keys for texts at rest: one `id:64 hex digits` a line, the current one first.
fn read_master_keys(path: &Path) -> anyhow::Result<MasterKeys> {
    let text = std::fs::read_to_string(path)?;
    let mut keys = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        // The line itself is a secret, so only its number is told.
        let key = parse_master_key(line)
            .with_context(|| format!("line {} is not `id:64 hex digits`", number + 1))?;
        if keys.iter().any(|(id, _): &(u32, [u8; 32])| *id == key.0) {
            bail!("line {}: the id {} was used before", number + 1, key.0);
        }
        keys.push(key);
    }
    let mut keys = keys.into_iter();
    let current = keys.next().context("there is no key in it")?;
    Ok(MasterKeys::new(current, keys.collect()))
}

fn parse_master_key(line: &str) -> Option<(u32, [u8; 32])> {
    let (id, digits) = line.split_once(':')?;
    let digits: &[u8; 64] = digits.as_bytes().try_into().ok()?;
    let mut key = [0; 32];
    for (byte, pair) in key.iter_mut().zip(digits.chunks(2)) {
        let value = |digit: u8| char::from(digit).to_digit(16).and_then(|v| u8::try_from(v).ok());
        *byte = value(pair[0])? << 4 | value(pair[1])?;
    }
    Some((id.parse().ok()?, key))
}

/// The migrations and whether the database has them, as text or JSON.
pub(crate) async fn migrations(config: &Config, json: bool) -> anyhow::Result<String> {
    let states = SqlStore::migrations(&store_options(config)?).await?;
    if json {
        let rows: Vec<_> = states
            .iter()
            .map(|state| {
                serde_json::json!({
                    "version": state.version, "name": state.name, "applied": state.applied,
                })
            })
            .collect();
        return Ok(format!("{}\n", serde_json::json!({ "migrations": rows })));
    }
    let mut text = String::from("version  applied  name\n");
    for state in states {
        let applied = if state.applied { "yes" } else { "no" };
        text.push_str(&format!("{:>7}  {applied:<7}  {}\n", state.version, state.name));
    }
    Ok(text)
}

/// Applies what is missing and says what the database has then.
pub(crate) async fn migrate(config: &Config, json: bool) -> anyhow::Result<String> {
    let store = SqlStore::open(store_options(config)?).await?;
    store.close().await?;
    migrations(config, json).await
}

/// The SQL of what is missing.
pub(crate) async fn migration_sql(config: &Config) -> anyhow::Result<String> {
    let pending = SqlStore::pending_migrations(&store_options(config)?).await?;
    if pending.is_empty() {
        return Ok("Nothing to do: the database is up to date.\n".to_owned());
    }
    Ok(pending.iter().map(|step| format!("-- {}\n{}\n", step.name, step.sql)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_at_rest_are_read_newest_first_and_mistakes_name_the_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        let check = |text: &str| {
            std::fs::write(&path, text).unwrap();
            read_master_keys(&path).map(|_| ()).map_err(|error| format!("{error:#}"))
        };
        let (one, two) = ("ab".repeat(32), "cd".repeat(32));
        assert_eq!(check(&format!("# keys\n2:{two}\n1:{one}\n")), Ok(()));
        assert!(check(&format!("2:{two}\n2:{one}\n")).unwrap_err().contains("line 2"));
        let short = check("1:abcd\n").unwrap_err();
        assert!(short.contains("line 1") && !short.contains("abcd"), "{short}");
        assert!(check("\n").is_err());
    }
}
