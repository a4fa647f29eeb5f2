//! The STOMP gateway: STOMP 1.0, 1.1 and 1.2 over TCP, TLS and WebSocket. `docs/protocols/stomp.md` is the
//! contract; the frames are `naru_wire::stomp`'s, rights and channels are the hub's.

mod connect;
mod connection;
mod counters;
mod durable;
mod expiry;
mod link;
mod listener;
mod names;
mod outlet;
mod send;
mod subscribe;
mod trouble;
mod voice;
mod work;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::{Bytes, BytesMut};
use naru_domain::Clock;
use naru_domain::ports::{Backend, Logins, TokenVerifier};
use naru_hub::Hub;
use naru_hub::access::Namespaces;
use naru_hub::queue::Queues;
use naru_wire::stomp::session::SessionLimits;
use naru_wire::stomp::{HEART_BEAT, HeartBeat, Limits, SUBPROTOCOLS, Version};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

pub use counters::StompCounters;
pub use listener::StompListener;
pub use names::{
    DEAD_NAMESPACE, DURABLE_NAMESPACE, QUEUE_NAMESPACE, TEMP_NAMESPACE, USER_NAMESPACE,
};

use crate::connections::{Connections, Socket};
use crate::limits::{AdmissionLimits, Permit, Refused, UserRates};
use crate::turns::Turns;

/// What the hub calls clients of this gateway.
const KIND: &str = "stomp";

/// The settings of the gateway.
#[derive(Clone, Debug)]
pub struct StompOptions {
    /// Between two heart-beats, offered and wanted.
    pub heart_beat: Duration,
    /// Clients without credentials are let in as users without a name.
    pub allow_anonymous: bool,
    /// What `host` may be; empty takes any.
    pub hosts: Vec<String>,
    /// The bounds of frames.
    pub frames: Limits,
    /// The bounds of what one connection may hold.
    pub session: SessionLimits,
    /// Bytes of a channel's name.
    pub channel_bytes_max: usize,
    /// What may wait for a slow reader, in bytes.
    pub queue_bytes_max: usize,
    /// From accept to a usable CONNECT, TLS included.
    pub connect_timeout: Duration,
    /// How long a client may take nothing while something waits for it.
    pub write_timeout: Duration,
    /// Frames a second from one client before its reads are delayed; 0 is no limit.
    pub frames_per_second: u32,
    /// Frames that may come at once.
    pub frames_burst: u32,
    /// The same for all connections of a user together; shared with other gateways.
    pub user_rates: UserRates,
    /// Who may connect.
    pub admission: AdmissionLimits,
    /// Over how long clients are told to go when the node stops.
    pub farewell_spread: Duration,
    /// Over how long they are asked to come back.
    pub return_spread: Duration,
    /// What clients are told of this server.
    pub version: String,
}

impl Default for StompOptions {
    fn default() -> StompOptions {
        StompOptions {
            heart_beat: Duration::from_secs(10),
            allow_anonymous: false,
            hosts: Vec::new(),
            frames: Limits::default(),
            session: SessionLimits::default(),
            channel_bytes_max: 255,
            queue_bytes_max: 1024 * 1024,
            connect_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(20),
            frames_per_second: 5_000,
            frames_burst: 20_000,
            user_rates: UserRates::default(),
            admission: AdmissionLimits {
                connections_max: 20_000,
                per_address_max: 20_000,
                attempts_per_minute: 60_000,
            },
            farewell_spread: Duration::from_secs(3),
            return_spread: Duration::from_secs(5),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

/// Whom the gateway asks.
#[derive(Clone)]
pub struct StompPorts {
    /// Channels.
    pub hub: Hub,
    /// Work queues.
    pub queues: Queues,
    /// What is allowed in channels and queues.
    pub namespaces: Arc<ArcSwap<Namespaces>>,
    /// Tokens.
    pub tokens: Arc<ArcSwap<Arc<dyn TokenVerifier>>>,
    /// Names and passwords; without it nobody can log in with them.
    pub logins: Option<Arc<dyn Logins>>,
    /// The application.
    pub backend: Option<Arc<dyn Backend>>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// What all connections share.
pub(crate) struct Shared {
    options: StompOptions,
    session_limits: Arc<SessionLimits>,
    ports: StompPorts,
    counters: Arc<StompCounters>,
    turns: Turns<outlet::StompOutlet>,
    started: Instant,
    heart_beats: [Bytes; 2],
    /// Ids of messages that have no position: unlike those of other nodes and other lives of this one.
    message_ids: (u64, AtomicU64),
}

impl Shared {
    fn heart_beat(&self, is_ws: bool) -> Bytes {
        self.heart_beats[usize::from(is_ws)].clone()
    }

    fn next_message_id(&self) -> String {
        let (life, last) = &self.message_ids;
        format!("{life:x}-{}", last.fetch_add(1, Ordering::Relaxed))
    }

    /// What we say about heart-beats.
    fn own_heart_beat(&self) -> HeartBeat {
        let ms = u32::try_from(self.options.heart_beat.as_millis()).unwrap_or(u32::MAX);
        HeartBeat { can_send_ms: ms, wants_ms: ms }
    }
}

/// The gateway. A [`StompListener`] hands it sockets, and whoever serves HTTP upgraded ones.
#[derive(Clone)]
pub struct StompGateway {
    shared: Arc<Shared>,
    connections: Connections,
}

/// How a connection was opened.
#[derive(Clone, Debug)]
pub struct StompOpening {
    /// From where.
    pub peer: SocketAddr,
    /// `None` on a bare socket.
    pub ws: Option<WsOpening>,
    /// HTTP headers that are passed on to the back end.
    pub headers: Vec<(String, String)>,
}

/// What the WebSocket handshake agreed on.
#[derive(Clone, Copy, Debug)]
pub struct WsOpening {
    /// The version that the subprotocol stands for.
    pub subprotocol: Option<Version>,
    /// Whether and how messages may be compressed.
    pub deflate_window_bits: Option<u8>,
}

impl StompGateway {
    /// A gateway without connections.
    #[must_use]
    pub fn new(options: StompOptions, ports: StompPorts) -> StompGateway {
        let connections =
            Connections::new(KIND, ports.hub.clone(), options.admission, options.farewell_spread);
        let bare = Bytes::from_static(HEART_BEAT);
        let shared = Shared {
            session_limits: Arc::new(options.session.clone()),
            options,
            ports,
            counters: Arc::default(),
            turns: Turns::new(),
            started: Instant::now(),
            heart_beats: [bare.clone(), link::wrap(true, bare)],
            message_ids: (rand::random(), AtomicU64::new(0)),
        };
        StompGateway { shared: Arc::new(shared), connections }
    }

    /// The names of our WebSocket subprotocols, best first.
    #[must_use]
    pub fn subprotocols() -> [&'static str; 3] {
        SUBPROTOCOLS.map(Version::subprotocol)
    }

    /// The gateway's figures.
    #[must_use]
    pub fn counters(&self) -> Arc<StompCounters> {
        Arc::clone(&self.shared.counters)
    }

    /// Asks for a place for a connection.
    pub fn admit(&self, peer: SocketAddr) -> Result<Permit, Refused> {
        let admitted = self.connections.admit(peer);
        if let Err(why) = &admitted {
            self.shared.counters.refused(*why);
        }
        admitted
    }

    /// Serves a connection once `opened` gives its socket, with what was read from it already.
    pub fn serve(
        &self,
        permit: Permit,
        opening: StompOpening,
        opened: impl Future<Output = Option<(Socket, BytesMut)>> + Send + 'static,
    ) {
        let shared = Arc::clone(&self.shared);
        self.connections.serve(permit, opened, |socket, leftover, stop| {
            connection::run(socket, leftover, opening, shared, stop)
        });
    }

    /// Turns the wheel until told to stop; then tells everybody to go, spread over a while, and waits for
    /// their connections to end. The caller bounds that wait.
    pub async fn run(self, stop: CancellationToken) {
        let this = &self;
        let chores = |over: CancellationToken| async move {
            let keeping = CancellationToken::new();
            let work = async {
                tokio::join!(this.shared.turns.run(over.clone()), this.sweep(over));
                // Nobody does anything with the queues any more.
                keeping.cancel();
            };
            tokio::join!(work, this.shared.ports.queues.run(keeping.clone()));
        };
        self.connections.run(stop, chores).await;
    }

    /// Takes work away from those who take too long for it, and publishes what nobody could do.
    async fn sweep(&self, stop: CancellationToken) {
        const EVERY: Duration = Duration::from_secs(1);
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut is_failing = false;
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let dead = self.shared.ports.queues.sweep();
            let buried = self.shared.bury(&dead).await;
            if let (false, Err(error)) = (is_failing, &buried) {
                warn!(target: "naru::stomp", %error, "dead letters stay in their queues for now");
            }
            is_failing = buried.is_err();
        }
    }
}
