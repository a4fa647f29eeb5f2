//! HTTP as a scraper and an operator use it: one kept connection, one request at a time.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// A client with a runtime of its own; the runs are otherwise without one.
pub(crate) struct Web {
    runtime: Runtime,
    http: reqwest::Client,
}

impl Web {
    pub(crate) fn new() -> anyhow::Result<Web> {
        crate::phone::tls::ensure_provider();
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let http = reqwest::Client::builder().timeout(REQUEST_TIMEOUT).no_proxy().build()?;
        Ok(Web { runtime, http })
    }

    /// What stands there, as text.
    pub(crate) fn text(&self, url: &str, token: Option<&str>) -> anyhow::Result<String> {
        self.runtime.block_on(async {
            match fetch(&self.http, url, token).await {
                Ok(text) => Ok(text),
                // Between two questions nobody looks after the kept connection: it may be closed by now.
                Err(_) => fetch(&self.http, url, token).await,
            }
        })
    }

    /// What stands there, as JSON.
    pub(crate) fn json(&self, url: &str, token: Option<&str>) -> anyhow::Result<Value> {
        serde_json::from_str(&self.text(url, token)?).with_context(|| format!("GET {url}"))
    }

    /// Fetches it every so often for a while, as Prometheus does. Fails when one of them fails.
    pub(crate) fn scrape(&self, url: &str, every: Duration, span: Duration) -> anyhow::Result<()> {
        self.runtime.block_on(async {
            let end = Instant::now() + span;
            let mut ticks = interval(every);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            while timeout_at(end, ticks.tick()).await.is_ok() {
                fetch(&self.http, url, None).await?;
            }
            Ok(())
        })
    }
}

async fn fetch(http: &reqwest::Client, url: &str, token: Option<&str>) -> anyhow::Result<String> {
    let request = http.get(url);
    let request = match token {
        Some(token) => request.bearer_auth(token),
        None => request,
    };
    let response = request.send().await.with_context(|| format!("GET {url}"))?;
    let status = response.status();
    let text = response.text().await.with_context(|| format!("GET {url}"))?;
    ensure!(status.is_success(), "GET {url}: {status} {}", text.trim());
    Ok(text)
}
