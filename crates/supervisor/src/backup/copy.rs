//! Makes a backup: looks what is there, copies it slice by slice into a file beside the finished ones, reads
//! that again, and only then gives it its name. Whatever goes wrong, the half is removed and the rest is
//! untouched.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, UNIX_EPOCH};

use flate2::Compression;
use flate2::write::GzEncoder;
use naru_domain::Timestamp;
use sha2::{Digest as _, Sha256};

use super::archive::{ArchiveError, Entry, EntryKind, is_inside, pad, write_end, write_entry};
use super::pick::Selection;
use super::shelf::{self, About};
use super::verify::{MANIFEST, manifest_line, verify};
use super::{BackupError, FILES_MAX, Pace, Progress, SLICE_BYTES, Surroundings, hex, sync_folder};
use crate::host;
use crate::model::WardName;

/// What is backed up, and where to.
#[derive(Clone, Debug)]
pub struct Backup<'a> {
    /// Whose files.
    pub ward: &'a WardName,
    /// The folder that they are in.
    pub root: &'a Path,
    /// Which of them.
    pub selection: &'a Selection,
    /// The folder of backups. Inside `root` it is left out by itself.
    pub shelf: &'a Path,
    /// Now.
    pub now: Timestamp,
}

/// How a backup is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackupOptions {
    /// Bytes read in a second at most; 0 is as fast as it goes (guessed: a quarter of a slow disk).
    pub bytes_per_second: u64,
    /// What has to be left on the disk, for the game and everybody else.
    pub reserve_bytes: u64,
    /// How often a file is read that changes meanwhile. The last reading is kept, and the file named.
    pub tries: u32,
    /// The pause between two tries.
    pub retry_pause: Duration,
    /// 0 to 9. Worlds are compressed by their games already, so that more effort gains little.
    pub compression: u32,
}

impl Default for BackupOptions {
    fn default() -> BackupOptions {
        BackupOptions {
            bytes_per_second: 32 * 1024 * 1024,
            reserve_bytes: 512 * 1024 * 1024,
            tries: 3,
            retry_pause: Duration::from_millis(300),
            compression: 3,
        }
    }
}

/// Unsteady files that are named; further ones are counted.
const NAMED_MAX: usize = 20;
/// Bytes between two looks at the free space.
const LOOK_BYTES: u64 = 16 * 1024 * 1024;

/// Copies, verifies and names a backup.
///
/// Errors: `Full` (before anything is written, or on the way), `Io`, `TooMany`, `Cancelled`, `Changing` for a
/// file that shrank each time it was read, `Damaged` if what was written reads otherwise.
pub fn back_up(
    backup: &Backup<'_>,
    options: &BackupOptions,
    surroundings: &dyn Surroundings,
) -> Result<About, BackupError> {
    let Backup { root, selection, shelf, .. } = *backup;
    if !selection.is_sound() {
        let what = "what is included must be paths inside the folder, none inside another";
        return Err(BackupError::Place { path: root.to_owned(), what });
    }
    std::fs::create_dir_all(shelf).map_err(BackupError::io(shelf))?;
    let own = shelf.canonicalize().map_err(BackupError::io(shelf))?;
    let mut all = Progress::default();
    walk(root, selection, &own, &mut |found| {
        all.files += 1;
        if all.files > FILES_MAX {
            return Err(BackupError::TooMany { max: FILES_MAX });
        }
        all.bytes_all += if found.metadata.is_file() { found.metadata.len() } else { 0 };
        if surroundings.is_cancelled() { Err(BackupError::Cancelled) } else { Ok(()) }
    })?;
    // As if nothing could be compressed.
    let needed = all.bytes_all.saturating_add(options.reserve_bytes);
    check_space(shelf, needed, surroundings)?;

    let name = shelf::free_name(shelf, backup.ward, backup.now)?;
    let part = Part::create(shelf.join(format!(".{name}.part")))?;
    let listing = Part::create(shelf.join(format!(".{name}.manifest.part")))?;
    let progress = Progress { bytes_all: all.bytes_all, ..Progress::default() };
    let pace = Pace { surroundings, bytes_per_second: options.bytes_per_second, progress };
    let out = Out { file: part.reopen()?, place: 0, hash: Sha256::new() };
    let mut copy = Copy {
        backup,
        options,
        pace,
        gzip: Some(GzEncoder::new(out, Compression::new(options.compression.min(9)))),
        manifest: io::BufWriter::new(listing.reopen()?),
        about: About::new(&name, backup),
        looked_at: 0,
        path: part.path.clone(),
    };
    walk(root, selection, &own, &mut |found| copy.add(&found))?;
    let about = copy.finish(&listing.path)?;
    verify(&part.path, &about, options.bytes_per_second, surroundings)?;
    // The description first: an archive without one would be nameless.
    shelf::describe(shelf, &about)?;
    part.keep_as(&shelf::archive_path(shelf, &name))?;
    sync_folder(shelf)?;
    Ok(about)
}

pub(super) fn check_space(
    folder: &Path,
    needed: u64,
    surroundings: &dyn Surroundings,
) -> Result<(), BackupError> {
    let free = surroundings.free_bytes(folder).map_err(BackupError::io(folder))?;
    if free < needed {
        return Err(BackupError::Full { folder: folder.to_owned(), free, needed });
    }
    Ok(())
}

/// A file that is removed unless it was finished.
struct Part {
    path: PathBuf,
    is_kept: bool,
}

impl Part {
    fn create(path: PathBuf) -> Result<Part, BackupError> {
        let created = OpenOptions::new().write(true).create_new(true).open(&path);
        created.map_err(BackupError::io(&path))?;
        Ok(Part { path, is_kept: false })
    }

    fn reopen(&self) -> Result<File, BackupError> {
        let opened = OpenOptions::new().read(true).write(true).open(&self.path);
        opened.map_err(BackupError::io(&self.path))
    }

    fn keep_as(mut self, path: &Path) -> Result<(), BackupError> {
        std::fs::rename(&self.path, path).map_err(BackupError::io(path))?;
        self.is_kept = true;
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.is_kept {
            // Nobody is there to hear; `tidy` tries again.
            drop(std::fs::remove_file(&self.path));
        }
    }
}

/// What a walk came across.
struct Found {
    path: PathBuf,
    /// Below the root, with slashes.
    inside: Vec<u8>,
    metadata: Metadata,
}

/// Visits what is selected, folders before what is in them, by name. Links are not followed.
fn walk(
    root: &Path,
    selection: &Selection,
    own: &Path,
    visit: &mut dyn FnMut(Found) -> Result<(), BackupError>,
) -> Result<(), BackupError> {
    let metadata = std::fs::symlink_metadata(root).map_err(BackupError::io(root))?;
    if !metadata.is_dir() {
        let what = "it is no folder";
        return Err(BackupError::Place { path: root.to_owned(), what });
    }
    let mut stack: Vec<(PathBuf, Vec<u8>)> = if selection.include.is_empty() {
        entries_of(root, b"")?
    } else {
        let path = |path: &String| (root.join(path), path.clone().into_bytes());
        selection.include.iter().rev().map(path).collect()
    };
    while let Some((path, inside)) = stack.pop() {
        if selection.leaves_out(&inside) {
            continue;
        }
        let metadata = match std::fs::symlink_metadata(&path) {
            Ok(metadata) => metadata,
            // Games make and remove files all the time.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(BackupError::io(&path)(error)),
        };
        let is_folder = metadata.is_dir();
        if is_folder && path.canonicalize().is_ok_and(|path| path == own) {
            continue;
        }
        if is_folder {
            stack.extend(entries_of(&path, &inside)?);
        }
        visit(Found { path, inside, metadata })?;
    }
    Ok(())
}

/// What is in a folder, the last name first.
fn entries_of(folder: &Path, inside: &[u8]) -> Result<Vec<(PathBuf, Vec<u8>)>, BackupError> {
    let read = match std::fs::read_dir(folder) {
        Ok(read) => read,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(BackupError::io(folder)(error)),
    };
    let mut entries = Vec::new();
    for entry in read {
        let entry = entry.map_err(BackupError::io(folder))?;
        let mut path = inside.to_vec();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(entry.file_name().as_encoded_bytes());
        entries.push((entry.path(), path));
    }
    entries.sort_by(|(_, a), (_, b)| b.cmp(a));
    Ok(entries)
}

/// The file being written, with its checksum.
struct Out {
    file: File,
    place: u64,
    hash: Sha256,
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.place += u64::try_from(written).unwrap_or(0);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

struct Copy<'a> {
    backup: &'a Backup<'a>,
    options: &'a BackupOptions,
    pace: Pace<'a>,
    /// Always there between two calls.
    gzip: Option<GzEncoder<Out>>,
    manifest: io::BufWriter<File>,
    about: About,
    looked_at: u64,
    path: PathBuf,
}

/// How reading a file went.
enum Reading {
    Steady([u8; 32]),
    Unsteady([u8; 32]),
    /// It became shorter than its record says.
    Shrank,
}

impl Copy<'_> {
    fn add(&mut self, found: &Found) -> Result<(), BackupError> {
        let kind = &found.metadata.file_type();
        let entry = |kind| entry(found, kind);
        if !is_inside(&found.inside) {
            self.about.skipped += 1;
        } else if kind.is_dir() {
            self.about.folders += 1;
            self.put(|out| write_entry(out, &entry(EntryKind::Folder)))?;
        } else if kind.is_symlink() {
            let target = std::fs::read_link(&found.path).map_err(BackupError::io(&found.path))?;
            let target = target.as_os_str().as_encoded_bytes().to_vec();
            self.about.links += 1;
            self.put(|out| write_entry(out, &entry(EntryKind::Link(target))))?;
        } else if kind.is_file() {
            self.add_file(found)?;
        } else {
            // Sockets, pipes and devices are nothing that could be copied.
            self.about.skipped += 1;
        }
        Ok(())
    }

    fn add_file(&mut self, found: &Found) -> Result<(), BackupError> {
        let tries = self.options.tries.max(1);
        for attempt in 1..=tries {
            // Each try begins a member of its own in the compressed file, and can so be taken back.
            let place = self.begin_member()?;
            let is_last = attempt == tries;
            let Some((mut file, before)) = open(&found.path)? else {
                return Ok(()); // It vanished.
            };
            match self.read(found, &mut file, &before)? {
                Reading::Steady(hash) => return self.took(found, &before, hash),
                Reading::Unsteady(hash) if is_last => {
                    self.about.unsteady_count += 1;
                    if self.about.unsteady.len() < NAMED_MAX {
                        let name = String::from_utf8_lossy(&found.inside).into_owned();
                        self.about.unsteady.push(name);
                    }
                    return self.took(found, &before, hash);
                }
                Reading::Unsteady(_) | Reading::Shrank => self.take_back(place)?,
            }
            if !is_last {
                self.pace.surroundings.pause(self.options.retry_pause);
            }
        }
        Err(BackupError::Changing { path: found.path.clone(), tries })
    }

    fn took(
        &mut self,
        found: &Found,
        before: &Metadata,
        hash: [u8; 32],
    ) -> Result<(), BackupError> {
        let line = manifest_line(&hash, &found.inside);
        self.manifest.write_all(&line).map_err(BackupError::io(&self.path))?;
        self.about.files += 1;
        self.about.bytes += before.len();
        self.pace.progress.files += 1;
        Ok(())
    }

    fn read(
        &mut self,
        found: &Found,
        file: &mut File,
        before: &Metadata,
    ) -> Result<Reading, BackupError> {
        let size = before.len();
        let found = Found { metadata: before.clone(), ..found.clone() };
        self.put(|out| write_entry(out, &entry(&found, EntryKind::File(size))))?;
        let (mut hash, mut left) = (Sha256::new(), size);
        let mut buffer = vec![0; SLICE_BYTES];
        while left > 0 {
            let began = Instant::now();
            let max = usize::try_from(left).unwrap_or(usize::MAX).min(SLICE_BYTES);
            let read = file.read(&mut buffer[..max]).map_err(BackupError::io(&found.path))?;
            if read == 0 {
                return Ok(Reading::Shrank);
            }
            hash.update(&buffer[..read]);
            self.put(|out| Ok(out.write_all(&buffer[..read])?))?;
            left -= u64::try_from(read).unwrap_or(left);
            self.pace.slice(read, began.elapsed())?;
            self.look_at_space()?;
        }
        self.put(|out| pad(out, size))?;
        let after = file.metadata().map_err(BackupError::io(&found.path))?;
        let hash = hash.finalize().into();
        Ok(if host::is_unchanged(before, &after) {
            Reading::Steady(hash)
        } else {
            Reading::Unsteady(hash)
        })
    }

    fn look_at_space(&mut self) -> Result<(), BackupError> {
        if self.pace.progress.bytes - self.looked_at < LOOK_BYTES {
            return Ok(());
        }
        self.looked_at = self.pace.progress.bytes;
        check_space(self.backup.shelf, self.options.reserve_bytes, self.pace.surroundings)
    }

    fn put(
        &mut self,
        write: impl FnOnce(&mut GzEncoder<Out>) -> Result<(), ArchiveError>,
    ) -> Result<(), BackupError> {
        let gzip = self.gzip.as_mut().expect("invariant: there between two calls");
        write(gzip).map_err(BackupError::archive(&self.path))
    }

    fn begin_member(&mut self) -> Result<(u64, Sha256), BackupError> {
        let out = self.end_member()?;
        let place = (out.place, out.hash.clone());
        self.start_member(out);
        Ok(place)
    }

    /// Forgets what was written since then.
    fn take_back(&mut self, (place, hash): (u64, Sha256)) -> Result<(), BackupError> {
        let mut out = self.end_member()?;
        out.file.set_len(place).map_err(BackupError::io(&self.path))?;
        out.file.seek(SeekFrom::Start(place)).map_err(BackupError::io(&self.path))?;
        self.start_member(Out { place, hash, ..out });
        Ok(())
    }

    fn end_member(&mut self) -> Result<Out, BackupError> {
        let gzip = self.gzip.take().expect("invariant: there between two calls");
        gzip.finish().map_err(BackupError::io(&self.path))
    }

    fn start_member(&mut self, out: Out) {
        let level = Compression::new(self.options.compression.min(9));
        self.gzip = Some(GzEncoder::new(out, level));
    }

    fn finish(mut self, listing: &Path) -> Result<About, BackupError> {
        self.manifest.flush().map_err(BackupError::io(listing))?;
        let mut manifest = File::open(listing).map_err(BackupError::io(listing))?;
        let size = manifest.metadata().map_err(BackupError::io(listing))?.len();
        let entry = Entry {
            path: MANIFEST.to_vec(),
            kind: EntryKind::File(size),
            mode: 0o644,
            owner: (0, 0),
            changed: u64::try_from(self.backup.now.0.div_euclid(1_000)).unwrap_or(0),
        };
        self.put(|out| write_entry(out, &entry))?;
        self.put(|out| {
            io::copy(&mut manifest, out)?;
            pad(out, size)?;
            write_end(out)
        })?;
        let out = self.end_member()?;
        out.file.sync_all().map_err(BackupError::io(&self.path))?;
        self.about.archive_bytes = out.place;
        self.about.sha256 = hex(&out.hash.finalize());
        Ok(self.about)
    }
}

impl Clone for Found {
    fn clone(&self) -> Found {
        let Found { path, inside, metadata } = self;
        Found { path: path.clone(), inside: inside.clone(), metadata: metadata.clone() }
    }
}

/// Opens a file that is one still; `None` if it vanished or became something else.
fn open(path: &Path) -> Result<Option<(File, Metadata)>, BackupError> {
    let opened = File::open(path).and_then(|file| file.metadata().map(|found| (file, found)));
    let now = std::fs::symlink_metadata(path);
    match (opened, now) {
        (Ok((file, found)), Ok(now)) if now.is_file() && found.is_file() => Ok(Some((file, found))),
        (Ok(_), Ok(_)) => Ok(None),
        (Err(error), _) | (_, Err(error)) => match error.kind() {
            io::ErrorKind::NotFound => Ok(None),
            _ => Err(BackupError::io(path)(error)),
        },
    }
}

fn entry(found: &Found, kind: EntryKind) -> Entry {
    let path = [b"data/", &found.inside[..]].concat();
    let since = found.metadata.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    let (mode, owner) = host::rights(&found.metadata);
    Entry { path, kind, mode, owner, changed: since.map_or(0, |since| since.as_secs()) }
}
