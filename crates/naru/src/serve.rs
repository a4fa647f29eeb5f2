//! `naru serve`: puts the pieces together, starts them in order, waits for a signal, and takes them down
//! in the opposite order without losing anything.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use arc_swap::ArcSwap;
use naru_admin::{
    AccountLogins, AdminLimits, AdminOptions, AdminServer, Bootstrap, BotsControl, NodeDescription,
    NodeHealth, Services,
};
use naru_bots::hook::HookBounds;
use naru_bots::{Bots, BotsOptions, FirstContact, Retention, SchedulerLimits};
use naru_domain::clock::SystemClock;
use naru_domain::metrics::MetricSource;
use naru_domain::ports::{History, NamespaceOptions, PurgeKind};
use naru_domain::{Clock, Durability};
use naru_gateways::bridge::{BridgeKeys, BridgeOptions, BridgeServer};
use naru_gateways::limits::{AdmissionLimits, UserRates};
use naru_gateways::tls::{Tls, TlsFiles};
use naru_hub::{Hub, HubOptions, LocalBus, LocalBusOptions, MailboxLimits};
use naru_outbound::{AddressGuard, CallLimits};
use naru_store_sql::SqlStore;
use naru_supervisor::run::Wards;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use crate::chat::ChatDoors;
use crate::config::{self, ApprovalPolicy, Config, Namespace, Processing, Sources};
use crate::control::PolicyControl;
use crate::logs::LogPolicy;
use crate::platform::{self, Signals};
use crate::signals;
use crate::stomp::{self, StompService};
use crate::wards::{self, WardService};
use crate::{chat, keys, rooms, serve_wards, service};

/// Unless configured: what Kubernetes grants by default, less some seconds to spare.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);
/// Written into the data folder while the server runs: who it is and where it listens.
const RUN_FILE: &str = "run.json";

/// Serves until a signal says stop: everything, or wards only.
pub(crate) fn run(
    config: Config,
    sources: Sources,
    only: Option<Only>,
) -> anyhow::Result<ExitCode> {
    let policy = LogPolicy::new(&config.log.level, &config.log.categories);
    policy.install(config.log.format).map_err(anyhow::Error::msg)?;
    std::panic::set_hook(Box::new(|panic| {
        // The message may quote data, so only the place is told.
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        error!(target: "naru::serve", place, "a task panicked");
    }));
    if only == Some(Only::Wards) {
        return serve_wards::run(config, sources, policy);
    }
    raise_descriptor_limit(&config);
    service::runtime()?.block_on(async {
        let server = Node::start(config, policy, sources).await?;
        server.serve().await
    })
}

/// What a server may be limited to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Only {
    /// Game servers: no phones, no chat, one thread, little memory.
    Wards,
}

/// Where the node listens.
struct Addresses {
    bridge: SocketAddr,
    http: SocketAddr,
    stomp: Option<SocketAddr>,
}

impl Addresses {
    fn all(&self) -> impl Iterator<Item = (&'static str, SocketAddr)> {
        let stomp = self.stomp.map(|address| ("stomp", address));
        [("bridge", self.bridge), ("http", self.http)].into_iter().chain(stomp)
    }
}

/// A node that has started everything and serves.
struct Node {
    config: Config,
    sources: Sources,
    policy: LogPolicy,
    store: Arc<SqlStore>,
    bots: Bots,
    keys: Arc<ArcSwap<BridgeKeys>>,
    certificates: Vec<Tls>,
    /// The wards, if any are looked after.
    wards: Option<Wards>,
    health: Arc<NodeHealth>,
    run_file: PathBuf,
    tasks: TaskTracker,
    /// The bridge alone: it ends before the work behind it does.
    bridge_tasks: TaskTracker,
    stop_bridge: CancellationToken,
    stop_backend: CancellationToken,
    stop_bots: CancellationToken,
    stop_wards: CancellationToken,
    stop_hub: CancellationToken,
    stop_admin: CancellationToken,
}

impl Node {
    async fn start(config: Config, policy: LogPolicy, sources: Sources) -> anyhow::Result<Node> {
        make_private_folder(&config.data_dir)?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let store = Arc::new(SqlStore::open(service::store_options(&config)?).await?);
        let keys = Arc::new(ArcSwap::from_pointee(keys::load(&config)?));

        let (bus, events) = local_bus(&config, &store, &clock);
        let bus_metrics = bus.metrics();
        let hub = Hub::new(
            hub_options(&config),
            Arc::new(bus),
            events,
            Some(store.journal()),
            Arc::clone(&clock),
        );
        // Everything is bound before anything is served: a port in use is found in time.
        let http_tls = tls(&config.http.tls_certificate, &config.http.tls_key)?;
        let admin = AdminServer::bind(AdminOptions {
            tls: http_tls.as_ref().map(Tls::shared),
            api_keys: config.http.api_keys.iter().map(|key| key.reveal().to_owned()).collect(),
            ..AdminOptions::new(config.http.listen)
        })
        .await
        .with_context(|| in_use("http", config.http.listen))?;
        let http_address = admin.local_addr();

        let options = bots_options(&config, http_address)?;
        let ports = naru_bots::Ports::of(&store);
        let bots = Bots::start(options, ports, hub.clone(), Arc::clone(&clock)).await?;

        let bridge_tls = tls(&config.bridge.tls_certificate, &config.bridge.tls_key)?;
        let bridge = BridgeServer::bind(
            config.bridge.listen,
            bridge_options(&config),
            Arc::clone(&keys),
            bridge_tls.clone(),
            hub.clone(),
            bots.desk(),
            Arc::clone(&clock),
        )
        .with_context(|| in_use("bridge", config.bridge.listen))?;
        let bridge_address = bridge.local_addr()?;

        let stop_bridge = CancellationToken::new();
        let limits = &config.limits;
        let user_rates =
            UserRates::new(limits.user_commands_per_second, limits.user_commands_burst);
        let application = chat::Application::new(&config, drain_timeout(&config), &clock)?;
        let backend = application.as_ref().map(chat::Application::port);
        let client = chat::client_gateway(&config, &hub, &user_rates, backend.clone(), &clock)?;
        let admin_ports = naru_admin::Ports::of(Arc::clone(&store));
        let logins = AccountLogins::new(Arc::clone(&admin_ports.accounts), &AdminLimits::default())
            .with_operators_rights(rooms::operators_rights());
        let audit = Arc::clone(&admin_ports.audit);
        rooms::hand_over(&hub, bots.room_owner(), audit, Arc::clone(&clock));
        let stomp_tls = tls(&config.stomp.tls_certificate, &config.stomp.tls_key)?;
        let work = Arc::clone(&store) as _;
        let logins = Arc::new(logins);
        let asked = backend.clone();
        let stomp =
            StompService::bind(&config, stomp_tls, &hub, work, &user_rates, logins, asked, &clock)
                .await?;
        let addresses = Addresses {
            bridge: bridge_address,
            http: http_address,
            stomp: stomp.as_ref().map(|stomp| stomp.address),
        };
        let bootstrap =
            naru_admin::bootstrap(&admin_ports, &config.data_dir, clock.as_ref()).await?;
        put_users(&config, &admin_ports, clock.as_ref()).await?;
        let looked_after = WardService::new(&config, &store, &clock, false)?;
        let health = Arc::new(NodeHealth::new(Some(Arc::clone(&store) as _)));
        let mut metrics: Vec<Arc<dyn MetricSource>> =
            vec![bridge.counters(), hub.metrics(), bus_metrics, bots.metrics(), store.metrics()];
        metrics.push(Arc::new(user_rates));
        metrics.extend(client.as_ref().map(|client| client.counters() as _));
        metrics.extend(stomp.iter().flat_map(StompService::metrics));
        metrics.extend(application.as_ref().map(chat::Application::metrics));
        metrics.extend(looked_after.iter().flat_map(WardService::metrics));
        let services = Services {
            ports: admin_ports,
            control: Some(Arc::new(BotsControl::new(bots.clone(), hub.clone()))),
            logs: Arc::new(PolicyControl::new(policy.clone(), Arc::clone(&clock))),
            health: Arc::clone(&health) as _,
            metrics,
            node: describe(&config, &addresses, clock.as_ref()),
            clock: Arc::clone(&clock),
            chat: client
                .as_ref()
                .map(|client| chat::services(&config, &hub, client, &stop_bridge, backend.clone())),
            wards: looked_after.as_ref().map(|service| service.services(&store)),
            doors: Some(Arc::new(ChatDoors::new(
                &config,
                client.clone(),
                stomp.as_ref().map(|stomp| stomp.gateway.clone()),
                backend,
            ))),
        };

        let node = Node {
            certificates: [
                bridge_tls,
                http_tls,
                stomp.as_ref().and_then(|stomp| stomp.tls.clone()),
            ]
            .into_iter()
            .flatten()
            .collect(),
            wards: looked_after.as_ref().map(|service| service.wards.clone()),
            run_file: config.data_dir.join(RUN_FILE),
            config,
            sources,
            policy,
            store,
            bots,
            keys,
            health,
            tasks: TaskTracker::new(),
            bridge_tasks: TaskTracker::new(),
            stop_bridge,
            stop_backend: CancellationToken::new(),
            stop_bots: CancellationToken::new(),
            stop_wards: CancellationToken::new(),
            stop_hub: CancellationToken::new(),
            stop_admin: CancellationToken::new(),
        };
        node.spawn("hub", &node.stop_hub, {
            let (hub, stop) = (hub, node.stop_hub.clone());
            async move { hub.run(stop).await }
        });
        node.spawn("bots", &node.stop_bots, {
            let (bots, stop) = (node.bots.clone(), node.stop_bots.clone());
            async move { bots.run(stop).await }
        });
        if let Some(application) = application {
            let stop = node.stop_backend.clone();
            node.spawn("backend", &node.stop_backend, application.farewells.run(stop));
        }
        let stop = node.stop_bridge.clone();
        node.spawn("bridge", &node.stop_bridge, bridge.run(stop));
        if let Some(client) = client {
            let stop = node.stop_bridge.clone();
            node.spawn("client", &node.stop_bridge, client.run(stop));
        }
        if let Some(stomp) = stomp {
            let stop = node.stop_bridge.clone();
            node.spawn("stomp", &node.stop_bridge, stomp.run(stop));
        }
        if let Some(service) = looked_after {
            let stop = node.stop_wards.clone();
            node.spawn("wards", &node.stop_wards, service.run_beside(stop));
        }
        let stop = node.stop_admin.clone();
        node.spawn("admin", &node.stop_admin, admin.run(services, stop));
        for certificate in &node.certificates {
            node.tasks.spawn(certificate.clone().watch(node.stop_admin.clone()));
        }
        node.announce(&addresses, &bootstrap)?;
        Ok(node)
    }

    /// A service that ends although nobody told it to is a defect: it is logged, and the probes say so.
    fn spawn(
        &self,
        name: &'static str,
        stop: &CancellationToken,
        service: impl Future<Output = ()> + Send + 'static,
    ) {
        let (stop, health) = (stop.clone(), Arc::clone(&self.health));
        let is_gateway = matches!(name, "bridge" | "client" | "stomp");
        let tracker = if is_gateway { &self.bridge_tasks } else { &self.tasks };
        let running = tracker.spawn(service);
        self.tasks.spawn(async move {
            let ended = running.await;
            if ended.is_err() || !stop.is_cancelled() {
                error!(target: "naru::serve", service = name, "a service ended by itself");
                health.broken();
            }
        });
    }

    /// Tells people, scripts and systemd that the node is up.
    fn announce(&self, addresses: &Addresses, bootstrap: &Bootstrap) -> anyhow::Result<()> {
        let addresses_of: Vec<_> = addresses.all().collect();
        write_run_file(&self.config, &addresses_of)?;
        self.health.started();
        banner(&self.config, addresses, bootstrap);
        let Addresses { bridge, http, .. } = addresses;
        info!(target: "naru::serve", %bridge, %http, "serving");
        signals::tell_ready();
        Ok(())
    }

    async fn serve(self) -> anyhow::Result<ExitCode> {
        let mut signals = Signals::new()?;
        let health = Arc::clone(&self.health);
        signals::until_stop(&mut signals, &health, || self.reload()).await;
        let limit = drain_timeout(&self.config);
        let run_file = self.run_file.clone();
        let code = signals::drained(&mut signals, limit, self.drain(limit)).await;
        drop(std::fs::remove_file(run_file));
        Ok(code)
    }

    /// Readiness first; then the phones hang up; then what they said is worked off and kept, with replies
    /// that the next start delivers; the store last.
    async fn drain(self, limit: Duration) -> anyhow::Result<()> {
        self.health.draining();
        self.stop_bridge.cancel();
        self.bridge_tasks.close();
        if timeout(limit / 3, self.bridge_tasks.wait()).await.is_err() {
            warn!(target: "naru::serve", "some phones did not hang up in time");
        }
        // Who left is told to the application while the bots finish.
        self.stop_backend.cancel();
        self.bots.drain(limit / 3).await;
        self.stop_bots.cancel();
        self.stop_wards.cancel();
        self.stop_hub.cancel();
        self.stop_admin.cancel();
        self.tasks.close();
        if timeout(limit / 6, self.tasks.wait()).await.is_err() {
            warn!(target: "naru::serve", "some tasks did not end in time");
        }
        self.store.close().await?;
        Ok(())
    }

    /// SIGHUP: keys, certificates and log levels, from the same sources as at the start. With a mistake
    /// in them everything stays as it is.
    fn reload(&self) {
        let Some(fresh) = reread(&self.sources) else { return };
        match keys::load(&fresh) {
            Ok(keys) => self.keys.store(Arc::new(keys)),
            Err(error) => warn!(target: "naru::serve", %error, "keys not reloaded"),
        }
        for certificate in &self.certificates {
            if let Err(error) = certificate.reload() {
                warn!(target: "naru::serve", %error, "certificate not reloaded, the old one stays");
            }
        }
        reload_levels(&fresh, &self.policy);
        if let Some(wards) = &self.wards {
            wards::reload(&fresh, wards, &self.tasks);
        }
        info!(target: "naru::serve", "keys, certificates and log levels reloaded");
    }
}

/// Writes who runs and where it listens, for scripts; says where it stands.
pub(crate) fn write_run_file(
    config: &Config,
    addresses: &[(&'static str, SocketAddr)],
) -> anyhow::Result<PathBuf> {
    let mut run = serde_json::json!({
        "pid": std::process::id(),
        "version": env!("CARGO_PKG_VERSION"),
    });
    for (name, address) in addresses {
        run[*name] = address.to_string().into();
    }
    let file = config.data_dir.join(RUN_FILE);
    // Written beside and renamed, so that nobody reads half of it.
    let temporary = file.with_extension("tmp");
    std::fs::write(&temporary, run.to_string())
        .and_then(|()| std::fs::rename(&temporary, &file))
        .with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}

/// The configuration as it is now, or nothing after its mistakes were logged: then everything stays as it is.
pub(crate) fn reread(sources: &Sources) -> Option<Config> {
    match config::load(sources) {
        Ok(fresh) => Some(fresh),
        Err(mistakes) => {
            for mistake in mistakes {
                warn!(target: "naru::serve", %mistake, "configuration not reloaded");
            }
            None
        }
    }
}

/// Takes the log levels of this configuration.
pub(crate) fn reload_levels(fresh: &Config, policy: &LogPolicy) {
    let levels = fresh.log.categories.iter().map(|(name, level)| (name.as_str(), level));
    for (category, level) in levels.chain([("default", &fresh.log.level)]) {
        if let Err(error) = policy.set(category, level) {
            warn!(target: "naru::serve", %error, "log level not reloaded");
        }
    }
}

pub(crate) fn drain_timeout(config: &Config) -> Duration {
    config.node.drain_timeout.map_or(DRAIN_TIMEOUT, |span| span.0)
}

pub(crate) fn make_private_folder(path: &Path) -> anyhow::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    platform::for_owner_and_group(builder.recursive(true)).create(path).with_context(|| {
        format!("cannot make the data folder {} (set another with --data-dir)", path.display())
    })
}

/// Each connection takes a descriptor; the files, the listeners and the API's connections the rest.
fn raise_descriptor_limit(config: &Config) {
    const REST: u64 = 1_024;
    let connections = config.bridge.connections_max
        + config.client.connections_max
        + config.stomp.connections_max;
    let need = connections as u64 + REST;
    match rlimit::increase_nofile_limit(need) {
        Ok(limit) if limit < need => {
            warn!(
                target: "naru::serve", limit, need,
                "the limit of open files is too low for the connections allowed; raise it (LimitNOFILE)",
            );
        }
        Ok(_) => {}
        Err(error) => warn!(target: "naru::serve", %error, "the limit of open files is unknown"),
    }
}

pub(crate) fn in_use(name: &str, address: SocketAddr) -> String {
    format!(
        "cannot listen on {address} ({name}.listen): is another program, or another naru, using it?"
    )
}

pub(crate) fn tls(
    certificate: &Option<PathBuf>,
    key: &Option<PathBuf>,
) -> anyhow::Result<Option<Tls>> {
    match (certificate, key) {
        (Some(certificate), Some(key)) => {
            let files = TlsFiles { certificate: certificate.clone(), key: key.clone() };
            Ok(Some(Tls::load(files)?))
        }
        _ => Ok(None),
    }
}

fn local_bus(
    config: &Config,
    store: &Arc<SqlStore>,
    clock: &Arc<dyn Clock>,
) -> (LocalBus, tokio::sync::mpsc::Receiver<naru_domain::ports::BusEvent>) {
    let mut options = LocalBusOptions::default();
    options.namespaces.insert(String::new(), namespace(&config.channels.default));
    for (name, settings) in &config.channels.namespaces {
        options.namespaces.insert(name.clone(), namespace(settings));
    }
    stomp::add_kept(&mut options.namespaces);
    rooms::add_kept(&mut options.namespaces);
    chat::add_kept(config, &mut options.namespaces);
    // Each user may have a channel of its own, and each connection may be another user's.
    options.channels_max += config.client.connections_max;
    // Whatever fits into a frame fits into a channel.
    options.data_bytes_max = options.data_bytes_max.max(config.stomp.max_frame_bytes.as_usize());
    let history: Arc<dyn History> = Arc::clone(store) as _;
    LocalBus::new(options, Some(history), Arc::clone(clock))
}

fn namespace(settings: &Namespace) -> NamespaceOptions {
    NamespaceOptions {
        history_size: settings.history_size,
        history_ttl: settings.history_ttl.0,
        durability: settings.durability.into(),
    }
}

fn hub_options(config: &Config) -> HubOptions {
    let mailbox = MailboxLimits {
        count_max: config.limits.mailbox_messages,
        bytes_max: config.limits.mailbox_bytes.as_usize(),
    };
    HubOptions {
        mailbox,
        subscriptions_per_client_max: config.client.channels_max,
        connections_per_user_max: config.client.user_connections_max,
        recovery_publications_max: config.client.history_max,
        ..HubOptions::default()
    }
}

fn bridge_options(config: &Config) -> BridgeOptions {
    let bridge = &config.bridge;
    BridgeOptions {
        ping_interval: bridge.ping_interval.0,
        handshake_timeout: bridge.handshake_timeout.0,
        idle_timeout: bridge.idle_timeout.0,
        write_timeout: bridge.write_timeout.0,
        frame_bytes_max: bridge.max_frame_bytes.as_usize(),
        text_units_max: bridge.max_text_units,
        frames_per_second: bridge.frames_per_second,
        frames_burst: bridge.frames_burst,
        pad_to: bridge.pad_frames_to,
        admission: AdmissionLimits {
            connections_max: bridge.connections_max,
            per_address_max: bridge.connections_per_address,
            attempts_per_minute: bridge.attempts_per_minute,
        },
        ..BridgeOptions::default()
    }
}

fn bots_options(config: &Config, http: SocketAddr) -> anyhow::Result<BotsOptions> {
    let first_contact = |policy: ApprovalPolicy| match policy {
        ApprovalPolicy::Manual => FirstContact::Manual,
        ApprovalPolicy::Auto => FirstContact::Auto,
    };
    let bots = &config.bots;
    Ok(BotsOptions {
        processing: match bots.processing {
            Processing::Queued => naru_bots::Processing::Queued,
            Processing::Direct => naru_bots::Processing::Direct,
        },
        durability: Durability::from(bots.durability),
        workers: bots.workers,
        limits: SchedulerLimits {
            queue: bots.queue,
            in_work: bots.workers.saturating_mul(10),
            per_bot: bots.per_bot,
            per_room: bots.per_room,
            ..SchedulerLimits::default()
        },
        timeout: bots.timeout.0,
        check_every: bots.stuck_check.0,
        approve_devices: first_contact(config.bridge.approve_devices),
        approve_rooms: first_contact(config.bridge.approve_rooms),
        direct_log: bots.chat_log,
        memory_bytes_max: memory_limit(config),
        monitor_every: bots.system_monitor.0,
        retention: retention(config),
        node: node_name(config),
        data_dir: config.data_dir.clone(),
        hook_guard: AddressGuard::allowing(&config.hooks.allow).context("hooks.allow")?,
        hook_bounds: HookBounds {
            call: CallLimits {
                connect_timeout: config.hooks.connect_timeout.0,
                total_timeout: config.hooks.timeout.0,
                body_bytes_max: config.hooks.max_response_bytes.0.try_into().unwrap_or(usize::MAX),
                ..CallLimits::default()
            },
            attempts_max: config.hooks.attempts,
            in_flight_max: config.hooks.concurrency,
        },
        reply_url: reply_url(config, http),
        schedule_catch_up: bots.schedule_catch_up.0,
        ..BotsOptions::default()
    })
}

/// Where webhook bots send later replies, if it is known how they reach this server.
fn reply_url(config: &Config, http: SocketAddr) -> Option<String> {
    let base = match config.http.public_url.trim_end_matches('/') {
        "" if http.ip().is_loopback() => format!("{}://{http}", scheme(config)),
        "" => return None,
        url => url.to_owned(),
    };
    Some(format!("{base}/api/messages/{{id}}/replies"))
}

pub(crate) fn scheme(config: &Config) -> &'static str {
    if config.http.tls_certificate.is_some() { "https" } else { "http" }
}

fn retention(config: &Config) -> Retention {
    let days = PurgeKind::ALL.map(|kind| {
        let keep = match kind {
            PurgeKind::Messages => config.retention.messages,
            PurgeKind::Replies => config.retention.replies,
            PurgeKind::DeadLetters => config.retention.dead_letters,
            PurgeKind::Pings => config.retention.pings,
            PurgeKind::SystemSamples => config.retention.system_samples,
            PurgeKind::ScheduleRuns => config.retention.schedule_runs,
            PurgeKind::SendKeys => config.retention.send_keys,
        };
        (kind, u32::try_from(keep.0.as_secs() / 86_400).unwrap_or(u32::MAX))
    });
    Retention { days: days.to_vec(), ..Retention::default() }
}

/// What the process should stay below: as configured, or the limit of the cgroup, or the machine.
fn memory_limit(config: &Config) -> u64 {
    if config.limits.memory.0 > 0 {
        return config.limits.memory.0;
    }
    let Ok(mut system) = sysinfo::System::new() else { return 0 };
    system.refresh_memory();
    match system.cgroup_limits() {
        Some(limits) if limits.total_memory > 0 => limits.total_memory.min(system.total_memory()),
        _ => system.total_memory(),
    }
}

pub(crate) fn node_name(config: &Config) -> String {
    if !config.node.name.is_empty() {
        return config.node.name.clone();
    }
    sysinfo::System::host_name().unwrap_or_else(|_unknown| "naru".to_owned())
}

pub(crate) async fn put_users(
    config: &Config,
    ports: &naru_admin::Ports,
    clock: &dyn Clock,
) -> anyhow::Result<()> {
    for user in &config.users {
        let password = match &user.password_file {
            Some(path) => config::read_secret_file(path)
                .map_err(|reason| anyhow::anyhow!("users: `{}`: {reason}", user.name))?,
            None => user.password.clone(),
        };
        if password.is_empty() {
            bail!("users: `{}`: the password is empty", user.name);
        }
        let role = user.role.into();
        naru_admin::put_account(ports, &user.name, password.reveal(), role, clock).await?;
    }
    Ok(())
}

fn describe(config: &Config, addresses: &Addresses, clock: &dyn Clock) -> NodeDescription {
    let processing = match config.bots.processing {
        Processing::Queued => "queued",
        Processing::Direct => "direct",
    };
    let durability = Durability::from(config.bots.durability).label();
    NodeDescription {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        node: node_name(config),
        started_at: clock.now(),
        listeners: addresses
            .all()
            .map(|(name, address)| (name.to_owned(), address.to_string()))
            .collect(),
        modes: vec![
            ("processing".to_owned(), processing.to_owned()),
            ("durability".to_owned(), durability.to_owned()),
        ],
    }
}

/// What a person sees who just started it: where everything is, and what to do next.
#[expect(clippy::print_stdout, reason = "the one text that `naru serve` writes for people")]
fn banner(config: &Config, addresses: &Addresses, bootstrap: &Bootstrap) {
    let Addresses { bridge, http, stomp } = addresses;
    let scheme = scheme(config);
    let data_dir = config.data_dir.display();
    println!("Naru {} is up.", env!("CARGO_PKG_VERSION"));
    println!("  phones (bridge)  {bridge}{}", tls_mark(config.bridge.tls_certificate.is_some()));
    println!("  HTTP             {scheme}://{http}  (/api, /health/live, /health/ready, /metrics)");
    if let Some(stomp) = stomp {
        let tls = tls_mark(config.stomp.tls_certificate.is_some());
        let ws = if scheme == "https" { "wss" } else { "ws" };
        println!("  STOMP            {stomp}{tls}  and {ws}://{http}{}", config.stomp.path);
    }
    println!("  data             {data_dir}");
    if config.bridge.keys.is_empty() {
        println!("  phones sign with the secret and salt in {data_dir}/{}", keys::KEY_FILE);
    }
    if let Some(password) = &bootstrap.admin_password {
        println!("  first start: log in as `admin` with the password  {password}");
        println!("  (it is shown this once; `naru accounts password admin` sets another)");
    }
    println!("Next:");
    println!("  naru phone --server {bridge} --room test      a simulated phone");
    println!("  naru devices list                             who has called");
    println!("  naru devices approve 1 && naru rooms list     let it be answered");
}

fn tls_mark(is_on: bool) -> &'static str {
    if is_on { "  (TLS)" } else { "" }
}
