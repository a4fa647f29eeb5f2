//! Work queues: what a consumer gets, acknowledges and gives back.

use std::sync::Arc;

use futures_util::future::join_all;
use naru_domain::ports::{BusError, Post};
use naru_domain::{ChannelName, Durability, Epoch, Offset, Position, Publication, WorkNumber};
use naru_hub::PublishError;
use naru_hub::access::{Asker, MaySubscribe};
use naru_hub::queue::{Consumer, DeadLetter};
use naru_wire::stomp::session::{AckMode, Delivery, Outcome, Settle, Subscribe, SubscriptionKey};
use tokio::io::{AsyncRead, AsyncWrite};

use super::connection::{Talk, Told};
use super::names::{self, QUEUE_NAMESPACE};
use super::send::refused_name;
use super::trouble::Trouble;
use super::voice::Aside;
use super::{Shared, StompPorts};

/// Dead letters that may share a group commit.
const BURIED_AT_ONCE: usize = 64;

/// A subscription to a queue.
pub(super) struct Job {
    pub(super) key: SubscriptionKey,
    id: Option<Box<str>>,
    destination: Box<str>,
    consumer: Consumer,
    /// How long what is done must stay done.
    durability: Durability,
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
        let granted = party.granted(&queue);
        match namespace.may_publish(Asker { user, is_subscribed, granted }) {
            true => Ok(queue),
            false => Err(Trouble::forbidden("you may not send to that queue")),
        }
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
        match namespace.may_subscribe(&queue, &party.caller.user, party.granted(&queue)) {
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
        let durability = self.shared.ports.hub.namespace(&queue).durability;
        let consumer = self.shared.ports.queues.join(&queue, Arc::clone(&party.outlet) as _);
        let full = |_| Trouble::queue_full("there are too many queues");
        party.jobs.push(Job {
            key: subscribe.key,
            id: subscribe.headers.get("id").filter(|id| !id.is_empty()).map(Box::from),
            destination: subscribe.destination().into(),
            consumer: consumer.map_err(full)?,
            durability,
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
        let Some(party) = self.party.as_mut() else { return false };
        let Some(job) = party.jobs.iter().find(|job| job.key == settle.subscription) else {
            return false;
        };
        for number in settle.deliveries.iter().map(|token| WorkNumber(*token)) {
            // What was taken away because it took too long is somebody else's by now.
            let _is_ours = match settle.outcome {
                Outcome::Consumed => job.consumer.consumed(number),
                Outcome::Refused => job.consumer.refused(number),
            };
        }
        // Who refuses stands in line behind the others, and is woken when it is its turn.
        if settle.outcome == Outcome::Consumed {
            party.owed = party.owed.max(job.durability);
            self.work(settle.subscription);
        }
        true
    }

    /// Whether something was acknowledged that is not known to be kept.
    pub(super) fn owes(&self) -> bool {
        self.party.as_ref().is_some_and(|party| party.owed > Durability::Memory)
    }

    /// Waits until what was acknowledged cannot come again.
    pub(super) async fn keep_settled(&mut self) -> Result<(), Trouble> {
        let Some(party) = self.party.as_mut().filter(|party| party.owed > Durability::Memory)
        else {
            return Ok(());
        };
        // It takes a while: what the client waits for must not wait for it as well.
        self.out.flush();
        let settled = self.shared.ports.queues.settled(party.owed).await;
        settled.map_err(|error| Trouble::from(&error))?;
        party.owed = Durability::Memory;
        Ok(())
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
        let message_id = format!("{}-q{}", taken.life, taken.number);
        let count = taken.delivery.to_string();
        let again = [("redelivered", "true"), ("delivery-count", count.as_str())];
        let aside = Aside {
            subscription: job.id.as_deref(),
            ack,
            message_id: &message_id,
            headers: if taken.is_redelivered { &again } else { &[] },
        };
        let frame = party.outlet.voice.message_to(&job.destination, &taken.publication, aside);
        let _written_before_the_next_event = self.out.push(frame);
        if mode == Some(AckMode::Auto) {
            job.consumer.consumed(taken.number);
        }
    }
}

/// Adds a message to a queue, and waits until it is kept as the rules of queues say.
pub(super) async fn enqueue(
    ports: &StompPorts,
    queue: &ChannelName,
    post: Post,
) -> Result<(), Trouble> {
    // One that nobody can do becomes a publication, and must fit there.
    let (bytes, max) = (post.size_bytes(), ports.hub.data_bytes_max());
    if bytes > max {
        return Err(Trouble::from(&BusError::TooLarge { bytes, max }));
    }
    let publication = Publication {
        position: Position { epoch: Epoch(0), offset: Offset(0) },
        data: post.data,
        meta: post.meta,
        at: ports.clock.now(),
        key: post.key,
    };
    let durability = ports.hub.namespace(queue).durability;
    let sent = ports.queues.send(queue, publication, durability).await;
    sent.map_err(|error| Trouble::from(&error))
}

/// Where messages go that nobody could do.
fn dead_letter(queue: &ChannelName) -> Option<ChannelName> {
    let name = queue.as_str().strip_prefix(QUEUE_NAMESPACE)?.strip_prefix(':')?;
    ChannelName::parse(&format!("{}:{name}", names::DEAD_NAMESPACE)).ok()
}

impl Shared {
    /// Publishes messages that nobody could do; only what has been kept there leaves its queue. Says why
    /// some stay: they are tried again with the next call.
    pub(super) async fn bury(&self, letters: &[DeadLetter]) -> Result<(), PublishError> {
        let mut result = Ok(());
        for some in letters.chunks(BURIED_AT_ONCE) {
            let published = join_all(some.iter().map(|letter| self.publish_dead(letter))).await;
            for (letter, published) in some.iter().zip(published) {
                match published {
                    Ok(()) => {
                        self.ports.queues.buried(letter);
                        self.counters.dead_letters.increment();
                    }
                    Err(error) => {
                        self.counters.dead_letters_failed.increment();
                        result = Err(error);
                    }
                }
            }
            if let Err(PublishError::Bus(BusError::Unavailable { .. })) = result {
                break;
            }
        }
        result
    }

    async fn publish_dead(&self, letter: &DeadLetter) -> Result<(), PublishError> {
        // A queue has a name that fits; without a place for its dead letters they would stay for ever.
        let Some(channel) = dead_letter(&letter.queue) else { return Ok(()) };
        let post = Post {
            data: letter.publication.data.clone(),
            meta: letter.publication.meta.clone(),
            // If we die before it leaves its queue, it comes here again.
            key: Some(format!("dead-letter {}-q{}", letter.life, letter.number).into()),
            ..Post::default()
        };
        self.ports.hub.publish(&channel, post).await.map(drop)
    }
}
