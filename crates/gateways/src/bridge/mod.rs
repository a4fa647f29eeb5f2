//! The bridge listener: phones over raw TCP or TLS.
//!
//! Accepts, counts and limits; one task per connection (`connection.rs`) does the talking. Knows the
//! protocol and the hub; what a message means is the desk's business.

mod connection;
mod counters;
mod guard;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use naru_domain::ports::PhoneDesk;
use naru_domain::{Clock, DeviceKey, limits};
use naru_hub::Hub;
use parking_lot::Mutex;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

pub use counters::BridgeCounters;
use guard::ReplayGuard;
pub use guard::{BridgeKeys, Distrust};

use crate::limits::{Admission, AdmissionLimits, Permit};
use crate::tls::Tls;
use crate::wheel::Wheel;

/// How long to wait after a failed accept: out of file descriptors, the next one fails at once, too.
const ACCEPT_RETRY_PAUSE: Duration = Duration::from_millis(100);
/// All phones come back in the same second after a restart; the kernel must hold them meanwhile.
const LISTEN_BACKLOG: u32 = 4_096;
/// Signatures and frames remembered against replay, in each of two generations (some 40 bytes each).
const REPLAY_ENTRIES_MAX: usize = 131_072;
/// Taking over an identity more often than this in a minute is a fight between two phones.
const TAKEOVERS_PER_MINUTE_MAX: u32 = 6;
/// How long the newcomer of such a fight waits, so that the fight costs little.
const FIGHT_PAUSE: Duration = Duration::from_secs(5);

/// How the listener behaves. All durations must be above zero.
#[derive(Clone)]
pub struct BridgeOptions {
    /// Between two pings of one phone.
    pub ping_interval: Duration,
    /// From accept to a usable first frame.
    pub handshake_timeout: Duration,
    /// Without a frame from the phone for so long (beyond the time it sleeps in media) it is dead.
    pub idle_timeout: Duration,
    /// Without the phone taking a byte for so long (beyond the same) it is a slow reader.
    pub write_timeout: Duration,
    /// The largest frame a phone may send, in bytes, unless the device has a limit of its own.
    pub frame_bytes_max: usize,
    /// The longest chat text, in UTF-16 units.
    pub text_units_max: usize,
    /// Frames per second from one phone before its reads are delayed; 0 is no limit.
    pub frames_per_second: u32,
    /// Frames that may come at once.
    pub frames_burst: u32,
    /// Unusable frames in a row before the connection is closed.
    pub bad_frames_max: u32,
    /// Short frames are padded to this many characters; 0 does not pad.
    pub pad_to: usize,
    /// Who may connect.
    pub admission: AdmissionLimits,
    /// What the welcome calls this server.
    pub server_version: String,
}

impl Default for BridgeOptions {
    fn default() -> BridgeOptions {
        BridgeOptions {
            ping_interval: Duration::from_secs(30),
            handshake_timeout: limits::BRIDGE_HANDSHAKE_TIMEOUT,
            idle_timeout: Duration::from_secs(300),
            write_timeout: Duration::from_secs(120),
            frame_bytes_max: limits::BRIDGE_FRAME_BYTES_MAX,
            text_units_max: limits::CHAT_TEXT_UNITS_MAX,
            frames_per_second: 2_000,
            frames_burst: 5_000,
            bad_frames_max: 100,
            pad_to: 512,
            admission: AdmissionLimits {
                connections_max: limits::BRIDGE_CONNECTIONS_MAX,
                per_address_max: limits::BRIDGE_CONNECTIONS_MAX,
                attempts_per_minute: 6_000,
            },
            server_version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

/// What all connections of the listener share.
pub(crate) struct Shared {
    options: BridgeOptions,
    keys: Arc<ArcSwap<BridgeKeys>>,
    hub: Hub,
    desk: Arc<dyn PhoneDesk>,
    clock: Arc<dyn Clock>,
    counters: Arc<BridgeCounters>,
    wheel: Wheel,
    replays: Mutex<ReplayGuard>,
    takeovers: Mutex<HashMap<DeviceKey, Takeovers>>,
}

#[derive(Clone, Copy)]
struct Takeovers {
    since: Instant,
    count: u32,
}

/// A bound listener that does not serve yet.
pub struct BridgeServer {
    listener: TcpListener,
    tls: Option<Tls>,
    shared: Arc<Shared>,
}

impl BridgeServer {
    /// Binds the address. Nothing is accepted before [`BridgeServer::run`].
    pub fn bind(
        address: SocketAddr,
        options: BridgeOptions,
        keys: Arc<ArcSwap<BridgeKeys>>,
        tls: Option<Tls>,
        hub: Hub,
        desk: Arc<dyn PhoneDesk>,
        clock: Arc<dyn Clock>,
    ) -> io::Result<BridgeServer> {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        // Or a restart could not bind while connections of the last life linger.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let listener = socket.listen(LISTEN_BACKLOG)?;
        let wheel = Wheel::new(options.ping_interval, connection::POKE_PING);
        let shared = Shared {
            keys,
            hub,
            desk,
            clock,
            counters: Arc::default(),
            wheel,
            replays: Mutex::new(ReplayGuard::new(REPLAY_ENTRIES_MAX, Instant::now())),
            takeovers: Mutex::default(),
            options,
        };
        Ok(BridgeServer { listener, tls, shared: Arc::new(shared) })
    }

    /// The address that was bound: tells the port when 0 was asked for.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The listener's figures.
    #[must_use]
    pub fn counters(&self) -> Arc<BridgeCounters> {
        Arc::clone(&self.shared.counters)
    }

    /// Accepts phones until told to stop, then says goodbye to those that are connected and waits for
    /// their tasks: the caller bounds that wait with its drain timeout.
    pub async fn run(self, stop: CancellationToken) {
        let BridgeServer { listener, tls, shared } = self;
        let admission = Admission::new(shared.options.admission);
        let connections = TaskTracker::new();
        let wheel_stop = CancellationToken::new();
        connections.spawn({
            let (shared, stop) = (Arc::clone(&shared), wheel_stop.clone());
            async move { shared.wheel.run(stop).await }
        });
        while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
            let (socket, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    shared.counters.accept_errors.increment();
                    warn!(target: "naru::bridge", %error, "accept failed");
                    sleep(ACCEPT_RETRY_PAUSE).await;
                    continue;
                }
            };
            let permit = match admission.admit(peer.ip(), Instant::now()) {
                Ok(permit) => permit,
                Err(why) => {
                    // Dropped without a word: a phone that reads a refusal comes back every 4 s, one
                    // that is cut does the same, and the cut costs us nothing.
                    shared.counters.refused(why);
                    debug!(target: "naru::bridge", %peer, ?why, "connection refused");
                    continue;
                }
            };
            prepare(&socket);
            shared.counters.accepted.increment();
            let serving =
                serve(socket, peer, permit, tls.clone(), Arc::clone(&shared), stop.child_token());
            connections.spawn(serving);
        }
        drop(listener);
        info!(target: "naru::bridge", open = admission.open(), "bridge stopped accepting");
        shared.wheel.poke_all(connection::POKE_STOP);
        wheel_stop.cancel();
        connections.close();
        connections.wait().await;
    }
}

/// Replies are small and wanted at once; a dead peer behind a mute NAT must be found by the kernel, too.
fn prepare(socket: &TcpStream) {
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(30))
        .with_interval(Duration::from_secs(10));
    let options = [socket.set_nodelay(true), SockRef::from(socket).set_tcp_keepalive(&keepalive)];
    for error in options.into_iter().filter_map(Result::err) {
        debug!(target: "naru::bridge", %error, "socket option not set");
    }
}

async fn serve(
    socket: TcpStream,
    peer: SocketAddr,
    permit: Permit,
    tls: Option<Tls>,
    shared: Arc<Shared>,
    stop: CancellationToken,
) {
    shared.counters.connections.add(1);
    let reason = match tls {
        None => connection::run(socket, peer, &shared, &stop).await,
        Some(tls) => {
            // Boxed: the state of a handshake is large and would be carried by plain connections, too.
            let handshake = Box::pin(tls.acceptor().accept(socket));
            match timeout(shared.options.handshake_timeout, handshake).await {
                Ok(Ok(stream)) => connection::run(Box::new(stream), peer, &shared, &stop).await,
                Ok(Err(_)) | Err(_) => {
                    shared.counters.tls_failures.increment();
                    naru_domain::CloseReason::ConnectionLost
                }
            }
        }
    };
    shared.counters.connections.add(-1);
    shared.counters.closed(reason);
    debug!(target: "naru::bridge", %peer, reason = reason.label(), "connection ended");
    drop(permit);
}

impl Shared {
    /// Notes that the device was taken over by a new connection. Says how long the newcomer must wait
    /// when that happens too often: two phones with one identity would otherwise throw each other out
    /// for ever.
    fn takeover(&self, device: DeviceKey, now: Instant) -> Option<Duration> {
        const WINDOW: Duration = Duration::from_secs(60);
        let mut takeovers = self.takeovers.lock();
        if takeovers.len() > 1_024 {
            takeovers.retain(|_, entry| now.duration_since(entry.since) < WINDOW);
        }
        let entry = takeovers.entry(device).or_insert(Takeovers { since: now, count: 0 });
        if now.duration_since(entry.since) >= WINDOW {
            *entry = Takeovers { since: now, count: 0 };
        }
        entry.count += 1;
        let (count, limit) = (entry.count, TAKEOVERS_PER_MINUTE_MAX);
        drop(takeovers);
        if count == limit + 1 {
            self.counters.identity_fights.increment();
            warn!(
                target: "naru::bridge", device = device.0,
                "an identity is taken over again and again: do two phones share bot name and device id?",
            );
        }
        (count > limit).then_some(FIGHT_PAUSE)
    }
}
