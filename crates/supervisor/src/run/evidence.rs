//! What files say about an end: crash files, and the counts of processes that the system ended for want of memory.
//! Blocking: it reads files, some milliseconds after an end and never otherwise.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use naru_domain::Timestamp;

use super::begin::newest;
use crate::life::Evidence;
use crate::model::Ending;
use crate::profile::ward::CrashFileRule;
use crate::{host, keeper};

/// The most of a crash file that is read.
const CRASH_FILE_BYTES_MAX: u64 = 256 * 1024;

/// What to look at.
pub(super) struct Look {
    pub(super) folder: PathBuf,
    pub(super) files: Vec<CrashFileRule>,
    pub(super) launched: Option<Timestamp>,
    pub(super) now: Timestamp,
    /// Processes of the machine that were ended for want of memory before this game began.
    pub(super) oom_before: Option<u64>,
}

impl Look {
    /// All that is there, and how old it is.
    pub(super) fn evidence(&self) -> Vec<(Evidence, Duration)> {
        let mut found = Vec::new();
        if self.out_of_memory() {
            found.push((Evidence::OomKill, Duration::ZERO));
        }
        for rule in &self.files {
            if let Some((path, written)) = self.crash_file(rule) {
                let age = self.now.since(written);
                let reason = read_some(&path).and_then(|file| rule.reason(&file));
                let shown = match reason {
                    Some(reason) => format!("{}: {reason}", path.display()),
                    None => path.display().to_string(),
                };
                found.push((Evidence::CrashFile { path: shown, written }, age));
            }
        }
        found
    }

    /// The newest file of a rule, if it is of this run.
    fn crash_file(&self, rule: &CrashFileRule) -> Option<(PathBuf, Timestamp)> {
        let path = newest_below(&rule.path)?;
        let changed = path.metadata().ok()?.modified().ok()?;
        let since = changed.duration_since(UNIX_EPOCH).ok()?;
        let written = Timestamp(i64::try_from(since.as_millis()).ok()?);
        // File systems keep times to two seconds at worst.
        let begun = self.launched?.minus(Duration::from_secs(2));
        (written >= begun).then_some((path, written))
    }

    /// Whether the system ended it for want of memory: the group's own count is proof; the machine's is, if
    /// it was ended by SIGKILL and nobody here sent that.
    fn out_of_memory(&self) -> bool {
        let Ok(Some(exit)) = keeper::read_exit(&self.folder) else { return false };
        if exit.oom_kills_group.is_some_and(|count| count > 0) {
            return true;
        }
        let killed = |record: &keeper::ExitRecord| record.ending == Ending::Signal(9);
        let by_signal =
            exit.main.as_ref().is_some_and(killed) || exit.inner.as_ref().is_some_and(killed);
        let by_us = exit.last_signal.is_some_and(|sent| sent.signal == 9);
        let machine = host::machine_oom_kills().ok().zip(self.oom_before);
        by_signal && !by_us && machine.is_some_and(|(now, before)| now > before)
    }
}

/// Like [`newest`], with `*` in one folder's name before the last part as well (`Crashes/UECC-*/Crash.xml`).
fn newest_below(pattern: &str) -> Option<PathBuf> {
    let path = Path::new(pattern);
    let parent = path.parent()?.to_str()?;
    if !parent.contains('*') {
        return newest(pattern);
    }
    let folder = newest(parent)?;
    newest(folder.join(path.file_name()?).to_str()?)
}

fn read_some(path: &Path) -> Option<Vec<u8>> {
    use std::io::Read as _;
    let mut text = Vec::new();
    std::fs::File::open(path).ok()?.take(CRASH_FILE_BYTES_MAX).read_to_end(&mut text).ok()?;
    Some(text)
}

/// When the newest of these files was changed. Blocking.
pub(super) fn changed_at(pattern: &str) -> Option<SystemTime> {
    newest_below(pattern)?.metadata().ok()?.modified().ok()
}
