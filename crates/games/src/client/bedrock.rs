//! Asks Minecraft Bedrock servers.

use async_trait::async_trait;
use tokio::time::Instant;

use super::udp::UdpLine;
use super::{Asker, fresh, within};
use crate::codec::bedrock;
use crate::endpoint::Endpoint;
use crate::error::AskError;
use crate::status::{Status, Want};

pub(super) struct Bedrock {
    endpoint: Endpoint,
    line: UdpLine,
    client: u64,
}

impl Bedrock {
    pub(super) fn new(endpoint: Endpoint) -> Bedrock {
        let line = UdpLine::new(endpoint.address);
        Bedrock { endpoint, line, client: u64::from(fresh()) }
    }

    async fn question(&mut self) -> Result<Status, AskError> {
        self.line.ready().await?;
        let time = u64::from(fresh());
        self.line.send(&bedrock::ping(time, self.client)).await?;
        let sent = Instant::now();
        loop {
            if let Some(mut status) = bedrock::decode(self.line.receive().await?, time)? {
                status.answered_in = Some(sent.elapsed());
                return Ok(status);
            }
        }
    }
}

#[async_trait]
impl Asker for Bedrock {
    async fn ask(&mut self, _want: Want) -> Result<Status, AskError> {
        within(self.endpoint.timeout, self.question()).await
    }
}
