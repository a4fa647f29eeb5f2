//! Asks Luanti servers whether they live, and always takes leave.

use async_trait::async_trait;
use tokio::net::UdpSocket;
use tokio::time::Instant;

use super::udp::UdpLine;
use super::{Asker, within};
use crate::codec::luanti;
use crate::endpoint::Endpoint;
use crate::error::AskError;
use crate::status::{Status, Want};

pub(super) struct Luanti {
    endpoint: Endpoint,
    line: UdpLine,
}

impl Luanti {
    pub(super) fn new(endpoint: Endpoint) -> Luanti {
        let line = UdpLine::new(endpoint.address);
        Luanti { endpoint, line }
    }

    async fn question(&mut self) -> Result<Status, AskError> {
        self.line.ready_with(take_leave).await?;
        self.line.send(&luanti::PING).await?;
        let sent = Instant::now();
        loop {
            if let Some(id) = luanti::decode(self.line.receive().await?)? {
                let answered_in = Some(sent.elapsed());
                // No await between the answer and the leave: a dropped question says goodbye, too.
                if let Some(socket) = self.line.socket() {
                    UdpLine::send_now(socket, &luanti::goodbye(id));
                }
                return Ok(Status { answered_in, ..Status::default() });
            }
        }
    }
}

/// An answer that came after its question had been given up: the server holds a peer for it.
fn take_leave(socket: &UdpSocket, answer: &[u8]) {
    if let Ok(Some(id)) = luanti::decode(answer) {
        UdpLine::send_now(socket, &luanti::goodbye(id));
    }
}

#[async_trait]
impl Asker for Luanti {
    async fn ask(&mut self, _want: Want) -> Result<Status, AskError> {
        within(self.endpoint.timeout, self.question()).await
    }
}
