//! A WebSocket on top of a socket, polled by the task that owns it: messages out, frames in, pings
//! answered, the closing handshake. Deadlines, limits on what may wait, and the meaning of messages are
//! its owner's.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use naru_wire::ws::{
    Decoder, Deflater, Incoming, MessageKind, Opcode, WsError, encode_close, encode_frame,
    joined_frame,
};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::input::{poll_discard, poll_fill};
use crate::outgoing::Outgoing;

/// So many pongs may wait in the output; then the client is read no further until it takes some. Who
/// pings and never reads must not fill our memory.
pub const PONGS_WAITING_MAX: u8 = 16;

/// Between fast (1) and small (9); guessed, and little differs between 2 and 5 for chat messages.
const DEFLATE_LEVEL: u8 = 3;
const WINDOW_BITS_MIN: u8 = 9;
const WINDOW_BITS_MAX: u8 = 15;
const WINDOWS: usize = (WINDOW_BITS_MAX - WINDOW_BITS_MIN + 1) as usize;

thread_local! {
    /// One compressor for each size of window that clients of this thread asked for.
    static DEFLATERS: RefCell<[Option<Deflater>; WINDOWS]> = const { RefCell::new([const { None }; WINDOWS]) };
}

/// How a connection is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WsOptions {
    /// The largest message of the client, after inflation.
    pub message_bytes_max: u32,
    /// What the handshake negotiated: `Some` lets both sides compress, within a window of so many bits
    /// towards the client.
    pub deflate_window_bits: Option<u8>,
}

/// What happened on a connection.
#[derive(Debug)]
pub enum WsEvent {
    /// The client sent a message.
    Message {
        /// Text, which is UTF-8, or bytes.
        kind: MessageKind,
        /// May share its allocation with messages that were read together with it.
        data: Bytes,
    },
    /// The client pinged; the pong is queued.
    Ping,
    /// The client answered a ping, or said unasked that it lives.
    Pong(Bytes),
    /// The client ends the conversation, or agrees to our end of it. The answer is queued: finish.
    Closed {
        /// Its code, if it gave one.
        code: Option<u16>,
        /// Its reason, often empty. Strangers write it.
        reason: String,
    },
    /// The client broke the protocol. The close frame that says so is queued: finish.
    Failed(WsError),
    /// The stream ended without a close frame. Also what comes after each of the three above.
    Ended,
    /// The connection is lost.
    Lost(io::Error),
}

/// Which way the conversation is going.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// Our close frame is queued; the client's has not come.
    Closing,
    /// Nothing that the client sends matters any more.
    Over,
    /// The same, and our half of the stream is shut.
    Shut,
}

/// One client's connection. Idle, it owns no heap memory but what `S` owns.
#[derive(Debug)]
pub struct WsConnection<S> {
    io: S,
    input: BytesMut,
    out: Arc<Outgoing>,
    decoder: Decoder,
    bytes_read: u64,
    deflate_window_bits: Option<u8>,
    state: State,
    pongs_waiting: u8,
}

impl<S: AsyncRead + AsyncWrite + Unpin> WsConnection<S> {
    /// Speaks over `io`, after the handshake. `leftover` is what was already read from it. Nobody but its
    /// task writes to it, and what waits has no bound but its owner's.
    #[must_use]
    pub fn new(io: S, leftover: BytesMut, options: WsOptions) -> WsConnection<S> {
        WsConnection::sharing(io, Arc::new(Outgoing::new(None, usize::MAX)), leftover, options)
    }

    /// The same with an output that others queue frames into as well.
    #[must_use]
    pub fn sharing(
        io: S,
        out: Arc<Outgoing>,
        leftover: BytesMut,
        options: WsOptions,
    ) -> WsConnection<S> {
        let WsOptions { message_bytes_max, deflate_window_bits } = options;
        WsConnection {
            io,
            input: leftover,
            out,
            decoder: Decoder::new(message_bytes_max, deflate_window_bits.is_some()),
            bytes_read: 0,
            deflate_window_bits,
            state: State::Open,
            pongs_waiting: 0,
        }
    }

    /// Changes the limit for messages: little for strangers, more for whom one knows.
    pub fn set_message_bytes_max(&mut self, message_bytes_max: u32) {
        self.decoder.set_message_bytes_max(message_bytes_max);
    }

    /// Whether the client owes us the rest of a message, of which we keep the beginning.
    pub fn is_inside_message(&self) -> bool {
        self.decoder.is_inside_message()
    }

    /// The socket.
    pub fn io(&self) -> &S {
        &self.io
    }

    /// How many bytes were read since the connection began. They grow when the client is alive, even
    /// while it sends one long message.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    /// How many bytes wait to be written.
    pub fn pending_bytes(&self) -> usize {
        self.out.pending_bytes()
    }

    /// What the client said next. Reads when nothing complete is there; never writes, unless too many
    /// pongs wait. Cancel safe.
    pub fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<WsEvent> {
        loop {
            if matches!(self.state, State::Over | State::Shut) {
                return Poll::Ready(WsEvent::Ended);
            }
            if self.pongs_waiting >= PONGS_WAITING_MAX {
                match ready!(self.poll_flush(cx)) {
                    Ok(()) => continue,
                    Err(error) => return Poll::Ready(self.lost(error)),
                }
            }
            if let Some(event) = self.next_buffered() {
                return Poll::Ready(event);
            }
            match ready!(poll_fill(&mut self.io, cx, &mut self.input)) {
                Ok(0) => {
                    self.state = State::Over;
                    return Poll::Ready(WsEvent::Ended);
                }
                Ok(count) => self.bytes_read += count as u64,
                Err(error) => return Poll::Ready(self.lost(error)),
            }
        }
    }

    /// Writes what waits. `Ok` when nothing waits any more, `Pending` while the client takes nothing.
    ///
    /// # Errors
    /// The connection is lost.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(self.out.poll_write(&mut self.io, cx));
        self.pongs_waiting = 0;
        Poll::Ready(flushed)
    }

    /// Queues a whole frame that is encoded already, such as one that many share. Dropped once the
    /// connection is closing, as in all methods that queue.
    pub fn queue(&mut self, frame: Bytes) {
        if self.state == State::Open {
            self.out.push_own(frame);
        }
    }

    /// Queues a message.
    pub fn queue_message(&mut self, kind: MessageKind, payload: &[u8]) {
        self.queue(encode_frame(kind.into(), payload));
    }

    /// Queues a message of two parts: a head of its own and a body that is shared, which is not copied.
    pub fn queue_joined(&mut self, kind: MessageKind, head: &[u8], body: Bytes) {
        self.queue(joined_frame(kind.into(), head.len() + body.len(), head));
        self.queue(body);
    }

    /// Queues a message compressed, if that was negotiated and makes it smaller.
    pub fn queue_deflated(&mut self, kind: MessageKind, payload: &[u8]) {
        match self.deflate_window_bits.map(|bits| deflate(bits, kind, payload)) {
            Some(frame) if frame.len() < payload.len() => self.queue(frame),
            _ => self.queue_message(kind, payload),
        }
    }

    /// Whether this client can read a shared frame that a [`Deflater`] with the largest window made of a
    /// payload of so many bytes.
    pub fn takes_shared_deflated(&self, payload_bytes: usize) -> bool {
        // No distance reaches further back than the payload is long.
        self.deflate_window_bits
            .is_some_and(|bits| bits >= WINDOW_BITS_MAX || payload_bytes <= 1 << bits)
    }

    /// Queues a ping. At most 125 bytes of `payload` are sent.
    pub fn queue_ping(&mut self, payload: &[u8]) {
        self.queue(encode_frame(Opcode::Ping, payload));
    }

    /// Ends the conversation: queues a close frame behind what waits. Call
    /// [`finish`](WsConnection::finish) next. Once is enough, and later calls change nothing.
    pub fn close(&mut self, code: u16, reason: &str) {
        if self.state == State::Open {
            self.out.push_last(encode_close(code, reason));
            self.state = State::Closing;
        }
    }

    /// Writes what waits, hears the client's close frame if it owes us one, shuts our half of the stream
    /// and reads, without looking, until the client has shut its own. Without that last step what the
    /// client still sends would make the kernel tear our close frame out of its hands.
    ///
    /// The caller bounds this with a deadline, and drops the connection after either.
    ///
    /// # Errors
    /// The connection is lost.
    pub fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let is_flushed = match self.poll_flush(cx) {
                Poll::Ready(Ok(())) => true,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => false,
            };
            match self.state {
                State::Open => self.state = State::Over,
                State::Closing => {
                    // What was under way when we closed is not wanted; what ends changes the state.
                    if let WsEvent::Lost(error) = ready!(self.poll_event(cx)) {
                        return Poll::Ready(Err(error));
                    }
                }
                State::Over if !is_flushed => return Poll::Pending,
                State::Over => {
                    ready!(Pin::new(&mut self.io).poll_shutdown(cx))?;
                    self.state = State::Shut;
                }
                State::Shut => {
                    if ready!(poll_discard(&mut self.io, cx))? == 0 {
                        return Poll::Ready(Ok(()));
                    }
                }
            }
        }
    }

    /// [`poll_finish`](WsConnection::poll_finish) as a future.
    ///
    /// # Errors
    /// The connection is lost.
    pub async fn finish(&mut self) -> io::Result<()> {
        std::future::poll_fn(|cx| self.poll_finish(cx)).await
    }

    /// The next event in what was already read.
    fn next_buffered(&mut self) -> Option<WsEvent> {
        if self.input.is_empty() {
            return None;
        }
        match self.decoder.decode(&mut self.input) {
            Ok(None) => None,
            Ok(Some(Incoming::Message { kind, data })) => Some(WsEvent::Message { kind, data }),
            Ok(Some(Incoming::Ping(payload))) => {
                if self.state == State::Open {
                    self.out.push_own(encode_frame(Opcode::Pong, &payload));
                    self.pongs_waiting = self.pongs_waiting.saturating_add(1);
                }
                Some(WsEvent::Ping)
            }
            Ok(Some(Incoming::Pong(payload))) => Some(WsEvent::Pong(payload)),
            Ok(Some(Incoming::Close { code, reason })) => {
                // The client's own code goes back; 1005 may not be sent and becomes an empty frame.
                self.close(code.unwrap_or(1005), "");
                self.state = State::Over;
                Some(WsEvent::Closed { code, reason })
            }
            Err(error) => {
                self.close(error.close_code(), error.label());
                self.state = State::Over;
                Some(WsEvent::Failed(error))
            }
        }
    }

    fn lost(&mut self, error: io::Error) -> WsEvent {
        self.state = State::Over;
        WsEvent::Lost(error)
    }
}

/// A compressed frame for clients with such a window.
fn deflate(window_bits: u8, kind: MessageKind, payload: &[u8]) -> Bytes {
    let window_bits = window_bits.clamp(WINDOW_BITS_MIN, WINDOW_BITS_MAX);
    DEFLATERS.with_borrow_mut(|deflaters| {
        deflaters[usize::from(window_bits - WINDOW_BITS_MIN)]
            .get_or_insert_with(|| Deflater::new(DEFLATE_LEVEL, window_bits))
            .encode(kind, payload)
    })
}
