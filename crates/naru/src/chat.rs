//! Wires the chat gateways: namespaces and options from the configuration, WebSockets from the HTTP
//! listener to the gateway that serves their path.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use admin::doors::{Doors, HttpSocket, Knock};
use anyhow::Context;
use arc_swap::ArcSwap;
use async_trait::async_trait;
use axum::body::Body;
use axum::response::Response;
use bytes::BytesMut;
use http::{StatusCode, header};
use naru_admin as admin;
use naru_backend::{Farewells, HttpBackend};
use naru_domain::Durability;
use naru_domain::metrics::MetricSource;
use naru_domain::ports::{Backend, NamespaceOptions, TokenVerifier};
use naru_gateways::centrifuge::{ClientGateway, ClientOptions, Opening, PERSONAL_NAMESPACE};
use naru_gateways::connections::{Socket, passed_headers};
use naru_gateways::limits::{AdmissionLimits, UserRates};
use naru_gateways::origin;
use naru_gateways::stomp::{StompGateway, StompOpening, WsOpening};
use naru_gateways::token::{TokenSettings, TokenVerifier as SignedTokens};
use naru_gateways::ws::{self, Upgrading};
use naru_hub::access::{NamePattern, Namespace, Namespaces};
use naru_wire::centrifuge::Protocol;
use naru_wire::stomp::choose_subprotocol;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::config::{self, Config, RecoveryMode};
use crate::emulation;

/// Publications of a personal channel that wait for its user (guessed).
const PERSONAL_HISTORY_SIZE: usize = 100;
/// For how long.
const PERSONAL_HISTORY_TTL: Duration = Duration::from_secs(600);

/// The rules of all namespaces.
pub(crate) fn namespaces(config: &Config) -> anyhow::Result<Namespaces> {
    let mut named = HashMap::new();
    for (name, options) in &config.channels.namespaces {
        named.insert(name.clone(), namespace(options)?);
    }
    let mut namespaces = Namespaces { default: namespace(&config.channels.default)?, named };
    crate::stomp::add_rules(&mut namespaces);
    crate::rooms::add_rules(&mut namespaces);
    if has_personal_channels(config) {
        namespaces.named.insert(PERSONAL_NAMESPACE.to_owned(), Namespace::personal());
    }
    Ok(namespaces)
}

/// Whether users have channels of their own in the namespace that is built in.
pub(crate) fn has_personal_channels(config: &Config) -> bool {
    let client = &config.client;
    client.enabled
        && client.subscribe_to_user_channel
        && client.user_channel_namespace == PERSONAL_NAMESPACE
}

/// What personal channels keep: in memory, because each connection of a user looks into its own, and a herd
/// that comes back must not wait for the store.
pub(crate) fn add_kept(config: &Config, namespaces: &mut HashMap<String, NamespaceOptions>) {
    if has_personal_channels(config) {
        let kept = NamespaceOptions {
            history_size: PERSONAL_HISTORY_SIZE,
            history_ttl: PERSONAL_HISTORY_TTL,
            durability: Durability::Memory,
        };
        namespaces.insert(PERSONAL_NAMESPACE.to_owned(), kept);
    }
}

fn namespace(options: &config::Namespace) -> anyhow::Result<Namespace> {
    let channel_pattern = match options.channel_regex.as_str() {
        "" => None,
        text => {
            let regex = regex::Regex::new(text).context("a channel_regex cannot be used")?;
            let fits = Arc::new(move |name: &str| regex.is_match(name));
            Some(NamePattern { text: text.to_owned(), fits })
        }
    };
    Ok(Namespace {
        presence: options.presence,
        join_leave: options.join_leave,
        force_push_join_leave: options.force_push_join_leave,
        force_positioning: options.force_positioning,
        allow_positioning: options.allow_positioning,
        force_recovery: options.force_recovery,
        allow_recovery: options.allow_recovery,
        is_cache: options.force_recovery_mode == RecoveryMode::Cache,
        auto_cache_recover: options.auto_cache_recover,
        allow_fossil_delta: options.allowed_delta_types.iter().any(|kind| kind == "fossil"),
        allow_tags_filter: options.allow_tags_filter,
        delta_publish: options.delta_publish,
        allow_subscribe_for_client: options.allow_subscribe_for_client,
        allow_subscribe_for_anonymous: options.allow_subscribe_for_anonymous,
        allow_publish_for_client: options.allow_publish_for_client,
        allow_publish_for_subscriber: options.allow_publish_for_subscriber,
        allow_publish_for_anonymous: options.allow_publish_for_anonymous,
        allow_history_for_client: options.allow_history_for_client,
        allow_history_for_subscriber: options.allow_history_for_subscriber,
        allow_history_for_anonymous: options.allow_history_for_anonymous,
        allow_presence_for_client: options.allow_presence_for_client,
        allow_presence_for_subscriber: options.allow_presence_for_subscriber,
        allow_presence_for_anonymous: options.allow_presence_for_anonymous,
        allow_user_limited_channels: options.allow_user_limited_channels,
        channel_pattern,
        subscribe_proxy_enabled: options.subscribe_proxy_enabled,
        publish_proxy_enabled: options.publish_proxy_enabled,
        sub_refresh_proxy_enabled: options.sub_refresh_proxy_enabled,
        is_personal: false,
        has_history: options.history_size > 0,
    })
}

/// The Centrifuge gateway's settings.
pub(crate) fn client_options(config: &Config, user_rates: &UserRates) -> ClientOptions {
    let client = &config.client;
    ClientOptions {
        ping_interval: client.ping_interval.0,
        pong_timeout: client.pong_timeout.0,
        allow_anonymous: client.allow_anonymous,
        message_bytes_max: u32::try_from(client.max_message_bytes.0).unwrap_or(u32::MAX),
        queue_bytes_max: client.queue_max_bytes.as_usize(),
        stale_timeout: client.stale_timeout.0,
        write_timeout: client.write_timeout.0,
        expired_close_delay: client.expired_close_delay.0,
        history_max: client.history_max,
        channel_bytes_max: client.channel_max_length,
        user_channels: client.subscribe_to_user_channel,
        user_channel_namespace: Some(client.user_channel_namespace.clone())
            .filter(|name| !name.is_empty()),
        commands_per_second: client.commands_per_second,
        commands_burst: client.commands_burst,
        emulated_max: client.emulated_connections_max,
        node: format!("{:032x}", rand::random::<u128>()),
        user_rates: user_rates.clone(),
        admission: AdmissionLimits {
            connections_max: client.connections_max,
            per_address_max: client.connections_per_address,
            attempts_per_minute: client.attempts_per_minute,
        },
        ..ClientOptions::default()
    }
}

/// The chat gateways behind the HTTP listener.
pub(crate) struct ChatDoors {
    client: Option<(String, ClientGateway)>,
    stomp: Option<(String, StompGateway)>,
    /// Whether those of Centrifuge may come without a WebSocket, too.
    emulates: bool,
    allowed_origins: Vec<String>,
    offers_deflate: bool,
    backend: Option<Arc<dyn Backend>>,
}

impl ChatDoors {
    pub(crate) fn new(
        config: &Config,
        client: Option<ClientGateway>,
        stomp: Option<StompGateway>,
        backend: Option<Arc<dyn Backend>>,
    ) -> ChatDoors {
        ChatDoors {
            client: client.map(|gateway| (config.client.path.clone(), gateway)),
            stomp: stomp.map(|gateway| (config.stomp.path.clone(), gateway)),
            emulates: config.client.emulation,
            allowed_origins: config.http.allowed_origins.clone(),
            offers_deflate: config.client.compression,
            backend,
        }
    }

    /// Whether the page that asks may.
    fn lets_in(&self, knock: &Knock) -> bool {
        let header = |name| knock.request.headers().get(name).and_then(|value| value.to_str().ok());
        let (page, host) = (header(header::ORIGIN), header(header::HOST));
        origin::is_allowed(page, host, &self.allowed_origins)
    }

    /// What the application wants to see of the opening request.
    fn headers(&self, headers: &header::HeaderMap) -> Vec<(String, String)> {
        let readable = headers
            .iter()
            .filter_map(|(name, value)| value.to_str().ok().map(|value| (name.as_str(), value)));
        passed_headers(self.backend.as_ref(), &[], readable)
    }

    fn open_client(&self, gateway: &ClientGateway, knock: Knock) -> Response {
        let Knock { request, peer, is_tls } = knock;
        let (mut parts, _body) = request.into_parts();
        let Ok(permit) = gateway.admit(peer) else {
            return plain(StatusCode::SERVICE_UNAVAILABLE, "too many connections\n");
        };
        let protocols = [Protocol::Json.subprotocol(), Protocol::Protobuf.subprotocol()];
        let upgraded = ws::upgrade(&mut parts, &protocols, self.offers_deflate);
        let (response, upgrading) = match upgraded {
            Ok(upgraded) => upgraded,
            Err(error) => return ws::refusal(&error).map(Body::from),
        };
        let opening = Opening {
            peer,
            protocol: protocol(upgrading.protocol(), parts.uri.query()),
            deflate_window_bits: upgrading.deflate_window_bits(),
            headers: self.headers(&parts.headers),
        };
        gateway.serve(permit, opening, socket(upgrading, is_tls));
        response.map(|()| Body::empty())
    }

    fn open_stomp(&self, gateway: &StompGateway, knock: Knock) -> Response {
        let Knock { request, peer, is_tls } = knock;
        let (mut parts, _body) = request.into_parts();
        let Ok(permit) = gateway.admit(peer) else {
            return plain(StatusCode::SERVICE_UNAVAILABLE, "too many connections\n");
        };
        let protocols = StompGateway::subprotocols();
        let upgraded = ws::upgrade(&mut parts, &protocols, self.offers_deflate);
        let (response, upgrading) = match upgraded {
            Ok(upgraded) => upgraded,
            Err(error) => return ws::refusal(&error).map(Body::from),
        };
        let subprotocol = upgrading.protocol().and_then(|name| choose_subprotocol([name]));
        let deflate_window_bits = upgrading.deflate_window_bits();
        let ws = Some(WsOpening { subprotocol, deflate_window_bits });
        gateway.serve(
            permit,
            StompOpening { peer, ws, headers: self.headers(&parts.headers) },
            socket(upgrading, is_tls),
        );
        response.map(|()| Body::empty())
    }
}

#[async_trait]
impl Doors for ChatDoors {
    fn serves(&self, path: &str) -> bool {
        self.client.as_ref().is_some_and(|(each, _)| each == path)
            || self.stomp.as_ref().is_some_and(|(each, _)| each == path)
            || (self.emulates && self.client.is_some() && emulation::serves(path))
    }

    async fn answer(&self, knock: Knock) -> Response {
        if !self.lets_in(&knock) {
            return plain(
                StatusCode::FORBIDDEN,
                "this page may not connect: add its origin to http.allowed_origins\n",
            );
        }
        let path = knock.request.uri().path();
        match (&self.client, &self.stomp) {
            (_, Some((own, gateway))) if own == path => self.open_stomp(gateway, knock),
            (Some((own, gateway)), _) if own == path => self.open_client(gateway, knock),
            (Some((_, gateway)), _) => emulation::answer(gateway, knock).await,
            _ => plain(StatusCode::NOT_FOUND, "not found\n"),
        }
    }
}

/// The encoding: a subprotocol, or what the address asks for.
fn protocol(subprotocol: Option<&str>, query: Option<&str>) -> Protocol {
    let in_query = query.is_some_and(|query| {
        query.split('&').any(|each| matches!(each, "cf_protocol=protobuf" | "format=protobuf"))
    });
    if subprotocol == Some(Protocol::Protobuf.subprotocol()) || (subprotocol.is_none() && in_query)
    {
        Protocol::Protobuf
    } else {
        Protocol::Json
    }
}

async fn socket(upgrading: Upgrading, is_tls: bool) -> Option<(Socket, BytesMut)> {
    let taken = if is_tls {
        let taken = upgrading.into_socket::<TlsStream<HttpSocket>>().await;
        taken.map(|(io, leftover)| (Socket::Boxed(Box::new(io)), leftover))
    } else {
        let taken = upgrading.into_socket::<HttpSocket>().await;
        taken.map(|(io, leftover)| (Socket::Plain(io.into_inner()), leftover))
    };
    match taken {
        Ok(taken) => Some(taken),
        Err(error) => {
            tracing::debug!(target: "naru::client", %error, "upgrade did not come about");
            None
        }
    }
}

pub(crate) fn plain(status: StatusCode, text: &'static str) -> Response {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let value = header::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, value);
    response
}

/// The tokens that clients may bring.
pub(crate) type Verifier = Arc<ArcSwap<Arc<dyn TokenVerifier>>>;

/// The Centrifuge gateway, unless it is turned off.
pub(crate) fn client_gateway(
    config: &Config,
    hub: &naru_hub::Hub,
    user_rates: &UserRates,
    backend: Option<Arc<dyn Backend>>,
    clock: &Arc<dyn naru_domain::Clock>,
) -> anyhow::Result<Option<ClientGateway>> {
    if !config.client.enabled {
        return Ok(None);
    }
    let namespaces = Arc::new(ArcSwap::from_pointee(namespaces(config)?));
    let tokens: Verifier = Arc::new(ArcSwap::from_pointee(tokens(config)?));
    let options = client_options(config, user_rates);
    let clock = Arc::clone(clock);
    Ok(Some(ClientGateway::new(options, hub.clone(), namespaces, tokens, backend, clock)))
}

/// The keys that clients' tokens may be signed with.
pub(crate) fn tokens(config: &Config) -> anyhow::Result<Arc<dyn TokenVerifier>> {
    let client = &config.client;
    let secret = |secret: &config::Secret| {
        (!secret.is_empty()).then(|| Zeroizing::new(secret.reveal().to_owned()))
    };
    let pem = |file: &Option<PathBuf>| file.as_ref().map(|file| read(file)).transpose();
    let filled = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let from_file = client
        .token_hmac_secret_file
        .as_ref()
        .map(config::read_secret_file)
        .transpose()
        .map_err(anyhow::Error::msg)?;
    let settings = TokenSettings {
        hmac_secret: from_file.as_ref().map_or_else(|| secret(&client.token_hmac_secret), secret),
        hmac_previous_secret: secret(&client.token_previous_hmac_secret),
        hmac_previous_secret_until: None,
        rsa_public_key: pem(&client.token_rsa_public_key_file)?,
        ecdsa_public_key: pem(&client.token_ecdsa_public_key_file)?,
        ed25519_public_key: pem(&client.token_ed25519_public_key_file)?,
        user_claim: None,
        audience: filled(&client.token_audience),
        issuer: filled(&client.token_issuer),
    };
    let verifier = SignedTokens::new(&settings).context("the keys of [client] cannot be used")?;
    if let Some(file) = &client.token_jwks_file {
        verifier
            .set_jwks(read(file)?.as_bytes())
            .with_context(|| format!("{} cannot be used", file.display()))?;
    }
    Ok(Arc::new(verifier))
}

fn read(file: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

/// The application, and those who tell it of connections that ended.
pub(crate) struct Application {
    backend: HttpBackend,
    pub(crate) farewells: Farewells,
}

impl Application {
    /// `None` if nothing is asked of one. `drain` is what a shutdown may take.
    pub(crate) fn new(
        config: &Config,
        drain: Duration,
        clock: &Arc<dyn naru_domain::Clock>,
    ) -> anyhow::Result<Option<Application>> {
        if !config.backend.is_set() {
            return Ok(None);
        }
        // Less than the tasks of a drain are waited for.
        let options = config.backend.options(drain / 8).map_err(anyhow::Error::msg)?;
        let (backend, farewells) =
            HttpBackend::new(options, Arc::clone(clock)).context("[backend]")?;
        Ok(Some(Application { backend, farewells }))
    }

    pub(crate) fn port(&self) -> Arc<dyn Backend> {
        Arc::new(self.backend.clone())
    }

    pub(crate) fn metrics(&self) -> Arc<dyn MetricSource> {
        Arc::new(self.backend.clone())
    }
}

/// What the server API stands on.
pub(crate) fn services(
    config: &Config,
    hub: &naru_hub::Hub,
    client: &ClientGateway,
    stop: &CancellationToken,
    backend: Option<Arc<dyn Backend>>,
) -> admin::Chat {
    admin::Chat {
        hub: hub.clone(),
        backend,
        namespaces: client.namespaces(),
        history_max: config.client.history_max,
        node_uid: client.node().to_owned(),
        node_name: crate::serve::node_name(config),
        started: std::time::Instant::now(),
        stop: stop.clone(),
    }
}
