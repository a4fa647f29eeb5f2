//! The folder of backups: what lies there, how it is described, and what may go.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use naru_domain::Timestamp;

use super::copy::Backup;
use super::pick::Selection;
use super::{BackupError, sync_folder};
use crate::model::WardName;

/// Backups that are listed at most; further ones are not looked at.
const LISTED_MAX: usize = 10_000;
/// The longest description.
const ABOUT_BYTES_MAX: u64 = 256 * 1024;
const DAY_MS: i64 = 86_400_000;

/// What a backup is: the JSON file beside its archive.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct About {
    /// Of this description: 1.
    pub version: u32,
    /// The name of the backup: that of its files without their endings.
    pub name: String,
    /// Whose it is.
    pub ward: String,
    /// When it was begun, in milliseconds since 1970.
    pub made_ms: i64,
    /// Which files it was made of.
    pub selection: Selection,
    /// Files in it.
    pub files: u64,
    /// Folders in it.
    pub folders: u64,
    /// Links in it.
    pub links: u64,
    /// Sockets, pipes and names that cannot be kept.
    pub skipped: u64,
    /// Bytes of its files.
    pub bytes: u64,
    /// Bytes of its archive.
    pub archive_bytes: u64,
    /// The checksum of its archive (SHA-256, hexadecimal).
    pub sha256: String,
    /// How many files changed each time they were read, and some of them: logs are harmless, worlds are not.
    pub unsteady_count: u64,
    /// Their names.
    pub unsteady: Vec<String>,
}

impl About {
    pub(super) fn new(name: &str, backup: &Backup<'_>) -> About {
        About {
            version: 1,
            name: name.to_owned(),
            ward: backup.ward.to_string(),
            made_ms: backup.now.0,
            selection: backup.selection.clone(),
            files: 0,
            folders: 0,
            links: 0,
            skipped: 0,
            bytes: 0,
            archive_bytes: 0,
            sha256: String::new(),
            unsteady_count: 0,
            unsteady: Vec::new(),
        }
    }
}

/// Where the archive of this name lies.
pub(super) fn archive_path(shelf: &Path, name: &str) -> PathBuf {
    shelf.join(format!("{name}.tar.gz"))
}

fn about_path(shelf: &Path, name: &str) -> PathBuf {
    shelf.join(format!("{name}.json"))
}

/// A name is a file's, and never one of another folder.
pub(super) fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
    (1..=100).contains(&name.len()) && name.chars().all(plain)
}

/// A name that is not taken: the ward and the moment.
pub(super) fn free_name(
    shelf: &Path,
    ward: &WardName,
    now: Timestamp,
) -> Result<String, BackupError> {
    let moment = DateTime::<Utc>::from_timestamp_millis(now.0).unwrap_or_default();
    let stem = format!("{ward}-{}", moment.format("%Y%m%d-%H%M%S"));
    let names = std::iter::once(stem.clone()).chain((2..100).map(|n| format!("{stem}-{n}")));
    let is_free = |name: &String| {
        !archive_path(shelf, name).exists() && !shelf.join(format!(".{name}.part")).exists()
    };
    names.into_iter().find(is_free).ok_or_else(|| BackupError::Place {
        path: archive_path(shelf, &stem),
        what: "there are too many backups of this second",
    })
}

/// Writes a backup's description, whole or not at all.
pub(super) fn describe(shelf: &Path, about: &About) -> Result<(), BackupError> {
    let (path, part) =
        (about_path(shelf, &about.name), shelf.join(format!(".{}.json.part", about.name)));
    let text = serde_json::to_vec_pretty(about).expect("invariant: strings and numbers serialize");
    let written = File::create(&part).and_then(|mut file| {
        file.write_all(&text)?;
        file.sync_all()
    });
    let named = written.and_then(|()| std::fs::rename(&part, &path));
    named.map_err(|error| {
        // It is of no use to anybody.
        drop(std::fs::remove_file(&part));
        BackupError::io(&path)(error)
    })
}

/// The backups of a ward, the newest first. What has no readable description, or no archive of the size that
/// it tells, is passed over.
pub fn list(shelf: &Path, ward: &WardName) -> Result<Vec<About>, BackupError> {
    let mut found = Vec::new();
    for name in names(shelf, ".json")? {
        if found.len() == LISTED_MAX {
            break;
        }
        let Some(about) = read_about(shelf, &name) else { continue };
        let size = std::fs::metadata(archive_path(shelf, &name)).map(|metadata| metadata.len());
        if about.ward == ward.as_str() && size.is_ok_and(|size| size == about.archive_bytes) {
            found.push(about);
        }
    }
    found.sort_by(|a, b| (b.made_ms, &b.name).cmp(&(a.made_ms, &a.name)));
    Ok(found)
}

fn names(shelf: &Path, ending: &str) -> Result<Vec<String>, BackupError> {
    let entries = match std::fs::read_dir(shelf) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(BackupError::io(shelf)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(BackupError::io(shelf))?.file_name();
        if let Some(name) = name.to_str().and_then(|name| name.strip_suffix(ending)) {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// The description of this name, if it is one.
fn read_about(shelf: &Path, name: &str) -> Option<About> {
    let mut text = Vec::new();
    let file = File::open(about_path(shelf, name)).ok()?;
    file.take(ABOUT_BYTES_MAX).read_to_end(&mut text).ok()?;
    let about: About = serde_json::from_slice(&text).ok()?;
    (about.version == 1 && about.name == name && is_name(name)).then_some(about)
}

/// Which backups are kept; one is by the first of the rules that wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
pub struct Keep {
    /// The newest so many, at least 1.
    pub last: usize,
    /// The newest of a day, for the newest so many days that have one.
    pub daily: usize,
    /// The newest of a week (from Monday), for the newest so many weeks that have one.
    pub weekly: usize,
}

impl Default for Keep {
    fn default() -> Keep {
        Keep { last: 5, daily: 7, weekly: 4 }
    }
}

/// Which of these may go, by `keep`. Days and weeks are those of UTC. The newest never goes.
#[must_use]
pub fn surplus(backups: &[About], keep: Keep) -> Vec<String> {
    let mut order: Vec<&About> = backups.iter().collect();
    order.sort_by(|a, b| (b.made_ms, &b.name).cmp(&(a.made_ms, &a.name)));
    let day = |about: &About| about.made_ms.div_euclid(DAY_MS);
    // The first day of 1970 was a Thursday.
    let week = |about: &About| (day(about) + 3).div_euclid(7);
    let (mut days, mut weeks) = (Vec::new(), Vec::new());
    let mut surplus = Vec::new();
    for (at, about) in order.into_iter().enumerate() {
        let opens = |seen: &mut Vec<i64>, span: i64, max: usize| {
            let is_new = !seen.contains(&span) && seen.len() < max;
            if is_new {
                seen.push(span);
            }
            is_new
        };
        let (is_daily, is_weekly) =
            (opens(&mut days, day(about), keep.daily), opens(&mut weeks, week(about), keep.weekly));
        if at >= keep.last.max(1) && !is_daily && !is_weekly {
            surplus.push(about.name.clone());
        }
    }
    surplus
}

/// Removes one backup.
pub fn remove(shelf: &Path, name: &str) -> Result<(), BackupError> {
    if !is_name(name) {
        let what = "it is no backup's name";
        return Err(BackupError::Place { path: shelf.join("?"), what });
    }
    // Without its archive a description is passed over; an archive without one would lie there for ever.
    for path in [archive_path(shelf, name), about_path(shelf, name)] {
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(BackupError::io(&path)(error));
            }
            _ => {}
        }
    }
    sync_folder(shelf)
}

/// Removes what `keep` does not want, and what backups left that were ended by a crash. Says which backups
/// went. No backup of this ward may be under way.
pub fn tidy(shelf: &Path, ward: &WardName, keep: Keep) -> Result<Vec<String>, BackupError> {
    let stem = format!(".{ward}-");
    let is_ours = |name: &&String| {
        // The moment follows the ward's name: another ward may be called `WARD-x`.
        let rest = name.strip_prefix(&stem).unwrap_or_default();
        rest.starts_with(|c: char| c.is_ascii_digit()) && rest.get(8..9) == Some("-")
    };
    for name in names(shelf, ".part")?.iter().filter(is_ours) {
        let path = shelf.join(format!("{name}.part"));
        std::fs::remove_file(&path).map_err(BackupError::io(&path))?;
    }
    for name in names(shelf, ".json")? {
        let about = read_about(shelf, &name).filter(|about| about.ward == ward.as_str());
        if about.is_some() && !archive_path(shelf, &name).exists() {
            remove(shelf, &name)?;
        }
    }
    let gone = surplus(&list(shelf, ward)?, keep);
    gone.iter().try_for_each(|name| remove(shelf, name))?;
    Ok(gone)
}
