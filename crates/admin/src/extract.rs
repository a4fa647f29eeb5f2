//! Reads what a request brings (body, query, path, headers) and turns every mistake in it into a
//! precise answer. A malformed request never reaches a handler, and never becomes a 5xx.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use naru_domain::limits::{PAGE_ROWS_DEFAULT, PAGE_ROWS_MAX};
use naru_domain::work::Page;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;

use crate::auth::Caller;
use crate::error::{ApiError, Code};
use crate::options::BODY_BYTES_MAX;

/// Bodies above this are parsed on a blocking thread, so that they delay nobody else.
const INLINE_PARSE_BYTES_MAX: usize = 256 * 1024;

/// How a body may be; put into the request by the route's guard.
#[derive(Clone)]
pub(crate) struct BodyRules {
    pub(crate) bytes_max: usize,
    pub(crate) timeout: Duration,
    /// Places for bodies with media.
    pub(crate) media_places: Arc<Semaphore>,
}

/// A JSON body.
pub(crate) struct Body<T>(pub(crate) T);

impl<S, T> FromRequest<S> for Body<T>
where
    S: Send + Sync,
    T: DeserializeOwned + Send + 'static,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> Result<Body<T>, ApiError> {
        let rules = request.extensions().get::<BodyRules>().cloned();
        let rules = rules.ok_or_else(|| ApiError::plain(Code::Internal))?;
        if !is_json(request.headers()) {
            return Err(ApiError::plain(Code::UnsupportedMediaType));
        }
        let announced = request.headers().get(header::CONTENT_LENGTH);
        let announced = announced.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        if announced.is_some_and(|bytes| bytes > rules.bytes_max) {
            return Err(too_large(&rules));
        }
        let _place = if rules.bytes_max > BODY_BYTES_MAX {
            let place = Arc::clone(&rules.media_places).acquire_owned().await;
            Some(place.map_err(|_closed| ApiError::plain(Code::NotReady))?)
        } else {
            None
        };
        let bytes = read(request, &rules).await?;
        if bytes.len() <= INLINE_PARSE_BYTES_MAX {
            return parse(&bytes).map(Body);
        }
        let parsed = tokio::task::spawn_blocking(move || parse(&bytes)).await;
        parsed.map_err(|_panicked| ApiError::plain(Code::Internal))?.map(Body)
    }
}

async fn read(request: Request, rules: &BodyRules) -> Result<Bytes, ApiError> {
    let collected = Limited::new(request.into_body(), rules.bytes_max).collect();
    match tokio::time::timeout(rules.timeout, collected).await {
        Err(_elapsed) => Err(ApiError::plain(Code::RequestTimeout)),
        Ok(Err(error)) if error.downcast_ref::<LengthLimitError>().is_some() => {
            Err(too_large(rules))
        }
        Ok(Err(_broken)) => Err(ApiError::new(Code::BadJson, "the body ended too early")),
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(bytes).map_err(|error| {
        let code = if error.is_data() { Code::BadField } else { Code::BadJson };
        ApiError::new(code, clipped(&error.to_string()))
    })
}

fn too_large(rules: &BodyRules) -> ApiError {
    let message = format!("the body is larger than {} bytes", rules.bytes_max);
    ApiError::new(Code::TooLarge, message)
}

/// Serde's messages repeat what was sent: a whole picture, if that stood in the wrong place.
fn clipped(message: &str) -> String {
    const CHARS_MAX: usize = 300;
    let mut clipped: String = message.chars().take(CHARS_MAX).collect();
    if clipped.len() < message.len() {
        clipped.push('…');
    }
    clipped
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.and_then(|kind| kind.split(';').next())
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

/// The query parameters.
pub(crate) struct Asked<T>(pub(crate) T);

impl<S, T> FromRequestParts<S> for Asked<T>
where
    S: Send + Sync,
    T: DeserializeOwned,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Asked<T>, ApiError> {
        let Query(asked) = Query::<T>::try_from_uri(&parts.uri)
            .map_err(|error| ApiError::new(Code::BadQuery, clipped(&error.body_text())))?;
        Ok(Asked(asked))
    }
}

/// What stands for `{id}` or a name in the path.
pub(crate) struct InPath<T>(pub(crate) T);

impl<S, T> FromRequestParts<S> for InPath<T>
where
    S: Send + Sync,
    T: DeserializeOwned + Send,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<InPath<T>, ApiError> {
        let Path(value) = Path::<T>::from_request_parts(parts, state)
            .await
            .map_err(|error| ApiError::new(Code::BadPath, clipped(&error.body_text())))?;
        Ok(InPath(value))
    }
}

/// The revision in `If-Match`, if there is one.
pub(crate) struct IfMatch(Option<i64>);

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<IfMatch, ApiError> {
        let Some(value) = parts.headers.get(header::IF_MATCH) else { return Ok(IfMatch(None)) };
        let value = value.to_str().unwrap_or_default().trim();
        if value == "*" {
            return Ok(IfMatch(None));
        }
        let revision = value.strip_prefix("W/").unwrap_or(value).trim_matches('"').parse();
        let revision = revision
            .map_err(|_error| ApiError::field("If-Match holds one revision, like \"5\""))?;
        Ok(IfMatch(Some(revision)))
    }
}

impl IfMatch {
    /// The revision in the header or the one in the body; they must not disagree.
    pub(crate) fn or(&self, in_body: Option<i64>) -> Result<Option<i64>, ApiError> {
        match (self.0, in_body) {
            (Some(header), Some(body)) if header != body => {
                Err(ApiError::field("If-Match and `revision` disagree"))
            }
            (header, body) => Ok(header.or(body)),
        }
    }

    /// The same, where a revision is required.
    pub(crate) fn required(&self, in_body: Option<i64>) -> Result<i64, ApiError> {
        self.or(in_body)?
            .ok_or_else(|| ApiError::field("send the revision you read, as `revision` or If-Match"))
    }
}

/// The idempotency key in the header, if there is one.
pub(crate) struct IdempotencyKey(Option<String>);

impl<S: Send + Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let Some(value) = parts.headers.get("idempotency-key") else {
            return Ok(IdempotencyKey(None));
        };
        let key = value.to_str().map_err(|_error| ApiError::field("bad Idempotency-Key"))?;
        Ok(IdempotencyKey(Some(key.to_owned())))
    }
}

impl IdempotencyKey {
    const LEN_BYTES_MAX: usize = 128;

    /// The key in the header or the one in the body.
    pub(crate) fn or(self, in_body: Option<String>) -> Result<Option<String>, ApiError> {
        let key = self.0.or(in_body);
        if key.as_ref().is_some_and(|key| key.is_empty() || key.len() > Self::LEN_BYTES_MAX) {
            return Err(ApiError::field("an idempotency key has 1 to 128 bytes"));
        }
        Ok(key)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Caller, ApiError> {
        // Only open routes have none, and they do not ask.
        parts.extensions.get().cloned().ok_or_else(|| ApiError::plain(Code::Internal))
    }
}

/// The page of a list whose rows have numbers.
pub(crate) fn page(after: Option<&str>, limit: Option<usize>) -> Result<Page, ApiError> {
    let after = after
        .map(|after| after.parse::<i64>().map_err(|_error| ApiError::plain(Code::BadCursor)))
        .transpose()?;
    Ok(Page { after, limit: limit_of(limit)? })
}

/// How many rows were asked for.
pub(crate) fn limit_of(limit: Option<usize>) -> Result<usize, ApiError> {
    match limit {
        None => Ok(PAGE_ROWS_DEFAULT),
        Some(limit) if (1..=PAGE_ROWS_MAX).contains(&limit) => Ok(limit),
        Some(_) => {
            let message = format!("`limit` is 1 to {PAGE_ROWS_MAX}");
            Err(ApiError::new(Code::BadQuery, message))
        }
    }
}

/// A moment in the query.
pub(crate) fn moment(
    name: &str,
    raw: Option<&str>,
) -> Result<Option<naru_domain::Timestamp>, ApiError> {
    raw.map(|raw| {
        crate::times::parse(raw).ok_or_else(|| {
            let message = format!("`{name}` is a moment like 2026-01-31T09:00:00Z");
            ApiError::new(Code::BadQuery, message)
        })
    })
    .transpose()
}
