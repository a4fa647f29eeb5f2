//! The STOMP gateway's figures.

use naru_domain::CloseReason;
use naru_domain::metrics::{Counter, Gauge, MetricSink, MetricSource};
use naru_wire::stomp::Command;

use crate::limits::Refused;

/// What the gateway counts.
#[derive(Debug, Default)]
pub struct StompCounters {
    pub(super) connections: Gauge,
    pub(super) accepted: Counter,
    pub(super) accept_errors: Counter,
    pub(super) tls_failures: Counter,
    pub(super) connected: Counter,
    pub(super) heart_beats: Counter,
    pub(super) gone: Counter,
    pub(super) delayed_reads: Counter,
    pub(super) resumed: Counter,
    pub(super) gaps: Counter,
    pub(super) dead_letters: Counter,
    pub(super) dead_letters_failed: Counter,
    refused: [Counter; REFUSED.len()],
    frames: [Counter; Command::ALL.len()],
    errors: Errors,
    closed: [Counter; CloseReason::ALL.len()],
}

#[derive(Debug)]
struct Errors([Counter; CODES.len()]);

impl Default for Errors {
    fn default() -> Errors {
        Errors(std::array::from_fn(|_| Counter::default()))
    }
}

const REFUSED: [(Refused, &str); 3] = [
    (Refused::Total, "total"),
    (Refused::PerAddress, "per_address"),
    (Refused::Attempts, "attempts"),
];

/// The codes of ERROR frames, as in `docs/protocols/stomp.md`; the last stands for all others.
const CODES: [&str; 38] = [
    "unknown_command",
    "malformed_header",
    "unknown_escape",
    "not_utf8",
    "too_many_headers",
    "header_too_long",
    "frame_too_large",
    "bad_content_length",
    "unexpected_body",
    "unsupported_version",
    "bad_heart_beat",
    "not_connected",
    "already_connected",
    "unexpected_command",
    "missing_header",
    "bad_header",
    "name_too_long",
    "duplicate_subscription",
    "too_many_subscriptions",
    "unknown_subscription",
    "unknown_message",
    "duplicate_transaction",
    "too_many_transactions",
    "unknown_transaction",
    "transaction_too_large",
    "bad_credentials",
    "forbidden",
    "unknown_destination",
    "not_available",
    "queue_full",
    "rate_limited",
    "slow_reader",
    "gone",
    "shutting_down",
    "unavailable",
    "internal",
    "locked_out",
    "other",
];

impl StompCounters {
    pub(super) fn refused(&self, why: Refused) {
        if let Some(slot) = REFUSED.iter().position(|(known, _)| *known == why) {
            self.refused[slot].increment();
        }
    }

    pub(super) fn frame(&self, command: Command) {
        if let Some(slot) = Command::ALL.iter().position(|known| *known == command) {
            self.frames[slot].increment();
        }
    }

    pub(super) fn error(&self, code: &str) {
        let slot = CODES.iter().position(|known| *known == code).unwrap_or(CODES.len() - 1);
        self.errors.0[slot].increment();
    }

    pub(super) fn closed(&self, reason: CloseReason) {
        if let Some(slot) = CloseReason::ALL.iter().position(|known| *known == reason) {
            self.closed[slot].increment();
        }
    }
}

impl MetricSource for StompCounters {
    fn collect(&self, sink: &mut dyn MetricSink) {
        let help = "Open STOMP connections";
        sink.gauge("stomp_connections", help, &[], self.connections.get());
        let mut counter = |name: &str, help: &str, value: &Counter| {
            sink.counter(name, help, &[], value.get());
        };
        counter("stomp_accepted", "STOMP connections accepted or upgraded", &self.accepted);
        counter("stomp_accept_errors", "Failed accepts", &self.accept_errors);
        counter("stomp_tls_failures", "Failed TLS handshakes", &self.tls_failures);
        counter("stomp_connected", "Connections that said who they are", &self.connected);
        counter("stomp_heart_beats", "Heart-beats sent", &self.heart_beats);
        counter("stomp_gone", "Connections ended because no heart-beat came", &self.gone);
        counter("stomp_delayed_reads", "Reads paused by the frame rate", &self.delayed_reads);
        counter(
            "stomp_resumed",
            "Subscriptions that went on from history after a slow reader",
            &self.resumed,
        );
        counter(
            "stomp_dead_letters",
            "Messages of queues that nobody could do",
            &self.dead_letters,
        );
        counter(
            "stomp_dead_letters_failed",
            "Dead letters that could not be published and stay in their queue until they can",
            &self.dead_letters_failed,
        );
        counter("stomp_gaps", "Losses that subscribers were told of", &self.gaps);
        for ((_, why), value) in REFUSED.iter().zip(&self.refused) {
            let help = "STOMP connections refused by a limit";
            sink.counter("stomp_refused", help, &[("limit", why)], value.get());
        }
        for (command, value) in Command::ALL.iter().zip(&self.frames) {
            let labels = [("command", command.name())];
            sink.counter("stomp_frames", "Frames of clients", &labels, value.get());
        }
        for (code, value) in CODES.iter().zip(&self.errors.0) {
            sink.counter("stomp_errors", "ERROR frames sent", &[("code", code)], value.get());
        }
        for (reason, value) in CloseReason::ALL.iter().zip(&self.closed) {
            let labels = [("reason", reason.label())];
            sink.counter("stomp_closed", "Ended connections", &labels, value.get());
        }
    }
}
