//! Asks Teeworlds 0.7 servers.

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, timeout_at};

use super::udp::UdpLine;
use super::{Asker, fresh};
use crate::codec::teeworlds::{self, Token};
use crate::endpoint::Endpoint;
use crate::error::AskError;
use crate::status::{Status, Want};

/// How long the server's token is used again: it changes its secret every 16 s and takes the last one, too.
const TOKEN_AGE_MAX: Duration = Duration::from_secs(15);

pub(super) struct Teeworlds {
    endpoint: Endpoint,
    line: UdpLine,
    ours: Token,
    theirs: Option<(Token, Instant)>,
    number: u8,
}

impl Teeworlds {
    pub(super) fn new(endpoint: Endpoint) -> Teeworlds {
        let line = UdpLine::new(endpoint.address);
        // All ones mean "no token".
        let ours = (fresh() & 0x7fff_ffff).to_be_bytes();
        Teeworlds { endpoint, line, ours, theirs: None, number: 0 }
    }

    async fn info(&mut self, theirs: Token) -> Result<Status, AskError> {
        self.number = (self.number + 1) & 0x3f;
        self.line.send(&teeworlds::info_request(theirs, self.ours, self.number)).await?;
        let sent = Instant::now();
        loop {
            let answer = self.line.receive().await?;
            if let Some(mut status) = teeworlds::decode_info(answer, self.ours, self.number)? {
                status.answered_in = Some(sent.elapsed());
                return Ok(status);
            }
        }
    }

    async fn with_token(&mut self, theirs: Token) -> Result<Status, AskError> {
        self.line.ready().await?;
        self.info(theirs).await
    }

    async fn anew(&mut self) -> Result<Status, AskError> {
        self.line.ready().await?;
        self.line.send(&teeworlds::token_request(self.ours)).await?;
        let theirs = loop {
            if let Some(token) = teeworlds::decode_token(self.line.receive().await?, self.ours)? {
                break token;
            }
        };
        self.theirs = Some((theirs, Instant::now()));
        self.info(theirs).await
    }

    async fn question(&mut self) -> Result<Status, AskError> {
        let now = Instant::now();
        // Taken out, so that a question that fails or is dropped does not leave a doubtful token behind.
        if let Some((theirs, got)) = self.theirs.take()
            && now.duration_since(got) < TOKEN_AGE_MAX
        {
            let half = now + self.endpoint.timeout / 2;
            match timeout_at(half, self.with_token(theirs)).await {
                Ok(Ok(status)) => {
                    self.theirs = Some((theirs, got));
                    return Ok(status);
                }
                Ok(Err(error)) => return Err(error),
                // Silence is how a server answers a token that it has forgotten, such as after a restart.
                Err(_elapsed) => (),
            }
        }
        match timeout_at(now + self.endpoint.timeout, self.anew()).await {
            Ok(result) => result,
            Err(_elapsed) => Err(AskError::Timeout),
        }
    }
}

#[async_trait]
impl Asker for Teeworlds {
    async fn ask(&mut self, want: Want) -> Result<Status, AskError> {
        let mut status = self.question().await?;
        if want == Want::Counts {
            status.names = None;
        }
        Ok(status)
    }
}
