//! The HTTP request that becomes a WebSocket: the answer, and then the socket without hyper around it.

use bytes::BytesMut;
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode, Version, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use naru_wire::ws::{HandshakeError, check_request};

/// Why a request does not become a WebSocket.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// The request is not one for a WebSocket; the client is told with [`refusal`].
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// Our HTTP server does not let go of its connections: a mistake in the wiring.
    #[error("the connection cannot be upgraded")]
    NotUpgradable,
    /// The connection ended before the answer was sent.
    #[error("the upgrade did not come about")]
    Lost(#[source] hyper::Error),
    /// The HTTP server serves another type of socket: a mistake in the wiring.
    #[error("the upgraded connection is of another type")]
    WrongSocket,
}

/// A connection on its way from hyper to us.
#[derive(Debug)]
pub struct Upgrading {
    upgrade: OnUpgrade,
    protocol: Option<&'static str>,
    deflate_window_bits: Option<u8>,
}

/// Answers an upgrade request with 101: send the response, then await [`Upgrading::into_socket`] in the
/// task that is to own the connection. hyper must serve `with_upgrades`.
///
/// `protocols` are ours, best first; [`Upgrading::protocol`] says which one the client wants, too. Check
/// `Origin` and admission before.
///
/// # Errors
/// Answer with [`refusal`].
pub fn upgrade(
    request: &mut Parts,
    protocols: &[&'static str],
    offers_deflate: bool,
) -> Result<(Response<()>, Upgrading), UpgradeError> {
    let version = match request.version {
        Version::HTTP_11 => (1, 1),
        Version::HTTP_2 => (2, 0),
        _ => (1, 0),
    };
    let headers = request.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    let asked = check_request(request.method.as_str(), version, headers)?;
    let accepted = asked.negotiate(protocols, offers_deflate);
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let answer = response.headers_mut();
    answer.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    answer.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    let mut insert = |name, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            answer.insert(name, value);
        }
    };
    insert(header::SEC_WEBSOCKET_ACCEPT, asked.accept());
    if let Some(protocol) = accepted.protocol {
        insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    if let Some(extensions) = accepted.extensions() {
        insert(header::SEC_WEBSOCKET_EXTENSIONS, &extensions);
    }
    let upgrading = Upgrading {
        protocol: accepted.protocol,
        deflate_window_bits: accepted.deflate_window_bits,
        upgrade: request.extensions.remove::<OnUpgrade>().ok_or(UpgradeError::NotUpgradable)?,
    };
    Ok((response, upgrading))
}

/// The answer to a request that does not become a WebSocket; the body says why, in words.
#[must_use]
pub fn refusal(error: &UpgradeError) -> Response<String> {
    let mut response = Response::new(format!("{error}\n"));
    let UpgradeError::Handshake(error) = error else {
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        return response;
    };
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    match status {
        StatusCode::METHOD_NOT_ALLOWED => {
            headers.insert(header::ALLOW, HeaderValue::from_static("GET"));
        }
        StatusCode::UPGRADE_REQUIRED => {
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        }
        _ => {}
    }
    response
}

impl Upgrading {
    /// The subprotocol of the answer, if there is one.
    #[must_use]
    pub fn protocol(&self) -> Option<&'static str> {
        self.protocol
    }

    /// What [`WsOptions::deflate_window_bits`](super::WsOptions::deflate_window_bits) is to be.
    #[must_use]
    pub fn deflate_window_bits(&self) -> Option<u8> {
        self.deflate_window_bits
    }

    /// Waits until the answer is sent and takes the socket out of hyper, which was given it as
    /// `TokioIo<S>`, with the bytes of the client that hyper had already read.
    ///
    /// Neither hyper's dispatch nor its read buffer stays: they would be several times what an idle
    /// connection costs us.
    ///
    /// # Errors
    /// The connection is lost, or of another type than `S`.
    pub async fn into_socket<S>(self) -> Result<(S, BytesMut), UpgradeError>
    where
        TokioIo<S>: hyper::rt::Read + hyper::rt::Write + Unpin + 'static,
    {
        let upgraded = self.upgrade.await.map_err(UpgradeError::Lost)?;
        let parts =
            upgraded.downcast::<TokioIo<S>>().map_err(|_other| UpgradeError::WrongSocket)?;
        let leftover = if parts.read_buf.is_empty() {
            BytesMut::new()
        } else {
            BytesMut::from(&parts.read_buf[..])
        };
        Ok((parts.io.into_inner(), leftover))
    }
}
