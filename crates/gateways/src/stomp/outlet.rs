//! The hub's way to a STOMP client: publications as MESSAGE frames, made once and shared by all who
//! speak the same and call their subscription the same; what must be acknowledged waits for the
//! connection's task, which keeps account of it. And the heart-beats.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use naru_domain::{ChannelName, CloseReason, Membership, Offset, Position, Publication, Timestamp};
use naru_hub::queue::WakeConsumer;
use naru_hub::{Cut, Ending, Event, Mark, Outlet, Subscribed, Taken};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::Shared;
use super::names::Class;
use super::voice::{Aside, ID_KIND, Voice};
use crate::outgoing::Outgoing;
use crate::turns::Turn;

/// Wakes the task: deliveries that must be acknowledged are there.
pub(super) const DELIVER: u32 = 4;
/// Wakes the task: the hub has ended a subscription.
pub(super) const CUT: u32 = 8;

/// Wakes the task: there is something in a work queue.
pub(super) const WORK: u32 = 16;

/// A subscription that the client asked for. The hub may have others, which STOMP cannot show.
const OURS: u32 = 1;
/// A publication was delivered, and the upper bits tell its offset.
const HAS_OFFSET: u32 = 2;
/// Deliveries must be acknowledged.
const ACKED: u32 = 4;
/// Something is to be said with the first publication.
const GAP: u32 = 8;
const CLASS_SHIFT: u32 = 4;
const OFFSET_SHIFT: u32 = 6;
/// How many of an offset's bits fit beside the flags.
const OFFSET_BITS: u32 = u32::BITS - OFFSET_SHIFT;

/// How often a connection is looked at whatever was agreed on.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// No turns come closer than this.
const TURN_MIN: Duration = Duration::from_millis(100);

/// Deliveries of one subscription that may wait for its window to open.
const PENDING_MAX: usize = 1_000;

/// One client's outgoing side.
pub(super) struct StompOutlet {
    pub(super) out: Arc<Outgoing>,
    pub(super) voice: Voice,
    shared: Arc<Shared>,
    /// Between two heart-beats of ours; `None` for none.
    send_every: Option<Duration>,
    /// After so much silence the client is gone; `None` never.
    gone_after: Option<Duration>,
    /// When the client was heard last, in milliseconds since the gateway began.
    heard_at: AtomicU64,
    /// When our next heart-beat is due, in the same time.
    beat_at: AtomicU64,
    side: Mutex<Side>,
}

/// What does not happen to most subscriptions.
#[derive(Default)]
struct Side {
    pending: Vec<Pending>,
    cuts: Vec<CutNote>,
    gaps: Vec<(Place, Box<str>)>,
}

/// Which subscription of the connection: no two have the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) channel: ChannelName,
    pub(super) id: Option<Arc<str>>,
}

/// Deliveries that wait for the task.
struct Pending {
    place: Place,
    queue: VecDeque<Arc<Publication>>,
    bytes: usize,
}

/// The hub has ended a subscription.
pub(super) struct CutNote {
    pub(super) place: Place,
    pub(super) cut: Cut,
    bits: u32,
}

impl CutNote {
    /// The last offset that was delivered, if one was; `near` is one that is not far behind.
    pub(super) fn delivered(&self, near: Offset) -> Option<Offset> {
        if self.bits & HAS_OFFSET == 0 {
            return None;
        }
        let modulus = 1_u64 << OFFSET_BITS;
        let low = u64::from(self.bits >> OFFSET_SHIFT);
        let base = near.0 - near.0 % modulus;
        let offset = if base + low >= near.0 { base + low } else { base + low + modulus };
        Some(Offset(offset))
    }
}

/// The mark of a new subscription.
pub(super) fn mark(class: Class, id: Option<&Arc<str>>, is_acked: bool, has_gap: bool) -> Mark {
    let class = Class::ALL.iter().position(|each| *each == class).unwrap_or(0);
    let flag = |is_set, bit| if is_set { bit } else { 0 };
    let class = u32::try_from(class).unwrap_or(0) << CLASS_SHIFT;
    Mark { variant: id.cloned(), bits: OURS | flag(is_acked, ACKED) | flag(has_gap, GAP) | class }
}

fn class_of(bits: u32) -> Class {
    Class::ALL[(bits >> CLASS_SHIFT & 3) as usize % Class::ALL.len()]
}

impl StompOutlet {
    pub(super) fn new(
        out: Arc<Outgoing>,
        voice: Voice,
        shared: Arc<Shared>,
        send_every: Option<Duration>,
        gone_after: Option<Duration>,
    ) -> StompOutlet {
        let outlet = StompOutlet {
            out,
            voice,
            shared,
            send_every,
            gone_after,
            heard_at: AtomicU64::new(0),
            beat_at: AtomicU64::new(0),
            side: Mutex::default(),
        };
        outlet.heard();
        outlet
    }

    /// The client lives.
    pub(super) fn heard(&self) {
        self.heard_at.store(self.shared.milliseconds(), Ordering::Relaxed);
    }

    /// When the first turn is due: spread, so that not all beat at once.
    pub(super) fn first_turn(&self) -> Duration {
        LOOK_EVERY.min(self.send_every.unwrap_or(LOOK_EVERY)).mul_f64(rand::random_range(0.5..0.9))
    }

    /// Sends a heart-beat if one is due, and says when the next is.
    fn beat(&self, now: u64) -> Option<Duration> {
        // A little earlier than promised: what arrives late counts as lost.
        let every = self.send_every?.mul_f64(0.9);
        let due_at = self.beat_at.load(Ordering::Relaxed);
        if now < due_at {
            return Some(Duration::from_millis(due_at - now));
        }
        let next = now.saturating_add(u64::try_from(every.as_millis()).unwrap_or(u64::MAX));
        self.beat_at.store(next, Ordering::Relaxed);
        // Whatever waits is a sign of life as good as any.
        if self.out.pending_bytes() == 0 {
            self.shared.counters.heart_beats.increment();
            if self.out.push(self.shared.heart_beat(self.voice.is_ws)) == Taken::FlushDue {
                self.out.flush();
            }
        }
        Some(every)
    }

    /// Something is to be said with the next publication of a subscription.
    pub(super) fn note_gap(&self, place: &Place, gap: Box<str>) {
        self.side.lock().gaps.push((place.clone(), gap));
    }

    /// Delivers at once what a subscription has missed, or leaves it to the task.
    pub(super) fn put(&self, place: &Place, mark: &Mark, publication: &Arc<Publication>) {
        if mark.bits & ACKED != 0 {
            self.side.lock().wait(place, publication);
            return;
        }
        let message_id = self.shared.next_message_id();
        let aside = Aside {
            subscription: place.id.as_deref(),
            message_id: &message_id,
            ..Aside::default()
        };
        let class = class_of(mark.bits);
        let frame = self.voice.message(class, &place.channel, publication, aside);
        let _written_by_the_task = self.out.push(frame);
    }

    /// The next delivery that waits for the task.
    pub(super) fn take_pending(&self, place: &Place) -> Option<Arc<Publication>> {
        let mut side = self.side.lock();
        let at = side.pending.iter().position(|each| each.place == *place)?;
        let pending = &mut side.pending[at];
        let publication = pending.queue.pop_front();
        if let Some(publication) = &publication {
            pending.bytes -= publication.size_bytes();
        }
        if pending.queue.is_empty() {
            side.pending.swap_remove(at);
        }
        publication
    }

    /// Whether a delivery waits for the task.
    pub(super) fn has_pending(&self, place: &Place) -> bool {
        self.side.lock().pending.iter().any(|each| each.place == *place)
    }

    /// Subscriptions that the hub has ended.
    pub(super) fn take_cuts(&self) -> Vec<CutNote> {
        std::mem::take(&mut self.side.lock().cuts)
    }

    /// The client has ended a subscription.
    pub(super) fn forget(&self, place: &Place) {
        let mut side = self.side.lock();
        side.pending.retain(|each| each.place != *place);
        side.cuts.retain(|each| each.place != *place);
        side.gaps.retain(|(each, _)| each != place);
    }

    fn shared_frame(&self, event: &Event<'_>, mark: &Mark) -> Option<Bytes> {
        let class = class_of(mark.bits);
        let kind = self.voice.kind(class);
        let message_id = self.message_id(event);
        event.encoded(kind, mark.variant.as_ref(), || {
            let aside = Aside {
                subscription: mark.variant.as_deref(),
                message_id: &message_id,
                ..Aside::default()
            };
            Some(self.voice.message(class, event.channel, event.publication, aside))
        })
    }

    /// The id of a message without a position: the same for all who get it.
    fn message_id(&self, event: &Event<'_>) -> String {
        if event.publication.position.offset > Offset(0) {
            return String::new();
        }
        let made = || Some(Bytes::from(self.shared.next_message_id()));
        let id = event.encoded(ID_KIND, None, made).unwrap_or_default();
        String::from_utf8_lossy(&id).into_owned()
    }

    fn offer_with_gap(&self, event: &Event<'_>, mark: &mut Mark) -> Taken {
        let place = Place { channel: event.channel.clone(), id: mark.variant.clone() };
        let gap = self.take_gap(&place);
        let headers: Vec<(&str, &str)> = gap.iter().map(|gap| ("gap", &**gap)).collect();
        let message_id = self.message_id(event);
        let aside = Aside {
            subscription: mark.variant.as_deref(),
            message_id: &message_id,
            headers: &headers,
            ack: None,
        };
        let class = class_of(mark.bits);
        let frame = self.voice.message(class, event.channel, event.publication, aside);
        let taken = self.out.offer(frame);
        match gap {
            // Not said yet: it goes with the next one.
            Some(gap) if taken == Taken::Full => self.side.lock().gaps.push((place, gap)),
            _ => mark.bits &= !GAP,
        }
        taken
    }

    /// What is to be said with the next publication of a subscription.
    pub(super) fn take_gap(&self, place: &Place) -> Option<Box<str>> {
        let mut side = self.side.lock();
        let at = side.gaps.iter().position(|(each, _)| each == place)?;
        Some(side.gaps.swap_remove(at).1)
    }

    /// Leaves a delivery to the task, which knows what is acknowledged.
    fn leave_to_task(&self, event: &Event<'_>, mark: &Mark) -> Taken {
        let place = Place { channel: event.channel.clone(), id: mark.variant.clone() };
        let mut side = self.side.lock();
        if side.is_full(&place, self.shared.options.queue_bytes_max) {
            return Taken::Full;
        }
        side.wait(&place, event.publication);
        drop(side);
        self.out.poke(DELIVER);
        Taken::Queued
    }
}

impl Side {
    fn is_full(&self, place: &Place, bytes_max: usize) -> bool {
        let pending = self.pending.iter().find(|each| each.place == *place);
        pending.is_some_and(|each| each.queue.len() >= PENDING_MAX || each.bytes > bytes_max)
    }

    fn wait(&mut self, place: &Place, publication: &Arc<Publication>) {
        let at = match self.pending.iter().position(|each| each.place == *place) {
            Some(at) => at,
            None => {
                let place = place.clone();
                self.pending.push(Pending { place, queue: VecDeque::new(), bytes: 0 });
                self.pending.len() - 1
            }
        };
        let pending = &mut self.pending[at];
        pending.bytes += publication.size_bytes();
        pending.queue.push_back(Arc::clone(publication));
    }
}

/// Remembers what was delivered last.
fn note_offset(mark: &mut Mark, position: Position) {
    if position.offset > Offset(0) {
        let low = position.offset.0 & ((1 << OFFSET_BITS) - 1);
        let low = u32::try_from(low).unwrap_or(0) << OFFSET_SHIFT;
        mark.bits = mark.bits & ((1 << OFFSET_SHIFT) - 1) | HAS_OFFSET | low;
    }
}

impl Outlet for StompOutlet {
    fn publication(&self, event: &Event<'_>, mark: &mut Mark) -> Taken {
        if mark.bits & OURS == 0 {
            return Taken::Skipped;
        }
        let taken = if mark.bits & ACKED != 0 {
            self.leave_to_task(event, mark)
        } else if mark.bits & GAP != 0 {
            self.offer_with_gap(event, mark)
        } else {
            match self.shared_frame(event, mark) {
                Some(frame) => self.out.offer(frame),
                None => Taken::Skipped,
            }
        };
        if taken != Taken::Full {
            note_offset(mark, event.publication.position);
        }
        taken
    }

    fn membership(&self, _channel: &ChannelName, _news: &Membership, _mark: &Mark) -> Taken {
        // STOMP has no words for it.
        Taken::Skipped
    }

    fn cut(&self, channel: &ChannelName, mark: &Mark, cut: &Cut) {
        if mark.bits & OURS == 0 {
            return;
        }
        let place = Place { channel: channel.clone(), id: mark.variant.clone() };
        self.side.lock().cuts.push(CutNote { place, cut: cut.clone(), bits: mark.bits });
        self.out.poke(CUT);
    }

    fn entered(&self, _channel: &ChannelName, _subscribed: &Subscribed, _is_recoverable: bool) {
        // A client has the subscriptions it asked for; STOMP cannot name others.
    }

    fn server_side_bits(&self) -> Option<u32> {
        None
    }

    fn expires(&self, at: Option<Timestamp>) {
        self.out.expire(at);
    }

    fn message(&self, _data: &Bytes) {
        // Only subscriptions get messages.
    }

    fn flush(&self) {
        self.out.flush();
    }

    fn close(&self, ending: &Ending) {
        self.out.end(ending);
    }
}

impl WakeConsumer for StompOutlet {
    fn wake(&self) {
        self.out.poke(WORK);
    }
}

impl Turn for StompOutlet {
    fn turn(&self) -> Option<Duration> {
        let shared = &self.shared;
        if self.out.is_closed() {
            return None;
        }
        if self.out.blocked_for(std::time::Instant::now()) > shared.options.write_timeout {
            self.out.end(&Ending::from(CloseReason::SlowReader));
            return None;
        }
        let (now, heard_at) = (shared.milliseconds(), self.heard_at.load(Ordering::Relaxed));
        let silence = Duration::from_millis(now.saturating_sub(heard_at));
        let patience = self.gone_after.map(|after| after.saturating_sub(silence));
        if patience == Some(Duration::ZERO) {
            shared.counters.gone.increment();
            self.out.end(&Ending::from(CloseReason::Idle));
            return None;
        }
        let next = [self.beat(now), patience].into_iter().flatten().fold(LOOK_EVERY, Duration::min);
        Some(next.max(TURN_MIN))
    }
}

impl Shared {
    /// Since the gateway began.
    pub(super) fn milliseconds(&self) -> u64 {
        let since = Instant::now().duration_since(self.started);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_offset_delivered_is_known_from_a_few_of_its_bits() {
        let channel = ChannelName::parse("a").unwrap();
        for (start, delivered) in
            [(0, 1), (5, 70), ((1 << OFFSET_BITS) - 3, (1 << OFFSET_BITS) + 9)]
        {
            let epoch = naru_domain::Epoch(1);
            let mut mark = mark(Class::User, None, false, true);
            note_offset(&mut mark, Position { epoch, offset: Offset(delivered) });
            assert_eq!(class_of(mark.bits), Class::User);
            assert!(mark.bits & GAP != 0 && mark.bits & ACKED == 0);
            let place = Place { channel: channel.clone(), id: None };
            let note = CutNote { place, cut: Cut::Slow, bits: mark.bits };
            assert_eq!(note.delivered(Offset(start)), Some(Offset(delivered)));
        }
    }
}
