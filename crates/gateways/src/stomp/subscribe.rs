//! Subscriptions: how they begin, how they go on where a client was, how they come up with the present
//! when its reader was slow, and what is acknowledged on them.

use std::sync::Arc;

use bytes::Bytes;
use naru_domain::ports::{HistoryQuery, SubscribeGrant};
use naru_domain::{ChannelName, Epoch, Offset, Position, Publication, Timestamp};
use naru_hub::access::{MaySubscribe, Namespace};
use naru_hub::{Cut, Mark, Recover, SubscribeError, SubscribeSpec, Subscribed, Traits};
use naru_wire::stomp::session::{AckMode, Delivery, Settle, Subscribe, SubscriptionKey, Unsettled};
use naru_wire::stomp::{Destination, position_text};
use tokio::io::{AsyncRead, AsyncWrite};

use super::connection::{Talk, Told};
use super::durable::Durable;
use super::names::{self, Class};
use super::outlet::{self, Place};
use super::send::refused_name;
use super::trouble::Trouble;
use super::voice::Aside;

/// Publications read at once for a subscription that is behind.
const CATCH_UP_PAGE: usize = 100;
/// How often a subscription that is up to date tries to join the live flow before it gives up: each try
/// fails only if history was trimmed meanwhile.
const JOIN_ATTEMPTS_MAX: u32 = 5;
/// An epoch that was never given out.
const NO_EPOCH: Epoch = Epoch(u64::MAX);

/// A subscription to a channel.
pub(super) struct Sub {
    pub(super) key: SubscriptionKey,
    pub(super) expires_at: Option<Timestamp>,
    place: Place,
    class: Class,
    /// Deliveries go through the task, which keeps account of them.
    is_counted: bool,
    has_history: bool,
    /// Which of the connection's faces is in the channel.
    face: usize,
    traits: Traits,
    chan_info: Bytes,
    /// Where it began to follow live.
    position: Position,
    /// Not live: history has to be read from here on.
    behind: Option<Behind>,
    pub(super) durable: Option<Box<Durable>>,
}

#[derive(Clone, Copy)]
struct Behind {
    since: Position,
    /// Offsets that are lost, to be told with the next message.
    gap: Option<(u64, u64)>,
}

/// What a client asked for, allowed already.
struct Wish {
    place: Place,
    class: Class,
    is_cache: bool,
    recovers: bool,
    shows_newest: bool,
    grant: SubscribeGrant,
    namespace: Namespace,
}

impl Sub {
    pub(super) fn channel(&self) -> &ChannelName {
        &self.place.channel
    }

    fn mark(&self, has_gap: bool) -> Mark {
        outlet::mark(self.class, self.place.id.as_ref(), self.is_counted, has_gap)
    }

    fn spec(&self, recover: Recover, must_recover: bool, has_gap: bool) -> SubscribeSpec {
        SubscribeSpec {
            channel: self.place.channel.clone(),
            recover,
            must_recover,
            mark: self.mark(has_gap),
            traits: self.traits,
            filter: None,
            chan_info: self.chan_info.clone(),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Talk<S> {
    pub(super) async fn subscribe(&mut self, subscribe: Subscribe) -> Result<Told, Trouble> {
        if let Destination::Queue(name) = names::parse(subscribe.destination())? {
            return self.consume(&subscribe, name).await;
        }
        let wish = self.wish(&subscribe).await?;
        let durable = match wish.namespace.has_history {
            true => self.durable(&subscribe).await?,
            false => None,
        };
        let saved = durable.as_ref().and_then(Durable::saved);
        let face = self.free_face(&wish.place.channel)?;
        let overrides = wish.grant.overrides;
        let is_seen = face == 0;
        let has_history = wish.namespace.has_history;
        let sub = Sub {
            key: subscribe.key,
            expires_at: wish.grant.expires_at,
            class: wish.class,
            is_counted: subscribe.mode != AckMode::Auto || durable.is_some(),
            has_history,
            face,
            traits: Traits {
                is_positioned: has_history,
                gets_membership: false,
                shows_membership: is_seen
                    && overrides.join_leave.unwrap_or(wish.namespace.join_leave),
                is_present: is_seen && overrides.presence.unwrap_or(wish.namespace.presence),
                is_server_side: false,
            },
            chan_info: wish.grant.info.clone(),
            position: Position { epoch: NO_EPOCH, offset: Offset(0) },
            behind: None,
            durable: durable.map(Box::new),
            place: wish.place.clone(),
        };
        let Some(party) = self.party.as_mut() else { return Err(Trouble::internal()) };
        party.subs.push(sub);
        let last = subscribe.last_position.or(saved);
        let told = self.begin(subscribe.key, last, &wish).await?;
        self.save_positions().await?;
        self.set_alarm();
        Ok(told)
    }

    /// Starts the flow, and says what the receipt has to tell.
    async fn begin(
        &mut self,
        key: SubscriptionKey,
        last: Option<Position>,
        wish: &Wish,
    ) -> Result<Told, Trouble> {
        let mut told = Told::new();
        if let (Some(last), true, false) = (last, wish.namespace.has_history, wish.is_cache) {
            // Who may not recover has an epoch that fits nothing.
            let since = if wish.recovers { last } else { Position { epoch: NO_EPOCH, ..last } };
            let top = self
                .shared
                .ports
                .hub
                .history(&wish.place.channel, HistoryQuery { since: Some(since), limit: 0 });
            let page = top.await.map_err(|error| Trouble::from(&error))?;
            told.push(("recovered", page.complete.to_string()));
            told.push(("position", position_text(page.top)));
            let behind = if wish.recovers {
                Behind { since, gap: None }
            } else {
                Behind { since: page.top, gap: None }
            };
            if let Some(sub) = self.sub_mut(key) {
                sub.behind = Some(behind);
            }
            self.catch_up(key).await?;
            return Ok(told);
        }
        let recover = match last {
            _ if wish.is_cache && wish.recovers && (last.is_some() || wish.shows_newest) => {
                Recover::Newest { seen: last }
            }
            _ => Recover::Nothing,
        };
        let (top, is_recovered) = self.join(key, recover, false).await.map_err(refused_join)?;
        if last.is_some() {
            told.push(("recovered", is_recovered.to_string()));
        }
        if wish.namespace.has_history {
            told.push(("position", position_text(top)));
        }
        Ok(told)
    }

    /// Lets a subscription follow the live flow. Where that begins, and whether it got all it asked for.
    async fn join(
        &mut self,
        key: SubscriptionKey,
        recover: Recover,
        must_recover: bool,
    ) -> Result<(Position, bool), SubscribeError> {
        let Some(party) = self.party.as_ref() else { return Err(SubscribeError::Gone) };
        let Some(sub) = party.sub(key) else { return Err(SubscribeError::Gone) };
        let gap = sub.behind.and_then(|behind| behind.gap);
        let spec = sub.spec(recover, must_recover, gap.is_some() && !sub.is_counted);
        if let Some(gap) = gap {
            party.outlet.note_gap(&sub.place, gap_text(gap));
        }
        let (place, mark, outlet) = (&sub.place, sub.mark(false), &party.outlet);
        let mut begin = (Position { epoch: NO_EPOCH, offset: Offset(0) }, false);
        let ready = |subscribed: &Subscribed| {
            begin = (subscribed.position, subscribed.is_recovered());
            for publication in &subscribed.publications {
                outlet.put(place, &mark, publication);
            }
        };
        let client = Arc::clone(party.faces[sub.face].client());
        let joined = self.shared.ports.hub.subscribe(&client, spec, ready).await;
        let position = match joined {
            Ok(position) => position,
            Err(error) => {
                if gap.is_some() {
                    drop(outlet.take_gap(place));
                }
                return Err(error);
            }
        };
        if let Some(sub) = self.sub_mut(key) {
            sub.position = position;
            sub.behind = None;
            if let Some(durable) = &mut sub.durable {
                durable.begin(begin.0);
            }
        }
        self.deliver(key);
        Ok(begin)
    }

    fn sub_mut(&mut self, key: SubscriptionKey) -> Option<&mut Sub> {
        self.party.as_mut()?.sub_mut(key)
    }

    /// The first of the connection's faces that is not in the channel.
    fn free_face(&mut self, channel: &ChannelName) -> Result<usize, Trouble> {
        let Some(party) = self.party.as_ref() else { return Err(Trouble::internal()) };
        let taken: Vec<usize> =
            party.subs.iter().filter(|sub| sub.place.channel == *channel).map(|s| s.face).collect();
        let free = (0..party.faces.len()).find(|face| !taken.contains(face));
        if let Some(free) = free {
            return Ok(free);
        }
        let mut info = party.client().info().clone();
        info.client = Arc::from(uuid::Uuid::now_v7().to_string());
        let face = self.face(info, &party.outlet)?;
        let Some(party) = self.party.as_mut() else { return Err(Trouble::internal()) };
        party.faces.push(face);
        Ok(party.faces.len() - 1)
    }

    /// Looks at what a subscription needs: a place to listen at and the right to.
    async fn wish(&mut self, subscribe: &Subscribe) -> Result<Wish, Trouble> {
        let id = subscribe.headers.get("id").filter(|id| !id.is_empty()).map(Arc::from);
        let Some(party) = self.party.as_mut() else { return Err(Trouble::internal()) };
        let own = |class, channel: ChannelName, id, has_history| Wish {
            place: Place { channel, id },
            class,
            is_cache: false,
            recovers: has_history,
            shows_newest: false,
            grant: SubscribeGrant::default(),
            namespace: Namespace { has_history, ..Namespace::default() },
        };
        match names::parse(subscribe.destination())? {
            Destination::Topic(name) => {
                let channel = names::channel(name, self.shared.options.channel_bytes_max)?;
                self.wish_topic(channel, id).await
            }
            Destination::OwnQueue(name) => {
                let channel = names::user_channel(&party.caller.user, name)?;
                let has_history = self.shared.ports.hub.namespace(&channel).history_size > 0;
                Ok(own(Class::User, channel, id, has_history))
            }
            Destination::TempQueue(name) => {
                let token = party.token();
                if names::is_foreign(token, name) {
                    return Err(Trouble::forbidden("a reply queue of another connection"));
                }
                Ok(own(Class::Temp, names::temp_channel(token, name)?, id, false))
            }
            // Queues have no channel: whoever calls this has looked.
            Destination::Queue(_) => Err(Trouble::internal()),
            Destination::App(_) => Err(Trouble::unknown_destination("/app can only be sent to")),
            Destination::UserQueue { .. } => Err(Trouble::unknown_destination(
                "a user subscribes to what is its own as /user/queue/NAME",
            )),
        }
    }

    async fn wish_topic(
        &self,
        channel: ChannelName,
        id: Option<Arc<str>>,
    ) -> Result<Wish, Trouble> {
        let Some(party) = self.party.as_ref() else { return Err(Trouble::internal()) };
        let namespaces = self.shared.ports.namespaces.load_full();
        let namespace = namespaces.of(&channel).map_err(refused_name)?.clone();
        let user = party.caller.user.as_str();
        let granted = party.granted(&channel);
        let grant = match namespace.may_subscribe(&channel, user, granted) {
            MaySubscribe::Yes => SubscribeGrant::default(),
            MaySubscribe::No => return Err(Trouble::forbidden("you may not subscribe there")),
            MaySubscribe::AskBackend => {
                let Some(backend) = &self.shared.ports.backend else {
                    return Err(Trouble::not_available("there is no application to ask"));
                };
                backend.subscribe(&party.caller, channel.as_str(), Bytes::new()).await?
            }
        };
        // Who subscribes may wish for what subscribers may.
        let asker = naru_hub::access::Asker { user, is_subscribed: true, granted };
        let forced = grant.overrides.force_recovery;
        let recovers = forced.map_or_else(
            || namespace.recovers(true, asker),
            |forced| forced && namespace.has_history,
        );
        Ok(Wish {
            place: Place { channel, id },
            class: Class::Topic,
            is_cache: namespace.is_cache,
            recovers,
            shows_newest: namespace.auto_cache_recover,
            grant,
            namespace,
        })
    }

    pub(super) async fn unsubscribe(&mut self, ended: &Unsettled) -> Result<Told, Trouble> {
        self.save_positions().await?;
        let Some(party) = self.party.as_mut() else { return Err(Trouble::internal()) };
        let Some(at) = party.subs.iter().position(|sub| sub.key == ended.subscription) else {
            self.stop_consuming(ended.subscription);
            return Ok(Told::new());
        };
        let sub = party.subs.swap_remove(at);
        self.shared.ports.hub.unsubscribe(party.faces[sub.face].client(), &sub.place.channel);
        party.outlet.forget(&sub.place);
        Ok(Told::new())
    }

    /// Deliveries were consumed or refused. On a channel nothing follows from that but room for more.
    pub(super) fn settle(&mut self, settle: &Settle) -> Result<Told, Trouble> {
        if self.settle_work(settle) {
            return Ok(Told::new());
        }
        if let Some(durable) =
            self.sub_mut(settle.subscription).and_then(|sub| sub.durable.as_mut())
        {
            settle.deliveries.iter().for_each(|offset| durable.settled(*offset));
        }
        self.deliver(settle.subscription);
        Ok(Told::new())
    }
}

/// Catching up.
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Talk<S> {
    /// Whether a subscription is behind and could go on.
    pub(super) fn may_catch_up(&self) -> bool {
        let Some(party) = &self.party else { return false };
        self.may_work()
            || party.subs.iter().any(|sub| {
                let waits = sub.behind.is_some()
                    || (sub.is_counted && party.outlet.has_pending(&sub.place));
                waits && self.has_room(sub.key)
            })
    }

    pub(super) async fn catch_up_all(&mut self) -> Result<(), Trouble> {
        self.deliver_all();
        self.work_all();
        let Some(party) = &self.party else { return Ok(()) };
        let behind = party.subs.iter().filter(|sub| sub.behind.is_some()).map(|sub| sub.key);
        for key in behind.collect::<Vec<_>>() {
            self.catch_up(key).await?;
        }
        Ok(())
    }

    pub(super) fn has_room(&self, key: SubscriptionKey) -> bool {
        !self.out.is_congested()
            && self.session.subscription(key).is_some_and(|each| !each.is_window_full())
    }

    /// Delivers from history until the client has all there is, and then lets it follow live; or until it
    /// has to read, or acknowledge, before it gets more.
    async fn catch_up(&mut self, key: SubscriptionKey) -> Result<(), Trouble> {
        let mut attempts = 0;
        loop {
            self.deliver(key);
            let Some(party) = self.party.as_ref() else { return Ok(()) };
            let Some(sub) = party.sub(key) else { return Ok(()) };
            let Some(behind) = sub.behind else { return Ok(()) };
            if !self.has_room(key) || party.outlet.has_pending(&sub.place) {
                return Ok(());
            }
            let query = HistoryQuery { since: Some(behind.since), limit: CATCH_UP_PAGE };
            let page = self.shared.ports.hub.history(&sub.place.channel, query);
            let page = page.await.map_err(|error| Trouble::from(&error))?;
            let first = page.publications.first().map(|first| first.position);
            if !page.complete {
                self.note_loss(key, first, page.top);
            }
            for publication in &page.publications {
                if !self.has_room(key) {
                    return Ok(());
                }
                self.deliver_missed(key, publication);
            }
            let Some(sub) = self.party.as_ref().and_then(|party| party.sub(key)) else {
                return Ok(());
            };
            let Some(behind) = sub.behind else { return Ok(()) };
            if behind.since != page.top {
                continue;
            }
            let Position { epoch, offset } = behind.since;
            let recover = Recover::Since { epoch: Some(epoch), offset };
            match self.join(key, recover, true).await {
                Ok(_) => return Ok(()),
                Err(SubscribeError::NotRecovered) if attempts < JOIN_ATTEMPTS_MAX => attempts += 1,
                Err(error) => return Err(refused_join(error)),
            }
        }
    }

    /// What came after `since` is not all there any more: goes on with what is.
    fn note_loss(&mut self, key: SubscriptionKey, first: Option<Position>, top: Position) {
        self.shared.counters.gaps.increment();
        let Some(behind) = self.sub_mut(key).and_then(|sub| sub.behind.as_mut()) else { return };
        let base = match first {
            Some(first) => Position { offset: Offset(first.offset.0.saturating_sub(1)), ..first },
            None => top,
        };
        let lost = (behind.since.offset.0 + 1, base.offset.0);
        if base.epoch == behind.since.epoch && lost.0 <= lost.1 {
            let from = behind.gap.map_or(lost.0, |(from, _)| from);
            behind.gap = Some((from, lost.1));
        }
        behind.since = base;
    }

    /// One publication out of history.
    fn deliver_missed(&mut self, key: SubscriptionKey, publication: &Arc<Publication>) {
        let Some(party) = self.party.as_mut() else { return };
        let Some(sub) = party.subs.iter_mut().find(|sub| sub.key == key) else { return };
        let Some(behind) = sub.behind.as_mut() else { return };
        let ack = match self.session.deliver(key, publication.position.offset.0) {
            Delivery::Plain => None,
            Delivery::Acknowledged(ack) => Some(ack),
            Delivery::WindowFull | Delivery::Gone => return,
        };
        behind.since = publication.position;
        if let Some(durable) = &mut sub.durable {
            durable.delivered(publication.position, ack.is_some());
        }
        let gap = behind.gap.take().map(gap_text);
        let headers: Vec<(&str, &str)> = gap.iter().map(|gap| ("gap", &**gap)).collect();
        let aside =
            Aside { subscription: sub.place.id.as_deref(), ack, message_id: "", headers: &headers };
        let (class, channel) = (sub.class, &sub.place.channel);
        let _written_by_the_task =
            self.out.push(party.outlet.voice.message(class, channel, publication, aside));
    }

    /// Hands over what waits for acknowledgements of what came before it.
    pub(super) fn deliver(&mut self, key: SubscriptionKey) {
        let Some(party) = self.party.as_mut() else { return };
        let subs = &mut party.subs;
        let Some(sub) = subs.iter_mut().find(|sub| sub.key == key && sub.is_counted) else {
            return;
        };
        while self.session.subscription(key).is_some_and(|each| !each.is_window_full())
            && !self.out.is_congested()
        {
            let Some(publication) = party.outlet.take_pending(&sub.place) else { return };
            let token = publication.position.offset.0;
            let ack = match self.session.deliver(key, token) {
                Delivery::Plain => None,
                Delivery::Acknowledged(ack) => Some(ack),
                Delivery::WindowFull | Delivery::Gone => return,
            };
            if let Some(durable) = &mut sub.durable {
                durable.delivered(publication.position, ack.is_some());
            }
            let gap = party.outlet.take_gap(&sub.place);
            let headers: Vec<(&str, &str)> = gap.iter().map(|gap| ("gap", &**gap)).collect();
            let message_id = match publication.position.offset {
                Offset(0) => self.shared.next_message_id(),
                _ => String::new(),
            };
            let aside = Aside {
                subscription: sub.place.id.as_deref(),
                ack,
                message_id: &message_id,
                headers: &headers,
            };
            let (class, channel) = (sub.class, &sub.place.channel);
            let _written_by_the_task =
                self.out.push(party.outlet.voice.message(class, channel, &publication, aside));
        }
    }

    pub(super) fn deliver_all(&mut self) {
        let Some(party) = &self.party else { return };
        let acked = party.subs.iter().filter(|sub| sub.is_counted).map(|sub| sub.key);
        for key in acked.collect::<Vec<_>>() {
            self.deliver(key);
        }
    }

    /// The hub has ended subscriptions. Those that only read too slowly go on from history.
    pub(super) async fn on_cuts(&mut self) -> Result<(), Trouble> {
        let Some(party) = self.party.as_mut() else { return Ok(()) };
        let cuts = party.outlet.take_cuts();
        for note in cuts {
            let Some(sub) = party.subs.iter_mut().find(|sub| sub.place == note.place) else {
                continue;
            };
            match &note.cut {
                Cut::Slow | Cut::InsufficientState if sub.has_history => {
                    let offset = note.delivered(sub.position.offset).unwrap_or(sub.position.offset);
                    let since = Position { offset, ..sub.position };
                    sub.behind = Some(Behind { since, gap: None });
                    self.shared.counters.resumed.increment();
                }
                Cut::Slow | Cut::InsufficientState => {
                    return Err(Trouble::unavailable("messages were lost; subscribe again"));
                }
                Cut::Expired => {
                    return Err(Trouble::forbidden("the right to a subscription has run out"));
                }
                Cut::Ordered { reason, .. } => return Err(Trouble::forbidden(&**reason)),
            }
        }
        self.catch_up_all().await
    }
}

fn gap_text((from, to): (u64, u64)) -> Box<str> {
    format!("{from}-{to}").into_boxed_str()
}

fn refused_join(error: SubscribeError) -> Trouble {
    match error {
        SubscribeError::TooMany { max } => Trouble::too_many_subscriptions(max),
        SubscribeError::NotRecovered => Trouble::unavailable("history is trimmed too fast"),
        SubscribeError::Bus(_) => Trouble::unavailable("the channel does not answer"),
        SubscribeError::Owner(error) => Trouble::from(&error),
        SubscribeError::Gone | SubscribeError::AlreadySubscribed => Trouble::internal(),
    }
}
