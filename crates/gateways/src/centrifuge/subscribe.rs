//! How a subscription of a Centrifuge client begins, with what it recovers, and how it is kept alive.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use naru_domain::ports::{SubscribeGrant, TokenError};
use naru_domain::{ChannelName, Epoch, Offset, Position, Publication, Timestamp};
use naru_hub::access::{Asker, Granted, MaySubscribe, NameRefused, Namespace};
use naru_hub::{Filter, Mark, Recover, SubscribeError, SubscribeSpec, Subscribed, Traits};
use naru_wire::centrifuge::{
    self as wire, Answer, DisconnectCode, ErrorCode, Protocol, Push, Reply, SubRefreshRequest,
    SubRefreshResult, SubscribeRequest, SubscribeResult, TagsFilter, flag,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tracing::debug;

use super::connect::{Denied, owner_error, seconds_until};
use super::connection::{End, RunningOut, Talk, bad_request, disconnect};
use super::outlet::{self, DELTA, SERVER_SIDE, frame};
use crate::outgoing::Outgoing;

/// A subscription that has begun, with all that its client is told.
pub(super) struct Entered {
    epoch: String,
    offset: u64,
    is_recoverable: bool,
    is_positioned: bool,
    is_recovered: bool,
    was_recovering: bool,
    is_delta: bool,
    publications: Vec<Recovered>,
    data: Bytes,
    ttl: Option<u32>,
}

/// A publication of an answer.
struct Recovered {
    publication: Arc<Publication>,
    tags: Option<BTreeMap<String, String>>,
    /// The difference to the one before.
    difference: Option<Vec<u8>>,
}

/// What the answer says of the subscription, whatever history has.
#[derive(Clone, Default)]
struct Shape {
    is_recoverable: bool,
    is_positioned: bool,
    is_delta: bool,
    data: Bytes,
    ttl: Option<u32>,
}

impl Entered {
    fn new(subscribed: &Subscribed, shape: Shape, protocol: Protocol) -> Entered {
        let is_recovered = subscribed.is_recovered();
        let mut publications: Vec<Recovered> = Vec::new();
        if is_recovered {
            for publication in &subscribed.publications {
                let difference = publications.last().filter(|_| shape.is_delta).and_then(|last| {
                    let is_marked = publication.meta.as_ref().is_some_and(|meta| meta.is_delta);
                    let old = &last.publication.data;
                    is_marked
                        .then(|| outlet::difference(protocol, old, &publication.data))
                        .flatten()
                        .map(std::borrow::Cow::into_owned)
                });
                publications.push(Recovered {
                    tags: outlet::tags(publication),
                    publication: Arc::clone(publication),
                    difference,
                });
            }
        }
        let Shape { is_recoverable, is_positioned, is_delta, data, ttl } = shape;
        Entered {
            epoch: subscribed.position.epoch.to_string(),
            offset: subscribed.position.offset.0,
            is_recoverable,
            is_positioned: is_positioned || is_recoverable,
            is_recovered,
            was_recovering: subscribed.was_recovering,
            is_delta,
            publications,
            data,
            ttl,
        }
    }

    /// The recovered publications as the wire has them. One that this client cannot read is left out;
    /// its connection is about to end for it.
    pub(super) fn views(&self, protocol: Protocol) -> Vec<wire::Publication<'_>> {
        self.publications
            .iter()
            .filter_map(|each| {
                let delta = each.difference.as_deref();
                outlet::publication(protocol, &each.publication, &each.tags, delta, self.is_delta)
            })
            .collect()
    }

    /// The result as the wire has it.
    pub(super) fn result<'a>(&'a self, views: &'a [wire::Publication<'a>]) -> SubscribeResult<'a> {
        let has_position = self.is_positioned;
        SubscribeResult {
            ttl: self.ttl,
            recoverable: self.is_recoverable,
            epoch: if has_position { &self.epoch } else { "" },
            publications: views,
            recovered: self.is_recovered,
            offset: if has_position { self.offset } else { 0 },
            positioned: has_position,
            data: &self.data,
            was_recovering: self.was_recovering,
            delta: self.is_delta,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Talk<S> {
    /// A subscription that the client asks for.
    pub(super) async fn subscribe(
        &mut self,
        id: u32,
        request: SubscribeRequest,
    ) -> Result<(), End> {
        if request.channel.is_empty() || !matches!(&*request.delta, "" | "fossil") {
            return Err(bad_request());
        }
        match self.try_subscribe(id, &request).await {
            Ok(()) => Ok(()),
            Err(denied) => self.deny(id, denied),
        }
    }

    async fn try_subscribe(&mut self, id: u32, request: &SubscribeRequest) -> Result<(), Denied> {
        let channel = self.channel(&request.channel)?;
        let namespaces = self.shared.namespaces.load_full();
        let namespace = namespaces.of(&channel).map_err(refused_name)?;
        if request.kind != 0 {
            return Err(ErrorCode::PermissionDenied.into());
        }
        self.check_owner(&channel, namespace)?;
        let filter = filter(namespace, request)?;
        let grant = self.grant(&channel, namespace, request).await?;
        let asks_backend = request.token.is_empty() && namespace.sub_refresh_proxy_enabled;
        let (mut plan, mut shape) = self.plan(&channel, namespace, Some(request), &grant, false);
        // The client is not to bring a token that it never had.
        shape.ttl = shape.ttl.filter(|_| !asks_backend);
        plan.filter = filter;
        let protocol = self.protocol();
        let out = Arc::clone(&self.out);
        let expires_at = grant.expires_at;
        let mut is_unfit = false;
        let ready = |subscribed: &Subscribed| {
            let entered = Entered::new(subscribed, shape, protocol);
            let views = entered.views(protocol);
            is_unfit = views.len() != entered.publications.len();
            let reply = Reply::ok(id, Answer::Subscribe(entered.result(&views)));
            match wire::encode_reply(protocol, &reply) {
                Ok(payload) => out.push_own(frame(protocol, &payload)),
                Err(_unfit) => is_unfit = true,
            }
            push_early(&out, protocol, &channel, subscribed, entered.is_delta);
        };
        self.begin(plan, ready).await?;
        if is_unfit {
            return Err(DisconnectCode::InappropriateProtocol.into());
        }
        self.note_expiry(channel, expires_at, asks_backend);
        Ok(())
    }

    /// A subscription that the server begins, for the answer to a connect.
    pub(super) async fn enter(
        &mut self,
        channel: &ChannelName,
        wish: Option<&SubscribeRequest>,
        grant: SubscribeGrant,
        is_server_side: bool,
    ) -> Result<Entered, Denied> {
        let namespaces = self.shared.namespaces.load_full();
        let namespace = namespaces.of(channel).map_err(refused_name)?;
        self.check_owner(channel, namespace)?;
        let asks_backend = namespace.sub_refresh_proxy_enabled;
        let (plan, mut shape) = self.plan(channel, namespace, wish, &grant, is_server_side);
        shape.ttl = shape.ttl.filter(|_| !asks_backend);
        let protocol = self.protocol();
        let out = Arc::clone(&self.out);
        let mut entered = None;
        let ready = |subscribed: &Subscribed| {
            let began = Entered::new(subscribed, shape, protocol);
            push_early(&out, protocol, channel, subscribed, began.is_delta);
            entered = Some(began);
        };
        self.begin(plan, ready).await?;
        self.note_expiry(channel.clone(), grant.expires_at, asks_backend);
        entered.ok_or_else(|| ErrorCode::Internal.into())
    }

    async fn begin(
        &self,
        plan: SubscribeSpec,
        ready: impl FnOnce(&Subscribed) + Send,
    ) -> Result<Position, Denied> {
        let Some(party) = &self.party else { return Err(Denied::End(bad_request())) };
        let subscribed = self.shared.hub.subscribe(party.connected.client(), plan, ready).await;
        subscribed.map_err(|error| match error {
            SubscribeError::AlreadySubscribed => ErrorCode::AlreadySubscribed.into(),
            SubscribeError::TooMany { .. } => ErrorCode::LimitExceeded.into(),
            SubscribeError::NotRecovered => ErrorCode::UnrecoverablePosition.into(),
            SubscribeError::Gone | SubscribeError::Bus(_) => ErrorCode::Internal.into(),
            SubscribeError::Owner(error) => owner_error(error),
        })
    }

    /// What belongs to somebody else stays closed whatever a token or the back end says.
    fn check_owner(&self, channel: &ChannelName, namespace: &Namespace) -> Result<(), Denied> {
        let user = self.party.as_ref().map_or("", |party| party.caller.user.as_str());
        match namespace.is_closed_to(channel, user) {
            true => Err(ErrorCode::PermissionDenied.into()),
            false => Ok(()),
        }
    }

    /// The right to subscribe: by a token, by the rules, or by the back end.
    async fn grant(
        &self,
        channel: &ChannelName,
        namespace: &Namespace,
        request: &SubscribeRequest,
    ) -> Result<SubscribeGrant, Denied> {
        let Some(party) = &self.party else { return Err(Denied::End(bad_request())) };
        if !request.token.is_empty() {
            let now = self.shared.clock.now();
            let claims = match self.shared.tokens.load().subscribe(&request.token, now) {
                Ok(claims) => claims,
                Err(TokenError::Expired) => return Err(ErrorCode::TokenExpired.into()),
                Err(TokenError::Invalid) => return Err(ErrorCode::PermissionDenied.into()),
            };
            let is_foreign = claims.channel != channel.as_str()
                || claims.user != party.caller.user
                || claims.client.is_some_and(|client| client != party.caller.client);
            if is_foreign {
                return Err(DisconnectCode::InvalidToken.into());
            }
            return Ok(claims.grant);
        }
        let granted = Granted::of(&party.rights, channel);
        match namespace.may_subscribe(channel, &party.caller.user, granted) {
            MaySubscribe::Yes => Ok(SubscribeGrant::default()),
            MaySubscribe::No => Err(ErrorCode::PermissionDenied.into()),
            MaySubscribe::AskBackend => {
                let Some(backend) = &self.shared.backend else {
                    return Err(ErrorCode::NotAvailable.into());
                };
                let (name, data) = (channel.as_str(), request.data.clone());
                backend.subscribe(&party.caller, name, data).await.map_err(Denied::from)
            }
        }
    }

    /// What the hub is asked for, and what the answer will say.
    fn plan(
        &self,
        channel: &ChannelName,
        namespace: &Namespace,
        wish: Option<&SubscribeRequest>,
        grant: &SubscribeGrant,
        is_server_side: bool,
    ) -> (SubscribeSpec, Shape) {
        let party = self.party.as_ref();
        let user = party.map_or("", |party| party.caller.user.as_str());
        let granted =
            party.map_or_else(Granted::default, |party| Granted::of(&party.rights, channel));
        // Who subscribes may wish for what subscribers may.
        let asker = Asker { user, is_subscribed: true, granted };
        let overrides = grant.overrides;
        let wishes = |wish_of: fn(&SubscribeRequest) -> bool| wish.is_some_and(wish_of);
        let is_recoverable = overrides.force_recovery.map_or_else(
            || namespace.recovers(wishes(|w| w.recoverable), asker),
            |forced| forced && namespace.has_history,
        );
        let is_positioned = is_recoverable
            || overrides.force_positioning.map_or_else(
                || namespace.positions(wishes(|w| w.positioned), asker),
                |forced| forced && namespace.has_history,
            );
        // A difference builds on the publication before, which a filter may have kept back.
        let is_delta = wish.is_some_and(|wish| wish.delta == "fossil" && wish.tf.is_none())
            && namespace.allow_fossil_delta
            && namespace.has_history;
        let shows_membership = overrides.join_leave.unwrap_or(namespace.join_leave);
        let gets_membership = overrides.force_push_join_leave.unwrap_or(false)
            || namespace.pushes_join_leave(wishes(|w| w.join_leave), asker);
        let traits = Traits {
            is_positioned,
            gets_membership,
            shows_membership,
            is_present: overrides.presence.unwrap_or(namespace.presence),
            is_server_side,
        };
        let bits = if is_delta { DELTA } else { 0 } | if is_server_side { SERVER_SIDE } else { 0 };
        let spec = SubscribeSpec {
            channel: channel.clone(),
            recover: recover(namespace, wish, is_recoverable),
            must_recover: wish.is_some_and(|w| w.recover && w.flag & flag::REJECT_UNRECOVERED != 0),
            mark: Mark { variant: None, bits },
            traits,
            filter: None,
            chan_info: grant.info.clone(),
        };
        let now = self.shared.clock.now();
        let ttl = grant.expires_at.map(|at| seconds_until(at, now));
        let data = grant.data.clone();
        (spec, Shape { is_recoverable, is_positioned, is_delta, data, ttl })
    }

    /// A new token for a subscription.
    pub(super) fn sub_refresh(&mut self, id: u32, request: SubRefreshRequest) -> Result<(), End> {
        if request.kind != 0 {
            return self.refuse(id, ErrorCode::NotAvailable);
        }
        let now = self.shared.clock.now();
        let claims = match self.shared.tokens.load().subscribe(&request.token, now) {
            Ok(claims) => claims,
            Err(TokenError::Expired) => return self.refuse(id, ErrorCode::TokenExpired),
            Err(TokenError::Invalid) => return Err(disconnect(DisconnectCode::InvalidToken)),
        };
        let Some(party) = self.party.as_ref() else { return Err(bad_request()) };
        // Old Python clients leave the channel out.
        let name = if request.channel.is_empty() { &claims.channel } else { &request.channel };
        let is_foreign = claims.channel != *name
            || claims.user != party.caller.user
            || claims.client.as_ref().is_some_and(|client| *client != party.caller.client);
        if is_foreign {
            return Err(disconnect(DisconnectCode::InvalidToken));
        }
        let Ok(channel) = ChannelName::parse(name) else { return Err(bad_request()) };
        if !party.connected.client().is_subscribed(&channel) {
            return self.refuse(id, ErrorCode::PermissionDenied);
        }
        let expires_at = claims.grant.expires_at;
        self.note_expiry(channel, expires_at, false);
        let ttl = expires_at.map(|at| seconds_until(at, now));
        self.answer(id, Answer::SubRefresh(SubRefreshResult { ttl }))
    }

    /// When the subscription runs out, if it does.
    fn note_expiry(
        &mut self,
        channel: ChannelName,
        expires_at: Option<Timestamp>,
        asks_backend: bool,
    ) {
        let delay =
            if asks_backend { Duration::ZERO } else { self.shared.options.expired_close_delay };
        let Some(party) = self.party.as_mut() else { return };
        if expires_at.is_none() && party.running_out.is_empty() {
            return;
        }
        party.running_out.retain(|each| each.channel != channel);
        let at = expires_at.map(|at| at.plus(delay));
        party.running_out.extend(at.map(|at| RunningOut { channel, at, asks_backend }));
        self.set_alarm();
    }

    /// A name that a client gave.
    pub(super) fn channel(&self, raw: &str) -> Result<ChannelName, ErrorCode> {
        if raw.len() > self.shared.options.channel_bytes_max {
            return Err(ErrorCode::BadRequest);
        }
        ChannelName::parse(raw).map_err(|_| ErrorCode::BadRequest)
    }
}

/// What came while a subscription without recovery began comes behind its answer, like anything live.
fn push_early(
    out: &Outgoing,
    protocol: Protocol,
    channel: &ChannelName,
    subscribed: &Subscribed,
    is_delta: bool,
) {
    if subscribed.is_recovered() {
        return;
    }
    for publication in &subscribed.publications {
        let tags = outlet::tags(publication);
        let view = outlet::publication(protocol, publication, &tags, None, is_delta);
        let pushed = view.map(|publication| {
            let push = Push::Publication { channel: channel.as_str(), publication };
            wire::encode_push(protocol, &push)
        });
        if let Some(Ok(payload)) = pushed {
            out.push_own(frame(protocol, &payload));
        }
    }
}

/// Which publications the client wants, if it says so.
fn filter(namespace: &Namespace, request: &SubscribeRequest) -> Result<Option<Filter>, Denied> {
    let Some(tree) = &request.tf else { return Ok(None) };
    if !namespace.allow_tags_filter {
        return Err(ErrorCode::BadRequest.into());
    }
    let tags = TagsFilter::parse(tree).map_err(|error| {
        debug!(target: "naru::client", %error, "unusable filter");
        ErrorCode::BadRequest
    })?;
    Ok(Some(Filter::new(move |publication| {
        tags.passes(|name| publication.meta.as_ref().and_then(|meta| meta.tag(name)))
    })))
}

/// What of the past the client gets.
fn recover(
    namespace: &Namespace,
    wish: Option<&SubscribeRequest>,
    is_recoverable: bool,
) -> Recover {
    let asked = wish.filter(|wish| wish.recover);
    if namespace.is_cache && is_recoverable {
        if asked.is_none() && !namespace.auto_cache_recover {
            return Recover::Nothing;
        }
        let seen = asked.and_then(|wish| {
            let epoch = Epoch::parse(&wish.epoch)?;
            Some(Position { epoch, offset: Offset(wish.offset) })
        });
        return Recover::Newest { seen };
    }
    let Some(wish) = asked else { return Recover::Nothing };
    // An epoch that we never gave out is one that matches nothing.
    const NONE_OF_OURS: Epoch = Epoch(u64::MAX);
    let epoch = match wish.epoch.as_str() {
        "" => None,
        raw => Some(Epoch::parse(raw).unwrap_or(NONE_OF_OURS)),
    };
    let epoch = if is_recoverable { epoch } else { Some(NONE_OF_OURS) };
    Recover::Since { epoch, offset: Offset(wish.offset) }
}

pub(super) fn refused_name(refused: NameRefused) -> Denied {
    match refused {
        NameRefused::UnknownNamespace => ErrorCode::UnknownChannel.into(),
        NameRefused::BadName => ErrorCode::BadRequest.into(),
    }
}
