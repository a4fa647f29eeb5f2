//! The words that all parts of the supervisor share. Plain data; it knows no system call and no protocol.

use std::fmt;
use std::sync::Arc;

use naru_domain::Timestamp;

/// Why a ward's name was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a ward's name has 1 to 48 of the characters a-z, 0-9, `-` and `_`, and begins with a letter or digit"
)]
pub struct WardNameError;

/// A ward's name: 1 to 48 of `a-z`, `0-9`, `-`, `_`, so that it can be a folder on any system.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WardName(Arc<str>);

impl WardName {
    /// The longest name.
    pub const LEN_BYTES_MAX: usize = 48;

    /// The only way in, so whoever holds one need not check again.
    pub fn parse(raw: &str) -> Result<WardName, WardNameError> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let fits = (1..=Self::LEN_BYTES_MAX).contains(&raw.len())
            && raw.starts_with(plain)
            && raw.chars().all(|c| plain(c) || c == '-' || c == '_');
        fits.then(|| WardName(Arc::from(raw))).ok_or(WardNameError)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for WardName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A process, so that nobody else's is ever taken for it: process ids are used again, and start times begin
/// anew with each boot.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct ProcessId {
    /// The number that the system uses.
    pub pid: u32,
    /// When it started, in the system's own unit (Linux: clock ticks since boot, field 22 of `stat`).
    pub started: u64,
    /// Which boot of the machine; empty where the system has no such thing.
    pub boot: String,
}

/// How a process ended, as far as the system told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Ending {
    /// It called exit.
    Code(i32),
    /// A signal ended it.
    Signal(i32),
    /// It is gone, and nobody could say how: it was not ours, or its keeper was killed, too.
    Unknown,
}

/// A process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// How.
    pub ending: Ending,
    /// When it was seen.
    pub at: Timestamp,
}

/// How much a notice matters.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Good to know.
    Info,
    /// Somebody should look.
    Warning,
    /// Somebody has to act.
    Critical,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_folders_on_any_system() {
        for good in ["a", "palworld-1", "0_0", &"x".repeat(48)] {
            assert_eq!(WardName::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "-a", "_", "A", "a b", "a/b", "..", "é", &"x".repeat(49)] {
            assert_eq!(WardName::parse(bad), Err(WardNameError), "{bad}");
        }
    }
}
