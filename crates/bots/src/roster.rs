//! What this process knows of bots, phones and rooms: the approvals that act at once, and the place
//! where each phone's messages line up. Plain shared state; reads and writes of the store are elsewhere.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use naru_domain::phone::PhoneChat;
use naru_domain::work::{DeviceRecord, MessageRecord, RoomRecord};
use naru_domain::{
    Approval, BotName, ChannelName, Delivery, DeviceId, DeviceKey, Dialect, Offset, RoomKey,
    SessionId,
};
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::duplicates::Copies;
use crate::hook::Webhook;
use crate::media::MediaKitchen;
use crate::room_channel::{bot_channel, room_channel};
use crate::scheduler::{BotIndex, Lane};
use crate::settings::Settings;

/// How long an id-less copy and its complete message may be apart.
pub(crate) const COPY_WINDOW: Duration = Duration::from_secs(2);

/// An approval that is read on every message and changed by operators. An older revision never
/// overwrites a newer one, whatever the order in which two readers of the store come back.
#[derive(Debug)]
pub(crate) struct Switch {
    state: AtomicU8,
    revision: Mutex<i64>,
}

impl Switch {
    fn new(approval: Approval, revision: i64) -> Switch {
        Switch { state: AtomicU8::new(code(approval)), revision: Mutex::new(revision) }
    }

    pub(crate) fn apply(&self, approval: Approval, revision: i64) -> bool {
        let mut current = self.revision.lock();
        if revision < *current {
            return false;
        }
        *current = revision;
        self.state.store(code(approval), Relaxed);
        true
    }

    pub(crate) fn is_approved(&self) -> bool {
        self.state.load(Relaxed) == code(Approval::Approved)
    }
}

fn code(approval: Approval) -> u8 {
    match approval {
        Approval::Pending => 0,
        Approval::Approved => 1,
        Approval::Denied => 2,
        Approval::Revoked => 3,
        Approval::Blocked => 4,
    }
}

/// A bot.
#[derive(Debug)]
pub(crate) struct BotEntry {
    pub(crate) index: BotIndex,
    pub(crate) name: BotName,
    /// Where all its rooms are heard.
    pub(crate) channel: ChannelName,
    pub(crate) config: ArcSwap<BotConfig>,
}

/// A bot's settings and what was made of them.
#[derive(Clone, Debug)]
pub(crate) struct BotConfig {
    pub(crate) settings: Settings,
    pub(crate) revision: i64,
    pub(crate) webhook: Option<Arc<Webhook>>,
    /// Makes pictures ready, at this bot's width.
    pub(crate) kitchen: MediaKitchen,
}

/// A room of a phone.
#[derive(Debug)]
pub(crate) struct RoomEntry {
    pub(crate) key: RoomKey,
    pub(crate) channel_id: Arc<str>,
    /// Where it is heard, and answered by clients.
    pub(crate) channel: ChannelName,
    pub(crate) name: Mutex<Arc<str>>,
    pub(crate) switch: Switch,
    used_s: AtomicU64,
}

/// A phone.
#[derive(Debug)]
pub(crate) struct DeviceEntry {
    pub(crate) key: DeviceKey,
    pub(crate) bot: Arc<BotEntry>,
    pub(crate) device: DeviceId,
    pub(crate) switch: Switch,
    frame_bytes_max: AtomicU32,
    session: AtomicU64,
    /// Which tongue it spoke last, if it spoke since the start.
    dialect: Mutex<Option<Dialect>>,
    pub(crate) line: Mutex<Line>,
    /// Told when the line's waiting list got shorter.
    pub(crate) line_moved: Notify,
    pub(crate) stream: Mutex<Stream>,
    /// Whether all its rooms were read from the store, so that an unknown one does not exist.
    pub(crate) rooms_read: AtomicBool,
    used_s: AtomicU64,
}

/// Where the messages of one phone line up until their room is known.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) rooms: HashMap<Box<str>, Arc<RoomEntry>>,
    pub(crate) waiting: VecDeque<Box<PhoneChat>>,
    /// A task looks up rooms; until it is done everything lines up behind it.
    pub(crate) looking_up: bool,
    pub(crate) copies: Copies<Box<PhoneChat>>,
}

/// The replies of one phone on their way to its session.
#[derive(Debug)]
pub(crate) struct Stream {
    /// The last offset that was given out. Only used when there is no ledger to count.
    pub(crate) last: Offset,
    /// Replies that are held back for a pause, and everything after them.
    pub(crate) paced: VecDeque<Paced>,
}

/// A reply that leaves at its time.
#[derive(Debug)]
pub(crate) struct Paced {
    pub(crate) at: Instant,
    pub(crate) delivery: Delivery,
}

/// An accepted message with everything that work on it needs.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) record: Arc<MessageRecord>,
    pub(crate) entry: Arc<DeviceEntry>,
    /// `None` when the message came without a channel id.
    pub(crate) room: Option<Arc<RoomEntry>>,
    /// When it was handed over by the gateway.
    pub(crate) received: Instant,
    /// It came while the node stops: it is kept, and worked on after the next start.
    pub(crate) is_for_next_start: bool,
    /// Its room has an audience; cancelled when the message was told to it. A kept message ends no earlier.
    pub(crate) told: Option<CancellationToken>,
}

impl Work {
    pub(crate) fn lane(&self) -> Lane {
        match &self.room {
            Some(room) => Lane(room.key.0),
            // Rooms without an id cannot be told apart: one order per phone. Keys are positive.
            None => Lane(-1 - self.entry.key.0),
        }
    }

    /// Whether it may be answered right now.
    pub(crate) fn is_answerable(&self) -> bool {
        self.entry.is_approved()
            && match &self.room {
                Some(room) => room.switch.is_approved(),
                None => self.entry.bot.config.load().settings.reply_without_channel_id,
            }
    }
}

impl DeviceEntry {
    pub(crate) fn is_approved(&self) -> bool {
        self.switch.is_approved() && !self.device.is_unknown()
    }

    pub(crate) fn frame_bytes_max(&self) -> Option<usize> {
        match self.frame_bytes_max.load(Relaxed) {
            0 => None,
            bytes => usize::try_from(bytes).ok(),
        }
    }

    pub(crate) fn apply(&self, record: &DeviceRecord) {
        if self.switch.apply(record.approval, record.revision) {
            self.frame_bytes_max.store(record.frame_bytes_max.unwrap_or(0), Relaxed);
        }
    }

    pub(crate) fn session(&self) -> SessionId {
        SessionId(self.session.load(Relaxed))
    }

    pub(crate) fn set_session(&self, session: SessionId) {
        self.session.store(session.0, Relaxed);
    }

    pub(crate) fn dialect(&self) -> Option<Dialect> {
        *self.dialect.lock()
    }

    pub(crate) fn set_dialect(&self, dialect: Dialect) {
        *self.dialect.lock() = Some(dialect);
    }

    pub(crate) fn label(&self) -> String {
        format!("{}/{}", self.bot.name, self.device)
    }

    pub(crate) fn touch(&self, uptime: Duration) {
        self.used_s.store(uptime.as_secs(), Relaxed);
    }
}

impl RoomEntry {
    pub(crate) fn new(record: &RoomRecord, bot: &BotName) -> RoomEntry {
        RoomEntry {
            key: record.key,
            channel: room_channel(bot, record.key),
            channel_id: Arc::from(record.channel_id.as_ref()),
            name: Mutex::new(Arc::from(record.name.as_ref())),
            switch: Switch::new(record.approval, record.revision),
            used_s: AtomicU64::new(0),
        }
    }

    pub(crate) fn touch(&self, uptime: Duration) {
        self.used_s.store(uptime.as_secs(), Relaxed);
    }
}

impl Line {
    /// The room of this record: refreshed if it is here, else put here.
    pub(crate) fn put_room(&mut self, record: &RoomRecord, bot: &BotName) -> Arc<RoomEntry> {
        if let Some(room) = self.rooms.get(&record.channel_id) {
            room.switch.apply(record.approval, record.revision);
            let mut name = room.name.lock();
            if **name != *record.name {
                *name = Arc::from(record.name.as_ref());
            }
            return Arc::clone(room);
        }
        let room = Arc::new(RoomEntry::new(record, bot));
        self.rooms.insert(record.channel_id.clone(), Arc::clone(&room));
        room
    }
}

/// Everybody this process knows.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    devices: RwLock<HashMap<DeviceKey, Arc<DeviceEntry>>>,
    bots: RwLock<HashMap<BotName, Arc<BotEntry>>>,
}

impl Roster {
    pub(crate) fn device(&self, key: DeviceKey) -> Option<Arc<DeviceEntry>> {
        self.devices.read().get(&key).cloned()
    }

    pub(crate) fn bot(&self, name: &BotName) -> Option<Arc<BotEntry>> {
        self.bots.read().get(name).cloned()
    }

    pub(crate) fn devices(&self) -> Vec<Arc<DeviceEntry>> {
        self.devices.read().values().cloned().collect()
    }

    pub(crate) fn bots(&self) -> Vec<Arc<BotEntry>> {
        self.bots.read().values().cloned().collect()
    }

    pub(crate) fn device_count(&self) -> usize {
        self.devices.read().len()
    }

    /// The bot with this name, put here with `config` unless it is here already.
    pub(crate) fn put_bot(&self, name: &BotName, config: BotConfig) -> Arc<BotEntry> {
        let mut bots = self.bots.write();
        let index = BotIndex(u32::try_from(bots.len()).unwrap_or(u32::MAX));
        let entry = bots.entry(name.clone()).or_insert_with(|| {
            Arc::new(BotEntry {
                index,
                name: name.clone(),
                channel: bot_channel(name),
                config: ArcSwap::from_pointee(config),
            })
        });
        Arc::clone(entry)
    }

    /// The device of this record, refreshed; put here first if needed. `open` opens its session and is
    /// called at most once, under the roster's lock, so that no device has two entries.
    pub(crate) fn put_device(
        &self,
        record: &DeviceRecord,
        bot: Arc<BotEntry>,
        open: impl FnOnce(&DeviceEntry) -> SessionId,
    ) -> Arc<DeviceEntry> {
        let mut devices = self.devices.write();
        if let Some(entry) = devices.get(&record.key) {
            entry.apply(record);
            return Arc::clone(entry);
        }
        let entry = DeviceEntry {
            key: record.key,
            bot,
            device: record.device.clone(),
            switch: Switch::new(record.approval, record.revision),
            frame_bytes_max: AtomicU32::new(record.frame_bytes_max.unwrap_or(0)),
            session: AtomicU64::new(0),
            dialect: Mutex::new(None),
            line: Mutex::new(Line {
                rooms: HashMap::new(),
                waiting: VecDeque::new(),
                looking_up: false,
                copies: Copies::new(COPY_WINDOW),
            }),
            line_moved: Notify::new(),
            stream: Mutex::new(Stream { last: Offset(0), paced: VecDeque::new() }),
            rooms_read: AtomicBool::new(false),
            used_s: AtomicU64::new(0),
        };
        entry.set_session(open(&entry));
        let entry = Arc::new(entry);
        devices.insert(record.key, Arc::clone(&entry));
        entry
    }

    /// Forgets rooms and devices that nobody used for `idle_max` and nobody holds. `may_forget` decides
    /// on a device last and ends its session. How many were forgotten.
    pub(crate) fn expire(
        &self,
        uptime: Duration,
        idle_max: Duration,
        may_forget: impl Fn(&DeviceEntry) -> bool,
    ) -> u64 {
        let is_idle = |used_s: &AtomicU64| {
            uptime.as_secs().saturating_sub(used_s.load(Relaxed)) >= idle_max.as_secs()
        };
        let mut forgotten = 0;
        self.devices.write().retain(|_, entry| {
            let mut line = entry.line.lock();
            let before = line.rooms.len();
            // Work in flight holds its room, and must see changes of the approval.
            line.rooms.retain(|_, room| Arc::strong_count(room) > 1 || !is_idle(&room.used_s));
            if line.rooms.len() < before {
                line.rooms.shrink_to_fit();
                entry.rooms_read.store(false, Relaxed);
                forgotten += u64::try_from(before - line.rooms.len()).unwrap_or(0);
            }
            let is_unused = Arc::strong_count(entry) == 1
                && line.rooms.is_empty()
                && line.waiting.is_empty()
                && !line.copies.holds_any()
                && is_idle(&entry.used_s)
                && entry.stream.lock().paced.is_empty();
            drop(line);
            let forget = is_unused && may_forget(entry);
            forgotten += u64::from(forget);
            !forget
        });
        forgotten
    }

    pub(crate) fn room_count(&self) -> usize {
        self.devices.read().values().map(|entry| entry.line.lock().rooms.len()).sum()
    }
}
