//! What each kind of receiver takes: the JSON of Discord, of Slack, and our own, within their limits.
//!
//! Discord: embeds with a title of 256, a text of 4,096, 25 fields of 256 and 1,024, a footer of 2,048, and
//! 6,000 in all (docs.discord.com, resources/message). Slack: header 150, section 3,000, 10 fields of 2,000,
//! a text of 40,000 (api.slack.com, reference/block-kit). Both count characters; we count UTF-16 units,
//! which are never fewer.

use chrono::{DateTime, SecondsFormat, Utc};
use naru_domain::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::text::{Line, Markup, theirs};
use super::{FACTS_MAX, Form, Notice, Words};
use crate::model::Severity;

/// In all of a Discord embed, with room for what is counted in other ways.
const DISCORD_UNITS_MAX: usize = 5_900;
const DISCORD_TITLE_MAX: usize = 256;
/// Of the 4,096 possible: the fields need room as well.
const DISCORD_TEXT_MAX: usize = 3_000;
const DISCORD_FIELD_NAME_MAX: usize = 100;
const DISCORD_FIELD_MAX: usize = 1_000;
const SLACK_TITLE_MAX: usize = 150;
const SLACK_TEXT_MAX: usize = 2_900;
const SLACK_FIELDS_MAX: usize = 10;
const SLACK_FIELD_MAX: usize = 500;
const GENERIC_TITLE_MAX: usize = 500;
const GENERIC_TEXT_MAX: usize = 8_000;
const GENERIC_FACT_MAX: usize = 1_000;
const FACT_NAME_MAX: usize = 64;

/// The body for a receiver.
pub(super) fn body(form: Form, notice: &Notice, words: Option<&Words>, repeated: u32) -> Vec<u8> {
    let said = Said { notice, words, repeated };
    let value = match form {
        Form::Discord => discord(&said),
        Form::Slack => slack(&said),
        Form::Generic => generic(&said),
    };
    value.to_string().into_bytes()
}

struct Said<'a> {
    notice: &'a Notice,
    words: Option<&'a Words>,
    repeated: u32,
}

impl Said<'_> {
    fn title(&self, markup: Markup, units_max: usize) -> String {
        let mut line = Line::new(markup, units_max);
        match self.words.and_then(|words| words.title.as_ref()) {
            Some(template) => template.write(self.notice, self.repeated, &mut line),
            None => {
                if let Some(ward) = &self.notice.ward {
                    line.theirs(ward.as_str());
                    line.ours(": ");
                }
                line.theirs(&self.notice.title);
            }
        }
        line.finish()
    }

    /// With the count of those it stands for, unless the operator's words are used.
    fn text(&self, markup: Markup, units_max: usize) -> String {
        let mut line = Line::new(markup, units_max);
        match self.words.and_then(|words| words.text.as_ref()) {
            Some(template) => template.write(self.notice, self.repeated, &mut line),
            None => {
                if self.repeated > 0 {
                    line.ours(&format!("{} times since the last notice. ", self.repeated));
                }
                line.theirs(&self.notice.text);
            }
        }
        line.finish()
    }

    fn facts(&self) -> impl Iterator<Item = &(std::borrow::Cow<'static, str>, String)> {
        self.notice.facts.iter().take(FACTS_MAX)
    }

    fn foot(&self) -> String {
        let (kind, severity) = (&self.notice.kind, severity(self.notice.severity));
        theirs(&format!("{severity} · {kind}"), Markup::Plain, 100)
    }
}

fn discord(said: &Said<'_>) -> Value {
    let title = said.title(Markup::Discord, DISCORD_TITLE_MAX);
    let text = said.text(Markup::Discord, DISCORD_TEXT_MAX);
    let foot = said.foot();
    let units = |text: &str| text.encode_utf16().count();
    let mut left = DISCORD_UNITS_MAX - units(&title) - units(&text) - units(&foot);
    let mut fields = Vec::new();
    for (name, value) in said.facts() {
        let name = filled(theirs(name, Markup::Discord, DISCORD_FIELD_NAME_MAX));
        let value = filled(theirs(value, Markup::Discord, DISCORD_FIELD_MAX));
        let Some(rest) = left.checked_sub(units(&name) + units(&value)) else { break };
        left = rest;
        fields.push(json!({"name": name, "value": value, "inline": value.len() <= 40}));
    }
    let embed = json!({
        "title": title,
        "description": text,
        "color": color(said.notice.severity),
        "fields": fields,
        "footer": {"text": foot},
        "timestamp": rfc3339(said.notice.at),
    });
    json!({"embeds": [embed], "allowed_mentions": {"parse": []}})
}

fn slack(said: &Said<'_>) -> Value {
    // Plain text needs no escaping, and links and mentions in it are dead.
    let plain = |text: String| json!({"type": "plain_text", "text": text, "emoji": false});
    let title = filled(said.title(Markup::Plain, SLACK_TITLE_MAX).replace('\n', " "));
    let mut blocks = vec![json!({"type": "header", "text": plain(title)})];
    let text = said.text(Markup::Plain, SLACK_TEXT_MAX);
    if !text.is_empty() {
        blocks.push(json!({"type": "section", "text": plain(text)}));
    }
    let field = |(name, value): &(std::borrow::Cow<'static, str>, String)| {
        let (name, value) = (
            theirs(name, Markup::Plain, FACT_NAME_MAX),
            theirs(value, Markup::Plain, SLACK_FIELD_MAX),
        );
        plain(format!("{name}: {value}"))
    };
    let fields: Vec<Value> = said.facts().take(SLACK_FIELDS_MAX).map(field).collect();
    if !fields.is_empty() {
        blocks.push(json!({"type": "section", "fields": fields}));
    }
    let foot = format!("{} · {}", said.foot(), rfc3339(said.notice.at));
    blocks.push(json!({"type": "context", "elements": [plain(foot)]}));
    // What notifications show.
    let shown = said.title(Markup::Slack, 2 * SLACK_TITLE_MAX);
    json!({"text": shown, "blocks": blocks, "unfurl_links": false, "unfurl_media": false})
}

/// Our own form. Fields are only ever added.
#[derive(Serialize)]
struct Generic<'a> {
    event: &'static str,
    version: u32,
    ward: Option<&'a str>,
    kind: &'a str,
    severity: Severity,
    title: String,
    text: String,
    facts: Map<String, Value>,
    repeated: u32,
    at: String,
}

fn generic(said: &Said<'_>) -> Value {
    let notice = said.notice;
    let fact = |(name, value): &(std::borrow::Cow<'static, str>, String)| {
        let name = theirs(name, Markup::Plain, FACT_NAME_MAX);
        (name, Value::from(theirs(value, Markup::Plain, GENERIC_FACT_MAX)))
    };
    let title = match said.words.and_then(|words| words.title.as_ref()) {
        Some(_) => said.title(Markup::Plain, GENERIC_TITLE_MAX),
        None => theirs(&notice.title, Markup::Plain, GENERIC_TITLE_MAX),
    };
    let text = match said.words.and_then(|words| words.text.as_ref()) {
        Some(_) => said.text(Markup::Plain, GENERIC_TEXT_MAX),
        None => theirs(&notice.text, Markup::Plain, GENERIC_TEXT_MAX),
    };
    let generic = Generic {
        event: "ward_notice",
        version: 1,
        ward: notice.ward.as_ref().map(|ward| ward.as_str()),
        kind: &notice.kind,
        severity: notice.severity,
        title,
        text,
        facts: said.facts().map(fact).collect(),
        repeated: said.repeated,
        at: rfc3339(notice.at),
    };
    serde_json::to_value(generic).expect("invariant: strings and numbers serialize")
}

/// Discord and Slack refuse empty texts where they expect one.
fn filled(text: String) -> String {
    if text.is_empty() { "–".to_owned() } else { text }
}

/// Colours that are told apart by people who see red and green alike, too.
fn color(severity: Severity) -> u32 {
    match severity {
        Severity::Info => 0x003b_82f6,
        Severity::Warning => 0x00f5_9e0b,
        Severity::Critical => 0x00dc_2626,
    }
}

pub(super) fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Critical => "critical",
    }
}

pub(super) fn rfc3339(at: Timestamp) -> String {
    let moment = DateTime::<Utc>::from_timestamp_millis(at.0).unwrap_or_default();
    moment.to_rfc3339_opts(SecondsFormat::Millis, true)
}
