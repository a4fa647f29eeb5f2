//! The hub: opens sessions, attaches connections to them, takes deliveries in and tells operators what
//! is there. Locks and wake-ups around the state machines; what they decide stands in [`crate::session`]
//! and [`crate::mailbox`]. It knows nothing of what a delivery means.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use naru_domain::metrics::MetricSource;
use naru_domain::ports::{Bus, BusEvent, DeliveryJournal};
use naru_domain::{
    Clock, CloseReason, Delivery, DeviceKey, Generation, Offset, SessionId, Timestamp,
};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::debug;

use crate::attachment::Attachment;
use crate::client::Clients;
use crate::fan_out::Channels;
use crate::mailbox::{Pushed, Tally};
use crate::metrics::HubMetrics;
use crate::options::HubOptions;
use crate::owner::Owners;
use crate::registry::{Cell, Current, Live, Registry};
use crate::session::{Ended, Expiry, JournalCursor, Moment, Session, SessionState};
use crate::signal::Signal;
use crate::timer::Timer;

/// A session to find or create.
#[derive(Clone, Debug)]
pub struct SessionSpec {
    /// What the session belongs to, such as `phone:12`. Unique among live sessions.
    pub key: String,
    /// For people, such as `demo-bot/0123456789abcdef`.
    pub label: String,
    /// What kind of party, such as `phone`.
    pub kind: &'static str,
    /// The journal slot, if what is handed over has to be recorded.
    pub device: Option<DeviceKey>,
    /// How long it waits for a connection; `None` means for ever.
    pub suspend_for: Option<Duration>,
    /// The stream up to here was handed over in an earlier life.
    pub handed_over: Offset,
    /// To deliver first, in offset order, starting after `handed_over`.
    pub retained: Vec<Delivery>,
}

/// What became of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// It waits in the mailbox, and the connection (if there is one) was told.
    Queued,
    /// The same, in the place of an older one with its key.
    Coalesced,
    /// It was not kept: its offset was there before, it was volatile and nobody reads, or it alone is
    /// larger than the mailbox (then the reader gets a gap).
    Dropped,
    /// There is no such session (any more).
    NoSuchSession,
}

/// Why a connection cannot take a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttachError {
    /// It ended, or never was. Open it again.
    #[error("there is no such session")]
    NoSuchSession,
}

/// One session as operators see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionView {
    /// Its number.
    pub id: SessionId,
    /// What it belongs to.
    pub key: Arc<str>,
    /// For people.
    pub label: String,
    /// What kind of party.
    pub kind: &'static str,
    /// The journal slot, if it has one.
    pub device: Option<DeviceKey>,
    /// What it is doing.
    pub state: SessionState,
    /// How often it was attached.
    pub generation: Generation,
    /// The address of the connection, if there is one.
    pub peer: Option<String>,
    /// When the connection came.
    pub connected_at: Option<Timestamp>,
    /// How long the connection lives.
    pub connected_for: Option<Duration>,
    /// How long the session still waits, if it is suspended and not for ever.
    pub ends_in: Option<Duration>,
    /// Deliveries in the mailbox, those on their way included.
    pub queued: usize,
    /// Their bytes.
    pub queued_bytes: usize,
    /// Up to where the stream was handed over.
    pub handed_over: Offset,
    /// The number that the next reliable delivery should have.
    pub next_offset: Offset,
}

impl SessionView {
    /// Whether a connection acts for it.
    #[must_use]
    pub fn is_attached(&self) -> bool {
        self.state == SessionState::Active
    }
}

/// All sessions and channels of one node. A cheap handle.
#[derive(Clone)]
pub struct Hub {
    pub(crate) inner: Arc<Inner>,
}

/// What the handles share.
pub(crate) struct Inner {
    pub(crate) options: HubOptions,
    pub(crate) registry: Registry,
    pub(crate) channels: Channels,
    pub(crate) clients: Clients,
    pub(crate) timer: Timer,
    pub(crate) metrics: Arc<HubMetrics>,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) owners: Owners,
    /// Taken by [`Hub::run`].
    pub(crate) events: Mutex<Option<mpsc::Receiver<BusEvent>>>,
    journal: Option<Arc<dyn DeliveryJournal>>,
    pub(crate) clock: Arc<dyn Clock>,
    started: Instant,
}

impl Hub {
    /// A hub without sessions. `events` is what the constructor of `bus` returned. Nothing happens to
    /// bus events and suspended sessions until [`Hub::run`] runs; everything else works at once.
    #[must_use]
    pub fn new(
        options: HubOptions,
        bus: Arc<dyn Bus>,
        events: mpsc::Receiver<BusEvent>,
        journal: Option<Arc<dyn DeliveryJournal>>,
        clock: Arc<dyn Clock>,
    ) -> Hub {
        let inner = Inner {
            options,
            registry: Registry::new(),
            channels: Channels::new(),
            clients: Clients::new(),
            timer: Timer::default(),
            metrics: Arc::new(HubMetrics::default()),
            bus,
            owners: Owners::default(),
            events: Mutex::new(Some(events)),
            journal,
            clock,
            started: Instant::now(),
        };
        Hub { inner: Arc::new(inner) }
    }

    /// The session with this key, or a new one that is suspended until somebody attaches. If it is
    /// there, the rest of `spec` changes nothing.
    #[must_use]
    pub fn open(&self, spec: SessionSpec) -> SessionId {
        let inner = &self.inner;
        let SessionSpec { key, label, kind, device, suspend_for, handed_over, retained } = spec;
        let mut tally = Tally::default();
        let until = suspend_for.map(|time| inner.now().plus(time));
        let (id, is_new) = inner.registry.find_or_add(&key, |id, key| {
            let mut session = Session::new(handed_over, until);
            for delivery in retained {
                if let Ok(pushed) = session.deliver(delivery, &inner.options.mailbox, &mut tally) {
                    inner.metrics.pushed(pushed);
                }
            }
            let mailbox = session.mailbox();
            inner.metrics.mailbox_changed(0, mailbox.bytes());
            let live = Live { session, current: None, is_timed: until.is_some() };
            Cell {
                id,
                key,
                label: label.into_boxed_str(),
                kind,
                device,
                suspend_for,
                live: Mutex::new(live),
                journal: Mutex::new(JournalCursor::new(handed_over)),
            }
        });
        if is_new {
            inner.metrics.tally(&tally);
            inner.metrics.opened.increment();
            inner.metrics.suspended.add(1);
            if let Some(until) = until {
                inner.timer.add(until, id);
            }
        }
        id
    }

    /// Makes a connection act for the session. An older connection is told to end
    /// ([`CloseReason::Replaced`]) and can do nothing for the session any more; what it took and did not
    /// hand over is delivered to the new one, in order. `peer` is the address shown to operators.
    pub fn attach(&self, session: SessionId, peer: &str) -> Result<Attachment, AttachError> {
        let inner = &self.inner;
        let cell = inner.registry.get(session).ok_or(AttachError::NoSuchSession)?;
        let (connected_at, since) = (inner.clock.now(), inner.now());
        let attached = inner.change(&cell, |live, tally| {
            let generation = live.session.attach(tally)?;
            let mailbox = live.session.mailbox();
            let signal = Arc::new(Signal::new(mailbox.has_untaken()));
            let current =
                Current { signal: Arc::clone(&signal), peer: peer.into(), connected_at, since };
            let real = mailbox.handed_over();
            Ok((generation, signal, real, live.current.replace(Box::new(current))))
        });
        let (generation, signal, real, older) =
            attached.map_err(|Ended(_)| AttachError::NoSuchSession)?;
        inner.metrics.attached.increment();
        match older {
            Some(older) => {
                inner.metrics.replaced.increment();
                older.signal.close(CloseReason::Replaced);
                debug!(
                    target: "naru::hub", session = session.0, label = &*cell.label,
                    generation = generation.0, "attachment replaced",
                );
            }
            None => {
                inner.metrics.suspended.add(-1);
                inner.metrics.active.add(1);
            }
        }
        inner.record(&cell, |journal| journal.take_over(generation, real));
        Ok(Attachment::new(self.clone(), cell, signal, generation))
    }

    /// Puts a delivery into the mailbox and wakes the connection. Never waits.
    pub fn deliver(&self, session: SessionId, delivery: Delivery) -> Delivered {
        let Some(cell) = self.inner.registry.get(session) else {
            self.inner.metrics.unknown_session.increment();
            return Delivered::NoSuchSession;
        };
        let limits = &self.inner.options.mailbox;
        let result =
            self.inner.push(&cell, |session, tally| session.deliver(delivery, limits, tally));
        match result {
            Ok(Pushed::Queued) => Delivered::Queued,
            Ok(Pushed::Coalesced) => Delivered::Coalesced,
            Ok(Pushed::Dropped) => Delivered::Dropped,
            Err(Ended(_)) => {
                self.inner.metrics.unknown_session.increment();
                Delivered::NoSuchSession
            }
        }
    }

    /// Tells the session's connection to end. The session stays and waits for the next one. False if
    /// nobody is attached.
    pub fn close(&self, session: SessionId, reason: CloseReason) -> bool {
        let Some(cell) = self.inner.registry.get(session) else { return false };
        let signal = cell.live.lock().current.as_ref().map(|current| Arc::clone(&current.signal));
        let Some(signal) = signal else { return false };
        signal.close(reason);
        true
    }

    /// Ends the session itself: its mailbox is dropped, its subscriptions end, its connection is told to
    /// end. False if there is none.
    pub fn remove(&self, session: SessionId, reason: CloseReason) -> bool {
        let Some(cell) = self.inner.registry.remove(session) else { return false };
        self.inner.metrics.removed.increment();
        self.inner.bury(&cell, reason);
        true
    }

    /// The sessions with numbers above `after`, in order, at most `limit`.
    #[must_use]
    pub fn sessions(&self, after: Option<SessionId>, limit: usize) -> Vec<SessionView> {
        let now = self.inner.now();
        self.inner.registry.page(after, limit).iter().map(|cell| view(cell, now)).collect()
    }

    /// One session.
    #[must_use]
    pub fn session(&self, id: SessionId) -> Option<SessionView> {
        self.inner.registry.get(id).map(|cell| view(&cell, self.inner.now()))
    }

    /// The hub's figures.
    #[must_use]
    pub fn metrics(&self) -> Arc<dyn MetricSource> {
        Arc::clone(&self.inner.metrics) as Arc<dyn MetricSource>
    }

    /// Ends the sessions whose suspension is over.
    pub(crate) fn expire(&self) {
        let now = self.inner.now();
        while let Some(id) = self.inner.timer.pop_due(now) {
            let Some(cell) = self.inner.registry.get(id) else { continue };
            let expiry = self.inner.change(&cell, |live, _| {
                let expiry = live.session.expire(now);
                live.is_timed = matches!(expiry, Expiry::Later(_));
                expiry
            });
            match expiry {
                Expiry::Later(at) => self.inner.timer.add(at, id),
                Expiry::Never => {}
                Expiry::Expired => {
                    self.inner.registry.remove(id);
                    self.inner.metrics.expired.increment();
                    self.inner.metrics.suspended.add(-1);
                    debug!(
                        target: "naru::hub", session = id.0, label = &*cell.label,
                        "suspended session ended",
                    );
                }
            }
        }
    }
}

impl Inner {
    /// The hub's own time.
    pub(crate) fn now(&self) -> Moment {
        Moment::default().plus(self.started.elapsed())
    }

    /// When that moment is for the timer of the runtime.
    pub(crate) fn instant(&self, at: Moment) -> Instant {
        self.started + Duration::from_millis(at.0)
    }

    /// Changes a session under its lock and counts what that did.
    pub(crate) fn change<R>(
        &self,
        cell: &Cell,
        change: impl FnOnce(&mut Live, &mut Tally) -> R,
    ) -> R {
        let mut tally = Tally::default();
        let mut live = cell.live.lock();
        let bytes = live.session.mailbox().bytes();
        let result = change(&mut live, &mut tally);
        let bytes_now = live.session.mailbox().bytes();
        drop(live);
        self.metrics.mailbox_changed(bytes, bytes_now);
        self.metrics.tally(&tally);
        result
    }

    /// Puts something into a mailbox and wakes the connection if it does not know yet.
    pub(crate) fn push(
        &self,
        cell: &Cell,
        push: impl FnOnce(&mut Session, &mut Tally) -> Result<Pushed, Ended>,
    ) -> Result<Pushed, Ended> {
        let (result, to_wake) = self.change(cell, |live, tally| {
            let result = push(&mut live.session, tally);
            let to_wake = match &live.current {
                Some(current)
                    if live.session.mailbox().has_untaken() && current.signal.set_deliveries() =>
                {
                    Some(Arc::clone(&current.signal))
                }
                _ => None,
            };
            (result, to_wake)
        });
        if let Some(signal) = to_wake {
            signal.wake();
        }
        if let Ok(pushed) = result {
            self.metrics.pushed(pushed);
        }
        result
    }

    /// Asks the cursor what to record and records it, as one step against other attachments.
    pub(crate) fn record(
        &self,
        cell: &Cell,
        decide: impl FnOnce(&mut JournalCursor) -> Option<Offset>,
    ) {
        let (Some(journal), Some(device)) = (&self.journal, cell.device) else { return };
        let mut cursor = cell.journal.lock();
        let before = cursor.recorded();
        if let Some(offset) = decide(&mut cursor) {
            if offset < before {
                self.metrics.journal_corrections.increment();
            }
            journal.record(device, offset);
        }
    }

    /// The end of an attachment: the session waits for the next one.
    pub(crate) fn detach(&self, cell: &Cell, generation: Generation, reason: CloseReason) {
        self.metrics.ended(reason);
        let until = cell.suspend_for.map(|time| self.now().plus(time));
        let detached = self.change(cell, |live, tally| {
            let real = live.session.detach(generation, until, tally)?;
            live.current = None;
            let to_time = until.filter(|_| !std::mem::replace(&mut live.is_timed, true));
            Some((real, to_time))
        });
        let Some((real, to_time)) = detached else { return };
        self.metrics.active.add(-1);
        self.metrics.suspended.add(1);
        self.record(cell, |journal| journal.correct(generation, real));
        if let Some(until) = to_time {
            self.timer.add(until, cell.id);
        }
    }

    /// Ends a session that is no longer in the registry.
    fn bury(&self, cell: &Arc<Cell>, reason: CloseReason) {
        let (state, real, generation, current) = self.change(cell, |live, _| {
            let state = live.session.state();
            let real = live.session.mailbox().handed_over();
            live.session.close(reason);
            (state, real, live.session.generation(), live.current.take())
        });
        match state {
            SessionState::Active => self.metrics.active.add(-1),
            SessionState::Suspended { .. } => self.metrics.suspended.add(-1),
            // Its suspension ended at the same moment.
            SessionState::Closed(_) => {}
        }
        self.record(cell, |journal| journal.correct(generation, real));
        self.record(cell, |journal| journal.take_over(Generation(u64::MAX), real));
        if let Some(current) = current {
            current.signal.close(reason);
        }
    }
}

fn view(cell: &Cell, now: Moment) -> SessionView {
    let live = cell.live.lock();
    let session = &live.session;
    let mailbox = session.mailbox();
    let state = session.state();
    let current = live.current.as_ref();
    SessionView {
        id: cell.id,
        key: Arc::clone(&cell.key),
        label: cell.label.to_string(),
        kind: cell.kind,
        device: cell.device,
        state,
        generation: session.generation(),
        peer: current.map(|current| current.peer.to_string()),
        connected_at: current.map(|current| current.connected_at),
        connected_for: current.map(|current| now.since(current.since)),
        ends_in: match state {
            SessionState::Suspended { until: Some(until) } => Some(until.since(now)),
            _ => None,
        },
        queued: mailbox.count(),
        queued_bytes: mailbox.bytes(),
        handed_over: mailbox.handed_over(),
        next_offset: mailbox.last().next(),
    }
}
