//! Memory per phone at rest: the server's memory before and after the phones came, said a little
//! and fell silent. They stay connected and answer pings while memory is read.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;
use tokio::task::JoinSet;

use super::{BridgeBenchArgs, exit_code, show};
use crate::load::gather::Field;
use crate::process::{self, Memory};
use crate::text_table::{Table, grouped};

const FIRST_REPLY_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug, Serialize)]
struct Report {
    phones: usize,
    messages_per_phone: usize,
    settle_s: f64,
    before: Memory,
    after: Memory,
    /// May be negative when the server gave memory back meanwhile.
    rss_kib_per_phone: f64,
    anonymous_kib_per_phone: f64,
    disconnects: usize,
}

pub(super) async fn run(args: &BridgeBenchArgs) -> anyhow::Result<ExitCode> {
    let pid = args.pid.context("invariant: --idle was checked to have --pid")?;
    let field = Field::new(&args.target, args.plan()).await?;
    let before = process::memory(pid)?;
    let sessions = field.meet(args.idle_messages).await?;
    let sessions = field.settle(&args.api, sessions, FIRST_REPLY_TIMEOUT).await?;
    let mut resting = JoinSet::new();
    for mut session in sessions {
        resting.spawn(async move { session.until_end().await });
    }
    tokio::time::sleep(args.settle).await;
    let after = process::memory(pid)?;
    let mut disconnects = 0;
    while let Some(ended) = resting.try_join_next() {
        ended.context("a phone's task ended")?;
        disconnects += 1;
    }
    let report = Report {
        phones: args.phones,
        messages_per_phone: args.idle_messages,
        settle_s: args.settle.as_secs_f64(),
        before,
        after,
        rss_kib_per_phone: per_phone(before.rss_kib, after.rss_kib, args.phones),
        anonymous_kib_per_phone: per_phone(before.anonymous_kib, after.anonymous_kib, args.phones),
        disconnects,
    };
    show(&report, args.json)?;
    Ok(exit_code(report.disconnects == 0))
}

#[expect(clippy::cast_precision_loss, reason = "KiB and phones are far below 2^53")]
fn per_phone(before_kib: u64, after_kib: u64, phones: usize) -> f64 {
    (after_kib as f64 - before_kib as f64) / phones as f64
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut table = Table::default();
        let phones = format!(
            "{} at rest for {:.0} s after {} messages each",
            self.phones, self.settle_s, self.messages_per_phone
        );
        table.row("phones", phones);
        let memory = |memory: Memory| {
            format!(
                "{} KiB resident, {} KiB anonymous",
                grouped(memory.rss_kib),
                grouped(memory.anonymous_kib)
            )
        };
        table.row("before", memory(self.before));
        table.row("after", memory(self.after));
        let each = format!(
            "{:.2} KiB resident, {:.2} KiB anonymous",
            self.rss_kib_per_phone, self.anonymous_kib_per_phone
        );
        table.row("per phone", each);
        table.row("cut off", self.disconnects);
        table.fmt(f)
    }
}
