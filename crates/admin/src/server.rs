//! The HTTP listener: accepts, bounds and serves connections until told to stop. Knows nothing about
//! what is served.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::edge::Edge;
use crate::metrics::AdminMetrics;
use crate::options::{AdminOptions, source_key};
use crate::routes;
use crate::services::Services;
use crate::state::Api;

/// After a failed accept: without a pause, running out of descriptors becomes a busy loop.
const ACCEPT_RETRY_PAUSE: Duration = Duration::from_millis(100);
const HEADERS_MAX: usize = 64;
/// Head of a request in bytes, address included; hyper answers 431 above it.
const HEAD_BYTES_MAX: usize = 32 * 1024;

/// Why the listener cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} for HTTP: {error}")]
pub struct BindError {
    /// Where it should have listened.
    pub address: SocketAddr,
    /// What the system said, such as "address already in use".
    #[source]
    pub error: io::Error,
}

/// A bound listener that does not serve yet.
pub struct AdminServer {
    listener: TcpListener,
    address: SocketAddr,
    options: AdminOptions,
}

impl AdminServer {
    /// Takes the address. All listeners are bound before anything is served.
    pub async fn bind(options: AdminOptions) -> Result<AdminServer, BindError> {
        let address = options.listen;
        let failed = |error| BindError { address, error };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(AdminServer { listener, address, options })
    }

    /// Where it listens; the port is a real one even if 0 was asked for.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until told to stop, then lets requests in work end. The caller bounds that with its
    /// drain timeout.
    pub async fn run(self, services: Services, stop: CancellationToken) {
        let doors = services.doors.clone();
        let endpoints = routes::endpoints(&self.options);
        let rows = endpoints.iter().map(|row| (row.method.to_string(), row.path));
        let metrics = AdminMetrics::new(rows);
        let api = Api::new(self.options, services, metrics, stop.clone());
        let router = routes::router(&api, endpoints);
        let tasks = TaskTracker::new();
        let edge = Arc::new(Edge::new(api.clone(), router, tasks.clone(), doors));
        let doorman = Arc::new(Doorman::default());
        while let Some(accepted) = stop.run_until_cancelled(self.listener.accept()).await {
            match accepted {
                Ok((socket, peer)) => {
                    let Some(place) = doorman.admit(&api, peer) else {
                        api.metrics.connections_refused.increment();
                        continue;
                    };
                    let connection = Connection { api: api.clone(), edge: edge.clone(), peer };
                    let stop = stop.clone();
                    tasks.spawn(async move {
                        let _place = place;
                        connection.serve(socket, stop).await;
                    });
                }
                Err(error) => {
                    api.metrics.accept_failures.increment();
                    tracing::warn!(target: "naru::admin", %error, "accept failed");
                    tokio::time::sleep(ACCEPT_RETRY_PAUSE).await;
                }
            }
        }
        tasks.close();
        tasks.wait().await;
        api.ward_jobs.drained().await;
    }
}

/// Counts connections in total and per address.
#[derive(Default)]
struct Doorman {
    inside: Mutex<HashMap<String, usize>>,
}

struct Place {
    doorman: Arc<Doorman>,
    api: Api,
    key: String,
}

impl Doorman {
    fn admit(self: &Arc<Doorman>, api: &Api, peer: SocketAddr) -> Option<Place> {
        let limits = &api.options.limits;
        let ip = peer.ip().to_canonical();
        // All users of a proxy share its address.
        let is_proxy = api.options.trusted_proxies.iter().any(|network| network.contains(ip));
        let key = source_key(ip);
        let mut inside = self.inside.lock();
        if inside.values().sum::<usize>() >= limits.connections_max {
            return None;
        }
        let from_there = inside.entry(key.clone()).or_insert(0);
        if *from_there >= limits.connections_per_address_max && !is_proxy {
            return None;
        }
        *from_there += 1;
        api.metrics.connections.add(1);
        Some(Place { doorman: Arc::clone(self), api: api.clone(), key })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.api.metrics.connections.add(-1);
        let mut inside = self.doorman.inside.lock();
        if let Some(count) = inside.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                inside.remove(&self.key);
            }
        }
    }
}

struct Connection {
    api: Api,
    edge: Arc<Edge>,
    peer: SocketAddr,
}

impl Connection {
    async fn serve(self, socket: TcpStream, stop: CancellationToken) {
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(target: "naru::admin", %error, "nodelay not set");
        }
        let socket = HttpSocket::new(socket, self.api.clone());
        let Some(tls) = self.api.options.tls.as_ref().map(|tls| tls.load_full()) else {
            return self.speak(socket, stop).await;
        };
        let handshake = TlsAcceptor::from(tls).accept(socket);
        let limit = self.api.options.limits.head_timeout;
        let shaken = stop.run_until_cancelled(tokio::time::timeout(limit, handshake)).await;
        match shaken {
            Some(Ok(Ok(socket))) => self.speak(socket, stop).await,
            Some(_failed) => self.api.metrics.tls_failures.increment(),
            None => (),
        }
    }

    async fn speak<I>(self, io: I, stop: CancellationToken)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (edge, peer) = (self.edge, self.peer);
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            let edge = Arc::clone(&edge);
            async move { Ok::<_, Infallible>(edge.answer(request.map(Body::new), peer).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.api.options.limits.head_timeout)
            .max_headers(HEADERS_MAX)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(io), service)
            .with_upgrades();
        let mut connection = pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(target: "naru::admin", %error, "connection ended");
        }
    }
}

/// A connection of this listener: a socket whose writes fail when the reader takes no bytes for too long: hyper itself would wait for
/// ever, and a few hundred such readers would hold all places.
pub struct HttpSocket {
    socket: TcpStream,
    waiting: Option<Pin<Box<Sleep>>>,
    api: Api,
}

impl HttpSocket {
    fn new(socket: TcpStream, api: Api) -> HttpSocket {
        HttpSocket { socket, waiting: None, api }
    }

    /// The bare socket, for a service that takes a connection over.
    #[must_use]
    pub fn into_inner(self) -> TcpStream {
        self.socket
    }

    fn timed<T>(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.waiting = None;
            return polled;
        }
        let limit = self.api.options.limits.write_timeout;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        if waiting.as_mut().poll(cx).is_ready() {
            self.api.metrics.slow_readers.increment();
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Pending
    }
}

impl AsyncRead for HttpSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buffer)
    }
}

impl AsyncWrite for HttpSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.timed(cx, polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.socket).poll_flush(cx);
        self.timed(cx, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.socket).poll_shutdown(cx);
        self.timed(cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.socket).poll_write_vectored(cx, slices);
        self.timed(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }
}
