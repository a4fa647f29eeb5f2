//! Wires the STOMP gateway: its options from the configuration, its own listener, and the channels that
//! stand behind user queues and reply queues.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use arc_swap::ArcSwap;
use naru_domain::metrics::MetricSource;
use naru_domain::ports::{Backend, Logins, NamespaceOptions, TokenVerifier, WorkQueues};
use naru_domain::{Clock, Durability};
use naru_gateways::limits::{AdmissionLimits, UserRates};
use naru_gateways::stomp::{
    DEAD_NAMESPACE, DURABLE_NAMESPACE, StompGateway, StompListener, StompOptions, StompPorts,
    TEMP_NAMESPACE, USER_NAMESPACE,
};
use naru_gateways::tls::Tls;
use naru_hub::Hub;
use naru_hub::access::{Namespace, Namespaces};
use naru_hub::queue::{QueueLimits, Queues};
use naru_wire::stomp::Limits;
use naru_wire::stomp::session::SessionLimits;
use tokio_util::sync::CancellationToken;

use crate::chat;
use crate::config::Config;

/// What a user missed for so long is still there when it comes back, unless the namespace is configured.
const USER_HISTORY_TTL: Duration = Duration::from_secs(600);
/// Messages that are kept for a user, unless the namespace is configured (guessed).
const USER_HISTORY_SIZE: usize = 100;

/// Dead letters that are kept of a queue, unless their namespace is configured (guessed).
const DEAD_HISTORY_SIZE: usize = 1_000;

/// The gateway and its bound listener, which serve nothing yet.
pub(crate) struct StompService {
    pub(crate) gateway: StompGateway,
    pub(crate) listener: StompListener,
    pub(crate) address: SocketAddr,
    pub(crate) tls: Option<Tls>,
    queue_metrics: Arc<dyn MetricSource>,
}

impl StompService {
    /// Binds the listener and loads the work queues. `None` if STOMP is turned off.
    pub(crate) async fn bind(
        config: &Config,
        tls: Option<Tls>,
        hub: &Hub,
        work: Arc<dyn WorkQueues>,
        user_rates: &UserRates,
        logins: Arc<dyn Logins>,
        backend: Option<Arc<dyn Backend>>,
        clock: &Arc<dyn Clock>,
    ) -> anyhow::Result<Option<StompService>> {
        if !config.stomp.enabled {
            return Ok(None);
        }
        let queues = Queues::open(queue_limits(config), work, clock.now()).await?;
        let queue_metrics = queues.metrics();
        let tokens: Arc<dyn TokenVerifier> = chat::tokens(config)?;
        let ports = StompPorts {
            hub: hub.clone(),
            namespaces: Arc::new(ArcSwap::from_pointee(chat::namespaces(config)?)),
            queues,
            tokens: Arc::new(ArcSwap::from_pointee(tokens)),
            logins: Some(logins),
            backend,
            clock: Arc::clone(clock),
        };
        let gateway = StompGateway::new(options(config, user_rates), ports);
        let listener = StompListener::bind(config.stomp.listen, tls.clone(), gateway.clone())
            .with_context(|| crate::serve::in_use("stomp", config.stomp.listen))?;
        let address = listener.local_addr()?;
        Ok(Some(StompService { gateway, listener, address, tls, queue_metrics }))
    }

    /// The figures of the gateway and of the work queues.
    pub(crate) fn metrics(&self) -> [Arc<dyn MetricSource>; 2] {
        [self.gateway.counters(), Arc::clone(&self.queue_metrics)]
    }

    /// Serves until told to stop, then says goodbye and waits for the connections to end.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let StompService { gateway, listener, .. } = self;
        tokio::join!(listener.run(stop.clone()), gateway.run(stop));
    }
}

fn queue_limits(config: &Config) -> QueueLimits {
    QueueLimits {
        count_max: config.stomp.queue_depth,
        bytes_max: config.stomp.queue_depth_bytes.as_usize(),
        total_bytes_max: config.stomp.queue_total_bytes.as_usize(),
        deliveries_max: config.stomp.queue_deliveries,
        work_time_max: config.stomp.queue_work_time.0,
        ..QueueLimits::default()
    }
}

fn options(config: &Config, user_rates: &UserRates) -> StompOptions {
    let stomp = &config.stomp;
    StompOptions {
        heart_beat: stomp.heartbeat.0,
        allow_anonymous: stomp.allow_anonymous,
        hosts: stomp.hosts.clone(),
        frames: Limits {
            frame_bytes_max: u32::try_from(stomp.max_frame_bytes.0).unwrap_or(u32::MAX),
            ..Limits::default()
        },
        session: SessionLimits {
            subscriptions_max: stomp.subscriptions_max,
            unacked_max: stomp.unacked_max,
            ..SessionLimits::default()
        },
        queue_bytes_max: stomp.queue_max_bytes.as_usize(),
        connect_timeout: stomp.connect_timeout.0,
        write_timeout: stomp.write_timeout.0,
        frames_per_second: stomp.frames_per_second,
        frames_burst: stomp.frames_burst,
        user_rates: user_rates.clone(),
        admission: AdmissionLimits {
            connections_max: stomp.connections_max,
            per_address_max: stomp.connections_per_address,
            attempts_per_minute: stomp.attempts_per_minute,
        },
        ..StompOptions::default()
    }
}

/// What the channels behind user queues and reply queues keep.
pub(crate) fn add_kept(namespaces: &mut HashMap<String, NamespaceOptions>) {
    let memory = |history_size, history_ttl| NamespaceOptions {
        history_size,
        history_ttl,
        durability: Durability::Memory,
    };
    let disk = |history_size| NamespaceOptions {
        history_size,
        history_ttl: Duration::ZERO,
        durability: Durability::Disk,
    };
    let user = memory(USER_HISTORY_SIZE, USER_HISTORY_TTL);
    namespaces.entry(USER_NAMESPACE.to_owned()).or_insert(user);
    // What a queue kept must not be lost by being given up, whatever else is said of that namespace.
    let dead = namespaces.entry(DEAD_NAMESPACE.to_owned()).or_insert(disk(DEAD_HISTORY_SIZE));
    if dead.history_size == 0 {
        dead.history_size = DEAD_HISTORY_SIZE;
    }
    namespaces.insert(DURABLE_NAMESPACE.to_owned(), disk(1));
    // Whoever waits for a reply is there, or will never come.
    namespaces.insert(TEMP_NAMESPACE.to_owned(), memory(0, Duration::ZERO));
}

/// Who may do what in them: each user reads its own, by any protocol; nobody else does.
pub(crate) fn add_rules(namespaces: &mut Namespaces) {
    let user = Namespace {
        allow_user_limited_channels: true,
        force_recovery: true,
        force_positioning: true,
        has_history: true,
        ..Namespace::default()
    };
    namespaces.named.entry(USER_NAMESPACE.to_owned()).or_insert(user);
    if let Some(dead) = namespaces.named.get_mut(DEAD_NAMESPACE) {
        dead.has_history = true;
    }
    for own in [TEMP_NAMESPACE, DURABLE_NAMESPACE] {
        namespaces.named.remove(own);
    }
}
