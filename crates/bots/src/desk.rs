//! Where phones are received: who they are, whether they may be answered, which messages are new, and
//! the way into the queue. Knows nothing of wire protocols; never waits for the store on behalf of
//! another phone.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use naru_domain::phone::{KeepAlive, PhoneChat, PhoneHello};
use naru_domain::ports::{DeskError, PhoneDesk, PhoneLine, StoreError};
use naru_domain::work::{MessageRecord, MessageState, PingSample};
use naru_domain::{Approval, DeviceKey, SessionId};
use parking_lot::MutexGuard;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::core::{Core, now};
use crate::duplicates::Merged;
use crate::roster::{COPY_WINDOW, DeviceEntry, Line, RoomEntry, Work};

/// The pauses between attempts to look up a room.
const LOOKUP_PAUSE: Duration = Duration::from_millis(100);
const LOOKUP_PAUSE_MAX: Duration = Duration::from_secs(5);

/// A keep-alive answer that took longer measured a jump of the clock, not the way there and back (guessed:
/// longer than any phone sleeps in media).
const ROUND_TRIP_MS_MAX: i64 = 10 * 60 * 1_000;

/// The desk of the bots.
pub(crate) struct Desk {
    core: Arc<Core>,
}

impl Desk {
    pub(crate) fn new(core: Arc<Core>) -> Desk {
        Desk { core }
    }
}

#[async_trait]
impl PhoneDesk for Desk {
    async fn hello(&self, hello: PhoneHello) -> Result<Arc<dyn PhoneLine>, DeskError> {
        let core = &self.core;
        let unavailable = |error: StoreError| {
            debug!(target: "naru::bots", %error, "a phone could not be looked up");
            DeskError::Unavailable { reason: error.to_string() }
        };
        let initial = if hello.device.is_unknown() {
            Approval::Pending
        } else {
            core.first_approval(core.options.approve_devices)
        };
        let record = core
            .ports
            .devices
            .greet(&hello, initial, core.clock.now())
            .await
            .map_err(unavailable)?;
        let is_full = core.roster.device_count() >= core.options.devices_max;
        if is_full && core.roster.device(record.key).is_none() {
            return Err(DeskError::TooManyDevices);
        }
        let entry = core.adopt_known(&record).await.map_err(unavailable)?;
        entry.set_dialect(hello.dialect);
        Ok(Arc::new(LineHandle { core: Arc::clone(core), entry }))
    }
}

/// One phone's way in.
struct LineHandle {
    core: Arc<Core>,
    entry: Arc<DeviceEntry>,
}

/// A place in the queue, taken before anything else is done with a message.
pub(crate) enum Place<'a> {
    Queued(mpsc::Permit<'a, Arc<Work>>),
    Direct(OwnedSemaphorePermit),
}

/// What became of a message at the desk.
enum Taken {
    Yes,
    /// Its room has to be looked up first.
    NeedsRoom(Box<PhoneChat>),
}

#[async_trait]
impl PhoneLine for LineHandle {
    fn device(&self) -> DeviceKey {
        self.entry.key
    }

    fn session(&self) -> SessionId {
        self.entry.session()
    }

    fn is_approved(&self) -> bool {
        self.entry.is_approved()
    }

    fn frame_bytes_max(&self) -> Option<usize> {
        self.entry.frame_bytes_max()
    }

    fn chat(&self, chat: Box<PhoneChat>) -> Result<(), Box<PhoneChat>> {
        self.core.metrics.received.increment();
        match offer(&self.core, &self.entry, chat, None) {
            Ok(()) => Ok(()),
            Err(Offered::NoPlace(chat) | Offered::LineFull(chat)) => {
                self.core.metrics.pushed_back.increment();
                // It comes again through `chat_when_room`, which does not count it anew.
                Err(chat)
            }
        }
    }

    async fn chat_when_room(&self, mut chat: Box<PhoneChat>) {
        let mut place = None;
        loop {
            let mut moved = std::pin::pin!(self.entry.line_moved.notified());
            moved.as_mut().enable();
            match offer(&self.core, &self.entry, chat, place.take()) {
                Ok(()) => return,
                Err(Offered::LineFull(back)) => {
                    chat = back;
                    moved.await;
                }
                Err(Offered::NoPlace(back)) => {
                    chat = back;
                    place = wait_for_place(&self.core).await;
                    if place.is_none() {
                        self.core.metrics.refused_stopping.increment();
                        return; // The node is stopping.
                    }
                }
            }
        }
    }

    fn keep_alive(&self, answer: KeepAlive) {
        self.entry.touch(self.core.uptime());
        let at = self.core.clock.now();
        let round_trip_ms = answer
            .sent_at
            .map(|sent| at.0.saturating_sub(sent.0))
            .filter(|trip| (0..=ROUND_TRIP_MS_MAX).contains(trip));
        let sample = PingSample { device: self.entry.key, at, round_trip_ms, figures: answer };
        if self.core.pings.try_send(sample).is_err() {
            self.core.metrics.pings_dropped.increment();
        }
    }
}

/// Why a message was given back.
enum Offered {
    /// The queue is full.
    NoPlace(Box<PhoneChat>),
    /// Too many messages of this phone wait for a room to be looked up.
    LineFull(Box<PhoneChat>),
}

/// Takes a message if that is possible without waiting.
fn offer(
    core: &Arc<Core>,
    entry: &Arc<DeviceEntry>,
    chat: Box<PhoneChat>,
    place: Option<Place<'_>>,
) -> Result<(), Offered> {
    if core.is_closing() && core.is_direct() {
        core.metrics.refused_stopping.increment();
        return Ok(());
    }
    let mut line = entry.line.lock();
    if line.looking_up {
        if line.waiting.len() >= core.options.line_max {
            return Err(Offered::LineFull(chat));
        }
        line.waiting.push_back(chat);
        return Ok(());
    }
    let Some(place) = place.or_else(|| place_now(core)) else {
        return Err(Offered::NoPlace(chat));
    };
    if let Taken::NeedsRoom(chat) = take(core, entry, &mut line, chat, place) {
        line.waiting.push_back(chat);
        line.looking_up = true;
        core.tasks.spawn(look_up_rooms(Arc::clone(core), Arc::clone(entry)));
    }
    Ok(())
}

fn place_now(core: &Core) -> Option<Place<'_>> {
    if core.is_direct() {
        Arc::clone(&core.places).try_acquire_owned().ok().map(Place::Direct)
    } else {
        core.accepts.try_reserve().ok().map(Place::Queued)
    }
}

async fn wait_for_place(core: &Core) -> Option<Place<'_>> {
    if core.is_direct() {
        let place = Arc::clone(&core.places).acquire_owned();
        core.stop.run_until_cancelled(place).await?.ok().map(Place::Direct)
    } else {
        core.stop.run_until_cancelled(core.accepts.reserve()).await?.ok().map(Place::Queued)
    }
}

/// Sorts out duplicates and passes the message on. The line is locked: messages of one phone pass one by
/// one, in order.
fn take(
    core: &Arc<Core>,
    entry: &Arc<DeviceEntry>,
    line: &mut MutexGuard<'_, Line>,
    chat: Box<PhoneChat>,
    place: Place<'_>,
) -> Taken {
    let room = match chat.channel_id.as_deref() {
        None => None,
        Some(channel_id) => match line.rooms.get(channel_id) {
            Some(room) if **room.name.lock() == *chat.room => Some(Arc::clone(room)),
            // Unknown, or renamed: the store hears the new name.
            _ => return Taken::NeedsRoom(chat),
        },
    };
    let at = now();
    if room.is_none() && chat.log_id.is_none() {
        return take_without_ids(core, entry, line, chat, place);
    }
    if let Some(log_id) = chat.log_id.as_deref()
        && !core.is_new_id(entry.key, log_id, at)
    {
        core.metrics.duplicates_memory.increment();
        return Taken::Yes;
    }
    match line.copies.complete(&chat.room, &chat.text, at) {
        Merged::No => (),
        Merged::HeldCopyDropped => core.metrics.copies.increment(),
        Merged::AlreadyWorkedOn => {
            core.metrics.copies.increment();
            return Taken::Yes;
        }
    }
    pass_on(core, entry, line, *chat, room, place);
    Taken::Yes
}

fn take_without_ids(
    core: &Arc<Core>,
    entry: &Arc<DeviceEntry>,
    line: &mut MutexGuard<'_, Line>,
    chat: Box<PhoneChat>,
    place: Place<'_>,
) -> Taken {
    let at = now();
    if line.copies.is_copy(&chat.room, &chat.text, at) {
        core.metrics.copies.increment();
        return Taken::Yes;
    }
    if entry.bot.config.load().settings.reply_without_channel_id {
        // It is answered, so it cannot wait for a complete copy that may never come.
        line.copies.passed(&chat.room, &chat.text, at);
        pass_on(core, entry, line, *chat, None, place);
        return Taken::Yes;
    }
    if core.is_closing() {
        pass_on(core, entry, line, *chat, None, place); // Nobody would release it any more.
        return Taken::Yes;
    }
    let (room, text) = (chat.room.clone(), chat.text.clone());
    match line.copies.hold(&room, &text, chat, at) {
        Some(oldest) => pass_on(core, entry, line, *oldest, None, place),
        None => {
            core.held.lock().push_back((at + COPY_WINDOW, Arc::clone(entry)));
            core.held_added.notify_one();
        }
    }
    Taken::Yes
}

/// Puts the message into the queue.
fn pass_on(
    core: &Arc<Core>,
    entry: &Arc<DeviceEntry>,
    line: &Line,
    chat: PhoneChat,
    room: Option<Arc<RoomEntry>>,
    place: Place<'_>,
) {
    let received = now();
    let uptime = core.uptime_at(received);
    entry.touch(uptime);
    if let Some(room) = &room {
        room.touch(uptime);
    }
    let mut work = Work {
        record: Arc::new(record_of(core, entry, room.as_deref(), chat)),
        entry: Arc::clone(entry),
        room,
        received,
        is_for_next_start: core.is_closing(),
        told: None,
    };
    if !work.is_answerable() {
        if !entry.bot.config.load().settings.chat_log.enabled {
            core.metrics.unlogged.increment();
            return;
        }
        if let Some(record) = Arc::get_mut(&mut work.record) {
            record.state = MessageState::Logged;
        }
    } else if work.room.as_ref().is_some_and(|room| core.teller.is_heard(&entry.bot, room)) {
        work.told = Some(CancellationToken::new());
    }
    core.metrics.accepted.increment();
    match place {
        Place::Queued(permit) => permit.send(Arc::new(work)),
        Place::Direct(place) => crate::workers::accept_direct(core, Arc::new(work), place, line),
    }
}

fn record_of(
    core: &Core,
    entry: &DeviceEntry,
    room: Option<&RoomEntry>,
    chat: PhoneChat,
) -> MessageRecord {
    MessageRecord {
        id: core.ids.next(chat.received_at),
        device: entry.key,
        room: room.map(|room| room.key),
        room_name: room.map_or_else(|| Arc::from(chat.room), |room| Arc::clone(&room.name.lock())),
        channel_id: room.map_or_else(|| Arc::from(""), |room| Arc::clone(&room.channel_id)),
        log_id: chat.log_id,
        sender: chat.sender,
        user_hash: chat.user_hash,
        text: chat.text,
        is_group_chat: chat.is_group_chat,
        is_mention: chat.is_mention,
        received_at: chat.received_at,
        state: MessageState::Pending,
        failure: Box::from(""),
    }
}

/// Works off the waiting list of one phone: looks up the room of its first message, passes the message
/// on, and so forth, until the list is empty.
async fn look_up_rooms(core: Arc<Core>, entry: Arc<DeviceEntry>) {
    loop {
        let next = {
            let line = entry.line.lock();
            line.waiting.front().map(|chat| (chat.channel_id.clone(), chat.room.clone()))
        };
        let known = match &next {
            Some((Some(channel_id), name)) => find_room(&core, &entry, channel_id, name).await,
            _ => true,
        };
        let place = if next.is_some() && known { wait_for_place(&core).await } else { None };
        let mut line = entry.line.lock();
        let Some(place) = place else {
            if next.is_some() {
                // Stopping: what lines up here was not accepted, and the phone is gone by now.
                let count = crate::core::count(line.waiting.len());
                core.metrics.refused_stopping.add(count);
                line.waiting.clear();
            }
            line.looking_up = !line.waiting.is_empty();
            if line.looking_up {
                continue;
            }
            drop(line);
            entry.line_moved.notify_waiters();
            return;
        };
        if let Some(chat) = line.waiting.pop_front()
            && let Taken::NeedsRoom(chat) = take(&core, &entry, &mut line, chat, place)
        {
            line.waiting.push_front(chat); // The room was forgotten in between.
        }
        drop(line);
        entry.line_moved.notify_waiters();
    }
}

/// Brings the room into memory; `false` when the node stops before the store answers.
async fn find_room(core: &Core, entry: &DeviceEntry, channel_id: &str, name: &str) -> bool {
    let initial = core.first_approval(core.options.approve_rooms);
    let mut pause = LOOKUP_PAUSE;
    loop {
        if let Some(room) = entry.line.lock().rooms.get(channel_id)
            && **room.name.lock() == *name
        {
            return true;
        }
        let found = core
            .ports
            .rooms
            .find_or_create_room(entry.key, channel_id, name, initial, core.clock.now())
            .await;
        match found {
            Ok(mut record) => {
                // What the phone calls the room now is what it answers to, whatever the store keeps.
                record.name = name.into();
                let room = entry.line.lock().put_room(&record, &entry.bot.name);
                room.touch(core.uptime());
                return true;
            }
            Err(error) => {
                if pause == LOOKUP_PAUSE {
                    warn!(target: "naru::bots", %error, "a room could not be looked up");
                }
                tokio::select! {
                    () = tokio::time::sleep(pause) => (),
                    () = core.stop.cancelled() => return false,
                }
                pause = (pause * 2).min(LOOKUP_PAUSE_MAX);
            }
        }
    }
}

/// Passes on id-less messages whose complete copy did not come, for ever.
pub(crate) async fn release_held(core: Arc<Core>) {
    loop {
        let first = core.held.lock().front().map(|(due, _)| *due);
        let Some(due) = first else {
            core.held_added.notified().await;
            continue;
        };
        tokio::time::sleep_until(due.into()).await;
        let Some((_, entry)) = core.held.lock().pop_front() else { continue };
        while pass_on_held(&core, &entry, false).await {}
    }
}

/// Passes on everything that is held, whether its time has come or not: the node stops.
pub(crate) async fn release_all_held(core: &Arc<Core>) {
    while let Some((_, entry)) = { core.held.lock().pop_front() } {
        while pass_on_held(core, &entry, true).await {}
    }
}

async fn pass_on_held(core: &Arc<Core>, entry: &Arc<DeviceEntry>, at_once: bool) -> bool {
    // The place first: once the message is taken out, nothing may come between.
    let Some(place) = wait_for_place(core).await else { return false };
    let mut line = entry.line.lock();
    let released = if at_once { line.copies.release_any() } else { line.copies.release(now()) };
    let Some(chat) = released else { return false };
    pass_on(core, entry, &line, *chat, None, place);
    true
}
