//! Carries what is said in rooms to their channels, in order per channel. Whoever says something never
//! waits for that: it is put into a lane, and the lane's own loop publishes it.
//!
//! A message that is kept in the store stays pending there until its channels have it, so that a crash in
//! between tells it later instead of never. A channel that nobody listens to and that keeps nothing costs
//! one look.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use naru_domain::ports::{BusError, HistoryQuery, Post};
use naru_domain::{ChannelName, MessageId, Offset, PhoneReply};
use naru_hub::Hub;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{debug, warn};

use super::Source;
use super::publication::{self, Said};
use crate::core::{Core, now};
use crate::metrics::BotsMetrics;
use crate::roster::{BotEntry, DeviceEntry, RoomEntry, Work};

/// Channels with publications under way at once: those of a namespace with durable history wait for a
/// commit each (guessed).
const LANES: usize = 16;
/// Replies that wait in one lane, besides messages (guessed).
const REPLIES_PER_LANE_MAX: usize = 4_096;
/// The pauses between attempts to publish.
const PAUSE: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// See the module.
pub(crate) struct Teller {
    /// Without it nobody is told anything.
    hub: Option<Hub>,
    /// Whether the channels of rooms keep history, and those of bots.
    keeps_rooms: bool,
    keeps_bots: bool,
    lanes: Vec<Lane>,
    /// How many messages may wait in a lane.
    messages_max: usize,
}

struct Lane {
    sender: mpsc::Sender<Telling>,
    /// Taken by the lane's loop; survives restarts of it.
    receiver: tokio::sync::Mutex<mpsc::Receiver<Telling>>,
}

/// Something on its way to one channel.
struct Telling {
    channel: ChannelName,
    post: Post,
    /// The message may end when this and its copies are gone.
    _told: Option<Arc<DropGuard>>,
    _waiting: Waiting,
}

/// Something waits to be told for as long as this lives.
struct Waiting(Arc<BotsMetrics>);

impl Waiting {
    fn new(core: &Core) -> Waiting {
        core.metrics.room_tellings_waiting.add(1);
        Waiting(Arc::clone(&core.metrics))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.room_tellings_waiting.add(-1);
    }
}

impl Teller {
    /// `messages_max`: how many kept messages may be in work and waiting at once.
    pub(crate) fn new(hub: Option<Hub>, messages_max: usize) -> Teller {
        let keeps = |channel: &str| {
            let channel = ChannelName::parse(channel).ok();
            let namespace = channel.and_then(|name| Some(hub.as_ref()?.namespace(&name)));
            namespace.is_some_and(|namespace| namespace.history_size > 0)
        };
        let lane = |_| {
            let (sender, receiver) = mpsc::channel(messages_max + REPLIES_PER_LANE_MAX);
            Lane { sender, receiver: tokio::sync::Mutex::new(receiver) }
        };
        Teller {
            keeps_rooms: keeps("room:any"),
            keeps_bots: keeps("bot:any"),
            lanes: if hub.is_some() { (0..LANES).map(lane).collect() } else { Vec::new() },
            hub,
            messages_max,
        }
    }

    /// Whether anybody would hear what is said in the room, now or later.
    pub(crate) fn is_heard(&self, bot: &BotEntry, room: &RoomEntry) -> bool {
        let Some(hub) = &self.hub else { return false };
        self.keeps_rooms
            || self.keeps_bots
            || hub.has_listeners(&bot.channel)
            || hub.has_listeners(&room.channel)
    }

    /// The channels in which that is heard, each with the lane it belongs to.
    fn audience<'a>(
        &self,
        bot: &'a BotEntry,
        room: &'a RoomEntry,
    ) -> impl Iterator<Item = (&'a ChannelName, usize)> {
        let is_heard = |keeps: bool, channel| {
            keeps || self.hub.as_ref().is_some_and(|hub| hub.has_listeners(channel))
        };
        let room_lane = usize::try_from(room.key.0).unwrap_or(0) % LANES;
        let bot_lane = usize::try_from(bot.index.0).unwrap_or(0) % LANES;
        let in_room = is_heard(self.keeps_rooms, &room.channel);
        let in_bot = is_heard(self.keeps_bots, &bot.channel);
        let in_room = in_room.then_some((&room.channel, room_lane));
        in_room.into_iter().chain(in_bot.then_some((&bot.channel, bot_lane)))
    }

    /// Tells a message that has to be told.
    pub(crate) fn message(&self, core: &Core, work: &Work) {
        let (Some(room), Some(told)) = (&work.room, &work.told) else { return };
        let audience = self.audience(&work.entry.bot, room);
        self.tell_message(core, work, room, told, audience);
    }

    fn tell_message<'a>(
        &self,
        core: &Core,
        work: &Work,
        room: &RoomEntry,
        told: &CancellationToken,
        audience: impl Iterator<Item = (&'a ChannelName, usize)>,
    ) {
        let told = Arc::new(told.clone().drop_guard());
        let mut post = None;
        for (channel, lane) in audience {
            let post = post.get_or_insert_with(|| {
                let (bot, device) = (work.entry.bot.name.as_str(), work.entry.device.as_str());
                let channel = room.channel.as_str();
                publication::of_message(&work.record, channel, bot, device, !core.is_direct())
            });
            let telling = Telling {
                channel: channel.clone(),
                post: post.clone(),
                _told: Some(Arc::clone(&told)),
                _waiting: Waiting::new(core),
            };
            self.send(core, lane, telling);
        }
    }

    /// Tells something that a bot said, which stands at this place of the phone's stream.
    pub(crate) fn reply(
        &self,
        core: &Core,
        entry: &DeviceEntry,
        source: &Source,
        offset: Offset,
        reply: &PhoneReply,
    ) {
        let (bot, Some(room)) = (&entry.bot, &source.room) else { return };
        let mut post = None;
        for (channel, lane) in self.audience(bot, room) {
            if self.lanes[lane].sender.capacity() <= self.messages_max {
                // The room that is left belongs to messages.
                core.metrics.room_tellings_dropped.increment();
                continue;
            }
            let post = post.get_or_insert_with(|| {
                let said = Said {
                    channel: room.channel.as_str(),
                    bot: bot.name.as_str(),
                    device: (entry.key, entry.device.as_str()),
                    reply,
                    offset,
                    message: source.message,
                    by: &source.by,
                    at: core.clock.now(),
                };
                said.post(!core.is_direct())
            });
            let telling = Telling {
                channel: channel.clone(),
                post: post.clone(),
                _told: None,
                _waiting: Waiting::new(core),
            };
            self.send(core, lane, telling);
        }
    }

    fn send(&self, core: &Core, lane: usize, telling: Telling) {
        if self.lanes[lane].sender.try_send(telling).is_err() {
            core.metrics.room_tellings_dropped.increment();
        }
    }

    /// Tells a message of the last run that may not have been told. `newest` remembers what the channels
    /// had: they get messages in the order of their ids.
    pub(crate) async fn take_up(
        &self,
        core: &Core,
        work: &mut Work,
        newest: &mut HashMap<ChannelName, MessageId>,
    ) {
        let (Some(hub), Some(room)) = (&self.hub, work.room.clone()) else { return };
        let entry = Arc::clone(&work.entry);
        if !work.is_answerable() {
            return;
        }
        let mut missing = Vec::new();
        for (channel, lane) in self.audience(&entry.bot, &room) {
            let known = match newest.get(channel) {
                Some(known) => *known,
                None => {
                    let found = newest_message(hub, channel).await;
                    newest.insert(channel.clone(), found);
                    found
                }
            };
            if work.record.id > known {
                missing.push((channel, lane));
            }
        }
        if !missing.is_empty() {
            let told = CancellationToken::new();
            work.told = Some(told.clone());
            self.tell_message(core, work, &room, &told, missing.into_iter());
        }
    }
}

/// The newest message that the channel keeps.
async fn newest_message(hub: &Hub, channel: &ChannelName) -> MessageId {
    let query = HistoryQuery { since: None, limit: usize::MAX };
    match hub.history(channel, query).await {
        Ok(page) => {
            let keys = page.publications.iter().filter_map(|each| each.key.as_deref());
            keys.filter_map(publication::message_of_key).max().unwrap_or(MessageId(0))
        }
        Err(error) => {
            // Better twice, with the same id, than never.
            warn!(target: "naru::bots", %error, "a room's channel cannot be read");
            MessageId(0)
        }
    }
}

/// Publishes what stands in the lanes, for ever.
pub(crate) async fn run(core: Arc<Core>) {
    let lanes = core.teller.lanes.iter().map(|lane| run_lane(&core, lane));
    futures_util::future::join_all(lanes).await;
}

async fn run_lane(core: &Core, lane: &Lane) {
    let mut tellings = lane.receiver.lock().await;
    while let Some(telling) = tellings.recv().await {
        let is_told = publish(core, &telling).await;
        let counter = match is_told {
            true => &core.metrics.room_tellings,
            false => &core.metrics.room_tellings_dropped,
        };
        counter.increment();
    }
}

/// Publishes once it is possible, within the time that a message has.
async fn publish(core: &Core, telling: &Telling) -> bool {
    let Some(hub) = &core.teller.hub else { return false };
    let deadline = now() + core.options.timeout;
    let mut pause = PAUSE;
    loop {
        match hub.publish_as_owner(&telling.channel, telling.post.clone()).await {
            Ok(_) => return true,
            Err(BusError::Unavailable { .. }) if now() < deadline => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
            Err(error) => {
                debug!(target: "naru::bots", channel = %telling.channel, %error, "not told");
                return false;
            }
        }
    }
}
