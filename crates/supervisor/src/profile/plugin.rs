//! Plugins: executables that stand in for a protocol. One JSON object a line, on standard input and output; a request
//! at a time, each with a number and a deadline. The codec is pure; the client holds the process.
//!
//! A plugin that is late, says something unreadable or ends is ended and started again with growing pauses. It sees
//! its standard input end when Naru ends, however that happens, and is expected to end then.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::{Instant, sleep_until, timeout};

use super::ward::{PluginRule, Ward};

/// The longest line that a plugin may write.
pub const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Players of one answer.
pub const PLAYERS_MAX: usize = 1_000;
/// Names, versions and reasons are cut behind so many bytes.
const WORD_BYTES_MAX: usize = 500;
/// What a command printed is cut behind so many bytes.
const TEXT_BYTES_MAX: usize = 16 << 10;
/// The first pause before a plugin is started again; each further one is twice as long.
const PAUSE: Duration = Duration::from_millis(200);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// What a plugin is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Request {
    /// How the game is.
    Status,
    /// Who plays.
    Players,
    /// Tell players this.
    Announce {
        /// The text.
        message: String,
    },
    /// Save, and answer when that is done.
    Save,
    /// Stop the game; the answer says that it was told, not that it has ended.
    Stop {
        /// How long players may have.
        seconds: u64,
        /// What they may be told.
        message: String,
    },
    /// Run this.
    Command {
        /// The line.
        line: String,
    },
}

impl Request {
    /// Whether it may be said again when nobody knows what became of the first time.
    fn is_repeatable(&self) -> bool {
        !matches!(self, Request::Announce { .. } | Request::Command { .. })
    }
}

/// What a plugin answers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// How many play.
    pub online: Option<u32>,
    /// How many may.
    pub max: Option<u32>,
    /// Ticks or frames a second.
    pub tick_rate: Option<f64>,
    /// How long the game has been up.
    pub uptime: Option<Duration>,
    /// The game's version.
    pub version: Option<String>,
    /// Who plays.
    pub players: Option<Vec<PluginPlayer>>,
    /// What a command printed.
    pub text: Option<String>,
}

/// Somebody who plays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct PluginPlayer {
    /// The name.
    pub name: String,
    /// What the game knows players by.
    pub id: Option<String>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PluginError {
    /// The plugin says that it cannot. Asking again does not help.
    #[error("the plugin refuses: {0}")]
    Refused(String),
    /// It could not be started.
    #[error("the plugin cannot be started: {0}")]
    Start(String),
    /// It failed again and again and is left alone for a while. Ask later.
    #[error("the plugin failed repeatedly and is started again later")]
    Resting,
    /// It ended.
    #[error("the plugin ended")]
    Ended,
    /// It took longer than it may.
    #[error("the plugin did not answer in time")]
    Late,
    /// It wrote a line longer than [`ANSWER_BYTES_MAX`].
    #[error("the plugin wrote a line that is too long")]
    TooLong,
    /// It wrote something that is no answer.
    #[error("the plugin wrote no answer: {0}")]
    Unreadable(String),
}

#[derive(Serialize)]
struct Line<'a> {
    id: u64,
    #[serde(flatten)]
    request: &'a Request,
}

#[derive(Serialize)]
struct Hello<'a> {
    id: u64,
    #[serde(rename = "do")]
    what: &'static str,
    version: u32,
    #[serde(flatten)]
    about: &'a About,
}

/// What a plugin is told when it starts. Secrets go this way and not through arguments or the environment, which
/// others can read.
#[derive(Clone, Default, Serialize)]
pub struct About {
    /// The ward's name.
    pub ward: String,
    /// The folder it runs in.
    pub dir: String,
    /// Where it is asked.
    pub ports: BTreeMap<String, u16>,
    /// Its secrets.
    pub secrets: BTreeMap<String, String>,
}

impl About {
    /// What a plugin has to know of a ward.
    #[must_use]
    pub fn ward(ward: &Ward) -> About {
        let ports = ward.ports.iter().map(|(name, port)| (name.clone(), port.number));
        let secrets =
            ward.secrets.iter().map(|(name, secret)| (name.clone(), secret.reveal().to_owned()));
        About {
            ward: ward.name.to_string(),
            dir: ward.dir.display().to_string(),
            ports: ports.collect(),
            secrets: secrets.collect(),
        }
    }
}

/// A request as a line, its line break included.
#[must_use]
pub fn encode(id: u64, request: &Request) -> Vec<u8> {
    line_of(&Line { id, request })
}

fn line_of(line: &impl Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(line).expect("invariant: numbers, text and maps of text");
    bytes.push(b'\n');
    bytes
}

#[derive(Deserialize)]
struct RawAnswer {
    id: u64,
    ok: bool,
    #[serde(default)]
    error: String,
    online: Option<u32>,
    max: Option<u32>,
    tick_rate: Option<f64>,
    uptime_s: Option<f64>,
    version: Option<String>,
    players: Option<Vec<PluginPlayer>>,
    text: Option<String>,
}

/// Reads an answer and its number. Unknown keys do not count; texts are cut and have no control characters but line
/// breaks.
pub fn decode(line: &[u8]) -> Result<(u64, Result<Answer, PluginError>), PluginError> {
    if line.len() > ANSWER_BYTES_MAX {
        return Err(PluginError::TooLong);
    }
    let raw: RawAnswer =
        serde_json::from_slice(line).map_err(|error| PluginError::Unreadable(error.to_string()))?;
    if !raw.ok {
        return Ok((raw.id, Err(PluginError::Refused(word(raw.error)))));
    }
    let players = raw.players.map(|mut players| {
        players.truncate(PLAYERS_MAX);
        let players = players.into_iter();
        players
            .map(|PluginPlayer { name, id }| PluginPlayer { name: word(name), id: id.map(word) })
            .collect()
    });
    let answer = Answer {
        online: raw.online,
        max: raw.max,
        tick_rate: raw.tick_rate.filter(|rate| rate.is_finite() && *rate >= 0.0),
        uptime: raw.uptime_s.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
        version: raw.version.map(word),
        players,
        text: raw.text.map(|text| plain(text, TEXT_BYTES_MAX)),
    };
    Ok((raw.id, Ok(answer)))
}

fn word(text: String) -> String {
    plain(text, WORD_BYTES_MAX)
}

fn plain(mut text: String, bytes_max: usize) -> String {
    text.retain(|c| !c.is_control() || c == '\n');
    text.truncate(text.floor_char_boundary(text.len().min(bytes_max)));
    text
}

/// A plugin of one ward. One request at a time: `call` takes it exclusively. Dropping it kills the process.
pub struct Plugin {
    rule: PluginRule,
    about: About,
    running: Option<Running>,
    id: u64,
    pause: Duration,
    start_at: Option<Instant>,
}

struct Running {
    /// Killed when dropped.
    _child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Plugin {
    /// Starts nothing yet: the first request does.
    #[must_use]
    pub fn new(rule: PluginRule, about: About) -> Plugin {
        Plugin { rule, about, running: None, id: 0, pause: PAUSE, start_at: None }
    }

    /// Asks, up to so many times as the profile says. A try takes at most three deadlines: a pause, a start, an
    /// answer. After many failures in a row it returns at once, with [`PluginError::Resting`].
    ///
    /// Not cancel safe: a call that is dropped ends the plugin, since an answer may be on its way.
    pub async fn call(&mut self, request: &Request) -> Result<Answer, PluginError> {
        let mut tries = 1;
        loop {
            let (error, was_sent) = match self.one_try(request).await {
                Ok(answer) => {
                    self.pause = PAUSE;
                    return Ok(answer);
                }
                Err((error @ PluginError::Refused(_), _)) => {
                    self.pause = PAUSE;
                    return Err(error);
                }
                Err((PluginError::Resting, _)) => return Err(PluginError::Resting),
                Err(failed) => failed,
            };
            self.rest();
            if tries >= self.rule.tries || (was_sent && !request.is_repeatable()) {
                return Err(error);
            }
            tries += 1;
        }
    }

    /// Ends the process and waits a while before the next one.
    fn rest(&mut self) {
        self.running = None;
        self.start_at = Some(Instant::now() + self.pause);
        self.pause = (self.pause * 2).min(PAUSE_MAX);
    }

    /// One try, and whether the request may have reached the plugin.
    async fn one_try(&mut self, request: &Request) -> Result<Answer, (PluginError, bool)> {
        // Taken out: whoever drops this future half way drops a process whose answers would come late.
        let mut running = match self.running.take() {
            Some(running) => running,
            None => self.start().await.map_err(|error| (error, false))?,
        };
        self.id += 1;
        let line = encode(self.id, request);
        let asked = timeout(self.rule.deadline, running.ask(self.id, &line)).await;
        let answer = asked.unwrap_or(Err(PluginError::Late)).map_err(|error| (error, true))?;
        self.running = Some(running);
        answer.map_err(|error| (error, true))
    }

    async fn start(&mut self) -> Result<Running, PluginError> {
        if let Some(at) = self.start_at {
            if at.saturating_duration_since(Instant::now()) > self.rule.deadline {
                return Err(PluginError::Resting);
            }
            sleep_until(at).await;
        }
        let failed = |error: &dyn std::fmt::Display| PluginError::Start(error.to_string());
        let (program, args) =
            self.rule.command.split_first().ok_or_else(|| failed(&"it has no command"))?;
        let mut child = Command::new(program)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Nobody would read it: a plugin that has something to say to people writes a file.
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| failed(&error))?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(failed(&"it has no pipes"));
        };
        let mut running = Running { _child: child, stdin, stdout: BufReader::new(stdout) };
        self.id += 1;
        let hello = Hello { id: self.id, what: "hello", version: 1, about: &self.about };
        let asked = timeout(self.rule.deadline, running.ask(self.id, &line_of(&hello))).await;
        // A refused greeting is no refusal of the request: it may go better next time, after a pause.
        asked.unwrap_or(Err(PluginError::Late))?.map_err(|refused| failed(&refused))?;
        self.start_at = None;
        Ok(running)
    }

    /// Whether a process is there.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }
}

impl Running {
    /// Writes a line and reads its answer.
    async fn ask(
        &mut self,
        id: u64,
        line: &[u8],
    ) -> Result<Result<Answer, PluginError>, PluginError> {
        let written = self.stdin.write_all(line).await;
        written.map_err(|_closed| PluginError::Ended)?;
        self.stdin.flush().await.map_err(|_closed| PluginError::Ended)?;
        let answer = self.read_line().await?;
        let (answered, answer) = decode(&answer)?;
        if answered != id {
            return Err(PluginError::Unreadable(format!(
                "it answers {answered} and was asked {id}"
            )));
        }
        Ok(answer)
    }

    async fn read_line(&mut self) -> Result<Vec<u8>, PluginError> {
        let mut line = Vec::new();
        let mut bounded = (&mut self.stdout).take(ANSWER_BYTES_MAX as u64 + 1);
        bounded.read_until(b'\n', &mut line).await.map_err(|_closed| PluginError::Ended)?;
        match line.pop() {
            Some(b'\n') => Ok(line),
            Some(_) if line.len() >= ANSWER_BYTES_MAX => Err(PluginError::TooLong),
            // The rest of a line, or nothing: the end.
            _ => Err(PluginError::Ended),
        }
    }
}
