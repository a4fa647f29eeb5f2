//! The two ways in which STOMP travels: bare on a socket, or in the messages of a WebSocket. Above this
//! both are a stream of bytes. It knows no frames.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use naru_domain::CloseReason;
use naru_wire::ws::{Opcode, encode_frame};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::input::{poll_discard, poll_fill};
use crate::outgoing::Outgoing;
use crate::ws::{WsConnection, WsEvent};

/// What came from the client.
pub(super) enum Heard {
    /// A piece of the stream.
    Bytes(Bytes),
    /// A sign of life that is no part of the stream.
    Alive,
    /// The client has ended its side.
    Ended,
    /// It broke the rules of the transport.
    Failed(CloseReason),
    /// The connection is lost.
    Lost,
}

/// A connection.
pub(super) enum Link<S> {
    /// A socket and nothing around it.
    Bare(Bare<S>),
    /// The same bytes in WebSocket messages.
    Ws(Box<WsConnection<S>>),
}

/// A socket that carries frames as they are.
pub(super) struct Bare<S> {
    io: S,
    out: Arc<Outgoing>,
    input: BytesMut,
    is_shut: bool,
}

impl<S> Bare<S> {
    pub(super) fn new(io: S, out: Arc<Outgoing>) -> Bare<S> {
        Bare { io, out, input: BytesMut::new(), is_shut: false }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Link<S> {
    /// Writes what waits. `Ok` when nothing waits any more.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Link::Bare(bare) => bare.out.poll_write(&mut bare.io, cx),
            Link::Ws(ws) => ws.poll_flush(cx),
        }
    }

    /// What the client said next. Cancel safe.
    pub(super) fn poll_heard(&mut self, cx: &mut Context<'_>) -> Poll<Heard> {
        match self {
            Link::Bare(bare) => match ready!(poll_fill(&mut bare.io, cx, &mut bare.input)) {
                Ok(0) => Poll::Ready(Heard::Ended),
                // Taken whole, so that an idle connection keeps no buffer.
                Ok(_) => Poll::Ready(Heard::Bytes(std::mem::take(&mut bare.input).freeze())),
                Err(_) => Poll::Ready(Heard::Lost),
            },
            Link::Ws(ws) => Poll::Ready(match ready!(ws.poll_event(cx)) {
                WsEvent::Message { data, .. } => Heard::Bytes(data),
                WsEvent::Ping | WsEvent::Pong(_) => Heard::Alive,
                WsEvent::Closed { .. } | WsEvent::Ended => Heard::Ended,
                WsEvent::Failed(error) if error.close_code() == 1009 => {
                    Heard::Failed(CloseReason::FrameTooLarge)
                }
                WsEvent::Failed(_) => Heard::Failed(CloseReason::Malformed),
                WsEvent::Lost(_) => Heard::Lost,
            }),
        }
    }

    /// How large a message of the transport may be from now on.
    pub(super) fn set_message_bytes_max(&mut self, max: u32) {
        if let Link::Ws(ws) = self {
            ws.set_message_bytes_max(max);
        }
    }

    /// Queues the last frame, if there is one, and the end of the conversation.
    pub(super) fn close(&mut self, last: Option<Bytes>, code: u16, reason: &str) {
        match self {
            Link::Bare(bare) => bare.out.push_last(last.unwrap_or_default()),
            Link::Ws(ws) => {
                if let Some(last) = last {
                    ws.queue(last);
                }
                ws.close(code, reason);
            }
        }
    }

    /// Writes what waits, shuts our side and reads, without looking, until the client has shut its own:
    /// otherwise the kernel would tear our last words out of its hands. The caller bounds this.
    pub(super) async fn finish(&mut self) -> io::Result<()> {
        match self {
            Link::Bare(bare) => std::future::poll_fn(|cx| bare.poll_finish(cx)).await,
            Link::Ws(ws) => ws.finish().await,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Bare<S> {
    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_shut {
            ready!(self.out.poll_write(&mut self.io, cx))?;
            ready!(Pin::new(&mut self.io).poll_shutdown(cx))?;
            self.is_shut = true;
        }
        while ready!(poll_discard(&mut self.io, cx))? > 0 {}
        Poll::Ready(Ok(()))
    }
}

/// A frame as it goes over the link: in a message of text if it is text.
pub(super) fn wrap(is_ws: bool, frame: Bytes) -> Bytes {
    if !is_ws {
        return frame;
    }
    let is_text = std::str::from_utf8(&frame).is_ok();
    encode_frame(if is_text { Opcode::Text } else { Opcode::Binary }, &frame)
}
