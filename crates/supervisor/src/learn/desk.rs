//! Open alerts: one of a kind, opened once, closed with a message, not flapping. It judges no values: whoever
//! calls says what is unusual and what is calm.

use std::time::Duration;

use naru_domain::Timestamp;

use super::text;
use super::words::{Alert, AlertChange, AlertKind};

/// Calm minutes before an alert closes.
const CALM_MINUTES: u32 = 5;
/// What goes away by itself within this time is one of the ward's ways.
fn passes_within(kind: AlertKind) -> Duration {
    Duration::from_secs(60 * if kind == AlertKind::MemoryLeak { 240 } else { 30 })
}

/// Why an alert ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Values are usual again.
    Calm,
    /// The process began anew.
    Restart,
    /// It lasted so long that it is usual now.
    Accepted,
}

#[derive(Clone, Debug)]
struct Open {
    alert: Alert,
    opened_at: Timestamp,
    peak: f64,
    calm: u32,
}

/// All kinds, open or not.
#[derive(Clone, Debug, Default)]
pub(super) struct Desk {
    open: [Option<Box<Open>>; AlertKind::ALL.len()],
}

/// What a closed alert was.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Closed {
    /// It came and went by itself, soon.
    pub(super) passing: bool,
    /// The largest excess.
    pub(super) peak: f64,
}

impl Desk {
    pub(super) fn is_open(&self, kind: AlertKind) -> bool {
        self.open[kind.index()].is_some()
    }

    pub(super) fn alerts(&self) -> impl Iterator<Item = &Alert> {
        self.open.iter().flatten().map(|open| &open.alert)
    }

    pub(super) fn opened_at(&self, kind: AlertKind) -> Option<Timestamp> {
        self.open[kind.index()].as_ref().map(|open| open.opened_at)
    }

    /// Something is unusual, by so much in the unit of its rule.
    pub(super) fn raise(
        &mut self,
        now: Timestamp,
        alert: Alert,
        excess: f64,
        changes: &mut Vec<AlertChange>,
    ) {
        let place = &mut self.open[alert.kind.index()];
        match place {
            None => {
                changes.push(AlertChange::Opened(alert.clone()));
                *place = Some(Box::new(Open { alert, opened_at: now, peak: excess, calm: 0 }));
            }
            Some(open) => {
                open.calm = 0;
                open.peak = open.peak.max(excess);
                let since = open.alert.since;
                let worse = alert.severity > open.alert.severity;
                let severity = alert.severity.max(open.alert.severity);
                open.alert = Alert { since, severity, ..alert };
                if worse {
                    changes.push(AlertChange::Worsened(open.alert.clone()));
                }
            }
        }
    }

    /// Still unusual, not enough to open an alert.
    pub(super) fn hold(&mut self, kind: AlertKind) {
        if let Some(open) = &mut self.open[kind.index()] {
            open.calm = 0;
        }
    }

    /// Usual; after some minutes in a row the alert closes.
    pub(super) fn calm(
        &mut self,
        now: Timestamp,
        kind: AlertKind,
        changes: &mut Vec<AlertChange>,
    ) -> Option<Closed> {
        let open = self.open[kind.index()].as_mut()?;
        open.calm += 1;
        if open.calm < CALM_MINUTES {
            return None;
        }
        self.close(now, kind, Ending::Calm, changes)
    }

    /// Ends it at once.
    pub(super) fn close(
        &mut self,
        now: Timestamp,
        kind: AlertKind,
        ending: Ending,
        changes: &mut Vec<AlertChange>,
    ) -> Option<Closed> {
        let open = self.open[kind.index()].take()?;
        let since = open.alert.since;
        let text = text::closed(kind, now.since(since), ending);
        changes.push(AlertChange::Closed { kind, since, at: now, text });
        let lasted = now.since(open.opened_at);
        let passing = ending == Ending::Calm && lasted <= passes_within(kind);
        Some(Closed { passing, peak: open.peak })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learn::words::Series;
    use crate::model::Severity;

    fn alert(severity: Severity) -> Alert {
        Alert {
            kind: AlertKind::CpuHigh,
            series: Series::Cpu,
            severity,
            since: Timestamp(0),
            how_unusual: 4.0,
            expected: 1.0,
            observed: 2.0,
            forecast: None,
            text: String::new(),
        }
    }

    fn at(minute: i64) -> Timestamp {
        Timestamp(minute * 60_000)
    }

    #[test]
    fn an_alert_is_told_once_however_often_it_is_raised() {
        let (mut desk, mut changes) = (Desk::default(), Vec::new());
        for minute in 1..10 {
            desk.raise(at(minute), alert(Severity::Warning), 1.0, &mut changes);
        }
        assert_eq!(changes.len(), 1);
        desk.raise(at(10), alert(Severity::Critical), 2.0, &mut changes);
        assert!(matches!(changes[1], AlertChange::Worsened(_)));
        assert_eq!(desk.alerts().count(), 1);
    }

    #[test]
    fn a_calm_minute_does_not_close_an_alert_but_five_do() {
        let (mut desk, mut changes) = (Desk::default(), Vec::new());
        desk.raise(at(0), alert(Severity::Warning), 1.0, &mut changes);
        for minute in 1..40 {
            if minute % 4 == 0 {
                desk.hold(AlertKind::CpuHigh);
            } else {
                assert_eq!(desk.calm(at(minute), AlertKind::CpuHigh, &mut changes), None);
            }
        }
        for minute in 40..44 {
            desk.calm(at(minute), AlertKind::CpuHigh, &mut changes);
        }
        assert!(!desk.is_open(AlertKind::CpuHigh));
        assert!(matches!(&changes[1], AlertChange::Closed { text, .. } if !text.is_empty()));
    }

    #[test]
    fn what_came_and_went_is_told_apart_from_what_stayed() {
        for (minutes, passing) in [(10, true), (300, false)] {
            let (mut desk, mut changes) = (Desk::default(), Vec::new());
            desk.raise(at(0), alert(Severity::Warning), 0.7, &mut changes);
            let closed = (0..5)
                .filter_map(|_| desk.calm(at(minutes), AlertKind::CpuHigh, &mut changes))
                .next()
                .unwrap();
            assert_eq!(closed, Closed { passing, peak: 0.7 });
        }
    }
}
