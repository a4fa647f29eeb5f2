//! Real game servers for the tests of wards: brought from Debian's archive and from npm into `target/games`, once,
//! without root and without touching the system. Ends with a file that says how each is started; tests find it by
//! the variable [`VARIABLE`]. Knows nothing of the tests.

mod catalogue;
mod monitors;

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};

use self::catalogue::{End, Game};
pub(crate) use self::monitors::prepare as prepare_monitors;
use crate::apt::{self, Bundle};
use crate::clients;
use crate::place::{Place, setting};
use crate::tools;

/// Names the manifest for whoever runs the tests. Set by hand, it replaces ours (for systems without apt).
pub(crate) const VARIABLE: &str = "NARU_GAMES";
/// The form of the manifest, for readers of a later one.
const FORM: u32 = 1;
/// Somebody else's Minecraft server, brought as clients are.
const MINECRAFT: &str = "clients/minecraft-flying-squid";

/// Brings all servers that are not there yet and returns the manifest.
///
/// Its `games` has one object per server:
///
/// - `program`, `args`, `env`, and `files` to be written before the start (relative path to content);
/// - `ports`: name to `udp`, `tcp` or `udp+tcp`;
/// - `ready`: a part of the line on standard output or standard error that says that players may come;
/// - `question`: null, or hex of a datagram to `port`; a signal may be sent once it has been answered and the main
///   thread sleeps;
/// - `ends`: how it ends by `sigterm`, `sigint`, `sigsegv` and `input`, each `{"code": N}` or `{"signal": N}`;
/// - `input`: null, or the line on standard input that ends it;
/// - `version`.
///
/// `{dir}` stands for its working folder, an absolute path, and `{NAME}` for the port of that name.
pub(crate) fn prepare(place: &Place) -> Result<PathBuf> {
    if let Some(manifest) = setting(VARIABLE) {
        let manifest = place.root.join(manifest);
        ensure!(manifest.is_file(), "{VARIABLE}: {} is no file", manifest.display());
        return Ok(manifest);
    }
    let folder = place.target.join("games");
    let _lock = lock(&folder)?;
    let root = apt::bring(&bundle(), &folder)?;
    let mut games = Map::new();
    for game in catalogue::GAMES {
        games.insert(game.name.to_owned(), describe(game, &root)?);
    }
    games.insert("minecraft".to_owned(), minecraft(place)?);
    write(&folder, "games.json", &json!({ "form": FORM, "games": games }))
}

fn bundle() -> Bundle {
    let mut packages: Vec<_> = catalogue::GAMES.iter().map(|game| game.package).collect();
    packages.sort_unstable();
    packages.dedup();
    Bundle {
        about: "game servers: 300 MB",
        packages,
        not_brought: catalogue::NOT_BROUGHT,
        links: catalogue::LINKS,
        files: catalogue::FILES,
    }
}

/// Two runs with the same target folder bring everything once.
fn lock(folder: &Path) -> Result<File> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let lock = File::create(folder.join("lock"))?;
    lock.lock().with_context(|| format!("cannot lock {}", folder.display()))?;
    Ok(lock)
}

/// Readers of a run beside this one see the old file or the new one.
fn write(folder: &Path, name: &str, manifest: &Value) -> Result<PathBuf> {
    let (unfinished, path) = (folder.join(format!("{name}.new")), folder.join(name));
    fs::write(&unfinished, serde_json::to_string_pretty(manifest)?)?;
    fs::rename(&unfinished, &path)?;
    Ok(path)
}

fn describe(game: &Game, root: &Path) -> Result<Value> {
    let at = root.to_str().context("the path of the target folder is not UTF-8")?;
    let filled = |text: &&str| text.replace("{root}", at);
    let program = root.join(game.program);
    ensure!(program.is_file(), "{} is not in package {}", program.display(), game.package);
    let mut env = Map::new();
    env.insert("LD_LIBRARY_PATH".into(), apt::library_path(root)?.into());
    env.insert("HOME".into(), "{dir}".into());
    env.insert("LC_ALL".into(), "C".into());
    env.extend(game.env.iter().map(|(name, value)| ((*name).to_owned(), filled(value).into())));
    Ok(json!({
        "program": program,
        "args": game.args.iter().flat_map(|group| group.iter()).map(filled).collect::<Vec<_>>(),
        "env": env,
        "files": object(game.files),
        "ports": object(game.ports),
        "ready": game.ready,
        "question": game.question,
        "ends": ends(game.ends),
        "input": game.input,
        "version": apt::version(root, game.package)?,
    }))
}

fn minecraft(place: &Place) -> Result<Value> {
    tools::NODE.check()?;
    let folder = clients::prepare(place, MINECRAFT, &place.root.join(MINECRAFT))?;
    let node = tools::NODE.found()?;
    let pruned = place.program(&node).arg("prune.mjs").current_dir(&folder).status()?;
    ensure!(pruned.success(), "prune.mjs of {MINECRAFT} failed with {pruned}");
    let package = fs::read_to_string(folder.join("node_modules/flying-squid/package.json"))?;
    let package: Value = serde_json::from_str(&package)?;
    Ok(json!({
        "program": node,
        "args": [folder.join("server.mjs"), "{port}"],
        "env": { "HOME": "{dir}" },
        "files": {},
        "ports": { "port": "tcp" },
        "ready": "ready on 127.0.0.1:",
        "question": null,
        "ends": ends(catalogue::MINECRAFT_ENDS),
        "input": "stop",
        "version": package["version"],
    }))
}

fn object(pairs: &[(&str, &str)]) -> Value {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), Value::from(*value))).collect()
}

fn ends(ends: &[(&str, End)]) -> Value {
    let pairs = ends.iter().map(|(by, end)| {
        let end = match end {
            End::Code(code) => json!({ "code": code }),
            End::Signal(signal) => json!({ "signal": signal }),
        };
        ((*by).to_owned(), end)
    });
    pairs.collect()
}
