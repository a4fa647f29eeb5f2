//! What is well-formed in `[[ward]]`, `[wards]` and `[[notifier]]` and still wrong: ranges, what is missing, and what
//! contradicts something else. Profiles are not looked at here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

use regex::Regex;

use super::format::Protocol;
use super::read::Problem;
use super::spec::{NotifierKind, NotifierSpec, ScheduleSpec, ScheduledAction, WardSpec, WardsSpec};
use super::units::{Size, Span};
use super::ward::Ward;
use crate::model::WardName;

/// Wards of one node; each has a process and two watched files. Guessed: one machine holds no more games.
pub const WARDS_MAX: usize = 200;
/// Notifiers of one node.
const NOTIFIERS_MAX: usize = 50;
/// Entries of a list in a ward.
const LIST_MAX: usize = 100;

#[derive(Default)]
struct Found(Vec<Problem>);

impl Found {
    fn add(&mut self, key: impl Into<String>, message: impl Into<String>) {
        self.0.push(Problem::new(key, message));
    }

    fn number(&mut self, key: &str, value: i64, min: i64, max: i64) {
        if value < min || value > max {
            self.add(key, format!("{value} is outside {min} to {max}"));
        }
    }

    fn span(&mut self, key: &str, value: Span, min: Span, max: Span) {
        if value < min || value > max {
            self.add(key, format!("{value} is outside {min} to {max}"));
        }
    }

    fn size(&mut self, key: &str, value: Size, min: Size, max: Size) {
        if value < min || value > max {
            self.add(key, format!("{value} is outside {min} to {max}"));
        }
    }

    fn few(&mut self, key: &str, count: usize) {
        if count > LIST_MAX {
            self.add(key, format!("has {count} entries, and {LIST_MAX} are allowed"));
        }
    }
}

const SECOND: Span = Span::seconds(1);
const HOUR: Span = Span::seconds(3_600);
const DAY: Span = Span::seconds(86_400);
/// Ten years.
const LONG: Span = Span::seconds(3_653 * 86_400);

/// One ward by itself; its name is checked where it is read.
#[must_use]
pub fn check_ward(spec: &WardSpec) -> Vec<Problem> {
    let mut found = Found::default();
    let restart = &spec.restart;
    found.number("restart.tries", restart.tries.into(), 1, 1_000);
    found.span("restart.within", restart.within, SECOND, DAY);
    found.span("restart.backoff", restart.backoff, Span(SECOND.0 / 10), HOUR);
    found.span("restart.backoff_max", restart.backoff_max, restart.backoff, HOUR);
    found.span("restart.stable_after", restart.stable_after, SECOND, DAY);
    check_stop(spec, &mut found);
    check_priority(spec, &mut found);
    // Shorter than three missed answers of 10 s would be a guess.
    found.span("hang.after", spec.hang.after, Span::seconds(10), HOUR);
    check_attach(spec, &mut found);
    check_backup(spec, &mut found);
    found.few("schedule", spec.schedule.len());
    let mut names = BTreeSet::new();
    for (at, schedule) in spec.schedule.iter().enumerate() {
        let outer = format!("schedule[{at}]");
        if !names.insert(schedule.name.as_str()) {
            found.add(format!("{outer}.name"), format!("`{}` is there twice", schedule.name));
        }
        let inner = check_schedule(schedule, spec);
        found.0.extend(inner.into_iter().map(|problem| problem.below(&outer)));
    }
    let console = &spec.console;
    found.number("console.lines", i64::try_from(console.lines).unwrap_or(i64::MAX), 10, 100_000);
    let (min, max) = (Size(64 << 10), Size(4 << 30));
    found.size("console.file_max_bytes", console.file_max_bytes, min, max);
    found.few("console.mask", console.mask.len());
    for (at, mask) in console.mask.iter().enumerate() {
        if let Err(error) = Regex::new(mask) {
            found.add(format!("console.mask[{at}]"), error.to_string());
        }
    }
    found.few("command", spec.command.len());
    found.few("env", spec.env.len());
    found.0
}

fn check_stop(spec: &WardSpec, found: &mut Found) {
    if let Some(wait) = spec.stop.wait {
        found.span("stop.wait", wait, SECOND, HOUR);
    }
    check_countdown("stop.countdown", &spec.stop.countdown, found);
    let message = &spec.stop.message;
    if !message.is_empty() && !message.contains("{left}") {
        found.add("stop.message", "has no `{left}`: players would not know how long they have");
    }
}

fn check_countdown(key: &str, steps: &[Span], found: &mut Found) {
    found.few(key, steps.len());
    for step in steps {
        found.span(key, *step, SECOND, DAY);
    }
    if !steps.is_sorted_by(|a, b| a > b) {
        found.add(key, "begins with the longest, as in [\"5m\", \"1m\", \"10s\"]");
    }
}

fn check_priority(spec: &WardSpec, found: &mut Found) {
    let priority = &spec.priority;
    if let Some(nice) = priority.nice {
        found.number("priority.nice", nice.into(), -20, 19);
    }
    if let Some(score) = priority.oom_score {
        found.number("priority.oom_score", score.into(), -1_000, 1_000);
    }
    if let Some(memory) = priority.memory_max {
        found.size("priority.memory_max", memory, Size(16 << 20), Size(16 << 40));
    }
    if let Some(weight) = priority.cpu_weight {
        // The range of cpu.weight in cgroup v2.
        found.number("priority.cpu_weight", weight.into(), 1, 10_000);
    }
    if priority.cpus.iter().any(|cpu| *cpu > 1_023) {
        found.add("priority.cpus", "the numbers of processors are 0 to 1023");
    }
}

fn check_attach(spec: &WardSpec, found: &mut Found) {
    let Some(attach) = &spec.attach else { return };
    let given = [
        attach.pid_file.is_some(),
        attach.name.is_some(),
        attach.port.is_some(),
        attach.command.is_some(),
    ];
    if given.iter().filter(|is_given| **is_given).count() != 1 {
        found.add("attach", "give exactly one of pid_file, name, port and command");
    }
    if [&attach.name, &attach.command].iter().any(|text| text.as_deref() == Some("")) {
        found.add("attach", "an empty text would fit every process");
    }
    if attach.port == Some(0) {
        found.add("attach.port", "is 1 to 65535");
    }
}

fn check_backup(spec: &WardSpec, found: &mut Found) {
    let backup = &spec.backup;
    found.number("backup.keep", backup.keep.into(), 1, 10_000);
    found.few("backup.paths", backup.paths.len());
    found.few("backup.exclude", backup.exclude.len());
    for (at, path) in backup.paths.iter().enumerate() {
        let is_below = Path::new(path)
            .components()
            .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if path.is_empty() || !is_below {
            let message = format!("`{path}` does not stand below `dir`; `.` is all of it");
            found.add(format!("backup.paths[{at}]"), message);
        }
    }
    let wants = backup.before_restart
        || spec.schedule.iter().any(|schedule| schedule.action == ScheduledAction::Backup);
    if wants && backup.paths.is_empty() {
        found.add("backup.paths", "is empty: what is to be copied?");
    }
}

fn check_schedule(schedule: &ScheduleSpec, spec: &WardSpec) -> Vec<Problem> {
    let mut found = Found::default();
    if WardName::parse(&schedule.name).is_err() {
        found.add("name", "is missing or has other characters than a-z, 0-9, `-` and `_`");
    }
    match (&schedule.cron, schedule.every) {
        (Some(cron), None) => {
            let fields = cron.split_whitespace().count();
            if fields != 5 && !cron.starts_with('@') {
                let message = "has five fields: minute, hour, day, month, day of the week";
                found.add("cron", message);
            }
        }
        (None, Some(every)) => found.span("every", every, Span::seconds(60), LONG),
        _ => found.add("", "give either cron or every"),
    }
    if let Some(countdown) = &schedule.countdown {
        check_countdown("countdown", countdown, &mut found);
    }
    let is = |action| schedule.action == action;
    if is(ScheduledAction::Command) == schedule.command.is_empty() {
        found.add("command", "belongs to `action = \"command\"`, which needs it");
    }
    if schedule.command.contains(char::is_control) {
        found.add("command", "is one line");
    }
    if is(ScheduledAction::Announce) && schedule.message.is_empty() {
        found.add("message", "is missing: what is to be said?");
    }
    if is(ScheduledAction::Start) && spec.attach.is_some() && spec.command.is_empty() {
        found.add("action", "Naru cannot start a server that it only watches");
    }
    if let Some(uptime) = schedule.when.uptime_above {
        found.span("when.uptime_above", uptime, SECOND, LONG);
    }
    if schedule.when.players_below == Some(0) {
        found.add("when.players_below", "0 is never true: write `empty = true`");
    }
    found.0
}

/// `[wards]` by itself.
#[must_use]
pub fn check_wards(spec: &WardsSpec) -> Vec<Problem> {
    let mut found = Found::default();
    found.number("nice", spec.nice.into(), 0, 19);
    found.span("sample_interval", spec.sample_interval, SECOND, Span::seconds(60));
    let budget = &spec.budget;
    found.span("budget.cpu_per_hour", budget.cpu_per_hour, SECOND, HOUR);
    found.size("budget.memory", budget.memory, Size(4 << 20), Size(1 << 40));
    let (min, max) = (Size(64 << 10), Size(1 << 40));
    found.size("budget.writes_per_hour", budget.writes_per_hour, min, max);
    let retention = &spec.retention;
    found.span("retention.samples", retention.samples, HOUR, LONG);
    found.span("retention.minutes", retention.minutes, DAY, LONG);
    found.span("retention.hours", retention.hours, DAY, LONG);
    found.span("retention.events", retention.events, DAY, LONG);
    let thresholds = spec.thresholds;
    let pairs = [
        ("cpu", thresholds.cpu_high, thresholds.cpu_critical),
        ("memory", thresholds.memory_high, thresholds.memory_critical),
    ];
    for (name, high, critical) in pairs {
        found.number(&format!("thresholds.{name}_high"), high.into(), 1, 100);
        found.number(&format!("thresholds.{name}_critical"), critical.into(), 1, 100);
        if high >= critical {
            let message = format!("must be below thresholds.{name}_critical");
            found.add(format!("thresholds.{name}_high"), message);
        }
    }
    found.0
}

/// One notifier by itself. Whether its address may be reached is asked when it is used.
#[must_use]
pub fn check_notifier(spec: &NotifierSpec) -> Vec<Problem> {
    let mut found = Found::default();
    if WardName::parse(&spec.name).is_err() {
        found.add("name", "is missing or has other characters than a-z, 0-9, `-` and `_`");
    }
    if spec.url.is_empty() == spec.url_file.is_none() {
        found.add("url", "give either url or url_file");
    }
    let url = spec.url.reveal();
    if !url.is_empty() && !url.starts_with("https://") && !url.starts_with("http://") {
        found.add("url", "begins with https:// or http://");
    }
    if !spec.secret.is_empty() && spec.secret_file.is_some() {
        found.add("secret_file", "give either secret or secret_file");
    }
    let has_secret = !spec.secret.is_empty() || spec.secret_file.is_some();
    if has_secret && spec.kind != NotifierKind::Generic {
        found.add("secret", "only generic notifiers are signed");
    }
    found.few("events", spec.events.len());
    found.few("wards", spec.wards.len());
    found.0
}

/// What is wrong between wards and notifiers. Keys begin with `ward[0]` and `notifier[0]`.
#[must_use]
pub fn check_together(wards: &[WardSpec], notifiers: &[NotifierSpec]) -> Vec<Problem> {
    let mut found = Found::default();
    if wards.len() > WARDS_MAX {
        found.add("ward", format!("there are more than {WARDS_MAX}"));
    }
    if notifiers.len() > NOTIFIERS_MAX {
        found.add("notifier", format!("there are more than {NOTIFIERS_MAX}"));
    }
    let mut names = BTreeSet::new();
    for (at, ward) in wards.iter().enumerate() {
        if !names.insert(ward.name.as_str()) && !ward.name.is_empty() {
            found.add(format!("ward[{at}].name"), format!("`{}` is there twice", ward.name));
        }
        for webhook in ward.webhooks.iter().flatten() {
            if !notifiers.iter().any(|notifier| notifier.name == *webhook) {
                let message = format!("there is no notifier `{webhook}`");
                found.add(format!("ward[{at}].webhooks"), message);
            }
        }
    }
    let mut told = BTreeSet::new();
    for (at, notifier) in notifiers.iter().enumerate() {
        if !told.insert(notifier.name.as_str()) && !notifier.name.is_empty() {
            let message = format!("`{}` is there twice", notifier.name);
            found.add(format!("notifier[{at}].name"), message);
        }
        for ward in notifier.wards.iter().filter(|ward| !names.contains(ward.as_str())) {
            found.add(format!("notifier[{at}].wards"), format!("there is no ward `{ward}`"));
        }
    }
    found.0
}

/// Ports that two wards want at the same time: only wards that start by themselves can clash without anybody's
/// doing. Keys begin with `ward[0]`.
#[must_use]
pub fn check_ports(wards: &[Ward]) -> Vec<Problem> {
    let mut found = Found::default();
    let mut taken: BTreeMap<(u16, bool), &Ward> = BTreeMap::new();
    for (at, ward) in wards.iter().enumerate().filter(|(_, ward)| ward.autostart) {
        for (name, port) in &ward.ports {
            let is_tcp = match port.protocol {
                Protocol::Tcp => &[true][..],
                Protocol::Udp => &[false],
                Protocol::Both => &[true, false],
            };
            for is_tcp in is_tcp {
                let other = *taken.entry((port.number, *is_tcp)).or_insert(ward);
                if other.name != ward.name {
                    let message = format!("{} is a port of `{}`, too", port.number, other.name);
                    found.add(format!("ward[{at}].ports.{name}"), message);
                    break;
                }
            }
        }
    }
    found.0
}
