//! Centrifuge without a WebSocket: what the server says goes down in one long answer of HTTP, and what the
//! client says comes up in requests of their own. Both ways are put together in memory to a stream of
//! WebSocket frames, so that the connection behind it is the same as any other. It knows no paths and headers.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use hyper::body::{Body, Frame};
use naru_wire::centrifuge::{
    self as wire, EmulationRequest, FrameLimits, Protocol, Push, Request, decode_frame,
};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, DuplexStream, ReadBuf, duplex, join};
use tokio::sync::mpsc;

use super::{ClientGateway, Opening, Shared, connection};
use crate::connections::Socket;
use crate::input::poll_fill;
use crate::limits::{Permit, Refused};

/// What may wait between the connection and the answer that carries it down; then the connection waits.
const DOWN_BYTES_MAX: usize = 16 * 1024;
/// Requests of one session that its connection has not read yet.
const UP_FRAMES_MAX: usize = 16;

/// How the stream downwards is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Messages one after the other: lines of JSON, or Protobuf with lengths.
    HttpStream,
    /// Server-sent events, one a message; JSON only.
    Sse,
}

impl Transport {
    /// The name in hooks and logs.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Transport::HttpStream => "http_stream",
            Transport::Sse => "sse",
        }
    }
}

/// How an emulated connection is opened.
#[derive(Clone, Debug)]
pub struct EmulatedOpening {
    /// From where.
    pub peer: SocketAddr,
    /// How it is written to.
    pub transport: Transport,
    /// In which encoding it speaks.
    pub protocol: Protocol,
}

/// What a connection knows of being emulated.
pub(super) struct Emulated {
    /// A secret that only its client is told.
    pub(super) session: Box<str>,
    pub(super) transport: Transport,
}

/// Why what was posted for a session did not get there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undelivered {
    /// There is no such session on this node, any more or at all.
    #[error("there is no such session")]
    UnknownSession,
    /// Too much of it waits already.
    #[error("the session has more to read than it may")]
    TooMany,
}

/// The emulated connections that are open, by the secrets of their sessions.
#[derive(Default)]
pub(crate) struct Sessions {
    open: Mutex<HashMap<Box<str>, mpsc::Sender<Bytes>>>,
}

impl Sessions {
    /// A new session with its secret and what is posted for it, unless there are `max` already.
    fn open(&self, max: usize) -> Option<(Box<str>, mpsc::Receiver<Bytes>)> {
        let (sender, receiver) = mpsc::channel(UP_FRAMES_MAX);
        // 256 bits: nobody guesses one of them.
        let (high, low): (u128, u128) = (rand::random(), rand::random());
        let session: Box<str> = format!("{high:032x}{low:032x}").into();
        let mut open = self.open.lock();
        if open.len() >= max {
            return None;
        }
        open.insert(session.clone(), sender);
        Some((session, receiver))
    }
}

impl ClientGateway {
    /// Opens a connection whose first commands are `first`. What it says is the result, which ends it when
    /// dropped.
    ///
    /// # Errors
    /// There are as many as there may be.
    pub fn open_emulated(
        &self,
        permit: Permit,
        opening: EmulatedOpening,
        first: &[u8],
    ) -> Result<EventStream, Refused> {
        let EmulatedOpening { peer, transport, protocol } = opening;
        let shared = Arc::clone(&self.shared);
        let opened = shared.sessions.open(shared.options.emulated_max);
        let Some((session, frames)) = opened else {
            shared.counters.refused.increment();
            return Err(Refused::Total);
        };
        let (near, far) = duplex(DOWN_BYTES_MAX);
        let up = Up { frames, rest: Bytes::new() };
        let socket = Socket::Boxed(Box::new(join(up, far)));
        let leftover = BytesMut::from(&client_frame(first)[..]);
        let opening = Opening { peer, protocol, deflate_window_bits: None, headers: Vec::new() };
        let emulated = Emulated { session: session.clone(), transport };
        let stream =
            EventStream::new(near, transport, protocol, Arc::clone(&shared), session.clone());
        let opened = async move { Some((socket, leftover)) };
        self.connections.serve(permit, opened, |socket, leftover, stop| {
            connection::run(socket, leftover, opening, Some(emulated), shared, stop)
        });
        Ok(stream)
    }

    /// Hands what was posted to its session. Never waits.
    ///
    /// # Errors
    /// See [`Undelivered`].
    pub fn pass_on(&self, request: &EmulationRequest) -> Result<(), Undelivered> {
        if request.node != self.shared.options.node {
            return Err(Undelivered::UnknownSession);
        }
        let session = self.shared.sessions.open.lock().get(request.session.as_str()).cloned();
        let session = session.ok_or(Undelivered::UnknownSession)?;
        session.try_send(client_frame(&request.data)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Undelivered::TooMany,
            mpsc::error::TrySendError::Closed(_) => Undelivered::UnknownSession,
        })
    }
}

/// Whether the commands carry a credential, so that they may not stand in an address. What cannot be read
/// carries none.
#[must_use]
pub fn carries_token(protocol: Protocol, frame: Bytes) -> bool {
    decode_frame(protocol, frame, FrameLimits::default()).any(|command| {
        match command.map(|command| command.request) {
            Ok(Request::Connect(connect)) => {
                let has_header = connect.headers.keys().any(|name| {
                    ["authorization", "cookie"].iter().any(|each| name.eq_ignore_ascii_case(each))
                });
                let mut subs = connect.subs.values();
                has_header || !connect.token.is_empty() || subs.any(|sub| !sub.token.is_empty())
            }
            Ok(Request::Subscribe(subscribe)) => !subscribe.token.is_empty(),
            Ok(Request::Refresh(refresh)) => !refresh.token.is_empty(),
            Ok(Request::SubRefresh(refresh)) => !refresh.token.is_empty(),
            _ => false,
        }
    })
}

/// What was posted, as the stream that the connection reads. It ends when nobody can post any more.
struct Up {
    frames: mpsc::Receiver<Bytes>,
    rest: Bytes,
}

impl AsyncRead for Up {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.rest.is_empty() {
            let Some(frame) = ready!(self.frames.poll_recv(cx)) else { return Poll::Ready(Ok(())) };
            self.rest = frame;
        }
        let count = self.rest.len().min(buffer.remaining());
        buffer.put_slice(&self.rest.split_to(count));
        Poll::Ready(Ok(()))
    }
}

/// What an emulated connection says, as the body of an answer.
pub struct EventStream {
    near: DuplexStream,
    input: BytesMut,
    transport: Transport,
    protocol: Protocol,
    is_over: bool,
    shared: Arc<Shared>,
    session: Box<str>,
}

impl EventStream {
    fn new(
        near: DuplexStream,
        transport: Transport,
        protocol: Protocol,
        shared: Arc<Shared>,
        session: Box<str>,
    ) -> EventStream {
        shared.counters.emulated.add(1);
        let input = BytesMut::new();
        EventStream { near, input, transport, protocol, is_over: false, shared, session }
    }

    /// What the frames say that have come whole.
    fn said(&mut self) -> Bytes {
        let mut out = BytesMut::new();
        while !self.is_over
            && let Some((opcode, payload)) = server_frame(&mut self.input)
        {
            match opcode {
                TEXT | BINARY => self.append(&payload, &mut out),
                CLOSE => {
                    self.is_over = true;
                    if let Some(last) = disconnect(self.protocol, payload) {
                        self.append(&last, &mut out);
                    }
                }
                _ => {}
            }
        }
        out.freeze()
    }

    fn append(&self, message: &[u8], out: &mut BytesMut) {
        match (self.transport, self.protocol) {
            (Transport::HttpStream, Protocol::Protobuf) => out.put_slice(message),
            (Transport::HttpStream, Protocol::Json) => {
                out.put_slice(message);
                out.put_slice(b"\n");
            }
            (Transport::Sse, _) => {
                out.put_slice(b"data: ");
                out.put_slice(message);
                out.put_slice(b"\n\n");
            }
        }
    }
}

impl Body for EventStream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = &mut *self;
        loop {
            let said = this.said();
            if !said.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(said))));
            }
            if this.is_over {
                return Poll::Ready(None);
            }
            match ready!(poll_fill(&mut this.near, cx, &mut this.input)) {
                Ok(1..) => {}
                Ok(0) | Err(_) => this.is_over = true,
            }
        }
    }
}

/// Whoever reads has gone, so nobody can post any more either, and the connection ends.
impl Drop for EventStream {
    fn drop(&mut self) {
        self.shared.counters.emulated.add(-1);
        self.shared.sessions.open.lock().remove(&self.session);
    }
}

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;

/// A frame as a WebSocket client sends it. The mask is there, as the rules want it, and changes nothing.
fn client_frame(payload: &[u8]) -> Bytes {
    const HEAD_BYTES_MAX: usize = 14;
    let mut frame = BytesMut::with_capacity(HEAD_BYTES_MAX + payload.len());
    frame.put_u8(0x80 | BINARY);
    match payload.len() {
        len @ 0..126 => frame.put_u8(0x80 | u8::try_from(len).unwrap_or_default()),
        len => {
            frame.put_u8(0x80 | 127);
            frame.put_u64(len as u64);
        }
    }
    frame.put_u32(0);
    frame.put_slice(payload);
    frame.freeze()
}

/// The next frame of our own server, once it is there as a whole: neither masked nor in pieces.
fn server_frame(input: &mut BytesMut) -> Option<(u8, Bytes)> {
    let mut head = &input[..];
    let opcode = head.try_get_u8().ok()? & 0x0f;
    let len = match head.try_get_u8().ok()? {
        126 => u64::from(head.try_get_u16().ok()?),
        127 => head.try_get_u64().ok()?,
        len => u64::from(len),
    };
    let len = usize::try_from(len).ok().filter(|len| *len <= head.len())?;
    input.advance(input.len() - head.len());
    Some((opcode, input.split_to(len).freeze()))
}

/// What a close frame says, for clients that get none.
fn disconnect(protocol: Protocol, mut close: Bytes) -> Option<Bytes> {
    let code = close.try_get_u16().ok()?;
    let reason = std::str::from_utf8(&close).ok()?;
    wire::encode_push(protocol, &Push::Disconnect { code: code.into(), reason }).ok()
}

#[cfg(test)]
mod tests {
    use naru_wire::ws::{Decoder, Incoming, Opcode, encode_close, encode_frame};

    use super::*;

    #[test]
    fn frames_of_a_client_of_any_size_are_those_that_a_websocket_reads() {
        for len in [0, 1, 125, 126, 65_535, 65_536] {
            let payload = vec![0xa5; len];
            let mut input = BytesMut::from(&client_frame(&payload)[..]);
            match Decoder::new(1 << 20, false).decode(&mut input) {
                Ok(Some(Incoming::Message { data, .. })) => assert_eq!(data, payload),
                other => panic!("{len}: {other:?}"),
            }
            assert!(input.is_empty());
        }
    }

    #[test]
    fn frames_of_the_server_are_read_whole_and_in_any_pieces() {
        for len in [0, 1, 125, 126, 65_535, 65_536] {
            let payload = vec![b'x'; len];
            let whole = encode_frame(Opcode::Text, &payload);
            let mut input = BytesMut::new();
            let (most, last) = whole.split_at(whole.len() - 1);
            for piece in most.chunks(1 + most.len() / 3) {
                input.extend_from_slice(piece);
                assert_eq!(server_frame(&mut input), None, "{len}");
            }
            input.extend_from_slice(last);
            input.extend_from_slice(&encode_close(3001, "shutdown"));
            assert_eq!(server_frame(&mut input), Some((TEXT, payload.into())));
            let (opcode, close) = server_frame(&mut input).unwrap();
            let said = disconnect(Protocol::Json, close).unwrap();
            let expected = br#"{"push":{"disconnect":{"code":3001,"reason":"shutdown"}}}"#;
            assert_eq!((opcode, &said[..]), (CLOSE, &expected[..]));
        }
    }

    #[test]
    fn commands_with_a_credential_are_told_from_those_without() {
        let carries = |text: &'static str| carries_token(Protocol::Json, text.into());
        assert!(carries(r#"{"id":1,"connect":{"token":"t"}}"#));
        assert!(carries(r#"{"id":1,"connect":{"headers":{"Authorization":"Bearer t"}}}"#));
        assert!(carries(r#"{"id":1,"connect":{"subs":{"a":{"token":"t"}}}}"#));
        assert!(carries("{\"id\":1,\"connect\":{}}\n{\"id\":2,\"subscribe\":{\"token\":\"t\"}}"));
        assert!(!carries(r#"{"id":1,"connect":{"token":"","name":"js"}}"#));
        assert!(!carries("token"));
    }
}
