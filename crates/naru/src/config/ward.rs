//! `[[ward]]`, `[wards]` and `[[notifier]]`: their rows of the reference and their mistakes. What they hold is defined
//! by the supervisor; profiles are read here, so that a mistake in one is found before anything starts.

use naru_supervisor::profile::check::{check_notifier, check_ports, check_together, check_wards};
use naru_supervisor::profile::read::get;
use naru_supervisor::profile::spec::ScheduleSpec;
use naru_supervisor::profile::{
    NotifierSpec, Platform, Problem, Surroundings, Ward, WardSpec, prepare,
};
use toml::{Table, Value};

use super::check::Found;
use super::model::Config;
use crate::platform;

/// The lists of tables, as they are written.
const LISTS: [&str; 2] = ["ward", "notifier"];

/// What the wards of this configuration stand in.
pub(crate) fn surroundings(config: &Config) -> Surroundings {
    Surroundings {
        platform: Platform::here(),
        is_root: platform::is_root(),
        wards_dir: config.data_dir.join("wards"),
    }
}

/// What is well-formed and still wrong.
pub(super) fn check(config: &Config, found: &mut Found) {
    let mut note = |problems: Vec<Problem>, outer: &str| {
        for problem in problems.into_iter().map(|problem| problem.below(outer)) {
            found.add(&problem.key, problem.message);
        }
    };
    note(check_wards(&config.wards), "wards");
    for (at, notifier) in config.notifier.iter().enumerate() {
        let outer = format!("notifier[{at}]");
        note(check_notifier(notifier), &outer);
        note(notifier.secrets().err().unwrap_or_default(), &outer);
    }
    let around = surroundings(config);
    let mut wards = Vec::new();
    for (at, spec) in config.ward.iter().enumerate() {
        match prepare(spec, &around).and_then(|ward| folder_is_there(spec, ward)) {
            Ok(ward) => wards.push(ward),
            Err(problems) => note(problems, &format!("ward[{at}]")),
        }
    }
    note(check_together(&config.ward, &config.notifier), "");
    if wards.len() == config.ward.len() {
        note(check_ports(&wards), "");
    }
}

/// A folder that was named has to be there: a game that starts in another one makes a new world.
fn folder_is_there(spec: &WardSpec, ward: Ward) -> Result<Ward, Vec<Problem>> {
    match &spec.dir {
        Some(dir) if ward.launch.is_some() && !dir.is_dir() => {
            Err(vec![Problem::new("dir", format!("there is no folder {}", dir.display()))])
        }
        _ => Ok(ward),
    }
}

/// Whether a row of the reference is about the items of a list, which variables cannot set.
pub(super) fn is_of_list(key: &str) -> bool {
    LISTS.iter().any(|list| key.strip_prefix(list).is_some_and(|rest| rest.starts_with('.')))
}

/// `ward.0.dri` as it is written elsewhere, `ward[0].dri`, and as it stands in the reference, `ward.dri`.
pub(super) fn list_key(path: &str) -> (String, String) {
    let (mut key, mut plain) = (String::new(), String::new());
    for part in path.split('.') {
        if !key.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()) {
            key.push_str(&format!("[{part}]"));
            continue;
        }
        for text in [&mut key, &mut plain] {
            if !text.is_empty() {
                text.push('.');
            }
            text.push_str(part);
        }
    }
    (key, plain)
}

/// `ward[0].dir` with the name that the operator knows: `ward[mc].dir`.
pub(super) fn key_with_name(key: &str, table: &Table) -> String {
    let named = LISTS.iter().find_map(|list| {
        let (index, rest) = key.strip_prefix(list)?.strip_prefix('[')?.split_once(']')?;
        let name = get(table, &format!("{list}[{index}].name"))?.as_str()?;
        (!name.is_empty()).then(|| format!("{list}[{name}]{rest}"))
    });
    named.unwrap_or_else(|| key.to_owned())
}

/// The defaults of the items of lists, for the reference.
pub(super) fn defaults() -> Table {
    let table = |made: Result<Table, toml::ser::Error>| Value::Table(made.unwrap_or_default());
    let mut ward = Table::try_from(WardSpec::default()).unwrap_or_default();
    ward.insert("schedule".to_owned(), table(Table::try_from(ScheduleSpec::default())));
    let notifier = table(Table::try_from(NotifierSpec::default()));
    Table::from_iter([("ward".to_owned(), Value::Table(ward)), ("notifier".to_owned(), notifier)])
}

/// One row of the reference; see `model`.
pub(crate) const REFERENCE: &[(&str, &str)] = &[
    (
        "wards.enabled",
        "Whether game servers are looked after; unless set, they are if there are any.",
    ),
    ("wards.nice", "Naru's own niceness when it only looks after wards (0 to 19)."),
    ("wards.idle_io", "Naru's disk work waits for that of everybody else, where the kernel can."),
    (
        "wards.sample_interval",
        "Between two samples while the machine has time (1s to 1m); they become rarer when it has not.",
    ),
    (
        "wards.budget.cpu_per_hour",
        "Processor time that looking after wards may take in an hour (1s to 1h); beyond it samples become rarer.",
    ),
    ("wards.budget.memory", "Memory of the process (4MiB to 1024GiB); beyond it caches are shed."),
    ("wards.budget.writes_per_hour", "Bytes written in an hour (64KiB to 1024GiB)."),
    ("wards.retention.samples", "How long samples are kept as they were taken (1h or more)."),
    ("wards.retention.minutes", "The same for means and peaks of minutes (1d or more)."),
    ("wards.retention.hours", "The same for those of hours (1d or more)."),
    (
        "wards.retention.events",
        "The same for what happened: starts, exits, actions, players (1d or more).",
    ),
    (
        "wards.thresholds.cpu_high",
        "Per cent of the machine's processors from where on samples become rarer.",
    ),
    ("wards.thresholds.cpu_critical", "And rarer still."),
    ("wards.thresholds.memory_high", "Per cent of its memory from where on caches are shed."),
    ("wards.thresholds.memory_critical", "From where on somebody is told."),
    (
        "ward",
        "Game servers: one `[[ward]]` each, with the keys that begin with `ward.` here. See [profiles](profiles.md).",
    ),
    ("ward.name", "1 to 48 of a-z, 0-9, `-` and `_`; the ward's folder is `data_dir/wards/NAME`."),
    (
        "ward.profile",
        "A shipped profile (ark-sa, ark-se, generic, luanti, minecraft-bedrock, minecraft-java, palworld, quake3, source, teeworlds), or the path of one.",
    ),
    ("ward.command", "Program and arguments, with placeholders; empty takes the profile's."),
    (
        "ward.dir",
        "The folder that the game runs in; unless set, the profile's, else `data_dir/wards/NAME/files`.",
    ),
    ("ward.env", "Variables of its environment, with placeholders."),
    ("ward.user", "The user that it runs as; only root may say so."),
    ("ward.address", "Where the game is asked: an IP address."),
    ("ward.ports", "Its ports by what they are for, such as `{ game = 25565, rcon = 25575 }`."),
    (
        "ward.secrets",
        "Its secrets by name, such as `{ rcon_file = \"/etc/naru/rcon\" }`; without `_file` the secret itself.",
    ),
    (
        "ward.attach",
        "A server that Naru did not start: one of `pid_file`, `name` (of the process), `port` (that it listens on) and `command` (a part of its command line).",
    ),
    ("ward.autostart", "Whether it is wanted up until somebody says otherwise."),
    (
        "ward.restart.on",
        "When it is started again: `crash` (also after a hang), `always` (also after an exit that nobody ordered here) or `never`.",
    ),
    ("ward.restart.tries", "How often within `within` before a person has to look (1 to 1000)."),
    ("ward.restart.within", "The window of `tries` (1s to 1d)."),
    ("ward.restart.backoff", "The first pause (100ms to 1h); each further one is twice as long."),
    ("ward.restart.backoff_max", "The longest pause (up to 1h)."),
    ("ward.restart.stable_after", "Up for so long, and the pauses begin anew (1s to 1d)."),
    ("ward.restart.endless", "It is tried for ever."),
    (
        "ward.stop.wait",
        "How long each rung of the stop ladder may take (1s to 1h); unless set, as the profile says.",
    ),
    (
        "ward.stop.countdown",
        "When players are told before a stop, longest first: `[\"5m\", \"1m\", \"10s\"]`.",
    ),
    (
        "ward.stop.message",
        "What they are told; `{left}` is how long is left. Empty takes \"The server stops in {left}.\"",
    ),
    ("ward.priority.nice", "Niceness of the game (-20 to 19); below 0 only root may say."),
    ("ward.priority.cpus", "The processors that it may use, such as `[2, 3]`; none is all."),
    (
        "ward.priority.oom_score",
        "How soon it is killed when memory runs out (-1000 to 1000); lowering it needs root.",
    ),
    (
        "ward.priority.memory_max",
        "What it may take in memory, where cgroup v2 or job objects can be had.",
    ),
    (
        "ward.priority.cpu_weight",
        "Its share of the processors, where cgroup v2 can be had (1 to 10000; everybody has 100).",
    ),
    ("ward.hang.enabled", "Whether hangs are looked for."),
    ("ward.hang.after", "How long it must not have answered (10s to 1h)."),
    ("ward.schedule", "What is done by the clock: one `[[ward.schedule]]` each."),
    ("ward.schedule.name", "Unique in the ward; characters as in names of wards."),
    ("ward.schedule.cron", "When: five fields, as in cron."),
    ("ward.schedule.every", "Instead of `cron`: how often (1m or more)."),
    (
        "ward.schedule.action",
        "`restart`, `backup`, `announce`, `stop`, `start`, `save` or `command`.",
    ),
    ("ward.schedule.when.empty", "Only if nobody plays."),
    ("ward.schedule.when.players_below", "Only if fewer play."),
    ("ward.schedule.when.memory_above", "Only if the game takes more."),
    ("ward.schedule.when.uptime_above", "Only if it has been up for longer."),
    ("ward.schedule.countdown", "Instead of `ward.stop.countdown`."),
    ("ward.schedule.message", "What is announced."),
    ("ward.schedule.command", "The line for its console."),
    ("ward.schedule.timezone", "An IANA name such as `Asia/Seoul`; empty takes the machine's."),
    (
        "ward.backup.paths",
        "What is copied, below `ward.dir`; `.` is all of it, none makes no backups.",
    ),
    ("ward.backup.exclude", "What is left out, with `*`."),
    ("ward.backup.keep", "How many are kept (1 to 10000)."),
    ("ward.backup.before_restart", "One is made before each restart."),
    ("ward.backup.format", "`folder` or `tar.gz`."),
    ("ward.backup.dir", "Where they go; unless set, `data_dir/wards/NAME/backups`."),
    ("ward.webhooks", "Names of the notifiers that are told; unless set, all."),
    ("ward.metrics", "Whether it shows in `/metrics`."),
    ("ward.console.lines", "Lines of what it prints that are kept in memory (10 to 100000)."),
    ("ward.console.file_max_bytes", "Largest file that it prints into (64KiB to 4GiB)."),
    (
        "ward.console.mask",
        "Regular expressions of what is hidden in it, besides the ward's secrets.",
    ),
    (
        "ward.override",
        "Any key of the profile, such as `override.ready.deadline = \"10m\"`; lists are replaced as a whole.",
    ),
    (
        "notifier",
        "Who is told: one `[[notifier]]` each, with the keys that begin with `notifier.` here.",
    ),
    ("notifier.name", "Characters as in names of wards."),
    ("notifier.kind", "`discord`, `slack` or `generic` (JSON, signed as webhooks are)."),
    ("notifier.url", "Where; shown to nobody."),
    ("notifier.url_file", "A file that holds it, instead of `url`."),
    ("notifier.secret", "Signs what a generic one is told."),
    ("notifier.secret_file", "A file that holds it, instead of `secret`."),
    ("notifier.events", "Kinds of events; none is all."),
    ("notifier.wards", "Names of wards; none is all."),
    ("notifier.min_severity", "`info`, `warning` or `critical`: what matters less is not told."),
];

#[cfg(test)]
mod tests {
    use super::super::tests::mistakes;
    use super::*;

    #[test]
    fn wards_are_read_with_their_profiles() {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            r#"
            [wards]
            nice = 5
            [[ward]]
            name = "mc"
            profile = "minecraft-java"
            dir = {:?}
            webhooks = ["ops"]
            restart.on = "always"
            [ward.override]
            ready.deadline = "10m"
            [[ward.schedule]]
            name = "nightly"
            cron = "0 5 * * *"
            when.empty = true
            [[notifier]]
            name = "ops"
            url = "https://example.org/canary"
            "#,
            folder.path().display().to_string()
        );
        let config = Config::from_text(&text).unwrap();
        assert_eq!(config.ward[0].schedule.len(), 1);
        let ward = prepare(&config.ward[0], &surroundings(&config)).unwrap();
        assert_eq!(ward.ready.deadline.as_secs(), 600);
        let shown = toml::to_string(&config).unwrap();
        assert!(shown.contains("nightly") && !shown.contains("canary"), "{shown}");
        assert!(!format!("{config:?}").contains("canary"));
    }

    #[test]
    fn all_mistakes_of_all_wards_are_found_and_named() {
        let found = mistakes(
            r#"
            [wards]
            nice = 40
            [wards.budget]
            cpu_per_hr = "1s"
            [[ward]]
            profile = "palword"
            [[ward]]
            name = "mc"
            profile = "minecraft-java"
            autostrt = true
            dir = "/nonexistent/naru"
            webhooks = ["gone"]
            restart = { tries = -1, within = "1s" }
            hang.after = "1s"
            [[ward.schedule]]
            name = "a"
            [[ward]]
            name = "other"
            profile = "quake3"
            stop.countdown = ["ten"]
            override.status = [{ protocol = "quake4" }]
            [[notifier]]
            name = "ops"
            url_file = "/nonexistent/url"
            "#,
        );
        let check = |key: &str, expected: &str| {
            let told = found.iter().any(|(at, told)| at == key && told.contains(expected));
            assert!(told, "{key}: {expected} is missing in {found:#?}");
        };
        check("wards.nice", "40 is outside 0 to 19");
        check("wards.budget.cpu_per_hr", "did you mean `wards.budget.cpu_per_hour`?");
        check("ward[0].profile", "there is no profile `palword`");
        check("ward[mc].autostrt", "did you mean `ward.autostart`?");
        check("ward[mc].restart.tries", "u32");
        check("ward[mc].hang.after", "outside 10s to 1h");
        check("ward[mc].schedule[0]", "either cron or every");
        check("ward[mc].webhooks", "no notifier `gone`");
        check("ward[other].stop.countdown[0]", "is no duration");
        check("ward[other].override.status[0].protocol", "unknown variant `quake4`");
        check("notifier[ops].url_file", "cannot read /nonexistent/url");
        let folder =
            "[[ward]]\nname = \"mc\"\nprofile = \"minecraft-java\"\ndir = \"/nonexistent/naru\"";
        assert_eq!(mistakes(folder)[0].0, "ward[mc].dir");
    }

    #[test]
    fn the_reference_knows_every_key_of_wards_and_notifiers() {
        fn leaves(prefix: &str, table: &Table, found: &mut Vec<String>) {
            for (key, value) in table {
                let key = format!("{prefix}.{key}");
                match value {
                    Value::Table(inner) if !inner.is_empty() => leaves(&key, inner, found),
                    _ => found.push(key),
                }
            }
        }
        let mut found = Vec::new();
        for (name, value) in &defaults() {
            leaves(name, value.as_table().unwrap(), &mut found);
        }
        for key in found {
            assert!(REFERENCE.iter().any(|(known, _)| *known == key), "{key} has no row");
        }
    }
}
