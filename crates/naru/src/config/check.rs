//! What is well-formed and still wrong: ranges, and settings that contradict each other.

use std::time::Duration;

use naru_bots::{BOT_NAMESPACE, ROOM_NAMESPACE};
use naru_domain::limits::HOOK_ATTEMPTS_MAX;
use naru_gateways::centrifuge::PERSONAL_NAMESPACE;

use crate::emulation;

use super::backend;
use super::model::{Config, DurabilityName};
use super::units::{Size, Span};
use super::ward;

/// The namespaces in which people talk to bots.
const OF_BOTS: [&str; 2] = [ROOM_NAMESPACE, BOT_NAMESPACE];

/// All contradictions, as (key, what is wrong).
pub(super) fn check(config: &Config) -> Vec<(String, String)> {
    let mut found = Found::default();
    check_listeners(config, &mut found);
    check_bridge(config, &mut found);
    check_bots(config, &mut found);
    check_client(config, &mut found);
    check_stomp(config, &mut found);
    check_channels(config, &mut found);
    backend::check(config, &mut found);
    check_store(config, &mut found);
    check_users(config, &mut found);
    ward::check(config, &mut found);
    found.0
}

#[derive(Default)]
pub(super) struct Found(Vec<(String, String)>);

impl Found {
    pub(super) fn add(&mut self, key: &str, message: impl Into<String>) {
        self.0.push((key.to_owned(), message.into()));
    }

    pub(super) fn number(&mut self, key: &str, value: u64, min: u64, max: u64) {
        if value < min || value > max {
            self.add(key, format!("{value} is outside {min} to {max}"));
        }
    }

    pub(super) fn span(&mut self, key: &str, value: Span, min: Span, max: Span) {
        if value.0 < min.0 || value.0 > max.0 {
            self.add(key, format!("{value} is outside {min} to {max}"));
        }
    }

    pub(super) fn size(&mut self, key: &str, value: Size, min: Size, max: Size) {
        if value.0 < min.0 || value.0 > max.0 {
            self.add(key, format!("{value} is outside {min} to {max}"));
        }
    }
}

fn check_listeners(config: &Config, found: &mut Found) {
    if config.http.listen == config.bridge.listen && config.http.listen.port() != 0 {
        found.add("bridge.listen", "the same address as http.listen");
    }
    let pairs = [
        ("http", &config.http.tls_certificate, &config.http.tls_key),
        ("bridge", &config.bridge.tls_certificate, &config.bridge.tls_key),
        ("stomp", &config.stomp.tls_certificate, &config.stomp.tls_key),
    ];
    for (section, certificate, key) in pairs {
        if certificate.is_some() != key.is_some() {
            found.add(
                &format!("{section}.tls_certificate"),
                format!("needs {section}.tls_key beside it, and the other way round"),
            );
        }
        for (name, file) in [("tls_certificate", certificate), ("tls_key", key)] {
            if let Some(file) = file
                && !file.is_file()
            {
                let message = format!("there is no file {}", file.display());
                found.add(&format!("{section}.{name}"), message);
            }
        }
    }
    if let Some(reason) = public_url_problem(&config.http.public_url) {
        found.add("http.public_url", reason);
    }
    for (at, key) in config.http.api_keys.iter().enumerate() {
        if key.is_empty() {
            found.add("http.api_keys", format!("number {} is empty", at + 1));
        }
    }
    let level = |name: &str| ["off", "error", "warn", "info", "debug", "trace"].contains(&name);
    if !level(&config.log.level) {
        found.add("log.level", "must be off, error, warn, info, debug or trace");
    }
    for (category, name) in &config.log.categories {
        if !crate::logs::CATEGORIES.contains(&category.as_str()) {
            let known = crate::logs::CATEGORIES.join(", ");
            found.add("log.categories", format!("`{category}` is none of {known}"));
        }
        if !level(name) {
            found.add("log.categories", format!("`{name}` is no level"));
        }
    }
    if let Some(drain) = config.node.drain_timeout {
        found.span("node.drain_timeout", drain, Span::seconds(1), Span::seconds(600));
    }
}

fn check_client(config: &Config, found: &mut Found) {
    let client = &config.client;
    let (second, hour) = (Span::seconds(1), Span::seconds(3_600));
    for (section, path) in [("client", &client.path), ("stomp", &config.stomp.path)] {
        if client.emulation && emulation::serves(path) {
            found.add(&format!("{section}.path"), "a path of client.emulation");
        }
    }
    // The others of the HTTP listener's places are for the API and the requests beside the streams.
    let emulated_max = client.emulated_connections_max as u64;
    found.number("client.emulated_connections_max", emulated_max, 1, 3_000);
    if !client.path.starts_with('/') || client.path.starts_with("/api") {
        found.add("client.path", "must begin with `/` and not with `/api`");
    }
    found.span("client.ping_interval", client.ping_interval, second, hour);
    found.span("client.pong_timeout", client.pong_timeout, second, hour);
    if client.pong_timeout.0 >= client.ping_interval.0 {
        found.add("client.pong_timeout", "must be shorter than client.ping_interval");
    }
    found.size("client.max_message_bytes", client.max_message_bytes, Size(1 << 10), Size(16 << 20));
    found.size("client.queue_max_bytes", client.queue_max_bytes, Size(64 << 10), Size(1 << 30));
    found.number("client.channels_max", client.channels_max as u64, 1, 10_000);
    found.number("client.channel_max_length", client.channel_max_length as u64, 1, 255);
    found.number("client.user_connections_max", client.user_connections_max as u64, 1, 1_000_000);
    found.number("client.history_max", client.history_max as u64, 1, 10_000);
    found.span("client.stale_timeout", client.stale_timeout, second, Span::seconds(300));
    found.span("client.write_timeout", client.write_timeout, second, hour);
    found.span("client.expired_close_delay", client.expired_close_delay, Span::seconds(0), hour);
    found.number("client.connections_max", client.connections_max as u64, 1, 10_000_000);
    let per_address = client.connections_per_address as u64;
    found.number("client.connections_per_address", per_address, 1, 10_000_000);
    if client.commands_per_second > 0 && client.commands_burst == 0 {
        found.add("client.commands_burst", "must be at least 1 when commands_per_second is set");
    }
    if client.enabled && client.subscribe_to_user_channel {
        let name = client.user_channel_namespace.as_str();
        match (name == PERSONAL_NAMESPACE, config.channels.namespaces.contains_key(name)) {
            (true, true) => found.add(
                &format!("channels.namespaces.{name}"),
                "is built in for the channels of users: choose another name, or name the namespace of \
                 those channels in client.user_channel_namespace",
            ),
            (false, false) if !name.is_empty() => {
                found.add("client.user_channel_namespace", "there is no such namespace");
            }
            _ => {}
        }
    }
    if !client.token_hmac_secret.is_empty() && client.token_hmac_secret_file.is_some() {
        let message = "give either token_hmac_secret or token_hmac_secret_file";
        found.add("client.token_hmac_secret_file", message);
    }
}

fn check_stomp(config: &Config, found: &mut Found) {
    let stomp = &config.stomp;
    let (second, hour) = (Span::seconds(1), Span::seconds(3_600));
    for (name, other) in [("http", config.http.listen), ("bridge", config.bridge.listen)] {
        if stomp.enabled && stomp.listen == other && other.port() != 0 {
            found.add("stomp.listen", format!("the same address as {name}.listen"));
        }
    }
    if !stomp.path.starts_with('/') || stomp.path.starts_with("/api") {
        found.add("stomp.path", "must begin with `/` and not with `/api`");
    }
    if stomp.enabled && config.client.enabled && stomp.path == config.client.path {
        found.add("stomp.path", "the same path as client.path");
    }
    found.span("stomp.heartbeat", stomp.heartbeat, second, hour);
    found.size("stomp.max_frame_bytes", stomp.max_frame_bytes, Size(64 << 10), Size(16 << 20));
    found.size("stomp.queue_max_bytes", stomp.queue_max_bytes, Size(64 << 10), Size(1 << 30));
    found.number("stomp.subscriptions_max", stomp.subscriptions_max as u64, 1, 128);
    found.number("stomp.unacked_max", stomp.unacked_max.into(), 1, u64::from(u16::MAX));
    found.number("stomp.queue_depth", stomp.queue_depth as u64, 1, 1_000_000);
    let (min, max) = (Size(64 << 10), Size(16 << 30));
    found.size("stomp.queue_depth_bytes", stomp.queue_depth_bytes, min, max);
    let (min, max) = (Size(1 << 20), Size(256 << 30));
    found.size("stomp.queue_total_bytes", stomp.queue_total_bytes, min, max);
    found.number("stomp.queue_deliveries", stomp.queue_deliveries.into(), 1, 1_000);
    found.span("stomp.queue_work_time", stomp.queue_work_time, second, Span::seconds(86_400));
    found.span("stomp.connect_timeout", stomp.connect_timeout, second, Span::seconds(300));
    found.span("stomp.write_timeout", stomp.write_timeout, second, hour);
    found.number("stomp.connections_max", stomp.connections_max as u64, 1, 10_000_000);
    let per_address = stomp.connections_per_address as u64;
    found.number("stomp.connections_per_address", per_address, 1, 10_000_000);
    if stomp.frames_per_second > 0 && stomp.frames_burst == 0 {
        found.add("stomp.frames_burst", "must be at least 1 when frames_per_second is set");
    }
}

fn check_channels(config: &Config, found: &mut Found) {
    let channels = &config.channels;
    let named = channels.namespaces.iter();
    let named = named.map(|(name, options)| (format!("channels.namespaces.{name}"), options));
    for name in channels.namespaces.keys() {
        let is_fine = name.len() >= 2
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        if !is_fine {
            let message = "a name has two or more letters, digits, `-`, `_` or `.`";
            found.add(&format!("channels.namespaces.{name}"), message);
        }
    }
    for (key, options) in named.chain([("channels.default".to_owned(), &channels.default)]) {
        if let Err(error) = regex::Regex::new(&options.channel_regex) {
            found.add(&format!("{key}.channel_regex"), error.to_string());
        }
        for kind in &options.allowed_delta_types {
            if kind != "fossil" {
                found.add(&format!("{key}.allowed_delta_types"), format!("`{kind}` is not known"));
            }
        }
        let is_talk = OF_BOTS.iter().any(|name| key == format!("channels.namespaces.{name}"));
        let is_on_disk = options.history_size > 0 && options.durability != DurabilityName::Memory;
        if is_talk && is_on_disk && config.store.encryption_key_file.is_some() {
            let message = "must be memory: with store.encryption_key_file what people say is not \
                           to stand on the disk, and the history of channels is not encrypted";
            found.add(&format!("{key}.durability"), message);
        }
        let needs_history = options.force_recovery || options.force_positioning;
        if needs_history && options.history_size == 0 {
            let message = "recovery and positions need history_size above 0";
            found.add(&format!("{key}.history_size"), message);
        }
    }
}

/// Paths are appended to it, so it may have nothing behind its own.
fn public_url_problem(text: &str) -> Option<&'static str> {
    if text.is_empty() {
        return None;
    }
    let Ok(url) = reqwest::Url::parse(text) else { return Some("is no URL") };
    if !["http", "https"].contains(&url.scheme()) || !url.has_host() {
        return Some("must begin with http:// or https:// and a host");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Some("must not hold credentials: webhook bots are told it");
    }
    if text.contains(['?', '#', '{', '}']) || text.contains(char::is_whitespace) {
        return Some("must have no query, fragment, braces or blanks");
    }
    (text.len() > 1_000).then_some("is longer than 1000 bytes")
}

fn check_bridge(config: &Config, found: &mut Found) {
    let bridge = &config.bridge;
    let (second, hour) = (Span::seconds(1), Span::seconds(3_600));
    found.span("bridge.ping_interval", bridge.ping_interval, second, hour);
    found.span("bridge.handshake_timeout", bridge.handshake_timeout, second, Span::seconds(300));
    found.span("bridge.idle_timeout", bridge.idle_timeout, second, hour);
    found.span("bridge.write_timeout", bridge.write_timeout, second, hour);
    if bridge.idle_timeout.0 < bridge.ping_interval.0 * 2 {
        found.add("bridge.idle_timeout", "must be at least twice bridge.ping_interval");
    }
    found.number("bridge.connections_max", bridge.connections_max as u64, 1, 1_000_000);
    let per_address = bridge.connections_per_address as u64;
    found.number("bridge.connections_per_address", per_address, 1, 1_000_000);
    let attempts = bridge.attempts_per_minute as u64;
    found.number("bridge.attempts_per_minute", attempts, 1, 100_000_000);
    found.size("bridge.max_frame_bytes", bridge.max_frame_bytes, Size(1 << 10), Size(16 << 20));
    found.number("bridge.max_text_units", bridge.max_text_units as u64, 1, 1_000_000);
    found.number("bridge.pad_frames_to", bridge.pad_frames_to as u64, 0, 65_536);
    if bridge.frames_per_second > 0 && bridge.frames_burst == 0 {
        found.add("bridge.frames_burst", "must be at least 1 when frames_per_second is set");
    }
    for (bot, key) in &bridge.keys {
        let at = |field: &str| format!("bridge.keys.{bot}.{field}");
        if key.secret.is_empty() && key.secret_file.is_none() {
            found.add(&at("secret"), "is missing (or give secret_file)");
        }
        if !key.secret.is_empty() && key.secret_file.is_some() {
            found.add(&at("secret_file"), "give either secret or secret_file");
        }
        if key.salt.is_empty() {
            found.add(&at("salt"), "is missing");
        }
    }
}

fn check_bots(config: &Config, found: &mut Found) {
    let bots = &config.bots;
    let (second, hour) = (Span::seconds(1), Span::seconds(3_600));
    found.number("bots.workers", bots.workers as u64, 1, 1_000);
    found.number("bots.queue", bots.queue as u64, 1, 1_000_000);
    found.number("bots.per_bot", bots.per_bot as u64, 1, 1_000);
    found.number("bots.per_room", bots.per_room as u64, 1, 100);
    found.span("bots.timeout", bots.timeout, second, hour);
    found.span("bots.stuck_check", bots.stuck_check, second, hour);
    let (min, max) = (Span::seconds(10), Span::seconds(86_400));
    found.span("bots.system_monitor", bots.system_monitor, min, max);
    if bots.durability == DurabilityName::Memory {
        found.add("bots.durability", "must be os or disk; `processing = \"direct\"` keeps nothing");
    }
    let hooks = &config.hooks;
    let tenth = Span(Duration::from_millis(100));
    found.span("hooks.connect_timeout", hooks.connect_timeout, tenth, Span::seconds(60));
    found.span("hooks.timeout", hooks.timeout, tenth, Span::seconds(300));
    found.number("hooks.attempts", u64::from(hooks.attempts), 1, HOOK_ATTEMPTS_MAX.into());
    found.number("hooks.concurrency", hooks.concurrency as u64, 1, 1_000);
    let (min, max) = (Size(1 << 10), Size(64 << 20));
    found.size("hooks.max_response_bytes", hooks.max_response_bytes, min, max);
}

fn check_store(config: &Config, found: &mut Found) {
    let store = &config.store;
    if store.url != "sqlite" {
        found.add("store.url", "only `sqlite` is served by this version");
    }
    found.number("store.readers", u64::from(store.readers), 1, 64);
    let min = Span(Duration::from_millis(10));
    found.span("store.acquire_timeout", store.acquire_timeout, min, Span::seconds(60));
    found.span("store.statement_timeout", store.statement_timeout, min, Span::seconds(600));
    let retention = &config.retention;
    let spans = [
        ("messages", retention.messages),
        ("replies", retention.replies),
        ("dead_letters", retention.dead_letters),
        ("pings", retention.pings),
        ("system_samples", retention.system_samples),
        ("schedule_runs", retention.schedule_runs),
        ("send_keys", retention.send_keys),
    ];
    for (name, span) in spans {
        let (min, max) = (Span::seconds(86_400), Span::seconds(36_600 * 86_400));
        found.span(&format!("retention.{name}"), span, min, max);
    }
    let limits = &config.limits;
    found.number("limits.mailbox_messages", limits.mailbox_messages as u64, 1, 1_000_000);
    if limits.user_commands_per_second > 0 && limits.user_commands_burst == 0 {
        let message = "must be at least 1 when user_commands_per_second is set";
        found.add("limits.user_commands_burst", message);
    }
    found.size("limits.mailbox_bytes", limits.mailbox_bytes, Size(1 << 20), Size(16 << 30));
}

fn check_users(config: &Config, found: &mut Found) {
    for user in &config.users {
        if user.name.is_empty() || user.name.len() > 128 {
            found.add("users", "a name has 1 to 128 bytes");
        }
        if user.password.is_empty() == user.password_file.is_none() {
            found.add("users", format!("`{}` needs password or password_file", user.name));
        }
    }
}
