//! In-memory twins of the store's ports and of the hub's sessions, with switches for faults.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use naru_domain::phone::PhoneHello;
use naru_domain::ports::{
    BotSettings, ChatLog, Devices, Ledger, Maintenance, Monitors, PurgeKind, Rooms, Schedules,
    StoreError,
};
use naru_domain::work::{
    DeviceRecord, KeyedSend, LedgerBatch, LedgerReceipt, MessageFilter, MessageRecord,
    MessageState, Page, PingSample, Recovered, ReplyRecord, RoomRecord, Schedule, ScheduleRun,
    SystemSample,
};
use naru_domain::{
    Approval, BotName, Delivery, DeliveryBody, DeviceKey, Durability, MessageId, Offset, ReplyBody,
    RoomKey, ScheduleId, SessionId, Timestamp,
};
use parking_lot::Mutex;

use crate::sessions::{Handed, PhoneSession, PhoneSessions, SessionState};

/// The store.
#[derive(Default)]
pub(crate) struct Store {
    tables: Mutex<Tables>,
    faults: Mutex<Faults>,
}

#[derive(Default)]
struct Tables {
    devices: Vec<DeviceRecord>,
    rooms: Vec<RoomRecord>,
    settings: HashMap<String, (String, i64)>,
    messages: BTreeMap<MessageId, MessageRecord>,
    log_ids: HashSet<(DeviceKey, Box<str>)>,
    replies: Vec<ReplyRecord>,
    delivered: HashMap<DeviceKey, Offset>,
    keyed: HashMap<(DeviceKey, Box<str>), KeyedSend>,
    pings: Vec<PingSample>,
    batches: usize,
}

/// What goes wrong.
#[derive(Default)]
pub(crate) struct Faults {
    /// Every commit fails like this.
    pub(crate) commit: Option<StoreError>,
    /// Commits with this text in a message fail like that, and only those.
    pub(crate) poison: Option<String>,
    /// Rooms cannot be looked up.
    pub(crate) rooms: bool,
    /// Probes fail.
    pub(crate) probe: bool,
    /// The next removal of old rows fails.
    pub(crate) purge: Option<StoreError>,
    /// The next removal of old rows panics.
    pub(crate) purge_panics: bool,
}

impl Store {
    pub(crate) fn fault(&self, set: impl FnOnce(&mut Faults)) {
        set(&mut self.faults.lock());
    }

    pub(crate) fn messages(&self) -> Vec<MessageRecord> {
        self.tables.lock().messages.values().cloned().collect()
    }

    pub(crate) fn state_of(&self, text: &str) -> Option<MessageState> {
        self.messages().iter().find(|message| &*message.text == text).map(|message| message.state)
    }

    pub(crate) fn reply_count(&self) -> usize {
        self.tables.lock().replies.len()
    }

    pub(crate) fn delivered(&self, device: DeviceKey) -> Offset {
        self.tables.lock().delivered.get(&device).copied().unwrap_or_default()
    }

    pub(crate) fn pings(&self) -> usize {
        self.tables.lock().pings.len()
    }

    pub(crate) fn batches(&self) -> usize {
        self.tables.lock().batches
    }
}

#[async_trait]
impl Ledger for Store {
    async fn commit(
        &self,
        batch: &LedgerBatch,
        _durability: Durability,
    ) -> Result<LedgerReceipt, StoreError> {
        {
            let faults = self.faults.lock();
            if let Some(error) = &faults.commit {
                return Err(error.clone());
            }
            let is_poisoned = |record: &Arc<MessageRecord>| {
                faults.poison.as_deref().is_some_and(|poison| &*record.text == poison)
            };
            if batch.accept.iter().any(is_poisoned) {
                return Err(StoreError::Failed { reason: "poison".to_owned() });
            }
        }
        let mut guard = self.tables.lock();
        let tables = &mut *guard;
        tables.batches += 1;
        let mut receipt = LedgerReceipt::default();
        for record in &batch.accept {
            if let Some(log_id) = &record.log_id
                && !tables.log_ids.insert((record.device, log_id.clone()))
            {
                receipt.duplicates.push(record.id);
                continue;
            }
            assert!(
                tables.messages.insert(record.id, MessageRecord::clone(record)).is_none(),
                "a message id was used twice"
            );
        }
        for settlement in &batch.settle {
            if settlement.message.is_some_and(|id| receipt.duplicates.contains(&id)) {
                continue;
            }
            if let Some(message) = settlement.message {
                let record = tables.messages.get_mut(&message).expect("a known message");
                record.state = settlement.state;
                record.failure = settlement.failure.clone();
            }
            if let Some(send) = &settlement.keyed {
                let key = (send.device, send.key.clone());
                tables.keyed.entry(key).or_insert_with(|| send.clone());
            }
            for reply in &settlement.replies {
                let of_device = tables.replies.iter().rev().find(|r| r.device == reply.device);
                assert!(of_device.is_none_or(|last| last.offset < reply.offset), "offsets rise");
                tables.replies.push(reply.clone());
            }
        }
        for (device, offset) in &batch.delivered {
            tables.delivered.insert(*device, *offset);
        }
        Ok(receipt)
    }

    async fn recover(&self) -> Result<Recovered, StoreError> {
        let tables = self.tables.lock();
        let mut offsets: HashMap<DeviceKey, Offset> = HashMap::new();
        for reply in &tables.replies {
            offsets.insert(reply.device, reply.offset);
        }
        let is_undelivered = |reply: &&ReplyRecord| {
            reply.offset > tables.delivered.get(&reply.device).copied().unwrap_or_default()
        };
        let pending =
            tables.messages.values().filter(|message| message.state == MessageState::Pending);
        Ok(Recovered {
            pending: pending.cloned().collect(),
            undelivered: tables.replies.iter().filter(is_undelivered).cloned().collect(),
            offsets: offsets.into_iter().collect(),
            highest: tables.messages.keys().last().copied(),
        })
    }

    async fn revive(&self, message: MessageId) -> Result<MessageRecord, StoreError> {
        let mut tables = self.tables.lock();
        let record = tables.messages.get_mut(&message).ok_or(StoreError::NotFound)?;
        if record.state != MessageState::Dead {
            return Err(StoreError::NotFound);
        }
        record.state = MessageState::Pending;
        record.failure = Box::from("");
        Ok(record.clone())
    }

    async fn keyed_send(
        &self,
        device: DeviceKey,
        key: &str,
    ) -> Result<Option<KeyedSend>, StoreError> {
        Ok(self.tables.lock().keyed.get(&(device, key.into())).cloned())
    }
}

#[async_trait]
impl ChatLog for Store {
    async fn messages(
        &self,
        _filter: &MessageFilter,
        _page: Page,
    ) -> Result<Vec<MessageRecord>, StoreError> {
        Ok(Store::messages(self))
    }

    async fn message(&self, id: MessageId) -> Result<MessageRecord, StoreError> {
        self.tables.lock().messages.get(&id).cloned().ok_or(StoreError::NotFound)
    }

    async fn replies(&self, message: MessageId) -> Result<Vec<ReplyRecord>, StoreError> {
        let tables = self.tables.lock();
        Ok(tables.replies.iter().filter(|r| r.message == Some(message)).cloned().collect())
    }

    async fn recent_log_ids(
        &self,
        _since: Timestamp,
        _limit: usize,
    ) -> Result<Vec<(DeviceKey, Box<str>)>, StoreError> {
        // Nothing: the tests want to see the store's own filter after a start.
        Ok(Vec::new())
    }
}

#[async_trait]
impl Devices for Store {
    async fn greet(
        &self,
        hello: &PhoneHello,
        initial: Approval,
        now: Timestamp,
    ) -> Result<DeviceRecord, StoreError> {
        let mut tables = self.tables.lock();
        let known = tables.devices.iter().find(|d| d.bot == hello.bot && d.device == hello.device);
        if let Some(device) = known {
            return Ok(device.clone());
        }
        let key = DeviceKey(i64::try_from(tables.devices.len()).expect("few") + 1);
        let record = DeviceRecord {
            key,
            bot: hello.bot.clone(),
            device: hello.device.clone(),
            approval: initial,
            approval_note: String::new(),
            frame_bytes_max: None,
            version: hello.version.clone(),
            client_type: hello.client_type.clone(),
            device_info: String::new(),
            device_ip: String::new(),
            peer_ip: hello.peer.to_string(),
            created_at: now,
            seen_at: now,
            revision: 1,
        };
        tables.devices.push(record.clone());
        Ok(record)
    }

    async fn device(&self, key: DeviceKey) -> Result<DeviceRecord, StoreError> {
        let tables = self.tables.lock();
        tables.devices.iter().find(|d| d.key == key).cloned().ok_or(StoreError::NotFound)
    }

    async fn devices(
        &self,
        _bot: Option<&BotName>,
        _approval: Option<Approval>,
        _page: Page,
    ) -> Result<Vec<DeviceRecord>, StoreError> {
        Ok(self.tables.lock().devices.clone())
    }

    async fn set_device_approval(
        &self,
        key: DeviceKey,
        approval: Approval,
        note: &str,
        revision: Option<i64>,
    ) -> Result<DeviceRecord, StoreError> {
        let mut tables = self.tables.lock();
        let device =
            tables.devices.iter_mut().find(|d| d.key == key).ok_or(StoreError::NotFound)?;
        if revision.is_some_and(|revision| revision != device.revision) {
            return Err(StoreError::Conflict);
        }
        device.approval = approval;
        device.approval_note = note.to_owned();
        device.revision += 1;
        Ok(device.clone())
    }

    async fn set_device_frame_limit(
        &self,
        key: DeviceKey,
        frame_bytes_max: Option<u32>,
    ) -> Result<DeviceRecord, StoreError> {
        let mut tables = self.tables.lock();
        let device =
            tables.devices.iter_mut().find(|d| d.key == key).ok_or(StoreError::NotFound)?;
        device.frame_bytes_max = frame_bytes_max;
        device.revision += 1;
        Ok(device.clone())
    }
}

#[async_trait]
impl Rooms for Store {
    async fn find_or_create_room(
        &self,
        device: DeviceKey,
        channel_id: &str,
        name: &str,
        initial: Approval,
        now: Timestamp,
    ) -> Result<RoomRecord, StoreError> {
        if self.faults.lock().rooms {
            return Err(StoreError::Busy { reason: "rooms".to_owned() });
        }
        let mut tables = self.tables.lock();
        let known =
            tables.rooms.iter_mut().find(|r| r.device == device && &*r.channel_id == channel_id);
        if let Some(room) = known {
            room.name = name.into();
            return Ok(room.clone());
        }
        let key = RoomKey(i64::try_from(tables.rooms.len()).expect("few") + 1);
        let record = RoomRecord {
            key,
            device,
            channel_id: channel_id.into(),
            name: name.into(),
            approval: initial,
            approval_note: String::new(),
            created_at: now,
            revision: 1,
        };
        tables.rooms.push(record.clone());
        Ok(record)
    }

    async fn room(&self, key: RoomKey) -> Result<RoomRecord, StoreError> {
        let tables = self.tables.lock();
        tables.rooms.iter().find(|r| r.key == key).cloned().ok_or(StoreError::NotFound)
    }

    async fn rooms(
        &self,
        _bot: Option<&BotName>,
        device: Option<DeviceKey>,
        _approval: Option<Approval>,
        page: Page,
    ) -> Result<Vec<RoomRecord>, StoreError> {
        let tables = self.tables.lock();
        let after = page.after.unwrap_or(0);
        let rooms = tables.rooms.iter().filter(|r| r.key.0 > after);
        let rooms = rooms.filter(|r| device.is_none_or(|device| r.device == device));
        Ok(rooms.take(page.limit).cloned().collect())
    }

    async fn set_room_approval(
        &self,
        key: RoomKey,
        approval: Approval,
        note: &str,
        revision: Option<i64>,
    ) -> Result<RoomRecord, StoreError> {
        let mut tables = self.tables.lock();
        let room = tables.rooms.iter_mut().find(|r| r.key == key).ok_or(StoreError::NotFound)?;
        if revision.is_some_and(|revision| revision != room.revision) {
            return Err(StoreError::Conflict);
        }
        room.approval = approval;
        room.approval_note = note.to_owned();
        room.revision += 1;
        Ok(room.clone())
    }
}

#[async_trait]
impl BotSettings for Store {
    async fn bot_settings(
        &self,
        bot: &BotName,
        initial: &str,
        _now: Timestamp,
    ) -> Result<(String, i64), StoreError> {
        let mut tables = self.tables.lock();
        let known = tables.settings.entry(bot.to_string());
        Ok(known.or_insert_with(|| (initial.to_owned(), 1)).clone())
    }

    async fn bots(
        &self,
        _after: Option<&str>,
        _limit: usize,
    ) -> Result<Vec<(String, String, i64)>, StoreError> {
        Ok(Vec::new())
    }

    async fn set_bot_settings(
        &self,
        bot: &BotName,
        document: &str,
        revision: i64,
    ) -> Result<i64, StoreError> {
        let mut tables = self.tables.lock();
        let known = tables.settings.get_mut(bot.as_str()).ok_or(StoreError::NotFound)?;
        if known.1 != revision {
            return Err(StoreError::Conflict);
        }
        *known = (document.to_owned(), revision + 1);
        Ok(revision + 1)
    }
}

#[async_trait]
impl Schedules for Store {
    async fn add_schedule(&self, schedule: &Schedule) -> Result<Schedule, StoreError> {
        Ok(schedule.clone())
    }

    async fn update_schedule(&self, schedule: &Schedule) -> Result<Schedule, StoreError> {
        Ok(schedule.clone())
    }

    async fn remove_schedule(&self, _id: ScheduleId) -> Result<(), StoreError> {
        Err(StoreError::NotFound)
    }

    async fn schedule(&self, _id: ScheduleId) -> Result<Schedule, StoreError> {
        Err(StoreError::NotFound)
    }

    async fn schedules(&self, _page: Page) -> Result<Vec<Schedule>, StoreError> {
        Ok(Vec::new())
    }

    async fn due_schedules(
        &self,
        _now: Timestamp,
        _limit: usize,
    ) -> Result<Vec<Schedule>, StoreError> {
        Ok(Vec::new())
    }

    async fn claim_schedule(
        &self,
        _id: ScheduleId,
        _due_at: Timestamp,
        _next_at: Option<Timestamp>,
    ) -> Result<bool, StoreError> {
        Ok(false)
    }

    async fn log_schedule_run(&self, _run: &ScheduleRun) -> Result<(), StoreError> {
        Ok(())
    }

    async fn schedule_runs(
        &self,
        _id: ScheduleId,
        _page: Page,
    ) -> Result<Vec<ScheduleRun>, StoreError> {
        Ok(Vec::new())
    }
}

#[async_trait]
impl Monitors for Store {
    async fn add_pings(&self, samples: &[PingSample]) -> Result<(), StoreError> {
        self.tables.lock().pings.extend_from_slice(samples);
        Ok(())
    }

    async fn pings(
        &self,
        _device: DeviceKey,
        _since: Timestamp,
        _limit: usize,
    ) -> Result<Vec<PingSample>, StoreError> {
        Ok(self.tables.lock().pings.clone())
    }

    async fn add_system_sample(&self, _sample: &SystemSample) -> Result<(), StoreError> {
        Ok(())
    }

    async fn system_samples(
        &self,
        _since: Timestamp,
        _limit: usize,
    ) -> Result<Vec<SystemSample>, StoreError> {
        Ok(Vec::new())
    }
}

#[async_trait]
impl Maintenance for Store {
    async fn purge(
        &self,
        kind: PurgeKind,
        before: Timestamp,
        limit: usize,
    ) -> Result<usize, StoreError> {
        let (error, panics) = {
            let mut faults = self.faults.lock();
            (faults.purge.take(), std::mem::take(&mut faults.purge_panics))
        };
        assert!(!panics, "as asked");
        if let Some(error) = error {
            return Err(error);
        }
        let mut tables = self.tables.lock();
        if kind != PurgeKind::Messages {
            return Ok(0);
        }
        let old: Vec<_> = tables
            .messages
            .values()
            .filter(|m| m.received_at < before && m.state == MessageState::Done)
            .map(|m| m.id)
            .take(limit)
            .collect();
        for id in &old {
            tables.messages.remove(id);
        }
        Ok(old.len())
    }

    async fn probe(&self) -> Result<(), StoreError> {
        if self.faults.lock().probe {
            return Err(StoreError::Failed { reason: "probe".to_owned() });
        }
        Ok(())
    }
}

/// The sessions: they keep what was delivered.
#[derive(Default)]
pub(crate) struct Sessions(Mutex<HashMap<DeviceKey, Session>>, tokio::sync::Notify);

#[derive(Default)]
struct Session {
    label: String,
    handed_over: Offset,
    deliveries: Vec<Delivery>,
    is_connected: bool,
}

impl Sessions {
    /// What was delivered to a phone, as (room, text) in order. Checks that offsets rise.
    pub(crate) fn said(&self, device: DeviceKey) -> Vec<(String, String)> {
        let sessions = self.0.lock();
        let Some(session) = sessions.get(&device) else { return Vec::new() };
        assert!(session.deliveries.is_sorted_by(|a, b| a.offset < b.offset), "offsets rise");
        let said = session.deliveries.iter().filter_map(|delivery| match &delivery.body {
            DeliveryBody::Phone(reply) => {
                let text = match &reply.body {
                    ReplyBody::Text(text) => text.to_string(),
                    ReplyBody::Media { items, .. } => format!("<{} items>", items.len()),
                };
                Some((reply.room.to_string(), text))
            }
            _ => None,
        });
        said.collect()
    }

    pub(crate) fn texts(&self, device: DeviceKey) -> Vec<String> {
        self.said(device).into_iter().map(|(_, text)| text).collect()
    }

    /// Waits until so many texts were delivered.
    pub(crate) async fn heard(&self, device: DeviceKey, count: usize) {
        loop {
            let delivered = self.1.notified();
            if self.texts(device).len() >= count {
                return;
            }
            delivered.await;
        }
    }

    /// A connection comes and takes everything.
    pub(crate) fn connect(&self, device: DeviceKey) {
        if let Some(session) = self.0.lock().get_mut(&device) {
            session.is_connected = true;
            session.handed_over =
                session.deliveries.last().map_or(session.handed_over, |last| last.offset);
        }
    }

    /// It goes.
    pub(crate) fn disconnect(&self, device: DeviceKey) {
        if let Some(session) = self.0.lock().get_mut(&device) {
            session.is_connected = false;
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.0.lock().len()
    }
}

impl PhoneSessions for Sessions {
    fn open(&self, phone: PhoneSession) -> SessionId {
        let mut sessions = self.0.lock();
        sessions.entry(phone.device).or_insert_with(|| Session {
            label: phone.label,
            handed_over: phone.handed_over,
            deliveries: phone.retained,
            is_connected: false,
        });
        SessionId(u64::try_from(phone.device.0).expect("positive"))
    }

    fn deliver(&self, session: SessionId, delivery: Delivery) -> Handed {
        let device = DeviceKey(i64::try_from(session.0).expect("small"));
        let mut sessions = self.0.lock();
        let Some(session) = sessions.get_mut(&device) else { return Handed::NoSession };
        session.deliveries.push(delivery);
        self.1.notify_waiters();
        Handed::Taken
    }

    fn state(&self, session: SessionId) -> Option<SessionState> {
        let device = DeviceKey(i64::try_from(session.0).expect("small"));
        let sessions = self.0.lock();
        let state = sessions.get(&device)?;
        let waits = state.deliveries.iter().filter(|d| d.offset > state.handed_over);
        Some(SessionState {
            session,
            device,
            label: state.label.clone(),
            peer: state.is_connected.then(|| "192.0.2.1:5000".to_owned()),
            connected_for: state.is_connected.then_some(std::time::Duration::from_secs(60)),
            queued: waits.count(),
            handed_over: state.handed_over,
        })
    }

    fn forget(&self, session: SessionId) {
        let device = DeviceKey(i64::try_from(session.0).expect("small"));
        self.0.lock().remove(&device);
    }
}
