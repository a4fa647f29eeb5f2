//! Key pairs for the bridge: from the configuration, or made at the first start and kept in a file.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, bail};
use naru_gateways::bridge::BridgeKeys;
use naru_wire::bridge::SigningKey;
use serde::{Deserialize, Serialize};

use crate::config::{BridgeKey, Config, read_secret_file};
use crate::platform;

/// The file in the data folder that holds a key pair of our own making.
pub(crate) const KEY_FILE: &str = "bridge.key";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFile {
    secret: String,
    salt: String,
}

/// The keys that phones may sign with.
pub(crate) fn load(config: &Config) -> anyhow::Result<BridgeKeys> {
    let mut keys = BridgeKeys::default();
    for (bot, pair) in &config.bridge.keys {
        let signing = signing_keys(bot, pair)?;
        if bot == "default" {
            keys.default = signing;
        } else {
            keys.bots.insert(bot.clone(), signing);
        }
    }
    if config.bridge.keys.is_empty() {
        let file = own_key_file(&config.data_dir.join(KEY_FILE))?;
        keys.default = vec![SigningKey::new(&file.secret, &file.salt)];
    }
    Ok(keys)
}

/// Secret and salt for bots without a pair of their own, for simulated phones. Makes no new one.
pub(crate) fn pair_of_default(config: &Config) -> Option<(String, String)> {
    if let Some(pair) = config.bridge.keys.get("default") {
        let secret = match &pair.secret_file {
            Some(path) => read_secret_file(path).ok()?,
            None => pair.secret.clone(),
        };
        return Some((secret.reveal().to_owned(), pair.salt.reveal().to_owned()));
    }
    let text = std::fs::read_to_string(config.data_dir.join(KEY_FILE)).ok()?;
    let file: KeyFile = toml::from_str(&text).ok()?;
    Some((file.secret, file.salt))
}

fn signing_keys(bot: &str, pair: &BridgeKey) -> anyhow::Result<Vec<SigningKey>> {
    let secret = match &pair.secret_file {
        Some(path) => read_secret_file(path)
            .map_err(|reason| anyhow::anyhow!("bridge.keys.{bot}.secret_file: {reason}"))?,
        None => pair.secret.clone(),
    };
    let mut keys = vec![SigningKey::new(secret.reveal(), pair.salt.reveal())];
    if !pair.previous_secret.is_empty() || !pair.previous_salt.is_empty() {
        let or_current = |old: &crate::config::Secret, new: &crate::config::Secret| {
            if old.is_empty() { new.reveal().to_owned() } else { old.reveal().to_owned() }
        };
        let secret = or_current(&pair.previous_secret, &secret);
        let salt = or_current(&pair.previous_salt, &pair.salt);
        keys.push(SigningKey::new(&secret, &salt));
    }
    Ok(keys)
}

fn own_key_file(path: &Path) -> anyhow::Result<KeyFile> {
    if path.exists() {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        return toml::from_str(&text).with_context(|| {
            format!(
                "{} is damaged: it needs `secret` and `salt`; remove it to make new ones",
                path.display()
            )
        });
    }
    let file = KeyFile { secret: random_word(), salt: random_word() };
    write_private(path, toml::to_string(&file)?.as_bytes())?;
    Ok(file)
}

/// 160 random bits in letters and digits that survive being copied by hand into a script.
fn random_word() -> String {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let bytes: [u8; 32] = rand::random();
    bytes.iter().map(|byte| char::from(LETTERS[usize::from(byte % 32)])).collect()
}

/// Creates a file that only its owner may read. Fails if it exists.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    platform::for_owner(options.write(true).create_new(true));
    let written = options.open(path).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    if let Err(error) = written {
        bail!("cannot write {}: {error}", path.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_pair_is_made_once_and_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(KEY_FILE);
        let made = own_key_file(&path).unwrap();
        let found = own_key_file(&path).unwrap();
        assert_eq!(made.secret, found.secret);
        assert_ne!(made.secret, made.salt);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0);
        }
    }

    #[test]
    fn a_damaged_key_file_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(KEY_FILE);
        std::fs::write(&path, "nonsense").unwrap();
        assert!(own_key_file(&path).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "nonsense");
    }
}
