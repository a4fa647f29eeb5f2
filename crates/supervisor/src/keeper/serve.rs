//! The keeper's loop: one thread that sleeps until a child ends, a Naru speaks, or the console has to be looked
//! after. Once the game runs, nothing but the end of the game (or a kill) ends it: what goes wrong is written down.

mod game;
mod talk;

use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::FlockOperation;
use rustix::process::Signal;

use self::game::Game;
use self::talk::Naru;
use super::files::{LOCK, SOCKET};
use super::words::{Answer, Ask, Event, Phase, Refusal, Request};
use super::{Failed, files};
use crate::host;
use crate::model::ProcessId;

pub use game::write_input;

/// Signals that reach a keeper only by accident: a terminal that goes away, a kill of a whole group, a service
/// manager that ends all of a service. None of them may end a game.
const NOT_FOR_US: [Signal; 6] =
    [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM, Signal::USR1, Signal::USR2];

/// How long a keeper whose game ended at once waits for the Naru that started it.
const FIRST_NARU_WAIT: Duration = Duration::from_secs(5);

/// How long the last words may take to leave.
const FAREWELL_WAIT: Duration = Duration::from_secs(1);

/// How long the console goes unwatched: Naru looks after it once a second while it is there.
const CONSOLE_CHECK_BESIDE_NARU: Duration = Duration::from_secs(60);
const CONSOLE_CHECK_ALONE: Duration = Duration::from_secs(5);
const CONSOLE_CHECK_MIN: Duration = Duration::from_millis(100);

/// Everything until the game is gone.
pub(super) fn run(folder: &Path) -> Result<(), Failed> {
    let children = catch_signals()?;
    // Refused only to a process that leads a group, and then it has left its session already.
    rustix::process::setsid().ok();
    // From here on all names are relative, so that the socket's fits.
    std::env::set_current_dir(folder).map_err(Failed::io("enter the ward's folder"))?;
    let here = Path::new("");
    let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let _lock = lock()?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(Failed::io("become the parent of orphans"))?;
    // It is tiny, and with it the exit code would be lost. Needs rights; the game takes its own score.
    drop(host::take_priority(&host::Priority { oom_score: Some(-900), ..Default::default() }));
    drop(std::fs::remove_file(SOCKET));
    let listener = UnixListener::bind(SOCKET).map_err(Failed::io("listen"))?;
    listener.set_nonblocking(true).map_err(Failed::io("listen"))?;
    let own = host::identify(std::process::id())
        .map_err(|error| Failed::io("know itself")(io::Error::other(error)))?;
    let game = Game::prepare(here, own.clone())?;
    rustix::process::umask(before);
    let game = game.start()?;
    // Naru waits for this line and then connects.
    drop(io::stdout().write_all(b"ready\n").and_then(|()| io::stdout().flush()));
    let keeper = Keeper {
        own,
        children,
        listener,
        game,
        naru: None,
        had_naru: false,
        console_check: CONSOLE_CHECK_ALONE,
        console_due: Instant::now() + CONSOLE_CHECK_ALONE,
    };
    keeper.live();
    Ok(())
}

/// A stream that becomes readable when a child ends. Caught signals, unlike ignored ones, are not inherited by
/// the game.
fn catch_signals() -> Result<UnixStream, Failed> {
    let nothing = Arc::new(AtomicBool::new(false));
    for signal in NOT_FOR_US {
        signal_hook::flag::register(signal.as_raw(), Arc::clone(&nothing))
            .map_err(Failed::io("catch signals"))?;
    }
    let (children, wake) = UnixStream::pair().map_err(Failed::io("catch signals"))?;
    children.set_nonblocking(true).map_err(Failed::io("catch signals"))?;
    wake.set_nonblocking(true).map_err(Failed::io("catch signals"))?;
    signal_hook::low_level::pipe::register(Signal::CHILD.as_raw(), wake)
        .map_err(Failed::io("catch signals"))?;
    Ok(children)
}

/// One keeper per folder; the system lets go of it when the keeper ends, however it ends.
fn lock() -> Result<std::fs::File, Failed> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(false);
    let file =
        super::link::private(&mut options).open(LOCK).map_err(Failed::io("open the lock"))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Failed::Kept),
        Err(error) => Err(Failed::io("take the lock")(error)),
    }
}

struct Keeper {
    own: ProcessId,
    children: UnixStream,
    listener: UnixListener,
    game: Game,
    naru: Option<Naru>,
    had_naru: bool,
    console_check: Duration,
    console_due: Instant,
}

/// What a wait ended with.
#[derive(Default)]
struct Woken {
    children: bool,
    listener: bool,
    naru: bool,
    starting: bool,
    inner: bool,
}

impl Keeper {
    fn live(mut self) {
        let mut ended_at = None;
        loop {
            let now = Instant::now();
            if self.game.phase() == Phase::Empty {
                let ended_at = *ended_at.get_or_insert(now);
                if self.had_naru || now >= ended_at + FIRST_NARU_WAIT {
                    break;
                }
            }
            let until = ended_at.map_or(self.console_due, |ended_at| ended_at + FIRST_NARU_WAIT);
            let woken = match self.wait(until.saturating_duration_since(now)) {
                Ok(woken) => woken,
                Err(error) => {
                    complain("wait", &error);
                    Woken::default()
                }
            };
            self.act(&woken);
        }
        if let Some(naru) = &mut self.naru {
            naru.farewell(FAREWELL_WAIT);
        }
        self.game.clear_away();
        drop(std::fs::remove_file(SOCKET));
    }

    fn wait(&self, timeout: Duration) -> io::Result<Woken> {
        let timeout = Timespec::try_from(timeout).ok();
        let mut fds = vec![
            PollFd::new(&self.children, PollFlags::IN),
            PollFd::new(&self.listener, PollFlags::IN),
        ];
        // Which of the others is which: the order is fixed, and each may be absent.
        if let Some(naru) = &self.naru {
            let flags =
                if naru.has_more() { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
            fds.push(PollFd::from_borrowed_fd(naru.as_fd(), flags));
        }
        if let Some(starting) = self.game.starting() {
            fds.push(PollFd::from_borrowed_fd(starting, PollFlags::IN));
        }
        if let Some(inner) = self.game.inner_handle() {
            fds.push(PollFd::from_borrowed_fd(inner.as_fd(), PollFlags::IN));
        }
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) => (),
            // A signal: if it was a child's, the stream is readable next time.
            Err(rustix::io::Errno::INTR) => return Ok(Woken::default()),
            Err(error) => return Err(error.into()),
        }
        let mut ready = fds.iter().map(|fd| !fd.revents().is_empty());
        let mut next = |there: bool| there && ready.next().unwrap_or(false);
        Ok(Woken {
            children: next(true),
            listener: next(true),
            naru: next(self.naru.is_some()),
            starting: next(self.game.starting().is_some()),
            inner: next(self.game.inner_handle().is_some()),
        })
    }

    fn act(&mut self, woken: &Woken) {
        let mut events = Vec::new();
        let was_empty = self.game.phase() == Phase::Empty;
        if woken.starting {
            self.game.read_starting(&mut events);
        }
        if woken.children || woken.inner {
            talk::drain(&self.children);
            self.game.reap(&mut events);
        }
        self.tell(&events);
        let is_empty = self.game.phase() == Phase::Empty && !was_empty;
        if (is_empty || !events.is_empty())
            // After telling: a slow disk must not delay the news.
            && let Err(error) = self.game.write_down()
        {
            complain("write down an exit", &error);
        }
        if is_empty {
            self.tell(&[Event::Empty]);
        }
        if woken.naru {
            self.hear();
        }
        if woken.listener {
            self.welcome();
        }
        let now = Instant::now();
        if now >= self.console_due {
            self.check_console(now);
        }
    }

    fn tell(&mut self, events: &[Event]) {
        if let Some(naru) = &mut self.naru
            && events.iter().any(|event| naru.tell(event).is_err())
        {
            self.lose_naru();
        }
    }

    /// The newest Naru counts: an older one may hang, or be about to end.
    fn welcome(&mut self) {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return complain("accept", &error),
            };
            match Naru::welcome(stream) {
                Ok(naru) => {
                    if let Some(mut old) = self.naru.replace(naru) {
                        // Whether it hears this or not, it sees the end of the stream.
                        drop(old.tell(&Event::Superseded));
                    }
                }
                Err(error) => complain("welcome", &error),
            }
        }
    }

    fn lose_naru(&mut self) {
        self.naru = None;
        self.console_check = CONSOLE_CHECK_ALONE;
        self.console_due = Instant::now() + CONSOLE_CHECK_ALONE;
    }

    fn hear(&mut self) {
        let Some(naru) = &mut self.naru else { return };
        let mut open = naru.receive().is_ok();
        while let Some(naru) = &mut self.naru {
            let request = match naru.next_request() {
                Ok(Some(request)) => request,
                Ok(None) => break,
                Err(_) => {
                    open = false;
                    break;
                }
            };
            if self.answer(request).is_err() {
                open = false;
                break;
            }
        }
        if !open {
            self.lose_naru();
        }
    }

    fn answer(&mut self, Request { id, ask }: Request) -> io::Result<()> {
        let hello = ask == Ask::Hello;
        let answer = match ask {
            Ask::Hello | Ask::Status => Answer::Status(self.game.status(&self.own)),
            Ask::Input(line) => done(self.game.input(&line)),
            Ask::Signal { signal, to } => done(self.game.signal(signal, to)),
            Ask::Adopt { pid } => {
                self.game.adopt(pid).map_or_else(Answer::Refused, Answer::Adopted)
            }
            Ask::Quit if self.game.phase() == Phase::Empty => Answer::Done,
            Ask::Quit => Answer::Refused(Refusal::Busy),
        };
        let Some(naru) = &mut self.naru else { return Ok(()) };
        naru.answer(id, answer)?;
        if hello {
            self.had_naru = true;
            for event in self.game.so_far() {
                naru.tell(&event)?;
            }
        }
        Ok(())
    }

    fn check_console(&mut self, now: Instant) {
        let longest =
            if self.naru.is_some() { CONSOLE_CHECK_BESIDE_NARU } else { CONSOLE_CHECK_ALONE };
        let busy = self.game.trim_console().unwrap_or_else(|error| {
            complain("trim the console", &error);
            false
        });
        let next = if busy { self.console_check / 4 } else { self.console_check * 2 };
        self.console_check = next.clamp(CONSOLE_CHECK_MIN, longest);
        self.console_due = now + self.console_check;
    }
}

fn done(result: Result<(), Refusal>) -> Answer {
    result.map_or_else(Answer::Refused, |()| Answer::Done)
}

/// Into `keeper.log`. It is made anew with every start and bounded by what can go wrong in one game's life, as
/// nothing that repeats is written there more than once.
fn complain(what: &str, error: &dyn std::fmt::Display) {
    thread_local! {
        static SAID: std::cell::RefCell<Vec<String>> = const { std::cell::RefCell::new(Vec::new()) };
    }
    SAID.with_borrow_mut(|said| {
        if !said.iter().any(|earlier| earlier == what) {
            said.push(what.to_owned());
            drop(writeln!(io::stderr(), "naru: {what}: {error}"));
        }
    });
}

/// When something happened, for files that others read.
fn now_ms() -> i64 {
    use naru_domain::Clock as _;
    naru_domain::clock::SystemClock.now().0
}

/// Replaces a file of this folder, complaining where it cannot.
fn put<T: serde::Serialize>(name: &'static str, value: &T) -> io::Result<()> {
    files::write_json(Path::new(""), name, value)
}
