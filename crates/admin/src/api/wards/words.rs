//! Says for people what happened to a ward.

use naru_domain::work::Role;
use naru_supervisor::life::{About, Action, Event, Happening, Reason, Verdict, Wish};
use naru_supervisor::model::Ending;
use serde_json::Value;

use super::views::{by, intent_kind};
use crate::mask;

/// An event's particulars in a sentence; empty if they are of a kind that is not known here.
pub(super) fn event(body: &Value, role: Role) -> String {
    match serde_json::from_value::<Event>(body.clone()) {
        Ok(event) => happening(&event.what, role),
        // Alerts and notices bring their words along.
        Err(_other) => body["text"].as_str().unwrap_or_default().to_owned(),
    }
}

fn happening(what: &Happening, role: Role) -> String {
    match what {
        Happening::Ordered { wish: wanted, by: whom, reason, .. } => {
            because(format!("{} by {}", wish(*wanted), by(whom)), reason)
        }
        Happening::PortsTaken { ports } => format!("the start waits for ports: {ports}"),
        Happening::Started { process } => format!("started as process {}", process.pid),
        Happening::Ready { how, after_ms } => {
            format!("ready after {:.1} s ({how})", Seconds(*after_ms).as_f64())
        }
        Happening::StartFailed { verdict } => {
            format!("did not start: {}", first_reason(verdict, role))
        }
        Happening::StopBegan { kind, by: whom, reason, .. } => {
            because(format!("{} began, by {}", intent_kind(*kind), by(whom)), reason)
        }
        Happening::StopCancelled { by: whom, .. } => format!("cancelled by {}", by(whom)),
        Happening::Saved { confirmed: true, .. } => "saved".to_owned(),
        Happening::Saved { note, .. } => because("the save was not confirmed".to_owned(), note),
        Happening::Rung { index, action, result, .. } => {
            because(format!("step {} of the stop: {}", index + 1, action_text(*action)), result)
        }
        Happening::Exited { ending: how, verdict, .. } => {
            format!("{} ({})", verdict.cause.text(), ending(*how))
        }
        Happening::Revised { verdict, .. } => {
            format!("the last end, seen anew: {}", verdict.cause.text())
        }
        Happening::RestartPlanned { delay_ms, tries_left } => {
            let left = tries_left.map_or(String::new(), |left| format!(", {left} tries left"));
            format!("starts again in {:.1} s{left}", Seconds(*delay_ms).as_f64())
        }
        Happening::GaveUp { tries } => format!("gave up after {tries} restarts"),
        Happening::Stopped => "is down".to_owned(),
        Happening::Held { .. } => "is down for a backup".to_owned(),
        Happening::Released { in_time: true, .. } => "the backup is over".to_owned(),
        Happening::Released { .. } => "the backup was not over in time".to_owned(),
        Happening::Adopted { process, watched } => {
            let how = if *watched { ", only watched" } else { "" };
            format!("found running as process {}{how}", process.pid)
        }
        Happening::Lost { why } => because("lost".to_owned(), why),
        Happening::Hung { reasons } => {
            let reasons: Vec<String> = reasons.iter().map(|reason| shown(reason, role)).collect();
            because("hangs".to_owned(), &reasons.join("; "))
        }
        Happening::Recovered => "works again".to_owned(),
        Happening::NotRecorded { what } => {
            format!("could not be recorded before it was done: {what}")
        }
        Happening::Unkillable => "cannot be killed".to_owned(),
    }
}

/// A length of time for people.
struct Seconds(u64);

impl Seconds {
    fn as_f64(&self) -> f64 {
        std::time::Duration::from_millis(self.0).as_secs_f64()
    }
}

fn because(what: String, why: &str) -> String {
    if why.is_empty() { what } else { format!("{what}: {why}") }
}

fn shown(reason: &Reason, role: Role) -> String {
    match reason.about {
        About::Evidence => mask::text(role, &reason.text),
        _ => reason.text.clone(),
    }
}

fn first_reason(verdict: &Verdict, role: Role) -> String {
    verdict.reasons.first().map_or(String::new(), |reason| shown(reason, role))
}

fn wish(wish: Wish) -> &'static str {
    match wish {
        Wish::Start => "start ordered",
        Wish::Stop => "stop ordered",
        Wish::Restart => "restart ordered",
        Wish::Kill => "kill ordered",
        Wish::Backup => "backup ordered",
        Wish::Release(_) => "release ordered",
        Wish::Cancel => "cancel ordered",
    }
}

fn action_text(action: Action) -> String {
    match action {
        Action::Api => "its protocol".to_owned(),
        Action::Console => "its console".to_owned(),
        Action::Signal(signal) => format!("signal {signal}"),
        Action::Kill => "kill".to_owned(),
    }
}

/// How a process ended.
pub(super) fn ending(ending: Ending) -> String {
    match ending {
        // Windows' codes for crashes are known by their digits.
        Ending::Code(code) if code.cast_unsigned() >= 0xC000_0000 => {
            format!("code {:#010X}", code.cast_unsigned())
        }
        Ending::Code(code) => format!("code {code}"),
        Ending::Signal(signal) => format!("signal {signal}"),
        Ending::Unknown => "nobody could say how".to_owned(),
    }
}

/// Hides people and what games printed in the particulars of an event from those who may not read it.
pub(super) fn masked(role: Role, body: &mut Value) {
    if mask::sees_all(role) {
        return;
    }
    match body {
        Value::Object(fields) => {
            let quotes = fields.get("about").is_some_and(|about| about == "evidence");
            for (field, value) in fields {
                match (field.as_str(), &mut *value) {
                    ("name" | "player" | "id", Value::String(name)) => {
                        *name = mask::name(role, name);
                    }
                    ("line", Value::String(line)) => *line = mask::text(role, line),
                    ("text", Value::String(text)) if quotes => *text = mask::text(role, text),
                    ("names" | "players", Value::Array(names)) => {
                        let texts = names.iter_mut().filter(|name| name.is_string());
                        texts.for_each(|name| {
                            *name = mask::name(role, name.as_str().unwrap_or_default()).into();
                        });
                    }
                    (_, value) => masked(role, value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| masked(role, item)),
        _ => (),
    }
}

#[cfg(test)]
mod tests {
    use naru_domain::Timestamp;
    use naru_supervisor::life::{By, Cause, Confidence, OperationId};
    use serde_json::json;

    use super::*;

    fn said(what: Happening, role: Role) -> String {
        let body = serde_json::to_value(Event { at: Timestamp(0), what }).unwrap();
        event(&body, role)
    }

    #[test]
    fn events_of_a_life_are_said_in_words() {
        let evidence = "the log says that it stops: <Kim> bye".to_owned();
        let verdict = Verdict {
            cause: Cause::Crashed,
            restart: true,
            reasons: vec![Reason { about: About::Evidence, text: evidence }],
            confidence: Confidence::Certain,
        };
        let exited = Happening::Exited {
            process: None,
            ending: Ending::Signal(11),
            ended: Timestamp(0),
            verdict: verdict.clone(),
        };
        assert_eq!(said(exited, Role::Viewer), "crashed (signal 11)");
        let failed = Happening::StartFailed { verdict };
        assert!(said(failed.clone(), Role::Operator).ends_with("<Kim> bye"));
        assert_eq!(said(failed, Role::Viewer), "did not start: [37 characters]");
        let ordered = Happening::Ordered {
            wish: Wish::Stop,
            by: By::Operator("token:laptop".to_owned()),
            reason: "update".to_owned(),
            operation: Some(OperationId(3)),
        };
        assert_eq!(said(ordered, Role::Viewer), "stop ordered by operator:token:laptop: update");
        let planned = Happening::RestartPlanned { delay_ms: 1_500, tries_left: Some(2) };
        assert_eq!(said(planned, Role::Viewer), "starts again in 1.5 s, 2 tries left");
    }

    #[test]
    fn other_events_bring_their_words_along_or_have_none() {
        assert_eq!(event(&json!({ "text": "memory grows" }), Role::Viewer), "memory grows");
        assert_eq!(event(&json!({ "odd": 1 }), Role::Viewer), "");
        assert_eq!(event(&Value::Null, Role::Viewer), "");
    }

    #[test]
    fn people_in_particulars_are_hidden_from_viewers_only() {
        let full = json!({
            "name": "Kim", "names": ["Lee"], "line": "<Kim> hi",
            "verdict": { "reasons": [
                { "about": "evidence", "text": "<Kim> stop" },
                { "about": "ending", "text": "code 1" },
            ]},
        });
        let mut seen = full.clone();
        masked(Role::Operator, &mut seen);
        assert_eq!(seen, full);
        masked(Role::Viewer, &mut seen);
        assert_eq!((&seen["name"], &seen["names"][0]), (&json!("K***"), &json!("L***")));
        assert_eq!(seen["line"], "[8 characters]");
        assert_eq!(seen["verdict"]["reasons"][0]["text"], "[10 characters]");
        assert_eq!(seen["verdict"]["reasons"][1]["text"], "code 1");
    }
}
