//! Asks and tells servers over Source RCON.

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::stream::StreamLine;
use super::{Asker, Teller, told, within};
use crate::codec::listing;
use crate::codec::rcon::{self, Answer, Door, Next};
use crate::endpoint::Endpoint;
use crate::error::{AskError, TellError};
use crate::protocol::Flavour;
use crate::status::{Status, Want};
use crate::text::{Colours, clean_lines};

/// After this long without use an ARK server may have forgotten a connection without closing it. A new login
/// proves the way before a command that matters.
const ARK_IDLE_MAX: Duration = Duration::from_secs(60);

pub(super) struct Rcon {
    endpoint: Endpoint,
    flavour: Flavour,
    line: Option<(StreamLine, Instant)>,
    last_id: i32,
    /// Whether the server answers the empty command that closes an answer. Some do not; after finding out
    /// we do not wait for it again.
    closes: bool,
}

/// How far a command got.
#[derive(Default)]
struct Progress {
    sent: bool,
    reused: bool,
    /// Of the answer, and when it began to come.
    answer: Option<Answer>,
}

impl Rcon {
    pub(super) fn new(endpoint: Endpoint, flavour: Flavour) -> Rcon {
        Rcon { endpoint, flavour, line: None, last_id: 0, closes: true }
    }

    fn next_id(&mut self) -> i32 {
        // Positive, since −1 means refused.
        self.last_id = if self.last_id >= i32::MAX - 1 { 1 } else { self.last_id + 1 };
        self.last_id
    }

    /// The connection, logged in: the one in use if it still lives. It is taken out, so that a question
    /// dropped halfway closes it and no later one reads the rest of its answer.
    async fn take_line(&mut self, progress: &mut Progress) -> Result<StreamLine, AskError> {
        if self.endpoint.password().is_empty() {
            return Err(AskError::Unauthorized);
        }
        if let Some((mut line, used)) = self.line.take() {
            let is_stale = self.flavour == Flavour::Ark && used.elapsed() > ARK_IDLE_MAX;
            if !is_stale && line.is_alive() {
                progress.reused = true;
                return Ok(line);
            }
        }
        progress.reused = false;
        let mut line = StreamLine::connect_to_admin(self.endpoint.address).await?;
        let mut login = Vec::new();
        let id = self.next_id();
        rcon::encode(id, rcon::LOGIN, self.endpoint.password().as_bytes(), &mut login);
        line.send(&login).await?;
        loop {
            if let Some((packet, used)) = rcon::decode(line.bytes())? {
                let door = rcon::door(&packet);
                line.consume(used);
                match door {
                    Door::Open => return Ok(line),
                    Door::Shut => return Err(AskError::Unauthorized),
                    Door::Wait => continue,
                }
            }
            line.fill().await?;
        }
    }

    async fn run(
        &mut self,
        command: &str,
        progress: &mut Progress,
    ) -> Result<(Vec<u8>, Duration), AskError> {
        let mut line = self.take_line(progress).await?;
        let (id, closing_id) = (self.next_id(), self.next_id());
        let mut packet = Vec::new();
        rcon::encode(id, rcon::COMMAND, command.as_bytes(), &mut packet);
        progress.sent = true;
        line.send(&packet).await?;
        let sent = Instant::now();
        let answer = progress.answer.insert(Answer::new(id, closing_id, self.flavour));
        let mut answered_in = None;
        loop {
            while let Some((packet, used)) = rcon::decode(line.bytes())? {
                let next = answer.push(&packet)?;
                line.consume(used);
                if answer.has_begun() {
                    answered_in.get_or_insert_with(|| sent.elapsed());
                }
                match next {
                    Next::Read => continue,
                    Next::SendClosing if self.closes => {
                        let mut closing = Vec::new();
                        rcon::encode(closing_id, rcon::COMMAND, b"", &mut closing);
                        line.send(&closing).await?;
                        continue;
                    }
                    Next::SendClosing | Next::Done => (),
                }
                self.line = Some((line, Instant::now()));
                let body = progress.answer.take().map(Answer::into_body).unwrap_or_default();
                return Ok((body, answered_in.unwrap_or_default()));
            }
            line.fill().await?;
        }
    }

    /// Runs a command within the deadline. If only the end of the answer never showed, the answer is taken.
    async fn run_within(
        &mut self,
        command: &str,
        progress: &mut Progress,
    ) -> Result<(Vec<u8>, Duration), AskError> {
        let result = within(self.endpoint.timeout, self.run(command, progress)).await;
        if matches!(result, Err(AskError::Timeout | AskError::Closed))
            && let Some(answer) = progress.answer.take()
            && answer.has_begun()
        {
            self.closes = false;
            return Ok((answer.into_body(), self.endpoint.timeout));
        }
        result
    }

    async fn alive(&mut self) -> Result<Status, AskError> {
        let began = Instant::now();
        let mut progress = Progress::default();
        let line = within(self.endpoint.timeout, self.take_line(&mut progress)).await?;
        self.line = Some((line, Instant::now()));
        // Nothing is asked of a connection that is open already, so nothing is answered either.
        let answered_in = (!progress.reused).then(|| began.elapsed());
        Ok(Status { answered_in, ..Status::default() })
    }
}

#[async_trait]
impl Asker for Rcon {
    async fn ask(&mut self, want: Want) -> Result<Status, AskError> {
        let Some(command) = listing::command(self.flavour) else { return self.alive().await };
        let mut progress = Progress::default();
        let mut result = self.run_within(command, &mut progress).await;
        // The server may have closed an idle connection at this very moment. Listing twice harms nobody.
        if progress.reused && result == Err(AskError::Closed) {
            result = self.run_within(command, &mut Progress::default()).await;
        }
        let (answer, answered_in) = result?;
        let mut status = listing::decode(self.flavour, &answer)?;
        status.answered_in = Some(answered_in);
        if want == Want::Counts {
            status.names = None;
        }
        Ok(status)
    }
}

#[async_trait]
impl Teller for Rcon {
    async fn tell(&mut self, command: &str) -> Result<String, TellError> {
        let command = rcon::command(self.flavour, command).map_err(TellError::Unfit)?;
        let mut progress = Progress::default();
        let result = self.run_within(&command, &mut progress).await;
        let (answer, _) = told(result, progress.sent)?;
        let colours = match self.flavour {
            Flavour::Minecraft => Colours::Section,
            _ => Colours::None,
        };
        Ok(clean_lines(&answer, colours))
    }
}
