//! From the bus to the subscribers of this node: each publication once, in order, to everybody who
//! follows its channel; and the repair when the flow has a hole. The decisions about order stand in
//! [`crate::channel`].

#[cfg(test)]
mod tests;

use std::sync::Arc;

use naru_domain::ports::{BusError, BusEvent, HistoryPage, HistoryQuery};
use naru_domain::{CloseReason, Membership, Offset, Position, Publication};

use crate::channel::Offer;
pub(crate) use crate::channels::{Channel, Channels};
use crate::channels::{Listener, Listeners, Repair};
use crate::client::Client;
use crate::hub::{Hub, Inner};
use crate::outlet::{Cut, Ending, Event, Taken};

/// The connections that have something to write. Filled while events are handled, then flushed: what
/// several events queued for one connection goes out in one write.
#[derive(Default)]
pub(crate) struct Dirty(pub(crate) Vec<Arc<Client>>);

/// Listeners that can get no more, found while the list was walked.
type Lost = Vec<(usize, Cut)>;

impl Hub {
    /// Something came from the bus. Returns the channel whose history has to be read now.
    pub(crate) fn on_bus_event(&self, event: BusEvent, dirty: &mut Dirty) -> Option<Arc<Channel>> {
        let inner = &self.inner;
        match event {
            BusEvent::Publication(name, publication) => {
                inner.metrics.bus_publications.increment();
                let channel = inner.channels.get(&name)?;
                let needs_repair = inner.fan_out(&channel, &publication, dirty);
                needs_repair.then_some(channel)
            }
            BusEvent::Membership(name, membership) => {
                let channel = inner.channels.get(&name)?;
                inner.tell_membership(&channel, &membership, dirty);
                None
            }
            BusEvent::Gap(name) => {
                inner.metrics.bus_gaps.increment();
                let channel = inner.channels.get(&name)?;
                let needs_repair = channel.listeners.lock().begin_repair();
                needs_repair.then_some(channel)
            }
        }
    }
}

impl Inner {
    /// Offers one publication to all followers. It is encoded once for each kind of subscriber and shared.
    /// True if a follower misses something before it and the caller has to run the repair.
    fn fan_out(
        &self,
        channel: &Arc<Channel>,
        publication: &Arc<Publication>,
        dirty: &mut Dirty,
    ) -> bool {
        let held_max = self.options.recovery_buffer_max;
        let mut guard = channel.listeners.lock();
        let listeners = &mut *guard;
        if let Repair::Running { held, again } = &mut listeners.repair {
            if held.len() >= held_max {
                held.clear();
                *again = true;
            }
            if !*again {
                held.push_back(Arc::clone(publication));
            }
            for (_, listener) in &mut listeners.places {
                if listener.follower.is_joining() {
                    listener.follower.offer(publication, held_max);
                }
            }
            return false;
        }
        let (mut delivered, mut has_moved, mut has_hole) = (0, false, false);
        let mut lost = Lost::new();
        let previous = previous_of(listeners.last.as_ref(), publication);
        let event = Event::new(&channel.name, publication, previous);
        for (place, listener) in &mut listeners.places {
            match listener.follower.offer(publication, held_max) {
                Offer::Deliver => {
                    has_moved = true;
                    delivered += u64::from(deliver(listener, place, &event, dirty, &mut lost));
                }
                Offer::Held => {}
                Offer::Repeat => self.metrics.bus_repeats.increment(),
                Offer::Hole => has_hole = true,
            }
        }
        if has_moved {
            listeners.last = Some(Arc::clone(publication));
        }
        let needs_repair = has_hole && listeners.begin_repair();
        self.drop_lost(channel, guard, lost, dirty);
        self.metrics.fan_out.add(delivered);
        if needs_repair {
            self.metrics.bus_gaps.increment();
        }
        needs_repair
    }

    /// Ends the subscriptions of those who can get no more. Takes the lock, because their other locks
    /// come before it.
    fn drop_lost(
        &self,
        channel: &Arc<Channel>,
        mut listeners: parking_lot::MutexGuard<'_, Listeners>,
        lost: Lost,
        dirty: &mut Dirty,
    ) {
        if lost.is_empty() {
            return;
        }
        let mut removed: Vec<(Listener, usize, Cut)> = Vec::with_capacity(lost.len());
        for (place, cut) in lost {
            if let Some(listener) = listeners.places.try_remove(place) {
                // Still under the lock: nothing of the channel may come between.
                if listener.traits.is_positioned {
                    listener.client.outlet.cut(&channel.name, &listener.mark, &cut);
                } else {
                    listener.client.outlet.close(&Ending::from(CloseReason::SlowReader));
                }
                self.tell_left(channel, &listener);
                removed.push((listener, place, cut));
            }
        }
        let is_left = listeners.becomes_left();
        drop(listeners);
        for (listener, place, cut) in removed {
            match cut {
                Cut::Slow => self.metrics.slow_cuts.increment(),
                _ => self.metrics.channel_gaps.increment(),
            }
            self.metrics.subscriptions.add(-1);
            listener
                .client
                .subscriptions
                .lock()
                .list
                .retain(|each| !(Arc::ptr_eq(&each.channel, channel) && each.place == place));
            dirty.0.push(listener.client);
        }
        if is_left {
            self.channels.note_left(channel);
        }
    }

    fn tell_membership(&self, channel: &Channel, membership: &Membership, dirty: &mut Dirty) {
        let listeners = channel.listeners.lock();
        for (_, listener) in &listeners.places {
            let is_own_leave =
                !membership.has_joined && membership.party.client == listener.client.info().client;
            if !listener.traits.gets_membership || listener.follower.is_joining() || is_own_leave {
                continue;
            }
            let taken =
                listener.client.outlet.membership(&channel.name, membership, &listener.mark);
            if taken == Taken::FlushDue {
                dirty.0.push(Arc::clone(&listener.client));
            }
        }
    }

    /// One step of a repair: delivers what history has behind the oldest position. True when the live
    /// flow can be trusted again.
    pub(crate) async fn repair_step(&self, channel: &Arc<Channel>) -> Result<bool, BusError> {
        let since = {
            let mut listeners = channel.listeners.lock();
            let Some(since) = listeners.oldest_position() else {
                // Nobody follows live; those who join read history themselves.
                listeners.repair = Repair::NotNeeded;
                return Ok(true);
            };
            listeners.repair = Repair::running();
            since
        };
        let limit = self.options.recovery_publications_max;
        let query = HistoryQuery { since: Some(since), limit };
        let page = self.read_history(&channel.name, query).await?;
        let mut dirty = Dirty::default();
        let mut lost = Lost::new();
        let mut listeners = channel.listeners.lock();
        let mut delivered = catch_up(channel, &mut listeners, &page, &mut dirty, &mut lost);
        let last = page.publications.last().map_or(page.top, |last| last.position);
        let is_done = last == page.top && {
            let repair = std::mem::take(&mut listeners.repair);
            match resume(channel, &mut listeners, repair, &mut dirty, &mut lost) {
                Some(count) => {
                    delivered += count;
                    true
                }
                None => {
                    listeners.repair = Repair::running();
                    false
                }
            }
        };
        self.drop_lost(channel, listeners, lost, &mut dirty);
        dirty.flush();
        self.metrics.fan_out.add(delivered);
        Ok(is_done)
    }

    /// History cannot be read: the subscriptions that promised to miss nothing end, the others go on with
    /// what comes next.
    pub(crate) fn give_up_repair(&self, channel: &Arc<Channel>) {
        let mut dirty = Dirty::default();
        let mut lost = Lost::new();
        let mut listeners = channel.listeners.lock();
        for (place, listener) in &mut listeners.places {
            if !listener.follower.is_joining() {
                listener.follower.skip_unknown();
                note_gap(listener, place, &mut lost);
            }
        }
        listeners.last = None;
        listeners.repair = Repair::NotNeeded;
        self.drop_lost(channel, listeners, lost, &mut dirty);
        dirty.flush();
    }
}

impl Dirty {
    /// Writes what is queued.
    pub(crate) fn flush(&mut self) {
        for client in self.0.drain(..) {
            client.outlet.flush();
        }
    }
}

/// False if the subscriber does not want this one.
fn deliver(
    listener: &mut Listener,
    place: usize,
    event: &Event<'_>,
    dirty: &mut Dirty,
    lost: &mut Lost,
) -> bool {
    if let Some(filter) = &listener.filter
        && !filter.passes(event.publication)
    {
        return false;
    }
    match listener.client.outlet.publication(event, &mut listener.mark) {
        Taken::Queued | Taken::Skipped => {}
        Taken::FlushDue => dirty.0.push(Arc::clone(&listener.client)),
        Taken::Full => lost.push((place, Cut::Slow)),
    }
    true
}

/// The publication before `next`, if everybody who is to get `next` had that one before: those who follow
/// numbered publications stand right behind it, and the others are never told apart.
fn previous_of<'a>(
    last: Option<&'a Arc<Publication>>,
    next: &Publication,
) -> Option<&'a Arc<Publication>> {
    last.filter(|last| {
        let (last, next) = (last.position, next.position);
        last.epoch == next.epoch
            && (next.offset == Offset(0) && last.offset == Offset(0)
                || next.offset == last.offset.next())
    })
}

/// Something is missing that nobody has any more.
fn note_gap(listener: &Listener, place: usize, lost: &mut Lost) {
    if listener.traits.is_positioned {
        lost.push((place, Cut::InsufficientState));
    }
}

/// Delivers a page of history to all who follow live, and finds those who lost something.
fn catch_up(
    channel: &Channel,
    listeners: &mut Listeners,
    page: &HistoryPage,
    dirty: &mut Dirty,
    lost: &mut Lost,
) -> u64 {
    let base = page.publications.first().map_or(page.top, |first| Position {
        epoch: first.position.epoch,
        offset: Offset(first.position.offset.0.saturating_sub(1)),
    });
    let lost_before = |position: Position| {
        // Who is ahead of the oldest may have all that the page lacks; but nobody can be ahead of the
        // top, unless the engine itself forgot its end. Without history nothing is certain.
        let is_ahead_of_all = position.offset > page.top.offset || base.offset == Offset(0);
        position.epoch != base.epoch
            || position.offset < base.offset
            || (!page.complete && is_ahead_of_all)
    };
    for (place, listener) in &mut listeners.places {
        let Some(position) = listener.follower.position() else { continue };
        if lost_before(position) {
            listener.follower.skip_to(base);
            note_gap(listener, place, lost);
        }
    }
    let mut delivered = 0;
    for publication in &page.publications {
        delivered += offer_all(channel, listeners, publication, dirty, lost).unwrap_or(0);
    }
    delivered
}

/// Delivers what was held back during a repair. `None` if that does not meet what was read.
fn resume(
    channel: &Channel,
    listeners: &mut Listeners,
    repair: Repair,
    dirty: &mut Dirty,
    lost: &mut Lost,
) -> Option<u64> {
    let Repair::Running { held, again: false } = repair else { return None };
    let mut delivered = 0;
    for publication in &held {
        delivered += offer_all(channel, listeners, publication, dirty, lost)?;
    }
    Some(delivered)
}

/// Offers a publication to all who follow live, except those who are lost. `None` if one of them misses
/// something before it.
fn offer_all(
    channel: &Channel,
    listeners: &mut Listeners,
    publication: &Arc<Publication>,
    dirty: &mut Dirty,
    lost: &mut Lost,
) -> Option<u64> {
    let (mut delivered, mut has_moved, mut has_hole) = (0, false, false);
    let previous = previous_of(listeners.last.as_ref(), publication);
    let event = Event::new(&channel.name, publication, previous);
    for (place, listener) in &mut listeners.places {
        // Those who join were offered it when it came, or will read it themselves.
        if listener.follower.is_joining() || lost.iter().any(|(lost, _)| *lost == place) {
            continue;
        }
        match listener.follower.offer(publication, 0) {
            Offer::Deliver => {
                has_moved = true;
                delivered += u64::from(deliver(listener, place, &event, dirty, lost));
            }
            Offer::Repeat | Offer::Held => {}
            Offer::Hole => has_hole = true,
        }
    }
    if has_moved {
        listeners.last = Some(Arc::clone(publication));
    }
    (!has_hole).then_some(delivered)
}
