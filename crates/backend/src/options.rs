//! What the installation says about the application.

use std::time::Duration;

use naru_outbound::{AddressError, AddressGuard, BreakerOptions, Secrets, TargetError};

/// Where one event goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointOptions {
    /// The url; it may have a query.
    pub url: String,
    /// How long an answer may take in all, a repeated call included.
    pub timeout: Duration,
}

/// The application and the bounds of what it is asked.
#[derive(Clone, Debug)]
pub struct BackendOptions {
    /// For each of [`crate::Event::ALL`], where it goes; `None` is not asked.
    pub endpoints: [Option<EndpointOptions>; 8],
    /// What signs the calls; without it they are not signed.
    pub secrets: Option<Secrets>,
    /// Which addresses may be reached.
    pub guard: AddressGuard,
    /// How long a TCP connection (and TLS) may take.
    pub dial_timeout: Duration,
    /// Calls of one event at once; further ones are refused at once.
    pub in_flight_max: usize,
    /// The longest answer, in bytes.
    pub body_bytes_max: usize,
    /// HTTP headers of clients that are passed on, in small letters.
    pub headers: Vec<String>,
    /// Whether requests carry what the application keeps with the connection.
    pub includes_meta: bool,
    /// Whether all payloads travel in base64, also those that are JSON.
    pub is_binary: bool,
    /// When an event is left alone.
    pub breaker: BreakerOptions,
    /// Ends of connections that may wait to be told.
    pub farewells_max: usize,
    /// How long they may take when the node stops.
    pub flush_timeout: Duration,
}

impl Default for BackendOptions {
    fn default() -> BackendOptions {
        BackendOptions {
            endpoints: [const { None }; 8],
            secrets: None,
            guard: AddressGuard::public_only(),
            dial_timeout: Duration::from_secs(1),
            in_flight_max: 100,
            body_bytes_max: 1024 * 1024,
            headers: Vec::new(),
            includes_meta: false,
            is_binary: false,
            // Shorter than for webhooks: people wait, and their SDKs try again by themselves.
            breaker: BreakerOptions {
                open_for: Duration::from_secs(1),
                open_for_max: Duration::from_secs(10),
                ..BreakerOptions::default()
            },
            farewells_max: 10_000,
            flush_timeout: Duration::from_secs(3),
        }
    }
}

/// Why the application cannot be set up. Found at start or by `naru check`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackendError {
    /// An endpoint makes no sense.
    #[error("{event}: {source}")]
    Endpoint {
        /// Which.
        event: &'static str,
        /// Why.
        source: TargetError,
    },
    /// The HTTP client could not be made.
    #[error("the HTTP client cannot be made: {reason}")]
    Client {
        /// Why.
        reason: String,
    },
    /// A header cannot be passed on.
    #[error("the header `{name}` cannot be passed on: {reason}")]
    Header {
        /// Which.
        name: String,
        /// Why.
        reason: &'static str,
    },
}

/// Headers passed on to the application (guessed: cookies, authorization, addresses, languages).
pub(crate) const HEADERS_MAX: usize = 32;

impl BackendOptions {
    /// Says where an event goes.
    #[must_use]
    pub fn with_endpoint(mut self, event: crate::Event, endpoint: EndpointOptions) -> Self {
        self.endpoints[event.index()] = Some(endpoint);
        self
    }

    /// Everything that can be said without making a connection.
    pub fn check(&self) -> Result<(), BackendError> {
        for (event, endpoint) in crate::Event::ALL.into_iter().zip(&self.endpoints) {
            if let Some(endpoint) = endpoint {
                self.guard.check_url(&endpoint.url).map_err(|source: AddressError| {
                    BackendError::Endpoint { event: event.label(), source: source.into() }
                })?;
            }
        }
        self.header_names().map(drop)
    }

    pub(crate) fn header_names(&self) -> Result<Vec<http::HeaderName>, BackendError> {
        let wrong = |name: &str, reason| BackendError::Header { name: name.to_owned(), reason };
        if self.headers.len() > HEADERS_MAX {
            return Err(wrong(&self.headers[HEADERS_MAX], "at most 32 are passed on"));
        }
        let mut names = Vec::with_capacity(self.headers.len());
        for name in &self.headers {
            let lower = name.to_ascii_lowercase();
            let parsed = http::HeaderName::from_bytes(lower.as_bytes())
                .map_err(|_| wrong(name, "it is no name of a header"))?;
            if is_ours(&lower) {
                return Err(wrong(name, "it belongs to the call itself"));
            }
            names.push(parsed);
        }
        Ok(names)
    }
}

/// Headers that say something about the connection they came on, or that we set ourselves.
fn is_ours(name: &str) -> bool {
    const OURS: [&str; 18] = [
        "accept",
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "idempotency-key",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "traceparent",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
    ];
    OURS.contains(&name) || name.starts_with("sec-websocket-") || name.starts_with("naru-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Event;

    #[test]
    fn mistakes_are_named_with_their_place() {
        let check = |change: fn(&mut BackendOptions), expected: &str| {
            let mut options = BackendOptions::default();
            change(&mut options);
            let error = options.check().expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}");
        };
        let endpoint = |url: &str| {
            Some(EndpointOptions { url: url.to_owned(), timeout: Duration::from_secs(1) })
        };
        check(
            |options| {
                options.endpoints[Event::Rpc.index()] = Some(EndpointOptions {
                    url: "http://127.0.0.1:1/".to_owned(),
                    timeout: Duration::from_secs(1),
                });
            },
            "rpc: 127.0.0.1 is loopback",
        );
        check(|options| options.headers = vec!["a b".to_owned()], "`a b`");
        check(|options| options.headers = vec!["Upgrade".to_owned()], "`Upgrade`");
        check(|options| options.headers = vec!["Naru-Signature".to_owned()], "itself");
        check(|options| options.headers = vec!["x-a".to_owned(); 33], "at most 32");
        let fine = BackendOptions {
            endpoints: std::array::from_fn(|_| endpoint("https://app.example.org/hook")),
            headers: vec!["Cookie".to_owned(), "X-Real-Ip".to_owned()],
            ..BackendOptions::default()
        };
        assert_eq!(fine.check(), Ok(()));
    }
}
