//! What a Centrifuge client asks for once it is known: publishing, history, presence, calls.

use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use futures_util::poll;
use naru_domain::ports::{BusError, Post, PublishVerdict};
use naru_domain::{ChannelName, PartyInfo, PublicationMeta};
use naru_hub::access::{Asker, Granted, Namespace};
use naru_hub::{PageError, PageQuery, PublishError};
use naru_wire::centrifuge::{
    Answer, ErrorCode, HistoryRequest, HistoryResult, Protocol, PublishRequest, Request,
    RpcRequest, is_json,
};
use tokio::io::{AsyncRead, AsyncWrite};

use super::connect::{Denied, owner_error};
use super::connection::{End, Talk, bad_request};
use super::outlet::{self, client_info};
use super::subscribe::refused_name;

/// Publications of one connection that are on their way at a time.
const PUBLISHING_MAX: usize = 256;

/// A publication on its way to the bus, which answers when it has it.
pub(super) type Publishing = Pin<Box<dyn Future<Output = Result<(), PublishError>> + Send>>;

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Talk<S> {
    /// A command of a client that has said who it is.
    pub(super) async fn on_command(&mut self, id: u32, request: Request) -> Result<(), End> {
        if !matches!(request, Request::Publish(_) | Request::Pong) {
            self.finish_publishing().await?;
        }
        let done = match request {
            Request::Pong => {
                return if self.outlet.ponged() { Ok(()) } else { Err(bad_request()) };
            }
            Request::Connect(_) | Request::Ping | Request::Nothing => return Err(bad_request()),
            Request::Subscribe(request) => return self.subscribe(id, *request).await,
            Request::Unsubscribe { channel } => return self.unsubscribe(id, &channel),
            Request::Refresh(request) => return self.refresh(id, &request.token),
            Request::SubRefresh(request) => return self.sub_refresh(id, request),
            Request::Publish(request) => return self.on_publish(id, request).await,
            Request::Presence { channel } => self.presence(id, &channel),
            Request::PresenceStats { channel } => self.presence_stats(id, &channel),
            Request::History(request) => self.history(id, request).await,
            Request::Rpc(request) => self.rpc(id, request).await,
            Request::Send { data } => self.send(data).await,
        };
        match done {
            Ok(()) => Ok(()),
            Err(denied) => self.deny(id, denied),
        }
    }

    fn unsubscribe(&mut self, id: u32, channel: &str) -> Result<(), End> {
        let Some(party) = self.party.as_mut() else { return Err(bad_request()) };
        if let Ok(channel) = ChannelName::parse(channel) {
            self.shared.hub.unsubscribe(party.connected.client(), &channel);
            party.running_out.retain(|each| each.channel != channel);
        }
        self.answer(id, Answer::Unsubscribe)
    }

    /// The channel of a command with the options of its namespace, and whether the client is in it.
    fn place(&self, raw: &str) -> Result<(ChannelName, Namespace, Asker<'_>), Denied> {
        let Some(party) = &self.party else { return Err(Denied::End(bad_request())) };
        if raw.is_empty() {
            return Err(Denied::End(bad_request()));
        }
        let channel = self.channel(raw)?;
        let namespace = self.shared.namespaces.load().of(&channel).map_err(refused_name)?.clone();
        let is_subscribed = party.connected.client().is_subscribed(&channel);
        let granted = Granted::of(&party.rights, &channel);
        Ok((channel, namespace, Asker { user: &party.caller.user, is_subscribed, granted }))
    }

    async fn on_publish(&mut self, id: u32, request: PublishRequest) -> Result<(), End> {
        match self.publish(request).await {
            Ok(Some(publishing)) => self.publishing.get_mut().push((id, publishing)),
            Ok(None) if self.publishing.get_mut().is_empty() => {
                return self.answer(id, Answer::Publish);
            }
            Ok(None) => self.publishing.get_mut().push((id, Box::pin(ready(Ok(()))))),
            Err(denied) => {
                self.finish_publishing().await?;
                return self.deny(id, denied);
            }
        }
        if self.publishing.get_mut().len() >= PUBLISHING_MAX {
            self.finish_publishing().await?;
        }
        Ok(())
    }

    /// Waits for the publications that are on their way, and answers them in their order.
    pub(super) async fn finish_publishing(&mut self) -> Result<(), End> {
        for (id, publishing) in std::mem::take(self.publishing.get_mut()) {
            match publishing.await {
                Ok(()) => self.answer(id, Answer::Publish)?,
                Err(error) => self.deny(id, publish_error(error))?,
            }
        }
        Ok(())
    }

    /// Begins to publish; `None` if that is done already. What comes later is begun later, so the order
    /// holds.
    async fn publish(&self, request: PublishRequest) -> Result<Option<Publishing>, Denied> {
        let (channel, namespace, asker) = self.place(&request.channel)?;
        let Some(party) = &self.party else { return Err(Denied::End(bad_request())) };
        if request.kind != 0 {
            return Err(ErrorCode::PermissionDenied.into());
        }
        if request.data.is_empty() {
            return Err(ErrorCode::BadRequest.into());
        }
        // A publication of a Protobuf client may be anything; those who read JSON get what they can.
        if self.protocol() == Protocol::Json && !is_json(&request.data) {
            return Err(ErrorCode::BadRequest.into());
        }
        let verdict = if namespace.publish_proxy_enabled {
            let Some(backend) = &self.shared.backend else {
                return Err(ErrorCode::NotAvailable.into());
            };
            let data = request.data.clone();
            backend.publish(&party.caller, channel.as_str(), data).await.map_err(Denied::from)?
        } else if namespace.may_publish(asker) {
            PublishVerdict::default()
        } else {
            return Err(ErrorCode::PermissionDenied.into());
        };
        let publisher = party.connected.client().info().clone();
        let post = post(request.data, verdict, publisher, namespace.delta_publish);
        let hub = self.shared.hub.clone();
        let mut publishing: Publishing =
            Box::pin(async move { hub.publish(&channel, post).await.map(drop) });
        match poll!(publishing.as_mut()) {
            Poll::Ready(Ok(())) => Ok(None),
            Poll::Ready(Err(error)) => Err(publish_error(error)),
            Poll::Pending => Ok(Some(publishing)),
        }
    }

    fn presence(&self, id: u32, channel: &str) -> Result<(), Denied> {
        let (channel, namespace, asker) = self.place(channel)?;
        may_see_presence(&namespace, asker)?;
        let present = self.shared.hub.presence(&channel);
        let infos: Vec<_> = present.iter().map(client_info).collect();
        self.answer(id, Answer::Presence(&infos)).map_err(Denied::End)
    }

    fn presence_stats(&self, id: u32, channel: &str) -> Result<(), Denied> {
        let (channel, namespace, asker) = self.place(channel)?;
        may_see_presence(&namespace, asker)?;
        let stats = self.shared.hub.presence_stats(&channel);
        let count = |count| u32::try_from(count).unwrap_or(u32::MAX);
        let answer =
            Answer::PresenceStats { clients: count(stats.clients), users: count(stats.users) };
        self.answer(id, answer).map_err(Denied::End)
    }

    async fn history(&self, id: u32, request: HistoryRequest) -> Result<(), Denied> {
        let (channel, namespace, asker) = self.place(&request.channel)?;
        if !namespace.has_history {
            return Err(ErrorCode::NotAvailable.into());
        }
        if !namespace.may_read_history(asker) {
            return Err(ErrorCode::PermissionDenied.into());
        }
        let query = PageQuery {
            since: request.since.as_ref().map(|since| (since.offset, since.epoch.as_str())),
            limit: request.limit.into(),
            limit_max: self.shared.options.history_max,
            reverse: request.reverse,
        };
        let page = self.shared.hub.history_page(&channel, query).await;
        let page = page.map_err(|error| page_error(&error))?;
        let protocol = self.protocol();
        let tags: Vec<_> = page.publications.iter().map(|each| outlet::tags(each)).collect();
        let views: Vec<_> = page
            .publications
            .iter()
            .zip(&tags)
            .filter_map(|(each, tags)| outlet::publication(protocol, each, tags, None, false))
            .collect();
        let epoch = page.top.epoch.to_string();
        let result =
            HistoryResult { publications: &views, epoch: &epoch, offset: page.top.offset.0 };
        self.answer(id, Answer::History(result)).map_err(Denied::End)
    }

    async fn rpc(&self, id: u32, request: RpcRequest) -> Result<(), Denied> {
        let Some(party) = &self.party else { return Err(Denied::End(bad_request())) };
        let Some(backend) = self.shared.backend.as_ref().filter(|each| each.events().rpc) else {
            return Err(ErrorCode::NotAvailable.into());
        };
        let answered = backend.rpc(&party.caller, &request.method, request.data).await?;
        self.answer(id, Answer::Rpc(&answered)).map_err(Denied::End)
    }

    /// A message without an answer.
    async fn send(&self, data: Bytes) -> Result<(), Denied> {
        let Some(party) = &self.party else { return Err(Denied::End(bad_request())) };
        if let Some(backend) = self.shared.backend.as_ref().filter(|each| each.events().message)
            && let Err(refusal) = backend.message(&party.caller, data).await
        {
            // There is no id to answer; only the end of the connection can be told.
            if let Denied::End(end) = Denied::from(refusal) {
                return Err(Denied::End(end));
            }
        }
        Ok(())
    }
}

fn may_see_presence(namespace: &Namespace, asker: Asker<'_>) -> Result<(), Denied> {
    if !namespace.presence {
        return Err(ErrorCode::NotAvailable.into());
    }
    if !namespace.may_see_presence(asker) {
        return Err(ErrorCode::PermissionDenied.into());
    }
    Ok(())
}

fn post(data: Bytes, verdict: PublishVerdict, publisher: PartyInfo, is_delta: bool) -> Post {
    let tags = verdict.tags.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
    let is_delta = is_delta || verdict.delta;
    // A name is the least there is to say of somebody; for anonymous ones it is their connection.
    let meta = PublicationMeta { publisher: Some(publisher), tags, is_delta, version: None };
    Post {
        data: verdict.data.unwrap_or(data),
        meta: Some(Arc::new(meta)),
        key: verdict.idempotency_key.map(Arc::from),
        skip_history: verdict.skip_history,
    }
}

fn publish_error(error: PublishError) -> Denied {
    match error {
        PublishError::Bus(error) => bus_error(&error),
        PublishError::Owner(error) => owner_error(error),
    }
}

fn bus_error(error: &BusError) -> Denied {
    match error {
        BusError::TooLarge { .. } => ErrorCode::LimitExceeded.into(),
        BusError::Unavailable { .. } => ErrorCode::Internal.into(),
    }
}

fn page_error(error: &PageError) -> Denied {
    match error {
        PageError::OtherEpoch => ErrorCode::UnrecoverablePosition.into(),
        PageError::BelowTheFirst => ErrorCode::BadRequest.into(),
        PageError::Bus(error) => bus_error(error),
    }
}
