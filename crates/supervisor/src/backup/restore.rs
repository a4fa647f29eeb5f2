//! Brings a backup back. It is unpacked beside the folder, into one that nobody else knows; only when all of it
//! is there and verified, it changes places with what was, by a few renames that are written down before.
//! What was stays aside until the caller is content.
//!
//! Against archives that somebody prepared: paths are checked by the reader, files are only ever created and
//! never opened, links are made last, so that nothing is written through one.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use super::archive::{Entry, EntryKind};
use super::copy::{BackupOptions, check_space};
use super::pick::Selection;
use super::shelf::{About, archive_path, is_name};
use super::verify::{Sink, read_archive};
use super::{BackupError, FILES_MAX, Surroundings, sync_folder};
use crate::host;

/// A restore that worked.
#[derive(Debug)]
pub struct Restored {
    /// Where the old state lies.
    pub aside: PathBuf,
    /// Files that were brought back.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Restored {
    /// Removes the old state.
    pub fn discard(self) -> Result<(), BackupError> {
        std::fs::remove_dir_all(&self.aside).map_err(BackupError::io(&self.aside))
    }
}

/// The longest journal: two renames a path, and what was left out.
const JOURNAL_BYTES_MAX: u64 = 64 * 1024 * 1024;

#[derive(serde::Serialize, serde::Deserialize)]
struct Move {
    from: PathBuf,
    to: PathBuf,
    /// It cannot have been made while this is not there.
    after: Option<PathBuf>,
}

/// The places beside a folder that a restore works in.
struct Places {
    root: PathBuf,
    parent: PathBuf,
    staging: PathBuf,
    aside: PathBuf,
    journal: PathBuf,
}

impl Places {
    fn of(root: &Path, name: &str) -> Result<Places, BackupError> {
        let bad = |what| BackupError::Place { path: root.to_owned(), what };
        let (Some(folder), Some(parent)) = (root.file_name(), root.parent()) else {
            return Err(bad("it is no folder that could be replaced"));
        };
        match std::fs::symlink_metadata(root) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return Err(bad("it is a link or a file, and has to be a folder")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(BackupError::io(root)(error)),
        }
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        let parent = parent.canonicalize().map_err(BackupError::io(parent))?;
        let beside = |what: &str| {
            let mut name = std::ffi::OsString::from(".");
            name.push(folder);
            name.push(what);
            parent.join(name)
        };
        Ok(Places {
            root: parent.join(folder),
            staging: beside(".restoring"),
            aside: beside(&format!(".before-{name}")),
            journal: beside(".restore.json"),
            parent,
        })
    }
}

/// Brings back the backup `about` of `shelf` into the folder `root`.
///
/// What the backup was not made of stays: with `include` only those paths are replaced, and what was excluded is
/// taken over from the old state. `is_running` is asked before anything happens, and again before the
/// old state is moved. Errors leave everything as it was; call [`mend`] before if a restore may have been
/// ended by a crash.
pub fn restore(
    shelf: &Path,
    about: &About,
    root: &Path,
    is_running: &dyn Fn() -> bool,
    options: &BackupOptions,
    surroundings: &dyn Surroundings,
) -> Result<Restored, BackupError> {
    if is_running() {
        return Err(BackupError::Running);
    }
    if !is_name(&about.name) || !about.selection.is_sound() {
        let what = "the description of the backup is not valid";
        return Err(BackupError::Place { path: shelf.to_owned(), what });
    }
    let places = Places::of(root, &about.name)?;
    for path in [&places.aside, &places.journal] {
        if std::fs::symlink_metadata(path).is_ok() {
            let what = "it is left from an earlier restore: remove it, or mend the folder";
            return Err(BackupError::Place { path: path.clone(), what });
        }
    }
    check_space(&places.parent, about.bytes.saturating_add(options.reserve_bytes), surroundings)?;
    clear(&places.staging)?;
    let result = unpack(shelf, about, &places, options, surroundings).and_then(|()| {
        if is_running() {
            return Err(BackupError::Running);
        }
        swap(&places, &about.selection)
    });
    let cleared = clear(&places.staging);
    result.and(cleared)?;
    Ok(Restored { aside: places.aside, files: about.files, bytes: about.bytes })
}

/// Undoes what a restore left that was ended by a crash; says whether there was anything. The folder is then as it
/// was before that restore.
pub fn mend(root: &Path) -> Result<bool, BackupError> {
    let places = Places::of(root, "")?;
    let file = match File::open(&places.journal) {
        Ok(file) => Some(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(BackupError::io(&places.journal)(error)),
    };
    let was_there = file.is_some() || std::fs::symlink_metadata(&places.staging).is_ok();
    if let Some(file) = file {
        let mut text = Vec::new();
        let read = file.take(JOURNAL_BYTES_MAX).read_to_end(&mut text);
        read.map_err(BackupError::io(&places.journal))?;
        // One that is torn was never acted upon.
        if let Ok(moves) = serde_json::from_slice::<Vec<Move>>(&text) {
            undo(&moves)?;
            if let Some(aside) = moves.first().and_then(|first| aside_of(first, &places)) {
                remove_empty(&aside);
            }
        }
        std::fs::remove_file(&places.journal).map_err(BackupError::io(&places.journal))?;
    }
    clear(&places.staging)?;
    Ok(was_there)
}

/// The folder beside the root that the first move goes to.
fn aside_of(first: &Move, places: &Places) -> Option<PathBuf> {
    let inside = first.to.strip_prefix(&places.parent).ok()?;
    Some(places.parent.join(inside.components().next()?)).filter(|aside| *aside != places.root)
}

fn clear(folder: &Path) -> Result<(), BackupError> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(BackupError::io(folder)(error))
        }
        _ => Ok(()),
    }
}

fn remove_empty(folder: &Path) {
    // One that is not empty holds something of somebody, and stays.
    drop(std::fs::remove_dir(folder));
}

struct Unpacking<'a> {
    staging: &'a Path,
    selection: &'a Selection,
    entries: u64,
    folders: Vec<(PathBuf, Entry)>,
    links: Vec<(PathBuf, Vec<u8>)>,
}

fn unpack(
    shelf: &Path,
    about: &About,
    places: &Places,
    options: &BackupOptions,
    surroundings: &dyn Surroundings,
) -> Result<(), BackupError> {
    private_folder(&places.staging)?;
    let mut sink = Unpacking {
        staging: &places.staging,
        selection: &about.selection,
        entries: 0,
        folders: Vec::new(),
        links: Vec::new(),
    };
    let archive = archive_path(shelf, &about.name);
    read_archive(&archive, about, options.bytes_per_second, surroundings, &mut sink)?;
    let Unpacking { folders, links, .. } = sink;
    for (path, target) in &links {
        host::make_link(path, target).map_err(BackupError::io(path))?;
    }
    // From the inside, since making what is in a folder changes its time, and its rights may forbid that.
    for (path, entry) in folders.iter().rev() {
        sync_folder(path)?;
        let folder = host::open_folder(path).map_err(BackupError::io(path))?;
        dress(&folder, entry).map_err(BackupError::io(path))?;
    }
    if about.selection.include.is_empty() {
        keep_rights(&places.root, &places.staging);
    }
    sync_folder(&places.staging)
}

impl Sink for Unpacking<'_> {
    fn entry(&mut self, inside: &[u8], entry: &Entry) -> Result<Option<File>, BackupError> {
        self.entries += 1;
        if self.entries > FILES_MAX {
            return Err(BackupError::TooMany { max: FILES_MAX });
        }
        let place = |what| BackupError::Place { path: self.staging.to_owned(), what };
        let include = &self.selection.include;
        let belongs = |root: &String| {
            let rest = inside.strip_prefix(root.as_bytes());
            rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
        };
        if !include.is_empty() && !include.iter().any(belongs) {
            return Err(place("the archive holds what it was not made of"));
        }
        let path = host::path_of(inside).ok_or_else(|| place("a name cannot be one here"))?;
        let path = self.staging.join(path);
        // All folders in it are ours: links are made last.
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(BackupError::io(parent))?;
        }
        match &entry.kind {
            EntryKind::Folder => {
                std::fs::create_dir(&path).map_err(BackupError::io(&path))?;
                self.folders.push((path, entry.clone()));
                Ok(None)
            }
            EntryKind::Link(target) => {
                self.links.push((path, target.clone()));
                Ok(None)
            }
            EntryKind::File(_) => {
                let created = OpenOptions::new().write(true).create_new(true).open(&path);
                created.map(Some).map_err(BackupError::io(&path))
            }
        }
    }

    fn end(&mut self, _inside: &[u8], entry: &Entry, file: File) -> Result<(), BackupError> {
        let done = dress(&file, entry).and_then(|()| file.sync_all());
        done.map_err(BackupError::io(self.staging))
    }
}

/// Gives a file its time, its owner if we may, and its rights; never those to run as somebody else.
fn dress(file: &File, entry: &Entry) -> io::Result<()> {
    let changed = UNIX_EPOCH.checked_add(Duration::from_secs(entry.changed)).unwrap_or(UNIX_EPOCH);
    host::set_rights(file, entry.mode, entry.owner)?;
    file.set_modified(changed)
}

/// The new folder gets the rights and the owner of the old one, as far as possible.
fn keep_rights(old: &Path, new: &Path) {
    if let Ok(found) = std::fs::metadata(old) {
        drop(host::give_as(new, &found));
        drop(std::fs::set_permissions(new, found.permissions()));
    }
}

fn private_folder(path: &Path) -> Result<(), BackupError> {
    host::make_private_folder(path).map_err(BackupError::io(path))
}

/// Puts the new state in place of the old one.
fn swap(places: &Places, selection: &Selection) -> Result<(), BackupError> {
    let moves = plan(places, selection)?;
    let text = serde_json::to_vec(&moves).map_err(|error| BackupError::Io {
        path: places.journal.clone(),
        error: io::Error::other(error),
    })?;
    let created = OpenOptions::new().write(true).create_new(true).open(&places.journal);
    let written = created.and_then(|mut file| {
        file.write_all(&text)?;
        file.sync_all()
    });
    let done = written.map_err(BackupError::io(&places.journal)).and_then(|()| {
        sync_folder(&places.parent)?;
        if !selection.include.is_empty() {
            private_folder(&places.aside)?;
            std::fs::create_dir_all(&places.root).map_err(BackupError::io(&places.root))?;
        }
        moves.iter().try_for_each(make_move)
    });
    if let Err(error) = done {
        undo(&moves)?;
        remove_empty(&places.aside);
        drop(std::fs::remove_file(&places.journal));
        return Err(error);
    }
    // From here on it is done.
    std::fs::remove_file(&places.journal).map_err(BackupError::io(&places.journal))?;
    if std::fs::symlink_metadata(&places.aside).is_err() {
        private_folder(&places.aside)?;
    }
    sync_folder(&places.parent)
}

/// Which renames make the change: the old away, the new in, and what was never backed up back in.
fn plan(places: &Places, selection: &Selection) -> Result<Vec<Move>, BackupError> {
    let roots: Vec<PathBuf> = match selection.include.is_empty() {
        true => vec![PathBuf::new()],
        false => selection.include.iter().map(PathBuf::from).collect(),
    };
    let mut moves = Vec::new();
    for inside in &roots {
        let at = |folder: &Path| {
            if inside.as_os_str().is_empty() { folder.to_owned() } else { folder.join(inside) }
        };
        let (old, aside, new) = (at(&places.root), at(&places.aside), at(&places.staging));
        no_links_above(&places.root, inside)?;
        let exists = |path: &Path| std::fs::symlink_metadata(path).is_ok();
        if exists(&old) {
            moves.push(Move { from: old.clone(), to: aside.clone(), after: None });
        }
        if exists(&new) {
            moves.push(Move { from: new.clone(), to: old.clone(), after: None });
        }
        for left_out in left_out(&old, inside, selection)? {
            // Where the new state has something else in the way, it stays aside.
            if no_links_above(&new, &left_out).is_ok() && !exists(&new.join(&left_out)) {
                moves.push(Move {
                    from: aside.join(&left_out),
                    to: old.join(&left_out),
                    after: Some(aside.clone()),
                });
            }
        }
    }
    Ok(moves)
}

/// The topmost paths below `old` that no backup takes, relative to it.
fn left_out(old: &Path, inside: &Path, selection: &Selection) -> Result<Vec<PathBuf>, BackupError> {
    let mut found = Vec::new();
    let mut stack = vec![PathBuf::new()];
    while let Some(relative) = stack.pop() {
        let folder = old.join(&relative);
        if selection.exclude.is_empty()
            || !std::fs::symlink_metadata(&folder).is_ok_and(|m| m.is_dir())
        {
            continue;
        }
        for entry in std::fs::read_dir(&folder).map_err(BackupError::io(&folder))? {
            let entry = entry.map_err(BackupError::io(&folder))?;
            let relative = relative.join(entry.file_name());
            let path = inside.join(&relative);
            if selection.leaves_out(path.as_os_str().as_encoded_bytes()) {
                found.push(relative);
            } else {
                stack.push(relative);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Renaming goes through the folders above a path: none of them may be a link to elsewhere.
fn no_links_above(root: &Path, inside: &Path) -> Result<(), BackupError> {
    let mut path = root.to_owned();
    let mut parts: Vec<Component<'_>> = inside.components().collect();
    parts.pop();
    for part in parts {
        path.push(part);
        if std::fs::symlink_metadata(&path).is_ok_and(|found| !found.is_dir()) {
            let what = "it is a link or a file, and has to be a folder";
            return Err(BackupError::Place { path, what });
        }
    }
    Ok(())
}

fn make_move(Move { from, to, .. }: &Move) -> Result<(), BackupError> {
    if let Some(parent) = to.parent() {
        std::fs::create_dir_all(parent).map_err(BackupError::io(parent))?;
    }
    std::fs::rename(from, to).map_err(BackupError::io(from))
}

/// Takes renames back that were made, the last one first. May be repeated.
fn undo(moves: &[Move]) -> Result<(), BackupError> {
    let exists = |path: &Path| std::fs::symlink_metadata(path).is_ok();
    for Move { from, to, after } in moves.iter().rev() {
        let was_possible = after.as_deref().is_none_or(exists);
        if was_possible && exists(to) && !exists(from) {
            if let Some(parent) = from.parent() {
                std::fs::create_dir_all(parent).map_err(BackupError::io(parent))?;
            }
            std::fs::rename(to, from).map_err(BackupError::io(to))?;
        }
    }
    Ok(())
}

/// As if the process died after so many renames.
#[cfg(test)]
pub(super) fn crash_in_swap(shelf: &Path, about: &About, root: &Path, renames: usize) {
    let surroundings = super::tests::stage();
    let options = BackupOptions { reserve_bytes: 0, ..BackupOptions::default() };
    let places = Places::of(root, &about.name).expect("a place");
    unpack(shelf, about, &places, &options, &surroundings).expect("it unpacks");
    let moves = plan(&places, &about.selection).expect("it is planned");
    assert!(renames <= moves.len(), "there are {} renames", moves.len());
    std::fs::write(&places.journal, serde_json::to_vec(&moves).expect("JSON")).expect("a journal");
    if !about.selection.include.is_empty() {
        private_folder(&places.aside).expect("a folder");
    }
    moves[..renames].iter().for_each(|each| make_move(each).expect("a rename"));
}
