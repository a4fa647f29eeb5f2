//! Centrifuge without a WebSocket, for networks that let none through: the requests of HTTP that stand for
//! it, with what browsers want to hear about other origins. The connections themselves are the gateway's.

use std::time::Duration;

use admin::doors::Knock;
use axum::body::{Body, to_bytes};
use axum::extract::Query;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use naru_admin as admin;
use naru_gateways::centrifuge::{
    ClientGateway, EmulatedOpening, Transport, Undelivered, carries_token,
};
use naru_wire::centrifuge::{Protocol, decode_emulation};
use tokio::time::timeout;

use crate::chat::plain;

/// The paths that SDKs ask for unless they are told others.
pub(crate) const HTTP_STREAM: &str = "/connection/http_stream";
pub(crate) const SSE: &str = "/connection/sse";
pub(crate) const EMULATION: &str = "/emulation";

/// A request that is not there as a whole after so long is none.
const BODY_TIMEOUT: Duration = Duration::from_secs(15);
/// A browser asks again after so many seconds whether a page may.
const PREFLIGHT_SECONDS: &str = "600";

/// Why a request gets nothing: a status, and a line for people.
type Refusal = (StatusCode, &'static str);

/// Whether a path is one of them.
pub(crate) fn serves(path: &str) -> bool {
    [HTTP_STREAM, SSE, EMULATION].contains(&path)
}

/// Answers a request from a page that may ask.
pub(crate) async fn answer(gateway: &ClientGateway, knock: Knock) -> Response {
    let origin = knock.request.headers().get(header::ORIGIN).cloned();
    let answered = match (knock.request.method(), knock.request.uri().path()) {
        (&Method::OPTIONS, _) => Ok(preflight()),
        (&Method::POST, EMULATION) => pass_on(gateway, knock.request).await,
        (&Method::POST, HTTP_STREAM) => open(gateway, knock, Transport::HttpStream).await,
        (&Method::GET | &Method::POST, SSE) => open(gateway, knock, Transport::Sse).await,
        _ => Err((StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n")),
    };
    let mut response = answered.unwrap_or_else(|(status, why)| plain(status, why));
    let headers = response.headers_mut();
    if let Some(origin) = origin {
        // Not `*`: pages ask with credentials.
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        insert(headers, header::ACCESS_CONTROL_ALLOW_CREDENTIALS, "true");
        insert(headers, header::VARY, "origin");
    }
    response
}

fn preflight() -> Response {
    let mut response = plain(StatusCode::NO_CONTENT, "");
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_TYPE);
    insert(headers, header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, OPTIONS");
    insert(headers, header::ACCESS_CONTROL_ALLOW_HEADERS, "content-type");
    insert(headers, header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_SECONDS);
    response
}

/// The long answer: everything that the server says on this connection.
async fn open(
    gateway: &ClientGateway,
    knock: Knock,
    transport: Transport,
) -> Result<Response, Refusal> {
    let Knock { request, peer, .. } = knock;
    let full = || (StatusCode::SERVICE_UNAVAILABLE, "too many connections\n");
    let permit = gateway.admit(peer).map_err(|_| full())?;
    let protocol = match transport {
        Transport::HttpStream => protocol(request.headers()),
        Transport::Sse => Protocol::Json,
    };
    let first = if request.method() == Method::GET {
        let first = in_address(request.uri())?;
        if carries_token(protocol, first.clone()) {
            return Err((
                StatusCode::BAD_REQUEST,
                "token_in_url: no credential may stand in an address; use http_stream, or POST\n",
            ));
        }
        first
    } else {
        body(request, gateway.message_bytes_max()).await?
    };
    if first.is_empty() || first.len() > gateway.message_bytes_max() {
        return Err((StatusCode::BAD_REQUEST, "the first commands are missing or too long\n"));
    }
    let opening = EmulatedOpening { peer, transport, protocol };
    let stream = gateway.open_emulated(permit, opening, &first).map_err(|_| full())?;
    let mut response = Response::new(Body::new(stream));
    let headers = response.headers_mut();
    let kind = match (transport, protocol) {
        (Transport::Sse, _) => "text/event-stream",
        (Transport::HttpStream, Protocol::Json) => "application/json",
        (Transport::HttpStream, Protocol::Protobuf) => "application/octet-stream",
    };
    insert(headers, header::CONTENT_TYPE, kind);
    insert(headers, header::CACHE_CONTROL, "private, no-cache, no-store, no-transform");
    // Proxies must pass on what is there.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// What a client says beside its stream.
async fn pass_on(gateway: &ClientGateway, request: Request<Body>) -> Result<Response, Refusal> {
    let protocol = protocol(request.headers());
    // A frame in a string of JSON may be twice as long as it is.
    let max = gateway.message_bytes_max();
    let body = body(request, 2 * max + 1024).await?;
    let request = decode_emulation(protocol, &body)
        .map_err(|_| (StatusCode::BAD_REQUEST, "the body cannot be read\n"))?;
    if request.data.len() > max {
        return Err((StatusCode::PAYLOAD_TOO_LARGE, "the commands are too long\n"));
    }
    gateway.pass_on(&request).map_err(|why| match why {
        Undelivered::UnknownSession => (StatusCode::NOT_FOUND, "there is no such session\n"),
        Undelivered::TooMany => {
            (StatusCode::TOO_MANY_REQUESTS, "the session has more to read than it may\n")
        }
    })?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

fn protocol(headers: &HeaderMap) -> Protocol {
    match headers.get(header::CONTENT_TYPE) {
        Some(kind) if kind.as_bytes() == b"application/octet-stream" => Protocol::Protobuf,
        _ => Protocol::Json,
    }
}

fn in_address(uri: &Uri) -> Result<Bytes, Refusal> {
    let pairs = Query::<Vec<(String, String)>>::try_from_uri(uri)
        .map_err(|_| (StatusCode::BAD_REQUEST, "the query cannot be read\n"))?;
    let mut pairs = pairs.0.into_iter();
    let first = pairs.find(|(name, _)| name == "cf_connect");
    Ok(first.map_or_else(Bytes::new, |(_, value)| value.into()))
}

async fn body(request: Request<Body>, max: usize) -> Result<Bytes, Refusal> {
    match timeout(BODY_TIMEOUT, to_bytes(request.into_body(), max)).await {
        Ok(Ok(body)) => Ok(body),
        // Whoever broke off does not read this.
        Ok(Err(_)) => Err((StatusCode::PAYLOAD_TOO_LARGE, "the body is too long\n")),
        Err(_elapsed) => Err((StatusCode::REQUEST_TIMEOUT, "the body did not come\n")),
    }
}

fn insert(headers: &mut HeaderMap, name: header::HeaderName, value: &'static str) {
    headers.insert(name, HeaderValue::from_static(value));
}
