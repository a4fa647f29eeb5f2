//! The account of a durability run: what was sent, what the server says it accepted, what was
//! answered, and what that leaves.
//!
//! A phone gets no receipts, so a message without a reply is judged by evidence: either the server
//! lists it (then it was accepted and lost), or something sent later on the same connection was
//! answered (then it had arrived, TCP being ordered, and was lost), or it went down with the
//! connection.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;
use serde_json::Value;

use crate::account::Totals;
use crate::api::Api;
use crate::load::phone::Phone;
use crate::load::reader::Tally;
use crate::text_table::{Table, grouped};

/// Log number of each message of this run that the server lists, and its state.
pub(super) type Accepted = HashMap<u64, String>;

#[derive(Debug, Default, PartialEq, Serialize)]
pub(super) struct Report {
    elapsed_s: f64,
    kills: u64,
    sent: u64,
    /// By the server's own list; `null` without API.
    accepted: Option<u64>,
    answered: u64,
    /// Accepted, or certainly received, and never answered.
    lost: u64,
    /// The lost ones by the state in which the server lists them.
    lost_states: BTreeMap<String, u64>,
    doubled: u64,
    reordered: u64,
    foreign: u64,
    malformed: u64,
    first_fault: Option<String>,
    /// Went down with a connection; the server does not list them. `null` without API.
    not_accepted: Option<u64>,
    /// Neither answered nor known to be lost or refused. Always zero with API.
    unaccounted: u64,
    /// Answered, but not in the server's list. `null` without API.
    unlisted: Option<u64>,
}

/// Lists the messages of the run with these digits in their log ids.
pub(super) async fn accepted(api: &Api, run: u64) -> anyhow::Result<Accepted> {
    let prefix = format!("3{run:07}");
    // Lists are newest first: a log id of an earlier run means that ours are through.
    let earlier = |item: &Value| {
        log_id(item).is_some_and(|id| id.len() == 19 && id.starts_with('3') && id[..8] < prefix[..])
    };
    let mut accepted = Accepted::new();
    for item in api.list("messages", earlier).await? {
        let Some(number) = log_id(&item).and_then(|id| id.strip_prefix(&prefix)?.parse().ok())
        else {
            continue;
        };
        let state = item["state"].as_str().unwrap_or("unknown").to_owned();
        accepted.insert(number, state);
    }
    Ok(accepted)
}

fn log_id(item: &Value) -> Option<&str> {
    item["log_id"].as_str()
}

pub(super) fn compile(
    phones: &[Arc<Mutex<Phone>>],
    accepted: Option<&Accepted>,
    tally: &Tally,
    kills: u64,
    elapsed: Duration,
) -> Report {
    let mut totals = Totals::default();
    let mut silent = Vec::new();
    for phone in phones {
        let phone = phone.lock();
        totals.add(phone.totals());
        silent.extend(phone.unanswered().map(|(note, arrived)| (note.log_number, arrived)));
    }
    let mut report = judge(totals, &silent, accepted);
    report.elapsed_s = elapsed.as_secs_f64();
    report.kills = kills;
    report.malformed = tally.malformed;
    report.first_fault.clone_from(&tally.first_fault);
    report
}

/// `silent`: log numbers without a reply, and whether they had certainly arrived.
fn judge(totals: Totals, silent: &[(u64, bool)], accepted: Option<&Accepted>) -> Report {
    let mut report = Report {
        sent: totals.sent - totals.forgotten,
        answered: totals.answered,
        doubled: totals.doubled,
        reordered: totals.reordered,
        foreign: totals.foreign,
        ..Report::default()
    };
    let mut not_accepted = 0;
    for (log_number, arrived) in silent {
        let state = accepted.and_then(|accepted| accepted.get(log_number));
        if let Some(state) = state {
            report.lost += 1;
            *report.lost_states.entry(state.clone()).or_default() += 1;
        } else if *arrived {
            report.lost += 1;
            *report.lost_states.entry("unlisted".to_owned()).or_default() += 1;
        } else if accepted.is_some() {
            not_accepted += 1;
        } else {
            report.unaccounted += 1;
        }
    }
    if let Some(accepted) = accepted {
        let count = u64::try_from(accepted.len()).unwrap_or(u64::MAX);
        let listed_lost = report.lost - report.lost_states.get("unlisted").copied().unwrap_or(0);
        report.accepted = Some(count);
        report.not_accepted = Some(not_accepted);
        // Messages from before approval are listed too, so this is a lower bound of what is missing.
        report.unlisted = Some((totals.answered + listed_lost).saturating_sub(count));
    }
    report
}

impl Report {
    /// Nothing that reached the server was lost, doubled or reordered.
    pub(super) fn clean(&self) -> bool {
        self.lost + self.doubled + self.reordered + self.foreign + self.malformed == 0
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut table = Table::default();
        let number = |number: Option<u64>| number.map_or_else(|| "unknown".to_owned(), grouped);
        table.row("run", format!("{:.1} s, {} kills", self.elapsed_s, self.kills));
        table.row("sent", grouped(self.sent));
        table.row("accepted", number(self.accepted));
        table.row("answered", grouped(self.answered));
        table.row("lost", grouped(self.lost));
        for (state, count) in &self.lost_states {
            table.row(&format!("  {state}"), grouped(*count));
        }
        table.row("doubled", grouped(self.doubled));
        table.row("reordered", grouped(self.reordered));
        table.row("foreign", grouped(self.foreign));
        table.row("malformed", grouped(self.malformed));
        if let Some(fault) = &self.first_fault {
            table.row("first fault", fault);
        }
        table.row("not accepted", number(self.not_accepted));
        table.row("unaccounted", grouped(self.unaccounted));
        table.row("unlisted", number(self.unlisted));
        table.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn totals(sent: u64, answered: u64) -> Totals {
        Totals { sent, answered, ..Totals::default() }
    }

    #[test]
    fn without_a_list_only_what_was_overtaken_on_its_connection_counts_as_lost() {
        let report = judge(totals(10, 7), &[(3, true), (8, false), (9, false)], None);
        assert_eq!((report.lost, report.unaccounted, report.not_accepted), (1, 2, None));
        assert!(!report.clean());
    }

    #[test]
    fn with_a_list_every_message_has_a_fate() {
        let accepted: Accepted = (0..9).map(|number| (number, "done".to_owned())).collect();
        let report = judge(totals(10, 8), &[(8, false), (9, false)], Some(&accepted));
        assert_eq!((report.lost, report.not_accepted, report.unaccounted), (1, Some(1), 0));
        assert_eq!(report.lost_states["done"], 1);
        assert_eq!(report.unlisted, Some(0));
    }

    #[test]
    fn a_message_that_only_died_with_its_connection_is_no_fault_of_the_server() {
        let accepted: Accepted = (0..9).map(|number| (number, "done".to_owned())).collect();
        assert!(judge(totals(10, 9), &[(9, false)], Some(&accepted)).clean());
    }

    proptest! {
        #[test]
        fn sent_is_always_the_sum_of_all_fates(
            silent in prop::collection::vec((0u64..100, any::<bool>()), 0..50),
            listed in prop::collection::hash_set(0u64..100, 0..100),
            answered in 0u64..1000,
            with_list in any::<bool>(),
        ) {
            let sent = answered + silent.len() as u64;
            let accepted: Accepted =
                listed.into_iter().map(|number| (number, "done".to_owned())).collect();
            let report = judge(totals(sent, answered), &silent, with_list.then_some(&accepted));
            let fates = report.answered
                + report.lost
                + report.not_accepted.unwrap_or(0)
                + report.unaccounted;
            prop_assert_eq!(report.sent, fates);
        }
    }
}
