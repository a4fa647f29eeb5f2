//! The systemd unit: what it promises to operators is in it, and systemd itself understands it where
//! its checker is installed.

use std::process::Command;

use crate::read;

const UNIT: &str = "deploy/systemd/naru.service";

/// The settings of a unit file, as (section, key, value) in their order.
fn settings(unit: &str) -> Vec<(String, String, String)> {
    let mut section = String::new();
    let mut found = Vec::new();
    for (number, line) in (1..).zip(unit.lines()) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name.to_owned();
            continue;
        }
        let (key, value) =
            line.split_once('=').unwrap_or_else(|| panic!("line {number} is no setting: {line}"));
        assert!(!section.is_empty(), "line {number} stands before the first section");
        assert_eq!(key, key.trim(), "line {number}: blanks around the key");
        found.push((section.clone(), key.to_owned(), value.to_owned()));
    }
    found
}

#[test]
fn the_unit_holds_what_operators_rely_on() {
    let unit = settings(&read(UNIT));
    let get = |wanted: &str| -> Vec<&str> {
        let hits = unit.iter().filter(|(_, key, _)| key == wanted);
        hits.map(|(_, _, value)| value.as_str()).collect()
    };
    let check = |key: &str, value: &str| assert_eq!(get(key), [value], "{key}");
    check("Type", "notify");
    check("ExecReload", "/bin/kill -HUP $MAINPID");
    check("WatchdogSec", "30s");
    check("Restart", "on-failure");
    check("RestartPreventExitStatus", "2");
    check("StateDirectory", "naru");
    check("LimitNOFILE", "65536");
    check("NoNewPrivileges", "yes");
    check("ProtectSystem", "strict");
    check("CapabilityBoundingSet", "");
    check("Environment", "NARU_DATA_DIR=/var/lib/naru");
    check("ExecStart", "/usr/local/bin/naru serve --config /etc/naru/naru.toml");
    for (section, key, _) in &unit {
        let times = unit.iter().filter(|(_, other, _)| other == key).count();
        assert!(times == 1 || key == "SystemCallFilter", "{key} is set twice in {section}");
    }
}

#[test]
fn games_go_on_when_the_unit_that_looks_after_them_is_restarted() {
    for unit in [UNIT, "deploy/systemd/naru-wards.service"] {
        let settings = settings(&read(unit));
        let kills: Vec<&str> = settings
            .iter()
            .filter(|(_, key, _)| key == "KillMode")
            .map(|(_, _, value)| value.as_str())
            .collect();
        assert_eq!(kills, ["process"], "{unit}");
    }
}

#[test]
fn systemd_understands_the_unit_where_its_checker_is_installed() {
    let verify = |unit: &str| {
        let folder = std::env::temp_dir().join(format!("naru-tidy-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("naru.service");
        std::fs::write(&path, unit).unwrap();
        let mut command = Command::new("systemd-analyze");
        let output =
            command.args(["verify", "--man=no", "--recursive-errors=no"]).arg(&path).output();
        std::fs::remove_dir_all(&folder).unwrap();
        output
    };
    // On a machine without systemd, or in a container where it cannot look around, there is nothing to
    // ask: an empty service shows whether the checker works here.
    let works =
        verify("[Service]\nExecStart=/bin/true\n").is_ok_and(|output| output.status.success());
    if !works {
        return;
    }
    // The checker wants programs and accounts to exist.
    let unit = read(UNIT)
        .replace("/usr/local/bin/naru", "/bin/true")
        .replace("User=naru\n", "User=root\n")
        .replace("Group=naru\n", "Group=root\n");
    let output = verify(&unit).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let about_us: Vec<&str> = said.lines().filter(|line| line.contains("naru.service")).collect();
    assert!(output.status.success() && about_us.is_empty(), "{said}");
    let broken = verify(&unit.replace("Type=notify", "Type=nonsense")).unwrap();
    assert!(!broken.status.success(), "the checker overlooks mistakes: its silence means nothing");
}

#[test]
fn a_unit_is_read_line_by_line() {
    let unit = settings("# comment\n[Unit]\nA=1\n\n[Service]\nB=x=y\nC=\n");
    let own = |(a, b, c): (&str, &str, &str)| (a.to_owned(), b.to_owned(), c.to_owned());
    let expected = [("Unit", "A", "1"), ("Service", "B", "x=y"), ("Service", "C", "")].map(own);
    assert_eq!(unit, expected);
}
