//! The server under test as a child process: start, wait until it listens, kill, start again.

use std::fs::OpenOptions;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

const LISTEN_TIMEOUT: Duration = Duration::from_secs(60);
const LISTEN_LOOK_EVERY: Duration = Duration::from_millis(20);
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// A server process. It is killed when this is dropped.
pub(super) struct Server {
    command: String,
    log: Option<PathBuf>,
    address: SocketAddr,
    child: Child,
}

impl Server {
    /// Starts the command and waits until the address accepts connections.
    pub(super) async fn start(
        command: &str,
        log: Option<&Path>,
        address: SocketAddr,
    ) -> anyhow::Result<Server> {
        if TcpStream::connect(address).await.is_ok() {
            bail!(
                "something listens on {address} already: this run starts and kills its own server"
            );
        }
        let child = spawn(command, log)?;
        let log = log.map(Path::to_path_buf);
        let mut server = Server { command: command.to_owned(), log, address, child };
        server.until_it_listens().await?;
        Ok(server)
    }

    /// SIGKILL, and waits until the process is gone.
    pub(super) async fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill().await.context("cannot kill the server")
    }

    pub(super) async fn restart(&mut self) -> anyhow::Result<()> {
        self.child = spawn(&self.command, self.log.as_deref())?;
        self.until_it_listens().await
    }

    /// Fails when the server ended by itself.
    pub(super) fn check_alive(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("the server ended by itself: {status}"),
        }
    }

    /// SIGTERM; a server that does not end in time is killed.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        if let Some(pid) = self.child.id() {
            let asked = Command::new("kill").args(["-TERM", &pid.to_string()]).status().await?;
            if asked.success()
                && let Ok(ended) = tokio::time::timeout(STOP_TIMEOUT, self.child.wait()).await
            {
                ended?;
                return Ok(());
            }
        }
        self.kill().await
    }

    async fn until_it_listens(&mut self) -> anyhow::Result<()> {
        let started = Instant::now();
        while started.elapsed() < LISTEN_TIMEOUT {
            self.check_alive()?;
            if TcpStream::connect(self.address).await.is_ok() {
                return Ok(());
            }
            tokio::time::sleep(LISTEN_LOOK_EVERY).await;
        }
        bail!("the server does not listen on {} after 60 s", self.address)
    }
}

/// `exec` makes the shell become the server, so that a kill reaches it and not a parent.
fn spawn(command: &str, log: Option<&Path>) -> anyhow::Result<Child> {
    let (out, err) = match log {
        Some(path) => {
            let file = OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .with_context(|| format!("cannot open {}", path.display()))?;
            (Stdio::from(file.try_clone()?), Stdio::from(file))
        }
        None => (Stdio::null(), Stdio::null()),
    };
    Command::new("sh")
        .args(["-c", &format!("exec {command}")])
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot start {command:?}"))
}
