//! What the bridge counts.

use std::time::Duration;

use naru_domain::metrics::{Counter, Gauge, Histogram, MetricSink, MetricSource};
use naru_domain::{CloseReason, Timestamp};
use naru_wire::bridge::FrameError;

use super::guard::Distrust;
use crate::limits::Refused;

/// All figures of the bridge listener.
#[derive(Debug, Default)]
pub struct BridgeCounters {
    pub(crate) connections: Gauge,
    pub(crate) phones: Gauge,
    pub(crate) accepted: Counter,
    refused: [Counter; 3],
    closed: [Counter; CloseReason::ALL.len()],
    distrusted: [Counter; Distrust::ALL.len()],
    pub(crate) accept_errors: Counter,
    pub(crate) tls_failures: Counter,
    pub(crate) bytes_in: Counter,
    pub(crate) bytes_out: Counter,
    pub(crate) hellos: Counter,
    pub(crate) hellos_refused: Counter,
    pub(crate) chats: Counter,
    pub(crate) keep_alives: Counter,
    pub(crate) unknown_events: Counter,
    bad_frames: [Counter; BAD_FRAMES],
    pub(crate) delayed_reads: Counter,
    pub(crate) full_queue_waits: Counter,
    pub(crate) pings: Counter,
    round_trip: Histogram,
    pub(crate) replies: Counter,
    pub(crate) unsendable_replies: Counter,
    pub(crate) lost_replies: Counter,
    pub(crate) lost_chats: Counter,
    pub(crate) identity_fights: Counter,
}

/// A keep-alive answer that took longer measured a jump of the clock, not the way there and back (guessed:
/// longer than any phone sleeps in media).
const ROUND_TRIP_MAX: Duration = Duration::from_secs(600);

/// Counters for [`FrameError`], and one more for texts that are too long.
const BAD_FRAMES: usize = FrameError::LABELS.len() + 1;

/// Why a frame could not be used.
#[derive(Clone, Copy, Debug)]
pub(crate) enum BadFrame {
    Broken(FrameError),
    TextTooLong,
}

impl BadFrame {
    fn index(self) -> usize {
        match self {
            BadFrame::Broken(error) => error.index(),
            BadFrame::TextTooLong => FrameError::LABELS.len(),
        }
    }
}

impl BridgeCounters {
    pub(crate) fn refused(&self, why: Refused) {
        let slot = match why {
            Refused::Total => 0,
            Refused::PerAddress => 1,
            Refused::Attempts => 2,
        };
        self.refused[slot].increment();
    }

    pub(crate) fn closed(&self, reason: CloseReason) {
        if let Some(slot) = CloseReason::ALL.iter().position(|known| *known == reason) {
            self.closed[slot].increment();
        }
    }

    pub(crate) fn distrusted(&self, why: Distrust) {
        if let Some(slot) = Distrust::ALL.iter().position(|known| *known == why) {
            self.distrusted[slot].increment();
        }
    }

    /// A keep-alive was answered. What only a jump of the wall clock explains is left out.
    pub(crate) fn note_round_trip(&self, sent_at: Timestamp, now: Timestamp) {
        let trip = now.since(sent_at);
        if sent_at <= now && trip <= ROUND_TRIP_MAX {
            self.round_trip.observe(trip);
        }
    }

    pub(crate) fn bad_frame(&self, why: BadFrame) {
        self.bad_frames[why.index()].increment();
    }
}

impl MetricSource for BridgeCounters {
    fn collect(&self, sink: &mut dyn MetricSink) {
        sink.gauge("bridge_connections", "Open bridge connections", &[], self.connections.get());
        sink.gauge("bridge_phones", "Connections that said who they are", &[], self.phones.get());
        let mut counter = |name: &str, help: &str, value: &Counter| {
            sink.counter(name, help, &[], value.get());
        };
        counter("bridge_accepted", "Connections accepted", &self.accepted);
        counter("bridge_accept_errors", "Failed accepts", &self.accept_errors);
        counter("bridge_tls_failures", "Failed TLS handshakes", &self.tls_failures);
        counter("bridge_received_bytes", "Bytes read from phones", &self.bytes_in);
        counter("bridge_sent_bytes", "Bytes written to phones", &self.bytes_out);
        counter("bridge_hellos", "Handshakes answered", &self.hellos);
        counter("bridge_hellos_refused", "Handshakes with unusable names", &self.hellos_refused);
        counter("bridge_chats", "Chat messages handed to bot work", &self.chats);
        counter("bridge_keep_alives", "Keep-alive answers", &self.keep_alives);
        counter("bridge_unknown_events", "Frames with unknown events", &self.unknown_events);
        counter("bridge_delayed_reads", "Reads paused by the frame rate", &self.delayed_reads);
        counter("bridge_full_queue_waits", "Reads paused by a full queue", &self.full_queue_waits);
        counter("bridge_pings", "Pings sent", &self.pings);
        counter("bridge_replies", "Replies written whole", &self.replies);
        counter(
            "bridge_unsendable_replies",
            "Replies the phone's dialect cannot carry",
            &self.unsendable_replies,
        );
        counter(
            "bridge_lost_replies",
            "Replies cut from a full mailbox before the phone came back",
            &self.lost_replies,
        );
        counter(
            "bridge_lost_chats",
            "Messages that found no room in the queue before their connection ended",
            &self.lost_chats,
        );
        counter(
            "bridge_identity_fights",
            "Times one identity was taken over too often in a minute",
            &self.identity_fights,
        );
        for (slot, label) in ["total", "per_address", "attempts"].iter().enumerate() {
            let value = self.refused[slot].get();
            sink.counter("bridge_refused", "Refused connections", &[("limit", label)], value);
        }
        for (slot, reason) in CloseReason::ALL.iter().enumerate() {
            let labels = [("reason", reason.label())];
            sink.counter("bridge_closed", "Ended connections", &labels, self.closed[slot].get());
        }
        for (slot, why) in Distrust::ALL.iter().enumerate() {
            let labels = [("why", why.label())];
            let value = self.distrusted[slot].get();
            sink.counter("bridge_distrusted", "Frames with unusable signatures", &labels, value);
        }
        let labels = FrameError::LABELS.iter().chain(&["text_too_long"]);
        for (slot, label) in labels.enumerate() {
            let value = self.bad_frames[slot].get();
            sink.counter("bridge_bad_frames", "Unusable frames", &[("why", label)], value);
        }
        sink.histogram("bridge_round_trip", "Ping to answer", &[], &self.round_trip);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_of_the_clock_is_no_round_trip() {
        let counters = BridgeCounters::default();
        let sent_at = Timestamp(1_700_000_000_000);
        for (trip_ms, expected) in [(0, 1), (40, 2), (600_000, 3), (600_001, 3), (3_600_000, 3)] {
            counters.note_round_trip(sent_at, Timestamp(sent_at.0 + trip_ms));
            let (buckets, _sum) = counters.round_trip.read();
            assert_eq!(buckets.iter().sum::<u64>(), expected, "{trip_ms} ms");
        }
        counters.note_round_trip(sent_at, Timestamp(sent_at.0 - 1));
        assert_eq!(counters.round_trip.read().0.iter().sum::<u64>(), 3);
    }
}
