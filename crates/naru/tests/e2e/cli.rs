//! The command line: exit codes, JSON, completions, configuration.

use serde_json::Value;

use crate::harness::{DEVICE, Phone, Script, Server, naru_command};

#[test]
fn every_subcommand_has_help() {
    let help = naru_command().arg("--help").output().unwrap();
    assert!(help.status.success());
    let text = String::from_utf8(help.stdout).unwrap();
    for name in ["serve", "check", "migrate", "phone", "bench", "devices", "rooms", "messages"] {
        assert!(text.contains(name), "{name} is missing in {text}");
        let help = naru_command().args([name, "--help"]).output().unwrap();
        assert!(help.status.success(), "{name}");
    }
}

#[test]
fn completions_and_a_manual_page_are_generated() {
    for shell in ["bash", "zsh", "fish"] {
        let output = naru_command().args(["completions", shell]).output().unwrap();
        assert!(output.status.success() && !output.stdout.is_empty(), "{shell}");
    }
    let page = naru_command().arg("man").output().unwrap();
    assert!(String::from_utf8_lossy(&page.stdout).contains(".TH naru"));
}

#[test]
fn check_explains_every_mistake_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("naru.toml");
    std::fs::write(&path, "[bridge]\nping_intervall = \"1s\"\n[bots]\nworkers = 0\n").unwrap();
    let output = naru_command().arg("check").arg("--config").arg(&path).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("bridge.ping_intervall") && text.contains("bots.workers"), "{text}");
}

#[test]
fn migrations_can_be_looked_at_without_being_applied() {
    let dir = tempfile::tempdir().unwrap();
    let run = |action: &str| {
        let mut command = naru_command();
        command.arg("--json").arg("--data-dir").arg(dir.path()).args(["migrate", action]);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let applied = |bytes: &[u8]| {
        let states: Value = serde_json::from_slice(bytes).unwrap();
        let rows = states["migrations"].as_array().unwrap().clone();
        assert!(!rows.is_empty());
        rows.iter().all(|row| row["applied"] == true)
    };
    assert!(!applied(&run("status")));
    assert!(String::from_utf8(run("dry-run")).unwrap().contains("CREATE TABLE"));
    assert!(!applied(&run("status")), "a dry run changes nothing");
    assert!(applied(&run("up")));
}

#[test]
fn exit_codes_tell_scripts_what_went_wrong() {
    let server = Server::auto();
    let code = |arguments: &[&str]| server.naru(arguments).status.code();
    assert_eq!(code(&["devices", "list"]), Some(0));
    assert_eq!(code(&["devices", "approve", "4711"]), Some(5));
    assert_eq!(code(&["devices", "dance"]), Some(2));
    assert_eq!(code(&["--token", "wrong", "devices", "list"]), Some(4));
    let nobody = naru_command().args(["--api", "http://127.0.0.1:1", "devices", "list"]).output();
    assert_eq!(nobody.unwrap().status.code(), Some(3));
}

#[test]
fn a_container_asks_for_health_without_a_token() {
    let mut server = Server::auto();
    let (api, somewhere) = (format!("http://{}", server.http), tempfile::tempdir().unwrap());
    let ask = |probe: &[&str]| {
        let mut command = naru_command();
        command.args(["--api", &api, "--data-dir"]).arg(somewhere.path()).arg("health");
        command.args(probe).output().unwrap().status.code()
    };
    for probe in [&[][..], &["live"], &["ready"], &["startup"]] {
        assert_eq!(ask(probe), Some(0), "{probe:?}");
    }
    server.kill();
    assert_eq!(ask(&[]), Some(3));
}

#[test]
fn every_listing_has_json() {
    let server = Server::auto();
    let mut phone = Phone::connect(server.bridge, Script::Raw);
    phone.assert_quiet();
    let id = server.device(DEVICE).unwrap()["id"].to_string();
    let listings: [&[&str]; 12] = [
        &["devices", "list"],
        &["rooms", "list"],
        &["bots", "list"],
        &["messages", "list"],
        &["dead-letters", "list"],
        &["schedules", "list"],
        &["sessions", "list"],
        &["tokens", "list"],
        &["accounts", "list"],
        &["audit", "list"],
        &["system"],
        &["pings", &id],
    ];
    for listing in listings {
        let list = server.naru_json(listing);
        assert!(list["items"].is_array(), "{listing:?}: {list}");
    }
    for view in [&["queue"][..], &["logs", "show"], &["status"], &["audit", "verify"]] {
        assert!(server.naru_json(view).is_object(), "{view:?}");
    }
}

#[test]
fn log_levels_change_while_the_server_runs() {
    let server = Server::auto();
    assert!(server.naru(&["logs", "set", "--category", "bridge", "debug"]).status.success());
    let mut phone = Phone::connect(server.bridge, Script::Raw);
    phone.assert_quiet();
    let log = std::fs::read_to_string(server.dir().with_extension("log")).unwrap();
    assert!(log.contains("chat received"), "{log}");
}

#[test]
fn a_simulated_phone_talks_to_the_server() {
    let server = Server::auto();
    let output = naru_command()
        .args(["phone", "--server", &server.bridge.to_string(), "--secret", "testsecret"])
        .args(["--salt", "testsalt", "--bot", "demo-bot", "--room", "test=1234"])
        .args([
            "--say",
            "# echo from a simulated phone",
            "--expect",
            "에코: from a simulated phone",
        ])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
}
