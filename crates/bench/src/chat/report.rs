//! What runs have in common when they report: server cost, units, the way results are shown.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::Setup;
use super::lane::Totals;
use super::links::Links;
use crate::process::{self, Effort, Memory};
use crate::text_table::{Table, grouped, grouped_f};

/// A look at clocks and processes at one moment.
#[derive(Clone, Copy)]
pub(super) struct Look {
    pub(super) at: Instant,
    server: Option<Effort>,
    own: Effort,
}

impl Look {
    pub(super) fn now(pid: Option<u32>) -> anyhow::Result<Look> {
        Ok(Look {
            at: Instant::now(),
            server: pid.map(process::effort).transpose()?,
            own: process::effort(std::process::id())?,
        })
    }

    /// What happened between two looks, with `count` of a thing done.
    pub(super) fn cost(from: Look, to: Look, count: u64, pid: Option<u32>) -> anyhow::Result<Cost> {
        let own = to.own.cpu.saturating_sub(from.own.cpu);
        let server = match (from.server, to.server, pid) {
            (Some(from), Some(to), Some(pid)) => {
                let cpu = to.cpu.saturating_sub(from.cpu);
                let memory = process::memory(pid)?;
                Some(ServerCost {
                    cpu_s: cpu.as_secs_f64(),
                    cpu_us_each: ratio(cpu.as_secs_f64() * 1e6, as_f64(count)),
                    each_per_cpu_s: ratio(as_f64(count), cpu.as_secs_f64()),
                    switches_each: ratio(
                        as_f64(to.switches.saturating_sub(from.switches)),
                        as_f64(count),
                    ),
                    memory,
                })
            }
            _ => None,
        };
        Ok(Cost { server, generator_cpu_s: own.as_secs_f64() })
    }
}

/// What a run cost on both sides.
#[derive(Debug, Serialize)]
pub(super) struct Cost {
    pub(super) server: Option<ServerCost>,
    pub(super) generator_cpu_s: f64,
}

/// What the server paid; "each" is the thing that the run counts.
#[derive(Debug, Serialize)]
pub(super) struct ServerCost {
    pub(super) cpu_s: f64,
    pub(super) cpu_us_each: f64,
    pub(super) each_per_cpu_s: f64,
    pub(super) switches_each: f64,
    #[serde(flatten)]
    pub(super) memory: Memory,
}

impl Cost {
    pub(super) fn rows(&self, table: &mut Table, each: &str) {
        if let Some(server) = &self.server {
            let cpu = format!(
                "{:.2} CPU s, {:.3} us per {each}, {} per CPU s",
                server.cpu_s,
                server.cpu_us_each,
                grouped_f(server.each_per_cpu_s)
            );
            table.row("server", cpu);
            table.row("  context switches", format!("{:.4} per {each}", server.switches_each));
            table.row("  memory", memory_text(server.memory));
        }
        table.row("load generator", format!("{:.2} CPU s", self.generator_cpu_s));
    }
}

pub(super) fn memory_text(memory: Memory) -> String {
    let (rss, anonymous) = (grouped(memory.rss_kib), grouped(memory.anonymous_kib));
    format!("{rss} KiB resident, {anonymous} KiB anonymous")
}

/// What went wrong with connections.
#[derive(Debug, Serialize)]
pub(super) struct Trouble {
    pub(super) disconnects: u64,
    pub(super) refused: u64,
    pub(super) first_fault: Option<String>,
}

impl Trouble {
    pub(super) fn of(links: &Links) -> Trouble {
        Trouble {
            disconnects: links.counts.cut,
            refused: links.counts.refused,
            first_fault: links.counts.first_fault.clone(),
        }
    }

    pub(super) fn none(&self) -> bool {
        self.disconnects + self.refused == 0
    }

    pub(super) fn rows(&self, table: &mut Table) {
        if !self.none() {
            table.row("trouble", format!("{} cut off, {} refused", self.disconnects, self.refused));
        }
        if let Some(fault) = &self.first_fault {
            table.row("first fault", fault.escape_debug());
        }
    }
}

/// Prints a result in the form that was asked for.
pub(super) fn show<T>(result: &T, json: bool, clean: bool) -> anyhow::Result<ExitCode>
where
    T: Serialize + std::fmt::Display,
{
    let text = if json { serde_json::to_string(result)? } else { result.to_string() };
    crate::text_table::print_line(text.trim_end());
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[expect(clippy::cast_precision_loss, reason = "counts of a run are far below 2^53")]
pub(super) fn as_f64(count: u64) -> f64 {
    count as f64
}

/// Zero when there is nothing to divide by.
pub(super) fn ratio(amount: f64, by: f64) -> f64 {
    if by > 0.0 { amount / by } else { 0.0 }
}

pub(super) fn per_second(count: u64, elapsed: Duration) -> f64 {
    ratio(as_f64(count), elapsed.as_secs_f64())
}

/// A bar over a span of time or a count; hidden where nobody looks.
pub(super) struct Progress {
    bar: ProgressBar,
    shown: Instant,
}

impl Progress {
    pub(super) fn new(setup: &Setup, length: u64) -> Progress {
        use std::io::IsTerminal as _;
        let hidden = setup.common.json || !std::io::stderr().is_terminal();
        let bar = if hidden { ProgressBar::hidden() } else { ProgressBar::new(length) };
        let style = ProgressStyle::with_template("{bar:40} {percent:>3} % {elapsed_precise} {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Progress { bar, shown: Instant::now() }
    }

    pub(super) fn over(setup: &Setup, time: Duration) -> Progress {
        Progress::new(setup, u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
    }

    /// Shows a position, a few times a second at most.
    pub(super) fn at(&mut self, now: Instant, position: u64, message: &'static str) {
        const EVERY: Duration = Duration::from_millis(200);
        if now.saturating_duration_since(self.shown) > EVERY {
            self.shown = now;
            self.bar.set_position(position);
            self.bar.set_message(message);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// What was published, and what became of it.
pub(super) fn totals_rows(totals: &Totals, published: u64, table: &mut Table) {
    let counts = format!("{}, delivered {}", grouped(published), grouped(totals.delivered));
    table.row("published", counts);
    let Totals { lost, doubled, reordered, foreign, spoilt, .. } = totals;
    let faults = format!(
        "lost {lost}  doubled {doubled}  reordered {reordered}  foreign {foreign}  spoilt {spoilt}"
    );
    table.row("faults", faults);
}
