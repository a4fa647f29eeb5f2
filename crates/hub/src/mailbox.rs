//! The mailbox of one session: what waits for its reader, and what to do when too much does.
//!
//! Plain data. It knows no tasks, clocks, locks or connections; whoever calls it says when and for whom.
//!
//! The reliable stream is a run of offsets without holes:
//!
//! ```text
//!   … handed over │ cut (an explicit gap) │ retained …                  │ next
//!                 └ handed_over           └ cut_to     └ taken          └ last
//! ```
//!
//! Because only the oldest are ever cut, what was cut always lies right behind what was handed over, so
//! one offset describes it.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use naru_domain::limits::{MAILBOX_BYTES_MAX, MAILBOX_DELIVERIES_MAX};
use naru_domain::{Delivery, DeliveryBody, DeliveryClass, Offset};

/// Volatile deliveries that may wait; from then on the reader counts as slow (guessed).
pub const VOLATILE_WAITING_MAX: usize = 256;

/// The bounds of a mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MailboxLimits {
    /// Deliveries of all classes together, those taken but not handed over included.
    pub count_max: usize,
    /// Bytes of all of them together.
    pub bytes_max: usize,
}

impl Default for MailboxLimits {
    fn default() -> MailboxLimits {
        MailboxLimits { count_max: MAILBOX_DELIVERIES_MAX, bytes_max: MAILBOX_BYTES_MAX }
    }
}

/// What became of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It waits for the reader.
    Queued,
    /// It waits in the place of an older one with the same key.
    Coalesced,
    /// It was not kept: a duplicate, volatile for a slow reader, or too large for the mailbox (then a
    /// gap tells the reader).
    Dropped,
}

/// What calls on a mailbox did besides their result. Callers add it to their metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Reliable deliveries cut because of the bounds.
    pub cut: u64,
    /// Offsets that the sender left out and that became an explicit gap.
    pub holes: u64,
    /// Reliable deliveries dropped because their offset was there before.
    pub duplicates: u64,
    /// Deliveries replaced by a newer one with the same key.
    pub coalesced: u64,
    /// Volatile deliveries dropped.
    pub volatile_dropped: u64,
    /// Deliveries with a key dropped because there were too many keys.
    pub latest_dropped: u64,
}

/// A retained delivery. Smaller than a [`Delivery`], since its class is known.
#[derive(Clone, Debug)]
struct Retained {
    offset: Offset,
    bytes: usize,
    body: DeliveryBody,
}

/// The bounded outbound queue of a session. An empty one holds almost no memory.
#[derive(Clone, Debug, Default)]
pub struct Mailbox {
    retained: VecDeque<Retained>,
    /// How many of `retained`, from the front, the connection has.
    taken_count: usize,
    bytes: usize,
    handed_over: Offset,
    taken: Offset,
    cut_to: Offset,
    last: Offset,
    /// Deliveries that are not retained; there only while some wait.
    fleeting: Option<Box<Fleeting>>,
}

/// Up to so many places are kept for an empty mailbox: one allocation that echo traffic uses again.
const RETAINED_PLACES_KEPT: usize = 2;

impl Mailbox {
    /// An empty mailbox whose stream was handed over up to `handed_over`.
    #[must_use]
    pub fn starting_after(handed_over: Offset) -> Mailbox {
        Mailbox {
            handed_over,
            taken: handed_over,
            cut_to: handed_over,
            last: handed_over,
            ..Mailbox::default()
        }
    }

    /// The stream was handed over up to here.
    #[must_use]
    pub fn handed_over(&self) -> Offset {
        self.handed_over
    }

    /// The stream was given to the connection up to here. Never below [`Mailbox::handed_over`].
    #[must_use]
    pub fn taken(&self) -> Offset {
        self.taken
    }

    /// The last offset of the stream, delivered or cut.
    #[must_use]
    pub fn last(&self) -> Offset {
        self.last
    }

    /// Deliveries held, those taken but not handed over included.
    #[must_use]
    pub fn count(&self) -> usize {
        self.retained.len() + self.fleeting.as_ref().map_or(0, |fleeting| fleeting.live)
    }

    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether [`Mailbox::take`] would give something.
    #[must_use]
    pub fn has_untaken(&self) -> bool {
        self.taken < self.last || self.fleeting.is_some()
    }

    /// Bytes on the heap besides the bodies, for the bound on idle sessions.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.retained.capacity() * size_of::<Retained>()
            + self.fleeting.as_ref().map_or(0, |f| f.heap_bytes())
    }

    /// Takes a delivery in. `reader_is_there` decides about volatile ones.
    pub fn push(
        &mut self,
        delivery: Delivery,
        reader_is_there: bool,
        limits: &MailboxLimits,
        tally: &mut Tally,
    ) -> Pushed {
        match delivery.class {
            DeliveryClass::Reliable => {
                self.push_reliable(delivery.offset, delivery.body, limits, tally)
            }
            DeliveryClass::Latest(key) => self.push_latest(key, delivery.body, limits, tally),
            DeliveryClass::Volatile if reader_is_there => {
                self.push_volatile(delivery.body, limits, tally)
            }
            DeliveryClass::Volatile => {
                tally.volatile_dropped += 1;
                Pushed::Dropped
            }
        }
    }

    /// Appends to the stream. Offsets that were left out become an explicit gap before it.
    pub fn push_reliable(
        &mut self,
        offset: Offset,
        body: DeliveryBody,
        limits: &MailboxLimits,
        tally: &mut Tally,
    ) -> Pushed {
        let (from, to) = match body {
            DeliveryBody::Gap { from, to } => (from, to),
            _ => (offset, offset),
        };
        if to <= self.last {
            tally.duplicates += 1;
            return Pushed::Dropped;
        }
        let expected = self.last.next();
        if from > expected {
            tally.holes += from.0 - expected.0;
        }
        if let DeliveryBody::Gap { .. } = body {
            // Its start is moved so that the run of offsets has neither a hole nor an overlap.
            self.append(to, DeliveryBody::Gap { from: expected, to });
        } else {
            if from > expected {
                let to = Offset(from.0 - 1);
                self.append(to, DeliveryBody::Gap { from: expected, to });
            }
            self.append(to, body);
        }
        self.keep_bounds(limits, tally);
        if self.cut_to >= to { Pushed::Dropped } else { Pushed::Queued }
    }

    fn append(&mut self, offset: Offset, body: DeliveryBody) {
        let bytes = body.size_bytes();
        self.bytes += bytes;
        self.last = offset;
        if self.retained.capacity() == 0 {
            // Without this the first would make room for four.
            self.retained.reserve_exact(RETAINED_PLACES_KEPT);
        }
        self.retained.push_back(Retained { offset, bytes, body });
    }

    fn push_latest(
        &mut self,
        key: Arc<str>,
        body: DeliveryBody,
        limits: &MailboxLimits,
        tally: &mut Tally,
    ) -> Pushed {
        let bytes = body.size_bytes();
        let fleeting = self.fleeting.get_or_insert_default();
        let replaced = fleeting.remove_key(&key);
        fleeting.push(Waiting { after: self.last, bytes, body, key: Some(key) });
        self.bytes = self.bytes + bytes - replaced.unwrap_or(0);
        self.keep_bounds(limits, tally);
        if replaced.is_some() {
            tally.coalesced += 1;
        }
        match replaced {
            // The newest is the last to go, so if it went, all did.
            _ if self.fleeting.is_none() => Pushed::Dropped,
            Some(_) => Pushed::Coalesced,
            None => Pushed::Queued,
        }
    }

    fn push_volatile(
        &mut self,
        body: DeliveryBody,
        limits: &MailboxLimits,
        tally: &mut Tally,
    ) -> Pushed {
        let bytes = body.size_bytes();
        let waiting = self.fleeting.as_ref().map_or(0, |fleeting| fleeting.volatile_count());
        let is_slow = waiting >= VOLATILE_WAITING_MAX
            || self.count() >= limits.count_max
            || self.bytes + bytes > limits.bytes_max;
        if is_slow {
            tally.volatile_dropped += 1;
            return Pushed::Dropped;
        }
        let fleeting = self.fleeting.get_or_insert_default();
        fleeting.push(Waiting { after: self.last, bytes, body, key: None });
        self.bytes += bytes;
        Pushed::Queued
    }

    fn is_over(&self, limits: &MailboxLimits) -> bool {
        self.count() > limits.count_max || self.bytes > limits.bytes_max
    }

    /// Volatile deliveries go first, then the stream is cut, oldest first, and only when nothing else is
    /// left the oldest keyed ones. The cut is what the reader is told of, so it comes before a loss that
    /// would be silent.
    fn keep_bounds(&mut self, limits: &MailboxLimits, tally: &mut Tally) {
        if !self.is_over(limits) {
            return;
        }
        self.drop_volatile(tally);
        while self.is_over(limits) {
            let Some(oldest) = self.retained.pop_front() else { break };
            self.bytes -= oldest.bytes;
            self.taken_count = self.taken_count.saturating_sub(1);
            // A gap that is cut only becomes part of a longer one: nothing more is lost.
            if !matches!(oldest.body, DeliveryBody::Gap { .. }) {
                tally.cut += 1;
            }
            self.cut_to = oldest.offset;
        }
        // The stream is all cut, so keyed deliveries alone are too many.
        while self.is_over(limits) {
            let Some(oldest) = self.fleeting.as_mut().and_then(|f| f.pop()) else { break };
            self.bytes -= oldest.bytes;
            tally.latest_dropped += 1;
        }
        self.forget_empty_fleeting();
    }

    fn drop_volatile(&mut self, tally: &mut Tally) {
        let Some(fleeting) = &mut self.fleeting else { return };
        let (count, bytes) = fleeting.drop_volatile();
        self.bytes -= bytes;
        tally.volatile_dropped += count;
        self.forget_empty_fleeting();
    }

    fn forget_empty_fleeting(&mut self) {
        if self.fleeting.as_ref().is_some_and(|fleeting| fleeting.live == 0) {
            self.fleeting = None;
        }
    }

    /// Gives the next deliveries that were not taken, in the order of their arrival: at most
    /// `count_max`, and at most `bytes_max` unless the first alone is larger. Reliable ones stay
    /// retained, the others are gone from here. Returns how many were added to `out`.
    pub fn take(&mut self, count_max: usize, bytes_max: usize, out: &mut Vec<Delivery>) -> usize {
        let (mut count, mut bytes) = (0, 0);
        while count < count_max {
            let Some((size, is_fleeting)) = self.peek() else { break };
            if count > 0 && bytes + size > bytes_max {
                break;
            }
            let Some(delivery) =
                (if is_fleeting { self.take_fleeting() } else { self.take_next() })
            else {
                break;
            };
            out.push(delivery);
            count += 1;
            bytes += size;
        }
        count
    }

    /// The size of the next delivery, and whether it is a fleeting one.
    fn peek(&self) -> Option<(usize, bool)> {
        if let Some(next) = self.fleeting.as_ref().and_then(|f| f.peek())
            && next.after <= self.taken
        {
            return Some((next.bytes, true));
        }
        if self.taken < self.cut_to {
            return Some((16, false));
        }
        self.retained.get(self.taken_count).map(|next| (next.bytes, false))
    }

    fn take_fleeting(&mut self) -> Option<Delivery> {
        let next = self.fleeting.as_mut()?.pop()?;
        self.bytes -= next.bytes;
        self.forget_empty_fleeting();
        let class = next.key.map_or(DeliveryClass::Volatile, DeliveryClass::Latest);
        Some(Delivery { offset: Offset(0), class, body: next.body })
    }

    fn take_next(&mut self) -> Option<Delivery> {
        let (offset, body) = if self.taken < self.cut_to {
            let body = DeliveryBody::Gap { from: self.taken.next(), to: self.cut_to };
            (self.cut_to, body)
        } else {
            let next = self.retained.get(self.taken_count)?;
            self.taken_count += 1;
            (next.offset, next.body.clone())
        };
        self.taken = offset;
        Some(Delivery { offset, class: DeliveryClass::Reliable, body })
    }

    /// The connection has written the stream up to `offset`: retained ones up to it are released. More
    /// than was taken cannot have been written. Returns how many were released.
    pub fn hand_over(&mut self, offset: Offset) -> u64 {
        let offset = offset.min(self.taken);
        if offset <= self.handed_over {
            return 0;
        }
        self.handed_over = offset;
        self.cut_to = self.cut_to.max(offset);
        let mut released = 0;
        while let Some(front) = self.retained.front() {
            if front.offset > offset {
                break;
            }
            self.bytes -= front.bytes;
            self.taken_count = self.taken_count.saturating_sub(1);
            self.retained.pop_front();
            released += 1;
        }
        if let Some(Retained { body: DeliveryBody::Gap { from, .. }, .. }) =
            self.retained.front_mut()
            && *from <= offset
        {
            *from = offset.next();
        }
        if self.retained.is_empty() && self.retained.capacity() > RETAINED_PLACES_KEPT {
            self.retained = VecDeque::new();
        }
        released
    }

    /// The connection is gone: what it took and did not hand over is there again for the next one, and
    /// volatile deliveries are not kept for it.
    pub fn rewind(&mut self, tally: &mut Tally) {
        self.taken = self.handed_over;
        self.taken_count = 0;
        self.drop_volatile(tally);
    }

    /// Drops everything, because the session ends.
    pub fn clear(&mut self) {
        *self = Mailbox::starting_after(self.last);
    }
}

/// A delivery that is not retained. `after` puts it in order among the reliable ones.
#[derive(Clone, Debug)]
struct Waiting {
    after: Offset,
    bytes: usize,
    body: DeliveryBody,
    key: Option<Arc<str>>,
}

/// Keyed and volatile deliveries in the order of arrival. Replaced ones leave a hole in the queue, so
/// that every operation costs the same however many keys there are.
#[derive(Clone, Debug, Default)]
struct Fleeting {
    queue: VecDeque<Option<Waiting>>,
    /// The number of the place at the front of `queue`.
    front: u64,
    /// The places of the keyed ones.
    places: HashMap<Arc<str>, u64>,
    live: usize,
}

impl Fleeting {
    fn volatile_count(&self) -> usize {
        self.live - self.places.len()
    }

    fn heap_bytes(&self) -> usize {
        size_of::<Fleeting>()
            + self.queue.capacity() * size_of::<Option<Waiting>>()
            + self.places.capacity() * (size_of::<(Arc<str>, u64)>() + 1)
    }

    fn push(&mut self, waiting: Waiting) {
        if let Some(key) = &waiting.key {
            self.places.insert(Arc::clone(key), self.front + self.queue.len() as u64);
        }
        self.queue.push_back(Some(waiting));
        self.live += 1;
    }

    /// Takes the older one with this key out and says how many bytes it had.
    fn remove_key(&mut self, key: &str) -> Option<usize> {
        let place = self.places.remove(key)?;
        let index = usize::try_from(place - self.front).ok()?;
        let removed = self.queue.get_mut(index)?.take()?;
        self.live -= 1;
        self.drop_leading_holes();
        if self.queue.len() > 2 * self.live + 16 {
            self.compact();
        }
        Some(removed.bytes)
    }

    fn drop_leading_holes(&mut self) {
        while let Some(None) = self.queue.front() {
            self.queue.pop_front();
            self.front += 1;
        }
    }

    /// Closes the holes. Happens after at least as many replacements as places are left.
    fn compact(&mut self) {
        self.queue.retain(Option::is_some);
        self.renumber();
    }

    fn renumber(&mut self) {
        self.places.clear();
        for (index, waiting) in self.queue.iter().enumerate() {
            if let Some(Waiting { key: Some(key), .. }) = waiting {
                self.places.insert(Arc::clone(key), self.front + index as u64);
            }
        }
    }

    fn peek(&self) -> Option<&Waiting> {
        self.queue.front().and_then(Option::as_ref)
    }

    fn pop(&mut self) -> Option<Waiting> {
        let next = self.queue.pop_front()??;
        self.front += 1;
        self.live -= 1;
        if let Some(key) = &next.key {
            self.places.remove(key);
        }
        self.drop_leading_holes();
        Some(next)
    }

    /// Says how many were dropped and how many bytes they had.
    fn drop_volatile(&mut self) -> (u64, usize) {
        if self.volatile_count() == 0 {
            return (0, 0);
        }
        let (mut count, mut bytes) = (0, 0);
        self.queue.retain(|waiting| match waiting {
            Some(Waiting { key: None, bytes: size, .. }) => {
                count += 1;
                bytes += size;
                false
            }
            Some(_) => true,
            None => false,
        });
        self.live = self.queue.len();
        self.renumber();
        (count, bytes)
    }
}
