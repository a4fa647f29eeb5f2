//! Asks Minecraft Java servers with their server list ping. The server closes after each answer, so each
//! question is a connection.

use async_trait::async_trait;
use tokio::time::{Instant, timeout_at};

use super::Asker;
use super::stream::StreamLine;
use crate::codec::slp::{self, FORMS, Form};
use crate::endpoint::Endpoint;
use crate::error::AskError;
use crate::status::{Status, Want};

pub(super) struct Ping {
    endpoint: Endpoint,
    host: String,
    /// What the server answers, once known.
    form: Option<Form>,
}

impl Ping {
    pub(super) fn new(endpoint: Endpoint) -> Ping {
        let host = endpoint.address.ip().to_string();
        Ping { endpoint, host, form: None }
    }

    async fn question(&self, form: Form) -> Result<Status, AskError> {
        let mut line = StreamLine::connect(self.endpoint.address).await?;
        line.send(&slp::encode(form, &self.host, self.endpoint.address.port())).await?;
        let sent = Instant::now();
        loop {
            line.fill().await?;
            if let Some(mut status) = slp::decode(form, line.bytes())? {
                status.answered_in = Some(sent.elapsed());
                return Ok(status);
            }
        }
    }

    async fn question_by(&self, form: Form, deadline: Instant) -> Result<Status, AskError> {
        timeout_at(deadline, self.question(form)).await.unwrap_or(Err(AskError::Timeout))
    }

    /// Asks a server of unknown age. Old ones close the connection on what they do not know, or wait for
    /// more of it: each form gets half of the time that is left, the last one all of it.
    async fn discover(&mut self, deadline: Instant) -> Result<Status, AskError> {
        let mut first_error = None;
        for (index, form) in FORMS.into_iter().enumerate() {
            let left = deadline.saturating_duration_since(Instant::now());
            let share = if index + 1 == FORMS.len() { left } else { left / 2 };
            match self.question_by(form, Instant::now() + share).await {
                Ok(status) => {
                    self.form = Some(form);
                    return Ok(status);
                }
                // These are not about the form.
                Err(error @ (AskError::Refused | AskError::Socket(_) | AskError::TooLarge)) => {
                    return Err(first_error.unwrap_or(error));
                }
                // What a modern server does wrong says more than what the old forms make of it.
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        Err(first_error.unwrap_or(AskError::Timeout))
    }
}

#[async_trait]
impl Asker for Ping {
    async fn ask(&mut self, want: Want) -> Result<Status, AskError> {
        let deadline = Instant::now() + self.endpoint.timeout;
        let result = match self.form {
            Some(form) => self.question_by(form, deadline).await,
            None => self.discover(deadline).await,
        };
        // Perhaps the server was replaced by one of another age. A slow or absent one was not.
        if matches!(result, Err(AskError::Closed | AskError::Malformed(_))) {
            self.form = None;
        }
        let mut status = result?;
        if want == Want::Counts {
            status.names = None;
        }
        Ok(status)
    }
}
