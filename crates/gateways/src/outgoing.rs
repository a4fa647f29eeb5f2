//! The outgoing side of a connection that others than its own task write to: a bounded queue of frames,
//! written at once where the socket takes it, by whoever has something to say. Its task only helps when
//! the socket is full, encrypted or to be closed. It knows no protocol.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use naru_domain::Timestamp;
use naru_hub::{Ending, Taken};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::out::OutQueue;

/// Something waits that only the task can write.
pub(crate) const WRITE: u32 = 1;
/// The connection is to end; [`Outgoing::ending`] says why.
pub(crate) const END: u32 = 2;
/// The client's credentials run out at another time; [`Outgoing::ordered_expiry`] says when.
pub(crate) const EXPIRES: u32 = 1 << 16;

/// They never run out.
const NEVER: i64 = i64::MAX;

/// The queue of one connection and the way to its socket.
#[derive(Debug)]
pub struct Outgoing {
    state: Mutex<State>,
    bits: AtomicU32,
    waker: AtomicWaker,
    /// When the credentials run out, as was ordered last.
    expiry: AtomicI64,
    bytes_max: usize,
}

#[derive(Debug)]
struct State {
    queue: OutQueue,
    /// Where it is written without the task's help.
    tcp: Option<Arc<TcpStream>>,
    /// A flush was asked for and has not happened.
    is_flush_due: bool,
    /// The socket took nothing the last time; the task waits for it.
    blocked_since: Option<Instant>,
    /// Nothing more is queued: the connection is over or about to be.
    is_closed: bool,
    ending: Option<Box<Ending>>,
    /// Frames that must come behind an answer which is not ready yet.
    held: Option<OutQueue>,
}

impl Outgoing {
    /// An empty queue that may hold `bytes_max`. Without `tcp` only the task writes.
    pub(crate) fn new(tcp: Option<Arc<TcpStream>>, bytes_max: usize) -> Outgoing {
        let state = State {
            queue: OutQueue::new(),
            tcp,
            is_flush_due: false,
            blocked_since: None,
            is_closed: false,
            ending: None,
            held: None,
        };
        Outgoing {
            state: Mutex::new(state),
            bits: AtomicU32::new(0),
            waker: AtomicWaker::new(),
            expiry: AtomicI64::new(NEVER),
            bytes_max,
        }
    }

    /// Queues a frame if there is room.
    pub(crate) fn offer(&self, frame: Bytes) -> Taken {
        let mut state = self.state.lock();
        if state.is_closed {
            return Taken::Skipped;
        }
        let waiting = state.queue.bytes() + state.held.as_ref().map_or(0, OutQueue::bytes);
        if waiting + frame.len() > self.bytes_max && waiting > 0 {
            return Taken::Full;
        }
        state.push(frame)
    }

    /// Queues a frame that must not be left out, such as an answer: whoever makes many of them looks at
    /// [`Outgoing::is_congested`] first.
    pub(crate) fn push(&self, frame: Bytes) -> Taken {
        let mut state = self.state.lock();
        if state.is_closed {
            return Taken::Skipped;
        }
        state.push(frame)
    }

    /// Queues a frame for the connection's own task, which flushes when it has nothing more to say. Others
    /// who queue something meanwhile flush this with it.
    pub(crate) fn push_own(&self, frame: Bytes) {
        let mut state = self.state.lock();
        if state.is_closed {
            return;
        }
        match &mut state.held {
            Some(held) => held.push(frame),
            None => state.queue.push(frame),
        }
    }

    /// Queues the last frame: nothing comes after it.
    pub(crate) fn push_last(&self, frame: Bytes) {
        let mut state = self.state.lock();
        if !state.is_closed {
            state.queue.push(frame);
            state.is_closed = true;
        }
    }

    /// Nothing more is queued, what waits included.
    pub(crate) fn shut(&self) {
        let mut state = self.state.lock();
        state.is_closed = true;
        state.queue = OutQueue::new();
        state.tcp = None;
    }

    /// From now on frames are held back until [`Outgoing::release`].
    pub(crate) fn hold(&self) {
        self.state.lock().held = Some(OutQueue::new());
    }

    /// Queues `first`, and behind it what was held back.
    pub(crate) fn release(&self, first: Bytes) {
        let mut state = self.state.lock();
        let held = state.held.take();
        if state.is_closed {
            return;
        }
        state.queue.push(first);
        if let Some(held) = held {
            state.queue.append(held);
        }
    }

    /// Whether nothing more is queued.
    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().is_closed
    }

    /// Whether so much waits that no more answers should be made.
    pub(crate) fn is_congested(&self) -> bool {
        self.state.lock().queue.bytes() > self.bytes_max / 2
    }

    /// Bytes that wait.
    pub(crate) fn pending_bytes(&self) -> usize {
        self.state.lock().queue.bytes()
    }

    /// Since when the socket takes nothing, if it does not.
    pub(crate) fn blocked_for(&self, now: Instant) -> Duration {
        let since = self.state.lock().blocked_since;
        since.map_or(Duration::ZERO, |since| now.duration_since(since))
    }

    /// Writes what is queued, as far as the socket takes it now; the task sees to the rest.
    pub(crate) fn flush(&self) {
        let mut state = self.state.lock();
        state.is_flush_due = false;
        if state.queue.is_empty() || state.blocked_since.is_some() {
            return;
        }
        let needs_task = match state.tcp.clone() {
            Some(tcp) => state.write_now(&tcp),
            None => true,
        };
        drop(state);
        if needs_task {
            self.poke(WRITE);
        }
    }

    /// Writes what is queued, for the task. `Ok` when nothing waits any more.
    pub(crate) fn poll_write<S: AsyncWrite + Unpin>(
        &self,
        io: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = self.state.lock();
        state.is_flush_due = false;
        loop {
            match state.queue.poll_write(io, cx) {
                Poll::Ready(Ok(0)) => {
                    state.blocked_since = None;
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(Ok(_progress)) => state.blocked_since = None,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    state.blocked_since.get_or_insert_with(Instant::now);
                    return Poll::Pending;
                }
            }
        }
    }

    /// Tells the connection to end. The first reason stays.
    pub(crate) fn end(&self, ending: &Ending) {
        let mut state = self.state.lock();
        if state.ending.is_none() {
            state.ending = Some(Box::new(ending.clone()));
        }
        drop(state);
        self.poke(END);
    }

    /// Why the connection is to end.
    pub(crate) fn ending(&self) -> Option<Ending> {
        self.state.lock().ending.as_deref().cloned()
    }

    /// Orders when the client's credentials run out; the task is told.
    pub(crate) fn expire(&self, at: Option<Timestamp>) {
        self.expiry.store(at.map_or(NEVER, |at| at.0), Ordering::Release);
        self.poke(EXPIRES);
    }

    /// What was ordered last.
    pub(crate) fn ordered_expiry(&self) -> Option<Timestamp> {
        Some(self.expiry.load(Ordering::Acquire)).filter(|at| *at != NEVER).map(Timestamp)
    }

    /// Wakes the task.
    pub(crate) fn poke(&self, bits: u32) {
        self.bits.fetch_or(bits, Ordering::AcqRel);
        self.waker.wake();
    }

    /// What the task was woken for. Takes the bits.
    pub(crate) fn poll_bits(&self, cx: &mut Context<'_>) -> Poll<u32> {
        let bits = self.bits.swap(0, Ordering::AcqRel);
        if bits != 0 {
            return Poll::Ready(bits);
        }
        self.waker.register(cx.waker());
        // Bits that were set before the waker was there have woken nobody.
        match self.bits.swap(0, Ordering::AcqRel) {
            0 => Poll::Pending,
            bits => Poll::Ready(bits),
        }
    }
}

impl State {
    fn push(&mut self, frame: Bytes) -> Taken {
        if let Some(held) = &mut self.held {
            held.push(frame);
            return Taken::Queued;
        }
        self.queue.push(frame);
        if self.blocked_since.is_some() || std::mem::replace(&mut self.is_flush_due, true) {
            Taken::Queued
        } else {
            Taken::FlushDue
        }
    }

    /// True if the task has to see to the rest.
    fn write_now(&mut self, tcp: &TcpStream) -> bool {
        while !self.queue.is_empty() {
            match self.queue.write_now(tcp) {
                Ok(_progress) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.blocked_since.get_or_insert_with(Instant::now);
                    return true;
                }
                // The task finds out by itself, and knows what to do about it.
                Err(_) => return true,
            }
        }
        false
    }
}

/// A TCP stream that its task reads and anybody may write.
#[derive(Debug, Clone)]
pub(crate) struct SharedTcp(pub(crate) Arc<TcpStream>);

impl AsyncRead for SharedTcp {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.poll_read_ready(cx))?;
            match self.0.try_read(buffer.initialize_unfilled()) {
                Ok(count) => {
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl SharedTcp {
    fn poll_try<T>(
        &self,
        cx: &mut Context<'_>,
        attempt: impl Fn(&TcpStream) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        loop {
            ready!(self.0.poll_write_ready(cx))?;
            match attempt(&self.0) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }
}

impl AsyncWrite for SharedTcp {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_try(cx, |tcp| tcp.try_write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_try(cx, |tcp| tcp.try_write_vectored(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = socket2::SockRef::from(&*self.0).shutdown(std::net::Shutdown::Write);
        match shut {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Poll::Ready(Ok(())),
            other => Poll::Ready(other),
        }
    }
}
