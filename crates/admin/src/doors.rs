//! Paths of this listener that lead elsewhere, such as WebSockets: who serves them is told here, and the
//! listener knows nothing more about it.

use async_trait::async_trait;
use axum::extract::Request;
use axum::response::Response;

use std::net::SocketAddr;

pub use crate::server::HttpSocket;

/// A request for another service, as it came in.
pub struct Knock {
    /// The request; it can be upgraded.
    pub request: Request,
    /// Who really asks, behind trusted proxies.
    pub peer: SocketAddr,
    /// The connection is encrypted: its socket is a `tokio_rustls::server::TlsStream<HttpSocket>`
    /// instead of a [`HttpSocket`].
    pub is_tls: bool,
}

/// Services behind the same listener.
#[async_trait]
pub trait Doors: Send + Sync + 'static {
    /// Whether a path is theirs.
    fn serves(&self, path: &str) -> bool;

    /// Answers a request for such a path.
    async fn answer(&self, knock: Knock) -> Response;
}
