//! Naru's side of a keeper: starts one, or finds it again, asks it, and hears what it tells. Nothing is polled, and
//! no wait is without an end.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::files::{KEEPER_LOG, LAUNCH, Launch, read_process, write_json};
use super::link::{self, Stream};
use super::words::{
    Answer, Ask, Event, Lines, Phase, Refusal, Request, Said, Status, Target, decode, encode,
};
use super::{CODE_KEPT, COMMAND};
use crate::model::ProcessId;

/// How long a keeper may take to come up, its program to be read from a slow disk included.
const LAUNCH_WAIT: Duration = Duration::from_secs(10);
/// How long it may take to answer. It does nothing else; only a machine that stands still takes longer.
const ANSWER_WAIT: Duration = Duration::from_secs(1);
/// How many events may wait to be asked for. Only ends of a game's helpers are many; the oldest of them go first.
const EVENTS_MAX: usize = 256;
/// How many starts may wait for their turn, of a few milliseconds each.
const STARTS_MAX: usize = 64;
/// Enough for the start of a process in a debug build; only what is touched takes memory.
const STARTER_STACK_BYTES: usize = 256 * 1024;
/// How much of a keeper's last words is kept.
const KEEPER_LOG_BYTES_MAX: u64 = 2048;

/// Why a game was not started.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// There is a keeper already: connect to it.
    #[error("the ward has a keeper already")]
    AlreadyKept,
    /// The game's program could not be run.
    #[error("{0}")]
    NotStarted(String),
    /// The keeper did not come up; this is what it said.
    #[error("the keeper did not come up: {0}")]
    Keeper(String),
    /// The folder or the keeper's program is not as it should be.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Why there is no connection to a keeper.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// There is none. The game may still run if the keeper was killed: see [`super::read_process`].
    #[error("the ward has no keeper")]
    Gone,
    /// It did not answer in time.
    #[error("the keeper does not answer")]
    Silent,
    /// What answered is not the keeper that wrote the folder's files.
    #[error("what answers is not this ward's keeper")]
    Stranger,
    /// The system said no.
    #[error("connect to the keeper: {0}")]
    Io(#[source] io::Error),
}

/// Why nothing more is heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// The keeper has ended. After [`Event::Empty`] that is as it should be; otherwise it was killed.
    #[error("the keeper has ended")]
    Gone,
    /// Another Naru has taken over.
    #[error("another Naru has taken over")]
    Superseded,
    /// It says what nobody understands.
    #[error("the keeper is not understood")]
    Garbled,
}

/// Why a keeper did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// It says why.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It did not answer in time; it may do it later.
    #[error("the keeper does not answer")]
    Silent,
    /// There is nobody to ask any more.
    #[error(transparent)]
    Lost(#[from] Lost),
}

/// A thread that starts keepers, and sleeps otherwise. New processes inherit the priority of the thread that starts
/// them, and without rights they can never have a better one: so this thread must be made before its maker is put
/// behind the games ([`crate::host::lower_own_thread`]), or all games would end up there, too.
#[derive(Debug)]
pub struct Starter {
    wanted: std::sync::mpsc::SyncSender<Wanted>,
}

struct Wanted {
    command: Command,
    runtime: tokio::runtime::Handle,
    spawned: oneshot::Sender<io::Result<Child>>,
}

impl Starter {
    /// Makes the thread. It ends when this value goes away.
    pub fn new() -> io::Result<Starter> {
        let (wanted, orders) = std::sync::mpsc::sync_channel::<Wanted>(STARTS_MAX);
        let work = move || {
            for Wanted { mut command, runtime, spawned } in orders {
                let _inside = runtime.enter();
                // If nobody waits any more, the keeper runs all the same, and is found by connecting.
                drop(spawned.send(command.spawn()));
            }
        };
        let thread = std::thread::Builder::new().name("ward-starter".into());
        thread.stack_size(STARTER_STACK_BYTES).spawn(work)?;
        Ok(Starter { wanted })
    }

    async fn spawn(&self, command: Command) -> io::Result<Child> {
        let (spawned, done) = oneshot::channel();
        let runtime = tokio::runtime::Handle::current();
        let order = Wanted { command, runtime, spawned };
        self.wanted.try_send(order).map_err(|_| io::Error::from(io::ErrorKind::WouldBlock))?;
        done.await.map_err(io::Error::other)?
    }
}

/// A connection to a keeper. Dropping it leaves keeper and game alone.
#[derive(Debug)]
pub struct Client {
    stream: Stream,
    lines: Lines,
    events: VecDeque<Event>,
    events_dropped: u64,
    lost: Option<Lost>,
    /// A request may have been sent in part, because nobody waited for the rest.
    sending: bool,
    next_id: u64,
    hello: Status,
}

impl Client {
    /// Starts a keeper for a folder (made if it is not there), and through it the game. `keeper_program` is the
    /// binary that has the subcommand [`COMMAND`]. Returns when the game's program runs; its first event is
    /// [`Event::Started`].
    pub async fn launch(
        starter: &Starter,
        folder: &Path,
        launch: &Launch,
        keeper_program: &Path,
    ) -> Result<Client, LaunchError> {
        let prepared = {
            let (folder, launch) = (folder.to_owned(), launch.clone());
            tokio::task::spawn_blocking(move || prepare(&folder, &launch)).await
        };
        let log = prepared
            .map_err(io::Error::other)
            .flatten()
            .map_err(|source| LaunchError::Io { what: "write what to start", source })?;
        come_up(starter, folder, keeper_program, log).await?;
        let mut client = match Client::connect(folder).await {
            Ok(client) => client,
            Err(error) => return Err(LaunchError::Keeper(error.to_string())),
        };
        let started = timeout(LAUNCH_WAIT, client.started()).await;
        started
            .unwrap_or_else(|_| Err(LaunchError::Keeper("it does not start the game".into())))?;
        Ok(client)
    }

    /// Finds the keeper of a folder again. What happened meanwhile comes as events.
    pub async fn connect(folder: &Path) -> Result<Client, ConnectError> {
        let found = timeout(ANSWER_WAIT, link::connect(folder)).await;
        let stream = found.map_err(|_| ConnectError::Silent)?.map_err(|error| {
            use io::ErrorKind::{ConnectionRefused, NotFound};
            match error.kind() {
                NotFound | ConnectionRefused => ConnectError::Gone,
                _ => ConnectError::Io(error),
            }
        })?;
        let peer = link::peer_pid(&stream);
        let nobody = ProcessId { pid: 0, started: 0, boot: String::new() };
        let mut client = Client {
            stream,
            lines: Lines::default(),
            events: VecDeque::new(),
            events_dropped: 0,
            lost: None,
            sending: false,
            next_id: 0,
            hello: Status {
                keeper: nobody.clone(),
                main: nobody,
                inner: None,
                phase: Phase::Starting,
                main_exit: None,
            },
        };
        client.hello = match client.ask(Ask::Hello).await {
            Ok(Answer::Status(status)) => status,
            Ok(_) => return Err(ConnectError::Stranger),
            Err(RequestError::Lost(Lost::Gone)) => return Err(ConnectError::Gone),
            Err(RequestError::Silent) => return Err(ConnectError::Silent),
            Err(_) => return Err(ConnectError::Stranger),
        };
        let written = read_process(folder).map_err(ConnectError::Io)?;
        let same = written.is_some_and(|written| written.keeper == client.hello.keeper);
        if same && peer.is_none_or(|peer| peer == client.hello.keeper.pid) {
            Ok(client)
        } else {
            Err(ConnectError::Stranger)
        }
    }

    /// How things were when this connection began.
    #[must_use]
    pub fn hello(&self) -> &Status {
        &self.hello
    }

    /// How many events of helper processes were dropped because nobody asked for them.
    #[must_use]
    pub fn events_dropped(&self) -> u64 {
        self.events_dropped
    }

    /// What the keeper tells next. Cancel safe.
    pub async fn next_event(&mut self) -> Result<Event, Lost> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            // An answer here belongs to a request whose asker did not wait for it.
            self.hear().await?;
        }
    }

    /// Sends a line to the game, without its end. Never waits for the game. Not cancel safe: a line may be sent
    /// although nobody waits for the answer.
    pub async fn input(&mut self, line: &str) -> Result<(), RequestError> {
        if line.len() >= super::words::INPUT_BYTES_MAX {
            return Err(Refusal::NotALine.into());
        }
        self.ask_done(Ask::Input(line.to_owned())).await
    }

    /// Sends a signal. 9 to [`Target::Tree`] is a kill that no process of the game escapes.
    pub async fn signal(&mut self, signal: i32, to: Target) -> Result<(), RequestError> {
        self.ask_done(Ask::Signal { signal, to }).await
    }

    /// Takes another process below the keeper for the game: this one, or the one with the most memory.
    pub async fn adopt(&mut self, pid: Option<u32>) -> Result<ProcessId, RequestError> {
        match self.ask(Ask::Adopt { pid }).await? {
            Answer::Adopted(process) => Ok(process),
            Answer::Refused(refusal) => Err(refusal.into()),
            _ => Err(Lost::Garbled.into()),
        }
    }

    /// How things are.
    pub async fn status(&mut self) -> Result<Status, RequestError> {
        match self.ask(Ask::Status).await? {
            Answer::Status(status) => Ok(status),
            Answer::Refused(refusal) => Err(refusal.into()),
            _ => Err(Lost::Garbled.into()),
        }
    }

    /// Lets the keeper end, if nothing of the game is left. It does so by itself, too.
    pub async fn quit(&mut self) -> Result<(), RequestError> {
        self.ask_done(Ask::Quit).await
    }

    async fn started(&mut self) -> Result<(), LaunchError> {
        let mut seen = VecDeque::new();
        loop {
            match self.next_event().await {
                Ok(Event::NotStarted { reason }) => return Err(LaunchError::NotStarted(reason)),
                Ok(event) => {
                    let started = matches!(event, Event::Started { .. });
                    seen.push_back(event);
                    if started {
                        seen.append(&mut self.events);
                        self.events = seen;
                        return Ok(());
                    }
                }
                Err(lost) => return Err(LaunchError::Keeper(lost.to_string())),
            }
        }
    }

    async fn ask_done(&mut self, ask: Ask) -> Result<(), RequestError> {
        match self.ask(ask).await? {
            Answer::Done => Ok(()),
            Answer::Refused(refusal) => Err(refusal.into()),
            _ => Err(Lost::Garbled.into()),
        }
    }

    async fn ask(&mut self, ask: Ask) -> Result<Answer, RequestError> {
        if self.sending {
            self.lost = Some(Lost::Garbled);
            return Err(Lost::Garbled.into());
        }
        self.next_id += 1;
        let id = self.next_id;
        let asked = timeout(ANSWER_WAIT, async {
            self.sending = true;
            // If it fails, the keeper has ended; what it said before is heard first.
            let _ended = self.stream.write_all(&encode(&Request { id, ask })).await;
            self.sending = false;
            loop {
                match self.hear().await? {
                    Some((answered, answer)) if answered == id => return Ok(answer),
                    // An event, or the answer to a request whose asker did not wait for it.
                    _ => (),
                }
            }
        });
        match asked.await {
            Ok(answer) => answer.map_err(|lost: Lost| lost.into()),
            Err(_) => Err(RequestError::Silent),
        }
    }

    /// Takes one thing that the keeper said: an event is put aside, an answer returned. Cancel safe.
    async fn hear(&mut self) -> Result<Option<(u64, Answer)>, Lost> {
        loop {
            match self.lines.next_line() {
                Ok(Some(line)) => return self.take(&line),
                Ok(None) => (),
                Err(_) => self.lost = Some(Lost::Garbled),
            }
            if let Some(lost) = self.lost {
                return Err(lost);
            }
            match self.stream.read_buf(self.lines.buffer()).await {
                Ok(0) | Err(_) => self.lost = Some(Lost::Gone),
                Ok(_) => (),
            }
        }
    }

    fn take(&mut self, line: &[u8]) -> Result<Option<(u64, Answer)>, Lost> {
        match decode(line) {
            Some(Said::Answer { id, answer }) => Ok(Some((id, answer))),
            Some(Said::Event(Event::Superseded)) => {
                self.lost = Some(Lost::Superseded);
                Err(Lost::Superseded)
            }
            Some(Said::Event(event)) => {
                self.keep(event);
                Ok(None)
            }
            None => {
                self.lost = Some(Lost::Garbled);
                Err(Lost::Garbled)
            }
        }
    }

    fn keep(&mut self, event: Event) {
        if self.events.len() >= EVENTS_MAX {
            let helper =
                self.events.iter().position(|old| matches!(old, Event::DescendantLeft { .. }));
            // All others come a few times in a game's life.
            self.events.remove(helper.unwrap_or(0));
            self.events_dropped += 1;
        }
        self.events.push_back(event);
    }
}

fn prepare(folder: &Path, launch: &Launch) -> io::Result<std::fs::File> {
    std::fs::create_dir_all(folder)?;
    write_json(folder, LAUNCH, launch)?;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    link::private(&mut options).open(folder.join(KEEPER_LOG))
}

/// Runs the keeper and waits until it says that it listens.
async fn come_up(
    starter: &Starter,
    folder: &Path,
    keeper_program: &Path,
    log: std::fs::File,
) -> Result<(), LaunchError> {
    let inherited = std::env::vars_os()
        .filter(|(name, _)| name.to_str().is_some_and(|name| link::INHERITED.contains(&name)));
    let mut command = Command::new(keeper_program);
    command.arg(COMMAND).arg("--folder").arg(folder);
    command.env_clear().envs(inherited);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
    let mut child = starter
        .spawn(command)
        .await
        .map_err(|source| LaunchError::Io { what: "run the keeper", source })?;
    let mut line = String::new();
    let ready = timeout(LAUNCH_WAIT, async {
        let Some(stdout) = child.stdout.take() else { return false };
        // Ten bytes are enough for "ready"; a program that is no keeper may say more.
        let said = BufReader::new(stdout.take(10)).read_line(&mut line).await;
        said.is_ok() && line == "ready\n"
    });
    match ready.await {
        // Let go: tokio asks for its ending when it ends, so that no zombie stays.
        Ok(true) => return Ok(()),
        Ok(false) => (),
        Err(_) => return Err(LaunchError::Keeper("it does not say that it is ready".into())),
    }
    let code = timeout(ANSWER_WAIT, child.wait()).await.ok().and_then(|code| code.ok()?.code());
    if code == Some(i32::from(CODE_KEPT)) {
        return Err(LaunchError::AlreadyKept);
    }
    let log = folder.join(KEEPER_LOG);
    let said = tokio::task::spawn_blocking(move || {
        use std::io::Read as _;
        let mut said = String::new();
        let file = std::fs::File::open(log)?;
        file.take(KEEPER_LOG_BYTES_MAX).read_to_string(&mut said).map(|_| said)
    });
    let said = said.await.ok().and_then(Result::ok).unwrap_or_default();
    Err(LaunchError::Keeper(said.trim().to_owned()))
}
