//! Real game servers on this machine, started as their description says (see `cargo xtask games`) and stopped by the
//! process ids they were started with. Knows nothing of monitors.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;

use super::meter;

/// A game that is not ready by then does not start at all.
const READY_WITHIN: Duration = Duration::from_secs(90);
/// Lines of a game that nobody has read yet; only while it starts does somebody wait for them.
const LINES_MAX: usize = 1_000;
/// Lines of a monitor's output that are shown when it failed.
const LAST_LINES: usize = 5;

/// What can be started, as `cargo xtask games` and `cargo xtask monitors` describe it.
#[derive(Deserialize)]
pub(crate) struct Manifest {
    form: u32,
    #[serde(alias = "monitors")]
    games: BTreeMap<String, Game>,
}

#[derive(Deserialize)]
struct Game {
    program: PathBuf,
    args: Vec<String>,
    env: BTreeMap<String, String>,
    files: BTreeMap<String, String>,
    ports: BTreeMap<String, String>,
    #[serde(default)]
    ready: String,
}

/// The games that run, and a folder for everything. Dropping it stops them.
pub(crate) struct Scene {
    games: Vec<Running>,
    folder: PathBuf,
    first_port: u16,
}

/// A program with everything that it needs in its folder, before it runs.
pub(crate) struct Launch {
    /// Its name.
    pub(crate) name: String,
    /// Program and arguments.
    pub(crate) words: Vec<String>,
    /// Variables of its environment.
    pub(crate) env: BTreeMap<String, String>,
    /// Where it runs.
    pub(crate) folder: PathBuf,
    /// Its ports by name.
    pub(crate) ports: BTreeMap<String, u16>,
    ready: String,
}

/// A process of ours. Dropping it kills it and all that descends from it.
pub(crate) struct Running(Child);

impl Manifest {
    pub(crate) fn read(path: &Path) -> anyhow::Result<Manifest> {
        let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let manifest: Manifest = serde_json::from_slice(&text)
            .with_context(|| format!("{} is no list of programs", path.display()))?;
        ensure!(manifest.form == 1, "{} has the unknown form {}", path.display(), manifest.form);
        Ok(manifest)
    }
}

impl Scene {
    /// A scene in which nothing runs.
    pub(crate) fn new() -> anyhow::Result<Scene> {
        let name = format!("naru-bench-wards-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let first_port = 20_000 + u16::try_from(std::process::id() % 1_000)? * 11;
        Ok(Scene { games: Vec::new(), folder, first_port })
    }

    /// Writes the files of a program of the list into the folder named, and gives it ports.
    pub(crate) fn prepare(
        &mut self,
        manifest: &Manifest,
        name: &str,
        folder: &str,
    ) -> anyhow::Result<Launch> {
        let game = manifest.games.get(name).with_context(|| format!("no program {name:?}"))?;
        let folder = self.folder(folder)?;
        game.prepare(name, folder, &mut self.first_port)
    }

    /// Starts what was prepared, and waits until it is ready.
    pub(crate) fn start(&mut self, launch: &Launch) -> anyhow::Result<()> {
        let running = launch.start().with_context(|| format!("cannot start {}", launch.name))?;
        self.games.push(running);
        Ok(())
    }

    /// Stops all games.
    pub(crate) fn clear(&mut self) {
        self.games.clear();
    }

    pub(crate) fn pids(&self) -> impl Iterator<Item = u32> {
        self.games.iter().map(Running::pid)
    }

    /// A port that nobody has.
    pub(crate) fn port(&mut self) -> anyhow::Result<u16> {
        free_port(&mut self.first_port).context("no port is free")
    }

    /// A folder of its own for a game or monitor.
    pub(crate) fn folder(&self, name: &str) -> anyhow::Result<PathBuf> {
        let folder = self.folder.join(name);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(folder)
    }

    /// The same, without what an earlier run left in it.
    pub(crate) fn fresh_folder(&self, name: &str) -> anyhow::Result<PathBuf> {
        let folder = self.folder.join(name);
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        self.folder(name)
    }

    /// Where a monitor's output goes.
    pub(crate) fn log(&self, name: &str) -> anyhow::Result<File> {
        fs::create_dir_all(&self.folder)?;
        let path = self.folder.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&path);
        file.with_context(|| format!("cannot write {}", path.display()))
    }

    /// The end of what a monitor said.
    pub(crate) fn last_words(&self, name: &str) -> String {
        let said = fs::read_to_string(self.folder.join(format!("{name}.log"))).unwrap_or_default();
        let lines: Vec<&str> = said.lines().rev().take(LAST_LINES).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.games.clear();
        // What cannot be removed stays in the system's folder for such files.
        drop(fs::remove_dir_all(&self.folder));
    }
}

impl Game {
    fn prepare(&self, name: &str, folder: PathBuf, first_port: &mut u16) -> anyhow::Result<Launch> {
        let at = folder.to_str().context("the temporary folder's path is not UTF-8")?;
        let mut filled = vec![("{dir}".to_owned(), at.to_owned())];
        let mut ports = BTreeMap::new();
        for name in self.ports.keys() {
            let port = free_port(first_port).context("no port is free")?;
            filled.push((format!("{{{name}}}"), port.to_string()));
            ports.insert(name.clone(), port);
        }
        let fill = |text: &String| {
            filled.iter().fold(text.clone(), |text, (name, value)| text.replace(name, value))
        };
        for (path, text) in &self.files {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().context("a file stands in a folder")?)?;
            fs::write(path, fill(text))?;
        }
        let program = self.program.to_str().context("the path of a program is not UTF-8")?;
        let mut words = vec![program.to_owned()];
        words.extend(self.args.iter().map(fill));
        let env = self.env.iter().map(|(name, value)| (name.clone(), fill(value))).collect();
        let (name, ready) = (name.to_owned(), self.ready.clone());
        Ok(Launch { name, words, env, folder, ports, ready })
    }
}

impl Launch {
    /// A program that is in no list.
    pub(crate) fn of(name: &str, words: Vec<String>, folder: PathBuf, ready: &str) -> Launch {
        let (env, ports) = (BTreeMap::new(), BTreeMap::new());
        Launch { name: name.to_owned(), words, env, folder, ports, ready: ready.to_owned() }
    }

    fn start(&self) -> anyhow::Result<Running> {
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]).current_dir(&self.folder).envs(&self.env);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut running = Running::start(command)?;
        let (sender, lines) = sync_channel(LINES_MAX);
        forward(running.0.stdout.take().context("no standard output")?, sender.clone());
        forward(running.0.stderr.take().context("no standard error")?, sender);
        wait_for(&self.ready, &lines)?;
        Ok(running)
    }
}

fn wait_for(ready: &str, lines: &Receiver<String>) -> anyhow::Result<()> {
    let deadline = Instant::now() + READY_WITHIN;
    let mut last = String::new();
    loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) if line.contains(ready) => return Ok(()),
            Ok(line) => last = line,
            Err(RecvTimeoutError::Timeout) => bail!("it never said {ready:?}; its last: {last}"),
            Err(RecvTimeoutError::Disconnected) => bail!("it ended; its last: {last}"),
        }
    }
}

/// Sends lines while somebody wants them, and reads on for as long as the game writes: it must not wait for us.
fn forward(source: impl Read + Send + 'static, lines: SyncSender<String>) {
    std::thread::spawn(move || {
        let mut source = BufReader::new(source);
        let mut line = Vec::new();
        while source.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            // Nobody listens once it is ready, and a full queue loses lines that nobody waits for.
            drop(lines.try_send(String::from_utf8_lossy(&line).trim_end().to_owned()));
            line.clear();
        }
    });
}

impl Running {
    pub(crate) fn start(mut command: Command) -> anyhow::Result<Running> {
        let child =
            command.spawn().with_context(|| format!("cannot run {:?}", command.get_program()))?;
        Ok(Running(child))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Kills it, but nothing that descends from it.
    pub(crate) fn kill_alone(&mut self) -> anyhow::Result<()> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }

    /// Fails if it has ended.
    pub(crate) fn must_run(&mut self) -> anyhow::Result<()> {
        match self.0.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("it ended with {status}"),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let family = meter::tree(self.pid()).unwrap_or_default();
        // It may have ended already.
        drop(self.0.kill());
        drop(self.0.wait());
        kill(family.iter().skip(1).copied());
    }
}

/// Ends processes that are not our children, and so are known by their ids alone. Those that have gone are no error.
pub(crate) fn kill(pids: impl Iterator<Item = u32>) {
    let pids: Vec<String> = pids.map(|pid| pid.to_string()).collect();
    if !pids.is_empty() {
        let mut command = Command::new("kill");
        command.arg("-KILL").args(pids).stderr(Stdio::null());
        drop(command.status());
    }
}

/// A port that TCP and UDP have free, below those that the system gives to connections.
fn free_port(first: &mut u16) -> Option<u16> {
    let is_free = |port: &u16| {
        let address = (Ipv4Addr::LOCALHOST, *port);
        TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok()
    };
    let port = (*first..first.saturating_add(500)).step_by(2).find(is_free)?;
    *first = port + 2;
    Some(port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_game_that_says_something_else_is_not_ready() {
        let (sender, lines) = sync_channel(4);
        sender.send("loading".to_owned()).unwrap();
        drop(sender);
        let error = wait_for("listening", &lines).unwrap_err().to_string();
        assert_eq!(error, "it ended; its last: loading");
    }

    #[test]
    fn ports_are_given_once() {
        let mut first = 20_000;
        let one = free_port(&mut first).unwrap();
        let two = free_port(&mut first).unwrap();
        assert!(two > one + 1, "{one} {two}");
    }
}
