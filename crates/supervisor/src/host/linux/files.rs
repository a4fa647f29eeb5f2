//! Files as backups need them: whose they are, what they may be named, links and folders.

use std::ffi::OsStr;
use std::fs::{DirBuilder, File, Metadata, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, chown, fchown, symlink,
};
use std::path::{Path, PathBuf};

/// What a name must not contain, besides what no system allows.
pub const NOT_IN_NAMES: &[u8] = b"";

/// The path that these bytes of an archive name.
#[must_use]
pub fn path_of(bytes: &[u8]) -> Option<PathBuf> {
    Some(PathBuf::from(OsStr::from_bytes(bytes)))
}

/// Whether nobody wrote to a file between two looks at it.
#[must_use]
pub fn is_unchanged(before: &Metadata, after: &Metadata) -> bool {
    let marks = |m: &Metadata| (m.len(), m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec());
    marks(before) == marks(after)
}

/// Who may do what with a file (the lower nine bits), and the numbers of its user and group.
#[must_use]
pub fn rights(about: &Metadata) -> (u32, (u32, u32)) {
    (about.mode() & 0o777, (about.uid(), about.gid()))
}

/// Gives a file rights, and an owner if we may; never rights to run as somebody else.
pub fn set_rights(file: &File, mode: u32, owner: (u32, u32)) -> io::Result<()> {
    let found = file.metadata()?;
    if (found.uid(), found.gid()) != owner {
        match fchown(file, Some(owner.0), Some(owner.1)) {
            // Only root may give files away; everybody else gets back what is theirs.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            result => result?,
        }
    }
    file.set_permissions(Permissions::from_mode(mode & 0o777))
}

/// Gives a folder the owner of another one.
pub fn give_as(folder: &Path, other: &Metadata) -> io::Result<()> {
    chown(folder, Some(other.uid()), Some(other.gid()))
}

/// Makes a folder that nobody else may look into.
pub fn make_private_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(folder)
}

/// Opens a folder so that its time and rights can be set.
pub fn open_folder(folder: &Path) -> io::Result<File> {
    File::open(folder)
}

/// Makes a folder's entries durable.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    open_folder(folder)?.sync_all()
}

/// Makes a link to these bytes of an archive.
pub fn make_link(link: &Path, target: &[u8]) -> io::Result<()> {
    symlink(OsStr::from_bytes(target), link)
}
