//! SEND: to channels, to users, to the application, to whoever asked for a reply. First all that may be
//! refused is looked at, then it is carried out, so that a transaction takes effect as a whole.

use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use futures_util::poll;
use naru_domain::ports::{Post, PublishVerdict};
use naru_domain::{ChannelName, PublicationMeta};
use naru_hub::access::{Asker, NameRefused};
use naru_wire::stomp::Destination;
use naru_wire::stomp::session::{Publish, Step};
use tokio::io::{AsyncRead, AsyncWrite};

use super::connection::{Talk, Told};
use super::names::{self, USER_NAMESPACE};
use super::trouble::Trouble;
use super::work;

/// Something that is allowed and only has to be done.
pub(super) enum Errand {
    Publish(ChannelName, Post),
    /// Work for a queue.
    Work(ChannelName, Post),
    /// A call of the application, and where its answer goes.
    Call {
        method: String,
        data: Bytes,
        answer: Option<Answer>,
    },
}

/// A message on its way to the bus or a queue, which answers when it has it.
pub(super) type Sending = Pin<Box<dyn Future<Output = Result<(), Trouble>> + Send>>;

/// Where the answer of the application goes, and by what its reader knows it.
pub(super) struct Answer {
    channel: ChannelName,
    correlation: Option<Box<str>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Talk<S> {
    /// Begins with a SEND; `None` if it is done already.
    pub(super) async fn send(&mut self, send: Publish) -> Result<Option<Sending>, Trouble> {
        let errand = self.prepare(send).await?;
        self.carry_out(errand).await
    }

    /// A transaction: what was sent and acknowledged in it, in its order.
    pub(super) async fn commit(&mut self, steps: Vec<Step>) -> Result<Told, Trouble> {
        enum Ready {
            Errand(Errand),
            Settle(naru_wire::stomp::session::Settle),
        }
        let mut ready = Vec::with_capacity(steps.len());
        for step in steps {
            ready.push(match step {
                Step::Send(send) => Ready::Errand(self.prepare(send).await?),
                Step::Settle(settle) => Ready::Settle(settle),
            });
        }
        let mut under_way = Vec::new();
        for each in ready {
            match each {
                Ready::Errand(errand) => under_way.extend(self.carry_out(errand).await?),
                Ready::Settle(settle) => drop(self.settle(&settle)?),
            }
        }
        if !under_way.is_empty() {
            self.out.flush();
        }
        for sending in under_way {
            sending.await?;
        }
        Ok(Told::new())
    }

    /// Looks at what a message needs: a place to go and the right to.
    async fn prepare(&mut self, send: Publish) -> Result<Errand, Trouble> {
        match names::parse(send.destination())? {
            Destination::Topic(name) => {
                let channel = names::channel(name, self.shared.options.channel_bytes_max)?;
                self.prepare_publish(channel, &send).await
            }
            Destination::UserQueue { user, name } => {
                let channel = names::user_channel(user, name)?;
                self.prepare_publish(channel, &send).await
            }
            Destination::OwnQueue(_) => Err(Trouble::unknown_destination(
                "messages for a user are sent to /user/WHO/queue/NAME",
            )),
            Destination::TempQueue(name) => {
                let channel = {
                    let Some(party) = self.party.as_mut() else { return Err(Trouble::internal()) };
                    names::temp_channel(party.token(), name)?
                };
                let post = self.post(&send, PublishVerdict::default())?;
                Ok(Errand::Publish(channel, post))
            }
            Destination::App(path) => self.prepare_call(path, &send),
            Destination::Queue(name) => {
                let queue = self.queue_to_send(name)?;
                let post = self.post(&send, PublishVerdict::default())?;
                Ok(Errand::Work(queue, post))
            }
        }
    }

    async fn prepare_publish(
        &mut self,
        channel: ChannelName,
        send: &Publish,
    ) -> Result<Errand, Trouble> {
        let Some(party) = self.party.as_ref() else { return Err(Trouble::internal()) };
        let namespaces = self.shared.ports.namespaces.load_full();
        let namespace = namespaces.of(&channel).map_err(refused_name)?;
        let user = party.caller.user.as_str();
        let is_subscribed = party.faces.iter().any(|face| face.client().is_subscribed(&channel));
        let granted = party.granted(&channel);
        let verdict = if namespace.publish_proxy_enabled {
            let Some(backend) = &self.shared.ports.backend else {
                return Err(Trouble::not_available("there is no application to ask"));
            };
            backend.publish(&party.caller, channel.as_str(), send.body.clone()).await?
        } else if namespace.may_publish(Asker { user, is_subscribed, granted }) {
            PublishVerdict { delta: namespace.delta_publish, ..PublishVerdict::default() }
        } else if channel.namespace() == USER_NAMESPACE {
            return Err(Trouble::forbidden("you may not send to users"));
        } else {
            return Err(Trouble::forbidden("you may not send there"));
        };
        let post = self.post(send, verdict)?;
        Ok(Errand::Publish(channel, post))
    }

    /// The message as everybody else gets it.
    fn post(&mut self, send: &Publish, verdict: PublishVerdict) -> Result<Post, Trouble> {
        let Some(party) = self.party.as_mut() else { return Err(Trouble::internal()) };
        let mut tags: Vec<(Box<str>, Box<str>)> = Vec::new();
        if let Some(content_type) = send.content_type() {
            tags.push(("content-type".into(), content_type.into()));
        }
        for (name, value) in send.user_headers() {
            let led = if name == "reply-to" { names::reply_to(party.token(), value) } else { None };
            let value = led.map_or_else(|| value.into(), String::into_boxed_str);
            tags.push((name.into(), value));
        }
        tags.extend(verdict.tags.into_iter().map(|(name, value)| (name.into(), value.into())));
        let publisher = Some(party.client().info().clone());
        let meta = PublicationMeta { publisher, tags, is_delta: verdict.delta, version: None };
        let own_key = send.idempotency_key().filter(|key| !key.is_empty());
        Ok(Post {
            data: verdict.data.unwrap_or_else(|| send.body.clone()),
            meta: Some(Arc::new(meta)),
            key: verdict.idempotency_key.as_deref().or(own_key).map(Arc::from),
            skip_history: verdict.skip_history,
        })
    }

    fn prepare_call(&mut self, path: &str, send: &Publish) -> Result<Errand, Trouble> {
        let Some(party) = self.party.as_mut() else { return Err(Trouble::internal()) };
        let backend = self.shared.ports.backend.as_ref();
        let is_served = backend.is_some_and(|each| each.events().rpc);
        if !is_served {
            return Err(Trouble::not_available("there is no application behind /app"));
        }
        let answer = match send.headers.get("reply-to") {
            None => None,
            Some(destination) => {
                let channel = match names::parse(destination)? {
                    Destination::TempQueue(name) => names::temp_channel(party.token(), name)?,
                    Destination::OwnQueue(name) => names::user_channel(&party.caller.user, name)?,
                    _ => {
                        return Err(Trouble::unknown_destination(
                            "an answer goes to /temp-queue/NAME or /user/queue/NAME",
                        ));
                    }
                };
                let correlation = send.headers.get("correlation-id").map(Box::from);
                Some(Answer { channel, correlation })
            }
        };
        Ok(Errand::Call { method: path.to_owned(), data: send.body.clone(), answer })
    }

    /// Begins with it; `None` if it is done already. What comes later is begun later, so the order holds.
    async fn carry_out(&mut self, errand: Errand) -> Result<Option<Sending>, Trouble> {
        let ports = &self.shared.ports;
        let (name, post, is_work) = match errand {
            Errand::Publish(channel, post) => (channel, post, false),
            Errand::Work(queue, post) => (queue, post, true),
            Errand::Call { method, data, answer } => {
                let (Some(party), Some(backend)) = (&self.party, &ports.backend) else {
                    return Err(Trouble::internal());
                };
                let answered = backend.rpc(&party.caller, &method, data).await?;
                let Some(Answer { channel, correlation }) = answer else { return Ok(None) };
                let tags =
                    correlation.map(|id| ("correlation-id".into(), id)).into_iter().collect();
                let meta = PublicationMeta { tags, ..PublicationMeta::default() };
                let post = Post { meta: Some(Arc::new(meta)), ..Post::new(answered) };
                (channel, post, false)
            }
        };
        let shared = Arc::clone(&self.shared);
        let mut sending: Sending = Box::pin(async move {
            if is_work {
                return work::enqueue(&shared.ports, &name, post).await;
            }
            let published = shared.ports.hub.publish(&name, post).await;
            published.map(drop).map_err(|error| Trouble::from(&error))
        });
        match poll!(sending.as_mut()) {
            Poll::Ready(done) => done.map(|()| None),
            Poll::Pending => Ok(Some(sending)),
        }
    }
}

pub(super) fn refused_name(refused: NameRefused) -> Trouble {
    Trouble::unknown_destination(refused.to_string())
}
