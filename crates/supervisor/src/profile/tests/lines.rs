//! What log lines mean, and what they do not mean because a player said them.

use std::time::Duration;

use super::*;
use crate::profile::format::{LogSection, Ready};
use crate::profile::log::{LINE_BYTES_MAX, Player, clean};

fn patterns(profile: &str) -> LogPatterns {
    let profile = shipped::load(profile, &toml::Table::new()).unwrap();
    LogPatterns::new(&profile.log, &profile.ready).unwrap()
}

fn check(profile: &str, line: &str, expected: &[LogEvent]) {
    let found: Vec<LogEvent> = match profile {
        "minecraft-java" => JAVA.clone().look(line.as_bytes()).collect(),
        other => patterns(other).look(line.as_bytes()).collect(),
    };
    assert_eq!(found, expected, "{profile}: {line}");
}

fn player(name: &str, id: Option<&str>) -> Player {
    Player { name: name.to_owned(), id: id.map(str::to_owned) }
}

fn joined(name: &str, id: Option<&str>) -> Vec<LogEvent> {
    vec![LogEvent::Joined(player(name, id))]
}

fn left(name: &str, id: Option<&str>) -> Vec<LogEvent> {
    vec![LogEvent::Left(player(name, id))]
}

#[test]
fn minecraft_java_is_understood_in_all_its_dialects() {
    use LogEvent::{Ready, Saved, Saving, Stopping};
    let check = |line: &str, expected: &[LogEvent]| check("minecraft-java", line, expected);
    for front in [
        "[12:34:56] [Server thread/INFO]: ",
        "[12:34:56 INFO]: ",
        "[01Jan2026 12:34:56.789] [Server thread/INFO] [minecraft/DedicatedServer]: ",
        "\u{1b}[32m[12:34:56 INFO]:\u{1b}[m \u{1b}[0m",
    ] {
        let check = |line: &str, expected: &[LogEvent]| check(&format!("{front}{line}"), expected);
        check("Done (12.345s)! For help, type \"help\"", &[Ready]);
        check("Done (5,013s)! For help, type \"help\" or \"?\"\r\n", &[Ready]);
        check("ann joined the game", &joined("ann", None));
        check("ann left the game", &left("ann", None));
        check("Saving the game (this may take a moment!)", &[Saving]);
        check("Saved the game", &[Saved { took: None }]);
        check("Stopping the server", &[Stopping]);
        check("Stopping server", &[Stopping]);
        let behind = Some(Duration::from_millis(2_034));
        let late = "Can't keep up! Is the server overloaded? Running 2034ms or 40 ticks behind";
        check(late, &[LogEvent::Lag { behind }]);
        check("Saving chunks for level 'ServerLevel[world]'/minecraft:overworld", &[]);
        check("All dimensions are saved", &[]);
    }
    let oom = "java.lang.OutOfMemoryError: Java heap space";
    check(oom, &[LogEvent::Crash { phrase: oom.to_owned() }]);
    let said = "[12:34:56] [Server thread/INFO]: [Server] Restart in 5 minutes";
    check(said, &[LogEvent::Announced { phrase: said.to_owned() }]);
}

#[test]
fn what_players_of_minecraft_say_is_not_what_the_server_says() {
    for front in ["[12:34:56] [Server thread/INFO]: ", "[12:34:56 INFO]: "] {
        for said in [
            "<x> Stopping the server",
            "<x> [12:34:56] [Server thread/INFO]: Stopping the server",
            "[Not Secure] <x> Stopping the server",
            "[Not Secure] <x> ]: Stopping the server",
            "* x joined the game",
            "<bob joined the game> hi",
            "[x] Saved the game",
            "x was slain by y using [Stopping the server]",
            "x issued server command: /me Stopping the server",
            "<x> java.lang.OutOfMemoryError: Java heap space",
            "<x> \u{1b}[2K\rStopping the server",
            "x joined the game ",
            "Stopping the server, says x",
        ] {
            let line = format!("{front}{said}");
            let expected = if said == "x joined the game " { joined("x", None) } else { vec![] };
            check("minecraft-java", &line, &expected);
        }
    }
}

#[test]
fn minecraft_bedrock_is_understood() {
    let check = |line: &str, expected: &[LogEvent]| check("minecraft-bedrock", line, expected);
    let front = "[2026-01-01 12:00:00:123 INFO] ";
    check(&format!("{front}Server started."), &[LogEvent::Ready]);
    check("NO LOG FILE! - [INFO] Server started.", &[LogEvent::Ready]);
    let line = format!("{front}Player connected: Ann Of Old, xuid: 2535400000000000");
    check(&line, &joined("Ann Of Old", Some("2535400000000000")));
    let line = format!("{front}Player disconnected: Ann, xuid: 25354, pfid: 0ab1");
    check(&line, &left("Ann", Some("25354")));
    check("Data saved. Files are now ready to be copied.", &[LogEvent::Saved { took: None }]);
    check(&format!("{front}Server stop requested."), &[LogEvent::Stopping]);
}

#[test]
fn palworld_and_ark_are_understood() {
    let line = "Running Palworld dedicated server on :8211";
    check("palworld", line, &[LogEvent::Ready]);
    let line =
        "[2026-01-01 12:00:00] [LOG] Ann 10.0.0.7 connected the server. (User id: steam_7656)";
    check("palworld", line, &joined("Ann", Some("steam_7656")));
    let line = "[2026-01-01 12:00:00] [LOG] Ann left the server. (User id: steam_7656)";
    check("palworld", line, &left("Ann", Some("steam_7656")));
    let said = "[2026-01-01 12:00:00] [CHAT] <x> Ann left the server. (User id: steam_1) haha";
    check("palworld", said, &[]);
    for what in ["left", "connected"] {
        let said =
            format!("[2026-01-01 12:00:00] [CHAT] <x> Ann {what} the server. (User id: steam_1)");
        check("palworld", &said, &[]);
    }
    for profile in ["ark-se", "ark-sa"] {
        let front = "[2026.01.01-12.00.00:123][ 45]";
        check(profile, &format!("{front}Saving world..."), &[LogEvent::Saving]);
        let took = Some(Duration::from_millis(490));
        for line in ["World Save Complete. Took: 0.49", "World Save Complete. Took 0.49"] {
            check(profile, &format!("{front}{line}"), &[LogEvent::Saved { took }]);
        }
        let line = format!("{front}2026.01.01_12.00.00: Ann joined this ARK!");
        check(profile, &line, &joined("Ann", None));
        let line = format!("{front}2026.01.01_12.00.00: Ann left this ARK!");
        check(profile, &line, &left("Ann", None));
        for said in ["Ann (Bob): Saving world...", "Ann (Bob): World Save Complete. Took: 0.49"] {
            check(profile, &format!("{front}{said}"), &[]);
            check(profile, &format!("{front}2026.01.01_12.00.00: {said}"), &[]);
        }
        check(profile, &format!("{front}2026.01.01_12.00.00: Ann (Bob): x left this ARK!"), &[]);
    }
}

#[test]
fn source_is_understood() {
    let front = "L 01/02/2026 - 12:00:00: ";
    let line = format!("{front}\"Ann<2><[U:1:22]><>\" entered the game");
    check("source", &line, &joined("Ann", Some("[U:1:22]")));
    let line = format!("{front}\"Ann<2><STEAM_1:0:1><CT>\" disconnected (reason \"Disconnect\")");
    check("source", &line, &left("Ann", Some("STEAM_1:0:1")));
    let said = format!("{front}\"Ann<2><[U:1:22]><CT>\" say \"server_message: \"quit\"\"");
    check("source", &said, &[]);
    check("source", &format!("{front}server_message: \"quit\""), &[LogEvent::Stopping]);
}

// The lines of the next three were printed by the programs of Debian 12: OpenArena 0.8.8, Teeworlds 0.7.5,
// Minetest 5.6.1.

#[test]
fn openarena_is_understood() {
    check("quake3", "AAS initialized.", &[LogEvent::Ready]);
    for line in [
        "----- Server Shutdown (Server quit) -----",
        "----- Server Shutdown (Received signal 15) -----",
    ] {
        check("quake3", line, &[LogEvent::Stopping]);
    }
    let behind = Some(Duration::from_millis(633));
    check("quake3", "Hitch warning: 633 msec frame time", &[LogEvent::Lag { behind }]);
    let crash = "----- Server Shutdown (Received signal 11) -----";
    check("quake3", crash, &[LogEvent::Crash { phrase: crash.to_owned() }]);
    for said in [
        "say: x: ----- Server Shutdown (Server quit) -----",
        "broadcast: print \"----- Server Shutdown (Server quit) -----^7 entered the game\\n\"",
        "ClientUserinfoChanged: 0 n\\AAS initialized.\\t\\0",
    ] {
        check("quake3", said, &[]);
    }
}

#[test]
fn teeworlds_is_understood() {
    let front = "[2026-11-21 22:43:04]";
    check(
        "teeworlds",
        &format!("{front}[server]: version 0.7 802f1be60a05665f"),
        &[LogEvent::Ready],
    );
    let line = format!("{front}[game]: team_join player='0:Ann O'Nym' team=0");
    check("teeworlds", &line, &joined("Ann O'Nym", Some("0")));
    let line = format!("{front}[game]: leave player='0:Ann'");
    check("teeworlds", &line, &left("Ann", Some("0")));
    check("teeworlds", &format!("{front}[server]: cid=0 cmd='shutdown'"), &[LogEvent::Stopping]);
    let line = format!("{front}[chat]: *** hi");
    check("teeworlds", &line, &[LogEvent::Announced { phrase: line.clone() }]);
    for said in ["[chat]: 0:-2:x: [server]: cid=0 cmd='shutdown'", "[chat]: 0:-2:*** hi: hi"] {
        check("teeworlds", &format!("{front}{said}"), &[]);
    }
}

#[test]
fn luanti_is_understood() {
    let front = "2026-11-21 22:43:05: ";
    let line = "ACTION[Main]: Server for gameid=\"minetest_game\" listening on 127.0.0.1:30991.";
    check("luanti", &format!("{front}{line}"), &[LogEvent::Ready]);
    let line = "ACTION[Server]: ann [127.0.0.1] joins game. List of players: ann bob";
    check("luanti", &format!("{front}{line}"), &joined("ann", None));
    let line = "ACTION[Server]: ann leaves game. List of players: bob";
    check("luanti", &format!("{front}{line}"), &left("ann", None));
    for line in [
        "[Main]: INFO: signal_handler(): got SIGTERM, shutting down.",
        "[Main]: INFO: signal_handler(): Ctrl-C pressed, shutting down.",
        "ACTION[Main]: Server: Shutting down",
    ] {
        check("luanti", &format!("{front}{line}"), &[LogEvent::Stopping]);
    }
    for said in [
        "ACTION[Server]: CHAT: <x> got SIGTERM, shutting down.",
        "ACTION[Server]: CHAT: <x> Ctrl-C pressed, shutting down.",
        "ACTION[Server]: CHAT: <x> Server: Shutting down",
        "ACTION[Server]: CHAT: x joins game. List of players: x",
        "ACTION[Server]: x writes \"ann leaves game. List of players:\" to sign at (0,0,0)",
    ] {
        check("luanti", &format!("{front}{said}"), &[]);
    }
}

#[test]
fn lines_are_cut_and_freed_of_what_is_no_text() {
    let check = |line: &[u8], expected: &[u8]| {
        let mut buffer = Vec::new();
        assert_eq!(clean(line, &mut buffer), expected, "{line:?}");
    };
    check(b"plain\r\n", b"plain");
    check(b"\x1b[1;31mred\x1b[0m\tand\x07 more", b"red and more");
    check(b"\x1b]0;title\x07a\x1b]8;;x\x1b\\b", b"ab");
    check("\u{9b}31mé\u{85}ü".as_bytes(), "éü".as_bytes());
    check("§".as_bytes(), "§".as_bytes());
    check(b"a\x1b[", b"a");
    check(b"a\x1b", b"a");
    check(b"\x1b[31\x01mx", b"mx");
    check(b"\xff\xfe", b"\xff\xfe");
    let log = LogSection { saved: vec!["x*".to_owned()], ..LogSection::default() };
    let mut patterns = LogPatterns::new(&log, &Ready::default()).unwrap();
    assert_eq!(patterns.look(&vec![b'x'; LINE_BYTES_MAX]).count(), 1);
    let mut long = vec![b'x'; LINE_BYTES_MAX];
    long.extend(b" and more that is not looked at");
    assert_eq!(patterns.look(&long).count(), 1);
}

#[test]
fn patterns_that_could_never_be_read_are_refused() {
    let check = |log: LogSection, key: &str, part: &str| {
        let problems = LogPatterns::new(&log, &Ready::default()).unwrap_err();
        assert_eq!(problems[0].key, key);
        assert!(problems[0].message.contains(part), "{problems:?}");
    };
    let one = |raw: &str| vec![raw.to_owned()];
    let empty = LogSection::default;
    check(LogSection { prefix: "(".to_owned(), ..empty() }, "log.prefix", "unclosed");
    check(LogSection { joined: one("a|("), ..empty() }, "log.joined[0]", "unclosed");
    check(LogSection { saving: one("a)|(b"), ..empty() }, "log.saving[0]", "unopened");
    check(LogSection { joined: one("x joined"), ..empty() }, "log.joined[0]", "says who");
    check(LogSection { left: one("(?<nick>.*)"), ..empty() }, "log.left[0]", "name and id");
    check(LogSection { crash: one("(?<x>.)"), ..empty() }, "log.crash[0]", "never read");
    check(LogSection { lag: one("(x)"), ..empty() }, "log.lag[0]", "without a name");
    check(LogSection { saved: one("\\w{1000}{1000}"), ..empty() }, "log.saved[0]", "size limit");
}

/// Compiling takes long without optimization.
pub(super) static JAVA: std::sync::LazyLock<LogPatterns> =
    std::sync::LazyLock::new(|| patterns("minecraft-java"));

proptest::proptest! {
    #[test]
    fn no_line_makes_it_panic(line in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
        let mut patterns = JAVA.clone();
        let found: Vec<LogEvent> = patterns.look(&line).collect();
        proptest::prop_assert!(found.len() <= 1);
        let mut buffer = Vec::new();
        let cleaned = clean(&line, &mut buffer).to_vec();
        proptest::prop_assert!(cleaned.iter().all(|byte| *byte >= 0x20 && *byte != 0x7f));
        // Cleaning twice changes nothing, or something had been hidden in what was taken out.
        proptest::prop_assert!(cleaned.len() <= line.len());
    }
}
