//! Real game servers in the care of the real binary: stopped, killed, hung and crashed in every way, with Naru
//! restarted in between, and the history they leave. What stands in for games here are games: those that
//! `cargo xtask games` brings, and small scripts for what no game does on purpose.
#![cfg(target_os = "linux")]
#![expect(
    clippy::print_stdout,
    reason = "what is not there to be started is for who runs the tests"
)]

use std::io::Read as _;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{Server, eventually};

/// A game of the manifest, or nothing where it was not brought (plain `cargo test`).
fn game(name: &str) -> Option<Value> {
    let Some(manifest) = std::env::var_os("NARU_GAMES") else {
        println!("SKIPPED: NARU_GAMES is not set; `cargo xtask games` prints its value");
        return None;
    };
    let manifest: Value = serde_json::from_slice(&std::fs::read(manifest).unwrap()).unwrap();
    Some(manifest["games"][name].clone())
}

/// A port that is free for both protocols, and the one after it as well.
fn free_port() -> u16 {
    eventually("two free ports", || {
        let first = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).ok()?;
        let port = first.local_addr().ok()?.port();
        let next = port.checked_add(1)?;
        UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).ok()?;
        TcpListener::bind((Ipv4Addr::LOCALHOST, next)).ok()?;
        Some(port)
    })
}

/// A ward of a real game: its profile, with the program where it was brought.
fn ward_of(name: &str, profile: &str, folder: &Path) -> Option<Value> {
    let game = game(name)?;
    let dir = folder.join(name);
    std::fs::create_dir_all(&dir).unwrap();
    let text = |value: &Value| value.as_str().unwrap().replace("{dir}", dir.to_str().unwrap());
    let env: serde_json::Map<String, Value> =
        game["env"].as_object().unwrap().iter().map(|(k, v)| (k.clone(), text(v).into())).collect();
    let port = free_port();
    let mut ward = json!({
        "name": name, "profile": profile, "dir": dir, "env": env, "ports": { "game": port },
        "override": { "vars": { "bind": "127.0.0.1", "program": game["program"] } },
    });
    match profile {
        "teeworlds" => ward["secrets"] = json!({ "econ": "econ-secret", "rcon": "rcon-secret" }),
        "quake3" => {
            let args = game["args"].as_array().unwrap();
            let args = args.iter().map(|arg| text(arg).replace("{port}", &port.to_string()));
            let command: Vec<String> =
                std::iter::once(text(&game["program"])).chain(args).collect();
            ward["command"] = json!(command);
            ward["override"] = json!({});
            ward["secrets"] = json!({ "rcon": "rcon-secret" });
        }
        _ => {}
    }
    Some(ward)
}

/// A ward of a shell script.
fn script(name: &str, folder: &Path, script: &str) -> Value {
    let dir = folder.join(name);
    std::fs::create_dir_all(&dir).unwrap();
    json!({ "name": name, "profile": "generic", "dir": dir, "command": ["/bin/sh", "-c", script] })
}

/// JSON in the form of TOML's values: tables inline.
fn toml(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let pairs: Vec<String> =
                map.iter().map(|(key, value)| format!("{key} = {}", toml(value))).collect();
            format!("{{ {} }}", pairs.join(", "))
        }
        Value::Array(items) => {
            format!("[{}]", items.iter().map(toml).collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

fn setting(wards: &[Value]) -> String {
    format!("ward={}", toml(&Value::Array(wards.to_vec())))
}

fn show(server: &Server, ward: &str) -> Value {
    server.api("GET", &format!("/api/wards/{ward}"), None).1
}

fn wait_for(server: &Server, ward: &str, phase: &str) -> Value {
    eventually(&format!("{ward} is {phase}"), || {
        let shown = show(server, ward);
        (shown["phase"] == phase).then_some(shown)
    })
}

/// Waits for the next process of a ward, ready.
fn wait_for_another(server: &Server, ward: &str, pid: &Value) -> Value {
    eventually(&format!("{ward} is running again"), || {
        let shown = show(server, ward);
        (shown["phase"] == "running" && shown["pid"] != *pid).then_some(shown)
    })
}

/// Waits until the last end of a ward is that of this process, and says how it was judged.
fn cause_of(server: &Server, ward: &str, pid: &Value) -> String {
    let exit = eventually(&format!("the end of {ward} is judged"), || {
        let exit = show(server, ward)["last_exit"].clone();
        (exit["pid"] == *pid).then_some(exit)
    });
    exit["verdict"]["cause"].as_str().unwrap().to_owned()
}

fn send(signal: &str, pid: &Value) {
    let sent = Command::new("kill").args([&format!("-{signal}"), &pid.to_string()]).status();
    assert!(sent.unwrap().success(), "kill -{signal} {pid}");
}

fn is_there(pid: &Value) -> bool {
    // A zombie of a game whose keeper was killed counts as gone.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z")
}

/// Every way in which these games end, each judged as what it was, and what follows from it.
fn check_ends(name: &str, profile: &str, in_game: Option<&str>) {
    let folder = tempfile::tempdir().unwrap();
    let Some(ward) = ward_of(name, profile, folder.path()) else { return };
    let mut ward = ward;
    ward["restart"] = json!({ "endless": true, "backoff": "100ms" });
    ward["hang"] = json!({ "after": "10s" });
    let server = Server::of_wards(&[&setting(&[ward])]);
    let first = wait_for(&server, name, "running")["pid"].clone();

    send("KILL", &first);
    let second = wait_for_another(&server, name, &first)["pid"].clone();
    assert_eq!(cause_of(&server, name, &first), "killed_from_outside");

    send("SEGV", &second);
    let third = wait_for_another(&server, name, &second)["pid"].clone();
    assert_eq!(cause_of(&server, name, &second), "crashed");

    // It hangs: it keeps its port and answers nothing.
    eventually("it has answered", || show(&server, name)["answer"]["at"].as_str().map(drop));
    send("STOP", &third);
    let fourth = wait_for_another(&server, name, &third)["pid"].clone();
    assert_eq!(cause_of(&server, name, &third), "hung");

    let stopped = server.naru(&["ward", "stop", name, "--reason", "a test"]);
    assert!(stopped.status.success(), "{}", String::from_utf8_lossy(&stopped.stderr));
    assert_eq!(show(&server, name)["phase"], "stopped");
    assert_eq!(cause_of(&server, name, &fourth), "stopped_by_us");
    assert!(!is_there(&fourth));

    let started = server.naru(&["ward", "start", name]);
    assert!(started.status.success(), "{}", String::from_utf8_lossy(&started.stderr));
    let fifth = wait_for(&server, name, "running")["pid"].clone();
    send("TERM", &fifth);
    wait_for(&server, name, "stopped");
    assert_eq!(cause_of(&server, name, &fifth), "stopped_from_outside");

    if let Some(line) = in_game {
        let started = server.naru(&["ward", "start", name]);
        assert!(started.status.success(), "{}", String::from_utf8_lossy(&started.stderr));
        let sixth = wait_for(&server, name, "running")["pid"].clone();
        assert!(server.naru(&["ward", "command", name, line]).status.success());
        wait_for(&server, name, "stopped");
        assert_eq!(cause_of(&server, name, &sixth), "stopped_in_game");
    }
    assert_eq!(server.metric(&format!("naru_ward_restarts_total{{ward=\"{name}\"}}")), 3.0);
}

#[test]
fn minetest_ends_in_every_way_and_each_is_told_as_what_it_was() {
    check_ends("minetest", "luanti", None);
}

#[test]
fn openarena_ends_in_every_way_and_each_is_told_as_what_it_was() {
    check_ends("openarena", "quake3", Some("quit"));
}

#[test]
fn teeworlds_ends_in_every_way_and_each_is_told_as_what_it_was() {
    check_ends("teeworlds", "teeworlds", Some("shutdown"));
}

#[test]
fn three_games_outlive_naru_whether_it_is_killed_or_ends_and_one_that_ended_meanwhile_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let games = [("minetest", "luanti"), ("openarena", "quake3"), ("teeworlds", "teeworlds")];
    let wards: Option<Vec<Value>> =
        games.iter().map(|(name, profile)| ward_of(name, profile, folder.path())).collect();
    let Some(wards) = wards else { return };
    let mut server = Server::of_wards(&[&setting(&wards)]);
    server.stay();
    let pids = || games.map(|(name, _)| wait_for(&server, name, "running")["pid"].clone());
    let before = pids();
    server.kill_and_restart();
    let after = games.map(|(name, _)| wait_for(&server, name, "running")["pid"].clone());
    assert_eq!(before, after, "adopted, not started again");

    assert_eq!(server.terminate(), Some(0));
    assert!(before.iter().all(is_there), "the games do not notice");
    // One crashes while nobody is there.
    send("SEGV", &before[1]);
    eventually("it is gone", || (!is_there(&before[1])).then_some(()));
    server.restart();
    assert_eq!(cause_of(&server, "openarena", &before[1]), "crashed");
    let again = wait_for_another(&server, "openarena", &before[1]);
    assert_eq!(again["desired"]["goal"], "running");
    for name in ["minetest", "openarena", "teeworlds"] {
        assert!(server.naru(&["ward", "stop", name]).status.success(), "{name}");
    }
}

#[test]
fn a_stop_that_naru_did_not_survive_is_finished_by_the_next_one_and_is_no_crash() {
    let folder = tempfile::tempdir().unwrap();
    // It takes its time to end, as large worlds do.
    let slow = script(
        "slow",
        folder.path(),
        "trap 'kill $!; read -r go < gate; exit 3' TERM; echo up; tail -f /dev/null & wait $!",
    );
    let gate = folder.path().join("slow/gate");
    assert!(Command::new("mkfifo").arg(&gate).status().unwrap().success());
    let mut server = Server::of_wards(&[&setting(&[slow])]);
    server.stay();
    let pid = wait_for(&server, "slow", "running")["pid"].clone();
    assert!(server.naru(&["ward", "stop", "slow", "--no-wait"]).status.success());
    wait_for(&server, "slow", "stopping");
    server.kill_and_restart();
    wait_for(&server, "slow", "stopping");
    std::fs::write(&gate, "go\n").unwrap();
    wait_for(&server, "slow", "stopped");
    assert_eq!(cause_of(&server, "slow", &pid), "stopped_by_us");
}

#[test]
fn a_crash_loop_ends_after_three_tries_and_a_start_by_hand_gives_three_more() {
    let folder = tempfile::tempdir().unwrap();
    let mut ward = script("loop", folder.path(), "echo here; exit 3");
    ward["restart"] = json!({ "backoff": "100ms", "backoff_max": "1s" });
    let server = Server::of_wards(&[&setting(&[ward])]);
    wait_for(&server, "loop", "gave_up");
    let restarts = "naru_ward_restarts_total{ward=\"loop\"}";
    eventually("the figures are shown", || (server.metric(restarts) == 3.0).then_some(()));
    let started = server.naru(&["ward", "start", "loop"]);
    assert_eq!(started.status.code(), Some(1), "it does not come up");
    wait_for(&server, "loop", "gave_up");
    eventually("three more", || (server.metric(restarts) == 6.0).then_some(()));
    eventually("it is told in words", || {
        let events = server.naru(&["ward", "events", "loop"]);
        String::from_utf8_lossy(&events.stdout).contains("gave_up").then_some(())
    });
}

#[test]
fn a_receiver_that_never_answers_delays_nobody_and_is_told_when_it_listens_again() {
    let folder = tempfile::tempdir().unwrap();
    let deaf = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let well = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = |listener: &TcpListener| format!("http://{}/hook", listener.local_addr().unwrap());
    let notifiers = json!([
        { "name": "deaf", "kind": "generic", "url": url(&deaf) },
        { "name": "well", "kind": "discord", "url": url(&well) },
    ]);
    let ward = script("quick", folder.path(), "echo up; exec tail -f /dev/null");
    let server = Server::of_wards(&[
        &setting(&[ward]),
        &format!("notifier={}", toml(&notifiers)),
        r#"hooks.allow=["127.0.0.1"]"#,
    ]);
    wait_for(&server, "quick", "running");
    let (mut heard, _) = well.accept().unwrap();
    let mut request = [0; 8_192];
    let read = heard.read(&mut request).unwrap();
    let text = String::from_utf8_lossy(&request[..read]);
    assert!(text.starts_with("POST /hook"), "{text}");
    // The other one was called, too, and hangs; orders are carried out all the same.
    let (_silent, _) = deaf.accept().unwrap();
    assert!(server.naru(&["ward", "stop", "quick"]).status.success());
    let (status, counts) = server.api("GET", "/api/notices", None);
    assert_eq!(status, 200, "{counts}");
}

#[test]
fn a_backup_is_made_verified_and_brought_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut ward = script("world", folder.path(), "echo up; exec tail -f /dev/null");
    ward["backup"] = json!({ "paths": ["save"], "keep": 2 });
    let save = folder.path().join("world/save");
    std::fs::create_dir_all(&save).unwrap();
    std::fs::write(save.join("level.dat"), "the good world").unwrap();
    let server = Server::of_wards(&[&setting(&[ward])]);
    wait_for(&server, "world", "running");
    let made = server.naru_json(&["ward", "backup", "world"]);
    let name = server.naru_json(&["ward", "backups", "world"]);
    let name = name.pointer("/items/0/name").or(name.pointer("/0/name"));
    let name = name.or(made.pointer("/backup/name")).and_then(Value::as_str);
    let name = name.unwrap_or_else(|| panic!("{made}")).to_owned();
    std::fs::write(save.join("level.dat"), "a griefed world").unwrap();
    let running = server.naru(&["ward", "restore", "world", &name]);
    assert!(!running.status.success(), "not while it runs");
    assert!(server.naru(&["ward", "stop", "world"]).status.success());
    let restored = server.naru(&["ward", "restore", "world", &name]);
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    assert_eq!(std::fs::read_to_string(save.join("level.dat")).unwrap(), "the good world");
}

#[test]
fn wards_live_in_the_whole_server_beside_phones_and_chat() {
    let folder = tempfile::tempdir().unwrap();
    let ward = script("guest", folder.path(), "echo hello from the game; exec tail -f /dev/null");
    let server = Server::with(&[&setting(&[ward])]);
    wait_for(&server, "guest", "running");
    eventually("its console is heard", || {
        let console = server.naru(&["ward", "console", "guest"]);
        String::from_utf8_lossy(&console.stdout).contains("hello from the game").then_some(())
    });
    assert!(server.naru(&["ward", "stop", "guest"]).status.success());
}
