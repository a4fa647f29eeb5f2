//! Naru as a monitor: it starts the games itself, each below a keeper, so its costs are taken apart by looking at
//! which process descends from which. Knows of Naru what an operator knows: its configuration and its API.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};

use super::meter;
use super::scene::{self, Launch, Running, Scene};
use super::web::Web;

/// All games run by then, or Naru does not start them at all.
const UP_WITHIN: Duration = Duration::from_secs(90);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// What the first word of a keeper's command line is.
const KEEPER: &str = "ward-keeper";
/// The longest pause before a restart: short, since what is measured is how fast an end is noticed.
pub(crate) const BACKOFF: Duration = Duration::from_millis(100);

/// Naru, and the games that it started. Dropping it stops all of them.
pub(crate) struct Naru {
    words: Vec<String>,
    name: String,
    folder: PathBuf,
    base: String,
    wards: Vec<String>,
    running: Option<Running>,
}

/// A ward of the configuration.
pub(crate) struct Ward<'a> {
    pub(crate) launch: &'a Launch,
    /// The processors that it is kept on; without, all.
    pub(crate) cpus: Vec<u32>,
}

/// Which process is what.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    /// Naru itself, its main process first.
    pub(crate) own: Vec<u32>,
    /// The keepers.
    pub(crate) keepers: Vec<u32>,
    /// The main process of each game, by ward.
    pub(crate) games: BTreeMap<String, u32>,
}

impl Naru {
    /// Writes the configuration. Nothing runs yet.
    pub(crate) fn prepare(
        scene: &mut Scene,
        program: &Path,
        name: &str,
        wards: &[Ward<'_>],
        core: Option<u32>,
    ) -> anyhow::Result<Naru> {
        let folder = scene.folder(name)?;
        let ports = [scene.port()?, scene.port()?, scene.port()?];
        let config = folder.join("scene.toml");
        fs::write(&config, configuration(&folder, ports, wards)?)?;
        let mut words = pinned(core);
        for word in [program, Path::new("serve"), Path::new("--only"), Path::new("wards")] {
            words.push(word.to_str().context("Naru's path is not UTF-8")?.to_owned());
        }
        let config = config.to_str().context("the temporary folder's path is not UTF-8")?;
        words.extend(["--config".to_owned(), config.to_owned()]);
        let wards = wards.iter().map(|ward| ward.launch.name.clone()).collect();
        let base = format!("http://127.0.0.1:{}", ports[0]);
        Ok(Naru { words, name: name.to_owned(), folder, base, wards, running: None })
    }

    /// Starts it. The games of an earlier start may still run.
    pub(crate) fn start(&mut self, scene: &Scene) -> anyhow::Result<()> {
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]).current_dir(&self.folder).stdin(Stdio::null());
        command.stdout(scene.log(&self.name)?).stderr(scene.log(&self.name)?);
        self.running = Some(Running::start(command)?);
        Ok(())
    }

    /// Waits until each ward has its game.
    pub(crate) fn until_all_run(&mut self, scene: &Scene) -> anyhow::Result<()> {
        let deadline = Instant::now() + UP_WITHIN;
        loop {
            self.must_run(scene)?;
            let games = self.groups()?.games;
            if self.wards.iter().all(|name| games.contains_key(name)) {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("after {UP_WITHIN:?} only {games:?} run\n{}", self.last_words(scene));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// The end of what it said.
    pub(crate) fn last_words(&self, scene: &Scene) -> String {
        scene.last_words(&self.name)
    }

    pub(crate) fn must_run(&mut self, scene: &Scene) -> anyhow::Result<()> {
        let running = self.running.as_mut().context("it was not started")?;
        running.must_run().with_context(|| scene.last_words(&self.name))
    }

    pub(crate) fn groups(&self) -> anyhow::Result<Groups> {
        let root = self.running.as_ref().context("it was not started")?.pid();
        let keepers = keepers(&self.folder)?;
        let mut groups = Groups::default();
        let mut apart = BTreeSet::new();
        for (keeper, ward) in keepers {
            let family = meter::tree(keeper)?;
            if let Some(game) = family.get(1) {
                groups.games.insert(ward, *game);
            }
            groups.keepers.push(keeper);
            apart.extend(family);
        }
        groups.own = meter::tree(root)?;
        groups.own.retain(|pid| !apart.contains(pid));
        Ok(groups)
    }

    /// Ends Naru as a crash would; keepers and games stay.
    pub(crate) fn kill_alone(&mut self) -> anyhow::Result<()> {
        self.running.as_mut().context("it was not started")?.kill_alone()
    }

    /// An answer of the API.
    pub(crate) fn ask(&self, web: &Web, path: &str) -> anyhow::Result<Value> {
        web.json(&format!("{}{path}", self.base), self.token().as_deref())
    }

    pub(crate) fn metrics(&self, web: &Web) -> anyhow::Result<String> {
        web.text(&format!("{}/metrics", self.base), self.token().as_deref())
    }

    fn token(&self) -> Option<String> {
        let token = fs::read_to_string(self.folder.join("data/operator.token")).ok()?;
        Some(token.trim().to_owned())
    }
}

impl Drop for Naru {
    fn drop(&mut self) {
        // Games outlive Naru by design; and while it lives, it starts them again.
        if let Some(running) = &mut self.running {
            drop(running.kill_alone());
        }
        let kept = keepers(&self.folder).unwrap_or_default();
        let families = kept.keys().filter_map(|keeper| meter::tree(*keeper).ok());
        scene::kill(families.flatten());
    }
}

/// The beginning of a command that is kept on a core.
pub(crate) fn pinned(core: Option<u32>) -> Vec<String> {
    let pin = |core: u32| vec!["taskset".to_owned(), "-c".to_owned(), core.to_string()];
    core.map(pin).unwrap_or_default()
}

/// The keepers of the wards below a folder: process id and name of the ward.
fn keepers(folder: &Path) -> anyhow::Result<BTreeMap<u32, String>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let Ok(line) = fs::read(entry.path().join("cmdline")) else { continue };
        if let Some(ward) = ward_of_keeper(&String::from_utf8_lossy(&line), folder) {
            found.insert(pid, ward);
        }
    }
    Ok(found)
}

fn ward_of_keeper(line: &str, folder: &Path) -> Option<String> {
    let mut words = line.split('\0').skip(1);
    if words.next() != Some(KEEPER) {
        return None;
    }
    let at = words.map(Path::new).find(|word| word.starts_with(folder))?;
    Some(at.file_name()?.to_str()?.to_owned())
}

/// What shipped profile a game of the list has. What is in no list has none.
fn profile(game: &str) -> &'static str {
    match game {
        "minetest" => "luanti",
        "teeworlds" => "teeworlds",
        "openarena" => "quake3",
        _ => "generic",
    }
}

/// JSON's strings and lists of strings are TOML's, too.
fn configuration(folder: &Path, ports: [u16; 3], wards: &[Ward<'_>]) -> anyhow::Result<String> {
    let [http, bridge, stomp] = ports;
    let data = json!(folder.join("data"));
    let mut text = format!(
        "data_dir = {data}\nhttp.listen = \"127.0.0.1:{http}\"\nbridge.listen = \"127.0.0.1:{bridge}\"\n\
         stomp.listen = \"127.0.0.1:{stomp}\"\nwards.sample_interval = \"1s\"\n"
    );
    for Ward { launch, cpus } in wards {
        let profile = profile(&launch.name);
        let backoff = BACKOFF.as_millis();
        writeln!(text, "\n[[ward]]\nname = {}\nprofile = {profile:?}", json!(launch.name))?;
        writeln!(text, "command = {}\ndir = {}", json!(launch.words), json!(launch.folder))?;
        // Killed again and again, so pauses stay short and tries do not run out.
        writeln!(
            text,
            "restart = {{ endless = true, within = \"1s\", backoff = \"{backoff}ms\", \
             backoff_max = \"{backoff}ms\" }}\npriority.cpus = {}",
            json!(cpus)
        )?;
        for (name, port) in &launch.ports {
            // The list calls the port that players use just that.
            let name = if name == "port" { "game" } else { name.trim_end_matches("_port") };
            writeln!(text, "ports.{name} = {port}")?;
        }
        if profile == "teeworlds" {
            writeln!(text, "secrets.econ = \"econ-secret\"")?;
        }
        if profile == "generic" {
            ensure!(launch.ports.is_empty(), "{} has ports, but no profile", launch.name);
            writeln!(text, "override.ready.log = [\"ready\"]\noverride.ready.answer = false")?;
        }
        for (name, value) in &launch.env {
            writeln!(text, "env.{name} = {}", json!(value))?;
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keeper_is_known_by_its_command_line() {
        let check = |line: &str, ward: Option<&str>| {
            assert_eq!(ward_of_keeper(line, Path::new("/tmp/a")).as_deref(), ward);
        };
        check("/bin/naru\0ward-keeper\0--folder\0/tmp/a/data/wards/mc\0", Some("mc"));
        check("/bin/naru\0ward-keeper\0--folder\0/tmp/ab/data/wards/mc\0", None);
        check("/bin/naru\0serve\0--config\0/tmp/a/scene.toml\0", None);
        check("", None);
    }

    #[test]
    fn names_and_paths_are_quoted() {
        let words = vec!["/x/a \"b\"".to_owned(), "say; it".to_owned()];
        let launch = Launch::of("tick", words, PathBuf::from("/tmp/a"), "ready");
        let wards = [Ward { launch: &launch, cpus: vec![1] }];
        let text = configuration(Path::new("/tmp/a"), [1, 2, 3], &wards).unwrap();
        assert!(text.contains(r#"command = ["/x/a \"b\"","say; it"]"#), "{text}");
        assert!(text.contains("priority.cpus = [1]"), "{text}");
    }
}
