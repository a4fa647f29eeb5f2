//! Asks and tells Palworld servers over their REST API.

use std::time::Duration;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, StatusCode};
use tokio::time::Instant;

use super::http::{HttpLine, HttpTrouble};
use super::{Asker, Teller, or_partial, told, within};
use crate::codec::palworld::{self, BASE, Order, USER};
use crate::endpoint::Endpoint;
use crate::error::{AskError, TellError};
use crate::limits::TITLE_CHARS_MAX;
use crate::status::{Status, Want};
use crate::text::{Colours, clean_lines, clean_utf8};

pub(super) struct Palworld {
    endpoint: Endpoint,
    authorization: HeaderValue,
    line: Option<HttpLine>,
    /// Name and version, asked once per connection: they do not change while the server runs.
    about: Option<Status>,
}

impl Palworld {
    pub(super) fn new(endpoint: Endpoint) -> Palworld {
        let credentials = STANDARD.encode(format!("{USER}:{}", endpoint.password()));
        // Base64 is always a header's value.
        let mut authorization = HeaderValue::from_str(&format!("Basic {credentials}"))
            .unwrap_or(HeaderValue::from_static(""));
        authorization.set_sensitive(true);
        Palworld { endpoint, authorization, line: None, about: None }
    }

    fn request(&self, method: Method, path: &str, body: &str) -> Option<Request<Full<Bytes>>> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{BASE}{path}"))
            .header(HOST, self.endpoint.address.to_string())
            .header(AUTHORIZATION, &self.authorization);
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        request.body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).ok()
    }

    /// Sends a request over the connection in use or a new one. Another try is made only if the server
    /// cannot have seen the first one, because it closed an idle connection.
    async fn exchange(
        &mut self,
        (method, path, body): (Method, &str, &str),
        sent: &mut bool,
    ) -> Result<(StatusCode, Bytes), AskError> {
        if self.endpoint.password().is_empty() {
            return Err(AskError::Unauthorized);
        }
        loop {
            let (mut line, reused) = match self.line.take() {
                Some(line) => (line, true),
                None => {
                    self.about = None;
                    (HttpLine::connect(self.endpoint.address).await?, false)
                }
            };
            let Some(request) = self.request(method.clone(), path, body) else {
                return Err(AskError::Malformed("not a path of this API"));
            };
            *sent = true;
            match line.request(request).await {
                Ok((StatusCode::UNAUTHORIZED, _)) => return Err(AskError::Unauthorized),
                Ok(answer) => {
                    // Not kept after a question that was dropped or failed: then we do not come here.
                    self.line = Some(line);
                    return Ok(answer);
                }
                Err(HttpTrouble { unsent: true, .. }) if reused => *sent = false,
                Err(HttpTrouble { error, unsent }) => {
                    *sent = !unsent;
                    return Err(error);
                }
            }
        }
    }

    async fn get(&mut self, path: &'static str) -> Result<(Bytes, Duration), AskError> {
        let began = Instant::now();
        let (status, body) = self.exchange((Method::GET, path, ""), &mut false).await?;
        match status {
            StatusCode::OK => Ok((body, began.elapsed())),
            StatusCode::NOT_FOUND => {
                Err(AskError::Unsupported("the server does not know this path"))
            }
            _ => Err(AskError::Malformed("an HTTP status other than 200")),
        }
    }

    async fn question(&mut self, want: Want, learned: &mut Status) -> Result<(), AskError> {
        let (body, answered_in) = self.get("metrics").await?;
        *learned = palworld::metrics(&body)?;
        learned.answered_in = Some(answered_in);
        let about = match self.about.take() {
            Some(about) => about,
            None => palworld::info(&self.get("info").await?.0)?,
        };
        learned.fill_from(about.clone());
        self.about = Some(about);
        if want == Want::Players {
            learned.names = Some(palworld::players(&self.get("players").await?.0)?);
        }
        Ok(())
    }

    async fn order(&mut self, order: &Order, sent: &mut bool) -> Result<Answered, AskError> {
        let (status, body) = self.exchange((Method::POST, order.verb, &order.body), sent).await?;
        if status.is_success() {
            return Ok(Answered::Done(clean_lines(&body, Colours::None)));
        }
        let words = clean_utf8(&body, Colours::None, TITLE_CHARS_MAX);
        Ok(Answered::Declined(format!("HTTP {} {words}", status.as_u16()).trim_end().to_owned()))
    }
}

enum Answered {
    Done(String),
    Declined(String),
}

#[async_trait]
impl Asker for Palworld {
    async fn ask(&mut self, want: Want) -> Result<Status, AskError> {
        let mut learned = Status::default();
        let timeout = self.endpoint.timeout;
        let result = within(timeout, self.question(want, &mut learned)).await;
        or_partial(result, learned)
    }
}

#[async_trait]
impl Teller for Palworld {
    async fn tell(&mut self, command: &str) -> Result<String, TellError> {
        let order = palworld::order(command).map_err(TellError::Unfit)?;
        let mut sent = false;
        let timeout = self.endpoint.timeout;
        let result = within(timeout, self.order(&order, &mut sent)).await;
        match told(result, sent)? {
            Answered::Done(words) => Ok(words),
            Answered::Declined(words) => Err(TellError::Declined(words)),
        }
    }
}
