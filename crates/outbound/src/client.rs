//! One HTTP call with all its bounds: addresses checked, no redirects unless allowed, no compression,
//! a running cap on the body and a deadline over everything. Knows nothing of retries or messages.

use std::error::Error as _;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, DATE, HeaderMap, LOCATION, RETRY_AFTER,
};
use reqwest::{Client, Response, StatusCode, Url, redirect};
use tokio::time::timeout;

use crate::address::{AddressError, AddressGuard, GuardedResolver};
use crate::retry::parse_retry_after;

/// Why a call gave no usable answer, split by what the caller does.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The address is not one that may be called.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// No connection: refused, unreachable, unknown name, TLS.
    #[error("no connection: {reason}")]
    Connect {
        /// What failed.
        reason: String,
    },
    /// It took longer than allowed. Whether the target acted on it is unknown.
    #[error("no answer within {ms} ms")]
    Timeout {
        /// The limit.
        ms: u128,
    },
    /// The connection ended before the answer did.
    #[error("the connection broke: {reason}")]
    Broken {
        /// What failed.
        reason: String,
    },
    /// A status other than success.
    #[error("status {code}")]
    Status {
        /// The status code.
        code: u16,
        /// How long the target asked to be left alone.
        retry_after: Option<Duration>,
    },
    /// It wants the call to go elsewhere.
    #[error("status {code} redirects to {to}, and redirects are not followed")]
    Redirect {
        /// The status code.
        code: u16,
        /// The host it names, or what is wrong with it.
        to: String,
    },
    /// The body is longer than allowed.
    #[error("the answer is longer than {max} bytes")]
    TooLarge {
        /// The limit.
        max: usize,
    },
    /// The body is compressed although that was not asked for.
    #[error("the answer is encoded as {encoding}, which was not asked for")]
    Encoded {
        /// What the header says, cut.
        encoding: String,
    },
}

impl CallError {
    /// Whether the same call may succeed later. Safe to repeat only with the same idempotency key.
    #[must_use]
    pub fn may_retry(&self) -> bool {
        match self {
            CallError::Connect { .. } | CallError::Timeout { .. } | CallError::Broken { .. } => {
                true
            }
            CallError::Status { code, .. } => matches!(code, 408 | 425 | 429 | 500..=599),
            CallError::Address(_)
            | CallError::Redirect { .. }
            | CallError::TooLarge { .. }
            | CallError::Encoded { .. } => false,
        }
    }

    /// The label in metrics.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            CallError::Address(_) => "address",
            CallError::Connect { .. } => "connect",
            CallError::Timeout { .. } => "timeout",
            CallError::Broken { .. } => "broken",
            CallError::Status { code: 500.., .. } => "status_5xx",
            CallError::Status { .. } => "status_4xx",
            CallError::Redirect { .. } => "redirect",
            CallError::TooLarge { .. } => "too_large",
            CallError::Encoded { .. } => "encoded",
        }
    }
}

/// The bounds of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallLimits {
    /// For name resolution, TCP and TLS together.
    pub connect_timeout: Duration,
    /// From the start until the last byte of the answer.
    pub total_timeout: Duration,
    /// The longest answer, in bytes.
    pub body_bytes_max: usize,
    /// Redirects that are followed, each checked by the guard; 0 makes every redirect an error. With
    /// POST only 307 and 308 are followed, which keep the method.
    pub redirects_max: usize,
    /// Connections to one host that are kept open between calls.
    pub idle_max: usize,
}

impl Default for CallLimits {
    fn default() -> CallLimits {
        CallLimits {
            connect_timeout: Duration::from_secs(3),
            total_timeout: Duration::from_secs(10),
            body_bytes_max: 8 * 1024 * 1024,
            redirects_max: 0,
            idle_max: 16,
        }
    }
}

/// Idle connections end before a Node server (5 s by default) closes them under our hands.
const POOL_IDLE: Duration = Duration::from_secs(4);

/// A pool of connections with bounds. Its clones share the pool.
#[derive(Clone, Debug)]
pub struct BoundedClient {
    client: Client,
    guard: AddressGuard,
    limits: CallLimits,
}

impl BoundedClient {
    /// Prepares the pool; makes no connection yet. The process must have a default provider for TLS by
    /// now.
    pub fn new(
        guard: AddressGuard,
        limits: CallLimits,
        redirects: Redirects,
    ) -> Result<BoundedClient, CallError> {
        let client = Client::builder()
            // A proxy from the environment would connect for us, past the guard.
            .no_proxy()
            .dns_resolver(GuardedResolver(guard.clone()))
            .redirect(redirect_policy(guard.clone(), redirects, limits.redirects_max))
            .referer(false)
            .http1_only()
            .connect_timeout(limits.connect_timeout)
            .pool_idle_timeout(POOL_IDLE)
            .pool_max_idle_per_host(limits.idle_max)
            .user_agent(concat!("Naru/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| CallError::Connect { reason: describe(&error) })?;
        Ok(BoundedClient { client, guard, limits })
    }

    /// Which addresses it may reach.
    #[must_use]
    pub fn guard(&self) -> &AddressGuard {
        &self.guard
    }

    /// One POST, within `limit` or the limit of all calls, whichever is shorter.
    pub async fn post(
        &self,
        url: &Url,
        headers: HeaderMap,
        body: Bytes,
        limit: Duration,
    ) -> Result<Bytes, CallError> {
        let request = self.client.post(url.clone()).headers(headers).body(body);
        self.bounded(limit, self.call(url, request)).await
    }

    /// One GET.
    pub async fn get(&self, url: &Url) -> Result<Bytes, CallError> {
        let request = self.client.get(url.clone()).header(ACCEPT, "*/*");
        self.bounded(self.limits.total_timeout, self.call(url, request)).await
    }

    async fn bounded(
        &self,
        limit: Duration,
        call: impl Future<Output = Result<Bytes, CallError>>,
    ) -> Result<Bytes, CallError> {
        let limit = limit.min(self.limits.total_timeout);
        match timeout(limit, call).await {
            Ok(result) => result,
            Err(_elapsed) => Err(CallError::Timeout { ms: limit.as_millis() }),
        }
    }

    async fn call(&self, url: &Url, request: reqwest::RequestBuilder) -> Result<Bytes, CallError> {
        // Addresses written as numbers never reach the resolver.
        self.guard.check(url)?;
        let request = request.header(ACCEPT_ENCODING, "identity");
        let mut response = request.send().await.map_err(|error| self.classify(&error))?;
        self.check_head(&response)?;
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.classify(&error))? {
            if body.len() + chunk.len() > self.limits.body_bytes_max {
                return Err(CallError::TooLarge { max: self.limits.body_bytes_max });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }

    fn check_head(&self, response: &Response) -> Result<(), CallError> {
        let status = response.status();
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        if status.is_redirection() && status != StatusCode::NOT_MODIFIED {
            return Err(CallError::Redirect {
                code: status.as_u16(),
                to: self.describe_location(response.url(), header(LOCATION)),
            });
        }
        if !status.is_success() {
            let retry_after =
                header(RETRY_AFTER).and_then(|value| parse_retry_after(value, header(DATE)));
            return Err(CallError::Status { code: status.as_u16(), retry_after });
        }
        if let Some(encoding) = header(CONTENT_ENCODING)
            && !encoding.eq_ignore_ascii_case("identity")
        {
            return Err(CallError::Encoded { encoding: encoding.chars().take(40).collect() });
        }
        let announced = response.content_length().unwrap_or(0);
        if usize::try_from(announced).is_ok_and(|bytes| bytes <= self.limits.body_bytes_max) {
            Ok(())
        } else {
            Err(CallError::TooLarge { max: self.limits.body_bytes_max })
        }
    }

    /// Names the host only: paths and queries may hold secrets.
    fn describe_location(&self, from: &Url, location: Option<&str>) -> String {
        let Some(to) = location.and_then(|location| from.join(location).ok()) else {
            return "nowhere".to_owned();
        };
        match self.guard.check(&to) {
            Ok(()) => to.host_str().unwrap_or("nowhere").to_owned(),
            Err(error) => error.to_string(),
        }
    }

    fn classify(&self, error: &reqwest::Error) -> CallError {
        let mut source = error.source();
        while let Some(cause) = source {
            match cause.downcast_ref::<AddressError>() {
                // A name without an address may get one.
                None | Some(AddressError::NoAddress { .. }) => {}
                Some(refused) => return CallError::Address(refused.clone()),
            }
            source = cause.source();
        }
        if error.is_timeout() {
            // Only the limit for connecting is given to the client; the whole call is timed by us.
            CallError::Timeout { ms: self.limits.connect_timeout.as_millis() }
        } else if error.is_connect() {
            CallError::Connect { reason: describe(error) }
        } else {
            CallError::Broken { reason: describe(error) }
        }
    }
}

/// The innermost cause says what happened; the outer ones repeat the url, which may hold secrets.
fn describe(error: &reqwest::Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    if std::ptr::addr_eq(innermost, error as &dyn std::error::Error) {
        return "the request failed".to_owned();
    }
    innermost.to_string().chars().take(200).collect()
}

/// Which redirects keep the meaning of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redirects {
    /// Only those that keep method and body (307, 308): for posts.
    KeepingMethod,
    /// All: for gets.
    Any,
}

fn redirect_policy(guard: AddressGuard, kind: Redirects, redirects_max: usize) -> redirect::Policy {
    if redirects_max == 0 {
        return redirect::Policy::none();
    }
    redirect::Policy::custom(move |attempt| {
        let keeps_method = matches!(
            attempt.status(),
            StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT
        );
        // `previous` holds the first url, too.
        let is_one_too_many = attempt.previous().len() > redirects_max;
        if is_one_too_many || (kind == Redirects::KeepingMethod && !keeps_method) {
            return attempt.stop();
        }
        match guard.check(attempt.url()) {
            Err(error) => attempt.error(error),
            Ok(()) => attempt.follow(),
        }
    })
}
