//! What these chores do differently on different operating systems: links, and files that may be run.

#[cfg(unix)]
pub(crate) use unix::{let_run, link_file, link_folder};
#[cfg(windows)]
pub(crate) use windows::{let_run, link_file, link_folder};

#[cfg(unix)]
mod unix {
    use std::fs::{self, Permissions};
    use std::io;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::path::Path;

    pub(crate) fn link_folder(folder: &Path, link: &Path) -> io::Result<()> {
        symlink(folder, link)
    }

    pub(crate) fn link_file(file: &Path, link: &Path) -> io::Result<()> {
        symlink(file, link)
    }

    /// Anybody may run the file.
    pub(crate) fn let_run(file: &Path) -> io::Result<()> {
        fs::set_permissions(file, Permissions::from_mode(0o755))
    }
}

#[cfg(windows)]
mod windows {
    use std::io;
    use std::os::windows::fs::{symlink_dir, symlink_file};
    use std::path::Path;

    pub(crate) fn link_folder(folder: &Path, link: &Path) -> io::Result<()> {
        symlink_dir(folder, link)
    }

    pub(crate) fn link_file(file: &Path, link: &Path) -> io::Result<()> {
        symlink_file(file, link)
    }

    /// What may be run is told by the name here.
    pub(crate) fn let_run(_file: &Path) -> io::Result<()> {
        Ok(())
    }
}
