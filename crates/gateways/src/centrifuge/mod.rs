//! The Centrifuge gateway: stock SDKs over WebSocket, in JSON and in Protobuf. What is on the wire stands
//! in `docs/protocols/centrifuge.md`; rights and channels are the hub's.

mod commands;
mod connect;
mod connection;
mod counters;
mod emulation;
mod outlet;
mod subscribe;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::{Bytes, BytesMut};
use naru_domain::ports::{Backend, TokenVerifier};
use naru_domain::{Clock, CloseReason};
use naru_hub::Hub;
use naru_hub::access::Namespaces;
use naru_wire::centrifuge::{DisconnectCode, Protocol};
use tokio_util::sync::CancellationToken;

pub use counters::ClientCounters;
pub use emulation::{EmulatedOpening, EventStream, Transport, Undelivered, carries_token};

use crate::connections::{Connections, Socket};
use crate::limits::{AdmissionLimits, Permit, Refused, UserRates};
use crate::turns::Turns;
use crate::ws::WsOptions;

/// The namespace of the channels that belong to one user each, unless another one is chosen. Its rules are
/// [`naru_hub::access::Namespace::personal`].
pub const PERSONAL_NAMESPACE: &str = "personal";

/// Where this gateway's kinds of encodings begin; other gateways have others.
pub(crate) const KIND_BASE: u8 = 0;

/// The settings of the gateway. The names follow Centrifugo where it has them.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// Time between pings to a client.
    pub ping_interval: Duration,
    /// How long it may take to answer; shorter than the interval.
    pub pong_timeout: Duration,
    /// Clients without a token are let in as users without a name.
    pub allow_anonymous: bool,
    /// The largest message of a client, in bytes.
    pub message_bytes_max: u32,
    /// Commands in one message.
    pub commands_per_frame_max: usize,
    /// What may wait for a slow reader, in bytes.
    pub queue_bytes_max: usize,
    /// How long a connection may say nothing of who it is.
    pub stale_timeout: Duration,
    /// How long a client may take nothing while something waits for it.
    pub write_timeout: Duration,
    /// How long a client whose credentials ran out may take to bring new ones.
    pub expired_close_delay: Duration,
    /// Publications of one answer.
    pub history_max: usize,
    /// Bytes of a channel's name.
    pub channel_bytes_max: usize,
    /// Every user is subscribed to a channel of its own, `NAMESPACE:#user`.
    pub user_channels: bool,
    /// The namespace of those channels; `None` for `#user` alone.
    pub user_channel_namespace: Option<String>,
    /// Commands a second from one client before its reads are delayed; 0 is no limit.
    pub commands_per_second: u32,
    /// Commands that may come at once.
    pub commands_burst: u32,
    /// The same for all connections of a user together; shared with other gateways.
    pub user_rates: UserRates,
    /// Who may connect.
    pub admission: AdmissionLimits,
    /// Connections without a WebSocket at the same time.
    pub emulated_max: usize,
    /// What this node is called to those, which have to find it again; short and unlike others.
    pub node: String,
    /// Over how long clients are told to go when the node stops.
    pub farewell_spread: Duration,
    /// What clients are told of this server.
    pub version: String,
}

impl Default for ClientOptions {
    fn default() -> ClientOptions {
        ClientOptions {
            ping_interval: Duration::from_secs(25),
            pong_timeout: Duration::from_secs(8),
            allow_anonymous: false,
            message_bytes_max: 64 * 1024,
            commands_per_frame_max: 256,
            queue_bytes_max: 1024 * 1024,
            stale_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(20),
            expired_close_delay: Duration::from_secs(25),
            history_max: 300,
            channel_bytes_max: 255,
            user_channels: true,
            user_channel_namespace: Some(PERSONAL_NAMESPACE.to_owned()),
            commands_per_second: 1_000,
            commands_burst: 5_000,
            user_rates: UserRates::default(),
            admission: AdmissionLimits {
                connections_max: 20_000,
                per_address_max: 20_000,
                attempts_per_minute: 60_000,
            },
            emulated_max: 1_000,
            node: String::new(),
            farewell_spread: Duration::from_secs(3),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

/// What all connections share.
pub(crate) struct Shared {
    options: ClientOptions,
    hub: Hub,
    namespaces: Arc<ArcSwap<Namespaces>>,
    tokens: Arc<ArcSwap<Arc<dyn TokenVerifier>>>,
    backend: Option<Arc<dyn Backend>>,
    clock: Arc<dyn Clock>,
    counters: Arc<ClientCounters>,
    turns: Turns<outlet::ClientOutlet>,
    sessions: emulation::Sessions,
    json_ping: Bytes,
    protobuf_ping: Bytes,
}

impl Shared {
    fn ping_frame(&self, protocol: Protocol) -> Bytes {
        match protocol {
            Protocol::Json => self.json_ping.clone(),
            Protocol::Protobuf => self.protobuf_ping.clone(),
        }
    }
}

/// The gateway. It has no listener of its own: whoever serves HTTP hands it upgraded connections.
#[derive(Clone)]
pub struct ClientGateway {
    shared: Arc<Shared>,
    connections: Connections,
}

/// How a connection was opened.
#[derive(Clone, Debug)]
pub struct Opening {
    /// From where.
    pub peer: SocketAddr,
    /// In which encoding it speaks.
    pub protocol: Protocol,
    /// What the WebSocket handshake agreed on.
    pub deflate_window_bits: Option<u8>,
    /// HTTP headers that are passed on to the back end.
    pub headers: Vec<(String, String)>,
}

impl ClientGateway {
    /// A gateway without connections.
    #[must_use]
    pub fn new(
        options: ClientOptions,
        hub: Hub,
        namespaces: Arc<ArcSwap<Namespaces>>,
        tokens: Arc<ArcSwap<Arc<dyn TokenVerifier>>>,
        backend: Option<Arc<dyn Backend>>,
        clock: Arc<dyn Clock>,
    ) -> ClientGateway {
        let ping = |protocol| {
            let mut ping = BytesMut::new();
            naru_wire::centrifuge::append_ping(protocol, &mut ping);
            outlet::frame(protocol, &ping)
        };
        let connections =
            Connections::new(KIND, hub.clone(), options.admission, options.farewell_spread);
        let shared = Shared {
            options,
            hub,
            namespaces,
            tokens,
            backend,
            clock,
            counters: Arc::default(),
            turns: Turns::new(),
            sessions: emulation::Sessions::default(),
            json_ping: ping(Protocol::Json),
            protobuf_ping: ping(Protocol::Protobuf),
        };
        ClientGateway { shared: Arc::new(shared), connections }
    }

    /// The options of namespaces that it goes by.
    #[must_use]
    pub fn namespaces(&self) -> Arc<ArcSwap<Namespaces>> {
        Arc::clone(&self.shared.namespaces)
    }

    /// What this node is called.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.shared.options.node
    }

    /// The largest message of a client, in bytes.
    #[must_use]
    pub fn message_bytes_max(&self) -> usize {
        self.shared.options.message_bytes_max as usize
    }

    /// The gateway's figures.
    #[must_use]
    pub fn counters(&self) -> Arc<ClientCounters> {
        Arc::clone(&self.shared.counters)
    }

    /// Asks for a place for a connection that is about to be upgraded.
    pub fn admit(&self, peer: SocketAddr) -> Result<Permit, Refused> {
        let admitted = self.connections.admit(peer);
        if admitted.is_err() {
            self.shared.counters.refused.increment();
        }
        admitted
    }

    /// Serves a connection once `upgraded` gives its socket, with what was read from it already.
    pub fn serve(
        &self,
        permit: Permit,
        opening: Opening,
        upgraded: impl Future<Output = Option<(Socket, BytesMut)>> + Send + 'static,
    ) {
        let shared = Arc::clone(&self.shared);
        self.connections.serve(permit, upgraded, |socket, leftover, stop| {
            connection::run(socket, leftover, opening, None, shared, stop)
        });
    }

    /// Turns the wheel until told to stop; then tells everybody to go, spread over a while, and waits for
    /// their connections to end. The caller bounds that wait.
    pub async fn run(self, stop: CancellationToken) {
        self.connections.run(stop, |over| self.shared.turns.run(over)).await;
    }

    fn ws_options(shared: &Shared, opening: &Opening) -> WsOptions {
        WsOptions {
            message_bytes_max: shared.options.message_bytes_max,
            deflate_window_bits: opening.deflate_window_bits,
        }
    }
}

/// What the hub calls clients of this gateway.
pub(crate) const KIND: &str = "centrifuge";

/// The code that tells a client why its connection ends.
pub(crate) fn code_of(reason: CloseReason) -> DisconnectCode {
    match reason {
        CloseReason::Shutdown => DisconnectCode::Shutdown,
        CloseReason::SlowReader => DisconnectCode::Slow,
        CloseReason::Idle => DisconnectCode::NoPong,
        CloseReason::HandshakeTimeout => DisconnectCode::Stale,
        CloseReason::RateLimited => DisconnectCode::TooManyRequests,
        CloseReason::Malformed | CloseReason::FrameTooLarge => DisconnectCode::BadRequest,
        CloseReason::Kicked | CloseReason::Replaced => DisconnectCode::ForceDisconnect,
        CloseReason::TooManyConnections => DisconnectCode::ConnectionLimit,
        CloseReason::Refused => DisconnectCode::PermissionDenied,
        CloseReason::Expired => DisconnectCode::ConnectionExpired,
        CloseReason::OutOfSync => DisconnectCode::InsufficientState,
        _ => DisconnectCode::InternalError,
    }
}

/// What we call an end with that code.
pub(crate) fn close_reason_of(code: DisconnectCode) -> CloseReason {
    match code {
        DisconnectCode::Shutdown => CloseReason::Shutdown,
        DisconnectCode::Slow => CloseReason::SlowReader,
        DisconnectCode::NoPong => CloseReason::Idle,
        DisconnectCode::Stale => CloseReason::HandshakeTimeout,
        DisconnectCode::TooManyRequests => CloseReason::RateLimited,
        DisconnectCode::BadRequest | DisconnectCode::InappropriateProtocol => {
            CloseReason::Malformed
        }
        DisconnectCode::ForceDisconnect | DisconnectCode::ForceReconnect => CloseReason::Kicked,
        DisconnectCode::ConnectionLimit | DisconnectCode::ChannelLimit => {
            CloseReason::TooManyConnections
        }
        DisconnectCode::InvalidToken
        | DisconnectCode::PermissionDenied
        | DisconnectCode::NotAvailable => CloseReason::Refused,
        DisconnectCode::ConnectionExpired | DisconnectCode::SubscriptionExpired => {
            CloseReason::Expired
        }
        DisconnectCode::InsufficientState | DisconnectCode::StateInvalidated => {
            CloseReason::OutOfSync
        }
        DisconnectCode::WriteError | DisconnectCode::ConnectionClosed => {
            CloseReason::ConnectionLost
        }
        _ => CloseReason::Internal,
    }
}
