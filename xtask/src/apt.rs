//! Brings packages of Debian's archive into a folder, with what they need: an apt whose state is private, and no
//! installation. The system's sources, keys and proxies count; nothing of the system is changed, and root is not
//! needed. Knows nothing of what the packages are, but for what the catalogue says must be put right.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::platform::{let_run, link_file};
use anyhow::{Context, Result, bail, ensure};

/// Taken from the system, whose loader they belong to: another C library under it would not start.
const FROM_THE_SYSTEM: &[&str] = &["libc6", "libcrypt1", "libgcc-s1", "libgcc1", "libstdc++6"];
/// Changes whenever what is done with the packages changes.
const RECIPE: u32 = 1;
/// Where the versions of what was unpacked stand, below the root.
const VERSIONS: &str = "versions.json";

/// What is brought together.
pub(crate) struct Bundle {
    /// What is said while it is being brought.
    pub(crate) about: &'static str,
    pub(crate) packages: Vec<&'static str>,
    /// Not brought, though others depend on them.
    pub(crate) not_brought: &'static [&'static str],
    /// Path below the root, and what it points to.
    pub(crate) links: &'static [(&'static str, &'static str)],
    /// Files of ours below the root; all of them may be executed.
    pub(crate) files: &'static [(&'static str, &'static str)],
}

/// Unpacks all packages of the bundle below `folder` unless that was done before. Returns their root.
pub(crate) fn bring(bundle: &Bundle, folder: &Path) -> Result<PathBuf> {
    let root = folder.join("root");
    let stamp = folder.join("brought");
    let wanted = wanted(bundle);
    if fs::read_to_string(&stamp).is_ok_and(|brought| brought == wanted) && root.is_dir() {
        return Ok(root);
    }
    println!("== bringing {} of Debian's archive, once", bundle.about);
    let private = folder.join("apt");
    let unfinished = folder.join("root.new");
    for leftover in [&private, &unfinished, &root] {
        if leftover.exists() {
            fs::remove_dir_all(leftover)?;
        }
    }
    let archives = download(bundle, &private)?;
    let versions = unpack(&archives, &unfinished)?;
    put_right(bundle, &unfinished)?;
    fs::write(unfinished.join(VERSIONS), serde_json::to_string(&versions)?)?;
    fs::rename(&unfinished, &root)?;
    fs::remove_dir_all(&private)?;
    fs::write(&stamp, wanted)?;
    Ok(root)
}

/// The folders of libraries, as `LD_LIBRARY_PATH` wants them.
pub(crate) fn library_path(root: &Path) -> Result<String> {
    let mut folders = Vec::new();
    for parent in ["usr/lib", "lib"].map(|parent| root.join(parent)) {
        for entry in parent.read_dir().into_iter().flatten() {
            let path = entry?.path();
            if path.file_name().is_some_and(|name| name.to_string_lossy().contains("-linux-gnu")) {
                folders.push(path.to_str().context("the path is not UTF-8")?.to_owned());
            }
        }
    }
    Ok(folders.join(":"))
}

/// The version of a package that was unpacked.
pub(crate) fn version(root: &Path, package: &str) -> Result<String> {
    let versions = fs::read_to_string(root.join(VERSIONS))?;
    let mut versions: BTreeMap<String, String> = serde_json::from_str(&versions)?;
    versions.remove(package).with_context(|| format!("package {package} was not brought"))
}

/// What the root depends on: another release of the system has other libraries.
fn wanted(bundle: &Bundle) -> String {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let release = release.lines().find(|line| line.starts_with("VERSION_ID=")).unwrap_or_default();
    let (packages, not_brought) = (bundle.packages.join(" "), bundle.not_brought.join(" "));
    format!("{RECIPE} {release}\n{packages}\n{not_brought}\n")
}

/// Downloads the packages and what they depend on. Returns the folder of archives.
fn download(bundle: &Bundle, private: &Path) -> Result<PathBuf> {
    let archives = private.join("cache/archives");
    for folder in ["state/lists/partial", "cache/archives/partial", "log"] {
        fs::create_dir_all(private.join(folder))?;
    }
    let architecture = output(Command::new("dpkg").arg("--print-architecture"))?;
    fs::write(private.join("status"), status(bundle, architecture.trim()))?;
    // What the administrator set about proxies and certificates. Not the rest: hooks of the system's apt empty
    // the system's caches.
    let acquire = output(Command::new("apt-config").arg("dump"))?;
    let acquire = acquire.lines().filter(|line| line.starts_with("Acquire::"));
    let configuration = private.join("apt.conf");
    fs::write(&configuration, conf(private, acquire)?)?;

    let apt = || {
        let mut apt = Command::new("apt-get");
        apt.env("APT_CONFIG", &configuration).env("LC_ALL", "C");
        apt
    };
    // A source of somebody else that does not answer is no reason to stop: the next step says what is missing.
    let updated = output(apt().args(["update", "--quiet"]));
    let mut install = apt();
    install.args(["install", "--download-only", "--quiet"]).args(&bundle.packages);
    let downloaded = output(&mut install);
    if let Err(error) = downloaded {
        let update = updated.err().map(|error| format!("\n{error:#}")).unwrap_or_default();
        bail!("packages of {} cannot be had: {error:#}{update}", bundle.about);
    }
    Ok(archives)
}

/// The state of a system that has nothing but what is not to be brought. Depends on nothing itself, so the real
/// system's state, broken or not, does not matter.
fn status(bundle: &Bundle, architecture: &str) -> String {
    let mut status = String::new();
    for package in FROM_THE_SYSTEM.iter().chain(bundle.not_brought) {
        let stanza = format!(
            "Package: {package}\nStatus: install ok installed\nArchitecture: {architecture}\n\
             Multi-Arch: same\nVersion: 999:0\nMaintainer: nobody\nDescription: not brought\n\n"
        );
        status.push_str(&stanza);
    }
    status
}

fn conf<'a>(private: &Path, acquire: impl Iterator<Item = &'a str>) -> Result<String> {
    let at = private.to_str().context("the path of the target folder is not UTF-8")?;
    let mut conf = String::new();
    for line in acquire {
        writeln!(conf, "{line}")?;
    }
    for (key, value) in [
        ("Dir::Etc::main", "/dev/null"),
        ("Dir::Etc::parts", "/dev/null"),
        ("Dir::State", &format!("{at}/state")),
        ("Dir::State::status", &format!("{at}/status")),
        ("Dir::Cache", &format!("{at}/cache")),
        ("Dir::Log", &format!("{at}/log")),
        // The user that apt would become may not read our folders.
        ("APT::Sandbox::User", ""),
        ("APT::Install-Recommends", "false"),
        ("APT::Get::Assume-Yes", "true"),
        // A source that does not answer makes an error, with its reason, of what would be a warning.
        ("APT::Update::Error-Mode", "any"),
        ("Acquire::Languages", "none"),
        ("Acquire::Retries", "3"),
    ] {
        writeln!(conf, "{key} \"{value}\";")?;
    }
    Ok(conf)
}

/// Unpacks all archives into `root` and returns the versions.
fn unpack(archives: &Path, root: &Path) -> Result<BTreeMap<String, String>> {
    fs::create_dir_all(root)?;
    let mut versions = BTreeMap::new();
    for entry in archives.read_dir()? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // NAME_VERSION_ARCHITECTURE.deb
        let mut parts = name.strip_suffix(".deb").unwrap_or_default().split('_');
        let (Some(package), Some(version)) = (parts.next(), parts.next()) else { continue };
        output(Command::new("dpkg-deb").arg("--extract").arg(&path).arg(root))?;
        versions.insert(package.to_owned(), version.replace("%3a", ":"));
        // Twice the space is more than is needed.
        fs::remove_file(&path)?;
    }
    Ok(versions)
}

/// Leads the programs to their data, which are not where they were told when they were built.
fn put_right(bundle: &Bundle, root: &Path) -> Result<()> {
    for (link, to) in bundle.links {
        let link = root.join(link);
        fs::create_dir_all(link.parent().context("a link stands in a folder")?)?;
        link_file(Path::new(to), &link)
            .with_context(|| format!("cannot make {}", link.display()))?;
    }
    for (file, text) in bundle.files {
        let file = root.join(file);
        fs::create_dir_all(file.parent().context("a file stands in a folder")?)?;
        fs::write(&file, text)?;
        let_run(&file)?;
    }
    Ok(())
}

/// Runs a program of Debian to its end and returns what it printed.
fn output(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let Output { status, stdout, stderr } = command.output().with_context(|| {
        format!(
            "`{program}` cannot be run: game servers and monitors come from Debian's archive \
             (elsewhere, describe your own game servers in a file like target/games/games.json and name it in {})",
            crate::games::VARIABLE
        )
    })?;
    let (said, complained) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    ensure!(status.success(), "{program} failed with {status}: {}", complained.trim());
    Ok(said.into_owned())
}
