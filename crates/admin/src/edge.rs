//! What happens to every request before its route and to every answer after it: a number, bounds in
//! rate and time, panics caught, errors written as JSON, headers that protect browsers, and figures.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Instant;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Query, Request};
use axum::http::{HeaderName, HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt as _;
use hyper::body::{Frame, SizeHint};
use serde_json::json;
use tokio_util::task::TaskTracker;
use tower_service::Service as _;

use crate::auth::rate_limited;
use crate::doors::{Doors, Knock};
use crate::error::{ApiError, Code, Problem};
use crate::options::{real_source, source_key};
use crate::routes::{RouteSeen, Source};
use crate::state::Api;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Names of query parameters that carry credentials elsewhere; here they are refused, since addresses
/// end up in logs, histories and referrers.
const CREDENTIAL_PARAMETERS: [&str; 6] =
    ["token", "access_token", "refresh_token", "api_key", "apikey", "password"];

/// Serves requests of all connections.
pub(crate) struct Edge {
    api: Api,
    router: Router,
    /// Changes that go on even if their client leaves.
    changes: TaskTracker,
    is_tls: bool,
    doors: Option<Arc<dyn Doors>>,
}

impl Edge {
    pub(crate) fn new(
        api: Api,
        router: Router,
        changes: TaskTracker,
        doors: Option<Arc<dyn Doors>>,
    ) -> Edge {
        let is_tls = api.options.tls.is_some();
        Edge { api, router, changes, is_tls, doors }
    }

    /// Answers one request. Never fails.
    pub(crate) async fn answer(&self, request: Request, peer: SocketAddr) -> Response {
        let started = Instant::now();
        let request_id = request_id(&request);
        if let Some(doors) = self.doors.as_ref().filter(|doors| doors.serves(request.uri().path()))
        {
            let response = self.pass_on(doors.as_ref(), request, peer).await;
            return self.finish(response, &request_id);
        }
        let seen = RouteSeen(Arc::new(AtomicUsize::new(usize::MAX)));
        let response = match self.screen(&request, peer) {
            Ok(source) => self.dispatch(request, source, seen.clone()).await,
            Err(error) => error.into_response(),
        };
        let response = self.finish(response, &request_id);
        self.measured(response, started, seen.0.load(Relaxed))
    }

    /// A request for another service. It has limits of its own; but no credential may stand in any
    /// address.
    async fn pass_on(&self, doors: &dyn Doors, request: Request, peer: SocketAddr) -> Response {
        if has_credential(request.uri()) {
            return ApiError::plain(Code::TokenInUrl).into_response();
        }
        let forwarded = request.headers().get("x-forwarded-for");
        let forwarded = forwarded.and_then(|value| value.to_str().ok());
        let source = real_source(peer.ip(), forwarded, &self.api.options.trusted_proxies);
        let peer = SocketAddr::new(source, peer.port());
        doors.answer(Knock { request, peer, is_tls: self.is_tls }).await
    }

    fn screen(&self, request: &Request, peer: SocketAddr) -> Result<Source, ApiError> {
        let options = &self.api.options;
        let forwarded = request.headers().get("x-forwarded-for");
        let forwarded = forwarded.and_then(|value| value.to_str().ok());
        let source = real_source(peer.ip(), forwarded, &options.trusted_proxies);
        // Probes must get through whatever else comes from the same address.
        if !request.uri().path().starts_with("/health/") {
            self.api.per_source.take(&source_key(source), Instant::now()).map_err(|wait| {
                self.api.metrics.rate_limited.increment();
                rate_limited(wait)
            })?;
        }
        if has_credential(request.uri()) {
            return Err(ApiError::plain(Code::TokenInUrl));
        }
        Ok(Source(source.to_string().into()))
    }

    async fn dispatch(&self, mut request: Request, source: Source, seen: RouteSeen) -> Response {
        let is_change = !request.method().is_safe();
        request.extensions_mut().insert(source);
        request.extensions_mut().insert(seen);
        let work = self.router.clone().call(request);
        let work = AssertUnwindSafe(work).catch_unwind();
        let limit = self.api.options.limits.request_timeout;
        let done = if is_change {
            // A task of its own: a client that leaves must not stop a change between its audit
            // entry and its end.
            let task = self.changes.spawn(work);
            tokio::time::timeout(limit, task).await.map(|joined| match joined {
                Ok(done) => done,
                Err(error) => Err(Box::new(error) as _),
            })
        } else {
            tokio::time::timeout(limit, work).await
        };
        match done {
            Ok(Ok(Ok::<Response, Infallible>(response))) => response,
            Ok(Err(_panic)) => {
                self.api.metrics.panics.increment();
                tracing::error!(target: "naru::admin", "request handler panicked");
                ApiError::plain(Code::Internal).into_response()
            }
            Err(_elapsed) => ApiError::plain(Code::TimedOut).into_response(),
        }
    }

    fn finish(&self, mut response: Response, request_id: &HeaderValue) -> Response {
        if let Some(problem) = response.extensions_mut().remove::<Problem>() {
            let body = json!({ "error": {
                "code": problem.code.label(),
                "message": problem.message,
                "request_id": request_id.to_str().unwrap_or_default(),
            }});
            *response.body_mut() = Body::from(body.to_string());
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            headers.remove(header::CONTENT_LENGTH);
        }
        let headers = response.headers_mut();
        headers.insert(REQUEST_ID, request_id.clone());
        for (name, value) in [
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::X_FRAME_OPTIONS, "DENY"),
            (header::REFERRER_POLICY, "no-referrer"),
            (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
            (header::CACHE_CONTROL, "no-store"),
        ] {
            headers.entry(name).or_insert(HeaderValue::from_static(value));
        }
        if self.is_tls {
            let value = HeaderValue::from_static("max-age=31536000");
            headers.insert(header::STRICT_TRANSPORT_SECURITY, value);
        }
        response
    }

    fn measured(&self, response: Response, started: Instant, route: usize) -> Response {
        let figures = self.api.metrics.route(route);
        figures.first_byte.observe(started.elapsed());
        let class = usize::from(response.status().as_u16() / 100).clamp(1, 5) - 1;
        figures.answers[class].increment();
        let api = self.api.clone();
        response.map(|inner| Body::new(MeasuredBody { inner, api, started, route }))
    }
}

/// The client's own number, if it looks like one, so that both sides' logs can be joined.
fn request_id(request: &Request) -> HeaderValue {
    const LEN_MAX: usize = 64;
    let is_fine = |value: &&HeaderValue| {
        let bytes = value.as_bytes();
        (1..=LEN_MAX).contains(&bytes.len())
            && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
    };
    request.headers().get(REQUEST_ID).filter(is_fine).cloned().unwrap_or_else(|| {
        HeaderValue::from_str(&uuid::Uuid::now_v7().to_string())
            .expect("invariant: a UUID is made of letters, digits and dashes")
    })
}

fn has_credential(uri: &Uri) -> bool {
    if uri.query().is_none() {
        return false;
    }
    let Ok(Query(parameters)) = Query::<Vec<(String, String)>>::try_from_uri(uri) else {
        return false; // The route's own reading of the query will refuse it.
    };
    parameters.iter().any(|(name, _)| {
        CREDENTIAL_PARAMETERS.iter().any(|credential| name.eq_ignore_ascii_case(credential))
    })
}

/// Notes when the last byte was taken, or the client left.
struct MeasuredBody {
    inner: Body,
    api: Api,
    started: Instant,
    route: usize,
}

impl hyper::body::Body for MeasuredBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for MeasuredBody {
    fn drop(&mut self) {
        self.api.metrics.route(self.route).last_byte.observe(self.started.elapsed());
    }
}
