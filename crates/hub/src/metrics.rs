//! The hub's figures.

use naru_domain::CloseReason;
use naru_domain::metrics::{Counter, Gauge, MetricSink, MetricSource};

use crate::mailbox::{Pushed, Tally};

/// What the hub counts.
#[derive(Debug, Default)]
pub struct HubMetrics {
    pub(crate) active: Gauge,
    pub(crate) suspended: Gauge,
    pub(crate) opened: Counter,
    pub(crate) expired: Counter,
    pub(crate) removed: Counter,
    pub(crate) attached: Counter,
    pub(crate) replaced: Counter,
    pub(crate) ended: [Counter; CloseReason::ALL.len()],
    pub(crate) queued: Counter,
    pub(crate) handed_over: Counter,
    pub(crate) coalesced: Counter,
    pub(crate) volatile_dropped: Counter,
    pub(crate) latest_dropped: Counter,
    pub(crate) duplicates: Counter,
    pub(crate) unknown_session: Counter,
    pub(crate) cut: Counter,
    pub(crate) holes: Counter,
    pub(crate) channel_gaps: Counter,
    pub(crate) mailbox_bytes: Gauge,
    pub(crate) clients: Gauge,
    pub(crate) slow_cuts: Counter,
    pub(crate) users_refused: Counter,
    pub(crate) channels: Gauge,
    pub(crate) subscriptions: Gauge,
    pub(crate) bus_publications: Counter,
    pub(crate) bus_gaps: Counter,
    pub(crate) positions_behind: Counter,
    pub(crate) bus_repeats: Counter,
    pub(crate) fan_out: Counter,
    pub(crate) recovered: Counter,
    pub(crate) not_recovered: Counter,
    pub(crate) journal_corrections: Counter,
    pub(crate) owner_posts: Counter,
}

impl HubMetrics {
    /// Counts what calls on a mailbox did. Nothing is touched in the common case that nothing happened.
    pub(crate) fn tally(&self, tally: &Tally) {
        if *tally == Tally::default() {
            return;
        }
        for (counter, count) in [
            (&self.cut, tally.cut),
            (&self.holes, tally.holes),
            (&self.duplicates, tally.duplicates),
            (&self.coalesced, tally.coalesced),
            (&self.volatile_dropped, tally.volatile_dropped),
            (&self.latest_dropped, tally.latest_dropped),
        ] {
            if count > 0 {
                counter.add(count);
            }
        }
    }

    /// A mailbox went from so many bytes to so many.
    pub(crate) fn mailbox_changed(&self, before: usize, now: usize) {
        if now != before {
            let signed = |bytes| i64::try_from(bytes).unwrap_or(i64::MAX);
            self.mailbox_bytes.add(signed(now) - signed(before));
        }
    }

    pub(crate) fn pushed(&self, pushed: Pushed) {
        if pushed != Pushed::Dropped {
            self.queued.increment();
        }
    }

    pub(crate) fn ended(&self, reason: CloseReason) {
        if let Some(index) = CloseReason::ALL.iter().position(|each| *each == reason) {
            self.ended[index].increment();
        }
    }
}

impl MetricSource for HubMetrics {
    fn collect(&self, sink: &mut dyn MetricSink) {
        let help = "Sessions by state.";
        sink.gauge("hub_sessions", help, &[("state", "active")], self.active.get());
        sink.gauge("hub_sessions", help, &[("state", "suspended")], self.suspended.get());
        let help = "Sessions that began and ended.";
        for (what, counter) in
            [("opened", &self.opened), ("expired", &self.expired), ("removed", &self.removed)]
        {
            sink.counter("hub_session_changes", help, &[("change", what)], counter.get());
        }
        let help = "Connections that took a session.";
        sink.counter("hub_attachments", help, &[], self.attached.get());
        let help = "Connections that lost their session to a newer one.";
        sink.counter("hub_attachments_replaced", help, &[], self.replaced.get());
        let help = "Connections that left their session, by reason.";
        for (reason, counter) in CloseReason::ALL.iter().zip(&self.ended) {
            let labels = [("reason", reason.label())];
            sink.counter("hub_attachments_ended", help, &labels, counter.get());
        }
        let help = "Deliveries that came into a mailbox.";
        sink.counter("hub_deliveries_queued", help, &[], self.queued.get());
        let help = "Reliable deliveries handed over to a connection's peer.";
        sink.counter("hub_deliveries_handed_over", help, &[], self.handed_over.get());
        let help = "Deliveries that did not stay in a mailbox, by cause. Only a cut loses reliable ones; \
                    it is told to the reader as a gap.";
        for (cause, counter) in [
            ("coalesced", &self.coalesced),
            ("volatile_slow_reader", &self.volatile_dropped),
            ("latest_full", &self.latest_dropped),
            ("duplicate", &self.duplicates),
            ("cut", &self.cut),
            ("no_session", &self.unknown_session),
        ] {
            sink.counter("hub_deliveries_dropped", help, &[("cause", cause)], counter.get());
        }
        let help = "Offsets that a sender left out and that readers got as a gap.";
        sink.counter("hub_stream_holes", help, &[], self.holes.get());
        let help = "Bytes in all mailboxes.";
        sink.gauge("hub_mailbox_bytes", help, &[], self.mailbox_bytes.get());
        let help =
            "Times the delivery journal was taken back because less was written than announced.";
        sink.counter("hub_journal_corrections", help, &[], self.journal_corrections.get());
        self.collect_channels(sink);
    }
}

impl HubMetrics {
    fn collect_channels(&self, sink: &mut dyn MetricSink) {
        let help = "Clients connected to this node.";
        sink.gauge("hub_clients", help, &[], self.clients.get());
        let help = "Subscriptions ended because the reader was too slow.";
        sink.counter("hub_slow_cuts", help, &[], self.slow_cuts.get());
        let help = "Channels that a client of this node is subscribed to.";
        sink.gauge("hub_channels", help, &[], self.channels.get());
        let help = "Connections refused because their user had as many as it may have.";
        sink.counter("hub_user_refused", help, &[], self.users_refused.get());
        let help = "Subscriptions of clients to channels.";
        sink.gauge("hub_subscriptions", help, &[], self.subscriptions.get());
        let help = "Publications that came from the bus.";
        sink.counter("hub_bus_publications", help, &[], self.bus_publications.get());
        let help = "Publications that came from the bus again and were left out.";
        sink.counter("hub_bus_repeats", help, &[], self.bus_repeats.get());
        let help = "Gaps that the bus reported or that were seen in the offsets.";
        sink.counter("hub_bus_gaps", help, &[], self.bus_gaps.get());
        let help = "Channels whose live flow stood behind their history and was repaired.";
        sink.counter("hub_positions_behind", help, &[], self.positions_behind.get());
        let help = "Publications offered to subscribers, without those that a filter keeps back.";
        sink.counter("hub_fan_out", help, &[], self.fan_out.get());
        let help = "Times a subscriber was told that publications are missing.";
        sink.counter("hub_channel_gaps", help, &[], self.channel_gaps.get());
        let help = "Publications taken by those whom their channel belongs to.";
        sink.counter("hub_owner_posts", help, &[], self.owner_posts.get());
        let help = "Subscriptions with a position, by result.";
        sink.counter("hub_recoveries", help, &[("result", "recovered")], self.recovered.get());
        let labels = [("result", "not_recovered")];
        sink.counter("hub_recoveries", help, &labels, self.not_recovered.get());
    }
}
