//! Backups on real folders: whole ones, moving ones, full disks, prepared archives, crashes.
#![cfg(unix)]

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::process::Command;

use flate2::Compression;
use flate2::write::GzEncoder;
use naru_domain::Timestamp;
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::archive::{pad, write_end, write_entry};
use super::*;
use crate::model::WardName;

const NOW: Timestamp = Timestamp(1_767_225_600_000);

/// Surroundings that do as they are told.
struct Stage<'a> {
    free: Cell<u64>,
    cancel_after: Cell<u32>,
    paused: Cell<Duration>,
    each_slice: RefCell<Box<dyn FnMut() + 'a>>,
}

impl Default for Stage<'_> {
    fn default() -> Self {
        Stage {
            free: Cell::new(u64::MAX),
            cancel_after: Cell::new(u32::MAX),
            paused: Cell::default(),
            each_slice: RefCell::new(Box::new(|| ())),
        }
    }
}

impl Surroundings for Stage<'_> {
    fn free_bytes(&self, _folder: &Path) -> io::Result<u64> {
        Ok(self.free.get())
    }

    fn pause(&self, length: Duration) {
        self.paused.set(self.paused.get() + length);
    }

    fn is_cancelled(&self) -> bool {
        let left = self.cancel_after.get();
        self.cancel_after.set(left.saturating_sub(1));
        left == 0
    }

    fn progress(&self, _progress: &Progress) {
        (self.each_slice.borrow_mut())();
    }
}

pub(super) fn stage() -> impl Surroundings {
    Stage::default()
}

/// A ward's folder and a shelf in a folder of their own.
struct Place {
    folder: TempDir,
    selection: Selection,
    options: BackupOptions,
}

fn ward() -> WardName {
    WardName::parse("ark").expect("a name")
}

impl Place {
    fn new(files: &[(&str, &str)]) -> Place {
        let folder = tempfile::tempdir().expect("a folder");
        let options = BackupOptions { bytes_per_second: 0, reserve_bytes: 0, ..Default::default() };
        let place = Place { folder, selection: Selection::default(), options };
        fs::create_dir(place.root()).expect("it is made");
        files.iter().for_each(|(path, text)| place.write(path, text));
        place
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("ward")
    }

    fn shelf(&self) -> PathBuf {
        self.folder.path().join("shelf")
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().expect("it has one")).expect("it is made");
        fs::write(path, text).expect("it is written");
    }

    fn back_up(&self, stage: &Stage<'_>) -> Result<About, BackupError> {
        let (ward, root, shelf) = (ward(), self.root(), self.shelf());
        let selection = &self.selection;
        let backup = Backup { ward: &ward, root: &root, selection, shelf: &shelf, now: NOW };
        back_up(&backup, &self.options, stage)
    }

    fn restore(&self, about: &About) -> Result<Restored, BackupError> {
        restore(&self.shelf(), about, &self.root(), &|| false, &self.options, &Stage::default())
    }

    /// Everything below the whole folder but the shelf, as text.
    fn tree(&self) -> BTreeMap<String, String> {
        let mut tree = tree(self.folder.path());
        tree.retain(|path, _| !path.starts_with("/shelf"));
        tree
    }

    fn on_shelf(&self) -> Vec<String> {
        tree(&self.shelf()).into_keys().collect()
    }
}

fn tree(root: &Path) -> BTreeMap<String, String> {
    let mut tree = BTreeMap::new();
    let mut stack = vec![root.to_owned()];
    while let Some(folder) = stack.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.expect("an entry").path();
            let found = fs::symlink_metadata(&path).expect("it is there");
            let shown = if found.is_symlink() {
                format!("-> {}", fs::read_link(&path).expect("a link").display())
            } else if found.is_dir() {
                stack.push(path.clone());
                format!("{:o}/", found.mode() & 0o777)
            } else {
                let text = fs::read(&path).unwrap_or_default();
                format!(
                    "{:o} {} {}",
                    found.mode() & 0o777,
                    found.mtime(),
                    hex(&Sha256::digest(text))
                )
            };
            let name = path.display().to_string().replacen(&root.display().to_string(), "", 1);
            tree.insert(name, shown);
        }
    }
    tree
}

fn run(program: &str, arguments: &[&str], folder: &Path) -> String {
    let output = Command::new(program).args(arguments).current_dir(folder).output();
    let output = output.expect("it is installed");
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn what_is_backed_up_comes_back_with_rights_times_links_and_odd_names() {
    let long = format!("{}/{}", "d".repeat(200), "f".repeat(200));
    let place = Place::new(&[("a.txt", "hello"), ("세계/level.dat", "x"), (&long, "long")]);
    place.write("odd \\ name\nof two lines", "y");
    place.write("big", &"0123456789abcdef".repeat(40_000));
    fs::create_dir(place.root().join("empty")).unwrap();
    fs::set_permissions(place.root().join("a.txt"), fs::Permissions::from_mode(0o640)).unwrap();
    fs::set_permissions(place.root().join("empty"), fs::Permissions::from_mode(0o711)).unwrap();
    let old = std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    fs::File::open(place.root().join("a.txt")).unwrap().set_modified(old).unwrap();
    for (name, target) in [("link", "a.txt"), ("out", "/etc/passwd"), ("broken", &"../".repeat(60))]
    {
        symlink(target, place.root().join(name)).unwrap();
    }
    let _socket = std::os::unix::net::UnixListener::bind(place.root().join("socket")).unwrap();

    let about = place.back_up(&Stage::default()).unwrap();
    assert_eq!((about.files, about.folders, about.links, about.skipped), (5, 3, 3, 1));
    assert_eq!((about.name.as_str(), about.unsteady_count), ("ark-20260101-000000", 0));
    assert_eq!(list(&place.shelf(), &ward()).unwrap(), std::slice::from_ref(&about));
    fs::remove_file(place.root().join("socket")).unwrap();
    let before = place.tree();

    // The tools of any machine read it.
    let other = tempfile::tempdir().unwrap();
    let archive = place.shelf().join("ark-20260101-000000.tar.gz");
    run("tar", &["xzf", archive.to_str().unwrap()], other.path());
    run("sha256sum", &["--check", "--strict", "manifest.sha256"], other.path());
    let unpacked = tree(&other.path().join("data"));
    let expected = tree(&place.root());
    assert_eq!(unpacked, expected);

    fs::remove_dir_all(place.root().join("세계")).unwrap();
    place.write("a.txt", "griefed");
    let restored = place.restore(&about).unwrap();
    assert_eq!(fs::read(restored.aside.join("a.txt")).unwrap(), b"griefed");
    restored.discard().unwrap();
    assert_eq!(place.tree(), before);
    assert!(!mend(&place.root()).unwrap(), "nothing is left behind");
}

#[test]
fn two_backups_of_one_second_have_two_names() {
    let place = Place::new(&[("a", "1")]);
    place.back_up(&Stage::default()).unwrap();
    assert_eq!(place.back_up(&Stage::default()).unwrap().name, "ark-20260101-000000-2");
    assert_eq!(list(&place.shelf(), &ward()).unwrap().len(), 2);
    assert_eq!(list(&place.shelf(), &WardName::parse("other").unwrap()).unwrap(), []);
}

#[test]
fn a_file_that_changes_while_it_is_read_is_read_again() {
    let place = Place::new(&[("a", "1"), ("world", &"w".repeat(300_000)), ("z", "2")]);
    let count = Cell::new(0);
    let stage = Stage::default();
    *stage.each_slice.borrow_mut() = Box::new(|| {
        count.set(count.get() + 1);
        // The first slice is that of `a`; the world changes during the first two readings.
        if [2, 5].contains(&count.get()) {
            place.write("world", &count.get().to_string().repeat(300_000));
        }
    });
    let about = place.back_up(&stage).unwrap();
    assert_eq!((about.files, about.unsteady_count), (3, 0));
    assert_eq!(stage.paused.get(), place.options.retry_pause * 2);
    drop(stage);
    fs::remove_dir_all(place.root()).unwrap();
    place.restore(&about).unwrap();
    assert_eq!(fs::read_to_string(place.root().join("world")).unwrap(), "5".repeat(300_000));
}

#[test]
fn a_file_that_never_stands_still_is_kept_and_named() {
    let place = Place::new(&[("logs/latest.log", "line"), ("world", "w")]);
    let stage = Stage::default();
    let grow = || {
        let path = place.root().join("logs/latest.log");
        let mut log = fs::OpenOptions::new().append(true).open(path).unwrap();
        io::Write::write_all(&mut log, b" and more").unwrap();
    };
    *stage.each_slice.borrow_mut() = Box::new(grow);
    let about = place.back_up(&stage).unwrap();
    assert_eq!(
        (about.unsteady_count, &about.unsteady[..]),
        (1, &["logs/latest.log".to_owned()][..])
    );
    drop(stage);
    verify(&place.shelf().join(format!("{}.tar.gz", about.name)), &about, 0, &Stage::default())
        .unwrap();
}

#[test]
fn a_file_that_shrinks_each_time_ends_the_backup_and_leaves_nothing() {
    let place = Place::new(&[]);
    let size = Cell::new(2_000_000);
    let stage = Stage::default();
    let shrink = || {
        size.set(size.get() - 150_000);
        let file = fs::File::options().write(true).open(place.root().join("f")).unwrap();
        file.set_len(size.get()).unwrap();
    };
    place.write("f", &"f".repeat(2_000_000));
    *stage.each_slice.borrow_mut() = Box::new(shrink);
    let error = place.back_up(&stage).unwrap_err();
    assert!(matches!(error, BackupError::Changing { tries: 3, .. }), "{error}");
    assert_eq!(place.on_shelf(), [""; 0]);
}

#[test]
fn a_full_disk_is_said_clearly_and_older_backups_stay() {
    let place = Place::new(&[("a", &"x".repeat(1_000))]);
    let first = place.back_up(&Stage::default()).unwrap();
    let before = tree(&place.shelf());
    let stage = Stage::default();
    stage.free.set(999);
    let error = place.back_up(&stage).unwrap_err();
    assert!(matches!(error, BackupError::Full { free: 999, needed: 1_000, .. }), "{error}");
    assert!(error.to_string().contains("free space"));
    // It gets full on the way.
    place.write("b", &"y".repeat(17 << 20));
    let slices = Cell::new(0);
    let stage = Stage::default();
    let options = BackupOptions { reserve_bytes: 10, ..place.options };
    let place = Place { options, ..place };
    let free = std::rc::Rc::new(Cell::new(u64::MAX));
    stage.free.set(u64::MAX);
    *stage.each_slice.borrow_mut() = Box::new(|| slices.set(slices.get() + 1));
    struct Filling<'a>(Stage<'a>, std::rc::Rc<Cell<u64>>);
    impl Surroundings for Filling<'_> {
        fn free_bytes(&self, _folder: &Path) -> io::Result<u64> {
            Ok(self.1.replace(9))
        }
        fn pause(&self, length: Duration) {
            self.0.pause(length);
        }
        fn is_cancelled(&self) -> bool {
            false
        }
        fn progress(&self, progress: &Progress) {
            self.0.progress(progress);
        }
    }
    let (ward, root, shelf) = (ward(), place.root(), place.shelf());
    let selection = &place.selection;
    let backup = Backup { ward: &ward, root: &root, selection, shelf: &shelf, now: NOW };
    let error = back_up(&backup, &place.options, &Filling(stage, free)).unwrap_err();
    assert!(matches!(error, BackupError::Full { free: 9, needed: 10, .. }), "{error}");
    assert!(slices.get() > 0, "it had begun");
    assert_eq!(tree(&place.shelf()), before);
    verify(&place.shelf().join(format!("{}.tar.gz", first.name)), &first, 0, &Stage::default())
        .unwrap();
}

/// A file system of one MiB; `None` where this process may not mount one.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path) -> Option<SmallDisk> {
        let arguments = ["-t", "tmpfs", "-o", "size=1m", "naru-test"];
        let mounted = Command::new("mount").args(arguments).arg(at).output().ok()?;
        mounted.status.success().then(|| SmallDisk(at.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "the disk is unmounted");
    }
}

#[test]
fn a_disk_that_refuses_to_take_more_is_called_full() {
    let place = Place::new(&[]);
    let mut noise = 1_u64;
    let mut random = || {
        noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        char::from(b' ' + u8::try_from(noise >> 58).unwrap_or(0))
    };
    place.write("a", &(0..3_000_000).map(|_| random()).collect::<String>());
    fs::create_dir(place.shelf()).unwrap();
    // Where mounting is not allowed, the test above stands for this one.
    let Some(_disk) = SmallDisk::mount(&place.shelf()) else { return };
    let error = place.back_up(&Stage::default()).unwrap_err();
    assert!(matches!(error, BackupError::Full { .. }), "{error}");
    assert_eq!(place.on_shelf(), [""; 0]);
}

#[test]
fn cancelling_is_heard_between_any_two_slices() {
    let place = Place::new(&[("a", &"x".repeat(600_000)), ("b", "y")]);
    let total = {
        let stage = Stage::default();
        place.back_up(&stage).unwrap();
        u32::MAX - stage.cancel_after.get()
    };
    let before = tree(&place.shelf());
    for after in 0..total {
        let stage = Stage::default();
        stage.cancel_after.set(after);
        assert!(matches!(place.back_up(&stage), Err(BackupError::Cancelled)), "{after}");
        assert_eq!(tree(&place.shelf()), before);
    }
}

#[test]
fn the_rate_is_held() {
    let mut place = Place::new(&[("a", &"x".repeat(1 << 20))]);
    place.options.bytes_per_second = 1 << 20;
    let stage = Stage::default();
    place.back_up(&stage).unwrap();
    // A second for reading and one for reading again, less what the work took.
    assert!(stage.paused.get() > Duration::from_millis(1_000), "{:?}", stage.paused.get());
    assert!(stage.paused.get() <= Duration::from_secs(2));
}

#[test]
fn the_shelf_in_the_ward_is_left_out_and_so_is_what_is_excluded() {
    let files = [("a", "1"), ("logs/x.log", "2"), ("cache/y", "3"), ("backups/old", "4")];
    let mut place = Place::new(&files);
    place.selection.exclude = ["*.log", "cache"].map(|text| Pattern::parse(text).unwrap()).to_vec();
    let shelf = place.root().join("backups");
    let (ward, root) = (ward(), place.root());
    let selection = &place.selection;
    let backup = Backup { ward: &ward, root: &root, selection, shelf: &shelf, now: NOW };
    let about = back_up(&backup, &place.options, &Stage::default()).unwrap();
    assert_eq!((about.files, about.folders), (1, 1));
}

#[test]
fn a_restore_keeps_what_the_backup_was_not_made_of() {
    let files = [("bin/game", "v1"), ("saves/w/1", "old"), ("saves/w/x.log", "l1"), ("conf", "c1")];
    let mut place = Place::new(&files);
    place.selection.include = vec!["saves".to_owned(), "conf".to_owned()];
    place.selection.exclude = vec![Pattern::parse("*.log").unwrap()];
    let about = place.back_up(&Stage::default()).unwrap();
    for (path, text) in [("bin/game", "v2"), ("saves/w/1", "new"), ("saves/w/2", "new")] {
        place.write(path, text);
    }
    place.write("saves/w/x.log", "l2");
    fs::remove_file(place.root().join("conf")).unwrap();
    let restored = place.restore(&about).unwrap();
    let read = |path: &str| fs::read_to_string(place.root().join(path)).unwrap();
    assert_eq!([read("bin/game"), read("saves/w/1"), read("conf")], ["v2", "old", "c1"]);
    assert_eq!(read("saves/w/x.log"), "l2", "what was excluded is taken over");
    assert!(!place.root().join("saves/w/2").exists());
    assert_eq!(fs::read_to_string(restored.aside.join("saves/w/2")).unwrap(), "new");
    // All of it, with something excluded.
    let place = Place::new(&[("a", "1"), ("big/x", "2")]);
    let exclude = vec![Pattern::parse("big").unwrap()];
    let place = Place { selection: Selection { include: Vec::new(), exclude }, ..place };
    let about = place.back_up(&Stage::default()).unwrap();
    place.write("a", "3");
    place.restore(&about).unwrap();
    assert_eq!(fs::read_to_string(place.root().join("a")).unwrap(), "1");
    assert_eq!(fs::read_to_string(place.root().join("big/x")).unwrap(), "2");
}

#[test]
fn a_ward_that_runs_is_not_touched() {
    let place = Place::new(&[("a", "1")]);
    let about = place.back_up(&Stage::default()).unwrap();
    place.write("a", "2");
    let before = place.tree();
    for starts_at in 0..2 {
        let asked = Cell::new(0);
        let is_running = || asked.replace(asked.get() + 1) >= starts_at;
        let (shelf, root) = (place.shelf(), place.root());
        let stage = Stage::default();
        let refused = restore(&shelf, &about, &root, &is_running, &place.options, &stage);
        assert!(matches!(refused, Err(BackupError::Running)));
        assert_eq!(place.tree(), before);
    }
    let stage = Stage::default();
    stage.free.set(0);
    let full = restore(&place.shelf(), &about, &place.root(), &|| false, &place.options, &stage);
    assert!(matches!(full, Err(BackupError::Full { .. })));
    let stage = Stage::default();
    stage.cancel_after.set(0);
    let ended = restore(&place.shelf(), &about, &place.root(), &|| false, &place.options, &stage);
    assert!(matches!(ended, Err(BackupError::Cancelled)));
    assert_eq!(place.tree(), before);
}

#[test]
fn any_damage_is_found_and_restores_nothing() {
    let place = Place::new(&[("a", "hello"), ("b/c", &"x".repeat(2_000))]);
    let about = place.back_up(&Stage::default()).unwrap();
    let before = place.tree();
    let archive = place.shelf().join(format!("{}.tar.gz", about.name));
    let good = fs::read(&archive).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        fs::write(&archive, &bad).unwrap();
        assert!(verify(&archive, &about, 0, &Stage::default()).is_err(), "byte {at}");
        if at % 40 == 0 {
            assert!(place.restore(&about).is_err());
        }
    }
    for bad in [
        &good[..good.len() - 1],
        &[],
        &[&good[..], b"\0"].concat(),
        &[&good[..], &good[..]].concat(),
    ] {
        fs::write(&archive, bad).unwrap();
        assert!(place.restore(&about).is_err());
    }
    assert_eq!(place.tree(), before);
    fs::write(&archive, &good).unwrap();
    place.restore(&about).unwrap();
}

/// An archive by somebody who can describe it, too.
fn prepared(place: &Place, entries: &[(&str, EntryKind, &str)]) -> About {
    fs::create_dir_all(place.shelf()).expect("it is made");
    let mut gzip = GzEncoder::new(Vec::new(), Compression::new(1));
    let mut manifest = Vec::new();
    let mut about = About {
        version: 1,
        name: "ark-1".to_owned(),
        ward: "ark".to_owned(),
        made_ms: 1,
        selection: place.selection.clone(),
        files: 0,
        folders: 0,
        links: 0,
        skipped: 0,
        bytes: 0,
        archive_bytes: 0,
        sha256: String::new(),
        unsteady_count: 0,
        unsteady: Vec::new(),
    };
    let mut write = |path: &[u8], kind: EntryKind, text: &[u8]| {
        let entry = Entry { path: path.to_vec(), kind, mode: 0o777, owner: (0, 0), changed: 1 };
        write_entry(&mut gzip, &entry).expect("it is written");
        io::Write::write_all(&mut gzip, text).expect("it is written");
        pad(&mut gzip, text.len() as u64).expect("it is written");
    };
    for (path, kind, text) in entries {
        write(path.as_bytes(), kind.clone(), text.as_bytes());
        if let EntryKind::File(size) = kind {
            let hash = Sha256::digest(text).into();
            let inside = path.strip_prefix("data/").unwrap_or(path);
            manifest.extend(super::verify::manifest_line(&hash, inside.as_bytes()));
            about.files += 1;
            about.bytes += size;
        }
    }
    write(super::verify::MANIFEST, EntryKind::File(manifest.len() as u64), &manifest);
    write_end(&mut gzip).expect("it is written");
    let bytes = gzip.finish().expect("it is written");
    about.archive_bytes = bytes.len() as u64;
    about.sha256 = hex(&Sha256::digest(&bytes));
    fs::write(place.shelf().join("ark-1.tar.gz"), bytes).expect("it is written");
    about
}

fn file(text: &str) -> EntryKind {
    EntryKind::File(text.len() as u64)
}

fn link(target: &str) -> EntryKind {
    EntryKind::Link(target.as_bytes().to_vec())
}

#[test]
fn no_prepared_archive_writes_outside_of_its_folder() {
    let place = Place::new(&[("a", "1")]);
    fs::write(place.folder.path().join("victim"), "untouched").unwrap();
    let outside = place.folder.path().display().to_string();
    let victim = format!("{outside}/victim");
    let before = place.tree();
    let attacks: Vec<Vec<(&str, EntryKind, &str)>> = vec![
        vec![("data/../../victim", file("evil"), "evil")],
        vec![("data/x/../../../victim", file("evil"), "evil")],
        vec![(&victim, file("evil"), "evil")],
        vec![("victim", file("evil"), "evil")],
        vec![("data//victim", file("evil"), "evil")],
        // Through a link, made before or after.
        vec![("data/l", link(&outside), ""), ("data/l/victim", file("evil"), "evil")],
        vec![("data/l", link(&victim), ""), ("data/l", file("evil"), "evil")],
        vec![("data/l", file("evil"), "evil"), ("data/l", link(&victim), "")],
        vec![("data/l", link(&outside), ""), ("data/l", EntryKind::Folder, "")],
        vec![("data/l", link(&outside), ""), ("data/l/x", link("y"), "")],
        vec![("data/f", file("1"), "1"), ("data/f/g", file("2"), "2")],
        vec![("data/f", file("1"), "1"), ("data/f", file("2"), "2")],
    ];
    for attack in attacks {
        let about = prepared(&place, &attack);
        let refused = place.restore(&about);
        assert!(refused.is_err(), "{attack:?}: {refused:?}");
        assert_eq!(place.tree(), before, "{attack:?}");
    }
    // Links that lead outside are data, and come back as such.
    let about = prepared(&place, &[("data/l", link("/etc/passwd"), "")]);
    place.restore(&about).unwrap();
    assert_eq!(fs::read_link(place.root().join("l")).unwrap(), Path::new("/etc/passwd"));
}

#[test]
fn no_description_makes_a_restore_write_elsewhere_or_without_end() {
    let mut place = Place::new(&[("a", "1"), ("sub/x", "2")]);
    let before = place.tree();
    let good = prepared(&place, &[("data/a", file("new"), "new")]);
    for include in ["../victim", "/etc", "a/../b", ""] {
        let mut about = good.clone();
        about.selection.include = vec![include.to_owned()];
        assert!(place.restore(&about).is_err(), "{include}");
    }
    for name in ["../ark-1", "/etc/x", "", "ark-1\0"] {
        let about = About { name: name.to_owned(), ..good.clone() };
        assert!(place.restore(&about).is_err(), "{name}");
    }
    // It unpacks to more than was said.
    let about = About { bytes: 2, ..good };
    assert!(matches!(place.restore(&about), Err(BackupError::Damaged { .. })));
    // It holds what it was not made of.
    place.selection.include = vec!["saves".to_owned()];
    let about = prepared(&place, &[("data/a", file("new"), "new")]);
    assert!(place.restore(&about).is_err());
    assert_eq!(place.tree(), before);
    // In the ward a folder became a link to elsewhere.
    let elsewhere = place.folder.path().join("elsewhere");
    fs::create_dir_all(elsewhere.join("y")).unwrap();
    symlink(&elsewhere, place.root().join("saves")).unwrap();
    place.selection.include = vec!["saves/y".to_owned()];
    let about = prepared(&place, &[("data/saves/y/z", file("new"), "new")]);
    assert!(matches!(place.restore(&about), Err(BackupError::Place { .. })));
    assert!(!elsewhere.join("y/z").exists());
    // The ward itself did.
    let linked = place.folder.path().join("linked");
    symlink(place.root(), &linked).unwrap();
    let (shelf, stage) = (place.shelf(), Stage::default());
    let refused = restore(&shelf, &about, &linked, &|| false, &place.options, &stage);
    assert!(matches!(refused, Err(BackupError::Place { .. })));
}

#[test]
fn a_crash_at_any_rename_is_mended() {
    let parts = vec!["s".to_owned(), "c".to_owned()];
    for (include, renames) in [(parts, 5), (Vec::new(), 3)] {
        for crash in 0..=renames {
            let mut place = Place::new(&[("s/a", "1"), ("s/x.log", "l"), ("c", "2"), ("bin", "3")]);
            let exclude = vec![Pattern::parse("*.log").unwrap()];
            place.selection = Selection { include: include.clone(), exclude };
            let about = place.back_up(&Stage::default()).unwrap();
            place.write("s/a", "after");
            let before = place.tree();
            super::restore::crash_in_swap(&place.shelf(), &about, &place.root(), crash);
            assert_ne!(place.tree(), before, "{crash}");
            assert!(mend(&place.root()).unwrap());
            assert_eq!(place.tree(), before, "{crash}");
            assert!(!mend(&place.root()).unwrap());
            place.restore(&about).unwrap();
            assert_eq!(fs::read_to_string(place.root().join("s/a")).unwrap(), "1");
            assert_eq!(fs::read_to_string(place.root().join("s/x.log")).unwrap(), "l");
        }
    }
}

fn made(at_ms: i64) -> About {
    let place = Place::new(&[]);
    let root = place.root();
    let backup = Backup {
        ward: &ward(),
        root: &root,
        selection: &place.selection,
        shelf: &root,
        now: Timestamp(at_ms),
    };
    About::new(&format!("ark-{at_ms}"), &backup)
}

#[test]
fn the_last_and_one_a_day_and_one_a_week_are_kept() {
    const HOUR: i64 = 3_600_000;
    // Every six hours for four weeks, from a Thursday.
    let all: Vec<About> = (0..28 * 4).map(|n| made(n * 6 * HOUR)).collect();
    let gone = surplus(&all, Keep { last: 3, daily: 3, weekly: 3 });
    let kept: Vec<i64> = all
        .iter()
        .filter(|each| !gone.contains(&each.name))
        .map(|each| each.made_ms / HOUR)
        .collect();
    // 666, 660, 654: the last; 642 and 618 end the two days before; 594 and 426 end Sundays.
    assert_eq!(kept, [426, 594, 618, 642, 654, 660, 666]);
    assert_eq!(surplus(&all[..1], Keep { last: 0, daily: 0, weekly: 0 }), [""; 0]);
}

#[test]
fn tidying_removes_the_surplus_and_what_crashes_left_of_this_ward_only() {
    let place = Place::new(&[("a", "1")]);
    for _ in 0..3 {
        place.back_up(&Stage::default()).unwrap();
    }
    let left = |name: &str| place.shelf().join(name);
    for name in
        [".ark-20260101-000000.part", ".ark-b-20260101-000000.part", "notes.json", "ark-9.tar.gz"]
    {
        fs::write(left(name), "x").unwrap();
    }
    let orphan = fs::read_to_string(left("ark-20260101-000000.json")).unwrap();
    fs::write(left("ark-7.json"), orphan.replace("ark-20260101-000000", "ark-7")).unwrap();
    let gone = tidy(&place.shelf(), &ward(), Keep { last: 2, daily: 0, weekly: 0 }).unwrap();
    assert_eq!(gone, ["ark-20260101-000000"]);
    assert_eq!(
        place.on_shelf(),
        [
            "/.ark-b-20260101-000000.part",
            "/ark-20260101-000000-2.json",
            "/ark-20260101-000000-2.tar.gz",
            "/ark-20260101-000000-3.json",
            "/ark-20260101-000000-3.tar.gz",
            "/ark-9.tar.gz",
            "/notes.json",
        ]
    );
    for name in ["../ark", "", "a/b"] {
        assert!(remove(&place.shelf(), name).is_err());
    }
    assert_eq!(list(Path::new("/nonexistent"), &ward()).unwrap(), []);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_tree_comes_back(
        files in proptest::collection::btree_map("[a-c]{1,2}(/[a-cé ]{1,3}x){0,3}f", 0_usize..300_000, 0..12),
    ) {
        let place = Place::new(&[]);
        for (path, size) in &files {
            place.write(path, &"ab\n".repeat(size / 3));
        }
        let about = place.back_up(&Stage::default()).unwrap();
        let before = place.tree();
        fs::remove_dir_all(place.root()).unwrap();
        place.restore(&about).unwrap().discard().unwrap();
        prop_assert_eq!(tree(&place.root()), before.into_iter().filter_map(|(path, shown)| {
            path.strip_prefix("/ward").filter(|path| !path.is_empty()).map(|path| (path.to_owned(), shown))
        }).collect());
    }
}
