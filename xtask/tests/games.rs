//! The game servers that `cargo xtask games` brought: each starts on a port of 127.0.0.1, says that it is ready, and
//! ends the way its description says, by every way there. Without `NARU_GAMES` (plain `cargo test`) nothing is there
//! to be started, and the tests say so; `cargo xtask test` always sets it.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test, its steps included")]

use std::fs;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use serde_json::Value;

/// For every step of a server. Far above what one takes, because the machine may be busy.
const SOON: Duration = Duration::from_secs(60);

#[test]
fn minetest_starts_and_ends_as_described() {
    check("minetest");
}

#[test]
fn teeworlds_starts_and_ends_as_described() {
    check("teeworlds");
}

#[test]
fn openarena_starts_and_ends_as_described() {
    check("openarena");
}

#[test]
fn openarena_with_bots_starts_and_ends_as_described() {
    check("openarena-bots");
}

#[test]
fn bzflag_starts_and_ends_as_described() {
    check("bzflag");
}

#[test]
fn armagetron_starts_and_ends_as_described() {
    check("armagetron");
}

#[test]
fn minecraft_starts_and_ends_as_described() {
    check("minecraft");
}

/// Starts the server once for each of its ends.
fn check(name: &str) {
    let Some(manifest) = std::env::var_os("NARU_GAMES") else {
        println!("SKIPPED: NARU_GAMES is not set; `cargo xtask games` prints its value");
        return;
    };
    let manifest: Value = serde_json::from_slice(&fs::read(manifest).unwrap()).unwrap();
    let game = &manifest["games"][name];
    for (by, expected) in game["ends"].as_object().unwrap() {
        let folder = tempfile::tempdir().unwrap();
        let mut server = Server::start(game, folder.path());
        server.wait_for(game["ready"].as_str().unwrap());
        if let Some(question) = game["question"].as_str() {
            server.settle(question);
        }
        match by.as_str() {
            "input" => server.type_line(game["input"].as_str().unwrap()),
            signal => server.send(signal),
        }
        let end = server.wait_for_end();
        let is_expected = match (expected["code"].as_i64(), expected["signal"].as_i64()) {
            (Some(code), None) => end.code().map(i64::from) == Some(code),
            (None, Some(signal)) => end.signal().map(i64::from) == Some(signal),
            _ => panic!("{name}: {expected} is no end"),
        };
        assert!(is_expected, "{name} by {by}: {end}, expected {expected}\n{}", server.said());
    }
}

struct Server {
    child: Child,
    lines: Receiver<String>,
    said: Vec<String>,
    port: u16,
}

impl Server {
    fn start(game: &Value, folder: &Path) -> Server {
        let port = free_port();
        let mut filled = vec![
            ("{dir}".to_owned(), folder.to_str().unwrap().to_owned()),
            ("{port}".to_owned(), port.to_string()),
        ];
        for name in game["ports"].as_object().unwrap().keys() {
            filled.push((format!("{{{name}}}"), free_port().to_string()));
        }
        let fill = |text: &Value| {
            let text = text.as_str().unwrap().to_owned();
            filled.iter().fold(text, |text, (name, value)| text.replace(name, value))
        };
        for (path, text) in game["files"].as_object().unwrap() {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, fill(text)).unwrap();
        }
        let mut command = Command::new(game["program"].as_str().unwrap());
        command.args(game["args"].as_array().unwrap().iter().map(fill)).current_dir(folder);
        command.envs(game["env"].as_object().unwrap().iter().map(|(key, text)| (key, fill(text))));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (sender, lines) = sync_channel(10_000);
        forward(child.stdout.take().unwrap(), sender.clone());
        forward(child.stderr.take().unwrap(), sender);
        Server { child, lines, said: Vec::new(), port }
    }

    fn wait_for(&mut self, part: &str) {
        let deadline = Instant::now() + SOON;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!("{part:?} did not come:\n{}", self.said());
            };
            let found = line.contains(part);
            self.said.push(line);
            if found {
                return;
            }
        }
    }

    /// Asks until an answer comes and the main thread sleeps.
    fn settle(&self, question: &str) {
        let digits = question.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
        let question: Vec<u8> = digits.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect();
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.connect((Ipv4Addr::LOCALHOST, self.port)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let mut answer = [0; 1_500];
        let deadline = Instant::now() + SOON;
        while Instant::now() < deadline {
            socket.send(&question).unwrap();
            if socket.recv(&mut answer).is_ok() && self.sleeps() {
                return;
            }
        }
        panic!("it does not settle:\n{}", self.said());
    }

    fn sleeps(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        stat.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" S"))
    }

    fn type_line(&mut self, line: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    fn send(&self, signal: &str) {
        let signal = signal.strip_prefix("sig").unwrap().to_uppercase();
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", &signal, &pid]).status().unwrap();
        assert!(sent.success(), "kill -s {signal} {pid}: {sent}");
    }

    /// Both its outputs are closed when it has ended, so the lines tell when to look.
    fn wait_for_end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + SOON;
        while let Ok(line) =
            self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            self.said.push(line);
        }
        assert!(Instant::now() < deadline, "it goes on:\n{}", self.said());
        self.child.wait().unwrap()
    }

    fn said(&self) -> String {
        self.said.join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn forward(source: impl Read + Send + 'static, lines: SyncSender<String>) {
    std::thread::spawn(move || {
        let mut source = BufReader::new(source);
        let mut line = Vec::new();
        while source.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            if lines.send(text).is_err() {
                return;
            }
            line.clear();
        }
    });
}

/// A port that is free for TCP and UDP, and so is the next one. Below those that the system gives to connections, so
/// that only another run of this test can take it before the server does.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % 1_000).unwrap() * 11;
    let is_free = |port: u16| {
        let address = (Ipv4Addr::LOCALHOST, port);
        TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok()
    };
    (0..5_000)
        .map(|_| 20_000 + (first + NEXT.fetch_add(2, Ordering::Relaxed)) % 12_000)
        .find(|port| is_free(*port) && is_free(port + 1))
        .expect("a free port")
}
