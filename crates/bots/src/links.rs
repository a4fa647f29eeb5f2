//! Links to media, fetched through the guarded client. The client is made when the first link comes: most
//! installations never see one, and tests need no TLS provider.

use std::sync::OnceLock;

use async_trait::async_trait;
use bytes::Bytes;
use naru_outbound::AddressGuard;

use crate::hook::MediaFetcher;
use crate::media::{FetchError, MediaFetch};

/// See the module.
pub(crate) struct Links {
    guard: AddressGuard,
    fetcher: OnceLock<Result<MediaFetcher, FetchError>>,
}

impl Links {
    pub(crate) fn new(guard: AddressGuard) -> Links {
        Links { guard, fetcher: OnceLock::new() }
    }
}

#[async_trait]
impl MediaFetch for Links {
    async fn fetch(&self, url: &str) -> Result<Bytes, FetchError> {
        let fetcher = self.fetcher.get_or_init(|| {
            MediaFetcher::new(self.guard.clone(), MediaFetcher::default_limits())
                .map_err(|error| FetchError { reason: error.to_string(), may_retry: false })
        });
        fetcher.as_ref().map_err(Clone::clone)?.fetch(url).await
    }
}
