//! Tells Teeworlds servers over their external console. One connection per command: the console sends the
//! game's log to whoever is connected, and drops those who do not read it.

use async_trait::async_trait;

use super::stream::StreamLine;
use super::{Teller, fresh, told, within};
use crate::codec::econ::{self, Answer, Door};
use crate::endpoint::Endpoint;
use crate::error::{AskError, TellError};
use crate::text::{Colours, clean_lines};

pub(super) struct Econ {
    endpoint: Endpoint,
}

impl Econ {
    pub(super) fn new(endpoint: Endpoint) -> Econ {
        Econ { endpoint }
    }

    async fn login(&self) -> Result<StreamLine, AskError> {
        let mut line = StreamLine::connect_to_admin(self.endpoint.address).await?;
        let mut is_told = false;
        loop {
            let Some((text, used)) = econ::line(line.bytes())? else {
                line.fill().await?;
                continue;
            };
            let door = econ::door(text);
            line.consume(used);
            match door {
                Door::Open => return Ok(line),
                Door::Shut => return Err(AskError::Unauthorized),
                // Asked again: the first answer was wrong.
                Door::Asked if is_told => return Err(AskError::Unauthorized),
                Door::Asked => {
                    line.send(format!("{}\n", self.endpoint.password()).as_bytes()).await?;
                    is_told = true;
                }
                Door::Wait => (),
            }
        }
    }

    async fn run(
        &self,
        request: &[u8],
        answer: &mut Answer,
        sent: &mut bool,
    ) -> Result<(), AskError> {
        let mut line = self.login().await?;
        *sent = true;
        line.send(request).await?;
        loop {
            let Some((text, used)) = econ::line(line.bytes())? else {
                line.fill().await?;
                continue;
            };
            let is_last = answer.push(text)?;
            line.consume(used);
            if is_last {
                return Ok(());
            }
        }
    }
}

#[async_trait]
impl Teller for Econ {
    async fn tell(&mut self, command: &str) -> Result<String, TellError> {
        if self.endpoint.password().is_empty() {
            return Err(TellError::NotDone(AskError::Unauthorized));
        }
        if self.endpoint.password().contains(['\n', '\r', '\0']) {
            return Err(TellError::Unfit("the password holds a line break"));
        }
        let mut answer = Answer::new(u64::from(fresh()));
        let request = answer.request(command).map_err(TellError::Unfit)?;
        let mut sent = false;
        let result =
            within(self.endpoint.timeout, self.run(&request, &mut answer, &mut sent)).await;
        told(result, sent)?;
        Ok(clean_lines(&answer.into_body(), Colours::None))
    }
}
