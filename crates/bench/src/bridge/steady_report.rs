//! What a steady run found, as a table and as JSON.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::BridgeBenchArgs;
use crate::account::Totals;
use crate::latency::{Figures, Latencies};
use crate::load::pacer::Connected;
use crate::load::reader::Tally;
use crate::process::{Effort, Memory};
use crate::text_table::{Table, grouped, grouped_f};

/// The measured part of a run.
pub(super) struct Measured {
    pub(super) elapsed: Duration,
    /// Echo replies that came in it.
    pub(super) completed: u64,
    pub(super) server: Option<Effort>,
    pub(super) memory: Option<Memory>,
    /// CPU time of this process: load generator, not server.
    pub(super) own_cpu: Duration,
}

/// The result of a steady run. Field names are a contract with scripts that read the JSON.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    phones: usize,
    rooms: usize,
    dialect: String,
    text_bytes: usize,
    /// `rate` or `window`.
    mode: &'static str,
    rate: f64,
    window: usize,
    measured_s: f64,
    completed: u64,
    /// Completions per second.
    throughput: f64,
    latency: Figures,
    service: Figures,
    /// How late messages left; only with a rate.
    send_lateness: Option<Figures>,
    sent: u64,
    answered: u64,
    lost: u64,
    doubled: u64,
    reordered: u64,
    foreign: u64,
    malformed: u64,
    first_fault: Option<String>,
    held_back: u64,
    disconnects: u64,
    others_sent: u64,
    other_replies: u64,
    pings: u64,
    server: Option<ServerCost>,
    generator_cpu_s: f64,
}

#[derive(Debug, Serialize)]
struct ServerCost {
    cpu_s: f64,
    cpu_s_per_million: f64,
    messages_per_cpu_s: f64,
    switches_per_message: f64,
    rss_kib: u64,
    anonymous_kib: u64,
}

pub(super) fn compile(
    args: &BridgeBenchArgs,
    phones: &[Arc<Connected>],
    tally: &Tally,
    measured: &Measured,
    lateness: &Latencies,
) -> Report {
    let mut totals = Totals::default();
    let (mut others_sent, mut held_back) = (0, 0);
    for connected in phones {
        let phone = connected.phone.lock();
        totals.add(phone.totals());
        others_sent += phone.others_sent;
        held_back += phone.held_back;
    }
    let paced = args.rate > 0.0;
    Report {
        phones: args.phones,
        rooms: args.phones * args.rooms_per_phone,
        dialect: format!("{:?}", args.target.dialect).to_lowercase(),
        text_bytes: args.text_bytes.max(crate::load::frames::TEXT_BYTES_MIN),
        mode: if paced { "rate" } else { "window" },
        rate: args.rate,
        window: args.window,
        measured_s: measured.elapsed.as_secs_f64(),
        completed: measured.completed,
        throughput: per(measured.completed, measured.elapsed.as_secs_f64()),
        latency: tally.latency.figures(),
        service: tally.service.figures(),
        send_lateness: paced.then(|| lateness.figures()),
        sent: totals.sent,
        answered: totals.answered,
        lost: totals.unanswered(),
        doubled: totals.doubled,
        reordered: totals.reordered,
        foreign: totals.foreign,
        malformed: tally.malformed,
        first_fault: tally.first_fault.clone(),
        held_back,
        disconnects: tally.disconnects,
        others_sent,
        other_replies: tally.other_replies,
        pings: tally.pings,
        server: measured.server.map(|effort| server_cost(effort, measured)),
        generator_cpu_s: measured.own_cpu.as_secs_f64(),
    }
}

fn server_cost(effort: Effort, measured: &Measured) -> ServerCost {
    let cpu_s = effort.cpu.as_secs_f64();
    let memory = measured.memory.unwrap_or_default();
    ServerCost {
        cpu_s,
        cpu_s_per_million: cpu_s * 1e6 * per(1, as_f64(measured.completed)),
        messages_per_cpu_s: per(measured.completed, cpu_s),
        switches_per_message: per(effort.switches, as_f64(measured.completed)),
        rss_kib: memory.rss_kib,
        anonymous_kib: memory.anonymous_kib,
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of a run are far below 2^53")]
fn as_f64(count: u64) -> f64 {
    count as f64
}

/// `count / amount`, or zero when there was nothing to divide by.
fn per(count: u64, amount: f64) -> f64 {
    if amount > 0.0 { as_f64(count) / amount } else { 0.0 }
}

impl Report {
    /// Nothing was lost, doubled, reordered or malformed, and no connection broke.
    pub(super) fn clean(&self) -> bool {
        let faults = self.lost
            + self.doubled
            + self.reordered
            + self.foreign
            + self.malformed
            + self.held_back
            + self.disconnects;
        faults == 0
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut table = Table::default();
        let load = match self.mode {
            "rate" => format!("{} messages/s", grouped_f(self.rate)),
            _ => format!("closed loop, {} in flight per phone", self.window),
        };
        table.row("load", load);
        let shape = format!(
            "{} with {} rooms, dialect {}, {} bytes of text",
            grouped(u64::try_from(self.phones).unwrap_or(0)),
            grouped(u64::try_from(self.rooms).unwrap_or(0)),
            self.dialect,
            self.text_bytes
        );
        table.row("phones", shape);
        table.row("measured", format!("{:.2} s", self.measured_s));
        let throughput =
            format!("{} messages/s ({})", grouped_f(self.throughput), grouped(self.completed));
        table.row("throughput", throughput);
        table.row("latency", self.latency);
        if let Some(lateness) = self.send_lateness {
            table.row("  of it sending late", lateness);
            table.row("  without lateness", self.service);
        }
        table.row("sent", grouped(self.sent));
        table.row("answered", grouped(self.answered));
        let faults = format!(
            "lost {}  doubled {}  reordered {}  foreign {}  malformed {}",
            self.lost, self.doubled, self.reordered, self.foreign, self.malformed
        );
        table.row("faults", faults);
        if let Some(fault) = &self.first_fault {
            table.row("first fault", fault);
        }
        if self.disconnects + self.held_back > 0 {
            let cut =
                format!("{} cut off, {} messages held back", self.disconnects, self.held_back);
            table.row("connections", cut);
        }
        if self.others_sent > 0 {
            let others = format!("{} sent, {} replies", self.others_sent, self.other_replies);
            table.row("other messages", others);
        }
        if let Some(server) = &self.server {
            let cpu = format!(
                "{:.2} CPU s, {:.2} per million messages, {} messages per CPU s",
                server.cpu_s,
                server.cpu_s_per_million,
                grouped_f(server.messages_per_cpu_s)
            );
            table.row("server", cpu);
            let switches = format!("{:.3} per message", server.switches_per_message);
            table.row("  context switches", switches);
            let memory = format!(
                "{} KiB resident, {} KiB anonymous",
                grouped(server.rss_kib),
                grouped(server.anonymous_kib)
            );
            table.row("  memory", memory);
        }
        table.row("load generator", format!("{:.2} CPU s", self.generator_cpu_s));
        table.fmt(f)
    }
}
