//! What can be configured, with its defaults. The documentation's table is made from `REFERENCE`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use naru_supervisor::profile::{NotifierSpec, WardSpec, WardsSpec};
use serde::{Deserialize, Serialize};

use super::backend::Backend;
use super::bridge::Bridge;
use super::units::{Secret, Size, Span};

/// The whole configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Config {
    pub(crate) data_dir: PathBuf,
    pub(crate) node: Node,
    pub(crate) log: Log,
    pub(crate) http: Http,
    pub(crate) bridge: Bridge,
    pub(crate) bots: Bots,
    pub(crate) hooks: Hooks,
    pub(crate) channels: Channels,
    pub(crate) client: Client,
    pub(crate) stomp: Stomp,
    pub(crate) backend: Backend,
    pub(crate) store: Store,
    pub(crate) retention: Retention,
    pub(crate) limits: Limits,
    pub(crate) users: Vec<User>,
    pub(crate) wards: WardsSpec,
    pub(crate) ward: Vec<WardSpec>,
    pub(crate) notifier: Vec<NotifierSpec>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) drain_timeout: Option<Span>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Log {
    pub(crate) level: String,
    pub(crate) format: LogFormat,
    pub(crate) categories: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    Text,
    Json,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Http {
    pub(crate) listen: SocketAddr,
    pub(crate) public_url: String,
    pub(crate) api_keys: Vec<Secret>,
    pub(crate) allowed_origins: Vec<String>,
    pub(crate) tls_certificate: Option<PathBuf>,
    pub(crate) tls_key: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Processing {
    Queued,
    Direct,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum DurabilityName {
    Memory,
    Os,
    Disk,
}

impl From<DurabilityName> for naru_domain::Durability {
    fn from(name: DurabilityName) -> naru_domain::Durability {
        match name {
            DurabilityName::Memory => naru_domain::Durability::Memory,
            DurabilityName::Os => naru_domain::Durability::Os,
            DurabilityName::Disk => naru_domain::Durability::Disk,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Bots {
    pub(crate) processing: Processing,
    pub(crate) durability: DurabilityName,
    pub(crate) workers: usize,
    pub(crate) queue: usize,
    pub(crate) per_bot: usize,
    pub(crate) per_room: usize,
    pub(crate) timeout: Span,
    pub(crate) stuck_check: Span,
    pub(crate) chat_log: bool,
    pub(crate) system_monitor: Span,
    pub(crate) schedule_catch_up: Span,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Hooks {
    pub(crate) allow: Vec<String>,
    pub(crate) connect_timeout: Span,
    pub(crate) timeout: Span,
    pub(crate) attempts: u32,
    pub(crate) concurrency: usize,
    pub(crate) max_response_bytes: Size,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Channels {
    pub(crate) default: Namespace,
    pub(crate) namespaces: BTreeMap<String, Namespace>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Namespace {
    pub(crate) history_size: usize,
    pub(crate) history_ttl: Span,
    pub(crate) durability: DurabilityName,
    pub(crate) force_recovery_mode: RecoveryMode,
    pub(crate) allowed_delta_types: Vec<String>,
    pub(crate) channel_regex: String,
    pub(crate) presence: bool,
    pub(crate) join_leave: bool,
    pub(crate) force_push_join_leave: bool,
    pub(crate) force_positioning: bool,
    pub(crate) allow_positioning: bool,
    pub(crate) force_recovery: bool,
    pub(crate) allow_recovery: bool,
    pub(crate) auto_cache_recover: bool,
    pub(crate) delta_publish: bool,
    pub(crate) allow_tags_filter: bool,
    pub(crate) allow_subscribe_for_client: bool,
    pub(crate) allow_subscribe_for_anonymous: bool,
    pub(crate) allow_publish_for_client: bool,
    pub(crate) allow_publish_for_subscriber: bool,
    pub(crate) allow_publish_for_anonymous: bool,
    pub(crate) allow_history_for_client: bool,
    pub(crate) allow_history_for_subscriber: bool,
    pub(crate) allow_history_for_anonymous: bool,
    pub(crate) allow_presence_for_client: bool,
    pub(crate) allow_presence_for_subscriber: bool,
    pub(crate) allow_presence_for_anonymous: bool,
    pub(crate) allow_user_limited_channels: bool,
    pub(crate) subscribe_proxy_enabled: bool,
    pub(crate) publish_proxy_enabled: bool,
    pub(crate) sub_refresh_proxy_enabled: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RecoveryMode {
    #[default]
    Stream,
    Cache,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Client {
    pub(crate) enabled: bool,
    pub(crate) path: String,
    pub(crate) ping_interval: Span,
    pub(crate) pong_timeout: Span,
    pub(crate) allow_anonymous: bool,
    pub(crate) token_hmac_secret: Secret,
    pub(crate) token_hmac_secret_file: Option<PathBuf>,
    pub(crate) token_previous_hmac_secret: Secret,
    pub(crate) token_rsa_public_key_file: Option<PathBuf>,
    pub(crate) token_ecdsa_public_key_file: Option<PathBuf>,
    pub(crate) token_ed25519_public_key_file: Option<PathBuf>,
    pub(crate) token_jwks_file: Option<PathBuf>,
    pub(crate) token_audience: String,
    pub(crate) token_issuer: String,
    pub(crate) subscribe_to_user_channel: bool,
    pub(crate) user_channel_namespace: String,
    pub(crate) max_message_bytes: Size,
    pub(crate) queue_max_bytes: Size,
    pub(crate) channels_max: usize,
    pub(crate) channel_max_length: usize,
    pub(crate) user_connections_max: usize,
    pub(crate) history_max: usize,
    pub(crate) stale_timeout: Span,
    pub(crate) write_timeout: Span,
    pub(crate) expired_close_delay: Span,
    pub(crate) commands_per_second: u32,
    pub(crate) commands_burst: u32,
    pub(crate) connections_max: usize,
    pub(crate) connections_per_address: usize,
    pub(crate) attempts_per_minute: usize,
    pub(crate) compression: bool,
    pub(crate) emulation: bool,
    pub(crate) emulated_connections_max: usize,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Stomp {
    pub(crate) enabled: bool,
    pub(crate) listen: SocketAddr,
    pub(crate) path: String,
    pub(crate) heartbeat: Span,
    pub(crate) allow_anonymous: bool,
    pub(crate) hosts: Vec<String>,
    pub(crate) max_frame_bytes: Size,
    pub(crate) queue_max_bytes: Size,
    pub(crate) subscriptions_max: usize,
    pub(crate) unacked_max: u16,
    pub(crate) queue_depth: usize,
    pub(crate) queue_depth_bytes: Size,
    pub(crate) queue_total_bytes: Size,
    pub(crate) queue_deliveries: u32,
    pub(crate) queue_work_time: Span,
    pub(crate) connect_timeout: Span,
    pub(crate) write_timeout: Span,
    pub(crate) frames_per_second: u32,
    pub(crate) frames_burst: u32,
    pub(crate) connections_max: usize,
    pub(crate) connections_per_address: usize,
    pub(crate) attempts_per_minute: usize,
    pub(crate) tls_certificate: Option<PathBuf>,
    pub(crate) tls_key: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Store {
    pub(crate) url: String,
    pub(crate) readers: u32,
    pub(crate) acquire_timeout: Span,
    pub(crate) statement_timeout: Span,
    pub(crate) encryption_key_file: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Retention {
    pub(crate) messages: Span,
    pub(crate) replies: Span,
    pub(crate) dead_letters: Span,
    pub(crate) pings: Span,
    pub(crate) system_samples: Span,
    pub(crate) schedule_runs: Span,
    pub(crate) send_keys: Span,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Limits {
    pub(crate) memory: Size,
    pub(crate) mailbox_messages: usize,
    pub(crate) mailbox_bytes: Size,
    pub(crate) user_commands_per_second: u32,
    pub(crate) user_commands_burst: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct User {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) password: Secret,
    #[serde(default)]
    pub(crate) password_file: Option<PathBuf>,
    pub(crate) role: RoleName,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RoleName {
    Viewer,
    Operator,
    Admin,
}

impl From<RoleName> for naru_domain::work::Role {
    fn from(name: RoleName) -> naru_domain::work::Role {
        match name {
            RoleName::Viewer => naru_domain::work::Role::Viewer,
            RoleName::Operator => naru_domain::work::Role::Operator,
            RoleName::Admin => naru_domain::work::Role::Admin,
        }
    }
}

impl Default for Config {
    fn default() -> Config {
        Config {
            data_dir: PathBuf::from("./naru-data"),
            node: Node::default(),
            log: Log::default(),
            http: Http::default(),
            bridge: Bridge::default(),
            bots: Bots::default(),
            hooks: Hooks::default(),
            channels: Channels::default(),
            client: Client::default(),
            stomp: Stomp::default(),
            backend: Backend::default(),
            store: Store::default(),
            retention: Retention::default(),
            limits: Limits::default(),
            users: Vec::new(),
            wards: WardsSpec::default(),
            ward: Vec::new(),
            notifier: Vec::new(),
        }
    }
}

impl Default for Log {
    fn default() -> Log {
        Log { level: "info".to_owned(), format: LogFormat::Text, categories: BTreeMap::new() }
    }
}

impl Default for Http {
    fn default() -> Http {
        Http {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            public_url: String::new(),
            api_keys: Vec::new(),
            allowed_origins: Vec::new(),
            tls_certificate: None,
            tls_key: None,
        }
    }
}

impl Default for Bots {
    fn default() -> Bots {
        Bots {
            processing: Processing::Queued,
            durability: DurabilityName::Disk,
            workers: 31,
            queue: 10_000,
            per_bot: 30,
            per_room: 3,
            timeout: Span::seconds(300),
            stuck_check: Span::seconds(60),
            chat_log: true,
            system_monitor: Span::seconds(300),
            schedule_catch_up: Span::seconds(300),
        }
    }
}

impl Default for Hooks {
    fn default() -> Hooks {
        Hooks {
            allow: Vec::new(),
            connect_timeout: Span::seconds(3),
            timeout: Span::seconds(10),
            attempts: 4,
            concurrency: 50,
            max_response_bytes: Size(8 << 20),
        }
    }
}

impl Default for Namespace {
    fn default() -> Namespace {
        Namespace {
            history_size: 0,
            history_ttl: Span::seconds(0),
            durability: DurabilityName::Disk,
            force_recovery_mode: RecoveryMode::Stream,
            allowed_delta_types: Vec::new(),
            channel_regex: String::new(),
            presence: false,
            join_leave: false,
            force_push_join_leave: false,
            force_positioning: false,
            allow_positioning: false,
            force_recovery: false,
            allow_recovery: false,
            auto_cache_recover: false,
            delta_publish: false,
            allow_tags_filter: false,
            allow_subscribe_for_client: false,
            allow_subscribe_for_anonymous: false,
            allow_publish_for_client: false,
            allow_publish_for_subscriber: false,
            allow_publish_for_anonymous: false,
            allow_history_for_client: false,
            allow_history_for_subscriber: false,
            allow_history_for_anonymous: false,
            allow_presence_for_client: false,
            allow_presence_for_subscriber: false,
            allow_presence_for_anonymous: false,
            allow_user_limited_channels: false,
            subscribe_proxy_enabled: false,
            publish_proxy_enabled: false,
            sub_refresh_proxy_enabled: false,
        }
    }
}

impl Default for Client {
    fn default() -> Client {
        Client {
            enabled: true,
            path: "/connection/websocket".to_owned(),
            ping_interval: Span::seconds(25),
            pong_timeout: Span::seconds(8),
            allow_anonymous: false,
            token_hmac_secret: Secret::default(),
            token_hmac_secret_file: None,
            token_previous_hmac_secret: Secret::default(),
            token_rsa_public_key_file: None,
            token_ecdsa_public_key_file: None,
            token_ed25519_public_key_file: None,
            token_jwks_file: None,
            token_audience: String::new(),
            token_issuer: String::new(),
            subscribe_to_user_channel: true,
            user_channel_namespace: "personal".to_owned(),
            max_message_bytes: Size(64 << 10),
            queue_max_bytes: Size(1 << 20),
            channels_max: 128,
            channel_max_length: 255,
            user_connections_max: 1_000,
            history_max: 300,
            stale_timeout: Span::seconds(10),
            write_timeout: Span::seconds(20),
            expired_close_delay: Span::seconds(25),
            commands_per_second: 1_000,
            commands_burst: 5_000,
            connections_max: 20_000,
            connections_per_address: 20_000,
            attempts_per_minute: 60_000,
            compression: false,
            emulation: true,
            emulated_connections_max: 1_000,
        }
    }
}

impl Default for Stomp {
    fn default() -> Stomp {
        Stomp {
            enabled: true,
            listen: SocketAddr::from(([127, 0, 0, 1], 61613)),
            path: "/stomp".to_owned(),
            heartbeat: Span::seconds(10),
            allow_anonymous: false,
            hosts: Vec::new(),
            max_frame_bytes: Size(1_310_720),
            queue_max_bytes: Size(1 << 20),
            subscriptions_max: 128,
            unacked_max: 1_000,
            queue_depth: 10_000,
            queue_depth_bytes: Size(64 << 20),
            queue_total_bytes: Size(512 << 20),
            queue_deliveries: 5,
            queue_work_time: Span::seconds(1_800),
            connect_timeout: Span::seconds(10),
            write_timeout: Span::seconds(20),
            frames_per_second: 5_000,
            frames_burst: 20_000,
            connections_max: 20_000,
            connections_per_address: 20_000,
            attempts_per_minute: 60_000,
            tls_certificate: None,
            tls_key: None,
        }
    }
}

impl Default for Store {
    fn default() -> Store {
        Store {
            url: "sqlite".to_owned(),
            readers: 4,
            acquire_timeout: Span::seconds(1),
            statement_timeout: Span::seconds(3),
            encryption_key_file: None,
        }
    }
}

impl Default for Retention {
    fn default() -> Retention {
        const DAY: u64 = 86_400;
        Retention {
            messages: Span::seconds(90 * DAY),
            replies: Span::seconds(30 * DAY),
            dead_letters: Span::seconds(90 * DAY),
            pings: Span::seconds(7 * DAY),
            system_samples: Span::seconds(90 * DAY),
            schedule_runs: Span::seconds(90 * DAY),
            send_keys: Span::seconds(7 * DAY),
        }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            memory: Size(0),
            mailbox_messages: 10_000,
            mailbox_bytes: Size(64 << 20),
            user_commands_per_second: 10_000,
            user_commands_burst: 50_000,
        }
    }
}

/// One row of the reference: the key, what it is, and its range. Defaults come from the code above.
pub(crate) const REFERENCE: &[(&str, &str)] = &[
    ("data_dir", "Folder for everything that is kept: database, journal, keys. Made if missing."),
    ("node.name", "This node's name in lists, metrics and monitors; empty takes the host's name."),
    (
        "node.drain_timeout",
        "Longest time a shutdown may take before it is cut short (1s to 10m; 20s unless set).",
    ),
    ("log.level", "off, error, warn, info, debug or trace."),
    ("log.format", "text or json."),
    (
        "log.categories",
        "Levels per category, such as `{ bridge = \"debug\" }`. Categories: bridge, client, stomp, hub, bots, hooks, schedules, store, admin, serve.",
    ),
    ("http.listen", "Address and port of the API, probes and metrics."),
    (
        "http.allowed_origins",
        "Web pages that may open WebSockets or use what stands in for them, such as [\"https://*.example.com\"]; none allows pages from this address only. Clients that are no browsers are not concerned.",
    ),
    (
        "http.public_url",
        "How webhook bots reach this server, such as `https://naru.example.org`: the base of the `reply_url` they are told. Empty takes `http.listen` if that is loopback, else no `reply_url` is told.",
    ),
    ("http.api_keys", "Keys for the X-API-Key header; each has the rights of an admin."),
    (
        "http.tls_certificate",
        "PEM file with the certificate chain; with `http.tls_key` turns TLS on. Reloaded when it changes.",
    ),
    ("http.tls_key", "PEM file with the private key."),
    ("bridge.listen", "Address and port for phones."),
    (
        "bridge.ping_interval",
        "Between two pings of one phone (1s to 1h). Keep it below 60s for phones behind NAT.",
    ),
    ("bridge.handshake_timeout", "From accept to a usable first frame (1s to 5m)."),
    (
        "bridge.idle_timeout",
        "A phone that sends nothing for so long, beyond the time it sleeps in media, is dead (10s to 1h, at least twice the ping interval).",
    ),
    (
        "bridge.write_timeout",
        "A phone that takes no byte for so long, beyond the same, is cut (1s to 1h).",
    ),
    (
        "bridge.approve_devices",
        "manual: an operator approves each phone. auto: approved at first contact.",
    ),
    ("bridge.approve_rooms", "The same for rooms."),
    ("bridge.connections_max", "Phone connections together (1 to 1000000)."),
    ("bridge.connections_per_address", "Connections from one address (IPv6: one /64)."),
    ("bridge.attempts_per_minute", "Connection attempts from one address in a minute."),
    (
        "bridge.frames_per_second",
        "Frames per second from one phone before its reads are delayed; 0 is no limit.",
    ),
    ("bridge.frames_burst", "Frames that may come at once."),
    (
        "bridge.max_frame_bytes",
        "Largest frame from a phone (1KiB to 16MiB), unless the device has a limit of its own.",
    ),
    ("bridge.max_text_units", "Longest chat text in UTF-16 units (1 to 1000000)."),
    (
        "bridge.pad_frames_to",
        "Frames to phones are padded to so many characters, because some scripts drop shorter ones; 0 turns it off.",
    ),
    (
        "bridge.tls_certificate",
        "PEM file with the certificate chain; with `bridge.tls_key` turns TLS on.",
    ),
    ("bridge.tls_key", "PEM file with the private key."),
    (
        "bridge.keys.NAME.secret",
        "SECRET_KEY of the scripts of bot NAME; `default` is for bots without a table of their own. If no key is configured, one is made in `data_dir/bridge.key`.",
    ),
    ("bridge.keys.NAME.secret_file", "A file that holds the secret, instead of `secret`."),
    ("bridge.keys.NAME.salt", "BOT_SPECIFIC_SALT of those scripts."),
    (
        "bridge.keys.NAME.previous_secret",
        "The secret before the last change: accepted as well, while phones are edited.",
    ),
    ("bridge.keys.NAME.previous_salt", "The salt before the last change."),
    (
        "bots.processing",
        "queued: kept in the store, then worked off. direct: answered at once, nothing is kept before.",
    ),
    (
        "bots.durability",
        "What is kept when a message counts as accepted: os (survives the death of the process) or disk (survives the loss of power).",
    ),
    ("bots.workers", "Messages in work at once (1 to 1000)."),
    (
        "bots.queue",
        "Messages that may wait (1 to 1000000). When it is full, phones are read no further.",
    ),
    ("bots.per_bot", "Of one bot in work at once (1 to 1000)."),
    (
        "bots.per_room",
        "Of one room in work at once (1 to 100); replies leave in order all the same.",
    ),
    ("bots.timeout", "Longest work on one message (1s to 1h)."),
    ("bots.stuck_check", "How often workers are looked at (1s to 1h)."),
    (
        "bots.chat_log",
        "With direct processing: whether messages are logged, after they were answered.",
    ),
    ("bots.system_monitor", "How often the machine's figures are kept (10s to 1d)."),
    (
        "bots.schedule_catch_up",
        "A schedule missed by at most so long is sent late, an older one is logged as missed.",
    ),
    (
        "hooks.allow",
        "Hosts and networks that webhooks may reach although they are private, such as [\"127.0.0.1\", \"10.0.0.0/8\"].",
    ),
    ("hooks.connect_timeout", "To connect to a webhook (100ms to 1m)."),
    ("hooks.timeout", "For one call as a whole (100ms to 5m)."),
    ("hooks.attempts", "Calls for one message, the first included (1 to 20)."),
    ("hooks.concurrency", "Calls to one target at once (1 to 1000)."),
    ("hooks.max_response_bytes", "Largest answer of a webhook (1KiB to 64MiB)."),
    (
        "channels.default.history_size",
        "Publications kept a channel; 0 keeps none. `channels.namespaces.NAME` takes the same keys.",
    ),
    ("channels.default.history_ttl", "How long each is kept; 0s is no limit."),
    ("channels.default.durability", "memory, os or disk."),
    (
        "channels.default.force_recovery_mode",
        "stream: a recovery gives all that was missed. cache: only the newest publication.",
    ),
    (
        "channels.default.allowed_delta_types",
        "Kinds of differences that clients may ask for: [\"fossil\"] or none.",
    ),
    (
        "channels.default.channel_regex",
        "What names must look like behind the namespace; empty allows ASCII.",
    ),
    ("channels.default.presence", "Clients may ask who is in a channel; members show up."),
    ("channels.default.join_leave", "Members of a channel are told who comes and goes."),
    ("channels.default.force_push_join_leave", "All of them, not only those who wish it."),
    (
        "channels.default.force_positioning",
        "Each subscription has a position, and a gap ends it so that the client recovers.",
    ),
    ("channels.default.allow_positioning", "Clients may wish for that."),
    ("channels.default.force_recovery", "Each subscription can recover what it missed."),
    ("channels.default.allow_recovery", "Clients may wish for that."),
    (
        "channels.default.auto_cache_recover",
        "With `force_recovery_mode = \"cache\"`: the newest publication comes with each subscription, unasked.",
    ),
    (
        "channels.default.delta_publish",
        "Publications may be sent as differences to clients that agreed to it.",
    ),
    (
        "channels.default.allow_tags_filter",
        "Clients may ask for those publications only whose tags pass a filter.",
    ),
    (
        "channels.default.allow_subscribe_for_client",
        "Clients with a user may subscribe without asking further.",
    ),
    ("channels.default.allow_subscribe_for_anonymous", "Anonymous ones, too."),
    ("channels.default.allow_publish_for_client", "Clients with a user may publish."),
    ("channels.default.allow_publish_for_subscriber", "Members of the channel may publish."),
    (
        "channels.default.allow_publish_for_anonymous",
        "What is allowed for publishing holds for anonymous ones, too.",
    ),
    ("channels.default.allow_history_for_client", "Clients with a user may read history."),
    ("channels.default.allow_history_for_subscriber", "Members of the channel may read history."),
    (
        "channels.default.allow_history_for_anonymous",
        "What is allowed for history holds for anonymous ones, too.",
    ),
    ("channels.default.allow_presence_for_client", "Clients with a user may ask who is there."),
    (
        "channels.default.allow_presence_for_subscriber",
        "Members of the channel may ask who is there.",
    ),
    (
        "channels.default.allow_presence_for_anonymous",
        "What is allowed for presence holds for anonymous ones, too.",
    ),
    (
        "channels.default.allow_user_limited_channels",
        "Names with `#`, such as `dialog#42,43`, list the only users who may subscribe.",
    ),
    ("channels.default.subscribe_proxy_enabled", "The back end is asked who may subscribe."),
    ("channels.default.publish_proxy_enabled", "The back end is asked what may be published."),
    (
        "channels.default.sub_refresh_proxy_enabled",
        "The back end is asked when the right to a subscription runs out.",
    ),
    ("client.enabled", "Whether Centrifuge clients are served."),
    ("client.path", "Path of the WebSocket for Centrifuge clients."),
    ("client.ping_interval", "Between two pings to a client (1s to 1h); whole seconds."),
    ("client.pong_timeout", "How long a client may take to answer one; shorter than the interval."),
    ("client.allow_anonymous", "Clients without a token are let in, as users without a name."),
    (
        "client.token_hmac_secret",
        "Secret of connection and subscription tokens signed with HS256, HS384 or HS512.",
    ),
    (
        "client.token_hmac_secret_file",
        "A file that holds the secret, instead of `token_hmac_secret`.",
    ),
    ("client.token_previous_hmac_secret", "The secret before the last change: accepted as well."),
    ("client.token_rsa_public_key_file", "PEM file with the public key of RS256, RS384 and RS512."),
    ("client.token_ecdsa_public_key_file", "PEM file with the public key of ES256 or ES384."),
    ("client.token_ed25519_public_key_file", "PEM file with the public key of EdDSA."),
    ("client.token_jwks_file", "A file with a JSON Web Key Set."),
    ("client.token_audience", "What `aud` of a token must be or contain; empty does not look."),
    ("client.token_issuer", "What `iss` of a token must be; empty does not look."),
    (
        "client.subscribe_to_user_channel",
        "Each user is subscribed to a channel of its own, in which only the server speaks and which recovers.",
    ),
    (
        "client.user_channel_namespace",
        "The namespace of those channels: `NAME:#user`. `personal` is built in and keeps the last 100 publications for 10 minutes in memory; any other is one of yours, and empty takes `#user`.",
    ),
    ("client.max_message_bytes", "Largest message of a client (1KiB to 16MiB)."),
    ("client.queue_max_bytes", "What may wait for a slow reader (64KiB to 1GiB)."),
    ("client.channels_max", "Channels of one connection (1 to 10000)."),
    ("client.channel_max_length", "Longest name of a channel in bytes (1 to 255)."),
    (
        "client.user_connections_max",
        "Connections of one user, those of STOMP included (1 to 1000000).",
    ),
    ("client.history_max", "Publications of one answer, recovery included (1 to 10000)."),
    ("client.stale_timeout", "From the upgrade to a usable connect command (1s to 5m)."),
    (
        "client.write_timeout",
        "A client that takes no byte for so long while some wait is cut (1s to 1h).",
    ),
    (
        "client.expired_close_delay",
        "How long a client may take to bring a new token when the old one ran out.",
    ),
    (
        "client.commands_per_second",
        "Commands per second from one client before its reads are delayed; 0 is no limit.",
    ),
    ("client.commands_burst", "Commands that may come at once."),
    ("client.connections_max", "Connections together (1 to 10000000)."),
    ("client.connections_per_address", "Connections from one address (IPv6: one /64)."),
    ("client.attempts_per_minute", "Connection attempts from one address in a minute."),
    ("client.compression", "Whether permessage-deflate is offered. It costs time and memory."),
    (
        "client.emulation",
        "Whether clients may come without a WebSocket, by `/connection/http_stream`, `/connection/sse` and `/emulation`.",
    ),
    (
        "client.emulated_connections_max",
        "How many of those at the same time (1 to 3000): each holds a connection of `http.listen`.",
    ),
    ("stomp.enabled", "Whether STOMP clients are served."),
    ("stomp.listen", "Address and port for STOMP over TCP, or TLS with a certificate."),
    ("stomp.path", "Path of the WebSocket for STOMP clients, on `http.listen`."),
    ("stomp.heartbeat", "Between two heart-beats, offered and wanted (1s to 1h)."),
    (
        "stomp.allow_anonymous",
        "Clients without login and without a token are let in, as users without a name.",
    ),
    ("stomp.hosts", "What the `host` header of CONNECT may be; none takes any."),
    (
        "stomp.max_frame_bytes",
        "Largest frame of a client (64KiB to 16MiB); the default fits a body of 1 MiB.",
    ),
    ("stomp.queue_max_bytes", "What may wait for a slow reader (64KiB to 1GiB)."),
    ("stomp.subscriptions_max", "Subscriptions of one connection (1 to 128)."),
    ("stomp.unacked_max", "Deliveries of one subscription that may wait for an ACK (1 to 65535)."),
    ("stomp.queue_depth", "Messages that a work queue holds (1 to 1000000)."),
    ("stomp.queue_depth_bytes", "The same in bytes (64KiB to 16GiB)."),
    (
        "stomp.queue_total_bytes",
        "What all work queues may take in memory together, 256 bytes a message besides its own included (1MiB to 256GiB).",
    ),
    (
        "stomp.queue_deliveries",
        "How often a message of a work queue is delivered before it goes to the dead letters (1 to 1000).",
    ),
    (
        "stomp.queue_work_time",
        "How long a consumer may take for a message before somebody else gets it (1s to 1d).",
    ),
    ("stomp.connect_timeout", "From accept to a usable CONNECT frame (1s to 5m)."),
    (
        "stomp.write_timeout",
        "A client that takes no byte for so long while some wait is cut (1s to 1h).",
    ),
    (
        "stomp.frames_per_second",
        "Frames per second from one client before its reads are delayed; 0 is no limit.",
    ),
    ("stomp.frames_burst", "Frames that may come at once."),
    ("stomp.connections_max", "Connections together, both transports (1 to 10000000)."),
    ("stomp.connections_per_address", "Connections from one address (IPv6: one /64)."),
    ("stomp.attempts_per_minute", "Connection attempts from one address in a minute."),
    (
        "stomp.tls_certificate",
        "PEM file with the certificate chain; with `stomp.tls_key` turns TLS on for `stomp.listen`.",
    ),
    ("stomp.tls_key", "PEM file with the private key."),
    ("store.url", "sqlite (a file in data_dir)."),
    ("store.readers", "Connections for reading (1 to 64)."),
    ("store.acquire_timeout", "Longest wait for one of them (10ms to 1m)."),
    ("store.statement_timeout", "Longest statement (10ms to 10m)."),
    (
        "store.encryption_key_file",
        "File with keys for chat text at rest, newest first: lines of `id:64 hex digits`.",
    ),
    ("retention.messages", "How long worked-off messages are kept (1d or more)."),
    ("retention.replies", "The same for replies."),
    ("retention.dead_letters", "The same for dead letters."),
    ("retention.pings", "The same for keep-alive samples."),
    ("retention.system_samples", "The same for the system monitor."),
    ("retention.schedule_runs", "The same for the log of schedules."),
    ("retention.send_keys", "The same for the idempotency keys of sends and later replies."),
    (
        "limits.memory",
        "Memory the process should stay below; at 80 % and 90 % caches are shed. 0 takes the machine's or the cgroup's.",
    ),
    ("limits.mailbox_messages", "Replies kept for one phone that is away (1 to 1000000)."),
    ("limits.mailbox_bytes", "The same in bytes (1MiB to 16GiB)."),
    (
        "limits.user_commands_per_second",
        "Commands of Centrifuge and frames of STOMP per second from all connections of one user together before their reads are delayed; 0 is no limit.",
    ),
    ("limits.user_commands_burst", "How many of them may come at once."),
    (
        "users",
        "People who may log in: `[[users]]` with name, password or password_file, role (viewer, operator, admin).",
    ),
];
