//! The group commit: publications of many channels become one append to the store, and only then become
//! visible, are acknowledged and are delivered, in offset order. A failed append leaves no trace: its
//! offsets are used again.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Instant;

use naru_domain::ports::{BusError, History, Post};
use naru_domain::{ChannelName, Durability, Offset, Position, Publication, Version};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tracing::warn;

use super::table::Told;
use super::{Inner, store_failed, unavailable};

type Reply = oneshot::Sender<Result<Position, BusError>>;

/// One publication to keep.
pub(crate) struct Request {
    pub(crate) channel: ChannelName,
    pub(crate) post: Post,
    pub(crate) durability: Durability,
    pub(crate) reply: Reply,
}

/// The one task that appends.
pub(crate) struct Committer {
    bus: Weak<Inner>,
    requests: mpsc::Receiver<Request>,
    /// Up to where the store was told to forget, by channel: one entry for each channel in memory that
    /// was ever trimmed here.
    trimmed: HashMap<ChannelName, Offset>,
}

/// Where a channel will stand when what is planned is kept.
struct Tail {
    top: Position,
    version: Option<Version>,
    /// The last one of the plan.
    last: Option<usize>,
}

/// A publication on its way into the store, and who waits for it.
struct Planned {
    channel: ChannelName,
    publication: Arc<Publication>,
    replies: Vec<Reply>,
}

impl Committer {
    pub(crate) fn new(bus: Weak<Inner>, requests: mpsc::Receiver<Request>) -> Committer {
        Committer { bus, requests, trimmed: HashMap::new() }
    }

    /// Works until the bus is gone.
    pub(crate) async fn run(mut self) {
        let mut batch = Vec::new();
        loop {
            let Some(count_max) = self.bus.upgrade().map(|bus| bus.options.commit_count_max) else {
                return;
            };
            if self.requests.recv_many(&mut batch, count_max.max(1)).await == 0 {
                return;
            }
            let Some(bus) = self.bus.upgrade() else { return };
            // One append has one durability. A channel has one too, so its order is kept.
            let (disk, os): (Vec<Request>, Vec<Request>) =
                batch.drain(..).partition(|request| request.durability == Durability::Disk);
            for (requests, durability) in [(os, Durability::Os), (disk, Durability::Disk)] {
                if !requests.is_empty() {
                    self.commit(&bus, requests, durability).await;
                }
            }
        }
    }

    async fn commit(&mut self, bus: &Arc<Inner>, requests: Vec<Request>, durability: Durability) {
        let store = match bus.store() {
            Ok(store) => Arc::clone(store),
            Err(error) => return refuse(requests, &error),
        };
        let mut plan = plan(bus, requests).await;
        if plan.is_empty() {
            return;
        }
        let forget = self.to_forget(bus, &plan);
        if let Err(error) = append(bus, store.as_ref(), &plan, &forget, durability).await {
            warn!(target: "naru::hub", %error, publications = plan.len(), "history not kept");
            // The store may have kept them nevertheless; it alone knows where the streams stand now.
            bus.unload(plan.iter().map(|planned| &planned.channel)).await;
            for reply in plan.drain(..).flat_map(|planned| planned.replies) {
                answer(reply, Err(error.clone()));
            }
            return;
        }
        for planned in &mut plan {
            publish(bus, planned);
        }
        if self.trimmed.len() + forget.len() > bus.options.channels_max {
            // What is forgotten here is only told to the store once more.
            self.trimmed.clear();
        }
        self.trimmed.extend(forget);
    }

    /// What memory has forgotten of these channels and the store has not, if that is worth a statement.
    fn to_forget(&self, bus: &Inner, plan: &[Planned]) -> Vec<(ChannelName, Offset)> {
        let mut forget: HashMap<&ChannelName, Offset> = HashMap::new();
        for Planned { channel, .. } in plan {
            if forget.contains_key(channel) {
                continue;
            }
            let shard = bus.table.lock(channel);
            let stream = shard.get(channel).and_then(|slot| slot.stream.as_ref());
            let Some(floor) = stream.map(super::Stream::floor) else { continue };
            let slack = (bus.options.namespace(channel).history_size as u64 / 4).max(16);
            let trimmed = self.trimmed.get(channel).map_or(0, |offset| offset.0);
            if floor.0 >= trimmed + slack {
                forget.insert(channel, floor);
            }
        }
        forget.into_iter().map(|(channel, floor)| (channel.clone(), floor)).collect()
    }
}

fn answer(reply: Reply, result: Result<Position, BusError>) {
    // Who no longer waits has decided to do without the answer.
    drop(reply.send(result));
}

fn refuse(requests: Vec<Request>, error: &BusError) {
    for request in requests {
        answer(request.reply, Err(error.clone()));
    }
}

/// Gives each publication its place. Those whose key is known are answered, and join the one that is on
/// its way with the same key.
async fn plan(bus: &Inner, requests: Vec<Request>) -> Vec<Planned> {
    let mut plan: Vec<Planned> = Vec::with_capacity(requests.len());
    let mut tails: HashMap<ChannelName, Result<Tail, BusError>> = HashMap::new();
    let mut keys: HashMap<(ChannelName, Arc<str>), usize> = HashMap::new();
    for request in requests {
        let Request { channel, post, reply, .. } = request;
        let Post { data, meta, key, .. } = post;
        if !tails.contains_key(&channel) {
            tails.insert(channel.clone(), tail(bus, &channel).await);
        }
        let tail = match tails.get_mut(&channel) {
            Some(Ok(tail)) => tail,
            Some(Err(error)) => {
                answer(reply, Err(error.clone()));
                continue;
            }
            None => continue,
        };
        if let Some(key) = &key {
            if let Some(first) = bus.keys.lock().get(&channel, key, bus.now()) {
                bus.metrics.duplicates.increment();
                answer(reply, Ok(first));
                continue;
            }
            if let Some(index) = keys.get(&(channel.clone(), Arc::clone(key))) {
                bus.metrics.duplicates.increment();
                plan[*index].replies.push(reply);
                continue;
            }
        }
        if super::is_outdated(meta.as_deref(), tail.version.as_ref()) {
            bus.metrics.outdated.increment();
            match tail.last {
                // Only then is known where the channel stands.
                Some(index) => plan[index].replies.push(reply),
                None => answer(reply, Ok(tail.top)),
            }
            continue;
        }
        if let Some(key) = &key {
            keys.insert((channel.clone(), Arc::clone(key)), plan.len());
        }
        tail.top.offset = tail.top.offset.next();
        tail.last = Some(plan.len());
        let publication = Publication { position: tail.top, data, meta, at: bus.clock.now(), key };
        if let Some(version) = publication.version() {
            tail.version = Some(version.clone());
        }
        plan.push(Planned { channel, publication: Arc::new(publication), replies: vec![reply] });
    }
    plan
}

/// Where the channel stands.
async fn tail(bus: &Inner, channel: &ChannelName) -> Result<Tail, BusError> {
    bus.ensure_loaded(channel).await?;
    let shard = bus.table.lock(channel);
    let stream = shard.get(channel).and_then(|slot| slot.stream.as_ref());
    let stream = stream.ok_or_else(|| unavailable("the channel was just forgotten"))?;
    Ok(Tail { top: stream.top(), version: stream.version().cloned(), last: None })
}

async fn append(
    bus: &Inner,
    store: &dyn History,
    plan: &[Planned],
    forget: &[(ChannelName, Offset)],
    durability: Durability,
) -> Result<(), BusError> {
    let publications: Vec<(ChannelName, Arc<Publication>)> = plan
        .iter()
        .map(|planned| (planned.channel.clone(), Arc::clone(&planned.publication)))
        .collect();
    let began = Instant::now();
    let appended =
        timeout(bus.options.store_timeout, store.append(&publications, forget, durability)).await;
    bus.metrics.commit_seconds.observe(began.elapsed());
    bus.metrics.commits.increment();
    match appended {
        Ok(Ok(())) => {
            bus.metrics.committed.add(publications.len() as u64);
            Ok(())
        }
        Ok(Err(error)) => Err(store_failed(&error)),
        Err(_elapsed) => Err(unavailable("the store did not answer in time")),
    }
}

/// Makes a kept publication visible: history, keys, hub, and at last whoever waits.
fn publish(bus: &Arc<Inner>, planned: &mut Planned) {
    let (channel, publication) = (&planned.channel, &planned.publication);
    let told = {
        let mut shard = bus.table.lock(channel);
        if let Some(key) = &publication.key {
            bus.remember(channel, key, publication.position, bus.now());
        }
        match shard.get_mut(channel) {
            None => Told::Enough,
            Some(slot) => {
                if let Some(stream) = &mut slot.stream {
                    bus.table.append(stream, publication);
                    bus.table.trim(channel, stream, bus.clock.now());
                }
                bus.table.send(slot, channel, publication)
            }
        }
    };
    if told == Told::StartTeller {
        bus.start_teller();
    }
    bus.metrics.published.increment();
    for reply in planned.replies.drain(..) {
        answer(reply, Ok(publication.position));
    }
}
