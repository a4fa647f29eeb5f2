//! What all parts of bot work share: ports, roster, queue, and the ways to accept, settle and deliver.
//! Nothing here waits, except where a queue is full.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use naru_domain::ids::MessageIds;
use naru_domain::ports::StoreError;
use naru_domain::work::{DeviceRecord, MessageRecord, MessageState, PingSample, RoomRecord};
use naru_domain::{
    Approval, Clock, Delivery, DeliveryBody, DeliveryClass, DeviceKey, Offset, PhoneReply,
    ReplyBody,
};
use naru_hub::Hub;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::duplicates::RecentIds;
use crate::handler::{Handler, Incoming, Outcome};
use crate::ledger::{LedgerOp, SentKeys};
use crate::media::{MediaFetch, MediaKitchen, MediaOptions};
use crate::metrics::BotsMetrics;
use crate::options::{BotsOptions, FirstContact, Ports, Processing};
use crate::pacer::Pacer;
use crate::room_channel::Teller;
use crate::roster::{BotEntry, DeviceEntry, Paced, RoomEntry, Roster, Stream, Work};
use crate::sessions::{Handed, PhoneSession, PhoneSessions};
use crate::settings::Settings;
use crate::workers::{Board, Parked, WorkerSlot};

/// Shards of the duplicate filter, so that phones do not wait for each other's lock.
const ID_SHARDS: usize = 16;

/// See the module.
pub(crate) struct Core {
    pub(crate) options: BotsOptions,
    pub(crate) ports: Ports,
    pub(crate) sessions: Arc<dyn PhoneSessions>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Arc<BotsMetrics>,
    pub(crate) handler: Arc<dyn Handler>,
    pub(crate) roster: Roster,
    pub(crate) ids: MessageIds,
    recent: [Mutex<RecentIds>; ID_SHARDS],
    pub(crate) board: Board,
    pub(crate) workers: Vec<Arc<WorkerSlot>>,
    pub(crate) parked: Parked,
    /// Places in the queue, in direct mode only: the ledger counts them otherwise.
    pub(crate) places: Arc<Semaphore>,
    /// Keyed sends of direct mode, one at a time; the ledger knows them otherwise.
    pub(crate) direct_keys: tokio::sync::Mutex<SentKeys>,
    pub(crate) pacer: Pacer,
    pub(crate) teller: Teller,
    /// Phones with held id-less messages, and when to look at them.
    pub(crate) held: Mutex<std::collections::VecDeque<(Instant, Arc<DeviceEntry>)>>,
    pub(crate) held_added: tokio::sync::Notify,
    pub(crate) accepts: mpsc::Sender<Arc<Work>>,
    pub(crate) ops: mpsc::Sender<LedgerOp>,
    pub(crate) pings: mpsc::Sender<PingSample>,
    /// Makes pictures ready; those of the bots share its bounds.
    pub(crate) kitchen: MediaKitchen,
    pub(crate) tasks: TaskTracker,
    /// Set first when the node stops: nothing new is taken.
    pub(crate) is_closing: AtomicBool,
    /// Ends lookups and waits when the node stops.
    pub(crate) stop: CancellationToken,
    /// Set when the ledger task has ended: nobody needs to wait for an answer of it.
    pub(crate) ledger_ended: CancellationToken,
    started: Instant,
}

/// What ends in a settlement.
#[derive(Debug)]
pub(crate) enum Ending {
    Answered(Outcome),
    Dead {
        cause: DeadCause,
        reason: String,
    },
    /// Not worked on: the approval was withdrawn before.
    Withheld,
}

/// Why a message failed for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeadCause {
    Failed,
    Panicked,
    TimedOut,
    Stuck,
}

/// What a core is made of.
pub(crate) struct CoreParts {
    pub(crate) options: BotsOptions,
    pub(crate) ports: Ports,
    pub(crate) sessions: Arc<dyn PhoneSessions>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) handler: Arc<dyn Handler>,
    pub(crate) ids: MessageIds,
    pub(crate) accepts: mpsc::Sender<Arc<Work>>,
    pub(crate) ops: mpsc::Sender<LedgerOp>,
    pub(crate) pings: mpsc::Sender<PingSample>,
    pub(crate) media: Arc<dyn MediaFetch>,
    /// Where rooms are channels.
    pub(crate) channels: Option<Hub>,
}

impl Core {
    pub(crate) fn new(parts: CoreParts) -> Core {
        let options = parts.options;
        let shard_max = options.duplicates_max.div_ceil(ID_SHARDS);
        Core {
            recent: std::array::from_fn(|_| {
                Mutex::new(RecentIds::new(options.duplicate_window, shard_max))
            }),
            board: Board::new(options.limits),
            parked: Parked::default(),
            workers: (0..options.workers).map(|_| Arc::new(WorkerSlot::default())).collect(),
            places: Arc::new(Semaphore::new(options.limits.queue)),
            ports: parts.ports,
            sessions: parts.sessions,
            clock: parts.clock,
            metrics: Arc::default(),
            handler: parts.handler,
            roster: Roster::default(),
            ids: parts.ids,
            direct_keys: tokio::sync::Mutex::default(),
            pacer: Pacer::default(),
            teller: Teller::new(parts.channels, options.limits.queue + options.limits.in_work),
            held: Mutex::default(),
            held_added: tokio::sync::Notify::new(),
            accepts: parts.accepts,
            ops: parts.ops,
            pings: parts.pings,
            kitchen: MediaKitchen::new(MediaOptions::default(), parts.media),
            tasks: TaskTracker::new(),
            is_closing: AtomicBool::new(false),
            stop: CancellationToken::new(),
            ledger_ended: CancellationToken::new(),
            started: now(),
            options,
        }
    }

    pub(crate) fn is_direct(&self) -> bool {
        self.options.processing == Processing::Direct
    }

    pub(crate) fn uptime(&self) -> Duration {
        self.uptime_at(now())
    }

    /// The same for a moment that was read already: reading the clock costs as much as a lock.
    pub(crate) fn uptime_at(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.started)
    }

    /// Whether this (device, log id) is new; it is known from now on.
    pub(crate) fn is_new_id(&self, device: DeviceKey, log_id: &str, at: Instant) -> bool {
        self.shard(device).lock().insert(device, log_id, at)
    }

    fn shard(&self, device: DeviceKey) -> &Mutex<RecentIds> {
        let shards = i64::try_from(ID_SHARDS).unwrap_or(1);
        &self.recent[usize::try_from(device.0.rem_euclid(shards)).unwrap_or(0)]
    }

    /// Does something with every shard of the duplicate filter; returns how many ids are known after.
    pub(crate) fn with_recent(&self, act: impl Fn(&mut RecentIds)) -> usize {
        self.recent
            .iter()
            .map(|shard| {
                let mut shard = shard.lock();
                act(&mut shard);
                shard.len()
            })
            .sum()
    }

    /// The bot with this name: its settings are read, or created at first contact.
    pub(crate) async fn bot(
        &self,
        name: &naru_domain::BotName,
    ) -> Result<Arc<BotEntry>, StoreError> {
        if let Some(bot) = self.roster.bot(name) {
            return Ok(bot);
        }
        let initial = Settings::default().document();
        let (document, revision) =
            self.ports.settings.bot_settings(name, &initial, self.clock.now()).await?;
        let config = crate::router::config_of(self, name, &document, revision, None);
        Ok(self.roster.put_bot(name, config))
    }

    /// The entry for a device record, with its session.
    pub(crate) async fn adopt(
        &self,
        record: &DeviceRecord,
        handed_over: Offset,
        retained: Vec<Delivery>,
    ) -> Result<Arc<DeviceEntry>, StoreError> {
        let bot = self.bot(&record.bot).await?;
        let is_recorded = !self.is_direct();
        let entry = self.roster.put_device(record, bot, |entry| {
            entry.stream.lock().last = handed_over;
            self.sessions.open(PhoneSession {
                device: entry.key,
                label: entry.label(),
                is_recorded,
                handed_over,
                retained,
            })
        });
        entry.touch(self.uptime());
        Ok(entry)
    }

    /// The entry of a device, read from the store if it is not in memory.
    pub(crate) async fn entry(&self, key: DeviceKey) -> Result<Arc<DeviceEntry>, StoreError> {
        if let Some(entry) = self.roster.device(key) {
            return Ok(entry);
        }
        let record = self.ports.devices.device(key).await?;
        self.adopt_known(&record).await
    }

    /// The entry for a device record; the end of its stream is asked of the ledger task.
    pub(crate) async fn adopt_known(
        &self,
        record: &DeviceRecord,
    ) -> Result<Arc<DeviceEntry>, StoreError> {
        if let Some(entry) = self.roster.device(record.key) {
            entry.apply(record);
            entry.touch(self.uptime());
            return Ok(entry);
        }
        let last = self.last_offset(record.key).await?;
        self.adopt(record, last, Vec::new()).await
    }

    async fn last_offset(&self, device: DeviceKey) -> Result<Offset, StoreError> {
        let last = self.ask_ledger(|answer| LedgerOp::LastOffset(device, answer)).await;
        last.ok_or_else(|| StoreError::Busy { reason: "the node is stopping".to_owned() })
    }

    /// Asks the ledger task and waits for its answer; `None` when it has ended.
    pub(crate) async fn ask_ledger<A>(
        &self,
        op: impl FnOnce(tokio::sync::oneshot::Sender<A>) -> LedgerOp,
    ) -> Option<A> {
        let (answer, asked) = tokio::sync::oneshot::channel();
        let answered = async {
            self.ops.send(op(answer)).await.ok()?;
            asked.await.ok()
        };
        self.ledger_ended.run_until_cancelled(answered).await.flatten()
    }

    pub(crate) fn first_approval(&self, policy: FirstContact) -> Approval {
        match policy {
            FirstContact::Manual => Approval::Pending,
            FirstContact::Auto => Approval::Approved,
        }
    }

    /// The room entry of a record, if its phone is in memory.
    pub(crate) fn apply_room(&self, record: &RoomRecord) -> Option<Arc<RoomEntry>> {
        let entry = self.roster.device(record.device)?;
        let room = entry.line.lock().put_room(record, &entry.bot.name);
        room.touch(self.uptime());
        Some(room)
    }

    /// The final state of a message and the replies to keep.
    pub(crate) fn conclude(&self, work: &Work, ending: Ending) -> Conclusion {
        match ending {
            // The last look at the approval: it may have been withdrawn while the handler worked.
            Ending::Answered(outcome) if !outcome.replies.is_empty() && !work.is_answerable() => {
                Conclusion::logged(outcome.replies.len())
            }
            // Who watches the room answers it, or chooses not to.
            Ending::Answered(outcome) if outcome.is_unhandled() && work.told.is_none() => {
                Conclusion::logged(0)
            }
            Ending::Answered(outcome) => {
                let tally = Tally::Done { replies: outcome.replies.len() };
                let replies =
                    outcome.replies.into_iter().map(|body| reply_to(&work.record, body)).collect();
                Conclusion { state: MessageState::Done, failure: Box::from(""), replies, tally }
            }
            Ending::Withheld => Conclusion::logged(0),
            Ending::Dead { cause, reason } => {
                tracing::debug!(target: "naru::bots", bot = %work.entry.bot.name,
                    message = %work.record.id, ?cause, reason, "message failed for good");
                Conclusion {
                    state: MessageState::Dead,
                    failure: reason.chars().take(500).collect::<String>().into(),
                    replies: Vec::new(),
                    tally: Tally::Dead(cause),
                }
            }
        }
    }

    /// Counts how a message ended, once that is certain.
    pub(crate) fn tally(&self, tally: Tally) {
        let metrics = &self.metrics;
        match tally {
            Tally::Done { replies } => {
                metrics.done.increment();
                metrics.replies.add(count(replies));
            }
            Tally::Logged { withheld } => {
                metrics.logged.increment();
                metrics.withheld.add(count(withheld));
            }
            Tally::Dead(DeadCause::Failed) => metrics.dead_failed.increment(),
            Tally::Dead(DeadCause::Panicked) => metrics.dead_panicked.increment(),
            Tally::Dead(DeadCause::TimedOut) => metrics.dead_timed_out.increment(),
            Tally::Dead(DeadCause::Stuck) => metrics.dead_stuck.increment(),
        }
    }

    /// The answer of the handler without waiting, if it has one that needs no preparation.
    pub(crate) fn immediate(&self, work: &Work) -> Option<Ending> {
        let incoming = incoming_of(work, 1);
        let asked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            self.handler.immediate(&incoming)
        }));
        match asked {
            Ok(outcome) => {
                let outcome = outcome?;
                crate::prepare::is_plain(&outcome).then_some(Ending::Answered(outcome))
            }
            Err(_panic) => Some(Ending::Dead {
                cause: DeadCause::Panicked,
                reason: "the handler panicked".to_owned(),
            }),
        }
    }

    /// Puts a reply into the phone's stream, after those that are held back for a pause.
    pub(crate) fn deliver(&self, entry: &Arc<DeviceEntry>, delivery: Delivery, pause: Duration) {
        let mut stream = entry.stream.lock();
        self.deliver_locked(entry, &mut stream, delivery, pause);
    }

    /// The same for who holds the stream.
    pub(crate) fn deliver_locked(
        &self,
        entry: &Arc<DeviceEntry>,
        stream: &mut Stream,
        delivery: Delivery,
        pause: Duration,
    ) {
        if pause.is_zero() && stream.paced.is_empty() {
            self.hand_over(entry, delivery);
            return;
        }
        let now = now();
        let at = stream.paced.back().map_or(now, |last| last.at.max(now)) + pause;
        stream.paced.push_back(Paced { at, delivery });
        self.pacer.add(at, Arc::clone(entry));
    }

    /// Hands to the session; the caller holds the lock of the stream, so that the order holds.
    pub(crate) fn hand_over(&self, entry: &DeviceEntry, delivery: Delivery) {
        match self.sessions.deliver(entry.session(), delivery.clone()) {
            Handed::Taken => (),
            Handed::Dropped => self.metrics.replies_dropped.increment(),
            Handed::NoSession => {
                // An operator removed the session; the phone will be back.
                let session = self.sessions.open(PhoneSession {
                    device: entry.key,
                    label: entry.label(),
                    is_recorded: !self.is_direct(),
                    handed_over: Offset(delivery.offset.0.saturating_sub(1)),
                    retained: vec![delivery],
                });
                entry.set_session(session);
            }
        }
    }

    /// Keeps the gauges of the queue true; called where the queue changes.
    pub(crate) fn show_queue(&self, waiting: usize, in_work: usize) {
        self.metrics.waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        self.metrics.in_work.set(i64::try_from(in_work).unwrap_or(i64::MAX));
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.is_closing.load(Relaxed)
    }
}

/// How a message ended.
#[derive(Debug)]
pub(crate) struct Conclusion {
    pub(crate) state: MessageState,
    pub(crate) failure: Box<str>,
    pub(crate) replies: Vec<PhoneReply>,
    pub(crate) tally: Tally,
}

/// How a message ended, for the counters.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Tally {
    Done { replies: usize },
    Logged { withheld: usize },
    Dead(DeadCause),
}

impl Conclusion {
    fn logged(withheld: usize) -> Conclusion {
        Conclusion {
            state: MessageState::Logged,
            failure: Box::from(""),
            replies: Vec::new(),
            tally: Tally::Logged { withheld },
        }
    }
}

/// What handlers see of a message.
pub(crate) fn incoming_of(work: &Work, attempt: u32) -> Incoming {
    Incoming {
        message: Arc::clone(&work.record),
        bot: work.entry.bot.name.clone(),
        device: work.entry.device.clone(),
        attempt,
    }
}

/// A reply to the room a message came from.
pub(crate) fn reply_to(message: &MessageRecord, body: ReplyBody) -> PhoneReply {
    PhoneReply {
        room: Arc::clone(&message.room_name),
        channel_id: Arc::clone(&message.channel_id),
        body,
        scheduled: false,
    }
}

/// A reply as the session takes it.
pub(crate) fn delivery(offset: Offset, reply: Arc<PhoneReply>) -> Delivery {
    Delivery { offset, class: DeliveryClass::Reliable, body: DeliveryBody::Phone(reply) }
}

/// Monotonic time that stands still when a test pauses the runtime's clock.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

pub(crate) fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
