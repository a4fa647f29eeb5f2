//! Asks and tells servers of the Quake 3 family, never faster than they answer.

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, sleep_until, timeout};

use super::udp::UdpLine;
use super::{Asker, Teller, fresh, or_partial, told, within};
use crate::codec::quake3::{self, Answer};
use crate::endpoint::Endpoint;
use crate::error::{AskError, TellError};
use crate::limits::TOLD_BYTES_MAX;
use crate::protocol::Protocol;
use crate::status::{Status, Want};
use crate::text::{Colours, clean_lines};

/// Silence after which the text of a command is whole. The parts of one answer leave the server together;
/// it draws at least 20 frames a second.
const GAP: Duration = Duration::from_millis(150);

pub(super) struct Quake3 {
    endpoint: Endpoint,
    line: UdpLine,
    /// Before this nothing is sent, whatever became of the last question.
    next: Option<Instant>,
    /// Whether `getinfo` tells people from bots, once known.
    tells_bots: Option<bool>,
}

impl Quake3 {
    pub(super) fn new(endpoint: Endpoint) -> Quake3 {
        let line = UdpLine::new(endpoint.address);
        Quake3 { endpoint, line, next: None, tells_bots: None }
    }

    /// Waits for our turn and takes it.
    async fn turn(&mut self) -> Result<(), AskError> {
        if let Some(next) = self.next
            && next > Instant::now()
        {
            sleep_until(next).await;
        }
        self.next = Some(Instant::now() + Protocol::Quake3.interval_min());
        self.line.ready().await
    }

    async fn info(&mut self) -> Result<Status, AskError> {
        self.turn().await?;
        let challenge = format!("{:08x}", fresh());
        self.line.send(&quake3::getinfo(&challenge)).await?;
        let sent = Instant::now();
        loop {
            match quake3::decode(self.line.receive().await?)? {
                Answer::Info(info) if info.challenge == challenge => {
                    self.tells_bots = Some(info.tells_bots);
                    return Ok(Status { answered_in: Some(sent.elapsed()), ..info.status });
                }
                _ => (),
            }
        }
    }

    async fn question(&mut self, want: Want, learned: &mut Status) -> Result<(), AskError> {
        // Only `getinfo` counts people, so names cost a second question a moment later, except where it
        // is known that the first one would tell nothing more.
        if want == Want::Counts || self.tells_bots != Some(false) {
            *learned = self.info().await?;
        }
        if want == Want::Counts {
            return Ok(());
        }
        self.turn().await?;
        let challenge = format!("{:08x}", fresh());
        self.line.send(&quake3::getstatus(&challenge)).await?;
        let sent = Instant::now();
        loop {
            match quake3::decode(self.line.receive().await?)? {
                // Not every server of the family sends it back here.
                Answer::Status(listing)
                    if listing.challenge.is_empty() || listing.challenge == challenge =>
                {
                    let humans = learned.bots.and(learned.players);
                    let mut status = listing.status.clone();
                    status.answered_in = Some(sent.elapsed());
                    status.names = Some(listing.names(humans));
                    learned.fill_from(status);
                    return Ok(());
                }
                _ => (),
            }
        }
    }

    async fn command(&mut self, request: &[u8], sent: &mut bool) -> Result<Vec<u8>, AskError> {
        self.turn().await?;
        *sent = true;
        self.line.send(request).await?;
        let mut text = Vec::new();
        loop {
            let received = if text.is_empty() {
                self.line.receive().await
            } else {
                match timeout(GAP, self.line.receive()).await {
                    Ok(received) => received,
                    Err(_elapsed) => return Ok(text),
                }
            };
            match quake3::decode(received?)? {
                Answer::Print(part) if text.len() + part.len() > TOLD_BYTES_MAX => {
                    return Err(AskError::TooLarge);
                }
                Answer::Print(part) if part.is_empty() && text.is_empty() => return Ok(text),
                Answer::Print(part) => text.extend_from_slice(&part),
                Answer::BadPassword => return Err(AskError::Unauthorized),
                _ => (),
            }
        }
    }
}

#[async_trait]
impl Asker for Quake3 {
    async fn ask(&mut self, want: Want) -> Result<Status, AskError> {
        let mut learned = Status::default();
        let timeout = self.endpoint.timeout;
        let result = within(timeout, self.question(want, &mut learned)).await;
        or_partial(result, learned)
    }
}

#[async_trait]
impl Teller for Quake3 {
    async fn tell(&mut self, command: &str) -> Result<String, TellError> {
        if self.endpoint.password().is_empty() {
            return Err(TellError::NotDone(AskError::Unauthorized));
        }
        let request = quake3::rcon(self.endpoint.password(), command).map_err(TellError::Unfit)?;
        let mut sent = false;
        let timeout = self.endpoint.timeout;
        let result = within(timeout, self.command(&request, &mut sent)).await;
        told(result, sent).map(|text| clean_lines(&text, Colours::Caret))
    }
}
