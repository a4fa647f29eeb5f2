//! What tests of others' programs run with: brought by npm, pip and Go as their lock files say, and by Maven as its
//! project file says, into the target folder, once.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::place::Place;

/// Brings what a folder's tests need and returns where to run them: the folder itself if it needs
/// nothing, else a copy of it beside what was brought, because both runtimes look there.
pub(crate) fn prepare(place: &Place, name: &str, folder: &Path) -> Result<PathBuf> {
    let lock = ["package-lock.json", "requirements.txt"]
        .into_iter()
        .map(|lock| folder.join(lock))
        .find(|lock| lock.is_file());
    let Some(lock) = lock else { return Ok(folder.to_owned()) };
    let copy = place.target.join("clients").join(name.replace('/', "-"));
    fs::create_dir_all(&copy).with_context(|| format!("cannot make {}", copy.display()))?;
    let wanted = fs::read(&lock)?;
    let stamp = copy.join("brought");
    let is_there = fs::read(&stamp).is_ok_and(|brought| brought == wanted);
    // What they share stands in a folder of its own.
    let shared = place.root.join("clients").join("shared");
    copy_files(&[folder, &shared], &copy)?;
    if !is_there {
        println!("== bringing the clients of {name}");
        if lock.ends_with("package-lock.json") {
            run(Command::new("npm")
                .args(["ci", "--no-audit", "--no-fund", "--ignore-scripts", "--silent"])
                .current_dir(&copy))?;
        } else {
            run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(copy.join(".venv")))?;
            run(Command::new(python(&copy))
                .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"])
                .arg(&lock))?;
        }
        fs::write(&stamp, wanted)?;
    }
    Ok(copy)
}

/// Maven, told to leave the sources alone: what it brings and what it builds is below the target folder.
pub(crate) fn maven(place: &Place, name: &str) -> Command {
    let clients = place.target.join("clients");
    let mut command = place.program("mvn");
    command.args(["--batch-mode", "--no-transfer-progress", "-Dstyle.color=never", "test"]);
    command.arg(define("maven.repo.local", &clients.join("m2")));
    command.arg(define("made", &clients.join(name.replace('/', "-"))));
    command
}

fn define(property: &str, path: &Path) -> std::ffi::OsString {
    let mut argument = std::ffi::OsString::from(format!("-D{property}="));
    argument.push(path);
    argument
}

/// Go, told to keep modules and what it compiles below the target folder, and to take what `go.sum` names.
pub(crate) fn go(place: &Place) -> Command {
    let folder = place.target.join("tools").join("go");
    let mut command = place.program("go");
    // `clean` and `rm` have to be able to remove the modules.
    command.args(["test", "-v", "-count=1", "-vet=off", "-mod=readonly", "-modcacherw", "./..."]);
    command.env("GOPATH", &folder).env("GOCACHE", folder.join("cache")).env("GOTOOLCHAIN", "local");
    command.env_remove("GOMODCACHE").env_remove("GOFLAGS");
    command
}

/// The Python that sees what was brought into this folder.
pub(crate) fn python(copy: &Path) -> PathBuf {
    let folder = if cfg!(windows) { "Scripts" } else { "bin" };
    copy.join(".venv").join(folder).join("python")
}

/// The files of folders, without those below them; what was copied before and is gone now goes as well.
fn copy_files(from: &[&Path], to: &Path) -> Result<()> {
    let from: Vec<_> = from.iter().filter(|folder| folder.is_dir()).collect();
    for entry in to.read_dir()? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default();
        let is_there = from.iter().any(|folder| folder.join(name).is_file());
        if path.is_file() && !path.ends_with("brought") && !is_there {
            fs::remove_file(path)?;
        }
    }
    for folder in from {
        for entry in folder.read_dir()? {
            let path = entry?.path();
            if path.is_file() {
                fs::copy(&path, to.join(path.file_name().unwrap_or_default()))?;
            }
        }
    }
    Ok(())
}

fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.status().with_context(|| format!("cannot run {program}"))?;
    if !status.success() {
        bail!("{program} failed with {status}: are the package registries reachable?");
    }
    Ok(())
}
