//! The first command of a client: who it is, what it may, and which channels the server subscribes it to;
//! and what happens when its credentials run out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use naru_domain::ports::{
    Caller, Credentials, OwnerError, Refreshed, Refusal, SubscribeGrant, TokenError,
};
use naru_domain::{ChannelName, ChannelParts, CloseReason, PartyInfo, Timestamp};
use naru_hub::{ClientSpec, Cut, Outlet};
use naru_wire::centrifuge::{
    Answer, ConnectRequest, ConnectResult, DisconnectCode, ErrorCode, RefreshResult, Reply,
    ReplyError, SubscribeRequest,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tracing::info;

use super::connection::{End, Party, RunningOut, Talk, bad_request, disconnect};
use super::subscribe::Entered;
use crate::connections::{Renewal, passed_headers, renewal};

/// A wish of a client that is not granted.
pub(super) enum Denied {
    Error(u32, String, bool),
    End(End),
}

impl From<ErrorCode> for Denied {
    fn from(code: ErrorCode) -> Denied {
        Denied::Error(code.code(), code.message().to_owned(), code.is_temporary())
    }
}

impl From<DisconnectCode> for Denied {
    fn from(code: DisconnectCode) -> Denied {
        Denied::End(disconnect(code))
    }
}

impl From<Refusal> for Denied {
    fn from(refusal: Refusal) -> Denied {
        match refusal {
            Refusal::Error { code, message, temporary } => Denied::Error(code, message, temporary),
            Refusal::Disconnect { code, reason } => Denied::End(ordered(code, reason)),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Talk<S> {
    /// Refuses a command as it was denied.
    pub(super) fn deny(&self, id: u32, denied: Denied) -> Result<(), End> {
        match denied {
            Denied::End(end) => Err(end),
            Denied::Error(code, message, temporary) => {
                self.refuse(id, ReplyError::application(code, &message, temporary))
            }
        }
    }

    /// False if the client was refused with an answer.
    pub(super) async fn connect(&mut self, id: u32, request: ConnectRequest) -> Result<bool, End> {
        let emulated = self.emulated.as_deref();
        let mut caller = Caller {
            client: uuid::Uuid::now_v7().to_string(),
            user: String::new(),
            transport: emulated.map_or("websocket", |emulated| emulated.transport.label()),
            protocol: self.protocol().label(),
            is_binary: false,
            meta: Bytes::new(),
            headers: self.headers(&request),
        };
        let (credentials, by_backend) = match self.credentials(&caller, &request).await {
            Ok(known) => known,
            Err(denied) => {
                self.deny(id, denied)?;
                return Ok(false);
            }
        };
        let now = self.shared.clock.now();
        if credentials.expires_at.is_some_and(|at| at <= now) {
            self.refuse(id, ErrorCode::Expired)?;
            return Ok(false);
        }
        caller.user.clone_from(&credentials.user);
        caller.meta = credentials.meta.clone();
        let info = PartyInfo {
            user: Arc::from(credentials.user.as_str()),
            client: Arc::from(caller.client.as_str()),
            conn_info: credentials.info.clone(),
            chan_info: Bytes::new(),
        };
        let spec = ClientSpec {
            info,
            kind: super::KIND,
            peer: self.opening.peer.to_string().into_boxed_str(),
            outlet: Arc::clone(&self.outlet) as Arc<dyn Outlet>,
        };
        let Ok(connected) = self.shared.hub.connect(spec) else {
            return Err(disconnect(DisconnectCode::ConnectionLimit));
        };
        info!(
            target: "naru::client", client = %caller.client, user = %caller.user,
            peer = %self.opening.peer, protocol = self.protocol().label(), "client connected",
        );
        self.shared.counters.connected.increment();
        let user = &connected.client().info().user;
        let share = self.shared.options.user_rates.join(user, Instant::now());
        self.party = Some(Box::new(Party {
            share,
            connected,
            caller,
            rights: credentials.rights.clone(),
            expires_at: credentials.expires_at,
            is_refreshed_by_backend: by_backend,
            running_out: Vec::new(),
            alarm: None,
        }));
        self.welcome(id, &request, &credentials).await?;
        self.set_alarm();
        // The first ping comes after half to a whole interval, so that pings spread.
        let interval = self.shared.options.ping_interval;
        let spread: f64 = rand::random_range(0.5..1.0);
        self.shared.turns.add(&self.outlet, interval.mul_f64(spread));
        Ok(true)
    }

    /// Headers for the application; browsers cannot set those of a WebSocket, so clients may say them.
    fn headers(&self, request: &ConnectRequest) -> Vec<(String, String)> {
        let said = request.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        passed_headers(self.shared.backend.as_ref(), &self.opening.headers, said)
    }

    /// Who the client is, and whether the back end said so.
    async fn credentials(
        &self,
        caller: &Caller,
        request: &ConnectRequest,
    ) -> Result<(Credentials, bool), Denied> {
        if !request.token.is_empty() {
            let now = self.shared.clock.now();
            return match self.shared.tokens.load().connect(&request.token, now) {
                Ok(credentials) => Ok((credentials, false)),
                Err(TokenError::Expired) => Err(ErrorCode::TokenExpired.into()),
                Err(TokenError::Invalid) => Err(DisconnectCode::InvalidToken.into()),
            };
        }
        if let Some(backend) = &self.shared.backend
            && backend.events().connect
        {
            let (name, version) = (request.name.as_str(), request.version.as_str());
            let asked = backend.connect(caller, name, version, request.data.clone()).await;
            let by_backend = backend.events().refresh;
            return asked.map(|credentials| (credentials, by_backend)).map_err(Denied::from);
        }
        if self.shared.options.allow_anonymous {
            return Ok((Credentials::default(), false));
        }
        Err(DisconnectCode::BadRequest.into())
    }

    /// Subscribes the client to the channels that the server wants it in, and answers.
    async fn welcome(
        &mut self,
        id: u32,
        request: &ConnectRequest,
        credentials: &Credentials,
    ) -> Result<(), End> {
        let mut wanted: Vec<(String, SubscribeGrant)> = credentials.channels.clone();
        if let Some(own) = self.own_channel(&credentials.user)
            && wanted.iter().all(|(name, _)| *name != own)
        {
            wanted.push((own, SubscribeGrant::default()));
        }
        let mut entered: Vec<(String, Entered)> = Vec::new();
        if !wanted.is_empty() {
            // Their publications must not overtake the answer that tells of them.
            self.out.hold();
        }
        for (name, grant) in wanted {
            let wish = request.subs.get(&name);
            match self.enter_for_server(&name, wish, grant).await {
                Ok(subscribed) => entered.push((name, subscribed)),
                Err(Denied::Error(code, message, temporary)) => {
                    let error = ReplyError::application(code, &message, temporary);
                    self.shared.counters.error(code);
                    let refused = Reply { id, outcome: Err(error) };
                    self.out.release(self.reply_frame(&refused)?);
                    self.out.flush();
                    // What may go better next time must not look like the client's fault.
                    return Err(disconnect(match temporary {
                        true => DisconnectCode::InternalError,
                        false => DisconnectCode::BadRequest,
                    }));
                }
                Err(Denied::End(end)) => return Err(end),
            }
        }
        let Some(party) = self.party.as_ref() else { return Ok(()) };
        let emulated = self.emulated.as_deref();
        let ttl = match (party.expires_at, party.is_refreshed_by_backend) {
            (Some(at), false) => Some(seconds_until(at, self.shared.clock.now())),
            _ => None,
        };
        let views: Vec<_> = entered.iter().map(|(_, each)| each.views(self.protocol())).collect();
        let subs: Vec<_> = entered
            .iter()
            .zip(&views)
            .map(|((name, each), views)| (name.as_str(), each.result(views)))
            .collect();
        let result = ConnectResult {
            client: &party.caller.client,
            version: &self.shared.options.version,
            ttl,
            data: &credentials.data,
            subs: &subs,
            ping: u32::try_from(self.shared.options.ping_interval.as_secs()).unwrap_or(25).max(1),
            pong: true,
            session: emulated.map_or("", |emulated| &emulated.session),
            node: if emulated.is_some() { &self.shared.options.node } else { "" },
            ..ConnectResult::default()
        };
        let frame = self.reply_frame(&Reply::ok(id, Answer::Connect(result)))?;
        self.out.release(frame);
        self.out.flush();
        Ok(())
    }

    /// The channel that belongs to this user alone. Some ids of users cannot stand in a name.
    fn own_channel(&self, user: &str) -> Option<String> {
        let options = &self.shared.options;
        let namespace = options.user_channel_namespace.as_deref();
        let own = ChannelParts::personal(namespace, user).filter(|_| options.user_channels)?;
        ChannelName::parse(&own).is_ok().then_some(own)
    }

    async fn enter_for_server(
        &mut self,
        name: &str,
        wish: Option<&SubscribeRequest>,
        grant: SubscribeGrant,
    ) -> Result<Entered, Denied> {
        let channel = ChannelName::parse(name).map_err(|_| ErrorCode::BadRequest)?;
        self.enter(&channel, wish, grant, true).await
    }

    /// A new token for the connection.
    pub(super) fn refresh(&mut self, id: u32, token: &str) -> Result<(), End> {
        let Some(party) = self.party.as_mut() else { return Err(bad_request()) };
        if token.is_empty() || party.is_refreshed_by_backend || party.expires_at.is_none() {
            return Err(bad_request());
        }
        let now = self.shared.clock.now();
        let credentials = match self.shared.tokens.load().connect(token, now) {
            Ok(credentials) if credentials.user == party.caller.user => credentials,
            Ok(_) | Err(TokenError::Invalid) => {
                return Err(disconnect(DisconnectCode::InvalidToken));
            }
            Err(TokenError::Expired) => return Err(disconnect(DisconnectCode::ConnectionExpired)),
        };
        party.expires_at = credentials.expires_at;
        party.rights = credentials.rights;
        let ttl = credentials.expires_at.map(|at| seconds_until(at, now));
        self.set_alarm();
        self.answer(id, Answer::Refresh(RefreshResult { client: "", version: "", ttl }))
    }

    /// Somebody outside said when the credentials run out.
    pub(super) fn on_new_expiry(&mut self) {
        let expires_at = self.out.ordered_expiry();
        if let Some(party) = self.party.as_mut() {
            party.expires_at = expires_at;
            self.set_alarm();
        }
    }

    /// How long after they ran out the connection ends, or the back end is asked.
    fn grace(&self, is_refreshed_by_backend: bool) -> Duration {
        if is_refreshed_by_backend {
            Duration::ZERO
        } else {
            self.shared.options.expired_close_delay
        }
    }

    /// Sees to it that the task wakes when the first thing of this client has run out for good.
    pub(super) fn set_alarm(&mut self) {
        let now = self.shared.clock.now();
        let Some(party) = self.party.as_ref() else { return };
        let grace = self.grace(party.is_refreshed_by_backend);
        let connection = party.expires_at.map(|at| at.plus(grace));
        let subscriptions = party.running_out.iter().map(|each| each.at);
        let first = subscriptions.chain(connection).min();
        let alarm = first.map(|at| {
            // Wall time may jump, so the moment is looked at again when it comes.
            let wait = at.since(now).clamp(Duration::from_millis(50), Duration::from_secs(3_600));
            Box::pin(tokio::time::sleep(wait))
        });
        if let Some(party) = self.party.as_mut() {
            party.alarm = alarm;
        }
    }

    /// Something may have run out.
    pub(super) async fn on_alarm(&mut self) -> Result<(), End> {
        let now = self.shared.clock.now();
        let Some(party) = self.party.as_mut() else { return Ok(()) };
        party.alarm = None;
        let (is_refreshed_by_backend, expires_at) =
            (party.is_refreshed_by_backend, party.expires_at);
        let grace = self.grace(is_refreshed_by_backend);
        if expires_at.is_some_and(|at| at.plus(grace) <= now) {
            self.renew().await?;
        }
        let Some(party) = self.party.as_mut() else { return Ok(()) };
        let (over, still): (Vec<_>, Vec<_>) =
            std::mem::take(&mut party.running_out).into_iter().partition(|each| each.at <= now);
        party.running_out = still;
        for each in over {
            self.on_subscription_over(each).await?;
        }
        self.set_alarm();
        Ok(())
    }

    /// The back end may say that the connection goes on.
    async fn renew(&mut self) -> Result<(), End> {
        let expired = || disconnect(DisconnectCode::ConnectionExpired);
        let Some(party) = self.party.as_mut() else { return Ok(()) };
        if !party.is_refreshed_by_backend {
            return Err(expired());
        }
        let Some(backend) = self.shared.backend.clone() else { return Err(expired()) };
        let answer = backend.refresh(&party.caller).await;
        match renewal(&answer, self.shared.clock.now()) {
            Renewal::Until(expires_at) => party.expires_at = expires_at,
            Renewal::Over => return Err(expired()),
            Renewal::Disconnect(code, reason) => return Err(ordered(code, reason)),
        }
        if let Ok(Refreshed { meta: Some(meta), .. }) = answer {
            party.caller.meta = meta;
        }
        Ok(())
    }

    /// The right to a subscription has run out; the back end may say that it goes on.
    async fn on_subscription_over(&mut self, over: RunningOut) -> Result<(), End> {
        let Some(party) = self.party.as_mut() else { return Ok(()) };
        let client = Arc::clone(party.connected.client());
        if over.asks_backend
            && client.is_subscribed(&over.channel)
            && let Some(backend) = self.shared.backend.clone()
        {
            let answer = backend.sub_refresh(&party.caller, over.channel.as_str()).await;
            match renewal(&answer, self.shared.clock.now()) {
                Renewal::Until(None) => return Ok(()),
                Renewal::Until(Some(at)) => {
                    party.running_out.push(RunningOut { at, ..over });
                    return Ok(());
                }
                Renewal::Over => {}
                Renewal::Disconnect(code, reason) => return Err(ordered(code, reason)),
            }
        }
        self.shared.hub.cut(&client, &over.channel, &Cut::Expired);
        Ok(())
    }
}

/// The application ends the connection.
fn ordered(code: u32, reason: String) -> End {
    End { reason: CloseReason::Refused, advice: Some((code, Arc::from(reason))) }
}

/// What the owner of a channel says, under the codes that SDKs know.
pub(super) fn owner_error(error: OwnerError) -> Denied {
    let code = match error {
        OwnerError::NotFound { .. } => ErrorCode::UnknownChannel,
        OwnerError::Forbidden { .. } => ErrorCode::PermissionDenied,
        OwnerError::Invalid { .. } => ErrorCode::BadRequest,
        OwnerError::Unavailable { .. } => ErrorCode::Internal,
    };
    Denied::Error(code.code(), error.to_string(), code.is_temporary())
}

/// Whole seconds, at least one.
pub(super) fn seconds_until(at: Timestamp, now: Timestamp) -> u32 {
    u32::try_from(at.since(now).as_secs()).unwrap_or(u32::MAX).max(1)
}
