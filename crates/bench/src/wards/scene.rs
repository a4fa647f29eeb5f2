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

/// A game that is not ready by then does not start at all.
const READY_WITHIN: Duration = Duration::from_secs(90);
/// Lines of a game that nobody has read yet; only while it starts does somebody wait for them.
const LINES_MAX: usize = 1_000;

#[derive(Deserialize)]
struct Manifest {
    form: u32,
    games: BTreeMap<String, Game>,
}

#[derive(Deserialize)]
struct Game {
    program: PathBuf,
    args: Vec<String>,
    env: BTreeMap<String, String>,
    files: BTreeMap<String, String>,
    ports: BTreeMap<String, String>,
    ready: String,
}

/// The games that run, and a folder for everything. Dropping it stops them.
pub(crate) struct Scene {
    games: Vec<Running>,
    folder: PathBuf,
}

/// A process of ours. Dropping it kills it.
pub(crate) struct Running(Child);

impl Scene {
    /// Starts the games named and waits until all are ready.
    pub(crate) fn start(manifest: &Path, names: &[String]) -> anyhow::Result<Scene> {
        let text =
            fs::read(manifest).with_context(|| format!("cannot read {}", manifest.display()))?;
        let manifest: Manifest = serde_json::from_slice(&text).context("not a list of games")?;
        ensure!(manifest.form == 1, "the list of games has the unknown form {}", manifest.form);
        let name = format!("naru-bench-wards-{}", std::process::id());
        let mut scene = Scene { games: Vec::new(), folder: std::env::temp_dir().join(name) };
        let mut first_port = 20_000 + u16::try_from(std::process::id() % 1_000)? * 11;
        for name in names {
            let game = manifest.games.get(name).with_context(|| format!("no game {name:?}"))?;
            let folder = scene.folder(name)?;
            let running = game.start(&folder, &mut first_port);
            scene.games.push(running.with_context(|| format!("cannot start {name}"))?);
        }
        Ok(scene)
    }

    pub(crate) fn pids(&self) -> impl Iterator<Item = u32> {
        self.games.iter().map(Running::pid)
    }

    /// A folder of its own for a game or monitor.
    pub(crate) fn folder(&self, name: &str) -> anyhow::Result<PathBuf> {
        let folder = self.folder.join(name);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(folder)
    }

    /// Where a monitor's standard output goes.
    pub(crate) fn log(&self, name: &str) -> anyhow::Result<File> {
        let path = self.folder.join(format!("{name}.log"));
        File::create(&path).with_context(|| format!("cannot write {}", path.display()))
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
    fn start(&self, folder: &Path, first_port: &mut u16) -> anyhow::Result<Running> {
        let at = folder.to_str().context("the temporary folder's path is not UTF-8")?;
        let mut filled = vec![("{dir}".to_owned(), at.to_owned())];
        for name in self.ports.keys() {
            let port = free_port(first_port).context("no port is free")?;
            filled.push((format!("{{{name}}}"), port.to_string()));
        }
        let fill = |text: &String| {
            filled.iter().fold(text.clone(), |text, (name, value)| text.replace(name, value))
        };
        for (path, text) in &self.files {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().context("a file stands in a folder")?)?;
            fs::write(path, fill(text))?;
        }
        let mut command = Command::new(&self.program);
        command.args(self.args.iter().map(fill)).current_dir(folder);
        command.envs(self.env.iter().map(|(name, value)| (name, fill(value))));
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
        // It may have ended already.
        drop(self.0.kill());
        drop(self.0.wait());
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
