//! Fetching media by link, for phones that can only take the bytes. The same guard as for webhooks:
//! links come from targets, and targets may repeat what strangers say.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use naru_domain::limits::REPLY_MEDIA_BYTES_MAX;
use naru_outbound::{AddressGuard, BoundedClient, CallError, CallLimits, Redirects};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::media::{FetchError, MediaFetch};

/// Links fetched at once, for all bots together (guessed: 4 × 16 MiB is what a small host can spare).
const FETCHES_MAX: usize = 4;

/// Fetches links. Share it in an `Arc`.
#[derive(Debug)]
pub struct MediaFetcher {
    client: BoundedClient,
    permits: Semaphore,
    patience: Duration,
}

impl MediaFetcher {
    /// The bounds for media: 16 MiB, 20 s, three redirects (each checked).
    #[must_use]
    pub fn default_limits() -> CallLimits {
        CallLimits {
            body_bytes_max: REPLY_MEDIA_BYTES_MAX,
            total_timeout: Duration::from_secs(20),
            redirects_max: 3,
            ..CallLimits::default()
        }
    }

    /// Prepares the connections; makes none yet.
    pub fn new(guard: AddressGuard, limits: CallLimits) -> Result<MediaFetcher, CallError> {
        Ok(MediaFetcher {
            client: BoundedClient::new(guard.clone(), limits, Redirects::Any)?,
            permits: Semaphore::new(FETCHES_MAX),
            patience: limits.total_timeout,
        })
    }

    /// The bytes behind a link. At most as many as the limits say are ever held.
    pub async fn fetch_media(&self, url: &str) -> Result<Bytes, CallError> {
        let url = self.client.guard().check_url(url)?;
        let too_late = CallError::Timeout { ms: self.patience.as_millis() };
        let Ok(permit) = timeout(self.patience, self.permits.acquire()).await else {
            return Err(too_late);
        };
        let _permit = permit.expect("invariant: the permits are never closed");
        self.client.get(&url).await
    }
}

#[async_trait]
impl MediaFetch for MediaFetcher {
    async fn fetch(&self, url: &str) -> Result<Bytes, FetchError> {
        self.fetch_media(url)
            .await
            .map_err(|error| FetchError { may_retry: error.may_retry(), reason: error.to_string() })
    }
}
