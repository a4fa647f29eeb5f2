//! What operators do: approve, send, answer later, replay, change settings, look at the queue. Every
//! change goes to the store first and then acts at once on the phones that are connected.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use async_trait::async_trait;
use naru_domain::limits::PAGE_ROWS_MAX;
use naru_domain::ports::StoreError;
use naru_domain::work::{
    DeviceRecord, LedgerBatch, MessageRecord, MessageState, Page, RoomRecord, Settlement,
};
use naru_domain::{
    Approval, BotName, DeviceKey, MessageId, Offset, PhoneReply, ReplyBody, RoomKey,
};
use tracing::debug;

use crate::command::ReloadReport;
use crate::core::{Core, now, reply_to};
use crate::handler::{ReplyOut, SendError};
use crate::ledger::{LedgerOp, SendOp, keyed_send};
use crate::room_channel::{Author, Source};
use crate::roster::{BotConfig, DeviceEntry, RoomEntry, Work};
use crate::settings::{Settings, SettingsError};
use crate::workers::WorkerView;

/// A message of an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendRequest {
    /// The phone that sends.
    pub device: DeviceKey,
    /// The room's channel id; may be empty for text.
    pub channel_id: String,
    /// The room's name on that phone.
    pub room: String,
    /// What to say.
    pub body: ReplyBody,
    /// The same key with the same phone sends once and gives the same result, across restarts, for as long
    /// as retention keeps keys.
    pub idempotency_key: Option<String>,
}

/// Why settings were not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetSettingsError {
    /// The document is wrong.
    #[error(transparent)]
    Document(#[from] SettingsError),
    /// The store did not take it; `Conflict` when the revision is not the current one.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The queue as operators see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueView {
    /// Messages that wait for a worker.
    pub waiting: usize,
    /// Messages in work.
    pub in_work: usize,
    /// Of them those whose handlers only wait, and hold no worker.
    pub parked: usize,
    /// How many may wait.
    pub limit: usize,
    /// Whether the store takes messages.
    pub is_store_healthy: bool,
    /// The workers.
    pub workers: Vec<WorkerView>,
}

pub(crate) async fn set_device_approval(
    core: &Core,
    key: DeviceKey,
    approval: Approval,
    note: &str,
    revision: Option<i64>,
) -> Result<DeviceRecord, StoreError> {
    let record = core.ports.devices.set_device_approval(key, approval, note, revision).await?;
    apply_device(core, &record);
    Ok(record)
}

pub(crate) async fn set_device_frame_limit(
    core: &Core,
    key: DeviceKey,
    frame_bytes_max: Option<u32>,
) -> Result<DeviceRecord, StoreError> {
    let record = core.ports.devices.set_device_frame_limit(key, frame_bytes_max).await?;
    apply_device(core, &record);
    Ok(record)
}

fn apply_device(core: &Core, record: &DeviceRecord) {
    if let Some(entry) = core.roster.device(record.key) {
        entry.apply(record);
    }
}

pub(crate) async fn set_room_approval(
    core: &Core,
    key: RoomKey,
    approval: Approval,
    note: &str,
    revision: Option<i64>,
) -> Result<RoomRecord, StoreError> {
    let record = core.ports.rooms.set_room_approval(key, approval, note, revision).await?;
    core.apply_room(&record);
    Ok(record)
}

/// Reads everything that is in memory again, for those who changed the database by hand.
pub(crate) async fn reload(core: &Core) -> Result<ReloadReport, StoreError> {
    let mut report = ReloadReport::default();
    for bot in core.roster.bots() {
        let initial = Settings::default().document();
        let (document, revision) =
            core.ports.settings.bot_settings(&bot.name, &initial, core.clock.now()).await?;
        let before = bot.config.load_full();
        let config = crate::router::config_of(core, &bot.name, &document, revision, Some(&before));
        bot.config.store(Arc::new(config));
        report.bots += 1;
    }
    for entry in core.roster.devices() {
        entry.apply(&core.ports.devices.device(entry.key).await?);
        report.devices += 1;
        report.rooms += read_rooms(core, &entry, KnownRooms::Only).await?;
    }
    Ok(report)
}

/// Which rooms of a phone are taken into memory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum KnownRooms {
    /// Those that are there already.
    Only,
    /// All.
    AndOthers,
}

async fn read_rooms(
    core: &Core,
    entry: &DeviceEntry,
    which: KnownRooms,
) -> Result<usize, StoreError> {
    let mut page = Page { after: None, limit: PAGE_ROWS_MAX };
    let mut count = 0;
    loop {
        let records = core.ports.rooms.rooms(None, Some(entry.key), None, page).await?;
        let mut line = entry.line.lock();
        for record in &records {
            if which == KnownRooms::AndOthers || line.rooms.contains_key(&record.channel_id) {
                line.put_room(record, &entry.bot.name).touch(core.uptime());
                count += 1;
            }
        }
        drop(line);
        match records.last() {
            Some(last) if records.len() >= page.limit => page.after = Some(last.key.0),
            _ => return Ok(count),
        }
    }
}

/// The room with this channel id, if the phone was ever heard from it.
async fn room_of(
    core: &Core,
    entry: &DeviceEntry,
    channel_id: &str,
) -> Result<Option<Arc<RoomEntry>>, StoreError> {
    let known = || entry.line.lock().rooms.get(channel_id).cloned();
    if let Some(room) = known() {
        return Ok(Some(room));
    }
    if !entry.rooms_read.load(Relaxed) {
        read_rooms(core, entry, KnownRooms::AndOthers).await?;
        entry.rooms_read.store(true, Relaxed);
    }
    Ok(known())
}

/// Keeps and sends replies that answer no message.
pub(crate) async fn send(core: &Arc<Core>, request: SendRequest) -> Result<Vec<Offset>, SendError> {
    let SendRequest { device, channel_id, room, body, idempotency_key } = request;
    let to_say = ToSay {
        room: room.into(),
        channel_id: channel_id.into(),
        bodies: vec![body],
        message: None,
        by: Author::Operator,
        key: idempotency_key,
    };
    say(core, device, to_say).await
}

/// Something to say in a room.
pub(crate) struct ToSay {
    /// The room's name on the phone.
    pub(crate) room: Arc<str>,
    /// Its channel id, or empty.
    pub(crate) channel_id: Arc<str>,
    pub(crate) bodies: Vec<ReplyBody>,
    /// The message that is answered, if any.
    pub(crate) message: Option<MessageId>,
    pub(crate) by: Author,
    /// The same key with the same phone says it once.
    pub(crate) key: Option<String>,
}

/// Says something in a room that nobody waits for. A room that was never heard from may be written to:
/// nobody could have approved it yet.
pub(crate) async fn say(
    core: &Arc<Core>,
    device: DeviceKey,
    to_say: ToSay,
) -> Result<Vec<Offset>, SendError> {
    let ToSay { room, channel_id, bodies, message, by, key } = to_say;
    let entry = core.entry(device).await.map_err(|error| of_store("device", error))?;
    if let Some(offsets) = sent_before(core, device, key.as_deref()).await? {
        return Ok(offsets);
    }
    let has_media = bodies.iter().any(|body| matches!(body, ReplyBody::Media { .. }));
    if has_media && channel_id.is_empty() {
        let reason = "pictures need the room's channel id".to_owned();
        return Err(SendError::Invalid { reason });
    }
    if !entry.is_approved() {
        return Err(SendError::NotApproved { what: "device" });
    }
    let known = room_of(core, &entry, &channel_id).await.map_err(|e| of_store("room", e))?;
    if known.as_ref().is_some_and(|room| !room.switch.is_approved()) {
        return Err(SendError::NotApproved { what: "room" });
    }
    let scheduled = by == Author::Schedule;
    let replies = prepare(&entry, bodies).await?.into_iter().map(|body| PhoneReply {
        room: Arc::clone(&room),
        channel_id: Arc::clone(&channel_id),
        body,
        scheduled,
    });
    let replies = replies.collect();
    let source = Source { room: known, message, by };
    keep_and_send(core, entry, replies, source, key).await
}

async fn prepare(entry: &DeviceEntry, bodies: Vec<ReplyBody>) -> Result<Vec<ReplyBody>, SendError> {
    let ready = crate::prepare::bodies(entry, bodies).await.map_err(|error| {
        if error.retryable {
            SendError::Unavailable { reason: error.reason }
        } else {
            SendError::Invalid { reason: error.reason }
        }
    })?;
    if ready.is_empty() {
        return Err(SendError::Invalid { reason: "there is nothing to send".to_owned() });
    }
    Ok(ready)
}

async fn keep_and_send(
    core: &Arc<Core>,
    entry: Arc<DeviceEntry>,
    replies: Vec<PhoneReply>,
    source: Source,
    key: Option<String>,
) -> Result<Vec<Offset>, SendError> {
    let key = key.map(Arc::from);
    if core.is_direct() {
        return Ok(send_direct(core, &entry, replies, &source, key).await);
    }
    let op = |answer| LedgerOp::Send(SendOp { entry, replies, source, key, answer });
    core.ask_ledger(op).await.unwrap_or_else(|| {
        Err(SendError::Unavailable { reason: "the node is stopping".to_owned() })
    })
}

/// What an earlier call with this key came to, perhaps before a restart.
async fn sent_before(
    core: &Core,
    device: DeviceKey,
    key: Option<&str>,
) -> Result<Option<Vec<Offset>>, SendError> {
    let Some(key) = key else { return Ok(None) };
    let found = core.ports.ledger.keyed_send(device, key).await;
    Ok(found.map_err(|error| of_store("key", error))?.map(|send| send.offsets()))
}

/// Sends at once. Nothing of it is kept but the key, if there is one: keyed sends therefore go one after
/// the other, and only they wait for the store.
async fn send_direct(
    core: &Core,
    entry: &Arc<DeviceEntry>,
    replies: Vec<PhoneReply>,
    source: &Source,
    key: Option<Arc<str>>,
) -> Vec<Offset> {
    let count = crate::core::count(replies.len());
    let Some(key) = key else {
        core.metrics.replies.add(count);
        return core.send_direct(entry, source, replies, Duration::ZERO);
    };
    let key = (entry.key, key);
    let mut keys = core.direct_keys.lock().await;
    if let Some(offsets) = keys.get(&key) {
        return offsets.clone();
    }
    core.metrics.replies.add(count);
    let offsets = core.send_direct(entry, source, replies, Duration::ZERO);
    let settlement = Settlement {
        message: None,
        state: MessageState::Done,
        failure: Box::from(""),
        replies: Vec::new(),
        keyed: keyed_send(entry.key, &key.1, &offsets, core.clock.now()),
    };
    keys.insert(key, offsets.clone());
    let batch = LedgerBatch { settle: vec![settlement], ..LedgerBatch::default() };
    if let Err(error) = core.ports.ledger.commit(&batch, core.options.durability).await {
        // It was sent, and this process knows the key; only the next one will not.
        debug!(target: "naru::bots", %error, "the key of a send was not kept");
    }
    offsets
}

fn of_store(what: &'static str, error: StoreError) -> SendError {
    match error {
        StoreError::NotFound => SendError::NotFound { what },
        error => SendError::Unavailable { reason: error.to_string() },
    }
}

/// Answers a message after its handler has ended.
pub(crate) async fn reply_later(
    core: &Arc<Core>,
    message: MessageId,
    replies: Vec<ReplyBody>,
    key: Option<String>,
) -> Result<Vec<Offset>, SendError> {
    let record = core.ports.chat_log.message(message).await.map_err(|e| of_store("message", e))?;
    if let Some(offsets) = sent_before(core, record.device, key.as_deref()).await? {
        return Ok(offsets);
    }
    let work = work_of(core, record).await.map_err(|error| of_store("device", error))?;
    if !work.is_answerable() {
        let what = if work.entry.is_approved() { "room" } else { "device" };
        return Err(SendError::NotApproved { what });
    }
    let bodies = prepare(&work.entry, replies).await?;
    let replies = bodies.into_iter().map(|body| reply_to(&work.record, body)).collect();
    let source = Source::answer(&work);
    keep_and_send(core, Arc::clone(&work.entry), replies, source, key).await
}

/// A record from the store with what work on it needs.
pub(crate) async fn work_of(core: &Core, record: MessageRecord) -> Result<Work, StoreError> {
    let entry = core.entry(record.device).await?;
    let room = match record.room {
        None => None,
        Some(key) => {
            let known = entry.line.lock().rooms.get(record.channel_id.as_ref()).cloned();
            match known {
                Some(room) => Some(room),
                None => {
                    let record = core.ports.rooms.room(key).await?;
                    let room = entry.line.lock().put_room(&record, &entry.bot.name);
                    room.touch(core.uptime());
                    Some(room)
                }
            }
        }
    };
    let record = Arc::new(record);
    Ok(Work { record, entry, room, received: now(), is_for_next_start: false, told: None })
}

/// Works on a dead message again.
pub(crate) async fn replay(core: &Arc<Core>, message: MessageId) -> Result<(), StoreError> {
    // Whatever else is wrong shows before the message is taken back.
    let before = core.ports.chat_log.message(message).await?;
    work_of(core, before).await?;
    let record = core.ports.ledger.revive(message).await?;
    let work = Arc::new(work_of(core, record).await?);
    if work.record.state != MessageState::Pending {
        return Err(StoreError::NotFound);
    }
    if core.is_direct() {
        core.board.push_kept(vec![work], now());
        return Ok(());
    }
    // If the node stops right here, the next start finds the message pending.
    core.ledger_ended.run_until_cancelled(core.ops.send(LedgerOp::Again(work))).await;
    Ok(())
}

/// A bot's settings without secrets, with their revision.
pub(crate) async fn settings(core: &Core, bot: &BotName) -> Result<(String, i64), StoreError> {
    let bot = core.bot(bot).await?;
    let config = bot.config.load();
    Ok((config.settings.masked().document(), config.revision))
}

pub(crate) async fn set_settings(
    core: &Core,
    bot: &BotName,
    document: &str,
    revision: i64,
) -> Result<i64, SetSettingsError> {
    let bot = core.bot(bot).await?;
    let mut settings = Settings::parse(document)?;
    let before = bot.config.load_full();
    settings.unmask(&before.settings);
    crate::router::webhook_of(core, &bot.name, &settings, Some(&before)).map_err(|error| {
        SettingsError::Invalid { path: "webhook".to_owned(), reason: error.to_string() }
    })?;
    let document = settings.document();
    let revision = core.ports.settings.set_bot_settings(&bot.name, &document, revision).await?;
    let config: BotConfig =
        crate::router::config_of(core, &bot.name, &document, revision, Some(&before));
    // Two operators at once: the later revision stays.
    bot.config.rcu(|current| {
        if current.revision > revision { Arc::clone(current) } else { Arc::new(config.clone()) }
    });
    Ok(revision)
}

pub(crate) fn queue(core: &Core) -> QueueView {
    let (waiting, in_work) = core.board.depth();
    let check = core.options.check_every;
    let workers = core.workers.iter().enumerate();
    QueueView {
        waiting,
        in_work,
        parked: core.parked.count(),
        limit: core.options.limits.queue,
        is_store_healthy: core.metrics.ledger_healthy.get() == 1,
        workers: workers.map(|(worker, slot)| slot.view(worker, check)).collect(),
    }
}

/// The way out for schedules.
pub(crate) struct Out(pub(crate) Arc<Core>);

#[async_trait]
impl ReplyOut for Out {
    async fn send(
        &self,
        device: DeviceKey,
        room: &str,
        channel_id: &str,
        bodies: Vec<ReplyBody>,
        scheduled: bool,
    ) -> Result<(), SendError> {
        let by = if scheduled { Author::Schedule } else { Author::Operator };
        let to_say = ToSay {
            room: room.into(),
            channel_id: channel_id.into(),
            bodies,
            message: None,
            by,
            key: None,
        };
        say(&self.0, device, to_say).await.map(drop)
    }
}
