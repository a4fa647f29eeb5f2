//! Calls of the HTTP API, and the exit code that each kind of failure has.

use std::fmt;
use std::time::Duration;

use reqwest::{Method, StatusCode, Url, redirect};
use serde_json::Value;

use super::ConnectOptions;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longer than the server gives itself for one request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(90);
/// For answers that go on; whoever reads them notices silence.
const ENDLESS: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);
/// Rows asked for at once when a whole list is wanted.
const PAGE_ROWS: usize = 500;

/// Why a command was not done; each kind has its exit code.
#[derive(Debug)]
pub(super) enum Failure {
    Failed(String),
    Usage(String),
    Unreachable { url: String, reason: String },
    Refused(String),
    NotFound(String),
    Conflict(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Failed(text) | Failure::Usage(text) => f.write_str(text),
            Failure::Unreachable { url, reason } => write!(
                f,
                "cannot reach the server at {url}: {reason}\nIs it running? Name another with --api."
            ),
            Failure::Refused(text) => write!(f, "refused: {text}"),
            Failure::NotFound(text) => write!(f, "not found: {text}"),
            Failure::Conflict(text) => write!(f, "conflict: {text}"),
        }
    }
}

impl Failure {
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Failure::Failed(_) => 1,
            Failure::Usage(_) => 2,
            Failure::Unreachable { .. } => 3,
            Failure::Refused(_) => 4,
            Failure::NotFound(_) => 5,
            Failure::Conflict(_) => 6,
        }
    }
}

/// A server to call.
pub(super) struct Client {
    base: Url,
    token: Option<String>,
    http: reqwest::Client,
}

impl Client {
    pub(super) fn new(options: &ConnectOptions) -> Result<Client, Failure> {
        let wrong = |reason: &str| Failure::Usage(format!("--api {}: {reason}", options.url));
        let base = Url::parse(&options.url).map_err(|error| wrong(&error.to_string()))?;
        if !matches!(base.scheme(), "http" | "https") || base.cannot_be_a_base() {
            return Err(wrong("write something like http://127.0.0.1:8080"));
        }
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            // Whoever was faster installed the same one.
            drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        }
        let mut http = reqwest::Client::builder();
        if let Some(path) = &options.ca {
            let wrong =
                |reason: String| Failure::Usage(format!("--api-ca {}: {reason}", path.display()));
            let pem = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
            let trusted = reqwest::Certificate::from_pem_bundle(&pem)
                .map_err(|error| wrong(error.to_string()))?;
            // Only these: whoever names an authority means that one.
            http = http.tls_certs_only(trusted);
        }
        let http = http
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT)
            // A token must not follow a redirect to somewhere else.
            .redirect(redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(|error| Failure::Failed(error.to_string()))?;
        Ok(Client { base, token: options.token.clone(), http })
    }

    pub(super) async fn get(
        &self,
        path: &[&str],
        query: &[(&str, String)],
    ) -> Result<Value, Failure> {
        self.call(Method::GET, path, query, None).await
    }

    pub(super) async fn post(&self, path: &[&str], body: &Value) -> Result<Value, Failure> {
        self.call(Method::POST, path, &[], Some(body)).await
    }

    pub(super) async fn put(&self, path: &[&str], body: &Value) -> Result<Value, Failure> {
        self.call(Method::PUT, path, &[], Some(body)).await
    }

    pub(super) async fn patch(&self, path: &[&str], body: &Value) -> Result<Value, Failure> {
        self.call(Method::PATCH, path, &[], Some(body)).await
    }

    pub(super) async fn delete(&self, path: &[&str]) -> Result<Value, Failure> {
        self.call(Method::DELETE, path, &[], None).await
    }

    /// At most `rows_max` rows of a list, over as many pages as needed. The answer looks like one page.
    pub(super) async fn list(
        &self,
        path: &[&str],
        query: &[(&str, String)],
        rows_max: usize,
    ) -> Result<Value, Failure> {
        let mut items: Vec<Value> = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let limit = (rows_max - items.len()).clamp(1, PAGE_ROWS);
            let mut query = query.to_vec();
            query.push(("limit", limit.to_string()));
            query.extend(after.map(|after| ("after", after)));
            let mut page = self.get(path, &query).await?;
            if let Some(rows) = page["items"].as_array_mut() {
                items.append(rows);
            }
            after = page["next"].as_str().map(str::to_owned);
            if after.is_none() || items.len() >= rows_max {
                items.truncate(rows_max);
                return Ok(serde_json::json!({ "items": items, "next": after }));
            }
        }
    }

    /// An answer that goes on: a line of JSON for each event.
    pub(super) async fn lines(
        &self,
        path: &[&str],
        query: &[(&str, String)],
    ) -> Result<Lines, Failure> {
        let mut request = self.http.get(self.url(path, query)?).timeout(ENDLESS);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.map_err(|error| self.unreachable(&error))?;
        if !answer.status().is_success() {
            let status = answer.status();
            let text = answer.text().await.map_err(|error| self.unreachable(&error))?;
            return Err(failure(status, &serde_json::from_str(&text).unwrap_or_default()));
        }
        Ok(Lines { answer, unread: Vec::new() })
    }

    async fn call(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, String)],
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        let url = self.url(path, query)?;
        let mut request = self.http.request(method, url);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = answer.status();
        let text = answer.text().await.map_err(|error| self.unreachable(&error))?;
        let value: Value = serde_json::from_str(&text).unwrap_or_default();
        // A probe that fails says why in an ordinary answer.
        if status.is_success() || value.get("checks").is_some() {
            return Ok(value);
        }
        Err(failure(status, &value))
    }

    fn url(&self, path: &[&str], query: &[(&str, String)]) -> Result<Url, Failure> {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| Failure::Usage("the address has no path".to_owned()))?
            .pop_if_empty()
            .extend(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        Ok(url)
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        // The innermost error is the one that says what happened.
        let mut source: &dyn std::error::Error = error;
        while let Some(inner) = source.source() {
            source = inner;
        }
        Failure::Unreachable { url: self.base.to_string(), reason: source.to_string() }
    }
}

/// The events of an answer that goes on.
pub(super) struct Lines {
    answer: reqwest::Response,
    unread: Vec<u8>,
}

impl Lines {
    /// The next event; `None` at the end. Empty lines only show that the link is alive.
    pub(super) async fn next(&mut self) -> Result<Option<Value>, Failure> {
        loop {
            if let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                if line == b"\n" {
                    return Ok(Some(Value::Null));
                }
                let broken = |_| Failure::Failed("the server sent no JSON".to_owned());
                return serde_json::from_slice(&line).map(Some).map_err(broken);
            }
            match self.answer.chunk().await {
                Ok(Some(chunk)) => self.unread.extend_from_slice(&chunk),
                Ok(None) => return Ok(None),
                Err(error) => return Err(Failure::Failed(error.to_string())),
            }
        }
    }
}

fn failure(status: StatusCode, answer: &Value) -> Failure {
    let error = &answer["error"];
    let text = match (error["message"].as_str(), error["code"].as_str()) {
        (Some(message), Some(code)) => format!("{message} ({code})"),
        _ => format!("the server answered {status}; is this really Naru?"),
    };
    match status.as_u16() {
        401 => Failure::Refused(format!(
            "{text}\nGive a token with --token or NARU_TOKEN, or run this where the server's data \
             folder is (--data-dir)."
        )),
        403 | 429 => Failure::Refused(text),
        404 => Failure::NotFound(text),
        409 => Failure::Conflict(text),
        400 | 405 | 413 | 415 | 422 => Failure::Usage(text),
        _ => Failure::Failed(text),
    }
}
