//! WebSocket connections against a client that is not ours (tungstenite), and against bytes by hand.

mod client;
mod connection;
mod out;
mod upgrade;

use std::future::poll_fn;

use bytes::BytesMut;
use naru_gateways::ws::{WsConnection, WsEvent, WsOptions};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, duplex};

pub(crate) const OPTIONS: WsOptions =
    WsOptions { message_bytes_max: 1 << 20, deflate_window_bits: None };

/// A connection and the client's end of its socket, which holds so many bytes each way.
pub(crate) fn connected(
    buffer_bytes: usize,
    options: WsOptions,
) -> (WsConnection<DuplexStream>, DuplexStream) {
    let (client, server) = duplex(buffer_bytes);
    (WsConnection::new(server, BytesMut::new(), options), client)
}

/// The next event; what waits is written meanwhile.
pub(crate) async fn next<S>(connection: &mut WsConnection<S>) -> WsEvent
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    poll_fn(|cx| {
        if let std::task::Poll::Ready(Err(error)) = connection.poll_flush(cx) {
            return std::task::Poll::Ready(WsEvent::Lost(error));
        }
        connection.poll_event(cx)
    })
    .await
}

/// Sends every message back, until the conversation is over; then says goodbye.
pub(crate) async fn echo<S>(connection: &mut WsConnection<S>) -> WsEvent
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        match next(connection).await {
            WsEvent::Message { kind, data } => connection.queue_message(kind, &data),
            WsEvent::Ping | WsEvent::Pong(_) => {}
            end => {
                connection.finish().await.expect("the client hangs up in order");
                return end;
            }
        }
    }
}
