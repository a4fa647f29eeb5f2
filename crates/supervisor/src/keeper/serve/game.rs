//! The game below a keeper: started, fed, signalled, and every end of it noticed and written down.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::process::{WaitOptions, WaitStatus};

use super::{complain, now_ms, put};
use crate::console::trim;
use crate::host::{self, Group, Handle, HostError};
use crate::keeper::files::{
    CONSOLE, CONSOLE_BEFORE, EXIT, ExitFile, ExitRecord, INPUT, LAUNCH, Launch, PROCESS,
    ProcessFile, STARTING, SignalSent, Stdin, read_json,
};
use crate::keeper::words::{Event, INPUT_BYTES_MAX, Phase, Refusal, Status, Target};
use crate::keeper::{COMMAND, Failed};
use crate::model::{Ending, ProcessId};

/// SIGKILL.
const KILL: i32 = rustix::process::Signal::KILL.as_raw();

/// The most that is taken from the process that becomes the game about how that went.
const STARTING_BYTES_MAX: u64 = 16 * 1024;

/// All is there for a game to start.
pub(super) struct Prepared {
    own: ProcessId,
    launch: Launch,
    console: File,
    starting: File,
    input: Stdio,
    group: Option<Group>,
    warnings: Vec<String>,
}

/// A game, from its start to when nothing is left of it.
pub(super) struct Game {
    own: ProcessId,
    main: Handle,
    inner: Option<Handle>,
    phase: Phase,
    starting: Option<File>,
    started_at_ms: i64,
    warnings: Vec<String>,
    console: File,
    console_bytes_max: u64,
    console_bytes_seen: u64,
    group: Option<Group>,
    oom_kills_before: u64,
    exit: ExitFile,
}

impl Game {
    /// Makes the files and the control group. The folder is the current one.
    pub(super) fn prepare(folder: &Path, own: ProcessId) -> Result<Prepared, Failed> {
        let launch: Launch = read_json(&folder.join(LAUNCH))
            .and_then(|launch| launch.ok_or_else(|| io::ErrorKind::NotFound.into()))
            .map_err(Failed::io("read launch.json"))?;
        // What it tells is about the game before.
        forget(EXIT)?;
        match std::fs::rename(CONSOLE, CONSOLE_BEFORE) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Failed::io("put the old console away")(error));
            }
            _ => (),
        }
        let console = OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(CONSOLE)
            .map_err(Failed::io("make the console"))?;
        fifo(STARTING)?;
        let starting = OpenOptions::new()
            .read(true)
            .custom_flags(nonblocking())
            .open(STARTING)
            .map_err(Failed::io("listen to the start"))?;
        let input = match launch.stdin {
            Stdin::Null => Stdio::null(),
            Stdin::Lines => {
                fifo(INPUT)?;
                // Open for writing, too, so that the game holds its own input open: it never sees an end, even
                // when the keeper is killed, and whoever may write into the folder can still talk to it.
                let both = OpenOptions::new().read(true).write(true).open(INPUT);
                Stdio::from(both.map_err(Failed::io("open the game's input"))?)
            }
        };
        let mut warnings = Vec::new();
        let group = launch.group.as_ref().and_then(|wanted| {
            match Group::create(&wanted.parent, &wanted.name, &launch.group_limits) {
                Ok((group, refused)) => {
                    warnings.extend(refused.iter().map(ToString::to_string));
                    Some(group)
                }
                Err(error) => {
                    warnings.push(format!("group: {error}"));
                    None
                }
            }
        });
        Ok(Prepared { own, launch, console, starting, input, group, warnings })
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    pub(super) fn starting(&self) -> Option<BorrowedFd<'_>> {
        self.starting.as_ref().map(|file| file.as_fd())
    }

    pub(super) fn inner_handle(&self) -> Option<&Handle> {
        self.inner.as_ref()
    }

    pub(super) fn status(&self, keeper: &ProcessId) -> Status {
        Status {
            keeper: keeper.clone(),
            main: self.main.process().clone(),
            inner: self.inner.as_ref().map(|inner| inner.process().clone()),
            phase: self.phase,
            main_exit: self.exit.main.clone(),
        }
    }

    /// What a Naru that has just come may have missed, in order.
    pub(super) fn so_far(&self) -> Vec<Event> {
        let inner = || self.inner.as_ref().map(|inner| inner.process().clone());
        let mut events = Vec::new();
        match (&self.exit.not_started, self.phase) {
            (_, Phase::Starting) => (),
            (Some(reason), _) => events.push(Event::NotStarted { reason: reason.clone() }),
            (None, _) => events.push(Event::Started {
                process: self.main.process().clone(),
                warnings: self.warnings.clone(),
            }),
        }
        if let (Some(exit), None) = (&self.exit.main, &self.exit.not_started) {
            events.push(Event::MainExited { exit: exit.clone(), inner: inner() });
        }
        if let Some(exit) = &self.exit.inner {
            events.push(Event::InnerExited { exit: exit.clone(), inner: inner() });
        }
        if self.phase == Phase::Empty {
            events.push(Event::Empty);
        }
        events
    }

    /// Takes what the process that becomes the game says about it; the end of that is the game's beginning.
    pub(super) fn read_starting(&mut self, events: &mut Vec<Event>) {
        let Some(starting) = &self.starting else { return };
        let mut text = Vec::new();
        match starting.take(STARTING_BYTES_MAX).read_to_end(&mut text) {
            Ok(_) => (),
            // Something was said, and it goes on. It is taken apart at the line's ends, which come whole.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return self.heed(&String::from_utf8_lossy(&text));
            }
            Err(error) => complain("listen to the start", &error),
        }
        self.heed(&String::from_utf8_lossy(&text));
        self.starting = None;
        drop(std::fs::remove_file(STARTING));
        if let Some(reason) = &self.exit.not_started {
            events.push(Event::NotStarted { reason: reason.clone() });
        } else {
            self.phase = Phase::Running;
            events.push(Event::Started {
                process: self.main.process().clone(),
                warnings: self.warnings.clone(),
            });
        }
    }

    fn heed(&mut self, text: &str) {
        for line in text.lines() {
            match line.split_once(' ') {
                Some(("warn", warning)) => self.warnings.push(warning.to_owned()),
                Some(("error", reason)) => self.exit.not_started = Some(reason.to_owned()),
                _ => (),
            }
        }
    }

    /// Asks for all ends since the last time. Says what they mean.
    pub(super) fn reap(&mut self, events: &mut Vec<Event>) {
        let mut ended = Vec::new();
        let empty = loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => {
                    ended.push((pid.as_raw_nonzero().get().unsigned_abs(), ending(status)));
                }
                Ok(None) => break false,
                Err(rustix::io::Errno::INTR) => (),
                // No children: nothing is left, as all orphans become ours.
                Err(_) => break true,
            }
        };
        let mut main_ended = false;
        let mut inner_ending = None;
        for (pid, ending) in ended {
            if pid == self.main.process().pid && self.exit.main.is_none() {
                let process = self.main.process().clone();
                self.exit.main = Some(ExitRecord { process, ending, at_ms: now_ms() });
                main_ended = true;
            } else if self.inner.as_ref().is_some_and(|inner| inner.process().pid == pid) {
                inner_ending = Some(ending);
            } else {
                events.push(Event::DescendantLeft { pid, ending });
            }
        }
        if main_ended && self.starting.is_some() {
            self.settle_start(events);
        }
        // Not an orphan, so its parent has asked how it ended, and we cannot.
        if inner_ending.is_none()
            && self.inner.as_ref().is_some_and(|inner| !host::is_alive(inner.process()))
        {
            inner_ending = Some(Ending::Unknown);
        }
        let inner_exit = inner_ending.and_then(|ending| {
            let process = self.inner.take()?.process().clone();
            Some(ExitRecord { process, ending, at_ms: now_ms() })
        });
        if empty {
            self.phase = Phase::Empty;
        } else if self.exit.main.is_some() {
            self.phase = Phase::Orphaned;
            if self.inner.is_none() {
                drop(self.adopt(None));
            }
        }
        let inner = || self.inner.as_ref().map(|inner| inner.process().clone());
        if let (true, None, Some(exit)) = (main_ended, &self.exit.not_started, &self.exit.main) {
            events.push(Event::MainExited { exit: exit.clone(), inner: inner() });
        }
        if let Some(exit) = inner_exit {
            self.exit.inner = Some(exit.clone());
            events.push(Event::InnerExited { exit, inner: inner() });
        }
    }

    /// The process that was to become the game has ended: did it become the game before?
    fn settle_start(&mut self, events: &mut Vec<Event>) {
        let Some(starting) = &self.starting else { return };
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut fds = [PollFd::new(starting, PollFlags::IN)];
        // A pipe that nobody ever opened for writing shows nothing.
        let was_opened = matches!(poll(&mut fds, Some(&now)), Ok(count) if count > 0);
        if !was_opened {
            self.exit.not_started = Some("it ended before the game's program could run".to_owned());
        }
        self.read_starting(events);
    }

    /// Takes another process below the keeper for the game: this one, or the biggest.
    pub(super) fn adopt(&mut self, pid: Option<u32>) -> Result<ProcessId, Refusal> {
        let refuse = |error: HostError| match error {
            HostError::Gone => Refusal::NoProcess,
            other => Refusal::System(other.to_string()),
        };
        let found = match pid {
            None => host::principal(self.own.pid).map_err(refuse)?,
            Some(pid) => host::descendants(self.own.pid)
                .map_err(refuse)?
                .into_iter()
                .find(|member| member.process.pid == pid),
        };
        let process = found.ok_or(Refusal::NoProcess)?.process;
        let handle = Handle::open(&process).map_err(refuse)?;
        self.inner = (process != *self.main.process()).then_some(handle);
        if let Err(error) = self.write_process() {
            complain("write down who runs", &error);
        }
        Ok(process)
    }

    pub(super) fn signal(&mut self, signal: i32, to: Target) -> Result<(), Refusal> {
        let sent = match to {
            Target::Main => self.main.signal(signal),
            Target::Game => self.inner.as_ref().unwrap_or(&self.main).signal(signal),
            Target::Tree if signal == KILL => {
                if let Some(group) = &self.group {
                    // Older systems cannot, and then the other way does it alone.
                    drop(group.kill());
                }
                host::kill_tree(self.own.pid, None).map(drop)
            }
            Target::Tree => host::signal_tree(self.own.pid, None, signal).map(drop),
        };
        match sent {
            Ok(()) => {
                self.exit.last_signal = Some(SignalSent { signal, at_ms: now_ms() });
                Ok(())
            }
            Err(HostError::Gone) => Err(Refusal::NoProcess),
            Err(error) => Err(Refusal::System(error.to_string())),
        }
    }

    #[expect(clippy::unused_self, reason = "only a game has an input")]
    pub(super) fn input(&self, line: &str) -> Result<(), Refusal> {
        write_input(Path::new(""), line)
    }

    /// Gives back what the console has too much; says whether it grows fast.
    pub(super) fn trim_console(&mut self) -> io::Result<bool> {
        let space = trim(&self.console, self.console_bytes_max)?;
        let grown = space.before_bytes.saturating_sub(self.console_bytes_seen);
        self.console_bytes_seen = space.after_bytes;
        Ok(grown > self.console_bytes_max / 4)
    }

    /// Puts what is known of ends into the folder.
    pub(super) fn write_down(&mut self) -> io::Result<()> {
        if self.exit.main.is_none() {
            return Ok(());
        }
        self.exit.empty = self.phase == Phase::Empty;
        self.exit.oom_kills_machine =
            host::machine_oom_kills().unwrap_or_default().saturating_sub(self.oom_kills_before);
        self.exit.oom_kills_group = self.group.as_ref().and_then(|group| group.oom_kills().ok());
        put(EXIT, &self.exit)
    }

    fn write_process(&self) -> io::Result<()> {
        put(
            PROCESS,
            &ProcessFile {
                keeper: self.own.clone(),
                main: self.main.process().clone(),
                inner: self.inner.as_ref().map(|inner| inner.process().clone()),
                started_at_ms: self.started_at_ms,
            },
        )
    }

    /// Removes what only a running game needs.
    pub(super) fn clear_away(self) {
        drop(std::fs::remove_file(STARTING));
        drop(std::fs::remove_file(INPUT));
        if let Some(group) = self.group {
            // Stays if something was moved into it by others; the next start takes it over.
            drop(group.remove());
        }
    }
}

impl Prepared {
    /// Starts the process that becomes the game.
    pub(super) fn start(self) -> Result<Game, Failed> {
        let io_of = |file: &File| file.try_clone().map(Stdio::from);
        let stdout = io_of(&self.console).map_err(Failed::io("share the console"))?;
        let stderr = io_of(&self.console).map_err(Failed::io("share the console"))?;
        // Itself, even if its file was replaced or removed meanwhile.
        let child = Command::new("/proc/self/exe")
            .args([COMMAND, "--folder", ".", "--exec"])
            .stdin(self.input)
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .map_err(Failed::io("run itself for the game"))?;
        let main = Handle::open_child(child.id())
            .map_err(|error| Failed::io("hold the game")(io::Error::other(error)))?;
        let game = Game {
            own: self.own,
            main,
            inner: None,
            phase: Phase::Starting,
            starting: Some(self.starting),
            started_at_ms: now_ms(),
            warnings: self.warnings,
            console: self.console,
            console_bytes_max: self.launch.console_bytes_max.max(Launch::CONSOLE_BYTES_MIN),
            console_bytes_seen: 0,
            group: self.group,
            oom_kills_before: host::machine_oom_kills().unwrap_or_default(),
            exit: ExitFile::default(),
        };
        if let Err(error) = game.write_process() {
            complain("write down who runs", &error);
        }
        Ok(game)
    }
}

/// Writes a line to the input of the game in this folder, with the line's end. Does not wait, and is not written in
/// part: it is either in the pipe or not. Works without a keeper, too.
pub fn write_input(folder: &Path, line: &str) -> Result<(), Refusal> {
    if line.len() >= INPUT_BYTES_MAX || line.bytes().any(|byte| matches!(byte, b'\n' | b'\r' | 0)) {
        return Err(Refusal::NotALine);
    }
    let opened =
        OpenOptions::new().write(true).custom_flags(nonblocking()).open(folder.join(INPUT));
    let mut input = match opened {
        Ok(input) => input,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Refusal::NoInput),
        // ENXIO: nobody has it open for reading.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error()) => {
            return Err(Refusal::NoInput);
        }
        Err(error) => return Err(Refusal::System(error.to_string())),
    };
    match input.write(format!("{line}\n").as_bytes()) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(Refusal::InputFull),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Refusal::NoInput),
        Err(error) => Err(Refusal::System(error.to_string())),
    }
}

fn nonblocking() -> i32 {
    // The bits are the system's own; only the sign differs between the two types.
    OFlags::NONBLOCK.bits().cast_signed()
}

fn fifo(name: &'static str) -> Result<(), Failed> {
    forget(name)?;
    rustix::fs::mknodat(CWD, name, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
        .map_err(Failed::io("make a pipe"))
}

fn forget(name: &'static str) -> Result<(), Failed> {
    match std::fs::remove_file(name) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Failed::io("remove an old file")(error))
        }
        _ => Ok(()),
    }
}

fn ending(status: WaitStatus) -> Ending {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Ending::Code(code),
        (None, Some(signal)) => Ending::Signal(signal),
        (None, None) => Ending::Unknown,
    }
}
