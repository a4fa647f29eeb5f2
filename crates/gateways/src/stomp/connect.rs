//! CONNECT: who the client is, and what is agreed on.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use naru_domain::ports::{Caller, ChannelRight, Credentials, Login, TokenError};
use naru_domain::{ChannelName, Durability, PartyInfo, Timestamp};
use naru_hub::access::Granted;
use naru_hub::{Client, ClientSpec, Connected, Outlet};
use naru_wire::stomp::session::{Connect, SubscriptionKey};
use naru_wire::stomp::{Connected as ConnectedFrame, Headers, encode_connected};
use tokio::io::{AsyncRead, AsyncWrite};
use tracing::info;

use super::connection::{Talk, Told};
use super::names::new_token;
use super::outlet::StompOutlet;
use super::subscribe::Sub;
use super::trouble::Trouble;
use super::voice::Voice;
use super::work::Job;
use crate::connections::passed_headers;
use crate::limits::UserShare;

/// A client that said who it is.
pub(super) struct Party {
    pub(super) outlet: Arc<StompOutlet>,
    pub(super) caller: Caller,
    /// What it may do besides what namespaces let everybody do.
    rights: Vec<ChannelRight>,
    /// What its user may say, on all connections together.
    pub(super) share: Option<UserShare>,
    /// When its credentials run out.
    pub(super) expires_at: Option<Timestamp>,
    /// The back end said who it is, and is asked again then.
    pub(super) is_refreshed_by_backend: bool,
    pub(super) subs: Vec<Sub>,
    pub(super) jobs: Vec<Job>,
    /// How durably the ends of messages of queues have to be kept before the next receipt.
    pub(super) owed: Durability,
    /// The connection as the hub knows it. A client is in a channel once; STOMP lets a connection
    /// subscribe to the same channel again, and then it is several.
    pub(super) faces: Vec<Connected>,
    /// Names this connection in reply queues.
    token: Option<Box<str>>,
}

impl Party {
    /// The client that others see.
    pub(super) fn client(&self) -> &Arc<Client> {
        self.faces[0].client()
    }

    pub(super) fn sub(&self, key: SubscriptionKey) -> Option<&Sub> {
        self.subs.iter().find(|sub| sub.key == key)
    }

    pub(super) fn sub_mut(&mut self, key: SubscriptionKey) -> Option<&mut Sub> {
        self.subs.iter_mut().find(|sub| sub.key == key)
    }

    /// What its login or token lets it do in a channel.
    pub(super) fn granted(&self, channel: &ChannelName) -> Granted {
        Granted::of(&self.rights, channel)
    }

    /// Names this connection in reply queues.
    pub(super) fn token(&mut self) -> &str {
        self.token.get_or_insert_with(new_token)
    }

    /// When the first thing of this client runs out.
    pub(super) fn first_expiry(&self) -> Option<Timestamp> {
        let subscriptions = self.subs.iter().filter_map(|sub| sub.expires_at);
        subscriptions.chain(self.expires_at).min()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Talk<S> {
    /// Decides whether to let the client in. What it sent behind CONNECT is read afterwards.
    pub(super) async fn connect(&mut self, connect: Connect) -> Result<Told, Trouble> {
        let shared = Arc::clone(&self.shared);
        let hosts = &shared.options.hosts;
        let host = connect.host().unwrap_or_default();
        if !hosts.is_empty() && !hosts.iter().any(|each| each.eq_ignore_ascii_case(host)) {
            return Err(Trouble::forbidden("this server does not serve that host"));
        }
        let mut caller = Caller {
            client: uuid::Uuid::now_v7().to_string(),
            user: String::new(),
            transport: if self.is_ws() { "websocket" } else { "tcp" },
            protocol: "stomp",
            is_binary: true,
            meta: Bytes::new(),
            headers: passed_headers(
                shared.ports.backend.as_ref(),
                &self.opening.headers,
                connect.headers.iter(),
            ),
        };
        let (credentials, is_refreshed_by_backend) = self.credentials(&caller, &connect).await?;
        if credentials.expires_at.is_some_and(|at| at <= shared.ports.clock.now()) {
            return Err(Trouble::bad_credentials("the token has expired"));
        }
        caller.user.clone_from(&credentials.user);
        caller.meta = credentials.meta;
        let own = shared.own_heart_beat();
        let theirs = connect.heart_beat;
        let voice = Voice { version: connect.version, is_ws: self.is_ws() };
        let outlet = Arc::new(StompOutlet::new(
            Arc::clone(&self.out),
            voice,
            Arc::clone(&shared),
            own.send_every(theirs),
            own.gone_after(theirs),
        ));
        let info = PartyInfo {
            user: Arc::from(credentials.user.as_str()),
            client: Arc::from(caller.client.as_str()),
            conn_info: credentials.info,
            chan_info: Bytes::new(),
        };
        let face = self.face(info, &outlet)?;
        info!(
            target: "naru::stomp", client = %caller.client, user = %caller.user,
            peer = %self.opening.peer, version = connect.version.name(), "client connected",
        );
        shared.counters.connected.increment();
        self.session.accept();
        self.decoder.set_version(connect.version);
        self.link.set_message_bytes_max(shared.options.frames.frame_bytes_max);
        self.say(encode_connected(&ConnectedFrame {
            version: connect.version,
            heart_beat: own,
            session: &caller.client,
            server: &format!("naru/{}", shared.options.version),
            headers: &[],
        }));
        shared.turns.add(&outlet, outlet.first_turn());
        self.party = Some(Box::new(Party {
            outlet,
            caller,
            rights: credentials.rights,
            share: shared.options.user_rates.join(&face.client().info().user, Instant::now()),
            expires_at: credentials.expires_at,
            is_refreshed_by_backend,
            subs: Vec::new(),
            jobs: Vec::new(),
            owed: Durability::Memory,
            faces: vec![face],
            token: None,
        }));
        Ok(Told::new())
    }

    /// Enters the hub, once more if need be.
    pub(super) fn face(
        &self,
        info: PartyInfo,
        outlet: &Arc<StompOutlet>,
    ) -> Result<Connected, Trouble> {
        let spec = ClientSpec {
            info,
            kind: super::KIND,
            peer: self.opening.peer.to_string().into_boxed_str(),
            outlet: Arc::clone(outlet) as Arc<dyn Outlet>,
        };
        let too_many = |_| Trouble::forbidden("too many connections of this user");
        self.shared.ports.hub.connect(spec).map_err(too_many)
    }

    /// Who the client is, and whether the back end is asked when that runs out.
    async fn credentials(
        &self,
        caller: &Caller,
        connect: &Connect,
    ) -> Result<(Credentials, bool), Trouble> {
        let ports = &self.shared.ports;
        if let Some(token) = token(&connect.headers) {
            let checked = ports.tokens.load().connect(token, ports.clock.now());
            return checked.map(|known| (known, false)).map_err(|error| match error {
                TokenError::Expired => Trouble::bad_credentials("the token has expired"),
                TokenError::Invalid => Trouble::bad_credentials("the token is not accepted"),
            });
        }
        let login = connect.login().unwrap_or_default();
        if !login.is_empty() {
            let passcode = connect.passcode().unwrap_or_default();
            return self.login(login, passcode).await.map(|known| (known, false));
        }
        if let Some(backend) = &ports.backend
            && backend.events().connect
        {
            let version = connect.version.name();
            let known = backend.connect(caller, "stomp", version, Bytes::new()).await;
            let known = known.map_err(|refusal| match Trouble::from(refusal) {
                refused if refused.code == "forbidden" => Trouble::bad_credentials(refused.message),
                other => other,
            })?;
            return Ok((known, backend.events().refresh));
        }
        if self.shared.options.allow_anonymous {
            return Ok((Credentials::default(), false));
        }
        Err(Trouble::bad_credentials("CONNECT needs login and passcode, or a token"))
    }

    async fn login(&self, name: &str, passcode: &str) -> Result<Credentials, Trouble> {
        let refused = || Trouble::bad_credentials("login and passcode are not accepted");
        let Some(logins) = &self.shared.ports.logins else { return Err(refused()) };
        let source = self.opening.peer.ip().to_string();
        match logins.login(name, passcode, &source).await {
            Login::Known { user, rights } => {
                Ok(Credentials { user, rights, ..Credentials::default() })
            }
            Login::Refused => Err(refused()),
            Login::Locked => {
                Err(Trouble::bad_credentials("too many wrong passcodes: try again later"))
            }
        }
    }
}

/// The token of a CONNECT frame, wherever clients put it.
fn token(headers: &Headers) -> Option<&str> {
    let named = |wanted: &str| {
        let mut found = headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
        found.next().map(|(_, value)| value.trim()).filter(|value| !value.is_empty())
    };
    if let Some(value) = named("authorization") {
        let (scheme, token) = value.split_once(' ').unwrap_or(("", value));
        return Some(if scheme.eq_ignore_ascii_case("bearer") { token.trim() } else { value });
    }
    // A client that has no other field puts it where the password goes.
    named("token").or_else(|| named("passcode").filter(|passcode| looks_like_token(passcode)))
}

/// Three parts of base64, of which the first is JSON.
fn looks_like_token(text: &str) -> bool {
    text.starts_with("eyJ") && text.split('.').count() == 3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_where_clients_put_it() {
        let found = |pairs: &[(&'static str, &'static str)]| {
            let headers: Headers = pairs.iter().copied().collect();
            token(&headers).map(str::to_owned)
        };
        assert_eq!(found(&[("Authorization", "Bearer a.b.c")]).as_deref(), Some("a.b.c"));
        assert_eq!(found(&[("authorization", "a.b.c")]).as_deref(), Some("a.b.c"));
        assert_eq!(found(&[("token", "a.b.c"), ("passcode", "x")]).as_deref(), Some("a.b.c"));
        assert_eq!(found(&[("passcode", "eyJh.b.c")]).as_deref(), Some("eyJh.b.c"));
        assert_eq!(found(&[("login", "ann"), ("passcode", "eyJ secret")]), None);
    }
}
