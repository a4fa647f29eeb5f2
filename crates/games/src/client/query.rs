//! Asks Minecraft Java servers over Query.

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, timeout_at};

use super::udp::UdpLine;
use super::{Asker, fresh};
use crate::codec::query;
use crate::endpoint::Endpoint;
use crate::error::AskError;
use crate::status::{Status, Want};

/// How long a token is used again. The server forgets all tokens about every 30 s, at a time that we do not
/// know, so an older one would often cost half of the deadline and a new one costs a round trip.
const TOKEN_AGE_MAX: Duration = Duration::from_secs(5);

pub(super) struct Query {
    endpoint: Endpoint,
    line: UdpLine,
    session: u32,
    token: Option<(i32, Instant)>,
}

impl Query {
    pub(super) fn new(endpoint: Endpoint) -> Query {
        let line = UdpLine::new(endpoint.address);
        Query { endpoint, line, session: fresh(), token: None }
    }

    async fn stat(&mut self, want: Want, token: i32) -> Result<Status, AskError> {
        // Both answers look alike from outside, so each question gets its own session.
        match want {
            Want::Counts => self.line.send(&query::basic(self.session, token)).await?,
            Want::Players => self.line.send(&query::full(self.session, token)).await?,
        }
        let sent = Instant::now();
        loop {
            let answer = self.line.receive().await?;
            let decoded = match want {
                Want::Counts => query::decode_basic(answer, self.session)?,
                Want::Players => query::decode_full(answer, self.session)?,
            };
            if let Some(mut status) = decoded {
                status.answered_in = Some(sent.elapsed());
                return Ok(status);
            }
        }
    }

    async fn anew(&mut self, want: Want) -> Result<Status, AskError> {
        self.line.ready().await?;
        self.session = fresh();
        self.line.send(&query::handshake(self.session)).await?;
        let token = loop {
            if let Some(token) = query::decode_token(self.line.receive().await?, self.session)? {
                break token;
            }
        };
        self.token = Some((token, Instant::now()));
        self.stat(want, token).await
    }

    async fn with_token(&mut self, want: Want, token: i32) -> Result<Status, AskError> {
        self.line.ready().await?;
        self.stat(want, token).await
    }
}

#[async_trait]
impl Asker for Query {
    async fn ask(&mut self, want: Want) -> Result<Status, AskError> {
        let now = Instant::now();
        let deadline = now + self.endpoint.timeout;
        // Taken out, so that a question that fails or is dropped does not leave a doubtful token behind.
        if let Some((token, got)) = self.token.take()
            && now.duration_since(got) < TOKEN_AGE_MAX
        {
            let half = now + self.endpoint.timeout / 2;
            match timeout_at(half, self.with_token(want, token)).await {
                Ok(Ok(status)) => {
                    self.token = Some((token, got));
                    return Ok(status);
                }
                Ok(Err(error)) => return Err(error),
                // Silence is how a server answers a token that it has forgotten.
                Err(_elapsed) => (),
            }
        }
        match timeout_at(deadline, self.anew(want)).await {
            Ok(result) => result,
            Err(_elapsed) => Err(AskError::Timeout),
        }
    }
}
