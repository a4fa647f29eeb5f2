//! One Naru, as the keeper sees it. Nothing here waits for it: what it does not take in time is its loss.

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::keeper::words::{
    Answer, Event, LINE_BYTES_MAX, Lines, Refusal, Request, Said, decode, encode,
};

/// How much may wait for a Naru that does not read. Events are few; only a hanging Naru gets there.
const UNSENT_BYTES_MAX: usize = 64 * 1024;

/// How much is read at once; more waits in the system, and then with Naru.
const RECEIVED_BYTES: usize = 4096;

/// The connection of one Naru.
pub(super) struct Naru {
    stream: UnixStream,
    lines: Lines,
    unsent: Vec<u8>,
}

impl Naru {
    /// Only the keeper's own user, and root, may speak to it.
    pub(super) fn welcome(stream: UnixStream) -> io::Result<Naru> {
        stream.set_nonblocking(true)?;
        let peer = rustix::net::sockopt::socket_peercred(&stream)?;
        if peer.uid != rustix::process::geteuid() && !peer.uid.is_root() {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        Ok(Naru { stream, lines: Lines::default(), unsent: Vec::new() })
    }

    pub(super) fn has_more(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Takes what has come, and sends what could not be sent before. An error ends the connection.
    pub(super) fn receive(&mut self) -> io::Result<()> {
        self.send()?;
        let mut bytes = [0; RECEIVED_BYTES];
        loop {
            // What is there is answered before more is taken, so it stays bounded.
            if self.lines.buffer().len() > LINE_BYTES_MAX {
                return Ok(());
            }
            match self.stream.read(&mut bytes) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.lines.buffer().extend_from_slice(&bytes[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                Err(error) => return Err(error),
            }
        }
    }

    /// What it asks next. What is not understood is answered here.
    pub(super) fn next_request(&mut self) -> io::Result<Option<Request>> {
        while let Some(line) = self.lines.next_line().map_err(io::Error::other)? {
            if let Some(request) = decode(&line) {
                return Ok(Some(request));
            }
            // A newer Naru may ask what this keeper does not know yet.
            #[derive(serde::Deserialize)]
            struct Numbered {
                id: u64,
            }
            let Some(Numbered { id }) = decode(&line) else {
                return Err(io::ErrorKind::InvalidData.into());
            };
            self.answer(id, Answer::Refused(Refusal::Unknown))?;
        }
        Ok(None)
    }

    pub(super) fn answer(&mut self, id: u64, answer: Answer) -> io::Result<()> {
        self.say(&Said::Answer { id, answer })
    }

    pub(super) fn tell(&mut self, event: &Event) -> io::Result<()> {
        self.say(&Said::Event(event.clone()))
    }

    fn say(&mut self, said: &Said) -> io::Result<()> {
        let line = encode(said);
        if self.unsent.len() + line.len() > UNSENT_BYTES_MAX {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.unsent.extend_from_slice(&line);
        self.send()
    }

    fn send(&mut self) -> io::Result<()> {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Gives the last words a moment to leave.
    pub(super) fn farewell(&mut self, wait: Duration) {
        if self.send().is_err() || self.unsent.is_empty() {
            return;
        }
        let timeout = Timespec::try_from(wait).ok();
        let mut fds = [PollFd::new(&self.stream, PollFlags::OUT)];
        // Whatever comes of it: the exit stands in the folder.
        poll(&mut fds, timeout.as_ref()).ok();
        drop(self.send());
    }
}

impl AsFd for Naru {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// Takes all bytes from a stream that only wakes.
pub(super) fn drain(mut stream: &UnixStream) {
    let mut bytes = [0; 64];
    while stream.read(&mut bytes).is_ok_and(|count| count == bytes.len()) {}
}
