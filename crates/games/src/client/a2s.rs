//! Asks servers that speak Valve's query protocol.

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::udp::UdpLine;
use super::{Asker, or_partial, within};
use crate::codec::a2s::{self, Answer, Assembly, Datagram};
use crate::endpoint::Endpoint;
use crate::error::AskError;
use crate::status::{Status, Want};

/// Challenges that one question answers. A server that sends ever new ones would have us ask for ever.
const CHALLENGES_MAX: usize = 2;

pub(super) struct A2s {
    endpoint: Endpoint,
    line: UdpLine,
    challenge: Option<u32>,
}

impl A2s {
    pub(super) fn new(endpoint: Endpoint) -> A2s {
        let line = UdpLine::new(endpoint.address);
        A2s { endpoint, line, challenge: None }
    }

    async fn question(&mut self, want: Want, learned: &mut Status) -> Result<(), AskError> {
        self.line.ready().await?;
        let (answer, answered_in) =
            self.exchange(a2s::info, |answer| matches!(answer, Answer::Info(_))).await?;
        if let Answer::Info(status) = answer {
            *learned = *status;
            learned.answered_in = Some(answered_in);
        }
        if want == Want::Players {
            let is_players = |answer: &Answer| matches!(answer, Answer::Players(_));
            if let (Answer::Players(players), _) = self.exchange(a2s::players, is_players).await? {
                learned.names = Some(players);
            }
        }
        Ok(())
    }

    async fn exchange(
        &mut self,
        question: fn(Option<u32>) -> Vec<u8>,
        fits: fn(&Answer) -> bool,
    ) -> Result<(Answer, Duration), AskError> {
        let mut assembly = Assembly::default();
        let mut challenges_left = CHALLENGES_MAX;
        self.line.send(&question(self.challenge)).await?;
        let mut sent = Instant::now();
        loop {
            let answer = match a2s::datagram(self.line.receive().await?)? {
                Datagram::Whole(bytes) => a2s::decode(bytes)?,
                Datagram::Part(part) => match assembly.push(part)? {
                    Some(bytes) => a2s::decode(&bytes)?,
                    None => continue,
                },
            };
            match answer {
                Answer::Challenge(challenge) => {
                    if challenges_left == 0 {
                        return Err(AskError::Malformed("one challenge after the other"));
                    }
                    challenges_left -= 1;
                    self.challenge = Some(challenge);
                    self.line.send(&question(self.challenge)).await?;
                    sent = Instant::now();
                }
                answer if fits(&answer) => return Ok((answer, sent.elapsed())),
                // The answer to an earlier question of the other kind.
                _ => (),
            }
        }
    }
}

#[async_trait]
impl Asker for A2s {
    async fn ask(&mut self, want: Want) -> Result<Status, AskError> {
        let mut learned = Status::default();
        let timeout = self.endpoint.timeout;
        let result = within(timeout, self.question(want, &mut learned)).await;
        or_partial(result, learned)
    }
}
