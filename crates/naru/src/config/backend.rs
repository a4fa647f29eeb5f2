//! `[backend]`: the application behind chat. Its structures, its rows of the reference, and its mistakes.

use std::path::PathBuf;
use std::time::Duration;

use naru_backend::{BackendError, BackendOptions, EndpointOptions, Event};
use naru_outbound::{AddressGuard, Secrets};
use serde::{Deserialize, Serialize};

use super::check::Found;
use super::model::Config;
use super::units::{Secret, Size, Span, read_secret_file};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Backend {
    pub(crate) secret: Secret,
    pub(crate) secret_file: Option<PathBuf>,
    pub(crate) previous_secret: Secret,
    pub(crate) allow: Vec<String>,
    pub(crate) dial_timeout: Span,
    pub(crate) timeout: Span,
    pub(crate) concurrency: usize,
    pub(crate) max_response_bytes: Size,
    pub(crate) http_headers: Vec<String>,
    pub(crate) include_connection_meta: bool,
    pub(crate) binary_encoding: bool,
    pub(crate) disconnected_queue: usize,
    pub(crate) connect: Endpoint,
    pub(crate) refresh: Endpoint,
    pub(crate) subscribe: Endpoint,
    pub(crate) sub_refresh: Endpoint,
    pub(crate) publish: Endpoint,
    pub(crate) rpc: Endpoint,
    pub(crate) message: Endpoint,
    pub(crate) disconnected: Endpoint,
}

/// Where one event goes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Endpoint {
    pub(crate) endpoint: String,
    pub(crate) timeout: Option<Span>,
}

impl Default for Backend {
    fn default() -> Backend {
        Backend {
            secret: Secret::default(),
            secret_file: None,
            previous_secret: Secret::default(),
            allow: Vec::new(),
            dial_timeout: Span::seconds(1),
            timeout: Span::seconds(1),
            concurrency: 100,
            max_response_bytes: Size(1 << 20),
            http_headers: Vec::new(),
            include_connection_meta: false,
            binary_encoding: false,
            disconnected_queue: 10_000,
            connect: Endpoint::default(),
            refresh: Endpoint::default(),
            subscribe: Endpoint::default(),
            sub_refresh: Endpoint::default(),
            publish: Endpoint::default(),
            rpc: Endpoint::default(),
            message: Endpoint::default(),
            disconnected: Endpoint::default(),
        }
    }
}

impl Backend {
    fn endpoint(&self, event: Event) -> &Endpoint {
        match event {
            Event::Connect => &self.connect,
            Event::Refresh => &self.refresh,
            Event::Subscribe => &self.subscribe,
            Event::SubRefresh => &self.sub_refresh,
            Event::Publish => &self.publish,
            Event::Rpc => &self.rpc,
            Event::Message => &self.message,
            Event::Disconnected => &self.disconnected,
        }
    }

    /// Whether anything is asked at all.
    pub(crate) fn is_set(&self) -> bool {
        Event::ALL.into_iter().any(|event| !self.endpoint(event).endpoint.is_empty())
    }

    /// The adapter's options; `flush_timeout` is what a shutdown leaves for ends of connections.
    pub(crate) fn options(&self, flush_timeout: Duration) -> Result<BackendOptions, String> {
        let guard = AddressGuard::allowing(&self.allow)
            .map_err(|error| format!("backend.allow: {error}"))?;
        let mut options =
            BackendOptions { secrets: self.secrets()?, flush_timeout, ..self.bare_options(guard) };
        for event in Event::ALL {
            let Endpoint { endpoint, timeout } = self.endpoint(event);
            if !endpoint.is_empty() {
                let timeout = timeout.unwrap_or(self.timeout).0;
                let endpoint = EndpointOptions { url: endpoint.clone(), timeout };
                options = options.with_endpoint(event, endpoint);
            }
        }
        Ok(options)
    }

    fn bare_options(&self, guard: AddressGuard) -> BackendOptions {
        BackendOptions {
            guard,
            dial_timeout: self.dial_timeout.0,
            in_flight_max: self.concurrency,
            body_bytes_max: self.max_response_bytes.as_usize(),
            headers: self.http_headers.clone(),
            includes_meta: self.include_connection_meta,
            is_binary: self.binary_encoding,
            farewells_max: self.disconnected_queue,
            ..BackendOptions::default()
        }
    }

    fn secrets(&self) -> Result<Option<Secrets>, String> {
        let from_file = self.secret_file.as_ref().map(read_secret_file).transpose()?;
        let current = from_file.as_ref().unwrap_or(&self.secret);
        if current.is_empty() {
            return match &self.secret_file {
                Some(file) => Err(format!("backend.secret_file: {} is empty", file.display())),
                None => Ok(None),
            };
        }
        let secrets = Secrets::new(current.reveal());
        Ok(Some(match self.previous_secret.is_empty() {
            true => secrets,
            false => secrets.with_previous(self.previous_secret.reveal()),
        }))
    }
}

/// What is well-formed and still wrong.
pub(super) fn check(config: &Config, found: &mut Found) {
    let backend = &config.backend;
    let min = Span(Duration::from_millis(10));
    found.span("backend.dial_timeout", backend.dial_timeout, min, Span::seconds(60));
    found.number("backend.concurrency", backend.concurrency as u64, 1, 10_000);
    let (least, most) = (Size(1 << 10), Size(16 << 20));
    found.size("backend.max_response_bytes", backend.max_response_bytes, least, most);
    let queue = backend.disconnected_queue as u64;
    found.number("backend.disconnected_queue", queue, 1, 1_000_000);
    if !backend.secret.is_empty() && backend.secret_file.is_some() {
        found.add("backend.secret_file", "give either secret or secret_file");
    }
    let has_secret = !backend.secret.is_empty() || backend.secret_file.is_some();
    if !backend.previous_secret.is_empty() && !has_secret {
        found.add("backend.previous_secret", "needs secret beside it");
    }
    let timeouts = Event::ALL.into_iter().filter_map(|event| {
        let timeout = backend.endpoint(event).timeout?;
        Some((format!("backend.{}.timeout", event.label()), timeout))
    });
    for (key, timeout) in timeouts.chain([("backend.timeout".to_owned(), backend.timeout)]) {
        found.span(&key, timeout, min, Span::seconds(60));
        // A connection that waits for an answer reads nothing, pongs included.
        if config.client.enabled && backend.is_set() && timeout.0 >= config.client.pong_timeout.0 {
            found.add(&key, "must be shorter than client.pong_timeout");
        }
    }
    check_addresses(backend, found);
    check_namespaces(config, found);
}

fn check_addresses(backend: &Backend, found: &mut Found) {
    let guard = match AddressGuard::allowing(&backend.allow) {
        Ok(guard) => guard,
        Err(error) => return found.add("backend.allow", error.to_string()),
    };
    for event in Event::ALL {
        let Endpoint { endpoint, .. } = backend.endpoint(event);
        if !endpoint.is_empty()
            && let Err(error) = guard.check_url(endpoint)
        {
            let message = error.to_string().replace("the allow-list", "backend.allow");
            found.add(&format!("backend.{}.endpoint", event.label()), message);
        }
    }
    if let Err(error @ BackendError::Header { .. }) = backend.bare_options(guard).check() {
        found.add("backend.http_headers", error.to_string());
    }
}

/// A namespace that asks needs somebody to ask.
fn check_namespaces(config: &Config, found: &mut Found) {
    let named = config.channels.namespaces.iter();
    let named = named.map(|(name, options)| (format!("channels.namespaces.{name}"), options));
    for (key, options) in named.chain([("channels.default".to_owned(), &config.channels.default)]) {
        let asked = [
            (options.subscribe_proxy_enabled, "subscribe_proxy_enabled", Event::Subscribe),
            (options.publish_proxy_enabled, "publish_proxy_enabled", Event::Publish),
            (options.sub_refresh_proxy_enabled, "sub_refresh_proxy_enabled", Event::SubRefresh),
        ];
        for (is_on, option, event) in asked {
            if is_on && config.backend.endpoint(event).endpoint.is_empty() {
                let message = format!("needs backend.{}.endpoint", event.label());
                found.add(&format!("{key}.{option}"), message);
            }
        }
    }
}

/// These rows of the reference; see `model`.
pub(crate) const REFERENCE: &[(&str, &str)] = &[
    (
        "backend.secret",
        "Signs what the application is asked (`Naru-Signature`); empty does not sign.",
    ),
    ("backend.secret_file", "A file that holds the secret, instead of `secret`."),
    ("backend.previous_secret", "The secret before the last change: signs as well."),
    (
        "backend.allow",
        "Hosts and networks that endpoints may reach although they are private, such as [\"127.0.0.1\", \"10.0.0.0/8\"].",
    ),
    ("backend.dial_timeout", "To connect to the application, TLS included (10ms to 1m)."),
    (
        "backend.timeout",
        "For an answer in all, a repeated call included (10ms to 1m, shorter than `client.pong_timeout`).",
    ),
    (
        "backend.concurrency",
        "Calls of one event at once (1 to 10000); further ones fail at once with a temporary error.",
    ),
    ("backend.max_response_bytes", "Largest answer (1KiB to 16MiB)."),
    (
        "backend.http_headers",
        "Headers of clients that are passed on, such as [\"Cookie\", \"X-Real-Ip\"].",
    ),
    (
        "backend.include_connection_meta",
        "Requests carry the `meta` that the application keeps with a connection.",
    ),
    ("backend.binary_encoding", "All payloads travel in base64, also those that are JSON."),
    (
        "backend.disconnected_queue",
        "Ended connections that may wait to be told (1 to 1000000); further ones are not told.",
    ),
    ("backend.connect.endpoint", "Where it is asked who a client without a token is."),
    ("backend.connect.timeout", "Instead of `backend.timeout`; so for each event."),
    ("backend.refresh.endpoint", "Where it is asked whether a connection that ran out goes on."),
    ("backend.refresh.timeout", "See `backend.connect.timeout`."),
    (
        "backend.subscribe.endpoint",
        "Where it is asked who may subscribe, in namespaces with `subscribe_proxy_enabled`.",
    ),
    ("backend.subscribe.timeout", "See `backend.connect.timeout`."),
    (
        "backend.sub_refresh.endpoint",
        "Where it is asked whether a subscription that ran out goes on, in namespaces with `sub_refresh_proxy_enabled`.",
    ),
    ("backend.sub_refresh.timeout", "See `backend.connect.timeout`."),
    (
        "backend.publish.endpoint",
        "Where it is asked what may be published, in namespaces with `publish_proxy_enabled`.",
    ),
    ("backend.publish.timeout", "See `backend.connect.timeout`."),
    (
        "backend.rpc.endpoint",
        "Where calls of Centrifuge clients, STOMP's `/app/NAME` and `POST /api/rpc` go.",
    ),
    ("backend.rpc.timeout", "See `backend.connect.timeout`."),
    ("backend.message.endpoint", "Where messages without an answer go (`send`)."),
    ("backend.message.timeout", "See `backend.connect.timeout`."),
    ("backend.disconnected.endpoint", "Where it is told that a connection ended."),
    ("backend.disconnected.timeout", "See `backend.connect.timeout`."),
];

#[cfg(test)]
mod tests {
    use super::super::tests::mistakes;
    use super::*;

    #[test]
    fn mistakes_about_the_application_are_found() {
        let found = mistakes(
            r#"
            [backend]
            timeout = "8s"
            http_headers = ["Cookie", "Upgrade"]
            previous_secret = "canary"
            rpc.endpoint = "http://127.0.0.1:3000/rpc"
            connect.endpoint = "ftp://app.example.org/"
            connect.timeout = "1ms"
            [channels.namespaces.chat]
            subscribe_proxy_enabled = true
            "#,
        );
        let check = |key: &str, expected: &str| {
            let told = found.iter().any(|(at, told)| at == key && told.contains(expected));
            assert!(told, "{key}: {expected} is missing in {found:?}");
        };
        check("backend.timeout", "client.pong_timeout");
        check("backend.http_headers", "`Upgrade`");
        check("backend.previous_secret", "secret");
        check("backend.rpc.endpoint", "add it to backend.allow");
        check("backend.connect.endpoint", "scheme ftp");
        check("backend.connect.timeout", "outside 10ms to 1m");
        check("channels.namespaces.chat.subscribe_proxy_enabled", "backend.subscribe.endpoint");
        assert_eq!(found.len(), 7, "{found:?}");
    }

    #[test]
    fn the_defaults_are_those_of_the_adapter() {
        let made = Backend::default().options(Duration::from_secs(3)).unwrap();
        assert_eq!(format!("{made:?}"), format!("{:?}", BackendOptions::default()));
    }
}
