//! Asks Teeworlds 0.6 and DDNet servers.

use async_trait::async_trait;
use tokio::time::Instant;

use super::udp::UdpLine;
use super::{Asker, fresh, within};
use crate::codec::teeworlds6::{self, Assembly, Form};
use crate::endpoint::Endpoint;
use crate::error::AskError;
use crate::status::{Status, Want};

pub(super) struct Teeworlds6 {
    endpoint: Endpoint,
    line: UdpLine,
    /// What the server answers, once known: a 0.6 server is silent to DDNet's form.
    form: Option<Form>,
}

impl Teeworlds6 {
    pub(super) fn new(endpoint: Endpoint) -> Teeworlds6 {
        let line = UdpLine::new(endpoint.address);
        Teeworlds6 { endpoint, line, form: None }
    }

    async fn question(&mut self, learned: &mut Option<Assembly>) -> Result<Status, AskError> {
        self.line.ready().await?;
        let token = fresh() & 0xff_ffff;
        for form in [Form::Extended, Form::Old] {
            if self.form.is_none_or(|known| known == form) {
                self.line.send(&teeworlds6::request(form, token)).await?;
            }
        }
        let sent = Instant::now();
        let assembly = learned.insert(Assembly::new(token));
        while !assembly.push(self.line.receive().await?)? {}
        self.form = assembly.form();
        let answered_in = Some(sent.elapsed());
        let status = learned.take().and_then(Assembly::into_status);
        let status =
            status.ok_or(AskError::Malformed("a Teeworlds 0.6 info without its first part"))?;
        Ok(Status { answered_in, ..status })
    }
}

#[async_trait]
impl Asker for Teeworlds6 {
    async fn ask(&mut self, want: Want) -> Result<Status, AskError> {
        let mut learned = None;
        let timeout = self.endpoint.timeout;
        let result = within(timeout, self.question(&mut learned)).await;
        if result.is_err() {
            self.form = None;
        }
        // A lost part of the list leaves the counts.
        let partial = learned.and_then(Assembly::into_status);
        let mut status = result.or_else(|error| partial.ok_or(error))?;
        if want == Want::Counts {
            status.names = None;
        }
        Ok(status)
    }
}
