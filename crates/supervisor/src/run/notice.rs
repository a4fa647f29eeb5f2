//! Tells and keeps: notices go to the outbox, events to the history, figures to the store. All of it in tasks; the
//! loop never waits for a disk or a receiver.

use std::borrow::Cow;
use std::sync::Arc;

use naru_domain::ports::{OutboxBatch, OutboxMessage, WardRecord};
use naru_domain::{Durability, Timestamp};
use tokio::time::Instant;
use tracing::warn;

use super::begin::LEARNED;
use super::supervisor::Supervisor;
use crate::learn::{Alert, AlertChange, Mark};
use crate::life::{self, Event, Happening};
use crate::measure::{Change, Memory, MemoryStep};
use crate::model::{Severity, WardName};
use crate::tell::Notice;

impl Supervisor {
    /// A life wants somebody to know something.
    pub(super) fn notify(&mut self, name: &WardName, notice: life::Notice) {
        let facts = notice.facts.into_iter().map(|fact| (Cow::Borrowed(fact.name), fact.value));
        let notice = Notice {
            ward: Some(name.clone()),
            kind: Cow::Owned(word_of(&notice.kind)),
            severity: notice.severity,
            title: format!("{name}: {}", notice.title),
            text: String::new(),
            facts: facts.collect(),
            at: self.ports.clock.now(),
        };
        self.tell(notice);
    }

    /// Tells everybody who wants to know.
    pub(super) fn tell(&mut self, notice: Notice) {
        match notice.severity {
            Severity::Info => tracing::info!(target: "naru::wards", title = notice.title, "notice"),
            _ => warn!(target: "naru::wards", title = notice.title, "notice"),
        }
        self.shown.lock().count_notice(notice.severity);
        let messages = self.teller.tell(notice, self.ports.clock.now());
        self.post(messages);
    }

    /// Notices that were counted for a while.
    pub(super) fn tell_gathered(&mut self, wall: Timestamp) {
        let messages = self.teller.due(wall);
        self.post(messages);
    }

    /// Puts messages into the outbox.
    pub(super) fn post(&mut self, messages: Vec<OutboxMessage>) {
        if messages.is_empty() {
            return;
        }
        let outbox = Arc::clone(&self.ports.outbox);
        let wake = Arc::clone(&self.ports.wake_relay);
        self.tasks.spawn(async move {
            match outbox.put(&OutboxBatch::new(messages), Durability::Os).await {
                Ok(_receipt) => wake(),
                Err(error) => {
                    warn!(target: "naru::wards", %error, "a notice was not kept and reaches nobody");
                }
            }
        });
    }

    /// Writes what happened into the history. Ends are kept at once, the rest with the next flush.
    pub(super) fn write_history(&mut self, name: &WardName, event: &Event) {
        let is_urgent = matches!(
            event.what,
            Happening::Exited { .. }
                | Happening::Revised { .. }
                | Happening::GaveUp { .. }
                | Happening::Hung { .. }
                | Happening::StartFailed { .. }
        );
        let body = serde_json::to_value(event).unwrap_or_default();
        let kind = body.get("event").and_then(|kind| kind.as_str()).unwrap_or("event").to_owned();
        self.pending.add_event(name, &kind, &body.to_string(), event.at, is_urgent);
        if let Happening::Exited { verdict, ended, .. } = &event.what {
            let mut shown = self.shown.lock();
            shown.count_exit(name, verdict.cause);
            // An end while Naru was away says nothing about how fast it decides.
            if self.origin.elapsed() > event.at.since(*ended) {
                shown.decisions.observe(event.at.since(*ended));
            }
        }
        if matches!(event.what, Happening::RestartPlanned { .. }) {
            self.shown.lock().count_restart(name);
        }
    }

    /// Sends what waits to the store.
    pub(super) fn flush(&mut self, wall: Timestamp, instant: Instant) {
        let Some(batch) = self.pending.begin(wall, instant.into_std()) else { return };
        let history = Arc::clone(&self.ports.history);
        let kept = self.kept.clone();
        self.tasks.spawn(async move {
            let result = history.flush(batch, Durability::Os).await;
            if let Err(error) = &result {
                warn!(target: "naru::wards", %error, "figures were not kept; they wait for the next time");
            }
            // The loop has ended when this fails.
            let _told = kept.send(result.is_ok()).await;
        });
    }

    /// What every learner knows, for the next Naru.
    pub(super) fn keep_learned(&mut self) {
        let at = self.ports.clock.now();
        for (name, charge) in &self.charges {
            if let Some(body) = super::figures::remember(&charge.learner) {
                let (ward, part) = (Arc::from(name.as_str()), Arc::from(LEARNED));
                let record = WardRecord { ward, part, body, at };
                if !self.pending.add_record(record) {
                    warn!(target: "naru::wards", ward = %name, "what was learned is too large to keep");
                }
            }
        }
    }

    /// Something happened that the learner has to know.
    pub(super) fn learn_mark(&mut self, name: &WardName, mark: Mark) {
        let now = self.ports.clock.now();
        let Some(charge) = self.charges.get_mut(name) else { return };
        let changes = charge.learner.mark(now, mark);
        self.alerts_changed(name, changes);
    }

    /// Alerts began, got worse or ended.
    pub(super) fn alerts_changed(&mut self, name: &WardName, changes: Vec<AlertChange>) {
        let now = self.ports.clock.now();
        for change in changes {
            let body = serde_json::to_string(&change).unwrap_or_default();
            let (kind, notice) = match change {
                AlertChange::Opened(alert) => ("alert_opened", alert_notice(name, &alert, now)),
                AlertChange::Worsened(alert) => ("alert_worsened", alert_notice(name, &alert, now)),
                AlertChange::Closed { kind, text, .. } => (
                    "alert_closed",
                    Notice {
                        ward: Some(name.clone()),
                        kind: Cow::Owned(format!("{}_over", word_of(&kind))),
                        severity: Severity::Info,
                        title: format!("{name}: over: {}", word_of(&kind).replace('_', " ")),
                        text,
                        facts: Vec::new(),
                        at: now,
                    },
                ),
            };
            self.pending.add_event(name, kind, &body, now, false);
            self.tell(notice);
        }
    }

    /// Players came and went.
    pub(super) fn players_changed(&mut self, name: &WardName, changes: &[Change]) {
        for change in changes {
            if let Change::Peak { count, at } = change {
                let body = serde_json::json!({ "players": count }).to_string();
                self.pending.add_event(name, "players_peak", &body, *at, false);
            }
        }
    }

    /// Memory became scarce, or is not any more.
    pub(super) fn tell_memory(&mut self, step: MemoryStep) {
        let title = match step.to {
            Memory::Fine => "The machine has memory again",
            Memory::Tight => "The machine's memory is getting tight",
            Memory::Critical => "The machine is nearly out of memory",
        };
        let used = self.host.map(|host| u32::from(host.memory_permille()) / 10);
        self.tell(Notice {
            ward: None,
            kind: Cow::Borrowed("memory"),
            severity: step.to.severity(),
            title: title.to_owned(),
            text: "Naru has given up its own caches and looks less often.".to_owned(),
            facts: used
                .map(|used| (Cow::Borrowed("used"), format!("{used} %")))
                .into_iter()
                .collect(),
            at: self.ports.clock.now(),
        });
    }
}

fn alert_notice(name: &WardName, alert: &Alert, now: Timestamp) -> Notice {
    let kind = word_of(&alert.kind);
    Notice {
        ward: Some(name.clone()),
        title: format!("{name}: {}", kind.replace('_', " ")),
        kind: Cow::Owned(kind),
        severity: alert.severity,
        text: alert.text.clone(),
        facts: vec![
            (Cow::Borrowed("expected"), format!("{:.2}", alert.expected)),
            (Cow::Borrowed("observed"), format!("{:.2}", alert.observed)),
        ],
        at: now,
    }
}

/// The word by which an enum's variant is written.
pub(super) fn word_of<T: serde::Serialize>(value: &T) -> String {
    let text = serde_json::to_value(value).ok();
    text.and_then(|text| text.as_str().map(str::to_owned)).unwrap_or_default()
}
