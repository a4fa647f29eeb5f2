//! Work queues: what a consumer gets, acknowledges and gives back.

use std::sync::Arc;

use naru_domain::{ChannelName, Epoch, Offset, Position, Publication};
use naru_hub::access::{Asker, MaySubscribe};
use naru_hub::queue::{Consumer, Number, Taken};
use naru_wire::stomp::session::{AckMode, Delivery, Outcome, Settle, Subscribe, SubscriptionKey};
use tokio::io::{AsyncRead, AsyncWrite};

use super::connection::{Talk, Told};
use super::names::{self, QUEUE_NAMESPACE};
use super::send::refused_name;
use super::trouble::Trouble;
use super::voice::Aside;

/// A subscription to a queue.
pub(super) struct Job {
    pub(super) key: SubscriptionKey,
    id: Option<Box<str>>,
    destination: Box<str>,
    consumer: Consumer,
    /// It has room for more only when the client has read something.
    is_stalled: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Talk<S> {
    /// The queue of a name that a client gave, if it may send to it.
    pub(super) fn queue_to_send(&self, name: &str) -> Result<ChannelName, Trouble> {
        let Some(party) = self.party.as_ref() else { return Err(Trouble::internal()) };
        let queue = names::queue_channel(name)?;
        let namespaces = self.shared.ports.namespaces.load();
        let namespace = namespaces.of(&queue).map_err(refused_name)?;
        let user = party.caller.user.as_str();
        let is_subscribed = party.jobs.iter().any(|job| job.consumer.queue() == &queue);
        match namespace.may_publish(Asker { user, is_subscribed }) {
            true => Ok(queue),
            false => Err(Trouble::forbidden("you may not send to that queue")),
        }
    }

    /// Adds a message to a queue.
    pub(super) fn enqueue(
        &self,
        queue: &ChannelName,
        post: naru_domain::ports::Post,
    ) -> Result<(), Trouble> {
        let publication = Publication {
            position: Position { epoch: Epoch(0), offset: Offset(0) },
            data: post.data,
            meta: post.meta,
            at: self.shared.ports.clock.now(),
            key: post.key,
        };
        let full = |_| Trouble::queue_full("the queue is full; send again later");
        self.shared.ports.queues.send(queue, publication).map_err(full)
    }

    /// Becomes a consumer.
    pub(super) async fn consume(
        &mut self,
        subscribe: &Subscribe,
        name: &str,
    ) -> Result<Told, Trouble> {
        let queue = names::queue_channel(name)?;
        let Some(party) = self.party.as_mut() else { return Err(Trouble::internal()) };
        let namespaces = self.shared.ports.namespaces.load_full();
        let namespace = namespaces.of(&queue).map_err(refused_name)?;
        match namespace.may_subscribe(&queue, &party.caller.user) {
            MaySubscribe::Yes => {}
            MaySubscribe::No => return Err(Trouble::forbidden("you may not consume that queue")),
            MaySubscribe::AskBackend => {
                let Some(backend) = &self.shared.ports.backend else {
                    return Err(Trouble::not_available("there is no application to ask"));
                };
                let nothing = bytes::Bytes::new();
                backend.subscribe(&party.caller, queue.as_str(), nothing).await?;
            }
        }
        let consumer = self.shared.ports.queues.join(&queue, Arc::clone(&party.outlet) as _);
        let full = |_| Trouble::queue_full("there are too many queues");
        party.jobs.push(Job {
            key: subscribe.key,
            id: subscribe.headers.get("id").filter(|id| !id.is_empty()).map(Box::from),
            destination: subscribe.destination().into(),
            consumer: consumer.map_err(full)?,
            is_stalled: false,
        });
        self.work(subscribe.key);
        Ok(Told::new())
    }

    /// The client has ended a subscription. What it had goes back when the consumer is dropped.
    pub(super) fn stop_consuming(&mut self, key: SubscriptionKey) {
        if let Some(party) = self.party.as_mut() {
            party.jobs.retain(|job| job.key != key);
        }
    }

    /// Deliveries of a queue were consumed or refused. False if the subscription is none of a queue.
    pub(super) fn settle_work(&mut self, settle: &Settle) -> bool {
        let Some(party) = self.party.as_ref() else { return false };
        let Some(job) = party.jobs.iter().find(|job| job.key == settle.subscription) else {
            return false;
        };
        for number in settle.deliveries.iter().map(|token| Number(*token)) {
            // What was taken away because it took too long is somebody else's by now.
            let _is_ours = match settle.outcome {
                Outcome::Consumed => job.consumer.consumed(number),
                Outcome::Refused => job.consumer.refused(number),
            };
        }
        if settle.outcome == Outcome::Consumed {
            self.work(settle.subscription);
        }
        true
    }

    /// Whether a consumer waits for nothing but the client's reading.
    pub(super) fn may_work(&self) -> bool {
        let Some(party) = &self.party else { return false };
        party.jobs.iter().any(|job| job.is_stalled && self.has_room(job.key))
    }

    /// There may be something in any of the queues.
    pub(super) fn work_all(&mut self) {
        let Some(party) = &self.party else { return };
        let keys: Vec<SubscriptionKey> = party.jobs.iter().map(|job| job.key).collect();
        for key in keys {
            self.work(key);
        }
    }

    /// Takes one message, if there is room: others stand in line as well, and if nobody does, the queue
    /// wakes us again.
    fn work(&mut self, key: SubscriptionKey) {
        let has_room = self.has_room(key);
        let is_congested = self.out.is_congested();
        let Some(party) = self.party.as_mut() else { return };
        let Some(job) = party.jobs.iter_mut().find(|job| job.key == key) else { return };
        job.is_stalled = is_congested;
        if !has_room {
            job.consumer.step_back();
            return;
        }
        let Some(taken) = job.consumer.take() else { return };
        let ack = match self.session.deliver(key, taken.number.0) {
            Delivery::Plain => None,
            Delivery::Acknowledged(ack) => Some(ack),
            Delivery::WindowFull | Delivery::Gone => {
                job.consumer.refused(taken.number);
                return;
            }
        };
        let mode =
            self.session.subscription(key).map(naru_wire::stomp::session::Subscription::mode);
        let Taken { number, publication, delivery } = taken;
        let message_id = format!("{:x}-q{}", self.shared.message_ids.0, number.0);
        let count = delivery.to_string();
        let again = [("redelivered", "true"), ("delivery-count", count.as_str())];
        let aside = Aside {
            subscription: job.id.as_deref(),
            ack,
            message_id: &message_id,
            headers: if delivery > 1 { &again } else { &[] },
        };
        let frame = party.outlet.voice.message_to(&job.destination, &publication, aside);
        let _written_before_the_next_event = self.out.push(frame);
        if mode == Some(AckMode::Auto) {
            job.consumer.consumed(number);
        }
    }
}

/// What becomes of a message that nobody could do.
pub(super) fn dead_letter(queue: &ChannelName) -> Option<ChannelName> {
    let name = queue.as_str().strip_prefix(QUEUE_NAMESPACE)?.strip_prefix(':')?;
    ChannelName::parse(&format!("{}:{name}", names::DEAD_NAMESPACE)).ok()
}
