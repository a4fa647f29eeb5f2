//! What the bridge counts.

use naru_domain::CloseReason;
use naru_domain::metrics::{Counter, Gauge, Histogram, MetricSink, MetricSource};

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
    pub(crate) round_trip: Histogram,
    pub(crate) replies: Counter,
    pub(crate) unsendable_replies: Counter,
    pub(crate) lost_replies: Counter,
    pub(crate) lost_chats: Counter,
    pub(crate) identity_fights: Counter,
}

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
