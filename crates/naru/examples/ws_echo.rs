//! A WebSocket echo server on the codec and the connections of the gateways, for conformance suites.
//! `cargo run --release --example ws_echo -- 127.0.0.1:9001 --deflate`

use std::convert::Infallible;
use std::future::poll_fn;
use std::io::Write as _;
use std::net::SocketAddr;
use std::task::Poll;
use std::time::Duration;

use anyhow::{Context as _, bail};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use naru_gateways::ws::{Upgrading, WsConnection, WsEvent, WsOptions, refusal, upgrade};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

/// The largest message of the Autobahn suite.
const MESSAGE_BYTES_MAX: u32 = 16 * 1024 * 1024;
/// With so much waiting, the client is read no further.
const OUT_HIGH_BYTES: usize = 1024 * 1024;
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Clone, Copy)]
struct Options {
    address: SocketAddr,
    deflate: bool,
    message_bytes_max: u32,
}

fn options() -> anyhow::Result<Options> {
    let mut options = Options {
        address: SocketAddr::from(([127, 0, 0, 1], 9001)),
        deflate: false,
        message_bytes_max: MESSAGE_BYTES_MAX,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--deflate" => options.deflate = true,
            "--message-bytes-max" => {
                let value = arguments.next().context("--message-bytes-max needs a number")?;
                options.message_bytes_max = value.parse().context("--message-bytes-max")?;
            }
            option if option.starts_with('-') => bail!("unknown option {option}"),
            address => options.address = address.parse().context("ADDR is HOST:PORT")?,
        }
    }
    Ok(options)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = options()?;
    let listener = TcpListener::bind(options.address).await.context("cannot listen")?;
    let address = listener.local_addr()?;
    writeln!(std::io::stdout(), "ws_echo listens on ws://{address}")?;
    let tasks = TaskTracker::new();
    loop {
        // Running out of descriptors ends this server: it serves suites, not people.
        let (socket, _peer) = listener.accept().await.context("cannot accept")?;
        socket.set_nodelay(true)?;
        tasks.spawn(serve(socket, options, tasks.clone()));
    }
}

/// Speaks HTTP until the connection is upgraded.
async fn serve(socket: TcpStream, options: Options, tasks: TaskTracker) {
    let service = service_fn(move |request: Request<Incoming>| {
        let response = answer(request, options, &tasks);
        async move { Ok::<_, Infallible>(response) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades()
        .await;
    // A client that goes away in the middle is none of our business.
    drop(served);
}

fn answer(
    request: Request<Incoming>,
    options: Options,
    tasks: &TaskTracker,
) -> Response<Full<Bytes>> {
    let (mut parts, _body) = request.into_parts();
    match upgrade(&mut parts, &[], options.deflate) {
        Ok((response, upgrading)) => {
            tasks.spawn(echo(upgrading, options.message_bytes_max));
            response.map(|()| Full::default())
        }
        Err(error) => refusal(&error).map(Full::from),
    }
}

/// Sends every message back as it came.
async fn echo(upgrading: Upgrading, message_bytes_max: u32) {
    let deflate_window_bits = upgrading.deflate_window_bits();
    let Ok((socket, leftover)) = upgrading.into_socket::<TcpStream>().await else { return };
    let options = WsOptions { message_bytes_max, deflate_window_bits };
    let mut connection = WsConnection::new(socket, leftover, options);
    loop {
        match poll_fn(|cx| poll_next(&mut connection, cx)).await {
            WsEvent::Message { kind, data } => connection.queue_deflated(kind, &data),
            WsEvent::Ping | WsEvent::Pong(_) => {}
            WsEvent::Closed { .. } | WsEvent::Failed(_) | WsEvent::Ended => break,
            WsEvent::Lost(_) => return,
        }
    }
    // Whether the client says goodbye in time makes no difference any more.
    drop(timeout(CLOSE_TIMEOUT, connection.finish()).await);
}

/// The next event; answers are written when nothing more is there to be read, or when many wait.
fn poll_next(
    connection: &mut WsConnection<TcpStream>,
    cx: &mut std::task::Context<'_>,
) -> Poll<WsEvent> {
    if connection.pending_bytes() < OUT_HIGH_BYTES
        && let Poll::Ready(event) = connection.poll_event(cx)
    {
        return Poll::Ready(event);
    }
    match connection.poll_flush(cx) {
        Poll::Ready(Ok(())) | Poll::Pending => poll_read_again(connection, cx),
        Poll::Ready(Err(error)) => Poll::Ready(WsEvent::Lost(error)),
    }
}

/// Writing may have made room, so that reading goes on.
fn poll_read_again(
    connection: &mut WsConnection<TcpStream>,
    cx: &mut std::task::Context<'_>,
) -> Poll<WsEvent> {
    if connection.pending_bytes() < OUT_HIGH_BYTES {
        connection.poll_event(cx)
    } else {
        Poll::Pending
    }
}
