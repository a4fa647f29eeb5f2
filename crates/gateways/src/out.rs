//! What a connection still has to write: shared buffers in order, written as many at once as the socket
//! takes. How much may wait, and how long, is the business of its owner.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;

/// How many buffers one system call takes.
pub const SLICES_MAX: usize = 64;

/// Bytes on their way to one socket. Empty, it holds no heap memory.
#[derive(Debug, Default)]
pub struct OutQueue {
    /// Beside the others, so that a single frame for an idle connection needs no allocation. Empty only
    /// if `rest` is.
    first: Bytes,
    rest: VecDeque<Bytes>,
    bytes: usize,
    /// Whether a layer below, such as TLS, may still hold something back.
    is_unflushed: bool,
}

impl OutQueue {
    /// An empty queue.
    #[must_use]
    pub fn new() -> OutQueue {
        OutQueue::default()
    }

    /// Puts `bytes` behind everything that waits.
    pub fn push(&mut self, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        self.bytes += bytes.len();
        if self.first.is_empty() {
            self.first = bytes;
        } else {
            self.rest.push_back(bytes);
        }
    }

    /// Puts all that waits in `other` behind everything that waits here.
    pub fn append(&mut self, other: OutQueue) {
        self.push(other.first);
        other.rest.into_iter().for_each(|bytes| self.push(bytes));
    }

    /// How many bytes wait.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Writes once, as much as the socket takes in one call.
    ///
    /// - `Ok(0)`: nothing waits any more, here or in a layer below.
    /// - `Ok(n)`: the socket took `n` bytes, which is progress; call again.
    /// - `Pending`: the socket takes nothing; the task is woken when it does.
    ///
    /// # Errors
    /// The connection is lost.
    pub fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        io: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if self.bytes == 0 {
            if self.is_unflushed {
                ready!(Pin::new(io).poll_flush(cx))?;
                self.is_unflushed = false;
            }
            return Poll::Ready(Ok(0));
        }
        let written = if self.rest.is_empty() {
            ready!(Pin::new(io).poll_write(cx, &self.first))?
        } else {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let count = self.slices(&mut slices);
            ready!(Pin::new(io).poll_write_vectored(cx, &slices[..count]))?
        };
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.is_unflushed = true;
        self.advance(written);
        Poll::Ready(Ok(written))
    }

    /// Writes once without waiting, as much as the socket takes.
    ///
    /// # Errors
    /// `WouldBlock` if it takes nothing now; otherwise the connection is lost.
    pub fn write_now(&mut self, tcp: &TcpStream) -> io::Result<usize> {
        let written = if self.rest.is_empty() {
            tcp.try_write(&self.first)?
        } else {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let count = self.slices(&mut slices);
            tcp.try_write_vectored(&slices[..count])?
        };
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.advance(written);
        Ok(written)
    }

    /// The first buffers that wait, as many as fit.
    fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>; SLICES_MAX]) -> usize {
        let waiting = std::iter::once(&self.first).chain(&self.rest);
        let mut count = 0;
        for (slice, bytes) in slices.iter_mut().zip(waiting) {
            *slice = IoSlice::new(bytes);
            count += 1;
        }
        count
    }

    /// Forgets what was written.
    fn advance(&mut self, mut written: usize) {
        self.bytes = self.bytes.saturating_sub(written);
        while written >= self.first.len() {
            written -= self.first.len();
            let Some(next) = self.rest.pop_front() else {
                self.first = Bytes::new();
                self.rest = VecDeque::new();
                return;
            };
            self.first = next;
        }
        self.first.advance(written);
    }
}
