//! Files as backups need them. Rights are inherited from the folder, so none are kept.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::windows::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// What a name must not contain, besides what no system allows: a backslash separates as a slash does, and a colon
/// names a drive or a stream.
pub const NOT_IN_NAMES: &[u8] = b"\\:";

/// The right to set a file's times (FILE_WRITE_ATTRIBUTES).
const SET_TIMES: u32 = 0x100;
/// What folders are opened with (FILE_FLAG_BACKUP_SEMANTICS).
const ALSO_FOLDERS: u32 = 0x0200_0000;

/// The path that these bytes of an archive name.
#[must_use]
pub fn path_of(bytes: &[u8]) -> Option<PathBuf> {
    std::str::from_utf8(bytes).ok().map(PathBuf::from)
}

/// Whether nobody wrote to a file between two looks at it.
#[must_use]
pub fn is_unchanged(before: &Metadata, after: &Metadata) -> bool {
    let marks = |m: &Metadata| (m.len(), m.modified().ok());
    marks(before) == marks(after)
}

/// What is usual on systems that have such rights.
#[must_use]
pub fn rights(about: &Metadata) -> (u32, (u32, u32)) {
    (if about.is_dir() { 0o755 } else { 0o644 }, (0, 0))
}

/// Does nothing: a file has the rights of its folder.
pub fn set_rights(_file: &File, _mode: u32, _owner: (u32, u32)) -> io::Result<()> {
    Ok(())
}

/// Does nothing: what we make is ours.
pub fn give_as(_folder: &Path, _other: &Metadata) -> io::Result<()> {
    Ok(())
}

/// Makes a folder, with the rights of the one that it is in.
pub fn make_private_folder(folder: &Path) -> io::Result<()> {
    std::fs::create_dir(folder)
}

/// Opens a folder so that its time can be set.
pub fn open_folder(folder: &Path) -> io::Result<File> {
    OpenOptions::new().access_mode(SET_TIMES).custom_flags(ALSO_FOLDERS).open(folder)
}

/// Does nothing: folders cannot be flushed, the system does so by itself.
pub fn sync_folder(_folder: &Path) -> io::Result<()> {
    Ok(())
}

/// Does nothing: making links takes a right that servers rarely have, and games do not use them.
pub fn make_link(_link: &Path, _target: &[u8]) -> io::Result<()> {
    Ok(())
}
