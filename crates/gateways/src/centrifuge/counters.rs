//! The Centrifuge gateway's figures.

use naru_domain::CloseReason;
use naru_domain::metrics::{Counter, Gauge, MetricSink, MetricSource};
use naru_wire::centrifuge::{ErrorCode, Request};

/// What the gateway counts.
#[derive(Debug, Default)]
pub struct ClientCounters {
    pub(super) connections: Gauge,
    pub(super) emulated: Gauge,
    pub(super) accepted: Counter,
    pub(super) refused: Counter,
    pub(super) connected: Counter,
    pub(super) pings: Counter,
    pub(super) pongs_missed: Counter,
    pub(super) delayed_reads: Counter,
    commands: [Counter; COMMANDS.len()],
    errors: [Counter; ErrorCode::ALL.len()],
    application_errors: Counter,
    closed: [Counter; CloseReason::ALL.len()],
}

const COMMANDS: [&str; 14] = [
    "connect",
    "subscribe",
    "unsubscribe",
    "publish",
    "presence",
    "presence_stats",
    "history",
    "rpc",
    "send",
    "refresh",
    "sub_refresh",
    "ping",
    "pong",
    "nothing",
];

impl ClientCounters {
    pub(super) fn command(&self, request: &Request) {
        if let Some(slot) = COMMANDS.iter().position(|name| *name == request.label()) {
            self.commands[slot].increment();
        }
    }

    pub(super) fn error(&self, code: u32) {
        match ErrorCode::ALL.iter().position(|each| each.code() == code) {
            Some(slot) => self.errors[slot].increment(),
            None => self.application_errors.increment(),
        }
    }

    pub(super) fn closed(&self, reason: CloseReason) {
        if let Some(slot) = CloseReason::ALL.iter().position(|known| *known == reason) {
            self.closed[slot].increment();
        }
    }
}

impl MetricSource for ClientCounters {
    fn collect(&self, sink: &mut dyn MetricSink) {
        let help = "Open Centrifuge connections";
        sink.gauge("client_connections", help, &[], self.connections.get());
        let help = "Those of them without a WebSocket";
        sink.gauge("client_emulated", help, &[], self.emulated.get());
        let mut counter = |name: &str, help: &str, value: &Counter| {
            sink.counter(name, help, &[], value.get());
        };
        counter("client_accepted", "Centrifuge connections upgraded", &self.accepted);
        counter("client_refused", "Centrifuge connections refused by a limit", &self.refused);
        counter("client_connected", "Connections that said who they are", &self.connected);
        counter("client_pings", "Pings sent", &self.pings);
        counter("client_pongs_missed", "Pings that were not answered in time", &self.pongs_missed);
        counter("client_delayed_reads", "Reads paused by the command rate", &self.delayed_reads);
        counter(
            "client_application_errors",
            "Commands refused with a code of the application",
            &self.application_errors,
        );
        for (name, value) in COMMANDS.iter().zip(&self.commands) {
            sink.counter("client_commands", "Commands by kind", &[("command", name)], value.get());
        }
        for (code, value) in ErrorCode::ALL.iter().zip(&self.errors) {
            let text = code.code().to_string();
            sink.counter("client_errors", "Refused commands", &[("code", &text)], value.get());
        }
        for (reason, value) in CloseReason::ALL.iter().zip(&self.closed) {
            let labels = [("reason", reason.label())];
            sink.counter("client_closed", "Ended connections", &labels, value.get());
        }
    }
}
