//! Rights that run out: of the connection, and of its subscriptions. The application may say that they go on.

use naru_domain::CloseReason;
use naru_domain::ports::Refreshed;
use tokio::io::{AsyncRead, AsyncWrite};

use super::connection::Talk;
use super::trouble::{End, Trouble};
use crate::connections::{Renewal, renewal};

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Talk<S> {
    /// Looks at everything that has run out by now.
    pub(super) async fn renew_what_ran_out(&mut self) -> Result<(), End> {
        self.renew_connection().await?;
        self.renew_subscriptions().await
    }

    async fn renew_connection(&mut self) -> Result<(), End> {
        let ports = &self.shared.ports;
        let Some(party) = self.party.as_mut() else { return Ok(()) };
        if party.expires_at.is_none_or(|at| at > ports.clock.now()) {
            return Ok(());
        }
        let backend = ports.backend.as_ref().filter(|_| party.is_refreshed_by_backend);
        let Some(backend) = backend else { return Err(End::from(CloseReason::Expired)) };
        let answer = backend.refresh(&party.caller).await;
        match renewal(&answer, ports.clock.now()) {
            Renewal::Until(expires_at) => party.expires_at = expires_at,
            Renewal::Over => return Err(End::from(CloseReason::Expired)),
            Renewal::Disconnect(_, reason) => return Err(Trouble::forbidden(reason).end(None)),
        }
        if let Ok(Refreshed { meta: Some(meta), .. }) = answer {
            party.caller.meta = meta;
        }
        Ok(())
    }

    async fn renew_subscriptions(&mut self) -> Result<(), End> {
        let ports = &self.shared.ports;
        let namespaces = ports.namespaces.load_full();
        let Some(party) = self.party.as_mut() else { return Ok(()) };
        for sub in &mut party.subs {
            if sub.expires_at.is_none_or(|at| at > ports.clock.now()) {
                continue;
            }
            let over = || Trouble::forbidden("the right to a subscription has run out").end(None);
            let is_asked = namespaces
                .of(sub.channel())
                .is_ok_and(|namespace| namespace.sub_refresh_proxy_enabled);
            let Some(backend) = ports.backend.as_ref().filter(|_| is_asked) else {
                return Err(over());
            };
            let answer = backend.sub_refresh(&party.caller, sub.channel().as_str()).await;
            match renewal(&answer, ports.clock.now()) {
                Renewal::Until(expires_at) => sub.expires_at = expires_at,
                Renewal::Over => return Err(over()),
                Renewal::Disconnect(_, reason) => return Err(Trouble::forbidden(reason).end(None)),
            }
        }
        Ok(())
    }
}
