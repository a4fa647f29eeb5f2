//! Backups of wards: saves are held the game's way, files are copied by a thread that steps behind everybody
//! else, and what was held is let go whatever became of it.

use std::cell::Cell;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use naru_domain::Timestamp;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::handle::{Reply, WardError};
use super::news::Happened;
use super::supervisor::Supervisor;
use super::view::BackupView;
use crate::backup::{
    self, About, Backup, BackupError, BackupOptions, Keep, Pattern, Progress, Selection,
};
use crate::host;
use crate::life::Phase;
use crate::model::{Severity, WardName};
use crate::profile::Ward;
use crate::profile::template::Words;
use crate::tell::Notice;

/// Between two questions whether the files are still.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// Questions at most.
const ASKS_MAX: usize = 60;

/// What a backup needs of the system.
struct Machine {
    stop: CancellationToken,
    seen: Cell<Progress>,
}

impl backup::Surroundings for Machine {
    fn free_bytes(&self, folder: &Path) -> io::Result<u64> {
        host::free_bytes(folder)
    }

    fn pause(&self, length: Duration) {
        std::thread::sleep(length);
    }

    fn is_cancelled(&self) -> bool {
        self.stop.is_cancelled()
    }

    fn progress(&self, progress: &Progress) {
        self.seen.set(*progress);
    }
}

/// Where a ward's backups are, and what they are made of.
#[derive(Clone)]
struct Shelf {
    ward: WardName,
    root: PathBuf,
    shelf: PathBuf,
    selection: Selection,
    keep: Keep,
}

impl Shelf {
    fn of(ward: &Ward, folder: &Path) -> Shelf {
        let spec = &ward.backup;
        let patterns = spec.exclude.iter().filter_map(|text| Pattern::parse(text).ok());
        Shelf {
            ward: ward.name.clone(),
            root: ward.dir.clone(),
            shelf: spec.dir.clone().unwrap_or_else(|| folder.join("backups")),
            selection: Selection { include: spec.paths.clone(), exclude: patterns.collect() },
            keep: Keep {
                last: usize::try_from(spec.keep.max(1)).unwrap_or(1),
                daily: 0,
                weekly: 0,
            },
        }
    }

    /// Copies, reads the copy again, and lets old ones go. Blocking.
    fn make(&self, now: Timestamp, machine: &Machine) -> Result<About, BackupError> {
        let options = BackupOptions::default();
        let Shelf { ward, root, shelf, selection, keep } = self;
        let order = Backup { ward, root, selection, shelf, now };
        let about = backup::back_up(&order, &options, machine)?;
        let archive = shelf.join(format!("{}.tar.gz", about.name));
        backup::verify(&archive, &about, options.bytes_per_second, machine)?;
        if let Err(error) = backup::tidy(shelf, ward, *keep) {
            warn!(target: "naru::wards", %ward, %error, "old backups were not removed");
        }
        Ok(about)
    }
}

impl Supervisor {
    /// Copies a ward's files, for somebody who waits.
    pub(super) fn back_up(&mut self, name: &WardName, reply: Reply<BackupView>) {
        let done = self.begin_copy(name);
        self.tasks.spawn(async move {
            let result = match done {
                Ok(done) => done.await.unwrap_or(Err(WardError::Ended)),
                Err(error) => Err(error),
            };
            drop(reply.send(result));
        });
    }

    /// The same, for a schedule.
    pub(super) fn copy_by_plan(&mut self, name: &WardName, plan: &Arc<str>) {
        if let Err(error) = self.begin_copy(name) {
            warn!(target: "naru::wards", ward = %name, plan = &**plan, %error, "a backup was left out");
            if let Some(planner) = &mut self.planner {
                planner.finished(name);
            }
        }
    }

    fn begin_copy(
        &mut self,
        name: &WardName,
    ) -> Result<oneshot::Receiver<Result<BackupView, WardError>>, WardError> {
        let charge = self.charges.get_mut(name).ok_or(WardError::NotFound)?;
        if charge.ward.backup.paths.is_empty() {
            let why = "backup.paths says of nothing that it should be copied".to_owned();
            return Err(WardError::Unavailable(why));
        }
        if charge.copying {
            return Err(WardError::Unavailable("a backup or restore is under way".to_owned()));
        }
        charge.copying = true;
        let shelf = Shelf::of(&charge.ward, &charge.folder);
        let is_up = charge.is_up();
        let hold = charge.ward.hold.clone().filter(|_| is_up);
        let saves = is_up && hold.is_none() && !charge.ward.save.is_empty();
        let teller = self.teller(name, self.charges[name].entry);
        let words = Words::default();
        let (mut begin, mut asks, mut end) = (Vec::new(), Vec::new(), Vec::new());
        let mut proof = None;
        if let Some(hold) = &hold {
            begin.extend(hold.begin.iter().map(|act| self.say(name, act, &words)));
            if let Some(ask) = &hold.ask {
                asks.extend((0..ASKS_MAX).map(|_| self.say(name, ask, &words)));
            }
            end.extend(hold.end.iter().map(|act| self.say(name, act, &words)));
            let (caller, waits) = oneshot::channel();
            if let Some(charge) = self.charges.get_mut(name) {
                let until = tokio::time::Instant::now() + hold.within;
                charge.saving.callers.push((until, caller));
            }
            proof = Some(waits);
        } else if saves {
            let (reply, waits) = oneshot::channel();
            self.save_for(name, reply);
            proof = Some(waits);
        }
        let (done, waits) = oneshot::channel();
        let now = self.ports.clock.now();
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            let mut unsaved = None;
            for said in begin {
                unsaved = said.await.err().or(unsaved);
            }
            if let Some(proof) = proof {
                unsaved = still(proof, asks).await.err().or(unsaved);
            }
            let made = by_a_thread(shelf, now, stop).await;
            for said in end {
                drop(said.await);
            }
            let told =
                made.as_ref().map_err(ToString::to_string).map(|about| (about.clone(), unsaved));
            teller.tell(Happened::CopyEnded(told)).await;
            drop(
                done.send(
                    made.map(|about| view(&about))
                        .map_err(|error| WardError::Unavailable(error.to_string())),
                ),
            );
        });
        Ok(waits)
    }

    /// A backup ended.
    pub(super) fn copy_ended(
        &mut self,
        name: &WardName,
        result: Result<(About, Option<String>), String>,
    ) {
        let now = self.ports.clock.now();
        if let Some(charge) = self.charges.get_mut(name) {
            charge.copying = false;
        }
        if let Some(planner) = &mut self.planner {
            planner.finished(name);
        }
        let (kind, body, notice) = match result {
            Ok((about, unsaved)) => {
                let body = serde_json::json!({
                    "backup": about.name, "bytes": about.archive_bytes, "files": about.files,
                    "unsteady": about.unsteady, "not_saved": unsaved,
                });
                let doubt = unsaved.is_some() || about.unsteady_count > 0;
                let text = match &unsaved {
                    Some(why) => format!("The game was not seen to save before: {why}"),
                    None if doubt => "Some files changed while they were read.".to_owned(),
                    None => String::new(),
                };
                let severity = if doubt { Severity::Warning } else { Severity::Info };
                (
                    "backed_up",
                    body,
                    ("backed_up", severity, format!("{name}: backup {} is made", about.name), text),
                )
            }
            Err(error) => {
                let body = serde_json::json!({ "error": error });
                let title = format!("{name}: no backup was made");
                ("backup_failed", body, ("backup_failed", Severity::Critical, title, error))
            }
        };
        self.pending.add_event(name, kind, &body.to_string(), now, false);
        let (kind, severity, title, text) = notice;
        let (ward, facts) = (Some(name.clone()), Vec::new());
        self.tell(Notice { ward, kind: kind.into(), severity, title, text, facts, at: now });
    }

    /// Its backups, newest first.
    pub(super) fn backups(&mut self, name: &WardName, reply: Reply<Vec<BackupView>>) {
        let Some(charge) = self.charges.get(name) else { return };
        let shelf = Shelf::of(&charge.ward, &charge.folder);
        self.tasks.spawn(async move {
            let listed =
                tokio::task::spawn_blocking(move || backup::list(&shelf.shelf, &shelf.ward));
            let result = match listed.await {
                Ok(Ok(found)) => Ok(found.iter().map(view).collect()),
                Ok(Err(BackupError::Io { error, .. }))
                    if error.kind() == io::ErrorKind::NotFound =>
                {
                    Ok(Vec::new())
                }
                Ok(Err(error)) => Err(WardError::Unavailable(error.to_string())),
                Err(_) => Err(WardError::Ended),
            };
            drop(reply.send(result));
        });
    }

    /// Puts a backup in place of the ward's files.
    pub(super) fn restore(&mut self, name: &WardName, wanted: String, by: &str, reply: Reply<()>) {
        let Some(charge) = self.charges.get_mut(name) else { return };
        let is_down =
            matches!(charge.life.phase(), Phase::Stopped | Phase::GaveUp) && !charge.is_up();
        if !is_down || charge.copying {
            let why = if is_down { "a backup or restore is under way" } else { "stop it first" };
            drop(reply.send(Err(WardError::Unavailable(why.to_owned()))));
            return;
        }
        (charge.copying, charge.restoring) = (true, true);
        let shelf = Shelf::of(&charge.ward, &charge.folder);
        let teller = self.teller(name, self.charges[name].entry);
        let body = serde_json::json!({ "backup": wanted, "by": by }).to_string();
        let now = self.ports.clock.now();
        self.pending.add_event(name, "restored", &body, now, true);
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            let restored = on_a_thread(move || bring_back(&shelf, &wanted, stop)).await;
            let result = restored.unwrap_or(Err(WardError::Ended));
            teller.tell(Happened::RestoreEnded).await;
            drop(reply.send(result));
        });
    }
}

/// Waits until the game's files are still.
async fn still(
    mut proof: oneshot::Receiver<Result<(), WardError>>,
    asks: Vec<super::talk::Said>,
) -> Result<(), String> {
    for ask in asks {
        drop(ask.await);
        match timeout(ASK_AGAIN, &mut proof).await {
            Ok(answer) => return heard(answer),
            Err(_) => sleep(Duration::ZERO).await,
        }
    }
    heard(proof.await)
}

fn heard(answer: Result<Result<(), WardError>, oneshot::error::RecvError>) -> Result<(), String> {
    answer.unwrap_or(Err(WardError::Ended)).map_err(|error| error.to_string())
}

async fn by_a_thread(
    shelf: Shelf,
    now: Timestamp,
    stop: CancellationToken,
) -> Result<About, BackupError> {
    let machine = move || Machine { stop, seen: Cell::default() };
    on_a_thread(move || shelf.make(now, &machine())).await.unwrap_or(Err(BackupError::Cancelled))
}

fn bring_back(shelf: &Shelf, wanted: &str, stop: CancellationToken) -> Result<(), WardError> {
    let failed = |error: BackupError| WardError::Unavailable(error.to_string());
    let listed = backup::list(&shelf.shelf, &shelf.ward).map_err(failed)?;
    let about = listed.iter().find(|about| about.name == wanted);
    let about =
        about.ok_or_else(|| WardError::Invalid("there is no backup of this name".into()))?;
    let machine = Machine { stop, seen: Cell::default() };
    // The loop refuses starts meanwhile.
    let is_running = || false;
    let options = BackupOptions::default();
    let restored =
        backup::restore(&shelf.shelf, about, &shelf.root, &is_running, &options, &machine)
            .map_err(failed)?;
    restored.discard().map_err(failed)
}

/// Runs this on a thread of its own that steps behind everybody else. `None` if the thread could not be had.
async fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (done, waits) = oneshot::channel();
    let thread = std::thread::Builder::new().name("ward-files".to_owned()).spawn(move || {
        // Without the right to it the copy is made all the same.
        if let Err(error) = host::lower_own_thread() {
            tracing::debug!(target: "naru::wards", %error, "a copying thread keeps its priority");
        }
        drop(done.send(work()));
    });
    thread.ok()?;
    waits.await.ok()
}

fn view(about: &About) -> BackupView {
    BackupView {
        name: about.name.clone(),
        at: Timestamp(about.made_ms),
        bytes: about.archive_bytes,
        // What could not be read again was not listed.
        verified: true,
    }
}

/// Undoes what a restore left that was ended by a crash. Blocking.
pub(super) fn mend(ward: &Ward) {
    match backup::mend(&ward.dir) {
        Ok(true) => {
            warn!(target: "naru::wards", ward = %ward.name, "a restore that was cut off was undone")
        }
        Ok(false) => {}
        Err(error) => {
            warn!(target: "naru::wards", ward = %ward.name, %error, "a restore that was cut off was not undone");
        }
    }
}
