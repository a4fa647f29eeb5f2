//! Whether everything still compiles for Windows. Compiled on Linux with GNU's tools: the target comes from rustup,
//! the C compiler for the bundled libraries from the PATH or from Debian's archive. Where one of them cannot be had,
//! it says so and why, and nothing has failed. Nothing is run: that the code does what it should there, it cannot
//! tell.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::apt::{self, Bundle};
use crate::ci::End;
use crate::place::{Place, setting};
use crate::stream::{self, Show};

const TARGET: &str = "x86_64-pc-windows-gnu";
/// The compiler under the name that cargo and build scripts look for.
const COMPILER: &str = "x86_64-w64-mingw32-gcc";
/// Without the one that has threads of POSIX: we compile C alone, and each is 200 MB on the disk.
const PACKAGE: &str = "gcc-mingw-w64-x86-64-win32";

/// Checks all libraries and programs of the workspace for Windows.
pub(crate) fn run(place: &Place) -> Result<End> {
    let tools = target(place).and_then(|()| compiler(place));
    let tools = match tools {
        Ok(tools) => tools,
        Err(error) => {
            println!("windows: SKIPPED, {error:#}");
            return Ok(End::Skipped);
        }
    };
    let mut command = place.cargo();
    // Lints and not `check`, since they can make errors of warnings without compiling all dependencies for it.
    command.args(["clippy", "--workspace", "--locked", "--target", TARGET, "--", "-D", "warnings"]);
    // Its assembler is not part of GNU's tools, so what the library's authors assembled is used.
    command.env("AWS_LC_SYS_PREBUILT_NASM", "1");
    if let Some(root) = tools {
        before(&mut command, "PATH", root.join("usr/bin"))?;
        after(&mut command, "LD_LIBRARY_PATH", apt::library_path(&root)?)?;
    }
    stream::run(place, "windows", &mut command, |_| Show::Yes).map(End::of)
}

/// Has rustup bring the target unless it is there.
fn target(place: &Place) -> Result<()> {
    let library =
        place.program("rustc").args(["--print", "target-libdir", "--target", TARGET]).output();
    let library = library.context("rustc cannot be run")?.stdout;
    if Path::new(String::from_utf8(library)?.trim_end()).is_dir() {
        return Ok(());
    }
    println!("adding the target {TARGET} by rustup, once");
    let added = place.program("rustup").args(["target", "add", TARGET]).output();
    let added = added
        .with_context(|| format!("rustup, which could add the target {TARGET}, cannot be run"))?;
    let complaint = String::from_utf8_lossy(&added.stderr);
    ensure!(added.status.success(), "rustup cannot add the target {TARGET}: {}", complaint.trim());
    Ok(())
}

/// Where the compiler was unpacked; nowhere if the system has one.
fn compiler(place: &Place) -> Result<Option<PathBuf>> {
    if Command::new(COMPILER).arg("--version").output().is_ok_and(|output| output.status.success())
    {
        return Ok(None);
    }
    let bundle = Bundle {
        about: "a C compiler for Windows: 60 MB",
        packages: vec![PACKAGE],
        not_brought: &[],
        // The name that an installation would give it.
        links: &[("usr/bin/x86_64-w64-mingw32-gcc", "x86_64-w64-mingw32-gcc-win32")],
        files: &[],
    };
    let folder = place.target.join("mingw");
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make {}", folder.display()))?;
    let root = apt::bring(&bundle, &folder)
        .with_context(|| format!("there is no {COMPILER} on the PATH, nor can it be brought"))?;
    Ok(Some(root))
}

fn before(command: &mut Command, name: &str, folder: PathBuf) -> Result<()> {
    let folders = setting(name).unwrap_or_default();
    set(command, name, std::iter::once(folder).chain(std::env::split_paths(&folders)))
}

/// After those of the caller, whose programs run with it, too.
fn after(command: &mut Command, name: &str, more: String) -> Result<()> {
    let (folders, more) = (setting(name).unwrap_or_default(), OsString::from(more));
    set(command, name, std::env::split_paths(&folders).chain(std::env::split_paths(&more)))
}

fn set(command: &mut Command, name: &str, folders: impl Iterator<Item = PathBuf>) -> Result<()> {
    command.env(name, std::env::join_paths(folders)?);
    Ok(())
}
