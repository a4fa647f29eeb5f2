//! The simplest sign of life: a TCP port that takes connections.

use async_trait::async_trait;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::{Asker, within};
use crate::endpoint::Endpoint;
use crate::error::AskError;
use crate::status::{Status, Want};

pub(super) struct Tcp {
    endpoint: Endpoint,
}

impl Tcp {
    pub(super) fn new(endpoint: Endpoint) -> Tcp {
        Tcp { endpoint }
    }
}

#[async_trait]
impl Asker for Tcp {
    async fn ask(&mut self, _want: Want) -> Result<Status, AskError> {
        let began = Instant::now();
        within(self.endpoint.timeout, async {
            TcpStream::connect(self.endpoint.address).await.map(drop).map_err(AskError::from)
        })
        .await?;
        Ok(Status { answered_in: Some(began.elapsed()), ..Status::default() })
    }
}
