//! The listener for STOMP over bare TCP or TLS.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{StompGateway, StompOpening};
use crate::connections::Socket;
use crate::tls::Tls;

/// How long to wait after a failed accept: out of file descriptors, the next one fails at once, too.
const ACCEPT_RETRY_PAUSE: Duration = Duration::from_millis(100);
/// All clients come back in the same second after a restart; the kernel must hold them meanwhile.
const LISTEN_BACKLOG: u32 = 4_096;

/// A bound listener that does not serve yet.
pub struct StompListener {
    listener: TcpListener,
    tls: Option<Tls>,
    gateway: StompGateway,
}

impl StompListener {
    /// Binds the address. Nothing is accepted before [`StompListener::run`].
    pub fn bind(
        address: SocketAddr,
        tls: Option<Tls>,
        gateway: StompGateway,
    ) -> io::Result<StompListener> {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        // Or a restart could not bind while connections of the last life linger.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        Ok(StompListener { listener: socket.listen(LISTEN_BACKLOG)?, tls, gateway })
    }

    /// The address that was bound: tells the port when 0 was asked for.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Accepts clients until told to stop. Their connections are the gateway's.
    pub async fn run(self, stop: CancellationToken) {
        let StompListener { listener, tls, gateway } = self;
        while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
            let (socket, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    gateway.shared.counters.accept_errors.increment();
                    warn!(target: "naru::stomp", %error, "accept failed");
                    sleep(ACCEPT_RETRY_PAUSE).await;
                    continue;
                }
            };
            let permit = match gateway.admit(peer) {
                Ok(permit) => permit,
                Err(why) => {
                    // Dropped without a word: it costs us nothing, and clients try again later anyway.
                    debug!(target: "naru::stomp", %peer, ?why, "connection refused");
                    continue;
                }
            };
            prepare(&socket);
            let opening = StompOpening { peer, ws: None, headers: Vec::new() };
            match tls.clone() {
                None => {
                    let opened = async move { Some((Socket::Plain(socket), BytesMut::new())) };
                    gateway.serve(permit, opening, opened);
                }
                Some(tls) => {
                    gateway.serve(permit, opening, shake_hands(gateway.clone(), tls, socket));
                }
            }
        }
        info!(target: "naru::stomp", "stomp stopped accepting");
    }
}

async fn shake_hands(
    gateway: StompGateway,
    tls: Tls,
    socket: TcpStream,
) -> Option<(Socket, BytesMut)> {
    let limit = gateway.shared.options.connect_timeout;
    match timeout(limit, tls.acceptor().accept(socket)).await {
        Ok(Ok(stream)) => Some((Socket::Boxed(Box::new(stream)), BytesMut::new())),
        Ok(Err(_)) | Err(_) => {
            gateway.shared.counters.tls_failures.increment();
            None
        }
    }
}

/// Messages are small and wanted at once; a dead peer without heart-beats must be found by the kernel.
pub(super) fn prepare(socket: &TcpStream) {
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(15))
        .with_interval(Duration::from_secs(5))
        .with_retries(3);
    let options = [socket.set_nodelay(true), SockRef::from(socket).set_tcp_keepalive(&keepalive)];
    for error in options.into_iter().filter_map(Result::err) {
        debug!(target: "naru::stomp", %error, "socket option not set");
    }
}
