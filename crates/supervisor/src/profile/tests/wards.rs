//! Wards of little and of much, and mistakes that are found all at once.

use std::time::Duration;

use super::*;
use crate::profile::check::{check_notifier, check_ports, check_together, check_wards};
use crate::profile::spec::{RestartOn, ScheduledAction};
use crate::profile::template::Words;
use crate::profile::ward::{Attach, CrashFileRule, Means};

const FULL: &str = r#"
name = "mc"
profile = "minecraft-java"
command = ["java", "-Xmx4G", "-jar", "paper.jar", "nogui", "--port", "{port.game}"]
dir = "/srv/mc"
env = { LANG = "C.UTF-8" }
ports = { game = 25570, rcon = 25571, query = 25570 }
secrets = { rcon = "canary" }
autostart = false
webhooks = ["ops"]
metrics = false
[restart]
on = "always"
tries = 5
within = "20m"
backoff = "2s"
backoff_max = "30s"
stable_after = "10m"
[stop]
wait = "2m"
countdown = ["5m", "1m", "10s"]
message = "Down in {left}!"
[priority]
nice = -5
cpus = [0, 1]
oom_score = -500
memory_max = "6GiB"
cpu_weight = 200
[hang]
after = "45s"
[[schedule]]
name = "nightly"
cron = "0 5 * * *"
action = "restart"
when = { empty = true, memory_above = "4GiB" }
timezone = "Asia/Seoul"
[backup]
paths = ["world"]
keep = 3
before_restart = true
[console]
lines = 500
mask = ["token=\\S+"]
[override]
ready.deadline = "10m"
vars.jar = "x.jar"
[override.hang]
misses = 5
"#;

#[test]
fn what_is_said_of_a_ward_lies_over_its_profile() {
    let ward = ward(FULL);
    let launch = ward.launch.as_ref().unwrap();
    assert_eq!(launch.program, "java");
    assert_eq!(launch.args.last().unwrap(), "25570");
    assert_eq!(launch.environment, [("LANG".to_owned(), "C.UTF-8".to_owned())]);
    assert!(launch.stdin);
    assert_eq!(ward.ready.deadline, Duration::from_secs(600));
    assert_eq!(ward.hang.unwrap().misses, 5);
    assert_eq!(ward.hang.unwrap().after, Duration::from_secs(45));
    assert_eq!(ward.restart.on, RestartOn::Always);
    assert_eq!(ward.stop[0].wait, Duration::from_secs(120));
    assert_eq!(ward.schedules[0].action, ScheduledAction::Restart);
    assert_eq!(ward.countdown.message(Duration::from_secs(300)), "Down in 5 minutes!");
    assert_eq!(ward.countdown.message(Duration::from_secs(1)), "Down in 1 second!");
    let protocols: Vec<&str> = ward.status.iter().map(|source| source.protocol.as_str()).collect();
    assert_eq!(protocols, ["minecraft-query", "minecraft-ping", "log"]);
    assert_eq!(ward.status[0].at.unwrap().to_string(), "127.0.0.1:25570");
    assert_eq!(ward.warnings, []);
}

#[test]
fn what_is_announced_cannot_run_commands() {
    let ward = ward("name = \"oa\"\nprofile = \"quake3\"");
    let act = &ward.announce[0];
    assert_eq!(act.means, Means::Console);
    let words = Words { message: "bye\nquit; killserver \"now\"", ..Words::default() };
    assert_eq!(act.text.render(&words), "say bye quit killserver now");
}

#[test]
fn all_mistakes_of_a_ward_are_found_at_once() {
    let found = mistakes(
        r#"
        name = "Bad Name"
        profile = "minecraft-java"
        command = ["java", "{port.nope}", "{secret.key}"]
        user = "games"
        address = "localhost"
        ports = { game = 0, voice = 1 }
        secrets = { rcon = "a", rcon_file = "/nonexistent/rcon" }
        [restart]
        tries = 0
        backoff = "2m"
        [stop]
        countdown = ["10s", "1m"]
        message = "soon"
        [priority]
        nice = 30
        [hang]
        after = "1s"
        [attach]
        [[schedule]]
        name = "x"
        action = "command"
        [backup]
        before_restart = true
        [console]
        mask = ["("]
        [override]
        tittle = "x"
        [override.status]
        a = 1
        "#,
    );
    for start in [
        "restart.tries: ",
        "restart.backoff_max: ",
        "stop.countdown: ",
        "stop.message: ",
        "priority.nice: ",
        "hang.after: ",
        "attach: give exactly one",
        "schedule[0]: give either cron or every",
        "schedule[0].command: ",
        "backup.paths: ",
        "console.mask[0]: ",
        "override.tittle: unknown field `tittle`, expected one of",
        "override.status: ",
        "secrets.rcon_file: cannot read /nonexistent/rcon",
    ] {
        assert!(found.iter().any(|line| line.starts_with(start)), "{start} in {found:#?}");
    }
    let found = mistakes(
        r#"
        name = "Bad Name"
        profile = "minecraft-java"
        command = ["java", "{port.nope}", "{secret.key}"]
        user = "games"
        address = "localhost"
        ports = { game = 0, voice = 1 }
        [override.exit]
        stop_signals = ["SIGWHAT"]
        clean_codes = [1]
        [[override.stop]]
        via = "palworld"
        send = "explode"
        [[override.stop]]
        via = "plugin"
        [[override.status]]
        protocol = "rcon"
        [[override.save]]
        via = "console"
        send = "save"
        [override.log]
        joined = ["("]
        "#,
    );
    for start in [
        "name: a ward's name",
        "command: `{port.nope}` is not known here",
        "command: `{secret.key}` is wanted: give `key` or `key_file`",
        "user: only root",
        "address: `localhost` is no IP address",
        "ports.game: is 1 to 65535",
        "ports.voice: there is no such port; the profile has game,",
        "profile.exit.stop_signals: ",
        "profile.exit.crash_codes: 1 is a crash and an orderly end",
        "profile.stop[0].send: `explode` is none of announce",
        "profile.stop[1].via: needs a `[plugin]`",
        "profile.status[0].send: ",
        "profile.save[0].confirmed: is missing",
        "profile.log.joined[0]: ",
    ] {
        assert!(found.iter().any(|line| line.starts_with(start)), "{start} in {found:#?}");
    }
}

#[test]
fn a_profile_of_ones_own_is_read_from_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("my-game.toml");
    std::fs::write(&path, "title = \"Mine\"\ncommand = [\"./mine\"]\n[[stop]]\nvia = \"signal\"\nsend = \"INT\"\nwait = \"9s\"").unwrap();
    let named = ward(&format!("name = \"m\"\nprofile = {:?}", path.display().to_string()));
    assert_eq!((named.title.as_str(), named.stop.len()), ("Mine", 2));
    std::fs::write(&path, "titel = \"Mine\"").unwrap();
    let found = mistakes(&format!("name = \"m\"\nprofile = {:?}", path.display().to_string()));
    assert!(found[0].starts_with("profile.titel: unknown field `titel`"), "{found:?}");
    let found = mistakes("name = \"m\"\nprofile = \"palword\"");
    assert!(found[0].contains("there is no profile `palword`: there are ark-sa,"), "{found:?}");
}

#[test]
fn a_server_that_naru_did_not_start_has_no_console() {
    let ward = ward("name = \"m\"\nprofile = \"minecraft-java\"\nattach.name = \"java\"");
    assert_eq!(ward.launch, None);
    assert_eq!(ward.attach, Some(Attach::Name("java".to_owned())));
    assert!(ward.announce.is_empty());
    let told =
        ward.left_out.iter().any(|problem| problem.message.contains("no hold of its console"));
    assert!(told, "{:?}", ward.left_out);
}

#[test]
fn secrets_in_arguments_are_warned_of_and_never_shown() {
    let ward =
        ward("name = \"g\"\ncommand = [\"./g\", \"-p\", \"{secret.pw}\"]\nsecrets.pw = \"canary\"");
    assert!(ward.warnings[0].message.contains("every user of this machine"), "{:?}", ward.warnings);
    assert_eq!(ward.launch.as_ref().unwrap().args[1], "canary");
    assert!(!format!("{ward:?}").contains("canary"));
    let spec = spec("secrets.pw = \"canary\"");
    assert!(!format!("{spec:?}").contains("canary"));
    assert!(!toml::to_string(&spec).unwrap().contains("canary"));
}

#[test]
fn answers_to_commands_are_read_with_patterns() {
    let ward = ward("name = \"ark\"\nprofile = \"ark-sa\"\nsecrets.rcon = \"x\"");
    let command = ward.status[0].command.as_ref().unwrap();
    let status =
        command.read("0. Ann, 0002a10186d9414496bf20d22d3860ba\n1. Bob B, 76561190000000000 \n\0");
    let ids: Vec<_> =
        status.players.iter().map(|(name, id)| (name.as_str(), id.as_deref().unwrap())).collect();
    let expected = [("Ann", "0002a10186d9414496bf20d22d3860ba"), ("Bob B", "76561190000000000")];
    assert_eq!((status.online, ids.as_slice()), (Some(2), &expected[..]));
    assert_eq!(command.read("No Players Connected").online, Some(0));
    let ward = super::ward(
        "name = \"s\"\nprofile = \"source\"\ncommand = [\"./s\"]\nsecrets.rcon = \"x\"",
    );
    let command = ward.status[1].command.as_ref().unwrap();
    let answer = "players : 1 humans, 0 bots (24 max)\n# 2 \"Ann\" STEAM_1:0:1 00:10 50 0 active\n";
    let status = command.read(answer);
    assert_eq!((status.online, status.max, status.players.len()), (Some(1), Some(24), 1));
}

#[test]
fn the_reason_of_a_crash_is_read_from_what_is_left_of_its_file() {
    let rule = CrashFileRule {
        path: String::new(),
        after: "<ErrorMessage>".to_owned(),
        until: "</ErrorMessage>".to_owned(),
    };
    let check = |file: &[u8], expected: Option<&str>| {
        assert_eq!(rule.reason(file).as_deref(), expected);
    };
    check(
        b"<a><ErrorMessage>Assertion failed\nat x</ErrorMessage></a>",
        Some("Assertion failed at x"),
    );
    check(b"<a><ErrorMessage>Out of mem", Some("Out of mem"));
    check(b"<a><ErrorMess", None);
    check(b"<ErrorMessage></ErrorMessage>", None);
    let long = format!("<ErrorMessage>{}", "é".repeat(1_000));
    assert_eq!(rule.reason(long.as_bytes()).unwrap().len(), 500);
}

#[test]
fn wards_and_notifiers_are_checked_together() {
    let wards = [spec("name = \"a\"\nwebhooks = [\"ops\", \"gone\"]"), spec("name = \"a\"")];
    let notifier = |text: &str| read::read(&read::parse(text).unwrap()).unwrap();
    let notifiers = [notifier("name = \"ops\"\nwards = [\"a\", \"b\"]")];
    let found: Vec<String> =
        check_together(&wards, &notifiers).iter().map(ToString::to_string).collect();
    let expected = [
        "ward[0].webhooks: there is no notifier `gone`",
        "ward[1].name: `a` is there twice",
        "notifier[0].wards: there is no ward `b`",
    ];
    assert_eq!(found, expected);
    let found = check_notifier(&notifier("kind = \"slack\"\nurl = \"ftp://x\"\nsecret = \"s\""));
    let keys: Vec<&str> = found.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(keys, ["name", "url", "secret"]);
    let wards: WardsSpec = read::read(
        &read::parse("nice = -1\nthresholds = { cpu_high = 95 }\nbudget.memory = 1").unwrap(),
    )
    .unwrap();
    let found = check_wards(&wards);
    let keys: Vec<&str> = found.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(keys, ["nice", "budget.memory", "thresholds.cpu_high"]);
    assert_eq!(check_wards(&WardsSpec::default()), []);
}

#[test]
fn two_wards_that_start_by_themselves_need_different_ports() {
    let java = ward("name = \"a\"\nprofile = \"minecraft-java\"");
    let same = ward("name = \"b\"\nprofile = \"minecraft-java\"");
    let udp = ward("name = \"c\"\nprofile = \"luanti\"\nports.game = 25565");
    let off = ward("name = \"d\"\nprofile = \"minecraft-java\"\nautostart = false");
    let found = check_ports(&[java, same, udp, off]);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].to_string(), "ward[1].ports.game: 25565 is a port of `a`, too");
}

#[test]
fn ports_follow_each_other_and_never_in_a_circle() {
    let ark = ward("name = \"a\"\nprofile = \"ark-se\"\nports.game = 7800");
    assert_eq!(ark.ports["raw"].number, 7801);
    let found = mistakes(
        "name = \"a\"\nprofile = \"ark-se\"\n[override.ports.game]\nfollows = \"raw\"\n[override.ports.query]\nfollows = \"none\"",
    );
    assert!(found.iter().any(|line| line.contains("follows itself")), "{found:?}");
    assert!(found.iter().any(|line| line.contains("follows `none`")), "{found:?}");
}
